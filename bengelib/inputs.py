"""Inputs of every encoder: named modalities of a batch, normalised, and which of them are available.

`InputNorm` explains what happens when a modality is missing.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from bengelib.arguments import check_share
from bengelib.bands import PATCH_SIZE
from bengelib.errors import BandError, MissingModalityError
from bengelib.modalities import InputSpec, Modality, as_modalities
from bengelib.transforms import Batch, Normalize

Missing = Literal["error", "mean"]


class InputNorm(nn.Module):
    """Selects the named modalities of a batch and normalises them: the first step of every encoder.

    A modality is missing for a whole batch if the batch lacks its key, and for single samples if the batch has
    `<key>_available` (B,) bool and it is False there.

    * `missing="error"` (default): a missing modality is an error, unless the encoder has modality dropout.
    * `missing="mean"`: it is replaced by the mean of the training statistics, which is 0 after normalisation. The
      encoder gets no sign of it and has never seen such an input, so expect poor results.
    * `modality_dropout=p`: in training each modality of each sample is hidden with probability `p`, but never all of
      them (Neverova et al. 2016, arXiv:1501.00102). A hidden or missing modality is replaced by the mean, and an
      availability mask (B, modalities) tells the encoder which modalities are present, in training and inference.
    """

    def __init__(self, inputs: InputSpec, modality_dropout: float = 0.0, missing: Missing = "error") -> None:
        """Read `inputs`: for each key, a `Modality`, or the bands of one of ben-ge, `()` for all of them.

        Raises:
            BandError: an unknown modality or band, or no modality at all.
            ValueError: `modality_dropout` is not in [0, 1) or has a single modality, or `missing` is unknown.
        """
        super().__init__()
        self.modalities: dict[str, Modality] = as_modalities(inputs)
        check_share("modality_dropout", modality_dropout, zero=True, one=False)
        if modality_dropout and len(inputs) < 2:
            raise ValueError(f"modality_dropout needs two modalities or more; inputs has only {list(inputs)}")
        if missing not in ("error", "mean"):
            raise ValueError(f"unknown missing={missing!r}; choose 'error' or 'mean'")
        self.modality_dropout = modality_dropout
        self.missing = missing
        self.normalize = nn.ModuleDict({key: Normalize(modality) for key, modality in self.modalities.items()})

    @property
    def images(self) -> list[str]:
        """Keys of the image modalities."""
        return [key for key, modality in self.modalities.items() if modality.kind == "image"]

    @property
    def vectors(self) -> list[str]:
        """Keys of the vector and scalar modalities."""
        return [key for key, modality in self.modalities.items() if modality.kind != "image"]

    @property
    def mask_size(self) -> int:
        """Length of the availability mask: 0 without modality dropout."""
        return len(self.modalities) if self.modality_dropout else 0

    def require_images(self) -> None:
        """Refuse inputs whose images cannot be stacked.

        Raises:
            BandError: there is no image, or images have different sizes.
        """
        sizes = {key: self.modalities[key].size for key in self.images if self.modalities[key].size}
        if not self.images:
            raise BandError(f"no image among the inputs {list(self.modalities)}; give one, or build a LateFusion")
        if len(set(sizes.values())) > 1:
            raise BandError(
                f"images of different sizes cannot be stacked, in pixels along a side: {sizes}; state "
                f"size = {max(sizes.values())} of each in dataset.toml, or build a LateFusion"
            )

    def channels(self, key: str) -> int:
        """Number of channels or values of modality `key`."""
        return len(self.modalities[key].bands)

    def stacked_channels(self) -> int:
        """Number of channels of `stack`.

        Raises:
            BandError: the images cannot be stacked, see `require_images`.
        """
        self.require_images()
        return sum(map(self.channels, self.modalities)) + self.mask_size

    def stack(self, batch: Batch) -> Tensor:
        """All modalities as channels of one image, (B, C, H, W), in the order of `modalities`, then any mask."""
        values, available = self(batch)
        return stack_channels(values, available.float() if self.mask_size else None)

    def forward(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        """Normalised images (B, k, H, W), vectors and scalars (B, k), and availability (B, modalities) bool.

        Raises:
            MissingModalityError: a modality is missing, with `missing="error"` and no modality dropout.
        """
        present = [key for key in self.modalities if key in batch]
        if not present:
            raise MissingModalityError(f"the model reads {list(self.modalities)}; the batch has only {sorted(batch)}")
        first = batch[present[0]]
        values: dict[str, Tensor] = {}
        available = torch.ones(len(first), len(self.modalities), dtype=torch.bool, device=first.device)
        for column, key in enumerate(self.modalities):
            if key in batch:
                values[key] = self._normalized(key, batch[key])
                if f"{key}_available" in batch:
                    available[:, column] = batch[f"{key}_available"]
            else:
                values[key] = self._absent(key, batch, len(first), first.device)
                available[:, column] = False
        if self.training and self.modality_dropout:
            available &= self._drawn(available)
        complete = present == list(self.modalities) and not any(f"{key}_available" in batch for key in self.modalities)
        if not complete and not self.modality_dropout and self.missing == "error" and not bool(available.all()):
            absent = [key for column, key in enumerate(self.modalities) if not bool(available[:, column].all())]
            raise MissingModalityError(
                f"{absent} are missing from the batch, which has {sorted(batch)}. Add them to the dataset's modalities "
                'or build the encoder with modality_dropout (it learns to do without) or missing="mean" (it does not).'
            )
        if complete and not (self.training and self.modality_dropout):
            return values, available
        masked = {key: only_where(value, available[:, column]) for column, (key, value) in enumerate(values.items())}
        return masked, available

    def _normalized(self, key: str, value: Tensor) -> Tensor:
        modality = self.modalities[key]
        if value.ndim == 1:
            value = value[:, None]
        elif modality.bands != modality.all_columns and value.shape[1] == len(modality.all_columns):
            value = value[:, [modality.all_columns.index(name) for name in modality.bands]]
        normalized: Tensor = self.normalize[key](value)
        return normalized

    def _absent(self, key: str, batch: Batch, count: int, device: torch.device) -> Tensor:
        """Zeros of the shape of a modality that the batch lacks."""
        if key not in self.images:
            return torch.zeros(count, self.channels(key), device=device)
        side = self.modalities[key].size or PATCH_SIZE
        height, width = next((batch[other].shape[-2:] for other in self.images if other in batch), (side, side))
        return torch.zeros(count, self.channels(key), height, width, device=device)

    def _drawn(self, available: Tensor) -> Tensor:
        """Random choice of the modalities kept in this training step, at least one available per sample."""
        kept = torch.rand(available.shape, device=available.device) >= self.modality_dropout
        nothing_left = ~(kept & available).any(dim=1)
        kept[nothing_left] = True
        return kept


def stack_channels(values: Mapping[str, Tensor], extra: Tensor | None = None) -> Tensor:
    """Stack images (B, k, H, W) and vectors (B, k) as channels of one image; each scalar becomes a constant channel."""
    height, width = next(value.shape[2:] for value in values.values() if value.ndim == 4)
    parts = [*values.values(), *([] if extra is None else [extra])]
    even = [part if part.ndim == 4 else part[:, :, None, None].expand(-1, -1, height, width) for part in parts]
    return torch.cat(even, dim=1)  # (B, C, H, W)


def only_where(values: Tensor, where: Tensor) -> Tensor:
    """`values` (B, ...) of the samples with `where` (B,), zeros for the others, even if those are NaN."""
    return torch.where(where.view(-1, *(1 for _ in values.shape[1:])), values, torch.zeros_like(values))

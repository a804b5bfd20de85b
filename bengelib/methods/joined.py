"""Late fusion of encoders of any kind."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from bengelib.arguments import check_share
from bengelib.errors import ArgumentError, BandError, MissingModalityError
from bengelib.inputs import only_where
from bengelib.modalities import Modality
from bengelib.ssl import feature_dim
from bengelib.transforms import Batch


class JoinedEncoders(nn.Module):
    """Encoders that each read their modalities of one batch; their features are concatenated.

    `JoinedEncoders({"image": ConvNeXtEncoder({"s2": S2_BANDS}), "place": LocationEncoder()})` combines an image with
    its location. If a modality of an encoder is missing, for the whole batch without its key or for samples with
    `<key>_available` (B,) False, the features of that encoder are 0.

    * Without dropout, a missing modality is an error.
    * With `dropout=p`, each encoder is left out of each training sample with probability p, but never all of them, and
      a mask (B, encoders) at the end of the features marks those present, in training and inference.
    * A sample that no encoder can read is an error.

    Attributes:
        inputs: the `Modality` of each key, for all encoders.
        feature_dim: length of the features.
    """

    def __init__(self, encoders: Mapping[str, nn.Module], dropout: float = 0.0) -> None:
        """Join named `encoders`.

        Raises:
            BandError: no encoder, or two encoders read different bands of one modality, so no batch can serve both.
            ArgumentError: `dropout` is not from 0 to below 1, or there is only one encoder to leave out.
        """
        super().__init__()
        if not encoders:
            raise BandError('no encoder to join; give for example {"image": EarlyFusion(...), "place": ...}')
        check_share("dropout", dropout, zero=True, one=False)
        if dropout and len(encoders) < 2:
            raise ArgumentError(f"dropout={dropout} needs two encoders or more; there is only {list(encoders)}")
        self.encoders, self.dropout = nn.ModuleDict(encoders), dropout
        self.inputs: dict[str, Modality] = {}
        self.feature_dim = len(encoders) if dropout else 0
        for encoder in encoders.values():
            self.feature_dim += feature_dim(encoder)
            for key, modality in encoder.inputs.items():  # type: ignore[union-attr, operator]
                if (other := self.inputs.setdefault(key, modality)) != modality:
                    raise BandError(f"the encoders read different bands or units of {key}: {other} and {modality}")

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the maps of `pyramid`.

        Raises:
            BandError: no encoder has maps.
        """
        channels: tuple[int, ...] = self._dense.channels  # type: ignore[assignment]
        return channels

    def forward(self, batch: Batch) -> Tensor:
        """Features (B, feature_dim) of all encoders in order, then any mask.

        Raises:
            MissingModalityError: a modality is missing without dropout, or a sample has no modality at all.
        """
        available = self._available(batch)
        parts = [self._features(name, batch, available) for name in self.encoders]
        return torch.cat([*parts, available.float()] if self.dropout else parts, dim=1)

    def pyramid(self, batch: Batch) -> tuple[list[Tensor], Tensor]:
        """The maps of the first encoder that has any, and the features of the same forward pass.

        Raises:
            BandError: no encoder has maps.
            MissingModalityError: see `forward`; or the whole batch lacks the modalities of the encoder with maps.
        """
        dense = self._dense
        available = self._available(batch)
        parts, maps = [], []
        for column, (name, encoder) in enumerate(self.encoders.items()):
            if encoder is not dense:
                parts.append(self._features(name, batch, available))
                continue
            if not all(key in batch for key in encoder.inputs):  # type: ignore[union-attr]
                raise MissingModalityError(f"{name!r} gives the maps and reads {list(encoder.inputs)}")  # type: ignore[arg-type]
            there = available[:, column]
            maps, features = encoder.pyramid(_filled(encoder, batch, there))  # type: ignore[operator]
            maps = [only_where(each, there) for each in maps]
            parts.append(only_where(features, there))
        return maps, torch.cat([*parts, available.float()] if self.dropout else parts, dim=1)

    @property
    def _dense(self) -> nn.Module:
        for encoder in self.encoders.values():
            if hasattr(encoder, "pyramid"):
                return encoder
        raise BandError(f"none of the encoders {list(self.encoders)} gives maps; join one that has a pyramid")

    def _available(self, batch: Batch) -> Tensor:
        """Mask of the encoders that can read each sample, (B, encoders) bool."""
        present = [key for key in self.inputs if key in batch]
        if not present:
            raise MissingModalityError(f"the encoders read {list(self.inputs)}, but the batch has only {sorted(batch)}")
        first = batch[present[0]]
        available = torch.ones(len(first), len(self.encoders), dtype=torch.bool, device=first.device)
        for column, encoder in enumerate(self.encoders.values()):
            for key in encoder.inputs:  # type: ignore[union-attr]
                available[:, column] &= batch.get(f"{key}_available", True) if key in batch else False
        flagged = len(present) < len(self.inputs) or any(f"{key}_available" in batch for key in self.inputs)
        if flagged and not self.dropout and not bool(available.all()):
            absent = [name for name, there in zip(self.encoders, available.T, strict=True) if not bool(there.all())]
            raise MissingModalityError(
                f"modalities of {absent} are missing from the batch, which has {sorted(batch)}. Add them to the "
                "dataset's modalities or join the encoders with dropout."
            )
        if flagged and not bool((there := available.any(dim=1)).all()):
            raise MissingModalityError(f"sample {int((~there).nonzero()[0])} of the batch has none of its modalities")
        if self.training and self.dropout:
            left = available & (torch.rand(available.shape, device=available.device) >= self.dropout)
            available = torch.where(left.any(dim=1, keepdim=True), left, available)
        return available

    def _features(self, name: str, batch: Batch, available: Tensor) -> Tensor:
        """Features (B, F) of one encoder, 0 for samples that it cannot read."""
        encoder, there = self.encoders[name], available[:, list(self.encoders).index(name)]
        if not all(key in batch for key in encoder.inputs):  # type: ignore[union-attr]
            return torch.zeros(len(there), feature_dim(encoder), device=there.device)
        return only_where(encoder(_filled(encoder, batch, there)), there)


def _filled(encoder: nn.Module, batch: Batch, there: Tensor) -> Batch:
    """A batch with all modalities of an encoder, set to 0 for the samples without them."""
    own = {key: only_where(batch[key], there) for key in encoder.inputs}  # type: ignore[union-attr]
    others = {key: value for key, value in batch.items() if key not in own and not key.endswith("_available")}
    return {**others, **own}

"""Multi-pretext pretraining: prediction of several known targets from masked images.

After MMEarth (Nedungadi et al. 2024, arXiv:2405.02771). The encoder reads the visible squares of an image. Heads, which
are discarded afterwards, predict from its feature map the hidden squares of this sensor and of others, and the climate,
weather, season and location. None of this needs annotation.

Each target is a separate task, and their losses can be combined by any class of `weighting`. MMEarth uses
the sum of exp(-s_i) L_i + s_i; `UncertaintyWeights(targets, squared=targets)` is half of it, with the same factor for
squared errors and cross-entropies: s_i converges to log L_i.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bengelib.arguments import whole_number
from bengelib.bands import CLIMATE_ZONE_SYMBOLS, IGNORE_INDEX, LAND_COVER_NAMES, S1_BANDS, S2_BANDS, WEATHER
from bengelib.errors import BandError, MissingModalityError
from bengelib.inputs import InputNorm
from bengelib.losses import masked_squared_error, wide
from bengelib.mae import check_ratio, patchify, random_mask
from bengelib.methods.convnext import ConvNeXtBlock, ConvNeXtEncoder
from bengelib.modalities import MODALITIES, InputSpec, Modality, as_modality, require_same
from bengelib.running import Mean
from bengelib.tasks import Classification, Task
from bengelib.transforms import Batch

MAPS, CLASSES, ANGLES = ("land_cover",), ("climate_zone",), ("season", "lonlat")
"""Targets that are a class per pixel, a class per image, and numbers on a circle."""

PRETEXTS: dict[str, tuple[str, ...]] = {
    "s2": S2_BANDS,
    "s1": S1_BANDS,
    "dem": (),
    "land_cover": LAND_COVER_NAMES,
    "climate_zone": CLIMATE_ZONE_SYMBOLS,
    "weather": tuple(WEATHER),
    "season": (),
    "lonlat": (),
}
"""Pretext targets of ben-ge: target to the names of its bands or classes, `()` for all bands."""


def pretexts_of(sample: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Those of `PRETEXTS` that are in a sample or a batch."""
    return {target: names for target, names in PRETEXTS.items() if target in sample}


class MultiPretext(nn.Module):
    """A masked encoder with a head for each target; keep the `encoder`.

    A head is one ConvNeXt block over the encoder's map, with a learned mask token at every hidden square, and a linear
    layer: to the pixels of each square, or from the mean over the image to targets of the whole image.

    * Pixels (images): squared error of normalised values; for targets in `per_square`, each square is first scaled to
      mean 0 and deviation 1, as in a masked autoencoder (sanity value: 1 for a prediction of 0).
    * Pixels of `MAPS`: cross-entropy. As for images, only hidden pixels count.
    * `CLASSES`: cross-entropy. `weather`: squared error of normalised values.
    * `lonlat`: squared error of sine and cosine of both degrees. `season`, which ben-ge counts from 0 in late December
      to 1 in late June and back, so that spring and autumn are the same: squared error of the sine and cosine of the
      angle whose sine it is.

    Missing values do not count, and a target without any value in a batch has the loss 0, which does not change a
    weighting: a missing key, `<key>_available`, NaN, and 255 for classes.

    Attributes:
        inputs: inputs of the encoder, and the numeric targets, a `Modality` by key, as required of the dataset.
        targets: names of the targets, in order.
    """

    def __init__(
        self,
        encoder: ConvNeXtEncoder,
        targets: InputSpec | None = None,
        ratio: float = 0.6,
        width: int = 128,
        per_square: Sequence[str] = ("s2",),
    ) -> None:
        """Add heads to an encoder.

        Args:
            encoder: for images whose sizes are multiples of its `stride`, the size of the hidden squares.
            targets: targets by key: a `Modality`, the names of bands of one of ben-ge, or the names of classes; by
                default all `PRETEXTS`. `pretexts_of(dataset[0])` gives those of a dataset.
            ratio: fraction of the squares to hide.
            width: channels of the heads; 512 in the paper.
            per_square: targets whose squares are scaled individually.

        Raises:
            BandError: an unknown target, no target, a target with other bands than the encoder's input, or a vector
                input of the encoder as a target, which it would only have to copy.
            ArgumentError: `ratio` is not a fraction below 1, or `width` is not a whole number.
        """
        super().__init__()
        check_ratio(ratio)
        whole_number("width", width)
        chosen = PRETEXTS if targets is None else targets
        if not chosen or (unknown := [key for key, given in chosen.items() if not _is_known(key, given)]):
            raise BandError(f"no targets {unknown if chosen else []}; choose from {list(PRETEXTS)}, or give a Modality")
        if copied := [key for key in encoder.read.vectors if key in chosen]:
            raise BandError(f"the encoder reads {copied}, which nothing hides; leave them out of targets or inputs")
        self.encoder, self.ratio, self.targets, self.per_square = encoder, ratio, tuple(chosen), tuple(per_square)
        self.classes = {key: tuple(given) for key, given in chosen.items() if key in MAPS + CLASSES}  # type: ignore[arg-type]
        numbers = {key: as_modality(key, given) for key, given in chosen.items() if key not in self.classes}
        require_same(encoder.inputs, numbers, "the target")
        self.inputs: dict[str, Modality] = {**numbers, **encoder.inputs}
        self.read = nn.ModuleDict({key: InputNorm({key: each}, missing="mean") for key, each in numbers.items()})
        self.images = [key for key, modality in numbers.items() if modality.kind == "image"]
        self.to_heads = nn.Linear(encoder.feature_dim, width)
        self.hidden = nn.Parameter(0.02 * torch.randn(width))
        self.blocks = nn.ModuleDict({key: ConvNeXtBlock(width) for key in chosen})
        self.norms = nn.ModuleDict({key: nn.LayerNorm(width) for key in chosen})
        self.last = nn.ModuleDict({key: nn.Linear(width, self._length(key)) for key in chosen})

    def tasks(self) -> list[Task]:
        """The task of each target, for `fit`."""
        return [
            PretextClasses(key, self.classes[key]) if key in self.classes else PretextValues(key)
            for key in self.targets
        ]

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Predict all targets from the visible squares, drawn anew in training and always the same in evaluation.

        Returns:
            For each target its prediction and, as `<target>/truth`, the truth, NaN or 255 where it does not count: for
            N squares of P numbers (B, N, P), for maps logits (B, K, N, P) and classes (B, N, P), for whole images
            (B, k), or logits (B, K) and classes (B,). Also `visible` (B, h, w) bool, and `features` (B, feature_dim)
            of the visible part.

        Raises:
            MissingModalityError: the batch lacks an input of the encoder.
            BandError: the size of a target differs from that of the encoder's images.
            ValueError: images with so few squares that none or all would be hidden, or that do not divide into squares.
        """
        height, width = self._size(batch)
        generator = None if self.training else torch.Generator().manual_seed(0)
        rows, columns = height // self.encoder.stride, width // self.encoder.stride
        some = next(value for value in batch.values() if isinstance(value, Tensor))
        kept, restore = random_mask(len(some), rows * columns, self.ratio, generator)  # (B, V), (B, N)
        seen = (restore < kept.shape[1]).to(some.device)  # (B, N)
        visible = seen.view(-1, rows, columns)
        maps, features = self.encoder.pyramid(batch, visible)
        last = self.encoder.net.last_norm(maps[-1].permute(0, 2, 3, 1))  # or nothing would train it
        places = self.to_heads(last)  # (B, h, w, width)
        places = torch.where(visible[..., None], places, self.hidden.to(places.dtype))
        outputs = {"visible": visible, "features": features}
        for key in self.targets:
            outputs[key] = prediction = self._predict(key, places)
            outputs[f"{key}/truth"] = self._truth(key, batch, ~seen, prediction.detach())
        return outputs

    def _size(self, batch: Batch) -> tuple[int, int]:
        """Height and width of the encoder's images, which all targets with pixels must share."""
        sizes = {key: batch[key].shape[-2:] for key in (*self.encoder.read.images, *self.images, *MAPS) if key in batch}
        read = [key for key in self.encoder.read.images if key in sizes]
        if not read:
            raise MissingModalityError(f"no image of {list(self.encoder.inputs)} in a batch of {sorted(batch)}")
        height, width = sizes[read[0]]
        for key, size in sizes.items():
            if tuple(size) != (height, width) and key in self.targets:
                raise BandError(f"{key} has {tuple(size)} pixels, {read[0]} {(height, width)}; bring them to one grid")
        return height, width

    def _length(self, key: str) -> int:
        """Number of outputs of the head of a target for each square, or for the image."""
        pixels = self.encoder.stride**2
        if key in self.classes:
            return len(self.classes[key]) * (pixels if key in MAPS else 1)
        channels = self.read[key].channels(key)  # type: ignore[operator]
        return channels * pixels if key in self.images else channels * (2 if key in ANGLES else 1)

    def _predict(self, key: str, places: Tensor) -> Tensor:
        """Prediction of the head of a target; see `forward` for the shapes."""
        answered = self.norms[key](self.blocks[key](places))  # (B, h, w, width)
        if key not in MAPS and key not in self.images:
            image: Tensor = self.last[key](answered.mean(dim=(1, 2)))
            return image
        squares = self.last[key](answered).flatten(1, 2)  # (B, N, P)
        if key in MAPS:
            squares = squares.unflatten(2, (-1, len(self.classes[key]))).permute(0, 3, 1, 2)  # (B, K, N, P)
        return squares

    def _truth(self, key: str, batch: Batch, hidden: Tensor, prediction: Tensor) -> Tensor:
        """The truth of a prediction, NaN or 255 where unknown or for pixels that are not hidden."""
        if key in self.classes:
            return self._true_classes(key, batch, hidden, prediction)
        if key not in batch:
            return torch.full_like(prediction, torch.nan)
        values, available = self.read[key](batch)  # (B, 1)
        truth = wide(values[key])
        if key in ANGLES:
            truth = on_circle(key, wide(batch[key]))
        known = available
        if key in self.images:
            truth = patchify(truth, self.encoder.stride)  # (B, N, P)
            if key in self.per_square:
                truth = (truth - truth.mean(dim=2, keepdim=True)) / (truth.var(dim=2, keepdim=True) + 1e-6).sqrt()
            known = (available & hidden)[..., None]
        return truth.masked_fill(~known, torch.nan)

    def _true_classes(self, key: str, batch: Batch, hidden: Tensor, prediction: Tensor) -> Tensor:
        shape = (len(prediction), *prediction.shape[2:])
        if key not in batch:
            return torch.full(shape, IGNORE_INDEX, device=prediction.device)
        truth = batch[key]
        known = torch.ones_like(hidden[:, :1]) if key not in MAPS else hidden  # (B, 1) or (B, N)
        if f"{key}_available" in batch:
            known = known & batch[f"{key}_available"][:, None]
        if key not in MAPS:
            return truth.masked_fill(~known[:, 0], IGNORE_INDEX)
        return patchify(truth[:, None], self.encoder.stride).masked_fill(~known[..., None], IGNORE_INDEX)


def _is_known(key: str, given: Modality | Sequence[str]) -> bool:
    """True if a target is a modality, or one of the supported classes."""
    return isinstance(given, Modality) or key in (*MODALITIES, *MAPS, *CLASSES)


def on_circle(key: str, values: Tensor) -> Tensor:
    """Sine and cosine of a season (B,) -> (B, 2), or of longitude and latitude in degrees (B, 2) -> (B, 4)."""
    if key == "season":
        return torch.stack([values, (1 - values.square()).clamp(min=0).sqrt()], dim=1)
    angles = torch.deg2rad(values)
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)


class PretextValues:
    """Numeric target of a `MultiPretext`: squared error where the truth is known."""

    def __init__(self, target: str) -> None:
        """Predict `target`."""
        self.target = target

    def loss(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Any]) -> Tensor:
        """Mean squared error over the known numbers, (); 0 without any.

        Raises:
            MissingModalityError: the outputs are not those of a `MultiPretext` with this target.
        """
        return masked_squared_error(*_pair(self.target, outputs))

    def labelled(self, batch: Mapping[str, Any]) -> Tensor:
        """Number of samples of a batch that have the target, ()."""
        return _available(self.target, batch).sum()

    def metric(self) -> Mean:
        """A mean over numbers."""
        return Mean()

    def update(self, metric: Mean, outputs: Mapping[str, Tensor], batch: Mapping[str, Any]) -> None:
        """Add one batch."""
        prediction, truth = _pair(self.target, outputs)
        known = ~truth.isnan()
        metric.update((prediction[known] - truth[known]).square())

    def summary(self, metric: Mean) -> dict[str, float]:
        """`loss`, the mean squared error over all known numbers."""
        return {"loss": metric.compute()}


class PretextClasses(Classification):
    """Class target of a `MultiPretext`: cross-entropy, accuracy and macro F1 where the truth is known."""

    def check(self, batch: Mapping[str, Any]) -> None:
        """Raise `BandError` for labels that are neither the index of a class nor 255."""
        if self.target in batch:
            super().check(batch)

    def labelled(self, batch: Mapping[str, Any]) -> Tensor:
        """Number of labelled samples (for maps: pixels, hidden or not) of a batch, ()."""
        available = _available(self.target, batch)
        if self.target not in batch:
            return available.sum()
        known = (batch[self.target] != IGNORE_INDEX).view(len(available), -1)  # (B, 1) or (B, H * W)
        return (known & available[:, None]).sum()

    def _pair(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        return _pair(self.target, outputs)


def _pair(target: str, outputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Prediction and truth of a target."""
    if target not in outputs or f"{target}/truth" not in outputs:
        raise MissingModalityError(
            f"the model's outputs lack {target!r} or its truth; they have {sorted(outputs)}. Train a MultiPretext."
        )
    return wide(outputs[target]), outputs[f"{target}/truth"]


def _available(target: str, batch: Mapping[str, Any]) -> Tensor:
    """Mask of the samples that have the target, (B,) bool."""
    some = next(value for value in batch.values() if isinstance(value, Tensor))
    if target not in batch:
        return torch.zeros(len(some), dtype=torch.bool, device=some.device)
    return batch.get(f"{target}_available", torch.ones(len(some), dtype=torch.bool, device=some.device))

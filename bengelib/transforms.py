"""Batched tensor operations on samples: normalisation by band name, flips, turns and crops.

All of them take a batch (a dict of named tensors with a leading dimension), run on the device where its tensors are,
and treat the modalities of a sample as one: a flip of Sentinel-2 is the same flip of Sentinel-1 and of the labels.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bengelib.arguments import whole_number
from bengelib.errors import BandError
from bengelib.modalities import Modality, as_modality

Batch = dict[str, Any]


def spatial_keys(batch: Batch) -> list[str]:
    """Keys whose last two dimensions are rows and columns on the ground: images (B, C, H, W) and maps (B, H, W)."""
    return [key for key, value in batch.items() if isinstance(value, Tensor) and value.ndim >= 3]


def statistics(modality: str | Modality, bands: Sequence[str] = ()) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation, each (k,) float32, of the named bands of a modality, all of them for `()`.

    Args:
        modality: a `Modality`, or the key of one of `MODALITIES`.
        bands: names, in the order wanted.

    Raises:
        BandError: an unknown modality or band.
    """
    found = modality.take(bands) if isinstance(modality, Modality) else as_modality(modality, bands)
    return torch.tensor(found.mean, dtype=torch.float32), torch.tensor(found.std, dtype=torch.float32)


class Normalize(nn.Module):
    """Physical units to values near 0 +- 1, with the statistics of each band of a modality.

    The statistics are buffers, so they travel to the device and into checkpoints with the model that owns them.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, modality: str | Modality, bands: Sequence[str] = ()) -> None:
        """Keep the statistics of `bands` of `modality`; see `statistics` for the arguments and errors."""
        super().__init__()
        mean, std = statistics(modality, bands)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, values: Tensor) -> Tensor:
        """Normalise (B, k, H, W) images, (B, k) vectors or (B,) scalars; the shape stays.

        Raises:
            BandError: the number of channels is not that of the bands.
        """
        channels = values.shape[1] if values.ndim > 1 else 1
        if channels != len(self.mean):
            raise BandError(
                f"got {channels} channels for {len(self.mean)} bands; give the dataset and the model the same bands"
            )
        shape = (1, -1, *(1 for _ in values.shape[2:])) if values.ndim > 1 else (1,)
        return (values - self.mean.view(shape)).div_(self.std.view(shape))  # in place: one large temporary less


def flip_and_turn(batch: Batch, generator: torch.Generator) -> Batch:
    """Apply to each sample one of the eight flips and right-angle turns of a square, chosen at random.

    A patch has no preferred orientation, so its labels stay true. Every modality and mask of a sample moves alike.
    """
    keys = spatial_keys(batch)
    if not keys:
        return batch
    turns = torch.randint(0, 8, (batch[keys[0]].shape[0],), generator=generator).tolist()
    moved = dict(batch)
    for key in keys:
        samples = batch[key].unbind(0)
        moved[key] = torch.stack([_turn(sample, turn) for sample, turn in zip(samples, turns, strict=True)])
    return moved


def _turn(image: Tensor, turn: int) -> Tensor:
    """One of the eight symmetries of the square on (..., H, W): `turn % 4` quarter turns, mirrored when 4 or more."""
    mirrored = image.flip(-1) if turn >= 4 else image
    return mirrored.rot90(turn % 4, dims=(-2, -1))


def random_crop(batch: Batch, size: int, generator: torch.Generator) -> Batch:
    """Cut a window of `size` x `size` pixels out of each sample, at a random place, the same in all modalities.

    Raises:
        ValueError: `size` is larger than the patch.
    """
    keys = spatial_keys(batch)
    if not keys:
        return batch
    count = batch[keys[0]].shape[0]
    height, width = batch[keys[0]].shape[-2:]
    size = whole_number("size", size, 1, min(height, width))
    rows = torch.randint(0, height - size + 1, (count,), generator=generator).tolist()
    columns = torch.randint(0, width - size + 1, (count,), generator=generator).tolist()
    cropped = dict(batch)
    for key in keys:
        cropped[key] = torch.stack(
            [
                sample[..., row : row + size, column : column + size]
                for sample, row, column in zip(batch[key].unbind(0), rows, columns, strict=True)
            ]
        )
    return cropped


class Augment:
    """Random crop, flips and right-angle turns of a training batch: what `fit` takes as `augment`."""

    def __init__(self, crop: int | None = None, turn: bool = True) -> None:
        """Crop to `crop` pixels (None: no crop); `turn` switches flips and turns.

        Raises:
            ArgumentError: `crop` is no whole number of pixels.
        """
        self.crop = None if crop is None else whole_number("crop", crop)
        self.turn = turn

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """A new batch; `generator` (on the CPU) decides, so the same seed gives the same views."""
        if self.crop is not None:
            batch = random_crop(batch, self.crop, generator)
        return flip_and_turn(batch, generator) if self.turn else batch

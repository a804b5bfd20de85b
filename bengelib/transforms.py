"""Batched tensor operations on samples: normalisation by band name, flips, rotations and crops.

All of them take a batch (a dict of named tensors with a leading dimension), run on the device of its tensors, and
transform the modalities of a sample alike: Sentinel-2 is flipped together with Sentinel-1 and the labels.
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
    """Keys with rows and columns as their last dimensions: images (B, C, H, W) and maps (B, H, W)."""
    return [key for key, value in batch.items() if isinstance(value, Tensor) and value.ndim >= 3]


def statistics(modality: str | Modality, bands: Sequence[str] = ()) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation, each (k,) float32, of the named bands of a modality, all of them for `()`.

    Args:
        modality: a `Modality`, or a key of `MODALITIES`.
        bands: names, in the desired order.

    Raises:
        BandError: an unknown modality or band.
    """
    found = modality.take(bands) if isinstance(modality, Modality) else as_modality(modality, bands)
    return torch.tensor(found.mean, dtype=torch.float32), torch.tensor(found.std, dtype=torch.float32)


class Normalize(nn.Module):
    """Standardisation of physical units with the statistics of each band of a modality.

    The statistics are buffers, so they move to the device and into checkpoints together with the model.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, modality: str | Modality, bands: Sequence[str] = ()) -> None:
        """Store the statistics of `bands` of `modality`; see `statistics` for the arguments and errors."""
        super().__init__()
        mean, std = statistics(modality, bands)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, values: Tensor) -> Tensor:
        """Normalise (B, k, H, W) images, (B, k) vectors or (B,) scalars; the shape is kept.

        Raises:
            BandError: the number of channels differs from that of the bands.
        """
        channels = values.shape[1] if values.ndim > 1 else 1
        if channels != len(self.mean):
            raise BandError(
                f"got {channels} channels for {len(self.mean)} bands; give the dataset and the model the same bands"
            )
        shape = (1, -1, *(1 for _ in values.shape[2:])) if values.ndim > 1 else (1,)
        return (values - self.mean.view(shape)).div_(self.std.view(shape))  # in place, to save a large temporary tensor


def flip_and_turn(batch: Batch, generator: torch.Generator) -> Batch:
    """Apply a random dihedral transform to each sample: one of the eight combinations of flips and 90-degree rotations.

    A patch has no preferred orientation, so its labels stay true. All modalities and masks of a sample move alike.
    """
    keys = spatial_keys(batch)
    if not keys:
        return batch
    turns = torch.randint(0, 8, (batch[keys[0]].shape[0],), generator=generator).tolist()
    moved = dict(batch)
    for key in keys:
        samples = batch[key].unbind(0)
        moved[key] = torch.stack([dihedral(sample, turn) for sample, turn in zip(samples, turns, strict=True)])
    return moved


def dihedral(image: Tensor, turn: int) -> Tensor:
    """One of the eight symmetries of the square on (..., H, W): `turn % 4` quarter turns, after a flip if 4 or more."""
    mirrored = image.flip(-1) if turn >= 4 else image
    return mirrored.rot90(turn % 4, dims=(-2, -1))


def random_crop(batch: Batch, size: int, generator: torch.Generator) -> Batch:
    """Crop a random window of `size` x `size` pixels from each sample, the same in all modalities.

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
    """Random crops, flips and 90-degree rotations of a training batch, for `fit(augment=...)`."""

    def __init__(self, crop: int | None = None, turn: bool = True) -> None:
        """Crop to `crop` pixels (None: no crop); `turn` enables flips and rotations.

        Raises:
            ArgumentError: `crop` is not a whole number of pixels.
        """
        self.crop = None if crop is None else whole_number("crop", crop)
        self.turn = turn

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """A new batch; `generator` (on the CPU) is the only source of randomness, so equal seeds give equal results."""
        if self.crop is not None:
            batch = random_crop(batch, self.crop, generator)
        return flip_and_turn(batch, generator) if self.turn else batch

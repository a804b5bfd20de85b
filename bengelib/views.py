"""Random views of a batch for self-supervised learning, on its device, with any number of channels.

All modalities and masks of a sample share one geometry. There is no hue or saturation: twelve bands have neither, and
ratios between bands distinguish land cover. Two images of the same ground differ in light and haze (gain and offset of
each band), in focus, and in the noise of the sensor.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bengelib.arguments import check_share, real_number, whole_number
from bengelib.errors import ArgumentError, BandError, MissingModalityError

Batch = dict[str, Any]
Moments = tuple[Sequence[float], Sequence[float]]
Augmentation = Callable[[Batch, torch.Generator], Batch]


@dataclass(frozen=True)
class Views:
    """One random view of each sample, for `fit(augment=...)`; training from scratch can use it as well.

    Images (B, C, H, W) are resampled bilinearly and changed; class maps (B, H, W) are resampled with them, by nearest
    neighbour. A strength of 0 disables a change. Strengths in standard deviations refer to each band: to its `moments`
    or, if it has none, to the batch.

    Attributes:
        size: pixels along a side of the view; None keeps that of each modality. Images are square.
        scale: smallest and largest fraction of the area covered by the random crop, in (0, 1].
        ratio: largest aspect ratio of the crop, of width to height or height to width, 1 or more.
        turn: whether to apply one of the eight flips and 90-degree rotations.
        gain: the contrast of each band around its mean is multiplied by a number from 1 - gain to 1 + gain.
        offset: each band is shifted by a number from -offset to offset standard deviations.
        light: as `gain` and `offset`, with one number of each for all bands of an image, so that the ratios of bands
            hardly change: sun and haze do not turn a forest into a field.
        band_dropout: probability that a band is set to its mean, in [0, 1). One band per modality is always kept.
        blur: largest sigma of a Gaussian blur, in pixels of the view; a random half of the samples is blurred.
        noise: largest standard deviation of Gaussian noise, in standard deviations of the band.
        speckle: largest coefficient of variation of the gamma noise on the linear power of `decibels`. L looks have
            1 / sqrt(L), so 0.3 is the speckle of 11 looks on top of that of the image. At most 0.7.
        decibels: keys of the images that are radar backscatter in dB.
        moments: mean and standard deviation of each channel, by key.
    """

    size: int | None = 64
    scale: tuple[float, float] = (0.2, 1.0)
    ratio: float = 4 / 3
    turn: bool = True
    gain: float = 0.2
    offset: float = 0.2
    light: float = 0.0
    band_dropout: float = 0.0
    blur: float = 1.0
    noise: float = 0.05
    speckle: float = 0.3
    decibels: Sequence[str] = ("s1",)
    moments: Mapping[str, Moments] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ValueError: naming the setting, its value and its range.
        """
        if self.size is not None:
            whole_number("size", self.size)
        if not isinstance(self.scale, (tuple, list)) or len(self.scale) != 2:
            raise ArgumentError(f"scale={self.scale!r}; expected two shares of the area, the lower first")
        for share in self.scale:
            check_share("scale", share)
        if self.scale[0] > self.scale[1]:
            raise ArgumentError(f"scale={self.scale!r}; expected the lower share first")
        real_number("ratio", self.ratio, least=1)
        check_share("gain", self.gain, zero=True)
        check_share("light", self.light, zero=True)
        check_share("band_dropout", self.band_dropout, zero=True, one=False)
        for name in ("offset", "blur", "noise"):
            real_number(name, getattr(self, name), least=0)
        real_number("speckle", self.speckle, least=0, most=0.7)  # 0.7 corresponds to two looks

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """A new batch in the same units; `generator` is on the CPU, and equal seeds give equal views.

        Raises:
            BandError: an image has another number of channels than its `moments`.
        """
        images = [key for key, value in batch.items() if _is_image(value)]
        moving = [*images, *(key for key, value in batch.items() if _is_map(value))]
        if not moving:
            return batch
        view = dict(batch)
        count = len(batch[moving[0]])
        boxes = random_boxes(count, self.scale, self.ratio, generator)
        turns = torch.randint(0, 8, (count,), generator=generator) if self.turn else torch.zeros(count).long()
        still = self.scale[0] == 1 and not self.turn
        for key in moving:
            if not still or self.size not in (None, batch[key].shape[-1]):
                view[key] = resample(batch[key], boxes, turns, self.size or batch[key].shape[-1])
        for key in images:
            view[key] = self._change(key, view[key], batch[key], generator)
        return view

    def _change(self, key: str, values: Tensor, before: Tensor, generator: torch.Generator) -> Tensor:
        """Blur, gain and offset, noise, speckle and band dropout of one modality (B, C, H, W)."""
        count, channels = values.shape[:2]
        changes = (self.light, self.gain, self.offset, self.noise, self.speckle, self.band_dropout)
        if values is before and any(changes):
            values = values.clone()  # changed in place below, which must not change the given batch
        device = values.device
        pixels = pixel_generator(generator, device)
        mean, std = (moment.view(1, -1, 1, 1).to(device) for moment in self._moments(key, before))
        if self.blur:
            sigmas = self.blur * torch.rand(count, generator=generator)
            values = blur(values, torch.where(torch.rand(count, generator=generator) < 0.5, sigmas, 0.0))
        for gain, offset, bands in ((self.light, self.light, 1), (self.gain, self.offset, channels)):
            if not gain and not offset:
                continue
            shape = (count, bands, 1, 1)
            gains = 1 + gain * (2 * torch.rand(shape, generator=generator) - 1).to(device)
            offsets = offset * (2 * torch.rand(shape, generator=generator) - 1).to(device)
            values.mul_(gains).add_(mean * (1 - gains) + std * offsets)  # mean + gain (x - mean) + offset std
        if self.speckle and key in self.decibels:
            values.add_(
                speckle_decibels(self.speckle * torch.rand(count, generator=generator), values.shape[1:], pixels)
            )
        if self.noise:
            strength = self.noise * torch.rand(count, 1, 1, 1, generator=generator).to(device)
            values.addcmul_(torch.randn(values.shape, generator=pixels, device=device), strength * std)
        if self.band_dropout and channels > 1:
            kept = torch.rand(count, channels, generator=generator) >= self.band_dropout
            spared = torch.randint(0, channels, (count,), generator=generator)
            kept[torch.arange(count), spared] |= ~kept.any(dim=1)
            values = torch.where(kept[:, :, None, None].to(device), values, mean)
        return values

    def _moments(self, key: str, values: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each channel (C,) of an image, in its unit."""
        if key not in self.moments:
            return values.mean(dim=(0, 2, 3)), values.std(dim=(0, 2, 3), correction=0)
        mean, std = (torch.as_tensor(moment, dtype=torch.float32).flatten() for moment in self.moments[key])
        if len(mean) != values.shape[1] or len(std) != values.shape[1]:
            raise BandError(
                f"{key} has {values.shape[1]} channels, but the views know the moments of {len(mean)}; give "
                f"moments={{{key!r}: (means, deviations)}} for the bands of the dataset"
            )
        return mean, std


def _is_image(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim == 4


def _is_map(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim == 3


def pixel_generator(generator: torch.Generator, device: torch.device) -> torch.Generator:
    """A generator on `device` seeded from `generator`: millions of numbers are drawn where they are needed."""
    if device.type == "cpu":
        return generator
    return torch.Generator(device).manual_seed(int(torch.randint(0, 2**62, (), generator=generator)))


def random_boxes(count: int, scale: tuple[float, float], ratio: float, generator: torch.Generator) -> Tensor:
    """Random crops, (count, 4) float32: top, left, height and width as fractions of the image's height and width.

    The area is uniform in `scale` and the logarithm of width / height uniform in +- log `ratio`, as in Inception crops
    (Szegedy et al. 2015, arXiv:1409.4842); sides are limited to those of the image.
    """
    area = scale[0] + (scale[1] - scale[0]) * torch.rand(count, generator=generator)
    stretch = torch.exp(math.log(ratio) * (2 * torch.rand(count, generator=generator) - 1))  # width / height
    width = (area * stretch).sqrt().clamp(max=1)
    height = (area / stretch).sqrt().clamp(max=1)
    top = (1 - height) * torch.rand(count, generator=generator)
    left = (1 - width) * torch.rand(count, generator=generator)
    return torch.stack([top, left, height, width], dim=1)


def resample(values: Tensor, boxes: Tensor, turns: Tensor, size: int) -> Tensor:
    """Crop, flip, rotate and resize each sample in a single resampling.

    Args:
        values: images (B, C, H, W) float32, resampled bilinearly, or integer class maps (B, H, W), resampled by nearest
            neighbour.
        boxes: (B, 4) from `random_boxes`.
        turns: (B,) int64 in 0 to 7: `turns % 4` quarter turns anticlockwise, after a left-right flip if 4 or more.
        size: pixels along a side of the result.

    Returns:
        (B, C, size, size), or (B, size, size).
    """
    top, left, height, width = boxes.double().unbind(dim=1)
    quarter = (turns % 4) * (math.pi / 2)
    cos, sin = quarter.double().cos().round(), quarter.double().sin().round()
    mirror = torch.where(turns >= 4, -1.0, 1.0).double()
    # In [-1, 1] coordinates (x, y), a pixel of the result lies in the crop at (mirror (cos x - sin y), sin x + cos y).
    theta = torch.stack(
        [
            torch.stack([width * mirror * cos, -width * mirror * sin, 2 * left + width - 1], dim=1),
            torch.stack([height * sin, height * cos, 2 * top + height - 1], dim=1),
        ],
        dim=1,
    )  # (B, 2, 3)
    theta = theta.to(device=values.device, dtype=torch.float32)
    grid = F.affine_grid(theta, [len(boxes), 1, size, size], align_corners=False)  # (B, size, size, 2)
    if values.is_floating_point():
        return F.grid_sample(values, grid, mode="bilinear", padding_mode="border", align_corners=False)
    classes = values[:, None].to(torch.float32)  # exact below 2 ** 24
    nearest = F.grid_sample(classes, grid, mode="nearest", padding_mode="border", align_corners=False)
    return nearest[:, 0].to(values.dtype)


def blur(values: Tensor, sigmas: Tensor) -> Tensor:
    """Gaussian blur of images (B, C, H, W) with a sigma (B,) in pixels for each; 0 leaves an image unchanged.

    Rows and columns are blurred separately by matrix products, which are faster than a convolution with a different
    kernel for every sample. At the edges the remaining weights are scaled to sum to 1.
    """
    blurred = (sigmas > 0).nonzero().flatten()
    if not len(blurred):
        return values
    sigmas = sigmas[blurred].clamp_min(1e-3).to(values.device)
    blurred = blurred.to(values.device)
    chosen = values[blurred]
    rows, columns = (_blur_matrix(sigmas, length)[:, None] for length in values.shape[-2:])  # (b, 1, n, n)
    chosen = rows @ (chosen @ columns.mT)
    return values.index_copy(0, blurred, chosen)


def _blur_matrix(sigmas: Tensor, length: int) -> Tensor:
    """Weight of pixel j in the blurred pixel i, (B, length, length); each row sums to 1."""
    place = torch.arange(length, device=sigmas.device, dtype=torch.float32)
    distance = (place[:, None] - place[None, :]) ** 2
    weights = F.softmax(-distance / (2 * sigmas[:, None, None] ** 2), dim=-1)
    return torch.where(weights < 1e-6, 0.0, weights)  # denormal numbers would make the product ten times slower


def speckle_decibels(strengths: Tensor, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Speckle to add to decibels, `(B, *shape)`: gamma noise of mean 1 on the linear power.

    A gamma variable of L looks has mean 1 and coefficient of variation 1 / sqrt(L). It is approximated by the cube of a
    normal variable (Wilson and Hilferty 1931, doi:10.1073/pnas.17.12.684), accurate to a few per cent for two looks and
    better for more.

    Args:
        strengths: coefficient of variation of each sample, (B,) in [0, 0.7].
        shape: of one sample.
        generator: on the device of the result.
    """
    variance = (strengths**2).to(generator.device).view(-1, *(1 for _ in shape)) / 9  # 1 / (9 L)
    normal = torch.randn(len(strengths), *shape, generator=generator, device=generator.device)
    root = normal.mul_(variance.sqrt()).add_(1 - variance).clamp_(min=0.05)
    return root.log_().mul_(30 / math.log(10))  # 10 log10(root ** 3)


class TwoViews:
    """Two views of each sample, drawn independently, as `batch["view_1"]` and `batch["view_2"]`.

    For `fit(augment=...)`. The other keys are kept for tasks and the progress bar.
    """

    def __init__(self, views: Augmentation, second: Augmentation | None = None) -> None:
        """Make `view_1` with `views`, and `view_2` with `second`, by default the same."""
        self.views = views
        self.second = second or views

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """The batch with both views, each a dict batch."""
        first, second = self.views(batch, generator), self.second(batch, generator)
        return {**batch, "view_1": first, "view_2": second}


def pair_modalities(
    views: Augmentation | None = None,
    first: Sequence[str] = ("s1",),
    second: Sequence[str] = ("s2",),
) -> Augmentation:
    """Pairs of sensors as views, such as Sentinel-1 and Sentinel-2 of the same ground, for `fit(augment=...)`.

    Args:
        views: further augmentation, for example `Views(64)`, with the same crop, flip and rotation for both; by default
            none.
        first: images of `view_1`; keys that are not images are in both views.
        second: images of `view_2`.

    Raises:
        BandError: a modality would be in both views.
    """
    if overlap := set(first) & set(second):
        raise BandError(f"{sorted(overlap)} would be in both views; give each view its own modalities")

    def both(batch: Batch, generator: torch.Generator) -> Batch:
        if missing := [key for key in (*first, *second) if key not in batch]:
            raise MissingModalityError(f"no {missing} for the views in a batch of {sorted(batch)}; load them as well")
        changed = views(batch, generator) if views else batch
        made: Batch = dict(batch)
        for name, keys in (("view_1", first), ("view_2", second)):
            made[name] = {key: value for key, value in changed.items() if key in keys or not _is_image(value)}
        return made

    return both

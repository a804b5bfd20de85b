"""Stored values of described images and maps to their units, in batches, on their device."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from bengelib.data.decode import assemble
from bengelib.data.description import Source
from bengelib.data.layers import Layout


def decode_map(indices: Tensor, classes: int) -> Tensor:
    """A class map (B, H, W) as one-hot bands, (B, classes, H, W) float32; no data is 0 in all of them."""
    shown = F.one_hot(indices.to(torch.int64).clamp(max=classes), classes + 1)[..., :classes]
    return shown.permute(0, 3, 1, 2).to(torch.float32)


def decode_image(
    source: Source,
    layout: Layout,
    parts: Mapping[str, Tensor],
    bands: Sequence[str],
    mean: Sequence[float] | None = None,
    *,
    gaps: bool = True,
) -> Tensor:
    """An image (B, bands, H, W) float32 in its unit from its stored arrays.

    Args:
        source: description of the image.
        layout: storage layout of the image.
        parts: arrays (B, k, h, w), each with the bands that it holds, in their order.
        bands: names, in order.
        mean: mean of every band of `source`, which replaces no data; None leaves NaN.
        gaps: whether to look for pixels without data, which takes a third of the time.
    """
    numbers = [source.bands.index(band) for band in bands]
    device = next(iter(parts.values())).device
    scale, offset = (_factor(values, numbers, device) for values in layout.scales(source))
    nothing = torch.tensor([mean[n] if mean else torch.nan for n in numbers], device=device).view(-1, 1, 1)
    is_float = layout.dtype.startswith("float")

    def change(values: Tensor, indices: Sequence[int]) -> None:
        absent = ~values.isfinite() if gaps and is_float else None
        for number in layout.no_data if gaps else ():
            absent = values == number if absent is None else absent | (values == number)
        if scale is not None:
            values.mul_(scale[indices] if isinstance(scale, Tensor) else scale)
        if offset is not None:
            values.add_(offset[indices] if isinstance(offset, Tensor) else offset)
        if absent is not None:
            torch.where(absent, nothing[indices], values, out=values)

    located = [
        (parts[name], [at for at, number in enumerate(numbers) if number in indices])
        for name, (indices, _) in layout.arrays.items()
        if name in parts
    ]
    return assemble(located, layout.shape, change)


def _factor(values: Sequence[float], numbers: Sequence[int], device: torch.device) -> Tensor | float | None:
    """Scale or offset of some bands, (k, 1, 1); one number if they are equal, None if there is none."""
    if not values or len(set(values)) == 1:
        return values[0] if values else None
    return torch.tensor([values[n] for n in numbers], dtype=torch.float32, device=device).view(-1, 1, 1)

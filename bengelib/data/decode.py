"""`decode`: stored values to physical units, in batches, on their device."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bengelib.bands import (
    IGNORE_INDEX,
    LAND_COVER,
    PATCH_SIZE,
    REFLECTANCE_SCALE,
    S1_BANDS,
    S2,
    S2_BANDS,
)
from bengelib.errors import BandError
from bengelib.modalities import as_modality

Batch = dict[str, Any]

S2_GROUPS = ("s2_10m", "s2_20m", "s2_60m")
"""Keys of stored Sentinel-2 bands, by resolution."""


def land_cover_index() -> Tensor:
    """Look-up table (256,) int64 from WorldCover code to class index; `IGNORE_INDEX` where the legend has no class."""
    table = torch.full((256,), IGNORE_INDEX, dtype=torch.int64)
    for index, entry in enumerate(LAND_COVER):
        table[entry.code] = index
    return table


def decode(
    batch: Mapping[str, Any],
    s2_bands: Sequence[str] = S2_BANDS,
    s1_bands: Sequence[str] = S1_BANDS,
    *,
    normalized: bool = False,
) -> Batch:
    """Convert stored values to the units of `BENGE`, on their device.

    Args:
        batch: `s2_10m` (B, k, 120, 120), `s2_20m` (B, m, 60, 60) and `s2_60m` (B, n, 20, 20) uint16 digital numbers,
            each with the bands of `s2_bands` of that resolution, in their order; `s1` dB; `dem` metres;
            `land_cover` uint8 WorldCover codes. All are optional; other keys pass through.
        s2_bands: the bands of `s2`, in order.
        s1_bands: the bands of `s1`; needed only if `normalized`.
        normalized: whether to normalise `s2`, `s1` and `dem` as `Normalize` does, for a model that does not. This costs
            almost nothing, because it precedes the upsampling of the 20 m and 60 m bands.

    Returns:
        A batch with `s2` (B, len(s2_bands), 120, 120) float32 reflectance, not clipped, the 20 m and 60 m bands
        upsampled bilinearly; `s1` and `dem` float32; `land_cover` (B, 120, 120) int64 class indices.

    Raises:
        BandError: the stored parts of Sentinel-2 are not those of `s2_bands`, or one of the names is unknown.
    """
    groups = {key: batch[key] for key in S2_GROUPS if key in batch}
    if groups:
        _check_groups(groups, s2_bands)
    decoded: Batch = {"s2": _decode_s2(groups, s2_bands, normalized)} if groups else {}
    decoded |= {key: value for key, value in batch.items() if key not in S2_GROUPS}
    for key, bands in (("s1", s1_bands), ("dem", ())):
        if key in decoded:
            decoded[key] = decoded[key].to(torch.float32)
            if normalized:
                mean, std = _moments(key, bands, decoded[key].device)
                decoded[key] = (decoded[key] - mean).div_(std)
    if "land_cover" in decoded and decoded["land_cover"].dtype != torch.int64:
        codes = decoded["land_cover"]
        decoded["land_cover"] = land_cover_index().to(codes.device)[codes.to(torch.int64)]
    return decoded


def _moments(key: str, bands: Sequence[str], device: torch.device) -> list[Tensor]:
    """Mean and standard deviation of the bands of a modality, (k, 1, 1) float32 each."""
    modality = as_modality(key, bands)
    return [torch.tensor(m, dtype=torch.float32, device=device).view(-1, 1, 1) for m in (modality.mean, modality.std)]


def _check_groups(groups: Mapping[str, Tensor], s2_bands: Sequence[str]) -> None:
    """Refuse stored parts that do not hold the named bands, which would leave memory uninitialised.

    Raises:
        BandError: see `decode`.
    """
    if unknown := [band for band in s2_bands if band not in S2]:
        raise BandError(f"unknown s2_bands {unknown}; choose from {list(S2)}")
    for key in S2_GROUPS:
        names = tuple(band for band in s2_bands if key == f"s2_{S2[band].resolution}m")
        stored = groups[key].shape[1] if key in groups else 0
        if stored != len(names):
            raise BandError(
                f"{key} holds {stored} bands, but s2_bands {tuple(s2_bands)} has {len(names)} of that resolution: "
                f"{names}. Give the s2_bands of the dataset that the batch is from."
            )


def _decode_s2(groups: Mapping[str, Tensor], s2_bands: Sequence[str], normalized: bool) -> Tensor:
    """Sentinel-2 at 10 m, (B, len(s2_bands), 120, 120) float32, from its stored parts by resolution."""
    first = next(iter(groups.values()))
    moments = None
    if normalized:
        moments = [moment * REFLECTANCE_SCALE for moment in _moments("s2", s2_bands, first.device)]

    def change(values: Tensor, indices: Sequence[int]) -> None:
        if moments is None:
            values.div_(REFLECTANCE_SCALE)
        else:
            mean, std = (moment[indices] for moment in moments)
            values.sub_(mean).div_(std)

    parts = [
        (group, [place for place, band in enumerate(s2_bands) if key == f"s2_{S2[band].resolution}m"])
        for key, group in groups.items()
    ]
    return assemble(parts, (PATCH_SIZE, PATCH_SIZE), change)


def assemble(
    parts: Sequence[tuple[Tensor, Sequence[int]]],
    shape: tuple[int, int],
    change: Callable[[Tensor, Sequence[int]], None],
) -> Tensor:
    """One image per sample, (B, C, H, W) float32, from groups of bands that may be of lower resolution.

    Args:
        parts: stored values (B, k, h, w) of any type, with the indices of their bands in the image.
        shape: rows and columns of the image; coarser parts are upsampled bilinearly.
        change: converts a block (b, k, h, w) float32 of the bands at these indices to physical units, in place.
    """
    first = parts[0][0]
    full = (first.shape[0], sum(len(indices) for _, indices in parts), *shape)
    on_cpu = first.device.type == "cpu"
    # On a CPU, numpy requests large memory pages and torch does not, which makes new memory several times cheaper;
    # a few samples at a time fit into the cache; and a second thread gains little.
    image = torch.from_numpy(np.empty(full, np.float32)) if on_cpu else first.new_empty(full, dtype=torch.float32)
    step = 32 if on_cpu else max(1, full[0])
    with one_thread() if on_cpu else nullcontext():
        for part, indices in parts:
            weights = _interpolation_weights(part.shape[-1], shape[-1]) if on_cpu and shape[0] == shape[1] else None
            for start in range(0, full[0], step):
                values = part[start : start + step].to(torch.float32, copy=True)  # (b, k, h, w)
                change(values, indices)
                for source, place, width in _runs(indices):
                    target = image[start : start + step, place : place + width]
                    _upsample(values[:, source : source + width], target, weights)
    return image


def _runs(indices: Sequence[int]) -> list[tuple[int, int, int]]:
    """Runs of consecutive numbers as (index of the first, first, length): [1, 2, 5] has (0, 1, 2) and (2, 5, 1)."""
    runs: list[tuple[int, int, int]] = []
    for index, place in enumerate(indices):
        if runs and place == runs[-1][1] + runs[-1][2]:
            runs[-1] = (*runs[-1][:2], runs[-1][2] + 1)
        else:
            runs.append((index, place, 1))
    return runs


def _upsample(images: Tensor, target: Tensor, weights: Tensor | None) -> None:
    """Write (b, k, h, w) float32 `images` into (b, k, H, W) `target`, with bilinear interpolation if they are smaller.

    `weights` are `_interpolation_weights(w, W)` for matrix products, which are faster on a CPU, or None.
    """
    size, full = images.shape[-1], target.shape[-1]
    exact = torch.get_float32_matmul_precision() == "highest" and not torch.is_autocast_enabled("cpu")
    if images.shape == target.shape:
        target.copy_(images)
    elif weights is None or not exact or full % size or images.shape[-2] != size:
        target.copy_(F.interpolate(images, size=target.shape[-2:], mode="bilinear", align_corners=False))
    else:  # the same in half the time: columns by a matrix product, rows directly into the target
        wide = images @ weights  # (b, k, n, W)
        factor = full // size
        for phase in range(factor):  # rows phase, phase + factor, ... lie between the same two source rows
            shift = (phase + 0.5) / factor - 0.5
            rows = target[:, :, phase::factor]  # (b, k, n, W)
            inner, edge = (rows[:, :, 1:], 0) if shift < 0 else (rows[:, :, :-1], -1)
            torch.lerp(wide[:, :, :-1], wide[:, :, 1:], shift % 1, out=inner)
            rows[:, :, edge] = wide[:, :, edge]


@cache
def _interpolation_weights(size: int, full: int) -> Tensor:
    """Weight of each of `size` pixels in each of `full` along one axis, (size, full)."""
    unit = torch.eye(size).view(size, 1, 1, size)
    return F.interpolate(unit, size=(1, full), mode="bilinear", align_corners=False).view(size, full)


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit torch operations of this thread to one core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)

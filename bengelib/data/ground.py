"""The ground that a georeferenced file covers, to refuse samples whose files lie apart. Needs no torch."""

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from rasterio.coords import disjoint_bounds
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.warp import transform_bounds

from bengelib.data.account import tell_once
from bengelib.data.geotiff import Place
from bengelib.errors import RasterError

Bounds = tuple[float, float, float, float]
_DEGREE = 111_195.0
"""Metres of a degree on a sphere of 6371 km."""
_ALIKE = 1.1
"""Factor between two extents of as many pixels from which the pixels are of different size."""


class Ground(NamedTuple):
    """The extent of a file on the ground.

    Attributes:
        path: of the file.
        crs: coordinate system, of `rasterio`.
        bounds: left, bottom, right and top, in its unit.
    """

    path: Path
    crs: Any
    bounds: Bounds


def ground_of(path: Path, file: Any) -> Ground | None:
    """The ground of an open raster; None if it has no coordinate system or no transform, as PNG and JPEG."""
    if not file.crs or file.transform.is_identity:
        return None
    left, bottom, right, top = file.bounds
    return Ground(path, file.crs, (min(left, right), min(bottom, top), max(left, right), max(bottom, top)))


def ground_at(path: Path, place: Place | None) -> Ground | None:
    """The ground of a file by its header; None if it has no coordinate system."""
    if place is None or not place.crs:
        return None
    return Ground(path, _crs(place.crs), (place.left, place.bottom, place.right, place.top))


@lru_cache(maxsize=64)
def _crs(name: str) -> CRS:
    """A coordinate system by name; looking one up takes longer than reading a small file."""
    return CRS.from_user_input(name)


def extent_of(ground: Ground) -> tuple[float, ...]:
    """Width and height of a ground in metres; of degrees, on a sphere at its middle, and in degrees behind that."""
    left, bottom, right, top = ground.bounds
    if not ground.crs.is_geographic:
        metres = ground.crs.linear_units_factor[1]
        return (right - left) * metres, (top - bottom) * metres
    width, height = right - left, top - bottom
    return width * _DEGREE * math.cos(math.radians((bottom + top) / 2)), height * _DEGREE, width, height


def pixel_of(extent: Sequence[float], shape: tuple[int, int]) -> tuple[float, ...]:
    """Width and height of a pixel in metres, and in degrees if the extent has them; see `extent_of`."""
    return tuple(length / count for length, count in zip(extent, (shape[1], shape[0]) * 2, strict=False))


def same_extent(one: Sequence[float], other: Sequence[float]) -> bool:
    """True if two extents, or sizes of pixels, agree within a tenth: in degrees if both have them, else in metres."""
    both = min(len(one), len(other))
    pairs = zip(one[:both][-2:], other[:both][-2:], strict=True)
    return all(1 / _ALIKE < a / b < _ALIKE for a, b in pairs)


def shown_metres(extent: Sequence[float]) -> str:
    """Width and height of an extent or a pixel in words."""
    return "{:.4g} x {:.4g} m".format(*extent)


def check_together(one: Ground, other: Ground, where: str) -> None:
    """Refuse two files of a sample whose grounds share nothing.

    Args:
        one: the file that was read first.
        other: another file of the same sample.
        where: the description of the other file, for the message.

    Raises:
        RasterError: naming both files and their grounds.

    Warns:
        DataWarning: their coordinate systems differ.
    """
    bounds = other.bounds
    try:
        if other.crs is not one.crs and other.crs != one.crs:
            tell_once(
                f"{where} has files in {_name(other.crs)} where other files of the same sample are in "
                f"{_name(one.crs)}, so their pixels do not lie on one grid; warp them to one (gdalwarp -t_srs -te "
                "-tr), unless each modality has a network of its own, as in late fusion"
            )
            bounds = transform_bounds(other.crs, one.crs, *other.bounds)
    except RasterioError as error:
        raise RasterError(
            f"{other.path} is in {_name(other.crs)}, which cannot be compared with {one.path} of the same sample in "
            f"{_name(one.crs)} ({error}); correct the coordinate system of one of them"
        ) from error
    if disjoint_bounds(one.bounds, bounds):
        raise RasterError(
            f"{other.path} lies elsewhere than {one.path}, a file of the same sample: {_shown(other)}, against "
            f"{_shown(one)}. Correct the table or the pattern of {where}, so that the files of a sample show the same "
            'ground, or give on_error="skip" to leave the sample out'
        )


def check_alike(grounds: Sequence[Ground], where: str) -> None:
    """Refuse files of one modality in a sample that are in two coordinate systems, or whose pixels do not match.

    Raises:
        RasterError: naming two files.
    """
    for other in grounds[1:]:
        one = grounds[0]
        if other.crs is not one.crs and other.crs != one.crs:
            raise RasterError(
                f"{other.path} is in {_name(other.crs)}, and {one.path} of the same sample in {_name(one.crs)}; warp "
                f"the files of {where} to one grid (gdalwarp -t_srs -te -tr)"
            )
        if not same_extent(extent_of(one), extent_of(other)):
            raise RasterError(
                f"{other.path} shows {shown_metres(extent_of(other))} of ground, and {one.path} of the same sample "
                f"{shown_metres(extent_of(one))}; cut the files of {where} to the same ground (gdalwarp -te)"
            )


def _shown(ground: Ground) -> str:
    left, bottom, right, top = ground.bounds
    return f"{left:.10g} to {right:.10g} east and {bottom:.10g} to {top:.10g} north in {_name(ground.crs)}"


def _name(crs: Any) -> str:
    epsg = crs.to_epsg()
    return f"EPSG:{epsg}" if epsg else str(crs.to_wkt())[:60]

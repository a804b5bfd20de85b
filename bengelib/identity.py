"""Satellite, date and location of a patch, from its ids. Needs neither torch nor pandas.

The ids of BigEarthNet are::

    S2A_MSIL2A_<date>T<time>_<column>_<row>                     (the time may have five digits)
    S1A_IW_GRDH_1SDV_<date>T<time>_<tile>_<column>_<row>        (the tile is a 100 km square of MGRS)

Ids of another form are accepted; nothing can be derived from them.
"""

import re
from datetime import date
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bengelib.bands import PATCH_SIZE

_S2 = re.compile(r"S2[A-D]_MSIL[12][AC]_(\d{8})T\d{5,6}(?:_N\d{4}_R\d{3}_T(\d\d[C-X][A-Z]{2}))?_(\d+)_(\d+)")
_S1 = re.compile(r"S1[A-D]_IW_GRDH_1S\w\w_(\d{8})T\d{6}_(\d\d[C-X][A-Z]{2})_(\d+)_(\d+)")

_COLUMN_LETTERS = ("STUVWXYZ", "ABCDEFGH", "JKLMNPQR")
_ROW_LETTERS = "ABCDEFGHJKLMNPQRSTUV"
_BANDS = "CDEFGHJKLMNPQRSTUVWX"
PATCH_METRES = 10 * PATCH_SIZE
"""Width of a patch in metres."""
_PATCHES_ACROSS = 92
"""Patches along a side of a tile of 109,800 m, the last one in part."""
_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


class Identity(NamedTuple):
    """The parts of an id; `tile` is empty where it names none, as in Sentinel-2 ids."""

    date: str
    tile: str
    column: int
    row: int


def read_id(patch_id: str) -> Identity | None:
    """The parts of a Sentinel-1 or Sentinel-2 patch id, None if its form is not that of BigEarthNet."""
    match = (_S1 if patch_id.startswith("S1") else _S2).fullmatch(patch_id)
    if match is None:
        return None
    day, tile, column, row = match.groups()
    return Identity(day, tile or "", int(column), int(row))


def season(time: date) -> float:
    """The season of ben-ge, 0 in late December and 1 in late June, from the date alone; February always has 29 days."""
    position = (time.month - 1 + time.day / _DAYS[time.month - 1]) / 12 + 9 / 365
    return round(abs(float(np.sin(np.pi * position))), 5)


def tile_origin(tile: str) -> tuple[int, int, int]:
    """EPSG code of UTM, and coordinates (metres) in it, of the upper left corner of a tile's patch grid.

    The grid begins at the MGRS square's edges rounded outwards to whole 60 m pixels: `floor(E / 60) * 60` and
    `ceil(N_top / 60) * 60`.
    """
    zone = int(tile[:2])
    latitude = 8 * _BANDS.index(tile[2]) - 76  # the middle of the band; letters repeat after 18 degrees
    easting = 100_000 * (_COLUMN_LETTERS[zone % 3].find(tile[3]) + 1)
    northing = 100_000 * ((_ROW_LETTERS.find(tile[4]) - (5 if zone % 2 == 0 else 0)) % 20)
    northing += 2_000_000 * round((110_900 * latitude - northing) / 2_000_000)
    north = latitude > 0
    top = northing + 100_000 + (0 if north else 10_000_000)
    return (32600 if north else 32700) + zone, easting // 60 * 60, -(-top // 60) * 60


@lru_cache(8192)  # a patch is read repeatedly: in every epoch, and for each modality when packed
def patch_corner(patch_id: str, patch_id_s1: str) -> tuple[int, int, int] | None:
    """EPSG code of UTM, and coordinates (metres) in it, of the upper left corner of the patch that a pair of ids names.

    None where the ids are not those of BigEarthNet, contradict each other, or name no existing tile.
    """
    s2, s1 = read_id(patch_id), read_id(patch_id_s1)
    if s1 and s2 and (s1.column != s2.column or s1.row != s2.row or (s2.tile and s1.tile != s2.tile)):
        return None
    known = s1 or s2
    if known is None or max(known.column, known.row) >= _PATCHES_ACROSS:
        return None
    origin = _origin(known.tile)
    return origin and (origin[0], origin[1] + PATCH_METRES * known.column, origin[2] - PATCH_METRES * known.row)


@cache
def _origin(tile: str) -> tuple[int, int, int] | None:
    """`tile_origin`, or None if there is no such tile."""
    zone = int(tile[:2] or 0)
    exists = 1 <= zone <= 60 and tile[3] in _COLUMN_LETTERS[zone % 3] and tile[4] in _ROW_LETTERS
    return tile_origin(tile) if exists else None


def utm(lon: NDArray[np.float64], lat: NDArray[np.float64], epsg: NDArray[np.int64]) -> NDArray[np.float64]:
    """UTM eastings and northings (metres) of longitudes and latitudes, (N, 2), accurate to a metre.

    `epsg` is the code of each zone, 326zz or 327zz. Series of Snyder 1987 (USGS Professional Paper 1395), page 61.
    """
    a, e2 = 6_378_137.0, 0.00669438
    phi = np.deg2rad(lat)
    away = np.deg2rad((lon - (6 * (epsg % 100) - 183) + 180) % 360 - 180)
    n = a / np.sqrt(1 - e2 * np.sin(phi) ** 2)
    t, c, d = np.tan(phi) ** 2, e2 / (1 - e2) * np.cos(phi) ** 2, away * np.cos(phi)
    arc = a * (
        (1 - e2 / 4 - 3 * e2**2 / 64) * phi
        - (3 * e2 / 8 + 3 * e2**2 / 32) * np.sin(2 * phi)
        + 15 * e2**2 / 256 * np.sin(4 * phi)
    )
    east = n * (d + (1 - t + c) * d**3 / 6 + (5 - 18 * t + t**2) * d**5 / 120)
    north = arc + n * np.tan(phi) * (d**2 / 2 + (5 - t + 9 * c) * d**4 / 24)
    return np.stack([500_000 + 0.9996 * east, 0.9996 * north + np.where(epsg < 32700, 0, 10_000_000)], axis=1)

"""Simulated Sentinel-1: backscatter of a `Scene` in VV and VH, in decibels.

Means by cover, with the state of the vegetation, soil moisture, frost, wind on water, the incidence angle across the
swath and the slope toward the radar; then the blur of the instrument and correlated multi-look speckle.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.special import gammaincinv, ndtr

from bengelib.bands import PATCH_SIZE
from bengelib.sim.optical import MARGIN
from bengelib.sim.procedural import Array, fractal, gaussian, key_of, rehash, smooth, white
from bengelib.sim.scene import TILE_PIXELS, Kind, Scene

LOOKS = 4.3
"""Equivalent number of looks of the speckle."""
_BLUR = 1.0
# VV and VH in dB without leaves; change of VV and VH at full green cover; sensitivity to moisture; texture in dB.
_COVERS: dict[Kind, tuple[float, float, float, float, float, float]] = {
    Kind.SEA: (0, 0, 0, 0, 0, 0), Kind.LAKE: (0, 0, 0, 0, 0, 0), Kind.RIVER: (0, 0, 0, 0, 0, 0),
    Kind.CONIFER: (-9.6, -15.2, 0.6, 1.0, 0.4, 1.1), Kind.MIXED: (-9.3, -15.0, 0.6, 1.3, 0.4, 1.1),
    Kind.BROADLEAF: (-9.0, -15.3, 0.2, 1.3, 0.4, 1.1), Kind.EVERGREEN: (-9.6, -15.3, 0.4, 0.8, 0.4, 1.1),
    Kind.YOUNG: (-10.8, -17.0, 0.5, 1.2, 0.6, 1.1), Kind.CLEARCUT: (-12.2, -19.2, 0.6, 1.2, 1.0, 0.9),
    Kind.OAK: (-10.6, -16.9, 0.3, 0.5, 0.6, 1.0), Kind.SHRUB: (-11.3, -18.0, 0.4, 1.0, 0.8, 0.9),
    Kind.HEATH: (-12.0, -18.9, 0.4, 0.8, 1.0, 0.7), Kind.PASTURE: (-12.6, -20.5, 0.9, 1.6, 1.2, 0.6),
    Kind.MEADOW: (-12.6, -20.6, 0.9, 1.6, 1.2, 0.7), Kind.DRY_GRASS: (-12.8, -20.9, 0.9, 1.8, 1.3, 0.7),
    Kind.WINTER_CEREAL: (-11.4, -20.0, -2.8, -0.8, 1.8, 0.6), Kind.RAPESEED: (-11.4, -19.2, 1.0, 3.6, 1.6, 0.6),
    Kind.SUMMER_CROP: (-11.5, -20.2, 1.4, 3.2, 1.8, 0.6), Kind.SPRING_CEREAL: (-11.5, -20.0, -2.4, -0.6, 1.8, 0.6),
    Kind.ROOT_CROP: (-11.0, -19.2, 1.4, 3.2, 1.8, 0.6), Kind.PERMANENT_CROP: (-11.2, -18.3, 0.3, 1.2, 1.2, 0.9),
    Kind.RICE: (-13.5, -21.5, 2.5, 4.5, 1.0, 0.6), Kind.CITY: (-4.0, -12.2, 0, 0, 0.1, 3.4),
    Kind.HOUSES: (-6.6, -13.8, 0, 0, 0.2, 3.0), Kind.GARDEN: (-10.3, -16.8, 0.3, 0.8, 0.5, 1.6),
    Kind.INDUSTRY: (-4.2, -13.0, 0, 0, 0.1, 4.0), Kind.ROAD: (-12.8, -20.3, 0, 0, 0.4, 1.2),
    Kind.TRACK: (-12.4, -19.3, 0.4, 0.8, 1.0, 0.6), Kind.ROCK: (-11.0, -18.9, 0.2, 0.5, 0.4, 1.4),
    Kind.SAND: (-16.0, -24.0, 0, 0, 1.5, 0.6), Kind.QUARRY: (-11.2, -19.0, 0, 0, 0.6, 1.6),
    Kind.MIRE: (-12.4, -19.3, 0.6, 1.0, 1.2, 0.7), Kind.MARSH: (-11.3, -19.0, 0.8, 1.4, 1.2, 0.9),
    Kind.GLACIER: (-12.0, -20.0, 0, 0, 0, 0.6), Kind.MOSS: (-12.4, -20.0, 0.2, 0.4, 0.8, 0.7),
    Kind.HEDGE: (-10.2, -16.2, 0.3, 1.0, 0.4, 1.0),
}  # fmt: skip
_TABLE: Array = np.array([_COVERS[kind] for kind in Kind], np.float32)
_FIELD_SPREAD: Array = np.array(
    [2.1 if Kind.WINTER_CEREAL <= kind <= Kind.RICE else 0.9 if kind > Kind.RIVER else 0 for kind in Kind], np.float32
)


@dataclass(frozen=True)
class RadarConditions:
    """Conditions of a radar pass.

    Attributes:
        ascending: whether the satellite flies north (looking east) or south (looking west).
        moisture: wetness of the soil, standard deviations.
        wind: speed in m/s.
        temperature: K; frozen ground and trees scatter less.
    """

    ascending: bool
    moisture: float
    wind: float
    temperature: float


@lru_cache(maxsize=1)
def _speckle_curve() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Speckle in dB over a standard normal number: quantiles of the gamma distribution of `LOOKS` looks."""
    normal = np.linspace(-4.5, 4.5, 361)
    return normal, 10 * np.log10(gammaincinv(LOOKS, ndtr(normal)) / LOOKS)


def speckle(key: int, x: NDArray[np.float64], y: NDArray[np.float64]) -> Array:
    """Correlated speckle of one channel in dB, (H, W); continuous from patch to patch."""
    field = gaussian_filter(white(key, x, y), _BLUR, truncate=3.0)
    steps = np.arange(-int(3 * _BLUR + 0.5), int(3 * _BLUR + 0.5) + 1)
    kernel = np.exp(-0.5 * (steps / _BLUR) ** 2)
    kernel /= kernel.sum()
    normal, decibels = _speckle_curve()
    return np.interp(field / np.sum(kernel**2), normal, decibels).astype(np.float32)


def sentinel1(
    ground: Scene, green: Array, conditions: RadarConditions, key: int, date_key: int,
    x: NDArray[np.float64], y: NDArray[np.float64],
) -> dict[str, NDArray[np.float32]]:  # fmt: skip
    """Measure a scene with Sentinel-1.

    Args:
        ground: the patch with `MARGIN` pixels around.
        green: share of green leaves, the same shape.
        conditions: of the pass.
        key: of the tile, for structure that stays from date to date.
        date_key: of the tile and date, for speckle.
        x: (W,) pixel coordinates of the columns.
        y: (H,) pixel coordinates of the rows.

    Returns:
        `VV` and `VH`, (120, 120) float32 in dB.
    """
    kind = ground.kind
    # Near range is in the west of an ascending pass and in the east of a descending one.
    across = float(x.mean()) / TILE_PIXELS
    incidence = 32.0 + 12.0 * (across if conditions.ascending else 1 - across)
    frozen = np.clip((272.5 - conditions.temperature) / 4, 0, 1)
    table = _TABLE[kind]
    structure = fractal(key_of(key, 11), x, y, (50.0, 20.0, 8.0, 3.5), 0.85)
    shared = 1.25 * table[..., 5] * structure + _FIELD_SPREAD[kind] * gaussian(rehash(ground.unit, 70))
    # Corner reflectors: few very bright pixels among walls and roofs.
    built = np.isin(kind, (Kind.CITY, Kind.HOUSES, Kind.INDUSTRY))
    corner = white(key_of(key, 12), x, y)
    shared = shared + np.where(built, 2.6 * corner + 9.0 * (corner > 1.9), 0)
    shared = shared + table[..., 4] * conditions.moisture - 0.12 * (incidence - 38) - frozen * np.where(built, 0, 2.2)

    _, slope_east = np.gradient(ground.height, 10.0)
    facing = slope_east if conditions.ascending else -slope_east
    tilt = np.degrees(np.arctan(np.clip(facing, -0.7, 0.7)))
    shared = shared + np.clip(0.24 * tilt, -5, 6)

    water = kind <= Kind.RIVER
    waves = 0.6 * smooth(key_of(date_key, 13), x, y, 90.0) + 0.3 * smooth(key_of(date_key, 14), x, y, 18.0)
    shelter = np.where(kind == Kind.SEA, 0.0, np.where(kind == Kind.LAKE, -1.6, -2.4))
    roughness = np.clip(1.15 * conditions.wind + shelter + waves, 0, 14)
    sea_vv = -25.0 + 0.95 * roughness - 0.25 * (incidence - 38)
    sea_vh = -32.0 + 0.62 * roughness - 0.05 * (incidence - 38)

    # Thermal noise hides calm water in VH; it ripples across the three sub-swaths and differs between passes.
    offset = float(gaussian(np.array([key_of(date_key, 16)], np.uint32))[0])
    floor = -28.0 + 1.4 * np.sin(6 * np.pi * across) + 1.6 * offset

    inner = slice(MARGIN, MARGIN + PATCH_SIZE)
    bands: dict[str, NDArray[np.float32]] = {}
    for channel, (name, sea, own) in enumerate((("VV", sea_vv, 0.35), ("VH", sea_vh, 0.35))):
        level = table[..., channel] + table[..., 2 + channel] * green + shared
        level = level + own * table[..., 5] * fractal(key_of(key, 15 + channel), x, y, (9.0, 4.0), 0.9)
        level = np.where(water, sea, level)
        power = gaussian_filter(10 ** (np.clip(level, -38, 22) / 10), 0.7, truncate=3.0)
        decibels = 10 * np.log10(power + 10 ** (floor / 10)) + speckle(key_of(date_key, 20 + channel), x, y)
        bands[name] = decibels[inner, inner].astype(np.float32)
    return bands

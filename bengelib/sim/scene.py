"""The simulated land: the ground at every pixel of a tile, as a function of (seed, tile, column, row) only.

Every rule uses a single pixel (noise, distance to a line, membership of a polygon), never its neighbours in the array.
So a patch shows the same ground whether it is computed alone, on a coarse grid or with a margin.
"""

from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from bengelib.sim.procedural import (
    Array,
    Ints,
    cells,
    fractal,
    gaussian,
    hash_lattice,
    key_of,
    mix,
    rehash,
    smooth,
    smooth_at,
    uniform,
    white,
)
from bengelib.sim.tiles import Landscape

TILE_PIXELS = 91 * 120


class Kind(IntEnum):
    """Kind of ground of a pixel: finer than a land-cover class, as spectra and backscatter require."""

    SEA = 0
    LAKE = 1
    RIVER = 2
    CONIFER = 3
    MIXED = 4
    BROADLEAF = 5
    EVERGREEN = 6
    YOUNG = 7
    CLEARCUT = 8
    OAK = 9
    SHRUB = 10
    HEATH = 11
    PASTURE = 12
    MEADOW = 13
    DRY_GRASS = 14
    WINTER_CEREAL = 15
    RAPESEED = 16
    SUMMER_CROP = 17
    SPRING_CEREAL = 18
    ROOT_CROP = 19
    PERMANENT_CROP = 20
    RICE = 21
    CITY = 22
    HOUSES = 23
    GARDEN = 24
    INDUSTRY = 25
    ROAD = 26
    TRACK = 27
    ROCK = 28
    SAND = 29
    QUARRY = 30
    MIRE = 31
    MARSH = 32
    GLACIER = 33
    MOSS = 34
    HEDGE = 35


# WorldCover code of each kind; `_label` changes it where maps often disagree with the ground.
_CODES = {
    Kind.SEA: 80, Kind.LAKE: 80, Kind.RIVER: 80, Kind.CONIFER: 10, Kind.MIXED: 10, Kind.BROADLEAF: 10,
    Kind.EVERGREEN: 10, Kind.YOUNG: 10, Kind.CLEARCUT: 30, Kind.OAK: 10, Kind.SHRUB: 20, Kind.HEATH: 30,
    Kind.PASTURE: 30, Kind.MEADOW: 30, Kind.DRY_GRASS: 30, Kind.WINTER_CEREAL: 40, Kind.RAPESEED: 40,
    Kind.SUMMER_CROP: 40, Kind.SPRING_CEREAL: 40, Kind.ROOT_CROP: 40, Kind.PERMANENT_CROP: 40, Kind.RICE: 40,
    Kind.CITY: 50, Kind.HOUSES: 50, Kind.GARDEN: 30, Kind.INDUSTRY: 50, Kind.ROAD: 50, Kind.TRACK: 30,
    Kind.ROCK: 60, Kind.SAND: 60, Kind.QUARRY: 60, Kind.MIRE: 90, Kind.MARSH: 90, Kind.GLACIER: 70, Kind.MOSS: 100,
    Kind.HEDGE: 10,
}  # fmt: skip
CODE_OF_KIND: NDArray[np.uint8] = np.array([_CODES[kind] for kind in Kind], np.uint8)


@dataclass(frozen=True)
class Scene:
    """The ground on a grid of H rows and W columns.

    Attributes:
        kind: (H, W) uint8, a `Kind`.
        label: (H, W) uint8, WorldCover code as in a map (with the errors of a map).
        height: (H, W) float32, metres above sea level.
        unit: (H, W) uint32, identity of the field or forest stand, from which its crop dates and vigour are drawn.
        relief: (H, W) float32, height on the scale of kilometres in standard deviations of the tile.
    """

    kind: NDArray[np.uint8]
    label: NDArray[np.uint8]
    height: Array
    unit: Ints
    relief: Array


def threshold_of(share: float) -> float:
    """Threshold that a standard normal field exceeds on a fraction `share` of the area."""
    return float(ndtri(1 - min(max(share, 1e-6), 1 - 1e-6)))


def _line_distance(
    key: int, x: NDArray[np.float64], y: NDArray[np.float64], sizes: tuple[float, ...], weight: float
) -> Array:
    """Distance in pixels to the zero line of a noise, which is a winding line."""
    here = fractal(key, x, y, sizes, weight)
    east = fractal(key, x + 1.0, y, sizes, weight) - here
    south = fractal(key, x, y + 1.0, sizes, weight) - here
    return np.abs(here) / np.maximum(np.hypot(east, south), np.float32(0.25 / sizes[0]))


def _fields(key: int, landscape: Landscape, x: Array, y: Array) -> tuple[Ints, Ints, Array, Array]:
    """Farmland parcels: strips within Voronoi blocks, each block with its own direction and field size.

    Returns:
        block and parcel identities, distance in pixels to the block border and to the nearest parcel border.
    """
    size = 6.5 * landscape.parcel
    block, _, border, dx, dy = cells(key_of(key, 1), x / np.float32(size), y / np.float32(size))
    lean = (uniform(hash_lattice(key_of(key, 2), np.zeros(1, np.int64), np.zeros(1, np.int64))) * np.pi)[0, 0]
    angle = lean + 0.6 * gaussian(rehash(block, 1))
    cosine, sine = np.cos(angle), np.sin(angle)
    along = (dx * cosine + dy * sine) * np.float32(size)
    across = (dy * cosine - dx * sine) * np.float32(size)
    width = landscape.parcel * np.exp(0.35 * gaussian(rehash(block, 2)))
    length = width * np.exp(0.9 + 0.45 * gaussian(rehash(block, 3)))
    v = along / length + uniform(rehash(block, 4))
    row = np.floor(v)
    strip = mix(rehash(block, 5) + row.astype(np.int64).astype(np.uint32) * np.uint32(0x9E3779B1))
    u = across / width + uniform(strip)

    def line(number: Array) -> Array:
        jitter = uniform(mix(strip + number.astype(np.int64).astype(np.uint32) * np.uint32(0x85EBCA6B)))
        return number + np.float32(0.8) * (jitter - np.float32(0.5))

    column = np.floor(u)
    low, high = line(column), line(column + 1)
    column = np.where(u < low, column - 1, np.where(u >= high, column + 1, column))
    inside = np.minimum(np.abs(u - low), np.abs(u - high)) * width
    ends = (np.float32(0.5) - np.abs(v - row - np.float32(0.5))) * length
    parcel = mix(rehash(strip, 7) + column.astype(np.int64).astype(np.uint32) * np.uint32(0xC2B2AE35))
    border = border * np.float32(size)
    return block, parcel, border, np.minimum(np.minimum(inside, ends), border)


def sea_distance(
    seed: int, number: int, landscape: Landscape, window: tuple[float, float, float],
    x: NDArray[np.float64], y: NDArray[np.float64],
) -> Array | None:  # fmt: skip
    """Signed distance from the coast in pixels, positive at sea, (H, W); None in a tile without sea.

    Args:
        seed: of the simulation.
        number: of the tile.
        landscape: of the tile.
        window: centre x, centre y and half width, in pixels, of the part of the tile covered by ben-ge.
        x: (W,) pixel coordinates.
        y: (H,) pixel coordinates.
    """
    if landscape.sea[1] <= 0:
        return None
    return _seaward(seed, number, landscape.sea, window, x, y) - _shoreline(seed, number, landscape.sea, window)


def _seaward(
    seed: int, number: int, sea: tuple[float, float, float], window: tuple[float, float, float],
    x: NDArray[np.float64], y: NDArray[np.float64],
) -> Array:  # fmt: skip
    """Distance from the window's centre towards the open sea in pixels, plus the raggedness of the coast."""
    bearing, _, ragged = sea
    east, south = np.sin(np.radians(bearing)), -np.cos(np.radians(bearing))
    straight = (x[None, :] - window[0]) * east + (y[:, None] - window[1]) * south
    sizes = [size for size in (ragged, ragged * 0.4, ragged * 0.16, 40.0, 16.0, 6.0) if size >= 6]
    return (straight + 0.6 * ragged * fractal(key_of(seed, number, 20), x, y, sizes, 0.55)).astype(np.float32)


@lru_cache(maxsize=64)
def _shoreline(
    seed: int, number: int, sea: tuple[float, float, float], window: tuple[float, float, float]
) -> np.float32:
    """The value of `_seaward` that the desired fraction of the window exceeds."""
    steps = np.linspace(-window[2], window[2], 60)
    return np.float32(
        np.quantile(_seaward(seed, number, sea, window, window[0] + steps, window[1] + steps), 1 - sea[1])
    )


def scene(
    seed: int, number: int, landscape: Landscape, window: tuple[float, float, float],
    x: NDArray[np.float64], y: NDArray[np.float64],
) -> Scene:  # fmt: skip
    """The ground of one tile at the crossing points of columns `x` and rows `y`.

    Args:
        seed: of the simulation.
        number: of the tile.
        landscape: of the tile.
        window: see `sea_distance`.
        x: (W,) pixel coordinates in the tile, to the east.
        y: (H,) pixel coordinates in the tile, to the south.

    Returns:
        the scene, arrays of (H, W).
    """
    land = landscape

    def key(purpose: int) -> int:
        return key_of(seed, number, purpose)

    grid_x, grid_y = np.meshgrid(x.astype(np.float32), y.astype(np.float32))
    bent_x = grid_x + 20 * smooth(key(1), x, y, 230.0)
    bent_y = grid_y + 20 * smooth(key(2), x, y, 230.0)
    speck = white(key(3), x, y)

    # Terrain
    broad = fractal(key(4), x, y, (1500.0, 650.0, 300.0), 0.6)
    fine = fractal(key(5), x, y, (140.0, 64.0, 30.0, 13.0), 0.52)
    gully = 0.8 - np.abs(smooth(key(29), x, y, 75.0)) - 0.45 * np.abs(smooth(key(30), x, y, 34.0))
    rough = land.relief * np.exp(0.3 * broad) * (0.2 * fine - 0.24 * gully)
    height = land.base + land.relief * (np.exp(0.42 * broad) - 1) / 0.45 + rough
    height = np.maximum(height, 2 + 0.4 * fine)

    block, parcel, block_border, parcel_border = _fields(key(6), land, bent_x, bent_y)
    chance = uniform(rehash(parcel, 1))

    # Open land: crops, grass, shrub by parcel
    farmed = 0.75 * fractal(key(7), x, y, (420.0, 170.0), 0.6) + 0.25 * gaussian(rehash(block, 9))
    farmed = (farmed + 0.55 * gaussian(rehash(parcel, 2)) - 0.3 * broad) / np.float32(1.06)
    is_crop = farmed > threshold_of(land.crop)
    bounds = np.cumsum(land.crops) / sum(land.crops)
    crop = np.searchsorted(bounds, chance.ravel(), side="right").reshape(chance.shape)
    kind = np.where(is_crop, Kind.WINTER_CEREAL + crop, 0).astype(np.uint8)
    grass = np.where(chance < 0.6, Kind.PASTURE, Kind.MEADOW)
    if land.savanna:
        grass = np.where(chance < 0.25, Kind.PASTURE, Kind.DRY_GRASS)
    kind = np.where(is_crop, kind, grass).astype(np.uint8)
    wild = fractal(key(8), x, y, (260.0, 95.0, 36.0, 13.0, 5.0), 0.62)
    wild = (wild + 0.35 * broad + 0.25 * fine + 0.2 * gaussian(rehash(parcel, 3))) / np.float32(1.11)
    if land.shrub:
        kind = np.where(~is_crop & (wild > threshold_of(land.shrub / (1 - land.crop))), Kind.SHRUB, kind)
    if land.heath:
        kind = np.where(~is_crop & (wild > threshold_of(land.heath / (1 - land.crop))), Kind.HEATH, kind)
    if land.savanna:
        sparse = fractal(key(9), x, y, (300.0, 120.0), 0.6) + 0.5 * gaussian(rehash(block, 6))
        here = (sparse / np.float32(1.12) > threshold_of(land.savanna)) & np.isin(kind, (Kind.PASTURE, Kind.DRY_GRASS))
        crowns = fractal(key(10), x, y, (14.0, 3.4, 1.6), 0.9)
        kind = np.where(here & (crowns > 0.1 + 0.9 * uniform(rehash(block, 8))), Kind.OAK, kind)

    # Hedges, tracks and streams
    has_hedge = uniform(rehash(mix(parcel ^ block), 4)) < land.hedges
    kind = np.where(has_hedge & (parcel_border < 0.75) & (speck > -0.8), Kind.HEDGE, kind)
    kind = np.where((block_border < 0.55) & (uniform(rehash(block, 12)) < 0.6), Kind.TRACK, kind)
    stream = _line_distance(key(11), x, y, (210.0, 60.0), 0.35)
    kind = np.where((stream < 1.3 + 0.7 * speck) & (wild > -0.3), Kind.HEDGE, kind)

    # Forest and its stands
    sizes = tuple(land.forest_scale * s for s in (520.0, 230.0, 100.0))
    wooded = fractal(key(12), x, y, sizes, 0.7)
    ragged = fractal(key(13), x, y, (44.0, 19.0, 8.0), 0.65)
    straight = uniform(rehash(block, 10)) < 0.65
    wooded = wooded + 0.5 * broad + np.where(straight, 0.42 * gaussian(rehash(parcel, 5)) + 0.1 * ragged, 0.42 * ragged)
    forest = wooded / np.float32(1.2) > threshold_of(land.forest)
    wiggle = np.float32(2.2) * smooth(key(31), x, y, 11.0)
    stand, stand_edge, stand_border, _, _ = cells(
        key(14), (bent_x + wiggle) / np.float32(34), (bent_y - wiggle) / np.float32(34), 1.0
    )
    leaf = fractal(key(15), x, y, (320.0, 90.0, 30.0), 0.65) + 0.5 * gaussian(rehash(stand, 1)) + 0.4 * broad
    leaf = leaf / np.float32(1.19)
    pure, some = threshold_of(land.conifer * 0.7), threshold_of(min(land.conifer * 1.25, 1.0))
    deciduous = np.where(uniform(rehash(stand, 2)) < land.evergreen, Kind.EVERGREEN, Kind.BROADLEAF)
    trees = np.where(leaf > pure, Kind.CONIFER, np.where(leaf > some, Kind.MIXED, deciduous))
    age = uniform(rehash(stand, 3))
    turnover = 0.4 + 0.6 * land.conifer + 0.5 * land.evergreen
    trees = np.where(age < 0.2 * turnover, Kind.YOUNG, trees)
    trees = np.where(age < 0.07 * turnover, Kind.CLEARCUT, trees)
    trees = np.where((stand_border < 0.016) & (uniform(rehash(stand_edge, 1)) < 0.22), Kind.TRACK, trees)
    kind = np.where(forest, trees, kind).astype(np.uint8)
    unit = np.where(forest, stand, parcel)

    # Mires and bogs
    wet = fractal(key(16), x, y, (170.0, 66.0, 26.0, 10.0), 0.62) - 0.35 * broad - 0.25 * fine
    wet = wet / np.float32(1.09)
    is_mire = wet > threshold_of(land.wetland)
    kind = np.where(is_mire, Kind.MIRE, kind)

    # High ground and bare ground
    worn = fractal(key(17), x, y, (90.0, 34.0, 12.0, 5.0), 0.7)
    kind = np.where((height + 130 * worn > 1750), Kind.MEADOW, kind)
    kind = np.where((height + 220 * worn > 2050), Kind.ROCK, kind)
    kind = np.where((height > 1500) & (height + 160 * worn > 2500), Kind.GLACIER, kind)
    if land.base > 180 and land.conifer > 0.6 and land.base < 300:
        kind = np.where((broad > 1.9) & (worn > 0.2), Kind.MOSS, kind)
    kind = np.where(~forest & ~is_crop & (worn + 0.4 * wild > 1.08 * threshold_of(land.bare * 1.5)), Kind.ROCK, kind)
    pit, _, _, pit_x, pit_y = cells(key(18), bent_x / np.float32(420), bent_y / np.float32(420))
    pit_size = (6 + 22 * uniform(rehash(pit, 1))) * (uniform(rehash(pit, 2)) < 0.12 + 4 * land.bare)
    outline = np.hypot(pit_x, 1.4 * pit_y) * 420 * np.exp(0.45 * smooth(key(32), x, y, 14.0))
    kind = np.where(outline < pit_size, Kind.QUARRY, kind)

    kind = _settlements(key(19), land, x, y, bent_x, bent_y, speck, kind)

    # Water
    width = land.river * (0.6 + 0.5 * np.abs(smooth(key(21), x, y, 300.0)))
    river = _line_distance(key(22), x, y, (1000.0, 320.0, 110.0), 0.36)
    if land.river:
        bank = (river > width / 2) & (river < width / 2 + 1.4 + 1.6 * worn)
        sandy = land.savanna > 0
        kind = np.where(bank & (wild > -0.2), Kind.SAND if sandy else Kind.BROADLEAF, kind)
        kind = np.where(river < width / 2, Kind.RIVER, kind)
    turn = np.float32(np.radians(35.0 + 30 * float(white(key(23), np.zeros(1), np.zeros(1))[0, 0])))
    long_x = (grid_x * np.cos(turn) + grid_y * np.sin(turn)) / np.float32(2.3)
    long_y = grid_y * np.cos(turn) - grid_x * np.sin(turn)
    lake = smooth_at(key(24), long_x / np.float32(120), long_y / np.float32(120))
    lake = lake + 0.65 * smooth_at(key(25), long_x / np.float32(50), long_y / np.float32(50))
    lake = lake + 0.42 * fractal(key(26), x, y, (42.0, 18.0, 8.0), 0.7) - 0.3 * broad
    lake = lake / np.float32(1.3)
    shore = threshold_of(land.lake)
    is_lake = lake > shore
    kind = np.where((lake > shore - 0.13) & (worn > 0.9), Kind.MARSH, kind)
    kind = np.where(is_lake, Kind.LAKE, kind)
    flat = np.minimum(np.maximum(river - width / 2, 0) / 7 if land.river else 9.0, np.maximum(shore - lake, 0) / 0.1)
    height = height - rough * np.exp(-flat)

    coast = sea_distance(seed, number, landscape, window, x, y)
    if coast is not None:
        beach = (smooth(key(27), x, y, 150.0) > 0.5) & (coast > -3.5 - worn)
        kind = np.where(beach, Kind.SAND, kind)
        kind = np.where((coast > -5) & (smooth(key(28), x, y, 120.0) > 1.3), Kind.MARSH, kind)
        kind = np.where(coast > 0, Kind.SEA, kind)
        height = np.where(coast > 0, 0, 1 + (height - 1) * (1 - np.exp(np.minimum(coast, 0) / 70)))
    kind = kind.astype(np.uint8)
    label = _label(kind, unit, speck, wild, forest)
    return Scene(kind, label, height.astype(np.float32), unit, broad)


def _settlements(
    key: int, land: Landscape, x: NDArray[np.float64], y: NDArray[np.float64], bent_x: Array, bent_y: Array,
    speck: Array, kind: NDArray[np.uint8],
) -> NDArray[np.uint8]:  # fmt: skip
    """Add towns, villages, farmsteads and roads to the open land and the forest."""
    spacing = 250.0
    town, _, _, dx, dy = cells(key_of(key, 1), bent_x / np.float32(spacing), bent_y / np.float32(spacing), 0.7)
    exists = uniform(rehash(town, 1)) < 1.05 * land.towns
    size = (8 + 75 * uniform(rehash(town, 2)) ** 2.6) * min(1.0, 0.7 + 0.3 * land.towns) * exists
    lumps = fractal(key_of(key, 2), x, y, (60.0, 24.0, 9.0), 0.75)
    radius = np.hypot(dx, dy) * spacing * np.exp(0.42 * lumps)
    angle = uniform(rehash(town, 3)) * np.float32(np.pi)
    u = (dx * np.cos(angle) + dy * np.sin(angle)) * np.float32(spacing)
    v = (dy * np.cos(angle) - dx * np.sin(angle)) * np.float32(spacing)

    def cell_hash(width: float, depth: float, salt: int) -> Ints:
        column, row = np.floor(u / width).astype(np.int64), np.floor(v / depth).astype(np.int64)
        return mix(rehash(town, salt) + column.astype(np.uint32) * np.uint32(0x9E3779B1)
                   + row.astype(np.uint32) * np.uint32(0x85EBCA6B))  # fmt: skip

    street = (np.abs(u / 9 - np.round(u / 9)) * 9 < 0.5) | (np.abs(v / 13 - np.round(v / 13)) * 13 < 0.5)
    house = cell_hash(2.0, 2.0, 4)
    fill = 0.68 - 0.35 * radius / np.maximum(size, 1)
    homes = np.where(uniform(house) < fill, Kind.HOUSES, Kind.GARDEN)
    homes = np.where(uniform(rehash(house, 1)) < 0.10, Kind.HEDGE, homes)
    homes = np.where((radius < 0.3 * size) & (size > 22) & (uniform(house) < 0.85), Kind.CITY, homes)
    homes = np.where(street, Kind.ROAD, homes)
    kind = np.where(radius < size, homes, kind)
    hall = cell_hash(9.0, 6.0, 5)
    sector = (u > 0.3 * size) & (np.abs(v) < 0.55 * size) & (size > 16)
    works = sector & (radius > 0.75 * size) & (radius < 1.25 * size)
    kind = np.where(
        works & (uniform(hall) < 0.75), np.where(uniform(rehash(hall, 1)) < 0.6, Kind.INDUSTRY, Kind.ROAD), kind
    )

    farm, _, _, fx, fy = cells(key_of(key, 3), bent_x / np.float32(46), bent_y / np.float32(46))
    yard = np.hypot(fx, fy) * 46
    on_field = (kind >= Kind.PASTURE) & (kind <= Kind.RICE)
    lived = uniform(rehash(farm, 1)) < 0.2 * land.towns + 0.05 * (land.hedges > 0.5)
    kind = np.where(lived & on_field & (yard < 3.6) & (speck > 0), Kind.HEDGE, kind)
    kind = np.where(lived & on_field & (yard < 2.2) & (speck > -0.6), Kind.HOUSES, kind)

    reach = 190.0
    _, edge, distance, _, _ = cells(key_of(key, 4), bent_x / np.float32(reach), bent_y / np.float32(reach))
    distance = distance * np.float32(reach)
    draw = uniform(rehash(edge, 1))
    main = draw < 0.35 * land.roads
    minor = draw < land.roads
    kind = np.where(minor & (distance < 1.8) & ~main & (speck > 0.6), Kind.HEDGE, kind)
    kind = np.where(main & (distance < 2.0), np.where(speck > 0.5, Kind.HEDGE, Kind.MEADOW), kind)
    kind = np.where(minor & (distance < 0.5), Kind.ROAD, kind)
    kind = np.where(main & (distance < 0.95), Kind.ROAD, kind)
    return kind.astype(np.uint8)


def _label(
    kind: NDArray[np.uint8], unit: Ints, speck: Array, wild: Array, is_forest: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """WorldCover codes, with the confusions of a real map: whole parcels, not pixels, are wrong."""
    label = CODE_OF_KIND[kind]
    draw = uniform(rehash(unit, 40))
    crop = (kind >= Kind.WINTER_CEREAL) & (kind <= Kind.RICE)
    label = np.where(crop & (draw < 0.07), 30, label)
    label = np.where(np.isin(kind, (Kind.PASTURE, Kind.MEADOW)) & (draw < 0.06), 40, label)
    label = np.where((kind == Kind.PERMANENT_CROP) & (draw > 0.6), np.where(speck > 0.3, 10, 30), label)
    label = np.where((kind == Kind.YOUNG) & (draw < 0.35), 30, label)
    label = np.where((kind == Kind.CLEARCUT) & (draw < 0.35), 10, label)
    label = np.where((kind == Kind.HEATH) & (wild > 1.4), 20, label)
    label = np.where((kind == Kind.MIRE) & (wild < -0.3), 30, label)
    label = np.where((kind == Kind.MIRE) & (wild > 1.1), 10, label)
    label = np.where((kind == Kind.GARDEN) & (speck < 0.2), 50, label)
    label = np.where((kind == Kind.QUARRY) & (draw < 0.4), 50, label)
    label = np.where((kind == Kind.TRACK) & (draw < 0.8), np.where(is_forest, 10, 40), label)
    return label.astype(np.uint8)

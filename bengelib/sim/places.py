"""The patches of a simulated ben-ge: place, date, satellites, ids, timestamps, season, climate zone, splits.

`plan` lists patches one after the other, each from its own random numbers and the previous patches, so a dataset of a
hundred patches equals the first hundred of a thousand.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from bengelib.bands import PATCH_SIZE
from bengelib.identity import tile_origin
from bengelib.sim.procedural import gaussian, hash_lattice, key_of, smooth, uniform
from bengelib.sim.scene import scene
from bengelib.sim.tiles import LANDSCAPES, TILES

GRID = 91
"""Patches along one side of a tile: columns and rows 0 to 90."""
REVISIT_SHARE = 0.06
SPLIT_NAMES = ("train", "validation", "test")
BALANCED_CODES = (10, 20, 30, 40, 50, 60, 80, 90)
"""The eight common WorldCover classes, in the sampling order of ben-ge-8k."""
# Probability of snow by month, to distribute the snow of a tile over its dates.
_SNOW_ORDER = (2, 1, 3, 12, 4, 11, 5)
# A catalogue chunk serves so many balanced patches, from so many blocks of 8 x 8 patches.
_CHUNK, _BLOCKS, _BLOCK = 1000, 256, 8


class Place(NamedTuple):
    """One patch: numbers of its tile and of the tile's date, column and row in the tile's grid."""

    tile: int
    date: int
    column: int
    row: int


@dataclass(frozen=True)
class Acquisition:
    """One satellite pass over a tile.

    Attributes:
        prefix: beginning of the patch ids, for example `S2A_MSIL2A_20170613T101031`.
        platform: `S2A`, `S2B`, `S1A` or `S1B`.
        time: UTC.
        ascending: whether the satellite flew north (always False for Sentinel-2, which looks straight down).
        orbit: relative orbit number.
    """

    prefix: str
    platform: str
    time: datetime
    ascending: bool
    orbit: int


def corner(place: Place) -> tuple[int, int, int]:
    """EPSG code and UTM coordinates (metres) of a patch's upper left corner."""
    epsg, left, top = tile_origin(TILES[place.tile].name)
    return epsg, left + place.column * PATCH_SIZE * 10, top - place.row * PATCH_SIZE * 10


@cache
def window(number: int) -> tuple[int, int, int]:
    """First column, first row and size (in patches) of the square part of a tile covered by ben-ge."""
    from rasterio.warp import transform

    tile = TILES[number]
    epsg, left, top = tile_origin(tile.name)
    east, north = transform("EPSG:4326", f"EPSG:{epsg}", [tile.lon], [tile.lat])
    size = min(GRID, int(np.ceil((tile.patches / len(tile.dates)) ** 0.5)))
    column = (east[0] - left) / 1200 - size / 2
    row = (top - north[0]) / 1200 - size / 2
    return int(np.clip(round(column), 0, GRID - size)), int(np.clip(round(row), 0, GRID - size)), size


def window_pixels(number: int) -> tuple[float, float, float]:
    """The same window as centre x, centre y and half width in pixels."""
    column, row, size = window(number)
    return (column + size / 2) * PATCH_SIZE, (row + size / 2) * PATCH_SIZE, size * PATCH_SIZE / 2


def snow_share(number: int, date: int) -> float:
    """Fraction of a tile's patches under snow on one of its dates, from its fraction over all dates."""
    tile = TILES[number]
    left = tile.snow * len(tile.dates)
    months = [int(day[5:7]) for day in tile.dates]
    snowy = [m for m in range(len(months)) if months[m] in _SNOW_ORDER]
    ranked = sorted(snowy, key=lambda m: _SNOW_ORDER.index(months[m]))
    for index in ranked:
        share = min(left, 0.97)
        if index == date:
            return share
        left -= share
    return 0.0


def _draw(seed: int, *parts: int) -> float:
    """One random number in [0, 1) that belongs to (seed, parts)."""
    return float(uniform(np.array([key_of(seed, *parts)], np.uint32))[0])


@cache
def sentinel2_acquisitions() -> dict[tuple[int, int], Acquisition]:
    """The Sentinel-2 pass of every (tile, date).

    As in ben-ge, two tiles of one pass would have equal ids, so the second has an irregular time field, and passes
    before ten o'clock often have five digits. Timestamps are the true ones.
    """
    passes: dict[tuple[int, int], Acquisition] = {}
    used: set[str] = set()
    for t, tile in enumerate(TILES):
        for d, date in enumerate(tile.dates):
            day = datetime.fromisoformat(date)
            minutes = 11 * 60 + 3 - 4.0 * tile.lon + max(0.0, tile.lat - 55) * 4.2
            orbit = 1 + int(143 * _draw(0, 1, int(minutes / 10), day.toordinal() % 5))
            seconds = 31 if _draw(0, 2, day.toordinal()) < 0.6 else 21
            time = day + timedelta(minutes=round(minutes / 10) * 10, seconds=seconds)
            platform = "S2A" if _draw(0, 3, day.toordinal()) < 0.43 else "S2B"
            if time.hour < 10 and _draw(0, 4, t, d) < 0.55:
                text = f"{time.hour}{time.minute:02d}{time.second:02d}"
            else:
                text = f"{time:%H%M%S}"
            prefix = f"{platform}_MSIL2A_{time:%Y%m%d}T{text}"
            while prefix in used:
                text = str(int(text) + 29).zfill(len(text))
                prefix = f"{platform}_MSIL2A_{time:%Y%m%d}T{text}"
                time += timedelta(seconds=1)
            used.add(prefix)
            passes[t, d] = Acquisition(prefix, platform, time, False, orbit)
    return passes


def sentinel1_acquisition(seed: int, place: Place) -> Acquisition:
    """The Sentinel-1 pass that is paired with a patch: one or two scenes for a tile and date, split by column."""
    tile = TILES[place.tile]
    east = place.column > 20 + 50 * _draw(seed, 10, place.tile, place.date) if _draw(
        seed, 11, place.tile, place.date
    ) < 0.6 else False  # fmt: skip
    parts = (place.tile, place.date, int(east))
    gaps, shares = (0, 1, -1, 2, -2, 3, -3, 5, -6), (0.48, 0.15, 0.15, 0.10, 0.09, 0.01, 0.018, 0.001, 0.001)
    gap = gaps[int(np.searchsorted(np.cumsum(shares)[:-1], _draw(seed, 12, *parts)))]
    # Passes at about six in the morning and evening, solar time; BigEarthNet has hardly any between 17 and 18 h UTC.
    evening = 17.75 - tile.lon / 15
    ascending = _draw(seed, 13, *parts) < 0.504 and not 17 < evening < 18
    hours = (evening if ascending else 6.15 - tile.lon / 15) + 0.4 * (_draw(seed, 14, *parts) - 0.5)
    hours = min(max(hours, 4.02), 18.9)
    day = datetime.fromisoformat(tile.dates[place.date]) + timedelta(days=gap)
    time = day + timedelta(seconds=round(hours * 3600))
    platform = "S1A" if _draw(seed, 15, *parts) < 0.6 else "S1B"
    prefix = f"{platform}_IW_GRDH_1SDV_{time:%Y%m%dT%H%M%S}"
    return Acquisition(prefix, platform, time, ascending, 1 + int(175 * _draw(seed, 16, *parts)))


def climate_zone(seed: int, place: Place, relief: float) -> int:
    """Koeppen-Geiger code of a patch on land: the tile's zones, from low to high ground with soft borders.

    Args:
        seed: of the simulation.
        place: of the patch.
        relief: mean of `Scene.relief` over the patch, in standard deviations.
    """
    zones = LANDSCAPES[TILES[place.tile].name].zones
    x = np.array([place.column * 120.0 + 60])
    y = np.array([place.row * 120.0 + 60])
    region = float(smooth(key_of(seed, place.tile, 30), x, y, 2600.0)[0, 0])
    mixed = ndtr((relief + 0.6 * region) / 1.17)
    bounds = np.cumsum([share for _, share in zones])
    return zones[int(np.searchsorted(bounds[:-1], mixed))][0]


def split_of(seed: int, index: int) -> str:
    """`train`, `validation` or `test` for the patch of an index: eight, one and one of every ten, by hash."""
    return SPLIT_NAMES[max(0, _ranks(seed, index // 10)[index % 10] - 7)]


@lru_cache(maxsize=256)
def _ranks(seed: int, ten: int) -> tuple[int, ...]:
    """A shuffled order of ten patches: ranks 0 to 7 are for training, 8 for validation, 9 for testing."""
    return tuple(sorted(range(10), key=lambda i: key_of(seed, 40, ten, i)))


@lru_cache(maxsize=4)
def _catalogue(seed: int, chunk: int) -> tuple[list[tuple[int, int, int]], NDArray[np.float64]]:
    """Candidate places for weighted balanced sampling.

    Chunk k is for patches 1000 k to 1000 k + 999, so that a draw does not depend on the number of patches.

    Returns:
        (tile, column, row) of the candidates, and for each class the running sum of their fractions, estimated from 25
        points: (candidates, 8).
    """
    rng = np.random.Generator(np.random.Philox(key=[seed, 1_000_000_007 + chunk]))
    weights = np.cumsum([tile.patches for tile in TILES]) / sum(tile.patches for tile in TILES)
    places: list[tuple[int, int, int]] = []
    fractions: list[NDArray[np.float64]] = []
    for block in range(_BLOCKS):
        number = int(np.searchsorted(weights, _even(seed, block + chunk * _BLOCKS)))
        first_column, first_row, size = window(number)
        side = min(_BLOCK, size)
        column = first_column + int(rng.integers(0, size - side + 1))
        row = first_row + int(rng.integers(0, size - side + 1))
        steps = np.arange(side * 5, dtype=np.float64) * 24 + 12
        x, y = column * PATCH_SIZE + steps, row * PATCH_SIZE + steps
        ground = scene(seed, number, LANDSCAPES[TILES[number].name], window_pixels(number), x, y)
        codes = ground.label.reshape(side, 5, side, 5)
        shares = np.stack([(codes == code).mean((1, 3)) for code in BALANCED_CODES], -1)
        places += [(number, column + c, row + r) for r in range(side) for c in range(side)]
        fractions.append(shares.reshape(side * side, -1))
    return places, np.cumsum(np.concatenate(fractions), axis=0)


def plan(patches: int, seed: int, sampling: str) -> list[Place]:
    """Choose the places and dates of `patches` patches.

    Args:
        patches: number of patches.
        seed: of the simulation.
        sampling: `natural` makes every patch of ben-ge equally likely; `balanced` draws patch i with the fraction of
            class i % 8 as its weight, like the authors of ben-ge-8k (where classes come in blocks instead).

    Returns:
        Distinct places; about a tenth touch an earlier one of the same acquisition and a few repeat an earlier place on
        another date, which imitates the leakage of the real dataset.
    """
    dates = [(number, date) for number, tile in enumerate(TILES) for date in range(len(tile.dates))]
    weights = np.cumsum([TILES[number].patches / len(TILES[number].dates) for number, _ in dates])
    windows = [window(number) for number in range(len(TILES))]
    groups = len(BALANCED_CODES) if sampling == "balanced" else 1
    places: list[Place] = []
    taken: set[Place] = set()
    earlier: dict[tuple[str, int], list[Place]] = {}
    for index in range(patches):
        rng = np.random.Generator(np.random.Philox(key=[seed, index]))
        group = index % groups
        kin = _kinship(seed, index)
        parents = earlier.get((kin[1], group)) if kin else None
        place = None
        if kin and parents:
            place = _relative(rng, parents[int(rng.integers(len(parents)))], kin[0] == "beside", taken, windows)
        # Acquisitions in even steps keep their frequencies near the true ones in small datasets as well.
        even = _even(seed, index) * weights[-1]
        attempts = 0
        while place is None:
            if sampling == "balanced":
                candidates, running = _catalogue(seed, index // _CHUNK)
                at = np.searchsorted(running[:, group], rng.random() * running[-1, group])
                tile, column, row = candidates[int(at)]
                date = int(rng.integers(len(TILES[tile].dates)))
            else:
                tile, date = dates[int(np.searchsorted(weights, even))]
                first_column, first_row, size = windows[tile]
                column = first_column + int(rng.integers(size))
                row = first_row + int(rng.integers(size))
            candidate = Place(tile, date, column, row)
            attempts += 1
            if candidate not in taken and (attempts > 60 or not _touches(candidate, taken)):
                place = candidate
        places.append(place)
        taken.add(place)
        earlier.setdefault((split_of(seed, index), group), []).append(place)
    return places


def _even(seed: int, index: int) -> float:
    """The `index`-th of a low-discrepancy sequence of numbers in [0, 1)."""
    return (_draw(seed, 61) + index * 0.6180339887498949) % 1.0


def _kinship(seed: int, index: int) -> tuple[str, str] | None:
    """Kinship of a patch with an earlier one (`beside` it, or it `again` on another date), and the split of that one.

    One of every ten patches is beside an earlier one. In 25 such tens, two test patches are beside a training patch and
    two training patches beside a test patch: 16 % of the test patches touch a training patch, as do 16 % of the
    validation patches. A random choice would make these fractions vary between small datasets.
    """
    ten = index // 10
    turn = (ten + int(25 * _draw(seed, 62))) % 25
    child, parent = {0: 2, 12: 2, 3: 1, 15: 1}.get(turn, 0), {6: 2, 18: 2, 9: 1, 21: 1}.get(turn, 0)
    ranks = _ranks(seed, ten)
    if ranks[index % 10] == (0, 8, 9)[child]:
        return "beside", SPLIT_NAMES[parent]
    if index % 10 == int(10 * _draw(seed, 63, ten)) and _draw(seed, 64, ten) < REVISIT_SHARE * 11:
        return "again", SPLIT_NAMES[0]
    return None


def _around(place: Place) -> list[Place]:
    steps = [(dc, dr) for dc in (-1, 0, 1) for dr in (-1, 0, 1) if (dc, dr) != (0, 0)]
    return [place._replace(column=place.column + dc, row=place.row + dr) for dc, dr in steps]


def _touches(place: Place, taken: set[Place]) -> bool:
    return any(neighbour in taken for neighbour in _around(place))


def _relative(
    rng: np.random.Generator, parent: Place, beside: bool, taken: set[Place], windows: list[tuple[int, int, int]]
) -> Place | None:
    """A free place beside `parent`, or `parent` on another date; None if neither exists."""
    if not beside:
        other = parent._replace(date=int(rng.integers(len(TILES[parent.tile].dates))))
        return None if other in taken else other
    first_column, first_row, size = windows[parent.tile]
    around = _around(parent)
    candidate = around[int(rng.integers(len(around)))]
    inside = 0 <= candidate.column - first_column < size and 0 <= candidate.row - first_row < size
    return candidate if inside and candidate not in taken else None


def acquisition_noise(seed: int, place: Place, purpose: int) -> float:
    """A standard normal number for an acquisition (tile and date), equal for all its patches."""
    node = np.zeros(1, np.int64)
    return float(gaussian(hash_lattice(key_of(seed, 50, place.tile, place.date, purpose), node, node))[0, 0])


def tile_pixels(place: Place, margin: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pixel coordinates (columns, rows) of a patch in its tile, with `margin` pixels around."""
    steps = np.arange(-margin, PATCH_SIZE + margin, dtype=np.float64)
    return place.column * PATCH_SIZE + steps, place.row * PATCH_SIZE + steps

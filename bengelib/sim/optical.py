"""Simulated Sentinel-2: the measurement of a `Scene` by an optical satellite on a date.

A pixel is a mixture of green leaves and background (soil, litter, bark, roofs), by a calendar that depends on the crop,
the climate zone and the latitude. Texture, slope, snow, clouds and haze modify it. All bands come from one image at
10 m; the 20 m and 60 m bands are its block means. Spectra are in digital numbers (reflectance times 10,000).
"""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from bengelib.bands import PATCH_SIZE, S2
from bengelib.sim.procedural import Array, fractal, gaussian, hash_lattice, key_of, rehash, smooth, uniform, white
from bengelib.sim.scene import Kind, Scene, threshold_of

MARGIN = 8
"""Margin around a patch in pixels, for blur, slopes and shadows."""

# Digital numbers, bands B01 B02 B03 B04 B05 B06 B07 B08 B8A B09 B11 B12.
_SOIL = (470, 670, 930, 1190, 1510, 1720, 1830, 1980, 2120, 2180, 2550, 2150)
_LITTER = (350, 520, 800, 1000, 1390, 1740, 1940, 2140, 2340, 2400, 2900, 2100)
_BARK = (190, 250, 350, 400, 620, 1000, 1180, 1320, 1450, 1510, 1400, 820)
_GRASS = (170, 220, 610, 265, 1150, 3600, 4450, 4650, 4800, 4700, 2150, 980)
_CROP = (180, 215, 580, 240, 1010, 3500, 4300, 4550, 4650, 4550, 1930, 870)
_CONIFER = (120, 125, 280, 165, 470, 1620, 2000, 2140, 2240, 2280, 800, 370)
_MIXED = (140, 145, 345, 190, 610, 2150, 2680, 2830, 2950, 2960, 1180, 520)
_BROADLEAF = (160, 165, 430, 200, 820, 2850, 3600, 3780, 3930, 3900, 1620, 690)
_EVERGREEN = (150, 175, 370, 260, 660, 1700, 2050, 2230, 2340, 2390, 1200, 590)
_OAK = (190, 230, 430, 380, 800, 1650, 1920, 2110, 2260, 2320, 1560, 900)
_YOUNG = (180, 205, 450, 300, 850, 2250, 2780, 2940, 3080, 3080, 1650, 780)
_SHRUB = (230, 280, 510, 450, 900, 1850, 2150, 2350, 2500, 2550, 1850, 1080)
_HEATH = (190, 225, 420, 360, 780, 1620, 1880, 2040, 2180, 2240, 1520, 850)
_MIRE = (170, 205, 420, 370, 820, 1820, 2150, 2300, 2440, 2460, 1500, 740)
_PEAT = (240, 320, 480, 610, 900, 1200, 1350, 1480, 1620, 1680, 1700, 1000)
_ROOFS = (860, 1080, 1340, 1530, 1700, 1840, 1960, 2110, 2170, 2200, 2380, 2150)
_CITY = (940, 1110, 1270, 1380, 1490, 1600, 1700, 1830, 1870, 1890, 1980, 1860)
_HALLS = (1250, 1450, 1650, 1760, 1830, 1900, 1960, 2050, 2080, 2060, 2150, 1950)
_ASPHALT = (750, 920, 1130, 1290, 1470, 1640, 1760, 1910, 1980, 2020, 2200, 1950)
_ROCK = (780, 920, 1120, 1270, 1400, 1520, 1590, 1680, 1740, 1770, 2000, 1750)
_SAND = (1250, 1550, 2000, 2400, 2620, 2750, 2850, 2980, 3080, 3110, 3500, 3100)
_GRAVEL = (1150, 1380, 1720, 1990, 2150, 2260, 2330, 2420, 2480, 2500, 2800, 2450)
_SEA = (270, 255, 225, 120, 105, 85, 82, 76, 68, 70, 52, 38)
_LAKE = (70, 105, 115, 88, 90, 98, 106, 112, 104, 88, 80, 56)
_RIVER = (220, 270, 390, 290, 330, 260, 250, 235, 205, 190, 110, 80)
_SNOW = (7600, 7700, 7600, 7550, 7450, 7350, 7250, 7100, 6950, 6600, 850, 650)
_CLOUD = (6200, 6000, 5900, 6000, 6100, 6200, 6250, 6300, 6300, 5200, 4000, 3100)
_VISIBLE = np.array((1, 1, 0.8, 1, 0.7, 0.1, 0, 0, 0, 0, 0, 0), np.float32)
_INFRARED = np.array((0, 0, 0.1, 0, 0.4, 0.9, 1, 1, 1, 1, 0.5, 0.3), np.float32)
_SHORT_WAVE = np.array((0, 0, 0, 0.2, 0.2, 0, 0, 0, 0, 0, 0.7, 1), np.float32)
_HAZE = (1.25, 1.0, 0.72, 0.52, 0.42, 0.33, 0.28, 0.23, 0.21, 0.2, 0.08, 0.05)
# The atmospheric correction of the real data overcorrects the shortest wavelengths.
_OFFSET = (-24, -6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)

# Green cover through the year at 47 degrees north: (day of year, fraction) knots, periodic.
_CALENDARS: dict[str, tuple[tuple[float, float], ...]] = {
    "none": ((1, 0.0),),
    "evergreen": ((20, 0.78), (110, 0.82), (170, 0.95), (250, 0.92), (320, 0.8)),
    "deciduous": ((90, 0.05), (112, 0.15), (135, 0.85), (170, 0.92), (255, 0.78), (290, 0.42), (315, 0.08)),
    "half": ((90, 0.35), (112, 0.42), (138, 0.88), (170, 0.93), (255, 0.84), (295, 0.58), (320, 0.38)),
    "grass": ((50, 0.32), (90, 0.48), (130, 0.82), (160, 0.76), (200, 0.62), (260, 0.6), (310, 0.45), (345, 0.34)),
    "wild": ((60, 0.15), (100, 0.25), (145, 0.66), (180, 0.62), (220, 0.45), (260, 0.38), (310, 0.22)),
    "winter cereal": (
        (15, 0.2), (75, 0.32), (110, 0.62), (140, 0.9), (165, 0.76), (185, 0.3), (200, 0.1), (235, 0.08), (280, 0.06),
        (310, 0.13), (345, 0.2),
    ),
    "rapeseed": (
        (15, 0.35), (80, 0.45), (115, 0.8), (150, 0.82), (180, 0.4), (200, 0.12), (240, 0.18), (270, 0.36), (310, 0.44)
    ),
    "spring cereal": (
        (95, 0.05), (120, 0.14), (150, 0.74), (175, 0.88), (200, 0.52), (220, 0.16), (245, 0.1), (300, 0.07)
    ),
    "summer crop": (
        (110, 0.04), (135, 0.09), (165, 0.5), (190, 0.88), (225, 0.86), (255, 0.45), (275, 0.13), (300, 0.06)
    ),
    "root crop": ((110, 0.04), (150, 0.3), (180, 0.83), (240, 0.78), (275, 0.42), (300, 0.08)),
    "permanent": ((80, 0.2), (130, 0.4), (180, 0.46), (250, 0.42), (310, 0.25)),
    "shrub": ((20, 0.5), (110, 0.62), (150, 0.6), (230, 0.45), (320, 0.5)),
    "rice": ((140, 0.03), (165, 0.3), (200, 0.85), (245, 0.7), (270, 0.25), (300, 0.08)),
    "garden": ((50, 0.3), (130, 0.6), (200, 0.55), (310, 0.35)),
}  # fmt: skip
# Changes where summers are dry (zones 7, 8, 9).
_DRY_SUMMER: dict[str, tuple[tuple[float, float], ...]] = {
    "grass": ((15, 0.6), (75, 0.74), (110, 0.7), (140, 0.42), (168, 0.16), (270, 0.12), (300, 0.2), (335, 0.45)),
    "wild": ((15, 0.48), (75, 0.62), (110, 0.6), (140, 0.3), (165, 0.1), (270, 0.06), (300, 0.12), (335, 0.32)),
    "winter cereal": ((15, 0.4), (80, 0.8), (110, 0.72), (140, 0.25), (160, 0.07), (300, 0.06), (335, 0.2)),
    "spring cereal": ((15, 0.3), (80, 0.7), (115, 0.78), (145, 0.35), (165, 0.07), (300, 0.06), (335, 0.14)),
    "rapeseed": ((15, 0.5), (80, 0.82), (115, 0.6), (150, 0.15), (300, 0.08), (335, 0.3)),
    "garden": ((15, 0.4), (90, 0.5), (200, 0.3), (270, 0.25)),
}


@dataclass(frozen=True)
class _Cover:
    """Appearance of a `Kind`: spectra of leaves and background, calendar, texture and visible snow."""

    leaf: tuple[int, ...]
    ground: tuple[int, ...]
    calendar: str
    dead: float
    """Fraction of litter or straw in the background; the rest is `ground`."""
    rough: float
    """Standard deviation of brightness from pixel to pixel (canopy, roofs)."""
    vary: float
    """Standard deviation of brightness and vigour from field to field."""
    snow: float
    """Fraction of the ground snow that is visible from above."""


_COVERS: dict[Kind, _Cover] = {
    Kind.SEA: _Cover(_SEA, _SEA, "none", 0, 0.03, 0, 0.8),
    Kind.LAKE: _Cover(_LAKE, _LAKE, "none", 0, 0.02, 0, 0.8),
    Kind.RIVER: _Cover(_RIVER, _RIVER, "none", 0, 0.04, 0, 0.35),
    Kind.CONIFER: _Cover(_CONIFER, _BARK, "evergreen", 0.05, 0.21, 0.13, 0.10),
    Kind.MIXED: _Cover(_MIXED, _BARK, "half", 0.1, 0.19, 0.12, 0.14),
    Kind.BROADLEAF: _Cover(_BROADLEAF, _BARK, "deciduous", 0.15, 0.17, 0.11, 0.2),
    Kind.EVERGREEN: _Cover(_EVERGREEN, _BARK, "evergreen", 0.3, 0.22, 0.14, 0.2),
    Kind.YOUNG: _Cover(_YOUNG, _BARK, "half", 0.5, 0.18, 0.16, 0.35),
    Kind.CLEARCUT: _Cover(_GRASS, _BARK, "wild", 0.6, 0.12, 0.14, 0.7),
    Kind.OAK: _Cover(_OAK, _SOIL, "evergreen", 0.5, 0.12, 0.10, 0.3),
    Kind.SHRUB: _Cover(_SHRUB, _SOIL, "shrub", 0.55, 0.2, 0.13, 0.5),
    Kind.HEATH: _Cover(_HEATH, _PEAT, "shrub", 0.35, 0.10, 0.08, 0.8),
    Kind.PASTURE: _Cover(_GRASS, _SOIL, "grass", 0.6, 0.045, 0.13, 1.0),
    Kind.MEADOW: _Cover(_GRASS, _SOIL, "grass", 0.75, 0.07, 0.16, 1.0),
    Kind.DRY_GRASS: _Cover(_GRASS, _SOIL, "wild", 0.75, 0.08, 0.12, 1.0),
    Kind.WINTER_CEREAL: _Cover(_CROP, _SOIL, "winter cereal", 0.35, 0.035, 0.16, 1.0),
    Kind.RAPESEED: _Cover(_CROP, _SOIL, "rapeseed", 0.3, 0.035, 0.15, 1.0),
    Kind.SUMMER_CROP: _Cover(_CROP, _SOIL, "summer crop", 0.2, 0.04, 0.18, 1.0),
    Kind.SPRING_CEREAL: _Cover(_CROP, _SOIL, "spring cereal", 0.35, 0.035, 0.16, 1.0),
    Kind.ROOT_CROP: _Cover(_CROP, _SOIL, "root crop", 0.15, 0.04, 0.18, 1.0),
    Kind.PERMANENT_CROP: _Cover(_SHRUB, _SOIL, "permanent", 0.4, 0.1, 0.14, 0.8),
    Kind.RICE: _Cover(_CROP, _PEAT, "rice", 0.3, 0.03, 0.14, 1.0),
    Kind.CITY: _Cover(_GRASS, _CITY, "none", 0, 0.2, 0.05, 0.4),
    Kind.HOUSES: _Cover(_GRASS, _ROOFS, "garden", 0, 0.26, 0.05, 0.55),
    Kind.GARDEN: _Cover(_GRASS, _ROOFS, "grass", 0.4, 0.15, 0.08, 0.8),
    Kind.INDUSTRY: _Cover(_HALLS, _HALLS, "none", 0, 0.2, 0.3, 0.5),
    Kind.ROAD: _Cover(_GRASS, _ASPHALT, "none", 0, 0.08, 0.03, 0.3),
    Kind.TRACK: _Cover(_GRASS, _SOIL, "wild", 0.3, 0.08, 0.06, 0.9),
    Kind.ROCK: _Cover(_GRASS, _ROCK, "wild", 0.1, 0.13, 0.08, 0.9),
    Kind.SAND: _Cover(_SAND, _SAND, "none", 0, 0.06, 0.06, 0.9),
    Kind.QUARRY: _Cover(_GRAVEL, _GRAVEL, "none", 0, 0.14, 0.12, 0.9),
    Kind.MIRE: _Cover(_MIRE, _PEAT, "wild", 0.3, 0.14, 0.14, 0.9),
    Kind.MARSH: _Cover(_GRASS, _PEAT, "wild", 0.4, 0.09, 0.10, 0.9),
    Kind.GLACIER: _Cover(_SNOW, _SNOW, "none", 0, 0.05, 0, 1.0),
    Kind.MOSS: _Cover(_HEATH, _ROCK, "shrub", 0.2, 0.08, 0.08, 1.0),
    Kind.HEDGE: _Cover(_BROADLEAF, _BARK, "deciduous", 0.2, 0.14, 0.10, 0.3),
}
_LEAF: Array = np.array([_COVERS[kind].leaf for kind in Kind], np.float32)
_GROUND: Array = np.array(
    [
        np.array(_COVERS[kind].ground) * (1 - _COVERS[kind].dead) + np.array(_LITTER) * _COVERS[kind].dead
        if _COVERS[kind].dead else _COVERS[kind].ground for kind in Kind
    ], np.float32,
)  # fmt: skip
_ROUGH: Array = np.array([_COVERS[kind].rough for kind in Kind], np.float32)
_VARY: Array = np.array([_COVERS[kind].vary for kind in Kind], np.float32)
_SNOW_SHOWN: Array = np.array([_COVERS[kind].snow for kind in Kind], np.float32)

_SOILED = np.array([Kind.PASTURE <= kind <= Kind.RICE for kind in Kind])


@dataclass(frozen=True)
class Conditions:
    """Conditions on the date of an acquisition.

    Attributes:
        time: of the pass, UTC.
        lon: degrees.
        lat: degrees.
        zone: Koeppen-Geiger code of the location (0 for open water).
        earliness: advance of the season in this region, standard deviations.
        vigour: green cover relative to a normal year, -1 to 1 standard deviations.
        moisture: wetness of the soil, standard deviations.
        haze: standard deviations.
        cloudy: fraction of the acquisition under cloud.
        snow: fraction of the acquisition's patches under snow.
    """

    time: datetime
    lon: float
    lat: float
    zone: int
    earliness: float
    vigour: float
    moisture: float
    haze: float
    cloudy: float
    snow: float


def sun_position(time: datetime, lon: float, lat: float) -> tuple[float, float]:
    """Zenith and azimuth (from north, clockwise) of the sun in radians, to about a degree."""
    day = time.timetuple().tm_yday + (time.hour + time.minute / 60) / 24
    declination = np.radians(-23.44) * np.cos(2 * np.pi * (day + 9) / 365.24)
    hour_angle = np.radians((time.hour + time.minute / 60 - 12) * 15 + lon)
    phi = np.radians(lat)
    cosine = np.sin(phi) * np.sin(declination) + np.cos(phi) * np.cos(declination) * np.cos(hour_angle)
    zenith = np.arccos(np.clip(cosine, -1, 1))
    azimuth = np.pi + np.arctan2(
        np.sin(hour_angle), np.cos(hour_angle) * np.sin(phi) - np.tan(declination) * np.cos(phi)
    )
    return float(zenith), float(azimuth)


def green_tables(zone: int, lat: float) -> Array:
    """Green cover of every `Kind` for every day of a year of 366 days: (kinds, 366) float32 in [0, 1]."""
    dry = zone in (7, 8, 9)
    stretch = 0.95 if dry else 0.9 if zone in (15, 16) else 1 + max(0.0, lat - 46) * 0.033
    days = np.arange(366, dtype=np.float64)
    central = np.clip(200 + (days - 200) * stretch, 200 - 182.5, 200 + 182.5) % 365
    tables = {}
    for name, knots in _CALENDARS.items():
        chosen = _DRY_SUMMER.get(name, knots) if dry else knots
        at, share = zip(*chosen, strict=True)
        curve = np.interp(central, at, share, period=365)
        if name == "grass" and zone in (15, 16):
            curve = 0.3 + 0.7 * curve
        if name == "grass" and lat > 58:
            curve = np.where(np.abs(days - 200) > 95, 0.6 * curve, curve)
        tables[name] = curve
    return np.array([tables[_COVERS[kind].calendar] for kind in Kind], np.float32)


def green_cover(ground: Scene, conditions: Conditions) -> Array:
    """Fraction of green leaves per pixel on the date, with a calendar for each field: (H, W) float32."""
    day = conditions.time.timetuple().tm_yday
    shift = np.rint(7 * gaussian(rehash(ground.unit, 60)) + 5 * conditions.earliness).astype(np.int64)
    table = green_tables(conditions.zone, conditions.lat)
    green = table[ground.kind, (day + shift) % 366]
    vigour = 1 + 0.12 * conditions.vigour + _VARY[ground.kind] * gaussian(rehash(ground.unit, 61))
    # A third of the meadows is freshly cut at any time of the summer.
    cut = (ground.kind == Kind.MEADOW) & (uniform(rehash(ground.unit, 62 + day // 20)) < 0.25) & (140 < day < 290)
    return np.clip(green * vigour * np.where(cut, np.float32(0.6), np.float32(1)), 0, 1).astype(np.float32)


def sentinel2(
    ground: Scene, green: Array, conditions: Conditions, key: int, date_key: int,
    x: NDArray[np.float64], y: NDArray[np.float64],
) -> dict[str, NDArray[np.uint16]]:  # fmt: skip
    """Measure a scene with Sentinel-2.

    Args:
        ground: the patch with `MARGIN` pixels around.
        green: from `green_cover`, of the same shape.
        conditions: of the acquisition.
        key: of the tile, for texture that is constant over dates.
        date_key: of the tile and date, for snow, clouds, haze and noise.
        x: (W,) pixel coordinates of the columns.
        y: (H,) pixel coordinates of the rows.

    Returns:
        Digital numbers by band name, uint16 of 120, 60 or 20 pixels along a side.
    """
    kind = ground.kind
    grain = 0.75 * smooth(key_of(key, 1), x, y, 2.3) + 0.45 * white(key_of(key, 2), x, y)
    grain = grain + 0.5 * fractal(key_of(key, 3), x, y, (24.0, 9.0), 0.8)
    patchy = fractal(key_of(key, 4), x, y, (60.0, 22.0, 8.0), 0.75)
    green = np.clip(green * (1 + 0.5 * _VARY[kind] * patchy), 0, 1)
    soil = np.exp(0.34 * gaussian(rehash(ground.unit, 63)) + 0.1 * patchy - 0.14 * conditions.moisture)
    soil = np.where(_SOILED[kind], soil, np.exp(0.5 * _VARY[kind] * gaussian(rehash(ground.unit, 63))))
    bright = np.exp(_ROUGH[kind] * grain + 0.5 * _VARY[kind] * gaussian(rehash(ground.unit, 64)))
    leaf_colour = _signature(key_of(key, 5), 0.09, 0.05, 0.10)
    soil_colour = _signature(key_of(key, 6), 0.20, 0.12, 0.14)
    picture: Array = (leaf_colour * _LEAF).T[:, kind] * green
    picture += (np.where(_SOILED[:, None], soil_colour, 1) * _GROUND).T[:, kind] * ((1 - green) * soil)
    water = kind <= Kind.RIVER
    murk = 0.22 * gaussian(np.array([key_of(date_key, 5)], np.uint32))[0] + 0.16 * smooth(
        key_of(date_key, 6), x, y, 260.0
    )
    bright = bright * np.where(water, np.exp(murk + 0.05 * patchy), 1)
    # Pigments and water content differ between fields: visible and short-wave bands vary independently.
    tint = 0.8 * _VARY[kind] * gaussian(rehash(ground.unit, 65)) + 0.35 * _ROUGH[kind] * patchy
    dryness = 0.9 * _VARY[kind] * gaussian(rehash(ground.unit, 66))
    picture *= bright * np.exp(_VISIBLE[:, None, None] * tint + _SHORT_WAVE[:, None, None] * dryness)

    # The atmospheric correction is wrong by some per cent, differently in every acquisition.
    picture *= _signature(key_of(date_key, 7), 0.08, 0.05, 0.06)[:, None, None]
    zenith, azimuth = sun_position(conditions.time, conditions.lon, conditions.lat)
    slope_south, slope_east = np.gradient(ground.height, 10.0)
    toward = slope_south * np.cos(azimuth) - slope_east * np.sin(azimuth)
    lit = (np.cos(zenith) + np.sin(zenith) * toward) / np.sqrt(1 + slope_south**2 + slope_east**2) / np.cos(zenith)
    lit = 1 + 0.75 * (np.clip(lit, 0.15, 2.2) - 1)
    # Long shadows of trees and houses darken rough surfaces when the sun is low.
    low_sun = np.clip((np.degrees(zenith) - 45) / 40, -0.6, 1)
    picture *= (lit * (1 - np.minimum(_ROUGH[kind], 0.2) * low_sun)).astype(np.float32)

    picture = _snow(picture, ground, conditions, date_key, x, y)
    wavelength = np.array(_HAZE, np.float32)[:, None, None]
    veil = 48 * conditions.haze + 12 * smooth(key_of(date_key, 3), x, y, 500.0)
    picture += wavelength * np.maximum(veil, -60) + np.array(_OFFSET, np.float32)[:, None, None]
    if conditions.cloudy > 0:
        picture = _clouds(picture, conditions, date_key, x, y, zenith, azimuth)

    inner = slice(MARGIN, MARGIN + PATCH_SIZE)
    bands: dict[str, NDArray[np.uint16]] = {}
    for i, (name, band) in enumerate(S2.items()):
        sharp = gaussian_filter(picture[i], 0.55, truncate=3.0)[inner, inner]
        factor = band.resolution // 10
        side = PATCH_SIZE // factor
        if factor > 1:
            sharp = sharp.reshape(side, factor, side, factor).mean((1, 3))
        noise = white(key_of(date_key, 100 + i), x[inner][:side], y[inner][:side])
        bands[name] = np.clip(np.rint(sharp + noise * (4 + 0.006 * sharp)), 1, 20000).astype(np.uint16)
    return bands


def _signature(key: int, visible: float, infrared: float, short_wave: float) -> Array:
    """One factor per band (12,) that belongs to a tile or an acquisition, smooth over the spectrum.

    Soils, tree species and atmospheres differ between regions and days, so a model can recognise a location it has
    seen, as in real data.
    """
    draws = gaussian(hash_lattice(key, np.arange(4), np.arange(1)))[0]
    tilt = np.array((1, 0.8, 0.3, -0.2, -0.3, 0, 0, 0, 0, 0, 0, 0), np.float32)
    exponent = visible * draws[0] * _VISIBLE + infrared * draws[1] * _INFRARED + short_wave * draws[2] * _SHORT_WAVE
    return np.exp(exponent + 0.6 * visible * draws[3] * tilt).astype(np.float32)


def _snow(
    picture: Array, ground: Scene, conditions: Conditions, date_key: int,
    x: NDArray[np.float64], y: NDArray[np.float64],
) -> Array:  # fmt: skip
    """Add snow on open ground and lakes; canopies hide most of it."""
    if conditions.snow <= 0:
        return picture
    field = fractal(key_of(date_key, 1), x, y, (700.0, 260.0), 0.5) + 0.4 * ground.relief
    depth = 1 / (1 + np.exp(-(field / np.float32(1.08) - threshold_of(conditions.snow)) / np.float32(0.12)))
    holes = fractal(key_of(date_key, 2), x, y, (40.0, 14.0, 5.0), 0.8)
    late = conditions.time.month in (4, 5, 11, 12)
    melt = 1.0 if late else -0.6
    holes = holes + 0.5 * gaussian(rehash(ground.unit, 67))
    patches = 1 / (1 + np.exp(-(holes - melt) / np.float32(0.2)))
    ice = ground.kind <= Kind.RIVER
    # Lakes are frozen from midwinter to May; the sea has floes.
    frozen = {1: 0.6, 2: 0.75, 3: 0.75, 4: 0.5}.get(conditions.time.month, 0.0)
    floes = np.where(ground.kind == Kind.SEA, 1 / (1 + np.exp(-(holes - 0.9) / np.float32(0.1))), 1)
    cover = depth * np.where(ice, frozen * floes, patches) * _SNOW_SHOWN[ground.kind]
    age = 0.5 + 0.05 * holes * ~ice
    return picture * (1 - cover) + np.array(_SNOW, np.float32)[:, None, None] * (cover * np.clip(age, 0.3, 0.9))


def _clouds(
    picture: Array, conditions: Conditions, date_key: int, x: NDArray[np.float64], y: NDArray[np.float64],
    zenith: float, azimuth: float,
) -> Array:  # fmt: skip
    """Add fair-weather clouds and, away from the sun, their shadows."""
    sizes = (150.0, 64.0, 27.0, 11.0)
    reach = 120.0 * np.tan(min(zenith, 1.3))
    threshold = threshold_of(conditions.cloudy)
    shade = fractal(key_of(date_key, 4), x + reach * np.sin(azimuth), y - reach * np.cos(azimuth), sizes, 0.62)
    picture = picture * (1 - 0.55 * np.clip((shade - threshold) / 0.35, 0, 1))
    veil = np.clip((fractal(key_of(date_key, 4), x, y, sizes, 0.62) - threshold) / 0.5, 0, 1)
    return picture * (1 - veil) + np.array(_CLOUD, np.float32)[:, None, None] * veil

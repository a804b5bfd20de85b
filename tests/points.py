"""Writes a table of simulated points of six classes in groups: Sentinel-1, Sentinel-2, climate and elevation."""

from pathlib import Path

import numpy as np

CLASSES = ("cropland", "forest", "grassland", "shrub", "urban", "water")
BANDS = ("B02", "B03", "B04", "B08", "B11", "B12")
_SPECTRA = np.array(
    [
        (0.05, 0.08, 0.09, 0.30, 0.24, 0.15), (0.02, 0.04, 0.03, 0.27, 0.13, 0.06),
        (0.04, 0.07, 0.06, 0.32, 0.22, 0.12), (0.05, 0.08, 0.09, 0.24, 0.26, 0.17),
        (0.10, 0.12, 0.14, 0.22, 0.24, 0.22), (0.05, 0.05, 0.03, 0.03, 0.02, 0.01),
    ]
)  # fmt: skip
"""Reflectance by class and band: round numbers that look like the classes, not measurements."""
_RADAR = np.array([(-11, -18), (-8, -13), (-12, -19), (-10, -16), (-4, -11), (-20, -27)])
"""Backscatter by class, dB, likewise."""


def write_points(path: Path, count: int = 4000, groups: int = 80, seed: int = 0) -> Path:
    """A CSV of points whose classes are mixed anew in each group, by its climate and height; columns overlap."""
    random = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    height = random.gamma(1.5, 300, groups)
    heat = 22 - 0.0065 * height + random.normal(0, 4, groups)
    rain = np.exp(random.normal(6.6, 0.4, groups))
    likes = np.stack(
        [heat / 8, rain / 400, 1 + height / 900, (25 - rain / 60) / 8, 1.5 + 0 * heat, 1 + rain / 900], axis=1
    ) + random.normal(0, 0.7, (groups, 6))
    shares = np.exp(likes - likes.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    brightness = random.normal(1, 0.12, groups)  # of a scene, so that groups differ
    names = ["id", "site_group", "lon", "lat", *(f"S2_{band}" for band in BANDS), "S1_VV", "S1_VH",
             "climate_temperature", "climate_rain", "climate_season", "elevation", "label"]  # fmt: skip
    lines = [",".join(names)]
    for point in range(count):
        group = int(random.integers(groups))
        label = int(random.choice(6, p=shares[group]))
        s2 = _SPECTRA[label] * brightness[group] * random.lognormal(0, 0.28) * random.lognormal(0, 0.12, 6) + 0.01
        s1 = _RADAR[label] + random.normal(0, 2.6, 2)
        climate = (heat[group] + random.normal(0, 0.4), rain[group] * random.lognormal(0, 0.03), random.uniform())
        numbers = [group % 10 + random.uniform(), 45 + group // 10 + random.uniform(), *(10_000 * s2).round(), *s1]
        cells = [f"{value:.5g}" for value in (*numbers, *climate, height[group] + random.normal(0, 30))]
        lines.append(",".join([f"p{point}", f"g{group}", *cells, CLASSES[label]]))
    path.write_text("\n".join(lines) + "\n")
    return path

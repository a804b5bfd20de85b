"""Land in the background of a map of patches, from the coastlines of Natural Earth at 1:110 million (public domain)."""

from functools import cache
from pathlib import Path as FilePath

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch
from matplotlib.path import Path

LAND_COLOUR, SEA_COLOUR, COAST_COLOUR = "#f3efe6", "#e4eef5", "#8c8c8c"
NARROWEST = 2.0
"""Degrees; on a smaller map so coarse a coastline would lie in the wrong place, so none is drawn."""


@cache
def land() -> Path:
    """The land of the Earth as one path in degrees (longitude, latitude); lakes are holes in it."""
    lines = FilePath(__file__).with_name("coastline.txt").read_text(encoding="utf-8").splitlines()
    rings = [np.array(line.split(), dtype=float).reshape(-1, 2) / 10 for line in lines if not line.startswith("#")]
    codes = [[Path.MOVETO, *[Path.LINETO] * (len(ring) - 2), Path.CLOSEPOLY] for ring in rings]
    return Path(np.concatenate(rings), np.concatenate(codes))


def draw_land(axis: Axes) -> bool:
    """Draw land and sea in the background of an axis in degrees, without changing its limits.

    Returns:
        True if drawn; False for maps less than two degrees wide or high.
    """
    left, right = axis.get_xlim()
    bottom, top = axis.get_ylim()
    if min(right - left, top - bottom) < NARROWEST:
        return False
    axis.set_facecolor(SEA_COLOUR)
    axis.add_patch(PathPatch(land(), facecolor=LAND_COLOUR, edgecolor=COAST_COLOUR, linewidth=0.8, zorder=0))
    axis.set(xlim=(left, right), ylim=(bottom, top))
    return True

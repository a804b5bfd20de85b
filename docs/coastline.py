"""Write bengelib/plot/coastline.txt: the land of the Earth, small enough to ship with the package.

`python docs/coastline.py LAND`, where LAND is `land-110m.json` of the npm package world-atlas 2.0.2. It holds the land
polygons of Natural Earth 4.1 at 1:110 million, which are in the public domain (naturalearthdata.com), as TopoJSON.
"""

import json
import sys
from pathlib import Path

import numpy as np

PATH = Path(__file__).parents[1] / "bengelib" / "plot" / "coastline.txt"
HEADER = """\
# Land, 1:110 million: Natural Earth 4.1 (public domain), to a tenth of a degree; made by docs/coastline.py.
# A ring a line, as longitude and latitude in turn, in tenths of a degree; a lake has the other sense of rotation.
"""


def rings(topology: dict) -> list[np.ndarray]:
    """The closed rings (N, 2) of all polygons, in degrees (TopoJSON specification, sections 2.1.1 and 2.1.4)."""
    scale, shift = (np.array(topology["transform"][name]) for name in ("scale", "translate"))
    arcs = [np.cumsum(arc, axis=0) * scale + shift for arc in topology["arcs"]]

    def joined(ring: list[int]) -> np.ndarray:
        parts = [arcs[arc] if arc >= 0 else arcs[~arc][::-1] for arc in ring]
        return np.concatenate([part if place == 0 else part[1:] for place, part in enumerate(parts)])

    polygons = [each["arcs"] for each in topology["objects"]["land"]["geometries"]]
    return [joined(ring) for multi in polygons for polygon in multi for ring in polygon]


def unwrapped(ring: np.ndarray) -> list[np.ndarray]:
    """A ring that runs on across 180 degrees, and again one turn beside: both sides of a map have their part."""
    lon = np.unwrap(ring[:, 0], period=360)
    whole = np.column_stack([lon, ring[:, 1]])
    if abs(lon[-1] - lon[0]) > 180:  # around the pole
        return [np.concatenate([whole, [[lon[-1], -90], [lon[0], -90]], whole[:1]])]
    turns = [0, *([-360] if lon.max() > 180 else []), *([360] if lon.min() < -180 else [])]
    return [whole + np.array([turn, 0]) for turn in turns]


def simplified(ring: np.ndarray) -> list[int]:
    """A ring in tenths of a degree, without points that stand where the one before them stands."""
    tenths = np.round(10 * ring).astype(int)
    moved = np.r_[True, (np.diff(tenths, axis=0) != 0).any(axis=1)]
    return tenths[moved].ravel().tolist()


def main() -> None:
    """Read the file that was named, and write the rings of three points or more."""
    topology = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    found = [simplified(part) for ring in rings(topology) for part in unwrapped(ring)]
    lines = [" ".join(map(str, ring)) for ring in found if len(ring) >= 8]  # three points, and the first again
    PATH.write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Write build/chips: simulated chips of Sentinel-2 in class folders, as GeoTIFFs of 13 bands, for docs/own-data.md.

`python docs/curve_figure.py`, then the three commands of that page with `--root build/chips`; the last one draws
docs/figures/curve.png.
"""

from collections import Counter
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin

from bengelib import load
from bengelib.bands import LAND_COVER

CHIPS = Path(__file__).parents[1] / "build" / "chips"
SIDE = 64
FEWEST = 60
"""Chips that a class needs."""


def main() -> None:
    """Cut the middle out of each patch; its class is the most frequent land cover there."""
    data = load("ben-ge-sim", None, ("s2",), ("land_cover",))
    edge = (120 - SIDE) // 2
    chips: dict[str, list[np.ndarray]] = {}
    for place in range(len(data)):
        sample = data[place]
        cover, s2 = (sample[key][..., edge : edge + SIDE, edge : edge + SIDE].numpy() for key in ("land_cover", "s2"))
        name = LAND_COVER[Counter(cover[cover < len(LAND_COVER)].tolist()).most_common(1)[0][0]].name
        numbers = (10_000 * s2).clip(1).round().astype(np.uint16)
        cirrus = numbers[9:10] // 100 + 5  # no simulated band is like B10, which is almost black
        order = np.concatenate([numbers[:8], numbers[9:10], cirrus, numbers[10:], numbers[8:9]])  # as EuroSAT has them
        chips.setdefault(name.replace("/", "_"), []).append(order)
    for name, images in chips.items():
        if len(images) < FEWEST:
            continue
        (CHIPS / name).mkdir(parents=True, exist_ok=True)
        for number, image in enumerate(images):
            profile = {"driver": "GTiff", "dtype": "uint16", "count": len(image), "height": SIDE, "width": SIDE}
            grid = {"crs": "EPSG:32633", "transform": from_origin(400_000, 5_000_000, 10, 10)}
            with rasterio.open(CHIPS / name / f"{name}_{number}.tif", "w", **profile, **grid) as file:
                file.write(image)
        print(f"{CHIPS / name}: {len(images)} chips")


if __name__ == "__main__":
    main()

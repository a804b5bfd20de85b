"""Draw docs/images/simulator.png: real patches beside simulated ones of the same tile and date.

`python docs/contact_sheet.py REAL_ROOT`, where REAL_ROOT is a ben-ge tree with the four patches named below.
"""

import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import rasterio
from matplotlib.colors import to_rgb

from bengelib.bands import LAND_COVER
from bengelib.plot.samples import COVER_COLOURS
from bengelib.sim.patch import Job, write_patch
from bengelib.sim.places import Place, window_pixels
from bengelib.sim.tiles import TILES

SEED = 0
# Tile, index of its date, real patch, and two simulated places, searched for a similar share of each land-cover class.
ROWS = (
    ("33UUP", 0, "87_48", "Austria, June", ((55, 30), (80, 50))),
    ("29UPU", 0, "4_55", "Ireland, June", ((58, 34), (11, 27))),
    ("35VPK", 1, "69_24", "Finland, September", ((71, 11), (14, 38))),
    ("29SND", 2, "56_35", "Portugal, December", ((41, 70), (38, 33))),
)
PANELS = ("real: colour", "infrared", "VV", "simulated: colour", "infrared", "VV", "land cover", "another: colour",
          "infrared", "VV", "land cover")  # fmt: skip


def read(path: Path) -> np.ndarray:
    """One band as float."""
    with rasterio.open(path) as dataset:
        return np.asarray(dataset.read(1)).astype(float)


def panels(root: Path, patch: str, patch_s1: str) -> list[np.ndarray]:
    """Colour, infrared colour and VV, each (120, 120, 3) in [0, 1]."""

    def band(name: str) -> np.ndarray:
        return read(root / "sentinel-2" / patch / f"{patch}_{name}.tif")

    red, green, blue, infrared = (band(name) for name in ("B04", "B03", "B02", "B08"))
    colour = np.stack([red, green, blue], -1) / 2500
    false = np.stack([infrared / 5000, red / 2500, green / 2500], -1)
    vv = (read(root / "sentinel-1" / patch_s1 / f"{patch_s1}_VV.tif") + 22) / 22
    return [np.clip(colour, 0, 1) ** 0.7, np.clip(false, 0, 1) ** 0.7, np.repeat(np.clip(vv, 0, 1)[..., None], 3, -1)]


def main() -> None:
    """Draw and save the sheet."""
    real = Path(sys.argv[1])
    palette = np.zeros((256, 3))
    for cover in LAND_COVER:
        palette[cover.code] = to_rgb(COVER_COLOURS[cover.name])
    figure, axes = plt.subplots(len(ROWS), len(PANELS), figsize=(len(PANELS) * 1.25, len(ROWS) * 1.33))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in ("sentinel-1", "sentinel-2", "dem", "esaworldcover"):
            (root / name).mkdir()
        for r, (tile, date, patch, title, places) in enumerate(ROWS):
            number = next(i for i, each in enumerate(TILES) if each.name == tile)
            folders = [next((real / s).glob(f"*_{patch}")).name for s in ("sentinel-2", "sentinel-1")]
            images = panels(real, *folders)
            for column, row in places:
                place = Place(number, date, column, row)
                job = Job(0, place, window_pixels(number), TILES[number].lon, TILES[number].lat)
                ids = write_patch(root, SEED, job)["meta"][:2]
                images += panels(root, *ids)
                images.append(palette[read(root / "esaworldcover" / f"{ids[0]}_esaworldcover.tif").astype(int)])
            for c, image in enumerate(images):
                axes[r, c].imshow(image)
                axes[r, c].set_xticks([])
                axes[r, c].set_yticks([])
                if r == 0:
                    axes[r, c].set_title(PANELS[c], fontsize=7)
            axes[r, 0].set_ylabel(title, fontsize=7)
    figure.tight_layout(pad=0.3)
    target = Path(__file__).parent / "images" / "simulator.png"
    target.parent.mkdir(exist_ok=True)
    figure.savefig(target, dpi=88)


if __name__ == "__main__":
    main()

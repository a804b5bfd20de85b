"""Draw docs/figures/map.png: the U-Net of Lab 2 over a simulated scene of 10.8 km, with the time that each step takes.

`python docs/map_figure.py`; what it makes on the way stands in build/map/, with the commands that go on from there.
"""

import argparse
import shlex
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import rasterio
from matplotlib.patches import Patch
from rasterio.transform import from_origin
from rasterio.windows import Window

from bengelib.__main__ import main as bengelib
from bengelib.bands import LAND_COVER, PATCH_SIZE, S2
from bengelib.plot import composite
from bengelib.sim.patch import Job, write_patch
from bengelib.sim.places import Place, corner, window, window_pixels
from bengelib.sim.tiles import TILES

BUILD = Path(__file__).parents[1] / "build" / "map"
TILE, DATE, SIDE = "33UWP", 1, 9  # MGRS tile, index of its date, patches along a side of the scene
SEED = 0
TRAIN = shlex.split(
    "train --root ben-ge-sim --target land_cover --modalities s2 --scheme study --crop 56 --batch-size 16 --epochs 12 "
    "--lr 0.006"
)
"""The network of Lab 2 for land cover alone, with the settings of the lab and more epochs."""


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long something took."""
    start = time.perf_counter()
    yield
    print(f"{what}: {time.perf_counter() - start:.0f} s")


def simulate_scene() -> list[Path]:
    """Sentinel-2 as it comes, a file a resolution, and beside it the map that the simulator has of the same ground."""
    number = next(place for place, tile in enumerate(TILES) if tile.name == TILE)
    first_column, first_row, size = window(number)
    column, row = first_column + (size - SIDE) // 2, first_row + (size - SIDE) // 2
    bands = {each: [name for name, band in S2.items() if band.resolution == each] for each in (10, 20, 60)}
    files = {BUILD / f"scene_{each}m.tif": (each, names) for each, names in bands.items()}
    files[BUILD / "truth.tif"] = (10, ["worldcover"])
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        root = Path(folder)
        for name in ("sentinel-1", "sentinel-2", "dem", "esaworldcover"):
            (root / name).mkdir()
        epsg, left, top = corner(Place(number, DATE, column, row))
        rasters = {}
        for path, (resolution, names) in files.items():
            side = SIDE * PATCH_SIZE * 10 // resolution
            rasters[path] = stack.enter_context(
                rasterio.open(
                    path,
                    "w",
                    driver="GTiff",
                    height=side,
                    width=side,
                    count=len(names),
                    dtype="uint8" if path.stem == "truth" else "uint16",
                    crs=f"EPSG:{epsg}",
                    transform=from_origin(left, top, resolution, resolution),
                    tiled=True,
                    compress="deflate",
                )
            )
            rasters[path].descriptions = names
        for y in range(SIDE):
            for x in range(SIDE):
                place = Place(number, DATE, column + x, row + y)
                job = Job(0, place, window_pixels(number), TILES[number].lon, TILES[number].lat)
                patch = write_patch(root, SEED, job)["meta"][0]
                for path, (resolution, names) in files.items():
                    pixels = PATCH_SIZE * 10 // resolution
                    for band, name in enumerate(names, 1):
                        part = f"sentinel-2/{patch}/{patch}_{name}.tif"
                        source = root / (part if name in S2 else f"esaworldcover/{patch}_esa{name}.tif")
                        with rasterio.open(source) as raster:
                            window_of = Window(x * pixels, y * pixels, pixels, pixels)
                            rasters[path].write(raster.read(1), band, window=window_of)
    return list(files)


def draw(scene: Path, truth: Path, predicted: Path, out: Path) -> None:
    """Scene, map and truth side by side, with one legend."""
    with rasterio.open(scene) as raster:
        picture = composite(raster.read() / 10_000, raster.descriptions)
    with rasterio.open(predicted) as raster:
        found = raster.read(1)
        colours = np.array([raster.colormap(1).get(value, (0, 0, 0, 0)) for value in range(256)], np.uint8)
    with rasterio.open(truth) as raster:
        codes = raster.read(1)
    index = np.full(256, 255, np.uint8)
    index[[each.code for each in LAND_COVER]] = np.arange(len(LAND_COVER))
    known = index[codes]
    right = float((found == known)[known != 255].mean())
    figure, axes = plt.subplots(1, 3, figsize=(10.2, 4.0), layout="constrained")
    titles = ("Sentinel-2 (simulated)", f"predict: {right:.0%} of the pixels right", "the simulator's map")
    for ax, image, title in zip(axes, (picture, colours[found], colours[known]), titles, strict=True):
        ax.imshow(image, extent=(0, image.shape[1] / 100, 0, image.shape[0] / 100), interpolation="nearest")
        ax.set_title(title, fontsize=9)
        ax.tick_params(labelsize=7)
    axes[0].set_ylabel("km", fontsize=8)
    occur = [value for value in range(len(LAND_COVER)) if (found == value).any() or (known == value).any()]
    handles = [Patch(facecolor=colours[value] / 255, label=LAND_COVER[value].label) for value in occur]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(6, len(handles)), fontsize=8, frameon=False)
    out.parent.mkdir(exist_ok=True)
    figure.savefig(out, dpi=80)


def main() -> None:
    """Make everything, and say how long it took."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    BUILD.mkdir(parents=True, exist_ok=True)
    model, predicted = BUILD / "unet.safetensors", BUILD / "map.tif"
    with timed(f"simulating {SIDE * SIDE} patches of the scene"):
        *scene, truth = simulate_scene()
    with timed("training"):
        bengelib([*TRAIN, "--out", str(model)])
    with timed("mapping"):
        bengelib(["predict", "--checkpoint", str(model), "--scene", *map(str, scene), "--out", str(predicted)])
    draw(scene[0], truth, predicted, Path(__file__).parent / "figures" / "map.png")


if __name__ == "__main__":
    main()

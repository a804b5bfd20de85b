"""Writes small datasets with a `dataset.toml`: every sample, band and pixel has numbers of its own."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import from_origin

BANDS = ("B02", "B03", "B04", "B08")
SIDE = 16

CROPS = """
[dataset]
name = "crops"
licence = "CC-BY-4.0"

[samples]
table = "samples.csv"
group = "site"

[modalities.s2]
kind = "image"
files = "images/{id}.tif"
bands = ["B02", "B03", "B04", "B08"]
unit = "reflectance"
scale = 0.0001

[modalities.weather]
kind = "vector"
columns = ["rain", "heat"]
unit = ["mm", "K"]

[targets.crop]
kind = "class"
column = "crop"
classes = ["maize", "wheat"]

[targets.cover]
kind = "map"
files = "cover/{id}.png"
classes = { 10 = "field", 20 = "wood", 30 = "water" }
no_data = 0

[targets.harvest]
kind = "number"
column = "harvest"
unit = "t/ha"
"""


def write_tif(
    path: Path,
    pixels: np.ndarray,
    names: Sequence[str] = (),
    scales: Sequence[float] = (),
    offsets: Sequence[float] = (),
    tags: Mapping[str, str] | None = None,
    **profile: Any,
) -> Path:
    """Write pixels (bands, h, w) or (h, w) as GeoTIFF with names of its layers, GDAL's scales and offsets, and tags."""
    pixels = pixels if pixels.ndim == 3 else pixels[None]
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"driver": "GTiff", "crs": "EPSG:32632", "transform": from_origin(400_000, 5_000_000, 10, 10), **profile}
    shape = {"count": len(pixels), "height": pixels.shape[1], "width": pixels.shape[2]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", dtype=pixels.dtype, **shape, **options) as file:
            file.write(pixels)
            if names:
                file.descriptions = tuple(names)
            if scales:
                file.scales = tuple(scales)
            if offsets:
                file.offsets = tuple(offsets)
            if tags:
                file.update_tags(**tags)
    return path


def pixels_of(step: float) -> dict[str, Any]:
    """The profile of a file at the usual place whose pixels are so many metres wide."""
    return {"transform": from_origin(400_000, 5_000_000, step, step)}


def write_picture(path: Path, pixels: np.ndarray) -> Path:
    """Write pixels (h, w) or (h, w, 3) as PNG or JPEG, whatever the suffix says."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def write_toml(root: Path, text: str) -> Path:
    """Write `dataset.toml`; the folder."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "dataset.toml").write_text(text, encoding="utf-8")
    return root


def s2_pixels(sample: int) -> np.ndarray:
    """Digital numbers of a sample, (4, 16, 16) uint16: no two pixels of twenty samples are equal, some are dark."""
    return (100 + sample + 20 * np.arange(4 * SIDE * SIDE)).astype(np.uint16).reshape(4, SIDE, SIDE)


def cover_pixels(sample: int) -> np.ndarray:
    """Codes of a sample, (16, 16) uint8: one of three classes, and a row without."""
    codes = np.full((SIDE, SIDE), 10 + 10 * (sample % 3), np.uint8)
    codes[:, :4] = 10
    codes[0] = 0
    return codes


def write_crops(root: Path, count: int = 20, toml: str = CROPS) -> Path:
    """A complete dataset: images, a map, two columns of weather, a class and a number, in groups of two samples."""
    write_toml(root, toml)
    rows = ["id,site,crop,harvest,rain,heat"]
    for sample in range(count):
        write_tif(root / "images" / f"p{sample}.tif", s2_pixels(sample), BANDS)
        write_picture(root / "cover" / f"p{sample}.png", cover_pixels(sample))
        crop, harvest = ("maize", "wheat")[sample % 2], "" if sample == 3 else f"{sample / 2}"
        rows.append(f"p{sample},site{sample // 2},{crop},{harvest},{sample * 10},{280 + sample}")
    (root / "samples.csv").write_text("\n".join(rows) + "\n")
    return root


def rewrite(root: Path, old: str, new: str, name: str = "dataset.toml") -> None:
    """Replace a piece of the description, or of another text."""
    text = (root / name).read_text(encoding="utf-8")
    assert old in text, f"{name} has no {old!r}"
    (root / name).write_text(text.replace(old, new), encoding="utf-8")

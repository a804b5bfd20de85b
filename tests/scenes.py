"""Writes small scenes whose pixels are known, and networks whose answers are."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio
import torch
from rasterio.transform import from_origin
from torch import nn

from bengelib.modalities import Modality

BANDS = ("B02", "B03", "B04")
CLASSES = ("water", "field", "wood", "town")
S2 = Modality("s2", "image", BANDS, (0.05, 0.06, 0.07), (0.05, 0.06, 0.07), ("reflectance",) * 3)
LEFT, TOP = 500_000, 5_000_000


def reflectances(height: int, width: int, bands: int = 3, seed: int = 0) -> np.ndarray:
    """Digital numbers (bands, height, width) uint16, none of them 0, of smooth ground with a little noise."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    ground = [600 + 500 * np.sin(x / (9 + band)) * np.cos(y / (13 - band)) for band in range(bands)]
    return (np.stack(ground) + random.integers(1, 40, (bands, height, width))).clip(1).astype(np.uint16)


def write_scene(
    path: Path, pixels: np.ndarray, names: Sequence[str] | None = BANDS, resolution: float = 10, **options: object
) -> Path:
    """Write (bands, height, width) at a fixed place; `crs=None`, `transform`, `nodata`, ... for other scenes."""
    profile = dict(crs="EPSG:32633", transform=from_origin(LEFT, TOP, resolution, resolution)) | options
    scales, offsets, tags = (profile.pop(name, None) for name in ("scales", "offsets", "tags"))
    with rasterio.open(
        path, "w", driver="GTiff", height=pixels.shape[1], width=pixels.shape[2], count=len(pixels),
        dtype=pixels.dtype, **profile,
    ) as raster:  # fmt: skip
        raster.write(pixels)
        if names is not None:
            raster.descriptions = list(names)
        if scales:
            raster.scales, raster.offsets = scales, offsets
        raster.update_tags(**(tags or {}))
    return path


class Pixels(nn.Module):
    """Answers for each pixel from an odd neighbourhood of it, and counts the tiles that it was given."""

    def __init__(self, size: int = 1, dense: bool = True, seed: int = 0, inputs: object = None) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.inputs = {"s2": S2} if inputs is None else inputs
        self.outputs = {"cover": CLASSES}
        self.layer = nn.Conv2d(3, len(CLASSES), size, padding=size // 2)
        self.dense, self.seen, self.fail_after = dense, 0, None

    def forward(self, batch):
        if self.fail_after is not None and self.seen >= self.fail_after:
            raise KeyboardInterrupt
        image = batch["s2"]
        self.seen += len(image)
        logits = 30 * self.layer((image - 0.06) / 0.05)
        return {"cover": logits if self.dense else logits.mean(dim=(2, 3))}


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as raster:
        return raster.read()

"""Figures of class maps in GeoTIFFs of any size."""

from pathlib import Path

import numpy as np
import rasterio
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from rasterio.enums import Resampling

from bengelib.errors import RasterError
from bengelib.plot.style import listed, noted, subplots


def plot_scene_map(path: str | Path, pixels: int = 800, note: str = "") -> Figure:
    """A class map of `predict_map` with its legend, read at the resolution of the figure.

    Args:
        path: a GeoTIFF with a colour table and the tags `CLASS_0`, `CLASS_1` ...
        pixels: maximum number along the longer side of the figure.
        note: printed in the lower corner.

    Returns:
        A figure; the legend has the classes that occur, with their fractions of the pixels with data.

    Raises:
        RasterError: the file is missing, or not a class map.
    """
    try:
        with rasterio.open(path) as raster:
            step = max(1, -(-max(raster.shape) // pixels))
            shape = tuple(-(-side // step) for side in raster.shape)
            values = raster.read(1, out_shape=shape, resampling=Resampling.nearest)
            names = {int(name[6:]): text for name, text in raster.tags(1).items() if name.startswith("CLASS_")}
            palette = raster.colormap(1)
            bounds, crs = raster.bounds, raster.crs
            target, no_data = raster.descriptions[0] or "class", raster.nodata
    except (rasterio.errors.RasterioError, ValueError) as error:
        raise RasterError(f"{path} is not a class map with a colour table ({error})") from error
    colours = np.array([palette.get(value, (0, 0, 0, 0)) for value in range(256)], dtype=np.uint8)
    figure, axes = subplots(figsize=(8.4, 6.0))
    metres = bool(crs) and crs.is_projected and crs.linear_units in ("metre", "m")
    scale, unit = (1000, "km") if metres else (1, "degrees" if crs and crs.is_geographic else "units of the grid")
    extent = (0, (bounds.right - bounds.left) / scale, 0, (bounds.top - bounds.bottom) / scale)
    axes.imshow(colours[values], extent=extent, interpolation="nearest")
    axes.set_xlabel(f"{unit} to the east")
    axes.set_ylabel(f"{unit} to the north")
    axes.set_title(target.replace("_", " "))
    counts = np.bincount(values[values != no_data] if no_data is not None else values.ravel(), minlength=256)
    there = [value for value in np.argsort(-counts, kind="stable").tolist() if counts[value]]
    handles = [
        Patch(
            facecolor=colours[value] / 255,
            edgecolor="#555555",
            label=f"{names.get(value, value)} {counts[value] / counts.sum():.1%}".replace("_", " "),
        )
        for value in there
    ]
    if handles:
        figure.legend(handles=handles, loc="outside right upper", fontsize=9, frameon=False)
    size = f"{extent[1]:.3g} by {extent[3]:.3g} {unit}"
    return noted(
        figure, note, f"Map of {target.replace('_', ' ')}, {size}: {listed((h.get_label() for h in handles), 12)}."
    )

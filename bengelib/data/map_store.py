"""Rasters written strip by strip, with restarts, and published as Cloud-Optimised GeoTIFFs. Needs no torch.

A Cloud-Optimised GeoTIFF can only be written as a whole, so strips are first written to plain files beside it, in a
folder `<name>.partial`, from which an interrupted call continues; the finished file appears atomically.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

import numpy as np
import rasterio
from rasterio.shutil import copy
from rasterio.windows import Window

from bengelib.errors import DiskSpaceError
from bengelib.files import discard, flush, free_bytes, put_in_place, write_json

NO_DATA = 255
"""The no-data value of all these rasters, which have eight bits."""
_PROGRESS = "progress.json"


class Layer(NamedTuple):
    """One raster to write: eight bits, `NO_DATA` for missing values.

    Attributes:
        out: path of the file.
        bands: names of the bands.
        scale: factor from stored numbers to values.
        categories: names of the numbers from 0 on, if they are classes.
        colours: red, green and blue of each class, 0 to 255.
        tags: tags of the file.
    """

    out: Path
    bands: tuple[str, ...]
    scale: float = 1.0
    categories: tuple[str, ...] = ()
    colours: tuple[tuple[int, int, int], ...] = ()
    tags: Mapping[str, str] = {}


class Grid(NamedTuple):
    """Shape and location of a raster: (rows, columns), `rasterio`'s coordinate system and transform."""

    shape: tuple[int, int]
    crs: Any
    transform: Any


class MapStore:
    """Rasters on one grid, written strip by strip, with the state of unfinished ones on disk.

    Attributes:
        done: number of finished strips.
    """

    def __init__(self, folder: Path, grid: Grid, layers: Sequence[Layer], identity: str) -> None:
        """Create the folder, or continue an interrupted call with the same identity.

        Args:
            folder: of the unfinished files; those of another identity are removed.
            grid: of all layers.
            layers: rasters to write.
            identity: hash of everything that the content depends on.

        Raises:
            DiskSpaceError: there is too little space.
        """
        self.folder, self.grid, self.layers, self._identity = folder, grid, layers, identity
        self.done, self._state = 0, ""
        progress = self._progress()
        if progress.get("identity") == identity:
            self.done, self._state = int(progress["done"]), str(progress["state"])
            return
        discard(folder)
        pixels = grid.shape[0] * grid.shape[1] * sum(len(layer.bands) for layer in layers)
        if (free := free_bytes(folder.parent)) < 2.5 * pixels:
            raise DiskSpaceError(
                f"{layers[0].out} needs {2.5 * pixels / 1e9:.2f} GB while it is written, and the disk of "
                f"{folder.parent} has {free / 1e9:.2f} GB free. Make room, or give another folder."
            )
        folder.mkdir()
        for number, layer in enumerate(layers):
            self._create(self._path(number), layer)
        self._write_progress(np.empty(0, dtype=np.float32))

    def state(self) -> np.ndarray:
        """The argument of `finish` for the last finished strip."""
        array: np.ndarray = np.load(self.folder / self._state)
        return array

    @contextmanager
    def strip(self) -> Iterator["Strip"]:
        """Open the files for the next strip."""
        with ExitStack() as stack:
            paths = [self._path(number) for number in range(len(self.layers))]
            yield Strip([stack.enter_context(rasterio.open(path, "r+")) for path in paths])

    def finish(self, state: np.ndarray) -> None:
        """Record that a strip is finished, with the state that the next one needs."""
        for number in range(len(self.layers)):
            flush(self._path(number))
        self.done += 1
        self._write_progress(state)

    def publish(self) -> None:
        """Write the finished rasters to their paths, as Cloud-Optimised GeoTIFFs, and remove the folder."""
        for number, layer in enumerate(self.layers):
            finished = self.folder / f"finished-{number}.tif"
            resampling = "MODE" if layer.categories else "AVERAGE"
            copy(
                self._path(number),
                finished,
                driver="COG",
                COMPRESS="DEFLATE",
                BLOCKSIZE=512,
                OVERVIEW_RESAMPLING=resampling,
                BIGTIFF="IF_SAFER",
            )
            names = layer.out.with_name(f"{layer.out.name}.aux.xml")
            discard(names)  # of an earlier map
            put_in_place(finished, layer.out)
            if layer.categories:
                names.write_text(_categories(layer.categories), encoding="utf-8")
        discard(self.folder)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number}.tif"

    def _create(self, path: Path, layer: Layer) -> None:
        height, width = self.grid.shape
        with rasterio.open(
            path,
            "w",
            driver="GTiff",
            height=height,
            width=width,
            count=len(layer.bands),
            dtype="uint8",
            nodata=NO_DATA,
            crs=self.grid.crs,
            transform=self.grid.transform,
            interleave="band",
            BIGTIFF="IF_SAFER",
        ) as raster:
            raster.descriptions = layer.bands
            raster.update_tags(**layer.tags)
            if layer.scale != 1:
                raster.scales = [layer.scale] * len(layer.bands)
            if layer.categories:
                raster.update_tags(1, **{f"CLASS_{value}": name for value, name in enumerate(layer.categories)})
                opaque = {value: (*colour, 255) for value, colour in enumerate(layer.colours)}
                raster.write_colormap(1, {**opaque, NO_DATA: (0, 0, 0, 0)})

    def _progress(self) -> dict[str, Any]:
        try:
            progress = json.loads((self.folder / _PROGRESS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return progress if isinstance(progress, dict) else {}

    def _write_progress(self, state: np.ndarray) -> None:
        """Write a state and then record it, in this order, so that a kill between the two loses one strip."""
        before, self._state = self._state, f"state-{self.done}.npy"
        np.save(self.folder / self._state, state)
        flush(self.folder / self._state)
        progress = {"identity": self._identity, "done": self.done, "state": self._state}
        write_json(self.folder / _PROGRESS, progress)
        if before:
            discard(self.folder / before)


class Strip(NamedTuple):
    """The open files of a strip."""

    files: list[Any]

    def write(self, number: int, values: np.ndarray, row: int, column: int) -> None:
        """Write (bands, height, width) uint8 of layer `number`, with the upper left pixel at a row and column."""
        window = Window(column, row, values.shape[2], values.shape[1])
        self.files[number].write(values, window=window)


def _categories(names: Sequence[str]) -> str:
    """The sidecar file from which GDAL, and so most mapping programs, reads names of classes."""
    entries = "".join(f"<Category>{escape(name)}</Category>" for name in names)
    return (
        f'<PAMDataset><PAMRasterBand band="1"><CategoryNames>{entries}</CategoryNames></PAMRasterBand></PAMDataset>\n'
    )

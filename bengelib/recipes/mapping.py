"""Inference on a whole scene of any size, tile by tile, into one georeferenced raster.

A segmentation network gives a map at the resolution of the scene. A network with one prediction per image gives a
coarse map: one pixel per cell, with the prediction for the tile around the cell. Memory does not grow with the scene
except for one seam of a few pixels along its width, and interrupted runs continue.
"""

import hashlib
import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import rasterio
import torch
from rasterio.transform import Affine
from torch import Tensor, nn
from tqdm import tqdm

from bengelib import __version__
from bengelib.arguments import whole_number
from bengelib.bands import CLIMATE_ZONES, LAND_COVER, PATCH_SIZE
from bengelib.data.map_store import NO_DATA, Grid, Layer, MapStore, Strip
from bengelib.data.scene import Scene
from bengelib.data.scene_files import Files
from bengelib.devices import choose_precision
from bengelib.errors import ArgumentError, BandError, DataWarning
from bengelib.files import absolute, locked, writing
from bengelib.modalities import Target
from bengelib.recipes.supervised import load_model, saved_targets
from bengelib.recipes.tiling import Blend, centred, overlapping

PROBABILITY_STEPS = 250
"""A probability p is stored as round(250 p) in eight bits, accurate to 0.002; the file states the scale."""
_PIXELS = {"cpu": 2**17}
"""Pixels per batch by device: nine tiles of 120, or one of 360. Larger batches take more memory and are not faster."""
_PIXELS_ELSEWHERE = 2**22
_CACHE = (16 * 2**20, 256 * 2**20)
"""Limits of GDAL's cache in bytes; within them, it holds one row of tiles."""

_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass(frozen=True)
class Tiling:
    """The division of a scene into tiles.

    Attributes:
        tile: pixels along a side of a tile. By default at most 384 for segmentation, whatever the crops of the
            training, because smaller tiles have more border and larger ones are not faster (`docs/maps.md` has the
            accuracy by tile); and the size of the training images (120 in ben-ge) for one prediction per image.
        overlap: minimum number of pixels that neighbouring tiles share in segmentation; by default 32, or a quarter of
            a smaller tile, which is the maximum.
        stride: pixels along a side of a cell, with one prediction per image; by default a tile.
        batch_size: tiles per batch; by default as many as have 2**17 pixels on a CPU, and 2**22 elsewhere.
    """

    tile: int | None = None
    overlap: int | None = None
    stride: int | None = None
    batch_size: int | None = None

    def __post_init__(self) -> None:
        """Check the sizes.

        Raises:
            ArgumentError: naming the setting and the expected value.
        """
        for name in ("tile", "overlap", "stride", "batch_size"):
            if (value := getattr(self, name)) is not None:
                whole_number(name, value, 0 if name == "overlap" else 1)


def predict_map(
    model: nn.Module | str | Path,
    scene: Files,
    out: str | Path,
    *,
    target: str | Target | None = None,
    probabilities: str | Path | None = None,
    bands: Sequence[str] | None = None,
    scale: Mapping[str, float] | None = None,
    offset: Mapping[str, float] | None = None,
    tiling: Tiling | None = None,
    precision: str = "auto",
    progress: bool = True,
) -> Path:
    """Run a network over a whole scene and write a Cloud-Optimised GeoTIFF.

    The file has eight bits: the index of the class, in the order of `model.outputs[target]`, and 255 where the scene
    has no data; with names and colours of the classes. For multi-label targets it has one band per class instead, 1
    where the probability is at least 0.5. The next call with the same arguments continues one that was interrupted or
    killed, with the same result.

    Args:
        model: a file of `train`, or a network that takes a dict batch, has `inputs` and `outputs`, and returns logits
            (B, K, H, W) or (B, K).
        scene: one or several GeoTIFFs over the same ground, see `Scene`.
        out: the map to write; an existing one is replaced.
        target: one of the model's outputs, if there are several. For a network that is not from a file, a `Target`
            gives the colours, and kind `"labels"` makes it multi-label.
        probabilities: another file to write, with the probability of each class as a band, in steps of 1/250 (eight
            bits with a scale of 0.004).
        bands: names of the bands of the files, see `Scene`.
        scale: scale of the values in the files, see `Scene`.
        offset: offset of the values in the files, see `Scene`.
        tiling: division of the scene into tiles.
        precision: see `bengelib.devices.choose_precision`.
        progress: show a bar.

    Returns:
        The path of the map.

    Raises:
        CheckpointError: a file that `train` did not write.
        BandError: a target that the model lacks, or that has no classes; see also `Scene`.
        RasterError: see `Scene`.
        ArgumentError: `out` is one of the files of the scene or a folder; the tiling leaves pixels out; the device does
            not support the precision; or the model predicts NaN.
        DiskSpaceError: there is too little space.
        DiskError: the file cannot be written.
    """
    out, tiling = absolute(out), tiling or Tiling()
    network, config = (model, {}) if isinstance(model, nn.Module) else load_model(model)
    chosen = _choose_target(network, target, saved_targets(config) if config else {})
    inputs: Any = network.inputs
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    precision = choose_precision(precision)
    network.to(device).eval()
    with (
        rasterio.Env(GDAL_CACHEMAX=_CACHE[0]),
        Scene(scene, inputs, bands=bands, scale=scale, offset=offset, stored=config.get("stored")) as opened,
        torch.inference_mode(),
    ):
        outs = [out] if probabilities is None else [out, absolute(probabilities)]
        _check_outs(outs, opened.paths)
        job = _Job(network, opened, chosen, len(outs) > 1, device, precision, tiling)
        layers = _layers(outs, chosen, opened)
        settings = [chosen, opened.inputs, config.get("stored"), bands, scale, offset, tiling, precision, device.type]
        identity = _identity(network, opened.paths, [*settings, [str(layer) for layer in layers]])
        folder = out.with_name(f"{out.name}.partial")
        again = "call it again: it continues where it stopped"
        waiting = f"Waiting for another process that writes {out.name} ..." if progress else None
        row_of_tiles = job.rows.size * opened.shape[1] * opened.pixel_bytes
        cache = min(_CACHE[1], max(_CACHE[0], row_of_tiles * 5 // 4))
        with writing(out.parent, again):
            for each in outs:
                each.parent.mkdir(parents=True, exist_ok=True)
            with (
                locked(out.with_name(f".{out.name}.lock"), waiting),
                rasterio.Env(GDAL_CACHEMAX=cache),
                tqdm(total=job.count, disable=not progress, leave=False, unit="tile") as bar,
            ):
                store = MapStore(folder, job.grid, layers, identity)
                job.run(store, bar)
                store.publish()
    return out


class _Job:
    """A network, a scene and its tiles."""

    def __init__(
        self,
        model: nn.Module,
        scene: Scene,
        target: Target,
        probabilities: bool,
        device: torch.device,
        precision: str,
        tiling: Tiling,
    ) -> None:
        self.model, self.scene, self.target = model, scene, target.name
        self.multi_label, self.classes = target.kind == "labels", len(target.classes)
        self.device, self.half = device, {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
        self.probable = self.multi_label or probabilities
        height, width = scene.shape
        window = (min(64, height), min(64, width))
        trial = self._answer([self._tile(0, 0, 0, *window)])
        if trial.shape[2:] not in ((), window) or trial.shape[1:2] != (self.classes,):
            expected = f"{(1, self.classes)} or {(1, self.classes, *window)}"
            raise BandError(
                f"the model answers {self.target!r} with {tuple(trial.shape)} numbers for an image of {window} pixels, "
                f"but a map needs logits of its {self.classes} classes: {expected}"
            )
        if not bool(trial.isfinite().all()):
            raise ArgumentError(f"the model answers {self.target!r} with NaN or infinity; its training went wrong")
        self.dense = trial.ndim == 4
        if self.dense:
            tile = 384 if tiling.tile is None else tiling.tile
            overlap = min(32, tile // 4) if tiling.overlap is None else tiling.overlap
            self.rows, self.columns = (overlapping(length, tile, overlap) for length in scene.shape)
            self.stride = 1
        else:
            trained = max(each.size for each in scene.inputs.values() if each.kind == "image") or PATCH_SIZE
            tile = trained if tiling.tile is None else tiling.tile
            if min(scene.shape) < tile:
                warnings.warn(
                    f"the scene has {height} x {width} pixels, fewer than a tile of {tile}: the model sees less than "
                    "the images that it was trained on",
                    DataWarning,
                    stacklevel=3,
                )
            self.stride = min(tile, height, width) if tiling.stride is None else tiling.stride
            self.rows, self.columns = (centred(length, tile, self.stride) for length in scene.shape)
        pixels = self.rows.size * self.columns.size
        budget = _PIXELS.get(device.type, _PIXELS_ELSEWHERE)
        self.batch_size = max(1, budget // pixels) if tiling.batch_size is None else tiling.batch_size
        self.count = len(self.rows.starts) * len(self.columns.starts)

    @property
    def grid(self) -> Grid:
        """Of the map."""
        if self.dense:
            return Grid(self.scene.shape, self.scene.crs, self.scene.transform)
        shape = (len(self.rows.starts), len(self.columns.starts))
        return Grid(shape, self.scene.crs, self.scene.transform * Affine.scale(self.stride))

    def run(self, store: MapStore, bar: Any) -> None:
        """Write every row of tiles that the store lacks."""
        strip_of = self._pixels if self.dense else self._cells
        soften = None if self.probable else partial(torch.softmax, dim=0)
        blend = Blend(self.rows, self.columns, self.classes, self.device, soften)
        if self.dense and store.done:
            blend.seam = torch.from_numpy(store.state()).to(self.device)
        bar.update(store.done * len(self.columns.starts))
        for row in range(store.done, len(self.rows.starts)):
            with store.strip() as strip:
                strip_of(row, strip, blend, bar)
            store.finish(blend.seam.cpu().numpy())

    def _pixels(self, row: int, strip: Strip, blend: Blend, bar: Any) -> None:
        """Predict each pixel, blended with the tiles above and to the left."""
        for tiles in self._read_row(row):
            full = [tile for tile in tiles if tile.valid.any()]
            answers = iter(self._answer(full).unbind()) if full else iter(())
            for tile in tiles:
                if tile.valid.any():
                    answer = next(answers)
                else:
                    answer = torch.zeros(self.classes, self.rows.size, self.columns.size, device=self.device)
                values = blend.join(row, tile.number, answer)
                valid = tile.valid[: values.shape[1], : values.shape[2]]
                self._write(strip, values, valid, self.rows.starts[row], self.columns.starts[tile.number])
                bar.update()

    def _cells(self, row: int, strip: Strip, blend: Blend, bar: Any) -> None:
        """Predict each cell that has data in half of its pixels."""
        top, height = row * self.stride - self.rows.starts[row], self.stride
        values = torch.zeros(self.classes, 1, len(self.columns.starts), device=self.device)
        valid = np.zeros((1, len(self.columns.starts)), dtype=bool)
        for tiles in self._read_row(row):
            for tile in tiles:
                left = tile.number * self.stride - self.columns.starts[tile.number]
                cell = tile.valid[top : top + height, left : left + self.stride]
                valid[0, tile.number] = cell.mean() >= 0.5
            full = [tile for tile in tiles if valid[0, tile.number]]
            if full:
                answers = self._answer(full)  # (B, K)
                values[:, 0, [tile.number for tile in full]] = answers.T
            bar.update(len(tiles))
        self._write(strip, values, valid, row, 0)

    def _write(self, strip: Strip, values: Tensor, valid: np.ndarray, row: int, column: int) -> None:
        """Write the most likely class, and probabilities if requested, of (K, h, w) where there are data."""
        # `argmax` would take eight times as long
        likely = values >= 0.5 if self.multi_label else values.max(dim=0, keepdim=True).indices
        layers = [likely.to(torch.uint8)]
        if len(strip.files) > 1:
            layers.append((values * PROBABILITY_STEPS).round_().to(torch.uint8))
        for number, layer in enumerate(layers):
            numbers = layer.cpu().numpy()
            if not valid.all():
                numbers[:, ~valid] = NO_DATA
            strip.write(number, numbers, row, column)

    def _read_row(self, row: int) -> Iterator[list["_Tile"]]:
        """The tiles of a row in batches; the next one is read during computation."""
        count = len(self.columns.starts)
        groups = [range(first, min(count, first + self.batch_size)) for first in range(0, count, self.batch_size)]

        def read(numbers: Sequence[int]) -> list[_Tile]:
            size = (self.rows.size, self.columns.size)
            return [self._tile(number, self.rows.starts[row], self.columns.starts[number], *size) for number in numbers]

        return _read_ahead(read, groups)

    def _tile(self, number: int, row: int, column: int, height: int, width: int) -> "_Tile":
        images, valid = self.scene.read(row, column, height, width)
        return _Tile(number, (row + height / 2, column + width / 2), images, valid)

    def _answer(self, tiles: Sequence["_Tile"]) -> Tensor:
        """Probabilities, or logits if sufficient, of some tiles, (B, K, H, W) or (B, K) float32."""
        batch: dict[str, Tensor] = {}
        for key in list(tiles[0].images):
            images = [tile.images.pop(key) for tile in tiles]
            stacked = images[0][None] if len(images) == 1 else np.stack(images)  # (B, k, H, W)
            batch[key] = torch.from_numpy(stacked).to(self.device)
        for key, value in self.scene.vectors.items():
            repeated = torch.from_numpy(value).to(self.device).expand(len(tiles), -1)
            batch[key] = repeated[:, 0] if len(value) == 1 else repeated
        for key in self.scene.places:
            rows, columns = zip(*(tile.middle for tile in tiles), strict=True)
            batch[key] = torch.from_numpy(self.scene.lonlat(rows, columns)).to(self.device)
        with torch.autocast(self.device.type, dtype=self.half, enabled=self.half is not None):
            logits = self.model(batch)[self.target].float()
        if not self.probable:
            return logits
        return logits.sigmoid() if self.multi_label else logits.softmax(dim=1)


class _Tile(NamedTuple):
    """One window of a scene."""

    number: int  # in its row of tiles
    middle: tuple[float, float]  # row and column
    images: dict[str, np.ndarray]  # until the prediction
    valid: np.ndarray


def _read_ahead(read: Callable[[_T], _R], items: Iterable[_T]) -> Iterator[_R]:
    """`read` of every item, in order, one ahead of the caller in another thread."""
    with ThreadPoolExecutor(1) as pool:
        coming: list[Future[_R]] = []
        for item in items:
            coming.append(pool.submit(read, item))
            if len(coming) > 1:
                yield coming.pop(0).result()
        for last in coming:
            yield last.result()


def _choose_target(model: nn.Module, target: str | Target | None, known: Mapping[str, Target]) -> Target:
    """The target to map.

    Raises:
        BandError: see `predict_map`.
    """
    outputs: Mapping[str, Sequence[str]] = getattr(model, "outputs", {})
    able = [name for name, classes in outputs.items() if classes]
    name = target.name if isinstance(target, Target) else target
    if name is None and len(able) == 1:
        (name,) = able
    if name not in able:
        what = f"target {name!r} cannot be mapped" if name else "the target to map must be named"
        raise BandError(f"{what}: the model answers {list(outputs)}, of which {able} have classes. Choose one of them")
    if isinstance(target, Target):
        if target.classes != tuple(outputs[name]):
            raise BandError(f"the classes of {name!r} are {tuple(outputs[name])}, not {target.classes}")
        return target
    return known.get(name) or Target(name, "class", tuple(outputs[name]))


def _check_outs(outs: Sequence[Path], paths: Sequence[str]) -> None:
    """Refuse to overwrite files of the scene, or to write where that is impossible.

    Raises:
        ArgumentError: naming the file.
    """
    for out in outs:
        if out.is_dir():
            raise ArgumentError(f"{out} is a folder; give the name of a file to write, such as {out / 'map.tif'}")
        if any(out == absolute(path) or (out.exists() and out.samefile(path)) for path in paths):
            raise ArgumentError(f"{out} is a file of the scene; give another name for the map")
    if len(outs) > 1 and outs[0] == outs[1]:
        raise ArgumentError(f"{outs[0]} for both map and probabilities; give two names")


def _layers(outs: Sequence[Path], target: Target, scene: Scene) -> list[Layer]:
    """The rasters to write: the map, and probabilities if requested."""
    names = ", ".join(dict.fromkeys(Path(path).name for path in scene.paths))
    tags = {"TIFFTAG_SOFTWARE": f"bengelib {__version__}", "target": target.name, "scene": names}
    if target.kind == "labels":
        layers = [Layer(outs[0], target.classes, tags=tags)]
    else:
        layers = [Layer(outs[0], (target.name,), categories=target.classes, colours=class_colours(target), tags=tags)]
    if len(outs) > 1:
        layers.append(Layer(outs[1], target.classes, 1 / PROBABILITY_STEPS, tags=tags))
    return layers


def class_colours(target: Target) -> tuple[tuple[int, int, int], ...]:
    """Red, green and blue of each class, 0 to 255: its own, those of a published legend, or distinct ones."""
    legends = ({each.name: each.colour for each in LAND_COVER}, {each.symbol: each.colour for each in CLIMATE_ZONES})
    for legend in (dict(zip(target.classes, target.colours, strict=False)), *legends):
        if set(target.classes) <= legend.keys():
            return tuple(_rgb(legend[name]) for name in target.classes)
    return tuple(_hue(number) for number in range(len(target.classes)))


def _rgb(colour: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue


def _hue(number: int) -> tuple[int, int, int]:
    """Colour `number` of a sequence with hues a golden angle apart and three alternating lightnesses."""
    import colorsys

    shade = colorsys.hls_to_rgb(number * 0.618034 % 1, (0.5, 0.35, 0.68)[number % 3], 0.75)
    red, green, blue = (round(255 * part) for part in shade)
    return red, green, blue


def _identity(model: nn.Module, paths: Sequence[str], settings: Sequence[Any]) -> str:
    """A hash of everything that a map depends on: weights, files by size and time, settings, and this version."""
    digest = hashlib.sha256(json.dumps([__version__, torch.__version__, repr(model), *map(str, settings)]).encode())
    for path in paths:
        stat = Path(path).stat()
        digest.update(f"{absolute(path)} {stat.st_size} {stat.st_mtime_ns}".encode(errors="surrogateescape"))
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode() + value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()

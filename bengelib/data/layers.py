"""Reads the images and maps of described datasets: GeoTIFF of any type, PNG, JPEG and NPY. Needs no torch.

The first sample says how a modality is stored: types, sizes, and the tags of its files. Every other sample has to be
the same, or `dataset.toml` has to give the rule.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from bengelib.bands import IGNORE_INDEX
from bengelib.data.description import Source
from bengelib.errors import MissingModalityError, RasterError

_TYPES = {
    "uint8": "uint8",
    "uint16": "uint16",
    "int16": "int16",
    "int8": "int16",
    "uint32": "float64",
    "int32": "float64",
    "uint64": "float64",
    "int64": "float64",
    "float16": "float32",
    "float32": "float32",
    "float64": "float64",
    "bool": "uint8",
}
"""Type in which each type of a file is kept: torch computes with few unsigned types."""


@dataclass(frozen=True)
class Layer:
    """What one file, or some bands of it, holds."""

    path: Path
    pixels: np.ndarray  # (k, h, w)
    no_data: float | None
    scale: tuple[float, ...]
    offset: tuple[float, ...]


@dataclass(frozen=True)
class Layout:
    """How an image or map is stored, as its first sample shows it.

    Attributes:
        arrays: by name of an array, the places of its bands and the shape of one sample: (k, h, w) of an image, (h, w)
            of a map.
        dtype: of the arrays.
        scale: of each band, from the description or the tags of the files; empty for 1.
        offset: of each band; empty for 0.
        no_data: stored numbers that are no measurement.
        shape: pixels of a sample, rows and columns.
    """

    arrays: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
    dtype: str
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    no_data: tuple[float, ...]
    shape: tuple[int, int]


def find_layout(source: Source, row: Mapping[str, str]) -> Layout:
    """How an image or map is stored, from the files of one sample.

    Raises:
        MissingModalityError: a file is not there.
        RasterError: one cannot be read, has other bands than the description, or types that differ.
    """
    layers = _read_files(source, row, None)
    if source.kind == "map":
        (layer,) = layers
        height, width = _sized(source, layer.pixels.shape[1:])
        no_data = source.no_data or _tag(layer)
        return Layout({source.key: ((0,), (height, width))}, "uint8", (), (), no_data, (height, width))
    types = {_TYPES[layer.pixels.dtype.name] for layer in layers}
    if len(types) > 1:
        raise RasterError(
            f"the files of {source.key} have the types {sorted(types)}, such as {layers[0].path}; describe them as two "
            "modalities, or store them alike"
        )
    tags = {_tag(layer) for layer in layers}
    if len(tags) > 1 and not source.no_data:
        raise RasterError(f"the files of {source.key} name {sorted(tags)} as no data; state no_data in dataset.toml")
    scale = source.scale or tuple(value for layer in layers for value in layer.scale)
    offset = source.offset or (() if source.scale else tuple(value for layer in layers for value in layer.offset))
    by_shape: dict[tuple[int, ...], list[int]] = {}
    places = iter(range(len(source.bands)))
    for layer in layers:
        for _ in range(len(layer.pixels)):
            by_shape.setdefault(layer.pixels.shape[1:], []).append(next(places))
    if source.size and len(by_shape) == 1:  # one file, or files of one resolution: read at the size that was asked for
        by_shape = {(source.size, source.size): list(range(len(source.bands)))}
    largest = max(by_shape)
    shape = (source.size, source.size) if source.size else (largest[0], largest[1])
    names = {pixels: source.key if len(by_shape) == 1 else f"{source.key}_{pixels[0]}" for pixels in by_shape}
    arrays = {names[pixels]: (tuple(bands), (len(bands), *pixels)) for pixels, bands in by_shape.items()}
    dtype = types.pop()
    one = all(value == 1 for value in scale), all(value == 0 for value in offset)
    return Layout(arrays, dtype, () if one[0] else scale, () if one[1] else offset, source.no_data or tags.pop(), shape)


def read_stored(source: Source, layout: Layout, row: Mapping[str, str]) -> dict[str, np.ndarray]:
    """The arrays of one sample, as they are stored.

    Raises:
        MissingModalityError: a file is not there.
        RasterError: it cannot be read, differs from the layout without a rule, holds no data at all, or of a map a code
            that the description does not name.
    """
    layers = _read_files(source, row, layout)
    where = str(layers[0].path)
    if source.kind == "map":
        return {source.key: _as_indices(source, layout, layers[0].pixels[0], where)}
    bands = [band for layer in layers for band in layer.pixels]
    if not any(measured(band, layout.no_data).any() for band in bands):
        raise RasterError(f"{where} holds no data at all for {source.key}; leave the sample out of the table")
    stored = {}
    for name, (places, _) in layout.arrays.items():
        stored[name] = np.stack([bands[place] for place in places]).astype(layout.dtype)
    return stored


def measured(pixels: np.ndarray, no_data: Sequence[float]) -> np.ndarray:
    """Where pixels, of any shape, are a measurement."""
    there = np.isfinite(pixels) if pixels.dtype.kind == "f" else np.ones(pixels.shape, bool)
    for value in no_data:
        there &= pixels != value
    return there


def _as_indices(source: Source, layout: Layout, codes: np.ndarray, where: str) -> np.ndarray:
    """Indices of classes, (h, w) uint8, of a map of codes; 255 where there is no data."""
    indices = np.full(codes.shape, IGNORE_INDEX, np.uint8)
    known = ~measured(codes, layout.no_data)
    for index, code in enumerate(source.codes):
        here = codes == code
        indices[here] = index
        known |= here
    if not known.all():
        odd = codes[~known][0]
        raise RasterError(
            f"{where} holds the code {odd:g} at {int((~known).sum())} pixels, which is no class of {source.key}, "
            f"{dict(zip(source.codes, source.classes, strict=True))}; add it to classes or to no_data in dataset.toml"
        )
    return indices


def _read_files(source: Source, row: Mapping[str, str], layout: Layout | None) -> list[Layer]:
    """The files of one sample, in the order of the bands."""
    assert source.files is not None
    if "band" in source.files.fields:
        shapes = {place: shape for places, shape in (layout.arrays.values() if layout else ()) for place in places}
        return [
            _read(source, source.files.path(row, band), (band,), layout, shapes.get(place))
            for place, band in enumerate(source.bands)
        ]
    shape = next(iter(layout.arrays.values()))[1] if layout and len(layout.arrays) == 1 else None
    wanted = ("",) if source.kind == "map" else source.bands
    return [_read(source, source.files.path(row), wanted, layout, shape)]


def _read(
    source: Source, path: Path, bands: Sequence[str], layout: Layout | None, shape: tuple[int, ...] | None
) -> Layer:
    """Some bands of one file, at the size of the layout if the description states one."""
    if not path.is_file():
        raise MissingModalityError(
            f"no {path}, which [{source.key}] files = {source.files.text if source.files else ''!r} asks for; mend the "
            "pattern or the table, or leave the sample out"
        )
    try:
        layer = _read_npy(source, path, bands) if path.suffix == ".npy" else _read_raster(source, path, bands, shape)
    except (RasterioError, OSError, ValueError, MemoryError) as error:
        if isinstance(error, RasterError):
            raise
        raise RasterError(f"{path} cannot be read ({error})") from error
    if layer.pixels.dtype.name not in _TYPES:
        raise RasterError(
            f"{path} holds {layer.pixels.dtype}, which is no real number; store magnitude and phase apart"
        )
    if layout is not None:
        _compare(source, layout, layer, shape)
    return layer


def _compare(source: Source, layout: Layout, layer: Layer, shape: tuple[int, ...] | None) -> None:
    """Refuse a file that differs from the first one where no rule is stated."""
    expected = shape[-2:] if shape else layout.shape
    if layer.pixels.shape[1:] != expected:
        raise RasterError(
            f"{layer.path} has {layer.pixels.shape[1]} x {layer.pixels.shape[2]} pixels, the first sample "
            f"{expected[0]} x {expected[1]}; state the size that samples shall have, such as size = {expected[0]}, in "
            f"[{source.key}] of dataset.toml"
        )
    if source.kind == "map":
        return
    dtype = _TYPES[layer.pixels.dtype.name]
    if dtype != layout.dtype:
        raise RasterError(
            f"{layer.path} holds {layer.pixels.dtype}, the first sample {layout.dtype}; store all files alike"
        )
    tag = _tag(layer)
    if not source.no_data and tag != layout.no_data:
        raise RasterError(
            f"{layer.path} names {tag or 'nothing'} as no data, the first sample {layout.no_data or 'nothing'}; state "
            f"no_data in [{source.key}] of dataset.toml"
        )
    if not source.scale and any(s != 1 for s in layer.scale) != bool(layout.scale):
        raise RasterError(
            f"{layer.path} has the scale {layer.scale}, the first sample {layout.scale or 1}; state scale and offset "
            f"in [{source.key}] of dataset.toml"
        )


def _tag(layer: Layer) -> tuple[float, ...]:
    return () if layer.no_data is None or not np.isfinite(layer.no_data) else (float(layer.no_data),)


def _sized(source: Source, shape: Sequence[int]) -> tuple[int, int]:
    return (source.size, source.size) if source.size else (shape[0], shape[1])


def _read_raster(source: Source, path: Path, bands: Sequence[str], shape: tuple[int, ...] | None) -> Layer:
    """Bands of a GeoTIFF, PNG or JPEG by GDAL; resampled to the size that is stated, maps to the nearest pixel."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as file:
            layers = _chosen(source, path, bands, file.count, file.descriptions)
            options: dict[str, Any] = {}
            if shape is not None and source.size and (file.height, file.width) != shape[-2:]:
                options["out_shape"] = (len(layers), *shape[-2:])
                options["resampling"] = Resampling.nearest if source.kind == "map" else Resampling.bilinear
            pixels = file.read(layers, **options)
            places = [layer - 1 for layer in layers]
            return Layer(
                path,
                pixels,
                file.nodatavals[places[0]],
                tuple(file.scales[place] for place in places),
                tuple(file.offsets[place] for place in places),
            )


def _read_npy(source: Source, path: Path, bands: Sequence[str]) -> Layer:
    """Bands of a `.npy` file of shape (bands, h, w), or (h, w) of one band."""
    pixels = np.load(path, allow_pickle=False)
    if pixels.ndim == 2:
        pixels = pixels[None]
    if pixels.ndim != 3:
        raise RasterError(f"{path} has shape {pixels.shape}; expected (bands, rows, columns)")
    layers = _chosen(source, path, bands, len(pixels), ())
    ones = (1.0,) * len(layers)
    return Layer(path, pixels[[layer - 1 for layer in layers]], None, ones, (0.0,) * len(layers))


def _chosen(
    source: Source, path: Path, bands: Sequence[str], count: int, descriptions: Sequence[str | None]
) -> list[int]:
    """Numbers of the layers of a file, from 1, that hold the bands.

    In this order: the layers that the description names, the layers whose own names are those of the bands, or all
    layers in their order.
    """
    if source.layers and "band" not in (source.files.fields if source.files else ()):
        if max(source.layers) > count:
            raise RasterError(f"{path} has {count} layers, but [{source.key}] layers asks for {list(source.layers)}")
        return list(source.layers)
    names = [name or "" for name in descriptions]
    if all(band in names for band in bands):
        return [names.index(band) + 1 for band in bands]
    if count == len(bands):
        return list(range(1, count + 1))
    own = f", named {names}" if any(names) else ""
    raise RasterError(
        f"{path} has {count} layers{own}, but [{source.key}] names {len(bands)} bands, {list(bands)[:16]}; name all of "
        "them in the order of the file, or say in layers = [...] which they are, from 1"
    )

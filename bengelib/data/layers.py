"""Images and maps of described datasets: GeoTIFF of any type, PNG, JPEG and NPY. Needs no torch.

The first sample defines the layout of a modality: types, sizes, and tags of its files. All other samples must agree, or
`dataset.toml` must state the rule.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from bengelib.bands import IGNORE_INDEX
from bengelib.data.description import Source
from bengelib.data.geotiff import read_plain
from bengelib.data.ground import (
    Ground,
    check_alike,
    check_together,
    extent_of,
    ground_at,
    ground_of,
    same_extent,
    shown_metres,
)
from bengelib.data.value_tags import changing_tags, no_data_tags
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
"""Stored type of each file type: torch supports few unsigned types."""

_STRICT = {"GDAL_ERROR_ON_LIBJPEG_WARNING": "YES", "GDAL_PNG_WHOLE_IMAGE_OPTIM": "NO"}
"""Settings without which GDAL silently fills truncated JPEG with grey and truncated PNG with zeros."""


@dataclass(frozen=True)
class Layer:
    """The part of a sample in one file: pixels (k, h, w) of the bands at `places`, their tags, and their ground."""

    path: Path
    places: tuple[int, ...]
    pixels: np.ndarray
    no_data: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    offset: tuple[float, ...] = ()
    ground: Ground | None = None


@dataclass(frozen=True)
class Layout:
    """Storage layout of an image or map, from its first sample.

    Attributes:
        arrays: by name of an array, the indices of its bands and the shape of one sample: (k, h, w) of an image, (h, w)
            of a map.
        dtype: of the arrays.
        scale: of each band, from the tags of the files; empty for 1.
        offset: of each band; empty for 0.
        no_data: stored values that are not measurements, from the description or the tags.
        shape: pixels of a sample, rows and columns.
        extent: metres of a sample, width and height, and degrees if its files are in degrees, see `extent_of`; empty if
            they do not say where they lie.
    """

    arrays: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
    dtype: str
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    no_data: tuple[float, ...]
    shape: tuple[int, int]
    extent: tuple[float, ...] = ()

    def array_of(self, place: int) -> tuple[int, ...]:
        """Shape of the array that holds the band of an index."""
        return next(shape for places, shape in self.arrays.values() if place in places)

    def empty(self, name: str) -> np.ndarray:
        """An array of zero samples."""
        return np.empty((0, *self.arrays[name][1]), self.dtype)

    def scales(self, source: Source) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Scale and offset of each band, from the description or, if it has neither, from the tags; empty for 1 and 0.

        A stated scale replaces both tags.
        """
        offset = source.offset or (() if source.scale else self.offset)
        return source.scale or self.scale, offset if any(offset) else ()


def find_layout(source: Source, row: Mapping[str, str]) -> Layout:
    """Storage layout of an image or map, from the files of one sample.

    Raises:
        MissingModalityError: a file is missing.
        RasterError: a file cannot be read, has other bands than the description, or types or shapes differ.
    """
    layers = _read_files(source, row, None)
    by_shape: dict[tuple[int, int], list[int]] = {}
    for layer in layers:
        by_shape.setdefault((layer.pixels.shape[1], layer.pixels.shape[2]), []).extend(layer.places)
    rows, columns = shape = max(by_shape)
    if source.size:
        shape = (source.size, source.size)
        if len(by_shape) == 1:  # one file, or files of one resolution: read at the stated size
            by_shape = {shape: list(range(len(source.bands) or 1))}
    elif odd := [each for each in by_shape if each[0] * columns != each[1] * rows]:
        raise RasterError(
            f"{source.where} the files of a sample have {odd[0][0]} x {odd[0][1]} and {rows} x {columns} pixels, such "
            f"as {layers[0].path}; state the size of the samples, such as size = {rows}"
        )
    check_alike([layer.ground for layer in layers if layer.ground is not None], source.where)
    names = {each: f"{source.key}.{each[0]}x{each[1]}" for each in by_shape}  # with a full stop, which keys cannot have
    no_data = source.no_data or layers[0].no_data
    extent = extent_of(layers[0].ground) if layers[0].ground else ()
    if source.kind == "map":
        return Layout({names[shape]: ((0,), shape)}, "uint8", (), (), no_data, shape, extent)
    types = {_TYPES[layer.pixels.dtype.name] for layer in layers}
    if len(types) > 1:
        raise RasterError(
            f"{source.where} the files of a sample have the types {sorted(types)}, such as {layers[0].path}; describe "
            "them as two modalities, or store them alike"
        )
    if not source.no_data and (other := next((layer for layer in layers if layer.no_data != no_data), None)):
        raise RasterError(_no_data_differs(source, other, layers[0].path.name, no_data))
    scale = tuple(value for layer in layers for value in layer.scale)
    offset = tuple(value for layer in layers for value in layer.offset)
    return Layout(
        {names[each]: (tuple(places), (len(places), *each)) for each, places in by_shape.items()},
        types.pop(),
        scale if any(value != 1 for value in scale) else (),
        offset if any(offset) else (),
        no_data,
        shape,
        extent,
    )


def read_stored(
    source: Source, layout: Layout, row: Mapping[str, str], grounds: list[Ground] | None = None
) -> dict[str, np.ndarray]:
    """The stored arrays of one sample.

    Args:
        source: description of an image or map.
        layout: of its samples.
        row: of the sample in the table.
        grounds: where the files of the sample lie that were read before, the first of them; it is added if there is
            none.

    Raises:
        MissingModalityError: a file is missing.
        RasterError: a file cannot be read, differs from the layout without a rule, lies elsewhere than another file of
            the sample, has no measurement at all, or is a map with an unknown code.
    """
    layers = _read_files(source, row, layout)
    grounds = [] if grounds is None else grounds
    mine = [layer.ground for layer in layers if layer.ground is not None]
    check_alike(mine, source.where)
    for ground in mine:
        if not grounds:
            grounds.append(ground)
        check_together(grounds[0], ground, source.where)
    if source.kind == "map":
        (name,) = layout.arrays
        return {name: _as_indices(source, layers[0])}
    bands = [band for layer in layers for band in layer.pixels]
    if not any(measured(band, layout.no_data).any() for band in bands):
        raise RasterError(
            f"{layers[0].path} has no data at any pixel of {source.key} (no data: {list(layout.no_data) or 'NaN'}); "
            f'correct no_data of {source.where}, or give on_error="skip" to leave the sample out'
        )
    return {
        name: np.stack([bands[place] for place in places]).astype(layout.dtype, copy=False)
        for name, (places, _) in layout.arrays.items()
    }


def measured(pixels: np.ndarray, no_data: Sequence[float]) -> np.ndarray:
    """Mask of the pixels, of any shape, that are measurements."""
    there = np.isfinite(pixels) if pixels.dtype.kind == "f" else np.ones(pixels.shape, bool)
    for value in no_data:
        there &= pixels != value
    return there


def _as_indices(source: Source, layer: Layer) -> np.ndarray:
    """Class indices, (h, w) uint8, of a map of codes; 255 for no data."""
    codes = layer.pixels[0]
    indices = np.full(codes.shape, IGNORE_INDEX, np.uint8)
    known = ~measured(codes, source.no_data or layer.no_data)
    for index, code in enumerate(source.codes):
        here = codes == code
        indices[here] = index
        known |= here
    if not known.all():
        odd = codes[~known][0]
        raise RasterError(
            f"{layer.path} holds {odd:g} at {int((~known).sum())} pixels, which is not a class of {source.where} "
            f"classes = {dict(zip(source.codes, source.classes, strict=True))}; add it there or to no_data"
        )
    return indices


def _read_files(source: Source, row: Mapping[str, str], layout: Layout | None) -> list[Layer]:
    """The files of one sample, in the order of the bands."""
    assert source.files is not None
    if not source.per_band:
        return [_read(source, source.files.path(row), tuple(range(len(source.bands))), layout)]
    return [_read(source, source.files.path(row, band), (n,), layout) for n, band in enumerate(source.bands)]


def _read(source: Source, path: Path, places: tuple[int, ...], layout: Layout | None) -> Layer:
    """Some bands of a source from one file, at the size of the layout if the description states one."""
    if source.kind == "map":
        places = (0,)
    if not path.is_file():
        raise MissingModalityError(
            f"no {path}, which {source.files.where if source.files else source.where} asks for; correct the pattern or "
            'the table, or give on_error="skip" to leave the sample out'
        )
    shape = layout.array_of(places[0])[-2:] if layout else None
    try:
        read = _read_npy if path.suffix.lower() == ".npy" else _read_raster
        layer = read(source, path, places, shape if source.size else None)
    except RasterError:
        raise
    except (RasterioError, OSError, ValueError, MemoryError) as error:
        raise RasterError(
            f'{path} cannot be read ({error}); get it again for {source.where}, or give on_error="skip" to leave the '
            "sample out"
        ) from error
    if layer.pixels.dtype.name not in _TYPES:
        raise RasterError(f"{path} holds {layer.pixels.dtype}, not real numbers; store the parts of complex ones apart")
    if layout is not None and shape is not None:
        _compare(source, layout, layer, shape)
    return layer


def _compare(source: Source, layout: Layout, layer: Layer, shape: Sequence[int]) -> None:
    """Refuse a file that differs from the first one without a stated rule."""
    height, width = layer.pixels.shape[1:]
    if (height, width) != tuple(shape):
        raise RasterError(
            f"{layer.path} has {height} x {width} pixels, the first sample {shape[0]} x {shape[1]}; state the size "
            f"of the samples, such as size = {shape[0]}, in {source.where}"
        )
    extent = extent_of(layer.ground) if layer.ground and layout.extent and not source.size else layout.extent
    if not same_extent(extent, layout.extent):
        raise RasterError(
            f"{layer.path} shows {shown_metres(extent)} of ground, the first sample {shown_metres(layout.extent)}, in "
            f"as many pixels: the files of {source.where} are of different resolution. Resample them to one pixel size "
            f"(gdalwarp -tr), or state size = {shape[0]} there if that is meant"
        )
    if source.kind == "map":
        return
    if _TYPES[layer.pixels.dtype.name] != layout.dtype:
        raise RasterError(
            f"{layer.path} holds {layer.pixels.dtype}, the first sample {layout.dtype}; store all files of "
            f"{source.where} alike"
        )
    if not source.no_data and layer.no_data != layout.no_data:
        raise RasterError(_no_data_differs(source, layer, "the first sample", layout.no_data))
    for name, stated, tags, first, neutral in (
        ("scale", source.scale, layer.scale, layout.scale, 1.0),
        ("offset", source.offset or source.scale, layer.offset, layout.offset, 0.0),
    ):
        expected = tuple(first[place] if first else neutral for place in layer.places)
        if not stated and tags != expected:
            raise RasterError(
                f"{layer.path} has the {name} {list(tags)}, the first sample {list(expected)}; store all files alike, "
                f"or state scale and offset in {source.where}"
            )


def _no_data_differs(source: Source, layer: Layer, other: str, no_data: Sequence[float]) -> str:
    names = [f"{list(values)}" if values else "nothing" for values in (layer.no_data, no_data)]
    return f"{layer.path} names {names[0]} as no data, {other} {names[1]}; state no_data in {source.where}"


def _read_raster(source: Source, path: Path, places: tuple[int, ...], shape: Sequence[int] | None) -> Layer:
    """Bands of a GeoTIFF, PNG or JPEG, read by GDAL at `shape` (h, w) if given."""
    is_tiff = path.suffix.lower() in (".tif", ".tiff")
    if is_tiff and (layer := _read_plain(source, path, places, shape)) is not None:
        return layer
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with nullcontext() if is_tiff else rasterio.Env(**_STRICT), rasterio.open(path) as file:
            chosen = _chosen(source, path, places, file.count, file.descriptions)
            _check_meaning(source, path, file, chosen[0])
            pixels = file.read(chosen)
            if shape is not None and pixels.shape[1:] != tuple(shape):
                blends = source.kind == "image" and measured(pixels, source.no_data).all()
                how = Resampling.bilinear if blends else Resampling.nearest  # no data must not blend
                pixels = file.read(chosen, out_shape=(len(chosen), *shape), resampling=how)
            tags = [*file.tags().items(), *(item for layer in chosen for item in file.tags(layer).items())]
            scale = tuple(file.scales[layer - 1] for layer in chosen)
            offset = tuple(file.offsets[layer - 1] for layer in chosen)
            applied = source.kind == "map" or source.scale or source.offset or {*scale} != {1.0} or any(offset)
            if not applied and (odd := changing_tags(tags)):
                raise RasterError(
                    f"{path} has tags that scale or shift its values ({', '.join(odd)}); "
                    f"state scale and offset in {source.where}"
                )
            no_data = [file.nodatavals[chosen[0] - 1], *no_data_tags(str(path), tags)]
            finite = dict.fromkeys(float(value) for value in no_data if value is not None and math.isfinite(value))
            return Layer(path, places, pixels, tuple(finite), scale, offset, ground_of(path, file))


def _read_plain(source: Source, path: Path, places: tuple[int, ...], shape: Sequence[int] | None) -> Layer | None:
    """A plain single-band GeoTIFF, read without rasterio, which takes ten times as long; None if there is more to it.

    More is whatever could make the values others, or be refused.
    """
    if len(places) != 1 or source.layers not in ((), (1,)) or (read := read_plain(path)) is None:
        return None
    pixels, header = read
    no_data = tuple(value for value in header.no_data if math.isfinite(value))
    if (header.palette and source.kind == "image") or (shape is not None and pixels.shape != tuple(shape)):
        return None
    if any(not _is_exact(value, pixels.dtype) for value in no_data):
        return None
    return Layer(path, places, pixels[None], no_data, (1.0,), (0.0,), ground_at(path, header.place))


def _is_exact(value: float, dtype: np.dtype[Any]) -> bool:
    """True if a type has exactly this value."""
    if dtype.kind == "f":
        return abs(value) <= np.finfo(dtype).max and float(dtype.type(value)) == value
    return float(np.iinfo(dtype).min) <= value <= float(np.iinfo(dtype).max) and value == int(value)


def _check_meaning(source: Source, path: Path, file: Any, layer: int) -> None:
    """Refuse pixels that are palette indices, masked, or one of several pages."""
    if file.subdatasets:
        raise RasterError(f"{path} has {len(file.subdatasets)} pages or parts; expected the bands as layers of one")
    if source.kind == "image" and file.colorinterp[layer - 1] == ColorInterp.palette:
        raise RasterError(
            f"{path} holds the numbers of colours in a palette, which are not measurements; describe {source.where} "
            "with kind = 'map' if they are classes, else store the colours themselves"
        )
    flags = file.mask_flag_enums[layer - 1]
    if MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags and not file.dataset_mask().all():
        raise RasterError(
            f"{path} hides pixels by a mask, which is not read; write a number that is not a measurement into them, "
            f"and state it as no_data in {source.where}"
        )


def _read_npy(source: Source, path: Path, places: tuple[int, ...], shape: Sequence[int] | None) -> Layer:
    """Bands of a `.npy` file of shape (bands, h, w), or (h, w) for one band."""
    with path.open("rb") as file:
        pixels = np.lib.format.read_array(file, allow_pickle=False)
    if pixels.ndim == 2:
        pixels = pixels[None]
    if pixels.ndim != 3:
        raise RasterError(f"{path} has shape {pixels.shape}; expected (bands, rows, columns)")
    if shape is not None and pixels.shape[1:] != tuple(shape):
        raise RasterError(
            f"{path} has {pixels.shape[1]} x {pixels.shape[2]} pixels; {source.where} states size = {source.size}, to "
            "which .npy files are not resampled: store them at that size, or as GeoTIFF"
        )
    chosen = _chosen(source, path, places, len(pixels), ())
    ones, zeros = (1.0,) * len(chosen), (0.0,) * len(chosen)
    return Layer(path, places, pixels[[layer - 1 for layer in chosen]], (), ones, zeros)


def _chosen(
    source: Source, path: Path, places: Sequence[int], count: int, descriptions: Sequence[str | None]
) -> list[int]:
    """Numbers of the layers of a file, from 1, that hold some bands.

    In order of preference: the layers in the description, the layers named like the bands, or all layers in order.
    """
    if source.layers:
        if max(source.layers) > count:
            raise RasterError(f"{path} has {count} layers, but {source.where} layers = {list(source.layers)}")
        return list(source.layers)
    bands = [source.bands[place] for place in places] if source.kind == "image" else []
    wanted = [band.casefold().strip() for band in bands]
    names = [(name or "").casefold().strip() for name in descriptions]
    found = [band for band in wanted if names.count(band) == 1]
    if wanted and len(found) == len(wanted):
        return [names.index(band) + 1 for band in wanted]
    if count == len(places) and not (found and count > 1):
        return list(range(1, count + 1))
    own = f", named {list(descriptions)}" if any(names) else ""
    asked = f"the bands {bands[:16]}" if bands else "one map"
    raise RasterError(
        f"{path} has {count} layers{own}, but {source.where} asks for {asked}; name the bands as the file does, or all "
        "of them in its order, or say in layers = [...] which they are, from 1"
    )

"""One scene: GeoTIFFs of any size over the same ground, read window by window in the units of a model. Needs no torch.

A patch is read whole and by fixed names (`rasters`). A scene comes in any form: one file of many bands, one file per
band or per sensor, of any type, at several resolutions, with tags that scale its values. Bands are found by name, not
by position, and data that contradict the model are refused before any computation.
"""

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import rasterio
from rasterio.enums import MaskFlags
from rasterio.windows import Window

from bengelib.bands import REFLECTANCE_SCALE
from bengelib.data.geotiff import place_of, value_tags
from bengelib.data.ground import Ground, extent_of, ground_at, pixel_of, same_extent, shown_metres
from bengelib.data.plausible import check_together, check_values
from bengelib.data.scene_files import Files, find_bands, open_raster, sort_files
from bengelib.data.tiff import AGAIN
from bengelib.data.value_tags import check_value_tags
from bengelib.errors import ArgumentError, BandError, RasterError
from bengelib.modalities import InputSpec, Modality, as_modalities

_FAR, _FLAT = 30.0, 1 / 50
"""A scene contradicts the model if the root mean square of every band is this many times that of the training data, or
if the spread of all of several bands is smaller by this factor. Neither occurs on the Earth: the whole range from water
to snow is about 30, whereas digital numbers, decibels and reflectance differ by factors of 100 to 10,000."""
_SAMPLE, _SIDE = 4, 64
"""Values of a scene are checked in 4 x 4 windows of 64 x 64 pixels before it is mapped."""


class _Layer(NamedTuple):
    """Bands of one file that belong to one modality."""

    file: int
    indices: tuple[int, ...]  # in the file, from 1
    places: tuple[int, ...]  # among the bands of the modality
    scale: np.ndarray  # (k, 1, 1) float32
    offset: np.ndarray
    no_data: tuple[tuple[Any, ...], ...]  # of each band, in the type of the file
    codes: tuple[int, ...] = ()  # of the classes, if the layer is a map of them: a band for each


class _Part(NamedTuple):
    """A window of some bands."""

    values: np.ndarray  # (k, H, W) float32, in the unit of the model
    there: np.ndarray  # (H, W) bool, where all bands have data
    lit: np.ndarray  # (H, W) bool, where any band is not 0; of a map of classes everywhere


class Scene:
    """Files over the same ground as one stack of named bands; a context manager that closes them.

    Attributes:
        inputs: modalities of the model.
        shape: rows and columns of the finest file.
        crs: coordinate system, of `rasterio`.
        transform: from columns and rows to coordinates.
        vectors: modalities that are not images, (k,) float32 by key, as far as they were given.
        places: keys of longitude and latitude, which `lonlat` computes.
        paths: the files.
    """

    def __init__(
        self,
        files: Files,
        inputs: InputSpec,
        *,
        bands: Sequence[str] | None = None,
        scale: Mapping[str, float] | None = None,
        offset: Mapping[str, float] | None = None,
        stored: Mapping[str, Mapping[str, Sequence[float]]] | None = None,
    ) -> None:
        """Open the files, find the bands, and compare grids and values.

        Args:
            files: a path, several paths, or a dict. A key of the dict is a modality or a band of the model, its value a
                path, several paths, or numbers for a modality that is not an image. `"s2=FILE"` is equivalent.
            inputs: modalities of the model.
            bands: one name for each band of the files, file after file, if the files' own descriptions are missing or
                differ from the model; names unknown to the model are ignored.
            scale: factor from the numbers in the files to the unit of the model, by modality; replaces that of the
                files or of `stored`, and the default of 0.0001 for reflectance in whole numbers.
            offset: added after scaling, by modality, in the unit of the model.
            stored: facts about the training files, by modality: `scale` and `offset` of each band and `no_data`, for
                files without such tags, and the size of a `pixel` on the ground; see `DescribedDataset.stored`.

        Raises:
            RasterError: a file is missing or unreadable, has no coordinate system, has another one or another grid than
                the first, pixels of another size than those of the training, or values that are not in the unit of the
                model; or no pixel has data in all files.
            BandError: a band is in no file or in two, or the number of names differs from that of the bands.
            MissingModalityError: a modality that is not an image was not given.
            ArgumentError: an unknown modality in `scale`, `offset` or `files`, or no file at all.
        """
        self.inputs = as_modalities(inputs)
        self._files: list[Any] = []
        self._stored = dict(stored or {})
        self._stated = {**(scale or {}), **(offset or {})}.keys()
        if unknown := [key for key in self._stated if key not in self.inputs]:
            raise ArgumentError(f"scale or offset for {unknown}, but the model reads {list(self.inputs)}")
        if maps := [key for key in self._stated if self.inputs[key].codes]:
            raise ArgumentError(f"scale or offset for {maps}, but the numbers of a map of classes have neither")
        if not any(each.kind == "image" for each in self.inputs.values()):
            raise BandError(f"the model reads {list(self.inputs)}, and none of them is an image to make a map of")
        named, self.vectors = sort_files(files, self.inputs)
        self.places = [key for key, each in self.inputs.items() if each.is_place and key not in self.vectors]
        self.paths = [path for _, path in named]
        try:
            self._files = [open_raster(path) for path in self.paths]
            self._set_grid()
            found = find_bands([key for key, _ in named], self._files, self.inputs, bands)
            self._layers = {
                key: self._layers_of(key, places, (scale or {}).get(key), (offset or {}).get(key))
                for key, places in found.items()
            }
            self._check_values()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Scene":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            file.close()

    @property
    def pixel_bytes(self) -> int:
        """Stored bytes of one pixel over all bands of the files."""
        return sum(np.dtype(dtype).itemsize for file in self._files for dtype in file.dtypes)

    def read(self, row: int, column: int, height: int, width: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """One window, in the units of the model.

        Pixels without data get the mean of the training data, which is 0 after normalisation. A pixel has no data if
        the file says so (value, mask, alpha), if a value is not finite, or if all of several bands of a modality are 0,
        as in the empty corners of Sentinel tiles, or if a map has none of the model's classes. Coarser bands are
        interpolated bilinearly, maps of classes by the nearest pixel.

        Args:
            row: of the upper left pixel; the window must be inside the scene.
            column: of the upper left pixel.
            height: pixels.
            width: pixels.

        Returns:
            Images (k, height, width) float32 by modality, and a mask of the pixels with data in all of them, (height,
            width).

        Raises:
            RasterError: a file is damaged in the window.
        """
        valid = np.ones((height, width), dtype=bool)
        images = {}
        for key, layers in self._layers.items():
            parts = [self._window(layer, row, column, height, width) for layer in layers]
            image = parts[0].values
            if layers[0].places != tuple(range(len(self.inputs[key].bands))):
                image = np.empty((len(self.inputs[key].bands), height, width), dtype=np.float32)
                for layer, part in zip(layers, parts, strict=True):
                    image[list(layer.places)] = part.values
            valid &= np.logical_and.reduce([part.there for part in parts])
            if len(image) > 1:
                valid &= np.logical_or.reduce([part.lit for part in parts])
            images[key] = image
        if not valid.all():
            for key, image in images.items():
                for channel, mean in zip(image, self.inputs[key].mean, strict=True):
                    channel[~valid] = mean
        return images, valid

    def lonlat(self, rows: Sequence[float], columns: Sequence[float]) -> np.ndarray:
        """Longitude and latitude (WGS 84, degrees) of pixels of the scene, (n, 2) float32."""
        from rasterio.warp import transform

        x, y = self.transform * (np.asarray(columns, dtype=float), np.asarray(rows, dtype=float))
        return np.stack(transform(self.crs, "EPSG:4326", x.tolist(), y.tolist()), axis=1).astype(np.float32)

    # --------------------------------------------------------------------------------------------------------- the grid

    def _set_grid(self) -> None:
        """Use the grid of the finest file, and compare the others with it.

        Raises:
            RasterError: the coordinate system is missing or different, or the ground or the pixels differ.
        """
        locations = [place_of(path, file) for path, file in zip(self.paths, self._files, strict=True)]
        for path, place in zip(self.paths, locations, strict=True):
            if place is None or not place.crs:
                raise RasterError(
                    f"{path} has no location: it has no {'grid' if place is None else 'coordinate system'}. "
                    "Give it one, for example with gdal_edit.py -a_srs EPSG:32633 (and -a_ullr for the corners)."
                )
        finest = int(np.argmin([abs(file.transform.a) for file in self._files]))
        one, where = self._files[finest], locations[finest]
        self.shape, self.crs, self.transform = (one.height, one.width), one.crs, one.transform
        self._factors = []
        for path, file, place in zip(self.paths, self._files, locations, strict=True):
            if file.crs != one.crs:
                raise RasterError(
                    f"{path} is in {place.crs.partition(',')[0]}, but {self.paths[finest]} in "  # type: ignore[union-attr]
                    f"{where.crs.partition(',')[0]}. Warp one to the grid of the other, for example with gdalwarp "  # type: ignore[union-attr]
                    "-t_srs, -te and -tr."
                )
            factor, rest = divmod(one.width, file.width)
            slack = 0.1 * abs(one.transform.a)
            ends = zip(place[1:], where[1:], strict=True)  # type: ignore[index]
            if rest or file.height * factor != one.height or any(abs(a - b) > slack for a, b in ends):
                raise RasterError(
                    f"{path} has {file.height} x {file.width} pixels over {place}, but {self.paths[finest]} has "
                    f"{one.height} x {one.width} over {where}. Expected the same ground, and pixels of the same size "
                    "or a whole number of times as large. Cut and resample one to the grid of the other (gdalwarp -te "
                    "-tr), or map them one after the other."
                )
            self._factors.append(factor)
        self._check_pixels(ground_at(Path(self.paths[finest]), where))

    def _check_pixels(self, ground: Ground | None) -> None:
        """Refuse pixels of another size than the finest of the training.

        Raises:
            RasterError: naming both.
        """
        trained = [stored["pixel"] for stored in self._stored.values() if stored.get("pixel")]
        if ground is None or not trained:
            return
        known, pixel = min(trained, key=lambda each: each[0]), pixel_of(extent_of(ground), self.shape)
        if same_extent(pixel, known):
            return
        if len(known) > 2:
            fix = f"gdalwarp -t_srs EPSG:4326 -tr {known[2]:.6g} {known[3]:.6g}"
        else:
            fix = f"gdalwarp -tr {known[0]:.4g} {known[1]:.4g}"
            fix += ", with the -t_srs of a system in metres, such as that of the UTM zone" if len(pixel) > 2 else ""
        raise RasterError(
            f"{ground.path} has pixels of {shown_metres(pixel)}, and the model was trained with pixels of "
            f"{shown_metres(known)}: what it knows would have another size. Resample the scene ({fix}), or train on "
            "images of that pixel size."
        )

    # ------------------------------------------------------------------------------------------------------- the values

    def _layers_of(
        self, key: str, places: Sequence[tuple[int, int]], scale: float | None, offset: float | None
    ) -> list[_Layer]:
        """The bands of a modality, (file, index) each, grouped by file, with the conversion to its unit.

        Raises:
            RasterError: the values are complex, or tags of other programs scale or shift them.
        """
        layers = []
        for number in sorted({file for file, _ in places}):
            file, path = self._files[number], self.paths[number]
            chosen = [(place, index) for place, (owner, index) in enumerate(places) if owner == number]
            indices = [index for _, index in chosen]
            types = [np.dtype(file.dtypes[index - 1]) for index in indices]
            if any(each.kind not in "iuf" for each in types):
                raise RasterError(f"{path} holds {types[0]}; expected whole or real numbers.")
            tagged = any(file.scales[index - 1] != 1 or file.offsets[index - 1] != 0 for index in indices)
            stated = scale is not None or offset is not None
            fills = [file.nodatavals[index - 1] for index in indices]
            if not stated:
                more = self._other_tags(key, file, path, indices)
                fills = [more if fill is None else fill for fill in fills]
            if tagged and not stated:
                pairs = [(file.scales[index - 1], file.offsets[index - 1]) for index in indices]
            else:
                usual = [self._usual(key, place, each) for (place, _), each in zip(chosen, types, strict=True)]
                pairs = usual if scale is None else [(scale, 0.0)] * len(usual)
                pairs = pairs if offset is None else [(factor, offset) for factor, _ in pairs]
            factors, terms = np.array(pairs, dtype=np.float32).T[:, :, None, None]
            known = self._stored.get(key, {}).get("no_data", ())
            marks = [
                [_in_type(value, each) for value in (fill, *known)] for fill, each in zip(fills, types, strict=True)
            ]
            no_data = tuple(tuple(value for value in each if value is not None) for each in marks)
            places_of, codes = tuple(place for place, _ in chosen), self.inputs[key].codes
            if codes:
                places_of = tuple(range(len(codes)))
            layers.append(_Layer(number, tuple(indices), places_of, factors, terms, no_data, codes))
        return layers

    def _usual(self, key: str, place: int, dtype: np.dtype[Any]) -> tuple[float, float]:
        """Default scale and offset of a band without tags: those of the training data, else the usual ones."""
        if "scale" in self._stored.get(key, {}):
            return self._stored[key]["scale"][place], self._stored[key]["offset"][place]
        is_digital = self.inputs[key].unit[place] == "reflectance" and dtype.kind in "iu"
        return 1 / REFLECTANCE_SCALE if is_digital else 1.0, 0.0

    @staticmethod
    def _other_tags(key: str, file: Any, path: str, indices: Sequence[int]) -> float | None:
        """The no-data value in tags of other programs, if any.

        Raises:
            RasterError: such tags scale or shift the values.
        """
        tags = islice(value_tags(file, b"", (0, *indices)), 2, None)  # the first two are GDAL's, which are applied
        try:
            return next(iter(check_value_tags(path, tags)), None)
        except RasterError as error:
            raise RasterError(f"{error} Or say what they hold: --scale {key}=FACTOR --offset {key}=TERM.") from None

    def _window(self, layer: _Layer, row: int, column: int, height: int, width: int) -> _Part:
        """Bands of one file in a window of the scene."""
        factor = self._factors[layer.file]
        if factor == 1:
            return self._read(layer, Window(column, row, width, height))
        file = self._files[layer.file]
        top, left = max(0, row // factor - 1), max(0, column // factor - 1)  # one more pixel around, to interpolate
        bottom = min(file.height, -(-(row + height) // factor) + 1)
        right = min(file.width, -(-(column + width) // factor) + 1)
        part = self._read(layer, Window(left, top, right - left, bottom - top))
        rows = slice(row - top * factor, row - top * factor + height)
        columns = slice(column - left * factor, column - left * factor + width)

        def enlarge(values: np.ndarray) -> np.ndarray:
            if layer.codes:
                return values.repeat(factor, axis=-2)[..., rows, :].repeat(factor, axis=-1)[..., columns]
            return _interpolate(_interpolate(values, factor, -2)[..., rows, :], factor, -1)[..., columns]

        full = part.there.all()
        there = np.ones((height, width), dtype=bool) if full else enlarge(part.there.astype(np.float32)) > 0.999
        lit = part.lit.repeat(factor, axis=0)[rows].repeat(factor, axis=1)[:, columns]
        return _Part(enlarge(part.values), there, lit)

    def _read(self, layer: _Layer, window: Window) -> _Part:
        """Bands of one file in a window of its own pixels.

        Raises:
            RasterError: the file is damaged in the window.
        """
        file, path = self._files[layer.file], self.paths[layer.file]
        try:
            stored = file.read(list(layer.indices), window=window)
            flags = file.mask_flag_enums[0]
            masked = MaskFlags.per_dataset in flags or MaskFlags.alpha in flags
            there = file.dataset_mask(window=window) > 0 if masked else np.ones(stored.shape[1:], dtype=bool)
        except (rasterio.errors.RasterioError, ValueError, OSError) as error:
            raise RasterError(f"{path} cannot be read at {window} ({error}). {AGAIN}") from error
        for band, fills in zip(stored, layer.no_data, strict=True):
            for fill in fills:
                there &= band != fill
            if band.dtype.kind == "f":
                there &= np.isfinite(band)
        if layer.codes:
            classes = np.stack([stored[0] == code for code in layer.codes])
            return _Part(classes.astype(np.float32), there & classes.any(axis=0), np.ones_like(there))
        lit = np.ones_like(there) if stored[0].all() else stored.any(axis=0)
        values = stored.astype(np.float32)
        if (layer.scale != 1).any():
            values *= layer.scale
        if layer.offset.any():
            values += layer.offset
        return _Part(values, there, lit)

    def _check_values(self) -> None:
        """Refuse a scene without data, and values that are not in the unit of the model.

        Raises:
            RasterError: see `Scene`.
        """
        height, width = (min(_SIDE, side) for side in self.shape)
        rows, columns = (
            np.unique(np.linspace(0, full - side, _SAMPLE).round().astype(int))
            for full, side in zip(self.shape, (height, width), strict=True)
        )
        windows = [self.read(row, column, height, width) for row in rows.tolist() for column in columns.tolist()]
        if not any(valid.any() for _, valid in windows):
            windows = [self._first_data()]
        for key, layers in self._layers.items():
            modality, layer = self.inputs[key], layers[0]
            if layer.codes:
                continue
            files = ", ".join(dict.fromkeys(self.paths[each.file] for each in layers))
            sample = np.concatenate([images[key][:, valid] for images, valid in windows], axis=1)  # (k, pixels)
            _check_unit(modality, sample, files, layer)
            if "reflectance" in modality.unit and sample[[u == "reflectance" for u in modality.unit]].min() < -0.5:
                raise RasterError(
                    f"{files}: {key} goes down to a reflectance of {sample.min():g}, which nothing on the Earth has. "
                    "Name the value for no data if it is one, for example with gdal_edit.py -a_nodata. "
                    f"{_fix(key, layer)}"
                )
            if key in self._stated:
                continue
            try:
                for unit, band, values in zip(modality.unit, modality.bands, sample, strict=True):
                    if unit == "dB" or (unit == "m" and band == "elevation"):
                        check_values("s1" if unit == "dB" else "dem", values, files, warn=False)
                if set(modality.unit) == {"reflectance"}:
                    numbers = (
                        np.stack([np.where(valid, images[key], 0) for images, valid in windows]) * REFLECTANCE_SCALE
                    )
                    check_together({"s2_10m": numbers.round().clip(0, 65_535).astype(np.uint16)}, files)
            except RasterError as error:
                raise RasterError(f"{error} {_fix(key, layer)}") from None

    def _first_data(self) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """The first window with data; may read the whole scene.

        Raises:
            RasterError: no window has data.
        """
        side = 512
        for row in range(0, self.shape[0], side):
            for column in range(0, self.shape[1], side):
                size = (min(side, self.shape[0] - row), min(side, self.shape[1] - column))
                images, valid = self.read(row, column, *size)
                if valid.any():
                    return images, valid
        raise RasterError(
            f"no pixel of {', '.join(self.paths)} has data in every band that the model reads. Give files that "
            "overlap and are not empty, or correct their value for no data (gdal_edit.py -a_nodata or -unsetnodata)."
        )


def _interpolate(values: np.ndarray, factor: int, axis: int) -> np.ndarray:
    """Values upsampled by `factor` along an axis, interpolated linearly between the centres of the pixels."""
    size = values.shape[axis]
    middles = ((np.arange(size * factor) + 0.5) / factor - 0.5).clip(0, size - 1)
    low = np.minimum(middles.astype(int), max(0, size - 2))
    shape = [1] * values.ndim
    shape[axis] = -1
    weight = (middles - low).astype(np.float32).reshape(shape)
    high = np.minimum(low + 1, size - 1)
    return values.take(low, axis) * (1 - weight) + values.take(high, axis) * weight


def _check_unit(modality: Modality, sample: np.ndarray, files: str, layer: _Layer) -> None:
    """Refuse values (k, pixels) that differ by large factors from the training data of the model.

    Raises:
        RasterError: naming the files, the values, and the options that correct them.
    """
    mean, std = (np.array(moment, dtype=np.float64) for moment in (modality.mean, modality.std))
    size = np.sqrt((sample.astype(np.float64) ** 2).mean(axis=1)) / np.hypot(mean, std)
    spread = sample.std(axis=1, dtype=np.float64) / std
    far = bool((size > _FAR).all())
    flat = len(sample) > 1 and sample.shape[1] > 1 and bool((spread < _FLAT).all())
    if not (far or flat):
        return
    power = round(float(np.log10(np.median(size)))) if far else round(float(np.log10(max(np.median(spread), 1e-12))))
    raise RasterError(
        f"{files}: {modality.name} comes out from {sample.min():.6g} to {sample.max():.6g} {modality.unit[0]}, and "
        f"the model was trained on {mean.mean():.3g} +- {std.mean():.3g}: about 1e{power} times as much. Are these "
        "digital numbers, decibels, linear power, values that were scaled already, or a value for no data that no tag "
        f"names? {_fix(modality.name, layer)}"
    )


def _fix(key: str, layer: _Layer) -> str:
    """Advice on stating the scale and offset of the files."""
    scale, offset = float(layer.scale[0, 0, 0]), float(layer.offset[0, 0, 0])
    return (
        f"Now a number x of the files is taken for {scale:g} x + {offset:g}. If the files are right, say what they "
        f"hold with --scale {key}=FACTOR --offset {key}=TERM; otherwise convert them."
    )


def _in_type(value: float | None, dtype: np.dtype[Any]) -> Any:
    """A no-data value in the type of its file, None if no pixel can have it."""
    if value is None or (dtype.kind == "f" and np.isnan(value)):
        return None
    if dtype.kind == "f":
        return dtype.type(value)
    info = np.iinfo(dtype)
    return dtype.type(value) if info.min <= value <= info.max and value == int(value) else None

"""One GeoTIFF: its pixels, and what its own header says of them. Needs no torch.

A raster is more than pixels. The header also says how many bands and pages there are, which way is up, where the
pixels lie, which of them are no data, and whether their values are to be scaled. Whoever reads the pixels alone gets
other numbers, or other ground, without a word. Here a file is refused unless its pixels mean what they seem to.
"""

import os
import struct
import warnings
from typing import Any, NamedTuple

import numpy as np

from bengelib.errors import RasterError

AGAIN = "Copy, write or download it once more."


class Place(NamedTuple):
    """Where a raster lies.

    Attributes:
        crs: `"EPSG:32633"`, well-known text, or `""` where the file has corners but no coordinate system.
        left: coordinate of the left edge, in the unit of the coordinate system; the others likewise.
        top: of the upper edge.
        right: of the right edge.
        bottom: of the lower edge.
    """

    crs: str
    left: float
    top: float
    right: float
    bottom: float

    def __str__(self) -> str:
        corners = f"({self.left:.10g}, {self.top:.10g}) to ({self.right:.10g}, {self.bottom:.10g})"
        return f"{corners} of {self.crs.partition(',')[0] or 'an unknown coordinate system'}"


class RasterHeader(NamedTuple):
    """What a file with one band, one page and rows from north to south says of its pixels.

    Attributes:
        shape: rows and columns.
        dtype: pixel type, a name of numpy.
        place: where it lies, None if it does not say.
        no_data: the value that marks pixels without data, None if there is none.
        unit: unit of the pixels, `""` if it does not say.
    """

    shape: tuple[int, int]
    dtype: str
    place: Place | None
    no_data: float | None
    unit: str = ""


def read_geotiff(path: str, *, companions: bool = False) -> tuple[np.ndarray, RasterHeader]:
    """The pixels of a single-band raster, (H, W) in the type that the file has, and its header.

    Plain uncompressed files, which BigEarthNet and ben-ge consist of, are read here directly, more than twenty times
    faster than through rasterio, which needs most of a millisecond to open a file. Everything else goes through
    rasterio. Files of one make differ only in their pixels: a header that was met just now is not read again.

    Args:
        path: a GeoTIFF.
        companions: whether files lie beside it that say more of it (`.aux.xml`, `.msk`, a world file).

    Returns:
        The pixels, which may be read-only; and the header.

    Raises:
        RasterError: no such file, not a readable TIFF, or truncated; several bands or pages; rows from the south,
            mirrored or turned; values that are to be scaled; pixels that a mask hides.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            data = file.readall()
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise RasterError(f"no file {path}. {missing_hint(path)}") from None
        raise RasterError(f"cannot read {path} ({error}).") from error
    if not data:
        raise RasterError(f"{path} is empty (0 bytes). {AGAIN}")
    plain = _met.get(len(data))
    if plain is None or not data.startswith(plain.start):
        directories = _directories(data, path)
        if directories:
            _check_directories(directories, path)
        plain = _plain(data, directories, path)
    if plain is None or companions:
        return _read_with_rasterio(path)
    pixels = np.frombuffer(data, plain.dtype, plain.pixels, plain.offset).reshape(plain.header.shape)
    return pixels, plain.header


def missing_hint(path: str) -> str:
    """What to do about a file that is not there: names a file of another spelling that may be meant."""
    folder, name = os.path.split(path)
    try:
        entries = sorted(os.listdir(folder))
    except OSError:
        entries = []
    for entry in entries:
        if _spelling(entry) == _spelling(name):
            return f"There is {entry}: rename it to {name}, capitals included."
    return "Add it, or remove the patch from the meta CSV."


def _spelling(name: str) -> str:
    """A name without what people spell differently: capitals, `.tiff`, `B2` for `B02`."""
    stem, _, suffix = name.lower().rpartition(".")
    head, _, band = stem.rpartition("_")
    suffix = {"tiff": "tif", "geotiff": "tif", "gtiff": "tif"}.get(suffix, suffix)
    return f"{head}_{band[:1]}{band[1:].lstrip('0')}.{suffix}"


# ---------------------------------------------------------------------------------------------- the directories of TIFF

_FORMS = {1: "B", 2: "s", 3: "H", 4: "I", 6: "b", 7: "s", 8: "h", 9: "i", 11: "f", 12: "d", 13: "I", 16: "Q", 17: "q"}
"""Form of the TIFF types; 5 and 10 are fractions and of no interest here."""
_SIZES = {kind: struct.calcsize(f"<{form}") for kind, form in _FORMS.items()} | {5: 8, 10: 8, 18: 8}

_SUBFILE, _OLD_SUBFILE, _WIDTH, _LENGTH, _BITS, _COMPRESSION = 254, 255, 256, 257, 258, 259
_FILL_ORDER, _STRIPS, _ORIENTATION, _SAMPLES, _STRIP_BYTES, _FORMAT = 266, 273, 274, 277, 279, 339
_PIXEL_SCALE, _TIE_POINTS, _MATRIX, _GEO_KEYS, _METADATA, _NO_DATA = 33550, 33922, 34264, 34735, 42112, 42113
_REDUCED, _MASK = 1, 4
"""Bits of `_SUBFILE`: an overview, and a mask."""

_HARMLESS = {
    *(_SUBFILE, _OLD_SUBFILE, _WIDTH, _LENGTH, _BITS, _COMPRESSION, _FILL_ORDER, _STRIPS, _ORIENTATION, _SAMPLES),
    *(_STRIP_BYTES, _FORMAT, _PIXEL_SCALE, _TIE_POINTS, _MATRIX, _GEO_KEYS, _METADATA, _NO_DATA),
    *(262, 269, 270, 271, 272, 278, 280, 281, 282, 283, 284, 285, 296, 305, 306, 315, 316, 320, 33432, 34736, 34737),
}
"""Tags that are heeded here, or that say nothing of the values: names, dates, software, a palette. A file with any
other goes through rasterio."""

_DTYPES = {(1, 8): "<u1", (1, 16): "<u2", (2, 16): "<i2", (1, 32): "<u4", (2, 32): "<i4", (3, 32): "<f4"}
"""Pixel type by the TIFF fields SampleFormat and BitsPerSample."""


class _Directory:
    """One image file directory: its tags by number, whose values are looked up when asked for."""

    def __init__(self, data: bytes, order: str, entries: dict[int, tuple[int, int, int]], end: int) -> None:
        """Take the entries as (type, count, place of the value), and the first byte after them all."""
        self.data, self.order, self.entries, self.end = data, order, entries, end

    def get(self, tag: int, default: tuple[Any, ...] = ()) -> tuple[Any, ...]:
        """The values of a tag; those of text are one `bytes`. `default` where there is none or the file is cut off."""
        if tag not in self.entries:
            return default
        kind, count, place = self.entries[tag]
        if not count or kind not in _FORMS or place + count * _SIZES[kind] > len(self.data):
            return default
        return struct.unpack_from(f"{self.order}{count}{_FORMS[kind]}", self.data, place)

    def is_page(self) -> bool:
        """Whether this is an image of its own, neither an overview nor a mask of another."""
        kind = self.get(_SUBFILE, (0,))[0]
        return not kind & (_REDUCED | _MASK) and self.get(_OLD_SUBFILE, (1,)) != (2,)


def _directories(data: bytes, path: str) -> list[_Directory]:
    """The directories of a TIFF, classic or BigTIFF, of either byte order; none if `data` is something else.

    Follows the TIFF 6.0 specification: a header, then a chain of directories of entries (tag, type, count, value).

    Raises:
        RasterError: the file ends within a directory, or they form a circle.
    """
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    version = data[2:4] if order == "<" else data[3:1:-1]
    if order is None or version not in (b"*\0", b"+\0"):
        return []
    big = version == b"+\0"
    number, entry, pointer = (order + form for form in (("Q", "HHQ8x", "Q") if big else ("H", "HHI4x", "I")))
    inline, head, size = (8, 8, 20) if big else (4, 2, 12)
    result: list[_Directory] = []
    met = set()
    try:
        (start,) = struct.unpack_from(pointer, data, 8 if big else 4)
        while start:
            if start in met:
                raise RasterError(f"{path} is broken: its directories form a circle. {AGAIN}")
            met.add(start)
            (count,) = struct.unpack_from(number, data, start)
            begin = start + head
            end = begin + size * count
            (following,) = struct.unpack_from(pointer, data, end)
            entries, last = {}, end + inline
            for place in range(begin, end, size):
                tag, kind, many = struct.unpack_from(entry, data, place)
                length = many * _SIZES.get(kind, 1)
                value = place + size - inline
                if length > inline:
                    (value,) = struct.unpack_from(pointer, data, value)
                    last = max(last, value + length)
                    if last > len(data):
                        raise struct.error
                entries[tag] = (kind, many, value)
            result.append(_Directory(data, order, entries, last))
            start = following
    except (struct.error, OverflowError):
        raise RasterError(f"{path} ends after {len(data)} bytes, within its header. {AGAIN}") from None
    return result


def _check_directories(directories: list[_Directory], path: str) -> None:
    """Refuse what rasterio would pass over in silence: further pages, and rows or columns the other way round.

    Raises:
        RasterError: naming it.
    """
    first = directories[0]
    pages = sum(directory.is_page() for directory in directories)
    if pages > 1:
        raise RasterError(
            f"{path} holds {pages} pages (images); expected one, and the first is not guessed to be the right one. "
            "Write each into a file of its own."
        )
    samples = first.get(_SAMPLES, (1,))[0]
    if samples != 1:
        raise RasterError(_several_bands(path, samples))
    orientation = first.get(_ORIENTATION, (1,))[0]
    if orientation != 1:
        raise RasterError(
            f"{path} is stored mirrored or turned (TIFF orientation {orientation}; expected 1, rows from the top). "
            "Write it with rows from north to south and columns from west to east."
        )
    scale = first.get(_PIXEL_SCALE)
    if len(scale) >= 2 and min(scale[:2]) < 0:
        raise RasterError(_wrong_way(path, f"its pixels have a negative size, {scale[:2]}"))


def _several_bands(path: str, count: int) -> str:
    return f"{path} holds {count} bands; expected one. Write each band into a file of its own."


def _wrong_way(path: str, what: str) -> str:
    return (
        f"{path} does not run from north to south and from west to east: {what}. Warp it to a grid that does, such as "
        "with gdalwarp."
    )


# -------------------------------------------------------------------------------------------------------- where it lies


def _place(
    path: str, crs: str, matrix: tuple[float, float, float, float, float, float], shape: tuple[int, int]
) -> Place:
    """Corners of a raster from x = a column + b row + c, y = d column + e row + f.

    Raises:
        RasterError: rows from the south, columns from the east, or a turned grid.
    """
    a, b, c, d, e, f = matrix
    height, width = shape
    if a <= 0 or e >= 0:
        raise RasterError(_wrong_way(path, f"a column is {a:g} and a row {e:g} of its coordinates"))
    if abs(b) * height >= 0.9 * a or abs(d) * width >= -0.9 * e:
        raise RasterError(_wrong_way(path, f"it is turned or sheared, ({b:g}, {d:g}) a pixel"))
    return Place(crs, c, f, c + a * width, f + e * height)


def same_ground(one: Place | None, other: Place | None) -> bool:
    """Whether two rasters cover the same ground, to less than a pixel in 120; True where one does not say.

    Coordinate systems that differ are no matter if the corners come to lie in the same place.
    """
    if one is None or other is None or one == other:
        return True
    corners = other[1:]
    if one.crs and other.crs and one.crs != other.crs:
        from rasterio.warp import transform

        try:
            x, y = transform(other.crs, one.crs, [other.left, other.right], [other.top, other.bottom])
        except Exception:  # a system that PROJ does not know, or coordinates that it does not have, by several names
            return False
        corners = (x[0], y[0], x[1], y[1])
    slack = 0.9 / 120 * min(abs(one.right - one.left), abs(one.top - one.bottom))
    return all(abs(a - b) < slack for a, b in zip(one[1:], corners, strict=True))


# ------------------------------------------------------------------------------------------------ plain files, directly


class _Plain(NamedTuple):
    """How to read the files whose bytes begin with `start`: `pixels` of type `dtype` from `offset`."""

    start: bytes
    header: RasterHeader
    dtype: np.dtype[Any]
    pixels: int
    offset: int


_met: dict[int, _Plain] = {}
"""The last plain file that was met, by its number of bytes: the files of a patch have the same few headers."""


def _plain(data: bytes, directories: list[_Directory], path: str) -> _Plain | None:
    """How to read a little-endian TIFF with one uncompressed contiguous band, None if of another make.

    Raises:
        RasterError: the file ends before its pixels do, or does not run from north to south.
    """
    if len(directories) != 1 or data[:4] != b"II*\0":
        return None
    get = directories[0].get
    width, length, bits = get(_WIDTH), get(_LENGTH), get(_BITS)
    offsets, sizes = get(_STRIPS), get(_STRIP_BYTES)
    if not (width and length and bits and offsets and sizes and directories[0].entries.keys() <= _HARMLESS):
        return None
    metadata, no_data = get(_METADATA, (b"",))[0], _number(get(_NO_DATA, (b"nan",))[0])
    dtype = _DTYPES.get((get(_FORMAT, (1,))[0], bits[0]))
    contiguous = all(
        offset + size == following for offset, size, following in zip(offsets, sizes, offsets[1:], strict=False)
    )
    if (
        get(_COMPRESSION, (1,)) != (1,)
        or get(_FILL_ORDER, (1,)) != (1,)
        or dtype is None
        or not contiguous
        or sum(sizes) != width[0] * length[0] * bits[0] // 8
        or no_data is None
        or not isinstance(metadata, bytes)
        or any(word in metadata.lower() for word in (b"scale", b"offset", b"unit", b"fillvalue", b"nodata"))
    ):
        return None
    shape = (length[0], width[0])
    crs, is_point = _crs(get(_GEO_KEYS))
    matrix = _matrix(get(_PIXEL_SCALE), get(_TIE_POINTS), get(_MATRIX), is_point)
    if crs is None or (matrix is None and any(tag in directories[0].entries for tag in (_TIE_POINTS, _MATRIX))):
        return None
    if offsets[0] + sum(sizes) > len(data):
        raise RasterError(f"{path} ends after {len(data)} bytes, before its pixels do. {AGAIN}")
    place = None if matrix is None else _place(path, crs, matrix, shape)
    pixel = np.dtype(dtype)
    has_no_data = _NO_DATA in directories[0].entries
    header = RasterHeader(shape, pixel.name, place, no_data if has_no_data else None)
    plain = _Plain(data[: offsets[0]], header, pixel, shape[0] * shape[1], offsets[0])
    if directories[0].end <= offsets[0]:  # what was read here stands before the pixels: the same bytes say the same
        if len(_met) >= 64:
            _met.clear()
        _met[len(data)] = plain
    return plain


def _number(text: Any) -> float | None:
    """A number that stands in a tag as text, None if it is none."""
    try:
        return float(text.rstrip(b"\0"))
    except (ValueError, TypeError, AttributeError):
        return None


def _crs(keys: tuple[int, ...]) -> tuple[str | None, bool]:
    """The coordinate system that the GeoTIFF keys name, None if more is needed to tell; whether pixels are points."""
    found = {keys[place]: keys[place + 1 : place + 4] for place in range(4, len(keys) - 3, 4)}
    is_point = found.get(1025, (0, 1, 1))[2] == 2
    if not found:
        return "", is_point
    model = found.get(1024, (0, 1, 0))[2]
    code = found.get({1: 3072, 2: 2048}.get(model, 0))
    if code is None or code[0] != 0 or not 1023 < code[2] < 32767 or any(key >= 4096 for key in found):
        return None, is_point  # of the user's own making, or with heights
    return f"EPSG:{code[2]}", is_point


def _matrix(
    scale: tuple[float, ...], ties: tuple[float, ...], matrix: tuple[float, ...], is_point: bool
) -> tuple[float, float, float, float, float, float] | None:
    """Column and row to x and y, None where the tags do not say, or say more than one thing."""
    if len(matrix) == 16 and not scale and not ties:
        a, b, _, c, d, e, _, f = matrix[:8]
    elif len(scale) == 3 and len(ties) == 6 and not matrix:
        a, b, d, e = scale[0], 0.0, 0.0, -scale[1]
        c, f = ties[3] - ties[0] * a, ties[4] - ties[1] * e
    else:
        return None
    if is_point:  # of the centre, not of the corner, of the first pixel
        c, f = c - (a + b) / 2, f - (d + e) / 2
    return a, b, c, d, e, f


# ----------------------------------------------------------------------------------------- everything else, by rasterio


def _read_with_rasterio(path: str) -> tuple[np.ndarray, RasterHeader]:
    """The pixels and header of any file that GDAL can read, with what stands beside it in other files.

    Raises:
        RasterError: not readable, or not to be taken at face value; see `read_geotiff`.
    """
    import rasterio  # takes half a second to import, and plain files do without
    from rasterio.enums import MaskFlags

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)  # that is told from `place`
            with rasterio.open(path) as raster:
                if raster.count != 1:
                    raise RasterError(_several_bands(path, raster.count))
                _check_scaling(path, raster)
                pixels: np.ndarray = raster.read(1)
                masked = MaskFlags.per_dataset in raster.mask_flag_enums[0]
                hidden = int((raster.read_masks(1) == 0).sum()) if masked else 0
                header = RasterHeader(
                    (raster.height, raster.width),
                    pixels.dtype.name,
                    _place_of(path, raster),
                    raster.nodata,
                    raster.units[0] or "",
                )
    except RasterError:
        raise
    except (rasterio.errors.RasterioError, ValueError, OSError) as error:
        raise RasterError(f"{path} is not a readable GeoTIFF ({error}). {AGAIN}") from error
    if hidden:
        raise RasterError(
            f"{path} has {hidden} of {pixels.size} pixels without data: its mask hides them. Fill them and remove the "
            "mask, or leave the patch out."
        )
    return pixels, header


def _check_scaling(path: str, raster: Any) -> None:
    """Refuse a file whose values are to be scaled, by GDAL's own tags or by those of xarray.

    Raises:
        RasterError: naming scale and offset.
    """
    tags = {name.lower(): _number(str(text).encode()) for name, text in (raster.tags() | raster.tags(1)).items()}
    scale, offset = raster.scales[0], raster.offsets[0]
    if (scale, offset) == (1, 0):
        scale = next((tags[name] for name in ("scale_factor", "scale") if tags.get(name) is not None), 1)
        offset = next((tags[name] for name in ("add_offset", "offset") if tags.get(name) is not None), 0)
    if (scale, offset) != (1, 0):
        raise RasterError(
            f"{path} says that its values are to be scaled (scale {scale:g}, offset {offset:g}); expected files that "
            "hold the values themselves (scale 1, offset 0). Apply both, convert to the units of the layout "
            "(reflectance x 10000, dB, metres), and write the file without these tags."
        )


def _place_of(path: str, raster: Any) -> Place | None:
    """Where an open raster lies.

    Raises:
        RasterError: it does not run from north to south, or is placed by control points.
    """
    if raster.gcps[0]:
        raise RasterError(_wrong_way(path, f"it is placed by {len(raster.gcps[0])} control points"))
    matrix = tuple(raster.transform)[:6]
    if matrix == (1, 0, 0, 0, 1, 0):
        return None
    epsg = raster.crs.to_epsg() if raster.crs else None
    crs = f"EPSG:{epsg}" if epsg else raster.crs.to_wkt() if raster.crs else ""
    return _place(path, crs, matrix, (raster.height, raster.width))

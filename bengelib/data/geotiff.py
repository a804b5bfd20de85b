"""One GeoTIFF: its pixels and the metadata of its header. Needs no torch.

A raster is more than pixels. The header also states the number of bands and pages, the orientation, the location, the
pixels without data, and whether values have to be scaled. Reading the pixels alone may silently give wrong values or
the wrong location. Here a file is refused unless its pixels can be taken at face value.
"""

import os
import re
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from bengelib.data.tiff import AGAIN, HEEDED, Directory, Tag, crs_of, matrix_of, read_directories
from bengelib.data.value_tags import check_value_tags
from bengelib.errors import RasterError


class Place(NamedTuple):
    """The location of a raster.

    Attributes:
        crs: `"EPSG:32633"`, well-known text, or `""` if the file has corners but no coordinate system.
        left: coordinate of the left edge, in the unit of the coordinate system, as for the others.
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
    """Header of a file with one band, one page and rows from north to south.

    Attributes:
        shape: rows and columns.
        dtype: pixel type, a numpy name.
        place: location, None if not stated.
        no_data: values of pixels without data.
        unit: unit of the pixels, `""` if not stated.
        palette: True if the pixels are numbers of colours, as far as a plain file shows.
    """

    shape: tuple[int, int]
    dtype: str
    place: Place | None
    no_data: tuple[float, ...]
    unit: str = ""
    palette: bool = False


def read_geotiff(path: str, *, companions: bool = False) -> tuple[np.ndarray, RasterHeader]:
    """The pixels of a single-band raster, (H, W) in the type of the file, and its header.

    Plain uncompressed files, such as those of BigEarthNet and ben-ge, are read directly, more than twenty times faster
    than through rasterio, which takes most of a millisecond to open a file. All others are read through rasterio.
    Consecutive files often have equal headers, so the last header is cached.

    Args:
        path: a GeoTIFF.
        companions: whether there are sidecar files with further metadata (`.aux.xml`, `.msk`, a world file).

    Returns:
        The pixels, which may be read-only; and the header.

    Raises:
        RasterError: the file is missing, truncated or not a readable TIFF; has several bands or pages; has rows from
            the south, or is mirrored or rotated; or has values to be scaled or masked pixels.
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
    plain = _layout_of(data, path)
    if plain is None or companions:
        return _read_with_rasterio(path, data)
    return plain.pixels_of(data), plain.header


def read_plain(path: str | os.PathLike[str]) -> tuple[np.ndarray, RasterHeader] | None:
    """The pixels, (H, W) and read-only, and the header of a small plain file; None for any other, or one with sidecars.

    For readers that have rules of their own for what `read_geotiff` refuses: those files are read by rasterio, as are
    large ones, where the time to open a file does not matter.
    """
    name = os.fspath(path)
    try:
        if os.stat(name).st_size > _LARGE or has_sidecars(name):
            return None
        with open(name, "rb", buffering=0) as file:
            data = file.readall()
        plain = _layout_of(data, name)
    except (OSError, RasterError):
        return None
    return None if plain is None else (plain.pixels_of(data), plain.header)


def has_sidecars(path: str) -> bool:
    """True if a file has sidecar files with further metadata: those of GDAL, a mask, a world file."""
    stem = os.path.splitext(path)[0]
    return any(map(os.path.exists, (*(path + end for end in _OF_FILE), *(stem + end for end in _OF_STEM))))


def missing_hint(path: str, otherwise: str = "Add it, or remove the patch from the meta CSV.") -> str:
    """Advice about a missing file: names a file with a similar name, if there is one, otherwise `otherwise`."""
    folder, name = os.path.split(path)
    try:
        entries = sorted(os.listdir(folder))
    except OSError:
        entries = []
    for entry in entries:
        if _spelling(entry) == _spelling(name):
            return f"There is {entry}: rename it to {name}, capitals included."
    return otherwise


def _spelling(name: str) -> str:
    """A name in a normalised spelling: lower case, `.tif` for `.tiff`, `B2` for `B02`."""
    stem, _, suffix = name.lower().rpartition(".")
    head, _, band = stem.rpartition("_")
    suffix = {"tiff": "tif", "geotiff": "tif", "gtiff": "tif"}.get(suffix, suffix)
    return f"{head}_{band[:1]}{band[1:].lstrip('0')}.{suffix}"


# ------------------------------------------------------------------------------------------------- metadata to refuse

_HARMLESS = {
    *HEEDED,
    *(269, 270, 271, 272, 278, 280, 281, 282, 283, 284, 285, 296, 305, 306, 315, 316, 33432, 34736, 34737),
}
"""Tags that are handled here, or do not affect values: names, dates, software. A file with any other tag is
read through rasterio."""

_DTYPES = {(1, 8): "<u1", (1, 16): "<u2", (2, 16): "<i2", (1, 32): "<u4", (2, 32): "<i4", (3, 32): "<f4"}
"""Pixel type by the TIFF fields SampleFormat and BitsPerSample."""


def _check_directories(directories: list[Directory], path: str) -> None:
    """Refuse what rasterio ignores silently: further pages, and reversed rows or columns.

    Raises:
        RasterError: naming the fault.
    """
    first = directories[0]
    pages = sum(directory.is_page() for directory in directories)
    if pages > 1:
        raise RasterError(
            f"{path} holds {pages} pages (images); expected one, and the first is not guessed to be the right one. "
            "Write each into a file of its own."
        )
    samples = first.get(Tag.SAMPLES, (1,))[0]
    if samples != 1:
        raise RasterError(_several_bands(path, samples))
    orientation = first.get(Tag.ORIENTATION, (1,))[0]
    if orientation != 1:
        raise RasterError(
            f"{path} is stored mirrored or turned (TIFF orientation {orientation}; expected 1, rows from the top). "
            "Write it with rows from north to south and columns from west to east."
        )
    scale = first.get(Tag.PIXEL_SCALE)
    if len(scale) >= 2 and min(scale[:2]) < 0:
        raise RasterError(_wrong_way(path, f"its pixels have a negative size, {scale[:2]}"))


def _several_bands(path: str, count: int) -> str:
    return f"{path} holds {count} bands; expected one. Write each band into a file of its own."


def _wrong_way(path: str, what: str) -> str:
    return (
        f"{path} does not run from north to south and from west to east: {what}. Warp it to a grid that does, such as "
        "with gdalwarp."
    )


# ------------------------------------------------------------------------------------------------------------ location


def _place(
    path: str, crs: str, matrix: tuple[float, float, float, float, float, float], shape: tuple[int, int]
) -> Place:
    """Corners of a raster from x = a column + b row + c, y = d column + e row + f.

    Raises:
        RasterError: rows from the south, columns from the east, or a rotated grid.
    """
    a, b, c, d, e, f = matrix
    height, width = shape
    if a <= 0 or e >= 0:
        raise RasterError(_wrong_way(path, f"a column is {a:g} and a row {e:g} of its coordinates"))
    if abs(b) * height >= 0.9 * a or abs(d) * width >= -0.9 * e:
        raise RasterError(_wrong_way(path, f"it is turned or sheared, ({b:g}, {d:g}) a pixel"))
    return Place(crs, c, f, c + a * width, f + e * height)


def same_ground(one: Place | None, other: Place | None) -> bool:
    """True if two rasters cover the same ground, to less than a pixel in 120; True if one has no location.

    Coordinate systems may differ if the corners coincide.
    """
    if one is None or other is None or one == other:
        return True
    corners = [(other.left, other.top), (other.right, other.bottom)]
    if one.crs and other.crs:
        corners = _in_system(corners, other.crs, one.crs)
    slack = 0.9 / 120 * min(abs(one.right - one.left), abs(one.top - one.bottom))
    found = [coordinate for corner in corners for coordinate in corner]
    return all(abs(a - b) < slack for a, b in zip(one[1:], found, strict=True))


def centre_in(place: Place, crs: str) -> tuple[float, float]:
    """The centre of a raster in another coordinate system, NaN if it has no coordinates there."""
    return _in_system([((place.left + place.right) / 2, (place.top + place.bottom) / 2)], place.crs, crs)[0]


def _in_system(points: list[tuple[float, float]], crs: str, other: str) -> list[tuple[float, float]]:
    """Points of one coordinate system in another, NaN if PROJ cannot transform them."""
    if crs == other:
        return points
    from rasterio.warp import transform

    try:
        x, y = transform(crs, other, *zip(*points, strict=True))
    except Exception:  # of several kinds
        return [(np.nan, np.nan)] * len(points)
    return list(zip(x, y, strict=True))


# ------------------------------------------------------------------------------------------------ plain files, directly


_TELLING = re.compile(rb"scal|gain|mult|slope|offset|bias|add|intercept|unit|fill|missing|no.?data", re.IGNORECASE)
"""Names in GDAL's metadata that require rasterio."""


_LARGE = 2**20
"""Bytes of a file above which opening it takes little of the time."""
_OF_FILE, _OF_STEM = (".aux.xml", ".msk", ".aux"), (".aux.xml", ".aux", ".tab", ".tfw", ".wld")
"""Endings of sidecar files, after the name of a file and in place of its suffix."""


class _Plain(NamedTuple):
    """The layout of files whose bytes begin with `start`: `pixels` of type `dtype` from `offset`."""

    start: bytes
    header: RasterHeader
    dtype: np.dtype[Any]
    pixels: int
    offset: int

    def pixels_of(self, data: bytes) -> np.ndarray:
        """The pixels of a file with this layout, (H, W), read-only."""
        return np.frombuffer(data, self.dtype, self.pixels, self.offset).reshape(self.header.shape)


_met: dict[int, _Plain] = {}
"""The last plain layout by number of bytes: the files of a patch share a few headers."""


def _layout_of(data: bytes, path: str) -> _Plain | None:
    """The layout of a plain file, None for other files; remembered, since many files have the same.

    Raises:
        RasterError: see `_check_directories` and `_plain`.
    """
    plain = _met.get(len(data))
    if plain is None or not data.startswith(plain.start):
        directories = read_directories(data, path)
        if directories:
            _check_directories(directories, path)
        plain = _plain(data, directories, path)
    return plain


def _plain(data: bytes, directories: list[Directory], path: str) -> _Plain | None:
    """The layout of a little-endian TIFF with one uncompressed contiguous band, None for other files.

    Raises:
        RasterError: the file is truncated, or does not run from north to south.
    """
    if len(directories) != 1 or data[:4] != b"II*\0":
        return None
    get = directories[0].get
    width, length, bits = get(Tag.WIDTH), get(Tag.LENGTH), get(Tag.BITS)
    offsets, sizes = get(Tag.STRIPS), get(Tag.STRIP_BYTES)
    if not (width and length and bits and offsets and sizes and directories[0].entries.keys() <= _HARMLESS):
        return None
    metadata, no_data = get(Tag.METADATA, (b"",))[0], _number(get(Tag.NO_DATA, (b"nan",))[0])
    dtype = _DTYPES.get((get(Tag.FORMAT, (1,))[0], bits[0]))
    contiguous = all(
        offset + size == following for offset, size, following in zip(offsets, sizes, offsets[1:], strict=False)
    )
    if (
        get(Tag.COMPRESSION, (1,)) != (1,)
        or get(Tag.FILL_ORDER, (1,)) != (1,)
        or dtype is None
        or not contiguous
        or sum(sizes) != width[0] * length[0] * bits[0] // 8
        or no_data is None
        or not isinstance(metadata, bytes)
        or _TELLING.search(metadata)
    ):
        return None
    shape = (length[0], width[0])
    crs, is_point = crs_of(get(Tag.GEO_KEYS))
    matrix = matrix_of(get(Tag.PIXEL_SCALE), get(Tag.TIE_POINTS), get(Tag.MATRIX), is_point)
    if crs is None or (matrix is None and any(tag in directories[0].entries for tag in (Tag.TIE_POINTS, Tag.MATRIX))):
        return None
    if offsets[0] + sum(sizes) > len(data):
        raise RasterError(f"{path} ends after {len(data)} bytes, before its pixels do. {AGAIN}")
    place = None if matrix is None else _place(path, crs, matrix, shape)
    pixel = np.dtype(dtype)
    has_no_data = Tag.NO_DATA in directories[0].entries
    has_palette = Tag.PALETTE in directories[0].entries or get(Tag.PHOTOMETRIC) == (3,)
    header = RasterHeader(shape, pixel.name, place, (no_data,) if has_no_data else (), palette=has_palette)
    plain = _Plain(data[: offsets[0]], header, pixel, shape[0] * shape[1], offsets[0])
    if directories[0].end <= offsets[0]:  # the header precedes the pixels, so it can be cached
        if len(_met) >= 64:
            _met.clear()
        _met[len(data)] = plain
    return plain


def _number(text: Any) -> float | None:
    """A number in the text of a tag, None if it is not a number."""
    try:
        return float(text.rstrip(b"\0"))
    except (ValueError, TypeError, AttributeError):
        return None


# ----------------------------------------------------------------------------------------- everything else, by rasterio


_OTHER_DOMAINS = ("RPC", "GEOLOCATION", "EXIF", "IMAGE_STRUCTURE", "DERIVED_SUBDATASETS", "COLOR_PROFILE", "xml:")
"""Domains of GDAL's metadata whose scales and offsets concern cameras, locations or storage, not values."""
_ELEMENT = re.compile(rb"<(\w+)>([^<]*)</\1>")


def _read_with_rasterio(path: str, data: bytes) -> tuple[np.ndarray, RasterHeader]:
    """The pixels and header of any file that GDAL can read, including sidecar files.

    Args:
        path: the file.
        data: its bytes.

    Raises:
        RasterError: the file is unreadable, or its values cannot be taken at face value; see `read_geotiff`.
    """
    import rasterio  # takes half a second to import, and plain files do not need it
    from rasterio.enums import MaskFlags

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)  # `place` covers that
            with rasterio.open(path) as raster:
                if raster.count != 1:
                    raise RasterError(_several_bands(path, raster.count))
                no_data = check_value_tags(path, value_tags(raster, data))
                pixels: np.ndarray = raster.read(1)
                masked = MaskFlags.per_dataset in raster.mask_flag_enums[0]
                hidden = int((raster.read_masks(1) == 0).sum()) if masked else 0
                header = RasterHeader(
                    (raster.height, raster.width),
                    pixels.dtype.name,
                    place_of(path, raster),
                    tuple(no_data) if raster.nodata is None else (raster.nodata, *no_data),
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


def value_tags(raster: Any, data: bytes, bands: Sequence[int] = (0, 1)) -> Iterator[tuple[str, str]]:
    """Name and text of the metadata of some bands of an open raster and its bytes; band 0 is the whole file."""
    yield from (("scale", f"{raster.scales[0]:.10g}"), ("offset", f"{raster.offsets[0]:.10g}"))
    for band in bands:
        for domain in (None, *raster.tag_namespaces(band)):
            if domain is None or not domain.startswith(_OTHER_DOMAINS):
                yield from raster.tags(band, ns=domain).items()
    band_info = data[data.find(b"<Spectral_Band_Info>") : data.find(b"</Spectral_Band_Info>")]  # of SNAP, in a tag
    elements = {name.decode(): text.decode("utf-8", "replace") for name, text in _ELEMENT.findall(band_info)}
    if elements.pop("NO_DATA_VALUE_USED", "") != "true":
        elements.pop("NO_DATA_VALUE", None)
    yield from elements.items()


def place_of(path: str, raster: Any) -> Place | None:
    """The location of an open raster.

    Raises:
        RasterError: it does not run from north to south, or is located by control points.
    """
    if raster.gcps[0]:
        raise RasterError(_wrong_way(path, f"it is placed by {len(raster.gcps[0])} control points"))
    matrix = tuple(raster.transform)[:6]
    if matrix == (1, 0, 0, 0, 1, 0):
        return None
    epsg = raster.crs.to_epsg() if raster.crs else None
    crs = f"EPSG:{epsg}" if epsg else raster.crs.to_wkt() if raster.crs else ""
    return _place(path, crs, matrix, (raster.height, raster.width))

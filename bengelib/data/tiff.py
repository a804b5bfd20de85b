"""The tags of a TIFF: its directories, and the location of its pixels. Needs neither rasterio nor torch.

Implements parts of the specifications of TIFF 6.0 and OGC GeoTIFF 1.1. `bengelib.data.geotiff` judges the tags.
"""

import struct
from typing import Any

from bengelib.errors import RasterError

AGAIN = "Copy, write or download it again."

_FORMS = {1: "B", 2: "s", 3: "H", 4: "I", 6: "b", 7: "s", 8: "h", 9: "i", 11: "f", 12: "d", 13: "I", 16: "Q", 17: "q"}
"""Formats of the TIFF types; 5 and 10 are fractions, which are not needed."""
_SIZES = {kind: struct.calcsize(f"<{form}") for kind, form in _FORMS.items()} | {5: 8, 10: 8, 18: 8}

_REDUCED, _MASK = 1, 4
"""Bits of `Tag.SUBFILE`: an overview, and a mask."""


class Tag:
    """Numbers of the supported tags; plain integers are faster than an enumeration."""

    SUBFILE = 254
    OLD_SUBFILE = 255
    WIDTH = 256
    LENGTH = 257
    BITS = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    FILL_ORDER = 266
    STRIPS = 273
    ORIENTATION = 274
    SAMPLES = 277
    STRIP_BYTES = 279
    PALETTE = 320
    FORMAT = 339
    PIXEL_SCALE = 33550
    TIE_POINTS = 33922
    MATRIX = 34264
    GEO_KEYS = 34735
    METADATA = 42112
    NO_DATA = 42113


HEEDED = frozenset(number for name, number in vars(Tag).items() if name.isupper())


class Directory:
    """One image file directory: its tags by number, with values read on demand."""

    def __init__(self, data: bytes, order: str, entries: dict[int, tuple[int, int, int]], end: int) -> None:
        """Store the entries as (type, count, position of the value), and the first byte after all of them."""
        self.data, self.order, self.entries, self.end = data, order, entries, end

    def get(self, tag: int, default: tuple[Any, ...] = ()) -> tuple[Any, ...]:
        """The values of a tag; text is a single `bytes`. `default` if the tag is missing or the file truncated."""
        if tag not in self.entries:
            return default
        kind, count, place = self.entries[tag]
        if not count or kind not in _FORMS or place + count * _SIZES[kind] > len(self.data):
            return default
        return struct.unpack_from(f"{self.order}{count}{_FORMS[kind]}", self.data, place)

    def is_page(self) -> bool:
        """True if this is an image, neither an overview nor a mask of another one."""
        kind = self.get(Tag.SUBFILE, (0,))[0]
        return not kind & (_REDUCED | _MASK) and self.get(Tag.OLD_SUBFILE, (1,)) != (2,)


def read_directories(data: bytes, path: str) -> list[Directory]:
    """The directories of a TIFF, classic or BigTIFF, of either byte order; none if `data` is something else.

    Follows the TIFF 6.0 specification: a header, then a chain of directories of entries (tag, type, count, value).

    Raises:
        RasterError: the file ends within a directory, or directories form a cycle.
    """
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    version = data[2:4] if order == "<" else data[3:1:-1]
    if order is None or version not in (b"*\0", b"+\0"):
        return []
    big = version == b"+\0"
    number, entry, pointer = (order + form for form in (("Q", "HHQ8x", "Q") if big else ("H", "HHI4x", "I")))
    inline, head, size = (8, 8, 20) if big else (4, 2, 12)
    result: list[Directory] = []
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
            result.append(Directory(data, order, entries, last))
            start = following
    except (struct.error, OverflowError):
        raise RasterError(f"{path} ends after {len(data)} bytes, within its header. {AGAIN}") from None
    return result


def crs_of(keys: tuple[int, ...]) -> tuple[str | None, bool]:
    """The coordinate system in the GeoTIFF keys, None if not clear from them; and whether pixels are points."""
    found = {keys[place]: keys[place + 1 : place + 4] for place in range(4, len(keys) - 3, 4)}
    is_point = found.get(1025, (0, 1, 1))[2] == 2
    if not found:
        return "", is_point
    model = found.get(1024, (0, 1, 0))[2]
    code = found.get({1: 3072, 2: 2048}.get(model, 0))
    if code is None or code[0] != 0 or not 1023 < code[2] < 32767 or any(key >= 4096 for key in found):
        return None, is_point  # user-defined, or with heights
    return f"EPSG:{code[2]}", is_point


def matrix_of(
    scale: tuple[float, ...], ties: tuple[float, ...], matrix: tuple[float, ...], is_point: bool
) -> tuple[float, float, float, float, float, float] | None:
    """The affine transform from column and row to x and y, None if the tags are missing or ambiguous."""
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

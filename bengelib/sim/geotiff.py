"""The files of a simulated dataset: GeoTIFF rasters and `*_labels_metadata.json`, in the layout of BigEarthNet."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FORMATS = {"u": 1, "i": 2, "f": 3}  # TIFF sample formats by numpy kind
_SHORT, _LONG, _DOUBLE, _ASCII = 3, 4, 12, 2


def geotiff(array: NDArray[Any], epsg: int, left: float, top: float, resolution: float) -> bytes:
    """Encode one band as an uncompressed, north-up GeoTIFF in UTM, like BigEarthNet's files.

    Written by hand because opening a GDAL dataset costs more than simulating its pixels.

    Args:
        array: (H, W), any integer or float type.
        epsg: 32601 to 32660, WGS 84 / UTM north.
        left: easting of the upper left corner in metres.
        top: northing of the upper left corner in metres.
        resolution: metres per pixel.

    Returns:
        The bytes of the file, which depend on the arguments only.
    """
    data = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    height, width = data.shape
    citation = f"WGS 84 / UTM zone {epsg - 32600}N|WGS 84|".encode() + b"\0"
    first = citation.index(b"|") + 1
    keys = (
        (1, 1, 0, 7), (1024, 0, 1, 1), (1025, 0, 1, 1), (1026, 34737, first, 0), (2049, 34737, 7, first),
        (2054, 0, 1, 9102), (3072, 0, 1, epsg), (3076, 0, 1, 9001),
    )  # fmt: skip
    tags: list[tuple[int, int, int, bytes]] = [
        (256, _SHORT, 1, struct.pack("<H", width)),
        (257, _SHORT, 1, struct.pack("<H", height)),
        (258, _SHORT, 1, struct.pack("<H", data.dtype.itemsize * 8)),
        (259, _SHORT, 1, struct.pack("<H", 1)),
        (262, _SHORT, 1, struct.pack("<H", 1)),
        (273, _LONG, 1, b""),
        (277, _SHORT, 1, struct.pack("<H", 1)),
        (278, _SHORT, 1, struct.pack("<H", height)),
        (279, _LONG, 1, struct.pack("<I", data.nbytes)),
        (284, _SHORT, 1, struct.pack("<H", 1)),
        (339, _SHORT, 1, struct.pack("<H", _FORMATS[data.dtype.kind])),
        (33550, _DOUBLE, 3, struct.pack("<3d", resolution, resolution, 0.0)),
        (33922, _DOUBLE, 6, struct.pack("<6d", 0.0, 0.0, 0.0, left, top, 0.0)),
        (34735, _SHORT, 4 * len(keys), b"".join(struct.pack("<4H", *key) for key in keys)),
        (34737, _ASCII, len(citation), citation),
    ]
    start = 8 + 2 + 12 * len(tags) + 4
    extra = b""
    for _, _, _, value in tags:
        extra += value + b"\0" * (len(value) % 2) if len(value) > 4 else b""
    padding = -(start + len(extra)) % 8
    strip = start + len(extra) + padding
    entries, offset = b"", start
    for tag, kind, count, value in tags:
        if tag == 273:
            value = struct.pack("<I", strip)
        if len(value) > 4:
            entries += struct.pack("<HHII", tag, kind, count, offset)
            offset += len(value) + len(value) % 2
        else:
            entries += struct.pack("<HHI", tag, kind, count) + value.ljust(4, b"\0")
    head = struct.pack("<2sHIH", b"II", 42, 8, len(tags))
    return head + entries + struct.pack("<I", 0) + extra + b"\0" * padding + data.tobytes()


def projection(epsg: int) -> str:
    """Well-known text of a WGS 84 / UTM north zone, as in the label files of BigEarthNet."""
    zone = epsg - 32600
    return (
        f'PROJCS["WGS 84 / UTM zone {zone}N",GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563,'
        'AUTHORITY["EPSG","7030"]],AUTHORITY["EPSG","6326"]],PRIMEM["Greenwich",0,AUTHORITY["EPSG","8901"]],'
        'UNIT["degree",0.0174532925199433,AUTHORITY["EPSG","9122"]],AXIS["Latitude",NORTH],AXIS["Longitude",EAST],'
        'AUTHORITY["EPSG","4326"]],PROJECTION["Transverse_Mercator"],PARAMETER["latitude_of_origin",0],'
        f'PARAMETER["central_meridian",{6 * zone - 183}],PARAMETER["scale_factor",0.9996],'
        'PARAMETER["false_easting",500000],PARAMETER["false_northing",0],UNIT["metre",1,AUTHORITY["EPSG","9001"]],'
        f'AXIS["Easting",EAST],AXIS["Northing",NORTH],AUTHORITY["EPSG","{epsg}"]]'
    )


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write one line of JSON."""
    path.write_text(json.dumps(content), encoding="utf-8", newline="\n")

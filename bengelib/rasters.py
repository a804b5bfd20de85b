"""Reads the GeoTIFFs of one patch into arrays, fast, and refuses what is damaged. Needs no torch.

A patch's rasters in the form in which they are stored are, by key:

| key | shape | type, unit |
|---|---|---|
| `s2_10m`, `s2_20m`, `s2_60m` | (k, 120, 120), (m, 60, 60), (n, 20, 20) | uint16, reflectance x 10000 |
| `s1` | (p, 120, 120) | float32, dB |
| `dem` | (1, 120, 120) | as in the file, metres |
| `land_cover` | (120, 120) | uint8, WorldCover codes |
"""

import struct
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bengelib.bands import IGNORE_INDEX, LAND_COVER, LAND_COVER_NO_DATA_CODE, PATCH_SIZE, S1_BANDS, S2, S2_BANDS
from bengelib.errors import MissingModalityError, RasterError

RASTER_KEYS = ("s2", "s1", "dem", "land_cover")

_FOLDERS = {
    "s2": ("sentinel-2",),
    "s1": ("sentinel-1",),
    "dem": ("dem", "glo-30_dem"),
    "land_cover": ("esaworldcover",),
}
_SUFFIXES = {"s2": "", "s1": "", "dem": "_dem.tif", "land_cover": "_esaworldcover.tif"}

_DEM_TYPES = ("int16", "uint16", "int32", "float32")
_DEM_RANGE = (-500, 9000)
"""Metres; what lies outside, such as -32768 or -9999, marks missing elevation rather than terrain."""
_S1_LOWEST = -100.0
"""Decibels; the lowest value in BigEarthNet is -75, and lower ones mark missing measurements."""

_CODE_IS_LEGAL = np.zeros(256, dtype=bool)
_CODE_IS_LEGAL[[LAND_COVER_NO_DATA_CODE, *(entry.code for entry in LAND_COVER)]] = True


def modality_folder(root: Path, key: str) -> Path:
    """The folder of a raster modality, such as `dem/` (subsets) or `glo-30_dem/` (full set) for `"dem"`.

    Raises:
        MissingModalityError: the tree has none.
    """
    candidates = [root / name for name in _FOLDERS[key]]
    for path in candidates:
        if path.is_dir():
            return path
    names = " or ".join(f"{path.name}/" for path in candidates)
    raise MissingModalityError(
        f"{key!r} was asked for, but {root} has no folder {names}. Leave {key!r} out, or fetch it."
    )


def patch_files(
    folders: Mapping[str, Path],
    patch_id: str,
    patch_id_s1: str,
    s2_bands: Sequence[str] = S2_BANDS,
    s1_bands: Sequence[str] = S1_BANDS,
) -> dict[str, list[Path]]:
    """The files of a patch by modality, for the modalities that `folders` has."""
    files: dict[str, list[Path]] = {}
    for key, folder in folders.items():
        if key == "s2":
            files[key] = [folder / patch_id / f"{patch_id}_{band}.tif" for band in s2_bands]
        elif key == "s1":
            files[key] = [folder / patch_id_s1 / f"{patch_id_s1}_{band}.tif" for band in s1_bands]
        else:
            files[key] = [folder / f"{patch_id}{_SUFFIXES[key]}"]
    return files


def absent_patches(folder: Path, key: str, ids: Sequence[str]) -> list[int]:
    """Places in `ids` (Sentinel-1 ids for `"s1"`) of the patches without an entry in the folder of modality `key`."""
    present = {entry.name for entry in folder.iterdir()}
    return [place for place, patch_id in enumerate(ids) if f"{patch_id}{_SUFFIXES[key]}" not in present]


def read_patch(
    folders: Mapping[str, Path],
    patch_id: str,
    patch_id_s1: str,
    s2_bands: Sequence[str] = S2_BANDS,
    s1_bands: Sequence[str] = S1_BANDS,
) -> dict[str, np.ndarray]:
    """The rasters of one patch as they are stored; keys, shapes and types stand at the top of this module.

    Args:
        folders: folder by modality; the modalities that are not in it are not read.
        patch_id: Sentinel-2 patch id.
        patch_id_s1: Sentinel-1 patch id.
        s2_bands: bands of Sentinel-2, in the order wanted within each resolution.
        s1_bands: polarisations of Sentinel-1, in the order wanted.

    Raises:
        RasterError: a file is missing, damaged, without data, or holds values that are not legal.
    """
    files = patch_files(folders, patch_id, patch_id_s1, s2_bands, s1_bands)
    stored: dict[str, np.ndarray] = {}
    for resolution in (10, 20, 60):
        places = [place for place, band in enumerate(s2_bands) if S2[band].resolution == resolution]
        if places and "s2" in files:
            stored[f"s2_{resolution}m"] = np.stack([_read_s2(files["s2"][place], resolution) for place in places])
    if "s1" in files:
        stored["s1"] = np.stack([_read_s1(path) for path in files["s1"]])
    if "dem" in files:
        stored["dem"] = _read_dem(files["dem"][0])[None].copy()
    if "land_cover" in files:
        stored["land_cover"] = _read_land_cover(files["land_cover"][0]).copy()
    return stored


def read_raster(path: Path, size: int, dtypes: tuple[str, ...]) -> np.ndarray:
    """The pixels of a single-band raster, (size, size), in the type that the file has.

    Plain uncompressed files, which BigEarthNet and ben-ge consist of, are read here directly, twenty times faster
    than through rasterio, which needs most of a millisecond to open a file. Everything else goes through rasterio.

    Args:
        path: a GeoTIFF.
        size: rows and columns expected.
        dtypes: the data types that are acceptable, such as `("uint16",)`.

    Returns:
        The pixels; the array may be read-only.

    Raises:
        RasterError: no such file, not a readable TIFF, truncated, or of another shape or type.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise RasterError(f"no file {path}. Fetch the dataset again, or remove the patch from the meta CSV.") from None
    except OSError as error:
        raise RasterError(f"cannot read {path} ({error}).") from error
    if not data:
        raise RasterError(f"{path} is empty (0 bytes). Fetch it again.")
    pixels = _plain_pixels(data, path)
    if pixels is None:
        pixels = _read_with_rasterio(path)
    if pixels.shape != (size, size):
        raise RasterError(f"{path} holds {pixels.shape} pixels; expected ({size}, {size}). Fetch it again.")
    if pixels.dtype.name not in dtypes:
        raise RasterError(f"{path} holds {pixels.dtype.name}; expected {' or '.join(dtypes)}. Fetch it again.")
    return pixels


_DTYPES = {(1, 8): "<u1", (1, 16): "<u2", (2, 16): "<i2", (1, 32): "<u4", (2, 32): "<i4", (3, 32): "<f4"}
"""Pixel type by the TIFF fields SampleFormat and BitsPerSample."""


def _plain_pixels(data: bytes, path: Path) -> np.ndarray | None:
    """The pixels if `data` is a little-endian TIFF with one uncompressed contiguous band, None if of another make.

    Follows the TIFF 6.0 specification: a header, then a directory of 12-byte entries (tag, type, count, value).

    Raises:
        RasterError: the file ends before its pixels do.
    """
    if data[:4] != b"II*\0":
        return None
    start = int.from_bytes(data[4:8], "little")
    end = start + 2 + 12 * int.from_bytes(data[start : start + 2], "little")
    if end + 4 > len(data):
        raise RasterError(f"{path} ends after {len(data)} bytes, within its header. Fetch it again.")
    tags = {
        tag: _tag_values(data, kind, count, value)
        for tag, kind, count, value in struct.iter_unpack("<HHII", data[start + 2 : end])
    }
    width, length, bits = (tags.get(tag, ()) for tag in (256, 257, 258))
    compression, samples, sample_format = (tags.get(tag, (1,)) for tag in (259, 277, 339))
    offsets, byte_counts = (tags.get(tag, ()) for tag in (273, 279))  # of the strips that the image is cut into
    several_images = data[end : end + 4] != bytes(4)
    if several_images or compression != (1,) or samples != (1,) or not (width and length and bits and offsets):
        return None
    dtype = _DTYPES.get((sample_format[0] if sample_format else 0, bits[0]))
    contiguous = all(
        offset + size == following for offset, size, following in zip(offsets, byte_counts, offsets[1:], strict=False)
    )
    if dtype is None or not contiguous or sum(byte_counts) != width[0] * length[0] * bits[0] // 8:
        return None
    if offsets[0] + sum(byte_counts) > len(data):
        raise RasterError(f"{path} ends after {len(data)} bytes, before its pixels do. Fetch it again.")
    return np.frombuffer(data, dtype, width[0] * length[0], offsets[0]).reshape(length[0], width[0])


def _tag_values(data: bytes, kind: int, count: int, value: int) -> tuple[int, ...]:
    """The whole numbers of a TIFF tag; those of other types are of no interest here and answer ()."""
    if kind == 3 and count <= 2:  # 16-bit numbers that fit into the entry itself
        return (value & 0xFFFF, value >> 16)[:count]
    if kind == 4 and count == 1:
        return (value,)
    form = {3: "H", 4: "I"}.get(kind)
    if form is None or value + count * struct.calcsize(form) > len(data):
        return ()
    return struct.unpack_from(f"<{count}{form}", data, value)


def _read_with_rasterio(path: Path) -> np.ndarray:
    """The pixels of any file that GDAL can read."""
    import rasterio  # takes half a second to import, and plain files do without

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)  # pixels are all that is wanted
            with rasterio.open(path) as raster:
                pixels: np.ndarray = raster.read(1) if raster.count == 1 else raster.read()
    except (rasterio.errors.RasterioError, ValueError, OSError) as error:
        raise RasterError(f"{path} is not a readable GeoTIFF ({error}). Fetch it again.") from error
    return pixels


def _read_s2(path: Path, resolution: int) -> np.ndarray:
    """One Sentinel-2 band, uint16 digital numbers; 0 means no data, so a band of zeros is refused."""
    pixels = read_raster(path, PATCH_SIZE * 10 // resolution, ("uint16",))
    if not pixels.any():
        raise RasterError(f"{path} holds no data (every pixel is 0). Fetch it again, or leave the patch out.")
    return pixels


def _read_s1(path: Path) -> np.ndarray:
    """One polarisation in dB, without a NaN, an infinity or a fill value."""
    pixels = read_raster(path, PATCH_SIZE, ("float32",))
    lowest = pixels.min()  # NaN if any pixel is
    if not (lowest > _S1_LOWEST and pixels.max() < np.inf):
        bad = int((~(np.isfinite(pixels) & (pixels > _S1_LOWEST))).sum())
        raise RasterError(
            f"{path} has {bad} pixels that are NaN, infinite or below {_S1_LOWEST:g} dB. Fetch it again, or leave the "
            "patch out."
        )
    if lowest == 0 and not pixels.any():
        raise RasterError(f"{path} holds no data (every pixel is 0 dB). Fetch it again, or leave the patch out.")
    return pixels


def _read_dem(path: Path) -> np.ndarray:
    """Elevation in metres, without a NaN, an infinity or a fill value."""
    pixels = read_raster(path, PATCH_SIZE, _DEM_TYPES)
    low, high = _DEM_RANGE
    if not (pixels.min() >= low and pixels.max() <= high):  # false for NaN too
        bad = int((~((pixels >= low) & (pixels <= high))).sum())
        raise RasterError(
            f"{path} has {bad} pixels that are NaN or outside {low} to {high} m, which is no elevation. Fetch it "
            "again, or leave the patch out."
        )
    return pixels


def _read_land_cover(path: Path) -> np.ndarray:
    """WorldCover codes, uint8, each of them in the legend or 0 for no data."""
    pixels = read_raster(path, PATCH_SIZE, ("uint8",))
    if not _CODE_IS_LEGAL[pixels].all():
        unknown = np.unique(pixels[~_CODE_IS_LEGAL[pixels]]).tolist()
        raise RasterError(
            f"{path} has WorldCover codes {unknown} that are not in the legend "
            f"{np.flatnonzero(_CODE_IS_LEGAL).tolist()}; 0 becomes {IGNORE_INDEX} (no label), others are not guessed."
        )
    return pixels

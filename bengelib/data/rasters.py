"""The GeoTIFFs of one patch as arrays; damaged files are refused. Needs no torch.

The stored rasters of a patch by key:

| key | shape | type, unit |
|---|---|---|
| `s2_10m`, `s2_20m`, `s2_60m` | (k, 120, 120), (m, 60, 60), (n, 20, 20) | uint16, reflectance x 10000 |
| `s1` | (p, 120, 120) | float32, dB |
| `dem` | (1, 120, 120) | as in the file, metres |
| `land_cover` | (120, 120) | uint8, WorldCover codes |
"""

import contextlib
import os
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from bengelib.bands import IGNORE_INDEX, LAND_COVER, LAND_COVER_NO_DATA_CODE, PATCH_SIZE, S1_BANDS, S2, S2_BANDS
from bengelib.data.geotiff import Place, centre_in, has_sidecars, missing_hint, read_geotiff, same_ground
from bengelib.data.plausible import check_values
from bengelib.errors import DataWarning, MissingModalityError, RasterError
from bengelib.identity import PATCH_METRES, patch_corner

RASTER_KEYS = ("s2", "s1", "dem", "land_cover")

_FOLDERS = {
    "s2": ("sentinel-2",),
    "s1": ("sentinel-1",),
    "dem": ("dem", "glo-30_dem"),
    "land_cover": ("esaworldcover",),
}
_SUFFIXES = {"s2": "", "s1": "", "dem": "_dem.tif", "land_cover": "_esaworldcover.tif"}

_DTYPES = {
    "s2": ("uint16",),
    "s1": ("float32",),
    "dem": ("int16", "uint16", "int32", "float32"),
    "land_cover": ("uint8",),
}
_CONTENT = {"s2": "reflectance x 10000", "s1": "decibels", "dem": "metres", "land_cover": "WorldCover codes"}

_FEW_DARK = 0.01
"""Fraction of a Sentinel-2 band that may be 0 although its header calls 0 no data: dark water is 0 as well."""
_MANY_DARK = 0.05
"""The same if the header names no value for no data, as in the files of BigEarthNet."""

_CODE_IS_LEGAL = np.zeros(256, dtype=bool)
_CODE_IS_LEGAL[[LAND_COVER_NO_DATA_CODE, *(entry.code for entry in LAND_COVER)]] = True


def modality_folder(root: Path, key: str) -> Path:
    """The folder of a raster modality, such as `dem/` (subsets) or `glo-30_dem/` (full set) for `"dem"`.

    Raises:
        MissingModalityError: the dataset has none.
    """
    candidates = [root / name for name in _FOLDERS[key]]
    for path in candidates:
        if path.is_dir():
            return path
    names = " or ".join(f"{path.name}/" for path in candidates)
    raise MissingModalityError(
        f"{key!r} was requested, but {root} has no folder {names}. Leave {key!r} out, or fetch it."
    )


def tree_folders(root: Path) -> dict[str, Path]:
    """The folder of each raster modality in the dataset at `root`."""
    found = {}
    for key in RASTER_KEYS:
        with contextlib.suppress(MissingModalityError):
            found[key] = modality_folder(root, key)
    return found


def patch_files(
    folders: Mapping[str, Path],
    patch_id: str,
    patch_id_s1: str,
    s2_bands: Sequence[str] = S2_BANDS,
    s1_bands: Sequence[str] = S1_BANDS,
) -> dict[str, list[str]]:
    """The paths of a patch's files by modality, for the modalities in `folders`."""
    files: dict[str, list[str]] = {}
    for key, folder in folders.items():
        if key == "s2":
            files[key] = [f"{folder}/{patch_id}/{patch_id}_{band}.tif" for band in s2_bands]
        elif key == "s1":
            files[key] = [f"{folder}/{patch_id_s1}/{patch_id_s1}_{band}.tif" for band in s1_bands]
        else:
            files[key] = [f"{folder}/{patch_id}{_SUFFIXES[key]}"]
    return files


def absent_patches(folder: Path, key: str, ids: Sequence[str]) -> list[int]:
    """Indices into `ids` (Sentinel-1 ids for `"s1"`) of the patches without an entry in the folder of a modality."""
    present = {entry.name for entry in folder.iterdir()}
    return [place for place, patch_id in enumerate(ids) if f"{patch_id}{_SUFFIXES[key]}" not in present]


def off_table(root: Path, patch_ids: Sequence[str], patch_ids_s1: Sequence[str]) -> list[tuple[str, str]]:
    """Folder and name of each patch that has rasters but is not in the meta table."""
    folders = tree_folders(root)
    if not folders:  # a pack without its dataset
        return []
    key, folder = next(iter(folders.items()))
    known = set(patch_ids_s1 if key == "s1" else patch_ids)
    is_folder = key in ("s2", "s1")
    try:
        with os.scandir(folder) as listing:
            names = sorted(
                entry.name if is_folder else entry.name.rpartition("_")[0]
                for entry in listing
                if not entry.name.startswith(".") and (entry.is_dir() if is_folder else entry.name.endswith(".tif"))
            )
    except OSError:  # a pack does not need the rasters; otherwise, reading them reports the fault
        return []
    return [(folder.name, name) for name in names if name not in known]


def absent_hint(folder: Path, key: str, patch_id: str) -> str:
    """Advice about a patch without an entry in a folder: names an entry of similar spelling, if there is one."""
    return missing_hint(f"{folder}/{patch_id}{_SUFFIXES[key]}")


def read_patch(
    folders: Mapping[str, Path],
    patch_id: str,
    patch_id_s1: str,
    s2_bands: Sequence[str] = S2_BANDS,
    s1_bands: Sequence[str] = S1_BANDS,
    keys: Collection[str] | None = None,
) -> dict[str, np.ndarray]:
    """The stored rasters of one patch; the module docstring lists keys, shapes and types.

    All of them must have the location of the patch, which is that of its Sentinel-2 bands (or, without these, of the
    first modality). One of these files is opened even if it was not requested.

    Args:
        folders: folder by modality, for all modalities of the dataset.
        patch_id: Sentinel-2 patch id.
        patch_id_s1: Sentinel-1 patch id.
        s2_bands: bands of Sentinel-2, in the desired order within each resolution.
        s1_bands: polarisations of Sentinel-1, in the desired order.
        keys: the modalities to read, by default all of `folders`.

    Raises:
        RasterError: a file is missing, damaged, without data, of another layout or location than the others, or holds
            invalid values.
    """
    files = patch_files(
        {key: folder for key, folder in folders.items() if keys is None or key in keys},
        patch_id, patch_id_s1, s2_bands, s1_bands,
    )  # fmt: skip
    stored: dict[str, np.ndarray] = {}
    locations: dict[str, Place | None] = {}
    first = next((key for key in RASTER_KEYS if key in folders), "s2")
    if files and first not in files:
        witness = patch_files({first: folders[first]}, patch_id, patch_id_s1)[first][0]
        with contextlib.suppress(RasterError):  # the file was not requested
            locations[witness] = read_geotiff(witness)[1].place
    for resolution in (10, 20, 60) if "s2" in files else ():
        paths = [path for path, band in zip(files["s2"], s2_bands, strict=True) if S2[band].resolution == resolution]
        if paths:
            stored[f"s2_{resolution}m"] = _read_bands("s2", paths, PATCH_SIZE * 10 // resolution, locations)
    if "s1" in files:
        stored["s1"] = _read_bands("s1", files["s1"], PATCH_SIZE, locations)
    if "dem" in files:
        stored["dem"] = _read_bands("dem", files["dem"], PATCH_SIZE, locations)
    if "land_cover" in files:
        stored["land_cover"] = _read_bands("land_cover", files["land_cover"], PATCH_SIZE, locations)[0]
    _check_places(locations, patch_corner(patch_id, patch_id_s1))
    return stored


def _read_bands(key: str, paths: Sequence[str], size: int, locations: dict[str, Place | None]) -> np.ndarray:
    """The files of one modality and size, (len(paths), size, size); their locations are added to `locations`.

    Raises:
        RasterError: a file has another layout, or its pixels are invalid.
    """
    described = _with_sidecars(key, paths)
    bands = []
    for path in paths:
        pixels, header = read_geotiff(path, companions=path in described)
        if header.shape != (size, size):
            raise RasterError(
                f"{path} holds {header.shape} pixels; expected ({size}, {size}), which cover {PATCH_METRES} m. Cut "
                "or resample it to the grid of its patch."
            )
        if header.dtype not in _DTYPES[key]:
            raise RasterError(
                f"{path} holds {header.dtype}; expected {' or '.join(_DTYPES[key])}. Convert it to {_CONTENT[key]} as "
                f"{_DTYPES[key][0]}."
            )
        if key == "dem" and header.unit and not header.unit.lower().startswith("m"):
            raise RasterError(f"{path} says that its unit is {header.unit!r}; expected metres. Convert it to metres.")
        for value in header.no_data:
            _check_no_data(key, path, pixels, value)
        locations[path] = header.place
        bands.append(pixels)
    stack = np.stack(bands)
    if key == "land_cover":
        _check_codes(stack, paths[0])
    elif key == "s2" and stack.min() > 0:  # nearly always, and one check of all bands is cheaper than one of each
        try:
            check_values(key, stack, os.path.dirname(paths[0]))
        except RasterError:
            for path, pixels in zip(paths, bands, strict=True):
                check_values(key, pixels, path)
            raise
    else:
        for path, pixels in zip(paths, bands, strict=True):
            if key == "s2":
                _check_dark(path, pixels)
            check_values(key, pixels, path)
    return stack


def _with_sidecars(key: str, paths: Sequence[str]) -> list[str]:
    """Those of some files in one folder that have sidecar files: `.aux.xml`, `.msk`, `.tfw`."""
    if key in ("dem", "land_cover"):  # the folder holds the files of all patches, which are too many to list
        return [path for path in paths if has_sidecars(path)]
    try:
        names = os.listdir(os.path.dirname(paths[0]))
    except OSError:  # the files are missing too, which reading them reports
        return []
    others = [name.lower() for name in names if name[-4:] not in (".tif", "json")]
    if not others:
        return []
    stems = {path: f"{os.path.basename(path)[:-4]}.".lower() for path in paths}
    return [path for path, stem in stems.items() if any(name.startswith(stem) for name in others)]


def _check_no_data(key: str, path: str, pixels: np.ndarray, value: float) -> None:
    """Refuse pixels that equal the no-data value of their file.

    Zeros are an exception. Sentinel-2 has real zeros: see `_check_dark`. A land cover of 0 means no label. An elevation
    of 0 m is nearly always the sea, so it is used with a warning.

    Raises:
        RasterError: naming their number.
    """
    if value == 0 and key == "land_cover":
        return
    if pixels.dtype.kind in "iu":
        info = np.iinfo(pixels.dtype)
        if not (info.min <= value <= info.max and value == int(value)):
            return
    marked = int(np.count_nonzero(np.isnan(pixels) if np.isnan(value) else pixels == pixels.dtype.type(value)))
    if not marked or (value == 0 and key == "s2" and marked <= _FEW_DARK * pixels.size):
        return
    words = f"{path} has {marked} of {pixels.size} pixels without data: they equal its own no-data value {value:g}"
    if value == 0 and key == "dem":
        warnings.warn(f"{words}. They are used as 0 m: check that they are the sea.", DataWarning, stacklevel=4)
        return
    raise RasterError(f"{words}. Fill them, or leave the patch out.")


def _check_dark(path: str, pixels: np.ndarray) -> None:
    """Refuse a Sentinel-2 band of zeros, which mean no data, and warn if there are many.

    Raises:
        RasterError: every pixel is 0.
    """
    dark = pixels.size - int(np.count_nonzero(pixels))
    if dark == pixels.size:
        raise RasterError(f"{path} holds no data (every pixel is 0). Leave the patch out, or get a better one.")
    if dark > _MANY_DARK * pixels.size:
        warnings.warn(
            f"{path} has {dark} of {pixels.size} pixels that are 0, which is no data in Sentinel-2. They are used as "
            "reflectance 0.",
            DataWarning,
            stacklevel=4,
        )


def _check_codes(codes: np.ndarray, path: str) -> None:
    """Refuse WorldCover codes that are neither in the legend nor 0, no data.

    Raises:
        RasterError: naming them.
    """
    legal = _CODE_IS_LEGAL[codes]
    if not legal.all():
        unknown = np.unique(codes[~legal]).tolist()
        raise RasterError(
            f"{path} has WorldCover codes {unknown} that are not in the legend "
            f"{np.flatnonzero(_CODE_IS_LEGAL).tolist()}; 0 becomes {IGNORE_INDEX} (no label), others are not guessed."
        )


def _check_places(locations: Mapping[str, Place | None], named: tuple[int, int, int] | None) -> None:
    """Refuse rasters of one patch that do not cover the same ground, or not that of its ids.

    Rasters without a location pass. The location of the ids tolerates half a patch, since users may have their own
    grids.

    Args:
        locations: by path.
        named: EPSG code and upper left corner from the ids, see `patch_corner`.

    Raises:
        RasterError: naming the first two that differ, or the first one of another patch.
    """
    known = [(path, place) for path, place in locations.items() if place is not None]
    for path, place in known[1:]:
        other, expected = known[0]
        if place != expected and not same_ground(expected, place):
            raise RasterError(
                f"{path} covers {place}, but {other} of the same patch covers {expected}. Is it the file of another "
                "patch? Put the right one there, or warp it to the grid of the other."
            )
    if named is None or not known or not known[0][1].crs:
        return
    path, place = known[0]
    epsg, left, top = named
    if place.left == left and place.top == top and place.crs == f"EPSG:{epsg}":
        return
    half = PATCH_METRES / 2
    x, y = centre_in(place, f"EPSG:{epsg}")
    if not max(abs(x - left - half), abs(y - top + half)) < half:
        raise RasterError(
            f"{path} covers {place}, but its id names the patch whose upper left corner is ({left}, {top}) of "
            f"EPSG:{epsg}. Are the files of this patch those of another? Put the right ones there."
        )

"""What a pack is: its arrays, its manifest, and whether it is whole and up to date. Needs no torch.

A pack is a folder, `<root>/packed/` unless said otherwise, that stands on its own:

| file | content, for N patches in the order of the meta CSV |
|---|---|
| `s2_10m.npy`, `s2_20m.npy`, `s2_60m.npy` | (N, 4, 120, 120), (N, 6, 60, 60), (N, 2, 20, 20) uint16 digital numbers |
| `s1.npy` | (N, 2, 120, 120) float16 dB, within 0.008 dB of the file above -32 dB and within 0.016 dB below |
| `dem.npy` | (N, 1, 120, 120) int16 metres |
| `land_cover.npy` | (N, 120, 120) uint8 WorldCover codes |
| `season_s2.npy` and so on | the tables, as `bengelib.tables.read_table` gives them |
| `meta.csv`, `splits/` | the meta table and the dataset's own split files |
| `sources.npy` | (N, 4, 2) int64: bytes and latest change (ns) of the files of each patch, by raster modality |
| `manifest.json` | version, name, hash of the ids, sources of the tables, shape, type and hash of each array |
| `chunks.jsonl` | the hash of each run of patches of each array, and which patches were left out of it |

The order of the bands in the arrays is that of `bands.S2` and `bands.S1`.
"""

import contextlib
import errno
import hashlib
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bengelib.errors import ChecksumError, DatasetNotFoundError, DataWarning, MissingModalityError
from bengelib.files import find
from bengelib.rasters import RASTER_KEYS, modality_folder, patch_files

SCHEMA = 1
CHUNK = 64
"""Patches that are read, written, hashed and noted as done together: about 13 MB."""

ARRAYS: dict[str, tuple[str, tuple[int, ...], str]] = {
    "s2_10m": ("s2", (4, 120, 120), "<u2"),
    "s2_20m": ("s2", (6, 60, 60), "<u2"),
    "s2_60m": ("s2", (2, 20, 20), "<u2"),
    "s1": ("s1", (2, 120, 120), "<f2"),
    "dem": ("dem", (1, 120, 120), "<i2"),
    "land_cover": ("land_cover", (120, 120), "|u1"),
}
"""Modality, shape of one patch and type of each array of rasters."""

TIMED_KEYS = ("season", "weather")
"""Tables that exist twice, for the Sentinel-2 and the Sentinel-1 acquisition."""

DONE = "chunks.jsonl"
"""Journal: one line a chunk that is written, with the hash of its part of each array and what was left out of it."""


_KEYS = ("name", "ids", "modalities", "table_sources", "chunk", "arrays", "skipped")


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of the pack in `folder`; None if `folder` is none, for other programs write manifests too.

    Raises:
        ChecksumError: it is unreadable, or written by another version of `pack`.
    """
    path = folder / "manifest.json"
    if not (path.is_file() and any((folder / name).is_file() for name in ("sources.npy", DONE))):
        return None
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        schema = manifest["schema"]
    except (ValueError, KeyError, TypeError) as error:
        raise ChecksumError(f"{path} is damaged ({error!r}). Remove the folder and call bengelib.pack.") from error
    if schema != SCHEMA:
        raise ChecksumError(
            f"{path} has schema {schema}; this version reads {SCHEMA}. Remove the folder and call bengelib.pack."
        )
    if absent := [key for key in _KEYS if key not in manifest]:
        raise ChecksumError(f"{path} lacks {absent}. Remove the folder and call bengelib.pack.")
    return manifest


def reason_stale(
    root: Path, folder: Path, manifest: Mapping[str, Any], meta: pd.DataFrame, sample: int | None
) -> str | None:
    """Why the pack no longer holds what the tree at `root` holds, in a few words, or None where it does.

    Args:
        root: the tree.
        folder: its pack.
        manifest: the manifest of the pack.
        meta: the meta table of the tree.
        sample: how many patches, evenly spread, have the sizes and times of their files compared; None for all.
    """
    if identity(root, meta)["ids"] != manifest["ids"]:
        return "the meta CSV names other patches"
    now, then = table_sources(root), manifest["table_sources"]
    for name in sorted(set(now) | set(then)):
        if now.get(name, {}).get("sha256") != then.get(name, {}).get("sha256"):
            return f"{name} has changed, come or gone"
    present = [key for key in RASTER_KEYS if has_folder(root, key)]
    if added := [key for key in present if key not in manifest["modalities"]]:
        return f"{', '.join(added)} was added"
    sources = map_array(folder / "sources.npy")
    step = 1 if sample is None else max(1, len(meta) // sample)
    ids, ids_s1 = list(meta.index), list(meta["patch_id_s1"])
    folders = {key: modality_folder(root, key) for key in present}
    for row in range(0, len(meta), step):
        found = stat_patch(folders, ids[row], ids_s1[row])
        for key in present:
            place = RASTER_KEYS.index(key)
            if tuple(sources[row, place]) != tuple(found[place]):
                return f"the {key} files of {ids[row]} have changed"
    return None


def verify(folder: str | Path) -> None:
    """Read a whole pack and compare the hash of each array with the manifest.

    Raises:
        DatasetNotFoundError: `folder` holds no pack.
        ChecksumError: naming the first array, and the patches in it, that differ.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    if manifest is None:
        raise DatasetNotFoundError(f"no manifest.json in {folder}; give the folder that bengelib.pack returned")
    try:
        journal, chunk = read_journal(folder), manifest["chunk"]
    except (OSError, ValueError, KeyError) as error:
        raise ChecksumError(f"{folder} is damaged ({error!r}). Remove it and call bengelib.pack.") from error
    for name, entry in manifest["arrays"].items():
        path = folder / f"{name}.npy"
        try:
            array = map_array(path)
            fits = list(array.shape) == entry["shape"] and array.dtype.str == entry["dtype"]
        except (OSError, ValueError) as error:
            raise ChecksumError(f"{path} is damaged ({error}). Remove {folder} and call bengelib.pack.") from error
        digests = []
        if fits and name in ARRAYS:
            for number, start in enumerate(range(0, len(array), chunk)):
                digests.append(digest(array[start : start + chunk]))
                if digests[-1] != journal.get(number, {}).get("arrays", {}).get(name):
                    raise ChecksumError(
                        f"{path} is damaged in rows {start} to {min(start + chunk, len(array)) - 1}. Remove {folder} "
                        "and call bengelib.pack."
                    )
            found = digest("".join(digests).encode())
        else:
            found = digest(array)
        if not fits or found != entry["blake2b"]:
            raise ChecksumError(f"{path} is not as it was packed. Remove {folder} and call bengelib.pack.")


def map_array(path: Path) -> np.ndarray:
    """The array of a `.npy` file, mapped into memory or, on a disk that cannot do that, read whole, with a warning.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no such file, or truncated.
    """
    try:
        return np.load(path, mmap_mode="r").view(np.ndarray)
    except OSError as error:
        if error.errno not in (errno.ENODEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL):
            raise
        warnings.warn(f"{path} cannot be mapped ({error.strerror}); it is read whole", DataWarning, stacklevel=3)
        return np.asarray(np.load(path))


def digest(data: bytes | np.ndarray) -> str:
    """BLAKE2b of the bytes, 128 bits, in hexadecimal."""
    plain = data if isinstance(data, bytes) else np.ascontiguousarray(data).data.cast("B")
    return hashlib.blake2b(plain, digest_size=16).hexdigest()


def identity(root: Path, meta: pd.DataFrame) -> dict[str, Any]:
    """What tells one pack from another: version of the form, name, and the ids in their order."""
    ids = "\n".join([*meta.index, *meta["patch_id_s1"]])
    return {"schema": SCHEMA, "name": root.name, "ids": digest(ids.encode())}


def has_folder(root: Path, key: str) -> bool:
    """Whether the tree has the raster modality `key`."""
    try:
        modality_folder(root, key)
    except MissingModalityError:
        return False
    return True


def array_names(modality_folders: Mapping[str, Path]) -> list[str]:
    """Names of the arrays that hold these modalities."""
    return [name for name, (key, _, _) in ARRAYS.items() if key in modality_folders]


def table_sources(root: Path) -> dict[str, dict[str, Any]]:
    """Size and hash of each CSV of the tree, by its path within the tree."""
    stems = ("meta", "era-5", "esaworldcover", "climatezones")
    candidates = [find(root / folder / f"{root.name}_{stem}.csv") for stem in stems for folder in ("", stem)]
    files = [*(path for path in candidates if path.is_file()), *sorted((root / "splits").glob("*.csv"))]
    return {
        path.relative_to(root).as_posix(): {
            "bytes": path.stat().st_size,
            "changed": path.stat().st_mtime_ns,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in files
    }


def stat_patch(modality_folders: Mapping[str, Path], patch_id: str, patch_id_s1: str) -> np.ndarray:
    """Bytes and latest change (ns) of a patch's files, (4, 2) int64, by place in `RASTER_KEYS`; -1 without files."""
    result = np.full((len(RASTER_KEYS), 2), -1, dtype=np.int64)
    for key, paths in patch_files(modality_folders, patch_id, patch_id_s1).items():
        if key == "s2":  # the CORINE labels lie beside the bands
            paths = [*paths, modality_folders[key] / patch_id / f"{patch_id}_labels_metadata.json"]
        stats = []
        for path in paths:
            with contextlib.suppress(OSError):
                stats.append(os.stat(path))
        if stats:
            result[RASTER_KEYS.index(key)] = sum(s.st_size for s in stats), max(s.st_mtime_ns for s in stats)
    return result


def read_journal(folder: Path) -> dict[int, dict[str, Any]]:
    """Entries of the journal by number of the chunk; a last line that was cut off is left out."""
    entries = {}
    for line in (folder / DONE).read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            entries[entry["chunk"]] = entry
    return entries

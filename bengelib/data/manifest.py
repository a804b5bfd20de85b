"""Packs: their arrays and manifest, and checks that they are complete and up to date. Needs no torch.

A pack is a self-contained folder, by default `<root>/packed/`:

| file | content, for N patches in the order of the meta CSV |
|---|---|
| `s2_10m.npy`, `s2_20m.npy`, `s2_60m.npy` | (N, 4, 120, 120), (N, 6, 60, 60), (N, 2, 20, 20) uint16 digital numbers |
| `s1.npy` | (N, 2, 120, 120) float16 dB, within 0.008 dB of the file above -32 dB and within 0.016 dB below |
| `dem.npy` | (N, 1, 120, 120) int16 metres |
| `land_cover.npy` | (N, 120, 120) uint8 WorldCover codes |
| `season_s2.npy` and so on | the tables, as `bengelib.data.tables.read_table` gives them |
| `meta.csv`, `splits/` | the meta table and the dataset's own split files |
| `sources.npy` | (N, 4, 2) int64: `stat_patch` of each patch, a digest of the files of each raster modality |
| `index/` | ids and splits as arrays, see `bengelib.data.index` |
| `manifest.json` | version, name, hash of the ids, sources of the tables, times of folders; shape and hash of arrays |
| `chunks.jsonl` | the hash of each run of patches of each array, and which patches were left out of it |

The order of the bands in the arrays is that of `bands.S2` and `bands.S1`.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bengelib.data.index import FOLDER as INDEX
from bengelib.data.index import PatchIndex
from bengelib.data.index import map_array as map_array
from bengelib.data.rasters import RASTER_KEYS, off_table, patch_files, read_patch, tree_folders
from bengelib.data.tables import TABLE_KEYS, corine_multi_hot, find_meta, read_meta
from bengelib.errors import (
    ChecksumError,
    DatasetNotFoundError,
    MissingModalityError,
    RasterError,
    TableError,
)
from bengelib.files import absolute, find, replacing, same_name, tree_folder, write_json
from bengelib.sim.simulate import MARKER

SCHEMA = 2
_READABLE = (1, 2)
"""Versions whose arrays are the same. The first did not notice every change, so that its packs are packed again."""
CHUNK = 64
"""Number of patches that are read, written, hashed and recorded together: about 13 MB."""

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

FILES = ("plan.json", "manifest.json", DONE, "meta.csv", "splits", INDEX, "sources.npy", MARKER)
"""Files of a pack, finished or not, other than the arrays of rasters and tables."""
_SYSTEM = ("thumbs.db", "desktop.ini")
_KEYS = ("name", "ids", "modalities", "table_sources", "chunk", "arrays", "skipped")

SAMPLE = 64
"""Patches whose files are compared where not all are."""
_FOLDERS = 4096
"""Patches whose folders have their times compared at most."""


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of the pack in `folder`; None if it is not a pack, for other programs write manifests too.

    A folder with a manifest that is not one of `pack`, and with files that `pack` does not write, is not a pack.

    Raises:
        ChecksumError: it is unreadable, or written by a later version of `pack`.
    """
    path = folder / "manifest.json"
    if not (path.is_file() and any((folder / name).is_file() for name in ("sources.npy", DONE))):
        return None
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        schema = manifest["schema"]
    except (ValueError, KeyError, TypeError) as error:
        if foreign_files(folder):
            return None
        raise ChecksumError(f"{path} is damaged ({error!r}). {pack_anew(folder)}") from error
    if schema not in _READABLE:
        if not isinstance(schema, int) and foreign_files(folder):
            return None
        raise ChecksumError(
            f"{path} has schema {schema}; this version reads {_READABLE}. Update bengelib, or pack into another "
            "destination."
        )
    keys = _KEYS if schema == 1 else (*_KEYS, "folders")
    if absent := [key for key in keys if key not in manifest]:
        if foreign_files(folder):
            return None
        raise ChecksumError(f"{path} lacks {absent}. {pack_anew(folder)}")
    return manifest


def foreign_files(folder: Path) -> list[str]:
    """Names in a folder that no pack has, in order; hidden ones and those of the operating system do not count."""
    tables = [f"{key}_{acquisition}" if acquisition else key for key in TABLE_KEYS for acquisition in ("", "s2", "s1")]
    ours = {*FILES, *(f"{name}.npy" for name in (*ARRAYS, *tables))}
    return sorted(
        name for name in os.listdir(folder) if not (name in ours or name.startswith(".") or name.lower() in _SYSTEM)
    )


def pack_anew(folder: Path) -> str:
    """Advice about a damaged pack; only files written by `pack` are to be removed."""
    if foreign := foreign_files(folder):
        return (
            f"Call bengelib.pack with another destination: {folder} also holds {foreign[0]}, which pack did not write."
        )
    return f"Remove {folder} and call bengelib.pack."


def reason_stale(root: Path, folder: Path, manifest: Mapping[str, Any], *, thorough: bool) -> str | None:
    """Reason why the pack is out of date with the dataset at `root`, in a few words, or None if it is current.

    Names, sizes, times and inodes are compared first, and where these differ, the content: a tree that was copied has
    other times and the same pixels. What was found equal is noted in the pack, so that it is not read again. Where
    nothing has changed and `thorough` is not asked for, the time that this takes does not grow with the patches.

    Args:
        root: the tree.
        folder: its pack.
        manifest: the manifest of the pack.
        thorough: whether to read the tables, and compare the files of all patches; otherwise those of `SAMPLE` patches,
            evenly spread, and the times of the folders. Where a folder has changed all files are compared, and where
            those of hundreds of patches have, the pixels of some.

    Raises:
        DatasetNotFoundError: there is no dataset at `root`.
        TableError: its meta CSV has changed and is malformed.
    """
    then = manifest["table_sources"]
    now = table_sources(root, {} if thorough else then)
    if changed := [name for name in sorted({*now, *then}) if _hash_of(now, name) != _hash_of(then, name)]:
        meta_name = find_meta(root).name
        if meta_name in changed and identity(root, read_meta(root))["ids"] != manifest["ids"]:
            return "the meta CSV names other patches"
        return f"{changed[0]} was changed, added or taken away"
    folders = tree_folders(root)
    if added := [key for key in folders if key not in manifest["modalities"]]:
        return f"{', '.join(added)} was added"
    if manifest["schema"] < SCHEMA:
        removed = set(manifest["modalities"]) - set(folders)  # it could not be packed again
        return None if removed else "it is of an earlier version, which did not notice every change"
    index = PatchIndex(folder, manifest["name"])
    times = folder_times(folders, index)
    rows = np.arange(len(index))
    if not thorough and times == manifest["folders"]:
        rows = _spread(rows, SAMPLE)
    patches = index.pairs(rows)
    try:
        sources = _load(folder, "sources", len(index))[rows]  # not mapped: its file may be replaced below
    except ValueError as error:
        return str(error)
    found = np.stack([stat_patch(folders, *patch) for patch in patches]) if patches else sources
    places = [RASTER_KEYS.index(key) for key in folders]
    differs = (found != sources)[:, places]  # (R, modalities, 2)
    suspects = np.argwhere(differs.any(axis=2)).tolist()
    compared: Iterable[list[int]] = suspects
    if not thorough and len(suspects) > 4 * SAMPLE:
        resized = differs[..., 0]
        compared = [pair for pair in suspects if resized[*pair]] + list(_spread(suspects, SAMPLE))
    try:
        names = [name for name in (*ARRAYS, "corine") if name in manifest["arrays"]]
        arrays = {name: _load(folder, name, len(index)) for name in names} if suspects else {}
    except ValueError as error:
        return str(error)
    for place, which in compared:
        key, patch = list(folders)[which], patches[place]
        if not _holds(arrays, manifest, int(rows[place]), patch, folders, key):
            return f"the {key} files of {patch[0]} have changed"
    noted: dict[str, Any] = {}
    if compared is suspects and len(rows) == len(index) and (suspects or times != manifest["folders"]):
        sources[:, places] = found[:, places]
        noted = {"folders": times, "listing": list_folder(root, index)}
    if now != then:
        noted |= {"table_sources": now}
    if noted:
        _note(folder, {**manifest, **noted}, sources if "folders" in noted else None)
    return None


def _hash_of(sources: Mapping[str, Mapping[str, Any]], name: str) -> str | None:
    """The hash of a table, None if it does not exist."""
    return sources.get(name, {}).get("sha256")


def list_folder(root: Path, index: PatchIndex) -> dict[str, Any]:
    """Rasters of a dataset that belong to no patch, and the time (ns) of the searched folder."""
    changed = _time_listed(root)
    return {"changed": changed, "strangers": off_table(root, index.names(), index.names(key="ids_s1"))}


def listed(root: Path, manifest: Mapping[str, Any], index: PatchIndex) -> Sequence[Sequence[str]]:
    """The result of `off_table` for the dataset at `root`, from the manifest of its pack if nothing has changed."""
    known, changed = manifest.get("listing", {}), _time_listed(root)
    if not changed:
        return ()
    if known.get("changed") != changed:
        known = list_folder(root, index)
    strangers: Sequence[Sequence[str]] = known["strangers"]
    return strangers


def _time_listed(root: Path) -> int:
    """Time of change (ns) of the folder searched by `off_table`, 0 for none."""
    for folder in tree_folders(root).values():
        return folder.stat().st_mtime_ns
    return 0


def _spread(items: Any, count: int) -> Any:
    """At least `count` of the items, evenly spread, or all."""
    return items[:: max(1, len(items) // count)]


def _load(folder: Path, name: str, rows: int) -> np.ndarray:
    """An array of a pack, mapped.

    Raises:
        ValueError: it is missing or damaged.
    """
    try:
        array = map_array(folder / f"{name}.npy")
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{name}.npy is damaged ({error})") from error
    if len(array) != rows:
        raise ValueError(f"{name}.npy is damaged (it has {len(array)} rows in place of {rows})")
    return array


def _holds(
    arrays: Mapping[str, np.ndarray],
    manifest: Mapping[str, Any],
    row: int,
    patch: tuple[str, str],
    folders: Mapping[str, Path],
    key: str,
) -> bool:
    """True if a row of a pack holds what the files of a modality do: the same pixels and labels, or the same lack."""
    patch_id = patch[0]
    try:
        stored = read_patch(folders, *patch, keys=(key,))
    except RasterError:
        stored = None
    if (stored is None) != (patch_id in manifest["skipped"].get(key, {})):
        return False
    for name, pixels in (stored or {}).items():
        if not np.array_equal(as_packed(name, pixels), arrays[name][row]):
            return False
    if key != "s2":
        return True
    try:
        labels = corine_multi_hot(Path(_label_file(folders[key], patch_id)))
    except (MissingModalityError, TableError):
        return "corine" not in arrays or patch_id in manifest["skipped"].get("corine", {})
    return "corine" in arrays and np.array_equal(labels, arrays["corine"][row])


def _note(folder: Path, manifest: Mapping[str, Any], sources: np.ndarray | None) -> None:
    """Note other times of the same content in a pack, if it can be written."""
    with contextlib.suppress(OSError):
        if sources is not None:
            with replacing(folder / "sources.npy") as partial:
                np.save(partial, sources)
        write_json(folder / "manifest.json", manifest)


def verify(folder: str | Path, root: str | Path | None = None) -> None:
    """Read a whole pack and compare the hash of each array with the manifest; then compare it with its tree.

    Args:
        folder: the pack.
        root: the tree that it was made from; by default the folder around it, where that is the tree.

    Raises:
        DatasetNotFoundError: `folder` holds no pack.
        ChecksumError: naming the first array, and the patches in it, that differ; or what has changed in the tree.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    if manifest is None:
        raise DatasetNotFoundError(f"no pack in {folder}; give the folder that bengelib.pack returned")
    try:
        journal, chunk = read_journal(folder), manifest["chunk"]
    except (OSError, ValueError, KeyError) as error:
        raise ChecksumError(f"{folder} is damaged ({error!r}). {pack_anew(folder)}") from error
    for name, entry in manifest["arrays"].items():
        path = folder / f"{name}.npy"
        try:
            array = map_array(path)
            fits = list(array.shape) == entry["shape"] and array.dtype.str == entry["dtype"]
        except (OSError, ValueError) as error:
            raise ChecksumError(f"{path} is damaged ({error}). {pack_anew(folder)}") from error
        digests = []
        if fits and name in ARRAYS:
            for number, start in enumerate(range(0, len(array), chunk)):
                digests.append(digest(array[start : start + chunk]))
                if digests[-1] != journal.get(number, {}).get("arrays", {}).get(name):
                    raise ChecksumError(
                        f"{path} is damaged in rows {start} to {min(start + chunk, len(array)) - 1}. "
                        f"{pack_anew(folder)}"
                    )
            found = digest("".join(digests).encode())
        else:
            found = digest(array)
        if not fits or found != entry["blake2b"]:
            raise ChecksumError(f"{path} is not as it was packed. {pack_anew(folder)}")
    root = tree_folder(absolute(folder).parent if root is None else root)
    if same_name(root.name, manifest["name"]) and find(root / f"{root.name}_meta.csv").is_file():
        reason = reason_stale(root, folder, manifest, thorough=True)
        if reason is not None:
            raise ChecksumError(f"{folder} is out of date: {reason}. Call bengelib.pack to bring it up to date.")


def write_rows(path: Path, start: int, part: np.ndarray) -> None:
    """Write rows to a `.npy` file in place.

    Plain writes rather than a memory map: a full disk is an error here, and the end of the process there.
    """
    with path.open("r+b") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        file.seek(start * part[0].nbytes, os.SEEK_CUR)
        file.write(part.data)


def digest(data: bytes | np.ndarray) -> str:
    """BLAKE2b of the bytes, 128 bits, in hexadecimal."""
    plain = data if isinstance(data, bytes) else np.ascontiguousarray(data).data.cast("B")
    return hashlib.blake2b(plain, digest_size=16).hexdigest()


def identity(root: Path, meta: pd.DataFrame) -> dict[str, Any]:
    """The identity of a pack: version of the format, name, and the ids in their order."""
    ids = "\n".join([*meta.index, *meta["patch_id_s1"]])
    return {"schema": SCHEMA, "name": root.name, "ids": digest(ids.encode())}


def array_names(modality_folders: Mapping[str, Path]) -> list[str]:
    """Names of the arrays that hold these modalities."""
    return [name for name, (key, _, _) in ARRAYS.items() if key in modality_folders]


def table_sources(root: Path, known: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, dict[str, Any]]:
    """Size, times (ns), inode and hash of each CSV of the tree, by its path within the tree.

    Args:
        root: the tree.
        known: what this gave before; a file with the same size, times and inode is not read again.
    """
    stems = ("meta", "era-5", "esaworldcover", "climatezones")
    candidates = [find(root / folder / f"{root.name}_{stem}.csv") for stem in stems for folder in ("", stem)]
    files = [*(path for path in candidates if path.is_file()), *sorted((root / "splits").glob("*.csv"))]
    sources = {}
    for path in files:
        name, stat = path.relative_to(root).as_posix(), path.stat()
        source = {"bytes": stat.st_size, "changed": stat.st_mtime_ns, "touched": stat.st_ctime_ns, "inode": stat.st_ino}
        before = dict((known or {}).get(name, {}))
        sha256 = before.pop("sha256", None)
        if before != source:
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        sources[name] = {**source, "sha256": sha256}
    return sources


def as_packed(name: str, pixels: np.ndarray) -> np.ndarray:
    """Pixels as they stand in the array `name`: elevation rounded to whole metres, decibels to 16 bits."""
    rounded = np.rint(pixels) if name == "dem" and pixels.dtype.kind == "f" else pixels
    return rounded.astype(ARRAYS[name][2])


def stat_patch(modality_folders: Mapping[str, Path], patch_id: str, patch_id_s1: str) -> np.ndarray:
    """Digests that identify the files of a patch without reading them, (4, 2) int64, by index in `RASTER_KEYS`.

    Two digests a modality: of the names and sizes of its files, and of their names, times (ns) and inodes; -1 without
    files. Names that were swapped have other inodes, and what was written over and given its old time again has
    another time of change of its inode, so that both are seen where names, sizes and times are the same.
    """
    result = np.full((len(RASTER_KEYS), 2), -1, dtype=np.int64)
    for key, paths in patch_files(modality_folders, patch_id, patch_id_s1).items():
        if key == "s2":  # the CORINE labels lie beside the bands
            paths.append(_label_file(modality_folders[key], patch_id))
        sizes, times = [], []
        for number, path in enumerate(paths):  # the names follow from the numbers
            try:
                found = os.stat(path)
            except OSError:
                continue
            sizes.append((number, found.st_size))
            times.append((number, found.st_mtime_ns, found.st_ctime_ns, found.st_ino))
        if sizes:
            result[RASTER_KEYS.index(key)] = _number(sizes), _number(times)
    return result


def folder_times(modality_folders: Mapping[str, Path], index: PatchIndex) -> str:
    """Digest of the times of change (ns) of a tree's folders: of each modality and of up to `2 * _FOLDERS` patches.

    A folder changes when a file in it comes, goes or is renamed; not when one is written anew in its place.
    """
    paths = [str(folder) for folder in modality_folders.values()]
    patches = index.pairs(_spread(np.arange(len(index)), _FOLDERS))
    for key, which in (("s2", 0), ("s1", 1)):
        if key in modality_folders:
            paths += [f"{modality_folders[key]}/{patch[which]}" for patch in patches]
    times = []
    for path in paths:
        try:
            times.append(os.stat(path).st_mtime_ns)
        except OSError:
            times.append(-1)
    return digest(repr(times).encode())


def _label_file(folder: Path, patch_id: str) -> str:
    return f"{folder}/{patch_id}/{patch_id}_labels_metadata.json"


def _number(content: object) -> int:
    """64 bits of BLAKE2b of what `repr` says, as a signed number."""
    return int.from_bytes(hashlib.blake2b(repr(content).encode(), digest_size=8).digest(), "little", signed=True)


def read_journal(folder: Path) -> dict[int, dict[str, Any]]:
    """Entries of the journal by number of the chunk; a last line that was cut off is left out."""
    entries = {}
    for line in (folder / DONE).read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            entries[entry["chunk"]] = entry
    return entries

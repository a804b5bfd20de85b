"""`pack`: writes the rasters and tables of a ben-ge tree into memory-mappable arrays that `PackedBENGE` reads.

A pack is a folder, `<root>/packed/` unless said otherwise, that stands on its own:

| file | content, for N patches in the order of the meta CSV |
|---|---|
| `s2_10m.npy`, `s2_20m.npy`, `s2_60m.npy` | (N, 4, 120, 120), (N, 6, 60, 60), (N, 2, 20, 20) uint16 digital numbers |
| `s1.npy` | (N, 2, 120, 120) float16 dB, within 0.008 dB of the file above -32 dB and within 0.016 dB below |
| `dem.npy` | (N, 1, 120, 120) int16 metres |
| `land_cover.npy` | (N, 120, 120) uint8 WorldCover codes |
| `season_s2.npy` and so on | the tables, as `bengelib.tables.read_table` gives them |
| `meta.csv`, `splits/` | the meta table and the dataset's own split files |
| `sources.npy` | (N, modalities, 2) int64: bytes and latest change (ns) of the files of each patch |
| `manifest.json` | schema version, name, hash of the ids, sources of the tables, shape, type and hash of each array |

Numbers and places of the bands in the arrays are those of `bands.S2` and `bands.S1`.
"""

import contextlib
import errno
import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from bengelib.errors import ChecksumError, DatasetNotFoundError, DiskSpaceError, MissingModalityError, RasterError
from bengelib.rasters import RASTER_KEYS, modality_folder, patch_files, read_patch
from bengelib.tables import TABLE_KEYS, read_meta, read_table

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

_PARALLEL_FROM = 20_000
"""Patches from which starting further processes, a second or two each, pays."""


_DONE = "chunks.jsonl"
"""Journal: one line a chunk that is written, with the hash of its part of each array and what was left out of it."""


@dataclass(frozen=True)
class _Chunk:
    """A run of patches: its number, its first row, and the ids."""

    number: int
    start: int
    ids: list[str]
    ids_s1: list[str]


def pack(
    root: str | Path,
    destination: str | Path | None = None,
    *,
    processes: int | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    progress: bool = True,
) -> Path:
    """Write a ben-ge tree into arrays that `PackedBENGE` maps into memory; do nothing where that is done already.

    All modalities that the tree has are packed. Memory does not grow with the number of patches, save for the tables.
    An interrupted call is taken up by the next one; the pack appears under its name only when complete; a second
    process that packs the same tree waits for the first.

    Args:
        root: a ben-ge tree, see `BENGE`.
        destination: the folder to write; `<root>/packed` by default.
        processes: how many processes read and write; by default one, or one a core for more than 20,000 patches.
        on_error: `"raise"` stops at the first patch with missing or damaged rasters; `"skip"` leaves such patches out
            and lists them, with the reason, in the manifest and in `PackedBENGE.skipped`.
        progress: whether to show a progress bar.

    Returns:
        The folder of the pack.

    Raises:
        DatasetNotFoundError: no such tree.
        RasterError: a raster is missing or damaged (with `on_error="raise"`).
        TableError: a malformed CSV or JSON.
        ChecksumError: `destination` exists and is not a pack of this tree.
        DiskSpaceError: there is too little room.
    """
    if on_error not in ("raise", "skip"):
        raise ValueError(f'on_error={on_error!r}; expected "raise" or "skip"')
    root = Path(root).resolve()
    folder = root / "packed" if destination is None else Path(destination).resolve()
    meta = read_meta(root)
    if _is_current(root, folder, meta, on_error):  # asked before the lock too: data may lie on a read-only disk
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder, progress):
        if not _is_current(root, folder, meta, on_error):
            try:
                _write(root, folder, meta, processes, on_error, progress)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                raise DiskSpaceError(
                    f"the disk of {folder} is full. Make room and call pack again: it goes on where it stopped."
                ) from error
    return folder


def _write(root: Path, folder: Path, meta: pd.DataFrame, processes: int | None, on_error: str, progress: bool) -> None:
    """Write a pack beside its place and move it there."""
    modality_folders = {key: modality_folder(root, key) for key in RASTER_KEYS if _has_folder(root, key)}
    partial = folder.with_name(f"{folder.name}.partial")
    _start(root, folder, partial, meta, modality_folders)
    tables, problems = _write_tables(root, partial, meta, on_error)
    done = _write_rasters(partial, meta, modality_folders, processes, on_error, progress)
    for entry in done:
        for key, patches in entry["skipped"].items():
            problems.setdefault(key, {}).update(patches)
    arrays = {
        name: {"shape": list(array.shape), "dtype": array.dtype.str, "blake2b": digest}
        for name, digest in [
            *tables.items(),
            *((name, _digest("".join(e["arrays"][name] for e in done).encode())) for name in _arrays(modality_folders)),
        ]
        for array in [np.load(partial / f"{name}.npy", mmap_mode="r")]
    }
    manifest = {
        **_identity(root, meta),
        "patches": len(meta),
        "modalities": list(modality_folders),
        "table_sources": _table_sources(root),
        "arrays": arrays,
        "chunk": CHUNK,
        "skipped": problems,
    }
    (partial / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    (partial / "plan.json").unlink()
    for path in partial.iterdir():
        _flush(path)
    _replace(folder, partial)


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of the pack in `folder`, None if there is no such file.

    Raises:
        ChecksumError: it is unreadable, or written by another version of `pack`.
    """
    path = folder / "manifest.json"
    if not path.is_file():
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
    if _identity(root, meta)["ids"] != manifest["ids"]:
        return "the meta CSV names other patches"
    now, then = _table_sources(root), manifest["table_sources"]
    for name in sorted(set(now) | set(then)):
        if now.get(name, {}).get("sha256") != then.get(name, {}).get("sha256"):
            return f"{name} has changed, come or gone"
    present = [key for key in RASTER_KEYS if _has_folder(root, key)]
    if added := [key for key in present if key not in manifest["modalities"]]:
        return f"{', '.join(added)} was added"
    sources = np.load(folder / "sources.npy", mmap_mode="r")
    step = 1 if sample is None else max(1, len(meta) // sample)
    ids, ids_s1 = list(meta.index), list(meta["patch_id_s1"])
    folders = {key: modality_folder(root, key) for key in present}
    for row in range(0, len(meta), step):
        found = _stat_patch(folders, ids[row], ids_s1[row])
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
    journal = _read_journal(folder)
    for name, entry in manifest["arrays"].items():
        path = folder / f"{name}.npy"
        try:
            array = np.load(path, mmap_mode="r")
            fits = list(array.shape) == entry["shape"] and array.dtype.str == entry["dtype"]
        except (OSError, ValueError) as error:
            raise ChecksumError(f"{path} is damaged ({error}). Remove {folder} and call bengelib.pack.") from error
        digests = []
        if fits and name in ARRAYS:
            for number, start in enumerate(range(0, len(array), CHUNK)):
                digests.append(_digest(array[start : start + CHUNK]))
                if digests[-1] != journal[number]["arrays"][name]:
                    raise ChecksumError(
                        f"{path} is damaged in rows {start} to {min(start + CHUNK, len(array)) - 1}. Remove {folder} "
                        "and call bengelib.pack."
                    )
            digest = _digest("".join(digests).encode())
        else:
            digest = _digest(array)
        if not fits or digest != entry["blake2b"]:
            raise ChecksumError(f"{path} is not as it was packed. Remove {folder} and call bengelib.pack.")


def _digest(data: bytes | np.ndarray) -> str:
    """BLAKE2b of the bytes, 128 bits, in hexadecimal."""
    plain = data if isinstance(data, bytes) else np.ascontiguousarray(data).data.cast("B")
    return hashlib.blake2b(plain, digest_size=16).hexdigest()


def _identity(root: Path, meta: pd.DataFrame) -> dict[str, Any]:
    """What tells one pack from another: version of the form, name, and the ids in their order."""
    ids = "\n".join([*meta.index, *meta["patch_id_s1"]])
    return {"schema": SCHEMA, "name": root.name, "ids": _digest(ids.encode())}


def _has_folder(root: Path, key: str) -> bool:
    try:
        modality_folder(root, key)
    except MissingModalityError:
        return False
    return True


def _arrays(modality_folders: Mapping[str, Path]) -> list[str]:
    """Names of the arrays that hold these modalities."""
    return [name for name, (key, _, _) in ARRAYS.items() if key in modality_folders]


def _table_sources(root: Path) -> dict[str, dict[str, Any]]:
    """Size and hash of each CSV of the tree, by its path within the tree."""
    stems = ("meta", "era-5", "esaworldcover", "climatezones")
    candidates = [
        path for stem in stems for path in (root / f"{root.name}_{stem}.csv", root / stem / f"{root.name}_{stem}.csv")
    ]
    files = [*(path for path in candidates if path.is_file()), *sorted((root / "splits").glob("*.csv"))]
    return {
        path.relative_to(root).as_posix(): {
            "bytes": path.stat().st_size,
            "changed": path.stat().st_mtime_ns,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in files
    }


def _stat_patch(modality_folders: Mapping[str, Path], patch_id: str, patch_id_s1: str) -> np.ndarray:
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


def _is_current(root: Path, folder: Path, meta: pd.DataFrame, on_error: str) -> bool:
    """Whether `folder` already holds what `pack` would write.

    Raises:
        ChecksumError: the folder holds something else, which is not to be overwritten.
    """
    old = folder.with_name(f"{folder.name}.old")
    if old.is_dir() and not folder.exists():  # a rebuild was killed between its two renames
        old.rename(folder)
    if not folder.exists() or not any(folder.iterdir()):
        return False
    manifest = read_manifest(folder)
    if manifest is None or manifest["name"] != root.name:
        raise ChecksumError(
            f"{folder} is not a pack of {root} but of {manifest['name'] if manifest else 'unknown origin'}; it is left "
            "alone. Remove it, or give another destination."
        )
    if on_error == "raise" and any(manifest["skipped"].values()):
        return False
    return reason_stale(root, folder, manifest, meta, sample=None) is None


@contextlib.contextmanager
def _locked(folder: Path, progress: bool) -> Iterator[None]:
    """Keep other processes from writing the same pack; the lock is freed even when a process is killed."""
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    try:
        lock.acquire(timeout=0.2)
    except Timeout:
        if progress:
            tqdm.write(f"Waiting for another process that packs {folder.parent.name} ...")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _start(root: Path, folder: Path, partial: Path, meta: pd.DataFrame, modality_folders: Mapping[str, Path]) -> None:
    """Make `partial` ready: what an interrupted call has left, what an older pack still has right, or new arrays."""
    plan = {**_identity(root, meta), "modalities": list(modality_folders)}
    plan_path = partial / "plan.json"
    if partial.exists() and (not plan_path.is_file() or json.loads(plan_path.read_text(encoding="utf-8")) != plan):
        shutil.rmtree(partial)
    shutil.rmtree(folder.with_name(f"{folder.name}.old"), ignore_errors=True)
    if partial.exists():
        return
    shapes = {name: (len(meta), *ARRAYS[name][1]) for name in _arrays(modality_folders)}
    needed = sum(int(np.prod(shape)) * np.dtype(ARRAYS[name][2]).itemsize for name, shape in shapes.items())
    free = shutil.disk_usage(folder.parent).free
    if needed > free:
        raise DiskSpaceError(
            f"packing {root} needs {needed / 1e9:.1f} GB and the disk of {folder.parent} has {free / 1e9:.1f} GB free. "
            "Make room, or give a destination on another disk."
        )
    partial.mkdir()
    np.save(partial / "sources.npy", np.full((len(meta), len(RASTER_KEYS), 2), -1, dtype=np.int64))
    for name, shape in shapes.items():
        np.lib.format.open_memmap(partial / f"{name}.npy", "w+", dtype=ARRAYS[name][2], shape=shape)  # a sparse file
    (partial / _DONE).touch()
    plan_path.write_text(json.dumps(plan), encoding="utf-8")


def _write_tables(
    root: Path, partial: Path, meta: pd.DataFrame, on_error: str
) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """Write meta table, split files and table arrays; hash by array, and by key the patches without a good value."""
    shutil.copyfile(root / f"{root.name}_meta.csv", partial / "meta.csv")
    (partial / "splits").mkdir(exist_ok=True)
    for path in sorted((root / "splits").glob("*.csv")):
        shutil.copyfile(path, partial / "splits" / path.name)
    hashes: dict[str, str] = {}
    problems: dict[str, dict[str, str]] = {}
    for key in TABLE_KEYS:
        for acquisition in ("s2", "s1") if key in TIMED_KEYS else ("s2",):
            bad: dict[str, str] = {}
            try:
                values = read_table(root, meta, key, acquisition, None if on_error == "raise" else bad)
            except MissingModalityError:
                continue
            name = f"{key}_{acquisition}" if key in TIMED_KEYS else key
            np.save(partial / f"{name}.npy", values)
            hashes[name] = _digest(values)
            if bad:
                problems.setdefault(key, {}).update(bad)
    return hashes, problems


def _write_rasters(
    partial: Path,
    meta: pd.DataFrame,
    modality_folders: dict[str, Path],
    processes: int | None,
    on_error: str,
    progress: bool,
) -> list[dict[str, Any]]:
    """Write every chunk that is not yet there; the journal's entries in the order of the chunks."""
    journal = _read_journal(partial)
    chunks = [
        _Chunk(number, start, list(meta.index[start : start + CHUNK]), list(meta["patch_id_s1"][start : start + CHUNK]))
        for number, start in enumerate(range(0, len(meta), CHUNK))
    ]
    done = {
        number: entry
        for number, entry in journal.items()
        if _still_good(partial, chunks[number], entry, modality_folders, on_error)
    }
    if processes is None:
        processes = (os.cpu_count() or 1) if len(meta) > _PARALLEL_FROM else 1
    tasks = ((partial, chunk, modality_folders, on_error) for chunk in chunks if chunk.number not in done)
    finished = sum(len(chunks[number].ids) for number in done)
    with (
        tqdm(total=len(meta), initial=finished, desc="packing", unit="patch", disable=not progress) as bar,
        (partial / _DONE).open("a", encoding="utf-8") as file,
    ):
        for entry in _map(tasks, processes):
            done[entry["chunk"]] = entry
            file.write(json.dumps(entry) + "\n")
            file.flush()
            bar.update(len(chunks[entry["chunk"]].ids))
    ordered = [done[number] for number in range(len(chunks))]
    (partial / _DONE).write_text("".join(json.dumps(entry) + "\n" for entry in ordered), encoding="utf-8")
    return ordered


def _map(tasks: Iterator[tuple[Any, ...]], processes: int) -> Iterator[dict[str, Any]]:
    """`_write_chunk` of each task, in whatever order they finish, with few tasks under way at a time."""
    if processes <= 1:
        for task in tasks:
            yield _write_chunk(*task)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(_write_chunk, *task) for task in itertools.islice(tasks, 4 * processes)}
        try:
            while waiting:
                finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield future.result()
                waiting |= {pool.submit(_write_chunk, *task) for task in itertools.islice(tasks, len(finished))}
        finally:
            pool.shutdown(cancel_futures=True)


def _write_chunk(partial: Path, chunk: _Chunk, modality_folders: Mapping[str, Path], on_error: str) -> dict[str, Any]:
    """Read the rasters of a run of patches, write them to their rows, and answer the entry for the journal."""
    names = _arrays(modality_folders)
    values = {name: np.zeros((len(chunk.ids), *ARRAYS[name][1]), dtype=ARRAYS[name][2]) for name in names}
    sources = np.empty((len(chunk.ids), len(RASTER_KEYS), 2), dtype=np.int64)
    skipped: dict[str, dict[str, str]] = {}
    for place, (patch_id, patch_id_s1) in enumerate(zip(chunk.ids, chunk.ids_s1, strict=True)):
        sources[place] = _stat_patch(modality_folders, patch_id, patch_id_s1)
        for key, modality in modality_folders.items():
            try:
                stored = read_patch({key: modality}, patch_id, patch_id_s1)
            except RasterError as error:
                if on_error == "raise":
                    raise
                skipped.setdefault(key, {})[patch_id] = str(error)
                continue
            for name, pixels in stored.items():
                values[name][place] = np.rint(pixels) if name == "dem" and pixels.dtype.kind == "f" else pixels
    for name, part in (*values.items(), ("sources", sources)):
        _write_rows(partial / f"{name}.npy", chunk.start, part)
    digests = {name: _digest(part) for name, part in values.items()}
    return {"chunk": chunk.number, "arrays": digests, "sources": _digest(sources), "skipped": skipped}


def _write_rows(path: Path, start: int, part: np.ndarray) -> None:
    """Write rows to a `.npy` file in place.

    Plain writes rather than a memory map: a full disk is an error here, and the end of the process there.
    """
    with path.open("r+b") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        file.seek(start * part[0].nbytes, os.SEEK_CUR)
        file.write(part.data)


def _read_journal(folder: Path) -> dict[int, dict[str, Any]]:
    """Entries of the journal by number of the chunk; a last line that was cut off is left out."""
    entries = {}
    for line in (folder / _DONE).read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            entries[entry["chunk"]] = entry
    return entries


def _still_good(
    partial: Path, chunk: _Chunk, entry: dict[str, Any], modality_folders: Mapping[str, Path], on_error: str
) -> bool:
    """Whether the rows of a chunk are what an interrupted call wrote there, from files that have not changed since."""
    if on_error == "raise" and entry["skipped"]:
        return False
    sources = np.stack([_stat_patch(modality_folders, *ids) for ids in zip(chunk.ids, chunk.ids_s1, strict=True)])
    rows = slice(chunk.start, chunk.start + len(chunk.ids))
    return entry["sources"] == _digest(sources) and all(
        digest == _digest(np.load(partial / f"{name}.npy", mmap_mode="r")[rows])
        for name, digest in (*entry["arrays"].items(), ("sources", entry["sources"]))
    )


def _flush(path: Path) -> None:
    """See to it that a file is on the disk, not only on its way there."""
    if path.is_file():
        with path.open("r+b") as file:
            os.fsync(file.fileno())


def _replace(folder: Path, partial: Path) -> None:
    """Put the new pack in the place of the old one, if any."""
    old = folder.with_name(f"{folder.name}.old")
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)

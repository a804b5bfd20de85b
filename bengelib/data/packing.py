"""`pack`: writes the rasters and tables of a ben-ge tree into memory-mappable arrays that `PackedBENGE` reads.

`bengelib.data.manifest` describes the content of a pack.
"""

import errno
import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from tqdm import tqdm

from bengelib.cores import in_processes, usable_cores
from bengelib.data.consistency import check_tree
from bengelib.data.described_packing import pack_described
from bengelib.data.description import is_described, read_description
from bengelib.data.index import PatchIndex
from bengelib.data.manifest import (
    ARRAYS,
    CHUNK,
    DONE,
    TIMED_KEYS,
    array_names,
    as_packed,
    digest,
    folder_times,
    foreign_files,
    identity,
    list_folder,
    read_journal,
    read_manifest,
    reason_stale,
    stat_patch,
    table_sources,
    write_rows,
)
from bengelib.data.plausible import check_together
from bengelib.data.rasters import RASTER_KEYS, read_patch, tree_folders
from bengelib.data.samples import read_samples
from bengelib.data.tables import TABLE_KEYS, find_meta, read_meta, read_table
from bengelib.errors import (
    ChecksumError,
    DescriptionError,
    DiskSpaceError,
    MissingModalityError,
    RasterError,
    TableError,
)
from bengelib.files import (
    absolute,
    discard,
    find,
    flush,
    free_bytes,
    locked,
    same_name,
    sweep_lock,
    tree_folder,
    writing,
)
from bengelib.sim.simulate import MARKER

_PARALLEL_FROM = 20_000
"""Patches from which starting further processes, a second or two each, pays."""


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
    thorough: bool = True,
    progress: bool = True,
) -> Path:
    """Write a ben-ge tree into arrays that `PackedBENGE` maps into memory; do nothing where that is done already.

    All modalities that the tree has are packed. Memory does not grow with the number of patches, save for the tables.
    An interrupted call is continued by the next one; the pack appears under its name only when complete; a second
    process that packs the same tree waits for the first.

    Args:
        root: a ben-ge tree, see `BENGE`, or a folder with a `dataset.toml`.
        destination: the folder to write; `<root>/packed` by default, and always for a `dataset.toml`.
        processes: how many processes read and write; by default one, or one a usable core for more than 20,000 patches.
        on_error: `"raise"` stops at the first patch with missing or damaged rasters; `"skip"` leaves such patches out
            and lists them, with the reason, in the manifest and in `PackedBENGE.skipped`.
        thorough: whether to compare the files of all patches with those that a pack was made from; otherwise those of
            some patches and the times of the folders.
        progress: whether to show a progress bar.

    Returns:
        The folder of the pack.

    Raises:
        DatasetNotFoundError: no such tree.
        RasterError: a raster is missing or damaged (with `on_error="raise"`).
        TableError: a malformed CSV or JSON.
        ChecksumError: `destination` exists and is not a pack of this tree, or not a current one and holds other files.
        DiskSpaceError: there is too little space.
        DiskError: nothing can be written there.
    """
    if on_error not in ("raise", "skip"):
        raise ValueError(f'on_error={on_error!r}; expected "raise" or "skip"')
    root = tree_folder(root)
    if is_described(root):
        if destination is not None:
            raise DescriptionError(f"{root} is packed within its own folder; leave destination={destination} out")
        description = read_description(root)
        return pack_described(description, read_samples(description), on_error=on_error, progress=progress)
    given = root / "packed" if destination is None else absolute(destination)
    folder = Path(os.path.realpath(given))  # written where it will lie, if `given` is a link to another disk
    with writing(folder, "call pack again: it continues where it stopped"):
        find_meta(root)
        lock = folder.with_name(f".{folder.name}.lock")
        if _is_current(root, folder, on_error, thorough):  # before the lock too: the disk may be read-only
            sweep_lock(lock)
            return given
        folder.parent.mkdir(parents=True, exist_ok=True)
        waiting = f"Waiting for another process that packs {root.name} ..." if progress else None
        with locked(lock, waiting):
            if not _is_current(root, folder, on_error, thorough):
                _write(root, folder, read_meta(root), processes, on_error, progress)
    return given


def _write(root: Path, folder: Path, meta: pd.DataFrame, processes: int | None, on_error: str, progress: bool) -> None:
    """Write a pack beside its place and move it there."""
    modality_folders = tree_folders(root)
    index = PatchIndex(root, root.name, meta)
    times, listing = folder_times(modality_folders, index), list_folder(root, index)
    check_tree(root, meta, thoroughly=True)
    partial = folder.with_name(f"{folder.name}.partial")
    _start(root, folder, partial, meta, modality_folders)
    tables, problems = _write_tables(root, partial, meta, on_error)
    done = _write_rasters(partial, meta, modality_folders, processes, on_error, progress)
    names = array_names(modality_folders)
    check_together({name: np.load(partial / f"{name}.npy", mmap_mode="r") for name in names}, str(root))
    for entry in done:
        for key, patches in entry["skipped"].items():
            problems.setdefault(key, {}).update(patches)
    hashes = tables | {name: digest("".join(entry["arrays"][name] for entry in done).encode()) for name in names}
    arrays = {name: _entry(partial / f"{name}.npy", found) for name, found in hashes.items()}
    manifest = {
        **identity(root, meta),
        "patches": len(meta),
        "modalities": list(modality_folders),
        "table_sources": table_sources(root),
        "folders": times,
        "listing": listing,
        "arrays": arrays,
        "chunk": CHUNK,
        "skipped": problems,
    }
    PatchIndex(partial, root.name, meta).write()
    (partial / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    if (root / MARKER).is_file():  # a pack that leaves its tree still says that it is simulated
        shutil.copyfile(root / MARKER, partial / MARKER)
    discard(partial / "plan.json")
    for path in partial.rglob("*"):
        if path.is_file():
            flush(path)
    _replace(folder, partial)


def _is_current(root: Path, folder: Path, on_error: str, thorough: bool) -> bool:
    """True if `folder` already holds what `pack` would write.

    Raises:
        ChecksumError: the folder holds something else, which is not to be overwritten.
    """
    old = folder.with_name(f"{folder.name}.old")
    if _is_pack(old) and not folder.exists():  # a rebuild was killed between its two renames
        with suppress(OSError):
            old.rename(folder)
    if not folder.exists() or not any(folder.iterdir()):
        return False
    manifest = read_manifest(folder)
    if manifest is None:
        raise ChecksumError(f"{folder} holds something that is not a pack; it is left alone. Give another destination.")
    if not same_name(manifest["name"], root.name):
        raise ChecksumError(
            f"{folder} is not a pack of {root} but of {manifest['name']}; it is left alone. Move it to where it "
            "belongs, or give another destination."
        )
    if on_error == "raise" and any(manifest["skipped"].values()):
        reason: str | None = "it lacks damaged patches"
    else:
        reason = reason_stale(root, folder, manifest, thorough=thorough)
    if reason is None:
        _discard_old(folder)
        with suppress(OSError):
            PatchIndex(folder, manifest["name"]).complete()
    elif foreign := foreign_files(folder):
        raise ChecksumError(
            f"{folder} is to be packed anew, for {reason}, and also holds {foreign[0]}, which pack did not write: it "
            "is left alone. Move that elsewhere, or give another destination."
        )
    return reason is None


def _start(root: Path, folder: Path, partial: Path, meta: pd.DataFrame, modality_folders: Mapping[str, Path]) -> None:
    """Make `partial` ready: what an interrupted call has left, what an older pack still has right, or new arrays."""
    plan = {**identity(root, meta), "modalities": list(modality_folders), "chunk": CHUNK}
    plan_path = partial / "plan.json"
    if partial.exists() and _read_plan(plan_path) != plan:
        if foreign := foreign_files(partial):
            raise ChecksumError(
                f"{partial} is where the pack would be written, and holds {foreign[0]}, which is of no pack. "
                "Move it elsewhere, or give another destination."
            )
        discard(partial)
    _discard_old(folder)
    if partial.exists():
        return
    shapes = {name: (len(meta), *ARRAYS[name][1]) for name in array_names(modality_folders)}
    needed = sum(int(np.prod(shape)) * np.dtype(ARRAYS[name][2]).itemsize for name, shape in shapes.items())
    free = free_bytes(folder.parent)
    if needed > free:
        raise DiskSpaceError(
            f"packing {root} needs {needed / 1e9:.1f} GB and the disk of {folder.parent} has {free / 1e9:.1f} GB free. "
            "Make room, or give a destination on another disk."
        )
    partial.mkdir()
    np.save(partial / "sources.npy", np.full((len(meta), len(RASTER_KEYS), 2), -1, dtype=np.int64))
    for name, shape in shapes.items():
        np.lib.format.open_memmap(partial / f"{name}.npy", "w+", dtype=ARRAYS[name][2], shape=shape)  # a sparse file
    (partial / DONE).touch()
    plan_path.write_text(json.dumps(plan), encoding="utf-8")


def _write_tables(
    root: Path, partial: Path, meta: pd.DataFrame, on_error: str
) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """Write meta table, split files and table arrays; hash by array, and by key the patches without a good value."""
    shutil.copyfile(find(root / f"{root.name}_meta.csv"), partial / "meta.csv")
    (partial / "splits").mkdir(exist_ok=True)
    for path in sorted((root / "splits").glob("*.csv")):
        shutil.copyfile(path, partial / "splits" / path.name)
    hashes: dict[str, str] = {}
    problems: dict[str, dict[str, str]] = {}
    for key in TABLE_KEYS:
        for acquisition in ("s2", "s1") if key in TIMED_KEYS else ("s2",):
            bad: dict[str, str] = {}
            try:
                values = read_table(root, meta, key, acquisition, bad)
            except MissingModalityError:
                continue
            if bad and on_error == "raise":
                patch_id, reason = next(iter(bad.items()))
                raise TableError(
                    f"{len(bad)} of {len(meta)} patches have no good {key}, the first being {patch_id} ({reason}). "
                    'Correct the file, or give on_error="skip" to pack without them.'
                )
            name = f"{key}_{acquisition}" if key in TIMED_KEYS else key
            np.save(partial / f"{name}.npy", values)
            hashes[name] = digest(values)
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
    journal = read_journal(partial)
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
        processes = usable_cores() if len(meta) > _PARALLEL_FROM else 1
    tasks = ((partial, chunk, modality_folders, on_error) for chunk in chunks if chunk.number not in done)
    finished = sum(len(chunks[number].ids) for number in done)
    with (
        tqdm(total=len(meta), initial=finished, desc="packing", unit="patch", disable=not progress) as bar,
        (partial / DONE).open("a", encoding="utf-8") as file,
    ):
        for entry in in_processes(_write_chunk, tasks, processes):
            done[entry["chunk"]] = entry
            file.write(json.dumps(entry) + "\n")
            file.flush()
            bar.update(len(chunks[entry["chunk"]].ids))
    ordered = [done[number] for number in range(len(chunks))]
    (partial / DONE).write_text("".join(json.dumps(entry) + "\n" for entry in ordered), encoding="utf-8")
    return ordered


def _write_chunk(partial: Path, chunk: _Chunk, modality_folders: Mapping[str, Path], on_error: str) -> dict[str, Any]:
    """Read the rasters of a run of patches, write them to their rows, and return the entry for the journal."""
    names = array_names(modality_folders)
    values = {name: np.zeros((len(chunk.ids), *ARRAYS[name][1]), dtype=ARRAYS[name][2]) for name in names}
    sources = np.empty((len(chunk.ids), len(RASTER_KEYS), 2), dtype=np.int64)
    skipped: dict[str, dict[str, str]] = {}
    for place, (patch_id, patch_id_s1) in enumerate(zip(chunk.ids, chunk.ids_s1, strict=True)):
        sources[place] = stat_patch(modality_folders, patch_id, patch_id_s1)
        for key in modality_folders:
            try:
                stored = read_patch(modality_folders, patch_id, patch_id_s1, keys=(key,))
            except RasterError as error:
                if on_error == "raise":
                    raise
                skipped.setdefault(key, {})[patch_id] = str(error)
                continue
            for name, pixels in stored.items():
                values[name][place] = as_packed(name, pixels)
    for name, part in (*values.items(), ("sources", sources)):
        write_rows(partial / f"{name}.npy", chunk.start, part)
    digests = {name: digest(part) for name, part in values.items()}
    return {"chunk": chunk.number, "arrays": digests, "sources": digest(sources), "skipped": skipped}


def _still_good(
    partial: Path, chunk: _Chunk, entry: dict[str, Any], modality_folders: Mapping[str, Path], on_error: str
) -> bool:
    """True if the rows of a chunk are those of an interrupted call, from files that have not changed since."""
    if on_error == "raise" and entry["skipped"]:
        return False
    sources = np.stack([stat_patch(modality_folders, *ids) for ids in zip(chunk.ids, chunk.ids_s1, strict=True)])
    rows = slice(chunk.start, chunk.start + len(chunk.ids))
    return entry["sources"] == digest(sources) and all(
        written == digest(np.load(partial / f"{name}.npy", mmap_mode="r")[rows])
        for name, written in (*entry["arrays"].items(), ("sources", entry["sources"]))
    )


def _read_plan(path: Path) -> Any:
    """The plan of an interrupted call, None if it was stopped before it was written."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _is_pack(folder: Path) -> bool:
    """True if a folder holds a pack and nothing else."""
    return all((folder / name).is_file() for name in ("manifest.json", "sources.npy")) and not foreign_files(folder)


def _entry(path: Path, found: str) -> dict[str, Any]:
    """An array for the manifest. It is not mapped any longer: Windows moves no folder with a mapped file in it."""
    array = np.load(path, mmap_mode="r")
    return {"shape": list(array.shape), "dtype": array.dtype.str, "blake2b": found}


def _replace(folder: Path, partial: Path) -> None:
    """Put the new pack in the place of the old one, if any."""
    if folder.exists() and not any(folder.iterdir()):
        folder.rmdir()
    elif folder.exists():
        try:
            folder.rename(folder.with_name(f"{folder.name}.old"))
        except OSError as error:  # that name is taken, or the folder lies in the lower layer of an overlay
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EXDEV):
                raise
            discard(folder)
    partial.rename(folder)
    _discard_old(folder)


def _discard_old(folder: Path) -> None:
    """Remove what a rebuild has moved aside, also one that was killed before it could."""
    old = folder.with_name(f"{folder.name}.old")
    if _is_pack(old):
        discard(old)

"""Packing of the images and maps of a described dataset, for `bengelib.data.stores`."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from bengelib.data.description import Description
from bengelib.data.file_patterns import PACK
from bengelib.data.manifest import digest, write_rows
from bengelib.data.stores import (
    BATCH,
    SCHEMA,
    FileStore,
    PackStore,
    open_store,
    pack_identity,
    read_pack,
    with_files,
)
from bengelib.errors import ChecksumError, DiskSpaceError
from bengelib.files import discard, flush, free_bytes, locked, read_json, sweep_lock, write_json, writing

_SYSTEM = ("thumbs.db", "desktop.ini")


def pack_described(
    description: Description,
    table: pd.DataFrame,
    *,
    on_error: str = "raise",
    thorough: bool = True,
    progress: bool = True,
) -> Path:
    """Write the images and maps of a described dataset to `packed/`, unless the pack is current.

    The next call continues an interrupted one; the pack gets its name only when complete.

    Args:
        description: of the dataset.
        table: its samples.
        on_error: `"raise"` stops at a sample that cannot be read, `"skip"` leaves it out.
        thorough: whether to compare the files of all samples with an existing pack.
        progress: whether to show a progress bar.

    Raises:
        MissingModalityError: a sample lacks a file of an input (with `on_error="raise"`).
        RasterError: a file is damaged, or differs from the others (with `on_error="raise"`).
        ChecksumError: `packed/` holds something other than a pack.
        DiskSpaceError: there is too little disk space.
        DiskError: the folder cannot be written to.
    """
    folder = description.root / PACK
    lock = folder.with_name(f".{PACK}.lock")

    def is_current() -> bool:
        store = open_store(description, table, thorough=thorough)
        return isinstance(store, PackStore) and (on_error == "skip" or not any(store.manifest["skipped"].values()))

    if not with_files(description):  # everything is in the table
        return folder
    with writing(folder, "call pack again: it continues where it stopped"):
        if is_current():  # before the lock too: the disk may be read-only
            sweep_lock(lock)
            return folder
        _refuse_foreign(folder)
        with locked(lock, "Waiting for another process that packs ..." if progress else None):
            if not is_current():
                _write_pack(description, table, folder, on_error, progress)
    return folder


def _refuse_foreign(folder: Path) -> None:
    """Refuse a folder that holds something else.

    Raises:
        ChecksumError: naming it.
    """
    content = read_json(folder / "manifest.json") or read_json(folder / "plan.json")
    is_ours = isinstance(content, dict) and content.get("schema") == SCHEMA and isinstance(content.get("arrays"), dict)
    arrays = [f"{name}.npy" for name in content["arrays"]] if is_ours else []
    ours = {"manifest.json", "plan.json", "done.json", "sources.npy", *arrays}
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    foreign = [n for n in names if not n.startswith(".") and n.lower() not in _SYSTEM]
    if is_ours:
        foreign = [name for name in foreign if name not in ours]
    if foreign or (folder.exists() and not folder.is_dir()):
        raise ChecksumError(
            f"{folder} is where the pack would be written, and holds {(foreign or ['a file'])[0]}, which is of no "
            "pack; it is left alone. Move it elsewhere."
        )


def _write_pack(description: Description, table: pd.DataFrame, folder: Path, on_error: str, progress: bool) -> None:
    """Write a pack beside its destination and move it there."""
    files, partial = FileStore(description, table), folder.with_name(f"{PACK}.partial")
    shapes = {name: shape for layout in files.layouts.values() for name, (_, shape) in layout.arrays.items()}
    types = {name: layout.dtype for layout in files.layouts.values() for name in layout.arrays}
    sources = np.stack([files.sources(key) for key in files.layouts], axis=1)
    arrays: dict[str, dict[str, Any]] = {
        name: {"shape": [len(table), *shape], "dtype": np.dtype(types[name]).str} for name, shape in shapes.items()
    }
    plan = {
        **pack_identity(description, table),
        "files": digest(sources),
        "layouts": json.loads(json.dumps({key: asdict(layout) for key, layout in files.layouts.items()})),
        "arrays": arrays,
        "on_error": on_error,
    }
    if read_json(partial / "plan.json") != plan or read_json(partial / "done.json") is None:
        _refuse_foreign(partial)
        discard(partial)
        needed = sum(int(np.prod(entry["shape"])) * np.dtype(entry["dtype"]).itemsize for entry in arrays.values())
        if needed > (free := free_bytes(folder.parent)):
            raise DiskSpaceError(
                f"packing {description.root} needs {needed / 1e9:.1f} GB and its disk has {free / 1e9:.1f} GB free. "
                "Make room."
            )
        partial.mkdir()
        write_json(partial / "plan.json", plan)
        np.save(partial / "sources.npy", sources)
        for name, entry in arrays.items():  # sparse files
            np.lib.format.open_memmap(partial / f"{name}.npy", "w+", dtype=entry["dtype"], shape=tuple(entry["shape"]))
        write_json(partial / "done.json", {"rows": 0, "skipped": {}, "infinite": {}})
    done = _write_arrays(files, partial, arrays, on_error, progress)
    write_json(
        partial / "manifest.json",
        {
            **{name: value for name, value in plan.items() if name not in ("files", "on_error")},
            "skipped": done["skipped"],
            "infinite": done["infinite"],
            "unlabelled": {key: files.unlabelled(key) for key in files.layouts if key in description.targets},
            "strangers": {key: files.strangers(key) for key in files.layouts},
        },
    )
    for path in partial.iterdir():
        flush(path)
    _refuse_foreign(folder)
    discard(folder)
    partial.rename(folder)  # an interrupted call leaves either a complete partial folder or the pack
    for name in ("plan.json", "done.json"):
        discard(folder / name)
    packed = PackStore(description, table, folder, read_pack(folder) or {})
    for key in description.modalities:
        packed.statistics(key, on_error=on_error, progress=progress)


def _write_arrays(
    files: FileStore, partial: Path, arrays: Mapping[str, dict[str, Any]], on_error: str, progress: bool
) -> dict[str, Any]:
    """Write the samples that are still missing; return the journal."""
    journal: dict[str, Any] = read_json(partial / "done.json")
    count = len(files.samples)
    with tqdm(total=count, initial=journal["rows"], desc="packing", unit="sample", disable=not progress) as bar:
        for start in range(journal["rows"], count, BATCH):
            rows = np.arange(start, min(start + BATCH, count))
            for key, layout in files.layouts.items():
                good, read, bad = files.read_good(key, rows, on_error)
                journal["skipped"].setdefault(key, {}).update(bad)
                for name in layout.arrays:
                    part = np.zeros((len(rows), *arrays[name]["shape"][1:]), arrays[name]["dtype"])
                    if read:
                        part[good - start] = read[name]
                    if part.dtype.kind == "f":
                        found = np.isinf(part).reshape(len(rows), -1).any(axis=1)
                        journal["infinite"].setdefault(key, []).extend(files.samples.index[rows[found]])
                    write_rows(partial / f"{name}.npy", start, part)
            journal["rows"] = int(rows[-1]) + 1
            write_json(partial / "done.json", journal)
            bar.update(len(rows))
    return journal

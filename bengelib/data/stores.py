"""Where a described dataset is read from: its files, or the pack that was made of them."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from bengelib.data.description import Description, Source
from bengelib.data.layers import Layout, find_layout, read_stored
from bengelib.data.manifest import digest, map_array
from bengelib.data.samples import read_column
from bengelib.data.statistics import Statistics, measure
from bengelib.errors import ChecksumError, DiskSpaceError, MissingModalityError, RasterError
from bengelib.files import discard, free_bytes, locked, put_in_place, writing

SCHEMA = "described-1"
CACHE = "dataset.statistics.json"
_BATCH = 64
"""Samples that are read, written and measured together."""


class FileStore:
    """The files themselves.

    Attributes:
        layouts: how each image and map is stored, by key.
    """

    def __init__(self, description: Description, table: pd.DataFrame) -> None:
        """Look at the files of the first sample that has them.

        Raises:
            MissingModalityError: no sample has the files of a modality.
            RasterError: the first ones cannot be read, or contradict the description.
        """
        self.description, self.samples = description, table
        self._records = records_of(table)
        self.layouts = {key: self._layout(source) for key, source in _with_files(description).items()}

    def _layout(self, source: Source) -> Layout:
        missing: Exception | None = None
        for row in self._records:
            try:
                return find_layout(source, row)
            except MissingModalityError as error:
                missing = missing or error
        raise MissingModalityError(f"no sample of {self.description.root} has files of {source.key}: {missing}")

    def read(
        self, key: str, rows: np.ndarray, wanted: Mapping[str, Sequence[int]] | None = None
    ) -> dict[str, np.ndarray]:
        """The arrays of an image or map of some samples, stacked, of each the places that are wanted."""
        source, layout = self.description.source(key), self.layouts[key]
        read = [self._sample(source, layout, self._records[row]) for row in rows.tolist()]
        stacked = {}
        for name, (_, shape) in layout.arrays.items():
            if wanted and name not in wanted:
                continue
            array = np.stack([each[name] for each in read]) if read else np.empty((0, *shape), layout.dtype)
            stacked[name] = array[:, list(wanted[name])] if wanted else array
        return stacked

    def _sample(self, source: Source, layout: Layout, row: Mapping[str, str]) -> dict[str, np.ndarray]:
        try:
            return read_stored(source, layout, row)
        except MissingModalityError:
            if source.key not in self.description.targets:
                raise
            return {source.key: np.full(layout.shape, 255, np.uint8)}  # a sample without a label

    def problems(self, key: str, rows: np.ndarray, *, thorough: bool) -> dict[str, str]:
        """Samples without a file of a modality, with the reason; if `thorough`, also those whose files are damaged."""
        source = self.description.source(key)
        if source.files is None:
            return {}
        found = {}
        for row in rows.tolist():
            record = self._records[row]
            absent = [path for path in paths_of(source, record) if not path.is_file()]
            if absent:
                found[record["id"]] = f"there is no {absent[0]}"
            elif thorough:
                try:
                    read_stored(source, self.layouts[key], record)
                except RasterError as error:
                    found[record["id"]] = str(error)
        return found

    def strangers(self, keys: Sequence[str]) -> dict[str, list[str]]:
        """By key, files on disk that are of no sample of the table."""
        found = {}
        for key in keys:
            source = self.description.source(key)
            if source.files is None or "table" not in self.description.samples or "id" not in source.files.fields:
                continue
            names = [row["id"] for row in source.files.rows(source.bands) if row["id"] not in self.samples.index]
            if names:
                found[key] = names
        return found

    def statistics(self, key: str, progress: bool) -> Statistics:
        """Of a modality over all samples; measured in one pass, or taken from the cache beside `dataset.toml`."""
        source = self.description.source(key)
        mark = self._mark(source)
        cache = self.description.root / CACHE
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            entry = json.loads(cache.read_text(encoding="utf-8"))[key]
            if entry["hash"] == mark:
                return Statistics.from_json(entry["statistics"])
        found = measure(self._decoded(source, progress), len(source.bands))
        with contextlib.suppress(OSError):  # a folder that cannot be written is measured again
            content = {}
            with contextlib.suppress(OSError, ValueError):
                content = json.loads(cache.read_text(encoding="utf-8"))
            content[key] = {"hash": mark, "statistics": found.as_json()}
            partial = cache.with_name(f".{os.getpid()}-{CACHE}")
            partial.write_text(json.dumps(content, indent=1), encoding="utf-8")
            put_in_place(partial, cache)
        return found

    def _mark(self, source: Source) -> str:
        """What changes when the description of a modality, the samples or their files do."""
        parts = [_plain(source), list(self.samples.index)]
        parts += [self.samples[name].tolist() for name in source.columns]
        parts.append(file_marks(source, self._records))
        return digest(repr(parts).encode())

    def _decoded(self, source: Source, progress: bool) -> Iterator[np.ndarray]:
        """Batches (B, bands, H, W) or (B, columns) in units, NaN where there is no data."""
        import torch

        from bengelib.data.decode_layers import decode_image, decode_map

        if source.columns:
            values = read_column(source, self.samples)
            yield values.reshape(len(values), -1)
            return
        layout = self.layouts[source.key]
        bar = tqdm(
            total=len(self._records), desc=f"measuring {source.key}", unit="sample", disable=not progress, leave=False
        )
        with bar:
            for start in range(0, len(self._records), _BATCH):
                rows = np.arange(start, min(start + _BATCH, len(self._records)))
                rows = np.array([row for row in rows if not self.problems(source.key, np.array([row]), thorough=False)])
                bar.update(_BATCH)
                if not len(rows):
                    continue
                parts = {name: torch.from_numpy(array) for name, array in self.read(source.key, rows).items()}
                if source.kind == "map":
                    yield decode_map(parts[source.key], len(source.classes)).numpy()
                else:
                    yield decode_image(source, layout, parts, source.bands, None).numpy()


class PackStore(FileStore):
    """The arrays of a pack, mapped into memory; the files are not touched."""

    def __init__(self, description: Description, table: pd.DataFrame, folder: Path, manifest: dict[str, Any]) -> None:
        """Take the layouts from the manifest; arrays are opened by the first read of each process."""
        self.description, self.samples = description, table
        self.folder, self.manifest = folder, manifest
        self._records = records_of(table)
        self.layouts = {key: _layout_from(entry) for key, entry in manifest["layouts"].items()}
        self._arrays: dict[str, np.ndarray] = {}

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled: everything but the open arrays."""
        return {**self.__dict__, "_arrays": {}}

    def read(
        self, key: str, rows: np.ndarray, wanted: Mapping[str, Sequence[int]] | None = None
    ) -> dict[str, np.ndarray]:
        """The arrays of an image or map of some samples, of each the places that are wanted."""
        read = {}
        for name in self.layouts[key].arrays:
            if wanted and name not in wanted:
                continue
            if name not in self._arrays:
                self._arrays[name] = self._open(name)
            array = self._arrays[name]
            places = list(wanted[name]) if wanted else []
            whole = not wanted or places == list(range(array.shape[1]))
            read[name] = array[rows] if whole else array[rows[:, None], places]
        return read

    def _open(self, name: str) -> np.ndarray:
        path, entry = self.folder / f"{name}.npy", self.manifest["arrays"][name]
        try:
            array = map_array(path)
        except (OSError, ValueError, EOFError) as error:
            raise ChecksumError(f"{path} is damaged ({error}). Remove {self.folder} and pack again.") from error
        if list(array.shape) != entry["shape"] or array.dtype.str != entry["dtype"]:
            raise ChecksumError(f"{path} is not as it was packed. Remove {self.folder} and pack again.")
        return array

    def problems(self, key: str, rows: np.ndarray, *, thorough: bool) -> dict[str, str]:
        """Samples that the pack was made without, with the reason."""
        skipped = self.manifest["skipped"].get(key, {})
        ids = {self._records[row]["id"] for row in rows.tolist()} if skipped else set()
        return {sample: reason for sample, reason in skipped.items() if sample in ids}

    def strangers(self, keys: Sequence[str]) -> dict[str, list[str]]:
        """Files of no sample were counted when the pack was made."""
        return {key: names for key, names in self.manifest["strangers"].items() if key in keys}

    def statistics(self, key: str, progress: bool) -> Statistics:
        """Of a modality over all samples, as they were measured when the pack was made."""
        return Statistics.from_json(self.manifest["statistics"][key])


def _with_files(description: Description) -> dict[str, Source]:
    sources = {**description.modalities, **description.targets}
    return {key: source for key, source in sources.items() if source.files}


def records_of(table: pd.DataFrame) -> list[dict[str, str]]:
    """The rows of a table of text."""
    return [dict(zip(table.columns, values, strict=True)) for values in table.itertuples(index=False)]


def paths_of(source: Source, row: Mapping[str, str]) -> list[Path]:
    """The files of one sample."""
    assert source.files is not None
    bands = source.bands if "band" in source.files.fields else ("",)
    return [source.files.path(row, band) for band in bands]


def file_marks(source: Source, records: Sequence[Mapping[str, str]]) -> str:
    """Digest of sizes and times of all files of a modality or target."""
    if source.files is None:
        return ""
    marks = hashlib.blake2b(digest_size=16)
    for row in records:
        for path in paths_of(source, row):
            try:
                found = os.stat(path)
                marks.update(f"{found.st_size} {found.st_mtime_ns};".encode())
            except OSError:
                marks.update(b"none;")
    return marks.hexdigest()


def _plain(source: Source) -> dict[str, Any]:
    return {
        **{name: value for name, value in vars(source).items() if name != "files"},
        "files": str(source.files and source.files.text),
    }


def _layout_from(entry: dict[str, Any]) -> Layout:
    arrays = {name: (tuple(places), tuple(shape)) for name, (places, shape) in entry["arrays"].items()}
    rest = {name: tuple(entry[name]) for name in ("scale", "offset", "no_data", "shape")}
    return Layout(arrays, entry["dtype"], **rest)


def _identity(description: Description, table: pd.DataFrame) -> dict[str, Any]:
    """What a pack was made from, without its files."""
    return {
        "schema": SCHEMA,
        "description": digest(description.path.read_bytes()),
        "samples": digest(table.to_csv().encode()),
    }


def _marks(description: Description, table: pd.DataFrame) -> dict[str, str]:
    records = records_of(table)
    return {key: file_marks(source, records) for key, source in _with_files(description).items()}


def read_pack(folder: Path) -> dict[str, Any] | None:
    """The manifest of the pack of a described dataset in `folder`; None if there is none."""
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        return manifest if manifest["schema"] == SCHEMA else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def open_store(description: Description, table: pd.DataFrame) -> FileStore:
    """The pack in `packed/` if it is of this description, these samples and files; else the files."""
    folder = description.root / "packed"
    manifest = read_pack(folder)
    if manifest is None or any(manifest[name] != value for name, value in _identity(description, table).items()):
        return FileStore(description, table)
    if manifest["files"] != _marks(description, table):
        return FileStore(description, table)
    return PackStore(description, table, folder, manifest)


def pack_described(
    description: Description, table: pd.DataFrame, *, on_error: str = "raise", progress: bool = True
) -> Path:
    """Write the images and maps of a described dataset into `packed/`; do nothing where that is done already.

    An interrupted call is taken up by the next one; the pack appears under its name only when complete.

    Raises:
        RasterError: a file is damaged (with `on_error="raise"`).
        ChecksumError: `packed/` holds something that is no pack.
        DiskSpaceError: there is too little room.
        DiskError: nothing can be written there.
    """
    folder = description.root / "packed"
    with writing(folder, "call pack again: it goes on where it stopped"):
        if isinstance(open_store(description, table), PackStore):
            manifest = read_pack(folder)
            if on_error == "skip" or not any((manifest or {})["skipped"].values()):
                return folder
        if folder.exists() and any(folder.iterdir()) and read_pack(folder) is None:
            raise ChecksumError(f"{folder} holds something that is not a pack of {description.path}; move it elsewhere")
        with locked(
            folder.with_name(".packed.lock"), "Waiting for another process that packs ..." if progress else None
        ):
            _write_pack(description, table, folder, on_error, progress)
    return folder


def _write_pack(description: Description, table: pd.DataFrame, folder: Path, on_error: str, progress: bool) -> None:
    files = FileStore(description, table)
    plan = {**_identity(description, table), "files": _marks(description, table), "on_error": on_error}
    partial = folder.with_name("packed.partial")
    shapes = {
        name: (len(table), *shape) for layout in files.layouts.values() for name, (_, shape) in layout.arrays.items()
    }
    types = {name: layout.dtype for layout in files.layouts.values() for name in layout.arrays}
    if _read_json(partial / "plan.json") != plan:
        discard(partial)
        needed = sum(int(np.prod(shape)) * np.dtype(types[name]).itemsize for name, shape in shapes.items())
        if needed > (free := free_bytes(folder.parent)):
            raise DiskSpaceError(
                f"packing {description.root} needs {needed / 1e9:.1f} GB and its disk has {free / 1e9:.1f} GB free. "
                "Make room."
            )
        partial.mkdir()
        for name, shape in shapes.items():
            np.lib.format.open_memmap(partial / f"{name}.npy", "w+", dtype=types[name], shape=shape)  # a sparse file
        (partial / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    journal: dict[str, Any] = _read_json(partial / "done.json") or {"rows": 0, "skipped": {}}
    arrays = {name: np.lib.format.open_memmap(partial / f"{name}.npy", "r+") for name in shapes}
    with tqdm(total=len(table), initial=journal["rows"], desc="packing", unit="sample", disable=not progress) as bar:
        for start in range(journal["rows"], len(table), _BATCH):
            rows = np.arange(start, min(start + _BATCH, len(table)))
            for key in files.layouts:
                bad = files.problems(key, rows, thorough=True) if key in description.modalities else {}
                if bad and on_error == "raise":
                    sample, reason = next(iter(bad.items()))
                    raise RasterError(f'sample {sample} cannot be packed ({reason}). Mend it, or give on_error="skip"')
                journal["skipped"].setdefault(key, {}).update(bad)
                good = np.array([row for row in rows.tolist() if table.index[row] not in bad], dtype=int)
                for name, values in files.read(key, good).items():
                    arrays[name][good] = values
            for array in arrays.values():
                array.flush()
            journal["rows"] = int(rows[-1]) + 1
            _write_json(partial / "done.json", journal)
            bar.update(len(rows))
    described = {name: {"shape": list(array.shape), "dtype": array.dtype.str} for name, array in arrays.items()}
    layouts = {key: asdict(layout) for key, layout in files.layouts.items()}
    manifest: dict[str, Any] = {
        **{name: value for name, value in plan.items() if name != "on_error"},
        "layouts": layouts,
        "arrays": described,
        "skipped": journal["skipped"],
        "strangers": files.strangers([*description.modalities, *description.targets]),
        "statistics": {},
    }
    packed = PackStore(description, table, partial, manifest)
    for key, source in description.modalities.items():
        manifest["statistics"][key] = measure(packed._decoded(source, progress), len(source.bands)).as_json()
    _write_json(partial / "manifest.json", manifest)
    for name in ("plan.json", "done.json"):
        (partial / name).unlink(missing_ok=True)
    del arrays
    if folder.exists():
        discard(folder)
    partial.rename(folder)


def _read_json(path: Path) -> Any:
    with contextlib.suppress(OSError, ValueError):
        return json.loads(path.read_text(encoding="utf-8"))
    return None


def _write_json(path: Path, content: Any) -> None:
    partial = path.with_name(f".{path.name}.part")
    partial.write_text(json.dumps(content, indent=1), encoding="utf-8")
    put_in_place(partial, path)

"""Storage of a described dataset: its files, or their pack.

A pack is the folder `packed/` beside `dataset.toml`:

| file | content, for N samples in the order of the table |
|---|---|
| `KEY.HxW.npy` | (N, k, H, W) of an image as it is stored, an array for each size; (N, H, W) uint8 indices of a map |
| `sources.npy` | (N, keys) int64: digests of names, sizes and times of the files of each sample |
| `manifest.json` | origin, layouts, arrays; samples left out, infinite or without a label; files of no sample |

The table is not packed, and neither are scales, offsets and units, which may change without a new pack.
"""

import contextlib
import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from bengelib.data.description import FILE_NAME, Description, Source
from bengelib.data.file_patterns import PACK
from bengelib.data.ground import Ground
from bengelib.data.layers import Layout, find_layout, read_stored
from bengelib.data.manifest import digest, map_array
from bengelib.data.samples import read_column
from bengelib.data.statistics import Statistics, measure
from bengelib.errors import ChecksumError, MissingModalityError, RasterError
from bengelib.files import read_json, write_json

Wanted = Mapping[str, list[int] | None]
"""Names of arrays, each with the indices of the bands to read; None for all of them."""
SCHEMA = "described-1"
CACHE = "dataset.statistics.json"
BATCH = 64
"""Number of samples that are read, written and measured together."""
_TRIALS = 16
"""Number of samples with damaged files after which the whole modality is taken to be damaged."""
_COMPARED = 4096
"""Maximum number of samples whose files are compared with a pack when it is opened."""
_MANIFEST = ("schema", "samples", "sources", "layouts", "arrays", "skipped", "infinite", "unlabelled", "strangers")


class FileStore:
    """The files of a described dataset.

    Attributes:
        layouts: storage layout of each image and map, by key.
    """

    def __init__(self, description: Description, table: pd.DataFrame, keys: Sequence[str] | None = None) -> None:
        """Read the layout of some or all keys from the first sample with valid files.

        Raises:
            MissingModalityError: no sample has the files of a modality.
            RasterError: the first files cannot be read, or contradict the description.
        """
        self.description, self.samples = description, table
        sources = with_files(description)
        self.layouts = {key: self._layout(sources[key]) for key in sources if keys is None or key in keys}
        self._grounds: defaultdict[int, list[Ground]] = defaultdict(list)  # by row, of the first file that was read

    @cached_property
    def _records(self) -> list[dict[str, str]]:
        return records_of(self.samples)

    def _layout(self, source: Source) -> Layout:
        missing: MissingModalityError | None = None
        damaged: list[RasterError] = []
        for row in self._records:
            try:
                return find_layout(source, row)
            except MissingModalityError as error:
                missing = missing or error
            except RasterError as error:
                damaged.append(error)
                if len(damaged) == _TRIALS:
                    break
        if damaged:
            raise damaged[0]
        raise MissingModalityError(f"no sample of {self.description.path} has files of {source.key}: {missing}")

    def read(self, key: str, rows: np.ndarray, wanted: Wanted | None = None) -> dict[str, np.ndarray]:
        """The arrays of an image or map for some samples, stacked: all of them, or those that are wanted.

        Raises:
            MissingModalityError: a file of an input is missing. Without the file of a target its label is unknown.
            RasterError: a file is damaged, or differs from the others.
        """
        read = [self._sample(key, row) for row in rows.tolist()]
        layout, stacked = self.layouts[key], {}
        for name, indices in (wanted or dict.fromkeys(layout.arrays)).items():
            array = np.stack([each[name] for each in read]) if read else layout.empty(name)
            stacked[name] = array if indices is None else array[:, indices]
        return stacked

    def _sample(self, key: str, row: int) -> dict[str, np.ndarray]:
        source, layout = self.description.source(key), self.layouts[key]
        try:
            return read_stored(source, layout, self._records[row], self._grounds[row])
        except MissingModalityError:
            if key not in self.description.targets:
                raise
            return {name: np.full(shape, 255, np.uint8) for name, (_, shape) in layout.arrays.items()}

    def read_good(
        self, key: str, rows: np.ndarray, on_error: str
    ) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, str]]:
        """The result of `read` for all readable samples: their rows, arrays, and the reasons for the others.

        Raises:
            MissingModalityError, RasterError: a sample is unreadable, and `on_error` is `"raise"`.
        """
        good, read, bad = [], [], {}
        for row in rows.tolist():
            try:
                read.append(self._sample(key, row))
                good.append(row)
            except (MissingModalityError, RasterError) as error:
                if on_error == "raise":
                    raise
                bad[self.samples.index[row]] = str(error)
        names = self.layouts[key].arrays if read else ()
        return np.array(good, int), {name: np.stack([each[name] for each in read]) for name in names}, bad

    def problems(self, key: str, rows: np.ndarray, *, thorough: bool) -> dict[str, str]:
        """Samples without a file of a modality, with the reason; if `thorough`, also those whose files are damaged."""
        source = self.description.source(key)
        if thorough:
            return {name: why for row in rows for name, why in self.read_good(key, np.array([row]), "skip")[2].items()}
        if key in self.description.targets:
            return {}
        found = {}
        for row in rows.tolist():
            if absent := [path for path in paths_of(source, self._records[row]) if not path.is_file()]:
                found[self.samples.index[row]] = f"there is no {absent[0]}"
        return found

    def unlabelled(self, key: str) -> list[str]:
        """Samples without a file of a map that is a target."""
        source = self.description.source(key)
        rows = zip(self.samples.index, self._records, strict=True)
        return [sample for sample, row in rows if not all(path.is_file() for path in paths_of(source, row))]

    def infinite(self, key: str) -> list[str]:
        """Samples with infinite pixels, as far as they are known without reading all files."""
        return []

    def strangers(self, key: str) -> list[str]:
        """Files on disk, relative to the folder, that match the pattern of an image or map but belong to no sample.

        A pattern that ends in a whole name from the table, such as `"images/{file}"`, matches any file: those of other
        kinds, and those of other images and maps, do not count.
        """
        source = self.description.source(key)
        if source.files is None:
            return []
        root = self.description.root
        own = {os.fspath(source.files.path(row, *source.bands[: source.per_band])) for row in self._records}
        ours = (FILE_NAME, CACHE, self.description.samples.get("table", FILE_NAME))
        known = own | {os.path.join(root, name) for name in ours}
        suffixes = None
        if source.files.is_named:
            suffixes = {os.path.splitext(path)[1] for path in own}
            for other in with_files(self.description).values():
                known |= {os.fspath(path) for row in self._records for path in paths_of(other, row)}
        return [
            path
            for path in source.files.files(source.bands[: source.per_band])  # one file stands for those of all bands
            if os.path.join(root, *path.split("/")) not in known
            and (suffixes is None or os.path.splitext(path)[1] in suffixes)
        ]

    def statistics(self, key: str, *, on_error: str = "raise", progress: bool = True) -> Statistics:
        """Statistics of a modality over all samples, measured in one pass or from the cache beside `dataset.toml`.

        Raises:
            MissingModalityError, RasterError: a sample cannot be read; with `on_error="skip"` it is left out.
        """
        source = self.description.source(key)
        if source.files is None:
            values = read_column(source, self.samples)
            return measure([values.reshape(len(values), -1)], len(source.bands))
        made_from = repr((source.stored, source.scale, source.offset, list(self.samples.index)))
        mark = digest(made_from.encode(errors="surrogateescape") + self.sources(key).tobytes())
        cache = self.description.root / CACHE
        known = read_json(cache)
        with contextlib.suppress(ValueError, KeyError, TypeError):
            entry = known[key]
            if entry["hash"] == mark and (on_error == "skip" or not entry["skipped"]):
                return Statistics.from_json(entry["statistics"], len(source.bands))
        skipped: dict[str, str] = {}
        found = measure(self._decoded(source, on_error, skipped, progress), len(source.bands))
        entry = {"hash": mark, "skipped": list(skipped), "statistics": found.as_json()}
        with contextlib.suppress(OSError):  # without a cache, statistics are measured again
            write_json(cache, {**known, key: entry} if isinstance(known, dict) else {key: entry})
        return found

    def sources(self, key: str) -> np.ndarray:
        """Digests of the names, sizes and times of the files of each sample, (N,) int64."""
        return file_marks(self.description.source(key), self._records)

    def _decoded(self, source: Source, on_error: str, skipped: dict[str, str], progress: bool) -> Iterator[np.ndarray]:
        """Batches (B, bands, H, W) in units, NaN for no data; adds samples left out to `skipped`."""
        import torch

        from bengelib.data.decode_layers import decode_image, decode_map

        count, layout = len(self._records), self.layouts[source.key]
        with tqdm(total=count, desc=f"measuring {source.key}", unit="sample", disable=not progress, leave=False) as bar:
            for start in range(0, count, BATCH):
                rows = np.arange(start, min(start + BATCH, count))
                _, arrays, bad = self.read_good(source.key, rows, on_error)
                bar.update(len(rows))
                skipped.update(bad)
                if not arrays:
                    continue
                parts = {name: torch.from_numpy(array) for name, array in arrays.items()}
                if source.kind == "map":
                    (indices,) = parts.values()
                    yield decode_map(indices, len(source.classes)).numpy()
                else:
                    yield decode_image(source, layout, parts, source.bands, None).numpy()


class PackStore(FileStore):
    """The arrays of a pack, mapped into memory; the files are not opened."""

    def __init__(self, description: Description, table: pd.DataFrame, folder: Path, manifest: dict[str, Any]) -> None:
        """Read the layouts from the manifest; each process opens the arrays with its first read."""
        self.description, self.samples = description, table
        self.folder, self.manifest = folder, manifest
        self.layouts = {key: _layout_from(entry) for key, entry in manifest["layouts"].items()}
        self._arrays: dict[str, np.ndarray] = {}

    def __getstate__(self) -> dict[str, Any]:
        """The state without the open arrays, for pickling."""
        return {**self.__dict__, "_arrays": {}}

    def read(self, key: str, rows: np.ndarray, wanted: Wanted | None = None) -> dict[str, np.ndarray]:
        """The arrays of an image or map for some samples: all of them, or those that are wanted.

        Raises:
            ChecksumError: an array is damaged.
        """
        read = {}
        for name, indices in (wanted or dict.fromkeys(self.layouts[key].arrays)).items():
            if name not in self._arrays:
                self._arrays[name] = self._open(name)
            array = self._arrays[name]
            read[name] = array[rows] if indices is None else array[rows[:, None], indices]
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

    def read_good(
        self, key: str, rows: np.ndarray, on_error: str
    ) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, str]]:
        """The result of `read` for all packed samples: their rows, arrays, and the reasons for the others."""
        bad = self.problems(key, rows, thorough=False)
        if bad and on_error == "raise":
            raise RasterError(next(iter(bad.values())))
        good = rows[~self.samples.index[rows].isin(list(bad))] if bad else rows
        return good, self.read(key, good) if len(good) else {}, bad

    def problems(self, key: str, rows: np.ndarray, *, thorough: bool) -> dict[str, str]:
        """Samples that are not in the pack, with the reason."""
        skipped = self.manifest["skipped"].get(key, {})
        ids = set(self.samples.index[rows]) if skipped else set()
        return {sample: reason for sample, reason in skipped.items() if sample in ids}

    def unlabelled(self, key: str) -> list[str]:
        """Samples without a file of a target at the time of packing."""
        found: list[str] = self.manifest["unlabelled"].get(key, [])
        return found

    def infinite(self, key: str) -> list[str]:
        """Samples with infinite pixels."""
        found: list[str] = self.manifest["infinite"].get(key, [])
        return found

    def strangers(self, key: str) -> list[str]:
        """Files of no sample at the time of packing."""
        found: list[str] = self.manifest["strangers"].get(key, [])
        return found

    def sources(self, key: str) -> np.ndarray:
        """Digests of the packed files."""
        place = list(self.layouts).index(key)
        return np.ascontiguousarray(map_array(self.folder / "sources.npy")[:, place])


def with_files(description: Description) -> dict[str, Source]:
    """The images and maps of a dataset, by key."""
    sources = {**description.modalities, **description.targets}
    return {key: source for key, source in sources.items() if source.files}


def records_of(table: pd.DataFrame) -> list[dict[str, str]]:
    """The rows of a table of text."""
    return [dict(zip(table.columns, values, strict=True)) for values in table.itertuples(index=False)]


def paths_of(source: Source, row: Mapping[str, str]) -> list[Path]:
    """The files of one sample."""
    assert source.files is not None
    return [source.files.path(row, band) for band in (source.bands if source.per_band else ("",))]


def file_marks(source: Source, records: Sequence[Mapping[str, str]]) -> np.ndarray:
    """Digests of names, sizes and times of the files of each sample, (N,) int64."""
    found = np.empty(len(records), np.int64)
    for place, row in enumerate(records):
        mark = hashlib.blake2b(digest_size=8)
        for path in paths_of(source, row):
            name = os.fspath(path.relative_to(source.files.root)) if source.files else ""
            try:
                stat = os.stat(path)
                text = f"{name}\0{stat.st_size} {stat.st_mtime_ns}\0"
            except OSError:
                text = f"{name}\0none\0"
            mark.update(text.encode(errors="surrogateescape"))
        found[place] = int.from_bytes(mark.digest(), "little", signed=True)
    return found


def _layout_from(entry: dict[str, Any]) -> Layout:
    arrays = {name: (tuple(indices), tuple(shape)) for name, (indices, shape) in entry["arrays"].items()}
    rest = {name: tuple(entry[name]) for name in ("scale", "offset", "no_data", "shape")}
    return Layout(arrays, entry["dtype"], **rest, extent=tuple(entry.get("extent", ())))


def pack_identity(description: Description, table: pd.DataFrame) -> dict[str, Any]:
    """Everything that determines a pack, apart from files."""
    sources = with_files(description)
    fields = {"id": None} | {name: None for source in sources.values() if source.files for name in source.files.fields}
    names = repr([table[name].tolist() for name in fields if name != "band"])
    return {
        "schema": SCHEMA,
        "samples": digest(names.encode(errors="surrogateescape")),
        "sources": {key: json.loads(json.dumps(source.stored)) for key, source in sources.items()},
    }


def read_pack(folder: Path) -> dict[str, Any] | None:
    """The manifest of the pack of a described dataset in `folder`; None if there is none."""
    manifest = read_json(folder / "manifest.json")
    whole = isinstance(manifest, dict) and manifest.get("schema") == SCHEMA and {*_MANIFEST} <= manifest.keys()
    return manifest if whole and (folder / "sources.npy").is_file() else None


def open_store(
    description: Description, table: pd.DataFrame, keys: Sequence[str] | None = None, *, thorough: bool = False
) -> FileStore:
    """The pack in `packed/` if it matches the description, samples and files; otherwise the files.

    Args:
        description: of the dataset.
        table: its samples.
        keys: images and maps to read; by default all.
        thorough: whether to compare all files with the pack; otherwise those of at most 4096 samples.
    """
    folder = description.root / PACK
    manifest = read_pack(folder)
    if manifest is None or any(manifest[name] != value for name, value in pack_identity(description, table).items()):
        return FileStore(description, table, keys)
    store = PackStore(description, table, folder, manifest)
    step = 1 if thorough else -(-len(table) // _COMPARED)
    records = records_of(table.iloc[::step])
    try:
        same = all(
            np.array_equal(store.sources(key)[::step], file_marks(source, records))
            for key, source in with_files(description).items()
        )
    except (OSError, ValueError, IndexError):
        same = False
    return store if same else FileStore(description, table, keys)

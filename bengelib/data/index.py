"""Ids and splits of all patches as arrays, so that a large pack opens without parsing tables.

A pack stores them in its folder `index/`, from which they are mapped into memory on demand:

| file | content, for N patches in the order of the meta CSV |
|---|---|
| `ids.npy`, `ids_s1.npy` | (N,) patch ids in UTF-8, as bytes of equal length |
| `study.npy` | (N,) side of each patch under the study split |
| `folds.npy` | (N,) uint8 fold of the MGRS tile of each patch, 255 where its id names none |
| `train.npy`, `val.npy`, `test.npy` | (n,) rows of the dataset's own splits, in the order of their files |
| `splits.json` | hashes of the split files that these were made from |

They all follow from `meta.csv` and `splits/`. Missing arrays are computed from these, which takes as long as reading.
"""

import errno
import hashlib
import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bengelib.data.splits import (
    SPLITS,
    check_split,
    mgrs_tile,
    official_split,
    read_splits,
    sides_of_folds,
    study_split,
    tile_fold,
)
from bengelib.data.tables import META_COLUMNS, read_csv
from bengelib.errors import DataWarning, SplitError

FOLDER = "index"
_NO_FOLD = 255
_BYTES = "surrogatepass"
"""Error handler that encodes any id as bytes."""


class PatchIndex:
    """The patches of a dataset or a pack."""

    def __init__(self, root: Path, name: str, meta: pd.DataFrame | None = None) -> None:
        """Index the patches of a meta table or, without one, those of a pack.

        Args:
            root: the folder that holds `splits/`.
            name: of the dataset, the prefix of its split files.
            meta: meta table of a dataset; None for a pack.
        """
        self.root, self.name = root, name
        self._mapped = meta is None and (root / FOLDER / "splits.json").is_file()
        self._arrays: dict[str, np.ndarray] = {}
        if not self._mapped:
            meta = read_csv(root / "meta.csv", META_COLUMNS) if meta is None else meta
            self._arrays = {"ids": _as_bytes(meta.index), "ids_s1": _as_bytes(meta["patch_id_s1"])}

    def __len__(self) -> int:
        """Number of patches."""
        return len(self["ids"])

    def __getitem__(self, name: str) -> np.ndarray:
        """One of the arrays, computed or mapped when first accessed."""
        if name not in self._arrays:
            path = self.root / FOLDER / f"{name}.npy"
            self._arrays[name] = map_array(path) if self._mapped else self._made(name)
        return self._arrays[name]

    def __getstate__(self) -> dict[str, Any]:
        """The state without arrays that can be mapped again, for pickling."""
        return {**self.__dict__, "_arrays": {} if self._mapped else self._arrays}

    def names(self, rows: Any = slice(None), key: str = "ids") -> list[str]:
        """Patch ids of some rows, of Sentinel-2 or, by `"ids_s1"`, of Sentinel-1."""
        return [name.decode(errors=_BYTES) for name in self[key][rows].tolist()]

    def pairs(self, rows: Any = slice(None)) -> list[tuple[str, str]]:
        """Both ids of some rows."""
        return list(zip(self.names(rows), self.names(rows, "ids_s1"), strict=True))

    def select(self, split: str | None, scheme: str, fold: int) -> tuple[np.ndarray, list[str]]:
        """Rows of a split, (M,) int64, and the patches that no split file names.

        The latter are empty for other schemes, or if a split has no file.

        Args:
            split: `"train"`, `"val"`, `"test"`, or None for all patches.
            scheme: `"official"`, `"study"` or `"blocked"`.
            fold: test fold of the blocked split.

        Raises:
            SplitError: the split is unknown or empty, or its file is missing or belongs to other data.
        """
        check_split(split, scheme, fold)
        if split is None:
            return np.arange(len(self)), []
        unsplit: list[str] = []
        if scheme == "official":
            rows, unsplit = self._official(split)
        elif scheme == "study":
            rows = np.flatnonzero(self["study"] == split)
        else:
            if (nowhere := self["folds"] == _NO_FOLD).any():
                mgrs_tile(self.names([int(nowhere.argmax())], "ids_s1")[0])  # says what is wrong with it
            rows = np.flatnonzero(sides_of_folds(self["folds"], fold) == split)
        if not len(rows):
            where = f"split {split!r} of scheme {scheme!r}"
            raise SplitError(f"no patch of {self.root} is in {where}; use a larger dataset")
        return rows, unsplit

    def complete(self) -> None:
        """Add the arrays to a pack of an earlier version, which has none.

        Raises:
            OSError: they cannot be written.
        """
        if not self._mapped:
            self.write()

    def write(self) -> None:
        """Write the arrays to the folder of the pack.

        Raises:
            OSError: they cannot be written.
        """
        folder = self.root / FOLDER
        folder.mkdir(exist_ok=True)
        arrays = {name: self[name] for name in ("ids", "ids_s1", "study", "folds")}
        with suppress(SplitError):  # it is raised when one of these splits is asked for
            arrays |= self._read_official(SPLITS)
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", array)
        (folder / "splits.json").write_text(json.dumps(self._split_files()), encoding="utf-8")

    def _made(self, name: str) -> np.ndarray:
        if name == "study":
            return study_split(self.names())
        return np.array([_fold(patch_id) for patch_id in self.names(key="ids_s1")], np.uint8)

    def _official(self, split: str) -> tuple[np.ndarray, list[str]]:
        """Rows of one of the dataset's own splits, and the patches in none of them if all three have a file."""
        folder = self.root / FOLDER
        if self._mapped and json.loads((folder / "splits.json").read_text(encoding="utf-8")) == self._split_files():
            found = {name: self[name] for name in SPLITS if (folder / f"{name}.npy").is_file()}
        else:
            found = {}
        if split not in found:
            found = self._read_official((split,))
        if len(found) < len(SPLITS):
            return found[split].astype(np.int64), []
        named = np.zeros(len(self), bool)
        for rows in found.values():
            named[rows[rows >= 0]] = True
        return found[split].astype(np.int64), self.names(np.flatnonzero(~named))

    def _read_official(self, needed: Sequence[str]) -> dict[str, np.ndarray]:
        """Rows, (n,) int32, of the splits that have a file; -1 for unknown patches.

        Raises:
            SplitError: a file is not such a list, or a required one is missing or names other patches.
        """
        found = read_splits(self.root, self.name)
        known = self.names()
        for split in needed:
            official_split(self.root, self.name, split, known, found)
        places = pd.Index(known)
        return {split: places.get_indexer(pd.Index(ids)).astype(np.int32) for split, (_, ids) in found.items()}

    def _split_files(self) -> dict[str, str]:
        """Hashes of the split files."""
        files = sorted((self.root / "splits").glob("*.csv"))
        return {path.name: hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest() for path in files}


class PatchIds(Sequence[str]):
    """The ids of some patches of an index, in order; equal to a list of the same ids."""

    def __init__(self, index: PatchIndex, rows: np.ndarray) -> None:
        """Select the patches of some rows, (M,)."""
        self._index, self._rows = index, rows

    def __len__(self) -> int:
        """Number of patches."""
        return len(self._rows)

    def __getitem__(self, place: Any) -> Any:
        """One id, or a list of them for a slice or an array of indices."""
        rows = self._rows[place]
        return self._index.names([rows])[0] if np.ndim(rows) == 0 else self._index.names(rows)

    def __iter__(self) -> Iterator[str]:
        """One id after the other."""
        return iter(self._index.names(self._rows))

    def __eq__(self, other: object) -> bool:
        """True if another sequence holds the same ids."""
        return isinstance(other, Sequence) and list(self) == list(other)

    def __hash__(self) -> int:
        """A hash of the patches and their order."""
        return hash(tuple(self))

    def __repr__(self) -> str:
        """The first ids, in the form of a list."""
        more = ", ..." if len(self) > 3 else ""
        return f"[{', '.join(map(repr, self[:3]))}{more}]"


def _as_bytes(ids: Iterable[str]) -> np.ndarray:
    return np.array([name.encode(errors=_BYTES) for name in ids], dtype=np.bytes_)


def _fold(patch_id_s1: str) -> int:
    try:
        return tile_fold(mgrs_tile(patch_id_s1))
    except SplitError:
        return _NO_FOLD


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

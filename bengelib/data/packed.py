"""`PackedBENGE`: the samples of `BENGE` from the memory-mapped arrays that `pack` wrote, a batch at a time."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from bengelib.arguments import as_indices
from bengelib.bands import S1_BANDS, S2, S2_BANDS
from bengelib.data.index import PatchIndex
from bengelib.data.manifest import ARRAYS, TIMED_KEYS, listed, map_array, pack_anew, read_manifest, reason_stale
from bengelib.data.patches import PatchDataset
from bengelib.data.tables import META_COLUMNS, TABLE_KEYS, read_csv, read_meta
from bengelib.errors import ChecksumError, DatasetNotFoundError, MissingModalityError
from bengelib.files import find, same_name


class PackedBENGE(PatchDataset):
    """The same samples as `BENGE`, keys, shapes and units included, read from a pack.

    Three ways to read, from convenient to fast:

    * `dataset[i]`, or `DataLoader(dataset, batch_size=...)`: samples as those of `BENGE`.
    * `DataLoader(dataset, batch_size=..., collate_fn=dataset.collate)`: the batch is read in one piece and decoded in
      one piece, without being taken apart and stacked again.
    * the same with `PackedBENGE(..., decoded=False)`, or `dataset.read_batch(indices)`: stored integers, a third of
      the bytes, for `dataset.decode(batch)` on the device; `fit` does this.

    Worker processes make this loader slower, not faster: leave `num_workers` at 0. The arrays are opened by the first
    read in each process, so the object is small to pickle and works with forked and spawned workers.

    Data: Mommert et al. 2023 (arXiv:2307.01741).

    `on_error="skip"` leaves out what `pack(..., on_error="skip")` left out.
    """

    @property
    def meta(self) -> pd.DataFrame:
        """The rows of the meta table of the used patches, read from its CSV each time."""
        return read_csv(self.folder / "meta.csv", META_COLUMNS).iloc[self._rows]

    def _open_tables(self) -> None:
        self._arrays: dict[str, tuple[np.ndarray, list[int] | None]] | None = None
        self.folder, self._manifest = _open_pack(self.root)
        for key in self.keys:
            self._check_has(key)
        self.index = PatchIndex(self.folder, self._manifest["name"])

    def _problems(self, chosen: np.ndarray, on_error: str) -> dict[str, dict[str, str]]:
        return {key: self._manifest["skipped"].get(key, {}) for key in self.keys}

    def _strangers(self) -> Sequence[Sequence[str]]:
        return listed(self.root, self._manifest, self.index)

    def _read_table(self, key: str) -> np.ndarray:
        self._check_has(key)
        values = _load(self.folder, self._array_name(key), self._manifest)
        return np.asarray(values[self._rows])

    def read_batch(self, indices: Sequence[int] | np.ndarray | Tensor) -> dict[str, Any]:
        """Several stored patches as a batch; see `PatchDataset.read_batch`."""
        places = as_indices(indices, len(self))
        rows = self._rows[places]
        batch: dict[str, Any] = {}
        for name, (array, bands) in self._open().items():
            batch[name] = torch.from_numpy(array[rows] if bands is None else array[rows[:, None], bands])
        batch["patch_id"] = self.index.names(rows)
        return batch

    def __getstate__(self) -> dict[str, Any]:
        """The state without the open arrays, for pickling."""
        return {**self.__dict__, "_arrays": None}

    def _array_name(self, key: str) -> str:
        return f"{key}_{self.acquisition}" if key in TIMED_KEYS else key

    def _check_has(self, key: str) -> None:
        """Refuse a key that the pack does not hold."""
        if key not in self._manifest["modalities"] and self._array_name(key) not in self._manifest["arrays"]:
            raise MissingModalityError(
                f"{key!r} was requested, but the pack {self.folder} does not hold it. Leave {key!r} out, or add it to "
                "the tree and call bengelib.pack."
            )

    def _open(self) -> dict[str, tuple[np.ndarray, list[int] | None]]:
        """The mapped arrays by name in a batch, with the indices of the requested bands (None for all)."""
        if self._arrays is None:
            self._arrays = {}
            for name, (key, _, _) in ARRAYS.items():
                if key not in self.keys:
                    continue
                bands = _places(name, self.s2_bands, self.s1_bands)
                if bands != []:
                    array = _load(self.folder, name, self._manifest)
                    self._arrays[name] = (array, None if bands == list(range(array.shape[1])) else bands)
            for key in self.keys:
                if key in TABLE_KEYS:
                    self._arrays[key] = (_load(self.folder, self._array_name(key), self._manifest), None)
        return self._arrays


def _places(name: str, s2_bands: Sequence[str], s1_bands: Sequence[str]) -> list[int] | None:
    """Places, in the array `name`, of those bands that it has; None where an array has no bands."""
    if name == "s1":
        return [S1_BANDS.index(band) for band in s1_bands]
    if name.startswith("s2_"):
        stored = [band for band in S2_BANDS if name == f"s2_{S2[band].resolution}m"]
        return [stored.index(band) for band in s2_bands if band in stored]
    return None


def _load(folder: Path, name: str, manifest: Mapping[str, Any]) -> np.ndarray:
    """An array of the pack, mapped into memory.

    Raises:
        ChecksumError: it is missing, truncated, or not of the shape and type that the manifest says.
    """
    path, entry = folder / f"{name}.npy", manifest["arrays"][name]
    try:
        array = map_array(path)
    except (OSError, ValueError, EOFError) as error:
        raise ChecksumError(f"{path} is damaged ({error}). {pack_anew(folder)}") from error
    if list(array.shape) != entry["shape"] or array.dtype.str != entry["dtype"]:
        raise ChecksumError(
            f"{path} holds {array.shape} {array.dtype}; the manifest says {entry['shape']} {entry['dtype']}. "
            f"{pack_anew(folder)}"
        )
    return array


def _open_pack(root: Path) -> tuple[Path, dict[str, Any]]:
    """The folder and manifest of the pack of the tree at `root`, or of the pack `root` itself.

    Raises:
        DatasetNotFoundError: there is none.
        ChecksumError: it does not belong to the tree, or is older.
    """
    if (manifest := read_manifest(root)) is not None:
        return root, manifest
    folder = root / "packed"
    manifest = read_manifest(folder)
    if manifest is None:
        meta = read_meta(root)  # says what is wrong with it if this is not even a tree
        raise DatasetNotFoundError(
            f"{root} has {len(meta)} patches but no pack. Make it once with bengelib.pack({str(root)!r}), or let "
            "bengelib.load do so."
        )
    if not same_name(manifest["name"], root.name):
        raise ChecksumError(
            f"{folder} is a pack of {manifest['name']!r}, not of {root.name!r}. Move it to where it belongs, "
            f"then call bengelib.pack({str(root)!r})."
        )
    if find(root / f"{root.name}_meta.csv").is_file():
        reason = reason_stale(root, folder, manifest, thorough=False)
        if reason is not None:
            raise ChecksumError(
                f"{folder} is out of date: {reason}. Call bengelib.pack({str(root)!r}) to bring it up to date."
            )
    return folder, manifest

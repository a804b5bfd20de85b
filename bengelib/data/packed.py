"""`PackedBENGE`: the samples of `BENGE` from the memory-mapped arrays that `pack` wrote, a batch at a time."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from bengelib.arguments import as_index, as_indices
from bengelib.bands import S1_BANDS, S2, S2_BANDS
from bengelib.data.dataset import BENGE, KEYS, Sample, SampleBatch, account_for, check_names, leave_out, select_patches
from bengelib.data.decode import decode
from bengelib.data.manifest import ARRAYS, TIMED_KEYS, map_array, pack_anew, read_manifest, reason_stale
from bengelib.data.tables import META_COLUMNS, TABLE_KEYS, read_csv, read_meta
from bengelib.errors import ChecksumError, DatasetNotFoundError, MissingModalityError
from bengelib.files import find, same_name, tree_folder
from bengelib.sim.simulate import read_marker


class PackedBENGE(Dataset[Sample]):
    """The same samples as `BENGE`, keys, shapes and units included, read from a pack.

    Three ways to read, from convenient to fast:

    * `dataset[i]`, or `DataLoader(dataset, batch_size=...)`: samples as those of `BENGE`.
    * `DataLoader(dataset, batch_size=..., collate_fn=dataset.collate)`: the batch is read in one piece and decoded in
      one piece, without being taken apart and stacked again.
    * the same with `PackedBENGE(..., decoded=False)`, or `dataset.read_batch(indices)`: stored integers, a third of
      the bytes, for `decode(batch, dataset.s2_bands)` on the device; `fit` does this.

    Worker processes make this loader slower, not faster: leave `num_workers` at 0. The arrays are opened by the first
    read in each process, so the object is small to pickle and works with forked and spawned workers.

    Data: Mommert et al. 2023 (arXiv:2307.01741).
    """

    def __init__(
        self,
        root: str | Path,
        split: str | None = None,
        modalities: Sequence[str] = ("s2", "s1"),
        targets: Sequence[str] = ("climate_zone",),
        s2_bands: Sequence[str] = S2_BANDS,
        s1_bands: Sequence[str] = S1_BANDS,
        transform: Callable[[Sample], Sample] | None = None,
        *,
        scheme: str = "official",
        fold: int = 0,
        acquisition: Literal["s2", "s1"] = "s2",
        on_error: Literal["raise", "skip"] = "raise",
        decoded: bool = True,
    ) -> None:
        """Read manifest and tables, and compare the pack with the files that it was made from.

        Args:
            root: a ben-ge tree with its pack in `packed/`, or the folder of a pack itself.
            split: `"train"`, `"val"`, `"test"`, or None for all patches.
            modalities: keys to use as inputs, from `KEYS`.
            targets: keys to predict, from `KEYS`.
            s2_bands: Sentinel-2 bands by name, in the order wanted.
            s1_bands: Sentinel-1 polarisations by name, in the order wanted.
            transform: applied to each sample last; not to what `read_batch` gives.
            scheme: `"official"`, `"study"` or `"blocked"`, see `BENGE`.
            fold: which of the five folds is the test side under `"blocked"`.
            acquisition: whether season and weather are those of the `"s2"` or of the `"s1"` acquisition.
            on_error: what to do where `pack(..., on_error="skip")` left patches out: `"raise"`, or `"skip"` to go on
                without them; they then stand in `skipped` with the reason.
            decoded: whether samples are in the units of the data contract, or as stored.

        Raises:
            DatasetNotFoundError: no such folder, or no pack in it.
            ChecksumError: the pack is damaged, of another dataset, or older than the files it was made from.
            MissingModalityError: the pack lacks a modality or target.
            BandError: an unknown or repeated modality, target or band.
            SplitError: an unknown or empty split, or a bad split file.
            RasterError: patches of this split were left out of the pack (with `on_error="raise"`).
        """
        self.root = tree_folder(root)
        self.modalities = check_names(modalities, KEYS, "modalities")
        self.targets = check_names(targets, KEYS, "targets")
        self.s2_bands = check_names(s2_bands, S2_BANDS, "s2_bands", empty=False)
        self.s1_bands = check_names(s1_bands, S1_BANDS, "s1_bands", empty=False)
        self.acquisition = check_names((acquisition,), ("s2", "s1"), "acquisition")[0]
        self.transform = transform
        self.decoded = decoded
        self.keys = tuple(dict.fromkeys((*self.modalities, *self.targets)))
        self.folder, self._manifest = _open_pack(self.root)
        for key in self.keys:
            self._check_has(key)
        whole = read_csv(self.folder / "meta.csv", META_COLUMNS)
        chosen, unsplit = select_patches(self.folder, self._manifest["name"], whole, split, scheme, fold)
        problems = {key: self._manifest["skipped"].get(key, {}) for key in self.keys}
        self.meta, self.skipped = leave_out(chosen, problems, on_error)
        self.account = account_for(self.root, whole, split, unsplit, self.skipped, len(self.meta))
        self.patch_ids: list[str] = list(self.meta.index)
        self._rows = whole.index.get_indexer(self.meta.index)
        self._tables = {key: torch.from_numpy(self.table(key)) for key in self.keys if key in TABLE_KEYS}
        self._arrays: dict[str, tuple[np.ndarray, list[int] | None]] | None = None

    @property
    def simulated(self) -> bool:
        """Whether the pixels are invented, as the marker that the simulator leaves says; say so in every figure."""
        return any(read_marker(folder) is not None for folder in (self.root, self.folder))

    def __len__(self) -> int:
        """Number of patches."""
        return len(self.patch_ids)

    def __getitem__(self, index: int) -> Sample:
        """The sample of one patch; see `BENGE` for keys, shapes and units."""
        sample = self.__getitems__([as_index(index, len(self))])[0]
        return sample

    def __getitems__(self, indices: Sequence[int]) -> Sequence[Sample]:
        """The samples of several patches, read and decoded together; `torch.utils.data.DataLoader` calls this."""
        batch = self.read_batch(indices)
        samples = SampleBatch(decode(batch, self.s2_bands) if self.decoded else batch)
        return [self.transform(sample) for sample in samples] if self.transform else samples

    collate = staticmethod(BENGE.collate)

    def read_batch(self, indices: Sequence[int] | np.ndarray | Tensor) -> dict[str, Any]:
        """Several patches as they are stored, stacked; `transforms.decode(batch, self.s2_bands)` makes samples of them.

        Args:
            indices: places in this dataset, (B,), from 0.

        Raises:
            ArgumentError: a boolean mask, or anything else that is no places.
            IndexError: a place beyond the end.

        Returns:
            `s2_10m`, `s2_20m`, `s2_60m` (B, k, n, n) uint16 with the asked-for bands of each resolution, `s1`
            (B, p, 120, 120) float16 dB, `dem` (B, 1, 120, 120) int16 metres, `land_cover` (B, 120, 120) uint8 codes,
            each if it was asked for; the tables that were asked for, (B, ...); and `patch_id`, a list.
        """
        places = as_indices(indices, len(self))
        rows = self._rows[places]
        batch: dict[str, Any] = {}
        for name, (array, bands) in self._open().items():
            batch[name] = torch.from_numpy(array[rows] if bands is None else array[rows[:, None], bands])
        for key, values in self._tables.items():
            batch[key] = values[torch.from_numpy(places)]
        batch["patch_id"] = [self.patch_ids[place] for place in places.tolist()]
        return batch

    def table(self, key: str) -> np.ndarray:
        """All patches' values, (N, ...), of a key that is not a raster, such as `"climate_zone"`.

        Raises:
            BandError: the key is a raster or does not exist.
            MissingModalityError: the pack does not hold it.
        """
        check_names((key,), TABLE_KEYS, "table keys")
        self._check_has(key)
        values = _load(self.folder, self._array_name(key), self._manifest)
        return np.asarray(values[self._rows])

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled: everything but the open arrays."""
        return {**self.__dict__, "_arrays": None}

    def _array_name(self, key: str) -> str:
        return f"{key}_{self.acquisition}" if key in TIMED_KEYS else key

    def _check_has(self, key: str) -> None:
        """Refuse a key that the pack does not hold."""
        if key not in self._manifest["modalities"] and self._array_name(key) not in self._manifest["arrays"]:
            raise MissingModalityError(
                f"{key!r} was asked for, but the pack {self.folder} does not hold it. Leave {key!r} out, or add it to "
                "the tree and call bengelib.pack."
            )

    def _open(self) -> dict[str, tuple[np.ndarray, list[int] | None]]:
        """The arrays of rasters, mapped, each with the places of the bands that were asked for (None for all)."""
        if self._arrays is None:
            self._arrays = {}
            for name, (key, _, _) in ARRAYS.items():
                if key not in self.keys:
                    continue
                bands = _places(name, self.s2_bands, self.s1_bands)
                if bands != []:
                    array = _load(self.folder, name, self._manifest)
                    self._arrays[name] = (array, None if bands == list(range(array.shape[1])) else bands)
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
        meta = read_meta(root)  # says what is wrong if this is not even a tree
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
        reason = reason_stale(root, folder, manifest, read_meta(root), thorough=False)
        if reason is not None:
            raise ChecksumError(
                f"{folder} is out of date: {reason}. Call bengelib.pack({str(root)!r}) to bring it up to date."
            )
    return folder, manifest

"""Shared parts of the readers of patches: the selection of patches in a split, and samples from batches."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from bengelib.arguments import as_index, check_names
from bengelib.bands import PATCH_SIZE, S1_BANDS, S2_BANDS
from bengelib.data.account import Account
from bengelib.data.decode import decode
from bengelib.data.index import PatchIds, PatchIndex
from bengelib.data.rasters import RASTER_KEYS
from bengelib.data.splits import mgrs_tile
from bengelib.data.tables import TABLE_KEYS
from bengelib.errors import RasterError, SplitError
from bengelib.files import folded, tree_folder
from bengelib.identity import PATCH_METRES
from bengelib.modalities import MODALITIES, TARGETS, Modality, Target, as_modality
from bengelib.sim.simulate import read_marker

Sample = dict[str, Any]
KEYS = (*RASTER_KEYS, *TABLE_KEYS)
"""All keys of modalities and targets."""


def leave_out(
    index: PatchIndex, rows: np.ndarray, problems: Mapping[str, Mapping[str, str]], on_error: str
) -> tuple[np.ndarray, dict[str, str]]:
    """Remove unusable patches from a split; `account_for` reports them.

    Args:
        index: of the dataset.
        rows: the patches of the split, (M,).
        problems: by key, patches and their faults.
        on_error: `"raise"` or `"skip"`.

    Returns:
        The remaining rows, and the reason for each of the others.

    Raises:
        RasterError: a patch cannot be used and `on_error` is `"raise"`.
        SplitError: no patch is left.
    """
    check_names((on_error,), ("raise", "skip"), "on_error")
    names = index.names(rows) if any(problems.values()) else []
    reasons: dict[str, str] = {}
    for key, patches in problems.items():
        for patch_id in names if patches else ():
            if patch_id in patches:
                reasons.setdefault(patch_id, f"{key}: {patches[patch_id]}")
    if not reasons:
        return rows, reasons
    first, reason = next(iter(reasons.items()))
    what = f"{len(reasons)} of {len(rows)} patches cannot be used, the first being {first} ({reason})"
    if on_error == "raise":
        raise RasterError(f'{what}. Correct them, or give on_error="skip" to leave them out.')
    if len(reasons) == len(rows):
        raise SplitError(f"{what}. None is left.")
    return rows[[name not in reasons for name in names]], reasons


def account_for(
    root: Path,
    met: int,
    strangers: Sequence[Sequence[str]],
    split: str | None,
    unsplit: Sequence[str],
    skipped: Mapping[str, str],
    used: int,
) -> Account:
    """The account of the patches of a dataset or pack, reported if some are left out.

    Args:
        root: the folder.
        met: number of patches in the meta table.
        strangers: see `off_table`.
        split: the requested split.
        unsplit: patches that no split file names, see `PatchIndex.select`.
        skipped: patches left out, with `"<key>: <reason>"`.
        used: number of remaining patches.
    """
    account = Account("patches", root)
    account.used = used
    alike: dict[str, list[str]] = {}
    for name in sorted(os.listdir(root)):
        alike.setdefault(folded(name), []).append(name)
    for names in alike.values():
        if len(names) > 1:
            account.remarks.append(f"{' and '.join(names)} differ in capitals or accents alone; one of them is read")
    for folder, name in strangers:
        account.leave_out(f"lie in {folder}/ and are not in the meta table", name)
    for patch_id in unsplit:
        account.leave_out("are in none of the split files", patch_id)
    account.put_aside(f"are not in split {split!r}", met - used - len(skipped) - len(unsplit))
    for patch_id, reason in skipped.items():
        account.leave_out(f"have no {reason.partition(':')[0]} that can be used", patch_id, reason)
    account.tell(stacklevel=3)
    return account


class SampleBatch(Sequence[Sample]):
    """Samples of one batch of stacked tensors: `batch` is that dict, and each item is a view of one sample."""

    def __init__(self, batch: dict[str, Any]) -> None:
        """Wrap a dict of tensors with a leading dimension and `patch_id`, a list."""
        self.batch = batch

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.batch["patch_id"])

    def __getitem__(self, index: Any) -> Any:
        """One sample, or a list of them for a slice."""
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        index = as_index(index, len(self))
        return {key: value[index] for key, value in self.batch.items()}


class StoredDataset(Dataset[Sample]):
    """Base of datasets that read and decode samples in batches.

    A subclass has `patch_ids`, `transform` and `decoded`, and implements `read_batch` and `decode`.
    """

    patch_ids: Sequence[str]
    transform: Callable[[Sample], Sample] | None
    decoded: bool

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.patch_ids)

    def __getitem__(self, index: int) -> Sample:
        """One sample; see the class for keys, shapes and units.

        Raises:
            ArgumentError: the index is not a whole number.
            IndexError: there is no such sample.
            RasterError: a file is missing or damaged, or holds invalid values.
        """
        sample: Sample = self.__getitems__([as_index(index, len(self))])[0]
        return sample

    def __getitems__(self, indices: Sequence[int]) -> Sequence[Sample]:
        """Several samples, read and decoded together; `torch.utils.data.DataLoader` calls this."""
        stored = self.read_batch(indices)
        samples = SampleBatch(self.decode(stored) if self.decoded else stored)
        return [self.transform(sample) for sample in samples] if self.transform else samples

    @staticmethod
    def collate(samples: Sequence[Sample]) -> dict[str, Any]:
        """For `DataLoader(..., collate_fn=dataset.collate)`: the batch of `__getitems__`, unchanged."""
        return samples.batch if isinstance(samples, SampleBatch) else default_collate(list(samples))

    def read_batch(self, indices: Sequence[int] | np.ndarray | Tensor) -> dict[str, Any]:
        """Several stored samples as a batch, for `decode`."""
        raise NotImplementedError

    def decode(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Convert a batch of `read_batch` to physical units, on its device."""
        raise NotImplementedError


class PatchDataset(StoredDataset):
    """Base of `BENGE` and `PackedBENGE`, which have the same arguments and samples.

    Attributes:
        patch_ids: the ids of the used patches, in order.
        skipped: patches that are left out, with the reason.
        account: numbers of used and left-out patches, with reasons.
    """

    folder: Path
    """Folder of the tables and split files."""
    index: PatchIndex
    """All patches of the dataset, in any split."""

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
        """Read the tables and check that every patch can be read.

        Args:
            root: the folder of the dataset, `<name>`, or of a pack.
            split: `"train"`, `"val"`, `"test"`, or None for all patches.
            modalities: keys of the inputs, from `KEYS`.
            targets: keys to predict, from `KEYS`.
            s2_bands: Sentinel-2 bands by name, in the desired order.
            s1_bands: Sentinel-1 polarisations by name, in the desired order.
            transform: applied last to each sample; not to `read_batch`.
            scheme: `"official"` (the dataset's split files), `"study"` (60/15/25 by hash of the patch id) or
                `"blocked"` (by whole MGRS tiles); see `bengelib.data.splits`.
            fold: the test fold, of five, under `"blocked"`.
            acquisition: whether season and weather are those of the `"s2"` or of the `"s1"` acquisition.
            on_error: `"raise"` stops at an unusable patch; `"skip"` leaves it out with a warning and lists it in
                `skipped`. The class says when faults are detected.
            decoded: whether samples are in the units of `BENGE`, or stored as in `read_batch`.

        Raises:
            DatasetNotFoundError: there is no such folder, or no dataset or pack in it.
            MissingModalityError: the dataset lacks a modality or target, or a patch has no files for it.
            BandError: an unknown or repeated modality, target or band, no band at all, or another `on_error`.
            SplitError: an unknown or empty split, or a bad split file.
            TableError: a malformed CSV or JSON.
            ChecksumError: a pack is damaged, of another dataset, or older than its files.
            RasterError: patches of the split were left out of the pack (with `on_error="raise"`).
        """
        self.root = tree_folder(root)
        self.modalities = check_names(modalities, KEYS, "modalities")
        self.targets = check_names(targets, KEYS, "targets")
        self.s2_bands = check_names(s2_bands, S2_BANDS, "s2_bands", empty=False)
        self.s1_bands = check_names(s1_bands, S1_BANDS, "s1_bands", empty=False)
        self.acquisition = check_names((acquisition,), ("s2", "s1"), "acquisition")[0]
        check_names((on_error,), ("raise", "skip"), "on_error")  # before "skip" has read every raster
        self.transform = transform
        self.decoded = decoded
        self.keys = tuple(dict.fromkeys((*self.modalities, *self.targets)))
        self._open_tables()
        chosen, unsplit = self.index.select(split, scheme, fold)
        self._rows, self.skipped = leave_out(self.index, chosen, self._problems(chosen, on_error), on_error)
        used = len(self._rows)
        self.account = account_for(self.root, len(self.index), self._strangers(), split, unsplit, self.skipped, used)
        self.patch_ids = PatchIds(self.index, self._rows)
        self._tables = self._values()

    @property
    def meta(self) -> pd.DataFrame:
        """The rows of the meta table of the used patches."""
        raise NotImplementedError

    def _open_tables(self) -> None:
        """Set `folder` and `index`."""
        raise NotImplementedError

    def _values(self) -> dict[str, Tensor]:
        """The requested tables, (N, ...), if they are in memory."""
        return {}

    def _problems(self, chosen: np.ndarray, on_error: str) -> Mapping[str, Mapping[str, str]]:
        """By key, unusable patches among the rows of a split, with the reason."""
        raise NotImplementedError

    def _strangers(self) -> Sequence[Sequence[str]]:
        """Folder and name of each patch that has rasters but no row in the meta table."""
        raise NotImplementedError

    def _read_table(self, key: str) -> np.ndarray:
        """Values of all patches, (N, ...), of a key that is not a raster."""
        raise NotImplementedError

    def read_batch(self, indices: Sequence[int] | np.ndarray | Tensor) -> dict[str, Any]:
        """Several stored patches as a batch, for `decode`.

        Args:
            indices: indices into this dataset, (B,), from 0.

        Raises:
            ArgumentError: a boolean mask, or anything else that is not indices.
            IndexError: an index beyond the end.

        Returns:
            `s2_10m`, `s2_20m`, `s2_60m` (B, k, n, n) uint16 with the requested bands of each resolution, `s1`
            (B, p, 120, 120) dB, `dem` (B, 1, 120, 120) metres, `land_cover` (B, 120, 120) uint8 codes, and tables
            (B, ...), each if requested; and `patch_id`, a list. `transform` is not applied.
        """
        raise NotImplementedError

    @property
    def inputs(self) -> dict[str, Modality]:
        """The modalities, for encoders: `EarlyFusion(dataset.inputs)`."""
        bands = {"s2": self.s2_bands, "s1": self.s1_bands}
        return {key: as_modality(key, bands.get(key, ())) for key in self.modalities if key in MODALITIES}

    @property
    def stored(self) -> dict[str, dict[str, list[float]]]:
        """Facts about the files that a model keeps: the size of a `pixel` in metres of each raster."""
        return {key: {"pixel": [PATCH_METRES / PATCH_SIZE] * 2} for key in self.modalities if key in RASTER_KEYS}

    @property
    def outputs(self) -> dict[str, Target]:
        """The targets that a model can predict."""
        return {key: TARGETS[key] for key in self.targets if key in TARGETS}

    @property
    def groups(self) -> np.ndarray:
        """The MGRS tile of each patch, (N,) of str, which a blocked split keeps together."""
        return np.array([mgrs_tile(patch_id) for patch_id in self.index.names(self._rows, "ids_s1")])

    @property
    def simulated(self) -> bool:
        """True if the pixels are simulated, by the marker of the simulator; every figure should say so."""
        return any(read_marker(folder) is not None for folder in (self.root, self.folder))

    def decode(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Convert a batch of `read_batch` to the units of `BENGE`, on its device; see `bengelib.data.decode`."""
        return decode(batch, self.s2_bands, self.s1_bands)

    def table(self, key: str) -> np.ndarray:
        """Values of all patches, (N, ...), of a key that is not a raster, such as `"climate_zone"`.

        Raises:
            BandError: the key is a raster or does not exist.
            MissingModalityError: the dataset lacks it.
        """
        check_names((key,), TABLE_KEYS, "table keys")
        return self._read_table(key)

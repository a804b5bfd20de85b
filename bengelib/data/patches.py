"""What the readers of patches share: which patches of a split are used and which are not, and samples from batches."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from bengelib.arguments import as_index, check_names
from bengelib.bands import S1_BANDS, S2_BANDS
from bengelib.data.account import Account
from bengelib.data.decode import decode
from bengelib.data.index import PatchIds, PatchIndex
from bengelib.data.rasters import RASTER_KEYS
from bengelib.data.splits import mgrs_tile
from bengelib.data.tables import TABLE_KEYS
from bengelib.errors import RasterError, SplitError
from bengelib.files import folded, tree_folder
from bengelib.modalities import MODALITIES, TARGETS, Modality, Target, as_modality
from bengelib.sim.simulate import read_marker

Sample = dict[str, Any]
KEYS = (*RASTER_KEYS, *TABLE_KEYS)
"""Every key that can be asked for as a modality or a target."""


def leave_out(
    index: PatchIndex, rows: np.ndarray, problems: Mapping[str, Mapping[str, str]], on_error: str
) -> tuple[np.ndarray, dict[str, str]]:
    """Take the patches that cannot be used out of a split; see `account_for` for saying so.

    Args:
        index: of the dataset.
        rows: the patches of the split, (M,).
        problems: by key, patches and what is wrong with them.
        on_error: `"raise"` or `"skip"`.

    Returns:
        The rows that are left, and the reason for each of the others.

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
        raise RasterError(f'{what}. Mend them, or give on_error="skip" to go on without them.')
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
    """The account of the patches of a tree or a pack, shown if some are left out.

    Args:
        root: the folder.
        met: number of patches in the meta table.
        strangers: see `off_table`.
        split: the split that was asked for.
        unsplit: patches that no split file names, see `PatchIndex.select`.
        skipped: patches left out, with `"<key>: <reason>"`.
        used: number of patches left.
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
    """Samples that lie in one batch of stacked tensors: `batch` is that dict, and each item a view of one sample."""

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


class PatchDataset(Dataset[Sample]):
    """What `BENGE` and `PackedBENGE` have in common: the same arguments, the same samples.

    Attributes:
        patch_ids: the ids of the patches that are used, in order.
        skipped: patches that are left out, with the reason.
        account: how many patches there were, how many are used, and why the others are not.
    """

    folder: Path
    """Where the tables and split files lie."""
    index: PatchIndex
    """All patches of the dataset, of whatever split."""

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
            modalities: keys to use as inputs, from `KEYS`.
            targets: keys to predict, from `KEYS`.
            s2_bands: Sentinel-2 bands by name, in the order wanted.
            s1_bands: Sentinel-1 polarisations by name, in the order wanted.
            transform: applied to each sample last; not to what `read_batch` gives.
            scheme: `"official"` (the dataset's split files), `"study"` (60/15/25 by hash of the patch id) or
                `"blocked"` (whole MGRS tiles apart); see `bengelib.data.splits`.
            fold: which of the five folds is the test side under `"blocked"`.
            acquisition: whether season and weather are those of the `"s2"` or of the `"s1"` acquisition.
            on_error: `"raise"` stops at a patch that cannot be used; `"skip"` leaves it out with a warning and lists it
                in `skipped`. See the class for when a patch is found to be such.
            decoded: whether samples are in the units of `BENGE`, or as `read_batch` gives them.

        Raises:
            DatasetNotFoundError: no such folder, or no dataset or pack in it.
            MissingModalityError: it lacks a modality or target, or some patch has no files for it.
            BandError: an unknown or repeated modality, target or band, no band at all, or another `on_error`.
            SplitError: an unknown or empty split, or a bad split file.
            TableError: a malformed CSV or JSON.
            ChecksumError: a pack is damaged, of another dataset, or older than the files that it was made from.
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
        """The rows of the meta table of the patches that are used."""
        raise NotImplementedError

    def _open_tables(self) -> None:
        """Set `folder` and `index`."""
        raise NotImplementedError

    def _values(self) -> dict[str, Tensor]:
        """The tables that were asked for, (N, ...), where they are held."""
        return {}

    def _problems(self, chosen: np.ndarray, on_error: str) -> Mapping[str, Mapping[str, str]]:
        """By key, patches among the rows of a split that cannot be used, and why."""
        raise NotImplementedError

    def _strangers(self) -> Sequence[Sequence[str]]:
        """Folder and name of each patch that has rasters and no row in the meta table."""
        raise NotImplementedError

    def _read_table(self, key: str) -> np.ndarray:
        """All patches' values, (N, ...), of a key that is not a raster."""
        raise NotImplementedError

    def read_batch(self, indices: Sequence[int] | np.ndarray | Tensor) -> dict[str, Any]:
        """Several patches as they are stored, stacked; `decode` makes samples of them.

        Args:
            indices: places in this dataset, (B,), from 0.

        Raises:
            ArgumentError: a boolean mask, or anything else that is no places.
            IndexError: a place beyond the end.

        Returns:
            `s2_10m`, `s2_20m`, `s2_60m` (B, k, n, n) uint16 with the asked-for bands of each resolution, `s1`
            (B, p, 120, 120) dB, `dem` (B, 1, 120, 120) metres, `land_cover` (B, 120, 120) uint8 codes, each if it was
            asked for; the tables that were asked for, (B, ...); and `patch_id`, a list. `transform` is not applied.
        """
        raise NotImplementedError

    @property
    def inputs(self) -> dict[str, Modality]:
        """What each of `modalities` is, for encoders: `EarlyFusion(dataset.inputs)`."""
        bands = {"s2": self.s2_bands, "s1": self.s1_bands}
        return {key: as_modality(key, bands.get(key, ())) for key in self.modalities if key in MODALITIES}

    @property
    def outputs(self) -> dict[str, Target]:
        """What each of `targets` is, as far as a model can be asked for it."""
        return {key: TARGETS[key] for key in self.targets if key in TARGETS}

    @property
    def groups(self) -> np.ndarray:
        """The MGRS tile of each patch, (N,) of str: what a blocked split keeps together."""
        return np.array([mgrs_tile(patch_id) for patch_id in self.index.names(self._rows, "ids_s1")])

    @property
    def simulated(self) -> bool:
        """Whether the pixels are invented, as the marker that the simulator leaves says; say so in every figure."""
        return any(read_marker(folder) is not None for folder in (self.root, self.folder))

    def __len__(self) -> int:
        """Number of patches."""
        return len(self.patch_ids)

    def __getitem__(self, index: int) -> Sample:
        """The sample of one patch; see `BENGE` for keys, shapes and units.

        Raises:
            ArgumentError: the index is no whole number.
            IndexError: there is no such patch.
            RasterError: a file is missing, damaged, all no-data, or holds values that are not legal.
        """
        sample: Sample = self.__getitems__([as_index(index, len(self))])[0]
        return sample

    def __getitems__(self, indices: Sequence[int]) -> Sequence[Sample]:
        """The samples of several patches, read and decoded together; `torch.utils.data.DataLoader` calls this."""
        stored = self.read_batch(indices)
        samples = SampleBatch(self.decode(stored) if self.decoded else stored)
        return [self.transform(sample) for sample in samples] if self.transform else samples

    def decode(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """What `read_batch` gave, in the units of `BENGE`, on the device where it is; see `bengelib.data.decode`."""
        return decode(batch, self.s2_bands, self.s1_bands)

    @staticmethod
    def collate(samples: Sequence[Sample]) -> dict[str, Any]:
        """For `DataLoader(..., collate_fn=dataset.collate)`: the batch that `__getitems__` read, as it is."""
        return samples.batch if isinstance(samples, SampleBatch) else default_collate(list(samples))

    def table(self, key: str) -> np.ndarray:
        """All patches' values, (N, ...), of a key that is not a raster, such as `"climate_zone"`.

        Raises:
            BandError: the key is a raster or does not exist.
            MissingModalityError: the dataset does not hold it.
        """
        check_names((key,), TABLE_KEYS, "table keys")
        return self._read_table(key)

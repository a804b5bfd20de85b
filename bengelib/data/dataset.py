"""`BENGE`: a ben-ge tree of GeoTIFFs, CSVs and JSON as a PyTorch dataset of dicts of named tensors."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch.utils.data import Dataset, default_collate

from bengelib.arguments import as_index, as_indices
from bengelib.bands import S1_BANDS, S2_BANDS
from bengelib.data.account import Account
from bengelib.data.consistency import check_tree
from bengelib.data.decode import decode
from bengelib.data.rasters import RASTER_KEYS, absent_hint, absent_patches, modality_folder, read_patch, tree_folders
from bengelib.data.splits import SPLITS, blocked_split, check_split, official_split, read_splits, study_split
from bengelib.data.tables import TABLE_KEYS, read_meta, read_table
from bengelib.errors import BandError, MissingModalityError, RasterError, SplitError
from bengelib.files import folded, tree_folder
from bengelib.sim.simulate import read_marker

Sample = dict[str, Any]
KEYS = (*RASTER_KEYS, *TABLE_KEYS)
"""Every key that can be asked for as a modality or a target."""


def check_names(given: Sequence[str], known: Sequence[str], what: str, *, empty: bool = True) -> tuple[str, ...]:
    """`given` as a tuple, if each name is in `known` and stands there once; `empty` says whether none may be given.

    Raises:
        BandError: a name that is unknown or repeated, a bare string, or no name where one must be given.
    """
    if isinstance(given, str):
        raise BandError(f"{what} must be a sequence of names; write ({given!r},) instead of {given!r}")
    if not empty and len(given) == 0:
        raise BandError(f"{what} is empty; name some of {list(known)}")
    unknown = [name for name in given if name not in known]
    if unknown:
        raise BandError(f"unknown {what} {unknown}; choose from {list(known)}")
    if len(set(given)) != len(given):
        raise BandError(f"{what} names something twice: {list(given)}")
    return tuple(given)


def select_patches(
    root: Path, name: str, meta: pd.DataFrame, split: str | None, scheme: str, fold: int
) -> tuple[pd.DataFrame, list[str]]:
    """The rows of `meta` that belong to a split (all of them for None), and the patches that no split file names.

    The latter are none where another scheme is asked for, or where a split has no file.

    Args:
        root: the folder that holds `splits/`.
        name: name of the dataset, the prefix of its split files.
        meta: the meta table of the dataset.
        split: `"train"`, `"val"`, `"test"` or None.
        scheme: `"official"`, `"study"` or `"blocked"`.
        fold: test fold of the blocked split.

    Raises:
        SplitError: the split is unknown, its file is missing or foreign, or no patch belongs to it.
    """
    check_split(split, scheme, fold)
    if split is None:
        return meta, []
    unsplit: list[str] = []
    if scheme == "official":
        found = read_splits(root, name)
        chosen = meta.loc[official_split(root, name, split, list(meta.index), found)]
        if set(found) == set(SPLITS):
            named = {patch_id for _, ids in found.values() for patch_id in ids}
            unsplit = [patch_id for patch_id in meta.index if patch_id not in named]
    else:
        sides = study_split(list(meta.index)) if scheme == "study" else blocked_split(list(meta["patch_id_s1"]), fold)
        chosen = meta[sides == split]
    if chosen.empty:
        raise SplitError(f"no patch of {root} is in split {split!r} of scheme {scheme!r}; use a larger dataset")
    return chosen, unsplit


def leave_out(
    meta: pd.DataFrame, problems: Mapping[str, Mapping[str, str]], on_error: str
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Take the patches that cannot be used out of a split; see `account_for` for saying so.

    Args:
        meta: the patches of the split.
        problems: by key, patches and what is wrong with them.
        on_error: `"raise"` or `"skip"`.

    Returns:
        The patches that are left, and the reason for each of the others.

    Raises:
        RasterError: a patch cannot be used and `on_error` is `"raise"`.
        SplitError: no patch is left.
    """
    check_names((on_error,), ("raise", "skip"), "on_error")
    reasons: dict[str, str] = {}
    for key, patches in problems.items():
        for patch_id in meta.index.intersection(list(patches)):
            reasons.setdefault(patch_id, f"{key}: {patches[patch_id]}")
    if not reasons:
        return meta, reasons
    first, reason = next(iter(reasons.items()))
    what = f"{len(reasons)} of {len(meta)} patches cannot be used, the first being {first} ({reason})"
    if on_error == "raise":
        raise RasterError(f'{what}. Mend them, or give on_error="skip" to go on without them.')
    if len(reasons) == len(meta):
        raise SplitError(f"{what}. None is left.")
    return meta.drop(index=list(reasons)), reasons


def account_for(
    root: Path, meta: pd.DataFrame, split: str | None, unsplit: Sequence[str], skipped: Mapping[str, str], used: int
) -> Account:
    """The account of the patches of a tree or a pack, shown if some are left out.

    Args:
        root: the folder.
        meta: the whole meta table.
        split: the split that was asked for.
        unsplit: patches that no split file names, see `select_patches`.
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
    for folder, name in _off_table(root, meta):
        account.leave_out(f"lie in {folder}/ and are not in the meta table", name)
    for patch_id in unsplit:
        account.leave_out("are in none of the split files", patch_id)
    account.put_aside(f"are not in split {split!r}", len(meta) - used - len(skipped) - len(unsplit))
    for patch_id, reason in skipped.items():
        account.leave_out(f"have no {reason.partition(':')[0]} that can be used", patch_id, reason)
    account.tell(stacklevel=3)
    return account


def _off_table(root: Path, meta: pd.DataFrame) -> list[tuple[str, str]]:
    """Folder and name of each patch that has rasters in a tree and no row in its meta table."""
    folders = tree_folders(root)
    if not folders:  # a pack by itself
        return []
    key, folder = next(iter(folders.items()))
    known = set(meta["patch_id_s1"] if key == "s1" else meta.index)
    is_folder = key in ("s2", "s1")
    try:
        with os.scandir(folder) as listing:
            names = sorted(
                entry.name if is_folder else entry.name.rpartition("_")[0]
                for entry in listing
                if not entry.name.startswith(".") and (entry.is_dir() if is_folder else entry.name.endswith(".tif"))
            )
    except OSError:  # a pack does without the rasters, and reading them says what is the matter
        return []
    return [(folder.name, name) for name in names if name not in known]


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


class BENGE(Dataset[Sample]):
    """Patches of a ben-ge tree, each a dict of the modalities and targets that were asked for, and its `patch_id`.

    | key | shape, type, unit |
    |---|---|
    | `s2` | (len(s2_bands), 120, 120) float32, surface reflectance (DN / 10000, not clipped) |
    | `s1` | (len(s1_bands), 120, 120) float32, dB |
    | `dem` | (1, 120, 120) float32, metres |
    | `weather` | (5,) float32 in the order and units of `bands.WEATHER` |
    | `season` | () float32 in [0, 1] |
    | `lonlat` | (2,) float32, degrees |
    | `climate_zone` | () int64, index into `bands.CLIMATE_ZONES` |
    | `land_cover` | (120, 120) int64, index into `bands.LAND_COVER`, 255 where there is no label |
    | `land_cover_fractions`, `land_cover_top` | (11,) float32, () int64 |
    | `corine` | (19,) float32 of 0 and 1, in the order of `bands.CORINE_19` |

    `account` says how many patches there were, how many are used, and why the others are not.

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
    ) -> None:
        """Read the tables and check that every patch has its files; the rasters are read one sample at a time.

        Args:
            root: the folder that holds `<name>_meta.csv`, `sentinel-2/` and so on; `<name>` is the folder's own name.
            split: `"train"`, `"val"`, `"test"`, or None for all patches.
            modalities: keys to use as inputs, from `KEYS`.
            targets: keys to predict, from `KEYS`.
            s2_bands: Sentinel-2 bands by name, in the order wanted.
            s1_bands: Sentinel-1 polarisations by name, in the order wanted.
            transform: applied to each sample last.
            scheme: `"official"` (the dataset's split files), `"study"` (60/15/25 by hash of the patch id) or
                `"blocked"` (whole MGRS tiles apart); see `bengelib.data.splits`.
            fold: which of the five folds is the test side under `"blocked"`.
            acquisition: whether season and weather are those of the `"s2"` or of the `"s1"` acquisition.
            on_error: `"raise"` stops at a patch that lacks a file or a value, here, or whose raster is damaged, when
                it is read. `"skip"` reads all rasters of the split once, now, leaves such patches out with a warning,
                and lists them with the reason in the attribute `skipped`.

        Raises:
            DatasetNotFoundError: no such folder, or no meta CSV in it.
            MissingModalityError: the tree lacks a modality or target, or some patch has no files for it.
            BandError: an unknown or repeated modality, target or band, no band at all, or another `on_error`.
            SplitError: an unknown or empty split, or a bad split file.
            TableError: a malformed CSV or JSON.
        """
        self.root = tree_folder(root)
        self.modalities = check_names(modalities, KEYS, "modalities")
        self.targets = check_names(targets, KEYS, "targets")
        self.s2_bands = check_names(s2_bands, S2_BANDS, "s2_bands", empty=False)
        self.s1_bands = check_names(s1_bands, S1_BANDS, "s1_bands", empty=False)
        self.acquisition = check_names((acquisition,), ("s2", "s1"), "acquisition")[0]
        check_names((on_error,), ("raise", "skip"), "on_error")  # before "skip" has read every raster
        self.transform = transform
        self.keys = tuple(dict.fromkeys((*self.modalities, *self.targets)))
        whole = read_meta(self.root)
        check_tree(self.root, whole)
        chosen, unsplit = select_patches(self.root, self.root.name, whole, split, scheme, fold)
        self._wanted = {key: modality_folder(self.root, key) for key in self.keys if key in RASTER_KEYS}
        self._folders = tree_folders(self.root)
        problems = self._check_files(chosen) if on_error == "raise" else self._try_patches(chosen)
        self.meta, self.skipped = leave_out(chosen, problems, on_error)
        self.account = account_for(self.root, whole, split, unsplit, self.skipped, len(self.meta))
        self.patch_ids: list[str] = list(self.meta.index)
        self._s1_ids: list[str] = list(self.meta["patch_id_s1"])
        self._tables = {key: torch.from_numpy(self.table(key)) for key in self.keys if key in TABLE_KEYS}

    @property
    def simulated(self) -> bool:
        """Whether the pixels are invented, as the marker that the simulator leaves says; say so in every figure."""
        return read_marker(self.root) is not None

    def __len__(self) -> int:
        """Number of patches."""
        return len(self.patch_ids)

    def __getitem__(self, index: int) -> Sample:
        """The sample of one patch; see the class for keys, shapes and units.

        Raises:
            ArgumentError: the index is no whole number.
            IndexError: there is no such patch.
            RasterError: a file is missing, damaged, all no-data, or holds values that are not legal.
        """
        return self.__getitems__([as_index(index, len(self))])[0]

    def __getitems__(self, indices: Sequence[int]) -> Sequence[Sample]:
        """The samples of several patches, decoded together; `torch.utils.data.DataLoader` calls this."""
        samples = SampleBatch(decode(self.read_batch(indices), self.s2_bands))
        return [self.transform(sample) for sample in samples] if self.transform else samples

    @staticmethod
    def collate(samples: Sequence[Sample]) -> dict[str, Any]:
        """For `DataLoader(..., collate_fn=dataset.collate)`: the batch that `__getitems__` read, as it is."""
        return samples.batch if isinstance(samples, SampleBatch) else default_collate(list(samples))

    def table(self, key: str) -> np.ndarray:
        """All patches' values, (N, ...), of a key that is not a raster, such as `"climate_zone"`.

        Raises:
            BandError: the key is a raster or does not exist.
            MissingModalityError: the tree does not hold it.
        """
        check_names((key,), TABLE_KEYS, "table keys")
        return read_table(self.root, self.meta, key, self.acquisition)

    def read_stored(self, index: int) -> dict[str, np.ndarray]:
        """The rasters of one patch as they are stored, undecoded; see `bengelib.data.rasters` for keys and shapes."""
        index = as_index(index, len(self))
        ids = self.patch_ids[index], self._s1_ids[index]
        return read_patch(self._folders, *ids, self.s2_bands, self.s1_bands, self._wanted)

    def read_batch(self, indices: Sequence[int] | np.ndarray | torch.Tensor) -> dict[str, Any]:
        """Several patches as they are stored, stacked; `transforms.decode(batch, self.s2_bands)` makes samples of them.

        Args:
            indices: places in this dataset, (B,), from 0.

        Raises:
            ArgumentError: a boolean mask, or anything else that is no places.
            IndexError: a place beyond the end.

        Returns:
            The arrays of `read_stored` and the tables that were asked for, as tensors with a leading dimension B, and
            `patch_id`, a list. `transform` is not applied.
        """
        places = as_indices(indices, len(self)).tolist()
        stored = [self.read_stored(place) for place in places]
        batch: dict[str, Any] = {
            name: torch.from_numpy(np.stack([patch[name] for patch in stored]))
            for name in (stored[0] if stored else ())
        }
        for key, values in self._tables.items():
            batch[key] = values[places]
        batch["patch_id"] = [self.patch_ids[place] for place in places]
        return batch

    def _check_files(self, meta: pd.DataFrame) -> dict[str, dict[str, str]]:
        """See that each patch has its entry in the folder of each raster modality.

        Raises:
            MissingModalityError: some have none.
        """
        for key, folder in self._wanted.items():
            ids = list(meta["patch_id_s1"] if key == "s1" else meta.index)
            absent = absent_patches(folder, key, ids)
            if absent:
                raise MissingModalityError(
                    f"{len(absent)} of {len(ids)} patches have no {key!r} in {folder}, the first being "
                    f'{ids[absent[0]]}. {absent_hint(folder, key, ids[absent[0]])} Or give on_error="skip" to go on '
                    "without them."
                )
        return {}

    def _try_patches(self, meta: pd.DataFrame) -> dict[str, dict[str, str]]:
        """Read every raster and table value of a split; by key, the patches that fail and why."""
        problems: dict[str, dict[str, str]] = {key: {} for key in self.keys}
        for key in self.keys:
            if key in TABLE_KEYS:
                read_table(self.root, meta, key, self.acquisition, problems[key])
        for patch_id, patch_id_s1 in zip(meta.index, meta["patch_id_s1"], strict=True):
            for key in self._wanted:
                try:
                    read_patch(self._folders, patch_id, patch_id_s1, self.s2_bands, self.s1_bands, (key,))
                except RasterError as error:
                    problems[key][patch_id] = str(error)
        return problems

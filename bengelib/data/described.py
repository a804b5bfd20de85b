"""`DescribedDataset`: any dataset with a `dataset.toml`, with samples in the form of `BENGE`."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from bengelib.arguments import as_indices, check_names
from bengelib.bands import IGNORE_INDEX
from bengelib.data.account import Account, tell_once
from bengelib.data.decode_layers import decode_image, decode_map
from bengelib.data.description import Source, read_description
from bengelib.data.ground import pixel_of
from bengelib.data.patches import Sample, StoredDataset
from bengelib.data.samples import groups_of, read_column, read_samples, sides_of
from bengelib.data.splits import SPLITS
from bengelib.data.statistics import Statistics, as_modality
from bengelib.data.stores import BATCH, FileStore, PackStore, Wanted, open_store
from bengelib.errors import (
    BandError,
    DescriptionError,
    MissingModalityError,
    RasterError,
    SplitError,
    TableError,
)
from bengelib.modalities import Modality, Target


class DescribedDataset(StoredDataset):
    """Samples of a dataset described by a `dataset.toml`, each a dict of modalities and targets, and its `patch_id`.

    | kind | shape, type, unit |
    |---|---|
    | image | (bands, H, W) float32 in the unit of the description; no data becomes the band's mean |
    | map as a modality | (classes, H, W) float32 of 0 and 1 |
    | vector, scalar | (columns,), () float32 |
    | class, map as a target | () int64, (H, W) int64, index of the class, 255 where unknown |
    | labels, number | (classes,), () float32, NaN where unknown |

    A current pack (see `bengelib.pack`) is read if there is one, otherwise the files.

    Attributes:
        description: the content of the `dataset.toml`.
        meta: the table of the used samples; every column is text.
        patch_ids: their ids, in order.
        groups: the group of each sample, (N,) of str, or None.
        skipped: samples that are left out, with the reason.
        account: numbers of used and left-out samples, with reasons.
    """

    def __init__(
        self,
        root: str | Path,
        split: str | None = None,
        modalities: Sequence[str] | None = None,
        targets: Sequence[str] | None = None,
        bands: Mapping[str, Sequence[str]] | None = None,
        transform: Callable[[Sample], Sample] | None = None,
        *,
        scheme: str | None = None,
        fold: int = 0,
        on_error: Literal["raise", "skip"] = "raise",
        decoded: bool = True,
        progress: bool = True,
    ) -> None:
        """Read description and table, and check that every sample has its files and values.

        Args:
            root: the folder of the `dataset.toml`.
            split: `"train"`, `"val"`, `"test"`, or None for all samples.
            modalities: keys of the inputs; by default all.
            targets: keys to predict; by default all.
            bands: bands of each modality, in order; by default all.
            transform: applied last to each sample; not to `read_batch`.
            scheme: `"official"`, `"study"` or `"blocked"`, see `sides_of`; by default the one that suits the dataset.
            fold: the test fold, of five, under `"blocked"`.
            on_error: `"raise"` stops at a sample without a file or value; `"skip"` leaves it out with a warning.
            decoded: whether samples are in their units, or stored as in `read_batch`.
            progress: whether to show a bar while statistics are measured.

        Raises:
            DescriptionError: the description is malformed, or the files or the table contradict it.
            BandError: an unknown modality, target or band.
            MissingModalityError: a file is missing.
            TableError: the table or one of its values cannot be used.
            SplitError: an unknown or empty split, or one that the dataset does not support.
        """
        self.description = read_description(root)
        self.root = self.description.root
        check_names((on_error,), ("raise", "skip"), "on_error")
        try:
            self._choose_keys(modalities, targets, bands or {})
        except BandError as error:
            raise BandError(f"{self.description.path}: {error}") from None
        self.transform, self.decoded, self.on_error, self.progress = transform, decoded, on_error, progress
        if taken := [key for key in self.keys if hasattr(torch.nn.ModuleDict(), key)]:
            raise DescriptionError(
                f"{self.description.path}: {taken} are names that a network cannot have; give them others"
            )
        whole = read_samples(self.description)
        self.store: FileStore | PackStore = open_store(self.description, whole, self.keys)
        chosen = self._choose(whole, split, scheme, fold)
        self._check_unlisted()
        self.skipped = self._check_samples(whole, chosen)
        used = chosen[~whole.index[chosen].isin(list(self.skipped))]
        if not len(used):
            first, reason = next(iter(self.skipped.items()))
            raise SplitError(
                f"{self.root}: none of the {len(chosen)} samples can be used, the first being {first} ({reason})"
            )
        self._rows = used
        self._wanted = {key: self._arrays_of(key) for key in self.store.layouts if key in self.keys}
        self.meta: pd.DataFrame = whole.iloc[used]
        self.patch_ids: list[str] = list(self.meta.index)
        groups = groups_of(self.description, whole)
        self.groups = None if groups is None else groups[used]
        self._tables = {
            key: torch.from_numpy(read_column(source, self.meta)) for key, source in self._columns().items()
        }
        self._warn_of_given_answers()
        self.account = self._account(whole, chosen, split)

    def _choose_keys(
        self,
        modalities: Sequence[str] | None,
        targets: Sequence[str] | None,
        bands: Mapping[str, Sequence[str]],
    ) -> None:
        """Set modalities, targets and bands; see `__init__`.

        Raises:
            BandError: one of them is unknown, or there twice.
        """
        known = self.description
        self.modalities = check_names(_or_all(modalities, known.modalities), tuple(known.modalities), "modalities")
        self.targets = check_names(_or_all(targets, known.targets), tuple(known.targets), "targets")
        self.keys = (*self.modalities, *self.targets)
        self.bands = {key: known.modalities[key].bands for key in self.modalities}
        for key, names in bands.items():
            check_names((key,), self.modalities, "modalities with bands")
            self.bands[key] = check_names(names, known.modalities[key].bands, f"bands of {key}", empty=False)

    def _unlisted(self) -> dict[str, list[str]]:
        """Files of no sample, by key."""
        found = {key: self.store.strangers(key) for key in self.store.layouts if key in self.keys}
        return {key: names for key, names in found.items() if names}

    def _check_unlisted(self) -> None:
        """Refuse files of no sample, or warn about them, unless the description says that there may be some."""
        if "unlisted" in self.description.samples:
            return
        for key, names in self._unlisted().items():
            first = self.description.samples.get("table") or f"the files of {next(iter(self.store.layouts))}"
            what = (
                f"{self.description.source(key).where} {len(names)} files of {key} belong to no sample of {first}, the "
                f"first being {names[0]}"
            )
            if self.on_error == "raise":
                raise DescriptionError(
                    f"{what}. Add them there, correct the pattern or the names, or state unlisted = 'ignore' in "
                    '[samples]; on_error="skip" leaves them out'
                )
            tell_once(f"{what}; left out")

    def _warn_of_given_answers(self) -> None:
        """Warn about columns that are read and are to be predicted too."""
        for key in self.targets:
            asked = set(self.description.source(key).columns)
            for other in self.modalities:
                if both := sorted(asked & set(self.description.source(other).columns)):
                    tell_once(
                        f"{self.description.path}: [targets.{key}] asks for the column {both[0]!r}, which "
                        f"[modalities.{other}] gives away; leave one of them out"
                    )

    def _choose(self, whole: pd.DataFrame, split: str | None, scheme: str | None, fold: int) -> np.ndarray:
        """Rows of the samples of a split."""
        if split is not None and split not in SPLITS:
            raise SplitError(f"unknown split {split!r}; choose one of {SPLITS}, or None for all samples")
        if split is None:
            return np.arange(len(whole))
        rows = np.flatnonzero(sides_of(self.description, whole, scheme, fold, self.targets) == split)
        if not len(rows):
            raise SplitError(f"no sample of {self.root} is in split {split!r}; use a larger dataset or another scheme")
        return rows

    def _columns(self) -> dict[str, Source]:
        """The modalities and targets in the table."""
        sources = {key: self.description.source(key) for key in self.keys}
        return {key: source for key, source in sources.items() if source.columns}

    def _check_samples(self, whole: pd.DataFrame, chosen: np.ndarray) -> dict[str, str]:
        """Samples without a file or value of a modality, or with a damaged file, and the reason."""
        reasons: dict[str, str] = {}
        for key in self.keys:
            source = self.description.source(key)
            if source.files:
                bad = self.store.problems(key, chosen, thorough=self.on_error == "skip")
            elif key in self.modalities:
                values = read_column(source, whole.iloc[chosen])
                lacking = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
                what = f"no value in {source.table}, column {' or '.join(source.columns)}"
                bad = {whole.index[row]: what for row in chosen[lacking]}
            else:
                continue
            if bad and self.on_error == "raise":
                first, reason = next(iter(bad.items()))
                absent = MissingModalityError if type(self.store) is FileStore else RasterError
                error = TableError if source.columns else absent
                raise error(
                    f"{source.where} {len(bad)} of {len(chosen)} samples cannot be used, the first being {first} "
                    f'({reason}). Correct them, or give on_error="skip" to leave them out.'
                )
            for sample, reason in bad.items():
                reasons.setdefault(sample, f"{key}: {reason}")
        return reasons

    def _account(self, whole: pd.DataFrame, chosen: np.ndarray, split: str | None) -> Account:
        account = Account("samples", self.root)
        account.used = len(self.patch_ids)
        for sample, reason in self.skipped.items():
            account.leave_out(f"have no {reason.partition(':')[0]} that can be used", sample, reason)
        account.put_aside(f"are not in split {split!r}", len(whole) - len(chosen))
        for key, names in self._unlisted().items():
            account.put_aside(f"files of {key} belong to no sample, the first being {names[0]}", len(names))
        for key in self.store.layouts:
            infinite = set(self.store.infinite(key)) if key in self.keys else ()
            for sample in (name for name in self.patch_ids if name in infinite):
                account.note(f"have infinite pixels of {key}; they count as no data", sample)
        for key in self.targets:
            for sample in self._unlabelled(key):
                account.note(f"have no {key} (that is allowed)", sample, harmless=True)
        account.tell(stacklevel=3)
        return account

    def _unlabelled(self, key: str) -> list[str]:
        """Samples without a label of a target."""
        if key not in self._tables:
            return [name for name in self.store.unlabelled(key) if name in self.meta.index]
        values = self._tables[key]
        unknown = values.isnan() if values.is_floating_point() else values == IGNORE_INDEX
        return [self.patch_ids[row] for row in unknown.reshape(len(values), -1).any(dim=1).nonzero()[:, 0].tolist()]

    @cached_property
    def statistics(self) -> dict[str, Statistics]:
        """Statistics of each modality over all samples of the dataset, in any split: measured once and kept on disk."""
        return {
            key: self.store.statistics(key, on_error=self.on_error, progress=self.progress) for key in self.modalities
        }

    @cached_property
    def inputs(self) -> dict[str, Modality]:
        """The modalities, for encoders: `EarlyFusion(dataset.inputs)`.

        Raises:
            DescriptionError: the statistics contradict the stated unit, or a band is constant.
            RasterError: a file of any sample is damaged (with `on_error="raise"`).
        """
        return {
            key: as_modality(self.description.source(key), found, self.bands[key], self.shape(key))
            for key, found in self.statistics.items()
        }

    @property
    def stored(self) -> dict[str, dict[str, list[float]]]:
        """Facts about the files that a model keeps, by modality.

        `scale` and `offset` of each image by band, `no_data` of images and maps, and, if they say where they lie, the
        size of a `pixel` on the ground, see `pixel_of`.
        """
        found: dict[str, dict[str, list[float]]] = {}
        for key, layout in self.store.layouts.items():
            if key not in self.modalities:
                continue
            source, found[key] = self.description.source(key), {"no_data": list(layout.no_data)}
            if layout.extent:
                found[key]["pixel"] = list(pixel_of(layout.extent, layout.shape))
            if source.kind == "image":
                scale, offset = (each or (1.0 - n,) * len(source.bands) for n, each in enumerate(layout.scales(source)))
                indices = [source.bands.index(band) for band in self.bands[key]]
                found[key]["scale"] = [scale[place] for place in indices]
                found[key]["offset"] = [offset[place] for place in indices]
        return found

    @property
    def outputs(self) -> dict[str, Target]:
        """The targets by key."""
        return {key: self.description.source(key).target for key in self.targets}

    @property
    def simulated(self) -> bool:
        """True if the pixels are simulated: always False for a described dataset."""
        return False

    def shape(self, key: str) -> tuple[int, int]:
        """Rows and columns of an image or map; (0, 0) for anything else."""
        layout = self.store.layouts.get(key)
        return layout.shape if layout else (0, 0)

    def extent(self, key: str) -> tuple[float, ...]:
        """Width and height in metres of an image or map, from its first sample; empty if unknown, or of a column."""
        layout = self.store.layouts.get(key)
        return layout.extent if layout else ()

    def table(self, key: str) -> np.ndarray:
        """Values of all samples, (N, ...), of a modality or target in the table.

        Raises:
            BandError: the key is not in the table.
        """
        check_names((key,), tuple(self._columns()), f"keys in the table of {self.root}")
        return self._tables[key].numpy()

    def classes_seen(self, key: str, enough: int = IGNORE_INDEX) -> set[int]:
        """Indices of the classes that pixels of a map have which is a target; reading stops once `enough` were seen."""
        found: set[int] = set()
        for start in range(0, len(self), BATCH):
            for indices in self.store.read(key, self._rows[start : start + BATCH]).values():
                counts = np.bincount(indices.ravel(), minlength=IGNORE_INDEX)[:IGNORE_INDEX]
                found |= set(np.flatnonzero(counts).tolist())
            if len(found) >= enough:
                break
        return found

    def read_batch(self, indices: Sequence[int] | np.ndarray | Tensor) -> dict[str, Any]:
        """Several stored samples as a batch, for `decode`; see `PatchDataset.read_batch` for the indices.

        Raises:
            RasterError: a file is damaged, or differs from the others.
        """
        places = as_indices(indices, len(self))
        rows = self._rows[places]
        batch: dict[str, Any] = {}
        for key in self.keys:
            if key in self._tables:
                batch[key] = self._tables[key][torch.from_numpy(places)]
                continue
            for name, array in self.store.read(key, rows, self._wanted[key]).items():
                batch[name] = torch.from_numpy(array)
        batch["patch_id"] = [self.patch_ids[place] for place in places.tolist()]
        return batch

    def _arrays_of(self, key: str) -> Wanted:
        """The arrays that hold the requested bands of an image or map, and their positions in them."""
        source, layout = self.description.source(key), self.store.layouts[key]
        if source.kind != "image":
            return dict.fromkeys(layout.arrays)
        numbers = [source.bands.index(band) for band in self.bands[key]]
        wanted: dict[str, list[int] | None] = {}
        for name, (held, _) in layout.arrays.items():
            if chosen := [held.index(n) for n in numbers if n in held]:
                wanted[name] = None if chosen == list(range(len(held))) else chosen
        return wanted

    def decode(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Convert a batch of `read_batch` to the units of the description, on its device."""
        decoded = dict(batch)
        for key in self.keys:
            source, layout = self.description.source(key), self.store.layouts.get(key)
            parts = {name: decoded.pop(name) for name in (layout.arrays if layout else ()) if name in decoded}
            if layout is None or not parts:
                continue
            if source.kind == "image":
                found = self.statistics[key] if layout.no_data or layout.dtype.startswith("float") else None
                gaps = found is not None and min(found.count) < found.samples * math.prod(layout.shape)
                mean = found.mean if found else None
                decoded[key] = decode_image(source, layout, parts, self.bands[key], mean, gaps=gaps)
            else:
                (indices,) = parts.values()
                is_target = key in self.targets
                decoded[key] = indices.to(torch.int64) if is_target else decode_map(indices, len(source.classes))
        return decoded


def _or_all(names: Sequence[str] | None, known: Mapping[str, Any]) -> Sequence[str]:
    return tuple(known) if names is None else names

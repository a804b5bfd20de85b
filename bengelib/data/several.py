"""Several datasets read as one, such as packs of several regions, or on several disks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset

from bengelib.arguments import as_indices
from bengelib.data.patches import PatchDataset
from bengelib.errors import BandError, SplitError
from bengelib.modalities import Modality


class SeveralDatasets(ConcatDataset[Any]):
    """The samples of several datasets, in the order of the datasets; a batch may mix them.

    Attributes:
        inputs: the modalities, with the statistics of the first dataset.
    """

    def __init__(self, datasets: Sequence[Any]) -> None:
        """Join datasets of one kind of samples, such as `PackedBENGE` or `DescribedDataset`.

        Raises:
            BandError: their modalities, bands, units or sizes differ.
            SplitError: two of them have a sample of the same name.
        """
        super().__init__(datasets)
        self.inputs: dict[str, Modality] = datasets[0].inputs
        first = _facts(datasets[0])
        for data in datasets[1:]:
            other = _facts(data)
            if odd := [key for key in {**first, **other} if first.get(key) != other.get(key)]:
                raise BandError(
                    f"{datasets[0].root} gives {odd[0]} as {first.get(odd[0])}, and {data.root} as "
                    f"{other.get(odd[0])}; datasets that are read together have the same modalities, bands, units and "
                    "sizes"
                )
        self._alike = all(isinstance(data, PatchDataset) for data in datasets)  # else each has a layout of its own
        known: dict[str, Any] = {}
        for data in datasets:
            if twice := next((name for name in data.patch_ids if name in known), None):
                raise SplitError(f"{known[twice].root} and {data.root} both have a sample {twice}; give each only once")
            known |= dict.fromkeys(data.patch_ids, data)

    @property
    def patch_ids(self) -> list[str]:
        """The ids of all samples."""
        return [name for data in self.datasets for name in data.patch_ids]  # type: ignore[attr-defined]

    @property
    def meta(self) -> pd.DataFrame:
        """The common columns of their tables."""
        tables: list[pd.DataFrame] = [data.meta for data in self.datasets]  # type: ignore[attr-defined]
        return pd.concat(tables, join="inner")

    @property
    def groups(self) -> np.ndarray | None:
        """The group of each sample, (N,), which a blocked split keeps together; None if unknown for a dataset."""
        groups = [data.groups for data in self.datasets]  # type: ignore[attr-defined]
        return None if any(each is None for each in groups) else np.concatenate(groups)

    @property
    def stored(self) -> dict[str, dict[str, list[float]]]:
        """Facts about the files that a model keeps, of the first dataset."""
        found: dict[str, dict[str, list[float]]] = self.datasets[0].stored  # type: ignore[attr-defined]
        return found

    def table(self, key: str) -> np.ndarray:
        """Values of all samples, (N, ...), of a key in a table."""
        return np.concatenate([data.table(key) for data in self.datasets])  # type: ignore[attr-defined]

    def read_batch(self, indices: Sequence[int] | np.ndarray | Tensor) -> dict[str, Any]:
        """Several samples as a batch: stored if all datasets have the same layout, otherwise decoded.

        Args:
            indices: indices, (B,), from 0.

        Raises:
            ArgumentError: a boolean mask, or anything else that is not indices.
            IndexError: an index beyond the end.
        """
        places = as_indices(indices, len(self))
        of = np.searchsorted(self.cumulative_sizes, places, side="right")
        batch: dict[str, Any] = {}
        for number in np.unique(of).tolist() or [0]:
            data: Any = self.datasets[number]
            mine = np.flatnonzero(of == number)
            start = self.cumulative_sizes[number] - len(data)
            part = data.read_batch(places[mine] - start)
            part = part if self._alike else data.decode(part)
            if len(mine) == len(places):
                return part
            for key, values in part.items():
                _put(batch, key, mine, values, len(places))
        return {
            key: torch.from_numpy(values) if isinstance(values, np.ndarray) else values for key, values in batch.items()
        }

    def decode(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Convert a batch of `read_batch` to physical units, on its device."""
        return self.datasets[0].decode(batch) if self._alike else dict(batch)  # type: ignore[attr-defined]


def _facts(data: Any) -> dict[str, tuple[Any, ...]]:
    return {key: (each.kind, each.bands, each.unit, each.size) for key, each in data.inputs.items()}


def _put(batch: dict[str, Any], key: str, places: np.ndarray, values: Any, size: int) -> None:
    """Write the values of some samples, a tensor or a list, to their indices in a batch, an array or a list."""
    if isinstance(values, Tensor):  # NumPy, since torch does not index all of its unsigned types
        array = values.numpy()
        batch.setdefault(key, np.empty((size, *array.shape[1:]), array.dtype))[places] = array
        return
    target = batch.setdefault(key, [None] * size)
    for place, value in zip(places.tolist(), values, strict=True):
        target[place] = value

"""Datasets in which some labels are hidden: few labels for one task, many for another."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from bengelib.arguments import check_share
from bengelib.bands import IGNORE_INDEX, LAND_COVER_NO_DATA_CODE
from bengelib.data.splits import unit_hash
from bengelib.errors import MissingModalityError


def labelled_share(patch_ids: Sequence[str], fraction: float) -> np.ndarray:
    """Which patches keep their label when only a share of them is labelled, (N,) bool.

    It follows from a hash of the patch id, so a smaller share lies within a larger one, and a patch keeps its place
    when the set grows. At least one patch keeps its label.

    Raises:
        ValueError: `fraction` is not in (0, 1], or there are no patches.
    """
    check_share("fraction", fraction)
    if not patch_ids:
        raise ValueError(f"fraction {fraction} of no patches; there must be patches")
    ranks = np.argsort(np.argsort([unit_hash(f"labels {patch}") for patch in patch_ids]))
    share: np.ndarray = ranks < max(1, round(fraction * len(patch_ids)))
    return share


class HideLabels(Dataset[Any]):
    """A dataset with the labels of one target hidden for all but a share of its patches.

    Hidden are 255 where labels are integers, NaN where they are numbers; see `bengelib.tasks`. Inputs and other targets
    stay.
    """

    def __init__(self, data: Any, target: str, fraction: float) -> None:
        """Keep the labels of `target` for `fraction` of `data`, a `PackedBENGE` or `BENGE`.

        Raises:
            MissingModalityError: the dataset does not have the target.
            ValueError: see `labelled_share`.
        """
        if target not in data.keys:
            raise MissingModalityError(f"the dataset has no {target!r} to hide; it has {data.keys}")
        self.data, self.target = data, target
        self.labelled = labelled_share(data.patch_ids, fraction)

    def __getattr__(self, name: str) -> Any:
        """Everything else is as in the dataset below."""
        # `data` is asked for while unpickling; `__getitems__`, of DataLoader, would hand out labels past `__getitem__`.
        if name == "data" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.data, name)

    def __len__(self) -> int:
        """Number of patches."""
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """A sample, its label hidden or not."""
        sample = dict(self.data[index])
        if not self.labelled[index]:
            sample[self.target] = _hidden(torch.as_tensor(sample[self.target]))
        return sample

    def read_batch(self, indices: Sequence[int]) -> dict[str, Any]:
        """Several samples as they are stored, see `PackedBENGE.read_batch`."""
        batch = dict(self.data.read_batch(indices))
        hide = torch.from_numpy(~self.labelled[np.asarray(indices)])
        labels = batch[self.target].clone()
        labels[hide] = _hidden(labels[hide])
        batch[self.target] = labels
        return batch


def _hidden(labels: Tensor) -> Tensor:
    if labels.dtype == torch.uint8:  # stored land cover codes, which decoding turns into indices
        return torch.full_like(labels, LAND_COVER_NO_DATA_CODE)
    return torch.full_like(labels, float("nan") if labels.is_floating_point() else IGNORE_INDEX)

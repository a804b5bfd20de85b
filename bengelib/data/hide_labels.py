"""Datasets with hidden labels: few labels for one task, many for another."""

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
    """Mask of the patches that keep their label when only a fraction is labelled, (N,) bool.

    The order is that of a hash of the patch id, so a smaller fraction is part of a larger one, and patches keep their
    order when the set grows. At least one patch keeps its label.

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
    """A dataset with the labels of one target hidden for all but a fraction of its patches.

    Hidden labels are 255 for integers, NaN for floating-point numbers; see `bengelib.tasks`. Inputs and other targets
    are unchanged.
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
        """All other attributes are those of the wrapped dataset."""
        # `data` is accessed while unpickling; DataLoader's `__getitems__` would bypass `__getitem__` and its hiding.
        if name == "data" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.data, name)

    def __len__(self) -> int:
        """Number of patches."""
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """A sample, possibly with a hidden label."""
        sample = dict(self.data[index])
        if not self.labelled[index]:
            sample[self.target] = _hidden(torch.as_tensor(sample[self.target]))
        return sample

    def read_batch(self, indices: Sequence[int]) -> dict[str, Any]:
        """Several stored samples as a batch, see `PackedBENGE.read_batch`."""
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

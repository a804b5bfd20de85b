"""Running metrics of an evaluation: a mean, a confusion matrix, and the collected samples.

Each accumulates batches on their device and reads nothing back before `compute`. In several processes, `compute` must
be called in all of them and returns the result over all of them.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Protocol, Self

import torch
from torch import Tensor


class Metric(Protocol):
    """A state that `Task.update` adds batches to and `Task.summary` reads; `to` moves it before the first batch."""

    def to(self, device: torch.device) -> Self:
        """Move the state to a device."""


class Mean:
    """An exact weighted mean over batches and processes, in 64 bits if the device supports them; NaN propagates.

    Attributes:
        sums: sum of weight * value, and sum of the weights, (2,), of this process.
    """

    def __init__(self) -> None:
        """Start with empty sums."""
        self.sums = torch.zeros(2, dtype=torch.float64)

    def to(self, device: torch.device) -> Self:
        """Move the sums to a device; Apple's GPUs have no 64-bit floats."""
        self.sums = self.sums.to(device, torch.float32 if device.type == "mps" else torch.float64)
        return self

    def update(self, value: Tensor, weight: float | Tensor = 1.0) -> None:
        """Add a value, or each element of a tensor, with a weight."""
        value = value.detach().to(self.sums)
        self.sums[0] += value.sum() * weight
        self.sums[1] += value.numel() * weight

    def compute(self, empty: float = math.nan) -> float:
        """The mean; `empty` if the sum of the weights is 0."""
        total, weight = sum_over_processes(self.sums).tolist()
        return total / weight if weight else empty


class ConfusionMatrix:
    """Counts of (truth, prediction) over batches and processes, from which class metrics are exact."""

    def __init__(self, classes: int, ignore: int) -> None:
        """Count `classes` classes; samples whose truth is `ignore` are left out."""
        self.classes, self.ignore = classes, ignore
        self._counts = torch.zeros(classes * classes + 1, dtype=torch.int64)  # the last one counts ignored samples

    def to(self, device: torch.device) -> Self:
        """Move the counts to a device."""
        self._counts = self._counts.to(device)
        return self

    def update(self, predicted: Tensor, truth: Tensor) -> None:
        """Add class indices of one shape, from 0 to `classes` - 1; the truth may be `ignore`."""
        cell = torch.where(truth == self.ignore, self.classes**2, truth * self.classes + predicted).flatten()
        self._counts.scatter_add_(0, cell, torch.ones_like(cell))

    def compute(self) -> Tensor:
        """The counts (K, K) int64, rows the truth."""
        return sum_over_processes(self._counts)[:-1].view(self.classes, self.classes)


class Samples:
    """All samples of named tensors, for metrics that need them together, such as ranking metrics."""

    def __init__(self, names: Sequence[str]) -> None:
        """Collect the tensors of these names."""
        self._parts: dict[str, list[Tensor]] = {name: [] for name in names}

    def to(self, device: torch.device) -> Self:
        """Do nothing: samples stay on the device that computed them."""
        return self

    def update(self, values: Mapping[str, Tensor]) -> None:
        """Add the named tensors (B, ...) of one batch; others are ignored."""
        for name, parts in self._parts.items():
            parts.append(values[name].detach().float())

    def compute(self) -> dict[str, Tensor]:
        """Each tensor for all samples, (N, ...) float32, in the order of the processes.

        Empty, (0,), without samples.
        """
        if not _several_processes():
            return {name: torch.cat(parts) if parts else torch.empty(0) for name, parts in self._parts.items()}
        everyone: list[dict[str, Tensor]] = [{} for _ in range(torch.distributed.get_world_size())]
        mine = {name: torch.cat(parts).cpu() for name, parts in self._parts.items() if parts}
        torch.distributed.all_gather_object(everyone, mine)
        parts = {name: [their[name] for their in everyone if name in their] for name in self._parts}
        return {name: torch.cat(found) if found else torch.empty(0) for name, found in parts.items()}


def sum_over_processes(values: Tensor) -> Tensor:
    """Sum of a tensor over all processes, in each of them; the tensor itself is not changed."""
    values = values.clone()
    if _several_processes():
        torch.distributed.all_reduce(values)
    return values


def _several_processes() -> bool:
    available = torch.distributed.is_available() and torch.distributed.is_initialized()
    return available and torch.distributed.get_world_size() > 1

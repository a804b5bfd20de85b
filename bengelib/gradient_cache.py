"""Batches that are larger than the memory: forward in parts whose outputs alone are kept, and once more going backward.

Contrast compares every sample with all others of its batch, so a batch cannot be made up by adding the gradients of
several small ones: each would have its own few negatives. What can be done in parts is everything below the embeddings.
Gradient caching (Gao et al. 2021, arXiv:2101.06983) computes the embeddings of all parts without keeping what
led to them, then the loss of the whole batch and its gradient on the embeddings, and then goes through each part again
to carry that gradient on. Loss and gradient are those of one go, for a third more arithmetic. Here each part is a
segment of activation checkpointing (Chen et al. 2016, arXiv:1604.06174), which does the same, random numbers included.

BatchNorm is the exception: it normalises each part by itself.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from itertools import pairwise
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bengelib.errors import ArgumentError
from bengelib.transforms import Batch


@contextmanager
def in_parts(model: nn.Module, size: int | None) -> Iterator[None]:
    """Let a model, in training, work on `size` samples at a time at most, until the block is left; None is all.

    Args:
        model: takes a dict batch, returns a dict of outputs (B, ...).
        size: samples of a part; parts of a batch are equal, but for one sample.

    Raises:
        ArgumentError: when the model is called, if it cannot work in parts.
    """
    if size is None:
        yield
        return
    vars(model)["forward"] = _Parts(model, size)
    try:
        yield
    finally:
        vars(model).pop("forward", None)


class _Parts:
    """The forward pass of a model in parts."""

    def __init__(self, model: nn.Module, size: int) -> None:
        self.model, self.size, self.checked = model, size, False

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        forward: Callable[[Batch], dict[str, Tensor]] = partial(type(self.model).forward, self.model)
        count = next(len(value) for value in batch.values() if isinstance(value, Tensor))
        number = ceil(count / self.size)
        if number < 2 or not (self.model.training and torch.is_grad_enabled()):
            return forward(batch)
        before = {} if self.checked else {name: value.clone() for name, value in self.model.state_dict().items()}
        parts = [
            checkpoint(forward, part, use_reentrant=False, context_fn=lambda: (nullcontext(), _BuffersKept(self.model)))
            for part in split(batch, count, number)
        ]
        self._check(before, parts, count)
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _check(self, before: Mapping[str, Tensor], parts: Sequence[Mapping[str, Tensor]], count: int) -> None:
        """Refuse a model that takes all samples of a batch together, or that one part changes for the next."""
        for name, output in parts[0].items():
            if output.ndim == 0 or sum(len(part[name]) for part in parts) != count:
                raise ArgumentError(
                    f"the model's output {name!r} of shape {tuple(output.shape)} does not have a row for each sample, "
                    "so it cannot be computed in parts; leave micro_batch out"
                )
        after = self.model.state_dict()
        running = ("running_mean", "running_var", "num_batches_tracked")
        for name, value in before.items():
            if name.rpartition(".")[2] not in running and not torch.equal(value, after[name]):
                raise ArgumentError(
                    f"each forward pass changes {name!r} of the model, as a queue of keys does, so the parts of a "
                    "batch are not the batch; leave micro_batch out: with a queue, small batches have many negatives"
                )
        self.checked = True


def split(values: Any, count: int, number: int) -> list[Any]:
    """Cut a batch of `count` samples into `number` parts that are equal but for one sample; batches in batches too."""
    if isinstance(values, dict):
        columns = {key: split(value, count, number) for key, value in values.items()}
        return [{key: parts[place] for key, parts in columns.items()} for place in range(number)]
    if isinstance(values, (Tensor, list, tuple)) and len(values) == count:
        ends = [count * place // number for place in range(number + 1)]
        return [values[start:end] for start, end in pairwise(ends)]
    return [values] * number


class _BuffersKept(AbstractContextManager[None]):
    """A repeated forward pass, which must not count twice for running statistics; it may be repeated often."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def __enter__(self) -> None:
        self.before = [buffer.clone() for buffer in self.model.buffers()]

    def __exit__(self, *_: object) -> None:
        for buffer, value in zip(self.model.buffers(), self.before, strict=True):
            buffer.copy_(value)

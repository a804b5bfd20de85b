"""Gradient caching, for batches that exceed the memory: a forward pass in parts, repeated in the backward pass.

A contrastive loss compares every sample with all others of its batch, so accumulating the gradients of several small
batches is not the same: each would have only its own few negatives. Everything below the embeddings can be done in
parts, though.

Gradient caching (Gao et al. 2021, arXiv:2101.06983) computes the embeddings of all parts without storing activations,
then the loss of the whole batch and its gradient with respect to the embeddings, and then repeats the forward pass of
each part to backpropagate that gradient. Loss and gradient are those of the whole batch, for a third more compute. Here
each part is a segment of activation checkpointing (Chen et al. 2016, arXiv:1604.06174), which does the same and
restores random states. BatchNorm is the exception: it normalises each part on its own.
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
    """Run the training passes of a model on at most `size` samples at a time inside the block; None means all.

    Args:
        model: takes a dict batch, returns a dict of outputs (B, ...).
        size: samples of a part; the parts of a batch differ by at most one sample.

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
        """Refuse a model whose outputs are not per sample, or whose state changes from part to part."""
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
    """Split a batch of `count` samples, and nested batches, into `number` parts that differ by at most one sample."""
    if isinstance(values, dict):
        columns = {key: split(value, count, number) for key, value in values.items()}
        return [{key: parts[place] for key, parts in columns.items()} for place in range(number)]
    if isinstance(values, (Tensor, list, tuple)) and len(values) == count:
        ends = [count * place // number for place in range(number + 1)]
        return [values[start:end] for start, end in pairwise(ends)]
    return [values] * number


class _BuffersKept(AbstractContextManager[None]):
    """Context of a repeated forward pass, which must not update running statistics again."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def __enter__(self) -> None:
        self.before = [buffer.clone() for buffer in self.model.buffers()]

    def __exit__(self, *_: object) -> None:
        for buffer, value in zip(self.model.buffers(), self.before, strict=True):
            buffer.copy_(value)

"""Distributed training: a step of P processes with B samples each equals a step of one process with P x B samples.

DistributedDataParallel averages the gradients of the processes. That is the gradient of the joined batch if a loss is a
mean over samples and all processes have equally many. This module covers the rest: losses that compare the samples of
a batch, means over different numbers of labels, and the statistics of BatchNorm. In a single process it does nothing.
All processes must call these functions in the same order, with the same number of samples.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, distributed, nn


def count_processes() -> int:
    """Number of processes that train together."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def is_first_process() -> bool:
    """True if this is the process that writes files; true in a single process."""
    return count_processes() == 1 or distributed.get_rank() == 0


class _Gather(torch.autograd.Function):
    """Gather the rows of all processes; in the backward pass, each row gets the sum of its gradients in all of them."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        parts = [torch.empty_like(values) for _ in range(count_processes())]
        distributed.all_gather(parts, values)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total.chunk(count_processes())[distributed.get_rank()]


def gather_with_gradient(values: Tensor) -> Tensor:
    """Rows (B, ...) of every process as (P * B, ...), in the order of the processes, with gradients.

    Without gradients, as in validation, where processes have different numbers of samples, rows are not gathered.
    Each process may compute the same loss of all rows or a different one. The gradients of a row from all processes are
    added, so after DistributedDataParallel has divided by P, parameters have the gradient of the mean of the processes'
    losses. (Without that division it would be P times as large.)

    Args:
        values: the same number of rows in each process.
    """
    return _gather(values) if torch.is_grad_enabled() else values


def _gather(values: Tensor) -> Tensor:
    gathered: Tensor = _Gather.apply(values.contiguous()) if count_processes() > 1 else values
    return gathered


class JoinedOutputs(Mapping[str, Tensor]):
    """Outputs (B, ...) of a model for the samples of all processes; each is gathered when first accessed."""

    def __init__(self, outputs: Mapping[str, Tensor]) -> None:
        """Wrap the outputs of this process; see `gather_with_gradient`."""
        self._own, self._joined = outputs, dict[str, Tensor]()

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._joined:
            self._joined[name] = gather_with_gradient(self._own[name])
        return self._joined[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._own)

    def __len__(self) -> int:
        return len(self._own)


def join_losses(losses: Mapping[str, Tensor], weights: Mapping[str, float | Tensor]) -> dict[str, Tensor]:
    """Losses of the joined batch from those of this process, with equal values everywhere and the correct gradient.

    Args:
        losses: means over samples or labels of this process, () each.
        weights: number of samples or labels of each mean.

    Returns:
        Means over all processes, whose gradients, averaged over the processes, are those of the joined batch.
    """
    if count_processes() == 1:
        return dict(losses)
    values = torch.stack([loss.detach() for loss in losses.values()])  # (K,)
    own = torch.stack([torch.as_tensor(weights[name]).to(values) for name in losses])  # (K,)
    sums = torch.stack([values * own, own])  # (2, K); a NaN remains NaN, whatever its weight
    distributed.all_reduce(sums)
    total = sums[1].clamp(min=1)
    shares = torch.where(sums[1] > 0, own * count_processes() / total, 1.0)
    joined = {}
    for mean, share, (name, loss) in zip(sums[0] / total, shares, losses.items(), strict=True):
        scaled = loss * share
        joined[name] = mean + (scaled - scaled.detach())  # exactly the mean, in every process
    return joined


def mean_over_processes(values: Tensor) -> Tensor:
    """Mean of a tensor over all processes, in each of them; the tensor itself is not changed."""
    if count_processes() > 1:
        values = values / count_processes()
        distributed.all_reduce(values)
    return values


@contextmanager
def synchronised(model: nn.Module, wanted: bool = True) -> Iterator[None]:
    """Compute the statistics of BatchNorm over all processes inside the block.

    Like torch's SyncBatchNorm, which supports GPUs only.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    norms = norms if wanted and count_processes() > 1 else []
    for norm in norms:
        vars(norm)["forward"] = partial(_normalise_jointly, norm)
    try:
        yield
    finally:
        for norm in norms:
            vars(norm).pop("forward", None)


def _normalise_jointly(norm: nn.modules.batchnorm._BatchNorm, values: Tensor) -> Tensor:
    """BatchNorm of (B, C, ...) with mean and variance over all dimensions but C, in all processes."""
    if not norm.training:
        return type(norm).forward(norm, values)
    wide = values.to(torch.promote_types(values.dtype, torch.float32))
    over = [dim for dim in range(values.ndim) if dim != 1]
    variance, mean = torch.var_mean(wide, dim=over, correction=0)  # (C,) each, of this process
    means, variances = _gather(torch.stack([mean, variance])[None]).unbind(dim=1)  # (P, C) each
    mean = means.mean(dim=0)
    variance = variances.mean(dim=0) + (means - mean).square().mean(dim=0)
    if norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        step = 1 / int(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
        number = len(means) * math.prod(values.shape[dim] for dim in over)
        norm.running_mean.lerp_(mean.detach().to(norm.running_mean), step)
        norm.running_var.lerp_(variance.detach().to(norm.running_var) * (number / max(1, number - 1)), step)
    shape = [1, -1, *(1 for _ in over[1:])]
    scale = (variance + norm.eps).rsqrt()
    scale = scale if norm.weight is None else scale * norm.weight
    normalised = (wide - mean.view(shape)) * scale.view(shape)
    return (normalised if norm.bias is None else normalised + norm.bias.view(shape)).to(values.dtype)


def share_buffers(model: nn.Module) -> None:
    """Copy the running statistics of the first process to all others, which have seen other batches."""
    if count_processes() > 1:
        for buffer in model.buffers():
            distributed.broadcast(buffer, 0)


def everyone(value: Any) -> list[Any]:
    """The value of each process, in order, in all of them; for small objects, and waits for all processes."""
    found = [value] * count_processes()
    if len(found) > 1:
        distributed.all_gather_object(found, value)
    return found

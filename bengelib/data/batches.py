"""Decoded batches of a dataset on the device, in a seeded order, divided among the processes."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset, default_collate

from bengelib.arguments import as_indices, whole_number
from bengelib.errors import ArgumentError
from bengelib.modalities import require_same

if TYPE_CHECKING:
    from accelerate import Accelerator

Batch = dict[str, Any]


def source_dataset(data: Dataset[Any]) -> Any:
    """The dataset inside any `torch.utils.data.Subset`, which knows bands and collation."""
    while isinstance(data, Subset):
        data = data.dataset
    return data


def check_subsets(data: Dataset[Any]) -> None:
    """Refuse a `Subset` whose indices are not indices into its dataset, such as a mask.

    Raises:
        ArgumentError: the indices are of another kind.
        IndexError: an index beyond the end.
    """
    while isinstance(data, Subset):
        as_indices(data.indices, len(data.dataset))  # type: ignore[arg-type]
        data = data.dataset


def contents_of(data: Dataset[Any]) -> np.ndarray | None:
    """A hash of the content of each sample, (N,), equal for copies; None if the dataset has none."""
    if isinstance(data, Subset):
        contents = contents_of(data.dataset)
        return None if contents is None else contents[as_indices(data.indices, len(contents))]
    return getattr(data, "contents", None)


def check_bands(model: nn.Module, data: Dataset[Any]) -> None:
    """Refuse a dataset whose bands, band order or units differ from those of the model.

    Raises:
        BandError: naming both.
    """
    require_same(getattr(model, "inputs", {}), getattr(source_dataset(data), "inputs", {}))


def batch_order(
    size: int, batch_size: int, accelerator: "Accelerator", generator: torch.Generator | None
) -> list[list[int]]:
    """Indices of each batch of this process: shuffled and of equal number in training, otherwise in order and exact."""
    rank, processes = accelerator.process_index, accelerator.num_processes
    if generator is None:
        mine = list(range(size))[rank::processes]
    else:
        shuffled = torch.randperm(size, generator=generator).tolist()
        share = math.ceil(size / processes)
        mine = (shuffled + shuffled[: share * processes - size])[rank::processes]
    batches = [mine[start : start + batch_size] for start in range(0, len(mine), batch_size)]
    if generator is not None and len(batches) > 1 and len(batches[-1]) == 1:
        last = batches.pop()  # a batch of one has no variance for BatchNorm, so it joins the batch before
        batches[-1] = batches[-1] + last
    return batches


def steps_per_epoch(size: int, batch_size: int, processes: int = 1) -> int:
    """Number of training batches of `batch_order`; a last batch of one sample is merged with the one before.

    Raises:
        ArgumentError: fewer samples than processes.
    """
    if size < processes:
        raise ArgumentError(f"{processes} processes cannot share {size} samples; start {size} or fewer")
    full, rest = divmod(math.ceil(size / processes), batch_size)
    return full + (rest > 1 or (rest == 1 and full == 0))


def batches(
    data: Dataset[Any],
    batch_size: int,
    accelerator: "Accelerator",
    workers: int,
    generator: torch.Generator | None = None,
    done: int = 0,
) -> Iterator[Batch]:
    """Decoded batches on the device, without the first `done`; the next one is loaded while the caller computes.

    Raises:
        ArgumentError: an invalid batch size or number of workers, or a `Subset` of a mask.
    """
    batch_size, workers = whole_number("batch_size", batch_size), whole_number("workers", workers, 0)
    device = accelerator.device
    check_subsets(data)
    order = batch_order(len(data), batch_size, accelerator, generator)[done:]  # type: ignore[arg-type]
    decode: Callable[[Batch], Batch] = getattr(source_dataset(data), "decode", dict)
    loader: Iterable[Batch]
    read_batch = None if workers else _batch_reader(data)
    if read_batch is not None:
        loader = (_pinned(read_batch(indices), device) for indices in order)
    else:
        pin = device.type == "cuda"
        loader = DataLoader(data, batch_sampler=order, collate_fn=default_collate, num_workers=workers, pin_memory=pin)
    ready: Batch | None = None
    for stored in loader:
        if device.type == "mps":  # Apple's GPUs have no unsigned 16-bit integers
            stored = decode(stored)
        coming = {
            key: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
            for key, value in stored.items()
        }
        if ready is not None:
            yield decode(ready)
        ready = coming
    if ready is not None:
        yield decode(ready)


def read_samples(data: Dataset[Any], indices: Sequence[int]) -> Batch:
    """The samples at some indices as one stored batch."""
    read_batch = _batch_reader(data)
    batch: Batch = read_batch(indices) if read_batch else default_collate([data[index] for index in indices])
    return batch


def _batch_reader(data: Dataset[Any]) -> Callable[[Sequence[int]], Batch] | None:
    """The method that reads stored batches, None if the dataset has none or applies a transform."""
    if isinstance(data, Subset):
        inner, chosen = _batch_reader(data.dataset), data.indices
        return None if inner is None else lambda indices: inner([chosen[index] for index in indices])
    return getattr(data, "read_batch", None) if getattr(data, "transform", None) is None else None


def _pinned(batch: Batch, device: torch.device) -> Batch:
    """The batch in pinned memory if its destination is a GPU, so that the copy overlaps with the computation."""
    if device.type != "cuda":
        return batch
    return {key: value.pin_memory() if isinstance(value, Tensor) else value for key, value in batch.items()}

"""Checks and times pretraining on a GPU in at most five minutes: `python -m bengelib bench gpu`.

SimCLR on Sentinel-2 and Sentinel-1 patches (14 bands, 120 x 120), with ResNet-18 and -50, in fp32 and bf16, with and
without `torch.compile`, always with channels last; fed from memory and from a pack; and an interrupted and resumed
training. Without a GPU a tiny version runs, which only shows that the check works.
"""

import statistics
import tempfile
import time
import warnings
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.utils.data import Dataset
from tqdm import tqdm

from bengelib.arguments import whole_number
from bengelib.cli.bench import refuse_described
from bengelib.cli.bench_pretrain import INPUTS
from bengelib.cores import device_name
from bengelib.data.loading import load
from bengelib.data.packing import pack
from bengelib.engine import Trainer
from bengelib.fusion import EarlyFusion
from bengelib.recipes.pretraining import strong_views
from bengelib.sim.simulate import simulate
from bengelib.ssl import Contrast, SiameseNetwork
from bengelib.transforms import Batch
from bengelib.views import TwoViews

SECONDS = 180
"""Time after which no further row is started."""
_WARM_UP = 3
"""Warm-up steps, in which kernels are chosen or compiled."""


class _Cut(Exception):
    """Ends a training in the middle."""


class _Watched:
    """Views that record the start time of each step."""

    def __init__(self, size: int, last: int | None = None) -> None:
        self._make, self._last = TwoViews(strong_views(size)), last
        self._times: list[float] = []

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        if len(self._times) == self._last:
            raise _Cut
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self._times.append(time.perf_counter())
        return self._make(batch, generator)

    def rate(self, batch_size: int) -> float:
        """Samples per second, the median over the steps."""
        return batch_size / statistics.median(np.diff(self._times[_WARM_UP:]))


def bench_gpu(
    root: str | Path | None = None,
    *,
    batch_size: int | None = None,
    rounds: int = 20,
    patches: int = 256,
    progress: bool = True,
) -> pd.DataFrame:
    """Time the steps of a pretraining on the GPU, or try them on the CPU if there is none.

    Args:
        root: a dataset of ben-ge or its pack; by default simulated patches.
        batch_size: patches per step; 256 on a GPU, 4 without one.
        rounds: number of timed steps.
        patches: number to simulate, on a CPU at most 8.
        progress: whether to show a progress bar.

    Returns:
        A row for each kind of network: `in memory` and `from the pack` (samples per second), `of memory` (the ratio),
        `waits/step` (how often Python waits for the GPU) and `GB` (the most memory that was taken); and in
        `attrs["notes"]` the card, what did not run for want of time, and how far a resumed training is from a whole.

    Raises:
        ArgumentError: a dataset with a `dataset.toml`.
    """
    if root is not None:
        refuse_described(root)
    on_gpu, began = torch.cuda.is_available(), time.monotonic()
    batch_size = whole_number("batch_size", (256 if on_gpu else 4) if batch_size is None else batch_size, 2)
    rounds, patches = whole_number("rounds", rounds if on_gpu else 2, 2), patches if on_gpu else min(patches, 8)
    depths, width, size = ((18, 50), 1.0, 64) if on_gpu else ((18,), 0.125, 16)
    kinds = list(product((False, True), depths, ("no", "bf16")))
    rows: dict[str, list[float]] = {}
    left: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        if root is None:
            root = simulate(Path(folder) / "ben-ge-sim", patches, progress=progress)
            pack(root, progress=progress)
        stored = load(root, progress=progress)
        sources = {"in memory": batch_size, "from the pack": 0}
        for compiled, depth, precision in tqdm(kinds, unit="row", disable=not progress):
            name = f"ResNet-{depth}, {'fp32' if precision == 'no' else precision}{', compiled' if compiled else ''}"
            if time.monotonic() - began > SECONDS or (compiled and not on_gpu):
                left.append(name)
                continue
            rates = []
            for held in sources.values():
                data = Repeated(stored, batch_size * (rounds + _WARM_UP + 1), held)
                watched = _Watched(size)
                _train(data, depth, width, precision, compiled, watched, batch_size)
                rates.append(watched.rate(batch_size))
            data = Repeated(stored, 2 * batch_size, batch_size)
            waits, most = _waits(data, depth, width, precision, compiled, size, batch_size)
            rows[name] = [*rates, rates[1] / rates[0], waits, most / 1e9]
        notes = [_resumed(Path(folder), Repeated(stored, 8 * batch_size), width, size, batch_size)]
    columns = [*sources, "of memory", "waits/step", "GB"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("network")
    where = "No GPU here: these figures say that the check runs, and nothing about a GPU."
    where = f"Device: {device_name()}." if on_gpu else where
    table.attrs["notes"] = ["", where, *notes, *([f"Not run: {'; '.join(left)}."] if left else [])]
    return table


class Repeated(Dataset[Any]):
    """Any number of samples of a dataset, repeated in a new order each time."""

    def __init__(self, data: Any, count: int, held: int = 0) -> None:
        """Repeat `data`.

        Args:
            data: of ben-ge.
            count: samples.
            held: number of samples that are read once and returned for all others; 0 reads each.
        """
        self.inputs, self._data = data.inputs, data
        random = np.random.default_rng(0)
        times = -(-max(count, held) // len(data))
        self._places = np.concatenate([random.permutation(len(data)) for _ in range(times)])
        self._count, self._held = count, data.read_batch(self._places[:held]) if held else None

    def __len__(self) -> int:
        """Number of samples."""
        return self._count

    def read_batch(self, indices: Any) -> Batch:
        """Stored samples."""
        if self._held is not None:
            return {key: values[: len(indices)] for key, values in self._held.items()}
        batch: Batch = self._data.read_batch(self._places[np.asarray(indices)])
        return batch

    def decode(self, batch: Batch) -> Batch:
        """Samples in their units."""
        decoded: Batch = self._data.decode(batch)
        return decoded


def _train(
    data: Dataset[Any],
    depth: int,
    width: float,
    precision: str,
    compiled: bool,
    views: Any,
    batch_size: int,
    **options: Any,
) -> float:
    """Train for an epoch; return the last loss."""
    torch.manual_seed(0)
    model = SiameseNetwork(EarlyFusion(INPUTS, depth, width), 128, hidden=512)
    if compiled:
        model.encoder.compile()
    trainer = Trainer(precision=precision, progress=False)
    history = trainer.fit(model, [Contrast()], data, epochs=1, batch_size=batch_size, augment=views, **options)
    return float(history.rows[-1]["train/loss"])


def _waits(
    data: Dataset[Any], depth: int, width: float, precision: str, compiled: bool, size: int, batch_size: int
) -> tuple[float, int]:
    """Number of waits for the GPU per step, and its peak memory in bytes; zero without a GPU."""
    if not torch.cuda.is_available():
        return float("nan"), 0
    torch.cuda.reset_peak_memory_stats()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            _train(data, depth, width, precision, compiled, TwoViews(strong_views(size)), batch_size)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    waits = sum("synchroniz" in str(each.message) for each in said)
    return waits / (len(data) // batch_size), torch.cuda.max_memory_allocated()  # type: ignore[arg-type]


def _resumed(folder: Path, data: Dataset[Any], width: float, size: int, batch_size: int) -> str:
    """Interrupt and resume a training, and compare its loss with that of an uninterrupted one."""
    options: dict[str, Any] = {"checkpoint": folder / "checkpoints", "checkpoint_every": 0}
    whole = _train(data, 18, width, "no", False, _Watched(size), batch_size)
    with suppress(_Cut):
        _train(data, 18, width, "no", False, _Watched(size, 5), batch_size, **options)
    resumed = _train(data, 18, width, "no", False, _Watched(size), batch_size, **options)
    same = "the same" if whole == resumed else f"different by {abs(whole - resumed) / abs(whole):.1e}"
    return f"A training that was cut off after 5 of 8 steps and resumed: mean loss {resumed:.4f}, {same}."

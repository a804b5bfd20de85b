"""Measures how fast an encoder is pretrained in one process and in several: `python -m bengelib bench pretrain`.

Each run is a training of its own, started as by `torchrun`, with one thread a process, of SimCLR as the command
`pretrain` trains it, on patches made of noise that stay in memory: so what is measured is the making of views, the
step, and what the processes have to tell each other.
"""

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch.utils.data import Dataset
from tqdm import tqdm

from bengelib.arguments import real_number, whole_number
from bengelib.bands import S1_BANDS, S2_BANDS
from bengelib.engine import Trainer, seed_everything
from bengelib.errors import BengeError
from bengelib.recipes.pretraining import Pretraining, build_encoder, pretext, strong_views
from bengelib.transforms import Batch

FULL_SET = 590_326
"""Patches of ben-ge."""
WARM_UP = 2
"""Steps that do not count: libraries choose their kernels in them."""
INPUTS = {"s2": S2_BANDS, "s1": S1_BANDS}


class _Noise(Dataset[Any]):
    """As many patches of 120 x 120 pixels as wanted, a few of them again and again."""

    def __init__(self, count: int, batch_size: int) -> None:
        self.count = count
        self.batch = {
            key: torch.randn(batch_size, len(bands), 120, 120, generator=torch.Generator().manual_seed(0))
            for key, bands in INPUTS.items()
        }

    def __len__(self) -> int:
        return self.count

    def read_batch(self, indices: Sequence[int]) -> Batch:
        return {key: values[: len(indices)] for key, values in self.batch.items()}


def bench_pretrain(
    *, processes: int = 2, batch_size: int = 64, precision: str = "auto", rounds: int = 7, progress: bool = True
) -> pd.DataFrame:
    """Time the steps of a pretraining in one process, in several, and in one that writes a checkpoint after each.

    Args:
        processes: how many the second run has.
        batch_size: patches per step and process.
        precision: see `bengelib.devices.choose_precision`.
        rounds: how many steps are timed.
        progress: whether to show a progress bar.

    Returns:
        One row per run: `samples/s` of all its processes together (median over the steps), `lowest`, `highest`,
        `x one process`, and of a checkpoint its `seconds` and their share `of 10 minutes`, the time between two of
        them.

    Raises:
        BengeError: a run failed; the message is the last line of its output.
        ValueError: no steps, a batch with nothing to compare, or fewer than two processes.
    """
    rounds, batch_size = whole_number("rounds", rounds), whole_number("batch_size", batch_size, 2)
    count = whole_number("processes", processes, 2)
    runs = {"1 process": (1, False), f"{count} processes": (count, False), "1, a checkpoint each step": (1, True)}
    bar = tqdm(runs.values(), unit="run", disable=not progress)
    rates = [_rates(number, batch_size, precision, rounds, kept) for number, kept in bar]
    medians = [statistics.median(each) for each in rates]
    seconds = max(0.0, batch_size / medians[2] - batch_size / medians[0])
    table = pd.DataFrame(
        {
            "processes": list(runs),
            "samples/s": medians,
            "lowest": [min(each) for each in rates],
            "highest": [max(each) for each in rates],
            "x one process": [median / medians[0] for median in medians],
            "seconds": [math.nan, math.nan, seconds],
            "of 10 minutes": [math.nan, math.nan, seconds / 600],
        }
    ).set_index("processes")
    longest = hours(FULL_SET, 1000, 2, 2 * medians[1])
    words = (
        f"{FULL_SET:,} patches, 1000 epochs and two views take {longest:,.0f} hours at the rate of {count} processes."
    )
    table.attrs["notes"] = ["", words]
    return table


def hours(patches: int, epochs: int, views: int, images_per_second: float) -> float:
    """Hours of a pretraining.

    Args:
        patches: samples of an epoch.
        epochs: passes over them.
        views: images of each that pass through the encoder, forward and backward.
        images_per_second: of all devices together.

    Raises:
        ArgumentError: no rate.
    """
    return patches * epochs * views / real_number("images_per_second", images_per_second, above=0) / 3600


def _rates(processes: int, batch_size: int, precision: str, rounds: int, kept: bool) -> list[float]:
    """Samples per second of each step of a run."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    with tempfile.TemporaryDirectory() as folder:
        arguments = [folder, str(batch_size), precision, str(rounds), str(int(kept))]
        command = [sys.executable, *launcher, "-m", "bengelib.cli.bench_pretrain", *arguments]
        done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, encoding="utf-8")
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if "Error" in line] or ["nothing"]
            raise BengeError(f"the run in {processes} processes failed: {said[-1]}")
        lines = [json.loads(line) for line in (Path(folder) / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [line["samples_per_second"] for line in lines if "samples_per_second" in line][WARM_UP:]


def _train(folder: str, batch_size: int, precision: str, rounds: int, kept: bool = False) -> None:
    """One process of a run; each line of the log is one step."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    settings = Pretraining(epochs=1, batch_size=batch_size, precision=precision)
    seed_everything(0)
    encoder = build_encoder(INPUTS, settings.method, settings.depth, settings.width)
    data = _Noise(batch_size * processes * (rounds + WARM_UP), batch_size)
    made = pretext(encoder, data, strong_views(settings.size), settings)
    trainer = Trainer(precision=precision, monitor_every=1, progress=False, log=folder)
    trainer.fit(
        made.model,
        made.tasks,
        data,
        epochs=1,
        batch_size=batch_size,
        augment=made.augment,
        checkpoint=Path(folder) / "checkpoints" if kept else None,
        checkpoint_every=0,
    )


if __name__ == "__main__":
    _train(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5] == "1")

"""Measures how fast an encoder is pretrained in one process and in several: `python -m bengelib bench pretrain`.

Each run is a training of its own, started as by `torchrun`, with one thread a process, of SimCLR as the command
`pretrain` trains it, on patches made of noise that stay in memory: so what is measured is the making of views, the
step, and what the processes have to tell each other.
"""

import json
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

from bengelib.arguments import whole_number
from bengelib.bands import S1_BANDS, S2_BANDS
from bengelib.engine import Trainer, seed_everything
from bengelib.errors import BengeError
from bengelib.recipes.pretraining import Pretraining, build_encoder, pretext, strong_views
from bengelib.transforms import Batch

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
    """Time the steps of a pretraining in one process and in several.

    Args:
        processes: how many the second run has.
        batch_size: patches a step and a process.
        precision: see `bengelib.devices.choose_precision`.
        rounds: how many steps are timed.
        progress: whether to show a progress bar.

    Returns:
        A row for each run: `samples/s` of all its processes together (median over the steps), `lowest`, `highest`, and
        `x one process`.

    Raises:
        BengeError: a run failed; the message is the last line that it has said.
        ValueError: no steps, a batch with nothing to compare, or no several processes.
    """
    rounds, batch_size = whole_number("rounds", rounds), whole_number("batch_size", batch_size, 2)
    runs = [1, whole_number("processes", processes, 2)]
    rates = [_rates(count, batch_size, precision, rounds) for count in tqdm(runs, unit="run", disable=not progress)]
    return pd.DataFrame(
        {
            "processes": [f"{count} process{'' if count == 1 else 'es'}" for count in runs],
            "samples/s": [statistics.median(each) for each in rates],
            "lowest": [min(each) for each in rates],
            "highest": [max(each) for each in rates],
            "x one process": [statistics.median(each) / statistics.median(rates[0]) for each in rates],
        }
    ).set_index("processes")


def _rates(processes: int, batch_size: int, precision: str, rounds: int) -> list[float]:
    """Samples per second of each step of a run."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    with tempfile.TemporaryDirectory() as folder:
        arguments = [folder, str(batch_size), precision, str(rounds)]
        command = [sys.executable, *launcher, "-m", "bengelib.cli.bench_pretrain", *arguments]
        done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, encoding="utf-8")
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if "Error" in line] or ["nothing"]
            raise BengeError(f"the run in {processes} processes failed: {said[-1]}")
        lines = [json.loads(line) for line in (Path(folder) / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [line["samples_per_second"] for line in lines if "samples_per_second" in line][WARM_UP:]


def _train(folder: str, batch_size: int, precision: str, rounds: int) -> None:
    """What each process of a run does; a line of the log is one step."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    settings = Pretraining(epochs=1, batch_size=batch_size, precision=precision)
    seed_everything(0)
    encoder = build_encoder(INPUTS, settings.method, settings.depth, settings.width)
    data = _Noise(batch_size * processes * (rounds + WARM_UP), batch_size)
    made = pretext(encoder, data, strong_views(settings.size), settings)
    trainer = Trainer(precision=precision, monitor_every=1, progress=False, log=folder)
    trainer.fit(made.model, made.tasks, data, epochs=1, batch_size=batch_size, augment=made.augment)


if __name__ == "__main__":
    _train(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))

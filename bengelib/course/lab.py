"""Settings of every lab (the amount of data, the number of runs, the note of its figures), and its trainings."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from torch import nn
from torch.utils.data import Dataset

from bengelib.data.loading import SIMULATED, is_simulated
from bengelib.engine import History, Trainer
from bengelib.errors import CheckpointError
from bengelib.files import claimed, discard
from bengelib.tasks import Task

SECONDS_LOST = 30.0
"""Seconds between checkpoints: the training that an ended kernel costs at most."""


class LabSettings(NamedTuple):
    """Settings that follow from the knobs of all labs.

    `patches` is the number of patches to simulate, None for real data; `seeds` has one number per training run; `note`
    states the source of the data in figures, and `simulated` whether they are simulated.
    """

    patches: int | None
    seeds: tuple[int, ...]
    note: str
    simulated: bool


def lab_settings(
    dataset: str, full: bool, patches: int | None = None, seeds: Sequence[int] | None = None
) -> LabSettings:
    """The settings for the knobs `DATASET`, `FULL`, `PATCHES` and `SEEDS`; tables are shown with their cells whole.

    Args:
        dataset: a name or a path, as for `load`.
        full: whether to use more patches and runs by default.
        patches: number to simulate; by default 1000, with `full` 4000.
        seeds: by default three, with `full` five.
    """
    pd.set_option("display.max_colwidth", None)
    name, simulated = Path(dataset).name, is_simulated(dataset)  # by the data, not their name
    patches = (patches or (4000 if full else 1000)) if dataset == SIMULATED else None
    note = f"simulated data ({name}), not measurements" if simulated else name
    return LabSettings(patches, tuple(seeds or range(5 if full else 3)), note, simulated)


def fit_or_resume(
    trainer: Trainer,
    model: nn.Module,
    tasks: Sequence[Task],
    train: Dataset[Any],
    val: Dataset[Any] | None = None,
    **options: Any,
) -> History:
    """Train like `trainer.fit`, and go on after an interruption if the same call is made again, also by a new kernel.

    Checkpoints lie in `checkpoints/` of the current folder until the training is complete, under a name made of the
    model, its first weights, the tasks and the numbers among `options`. If those found there are of other settings or
    data, the training begins anew and says so. A second process with the same training keeps none.

    Args:
        trainer: its `fit` is called, and describes the other arguments.
        model: as built, untrained.
        tasks: see `Trainer.fit`.
        train: see `Trainer.fit`.
        val: see `Trainer.fit`.
        **options: see `Trainer.fit`.
    """
    begin = [value.detach().flatten()[:4].tolist() for value in model.parameters()]
    plain = {key: value for key, value in sorted(options.items()) if isinstance(value, int | float)}
    named = f"{model}{begin}{[task.target for task in tasks]}{plain}"
    folder = Path("checkpoints", f"unfinished-{sha256(named.encode()).hexdigest()[:12]}")
    with claimed(folder.with_suffix(".lock")) as alone:
        if not alone:
            return trainer.fit(model, tasks, train, val, **options)
        options = {**options, "checkpoint": folder, "checkpoint_every": SECONDS_LOST}
        try:
            history = trainer.fit(model, tasks, train, val, **options)
        except CheckpointError as error:
            print(f"An unfinished training is not this one, which begins anew: {error}")
            discard(folder)
            history = trainer.fit(model, tasks, train, val, **options)
        discard(folder)
        return history


def describe_sample(sample: Mapping[str, Any], keys: Sequence[str]) -> pd.DataFrame:
    """Shape and type of some named tensors of a sample."""
    rows = [(key, tuple(sample[key].shape), str(sample[key].dtype)) for key in keys]
    return pd.DataFrame(rows, columns=["key", "shape", "type"])

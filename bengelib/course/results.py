"""The runs of a study and the tidy table of their results, with one number per row.

The columns of the table describe a number completely, so names need not be parsed.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from bengelib.data.loading import SIMULATED, load
from bengelib.errors import TableError
from bengelib.files import replacing
from bengelib.intervals import POOLED, Interval, pool

COLUMNS = (
    "dataset",
    "experiment",
    "model",
    "target",
    "metric",
    "split",
    "label_fraction",
    "condition",
    "seed",
    "value",
    "config",
)
"""`seed` is a number, or `all` for values pooled over seeds; `config` is the fingerprint of the configuration."""
CHOSEN = "BENGE_STUDY_DATASET"
"""Environment variable with the dataset of a study, if not the simulated one."""


def study_dataset() -> str:
    """The dataset of the runs of a study: the simulated one, unless `CHOSEN` names another."""
    return os.environ.get(CHOSEN) or SIMULATED


def fingerprint(configuration: Any) -> str:
    """Twelve hexadecimal digits that change when any field of a frozen dataclass (or a mapping) does."""
    fields = dict(configuration) if isinstance(configuration, Mapping) else asdict(configuration)
    text = json.dumps(fields, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def run_path(folder: Path, run: "Run") -> Path:
    """The file in `folder` for the results of a run, named after the fingerprint of its configuration."""
    return folder / f"{fingerprint(run)}.npz"


@dataclass(frozen=True)
class Run:
    """One run of a study: everything that determines its results.

    A study derives its own class with further fields and its own defaults. A field that is renamed, added or changed
    changes the fingerprint of every run, and makes the rows of a table stale.
    """

    experiment: str
    model: str
    _: KW_ONLY
    inputs: tuple[str, ...] = ("s2",)
    label_fraction: float = 1.0
    width: float = 0.5
    seed: int = 0
    dataset: str = field(default_factory=study_dataset)
    patches: int = 2500
    epochs: int = 3
    batch_size: int = 32
    lr: float = 2e-3

    REPEATS: ClassVar[tuple[str, ...]] = ("seed",)
    """The fields in which the repetitions of one configuration differ."""

    @property
    def config(self) -> str:
        """The common fingerprint of all repetitions of this run."""
        first: dict[str, Any] = dict.fromkeys(self.REPEATS, 0)
        return fingerprint(replace(self, **first))

    @property
    def split(self) -> str:
        """The kind of split: `"random"`, or `"blocked"` with whole tiles held out."""
        return "random"

    def load(self, split: str | None, modalities: Sequence[str], targets: Sequence[str], **options: Any) -> Any:
        """One split of the data of the run; `options` such as `scheme` and `fold` are those of `loading.load`."""
        patches = self.patches if self.dataset == SIMULATED else None
        return load(self.dataset, split, modalities, targets, patches=patches, **options)


class Arrays(dict[str, np.ndarray]):
    """All arrays of a run by name, read at once, so that no file stays open."""

    def __init__(self, path: Path) -> None:
        """Read the `.npz` file of a run."""
        with np.load(path) as stored:
            super().__init__({name: stored[name] for name in stored.files})

    @property
    def files(self) -> list[str]:
        """Names of the arrays, as NumPy calls them."""
        return list(self)


class Table:
    """Rows of results.csv, collected from the runs of a study.

    Attributes:
        runs: the runs, in the order of the study.
        stored: the arrays of each run.
        rows: the rows so far, for `write_results`.
    """

    def __init__(self, runs: Sequence[Run], folder: Path) -> None:
        """Open the results of `runs` in `folder`."""
        self.runs = tuple(runs)
        self.stored = {run: Arrays(run_path(folder, run)) for run in runs}
        self.rows: list[dict[str, Any]] = []

    def of(self, experiment: str, model: str, **fields: Any) -> tuple[Any, ...]:
        """The runs of one model in one experiment, in the order of the study, with given values of other `fields`."""
        wanted = {"experiment": experiment, "model": model, **fields}
        return tuple(run for run in self.runs if all(getattr(run, name) == value for name, value in wanted.items()))

    def row(self, run: Run, **columns: Any) -> dict[str, Any]:
        """The columns of a run, and others."""
        return {
            "dataset": run.dataset,
            "experiment": run.experiment,
            "model": run.model,
            "target": "",
            "split": run.split,
            "label_fraction": run.label_fraction,
            "condition": "clear",
            "seed": POOLED,
            "config": run.config,
        } | columns

    def write(self, run: Run, value: float, **columns: Any) -> None:
        """Add one number."""
        self.rows.append(self.row(run, **columns) | {"value": float(value)})

    def write_scores(self, run: Run, scores: np.ndarray, seeds: Iterable[int | str] = (), **columns: Any) -> None:
        """Add the interval of scores (S, 1 + D), pooled over runs, and the score of each of the S runs by its seed.

        Args:
            run: one of the runs, for the columns.
            scores: from `intervals.score_runs`.
            seeds: a name for each run; without them only the interval is written.
            **columns: at least `metric`.
        """
        row = self.row(run, **columns)
        self.rows += interval_rows(row, pool(scores))
        seeds = list(seeds)
        for seed, values in zip(seeds, scores if seeds else (), strict=True):
            self.rows.append({**row, "seed": seed, "value": values[0]})

    def write_difference(
        self, run: Run, scores: np.ndarray, reference: np.ndarray, *, metric: str, against: str, **columns: Any
    ) -> None:
        """Add the interval of the paired difference to a reference, as the metric `<metric>_minus_<against>`.

        Args:
            run: one of the runs, for the columns.
            scores: (S, 1 + D), from `intervals.score_runs`.
            reference: (T, 1 + D), in the same resamples of test patches.
            metric: of both.
            against: a name for the reference.
            **columns: others.
        """
        row = self.row(run, metric=f"{metric}_minus_{against}", **columns)
        self.rows += interval_rows(row, pool(scores, reference))


def read_results(path: Path | str) -> pd.DataFrame:
    """The table at `path`, a file (empty if it does not exist) or an address on the web.

    Raises:
        TableError: the file is not a table, or has other columns.
    """
    if isinstance(path, Path) and not path.is_file():
        return pd.DataFrame(columns=list(COLUMNS))
    try:  # an empty cell is an empty text, but NaN in `value`: a missing score
        table = pd.read_csv(
            path,
            dtype={"seed": str, "config": str, "condition": str},
            keep_default_na=False,
            na_values={"value": [""]},
        )
    except ValueError as error:  # pandas' parser errors are ValueErrors
        raise TableError(f"cannot read {path} ({error}). Run the study again.") from error
    if tuple(table.columns) != COLUMNS:
        raise TableError(f"{path} has the columns {list(table.columns)}, not {list(COLUMNS)}. Run the study again.")
    return table


def write_results(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows (each with a value for every one of `COLUMNS`), sorted, atomically.

    Args:
        path: the file, in an existing folder.
        rows: `value` is a number, NaN if missing.
    """
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table["seed"] = table["seed"].astype(str)
    table["value"] = table["value"].astype(float).round(5)
    table = table.sort_values(list(COLUMNS[:-2]), kind="stable")
    with replacing(path) as partial:
        table.to_csv(partial, index=False, lineterminator="\n")


def interval_rows(row: Mapping[str, Any], interval: Interval) -> list[dict[str, Any]]:
    """Three rows of an interval pooled over seeds: the value, and the metric's name with `_low` and `_high`."""
    parts = {"": interval.value, "_low": interval.low, "_high": interval.high}
    return [{**row, "metric": f"{row['metric']}{end}", "seed": POOLED, "value": value} for end, value in parts.items()]

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest

from bengelib.course import results
from bengelib.course.report import Study
from bengelib.course.results import (
    COLUMNS,
    POOLED,
    Run,
    Table,
    interval_rows,
    read_results,
    run_path,
    write_results,
)
from bengelib.errors import TableError
from bengelib.intervals import Interval

ROW = dict.fromkeys(COLUMNS, "") | {
    "dataset": "d", "experiment": "e", "model": "m", "metric": "map", "label_fraction": 1.0, "config": "c"
}  # fmt: skip


def test_intervals_survive_the_file(tmp_path):
    path = tmp_path / "results.csv"
    one, two = Interval(0.5, 0.4, 0.6), Interval(-0.1, -0.2, 0.1)
    rows = interval_rows(ROW, one) + interval_rows({**ROW, "model": "n"}, two) + [{**ROW, "seed": 0, "value": 0.7}]
    write_results(path, rows)
    assert Study(read_results(path), "").scores(experiment="e", metric="map") == {"m": one, "n": two}
    assert [file.name for file in tmp_path.iterdir()] == ["results.csv"]


def test_a_table_that_is_not_there_is_empty(tmp_path):
    assert read_results(tmp_path / "results.csv").empty


def test_other_columns_are_refused(tmp_path):
    path = tmp_path / "results.csv"
    pd.DataFrame({"a": [1]}).to_csv(path, index=False)
    with pytest.raises(TableError, match=r"columns \['a'\]"):
        read_results(path)


def test_a_value_that_is_no_number_does_not_spoil_the_others(tmp_path):
    path = tmp_path / "results.csv"
    write_results(path, [{**ROW, "seed": 0, "value": float("nan")}, {**ROW, "seed": 1, "value": 0.25}])
    assert read_results(path)["value"].dtype == float
    assert read_results(path)["value"].max() == 0.25


@dataclass(frozen=True, kw_only=True)
class Folded(Run):
    """A run of which folds are repetitions, too."""

    fold: int = 0
    epochs: int = 7

    REPEATS: ClassVar[tuple[str, ...]] = ("seed", "fold")


def test_repetitions_share_a_configuration_and_nothing_else_does():
    run = Folded("e", "m", seed=1, fold=3)
    assert run.config == Folded("e", "m").config != Folded("e", "m", lr=1.0).config
    assert run.epochs == 7 and Run("e", "m", seed=1).config == Run("e", "m").config


@pytest.mark.parametrize(("dataset", "patches"), [("ben-ge-sim", 9), ("ben-ge-800", None)])
def test_a_run_asks_for_patches_of_simulated_data_only(dataset, patches, monkeypatch):
    monkeypatch.setattr(results, "load", lambda *given, **options: (given, options))
    given, options = Run("e", "m", dataset=dataset, patches=9).load("test", ("s2",), ("season",), fold=2)
    assert given == (dataset, "test", ("s2",), ("season",)) and options == {"patches": patches, "fold": 2}


def test_a_table_collects_rows_of_what_runs_left(tmp_path):
    runs = [Run("e", name, seed=seed) for name in ("m", "n") for seed in (0, 1)]
    for number, run in enumerate(runs):
        np.savez(run_path(tmp_path, run), score=np.array(number))
    table = Table(runs, tmp_path)
    first, second = table.of("e", "m"), table.of("e", "n")
    assert [run.seed for run in first] == [0, 1] and table.of("e", "n", seed=1) == second[1:]
    scores = [np.stack([np.full(4, float(table.stored[run]["score"])) for run in group]) for group in (first, second)]
    table.write_scores(first[0], scores[0], [run.seed for run in first], metric="map", target="t")
    table.write_difference(second[0], scores[1], scores[0], metric="map", against="m", target="t")
    table.write(first[1], 5, metric="parameters")
    write_results(tmp_path / "results.csv", table.rows)
    written = read_results(tmp_path / "results.csv")
    assert len(written) == 3 + 2 + 3 + 1 and set(written["config"]) == {run.config for run in runs}
    assert Study(written, "").scores(metric="map", target="t")["m"].value == 0.5
    assert Study(written, "").scores(metric="map_minus_m", target="t")["n"].value == 2.0
    by_seed = written[(written["metric"] == "map") & (written["seed"] != POOLED)]
    assert by_seed["value"].tolist() == [0.0, 1.0] and by_seed["seed"].tolist() == ["0", "1"]

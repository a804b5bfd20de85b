import pandas as pd
import pytest

from bengelib.course.results import COLUMNS, interval_rows, read_intervals, read_results, write_results
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
    assert read_intervals(read_results(path), "model", experiment="e", metric="map") == {"m": one, "n": two}
    assert [file.name for file in tmp_path.iterdir()] == ["results.csv"]


def test_what_is_not_there_or_not_unique_is_said(tmp_path):
    path = tmp_path / "results.csv"
    assert read_results(path).empty
    rows = interval_rows(ROW, Interval(0.5, 0.4, 0.6)) + interval_rows({**ROW, "split": "x"}, Interval(0.1, 0, 0.2))
    write_results(path, rows)
    with pytest.raises(TableError, match="share a model"):
        read_intervals(read_results(path), "model", metric="map")
    with pytest.raises(TableError, match="no pooled 'accuracy'"):
        read_intervals(read_results(path), "model", metric="accuracy")


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

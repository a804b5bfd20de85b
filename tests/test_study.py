"""What holds of every study: the committed table belongs to the configurations, and is complete and sane."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bengelib.course.results import COLUMNS, POOLED, fingerprint, read_results
from tests.study_module import load_study

STUDIES = sorted(Path(__file__).parents[1].glob("0[1-9]-*/*study.py"))
SHARES = ("accuracy", "macro_f1", "map", "mean_iou", "iou")


@pytest.fixture(scope="module", params=STUDIES, ids=lambda path: f"{path.parent.name}/{path.name}")
def study(request):
    return load_study(request.param.parent.name, request.param.name)


@pytest.fixture(scope="module")
def results(study):
    if not study.RESULTS.is_file() and may_lack_runs(study):
        pytest.skip(f"{study.RESULTS.name} has not been made")
    assert study.RESULTS.is_file(), "there is no results.csv: run study.py"
    return read_results(study.RESULTS)


def may_lack_runs(study):
    """Whether a study leaves runs out whose data are not there."""
    return hasattr(study, "available")


def test_every_lab_has_a_study():
    assert len({path.parent for path in STUDIES}) == 3


def test_every_row_belongs_to_a_configuration_that_exists(study, results):
    known = {run.config for run in study.configurations()}
    stale = set(results["config"]) - known
    assert not stale, f"results.csv has rows of configurations that study.py no longer has: {sorted(stale)}"
    lacking = known - set(results["config"])
    assert not lacking or may_lack_runs(study), "some configurations have no row: run study.py"


def test_no_run_is_there_twice(study):
    runs = study.configurations()
    assert len({fingerprint(run) for run in runs}) == len(runs)


def test_a_fingerprint_follows_every_field(study):
    run = study.Run("experiment", "model")
    assert fingerprint(run) == fingerprint(replace(run))
    for field, other in (("lr", 0.1), ("inputs", ("s1",)), ("seed", 5), ("epochs", 9), ("dataset", "d")):
        assert fingerprint(replace(run, **{field: other})) != fingerprint(run)
        assert (replace(run, **{field: other}).config == run.config) is (field == "seed")


def test_rows_are_complete_and_sane(results):
    assert tuple(results.columns) == COLUMNS and len(results)
    assert np.isfinite(results["value"]).all()
    assert not results.duplicated(list(COLUMNS[:-2])).any()
    assert results[results["metric"].isin(SHARES)]["value"].between(0, 1).all()


def test_values_lie_within_their_intervals(results):
    pooled = results[results["seed"] == POOLED].set_index([*COLUMNS[:4], *COLUMNS[5:8], "metric"])["value"].to_dict()
    ends = {key: value for key, value in pooled.items() if key[-1].endswith("_low")}
    assert ends
    for (*key, metric), low in ends.items():
        name = metric.removesuffix("_low")
        assert low - 1e-9 <= pooled[(*key, name)] <= pooled[(*key, f"{name}_high")] + 1e-9

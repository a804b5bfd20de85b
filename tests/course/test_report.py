import urllib.request
from pathlib import Path

import pandas as pd
import pytest

import bengelib
from bengelib.course import report
from bengelib.course.report import Study, open_study, score_table
from bengelib.course.results import COLUMNS, interval_rows
from bengelib.course.verdicts import Comparisons
from bengelib.errors import TableError
from bengelib.intervals import Interval

ROOT = Path(__file__).parents[2]
ROW = dict.fromkeys(COLUMNS, "") | {
    "dataset": "ben-ge-sim",
    "split": "random",
    "label_fraction": 1.0,
    "condition": "clear",
}


def interval(value, **columns):
    """The rows of an interval of half-width 0.02."""
    return interval_rows({**ROW, **columns}, Interval(value, value - 0.02, value + 0.02))


def study_of(rows, **options):
    return Study(pd.DataFrame(rows, columns=list(COLUMNS)), "01-lab", **options)


@pytest.fixture(scope="module")
def study():
    """Two models with three runs each on two targets, one with clouds, and a longer run of one seed."""
    rows = []
    for model, gain in (("a", 0.0), ("b", 0.1), ("c", 0.2)):
        at = {"experiment": "main", "model": model, "config": f"config {model}"}
        seeds = range(1 if model == "c" else 3)
        for target, metric in (("season", "mae"), ("corine", "map")):
            rows += interval(0.5 + gain, **at, target=target, metric=metric)
            rows += [{**ROW, **at, "target": target, "metric": metric, "seed": str(s), "value": 0.5} for s in seeds]
            if model != "a":
                rows += interval(gain, **at, target=target, metric=f"{metric}_minus_a")
        rows.append({**ROW, **at, "metric": "parameters", "seed": "all", "value": 10 * gain})
    at = {"experiment": "main", "model": "b", "config": "config b", "target": "corine"}
    rows += interval(0.3, **at, metric="map", condition="clouds 1.00") + interval(
        0.4, **at, metric="map", condition="clouds 0.25"
    )
    for seed in ("0", "1"):
        for epoch in (10, 9):  # not in the order of numbers
            recorded = {"metric": "spread", "condition": f"epoch {epoch}", "seed": seed, "value": epoch + int(seed)}
            rows.append({**ROW, **at, **recorded})
    rows += [
        {**ROW, "metric": name, "seed": "all", "value": value}
        for name, value in (("test_patches", 40), ("test_tiles", 7))
    ]
    return study_of(rows)


def test_scores_are_named_by_a_column_and_take_the_main_score_of_the_target(study):
    found = study.scores(target="corine", condition="clear")
    assert list(found) == ["a", "b", "c"] and found["b"] == pytest.approx((0.6, 0.58, 0.62))
    assert list(study.scores(only=("c", "a"), target="season")) == ["c", "a"]
    assert list(study.scores("condition", model="b", target="corine")) == ["clear", "clouds 1.00", "clouds 0.25"]


def test_a_comparison_says_which_way_and_how_many_runs_are_behind_it(study):
    found = study.compare("a")
    assert isinstance(found, Comparisons)
    assert [(each.target, each.name) for each in found] == [(t, m) for t in ("season", "corine") for m in "bc"]
    season, _, corine, longer = found
    assert season.verdict == "decided: worse" and season.points.value == pytest.approx(-10)  # errors are larger
    assert corine.verdict == "decided: better" and corine.runs == 3
    assert longer.verdict == "one run, no verdict" and longer.runs == 1
    assert study.compare("a", only=("c",), targets=("corine",)) == (longer,)
    counted = study_of(study.frame, count_runs=False).compare("a", only=("c",), targets=("corine",))
    assert counted[0].decided and counted[0].runs is None


def test_runs_that_a_table_does_not_tell_apart_are_not_counted():
    at = {"experiment": "blocked", "model": "m", "config": "c", "target": "corine"}
    folds = {**ROW, **at, "metric": "map", "seed": "folds", "value": 0.5}
    (each,) = study_of([folds, *interval(0.1, **at, metric="map_minus_s2")]).compare("s2")
    assert each.runs is None and each.decided


def test_the_score_of_one_fold_has_no_interval():
    at = {"experiment": "folds", "config": "c", "target": "corine", "metric": "map"}
    one = {**ROW, **at, "model": "m, fold 1", "seed": "all", "value": 0.4}
    study = study_of([one, *interval(0.5, **at, model="m")])
    assert list(study.scores(target="corine")) == ["m"]
    assert study.numbers(metric="map") == {"m, fold 1": 0.4, "m": 0.5}
    assert study.folds("m", metric="map") == {"fold 1": 0.4} and study.folds("n", metric="map") == {}


def test_folds_stand_beside_the_interval_of_all():
    at = {"experiment": "folds", "config": "c", "target": "corine", "metric": "map", "condition": "frozen"}
    rows = [{**ROW, **at, "model": f"m, fold {fold}", "seed": "all", "value": fold / 10} for fold in (0, 1)]
    study = study_of([*rows, *interval(0.05, **at, model="m")])
    table = study.fold_table([("m", "frozen")], metric="map")
    assert table.loc["m, frozen"].to_dict() == {
        "fold 0": "0.000",
        "fold 1": "0.100",
        "all, 95 % interval": str(Interval(0.05, 0.03, 0.07)),
    }
    assert study_of([]).fold_table([("m", "frozen")], metric="map") is None


def test_the_ends_of_a_trace(study):
    table = study.ends(("spread",), seed="0")
    assert table.to_dict("index") == {"b": {"spread, first epoch": 9.0, "spread, last epoch": 10.0}}
    assert study_of([]).ends(("spread",)) is None


def test_names_of_several_columns_are_joined_and_shares_are_in_percent():
    rows = [interval(0.1, model="m", target="corine", metric="map_minus_x", label_fraction=f) for f in (0.05, 1.0)]
    found = study_of([row for each in rows for row in each]).compare("x", ("model", "label_fraction"))
    assert [each.name for each in found] == ["m, 5% of the labels", "m, 100% of the labels"]


def test_a_name_has_the_condition_in_words():
    rows = interval(0.1, model="m", target="corine", metric="map", condition="finetune")
    assert list(study_of(rows).scores(("model", "condition"), target="corine")) == ["m, fine-tuned"]


def test_curves_run_along_a_share_or_a_condition(study):
    curves = study.curves("clouds", target="corine")
    assert {name: {at: score.value for at, score in curve.items()} for name, curve in curves.items()} == {
        "b": {0.0: pytest.approx(0.6), 0.25: 0.4, 1.0: 0.3}
    }
    rows = [interval(f, model="m", target="corine", metric="map", label_fraction=f) for f in (1.0, 0.05)]
    curves = study_of([row for each in rows for row in each]).curves("label_fraction", target="corine")
    assert list(curves["m"]) == [0.05, 1.0]


def test_traces_have_a_row_a_run_in_the_order_of_the_steps(study):
    steps, values = study.traces("epoch", metric="spread")["b"]
    assert steps.tolist() == [9, 10] and values.tolist() == [[9, 10], [10, 11]]


def test_single_numbers_and_the_size_of_the_test(study):
    assert study.numbers(metric="parameters") == {"a": 0.0, "b": 1.0, "c": 2.0}
    assert study.test_set() == "40 test patches in 7 tiles" and study.test_set(experiment="main") == ""
    assert study.values("model", metric="parameters") == ["a", "b", "c"]
    assert str(study) == f"4 configurations, {len(study.frame)} numbers"
    assert study.note == "ben-ge-sim: simulated data, not measurements"


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (
            lambda study: study.scores(target="corine", experiment="mian"),
            r"no experiment \['mian'\] in the table; it has",
        ),
        (lambda study: study.scores(target="corine", colour="red"), "no column 'colour'"),
        (lambda study: study.scores(target="corine", only=("d",)), r"no model \['d'\]"),
        (lambda study: study.scores(target="weather"), "give `metric`, or as `target` one of"),
        (lambda study: study.scores("experiment", target="corine"), "share the name 'main'; give more columns"),
        (lambda study: study.compare("s2"), r"nothing was compared with 's2'; the differences are \['mae_minus_a'"),
        (lambda study: study.curves("clouds", "split", target="corine"), "share the name 'random'"),
        (lambda study: study.numbers("split", metric="parameters"), "share the name 'random'"),
    ],
)
def test_a_question_that_the_table_cannot_be_meant_by_is_refused(study, ask, said):
    with pytest.raises(TableError, match=said):
        ask(study)


def test_what_was_not_asked_together_has_no_answer(study):
    assert study.scores(target="season", condition="clouds 0.25") == {}
    assert not study.compare("a", condition="clouds 0.25")


def test_a_study_that_is_missing_answers_with_nothing():
    study = study_of([])
    assert not study and study.note == study.test_set() == ""
    assert study.scores(target="corine", experiment="any", only=("x",)) == {}
    assert study.curves("clouds", target="corine") == study.traces("epoch", metric="spread") == {}
    assert study.numbers(metric="parameters") == {} and study.values("split") == []
    assert study.compare("s2", only=("x",)) == Comparisons()
    assert score_table({"a": study.scores(target="corine")}) is None
    assert "`python 01-lab/study.py` makes it" in str(study)


def test_a_table_of_scores_says_what_was_not_asked():
    columns = {"first": {"m": Interval(0.5, 0.4, 0.6)}, "empty": {}, "second": {"n": Interval(0.1, 0.0, 0.2)}}
    table = score_table(columns)
    assert table.to_dict("index") == {
        "m": {"first": "0.500 [0.400, 0.600]", "second": "not asked"},
        "n": {"first": "not asked", "second": "0.100 [0.000, 0.200]"},
    }


@pytest.mark.parametrize("folder", ["01-data_fusion", "02-mtl", "03-ssl"])
@pytest.mark.parametrize("start", ["root", "lab", "solutions", "another lab", "outside"])
def test_a_study_is_found_wherever_the_kernel_started(folder, start, monkeypatch, tmp_path):
    lab = ROOT / folder
    other = next(path for path in sorted(ROOT.glob("0[1-3]-*")) if path != lab)
    places = {"root": ROOT, "lab": lab, "solutions": lab / "solutions", "another lab": other, "outside": tmp_path}
    monkeypatch.chdir(places[start])
    monkeypatch.setattr(urllib.request, "urlopen", None)  # no network
    study = open_study(folder, "https://example.org")
    assert len(study.frame) == len((lab / "results.csv").read_text().splitlines()) - 1


def test_a_lab_may_have_a_second_study(monkeypatch, tmp_path):
    (tmp_path / "methods_study.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bengelib, "__file__", str(tmp_path / "site" / "bengelib" / "__init__.py"))
    study = open_study("03-ssl", "https://example.org", results="methods_results.csv")
    assert not study and "no methods_results.csv yet" in str(study) and "03-ssl/methods_study.py" in str(study)


def test_the_second_study_names_its_datasets(monkeypatch):
    monkeypatch.chdir(ROOT)
    study = open_study("03-ssl", "https://example.org", results="methods_results.csv")
    assert set(study.values("dataset")) == {"ben-ge-sim", "eurosat-rgb"}


def test_a_lab_that_was_copied_alone_finds_its_study(monkeypatch, tmp_path):
    monkeypatch.setattr(bengelib, "__file__", str(tmp_path / "site-packages" / "bengelib" / "__init__.py"))
    (tmp_path / "solutions").mkdir()
    for name in ("study.py", "results.csv"):
        (tmp_path / name).write_bytes((ROOT / "02-mtl" / name).read_bytes())
    for folder in (tmp_path, tmp_path / "solutions"):
        monkeypatch.chdir(folder)
        assert open_study("02-mtl", "https://example.org")


def test_without_a_clone_the_study_comes_from_the_web_or_says_why_not(monkeypatch, tmp_path):
    monkeypatch.setattr(bengelib, "__file__", str(tmp_path / "site-packages" / "bengelib" / "__init__.py"))
    monkeypatch.chdir(tmp_path)
    asked = []

    def refuse(path):
        asked.append(path)
        raise ConnectionError

    monkeypatch.setattr(report, "read_results", refuse)
    study = open_study("02-mtl", "https://example.org/main")
    assert asked == ["https://example.org/main/02-mtl/results.csv"]
    assert not study and str(study).startswith("results.csv could not be fetched: ConnectionError\n")

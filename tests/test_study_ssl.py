"""The study behind Lab 3: what begins from what, its budgets, and the rows that it makes of predictions."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from bengelib.course.results import COLUMNS, run_path
from bengelib.course.studies import keep
from bengelib.intervals import POOLED
from tests.study_module import load_study


@pytest.fixture(scope="module")
def study():
    return load_study("03-ssl")


def test_what_others_begin_from_comes_first(study):
    runs = study.configurations()
    last = max(runs.index(method) for method in study.METHODS)
    for place, run in enumerate(runs):
        if run.start == "other":
            assert place > last + 2
        elif run.start or run.kind == "join":
            assert all(runs.index(base) < place - 2 for base in study.bases(run))
    barlow = [base.inputs for run in runs if run.kind == "join" for base in study.bases(run)]
    assert barlow == [("s2",), ("s1",)]


def test_the_other_method_stays_what_it_was_for_runs_that_are_kept(study, tmp_path, monkeypatch):
    """Methods are close: on another machine another may be best, when half of the runs have begun from the first."""
    monkeypatch.setattr(study, "RUNS", tmp_path)
    monkeypatch.setattr(study, "ranking", lambda: [study.MAIN, *reversed(study.METHODS[2:])])
    first, second = (run for run in study.configurations() if run.start == "other")
    assert study.bases(first) == study.bases(second) == [study.METHODS[-1]]
    keep(run_path(tmp_path, first), {"begun": np.array([study.METHODS[2].model])})
    assert study.bases(second) == [study.METHODS[2]]


def test_budgets_are_equal(study):
    """A step of the geolocation pretext shows one view a sample, half as many images, so it gets twice the epochs."""
    paired = [run for run in study.METHODS if run.method not in ("geolocation", "mae")]
    place = next(run for run in study.METHODS if run.method == "geolocation")
    assert {2 * run.epochs for run in paired} == {place.epochs}
    assert len({(run.batch_size, run.lr, run.size, run.patches) for run in study.METHODS}) == 1
    trained = [run for run in study.configurations() if run.kind == "train"]
    assert len({(run.steps, run.label_batch, run.size, run.width, run.patches) for run in trained}) == 1
    ablated = [run for run in study.configurations() if run.experiment == "ablation"]
    assert len({replace(run, model="", views="") for run in ablated}) == len({run.method for run in ablated}) == 2


def test_each_fold_has_what_the_main_comparison_needs(study):
    judged, trained = study.judged_in_folds(), study.trained_in_folds()
    assert set(judged) | set(trained) <= set(study.configurations())
    for fold in range(5):
        assert {run.method for run in judged if run.fold == fold} == {study.MAIN.method, "none"}
        assert {run.start for run in trained if run.fold == fold} == {"", "main"}
        (tuned,) = (run for run in trained if run.fold == fold and run.start)
        (base,) = study.bases(tuned)
        assert (base.fold, base.method) == (fold, study.MAIN.method)


def test_rare_classes_are_never_labelled(study):
    labels = np.repeat([0, 1, 2], [300, 100, study.RARE - 1])
    for chosen in study.subsets(labels, [0.05, 1.0], 0).values():
        assert set(labels[chosen]) == {0, 1}
    (everybody,) = study.subsets(labels[:-1], [1.0], 0).values()
    assert len(everybody) == 400
    several = np.ones((10, 2), dtype=int)
    assert len(study.subsets(several, [1.0], 0)[1.0]) == 10


@pytest.mark.parametrize("name", ["crop and turns only", "no gain and offset", "no noise", "no crop", "hue-like"])
def test_an_ablation_changes_the_views(study, name):
    full, views = (study.make_views(replace(study.METHODS[0], views=each)) for each in ("all changes", name))
    assert views != full
    image = {"s2": torch.rand(2, 12, 60, 60)}
    made = [each(image, torch.Generator().manual_seed(0))["s2"] for each in (full, views)]
    assert made[1].shape == (2, 12, 48, 48) and not torch.equal(*made)


def test_predictions_are_kept_small_without_a_change(study):
    classes, scores = np.arange(11), np.random.default_rng(0).normal(size=(4, 18))
    assert study.smaller(classes).dtype == np.uint8 and (study.smaller(classes) == classes).all()
    np.testing.assert_allclose(study.smaller(scores), scores, rtol=1e-6)


class Side:
    """Stands for one side of the data: 60 patches in three tiles, three classes of land cover, four labels."""

    def __init__(self) -> None:
        self.tiles = np.repeat(["33UVT", "33UWT", "33UXT"], 20)
        self.labels = {
            "land_cover_top": np.arange(60) % 3,
            "corine": (np.arange(60)[:, None] % 4 == np.arange(4)).astype(np.int64),
        }
        self.classes = {"land_cover_top": ("a", "b", "c"), "corine": ("k", "l", "m", "n")}

    def __len__(self) -> int:
        return 60


def right(target: str, share: float, random: np.random.Generator) -> np.ndarray:
    """Predictions of which about this share are right."""
    labels = Side().labels[target]
    if target == "corine":
        return (labels + random.normal(size=labels.shape) / share).astype(np.float32)
    return np.where(random.random(60) < share, labels, (labels + 1) % 3).astype(np.uint8)


BEST = "VICReg"


def fill(study, run, number, share=0.5):
    """What a run leaves, made up."""
    random = np.random.default_rng(number)
    arrays = {"parameters": np.array(7)}
    if run.kind == "train":
        arrays["begun"] = np.array([BEST] if run.start else [])
        condition = study.CONDITIONS.get(run.start, "finetune")
        for draw in range(3):
            name = study.key("test", condition, run.target, run.label_fraction, draw)
            arrays[name] = right(run.target, share, random)
        return arrays
    arrays |= {"curve|loss": np.array([2.0, 1.0]), "curve|spread": np.array([0.9, 0.1])}
    for target in study.TARGETS:
        for fraction in [each for each in run.fractions if each >= 0.05]:
            for draw in range(1 if fraction == 1 else run.draws):
                for side, condition in (("val", "frozen"), ("test", "frozen"), ("test", "knn")):
                    arrays[study.key(side, condition, target, fraction, draw)] = right(target, share, random)
    return arrays


@pytest.fixture(scope="module")
def table(study, tmp_path_factory):
    """The table of all runs of the study with made-up predictions: VICReg is best, then what the study is about."""
    folder, runs = tmp_path_factory.mktemp("runs"), study.configurations()
    shares = {"VICReg": 0.95, "cross-modal": 0.8, "main, fine-tuned": 0.7, "from scratch": 0.2}
    for number, run in enumerate(runs):
        keep(run_path(folder, run), fill(study, run, number, shares.get(run.model, 0.5)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "RUNS", folder)
        patch.setattr(study, "DRAWS", 5)
        patch.setattr(study, "open_data", lambda run, split, modalities: Side())
        yield pd.DataFrame(study.tabulate(runs))


def test_every_configuration_has_rows_and_every_row_a_configuration(study, table):
    assert set(table["config"]) == {run.config for run in study.configurations()}
    assert not table[list(COLUMNS)].isna().any().any()
    assert not table.duplicated(list(COLUMNS[:-2])).any()


def test_the_main_comparisons_are_there_and_right(table):
    pooled = table[(table["seed"] == POOLED) & (table["target"] == "land_cover_top")]
    pooled = pooled.set_index(["experiment", "model", "condition", "label_fraction", "metric"]).sort_index()
    for fraction in (0.05, 1.0):
        for condition in ("frozen", "finetune"):
            for end in ("", "_low", "_high"):
                name = ("methods", "cross-modal", condition, fraction, "accuracy_minus_scratch" + end)
                assert len(pooled.loc[[name]]) == 1
    for experiment in ("methods", "folds"):
        for condition in ("frozen", "finetune"):
            gain = pooled.loc[(experiment, "cross-modal", condition, 0.05)]["value"]
            assert gain["accuracy_minus_scratch_low"] > 0.2
    folds = pooled.loc[("folds", "cross-modal", "frozen", 0.05)]["value"]
    each = [
        pooled.loc[("folds", f"cross-modal, fold {fold}", "frozen", 0.05, "accuracy")]["value"] for fold in range(5)
    ]
    assert folds["accuracy"] == pytest.approx(np.mean(each))
    assert folds["accuracy_minus_random_low"] > 0.1
    better = pooled.loc[("methods", "VICReg", "frozen", 0.05)]["value"]
    assert better["accuracy_minus_scratch_low"] > 0.5
    assert better["accuracy_minus_scratch"] == pytest.approx(
        better["accuracy"] - pooled.loc[("methods", "from scratch", "scratch", 0.05)]["value"]["accuracy"]
    )
    assert ("methods", "SimCLR", "frozen", 0.05, "accuracy_minus_geolocation_low") in pooled.index
    for name in ("S1", "S2", "S1 + S2"):
        for condition in ("frozen", "finetune"):
            assert ("earthpulse", name, condition, 0.05, "accuracy_minus_scratch") in pooled.index
        assert ("earthpulse", name, "scratch", 1.0, "accuracy") in pooled.index
    assert ("ablation", "hue-like", "frozen", 0.05, "accuracy_minus_all_changes") in pooled.index


def test_the_validation_tiles_choose(table):
    ranks = table[table["metric"] == "validation_rank"].set_index("model")["value"].to_dict()
    assert ranks["VICReg"] == 1 and ranks["cross-modal"] == 2 and len(ranks) == 6
    tuned = table[(table["experiment"] == "methods") & (table["condition"] == "finetune")]
    tuned = tuned[tuned["metric"].isin(["accuracy", "map"])]
    assert set(tuned["model"]) == {"VICReg", "cross-modal"}
    assert set(tuned[tuned["model"] == "cross-modal"]["target"]) == {"land_cover_top", "corine"}


def test_draws_and_pretrainings_are_counted(table):
    simclr = table[(table["experiment"] == "methods") & (table["model"] == "SimCLR") & (table["condition"] == "frozen")]
    seeds = simclr[(simclr["metric"] == "accuracy") & (simclr["seed"] != POOLED)].groupby("label_fraction")["seed"]
    assert sorted(seeds.get_group(0.05)) == [0, 1, 2, 3, 4, 10, 11, 12, 13, 14]
    assert sorted(seeds.get_group(1.0)) == [0, 10]


def test_the_collapse_has_its_curve(table):
    curve = table[(table["experiment"] == "collapse") & (table["metric"] == "spread")].set_index("condition")["value"]
    assert curve.to_dict() == {"epoch 1": 0.9, "epoch 2": 0.1}

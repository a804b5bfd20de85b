"""The study behind Lab 1: its budgets, its conditions, and the rows that it makes of predictions."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from bengelib.course.results import COLUMNS, read_results, run_path
from bengelib.course.studies import keep
from bengelib.intervals import POOLED
from tests.study_module import load_study


@pytest.fixture(scope="module")
def study():
    return load_study("01-data_fusion")


def test_the_place_is_never_scored_on_the_climate_zone(study):
    results = read_results(study.RESULTS)
    told = results[results["model"].str.contains("location") & (results["target"] == "climate_zone")]
    assert told.empty


def test_three_seeds_and_equal_budgets(study):
    runs = study.configurations()
    strategies = [run for run in runs if run.experiment == "strategies"]
    assert all(len({run.seed for run in strategies if run.model == other.model}) >= 3 for other in strategies)
    assert len({(run.epochs, run.batch_size, run.lr, run.patches, run.crop) for run in strategies}) == 1


def test_label_shares_are_nested(study):
    """The patches of a tenth of the labels lie within those of a half."""
    names = [f"patch {number}" for number in range(200)]
    ranked = sorted(names, key=lambda name: study.unit_hash(f"labels {name}"))
    assert ranked != names and set(ranked[:20]) < set(ranked[:100])


def test_conditions_change_what_they_say_and_nothing_else(study):
    batch = {
        "s2": torch.full((4, 12, 120, 120), 0.1),
        "s1": torch.arange(4.0)[:, None, None, None].expand(4, 2, 120, 120).clone(),
        "patch_id": list("abcd"),
    }
    early = next(run for run in study.configurations() if run.model == "S2 + S1, early")
    changes = study.conditions(early)
    assert set(changes) >= {"clear", "clouds 0.50", "s1 missing", "s2 missing", "s1 permuted"}
    assert torch.equal(changes["clouds 0.50"](batch)["s2"], changes["clouds 0.50"](batch)["s2"])
    assert changes["clouds 0.50"](batch)["s1"] is batch["s1"]
    assert "s1" not in changes["s1 missing"](batch) and "s1" in batch
    moved = changes["s1 permuted"](batch)["s1"][:, 0, 0, 0]
    assert not torch.equal(moved, torch.arange(4.0)) and sorted(moved.tolist()) == [0, 1, 2, 3]


def test_a_tenth_of_the_labels_gets_as_many_steps(study):
    """1480 training patches in batches of 32, the last of an epoch not full."""
    steps = {
        run.label_fraction: run.epochs * math.ceil(round(run.label_fraction * 1480) / run.batch_size)
        for run in study.configurations()
    }
    assert set(steps) == {0.1, 1.0}
    assert steps[0.1] == pytest.approx(steps[1.0], rel=0.02)


class Place:
    """Stands for the packed data: 60 patches in three tiles, five classes, the first three patches of each tile 'a'."""

    patch_ids = tuple(f"S1_{number}" for number in range(60))

    def __init__(self) -> None:
        self.meta = {
            "patch_id_s1": [
                f"S1A_IW_GRDH_1SDV_20170613T165043_{['33UVT', '33UWT', '33UXT'][n // 20]}_77_{n}" for n in range(60)
            ]
        }

    def table(self, key: str) -> np.ndarray:
        if key == "corine":
            return (np.arange(60)[:, None] % 19 == np.arange(19)).astype(np.int64)
        return np.repeat([0, 1, 1], 20)


def store(study, folder, run, tested, seed):
    """What a run leaves, with random logits under every condition."""
    random = np.random.default_rng(seed)
    arrays = {"parameters": np.array(7), "patch_ids": np.array([Place.patch_ids[place] for place in tested])}
    for condition in study.conditions(run):
        for target, classes in study.TARGETS.items():
            arrays[f"{condition}|{target}"] = random.normal(size=(len(tested), len(classes))).astype(np.float32)
    keep(run_path(folder, run), arrays)


@pytest.fixture(scope="module")
def fake(study, tmp_path_factory):
    """All runs of the study with made-up predictions, its functions seeing them."""
    folder, runs = tmp_path_factory.mktemp("runs"), study.configurations()
    for number, run in enumerate(runs):
        tested = range(run.fold, 60, 5) if run.scheme == "blocked" else range(0, 60, 3)
        store(study, folder, run, list(tested), number)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "RUNS", folder)
        patch.setattr(study, "DRAWS", 5)
        patch.setattr(study, "open_data", lambda run, split: Place())
        patch.setattr(study, "MIN_POSITIVES", 1)
        yield runs, study.Table(runs), pd.DataFrame(study.tabulate(runs))


def test_the_table_has_every_main_comparison(fake):
    _, _, table = fake
    pooled = table[table["seed"] == POOLED]
    found = {(row.experiment, row.model, row.condition, row.metric) for row in pooled.itertuples()}
    named = [("strategies", f"S2 + S1, {name}", "clear", "_minus_s2") for name in ("early", "feature (gate)", "late")]
    named += [("labels", f"S2 + S1, {name}", "clear", "_minus_s2") for name in ("early", "late")]
    named.append(("capacity", "S2 + S1, late, width-matched", "clear", "_minus_early"))
    for cover in (0.25, 0.5, 0.75, 1.0):
        named.append(("modality dropout", "S2 + S1, early, dropout", f"clouds {cover:.2f}", "_minus_no_dropout"))
    for experiment, model, condition, end in named:
        for metric in ("accuracy", "map"):
            for part in ("", "_low", "_high"):
                assert (experiment, model, condition, metric + end + part) in found
    assert np.isfinite(table["value"].astype(float)).all()
    assert not table.duplicated(list(COLUMNS[:-2])).any()


def test_the_majority_class_is_that_of_the_patches_outside_each_fold(study, fake):
    runs, table, _ = fake
    blocked = table.of("blocked", "S2")
    said = table.majority("climate_zone", blocked)
    assert said.shape == (1, 60) and set(said.ravel()) == {1}
    table_with_other_labels = study.Table(runs)
    labels = np.zeros(60, dtype=np.int64)
    labels[[*range(0, 60, 5)]] = 1  # fold 0 has all of class 1
    labels[[*range(1, 60, 5), *range(2, 60, 5)]] = 2
    table_with_other_labels.labels["climate_zone"] = labels
    said = table_with_other_labels.majority("climate_zone", blocked).reshape(5, 12)
    assert [int(fold[0]) for fold in said] == [0, 0, 0, 2, 2]
    assert all(len(set(fold)) == 1 for fold in said)


def test_the_table_says_how_large_each_test_was_and_which_labels_it_had(fake):
    _, _, table = fake
    sizes = {(row.split, row.metric): row.value for row in table.itertuples() if row.metric.startswith("test_")}
    assert sizes == {
        ("random", "test_patches"): 20,
        ("blocked", "test_patches"): 60,
        ("random", "test_tiles"): 3,
        ("blocked", "test_tiles"): 3,
    }
    positives = table[(table["metric"] == "positives") & (table["split"] == "blocked")]
    assert len(positives) == 19 and positives["value"].sum() == 60

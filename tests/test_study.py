"""The studies: their tables belong to their configurations, and the machinery that fills them is right."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bengelib.results import COLUMNS, POOLED, fingerprint, read_results

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def study():
    path = ROOT / "01-data_fusion" / "study.py"
    spec = importlib.util.spec_from_file_location("study_data_fusion", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def results(study):
    if not study.RESULTS.is_file():
        pytest.skip("study.py has not been run yet: there is no results.csv")
    return read_results(study.RESULTS)


def test_every_row_belongs_to_a_configuration_that_exists(study, results):
    known = {fingerprint(replace(run, seed=0, fold=0)) for run in study.configurations()}
    stale = set(results["config"]) - known
    assert not stale, f"results.csv has rows of configurations that study.py no longer has: {sorted(stale)}"
    assert known == set(results["config"]), "some configurations have no row: run study.py"


def test_rows_are_complete_and_sane(results):
    assert tuple(results.columns) == COLUMNS and len(results)
    assert np.isfinite(results["value"]).all()
    assert not results.duplicated(list(COLUMNS[:-2])).any()
    shares = results[results["metric"].isin(["accuracy", "macro_f1", "map"])]
    assert shares["value"].between(0, 1).all()
    pooled = results[results["seed"] == POOLED]
    keys = [*COLUMNS[:4], "split", "label_fraction", "condition"]
    value = pooled[pooled["metric"] == "map"].set_index(keys)["value"]
    low, high = (pooled[pooled["metric"] == f"map{end}"].set_index(keys)["value"] for end in ("_low", "_high"))
    assert (low <= value + 1e-9).all() and (value <= high + 1e-9).all()


def test_the_place_is_never_scored_on_the_climate_zone(results):
    told = results[results["model"].str.contains("location") & (results["target"] == "climate_zone")]
    assert told.empty


def test_three_seeds_and_equal_budgets(study):
    runs = study.configurations()
    strategies = [run for run in runs if run.experiment == "strategies"]
    assert all(len({run.seed for run in strategies if run.model == other.model}) >= 3 for other in strategies)
    assert len({(run.epochs, run.batch_size, run.lr, run.patches, run.crop) for run in strategies}) == 1
    assert len({fingerprint(run) for run in runs}) == len(runs)


def test_a_fingerprint_follows_every_field(study):
    run = study.Run("strategies", "S2")
    assert fingerprint(run) == fingerprint(replace(run))
    for field, other in (("lr", 0.1), ("inputs", ("s1",)), ("seed", 5), ("epochs", 9)):
        assert fingerprint(replace(run, **{field: other})) != fingerprint(run)


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

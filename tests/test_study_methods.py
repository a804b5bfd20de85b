"""The study of the family of methods: its budgets, the networks that it takes things away from, and its rows."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from bengelib.bands import S2_BANDS
from bengelib.course.results import COLUMNS, run_path
from bengelib.course.studies import keep
from bengelib.intervals import POOLED
from bengelib.methods import TABLE
from bengelib.methods.byol import BYOL
from tests.recipes.test_pretraining import Patches
from tests.study_module import load_study


@pytest.fixture(scope="module")
def study():
    return load_study("03-ssl", "methods_study.py")


def test_every_method_is_asked_at_equal_numbers_of_images(study):
    runs = study.configurations()
    for dataset in ("ben-ge-sim", study.EUROSAT):
        methods = [run for run in runs if (run.dataset, run.experiment) == (dataset, "family")]
        known = [method for method, facts in TABLE.items() if dataset != study.EUROSAT or not facts.needs]
        assert {run.method for run in methods} == {*known, "none", "statistics", "scratch"}
        assert len({replace(run, model="", method="") for run in methods}) == 1
    taken = [run for run in runs if run.experiment == "collapse"]
    assert {run.method for run in taken} == set(study.UNDONE)
    assert len({replace(run, model="", method="") for run in taken}) == 1
    seen = {run.method for run in runs if run.split == "random" and run.dataset != study.EUROSAT}
    assert seen == {"simclr", "scratch", *study.PLACED}
    assert set(study.PLACED) == {method for method, facts in TABLE.items() if "lonlat" in facts.needs}


@pytest.mark.filterwarnings("error")
def test_networks_of_all_runs(study):
    """What is taken away is not there, and everything else is what `pretrain` trains."""
    data, inputs = Patches(12, 48), {"s2": S2_BANDS}
    data.meta.loc[11, "timestamp_s2"] = data.meta.loc[5, "timestamp_s2"]  # a place that is seen on one date only
    made = {}
    for run in study.configurations():
        if run.dataset != study.EUROSAT and run.method not in ("none", "statistics", "scratch"):
            encoder = study.build(run, inputs)
            made[run.method] = pretext = study.prepare(run, encoder, data, inputs)
            assert pretext.model.encoder is encoder and list(encoder.inputs) == ["s2"]
    plain = made["byol"].model
    for name, network in ((name, each.model) for name, each in made.items() if name.startswith("byol without")):
        assert isinstance(network, BYOL)
        assert (type(network.predictor) is type(plain.predictor)) is ("predictor" not in name)
        assert (network.target is None) is ("stop-gradient" in name)
        if network.target is not None:
            assert network.target.momentum == (0.0 if "slow target" in name else plain.target.momentum)
    assert made["simclr without negatives"].tasks[0].method == "agreement"
    assert made["vicreg without variance and covariance"].tasks[0].options == {"variance": 0.0, "covariance": 0.0}


def test_rows_of_predictions(study, tmp_path, monkeypatch):
    """A method that is right where scratch is wrong gains over it; what has not been run yet has no row."""
    monkeypatch.setattr(study, "RUNS", tmp_path)
    truth = np.arange(40) % 4
    groups = np.array([f"tile {index % 8}" for index in range(40)])
    runs = {run.method: run for run in study.configurations() if run.experiment == "family" and "ben" in run.dataset}
    for method, share, condition in (("scratch", 0.5, "scratch"), ("place-image", 0.8, "frozen")):
        said = np.where(np.arange(40) < share * 40, truth, (truth + 1) % 4).astype(np.uint8)
        arrays = {study.key(condition, fraction, draw): said for fraction in (0.1, 1.0) for draw in range(3)}
        arrays |= {study.key("place alone", 0.1, draw): truth.astype(np.uint8) for draw in range(3)}
        curve = {"curve|spread": np.array([0.9, 0.5]), "curve|loss": np.array([3.0, 2.0]), "seconds": np.array(1.5)}
        keep(run_path(tmp_path, runs[method]), {"truth": truth, "groups": groups, **arrays, **curve})
    table = pd.DataFrame(study.tabulate(study.configurations()), columns=list(COLUMNS))
    assert set(table["model"]) == {"scratch", "place-image", ""}
    assert not table.duplicated(list(COLUMNS[:-2])).any()
    pooled = table[table["seed"] == POOLED].set_index(["model", "condition", "label_fraction", "metric"])["value"]
    assert pooled["scratch", "scratch", 0.1, "accuracy"] == 0.5
    gain = [pooled["place-image", "frozen", 0.1, f"accuracy_minus_scratch{end}"] for end in ("_low", "", "_high")]
    assert gain == sorted(gain) and gain[1] == pytest.approx(0.3)
    assert pooled["place-image", "place alone", 0.1, "accuracy"] == 1
    spread = table[(table["metric"] == "spread") & (table["model"] == "place-image")]
    assert spread["condition"].tolist() == ["epoch 1", "epoch 2"] and spread["value"].tolist() == [0.9, 0.5]
    assert pooled["", "", 1.0, "test_tiles"] == 8 and pooled["", "", 1.0, "test_patches"] == 40

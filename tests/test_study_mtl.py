"""The study behind Lab 2: its budgets, and the rows that it makes of what networks said about the test patches."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from bengelib.course.results import COLUMNS, run_path
from bengelib.course.studies import keep
from bengelib.intervals import POOLED
from tests.study_module import load_study

PATCHES = 30


@pytest.fixture(scope="module")
def study():
    return load_study("02-mtl")


class Side:
    """Stands for one side of the data: 30 patches with maps of four classes and three zones."""

    patch_ids = tuple(f"patch {number}" for number in range(PATCHES))

    def __len__(self) -> int:
        return PATCHES

    def table(self, key: str) -> np.ndarray:
        return np.arange(PATCHES) % 3 if key == "climate_zone" else np.linspace(0, 1, PATCHES)

    def read_batch(self, indices) -> dict[str, np.ndarray]:
        return {"land_cover": np.random.default_rng(5).integers(0, 4, (len(list(indices)), 6, 6))}


def fill(study, run, number):
    """What a run leaves, made up: seasons are off by 0.1 where it has all three targets, else by 0.2."""
    random, classes = np.random.default_rng(number), len(study.LAND_COVER_NAMES)
    arrays = {"parameters": np.array(9)}
    for target in run.targets:
        arrays[target] = {
            "land_cover": random.integers(0, 9, (PATCHES, classes, classes)).astype(np.uint16),
            "climate_zone": random.normal(size=(PATCHES, 12)),
            "season": np.linspace(0, 1, PATCHES) + (0.1 if run.targets == study.TARGETS else 0.2),
        }[target]
        arrays |= {f"weight|{target}": random.random(2), f"loss|{target}": random.random(2)}
    if run.gradient_every:
        arrays["step"] = np.array([0, 12])
        arrays |= {f"cosine|{a} ~ {b}": random.random(2) for a, b in combinations(run.targets, 2)}
    return arrays


@pytest.fixture(scope="module")
def table(study, tmp_path_factory):
    """The table of all runs of the study with made-up predictions."""
    folder, runs = tmp_path_factory.mktemp("runs"), study.configurations()
    for number, run in enumerate(runs):
        keep(run_path(folder, run), fill(study, run, number))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "RUNS", folder)
        patch.setattr(study, "DRAWS", 5)
        patch.setattr(study, "open_data", lambda run, split: Side())
        patch.setattr(study, "decoded_land_cover", lambda batch: batch["land_cover"])
        patch.setattr(study.Table, "pixels", lambda self, run, train: np.ones((PATCHES, 11, 11)))
        patch.setattr(study, "seconds_per_epoch", lambda runs: {study.cost_key(run): 1.5 for run in runs})
        yield pd.DataFrame(study.tabulate(runs))


def test_the_table_has_every_main_comparison(study, table):
    assert np.isfinite(table["value"].astype(float)).all()
    assert not table.duplicated(list(COLUMNS[:-2])).any()
    assert set(table["config"]) == {run.config for run in study.configurations()}
    pooled = table[table["seed"] == POOLED]
    found = set(zip(*(pooled[name] for name in ("experiment", "model", "target", "metric")), strict=True))
    metrics = {"land_cover": "mean_iou", "climate_zone": "accuracy", "season": "mae"}
    for end in ("", "_low", "_high"):
        for target, metric in metrics.items():
            assert ("weighting", "equal", target, f"{metric}_minus_single{end}") in found
            assert ("weighting", "pcgrad", target, f"{metric}_minus_equal{end}") in found
        assert ("few labels", "with the other targets", "land_cover", f"mean_iou_minus_alone{end}") in found


def test_a_difference_is_that_of_the_errors(table):
    season = table[(table["target"] == "season") & (table["seed"] == POOLED)]

    def value(*asked):
        """The one value of an experiment, a model and a metric."""
        return season.loc[(season[["experiment", "model", "metric"]] == asked).all(axis=1), "value"].item()

    assert value("weighting", "equal", "mae") == pytest.approx(0.1)
    assert value("weighting", "equal", "mae_minus_single") == pytest.approx(-0.1)
    assert value("fusion", "equal, S2 + S1", "mae_minus_equal") == pytest.approx(0, abs=1e-9)


def test_cosines_are_kept_by_step_and_pooled_over_seeds(table):
    cosines = table[(table["experiment"] == "gradients") & (table["model"] == "equal")]
    assert set(cosines["condition"]) == {"step 0", "step 12", "clear"}
    assert set(cosines[cosines["metric"] == "cosine"]["seed"]) == {0, 1, 2}
    for pair, rows in cosines.groupby("target"):
        pooled = rows[rows["metric"] == "mean_cosine"]["value"].item()
        assert pooled == pytest.approx(rows[rows["metric"] == "cosine"]["value"].mean()), pair


def test_few_labels_take_as_many_steps(study):
    """1480 training patches in batches of 16; alone, the network has a tenth of them."""
    runs = {run.model: run for run in study.configurations() if run.experiment == "few labels"}
    steps = {
        name: run.epochs * -(-(148 if run.targets == ("land_cover",) else 1480) // run.batch_size)
        for name, run in runs.items()
    }
    assert len(steps) == 5 and max(steps.values()) <= 1.02 * min(steps.values())

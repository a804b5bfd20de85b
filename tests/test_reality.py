"""`docs/reality.py` and its page: the figures are those of the table, and the studies run on small fakes."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bengelib.course.results import read_results, run_path, write_results
from bengelib.course.studies import keep
from bengelib.intervals import Interval
from tests.described_folders import write_tif

DOCS = Path(__file__).parent.parent / "docs"
sys.path.insert(0, str(DOCS))

import reality  # noqa: E402
import reality_page  # noqa: E402

LAYERS = (*reality.OPTICAL, "qa", "merit_dem", "dem", "land_cover", "water_occurrence")


def test_the_figures_of_the_page_are_those_of_the_table():
    page = reality_page.PAGE.read_text()
    assert reality_page.written(page, reality_page.tables()) == page


def test_figures_whose_runs_lie_elsewhere_stay_in_the_table():
    table = read_results(reality.RESULTS)
    rows = table.to_dict("records")
    known = table[table["seed"] == "all"]
    plain = known[~known["metric"].str.endswith(("_low", "_high"))]
    missing = [{**row, "seed": reality.NOT_RUN, "value": np.nan} for row in plain.to_dict("records")]
    kept = pd.DataFrame(reality.keep_known(missing, table)).sort_values(list(table.columns[:-2]))
    assert len(plain) > 10 and kept.to_dict("records") == known.sort_values(list(table.columns[:-2])).to_dict("records")
    other = {**missing[0], "model": "another"}
    assert reality.keep_known([other, rows[-1]], known) == [other, rows[-1]]


@pytest.mark.parametrize("lab", reality_page.LABS)
def test_the_box_of_a_lab_says_what_the_table_says(lab):
    (source,) = (reality_page.ROOT / reality_page.LABS[lab]).glob("lab_*.src.md")
    text = source.read_text(encoding="utf-8")
    assert reality_page.written(text, {"reality": reality_page.box(read_results(reality_page.RESULTS), lab)}) == text


def test_a_box_has_measured_rows_only_and_says_how_many_are_missing():
    table = read_results(reality_page.RESULTS)
    none = table.assign(seed=reality.NOT_RUN)
    assert reality_page.box(none, 2) == "None of the 4 comparisons named for this lab has been run on real images yet."
    known = reality_page.box(table, 3)
    assert "| SimCLR against from scratch, few labels, frozen |" in known and "andom weights" in known
    few = reality_page.difference("eurosat", "random weights", "accuracy", "frozen", 0.03, "label")
    scores = {"": 0.6, "_low": 0.55, "_high": 0.65}
    rows = [{**few, "seed": "all", "metric": f"accuracy{end}", "value": value} for end, value in scores.items()]
    others = table[table["model"] != "random weights"]
    assert "random weights score 0.600 [0.550, 0.650]" in reality_page.box(pd.concat([others, pd.DataFrame(rows)]), 3)
    assert "Random weights were not run" in reality_page.box(others, 3)
    for lab in reality_page.LABS:
        text = reality_page.box(table, lab)
        rows = [line for line in text.splitlines() if line.startswith("| ")]
        assert all(reality_page.NOT_RUN not in row for row in rows)
        named = [each for each in reality_page.CONCLUSIONS if each.lab == lab and each.real]
        run = max(0, len(rows) - 1)
        assert (f": {run} of {len(named)};" if run else f"None of the {len(named)} comparisons") in text


def test_verdicts_are_counted_and_what_was_not_tried_is_not_among_them():
    said = reality_page.census(["same", "undecided", "same", "not testable here", reality_page.NOT_RUN])
    assert said == "Conclusions tried on real images: 3 of 5; verdicts: 2 same, 1 undecided, 0 opposite."


def test_every_run_and_comparison_stands_in_the_table():
    table = read_results(reality.RESULTS)
    there = set(table[["experiment", "model", "label_fraction"]].itertuples(index=False, name=None))
    runs = reality.configurations()
    assert {(study, model, share) for study, model, _, share in reality.asked(runs)} <= there
    compared = table[table["metric"].str.contains("_minus_") & ~table["metric"].str.endswith(("_low", "_high"))]
    assert len(compared) == len(reality.COMPARISONS) + len(reality.AFTERWARDS)
    assert len({run_path(Path(), run) for run in runs}) == len(runs)


def test_comparisons_of_the_page_are_among_those_that_were_named():
    named = {(study, model, condition, other) for study, model, condition, other, _, _ in reality.COMPARISONS}
    for each in reality_page.CONCLUSIONS:
        if each.real is not None:
            key = each.real
            condition = key["target"] if key["experiment"] == "chips" else key["condition"]
            other = str(key["metric"]).partition("_minus_")[2]
            assert (key["experiment"], key["model"], condition, other) in named, each


@pytest.mark.parametrize(
    ("simulated", "real", "word"),
    [
        ((1, 0.5, 2), (2, 1, 3), "same"),
        ((1, 0.5, 2), (-2, -3, -1), "opposite"),
        ((1, 0.5, 2), (0.1, -1, 1), "undecided"),
        ((0.1, -1, 1), (2, 1, 3), "undecided"),
    ],
)
def test_verdicts(simulated, real, word):
    assert reality_page.verdict(Interval(*simulated), Interval(*real)) == word


def test_a_gain_in_an_error_is_better_above_zero(tmp_path):
    row = {"dataset": "x", "experiment": "chips", "model": "equal", "target": "elevation", "split": "blocked"}
    row |= {"label_fraction": 1.0, "condition": "", "seed": "all", "config": ""}
    ends = {"": -2.0, "_low": -3.0, "_high": 1.0}
    write_results(tmp_path / "t.csv", [{**row, "metric": f"mae_minus_one{end}", "value": v} for end, v in ends.items()])
    key = reality_page.difference("chips", "equal", "mae_minus_one", "", target="elevation")
    assert reality_page.lookup(read_results(tmp_path / "t.csv"), key) == Interval(2.0, -1.0, 3.0)
    assert reality_page.lookup(read_results(tmp_path / "t.csv"), {**key, "model": "other"}) is None


def test_marks_that_the_page_lacks_are_named():
    with pytest.raises(ValueError, match="begin floods"):
        reality_page.written("nothing", {"floods": "|"})


def test_flooded_pixels_count_and_dry_ones_do_not():
    confusions = np.array([[[90, 1], [2, 3]], [[0, 0], [0, 4]]])
    found = reality.flooded_iou(confusions, confusions.sum(axis=2), np.array([[1, 1], [1, 0], [0, 2]]))
    assert found == pytest.approx([7 / 10, 3 / 6, 1.0])


def test_pictures_of_like_colours_are_one_group():
    groups = reality.alike(np.array([[10, 10, 10], [12, 10, 10], [90, 60, 10], [91, 60, 12]], np.float32))
    assert groups[0] == groups[1] != groups[2] == groups[3]


def picture(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(path)


@pytest.fixture
def fakes(tmp_path, monkeypatch):
    """Data of the layout of the real ones, and an empty work folder."""
    random = np.random.default_rng(0)
    data = tmp_path / "data"
    for place, name in enumerate(("Forest", "River", "SeaLake")):
        for tile in range(10):
            pixels = random.integers(0, 60, (32, 32, 3)) + 60 * place
            picture(data / "eurosat_rgb" / name / f"{name}_{tile}.jpg", pixels)
    for chip in range(10):
        colour = np.array([40 * (chip // 2), 250 - 45 * (chip // 2), 30])
        for when in ("before", "after"):
            picture(data / "ombria" / f"s2_{when}" / f"{chip:04}.png", colour + random.integers(0, 5, (32, 32, 3)))
            picture(data / "ombria" / f"s1_{when}" / f"{chip:04}.png", random.integers(0, 255, (32, 32)))
        picture(data / "ombria" / "mask" / f"{chip:04}.png", 255 * (random.random((32, 32)) < 0.3))
        layers = random.integers(1, 3000, (12, 32, 32)).astype(np.int16)
        layers[9, :4], layers[10], layers[11] = -9999, random.choice([10, 40, 80], (32, 32)), chip * 10
        write_tif(data / "multitask_chips" / "images" / f"{chip}.tif", layers, LAYERS)
        picture(data / "multitask_chips" / "water" / f"{chip}.png", random.random((32, 32)) < 0.5)
    chips = pd.DataFrame({"chip": range(10), "site_group": [chip // 2 for chip in range(10)]})
    chips.to_csv(data / "multitask_chips" / "chips.csv", index=False)
    monkeypatch.setenv(reality.DATA, str(data))
    monkeypatch.setenv(reality.WORK, str(tmp_path / "work"))
    monkeypatch.setattr(reality, "SHARES", (0.5, 1.0))
    monkeypatch.setattr(reality, "FEW", 0.5)
    for cached in (reality.floods, reality.chips, reality.tiles):
        cached.cache_clear()
    yield data, tmp_path / "work" / "runs"
    for cached in (reality.floods, reality.chips, reality.tiles):
        cached.cache_clear()


def small(run):
    """The same kind of run in a moment."""
    return replace(run, epochs=min(run.epochs, 1), width=1 / 16, crop=16, steps=min(run.steps, 2), batch_size=8)


def done(runs, folder):
    """Carry out runs, and keep them."""
    for run in runs:
        keep(run_path(folder, run), reality.carry_out(run))


@pytest.mark.slow
def test_the_studies_run_on_fakes_and_say_what_was_not_run(fakes, tmp_path):
    data, folder = fakes
    before = sorted(os.walk(data))
    every = reality.configurations()
    runs = [small(run) for run in every if run.model in ("S1", "S2", "S2 + S1, early", "S2 + S1, early, dropout")]
    runs += [small(run) for run in every if run.model in ("land cover", "elevation", "equal", "pcgrad", "gradnorm")]
    runs += [replace(small(run), model="feature", fold=0) for run in every if run.model == "S2 + S1, feature"][:1]
    pretrained = small(every[0])
    tiles = [pretrained, small(next(run for run in every if run.model == "random weights"))]
    tiles += [replace(small(run), label_fraction=0.5) for run in every if run.mode == "scratch"][:1]
    start = run_path(Path(), pretrained).stem
    tiles += [replace(small(run), label_fraction=0.5, start=start) for run in every if run.mode == "finetune"][:1]
    runs += tiles
    done(runs, folder)
    assert sorted(os.walk(data)) == before
    write_results(tmp_path / "reality.csv", reality.tabulate(runs))
    table = read_results(tmp_path / "reality.csv")
    assert set(table["seed"]) >= {"all", reality.NOT_RUN}
    run = table[table["seed"] == "all"]
    found = set(run[["model", "metric", "condition"]].itertuples(index=False, name=None))
    assert {
        ("S2 + S1, decision", "iou", "s2 missing"),
        ("S2 + S1, early, dropout", "iou_minus_S2 + S1, early", "s2 missing"),
        ("equal", "mean_iou_minus_land cover", ""),
        ("pcgrad", "mae_minus_equal", ""),
        ("SimCLR", "accuracy", "finetune"),
        ("SimCLR", "accuracy", "frozen"),
    } <= found
    assert not run["value"].isna().any() and table.loc[table["seed"] == reality.NOT_RUN, "value"].isna().all()
    assert (table["metric"] == "cosine").any()

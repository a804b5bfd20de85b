import importlib
import pkgutil

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, confusion_matrix, f1_score, jaccard_score

import bengelib
from bengelib import metrics
from bengelib.course.targets import MAIN_SCORES
from bengelib.intervals import draw_patches
from bengelib.mae import Reconstruction
from bengelib.methods.geolocation import Geolocation, PlaceClusters
from bengelib.methods.multi_pretext import PretextClasses, PretextValues
from bengelib.metrics import HIGHER_IS_BETTER, LOWER_IS_BETTER, lower_is_better, macro_f1, mean_average_precision
from bengelib.recipes.finetuning import SmoothedClassification
from bengelib.ssl import Contrast
from bengelib.tasks import Classification, MultiLabel, Regression, Segmentation, Task


def drawn(random, patches, draws=4):
    """Multiplicities of a few drawings (D, N), the first being the data as they are."""
    return np.concatenate(
        [np.ones((1, patches), int), random.multinomial(patches, np.full(patches, 1 / patches), draws)]
    )


def test_macro_f1_of_each_drawing_is_that_of_the_repeated_patches():
    random = np.random.default_rng(7)
    truth = np.repeat([0, 1, 2, 3], [40, 30, 7, 3])  # class 3 has too few
    predicted = np.where(random.random(80) < 0.6, truth, random.integers(0, 4, 80))
    counts = drawn(random, 80)
    for score, count in zip(macro_f1(predicted, truth, counts), counts, strict=True):
        repeated = np.repeat(np.arange(80), count)
        expected = f1_score(truth[repeated], predicted[repeated], labels=[0, 1, 2], average="macro", zero_division=0)
        assert score == pytest.approx(expected)


@pytest.mark.parametrize("decimals", [1, 6])  # 1: many equal scores
def test_average_precision_of_each_drawing_is_that_of_the_repeated_patches(decimals):
    random = np.random.default_rng(8)
    truth = (random.random((60, 3)) < [0.5, 0.2, 0.02]).astype(int)
    truth[:3, 2] = 1  # still fewer than five positives: left out
    predicted = np.round(truth * 0.3 + random.random(truth.shape), decimals)
    counts = drawn(random, 60)
    for score, count in zip(mean_average_precision(predicted, truth, counts), counts, strict=True):
        repeated = np.repeat(np.arange(60), count)
        expected = average_precision_score(truth[repeated][:, :2], predicted[repeated][:, :2], average="macro")
        assert score == pytest.approx(expected)


def make_maps(classes=4, absent=3):
    random = np.random.default_rng(0)
    truth = random.choice([index for index in range(classes) if index != absent], (9, 5, 6))
    predicted = np.where(random.random(truth.shape) < 0.6, truth, random.integers(0, classes, truth.shape))
    truth[random.random(truth.shape) < 0.1] = 255
    return predicted.astype(np.uint8), truth.astype(np.uint8)


def test_confusion_by_patch_and_iou_are_those_of_scikit_learn():
    predicted, truth = make_maps()
    confusions = metrics.confusion_by_patch(predicted, truth, 4)
    for patch in range(9):
        known = truth[patch] != 255
        wanted = confusion_matrix(truth[patch][known], predicted[patch][known], labels=range(4))
        np.testing.assert_array_equal(confusions[patch], wanted)
    known = truth != 255
    scores = jaccard_score(truth[known], predicted[known], labels=range(3), average=None)
    found = metrics.iou_by_class(confusions.sum(axis=0)[None])[0]
    np.testing.assert_allclose(found[:3], scores)
    assert np.isnan(found[3])  # predicted, but nowhere in the truth
    assert metrics.mean_iou(confusions.sum(axis=0)[None])[0] == pytest.approx(scores.mean())
    assert np.isnan(metrics.mean_iou(np.zeros((1, 4, 4)))[0])


def test_mean_iou_of_each_drawing_is_that_of_the_repeated_patches():
    predicted, truth = make_maps()
    confusions = metrics.confusion_by_patch(predicted, truth, 4)
    counts = draw_patches(9, draws=20)
    scores = metrics.drawn_mean_iou(confusions, confusions.sum(axis=2), counts)
    for drawn, score in zip(counts, scores, strict=True):
        again = metrics.confusion_by_patch(np.repeat(predicted, drawn, axis=0), np.repeat(truth, drawn, axis=0), 4)
        assert score == pytest.approx(metrics.mean_iou(again.sum(axis=0)[None])[0])


def test_mean_absolute_error_of_each_drawing_is_that_of_the_repeated_patches():
    random = np.random.default_rng(0)
    predicted, truth = random.normal(size=(2, 30))
    truth[[3, 8]] = np.nan
    counts = draw_patches(30, draws=20)
    for drawn, score in zip(counts, metrics.mean_absolute_error(predicted, truth, counts), strict=True):
        assert score == pytest.approx(np.nanmean(np.abs(np.repeat(predicted, drawn) - np.repeat(truth, drawn))))


@pytest.mark.parametrize("case", ["shape", "no maps", "truth outside", "prediction outside"])
def test_maps_that_cannot_be_counted_are_refused(case):
    predicted, truth = make_maps()
    if case == "shape":
        predicted = predicted[:, :4]
    elif case == "no maps":
        predicted, truth = predicted[0], truth[0]
    else:
        (truth if case == "truth outside" else predicted)[0] = 4
        truth[0, 0, 0] = min(truth[0, 0, 0], 4)
    with pytest.raises(ValueError, match=r"one shape|outside the 4 classes"):
        metrics.confusion_by_patch(predicted, truth, 4)


KINDS, IMAGES = torch.tensor([0, 1, 1, 0, 1]), torch.rand(5, 4)
LOGITS, PIXELS = torch.rand(5, 2), torch.rand(5, 3, 4)
FIGURES = (
    (Classification("kind", "ab"), {"kind": LOGITS}, {"kind": KINDS}),
    (SmoothedClassification("kind", "ab"), {"kind": LOGITS}, {"kind": KINDS}),
    (Segmentation("map", "ab"), {"map": LOGITS[..., None, None]}, {"map": KINDS[:, None, None]}),
    (Regression("size", 1.0), {"size": IMAGES[:, 0]}, {"size": IMAGES[:, 1]}),
    (MultiLabel("tags", "ab"), {"tags": LOGITS}, {"tags": LOGITS.round()}),
    (Contrast(), {"view_1": IMAGES, "view_2": IMAGES, "features": IMAGES}, {}),
    (Reconstruction(), {"reconstruction": PIXELS, "pixels": PIXELS, "mask": torch.ones(5, 3)}, {}),
    (Geolocation(PlaceClusters(np.eye(2))), {"place": LOGITS}, {"lonlat": torch.rand(5, 2)}),
    (PretextValues("dem"), {"dem": IMAGES, "dem/truth": IMAGES}, {}),
    (PretextClasses("zone", "ab"), {"zone": LOGITS, "zone/truth": KINDS}, {"zone": KINDS}),
)
"""Each task that there is, with what it can measure."""


@pytest.mark.parametrize(("task", "outputs", "batch"), FIGURES, ids=lambda each: type(each).__name__)
def test_of_every_figure_of_a_task_it_is_known_which_way_is_better(task, outputs, batch):
    metric = task.metric()
    task.update(metric, outputs, batch)
    for name in task.summary(metric):
        assert lower_is_better(f"{task.target}/{name}") is (name in ("loss", "mae", "error"))


def test_all_tasks_are_among_them():
    found = set()
    for module in pkgutil.walk_packages(bengelib.__path__, "bengelib."):
        if not module.name.endswith("__main__"):
            classes = [each for each in vars(importlib.import_module(module.name)).values() if isinstance(each, type)]
            measure = [each for each in classes if hasattr(each, "summary") and hasattr(each, "metric")]
            found |= {each for each in measure if each.__module__.startswith("bengelib.")} - {Task}
    assert found == {type(task) for task, *_ in FIGURES}


def test_no_figure_is_better_both_ways_and_an_unknown_one_is_refused():
    assert not set(LOWER_IS_BETTER) & set(HIGHER_IS_BETTER)
    assert all(score.metric in LOWER_IS_BETTER + HIGHER_IS_BETTER for score in MAIN_SCORES.values())
    with pytest.raises(ValueError, match=r"lower or higher values of 'rmse' are better; use one for which lower is"):
        lower_is_better("size/rmse")

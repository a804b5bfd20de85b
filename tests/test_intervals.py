import numpy as np
import pytest
from sklearn.metrics import average_precision_score, confusion_matrix, f1_score, jaccard_score

from bengelib import intervals
from bengelib.intervals import Interval, _mean_over_runs, bootstrap, macro_f1, mean_average_precision

DRAWS = 300


def simulate_runs(random, truth, share_right, seeds=1, spread=0.0):
    """Predictions (S, N) that are right with a probability that varies from seed to seed; a wrong one is 1 - truth."""
    rates = np.clip(share_right + spread * random.normal(size=(seeds, 1)), 0, 1)
    right = random.random((seeds, len(truth))) < rates
    return np.where(right, truth, 1 - truth)


def test_value_is_the_score_and_the_interval_holds_it():
    truth = np.array([0, 1, 1, 0, 1, 0, 0, 1] * 20)
    predicted = truth.copy()
    predicted[:40] = 1 - predicted[:40]
    interval = bootstrap(predicted, truth, draws=DRAWS)
    assert interval.value == 0.75
    assert interval.low < 0.75 < interval.high
    assert interval.half_width == pytest.approx(1.96 * np.sqrt(0.75 * 0.25 / 160), rel=0.15)  # the binomial one


def test_coverage_of_the_true_accuracy():
    """A 95 % interval holds the truth in about 95 % of repeated experiments, and a 50 % interval in half of them."""
    random = np.random.default_rng(0)
    held = {0.95: 0, 0.5: 0}
    experiments = 200  # of which 190 +- 3 hold it when all is well
    for number in range(experiments):
        truth = random.integers(0, 2, 250)
        predicted = simulate_runs(random, truth, 0.7)
        for level in held:
            interval = bootstrap(predicted, truth, level=level, draws=200, seed=number)
            held[level] += interval.low <= 0.7 <= interval.high
    assert 0.90 <= held[0.95] / experiments <= 0.985
    assert 0.40 <= held[0.5] / experiments <= 0.60


def test_spread_between_seeds_widens_the_interval():
    random = np.random.default_rng(1)
    truth = random.integers(0, 2, 2000)
    calm = bootstrap(simulate_runs(random, truth, 0.7, seeds=5), truth, draws=DRAWS)
    shaky = bootstrap(simulate_runs(random, truth, 0.7, seeds=5, spread=0.1), truth, draws=DRAWS)
    assert shaky.half_width > 2 * calm.half_width


def test_mean_over_seeds():
    truth = np.zeros(10, int)
    predicted = np.stack([np.zeros(10, int), np.ones(10, int), np.array([0, 1] * 5)])
    assert bootstrap(predicted, truth, draws=20).value == 0.5


def test_seeds_without_errors_leave_no_doubt():
    truth = np.arange(10)
    assert bootstrap(np.stack([truth] * 3), truth, draws=20) == Interval(1.0, 1.0, 1.0)


def two_models(random, size=400):
    """Two models that mostly err on the same hard patches; the first is a little better."""
    truth = random.integers(0, 2, size)
    hard = random.random(size) < 0.3
    first = np.where(hard & (random.random(size) < 0.8), 1 - truth, truth)
    second = np.where(hard & (random.random(size) < 0.9), 1 - truth, truth)
    return truth, first, second


def test_paired_difference_is_narrower_than_an_unpaired_one():
    truth, first, second = two_models(np.random.default_rng(2))
    paired = bootstrap(first, truth, baseline=second, draws=DRAWS)
    separate = [bootstrap(model, truth, draws=DRAWS).half_width for model in (first, second)]
    assert paired.value == pytest.approx((first == truth).mean() - (second == truth).mean())
    assert paired.half_width < 0.75 * np.hypot(*separate)


def test_a_model_does_not_differ_from_itself():
    truth, first, _ = two_models(np.random.default_rng(3))
    assert bootstrap(first, truth, baseline=first, draws=50) == Interval(0.0, 0.0, 0.0)


def test_numbers_of_seeds_may_differ():
    random = np.random.default_rng(4)
    truth = random.integers(0, 2, 200)
    runs = simulate_runs(random, truth, 0.9, seeds=4)
    interval = bootstrap(runs, truth, baseline=np.zeros_like(truth), draws=DRAWS)  # a majority class has one run
    assert interval.value == pytest.approx((runs == truth).mean() - (truth == 0).mean())
    assert interval.excludes_zero


def test_groups_are_drawn_as_wholes_and_widen_the_interval():
    """Patches of a tile are right or wrong together, so there are 20 independent ones here, not 400."""
    random = np.random.default_rng(5)
    tiles = np.repeat([f"tile {number}" for number in range(20)], 20)
    right = np.repeat(random.random(20) < 0.7, 20)
    truth = random.integers(0, 2, 400)
    predicted = np.where(right, truth, 1 - truth)
    alone = bootstrap(predicted, truth, draws=DRAWS)
    grouped = bootstrap(predicted, truth, groups=tiles, draws=DRAWS)
    assert grouped.value == alone.value
    assert grouped.half_width > 3 * alone.half_width


def test_one_group_gives_no_spread():
    truth, first, _ = two_models(np.random.default_rng(6), 50)
    interval = bootstrap(first, truth, groups=["only"] * 50, draws=20)
    assert interval.low == interval.high == interval.value


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


def test_any_score_will_do():
    truth, first, _ = two_models(np.random.default_rng(7))

    def errors(predicted, truth, counts):
        return counts @ (predicted != truth)

    interval = bootstrap(first, truth, errors, draws=50)
    assert interval.value == (first != truth).sum()
    assert interval.low < interval.value < interval.high


def test_scores_of_maps():
    """Predictions and truth may have more dimensions than the patches."""
    random = np.random.default_rng(8)
    truth = random.integers(0, 3, (30, 4, 4))
    predicted = np.where(random.random(truth.shape) < 0.8, truth, 0)
    single, runs = (bootstrap(of, truth, draws=50) for of in (predicted, predicted[None]))
    assert single == runs and single.value == pytest.approx((predicted == truth).mean())


def test_same_seed_same_interval():
    truth, first, second = two_models(np.random.default_rng(9))
    one, again, other = (bootstrap(first, truth, baseline=second, draws=60, seed=seed) for seed in (1, 1, 2))
    assert one == again and one != other


@pytest.mark.parametrize(
    ("predicted", "truth", "options"),
    [
        (np.zeros(3), np.zeros(4), {}),
        (np.zeros((2, 3)), np.zeros(4), {}),
        (np.zeros((4, 6)), np.zeros(4), {}),  # logits instead of classes
        (np.zeros(4), np.zeros(4), {"groups": ["a", "b"]}),
        (np.zeros(4), np.zeros(4), {"baseline": np.zeros(5)}),
        (np.zeros(0), np.zeros(0), {}),
    ],
)
def test_shapes_that_do_not_match_are_refused(predicted, truth, options):
    with pytest.raises(ValueError, match=r"shape|groups|patches"):
        bootstrap(predicted, truth, draws=5, **options)


def test_interval_decides_or_not():
    assert Interval(0.1, 0.05, 0.2).excludes_zero and Interval(-0.1, -0.2, -0.05).excludes_zero
    assert not Interval(0.1, -0.05, 0.2).excludes_zero and not Interval(0.1, 0.0, 0.2).excludes_zero
    assert Interval(0.1, 0.05, 0.2).half_width == pytest.approx(0.075)
    assert str(Interval(0.5, 0.4, 0.625)) == "0.500 [0.400, 0.625]"


def test_few_runs_vary_in_the_bootstrap_as_much_as_their_mean_does():
    """The variance of a mean over n runs is s^2 / n; drawing all n again would give (n - 1) / n of it."""
    by_run = np.array([0.1, 0.5, 0.9])
    drawn = _mean_over_runs(np.repeat(by_run[:, None], 20_001, axis=1), np.random.default_rng(0))
    assert drawn[0] == pytest.approx(by_run.mean())
    assert drawn[1:].var() == pytest.approx(by_run.var(ddof=1) / 3, rel=0.05)


def test_a_single_run_varies_by_patches_alone():
    scores = np.random.default_rng(0).random((1, 50))
    assert np.array_equal(_mean_over_runs(scores, np.random.default_rng(1)), scores[0])


def make_maps(classes=4, absent=3):
    random = np.random.default_rng(0)
    truth = random.choice([index for index in range(classes) if index != absent], (9, 5, 6))
    predicted = np.where(random.random(truth.shape) < 0.6, truth, random.integers(0, classes, truth.shape))
    truth[random.random(truth.shape) < 0.1] = 255
    return predicted.astype(np.uint8), truth.astype(np.uint8)


def test_confusion_by_patch_and_iou_are_those_of_scikit_learn():
    predicted, truth = make_maps()
    confusions = intervals.confusion_by_patch(predicted, truth, 4)
    for patch in range(9):
        known = truth[patch] != 255
        wanted = confusion_matrix(truth[patch][known], predicted[patch][known], labels=range(4))
        np.testing.assert_array_equal(confusions[patch], wanted)
    known = truth != 255
    scores = jaccard_score(truth[known], predicted[known], labels=range(3), average=None)
    found = intervals.iou_by_class(confusions.sum(axis=0)[None])[0]
    np.testing.assert_allclose(found[:3], scores)
    assert np.isnan(found[3])  # predicted, but nowhere in the truth
    assert intervals.mean_iou(confusions.sum(axis=0)[None])[0] == pytest.approx(scores.mean())
    assert np.isnan(intervals.mean_iou(np.zeros((1, 4, 4)))[0])


def test_mean_iou_of_each_drawing_is_that_of_the_repeated_patches():
    predicted, truth = make_maps()
    confusions = intervals.confusion_by_patch(predicted, truth, 4)
    counts = intervals.draw_patches(9, draws=20)
    scores = intervals.drawn_mean_iou(confusions, confusions.sum(axis=2), counts)
    for drawn, score in zip(counts, scores, strict=True):
        again = intervals.confusion_by_patch(np.repeat(predicted, drawn, axis=0), np.repeat(truth, drawn, axis=0), 4)
        assert score == pytest.approx(intervals.mean_iou(again.sum(axis=0)[None])[0])


def test_mean_absolute_error_of_each_drawing_is_that_of_the_repeated_patches():
    random = np.random.default_rng(0)
    predicted, truth = random.normal(size=(2, 30))
    truth[[3, 8]] = np.nan
    counts = intervals.draw_patches(30, draws=20)
    for drawn, score in zip(counts, intervals.mean_absolute_error(predicted, truth, counts), strict=True):
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
        intervals.confusion_by_patch(predicted, truth, 4)

import numpy as np
import pytest

from bengelib.intervals import Interval, _mean_over_runs, bootstrap

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

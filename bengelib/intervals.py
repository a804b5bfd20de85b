"""Uncertainty of a result: bootstrap intervals over test patches (or tiles) and seeds, and paired differences.

A score is uncertain for two reasons: the choice of test patches, and the random numbers of training. The bootstrap
(Efron 1979, doi:10.1214/aos/1176344552) resamples both with replacement, many times.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bengelib.arguments import check_share, whole_number
from bengelib.metrics import Score, accuracy

POOLED = "all"
"""Stands in the column `seed` of a table of results where a value is pooled over the seeds."""


class Interval(NamedTuple):
    """A value and the bounds of its interval."""

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half the width of the interval."""
        return (self.high - self.low) / 2

    @property
    def excludes_zero(self) -> bool:
        """True if a difference is significant: its interval does not contain 0."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap(
    predicted: np.ndarray,
    truth: np.ndarray,
    score: Score = accuracy,
    baseline: np.ndarray | None = None,
    groups: Sequence[str] | None = None,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> Interval:
    """Mean score over seeds, with a percentile interval from resampling patches and seeds together.

    Args:
        predicted: (S, N, ...) predictions of S training runs for the same N test patches; with as many dimensions as
            `truth`, a single run.
        truth: (N, ...).
        score: such as `accuracy`, `macro_f1` or `mean_average_precision`; see `Score`.
        baseline: predictions (T, N, ...) of another model for the same patches. The result is then the difference of
            the mean scores, with the same patches for both in every resample: a paired comparison.
        groups: (N,) names, such as MGRS tiles, resampled as a whole, since patches of one tile are not independent.
        level: fraction of the resamples inside the interval.
        draws: number of resamples.
        seed: of the resampling.

    Returns:
        The score (or difference) of the original data, and the interval around it.

    Raises:
        ValueError: shapes do not match, or there are no patches.
    """
    truth = np.asarray(truth)
    counts = draw_patches(len(truth), groups, draws, seed)
    of, against = (None if p is None else score_runs(p, truth, score, counts) for p in (predicted, baseline))
    return pool(np.asarray(of), against, level, seed)


def draw_patches(patches: int, groups: Sequence[str] | None = None, draws: int = 1000, seed: int = 0) -> np.ndarray:
    """Number of times that each resample contains each patch, (1 + draws, patches); the first row is all ones.

    Raises:
        ValueError: there are no patches, or not one group for each.
    """
    if not patches:
        raise ValueError("there are no patches to draw from")
    if groups is not None and len(groups) != patches:
        raise ValueError(f"{len(groups)} groups for {patches} patches")
    draws, seed = whole_number("draws", draws), whole_number("seed", seed, 0)
    names, member = np.unique(groups, return_inverse=True) if groups is not None else (range(patches), slice(None))
    units = len(names)
    counts = np.random.default_rng(seed).multinomial(units, np.full(units, 1 / units), size=draws)[:, member]
    return np.concatenate([np.ones((1, patches), counts.dtype), counts])


def score_runs(predicted: np.ndarray, truth: np.ndarray, score: Score, counts: np.ndarray) -> np.ndarray:
    """Score of each run in each resample, (S, 1 + D); arguments as for `bootstrap`, `counts` from `draw_patches`."""
    return np.stack([score(run, truth, counts) for run in _runs(predicted, truth)])


def pool(scores: np.ndarray, baseline: np.ndarray | None = None, level: float = 0.95, seed: int = 0) -> Interval:
    """Interval of the mean over runs, or of its difference to a baseline in the same resamples of patches.

    Args:
        scores: (S, 1 + D) from `score_runs`; each resample of patches is combined with a resample of runs.
        baseline: (T, 1 + D), likewise.
        level: fraction of the resamples inside the interval.
        seed: of the resampling of runs.
    """
    check_share("level", level, one=False)
    random = np.random.default_rng((whole_number("seed", seed, 0), 1))  # not the numbers that drew the patches
    result = _mean_over_runs(scores, random)
    if baseline is not None:
        result = result - _mean_over_runs(baseline, random)
    low, high = np.nanquantile(result[1:], [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(result[0]), float(low), float(high))


def _mean_over_runs(scores: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Mean over all runs in the first column, and over runs resampled with replacement in the others, (1 + D,).

    Each resample has one run fewer than there are: with n runs, resamples of n would underestimate the variance of the
    mean by (n - 1) / n, which this corrects (Rao and Wu 1988, doi:10.1080/01621459.1988.10478591).
    """
    chosen = random.integers(0, len(scores), size=(max(1, len(scores) - 1), scores.shape[1]))
    mean: np.ndarray = np.take_along_axis(scores, chosen, axis=0).mean(axis=0)
    mean[0] = scores[:, 0].mean()
    return mean


def _runs(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Predictions as (S, N, ...); a single run gets the leading dimension."""
    predicted = np.asarray(predicted)
    if predicted.shape[:1] == truth.shape[:1] and predicted.ndim == truth.ndim:
        predicted = predicted[None]
    if predicted.ndim < 2 or predicted.shape[1] != len(truth):
        raise ValueError(f"predictions of shape {predicted.shape} do not fit a truth of shape {truth.shape}")
    return predicted

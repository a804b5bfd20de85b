"""How sure a result is: bootstrap intervals over test patches (or tiles) and seeds, and paired differences.

Two things make a score uncertain: which patches happened to be tested, and which random numbers happened to be drawn in
training. The bootstrap (Efron 1979, doi:10.1214/aos/1176344552) draws both again, with replacement, many times.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

Score = Callable[[np.ndarray, np.ndarray], float]
"""A score from predictions (N, ...) and truth (N, ...)."""


class Interval(NamedTuple):
    """A value and the ends of its interval."""

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half of the length of the interval."""
        return (self.high - self.low) / 2

    @property
    def excludes_zero(self) -> bool:
        """Whether a difference is decided: its interval does not hold 0."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def accuracy(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Share of equal entries of two (N,) arrays."""
    return float((predicted == truth).mean())


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
    """The mean score over seeds, with a percentile interval over patches and seeds drawn again together.

    Args:
        predicted: (S, N, ...) predictions of S training runs for the same N test patches; (N,) counts as one run.
        truth: (N, ...).
        score: computes one number from the predictions of one run and the truth.
        baseline: predictions (T, N, ...) of another model for the same patches. When given, the result is the
            difference of the mean scores, each draw using the same patches for both: a paired comparison.
        groups: (N,) names, such as MGRS tiles, drawn as wholes, because patches of one tile are not independent.
        level: share of the draws inside the interval.
        draws: how many times to draw again.
        seed: of the drawing.

    Returns:
        The score (or difference) of the data as they are, and the interval around it.

    Raises:
        ValueError: shapes that do not match.
    """
    truth = np.asarray(truth)
    runs, others = _runs(predicted, truth), None if baseline is None else _runs(baseline, truth)
    random = np.random.default_rng(seed)
    members = _members(groups, len(truth))

    def mean_score(of: np.ndarray, which_runs: np.ndarray, patches: np.ndarray) -> float:
        scores = {run: score(of[run][patches], truth[patches]) for run in np.unique(which_runs)}
        return float(np.mean([scores[run] for run in which_runs]))

    def difference(draw: bool, patches: np.ndarray) -> float:
        results = []
        for of in (runs, others):
            if of is not None:
                which = random.integers(0, len(of), len(of)) if draw else np.arange(len(of))
                results.append(mean_score(of, which, patches))
        return results[0] if len(results) == 1 else results[0] - results[1]

    value = difference(False, np.arange(len(truth)))
    drawn = [
        difference(True, np.concatenate([members[i] for i in random.integers(0, len(members), len(members))]))
        for _ in range(draws)
    ]
    low, high = np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))


def _runs(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Predictions as (S, N, ...); a single run gets the leading dimension."""
    predicted = np.asarray(predicted)
    if predicted.shape[:1] == truth.shape[:1] and predicted.ndim == truth.ndim:
        predicted = predicted[None]
    if predicted.ndim < 2 or predicted.shape[1] != len(truth):
        raise ValueError(f"predictions of shape {predicted.shape} do not fit a truth of shape {truth.shape}")
    return predicted


def _members(groups: Sequence[str] | None, count: int) -> list[np.ndarray]:
    """Patch indices of each unit that is drawn: single patches, or all patches of a group."""
    if groups is None:
        return list(np.arange(count)[:, None])
    if len(groups) != count:
        raise ValueError(f"{len(groups)} groups for {count} patches")
    names = np.asarray(groups)
    return [np.flatnonzero(names == name) for name in np.unique(names)]

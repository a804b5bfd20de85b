"""How sure a result is: bootstrap intervals over test patches (or tiles) and seeds, and paired differences.

Two things make a score uncertain: which patches happened to be tested, and which random numbers happened to be drawn in
training. The bootstrap (Efron 1979, doi:10.1214/aos/1176344552) draws both again, with replacement, many times.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from bengelib.arguments import check_share, whole_number

MIN_POSITIVES = 5
"""Macro averages are over the classes with at least this many positives among the samples that are evaluated."""

Score = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""The score of each drawing, (D,), from predictions and truth, (N, ...), and how often each patch is drawn, (D, N)."""


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


def accuracy(predicted: np.ndarray, truth: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Share of right answers in each drawing, (D,); predictions are class indices, (N,) or maps (N, H, W)."""
    right = (predicted == truth).reshape(len(truth), -1).mean(axis=1)  # (N,)
    shares: np.ndarray = counts @ right / counts.sum(axis=1)
    return shares


def macro_f1(predicted: np.ndarray, truth: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Mean F1 in each drawing, (D,), over the classes with five or more of the (N,) true labels, drawn or not."""
    classes = [label for label in np.unique(truth) if (truth == label).sum() >= MIN_POSITIVES]
    scores = []
    for label in classes:
        hits = counts @ ((predicted == label) & (truth == label))
        either = counts @ ((predicted == label).astype(np.int64) + (truth == label))
        scores.append(np.divide(2 * hits, either, out=np.zeros(len(counts)), where=either > 0))
    return np.mean(scores, axis=0) if scores else np.full(len(counts), np.nan)


def mean_average_precision(predicted: np.ndarray, truth: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Mean over classes of the average precision in each drawing, (D,), for scores (N, K) and labels (N, K) of 0 and 1.

    Over the classes with five or more positives; a drawing without a positive of a class leaves that class out.
    Average precision is the mean, over the positives, of the precision among all that score as high or higher.
    """
    scores = [
        average_precision(predicted[:, place], truth[:, place], counts)
        for place in range(truth.shape[1])
        if truth[:, place].sum() >= MIN_POSITIVES
    ]
    return np.nanmean(scores, axis=0) if scores else np.full(len(counts), np.nan)


def average_precision(predicted: np.ndarray, truth: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Average precision of one class in each drawing, (D,), NaN without a positive; scores (N,), labels (N,)."""
    order = np.argsort(-predicted, kind="stable")
    ranked = predicted[order]
    drawn = counts[:, order].astype(np.float32)  # (D, N), best score first
    positive = truth[order] > 0
    hits, above = np.cumsum(drawn * positive, axis=1), np.cumsum(drawn, axis=1)
    # Equal scores share the precision at the last of them. Only the ranks of positives count.
    last = (np.searchsorted(-ranked, -ranked, side="right") - 1)[positive]
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.nan_to_num(hits[:, last] / above[:, last])  # 0 / 0: nothing so high was drawn
        mean: np.ndarray = (drawn[:, positive] * precision).sum(axis=1) / hits[:, -1]
    return mean


def confusion_by_patch(predicted: np.ndarray, truth: np.ndarray, classes: int, ignore: int = 255) -> np.ndarray:
    """Confusion matrix of the pixels of each patch, (N, K, K), rows the truth, from maps (N, H, W) of class indices.

    Pixels whose truth is `ignore` are left out. Matrices of patches add up to that of any drawing of patches.

    Raises:
        ValueError: maps of different shapes, or an index outside the classes.
    """
    if predicted.shape != truth.shape or truth.ndim != 3:
        raise ValueError(f"predictions {predicted.shape} and truth {truth.shape} must be maps (N, H, W) of one shape")
    known = truth != ignore
    if known.any() and max(truth[known].max(), predicted[known].max()) >= classes:
        raise ValueError(
            f"an index is outside the {classes} classes; give indices from 0 to {classes - 1}, or {ignore}"
        )
    confusions = np.empty((len(truth), classes, classes), dtype=np.int64)
    for patch, counted in enumerate(known):  # one at a time: the cells of all pixels would take 8 bytes each
        cells = truth[patch][counted].astype(np.int64) * classes + predicted[patch][counted]
        confusions[patch] = np.bincount(cells, minlength=classes**2).reshape(classes, classes)
    return confusions


def iou_by_class(confusions: np.ndarray) -> np.ndarray:
    """Intersection over union of each class, (D, K), from confusion matrices (D, K, K); NaN where there is no truth."""
    confusions = np.asarray(confusions, dtype=np.float64)
    hits = np.diagonal(confusions, axis1=1, axis2=2)
    support = confusions.sum(axis=2)
    either = support + confusions.sum(axis=1) - hits
    return np.divide(hits, either, out=np.full(hits.shape, np.nan), where=support > 0)


def mean_iou(confusions: np.ndarray) -> np.ndarray:
    """Mean intersection over union over the classes that occur in the truth, (D,), from matrices (D, K, K)."""
    scores = iou_by_class(confusions)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # no truth at all: the mean is NaN
        mean: np.ndarray = np.nanmean(scores, axis=1)
    return mean


def drawn_mean_iou(predicted: np.ndarray, truth: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Mean intersection over union in each drawing, (D,); a `Score` for matrices (N, K, K) of `confusion_by_patch`.

    Args:
        predicted: confusion matrices of each patch.
        truth: (N, K), pixels of each class in each patch; classes without any are left out in all drawings.
        counts: how often each patch is drawn, (D, N).
    """
    classes = np.flatnonzero(truth.sum(axis=0))
    size = predicted.shape[1]
    confusions = (counts.astype(np.float64) @ predicted.reshape(len(predicted), -1)).reshape(-1, size, size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        mean: np.ndarray = np.nanmean(iou_by_class(confusions)[:, classes], axis=1)
    return mean


def mean_absolute_error(predicted: np.ndarray, truth: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Mean absolute error in each drawing, (D,), in the unit of the values (N,); NaN truth is left out."""
    known = ~np.isnan(truth)
    errors = np.abs(predicted - truth)[known]
    drawn = counts[:, known]
    mean: np.ndarray = drawn @ errors / drawn.sum(axis=1)
    return mean


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
        predicted: (S, N, ...) predictions of S training runs for the same N test patches; with as many dimensions as
            `truth` it counts as one run.
        truth: (N, ...).
        score: see `Score`; `accuracy`, `macro_f1` and `mean_average_precision` are such.
        baseline: predictions (T, N, ...) of another model for the same patches. When given, the result is the
            difference of the mean scores, each draw using the same patches for both: a paired comparison.
        groups: (N,) names, such as MGRS tiles, drawn as wholes, because patches of one tile are not independent.
        level: share of the draws inside the interval.
        draws: how many times to draw again.
        seed: of the drawing.

    Returns:
        The score (or difference) of the data as they are, and the interval around it.

    Raises:
        ValueError: shapes that do not match, or no patches.
    """
    truth = np.asarray(truth)
    counts = draw_patches(len(truth), groups, draws, seed)
    of, against = (None if p is None else score_runs(p, truth, score, counts) for p in (predicted, baseline))
    return pool(np.asarray(of), against, level, seed)


def draw_patches(patches: int, groups: Sequence[str] | None = None, draws: int = 1000, seed: int = 0) -> np.ndarray:
    """How often each patch falls in each drawing, (1 + draws, patches); the first row is the data as they are.

    Raises:
        ValueError: no patches, or not a group for each.
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
    """Score of each run in each drawing, (S, 1 + D); arguments as for `bootstrap`, `counts` from `draw_patches`."""
    return np.stack([score(run, truth, counts) for run in _runs(predicted, truth)])


def pool(scores: np.ndarray, baseline: np.ndarray | None = None, level: float = 0.95, seed: int = 0) -> Interval:
    """The interval of the mean over runs, or of its difference to a baseline in the same drawings of patches.

    Args:
        scores: (S, 1 + D) from `score_runs`; each drawing of patches gets a drawing of runs as well.
        baseline: (T, 1 + D), likewise.
        level: share of the draws inside the interval.
        seed: of the drawing of runs.
    """
    check_share("level", level, one=False)
    random = np.random.default_rng((whole_number("seed", seed, 0), 1))  # other numbers than those that drew the patches
    result = _mean_over_runs(scores, random)
    if baseline is not None:
        result = result - _mean_over_runs(baseline, random)
    low, high = np.nanquantile(result[1:], [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(result[0]), float(low), float(high))


def _mean_over_runs(scores: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Mean over all runs in the first column, and over runs drawn with replacement in the others, (1 + D,).

    One run fewer is drawn than there are: with few runs, drawing all of them again makes the mean vary too little, by
    (n - 1) / n in its variance, and this makes up for it (Rao and Wu 1988, doi:10.1080/01621459.1988.10478591).
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

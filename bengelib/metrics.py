"""Scores from predictions and truth, for the original data or for every resample of a bootstrap.

A `Score` is computed for many resamples of patches at once, as `bengelib.intervals` needs it;
`counts = np.ones((1, N))` gives the score of the N original patches.
"""

import warnings
from collections.abc import Callable

import numpy as np

LOWER_IS_BETTER = ("loss", "mae", "error")
"""Names of metrics for which lower is better."""

HIGHER_IS_BETTER = (
    "accuracy", "macro_f1", "map", "average_precision", "mean_iou", "iou", "r2", "retrieval", "spread", "rank"
)  # fmt: skip
"""Names of metrics for which higher is better. A metric with a new name is added here or above."""

MIN_POSITIVES = 5
"""Macro averages include the classes with at least this many positives among the evaluated samples."""

Score = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""The score of each resample, (D,), from predictions and truth, (N, ...), and the count of each patch, (D, N)."""


def lower_is_better(name: str) -> bool:
    """Return whether lower values of a metric are better, by its name.

    Args:
        name: of the metric, or of that of a target, such as `"season/mae"`.

    Raises:
        ValueError: a name that is in neither list.
    """
    metric = name.rpartition("/")[2]
    if metric not in LOWER_IS_BETTER + HIGHER_IS_BETTER:
        raise ValueError(
            f"it is not known whether lower or higher values of {metric!r} are better; use one for which lower is, "
            f"{LOWER_IS_BETTER}, or higher is, {HIGHER_IS_BETTER}"
        )
    return metric in LOWER_IS_BETTER


def f1_by_class(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """F1 score (K,) and number of true samples (K,) of each class of a confusion matrix (K, K), rows the truth.

    F1 is 2 TP / (2 TP + FP + FN), and 0 where a class neither occurs nor is predicted.
    """
    hits = np.diag(confusion).astype(np.float64)
    support = confusion.sum(axis=1)
    total = support + confusion.sum(axis=0)
    f1 = np.divide(2 * hits, total, out=np.zeros_like(hits), where=total > 0)
    return f1, support


def accuracy(predicted: np.ndarray, truth: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Accuracy in each resample, (D,); predictions are class indices, (N,) or maps (N, H, W)."""
    right = (predicted == truth).reshape(len(truth), -1).mean(axis=1)  # (N,)
    shares: np.ndarray = counts @ right / counts.sum(axis=1)
    return shares


def macro_f1(predicted: np.ndarray, truth: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Macro F1 in each resample, (D,), over the classes with five or more of the original (N,) labels."""
    classes = [label for label in np.unique(truth) if (truth == label).sum() >= MIN_POSITIVES]
    scores = []
    for label in classes:
        hits = counts @ ((predicted == label) & (truth == label))
        either = counts @ ((predicted == label).astype(np.int64) + (truth == label))
        scores.append(np.divide(2 * hits, either, out=np.zeros(len(counts)), where=either > 0))
    return np.mean(scores, axis=0) if scores else np.full(len(counts), np.nan)


def mean_average_precision(predicted: np.ndarray, truth: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Mean over classes of the average precision in each resample, (D,); scores (N, K), labels (N, K) of 0 and 1.

    Classes with five or more positives count; a resample without a positive of a class leaves that class out. Average
    precision is the mean, over the positives, of the precision among all samples with an equal or higher score.
    """
    scores = [
        average_precision(predicted[:, place], truth[:, place], counts)
        for place in range(truth.shape[1])
        if truth[:, place].sum() >= MIN_POSITIVES
    ]
    return np.nanmean(scores, axis=0) if scores else np.full(len(counts), np.nan)


def average_precision(predicted: np.ndarray, truth: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Average precision of one class in each resample, (D,), NaN without a positive; scores (N,), labels (N,)."""
    order = np.argsort(-predicted, kind="stable")
    ranked = predicted[order]
    drawn = counts[:, order].astype(np.float32)  # (D, N), best score first
    positive = truth[order] > 0
    hits, above = np.cumsum(drawn * positive, axis=1), np.cumsum(drawn, axis=1)
    # Equal scores share the precision at the last of them. Only the ranks of positives count.
    last = (np.searchsorted(-ranked, -ranked, side="right") - 1)[positive]
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.nan_to_num(hits[:, last] / above[:, last])  # 0 / 0: no sample of such a score was drawn
        mean: np.ndarray = (drawn[:, positive] * precision).sum(axis=1) / hits[:, -1]
    return mean


def confusion_by_patch(predicted: np.ndarray, truth: np.ndarray, classes: int, ignore: int = 255) -> np.ndarray:
    """Confusion matrix of the pixels of each patch, (N, K, K), rows the truth, from maps (N, H, W) of class indices.

    Pixels whose truth is `ignore` are left out. The matrix of a resample is the sum of those of its patches.

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
    """Intersection over union of each class, (D, K), from confusion matrices (D, K, K); NaN for absent classes."""
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
    """Mean intersection over union in each resample, (D,); a `Score` for matrices (N, K, K) of `confusion_by_patch`.

    Args:
        predicted: confusion matrices of each patch.
        truth: (N, K), pixels of each class in each patch; classes without any are left out of all resamples.
        counts: of each patch in each resample, (D, N).
    """
    classes = np.flatnonzero(truth.sum(axis=0))
    size = predicted.shape[1]
    confusions = (counts.astype(np.float64) @ predicted.reshape(len(predicted), -1)).reshape(-1, size, size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        mean: np.ndarray = np.nanmean(iou_by_class(confusions)[:, classes], axis=1)
    return mean


def mean_absolute_error(predicted: np.ndarray, truth: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Mean absolute error in each resample, (D,), in the unit of the values (N,); NaN truth is left out."""
    known = ~np.isnan(truth)
    errors = np.abs(predicted - truth)[known]
    drawn = counts[:, known]
    mean: np.ndarray = drawn @ errors / drawn.sum(axis=1)
    return mean

"""A task is a target, a loss on it, and metrics for it; it reads its own key from the outputs and from the batch."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassConfusionMatrix, MultilabelAveragePrecision, MultilabelStatScores

from bengelib.errors import BandError, MissingModalityError
from bengelib.intervals import MIN_POSITIVES

Metrics = Metric | MetricCollection


class Task(Protocol):
    """What `fit` and `evaluate` need of a task."""

    target: str

    def loss(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Any]) -> Tensor:
        """Mean loss over the batch, ()."""

    def metric(self) -> Metrics:
        """A fresh torchmetrics object with exact, distributed state; it is fed by `update`."""

    def update(self, metric: Metrics, outputs: Mapping[str, Tensor], batch: Mapping[str, Any]) -> None:
        """Add one batch to the metric."""

    def summary(self, metric: Metrics) -> dict[str, float]:
        """Figures by name, from everything that the metric has seen."""


class Classification:
    """One class a patch: cross-entropy; accuracy, and F1 averaged over the classes with five or more samples."""

    def __init__(self, target: str, classes: Sequence[str]) -> None:
        """Predict `target` (B,) int64 with the named `classes`."""
        self.target = target
        self.classes = tuple(classes)

    def loss(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Any]) -> Tensor:
        """Cross-entropy of logits (B, K) and labels (B,), averaged over the batch.

        Raises:
            MissingModalityError: outputs or batch lack the target.
            BandError: a label is outside the classes.
        """
        logits, labels = self._pair(outputs, batch)
        return F.cross_entropy(logits, labels)

    def metric(self) -> MulticlassConfusionMatrix:
        """A confusion matrix, from which every figure is computed exactly, whatever the batches were."""
        return MulticlassConfusionMatrix(num_classes=len(self.classes))

    def update(self, metric: Metrics, outputs: Mapping[str, Tensor], batch: Mapping[str, Any]) -> None:
        """Count one batch of logits (B, K) and labels (B,)."""
        logits, labels = self._pair(outputs, batch)
        metric.update(logits.argmax(dim=1), labels)

    def summary(self, metric: Metrics) -> dict[str, float]:
        """`accuracy` and `macro_f1`, both in [0, 1]."""
        counts: Tensor = metric.compute()  # type: ignore[assignment]
        confusion = counts.double().cpu().numpy()  # (K, K), rows are the truth
        f1, support = f1_by_class(confusion)
        counted = support >= MIN_POSITIVES
        macro = float(f1[counted].mean()) if counted.any() else float("nan")
        return {"accuracy": float(np.trace(confusion) / max(confusion.sum(), 1)), "macro_f1": macro}

    def _pair(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        logits, labels = _logits_and_labels(self.target, self.classes, outputs, batch)
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= len(self.classes):
            wrong = low if low < 0 else high
            raise BandError(
                f"label {wrong} of {self.target!r} is outside its {len(self.classes)} classes {self.classes}"
            )
        return logits, labels


class MultiLabel:
    """Any number of classes a patch: binary cross-entropy; average precision, averaged over classes.

    The mean is over the classes with five or more positives among the samples evaluated.
    """

    def __init__(self, target: str, classes: Sequence[str]) -> None:
        """Predict `target` (B, K) float32 of 0 and 1 with the named `classes`."""
        self.target = target
        self.classes = tuple(classes)

    def loss(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Any]) -> Tensor:
        """Binary cross-entropy of logits (B, K) and labels (B, K), averaged over classes and the batch.

        Raises:
            MissingModalityError: outputs or batch lack the target.
            BandError: logits and labels do not have one column a class.
        """
        logits, labels = self._pair(outputs, batch)
        return F.binary_cross_entropy_with_logits(logits, labels)

    def metric(self) -> MetricCollection:
        """Exact average precision and the number of positives, both by class."""
        count = len(self.classes)
        return MetricCollection(
            {
                "precision": MultilabelAveragePrecision(num_labels=count, average=None),
                "counts": MultilabelStatScores(num_labels=count, average=None),
            },
            compute_groups=False,
        )

    def update(self, metric: Metrics, outputs: Mapping[str, Tensor], batch: Mapping[str, Any]) -> None:
        """Add one batch of logits (B, K) and labels (B, K)."""
        logits, labels = self._pair(outputs, batch)
        metric.update(logits.float().sigmoid(), labels.int())

    def summary(self, metric: Metrics) -> dict[str, float]:
        """`map`, the mean average precision, in [0, 1]."""
        computed = metric.compute()
        precision = computed["precision"].double().cpu().numpy()  # (K,)
        support = computed["counts"][:, -1].cpu().numpy()  # (K,)
        counted = support >= MIN_POSITIVES
        return {"map": float(precision[counted].mean()) if counted.any() else float("nan")}

    def _pair(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        logits, labels = _logits_and_labels(self.target, self.classes, outputs, batch)
        if labels.shape != logits.shape:
            raise BandError(
                f"labels of {self.target!r} have shape {tuple(labels.shape)}, logits {tuple(logits.shape)}; "
                "multi-label targets need a 0 or 1 for each class"
            )
        return logits, labels


def _logits_and_labels(
    target: str, classes: Sequence[str], outputs: Mapping[str, Tensor], batch: Mapping[str, Any]
) -> tuple[Tensor, Tensor]:
    """Outputs (B, K) and labels of a target, after a check that both are there and K is right."""
    for name, where in (("the model's outputs", outputs), ("the batch", batch)):
        if target not in where:
            raise MissingModalityError(
                f"{name} lack {target!r}; they have {sorted(where)}. Add a head or a target of that name."
            )
    logits, labels = outputs[target], batch[target]
    if logits.shape[1] != len(classes):
        raise BandError(f"the head for {target!r} gives {logits.shape[1]} logits for {len(classes)} classes")
    return logits, labels


def f1_by_class(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """F1 score (K,) and number of true samples (K,) of each class of a confusion matrix (K, K), rows the truth.

    F1 is 2 TP / (2 TP + FP + FN), and 0 where a class neither occurs nor is predicted.
    """
    hits = np.diag(confusion).astype(np.float64)
    support = confusion.sum(axis=1)
    total = support + confusion.sum(axis=0)
    f1 = np.divide(2 * hits, total, out=np.zeros_like(hits), where=total > 0)
    return f1, support

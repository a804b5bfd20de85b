"""A task is a target, a loss on it, and metrics for it; it reads its own key from the outputs and from the batch.

Labels may be missing for some samples: `IGNORE_INDEX` (255) where labels are integers, NaN where they are numbers.
What has no label counts neither in the loss nor in the metrics, and in a batch without any label the loss is 0.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import MeanMetric, Metric, MetricCollection
from torchmetrics.classification import MulticlassConfusionMatrix, MultilabelAveragePrecision, MultilabelStatScores

from bengelib.arguments import real_number, whole_number
from bengelib.bands import IGNORE_INDEX
from bengelib.errors import ArgumentError, BandError, MissingModalityError
from bengelib.intervals import MIN_POSITIVES, mean_iou

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
        """Predict `target` (B,) int64, 255 where unknown, with the named `classes`.

        Raises:
            ArgumentError: so many classes that one of them would have the number 255.
        """
        self.target = target
        self.classes = tuple(classes)
        if len(self.classes) > IGNORE_INDEX:
            raise ArgumentError(
                f"{len(self.classes)} classes of {target!r}; expected {IGNORE_INDEX} at most, since the label "
                f"{IGNORE_INDEX} marks what is unknown and a class of that number would never count"
            )

    def loss(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Any]) -> Tensor:
        """Cross-entropy of logits (B, K) and labels (B,), averaged over the labelled samples of the batch.

        Raises:
            MissingModalityError: outputs or batch lack the target.
            BandError: a label is outside the classes.
        """
        logits, labels = self._pair(outputs, batch)
        return masked_cross_entropy(logits, labels)

    def labelled(self, batch: Mapping[str, Any]) -> int:
        """Number of labelled samples (of maps: pixels) of a batch."""
        return int((batch[self.target] != IGNORE_INDEX).sum())

    def metric(self) -> MulticlassConfusionMatrix:
        """A confusion matrix, from which every figure is computed exactly, whatever the batches were."""
        return MulticlassConfusionMatrix(num_classes=len(self.classes), ignore_index=IGNORE_INDEX)

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
        check_labels(self.target, self.classes, labels)
        return logits, labels


class Segmentation(Classification):
    """One class a pixel: cross-entropy; intersection over union (Jaccard 1912), averaged over the classes present.

    A `Classification` of pixels: logits (B, K, H, W), labels (B, H, W) int64, 255 where unknown, which it also refuses
    with a `BandError` where the two are not of the same size. The figures come from one confusion matrix of all pixels
    that were evaluated, not from means over batches.
    """

    def summary(self, metric: Metrics) -> dict[str, float]:
        """`mean_iou` over the classes that occur among the labels, and `accuracy`, both in [0, 1] over all pixels."""
        counts: Tensor = metric.compute()  # type: ignore[assignment]
        confusion = counts.double().cpu().numpy()  # (K, K), rows are the truth
        accuracy = float(np.trace(confusion) / max(confusion.sum(), 1))
        return {"mean_iou": float(mean_iou(confusion[None])[0]), "accuracy": accuracy}

    def _pair(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        logits, labels = _logits_and_labels(self.target, self.classes, outputs, batch)
        if logits.shape[2:] != labels.shape[1:]:
            raise BandError(
                f"labels of {self.target!r} are {tuple(labels.shape[1:])} pixels, logits {tuple(logits.shape[2:])}"
            )
        check_labels(self.target, self.classes, labels)
        return logits, labels


class Regression:
    """A quantity a patch: squared error in units of its scale; mean absolute error in its own unit."""

    def __init__(self, target: str, scale: float, column: int | None = None) -> None:
        """Predict `target` (B,) float32, NaN where unknown, or one column of it.

        Args:
            target: key of the labels, and of the output.
            scale: what counts as an error of 1 in the loss, usually the standard deviation of the training labels.
            column: which column of a target (B, k), for example `list(WEATHER).index("temperature")` of `weather`.

        Raises:
            ValueError: `scale` is not positive.
        """
        self.target, self.scale = target, real_number("scale", scale, above=0)
        self.column = None if column is None else whole_number("column", column, 0)

    def loss(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Any]) -> Tensor:
        """Mean of ((output - label) / scale)^2 over the labelled samples of the batch.

        Raises:
            MissingModalityError: outputs or batch lack the target.
            BandError: output and labels are not both of shape (B,).
        """
        values, labels = self._pair(outputs, batch)
        known = ~labels.isnan()
        errors = torch.where(known, (values - labels.nan_to_num()) / self.scale, 0.0)
        return errors.square().sum() / known.sum().clamp(min=1)

    def labelled(self, batch: Mapping[str, Any]) -> int:
        """Number of labelled samples of a batch."""
        labels = batch[self.target] if self.column is None else batch[self.target][:, self.column]
        return int((~labels.isnan()).sum())

    def metric(self) -> MeanMetric:
        """The mean of absolute errors."""
        return MeanMetric(nan_strategy="error")

    def update(self, metric: Metrics, outputs: Mapping[str, Tensor], batch: Mapping[str, Any]) -> None:
        """Add the errors of one batch."""
        values, labels = self._pair(outputs, batch)
        known = ~labels.isnan()
        if bool(known.any()):
            metric.update((values - labels)[known].abs())

    def summary(self, metric: Metrics) -> dict[str, float]:
        """`mae`, the mean absolute error in the unit of the target; NaN without a label."""
        weight: Tensor = metric.weight  # type: ignore[assignment]
        return {"mae": float(metric.compute()) if float(weight) else float("nan")}  # type: ignore[arg-type]

    def _pair(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        _check_there(self.target, outputs, batch)
        values, labels = outputs[self.target].float(), batch[self.target]
        labels = (labels if self.column is None else labels[:, self.column]).float()
        if values.shape != labels.shape or values.ndim != 1:
            raise BandError(
                f"outputs of {self.target!r} have shape {tuple(values.shape)}, labels {tuple(labels.shape)}; "
                "regression needs one number a patch: give `column` for one of several"
            )
        return values, labels


class MultiLabel:
    """Any number of classes a patch: binary cross-entropy; average precision, averaged over classes.

    The mean is over the classes with five or more positives among the samples evaluated. A sample of which any class is
    unknown does not count in it; in the loss its known classes do.
    """

    def __init__(self, target: str, classes: Sequence[str]) -> None:
        """Predict `target` (B, K) float32 of 0 and 1, NaN where unknown, with the named `classes`."""
        self.target = target
        self.classes = tuple(classes)

    def loss(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Any]) -> Tensor:
        """Binary cross-entropy of logits (B, K) and labels (B, K), averaged over what is labelled in the batch.

        Raises:
            MissingModalityError: outputs or batch lack the target.
            BandError: logits and labels do not have one column a class.
        """
        logits, labels = self._pair(outputs, batch)
        known = ~labels.isnan()
        losses = F.binary_cross_entropy_with_logits(logits.float(), labels.nan_to_num(), reduction="none")
        return torch.where(known, losses, 0.0).sum() / known.sum().clamp(min=1)

    def labelled(self, batch: Mapping[str, Any]) -> int:
        """Number of labels of a batch, over samples and classes."""
        return int((~batch[self.target].isnan()).sum())

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
        known = ~labels.isnan().any(dim=1)
        if bool(known.any()):
            metric.update(logits.float().sigmoid()[known], labels[known].int())

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
    """Outputs (B, K, ...) and labels of a target, after a check that both are there and K is right."""
    _check_there(target, outputs, batch)
    logits, labels = outputs[target], batch[target]
    if logits.shape[1] != len(classes):
        raise BandError(f"the head for {target!r} gives {logits.shape[1]} logits for {len(classes)} classes")
    return logits, labels


def _check_there(target: str, outputs: Mapping[str, Tensor], batch: Mapping[str, Any]) -> None:
    for name, where in (("the model's outputs", outputs), ("the batch", batch)):
        if target not in where:
            raise MissingModalityError(
                f"{name} lack {target!r}; they have {sorted(where)}. Add a head or a target of that name."
            )


def check_labels(target: str, classes: Sequence[str], labels: Tensor) -> None:
    """Refuse integer labels that are neither the index of a class nor `IGNORE_INDEX`.

    Raises:
        BandError: naming the label.
    """
    wrong = (labels < 0) | ((labels >= len(classes)) & (labels != IGNORE_INDEX))
    if bool(wrong.any()):
        raise BandError(
            f"label {int(labels[wrong][0])} of {target!r} is outside its {len(classes)} classes {tuple(classes)}; "
            f"labels are indices from 0 to {len(classes) - 1}, or {IGNORE_INDEX} where unknown"
        )


def masked_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of logits (B, K, ...) and labels (B, ...), averaged over labels that are not 255; 0 without any."""
    known = (labels != IGNORE_INDEX).sum().clamp(min=1)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # never fewer than 32 bits
    return F.cross_entropy(logits, labels, ignore_index=IGNORE_INDEX, reduction="sum") / known


def f1_by_class(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """F1 score (K,) and number of true samples (K,) of each class of a confusion matrix (K, K), rows the truth.

    F1 is 2 TP / (2 TP + FP + FN), and 0 where a class neither occurs nor is predicted.
    """
    hits = np.diag(confusion).astype(np.float64)
    support = confusion.sum(axis=1)
    total = support + confusion.sum(axis=0)
    f1 = np.divide(2 * hits, total, out=np.zeros_like(hits), where=total > 0)
    return f1, support

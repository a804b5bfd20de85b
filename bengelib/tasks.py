"""Tasks: a target, its loss and its metrics. A task reads its own key from the outputs and from the batch.

Labels may be missing for some samples: `IGNORE_INDEX` (255) for integer labels, NaN for floating-point ones.
Unlabelled samples count neither in the loss nor in the metrics; the loss of a batch without labels is 0.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from bengelib.arguments import real_number, whole_number
from bengelib.bands import IGNORE_INDEX
from bengelib.devices import on_host
from bengelib.errors import ArgumentError, BandError, MissingModalityError
from bengelib.losses import masked_binary_cross_entropy, masked_cross_entropy, masked_squared_error
from bengelib.metrics import MIN_POSITIVES, f1_by_class, mean_average_precision, mean_iou
from bengelib.running import ConfusionMatrix, Mean, Metric, Samples


class Task(Protocol):
    """The interface of a task for `fit` and `evaluate`."""

    target: str

    def loss(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Any]) -> Tensor:
        """Mean loss over the batch, ()."""

    def metric(self) -> Metric:
        """A new state for `update`, exact over batches and processes."""

    def update(self, metric: Any, outputs: Mapping[str, Tensor], batch: Mapping[str, Any]) -> None:
        """Add one batch to the metric."""

    def summary(self, metric: Any) -> dict[str, float]:
        """Metrics by name, from all batches added."""


class Classification:
    """One class per patch: cross-entropy; accuracy, and F1 averaged over classes with five or more samples."""

    def __init__(self, target: str, classes: Sequence[str]) -> None:
        """Predict `target` (B,) int64, 255 where unknown, with the named `classes`.

        Raises:
            ArgumentError: so many classes that one of them would have the index 255.
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
            BandError: a label is outside the classes. On other devices than the CPU the loss is NaN instead, because a
                check would wait for the device; `check` then names the label.
        """
        logits, labels = self._pair(outputs, batch)
        if on_host(labels):
            self.check(batch)
            return masked_cross_entropy(logits, labels)
        outside = outside_of(labels, len(self.classes))
        return masked_cross_entropy(logits, labels.masked_fill(outside, IGNORE_INDEX)).where(~outside.any(), math.nan)

    def check(self, batch: Mapping[str, Any]) -> None:
        """Raise `BandError` for labels that are neither the index of a class nor 255."""
        check_labels(self.target, self.classes, batch[self.target])

    def labelled(self, batch: Mapping[str, Any]) -> Tensor:
        """Number of labelled samples (for maps: pixels) of a batch, ()."""
        return (batch[self.target] != IGNORE_INDEX).sum()

    def metric(self) -> ConfusionMatrix:
        """A confusion matrix, from which all metrics are exact for any batches."""
        return ConfusionMatrix(len(self.classes), IGNORE_INDEX)

    def update(self, metric: ConfusionMatrix, outputs: Mapping[str, Tensor], batch: Mapping[str, Any]) -> None:
        """Count one batch of logits (B, K) and labels (B,)."""
        logits, labels = self._pair(outputs, batch)
        self.check(batch)
        metric.update(logits.argmax(dim=1), labels)

    def summary(self, metric: ConfusionMatrix) -> dict[str, float]:
        """`accuracy` and `macro_f1`, both in [0, 1]."""
        confusion = metric.compute().double().cpu().numpy()  # (K, K), rows are the truth
        f1, support = f1_by_class(confusion)
        counted = support >= MIN_POSITIVES
        macro = float(f1[counted].mean()) if counted.any() else float("nan")
        return {"accuracy": float(np.trace(confusion) / max(confusion.sum(), 1)), "macro_f1": macro}

    def _pair(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        return _logits_and_labels(self.target, self.classes, outputs, batch)


class Segmentation(Classification):
    """One class per pixel: cross-entropy; intersection over union (Jaccard 1912), averaged over the classes present.

    A `Classification` of pixels: logits (B, K, H, W), labels (B, H, W) int64, 255 where unknown; different sizes raise
    `BandError` as well. Metrics come from one confusion matrix of all evaluated pixels, not from means over batches.
    """

    def summary(self, metric: ConfusionMatrix) -> dict[str, float]:
        """`mean_iou` over the classes that occur among the labels, and `accuracy`, both in [0, 1] over all pixels."""
        confusion = metric.compute().double().cpu().numpy()  # (K, K), rows are the truth
        accuracy = float(np.trace(confusion) / max(confusion.sum(), 1))
        return {"mean_iou": float(mean_iou(confusion[None])[0]), "accuracy": accuracy}

    def _pair(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        logits, labels = _logits_and_labels(self.target, self.classes, outputs, batch)
        if logits.shape[2:] != labels.shape[1:]:
            raise BandError(
                f"labels of {self.target!r} are {tuple(labels.shape[1:])} pixels, logits {tuple(logits.shape[2:])}"
            )
        return logits, labels


class Regression:
    """A quantity per patch: squared error in units of its scale; mean absolute error in its own unit."""

    def __init__(self, target: str, scale: float, column: int | None = None) -> None:
        """Predict `target` (B,) float32, NaN where unknown, or one column of it.

        Args:
            target: key of the labels, and of the output.
            scale: the error that counts as 1 in the loss, usually the standard deviation of the training labels.
            column: column of a target (B, k), for example `list(WEATHER).index("temperature")` of `weather`.

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
        return masked_squared_error(values, labels, self.scale)

    def labelled(self, batch: Mapping[str, Any]) -> Tensor:
        """Number of labelled samples of a batch, ()."""
        labels = batch[self.target] if self.column is None else batch[self.target][:, self.column]
        return (~labels.isnan()).sum()

    def metric(self) -> Mean:
        """The mean of absolute errors."""
        return Mean()

    def update(self, metric: Mean, outputs: Mapping[str, Tensor], batch: Mapping[str, Any]) -> None:
        """Add the errors of one batch."""
        values, labels = self._pair(outputs, batch)
        metric.update((values - labels)[~labels.isnan()].abs())

    def summary(self, metric: Mean) -> dict[str, float]:
        """`mae`, the mean absolute error in the unit of the target; NaN without a label."""
        return {"mae": metric.compute()}

    def _pair(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        _check_there(self.target, outputs, batch)
        values, labels = outputs[self.target].float(), batch[self.target]
        labels = (labels if self.column is None else labels[:, self.column]).float()
        if values.shape != labels.shape or values.ndim != 1:
            raise BandError(
                f"outputs of {self.target!r} have shape {tuple(values.shape)}, labels {tuple(labels.shape)}; "
                "regression needs one number per patch: give `column` for one of several"
            )
        return values, labels


class MultiLabel:
    """Any number of classes per patch: binary cross-entropy; average precision, averaged over classes.

    The mean is over the classes with five or more positives among the evaluated samples. A sample with an unknown class
    does not count in the metric; its known classes count in the loss.
    """

    def __init__(self, target: str, classes: Sequence[str]) -> None:
        """Predict `target` (B, K) float32 of 0 and 1, NaN where unknown, with the named `classes`."""
        self.target = target
        self.classes = tuple(classes)

    def loss(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Any]) -> Tensor:
        """Binary cross-entropy of logits (B, K) and labels (B, K), averaged over the known labels of the batch.

        Raises:
            MissingModalityError: outputs or batch lack the target.
            BandError: logits and labels do not have one column per class.
        """
        logits, labels = self._pair(outputs, batch)
        return masked_binary_cross_entropy(logits, labels)

    def labelled(self, batch: Mapping[str, Any]) -> Tensor:
        """Number of labels of a batch, over samples and classes, ()."""
        return (~batch[self.target].isnan()).sum()

    def metric(self) -> Samples:
        """All logits and labels, since average precision ranks them together."""
        return Samples(("logits", "labels"))

    def update(self, metric: Samples, outputs: Mapping[str, Tensor], batch: Mapping[str, Any]) -> None:
        """Add one batch of logits (B, K) and labels (B, K)."""
        logits, labels = self._pair(outputs, batch)
        known = ~labels.isnan().any(dim=1)
        metric.update({"logits": logits[known], "labels": labels[known]})

    def summary(self, metric: Samples) -> dict[str, float]:
        """`map`, the mean average precision, in [0, 1]."""
        logits, labels = (values.cpu().numpy() for values in metric.compute().values())  # (N, K) each
        if not len(labels):
            return {"map": float("nan")}
        once = np.ones((1, len(labels)), dtype=np.int64)
        return {"map": float(mean_average_precision(logits, labels, once)[0])}

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
    """Outputs (B, K, ...) and labels of a target, after a check that both exist and K is correct."""
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
    wrong = outside_of(labels, len(classes))
    if bool(wrong.any()):
        raise BandError(
            f"label {int(labels[wrong][0])} of {target!r} is outside its {len(classes)} classes {tuple(classes)}; "
            f"labels are indices from 0 to {len(classes) - 1}, or {IGNORE_INDEX} where unknown"
        )


def outside_of(labels: Tensor, count: int) -> Tensor:
    """Mask of the integer labels that are neither one of `count` classes nor `IGNORE_INDEX`."""
    return (labels < 0) | ((labels >= count) & (labels != IGNORE_INDEX))

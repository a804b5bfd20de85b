"""Targets of the labs: the main score of each, and the predictions of a model in the form that scores need."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import nn
from torch.utils.data import Dataset

from bengelib.bands import LAND_COVER_NAMES
from bengelib.engine import predict
from bengelib.heads import hard_maps
from bengelib.metrics import (
    Score,
    accuracy,
    confusion_by_patch,
    drawn_mean_iou,
    mean_absolute_error,
    mean_average_precision,
)


class MainScore(NamedTuple):
    """The main score of a target: in words, by its name in tables of results, and as a function."""

    target: str
    name: str
    metric: str
    score: Score

    @property
    def title(self) -> str:
        """Target and score in words, such as `"season, MAE"`."""
        return f"{self.target}, {self.name}"


MAIN_SCORES = {
    "land_cover": MainScore("land cover", "mean IoU", "mean_iou", drawn_mean_iou),
    "land_cover_top": MainScore("land cover", "accuracy", "accuracy", accuracy),
    "climate_zone": MainScore("climate zone", "accuracy", "accuracy", accuracy),
    "season": MainScore("season", "MAE", "mae", mean_absolute_error),
    "corine": MainScore("19 labels", "mAP", "map", mean_average_precision),
}

WEIGHTINGS = {"dwa": "DWA", "gradnorm": "GradNorm", "pcgrad": "PCGrad"}
"""Weightings of losses by their names in tables of results, as their papers write them; the others are words."""


def answers(model: nn.Module, data: Dataset[Any], *, batch_size: int, precision: str) -> dict[str, np.ndarray]:
    """Predictions for every sample of a dataset, in the form that the main score of each target needs.

    Args:
        model: a network with the required heads.
        data: samples with its inputs, and with labels.
        batch_size: of the prediction.
        precision: see `bengelib.devices.choose_precision`.

    Returns:
        By target: confusion matrices (N, K, K) of land cover, classes (N,) of the climate zone, else the outputs.
    """
    found = predict(model, data, reduce=hard_maps, batch_size=batch_size, precision=precision)
    read = dict(found.outputs)
    if "land_cover" in read:
        read["land_cover"] = confusion_by_patch(read["land_cover"], found.labels["land_cover"], len(LAND_COVER_NAMES))
    if "climate_zone" in read:
        read["climate_zone"] = read["climate_zone"].argmax(axis=1)
    return read


def pixel_counts(samples: Sequence[Mapping[str, Any]] | Dataset[Any]) -> np.ndarray:
    """Number of pixels of each land-cover class in each sample, (N, K), the truth for the score of maps."""
    counts = []
    for index in range(len(samples)):  # type: ignore[arg-type]
        known = samples[index]["land_cover"].numpy()[None]  # (1, H, W)
        counts.append(confusion_by_patch(known, known, len(LAND_COVER_NAMES))[0].sum(axis=1))
    return np.stack(counts)

"""A baseline for segmentation: logistic regression on the bands of single pixels, without their neighbours."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from bengelib.bands import IGNORE_INDEX, LAND_COVER_NAMES, S2_BANDS
from bengelib.transforms import Normalize

_NEVER = -1e4
"""Logit of a class without fitted pixels."""


class PixelClassifier(nn.Module):
    """Sentinel-2 to land cover by a convolution with a 1 x 1 kernel, usable like any network."""

    def __init__(self, bands: Sequence[str] = S2_BANDS) -> None:
        """Build a classifier of the named Sentinel-2 bands."""
        super().__init__()
        self.inputs, self.outputs = {"s2": tuple(bands)}, {"land_cover": LAND_COVER_NAMES}
        self.normalize = Normalize("s2", bands)
        self.linear = nn.Conv2d(len(bands), len(LAND_COVER_NAMES), kernel_size=1)

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Logits (B, K, H, W) under `land_cover`, from reflectances (B, C, H, W) under `s2`."""
        return {"land_cover": self.linear(self.normalize(batch["s2"]))}

    def fit(
        self, batch: Mapping[str, Any], pixels: int, random: np.random.Generator, **options: Any
    ) -> "PixelClassifier":
        """Fit to some of the labelled pixels of a batch.

        Args:
            batch: `s2` (B, C, H, W), and `land_cover` (B, H, W) of class indices, 255 where unknown.
            pixels: number of pixels to draw; all if there are fewer.
            random: generator of the choice.
            **options: of scikit-learn's `LogisticRegression`, such as `max_iter`.

        Returns:
            The model itself.
        """
        values = self.normalize(batch["s2"]).permute(0, 2, 3, 1).flatten(0, 2).numpy()  # (pixels, C)
        classes = batch["land_cover"].flatten().numpy()
        drawn = random.permutation(np.flatnonzero(classes != IGNORE_INDEX))[:pixels]
        regression = LogisticRegression(**options).fit(values[drawn], classes[drawn])
        weight, bias = regression.coef_, regression.intercept_
        if len(weight) == 1:  # for two classes, scikit-learn has the logit of the second against the first
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        with torch.no_grad():
            self.linear.weight.zero_()
            self.linear.bias.fill_(_NEVER)  # type: ignore[union-attr]
            seen = torch.from_numpy(regression.classes_)
            self.linear.weight[seen] = torch.from_numpy(weight).float()[:, :, None, None]
            self.linear.bias[seen] = torch.from_numpy(bias).float()  # type: ignore[index]
        return self

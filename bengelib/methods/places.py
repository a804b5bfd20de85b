"""Evaluation of location encoders on held-out blocks of the Earth.

Neighbouring locations are similar, so a random test split rewards looking up the nearest one. Here whole blocks are
held out. They still touch training blocks, which favours locations at their edges.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, LeaveOneGroupOut
from torch import nn

from bengelib.arguments import real_number, whole_number
from bengelib.engine import Trainer, predict, seed_everything
from bengelib.errors import ArgumentError
from bengelib.heads import Network, RegressionHead
from bengelib.methods.harmonics import check_lonlat
from bengelib.ssl import feature_dim
from bengelib.tasks import Regression

ALPHAS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Regularisation strengths from which the linear probe chooses."""


def place_folds(lonlat: np.ndarray, size: float = 10.0, folds: int = 5, seed: int = 0) -> np.ndarray:
    """The fold of each location, (N,) int64: blocks of `size` x `size` degrees are assigned at random.

    Args:
        lonlat: longitude and latitude in degrees, (N, 2).
        size: degrees along a side of a block.
        folds: number of folds.
        seed: of the assignment.

    Raises:
        ArgumentError: invalid locations, fewer blocks than folds, or an invalid size.
    """
    places = torch.as_tensor(np.asarray(lonlat, dtype=np.float64))
    check_lonlat(places)
    size, folds = real_number("size", size, above=0, most=180), whole_number("folds", folds, 2)
    corners = np.floor(np.stack([(places[:, 0] + 180) % 360, places[:, 1] + 90], axis=1) / size)
    blocks, block = np.unique(corners, axis=0, return_inverse=True)
    if len(blocks) < folds:
        raise ArgumentError(f"{len(blocks)} blocks of {size:g} degrees for {folds} folds; make the blocks smaller")
    dealt = np.random.default_rng(seed).permutation(len(blocks)) % folds
    return dealt[block.reshape(-1)]


def probe_held_out(features: np.ndarray, values: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Predictions (N,) for the locations of each fold by ridge regression on those of the other folds.

    The regularisation is chosen by cross-validation over these other folds. Features are not scaled individually,
    because their magnitudes encode the smoothness of a map.

    Args:
        features: (N, F).
        values: (N,).
        folds: (N,), see `place_folds`.

    Raises:
        ArgumentError: not one value and one fold per location, or fewer than three folds.
    """
    features, values, folds = _checked(features, values, folds, least=3)
    scaled = features / np.sqrt(features.var(axis=0).sum())
    predictions = np.empty(len(values))
    for fold in np.unique(folds):
        rest = folds != fold
        search = GridSearchCV(Ridge(), {"alpha": ALPHAS}, scoring="neg_mean_squared_error", cv=LeaveOneGroupOut())
        search.fit(scaled[rest], values[rest], groups=folds[rest])
        predictions[~rest] = search.predict(scaled[~rest])
    return predictions


def train_held_out(
    build: Callable[[], nn.Module],
    lonlat: np.ndarray,
    values: np.ndarray,
    folds: np.ndarray,
    *,
    epochs: int = 60,
    batch_size: int = 256,
    lr: float = 1e-3,
    seed: int = 0,
) -> np.ndarray:
    """Predictions (N,) for the locations of each fold by a network that is trained on those of the other folds.

    Args:
        build: makes a location encoder with random weights, such as `lambda: LocationEncoder(10)`.
        lonlat: degrees, (N, 2).
        values: (N,).
        folds: (N,), see `place_folds`.
        epochs: passes over the locations.
        batch_size: locations per step.
        lr: highest learning rate.
        seed: of weights and order.

    Raises:
        ArgumentError: not one value and one fold per location, or a single fold.
    """
    places, values, folds = _checked(lonlat, values, folds, least=2)
    samples: list[dict[str, Any]] = [
        {"lonlat": place, "value": value, "patch_id": str(row)}
        for row, (place, value) in enumerate(zip(torch.tensor(places), torch.tensor(values).float(), strict=True))
    ]
    predictions = np.empty(len(values))
    for fold in np.unique(folds):
        rest, held_out = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        mean, scale = float(values[rest].mean()), float(values[rest].std())
        seed_everything(seed)
        encoder = build()
        network = Network(encoder, {"value": RegressionHead(feature_dim(encoder), mean, scale)})
        train: Any = [samples[row] for row in rest]
        test: Any = [samples[row] for row in held_out]
        Trainer(progress=False).fit(
            network, [Regression("value", scale)], train, epochs=epochs, batch_size=batch_size, lr=lr, seed=seed
        )
        predictions[held_out] = predict(network, test, batch_size=batch_size).outputs["value"]
    return predictions


def explained(predictions: np.ndarray, values: np.ndarray) -> float:
    """Coefficient of determination R^2: 1 is perfect, 0 equals predicting the mean; it can be negative."""
    return float(1 - np.sum((predictions - values) ** 2) / np.sum((values - values.mean()) ** 2))


def _checked(
    features: np.ndarray, values: np.ndarray, folds: np.ndarray, least: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All three as arrays, after a check of their shapes."""
    features, values = np.asarray(features, dtype=np.float64), np.asarray(values, dtype=np.float64)
    folds = np.asarray(folds)
    if features.ndim != 2 or values.shape != folds.shape or values.shape != (len(features),):
        raise ArgumentError(f"features {features.shape}, values {values.shape} and folds {folds.shape} do not fit")
    if len(np.unique(folds)) < least:
        raise ArgumentError(f"{len(np.unique(folds))} folds; expected {least} or more")
    return features, values, folds

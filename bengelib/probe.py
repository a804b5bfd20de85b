"""What frozen features are worth: features from an encoder that nothing moves, nearest neighbours, linear probes."""

from collections.abc import Sequence
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.neighbors import KNeighborsRegressor
from threadpoolctl import threadpool_limits
from torch import Tensor, nn
from torch.utils.data import Dataset

from bengelib.arguments import real_number, whole_number
from bengelib.convolution import channels_last
from bengelib.engine import predict
from bengelib.heads import Network
from bengelib.resnet import ResNetEncoder
from bengelib.transforms import Batch

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Inverse regularisation strengths (scikit-learn's `C`) that the probe chooses from."""

_EVEN = 1e-6
"""Variance added below the root, which has no slope at 0: a map may be even."""
_FOLDS = 3
_CHOSEN_ON = 3000
"""The strength is chosen on at most so many labelled samples; more would cost time and change nothing."""
_NEVER = -30.0
"""Logit of a class that no labelled sample has."""


def turned(batch: Batch, keys: Sequence[str], turn: int) -> Batch:
    """A batch whose images (B, C, H, W) under `keys` are in one of the eight symmetries of the square, 0 as it is."""
    moved = dict(batch)
    for key in keys:
        if turn and key in batch and batch[key].ndim == 4:
            mirrored = batch[key].flip(-1) if turn >= 4 else batch[key]
            moved[key] = mirrored.rot90(turn % 4, dims=(-2, -1))
    return moved


def check_stages(stages: Sequence[int]) -> None:
    """Refuse stages that a ResNet does not have.

    Raises:
        ArgumentError: one is not in 0 to 4.
    """
    for stage in stages:
        whole_number("stages", stage, 0, 4)


class StagedEncoder(nn.Module):
    """An encoder with the features of earlier stages of its ResNets, averaged over the image, before its own.

    What the last stage has learned to overlook, such as brightness, earlier ones still have. Their standard deviations
    over the image tell how rough it is, as the energies of filters do that describe textures (Laws 1980; Portilla and
    Simoncelli 2000, doi:10.1023/A:1026553619983). Encoders that go on without a missing modality set its last features
    to zero; those of its earlier stages are of an empty image.

    Attributes:
        inputs: those of the encoder.
        feature_dim: length of all features together.
    """

    def __init__(self, encoder: nn.Module, stages: Sequence[int] = (2, 3), texture: bool = False) -> None:
        """Wrap `encoder`, which takes a dict batch and returns (B, feature_dim); nothing of it is changed.

        Args:
            encoder: any of `bengelib.fusion`, or `images.ImageEncoder`.
            stages: 1 to 4, and 0 for the first layer; nothing is added by an encoder without a ResNet.
            texture: add the standard deviations over the image as well, after the averages of each stage.

        Raises:
            ValueError: a stage that does not exist.
        """
        super().__init__()
        check_stages(stages)
        self.encoder, self.stages, self.texture = encoder, tuple(stages), texture
        self.inputs: dict[str, Any] = dict(getattr(encoder, "inputs", {}))
        added = sum(resnet.channels[stage] for resnet, stage in self._watched()) * (1 + texture)
        self.feature_dim = int(encoder.feature_dim) + added  # type: ignore[arg-type]

    def _watched(self) -> list[tuple[ResNetEncoder, int]]:
        """The ResNets with those of the stages that they have; of two that are joined, each has the first ones only."""
        resnets = [module for module in self.encoder.modules() if isinstance(module, ResNetEncoder)]
        pairs = [(resnet, stage) for resnet in resnets for stage in self.stages]
        return [(resnet, stage) for resnet, stage in pairs if not isinstance(_layer(resnet, stage), nn.Identity)]

    def forward(self, batch: Batch) -> Tensor:
        """Features (B, feature_dim)."""
        pooled: list[Tensor] = []
        with ExitStack() as stack:
            for resnet, stage in self._watched():
                hook = _layer(resnet, stage).register_forward_hook(
                    lambda _, __, maps: pooled.extend(self._pool(maps.float()))
                )
                stack.callback(hook.remove)
            last: Tensor = self.encoder(batch)
        return torch.cat([*pooled, last.float()], dim=1)

    def _pool(self, maps: Tensor) -> list[Tensor]:
        """Averages, and standard deviations where wanted, of maps (B, C, H, W) over the image, (B, C) each."""
        mean = maps.mean(dim=(2, 3))
        if not self.texture:
            return [mean]
        variance = maps.var(dim=(2, 3), correction=0)
        return [mean, (variance + _EVEN).sqrt()]


def _layer(resnet: ResNetEncoder, stage: int) -> nn.Module:
    layer: nn.Module = getattr(resnet, f"layer{stage}") if stage else resnet.relu
    return layer


class TurnAverage(nn.Module):
    """A model whose outputs are averaged over flips and right-angle turns of its images."""

    def __init__(self, model: nn.Module, turns: int) -> None:
        """Average over so many of the eight symmetries of the square.

        Args:
            model: takes a dict batch, returns a dict of tensors.
            turns: 1 to 8; 1 takes the images as they are.

        Raises:
            ArgumentError: another number.
        """
        super().__init__()
        self.model, self.turns = model, whole_number("turns", turns, 1, 8)
        self.inputs: dict[str, Any] = dict(getattr(model, "inputs", {}))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Outputs by name, in 32 bits."""
        answers = [self.model(turned(batch, list(self.inputs), turn)) for turn in range(self.turns)]
        return {name: torch.stack([answer[name].float() for answer in answers]).mean(dim=0) for name in answers[0]}


def extract_features(
    encoder: nn.Module,
    data: Dataset[Any],
    *,
    stages: Sequence[int] = (),
    texture: bool = False,
    turns: int = 1,
    batch_size: int = 256,
    precision: str = "auto",
    workers: int = 0,
) -> np.ndarray:
    """Features of every sample in the order of the dataset, (N, F) float32, from an encoder in which nothing moves.

    The encoder that is given is not touched at all: a copy in evaluation mode, without gradients, does the work.

    Args:
        encoder: takes a dict batch, returns (B, feature_dim); any of `bengelib.fusion`, or `images.ImageEncoder`.
        data: samples that are dicts.
        stages: stages 0 (the first layer) to 4 of the ResNets inside whose averages over the image come before the
            encoder's own features; `(2, 3)` adds what is lost on the way to the last. Nothing is added without a
            ResNet.
        texture: add the standard deviations over the image of these stages as well, see `StagedEncoder`.
        turns: average over so many of the eight flips and right-angle turns of each image; 1 takes it as it is.
        batch_size: samples at a time.
        precision: see `bengelib.devices.choose_precision`.
        workers: processes that read ahead; 0 is best for packed data.

    Raises:
        BandError: dataset and encoder disagree on bands.
        ValueError: no samples, a stage or a number of turns that does not exist, or features that are not finite.
    """
    copy = deepcopy(encoder)
    model = Network(StagedEncoder(copy, stages, texture) if stages else copy, {"features": nn.Identity()})
    with channels_last(model):
        answers = predict(TurnAverage(model, turns), data, batch_size=batch_size, precision=precision, workers=workers)
    features = np.asarray(answers.outputs["features"], dtype=np.float32)
    _check_finite(features)
    return features


@dataclass
class LinearProbe:
    """A linear classifier on raw features; the standardisation that it was fitted with is folded into its weights.

    Attributes:
        weight: (K, F).
        bias: (K,).
        strength: the inverse regularisation strength that was chosen.
        multi_label: whether each class is a question of its own.
    """

    weight: np.ndarray
    bias: np.ndarray
    strength: float
    multi_label: bool

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Logits (N, K)."""
        logits: np.ndarray = features @ self.weight.T + self.bias
        return logits

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Class indices (N,), or logits (N, K) for multi-label targets, as `intervals` scores them."""
        logits = self.scores(features)
        return logits if self.multi_label else logits.argmax(axis=1)


def fit_logistic(
    features: np.ndarray,
    labels: np.ndarray,
    classes: int | None = None,
    *,
    strengths: Sequence[float] = STRENGTHS,
    seed: int = 0,
) -> LinearProbe:
    """Logistic regression on standardised features, its regularisation chosen by cross-validation on these samples.

    Three folds (stratified, if there is one class a sample) choose the strength of the lowest log loss. Where a class
    has a single sample there is nothing to validate on, and the middle strength is taken.

    Args:
        features: (N, F) of the labelled samples.
        labels: (N,) class indices, or (N, K) of 0 and 1: then one regression a class, against the rest.
        classes: K; by default as many as the labels show. A class without a sample is never predicted.
        strengths: inverse regularisation strengths to choose from.
        seed: of the folds.

    Raises:
        ValueError: features that are not finite, not a label for each sample, labels outside the classes, or fewer
            than two classes among the labels.
    """
    features, labels = _checked(features, labels)
    for strength in strengths:
        real_number("strengths", strength, above=0)
    classes = None if classes is None else whole_number("classes", classes)
    multi_label = labels.ndim == 2
    count = labels.shape[1] if multi_label else (int(labels.max()) + 1 if classes is None else classes)
    if not multi_label and (labels.min() < 0 or labels.max() >= count):
        raise ValueError(f"labels run from {labels.min()} to {labels.max()}, but there are {count} classes")
    if not multi_label and len(np.unique(labels)) < 2:
        raise ValueError(f"all {len(labels)} labelled samples are of class {labels[0]}; a probe needs two classes")
    mean, std = features.mean(axis=0), features.std(axis=0)
    std = np.where(std > 1e-6 * np.maximum(1, np.abs(mean)), std, 1)
    standard = (features - mean) / std
    with threadpool_limits(1):  # the products are small: threads would mostly wait for each other
        strength = _choose_strength(standard, labels, count, strengths, seed)
        weight, bias = _regress(standard, labels, count, strength)
    weight = weight / std
    return LinearProbe(weight, bias - weight @ mean, strength, multi_label)


def knn_probe(
    train_features: np.ndarray, train_labels: np.ndarray, test_features: np.ndarray, neighbours: int = 20
) -> np.ndarray:
    """Predictions of the nearest labelled samples by cosine similarity, each with its similarity as its weight.

    Args:
        train_features: (N, F).
        train_labels: (N,) class indices, or (N, K) of 0 and 1.
        test_features: (M, F).
        neighbours: how many; all where there are fewer.

    Returns:
        Class indices (M,), or scores (M, K) in [0, 1] for several labels.

    Raises:
        ValueError: features that are not finite, not a label for each sample, or no neighbours asked for.
    """
    features, labels = _checked(train_features, train_labels)
    neighbours = whole_number("neighbours", neighbours)
    onehot = labels if labels.ndim == 2 else np.eye(int(labels.max()) + 1)[labels]  # (N, K)
    index = KNeighborsRegressor(min(neighbours, len(features)), metric="cosine", weights=_similarity)
    votes: np.ndarray = index.fit(features, onehot).predict(_finite(test_features))  # (M, K)
    return votes if labels.ndim == 2 else votes.argmax(axis=1)


def _similarity(distances: np.ndarray) -> np.ndarray:
    """Weights of neighbours from their cosine distances."""
    return np.maximum(1 - distances, 1e-6)


def _choose_strength(
    features: np.ndarray, labels: np.ndarray, count: int, strengths: Sequence[float], seed: int
) -> float:
    """The strength that does best on the folds that it was not fitted on."""
    random = np.random.default_rng(seed)
    if len(labels) > _CHOSEN_ON:
        some = random.permutation(len(labels))[:_CHOSEN_ON]
        features, labels = features[some], labels[some]
    multi_label = labels.ndim == 2
    rarest = len(labels) if multi_label else int(np.unique(labels, return_counts=True)[1].min())
    folds = min(_FOLDS, rarest)
    if folds < 2 or len(strengths) == 1:
        return strengths[len(strengths) // 2]
    splitter = (KFold if multi_label else StratifiedKFold)(folds, shuffle=True, random_state=seed)
    losses = np.zeros(len(strengths))
    for fitted, left in splitter.split(features, None if multi_label else labels):
        for place, strength in enumerate(strengths):
            weight, bias = _regress(features[fitted], labels[fitted], count, strength)
            logits = features[left] @ weight.T + bias
            losses[place] += _loss(logits, labels[left], count)
    return strengths[int(losses.argmin())]


def _loss(logits: np.ndarray, labels: np.ndarray, count: int) -> float:
    """Log loss; for several labels the mean over them."""
    if labels.ndim == 2:
        return float(np.mean(np.logaddexp(0, logits) - labels * logits))
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return float(log_loss(labels, shifted / shifted.sum(axis=1, keepdims=True), labels=np.arange(count)))


def _regress(features: np.ndarray, labels: np.ndarray, count: int, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights (K, F) and biases (K,) of a logistic regression; classes without a sample get a logit of -30."""
    weight, bias = np.zeros((count, features.shape[1])), np.full(count, _NEVER)
    model = LogisticRegression(C=strength, max_iter=1000, tol=1e-3)
    if labels.ndim == 2:
        for place in range(count):
            column = labels[:, place] > 0
            if column.all():
                bias[place] = -_NEVER
            elif column.any():
                model.fit(features, column)
                weight[place], bias[place] = model.coef_[0], model.intercept_[0]
        return weight, bias
    model.fit(features, labels)
    seen = model.classes_
    if len(seen) == 2:  # scikit-learn has one row then, the logit of the second class against the first
        weight[seen], bias[seen] = np.outer((-0.5, 0.5), model.coef_), np.array((-0.5, 0.5)) * model.intercept_
    else:
        weight[seen], bias[seen] = model.coef_, model.intercept_
    return weight, bias


def _checked(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, F) in double precision and labels as whole numbers, after a check that they belong together."""
    features, labels = _finite(features), np.asarray(labels)
    if features.ndim != 2 or len(features) != len(labels) or not len(labels) or labels.ndim not in (1, 2):
        raise ValueError(f"features of shape {features.shape} do not fit labels of shape {labels.shape}")
    return features, labels.astype(np.int64)


def _finite(features: np.ndarray) -> np.ndarray:
    """Features in double precision, after a check that they are finite."""
    features = np.asarray(features, dtype=np.float64)
    _check_finite(features)
    return features


def _check_finite(features: np.ndarray) -> None:
    """Refuse NaN and infinity.

    Raises:
        ValueError: naming the first sample that has some.
    """
    bad = ~np.isfinite(features).all(axis=tuple(range(1, features.ndim)))
    if bad.any():
        raise ValueError(
            f"the features of {int(bad.sum())} of {len(features)} samples are not finite, the first being sample "
            f"{int(bad.argmax())}; look for non-finite inputs, or for an encoder that diverged"
        )

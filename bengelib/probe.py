"""Evaluation of frozen features: feature extraction, nearest neighbours and linear probes."""

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
from bengelib.transforms import Batch, dihedral

CS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Inverse regularisation strengths (scikit-learn's `C`) from which a probe chooses by cross-validation."""

_EVEN = 1e-6
"""Variance added before the square root, whose gradient is infinite at 0, as for a constant map."""
_FOLDS = 3
_CHOSEN_ON = 3000
"""Maximum number of labelled samples to choose `C` on; more would take time and change nothing."""
_NEVER = -30.0
"""Logit of a class without labelled samples."""


def _moved(batch: Batch, keys: Sequence[str], turn: int) -> Batch:
    """A batch whose images (B, C, H, W) under `keys` are moved by `dihedral`."""
    images = [key for key in keys if key in batch and batch[key].ndim == 4]
    return {**batch, **{key: dihedral(batch[key], turn) for key in images}}


def check_stages(stages: Sequence[int]) -> None:
    """Check the stages of a ResNet.

    Raises:
        ArgumentError: a stage is not in 0 to 4.
    """
    for stage in stages:
        whole_number("stages", stage, 0, 4)


class MultiStageEncoder(nn.Module):
    """An encoder whose features are preceded by pooled features of earlier stages of its ResNets.

    Earlier stages keep information that the last stage has learned to discard, such as brightness. Their
    standard deviations over the image measure its texture, as the energies of filter banks do (Laws 1980; Portilla and
    Simoncelli 2000, doi:10.1023/A:1026553619983). Encoders that tolerate a missing modality set its last features to
    zero; those of earlier stages are of an empty image.

    Attributes:
        inputs: inputs of the encoder.
        feature_dim: length of all features together.
    """

    def __init__(
        self, encoder: nn.Module, stages: Sequence[int] = (2, 3), texture: bool = False, enlarge: int = 1
    ) -> None:
        """Wrap `encoder`, which takes a dict batch and returns (B, feature_dim); it is not changed.

        Args:
            encoder: any encoder of `bengelib.fusion`.
            stages: 1 to 4, and 0 for the first layer; without effect for an encoder without a ResNet.
            texture: whether to add standard deviations over the image, after the averages of each stage.
            enlarge: factor by which images are enlarged first, bilinearly. The first layers of a ResNet halve an image
                twice, which leaves 16 cells of one of 64 pixels; of one twice as large they leave 32, and the crops of
                pretraining had shown things larger as well (Touvron et al. 2019, arXiv:1906.06423).

        Raises:
            ValueError: a stage that does not exist, or a factor below 1.
        """
        super().__init__()
        check_stages(stages)
        self.encoder, self.stages, self.texture = encoder, tuple(stages), texture
        self.enlarge = whole_number("enlarge", enlarge)
        self.inputs: dict[str, Any] = dict(getattr(encoder, "inputs", {}))
        added = sum(resnet.channels[stage] for resnet, stage in self._watched()) * (1 + texture)
        self.feature_dim = int(encoder.feature_dim) + added  # type: ignore[arg-type]

    def _watched(self) -> list[tuple[ResNetEncoder, int]]:
        """The ResNets and their stages; of two ResNets that are fused, each has the first stages only."""
        resnets = [module for module in self.encoder.modules() if isinstance(module, ResNetEncoder)]
        pairs = [(resnet, stage) for resnet in resnets for stage in self.stages]
        return [(resnet, stage) for resnet, stage in pairs if not isinstance(_layer(resnet, stage), nn.Identity)]

    def forward(self, batch: Batch) -> Tensor:
        """Features (B, feature_dim)."""
        pooled: list[Tensor] = []
        if self.enlarge > 1:
            images = {key: batch[key] for key in self.inputs if key in batch and batch[key].ndim == 4}
            batch = {**batch, **{key: enlarged(image, self.enlarge) for key, image in images.items()}}
        with ExitStack() as stack:
            for resnet, stage in self._watched():
                hook = _layer(resnet, stage).register_forward_hook(
                    lambda _, __, maps: pooled.extend(self._pool(maps.float()))
                )
                stack.callback(hook.remove)
            last: Tensor = self.encoder(batch)
        return torch.cat([*pooled, last.float()], dim=1)

    def _pool(self, maps: Tensor) -> list[Tensor]:
        """Averages, and standard deviations if requested, of maps (B, C, H, W) over the image, (B, C) each."""
        mean = maps.mean(dim=(2, 3))
        if not self.texture:
            return [mean]
        variance = maps.var(dim=(2, 3), correction=0)
        return [mean, (variance + _EVEN).sqrt()]


def with_stages(encoder: nn.Module, stages: Sequence[int], texture: bool, enlarge: int = 1) -> nn.Module:
    """The encoder as a `MultiStageEncoder`, or as it is where nothing is asked for."""
    return MultiStageEncoder(encoder, stages, texture, enlarge) if stages or enlarge > 1 else encoder


def enlarged(images: Tensor, factor: int) -> Tensor:
    """Images (B, C, H, W) with so many times the pixels along each side, bilinearly."""
    return nn.functional.interpolate(images.float(), scale_factor=factor, mode="bilinear")


def _layer(resnet: ResNetEncoder, stage: int) -> nn.Module:
    layer: nn.Module = getattr(resnet, f"layer{stage}") if stage else resnet.relu
    return layer


class DihedralAverage(nn.Module):
    """Test-time augmentation: a model whose outputs are averaged over flips and rotations of its images."""

    def __init__(self, model: nn.Module, tta: int) -> None:
        """Average over the first `tta` of the eight symmetries of the square.

        Args:
            model: takes a dict batch, returns a dict of tensors.
            tta: number of symmetries, 1 to 8; 1 leaves the images unchanged.

        Raises:
            ArgumentError: another number.
        """
        super().__init__()
        self.model, self.tta = model, whole_number("tta", tta, 1, 8)
        self.inputs: dict[str, Any] = dict(getattr(model, "inputs", {}))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Outputs by name, in 32 bits."""
        answers = [self.model(_moved(batch, list(self.inputs), turn)) for turn in range(self.tta)]
        return {name: torch.stack([answer[name].float() for answer in answers]).mean(dim=0) for name in answers[0]}


def extract_features(
    encoder: nn.Module,
    data: Dataset[Any],
    *,
    stages: Sequence[int] = (),
    texture: bool = False,
    enlarge: int = 1,
    tta: int = 1,
    batch_size: int = 256,
    precision: str = "auto",
    workers: int = 0,
) -> np.ndarray:
    """Features of every sample in the order of the dataset, (N, F) float32, from a frozen encoder.

    The given encoder is not changed: features come from a copy in evaluation mode, without gradients.

    Args:
        encoder: takes a dict batch, returns (B, feature_dim); any encoder of `bengelib.fusion`.
        data: samples that are dicts.
        stages: stages 0 (the first layer) to 4 of the ResNets whose pooled features precede the encoder's own
            features; `(2, 3)` adds information that the last stage discards. Without effect for an encoder without a
            ResNet.
        texture: whether to add standard deviations of these stages over the image, see `MultiStageEncoder`.
        enlarge: factor by which images are enlarged first, likewise.
        tta: test-time augmentation: average over so many of the eight flips and rotations of each image; 1 is none.
        batch_size: samples per batch.
        precision: see `bengelib.devices.choose_precision`.
        workers: processes that load data; 0 is best for packed data.

    Raises:
        BandError: dataset and encoder disagree on bands.
        ValueError: no samples, a stage or a `tta` that does not exist, or features that are not finite.
    """
    copy = deepcopy(encoder)
    model = Network(with_stages(copy, stages, texture, enlarge), {"features": nn.Identity()})
    with channels_last(model):
        answers = predict(
            DihedralAverage(model, tta), data, batch_size=batch_size, precision=precision, workers=workers
        )
    features = np.asarray(answers.outputs["features"], dtype=np.float32)
    _check_finite(features)
    return features


@dataclass
class LinearProbe:
    """A linear classifier on raw features; the standardisation of the fit is folded into its weights.

    Attributes:
        weight: (K, F).
        bias: (K,).
        C: the selected inverse regularisation strength.
        multi_label: whether a sample may have several classes.
    """

    weight: np.ndarray
    bias: np.ndarray
    C: float
    multi_label: bool

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Logits (N, K)."""
        logits: np.ndarray = features @ self.weight.T + self.bias
        return logits

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Class indices (N,), or logits (N, K) for multi-label targets, to be scored by `bengelib.metrics`."""
        logits = self.scores(features)
        return logits if self.multi_label else logits.argmax(axis=1)


def fit_logistic(
    features: np.ndarray,
    labels: np.ndarray,
    classes: int | None = None,
    *,
    Cs: Sequence[float] = CS,
    seed: int = 0,
) -> LinearProbe:
    """Logistic regression on standardised features, with regularisation chosen by cross-validation on these samples.

    The `C` of lowest log loss in three folds (stratified for single-label targets) is chosen. If a class has a single
    sample, there is nothing to validate on, and the middle value is taken.

    Args:
        features: (N, F) of the labelled samples.
        labels: (N,) class indices, or (N, K) of 0 and 1 for one regression per class, against the rest.
        classes: K; by default the number found in the labels. A class without samples is never predicted.
        Cs: inverse regularisation strengths to choose from.
        seed: of the folds.

    Raises:
        ValueError: features that are not finite, not one label per sample, labels outside the classes, or fewer than
            two classes among the labels.
    """
    features, labels = _checked(features, labels)
    for C in Cs:
        real_number("Cs", C, above=0)
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
    with threadpool_limits(1):  # the matrices are small: threads would mostly wait for each other
        C = _choose_C(standard, labels, count, Cs, seed)
        weight, bias = _regress(standard, labels, count, C)
    weight = weight / std
    return LinearProbe(weight, bias - weight @ mean, C, multi_label)


def knn_probe(
    train_features: np.ndarray, train_labels: np.ndarray, test_features: np.ndarray, neighbours: int = 20
) -> np.ndarray:
    """Predictions by the nearest labelled samples, weighted by their cosine similarity.

    Args:
        train_features: (N, F).
        train_labels: (N,) class indices, or (N, K) of 0 and 1.
        test_features: (M, F).
        neighbours: number of neighbours; all samples if there are fewer.

    Returns:
        Class indices (M,), or scores (M, K) in [0, 1] for multi-label targets.

    Raises:
        ValueError: features that are not finite, not one label per sample, or less than one neighbour.
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


def _choose_C(features: np.ndarray, labels: np.ndarray, count: int, Cs: Sequence[float], seed: int) -> float:
    """The `C` of the lowest log loss on held-out folds."""
    random = np.random.default_rng(seed)
    if len(labels) > _CHOSEN_ON:
        subset = random.permutation(len(labels))[:_CHOSEN_ON]
        features, labels = features[subset], labels[subset]
    multi_label = labels.ndim == 2
    rarest = len(labels) if multi_label else int(np.unique(labels, return_counts=True)[1].min())
    folds = min(_FOLDS, rarest)
    if folds < 2 or len(Cs) == 1:
        return Cs[len(Cs) // 2]
    splitter = (KFold if multi_label else StratifiedKFold)(folds, shuffle=True, random_state=seed)
    losses = np.zeros(len(Cs))
    for fitted, left in splitter.split(features, None if multi_label else labels):
        for place, C in enumerate(Cs):
            weight, bias = _regress(features[fitted], labels[fitted], count, C)
            logits = features[left] @ weight.T + bias
            losses[place] += _loss(logits, labels[left], count)
    return Cs[int(losses.argmin())]


def _loss(logits: np.ndarray, labels: np.ndarray, count: int) -> float:
    """Log loss; for multi-label targets its mean over classes."""
    if labels.ndim == 2:
        return float(np.mean(np.logaddexp(0, logits) - labels * logits))
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return float(log_loss(labels, shifted / shifted.sum(axis=1, keepdims=True), labels=np.arange(count)))


def _regress(features: np.ndarray, labels: np.ndarray, count: int, C: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights (K, F) and biases (K,) of a logistic regression; classes without samples get a logit of -30."""
    weight, bias = np.zeros((count, features.shape[1])), np.full(count, _NEVER)
    model = LogisticRegression(C=C, max_iter=1000, tol=1e-3)
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
    if len(seen) == 2:  # scikit-learn then gives one row, the logit of the second class against the first
        weight[seen], bias[seen] = np.outer((-0.5, 0.5), model.coef_), np.array((-0.5, 0.5)) * model.intercept_
    else:
        weight[seen], bias[seen] = model.coef_, model.intercept_
    return weight, bias


def _checked(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, F) in double precision and integer labels, after a check of their shapes."""
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
        ValueError: naming the first such sample.
    """
    bad = ~np.isfinite(features).all(axis=tuple(range(1, features.ndim)))
    if bad.any():
        raise ValueError(
            f"the features of {int(bad.sum())} of {len(features)} samples are not finite, the first being sample "
            f"{int(bad.argmax())}; look for non-finite inputs, or for an encoder that diverged"
        )

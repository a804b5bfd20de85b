"""From a described dataset to a trained network and its scores: what `train` and `evaluate` of the command line do."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from bengelib.arguments import real_number, whole_number
from bengelib.bands import IGNORE_INDEX
from bengelib.checkpoint import load_checkpoint, read_checkpoint, save_checkpoint, saved_inputs
from bengelib.engine import History, Trainer, predict, seed_everything
from bengelib.errors import BandError, CheckpointError, SplitError
from bengelib.fusion import DecisionFusion, EarlyFusion, FeatureFusion, FiLMFusion, LateFusion
from bengelib.heads import ClassificationHead, Network, RegressionHead, SegmentationHead
from bengelib.intervals import Interval, bootstrap
from bengelib.metrics import (
    accuracy,
    confusion_by_patch,
    drawn_mean_iou,
    macro_f1,
    mean_absolute_error,
    mean_average_precision,
)
from bengelib.modalities import InputSpec, Target, as_modalities
from bengelib.tasks import Classification, MultiLabel, Regression, Segmentation, Task
from bengelib.transforms import Augment

FUSIONS: dict[str, Callable[..., nn.Module]] = {
    "early": EarlyFusion,
    "feature": FeatureFusion,
    "late": LateFusion,
    "film": FiLMFusion,
}
"""Ways of joining modalities in one encoder; `"decision"` joins networks that decide alone."""


@dataclass(frozen=True)
class Training:
    """How to train a network on labels.

    Attributes:
        fusion: one of `FUSIONS`, or `"decision"`.
        depth: layers of the ResNets, 18, 34 or 50.
        width: of the ResNets; 1 is the usual one.
        epochs: passes over the training samples.
        batch_size: samples a step.
        lr: highest learning rate.
        crop: pixels along a side of a random crop in training; None trains on whole images.
        modality_dropout: probability of hiding a modality in training, see `Inputs`.
        seed: of weights, order and crops.
        precision: see `bengelib.devices.choose_precision`.
    """

    fusion: str = "early"
    depth: int = 18
    width: float = 0.5
    epochs: int = 15
    batch_size: int = 32
    lr: float = 1e-3
    crop: int | None = None
    modality_dropout: float = 0.0
    seed: int = 0
    precision: str = "auto"

    def __post_init__(self) -> None:
        """Refuse settings before anything is read.

        Raises:
            ValueError: naming the setting, its value and what was expected.
        """
        if self.fusion not in (*FUSIONS, "decision"):
            raise BandError(f"unknown fusion {self.fusion!r}; choose one of {[*FUSIONS, 'decision']}")
        for name in ("epochs", "batch_size"):
            whole_number(name, getattr(self, name))
        real_number("lr", self.lr, above=0)


def build_network(
    inputs: InputSpec, targets: Mapping[str, Target], settings: Training, moments: Mapping[str, tuple[float, float]]
) -> nn.Module:
    """A network with random weights that answers for every target.

    Args:
        inputs: what it reads, such as `dataset.inputs`.
        targets: such as `dataset.outputs`.
        settings: see `Training`.
        moments: mean and standard deviation of the training labels of each number.

    Raises:
        BandError: no target, a map asked of an encoder without maps, or inputs that the fusion cannot join.
    """
    if not targets:
        raise BandError("no target to train for; name one or more with --target")
    modalities = as_modalities(inputs)
    if settings.fusion == "decision":
        alone = Training(**{**asdict(settings), "fusion": "late"})
        networks = {
            key: build_network({key: modality}, targets, alone, moments) for key, modality in modalities.items()
        }
        labels = [name for name, target in targets.items() if target.kind == "labels"]
        if other := [name for name, target in targets.items() if target.kind not in ("class", "labels")]:
            raise BandError(f"decision fusion averages probabilities of classes; {other} are none")
        return DecisionFusion(networks, labels)
    options: dict[str, Any] = {"depth": settings.depth, "width": settings.width}
    encoder = FUSIONS[settings.fusion](modalities, modality_dropout=settings.modality_dropout, **options)
    length = int(encoder.feature_dim)  # type: ignore[arg-type]
    heads: dict[str, nn.Module] = {}
    for name, target in targets.items():
        if target.kind == "map":
            if not hasattr(encoder, "pyramid"):
                raise BandError(f"{name} is a map, which {settings.fusion} fusion does not give; choose early or late")
            heads[name] = SegmentationHead(encoder.channels, target.classes)  # type: ignore[arg-type]
        elif target.kind == "number":
            heads[name] = RegressionHead(length, *moments[name])
        else:
            heads[name] = ClassificationHead(length, target.classes)
    return Network(encoder, heads)


def task_of(target: Target, scale: float = 1.0) -> Task:
    """The task of a target; `scale` is the standard deviation of the training labels of a number."""
    if target.kind == "number":
        return Regression(target.name, scale)
    if target.kind == "labels":
        return MultiLabel(target.name, target.classes)
    return (Segmentation if target.kind == "map" else Classification)(target.name, target.classes)


def label_moments(data: Any, targets: Mapping[str, Target]) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation of the labels of each number among the targets.

    Raises:
        SplitError: no sample has a label, or all have the same.
    """
    moments = {}
    for name, target in targets.items():
        if target.kind == "number":
            values = np.asarray(data.table(name), np.float64)
            values = values[np.isfinite(values)]
            if not len(values) or not values.std() > 0:
                raise SplitError(f"the {len(values)} training labels of {name} do not vary; there is nothing to learn")
            moments[name] = (float(values.mean()), float(values.std()))
    return moments


def train(
    data: Any, val: Dataset[Any] | None, settings: Training, *, start: str | Path | None = None, progress: bool = True
) -> tuple[nn.Module, History]:
    """Train a network for all targets of a dataset; the epoch with the lowest validation loss is kept.

    Args:
        data: training samples, with `inputs` and `outputs`.
        val: samples to choose the epoch by; without them the last weights are kept.
        settings: see `Training`.
        start: a checkpoint of an encoder of the same make, such as `pretrain` writes, to start from.
        progress: show bars.

    Raises:
        CheckpointError: `start` is of another encoder or other data.
        BengeError: whatever `build_network` and `fit` find wrong.
    """
    moments = label_moments(data, data.outputs)
    seed_everything(settings.seed)
    network = build_network(data.inputs, data.outputs, settings, moments)
    if start is not None:
        if not isinstance(network, Network):
            raise CheckpointError("decision fusion has no single encoder to start from a checkpoint")
        load_checkpoint(start, network, heads=False)
    tasks = [task_of(target, moments.get(name, (0.0, 1.0))[1]) for name, target in data.outputs.items()]
    trainer = Trainer(precision=settings.precision, progress=progress)
    images = any(modality.kind == "image" for modality in data.inputs.values())
    augment = Augment(settings.crop) if images else None
    options: dict[str, Any] = {"epochs": settings.epochs, "batch_size": settings.batch_size, "lr": settings.lr}
    history = History()
    parts = network.networks.values() if isinstance(network, DecisionFusion) else [network]
    for part in parts:
        history = trainer.fit(part, tasks, data, val, augment=augment, seed=settings.seed, **options)
    return network, history


def save_model(path: str | Path, network: Any, settings: Training, config: Mapping[str, Any] | None = None) -> None:
    """Write a network that `train` made, with all that builds it again."""
    heads = dict(network.heads.items()) if isinstance(network, Network) else {}
    moments = {
        name: [float(head.mean), float(head.scale)] for name, head in heads.items() if isinstance(head, RegressionHead)
    }
    config = {**(config or {}), "made_by": "train", "settings": asdict(settings), "moments": moments}
    save_checkpoint(path, network, config)


def load_model(path: str | Path) -> tuple[Any, dict[str, Any]]:
    """A network that `save_model` wrote, and its configuration.

    Raises:
        CheckpointError: no such file, or one that `train` did not write.
    """
    header, _ = read_checkpoint(path)
    config = header["config"]
    if config.get("made_by") != "train":
        raise CheckpointError(
            f"{path} is a checkpoint, but `python -m bengelib train` did not write it; give one that it wrote"
        )
    moments = {name: (mean, scale) for name, (mean, scale) in config["moments"].items()}
    network = build_network(saved_inputs(header), saved_targets(config), Training(**config["settings"]), moments)
    load_checkpoint(path, network)  # type: ignore[arg-type]
    return network, config


def saved_targets(config: Mapping[str, Any]) -> dict[str, Target]:
    """What a network answers, by key: of the configuration that `load_model` gives."""
    return {
        facts["name"]: Target(
            facts["name"], facts["kind"], tuple(facts["classes"]), facts["unit"], tuple(facts["colours"])
        )
        for facts in config["targets"]
    }


def scores(
    network: nn.Module, data: Any, *, precision: str = "auto", batch_size: int = 32
) -> dict[str, dict[str, Interval]]:
    """Scores of a network on test samples, with 95 % intervals over samples, or over their groups where there are any.

    Returns:
        By target: `accuracy` and `macro_f1` of a class, `map` (mean average precision) of labels, `mean_iou` and
        `accuracy` of a map, `mae` in its unit of a number; samples without a label do not count.

    Raises:
        SplitError: no sample has a label.
        BengeError: whatever `predict` finds wrong.
    """
    outputs: dict[str, Target] = data.outputs

    def smaller(answers: dict[str, Tensor]) -> dict[str, Tensor]:
        """Classes in place of logits, where the scores need no more."""
        chosen = [name for name, target in outputs.items() if target.kind in ("class", "map")]
        return {**answers, **{name: answers[name].argmax(dim=1).to(torch.uint8) for name in chosen}}

    found = predict(network, data, reduce=smaller, precision=precision, batch_size=batch_size)
    groups = None if data.groups is None else np.asarray(data.groups)
    result = {}
    for name, target in outputs.items():
        predicted, truth = found.outputs[name], found.labels[name]
        known = _known(target, truth)
        if not known.any():
            raise SplitError(f"none of the {len(known)} test samples has a label of {name}")
        together = None if groups is None else groups[known].tolist()
        predicted, truth = predicted[known], truth[known]
        if target.kind == "class":
            result[name] = {
                "accuracy": bootstrap(predicted, truth, accuracy, groups=together),
                "macro_f1": bootstrap(predicted, truth, macro_f1, groups=together),
            }
        elif target.kind == "labels":
            result[name] = {"map": bootstrap(predicted, truth, mean_average_precision, groups=together)}
        elif target.kind == "number":
            result[name] = {"mae": bootstrap(predicted, truth, mean_absolute_error, groups=together)}
        else:
            matrices = confusion_by_patch(predicted, truth, len(target.classes))
            support = matrices.sum(axis=2)
            right = (np.diagonal(matrices, axis1=1, axis2=2).sum(axis=1) / support.sum(axis=1))[:, None]
            result[name] = {
                "mean_iou": bootstrap(matrices[None], support, drawn_mean_iou, groups=together),
                "accuracy": bootstrap(right, np.ones_like(right), _mean, groups=together),
            }
    return result


def _known(target: Target, truth: np.ndarray) -> np.ndarray:
    """Which samples have a label, (N,) bool."""
    flat = truth.reshape(len(truth), -1)
    if target.kind in ("class", "map"):
        return (flat != IGNORE_INDEX).any(axis=1)
    return np.isfinite(flat).all(axis=1)


def _mean(values: np.ndarray, _: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Mean of (N, 1) values in each drawing, (D,)."""
    mean: np.ndarray = counts @ values[:, 0] / counts.sum(axis=1)
    return mean

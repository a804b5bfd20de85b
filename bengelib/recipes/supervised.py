"""Supervised training on a dataset and evaluation with intervals, as in the commands `train` and `evaluate`."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from bengelib.arguments import check_share, real_number, whole_number
from bengelib.bands import IGNORE_INDEX
from bengelib.checkpoint import load_checkpoint, read_checkpoint, save_checkpoint, saved_inputs
from bengelib.data.ground import same_extent, shown_metres
from bengelib.engine import History, Trainer, predict, seed_everything
from bengelib.errors import ArgumentError, BandError, CheckpointError, DataWarning, DescriptionError, SplitError
from bengelib.fusion import DecisionFusion, EarlyFusion, FeatureFusion, FiLMFusion, LateFusion
from bengelib.heads import ClassificationHead, Network, RegressionHead, SegmentationHead
from bengelib.intervals import Interval, bootstrap
from bengelib.metrics import (
    MIN_POSITIVES,
    accuracy,
    confusion_by_patch,
    drawn_mean_iou,
    macro_f1,
    mean_absolute_error,
    mean_average_precision,
)
from bengelib.modalities import InputSpec, Target, as_modalities
from bengelib.recipes.compatible import check_inputs, check_start, inputs_of_encoder, name_of
from bengelib.tasks import Classification, MultiLabel, Regression, Segmentation, Task
from bengelib.transforms import Augment

FUSIONS: dict[str, Callable[..., nn.Module]] = {
    "early": EarlyFusion,
    "feature": FeatureFusion,
    "late": LateFusion,
    "film": FiLMFusion,
}
"""Fusion encoders by name; `"decision"` fuses independent networks instead."""


@dataclass(frozen=True)
class Training:
    """Settings of supervised training.

    Attributes:
        fusion: one of `FUSIONS`, or `"decision"`.
        depth: layers of the ResNets, 18, 34 or 50.
        width: factor on the channels of the ResNets; 1 is the standard width.
        epochs: passes over the training samples.
        batch_size: samples per step.
        lr: highest learning rate.
        crop: pixels along a side of a random crop in training; None trains on whole images.
        modality_dropout: probability of hiding a modality in training, see `InputNorm`.
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
        """Check the settings before data are read.

        Raises:
            ArgumentError: naming the setting, its value and the expected value.
        """
        if self.fusion not in (*FUSIONS, "decision"):
            raise ArgumentError(f"unknown fusion {self.fusion!r}; choose one of {[*FUSIONS, 'decision']}")
        for name in ("epochs", "batch_size", *(("crop",) if self.crop is not None else ())):
            whole_number(name, getattr(self, name))
        whole_number("seed", self.seed, 0)
        real_number("lr", self.lr, above=0)
        check_share("modality_dropout", self.modality_dropout, zero=True, one=False)
        if self.fusion == "decision" and self.modality_dropout:
            raise ArgumentError("decision fusion has a network for each modality, none of which can do without its own")


def build_network(
    inputs: InputSpec, targets: Mapping[str, Target], settings: Training, moments: Mapping[str, tuple[float, float]]
) -> nn.Module:
    """A network with random weights and a head for every target.

    Args:
        inputs: inputs, such as `dataset.inputs`.
        targets: such as `dataset.outputs`.
        settings: see `Training`.
        moments: mean and standard deviation of the training labels of each numeric target.

    Raises:
        BandError: no target, a map or number that the fusion does not support, or inputs that it cannot fuse.
    """
    if not targets:
        raise BandError("no target to train for; name one or more")
    modalities = as_modalities(inputs)
    has_image = any(modality.kind == "image" for modality in modalities.values())
    if settings.fusion == "decision":
        if other := [name for name, target in targets.items() if target.kind not in ("class", "labels")]:
            raise BandError(f"decision fusion averages probabilities of classes, and {other} have none; choose late")
        alone = replace(settings, fusion="late")
        networks = {key: build_network({key: each}, targets, alone, moments) for key, each in modalities.items()}
        return DecisionFusion(networks, [name for name, target in targets.items() if target.kind == "labels"])
    if settings.fusion != "late" and not has_image:
        raise BandError(f"{settings.fusion} fusion needs an image, and the inputs are {list(modalities)}; choose late")
    options: dict[str, Any] = {"depth": settings.depth, "width": settings.width}
    encoder = FUSIONS[settings.fusion](modalities, modality_dropout=settings.modality_dropout, **options)
    length = int(encoder.feature_dim)  # type: ignore[arg-type]
    heads: dict[str, nn.Module] = {}
    for name, target in targets.items():
        if target.kind == "map":
            if not hasattr(encoder, "pyramid") or not has_image:
                how = f"{settings.fusion} fusion" if has_image else f"a model of {list(modalities)}"
                raise BandError(
                    f"{name} is a map, which {how} does not give; choose early, feature or late fusion of images"
                )
            heads[name] = SegmentationHead(encoder.channels, target.classes)  # type: ignore[arg-type]
        elif target.kind == "number":
            heads[name] = RegressionHead(length, *moments[name])
        else:
            heads[name] = ClassificationHead(length, target.classes)
    return Network(encoder, heads)


def task_of(target: Target, scale: float = 1.0) -> Task:
    """The task of a target; `scale` is the standard deviation of the training labels of a numeric target."""
    if target.kind == "number":
        return Regression(target.name, scale)
    if target.kind == "labels":
        return MultiLabel(target.name, target.classes)
    return (Segmentation if target.kind == "map" else Classification)(target.name, target.classes)


def label_moments(data: Any, targets: Mapping[str, Target]) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation of the labels of each numeric target."""
    moments = {}
    for name, target in targets.items():
        if target.kind == "number":
            values = np.asarray(data.table(name), np.float64)
            values = values[np.isfinite(values)]
            moments[name] = (float(values.mean()), float(values.std()))
    return moments


def check_labels(data: Any, side: str) -> None:
    """Refuse a split without labels or with nothing to learn, as far as the table shows.

    Raises:
        SplitError: no sample has a label or, for training, all labels are equal.
    """
    for name, target in data.outputs.items():
        if target.kind == "map":
            if not hasattr(data, "classes_seen"):  # the maps of ben-ge are whole
                continue
            found, what = len(data.classes_seen(name, 2)), "labels of the pixels"
        else:
            labels = np.asarray(data.table(name))
            found, what = len(np.unique(labels[_known(target, labels)], axis=0)), "labels"
        if not found:
            raise SplitError(
                f"{name_of(data)}: none of the {len(data)} samples of the {side} side has a label of {name}; give "
                "another split, or leave that target out"
            )
        if side == "train" and found < 2:
            raise SplitError(
                f"{name_of(data)}: the training {what} of {name} are all the same; there is nothing to learn. "
                "Give another split, or leave that target out"
            )


def warn_of_classes(data: Any, test: Any) -> None:
    """Warn about classes that test samples have and no training sample.

    Warns:
        DataWarning: naming them.
    """
    for name, target in data.outputs.items():
        if target.kind == "class":
            learnt, asked = (set(np.asarray(each.table(name)).tolist()) - {IGNORE_INDEX} for each in (data, test))
            if absent := [target.classes[index] for index in sorted(asked - learnt)]:
                warnings.warn(
                    f"{name_of(data)}: no training sample has the {name} {', '.join(absent)}, and test samples "
                    "have: a model can only get them wrong. Give another split, or leave the cells of classes that are "
                    "too rare empty",
                    DataWarning,
                    stacklevel=2,
                )


def check_sizes(data: Any, fusion: str, crop: int | None = None) -> None:
    """Refuse images and maps of different sizes if a network combines them pixel by pixel.

    Args:
        data: with `shape(key)`, if its images may differ; or several such datasets.
        fusion: one of `FUSIONS`, or `"decision"`.
        crop: as in `Training`.

    Raises:
        DescriptionError: naming the keys, their sizes or extents on the ground, and the fix.
    """
    for part in getattr(data, "datasets", ()):
        check_sizes(part, fusion, crop)
    if not hasattr(data, "shape"):
        return
    images = [key for key, modality in data.inputs.items() if modality.kind == "image"]
    maps = [key for key, target in data.outputs.items() if target.kind == "map"]
    joined = [*images, *maps] if maps or crop or fusion in ("early", "feature", "film") else []
    shapes = {key: data.shape(key) for key in joined}
    late = "" if maps or crop else ", or choose late fusion"
    if len(set(shapes.values())) < 2:
        _check_extents(data, joined, late)
        return
    largest = max(shapes, key=lambda key: shapes[key])
    other = next(key for key in shapes if shapes[key] != shapes[largest])
    sizes = {key: f"{shapes[key][0]} x {shapes[key][1]} pixels" for key in (other, largest)}
    part = "targets" if other in maps else "modalities"
    raise DescriptionError(
        f"{name_of(data)}: {other} has {sizes[other]} and {largest} {sizes[largest]}, and the network takes them pixel "
        f"by pixel; state size = {shapes[largest][0]} in [{part}.{other}] of dataset.toml{late}"
    )


def _check_extents(data: Any, joined: Sequence[str], late: str) -> None:
    """Refuse images and maps that are combined pixel by pixel, and whose pixels are of different size on the ground.

    Raises:
        DescriptionError: naming the keys, their extents and the fix.
    """
    extents = {key: data.extent(key) for key in joined} if hasattr(data, "extent") else {}
    extents = {key: extent for key, extent in extents.items() if extent}
    for key, extent in extents.items():
        first, other = next(iter(extents.items()))
        if not same_extent(extent, other):
            raise DescriptionError(
                f"{name_of(data)}: a sample of {first} shows {shown_metres(other)} of ground and one of {key} "
                f"{shown_metres(extent)}, in as many pixels, and a network takes them pixel by pixel; cut and resample "
                f"the files to the same ground (gdalwarp -te -tr){late}"
            )


def train(
    data: Any, val: Dataset[Any] | None, settings: Training, *, start: str | Path | None = None, progress: bool = True
) -> tuple[nn.Module, History]:
    """Train a network for all targets of a dataset; the epoch with the lowest validation loss is kept.

    Args:
        data: training samples, with `inputs` and `outputs`.
        val: validation samples to choose the epoch; without them the last weights are kept.
        settings: see `Training`.
        start: a checkpoint of an encoder of the same architecture, for example of `pretrain`, as initial weights.
            It keeps its own statistics, which may differ from those of `data`.
        progress: show progress bars.

    Raises:
        CheckpointError: `start` has another encoder, or none that can be trained here, see `check_start`.
        BandError: `start` was trained with other bands, units or scales.
        SplitError: a split has no labels, or nothing to learn.
        DescriptionError: images of different sizes are to be combined pixel by pixel.
        BengeError: any fault that `build_network` and `fit` find.
    """
    if start is not None and settings.fusion == "decision":
        raise CheckpointError("decision fusion has no single encoder to start from a checkpoint")
    if start is not None:
        check_start(start, settings.fusion)
    for side, each in (("train", data), ("val", val)):
        if each is not None:
            check_labels(each, side)
    check_sizes(data, settings.fusion, settings.crop)
    moments = label_moments(data, data.outputs)
    seed_everything(settings.seed)
    inputs = data.inputs if start is None else inputs_of_encoder(start, data)
    network = build_network(inputs, data.outputs, settings, moments)
    if start is not None:
        load_checkpoint(start, network, heads=False)  # type: ignore[arg-type]
    tasks = [task_of(target, moments.get(name, (0.0, 1.0))[1]) for name, target in data.outputs.items()]
    trainer = Trainer(precision=settings.precision, progress=progress)
    shapes = [data.shape(key) for key in data.inputs] if hasattr(data, "shape") else []
    is_square = settings.crop is not None or all(height == width for height, width in shapes)
    augment = Augment(settings.crop, turn=is_square)  # rotation swaps height and width
    options: dict[str, Any] = {"epochs": settings.epochs, "batch_size": settings.batch_size, "lr": settings.lr}
    history = History()
    parts = network.networks.values() if isinstance(network, DecisionFusion) else [network]
    for part in parts:
        history = trainer.fit(part, tasks, data, val, augment=augment, seed=settings.seed, **options)
    return network, history


def save_model(
    path: str | Path,
    network: Any,
    settings: Training,
    targets: Mapping[str, Target],
    config: Mapping[str, Any] | None = None,
) -> None:
    """Write a network of `train`, with all settings needed to build it again."""
    heads = dict(network.heads.items()) if isinstance(network, Network) else {}
    moments = {
        name: [float(head.mean), float(head.scale)] for name, head in heads.items() if isinstance(head, RegressionHead)
    }
    made = {"made_by": "train", "settings": asdict(settings), "moments": moments}
    outputs = [asdict(target) for target in targets.values()]  # a list keeps the order
    save_checkpoint(path, network, {**(config or {}), **made, "outputs": outputs})


def load_model(path: str | Path) -> tuple[Any, dict[str, Any]]:
    """A network written by `save_model`, and its configuration.

    Raises:
        CheckpointError: the file does not exist, or `train` did not write it.
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
    """The targets of a model, in order, from its configuration."""
    texts = ("classes", "colours")  # lists in a checkpoint
    targets = [Target(**{**facts, **{text: tuple(facts[text]) for text in texts}}) for facts in config["outputs"]]
    return {target.name: target for target in targets}


def check_data(network: Any, config: Mapping[str, Any], data: Any) -> None:
    """Refuse data that differ from the training data of a model in spite of equal names.

    Args:
        network: with `inputs`, from `load_model`.
        config: its configuration, from `load_model`.
        data: the test data.

    Raises:
        BandError: bands, their order or unit differ; values have another scale; or a target has another kind, unit,
            classes or order of classes. Naming both.
    """
    check_inputs(network.inputs, data.inputs, config.get("stored"), getattr(data, "stored", None), name_of(data))
    for name, saved in saved_targets(config).items():
        target = data.outputs[name]
        for what in ("kind", "classes", "unit"):
            if getattr(saved, what) != getattr(target, what):
                raise BandError(
                    f"the model predicts {name} with the {what} {getattr(saved, what)!r}, and {name_of(data)} has "
                    f"{getattr(target, what)!r}; describe the target as it was in the training"
                )


def scores(
    network: nn.Module, data: Any, *, precision: str = "auto", batch_size: int = 32
) -> dict[str, dict[str, Interval]]:
    """Scores of a network on test samples, with 95 % intervals over samples, or over their groups if there are any.

    Returns:
        By target: `accuracy` and `macro_f1` for a class, `map` (mean average precision) for labels, `mean_iou` and
        `accuracy` (of all pixels) for a map, `mae` in its unit for a number. Unlabelled samples do not count. Means
        over classes include those with five samples or more, and are left out if there is no such class.

    Raises:
        SplitError: no sample has a label.
        BengeError: any fault that `predict` finds.
    """
    outputs: dict[str, Target] = data.outputs

    def smaller(answers: dict[str, Tensor]) -> dict[str, Tensor]:
        """Classes in place of logits, if sufficient for the scores."""
        chosen = [name for name, target in outputs.items() if target.kind in ("class", "map")]
        return {**answers, **{name: answers[name].argmax(dim=1).to(torch.uint8) for name in chosen}}

    found = predict(network, data, reduce=smaller, precision=precision, batch_size=batch_size)
    groups = None if data.groups is None else np.asarray(data.groups)
    result = {}
    for name, target in outputs.items():
        predicted, truth = found.outputs[name], found.labels[name]
        known = _known(target, truth)
        if not known.any():
            raise SplitError(f"{name_of(data)}: none of the {len(known)} test samples has a label of {name}")
        together = None if groups is None else groups[known].tolist()
        predicted, truth = predicted[known], truth[known]
        if target.kind == "class":
            result[name] = {"accuracy": bootstrap(predicted, truth, accuracy, groups=together)}
            if np.bincount(truth).max() >= MIN_POSITIVES:
                result[name]["macro_f1"] = bootstrap(predicted, truth, macro_f1, groups=together)
        elif target.kind == "labels":
            result[name] = {}
            if truth.sum(axis=0).max() >= MIN_POSITIVES:
                result[name]["map"] = bootstrap(predicted, truth, mean_average_precision, groups=together)
        elif target.kind == "number":
            result[name] = {"mae": bootstrap(predicted, truth, mean_absolute_error, groups=together)}
        else:
            matrices = confusion_by_patch(predicted, truth, len(target.classes))
            support = matrices.sum(axis=2)
            result[name] = {
                "mean_iou": bootstrap(matrices[None], support, drawn_mean_iou, groups=together),
                "accuracy": bootstrap(matrices[None], support, _pixel_accuracy, groups=together),
            }
    return result


def _known(target: Target, truth: np.ndarray) -> np.ndarray:
    """Mask of the samples that have a label, (N,) bool."""
    flat = truth.reshape(len(truth), -1)
    if target.kind in ("class", "map"):
        return (flat != IGNORE_INDEX).any(axis=1)
    return np.isfinite(flat).all(axis=1)


def _pixel_accuracy(matrices: np.ndarray, support: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Accuracy over the labelled pixels in each resample, (D,), from confusion matrices (N, K, K)."""
    right = np.trace(matrices, axis1=1, axis2=2)
    shares: np.ndarray = counts @ right / (counts @ support.sum(axis=1))
    return shares

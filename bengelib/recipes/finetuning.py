"""Training with few labels: a pretrained encoder fine-tuned, or the same network from random weights.

Both go through `bengelib.engine.fit` for a number of steps rather than of epochs (a hundred labels are a few batches,
and training takes hundreds of steps), with the same views, label smoothing and averaging of weights.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset, Subset

from bengelib.arguments import as_indices, check_share, real_number, whole_number
from bengelib.data.batches import contents_of
from bengelib.data.labelled import label_subsets
from bengelib.devices import on_host
from bengelib.engine import Augmentation, Trainer, predict
from bengelib.errors import ArgumentError, SplitError
from bengelib.heads import ClassificationHead, Network
from bengelib.methods.momentum import follow
from bengelib.probe import DihedralAverage, check_stages, extract_features, fit_logistic, with_stages
from bengelib.tasks import Classification, MultiLabel
from bengelib.transforms import Batch


@dataclass(frozen=True)
class FineTuning:
    """Settings of training with few labels; `for_scratch` adapts them to random weights.

    Attributes:
        steps: least number of optimisation steps.
        epochs: passes over the labelled samples, if this takes more than `steps`.
        batch_size: samples per step.
        lrs: learning rates to choose from on a fifth of the labelled samples; a single one is taken as it is.
        stages: stages of the ResNets whose features the head reads beside the last, as `extract_features` does for a
            probe; without them a warm head would begin with less than the probe knows.
        texture: let the head read the standard deviations over the image of these stages too, see `MultiStageEncoder`.
        enlarge: factor by which the network enlarges images first, likewise; a step takes its square as long.
        head_factor: learning rate of the head, as a multiple of that of the encoder.
        tuning_steps: steps of the runs that choose the learning rate, at most.
        weight_decay: of AdamW.
        smoothing: label smoothing (Szegedy et al. 2016, arXiv:1512.00567) for one class per sample.
        average: decay a step of the running average of the weights that is used in the end; 0 takes the last weights.
        warm_head: begin with the weights of a logistic probe on the labelled samples (linear probing, then fine-tuning:
            Kumar et al. 2022, arXiv:2202.10054); without it, and from scratch, the head begins with random weights.
    """

    steps: int = 800
    epochs: float = 6
    batch_size: int = 64
    lrs: tuple[float, ...] = (5e-4,)
    stages: tuple[int, ...] = (2, 3)
    texture: bool = False
    enlarge: int = 1
    head_factor: float = 1.0
    tuning_steps: int = 600
    weight_decay: float = 0.05
    smoothing: float = 0.1
    average: float = 0.99
    warm_head: bool = True

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ValueError: naming the setting, its value and its range.
        """
        for name, least in (("steps", 1), ("batch_size", 2), ("tuning_steps", 1), ("enlarge", 1)):
            whole_number(name, getattr(self, name), least)
        for name in ("epochs", "weight_decay"):
            real_number(name, getattr(self, name), least=0)
        for name in ("smoothing", "average"):
            check_share(name, getattr(self, name), zero=True, one=False)
        real_number("head_factor", self.head_factor, above=0)
        if not isinstance(self.lrs, (tuple, list)) or not self.lrs:
            raise ArgumentError(f"lrs={self.lrs!r}; expected one or more, such as (0.001,)")
        for lr in self.lrs:
            real_number("lrs", lr, above=0)
        check_stages(self.stages)

    def steps_for(self, samples: int) -> int:
        """Number of steps with `samples` labelled samples."""
        return max(self.steps, round(self.epochs * samples / self.batch_size))


def for_scratch(settings: FineTuning) -> FineTuning:
    """The same settings without what only pretrained weights have: features worth probing."""
    return replace(settings, warm_head=False)


def for_enlarged(settings: FineTuning, factor: int) -> FineTuning:
    """The same settings for images `factor` times as large, in fewer steps, which take as long."""
    pixels = factor**2
    fewer = {name: max(1, getattr(settings, name) // pixels) for name in ("steps", "tuning_steps")}
    return replace(settings, enlarge=factor, **fewer)


FINE_TUNING = FineTuning()
FROM_SCRATCH = for_scratch(FineTuning(lrs=(3e-4, 1e-3, 3e-3)))
"""Random weights take larger steps, and the best size differs from data to data: so it is chosen among three."""


class SmoothedClassification(Classification):
    """One class per sample, with label smoothing in the loss."""

    def __init__(self, target: str, classes: Sequence[str], smoothing: float = 0.1) -> None:
        """Predict `target` (B,) with the named `classes`."""
        super().__init__(target, classes)
        check_share("smoothing", smoothing, zero=True, one=False)
        self.smoothing = smoothing

    def loss(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Any]) -> Tensor:
        """Cross-entropy with the smoothed labels; see `Classification.loss` for the errors."""
        logits, labels = self._pair(outputs, batch)
        if on_host(labels):
            self.check(batch)
        return F.cross_entropy(logits, labels, label_smoothing=self.smoothing)


class ScaledHead(ClassificationHead):
    """A linear head with a learning rate of its own: AdamW moves a weight by the rate, and `factor` multiplies that.

    It computes in 32 bits whatever the precision is: a probe's weights undo the mean and the spread of each feature,
    and the small difference of two large numbers is lost in 16 bits.
    """

    def __init__(self, feature_dim: int, classes: Sequence[str], factor: float = 1.0) -> None:
        """Random weights, of the same size whatever the factor."""
        super().__init__(feature_dim, classes)
        self.factor = real_number("factor", factor, above=0)
        with torch.no_grad():
            self.weight.div_(factor)
            self.bias.div_(factor)

    def set(self, weight: np.ndarray, bias: np.ndarray) -> None:
        """Let the head compute `weight` (K, F) @ features + `bias` (K,)."""
        with torch.no_grad():
            self.weight.copy_(torch.as_tensor(weight, dtype=torch.float32) / self.factor)
            self.bias.copy_(torch.as_tensor(bias, dtype=torch.float32) / self.factor)

    def forward(self, features: Tensor) -> Tensor:
        """Logits (B, K)."""
        with torch.autocast(features.device.type, enabled=False):
            logits: Tensor = self.factor * super().forward(features.float())
        return logits


class AveragedNetwork(nn.Module):
    """A network in training, and in evaluation the running average of its weights and statistics.

    The decay grows to `decay` over the first steps, so that the random beginning is soon forgotten.
    """

    def __init__(self, network: Network, decay: float) -> None:
        """Begin the average with the weights as they are."""
        super().__init__()
        check_share("decay", decay, zero=True, one=False)
        self.network = network
        self.average = deepcopy(network).requires_grad_(False)
        self.inputs = getattr(network, "inputs", {})
        self.outputs = getattr(network, "outputs", {})
        self.decay, self.steps = decay, 0

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Outputs by target."""
        if not self.training:
            averaged: dict[str, Tensor] = self.average(batch)
            return averaged
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps)) if self.steps else 0.0
        self.steps += 1
        follow(self.average, self.network, decay)
        outputs: dict[str, Tensor] = self.network(batch)
        return outputs

    @property
    def encoder(self) -> nn.Module:
        """That of the network in training."""
        return self.network.encoder

    def get_extra_state(self) -> Tensor:
        """The number of steps, for checkpoints."""
        return torch.tensor(self.steps)

    def set_extra_state(self, state: Tensor) -> None:
        """Restore the number of steps."""
        self.steps = int(state)


def finetune(
    encoder: nn.Module,
    train: Dataset[Any],
    target: str,
    classes: Sequence[str],
    labels: np.ndarray,
    *,
    chosen: np.ndarray | None = None,
    settings: FineTuning = FINE_TUNING,
    augment: Augmentation | None = None,
    precision: str = "auto",
    seed: int = 0,
    progress: bool = True,
) -> Network:
    """A network with a copy of `encoder`, all of it trained on the labelled samples; the given one stays untouched.

    Args:
        encoder: pretrained; takes a dict batch, returns (B, feature_dim).
        train: samples that are dicts and have `target`.
        target: key of the labels in a sample.
        classes: their names.
        labels: of all of `train`, (N,) class indices, or (N, K) of 0 and 1 for several labels.
        chosen: indices of the labelled samples, as from `label_subsets`; all by default. Only they are read.
        settings: see `FineTuning`.
        augment: views of a training batch, for example `views.Views(64)`.
        precision: see `bengelib.devices.choose_precision`.
        seed: of the order of the samples, of the views, and of the choice of the learning rate.
        progress: show a bar.

    Returns:
        The network with the averaged weights, in evaluation mode. With `stages` its `encoder` is a `MultiStageEncoder`
        around the copy, `network.encoder.encoder`.

    Raises:
        ValueError: fewer than two labelled samples, or of one class only.
        NonFiniteLossError: the loss became NaN or infinite.
    """
    labels = np.asarray(labels)
    chosen = np.arange(len(labels)) if chosen is None else as_indices(chosen, len(labels))
    run = _Run(encoder, train, target, tuple(classes), labels, settings, augment, precision, seed, progress)
    return run.train(run.choose_lr(chosen), chosen, settings.steps_for(len(chosen)))


def with_chosen_lr(
    encoder: nn.Module,
    train: Dataset[Any],
    target: str,
    classes: Sequence[str],
    labels: np.ndarray,
    *,
    chosen: np.ndarray,
    settings: FineTuning,
    augment: Augmentation | None = None,
    precision: str = "auto",
    seed: int = 0,
    progress: bool = True,
) -> FineTuning:
    """The settings with one learning rate, chosen as `finetune` would, for use in several runs; arguments likewise."""
    run = _Run(encoder, train, target, tuple(classes), labels, settings, augment, precision, seed, progress)
    return replace(settings, lrs=(run.choose_lr(chosen),))


@dataclass(frozen=True)
class _Run:
    """The common arguments of all training runs of one call of `finetune`."""

    encoder: nn.Module
    data: Dataset[Any]
    target: str
    classes: tuple[str, ...]
    labels: np.ndarray
    settings: FineTuning
    augment: Augmentation | None
    precision: str
    seed: int
    progress: bool

    def train(self, lr: float, chosen: np.ndarray, steps: int) -> Network:
        """A copy of the encoder and a head, trained for `steps` steps on the chosen samples."""
        if len(chosen) < 2:
            raise ValueError(f"{len(chosen)} labelled samples; fine-tuning needs two or more")
        settings, target = self.settings, self.target
        torch.manual_seed(self.seed)
        encoder: nn.Module = deepcopy(self.encoder).requires_grad_(True)
        encoder = with_stages(encoder, settings.stages, settings.texture, settings.enlarge)
        head = ScaledHead(int(encoder.feature_dim), self.classes, settings.head_factor)  # type: ignore[arg-type]
        if settings.warm_head:
            features = extract_features(encoder, Subset(self.data, chosen.tolist()), precision=self.precision)
            probe = fit_logistic(features, self.labels[chosen], len(self.classes), seed=self.seed)
            head.set(probe.weight, probe.bias)
        model = AveragedNetwork(Network(encoder, {target: head}), settings.average)
        several = self.labels.ndim == 2
        task = (MultiLabel if several else partial(SmoothedClassification, smoothing=settings.smoothing))(
            target, self.classes
        )
        repeated = repeat_to(chosen, steps * settings.batch_size, self.seed)
        trainer = Trainer(weight_decay=settings.weight_decay, precision=self.precision, progress=self.progress)
        trainer.fit(
            model,
            [task],
            Subset(self.data, repeated.tolist()),
            epochs=1,  # of all the repetitions, so that the number of steps is exact
            batch_size=settings.batch_size,
            lr=lr,
            augment=self.augment,
            seed=self.seed,
        )
        return (model.average if settings.average else model.network).requires_grad_(True).eval()

    def choose_lr(self, chosen: np.ndarray) -> float:
        """The learning rate of the lowest loss on a fifth of the labelled samples that its run has not seen.

        The middle one is taken where a class would be left without a label to learn from.
        """
        settings = self.settings
        middle = settings.lrs[len(settings.lrs) // 2]
        if len(settings.lrs) == 1:
            return middle
        try:
            contents = contents_of(Subset(self.data, chosen.tolist()))
            (kept,) = label_subsets(self.labels[chosen], [0.8], self.seed, strict=True, contents=contents).values()
        except SplitError:
            return middle
        left = np.delete(chosen, kept)
        if not len(left):
            return middle
        truth, held_back = torch.as_tensor(self.labels[left]), Subset(self.data, left.tolist())
        steps = min(settings.steps_for(len(kept)), settings.tuning_steps)
        losses = []
        for lr in settings.lrs:
            network = self.train(lr, chosen[kept], steps)
            logits = torch.as_tensor(logits_of(network, held_back, self.target, precision=self.precision))
            if self.labels.ndim == 2:
                losses.append(float(F.binary_cross_entropy_with_logits(logits, truth.float())))
            else:
                losses.append(float(F.cross_entropy(logits, truth.long())))
        return settings.lrs[int(np.argmin(losses))]


def logits_of(
    network: nn.Module,
    data: Dataset[Any],
    target: str,
    *,
    tta: int = 1,
    batch_size: int = 64,
    precision: str = "auto",
) -> np.ndarray:
    """Logits (N, K) of a network for every sample, averaged over `tta` flips and rotations of its images."""
    answers = predict(DihedralAverage(network, tta), data, batch_size=batch_size, precision=precision)
    return np.asarray(answers.outputs[target])


def repeat_to(indices: np.ndarray, count: int, seed: int) -> np.ndarray:
    """`count` of the indices, (count,): each as often as any other to within one."""
    random = np.random.default_rng(seed)
    rounds = -(-count // len(indices))
    return np.concatenate([random.permutation(indices) for _ in range(rounds)])[:count]

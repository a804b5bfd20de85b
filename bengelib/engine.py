"""One training loop, one evaluation, one prediction, for every model and task; devices through Hugging Face Accelerate.

The same call runs on a CPU, on one GPU, or in several processes (`torchrun` or `accelerate launch`). With the same
seed, kind of processor, versions and number of threads and processes a run repeats exactly on a CPU. Another processor
rounds every sum in another order, and training lets the difference grow: after a hundred steps losses may differ in the
second digit. On a GPU that holds between two runs as well: some backward passes add in an order that is not fixed.
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchmetrics import MeanMetric
from tqdm import tqdm

from bengelib.arguments import check_share, real_number, whole_number
from bengelib.batches import batches, check_bands, steps_per_epoch
from bengelib.convolution import channels_last
from bengelib.devices import Accelerator, gather_object, handed_back, make_accelerator, share_buffers
from bengelib.errors import NonFiniteLossError
from bengelib.tasks import Task
from bengelib.transforms import Batch
from bengelib.weighting import EqualWeights, cosines, gradient_products, shared_parameters

Augmentation = Callable[[Batch, torch.Generator], Batch]


@dataclass
class History:
    """What `fit` measured.

    Attributes:
        rows: one an epoch: `epoch`, `lr`, `train/loss`, `train/<target>/loss` (and what a task watches),
            `weight/<target>` (the mean weight of each loss), `val/loss`, `val/<target>/<metric>`.
        gradients: one each time that gradients were compared: `step`, and the cosine of each pair, `<a> ~ <b>`.
        best_epoch: the epoch whose weights were kept.
    """

    rows: list[dict[str, float]] = field(default_factory=list)
    gradients: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0

    def frame(self) -> pd.DataFrame:
        """The rows as a table indexed by epoch, from 1."""
        return pd.DataFrame(self.rows).set_index("epoch")


@dataclass
class Predictions:
    """Outputs and labels of every sample, in the order of the dataset: arrays keyed by target, first dimension N."""

    patch_ids: list[str]
    outputs: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch; call it before a model is built, so that its first weights repeat.

    Raises:
        ArgumentError: the seed is no whole number from 0 to 2**32 - 1, which is what NumPy takes.
    """
    seed = whole_number("seed", seed, 0, 2**32 - 1)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def fit(
    model: nn.Module,
    tasks: Sequence[Task],
    train: Dataset[Any],
    val: Dataset[Any] | None = None,
    *,
    epochs: int = 10,
    batch_size: int = 32,
    lr: float = 1e-3,
    weight_decay: float = 0.05,
    warmup: float = 0.1,
    augment: Augmentation | None = None,
    weighting: EqualWeights | None = None,
    gradient_every: int = 0,
    monitor: str = "loss",
    precision: str = "auto",
    workers: int = 0,
    seed: int = 0,
    progress: bool = True,
) -> History:
    """Train `model` in place on the weighted sum of the tasks' losses and keep the weights of its best epoch.

    AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101), with a linear warm-up and a cosine decay of the learning rate.

    Args:
        model: takes a dict batch, returns a dict of outputs keyed by target.
        tasks: what to learn. A task with a method `watch(outputs)` that gives named scalars has them in the progress
            bar and, averaged, in the history.
        train: samples that are dicts of named tensors.
        val: evaluated after each epoch; without it the last weights are kept.
        epochs: passes over `train`.
        batch_size: samples a step and a process.
        lr: highest learning rate.
        weight_decay: of AdamW.
        warmup: share of the steps over which the learning rate rises.
        augment: called on each decoded training batch with a seeded generator, for example `transforms.Augment(64)`.
        weighting: how the losses are weighted, see `bengelib.weighting`; added up when None. It is not saved with the
            model, and must be a new one for each training.
        gradient_every: compare the tasks' gradients on `model.encoder` every so many steps; 0 is never. Each time costs
            one more pass backward for each task.
        monitor: the validation figure that decides which epoch is best: `"loss"` (lowest), or `"<target>/<metric>"`
            (highest; of `mae` the lowest).
        precision: see `choose_precision`.
        workers: processes that read ahead; 0 is best for packed data.
        seed: of the order of the samples, of the augmentation and of dropout (the weights are drawn before).
        progress: show a bar.

    Returns:
        The history, an epoch a row.

    Raises:
        BandError: dataset and model disagree on bands.
        NonFiniteLossError: the loss became NaN or infinite, in training or in validation.
        ArgumentError: a number that is not whole, a share that is none, a `Subset` of a mask, or a precision that the
            device does not compute in.
        ValueError: nothing to train on or to validate with, an unknown `monitor`, or a `monitor` that is NaN.
    """
    size = len(train)  # type: ignore[arg-type]
    epochs, batch_size = whole_number("epochs", epochs, 0), whole_number("batch_size", batch_size, 0)
    gradient_every = whole_number("gradient_every", gradient_every, 0)
    check_share("warmup", warmup, zero=True)
    real_number("lr", lr, least=0)
    real_number("weight_decay", weight_decay, least=0)
    seed = whole_number("seed", seed, 0)
    if size < 1 or epochs < 1 or batch_size < 1 or not tasks:
        raise ValueError(
            f"nothing to train on: {size} samples, {epochs} epochs, batches of {batch_size}, {len(tasks)} tasks; "
            "expected one or more of each"
        )
    if val is not None and len(val) < 1:  # type: ignore[arg-type]
        raise ValueError("nothing to validate with: `val` has no samples; leave it out to keep the last weights")
    if monitor != "loss" and (val is None or monitor.partition("/")[0] not in [task.target for task in tasks]):
        raise ValueError(
            f"cannot monitor {monitor!r}; choose 'loss', or give `val` and choose '<target>/<metric>' with a target of "
            f"{[task.target for task in tasks]}"
        )
    weighting = weighting or EqualWeights([task.target for task in tasks])
    if set(weighting.targets) != {task.target for task in tasks}:
        raise ValueError(
            f"the weighting is for {weighting.targets}, the tasks are {[task.target for task in tasks]}; "
            "give one weight for each task"
        )
    check_bands(model, train)
    if val is not None:
        check_bands(model, val)
    compared = shared_parameters(model, weighting.gradients) if weighting.gradients else []
    tracked = shared_parameters(model) if gradient_every else []
    accelerator = make_accelerator(precision)
    weighting.to(accelerator.device)
    torch.manual_seed(seed + accelerator.process_index)
    order = torch.Generator().manual_seed(seed)  # the same in every process, so that they share the samples out
    views = torch.Generator().manual_seed(seed + 1 + accelerator.process_index)
    groups: list[dict[str, Any]] = [{"params": list(model.parameters())}]
    if own := list(weighting.parameters()):
        groups.append({"params": own, "lr": lr * getattr(weighting, "rate", 1.0), "weight_decay": 0.0})
    optimizer = torch.optim.AdamW(groups, lr=lr, weight_decay=weight_decay, fused=True)  # a fifth of the time on a CPU
    steps = epochs * steps_per_epoch(size, batch_size, accelerator.num_processes)
    history, best, best_weights = History(), math.inf, None
    done = 0  # steps; a bar that is not shown does not count them

    silent = not (progress and accelerator.is_main_process)
    with handed_back(model), channels_last(model), tqdm(total=steps, disable=silent, leave=False) as bar:
        wrapped, optimizer = accelerator.prepare(model, optimizer)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warm_cosine(step, steps, warmup))
        for epoch in range(1, epochs + 1):
            wrapped.train()
            means = _Means(accelerator)
            for batch in batches(train, batch_size, accelerator, workers, order):
                batch = augment(batch, views) if augment else batch
                outputs = wrapped(batch)
                losses = {task.target: task.loss(outputs, batch) for task in tasks}
                if not all(torch.isfinite(loss) for loss in losses.values()):
                    raise _non_finite(losses, batch, epoch, lr)
                if gradient_every and done % gradient_every == 0:
                    found = cosines(gradient_products(losses, tracked), list(losses))
                    history.gradients.append({"step": done, **found})
                products = None
                if compared:  # in the order of the weighting, and the same in all processes
                    products = gradient_products({name: losses[name] for name in weighting.targets}, compared)
                    products = accelerator.reduce(products, "mean")
                loss = weighting(losses, products)
                accelerator.backward(loss)
                _own_gradients(model, weighting, accelerator)
                optimizer.step()
                optimizer.zero_grad()
                schedule.step()
                watched = _watched(tasks, outputs)
                means.update({"loss": loss.detach()} | watched, _count(batch))
                for task in tasks:
                    means.update({f"{task.target}/loss": losses[task.target].detach()}, _labelled(task, batch))
                means.update({f"weight/{name}": torch.tensor(each) for name, each in weighting.weights.items()}, 1)
                done += 1
                bar.update()
                shown = {name: f"{float(value):.2f}" for name, value in watched.items()}
                bar.set_postfix(epoch=epoch, loss=f"{loss.item():.3f}", refresh=False, **shown)
            row = {"epoch": epoch, "lr": optimizer.param_groups[0]["lr"]}
            row |= {name if name.startswith("weight/") else f"train/{name}": value for name, value in means.compute()}
            share_buffers(model, accelerator)
            if val is not None:
                figures = _measure(model, tasks, val, batch_size, accelerator, workers)
                row |= {f"val/{name}": value for name, value in figures.items()}
                score = _score(figures, monitor, epoch)
                if score < best:
                    best, history.best_epoch = score, epoch
                    best_weights = {name: value.clone() for name, value in model.state_dict().items()}
            history.rows.append(row)
    if best_weights is not None:
        model.load_state_dict(best_weights)
    else:
        history.best_epoch = epochs
    return history


def evaluate(
    model: nn.Module,
    tasks: Sequence[Task],
    data: Dataset[Any],
    *,
    batch_size: int = 32,
    precision: str = "auto",
    workers: int = 0,
) -> dict[str, float]:
    """The loss and every task's metrics over all of `data`, exact however it was cut into batches and processes.

    Returns:
        `loss`, and `<target>/<metric>` for each task, such as `climate_zone/accuracy`.

    Raises:
        BandError: dataset and model disagree on bands.
        ValueError: nothing to evaluate.
    """
    if len(data) < 1 or not tasks:  # type: ignore[arg-type]
        raise ValueError(f"nothing to evaluate: the dataset has no samples or there are no tasks ({len(tasks)})")
    check_bands(model, data)
    accelerator = make_accelerator(precision)
    with handed_back(model):
        accelerator.prepare_model(model, evaluation_mode=True)
        return _measure(model, tasks, data, batch_size, accelerator, workers)


def predict(
    model: nn.Module,
    data: Dataset[Any],
    *,
    change: Callable[[Batch], Batch] | None = None,
    reduce: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None,
    batch_size: int = 32,
    precision: str = "auto",
    workers: int = 0,
) -> Predictions:
    """Outputs of `model` for every sample of `data` in its order, and the labels beside them.

    In several processes each computes its share, and all of them get the whole. `change` is called on each decoded
    batch first, to paint clouds over it or to take a sensor away; `reduce` on each batch of outputs, to keep classes
    instead of the logits of every pixel, for example `heads.hard_maps`.

    Raises:
        BandError: dataset and model disagree on bands.
        ValueError: nothing to predict.
    """
    size = len(data)  # type: ignore[arg-type]
    if size < 1:
        raise ValueError("nothing to predict: the dataset has no samples")
    check_bands(model, data)
    accelerator = make_accelerator(precision)
    parts: list[dict[tuple[str, str], np.ndarray]] = []  # one a batch, keyed by what it is and the target
    with handed_back(model), torch.no_grad():
        accelerator.prepare_model(model, evaluation_mode=True)
        model.eval()
        for batch in batches(data, batch_size, accelerator, workers):
            part = {("id", ""): np.array(batch["patch_id"])} if "patch_id" in batch else {}
            batch = change(batch) if change else batch
            outputs = model(batch)
            for target, output in (reduce(outputs) if reduce else outputs).items():
                part["output", target] = (output.float() if output.is_floating_point() else output).cpu().numpy()
                if target in batch:
                    part["label", target] = batch[target].cpu().numpy()
            parts.append(part)
    parts = gather_object(parts)  # those of the first process, then those of the second, ...
    processes = accelerator.num_processes
    back = np.argsort(np.concatenate([np.arange(size)[rank::processes] for rank in range(processes)]))
    joined = {key: np.concatenate([part[key] for part in parts])[back] for key in parts[0]}
    return Predictions(
        patch_ids=joined.pop(("id", ""), np.array([])).tolist(),
        outputs={target: values for (side, target), values in joined.items() if side == "output"},
        labels={target: values for (side, target), values in joined.items() if side == "label"},
    )


def _score(figures: Mapping[str, float], monitor: str, epoch: int) -> float:
    """The figure that decides which epoch is best, turned so that lower is better.

    Raises:
        NonFiniteLossError: the validation loss is NaN or infinite.
        ValueError: there is no such figure, or it is NaN.
    """
    if not math.isfinite(figures["loss"]):
        raise NonFiniteLossError(
            f"the validation loss is {figures['loss']} in epoch {epoch}; look for non-finite values in the validation "
            "samples, or lower lr"
        )
    if math.isnan(figures.get(monitor, math.nan)):
        raise ValueError(f"cannot monitor {monitor!r}; choose a finite one of the validation figures {figures}")
    return figures[monitor] if monitor == "loss" or monitor.endswith("/mae") else -figures[monitor]


def warm_cosine(step: int, steps: int, warmup: float) -> float:
    """Factor on the learning rate: up in a line over the first `warmup` of the steps, then down along a cosine."""
    rise = max(1, round(steps * warmup))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1, steps - rise))))


def _measure(
    model: nn.Module,
    tasks: Sequence[Task],
    data: Dataset[Any],
    batch_size: int,
    accelerator: Accelerator,
    workers: int,
) -> dict[str, float]:
    model.eval()
    losses = {task.target: _mean(accelerator) for task in tasks}
    metrics = {task.target: task.metric().to(accelerator.device) for task in tasks}
    with torch.no_grad():
        for batch in batches(data, batch_size, accelerator, workers):
            outputs = model(batch)
            for task in tasks:
                losses[task.target].update(task.loss(outputs, batch), weight=_labelled(task, batch))
                task.update(metrics[task.target], outputs, batch)
    figures = {"loss": sum(_value(loss) for loss in losses.values())}
    for task in tasks:
        summary = task.summary(metrics[task.target])
        figures |= {f"{task.target}/{name}": value for name, value in summary.items()}
    return figures


class _Means:
    """Exact means over an epoch, by name."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.metrics: dict[str, MeanMetric] = {}

    def update(self, values: Mapping[str, Tensor], weight: int) -> None:
        """Add values that count `weight` times."""
        for name, value in values.items():
            if name not in self.metrics:
                self.metrics[name] = _mean(self.accelerator)
            self.metrics[name].update(value.to(self.accelerator.device), weight=weight)

    def compute(self) -> list[tuple[str, float]]:
        """Names and means."""
        return [(name, _value(metric)) for name, metric in self.metrics.items()]


def _labelled(task: Task, batch: Batch) -> int:
    """How much of a batch the loss of a task is the mean over."""
    return int(task.labelled(batch)) if hasattr(task, "labelled") else _count(batch)


def _watched(tasks: Sequence[Task], outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What tasks want to be seen, `<target>/<name>`."""
    found: dict[str, Tensor] = {}
    for task in tasks:
        if hasattr(task, "watch"):
            with torch.no_grad():
                found |= {f"{task.target}/{name}": value for name, value in task.watch(outputs).items()}
    return found


def _own_gradients(model: nn.Module, weighting: EqualWeights, accelerator: Accelerator) -> None:
    """Heads follow their plain loss where weights are for the encoder only; processes share gradients of weights."""
    if weighting.shared_only:
        for target, head in model.heads.items():  # type: ignore[union-attr, operator]
            for parameter in head.parameters():
                if parameter.grad is not None:
                    parameter.grad /= weighting.weights[target]
    if accelerator.num_processes > 1:
        for parameter in weighting.parameters():
            parameter.grad = accelerator.reduce(parameter.grad, "mean")


def _mean(accelerator: Accelerator) -> MeanMetric:
    """An exact mean over batches and processes, which a NaN makes NaN (torchmetrics would leave NaNs out)."""
    return MeanMetric(nan_strategy=math.nan).to(accelerator.device)


def _value(mean: MeanMetric) -> float:
    """A mean over batches, 0 of nothing: where no sample is labelled, the loss of a task is 0."""
    return float(mean.compute()) if float(mean.weight) else 0.0


def _count(batch: Batch) -> int:
    """Samples in a batch."""
    return next(len(value) for value in batch.values() if isinstance(value, Tensor))


def _non_finite(losses: Mapping[str, Tensor], batch: Batch, epoch: int, lr: float) -> NonFiniteLossError:
    inputs = {key: value for key, value in batch.items() if key not in losses and isinstance(value, Tensor)}
    bad = [key for key, value in inputs.items() if not torch.isfinite(value.float()).all()]
    cause = f"the batch itself has non-finite {bad}" if bad else f"the inputs are finite, so try lr below {lr:g}"
    parts = ", ".join(f"{target} {float(loss.detach()):.3g}" for target, loss in losses.items())
    return NonFiniteLossError(
        f"the loss is not finite in epoch {epoch} ({parts}); {cause}. "
        f"First patches of the batch: {list(batch.get('patch_id', ()))[:3]}"
    )

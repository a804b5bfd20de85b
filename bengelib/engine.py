"""Training, evaluation and prediction for every model and task; devices through Hugging Face Accelerate.

The same call runs on a CPU, on one GPU, or in several processes (`torchrun` or `accelerate launch`). On a CPU, a run
repeats exactly with the same seed, kind of processor, versions, threads and processes. Another processor rounds sums
in another order, and training amplifies the difference: after a hundred steps, losses may differ in the second digit.
On a GPU even two runs may differ like that, because some backward passes add in no fixed order.
"""

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Dataset
from tqdm import tqdm

from bengelib.arguments import check_share, real_number, whole_number
from bengelib.convolution import channels_last
from bengelib.data.batches import batches, check_bands, steps_per_epoch
from bengelib.devices import make_accelerator, restored_forward
from bengelib.errors import NonFiniteLossError
from bengelib.gradient_cache import in_parts
from bengelib.metrics import lower_is_better
from bengelib.monitor import History as History
from bengelib.monitor import Monitor, compare_gradients, labelled_weight
from bengelib.processes import JoinedOutputs, join_losses, mean_over_processes, share_buffers, synchronised
from bengelib.resume import Checkpoints
from bengelib.running import Mean
from bengelib.tasks import Task
from bengelib.transforms import Batch
from bengelib.weighting import EqualWeights, gradient_products, shared_parameters

if TYPE_CHECKING:
    from accelerate import Accelerator

Augmentation = Callable[[Batch, torch.Generator], Batch]


@dataclass
class Predictions:
    """Outputs and labels of all samples, in the order of the dataset: arrays by target, first dimension N."""

    patch_ids: list[str]
    outputs: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch; call it before building a model, so that its initial weights repeat.

    Raises:
        ArgumentError: the seed is not a whole number from 0 to 2**32 - 1, the range of NumPy.
    """
    seed = whole_number("seed", seed, 0, 2**32 - 1)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@dataclass(frozen=True)
class Trainer:
    """Settings of a training other than its model, tasks and data; `fit` is the method of a `Trainer` with defaults.

    Attributes:
        weight_decay: of AdamW.
        warmup: fraction of the steps during which the learning rate rises.
        monitor: the validation metric that selects the best epoch: `"loss"` (lowest), or `"<target>/<metric>"`
            (highest, or lowest as `metrics.lower_is_better` says).
        monitor_every: steps between two transfers of numbers from the device, for the progress bar, the tasks' `watch`
            and, on a GPU, the detection of losses that are not finite.
        gradient_every: steps between two comparisons of the tasks' gradients on `model.encoder`; 0 means never. Each
            comparison costs one backward pass per task.
        precision: see `choose_precision`.
        workers: processes that load data; 0 is best for packed data.
        sync_batchnorm: in several processes, compute the statistics of BatchNorm over all of them.
        micro_batch: samples per forward pass, for batches that exceed the memory; None means the whole batch. Loss and
            gradient stay the same except for BatchNorm, for a third more compute; see `bengelib.gradient_cache`.
        progress: show a progress bar.
        log: folder for `log.jsonl`, with a line per `monitor_every` steps and per epoch, and for TensorBoard if that is
            installed. An existing log is replaced unless its training is resumed.
    """

    weight_decay: float = 0.05
    warmup: float = 0.1
    monitor: str = "loss"
    monitor_every: int = 10
    gradient_every: int = 0
    precision: str = "auto"
    workers: int = 0
    sync_batchnorm: bool = False
    micro_batch: int | None = None
    progress: bool = True
    log: str | Path | None = None

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ArgumentError: a number that is not whole, or a fraction outside its range.
        """
        real_number("weight_decay", self.weight_decay, least=0)
        check_share("warmup", self.warmup, zero=True)
        whole_number("monitor_every", self.monitor_every)
        whole_number("gradient_every", self.gradient_every, 0)
        whole_number("workers", self.workers, 0)
        if self.micro_batch is not None:
            whole_number("micro_batch", self.micro_batch)

    @property
    def _settings(self) -> "Trainer":
        """The settings that affect results."""
        return replace(self, workers=0, progress=False, log=None)

    @contextmanager
    def _prepared(self, model: nn.Module) -> Iterator[None]:
        """Prepare a model for training while the block lasts."""
        with (
            restored_forward(model),
            channels_last(model),
            in_parts(model, self.micro_batch),
            synchronised(model, self.sync_batchnorm),
        ):
            yield

    def _bar(self, samples: int, accelerator: "Accelerator") -> "tqdm[Any]":
        silent = not (self.progress and accelerator.is_main_process)
        return tqdm(total=samples, unit=" samples", disable=silent, leave=False)

    def fit(
        self,
        model: nn.Module,
        tasks: Sequence[Task],
        train: Dataset[Any],
        val: Dataset[Any] | None = None,
        *,
        epochs: int = 10,
        batch_size: int = 32,
        lr: float = 1e-3,
        augment: Augmentation | None = None,
        weighting: EqualWeights | None = None,
        seed: int = 0,
        checkpoint: str | Path | None = None,
        checkpoint_every: float = 600.0,
    ) -> History:
        """Train `model` in place on the weighted sum of the tasks' losses and keep the weights of its best epoch.

        AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101), with a linear warm-up and a cosine decay of the learning
        rate.

        Args:
            model: takes a dict batch, returns a dict of outputs keyed by target. Its method
                `after_step(outputs, step, steps)`, if there is one, is called after each optimiser step with the
                outputs of that step, in all processes; the first step is 0.
            tasks: what to learn. If a task has a method `watch(outputs)`, the named scalars that it returns appear in
                the progress bar and, averaged over the monitored steps, in the history.
            train: samples that are dicts of named tensors.
            val: evaluated after each epoch; without it the last weights are kept.
            epochs: passes over `train`.
            batch_size: samples per step and process.
            lr: highest learning rate.
            augment: called on each decoded training batch with a seeded generator, such as `transforms.Augment(64)`.
            weighting: weighting of the losses, see `bengelib.weighting`; None adds them. It is not saved with the model
                and must be a new object for each training.
            seed: of sample order, augmentation and dropout (initial weights are drawn before).
            checkpoint: folder for the checkpoints of this training alone. Training continues from an existing
                checkpoint and ends as if it had never stopped; a complete training returns its result at once. An
                interrupt (the stop button of a notebook) first writes a checkpoint, so the same call continues. On a
                full disk, training warns, keeps the last checkpoint and continues. See `bengelib.resume`.
            checkpoint_every: seconds between two checkpoints.

        Returns:
            The history, one row per epoch.

        Raises:
            BandError: dataset and model disagree on bands, or a label is outside its classes.
            NonFiniteLossError: the loss became NaN or infinite, in training or in validation.
            ArgumentError: a number that is not whole, a `Subset` of a mask, fewer samples than processes, or a
                precision that the device does not compute in.
            CheckpointError: the checkpoint has other settings, data, devices or format, or cannot be read.
            ValueError: no samples to train on or to validate with, or a `monitor` that is unknown or NaN.
        """
        weighting = weighting or EqualWeights([task.target for task in tasks])
        epochs, batch_size = self._check(model, tasks, train, val, weighting, epochs, batch_size)
        real_number("lr", lr, least=0)
        seed = whole_number("seed", seed, 0)
        accelerator = make_accelerator(self.precision)
        size, processes = len(train), accelerator.num_processes  # type: ignore[arg-type]
        kept = Checkpoints(checkpoint, checkpoint_every, accelerator, trainer=self._settings, model=model, tasks=tasks,
                           train=train, val=val, epochs=epochs, batch_size=batch_size, lr=lr, augment=augment,
                           weighting=weighting, seed=seed)  # fmt: skip
        weighting.to(accelerator.device)
        torch.manual_seed(seed + accelerator.process_index)
        order = torch.Generator().manual_seed(seed)  # equal in all processes, which divide the samples among them
        views = torch.Generator().manual_seed(seed + 1 + accelerator.process_index)
        compared = shared_parameters(model, weighting.gradients) if weighting.gradients else []
        tracked = shared_parameters(model) if self.gradient_every else []
        steps = epochs * steps_per_epoch(size, batch_size, processes)
        history, best = History(), _Best(self.monitor)
        log = self.log if accelerator.is_main_process else None

        with self._prepared(model), self._bar(epochs * size, accelerator) as bar, kept.interruptible():
            wrapped, optimizer = accelerator.prepare(model, _optimizer(model, weighting, lr, self.weight_decay))
            schedule = LambdaLR(optimizer, lambda step: warm_cosine(step, steps, self.warmup))
            monitor = Monitor(tasks, weighting, accelerator.device, bar, self.monitor_every, lr, log)
            kept.restore(model=model, optimizer=optimizer, schedule=schedule, weighting=weighting, monitor=monitor,
                         history=history, best=best, order=order, views=views)  # fmt: skip
            for epoch in range(max(1, monitor.epoch), epochs + 1):
                wrapped.train()
                done = monitor.start(epoch)
                for batch in kept.rest(batches(train, batch_size, accelerator, self.workers, order, done)):
                    batch = augment(batch, views) if augment else batch
                    outputs = wrapped(batch)
                    losses = {task.target: task.loss(outputs, batch) for task in tasks}
                    counts = {task.target: labelled_weight(task, batch) for task in tasks}
                    losses = join_losses(losses, counts)
                    monitor.before(batch, outputs, losses)
                    if self.gradient_every and monitor.steps % self.gradient_every == 0:
                        history.gradients.append(compare_gradients(losses, tracked, monitor.steps))
                    products = None
                    if compared:
                        ordered = {name: losses[name] for name in weighting.targets}
                        products = gradient_products(ordered, compared, mean_over_processes)
                    loss = weighting(losses, products)
                    accelerator.backward(loss)
                    _own_gradients(model, weighting)
                    optimizer.step()
                    optimizer.zero_grad()
                    if hasattr(model, "after_step"):
                        model.after_step(JoinedOutputs(outputs), monitor.steps, steps)  # type: ignore[operator]
                    monitor.after(batch, losses, counts, loss, optimizer.param_groups[0]["lr"])
                    schedule.step()
                    kept.after_step()
                share_buffers(model)
                row = {"epoch": epoch, "lr": optimizer.param_groups[0]["lr"], **monitor.means()}
                if val is not None:
                    figures = _measure(model, tasks, val, batch_size, accelerator, self.workers)
                    row |= {f"val/{name}": value for name, value in figures.items()}
                    best.offer(model, figures, epoch)
                history.rows.append(row)
                monitor.note(row)
            monitor.start(epochs + 1)  # so that a complete training is not repeated
            kept.write()
        history.best_epoch = best.restore(model) or epochs
        return history

    def _check(
        self,
        model: nn.Module,
        tasks: Sequence[Task],
        train: Dataset[Any],
        val: Dataset[Any] | None,
        weighting: EqualWeights,
        epochs: int,
        batch_size: int,
    ) -> tuple[int, int]:
        """Check all arguments, see `fit` for the errors; return epochs and batch size as whole numbers."""
        size, targets = len(train), [task.target for task in tasks]  # type: ignore[arg-type]
        epochs, batch_size = whole_number("epochs", epochs, 0), whole_number("batch_size", batch_size, 0)
        if size < 1 or epochs < 1 or batch_size < 1 or not tasks:
            raise ValueError(
                f"nothing to train on: {size} samples, {epochs} epochs, batches of {batch_size}, {len(tasks)} tasks; "
                "expected one or more of each"
            )
        if val is not None and len(val) < 1:  # type: ignore[arg-type]
            raise ValueError("nothing to validate with: `val` has no samples; leave it out to keep the last weights")
        if self.monitor != "loss" and (val is None or self.monitor.partition("/")[0] not in targets):
            raise ValueError(
                f"cannot monitor {self.monitor!r}; choose 'loss', or give `val` and choose '<target>/<metric>' with a "
                f"target of {targets}"
            )
        if set(weighting.targets) != set(targets):
            raise ValueError(
                f"the weighting is for {weighting.targets}, the tasks are {targets}; give one weight for each task"
            )
        for data in (train, val):
            if data is not None:
                check_bands(model, data)
        return epochs, batch_size


fit = Trainer().fit


def evaluate(
    model: nn.Module,
    tasks: Sequence[Task],
    data: Dataset[Any],
    *,
    batch_size: int = 32,
    precision: str = "auto",
    workers: int = 0,
) -> dict[str, float]:
    """Loss and metrics of every task over all of `data`, exact for any division into batches and processes.

    Returns:
        `loss`, and `<target>/<metric>` of each task, such as `climate_zone/accuracy`.

    Raises:
        BandError: dataset and model disagree on bands.
        ValueError: nothing to evaluate.
    """
    if len(data) < 1 or not tasks:  # type: ignore[arg-type]
        raise ValueError(f"nothing to evaluate: the dataset has no samples or there are no tasks ({len(tasks)})")
    check_bands(model, data)
    accelerator = make_accelerator(precision)
    with restored_forward(model):
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
    """Outputs of `model` and labels for every sample of `data`, in its order.

    Several processes divide the samples, and each returns all results. `change` is applied to each decoded batch, for
    example to add clouds or to remove a sensor; `reduce` is applied to each batch of outputs, for example
    `heads.hard_maps`, which keeps classes instead of the logits of every pixel.

    Raises:
        BandError: dataset and model disagree on bands.
        ValueError: nothing to predict.
    """
    size = len(data)  # type: ignore[arg-type]
    if size < 1:
        raise ValueError("nothing to predict: the dataset has no samples")
    check_bands(model, data)
    accelerator = make_accelerator(precision)
    parts: list[dict[tuple[str, str], np.ndarray]] = []  # one per batch, keyed by ("outputs" or "labels", target)
    with restored_forward(model), torch.no_grad():
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
    from accelerate.utils import gather_object

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
    """The monitored validation metric, with its sign changed if necessary, so that lower is better.

    Raises:
        NonFiniteLossError: the validation loss is NaN or infinite.
        ValueError: there is no such metric, it is NaN, or it is unknown whether lower is better.
    """
    if not math.isfinite(figures["loss"]):
        raise NonFiniteLossError(
            f"the validation loss is {figures['loss']} in epoch {epoch}; look for non-finite values in the validation "
            "samples, or lower lr"
        )
    if math.isnan(figures.get(monitor, math.nan)):
        raise ValueError(f"cannot monitor {monitor!r}; choose a finite one of the validation figures {figures}")
    return figures[monitor] if lower_is_better(monitor) else -figures[monitor]


def warm_cosine(step: int, steps: int, warmup: float) -> float:
    """Factor on the learning rate: linear warm-up over the fraction `warmup` of the steps, then cosine decay."""
    rise = max(1, round(steps * warmup))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1, steps - rise))))


def _measure(
    model: nn.Module,
    tasks: Sequence[Task],
    data: Dataset[Any],
    batch_size: int,
    accelerator: "Accelerator",
    workers: int,
) -> dict[str, float]:
    model.eval()
    losses = {task.target: Mean().to(accelerator.device) for task in tasks}
    metrics = {task.target: task.metric().to(accelerator.device) for task in tasks}
    with torch.no_grad():
        for batch in batches(data, batch_size, accelerator, workers):
            outputs = model(batch)
            for task in tasks:
                losses[task.target].update(task.loss(outputs, batch), labelled_weight(task, batch))
                task.update(metrics[task.target], outputs, batch)
    figures = {"loss": sum(loss.compute(empty=0.0) for loss in losses.values())}
    for task in tasks:
        summary = task.summary(metrics[task.target])
        figures |= {f"{task.target}/{name}": value for name, value in summary.items()}
    return figures


def _optimizer(model: nn.Module, weighting: EqualWeights, lr: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW for the model, and for the parameters of the weighting with their own learning rate and no decay."""
    groups: list[dict[str, Any]] = [{"params": list(model.parameters())}]
    if own := list(weighting.parameters()):
        groups.append({"params": own, "lr": lr * getattr(weighting, "rate", 1.0), "weight_decay": 0.0})
    return torch.optim.AdamW(groups, lr=lr, weight_decay=weight_decay, fused=True)  # a fifth of the time on a CPU


class _Best:
    """The weights of the best epoch so far."""

    def __init__(self, monitor: str) -> None:
        self.monitor, self.epoch, self._score = monitor, 0, math.inf
        self._weights: dict[str, Tensor] = {}

    def offer(self, model: nn.Module, figures: Mapping[str, float], epoch: int) -> None:
        """Keep a copy of the weights if the monitored metric has improved; see `_score` for the errors."""
        score = _score(figures, self.monitor, epoch)
        if score < self._score:
            self._score, self.epoch = score, epoch
            self._weights = {name: value.clone() for name, value in model.state_dict().items()}

    def state_dict(self) -> dict[str, Any]:
        """The state, for checkpoints."""
        return {"epoch": self.epoch, "_score": self._score, "_weights": self._weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        vars(self).update(state)

    def restore(self, model: nn.Module) -> int:
        """Load the best weights, if any, into the model; return their epoch, or 0."""
        if self._weights:
            model.load_state_dict(self._weights)
        return self.epoch


def _own_gradients(model: nn.Module, weighting: EqualWeights) -> None:
    """Undo the weighting in the gradients of the heads, where weights apply to the encoder only."""
    if weighting.shared_only:
        for target, weight in zip(weighting.targets, weighting.values, strict=True):
            for parameter in model.heads[target].parameters():  # type: ignore[index, union-attr]
                if parameter.grad is not None:
                    parameter.grad /= weight

"""Monitoring of training: losses, weights, gradients and collapse, without waiting for the device.

A GPU computes asynchronously until Python reads a number. Everything is therefore accumulated on the device and read
every few steps only. On a CPU, a loss that is not finite ends the training before its optimiser step; on a GPU up to
`every` steps later, with the batch in which it first occurred.
"""

import json
import math
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from bengelib.devices import on_host
from bengelib.errors import BandError, DataWarning, NonFiniteLossError
from bengelib.files import absolute, writing
from bengelib.processes import count_processes, everyone, mean_over_processes
from bengelib.running import Mean
from bengelib.tasks import Task
from bengelib.transforms import Batch
from bengelib.weighting import EqualWeights, cosines, gradient_products


@dataclass
class History:
    """The measurements of `fit`.

    Attributes:
        rows: one per epoch: `epoch`, `lr`, `train/loss`, `train/<target>/loss` (and the tasks' watched scalars),
            `weight/<target>` (the mean weight of each loss), `val/loss`, `val/<target>/<metric>`.
        gradients: one row per comparison of gradients: `step`, and the cosine of each pair, `<a> ~ <b>`.
        best_epoch: the epoch whose weights were kept.
    """

    rows: list[dict[str, float]] = field(default_factory=list)
    gradients: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0

    def frame(self) -> pd.DataFrame:
        """The rows as a table indexed by epoch, from 1."""
        return pd.DataFrame(self.rows).set_index("epoch")

    def state_dict(self) -> dict[str, Any]:
        """The history as plain numbers, for checkpoints."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self), default=float))
        return plain

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the history of a checkpoint."""
        vars(self).update(state)


class _Step(NamedTuple):
    """A step that has not been checked yet: losses (K,), and the data that explain losses that are not finite."""

    losses: Tensor
    batch: Mapping[str, Any]


class Log:
    """Figures of a training by step, in `log.jsonl` and, if installed, for TensorBoard (through Accelerate)."""

    def __init__(self, folder: str | Path, step: int) -> None:
        """Continue the log of `folder` from `step`; existing lines of this and later steps are dropped.

        Raises:
            DiskError: the folder cannot be written to.
        """
        from accelerate.tracking import TensorBoardTracker
        from accelerate.utils import is_tensorboard_available

        self.path, self._board = absolute(folder) / "log.jsonl", None
        with writing(self.path.parent, "start again"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lines = self.path.read_text(encoding="utf-8").splitlines() if step and self.path.is_file() else []
            self.path.write_text("".join(f"{line}\n" for line in lines if _step_of(line) < step), encoding="utf-8")
        if is_tensorboard_available():
            self._board = TensorBoardTracker("tensorboard", self.path.parent, purge_step=step)
            self._board.start()

    def __call__(self, step: int, values: Mapping[str, float]) -> None:
        """Write a line; an error of the disk does not stop the training."""
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        try:
            with self.path.open("a") as file:
                file.write(json.dumps({"step": step, **finite}, default=float) + "\n")
        except OSError as error:
            warnings.warn(f"{self.path} lacks step {step} ({error})", DataWarning, stacklevel=4)
        if self._board is not None:
            self._board.log(dict(values), step)


def _step_of(line: str) -> float:
    """The step of a line of a log; infinity for an incomplete line."""
    try:
        return float(json.loads(line)["step"])
    except ValueError:
        return math.inf


class Monitor:
    """Checks each step of a training, shows a progress bar, writes a log and keeps the means of an epoch.

    Attributes:
        steps: number of completed steps.
        epoch: current epoch, from 1; 0 before the first.
        every: steps between two transfers from the device.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        weighting: EqualWeights,
        device: torch.device,
        bar: "tqdm[Any]",
        every: int,
        lr: float,
        log: str | Path | None = None,
    ) -> None:
        """Monitor a training of highest learning rate `lr`; `bar` counts samples, `log` is a folder."""
        self.tasks, self.weighting, self.device, self.bar, self.every = tasks, weighting, device, bar, every
        self.lr, self.log, self.steps, self.epoch = lr, log, 0, 0
        self._first = 0  # first step of the epoch
        self._pending: list[_Step] = []
        self._watched: dict[str, Tensor] = {}
        self._means: dict[str, Mean] = {}
        self._write: Log | None = None
        self._samples, self._looked = 0, (0, 0.0)  # number of samples in all processes; an earlier number, and its time

    def start(self, epoch: int) -> int:
        """Begin an epoch with empty means, unless a checkpoint is in it; return the number of its completed steps."""
        if epoch != self.epoch:
            self.epoch, self._first, self._means = epoch, self.steps, {}
        self._looked = self._samples, time.perf_counter()
        return self.steps - self._first

    def state_dict(self) -> dict[str, Any]:
        """Progress of the training and means of the epoch so far, of this process; see `before` for the errors."""
        self._check()
        means = {name: mean.sums for name, mean in self._means.items()}
        return {
            "steps": self.steps,
            "epoch": self.epoch,
            "first": self._first,
            "samples": self._samples,
            "means": means,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self.steps, self.epoch, self._first = state["steps"], state["epoch"], state["first"]
        self._samples = self.bar.n = self.bar.initial = self.bar.last_print_n = state["samples"]
        for name, sums in state["means"].items():
            self._means[name] = Mean().to(self.device)
            self._means[name].sums.copy_(sums)

    def before(self, batch: Batch, outputs: Mapping[str, Tensor], losses: Mapping[str, Tensor]) -> None:
        """Check the losses of a step before the optimiser step.

        Raises:
            NonFiniteLossError: a loss is not finite, in this step or in an earlier one that was not checked yet.
            BandError: the cause is a label outside its classes.
        """
        values = torch.stack([losses[task.target].detach() for task in self.tasks])
        host = on_host(values)
        context = batch if host else {key: batch[key] for key in ("patch_id", *losses) if key in batch}
        self._pending.append(_Step(values, context))
        if host or self._due:
            self._check()
        self._watched = _watched(self.tasks, outputs) if self._due else {}

    def after(
        self,
        batch: Batch,
        losses: Mapping[str, Tensor],
        counts: Mapping[str, float | Tensor],
        loss: Tensor,
        lr: float,
    ) -> None:
        """Add a completed step to the means, each loss weighted by `counts`, and show and log it."""
        samples = _count(batch)
        self._samples += samples * count_processes()
        self._add({"loss": loss, **self._watched}, samples)
        for task in self.tasks:
            self._add({f"{task.target}/loss": losses[task.target]}, counts[task.target])
        weights = dict(zip(self.weighting.targets, self.weighting.values, strict=True))
        self._add({f"weight/{name}": weight for name, weight in weights.items()}, 1)
        if self._due:
            seen = {"loss": float(loss.detach()), **{name: float(value) for name, value in self._watched.items()}}
            shown = {name: f"{value:.3g}" for name, value in seen.items()}
            self.bar.set_postfix(epoch=self.epoch, lr=f"{lr:.2g}", refresh=False, **shown)
            (before, then), self._looked = self._looked, (self._samples, time.perf_counter())
            speed = (self._samples - before) / (self._looked[1] - then)
            self.note({"epoch": self.epoch, "lr": lr, **seen, "samples_per_second": round(speed, 1)})
        self.steps += 1
        self.bar.update(samples * count_processes())

    def note(self, values: Mapping[str, float]) -> None:
        """Write figures of this step to the log, if there is one."""
        if self.log is not None:
            self._write = self._write or Log(self.log, self.steps)
            self._write(self.steps, values)

    def means(self) -> dict[str, float]:
        """Means of the epoch by name, `train/...` and `weight/...`; 0 if no sample was labelled, as for the loss."""
        self._check()
        found = {name: mean.compute(empty=0.0) for name, mean in self._means.items()}
        return {name if name.startswith("weight/") else f"train/{name}": value for name, value in found.items()}

    @property
    def _due(self) -> bool:
        return (self.steps - self._first) % self.every == 0  # so at least once an epoch

    def _add(self, values: Mapping[str, Tensor], weight: float | Tensor) -> None:
        for name, value in values.items():
            if name not in self._means:
                self._means[name] = Mean().to(self.device)
            self._means[name].update(value, weight)

    def _check(self) -> None:
        """Check the losses of all steps not checked yet; see `before` for the errors."""
        pending, self._pending = self._pending, []
        if not pending:
            return
        finite = torch.isfinite(torch.stack([step.losses for step in pending])).all(dim=1).tolist()
        if not all(finite):
            errors = everyone(self._error(pending[finite.index(False)]))
            raise next((error for certain, error in errors if certain), errors[0][1])
        self.weighting.check()

    def _error(self, step: _Step) -> tuple[bool, Exception]:
        """The error that explains the non-finite losses of a step, and whether the batch itself is the cause."""
        try:
            for task in self.tasks:
                if hasattr(task, "check") and task.target in step.batch:
                    task.check(step.batch)
        except BandError as error:
            return True, error
        return _non_finite([task.target for task in self.tasks], step, self.epoch, self.lr)


def compare_gradients(losses: Mapping[str, Tensor], parameters: Sequence[nn.Parameter], step: int) -> dict[str, float]:
    """A row of `History.gradients`: the gradient cosine of each pair of losses on shared parameters."""
    return {"step": step, **cosines(gradient_products(losses, parameters, mean_over_processes), list(losses))}


def labelled_weight(task: Task, batch: Batch) -> float | Tensor:
    """The number of labels, or of samples, of a batch over which a task's loss is the mean."""
    labelled: float | Tensor = task.labelled(batch) if hasattr(task, "labelled") else _count(batch)
    return labelled


def _watched(tasks: Sequence[Task], outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tasks' watched scalars, `<target>/<name>`."""
    found: dict[str, Tensor] = {}
    for task in tasks:
        if hasattr(task, "watch"):
            with torch.no_grad():
                found |= {f"{task.target}/{name}": value for name, value in task.watch(outputs).items()}
    return found


def _count(batch: Batch) -> int:
    """Number of samples in a batch."""
    return next(len(value) for value in batch.values() if isinstance(value, Tensor))


def _non_finite(targets: Sequence[str], step: _Step, epoch: int, lr: float) -> tuple[bool, NonFiniteLossError]:
    """The error, and whether the batch itself is the cause."""
    inputs = {key: value for key, value in step.batch.items() if key not in targets and isinstance(value, Tensor)}
    bad = [key for key, value in inputs.items() if not torch.isfinite(value.float()).all()]
    if bad:
        cause = f"the batch itself has non-finite {bad}"
    elif inputs:
        cause = f"the inputs are finite, so try lr below {lr:g}"
    else:
        cause = f"look for non-finite values in the images of the batch, or try lr below {lr:g}"
    parts = ", ".join(f"{name} {loss:.3g}" for name, loss in zip(targets, step.losses.tolist(), strict=True))
    return bool(bad), NonFiniteLossError(
        f"the loss is not finite in epoch {epoch} ({parts}); {cause}. "
        f"First patches of the batch: {list(step.batch.get('patch_id', ()))[:3]}"
    )

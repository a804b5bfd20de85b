"""What is watched while a model trains, losses, weights, gradients and collapse, without waiting for the device.

A GPU computes while Python goes on, until Python asks for a number. So everything is added up on the device, and
numbers are asked for every so many steps only. On a CPU there is nothing to wait for, and a loss that is not finite
ends the training before its step is made; on a GPU up to `every` steps later, naming the batch in which it began.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from bengelib.devices import on_host
from bengelib.errors import BandError, NonFiniteLossError
from bengelib.processes import everyone, mean_over_processes
from bengelib.running import Mean
from bengelib.tasks import Task
from bengelib.transforms import Batch
from bengelib.weighting import EqualWeights, cosines, gradient_products


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


class _Step(NamedTuple):
    """A step that was not looked at yet: losses (K,) and what tells the cause if they are not finite."""

    losses: Tensor
    batch: Mapping[str, Any]


class Monitor:
    """Looks at each step of a training, shows a progress bar and keeps the means of an epoch."""

    def __init__(
        self,
        tasks: Sequence[Task],
        weighting: EqualWeights,
        device: torch.device,
        bar: "tqdm[Any]",
        every: int,
        lr: float,
    ) -> None:
        """Watch a training on `device` with a learning rate of `lr`; a number is read every `every` steps."""
        self.tasks, self.weighting, self.device, self.bar, self.every = tasks, weighting, device, bar, every
        self.lr, self.steps = lr, 0
        self._epoch, self._first = 0, 0  # and the first step of the epoch
        self._pending: list[_Step] = []
        self._watched: dict[str, Tensor] = {}
        self._means: dict[str, Mean] = {}

    def start(self, epoch: int) -> None:
        """Begin an epoch with empty means."""
        self._epoch, self._first, self._means = epoch, self.steps, {}

    def before(self, batch: Batch, outputs: Mapping[str, Tensor], losses: Mapping[str, Tensor]) -> None:
        """Look at the losses of a step before it is made.

        Raises:
            NonFiniteLossError: a loss is not finite, or was not in one of the steps that were not looked at yet.
            BandError: because of a label outside its classes.
        """
        values = torch.stack([losses[task.target].detach() for task in self.tasks])
        host = on_host(values)
        told = batch if host else {key: batch[key] for key in ("patch_id", *losses) if key in batch}
        self._pending.append(_Step(values, told))
        if host or self._due:
            self._check()
        self._watched = _watched(self.tasks, outputs) if self._due else {}

    def after(
        self, batch: Batch, losses: Mapping[str, Tensor], counts: Mapping[str, float | Tensor], loss: Tensor
    ) -> None:
        """Add a step that was made to the means, each loss as often as its count says, and show it."""
        self._add({"loss": loss, **self._watched}, _count(batch))
        for task in self.tasks:
            self._add({f"{task.target}/loss": losses[task.target]}, counts[task.target])
        weights = dict(zip(self.weighting.targets, self.weighting.values, strict=True))
        self._add({f"weight/{name}": weight for name, weight in weights.items()}, 1)
        if self._due:
            shown = {name: f"{float(value):.2f}" for name, value in self._watched.items()}
            self.bar.set_postfix(epoch=self._epoch, loss=f"{float(loss.detach()):.3f}", refresh=False, **shown)
        self.steps += 1
        self.bar.update()

    def means(self) -> dict[str, float]:
        """Means of the epoch by name, `train/...` and `weight/...`; 0 where no sample was labelled, as the loss is."""
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
        """Look at the losses of all steps that were not looked at yet; see `before` for the errors."""
        pending, self._pending = self._pending, []
        if not pending:
            return
        finite = torch.isfinite(torch.stack([step.losses for step in pending])).all(dim=1).tolist()
        if not all(finite):
            errors = everyone(self._error(pending[finite.index(False)]))
            raise next((error for certain, error in errors if certain), errors[0][1])
        self.weighting.check()

    def _error(self, step: _Step) -> tuple[bool, Exception]:
        """The error that tells why the losses of a step are not finite, and whether the cause is in this very batch."""
        try:
            for task in self.tasks:
                if hasattr(task, "check") and task.target in step.batch:
                    task.check(step.batch)
        except BandError as error:
            return True, error
        return _non_finite([task.target for task in self.tasks], step, self._epoch, self.lr)


def compare_gradients(losses: Mapping[str, Tensor], parameters: Sequence[nn.Parameter], step: int) -> dict[str, float]:
    """A row of `History.gradients`: the cosine of the gradients of each pair of losses on shared parameters."""
    return {"step": step, **cosines(gradient_products(losses, parameters, mean_over_processes), list(losses))}


def labelled_weight(task: Task, batch: Batch) -> float | Tensor:
    """How much of a batch the loss of a task is the mean over."""
    labelled: float | Tensor = task.labelled(batch) if hasattr(task, "labelled") else _count(batch)
    return labelled


def _watched(tasks: Sequence[Task], outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What tasks want to be seen, `<target>/<name>`."""
    found: dict[str, Tensor] = {}
    for task in tasks:
        if hasattr(task, "watch"):
            with torch.no_grad():
                found |= {f"{task.target}/{name}": value for name, value in task.watch(outputs).items()}
    return found


def _count(batch: Batch) -> int:
    """Samples in a batch."""
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

"""Steps of `fit` whose losses and gradients must not depend on how many processes share a batch out."""

from functools import partial
from os import environ
from pathlib import Path
from unittest.mock import patch

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.data import Subset

from bengelib import mae, tasks
from bengelib.devices import make_accelerator
from bengelib.engine import Trainer, seed_everything
from bengelib.heads import ClassificationHead, Network, RegressionHead
from bengelib.methods import METHODS, TABLE, multi_pretext
from bengelib.methods.seco import SeCoViews
from bengelib.ssl import Contrast, SiameseNetwork
from bengelib.tasks import Classification, MultiLabel, Regression
from bengelib.views import Views
from bengelib.weighting import DynamicWeightAverage, EqualWeights, GradNorm, PCGrad, UncertaintyWeights
from tests.small_pretexts import Scenes, small_pretext

SAMPLES, STEPS = 12, 3
TASKS = (Classification("kind", "abc"), MultiLabel("tags", "xy"), Regression("size", 2.0))
TARGETS = [task.target for task in TASKS]
WEIGHTINGS = {
    "equal": EqualWeights,
    "uncertainty": UncertaintyWeights,
    "average": partial(DynamicWeightAverage, window=1),
    "pcgrad": PCGrad,
    "gradnorm": GradNorm,
}
PARTS = "simclr in parts"
"""Without BatchNorm; in several processes two samples at a time."""
CASES = (*METHODS, *WEIGHTINGS, PARTS)


class Pixels(nn.Module):
    feature_dim = 6

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(2, 6, 3, stride=2), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 3))

    def forward(self, batch):
        return self.layers(batch["s1"].double() / 10 + 1).mean(dim=(2, 3))


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(2, 6, 3, stride=2), nn.ReLU(), nn.Conv2d(6, 6, 3))

    def forward(self, batch):
        view_1, view_2 = (
            self.layers(view["s1"].double()).mean(dim=(2, 3)) for view in (batch["view_1"], batch["view_2"])
        )
        return {"view_1": view_1, "view_2": view_2, "features": view_1}


def changed(batch, generator):
    """A view that differs from time to time, but not from process to process."""
    changed.calls += 1
    flip = -1 - changed.calls % 2
    return {key: value.double().flip(flip) if key in ("s1", "s2") else value for key, value in batch.items()}


def both(batch, generator):
    return {**batch, "view_1": batch, "view_2": changed(batch, generator)}


def half_masked(count, number, ratio, generator=None):
    """The same mask for every sample, of whichever process."""
    shuffled = torch.arange(number).roll(number // 3).expand(count, -1)
    return shuffled[:, : number // 2], shuffled.argsort(dim=1)


def run(case, processes):
    """Loss, gradients of all parameters and last weights of three steps on batches that `processes` processes share."""
    gradients = []

    def note(optimizer, *_):
        own = [parameter.grad for group in optimizer.param_groups for parameter in group["params"]]
        gradients.append([None if each is None else each.clone() for each in own])

    changed.calls = 0
    batch_size, seen = SAMPLES // processes, register_optimizer_step_pre_hook(note)
    trainer = partial(Trainer, sync_batchnorm=True)
    data = Scenes(SAMPLES * STEPS)
    torch.set_default_dtype(torch.float64)
    try:
        seed_everything(0)
        if case in METHODS:
            queue = {"queue": SAMPLES} if "queue" in TABLE[case].settings else {}
            views = Views() if case == "seco" else changed
            made = small_pretext(case, data, views, batch_size=batch_size, **queue)
            model, augment = made.model, SeCoViews(changed, changed) if case == "seco" else made.augment
            with patch.object(mae, "random_mask", half_masked), patch.object(multi_pretext, "random_mask", half_masked):
                history = trainer(precision="no", progress=False).fit(
                    model, made.tasks, made.data, epochs=1, batch_size=batch_size, augment=augment,
                    weighting=made.weighting,
                )  # fmt: skip
        elif case == PARTS:
            model, parts = Plain(), 2 if processes > 1 else None
            history = trainer(precision="no", progress=False, micro_batch=parts).fit(
                model, [Contrast()], data, epochs=1, batch_size=batch_size, augment=both
            )
        else:
            heads = {"kind": ClassificationHead(6, "abc"), "tags": ClassificationHead(6, "xy")}
            model = Network(Pixels(), {**heads, "size": RegressionHead(6, 0.0, 1.0)})
            history = trainer(precision="no", progress=False, gradient_every=1).fit(
                model,
                TASKS,
                Scenes(SAMPLES * STEPS),
                epochs=1,
                batch_size=batch_size,
                weighting=WEIGHTINGS[case](TARGETS),
            )
    finally:
        torch.set_default_dtype(torch.float32)
        seen.remove()
    weights = model.state_dict()
    for name in weights:
        if name.endswith(".keys"):  # of a queue, whose order does not matter
            weights[name] = weights[name][weights[name][:, 0].argsort()]
    row = {name: value for name, value in history.rows[0].items() if name.rpartition("/")[2] not in ("spread", "rank")}
    return {"row": row, "gradients": gradients, "weights": weights, "cosines": history.gradients}


class Spoilt(Scenes):
    """Something is wrong with one sample, which one process is given."""

    def __init__(self, what):
        super().__init__(SAMPLES * STEPS)
        self.what = what

    def __getitem__(self, index):
        whole = super().__getitem__(index)
        sample = {"s1": whole["s1"], "kind": whole["kind"], "patch_id": f"scene {index}"}
        if index == 3 and self.what == "image":
            sample["s1"] = torch.full_like(sample["s1"], torch.nan)
        if index == 3 and self.what == "label":
            sample["kind"] = torch.tensor(7)
        return sample


class Spoils(SiameseNetwork):
    def forward(self, batch):
        outputs = super().forward(batch)
        if environ["RANK"] == "1":
            outputs["view_2"] = outputs["view_2"].clone()
            outputs["view_2"][2] = torch.inf
        return outputs


def error_of(call):
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "none"


def errors():
    """What a training says where something is wrong in one process only."""
    trainer = Trainer(precision="no", progress=False, monitor_every=1)
    found = []
    for what in ("image", "label"):
        model = Network(Pixels(), {"kind": ClassificationHead(6, "abc")}).double()
        fit = partial(trainer.fit, model, TASKS[:1], Spoilt(what), batch_size=4)
        with patch.object(tasks, "on_host", lambda values: False):  # as on a GPU, where looking waits
            found.append(error_of(fit))
    model = Spoils(Pixels(), 4).double()
    return [*found, error_of(partial(trainer.fit, model, [Contrast()], Scenes(), batch_size=4, augment=both))]


def run_all(folder, processes):
    """Write what this process finds in all cases."""
    make_accelerator("no")  # joins the processes, as the command does before it builds a network
    found = {case: run(case, processes) for case in CASES}
    one = Subset(Scenes(), [0])
    few = partial(Trainer(precision="no").fit, Network(Pixels(), {}), [Contrast()], one)
    found |= {"errors": errors(), "few": error_of(few)}
    torch.save(found, Path(folder) / f"{environ['RANK']}.pt")

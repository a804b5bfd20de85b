"""Small trainings that are cut off and started again; in a module of their own, for the processes that are killed."""

import os
import signal
from functools import partial

import numpy as np
import torch
from torch import nn

from bengelib.engine import Trainer, seed_everything
from bengelib.heads import ClassificationHead, Network, RegressionHead
from bengelib.methods import METHODS
from bengelib.tasks import Classification, Regression
from bengelib.weighting import DynamicWeightAverage, EqualWeights, GradNorm, PCGrad, UncertaintyWeights
from tests.small_pretexts import Scenes, small_pretext

TASKS = (Classification("kind", "abc"), Regression("size", 2.0))
TARGETS = [task.target for task in TASKS]
WEIGHTINGS = {
    "equal": EqualWeights,
    "uncertainty": UncertaintyWeights,
    "average": partial(DynamicWeightAverage, window=2),
    "pcgrad": PCGrad,
    "gradnorm": GradNorm,
}


class Encoder(nn.Module):
    """With BatchNorm, which has buffers, and dropout, which draws random numbers."""

    feature_dim = 6

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(2, 6, 3, stride=2), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.2))

    def forward(self, batch):
        return self.layers(batch["s1"] / 10 + 1).mean(dim=(2, 3))


class Changes:
    """Noise, and whatever shall happen in a step; three kinds of random numbers are drawn."""

    def __init__(self, happens=lambda step: None):
        self._happens, self._steps = happens, 0

    def __call__(self, batch, generator):
        self._happens(self._steps)
        self._steps += 1
        scale = 1 + 0.1 * np.random.rand()
        noise = torch.randn(batch["s1"].shape, generator=generator)
        return {**batch, "s1": batch["s1"] * scale + noise}


def train_tasks(folder=None, weighting="gradnorm", augment=None, **options):
    """A history and weights of a training of 3 epochs with 6 steps each; `options` are for `Trainer` or `fit`."""
    seed_everything(0)
    heads = {"kind": ClassificationHead(6, "abc"), "size": RegressionHead(6, 0.0, 1.0)}
    model = options.pop("model", None) or Network(Encoder(), heads)
    settings = {"precision": "no", "progress": False, "gradient_every": 4, "monitor_every": 2}
    settings |= {name: options.pop(name) for name in list(options) if hasattr(Trainer, name)}
    arguments = {"val": Scenes(9, seed=1), "epochs": 3, "batch_size": 4, "lr": 1e-2, "checkpoint_every": 0}
    weights = WEIGHTINGS[weighting](TARGETS)
    augment = augment or Changes()
    arguments |= {"train": Scenes(), "weighting": weights, "augment": augment, "checkpoint": folder, **options}
    history = Trainer(**settings).fit(model, TASKS, **arguments)
    return {
        "weights": model.state_dict(),
        "rows": history.rows,
        "gradients": history.gradients,
        "best": history.best_epoch,
    }


def pretrain(folder, method):
    """The same of a method of self-supervised learning, 3 epochs with 4 steps each."""
    made = small_pretext(method, Scenes(), epochs=3, batch_size=6)
    history = Trainer(precision="no", progress=False).fit(
        made.model, made.tasks, made.data, epochs=3, batch_size=6, augment=made.augment, weighting=made.weighting,
        checkpoint=folder, checkpoint_every=0,
    )  # fmt: skip
    return {"weights": made.model.state_dict(), "rows": history.rows}


def child(folder, case, result):
    """What a process does that may be killed at any moment."""
    done = pretrain(folder, case) if case in METHODS else train_tasks(folder, case)
    torch.save(done, f"{result}.part")
    os.replace(f"{result}.part", result)


def same(one, other):
    """Whether two results are the same, bit for bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return repr(one) == repr(other)


def die(at, step):
    if step == at and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)


def one_of_two(folder, last=None):
    """What one of two processes does, the second of which dies in step `last`; else both write what they have found."""
    found = train_tasks(folder, augment=Changes(partial(die, last)), batch_size=2)
    torch.save([found, train_tasks(batch_size=2)], f"{folder}/{os.environ['RANK']}.pt")

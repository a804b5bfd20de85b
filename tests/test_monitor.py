import json
import math
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from tqdm import tqdm

from bengelib import engine, monitor, tasks, weighting
from bengelib.engine import Trainer
from bengelib.errors import BandError, DataWarning, DiskError, NonFiniteLossError
from bengelib.heads import ClassificationHead, Network, RegressionHead
from bengelib.ssl import Contrast
from bengelib.tasks import Classification, MultiLabel, Regression
from bengelib.weighting import DynamicWeightAverage, EqualWeights, GradNorm, PCGrad, UncertaintyWeights
from tests.training import fit_with

READS = {"aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero", "aten::masked_select", "aten::equal"}
TASKS = [Classification("kind", "abc"), MultiLabel("tags", "xy"), Regression("size", 2.0)]
TARGETS = [task.target for task in TASKS]
WEIGHTINGS = {
    "equal": EqualWeights,
    "uncertainty": UncertaintyWeights,
    "average": lambda targets: DynamicWeightAverage(targets, window=3),
    "pcgrad": PCGrad,
    "gradnorm": GradNorm,
}


class CountReads(TorchDispatchMode):
    """Counts the operations by which Python asks a device for numbers, and so waits for it."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function.name().split(".")[0] in READS
        return function(*args, **(kwargs or {}))


class Points(torch.utils.data.Dataset):
    """Points in a plane with three labels each."""

    def __init__(self, count=80):
        self.values = torch.randn(count, 4, generator=torch.Generator().manual_seed(0))
        self.kind = torch.arange(count) % 3

    def __len__(self):
        return len(self.values)

    def __getitem__(self, index):
        tags = (self.values[index, :2] > 0).float()
        name = f"point {index}"
        labels = {"kind": self.kind[index], "tags": tags, "size": self.values[index, 0]}
        return {"x": self.values[index], "patch_id": name, **labels}


class Encoder(nn.Module):
    feature_dim = 8

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 8)

    def forward(self, batch):
        return torch.relu(self.layer(batch["x"]))


class Views(nn.Module):
    """Two noisy views of a point, as the output that `Contrast` reads."""

    def __init__(self):
        super().__init__()
        self.encoder = Encoder()

    def forward(self, batch):
        features = self.encoder(batch)
        return {"view_1": features, "view_2": features * 1.01, "features": features}


def make_model():
    torch.manual_seed(0)
    classes = {"kind": ClassificationHead(8, "abc"), "tags": ClassificationHead(8, "xy")}
    return Network(Encoder(), {**classes, "size": RegressionHead(8, 0.0, 1.0)})


@pytest.fixture
def elsewhere(monkeypatch):
    """A CPU that passes for another device: nothing may be looked at for free."""
    for module in (monitor, tasks):
        monkeypatch.setattr(module, "on_host", lambda values: False)
    monkeypatch.setattr(weighting, "_on_host", lambda values: False)


def reads_between_steps(model, learned, weighted=None, steps=20, **settings):
    """How many numbers are asked for between one step and the next, from the second step on."""
    seen = []
    settings |= {"epochs": 1, "batch_size": 4, "precision": "no", "progress": False, "weighting": weighted}
    with CountReads() as reads:
        fit_with(
            model,
            learned,
            Points(4 * steps),
            augment=lambda batch, _: seen.append(reads.count) or batch,
            **settings,
        )
    return [later - earlier for earlier, later in pairwise(seen)]


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_training_asks_for_numbers_every_so_many_steps_only(name, elsewhere):
    found = reads_between_steps(make_model(), TASKS, WEIGHTINGS[name](TARGETS), monitor_every=5)
    looked = [step for step, count in enumerate(found) if count]
    assert looked == [0, 5, 10, 15]


def test_watching_a_collapse_asks_no_more_often(elsewhere, monkeypatch):
    monkeypatch.setattr("bengelib.losses.check_pair", lambda z1, z2: None)  # it looks where that is free
    found = reads_between_steps(Views(), [Contrast("simclr")], monitor_every=5)
    assert [step for step, count in enumerate(found) if count] == [0, 5, 10, 15]


def test_the_counter_counts():
    class Curious(Classification):
        def loss(self, outputs, batch):
            self.last = float(outputs["kind"].detach().sum())
            return super().loss(outputs, batch)

    found = reads_between_steps(make_model(), [Curious("kind", "abc")], steps=4)
    assert all(found)


def test_a_loss_that_is_not_finite_is_named_with_its_own_batch_later_on_a_device(elsewhere):
    class Explodes(Classification):
        count = 0

        def loss(self, outputs, batch):
            Explodes.count += 1
            seen.append(batch["patch_id"][0])
            return super().loss(outputs, batch) * (float("inf") if Explodes.count == 3 else 1.0)

    seen = []
    with pytest.raises(NonFiniteLossError, match="kind inf") as error:
        fit_with(make_model(), [Explodes("kind", "abc")], Points(), batch_size=4, precision="no", progress=False,
                 monitor_every=5)  # fmt: skip
    assert f"'{seen[2]}'" in str(error.value) and "non-finite values" in str(error.value)
    assert Explodes.count == 6  # the next look after the third step


def test_a_label_outside_its_classes_is_named_on_a_device_too(elsewhere):
    data = Points()
    data.kind[7] = 5
    with pytest.raises(BandError, match="label 5 of 'kind' is outside its 3 classes"):
        fit_with(make_model(), TASKS, data, batch_size=4, epochs=1, precision="no", progress=False, monitor_every=5)


def test_what_tasks_watch_is_in_every_epoch_however_short():
    history = Trainer(precision="no", progress=False, monitor_every=100).fit(
        Views(), [Contrast("simclr")], Points(12), epochs=3, batch_size=4
    )
    assert not history.frame()[["train/contrast/spread", "train/contrast/rank"]].isna().any(axis=None)


# ------------------------------------------------------------------------------------------------------------------ log


def logged(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def contrast(folder, **options):
    options = {"epochs": 2, "batch_size": 4, "val": Points(8), **options}
    settings = {name: options.pop(name) for name in list(options) if hasattr(Trainer, name)}
    trainer = Trainer(precision="no", progress=False, monitor_every=2, log=folder, **settings)
    return trainer.fit(Views(), [Contrast("simclr")], Points(20), **options)


def test_a_log_has_a_line_each_time_that_numbers_are_read_and_one_an_epoch(tmp_path):
    history = contrast(tmp_path / "new")
    lines = logged(tmp_path / "new")
    assert [line["step"] for line in lines] == [0, 2, 4, 5, 5, 7, 9, 10]
    assert [line["epoch"] for line in lines] == [1, 1, 1, 1, 2, 2, 2, 2]
    epochs = [line for line in lines if "train/loss" in line]
    assert [{name: value for name, value in line.items() if name != "step"} for line in epochs] == history.rows
    looks = [line for line in lines if "train/loss" not in line]
    assert all({"lr", "loss", "contrast/spread", "contrast/rank", "samples_per_second"} < set(line) for line in looks)
    assert looks[0]["lr"] == 1e-3 > looks[-1]["lr"] > 0  # those at which the steps were made
    assert all(line["samples_per_second"] > 0 for line in looks)


def test_a_log_of_a_training_that_goes_on_has_each_step_once(tmp_path):
    def happens(batch, generator):
        steps.append(1)
        if len(steps) == 8:
            raise KeyError
        return batch

    steps = []
    with pytest.raises(KeyError):
        contrast(tmp_path, augment=happens, checkpoint=tmp_path / "c", checkpoint_every=0)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 8}\n{"st')  # of steps after the last checkpoint
    history = contrast(tmp_path, augment=happens, checkpoint=tmp_path / "c", checkpoint_every=0)
    assert [line["step"] for line in logged(tmp_path)] == [0, 2, 4, 5, 5, 7, 9, 10]
    contrast(tmp_path, augment=happens, checkpoint=tmp_path / "c", checkpoint_every=0)  # complete: nothing to write
    assert len(logged(tmp_path)) == 8 and len(history.rows) == 2
    contrast(tmp_path, epochs=1)
    assert [line["step"] for line in logged(tmp_path)] == [0, 2, 4, 5]


def test_numbers_that_are_none_are_null(tmp_path):
    log = monitor.Log(tmp_path, 0)
    log(3, {"f1": math.nan, "loss": np.float32(0.5)})
    assert logged(tmp_path) == [{"step": 3, "f1": None, "loss": 0.5}]


def test_a_disk_that_takes_no_log_does_not_stop_the_training(tmp_path):
    log = monitor.Log(tmp_path / "log", 0)
    log.path = tmp_path / "log" / "gone" / "log.jsonl"
    with pytest.warns(DataWarning, match="lacks step 1"):
        log(1, {"loss": 1.0})
    (tmp_path / "file").touch()
    with pytest.raises(DiskError, match="file"):
        monitor.Log(tmp_path / "file", 0)


def test_tensorboard_is_written_where_it_is_installed(tmp_path, monkeypatch):
    class Board:
        def __init__(self, name, folder, purge_step):
            self.where, self.values = (folder, purge_step), []
            boards.append(self)

        def start(self):
            self.values.append("started")

        def log(self, values, step):
            self.values.append((step, values["loss"]))

    boards = []
    monkeypatch.setattr("accelerate.utils.is_tensorboard_available", lambda: True)
    monkeypatch.setattr("accelerate.tracking.TensorBoardTracker", Board)
    monitor.Log(tmp_path, 7)(8, {"loss": 0.5})
    assert boards[0].where == (tmp_path, 7) and boards[0].values == ["started", (8, 0.5)]


def test_the_bar_counts_samples_also_of_a_training_that_goes_on(tmp_path, capsys, monkeypatch):
    def happens(batch, generator):
        steps.append(1)
        if len(steps) == 8:
            raise KeyError
        return batch

    monkeypatch.setattr(engine, "tqdm", partial(tqdm, mininterval=0))
    steps, trainer = [], Trainer(precision="no")
    options = {"epochs": 2, "batch_size": 4, "augment": happens, "checkpoint": tmp_path, "checkpoint_every": 0}
    with pytest.raises(KeyError):
        trainer.fit(Views(), [Contrast("simclr")], Points(20), **options)
    assert " 28/40 " in capsys.readouterr().err
    trainer.fit(Views(), [Contrast("simclr")], Points(20), **options)
    shown = capsys.readouterr().err
    assert " 40/40 " in shown and " samples/s" in shown and " 24/40 " not in shown

import itertools
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset

import bengelib
from bengelib import engine
from bengelib.data.batches import check_bands
from bengelib.data.dataset import BENGE
from bengelib.data.decode import decode
from bengelib.devices import choose_precision
from bengelib.engine import Trainer, _score, evaluate, predict, seed_everything
from bengelib.errors import BandError, NonFiniteLossError
from bengelib.fusion import EarlyFusion
from bengelib.heads import ClassificationHead, Network
from bengelib.modalities import as_modality
from bengelib.running import Samples
from bengelib.tasks import Classification
from bengelib.transforms import Augment
from tests.forked import finish, start
from tests.training import fit_with

CLASSES = ("dark", "bright", "striped")
TASKS = (Classification("kind", CLASSES),)
BANDS = ("VV", "VH")


class Patches(Dataset):
    """Small Sentinel-1 images of three kinds that one can tell apart but for some noise."""

    def __init__(self, count, seed=0, s1_bands=BANDS):
        random = np.random.default_rng(seed)
        self.inputs = {"s1": as_modality("s1", s1_bands)}
        self.labels = random.integers(0, 3, count)
        self.images = random.normal(-15, 4, (count, 2, 24, 24)).astype(np.float32)
        self.images[self.labels == 1] += 5
        self.images[self.labels == 2, :, ::2] += 10

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        label = torch.tensor(self.labels[index])
        return {"s1": torch.from_numpy(self.images[index]), "kind": label, "patch_id": f"patch {index}"}


def make_model(seed=0, bands=BANDS):
    seed_everything(seed)
    encoder = EarlyFusion({"s1": bands}, width=0.0625)
    return Network(encoder, {"kind": ClassificationHead(encoder.feature_dim, CLASSES)})


def quick_fit(model, train=None, **options):
    options = {"epochs": 1, "batch_size": 16, "precision": "no", "progress": False} | options
    return fit_with(model, options.pop("tasks", TASKS), Patches(48) if train is None else train, **options)


def weights_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same_weights(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


# ------------------------------------------------------------------------------------------------------------- learning


def test_a_small_problem_is_learnt():
    model, val = make_model(), Patches(60, seed=1)
    before = evaluate(model, TASKS, val, precision="no")
    history = quick_fit(model, Patches(240), val=val, epochs=6, lr=3e-3)
    after = evaluate(model, TASKS, val, precision="no")
    assert before["kind/accuracy"] < 0.6 and after["kind/accuracy"] > 0.9
    table = history.frame()
    assert list(table.index) == [1, 2, 3, 4, 5, 6]
    trained = {"lr", "train/loss", "train/kind/loss", "weight/kind"}
    assert trained | {"val/loss", "val/kind/accuracy", "val/kind/macro_f1"} == set(table.columns)
    assert table["train/loss"].iloc[-1] < 0.5 * table["train/loss"].iloc[0]


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_same_seed_same_numbers_bit_for_bit(precision):
    runs = []
    for seed in (1, 1, 2):
        model = make_model(seed)
        torch.rand(17)  # what happens between must not matter
        history = quick_fit(
            model, val=Patches(20, seed=1), epochs=2, seed=seed, augment=Augment(crop=20), precision=precision
        )
        runs.append((weights_of(model), history.rows, history.best_epoch))
    (first, rows, best), (again, rows_again, best_again), (other, *_) = runs
    assert same_weights(first, again) and rows == rows_again and best == best_again
    assert not same_weights(first, other)


def test_seed_everything_repeats_first_weights():
    assert same_weights(weights_of(make_model(5)), weights_of(make_model(5)))
    seed_everything(3)
    numpy_first = np.random.rand()
    seed_everything(3)
    assert np.random.rand() == numpy_first


def test_learning_rate_rises_then_falls():
    rates = [engine.warm_cosine(step, 100, 0.1) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * step for step in range(1, 11)])
    assert rates[10] == 1.0 and all(later < earlier for earlier, later in itertools.pairwise(rates[10:]))
    assert rates[-1] < 0.001
    assert rates[55] == pytest.approx(0.5, abs=0.02)


def test_best_weights_are_kept():
    """The validation labels are wrong on purpose, so that more training makes the validation worse."""
    val = Patches(60, seed=1)
    val.labels = (val.labels + 1) % 3
    model = make_model()
    history = quick_fit(model, Patches(120), val=val, epochs=4, lr=3e-3)
    losses = history.frame()["val/loss"]
    assert history.best_epoch == losses.idxmin() and losses.iloc[-1] > losses.min() + 0.1
    assert evaluate(model, TASKS, val, precision="no")["loss"] == pytest.approx(losses.min(), rel=1e-4)


def test_monitoring_a_metric_keeps_its_highest():
    model, val = make_model(), Patches(60, seed=1)
    history = quick_fit(model, Patches(120), val=val, epochs=4, lr=3e-3, monitor="kind/accuracy")
    accuracies = history.frame()["val/kind/accuracy"]
    assert history.best_epoch == accuracies.idxmax()  # the first of equals
    kept = evaluate(model, TASKS, val, batch_size=16, precision="no")  # the batches of `quick_fit`
    assert kept["kind/accuracy"] == pytest.approx(accuracies.max())


def test_without_validation_the_last_weights_are_kept():
    model = make_model()
    history = quick_fit(model, epochs=2)
    assert history.best_epoch == 2
    assert set(history.rows[0]) == {"epoch", "lr", "train/loss", "train/kind/loss", "weight/kind"}


def test_training_loss_is_the_mean_over_samples_not_over_batches():
    """50 samples in batches of 16: the last two must not weigh as much as sixteen."""
    seen = []

    class Watched(Classification):
        def loss(self, outputs, batch):
            loss = super().loss(outputs, batch)
            if torch.is_grad_enabled():
                seen.append((loss.item(), len(batch["kind"])))
            return loss

    history = quick_fit(make_model(), Patches(50), tasks=[Watched("kind", CLASSES)])
    assert [count for _, count in seen] == [16, 16, 16, 2]
    assert history.rows[0]["train/loss"] == pytest.approx(sum(loss * count for loss, count in seen) / 50)


def test_a_last_batch_of_one_joins_the_one_before():
    """BatchNorm cannot take the variance of a single sample."""
    counts = []
    quick_fit(make_model(), Patches(33), augment=lambda batch, _: counts.append(len(batch["kind"])) or batch)
    assert counts == [16, 17]


def test_every_sample_is_seen_once_an_epoch_in_another_order():
    orders = []
    quick_fit(make_model(), Patches(30), epochs=2, augment=lambda batch, _: orders.append(batch["patch_id"]) or batch)
    first, second = ([*orders[start], *orders[start + 1]] for start in (0, 2))
    assert sorted(first) == sorted(second) == sorted(f"patch {number}" for number in range(30))
    assert first != second


def test_validation_is_not_augmented_and_does_not_train():
    class Watched(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.seen = nn.Linear(2, 3), []

        def forward(self, batch):
            self.seen.append((self.training, torch.is_grad_enabled(), batch["s1"].shape[-1]))
            return {"kind": self.layer(batch["s1"].mean(dim=(2, 3)))}

    model = Watched()
    quick_fit(model, val=Patches(16, seed=1), epochs=2, augment=Augment(crop=20))
    assert model.seen == 2 * (3 * [(True, True, 20)] + [(False, False, 24)])


def test_losses_of_several_tasks_are_added():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 3)

        def forward(self, batch):
            logits = self.layer(batch["s1"].mean(dim=(2, 3)))
            return {"kind": logits, "again": logits}

    class Twice(Patches):
        def __getitem__(self, index):
            sample = super().__getitem__(index)
            return sample | {"again": sample["kind"]}

    model, data = Two(), Twice(40)
    both = evaluate(model, [*TASKS, Classification("again", CLASSES)], data, precision="no")
    assert both["loss"] == pytest.approx(2 * evaluate(model, TASKS, data, precision="no")["loss"], rel=1e-4)
    assert both["kind/accuracy"] == both["again/accuracy"]


# ----------------------------------------------------------------------------------------------- evaluation, prediction


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_evaluation_is_exact_whatever_the_batches(batch_size):
    model, data = make_model(), Patches(50)
    quick_fit(model, data)
    figures = evaluate(model, TASKS, data, batch_size=batch_size, precision="no")
    model.eval()
    with torch.no_grad():
        logits = model(next(iter(DataLoader(data, batch_size=50))))["kind"]
    labels = torch.tensor(data.labels)
    assert figures["loss"] == pytest.approx(float(nn.functional.cross_entropy(logits, labels)), rel=1e-4)
    same = predict(model, data, batch_size=batch_size, precision="no").outputs["kind"]  # other batches may flip a tie
    np.testing.assert_allclose(same, logits, rtol=1e-3, atol=1e-4)
    assert figures["kind/accuracy"] == pytest.approx(accuracy_score(labels, same.argmax(axis=1)))


def test_prediction_is_in_the_order_of_the_dataset():
    model, data = make_model(), Patches(23)
    predictions = predict(model, data, batch_size=5, precision="no")
    assert predictions.patch_ids == [f"patch {number}" for number in range(23)]
    assert predictions.outputs["kind"].shape == (23, 3) and predictions.outputs["kind"].dtype == np.float32
    np.testing.assert_array_equal(predictions.labels["kind"], data.labels)
    accuracy = (predictions.outputs["kind"].argmax(axis=1) == data.labels).mean()
    assert evaluate(model, TASKS, data, batch_size=5, precision="no")["kind/accuracy"] == pytest.approx(accuracy)


def test_prediction_needs_neither_labels_nor_ids():
    class Images(Patches):
        def __getitem__(self, index):
            return {"s1": super().__getitem__(index)["s1"]}

    predictions = predict(make_model(), Images(9), batch_size=4, precision="no")
    assert predictions.outputs["kind"].shape == (9, 3)
    assert predictions.labels == {} and predictions.patch_ids == []


def test_evaluation_and_prediction_leave_the_weights_alone():
    model, data = make_model(), Patches(20)
    before = weights_of(model)
    evaluate(model, TASKS, data, precision="no")
    predict(model, data, precision="no")
    assert same_weights(before, weights_of(model))


def test_worker_processes_change_nothing():
    results = [predict(make_model(), Patches(20), batch_size=6, workers=workers, precision="no") for workers in (0, 1)]
    np.testing.assert_allclose(results[0].outputs["kind"], results[1].outputs["kind"], rtol=1e-4, atol=1e-5)
    assert results[0].patch_ids == results[1].patch_ids


def test_stored_integers_are_decoded_on_the_way():
    """A dataset that reads a whole batch at once, with Sentinel-2 by resolution."""

    class Stored(Dataset):
        def __len__(self):
            return 5

        def read_batch(self, indices):
            numbers = torch.tensor(indices)[:, None, None, None] + 100
            s2_10m = numbers.expand(-1, 1, 120, 120).to(torch.uint16)
            return {"s2_10m": s2_10m, "s2_20m": 2 * numbers.expand(-1, 1, 60, 60).to(torch.int32)}

        def decode(self, batch):
            return decode(batch, ("B05", "B02"))

    class Means(nn.Module):
        def forward(self, batch):
            return {"mean": batch["s2"].mean(dim=(2, 3))}

    expected = np.array([[2 * (100 + index), 100 + index] for index in range(5)]) / 10_000
    for data, rows in ((Stored(), slice(None)), (Subset(Stored(), [4, 1]), [4, 1])):
        found = predict(Means(), data, batch_size=2, precision="no").outputs["mean"]
        np.testing.assert_allclose(found, expected[rows], rtol=1e-4)


def test_the_fake_tree_trains(fake_tree):
    """From GeoTIFFs to metrics in one go, on the names that the package itself offers."""
    train, val = (bengelib.BENGE(fake_tree, split, s2_bands=("B02", "B8A", "B01")) for split in ("train", "val"))
    encoder = EarlyFusion({"s2": train.s2_bands, "s1": train.s1_bands}, width=0.0625)
    zones = tuple(zone.symbol for zone in bengelib.bands.CLIMATE_ZONES)
    model = Network(encoder, {"climate_zone": ClassificationHead(encoder.feature_dim, zones)})
    tasks = [Classification("climate_zone", zones)]
    history = bengelib.fit(model, tasks, train, val, epochs=1, batch_size=2, augment=Augment(64))
    assert math.isfinite(history.rows[0]["val/loss"])
    assert bengelib.predict(model, val).patch_ids == val.patch_ids
    assert set(bengelib.evaluate(model, tasks, val)) == {"loss", "climate_zone/accuracy", "climate_zone/macro_f1"}


# -------------------------------------------------------------------------------------------------- devices, precision


class Precision(nn.Module):
    """Notes the type in which its layer computed."""

    def __init__(self):
        super().__init__()
        self.layer, self.seen = nn.Linear(2, 3), set()

    def forward(self, batch):
        logits = self.layer(batch["s1"].mean(dim=(2, 3)))
        self.seen.add(logits.dtype)
        return {"kind": logits}


def test_every_call_computes_in_the_precision_that_it_asks_for():
    """Accelerate marks a model as prepared and would leave it in the precision of the first call."""
    model, data = Precision(), Patches(16)
    calls = (
        lambda precision: quick_fit(model, data, val=data, precision=precision),
        lambda precision: evaluate(model, TASKS, data, precision=precision),
        lambda precision: predict(model, data, precision=precision),
    )
    for precision, expected in (("no", torch.float32), ("bf16", torch.bfloat16)) * 2:
        for call in calls:
            model.seen.clear()
            call(precision)
            assert model.seen == {expected}


def test_outputs_and_weights_stay_in_single_precision():
    model, data = Precision(), Patches(16)
    quick_fit(model, data, precision="bf16")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert predict(model, data, precision="bf16").outputs["kind"].dtype == np.float32


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_handed_back_as_it_was(fails):
    model, data = Precision(), Patches(16)
    attributes = set(model.__dict__)
    if fails:
        data.images[3] = np.nan
        with pytest.raises(NonFiniteLossError):
            quick_fit(model, data, precision="bf16")
    else:
        quick_fit(model, data, precision="bf16")
    assert set(model.__dict__) == attributes
    model.seen.clear()
    model(data[0] | {"s1": data[0]["s1"][None]})
    assert model.seen == {torch.float32}


@pytest.mark.parametrize(
    ("amx", "capability", "expected"),
    [
        (True, None, "bf16"),
        (False, None, "no"),
        (False, (7, 5), "fp16"),
        (False, (8, 0), "bf16"),
        (True, (7, 0), "fp16"),
    ],
)
def test_precision_is_chosen_for_the_device(monkeypatch, amx, capability, expected):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: capability is not None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert choose_precision() == choose_precision("auto") == expected
    words = ("no", "bf16", "fp16") if capability else ("no", "bf16")  # without a GPU fp16 is refused
    assert [choose_precision(word) for word in words] == list(words)


# ------------------------------------------------------------------------------------------------------- wrong requests


def test_nan_in_the_data_is_named_with_the_patches():
    data = Patches(16)
    data.images[:] = np.nan
    with pytest.raises(NonFiniteLossError, match="epoch 1") as error:
        quick_fit(make_model(), data)
    assert "'s1'" in str(error.value) and "patch " in str(error.value)


def test_divergence_is_named_with_the_learning_rate():
    class Explodes(Classification):
        def loss(self, outputs, batch):
            return super().loss(outputs, batch) * math.inf

    with pytest.raises(NonFiniteLossError, match=r"lr below 0\.001") as error:
        quick_fit(make_model(), tasks=[Explodes("kind", CLASSES)])
    assert "kind inf" in str(error.value)


def test_nan_in_the_validation_is_not_overlooked():
    val = Patches(48, seed=1)
    val.images[:16] = np.nan  # the first batch alone
    with pytest.raises(NonFiniteLossError, match="validation loss is nan in epoch 1"):
        quick_fit(make_model(), val=val)


def test_a_metric_that_cannot_be_computed_cannot_decide():
    """Too few samples of each class: the macro F1 is NaN, and no epoch is better than another."""
    with pytest.raises(ValueError, match="kind/macro_f1"):
        quick_fit(make_model(), val=Patches(6, seed=1), monitor="kind/macro_f1")


@pytest.mark.parametrize("monitor", ["accuracy", "val/loss", "other/accuracy"])
def test_unknown_monitor_is_refused_before_training(monitor):
    model = make_model()
    before = weights_of(model)
    with pytest.raises(ValueError, match=f"cannot monitor '{monitor}'") as error:
        quick_fit(model, val=Patches(16), monitor=monitor)
    assert "kind" in str(error.value) and same_weights(before, weights_of(model))


def test_monitor_needs_a_validation_and_a_known_metric():
    with pytest.raises(ValueError, match="val"):
        quick_fit(make_model(), monitor="kind/accuracy")
    with pytest.raises(ValueError, match="kind/accuracy"):
        quick_fit(make_model(), val=Patches(16), monitor="kind/acc")


def test_of_an_error_the_lowest_epoch_is_kept():
    """Painting pixels better is a lower error; a task of its own name for a figure has to say which way is better."""

    class Reconstructs(Classification):
        name, values = "error", iter([0.5, 0.1, 0.9])

        def summary(self, metric):
            return {self.name: next(self.values)}

    history = fit_with(make_model(), [Reconstructs("kind", "abc")], Patches(12), Patches(6), epochs=3,
                       batch_size=6, monitor="kind/error")  # fmt: skip
    assert history.best_epoch == 2
    Reconstructs.name, Reconstructs.values = "rmse", iter([1.0])
    with pytest.raises(ValueError, match="lower or higher values of 'rmse'"):
        fit_with(make_model(), [Reconstructs("kind", "abc")], Patches(12), Patches(6), monitor="kind/rmse")


@pytest.mark.parametrize("options", [{"precision": "half"}, {"epochs": 0}, {"train": Subset(Patches(3), [])}])
def test_other_impossible_requests(options):
    with pytest.raises(ValueError, match=r"'half'|nothing to train on"):
        quick_fit(make_model(), **options)


def test_nothing_to_predict():
    with pytest.raises(ValueError, match="no samples"):
        predict(make_model(), Subset(Patches(3), []))


@pytest.mark.parametrize("call", ["fit", "val", "evaluate", "predict"])
@pytest.mark.parametrize("wrap", [lambda data: data, lambda data: Subset(data, range(8))], ids=["plain", "subset"])
def test_other_band_order_is_refused_naming_both(call, wrap):
    model, wrong = make_model(), wrap(Patches(16, s1_bands=("VH", "VV")))
    calls = {
        "fit": lambda: quick_fit(model, wrong),
        "val": lambda: quick_fit(model, val=wrong),
        "evaluate": lambda: evaluate(model, TASKS, wrong),
        "predict": lambda: predict(model, wrong),
    }
    with pytest.raises(BandError, match=r"\('VV', 'VH'\).*\('VH', 'VV'\)") as error:
        calls[call]()
    assert "the same bands in the same order" in str(error.value)


def test_bands_of_the_dataset_are_checked(fake_tree):
    encoder = EarlyFusion({"s2": ("B04", "B03", "B02")}, width=0.0625)
    model = Network(encoder, {"climate_zone": ClassificationHead(encoder.feature_dim, "abc")})
    check_bands(model, BENGE(fake_tree, s2_bands=("B04", "B03", "B02")))
    with pytest.raises(BandError, match="same order"):
        check_bands(model, BENGE(fake_tree, s2_bands=("B02", "B03", "B04")))


# ------------------------------------------------------------------------------------------------------ two processes


def train_and_save(folder):
    """Train as one of several processes, and write what this one has found."""
    torch.set_num_threads(1)
    rank, model, val = int(os.environ["RANK"]), make_model(), Patches(25, seed=1)
    seen = []
    history = Trainer(precision="no", progress=False).fit(
        model, TASKS, Patches(37), val, epochs=2, batch_size=4,
        augment=lambda batch, _: seen.extend(batch["patch_id"]) or batch,
    )  # fmt: skip
    predictions = predict(model, val, batch_size=4, precision="no")
    samples, none = Samples(("x",)), Samples(("x",))
    for number in range(2 + rank):
        samples.update({"x": torch.tensor([10 * rank + number])})
    if rank:
        none.update({"x": torch.tensor([7])})
    found = {
        "weights": weights_of(model),
        "rows": history.rows,
        "best": history.best_epoch,
        "figures": evaluate(model, TASKS, val, batch_size=4, precision="no"),
        "ids": predictions.patch_ids,
        "outputs": predictions.outputs["kind"].tolist(),
        "seen": seen,
        "samples": samples.compute()["x"].tolist(),
        "none": none.compute()["x"].tolist(),
    }
    torch.save(found, Path(folder) / f"{rank}.pt")


def by_torchrun(folder):
    """As a user starts two processes."""
    script = folder / "script.py"
    script.write_text("import sys\nfrom tests.test_engine import train_and_save\ntrain_and_save(sys.argv[1])\n")
    environment = os.environ | {
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run([*command, script, folder], env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]


def forked(folder):
    finish(start(train_and_save, folder, processes=2))


@pytest.mark.parametrize("run", [forked, pytest.param(by_torchrun, marks=pytest.mark.slow)])
def test_two_processes_give_exact_figures_on_ragged_data(tmp_path, run):
    """25 validation samples in batches of 4 are four batches for one process and three for the other."""
    run(tmp_path)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))

    assert same_weights(first["weights"], second["weights"])  # the running statistics of BatchNorm too
    for key in ("best", "ids", "outputs"):
        assert first[key] == second[key], key
    for one, two in zip([*first["rows"], first["figures"]], [*second["rows"], second["figures"]], strict=True):
        assert one == pytest.approx(two, rel=1e-6)  # an all-reduce need not add in the same order on every rank
    for each in (first, second):  # also where a process has none
        assert each["samples"] == [0, 1, 10, 11, 12] and each["none"] == [7]
    assert len(first["seen"]) == len(second["seen"]) == 2 * 19
    assert set(first["seen"][:19] + second["seen"][:19]) == {f"patch {number}" for number in range(37)}

    model, val = make_model(), Patches(25, seed=1)
    model.load_state_dict(first["weights"])
    outputs = predict(model, val, precision="no").outputs["kind"]
    np.testing.assert_allclose(first["outputs"], outputs, rtol=1e-3, atol=1e-4)
    loss = float(nn.functional.cross_entropy(torch.tensor(outputs), torch.tensor(val.labels)))
    predicted = np.argmax(first["outputs"], axis=1)  # of the same batches: others may flip a tie
    best = {name.removeprefix("val/"): value for name, value in first["rows"][first["best"] - 1].items()}
    for figures in (first["figures"], best):
        assert figures["loss"] == pytest.approx(loss, rel=1e-4)
        assert figures["kind/accuracy"] == pytest.approx(accuracy_score(val.labels, predicted))
        assert figures["kind/macro_f1"] == pytest.approx(f1_score(val.labels, predicted, average="macro"))
    assert first["ids"] == [f"patch {number}" for number in range(25)]


@pytest.mark.parametrize(("size", "batch_size"), [(1, 4), (3, 4), (4, 4), (5, 4), (8, 4), (9, 4), (10, 4)])
def test_the_schedule_knows_how_many_steps_there_are(size, batch_size):
    from bengelib.data.batches import batch_order, steps_per_epoch
    from bengelib.devices import make_accelerator

    made = batch_order(size, batch_size, make_accelerator("no"), torch.Generator())
    assert len(made) == steps_per_epoch(size, batch_size)
    assert sorted(index for batch in made for index in batch) == list(range(size))
    assert size == 1 or min(len(batch) for batch in made) > 1


def test_predictions_can_be_reduced_to_classes_a_pixel():
    from bengelib.heads import SegmentationHead, hard_maps

    seed_everything(0)
    encoder = EarlyFusion({"s1": BANDS}, width=0.125)
    heads = {"map": SegmentationHead(encoder.channels, CLASSES, width=4)}
    model = Network(encoder, heads | {"kind": ClassificationHead(encoder.feature_dim, CLASSES)})
    data = Patches(11)
    whole = predict(model, data, batch_size=4, precision="no")
    hard = predict(model, data, reduce=hard_maps, batch_size=4, precision="no")
    assert hard.outputs["map"].dtype == np.uint8 and hard.outputs["map"].shape == (11, 24, 24)
    second, best = np.sort(whole.outputs["map"], axis=1)[:, -2:].swapaxes(0, 1)
    clear = best - second > 1e-4
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(hard.outputs["map"][clear], whole.outputs["map"].argmax(axis=1)[clear])
    np.testing.assert_allclose(hard.outputs["kind"], whole.outputs["kind"], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(hard.labels["kind"], data.labels)


def test_the_best_epoch_of_an_error_is_the_lowest():
    assert _score({"loss": 1.0, "season/mae": 0.2}, "season/mae", 1) == 0.2
    assert _score({"loss": 1.0, "zone/accuracy": 0.2}, "zone/accuracy", 1) == -0.2

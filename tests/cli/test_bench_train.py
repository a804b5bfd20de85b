import pytest
import torch

from bengelib.cli import bench_train
from bengelib.cli.bench import noise_patches
from bengelib.engine import Trainer
from bengelib.recipes.pretraining import strong_views
from bengelib.ssl import Contrast
from bengelib.views import TwoViews
from tests import fake_tree as fake

SMALL = {"batch_size": 4, "size": 16, "width": 0.125, "rounds": 1, "progress": False}


def test_fit_and_a_plain_loop_make_the_same_step():
    views, patches = TwoViews(strong_views(16)), noise_patches(6)
    network, data = bench_train._network(0.125), bench_train._Patches(patches)
    history = Trainer(precision="no", progress=False).fit(
        network, [Contrast()], data, epochs=1, batch_size=6, augment=views
    )
    plain = next(bench_train.plain_steps(bench_train._network(0.125), patches, views, 6))
    assert history.rows[0]["train/loss"] == pytest.approx(float(plain), rel=1e-4)


def test_fit_is_timed_beside_the_plain_loop():
    threads = torch.get_num_threads()
    table = bench_train.bench_train(**SMALL)
    assert torch.get_num_threads() == threads
    assert list(table.index) == ["plain loop", "fit"]
    assert (table["lowest"] <= table["ms/step"]).all() and (table["ms/step"] <= table["highest"]).all()
    assert table["of the plain loop"].iloc[0] == 1 and table["of the plain loop"].iloc[1] > 0


def test_a_dataset_is_read_from_its_pack(tmp_path):
    table = bench_train.bench_train(fake.write_fake_tree(tmp_path / "ben-ge-fake", 8), **SMALL)
    assert list(table.index) == ["plain loop", "fit", "fit, from the pack"]


def test_each_takes_its_turn(monkeypatch):
    made, clock = [], iter(range(100))
    monkeypatch.setattr(bench_train, "clock", lambda: next(clock))
    plain = iter(lambda: made.append("plain") or torch.zeros(()), None)
    turns = bench_train._InTurn(lambda batch, _: made.append("fit") or batch, plain, 2, bench_train.tqdm(disable=True))
    for _ in range(5):
        turns({}, torch.Generator())
    assert made == ["plain", "plain", "fit", "fit"] * 2 + ["plain", "plain", "fit"]
    assert turns.of_plain == [0.5] * 3 and turns.seconds == [0.5] * 2

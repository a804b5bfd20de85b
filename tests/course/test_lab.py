import pytest
import torch

from bengelib.course import lab
from bengelib.course.lab import describe_sample, fit_or_resume, lab_settings
from bengelib.engine import Trainer, seed_everything
from bengelib.files import claimed
from bengelib.heads import ClassificationHead, Network
from bengelib.tasks import Classification
from tests import fake_tree as fake
from tests.resumed_runs import Changes, Encoder, Scenes, same


@pytest.mark.parametrize(("full", "patches", "runs"), [(False, 1000, 3), (True, 4000, 5)])
def test_knobs_left_open_follow_from_full(full, patches, runs):
    settings = lab_settings("ben-ge-sim", full)
    assert settings.patches == patches and settings.seeds == tuple(range(runs))
    assert lab_settings("ben-ge-sim", full, 7, [4]) == (7, (4,), settings.note, True)


def test_only_data_to_be_simulated_have_as_many_patches_as_one_likes():
    assert lab_settings("ben-ge-800", False, 7).patches is None


@pytest.mark.parametrize(("name", "simulated"), [("mydata", True), ("ben-ge-simple", False)])
def test_the_note_goes_by_the_marker_of_the_data(name, simulated, tmp_path):
    root = fake.write_fake_tree(tmp_path / name)
    if simulated:
        (root / "simulation.json").write_text('{"simulated": true}')
    for dataset, said in ((str(root), simulated), ("ben-ge-sim", True), ("ben-ge-800", False)):
        settings = lab_settings(dataset, False)
        assert settings.simulated is said
        assert settings.note.startswith("simulated data") is said


def test_a_sample_is_described_by_shape_and_type():
    table = describe_sample(
        {"s2": torch.zeros(12, 4, 4), "season": torch.tensor(0.5), "patch_id": "a"}, ["s2", "season"]
    )
    assert table.to_dict("list") == {
        "key": ["s2", "season"], "shape": [(12, 4, 4), ()], "type": ["torch.float32", "torch.float32"]
    }  # fmt: skip


class Cut(Exception):
    pass


def cut_at(last):
    def happens(step):
        if step == last:
            raise Cut

    return Changes(happens)


def trained(augment=None, epochs=3):
    seed_everything(0)
    model = Network(Encoder(), {"kind": ClassificationHead(6, "abc")})
    history = fit_or_resume(
        Trainer(progress=False),
        model,
        [Classification("kind", "abc")],
        Scenes(),
        epochs=epochs,
        batch_size=4,
        augment=augment,
    )
    return [*model.state_dict().values()], history


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lab, "SECONDS_LOST", 0.0)  # a checkpoint after each step
    return tmp_path


def test_an_interrupted_training_goes_on_and_leaves_nothing(notebook):
    whole, _ = trained(Changes(lambda step: None))
    assert not list(notebook.glob("checkpoints/*"))
    with pytest.raises(Cut):
        trained(cut_at(4))
    (kept,) = notebook.glob("checkpoints/*")
    assert list(kept.iterdir())
    seen = []
    again, _ = trained(Changes(seen.append))
    assert same(again, whole) and len(seen) > 0 and not list(notebook.glob("checkpoints/*"))
    fresh = []
    trained(Changes(fresh.append))
    assert len(seen) < len(fresh)


def test_another_training_begins_anew_and_an_interrupted_one_of_other_data_too(notebook, monkeypatch, capsys):
    with pytest.raises(Cut):
        trained(cut_at(2))
    trained(Changes(lambda step: None), epochs=1)
    assert len(list(notebook.glob("checkpoints/*"))) == 1  # that of the other is still there
    monkeypatch.setattr(Scenes, "__getitem__", lambda self, index, plain=Scenes.__getitem__: plain(self, -1 - index))
    trained(Changes(lambda step: None))
    assert "begins anew" in capsys.readouterr().out and not list(notebook.glob("checkpoints/*"))


def test_a_second_process_keeps_no_checkpoints(notebook):
    with pytest.raises(Cut):
        trained(cut_at(2))
    (kept,) = notebook.glob("checkpoints/*")
    before = sorted(path.name for path in kept.iterdir())
    with claimed(kept.with_suffix(".lock")) as alone:
        assert alone
        trained(Changes(lambda step: None))
    assert sorted(path.name for path in kept.iterdir()) == before

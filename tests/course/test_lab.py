import pytest
import torch

from bengelib.course.lab import describe_sample, lab_settings
from tests import fake_tree as fake


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

"""Networks that come with a lab: loaded where they fit the training side, left alone elsewhere."""

from types import SimpleNamespace

import pytest
import torch

from bengelib.checkpoint import save_checkpoint
from bengelib.course.shipped import fingerprint_of, load_shipped
from bengelib.errors import CheckpointError
from bengelib.fusion import EarlyFusion
from bengelib.heads import Network

TRAIN, OTHER = SimpleNamespace(patch_ids=["a", "b"]), SimpleNamespace(patch_ids=["b", "a"])


def network(seed, bands=("VV", "VH")):
    torch.manual_seed(seed)
    return Network(EarlyFusion({"s1": bands}, width=0.0625), {})


def first(model):
    return next(model.parameters()).detach().clone()


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """The current folder is that of a lab with one network, trained on the patches of `TRAIN`."""
    monkeypatch.chdir(tmp_path)
    save_checkpoint(
        "encoders/radar.safetensors", network(0), {"patches": fingerprint_of(TRAIN), "epochs": 9}, half=True
    )
    return "no-such-lab"


def test_a_network_is_loaded_for_the_patches_that_it_was_trained_on(lab):
    model = network(1)
    assert load_shipped(lab, TRAIN, radar=model)["epochs"] == 9
    assert torch.equal(first(model), first(network(0)).half().float())


def test_a_network_is_left_alone_for_other_patches(lab):
    model = network(1)
    assert load_shipped(lab, OTHER, radar=model) is None
    assert torch.equal(first(model), first(network(1)))


def test_all_are_loaded_or_none(lab):
    model = network(1)
    assert load_shipped(lab, TRAIN, radar=model, optical=network(2)) is None
    assert torch.equal(first(model), first(network(1)))


def test_another_network_is_an_error(lab):
    with pytest.raises(CheckpointError, match="does not fit"):
        load_shipped(lab, TRAIN, radar=network(0, ("VH",)))

import pytest

from bengelib.cli.options import DEPTHS, FUSIONS, PRECISIONS
from bengelib.devices import choose_precision
from bengelib.errors import ArgumentError
from bengelib.recipes import supervised
from bengelib.recipes.pretraining import Pretraining


def test_every_way_of_joining_can_be_chosen():
    assert (*supervised.FUSIONS, "decision") == FUSIONS


def test_every_depth_can_be_pretrained_and_no_other():
    for depth in DEPTHS:
        assert Pretraining(depth=depth).depth == depth
    with pytest.raises(ValueError, match="choose 18, 34 or 50"):
        Pretraining(depth=101)


def test_precisions_are_those_of_a_device():
    with pytest.raises(ArgumentError) as error:
        choose_precision("fp8")
    assert all(repr(precision) in str(error.value) for precision in PRECISIONS)
    assert choose_precision("no") == "no" and choose_precision("bf16") == "bf16"

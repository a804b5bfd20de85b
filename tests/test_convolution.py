import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from bengelib.convolution import channels_last
from bengelib.resnet import PointwiseConv2d, has_wrong_kernel
from tests.arithmetics import AVX2, SSE41, cases, impossible
from tests.kernel_gradients import SMALL, is_right, largest_error

ROOT = Path(__file__).parents[1]
ARITHMETICS = {
    "default": {},
    "two threads": {"OMP_NUM_THREADS": "2"},
    "SSE4.1": SSE41,
    "AVX2": AVX2,
    "AVX2, two threads": {**AVX2, "OMP_NUM_THREADS": "2"},
    "AVX-512": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
}
QUICK = ("default", "AVX2") if torch.cpu._is_avx512_supported() else ("default",)  # which is AVX2, then, or less


def look_at_gradients(arithmetic, *widths):
    """The models that were looked at, in a process of its own: oneDNN reads these variables once, and a wrong kernel
    may end the process."""
    shown = subprocess.run(
        [sys.executable, "-m", "tests.kernel_gradients", *widths],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **arithmetic},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert shown.returncode == 0, shown.stdout + shown.stderr
    return {line[:38].strip() for line in shown.stdout.splitlines()}


@pytest.mark.parametrize("arithmetic", cases(ARITHMETICS, QUICK))
def test_gradients_of_every_model_agree_with_those_in_64_bits(arithmetic):
    assert len(look_at_gradients(arithmetic, str(SMALL))) > 20


@pytest.mark.slow
@pytest.mark.parametrize("arithmetic", cases(ARITHMETICS))
def test_gradients_of_wide_models_agree_as_well(arithmetic):
    assert len(look_at_gradients(arithmetic)) > 30


@pytest.mark.parametrize(
    ("errors", "right", "looked_at"),
    [
        ((1e-5, 1e-4), True, 2),
        ((0.12, 1e-5, 1e-5), True, 3),  # a rectifier that changed sides
        ((1e-5, 0.12, 1e-5), True, 3),
        ((0.12, 0.03), False, 2),
        ((1e-5, 0.03, 0.03), False, 3),  # once right is not enough
        ((0.6,), False, 1),
        ((1e-5, float("inf")), False, 2),
    ],
)
def test_a_kernel_is_right_on_two_of_three_batches(errors, right, looked_at):
    left = iter((*errors, *[None] * 3))
    assert is_right(left) is right
    assert len(list(left)) == 3 + len(errors) - looked_at


def test_a_gradient_that_is_no_number_is_an_error_however_many_others_are_right():
    right = {name: torch.ones(2) for name in "abc"}
    assert largest_error(right | {"b": torch.tensor([1.0, float("nan")])}, right) == float("inf")
    assert largest_error(right | {"b": torch.tensor([1.0, 1.1])}, right) == pytest.approx(0.1 / 2**0.5)


def test_no_process_is_held_to_instructions_that_the_processor_lacks(monkeypatch):
    monkeypatch.setattr("torch.cpu._is_avx2_supported", lambda: False)
    monkeypatch.setattr("platform.machine", lambda: "AMD64")
    assert [name for name in ARITHMETICS if impossible(ARITHMETICS[name])] == ["AVX2", "AVX2, two threads"]
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert [name for name in ARITHMETICS if not impossible(ARITHMETICS[name])] == ["default", "two threads"]


def agree(layer, reference, image, exactly=False):
    given, wanted = image.clone().requires_grad_(), image.double().requires_grad_()
    output, expected = layer(given), reference(wanted)
    output.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(output, expected.float(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(given.grad, wanted.grad.float(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(layer.weight.grad, reference.weight.grad.float(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("channels", [1, 3, 4, 8, 15, 16, 24])
@pytest.mark.parametrize("stride", [1, 2, (2, 1), 3])
def test_a_strided_pointwise_convolution_is_what_its_name_says(channels, stride):
    torch.manual_seed(0)
    layer = PointwiseConv2d(channels, 8, 1, stride=stride).to(memory_format=torch.channels_last)
    plain = nn.Conv2d(channels, 8, 1, stride=stride).double()
    plain.load_state_dict(layer.state_dict())
    for height, width in ((12, 12), (13, 7), (1, 1)):
        layer.zero_grad()
        plain.zero_grad()
        image = torch.randn(16, channels, height, width).to(memory_format=torch.channels_last)
        agree(layer, plain, image)


def test_the_shapes_with_a_wrong_kernel_are_told_from_the_others():
    assert has_wrong_kernel(nn.Conv2d(4, 8, 1, stride=2))
    assert has_wrong_kernel(nn.Conv2d(15, 8, 1, stride=(1, 2), padding="valid"))
    assert has_wrong_kernel(nn.Conv2d(64, 64, 1, stride=2, groups=64))
    for right in (
        nn.Conv2d(16, 8, 1, stride=2),
        nn.Conv2d(4, 8, 1),
        nn.Conv2d(4, 8, 3, stride=2),
        nn.Conv2d(4, 8, 1, stride=2, padding=1),
    ):
        assert not has_wrong_kernel(right)


def test_channels_last_keeps_the_layers_of_others_from_wrong_kernels_and_leaves_nothing_behind():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 8, 1, stride=2), nn.Conv2d(4, 4, 1, stride=2, groups=2), nn.Conv2d(16, 2, 1))
    before, strides = [dict(vars(layer)) for layer in model], [layer.weight.stride() for layer in model]
    image = torch.randn(8, 4, 12, 12).to(memory_format=torch.channels_last)
    with pytest.raises(KeyboardInterrupt), channels_last(model):
        for layer in model[:2]:
            agree(layer, copy.deepcopy(layer).double(), image)
        assert "forward" not in vars(model[2])
        raise KeyboardInterrupt
    assert [set(vars(layer)) for layer in model] == [set(names) for names in before]
    assert [layer.weight.stride() for layer in model] == strides


def test_channels_last_is_kept_where_no_layer_needed_mending():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), PointwiseConv2d(4, 8, 1, stride=2))
    with channels_last(model):
        pass
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert not model[0].weight.is_contiguous()

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from bengelib.convolution import PointwiseConv2d, channels_last, has_wrong_kernel

ROOT = Path(__file__).parents[1]
ARITHMETICS = {
    "default": {},
    "two threads": {"OMP_NUM_THREADS": "2"},
    "SSE4.1": {"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default"},
    "AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
    "AVX2, two threads": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "OMP_NUM_THREADS": "2"},
    "AVX-512": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
}
"""What oneDNN and ATen are held to. oneDNN stays within the processor; ATen obeys, even where the processor cannot."""

QUICK = ("default", "AVX2")


@pytest.mark.parametrize(
    "arithmetic", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in ARITHMETICS]
)
def test_gradients_of_every_model_agree_with_those_in_64_bits(arithmetic):
    """In a process of its own: oneDNN reads these variables once, and a wrong kernel may end the process."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **ARITHMETICS[arithmetic]}
    shown = subprocess.run(
        [sys.executable, "-m", "tests.kernel_gradients"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert shown.stdout.count("\n") > 30  # it did look


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
    before = [dict(vars(layer)) for layer in model]
    image = torch.randn(8, 4, 12, 12).to(memory_format=torch.channels_last)
    with pytest.raises(KeyboardInterrupt), channels_last(model):
        for layer in model[:2]:
            agree(layer, copy.deepcopy(layer).double(), image)
        assert "forward" not in vars(model[2])
        raise KeyboardInterrupt
    assert [set(vars(layer)) for layer in model] == [set(names) for names in before]
    assert all(layer.weight.is_contiguous(memory_format=torch.channels_last) for layer in model)

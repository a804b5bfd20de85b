"""Convolutions in the memory layout that they are fastest in, without the kernels that compute wrong gradients there.

A ResNet trains 10 to 20 % faster in channels-last layout than in the ordinary one (measured on a CPU with AVX2). On a
CPU one kernel of oneDNN is wrong in it: the gradient of the weights of a 1 x 1 convolution with a stride, without
padding, whose input has fewer channels than a vector register holds numbers. It writes outside its workspace; the
result is a wrong gradient, a crash, or a process that hangs (https://github.com/uxlfoundation/oneDNN/issues/6035, open
in November 2026; seen with torch 2.11.0 and 2.14.1 on a processor with AVX2). The patch proposed there changes the
kernel for AVX-512 as well, so the limit here is its 16 channels rather than the 8 of AVX2. Such a convolution is the
same as one without a stride on every second pixel, which is what is computed instead.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

FEWEST_CHANNELS = 16
"""Input channels from which on oneDNN's strided 1 x 1 kernels are right: the 32-bit numbers in an AVX-512 register."""


def has_wrong_kernel(convolution: nn.Conv2d) -> bool:
    """Whether oneDNN may compute wrong gradients for a convolution of this shape."""
    return (
        all(size == 1 for size in convolution.kernel_size)
        and any(step > 1 for step in convolution.stride)
        and convolution.in_channels // convolution.groups < FEWEST_CHANNELS
        and convolution.padding in ((0, 0), "valid")
    )


def convolve_subsampled(convolution: nn.Conv2d, image: Tensor) -> Tensor:
    """A 1 x 1 convolution (B, C, H, W) -> (B, K, H / stride, W / stride), as one without a stride on fewer pixels."""
    down, right = convolution.stride
    return nn.functional.conv2d(
        image[..., ::down, ::right], convolution.weight, convolution.bias, groups=convolution.groups
    )


class PointwiseConv2d(nn.Conv2d):
    """A 1 x 1 convolution that is right in every memory layout, on every processor and for any number of channels."""

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) to (B, K, H / stride, W / stride)."""
        return convolve_subsampled(self, image) if has_wrong_kernel(self) else super().forward(image)


@contextmanager
def channels_last(model: nn.Module) -> Iterator[None]:
    """Put `model` into channels-last layout, and keep it from wrong kernels until the block is left.

    It stays in that layout, unless a layer of others had to be kept from a wrong kernel: then the whole model is put
    back into the ordinary layout, in which it is safe to train without this block. Numbers differ from those of the
    ordinary layout only by rounding.
    """
    model.to(memory_format=torch.channels_last)
    mended = [
        module
        for module in model.modules()
        if isinstance(module, nn.Conv2d)
        and type(module).forward is nn.Conv2d.forward
        and "forward" not in vars(module)
        and has_wrong_kernel(module)
    ]
    for module in mended:
        vars(module)["forward"] = partial(convolve_subsampled, module)
    try:
        yield
    finally:
        for module in mended:
            vars(module).pop("forward", None)
        if mended:
            model.to(memory_format=torch.contiguous_format)

"""Models in channels-last memory layout, protected from the convolution kernel that is wrong in it.

A ResNet trains 10 to 20 % faster in channels-last layout than in the contiguous one (measured on a CPU with AVX2). The
encoders of `bengelib.resnet` avoid the wrong kernel on their own (see `PointwiseConv2d`); others are protected here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn

from bengelib.resnet import convolve_subsampled, has_wrong_kernel


@contextmanager
def channels_last(model: nn.Module) -> Iterator[None]:
    """Convert `model` to channels-last layout, and replace wrong kernels inside the `with` block.

    The model keeps that layout afterwards, unless a convolution had to be replaced: then the whole model returns to
    contiguous layout, in which it is safe to train outside the block. The layout changes results only by rounding.
    """
    model.to(memory_format=torch.channels_last)
    replaced = [
        module
        for module in model.modules()
        if isinstance(module, nn.Conv2d)
        and type(module).forward is nn.Conv2d.forward
        and "forward" not in vars(module)
        and has_wrong_kernel(module)
    ]
    for module in replaced:
        vars(module)["forward"] = partial(convolve_subsampled, module)
    try:
        yield
    finally:
        for module in replaced:
            vars(module).pop("forward", None)
        if replaced:
            model.to(memory_format=torch.contiguous_format)

"""Target networks (momentum encoders): copies of a network that are exponential moving averages of its weights.

BYOL and MoCo train a network to agree with such a copy. Its outputs change slowly from step to step, and it gets no
gradient (He et al. 2020, arXiv:1911.05722, equation 2; Grill et al. 2020, arXiv:2006.07733, equation 1).
"""

import math
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from bengelib.arguments import real_number, whole_number


class Target(nn.Module):
    """A copy of a network, updated after each optimiser step to m * copy + (1 - m) * network.

    `fit` calls `after_step` of a model, if there is one, after each optimiser step, and the model calls that of its
    target. Updates thus depend on optimiser steps only, not on the number of forward passes or on validation.
    """

    def __init__(self, online: nn.Module, momentum: float = 0.99, final: float = 1.0) -> None:
        """Copy `online`, which must not become a part of this module.

        Args:
            online: the network to follow, with the same inputs and outputs.
            momentum: m at the first step, from 0 (the copy equals the network) to 1 (the copy never changes).
            final: m at the last step.

        Raises:
            ArgumentError: a momentum outside [0, 1].
        """
        super().__init__()
        self.momentum = real_number("momentum", momentum, least=0, most=1)
        self.final = real_number("final", final, least=0, most=1)
        self.network = deepcopy(online).requires_grad_(False)

    @torch.no_grad()
    def forward(self, batch: Any) -> Tensor:
        """Output of the copy, without gradient."""
        answer: Tensor = self.network(batch)
        return answer

    def after_step(self, online: nn.Module, step: int, steps: int) -> None:
        """Update the copy after optimiser step `step` of `steps`, the first of which is 0."""
        follow(self.network, online, cosine_momentum(step, steps, self.momentum, self.final))


@torch.no_grad()
def follow(copy: nn.Module, online: nn.Module, momentum: float) -> None:
    """Set `copy` to momentum * copy + (1 - momentum) * online, in place.

    This includes buffers, such as the running statistics of BatchNorm, which the copy needs in evaluation mode;
    integers are copied.

    Args:
        copy: a network of the same architecture as `online`.
        online: the network to follow.
        momentum: from 0 to 1.
    """
    now = online.state_dict()
    for name, value in copy.state_dict().items():
        if value.is_floating_point():
            value.lerp_(now[name], 1 - momentum)
        else:
            value.copy_(now[name])


def cosine_momentum(step: int, steps: int, start: float, end: float = 1.0) -> float:
    """Momentum at step `step` of `steps`: end - (end - start) * (cos(pi * step / steps) + 1) / 2.

    The schedule of BYOL (Grill et al. 2020, section 3.2) and of MoCo v3; constant if `end` equals `start`.
    Sanity values for 0.996 to 1: 0.996 at the start, 0.998 after half of the steps, 1 after all.

    Raises:
        ArgumentError: a schedule without steps, or a step outside of it.
    """
    steps = whole_number("steps", steps)
    step = whole_number("step", step, 0, steps)
    return end - (end - start) * (math.cos(math.pi * step / steps) + 1) / 2

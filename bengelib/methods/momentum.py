"""A target network: a copy of a network that follows it slowly, the moving average of what it has been.

BYOL and MoCo ask a network to agree with such a copy. What the copy says changes little from step to step, and no
gradient reaches it (He et al. 2020, arXiv:1911.05722, equation 2; Grill et al. 2020, arXiv:2006.07733, equation 1).
"""

import math
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from bengelib.arguments import real_number, whole_number


class Target(nn.Module):
    """A copy of a network that moves towards it after each optimiser step: m * copy + (1 - m) * network.

    `fit` calls `after_step` of a model, if it has one, after each step of the optimiser, and the model passes the call
    on. So steps are counted where they are made, whatever the number of forward passes, and a validation moves nothing.
    """

    def __init__(self, online: nn.Module, momentum: float = 0.99, final: float = 1.0) -> None:
        """Copy `online`, which must not be a part of this module, or the two would be trained as one.

        Args:
            online: the network to follow; what it takes and gives is what the copy takes and gives.
            momentum: m at the first step, from 0 (the copy is the network as it was a step ago) to 1 (it never moves).
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
        """The answer of the copy, through which no gradient goes."""
        answer: Tensor = self.network(batch)
        return answer

    def after_step(self, online: nn.Module, step: int, steps: int) -> None:
        """Move towards `online` after optimiser step `step` of `steps`, the first of which is 0."""
        follow(self.network, online, cosine_momentum(step, steps, self.momentum, self.final))


@torch.no_grad()
def follow(copy: nn.Module, online: nn.Module, momentum: float) -> None:
    """Set `copy` to momentum * copy + (1 - momentum) * online, in place.

    That holds for weights and for buffers, such as the running statistics of BatchNorm, which a copy in evaluation
    normalises with; whole numbers are taken over as they are.

    Args:
        copy: a network of the same make as `online`.
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

    The schedule of BYOL (Grill et al. 2020, section 3.2) and of MoCo v3; the same all along where `end` is `start`.
    Sanity values for 0.996 to 1: 0.996 at the start, 0.998 after half of the steps, 1 after all.

    Raises:
        ArgumentError: a schedule of no steps, or a step that is not among them.
    """
    steps = whole_number("steps", steps)
    step = whole_number("step", step, 0, steps)
    return end - (end - start) * (math.cos(math.pi * step / steps) + 1) / 2

"""Measures the cost of a step of each self-supervised method: `python -m bengelib bench methods`.

All methods are timed in turn, round after round, on the same batch of noise, with the networks and the sizes of the
command `pretrain`. A step consists of forward and backward pass and the method's own updates, such as that of its
target. Making views, which is the same for most methods, is not included; see `bench views`.
"""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.utils.data import Dataset

from bengelib.arguments import whole_number
from bengelib.bands import PATCH_SIZE, S1_BANDS, S2_BANDS
from bengelib.cli.bench import compare, tabulate, time_in_turn
from bengelib.cli.commands import view_size
from bengelib.convolution import channels_last
from bengelib.data.batches import read_samples
from bengelib.devices import make_accelerator
from bengelib.engine import seed_everything
from bengelib.fusion import EarlyFusion
from bengelib.methods import TABLE
from bengelib.methods.pairs import Pairs
from bengelib.recipes.pretraining import FULL_WIDTH, Pretraining, build_encoder, pretext, strong_views
from bengelib.transforms import Batch

INPUTS = {"s2": S2_BANDS, "s1": S1_BANDS}


class _Noise(Dataset[Batch]):
    """Noise patches of both sensors at random locations."""

    def __init__(self, count: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.images = {
            key: torch.rand(count, len(bands), PATCH_SIZE, PATCH_SIZE, generator=generator)
            for key, bands in INPUTS.items()
        }
        self.lonlat = 40 * torch.rand(count, 2, generator=generator)

    def __len__(self) -> int:
        return len(self.lonlat)

    def __getitem__(self, index: int) -> Batch:
        return {**{key: images[index] for key, images in self.images.items()}, "lonlat": self.lonlat[index]}


def bench_methods(
    *, batch_size: int = 32, precision: str = "auto", rounds: int = 5, progress: bool = True
) -> pd.DataFrame:
    """Time a step of each method relative to that of SimCLR.

    Args:
        batch_size: patches of both sensors per step.
        precision: see `bengelib.devices.choose_precision`.
        rounds: number of timings of each method, after a warm-up.
        progress: whether to show a progress bar.

    Returns:
        A row a method: `ms/step` (median), `lowest`, `highest`, `x SimCLR` (median over the rounds of the share of
        SimCLR's step), and `multiply-adds`, the same as counted (`bengelib.methods.COST`).

    Raises:
        ValueError: no rounds, or a batch with nothing to compare.
    """
    rounds, batch_size = whole_number("rounds", rounds), whole_number("batch_size", batch_size, 2)
    accelerator = make_accelerator(precision)
    with ExitStack() as stack:
        steps = {name: _step(name, batch_size, accelerator, stack) for name in TABLE}
        seconds = time_in_turn(steps, rounds, accelerator.device, progress)
    table = tabulate(seconds, "ms/step", compare(seconds, "simclr"), "x SimCLR", "method")
    return table.assign(**{"multiply-adds": [TABLE[name].cost for name in table.index]})


def _step(method: str, batch_size: int, accelerator: Any, stack: ExitStack) -> Callable[[], None]:
    """A step of a method, on a batch with ready-made views; `stack` restores the memory layout of its network."""
    settings = Pretraining(method=method, batch_size=batch_size)
    seed_everything(0)
    width = settings.width / FULL_WIDTH
    if TABLE[method].two_sensors:
        encoders: list[Any] = [EarlyFusion({key: bands}, settings.depth, width) for key, bands in INPUTS.items()]
    else:
        encoders = [build_encoder(INPUTS, method, settings.depth, settings.width)]
    data: Dataset[Any] = _Noise(batch_size)
    if "two dates" in TABLE[method].needs:
        data = Pairs(data, np.roll(np.arange(batch_size), 1))
    made = pretext(encoders[0], data, strong_views(view_size(settings, encoders[0])), settings, *encoders[1:])
    stack.enter_context(channels_last(made.model.train()))
    model: Any = accelerator.prepare_model(made.model)
    after: Any = getattr(made.model, "after_step", None)
    batch = {key: value.to(accelerator.device) for key, value in read_samples(made.data, range(batch_size)).items()}
    views = made.augment(batch, torch.Generator(accelerator.device).manual_seed(0))

    def step() -> None:
        with accelerator.autocast():
            outputs = model(views)
            loss = sum(task.loss(outputs, views) for task in made.tasks)
        accelerator.backward(loss)
        model.zero_grad()
        if after is not None:
            after(outputs, 0, 2)

    return step

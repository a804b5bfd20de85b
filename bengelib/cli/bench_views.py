"""Measures what the views of self-supervised learning cost beside the step that they are made for.

Run it with::

    python -m bengelib bench views

Both run in turn on the same device, on images made of noise, so no dataset is needed.
"""

from collections.abc import Callable

import pandas as pd
import torch

from bengelib.arguments import whole_number
from bengelib.bands import S2_BANDS
from bengelib.cli.bench import compare, noise_patches, tabulate, time_in_turn
from bengelib.convolution import channels_last
from bengelib.devices import make_accelerator
from bengelib.fusion import EarlyFusion
from bengelib.recipes.pretraining import strong_views
from bengelib.ssl import Contrast, SiameseNetwork
from bengelib.transforms import Batch
from bengelib.views import TwoViews

_STEP = "encoder, forward and backward"


def bench_views(
    *,
    batch_size: int = 256,
    size: int = 64,
    width: float = 0.5,
    precision: str = "auto",
    rounds: int = 7,
    progress: bool = True,
) -> pd.DataFrame:
    """Time two views of a batch of Sentinel-2 patches (12 bands, 120 x 120), and the step of SimCLR that they feed.

    Args:
        batch_size: patches.
        size: pixels along a side of a view.
        width: of the ResNet-18; 1 is the usual one.
        precision: see `bengelib.devices.choose_precision`.
        rounds: how often each is timed, after one time that does not count.
        progress: whether to show a progress bar.

    Returns:
        A row for each: `ms/batch` (median), `lowest`, `highest`, and `of the step`, the median over the rounds of its
        share of the encoder's step.

    Raises:
        ValueError: no rounds, or a batch with nothing to compare.
    """
    rounds, batch_size = whole_number("rounds", rounds), whole_number("batch_size", batch_size, 2)
    accelerator = make_accelerator(precision)
    device = accelerator.device
    make = TwoViews(strong_views(size))
    torch.manual_seed(0)
    model = accelerator.prepare_model(SiameseNetwork(EarlyFusion({"s2": S2_BANDS}, width=width), 128, hidden=512))
    task, generator = Contrast("simclr"), torch.Generator().manual_seed(0)
    batch: Batch = {"s2": noise_patches(batch_size).to(device)}
    views = make(batch, generator)

    def step() -> None:
        with accelerator.autocast():
            loss = task.loss(model(views), views)
        accelerator.backward(loss)
        model.zero_grad()

    jobs: dict[str, Callable[[], object]] = {"two views": lambda: make(batch, generator), _STEP: step}
    with channels_last(model):
        seconds = time_in_turn(jobs, rounds, device, progress)
    return tabulate(seconds, "ms/batch", compare(seconds, _STEP), "of the step", "work")

"""Measures what `fit` adds to the step of a plain training loop: `python -m bengelib bench train`.

Both train the same network on the same images in one process, in turn: `fit` calls its augmentation at the beginning
of each step, and there the clock stops for a step of the plain loop. So whatever else the machine does falls on both.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset
from tqdm import tqdm

from bengelib.arguments import whole_number
from bengelib.bands import S2_BANDS
from bengelib.cli.bench import noise_patches, refuse_described, tabulate
from bengelib.data.batches import steps_per_epoch
from bengelib.data.decode import decode, one_thread
from bengelib.data.packed import PackedBENGE
from bengelib.data.packing import pack
from bengelib.devices import make_accelerator
from bengelib.engine import Augmentation, Trainer
from bengelib.fusion import EarlyFusion
from bengelib.losses import nt_xent
from bengelib.recipes.pretraining import strong_views
from bengelib.ssl import Contrast, SiameseNetwork
from bengelib.transforms import Batch
from bengelib.views import TwoViews

_WARM_UP = 2
"""Turns that do not count."""


def bench_train(
    root: str | Path | None = None,
    *,
    batch_size: int = 128,
    size: int = 48,
    width: float = 0.5,
    rounds: int = 7,
    progress: bool = True,
) -> pd.DataFrame:
    """Time the step of SimCLR in `fit` beside the same step in a plain PyTorch loop.

    On a CPU it is processor time, one step per turn; on a GPU wall-clock time, 20 steps per turn, since copies and
    Python run beside computation there.

    Args:
        root: a ben-ge tree, packed first if it is not; `fit` is then timed with patches from the pack as well, beside
            the plain loop on patches that lie in memory. Without it all are noise in memory.
        batch_size: patches per step, with two views of each.
        size: pixels along a side of a view.
        width: of the ResNet-18; 1 is the usual one.
        rounds: a quarter of the turns that are timed.
        progress: whether to show progress bars.

    Returns:
        One row per loop: `ms/step` (median), `lowest`, `highest`, and `of the plain loop`, the median over the turns of
        the ratio to the plain step of the same turn.

    Raises:
        ArgumentError: a dataset with a `dataset.toml`.
    """
    rounds, batch_size = whole_number("rounds", rounds), whole_number("batch_size", batch_size, 2)
    device = make_accelerator("no").device
    patches = noise_patches(2 * batch_size)
    sources: dict[str, Any] = {}
    if root is not None:
        refuse_described(root)
        packed = PackedBENGE(pack(root, progress=progress), modalities=("s2",))
        first = range(min(2 * batch_size, len(packed)))
        patches = decode(packed.read_batch(first), S2_BANDS)["s2"]
        sources["fit, from the pack"] = Subset(packed, first)
    views = TwoViews(strong_views(size))
    loops: dict[str, list[float]] = {"plain loop": []}
    ratios = {"plain loop": [1.0]}
    for name, data in {"fit": _Patches(patches), **sources}.items():
        with one_thread(), tqdm(desc=name, unit="turn", total=4 * rounds + _WARM_UP, disable=not progress) as bar:
            plain = plain_steps(_network(width), patches.to(device), views, batch_size)
            turns = _InTurn(views, plain, 20 if device.type == "cuda" else 1, bar)
            steps = turns.block * (4 * rounds + _WARM_UP) + 1
            epochs = -(-steps // steps_per_epoch(len(data), batch_size))
            Trainer(precision="no", progress=False).fit(
                _network(width), [Contrast()], data, epochs=epochs, batch_size=batch_size, augment=turns
            )
        ours, theirs = turns.seconds[_WARM_UP:], turns.of_plain[_WARM_UP:]
        loops |= {name: ours, "plain loop": loops["plain loop"] + theirs}
        ratios[name] = [one / other for one, other in zip(ours, theirs, strict=False)]
    return tabulate(loops, "ms/step", ratios, "of the plain loop", "loop")


def plain_steps(model: SiameseNetwork, patches: Tensor, views: Augmentation, batch_size: int) -> Iterator[Tensor]:
    """SimCLR as one writes it without `fit`; each time that the next loss is asked for, a step is made.

    Order, views, layout in memory and optimizer are those of `fit`.
    """
    model.to(patches.device).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05, fused=True)
    order, change = torch.Generator().manual_seed(0), torch.Generator().manual_seed(1)
    while True:
        for chosen in torch.randperm(len(patches), generator=order).split(batch_size):
            batch = views({"s2": patches[chosen]}, change)
            outputs = model(batch)
            loss = nt_xent(outputs["view_1"], outputs["view_2"])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            yield loss.detach()


def _network(width: float) -> SiameseNetwork:
    torch.manual_seed(0)
    return SiameseNetwork(EarlyFusion({"s2": S2_BANDS}, width=width), 128, hidden=512)


class _Patches(Dataset[Batch]):
    """Patches (N, 12, 120, 120) in memory."""

    s2_bands = S2_BANDS

    def __init__(self, patches: Tensor) -> None:
        self.patches = patches

    def __len__(self) -> int:
        return len(self.patches)

    def read_batch(self, indices: list[int]) -> Batch:
        return {"s2": self.patches[indices]}


class _InTurn:
    """An augmentation that times the training which calls it, and has a plain loop make as many steps in turn."""

    def __init__(self, views: Augmentation, plain: Iterator[Tensor], block: int, bar: "tqdm[Any]") -> None:
        self.views, self.plain, self.block, self.bar = views, plain, block, bar
        self.calls, self.seconds, self.of_plain = 0, list[float](), list[float]()
        self._begun = 0.0

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        if self.calls % self.block == 0:
            now = clock()
            if self.calls:
                self.seconds.append((now - self._begun) / self.block)
                self.bar.update()
            for _ in range(self.block):
                next(self.plain)
            self._begun = clock()
            self.of_plain.append((self._begun - now) / self.block)
        self.calls += 1
        return self.views(batch, generator)


def clock() -> float:
    """Seconds of the processor; with a GPU, seconds on the clock at which all that was asked of it is done."""
    if not torch.cuda.is_available():
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()

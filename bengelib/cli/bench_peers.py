"""Compares a first epoch of SimCLR with other libraries: `python -m bengelib bench pretrain --peers`.

All train the same encoder with the same loss on two views of the same size of the same JPEG files, on one thread and
without worker processes, and all read the files in that epoch. They take turns, round after round, so that whatever
else the machine does falls on all of them. What is not installed stands in the table without numbers.
"""

import math
import statistics
import tempfile
from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from bengelib.arguments import whole_number
from bengelib.cli.bench_train import clock
from bengelib.data.decode import one_thread
from bengelib.data.described import DescribedDataset
from bengelib.data.images import ImageFolder, image_modality, list_images
from bengelib.data.packing import pack
from bengelib.devices import make_accelerator
from bengelib.engine import Trainer
from bengelib.fusion import EarlyFusion
from bengelib.losses import nt_xent
from bengelib.modalities import InputSpec
from bengelib.recipes.pretraining import strong_views
from bengelib.ssl import Contrast, SiameseNetwork
from bengelib.views import TwoViews

SIZE = 64
"""Pixels along a side of an image, as in EuroSAT."""
LIGHTLY = "lightly's transforms, DataLoader"
KORNIA = "kornia's batched views, DataLoader"
FOLDER = "bengelib, from the folder"
PACK = "bengelib, from its pack"
_TOML = """[samples]
[modalities.image]
kind = "image"
files = "images/all/{id}.jpg"
bands = ["R", "G", "B"]
unit = "1"
scale = 0.00392156862745098
"""


def bench_peers(
    *,
    batch_size: int = 128,
    images: int = 512,
    view: int = 48,
    width: float = 0.5,
    rounds: int = 3,
    progress: bool = True,
) -> pd.DataFrame:
    """Time a first epoch of SimCLR on a folder of JPEGs, by processor time if it computes on a CPU.

    Args:
        batch_size: images per step, with two views of each.
        images: number of images in the folder, of 64 x 64 pixels; whole batches of them are used.
        view: pixels along a side of a view.
        width: of the ResNet-18; 1 is the standard width.
        rounds: number of timings of each library.
        progress: whether to show a progress bar.

    Returns:
        A row for each way: `samples/s` (median over the rounds), `lowest`, `highest`, and `x lightly`, the median over
        the rounds of the ratio to lightly in the same round. The pack is made beforehand.
    """
    rounds, batch_size = whole_number("rounds", rounds), whole_number("batch_size", batch_size, 2)
    images = whole_number("images", images, batch_size) // batch_size * batch_size
    with tempfile.TemporaryDirectory() as name:
        root = write_folder(Path(name), images)
        ways: dict[str, Callable[[], None] | None] = {
            LIGHTLY: lambda: _plain(_lightly(root, view), batch_size, width),
            KORNIA: lambda: _plain(_Pictures(root), batch_size, width, _kornia(view)),
            FOLDER: lambda: _ours(_folder(root), batch_size, view, width),
            PACK: lambda: _ours(DescribedDataset(root, progress=False), batch_size, view, width),
        }
        for way, package in ((LIGHTLY, "lightly"), (KORNIA, "kornia")):
            if find_spec(package) is None:
                ways[way] = None
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        with one_thread(), tqdm(total=(rounds + 1) * len(ways), unit="epoch", disable=not progress) as bar:
            for number in range(rounds + 1):  # kernels are chosen in the first round, which does not count
                for way, train in ways.items():
                    began = clock()
                    if train is not None:
                        train()
                    if number:
                        seconds[way].append(clock() - began if train else math.nan)
                    bar.update()
    names = {way: way if train else f"{way} (not installed)" for way, train in ways.items()}
    ratios = {way: [a / b for a, b in zip(seconds[LIGHTLY], each, strict=True)] for way, each in seconds.items()}
    return pd.DataFrame(
        {
            "samples/s": {names[way]: images / statistics.median(each) for way, each in seconds.items()},
            "lowest": {names[way]: images / max(each) for way, each in seconds.items()},
            "highest": {names[way]: images / min(each) for way, each in seconds.items()},
            "x lightly": {names[way]: statistics.median(each) for way, each in ratios.items()},
        }
    ).rename_axis("a first epoch")


def write_folder(root: Path, images: int) -> Path:
    """Write smooth random images as JPEGs to a folder of one class, describe and pack them."""
    random = np.random.default_rng(0)
    (root / "images" / "all").mkdir(parents=True)
    for number in range(images):
        coarse = Image.fromarray(random.integers(0, 256, (12, 12, 3), np.uint8))
        coarse.resize((SIZE, SIZE), Image.Resampling.BICUBIC).save(
            root / "images" / "all" / f"{number}.jpg", quality=90, subsampling=0
        )
    (root / "dataset.toml").write_text(_TOML, encoding="utf-8")
    pack(root, progress=False)
    return root


def _folder(root: Path) -> ImageFolder:
    """All files, read."""
    names = list_images(root / "images", need_classes=False)
    return ImageFolder(root / "images", names, size=SIZE, progress=False)


def _network(inputs: InputSpec, width: float) -> SiameseNetwork:
    torch.manual_seed(0)
    return SiameseNetwork(EarlyFusion(inputs, width=width), 128, hidden=512)


def _ours(data: Any, batch_size: int, view: int, width: float) -> None:
    """An epoch of `fit`."""
    trainer, views = Trainer(precision="no", progress=False), TwoViews(strong_views(view, data.inputs))
    trainer.fit(_network(data.inputs, width), [Contrast()], data, epochs=1, batch_size=batch_size, augment=views)


def _plain(data: Dataset[Any], batch_size: int, width: float, augment: nn.Module | None = None) -> None:
    """An epoch of a plain training loop; `data` returns two views of an image or, with `augment`, the image."""
    device = make_accelerator("no").device
    model = _network({"image": image_modality()}, width).to(device).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05, fused=True)
    loader: Iterable[Any] = DataLoader(data, batch_size, shuffle=True, drop_last=True)
    for batch in loader:
        one, other = (augment(batch.to(device)), augment(batch.to(device))) if augment else batch
        outputs = model({"view_1": {"image": one.to(device)}, "view_2": {"image": other.to(device)}})
        nt_xent(outputs["view_1"], outputs["view_2"]).backward()
        optimizer.step()
        optimizer.zero_grad()


class _Pictures(Dataset[Any]):
    """The files of a folder, opened on demand."""

    def __init__(self, root: Path, transform: Callable[[Image.Image], Any] | None = None) -> None:
        self.paths = sorted((root / "images" / "all").iterdir())
        self.transform = transform or _as_tensor

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:
        with Image.open(self.paths[index]) as image:
            return self.transform(image.convert("RGB"))


def _as_tensor(image: Image.Image) -> Tensor:
    """(3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy()).float().div_(255)


def _lightly(root: Path, view: int) -> Dataset[Any]:
    """The files with lightly's transform of SimCLR."""
    return _Pictures(root, import_module("lightly.transforms").SimCLRTransform(input_size=view))


def _kornia(view: int) -> nn.Module:
    """The same augmentation of a whole batch, by the parts of kornia that torchgeo uses."""
    changes = import_module("kornia.augmentation")
    return nn.Sequential(
        changes.RandomResizedCrop((view, view), scale=(0.08, 1.0)),
        changes.RandomHorizontalFlip(),
        changes.ColorJitter(0.8, 0.8, 0.8, 0.2, p=0.8),
        changes.RandomGrayscale(p=0.2),
        changes.RandomGaussianBlur((5, 5), (0.1, 2.0), p=0.5),
    )

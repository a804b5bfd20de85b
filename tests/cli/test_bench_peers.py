import sys
from types import ModuleType

import pytest
import torch
from torch import nn

from bengelib.cli import bench_peers
from bengelib.cli.bench import describe
from bengelib.data.described import DescribedDataset

SMALL = {"batch_size": 4, "images": 9, "view": 16, "width": 0.125, "rounds": 1, "progress": False}


def test_what_is_not_installed_is_said(monkeypatch):
    monkeypatch.setattr(bench_peers, "find_spec", lambda name: None)
    table = bench_peers.bench_peers(**SMALL)
    missing = [f"{name} (not installed)" for name in (bench_peers.LIGHTLY, bench_peers.KORNIA)]
    assert list(table.index) == [*missing, bench_peers.FOLDER, bench_peers.PACK]
    assert table["samples/s"].isna().tolist() == [True, True, False, False]
    assert "(not installed)" in describe(table).splitlines()[4] and " - |" in describe(table).splitlines()[4]


def test_peers_train_on_views_of_their_own(monkeypatch):
    seen = []

    class Transform:
        def __init__(self, input_size):
            self.size = input_size

        def __call__(self, image):
            seen.append(image.size)
            return [torch.rand(3, self.size, self.size) for _ in range(2)]

    lightly, kornia = ModuleType("lightly.transforms"), ModuleType("kornia.augmentation")
    lightly.SimCLRTransform = Transform
    for name in ("RandomHorizontalFlip", "ColorJitter", "RandomGrayscale", "RandomGaussianBlur"):
        setattr(kornia, name, lambda *_, **__: nn.Identity())
    kornia.RandomResizedCrop = lambda size, scale: nn.AdaptiveAvgPool2d(size)
    for module in (lightly, kornia):
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(sys.modules, module.__name__.partition(".")[0], ModuleType("package"))
    monkeypatch.setattr(bench_peers, "find_spec", lambda name: name)
    table = bench_peers.bench_peers(**SMALL)
    assert (table["samples/s"] > 0).all() and table["x lightly"].iloc[0] == 1
    assert seen == [(64, 64)] * 2 * 8  # a round that does not count, and one that does


def test_the_folder_and_its_pack_hold_the_same_images(tmp_path):
    root = bench_peers.write_folder(tmp_path, 3)
    one, other = bench_peers._folder(root), DescribedDataset(root, progress=False)
    assert other.patch_ids == ["0", "1", "2"] and (root / "packed").is_dir()
    for number in range(3):
        torch.testing.assert_close(one[number]["image"], other[number]["image"], rtol=0, atol=0.02)


def test_a_folder_smaller_than_a_batch_is_refused():
    with pytest.raises(ValueError, match="images=3"):
        bench_peers.bench_peers(batch_size=4, images=3)

"""Points in place of images, so that a method trains in a fraction of a second."""

import torch
from torch import nn
from torch.utils.data import Dataset

from bengelib.engine import History, seed_everything
from bengelib.transforms import Batch
from tests.training import fit_with

DIM = 16


class Points(Dataset):
    """Each sample is a point (16,) under `x` and another look at it under `y`."""

    def __init__(self, count: int = 128, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.x = torch.randn(count, DIM, generator=generator)
        self.y = self.x.flip(1) + 0.3 * torch.randn(count, DIM, generator=generator)
        self.lonlat = torch.rand(count, 2, generator=generator) * 20

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int | slice) -> Batch:
        return {"x": self.x[index], "y": self.y[index], "lonlat": self.lonlat[index]}


class Encoder(nn.Module):
    """Two layers on the points under `key`, with a batch normalisation, as a ResNet has."""

    def __init__(self, key: str = "x", feature_dim: int = 32) -> None:
        super().__init__()
        self.key, self.feature_dim, self.inputs = key, feature_dim, {key: ()}
        self.layers = nn.Sequential(nn.Linear(DIM, feature_dim), nn.BatchNorm1d(feature_dim), nn.ReLU())

    def forward(self, batch: Batch) -> torch.Tensor:
        features: torch.Tensor = self.layers(batch[self.key])
        return features


def encoder(key: str = "x") -> Encoder:
    """One with the same random weights at every call."""
    seed_everything(0)
    return Encoder(key)


def noisy(batch: Batch, generator: torch.Generator, noise: float = 0.3) -> Batch:
    """The points, moved a little."""
    moved = {key: batch[key] + noise * torch.randn(batch[key].shape, generator=generator) for key in ("x", "y")}
    return {**batch, **moved}


def train(model: nn.Module, tasks: list, data: Dataset | None = None, **options: object) -> History:
    """Train on the points with two noisy views of each."""
    from bengelib.views import TwoViews

    chosen = {"epochs": 8, "batch_size": 32, "lr": 1e-2, "precision": "no", "progress": False, "monitor_every": 1}
    return fit_with(model, tasks, data or Points(), **{"augment": TwoViews(noisy), **chosen, **options})

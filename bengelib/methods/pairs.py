"""Views of two locations or two dates: each patch is paired with another one of its tile.

After Mañas et al. 2021 (SeCo, arXiv:2103.16607), whose positives are images of one place in different seasons.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from bengelib.arguments import real_number
from bengelib.data.batches import source_dataset
from bengelib.data.splits import mgrs_tile
from bengelib.errors import ArgumentError, TableError
from bengelib.transforms import Batch
from bengelib.views import Augmentation

EARTH_RADIUS = 6_371_000.0
"""Metres."""


def neighbours(meta: pd.DataFrame, how: str = "nearest", seed: int = 0, within: float | None = None) -> np.ndarray:
    """A partner for each patch of a meta table, from the same MGRS tile, for pairs of views.

    Partners are patches of the table, so pass the training split: `neighbours(train.meta)`.

    Args:
        meta: with the columns `patch_id_s1`, `lon` and `lat` in degrees, and `timestamp_s2` for `"date"`.
        how: `"nearest"` is the closest patch, `"tile"` a random one of the tile, and `"date"` the closest one with a
            Sentinel-2 acquisition on another date.
        seed: of the choice, for `"tile"`.
        within: largest distance of a partner in metres, for `"nearest"` and `"date"`. Patches of ben-ge are 1,200 m
            wide, so `how="date", within=600` finds the same location on another date.

    Returns:
        Row number of the partner, (N,) int64; the row itself if the tile has no other patch (of another date, or close
        enough).

    Raises:
        ValueError: an unknown `how`, or (`ArgumentError`) a distance below 0 or for `"tile"`.
        TableError: a column is missing.
    """
    if how not in ("nearest", "tile", "date"):
        raise ValueError(f"unknown how={how!r}; choose 'nearest', 'tile' or 'date'")
    if within is not None and how == "tile":
        raise ArgumentError(f"within={within!r} is for how='nearest' and how='date'; a partner of the tile is any one")
    reach = np.inf if within is None else real_number("within", within, least=0) / EARTH_RADIUS
    needed = ["patch_id_s1", *(["lon", "lat"] if how != "tile" else []), *(["timestamp_s2"] if how == "date" else [])]
    if missing := [column for column in needed if column not in meta.columns]:
        raise TableError(f"neighbours need the columns {missing}; the table has {list(meta.columns)}")
    tiles = np.array([mgrs_tile(patch_id) for patch_id in meta["patch_id_s1"]])
    partners = np.arange(len(meta))
    random = np.random.default_rng(seed)
    for tile in np.unique(tiles):
        rows = np.flatnonzero(tiles == tile)
        if len(rows) < 2:
            continue
        if how == "tile":  # a random cycle through the tile, so that no patch is its own partner
            cycle = random.permutation(rows)
            partners[cycle] = np.roll(cycle, 1)
            continue
        here = meta.iloc[rows]
        lon, lat = (np.deg2rad(here[column].to_numpy(float)) for column in ("lon", "lat"))
        east = lon * np.cos(lat.mean())  # a tile is 100 km wide, so a plane is accurate enough
        distance = (east[:, None] - east) ** 2 + (lat[:, None] - lat) ** 2  # (n, n)
        np.fill_diagonal(distance, np.inf)
        if how == "date":
            dates = here["timestamp_s2"].astype(str).str.slice(0, 10).to_numpy()
            distance[dates[:, None] == dates] = np.inf
        closest = distance.argmin(axis=1)
        nearest = distance[np.arange(len(rows)), closest]
        found = np.isfinite(nearest) & (nearest <= reach**2)
        partners[rows[found]] = rows[closest[found]]
    return partners


class Pairs(Dataset[Any]):
    """A dataset of samples and their partners: a batch holds B samples, then their B partners.

    `fit(model, tasks, Pairs(train, neighbours(train.meta)), augment=PairViews(Views(64)))` decodes such a batch like
    any other, and `PairViews` then splits it. It reads whole batches, so it requires `workers=0`.
    """

    def __init__(self, data: Dataset[Any], partners: Sequence[int] | np.ndarray) -> None:
        """Pair sample i of `data` with sample `partners[i]`.

        Raises:
            ArgumentError: not one partner per sample, or invalid indices.
        """
        size = len(data)  # type: ignore[arg-type]
        self.data = data
        found = np.asarray(partners)
        if found.shape != (size,) or found.dtype.kind not in "iu" or not ((found >= 0) & (found < size)).all():
            raise ArgumentError(
                f"{size} samples need {size} partners from 0 to {size - 1}; got {found.dtype} of shape {found.shape}"
            )
        self.partners = found.astype(np.int64)
        for name in ("inputs", "decode"):  # for `fit`, which compares the first with the model
            if hasattr(source := source_dataset(data), name):
                setattr(self, name, getattr(source, name))

    def __len__(self) -> int:
        return len(self.partners)

    def __getitem__(self, index: int) -> Batch:
        raise TypeError("Pairs reads whole batches; use read_batch([...]), or fit with workers=0")

    def read_batch(self, indices: Sequence[int]) -> Batch:
        """Samples `indices`, then their partners, as one batch of twice the size."""
        both = [*indices, *self.partners[list(indices)].tolist()]
        read = getattr(self.data, "read_batch", None)
        if read is not None and getattr(self.data, "transform", None) is None:
            batch: Batch = read(both)
            return batch
        return dict(default_collate([self.data[index] for index in both]))


def halves(batch: Batch) -> tuple[Batch, Batch]:
    """Split a batch of `Pairs` into samples and partners."""
    length = next(len(value) for value in batch.values() if isinstance(value, Tensor)) // 2
    return (
        {key: value[:length] for key, value in batch.items()},
        {key: value[length:] for key, value in batch.items()},
    )


class PairViews:
    """Two views from a batch of `Pairs`: `view_1` of each sample, `view_2` of its partner."""

    def __init__(self, views: Augmentation) -> None:
        """Make each view with `views`."""
        self.views = views

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """The first half of the batch, with both views."""
        first, second = halves(batch)
        return {**first, "view_1": self.views(first, generator), "view_2": self.views(second, generator)}

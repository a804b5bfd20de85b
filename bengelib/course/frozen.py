"""Comparison of frozen encoders: the features of each in every part of a split, and probes on them, fitted once."""

import warnings
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors

from bengelib.data.decode import decode
from bengelib.data.labelled import label_subsets
from bengelib.data.packed import PackedBENGE
from bengelib.intervals import Interval, bootstrap
from bengelib.probe import LinearProbe, fit_logistic, knn_probe


class FrozenFeatures:
    """Features of named encoders, and predictions of probes on them; iteration gives the names.

    Attributes:
        features: by name and split, (N, F) each.
    """

    def __init__(self, labels: Mapping[str, np.ndarray], tiles: Mapping[str, np.ndarray], classes: int) -> None:
        """Begin without encoders.

        Args:
            labels: class indices (N,) by split; probes are fitted on `train`.
            tiles: the tile of each patch, by split; intervals resample whole tiles.
            classes: number of classes.
        """
        self.labels, self.tiles, self.classes = labels, tiles, classes
        self.features: dict[str, dict[str, np.ndarray]] = {}
        self._probes: dict[tuple[str, bytes], LinearProbe] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self.features)

    def add(self, name: str, features: Mapping[str, np.ndarray]) -> None:
        """Add or replace the features (N, F) of an encoder by split."""
        self.features[name] = dict(features)
        self._probes = {key: probe for key, probe in self._probes.items() if key[0] != name}

    def predict(self, name: str, split: str, chosen: np.ndarray | None = None) -> np.ndarray:
        """Classes (N,) of one split, predicted by a logistic probe.

        Args:
            name: of the encoder.
            split: the split.
            chosen: indices of the labelled training patches; all if None.
        """
        chosen = self._all(chosen)
        key = name, chosen.tobytes()
        if key not in self._probes:
            known = self.features[name]["train"][chosen]
            self._probes[key] = fit_logistic(known, self.labels["train"][chosen], self.classes)
        return self._probes[key].predict(self.features[name][split])

    def nearest(self, name: str, split: str, chosen: np.ndarray | None = None) -> np.ndarray:
        """Classes (N,) of one split by the 20 nearest labelled patches; arguments as for `predict`."""
        chosen = self._all(chosen)
        known = self.features[name]["train"][chosen]
        return knn_probe(known, self.labels["train"][chosen], self.features[name][split])

    def score(
        self, name: str, split: str, chosen: Sequence[np.ndarray | None] = (None,), draws: int = 1000
    ) -> Interval:
        """Mean accuracy of logistic probes on one split, with its interval over draws of labels and tiles.

        Args:
            name: of the encoder.
            split: the split.
            chosen: indices of the labelled training patches in each draw of labels.
            draws: of the bootstrap.
        """
        predicted = np.stack([self.predict(name, split, labelled) for labelled in chosen])
        return bootstrap(predicted, self.labels[split], groups=list(self.tiles[split]), draws=draws)

    def standard(self, name: str, split: str) -> np.ndarray:
        """Features (N, F) of one split, each of mean 0 and standard deviation 1."""
        values = self.features[name][split]
        scaled: np.ndarray = (values - values.mean(axis=0)) / (values.std(axis=0) + 1e-6)
        return scaled

    def neighbour(self, name: str, split: str) -> np.ndarray:
        """Index (N,) of the patch of the same split with the nearest standardised features."""
        scaled = self.standard(name, split)
        found: np.ndarray = NearestNeighbors(n_neighbors=2).fit(scaled).kneighbors(scaled)[1][:, 1]
        return found

    def _all(self, chosen: np.ndarray | None) -> np.ndarray:
        return np.arange(len(self.labels["train"])) if chosen is None else chosen


def label_draws(
    labels: np.ndarray, fractions: Sequence[float], seeds: Sequence[int]
) -> tuple[list[dict[float, np.ndarray]], list[float]]:
    """Draws of labelled patches, and the fractions at which every class has a label in all of them.

    Args:
        labels: class indices (N,) of the training patches.
        fractions: of labelled patches, see `data.labelled.label_subsets`.
        seeds: one per draw.

    Returns:
        Indices of the labelled patches by fraction, for each draw; and the fractions, ascending.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about the smallest fractions, which leave a class without labels
        drawn = [label_subsets(labels, fractions, seed) for seed in seeds]
    return drawn, sorted(set.intersection(*(set(draw) for draw in drawn)))


def band_statistics(data: PackedBENGE, batch_size: int = 100) -> np.ndarray:
    """Mean and standard deviation of each Sentinel-2 band over the patch, (N, 2 k): features without learning."""
    parts = []
    for start in range(0, len(data), batch_size):
        stored = data.read_batch(range(start, min(start + batch_size, len(data))))
        s2 = decode(stored, data.s2_bands)["s2"]  # (B, k, H, W)
        parts.append(torch.cat([s2.mean(dim=(2, 3)), s2.std(dim=(2, 3))], dim=1))
    return torch.cat(parts).numpy()

"""The geolocation pretext task: in which region was an image taken? Every georeferenced image has that label.

After Ayush et al. 2021 (arXiv:2011.09980), who train a network to classify the cluster of an image's location.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from bengelib.arguments import as_indices, whole_number
from bengelib.errors import ArgumentError, MissingModalityError
from bengelib.methods.harmonics import check_lonlat
from bengelib.modalities import MODALITIES, Modality
from bengelib.tasks import Classification


@dataclass(frozen=True)
class PlaceClusters:
    """Regions of the Earth, each around a centre: labels of georeferenced images without annotation.

    Attributes:
        centres: longitude and latitude in degrees, (K, 2).
    """

    centres: np.ndarray

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the regions, such as "15.3E 48.1N"."""
        return tuple(
            f"{abs(lon):.1f}{'E' if lon >= 0 else 'W'} {abs(lat):.1f}{'N' if lat >= 0 else 'S'}"
            for lon, lat in self.centres
        )

    def predict(self, lonlat: np.ndarray | Tensor) -> np.ndarray:
        """Index of the region with the nearest centre, (N,) int64, for degrees (N, 2)."""
        nearest: np.ndarray = self.nearest(torch.as_tensor(lonlat)).cpu().numpy()
        return nearest

    def nearest(self, lonlat: Tensor) -> Tensor:
        """The result of `predict`, computed and kept on the device of `lonlat`."""
        centres = on_sphere(torch.from_numpy(self.centres)).to(lonlat.device, _exact(lonlat))
        return (on_sphere(lonlat) @ centres.T).argmax(dim=1)


def place_clusters(lonlat: np.ndarray | Tensor, clusters: int = 20, seed: int = 0) -> PlaceClusters:
    """Regions by k-means on the unit sphere (scikit-learn).

    Fit them on training patches only; `predict` then labels the others, and `Geolocation` is the task.

    Args:
        lonlat: degrees, (N, 2).
        clusters: number of regions.
        seed: of the initial centres.

    Raises:
        ArgumentError: invalid locations, see `harmonics.check_lonlat`, or fewer distinct ones than clusters.
    """
    from sklearn.cluster import KMeans  # slow to import, and only needed here

    points = np.asarray(torch.as_tensor(lonlat).cpu(), dtype=np.float64)
    check_lonlat(torch.from_numpy(points))
    different = len(np.unique(points, axis=0))
    if whole_number("clusters", clusters) > different:
        raise ArgumentError(f"{clusters} clusters of {different} different places; choose from 1 to {different}")
    fitted = KMeans(clusters, n_init=10, random_state=seed).fit(on_sphere(torch.from_numpy(points)).numpy())
    x, y, z = fitted.cluster_centers_.T
    return PlaceClusters(np.rad2deg(np.stack([np.arctan2(y, x), np.arctan2(z, np.hypot(x, y))], axis=1)))


def place_of(data: Dataset[Any]) -> Modality:
    """The longitude and latitude among the inputs of a dataset, by their names; else `lonlat` of ben-ge."""
    inputs: Mapping[str, Modality] = getattr(data, "inputs", {})
    return next((each for each in inputs.values() if each.is_place), MODALITIES["lonlat"])


def lonlat_of(data: Dataset[Any]) -> np.ndarray:
    """Degrees (N, 2) of all samples of a dataset: `lon` and `lat` in `meta`, its table of places, or an array.

    Raises:
        MissingModalityError: the dataset has none of them.
        BandError: a described dataset has no place, see `place_of`.
    """
    if isinstance(data, Subset):
        whole = lonlat_of(data.dataset)
        return whole[as_indices(data.indices, len(whole))]
    meta = getattr(data, "meta", None)
    if meta is not None and {"lon", "lat"} <= set(meta.columns):
        return np.array(meta[["lon", "lat"]], dtype=float)
    if hasattr(data, "table"):
        return np.asarray(data.table(place_of(data).name), dtype=float)
    if hasattr(data, "lonlat"):
        return np.asarray(torch.as_tensor(data.lonlat).cpu(), dtype=float)
    raise MissingModalityError(
        f"{type(data).__name__} does not say where its samples lie: it has neither a table `meta` with lon and lat nor "
        "an array `lonlat` (N, 2) of degrees"
    )


def on_sphere(lonlat: Tensor) -> Tensor:
    """Points on the unit sphere, (N, 3), for degrees (N, 2); in 64 bits if the device supports them."""
    lon, lat = torch.deg2rad(lonlat.to(_exact(lonlat))).unbind(dim=1)
    return torch.stack([lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()], dim=1)


def _exact(values: Tensor) -> torch.dtype:
    return torch.float32 if values.device.type == "mps" else torch.float64


class Geolocation(Classification):
    """Geolocation task: the class is the region of the batch's locations, for a `Network` with such a head."""

    def __init__(self, clusters: PlaceClusters, target: str = "place", key: str = "lonlat") -> None:
        """Predict `target`, an index into `clusters`, from longitude and latitude under `key`."""
        super().__init__(target, clusters.names)
        self.clusters, self.key = clusters, key

    def labelled(self, batch: Mapping[str, Any]) -> Tensor:
        """Number of samples of a batch, (), all of which have a location."""
        return torch.tensor(len(batch[self.key]))

    def check(self, batch: Mapping[str, Any]) -> None:
        """Do nothing: every location has a nearest centre."""

    def _pair(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        if self.key not in batch:
            raise MissingModalityError(
                f"no {self.key!r} in a batch of {sorted(batch)}; add it to the dataset's targets"
            )
        labels = self.clusters.nearest(batch[self.key])
        return super()._pair(outputs, {**batch, self.target: labels})

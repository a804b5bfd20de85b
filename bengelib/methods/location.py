"""Location encoders: from longitude and latitude to features, alone or contrasted with images.

Locations are encoded as spherical harmonics, which are continuous across the date line and at the poles, and read by a
SIREN, a perceptron with sines as activations (Sitzmann et al. 2020, arXiv:2006.09661), as in Russwurm et al. 2024
(arXiv:2310.06743). Contrasted with images (SatCLIP, Klemmer et al. 2025, arXiv:2311.17179), the encoder learns the
appearance of locations without labels.

Features of `degrees` degrees resolve about 180 / degrees degrees: 2,000 km for 10, 500 km for 40. With few training
samples, many degrees of equal weight predict held-out locations worse than few; see `falloff`.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bengelib.arguments import check_share, real_number, whole_number
from bengelib.errors import BandError, MissingModalityError
from bengelib.losses import cross_modal
from bengelib.methods.harmonics import MOST_DEGREES, check_lonlat, harmonics
from bengelib.modalities import MODALITIES, Modality
from bengelib.ssl import feature_dim
from bengelib.transforms import Batch

_LARGEST_SCALE = 100.0
"""Largest factor on the cosines, as in CLIP; SatCLIP has no limit."""


class Sine(nn.Module):
    """sin(frequency * x)."""

    def __init__(self, frequency: float) -> None:
        """Set the frequency, w_0 in the paper."""
        super().__init__()
        self.frequency = frequency

    def forward(self, x: Tensor) -> Tensor:
        """Values in [-1, 1], of the shape of `x`."""
        return torch.sin(self.frequency * x)


def siren(
    inputs: int, hidden: int, layers: int, outputs: int, frequency: float = 30.0, dropout: float = 0.0
) -> nn.Sequential:
    """Layers sin(w_0 (W x + b)) and a linear one (Sitzmann et al. 2020, section 3.2 and theorem 1.8).

    Weights are drawn from +-1 / inputs in the first layer, and from +-sqrt(6 / inputs) / w_0 in the others, where w_0
    is 1, which keeps the spread of activations constant.

    Args:
        inputs: number of inputs.
        hidden: width of each layer.
        layers: number of layers with a sine.
        outputs: number of outputs.
        frequency: w_0 of the first layer; higher values give finer detail.
        dropout: fraction of activations set to 0 in training.
    """
    parts: list[nn.Module] = []
    for layer in range(layers + 1):
        linear = nn.Linear(hidden if layer else inputs, hidden if layer < layers else outputs)
        bound = math.sqrt(6 / hidden) if layer else 1 / inputs
        nn.init.uniform_(linear.weight, -bound, bound)
        nn.init.uniform_(linear.bias, -bound, bound)
        parts.append(linear)
        if layer < layers:
            parts.append(Sine(1.0 if layer else frequency))
            parts += [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(*parts)


class LocationEncoder(nn.Module):
    """Spherical harmonics and a SIREN over the locations of a batch.

    An encoder like those of `fusion`, for heads (`Network`), probes, and `JoinedEncoders` with an image encoder.

    Attributes:
        inputs: longitude and latitude, a `Modality` by key.
        feature_dim: length of the features.
    """

    def __init__(
        self,
        degrees: int = 20,
        hidden: int = 128,
        layers: int = 2,
        feature_dim: int = 128,
        falloff: float = 2.0,
        frequency: float = 30.0,
        dropout: float = 0.0,
        place: Modality = MODALITIES["lonlat"],
    ) -> None:
        """Build the encoder with random weights.

        Args:
            degrees: number of degrees of the harmonics; SatCLIP has 10 and 40. 0 reads longitude / 180 and latitude /
                90 as plain numbers, a baseline for harmonics.
            hidden: width of the layers; SatCLIP has 512.
            layers: number of layers with a sine.
            feature_dim: length of the features; SatCLIP has 256.
            falloff: the harmonics of degree l are scaled by (l + 1)^-falloff, which favours smooth maps over rough
                ones; 0, as in the papers, gives equal weights.
            frequency: see `siren`.
            dropout: see `siren`; SatCLIP has 0.5.
            place: longitude and latitude, by whose name they stand in a batch.

        Raises:
            ArgumentError: naming the argument that is out of range.
            BandError: `place` is something else.
        """
        super().__init__()
        if not place.is_place:
            raise BandError(f"{place.name!r} has the bands {place.bands}; expected longitude and latitude, by name")
        self.inputs, self.key = {place.name: place}, place.name
        self.degrees = whole_number("degrees", degrees, 0, MOST_DEGREES)
        for name, value in (("hidden", hidden), ("layers", layers), ("feature_dim", feature_dim)):
            whole_number(name, value)
        self.falloff, self.feature_dim = real_number("falloff", falloff, least=0), feature_dim
        real_number("frequency", frequency, above=0)
        check_share("dropout", dropout, zero=True, one=False)
        self.net = siren(degrees**2 or 2, hidden, layers, feature_dim, frequency, dropout)

    def codes(self, lonlat: Tensor) -> Tensor:
        """Inputs of the network for locations in degrees (N, 2): harmonics (N, degrees^2), or plain numbers (N, 2).

        Raises:
            ArgumentError: invalid locations; see `harmonics.check_lonlat`.
        """
        if not self.degrees:
            check_lonlat(lonlat)
            return lonlat / torch.tensor([180.0, 90.0], device=lonlat.device)
        degree = torch.arange(self.degrees**2, device=lonlat.device).double().sqrt().floor()  # l of each column
        features = harmonics(lonlat, self.degrees)
        return features * (degree + 1).pow(-self.falloff).to(features.dtype)

    def forward(self, batch: Batch) -> Tensor:
        """Features (B, feature_dim).

        Raises:
            MissingModalityError: the batch has no locations, or some of its samples have none.
            ArgumentError: invalid locations; see `harmonics.check_lonlat`.
        """
        key = self.key
        if key not in batch:
            raise MissingModalityError(f"no {key!r} in a batch of {sorted(batch)}; add it to the dataset's modalities")
        if not bool(batch.get(f"{key}_available", torch.tensor(True)).all()):
            raise MissingModalityError(f"{key!r} is missing for some samples; join the encoder to others with dropout")
        features: Tensor = self.net(self.codes(batch[key]).to(self.net[0].weight.dtype))  # type: ignore[arg-type]
        return features


class PlaceImage(nn.Module):
    """An image encoder and a location encoder whose embeddings agree where the image was taken.

    Train it with `fit(PlaceImage(encoder, LocationEncoder()), [Contrast(place_image)], ..., augment=views)`.

    Attributes:
        inputs: inputs of both.
        encoder: of images.
        place: of locations; keep it to encode locations without images.
    """

    def __init__(self, encoder: nn.Module, place: LocationEncoder, temperature: float = 0.07) -> None:
        """Join both; a linear layer maps the features of images to the length of those of locations.

        Args:
            encoder: takes a dict batch, returns features (B, feature_dim); see `bengelib.fusion`.
            place: encoder of the batch's `lonlat`.
            temperature: initial value; it is learned.

        Raises:
            BandError: the image encoder reads `lonlat` too, which would reveal the answer.
        """
        super().__init__()
        self.inputs: dict[str, Modality] = {**getattr(encoder, "inputs", {}), **place.inputs}
        if place.key in getattr(encoder, "inputs", {}):
            raise BandError(f"the image encoder reads {place.key!r}, which would reveal the answer")
        self.encoder, self.place = encoder, place
        self.to_shared = nn.Linear(feature_dim(encoder), place.feature_dim)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(real_number("temperature", temperature, above=0))))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Embeddings `view_1` of images and `view_2` of places, (B, D) each, `features` (B, F), `temperature` (B,)."""
        features = self.encoder(batch)
        return {
            "view_1": self.to_shared(features),
            "view_2": self.place(batch),
            "features": features,
            "temperature": torch.exp(-self.log_scale.clamp(max=math.log(_LARGEST_SCALE))).expand(len(features)),
        }


def place_image(outputs: Mapping[str, Tensor]) -> Tensor:
    """Contrastive loss between images and their locations within a batch, for `Contrast(place_image)`.

    That is `losses.cross_modal` with a learned temperature. Sanity value: log B if all embeddings are equal.

    Args:
        outputs: `view_1` and `view_2`, (B, D) each with B >= 2, and `temperature`, the same (B,) times, as from a
            `PlaceImage`.

    Raises:
        ValueError: wrong shapes, or a batch of one.
        NonFiniteLossError: an embedding on the CPU is NaN or infinite.
    """
    temperature: Any = outputs["temperature"].mean()
    return cross_modal(outputs["view_1"], outputs["view_2"], temperature)

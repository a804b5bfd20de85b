"""Encoders that turn several modalities of a patch into one feature vector: early and late fusion.

An encoder takes the dict batch in physical units, normalises every modality by band name, and returns (B, feature_dim).
`inputs` says what it reads: a dict from modality to the names of its bands, in order; modalities whose channels have
no names (`dem`, `season`, `lonlat`) take `()`. A single-sensor model is early fusion of one modality.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from bengelib.bands import WEATHER
from bengelib.errors import BandError, MissingModalityError
from bengelib.resnet import ResNetEncoder
from bengelib.transforms import Batch, Normalize

IMAGES = ("s2", "s1", "dem")
"""Modalities that are images; the others are vectors or scalars."""


class Inputs(nn.Module):
    """Takes the named modalities out of a batch and normalises them: the front door of every encoder."""

    def __init__(self, inputs: Mapping[str, Sequence[str]]) -> None:
        """Look up the statistics of each modality's bands.

        Raises:
            BandError: an unknown modality or band, or no modality at all.
        """
        super().__init__()
        if not inputs:
            raise BandError('inputs is empty; give for example {"s2": S2_BANDS}')
        self.names = {key: tuple(bands) for key, bands in inputs.items()}
        self.normalize = nn.ModuleDict({key: Normalize(key, bands) for key, bands in self.names.items()})

    def channels(self, key: str) -> int:
        """How many channels or values modality `key` has."""
        normalize = self.normalize[key]
        assert isinstance(normalize, Normalize)  # for the type checker
        return len(normalize.mean)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Normalised modalities: images (B, k, H, W), vectors and scalars (B, k).

        Raises:
            MissingModalityError: the batch lacks one of them.
        """
        values: dict[str, Tensor] = {}
        for key, normalize in self.normalize.items():
            if key not in batch:
                raise MissingModalityError(
                    f"the model reads {key!r}, but the batch has {sorted(batch)}; "
                    f"add {key!r} to the dataset's modalities"
                )
            value = batch[key]
            if key == "weather":
                value = value[:, [list(WEATHER).index(name) for name in self.names[key]]]
            elif value.ndim == 1:
                value = value[:, None]
            values[key] = normalize(value)
        return values


class EarlyFusion(nn.Module):
    """One ResNet over all modalities stacked as channels; a scalar becomes a plane that has its value everywhere."""

    def __init__(self, inputs: Mapping[str, Sequence[str]], depth: int = 18, width: float = 1.0) -> None:
        """Build the encoder; see the module for `inputs` and `ResNetEncoder` for `depth` and `width`.

        Raises:
            BandError: an unknown modality or band, or no image among the inputs.
        """
        super().__init__()
        self.read = Inputs(inputs)
        self.inputs = self.read.names
        if not any(key in IMAGES for key in self.inputs):
            raise BandError(f"no image among the inputs {list(self.inputs)}; early fusion needs one of {IMAGES}")
        self.resnet = ResNetEncoder(sum(self.read.channels(key) for key in self.inputs), depth, width)
        self.feature_dim = self.resnet.feature_dim

    def stack(self, batch: Batch) -> Tensor:
        """All modalities as the channels of one image, (B, C, H, W), in the order of `inputs`."""
        values = self.read(batch)
        height, width = next(value.shape[2:] for value in values.values() if value.ndim == 4)
        planes = [
            value if value.ndim == 4 else value[:, :, None, None].expand(-1, -1, height, width)
            for value in values.values()
        ]
        return torch.cat(planes, dim=1)  # (B, C, H, W)

    def forward(self, batch: Batch) -> Tensor:
        """Features (B, feature_dim)."""
        return self.resnet(self.stack(batch))


class LateFusion(nn.Module):
    """A ResNet for each image and a small perceptron for each vector; their features are joined end to end."""

    VECTOR_FEATURES = 32

    def __init__(self, inputs: Mapping[str, Sequence[str]], depth: int = 18, width: float = 1.0) -> None:
        """Build one encoder a modality; see the module for `inputs` and `ResNetEncoder` for `depth` and `width`.

        Raises:
            BandError: an unknown modality or band.
        """
        super().__init__()
        self.read = Inputs(inputs)
        self.inputs = self.read.names
        self.encoders = nn.ModuleDict()
        self.feature_dim = 0
        for key in self.inputs:
            channels = self.read.channels(key)
            if key in IMAGES:
                resnet = ResNetEncoder(channels, depth, width)
                self.encoders[key] = resnet
                self.feature_dim += resnet.feature_dim
            else:
                size = self.VECTOR_FEATURES
                self.encoders[key] = nn.Sequential(nn.Linear(channels, size), nn.ReLU(), nn.Linear(size, size))
                self.feature_dim += size

    def forward(self, batch: Batch) -> Tensor:
        """Features (B, feature_dim), those of each modality side by side in the order of `inputs`."""
        values = self.read(batch)
        return torch.cat([self.encoders[key](value) for key, value in values.items()], dim=1)

"""Encoders that turn several modalities of a patch into one feature vector: early, feature and late fusion.

An encoder takes the dict batch in physical units, normalises every modality by band name, and returns (B, feature_dim).
`inputs` says what it reads: by key in a batch, the names of the bands of one of ben-ge's modalities, in order (`()` for
all of them), or a `Modality` of any other dataset. A single-sensor model is early fusion of one modality.

What happens when a modality is missing is never left to chance; `bengelib.inputs` explains it.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bengelib.arguments import whole_number
from bengelib.errors import BandError, MissingModalityError
from bengelib.inputs import Inputs, Missing, only_where
from bengelib.modalities import InputSpec, Modality
from bengelib.resnet import ResNetEncoder
from bengelib.transforms import Batch

VECTOR_FEATURES = 32
"""Length of the features that a vector modality is turned into."""


def planes(values: Mapping[str, Tensor], extra: Tensor | None = None) -> Tensor:
    """Stack images (B, k, H, W) and vectors (B, k) as channels of one image; a scalar becomes an even plane."""
    height, width = next(value.shape[2:] for value in values.values() if value.ndim == 4)
    parts = [*values.values(), *([] if extra is None else [extra])]
    even = [part if part.ndim == 4 else part[:, :, None, None].expand(-1, -1, height, width) for part in parts]
    return torch.cat(even, dim=1)  # (B, C, H, W)


def _perceptron(inputs: int, outputs: int) -> nn.Sequential:
    """Two layers with a rectifier between."""
    return nn.Sequential(nn.Linear(inputs, VECTOR_FEATURES), nn.ReLU(), nn.Linear(VECTOR_FEATURES, outputs))


class EarlyFusion(nn.Module):
    """One ResNet over all modalities stacked as channels; a scalar becomes a plane that has its value everywhere."""

    def __init__(
        self,
        inputs: InputSpec,
        depth: int = 18,
        width: float = 1.0,
        modality_dropout: float = 0.0,
        missing: Missing = "error",
    ) -> None:
        """Build the encoder; see `Inputs` and `ResNetEncoder` for the arguments.

        Raises:
            BandError: an unknown modality or band, or no image among the inputs.
        """
        super().__init__()
        self.read = Inputs(inputs, modality_dropout, missing)
        self.inputs = self.read.modalities
        self.read.require_images()
        channels = sum(self.read.channels(key) for key in self.inputs) + self.read.mask_size
        self.resnet = ResNetEncoder(channels, depth, width)
        self.feature_dim = self.resnet.feature_dim
        self.channels = (channels, *self.resnet.channels)

    def stack(self, batch: Batch) -> Tensor:
        """All modalities as the channels of one image, (B, C, H, W), in the order of `inputs`, then the mask if any."""
        values, available = self.read(batch)
        return planes(values, available.float() if self.read.mask_size else None)

    def pyramid(self, batch: Batch) -> tuple[list[Tensor], Tensor]:
        """What a U-Net needs, and the pooled features (B, feature_dim) from the same pass.

        The maps are the stacked image and those of `ResNetEncoder.pyramid`, finest first, with `channels` channels.
        """
        image = self.stack(batch)
        maps = self.resnet.pyramid(image)
        return [image, *maps], maps[-1].mean(dim=(2, 3))

    def forward(self, batch: Batch) -> Tensor:
        """Features (B, feature_dim)."""
        return self.resnet(self.stack(batch))


class FeatureFusion(nn.Module):
    """A ResNet for each image up to a chosen stage, where their maps are joined, and one ResNet from there on.

    `how` joins the maps: `"concat"` stacks them and mixes the channels back to their number; `"sum"` adds them;
    `"gate"` adds them with weights that each pixel chooses and that add up to 1 (see `gates`), in the manner of gated
    multimodal units (Arevalo et al. 2017, arXiv:1702.01992). Vector modalities join at the end, through a perceptron.
    """

    def __init__(
        self,
        inputs: InputSpec,
        depth: int = 18,
        width: float = 1.0,
        stage: int = 2,
        how: Literal["concat", "sum", "gate"] = "concat",
        modality_dropout: float = 0.0,
        missing: Missing = "error",
    ) -> None:
        """Build the encoders; `stage` 1 to 4 is the ResNet stage after which the maps are joined.

        Raises:
            BandError: an unknown modality or band, or no image among the inputs.
            ValueError: another `stage` or `how`.
        """
        super().__init__()
        stage = whole_number("stage", stage, 1, 4)
        if how not in ("concat", "sum", "gate"):
            raise ValueError(f"unknown how={how!r}; choose 'concat', 'sum' or 'gate'")
        self.read = Inputs(inputs, modality_dropout, missing)
        self.inputs = self.read.modalities
        self.stage, self.how = stage, how
        self.read.require_images()
        self.images, self.vectors = self.read.images, self.read.vectors
        self.encoders = nn.ModuleDict()
        for key in self.images:
            encoder = ResNetEncoder(self.read.channels(key), depth, width)
            for later in range(stage + 1, 5):
                setattr(encoder, f"layer{later}", nn.Identity())
            self.encoders[key] = encoder
        trunk = ResNetEncoder(1, depth, width)
        self.trunk = nn.Sequential(*(getattr(trunk, f"layer{later}") for later in range(stage + 1, 5)))
        channels = trunk.channels[stage]
        joined = channels * len(self.images) + self.read.mask_size
        if how == "concat":
            self.mix = nn.Conv2d(joined, channels, kernel_size=1)
        elif how == "gate":
            self.mix = nn.Conv2d(joined, len(self.images), kernel_size=1)
        self.perceptrons = nn.ModuleDict(
            {key: _perceptron(self.read.channels(key), VECTOR_FEATURES) for key in self.vectors}
        )
        self.feature_dim = trunk.feature_dim + VECTOR_FEATURES * len(self.vectors)
        before = [each * len(self.images) for each in trunk.channels[:stage]]
        self.channels = (sum(self.read.channels(key) for key in self.images), *before, *trunk.channels[stage:])

    def pyramid(self, batch: Batch) -> tuple[list[Tensor], Tensor]:
        """What a U-Net needs, and the features (B, feature_dim) from the same pass.

        The maps are the images side by side, those of their ResNets side by side up to the stage before they are
        joined, the joined map, and those of the one ResNet after it; finest first, with `channels` channels.
        """
        values, available = self.read(batch)
        levels = [self._levels(key, values, available) for key in self.images]
        joined = self._join([level[-1] for level in levels], available)
        before = [torch.cat(level, dim=1) for level in zip(*(level[:-1] for level in levels), strict=True)]
        after = [joined]
        for layer in self.trunk:
            after.append(layer(after[-1]))
        image = torch.cat([values[key] for key in self.images], dim=1)
        return [image, *before, *after], self._features(after[-1], values)

    def _levels(self, key: str, values: Mapping[str, Tensor], available: Tensor) -> list[Tensor]:
        """The maps of one image up to the chosen stage, finest first; those of a missing image are zero."""
        levels = self.encoders[key].pyramid(values[key])[: self.stage + 1]  # type: ignore[operator]
        return [only_where(level, available[:, list(self.inputs).index(key)]) for level in levels]

    def _maps(self, values: Mapping[str, Tensor], available: Tensor) -> list[Tensor]:
        """Each image's map (B, C, h, w) after the chosen stage."""
        return [self._levels(key, values, available)[-1] for key in self.images]

    def _stacked(self, maps: Sequence[Tensor], available: Tensor) -> Tensor:
        """The maps of all images after the chosen stage as channels of one, with the mask if any."""
        return planes(dict(enumerate(maps)), available.float() if self.read.mask_size else None)  # type: ignore[arg-type]

    def gates(self, batch: Batch) -> dict[str, Tensor]:
        """The weight of each image modality at each pixel of the joined map, (B, h, w) in [0, 1], sum 1.

        Raises:
            ValueError: the encoder does not join by gates.
        """
        if self.how != "gate":
            raise ValueError(f'this encoder joins by {self.how!r} and has no gates; build it with how="gate"')
        values, available = self.read(batch)
        stacked = self._stacked(self._maps(values, available), available)
        weights = self._weights(stacked, available)  # (B, M, h, w)
        return {key: weights[:, place] for place, key in enumerate(self.images)}

    def _weights(self, stacked: Tensor, available: Tensor) -> Tensor:
        """Softmax over the modalities that are there, (B, M, h, w)."""
        columns = [list(self.inputs).index(key) for key in self.images]
        absent = ~available[:, columns, None, None]
        scores = self.mix(stacked).masked_fill(absent & ~absent.all(dim=1, keepdim=True), float("-inf"))
        return F.softmax(scores, dim=1)

    def forward(self, batch: Batch) -> Tensor:
        """Features (B, feature_dim)."""
        values, available = self.read(batch)
        joined = self._join(self._maps(values, available), available)
        return self._features(self.trunk(joined), values)

    def _join(self, maps: Sequence[Tensor], available: Tensor) -> Tensor:
        """One map (B, C, h, w) of those of all images after the chosen stage."""
        if self.how == "sum":
            return torch.stack(list(maps)).sum(dim=0)
        stacked = self._stacked(maps, available)
        if self.how == "concat":
            mixed: Tensor = self.mix(stacked)
            return mixed
        weights = self._weights(stacked, available)
        gated: Tensor = sum(weights[:, place, None] * each for place, each in enumerate(maps))  # type: ignore[assignment]
        return gated

    def _features(self, last: Tensor, values: Mapping[str, Tensor]) -> Tensor:
        """The last map averaged over the image, then the features of the vectors, (B, feature_dim)."""
        vectors = [self.perceptrons[key](values[key]) for key in self.vectors]
        return torch.cat([last.mean(dim=(2, 3)), *vectors], dim=1)


class LateFusion(nn.Module):
    """A ResNet for each image and a small perceptron for each vector; their features are joined end to end.

    The features of a missing modality are set to zero, so nothing that its encoder makes of an empty image gets on.
    """

    def __init__(
        self,
        inputs: InputSpec,
        depth: int = 18,
        width: float = 1.0,
        modality_dropout: float = 0.0,
        missing: Missing = "error",
    ) -> None:
        """Build one encoder a modality; see `Inputs` and `ResNetEncoder` for the arguments.

        Raises:
            BandError: an unknown modality or band.
        """
        super().__init__()
        self.read = Inputs(inputs, modality_dropout, missing)
        self.inputs = self.read.modalities
        self.encoders = nn.ModuleDict()
        self.feature_dim = self.read.mask_size
        self.images = self.read.images
        for key in self.inputs:
            channels = self.read.channels(key)
            if key in self.images:
                resnet = ResNetEncoder(channels, depth, width)
                self.encoders[key] = resnet
                self.feature_dim += resnet.feature_dim
            else:
                self.encoders[key] = _perceptron(channels, VECTOR_FEATURES)
                self.feature_dim += VECTOR_FEATURES
        resnets: list[ResNetEncoder] = [self.encoders[key] for key in self.images]  # type: ignore[misc]
        stages = zip(*(resnet.channels for resnet in resnets), strict=True)
        self.channels = (sum(self.read.channels(key) for key in self.images), *(sum(stage) for stage in stages))

    def pyramid(self, batch: Batch) -> tuple[list[Tensor], Tensor]:
        """What a U-Net needs, and the features (B, feature_dim) from the same pass.

        The maps are the images side by side and those of their ResNets side by side, finest first, with `channels`
        channels.

        Raises:
            BandError: no image among the inputs.
        """
        self.read.require_images()
        values, available = self.read(batch)
        pyramids = {}
        for key in self.images:
            there = available[:, list(self.inputs).index(key)]
            maps = self.encoders[key].pyramid(values[key])  # type: ignore[operator]
            pyramids[key] = [values[key], *(only_where(each, there) for each in maps)]
        features = self._join(values, available, {key: maps[-1].mean(dim=(2, 3)) for key, maps in pyramids.items()})
        return [torch.cat(level, dim=1) for level in zip(*pyramids.values(), strict=True)], features

    def forward(self, batch: Batch) -> Tensor:
        """Features (B, feature_dim), those of each modality side by side in the order of `inputs`, then the mask."""
        values, available = self.read(batch)
        return self._join(values, available, {})

    def _join(self, values: Mapping[str, Tensor], available: Tensor, pooled: Mapping[str, Tensor]) -> Tensor:
        """Features of every modality, of which `pooled` are there already."""
        features = [
            only_where(pooled[key] if key in pooled else self.encoders[key](value), available[:, column])
            for column, (key, value) in enumerate(values.items())
        ]
        if self.read.mask_size:
            features.append(available.float())
        return torch.cat(features, dim=1)


class FiLMFusion(nn.Module):
    """One ResNet over the stacked images whose maps are scaled and shifted by what the vector modalities say.

    After each stage, channel c of the map becomes (1 + gamma_c) x + beta_c, with gamma and beta from a perceptron on
    the vectors: feature-wise linear modulation (Perez et al. 2018, arXiv:1709.07871).
    """

    def __init__(
        self,
        inputs: InputSpec,
        depth: int = 18,
        width: float = 1.0,
        modality_dropout: float = 0.0,
        missing: Missing = "error",
    ) -> None:
        """Build the encoder; see `Inputs` and `ResNetEncoder` for the arguments.

        Raises:
            BandError: an unknown modality or band, no image, or no vector among the inputs.
        """
        super().__init__()
        self.read = Inputs(inputs, modality_dropout, missing)
        self.inputs = self.read.modalities
        self.read.require_images()
        self.images, self.vectors = self.read.images, self.read.vectors
        if not self.vectors:
            raise BandError(f"no vector among the inputs {list(self.inputs)}; FiLM needs one, such as 'season'")
        self.resnet = ResNetEncoder(sum(self.read.channels(key) for key in self.images), depth, width)
        given = sum(self.read.channels(key) for key in self.vectors) + self.read.mask_size
        self.modulators = nn.ModuleList(_perceptron(given, 2 * channels) for channels in self.resnet.channels[1:])
        for modulator in self.modulators:
            last = modulator[-1]  # type: ignore[index]
            nn.init.zeros_(last.weight)  # the ResNet starts unmodulated
            nn.init.zeros_(last.bias)
        self.feature_dim = self.resnet.feature_dim

    def forward(self, batch: Batch) -> Tensor:
        """Features (B, feature_dim)."""
        values, available = self.read(batch)
        vectors = [values[key] for key in self.vectors]
        if self.read.mask_size:
            vectors.append(available.float())
        told = torch.cat(vectors, dim=1)  # (B, v)
        resnet = self.resnet
        x = resnet.maxpool(resnet.relu(resnet.bn1(resnet.conv1(planes({key: values[key] for key in self.images})))))
        layers = (resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4)
        for layer, modulator in zip(layers, self.modulators, strict=True):
            gamma, beta = modulator(told)[:, :, None, None].chunk(2, dim=1)  # (B, C, 1, 1) each
            x = (1 + gamma) * layer(x) + beta
        return x.mean(dim=(2, 3))


class DecisionFusion(nn.Module):
    """Networks that decide alone; their probabilities are averaged. Takes the place of a `Network`.

    For single-label targets the mean of the softmax, for those in `multi_label` the mean of the sigmoid, is returned as
    log-odds or log-probabilities, so that the usual losses apply. A network whose modality is missing has no vote.
    """

    def __init__(self, networks: Mapping[str, nn.Module], multi_label: Sequence[str] = ()) -> None:
        """Join `networks`, each under a name, that share their targets; `multi_label` names some of the targets.

        Raises:
            ValueError: no network, targets that differ, or a name in `multi_label` that is none of them.
            BandError: two networks read other bands of the same modality; one batch cannot serve both.
        """
        super().__init__()
        if not networks:
            raise ValueError("no network to join")
        outputs = [getattr(network, "outputs", {}) for network in networks.values()]
        if any(other != outputs[0] for other in outputs):
            raise ValueError(f"the networks answer different targets or classes: {[list(o) for o in outputs]}")
        multi_label = (multi_label,) if isinstance(multi_label, str) else tuple(multi_label)
        if outputs[0] and (unknown := [target for target in multi_label if target not in outputs[0]]):
            raise ValueError(f"multi_label names {unknown}; the networks answer {list(outputs[0])}")
        self.networks = nn.ModuleDict(networks)
        self.multi_label = multi_label
        self.outputs: dict[str, tuple[str, ...]] = outputs[0]
        self.inputs: dict[str, Modality] = {}
        for network in networks.values():
            for key, modality in getattr(network, "inputs", {}).items():
                if (other := self.inputs.setdefault(key, modality)) != modality:
                    raise BandError(f"the networks read different bands or units of {key}: {other} and {modality}")

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Outputs keyed by target, (B, K): log of the mean probability, or log-odds of it for multi-label targets.

        Raises:
            MissingModalityError: no network has its modalities.
        """
        able = [network for network in self.networks.values() if all(key in batch for key in network.inputs)]  # type: ignore[union-attr]
        if not able:
            raise MissingModalityError(f"no network can decide: they read {list(self.inputs)}, given {sorted(batch)}")
        flags = {key: batch[f"{key}_available"] for key in self.inputs if f"{key}_available" in batch}
        complete = {key: value for key, value in batch.items() if not key.endswith("_available")}
        votes = [network(complete) for network in able]
        count, device = next((len(vote), vote.device) for vote in votes[0].values())
        may = torch.ones(len(able), count, dtype=torch.bool, device=device)  # (M, B): who has a vote on which sample
        for row, network in enumerate(able):
            for key in network.inputs:  # type: ignore[union-attr]
                may[row] &= flags.get(key, may[row]).to(device)
        if flags and not bool(may.any(dim=0).all()):
            raise MissingModalityError(f"no network can decide about some samples: they lack {list(self.inputs)}")
        weights = (may / may.sum(dim=0))[:, :, None]  # (M, B, 1)
        joined: dict[str, Tensor] = {}
        for target in votes[0]:
            logits = torch.stack([vote[target].float() for vote in votes])  # (M, B, K)
            if target in self.multi_label:
                joined[target] = torch.logit((logits.sigmoid() * weights).nansum(dim=0), eps=1e-6)
            else:
                joined[target] = (logits.softmax(dim=-1) * weights).nansum(dim=0).clamp_min(1e-8).log()
        return joined

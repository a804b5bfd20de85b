"""Encoders that turn several modalities of a patch into one feature vector: early, feature and late fusion.

An encoder takes a dict batch in physical units, normalises every modality by band name, and returns (B, feature_dim).
`inputs` names what it reads: for each key of a batch, the bands of a modality of ben-ge in order (`()` for all of
them), or a `Modality` of any other dataset. A single-sensor model is early fusion of one modality.

`bengelib.inputs` explains what happens when a modality is missing.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bengelib.arguments import whole_number
from bengelib.errors import BandError, MissingModalityError
from bengelib.inputs import InputNorm, Missing, only_where, stack_channels
from bengelib.modalities import InputSpec, Modality
from bengelib.resnet import ResNetEncoder
from bengelib.transforms import Batch

VECTOR_FEATURES = 32
"""Number of features of a vector modality."""


def _perceptron(inputs: int, outputs: int) -> nn.Sequential:
    """Two linear layers with a ReLU between them."""
    return nn.Sequential(nn.Linear(inputs, VECTOR_FEATURES), nn.ReLU(), nn.Linear(VECTOR_FEATURES, outputs))


class EarlyFusion(nn.Module):
    """One ResNet over all modalities stacked as channels; a scalar becomes a channel of constant value."""

    def __init__(
        self,
        inputs: InputSpec,
        depth: int = 18,
        width: float = 1.0,
        modality_dropout: float = 0.0,
        missing: Missing = "error",
    ) -> None:
        """Build the encoder; see `InputNorm` and `ResNetEncoder` for the arguments.

        Raises:
            BandError: an unknown modality or band, or no image among the inputs.
        """
        super().__init__()
        self.read = InputNorm(inputs, modality_dropout, missing)
        self.inputs = self.read.modalities
        channels = self.read.stacked_channels()
        self.resnet = ResNetEncoder(channels, depth, width)
        self.feature_dim = self.resnet.feature_dim
        self.channels = (channels, *self.resnet.channels)

    def pyramid(self, batch: Batch) -> tuple[list[Tensor], Tensor]:
        """Feature maps for a U-Net, and the pooled features (B, feature_dim) of the same forward pass.

        The maps are the stacked image and those of `ResNetEncoder.pyramid`, finest first, with `channels` channels.
        """
        image = self.read.stack(batch)
        maps = self.resnet.pyramid(image)
        return [image, *maps], maps[-1].mean(dim=(2, 3))

    def forward(self, batch: Batch) -> Tensor:
        """Features (B, feature_dim)."""
        return self.resnet(self.read.stack(batch))


class FeatureFusion(nn.Module):
    """One ResNet per image up to a chosen stage, where their feature maps are fused, and a shared ResNet from there on.

    `how` is the fusion: `"concat"` stacks the maps and reduces the channels to their former number; `"sum"` adds them;
    `"gate"` adds them with weights predicted for each pixel, which sum to 1 (see `gates`), similar to gated multimodal
    units (Arevalo et al. 2017, arXiv:1702.01992). Vector modalities join at the end, through a perceptron.
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
        nets: Mapping[str, nn.Module] | None = None,
    ) -> None:
        """Build the encoders.

        Args:
            inputs: see `InputNorm`, also for `modality_dropout` and `missing`.
            depth: see `ResNetEncoder`, also for `width`.
            width: of all ResNets.
            stage: 1 to 4, the stage after which the maps are fused.
            how: see the class.
            modality_dropout: see `InputNorm`.
            missing: see `InputNorm`.
            nets: networks to take the place of the ResNets, by image, such as `{"s2": encoder.net, ...}` of pretrained
                `ConvNeXtEncoder`s or `resnet` of `EarlyFusion`s. They are copied; what follows the joint is a copy of
                the later stages of the first.

        Raises:
            BandError: an unknown modality or band, no image among the inputs, or networks for other images or channels.
            ValueError: another `stage` or `how`.
        """
        super().__init__()
        stage = whole_number("stage", stage, 1, 4)
        if how not in ("concat", "sum", "gate"):
            raise ValueError(f"unknown how={how!r}; choose 'concat', 'sum' or 'gate'")
        self.read = InputNorm(inputs, modality_dropout, missing)
        self.inputs = self.read.modalities
        self.stage, self.how = stage, how
        self.read.require_images()
        self.images, self.vectors = self.read.images, self.read.vectors
        if nets is None:
            built: dict[str, Any] = {key: ResNetEncoder(self.read.channels(key), depth, width) for key in self.images}
            trunk: Any = ResNetEncoder(1, depth, width)
        else:
            built = {key: deepcopy(net) for key, net in nets.items()}
            _check_nets(built, {key: self.read.channels(key) for key in self.images}, stage)
            trunk = deepcopy(built[self.images[0]])
        self.encoders = nn.ModuleDict({key: built[key] for key in self.images})
        self.trunk, self.last_norm = trunk.after(stage), trunk.last_norm
        for net in built.values():
            net.cut(stage)
        channels = trunk.channels[stage - 5]
        joined = channels * len(self.images) + self.read.mask_size
        if how == "concat":
            self.mix = nn.Conv2d(joined, channels, kernel_size=1)
        elif how == "gate":
            self.mix = nn.Conv2d(joined, len(self.images), kernel_size=1)
        self.perceptrons = nn.ModuleDict(
            {key: _perceptron(self.read.channels(key), VECTOR_FEATURES) for key in self.vectors}
        )
        self.feature_dim = trunk.feature_dim + VECTOR_FEATURES * len(self.vectors)
        before = [sum(maps) for maps in zip(*(net.channels[: stage - 5] for net in built.values()), strict=False)]
        self.channels = (sum(self.read.channels(key) for key in self.images), *before, *trunk.channels[stage - 5 :])

    def pyramid(self, batch: Batch) -> tuple[list[Tensor], Tensor]:
        """Feature maps for a U-Net, and the features (B, feature_dim) of the same forward pass.

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
        net: Any = self.encoders[key]
        levels = net.pyramid(values[key])[: len(net.channels) + self.stage - 4]
        return [only_where(level, available[:, list(self.inputs).index(key)]) for level in levels]

    def _maps(self, values: Mapping[str, Tensor], available: Tensor) -> list[Tensor]:
        """The map (B, C, h, w) of each image after the chosen stage."""
        return [self._levels(key, values, available)[-1] for key in self.images]

    def _stacked(self, maps: Sequence[Tensor], available: Tensor) -> Tensor:
        """The maps of all images after the chosen stage as channels of one, with any mask."""
        return stack_channels(dict(enumerate(maps)), available.float() if self.read.mask_size else None)  # type: ignore[arg-type]

    def gates(self, batch: Batch) -> dict[str, Tensor]:
        """The weight of each image modality at each pixel of the fused map, (B, h, w) in [0, 1], sum 1.

        Raises:
            ValueError: the encoder has no gates.
        """
        if self.how != "gate":
            raise ValueError(f'this encoder joins by {self.how!r} and has no gates; build it with how="gate"')
        values, available = self.read(batch)
        stacked = self._stacked(self._maps(values, available), available)
        weights = self._weights(stacked, available)  # (B, M, h, w)
        return {key: weights[:, place] for place, key in enumerate(self.images)}

    def _weights(self, stacked: Tensor, available: Tensor) -> Tensor:
        """Softmax over the available modalities, (B, M, h, w)."""
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
        """The fused map (B, C, h, w) of all images after the chosen stage."""
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
        return torch.cat([self.last_norm(last.mean(dim=(2, 3))), *vectors], dim=1)


def _check_nets(nets: Mapping[str, Any], channels: Mapping[str, int], stage: int) -> None:
    """Refuse networks for other images, or whose maps after `stage` cannot be fused.

    Raises:
        BandError: naming both.
    """
    if set(nets) != set(channels):
        raise BandError(f"there are networks for {list(nets)}; expected one for each image, {list(channels)}")
    if wrong := {key: net.in_channels for key, net in nets.items() if net.in_channels != channels[key]}:
        raise BandError(f"the networks read {wrong} channels, and the images have {dict(channels)}")
    if len({net.channels[stage - 5] for net in nets.values()}) > 1:
        found = {key: net.channels[stage - 5] for key, net in nets.items()}
        raise BandError(f"after stage {stage} the networks have {found} channels, which cannot be joined")


class LateFusion(nn.Module):
    """A ResNet for each image and a small perceptron for each vector; their features are concatenated.

    The features of a missing modality are set to zero, so the response of its encoder to an empty image has no effect.
    """

    def __init__(
        self,
        inputs: InputSpec,
        depth: int = 18,
        width: float = 1.0,
        modality_dropout: float = 0.0,
        missing: Missing = "error",
    ) -> None:
        """Build one encoder per modality; see `InputNorm` and `ResNetEncoder` for the arguments.

        Raises:
            BandError: an unknown modality or band.
        """
        super().__init__()
        self.read = InputNorm(inputs, modality_dropout, missing)
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
        """Feature maps for a U-Net, and the features (B, feature_dim) of the same forward pass.

        The maps are the concatenated images and the concatenated maps of their ResNets, finest first, with `channels`
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
        """Features (B, feature_dim), concatenated in the order of `inputs`, then any availability mask."""
        values, available = self.read(batch)
        return self._join(values, available, {})

    def _join(self, values: Mapping[str, Tensor], available: Tensor, pooled: Mapping[str, Tensor]) -> Tensor:
        """Concatenated features of all modalities, given those of the images as `pooled`."""
        features = [
            only_where(pooled[key] if key in pooled else self.encoders[key](value), available[:, column])
            for column, (key, value) in enumerate(values.items())
        ]
        if self.read.mask_size:
            features.append(available.float())
        return torch.cat(features, dim=1)


class FiLMFusion(nn.Module):
    """One ResNet over the stacked images, whose feature maps are modulated by the vector modalities.

    After each stage, channel c of the map becomes (1 + gamma_c) x + beta_c, with gamma and beta from a perceptron on
    the vectors: feature-wise linear modulation (FiLM; Perez et al. 2018, arXiv:1709.07871).
    """

    def __init__(
        self,
        inputs: InputSpec,
        depth: int = 18,
        width: float = 1.0,
        modality_dropout: float = 0.0,
        missing: Missing = "error",
        net: nn.Module | None = None,
    ) -> None:
        """Build the encoder; see `InputNorm` and `ResNetEncoder` for the arguments.

        A copy of `net`, such as that of a pretrained `ConvNeXtEncoder` of the same images, replaces the ResNet.

        Raises:
            BandError: an unknown modality or band, no image, no vector among the inputs, or a network for other images.
        """
        super().__init__()
        self.read = InputNorm(inputs, modality_dropout, missing)
        self.inputs = self.read.modalities
        self.read.require_images()
        self.images, self.vectors = self.read.images, self.read.vectors
        if not self.vectors:
            raise BandError(f"no vector among the inputs {list(self.inputs)}; FiLM needs one, such as 'season'")
        stacked = sum(self.read.channels(key) for key in self.images)
        resnet: Any = ResNetEncoder(stacked, depth, width) if net is None else deepcopy(net)
        _check_nets({"images": resnet}, {"images": stacked}, 4)
        self.resnet = resnet
        given = sum(self.read.channels(key) for key in self.vectors) + self.read.mask_size
        self.modulators = nn.ModuleList(_perceptron(given, 2 * channels) for channels in resnet.channels[-4:])
        for modulator in self.modulators:
            last = modulator[-1]  # type: ignore[index]
            nn.init.zeros_(last.weight)  # the ResNet starts unmodulated
            nn.init.zeros_(last.bias)
        self.feature_dim = resnet.feature_dim

    def forward(self, batch: Batch) -> Tensor:
        """Features (B, feature_dim)."""
        values, available = self.read(batch)
        vectors = [values[key] for key in self.vectors]
        if self.read.mask_size:
            vectors.append(available.float())
        condition = torch.cat(vectors, dim=1)  # (B, v)
        x = self.resnet.embed(stack_channels({key: values[key] for key in self.images}))
        for layer, modulator in zip(self.resnet.after(0), self.modulators, strict=True):
            gamma, beta = modulator(condition)[:, :, None, None].chunk(2, dim=1)  # (B, C, 1, 1) each
            x = (1 + gamma) * layer(x) + beta
        features: Tensor = self.resnet.last_norm(x.mean(dim=(2, 3)))
        return features


class DecisionFusion(nn.Module):
    """Independent networks whose predicted probabilities are averaged. Replaces a `Network`.

    The result is the log of the mean softmax, or for targets in `multi_label` the log-odds of the mean sigmoid, so that
    the usual losses apply. A network whose modality is missing does not vote.
    """

    def __init__(self, networks: Mapping[str, nn.Module], multi_label: Sequence[str] = ()) -> None:
        """Join named `networks` of the same targets; `multi_label` names those targets that are multi-label.

        Raises:
            ValueError: no network, targets that differ, or an unknown name in `multi_label`.
            BandError: two networks read different bands of one modality, so no batch can serve both.
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
        may = torch.ones(len(able), count, dtype=torch.bool, device=device)  # (M, B): who votes on which sample
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

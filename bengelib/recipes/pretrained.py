"""Published weights in an encoder: ImageNet, SSL4EO-S12 (MoCo, DINO), SeCo and DeCUR, by name or from a file.

Each was trained on its own bands and scaling. The first layer gets filters by band name, and the encoder normalises
those bands as in the pretraining. `published` holds facts and files of the weights.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bengelib.data.scene_files import spelling
from bengelib.errors import ArgumentError, BandError, CheckpointError
from bengelib.fusion import EarlyFusion, FeatureFusion, FiLMFusion, LateFusion
from bengelib.modalities import Modality
from bengelib.recipes.published import (
    PUBLISHED,
    Published,
    Weights,
    check_hash,
    fetch_weights,
    find_resnets,
    read_weights,
)
from bengelib.resnet import ResNetEncoder

_COLOURS = {"r": "B04", "red": "B04", "g": "B03", "green": "B03", "b": "B02", "blue": "B02"}
"""Red, green and blue bands of Sentinel-2."""


def load_pretrained(
    encoder: nn.Module,
    source: str | Path,
    *,
    kind: str | None = None,
    sha256: str | None = None,
    channels: Sequence[str] | None = None,
) -> dict[str, tuple[str, ...]]:
    """Load published weights into the ResNets of an encoder, in place.

    The first layer is matched by band name. A band known to the weights gets its own filters, at any position; bands of
    the weights that the encoder lacks are left out, which is equivalent to zero inputs (SSL4EO-S12 has B10, which
    Level-2A lacks). Bands of the encoder that are unknown to the weights get the mean of all filters, and all filters
    are scaled so that their sum keeps its magnitude. Known bands are normalised from then on as in the pretraining;
    ImageNet accepts any standardised values, so nothing changes there. Of several ResNets (late fusion), each gets the
    weights that fit its bands, and others are unchanged.

    Args:
        encoder: an encoder of `bengelib.fusion`, a module that contains one, or a `ResNetEncoder` with `channels`; of
            width 1.
        source: a name in `PUBLISHED`, or the path of a file in the layout of its publisher: `.pth`, `.pt`, `.ckpt`,
            `.tar` of torch, or `.safetensors`.
        kind: the name in `PUBLISHED` of a file, if its content does not reveal it.
        sha256: expected hash of the file; for names, at least the first eight digits are always checked.
        channels: names of the channels of a `ResNetEncoder`, such as `("B02", "B03", "VV")`.

    Returns:
        By modality (`""` for a `ResNetEncoder`), the bands with their own filters.

    Raises:
        DownloadError: the weights are not in torch's cache and cannot be downloaded; with address and folder.
        ChecksumError: the file differs from the published one.
        CheckpointError: the file does not hold weights of a ResNet, or of another depth, or of unknown origin.
        BandError: the encoder has none of the bands, or has them in another unit.
        ArgumentError: an encoder without a ResNet or of another width, or an unknown name.
    """
    resnets = list(_resnets(encoder, channels))
    if not resnets:
        raise ArgumentError(f"{type(encoder).__name__} holds no ResNet; published weights are for encoders of ResNets")
    for resnet in resnets:
        if resnet.layers.width != 1.0:
            raise ArgumentError(
                f"published weights exist for width 1, not {resnet.layers.width}; build the encoder with width=1.0"
            )
    path = Path(source)
    if isinstance(source, str) and source in PUBLISHED and not path.is_file():
        kind, path = source, fetch_weights(source, resnets[0].layers.depth)
    elif not path.is_file():
        raise ArgumentError(f"no file {source}, and no published weights of that name; there are {list(PUBLISHED)}")
    if kind is not None and kind not in PUBLISHED:
        raise ArgumentError(f"unknown kind {kind!r} of weights; choose from {list(PUBLISHED)}")
    check_hash(path, sha256)
    found = find_resnets(read_weights(path), path, kind)
    plans = []
    for resnet in resnets:
        weights = max(found, key=partial(_known, resnet))
        if not _known(resnet, weights) and weights.facts.unit:
            continue  # radar has nothing of weights for optical bands
        _check_units(resnet, weights)
        plans.append((resnet, weights, _fitting(weights.state, resnet, path)))
    taken: dict[str, tuple[str, ...]] = {}
    for resnet, weights, state in plans:
        names, bands = [band for _, band in resnet.channels], weights.facts.bands
        state["conv1.weight"] = adapt_filters(weights.state["conv1.weight"], bands, names)
        resnet.layers.load_state_dict({**resnet.layers.state_dict(), **state})
        if resnet.trunk is not None:
            _load_trunk(resnet, weights.state)
        _normalise(resnet, weights.facts)
        for key, band in resnet.channels:
            taken[key] = (*taken.get(key, ()), *([band] if _place(band, bands) is not None else []))
    if not taken:
        raise BandError(
            f"the encoder reads {[band for resnet in resnets for _, band in resnet.channels]}, and {source} knows "
            f"{[list(each.facts.bands) for each in found]}: none in common"
        )
    return taken


def adapt_filters(filters: Tensor, bands: Sequence[str], channels: Sequence[str]) -> Tensor:
    """Filters (F, len(channels), k, k) for named channels from filters (F, len(bands), k, k) for named bands.

    See `load_pretrained` for the rule.
    """
    indices = [_place(name, bands) for name in channels]
    mean = filters.mean(dim=1)
    adapted = torch.stack([mean if place is None else filters[:, place] for place in indices], dim=1)
    return adapted * (len(bands) / len(channels)) if None in indices else adapted


class _Slot(NamedTuple):
    """One ResNet of an encoder."""

    layers: ResNetEncoder
    channels: list[tuple[str, str]]  # key and band of each; unknown names for vectors
    encoder: nn.Module
    trunk: nn.Module | None = None  # of feature fusion: the stages after the fusion


def _resnets(encoder: nn.Module, channels: Sequence[str] | None) -> Iterator[_Slot]:
    """The ResNets of all encoders of `bengelib.fusion` in a module, or a single ResNet.

    Raises:
        ArgumentError: a ResNet alone without a name for each of its channels.
    """
    if isinstance(encoder, ResNetEncoder):
        if channels is None or len(channels) != encoder.in_channels:
            raise ArgumentError(
                f"channels={channels}; a ResNetEncoder has no names of bands: give one for each of its "
                f"{encoder.in_channels} channels"
            )
        yield _Slot(encoder, [("", name) for name in channels], encoder)
        return
    for module in encoder.modules():
        nets = [getattr(module, "resnet", None), *getattr(module, "encoders", nn.ModuleDict()).values()]
        if not any(isinstance(net, ResNetEncoder) for net in nets):
            continue
        if isinstance(module, (EarlyFusion, FiLMFusion)):
            stacked = list(module.inputs) if isinstance(module, EarlyFusion) else module.images
            names = [(key, band) for key in stacked for band in _bands(module.inputs[key])]
            mask = module.resnet.in_channels - len(names)
            yield _Slot(module.resnet, [*names, *[("", "availability")] * mask], module)
        elif isinstance(module, (LateFusion, FeatureFusion)):
            for number, key in enumerate(module.images):
                names = [(key, band) for band in module.inputs[key].bands]
                trunk = module.trunk if isinstance(module, FeatureFusion) and not number else None
                yield _Slot(module.encoders[key], names, module, trunk)  # type: ignore[arg-type]


def _bands(modality: Modality) -> list[str]:
    """Names of the channels of a modality; those of vectors and scalars are distinct from bands of sensors."""
    return list(modality.bands) if modality.kind == "image" else [f"{modality.name}:{band}" for band in modality.bands]


def _normalise(resnet: _Slot, facts: Published) -> None:
    """Make the encoder normalise known bands as in the pretraining."""
    if not facts.mean or isinstance(resnet.encoder, ResNetEncoder):
        return
    read: Any = resnet.encoder.read
    for key, band in resnet.channels:
        place = _place(band, facts.bands)
        if place is not None:
            column = resnet.encoder.inputs[key].bands.index(band)  # type: ignore[index, union-attr]
            with torch.no_grad():
                read.normalize[key].mean[column] = facts.mean[place]
                read.normalize[key].std[column] = facts.std[place]


def _check_units(resnet: _Slot, weights: Weights) -> None:
    """Refuse bands whose unit differs from that of the pretraining.

    Raises:
        BandError: naming both.
    """
    facts = weights.facts
    if not facts.unit or isinstance(resnet.encoder, ResNetEncoder):
        return
    for key, band in resnet.channels:
        if _place(band, facts.bands) is None:
            continue
        modality: Modality = resnet.encoder.inputs[key]  # type: ignore[index, assignment]
        unit = modality.unit[modality.bands.index(band)]
        if unit != facts.unit:
            raise BandError(
                f"the encoder reads band {band} of {key} in {unit!r}, and these weights were trained on "
                f"{facts.unit!r}; describe the data in that unit (scale and offset in dataset.toml)"
            )


def _fitting(state: Mapping[str, Tensor], resnet: _Slot, path: Path) -> dict[str, Tensor]:
    """The weights of a file for the layers of a ResNet.

    Raises:
        CheckpointError: weights are missing, left over, or of another shape.
    """
    wanted = resnet.layers.state_dict()
    whole = all(isinstance(getattr(resnet.layers, f"layer{stage}"), nn.Sequential) for stage in (1, 2, 3, 4))
    fitting = {name: value for name, value in state.items() if name in wanted}
    left = [name for name in state if name not in wanted and not name.startswith("fc.")] if whole else []
    absent = [name for name in wanted if name not in state and not name.endswith("num_batches_tracked")]
    other = [name for name in fitting if name != "conv1.weight" and fitting[name].shape != wanted[name].shape]
    if wrong := [*absent, *other, *left]:
        depth = 50 if "layer1.0.conv3.weight" in state else 34 if "layer3.5.conv1.weight" in state else 18
        hint = f"build it with depth={depth}" if depth != resnet.layers.depth else "is it another make of ResNet?"
        raise CheckpointError(
            f"{path} does not fit a ResNet of {resnet.layers.depth} layers: {len(wrong)} weights are missing, left "
            f"over or of another shape, the first being {wrong[0]}; the file looks like one of {depth} layers: {hint}"
        )
    return fitting


def _load_trunk(resnet: _Slot, state: Mapping[str, Tensor]) -> None:
    """Load the stages of feature fusion after the fusion."""
    stage: int = resnet.encoder.stage  # type: ignore[assignment]
    trunk = {
        f"{number}.{name.partition('.')[2]}": value
        for name, value in state.items()
        if name.startswith("layer") and (number := int(name[5]) - stage - 1) >= 0
    }
    if resnet.trunk is not None:
        resnet.trunk.load_state_dict({**resnet.trunk.state_dict(), **trunk})


def _known(resnet: _Slot, weights: Weights) -> int:
    """Number of channels of a ResNet that are known to some weights."""
    return sum(_place(band, weights.facts.bands) is not None for _, band in resnet.channels)


def _place(name: str, bands: Sequence[str]) -> int | None:
    """Index of a band among those of some weights, None if unknown."""
    wanted = spelling(_COLOURS.get(name.strip().casefold(), name))
    return next((place for place, band in enumerate(bands) if spelling(band) == wanted), None)

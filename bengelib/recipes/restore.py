"""A network built again from its checkpoint alone: the parts are known by the names and shapes of their weights."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bengelib.checkpoint import load_checkpoint, read_checkpoint, saved_inputs
from bengelib.errors import BengeError, CheckpointError
from bengelib.fusion import EarlyFusion, FeatureFusion, FiLMFusion, LateFusion
from bengelib.heads import ClassificationHead, Network, RegressionHead, SegmentationHead
from bengelib.modalities import Modality


def load_network(checkpoint: str | Path) -> tuple[Network, dict[str, Any]]:
    """The network that `save_checkpoint` wrote, with its weights, and the configuration beside them.

    Encoders of `bengelib.fusion` with heads of `bengelib.heads` are built again. For a network of your own, build it
    and call `load_checkpoint`.

    Raises:
        CheckpointError: no such file, no checkpoint, one without heads, or one of another kind of network.
    """
    header, weights = read_checkpoint(checkpoint)
    if not header["outputs"]:
        raise CheckpointError(
            f"{checkpoint} holds an encoder without heads, which answers nothing; train heads on it first"
        )
    encoder = _encoder(saved_inputs(header), weights)
    if encoder is None:
        raise CheckpointError(
            f"{checkpoint} is not of an encoder of bengelib.fusion, so that it cannot be built from its weights alone; "
            "build the network as it was trained, and call bengelib.checkpoint.load_checkpoint"
        )
    heads = {target: _head(target, classes, weights, encoder) for target, classes in header["outputs"].items()}
    model = Network(encoder, heads)
    load_checkpoint(checkpoint, model)
    return model.eval(), header["config"]


def _encoder(inputs: Mapping[str, Modality], weights: Mapping[str, Tensor]) -> nn.Module | None:
    """An encoder whose weights have the same names and shapes, None if there is none."""
    wanted = {name: value.shape for name, value in weights.items() if name.startswith("encoder.")}
    for build in _candidates(inputs, weights):
        try:
            with torch.device("meta"):
                trial = build()
        except (BengeError, ValueError):  # not with these inputs
            continue
        if {f"encoder.{name}": value.shape for name, value in trial.state_dict().items()} == wanted:
            return build()
    return None


def _candidates(inputs: Mapping[str, Modality], weights: Mapping[str, Tensor]) -> Iterator[Callable[[], Any]]:
    """What the encoder may be, with the depth and width that the weights show."""
    first = next((value for name, value in weights.items() if name.endswith("conv1.weight")), None)
    width = 1.0 if first is None else len(first) / 64
    for depth in (18, 34, 50):
        for dropout in (0.0, 0.5) if len(inputs) > 1 else (0.0,):
            options: dict[str, Any] = {"depth": depth, "width": width, "modality_dropout": dropout}
            yield from (partial(kind, inputs, **options) for kind in (EarlyFusion, LateFusion, FiLMFusion))
            for stage in (1, 2, 3, 4):
                yield from (
                    partial(FeatureFusion, inputs, stage=stage, how=how, **options) for how in ("concat", "gate", "sum")
                )


def _head(target: str, classes: Sequence[str], weights: Mapping[str, Tensor], encoder: Any) -> nn.Module:
    """The head of one target."""
    prefix = f"heads.{target}."
    if f"{prefix}linear.weight" in weights:
        mean, scale = (float(weights[f"{prefix}{name}"]) for name in ("mean", "scale"))
        return RegressionHead(encoder.feature_dim, mean, scale)
    if f"{prefix}narrow.0.weight" in weights:
        return SegmentationHead(encoder.channels, classes, width=len(weights[f"{prefix}narrow.0.weight"]))
    return ClassificationHead(encoder.feature_dim, classes)

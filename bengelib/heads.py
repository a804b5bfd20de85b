"""Task heads, which map features to outputs, and the network of an encoder and its heads."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from bengelib.arguments import real_number


class ClassificationHead(nn.Linear):
    """Logits (B, len(classes)) from features (B, feature_dim), for single-label and multi-label classification.

    Attributes:
        classes: the name of each output, in order.
    """

    def __init__(self, feature_dim: int, classes: Sequence[str]) -> None:
        """One linear layer."""
        super().__init__(feature_dim, len(classes))
        self.classes = tuple(classes)


class RegressionHead(nn.Module):
    """A quantity (B,) in its own unit from features (B, feature_dim): `mean + scale * linear(features)`.

    The linear layer predicts values of order 1 in any unit, and the initial network predicts about the mean.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, feature_dim: int, mean: float, scale: float) -> None:
        """One linear layer; `mean` and `scale` (usually the standard deviation) are those of the training labels.

        Raises:
            ValueError: `scale` is not positive.
        """
        super().__init__()
        mean, scale = real_number("mean", mean), real_number("scale", scale, above=0)
        self.linear = nn.Linear(feature_dim, 1)
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("scale", torch.tensor(scale))

    def forward(self, features: Tensor) -> Tensor:
        """Values (B,) in the unit of `mean` and `scale`."""
        return self.mean + self.scale * self.linear(features)[:, 0]


class SegmentationHead(nn.Module):
    """Logits (B, len(classes), H, W) from a pyramid of feature maps: the decoder of a U-Net.

    From the coarsest map upwards: upsample to the size of the next finer map, concatenate that map (the skip
    connection), and combine both by a 3 x 3 convolution. The last skip connection is the image itself, which preserves
    detail of single pixels (Ronneberger, Fischer and Brox 2015, arXiv:1505.04597). Any input size works.

    Attributes:
        classes: the name of each output, in order.
        reads: `"pyramid"`, so that `Network` passes the feature maps.
    """

    reads = "pyramid"

    def __init__(self, channels: Sequence[int], classes: Sequence[str], width: int = 16) -> None:
        """Build the decoder.

        Args:
            channels: channels of the maps, finest first, as in `EarlyFusion.channels`: image, 1/2, 1/4, ... 1/32.
            classes: names of the classes.
            width: channels of the last layers, at full resolution.

        Raises:
            ValueError: fewer than two maps.
        """
        super().__init__()
        if len(channels) < 2:
            raise ValueError(f"a U-Net needs two maps or more, not channels {tuple(channels)}")
        self.classes = tuple(classes)
        image, *maps = channels
        self.mixers = nn.ModuleList()
        below = maps[-1]
        for skip in reversed(maps[:-1]):
            self.mixers.append(_convolution(below + skip, skip, 3))
            below = skip
        self.narrow = _convolution(below, width, 1)  # full resolution is expensive, so it gets few channels
        self.image = _convolution(image, width, 1)
        self.last = nn.Sequential(_convolution(2 * width, width, 3), nn.Conv2d(width, len(classes), kernel_size=1))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Logits (B, K, H, W) from the maps (B, C, H / 2^i, W / 2^i), the image first."""
        image, *skips, x = maps
        for mixer, skip in zip(self.mixers, reversed(skips), strict=True):
            x = mixer(torch.cat([_enlarge(x, skip), skip], dim=1))
        logits: Tensor = self.last(torch.cat([_enlarge(self.narrow(x), image), self.image(image)], dim=1))
        return logits


def _convolution(inputs: int, outputs: int, size: int) -> nn.Sequential:
    """Convolution of `size` x `size` pixels, batch normalisation and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


def _enlarge(x: Tensor, like: Tensor) -> Tensor:
    """`x` (B, C, h, w) upsampled to the height and width of `like`."""
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


class Network(nn.Module):
    """An encoder and one head per target: takes a dict batch, returns a dict of outputs by target.

    Attributes:
        inputs: inputs of the encoder by key: a `Modality`, or the names of bands.
        outputs: class names of each target.
    """

    def __init__(self, encoder: nn.Module, heads: Mapping[str, nn.Module]) -> None:
        """Join `encoder` (with `inputs` and `feature_dim`, see `bengelib.fusion`) to `heads`, keyed by target.

        Raises:
            ValueError: a head needs the feature pyramid of an encoder that has none.
        """
        super().__init__()
        self.encoder = encoder
        self.heads = nn.ModuleDict(heads)
        self.inputs: dict[str, Any] = dict(getattr(encoder, "inputs", {}))
        self.outputs = {target: tuple(getattr(head, "classes", ())) for target, head in heads.items()}
        dense = [target for target, head in heads.items() if _reads_pyramid(head)]
        if dense and not hasattr(encoder, "pyramid"):
            raise ValueError(
                f"the heads of {dense} read a pyramid of maps, which {type(encoder).__name__} does not give; "
                "use EarlyFusion or LateFusion"
            )
        self.dense = bool(dense)

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Outputs of every head, each with the batch as its first dimension."""
        if not self.dense:
            features = self.encoder(batch)  # (B, F)
            return {target: head(features) for target, head in self.heads.items()}
        maps, features = self.encoder.pyramid(batch)  # type: ignore[operator]
        return {target: head(maps if _reads_pyramid(head) else features) for target, head in self.heads.items()}


def _reads_pyramid(head: nn.Module) -> bool:
    return getattr(head, "reads", "features") == "pyramid"


def hard_maps(outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Outputs with per-pixel logits (B, K, H, W) replaced by the most likely class, (B, H, W) uint8."""
    return {
        target: output.argmax(dim=1).to(torch.uint8) if output.ndim == 4 else output
        for target, output in outputs.items()
    }


def count_parameters(model: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def count_multiply_adds(model: nn.Module, batch: Mapping[str, Any]) -> int:
    """Multiply-adds of one forward pass over `batch`, in convolutions and linear layers."""
    training = model.training
    model.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(batch)
    model.train(training)
    return counter.get_total_flops() // 2


def count_saved_bytes(model: nn.Module, batch: Mapping[str, Any]) -> int:
    """Bytes of the tensors that a forward pass saves for the backward pass; parameters are not counted."""
    own = {parameter.data_ptr() for parameter in model.parameters()}
    saved: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in own:
            saved[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        outputs = model(batch)  # kept alive until the sum is complete, so that no address is reused
    total = sum(saved.values())
    del outputs
    return total

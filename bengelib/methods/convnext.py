"""ConvNeXt V2 (Woo et al. 2023, arXiv:2301.00808), whole and masked, for images with any number of channels.

A block is a depthwise 7 x 7 convolution, a layer normalisation, and a perceptron four times as wide with global
response normalisation inside, beside a shortcut. Masked images need no sparse convolution: hidden positions are set to
0 after every layer that changes them, and sums over the image exclude them. Visible positions then equal those of a
sparse convolution, and hidden pixels have no influence on them.

Layers have the names of timm's `convnextv2_*`, so its weights load; where timm stores a linear layer as a 1 x 1
convolution, its weight has to be flattened.

At equal multiply-adds a training step takes 1.6 to 1.75 times as long as that of a ResNet-18 (atto, 12 bands of 120 x
120 pixels, one thread of a CPU with AVX2; timm's network takes 2.2 times as long). Linear layers, which are as fast as
the convolutions of a ResNet, take 45 % of it, depthwise convolutions 25 %, most of which is the gradient of their
weights, response normalisation 15 % and GELU 7 %.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bengelib.arguments import whole_number
from bengelib.errors import ArgumentError
from bengelib.inputs import InputNorm, Missing
from bengelib.modalities import InputSpec
from bengelib.transforms import Batch


class _Size(NamedTuple):
    depths: tuple[int, int, int, int]
    dim: int


SIZES = {
    "atto": _Size((2, 2, 6, 2), 40),
    "femto": _Size((2, 2, 6, 2), 48),
    "pico": _Size((2, 2, 6, 2), 64),
    "nano": _Size((2, 2, 8, 2), 80),
    "tiny": _Size((3, 3, 9, 3), 96),
}
"""Blocks of each stage, and channels of the first one; they double from stage to stage (Woo et al. 2023, appendix)."""

_KERNEL = 7
_EPSILON = 1e-6


class GlobalResponseNorm(nn.Module):
    """Competition between channels: y = gamma * x * N + beta + x (Woo et al. 2023, equations 1 to 3).

    G_c is the root of the sum of squares of channel c over an image, and N_c = G_c / (mean of G over the channels).
    Sanity values: the mean of N over channels is 1, and the initial layer, with gamma = beta = 0, is the identity.
    """

    def __init__(self, channels: int) -> None:
        """Build the layer for maps of `channels` channels."""
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels))  # gamma
        self.bias = nn.Parameter(torch.zeros(channels))  # beta

    def forward(self, x: Tensor, visible: Tensor | None = None) -> Tensor:
        """Normalise (B, H, W, C); G and its gradient are limited to `visible` (B, H, W, 1) positions."""
        out: Tensor = _Respond.apply(x, self.weight, self.bias, visible)
        return out


class _Respond(torch.autograd.Function):
    """`GlobalResponseNorm` with its own backward pass, which writes half as many large tensors as autograd's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor, visible: Tensor | None) -> Tensor:
        squares = x * x  # summed by hand, since `vector_norm` takes up to 30 times as long
        if visible is None:
            norm = squares.sum(dim=(1, 2), keepdim=True).sqrt()  # (B, 1, 1, C)
        else:
            norm = (visible.flatten(1).to(x.dtype)[:, None] @ squares.flatten(1, 2))[:, None].sqrt()
        mean = norm.mean(dim=-1, keepdim=True) + _EPSILON
        response = norm / mean
        scale = 1 + gamma * response
        ctx.visible = visible
        ctx.save_for_backward(x, gamma, norm, mean, response, scale)
        return torch.addcmul(beta, x, scale)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, gamma, norm, mean, response, scale = ctx.saved_tensors
        grad_scale = (grad * x).sum(dim=(1, 2), keepdim=True)  # (B, 1, 1, C)
        grad_response = grad_scale * gamma
        grad_norm = (grad_response - (grad_response * response).mean(dim=-1, keepdim=True)) / mean
        grad_x = grad * scale
        grad_x.addcmul_(x, torch.where(norm > 0, grad_norm / norm, 0))  # d norm / d x = x / norm
        if ctx.visible is not None:
            grad_x.masked_fill_(~ctx.visible, 0)
        return grad_x, (grad_scale * response).sum(dim=(0, 1, 2)), grad.sum(dim=(0, 1, 2)), None


class _Perceptron(nn.Module):
    """Two linear layers with GELU and global response normalisation between."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.grn = GlobalResponseNorm(4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor, visible: Tensor | None) -> Tensor:
        """Transform (B, H, W, C); the result is 0 where not `visible`."""
        mixed: Tensor = self.fc2(self.grn(F.gelu(self.fc1(x)), visible))
        return keep(mixed, visible)


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution, layer normalisation and perceptron beside a shortcut: 8 d^2 + 65 d parameters."""

    def __init__(self, dim: int) -> None:
        """Build the block for maps of d = `dim` channels."""
        super().__init__()
        self.conv_dw = nn.Conv2d(dim, dim, _KERNEL, padding=_KERNEL // 2, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=_EPSILON)
        self.mlp = _Perceptron(dim)

    def forward(self, x: Tensor, visible: Tensor | None = None) -> Tensor:
        """Transform (B, H, W, C); positions that are not `visible` (B, H, W, 1) must be 0 and remain 0."""
        return x + self.mlp(self.norm(_depthwise(self.conv_dw, x)), visible)


def _depthwise(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    """A depthwise convolution of maps (B, H, W, C), the layout of oneDNN's fast kernels.

    On maps smaller than the kernel they are fast only with explicit padding, which reduces the time of the weight
    gradient to a third for 5 x 5 pixels.
    """
    image, border = x.permute(0, 3, 1, 2), _KERNEL // 2
    if min(image.shape[-2:]) < _KERNEL:
        framed = F.pad(image, (border, border, border, border))
        convolved = F.conv2d(framed, convolution.weight, convolution.bias, groups=convolution.groups)
    else:
        convolved = convolution(image)
    return convolved.permute(0, 2, 3, 1)


def keep(x: Tensor, visible: Tensor | None) -> Tensor:
    """Maps (B, H, W, C) with 0 at all positions that are not `visible` (B, H, W, 1); unchanged without a mask."""
    return x if visible is None else x.masked_fill(~visible, 0)


class _Downsample(nn.Sequential):
    """Layer normalisation and a 2 x 2 convolution with stride 2, of maps (B, H, W, C)."""

    def __init__(self, dim: int) -> None:
        super().__init__(nn.LayerNorm(dim, eps=_EPSILON), nn.Conv2d(dim, 2 * dim, kernel_size=2, stride=2))

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H / 2, W / 2, 2 C)."""
        norm, convolution = self
        smaller: Tensor = convolution(norm(x).permute(0, 3, 1, 2))
        return smaller.permute(0, 2, 3, 1)


class _Stage(nn.Module):
    """Blocks of one resolution, after downsampling by 2."""

    def __init__(self, dim: int, depth: int, first: bool) -> None:
        super().__init__()
        self.downsample = nn.Identity() if first else _Downsample(dim // 2)
        self.blocks = nn.ModuleList(ConvNeXtBlock(dim) for _ in range(depth))

    def forward(self, x: Tensor, visible: Tensor | None) -> Tensor:
        x = keep(self.downsample(x), visible)
        for block in self.blocks:
            x = block(x, visible)
        return x


class _ChannelsFirst(nn.Module):
    """A stage with maps (B, C, h, w) as inputs and outputs."""

    def __init__(self, stage: nn.Module) -> None:
        super().__init__()
        self.stage = stage

    def forward(self, x: Tensor) -> Tensor:
        after: Tensor = self.stage(x.permute(0, 2, 3, 1), None)
        return after.permute(0, 3, 1, 2)


class ConvNeXt(nn.Module):
    """A ConvNeXt V2 without its classifier.

    Attributes:
        feature_dim: length of the pooled features.
        channels: channels of the four maps of `pyramid`, finest first.
        stride: pixels of the image per pixel of the coarsest map along a side, and so the size of the squares that a
            mask can hide: 8 times the stem.
    """

    def __init__(self, in_channels: int | None, size: str = "atto", stem: int = 3) -> None:
        """Build the network with random weights.

        Args:
            in_channels: channels of the image; None for a network whose first filters are passed with each image.
            size: one of `SIZES`.
            stem: pixels along a side of the squares of the first layer. Sizes of images must be multiples of 8 times
                this number; the 120 pixels of ben-ge are for 1, 3 and 5, but not for the paper's 4.

        Raises:
            ArgumentError: an unknown size, or numbers that are not whole.
        """
        super().__init__()
        if size not in SIZES:
            raise ArgumentError(f"no ConvNeXt V2 of size {size!r}; choose one of {list(SIZES)}")
        self.size, self.stem_size, self.stride = size, whole_number("stem", stem), 8 * stem
        self.in_channels = in_channels
        depths, dim = SIZES[size]
        self.channels = tuple(dim * 2**stage for stage in range(4))
        self.feature_dim = self.channels[-1]
        first = (
            nn.Identity()
            if in_channels is None
            else nn.Conv2d(whole_number("in_channels", in_channels), dim, kernel_size=stem, stride=stem)
        )
        self.stem = nn.Sequential(first, nn.LayerNorm(dim, eps=_EPSILON))
        self.stages = nn.ModuleList(
            _Stage(channels, depth, first=stage == 0)
            for stage, (channels, depth) in enumerate(zip(self.channels, depths, strict=True))
        )
        self.head = nn.ModuleDict({"norm": nn.LayerNorm(self.feature_dim, eps=_EPSILON)})
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def pyramid(
        self, image: Tensor, visible: Tensor | None = None, filters: tuple[Tensor, Tensor] | None = None
    ) -> list[Tensor]:
        """Maps (B, C, h, w) at 1, 1/2, 1/4 and 1/8 of the resolution of the stem, finest first.

        Args:
            image: (B, C, H, W).
            visible: (B, H / stride, W / stride) bool, False for hidden squares; they are 0 in every map, and other
                positions do not depend on them.
            filters: weights (dim, C, stem, stem) and bias (dim,) to replace those of the first layer.

        Raises:
            ArgumentError: the image does not divide into squares, the mask has another shape, or a mask on the CPU
                hides a whole image (on other devices its pooled features are constant).
        """
        self._check(image, visible)
        first, norm = self.stem
        weight, bias = filters or (first.weight, first.bias)
        embedded = F.conv2d(image, weight, bias, stride=self.stem_size)  # type: ignore[arg-type]
        x = norm(embedded.permute(0, 2, 3, 1))  # (B, H / stem, W / stem, dim)
        maps = []
        for level, stage in enumerate(self.stages):
            x = stage(x, None if visible is None else _enlarge(visible, 2 ** (3 - level)))
            maps.append(x.permute(0, 3, 1, 2))
        return maps

    @property
    def last_norm(self) -> nn.Module:
        """The normalisation of the pooled features."""
        return self.head["norm"]

    def embed(self, image: Tensor) -> Tensor:
        """The input (B, C, H / stem, W / stem) of the first stage for an image (B, in_channels, H, W)."""
        self._check(image, None)
        first, norm = self.stem
        embedded: Tensor = norm(first(image).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return embedded

    def after(self, stage: int) -> nn.Sequential:
        """The stages after `stage`, 0 to 4, each from maps (B, C, h, w) to maps."""
        return nn.Sequential(*(_ChannelsFirst(each) for each in self.stages[stage:]))

    def cut(self, stage: int) -> None:
        """Remove the stages after `stage` and the features, in place; the last map of `pyramid` is of that stage."""
        self.stages, self.head = self.stages[:stage], nn.ModuleDict()

    def pool(self, last: Tensor, visible: Tensor | None = None) -> Tensor:
        """Features (B, feature_dim) of the coarsest map (B, C, h, w): its normalised mean over visible positions."""
        total = last.sum(dim=(2, 3))
        places = last[0, 0].numel() if visible is None else visible.sum(dim=(1, 2)).clamp(min=1)[:, None]
        features: Tensor = self.head["norm"](total / places)
        return features

    def forward(self, image: Tensor, visible: Tensor | None = None) -> Tensor:
        """Features (B, feature_dim) of images (B, in_channels, H, W); see `pyramid`."""
        return self.pool(self.pyramid(image, visible)[-1], visible)

    def _check(self, image: Tensor, visible: Tensor | None) -> None:
        """Check the sizes of image and mask; see `pyramid` for the errors."""
        height, width = image.shape[-2:]
        if height % self.stride or width % self.stride:
            stems = [stem for stem in range(1, 6) if height % (8 * stem) == 0 and width % (8 * stem) == 0]
            raise ArgumentError(
                f"an image of {height} x {width} pixels does not divide into squares of {self.stride}, which is 8 "
                f"times stem={self.stem_size}; crop it to a multiple"
                + (f", or build the network with a stem of {' or '.join(map(str, stems))}" if stems else "")
            )
        if visible is None:
            return
        grid = (len(image), height // self.stride, width // self.stride)
        if visible.shape != grid or visible.dtype != torch.bool:
            raise ArgumentError(f"visible is {visible.dtype} of shape {tuple(visible.shape)}; expected bool of {grid}")
        if visible.device.type == "cpu" and not (seen := visible.flatten(1).any(dim=1)).all():
            raise ArgumentError(
                f"the mask hides all of sample {int(seen.logical_not().nonzero()[0])} of the batch; leave at least one "
                "square of each image visible"
            )


def _enlarge(visible: Tensor, times: int) -> Tensor:
    """A mask (B, h, w) for maps with `times` as many rows and columns, (B, H, W, 1)."""
    return visible.repeat_interleave(times, dim=1).repeat_interleave(times, dim=2)[..., None]


class ConvNeXtEncoder(nn.Module):
    """One ConvNeXt V2 over all modalities stacked as channels: `fusion.EarlyFusion` with another network.

    Attributes:
        inputs: the `Modality` of each key.
        feature_dim: length of the features.
        channels: channels of the maps of `pyramid`: the stacked image, then those of `ConvNeXt`.
        stride: see `ConvNeXt`.
    """

    def __init__(
        self,
        inputs: InputSpec,
        size: str = "atto",
        stem: int = 3,
        modality_dropout: float = 0.0,
        missing: Missing = "error",
        net: ConvNeXt | None = None,
    ) -> None:
        """Build the encoder; see `InputNorm` and `ConvNeXt` for the arguments.

        `net` replaces a new network of this size and stem.

        Raises:
            BandError: an unknown modality or band, or no image among the inputs.
        """
        super().__init__()
        self.read = InputNorm(inputs, modality_dropout, missing)
        self.inputs = self.read.modalities
        channels = self.read.stacked_channels()
        self.net = ConvNeXt(channels, size, stem) if net is None else net
        self.feature_dim, self.stride = self.net.feature_dim, self.net.stride
        self.channels = (channels, *self.net.channels)

    def filters(self) -> tuple[Tensor, Tensor] | None:
        """Filters of the first layer if they are not its parameters; see `ConvNeXt.pyramid`."""
        return None

    def pyramid(self, batch: Batch, visible: Tensor | None = None) -> tuple[list[Tensor], Tensor]:
        """The stacked image and the maps of the network, finest first, and the features of the same forward pass.

        Args:
            batch: in physical units.
            visible: see `ConvNeXt.pyramid`; the stacked image is not masked.
        """
        image = self.read.stack(batch)
        maps = self.net.pyramid(image, visible, self.filters())
        return [image, *maps], self.net.pool(maps[-1], visible)

    def forward(self, batch: Batch) -> Tensor:
        """Features (B, feature_dim)."""
        return self.pyramid(batch)[1]

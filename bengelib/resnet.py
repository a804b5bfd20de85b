"""ResNet encoders for images with any number of channels: pooled features and a pyramid of feature maps.

Layers have torchvision's names and shapes, so its ImageNet weights load into an encoder of full width.
"""

from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from pickle import UnpicklingError
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bengelib.arguments import real_number, whole_number
from bengelib.errors import ArgumentError, DownloadError

FEWEST_CHANNELS = 16
"""Input channels from which oneDNN's strided 1 x 1 kernels are correct: the 32-bit numbers in an AVX-512 register."""


def has_wrong_kernel(convolution: nn.Conv2d) -> bool:
    """True if oneDNN may compute wrong gradients for a convolution of this shape."""
    return (
        all(size == 1 for size in convolution.kernel_size)
        and any(step > 1 for step in convolution.stride)
        and convolution.in_channels // convolution.groups < FEWEST_CHANNELS
        and convolution.padding in ((0, 0), "valid")
    )


def convolve_subsampled(convolution: nn.Conv2d, image: Tensor) -> Tensor:
    """A strided 1 x 1 convolution (B, C, H, W) -> (B, K, H / stride, W / stride), computed on the subsampled image."""
    down, right = convolution.stride
    return nn.functional.conv2d(
        image[..., ::down, ::right], convolution.weight, convolution.bias, groups=convolution.groups
    )


class PointwiseConv2d(nn.Conv2d):
    """A 1 x 1 convolution with correct gradients in every memory layout, on every processor, for any channel count.

    In channels-last layout on a CPU, oneDNN computes wrong weight gradients for a 1 x 1 convolution with a stride and
    without padding whose input has fewer channels than a vector register holds numbers. The kernel writes outside its
    workspace; the result is a wrong gradient, a crash or a hanging process
    (https://github.com/uxlfoundation/oneDNN/issues/6035, open in November 2026; seen with torch 2.11.0 and 2.14.1 on a
    processor with AVX2). The patch proposed there changes the AVX-512 kernel as well, so the limit here is its 16
    channels rather than the 8 of AVX2. Such a convolution equals one without a stride on the subsampled image, which is
    computed instead.
    """

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) to (B, K, H / stride, W / stride)."""
        return convolve_subsampled(self, image) if has_wrong_kernel(self) else super().forward(image)


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut (He et al. 2016, figure 5, left)."""

    expansion = 1

    def __init__(self, in_channels: int, planes: int, stride: int = 1, downsample: nn.Module | None = None) -> None:
        """From `in_channels` to `planes` channels; `downsample` brings the shortcut to the shape of the output."""
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, planes, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(planes, planes, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, planes, H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += shortcut
        return self.relu(out)


class Bottleneck(nn.Module):
    """A 3 x 3 convolution of fewer channels between two of 1 x 1, beside a shortcut (He et al. 2016, figure 5, right).

    The stride is that of the 3 x 3 convolution, as in torchvision ("ResNet v1.5").
    """

    expansion = 4

    def __init__(self, in_channels: int, planes: int, stride: int = 1, downsample: nn.Module | None = None) -> None:
        """From `in_channels` to 4 `planes` channels; `downsample` brings the shortcut to the shape of the output."""
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, planes, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, planes * self.expansion, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, 4 planes, H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += shortcut
        return self.relu(out)


class _Depth(NamedTuple):
    block: type[BasicBlock] | type[Bottleneck]
    counts: tuple[int, int, int, int]
    weights: str  # torchvision's IMAGENET1K_V1, of depth 50 IMAGENET1K_V2; the name ends in the start of the SHA-256


_RGB = ("B04", "B03", "B02")
"""The bands of Sentinel-2 that are red, green and blue light, in the order of ImageNet's channels."""

_DEPTHS = {
    18: _Depth(BasicBlock, (2, 2, 2, 2), "https://download.pytorch.org/models/resnet18-f37072fd.pth"),
    34: _Depth(BasicBlock, (3, 4, 6, 3), "https://download.pytorch.org/models/resnet34-b627a593.pth"),
    50: _Depth(Bottleneck, (3, 4, 6, 3), "https://download.pytorch.org/models/resnet50-11ad3fa6.pth"),
}


class ResNetEncoder(nn.Module):
    """A ResNet without its classifier (He et al. 2016, arXiv:1512.03385).

    Attributes:
        feature_dim: length of the pooled feature vector.
        channels: channels of the five maps of `pyramid`, finest first.
    """

    def __init__(self, in_channels: int, depth: int = 18, width: float = 1.0) -> None:
        """Build the encoder with random weights (He initialisation).

        Args:
            in_channels: channels of the image.
            depth: 18, 34 or 50 layers.
            width: factor on the channels of every layer; 0.5 quarters the compute of most layers.

        Raises:
            ArgumentError: another depth, or a width that leaves no channel.
        """
        super().__init__()
        if whole_number("depth", depth) not in _DEPTHS:
            raise ArgumentError(f"no ResNet of depth {depth}; choose one of {list(_DEPTHS)}")
        stem = round(64 * real_number("width", width, least=1 / 64))
        in_channels = whole_number("in_channels", in_channels)
        block, counts, _ = _DEPTHS[depth]
        self.depth, self.width, self.in_channels = depth, width, in_channels
        self.conv1 = nn.Conv2d(in_channels, stem, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        planes = [stem * 2**stage for stage in range(4)]
        outputs = [plane * block.expansion for plane in planes]
        self.layer1 = _stage(block, stem, planes[0], counts[0], stride=1)
        self.layer2 = _stage(block, outputs[0], planes[1], counts[1], stride=2)
        self.layer3 = _stage(block, outputs[1], planes[2], counts[2], stride=2)
        self.layer4 = _stage(block, outputs[2], planes[3], counts[3], stride=2)
        self.channels = (stem, *outputs)
        self.feature_dim = outputs[3]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def pyramid(self, image: Tensor) -> list[Tensor]:
        """Feature maps at 1/2, 1/4, 1/8, 1/16 and 1/32 of the size of `image` (B, C, H, W), finest first."""
        x = self.relu(self.bn1(self.conv1(image)))  # (B, stem, H/2, W/2)
        maps = [x]
        x = self.maxpool(x)
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            maps.append(x)
        return maps

    @property
    def last_norm(self) -> nn.Module:
        """The normalisation of the pooled features: none."""
        return nn.Identity()

    def embed(self, image: Tensor) -> Tensor:
        """The input (B, C, H / 4, W / 4) of the first stage for an image (B, in_channels, H, W)."""
        embedded: Tensor = self.maxpool(self.relu(self.bn1(self.conv1(image))))
        return embedded

    def after(self, stage: int) -> nn.Sequential:
        """The stages after `stage`, 0 to 4, each from maps (B, C, h, w) to maps."""
        return nn.Sequential(*(getattr(self, f"layer{later}") for later in range(stage + 1, 5)))

    def cut(self, stage: int) -> None:
        """Remove the stages after `stage`, in place; all later maps of `pyramid` equal that of this stage."""
        for later in range(stage + 1, 5):
            setattr(self, f"layer{later}", nn.Identity())

    def forward(self, image: Tensor) -> Tensor:
        """Pooled features (B, feature_dim) of an image (B, in_channels, H, W) of any size."""
        return self.pyramid(image)[-1].mean(dim=(2, 3))


def _stage(
    block: type[BasicBlock] | type[Bottleneck], in_channels: int, planes: int, count: int, stride: int
) -> nn.Sequential:
    """`count` residual blocks, the first of which changes the resolution and the number of channels."""
    out_channels = planes * block.expansion
    shortcut = None
    if stride != 1 or in_channels != out_channels:
        shortcut = nn.Sequential(
            PointwiseConv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False),
            nn.BatchNorm2d(out_channels),
        )
    first = block(in_channels, planes, stride, shortcut)
    return nn.Sequential(first, *(block(out_channels, planes) for _ in range(count - 1)))


def load_imagenet(encoder: ResNetEncoder, channels: Sequence[str]) -> None:
    """Load torchvision's ImageNet weights into an encoder, in place.

    The first layer has filters for red, green and blue only. B04, B03 and B02 get the filter of their colour, every
    other channel the mean of the three, and all are scaled to keep the magnitude of the sum over channels.

    Args:
        encoder: of width 1.
        channels: the name of each input channel, such as `("B02", "B03", "B04", "VV")`.

    Raises:
        ValueError: the encoder is not of width 1, or `channels` does not name each of its channels.
        DownloadError: the weights are not in torch's cache and cannot be downloaded, or the cached file is damaged.
    """
    if encoder.width != 1.0:
        raise ValueError(f"ImageNet weights exist for width 1, not {encoder.width}; build the encoder with width=1.0")
    if len(channels) != encoder.in_channels:
        raise ValueError(f"{len(channels)} channel names {tuple(channels)} for {encoder.in_channels} channels")
    url = _DEPTHS[encoder.depth].weights
    try:
        with redirect_stdout(StringIO()):  # torch prints the path of its cache even without progress
            state = torch.hub.load_state_dict_from_url(
                url, map_location="cpu", check_hash=True, weights_only=True, progress=False
            )
    except (OSError, RuntimeError, EOFError, UnpicklingError) as error:
        damaged = isinstance(error, EOFError | UnpicklingError)
        cause = "the file does not hold weights" if damaged else str(error) or type(error).__name__
        raise DownloadError(
            f"cannot download the ImageNet weights ({cause}). Fetch {url} on a machine with internet access and put it "
            f"into {torch.hub.get_dir()}/checkpoints/, in place of a damaged one if there is one."
        ) from error
    state = {name: value for name, value in state.items() if not name.startswith("fc.")}
    state["conv1.weight"] = _inflate(state["conv1.weight"], channels)
    encoder.load_state_dict(state)


def _inflate(rgb_filters: Tensor, channels: Sequence[str]) -> Tensor:
    """Filters (F, len(channels), k, k) for named channels from filters (F, 3, k, k) for red, green and blue."""
    mean = rgb_filters.mean(dim=1)
    filters = [rgb_filters[:, _RGB.index(name)] if name in _RGB else mean for name in channels]
    return torch.stack(filters, dim=1) * (3 / len(channels))

"""A small vision transformer, and its pretraining as a masked autoencoder.

Most of an image is hidden, and the network reconstructs it. This needs no second view and compares no samples, so it
cannot collapse like methods of two views. It learns slowly, and its frozen features tend to be worse than those of
contrastive learning, because they keep all detail that reconstruction needs.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bengelib.arguments import check_share, whole_number
from bengelib.errors import ArgumentError, BandError, MissingModalityError
from bengelib.inputs import InputNorm
from bengelib.modalities import InputSpec
from bengelib.running import Mean
from bengelib.ssl import effective_rank, spread
from bengelib.transforms import Batch


def patchify(image: Tensor, patch: int) -> Tensor:
    """Cut an image (B, C, H, W) into squares, (B, N, patch * patch * C), row by row from the upper left.

    Raises:
        ValueError: height or width is not a multiple of `patch`.
    """
    count, channels, height, width = image.shape
    if height % patch or width % patch:
        raise ValueError(
            f"an image of {height} x {width} pixels does not divide into patches of {patch}; crop it to multiples of "
            f"{patch}, for example to {max(patch, height // patch * patch)}"
        )
    squares = image.reshape(count, channels, height // patch, patch, width // patch, patch)
    return squares.permute(0, 2, 4, 3, 5, 1).reshape(count, -1, patch * patch * channels)


def unpatchify(tokens: Tensor, patch: int, rows: int) -> Tensor:
    """The image (B, C, H, W) that `patchify` cut into (B, N, patch * patch * C), with `rows` rows of patches."""
    count, number, length = tokens.shape
    columns, channels = number // rows, length // patch**2
    squares = tokens.reshape(count, rows, columns, patch, patch, channels).permute(0, 5, 1, 3, 2, 4)
    return squares.reshape(count, channels, rows * patch, columns * patch)


def positions(rows: int, columns: int, dim: int, device: torch.device | None = None) -> Tensor:
    """Sinusoidal position embeddings of a grid, (rows * columns, dim): half for the row, half for the column.

    They are those of Vaswani et al. 2017 (arXiv:1706.03762) in two dimensions. They are not learned, so the encoder
    accepts images of any size.
    """
    frequencies = 10_000.0 ** -(torch.arange(dim // 4, device=device) / (dim // 4))  # (dim / 4,)
    codes = []
    for count in (rows, columns):
        angles = torch.arange(count, device=device)[:, None] * frequencies  # (count, dim / 4)
        codes.append(torch.cat([angles.sin(), angles.cos()], dim=1))  # (count, dim / 2)
    grid = [codes[0][:, None].expand(-1, columns, -1), codes[1][None].expand(rows, -1, -1)]
    return torch.cat(grid, dim=2).reshape(rows * columns, dim)


def _transformer(dim: int, depth: int, heads: int) -> nn.TransformerEncoder:
    """Pre-norm blocks of self-attention and a perceptron four times as wide, and a final normalisation."""
    block = nn.TransformerEncoderLayer(
        dim, heads, 4 * dim, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    return nn.TransformerEncoder(block, depth, norm=nn.LayerNorm(dim), enable_nested_tensor=False)


class ViTEncoder(nn.Module):
    """A small vision transformer (Dosovitskiy et al. 2021, arXiv:2010.11929) over one or several stacked images.

    Attributes:
        inputs: the `Modality` of each key.
        feature_dim: length of the features, the mean of the tokens.
        channels: number of channels of the stacked image.
    """

    def __init__(
        self,
        inputs: InputSpec,
        patch: int = 8,
        dim: int = 128,
        depth: int = 4,
        heads: int = 4,
    ) -> None:
        """Build the encoder with random weights.

        Args:
            inputs: images, as in `bengelib.fusion`.
            patch: pixels along a side of a patch, which becomes one token.
            dim: length of a token, a multiple of 4 and of `heads`.
            depth: number of blocks.
            heads: number of attention heads.

        Raises:
            BandError: an unknown modality or band, or a modality that is not an image.
            ValueError: `dim` is not a multiple of 4 and of `heads`.
        """
        super().__init__()
        for name, value in (("patch", patch), ("dim", dim), ("depth", depth), ("heads", heads)):
            whole_number(name, value)
        if dim % 4 or dim % heads:
            raise ArgumentError(f"dim={dim} must be a multiple of 4 and of heads={heads}")
        self.read = InputNorm(inputs)
        self.inputs = self.read.modalities
        if self.read.vectors:
            raise BandError(f"{self.read.vectors} are not images; a vision transformer reads only images")
        self.bands = [len(modality.bands) for modality in self.inputs.values()]
        self.patch, self.channels, self.feature_dim = patch, self.read.stacked_channels(), dim
        self.embed = nn.Linear(patch * patch * self.channels, dim)
        self.blocks = _transformer(dim, depth, heads)

    def split(self, image: Tensor) -> dict[str, Tensor]:
        """The modalities, (B, k, H, W) each, of a stacked image (B, C, H, W), in their physical units."""
        parts = dict(zip(self.inputs, image.split(self.bands, dim=1), strict=True))
        for key, part in parts.items():
            scale: Any = self.read.normalize[key]
            parts[key] = part * scale.std.view(-1, 1, 1) + scale.mean.view(-1, 1, 1)
        return parts

    def tokens(self, image: Tensor) -> Tensor:
        """Tokens (B, N, dim) of an image with position embeddings, before the blocks."""
        rows, columns = image.shape[-2] // self.patch, image.shape[-1] // self.patch
        embedded: Tensor = self.embed(patchify(image, self.patch))  # (B, N, dim)
        return embedded + positions(rows, columns, self.feature_dim, image.device)

    def forward(self, batch: Batch) -> Tensor:
        """Features (B, feature_dim) of the whole images, nothing hidden."""
        return self.blocks(self.tokens(self.read.stack(batch))).mean(dim=1)


def random_mask(
    count: int, number: int, ratio: float, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Random choice of the visible patches, independent for each sample, always the same number.

    Args:
        count: number of samples B.
        number: number of patches N of each.
        ratio: fraction to hide, above 0 and below 1.
        generator: on the CPU; torch's default generator unless given.

    Returns:
        `visible` (B, V) int64, the indices of the visible patches, and `restore` (B, N) int64: the index of each patch
        of the image in a sequence of the V visible patches followed by the N - V hidden ones.

    Raises:
        ValueError: a ratio out of range, or one that hides no patch or all of them.
    """
    visible = check_ratio(ratio, number)
    shuffled = torch.rand(count, number, generator=generator).argsort(dim=1)  # (B, N), place of the k-th
    return shuffled[:, :visible], shuffled.argsort(dim=1)


def check_ratio(ratio: float, number: int | None = None) -> int:
    """Number of patches, out of `number`, that stay visible.

    Raises:
        ValueError: the ratio is not above 0 and below 1, or hides none or all of the patches.
    """
    check_share("ratio", ratio, one=False)
    if number is None:
        return 0
    visible = round(number * (1 - ratio))
    if not 0 < visible < number:
        raise ValueError(
            f"ratio={ratio} of {number} patches leaves {visible} visible; use larger images or smaller patches"
        )
    return visible


class MaskedAutoencoder(nn.Module):
    """Hides most of an image from a `ViTEncoder` and reconstructs it (He et al. 2022, arXiv:2111.06377).

    The encoder processes the visible tokens only, which makes pretraining cheap. A light decoder receives them at their
    positions, with a learned mask token at every hidden position, and predicts pixels. It is discarded afterwards; the
    `encoder` is kept.

    Attributes:
        inputs: inputs of the encoder.
        feature_dim: length of `features`.
    """

    def __init__(self, encoder: ViTEncoder, ratio: float = 0.75, dim: int = 64, depth: int = 1, heads: int = 4) -> None:
        """Add a decoder of `depth` blocks with tokens of length `dim` to an encoder.

        Raises:
            ValueError: `ratio`, the fraction of patches to hide, is not between 0 and 1, or `dim` is not a multiple of
                4 and of `heads`.
        """
        super().__init__()
        check_ratio(ratio)
        for name, value in (("dim", dim), ("depth", depth), ("heads", heads)):
            whole_number(name, value)
        if dim % 4 or dim % heads:
            raise ArgumentError(f"dim={dim} must be a multiple of 4 and of heads={heads}")
        self.encoder, self.ratio = encoder, ratio
        self.inputs, self.feature_dim = encoder.inputs, encoder.feature_dim
        self.to_decoder = nn.Linear(encoder.feature_dim, dim)
        self.hidden = nn.Parameter(0.02 * torch.randn(dim))
        self.decoder = _transformer(dim, depth, heads)
        self.to_pixels = nn.Linear(dim, encoder.patch**2 * encoder.channels)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Reconstruct the hidden patches, drawn anew in training and always the same in evaluation.

        Returns:
            `reconstruction` and `pixels`, prediction and truth of all patches, (B, N, patch * patch * C), `mask`
            (B, N), 1 where a patch is hidden and 0 elsewhere, and `features` (B, feature_dim) of the visible patches.
        """
        image = self.encoder.read.stack(batch)
        generator = None if self.training else torch.Generator().manual_seed(0)
        pixels = patchify(image, self.encoder.patch)  # (B, N, P)
        visible, restore = random_mask(len(pixels), pixels.shape[1], self.ratio, generator)  # (B, V), (B, N)
        visible, restore = visible.to(image.device), restore.to(image.device)
        tokens = self.encoder.tokens(image)  # (B, N, dim)
        seen = self.encoder.blocks(take(tokens, visible))  # (B, V, dim)
        decoded = self._decode(seen, restore, image.shape[-2] // self.encoder.patch)
        mask = (restore >= visible.shape[1]).to(image.dtype)  # (B, N)
        return {"reconstruction": decoded, "mask": mask, "pixels": pixels, "features": seen.mean(dim=1)}

    def _decode(self, seen: Tensor, restore: Tensor, rows: int) -> Tensor:
        """Pixels (B, N, P) of all patches from the visible tokens (B, V, dim)."""
        known = self.to_decoder(seen)  # (B, V, d)
        count, visible, dim = known.shape
        unknown = self.hidden.to(known.dtype).expand(count, restore.shape[1] - visible, dim)  # (B, N - V, d)
        tokens = take(torch.cat([known, unknown], dim=1), restore)  # (B, N, d), every patch in its place
        place = positions(rows, restore.shape[1] // rows, dim, seen.device)
        pixels: Tensor = self.to_pixels(self.decoder(tokens + place))
        return pixels

    def features(self, batch: Batch) -> Tensor:
        """Features (B, feature_dim) of whole images, from the encoder."""
        features: Tensor = self.encoder(batch)
        return features

    @torch.no_grad()
    def reconstruct(self, batch: Batch) -> dict[str, dict[str, Tensor]]:
        """Original, masked and reconstructed images, for figures.

        Reconstructed patches get the mean and standard deviation of the true ones, which are not predicted.

        Returns:
            `original`, `masked` (NaN where hidden) and `reconstruction` (predicted where hidden, the truth elsewhere),
            each with the modalities in physical units, (B, k, H, W).
        """
        outputs = self(batch)
        pixels, hidden = outputs["pixels"], outputs["mask"][..., None] > 0  # (B, N, P), (B, N, 1)
        mean, std = _patch_moments(pixels)
        images = {
            "original": pixels,
            "masked": pixels.masked_fill(hidden, math.nan),
            "reconstruction": torch.where(hidden, outputs["reconstruction"].float() * std + mean, pixels),
        }
        patch = self.encoder.patch
        rows = next(batch[key].shape[-2] for key in self.inputs if key in batch) // patch
        return {name: self.encoder.split(unpatchify(tokens, patch, rows)) for name, tokens in images.items()}


def take(tokens: Tensor, places: Tensor) -> Tensor:
    """Tokens (B, M, dim) at the indices `places` (B, M) of tokens (B, N, dim)."""
    return tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[-1]))


def _patch_moments(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each patch, (B, N, 1) each; the latter is never 0."""
    return pixels.mean(dim=-1, keepdim=True), (pixels.var(dim=-1, keepdim=True, correction=0) + 1e-6).sqrt()


def masked_loss(reconstruction: Tensor, pixels: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error over the hidden patches, each true patch scaled to mean 0 and deviation 1 (He et al. 2022).

    Without the scaling, bright patches would dominate. Sanity value: 1 for a prediction of 0 everywhere.

    Args:
        reconstruction: predictions, (B, N, P).
        pixels: the truth, (B, N, P).
        mask: (B, N), 1 where a patch was hidden and 0 elsewhere.

    Returns:
        (), 0 or more.

    Raises:
        ValueError: shapes do not match, or no patch is hidden.
    """
    if reconstruction.shape != pixels.shape or mask.shape != pixels.shape[:2]:
        raise ValueError(
            f"expected (B, N, P), (B, N, P) and (B, N), got {tuple(reconstruction.shape)}, {tuple(pixels.shape)} and "
            f"{tuple(mask.shape)}"
        )
    if mask.device.type == "cpu" and not mask.any():  # a check would wait for another device; the loss is NaN there
        raise ValueError("no patch is hidden, so there is nothing to reconstruct")
    exact = torch.promote_types(pixels.dtype, torch.float32)  # not 16 bits; torch 2.11 takes no two types in one loss
    pixels = pixels.to(exact)
    mean, std = _patch_moments(pixels)
    errors = F.mse_loss(reconstruction.to(exact), (pixels - mean) / std, reduction="none").mean(dim=-1)  # (B, N)
    return (errors * mask).sum() / mask.sum()


class Reconstruction:
    """Reconstruction of hidden patches, for `fit(MaskedAutoencoder(...), [Reconstruction()], augment=Views(64))`."""

    target = "reconstruction"

    def loss(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Any]) -> Tensor:
        """See `masked_loss`.

        Raises:
            MissingModalityError: the outputs are not those of a `MaskedAutoencoder`.
        """
        if missing := [key for key in ("reconstruction", "pixels", "mask") if key not in outputs]:
            raise MissingModalityError(
                f"the model's outputs lack {missing}; they have {sorted(outputs)}. Train a MaskedAutoencoder."
            )
        return masked_loss(outputs["reconstruction"], outputs["pixels"], outputs["mask"])

    def watch(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`spread` and `rank` of the features of one batch, () each; see `bengelib.ssl`."""
        return {"spread": spread(outputs["features"]), "rank": effective_rank(outputs["features"])}

    def metric(self) -> Mean:
        """A mean over samples; it is exact, since all have the same number of hidden patches."""
        return Mean()

    def update(self, metric: Mean, outputs: Mapping[str, Tensor], batch: Mapping[str, Any]) -> None:
        """Add one batch."""
        metric.update(self.loss(outputs, batch), len(outputs["mask"]))

    def summary(self, metric: Mean) -> dict[str, float]:
        """`error`, the mean squared error of hidden patches scaled to deviation 1; predicting their mean gives 1."""
        return {"error": metric.compute()}

"""Synthetic clouds and cloud shadows on Sentinel-2 patches, to measure how robust a model is to them."""

import torch
from torch import Tensor
from torch.nn import functional as F

from bengelib.arguments import check_share
from bengelib.bands import S2_BANDS
from bengelib.errors import BandError
from bengelib.transforms import Batch

# A thick cloud is white in the visible and the near infrared and darker where ice absorbs; round numbers.
CLOUD_REFLECTANCE = {band: 0.65 for band in S2_BANDS} | {"B01": 0.7, "B09": 0.5, "B11": 0.4, "B12": 0.3}
SHADOW_FACTOR = 0.35
SHADOW_SHIFT = (9, 14)
"""Pixels from a cloud to its shadow, down and to the right: a low sun in the north-west of the picture."""


def paint_clouds(batch: Batch, cover: float, generator: torch.Generator, s2_bands: tuple[str, ...] = S2_BANDS) -> Batch:
    """Cover a fraction of each Sentinel-2 patch with cloud, and darken the pixels in its shadow.

    Clouds are the highest parts of a smooth random field, so their outlines are ragged, and a larger cover contains the
    smaller one. Edges are thin. Sentinel-1 and all other keys are unchanged: radar sees through clouds.

    Args:
        batch: with `s2` (B, k, H, W) reflectance.
        cover: fraction of each patch under cloud, from 0 (unchanged) to 1 (nothing but cloud).
        generator: on the CPU; the same seed gives the same clouds.
        s2_bands: names of the k bands.

    Returns:
        A new batch.

    Raises:
        ValueError: `cover` is not in [0, 1].
        BandError: the number of names is not that of the bands, or a name is unknown.
    """
    check_share("cover", cover, zero=True)
    s2: Tensor = batch["s2"]
    if s2.shape[1] != len(s2_bands):
        raise BandError(f"s2 has {s2.shape[1]} bands, but {len(s2_bands)} names were given: {s2_bands}")
    if unknown := [band for band in s2_bands if band not in CLOUD_REFLECTANCE]:
        raise BandError(f"unknown s2_bands {unknown}; choose from {list(CLOUD_REFLECTANCE)}")
    if cover == 0:
        return dict(batch)
    field = _field(len(s2), s2.shape[-2], s2.shape[-1], generator).to(s2.device)  # (B, H, W)
    threshold = field.flatten(1).quantile(1 - cover, dim=1)[:, None, None]
    cloud = torch.sigmoid((field - threshold) * 25) if cover < 1 else torch.ones_like(field)  # 0.5 at the outline
    down, right = SHADOW_SHIFT
    shadow = F.pad(cloud, (right, 0, down, 0))[:, : cloud.shape[1], : cloud.shape[2]] * (1 - cloud)
    colour = torch.tensor([CLOUD_REFLECTANCE[band] for band in s2_bands], device=s2.device)[None, :, None, None]
    brightness = 0.85 + 0.3 * torch.rand(len(s2), 1, 1, 1, generator=generator).to(s2.device)
    ground = s2 * (1 - (1 - SHADOW_FACTOR) * shadow[:, None])
    return {**batch, "s2": ground * (1 - cloud[:, None]) + colour * brightness * cloud[:, None]}


def _field(count: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Smooth random fields (count, height, width), sums of noise at four scales, of unit spread."""
    total = torch.zeros(count, 1, height, width)
    for cells, weight in ((3, 1.0), (6, 0.5), (12, 0.25), (24, 0.12)):
        noise = torch.randn(count, 1, cells, cells, generator=generator)
        total += weight * F.interpolate(noise, size=(height, width), mode="bicubic", align_corners=False)
    flat = total.flatten(1)
    return ((flat - flat.mean(dim=1, keepdim=True)) / flat.std(dim=1, keepdim=True)).view(count, height, width)

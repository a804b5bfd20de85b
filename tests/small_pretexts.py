"""Every method of self-supervised learning on a few small images, as `pretrain` trains it."""

from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch.utils.data import Dataset

from bengelib.engine import Augmentation, seed_everything
from bengelib.methods import TABLE, convnext
from bengelib.methods.pairs import Pairs
from bengelib.modalities import as_modality
from bengelib.recipes.pretraining import Pretext, Pretraining, build_encoder, pretext, strong_views

INPUTS = {"s2": ("B02", "B03", "B04", "B08"), "s1": ("VV", "VH")}


class Scenes(Dataset):
    """Images of 24 pixels by two sensors, and all that a method may ask for beside them."""

    s2_bands, s1_bands = INPUTS["s2"], INPUTS["s1"]

    def __init__(self, count: int = 22, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.s1 = random.normal(-15, 4, (count, 2, 24, 24)).astype(np.float32)
        self.s2 = random.uniform(0, 0.4, (count, 4, 24, 24)).astype(np.float32)
        self.kind, self.size = random.integers(0, 3, count), random.normal(0, 1, count).astype(np.float32)
        self.tags = random.integers(0, 2, (count, 2)).astype(np.float32)
        self.lonlat = random.uniform(0, 20, (count, 2))
        self.kind[random.random(count) < 0.3] = 255  # some labels are missing, unevenly
        self.tags[random.random(count) < 0.4] = np.nan

    def __len__(self) -> int:
        return len(self.size)

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = {name: torch.as_tensor(getattr(self, name)[index]) for name in ("s1", "s2", "kind", "tags", "size")}
        return {**sample, "lonlat": torch.as_tensor(self.lonlat[index]), "patch_id": f"scene {index}"}


def small_pretext(method: str, data: Dataset, views: Augmentation | None = None, **options: Any) -> Pretext:
    """What `fit` is given for a method; `options` are those of `Pretraining`."""
    settings = Pretraining(method=method, precision="no", **options)
    needs = TABLE[method].needs
    seed_everything(0)
    if TABLE[method].two_sensors:
        encoders = [build_encoder({key: bands}, "simclr", 18, 4) for key, bands in INPUTS.items()]
    else:
        inputs = {key: replace(as_modality(key, bands), size=24) for key, bands in INPUTS.items()}
        with patch.dict(convnext.SIZES, atto=convnext._Size((1, 1, 1, 1), 8)):  # the smallest takes seconds a step
            encoders = [build_encoder(inputs, method, 18, 4)]
    if "two dates" in needs:
        data = Pairs(data, np.roll(np.arange(len(data)), 1))
    return pretext(encoders[0], data, views or strong_views(16, INPUTS), settings, *encoders[1:])

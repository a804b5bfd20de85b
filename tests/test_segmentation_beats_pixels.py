"""What the surroundings of a pixel are worth: the U-Net against a logistic regression of single pixels (slow)."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bengelib.bands import LAND_COVER_NAMES, S1_BANDS, S2_BANDS
from bengelib.data.decode import decode
from bengelib.data.loading import load
from bengelib.data.packed import PackedBENGE
from bengelib.engine import evaluate, seed_everything
from bengelib.fusion import EarlyFusion
from bengelib.heads import Network, SegmentationHead
from bengelib.metrics import confusion_by_patch, mean_iou
from bengelib.sim.simulate import simulate
from bengelib.tasks import Segmentation
from bengelib.transforms import Augment
from tests.training import fit_with

PATCHES = 600
PIXELS = 60_000  # that the regression learns from


def pixels(data: PackedBENGE) -> tuple[np.ndarray, np.ndarray]:
    """Bands (N, H, W, C) and classes (N, H, W) of every pixel."""
    batch = decode(data.read_batch(range(len(data))), data.s2_bands)
    return torch.cat([batch["s2"], batch["s1"]], dim=1).permute(0, 2, 3, 1).numpy(), batch["land_cover"].numpy()


@pytest.mark.slow
def test_the_unet_beats_a_logistic_regression_of_pixels(tmp_path):
    root = simulate(tmp_path / "ben-ge-sim", PATCHES, 0, progress=False)
    train, val, test = (
        load(root, split, ("s2", "s1"), ("land_cover",), progress=False) for split in ("train", "val", "test")
    )
    bands, truth = pixels(train)
    known = np.flatnonzero(truth.ravel() != 255)
    chosen = np.random.default_rng(0).choice(known, min(PIXELS, len(known)), replace=False)
    regression = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    regression.fit(bands.reshape(-1, bands.shape[-1])[chosen], truth.ravel()[chosen])
    bands, truth = pixels(test)
    predicted = regression.predict(bands.reshape(-1, bands.shape[-1])).reshape(truth.shape)
    of_pixels = float(mean_iou(confusion_by_patch(predicted, truth, len(LAND_COVER_NAMES)).sum(axis=0)[None])[0])

    seed_everything(0)
    encoder = EarlyFusion({"s2": S2_BANDS, "s1": S1_BANDS}, width=0.5)
    model = Network(encoder, {"land_cover": SegmentationHead(encoder.channels, LAND_COVER_NAMES)})
    tasks = [Segmentation("land_cover", LAND_COVER_NAMES)]
    options = {"epochs": 12, "batch_size": 16, "lr": 6e-3, "augment": Augment(64), "progress": False, "precision": "no"}
    fit_with(model, tasks, train, val, monitor="land_cover/mean_iou", **options)
    of_unet = evaluate(model, tasks, test, precision="no")["land_cover/mean_iou"]
    assert of_unet > of_pixels, f"U-Net {of_unet:.3f}, pixels {of_pixels:.3f}"

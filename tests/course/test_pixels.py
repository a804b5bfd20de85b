import numpy as np
import torch

from bengelib.bands import IGNORE_INDEX
from bengelib.course.pixels import PixelClassifier


def test_pixels_that_differ_in_one_band_are_told_apart_and_unlabelled_ones_do_not_count():
    random = np.random.default_rng(0)
    truth = torch.from_numpy(random.integers(0, 2, (6, 8, 8)))
    truth[truth == 1] = 5
    s2 = torch.from_numpy(random.normal(0.2, 0.01, (6, 12, 8, 8))).float()
    s2[:, 3] += 0.2 * (truth == 5)
    labels = truth.clone()
    labels[:3] = IGNORE_INDEX
    model = PixelClassifier().fit({"s2": s2, "land_cover": labels}, 150, random, max_iter=200)
    with torch.no_grad():
        logits = model({"s2": s2})["land_cover"]
    assert logits.shape == (6, 11, 8, 8)
    assert set(logits.argmax(dim=1).unique().tolist()) == {0, 5}  # a class that was never seen is never said
    assert (logits.argmax(dim=1) == truth).float().mean() > 0.99


def test_the_same_generator_gives_the_same_model():
    random = np.random.default_rng(0)
    batch = {"s2": torch.rand(2, 12, 8, 8), "land_cover": torch.from_numpy(random.integers(0, 3, (2, 8, 8)))}
    first, second = (PixelClassifier().fit(batch, 60, np.random.default_rng(1)).state_dict() for _ in range(2))
    assert all(torch.equal(value, second[name]) for name, value in first.items())

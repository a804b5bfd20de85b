import warnings

import pytest

from bengelib.checkpoint import save_checkpoint
from bengelib.errors import BandError, CheckpointError, DataWarning
from bengelib.fusion import EarlyFusion
from bengelib.heads import Network
from bengelib.modalities import Modality
from bengelib.recipes.compatible import check_inputs, check_start

S2 = Modality("s2", "image", ("B02", "B03", "B04"), (0.05, 0.06, 0.07), (0.02, 0.03, 0.04), ("reflectance",) * 3)


def changed(factor, offset=0.0, spread=1.0):
    """The same bands with other statistics."""
    mean = tuple(factor * mean + offset for mean in S2.mean)
    return Modality("s2", "image", S2.bands, mean, tuple(factor * spread * std for std in S2.std), S2.unit)


def stored(scale, offset=0.0):
    return {"s2": {"scale": [scale] * 3, "offset": [offset] * 3, "no_data": []}}


@pytest.mark.parametrize("factor", [0.2, 0.5, 2, 5, 6.9])
@pytest.mark.parametrize("offset", [0.0, -0.1])
def test_the_same_numbers_with_another_scale_are_refused(factor, offset):
    """Below the factor of 8 that statistics alone show."""
    words = rf"of scale 0\.0001, and the dataset states {factor * 1e-4:g} .*{factor:.3g} times as large"
    for wobble in (1.0, 1.15):
        with pytest.raises(BandError, match=words):
            check_inputs(
                {"s2": S2}, {"s2": changed(factor * wobble, offset)}, stored(1e-4), stored(factor * 1e-4, offset)
            )


def test_other_numbers_with_another_scale_are_the_same_reflectance():
    for data in (changed(1), changed(1.2), changed(0.5, spread=2)):
        check_inputs({"s2": S2}, {"s2": data}, stored(1e-4), stored(5e-4))
    check_inputs({"s2": S2}, {"s2": changed(2)}, stored(1e-4), stored(1e-4))  # brighter ground
    for one, other in ((None, None), ({}, {}), (stored(1e-4), None), (None, stored(2e-4))):
        check_inputs({"s2": S2}, {"s2": changed(2)}, one, other)
    with pytest.raises(BandError, match="state the scale and the offset as they were in the training"):
        check_inputs({"s2": S2}, {"s2": changed(9)})


def test_pixels_of_another_size_are_told():
    fine, coarse = ({"s2": {"pixel": [side, side]}} for side in (10.0, 60.0))
    with pytest.warns(DataWarning, match="s2 of pixels of 10 x 10 m, and the dataset has 60 x 60 m"):
        check_inputs({"s2": S2}, {"s2": S2}, fine, coarse)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for other in (fine, {}, None, stored(1e-4)):
            check_inputs({"s2": S2}, {"s2": S2}, fine, other)


@pytest.mark.parametrize(
    ("settings", "fusion", "words"),
    [
        ({"method": "mae"}, "early", r"the encoder of mae, which is no ResNet.*'simclr'.*probe with --modes finetune"),
        ({"method": "multi-pretext"}, "late", r"the encoder of multi-pretext, which is no ResNet"),
        (
            {"method": "cross-modal"},
            "early",
            r"an encoder of late fusion, and the network is to be one of early",
        ),
        ({"method": "simclr"}, "film", r"an encoder of early fusion.*give --fusion early"),
        ({"fusion": "late"}, "early", r"give --fusion late"),
        ({"fusion": "decision"}, "early", r"of decision fusion, and training starts from one encoder"),
        ({"method": "simclr"}, "early", ""),
        ({"method": "cross-modal"}, "late", ""),
        ({"fusion": "film"}, "film", ""),
        ({}, "feature", ""),
    ],
)
def test_what_training_can_start_from(tmp_path, settings, fusion, words):
    encoder = EarlyFusion({"s2": ("B02",)}, width=0.0625)
    save_checkpoint(tmp_path / "start", Network(encoder, {}), {"settings": settings})
    if not words:
        return check_start(tmp_path / "start", fusion)
    with pytest.raises(CheckpointError, match=words):
        check_start(tmp_path / "start", fusion)

import numpy as np
import pytest

from bengelib.bands import IGNORE_INDEX
from bengelib.errors import BandError
from bengelib.modalities import Modality, Target
from bengelib.plot import plot_described

INPUTS = {
    "optical": Modality("optical", "image", ("B02", "B03", "B04", "B08"), [0] * 4, [1] * 4, ("reflectance",) * 4),
    "radar": Modality("radar", "image", ("VV",), [0], [1], ("dB",)),
    "weather": Modality("weather", "vector", ("rain", "heat"), [0] * 2, [1] * 2, ("mm", "K")),
}
OUTPUTS = {
    "crop": Target("crop", "class", ("maize", "wheat")),
    "tags": Target("tags", "labels", ("dry", "late", "steep")),
    "cover": Target("cover", "map", ("field", "wood", "water"), colours=("#ff0000", "#00ff00", "#0000ff")),
    "harvest": Target("harvest", "number", unit="t/ha"),
}


def a_sample():
    optical = np.arange(4 * 36, dtype=float).reshape(4, 6, 6)
    cover = np.ones((6, 6), int)
    cover[0] = IGNORE_INDEX
    return {"optical": optical, "radar": -optical[:1], "weather": np.array([3.0, 280.5]), "crop": 1,
            "tags": np.array([1.0, 0.0, 1.0]), "cover": cover, "harvest": np.nan, "patch_id": "p1"}  # fmt: skip


def test_a_sample_of_any_dataset_is_drawn_by_what_the_dataset_states():
    figure = plot_described(a_sample(), INPUTS, OUTPUTS, {"crop": 0, "cover": np.zeros((6, 6), int)}, note="made up")
    titles = [axis.get_title() for axis in figure.axes[:5]]
    assert titles == ["optical: B04, B03, B02", "radar: VV", "cover", "predicted cover", "p1"]
    picture = figure.axes[0].get_images()[0].get_array()
    assert picture.shape == (6, 6, 3) and (picture[..., 0] > picture[..., 2]).any()  # B04 is the red one
    assert figure.axes[1].get_images()[0].get_array().shape == (6, 6) and "dB" in figure.axes[1].get_xlabel()
    assert [text.get_text() for text in figure.axes[2].get_legend().get_texts()] == ["wood"]
    words = figure.axes[4].texts[0].get_text().splitlines()
    assert words == ["rain 3 mm", "heat 280.5 K", "crop: wheat", "predicted crop: maize", "tags: dry, steep",
                     "harvest: unknown"]  # fmt: skip
    assert figure.get_supxlabel() == "made up"


def test_vectors_alone_and_labels_that_are_missing():
    figure = plot_described({"weather": np.array([1.0, 2.0]), "crop": IGNORE_INDEX}, INPUTS, OUTPUTS)
    assert figure.axes[0].texts[0].get_text().splitlines() == ["rain 1 mm", "heat 2 K", "crop: unknown"]


def test_a_sample_of_another_dataset_is_refused():
    with pytest.raises(BandError, match="optical of the sample has 3 bands"):
        plot_described({**a_sample(), "optical": np.zeros((3, 6, 6))}, INPUTS)

import numpy as np
import pytest
import torch

from bengelib.bands import S2_BANDS
from bengelib.course import frozen
from bengelib.course.frozen import FrozenFeatures, band_statistics, label_draws
from bengelib.data.labelled import label_subsets
from bengelib.data.loading import load
from bengelib.intervals import bootstrap
from bengelib.probe import fit_logistic, knn_probe
from tests.fake_tree import write_fake_tree

SIZES = {"train": 60, "val": 30}


@pytest.fixture
def sides():
    """Labels, tiles and features that tell the classes apart."""
    random = np.random.default_rng(0)
    labels = {split: random.integers(0, 3, size) for split, size in SIZES.items()}
    tiles = {split: np.array([f"tile {index % 6}" for index in range(size)]) for split, size in SIZES.items()}
    features = {
        split: np.eye(3)[values] + 0.3 * random.normal(size=(len(values), 3)) for split, values in labels.items()
    }
    return labels, tiles, features


def test_probes_are_those_of_the_library_and_fitted_once(sides, monkeypatch):
    labels, tiles, features = sides
    several = FrozenFeatures(labels, tiles, 3)
    several.add("m", features)
    few = np.arange(20)
    probe = fit_logistic(features["train"][few], labels["train"][few], 3)
    assert (several.predict("m", "val", few) == probe.predict(features["val"])).all()
    near = knn_probe(features["train"][few], labels["train"][few], features["val"])
    assert (several.nearest("m", "val", few) == near).all()
    monkeypatch.setattr(frozen, "fit_logistic", None)
    several.predict("m", "train", few)
    several.add("m", features)  # features may be others now
    with pytest.raises(TypeError):
        several.predict("m", "val", few)


def test_a_score_draws_tiles_and_draws_of_labels(sides):
    labels, tiles, features = sides
    several = FrozenFeatures(labels, tiles, 3)
    several.add("m", features)
    draws = [np.arange(20), np.arange(20, 40)]
    predicted = np.stack([several.predict("m", "val", draw) for draw in draws])
    assert several.score("m", "val", draws, 50) == bootstrap(predicted, labels["val"], groups=tiles["val"], draws=50)
    assert several.score("m", "val", draws=50).value == (several.predict("m", "val") == labels["val"]).mean()
    assert list(several) == ["m"]


def test_the_neighbour_of_a_patch_is_another_patch(sides):
    labels, tiles, _ = sides
    several = FrozenFeatures(labels, tiles, 3)
    values = np.array([[0.0, 0], [0.1, 0], [5, 100], [5.1, 101]])
    several.add("m", {"val": values})
    assert several.neighbour("m", "val").tolist() == [1, 0, 3, 2]
    np.testing.assert_allclose(several.standard("m", "val").std(axis=0), 1, rtol=1e-4)


def test_draws_have_the_fractions_at_which_every_class_has_a_label(recwarn):
    labels = np.repeat([0, 1, 2], [100, 40, 4])
    drawn, shares = label_draws(labels, (0.01, 0.25, 1.0), (0, 1))
    assert shares == [0.25, 1.0] and len(drawn) == 2 and not recwarn.list
    expected = label_subsets(labels, (0.25, 1.0), 1)
    assert all((drawn[1][share] == expected[share]).all() for share in shares)


def test_band_statistics_are_those_of_each_band(tmp_path):
    data = load(write_fake_tree(tmp_path / "ben-ge-fake"), None, ("s2",), (), progress=False)
    found = band_statistics(data, batch_size=4)
    s2 = torch.stack([data[index]["s2"] for index in range(len(data))])
    assert found.shape == (len(data), 2 * len(S2_BANDS))
    np.testing.assert_allclose(found[:, :12], s2.mean(dim=(2, 3)), rtol=1e-5)
    np.testing.assert_allclose(found[:, 12:], s2.std(dim=(2, 3)), atol=1e-5)

"""Shares of labels that lie within each other, and a dataset that hides the rest wherever it is read from."""

import itertools
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset

from bengelib.bands import LAND_COVER_NAMES, S1_BANDS
from bengelib.data.decode import decode
from bengelib.data.hide_labels import HideLabels, labelled_share
from bengelib.data.packed import PackedBENGE
from bengelib.data.packing import pack
from bengelib.engine import predict
from bengelib.errors import MissingModalityError
from bengelib.fusion import EarlyFusion
from bengelib.heads import Network, RegressionHead, SegmentationHead, hard_maps
from bengelib.tasks import Regression, Segmentation
from tests.fake_tree import write_fake_tree
from tests.training import fit_with


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    root = write_fake_tree(tmp_path_factory.mktemp("labels") / "ben-ge-fake")
    pack(root, progress=False)
    return PackedBENGE(root, modalities=("s1",), targets=("land_cover", "climate_zone", "season"))


IDS = [f"patch {number}" for number in range(400)]


def test_smaller_shares_lie_within_larger_ones():
    shares = [labelled_share(IDS, fraction) for fraction in (0.01, 0.05, 0.3, 1.0)]
    assert [int(share.sum()) for share in shares] == [4, 20, 120, 400]
    for small, large in itertools.pairwise(shares):
        assert not (small & ~large).any()


def test_a_share_does_not_depend_on_the_order_of_the_patches():
    share = dict(zip(IDS, labelled_share(IDS, 0.1), strict=True))
    order = np.random.default_rng(0).permutation(len(IDS))
    assert labelled_share([IDS[place] for place in order], 0.1).tolist() == [share[IDS[place]] for place in order]


def test_one_patch_is_labelled_at_least():
    assert labelled_share(IDS[:3], 0.01).sum() == 1


@pytest.mark.parametrize(("ids", "fraction"), [(IDS, 0), (IDS, 1.1), (IDS, -0.5), (IDS, np.nan), ([], 0.5)])
def test_shares_that_cannot_be_are_refused(ids, fraction):
    with pytest.raises(ValueError, match="fraction"):
        labelled_share(ids, fraction)


@pytest.mark.parametrize("target", ["land_cover", "climate_zone", "season"])
def test_labels_are_hidden_however_they_are_read(packed, target):
    hidden = HideLabels(packed, target, 0.5)
    assert len(hidden) == 6 and hidden.labelled.sum() == 3 and hidden.s1_bands == packed.s1_bands
    whole = decode(packed.read_batch(range(6)))
    readings = {
        "read_batch": decode(hidden.read_batch(range(6))),
        "samples": {key: torch.stack([torch.as_tensor(hidden[i][key]) for i in range(6)]) for key in (target, "s1")},
        "loader": next(iter(DataLoader(hidden, batch_size=6))),
        "subset": next(iter(DataLoader(Subset(hidden, range(6)), batch_size=6))),
        "pickled": decode(pickle.loads(pickle.dumps(hidden)).read_batch(range(6))),
    }
    for name, batch in readings.items():
        labels, before = batch[target], whole[target]
        unknown = labels.isnan() if labels.is_floating_point() else labels == 255
        unknown = unknown.flatten(1).all(dim=1) if unknown.ndim > 1 else unknown
        assert unknown.tolist() == (~hidden.labelled).tolist(), name
        assert torch.equal(labels[~unknown], before[~unknown].to(labels.dtype)), name
        torch.testing.assert_close(batch["s1"], whole["s1"], msg=name)
    for other in {"land_cover", "climate_zone", "season"} - {target}:
        assert torch.equal(readings["read_batch"][other], whole[other])


def test_land_cover_is_hidden_as_the_code_that_decodes_to_255(packed):
    hidden = HideLabels(packed, "land_cover", 0.5)
    stored = hidden.read_batch(range(6))["land_cover"]
    assert stored.dtype == torch.uint8
    assert (stored[~torch.from_numpy(hidden.labelled)] == 0).all()  # the no-data code of the source, not an index
    assert (decode({"land_cover": stored})["land_cover"][~torch.from_numpy(hidden.labelled)] == 255).all()
    again = packed.read_batch(range(6))["land_cover"]
    assert (again != 0).any(dim=(1, 2)).all()  # the data below are as they were


def test_a_target_that_is_not_there_is_named(packed):
    with pytest.raises(MissingModalityError, match="no 'weather' to hide"):
        HideLabels(packed, "weather", 0.5)


@pytest.mark.parametrize("workers", [0, 1])
def test_training_sees_no_hidden_label(packed, workers):
    """The loss of the first epoch, at a rate of nearly 0, is the mean over labelled patches alone."""
    seen = []

    class Watching(Segmentation):
        def loss(self, outputs, batch):
            seen.extend((batch["land_cover"] != 255).flatten(1).any(dim=1).tolist())
            return super().loss(outputs, batch)

    torch.manual_seed(0)
    encoder = EarlyFusion({"s1": S1_BANDS}, width=0.125)
    heads = {
        "land_cover": SegmentationHead(encoder.channels, LAND_COVER_NAMES, width=4),
        "season": RegressionHead(encoder.feature_dim, 0.5, 0.3),
    }
    model = Network(encoder, heads)
    tasks = (Watching("land_cover", LAND_COVER_NAMES), Regression("season", 0.3))
    data = HideLabels(packed, "land_cover", 0.34)
    options = {"epochs": 1, "batch_size": 3, "precision": "no", "progress": False}
    history = fit_with(model, tasks, data, workers=workers, **options)
    assert sum(seen) == data.labelled.sum() == 2
    assert np.isfinite(history.rows[0]["train/land_cover/loss"])
    predictions = predict(model, data, reduce=hard_maps, batch_size=4, precision="no")
    labelled = (predictions.labels["land_cover"] != 255).any(axis=(1, 2))
    assert labelled.tolist() == data.labelled.tolist()

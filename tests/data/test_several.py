import numpy as np
import pytest
import torch
from torch.utils.data import Subset

from bengelib.data.batches import read_samples
from bengelib.data.described import DescribedDataset
from bengelib.data.packed import PackedBENGE
from bengelib.data.packing import pack
from bengelib.data.several import SeveralDatasets
from bengelib.errors import BandError, SplitError
from bengelib.methods.geolocation import lonlat_of
from tests import fake_tree as fake
from tests.described_folders import rewrite, write_crops


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """Six patches, and four others of the same kind. To be read only."""
    folder = tmp_path_factory.mktemp("several")
    roots = [fake.write_fake_tree(folder / "one"), fake.write_fake_tree(folder / "two", 4, first=6)]
    for root in roots:
        pack(root, progress=False)
    return roots


def test_a_batch_is_what_the_datasets_hold(trees):
    parts = [PackedBENGE(root, targets=("climate_zone", "lonlat")) for root in trees]
    data = SeveralDatasets(parts)
    assert len(data) == 10 and data.patch_ids == [*parts[0].patch_ids, *parts[1].patch_ids]
    places = [9, 0, 6, 5]
    batch = data.read_batch(places)
    for place, (part, row) in enumerate(((1, 3), (0, 0), (1, 0), (0, 5))):
        expected = parts[part].read_batch([row])
        assert batch.keys() == expected.keys() and batch["patch_id"][place] == expected["patch_id"][0]
        for key, value in expected.items():
            assert key == "patch_id" or torch.equal(batch[key][place], value[0])
    decoded = data.decode(batch)
    assert torch.equal(decoded["s2"][0], parts[1][3]["s2"]) and torch.equal(data[9]["s1"], parts[1][3]["s1"])
    assert torch.equal(read_samples(Subset(data, [8, 9]), [1])["s1"], batch["s1"][:1])
    for some in ([1, 2], [7], []):
        assert len(data.read_batch(some)["patch_id"]) == len(some)


def test_tables_are_joined(trees):
    parts = [PackedBENGE(root, targets=("climate_zone", "lonlat")) for root in trees]
    data = SeveralDatasets(parts)
    np.testing.assert_array_equal(data.table("climate_zone"), [n % 30 for n in range(10)])
    assert list(data.meta.index) == data.patch_ids and len(data.groups) == 10
    np.testing.assert_allclose(lonlat_of(data)[7], fake.lonlat(7), atol=1e-5)


def test_datasets_of_other_kinds_are_decoded_before_they_are_joined(tmp_path):
    roots = [write_crops(tmp_path / "one", 4), write_crops(tmp_path / "two", 4)]
    rewrite(roots[1], "scale = 0.0001", "scale = 0.00005")
    for path in [*(roots[1] / "images").iterdir(), *(roots[1] / "cover").iterdir()]:
        path.rename(path.with_name(path.name.replace("p", "q", 1)))
    for number in range(4):
        rewrite(roots[1], f"p{number},", f"q{number},", "samples.csv")
    parts = [DescribedDataset(root, modalities=("s2",), targets=("crop",), progress=False) for root in roots]
    batch = SeveralDatasets(parts).read_batch([5, 2])
    for place, (part, row) in enumerate(((1, 1), (0, 2))):
        assert torch.equal(batch["s2"][place], parts[part][row]["s2"])
    assert batch["patch_id"] == ["q1", "p2"] and SeveralDatasets(parts).decode(batch)["s2"] is batch["s2"]
    one = DescribedDataset(roots[0], modalities=("s2",), targets=(), progress=False)
    with pytest.raises(SplitError, match=r"one and .*one both have a sample"):
        SeveralDatasets([one, one])


def test_datasets_that_do_not_fit_are_refused(trees):
    one, other = PackedBENGE(trees[0]), PackedBENGE(trees[1], s2_bands=("B02", "B03"))
    with pytest.raises(BandError, match=r"one gives s2 as .*two as .*the same modalities"):
        SeveralDatasets([one, other])
    with pytest.raises(BandError, match="gives s1"):
        SeveralDatasets([PackedBENGE(trees[0], modalities=("s2",)), PackedBENGE(trees[1])])

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import Dataset, Subset

from bengelib.bands import S2_BANDS
from bengelib.data.batches import batches, check_bands
from bengelib.data.packed import PackedBENGE
from bengelib.data.packing import pack
from bengelib.devices import make_accelerator
from bengelib.errors import ArgumentError, BandError, TableError
from bengelib.fusion import EarlyFusion
from bengelib.methods.pairs import Pairs, PairViews, halves, neighbours
from bengelib.modalities import as_modalities
from bengelib.views import Views
from tests import fake_tree as fake
from tests.test_views import OFF, STILL, seeded


def meta_table():
    """Five patches of one tile in a row from west to east, seen on two dates, and one alone in its tile."""
    tiles = ["33TWN"] * 5 + ["29SNB"]
    return pd.DataFrame(
        {
            "patch_id_s1": [f"S1A_IW_GRDH_1SDV_20170613T165043_{tile}_{n}_0" for n, tile in enumerate(tiles)],
            "timestamp_s2": ["2017-06-13", "2017-06-13", "2017-08-01", "2017-06-13", "2017-06-13", "2017-08-01"],
            "lon": [15.00, 15.01, 15.03, 15.06, 15.07, 15.01],
            "lat": [48.0] * 6,
        }
    )


def test_neighbours():
    meta = meta_table()
    assert neighbours(meta).tolist() == [1, 0, 1, 4, 3, 5]
    assert neighbours(meta, "date").tolist() == [2, 2, 1, 2, 2, 5]
    any_one = neighbours(meta, "tile", seed=1)
    assert sorted(any_one.tolist()) == [0, 1, 2, 3, 4, 5] and any_one[5] == 5
    assert all(any_one[row] != row for row in range(5))
    assert neighbours(meta, "tile", seed=1).tolist() == any_one.tolist()


def test_neighbours_may_have_to_be_near():
    """A hundredth of a degree is 744 m at 48 degrees north."""
    meta = meta_table()
    assert neighbours(meta, within=700).tolist() == [0, 1, 2, 3, 4, 5]
    assert neighbours(meta, within=760).tolist() == [1, 0, 2, 4, 3, 5]
    assert neighbours(meta, "date", within=1500).tolist() == [0, 2, 1, 3, 4, 5]
    meta.loc[2, "lon"] = meta.loc[1, "lon"]  # the same place on another date
    assert neighbours(meta, "date", within=0).tolist() == [0, 2, 1, 3, 4, 5]
    with pytest.raises(ArgumentError, match="within=-1"):
        neighbours(meta, within=-1)
    with pytest.raises(ArgumentError, match="within=5 is for how='nearest' and how='date'"):
        neighbours(meta, "tile", within=5)


def test_neighbours_of_unknown_kinds_are_refused():
    with pytest.raises(ValueError, match="nearest"):
        neighbours(meta_table(), "closest")
    with pytest.raises(TableError, match="lon"):
        neighbours(meta_table().drop(columns="lon"))


class Numbered(Dataset):
    inputs = as_modalities({"s2": S2_BANDS})

    def __len__(self):
        return 5

    def __getitem__(self, index):
        return {"s2": torch.full((12, 8, 8), float(index)), "patch_id": f"patch {index}"}


class NumberedInBatches(Numbered):
    def read_batch(self, indices):
        return {
            "s2": torch.stack([self[index]["s2"] for index in indices]),
            "patch_id": [f"patch {i}" for i in indices],
        }


@pytest.mark.parametrize("kind", [Numbered, NumberedInBatches])
def test_pairs_are_read_together_and_taken_apart(kind):
    pairs = Pairs(kind(), [1, 0, 3, 4, 2])
    assert len(pairs) == 5 and pairs.inputs == Numbered.inputs and not hasattr(pairs, "decode")
    batch = pairs.read_batch([4, 0])
    assert batch["s2"][:, 0, 0, 0].tolist() == [4, 0, 2, 1]
    views = Views(None, **STILL, **OFF)
    both = PairViews(views)(batch, seeded())
    assert both["view_1"]["s2"][:, 0, 0, 0].tolist() == [4, 0] and both["view_2"]["s2"][:, 0, 0, 0].tolist() == [2, 1]
    assert both["patch_id"] == ["patch 4", "patch 0"] and len(both["s2"]) == 2
    with pytest.raises(TypeError, match="workers=0"):
        pairs[0]


def test_pairs_of_a_pack_are_decoded_and_compared_with_the_model(tmp_path):
    root = fake.write_fake_tree(tmp_path / "ben-ge-fake")
    pack(root, processes=1)
    data = PackedBENGE(root, modalities=("s2",), targets=("lonlat",), s2_bands=("B04", "B8A"))
    pairs = Pairs(data, np.arange(len(data))[::-1].copy())
    whole = Pairs(Subset(data, range(len(data))), pairs.partners)
    for each in (pairs, whole):
        (batch,) = batches(each, len(data), make_accelerator("no"), 0)
        assert batch["s2"].shape == (2 * len(data), 2, 120, 120) and batch["s2"].is_floating_point()
        first, second = halves(batch)
        torch.testing.assert_close(first["s2"], second["s2"].flip(0))
        assert first["lonlat"].shape == (len(data), 2)
    with pytest.raises(BandError, match="B02"):
        check_bands(EarlyFusion({"s2": ("B02", "B8A")}, width=0.0625), pairs)


@pytest.mark.parametrize("partners", [[0, 1], [0, 1, 2, 3, 5], [-1, 1, 2, 3, 4]], ids=str)
def test_pairs_need_a_partner_each(partners):
    with pytest.raises((ValueError, IndexError), match=r"5 samples|from 0 to 4"):
        Pairs(Numbered(), partners)

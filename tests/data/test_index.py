"""Large packs: opened without reading their tables, held without them, and read from anywhere."""

import pickle
import shutil
import time
import tracemalloc

import numpy as np
import pytest
import torch

from bengelib.data import index as index_module
from bengelib.data import manifest, packed, packing
from bengelib.data.batches import batch_order
from bengelib.data.dataset import BENGE
from bengelib.data.index import FOLDER, PatchIndex
from bengelib.data.loading import load
from bengelib.data.packed import PackedBENGE
from bengelib.data.packing import pack
from bengelib.data.splits import SPLITS
from bengelib.errors import SplitError
from tests import fake_tree as fake
from tests.forked import finish, start
from tests.full_set import EVERY, PATCHES, read_shares, write_sparse_pack


@pytest.fixture
def tree(tmp_path, fake_tree):
    return shutil.copytree(fake_tree, tmp_path / fake_tree.name)


@pytest.fixture(scope="module", params=[20_000, pytest.param(PATCHES, marks=pytest.mark.slow)])
def large(request, tmp_path_factory):
    """A pack of many patches, most of whose pixels are holes of a file; to be read only."""
    return write_sparse_pack(tmp_path_factory.mktemp("large") / "ben-ge", request.param)


def test_a_large_pack_is_open_at_once_and_holds_no_table(large):
    def opened():
        sides = ((None, "official"), ("train", "official"), ("train", "study"), ("train", "blocked"))
        return [PackedBENGE(large, split, targets=("climate_zone",), scheme=scheme) for split, scheme in sides]

    began = time.process_time()
    opened()
    assert time.process_time() - began < 4
    tracemalloc.start()
    data = opened()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 20 * sum(map(len, data)) + 1_000_000
    assert len(pickle.dumps(data[0])) < 20 * len(data[0])


def test_a_large_pack_is_read_from_its_first_patch_to_its_last(large):
    data = PackedBENGE(large)
    last = (len(data) - 1) // EVERY
    batch = data.read_batch([last * EVERY, len(data) - 1, 0, 1])
    end = last + 1 if len(data) - 1 == last * EVERY else 0
    for name in ("s2_10m", "s2_20m", "s2_60m", "s1"):
        assert batch[name].to(torch.float32).flatten(1).mean(dim=1).tolist() == [last + 1, end, 1, 0]
    assert batch["patch_id"] == [data.patch_ids[place] for place in (last * EVERY, len(data) - 1, 0, 1)]


def test_two_processes_share_out_what_no_memory_holds(large):
    finish(start(read_shares, large, processes=2))
    first, second = (torch.load(large / f"{rank}.pt") for rank in range(2))
    ids = [*first["ids"], *second["ids"]]
    assert len(set(ids)) == 128 and max(first["grown"], second["grown"]) < 500_000_000
    known = {name: place for place, name in enumerate(PackedBENGE(large, "train").patch_ids)}
    places = np.array([known[name] for name in ids]) / len(known)
    assert 0.3 < places.mean() < 0.7 and places.min() < 0.2 and places.max() > 0.8  # drawn from all of it


def test_the_order_of_an_epoch_is_shuffled_over_all_samples():
    class One:
        process_index, num_processes = 0, 1

    order = np.concatenate(batch_order(PATCHES, 1024, One(), torch.Generator().manual_seed(0)))
    assert (np.bincount(order, minlength=PATCHES) == 1).all()
    steps = np.abs(np.diff(order.astype(np.int64)))
    assert steps.mean() == pytest.approx(PATCHES / 3, rel=0.01)  # as of independent uniform numbers


# ------------------------------------------------------------------------------------------------- opened when fresh


def test_a_fresh_pack_is_opened_by_a_look_at_a_few_files(tree, monkeypatch):
    pack(tree, progress=False)
    expected = BENGE(tree, "train").patch_ids
    looked = []
    real = manifest.stat_patch
    monkeypatch.setattr(manifest, "stat_patch", lambda folders, *ids: looked.append(ids) or real(folders, *ids))
    monkeypatch.setattr(manifest, "SAMPLE", 1)
    for module, name in (
        (manifest, "read_meta"), (manifest, "off_table"), (manifest.hashlib, "sha256"), (packing, "read_meta"),
        (packed, "read_meta"), (packed, "read_csv"), (index_module, "read_csv"), (index_module, "read_splits"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, None)
    assert load(tree, "train", progress=False).patch_ids == expected
    assert len(looked) == 2  # once to see whether to pack, once to open


def test_a_table_of_another_time_is_read_once(tree, monkeypatch):
    pack(tree, progress=False)
    meta = tree / f"{tree.name}_meta.csv"
    meta.write_bytes(meta.read_bytes())
    assert len(load(tree, progress=False)) == 6
    monkeypatch.setattr(manifest.hashlib, "sha256", None)
    assert len(load(tree, progress=False)) == 6


def test_a_patch_that_is_in_no_table_is_found_when_its_folder_has_changed(tree):
    pack(tree, progress=False)
    assert not load(tree, progress=False).account.left_out
    (tree / "sentinel-2" / "S2A_MSIL2A_20170613T101031_1_2").mkdir()
    for _ in range(2):
        with pytest.warns(match="1 of 7 patches lie in sentinel-2/ and are not in the meta table"):
            load(tree, progress=False)


# --------------------------------------------------------------------------------------------- the same as the tables


@pytest.mark.parametrize("scheme", ["official", "study", "blocked"])
def test_splits_are_the_same_with_and_without_the_arrays(tree, tmp_path, scheme):
    folder = shutil.move(pack(tree, progress=False), tmp_path / "alone")
    expected = {split: BENGE(tree, split, scheme=scheme).patch_ids for split in SPLITS}
    assert {split: PackedBENGE(folder, split, scheme=scheme).patch_ids for split in SPLITS} == expected
    shutil.rmtree(folder / FOLDER)
    assert {split: PackedBENGE(folder, split, scheme=scheme).patch_ids for split in SPLITS} == expected
    assert pickle.loads(pickle.dumps(PackedBENGE(folder)))[1]["patch_id"] == BENGE(tree).patch_ids[1]


def test_a_pack_without_the_arrays_is_given_them(tree):
    folder = pack(tree, progress=False)
    expected = {path.name: path.read_bytes() for path in (folder / FOLDER).iterdir()}
    shutil.rmtree(folder / FOLDER)
    assert len(PackedBENGE(tree)) == 6 and not (folder / FOLDER).exists()
    pack(tree, progress=False)
    assert {path.name: path.read_bytes() for path in (folder / FOLDER).iterdir()} == expected


def test_a_split_file_that_is_changed_in_a_pack_is_read_again(tree):
    folder = shutil.move(pack(tree, progress=False), tree.parent / "alone")
    train = PackedBENGE(folder, "train").patch_ids
    path = folder / "splits" / f"{tree.name}_train.csv"
    path.write_text("\n".join(reversed(train)))
    assert PackedBENGE(folder, "train").patch_ids == train[::-1]
    path.write_text("nothing\n")
    with pytest.raises(SplitError, match="the first being nothing"):
        PackedBENGE(folder, "train")


def test_a_split_file_that_is_wrong_keeps_nothing_but_its_split(tree):
    (tree / "splits" / f"{tree.name}_test.csv").write_text("nothing\n")
    pack(tree, progress=False)
    assert len(load(tree, "train", progress=False)) == 3 and len(load(tree, progress=False)) == 6
    with pytest.raises(SplitError, match="the first being nothing"):
        load(tree, "test", progress=False)


def test_ids_of_any_form_come_back_as_they_were(tmp_path):
    import pandas as pd

    names = ["ä1", "b", "\ud800c"]
    meta = pd.DataFrame({"patch_id_s1": ["x", "yy", "z"]}, index=pd.Index(names, dtype=object))
    found = PatchIndex(tmp_path, "x", meta)
    assert found.names() == names and found.pairs([2, 1]) == [("\ud800c", "z"), ("b", "yy")]
    with pytest.raises(SplitError, match="no MGRS tile in patch_id_s1 'x'"):
        found.select("train", "blocked", 0)


def test_ids_are_a_sequence(fake_tree):
    ids = BENGE(fake_tree).patch_ids
    names = [fake.patch_ids(patch)[0] for patch in range(6)]
    assert ids == names and names == ids and ids != names[:5] and list(ids) == names and len(ids) == 6
    assert ids[-1] == names[5] and ids[1:3] == names[1:3] and names[2] in ids and ids.index(names[4]) == 4
    assert repr(ids).startswith(f"['{names[0]}'") and hash(ids) == hash(BENGE(fake_tree).patch_ids)

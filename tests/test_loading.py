import shutil
from importlib import import_module

import pytest

from bengelib import download, loading
from bengelib.dataset import BENGE
from bengelib.errors import DatasetNotFoundError, RasterError
from bengelib.loading import data_folders, find_dataset, load
from bengelib.packed import PackedBENGE
from tests import fake_tree as fake


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """An empty folder to work in, with its own `data/`."""
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BENGE_DATA", raising=False)
    return tmp_path


@pytest.fixture
def simulated(monkeypatch):
    """What was asked of the simulator, which is replaced by a quick one."""
    calls = []

    def simulate(root, patches, progress):
        calls.append((root, patches))
        return fake.write_fake_tree(root, min(patches, 6))

    monkeypatch.setattr(import_module("bengelib.simulate"), "simulate", simulate)
    return calls


def test_simulated_data_are_made_once_and_packed(workplace, simulated):
    data = load("ben-ge-sim", "train", ("s2",), ("corine",), scheme="study", s2_bands=("B04",), progress=False)
    assert isinstance(data, PackedBENGE)
    assert data.root == workplace / "data" / "ben-ge-sim"
    assert (data.modalities, data.targets, data.s2_bands) == (("s2",), ("corine",), ("B04",))
    assert data.patch_ids == BENGE(data.root, "train", (), scheme="study").patch_ids
    load("ben-ge-sim", "test", progress=False)
    assert simulated == [(workplace / "data" / "ben-ge-sim", 1000)]


def test_other_numbers_of_simulated_patches_have_their_own_folder(workplace, simulated):
    load("ben-ge-sim", patches=4000, progress=False)
    load("ben-ge-sim-4000", progress=False)
    load("ben-ge-sim-4000", patches=4000, progress=False)
    load("ben-ge-sim", patches=1000, progress=False)
    assert simulated == [
        (workplace / "data" / name, n) for name, n in (("ben-ge-sim-4000", 4000), ("ben-ge-sim", 1000))
    ]
    with pytest.raises(ValueError, match="4000"):
        load("ben-ge-sim-4000", patches=500)


def test_number_of_patches_is_for_simulated_data_only(workplace):
    fake.write_fake_tree(workplace / "data" / "mine")
    with pytest.raises(ValueError, match="simulated"):
        load("mine", patches=10)


def test_real_data_are_fetched_where_they_are_not(workplace, monkeypatch):
    calls = []

    def fetch(name, root, progress):
        calls.append((name, root))
        return fake.write_fake_tree(root / name)

    monkeypatch.setattr(download, "fetch", fetch)
    for _ in range(2):
        assert len(load("ben-ge-800", progress=False)) == 6
    assert calls == [("ben-ge-800", workplace / "data")]


def test_where_data_are_looked_for_and_put(workplace, monkeypatch, simulated):
    fake.write_fake_tree(workplace / "elsewhere" / "ben-ge-800")
    assert find_dataset("ben-ge-800") is None
    monkeypatch.setenv("BENGE_DATA", str(workplace / "elsewhere"))
    assert data_folders() == [workplace / "data", workplace / "elsewhere"]
    assert load("ben-ge-800", progress=False).root == workplace / "elsewhere" / "ben-ge-800"
    fake.write_fake_tree(workplace / "data" / "ben-ge-800", 8)
    assert load("ben-ge-800", progress=False).root == workplace / "data" / "ben-ge-800"  # data/ comes first
    load("ben-ge-sim", progress=False)
    assert simulated[0][0].parent == workplace / "elsewhere"  # new data go where the user has room for them


def test_without_a_data_folder_that_of_the_checkout_is_used(workplace, monkeypatch):
    (workplace / "data").rmdir()
    checkout = workplace / "checkout"
    (checkout / "bengelib").mkdir(parents=True)
    monkeypatch.setattr(loading, "__file__", str(checkout / "bengelib" / "loading.py"))
    assert data_folders() == [workplace / "data"]  # installed, not a checkout
    (checkout / "pyproject.toml").touch()
    assert data_folders() == [checkout / "data"]


def test_a_path_will_do(workplace):
    root = fake.write_fake_tree(workplace / "here" / "mine")
    assert load(root, progress=False).root == root
    assert load("here/mine", progress=False).root == root
    folder = shutil.copytree(root / "packed", workplace / "only-the-pack")
    shutil.rmtree(root)
    assert len(load(folder, progress=False)) == 6


def test_an_unknown_name_lists_what_there_is(workplace):
    with pytest.raises(DatasetNotFoundError, match=r"data/ben-ge-9000.*'ben-ge-sim'.*ben-ge-800.*BENGE_DATA"):
        load("ben-ge-9000")


def test_a_folder_without_a_meta_table_is_no_dataset(workplace):
    (workplace / "data" / "mine").mkdir()
    with pytest.raises(DatasetNotFoundError):
        load("mine")


def test_a_dataset_that_cannot_be_written_is_packed_elsewhere(workplace, monkeypatch):
    root = fake.write_fake_tree(workplace / "shared" / "mine")
    monkeypatch.setattr(loading.os, "access", lambda path, mode: False)
    data = load(root, "test", progress=False)
    assert data.folder == workplace / "data" / "mine-packed"
    assert data.patch_ids == BENGE(root, "test").patch_ids
    assert not (root / "packed").exists()


def test_a_pack_that_is_out_of_date_is_made_again(workplace):
    root = fake.write_fake_tree(workplace / "data" / "mine")
    load("mine", progress=False)
    path = root / "mine_meta.csv"
    before = fake.seasons(0)[1]
    path.write_text(path.read_text().replace(f",{before},", f",{before - 0.01},"))
    assert float(load("mine", modalities=("season",), acquisition="s1", progress=False)[0]["season"]) == pytest.approx(
        before - 0.01
    )


def test_damaged_patches_are_skipped_on_request_only(workplace):
    root = fake.write_fake_tree(workplace / "data" / "mine")
    patch_id = fake.patch_ids(2)[0]
    (root / "dem" / f"{patch_id}_dem.tif").write_bytes(b"")
    with pytest.raises(RasterError, match=patch_id):
        load("mine", progress=False)
    with pytest.warns(UserWarning, match="left out"):
        data = load("mine", modalities=("dem",), on_error="skip", progress=False)
    assert list(data.skipped) == [patch_id]
    assert len(load("mine", on_error="skip", progress=False)) == 6  # without its elevation the patch is whole

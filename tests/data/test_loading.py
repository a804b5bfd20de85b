import errno
import io
import os
import shutil
import unicodedata
from importlib import import_module

import pytest

from bengelib.data import download, loading
from bengelib.data.dataset import BENGE
from bengelib.data.loading import data_folders, find_dataset, is_simulated, load
from bengelib.data.packed import PackedBENGE
from bengelib.data.packing import pack
from bengelib.errors import BengeError, DatasetNotFoundError, DiskError, RasterError
from bengelib.files import writing
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

    monkeypatch.setattr(import_module("bengelib.sim.simulate"), "simulate", simulate)
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
    (checkout / "bengelib" / "data").mkdir(parents=True)
    monkeypatch.setattr(loading, "__file__", str(checkout / "bengelib" / "data" / "loading.py"))
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


# ------------------------------------------------------------------------------------------------------ names and links


def test_a_link_works_by_the_name_that_it_gives(workplace):
    real = fake.write_fake_tree(workplace / "ben-ge-own").rename(workplace / "BENGE_2024")
    (workplace / "data" / "ben-ge-own").symlink_to(real)
    assert len(BENGE(workplace / "data" / "ben-ge-own")) == 6
    data = load("ben-ge-own", progress=False)
    assert (len(data), data.root) == (6, workplace / "data" / "ben-ge-own")
    assert (real / "packed").is_dir()


def test_a_link_of_another_name_leads_to_the_dataset(workplace):
    real = fake.write_fake_tree(workplace / "disk3" / "ben-ge-own")
    (workplace / "data" / "short").symlink_to(real)
    assert load("short", progress=False).root == real
    assert len(BENGE("data/short")) == 6


def test_a_link_that_leads_nowhere_is_named(workplace):
    (workplace / "data" / "mine").symlink_to(workplace / "unmounted")
    with pytest.raises(DatasetNotFoundError, match=r"data/mine \(a link to .*unmounted, which is not there\)"):
        load("mine")


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_name_is_found_in_either_form_of_its_accents(workplace, form):
    root = fake.write_fake_tree(workplace / "data" / unicodedata.normalize(form, "Forêt"))
    for other in ("NFC", "NFD"):
        assert load(unicodedata.normalize(other, "Forêt"), "train", progress=False).root == root
    renamed = root.rename(root.with_name(unicodedata.normalize("NFD" if form == "NFC" else "NFC", "Forêt")))
    assert len(BENGE(renamed, "train", ("weather",))) == len(load(renamed, "train", ("weather",), progress=False))


def test_a_tree_is_found_beside_the_data_folder_and_under_the_home_folder(workplace, monkeypatch):
    root = fake.write_fake_tree(workplace / "data" / "my sets" / "own")
    monkeypatch.setenv("HOME", str(workplace / "data"))
    assert load("~/my sets/own", progress=False).root == root
    (workplace / "checkout" / "bengelib").mkdir(parents=True)
    (workplace / "checkout" / "pyproject.toml").touch()
    (workplace / "checkout" / "data").symlink_to(workplace / "data")
    (workplace / "elsewhere").mkdir()
    module = workplace / "checkout" / "bengelib" / "data" / "loading.py"
    monkeypatch.setattr(loading, "__file__", str(module))
    monkeypatch.chdir(workplace / "elsewhere")
    found = find_dataset("data/my sets/own")
    assert found is not None and found.samefile(root)


@pytest.mark.parametrize(
    "name", ["a b", "Größe", "森林", "it's", "a#b%20", "x;y", "[x]", "*", "-", ".hidden", "caf\udce9"]
)
def test_odd_names_of_datasets(workplace, name):
    root = fake.write_fake_tree(workplace / "data" / "plain").rename(workplace / "data" / name)
    for path in root.glob("**/plain_*.csv"):
        path.rename(path.with_name(path.name.replace("plain", name)))
    assert len(load(name, "train", progress=False)) == len(BENGE(f"data/{name}", "train"))


@pytest.mark.parametrize("text", ['{"files": 12}', "[]", "no JSON", '{"schema": 1}', '{"schema": "x"}', ""])
def test_a_manifest_of_another_tool_makes_a_tree_no_pack(workplace, text):
    root = fake.write_fake_tree(workplace / "data" / "mine")
    (root / "manifest.json").write_text(text)
    for name in ("mine", root):
        assert load(name, progress=False).folder == root / "packed"
    assert len(PackedBENGE(root)) == len(BENGE(root)) == 6
    assert (root / "manifest.json").read_text() == text
    (workplace / "data" / "site").mkdir()
    (workplace / "data" / "site" / "manifest.json").write_text(text)
    with pytest.raises(DatasetNotFoundError):
        load("site")


# ------------------------------------------------------------------------------------------------------------ simulated


def marked(root, marker='{"simulated": true}'):
    (root / "simulation.json").write_text(marker)
    return root


def test_simulated_data_are_known_by_their_marker(workplace):
    root = marked(fake.write_fake_tree(workplace / "data" / "mydata"))
    assert is_simulated("mydata") and is_simulated(root) and BENGE(root).simulated
    assert load(root, progress=False).simulated
    shutil.move(root / "packed", workplace / "alone")
    shutil.rmtree(root)
    assert is_simulated(workplace / "alone") and load(workplace / "alone").simulated


@pytest.mark.parametrize("marker", [None, "{}", "[]", '{"simulated": false}', '{"engine": "traffic"}', "\0"])
def test_real_data_stay_real_whatever_they_are_called(workplace, marker):
    root = fake.write_fake_tree(workplace / "data" / "ben-ge-simple")
    if marker is not None:
        marked(root, marker)
    assert not is_simulated("ben-ge-simple") and not BENGE(root).simulated
    assert not load("ben-ge-simple", progress=False).simulated


def test_what_is_not_there_yet_is_simulated_where_load_would_do_so(workplace):
    assert is_simulated("ben-ge-sim") and is_simulated("ben-ge-sim-4000")
    assert not any(map(is_simulated, ("ben-ge-800", "ben-ge-simple", "nothing", "")))


# ------------------------------------------------------------------------------------------------------ read-only disks


@pytest.fixture
def read_only(monkeypatch):
    """Makes a folder and all below it refuse to be written, as a read-only mount does, also to root."""
    whole = {name: getattr(os, name) for name in ("mkdir", "open", "rename", "replace", "unlink", "rmdir")}
    real_open, frozen = io.open, []

    def refuse(path):
        path = os.path.abspath(os.fsdecode(path)) if not isinstance(path, int) else ""
        if any(os.path.realpath(path).startswith(f"{folder}{os.sep}") for folder in frozen):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

    def call(name):
        def checked(path, *args, **kwargs):
            if kwargs.get("dir_fd") is None and (name != "open" or args[0] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
                refuse(path)
            return whole[name](path, *args, **kwargs)

        return checked

    def open_file(file, mode="r", *args, **kwargs):
        if set(mode) & set("wax+"):
            refuse(file)
        return real_open(file, mode, *args, **kwargs)

    for name in whole:
        monkeypatch.setattr(os, name, call(name))
    monkeypatch.setattr(io, "open", open_file)
    monkeypatch.setattr("builtins.open", open_file)
    return lambda folder: frozen.append(os.path.realpath(folder))


@pytest.mark.parametrize("state", ["no pack", "stale pack", "damaged pack", "half a pack", "current pack"])
def test_a_tree_on_a_read_only_disk_is_packed_elsewhere_unless_its_pack_is_current(workplace, read_only, state):
    root = fake.write_fake_tree(workplace / "disk" / "mine")
    if state != "no pack":
        pack(root, progress=False)
    if state == "stale pack":
        os.utime(next((root / "dem").iterdir()), (1, 1))
        (root / "mine_era-5.csv").write_text((root / "mine_era-5.csv").read_text().replace("285.0", "280.0"))
    if state == "damaged pack":
        (root / "packed" / "manifest.json").write_text("{")
    if state == "half a pack":
        (root / "packed").rename(root / "packed.partial")
    read_only(workplace / "disk")
    data = load(root, "test", progress=False)
    assert data.folder == (root if state == "current pack" else workplace / "data" / "mine-packed") / (
        "packed" if state == "current pack" else ""
    )
    assert data.patch_ids == BENGE(root, "test").patch_ids


def test_a_course_folder_that_cannot_be_written_is_passed_over(workplace, monkeypatch, read_only):
    for name in ("mine", "other"):
        fake.write_fake_tree(workplace / "course" / name)
    monkeypatch.setenv("BENGE_DATA", str(workplace / "course"))
    read_only(workplace / "course")
    assert load("mine", progress=False).folder == workplace / "data" / "mine-packed"

    def simulate(root, patches, progress):
        with writing(root, "go on"):
            return fake.write_fake_tree(root)

    monkeypatch.setattr(import_module("bengelib.sim.simulate"), "simulate", simulate)
    assert load("ben-ge-sim", progress=False).root == workplace / "data" / "ben-ge-sim"
    read_only(workplace)
    with pytest.raises(DiskError, match=r"course/.other-packed.*data/.other-packed.*BENGE_DATA"):
        load("other", progress=False)


@pytest.mark.parametrize("call", ["open", "listdir", "scandir", "stat", "mkdir"])
@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES, errno.ESTALE])
def test_load_raises_no_bare_error_of_the_system(workplace, monkeypatch, call, code):
    root = fake.write_fake_tree(workplace / "data" / "mine")
    whole = getattr(os, call)

    def ill(path=".", *args, **kwargs):
        if not isinstance(path, int) and "mine" in os.fsdecode(path):
            raise OSError(code, os.strerror(code), path)
        return whole(path, *args, **kwargs)

    monkeypatch.setattr(os, call, ill)
    try:
        load(root, progress=False)
    except BengeError as error:
        assert "mine" in str(error)

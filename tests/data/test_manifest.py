"""A change of the files of a tree is noticed, and a copy of them is not taken for one."""

import json
import os
import shutil

import numpy as np
import pytest

from bengelib.data import manifest, packing
from bengelib.data.dataset import BENGE
from bengelib.data.loading import load
from bengelib.data.manifest import read_manifest, verify
from bengelib.data.packed import PackedBENGE
from bengelib.data.packing import pack
from bengelib.errors import ChecksumError, RasterError
from tests import fake_tree as fake

PATCH = 2
S2, S1 = fake.patch_ids(PATCH)
DAY = 86_400 * 10**9


@pytest.fixture
def tree(tmp_path, fake_tree):
    root = shutil.copytree(fake_tree, tmp_path / fake_tree.name)
    for path in root.rglob("*"):  # as a tar archive leaves them: all of one second
        os.utime(path, ns=(DAY, DAY))
    return root


def polarisation(tree, band):
    return tree / "sentinel-1" / S1 / f"{S1}_{band}.tif"


def dem(tree):
    return tree / "dem" / f"{S2}_dem.tif"


def swap(one, other):
    between = one.with_suffix(".t")
    one.rename(between)
    other.rename(one)
    between.rename(other)


def swap_polarisations(tree):
    swap(polarisation(tree, "VV"), polarisation(tree, "VH"))


def swap_and_keep_the_time_of_the_folder(tree):
    swap_polarisations(tree)
    os.utime(tree / "sentinel-1" / S1, ns=(DAY, DAY))


def put_an_older_one_of_the_same_size(tree):
    path = dem(tree).with_suffix(".old")
    path.write_bytes(dem(tree).read_bytes()[:-2] + b"\1\0")
    os.utime(path, ns=(DAY // 2, DAY // 2))
    path.replace(dem(tree))


def copy_with_its_time(tree):
    shutil.copy2(polarisation(tree, "VV"), polarisation(tree, "VH"))


def write_in_place(tree):
    with dem(tree).open("r+b") as file:
        file.seek(-2, 2)
        file.write(b"\1\0")


def change_the_labels(tree):
    path = tree / "sentinel-2" / S2 / f"{S2}_labels_metadata.json"
    path.write_text(json.dumps({"labels": ["Pastures"]}))


def remove(tree):
    dem(tree).unlink()


def swap_patches(tree):
    other = tree / "esaworldcover" / f"{fake.patch_ids(PATCH + 1)[0]}_esaworldcover.tif"
    swap(tree / "esaworldcover" / f"{S2}_esaworldcover.tif", other)
    for path in (other, tree / "esaworldcover" / f"{S2}_esaworldcover.tif"):  # both without a place, so that it is read
        fake.rewrite_raster(path, transform=None, crs=None)


CHANGES = [
    swap_polarisations,
    swap_and_keep_the_time_of_the_folder,
    put_an_older_one_of_the_same_size,
    copy_with_its_time,
    write_in_place,
    change_the_labels,
    swap_patches,
]


@pytest.mark.parametrize("change", [*CHANGES, remove])
def test_a_change_is_noticed_by_everything(tree, change):
    folder = pack(tree, progress=False)
    change(tree)
    for way in (lambda: PackedBENGE(tree), lambda: verify(folder), lambda: verify(folder, tree)):
        with pytest.raises(ChecksumError, match=r"out of date.* have changed\. Call bengelib\.pack"):
            way()
    if change is remove:
        with pytest.raises(RasterError, match=S2):
            load(tree, progress=False)
        return
    options = dict(modalities=("s1", "dem"), targets=("land_cover", "corine"))
    packed, fresh = load(tree, progress=False, **options), BENGE(tree, **options)
    for key in ("s1", "dem", "land_cover", "corine"):
        np.testing.assert_allclose(packed[PATCH][key], fresh[PATCH][key], atol=0.01)
    verify(folder)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_one_patch_of_many_is_noticed_when_loading(tree, change, monkeypatch):
    monkeypatch.setattr(manifest, "SAMPLE", 1)  # the sample is the first patch, and another one is changed
    pack(tree, progress=False)
    change(tree)
    if change in (
        swap_and_keep_the_time_of_the_folder,
        copy_with_its_time,
        write_in_place,
        change_the_labels,
    ):  # no folder tells of it
        load(tree, progress=False)
    else:
        with pytest.raises(ChecksumError, match="have changed"):
            PackedBENGE(tree)
    with pytest.raises(ChecksumError, match="have changed"):
        verify(tree / "packed")


def forbid_packing(monkeypatch):
    def forbidden(*_):
        raise AssertionError("packed again")

    monkeypatch.setattr(packing, "_write", forbidden)


def copied(tree, tmp_path):
    return shutil.copytree(tree, tmp_path / "elsewhere" / tree.name, copy_function=shutil.copyfile)


def touched(tree, _):
    for path in tree.glob("*/**/*.tif"):
        os.utime(path, ns=(2 * DAY, 2 * DAY))
    return tree


def other_inodes(tree, _):
    for path in list(tree.glob("*/**/*.tif")):
        data = path.read_bytes()
        path.with_suffix(".new").write_bytes(data)
        os.utime(path.with_suffix(".new"), ns=(DAY, DAY))
        path.with_suffix(".new").replace(path)
    return tree


def compressed(tree, _):
    for path in tree.glob("dem/*.tif"):
        fake.rewrite_raster(path, compress="deflate")
    return tree


def a_file_of_no_concern(tree, _):
    (tree / "sentinel-2" / ".DS_Store").touch()
    (tree / "sentinel-1" / S1 / "notes.txt").touch()
    return tree


@pytest.mark.parametrize("change", [copied, touched, other_inodes, compressed, a_file_of_no_concern])
def test_equal_content_is_neither_refused_nor_packed_again(tree, tmp_path, monkeypatch, change):
    pack(tree, progress=False)
    tree = change(tree, tmp_path)
    forbid_packing(monkeypatch)
    assert len(PackedBENGE(tree)) == len(load(tree, progress=False)) == 6
    pack(tree, progress=False)
    verify(tree / "packed")
    assert sorted(path.name for path in (tree / "packed").glob(".*")) == []
    monkeypatch.setattr(manifest, "read_patch", None)  # once found equal, nothing is read again
    pack(tree, progress=False)
    verify(tree / "packed")
    assert len(PackedBENGE(tree)) == 6


def test_equal_content_on_a_disk_that_cannot_be_written(tree, tmp_path, monkeypatch):
    pack(tree, progress=False)
    tree = copied(tree, tmp_path)
    forbid_packing(monkeypatch)

    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(np, "save", refuse)
    before = {path: path.read_bytes() for path in (tree / "packed").iterdir() if path.is_file()}
    pack(tree, progress=False)
    assert {path: path.read_bytes() for path in (tree / "packed").iterdir() if path.is_file()} == before


def test_a_swap_is_noticed_in_a_copy_too(tree, tmp_path):
    pack(tree, progress=False)
    tree = copied(tree, tmp_path)
    swap_polarisations(tree)
    with pytest.raises(ChecksumError, match=f"s1 files of {S2}"):
        PackedBENGE(tree)
    assert load(tree, progress=False)[PATCH]["s1"][0].mean() < load(tree, progress=False)[PATCH]["s1"][1].mean()


def test_a_patch_that_was_left_out_stays_out_and_comes_back(tree, tmp_path, monkeypatch):
    data = polarisation(tree, "VV").read_bytes()
    polarisation(tree, "VV").write_bytes(data[:-1000])
    pack(tree, on_error="skip", progress=False)
    tree = copied(tree, tmp_path)
    with monkeypatch.context() as context:
        forbid_packing(context)
        pack(tree, on_error="skip", progress=False)
    polarisation(tree, "VV").write_bytes(data)
    pack(tree, on_error="skip", progress=False)
    assert PackedBENGE(tree).skipped == {}


def as_version_1(folder):
    """Make a pack of the present version into one of the first."""
    path = folder / "manifest.json"
    old = json.loads(path.read_text())
    del old["folders"]
    path.write_text(json.dumps({**old, "schema": 1}))
    np.save(folder / "sources.npy", np.ones((6, 4, 2), np.int64))


def test_a_pack_of_an_earlier_version_is_packed_again(tree):
    folder = pack(tree, progress=False)
    as_version_1(folder)
    with pytest.raises(ChecksumError, match=r"out of date: it is of an earlier version.*bengelib\.pack"):
        PackedBENGE(tree)
    assert len(load(tree, progress=False)) == 6
    assert read_manifest(folder)["schema"] == 2
    verify(folder)


def test_a_pack_of_an_earlier_version_is_read_where_its_rasters_are_gone(tree, tmp_path):
    folder = pack(tree, progress=False)
    as_version_1(folder)
    alone = shutil.copytree(folder, tmp_path / "alone")
    assert len(PackedBENGE(alone)) == 6
    for name in ("sentinel-1", "sentinel-2", "dem", "esaworldcover"):
        shutil.rmtree(tree / name)
    assert pack(tree, progress=False) == folder
    assert len(PackedBENGE(tree)) == 6


def test_a_pack_of_a_later_version_is_left_alone(tree):
    folder = pack(tree, progress=False)
    (folder / "manifest.json").write_text('{"schema": 99}')
    for way in (lambda: PackedBENGE(tree), lambda: pack(tree, progress=False)):
        with pytest.raises(ChecksumError, match=r"schema 99.*Update bengelib"):
            way()


@pytest.mark.parametrize("text", ['{"files": 12, "licence": "CDLA"}', '{"schema": "1.0"}', "[]", "{"])
def test_a_manifest_of_another_program_in_the_tree_is_no_matter(tree, text):
    (tree / "manifest.json").write_text(text)
    pack(tree, progress=False)
    assert len(PackedBENGE(tree)) == 6
    assert (tree / "manifest.json").read_text() == text


def test_a_damaged_record_of_the_files_is_made_anew(tree):
    folder = pack(tree, progress=False)
    for damage in (lambda data: b"", lambda data: data[:-8]):
        path = folder / "sources.npy"
        path.write_bytes(damage(path.read_bytes()))
        with pytest.raises(ChecksumError, match=r"sources\.npy is damaged.*bengelib\.pack"):
            PackedBENGE(tree)
        pack(tree, progress=False)
        assert len(PackedBENGE(tree)) == 6


@pytest.mark.parametrize("name", ["ben-ge-fake", "BEN-GE-Fake"])
def test_a_pack_behind_a_link_or_of_a_name_in_another_case_is_compared_with_its_tree(tree, tmp_path, name):
    (tree / "packed").symlink_to(tmp_path / "scratch")
    pack(tree, progress=False)
    tree = tree.rename(tree.with_name(name))
    verify(tree / "packed")
    swap_polarisations(tree)
    with pytest.raises(ChecksumError, match="s1 files of"):
        verify(tree / "packed")

"""Where `pack` writes: disks that refuse something, folders of other programs, links. What it writes: test_packed."""

import errno
import os
import re
import shutil

import numpy as np
import pytest
import torch

from bengelib import files
from bengelib.data.dataset import BENGE
from bengelib.data.manifest import verify
from bengelib.data.packed import PackedBENGE
from bengelib.data.packing import pack
from bengelib.errors import ChecksumError, DatasetNotFoundError, DataWarning


@pytest.fixture
def tree(tmp_path, fake_tree):
    """A tree of its own, without a pack."""
    return shutil.copytree(fake_tree, tmp_path / fake_tree.name)


def refuse(code):
    """A call that always fails with this errno."""

    def call(*_, **__):
        raise OSError(code, os.strerror(code))

    return call


def test_a_lock_file_that_an_earlier_pack_left_is_not_waited_for(tree, monkeypatch):
    (tree / ".packed.lock").touch()
    monkeypatch.setattr(files.fcntl, "flock", refuse(errno.ENOSYS))
    with pytest.warns(DataWarning, match="does not lock files"):
        pack(tree, progress=False)
    assert len(PackedBENGE(tree)) == 6
    assert not list(tree.glob(".packed*"))


def test_packing_leaves_no_lock_behind(tree):
    pack(tree, progress=False)
    assert not [path.name for path in tree.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("code", ["EXDEV", "ENOTEMPTY"])
def test_a_stale_pack_that_cannot_be_moved_aside_is_replaced(tree, monkeypatch, code):
    """EXDEV: the old pack is part of a container's image, whose folders cannot be renamed."""
    folder, whole = pack(tree, progress=False), os.rename
    os.utime(next((tree / "dem").iterdir()), (1, 1))
    (tree / f"{tree.name}_era-5.csv").unlink()

    def rename(source, target, **options):
        if str(source) == str(folder):
            refuse(getattr(errno, code))()
        whole(source, target, **options)

    monkeypatch.setattr(os, "rename", rename)
    assert pack(tree, progress=False) == folder
    assert len(PackedBENGE(tree)) == 6
    assert sorted(path.name for path in tree.glob("*packed*")) == ["packed"]


def test_only_what_pack_wrote_is_removed(tree):
    pack(tree, progress=False)
    for name in ("packed.old", "packed.partial"):
        (tree / name).mkdir()
        (tree / name / "thesis.txt").write_text("precious")
    (tree / f"{tree.name}_era-5.csv").unlink()
    with pytest.raises(ChecksumError, match=r"holds thesis\.txt"):
        pack(tree, progress=False)
    shutil.rmtree(tree / "packed.partial")
    pack(tree, progress=False)
    assert (tree / "packed.old" / "thesis.txt").read_text() == "precious"
    assert len(PackedBENGE(tree)) == 6


def test_what_a_rebuild_that_was_killed_at_its_end_left_is_removed(tree):
    shutil.copytree(pack(tree, progress=False), tree / "packed.old")
    pack(tree, progress=False)
    assert not (tree / "packed.old").exists()


@pytest.mark.parametrize("text", ["", "{", None])
def test_a_plan_that_was_cut_is_made_again(tree, text):
    (tree / "packed.partial").mkdir()
    if text is not None:
        (tree / "packed.partial" / "plan.json").write_text(text)
    pack(tree, progress=False)
    assert len(PackedBENGE(tree)) == 6


def test_a_pack_that_is_a_link_to_another_disk_stays_one(tree, tmp_path):
    (tree / "packed").symlink_to(tmp_path / "scratch")
    for _ in range(2):
        assert pack(tree, progress=False) == tree / "packed"
        assert (tree / "packed").is_symlink() and (tmp_path / "scratch" / "manifest.json").is_file()
        assert len(PackedBENGE(tree)) == 6
        (tree / f"{tree.name}_era-5.csv").unlink(missing_ok=True)


def left_alone(call, folder, name):
    """Refused by words that do not advise to remove anything; nothing is touched."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(ChecksumError) as error:
        call()
    assert str(folder) in str(error.value)
    assert name is None or name in str(error.value)
    assert not re.search("remove|delete", str(error.value), re.IGNORECASE)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("inside", [{"notes.txt": "mine"}, {"manifest.json": '{"files": 12}'}])
def test_no_message_advises_to_remove_what_the_package_did_not_write(tree, inside):
    (tree / "packed").mkdir()
    for name, text in inside.items():
        (tree / "packed" / name).write_text(text)
    for folder in (tree / "packed", tree):
        left_alone(lambda folder=folder: pack(tree, folder, progress=False), folder, None)


@pytest.mark.parametrize("manifest", ['{"files": 12}', "[]", "{", '{"schema": "1.0"}', '{"schema": 2}'])
@pytest.mark.parametrize("own", ["sources.npy", "chunks.jsonl"])
@pytest.mark.parametrize("foreign", ["data_meta.csv", "sentinel-2", "embeddings.npy", None])
def test_a_folder_with_files_of_others_is_no_pack_whatever_its_manifest_is(tree, manifest, own, foreign):
    folder = tree / "packed"
    folder.mkdir()
    (folder / "manifest.json").write_text(manifest)
    (folder / own).touch()
    (folder / ".DS_Store").touch()
    if foreign is None:  # then `pack` may have written it all
        with pytest.raises(ChecksumError, match=r"Remove .*packed and call|Update bengelib"):
            pack(tree, progress=False)
        return
    (folder / foreign).touch()
    left_alone(lambda: pack(tree, progress=False), folder, None)


def test_a_tree_that_holds_a_pack_of_its_own_among_its_files_is_not_replaced(tree):
    """Somebody has moved the content of `packed` up into the tree, which is then out of date."""
    for path in pack(tree, progress=False).iterdir():
        if path.name != "splits":
            path.rename(tree / path.name)
    shutil.rmtree(tree / "packed")
    (tree / f"{tree.name}_era-5.csv").unlink()
    left_alone(lambda: pack(tree, tree, progress=False), tree, "which pack did not write")


def test_files_beside_the_arrays_of_a_pack_are_never_removed(tree):
    folder = pack(tree, progress=False)
    (folder / "notes.txt").write_text("mine")
    pack(tree, progress=False)
    verify(folder)
    assert len(PackedBENGE(tree)) == 6  # it is still current
    damage = (folder / "s1.npy").read_bytes()
    (folder / "s1.npy").write_bytes(damage[:-1])
    for call in (lambda: verify(folder), lambda: PackedBENGE(tree)[0]):
        left_alone(call, folder, "notes.txt")
    (folder / "s1.npy").write_bytes(damage)
    (tree / f"{tree.name}_era-5.csv").unlink()
    left_alone(lambda: pack(tree, progress=False), folder, "notes.txt")
    (folder / "notes.txt").unlink()
    pack(tree, progress=False)
    assert len(PackedBENGE(tree)) == 6


def test_a_file_in_place_of_a_folder_is_called_one(tree):
    table = tree / f"{tree.name}_meta.csv"
    for call in (pack, BENGE, PackedBENGE):
        with pytest.raises(DatasetNotFoundError, match=r"_meta\.csv is a file; give the folder"):
            call(table)


def test_the_case_of_a_name_does_not_make_it_another_dataset(tree):
    pack(tree, progress=False)
    other = tree.with_name(tree.name.upper())
    tree.rename(other)
    assert len(PackedBENGE(other)) == 6
    assert len(BENGE(other, "train")) == len(PackedBENGE(other, "train")) == 3


def test_a_lock_that_a_killed_process_left_beside_a_finished_pack_is_removed(tree):
    pack(tree, progress=False)
    (tree / ".packed.lock").touch()
    pack(tree, progress=False)
    assert not (tree / ".packed.lock").exists()


def test_a_lock_that_somebody_has_is_not_removed(tree):
    pack(tree, progress=False)
    with files.locked(tree / ".packed.lock", None):
        pack(tree, progress=False)
        assert (tree / ".packed.lock").exists()


def test_a_disk_that_maps_no_files_is_read_all_the_same(tree, monkeypatch):
    pack(tree, progress=False)
    expected = PackedBENGE(tree)[2]
    whole = np.load
    monkeypatch.setattr(np, "load", lambda path, mmap_mode=None: refuse(errno.ENODEV)() if mmap_mode else whole(path))
    with pytest.warns(DataWarning, match=r"s1\.npy cannot be mapped"):
        sample = PackedBENGE(tree)[2]
    assert sample["patch_id"] == expected["patch_id"] and torch.equal(sample["s1"], expected["s1"])

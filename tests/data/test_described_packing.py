import os
import signal
import warnings
from pathlib import Path

import numpy as np
import pytest

from bengelib.data import described_packing
from bengelib.data.described import DescribedDataset
from bengelib.data.described_packing import pack_described
from bengelib.data.description import read_description
from bengelib.data.samples import read_samples
from bengelib.data.stores import PackStore, open_store
from bengelib.errors import ChecksumError, DataWarning, DiskError, DiskSpaceError, MissingModalityError, RasterError
from tests.described_folders import BANDS, rewrite, s2_pixels, write_crops, write_tif, write_toml
from tests.forked import start


def pack(root: Path, **options) -> Path:
    description = read_description(root)
    return pack_described(description, read_samples(description), progress=False, **options)


def opened(root: Path) -> PackStore:
    description = read_description(root)
    store = open_store(description, read_samples(description))
    assert isinstance(store, PackStore)
    return store


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def test_a_pack_is_written_once(tmp_path, monkeypatch):
    root = write_crops(tmp_path, 6)
    folder = pack(root)
    assert sorted(content(folder)) == ["cover.16x16.npy", "manifest.json", "s2.16x16.npy", "sources.npy"]
    assert sorted(os.listdir(root)) == [
        "cover", "dataset.statistics.json", "dataset.toml", "images", "packed", "samples.csv"
    ]  # fmt: skip
    monkeypatch.setattr(described_packing, "_write_pack", None)
    assert pack(root) == folder


def test_a_table_alone_needs_no_pack(tmp_path):
    write_toml(tmp_path, '[samples]\ntable = "t.csv"\n[modalities.x]\nkind = "scalar"\ncolumn = "x"\n')
    (tmp_path / "t.csv").write_text("x\n1\n2\n")
    assert not pack(tmp_path).exists()


def pack_and_die(root: Path, after: int) -> None:
    """Pack batches of two, in a process that is killed once it has written `after` files of JSON."""
    calls = []

    def write_json(path, content, write=described_packing.write_json):
        write(path, content)
        calls.append(path.name)
        if len(calls) == after:
            os.kill(os.getpid(), signal.SIGKILL)

    described_packing.BATCH, described_packing.write_json = 2, write_json
    pack(root)


def pack_killed(root: Path, after: int) -> int | None:
    (process,) = start(pack_and_die, root, after)
    process.join(120)
    return process.exitcode


@pytest.mark.parametrize("after", [1, 3, 6])  # the plan is written, two samples, all and the manifest
def test_a_killed_call_is_taken_up_and_gives_the_same_bytes(tmp_path, monkeypatch, after):
    root = write_crops(tmp_path, 7)
    whole = content(pack(root))
    for path in (root / "packed").iterdir():
        path.unlink()
    (root / "packed").rmdir()
    assert pack_killed(root, after) == -signal.SIGKILL and not (root / "packed").exists()
    read = []
    good = described_packing.FileStore.read_good

    def read_good(store, key, rows, on_error):
        read.extend(rows.tolist())
        return good(store, key, rows, on_error)

    monkeypatch.setattr(described_packing.FileStore, "read_good", read_good)
    monkeypatch.setattr(described_packing, "BATCH", 2)
    assert content(pack(root)) == whole
    first = {1: 0, 3: 2, 6: 7}[after]
    assert sorted(set(read)) == list(range(first, 7))  # nothing is read twice
    assert not (root / "packed.partial").exists()


def test_a_call_whose_files_changed_meanwhile_begins_anew(tmp_path):
    root = write_crops(tmp_path, 7)
    assert pack_killed(root, 4) == -signal.SIGKILL
    assert (root / "packed.partial/done.json").is_file()
    write_tif(root / "images/p0.tif", s2_pixels(50), BANDS)
    pack(root)
    np.testing.assert_array_equal(opened(root).read("s2", np.array([0]))["s2.16x16"][0], s2_pixels(50))


def test_what_changed_is_packed_anew(tmp_path):
    root = write_crops(tmp_path, 7)
    pack(root)
    rewrite(root, '"B02", "B03"', '"B03", "B02"')
    pack(root)
    np.testing.assert_array_equal(opened(root).read("s2", np.array([2]))["s2.16x16"][0], s2_pixels(2)[[1, 0, 2, 3]])
    rewrite(root, 'classes = { 10 = "field", 20 = "wood"', 'classes = { 20 = "wood", 10 = "field"')
    pack(root)
    assert opened(root).read("cover", np.array([0]))["cover.16x16"][0, 5, 0] == 1
    assert not (root / "packed.partial").exists()


@pytest.mark.parametrize("folder", ["packed", "packed.partial"])
@pytest.mark.parametrize("name", ["results.csv", "s1.npy"])
def test_nothing_foreign_is_removed(tmp_path, folder, name):
    root = write_crops(tmp_path, 3)
    (root / folder).mkdir()
    (root / folder / name).write_text("mine")
    with pytest.raises(ChecksumError, match=rf"{folder} .*holds {name}, which is of no pack; it is left alone"):
        pack(root)
    assert (root / folder / name).read_text() == "mine"


def test_nothing_foreign_within_a_pack_is_removed(tmp_path):
    root = write_crops(tmp_path, 3)
    pack(root)
    (root / "packed/mine.txt").write_text("mine")
    pack(root)  # it is current
    rewrite(root, '"B02", "B03"', '"B03", "B02"')
    with pytest.raises(ChecksumError, match=r"holds mine.txt"):
        pack(root)
    assert (root / "packed/mine.txt").read_text() == "mine" and (root / "packed/s2.16x16.npy").exists()
    (root / "packed/mine.txt").rename(root / "packed/.hidden")
    pack(root)
    other = write_crops(tmp_path / "other", 3)
    (other / "packed").write_text("a file")
    with pytest.raises(ChecksumError, match=r"holds a file, which"):
        pack(other)


def test_damaged_samples_stop_it_or_are_left_out(tmp_path):
    root = write_crops(tmp_path, 6)
    (root / "images/p1.tif").write_bytes(b"II*\0")
    with pytest.raises(RasterError, match=r"p1.tif cannot be read"):
        pack(root)
    pack(root, on_error="skip")
    store = opened(root)
    assert list(store.problems("s2", np.arange(6), thorough=False)) == ["p1"]
    good, read, bad = store.read_good("s2", np.array([0, 1, 2]), "skip")
    assert good.tolist() == [0, 2] and list(bad) == ["p1"]
    np.testing.assert_array_equal(read["s2.16x16"], [s2_pixels(0), s2_pixels(2)])
    with pytest.raises(RasterError, match=r"p1.tif"):  # not taken for a whole one
        pack(root)
    (root / "images/p1.tif").unlink()
    write_tif(root / "images/p1.tif", s2_pixels(1), BANDS)
    pack(root)
    assert not any(opened(root).manifest["skipped"].values())
    (root / "images/p2.tif").unlink()
    with pytest.raises(MissingModalityError, match=r"p2.tif"):
        pack(root)


def test_labels_that_are_missing_and_files_of_no_sample_are_kept_in_mind(tmp_path):
    root = write_crops(tmp_path, 4)
    (root / "cover/p2.png").unlink()
    write_tif(root / "images/extra.tif", s2_pixels(9), BANDS)
    pack(root)
    store = opened(root)
    assert store.unlabelled("cover") == ["p2"] and store.strangers("s2") == ["images/extra.tif"]
    assert (store.read("cover", np.array([2]))["cover.16x16"] == 255).all()


def test_a_full_disk_and_one_that_refuses(tmp_path, monkeypatch):
    root = write_crops(tmp_path, 3)
    monkeypatch.setattr(described_packing, "free_bytes", lambda folder: 1000)
    with pytest.raises(DiskSpaceError, match=r"needs 0.0 GB"):
        pack(root)
    monkeypatch.undo()

    def mkdir(path: Path, *arguments: object, **options: object) -> None:
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with pytest.raises(DiskError, match=r"Read-only file system"):
        pack(root)


def test_infinite_pixels_are_in_the_account(tmp_path):
    root = write_crops(tmp_path, 10)
    for sample in range(10):
        pixels = s2_pixels(sample).astype(np.float32)
        pixels[1, 3, 4] = np.inf if sample in (2, 7) else np.nan
        write_tif(root / f"images/p{sample}.tif", pixels, BANDS)
    pack(root)
    with pytest.warns(DataWarning, match=r"2 of 10 samples have infinite pixels of s2, the first being p2; they count"):
        data = DescribedDataset(root, progress=False)
    assert bool(data.read_batch([2])["s2.16x16"].isinf().any()) and bool(data[2]["s2"].isfinite().all())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DescribedDataset(root, modalities=("weather",), progress=False)

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from bengelib.data import stores
from bengelib.data.described_packing import pack_described
from bengelib.data.description import read_description
from bengelib.data.samples import read_samples
from bengelib.data.stores import CACHE, FileStore, PackStore, open_store
from bengelib.errors import ChecksumError, MissingModalityError, RasterError
from tests.described_folders import BANDS, SIDE, cover_pixels, rewrite, s2_pixels, write_crops, write_tif


def store_of(root: Path) -> FileStore:
    description = read_description(root)
    return open_store(description, read_samples(description))


def pack(root: Path, **options) -> FileStore:
    description = read_description(root)
    pack_described(description, read_samples(description), progress=False, **options)
    return store_of(root)


def damage(root: Path, sample: int) -> None:
    path = root / "images" / f"p{sample}.tif"
    path.write_bytes(path.read_bytes()[:200])


def test_files_are_read_in_any_order(tmp_path):
    store = store_of(write_crops(tmp_path / "two words é", 4))
    assert type(store) is FileStore and list(store.layouts) == ["s2", "cover"]
    rows = np.array([2, 0])
    np.testing.assert_array_equal(store.read("s2", rows)["s2.16x16"], [s2_pixels(2), s2_pixels(0)])
    picked = store.read("s2", rows, {"s2.16x16": [3, 1]})["s2.16x16"]
    np.testing.assert_array_equal(picked, [s2_pixels(2)[[3, 1]], s2_pixels(0)[[3, 1]]])
    assert store.read("s2", rows[:0])["s2.16x16"].shape == (0, 4, SIDE, SIDE)
    cover = store.read("cover", rows)["cover.16x16"]
    np.testing.assert_array_equal(cover[1], np.where(cover_pixels(0) == 0, 255, cover_pixels(0) // 10 - 1))


def test_a_target_without_a_file_is_unknown_and_an_input_is_missing(tmp_path):
    root = write_crops(tmp_path, 3)
    (root / "cover/p1.png").unlink()
    (root / "images/p2.tif").unlink()
    store = store_of(root)
    assert (store.read("cover", np.array([1]))["cover.16x16"] == 255).all() and store.unlabelled("cover") == ["p1"]
    assert store.problems("cover", np.arange(3), thorough=False) == {}
    assert store.problems("cover", np.arange(3), thorough=True) == {}
    found = store.problems("s2", np.arange(3), thorough=False)
    assert found == {"p2": f"there is no {root / 'images/p2.tif'}"}
    with pytest.raises(MissingModalityError, match=r"p2.tif"):
        store.read("s2", np.array([2]))


def test_the_first_good_sample_says_how_files_are_stored(tmp_path):
    root = write_crops(tmp_path, 3)
    damage(root, 0)
    store = store_of(root)
    assert store.layouts["s2"].shape == (SIDE, SIDE)
    assert list(store.problems("s2", np.arange(3), thorough=True)) == ["p0"]
    for sample in (1, 2):
        damage(root, sample)
    with pytest.raises(RasterError, match=r"p0.tif cannot be read"):
        store_of(root)
    for path in (root / "images").iterdir():
        path.unlink()
    with pytest.raises(MissingModalityError, match=r"no sample of .*dataset.toml has files of s2: no .*p0.tif"):
        store_of(root)


def test_damage_and_codes_outside_the_classes_are_found_when_all_is_read(tmp_path):
    root = write_crops(tmp_path, 4)
    damage(root, 1)
    rewrite(root, '10 = "field", ', "")
    rewrite(root, "no_data = 0", "no_data = [0, 10]")
    rewrite(root, "cover/{id}.png", "cover/{id}.tif")
    for sample in range(4):
        write_tif(root / "cover" / f"p{sample}.tif", np.full((SIDE, SIDE), 21 if sample == 2 else 20, np.uint8))
    store = store_of(root)
    assert list(store.problems("s2", np.arange(4), thorough=True)) == ["p1"]
    assert "holds 21 at 256 pixels" in store.problems("cover", np.arange(4), thorough=True)["p2"]
    good, read, bad = store.read_good("cover", np.arange(4), "skip")
    assert good.tolist() == [0, 1, 3] and len(read["cover.16x16"]) == 3 and list(bad) == ["p2"]
    with pytest.raises(RasterError, match=r"not a class of"):
        store.read_good("cover", np.arange(4), "raise")


def test_files_of_no_sample_are_listed(tmp_path):
    root = write_crops(tmp_path, 3)
    write_tif(root / "images/extra.tif", s2_pixels(9), BANDS)
    (root / "images/notes.txt").touch()
    store = store_of(root)
    assert store.strangers("s2") == ["images/extra.tif"] and store.strangers("cover") == []
    assert store.strangers("weather") == []
    rewrite(root, 'files = "images/{id}.tif"', 'files = "images/{site}.tif"')  # by another column than the id
    for site in range(2):
        write_tif(root / f"images/site{site}.tif", s2_pixels(site), BANDS)
    assert store_of(root).strangers("s2") == [f"images/{name}.tif" for name in ("extra", "p0", "p1", "p2")]


def test_statistics_are_exact_over_all_samples_and_kept(tmp_path, monkeypatch):
    root = write_crops(tmp_path, 5)
    monkeypatch.setattr(stores, "BATCH", 2)
    found = store_of(root).statistics("s2", progress=False)
    pixels = np.stack([s2_pixels(sample) for sample in range(5)]).astype(np.float64) * 1e-4
    np.testing.assert_allclose(found.mean, pixels.mean(axis=(0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(found.std, pixels.std(axis=(0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(found.low, pixels.min(axis=(0, 2, 3)), rtol=1e-6)
    weather = store_of(root).statistics("weather", progress=False)
    assert weather.mean == (20.0, 282.0) and list(json.loads((root / CACHE).read_text())) == ["s2"]
    monkeypatch.setattr(FileStore, "read_good", None)  # no file is read again
    assert store_of(root).statistics("s2", progress=False) == found


@pytest.mark.parametrize("content", ["", "[]", "null", '"x"', "{}", '{"s2": 3}', '{"s2": {"hash": "x"}}', "\x00", "{"])
def test_a_cache_that_is_none_is_measured_again(tmp_path, content):
    root = write_crops(tmp_path, 3)
    found = store_of(root).statistics("s2", progress=False)
    (root / CACHE).write_text(content)
    assert store_of(root).statistics("s2", progress=False) == found
    assert json.loads((root / CACHE).read_text())["s2"]["hash"]


def test_a_cache_with_the_right_hash_and_nothing_in_it(tmp_path):
    root = write_crops(tmp_path, 3)
    found = store_of(root).statistics("s2", progress=False)
    kept = json.loads((root / CACHE).read_text())
    for broken in ([], 5, {}, {**kept["s2"]["statistics"], "mean": [1.0]}):
        (root / CACHE).write_text(json.dumps({"s2": {**kept["s2"], "statistics": broken}}))
        assert store_of(root).statistics("s2", progress=False) == found


@pytest.mark.parametrize(
    "change",
    [
        lambda root: rewrite(root, "scale = 0.0001", "scale = 0.001"),
        lambda root: rewrite(root, "scale = 0.0001", "scale = 0.0001\nno_data = 300"),
        lambda root: write_tif(root / "images/p0.tif", s2_pixels(7), BANDS, compress="deflate"),
        lambda root: rewrite(root, "p2,site1,maize,1.0,20,282\n", "", "samples.csv"),
    ],
)
def test_statistics_follow_what_they_were_measured_of(tmp_path, change):
    root = write_crops(tmp_path, 3)
    before = store_of(root).statistics("s2", progress=False)
    change(root)
    assert store_of(root).statistics("s2", progress=False) != before


def test_statistics_leave_damaged_samples_out_on_request_only(tmp_path):
    root = write_crops(tmp_path, 3)
    damage(root, 1)
    (root / "images/p2.tif").unlink()
    with pytest.raises(RasterError, match=r"p1.tif"):
        store_of(root).statistics("s2", progress=False)
    found = store_of(root).statistics("s2", on_error="skip", progress=False)
    assert found.count == (256,) * 4 and found.samples == 1
    assert store_of(root).statistics("s2", on_error="skip", progress=False) == found
    with pytest.raises(RasterError, match=r"p1.tif"):  # though the cache has the others
        store_of(root).statistics("s2", progress=False)


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    root = write_crops(tmp_path, 3)

    def write_text(path: Path, *arguments: object, **options: object) -> None:
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "write_text", write_text)
    assert store_of(root).statistics("s2", progress=False).samples == 3
    assert not (root / CACHE).exists()


def test_a_pack_gives_the_same_arrays_without_the_files(tmp_path, monkeypatch):
    root = write_crops(tmp_path, 7)
    files = store_of(root)
    packed = pack(root)
    assert type(packed) is PackStore and packed.layouts == files.layouts
    for rows in (np.array([6, 0, 3]), np.arange(7), np.array([], int)):
        for key in ("s2", "cover"):
            for (name, one), other in zip(files.read(key, rows).items(), packed.read(key, rows).values(), strict=True):
                np.testing.assert_array_equal(one, other, name)
                assert one.dtype == other.dtype
    wanted = {"s2.16x16": [2, 0]}
    one, other = (store.read("s2", np.array([5, 1]), wanted)["s2.16x16"] for store in (files, packed))
    np.testing.assert_array_equal(one, other)
    monkeypatch.setattr(stores, "read_stored", None)
    (root / CACHE).unlink()
    again = packed.statistics("s2", progress=False)
    monkeypatch.undo()
    assert again == files.statistics("s2", progress=False)  # the same number of each, to the bit


def test_a_pack_goes_to_another_process_without_its_arrays(tmp_path):
    store = pack(write_crops(tmp_path, 7))
    store.read("s2", np.array([0]))
    data = pickle.dumps(store)
    assert len(data) < 20_000
    np.testing.assert_array_equal(pickle.loads(data).read("s2", np.array([4]))["s2.16x16"][0], s2_pixels(4))


@pytest.mark.parametrize(
    ("change", "stays"),
    [
        (lambda root: rewrite(root, "scale = 0.0001", "scale = 0.001\noffset = -0.1"), True),
        (lambda root: rewrite(root, "wheat", "rye", "samples.csv") or rewrite(root, "wheat", "rye"), True),
        (lambda root: rewrite(root, '"B08"]', '"B08"]\nsize = 8'), False),
        (lambda root: rewrite(root, '"B02", "B03"', '"B03", "B02"'), False),
        (lambda root: rewrite(root, "no_data = 0", "no_data = [0, 7]"), False),
        (lambda root: rewrite(root, "p2,site1,maize,1.0,20,282\n", "", "samples.csv"), False),
        (lambda root: os.utime(root / "images/p1.tif", ns=(1, 1)), False),
        (lambda root: os.replace(root / "images/p1.tif", root / "images/p0.tif"), False),
        (lambda root: (root / "cover/p3.png").unlink(), False),
    ],
)
def test_a_pack_is_left_when_what_it_was_made_from_changes(tmp_path, change, stays):
    root = write_crops(tmp_path, 6)
    pack(root)
    change(root)
    if not (root / "images/p1.tif").exists():
        write_tif(root / "images/p1.tif", s2_pixels(0), BANDS)
    assert (type(store_of(root)) is PackStore) is stays


def test_a_pack_with_a_damaged_manifest_or_array(tmp_path):
    root = write_crops(tmp_path, 6)
    store = pack(root)
    manifest = (root / "packed/manifest.json").read_text()
    for content in ("", "[]", '{"schema": "described-1"}', manifest.replace("described-1", "described-9")):
        (root / "packed/manifest.json").write_text(content)
        assert type(store_of(root)) is FileStore
    (root / "packed/manifest.json").write_text(manifest)
    assert type(store_of(root)) is PackStore
    path = root / "packed/s2.16x16.npy"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ChecksumError, match=r"s2.16x16.npy is damaged .*pack again"):
        store.read("s2", np.array([0]))
    np.save(path, np.zeros((6, 4, 8, 8), np.uint16))
    with pytest.raises(ChecksumError, match=r"is not as it was packed"):
        store.read("s2", np.array([0]))
    (root / "packed/sources.npy").write_bytes(b"no array")
    assert type(store_of(root)) is FileStore


def test_some_files_stand_for_all_when_a_large_pack_is_opened(tmp_path, monkeypatch):
    root = write_crops(tmp_path, 9)
    pack(root)
    monkeypatch.setattr(stores, "_COMPARED", 3)
    description = read_description(root)
    table = read_samples(description)
    os.utime(root / "images/p1.tif", ns=(1, 1))
    assert type(open_store(description, table)) is PackStore
    assert type(open_store(description, table, thorough=True)) is FileStore
    os.utime(root / "images/p3.tif", ns=(1, 1))
    assert type(open_store(description, table)) is FileStore

import itertools
import json
import os
import pickle
import shutil
import signal
import time
import tracemalloc

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from bengelib.bands import S1_BANDS, S2, S2_BANDS
from bengelib.data import packing
from bengelib.data.dataset import BENGE
from bengelib.data.decode import decode
from bengelib.data.manifest import SCHEMA, verify
from bengelib.data.packed import PackedBENGE
from bengelib.data.packing import pack
from bengelib.data.patches import KEYS
from bengelib.data.rasters import read_patch
from bengelib.data.splits import FOLDS
from bengelib.errors import (
    BandError,
    BengeError,
    ChecksumError,
    DatasetNotFoundError,
    DiskSpaceError,
    MissingModalityError,
    SplitError,
)
from bengelib.transforms import Normalize
from tests import fake_tree as fake
from tests.forked import finish, fresh, start

S1_TOLERANCE = 0.008  # dB, between -32 and 32
ALL = dict(modalities=("s2", "s1", "dem", "weather", "season", "lonlat"), targets=KEYS[2:])


@pytest.fixture(scope="module")
def packed_tree(tmp_path_factory):
    """A tree with its pack; read only."""
    root = fake.write_fake_tree(tmp_path_factory.mktemp("packed") / "ben-ge-fake")
    pack(root, progress=False)
    return root


@pytest.fixture
def tree(tmp_path, fake_tree):
    """A tree of its own, without a pack."""
    return shutil.copytree(fake_tree, tmp_path / fake_tree.name)


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_same(sample, expected):
    assert list(sample) == list(expected)
    for key, value in expected.items():
        if key == "patch_id":
            assert sample[key] == value
        else:
            assert (sample[key].dtype, sample[key].shape) == (value.dtype, value.shape), key
            torch.testing.assert_close(sample[key], value, rtol=0, atol=S1_TOLERANCE if key == "s1" else 1e-6)


# -------------------------------------------------------------------------------------------- the same samples as BENGE


@pytest.mark.parametrize(
    ("split", "scheme", "fold"),
    [
        (None, "official", 0),
        *itertools.product(("train", "val", "test"), ("official", "study"), (0,)),
        *itertools.product(("train", "val", "test"), ("blocked",), range(FOLDS)),
    ],
)
def test_samples_are_those_of_the_geotiffs(packed_tree, split, scheme, fold):
    options = dict(scheme=scheme, fold=fold, **ALL)
    tree, packed = BENGE(packed_tree, split, **options), PackedBENGE(packed_tree, split, **options)
    assert packed.patch_ids == tree.patch_ids
    assert packed.meta.equals(tree.meta)
    assert (packed.modalities, packed.targets, packed.keys) == (tree.modalities, tree.targets, tree.keys)
    for index in range(len(tree)):
        expected, sample = tree[index], packed[index]
        assert_same({key: sample[key] for key in expected}, expected)
        assert set(sample) == set(expected)


@pytest.mark.parametrize(
    ("s2_bands", "s1_bands"),
    [(("B12", "B02", "B09", "B8A"), ("VH", "VV")), (("B01",), ("VH",)), (("B04", "B03", "B02"), ("VV",))],
)
def test_bands_come_in_the_order_asked_for(packed_tree, s2_bands, s1_bands):
    options = dict(s2_bands=s2_bands, s1_bands=s1_bands)
    tree, packed = BENGE(packed_tree, **options), PackedBENGE(packed_tree, **options)
    for index in (0, 5):
        torch.testing.assert_close(packed[index]["s2"], tree[index]["s2"], rtol=0, atol=1e-6)
        torch.testing.assert_close(packed[index]["s1"], tree[index]["s1"], rtol=0, atol=S1_TOLERANCE)


def test_season_and_weather_of_the_s1_acquisition(packed_tree):
    options = dict(modalities=("season", "weather"), acquisition="s1")
    assert torch.equal(PackedBENGE(packed_tree, **options)[4]["weather"], BENGE(packed_tree, **options)[4]["weather"])
    assert float(PackedBENGE(packed_tree, **options)[4]["season"]) == pytest.approx(fake.seasons(4)[1])


def test_tables_can_be_asked_for_whole(packed_tree):
    tree, packed = BENGE(packed_tree, "train"), PackedBENGE(packed_tree, "train")
    for key in ("climate_zone", "corine", "land_cover_fractions", "lonlat"):
        np.testing.assert_array_equal(packed.table(key), tree.table(key))
    with pytest.raises(BandError, match="table keys"):
        packed.table("s2")


def test_layout_of_the_full_set(tmp_path):
    root = fake.write_fake_tree(tmp_path / "ben-ge", dem_folder="glo-30_dem", climate_in_meta=False)
    pack(root, progress=False)
    options = dict(modalities=("dem",), targets=("climate_zone",))
    assert_same(PackedBENGE(root, **options)[3], BENGE(root, **options)[3])


def test_real_patches(real_tree, tmp_path):
    folder = pack(real_tree, tmp_path / "packed", progress=False)
    options = dict(targets=("lonlat", "corine"))
    tree, packed = BENGE(real_tree, **options), PackedBENGE(folder, **options)
    for index in range(len(tree)):
        sample, expected = packed[index], tree[index]
        assert torch.equal(sample["s2"], expected["s2"])
        inside = expected["s1"].abs() < 32
        error = (sample["s1"] - expected["s1"]).abs()
        assert error[inside].max() <= 2**-7 < S1_TOLERANCE
        assert error.max() <= 2**-6


# --------------------------------------------------------------------------------------------------- reading in batches


def test_stored_batches_hold_the_numbers_of_the_files(packed_tree):
    packed = PackedBENGE(packed_tree, modalities=("s2", "s1", "dem"), targets=("land_cover", "climate_zone"))
    batch = packed.read_batch([4, 0, 3])
    for place, patch in enumerate((4, 0, 3)):
        for resolution in (10, 20, 60):
            bands = [band for band in S2_BANDS if S2[band].resolution == resolution]
            for channel, band in enumerate(bands):
                np.testing.assert_array_equal(batch[f"s2_{resolution}m"][place, channel], fake.s2_pixels(band, patch))
        for channel, band in enumerate(S1_BANDS):
            expected = fake.s1_pixels(band, patch).astype(np.float16)
            np.testing.assert_array_equal(batch["s1"][place, channel], expected)
        np.testing.assert_array_equal(batch["dem"][place, 0], fake.dem_pixels(patch))
        np.testing.assert_array_equal(batch["land_cover"][place], fake.land_cover_pixels(patch))
    assert batch["patch_id"] == [fake.patch_ids(patch)[0] for patch in (4, 0, 3)]
    types = {key: value.dtype for key, value in batch.items() if key != "patch_id"}
    assert types["s2_60m"] == torch.uint16
    assert (types["s1"], types["dem"], types["land_cover"]) == (torch.float16, torch.int16, torch.uint8)


@pytest.mark.parametrize("indices", [[2, 2, 0], np.array([5, 1]), torch.tensor([3]), range(2), []])
def test_any_sequence_of_indices_will_do(packed_tree, indices):
    packed, tree = PackedBENGE(packed_tree), BENGE(packed_tree)
    batch = packed.read_batch(indices)
    assert batch["patch_id"] == [packed.patch_ids[int(index)] for index in indices]
    assert batch["s2_10m"].shape == (len(indices), 4, 120, 120)
    if len(indices):
        decoded = decode(tree.read_batch(indices), tree.s2_bands)
        torch.testing.assert_close(decode(batch, packed.s2_bands)["s2"], decoded["s2"], rtol=0, atol=1e-6)


def test_loaders_give_the_same_batches_whichever_way(packed_tree):
    packed = PackedBENGE(packed_tree, **ALL)
    stored = PackedBENGE(packed_tree, decoded=False, **ALL)
    plain = list(DataLoader(packed, batch_size=4))
    at_once = list(DataLoader(packed, batch_size=4, collate_fn=packed.collate))
    late = [decode(batch) for batch in DataLoader(stored, batch_size=4, collate_fn=stored.collate)]
    of_tree = list(DataLoader(BENGE(packed_tree, **ALL), batch_size=4))
    for batches in (at_once, late, of_tree):
        for batch, expected in zip(batches, plain, strict=True):
            assert_same({key: batch[key] for key in expected}, expected)


@pytest.mark.parametrize("method", ["fork", fresh()])
def test_worker_processes(packed_tree, method):
    packed = PackedBENGE(packed_tree)
    packed[0]  # opened here already, and opened again in the workers
    loader = DataLoader(packed, batch_size=2, num_workers=1, multiprocessing_context=method, collate_fn=packed.collate)
    assert [patch for batch in loader for patch in batch["patch_id"]] == packed.patch_ids


def test_what_is_pickled_is_small_and_works(packed_tree):
    packed = PackedBENGE(packed_tree, "test")
    expected = packed[1]
    data = pickle.dumps(packed)
    assert len(data) < 50_000
    assert_same(pickle.loads(data)[1], expected)


def test_transform_is_applied_last(packed_tree):
    packed = PackedBENGE(packed_tree, transform=lambda sample: {"bright": sample["s2"].mean()})
    assert list(packed[0]) == ["bright"]
    assert next(iter(DataLoader(packed, batch_size=3)))["bright"].shape == (3,)


def test_a_sample_can_be_changed_without_changing_the_dataset(packed_tree):
    packed = PackedBENGE(packed_tree, modalities=("s1", "weather"))
    before = {key: value.clone() for key, value in packed[0].items() if key != "patch_id"}
    sample = packed[0]
    for key in before:
        sample[key].add_(1)
        assert torch.equal(packed[0][key], before[key])


def test_indices_end_where_the_dataset_does(packed_tree):
    packed = PackedBENGE(packed_tree, "train")
    assert len(list(packed)) == len(packed) == 3
    assert packed[-1]["patch_id"] == packed.patch_ids[2]
    for index in (3, -4):
        with pytest.raises(IndexError):
            packed[index]


def test_decoding_can_normalise_at_once(packed_tree):
    packed = PackedBENGE(packed_tree, modalities=("s2", "s1", "dem"), s2_bands=("B12", "B04", "B01"), s1_bands=("VH",))
    batch = packed.read_batch(range(6))
    plain = decode(batch, packed.s2_bands, packed.s1_bands)
    both = decode(batch, packed.s2_bands, packed.s1_bands, normalized=True)
    for key, bands in (("s2", packed.s2_bands), ("s1", packed.s1_bands), ("dem", ())):
        torch.testing.assert_close(both[key], Normalize(key, bands)(plain[key]), rtol=0, atol=1e-5)


# ----------------------------------------------------------------------------------------------- arguments, and no pack


def test_wrong_arguments_are_refused_as_by_benge(packed_tree):
    for error, options in (
        (BandError, dict(modalities=("s3",))),
        (BandError, dict(s2_bands=("B10",))),
        (SplitError, dict(split="dev")),
        (SplitError, dict(split="train", scheme="random")),
    ):
        with pytest.raises(error):
            PackedBENGE(packed_tree, **options)


def test_without_a_pack_the_message_says_how_to_make_one(tree):
    with pytest.raises(DatasetNotFoundError, match=r"bengelib\.pack"):
        PackedBENGE(tree)
    with pytest.raises(DatasetNotFoundError, match="no folder"):
        PackedBENGE(tree.parent / "nothing")


def test_what_the_tree_does_not_have_the_pack_does_not_have(tree):
    shutil.rmtree(tree / "dem")
    (tree / f"{tree.name}_era-5.csv").unlink()
    pack(tree, progress=False)
    assert len(PackedBENGE(tree)) == 6
    for key in ("dem", "weather"):
        with pytest.raises(MissingModalityError, match=key):
            PackedBENGE(tree, modalities=(key,))


def test_a_pack_stands_on_its_own(tree, tmp_path):
    expected = BENGE(tree, "train", **ALL)[0]
    folder = shutil.move(pack(tree, progress=False), tmp_path / "elsewhere")
    shutil.rmtree(tree)
    sample = PackedBENGE(folder, "train", **ALL)[0]
    assert_same({key: sample[key] for key in expected}, expected)


def test_rasters_can_be_removed_once_packed(tree):
    pack(tree, progress=False)
    for folder in ("sentinel-1", "sentinel-2", "dem", "esaworldcover"):
        shutil.rmtree(tree / folder)
    assert PackedBENGE(tree, **ALL)[5]["s2"].shape == (12, 120, 120)


# --------------------------------------------------------------------------------------------------------- how it packs


def test_packing_again_does_nothing(tree):
    folder = pack(tree, progress=False)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert pack(tree, progress=False) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_manifest_describes_what_is_there(packed_tree):
    manifest = json.loads((packed_tree / "packed" / "manifest.json").read_text())
    assert manifest["name"] == packed_tree.name
    assert manifest["patches"] == 6
    assert f"{packed_tree.name}_meta.csv" in manifest["table_sources"]
    for name, entry in manifest["arrays"].items():
        array = np.load(packed_tree / "packed" / f"{name}.npy", mmap_mode="r")
        assert list(array.shape) == entry["shape"]
        assert array.dtype.str == entry["dtype"]
        assert len(array) == 6
    verify(packed_tree / "packed")


def test_bytes_do_not_depend_on_processes_or_chunks(tree, tmp_path, monkeypatch):
    one = contents(pack(tree, tmp_path / "one", progress=False))
    two = contents(pack(tree, tmp_path / "two", processes=2, progress=False))
    assert one == two
    monkeypatch.setattr(packing, "CHUNK", 2)
    small = contents(pack(tree, tmp_path / "small", progress=False))
    differing = {name for name in one if one[name] != small[name]}
    assert differing == {"manifest.json", "chunks.jsonl"}  # they list the chunks


def test_memory_does_not_grow_with_the_number_of_patches(tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "CHUNK", 4)
    peaks = []
    for patches in (8, 32):
        root = fake.write_fake_tree(tmp_path / f"ben-ge-{patches}", patches)
        pack(root, tmp_path / f"warm-{patches}", progress=False)
        tracemalloc.start()
        pack(root, progress=False)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    one_patch = 232_000
    assert peaks[1] - peaks[0] < 2 * one_patch  # 24 patches more


def test_every_modality_of_a_damaged_array_is_found(tree):
    folder = pack(tree, progress=False)
    for name in ("s2_10m", "s2_60m", "s1", "dem", "land_cover", "weather_s2", "corine"):
        path = folder / f"{name}.npy"
        good = path.read_bytes()
        path.write_bytes(good[:-5] + bytes([good[-5] ^ 1]) + good[-4:])
        with pytest.raises(ChecksumError, match=name):
            verify(folder)
        path.write_bytes(good)
    verify(folder)


@pytest.mark.parametrize("damage", [lambda data: data[:-1000], lambda data: b"", lambda data: b"not an array" * 9])
def test_a_truncated_or_foreign_array_is_refused_when_opened(tree, damage):
    folder = pack(tree, progress=False)
    path = folder / "s1.npy"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ChecksumError, match=r"s1\.npy"):
        PackedBENGE(tree)[0]


# ---------------------------------------------------------------------------------------------------- stale and foreign


def touch_raster(root):
    path = next((root / "sentinel-2").rglob("*_B08.tif"))
    fake.write_raster(path, fake.s2_pixels("B08", 19))
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1_000_000_000))


def change_table(root):
    path = root / f"{root.name}_era-5.csv"
    path.write_text(path.read_text().replace("285.0", "291.0"))


def swap_split(root):
    train, test = (root / "splits" / f"{root.name}_{split}.csv" for split in ("train", "test"))
    texts = train.read_text(), test.read_text()
    train.write_text(texts[1])
    test.write_text(texts[0])


def drop_patch(root):
    path = root / f"{root.name}_meta.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")


@pytest.mark.parametrize("change", [touch_raster, change_table, swap_split, drop_patch])
def test_a_stale_pack_is_refused_until_packed_again(tree, change):
    pack(tree, progress=False)
    change(tree)
    with pytest.raises(ChecksumError, match=r"out of date.*bengelib\.pack"):
        PackedBENGE(tree, split=None)
    pack(tree, progress=False)
    options = dict(modalities=("s2", "weather"))
    fresh, now = BENGE(tree, **options), PackedBENGE(tree, **options)
    assert fresh.patch_ids == now.patch_ids
    for index in range(len(fresh)):
        assert_same({key: now[index][key] for key in fresh[index]}, fresh[index])
    assert not (tree / "packed.old").exists()


def test_a_modality_that_came_later_is_packed(tree):
    shutil.move(tree / "dem", tree.parent / "dem")
    pack(tree, progress=False)
    shutil.move(tree.parent / "dem", tree / "dem")
    with pytest.raises(ChecksumError, match="dem was added"):
        PackedBENGE(tree)
    pack(tree, progress=False)
    assert PackedBENGE(tree, modalities=("dem",))[2]["dem"].shape == (1, 120, 120)


def test_a_pack_of_another_dataset_is_refused_and_left_alone(tree, tmp_path):
    other = fake.write_fake_tree(tmp_path / "ben-ge-other", 6)
    pack(other, progress=False)
    shutil.copytree(other / "packed", tree / "packed")
    before = contents(tree / "packed")
    with pytest.raises(ChecksumError, match="ben-ge-other"):
        PackedBENGE(tree)
    with pytest.raises(ChecksumError, match="ben-ge-other"):
        pack(tree, progress=False)
    assert contents(tree / "packed") == before


def test_a_folder_that_is_no_pack_is_left_alone(tree):
    (tree / "packed").mkdir()
    (tree / "packed" / "notes.txt").write_text("mine")
    with pytest.raises(ChecksumError, match="left alone"):
        pack(tree, progress=False)
    assert (tree / "packed" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("text", "match"),
    [("{", "damaged"), ('{"schema": 99}', "schema 99"), ("[]", "damaged"), (f'{{"schema": {SCHEMA}}}', "lacks")],
)
def test_a_manifest_that_cannot_be_read_is_refused(tree, text, match):
    folder = pack(tree, progress=False)
    (folder / "manifest.json").write_text(text)
    with pytest.raises(ChecksumError, match=match):
        PackedBENGE(tree)


def test_a_rebuild_that_was_killed_between_its_two_renames_is_mended(tree):
    folder = pack(tree, progress=False)
    folder.rename(tree / "packed.old")
    assert pack(tree, progress=False) == folder
    assert len(PackedBENGE(tree)) == 6


# --------------------------------------------------------------------------------------- interrupted, full, in parallel


def test_an_interrupted_pack_goes_on_and_has_the_same_bytes(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "CHUNK", 2)
    expected = contents(pack(tree, tmp_path / "expected", progress=False))
    whole, calls = packing._write_chunk, []

    def interrupted(*task):
        calls.append(task[1].number)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(*task)

    monkeypatch.setattr(packing, "_write_chunk", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pack(tree, progress=False)
    assert not (tree / "packed").exists()
    assert contents(pack(tree, progress=False)) == expected
    assert calls == [0, 1, 1, 2]  # what was done is not done again


@pytest.mark.parametrize("damage", ["journal", "array", "source"])
def test_what_an_interrupted_pack_left_is_not_trusted_blindly(tree, tmp_path, monkeypatch, damage):
    monkeypatch.setattr(packing, "CHUNK", 2)
    whole = packing._write_chunk

    def fail_late(*task):
        if task[1].number == 2:
            raise KeyboardInterrupt
        return whole(*task)

    with monkeypatch.context() as patch:
        patch.setattr(packing, "_write_chunk", fail_late)
        with pytest.raises(KeyboardInterrupt):
            pack(tree, progress=False)
    partial = tree / "packed.partial"
    if damage == "journal":
        journal = partial / "chunks.jsonl"
        journal.write_text(journal.read_text()[:-20])  # the last line was cut off
    elif damage == "array":
        array = np.load(partial / "s2_10m.npy", mmap_mode="r+")
        array[1] = 0  # never reached the disk
        array.flush()
    else:
        touch_raster(tree)
    assert contents(pack(tree, progress=False)) == contents(pack(tree, tmp_path / "expected", progress=False))


def pack_slowly(tree, log, pause):
    """Pack two patches at a time, for another process: a pause before each chunk, whose number goes into `log`."""
    whole = packing._write_chunk

    def slow(*task):
        time.sleep(pause)
        with log.open("a") as file:
            file.write(f"{task[1].number}\n")
        return whole(*task)

    packing.CHUNK, packing._write_chunk = 2, slow
    pack(tree, progress=False)


def test_a_killed_pack_goes_on_and_has_the_same_bytes(tree, tmp_path, monkeypatch):
    log = tmp_path / "log"
    (process,) = start(pack_slowly, tree, log, 0.3)
    while process.is_alive() and (not log.exists() or log.read_text() != "0\n1\n"):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert (tree / "packed.partial").is_dir()
    assert not (tree / "packed").exists()
    monkeypatch.setattr(packing, "CHUNK", 2)
    expected = contents(pack(tree, tmp_path / "expected", progress=False))
    assert contents(pack(tree, progress=False)) == expected
    assert not (tree / "packed.partial").exists()


def test_two_processes_that_pack_the_same_tree_do_it_once(tree, tmp_path):
    log = tmp_path / "log"
    finish([*start(pack_slowly, tree, log, 0.2), *start(pack_slowly, tree, log, 0.2)])
    assert sorted(log.read_text().split()) == ["0", "1", "2"]
    verify(tree / "packed")


def test_a_disk_that_is_too_small_is_noticed_before_the_first_byte(tree, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6, 1000))
    with pytest.raises(DiskSpaceError, match="free"):
        pack(tree, progress=False)
    assert not (tree / "packed.partial").exists()


def test_a_disk_that_fills_up_stops_the_pack_which_goes_on_later(tree, tmp_path, monkeypatch):
    expected = contents(pack(tree, tmp_path / "expected", progress=False))
    whole = packing.write_rows

    def full(path, *rest):
        if path.name == "s1.npy":
            raise OSError(28, "No space left on device")
        whole(path, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(packing, "write_rows", full)
        with pytest.raises(DiskSpaceError, match="Make room"):
            pack(tree, progress=False)
    assert not (tree / "packed").exists()
    assert contents(pack(tree, progress=False)) == expected


def test_a_tree_on_a_disk_that_cannot_be_written_is_used_as_it_is(tree, monkeypatch):
    folder = pack(tree, progress=False)

    def refuse(*_):
        raise PermissionError("read-only")

    monkeypatch.setattr(packing, "locked", refuse)
    assert pack(tree, progress=False) == folder


def test_an_unknown_way_to_treat_errors_is_refused(tree):
    with pytest.raises(ValueError, match="ignore"):
        pack(tree, on_error="ignore")


@pytest.mark.slow
def test_packing_is_fast(tmp_path):
    root = fake.write_fake_tree(tmp_path / "ben-ge-800", 800)
    start_time = time.perf_counter()
    pack(root, progress=False)
    assert time.perf_counter() - start_time < 5


def test_errors_are_all_of_one_family():
    assert issubclass(DiskSpaceError, BengeError)


def test_one_patch_reads_the_same_from_everywhere(packed_tree):
    folders = {"s2": packed_tree / "sentinel-2"}
    stored = read_patch(folders, *fake.patch_ids(2), s2_bands=("B09", "B11"))
    assert set(stored) == {"s2_20m", "s2_60m"}


def test_decoding_is_exact_whatever_precision_is_set_for_training(packed_tree):
    packed = PackedBENGE(packed_tree, modalities=("s2",))
    batch = packed.read_batch(range(6))
    expected = decode(batch)["s2"]
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(decode(batch)["s2"], expected, rtol=0, atol=1e-6)
    torch.set_float32_matmul_precision("medium")
    try:
        torch.testing.assert_close(decode(batch)["s2"], expected, rtol=0, atol=1e-6)
    finally:
        torch.set_float32_matmul_precision("highest")


def test_decoding_leaves_the_number_of_threads_alone(packed_tree):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        PackedBENGE(packed_tree)[0]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("bands", ["s2_bands", "s1_bands"])
@pytest.mark.parametrize("dataset", [BENGE, PackedBENGE])
def test_no_bands_at_all_is_refused(packed_tree, dataset, bands):
    with pytest.raises(BandError, match=f"{bands} is empty"):
        dataset(packed_tree, targets=(), **{bands: ()})

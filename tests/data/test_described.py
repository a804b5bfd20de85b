import pickle
import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from torch.utils.data import DataLoader, Subset

from bengelib.bands import IGNORE_INDEX
from bengelib.data.described import DescribedDataset
from bengelib.data.described_packing import pack_described
from bengelib.data.stores import FileStore, PackStore
from bengelib.errors import (
    ArgumentError,
    BandError,
    DataWarning,
    DescriptionError,
    MissingModalityError,
    RasterError,
    SplitError,
    TableError,
)
from bengelib.modalities import Target
from tests.described_folders import (
    BANDS,
    CROPS,
    SIDE,
    cover_pixels,
    pixels_of,
    rewrite,
    s2_pixels,
    write_crops,
    write_picture,
    write_tif,
    write_toml,
)


@pytest.fixture(scope="module")
def crops(tmp_path_factory) -> Path:
    """Twenty samples in ten groups; to be read only."""
    return write_crops(tmp_path_factory.mktemp("data") / "crops")


def pack(root: Path, **options) -> None:
    data = DescribedDataset(root, progress=False, **options)
    pack_described(data.description, data.store.samples, progress=False, **options)


def test_a_sample_has_its_inputs_and_targets_in_their_units(crops):
    data = DescribedDataset(crops, progress=False)
    assert len(data) == 20 and list(data.keys) == ["s2", "weather", "crop", "cover", "harvest"]
    sample = data[3]
    np.testing.assert_allclose(sample["s2"], s2_pixels(3) * 1e-4, rtol=1e-6)
    np.testing.assert_array_equal(sample["weather"], [30, 283])
    expected = np.where(cover_pixels(3) == 0, IGNORE_INDEX, cover_pixels(3) // 10 - 1)
    np.testing.assert_array_equal(sample["cover"], expected)
    assert sample["crop"] == 1 and sample["harvest"].isnan() and sample["patch_id"] == "p3"
    integers = [key for key, value in sample.items() if key != "patch_id" and value.dtype == torch.int64]
    assert integers == ["crop", "cover"]
    assert data[-1]["patch_id"] == "p19" and not data.simulated


def test_it_says_what_it_has(crops):
    data = DescribedDataset(crops, bands={"s2": ("B08", "B02")}, progress=False)
    assert data.inputs["s2"].bands == ("B08", "B02") and data.inputs["s2"].unit == ("reflectance",) * 2
    assert data.inputs["s2"].size == SIDE and data.inputs["weather"].kind == "vector"
    assert data.outputs["crop"] == Target("crop", "class", ("maize", "wheat"))
    assert data.groups.tolist() == [f"site{n // 2}" for n in range(20)]
    assert data.meta["crop"].iloc[1] == "wheat" and data.table("crop").tolist() == [0, 1] * 10
    assert "20 of 20 samples used" in str(data.account) and "have no harvest (that is allowed)" in str(data.account)
    np.testing.assert_allclose(data[2]["s2"], s2_pixels(2)[[3, 0]] * 1e-4, rtol=1e-6)
    with pytest.raises(BandError, match=r"keys in the table"):
        data.table("s2")


def test_some_keys_a_split_and_a_transform(crops):
    data = DescribedDataset(crops, "test", ("weather",), ("harvest",), transform=lambda sample: {**sample, "x": 1})
    assert len(data) == 4 and data[0].keys() == {"weather", "harvest", "patch_id", "x"}
    assert set(data.groups.tolist()).isdisjoint(DescribedDataset(crops, "train").groups.tolist())
    assert data.account.set_aside == {"are not in split 'test'": 16}
    folds = [DescribedDataset(crops, "test", fold=fold).patch_ids for fold in range(5)]
    assert sorted(name for names in folds for name in names) == sorted(f"p{n}" for n in range(20))


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"split": "holdout"}, SplitError, "unknown split 'holdout'"),
        ({"modalities": ("s3",)}, BandError, r"unknown modalities \['s3'\]; choose from \['s2', 'weather'\]"),
        ({"modalities": "s2"}, BandError, "sequence of names"),
        ({"targets": ("s2",)}, BandError, r"unknown targets \['s2'\]"),
        ({"bands": {"s2": ("B99",)}}, BandError, r"unknown bands of s2 \['B99'\]"),
        ({"bands": {"s1": ("VV",)}}, BandError, "modalities with bands"),
        ({"scheme": "official"}, None, ""),
        ({"split": "test", "scheme": "official"}, SplitError, "names no column of a split"),
        ({"on_error": "ignore"}, BandError, r"unknown on_error"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(crops, arguments, error, words):
    if error is None:
        assert len(DescribedDataset(crops, **arguments)) == 20
        return
    with pytest.raises(error, match=words):
        DescribedDataset(crops, **arguments)


def test_places_are_checked(crops):
    data = DescribedDataset(crops)
    for wrong in (np.ones(20, bool), [0.5], [-1]):
        with pytest.raises(ArgumentError):
            data.read_batch(wrong)
    with pytest.raises(IndexError):
        data[20]


def equal(one, other) -> None:
    assert one.keys() == other.keys()
    for key, value in one.items():
        if isinstance(value, torch.Tensor):
            assert value.dtype == other[key].dtype and value.shape == other[key].shape, key
            assert torch.equal(value.nan_to_num(nan=-7), other[key].nan_to_num(nan=-7)), key
        else:
            assert value == other[key], key


def test_batches_are_stacked_samples_however_they_are_read(crops):
    data = DescribedDataset(crops, progress=False)
    indices = [5, 0, 3]
    batch = data.decode(data.read_batch(indices))
    equal(batch, data.decode(batch))  # what is decoded stays as it is
    for place, index in enumerate(indices):
        equal({key: value[place] for key, value in batch.items()}, data[index])
    loader = DataLoader(Subset(data, indices), batch_size=3, collate_fn=data.collate)
    equal(next(iter(loader)), batch)
    stored = DescribedDataset(crops, decoded=False, progress=False)
    raw = next(iter(DataLoader(stored, batch_size=2, collate_fn=stored.collate)))
    assert raw["s2.16x16"].dtype == torch.uint16
    equal(stored.decode(raw), data.decode(data.read_batch([0, 1])))
    odd = DescribedDataset(crops, bands={"s2": ("B04", "B02")}, progress=False)
    assert torch.equal(odd.decode(odd.read_batch(indices))["s2"], batch["s2"][:, [2, 0]])


RICH = """
[samples]
table = "t.csv"

[modalities.s2]
kind = "image"
files = "s2/{id}_{band}.tif"
bands = ["B01", "B02", "B05", "B03"]
scale = [0.0001, 0.0001, 0.0002, 0.0001]
offset = -0.1
no_data = 0
unit = "reflectance"

[modalities.s1]
kind = "image"
files = "s1/{pair}.npy"
bands = ["VV", "VH"]
unit = "dB"

[modalities.dem]
kind = "image"
files = "dem/{id}.tif"
bands = ["height"]
unit = "m"

[modalities.soil]
kind = "map"
files = "soil/{id}.png"
classes = { 1 = "sand", 2 = "clay", 7 = "peat" }

[targets.labels]
kind = "labels"
column = "labels"
classes = ["a", "b"]
"""


def write_rich(root: Path, count: int = 6) -> Path:
    """Bands at three resolutions with no data, float32 with NaN, int32 with a scale in its tags, a map as an input."""
    write_toml(root, RICH)
    rng = np.random.default_rng(5)
    rows = ["id,pair,labels"]
    for n in range(count):
        for band, side in (("B01", 4), ("B02", 24), ("B05", 12), ("B03", 24)):
            pixels = rng.integers(0, 4000, (side, side)).astype(np.uint16)
            write_tif(root / "s2" / f"{n}_{band}.tif", pixels, nodata=0, **pixels_of(240 / side))
        radar = rng.normal(-12, 3, (2, 24, 24)).astype(np.float32)
        radar[0, :2] = np.nan
        (root / "s1").mkdir(exist_ok=True)
        np.save(root / "s1" / f"r{n}.npy", radar)
        height = rng.integers(0, 90_000, (24, 24)).astype(np.int32)
        height[0, 0] = -32768
        write_tif(root / "dem" / f"{n}.tif", height, scales=(0.01,), offsets=(10,), nodata=-32768)
        write_picture(root / "soil" / f"{n}.png", rng.choice(np.array([1, 2, 7], np.uint8), (24, 24)))
        rows.append(f"{n},r{n},{('a;b', 'b', '')[n % 3]}")
    (root / "t.csv").write_text("\n".join(rows))
    return root


def test_a_pack_gives_the_same_samples_to_the_bit(tmp_path):
    root = write_rich(tmp_path / "née 1")
    files = DescribedDataset(root, progress=False)
    assert type(files.store) is FileStore and files[0]["s2"].shape == (4, 24, 24)
    before = [files[n] for n in range(6)]
    assert not any(value.isnan().any() for sample in before for key, value in sample.items() if key in files.modalities)
    np.testing.assert_allclose(before[1]["dem"][0, 0, 0], files.statistics["dem"].mean[0], rtol=1e-6)
    assert before[0]["soil"].sum() == 24 * 24 and before[2]["labels"].isnan().all()
    pack(root)
    packed = DescribedDataset(root, progress=False)
    assert type(packed.store) is PackStore
    for n in range(6):
        equal(packed[n], before[n])
    assert packed.inputs == files.inputs
    for options in ({"bands": {"s2": ("B03", "B01")}}, {"modalities": ("dem", "s1")}, {"decoded": False}):
        one = DescribedDataset(root, progress=False, **options)
        shutil.move(root / "packed", root / ".aside")
        other = DescribedDataset(root, progress=False, **options)
        shutil.move(root / ".aside", root / "packed")
        assert (type(one.store), type(other.store)) == (PackStore, FileStore)
        equal(one[4], other[4])


def test_statistics_are_of_what_the_samples_hold(tmp_path):
    root = write_rich(tmp_path)
    data = DescribedDataset(root, progress=False)
    values = torch.stack([data[n]["s1"] for n in range(6)]).double().numpy()
    inputs = data.inputs
    for band, pixels in enumerate((values[:, 0, 2:], values[:, 1])):  # without the rows of NaN
        assert inputs["s1"].mean[band] == pytest.approx(pixels.mean(), rel=1e-5)
        assert inputs["s1"].std[band] == pytest.approx(pixels.std(), rel=1e-5)
    shares = torch.stack([data[n]["soil"] for n in range(6)]).double().mean(dim=(0, 2, 3))
    np.testing.assert_allclose(inputs["soil"].mean, shares, rtol=1e-6)
    assert (inputs["soil"].kind, inputs["soil"].bands) == ("image", ("sand", "clay", "peat"))


@pytest.mark.parametrize("is_packed", [False, True])
def test_a_copy_in_another_process_reads_the_same(tmp_path, is_packed):
    root = write_rich(tmp_path, 4)
    if is_packed:
        pack(root)
    data = DescribedDataset(root, progress=False)
    sample = data[2]
    copy = pickle.loads(pickle.dumps(data))
    assert type(copy.store) is (PackStore if is_packed else FileStore) and not vars(copy.store).get("_arrays")
    equal(copy[2], sample)
    assert copy.inputs == data.inputs


@pytest.mark.slow
def test_spawned_workers_read_the_same(tmp_path):
    root = write_rich(tmp_path, 4)
    pack(root)
    data = DescribedDataset(root, progress=False)
    loader = DataLoader(data, batch_size=2, num_workers=1, multiprocessing_context="spawn", collate_fn=data.collate)
    for batch, indices in zip(loader, ([0, 1], [2, 3]), strict=True):
        equal(batch, data.decode(data.read_batch(indices)))


def test_samples_that_cannot_be_used_stop_it_or_are_left_out(tmp_path):
    root = write_crops(tmp_path, 8)
    (root / "images/p1.tif").unlink()
    with pytest.raises(
        MissingModalityError, match=r"\[modalities.s2\] .*1 of 8 samples .* p1 \(there is no .*p1.tif\)"
    ):
        DescribedDataset(root)
    (root / "images/p2.tif").write_bytes(b"II*\0")
    rewrite(root, "p3,site1,wheat,,30", "p3,site1,wheat,,", "samples.csv")
    write_picture(root / "cover/p4.png", np.full((SIDE, SIDE), 77, np.uint8))
    with pytest.warns(DataWarning, match=r"4 of 8 samples used"):
        data = DescribedDataset(root, on_error="skip", progress=False)
    assert data.patch_ids == ["p0", "p5", "p6", "p7"] and list(data.skipped) == ["p1", "p2", "p3", "p4"]
    assert "s2: " in data.skipped["p2"] and "column rain or heat" in data.skipped["p3"] and "77" in data.skipped["p4"]
    assert data[1]["patch_id"] == "p5" and data.inputs["s2"].mean[0] > 0
    np.testing.assert_allclose(data[1]["s2"], s2_pixels(5) * 1e-4, rtol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        pack_described(data.description, data.store.samples, on_error="skip", progress=False)
        packed = DescribedDataset(root, on_error="skip", progress=False)
        assert type(packed.store) is PackStore and packed.patch_ids == data.patch_ids
        equal(packed[3], data[3])
        assert packed.inputs == data.inputs
    with pytest.raises(RasterError, match=r"2 of 8 samples cannot be used, the first being p1"):
        DescribedDataset(root)


def test_a_split_of_which_nothing_is_left(tmp_path):
    root = write_crops(tmp_path, 4)
    rewrite(root, 'group = "site"', 'split = "site"')
    rewrite(root, "site0", "train", "samples.csv")
    rewrite(root, "site1", "test", "samples.csv")
    for sample in (2, 3):
        (root / "images" / f"p{sample}.tif").unlink()
    with pytest.raises(SplitError, match=r"none of the 2 samples can be used, the first being p2 \(s2: no "):
        DescribedDataset(root, "test", on_error="skip")
    with pytest.raises(SplitError, match=r"no sample of .* is in split 'val'"):
        DescribedDataset(root, "val")
    assert len(DescribedDataset(root, "train")) == 2


def test_files_of_what_is_not_used_need_not_be_there(tmp_path):
    root = write_crops(tmp_path, 4)
    shutil.rmtree(root / "cover")
    with pytest.raises(MissingModalityError, match=r"no sample of .*dataset.toml has files of cover"):
        DescribedDataset(root)
    assert DescribedDataset(root, targets=("crop",))[0].keys() == {"s2", "weather", "crop", "patch_id"}


def test_a_value_of_an_input_that_is_missing(tmp_path):
    root = write_crops(tmp_path, 4)
    rewrite(root, "p3,site1,wheat,,30", "p3,site1,wheat,,", "samples.csv")
    with pytest.raises(TableError, match=r"\[modalities.weather\] 1 of 4 samples .* p3 \(no value in .*samples.csv"):
        DescribedDataset(root)
    assert len(DescribedDataset(root, modalities=("s2",))) == 4


def test_files_of_no_sample_are_refused_or_told_once(tmp_path):
    root = write_crops(tmp_path)
    write_tif(root / "images/extra.tif", s2_pixels(99), BANDS)
    words = r"1 files of s2 belong to no sample of samples\.csv, the first being images/extra\.tif"
    with pytest.raises(DescriptionError, match=rf"\[modalities.s2\] {words}.* unlisted = 'ignore' in \[samples\]"):
        DescribedDataset(root, progress=False)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for split in ("train", "val", "test"):
            data = DescribedDataset(root, split, on_error="skip", progress=False)
            assert "1 files of s2 belong to no sample" in str(data.account)
    assert [bool(re.search(words, str(each.message))) for each in told] == [True]
    rewrite(root, 'group = "site"', 'group = "site"\nunlisted = "ignore"')
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pack(root)
        assert "1 files of s2 belong to no sample" in str(DescribedDataset(root, progress=False).account)
    rewrite(root, 'unlisted = "ignore"', 'unlisted = "yes"')
    with pytest.raises(DescriptionError, match="unlisted = 'yes'; expected 'ignore'"):
        DescribedDataset(root, progress=False)


def test_files_of_no_sample_are_refused_without_a_table_too(tmp_path):
    for number in range(6):
        write_tif(tmp_path / "hi" / f"{number}.tif", s2_pixels(number))
        write_tif(tmp_path / "lo" / f"{number}.tif", s2_pixels(number)[:2])
    write_tif(tmp_path / "lo" / "other.tif", s2_pixels(9)[:2])
    write_toml(
        tmp_path,
        """
        [modalities.hi]
        kind = "image"
        files = "hi/{id}.tif"
        bands = ["a", "b", "c", "d"]

        [modalities.lo]
        kind = "image"
        files = "lo/{id}.tif"
        bands = ["a", "b"]
        """,
    )
    with pytest.raises(DescriptionError, match=r"1 files of lo belong to no sample of the files of hi.*lo/other\.tif"):
        DescribedDataset(tmp_path, progress=False)
    assert len(DescribedDataset(tmp_path, modalities=("hi",), progress=False)) == 6


def test_the_files_of_the_description_itself_are_no_samples(tmp_path):
    write_tif(tmp_path / "a.tif", s2_pixels(1), BANDS)
    (tmp_path / "samples.csv").write_text("file\na.tif\n")
    write_toml(
        tmp_path,
        """
        [samples]
        table = "samples.csv"
        id = "file"

        [modalities.s2]
        kind = "image"
        files = "{file}"
        bands = ["B02", "B03", "B04", "B08"]
        unit = "reflectance"
        scale = 0.0001
        """,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        assert DescribedDataset(tmp_path, progress=False).inputs["s2"].bands == BANDS  # and there is a cache now
        assert DescribedDataset(tmp_path, progress=False).patch_ids == ["a.tif"]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("scale = 0.0001", "", r"every band reaches .*scale = 0.0001"),
        ("scale = 0.0001", "scale = 0.0001\nno_data = 0", None),
        ('"B08"]', '"B08"]\nno_data = [300]', None),
        ("weather]", "forward]", r"\['forward'\] are names that a network cannot have"),
        (
            'columns = ["rain", "heat"]',
            'columns = ["rain", "one"]',
            r"\[modalities.weather\] band one is 1 .*never varies",
        ),
    ],
)
def test_what_is_found_before_training(tmp_path, old, new, words):
    root = write_crops(tmp_path, 4)
    text = (root / "samples.csv").read_text().splitlines()
    (root / "samples.csv").write_text("\n".join([text[0] + ",one", *(line + ",1" for line in text[1:])]))
    rewrite(root, old, new)
    if words is None:
        assert DescribedDataset(root, progress=False).inputs
        return
    with pytest.raises(DescriptionError, match=words):
        _ = DescribedDataset(root, progress=False).inputs


def test_statistics_are_not_measured_where_nothing_needs_them(tmp_path, monkeypatch):
    root = write_crops(tmp_path, 4)
    monkeypatch.setattr(FileStore, "statistics", None)
    assert DescribedDataset(root)[0]["s2"].shape == (4, SIDE, SIDE)


BIGEARTHNET = """
[samples]
table = "metadata.parquet"
id = "patch_id"
split = "split"

[modalities.s2]
kind = "image"
files = "BigEarthNet-S2/*/{patch_id}/{patch_id}_{band}.tif"
bands = ["B01", "B02", "B8A"]
scale = 0.0001
unit = "reflectance"

[modalities.s1]
kind = "image"
files = "BigEarthNet-S1/*/{s1_name}/{s1_name}_{band}.tif"
bands = ["VV", "VH"]
unit = "dB"

[targets.labels]
kind = "labels"
column = "labels"
classes = ["Arable land", "Pastures", "Inland waters"]

[targets.corine]
kind = "map"
files = "Reference_Maps/*/{patch_id}/{patch_id}_reference_map.tif"
classes = { 211 = "Arable land", 231 = "Pastures", 512 = "Inland waters" }
"""


def write_bigearthnet(root: Path, table: str) -> Path:
    """Three patches of two tiles in the folders of BigEarthNet v2 (reBEN, arXiv:2407.03653), and their metadata."""
    import pandas as pd

    write_toml(root, BIGEARTHNET.replace("metadata.parquet", table))
    rng = np.random.default_rng(1)
    rows = []
    for n, side in enumerate(("train", "validation", "test")):
        tile = f"S2A_MSIL2A_20170613T101031_N9999_R022_T33UU{'PQ'[n % 2]}"
        orbit = f"S1A_IW_GRDH_1SDV_2017061{n}T165043"
        patch, radar = f"{tile}_{n}_43", f"{orbit}_33UUP_{n}_48"
        for band, size in (("B01", 2), ("B02", 12), ("B8A", 6)):
            pixels = rng.integers(1, 5000, (size, size)).astype(np.uint16)
            write_tif(
                root / "BigEarthNet-S2" / tile / patch / f"{patch}_{band}.tif",
                pixels,
                nodata=0,
                **pixels_of(120 / size),
            )
        for band in ("VV", "VH"):
            pixels = rng.normal(-12, 3, (12, 12)).astype(np.float32)
            write_tif(root / "BigEarthNet-S1" / orbit / radar / f"{radar}_{band}.tif", pixels)
        codes = np.full((12, 12), (211, 231, 512)[n], np.uint16)
        codes[0] = 0
        write_tif(root / "Reference_Maps" / tile / patch / f"{patch}_reference_map.tif", codes, nodata=0)
        labels = [["Pastures", "Arable land"], ["Pastures"], ["Inland waters"]][n]
        old = f"S2A_MSIL2A_20170613T101031_{n}_43"
        columns = {"patch_id": patch, "labels": labels, "split": side, "country": "Austria", "s1_name": radar}
        rows.append({**columns, "s2v1_name": old, "contains_seasonal_snow": False})
    frame = pd.DataFrame(rows)
    if table.endswith(".csv"):
        frame.to_csv(root / table, index=False)
    else:
        pytest.importorskip("pyarrow")
        frame.to_parquet(root / table)
    return root


@pytest.mark.parametrize("table", ["metadata.csv", "metadata.parquet"])
def test_bigearthnet_v2_with_its_metadata(tmp_path, table):
    root = write_bigearthnet(tmp_path, table)
    data = DescribedDataset(root, progress=False)
    assert [len(DescribedDataset(root, side, progress=False)) for side in ("train", "val", "test")] == [1, 1, 1]
    np.testing.assert_array_equal(data.table("labels"), [[1, 1, 0], [0, 1, 0], [0, 0, 1]])
    sample = data[2]
    assert sample["s2"].shape == (3, 12, 12) and sample["s1"].shape == (2, 12, 12)
    assert (sample["corine"][0] == 255).all() and (sample["corine"][1:] == 2).all()
    assert not data.account.concerns()
    before = [data[n] for n in range(3)]
    pack(root)
    packed = DescribedDataset(root, progress=False)
    for n in range(3):
        equal(packed[n], before[n])
    # the names of version 1, by which other tables know the patches
    rewrite(root, 'id = "patch_id"', 'id = "s2v1_name"')
    joined = DescribedDataset(root, progress=False)
    assert joined.patch_ids == [f"S2A_MSIL2A_20170613T101031_{n}_43" for n in range(3)]
    equal({**joined[1], "patch_id": before[1]["patch_id"]}, before[1])


def test_a_column_that_is_read_and_to_be_predicted_is_told(tmp_path):
    root = write_crops(tmp_path / "crops")
    rewrite(root, 'column = "harvest"', 'column = "rain"')
    words = r"\[targets.harvest\] asks for the column 'rain', which \[modalities.weather\] gives away"
    with pytest.warns(DataWarning, match=words):
        DescribedDataset(root, progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DescribedDataset(root, None, ("s2",), ("harvest",), progress=False)


def test_the_table_may_name_the_files_by_their_paths(tmp_path):
    """Two folders, names that follow no pattern, and no id; files beside them count only if they could be samples."""
    root = write_crops(tmp_path / "crops", 10)
    rewrite(root, '"images/{id}.tif"', '"{image}"')
    rewrite(root, '"cover/{id}.png"', '"{mask}"')
    rows = (root / "samples.csv").read_text().splitlines()
    lines = [rows[0].replace("id,", "image,mask,")]
    for number, row in enumerate(rows[1:]):
        image = root / "by farm" / f"farm {number % 3}" / f"nr-{number}.tif"
        image.parent.mkdir(parents=True, exist_ok=True)
        (root / "images" / f"p{number}.tif").rename(image)
        lines.append(f"{image.relative_to(root).as_posix()},cover/p{number}.png,{row.partition(',')[2]}")
    (root / "samples.csv").write_text("\n".join(lines))
    (root / "README.md").touch()
    data = DescribedDataset(root, progress=False)
    assert data.patch_ids == [str(number) for number in range(1, 11)] and "belong to no sample" not in str(data.account)
    for number in (0, 7):
        np.testing.assert_allclose(data[number]["s2"], s2_pixels(number) * 1e-4, rtol=1e-6)
    rewrite(root, 'group = "site"', 'group = "site"\nunlisted = "ignore"')
    write_tif(root / "more.tif", s2_pixels(0))
    assert data.store.strangers("s2") == ["more.tif"] and data.store.strangers("cover") == []
    pack(root)
    packed = DescribedDataset(root, progress=False)
    assert type(packed.store) is PackStore
    equal(packed[3], data[3])
    rewrite(root, "farm 1/nr-4.tif", "farm 1/../nr-4.tif", "samples.csv")
    with pytest.raises(DescriptionError, match=r"takes image = .*nr-4\.tif.*without '\.\.'"):
        DescribedDataset(root, progress=False)


def test_images_of_a_sample_that_lie_elsewhere_are_refused(tmp_path):
    """GeoTIFFs of two modalities, and a map; pictures cannot say where they lie."""
    s1 = '[modalities.s1]\nkind = "image"\nfiles = "s1/{id}.tif"\nbands = ["VV"]\n\n'
    toml = CROPS.replace("[targets.crop]", f"{s1}[targets.crop]")
    root = write_crops(tmp_path / "crops", 10, toml)
    for sample in range(10):
        write_tif(root / "s1" / f"p{sample}.tif", s2_pixels(sample)[:1])
    elsewhere = {"transform": rasterio.transform.from_origin(410_000, 5_000_000, 10, 10)}
    write_tif(root / "s1" / "p6.tif", s2_pixels(6)[:1], **elsewhere)
    words = r"s1/p6\.tif lies elsewhere than .*images/p6\.tif.*\[modalities\.s1\]"
    with pytest.raises(RasterError, match=words):
        pack(root)
    data = DescribedDataset(root, progress=False)
    data[5]
    with pytest.raises(RasterError, match=words):
        data[6]
    DescribedDataset(root, modalities=("s1",), progress=False)[6]
    with pytest.warns(DataWarning, match="p6"):
        assert "p6" not in DescribedDataset(root, on_error="skip", progress=False).patch_ids
    rewrite(root, "cover/{id}.png", "cover/{id}.tif")
    write_tif(root / "s1" / "p6.tif", s2_pixels(6)[:1])
    for sample in range(10):
        write_tif(root / "cover" / f"p{sample}.tif", cover_pixels(sample), **(elsewhere if sample == 2 else {}))
    with pytest.raises(RasterError, match=r"cover/p2\.tif lies elsewhere than .*/p2\.tif.*\[targets\.cover\]"):
        pack(root)

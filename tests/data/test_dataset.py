import itertools
import shutil

import numpy as np
import pytest
import rasterio
import torch
from rasterio.warp import transform as project
from torch.utils.data import DataLoader, Dataset

import bengelib
from bengelib.bands import CLIMATE_ZONES, CORINE_19, IGNORE_INDEX, LAND_COVER, S1_BANDS, S2, S2_BANDS
from bengelib.data.dataset import BENGE
from bengelib.data.packed import PackedBENGE
from bengelib.data.packing import pack
from bengelib.data.patches import KEYS
from bengelib.data.splits import mgrs_tile
from bengelib.errors import (
    ArgumentError,
    BandError,
    BengeError,
    DatasetNotFoundError,
    DataWarning,
    MissingModalityError,
    RasterError,
    SplitError,
    TableError,
)
from tests import fake_tree as fake
from tests.test_bands import INDEX_19_OF_43

PATCHES = 6


@pytest.fixture(scope="module")
def everything(fake_tree):
    return BENGE(fake_tree, modalities=("s2", "s1", "dem", "weather", "season", "lonlat"), targets=KEYS)


def upsampled(pixels):
    """Bilinear upsampling to 120 pixels with half-pixel centres and clamped edges, by NumPy alone."""
    size = pixels.shape[0]
    places = (np.arange(120) + 0.5) * size / 120 - 0.5
    rows = np.stack([np.interp(places, np.arange(size), column) for column in pixels.T.astype(np.float64)], axis=1)
    return np.stack([np.interp(places, np.arange(size), row) for row in rows])


# ------------------------------------------------------------------------------------------------- the data contract


def test_samples_hold_the_keys_shapes_and_types_of_the_contract(everything):
    expected = {
        "s2": ((12, 120, 120), torch.float32),
        "s1": ((2, 120, 120), torch.float32),
        "dem": ((1, 120, 120), torch.float32),
        "land_cover": ((120, 120), torch.int64),
        "season": ((), torch.float32),
        "lonlat": ((2,), torch.float32),
        "weather": ((5,), torch.float32),
        "climate_zone": ((), torch.int64),
        "land_cover_fractions": ((11,), torch.float32),
        "land_cover_top": ((), torch.int64),
        "corine": ((19,), torch.float32),
    }
    sample = everything[0]
    assert {key: (tuple(value.shape), value.dtype) for key, value in sample.items() if key != "patch_id"} == expected
    assert set(expected) == set(KEYS)
    assert sample["patch_id"] == fake.patch_ids(0)[0]


@pytest.mark.parametrize("patch", [0, 1, 5])
@pytest.mark.parametrize("band", S2_BANDS)
def test_every_s2_band_stands_in_its_place(everything, patch, band):
    found = everything[patch]["s2"][S2_BANDS.index(band)].numpy()
    np.testing.assert_allclose(found, upsampled(fake.s2_pixels(band, patch)) / 10_000, rtol=1e-5)


@pytest.mark.parametrize("patch", range(PATCHES))
def test_s1_and_dem(everything, patch):
    sample = everything[patch]
    for place, band in enumerate(S1_BANDS):
        np.testing.assert_array_equal(sample["s1"][place], fake.s1_pixels(band, patch))
    np.testing.assert_array_equal(sample["dem"][0], fake.dem_pixels(patch))


@pytest.mark.parametrize("patch", range(PATCHES))
def test_land_cover_indices(everything, patch):
    codes = fake.land_cover_pixels(patch)
    index_of = {entry.code: index for index, entry in enumerate(LAND_COVER)} | {0: IGNORE_INDEX}
    expected = np.vectorize(index_of.get)(codes)
    np.testing.assert_array_equal(everything[patch]["land_cover"], expected)
    labelled = expected[expected != IGNORE_INDEX]
    fractions = np.bincount(labelled, minlength=11) / labelled.size
    np.testing.assert_allclose(everything[patch]["land_cover_fractions"], fractions, atol=1e-6)
    assert everything[patch]["land_cover_top"] == fractions.argmax()


@pytest.mark.parametrize("patch", range(PATCHES))
def test_scalars_and_labels(everything, patch):
    sample = everything[patch]
    assert CLIMATE_ZONES[int(sample["climate_zone"])].code == CLIMATE_ZONES[patch].code
    assert float(sample["season"]) == pytest.approx(fake.seasons(patch)[0])
    assert sample["lonlat"].tolist() == pytest.approx(list(fake.lonlat(patch)), rel=1e-6)
    assert sample["weather"].tolist() == pytest.approx([285.0, 1.0, -2.0, 70.0, 990.0 + patch])
    labels = {INDEX_19_OF_43.get(number) for number in (patch, patch + 11)} - {None}  # of the 43, as the tree has them
    assert set(sample["corine"].nonzero().flatten().tolist()) == labels
    assert set(sample["corine"].tolist()) <= {0.0, 1.0}


def test_season_and_weather_of_the_s1_acquisition(fake_tree):
    sample = BENGE(fake_tree, modalities=("season", "weather"), targets=(), acquisition="s1")[3]
    assert float(sample["season"]) == pytest.approx(fake.seasons(3)[1])
    assert sample["weather"].tolist() == pytest.approx([286.5, 1.5, -2.5, 68.0, 993.0])


def test_only_what_was_asked_for_is_in_a_sample(fake_tree):
    data = BENGE(fake_tree, modalities=("dem",), targets=("land_cover_top",))
    assert set(data[0]) == {"dem", "land_cover_top", "patch_id"}
    assert set(BENGE(fake_tree)[0]) == {"s2", "s1", "climate_zone", "patch_id"}


def test_bands_come_in_the_order_asked_for(fake_tree):
    s2_bands = ("B12", "B02", "B09", "B8A", "B01", "B04")
    data = BENGE(fake_tree, s2_bands=s2_bands, s1_bands=("VH", "VV"))
    assert (data.s2_bands, data.s1_bands) == (s2_bands, ("VH", "VV"))
    sample, whole = data[2], BENGE(fake_tree)[2]
    for place, band in enumerate(s2_bands):
        assert torch.equal(sample["s2"][place], whole["s2"][S2_BANDS.index(band)])
    assert torch.equal(sample["s1"], whole["s1"].flip(0))


@pytest.mark.parametrize("bands", [("B04",), ("B01",), ("B8A", "B05")])
def test_bands_of_one_resolution_alone(fake_tree, bands):
    sample = BENGE(fake_tree, modalities=("s2",), targets=(), s2_bands=bands)[1]
    for place, band in enumerate(bands):
        np.testing.assert_allclose(sample["s2"][place], upsampled(fake.s2_pixels(band, 1)) / 10_000, rtol=1e-5)


def test_one_polarisation_alone(fake_tree):
    sample = BENGE(fake_tree, modalities=("s1",), targets=(), s1_bands=("VH",))[1]
    np.testing.assert_array_equal(sample["s1"][0], fake.s1_pixels("VH", 1))


def test_transform_is_applied_to_the_whole_sample(fake_tree):
    data = BENGE(fake_tree, transform=lambda sample: {"kept": sample["s2"].mean(), "patch_id": sample["patch_id"]})
    assert set(data[0]) == {"kept", "patch_id"}


def test_a_transform_that_works_in_place_does_not_change_the_dataset(fake_tree):
    data = BENGE(fake_tree, modalities=("weather", "season"), targets=("climate_zone",))
    before = data[0]["weather"].clone()
    for key in ("weather", "season", "climate_zone"):
        data[0][key].add_(100)
    assert torch.equal(data[0]["weather"], before)


def test_it_is_a_torch_dataset_that_loads_in_batches(fake_tree):
    data = BENGE(fake_tree)
    assert isinstance(data, Dataset) and len(data) == PATCHES
    batches = list(DataLoader(data, batch_size=4))
    assert [len(batch["patch_id"]) for batch in batches] == [4, 2]
    assert batches[0]["s2"].shape == (4, 12, 120, 120) and batches[0]["climate_zone"].shape == (4,)
    assert [patch for batch in batches for patch in batch["patch_id"]] == data.patch_ids


def test_it_is_importable_from_the_package():
    assert bengelib.BENGE is BENGE


def test_layout_of_the_full_set(tmp_path):
    root = fake.write_fake_tree(tmp_path / "ben-ge", 2, dem_folder="glo-30_dem", climate_in_meta=False)
    sample = BENGE(root, modalities=("dem",), targets=("climate_zone",))[1]
    np.testing.assert_array_equal(sample["dem"][0], fake.dem_pixels(1))
    assert sample["climate_zone"] == 1


def test_relative_root(fake_tree, monkeypatch):
    monkeypatch.chdir(fake_tree)
    assert len(BENGE(".")) == PATCHES


# ------------------------------------------------------------------------------------------------------------- splits


@pytest.mark.parametrize("scheme", ["official", "study"])
def test_splits_share_the_patches_out(fake_tree, scheme):
    parts = {split: BENGE(fake_tree, split, scheme=scheme).patch_ids for split in ("train", "val", "test")}
    for patch in range(PATCHES):
        assert fake.patch_ids(patch)[0] in parts[fake.side(patch)]
    assert sorted(itertools.chain(*parts.values())) == sorted(BENGE(fake_tree).patch_ids)


def test_official_split_with_the_other_name_of_validation(tmp_path):
    root = fake.write_fake_tree(tmp_path / "tree", PATCHES)
    before = BENGE(root, "val").patch_ids
    (root / "splits" / "tree_validation.csv").rename(root / "splits" / "tree_val.csv")
    assert BENGE(root, "val").patch_ids == before == [fake.patch_ids(2)[0]]


@pytest.mark.parametrize("fold", range(5))
def test_blocked_split_keeps_tiles_apart(fake_tree, fold):
    tiles = {}
    for split in ("train", "val", "test"):
        meta = BENGE(fake_tree, split, scheme="blocked", fold=fold).meta
        tiles[split] = {mgrs_tile(name) for name in meta["patch_id_s1"]}
    assert not tiles["train"] & tiles["test"] and not tiles["train"] & tiles["val"] and not tiles["val"] & tiles["test"]
    assert len(set.union(*tiles.values())) == 5


def test_samples_of_a_split_are_those_of_its_patches(fake_tree):
    """The tables are cut to the split as well: row 0 of a split is not row 0 of the meta CSV."""
    data = BENGE(fake_tree, "test", modalities=("s2", "s1", "dem"), targets=("climate_zone", "weather", "corine"))
    for sample in data:
        patch = next(number for number in range(PATCHES) if fake.patch_ids(number)[0] == sample["patch_id"])
        assert sample["climate_zone"] == patch
        assert sample["weather"][4] == 990 + patch
        np.testing.assert_array_equal(sample["s1"][0], fake.s1_pixels("VV", patch))
        np.testing.assert_array_equal(sample["dem"][0], fake.dem_pixels(patch))


# ------------------------------------------------------------------------------------------------------- wrong requests


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"modalities": ("s3",)}, BandError, ["modalities", "'s3'", "'s2'"]),
        ({"targets": ("climate",)}, BandError, ["targets", "'climate'", "'climate_zone'"]),
        ({"s2_bands": ("B10",)}, BandError, ["s2_bands", "'B10'", "'B09'"]),
        ({"s2_bands": ("B4",)}, BandError, ["'B4'", "'B04'"]),
        ({"s1_bands": ("HH",)}, BandError, ["s1_bands", "'HH'", "'VV'"]),
        ({"s2_bands": ("B04", "B04")}, BandError, ["twice"]),
        ({"modalities": "s2"}, BandError, ["('s2',)"]),
        ({"acquisition": "s3"}, BandError, ["acquisition", "'s3'"]),
        ({"split": "validation"}, SplitError, ["'validation'", "'val'"]),
        ({"split": "train", "scheme": "random"}, SplitError, ["'random'", "'study'"]),
        ({"split": "train", "scheme": "blocked", "fold": 7}, SplitError, ["7", "0 to 4"]),
    ],
)
def test_unknown_names_are_refused_with_the_choices(fake_tree, arguments, error, words):
    with pytest.raises(error) as caught:
        BENGE(fake_tree, **arguments)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert isinstance(caught.value, BengeError)


def test_no_such_root(tmp_path):
    with pytest.raises(DatasetNotFoundError, match="ben-ge-none"):
        BENGE(tmp_path / "ben-ge-none")


def test_empty_root(tmp_path):
    with pytest.raises(DatasetNotFoundError, match=r"_meta\.csv"):
        BENGE(tmp_path)


def test_rasters_have_no_table(fake_tree):
    data = BENGE(fake_tree, modalities=("s1",), targets=())
    with pytest.raises(BandError, match="'s2'"):
        data.table("s2")
    assert data.table("climate_zone").tolist() == list(range(PATCHES))


@pytest.fixture
def broken(tmp_path):
    """A tree that a test may break."""
    return fake.write_fake_tree(tmp_path / "broken", 2)


def s2_file(root, patch, band):
    name = fake.patch_ids(patch)[0]
    return root / "sentinel-2" / name / f"{name}_{band}.tif"


def test_missing_band_file_is_named(broken):
    path = s2_file(broken, 1, "B05")
    path.unlink()
    data = BENGE(broken)
    assert data[0]["s2"].shape == (12, 120, 120)
    with pytest.raises(RasterError, match=path.name):
        data[1]
    assert BENGE(broken, s2_bands=("B04",))[1]["s2"].shape == (1, 120, 120)  # a band not asked for is not missed


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.98])
@pytest.mark.parametrize("band", ["B02", "B09"])
def test_truncated_band_file_is_named(broken, band, share):
    path = s2_file(broken, 0, band)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(RasterError, match=path.name):
        BENGE(broken)[0]


def test_patch_without_files_is_named(broken):
    shutil.rmtree(broken / "sentinel-1" / fake.patch_ids(1)[1])
    with pytest.raises(MissingModalityError, match=fake.patch_ids(1)[1]) as error:
        BENGE(broken)
    assert "'s1'" in str(error.value)
    assert len(BENGE(broken, modalities=("s2",))) == 2


@pytest.mark.parametrize(
    ("key", "folder"),
    [("s2", "sentinel-2"), ("s1", "sentinel-1"), ("dem", "dem"), ("land_cover", "esaworldcover")],
)
def test_missing_folder_is_named_with_the_modality(broken, key, folder):
    shutil.rmtree(broken / folder)
    with pytest.raises(MissingModalityError, match=folder) as error:
        BENGE(broken, modalities=(key,), targets=())
    assert repr(key) in str(error.value)


def test_missing_labels_file_is_named(broken):
    path = next((broken / "sentinel-2" / fake.patch_ids(0)[0]).glob("*.json"))
    path.unlink()
    with pytest.raises(MissingModalityError, match=path.name) as error:
        BENGE(broken, targets=("corine",))
    assert "'corine'" in str(error.value)


def test_band_of_another_size_type_or_without_data(broken):
    for pixels, words in (
        (np.ones((60, 60), np.uint16), ["(60, 60)", "(120, 120)"]),
        (np.ones((120, 120), np.float32), ["float32", "uint16"]),
        (np.zeros((120, 120), np.uint16), ["no data"]),
    ):
        fake.write_raster(s2_file(broken, 0, "B08"), pixels)
        with pytest.raises(RasterError, match=r"B08\.tif") as error:
            BENGE(broken)[0]
        assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize("value", [np.nan, np.inf, -9999.0])
def test_s1_fill_values_are_refused_not_replaced(broken, value):
    name = fake.patch_ids(0)[1]
    pixels = fake.s1_pixels("VH", 0)
    pixels[5, 7] = value
    fake.write_raster(broken / "sentinel-1" / name / f"{name}_VH.tif", pixels)
    with pytest.raises(RasterError, match=r"_VH\.tif"):
        BENGE(broken)[0]


def test_dem_fill_value_and_foreign_land_cover_code(broken):
    name = fake.patch_ids(0)[0]
    dem = fake.dem_pixels(0)
    dem[0, 0] = -32768
    fake.write_raster(broken / "dem" / f"{name}_dem.tif", dem)
    with pytest.raises(RasterError, match=r"_dem\.tif"):
        BENGE(broken, modalities=("dem",))[0]
    codes = fake.land_cover_pixels(0)
    codes[3, 3] = 110
    fake.write_raster(broken / "esaworldcover" / f"{name}_esaworldcover.tif", codes)
    with pytest.raises(RasterError, match=r"\[110\]"):
        BENGE(broken, modalities=("land_cover",))[0]


def test_compressed_and_tiled_files_are_read_as_well(broken):
    pixels = fake.s2_pixels("B03", 0)
    path = s2_file(broken, 0, "B03")
    plain = BENGE(broken)[0]["s2"]
    fake.write_raster(path, pixels, compress="deflate", predictor=2, tiled=True, blockxsize=64, blockysize=64)
    assert torch.equal(BENGE(broken)[0]["s2"], plain)


# ----------------------------------------------------------------------------------------------------------- real data


def raster_of(root, sensor, name, band):
    return rasterio.open(root / f"sentinel-{sensor[1]}" / name / f"{name}_{band}.tif")


def real_patches(root):
    data = BENGE(root, targets=())
    return [(sample, *names) for sample, names in zip(data, data.meta[["patch_id", "patch_id_s1"]].values, strict=True)]


def test_real_bands_are_those_of_plain_rasterio(real_tree):
    patches = real_patches(real_tree)
    assert len(patches) == 4
    for sample, s2_id, s1_id in patches:
        for place, band in enumerate(S2_BANDS):
            with raster_of(real_tree, "s2", s2_id, band) as raster:
                pixels = raster.read(1)
            assert pixels.shape == (1200 // S2[band].resolution,) * 2
            np.testing.assert_allclose(sample["s2"][place], upsampled(pixels) / 10_000, rtol=1e-5, atol=1e-7)
        for place, band in enumerate(S1_BANDS):
            with raster_of(real_tree, "s1", s1_id, band) as raster:
                np.testing.assert_array_equal(sample["s1"][place], raster.read(1))


def test_real_bands_and_sensors_cover_the_same_ground(real_tree):
    """All files of a patch share the coordinate system and the corners, so equal rows and columns are one place."""
    for _, s2_id, s1_id in real_patches(real_tree):
        places = set()
        for sensor, name, bands in (("s2", s2_id, S2_BANDS), ("s1", s1_id, S1_BANDS)):
            for band in bands:
                with raster_of(real_tree, sensor, name, band) as raster:
                    assert raster.transform.a == -raster.transform.e == (S2[band].resolution if sensor == "s2" else 10)
                    assert (raster.transform.b, raster.transform.d) == (0, 0)  # north is up
                    places.add((raster.crs.to_epsg(), *raster.bounds))
        assert len(places) == 1
        west, south, east, north = next(iter(places))[1:]
        assert (east - west, north - south) == (1200, 1200)


def test_real_longitude_and_latitude_are_those_of_the_centre(real_tree):
    data = BENGE(real_tree, modalities=("lonlat",), targets=())
    for sample in data:
        with raster_of(real_tree, "s2", sample["patch_id"], "B04") as raster:
            (longitude,), (latitude,) = project(
                raster.crs, "EPSG:4326", [raster.bounds.left + 600], [raster.bounds.top - 600]
            )
        assert sample["lonlat"].tolist() == pytest.approx([longitude, latitude], abs=2e-5)
        tile = mgrs_tile(data.meta.loc[sample["patch_id"], "patch_id_s1"])
        assert raster.crs.to_epsg() == 32600 + int(tile[:2])


def test_real_lake_is_dark_in_both_sensors_at_the_same_place(real_tree):
    """The Finnish lake: near infrared below 0.05, and little backscatter. A flip of either sensor would part them."""
    sample = next(sample for sample, *_ in real_patches(real_tree) if "T93020" in sample["patch_id"])
    lake = sample["s2"][S2_BANDS.index("B08")] < 0.05
    assert 0.15 < lake.float().mean() < 0.19
    dark = torch.nn.functional.avg_pool2d(sample["s1"][:1], 7, stride=1, padding=3, count_include_pad=False)[0] < -16

    def overlap(mask):
        return float((mask & lake).sum() / (mask | lake).sum())

    assert overlap(dark) > 0.7
    assert overlap(dark) > 1.5 * max(overlap(dark.flip(0)), overlap(dark.flip(1)), overlap(dark.T))


def test_real_patch_with_a_five_digit_time_in_its_id(real_tree):
    data = BENGE(real_tree, modalities=("s2", "season"), targets=("corine",))
    place = data.patch_ids.index("S2B_MSIL2A_20170924T93020_69_24")
    sample = data[place]
    assert float(sample["season"]) == pytest.approx(0.68913)
    names = {CORINE_19[int(index)] for index in sample["corine"].nonzero()}
    assert names == {
        "Coniferous forest", "Mixed forest", "Transitional woodland, shrub", "Inland wetlands", "Inland waters"
    }  # fmt: skip
    assert data.meta.iloc[place]["timestamp_s2"] == "2017-09-24 09:30:20"


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"targets": ("climate_zone",)}, MissingModalityError, ["climatezone", "ben-ge-real_meta.csv"]),
        ({"targets": ("land_cover",)}, MissingModalityError, ["esaworldcover", "'land_cover'"]),
        ({"targets": ("land_cover_top",)}, MissingModalityError, ["ben-ge-real_esaworldcover.csv"]),
        ({"modalities": ("dem",), "targets": ()}, MissingModalityError, ["dem/", "'dem'"]),
        ({"modalities": ("weather",), "targets": ()}, MissingModalityError, ["ben-ge-real_era-5.csv", "'weather'"]),
        ({"split": "train", "targets": ()}, SplitError, ["ben-ge-real_train.csv", "study"]),
        ({"split": "val", "targets": ()}, SplitError, ["ben-ge-real_validation.csv", "ben-ge-real_val.csv"]),
    ],
)
def test_what_the_real_tree_lacks_is_named(real_tree, arguments, error, words):
    with pytest.raises(error) as caught:
        BENGE(real_tree, **arguments)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_real_patches_split_without_split_files(real_tree):
    parts = []
    for split in ("train", "val", "test"):
        try:
            parts += BENGE(real_tree, split, targets=(), scheme="study").patch_ids
        except SplitError as error:
            assert "larger dataset" in str(error)
    assert len(parts) == len(set(parts)) == 4


def test_damaged_table_is_named(broken):
    path = broken / "broken_meta.csv"
    path.write_text(path.read_text().replace("timestamp_s2", "when"))
    with pytest.raises(TableError, match="timestamp_s2"):
        BENGE(broken)


def test_patches_without_a_row_or_a_split_are_counted_as_left_out(tmp_path):
    root = fake.write_fake_tree(tmp_path / "ben-ge-fake", 12)
    meta, train = root / "ben-ge-fake_meta.csv", root / "splits" / "ben-ge-fake_train.csv"
    lines, ids = meta.read_text().splitlines(), train.read_text().split()
    gone, unnamed = ids[0], ids[1]
    meta.write_text("\n".join(line for line in lines if not line.startswith(gone)) + "\n")
    train.write_text("\n".join(ids[2:]) + "\n")
    (root / "sentinel-2" / ".cache").mkdir()
    (root / "sentinel-2" / "notes.txt").touch()
    with pytest.warns(DataWarning) as said:
        data = BENGE(root, "train")
    assert [str(warning.message) for warning in said] == [str(data.account)]
    assert f"lie in sentinel-2/ and are not in the meta table, the first being {gone}; left out" in str(data.account)
    assert f"are in none of the split files, the first being {unnamed}; left out" in str(data.account)
    assert (data.account.met, data.account.used, len(data)) == (12, len(ids) - 2, len(ids) - 2)
    with pytest.warns(DataWarning, match="not in the meta table"):
        whole = BENGE(root)
    assert (whole.account.met, whole.account.used) == (12, 11) and unnamed in whole.patch_ids
    with pytest.warns(DataWarning, match="not in the meta table"):
        pack(root, progress=False)
        assert str(PackedBENGE(root, "train").account) == str(data.account)
    train.unlink()
    with pytest.warns(DataWarning, match="not in the meta table") as said:
        BENGE(root, "test")  # without a file for each split nobody knows which patches were to be in one
    assert "none of the split files" not in str(said[0].message)


@pytest.mark.parametrize("folder", ["sentinel-2", "sentinel-1", "dem"])
def test_patches_without_a_row_are_counted_in_a_tree_of_any_modality(tmp_path, folder):
    root = fake.write_fake_tree(tmp_path / "ben-ge-fake", 7)
    meta = root / "ben-ge-fake_meta.csv"
    meta.write_text("\n".join(meta.read_text().splitlines()[:-2]) + "\n")
    for other in ("sentinel-2", "sentinel-1", "dem", "esaworldcover"):
        if other != folder:
            shutil.rmtree(root / other)
    with pytest.warns(DataWarning, match=rf"2 of 7 patches lie in {folder}/ and are not in the meta table"):
        BENGE(root, modalities=(), targets=("climate_zone",))


def test_folders_that_differ_in_capitals_alone_are_named(tmp_path):
    root = fake.write_fake_tree(tmp_path / "ben-ge-fake", 1)
    (root / "Sentinel-2").mkdir(exist_ok=True)
    if len(list(root.glob("?entinel-2"))) < 2:
        pytest.skip("a disk that does not tell capitals from small letters")
    with pytest.warns(DataWarning, match="Sentinel-2 and sentinel-2 differ in capitals or accents alone"):
        BENGE(root)


@pytest.mark.parametrize("index", [True, 1.0, "0", [0]])
def test_every_way_to_one_sample_takes_a_whole_number_alone(everything, index):
    for read in (everything.read_stored, everything.__getitems__([0, 1]).__getitem__):
        with pytest.raises(ArgumentError):
            read(index)
    assert everything.read_stored(-1).keys() == everything.read_stored(PATCHES - 1).keys()

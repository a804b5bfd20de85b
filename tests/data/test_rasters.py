"""The rasters of a patch: of the layout, with data, of one place; and a pack that follows `BENGE` in all of it."""

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image
from rasterio.transform import Affine

from bengelib.data.dataset import BENGE
from bengelib.data.loading import load
from bengelib.data.packing import pack
from bengelib.data.rasters import RASTER_KEYS, patch_files, read_patch, tree_folders
from bengelib.errors import DatasetNotFoundError, DataWarning, MissingModalityError, RasterError
from tests import fake_tree as fake

PATCH = 2
IDS = fake.patch_ids(PATCH)


@pytest.fixture
def tree(tmp_path, fake_tree):
    return shutil.copytree(fake_tree, tmp_path / fake_tree.name)


def raster(tree, name):
    """Path of a raster of the patch by its band, or `dem` or `land_cover`."""
    s2, s1 = IDS
    if name in ("VV", "VH"):
        return tree / "sentinel-1" / s1 / f"{s1}_{name}.tif"
    if name == "dem":
        return tree / "dem" / f"{s2}_dem.tif"
    if name == "land_cover":
        return tree / "esaworldcover" / f"{s2}_esaworldcover.tif"
    return tree / "sentinel-2" / s2 / f"{s2}_{name}.tif"


def key_of(name):
    return {"VV": "s1", "VH": "s1", "dem": "dem", "land_cover": "land_cover"}.get(name, "s2")


def read(tree, key):
    return read_patch(tree_folders(tree), *IDS, keys=(key,))


def refused(tree, name, match):
    """Refused alone, with everything else, and by `pack`, each time by its name."""
    path, key = raster(tree, name), key_of(name)
    for way in (
        lambda: list(BENGE(tree, modalities=(key,), targets=())),
        lambda: list(BENGE(tree, modalities=("s2", "s1", "dem"), targets=("land_cover",))),
        lambda: pack(tree, progress=False),
    ):
        with pytest.raises(RasterError, match=match) as error:
            way()
        assert path.stem in str(error.value)
        assert "etch" not in str(error.value)  # it may be the user's own


def filled(value, rows=10):
    def change(pixels):
        pixels = pixels.copy()
        pixels[:rows] = value
        return pixels

    return change


# ------------------------------------------------------------------------------------------------------ pixels, no data


@pytest.mark.parametrize(
    ("name", "value"), [("B04", 65535), ("B04", 1234), ("B01", 9), ("dem", 8888), ("VV", -30.5), ("land_cover", 10)]
)
def test_pixels_that_equal_the_no_data_value_of_their_file(tree, name, value):
    fake.rewrite_raster(raster(tree, name), filled(value), nodata=value)
    refused(tree, name, f"no-data value {value}")


def test_a_no_data_value_that_no_pixel_has(tree, fake_tree):
    for name, value in (("B04", 65535), ("dem", -9999), ("VV", -9999), ("VH", np.nan), ("land_cover", 255)):
        fake.rewrite_raster(raster(tree, name), nodata=value)
    for key in ("s2", "s1", "dem", "land_cover"):
        for array, expected in zip(read(tree, key).values(), read(fake_tree, key).values(), strict=True):
            np.testing.assert_array_equal(array, expected)


def test_dark_water_is_no_gap(tree):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for no_data in (0, None):
            fake.rewrite_raster(raster(tree, "B12"), filled(0, rows=0), nodata=no_data)
            pixels = fake.s2_pixels("B12", PATCH)
            pixels[5, :30] = 0
            fake.rewrite_raster(raster(tree, "B12"), lambda _, pixels=pixels: pixels, nodata=no_data)
            np.testing.assert_array_equal(read(tree, "s2")["s2_20m"][-1], pixels)


def test_a_third_of_a_band_without_data(tree):
    fake.rewrite_raster(raster(tree, "B12"), filled(0, rows=20), nodata=0)
    refused(tree, "B12", "1200 of 3600 pixels without data")
    fake.rewrite_raster(raster(tree, "B12"), nodata=None)
    with pytest.warns(DataWarning, match=r"B12\.tif has 1200 of 3600 pixels that are 0"):
        read(tree, "s2")


def test_sea_level_is_no_gap_but_said(tree):
    fake.rewrite_raster(raster(tree, "dem"), filled(0), nodata=0)
    with pytest.warns(DataWarning, match=r"_dem\.tif has 1\d\d\d of 14400 pixels without data.*the sea"):
        assert (read(tree, "dem")["dem"][0, :10] == 0).all()


def test_land_without_a_label_is_read_as_such(tree):
    fake.rewrite_raster(raster(tree, "land_cover"), filled(0), nodata=0)
    assert (read(tree, "land_cover")["land_cover"][:10] == 0).all()


@pytest.mark.parametrize("name", ["B04", "VV", "dem", "land_cover"])
@pytest.mark.parametrize("internal", [True, False])
def test_pixels_that_a_mask_hides(tree, name, internal):
    mask = np.full((120, 120), 255, np.uint8)
    mask[40:80] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal), rasterio.open(raster(tree, name), "r+") as file:
        file.write_mask(mask)
    refused(tree, name, "4800 of 14400 pixels without data")


def test_the_offset_of_the_baseline_in_the_header(tree):
    for path in (tree / "sentinel-2" / IDS[0]).glob("*.tif"):
        fake.rewrite_raster(path, lambda pixels: pixels + np.uint16(1000))
        with rasterio.open(path, "r+") as file:
            file.scales, file.offsets = (0.0001,), (-0.1,)
    refused(tree, "B02", "scale 0.0001, offset -0.1")


@pytest.mark.parametrize("name", ["B04", "VV", "dem", "land_cover"])
@pytest.mark.parametrize("tag", ["_FillValue", "missing_value"])
def test_pixels_that_equal_a_value_for_no_data_in_other_words(tree, name, tag):
    fake.rewrite_raster(raster(tree, name), filled(10), nodata=None)
    read(tree, key_of(name))
    with rasterio.open(raster(tree, name), "r+") as file:
        file.update_tags(1, **{tag: 10})
    refused(tree, name, "no-data value 10")


def test_scale_in_a_file_beside_one_of_a_folder(tree):
    for name in ("B04", "dem"):
        path = raster(tree, name)
        path.with_name(f"{path.name}.aux.xml").write_text(
            '<PAMDataset><PAMRasterBand band="1"><Scale>0.5</Scale></PAMRasterBand></PAMDataset>'
        )
        refused(tree, name, "scale 0.5")
        path.with_name(f"{path.name}.aux.xml").unlink()


def test_elevation_in_feet(tree):
    with rasterio.open(raster(tree, "dem"), "r+") as file:
        file.units = ("ft",)
    refused(tree, "dem", "'ft'; expected metres")
    with rasterio.open(raster(tree, "dem"), "r+") as file:
        file.units = ("metre",)
    read(tree, "dem")


def test_an_offset_taken_off_twice(tree):
    fake.rewrite_raster(raster(tree, "B02"), lambda pixels: pixels - np.uint16(2000))
    refused(tree, "B02", "B02.tif")


# ----------------------------------------------------------------------------------------------------- types and names


@pytest.mark.parametrize(
    ("name", "dtype", "wanted"),
    [
        ("B04", "int16", "reflectance x 10000 as uint16"),
        ("B04", "float32", "reflectance x 10000 as uint16"),
        ("B09", "uint8", "reflectance x 10000 as uint16"),
        ("VV", "float64", "decibels as float32"),
        ("VV", "int16", "decibels as float32"),
        ("dem", "float64", "metres as int16"),
        ("land_cover", "int16", "WorldCover codes as uint8"),
    ],
)
def test_a_type_that_is_not_of_the_layout_is_to_be_converted(tree, name, dtype, wanted):
    fake.rewrite_raster(raster(tree, name), lambda pixels: pixels.astype(dtype))
    refused(tree, name, f"holds {dtype}; .* Convert it to {wanted}")


def test_a_raster_of_another_size_is_to_be_resampled(tree):
    fake.rewrite_raster(raster(tree, "B04"), lambda pixels: pixels[::2, ::2].copy())
    refused(tree, "B04", "Cut or resample")


@pytest.mark.parametrize("suffix", [".TIF", ".tiff", ".Tif"])
def test_another_spelling_of_the_suffix_is_named(tree, suffix):
    for name in ("B02", "VV"):
        path = raster(tree, name)
        path.rename(path.with_suffix(suffix))
        refused(tree, name, f"There is .*{name}{suffix}: rename it to .*{name}.tif")
        path.with_suffix(suffix).rename(path)
    for name in ("dem", "land_cover"):
        path = raster(tree, name)
        path.rename(path.with_suffix(suffix))
        with pytest.raises(MissingModalityError, match=f"There is .*{suffix}: rename it to .*tif") as error:
            BENGE(tree, modalities=(name,))
        assert "etch" not in str(error.value)
        path.with_suffix(suffix).rename(path)


V2 = "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP"
V1 = "S2A_MSIL2A_20170613T101031_0_45"


@pytest.mark.parametrize(
    ("name", "inside", "version"),
    [
        ("BigEarthNet-S2", f"{V2}/{V2}_26_57", "v2"),
        ("data", f"BigEarthNet-S1/{V2}", "v2"),
        ("ben-ge-own", f"{V2}/{V2}_26_57", "v2"),
        ("own", "S1A_IW_GRDH_1SDV_20170613T165043/S1A_IW_GRDH_1SDV_20170613T165043_33UUP_70_48", "v2"),
        ("BigEarthNet-v1.0", V1, "v1"),
        ("own", f"BigEarthNet-v1.0/{V1}", "v1"),
        ("own", "S1A_IW_GRDH_1SDV_20170613T165043_33UUP_70_48", "v1"),
    ],
)
def test_bigearthnet_is_recognised(tmp_path, name, inside, version):
    (tmp_path / name / inside).mkdir(parents=True)
    for way in (BENGE, load, pack):
        with pytest.raises(DatasetNotFoundError, match=f"is BigEarthNet {version}.*, not ben-ge") as error:
            way(tmp_path / name)
        assert "one folder deeper" not in str(error.value)


def test_another_folder_is_not_taken_for_bigearthnet(tree):
    (tree / f"{tree.name}_meta.csv").unlink()
    for folder in (tree, tree / "sentinel-2"):
        with pytest.raises(DatasetNotFoundError, match="one folder deeper"):
            BENGE(folder)


# --------------------------------------------------------------------------------------------------------- of one place


def moved(dx=0.0, dy=0.0, **profile):
    def damage(path):
        with rasterio.open(path) as file:
            transform = file.transform
        shifted = Affine(transform.a, 0, transform.c + dx, 0, transform.e, transform.f + dy)
        fake.rewrite_raster(path, transform=shifted, **profile)

    return damage


ELSEWHERE = {
    "50 km away": moved(50_000),
    "one patch away": moved(dy=-1200),
    "one pixel away": moved(10),
    "another zone": moved(crs="EPSG:32601"),
    "the neighbouring zone": moved(crs="EPSG:32630"),
    "degrees in place of metres": moved(crs="EPSG:4326"),
    "pixels of 30 m": lambda path: fake.rewrite_raster(path, transform=Affine(30, 0, 0, 0, -30, 0)),
    "another origin, no coordinate system": moved(-9000, crs=None),
}


@pytest.mark.parametrize("name", ["B08", "B01", "VH", "dem", "land_cover"])
@pytest.mark.parametrize("where", ELSEWHERE)
def test_a_raster_of_another_place_is_refused(tree, name, where):
    ELSEWHERE[where](raster(tree, name))
    for keys in ((key_of(name),), ("s2", "s1", "dem", "land_cover")):
        with pytest.raises(RasterError, match="of the same patch covers") as error:
            read_patch(tree_folders(tree), *IDS, keys=keys)
        assert raster(tree, name).name in str(error.value)


def test_a_raster_of_another_place_is_refused_by_everything(tree):
    moved(50_000, crs="EPSG:32601")(raster(tree, "dem"))
    refused(tree, "dem", "EPSG:32601")
    bad = fake.patch_ids(PATCH)[0]
    with pytest.warns(UserWarning, match=f"1 of 6 patches.*{bad}"):
        assert list(BENGE(tree, modalities=("dem",), targets=(), on_error="skip").skipped) == [bad]
    assert len(list(BENGE(tree))) == 6  # neither Sentinel is any the worse for it


def test_two_patches_that_were_swapped(tree):
    one, other = (tree / "dem" / f"{fake.patch_ids(patch)[0]}_dem.tif" for patch in (PATCH, PATCH + 1))
    data = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(data)
    refused(tree, "dem", "file of another patch")


@pytest.mark.parametrize("name", ["B08", "VH", "dem", "land_cover"])
@pytest.mark.parametrize(
    "damage",
    [
        moved(0.001, -0.001),
        moved(4.9, -4.9),  # half a pixel: whether pixels are areas or points is a matter of opinion
        moved(crs=None),
        moved(crs="EPSG:25829"),
        lambda path: fake.rewrite_raster(path, transform=None, crs=None),
    ],
)
def test_small_differences_and_silence_about_the_place_are_read(tree, fake_tree, name, damage):
    with rasterio.open(raster(tree, name)) as file:
        assert file.crs.to_epsg() == 32629  # of this patch
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        damage(raster(tree, name))
        for array, expected in zip(
            read_patch(tree_folders(tree), *IDS).values(),
            read_patch(tree_folders(fake_tree), *IDS).values(),
            strict=True,
        ):
            np.testing.assert_array_equal(array, expected)


def exchange(tree, keys, patch=PATCH, other=PATCH + 1):
    """Give two patches each other's rasters, all of some modalities."""
    files = [patch_files({key: tree_folders(tree)[key] for key in keys}, *fake.patch_ids(i)) for i in (patch, other)]
    for one, two in zip(*([path for paths in found.values() for path in paths] for found in files), strict=True):
        data = Path(one).read_bytes()
        Path(one).write_bytes(Path(two).read_bytes())
        Path(two).write_bytes(data)


@pytest.mark.parametrize("label_files", [True, False])
def test_two_patches_all_of_whose_rasters_were_exchanged(tree, label_files):
    """They agree with each other, and are of another place than their ids name."""
    if not label_files:
        for path in tree.rglob("*.json"):
            path.unlink()
    exchange(tree, RASTER_KEYS)
    for name in ("B02", "VV", "dem", "land_cover"):
        with pytest.raises(
            RasterError, match=r"its id names the patch .* Are the files of this patch those of another"
        ):
            read(tree, key_of(name))
    with pytest.raises(RasterError, match=IDS[0]):
        pack(tree, progress=False)
    bad = {fake.patch_ids(i)[0] for i in (PATCH, PATCH + 1)}
    with pytest.warns(UserWarning, match="2 of 6 patches"):
        assert set(BENGE(tree, targets=(), on_error="skip").skipped) == bad


def test_the_only_rasters_of_a_tree_are_compared_with_the_ids(tree):
    for name in ("sentinel-2", "dem", "esaworldcover"):
        shutil.rmtree(tree / name)
    assert len(list(BENGE(tree, modalities=("s1",), targets=()))) == 6
    exchange(tree, ("s1",))
    with pytest.raises(RasterError, match=rf"{IDS[1]}_VV\.tif covers .* its id names"):
        read(tree, "s1")


@pytest.mark.parametrize("change", [{"crs": "EPSG:32601"}, {"crs": "EPSG:3857"}, {"dx": 600.0}])
def test_a_patch_all_of_which_was_moved(tree, change):
    for path in tree.rglob("*.tif"):
        moved(**change)(path)
    with pytest.raises(RasterError, match="its id names"):
        read(tree, "s2")


@pytest.mark.parametrize("change", [{"crs": None}, {"crs": "EPSG:25829"}, {"dx": 90.0, "dy": -500.0}])
def test_a_patch_on_a_grid_of_ones_own_or_of_none_is_read(tree, fake_tree, change):
    for path in tree.rglob("*.tif"):
        moved(**change)(path)
    for key in RASTER_KEYS:
        for array, expected in zip(read(tree, key).values(), read(fake_tree, key).values(), strict=True):
            np.testing.assert_array_equal(array, expected)


def test_a_tree_without_sentinel_2_has_its_places_compared(tree):
    shutil.rmtree(tree / "sentinel-2")
    moved(1200)(raster(tree, "dem"))
    with pytest.raises(RasterError, match="VV"):
        read(tree, "dem")


def test_the_witness_of_the_place_may_be_missing(tree):
    raster(tree, "B01").unlink()
    assert read(tree, "dem")["dem"].shape == (1, 120, 120)


def test_rows_from_the_south_are_refused_by_everything(tree):
    path = raster(tree, "B04")
    with rasterio.open(path) as file:
        t, height = file.transform, file.height
    fake.rewrite_raster(path, lambda a: a[::-1].copy(), transform=Affine(t.a, 0, t.c, 0, -t.e, t.f + height * t.e))
    refused(tree, "B04", "north to south")


def test_real_patches_are_read_without_a_word(real_tree):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for modalities in (("s2", "s1"), ("s1",), ("s2",)):
            assert len(list(BENGE(real_tree, modalities=modalities, targets=()))) == 4


def test_two_polarisations_as_pages_of_one_file(tree):
    pages = [Image.fromarray(fake.s1_pixels(band, PATCH)) for band in ("VV", "VH")]
    pages[0].save(raster(tree, "VH"), format="TIFF", save_all=True, append_images=pages[1:])
    refused(tree, "VH", "holds 2 pages")


def test_order_of_bands_does_not_matter_for_the_place(tree, fake_tree):
    data = BENGE(tree, s2_bands=("B12", "B02", "B09"), s1_bands=("VH",))
    assert torch.equal(data[PATCH]["s2"], BENGE(fake_tree, s2_bands=("B12", "B02", "B09"))[PATCH]["s2"])

"""Scenes as people have them, read window by window; and scenes that are refused before anything is computed."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from rasterio.transform import Affine, from_gcps, from_origin
from torch.nn import functional as F

from bengelib.bands import S2_BANDS
from bengelib.data.described import DescribedDataset
from bengelib.data.scene import Scene
from bengelib.errors import ArgumentError, BandError, RasterError
from bengelib.modalities import MODALITIES, Modality
from tests.data.test_scene_files import DEM, RADAR, decibels
from tests.scenes import BANDS, LEFT, S2, TOP, reflectances, write_scene

REAL = Path(__file__).parents[3] / "shared" / "real-eo"


@pytest.fixture
def pixels():
    return reflectances(60, 84)


def opened(files, inputs=None, **options):
    return Scene(files, {"s2": S2} if inputs is None else inputs, **options)


def test_any_window_is_that_part_of_the_scene(tmp_path, pixels):
    path = write_scene(tmp_path / "a.tif", pixels, tiled=True, blockxsize=16, blockysize=16, compress="lzw")
    with opened(path) as scene:
        assert scene.shape == (60, 84) and scene.crs.to_epsg() == 32633 and scene.transform.c == LEFT
        for row, column, height, width in ((0, 0, 60, 84), (7, 13, 20, 31), (59, 83, 1, 1)):
            images, valid = scene.read(row, column, height, width)
            expected = pixels[:, row : row + height, column : column + width] / np.float32(10_000)
            np.testing.assert_allclose(images["s2"], expected, rtol=1e-6)
            assert valid.all() and images["s2"].dtype == np.float32


@pytest.mark.parametrize("dtype", ["uint16", "int16", "int32", "uint32", "float32", "float64"])
def test_whole_numbers_are_reflectance_times_ten_thousand_and_real_ones_are_reflectance(tmp_path, pixels, dtype):
    values = pixels.astype(dtype) if np.dtype(dtype).kind in "iu" else (pixels / 10_000).astype(dtype)
    with opened(write_scene(tmp_path / "a.tif", values)) as scene:
        np.testing.assert_allclose(scene.read(0, 0, 60, 84)[0]["s2"], pixels / np.float32(10_000), rtol=1e-5)


def test_tags_that_scale_and_shift_are_applied_and_what_is_stated_takes_their_place(tmp_path, pixels):
    tagged = write_scene(tmp_path / "a.tif", pixels + 1000, scales=[1e-4] * 3, offsets=[-0.1] * 3)
    plain = write_scene(tmp_path / "b.tif", pixels + 1000)
    wrong = write_scene(tmp_path / "c.tif", pixels + 1000, scales=[3.0] * 3, offsets=[7.0] * 3)
    stated = dict(scale={"s2": 1e-4}, offset={"s2": -0.1})
    for path, options in ((tagged, {}), (plain, stated), (wrong, stated), (plain, {"offset": {"s2": -0.1}})):
        with opened(path, **options) as scene:
            np.testing.assert_allclose(scene.read(0, 0, 60, 84)[0]["s2"], pixels / np.float32(10_000), atol=1e-6)


def test_the_training_data_say_what_files_mean_that_do_not(tmp_path, pixels):
    """Landsat's surface reflectance is stored x / 2.75e-5 with an offset of -0.2."""
    stored = ((pixels / 10_000 + 0.2) / 2.75e-5).round().astype(np.uint16)
    stored[:, 0, 0] = 9
    facts = {"s2": {"scale": [2.75e-5] * 3, "offset": [-0.2] * 3, "no_data": [9.0]}}
    with opened(write_scene(tmp_path / "a.tif", stored), stored=facts) as scene:
        images, valid = scene.read(0, 0, 60, 84)
    np.testing.assert_allclose(images["s2"][:, valid], pixels[:, valid] / 10_000, atol=1e-4)
    assert not valid[0, 0] and valid.sum() == valid.size - 1


def test_bands_of_20_and_60_metres_are_interpolated_as_in_training(tmp_path):
    fine = reflectances(60, 84, 1)
    half, tenth = reflectances(30, 42, 1, seed=1), reflectances(10, 14, 1, seed=2)
    files = [
        write_scene(tmp_path / "a.tif", fine, ("B02",)),
        write_scene(tmp_path / "b.tif", half, ("B03",), resolution=20),
        write_scene(tmp_path / "c.tif", tenth, ("B04",), resolution=60),
    ]
    parts = [torch.from_numpy(part[None] / np.float32(10_000)) for part in (fine, half, tenth)]
    whole = [F.interpolate(part, size=(60, 84), mode="bilinear", align_corners=False)[0, 0] for part in parts]
    expected = torch.stack(whole).numpy()
    with opened(files) as scene:
        assert scene.shape == (60, 84)
        for row, column, height, width in ((0, 0, 60, 84), (5, 11, 33, 17), (59, 82, 1, 2), (6, 6, 6, 6)):
            found = scene.read(row, column, height, width)[0]["s2"]
            window = expected[:, row : row + height, column : column + width]
            np.testing.assert_allclose(found, window, atol=1e-6)


def test_a_pixel_that_is_interpolated_from_no_data_has_none(tmp_path):
    half = reflectances(30, 42, 2, seed=1)
    half[0, 10, 20] = 0
    half[1, 25, 5] = 65535
    files = [
        write_scene(tmp_path / "a.tif", reflectances(60, 84, 1), ("B02",)),
        write_scene(tmp_path / "b.tif", half, ("B03", "B04"), resolution=20, nodata=65535),
    ]
    with opened(files) as scene:
        valid = scene.read(0, 0, 60, 84)[1]
    assert not valid[49:53, 9:13].any() and valid[40, 40] and valid[:48].all() and (~valid).sum() == 16


def test_what_has_no_data_holds_the_mean_of_training(tmp_path, pixels):
    values = (pixels / 10_000).astype(np.float32)
    values[1, 4, 5] = np.nan
    values[2, 6, 7] = np.inf
    values[0, 8, 9] = -9999
    with opened(write_scene(tmp_path / "a.tif", values, nodata=-9999)) as scene:
        images, valid = scene.read(0, 0, 60, 84)
    assert [(int(y), int(x)) for y, x in np.argwhere(~valid)] == [(4, 5), (6, 7), (8, 9)]
    np.testing.assert_allclose(images["s2"][:, 4, 5], S2.mean)
    assert np.isfinite(images["s2"]).all()


def test_a_value_for_no_data_that_no_pixel_can_have_marks_nothing(tmp_path, pixels):
    path = write_scene(tmp_path / "a.tif", pixels)
    with rasterio.open(path, "r+") as raster:
        raster.update_tags(1, nodata="-9999")
    with opened(path) as scene:
        assert scene.read(0, 0, 60, 84)[1].all()


# ------------------------------------------------------------------------------------------------------ what is refused


def refused(files, words, inputs=None, **options):
    with pytest.raises(RasterError, match=words) as caught:
        opened(files, inputs, **options)
    return str(caught.value)


def test_files_that_are_none(tmp_path, pixels):
    path = write_scene(tmp_path / "a.tif", pixels)
    refused(tmp_path / "b.tif", r"b\.tif does not exist")
    refused(tmp_path, "is a folder; give the files in it")
    (tmp_path / "text.tif").write_text("<html>")
    refused(tmp_path / "text.tif", r"text\.tif is not a readable raster")
    path.write_bytes(path.read_bytes()[:100])
    refused(path, r"a\.tif is not a readable raster")


def test_a_scene_without_a_projection_or_a_grid(tmp_path, pixels):
    refused(write_scene(tmp_path / "a.tif", pixels, crs=None), r"a\.tif has no location.*coordinate system.*gdal_edit")
    refused(write_scene(tmp_path / "b.tif", pixels, crs=None, transform=Affine.identity()), r"b\.tif .* it has no grid")


def test_files_in_two_projections(tmp_path, pixels):
    first = write_scene(tmp_path / "a.tif", pixels[:2], BANDS[:2])
    second = write_scene(tmp_path / "b.tif", pixels[2:], BANDS[2:], crs="EPSG:32634")
    refused([first, second], r"b\.tif is in EPSG:32634, but .*a\.tif in EPSG:32633.*gdalwarp")


@pytest.mark.parametrize("case", ["moved", "larger", "other pixels"])
def test_files_on_other_grids(tmp_path, pixels, case):
    first = write_scene(tmp_path / "a.tif", pixels[:2], BANDS[:2])
    options = {
        "moved": dict(transform=from_origin(LEFT + 5, TOP, 10, 10)),
        "larger": dict(),
        "other pixels": dict(transform=from_origin(LEFT, TOP, 15, 15)),
    }[case]
    values = {"moved": pixels, "larger": reflectances(60, 85), "other pixels": reflectances(40, 56)}[case]
    second = write_scene(tmp_path / "b.tif", values[2:], BANDS[2:], **options)
    words = refused([first, second], r"Expected the same ground")
    assert "a.tif" in words and "b.tif" in words and "gdalwarp -te -tr" in words


def test_rows_from_the_south_turned_grids_and_control_points(tmp_path, pixels):
    refused(
        write_scene(tmp_path / "a.tif", pixels, transform=Affine(10, 0, LEFT, 0, 10, TOP)),
        r"a\.tif does not run from north",
    )
    refused(
        write_scene(tmp_path / "b.tif", pixels, transform=Affine(10, 5, LEFT, 5, -10, TOP)),
        r"b\.tif .*turned or sheared",
    )
    corner = rasterio.control.GroundControlPoint
    points = [corner(0, 0, LEFT, TOP), corner(0, 84, LEFT + 840, TOP), corner(60, 0, LEFT, TOP - 600)]
    assert from_gcps(points)
    path = tmp_path / "c.tif"
    with rasterio.open(path, "w", driver="GTiff", height=60, width=84, count=3, dtype="uint16") as raster:
        raster.gcps = (points, rasterio.crs.CRS.from_epsg(32633))
        raster.write(pixels)
        raster.descriptions = BANDS
    refused(path, r"c\.tif .*control points")


def test_a_scene_without_any_data(tmp_path, pixels):
    refused(write_scene(tmp_path / "a.tif", np.zeros_like(pixels)), r"no pixel of .*a\.tif has data")
    refused(write_scene(tmp_path / "b.tif", np.full_like(pixels, 7), nodata=7), r"no pixel of .*b\.tif has data")
    left, right = pixels[:2].copy(), pixels[2:].copy()
    left[:, :, 40:], right[:, :, :40] = 0, 0
    first = write_scene(tmp_path / "c.tif", left, BANDS[:2], nodata=0)
    second = write_scene(tmp_path / "d.tif", right, BANDS[2:], nodata=0)
    refused([first, second], "has data in every band")


def test_a_scene_with_data_in_one_corner_is_read(tmp_path):
    values = np.zeros((3, 900, 1300), np.uint16)
    values[:, 890:, 700:720] = 500
    values[0, 890:, 700:705] = 900
    values[1, 895:, 700:705] = 900
    values[2, 899:, 700:705] = 900
    with opened(write_scene(tmp_path / "a.tif", values)) as scene:
        assert scene.read(880, 690, 20, 40)[1].sum() == 200


def test_reflectance_as_digital_numbers_and_the_other_way_round(tmp_path, pixels):
    numbers = write_scene(tmp_path / "a.tif", pixels.astype(np.float32))
    words = refused(numbers, r"s2 comes out from .* about 1e4 times as much.*digital numbers.*--scale s2=FACTOR")
    assert "a.tif" in words and "taken for 1 x + 0" in words
    shares = write_scene(tmp_path / "b.tif", (pixels / 10_000).astype(np.float32))
    refused(shares, r"about 1e-4 times as much", scale={"s2": 1e-4})
    refused(write_scene(tmp_path / "c.tif", pixels), r"about 1e4 times as much", scale={"s2": 1.0})


def test_the_offset_of_the_later_baseline(tmp_path):
    pixels = reflectances(300, 300)
    path = write_scene(tmp_path / "a.tif", pixels + 1000)
    refused(path, r"no pixel below 900 .*baseline.*--offset s2=")
    with opened(path, offset={"s2": -0.1}) as scene:
        np.testing.assert_allclose(scene.read(0, 0, 9, 9)[0]["s2"], pixels[:, :9, :9] / 10_000, atol=1e-6)
    opened(path, offset={"s2": 0.0}).close()  # who says so may have bright ground


def test_radar_in_linear_power(tmp_path):
    radar = decibels()
    opened(write_scene(tmp_path / "a.tif", radar, RADAR.bands), {"radar": RADAR}).close()
    linear = write_scene(tmp_path / "b.tif", (10 ** (radar / 10)).astype(np.float32), RADAR.bands)
    refused(linear, r"b\.tif.*linear power", {"radar": RADAR})
    amplitude = write_scene(tmp_path / "c.tif", (1000 * 10 ** (radar / 20)).astype(np.float32), RADAR.bands)
    refused(amplitude, r"c\.tif.*(linear power|Decibels)", {"radar": RADAR})


def test_fill_values_that_the_file_does_not_name(tmp_path):
    height = np.full((1, 60, 84), 300, np.int16)
    height[0, 0, :5] = -32768
    refused({"dem": write_scene(tmp_path / "a.tif", height, None)}, r"a\.tif .*outside -500 to 9000 m", {"dem": DEM})
    with opened({"dem": write_scene(tmp_path / "b.tif", height, None, nodata=-32768)}, {"dem": DEM}) as scene:
        assert (~scene.read(0, 0, 60, 84)[1]).sum() == 5
    flat = write_scene(tmp_path / "c.tif", np.zeros_like(height), None)
    opened({"dem": flat}, {"dem": DEM}).close()  # the sea is 0 m high


def test_a_fill_value_in_reflectance_that_the_file_does_not_name(tmp_path, pixels):
    values = pixels.astype(np.float32)
    values[:, :20] = -9999
    path = write_scene(tmp_path / "a.tif", values)
    with pytest.raises(RasterError, match=r"a\.tif: s2 goes down to a reflectance of -0\.9999.*-a_nodata"):
        opened(path, scale={"s2": 1e-4})
    with opened(write_scene(tmp_path / "b.tif", values, nodata=-9999), scale={"s2": 1e-4}) as scene:
        assert not scene.read(0, 0, 60, 84)[1][:20].any()


def test_scales_in_words_of_other_programs(tmp_path, pixels):
    path = write_scene(tmp_path / "a.tif", pixels, tags={"BOA_ADD_OFFSET_B2": "-1000"})
    refused(path, r"a\.tif .*BOA_ADD_OFFSET_B2 -1000.*--scale s2=FACTOR")
    opened(path, scale={"s2": 1e-4}).close()


def test_complex_numbers(tmp_path):
    refused(write_scene(tmp_path / "a.tif", reflectances(60, 84).astype(np.complex64)), "holds complex64")


# ------------------------------------------------------------------------------------------------------ real scenes


@pytest.mark.parametrize(
    ("chip", "is_shifted"), [("275979", False), ("526850", False), ("57755", True), ("75123", True)]
)
def test_real_chips_are_read_and_those_with_an_offset_are_found(chip, is_shifted):
    path = REAL / "s2_chips" / f"patch_{chip}.tif"
    if not path.is_file():
        pytest.skip("the real chips are not beside this checkout")
    inputs = {"s2": MODALITIES["s2"]}
    if is_shifted:
        refused(path, "baseline 04.00", inputs, bands=S2_BANDS)
    with opened(path, inputs, bands=S2_BANDS, offset={"s2": -0.1} if is_shifted else None) as scene:
        images, valid = scene.read(0, 0, 256, 256)
        assert valid.all() and 0 < images["s2"].mean() < 0.5


def test_units_are_of_each_band(tmp_path, pixels):
    """A stack of reflectance and a thermal band in kelvin, in one file of whole numbers."""
    mixed = Modality("stack", "image", ("B02", "heat"), (0.05, 290.0), (0.05, 9.0), ("reflectance", "K"))
    values = np.stack([pixels[0], np.full((60, 84), 291, np.uint16)])
    with opened(write_scene(tmp_path / "a.tif", values, ("B02", "heat")), {"stack": mixed}) as scene:
        image = scene.read(0, 0, 60, 84)[0]["stack"]
    np.testing.assert_allclose(image[0], pixels[0] / np.float32(10_000), rtol=1e-6)
    assert (image[1] == 291).all()


def test_a_described_dataset_says_how_its_files_are_stored(tmp_path):
    """What `train` writes into a model, for scenes."""
    for name in ("a", "b", "c"):
        write_scene(tmp_path / f"{name}.tif", reflectances(8, 8, seed=ord(name)), ("B02", "B03", "B04"))
    (tmp_path / "dataset.toml").write_text(
        '[modalities.s2]\nkind = "image"\nfiles = "{id}.tif"\nbands = ["B02", "B03", "B04"]\nunit = "reflectance"\n'
        "scale = [0.0002, 0.0001, 0.0003]\noffset = 0.001\nno_data = 0\n"
    )
    data = DescribedDataset(tmp_path, bands={"s2": ("B04", "B02")}, progress=False)
    facts = {"scale": [0.0003, 0.0002], "offset": [0.001, 0.001], "no_data": [0.0], "pixel": [10.0, 10.0]}
    assert data.stored == {"s2": facts}


@pytest.mark.parametrize(
    ("trained", "profile", "words"),
    [
        ([10.0, 10.0], {"resolution": 60}, r"pixels of 60 x 60 m, and .* of 10 x 10 m.*gdalwarp -tr 10 10\)"),
        (
            [10.0, 10.0],
            {"crs": "EPSG:4326", "transform": from_origin(8, 60, 1e-4, 1e-4)},
            r"pixels of 5\.56 x 11\.12 m.*gdalwarp -tr 10 10, with the -t_srs of a system in metres",
        ),
        (
            [5.6, 11.1, 1e-4, 1e-4],
            {},
            r"pixels of 10 x 10 m, and .* 5\.6 x 11\.1 m.*-t_srs EPSG:4326 -tr 0\.0001 0\.0001",
        ),
    ],
)
def test_pixels_of_another_size_than_those_of_the_training_are_refused(tmp_path, pixels, trained, profile, words):
    path = write_scene(tmp_path / "a.tif", pixels, **profile)
    with pytest.raises(RasterError, match=rf"a\.tif has {words}"):
        opened(path, stored={"s2": {"pixel": trained}})
    with opened(path), opened(path, stored={"s2": {}}):  # unknown
        pass


def test_pixels_of_the_training_are_compared_with_the_finest_file_and_in_degrees_at_any_latitude(tmp_path, pixels):
    fine, coarse = (
        write_scene(tmp_path / "a.tif", pixels),
        write_scene(tmp_path / "b.tif", pixels[:, ::2, ::2], resolution=20),
    )
    both = {"s2": S2, "other": Modality("other", "image", S2.bands, S2.mean, S2.std, S2.unit)}
    stored = {"s2": {"pixel": [10.0, 10.0]}, "other": {"pixel": [20.0, 20.0]}}
    with Scene({"s2": fine, "other": coarse}, both, stored=stored):
        pass
    degrees = {"crs": "EPSG:4326", "transform": from_origin(8, 10, 1e-4, 1e-4)}
    with opened(write_scene(tmp_path / "c.tif", pixels, **degrees), stored={"s2": {"pixel": [5.6, 11.1, 1e-4, 1e-4]}}):
        pass


# ------------------------------------------------------------------------------------------------------ maps of classes

COVER = Modality("cover", "image", ("field", "wood"), (0.5, 0.2), (0.5, 0.4), ("1", "1"), codes=(10, 20))


@pytest.mark.parametrize("factor", [1, 2])
def test_a_map_of_classes_is_a_band_of_0_and_1_for_each(tmp_path, factor):
    """Coarser ones by the nearest pixel; what the file, the training or the classes do not know is no data."""
    image = write_scene(tmp_path / "scene.tif", reflectances(40, 60))
    codes = np.full((1, 40 // factor, 60 // factor), 10, np.uint8)
    codes[:, 4:8], codes[:, 0, 0], codes[:, 0, 1], codes[:, 0, 2] = 20, 0, 99, 7
    cover = write_scene(tmp_path / "cover.tif", codes, None, 10 * factor, nodata=0)
    stored = {"cover": {"no_data": [7]}}
    for files in ([image, cover], [image, f"cover={cover}"], {"s2": image, "cover": cover}):
        with Scene(files, {"s2": S2, "cover": COVER}, stored=stored) as scene:
            images, valid = scene.read(0, 0, 40, 60)
        full = codes[0].repeat(factor, axis=0).repeat(factor, axis=1)
        known = np.isin(full, (10, 20))
        np.testing.assert_array_equal(valid, known)
        np.testing.assert_array_equal(images["cover"][:, known], np.stack([full == 10, full == 20])[:, known])
        np.testing.assert_allclose(images["cover"][:, 0, 0], COVER.mean)


def test_a_map_of_classes_that_is_missing_or_scaled_is_refused(tmp_path):
    image = write_scene(tmp_path / "scene.tif", reflectances(40, 60))
    cover = write_scene(tmp_path / "cover.tif", np.full((1, 40, 60), 10, np.uint8), None)
    inputs = {"s2": S2, "cover": COVER}
    with pytest.raises(BandError, match=r"'cover', and no file has it.*cover=FILE"):
        Scene([image], inputs)
    with pytest.raises(ArgumentError, match=r"scale or offset for \['cover'\], but the numbers of a map"):
        Scene([image, cover], inputs, scale={"cover": 2})
    with pytest.raises(RasterError, match=r"no pixel of .* has data"):
        Scene([image, write_scene(tmp_path / "cover.tif", np.full((1, 40, 60), 30, np.uint8), None)], inputs)

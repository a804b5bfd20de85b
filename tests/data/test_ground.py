from contextlib import nullcontext

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from bengelib.data.account import tell_once
from bengelib.data.geotiff import read_geotiff
from bengelib.data.ground import check_alike, check_together, extent_of, ground_at, ground_of, same_extent
from bengelib.errors import DataWarning, RasterError
from tests.described_folders import write_picture, write_tif


def ground(path, left, top, crs="EPSG:32632", step=10.0, side=16, **profile):
    """Of a file of `side` pixels."""
    profile = {"crs": crs, "transform": from_origin(left, top, step, step), **profile}
    with rasterio.open(write_tif(path, np.zeros((1, side, side), np.uint8), **profile)) as file:
        return ground_of(path, file)


def test_the_ground_is_that_of_the_georeference(tmp_path):
    found = ground(tmp_path / "a.tif", 400_000, 5_000_000)
    assert found.bounds == (400_000, 4_999_840, 400_160, 5_000_000) and found.crs.to_epsg() == 32632
    assert ground(tmp_path / "b.tif", 0, 0, crs=None) is None
    assert ground(tmp_path / "c.tif", 0, 0, transform=rasterio.Affine.identity()) is None
    upward = ground(tmp_path / "d.tif", 0, 0, transform=rasterio.Affine(10, 0, 400_000, 0, 10, 4_999_840))
    assert upward.bounds == found.bounds
    with (
        pytest.warns(rasterio.errors.NotGeoreferencedWarning),
        rasterio.open(write_picture(tmp_path / "e.png", np.zeros((4, 4), np.uint8))) as file,
    ):
        assert ground_of(tmp_path / "e.png", file) is None


def test_the_extent_is_in_metres(tmp_path):
    assert extent_of(ground(tmp_path / "a.tif", 400_000, 5_000_000)) == (160, 160)
    feet = ground(tmp_path / "b.tif", 0, 0, "EPSG:2263")
    assert extent_of(feet) == pytest.approx((48.768, 48.768), abs=0.001)
    degrees = ground(tmp_path / "c.tif", 8, 60 + 8e-4, "EPSG:4326", 1e-4)
    assert extent_of(degrees) == pytest.approx((88.96, 177.91, 0.0016, 0.0016), abs=0.02)  # cos 60 degrees is a half


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ((160, 160), (165, 155), True),
        ((160, 160), (160, 200), False),
        ((89, 178, 1.6e-3, 1.6e-3), (150, 178, 1.6e-3, 1.6e-3), True),  # degrees at another latitude
        ((89, 178, 1.6e-3, 1.6e-3), (89, 178, 1.6e-3, 2e-3), False),
        ((89, 178, 1.6e-3, 1.6e-3), (178, 178), False),
        ((177, 178, 1.6e-3, 1.6e-3), (178, 178), True),
        ((), (178, 178), True),
    ],
)
def test_extents_are_compared_in_degrees_if_both_have_them(one, other, same):
    assert same_extent(one, other) == same_extent(other, one) == same


def test_files_of_one_modality_have_one_grid(tmp_path):
    one = ground(tmp_path / "one.tif", 400_000, 5_000_000)
    check_alike([one, ground(tmp_path / "two.tif", 400_000, 5_000_000, step=20, side=8)], "x")
    with pytest.raises(RasterError, match=r"wide\.tif shows 960 x 960 m of ground, and .*one\.tif .* 160 x 160 m"):
        check_alike([one, ground(tmp_path / "wide.tif", 400_000, 5_000_000, step=60)], "x")
    with pytest.raises(RasterError, match=r"zone\.tif is in EPSG:32633, and .*one\.tif .* EPSG:32632; warp .* of x"):
        check_alike([one, ground(tmp_path / "zone.tif", 400_000, 5_000_000, "EPSG:32633")], "x")


def test_the_ground_of_a_header_is_that_of_the_file(tmp_path):
    one = ground(tmp_path / "one.tif", 400_000, 5_000_000)
    assert ground_at(one.path, read_geotiff(str(one.path))[1].place) == one
    ground(tmp_path / "two.tif", 0, 0, crs=None)
    assert ground_at(one.path, read_geotiff(str(tmp_path / "two.tif"))[1].place) is None


def test_files_over_the_same_ground_may_differ_in_grid_and_projection(tmp_path):
    one = ground(tmp_path / "one.tif", 400_000, 5_000_000)
    for number, other in enumerate(
        (
            (400_150.0, 5_000_100.0, "EPSG:32632", 10.0),  # a corner
            (399_000.0, 5_001_000.0, "EPSG:32632", 500.0),  # around it
            (7.7265, 45.147, "EPSG:4326", 0.0005),
        )
    ):
        tell_once.cache_clear()
        expected = (
            pytest.warns(DataWarning, match="x has files in EPSG:4326 where other files .* EPSG:32632.*late fusion")
            if "EPSG:4326" in other
            else nullcontext()
        )
        with expected:
            check_together(one, ground(tmp_path / f"{number}.tif", *other), "x")


@pytest.mark.parametrize(
    "other",
    [(400_170.0, 5_000_000.0), (400_000.0, 5_000_000.0, "EPSG:32633"), (7.8, 45.147, "EPSG:4326", 0.0005)],
)
def test_files_elsewhere_are_refused_with_both_named(tmp_path, other):
    one, there = ground(tmp_path / "one.tif", 400_000, 5_000_000), ground(tmp_path / "other.tif", *other)
    with pytest.raises(
        RasterError, match=r"other\.tif lies elsewhere than .*one\.tif.* in EPSG:32632.*the pattern of x"
    ):
        check_together(one, there, "x")

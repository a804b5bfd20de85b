"""Tags are read alike from every make of TIFF, and a place is read from them as GDAL reads it."""

import numpy as np
import pytest
import rasterio

from bengelib.data.tiff import Tag, crs_of, matrix_of, read_directories
from bengelib.errors import RasterError
from tests import fake_tree as fake

ORIGIN = (404_400, 5_342_400)
PIXELS = fake.s2_pixels("B02", 1)
MAKES = [dict(), dict(BIGTIFF="YES"), dict(ENDIANNESS="BIG"), dict(ENDIANNESS="BIG", BIGTIFF="YES")]


def written(tmp_path, **options):
    path = tmp_path / "x.tif"
    fake.write_raster(path, PIXELS, ORIGIN, 33, **options)
    return path


@pytest.mark.parametrize("make", MAKES)
def test_the_tags_of_every_make(tmp_path, make):
    (directory,) = read_directories(written(tmp_path, nodata=7, **make).read_bytes(), "x.tif")
    assert directory.is_page()
    assert directory.get(Tag.WIDTH) == directory.get(Tag.LENGTH) == (120,)
    assert directory.get(Tag.BITS) == (16,)
    assert directory.get(Tag.PIXEL_SCALE) == (10, 10, 0)
    assert directory.get(Tag.NO_DATA) == (b"7\0",)
    assert directory.get(Tag.ORIENTATION, (1,)) == (1,)
    assert sum(directory.get(Tag.STRIP_BYTES)) == PIXELS.nbytes


@pytest.mark.parametrize("make", MAKES)
def test_overviews_and_masks_are_no_pages(tmp_path, make):
    path = written(tmp_path, **make)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as raster:
        raster.write_mask(np.full((120, 120), 255, np.uint8))
        raster.build_overviews([2])
    directories = read_directories(path.read_bytes(), "x.tif")
    assert len(directories) > 2
    assert [directory.is_page() for directory in directories] == [True] + [False] * (len(directories) - 1)


@pytest.mark.parametrize("make", MAKES)
def test_a_header_that_is_cut_anywhere_is_told_from_a_whole_one(tmp_path, make):
    data = written(tmp_path, **make).read_bytes()
    end = read_directories(data, "x.tif")[0].end
    for length in range(4, end, 7):
        with pytest.raises(RasterError, match=f"x.tif ends after {length} bytes, within its header"):
            read_directories(data[:length], "x.tif")
    assert read_directories(data[:3], "x.tif") == read_directories(b"<html>", "x.tif") == []


def test_directories_that_form_a_circle(tmp_path):
    data = bytearray(written(tmp_path).read_bytes())
    start = int.from_bytes(data[4:8], "little")
    end = start + 2 + 12 * int.from_bytes(data[start : start + 2], "little")
    data[end : end + 4] = data[4:8]
    with pytest.raises(RasterError, match=r"x\.tif is broken: its directories form a circle"):
        read_directories(bytes(data), "x.tif")


@pytest.mark.parametrize("kind", ["Area", "Point"])
@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:4326", "EPSG:32733"])
def test_a_place_is_read_as_gdal_reads_it(tmp_path, kind, crs):
    path = written(tmp_path)
    fake.rewrite_raster(path, crs=crs, AREA_OR_POINT=kind)
    with rasterio.open(path, "r+") as raster:
        raster.update_tags(AREA_OR_POINT=kind)
    (directory,) = read_directories(path.read_bytes(), "x.tif")
    name, is_point = crs_of(directory.get(Tag.GEO_KEYS))
    tags = (directory.get(tag) for tag in (Tag.PIXEL_SCALE, Tag.TIE_POINTS, Tag.MATRIX))
    with rasterio.open(path) as raster:
        assert (name, is_point) == (f"EPSG:{raster.crs.to_epsg()}", kind == "Point")
        assert matrix_of(*tags, is_point) == tuple(raster.transform)[:6]


def test_what_the_tags_do_not_say_is_not_guessed():
    assert crs_of(()) == ("", False)
    assert crs_of((1, 1, 0, 1, 1024, 0, 1, 1)) == (None, False)  # projected, in what?
    assert crs_of((1, 1, 0, 2, 1024, 0, 1, 1, 3072, 0, 1, 32767)) == (None, False)  # of the user's own making
    assert matrix_of((10, 10, 0), (), (), False) is None
    assert matrix_of((10, 10, 0), (0,) * 12, (), False) is None
    assert matrix_of((10, 10, 0), (0,) * 6, (1,) * 16, False) is None

"""What a GeoTIFF says of its own pixels is heeded: each test is a file that people have."""

import struct
import warnings

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.shutil import copy as copy_raster
from rasterio.transform import Affine

from bengelib.data import geotiff
from bengelib.data.geotiff import Place, read_geotiff, same_ground
from bengelib.errors import RasterError
from tests import fake_tree as fake

ORIGIN = (404_400, 5_342_400)
PLACE = Place("EPSG:32633", 404_400, 5_342_400, 405_600, 5_341_200)
PIXELS = fake.s2_pixels("B02", 1)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "B02.tif"
    fake.write_raster(path, PIXELS, ORIGIN, 33)
    return path


def tag(path, number, value, kind=3):
    """Give the first directory of a little-endian TIFF one more tag, in a new directory at the end of the file."""
    data = path.read_bytes()
    start = int.from_bytes(data[4:8], "little")
    end = start + 2 + 12 * int.from_bytes(data[start : start + 2], "little")
    entries = [data[place : place + 12] for place in range(start + 2, end, 12)]
    entries = [entry for entry in entries if struct.unpack("<H", entry[:2])[0] != number]
    if isinstance(value, bytes):
        entries.append(struct.pack("<HHII", number, kind, len(value) + 1, len(data)))
        data += value + b"\0"
    else:
        entries.append(struct.pack("<HHII", number, kind, 1, value))
    entries.sort(key=lambda entry: struct.unpack("<H", entry[:2])[0])
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    data += bytes(len(data) % 2)
    path.write_bytes(data[:4] + struct.pack("<I", len(data)) + data[8:] + directory)


def refused(path, match, **options):
    with pytest.raises(RasterError, match=match) as error:
        read_geotiff(str(path), **options)
    assert str(path) in str(error.value)


def with_rasterio(monkeypatch):
    def forbidden(path, data):
        raise AssertionError(f"{path} is plain, and was read with rasterio")

    monkeypatch.setattr(geotiff, "_read_with_rasterio", forbidden)


@pytest.mark.parametrize(
    "options",
    [
        dict(),
        dict(nodata=0),
        dict(compress="deflate", predictor=2),
        dict(tiled=True, blockxsize=64, blockysize=64),
        dict(BIGTIFF="YES"),
        dict(ENDIANNESS="BIG"),
        dict(ENDIANNESS="BIG", BIGTIFF="YES", compress="lzw"),
        dict(NBITS=14),
    ],
)
def test_every_make_of_file_gives_the_same_pixels_and_the_same_header(tmp_path, options):
    path = tmp_path / "x.tif"
    fake.write_raster(path, PIXELS, ORIGIN, 33, **options)
    for _ in range(2):
        pixels, header = read_geotiff(str(path))
        np.testing.assert_array_equal(pixels, PIXELS)
        assert (header.shape, header.dtype, header.place, header.no_data) == (
            (120, 120), "uint16", PLACE, (0,) if "nodata" in options else (),
        )  # fmt: skip


def test_real_files_are_plain(real_tree, monkeypatch):
    paths = sorted(real_tree.glob("sentinel-*/*/*.tif"))
    expected = [geotiff._read_with_rasterio(str(path), path.read_bytes()) for path in paths]
    with_rasterio(monkeypatch)
    for path, (pixels, header) in zip(paths, expected, strict=True):
        found = read_geotiff(str(path))
        np.testing.assert_array_equal(found[0], pixels)
        assert found[1] == header


def test_a_header_that_is_known_is_not_taken_for_another(tmp_path, monkeypatch):
    with_rasterio(monkeypatch)
    paths = [tmp_path / f"{number}.tif" for number in range(3)]
    for number, path in enumerate(paths):
        fake.write_raster(path, PIXELS + np.uint16(number), (ORIGIN[0] + 1200 * number, ORIGIN[1]), 33)
    assert len({path.stat().st_size for path in paths}) == 1
    for number in (0, 0, 1, 1, 2, 0):
        pixels, header = read_geotiff(str(paths[number]))
        np.testing.assert_array_equal(pixels, PIXELS + np.uint16(number))
        assert header.place.left == ORIGIN[0] + 1200 * number


def test_several_pages_in_one_file(path):
    pages = [Image.fromarray(np.full((120, 120), value, np.float32)) for value in (1, 2)]
    for compression in ("raw", "tiff_lzw"):
        pages[0].save(path, format="TIFF", save_all=True, append_images=pages[1:], compression=compression)
        refused(path, "holds 2 pages")


def test_a_cloud_optimised_file_has_overviews_and_one_page(path):
    with rasterio.open(path, "r+") as raster:
        raster.build_overviews([2, 4])
    np.testing.assert_array_equal(read_geotiff(str(path))[0], PIXELS)
    other = path.with_name("cog.tif")
    copy_raster(path, other, driver="COG", blocksize=64)
    np.testing.assert_array_equal(read_geotiff(str(other))[0], PIXELS)


def test_several_bands_in_one_file(path):
    for options in (dict(), dict(compress="deflate", interleave="pixel")):
        with rasterio.open(path, "w", driver="GTiff", width=9, height=9, count=3, dtype="uint8", **options) as raster:
            raster.write(np.zeros((3, 9, 9), np.uint8))
        refused(path, "holds 3 bands")


@pytest.mark.parametrize("compress", ["none", "deflate"])
@pytest.mark.parametrize(
    "transform",
    [
        Affine(10, 0, 404_400, 0, 10, 5_341_200),
        Affine(-10, 0, 405_600, 0, -10, 5_342_400),
        Affine(0, 10, 404_400, -10, 0, 5_342_400),
        Affine.translation(404_400, 5_342_400) @ Affine.rotation(20) @ Affine.scale(10, -10),
    ],
)
def test_rows_from_the_south_mirrored_and_turned_grids(path, compress, transform):
    fake.rewrite_raster(path, transform=transform, compress=compress)
    refused(path, "north to south")


def test_a_stored_image_that_is_to_be_flipped_for_display(path):
    for orientation in (2, 4, 8):
        tag(path, 274, orientation)
        refused(path, f"orientation {orientation}")
    tag(path, 274, 1)
    np.testing.assert_array_equal(read_geotiff(str(path))[0], PIXELS)


def test_pixels_of_negative_height(path):
    data = path.read_bytes()
    place = data.index(struct.pack("<3d", 10, 10, 0))
    path.write_bytes(data[:place] + struct.pack("<3d", 10, -10, 0) + data[place + 24 :])
    refused(path, "negative size")


def test_bits_in_the_other_order_are_read_as_gdal_reads_them(path):
    tag(path, 266, 2)
    expected = np.packbits(np.unpackbits(PIXELS.view(np.uint8).reshape(-1, 1), axis=1)[:, ::-1]).view(np.uint16)
    np.testing.assert_array_equal(read_geotiff(str(path))[0].ravel(), expected)


@pytest.mark.parametrize("compress", ["none", "deflate"])
@pytest.mark.parametrize(
    ("scale", "offset", "words"),
    [
        (0.0001, -0.1, r"\(scale 0\.0001, offset -0\.1\)"),
        (0.0001, 0, r"\(scale 0\.0001\)"),
        (1, -1000, r"\(offset -1000\)"),
        (2, 0, r"\(scale 2\)"),
    ],
)
def test_scale_and_offset(path, compress, scale, offset, words):
    fake.rewrite_raster(path, compress=compress)
    with rasterio.open(path, "r+") as raster:
        raster.scales, raster.offsets = (scale,), (offset,)
    refused(path, words)


@pytest.mark.parametrize("compress", ["none", "deflate"])
@pytest.mark.parametrize("where", [{}, {"bidx": 1}, {"ns": "processing"}, {"bidx": 1, "ns": "processing"}])
@pytest.mark.parametrize("name", ["scale_factor", "BOA_ADD_OFFSET", "GAIN"])
def test_scale_and_offset_in_other_words(path, compress, where, name):
    fake.rewrite_raster(path, compress=compress)
    with rasterio.open(path, "r+") as raster:
        raster.update_tags(**where, **{name: "0,0001"})
    refused(path, rf"scale or shift its values \({name} 0,0001\)")


def test_words_for_no_data(path):
    for where in ({}, {"bidx": 1}):
        fake.rewrite_raster(path, nodata=7)
        with rasterio.open(path, "r+") as raster:
            raster.update_tags(**where, _FillValue=65535)
        assert read_geotiff(str(path))[1].no_data == (7, 65535)


def test_the_scale_and_no_data_value_of_snap(path):
    """SNAP writes what it knows of the band into a tag of its own, which GDAL passes over."""
    text = (
        "<Dimap_Document><Spectral_Band_Info><BAND_NAME>VV</BAND_NAME><SCALING_FACTOR>{}</SCALING_FACTOR>"
        "<SCALING_OFFSET>0.0</SCALING_OFFSET><LOG10_SCALED>{}</LOG10_SCALED><NO_DATA_VALUE_USED>{}"
        "</NO_DATA_VALUE_USED><NO_DATA_VALUE>9.0</NO_DATA_VALUE></Spectral_Band_Info></Dimap_Document>"
    )
    original = path.read_bytes()

    def write(*values):
        path.write_bytes(original)
        tag(path, 65000, text.format(*values).encode(), kind=2)

    write("1.0E-4", "false", "true")
    refused(path, r"\(SCALING_FACTOR 1\.0E-4\)")
    write("1.0", "true", "true")
    refused(path, r"\(LOG10_SCALED true\)")
    for used, expected in (("true", (9.0,)), ("false", ())):
        write("1.0", "false", used)
        pixels, header = read_geotiff(str(path))
        np.testing.assert_array_equal(pixels, PIXELS)
        assert header.no_data == expected


def test_tags_that_change_nothing(path):
    with rasterio.open(path, "r+") as raster:
        raster.scales, raster.offsets, raster.units = (1,), (0,), ("1",)
        raster.update_tags(author="me", STATISTICS_MEAN="nan", add_offset=0.0, BOA_QUANTIFICATION_VALUE=10000)
        raster.update_tags(ns="RPC", LINE_OFF=60, LINE_SCALE=60)
        raster.update_tags(ns="EXIF", EXIF_GainControl="(2)")
        raster.set_band_description(1, "rescaled to 10 m")
    pixels, header = read_geotiff(str(path))
    np.testing.assert_array_equal(pixels, PIXELS)
    assert header.place == PLACE


def test_scale_in_a_file_beside_it(path):
    (path.parent / "B02.tif.aux.xml").write_text(
        '<PAMDataset><PAMRasterBand band="1"><Offset>-0.1</Offset><Scale>0.0001</Scale></PAMRasterBand></PAMDataset>'
    )
    refused(path, "scale 0.0001", companions=True)


def test_statistics_in_a_file_beside_it_are_no_matter(path):
    (path.parent / "B02.tif.aux.xml").write_text(
        '<PAMDataset><PAMRasterBand band="1"><Metadata><MDI key="STATISTICS_MEAN">3</MDI></Metadata></PAMRasterBand>'
        "</PAMDataset>"
    )
    np.testing.assert_array_equal(read_geotiff(str(path), companions=True)[0], PIXELS)


@pytest.mark.parametrize("internal", [True, False])
def test_pixels_that_a_mask_hides(path, internal):
    mask = np.full((120, 120), 255, np.uint8)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal), rasterio.open(path, "r+") as raster:
        raster.write_mask(mask)
    assert (path.parent / "B02.tif.msk").exists() is not internal
    np.testing.assert_array_equal(read_geotiff(str(path), companions=not internal)[0], PIXELS)
    mask[:40] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal), rasterio.open(path, "r+") as raster:
        raster.write_mask(mask)
    refused(path, "4800 of 14400 pixels without data: its mask", companions=not internal)


def test_control_points_in_place_of_a_grid(path):
    points = [GroundControlPoint(row, column, 1e5 + column, 5e6 - row) for row in (0, 119) for column in (0, 119)]
    with rasterio.open(
        path, "w", driver="GTiff", width=120, height=120, count=1, dtype="uint16", gcps=points, crs="EPSG:32633"
    ) as raster:
        raster.write(PIXELS, 1)
    refused(path, "4 control points")


def test_a_file_that_does_not_say_where_it_lies(path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for options in (dict(), dict(compress="deflate")):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with rasterio.open(
                    path, "w", driver="GTiff", width=120, height=120, count=1, dtype="uint16", **options
                ) as raster:
                    raster.write(PIXELS, 1)
            pixels, header = read_geotiff(str(path))
            np.testing.assert_array_equal(pixels, PIXELS)
            assert header.place is None


@pytest.mark.parametrize("compress", ["none", "deflate"])
def test_pixels_that_are_points(path, compress):
    fake.rewrite_raster(path, compress=compress, AREA_OR_POINT="Point")
    with rasterio.open(path, "r+") as raster:
        raster.update_tags(AREA_OR_POINT="Point")
    assert read_geotiff(str(path))[1].place == PLACE


def test_a_coordinate_system_of_ones_own(path):
    crs = "+proj=tmerc +lat_0=0 +lon_0=15 +k=0.9996 +x_0=500001 +y_0=0 +ellps=WGS84 +units=m"
    fake.rewrite_raster(path, crs=crs)
    place = read_geotiff(str(path))[1].place
    assert place.crs != PLACE.crs
    assert same_ground(PLACE, place)


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (PLACE, True),
        (None, True),
        (PLACE._replace(left=404_400.004, top=5_342_399.99), True),
        (Place("", *PLACE[1:]), True),
        (Place("EPSG:25833", *PLACE[1:]), True),  # ETRS89 in place of WGS 84
        (Place("EPSG:32634", *PLACE[1:]), False),
        (Place("EPSG:4326", *PLACE[1:]), False),
        (Place("no such system", *PLACE[1:]), False),
        (PLACE._replace(left=404_410, right=405_610), False),
        (PLACE._replace(top=5_342_410, bottom=5_341_210), False),
        (PLACE._replace(right=408_000, bottom=5_338_800), False),
        (Place("", 0, 1200, 1200, 0), False),
    ],
)
def test_same_ground(other, same):
    assert same_ground(PLACE, other) is same
    assert same_ground(other, PLACE) is same or other is None


@pytest.mark.parametrize("share", [0.001, 0.005, 0.01, 0.5, 0.999])
@pytest.mark.parametrize("options", [dict(), dict(BIGTIFF="YES"), dict(ENDIANNESS="BIG"), dict(compress="lzw")])
def test_truncated_files_of_every_make(path, share, options):
    fake.rewrite_raster(path, **options)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    refused(path, "download it again")


@pytest.mark.parametrize("name", ["B02.TIF", "B02.tiff", "b02.tif", "B2.tif", "B02.Tiff"])
def test_another_spelling_of_the_name_is_named(path, name):
    path.rename(path.with_name(name))
    refused(path, f"There is {name}: rename it to B02.tif")


def test_a_missing_file_without_another_spelling(path):
    path.rename(path.with_name("B03.tif"))
    refused(path, "no file .*Add it, or remove the patch")
    refused(path.parent / "no folder" / "B02.tif", "no file")

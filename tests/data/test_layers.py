"""Formats, types, tags and damage of images and maps, one file at a time."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio

from bengelib.data import layers
from bengelib.data.description import Source
from bengelib.data.file_patterns import FilePattern
from bengelib.data.geotiff import read_plain
from bengelib.data.layers import Layout, find_layout, measured, read_stored
from bengelib.errors import MissingModalityError, RasterError
from tests.described_folders import pixels_of, write_picture, write_tif

WHERE = "dataset.toml: [modalities.x]"


def image(root: Path, files: str, bands: tuple[str, ...], **facts) -> Source:
    return Source("x", "image", FilePattern(root, files, f"{WHERE} files"), bands=bands, where=WHERE, **facts)


def a_map(root: Path, files: str, codes: dict[int, str], **facts) -> Source:
    classes = {"codes": tuple(codes), "classes": tuple(codes.values())}
    return Source("x", "map", FilePattern(root, files, f"{WHERE} files"), where=WHERE, **classes, **facts)


def read(source: Source, name: str = "1") -> tuple[Layout, np.ndarray]:
    """The layout of sample 1, and the only array of a sample."""
    layout = find_layout(source, {"id": "1"})
    (array,) = read_stored(source, layout, {"id": name}).values()
    return layout, array


def ramp(dtype: str, bands: int = 3, side: int = 32) -> np.ndarray:
    """Numbers that differ, over the whole range of a type if it is a small one."""
    values = np.linspace(-1000, 30_000, bands * side * side)
    info = np.iinfo(dtype) if np.dtype(dtype).kind in "iu" else None
    if info is not None:
        values = np.linspace(max(info.min, -(2.0**52)), min(info.max, 2.0**52), bands * side * side)
    return values.astype(dtype).reshape(bands, side, side)


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [
        ("uint8", "uint8"),
        ("int8", "int16"),
        ("uint16", "uint16"),
        ("int16", "int16"),
        ("uint32", "float64"),
        ("int32", "float64"),
        ("uint64", "float64"),
        ("int64", "float64"),
        ("float32", "float32"),
        ("float64", "float64"),
    ],
)
@pytest.mark.parametrize(
    "profile",
    [
        {},
        {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"},
        {"compress": "lzw", "interleave": "pixel"},
    ],
)
def test_geotiff_of_every_type_is_read_to_the_bit(tmp_path, dtype, kept, profile):
    pixels = ramp(dtype)
    write_tif(tmp_path / "1.tif", pixels, **profile)
    layout, array = read(image(tmp_path, "{id}.tif", ("a", "b", "c")))
    assert layout.dtype == kept == array.dtype.name and layout.arrays == {"x.32x32": ((0, 1, 2), (3, 32, 32))}
    np.testing.assert_array_equal(array.astype(np.float64), pixels.astype(np.float64))


def test_cloud_optimised_geotiff_with_overviews(tmp_path):
    pixels = ramp("uint16", side=256)
    options = {"driver": "COG", "compress": "deflate", "blocksize": 128, "overview_resampling": "nearest"}
    write_tif(tmp_path / "1.tif", pixels, **options)
    with rasterio.open(tmp_path / "1.tif") as file:
        assert file.overviews(1)
    np.testing.assert_array_equal(read(image(tmp_path, "{id}.tif", ("a", "b", "c")))[1], pixels)
    smaller = read(image(tmp_path, "{id}.tif", ("a", "b", "c"), size=64))[1]
    assert smaller.shape == (3, 64, 64) and abs(float(smaller.mean()) - float(pixels.mean())) < 200


PLAIN = {
    "the lowest number": {"dtype": "float32", "nodata": -3.4028234663852886e38},
    "unsigned": {"dtype": "uint16"},
    "signed": {"dtype": "int16", "nodata": -9999},
    "real": {"dtype": "float32", "nodata": -9999},
    "not a number": {"dtype": "float32", "nodata": float("nan")},
    "bytes": {"dtype": "uint8"},
    "without coordinates": {"dtype": "uint16", "crs": None},
    "degrees": {"dtype": "uint16", "crs": "EPSG:4326", "transform": rasterio.transform.from_origin(8, 50, 1e-4, 1e-4)},
    "software": {"dtype": "uint16", "tags": {"TIFFTAG_SOFTWARE": "any", "DATE": "today"}},
}
NOT_PLAIN = {
    "without a grid": {"dtype": "uint16", "transform": rasterio.Affine.identity()},
    "compressed": {"dtype": "uint16", "compress": "deflate"},
    "tiled": {"dtype": "uint16", "tiled": True, "blockxsize": 16, "blockysize": 16},
    "eight bytes": {"dtype": "float64"},
    "big endian": {"dtype": "uint16", "ENDIANNESS": "BIG"},
    "a fill that the type rounds": {"dtype": "float32", "nodata": 0.1},
    "from the south": {"dtype": "uint16", "transform": rasterio.Affine(10, 0, 4e5, 0, 10, 5e6)},
    "scaled": {"dtype": "uint16", "scales": (0.5,), "offsets": (1.0,)},
    "a name": {"dtype": "uint16", "names": ("offset",)},
}


@pytest.mark.parametrize(("name", "facts"), [*PLAIN.items(), *NOT_PLAIN.items()], ids=lambda each: str(each)[:20])
@pytest.mark.parametrize("size", [0, 16])
def test_a_plain_geotiff_is_read_as_by_rasterio_and_without_it(tmp_path, monkeypatch, name, facts, size):
    profile = {key: value for key, value in facts.items() if key != "dtype"}
    write_tif(tmp_path / "1.tif", ramp(facts["dtype"], bands=1), **profile)
    source = image(tmp_path, "{id}.tif", ("a",), size=size)
    opened, rasterio_open = [], rasterio.open
    monkeypatch.setattr(rasterio, "open", lambda path: opened.append(path) or rasterio_open(path))

    def both() -> tuple[Layout, np.ndarray, list]:
        layout, grounds = find_layout(source, {"id": "1"}), []
        (array,) = read_stored(source, layout, {"id": "1"}, grounds).values()
        return layout, array, grounds

    layout, array, grounds = both()
    assert len(opened) == (size > 0 if name in PLAIN else 2)  # the size of the samples takes rasterio
    monkeypatch.setattr(layers, "read_plain", lambda path: None)
    other, expected, other_grounds = both()
    assert layout == other and grounds == other_grounds and array.dtype == expected.dtype
    np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("suffix", [".tif.aux.xml", ".aux.xml"])
def test_a_plain_geotiff_with_a_sidecar_file_is_read_with_it(tmp_path, suffix):
    write_tif(tmp_path / "1.tif", ramp("uint16", bands=1))
    assert read_plain(tmp_path / "1.tif")
    (tmp_path / f"1{suffix}").write_text(
        "<PAMDataset><PAMRasterBand band='1'><Scale>0.5</Scale></PAMRasterBand></PAMDataset>"
    )
    assert read_plain(tmp_path / "1.tif") is None
    assert find_layout(image(tmp_path, "{id}.tif", ("a",)), {"id": "1"}).scale == ((0.5,) if "tif" in suffix else ())


def test_what_is_refused_of_a_geotiff_is_refused_of_a_plain_one(tmp_path):
    with rasterio.open(write_tif(tmp_path / "1.tif", ramp("uint8", bands=1), photometric="palette"), "r+") as file:
        file.write_colormap(1, {0: (0, 0, 0), 9: (200, 0, 0)})
    with pytest.raises(RasterError, match="colours in a palette"):
        read(image(tmp_path, "{id}.tif", ("a",)))
    write_tif(tmp_path / "2.tif", ramp("uint16", bands=1), tags={"scale_factor": "0.1"})
    with pytest.raises(RasterError, match=r"scale or shift its values \(scale_factor 0.1\)"):
        find_layout(image(tmp_path, "{id}.tif", ("a",)), {"id": "2"})
    write_tif(tmp_path / "3.tif", ramp("uint16", bands=1))
    for facts, words in (({"layers": (2,)}, "has 1 layers, but"), ({}, "has 1 layers")):
        with pytest.raises(RasterError, match=words):
            find_layout(image(tmp_path, "{id}.tif", ("a",) if facts else ("a", "b"), **facts), {"id": "3"})


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "uint16", ">u2", "int32", "float16", "float32", ">f8"])
def test_npy_of_every_type(tmp_path, dtype):
    pixels = np.arange(3 * 4 * 4).reshape(3, 4, 4).astype(dtype)
    np.save(tmp_path / "1.npy", pixels)
    np.testing.assert_array_equal(read(image(tmp_path, "{id}.npy", ("a", "b", "c")))[1], pixels.astype(float))
    np.save(tmp_path / "2.npy", pixels[0] + np.array(1, dtype))
    assert find_layout(image(tmp_path, "{id}.npy", ("a",)), {"id": "2"}).shape == (4, 4)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_png_of_8_and_16_bits(tmp_path, dtype):
    pixels = ramp(dtype, bands=1)[0]
    write_picture(tmp_path / "1.png", pixels)
    np.testing.assert_array_equal(read(image(tmp_path, "{id}.png", ("grey",)))[1][0], pixels)


def test_colours_of_png_and_jpeg(tmp_path):
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[..., 0], pixels[..., 2] = 200, 50
    write_picture(tmp_path / "1.png", pixels)
    write_picture(tmp_path / "1.jpg", pixels)
    np.testing.assert_array_equal(
        read(image(tmp_path, "{id}.png", ("red", "green", "blue")))[1], pixels.transpose(2, 0, 1)
    )
    jpeg = read(image(tmp_path, "{id}.jpg", ("red", "green", "blue")))[1]
    assert np.abs(jpeg.astype(int) - pixels.transpose(2, 0, 1)).max() < 8


def test_bands_are_picked_by_the_names_of_the_layers(tmp_path):
    pixels = ramp("int16", bands=4)
    write_tif(tmp_path / "1.tif", pixels, ("blue", "green", "red", "NIR "))
    np.testing.assert_array_equal(read(image(tmp_path, "{id}.tif", ("nir", "blue")))[1], pixels[[3, 0]])
    np.testing.assert_array_equal(read(image(tmp_path, "{id}.tif", ("a", "b"), layers=(2, 4)))[1], pixels[[1, 3]])
    np.testing.assert_array_equal(read(image(tmp_path, "{id}.tif", ("a", "b", "c", "d")))[1], pixels)


@pytest.mark.parametrize(
    ("bands", "layers", "words"),
    [
        (("blue", "swir"), (), r"has 4 layers, named .*asks for the bands \['blue', 'swir'\]; name the bands as"),
        (
            ("blue", "green", "red", "swir"),
            (),
            r"named \['blue', 'green', 'red', 'nir'\]",
        ),  # of one number, not one name
        (("a", "b", "c"), (), r"has 4 layers"),
        (("a", "b"), (1, 5), r"has 4 layers, but dataset.toml: \[modalities.x\] layers = \[1, 5\]"),
    ],
)
def test_bands_that_the_file_does_not_have(tmp_path, bands, layers, words):
    write_tif(tmp_path / "1.tif", ramp("int16", bands=4), ("blue", "green", "red", "nir"))
    with pytest.raises(RasterError, match=words) as caught:
        find_layout(image(tmp_path, "{id}.tif", bands, layers=layers), {"id": "1"})
    assert f"{tmp_path / '1.tif'}" in str(caught.value) and WHERE in str(caught.value)


def test_layers_of_one_name_say_nothing(tmp_path):
    pixels = ramp("uint16", bands=2)
    write_tif(tmp_path / "1.tif", pixels, ("stack", "stack"))
    np.testing.assert_array_equal(read(image(tmp_path, "{id}.tif", ("B02", "B03")))[1], pixels)


def test_scale_and_offset_of_the_tags_and_of_the_description(tmp_path):
    write_tif(tmp_path / "1.tif", ramp("uint16", bands=2), scales=(0.1, 0.2), offsets=(-1, 5))
    plain = image(tmp_path, "{id}.tif", ("a", "b"))
    layout = find_layout(plain, {"id": "1"})
    assert layout.scales(plain) == ((0.1, 0.2), (-1, 5))
    assert layout.scales(replace(plain, scale=(3.0, 3.0))) == ((3, 3), ())  # in the place of both tags
    assert layout.scales(replace(plain, offset=(7.0, 7.0))) == ((0.1, 0.2), (7, 7))
    assert layout.scales(replace(plain, offset=(0.0, 0.0))) == ((0.1, 0.2), ())
    write_tif(tmp_path / "2.tif", ramp("uint16", bands=2))
    assert find_layout(plain, {"id": "2"}).scales(plain) == ((), ())


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ({"pixels": ramp("uint16", bands=2)}, r"has 2 layers"),
        ({"pixels": ramp("int16")}, r"holds int16, the first sample uint16; store all files of"),
        ({"pixels": ramp("uint16", side=16)}, r"has 16 x 16 pixels, the first sample 32 x 32; state the size .* = 32"),
        ({"nodata": 0}, r"names \[0.0\] as no data, the first sample nothing; state no_data in"),
        ({"scales": (0.1, 1, 1)}, r"has the scale \[0.1, 1.0, 1.0\], the first sample \[1.0, 1.0, 1.0\]"),
        ({"offsets": (5, 5, 5)}, r"has the offset \[5.0, 5.0, 5.0\], the first sample"),
        ({"tags": {"BOA_ADD_OFFSET_B02": "-1000"}}, r"has tags that scale .*BOA_ADD_OFFSET_B02 -1000.*state scale"),
        ({"tags": {"_FillValue": "7"}}, r"names \[7.0\] as no data"),
        ({"tags": {"_FillValue": "nothing"}}, r"no-data value that is not a number"),
        ({"pixels": np.full((3, 32, 32), 9, np.uint16), "nodata": 9}, "as no data"),
    ],
)
def test_a_file_that_differs_from_the_first_without_a_rule(tmp_path, second, words):
    write_tif(tmp_path / "1.tif", ramp("uint16"))
    write_tif(tmp_path / "2.tif", **{"pixels": ramp("uint16"), **second})
    with pytest.raises(RasterError, match=words) as caught:
        read(image(tmp_path, "{id}.tif", ("a", "b", "c")), "2")
    assert str(tmp_path / "2.tif") in str(caught.value)


def test_another_scale_of_the_same_kind_is_found_too(tmp_path):
    write_tif(tmp_path / "1.tif", ramp("uint16"), scales=(0.1,) * 3, offsets=(1,) * 3)
    write_tif(tmp_path / "2.tif", ramp("uint16"), scales=(0.01,) * 3, offsets=(1,) * 3)
    source = image(tmp_path, "{id}.tif", ("a", "b", "c"))
    with pytest.raises(RasterError, match=r"has the scale"):
        read(source, "2")
    assert read(replace(source, scale=(1.0,) * 3), "2")[1].shape == (3, 32, 32)  # the rule is stated


def test_what_is_stated_takes_the_place_of_differing_tags(tmp_path):
    write_tif(tmp_path / "1.tif", ramp("uint16"), nodata=0)
    write_tif(tmp_path / "2.tif", ramp("uint16"), nodata=65535, tags={"scale_factor": "2"})
    source = image(tmp_path, "{id}.tif", ("a", "b", "c"), no_data=(3.0,), scale=(1.0,) * 3)
    layout, _ = read(source, "2")
    assert layout.no_data == (3,)


def test_a_size_is_the_rule_for_other_sizes(tmp_path):
    pixels = ramp("float32", bands=1)
    write_tif(tmp_path / "1.tif", pixels)
    write_tif(tmp_path / "2.tif", np.kron(pixels, np.ones((1, 2, 2), np.float32)))
    source = image(tmp_path, "{id}.tif", ("a",), size=32)
    assert read(source, "1")[1].shape == (1, 32, 32)
    np.testing.assert_allclose(read(source, "2")[1], pixels, rtol=0.2, atol=200)
    assert read(replace(source, size=8), "2")[1].shape == (1, 8, 8)


def test_numbers_that_are_no_data_blend_with_no_neighbour(tmp_path):
    pixels = np.full((1, 32, 32), 100, np.int16)
    pixels[0, :, ::3] = -9999
    write_tif(tmp_path / "1.tif", pixels)
    _, array = read(image(tmp_path, "{id}.tif", ("a",), size=20, no_data=(-9999.0,)))
    assert set(np.unique(array)) == {-9999, 100}
    write_tif(tmp_path / "1.tif", pixels, nodata=-9999)  # GDAL knows that itself
    assert set(np.unique(read(image(tmp_path, "{id}.tif", ("a",), size=20))[1])) <= {-9999, 100}


def test_npy_files_are_not_resampled(tmp_path):
    np.save(tmp_path / "1.npy", ramp("uint16"))
    source = image(tmp_path, "{id}.npy", ("a", "b", "c"), size=16)
    with pytest.raises(
        RasterError, match=r"1.npy has 32 x 32 pixels; .*size = 16, to which .npy files are not resampled"
    ):
        read(source)


@pytest.mark.parametrize("value", [0.0, -9999.0, float("nan")])
def test_a_sample_without_any_data_is_refused(tmp_path, value):
    write_tif(tmp_path / "1.tif", ramp("float32"), nodata=value)
    write_tif(tmp_path / "2.tif", np.full((3, 32, 32), value, np.float32), nodata=value)
    with pytest.raises(
        RasterError, match=r"2.tif has no data at any pixel of x .*correct no_data of .*leave the sample out"
    ):
        read(image(tmp_path, "{id}.tif", ("a", "b", "c")), "2")


def test_bands_in_files_of_their_own_at_several_resolutions(tmp_path):
    for band, side in (("B2", 24), ("B5", 12), ("B1", 4), ("B3", 24)):
        write_tif(tmp_path / "1" / f"1_{band}.tif", ramp("uint16", 1, side) + side, nodata=0, **pixels_of(240 / side))
    source = image(tmp_path, "{id}/{id}_{band}.tif", ("B1", "B2", "B3", "B5"))
    layout = find_layout(source, {"id": "1"})
    assert layout.arrays == {
        "x.4x4": ((0,), (1, 4, 4)),
        "x.24x24": ((1, 2), (2, 24, 24)),
        "x.12x12": ((3,), (1, 12, 12)),
    }
    assert layout.shape == (24, 24) and layout.no_data == (0,)
    stored = read_stored(source, layout, {"id": "1"})
    np.testing.assert_array_equal(stored["x.24x24"][1], ramp("uint16", 1, 24)[0] + 24)
    with pytest.raises(MissingModalityError, match=r"no .*2_B1.tif, which .*files asks for"):
        read_stored(source, layout, {"id": "2"})


@pytest.mark.parametrize(
    ("pixels", "profile", "words"),
    [
        (ramp("uint16", 1, 24)[:, :20], {}, r"have 20 x 24 and 24 x 24 pixels.*size = 24"),
        (ramp("float32", 1, 24), {}, r"have the types \['float32', 'uint16'\].*two modalities"),
        (ramp("uint16", 1, 24), {"nodata": 5}, r"names \[5.0\] as no data, 1_a.tif nothing; state no_data"),
        (ramp("uint16", 2, 24), {}, r"has 2 layers, but .*asks for the bands \['b'\]"),
    ],
)
def test_files_of_bands_that_do_not_go_together(tmp_path, pixels, profile, words):
    write_tif(tmp_path / "1_a.tif", ramp("uint16", 1, 24))
    write_tif(tmp_path / "1_b.tif", pixels, **profile)
    with pytest.raises(RasterError, match=words):
        find_layout(image(tmp_path, "{id}_{band}.tif", ("a", "b")), {"id": "1"})


def test_a_map_of_codes_becomes_indices(tmp_path):
    codes = np.array([[10, 20], [30, 0]], np.uint8)
    write_picture(tmp_path / "1.png", codes)
    source = a_map(tmp_path, "{id}.png", {30: "water", 10: "field", 20: "wood"}, no_data=(0.0,))
    layout, indices = read(source)
    np.testing.assert_array_equal(indices, [[1, 2], [0, 255]])
    assert layout.arrays == {"x.2x2": ((0,), (2, 2))} and indices.dtype == np.uint8
    with pytest.raises(
        RasterError, match=r"1.png holds 0 at 1 pixels, which is not a class of .*classes = \{30: 'water'"
    ):
        read(replace(source, no_data=()))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32"])
def test_maps_of_any_type_with_the_tag_of_the_file(tmp_path, dtype):
    codes = np.array([[311, 12], [0, 12]] if dtype != "uint8" else [[31, 12], [0, 12]]).astype(dtype)
    write_tif(tmp_path / "1.tif", codes, nodata=0)
    source = a_map(tmp_path, "{id}.tif", {12: "a", int(codes[0, 0]): "b"})
    np.testing.assert_array_equal(read(source)[1], [[1, 0], [255, 0]])
    write_tif(tmp_path / "2.tif", codes, nodata=99)  # each file's own tag
    with pytest.raises(RasterError, match=r"holds 0 at 1 pixels"):
        read(source, "2")
    # a class that is stated is one, whatever the tag says
    np.testing.assert_array_equal(read(replace(source, codes=(0, 12, int(codes[0, 0]))))[1], [[2, 1], [0, 1]])


def test_a_map_is_one_layer_or_says_which(tmp_path):
    codes = np.stack([np.full((8, 8), 1), np.full((8, 8), 2), np.full((8, 8), 3)]).astype(np.uint8)
    write_tif(tmp_path / "1.tif", codes)
    source = a_map(tmp_path, "{id}.tif", {1: "a", 2: "b", 3: "c"})
    with pytest.raises(RasterError, match=r"has 3 layers, but .*asks for one map.*layers"):
        read(source)
    assert (read(replace(source, layers=(3,)))[1] == 2).all()
    write_picture(tmp_path / "2.png", codes.transpose(1, 2, 0))
    with pytest.raises(RasterError, match=r"has 3 layers"):
        find_layout(a_map(tmp_path, "{id}.png", {1: "a", 2: "b"}), {"id": "2"})


def test_a_map_is_resampled_to_the_nearest_pixel(tmp_path):
    codes = np.kron(np.array([[1, 9], [9, 1]], np.uint8), np.ones((8, 8), np.uint8))
    write_tif(tmp_path / "1.tif", codes)
    source = a_map(tmp_path, "{id}.tif", {1: "a", 9: "b"}, size=4)
    np.testing.assert_array_equal(read(source)[1], np.kron([[0, 1], [1, 0]], np.ones((2, 2))))


def test_numbers_of_a_palette_are_a_map_and_no_image(tmp_path):
    from PIL import Image

    picture = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), "P")
    picture.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    picture.save(tmp_path / "1.png")
    with pytest.raises(RasterError, match=r"1.png holds the numbers of colours in a palette.*kind = 'map'"):
        read(image(tmp_path, "{id}.png", ("grey",)))
    np.testing.assert_array_equal(read(a_map(tmp_path, "{id}.png", {0: "a", 1: "b", 2: "c"}))[1], [[0, 1], [2, 1]])


def test_pixels_hidden_by_a_mask_are_refused(tmp_path):
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        write_tif(tmp_path / "1.tif", ramp("uint8"))
        with rasterio.open(tmp_path / "1.tif", "r+") as file:
            mask = np.full((32, 32), 255, np.uint8)
            file.write_mask(mask)
    source = image(tmp_path, "{id}.tif", ("a", "b", "c"))
    assert read(source)[1].shape == (3, 32, 32)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(tmp_path / "1.tif", "r+") as file:
        mask[3] = 0
        file.write_mask(mask)
    with pytest.raises(RasterError, match=r"hides pixels by a mask.*state it as no_data"):
        read(source)


def test_pages_of_a_file_are_no_layers(tmp_path):
    from PIL import Image

    pages = [Image.fromarray(np.full((4, 4), value, np.uint8)) for value in (1, 2)]
    pages[0].save(tmp_path / "1.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(RasterError, match=r"has 2 pages or parts; expected the bands as layers"):
        read(image(tmp_path, "{id}.tif", ("a",)))


def damaged(path: Path) -> dict[str, bytes]:
    good = path.read_bytes()
    return {
        "empty": b"",
        "text": b"hello",
        "half": good[: len(good) // 2],
        "head": good[:20],
        "other": b"PK\x03\x04" * 9,
    }


@pytest.mark.parametrize("what", ["empty", "text", "half", "head", "other"])
@pytest.mark.parametrize("suffix", [".tif", ".png", ".jpg", ".npy"])
def test_a_damaged_file_is_refused_by_its_name(tmp_path, suffix, what):
    path = tmp_path / f"1{suffix}"
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    if suffix == ".tif":
        write_tif(path, pixels.transpose(2, 0, 1), compress="deflate")
    elif suffix == ".npy":
        np.save(path, pixels.transpose(2, 0, 1))
    else:
        write_picture(path, pixels)
    source = image(tmp_path, "{id}" + suffix, ("r", "g", "b"))
    layout = find_layout(source, {"id": "1"})
    path.write_bytes(damaged(path)[what])
    for ask in (lambda: find_layout(source, {"id": "1"}), lambda: read_stored(source, layout, {"id": "1"})):
        with pytest.raises(RasterError, match=f"1{suffix} cannot be read"):
            ask()


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.zeros((3, 2, 2), np.complex64), "holds complex64, not real numbers"),
        (np.zeros(4), r"has shape \(4,\); expected \(bands, rows, columns\)"),
        (np.array([[["a"]]], object), "cannot be read"),
        (np.array([[["a"]]]), "not real numbers"),
        (np.zeros((4, 4, 3), np.uint8), "has 4 layers"),
    ],
)
def test_npy_of_something_else(tmp_path, pixels, words):
    np.save(tmp_path / "1.npy", pixels, allow_pickle=True)
    bands = tuple("abc")[: len(pixels)] if pixels.ndim == 3 and len(pixels) < 4 else ("a", "b", "c")
    with pytest.raises(RasterError, match=words):
        read(image(tmp_path, "{id}.npy", bands))


def test_complex_geotiff_is_refused(tmp_path):
    write_tif(tmp_path / "1.tif", np.ones((1, 4, 4), np.complex64))
    with pytest.raises(RasterError, match=r"holds complex64, not real numbers; store the parts"):
        read(image(tmp_path, "{id}.tif", ("slc",)))


def test_what_is_measured():
    values = np.array([1.0, np.nan, np.inf, -9999])
    np.testing.assert_array_equal(measured(values, (-9999.0,)), [True, False, False, False])
    np.testing.assert_array_equal(measured(np.array([0, 3], np.uint8), (0.0, 300.0)), [False, True])


@pytest.mark.parametrize("compress", [{}, {"compress": "deflate"}])
def test_files_of_another_resolution_need_a_rule(tmp_path, compress):
    """Of as many pixels, which is why nothing else shows it; of one file alone, and of one band of a sample."""
    for name, step in (("1", 10), ("2", 60)):
        for stem in (name, f"3_{name}"):
            write_tif(tmp_path / f"{stem}.tif", ramp("uint16", 1), **pixels_of(step), **compress)
    source = image(tmp_path, "{id}.tif", ("a",))
    with pytest.raises(RasterError, match=r"2\.tif shows 1920 x 1920 m of ground, the first sample 320 x 320 m.*size"):
        read(source, "2")
    assert read(replace(source, size=32), "2")[1].shape == (1, 32, 32)
    with pytest.raises(RasterError, match=r"3_2\.tif shows 1920 x 1920 m of ground, and .*3_1\.tif of the same sample"):
        find_layout(image(tmp_path, "{id}_{band}.tif", ("1", "2")), {"id": "3"})


def test_degrees_are_the_same_resolution_at_every_latitude(tmp_path):
    for name, latitude in (("1", 0), ("2", 60)):
        transform = rasterio.transform.from_origin(8, latitude, 1e-4, 1e-4)
        write_tif(tmp_path / f"{name}.tif", ramp("uint16", 1), crs="EPSG:4326", transform=transform)
    assert read(image(tmp_path, "{id}.tif", ("a",)), "2")[1].shape == (1, 32, 32)

"""What files hold, by their names, types, values and tags."""

import tomllib

import numpy as np
import pytest

from bengelib.bands import LAND_COVER
from bengelib.data.describe import describe
from bengelib.data.described import DescribedDataset
from bengelib.data.guess import Guess
from bengelib.data.guess_files import Files, guess_files
from bengelib.errors import DescriptionError
from tests.described_folders import write_picture, write_tif

SIDE = 8


def noise(bands: int, low: float, high: float, seed: int, dtype=np.uint16) -> np.ndarray:
    return np.random.default_rng(seed).uniform(low, high, (bands, SIDE, SIDE)).astype(dtype)


def guessed(root, make, count: int = 4, name: str = "chips", suffix: str = ".tif", **options):
    """The guess for files that `make(path, number)` writes."""
    paths = [root / name / f"{number}{suffix}" for number in range(count)]
    for number, path in enumerate(paths):
        make(path, number)
    guess = Guess("x")
    guess_files(guess, Files(name, f"{name}/{{id}}{suffix}", [[path] for path in paths], **options))
    return guess, tomllib.loads(guess.text)


def write(dtype=np.uint16, bands=4, low=100.0, high=4000.0, **options):
    return lambda path, number: write_tif(path, noise(bands, low, high, number, dtype), **options)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"dtype": np.uint8, "bands": 5, "high": 250}, {"unit": "1", "scale": 1 / 255}),
        ({"dtype": np.int16}, {"unit": "reflectance", "scale": 0.0001}),
        ({"bands": 3, "high": 60_000}, {"unit": ""}),  # sixteen bits of a picture
        ({"dtype": np.float32, "low": 0, "high": 0.9}, {"unit": ""}),
        ({"dtype": np.float32, "bands": 12, "low": 0, "high": 0.9}, {"unit": "reflectance"}),
        ({"dtype": np.float32, "bands": 2, "low": -25, "high": -3}, {"unit": "dB"}),
        ({"dtype": np.float32, "bands": 2, "low": 0, "high": 0.9}, {"unit": "linear power"}),
        ({"bands": 3, "names": ("red", "green", "nir08")}, {"unit": "reflectance", "scale": 0.0001}),
        ({"bands": 2, "names": ("Band 1", "Band 2")}, {"unit": ""}),
    ],
)
def test_units_by_type_names_and_values(tmp_path, options, expected):
    _, toml = guessed(tmp_path, write(**options))
    (image,) = toml["modalities"].values()
    assert {name: image[name] for name in ("unit", "scale") if name in image} == expected


def test_layers_with_names_are_taken_apart(tmp_path):
    names = ("blue", "red", "VV", "VH", "dem", "land_cover", "ndvi", "scl")

    def make(path, number):
        pixels = noise(8, 100, 3000, number, np.int16)
        pixels[2:4] = -pixels[2:4] // 100
        pixels[5] = np.where(pixels[5] > 1500, 10, 80)
        write_tif(path, pixels, names)

    guess, toml = guessed(tmp_path, make)
    assert {key: each.get("layers") for key, each in toml["modalities"].items()} == {
        "optical": [1, 2], "radar": [3, 4], "dem": [5]}  # fmt: skip
    assert toml["modalities"]["radar"]["unit"] == "dB"
    assert toml["targets"]["land_cover"]["layers"] == [6] and toml["targets"]["land_cover"]["no_data"] == [0]
    assert len(toml["targets"]["land_cover"]["classes"]) == len(LAND_COVER)
    assert "# [modalities.ndvi]" in guess.text and "scl" not in toml["modalities"]
    assert any("ndvi may be a target" in each for each in guess.guessed)


def test_layers_whose_names_mean_nothing_are_one_image(tmp_path):
    _, toml = guessed(tmp_path, write(names=("450 nm", "550 nm", "650 nm", "850 nm")))
    (image,) = toml["modalities"].values()
    assert image["bands"] == ["450 nm", "550 nm", "650 nm", "850 nm"]


@pytest.mark.parametrize(
    ("codes", "classes", "no_data"),
    [
        ((0, 1), ["no lake", "lake"], None),
        ((0, 255), ["no lake", "lake"], None),
        ((10, 30, 80), [each.name for each in LAND_COVER], [0]),
        ((0, 3, 7), ["class 0", "class 3", "class 7"], None),
        ((1, 2, 255), ["class 1", "class 2"], [255]),
    ],
)
def test_maps_by_their_codes(tmp_path, codes, classes, no_data):
    def make(path, number):
        pixels = np.full((SIDE, SIDE), codes[0], np.uint8)
        if number == 1:  # one file, which may not be among those that are looked at, has the other codes
            pixels[: len(codes), 0] = codes
        write_picture(path, pixels)

    _, toml = guessed(tmp_path, make, count=30, name="lake", suffix=".png")
    target = toml["targets"]["lake"]
    assert [*target["classes"].values()] == classes and target.get("no_data") == no_data


def test_what_is_no_map(tmp_path):
    even = lambda path, number: write_tif(path, np.full((SIDE, SIDE), 300 + number, np.int16))  # noqa: E731
    _, toml = guessed(tmp_path, even, name="dem")
    assert toml["modalities"]["dem"]["unit"] == "m" and "targets" not in toml
    below = lambda path, number: write_tif(path, np.full((SIDE, SIDE), -number, np.int16))  # noqa: E731
    assert "targets" not in guessed(tmp_path, below, name="depth")[1]
    assert "targets" not in guessed(tmp_path, even, name="grey", only_images=True)[1]


def test_numbers_that_are_no_measurement(tmp_path):
    def make(path, number, nodata=None):
        pixels = noise(1, 100, 900, number, np.int16)
        pixels[0, 0] = -9999 if nodata is None else nodata
        write_tif(path, pixels[0], nodata=nodata)

    assert guessed(tmp_path, make)[1]["modalities"]["chips"]["no_data"] == [-9999]
    tagged = guessed(tmp_path, lambda path, n: make(path, n, 7))
    assert tagged[1]["modalities"]["chips"]["no_data"] == [7]
    assert -9999 in guessed(tmp_path, write(np.int16, 1), name="dem")[1]["modalities"]["dem"]["no_data"]


def test_a_band_of_one_value_is_left_out(tmp_path):
    def make(path, number):
        pixels = noise(13, 100, 4000, number)
        pixels[10] = 0
        write_tif(path, pixels)

    guess, toml = guessed(tmp_path, make, 24)
    image = toml["modalities"]["chips"]
    assert len(image["bands"]) == 12 and "B10" not in image["bands"]
    assert image["layers"] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13]
    assert any("['B10']" in each and "left out" in each for each in guess.guessed)
    guess = describe(tmp_path, progress=False)
    assert not guess.problems and DescribedDataset(tmp_path, progress=False).inputs["chips"].bands[-1] == "B12"


def test_transparency_is_no_band(tmp_path):
    def make(path, number):
        write_picture(path, np.moveaxis(noise(4, 0, 255, number, np.uint8), 0, -1))

    _, toml = guessed(tmp_path, make, suffix=".png")
    assert toml["modalities"]["chips"]["bands"] == ["R", "G", "B"] and toml["modalities"]["chips"]["layers"] == [
        1,
        2,
        3,
    ]


def test_scales_of_the_files_are_left_to_them(tmp_path):
    guess, toml = guessed(tmp_path, write(scales=(0.5,) * 4))
    assert "scale" not in toml["modalities"]["chips"] and any("are applied" in each for each in guess.guessed)
    guess, toml = guessed(tmp_path, write(tags={"BOA_ADD_OFFSET": "-1000"}))
    assert "scale" not in toml["modalities"]["chips"] and "BOA_ADD_OFFSET -1000" in guess.problems[0]


def test_sizes_that_differ_are_made_one(tmp_path):
    make = lambda path, number: write_tif(path, np.tile(noise(4, 0, 4000, number), (1, 1 + number % 2, 1)))  # noqa: E731
    guess, toml = guessed(tmp_path, make)
    assert toml["modalities"]["chips"]["size"] == SIDE and any("2 sizes" in each for each in guess.guessed)


def test_large_files_are_read_coarsely(tmp_path):
    _, toml = guessed(tmp_path, lambda path, n: write_tif(path, np.full((3, 1100, 1100), 200 + n, np.uint16)), 2)
    assert toml["modalities"]["chips"]["unit"] == "reflectance"


def test_arrays_that_are_no_images(tmp_path):
    for wrong in (np.zeros((2, 2, 2, 2)), np.array(["a"]), np.zeros((0, 4, 4)), np.zeros((3, 4, 4), complex)):
        with pytest.raises(DescriptionError, match="cannot be read"):
            guessed(tmp_path, lambda path, _, wrong=wrong: (path.parent.mkdir(exist_ok=True), np.save(path, wrong)),
                    suffix=".npy")  # fmt: skip

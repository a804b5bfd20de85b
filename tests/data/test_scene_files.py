"""Which band of the model stands where in the files that somebody gives."""

import numpy as np
import pytest

from bengelib.data.scene import Scene
from bengelib.errors import ArgumentError, BandError, DataWarning, MissingModalityError
from bengelib.modalities import Modality
from tests.scenes import BANDS, S2, reflectances, write_scene

RADAR = Modality("radar", "image", ("VV", "VH"), (-12.0, -19.0), (5.0, 5.0), ("dB", "dB"))
DEM = Modality("dem", "image", ("elevation",), (230.0,), (260.0,), ("m",))
SEASON = Modality("season", "scalar", ("season",), (0.5,), (0.3,), ("1",))
WEATHER = Modality("weather", "vector", ("temperature", "wind"), (283.0, 1.0), (9.0, 4.0), ("K", "m/s"))
HEIGHT, WIDTH = 40, 50


@pytest.fixture
def pixels():
    return reflectances(HEIGHT, WIDTH)


def read(files, inputs, **options):
    """The whole scene, (k, H, W) by modality."""
    with Scene(files, inputs, **options) as scene:
        return scene.read(0, 0, HEIGHT, WIDTH)[0]


def optical(pixels):
    return pixels / np.float32(10_000)


def decibels(bands=2):
    random = np.random.default_rng(1)
    return (random.normal(-14, 3, (bands, HEIGHT, WIDTH))).astype(np.float32)


@pytest.mark.parametrize("names", [("B02", "B03", "B04"), ("B2", "b03", "Band 4"), ("band_2", "B-03", " B04 ")])
def test_bands_are_found_by_their_description_however_it_is_spelt(tmp_path, pixels, names):
    path = write_scene(tmp_path / "a.tif", pixels, names)
    np.testing.assert_allclose(read(path, {"s2": S2})["s2"], optical(pixels), rtol=1e-6)


def test_bands_are_found_in_whatever_order_and_among_others(tmp_path, pixels):
    more = np.concatenate([pixels[[2]], np.ones_like(pixels[:1]), pixels[[0]], pixels[[1]]])
    path = write_scene(tmp_path / "a.tif", more, ("B04", "B10", "B02", "B03"))
    np.testing.assert_allclose(read(path, {"s2": S2})["s2"], optical(pixels), rtol=1e-6)


def test_bands_are_named_where_the_files_do_not_or_otherwise(tmp_path, pixels):
    first = write_scene(tmp_path / "a.tif", pixels[[2, 0]], None)
    second = write_scene(tmp_path / "b.tif", pixels[[1, 1]], ("red", "mask"))
    found = read([first, second], {"s2": S2}, bands=("B04", "B02", "B03", "unused"))
    np.testing.assert_allclose(found["s2"], optical(pixels), rtol=1e-6)
    with pytest.raises(BandError, match=r"3 names of bands .* the files have 4 bands"):
        read([first, second], {"s2": S2}, bands=BANDS)


def test_a_file_a_band_by_key_or_by_the_name_of_the_file(tmp_path, pixels):
    paths = [
        write_scene(tmp_path / f"T33UUP_20170613T101031_{band}_10m.tif", pixels[[place]], None)
        for place, band in enumerate(BANDS)
    ]
    by_name = read(paths, {"s2": S2})
    by_key = read([f"{band}={path}" for band, path in zip(BANDS, paths, strict=True)], {"s2": S2})
    by_dict = read(dict(zip(BANDS, paths, strict=True)), {"s2": S2})
    for found in (by_name, by_key, by_dict):
        np.testing.assert_allclose(found["s2"], optical(pixels), rtol=1e-6)


def test_a_file_a_modality(tmp_path, pixels):
    radar = decibels()
    paths = {
        "s2": write_scene(tmp_path / "a.tif", pixels),
        "radar": write_scene(tmp_path / "b.tif", radar[::-1], ("VH", "VV")),
        "dem": write_scene(tmp_path / "c.tif", np.full((1, HEIGHT, WIDTH), 300, np.int16), None),
    }
    inputs = {"s2": S2, "radar": RADAR, "dem": DEM}
    for files in (paths, [f"{key}={path}" for key, path in paths.items()]):
        found = read(files, inputs)
        np.testing.assert_allclose(found["s2"], optical(pixels), rtol=1e-6)
        np.testing.assert_array_equal(found["radar"], radar)
        assert (found["dem"] == 300).all()
    renamed = tmp_path / "tile_dem.tif"
    paths["dem"].rename(renamed)
    assert (read([paths["s2"], paths["radar"], renamed], inputs)["dem"] == 300).all()  # by the end of its name


def test_bands_without_names_are_taken_in_order_with_a_warning_where_nothing_else_is_meant(tmp_path, pixels):
    path = write_scene(tmp_path / "a.tif", pixels, None)
    with pytest.warns(DataWarning, match=r"the bands of .*a\.tif have no names.*B02.*--bands"):
        found = read(path, {"s2": S2})
    np.testing.assert_allclose(found["s2"], optical(pixels), rtol=1e-6)
    radar = write_scene(tmp_path / "b.tif", decibels(), ("VV", "VH"))
    with pytest.warns(DataWarning, match="have no names"):
        read({"s2": path, "radar": radar}, {"s2": S2, "radar": RADAR})
    with pytest.raises(BandError, match="no file has it"):  # which of the two sensors is not guessed
        read([path, radar], {"s2": S2, "radar": RADAR})
    single = write_scene(tmp_path / "height.tif", np.full((1, HEIGHT, WIDTH), 300, np.int16), None)
    with pytest.warns(DataWarning, match="have no names"):
        read(single, {"dem": DEM})
    more = write_scene(tmp_path / "c.tif", reflectances(HEIGHT, WIDTH, 4), None)
    with pytest.raises(BandError, match=r"unnamed, unnamed, unnamed, unnamed"):
        read(more, {"s2": S2})


@pytest.mark.parametrize("case", ["missing", "twice in a file", "in two files", "of another modality"])
def test_a_band_that_is_not_there_or_more_than_once_is_named(tmp_path, pixels, case):
    names = {"missing": ("B02", "B03", "B05"), "twice in a file": ("B02", "B03", "B03")}.get(case, BANDS)
    first = write_scene(tmp_path / "a.tif", pixels, names)
    second = write_scene(tmp_path / "b.tif", pixels[:1], ("B02",))
    files = {"in two files": [first, second], "of another modality": {"radar": first}}.get(case, [first])
    inputs = {"s2": S2, "radar": RADAR} if case == "of another modality" else {"s2": S2}
    band, words = {
        "missing": ("B04", "no file has it"),
        "twice in a file": ("B03", "it is there more than once"),
        "in two files": ("B02", "it is there more than once"),
        "of another modality": ("B02", "no file has it"),
    }[case]
    with pytest.raises(
        BandError, match=rf"reads band '{band}' of 's2', and {words}.*a\.tif: B02.*--bands.*gdalbuildvrt"
    ):
        read(files, inputs)


def test_values_of_what_is_no_image(tmp_path, pixels):
    path = write_scene(tmp_path / "a.tif", pixels)
    inputs = {"s2": S2, "season": SEASON, "weather": WEATHER}
    for files in ([path, "season=0.25", "weather=280,3.5"], {"s2": path, "season": 0.25, "weather": (280, 3.5)}):
        with Scene(files, inputs) as scene:
            assert scene.vectors["season"].tolist() == [0.25] and scene.vectors["weather"].tolist() == [280.0, 3.5]
    with pytest.raises(MissingModalityError, match=r"reads \['weather'\].*weather=0\.5,0\.5"):
        read([path, "season=1"], inputs)
    for wrong in ("season=warm", "season=0.1,0.2", "season=nan"):
        with pytest.raises(ArgumentError, match="season="):
            read([path, wrong, "weather=280,3"], inputs)


def test_keys_that_mean_nothing(tmp_path, pixels):
    path = write_scene(tmp_path / "a.tif", pixels)
    with pytest.raises(ArgumentError, match=r"a file for 's3'; the model reads \['s2'\]"):
        read({"s3": path}, {"s2": S2})
    with pytest.raises(ArgumentError, match="no file was given"):
        read(["season=1"], {"s2": S2, "season": SEASON})
    with pytest.raises(ArgumentError, match=r"scale or offset for \['s1'\]"):
        read(path, {"s2": S2}, scale={"s1": 1.0})
    with pytest.raises(BandError, match=r"none of them is an image"):
        read([path], {"season": SEASON})
    odd = write_scene(tmp_path / "x=1.tif", pixels)
    read(odd, {"s2": S2})  # an equals sign alone makes no key

"""What is possible and what is plausible: real and odd but right values pass, those of another unit do not."""

import warnings

import numpy as np
import pytest

from bengelib.bands import LAND_COVER_NAMES
from bengelib.data.plausible import COLUMNS, LIMITS, check_together, check_values, impossible
from bengelib.errors import DataWarning, RasterError, TableError

RNG = np.random.default_rng(0)
DECIBELS = RNG.normal(-12, 4, (120, 120)).astype(np.float32)
NUMBERS = RNG.integers(120, 3000, (120, 120)).astype(np.uint16)


def bright(pixels, value, count=40):
    pixels = pixels.copy()
    pixels.flat[:count] = value
    return pixels


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("s1", DECIBELS),
        ("s1", bright(DECIBELS, 34.6)),  # corner reflectors: the brightest pixel of BigEarthNet
        ("s1", bright(DECIBELS, -75.1)),  # and the darkest
        ("s1", DECIBELS + 11),  # a city
        ("s2", NUMBERS),
        ("s2", bright(NUMBERS, 20_528)),  # the brightest cloud of BigEarthNet
        ("s2", np.full((20, 20), 1, dtype=np.uint16)),  # dark water
        ("s2", np.full((20, 20), 9_000, dtype=np.uint16)),  # snow
        ("dem", np.full((120, 120), -430, dtype=np.int16)),  # the shore of the Dead Sea
        ("dem", np.full((120, 120), 0, dtype=np.int16)),  # the sea
        ("dem", np.linspace(700, 2500, 14400, dtype=np.float32)),  # a face of the Alps
        ("lonlat", np.array([[-8.99348, 36.96243], [31.58638, 68.0161]])),
        ("lonlat", np.array([[-73.9, 40.7], [151.2, -33.9], [180.0, 90.0]])),  # other continents
        ("season", np.array([0.0, 0.00146, 0.5, 1.0])),
        ("weather", np.array([[261.625, -25, 30, 0.4, 700], [304.03, 3, -1, 104, 1000]])),
        ("land_cover_fractions", np.eye(11)[:3]),
        ("land_cover_fractions", np.full((2, 11), np.float32(1 / 11), dtype=np.float64)),
        ("climate_zone", np.array([0, 29])),  # has no limits here
        ("season", np.array([])),
        ("lonlat", np.empty((0, 2))),
    ],
)
def test_values_that_are_right_pass_without_a_word(key, values):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_values(key, values, "file")


@pytest.mark.parametrize(
    ("key", "values", "words"),
    [
        ("s1", 10 ** (DECIBELS / 10), "linear power"),
        ("s1", 10 ** (DECIBELS / 10) - 0.003, "linear power"),  # noise taken off: a little below 0
        ("s1", 10 ** (DECIBELS / 20), "amplitude"),
        ("s1", 200 * 10 ** (DECIBELS / 20), "amplitude"),
        ("s1", -DECIBELS + 30, "amplitude"),  # the sign was lost
        ("s1", DECIBELS / 10, "10 [*] log10"),  # bels
        ("s1", np.clip((DECIBELS + 25) / 25, 0, 1), "linear power"),  # made ready for a network
        ("s1", DECIBELS * 100, "outside -100 to 60 dB"),
        ("s1", bright(DECIBELS, np.nan), "nan"),
        ("s1", bright(DECIBELS, -9999), "40 of 14400 .* -9999"),
        ("s1", np.zeros_like(DECIBELS), "no data"),
        ("s2", bright(NUMBERS, 100) - np.uint16(1000), "wrapped around"),
        ("s2", bright(NUMBERS, 65_535), "fill value"),
        ("s2", bright(NUMBERS, 55_537), "55537"),  # -9999 in 16 bits
        ("dem", bright(NUMBERS.astype(np.int16), -9999), "outside -500 to 9000 m"),
        ("dem", bright(NUMBERS.astype(np.float32), np.nan), "nan"),
    ],
)
def test_pixels_that_cannot_be_are_refused_with_the_likely_cause(key, values, words):
    with pytest.raises(RasterError, match=words) as error:
        check_values(key, values, "patch/band.tif")
    assert str(error.value).startswith("patch/band.tif ")


@pytest.mark.parametrize(
    ("key", "values", "words"),
    [
        ("lon", [2566137.0], "2566137.*decimal point"),
        ("lon", [12.0, 352.5], "352.5.*360"),
        ("lat", [11.0, 120.0], "swapped"),
        ("season", [0.5, 63.7], "per cent"),
        ("season", [163.0, 12.0], "days of the year"),
        ("temperature", [11.5, -3.0], "Celsius"),
        ("temperature", [285.0, 11.5], "Celsius"),  # only some rows
        ("temperature", [52.0, 75.0], "Fahrenheit"),
        ("temperature", [-9999.0, 285.0], "fill"),
        ("pressure_level", [100_000.0, 92_500.0], "pascals"),
        ("pressure_level", [100.0, 92.5], "kilopascals"),
        ("wind", [3.0, 9999.0], "9999"),
        ("relative_humidity", [70.0, -9999.0], "-9999"),
        ("share", [25.0, 75.0], "per cent"),
        ("share", [0.0, 7_200.0], "numbers of pixels"),
        ("share", [-0.1, 1.1], "outside 0 to 1"),
    ],
)
def test_values_of_tables_that_cannot_be_are_refused_with_the_likely_cause(key, values, words):
    with pytest.raises(TableError, match=words):
        check_values(key, np.array(values), "table.csv, column x,")


@pytest.mark.parametrize(
    ("key", "values", "words"),
    [
        ("s1", bright(DECIBELS, 50), "50 dB"),
        ("s2", bright(NUMBERS, 30_000), "30000"),
        ("dem", bright(NUMBERS.astype(np.int16), 8888), "fill value"),
        ("relative_humidity", np.array([0.4, 0.9]), "shares: multiply by 100"),
        ("wind", np.array([80.0]), "Kilometres"),
        ("lonlat", np.array([[45.5, 19.4], [62.6, 30.0]]), "swapped"),
        ("lonlat", np.array([[19.4, 45.5], [0.0, 0.0]]), "0, 0"),
        ("land_cover_fractions", np.full((3, 11), 0.05), "3 rows .* add up"),
    ],
)
def test_values_that_hardly_can_be_are_used_with_a_warning(key, values, words):
    with pytest.warns(DataWarning, match=words):
        check_values(key, values, "a file")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_values(key, values, "a file", warn=False)


def test_the_places_of_impossible_values_are_told():
    bad, words = impossible("season", np.array([0.2, 1.5, np.nan, 0.3]))
    assert bad.tolist() == [False, True, True, False]
    assert "2 of 4" in words and "1.5" in words


def test_every_column_has_limits():
    assert {kind for columns in COLUMNS.values() for kind in columns.values()} <= set(LIMITS)
    assert tuple(COLUMNS["land_cover_fractions"]) == LAND_COVER_NAMES


class TestManyPatches:
    """What one patch cannot tell."""

    @pytest.fixture
    def arrays(self):
        random = np.random.default_rng(1)
        sizes = {"s2_10m": (4, 120), "s2_20m": (6, 60), "s2_60m": (2, 20)}
        arrays = {
            name: random.integers(90, 4000, (12, bands, size, size)).astype(np.uint16)
            for name, (bands, size) in sizes.items()
        }
        radar = random.normal(0, 4, (12, 2, 120, 120)) + np.array([-12, -19])[:, None, None]
        return {**arrays, "s1": radar.astype(np.float16)}

    def check(self, arrays):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check_together(arrays, "tree")

    def raised(self, arrays, rows):
        """The offset of baseline 04.00 on some patches, as it is delivered: 0 stays 0."""
        return {
            name: np.where((np.isin(np.arange(12), rows)[:, None, None, None]) & (a > 0), a + 1000, a).astype(a.dtype)
            if name != "s1"
            else a
            for name, a in arrays.items()
        }

    def test_ordinary_ones_pass(self, arrays):
        self.check(arrays)
        self.check({name: a[:0] for name, a in arrays.items()})
        self.check({})

    def test_one_cloud_passes(self, arrays):
        self.check(self.raised(arrays, [3]))

    def test_an_offset_in_all_is_refused(self, arrays):
        arrays["s2_10m"][:, :, :5] = 0  # no data
        with pytest.raises(RasterError, match=r"12 of 12 .* tree .*04\.00.*take 1000 off"):
            check_together(self.raised(arrays, range(12)), "tree")

    def test_an_offset_in_some_is_told(self, arrays):
        with pytest.warns(DataWarning, match=r"5 of 12 .*04\.00"):
            check_together(self.raised(arrays, [0, 1, 4, 7, 9]), "tree")

    def test_patches_that_were_left_out_do_not_count(self, arrays):
        raised = self.raised(arrays, range(12))
        for array in raised.values():
            array[4:] = 0
        with pytest.warns(DataWarning, match="4 of 4"):  # too few to refuse
            check_together(raised, "tree")

    @pytest.mark.parametrize("divisor", [10, 16, 40, 100])
    def test_eight_bits_and_values_that_were_divided_are_told(self, arrays, divisor):
        arrays["s2_10m"][5, :, :9] = 20_000  # one cloud
        arrays = {name: a if name == "s1" else (a // divisor).astype(np.uint16) for name, a in arrays.items()}
        with pytest.warns(DataWarning, match=r"1[12] of 12 .* no pixel of 1000 .*eight bits.* divided"):
            check_together(arrays, "tree")

    def test_open_water_in_most_patches_passes(self, arrays):
        for name in ("s2_10m", "s2_20m", "s2_60m"):
            arrays[name][:10] //= 16
        self.check(arrays)

    def test_polarisations_with_each_others_names_are_told(self, arrays):
        with pytest.warns(DataWarning, match=r"12 of 12 .*VH is brighter than VV, by 7\.0 dB"):
            check_together({"s1": arrays["s1"][:, ::-1]}, "tree")

    def test_a_sample_is_enough(self, arrays):
        with pytest.warns(DataWarning, match="8 of 8 Sentinel-1"):
            check_together({"s1": np.concatenate([arrays["s1"][:, ::-1]] * 2)}, "tree", sample=9)

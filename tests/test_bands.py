import colorsys
import math

import pytest

from bengelib import bands

# Index of each of the 43 level-3 classes among the 19 (BigEarthNet; the dropped ones are absent).
INDEX_19_OF_43 = {
    0: 0, 1: 0, 2: 1, 11: 2, 12: 2, 13: 2, 14: 3, 15: 3, 16: 3, 18: 3, 17: 4, 19: 5, 20: 6, 21: 7, 22: 8, 23: 9,
    24: 10, 25: 11, 31: 11, 26: 12, 27: 12, 28: 13, 29: 14, 33: 15, 34: 15, 35: 16, 36: 16, 38: 17, 39: 17, 40: 18,
    41: 18, 42: 18,
}  # fmt: skip
# BigEarthNet v1 in digital numbers and decibels, as published with SSL4EO-S12 and bigearthnet_common.
PUBLISHED_S2 = {
    "B01": (340.76769064, 554.81258967), "B02": (429.9430203, 572.41639287), "B03": (614.21682446, 582.87945694),
    "B04": (590.23569706, 675.88746967), "B05": (950.68368468, 729.89827633), "B06": (1792.46290469, 1096.01480586),
    "B07": (2075.46795189, 1273.45393088), "B08": (2218.94553375, 1365.45589904),
    "B8A": (2266.46036911, 1356.13789355), "B09": (2246.0605464, 1302.3292881), "B11": (1594.42694882, 1079.19066363),
    "B12": (1009.32729131, 818.86747235),
}  # fmt: skip
PUBLISHED_S1 = {"VV": (-12.619993741972035, 5.115911777546365), "VH": (-19.29044597721542, 5.464428464912864)}


def is_colour(text):
    return len(text) == 7 and text[0] == "#" and int(text[1:], 16) >= 0


def test_corine_43_to_19_is_the_table_of_bigearthnet():
    found = {
        bands.CORINE_43.index(level3): bands.CORINE_19.index(name)
        for name, parts in bands.CORINE_19_FROM_43.items()
        for level3 in parts
    }
    assert found == INDEX_19_OF_43


def test_corine_lists_are_complete_and_without_repetition():
    assert len(bands.CORINE_43) == len(set(bands.CORINE_43)) == 43
    assert len(bands.CORINE_19) == len(set(bands.CORINE_19)) == 19
    dropped = set(range(43)) - set(INDEX_19_OF_43)
    assert dropped == {3, 4, 5, 6, 7, 8, 9, 10, 30, 32, 37}  # the eleven that the docstring names
    assert bands.CORINE_43[37] == "Intertidal flats" and bands.CORINE_43[42] == "Sea and ocean"
    assert bands.CORINE_19[13] == "Transitional woodland, shrub"  # spelt with a comma here, with a slash among the 43
    assert bands.CORINE_43[28] == "Transitional woodland/shrub"


def test_s2_bands_are_those_of_level_2a_in_the_order_on_disk():
    assert bands.S2_BANDS == ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
    by_resolution = {
        resolution: {name for name, band in bands.S2.items() if band.resolution == resolution}
        for resolution in (10, 20, 60)
    }
    assert by_resolution == {
        10: {"B02", "B03", "B04", "B08"},
        20: {"B05", "B06", "B07", "B8A", "B11", "B12"},
        60: {"B01", "B09"},
    }


def test_wavelengths_grow_with_the_order():
    wavelengths = [band.wavelength for band in bands.S2.values()]
    assert wavelengths == sorted(wavelengths)
    assert bands.S2["B04"].wavelength == pytest.approx(665, abs=1)


@pytest.mark.parametrize("name", PUBLISHED_S2)
def test_s2_statistics_are_the_published_ones_as_reflectance(name):
    mean, std = PUBLISHED_S2[name]
    assert bands.S2[name].mean == pytest.approx(mean / 10_000, rel=1e-6)
    assert bands.S2[name].std == pytest.approx(std / 10_000, rel=1e-6)


@pytest.mark.parametrize("name", PUBLISHED_S1)
def test_s1_statistics_are_the_published_ones(name):
    assert bands.S1[name] == pytest.approx(PUBLISHED_S1[name], rel=1e-6)


def test_s1_bands_are_vv_then_vh():
    assert bands.S1_BANDS == ("VV", "VH")


def test_rgb_is_red_green_blue():
    red, green, blue = (bands.S2[name].wavelength for name in bands.RGB_BANDS)
    assert red > 620 > green > 500 > blue


def test_land_cover_legend_is_that_of_worldcover():
    assert [entry.code for entry in bands.LAND_COVER] == [10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 100]
    assert bands.LAND_COVER_NAMES[0] == "tree_cover" and bands.LAND_COVER_NAMES[-1] == "moss_and_lichen"
    assert bands.LAND_COVER_NO_DATA_CODE not in [entry.code for entry in bands.LAND_COVER]
    assert len(bands.LAND_COVER) <= bands.IGNORE_INDEX
    published = {10: (0, 100, 0), 40: (240, 150, 255), 50: (250, 0, 0), 80: (0, 100, 200), 100: (250, 230, 160)}
    for entry in bands.LAND_COVER:
        assert is_colour(entry.colour)
        if entry.code in published:
            assert tuple(bytes.fromhex(entry.colour[1:])) == published[entry.code]


def test_climate_zones_are_the_twelve_of_ben_ge_in_order_of_code():
    codes = [zone.code for zone in bands.CLIMATE_ZONES]
    assert codes == [0, 7, 8, 9, 14, 15, 16, 18, 25, 26, 27, 29]
    symbols = ("water", "BSk", "Csa", "Csb", "Cfa", "Cfb", "Cfc", "Dsb", "Dfa", "Dfb", "Dfc", "ET")
    assert symbols == bands.CLIMATE_ZONE_SYMBOLS
    assert all(is_colour(zone.colour) for zone in bands.CLIMATE_ZONES)


def test_climate_zone_labels_say_what_the_symbol_says():
    """The letters of a Koeppen-Geiger symbol: main group, then dry season, then heat of the summer."""
    groups = {"B": "Arid", "C": "Temperate", "D": "Cold", "E": "Polar"}
    seasons = {"s": "dry", "f": "no dry season"}
    summers = {"a": "hot summer", "b": "warm summer", "c": "cold summer"}
    for zone in bands.CLIMATE_ZONES[1:]:
        assert zone.label.startswith(groups[zone.symbol[0]])
        if zone.symbol[0] in "CD":
            assert seasons[zone.symbol[1]] in zone.label and summers[zone.symbol[2]] in zone.label


@pytest.mark.parametrize("legend", [bands.LAND_COVER, bands.CLIMATE_ZONES], ids=["land cover", "climate zones"])
def test_colours_of_a_legend_differ(legend):
    colours = [tuple(channel / 255 for channel in bytes.fromhex(entry.colour[1:])) for entry in legend]
    distances = [math.dist(a, b) for place, a in enumerate(colours) for b in colours[:place]]
    assert min(distances) > 0.05
    assert len({colorsys.rgb_to_hls(*colour) for colour in colours}) == len(legend)


def test_weather_columns_name_the_acquisition_except_the_level():
    columns = [variable.column.format(time="s1") for variable in bands.WEATHER.values()]
    assert columns == ["temperature_s1", "wind-u_s1", "wind-v_s1", "relhumidity_s1", "atmpressure_level"]
    assert [variable.unit for variable in bands.WEATHER.values()] == ["K", "m/s", "m/s", "%", "hPa"]
    assert all(variable.std > 0 for variable in bands.WEATHER.values())

"""Tags are known by the words in their names: those that change values, and those that only look like them."""

import pytest

from bengelib.data.value_tags import check_value_tags
from bengelib.errors import RasterError


def refused(name, text):
    with pytest.raises(RasterError, match=r"dem\.tif has tags that scale or shift its values") as error:
        check_value_tags("dem.tif", [("AREA_OR_POINT", "Area"), (name, text)])
    assert f"{name} {text}" in str(error.value)


FACTORS = [
    *("scale", "SCALE", "scale_factor", "ScaleFactor", "SCALEFACTOR", "reflectance_scale", "B02#scale_factor"),
    *("GAIN", "gains", "radiometricGain", "BAND_2_GAIN", "rescale", "SCALING_FACTOR", "REFLECTANCE_MULT_BAND_2"),
    *("slope", "dataScale", "offset_scale", "PRODUCT_SCALE_B8A"),
]
TERMS = [
    *("offset", "add_offset", "addOffset", "ADDOFFSET", "BOA_ADD_OFFSET", "BOA_ADD_OFFSET_B02", "RADIO_ADD_OFFSET"),
    *("BIAS", "bias_correction", "rescaleBias", "SCALING_OFFSET", "reflectance_offset", "intercept"),
    *("REFLECTANCE_ADD_BAND_2", "RADIOOFFSET", "scale_offset"),
]


@pytest.mark.parametrize(("name", "neutral"), [*((name, 1) for name in FACTORS), *((name, 0) for name in TERMS)])
def test_a_scale_or_an_offset_in_whatever_words(name, neutral):
    for text in ("0.0001", "-1000", "0,0001", str(1 - neutral), "1 1", "[0.5]", "nan", "linear", "{1}", "true"):
        refused(name, text)
    for text in (str(neutral), f"{neutral}.0", f" {neutral}e0 ", "", "none", "False"):
        assert check_value_tags("dem.tif", [(name, text)]) == []


@pytest.mark.parametrize(
    "name",
    [
        *("STATISTICS_MEAN", "STATISTICS_STDDEV", "STATISTICS_VALID_PERCENT", "AREA_OR_POINT", "TIFFTAG_SOFTWARE"),
        *("BOA_QUANTIFICATION_VALUE", "REFLECTANCE_CONVERSION_U", "NODATA_PIXEL_PERCENTAGE", "PHYSICAL_GAINS"),
        *("SPECIAL_VALUE_SATURATED", "product_tile", "legend", "license", "time_start", "LINE_SPACING", "ADDRESS"),
        *("UTC_OFFSET", "acquisitionTimeOffset", "x_offset", "OffsetY", "map_scale", "nominal_scale", "GRAYSCALE"),
        *("gray_scale", "colorscale", "scale_units", "RESAMPLING", "DOWNSCALED", "additional_info", "multitemporal"),
        *("unbiased", "BAND_AGAIN", "timescale"),
    ],
)
def test_words_that_only_look_like_them(name):
    for text in ("3.7", "Area", "0,5", "nan"):
        assert check_value_tags("dem.tif", [(name, text)]) == []


@pytest.mark.parametrize(
    "name",
    [
        *("_FillValue", "FillValue", "fill_value", "FILLVALUE", "missing_value", "missingValue", "B02#_FillValue"),
        *("NODATA", "NO_DATA", "noDataValue", "no_data_value", "SPECIAL_VALUE_NODATA", "_FillValue_B02", "nodata_1"),
    ],
)
def test_words_for_no_data(name):
    tags = [(name, text) for text in ("-9999", "None", "0")]  # of the file and of its band
    assert check_value_tags("dem.tif", tags) == [-9999, 0]
    with pytest.raises(RasterError, match=rf"dem\.tif has a no-data value that is not a number, {name} '0,1'"):
        check_value_tags("dem.tif", [(name, "0,1")])

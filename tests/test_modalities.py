from dataclasses import replace

import pytest

from bengelib.bands import S2
from bengelib.errors import BandError
from bengelib.modalities import MODALITIES, Modality, as_modalities, as_modality, require_same

PLANET = Modality(
    "planet", "image", ("blue", "green", "red", "nir"), (0.1, 0.2, 0.3, 0.4), (0.1, 0.1, 0.2, 0.2), ("reflectance",) * 4
)


def test_ben_ge_is_described_by_its_facts():
    assert list(MODALITIES) == ["s2", "s1", "dem", "weather", "season", "lonlat"]
    assert MODALITIES["s2"].mean[3] == S2["B04"].mean and MODALITIES["s2"].wavelengths[3] == S2["B04"].wavelength
    assert {name: set(modality.unit) for name, modality in MODALITIES.items()} == {
        "s2": {"reflectance"},
        "s1": {"dB"},
        "dem": {"m"},
        "weather": {"K", "m/s", "%", "hPa"},
        "season": {"1"},
        "lonlat": {"degree"},
    }


def test_bands_are_taken_by_name_in_the_order_asked_for():
    taken = PLANET.take(("nir", "red"))
    assert (taken.bands, taken.mean, taken.std) == (("nir", "red"), (0.4, 0.3), (0.2, 0.2))
    assert PLANET.take(()) == PLANET.take(PLANET.bands) == PLANET
    wind = as_modality("weather", ("wind_v", "wind_u"))
    assert wind.bands == ("wind_v", "wind_u") and wind.all_columns == MODALITIES["weather"].bands


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "cube"}, "unknown kind 'cube'"),
        ({"bands": "RGB"}, "is a sequence"),
        ({"bands": ()}, "name of its own"),
        ({"bands": ("red", "red", "green", "nir")}, "name of its own"),
        ({"kind": "scalar"}, "expected one"),
        ({"mean": (1.0,)}, "4 bands, but as mean"),
        ({"unit": ("m",)}, "4 bands, but as unit"),
        ({"std": (0.1, 0.1, 0.0, 0.1)}, "band red .* A constant band"),
        ({"mean": (0.1, float("nan"), 0.3, 0.4)}, "band green"),
        ({"columns": ("blue", "green")}, "not all among its columns"),
    ],
)
def test_facts_that_contradict_each_other_are_refused(change, words):
    with pytest.raises(BandError, match=words):
        replace(PLANET, **change)


def test_unknown_names_are_refused_with_the_choices():
    with pytest.raises(BandError, match=r"no bands \['swir'\].*nir"):
        PLANET.take(("red", "swir"))
    with pytest.raises(BandError, match=r"no statistics for 'planet'.*dataset.inputs"):
        as_modality("planet", ("red",))
    with pytest.raises(BandError, match="empty"):
        as_modalities({})
    assert as_modality("other", PLANET).name == "other"


def test_a_model_takes_the_data_that_it_was_made_for():
    require_same({"planet": PLANET, "s2": ("B04",)}, {"planet": PLANET})
    require_same({"weather": ("wind_u",)}, MODALITIES)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (PLANET.take(("red", "green", "blue", "nir")), "same order"),
        (PLANET.take(("blue", "green")), "same bands"),
        (replace(PLANET, kind="vector"), "as image .* gives vector"),
        (replace(PLANET, unit=("reflectance", "reflectance", "DN", "DN")), "band red of planet in 'reflectance'.*'DN'"),
    ],
    ids=["order", "bands", "kind", "unit"],
)
def test_other_bands_orders_kinds_and_units_are_refused(data, words):
    with pytest.raises(BandError, match=words):
        require_same({"planet": PLANET}, {"planet": data})


def test_other_columns_of_a_vector_are_refused():
    fewer = MODALITIES["weather"].take(("wind_u",))
    with pytest.raises(BandError, match="weather"):
        require_same({"weather": ("wind_u",)}, {"weather": replace(fewer, columns=("wind_u", "wind_v"))})

"""The tables of codes: each band and each zone, in words that agree with the facts of the package."""

from bengelib.bands import CLIMATE_ZONES, S1_BANDS, S2, S2_BANDS
from bengelib.course.legends import BANDS, band_table, climate_table


def test_every_band_has_its_wavelength_resolution_and_a_use():
    table = band_table()
    assert list(table.index) == [*S2_BANDS, *S1_BANDS] == list(BANDS)
    assert table.loc["B08", "wavelength"] == "833 nm" and table.loc["B11", "resolution"] == "20 m"
    assert (table["shows"].str.len() > 10).all()
    near = [name for name, band in S2.items() if 780 < band.wavelength < 1000]
    assert all("infrared" in table.loc[name, "light"] for name in near if name != "B07")


def test_the_letters_of_a_zone_say_what_its_label_says():
    table = climate_table()
    assert list(table.index) == [zone.symbol for zone in CLIMATE_ZONES]
    assert list(table["index"]) == list(range(len(CLIMATE_ZONES)))
    for zone in CLIMATE_ZONES[1:]:
        row = table.loc[zone.symbol]
        assert zone.label.lower().startswith(row["climate"])
        assert row["summer"].partition(":")[0] in zone.label
    assert "dry" in table.loc["Csa", "rain"] and "hot" in table.loc["Csa", "summer"]
    assert table.loc["water", "climate"] == "" and table.loc["water", "in words"] == "Water"

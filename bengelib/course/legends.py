"""Tables that a lab shows where a code is first used: the bands of both satellites, and the climate zones."""

import pandas as pd

from bengelib.bands import CLIMATE_ZONES, S1, S2

BANDS: dict[str, tuple[str, str]] = {
    "B01": ("violet (coastal aerosol)", "haze, and the bottom of shallow water"),
    "B02": ("blue", "water and its depth; with B03 and B04 the true colours"),
    "B03": ("green", "vigour of plants, and murky water"),
    "B04": ("red", "chlorophyll, which absorbs it: plants are dark, soil is bright"),
    "B05": ("red edge", "how much chlorophyll: the foot of the rise from red to infrared"),
    "B06": ("red edge", "kind and state of plants: the middle of the rise"),
    "B07": ("red edge", "leaf area: the top of the rise"),
    "B08": ("near infrared", "leaves, which reflect half of it; water is black"),
    "B8A": ("near infrared, narrow", "as B08, without the water vapour in the air"),
    "B09": ("near infrared (water vapour)", "water vapour in the air more than the ground"),
    "B11": ("shortwave infrared", "moisture of soil and leaves; snow is dark, clouds are bright"),
    "B12": ("shortwave infrared", "dry soil, rock and burnt ground"),
    "VV": ("radar, sent and received vertically", "roughness: calm water is dark, towns are bright"),
    "VH": ("radar, sent vertically, received horizontally", "volume: crowns of trees, crops"),
}
"""Light and use of each band (ESA Sentinel-2 user handbook 2015; ESA Sentinel-1 handbook 2013)."""

RADAR_WAVELENGTH = "5.5 cm"
"""Of Sentinel-1, C band, 5.405 GHz."""


def band_table() -> pd.DataFrame:
    """The twelve bands of Sentinel-2 and both polarisations of Sentinel-1 that ben-ge has.

    Returns:
        One row per band, by name: satellite, kind of light, wavelength, resolution on the ground, use.
    """
    rows = [("Sentinel-2", name, f"{band.wavelength} nm", f"{band.resolution} m") for name, band in S2.items()]
    rows += [("Sentinel-1", name, RADAR_WAVELENGTH, "10 m pixels") for name in S1]
    found = [(name, satellite, BANDS[name][0], wave, size, BANDS[name][1]) for satellite, name, wave, size in rows]
    columns = ["band", "satellite", "light", "wavelength", "resolution", "shows"]
    return pd.DataFrame(found, columns=columns).set_index("band")


SUMMERS = {"a": "hot: the warmest month has 22 °C or more", "b": "warm: four months or more have 10 °C or more",
           "c": "cold: one to three months have 10 °C or more"}  # fmt: skip
RAINS = {"s": "dry summer", "f": "no dry season", "S": "steppe"}
KINDS = {"B": "arid", "C": "temperate", "D": "cold", "E": "polar"}


def climate_table() -> pd.DataFrame:
    """The climate zones of ben-ge in words, letter by letter (Beck et al. 2018, table 2).

    Returns:
        One row per zone, by symbol: index in the target, climate, rain, summer, and a description.
    """
    rows = []
    for index, zone in enumerate(CLIMATE_ZONES):
        kind, rain, summer = list((zone.symbol if zone.code else "").ljust(3))[:3]
        rows.append((zone.symbol, index, KINDS.get(kind, ""), RAINS.get(rain, ""), SUMMERS.get(summer, ""), zone.label))
    return pd.DataFrame(rows, columns=["symbol", "index", "climate", "rain", "summer", "in words"]).set_index("symbol")

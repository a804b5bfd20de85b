"""Facts about the ben-ge data: bands, units, statistics and legends. Nothing here reads data.

Everything is looked up by name. Sources: BigEarthNet (Sumbul et al. 2019, arXiv:1902.06148; Sumbul et al. 2021,
arXiv:2105.07921), ben-ge (Mommert et al. 2023, arXiv:2307.01741), ESA WorldCover (Zanaga et al. 2021,
doi:10.5281/zenodo.5571936), Koeppen-Geiger maps (Beck et al. 2018, doi:10.1038/sdata.2018.214).
"""

from typing import NamedTuple

PATCH_SIZE = 120
"""Pixels along one side of a patch at 10 m, that is 1200 m."""

REFLECTANCE_SCALE = 10_000
"""Digital numbers (DN) of a Sentinel-2 Level-2A file for a surface reflectance of 1."""


class Band(NamedTuple):
    """One Sentinel-2 band: `resolution` in metres, `wavelength` (centre) in nanometres, statistics as reflectance."""

    resolution: int
    wavelength: int
    mean: float
    std: float


# Mean and standard deviation over BigEarthNet v1 (DN / 10000); wavelengths of Sentinel-2A, ESA Sentinel-2 handbook.
S2: dict[str, Band] = {
    "B01": Band(60, 443, 0.034076769, 0.055481259),
    "B02": Band(10, 492, 0.042994302, 0.057241639),
    "B03": Band(10, 560, 0.061421682, 0.058287946),
    "B04": Band(10, 665, 0.059023570, 0.067588747),
    "B05": Band(20, 704, 0.095068368, 0.072989828),
    "B06": Band(20, 740, 0.179246290, 0.109601481),
    "B07": Band(20, 783, 0.207546795, 0.127345393),
    "B08": Band(10, 833, 0.221894553, 0.136545590),
    "B8A": Band(20, 865, 0.226646037, 0.135613789),
    "B09": Band(60, 945, 0.224606055, 0.130232883),
    "B11": Band(20, 1614, 0.159442695, 0.107919066),
    "B12": Band(20, 2202, 0.100932729, 0.081886747),
}
S2_BANDS: tuple[str, ...] = tuple(S2)
"""The twelve Level-2A bands in the order of their names on disk; B10 (cirrus) is not part of Level-2A."""

RGB_BANDS = ("B04", "B03", "B02")

S1: dict[str, tuple[float, float]] = {"VV": (-12.61999374, 5.11591178), "VH": (-19.29044598, 5.46442846)}
"""Mean and standard deviation in decibels over BigEarthNet v1, by polarisation."""
S1_BANDS: tuple[str, ...] = tuple(S1)


class Variable(NamedTuple):
    """One ERA-5 variable: CSV `column` ({time} stands for s2 or s1), unit, and a mean and spread to normalise with."""

    column: str
    unit: str
    mean: float
    std: float


# Means and spreads are round numbers for Europe, not fitted to ben-ge: they only bring values near 0 +- 1.
WEATHER: dict[str, Variable] = {
    "temperature": Variable("temperature_{time}", "K", 283.0, 9.0),
    "wind_u": Variable("wind-u_{time}", "m/s", 1.0, 4.0),
    "wind_v": Variable("wind-v_{time}", "m/s", 0.5, 4.0),
    "relative_humidity": Variable("relhumidity_{time}", "%", 70.0, 18.0),
    "pressure_level": Variable("atmpressure_level", "hPa", 980.0, 30.0),
}

DEM_MEAN_STD = (230.0, 260.0)
"""Metres: round numbers for the elevation of ben-ge's ten countries; they only bring values near 0 +- 1."""


class LandCover(NamedTuple):
    """One ESA WorldCover class: pixel `code`, column `name` of the fractions CSV, `label` for people, hex `colour`."""

    code: int
    name: str
    label: str
    colour: str


LAND_COVER: tuple[LandCover, ...] = (
    LandCover(10, "tree_cover", "Tree cover", "#006400"),
    LandCover(20, "shrubland", "Shrubland", "#FFBB22"),
    LandCover(30, "grassland", "Grassland", "#FFFF4C"),
    LandCover(40, "cropland", "Cropland", "#F096FF"),
    LandCover(50, "built-up", "Built-up", "#FA0000"),
    LandCover(60, "bare/sparse_vegetation", "Bare or sparse vegetation", "#B4B4B4"),
    LandCover(70, "snow_and_ice", "Snow and ice", "#F0F0F0"),
    LandCover(80, "permanent_water_bodies", "Permanent water", "#0064C8"),
    LandCover(90, "herbaceous_wetland", "Herbaceous wetland", "#0096A0"),
    LandCover(95, "mangroves", "Mangroves", "#00CF75"),
    LandCover(100, "moss_and_lichen", "Moss and lichen", "#FAE6A0"),
)
LAND_COVER_NAMES: tuple[str, ...] = tuple(c.name for c in LAND_COVER)
LAND_COVER_NO_DATA_CODE = 0
IGNORE_INDEX = 255
"""Index of a pixel without a land-cover label; losses and metrics leave it out."""


class ClimateZone(NamedTuple):
    """One Koeppen-Geiger class: `code` in the map of Beck et al. 2018 (0 = patch wholly in water), symbol, colour."""

    code: int
    symbol: str
    label: str
    colour: str


# The eleven classes that occur in ben-ge, and 0 for patches that are all water. The index is the place in this list.
CLIMATE_ZONES: tuple[ClimateZone, ...] = (
    ClimateZone(0, "water", "Water", "#0064C8"),
    ClimateZone(7, "BSk", "Arid, steppe, cold", "#FFDC64"),
    ClimateZone(8, "Csa", "Temperate, dry and hot summer", "#FFFF00"),
    ClimateZone(9, "Csb", "Temperate, dry and warm summer", "#C8C800"),
    ClimateZone(14, "Cfa", "Temperate, no dry season, hot summer", "#C8FF50"),
    ClimateZone(15, "Cfb", "Temperate, no dry season, warm summer", "#64FF50"),
    ClimateZone(16, "Cfc", "Temperate, no dry season, cold summer", "#32C800"),
    ClimateZone(18, "Dsb", "Cold, dry and warm summer", "#C800C8"),
    ClimateZone(25, "Dfa", "Cold, no dry season, hot summer", "#00FFFF"),
    ClimateZone(26, "Dfb", "Cold, no dry season, warm summer", "#37C8FF"),
    ClimateZone(27, "Dfc", "Cold, no dry season, cold summer", "#007D7D"),
    ClimateZone(29, "ET", "Polar, tundra", "#B2B2B2"),
)
CLIMATE_ZONE_SYMBOLS: tuple[str, ...] = tuple(z.symbol for z in CLIMATE_ZONES)
CLIMATE_ZONE_LABELS: tuple[str, ...] = tuple(
    f"{z.symbol}: {z.label.lower()}" if z.code else "water" for z in CLIMATE_ZONES
)
"""Symbol and meaning with a colon between them, for figures that have room for words."""

CORINE_43: tuple[str, ...] = (
    "Continuous urban fabric",
    "Discontinuous urban fabric",
    "Industrial or commercial units",
    "Road and rail networks and associated land",
    "Port areas",
    "Airports",
    "Mineral extraction sites",
    "Dump sites",
    "Construction sites",
    "Green urban areas",
    "Sport and leisure facilities",
    "Non-irrigated arable land",
    "Permanently irrigated land",
    "Rice fields",
    "Vineyards",
    "Fruit trees and berry plantations",
    "Olive groves",
    "Pastures",
    "Annual crops associated with permanent crops",
    "Complex cultivation patterns",
    "Land principally occupied by agriculture, with significant areas of natural vegetation",
    "Agro-forestry areas",
    "Broad-leaved forest",
    "Coniferous forest",
    "Mixed forest",
    "Natural grassland",
    "Moors and heathland",
    "Sclerophyllous vegetation",
    "Transitional woodland/shrub",
    "Beaches, dunes, sands",
    "Bare rock",
    "Sparsely vegetated areas",
    "Burnt areas",
    "Inland marshes",
    "Peatbogs",
    "Salt marshes",
    "Salines",
    "Intertidal flats",
    "Water courses",
    "Water bodies",
    "Coastal lagoons",
    "Estuaries",
    "Sea and ocean",
)
"""CORINE level-3 names exactly as the `labels` of `*_labels_metadata.json` spell them."""

CORINE_19_FROM_43: dict[str, tuple[str, ...]] = {
    "Urban fabric": ("Continuous urban fabric", "Discontinuous urban fabric"),
    "Industrial or commercial units": ("Industrial or commercial units",),
    "Arable land": ("Non-irrigated arable land", "Permanently irrigated land", "Rice fields"),
    "Permanent crops": (
        "Vineyards",
        "Fruit trees and berry plantations",
        "Olive groves",
        "Annual crops associated with permanent crops",
    ),
    "Pastures": ("Pastures",),
    "Complex cultivation patterns": ("Complex cultivation patterns",),
    "Land principally occupied by agriculture, with significant areas of natural vegetation": (
        "Land principally occupied by agriculture, with significant areas of natural vegetation",
    ),
    "Agro-forestry areas": ("Agro-forestry areas",),
    "Broad-leaved forest": ("Broad-leaved forest",),
    "Coniferous forest": ("Coniferous forest",),
    "Mixed forest": ("Mixed forest",),
    "Natural grassland and sparsely vegetated areas": ("Natural grassland", "Sparsely vegetated areas"),
    "Moors, heathland and sclerophyllous vegetation": ("Moors and heathland", "Sclerophyllous vegetation"),
    "Transitional woodland, shrub": ("Transitional woodland/shrub",),
    "Beaches, dunes, sands": ("Beaches, dunes, sands",),
    "Inland wetlands": ("Inland marshes", "Peatbogs"),
    "Coastal wetlands": ("Salt marshes", "Salines"),
    "Inland waters": ("Water courses", "Water bodies"),
    "Marine waters": ("Coastal lagoons", "Estuaries", "Sea and ocean"),
}
"""The 19-class nomenclature of BigEarthNet (Sumbul et al. 2021) and the level-3 names that each class takes in.

Eleven level-3 names (roads, ports, airports, mines, dumps, construction, green urban, sport, bare rock, burnt areas,
intertidal flats) belong to no class, so a patch can have no label at all.
"""
CORINE_19: tuple[str, ...] = tuple(CORINE_19_FROM_43)

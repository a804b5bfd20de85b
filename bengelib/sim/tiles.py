"""The MGRS tiles of ben-ge, their dates, and a sketch of the landscape of each.

Names, dates, patch counts and snow fractions of the 54 tiles are facts, from the published BigEarthNet v2 metadata
(Clasen et al. 2024, arXiv:2407.03653) of the patches in ben-ge. The landscapes are rough sketches, tuned to the
land-cover fractions of ben-ge as a whole, without any real map.
"""

from typing import NamedTuple


class Tile(NamedTuple):
    """One 100 km MGRS tile: mean position of its patches, their number, fraction with seasonal snow, dates."""

    name: str
    lon: float
    lat: float
    patches: int
    snow: float
    dates: tuple[str, ...]


TILES: tuple[Tile, ...] = (
    Tile("29SNB", -8.38, 37.46, 24354, 0.0, ("2017-10-02", "2017-12-01", "2018-03-26")),
    Tile("29SNC", -8.37, 38.35, 32670, 0.0, ("2017-08-13", "2017-10-02", "2018-02-24", "2018-05-15")),
    Tile("29SND", -8.36, 39.26, 32831, 0.0, ("2017-07-04", "2017-11-21", "2017-12-21", "2018-05-15")),
    Tile("29UNB", -8.0, 55.23, 3899, 0.0, ("2018-05-29",)),
    Tile("29UPA", -6.67, 54.11, 370, 0.0, ("2017-07-17",)),
    Tile("29UPB", -7.2, 55.34, 1208, 0.0, ("2017-07-18",)),
    Tile("29UPU", -6.71, 52.73, 32539, 0.0, ("2017-06-17", "2017-11-12", "2018-02-25", "2018-04-21")),
    Tile("29UPV", -6.62, 53.61, 13689, 0.0, ("2017-07-17", "2018-02-20")),
    Tile("31UER", 4.15, 50.32, 7709, 0.0, ("2017-08-29", "2017-11-07", "2018-02-25", "2018-05-06")),
    Tile("31UGR", 6.07, 49.99, 5763, 0.0, ("2017-10-15", "2018-05-08")),
    Tile("31UGS", 6.04, 50.57, 1465, 0.0, ("2017-10-15", "2018-05-08")),
    Tile("32TMT", 8.25, 47.26, 4888, 0.0, ("2017-08-18",)),
    Tile("33TWM", 15.52, 46.81, 5515, 0.006, ("2017-08-24", "2017-09-23", "2018-04-21")),
    Tile("33TWN", 15.81, 47.36, 13246, 0.128, ("2017-12-19", "2018-04-21")),
    Tile("33TXN", 16.56, 47.53, 6088, 0.002, ("2017-08-01", "2017-11-04", "2017-12-19", "2018-04-28")),
    Tile("33UUP", 13.37, 48.1, 3305, 0.0, ("2017-06-13",)),
    Tile("33UWP", 15.72, 48.26, 8274, 0.005, ("2017-12-10", "2018-05-06")),
    Tile("33UWQ", 15.56, 48.79, 1748, 0.0, ("2018-04-21",)),
    Tile("33UXP", 16.68, 48.21, 7033, 0.001, ("2017-08-31", "2017-10-15")),
    Tile("33UXQ", 16.61, 48.72, 682, 0.0, ("2017-08-31", "2018-04-21")),
    Tile("34TCR", 19.41, 45.57, 19454, 0.0, ("2017-08-03", "2017-10-02", "2017-12-06", "2018-04-30")),
    Tile("34TCS", 19.54, 46.05, 1881, 0.0, ("2017-07-19", "2017-10-02", "2017-12-26")),
    Tile("34TEN", 21.67, 42.86, 8148, 0.199, ("2017-12-08",)),
    Tile("34TEP", 21.68, 43.76, 24666, 0.058, ("2017-09-14", "2018-02-01", "2018-05-02")),
    Tile("34TEQ", 21.55, 44.54, 16038, 0.001, ("2017-08-25", "2017-09-14", "2018-04-22")),
    Tile("34TFN", 22.5, 42.95, 8538, 0.0, ("2017-08-02", "2017-09-11", "2018-05-09")),
    Tile("34UDG", 20.91, 55.61, 1540, 0.0, ("2017-07-20",)),
    Tile("34UEG", 21.92, 55.53, 13712, 0.0, ("2017-09-30", "2018-04-13")),
    Tile("34VDM", 20.27, 60.05, 11840, 0.0, ("2017-10-16", "2018-05-11")),
    Tile("34VDN", 20.37, 60.65, 8488, 0.0, ("2017-09-06", "2018-01-27", "2018-04-19")),
    Tile("34VDR", 20.76, 63.26, 4587, 0.0, ("2017-08-30", "2017-10-19", "2018-05-09")),
    Tile("34VER", 22.23, 63.46, 6686, 0.0, ("2017-06-13",)),
    Tile("34WFS", 24.35, 64.35, 27880, 0.246, ("2017-08-17", "2017-09-06", "2018-02-28", "2018-05-21")),
    Tile("34WFT", 24.81, 65.28, 4760, 0.992, ("2018-02-23",)),
    Tile("34WFU", 24.75, 66.21, 6032, 0.0, ("2018-05-26",)),
    Tile("34WFV", 24.76, 67.1, 6935, 0.654, ("2018-04-17",)),
    Tile("35ULA", 24.71, 54.57, 7494, 0.0, ("2017-08-08",)),
    Tile("35ULB", 24.7, 55.43, 8231, 0.0, ("2017-09-27",)),
    Tile("35UMA", 25.66, 54.7, 2840, 0.0, ("2017-09-24", "2018-05-07")),
    Tile("35UMB", 25.97, 55.44, 10077, 0.272, ("2017-09-24", "2018-03-18")),
    Tile("35VLC", 24.61, 56.07, 7644, 0.0, ("2017-09-27", "2018-05-10")),
    Tile("35VLG", 24.3, 60.1, 4943, 0.229, ("2018-04-13",)),
    Tile("35VLJ", 24.25, 61.71, 8258, 0.665, ("2018-02-05",)),
    Tile("35VNH", 27.76, 60.93, 16564, 0.257, ("2017-09-24", "2018-02-04", "2018-05-25")),
    Tile("35VNJ", 28.03, 61.74, 24735, 0.438, ("2017-11-01", "2018-02-04", "2018-05-15")),
    Tile("35VNK", 28.06, 62.63, 16386, 0.217, ("2017-11-01", "2018-05-25")),
    Tile("35VNL", 28.1, 63.53, 24685, 0.0, ("2017-07-09", "2017-09-05", "2018-05-25")),
    Tile("35VPJ", 29.5, 61.83, 4163, 0.0, ("2018-05-22",)),
    Tile("35VPK", 29.98, 62.62, 23995, 0.269, ("2017-07-01", "2017-09-24", "2018-02-04")),
    Tile("35WPN", 29.49, 65.35, 4585, 0.356, ("2017-09-05", "2018-05-10")),
    Tile("35WPP", 29.57, 66.06, 3903, 0.788, ("2018-02-19", "2018-05-10")),
    Tile("35WPR", 29.62, 67.69, 1264, 0.495, ("2017-07-25", "2018-05-11")),
    Tile("36VVQ", 31.24, 62.82, 999, 0.0, ("2017-09-24",)),
    Tile("36VVR", 31.15, 63.14, 261, 0.0, ("2017-07-16",)),
)


class Landscape(NamedTuple):
    """The landscape of a tile. Shares are in [0, 1]; lengths are in pixels of 10 m unless stated otherwise."""

    base: float = 100.0
    """Mean height in metres."""
    relief: float = 40.0
    """Standard deviation of the height in metres."""
    sea: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Bearing of the open sea in degrees, share of the patches' area that is sea, raggedness of the coast in pixels."""
    lake: float = 0.01
    """Share of the land that is lake."""
    river: float = 3.0
    """Width of the main rivers (0 = none)."""
    forest: float = 0.4
    """Share of the land, apart from lakes, that is forest."""
    forest_scale: float = 1.0
    """Size of the forests relative to the usual one."""
    conifer: float = 0.5
    """Share of the forest that is coniferous."""
    evergreen: float = 0.0
    """Share of the broad-leaved forest that keeps its leaves (eucalypt, cork and holm oak)."""
    crop: float = 0.5
    """Share of the open parcels that are cropland; the rest is grassland."""
    crops: tuple[float, float, float, float, float, float, float] = (4.0, 1.0, 2.0, 2.0, 0.6, 0.2, 0.0)
    """Weights of winter cereal, rapeseed, summer crop, spring cereal, root crops, permanent crops, rice."""
    shrub: float = 0.0
    """Share of the open land that is shrubland."""
    heath: float = 0.0
    """Share of the open land that is moor or heath."""
    savanna: float = 0.0
    """Share of the open land with scattered trees (montado)."""
    wetland: float = 0.005
    """Share of the land that is mire, marsh or bog."""
    towns: float = 0.5
    """Density of settlements: 1 = one per 2.5 km square on average."""
    roads: float = 0.5
    """Share of the possible roads that exist."""
    parcel: float = 14.0
    """Width of a field."""
    hedges: float = 0.15
    """Share of field borders with a hedge or tree line."""
    bare: float = 0.002
    """Share of the land that is bare."""
    zones: tuple[tuple[int, float], ...] = ((26, 1.0),)
    """Koeppen-Geiger codes from low to high ground, with their shares."""


_PORTUGAL = Landscape(
    base=130, relief=85, lake=0.01, river=2.5, forest=0.23, conifer=0.15, evergreen=0.85, crop=0.2,
    crops=(4, 0.1, 1, 1, 0.4, 4, 0.8), shrub=0.3, savanna=0.35, wetland=0.001, towns=0.35, roads=0.4, parcel=22,
    hedges=0.05, bare=0.012, zones=((9, 0.05), (8, 0.95)),
)  # fmt: skip
_IRELAND = Landscape(
    base=80, relief=60, lake=0.01, river=2.5, forest=0.12, conifer=0.7, crop=0.14, crops=(3, 0.3, 0.4, 4, 0.6, 0, 0),
    heath=0.08, wetland=0.02, towns=0.35, roads=0.7, parcel=15, hedges=0.75, zones=((15, 0.98), (16, 0.02)),
)  # fmt: skip
_BELGIUM = Landscape(
    base=120, relief=45, lake=0.01, river=2.5, forest=0.3, conifer=0.35, crop=0.5, crops=(4, 0.7, 2.5, 1, 2, 0.1, 0),
    towns=1.2, roads=0.9, parcel=15, hedges=0.3, zones=((15, 1.0),),
)  # fmt: skip
_ALPINE = Landscape(
    base=780, relief=360, lake=0.004, river=3, forest=0.62, conifer=0.8, crop=0.25, towns=0.45, roads=0.5, parcel=10,
    bare=0.012, zones=((26, 0.62), (27, 0.37), (29, 0.01)),
)  # fmt: skip
_SWISS_PLATEAU = Landscape(
    base=560, relief=130, lake=0.035, forest=0.36, conifer=0.6, crop=0.45, towns=1.1, roads=0.9, parcel=9,
    crops=(4, 0.8, 2.5, 1, 1.5, 0.3, 0), zones=((15, 0.45), (26, 0.55)),
)  # fmt: skip
_PANNONIAN = Landscape(
    base=230, relief=60, lake=0.006, river=4, forest=0.28, conifer=0.25, crop=0.72, crops=(4, 1, 3, 1, 1, 0.8, 0),
    towns=0.7, roads=0.8, parcel=11, hedges=0.1, zones=((26, 1.0),),
)  # fmt: skip
_BACKA = _PANNONIAN._replace(
    base=85, relief=6, forest=0.08, conifer=0.0, crop=0.86, crops=(3, 0.5, 6, 0.5, 1.5, 0.2, 0), river=14,
    parcel=13, towns=0.4, wetland=0.012, zones=((25, 0.15), (26, 0.85)),
)  # fmt: skip
_SERBIA = Landscape(
    base=480, relief=210, lake=0.002, river=3, forest=0.48, conifer=0.06, crop=0.45, crops=(3, 0.3, 4, 0.7, 0.5, 1, 0),
    shrub=0.03, towns=0.5, roads=0.5, parcel=9, hedges=0.25, zones=((25, 0.04), (26, 0.95), (18, 0.01)),
)  # fmt: skip
_LITHUANIA = Landscape(
    base=95, relief=24, lake=0.02, river=3, forest=0.38, conifer=0.5, crop=0.52, crops=(4, 1.2, 0.5, 3, 0.4, 0, 0),
    wetland=0.02, towns=0.4, roads=0.6, parcel=22, hedges=0.12, zones=((26, 1.0),),
)  # fmt: skip
_FINLAND = Landscape(
    base=110, relief=26, lake=0.11, river=2, forest=0.80, forest_scale=0.8, conifer=0.72, crop=0.42,
    crops=(0.6, 0.2, 0, 6, 0.3, 0, 0), wetland=0.03, towns=0.18, roads=0.35, parcel=13, hedges=0.1,
    zones=((27, 1.0),),
)  # fmt: skip
_LAPLAND = _FINLAND._replace(
    base=190, relief=45, lake=0.06, crop=0.1, wetland=0.09, forest=0.82, towns=0.06, roads=0.2, heath=0.1
)
_OSTROBOTHNIA = _FINLAND._replace(base=45, relief=14, lake=0.012, forest=0.72, crop=0.6, wetland=0.04, parcel=10)

LANDSCAPES: dict[str, Landscape] = {
    "29SNB": _PORTUGAL._replace(sea=(225, 0.20, 350), relief=90, shrub=0.42, zones=((9, 0.06), (8, 0.92), (7, 0.02))),
    "29SNC": _PORTUGAL._replace(sea=(270, 0.16, 300), base=90, relief=50, savanna=0.5),
    "29SND": _PORTUGAL._replace(sea=(280, 0.06, 300), forest=0.36, evergreen=0.75, zones=((9, 0.14), (8, 0.86))),
    "29UNB": _IRELAND._replace(sea=(335, 0.45, 450), relief=110, heath=0.25, zones=((15, 0.88), (16, 0.12))),
    "29UPA": _IRELAND,
    "29UPB": _IRELAND._replace(sea=(20, 0.50, 450), relief=80, heath=0.15),
    "29UPU": _IRELAND._replace(sea=(120, 0.28, 250), crop=0.25),
    "29UPV": _IRELAND._replace(sea=(80, 0.26, 250), towns=0.6),
    "31UER": _BELGIUM,
    "31UGR": _BELGIUM._replace(base=380, relief=70, forest=0.48, crop=0.4, towns=0.6),
    "31UGS": _BELGIUM._replace(base=330, relief=90, forest=0.40, crop=0.3),
    "32TMT": _SWISS_PLATEAU,
    "33TWM": _ALPINE._replace(base=560, relief=230, conifer=0.5, crop=0.5, zones=((26, 0.9), (27, 0.1))),
    "33TWN": _ALPINE,
    "33TXN": _PANNONIAN._replace(base=260, relief=110, forest=0.4, lake=0.03),
    "33UUP": _ALPINE._replace(base=480, relief=110, forest=0.34, crop=0.6, zones=((26, 0.6), (27, 0.4))),
    "33UWP": _PANNONIAN._replace(base=380, relief=150, forest=0.45),
    "33UWQ": _PANNONIAN._replace(base=480, relief=80, forest=0.42, conifer=0.8),
    "33UXP": _PANNONIAN._replace(towns=1.0),
    "33UXQ": _PANNONIAN,
    "34TCR": _BACKA,
    "34TCS": _PANNONIAN._replace(
        base=100, relief=7, forest=0.1, conifer=0.0, crop=0.82, crops=(3, 0.5, 6, 0.5, 1, 1, 0)
    ),
    "34TEN": _SERBIA._replace(base=650, relief=250, zones=((25, 0.02), (26, 0.94), (18, 0.04))),
    "34TEP": _SERBIA,
    "34TEQ": _SERBIA._replace(
        base=190, relief=90, forest=0.3, crop=0.65, river=10, zones=((14, 0.30), (25, 0.08), (26, 0.62))
    ),
    "34TFN": _SERBIA._replace(base=750, relief=260, forest=0.55, crop=0.25),
    "34UDG": _LITHUANIA._replace(base=12, relief=8, sea=(270, 0.75, 40)),
    "34UEG": _LITHUANIA._replace(base=60, relief=22, sea=(270, 0.10, 30)),
    "34VDM": _FINLAND._replace(base=10, relief=10, sea=(200, 0.92, 1100), forest=0.6, zones=((26, 0.95), (27, 0.05))),
    "34VDN": _FINLAND._replace(base=8, relief=8, sea=(240, 0.92, 1100), forest=0.6, zones=((26, 0.9), (27, 0.1))),
    "34VDR": _OSTROBOTHNIA._replace(base=10, relief=6, sea=(300, 0.80, 900)),
    "34VER": _OSTROBOTHNIA._replace(sea=(320, 0.42, 700)),
    "34WFS": _OSTROBOTHNIA._replace(sea=(310, 0.36, 400), wetland=0.07),
    "34WFT": _OSTROBOTHNIA._replace(sea=(240, 0.55, 400), wetland=0.07),
    "34WFU": _LAPLAND._replace(base=90),
    "34WFV": _LAPLAND,
    "35ULA": _LITHUANIA._replace(base=120),
    "35ULB": _LITHUANIA,
    "35UMA": _LITHUANIA._replace(base=150, forest=0.45, lake=0.03),
    "35UMB": _LITHUANIA._replace(base=150, relief=30, lake=0.06),
    "35VLC": _LITHUANIA._replace(base=70, crop=0.62),
    "35VLG": _FINLAND._replace(
        base=35, relief=20, sea=(180, 0.40, 900), lake=0.03, forest=0.66, towns=0.5, zones=((26, 0.4), (27, 0.6))
    ),
    "35VLJ": _FINLAND,
    "35VNH": _FINLAND._replace(base=75, sea=(180, 0.08, 500), zones=((26, 0.2), (27, 0.8))),
    "35VNJ": _FINLAND._replace(lake=0.2),
    "35VNK": _FINLAND._replace(lake=0.16),
    "35VNL": _FINLAND._replace(base=150, relief=38, wetland=0.04),
    "35VPJ": _FINLAND._replace(lake=0.22),
    "35VPK": _FINLAND._replace(lake=0.13, wetland=0.04),
    "35WPN": _LAPLAND._replace(base=220, lake=0.09),
    "35WPP": _LAPLAND._replace(base=230, relief=55, lake=0.08),
    "35WPR": _LAPLAND._replace(base=280, relief=60, zones=((27, 0.96), (29, 0.04))),
    "36VVQ": _FINLAND._replace(base=190, wetland=0.05),
    "36VVR": _FINLAND._replace(base=190, wetland=0.06),
}

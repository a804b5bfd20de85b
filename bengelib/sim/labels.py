"""CORINE labels and WorldCover fractions of a simulated patch, from its ground."""

import numpy as np
from numpy.typing import NDArray

from bengelib.bands import CORINE_43, LAND_COVER
from bengelib.sim.scene import Kind


def fractions(label: NDArray[np.uint8]) -> dict[str, float]:
    """Fraction of each WorldCover class in a (120, 120) map of codes, by the column names of ben-ge; they sum to 1."""
    counts = np.bincount(label.ravel(), minlength=256)
    return {cover.name: float(counts[cover.code]) / label.size for cover in LAND_COVER}


def corine_labels(kind: NDArray[np.uint8], height: float, zone: int, draw: float) -> list[str]:
    """CORINE level-3 names of a patch.

    CORINE maps areas of 25 hectares and more, by land use as much as by cover; so small features vanish, and mixtures
    of small fields or of fields and forest have their own names.

    Args:
        kind: (120, 120), a `Kind` per pixel.
        height: mean height in metres.
        zone: Koeppen-Geiger code.
        draw: random number in [0, 1) of the location, to choose between names that look alike from above.

    Returns:
        Names in the order of `CORINE_43`.
    """
    share = np.bincount(kind.ravel(), minlength=len(Kind)) / kind.size

    def total(*kinds: Kind) -> float:
        return float(sum(share[k] for k in kinds))

    dry = zone in (7, 8, 9)
    conifer, mixed = total(Kind.CONIFER), total(Kind.MIXED)
    broadleaf = total(Kind.BROADLEAF, Kind.EVERGREEN)
    young = total(Kind.YOUNG, Kind.CLEARCUT)
    arable = total(Kind.WINTER_CEREAL, Kind.RAPESEED, Kind.SUMMER_CROP, Kind.SPRING_CEREAL, Kind.ROOT_CROP)
    grass = total(Kind.PASTURE, Kind.MEADOW)
    wild_grass = total(Kind.DRY_GRASS)
    permanent = total(Kind.PERMANENT_CROP)
    farmland = arable + grass + permanent + (0.5 * wild_grass if dry else 0)
    natural = conifer + mixed + broadleaf + young + total(Kind.HEDGE, Kind.SHRUB, Kind.HEATH, Kind.MIRE)
    urban = total(Kind.HOUSES, Kind.CITY, Kind.GARDEN, Kind.ROAD)
    names: set[str] = set()

    def add(name: str, there: bool) -> None:
        if there:
            names.add(name)

    add("Continuous urban fabric", total(Kind.CITY) > 0.12)
    add("Discontinuous urban fabric", urban > 0.055)
    add("Industrial or commercial units", total(Kind.INDUSTRY) > 0.02)
    add("Road and rail networks and associated land", total(Kind.ROAD) > 0.06)
    add("Mineral extraction sites", total(Kind.QUARRY) > 0.03)
    small_fields = farmland > 0.18 and 0.07 < arable < 0.85 * farmland and grass > 0.06
    add("Complex cultivation patterns", small_fields and natural < 0.5 and draw < 0.85)
    between = 0.09 < farmland < 0.75 and natural > 0.1 and (draw > 0.35 or small_fields)
    add("Land principally occupied by agriculture, with significant areas of natural vegetation", between)
    irrigated = dry and total(Kind.SUMMER_CROP) > 0.12
    arable_land = "Permanently irrigated land" if irrigated else "Non-irrigated arable land"
    add(arable_land, arable > 0.14 or (arable > 0.05 and not names))
    add("Rice fields", total(Kind.RICE) > 0.06)
    woody = ("Olive groves", "Vineyards", "Fruit trees and berry plantations") if dry else (
        "Vineyards", "Fruit trees and berry plantations", "Vineyards")  # fmt: skip
    add(woody[int(3 * draw)], permanent > 0.06)
    add("Natural grassland" if height > 900 else "Pastures", grass > 0.24)
    wild_use = "Pastures" if draw < 0.3 else "Natural grassland" if draw > 0.9 else "Non-irrigated arable land"
    add(wild_use, wild_grass > 0.3)
    add("Agro-forestry areas", dry and total(Kind.OAK) > 0.03 and wild_grass > 0.06)
    add("Coniferous forest", conifer > 0.07)
    add("Broad-leaved forest", broadleaf > 0.1 or (dry and total(Kind.OAK) > 0.2))
    add("Mixed forest", mixed > 0.06 or min(conifer, broadleaf) > 0.05)
    add("Transitional woodland/shrub", young > 0.07 or (total(Kind.SHRUB) > 0.12 and draw < 0.6))
    add("Sclerophyllous vegetation" if dry else "Transitional woodland/shrub", total(Kind.SHRUB) > 0.25 and draw >= 0.4)
    add("Moors and heathland", total(Kind.HEATH) > 0.12)
    add("Bare rock", total(Kind.ROCK) > 0.18)
    add("Sparsely vegetated areas", 0.08 < total(Kind.ROCK) <= 0.18 or total(Kind.MOSS) > 0.1)
    add("Beaches, dunes, sands", total(Kind.SAND) > 0.02 and total(Kind.SEA) > 0)
    add("Peatbogs", total(Kind.MIRE) > 0.05)
    add("Salt marshes" if total(Kind.SEA) > 0 else "Inland marshes", total(Kind.MARSH) > 0.07)
    add("Bare rock", total(Kind.GLACIER) > 0.3)
    add("Water bodies", total(Kind.LAKE) > 0.02)
    add("Water courses", total(Kind.RIVER) > 0.03)
    add("Sea and ocean", total(Kind.SEA) > 0.01)
    if not names:
        shares = {
            "Coniferous forest": conifer,
            "Mixed forest": mixed,
            "Broad-leaved forest": broadleaf,
            "Transitional woodland/shrub": young,
            "Non-irrigated arable land": arable,
            "Pastures": grass + wild_grass,
        }
        names.add(max(shares, key=lambda name: shares[name]))
    return [name for name in CORINE_43 if name in names]

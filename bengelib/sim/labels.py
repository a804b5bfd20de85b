"""CORINE labels and WorldCover fractions of a simulated patch, from what lies on its ground."""

import numpy as np
from numpy.typing import NDArray

from bengelib.bands import CORINE_43, LAND_COVER
from bengelib.sim.scene import Kind


def fractions(label: NDArray[np.uint8]) -> dict[str, float]:
    """Share of each WorldCover class in a (120, 120) map of codes, by the column names of ben-ge; they sum to one."""
    counts = np.bincount(label.ravel(), minlength=256)
    return {cover.name: float(counts[cover.code]) / label.size for cover in LAND_COVER}


def corine_labels(kind: NDArray[np.uint8], height: float, zone: int, draw: float) -> list[str]:
    """CORINE level-3 names of a patch.

    CORINE maps areas of 25 hectares and more, by use as much as by cover; so small things vanish, and mixtures of
    small fields or of fields and woods have names of their own.

    Args:
        kind: (120, 120), a `Kind` per pixel.
        height: mean height in metres.
        zone: Koeppen-Geiger code.
        draw: random number in [0, 1) of the place, to choose between names that look alike from above.

    Returns:
        names in the order of `CORINE_43`.
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

    if total(Kind.CITY) > 0.12:
        names.add("Continuous urban fabric")
    if urban > 0.055:
        names.add("Discontinuous urban fabric")
    if total(Kind.INDUSTRY) > 0.02:
        names.add("Industrial or commercial units")
    if total(Kind.ROAD) > 0.06:
        names.add("Road and rail networks and associated land")
    if total(Kind.QUARRY) > 0.03:
        names.add("Mineral extraction sites")
    small_fields = farmland > 0.18 and 0.07 < arable < 0.85 * farmland and grass > 0.06
    if small_fields and natural < 0.5 and draw < 0.85:
        names.add("Complex cultivation patterns")
    if 0.09 < farmland < 0.75 and natural > 0.1 and (draw > 0.35 or small_fields):
        names.add("Land principally occupied by agriculture, with significant areas of natural vegetation")
    if arable > 0.14 or (arable > 0.05 and not names):
        irrigated = dry and total(Kind.SUMMER_CROP) > 0.12
        names.add("Permanently irrigated land" if irrigated else "Non-irrigated arable land")
    if total(Kind.RICE) > 0.06:
        names.add("Rice fields")
    if permanent > 0.06:
        choices = ("Olive groves", "Vineyards", "Fruit trees and berry plantations") if dry else (
            "Vineyards", "Fruit trees and berry plantations", "Vineyards")  # fmt: skip
        names.add(choices[int(3 * draw)])
    if grass > 0.24:
        names.add("Natural grassland" if height > 900 else "Pastures")
    if wild_grass > 0.3:
        names.add("Pastures" if draw < 0.3 else "Natural grassland" if draw > 0.9 else "Non-irrigated arable land")
    if dry and total(Kind.OAK) > 0.03 and wild_grass > 0.06:
        names.add("Agro-forestry areas")
    if conifer > 0.07:
        names.add("Coniferous forest")
    if broadleaf > 0.1 or (dry and total(Kind.OAK) > 0.2):
        names.add("Broad-leaved forest")
    if mixed > 0.06 or min(conifer, broadleaf) > 0.05:
        names.add("Mixed forest")
    if young > 0.07 or (total(Kind.SHRUB) > 0.12 and draw < 0.6):
        names.add("Transitional woodland/shrub")
    if total(Kind.SHRUB) > 0.25 and draw >= 0.4:
        names.add("Sclerophyllous vegetation" if dry else "Transitional woodland/shrub")
    if total(Kind.HEATH) > 0.12:
        names.add("Moors and heathland")
    if total(Kind.ROCK) > 0.18:
        names.add("Bare rock")
    if 0.08 < total(Kind.ROCK) <= 0.18 or total(Kind.MOSS) > 0.1:
        names.add("Sparsely vegetated areas")
    if total(Kind.SAND) > 0.02 and total(Kind.SEA) > 0:
        names.add("Beaches, dunes, sands")
    if total(Kind.MIRE) > 0.05:
        names.add("Peatbogs")
    if total(Kind.MARSH) > 0.07:
        names.add("Salt marshes" if total(Kind.SEA) > 0 else "Inland marshes")
    if total(Kind.GLACIER) > 0.3:
        names.add("Bare rock")
    if total(Kind.LAKE) > 0.02:
        names.add("Water bodies")
    if total(Kind.RIVER) > 0.03:
        names.add("Water courses")
    if total(Kind.SEA) > 0.01:
        names.add("Sea and ocean")
    if not names:
        names.add(_largest(conifer, mixed, broadleaf, young, arable, grass + wild_grass))
    return [name for name in CORINE_43 if name in names]


def _largest(conifer: float, mixed: float, broadleaf: float, young: float, arable: float, grass: float) -> str:
    ranked = {
        "Coniferous forest": conifer,
        "Mixed forest": mixed,
        "Broad-leaved forest": broadleaf,
        "Transitional woodland/shrub": young,
        "Non-irrigated arable land": arable,
        "Pastures": grass,
    }
    return max(ranked, key=lambda name: ranked[name])

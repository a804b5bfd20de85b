"""Possible and plausible values of each key of a sample: one table for rasters and CSVs. Needs no torch.

Impossible values are refused. Possible but implausible values, such as a relative humidity that never exceeds 1, are
used with a `DataWarning`. Both messages name the likely cause: another unit, swapped columns, a remaining offset.

The limits are wide: they hold for the whole Earth and for every value of BigEarthNet (Sentinel-1 from -75 to 35 dB,
Sentinel-2 up to 20,528), for snow, open sea, the shore of the Dead Sea and the bright corners of buildings.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bengelib.bands import LAND_COVER_NAMES, WEATHER
from bengelib.errors import BengeError, DataWarning, RasterError, TableError


class Mistake(NamedTuple):
    """The likely cause of values that are all between `low` and `high`."""

    low: float
    high: float
    cause: str


class Limits(NamedTuple):
    """The values that a key can have.

    Attributes:
        unit: of the values, for messages.
        possible: values outside are refused.
        usual: values outside cause a warning.
        causes: of impossible values.
        suspect: possible ranges that correct data always exceed; each causes a warning.
        absurd: such ranges that are refused.
        relief: largest difference within one raster without a warning.
        hint: advice for values outside of the ranges if no cause fits.
    """

    unit: str
    possible: tuple[float, float]
    usual: tuple[float, float]
    causes: tuple[Mistake, ...] = ()
    suspect: tuple[Mistake, ...] = ()
    absurd: tuple[Mistake, ...] = ()
    relief: float = np.inf
    hint: str = ""


_ROUNDING = 1e-6
"""Tolerance of the limits, since fractions are rounded."""
_NO_DECIBELS = (
    "Decibels are mostly below 0: these look like linear power, amplitude or digital numbers. Calibrate and convert "
    "them: 10 * log10(power), or 20 * log10(amplitude)."
)
_PER_CENT = Mistake(0, 100.5, "They look like per cent: divide by 100.")
_DEGREES = "The decimal point was lost, or these are metres of a projection? Degrees of WGS 84 are expected."

LIMITS: dict[str, Limits] = {
    "s2": Limits(
        "(reflectance x 10000)",
        (0, 32_767),
        (0, 28_000),
        hint="Values near 65535 are negative ones that wrapped around, such as those of dark pixels from which the "
        "offset of 1000 was taken off twice; or pixels without data hold a fill value.",
    ),
    "s1": Limits(
        "dB",
        (-100, 60),
        (-100, 45),
        # Speckle alone spreads the pixels of a patch over more than 10 dB, and no 1200 m of the Earth average 0 dB:
        # every patch has pixels below -3 dB.
        absurd=(Mistake(-3, np.inf, _NO_DECIBELS),),
        causes=(Mistake(60, np.inf, _NO_DECIBELS),),
        hint="Pixels without data hold a fill value?",
    ),
    "dem": Limits(
        "m", (-500, 9000), (-450, 8850), relief=2500, hint="Pixels without data hold a fill value, or another unit?"
    ),
    "lon": Limits(
        "degrees",
        (-180, 180),
        (-180, 180),
        causes=(Mistake(180, 360, "They are counted from 0 to 360: take 360 off those above 180."),),
        hint=_DEGREES,
    ),
    "lat": Limits(
        "degrees",
        (-90, 90),
        (-90, 90),
        causes=(Mistake(-180, 180, "Are longitude and latitude swapped?"),),
        hint=_DEGREES,
    ),
    "season": Limits(
        "(0 in late December, 1 in late June)",
        (0, 1),
        (0, 1),
        causes=(_PER_CENT, Mistake(0, 366, "They look like days of the year.")),
        hint="The season is |sin(pi * (share of the year gone by + 9 / 365))|.",
    ),
    "temperature": Limits(
        "K",
        (170, 340),
        (220, 325),
        causes=(
            Mistake(-90, 60, "They look like degrees Celsius: add 273.15."),
            Mistake(-130, 140, "They look like degrees Fahrenheit: convert them to kelvin."),
        ),
        hint="Another unit, or fill values?",
    ),
    "wind": Limits(
        "m/s", (-150, 150), (-60, 60), hint="Kilometres an hour or knots in place of metres a second, or fill values?"
    ),
    "relative_humidity": Limits(
        "%",
        (-10, 200),  # ERA-5 goes a little below 0 and, in cold clouds, far above 100
        (-2, 160),
        suspect=(Mistake(0, 1.6, "They look like shares: multiply by 100."),),
        hint="Another unit, or fill values?",
    ),
    "pressure_level": Limits(
        "hPa",
        (300, 1100),
        (450, 1085),
        causes=(
            Mistake(30_000, 110_000, "They look like pascals: divide by 100."),
            Mistake(30, 110, "They look like kilopascals: multiply by 10."),
        ),
        hint="Metres, another unit, or fill values?",
    ),
    "share": Limits(
        "(shares of 1)",
        (0, 1),
        (0, 1),
        causes=(_PER_CENT, Mistake(0, 14_400, "They look like numbers of pixels: divide each row by its sum.")),
    ),
}
"""Limits by key; for those of several columns, by the keys in `COLUMNS`."""

COLUMNS: dict[str, dict[str, str]] = {
    "lonlat": {"lon": "lon", "lat": "lat"},
    "weather": {name: "wind" if name.startswith("wind") else name for name in WEATHER},
    "land_cover_fractions": dict.fromkeys(LAND_COVER_NAMES, "share"),
}
"""For a key of several columns, their names and the keys of their limits."""

_RASTERS = ("s2", "s1", "dem")
_EUROPE = ((-9.2, 36.8), (31.8, 68.2))
"""South-western and north-eastern corner of ben-ge in degrees."""
_SHARES_SUM = 0.02
"""Tolerance of the sum of the fractions of one patch."""


def check_values(key: str, values: np.ndarray, where: str, *, warn: bool = True) -> None:
    """Refuse impossible values, and warn of implausible ones.

    Args:
        key: a key of `LIMITS` or `COLUMNS`; other keys have no limits.
        values: (..., columns) for a key of `COLUMNS`; for a raster, all pixels of one band of one patch.
        where: the file, and for a table its column, for messages.
        warn: whether to warn.

    Raises:
        RasterError: impossible pixels, or NaN; the message names their number, the first one, and the range.
        TableError: the same in a table.
    """
    if key in COLUMNS:
        for column, (name, kind) in enumerate(COLUMNS[key].items()):
            check_values(kind, values[..., column], f"{where}, {name},", warn=warn)
        if warn and (words := _of_rows(key, values)):
            warnings.warn(f"{where} {words}", DataWarning, stacklevel=3)
        return
    limits = LIMITS.get(key)
    if limits is None or not values.size:
        return
    low, high = values.min(), values.max()  # NaN if any value is
    error: type[BengeError] = RasterError if key in _RASTERS else TableError
    if not (low >= limits.possible[0] - _ROUNDING and high <= limits.possible[1] + _ROUNDING):
        raise error(f"{where} {impossible(key, values)[1]}")
    if key == "s1" and low == high == 0:
        raise error(f"{where} holds no data (every value is 0 dB).")
    if words := _mistaken(limits.absurd, low, high, limits.unit):
        raise error(f"{where} {words}")
    if not warn:
        return
    words = _mistaken(limits.suspect, low, high, limits.unit)
    usual = low >= limits.usual[0] - _ROUNDING and high <= limits.usual[1] + _ROUNDING
    if not usual or (limits.relief < np.inf and float(high) - float(low) > limits.relief):
        words = f"has values from {low:g} to {high:g} {limits.unit}, which is hardly possible. {limits.hint}"
    if words:
        warnings.warn(f"{where} {words}", DataWarning, stacklevel=3)


def impossible(key: str, values: np.ndarray) -> tuple[np.ndarray, str]:
    """Mask of the impossible values of a key, and a message about them."""
    limits = LIMITS.get(key)
    if limits is None:
        return np.zeros(values.shape, dtype=bool), ""
    low, high = limits.possible
    bad = ~((values >= low - _ROUNDING) & (values <= high + _ROUNDING))  # NaN is neither
    if not bad.any():
        return bad, ""
    found = np.asarray(values[bad], dtype=np.float64)
    fitting = (each.cause for each in limits.causes if found.min() >= each.low and found.max() <= each.high)
    return bad, (
        f"has {len(found)} of {values.size} values outside {low:g} to {high:g} {limits.unit}, the first being "
        f"{found[0]:.10g}. {next(fitting, limits.hint)}"
    ).strip()


def _mistaken(mistakes: Sequence[Mistake], low: float, high: float, unit: str) -> str:
    """A message if all values, from `low` to `high`, are within one of `mistakes`; else empty."""
    for each in mistakes:
        if low >= each.low and high <= each.high:
            return f"has values from {low:g} to {high:g} where {unit} are expected. {each.cause}"
    return ""


def _of_rows(key: str, values: np.ndarray) -> str:
    """A message about implausible rows of a key of several columns, (N, columns); empty if there are none."""
    if key == "land_cover_fractions":
        sums = values.sum(axis=-1)
        odd = np.abs(sums - 1) > _SHARES_SUM
        if odd.any():
            return (
                f"has {int(odd.sum())} rows whose shares do not add up to 1, the first to {sums[odd][0]:g}. Is a class "
                "missing, or land without a class counted?"
            )
    if key == "lonlat":
        zero = ~values.any(axis=-1)
        if zero.any():
            return f"has {int(zero.sum())} positions of 0, 0, which is in the Gulf of Guinea: missing ones filled in?"
        (west, south), (east, north) = _EUROPE
        lon, lat = values[..., 0], values[..., 1]
        if len(lat) and ((lon > south) & (lon < north) & (lat > west) & (lat < east)).all():
            return "has positions that lie in Europe once longitude and latitude are swapped. Are they?"
    return ""


def check_together(arrays: Mapping[str, np.ndarray], where: str, sample: int = 256) -> None:
    """Check what only many patches together reveal: an offset in Sentinel-2, or swapped polarisations.

    Since January 2022 (processing baseline 04.00) products store reflectance x 10000 + 1000. If 1000 was not
    subtracted, hardly any pixel is below 0.1 in any band, whereas dark forests, water, shadow, and snow in the
    short-wave infrared are far below. A single patch may be bright everywhere, such as a cloud. Likewise one patch of
    open water may have no pixel above 0.1 in any band, but all patches only if their values were divided.

    Args:
        arrays: arrays of a pack by name, (N, bands, h, w): `s2_10m`, `s2_20m` and `s2_60m` (digital numbers, 0 is no
            data) and `s1` (dB, VV before VH), all optional. Patches of 0 only are skipped.
        where: the dataset, for messages.
        sample: number of patches to check, evenly spread.

    Raises:
        RasterError: of at least eight patches, nineteen of twenty have no pixel below 0.09 in any band.

    Warns:
        DataWarning: a fifth of the patches (at least two) have none, as where some products are of the later
            baseline; of at least eight patches, nine of ten have no pixel of 0.1 in any band, as where values were
            scaled to eight bits or divided; in most of at least eight patches, VH is brighter than VV.
    """
    optical = [array for name, array in arrays.items() if name.startswith("s2_")]
    found = _of_optical(optical, where, sample) if optical else []
    if "s1" in arrays and arrays["s1"].shape[1] == 2:
        found += _of_radar(arrays["s1"], where, sample)
    for words in found:
        warnings.warn(words, DataWarning, stacklevel=2)


def _of_optical(arrays: Sequence[np.ndarray], where: str, sample: int) -> list[str]:
    """Messages about implausible patches of Sentinel-2, in several arrays (N, bands, h, w).

    Raises:
        RasterError: nearly all have the offset of the later baseline.
    """
    low, high = np.array([_extremes(arrays, row) for row in _spread(len(arrays[0]), sample)]).reshape(-1, 2).T
    low, high = low[high > 0], high[high > 0]
    bright, dim = int((low >= 900).sum()), int((high < 1000).sum())  # reflectance can be a little below 0
    patches = f"of {len(low)} Sentinel-2 patches of {where} have no pixel"
    offset = (
        f"{bright} {patches} below 900 (reflectance 0.09) in any band. They look like products of processing baseline "
        "04.00 or later, which hold reflectance x 10000 + 1000: take 1000 off every pixel that has data"
    )
    if len(low) >= 8 and bright >= 0.95 * len(low):
        raise RasterError(f"{offset}.")
    found = [f"{offset}, unless these are clouds."] if bright >= max(2, 0.2 * len(low)) else []
    if len(high) >= 8 and dim >= 0.9 * len(high):
        found.append(
            f"{dim} {patches} of 1000 (reflectance 0.1) or more in any band. Reflectance x 10000 is expected, not "
            "values of eight bits, not reflectance itself, and not either divided by something, unless these are open "
            "water."
        )
    return found


def _of_radar(array: np.ndarray, where: str, sample: int) -> list[str]:
    """Messages about implausible patches of Sentinel-1, (N, 2, h, w) in dB."""
    means = np.array([array[row].mean((1, 2), dtype=np.float64) for row in _spread(len(array), sample)]).reshape(-1, 2)
    means = means[means.any(axis=1)]
    swapped = int((means[:, 1] > means[:, 0]).sum())
    if len(means) < 8 or swapped <= len(means) / 2:
        return []
    return [
        f"in {swapped} of {len(means)} Sentinel-1 patches of {where} VH is brighter than VV, by "
        f"{np.median(means[:, 1] - means[:, 0]):.1f} dB. Nature has it the other way round: do the files have each "
        "other's names?"
    ]


def _spread(count: int, sample: int) -> list[int]:
    """Rows of `count`, evenly spread, at most `sample` of them."""
    return list(range(0, count, -(-count // sample) if count else 1))


def _extremes(arrays: Sequence[np.ndarray], row: int) -> tuple[int, int]:
    """Lowest non-zero value and highest value of one patch in several arrays of unsigned integers."""
    one = arrays[0].dtype.type(1)
    lowest = min(int((array[row] - one).min()) for array in arrays) + 1  # 0 wraps around to the highest of all
    return lowest, max(int(array[row].max()) for array in arrays)

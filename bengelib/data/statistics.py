"""Mean, standard deviation and range of each band of a described dataset, and checks of its stated units."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from bengelib.bands import S1, S2
from bengelib.data.account import tell_once
from bengelib.data.description import Source
from bengelib.errors import DescriptionError
from bengelib.modalities import Modality

_PERCENTILES = tuple(place + 0.5 for place in range(100))
_ODD_SHARE = 0.2
"""Fraction of the samples, at least two of them, from which an offset or another unit is suspected."""
_FILLS = {-9999.0, -99999.0, -32768.0, -32767.0}
"""Numbers that stand for no data more often than for a measurement."""
_LOWEST = {"reflectance": -0.5, "dB": -100.0}
"""Lowest possible measurement by unit; reflectance of dark ground can be a little below 0."""
_S2_BANDS = {*S2, "B10"}
_RADAR_BANDS = {*S1, "HH", "HV"}


@dataclass(frozen=True)
class Statistics:
    """Statistics of each band, in its unit, over all measured pixels.

    Attributes:
        count: number of pixels.
        mean: their mean.
        std: their standard deviation.
        low: the smallest.
        high: the largest.
        samples: number of samples.
        darkest: 0.5th, 1.5th, ... percentiles of the lowest non-zero value over all bands of each sample.
    """

    count: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    samples: int
    darkest: tuple[float, ...]

    def as_json(self) -> dict[str, Any]:
        """The statistics as lists and numbers."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any], bands: int) -> "Statistics":
        """Statistics from the result of `as_json`.

        Raises:
            ValueError: the content is something else, or has another number of bands.
        """
        try:
            values = {name: tuple(map(float, each)) for name, each in content.items() if name != "samples"}
            found = cls(samples=int(content["samples"]), **values)  # type: ignore[arg-type]
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"no statistics: {error!r}") from error
        if {len(each) for each in (found.count, found.mean, found.std, found.low, found.high)} != {bands}:
            raise ValueError(f"no statistics of {bands} bands")
        return replace(found, count=tuple(map(int, found.count)))

    def share_above(self, limit: float) -> float:
        """Fraction of the samples without a non-zero value below a limit; 0 if these are fewer than two samples."""
        share = sum(value >= limit for value in self.darkest) / len(_PERCENTILES)
        return share if round(share * self.samples) >= 2 else 0.0


def measure(batches: Iterable[np.ndarray], bands: int) -> Statistics:
    """Statistics of arrays (B, bands, ...) without their NaN, in one pass and 64 bits.

    The sums of squares are of differences from a running mean (Chan, Golub and LeVeque 1983,
    doi:10.1080/00031305.1983.10483115), which avoids cancellation.
    """
    count, mean, squares = np.zeros(bands), np.zeros(bands), np.zeros(bands)
    low, high = np.full(bands, np.inf), np.full(bands, -np.inf)
    darkest = []
    for batch in batches:
        darkest.append(_lowest(batch))
        for band in range(bands):
            values = batch[:, band].astype(np.float64).ravel()
            values = values[np.isfinite(values)]
            if not len(values):
                continue
            own_mean = values.mean()
            total = count[band] + len(values)
            difference = own_mean - mean[band]
            squares[band] += ((values - own_mean) ** 2).sum() + difference**2 * count[band] * len(values) / total
            mean[band] += difference * len(values) / total
            count[band] = total
            low[band], high[band] = min(low[band], values.min()), max(high[band], values.max())
    std = np.where(low < high, np.sqrt(squares / np.maximum(count, 1)), 0)  # rounding is not variation
    lowest = np.concatenate(darkest) if darkest else np.empty(0)
    quantiles = np.percentile(lowest, _PERCENTILES, method="inverted_cdf") if len(lowest) else np.empty(0)
    return Statistics(
        count=tuple(count.astype(int).tolist()),
        mean=tuple(mean.tolist()),
        std=tuple(std.tolist()),
        low=tuple(low.tolist()),
        high=tuple(high.tolist()),
        samples=len(lowest),
        darkest=tuple(quantiles.tolist()),
    )


def _lowest(batch: np.ndarray) -> np.ndarray:
    """The lowest value of each sample, without NaN and 0, which is often no data; infinity if there is none."""
    flat = batch.reshape(len(batch), -1)
    return np.where(np.isfinite(flat) & (flat != 0), flat, np.inf).min(axis=1, initial=np.inf)


def as_modality(source: Source, found: Statistics, bands: Sequence[str], shape: tuple[int, int] = (0, 0)) -> Modality:
    """A modality of the used bands, with their statistics, for encoders.

    Raises:
        DescriptionError: a band is without data or constant, or statistics contradict the stated unit.
    """
    for band in bands:
        place = source.bands.index(band)
        if not found.count[place]:
            raise DescriptionError(
                f"{source.where} band {band} has no data in any sample; correct no_data, or leave the band out"
            )
        if not found.std[place] > 0:
            out = "its class out of classes" if source.kind == "map" else "the band out"
            raise DescriptionError(
                f"{source.where} band {band} is {found.mean[place]:g} in all samples, and what never varies tells "
                f"nothing; leave {out}"
            )
    check_unit(source, found)
    return Modality(
        source.key,
        "image" if source.kind == "map" else source.kind,  # type: ignore[arg-type]
        source.bands,
        found.mean,
        [std or 1 for std in found.std],  # type: ignore[arg-type]
        source.unit,
        size=shape[0] if shape[0] == shape[1] else 0,
        wavelengths=source.wavelengths,
        codes=source.codes,
    ).take(bands)


def check_unit(source: Source, found: Statistics) -> None:
    """Refuse values that contradict the stated unit, or that need a statement about their processing.

    Sentinel-2 of processing baseline 04.00 (January 2022) and later carries an offset of 1000 digital numbers, so that
    no pixel is below 0.1 even over water (ESA, Sentinel-2 Products Specification Document). Sentinel-1 in linear power
    has no negative values; in decibels nearly all are negative.

    Raises:
        DescriptionError: naming the key and what to state.

    Warns:
        DataWarning: see `_check_fills`.
    """
    _check_fills(source, found)
    units, low = set(source.unit), min(found.low)
    is_reflectance = units == {"reflectance"}
    highs = [high for high, unit in zip(found.high, source.unit, strict=True) if unit == "reflectance"]
    if highs and min(highs) > 2.5:
        raise DescriptionError(
            f"{source.where} states unit = 'reflectance', but every band reaches {min(highs):g}; state scale = 0.0001 "
            "if the files hold digital numbers"
        )
    is_digital = units == {""} and set(source.bands) <= _S2_BANDS and min(found.high) > 2.5
    limit = 0.09 if is_reflectance else 900
    share = found.share_above(limit)
    is_optical = source.kind == "image" and len(source.bands) > 1 and (is_reflectance or is_digital)
    if is_optical and not source.offset and share >= _ODD_SHARE:
        raise DescriptionError(
            f"{source.where} {share:.0%} of the samples have no pixel below {limit:g} in any band, as in Sentinel-2 of "
            "processing baseline 04.00 and later, whose digital numbers carry an offset of 1000. State "
            f"offset = {-0.1 if is_reflectance else -1000} if all files do; take 1000 off those that do if only some "
            "do; state offset = 0.0 if the ground is as bright as that"
        )
    share = 1.0 if low >= 0 else found.share_above(0)
    if units == {"dB"} and source.kind != "scalar" and share >= _ODD_SHARE:
        raise DescriptionError(
            f"{source.where} states unit = 'dB', but {share:.0%} of the samples have no negative value (the lowest is "
            f"{low:g}): backscatter in linear power? Convert it to decibels, or state unit = 'linear power'"
        )
    if units == {""} and {band.upper() for band in source.bands} <= _RADAR_BANDS and low >= 0:
        raise DescriptionError(
            f"{source.where} names no unit of {list(source.bands)}, whose values, from {low:g} to "
            f"{max(found.high):g}, are not decibels; state unit = 'linear power', 'amplitude', or what else they are"
        )


def _check_fills(source: Source, found: Statistics) -> None:
    """Refuse fill values that are taken for measurements, and warn of what looks like one.

    Raises:
        DescriptionError: reflectance or decibels that nothing on the Earth has.

    Warns:
        DataWarning: the lowest number of a band is one that often stands for no data.
    """
    for place, (band, low, unit) in enumerate(zip(source.bands, found.low, source.unit, strict=True)):
        if low < _LOWEST.get(unit, -np.inf):
            raise DescriptionError(
                f"{source.where} band {band} goes down to {low:g} {unit}, which nothing on the Earth has; state "
                "no_data if files hold a fill value, else unit, scale and offset as they are"
            )
        stored = (low - (source.offset or {place: 0.0})[place]) / (source.scale or {place: 1.0})[place]
        if round(stored, 3) in _FILLS:
            tell_once(
                f"{source.where} band {band} goes down to {stored:g}: state no_data = {stored:g} if that is a fill "
                "value; it is taken for a measurement now"
            )

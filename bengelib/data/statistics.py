"""Mean, standard deviation and range of each band of a described dataset, and whether they fit what is stated."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bengelib.data.description import Description, Source
from bengelib.errors import DescriptionError
from bengelib.modalities import Modality


@dataclass(frozen=True)
class Statistics:
    """Of each band, in its unit, over all pixels that are a measurement.

    Attributes:
        count: how many there are.
        mean: their mean.
        std: their standard deviation.
        low: the smallest.
        high: the largest.
    """

    count: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def as_json(self) -> dict[str, Any]:
        """As lists."""
        return {name: list(values) for name, values in asdict(self).items()}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Statistics":
        """What `as_json` gave."""
        return cls(**{name: tuple(values) for name, values in content.items()})


def measure(batches: Iterable[np.ndarray], bands: int) -> Statistics:
    """Statistics of arrays (B, bands, ...) in which NaN is no measurement, in one pass and 64 bits.

    The sums of squares are of differences from a running mean (Chan, Golub and LeVeque 1983,
    doi:10.1080/00031305.1983.10483115), so that nothing cancels.
    """
    count, mean, squares = np.zeros(bands), np.zeros(bands), np.zeros(bands)
    low, high = np.full(bands, np.inf), np.full(bands, -np.inf)
    for batch in batches:
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
    std = np.sqrt(squares / np.maximum(count, 1))
    columns = (count.astype(int), mean, std, low, high)
    return Statistics(*(tuple(values.tolist()) for values in columns))


def as_modality(description: Description, source: Source, found: Statistics, shape: tuple[int, int]) -> Modality:
    """A modality with its statistics, for encoders.

    Raises:
        DescriptionError: a band without data or without variation, or statistics that contradict the unit stated.
    """
    where = f"{description.path}: [modalities.{source.key}]"
    for band, count, std in zip(source.bands, found.count, found.std, strict=True):
        if not count:
            raise DescriptionError(f"{where} band {band} has no data anywhere; correct no_data, or leave the band out")
        if not std > 0:
            raise DescriptionError(
                f"{where} band {band} is {found.mean[source.bands.index(band)]:g} everywhere, and what never varies "
                "tells nothing; leave the band out"
            )
    check_unit(where, source, found)
    return Modality(
        source.key,
        "image" if source.kind == "map" else source.kind,  # type: ignore[arg-type]
        source.bands,
        found.mean,
        found.std,
        source.unit,
        size=shape[0] if shape[0] == shape[1] else 0,
        wavelengths=source.wavelengths,
    )


def check_unit(where: str, source: Source, found: Statistics) -> None:
    """Refuse values that cannot be in the unit that is stated, or that need a word about how they were made.

    Sentinel-2 of processing baseline 04.00 (January 2022) and later carries an offset of 1000 digital numbers, so that
    no pixel is below 0.1 even over water (ESA, Sentinel-2 Products Specification Document). Sentinel-1 in linear power
    has no negative values; in decibels nearly all are negative.

    Raises:
        DescriptionError: naming the key and what to state.
    """
    units = set(source.unit)
    if "reflectance" in units:
        if min(found.high) > 2.5:
            raise DescriptionError(
                f"{where} states unit = 'reflectance', but every band reaches {min(found.high):g}; state "
                "scale = 0.0001 if the files hold digital numbers"
            )
        if not source.offset and len(source.bands) > 1 and min(found.low) >= 0.09:
            raise DescriptionError(
                f"{where} no pixel of any band is below {min(found.low):.3f}, as in Sentinel-2 of processing baseline "
                "04.00 and later, whose digital numbers carry an offset of 1000; state offset = -0.1 if they do, or "
                "offset = 0.0 if the ground is as bright as that"
            )
    if units == {"dB"} and min(found.low) >= 0:
        raise DescriptionError(
            f"{where} states unit = 'dB', but no value is negative (the lowest is {min(found.low):g}): backscatter in "
            "linear power? Convert it to decibels, or state unit = 'linear power'"
        )

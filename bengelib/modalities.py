"""Modalities and targets: the kind, bands or classes by name, units and statistics that a model needs.

`MODALITIES` holds the modalities of ben-ge, `TARGETS` its targets. Those of other datasets are built in the same way;
an encoder accepts modalities wherever it accepts names of bands.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from bengelib.bands import CLIMATE_ZONES, CORINE_19, DEM_MEAN_STD, LAND_COVER, PATCH_SIZE, S1, S2, WEATHER
from bengelib.errors import BandError

Kind = Literal["image", "vector", "scalar"]
KINDS: tuple[Kind, ...] = ("image", "vector", "scalar")


@dataclass(frozen=True)
class Modality:
    """One input: its kind and, for each band, a name, a mean, a standard deviation and a unit.

    Attributes:
        name: key in a batch.
        kind: `"image"` (B, bands, H, W), `"vector"` (B, columns) or `"scalar"` (B,).
        bands: names, in order; a scalar has one.
        mean: of each band, in its unit, over training data.
        std: standard deviation of each band, positive.
        unit: of each band, such as `"reflectance"` or `"dB"`; `""` if unknown. Modalities of different units are not
            equal, so a model of one refuses the other.
        columns: names of all values of a vector in a batch, from which `bands` are selected; `bands` if empty.
        size: pixels along a side of an image of the dataset; 0 if unknown.
        wavelengths: centre of each band in nanometres; empty if a band has none.
        codes: of a class map, whose bands are 1 where it has a class and 0 elsewhere, the number of each class in
            files; empty for anything else.
    """

    name: str
    kind: Kind
    bands: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    unit: tuple[str, ...]
    columns: tuple[str, ...] = ()
    size: int = field(default=0, compare=False)
    wavelengths: tuple[float, ...] = field(default=(), compare=False)
    codes: tuple[int, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        """Refuse facts that contradict each other.

        Raises:
            BandError: an unknown kind, no band, a repeated band, or a band without finite mean, positive deviation or
                unit.
        """
        for name in ("bands", "mean", "std", "unit", "columns", "wavelengths", "codes"):
            if isinstance(getattr(self, name), str):
                raise BandError(f"{name} of {self.name!r} is a sequence; got {getattr(self, name)!r}")
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.kind not in KINDS:
            raise BandError(f"unknown kind {self.kind!r} of {self.name!r}; choose from {KINDS}")
        if not self.bands or len(set(self.bands)) < len(self.bands) or (self.kind == "scalar" and len(self.bands) > 1):
            number = "one" if self.kind == "scalar" else "one or more"
            raise BandError(f"{self.name!r} has the bands {self.bands}; expected {number}, each with a name of its own")
        for name in ("mean", "std", "unit"):
            if len(getattr(self, name)) != len(self.bands):
                raise BandError(f"{self.name!r} has {len(self.bands)} bands, but as {name} {getattr(self, name)}")
        for band, mean, std in zip(self.bands, self.mean, self.std, strict=True):
            if not math.isfinite(mean) or not 0 < std < math.inf:
                raise BandError(
                    f"band {band} of {self.name!r} has mean {mean} and standard deviation {std}; expected finite "
                    "numbers, the second above 0. A constant band holds no information: leave it out"
                )
        if self.columns and not set(self.bands) <= set(self.columns):
            raise BandError(f"the bands {self.bands} of {self.name!r} are not all among its columns {self.columns}")

    @property
    def is_place(self) -> bool:
        """True for longitude and latitude, which say where a sample lies, not what is there."""
        return self.kind == "vector" and is_place(self.all_columns)

    @property
    def all_columns(self) -> tuple[str, ...]:
        """Names of all values in a batch."""
        return self.columns or self.bands

    def take(self, bands: Sequence[str]) -> "Modality":
        """The same modality with `bands` only, in that order; `()` keeps all of them.

        Raises:
            BandError: an unknown or repeated band.
        """
        if isinstance(bands, str):
            raise BandError(f"bands of {self.name} are a sequence of names; write ({bands!r},) instead of {bands!r}")
        if not bands or tuple(bands) == self.bands:
            return self
        if unknown := [band for band in bands if band not in self.bands]:
            raise BandError(f"{self.name} has no bands {unknown}; name some of {list(self.bands)}")
        indices = [self.bands.index(band) for band in bands]
        picked: dict[str, Any] = {
            name: tuple(getattr(self, name)[place] for place in indices)
            for name in ("bands", "mean", "std", "unit", "wavelengths", "codes")
            if getattr(self, name)
        }
        if self.kind == "vector":
            picked["columns"] = self.all_columns
        return replace(self, **picked)


TargetKind = Literal["class", "labels", "map", "number"]
TARGET_KINDS: tuple[TargetKind, ...] = ("class", "labels", "map", "number")


@dataclass(frozen=True)
class Target:
    """A quantity to predict.

    Attributes:
        name: key in a batch.
        kind: `"class"` (B,) int64, `"labels"` (B, classes) float32 of 0 and 1, `"map"` (B, H, W) int64, or `"number"`
            (B,) float32. Unknown is 255 where labels are integers, NaN where they are numbers.
        classes: names, in the order of their indices; empty for a number.
        unit: of a number.
        colours: hexadecimal, one per class, for maps and figures; may be empty.
    """

    name: str
    kind: TargetKind
    classes: tuple[str, ...] = ()
    unit: str = ""
    colours: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse facts that contradict each other.

        Raises:
            BandError: an unknown kind, a repeated class, too few classes, or not one colour per class.
        """
        if self.kind not in TARGET_KINDS:
            raise BandError(f"unknown kind {self.kind!r} of target {self.name!r}; choose from {TARGET_KINDS}")
        if len(set(self.classes)) < len(self.classes):
            raise BandError(f"target {self.name!r} names a class twice: {self.classes}")
        if (self.kind == "number") == bool(self.classes) or (self.kind in ("class", "map") and len(self.classes) < 2):
            wanted = "none" if self.kind == "number" else "two or more"
            raise BandError(
                f"target {self.name!r} of kind {self.kind!r} has the classes {self.classes}; it needs {wanted}"
            )
        if self.colours and len(self.colours) != len(self.classes):
            raise BandError(f"target {self.name!r} has {len(self.classes)} classes and {len(self.colours)} colours")


def is_place(bands: Sequence[str]) -> bool:
    """True if the bands of a vector are longitude and latitude by their names, in this order."""
    return [band[:3].lower() for band in bands] == ["lon", "lat"]


InputSpec = Mapping[str, Modality | Sequence[str]]
"""For each key in a batch, a `Modality`, or the bands of one in `MODALITIES` (`()` for all of them)."""


def _table() -> dict[str, Modality]:
    """The modalities of ben-ge: statistics of S2 and S1 over BigEarthNet v1, round numbers for the others."""
    count, weather = len(S2), WEATHER.values()
    return {
        "s2": Modality(
            "s2",
            "image",
            tuple(S2),
            tuple(band.mean for band in S2.values()),
            tuple(band.std for band in S2.values()),
            ("reflectance",) * count,
            size=PATCH_SIZE,
            wavelengths=tuple(float(band.wavelength) for band in S2.values()),
        ),
        "s1": Modality(
            "s1",
            "image",
            tuple(S1),
            tuple(mean for mean, _ in S1.values()),
            tuple(std for _, std in S1.values()),
            ("dB",) * len(S1),
            size=PATCH_SIZE,
        ),
        "dem": Modality("dem", "image", ("elevation",), DEM_MEAN_STD[:1], DEM_MEAN_STD[1:], ("m",), size=PATCH_SIZE),
        "weather": Modality(
            "weather",
            "vector",
            tuple(WEATHER),
            tuple(variable.mean for variable in weather),
            tuple(variable.std for variable in weather),
            tuple(variable.unit for variable in weather),
        ),
        "season": Modality("season", "scalar", ("season",), (0.5,), (0.3,), ("1",)),
        "lonlat": Modality("lonlat", "vector", ("lon", "lat"), (11.0, 53.0), (14.0, 9.0), ("degree", "degree")),
    }


MODALITIES: dict[str, Modality] = _table()
"""Modalities of ben-ge by key."""


_COVER = tuple(c.name for c in LAND_COVER)
_COVER_COLOURS = tuple(c.colour for c in LAND_COVER)
TARGETS: dict[str, Target] = {
    "climate_zone": Target(
        "climate_zone", "class", tuple(z.symbol for z in CLIMATE_ZONES), colours=tuple(z.colour for z in CLIMATE_ZONES)
    ),
    "land_cover_top": Target("land_cover_top", "class", _COVER, colours=_COVER_COLOURS),
    "corine": Target("corine", "labels", CORINE_19),
    "land_cover": Target("land_cover", "map", _COVER, colours=_COVER_COLOURS),
    "season": Target("season", "number", unit="1"),
}
"""Targets of ben-ge by key."""


def as_modality(key: str, given: Modality | Sequence[str] = ()) -> Modality:
    """A given modality, or the modality of ben-ge under `key` with the named bands, `()` for all of them.

    Raises:
        BandError: an unknown key or band.
    """
    if isinstance(given, Modality):
        return given if given.name == key else replace(given, name=key)
    if key not in MODALITIES:
        raise BandError(
            f"no statistics for {key!r}; there are some for {list(MODALITIES)}. Give a Modality, such as those of "
            "`dataset.inputs`, for data of your own"
        )
    return MODALITIES[key].take(given)


def as_modalities(inputs: InputSpec) -> dict[str, Modality]:
    """The modalities of an encoder, by key, in order.

    Raises:
        BandError: no modality, or an unknown one.
    """
    if not inputs:
        raise BandError('inputs is empty; give for example {"s2": S2_BANDS}')
    return {key: as_modality(key, given) for key, given in inputs.items()}


def require_same(model: InputSpec, data: Mapping[str, Modality], what: str = "the dataset") -> None:
    """Refuse data whose bands, band order or units differ from those of a model.

    Args:
        model: inputs of the model; keys that `data` lacks are ignored.
        data: modalities of the data.
        what: name of the data in messages.

    Raises:
        BandError: naming both.
    """
    for key, wanted in ((key, as_modality(key, given)) for key, given in model.items() if key in data):
        given = data[key]
        is_vector = wanted.kind == "vector"  # a model selects values of a vector, but takes images whole
        same = wanted.all_columns == given.all_columns if is_vector else wanted.bands == given.bands
        if wanted.kind != given.kind or not same:
            raise BandError(
                f"the model reads {key} as {wanted.kind} of {wanted.bands}, but {what} gives {given.kind} of "
                f"{given.bands}; name the same bands in the same order for both"
            )
        units = dict(zip(given.bands, given.unit, strict=True))
        for band, unit in zip(wanted.bands, wanted.unit, strict=True):
            if units.get(band, unit) != unit:
                raise BandError(
                    f"the model reads band {band} of {key} in {unit!r}, but {what} gives it in {units[band]!r}; "
                    "state the unit and the scale of the data"
                )

"""Tags that change what pixels mean: scales and offsets, and values for no data, whoever wrote them. Needs no torch.

GDAL has fields for these. Other programs have words: `scale_factor` and `_FillValue` (netCDF, xarray), `BOA_ADD_OFFSET`
(Sentinel-2), `SCALING_FACTOR` (SNAP), `REFLECTANCE_MULT_BAND_2` (Landsat). Tags are recognised by the words in their
names, so that tags of unknown programs are recognised as well. In doubt a tag is taken to change the values: users
notice a refused file, but not an overlooked tag.
"""

import re
from collections.abc import Iterable

from bengelib.errors import RasterError

_FACTOR = re.compile(r"scale|scaling|gain|^(?:mult|multiplier|slope)$")
_TERM = re.compile(r"offset|bias|^(?:add|intercept)$")
_OTHER_WORDS = re.compile(r"(?:gr[ae]y|colou?r|time|down|up|multi)scaled?|unbiased|against|again")
"""Words with these letters that do not concern values."""
_OTHER_THINGS = {
    *("x", "y", "row", "col", "column", "map", "nominal", "denominator", "gray", "grey", "color", "colour", "display"),
    *("time", "date", "utc", "timezone", "unit", "units", "physical"),
}
"""Words near the scale or offset of a grid, a map, a legend or a clock, near the name of a unit, and in
`PHYSICAL_GAINS`, which the processing of Sentinel-2 has applied already."""
_BAND = re.compile(r"[_#.:-]*(?:b|band)?[_-]?\d+a?$", re.IGNORECASE)
_NO_DATA = re.compile(r"(?:fillvalue|missingvalue|nodata|nodatavalue)$")
_NOTHING = {"", "none", "null", "n/a", "no", "false"}


def check_value_tags(path: str, tags: Iterable[tuple[str, str]]) -> list[float]:
    """Refuse tags of a file that scale or shift its values, and collect its no-data values.

    Args:
        path: the file, for messages.
        tags: name and value of each.

    Returns:
        The no-data values.

    Raises:
        RasterError: naming each scale or gain other than 1, each offset or bias other than 0, and each value of such
            a tag that is not a number.
    """
    tags = list(tags)
    if changing := changing_tags(tags):
        raise RasterError(
            f"{path} has tags that scale or shift its values ({', '.join(changing)}); expected files "
            "that hold the values themselves (scale 1, offset 0). Apply what it says, convert to the units of the "
            "layout (reflectance x 10000, dB, metres), and write the file without these tags."
        )
    return no_data_tags(path, tags)


def changing_tags(tags: Iterable[tuple[str, str]]) -> list[str]:
    """Name and value of each scale or gain other than 1 and each offset or bias other than 0."""
    return [
        f"{name} {text[:60]}"
        for name, text in _telling(tags)
        if (neutral := _neutral(name)) is not None and _number(text) != neutral
    ]


def no_data_tags(path: str, tags: Iterable[tuple[str, str]]) -> list[float]:
    """The no-data values of a file.

    Raises:
        RasterError: a value is not a number.
    """
    no_data = []
    for name, text in _telling(tags):
        if _NO_DATA.search(re.sub("[^a-z]", "", _BAND.sub("", name).lower())):
            if (value := _number(text)) is None:
                raise RasterError(
                    f"{path} has a no-data value that is not a number, {name} {text[:60]!r}. Write the number, or "
                    "remove the tag."
                )
            no_data.append(value)
    return no_data


def _telling(tags: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Tags that concern values."""
    return [(name, text.strip()) for name, text in tags if text.strip().lower() not in _NOTHING]


def _neutral(name: str) -> float | None:
    """The value with which a tag of this name has no effect, None for other tags."""
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]
    if _OTHER_THINGS.intersection(words):
        return None
    for word in reversed(words):  # SCALING_OFFSET is an offset
        if _OTHER_WORDS.fullmatch(word):
            continue
        if _TERM.search(word):
            return 0
        if _FACTOR.search(word):
            return 1
    return None


def _number(text: str) -> float | None:
    """The number in a tag, None for anything else, such as a decimal comma or a list."""
    try:
        return float(text)
    except ValueError:
        return None

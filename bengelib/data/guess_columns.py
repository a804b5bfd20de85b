"""Guesses about the columns of a table: ids, groups, locations, splits, classes, labels, and sensor values."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from bengelib.data.description import BLOCK
from bengelib.data.guess import Guess
from bengelib.data.splits import FOLDS, SPLITS

FEW = 40
"""Maximum number of distinct values of a column, or a map, of classes."""
SIDES = (*SPLITS, "training", "validation", "valid", "dev", "testing")
"""Names of the parts of a split."""
_GAPS = ("", "nan", "na", "null", "none")
_IDS = {"id", "ids", "fid", "oid", "objectid", "uuid", "name", "patch", "file", "filename", "chip", "image", "station",
        "point", "sample", "index", "key"}  # fmt: skip
_GROUPS = ("group", "site", "scene", "tile", "cluster", "block", "event", "region", "fold", "plot", "field", "country")
_CLASSES = {
    "label",
    "class",
    "target",
    "y",
    "category",
    "type",
    "lulc",
    "cover",
    "landcover",
    "crop",
    "species",
    "code",
}
_PLACES = (("lon", "longitude", "lng", "long"), ("lat", "latitude"))
_BLOCKS = (BLOCK, 1.0, 5.0, 10.0)
_TOGETHER = 4
"""Average number of samples per block from which blocks keep neighbours together."""

OPTICAL = re.compile(
    r"(?i)(s2_?|sr_?)?(b0?\d{1,2}a?|coastal(_?aerosol)?|blue|green|red|(v|n)?_?(red_?edge|re)_?\d?|"
    r"nir_?\d*|swir_?\d*)"
)
"""Names of optical bands, for full matches."""
RADAR = re.compile(r"(?i)(s1_?|sigma0?_?|gamma0?_?)?(vv|vh|hh|hv)(_?(db|power|mean))?")
"""Names of radar bands, for full matches."""
HEIGHT = re.compile(r"(?i)(^|_)(dem|dsm|dtm|elev\w*|height|altitude|srtm)($|_)|dem$")
"""Parts of names of elevation, for searches."""


def guess_columns(guess: Guess, name: str, table: pd.DataFrame, id_column: str, *, alone: bool) -> None:
    """Describe the samples, and the modalities and targets in the table.

    Args:
        guess: the description to extend.
        name: file name of the table.
        table: every cell as text.
        id_column: the column that names the files; `""` if there is none.
        alone: whether there are no files, so that the inputs are in the table too.
    """
    columns = [str(column) for column in table]
    guess.samples(table=name)
    used = {id_column} if id_column else set()
    if not id_column or not table[id_column].is_unique:
        id_column = next((c for c in columns if _words(c) & _IDS and table[c].is_unique and _is_filled(table[c])), "")
        used |= {id_column} - {""}
        if not id_column:
            guess.say(f"no column of {name} names the samples: the numbers of their rows do, so keep the order")
    if id_column:
        guess.samples(id=id_column)
    used |= _guess_split(guess, table) | _guess_group(guess, table, used)
    locations = _guess_places(guess, table, has_group="group" in guess.known)
    used |= set(locations)
    rest = [column for column in columns if column not in used]
    numeric = [column for column in rest if _is_numeric(table[column])]
    counts = [column for column in numeric if _is_count(table[column])]
    if counts:
        guess.say(f"columns {counts} count the rows and are left out")
    labels = _guess_classes(guess, table, [column for column in rest if column not in counts], numeric)
    numeric = [column for column in numeric if column not in (*labels, *counts)]
    constant = [column for column in numeric if table[column].nunique() == 1]
    if constant:
        guess.say(f"columns {constant} have one value everywhere and are left out")
    numeric = [column for column in numeric if column not in constant]
    if locations:
        guess.add(
            "modalities",
            guess.key("lonlat"),
            {"kind": "vector", "columns": locations, "bands": ["lon", "lat"], "unit": "degree"},
        )
    inputs = _inputs(guess, numeric, bool(labels), bool(locations)) if alone else {}
    for group, members in inputs.items():
        key = guess.key(group, f"{group}_columns", "columns")
        guess.add("modalities", key, {"kind": "vector", "columns": members, **_unit(group, members, table)})
        guess.say(f"columns {_few(members)} are taken for the vector {key}")
    for column in numeric:
        if not any(column in members for members in inputs.values()):
            key = guess.key(column, f"{column}_number", "number")
            guess.add("targets", key, {"kind": "number", "column": column, "unit": ""})
            guess.say(f"column {column} is taken for a number to predict")


def _guess_split(guess: Guess, table: pd.DataFrame) -> set[str]:
    """The column with the split of each sample."""
    for column in map(str, table):
        values = set(table[column].str.lower()) - {""}
        if len(values) > 1 and values <= set(SIDES):
            guess.samples(split=column)
            guess.say(f"column {column} says which side of the split a sample is on")
            return {column}
    return set()


def _guess_group(guess: Guess, table: pd.DataFrame, used: set[str]) -> set[str]:
    """The column that groups samples, if it has enough groups for a split."""
    for word in _GROUPS:
        for column in (str(column) for column in table if str(column) not in used):
            cells = table[column]
            if word not in _words(column) or not _is_filled(cells) or cells.str.contains(".", regex=False).any():
                continue
            if FOLDS <= cells.nunique() < len(cells) and not _words(column) & _CLASSES:
                guess.samples(group=column)
                guess.say(f"column {column} keeps samples together in a blocked split ({cells.nunique()} groups)")
                return {column}
    return set()


def _guess_places(guess: Guess, table: pd.DataFrame, *, has_group: bool) -> list[str]:
    """The columns of longitude and latitude, if they hold degrees."""
    lower = {str(column).lower(): str(column) for column in table}
    found = [next((lower[name] for name in names if name in lower), "") for names in _PLACES]
    if not all(found):
        return []
    degrees = np.stack([pd.to_numeric(table[column], errors="coerce").to_numpy(float) for column in found], axis=1)
    if not (np.abs(degrees) <= (180, 90)).all():
        guess.say(f"columns {found} are not degrees in every row, and are not taken for places")
        return []
    guess.samples(longitude=found[0], latitude=found[1])
    guess.say(f"columns {found[0]} and {found[1]} are taken for degrees")
    if not has_group:
        sizes = {block: len(degrees) / len(np.unique(np.floor(degrees / block), axis=0)) for block in _BLOCKS}
        block = next((block for block, size in sizes.items() if size >= _TOGETHER), BLOCK)
        if block != BLOCK:
            guess.samples(block=block)
        guess.say(f"samples in a block of {block:g} degrees stay on one side of the split")
    return found


def _guess_classes(guess: Guess, table: pd.DataFrame, columns: Sequence[str], numeric: Sequence[str]) -> list[str]:
    """The columns of classes and labels, which become targets."""
    found: list[str] = []
    unclear: list[str] = []
    for column in columns:
        cells = table[column]
        names = sorted(set(cells) - {""}, key=lambda name: (0, int(name), "") if name.isdecimal() else (1, 0, name))
        separator = next((sign for sign in ";|" if cells.str.contains(sign, regex=False).any()), "")
        if column in numeric:
            is_whole = cells.str.lower().isin(_GAPS) | cells.str.fullmatch(r"-?\d+")
            if not (is_whole.all() and 2 <= len(names) <= FEW and _words(column) & _CLASSES):
                continue
        elif separator and column not in numeric:
            parts = sorted({part.strip() for cell in cells for part in cell.split(separator)} - {"", "[]"})
            if 2 <= len(parts) <= len(cells) / 2:
                facts = {"kind": "labels", "column": column, "classes": parts, "separator": separator}
                guess.add("targets", guess.key(column, f"{column}_labels", "labels"), facts)
                guess.say(f"column {column} is taken for a target of {len(parts)} labels, any number for each sample")
                found.append(column)
            else:
                unclear.append(column)
            continue
        elif not 2 <= len(names) <= min(FEW, len(cells) / 2):
            unclear.append(column)
            continue
        if gaps := [name for name in names if name.lower() in _GAPS]:
            guess.decide(
                f"column {column} has {gaps}, taken for a class: empty these cells if the class is unknown there"
            )
        key = guess.key(column, f"{column}_class", "label")
        guess.add("targets", key, {"kind": "class", "column": column, "classes": names})
        guess.say(f"column {column} is taken for a target of {len(names)} classes")
        found.append(column)
    same = [
        column for column in numeric if column not in found and any(_is_same(table[column], table[c]) for c in found)
    ]
    if same:
        guess.say(f"columns {same} are the numbers of classes and are left out")
    if unclear:
        guess.say(f"columns {_few(unclear)} are neither numbers nor a few names, and are left out")
    return [*found, *same]


def _inputs(guess: Guess, numeric: Sequence[str], has_classes: bool, has_places: bool) -> dict[str, list[str]]:
    """Columns that are inputs, grouped by sensor; other numbers are targets."""
    groups = _sensors(numeric)
    if has_classes:
        return groups
    known = {group: members for group, members in groups.items() if _kind(group, members)}
    if known or has_places or not numeric:
        return known
    *read, last = numeric
    guess.decide(f"no column is a class, a place or a band: {last}, the last one, is taken for the target")
    return _sensors(read)


def _sensors(columns: Sequence[str]) -> dict[str, list[str]]:
    """Columns grouped by a common prefix, else by the meaning of their names."""
    starts = {column: re.split(r"[_\-. ]", column)[0].lower() for column in columns}
    stems = {column: column.rstrip("0123456789").lower() for column in columns}
    shared = Counter(starts[column] for column in columns if starts[column] != column.lower()), Counter(stems.values())
    groups: dict[str, list[str]] = {}
    for column in columns:
        start, stem = starts[column], stems[column]
        if shared[0][start] > 1 and start != column.lower():
            group = start
        elif OPTICAL.fullmatch(column):
            group = "optical"
        elif RADAR.fullmatch(column):
            group = "radar"
        elif HEIGHT.search(column):
            group = "elevation"
        elif shared[1][stem] > 1 and stem != column.lower():
            group = stem
        else:
            group = "others"
        groups.setdefault(group, []).append(column)
    return groups


def _kind(group: str, members: Sequence[str]) -> str:
    """The sensor of the columns of a group; empty if unknown."""
    bare = [re.sub(rf"(?i)^{re.escape(group)}[_\-. ]+", "", column) for column in members]
    if group == "optical" or all(OPTICAL.fullmatch(column) for column in bare):
        return "optical"
    if group == "radar" or all(RADAR.fullmatch(column) for column in bare):
        return "radar"
    return "elevation" if group == "elevation" or all(HEIGHT.search(column) for column in bare) else ""


def _unit(group: str, members: Sequence[str], table: pd.DataFrame) -> dict[str, Any]:
    """Unit and scale of the columns of a group, as far as their values reveal them."""
    values = np.stack([pd.to_numeric(table[column], errors="coerce").to_numpy(float) for column in members], axis=1)
    kind, highs, lows = _kind(group, members), np.nanmax(values, axis=0), np.nanmin(values, axis=1)
    if kind == "optical" and (highs <= 2.5).all():
        return {"unit": "reflectance"}
    if kind == "optical" and (highs > 2.5).all():
        return {"unit": "reflectance", "scale": 0.0001}
    if kind == "radar" and (lows >= 0).all():
        return {"unit": "linear power"}
    if kind == "radar" and (lows < 0).mean() > 0.9:
        return {"unit": "dB"}
    return {"unit": "m" if kind == "elevation" else ""}


def _words(column: str) -> set[str]:
    """The words in the name of a column, in lower case, without digits."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", column)}


def _is_filled(cells: "pd.Series[str]") -> bool:
    return bool((cells != "").all())


def _is_numeric(cells: "pd.Series[str]") -> bool:
    filled = cells[~cells.str.lower().isin(_GAPS)]
    return bool(len(filled)) and bool(np.isfinite(pd.to_numeric(filled, errors="coerce").to_numpy(float)).all())


def _is_count(cells: "pd.Series[str]") -> bool:
    """True if a column numbers the rows, from 0 or 1."""
    return len(cells) > 1 and any(cells.tolist() == [str(n) for n in range(s, len(cells) + s)] for s in (0, 1))


def _is_same(one: "pd.Series[str]", other: "pd.Series[str]") -> bool:
    """True if two columns are equivalent: each value of one corresponds to one value of the other."""
    pairs = len(set(zip(one, other, strict=True)))
    return pairs == one.nunique() == other.nunique()


def _few(names: Sequence[str]) -> str:
    return str(list(names)) if len(names) <= 8 else f"{', '.join(names[:8])}, ... ({len(names)})"

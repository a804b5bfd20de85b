"""The CSV and JSON tables of ben-ge, read by column name into one array per modality or target.

Every function takes the meta table (one row per patch, indexed by `patch_id`) and returns values in its order.
"""

import csv
import io
import itertools
import json
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from bengelib.bands import CLIMATE_ZONES, CORINE_19, CORINE_19_FROM_43, CORINE_43, LAND_COVER_NAMES, WEATHER
from bengelib.data.csv_text import read_rows, read_text, what_number
from bengelib.data.plausible import COLUMNS, check_values, impossible
from bengelib.errors import DatasetNotFoundError, DataWarning, MissingModalityError, TableError
from bengelib.files import find, names_like
from bengelib.identity import read_id

META_COLUMNS = ("patch_id", "patch_id_s1", "timestamp_s2", "timestamp_s1", "season_s2", "season_s1", "lon", "lat")
TABLE_KEYS = ("season", "lonlat", "weather", "climate_zone", "land_cover_fractions", "land_cover_top", "corine")
"""Keys of a sample that come from tables."""

_COVER = "_esaworldcover.tif"
_BIGEARTHNET = {
    "BigEarthNet v2 (reBEN)": re.compile(
        r"BigEarthNet-S[12]|Reference_Maps|S2[ABC]_MSIL2A_\d{8}T\d+_N\d{4}_R\d{3}_T\w{5}|S1[ABC]_IW_GRDH_1SDV_\d{8}T\d+"
    ),
    "BigEarthNet v1": re.compile(
        r"BigEarthNet-(S1-)?v1\.0|S2[AB]_MSIL2A_\d{8}T\d+_\d+_\d+|S1[AB]_IW_GRDH_1SDV_\d{8}T\d+_\w{5}_\d+_\d+"
    ),
}
"""Names found only in a folder of BigEarthNet, by its version."""

_ZONE_INDEX = {zone.code: index for index, zone in enumerate(CLIMATE_ZONES)}
_CORINE_INDEX = {level3: CORINE_19.index(name) for name, parts in CORINE_19_FROM_43.items() for level3 in parts}


def read_csv(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """A CSV indexed by `patch_id`, read by the names of its columns.

    The order of columns, further columns, a byte-order mark, line endings of any system, blank lines, spaces around
    names and ids, and trailing commas do not matter.

    Warns:
        DataWarning: another file has the same name except for capitals or accents.

    Raises:
        TableError: the file cannot be parsed, lacks one of `columns` or repeats it, has rows without an id or of
            another length than its header, or repeats a patch. The message explains the fault.
    """
    columns = tuple(dict.fromkeys(("patch_id", *columns)))
    if others := [name for name in names_like(path) if name != path.name]:
        warnings.warn(
            f"{path} is read, and {others} beside it, whose name differs in capitals or accents only, is not",
            DataWarning,
            stacklevel=2,
        )
    text = read_text(path, TableError)
    ids = [column for column in ("patch_id", "patch_id_s1") if column in columns]
    header, is_plain = _check_rows(text, path, columns, ids)
    if not is_plain:  # trailing commas would make pandas shift the columns
        out = io.StringIO()
        for _, row in read_rows(text, path, TableError):
            csv.writer(out).writerow(value.strip() for value in row[: len(header)])
        text = out.getvalue()
    try:
        table = pd.read_csv(
            io.StringIO(text),
            header=0,
            names=header,
            index_col=False,
            dtype={"patch_id": str, "patch_id_s1": str},
            skipinitialspace=True,
        )
    except ValueError as error:  # pandas' parser errors are ValueErrors
        raise TableError(f"cannot read {path}: {error}") from error
    nameless = table[ids].isna().any(axis=1).to_numpy()
    if nameless.any():
        raise TableError(
            f"{path} has {int(nameless.sum())} rows with nothing in one of {ids}, the first being row "
            f"{int(nameless.argmax()) + 1} below the header. Remove it, or fill it in."
        )
    repeated = table["patch_id"][table["patch_id"].duplicated()]
    if len(repeated):
        raise TableError(f"{path} has {len(repeated)} repeated patch ids, the first being {repeated.iloc[0]}")
    return table.set_index("patch_id", drop=False)


def _check_rows(text: str, path: Path, columns: Sequence[str], ids: Sequence[str]) -> tuple[list[str], bool]:
    """Names of the columns, and whether all rows have as many values, without spaces around those of `ids`.

    Raises:
        TableError: as for `read_csv`.
    """
    start = text.lstrip().split("\n", 1)[0]
    for separator, name in ((";", "semicolons"), ("\t", "tabs"), ("|", "vertical bars"), (" ", "blanks")):
        if separator == " " and "," in start:
            continue
        if "patch_id" in [part.strip(' "\r') for part in start.split(separator)] and separator in start:
            raise TableError(
                f"{path} has its values separated by {name}: save it with commas, and with points in decimal numbers."
            )
    rows = read_rows(text, path, TableError)
    _, first = next(rows, (0, []))
    if not first:
        raise TableError(f"cannot read {path}: it is empty.")
    header = [name.strip() for name in first]
    if missing := [column for column in columns if column not in header]:
        raise TableError(f"{path} {_what_header(header, missing)}")
    named = [name for name in header if name]
    if len(set(named)) != len(named):
        raise TableError(f"{path} has the column {Counter(named).most_common(1)[0][0]!r} more than once. Remove one.")
    count = max(place for place, name in enumerate(header) if name) + 1  # the header may have trailing commas
    places, is_plain = [header.index(column) for column in ids], True
    for line, row in rows:
        if len(row) != len(header):
            is_plain = False
            if len(row) < count or any(value.strip() for value in row[count:]):
                cause = (
                    "A decimal comma (write 45.5), a thousands separator (write 1234), or a comma in an unquoted text?"
                    if len(row) > count
                    else "Was the line cut off?"
                )
                raise TableError(
                    f"{path}: line {line} has {len(row)} values where the header names {count} columns. {cause}"
                )
        for place in places:
            if row[place] != row[place].strip():
                is_plain = False
        if row[places[0]].strip() == "patch_id":
            raise TableError(f"{path}: line {line} is a header again. Were two files joined? Remove the line.")
    names = [name or f"unnamed {number}" for number, name in enumerate(header)]
    return names if is_plain else names[:count], is_plain


def _what_header(header: Sequence[str], missing: Sequence[str]) -> str:
    """The fault of a header that lacks columns, for a message."""
    line = ",".join(header)
    if line.lower().startswith("sep="):
        return f"begins with {line!r}, a note for spreadsheets. Remove this line, and separate values by commas."
    if len(header) == 1 and "," in header[0]:
        return "has each of its lines in quotes as a whole: save it without."
    if any(read_id(name) for name in header):
        return f"has no header: its first line, {line[:120]!r}, is data. Add one with the names of the columns."
    alike = {"".join(name.lower().replace("-", "_").split()): name for name in header}
    spelt = [f"{alike[name]!r} must read {name!r}" for name in missing if name in alike]
    hint = f" Spelling matters: {', '.join(spelt)}." if spelt else ""
    return f"lacks the columns {list(missing)}; it has {list(header)}.{hint}"


def find_meta(root: Path) -> Path:
    """The meta CSV of the tree at `root`.

    Raises:
        DatasetNotFoundError: no folder, or no `<name>_meta.csv` in it.
    """
    if not root.is_dir():
        if root.exists():
            raise DatasetNotFoundError(f"{root} is a file; give the folder of a dataset, which holds <name>_meta.csv.")
        raise DatasetNotFoundError(
            f"no folder {root}. Give the folder that holds {root.name}_meta.csv; or let bengelib.load get one by name, "
            '"ben-ge-800" for real ones (bengelib.fetch), "ben-ge-sim" for simulated ones (bengelib.simulate).'
        )
    path = find(root / f"{root.name}_meta.csv")
    if not path.is_file():
        if version := _bigearthnet(root):
            raise DatasetNotFoundError(
                f"{root} is {version}, not ben-ge: it has no {path.name}. `python -m bengelib describe --root {root}` "
                'writes a dataset.toml, with which it can be read; bengelib.load("ben-ge-800") gets ben-ge, with '
                "elevation, land cover and weather of the same patches."
            )
        others = sorted(other.name for other in root.glob("*_meta.csv"))
        hint = f"; it has {others}: rename the folder to match" if others else ""
        raise DatasetNotFoundError(
            f"no {path.name} in {root}{hint}. The file carries the folder's name; a wrongly unpacked archive has it "
            "one folder deeper. For data of your own, write a dataset.toml with `python -m bengelib describe --root "
            f"{root}`."
        )
    return path


def read_meta(root: Path) -> pd.DataFrame:
    """The meta table of the dataset at `root`, one row per patch, in the file's order.

    Raises:
        DatasetNotFoundError: there is no folder, or no `<name>_meta.csv` in it.
        TableError: the CSV is malformed or empty.
    """
    path = find_meta(root)
    meta = read_csv(path, META_COLUMNS)
    if meta.empty:
        raise TableError(f"{path} has a header but no patches")
    return meta


def _bigearthnet(root: Path) -> str | None:
    """The version of BigEarthNet that a folder holds or is part of, None for other folders."""
    if root.name in ("sentinel-1", "sentinel-2"):  # of ben-ge, which has the same patches
        return None
    names = {entry.name for entry in itertools.islice(root.iterdir(), 1000)} | {root.name}
    found = {version for version, form in _BIGEARTHNET.items() if any(form.fullmatch(name) for name in names)}
    return next((version for version in _BIGEARTHNET if version in found), None)


def _find(root: Path, stem: str, what: str) -> Path:
    """`<name>_<stem>.csv` at the root or in a folder named like the stem (as in the full set)."""
    candidates = [find(root / f"{root.name}_{stem}.csv"), find(root / stem / f"{root.name}_{stem}.csv")]
    found = [path for path in candidates if path.is_file()]
    if len(found) > 1 and found[0].read_bytes() != found[1].read_bytes():
        raise TableError(f"{found[0]} and {found[1]} differ, and {what!r} needs one of them. Move the other one away.")
    if found:
        return found[0]
    raise MissingModalityError(
        f"{what!r} was requested, but there is no {candidates[0].name} in {root} (nor in its folder {stem}/). "
        f"Leave {what!r} out, or add the file."
    )


Problems = dict[str, str]
"""Faults by patch id."""


def _rows(
    table: pd.DataFrame,
    meta: pd.DataFrame,
    columns: Sequence[str],
    path: Path,
    problems: Problems | None = None,
    key: str = "",
) -> np.ndarray:
    """Values of `columns`, (N, k) float64, for the patches of `meta`, within the limits of `key`.

    A patch without a row, or with a value that is impossible or not a number, is an error; or, if `problems` is given,
    it is recorded there and gets the value 0. Implausible values cause a warning.
    """
    numbers = table[list(columns)].apply(_numbers).reindex(meta.index)
    values = numbers.to_numpy(dtype=np.float64)
    bad = ~np.isfinite(values).all(axis=1)
    if problems is not None:
        for patch_id in meta.index[bad]:
            problems[patch_id] = f"{path} has no row with numbers in {list(columns)}"
    elif bad.any():
        absent = meta.index.difference(table.index)
        if len(absent):
            raise TableError(
                f"{path} has no row for {len(absent)} patches of the meta CSV, the first being {absent[0]}"
            )
        patch_id = meta.index[bad][0]
        found = table.loc[patch_id, list(columns)]
        given = [value.item() if isinstance(value, np.generic) else value for value in found]
        cause = next(filter(None, (what_number(str(value)) for value in given)), "")
        raise TableError(
            f"{path} has a value in {list(columns)} that is empty, not a number or not finite: {given} for "
            f"{patch_id}.{cause}"
        )
    for place, (column, kind) in enumerate(zip(columns, COLUMNS.get(key, {key: key}).values(), strict=True)):
        cannot, words = impossible(kind, values[:, place])
        cannot &= ~bad
        if cannot.any() and problems is None:
            raise TableError(f"{path}, column {column}, {words} It is that of {meta.index[cannot][0]}.")
        if problems is not None:
            for patch_id, value in zip(meta.index[cannot], values[cannot, place], strict=True):
                problems[patch_id] = f"{path}, column {column}: {value:.10g} cannot be; it {words}"
        bad |= cannot
    if key == "land_cover_fractions":
        unknown = ~bad & (values.sum(axis=1) < 0.5)
        for patch_id in meta.index[unknown]:
            reason = f"{path}: the shares of land cover of {patch_id} add up to next to nothing instead of to 1"
            if problems is None:
                raise TableError(f"{reason}. Fill them in, or remove the patch from the meta CSV.")
            problems[patch_id] = reason
        bad |= unknown
    check_values(key, values[~bad], f"{path}, column {columns[0]}," if len(columns) == 1 else str(path))
    return np.where(bad[:, None], 0.0, values)


def _numbers(values: pd.Series) -> pd.Series:
    """A column as numbers, NaN for anything else; pandas alone would take booleans for 0 and 1."""
    if pd.api.types.is_bool_dtype(values):
        return pd.Series(np.nan, values.index)
    if not pd.api.types.is_numeric_dtype(values):
        values = values.mask(np.array([isinstance(value, bool) for value in values]))
    return pd.to_numeric(values, errors="coerce")


def _same_patches(table: pd.DataFrame, meta: pd.DataFrame, column: str, expected: pd.Series, path: Path) -> None:
    """Check that an optional column of a table agrees with the meta table.

    Raises:
        TableError: a row names another patch, because a column was sorted or shifted alone.
    """
    if column not in table.columns:
        return
    given, known = table[column].reindex(meta.index), set(expected)
    other = [
        place
        for place, (name, own) in enumerate(zip(given.fillna("").astype(str), expected, strict=True))
        if name != own and (name in known or read_id(name.removesuffix(_COVER)))
    ]
    if other:
        first = other[0]
        raise TableError(
            f"{path}: {column} of {len(other)} patches is that of another patch, the first being {given.iloc[first]} "
            f"where {expected.iloc[first]} belongs to {meta.index[first]}. Was a column sorted or shifted alone?"
        )


def read_weather(root: Path, meta: pd.DataFrame, acquisition: str, problems: Problems | None = None) -> np.ndarray:
    """ERA-5 at the time of the `s2` or `s1` acquisition: (N, 5) float32 in the order and units of `bands.WEATHER`.

    Raises:
        MissingModalityError: there is no such table.
        TableError: it is malformed, or a patch has no valid values in it (unless `problems` is given).
    """
    path = _find(root, "era-5", "weather")
    columns = [variable.column.format(time=acquisition) for variable in WEATHER.values()]
    table = read_csv(path, columns)
    _same_patches(table, meta, "patch_id_s1", meta["patch_id_s1"], path)
    return _rows(table, meta, columns, path, problems, "weather").astype(np.float32)


def read_fractions(
    root: Path, meta: pd.DataFrame, what: str = "land_cover_fractions", problems: Problems | None = None
) -> np.ndarray:
    """Fraction of each WorldCover class in each patch: (N, 11) float32 in the order of `bands.LAND_COVER`, in [0, 1].

    Raises:
        MissingModalityError: there is no such table.
        TableError: it is malformed, or a patch has no fractions in it (unless `problems` is given).
    """
    path = _find(root, "esaworldcover", what)
    table = read_csv(path, LAND_COVER_NAMES)
    expected = pd.Series([f"{patch_id}{_COVER}" for patch_id in meta.index], index=meta.index)
    _same_patches(table, meta, "filename", expected, path)
    return _rows(table, meta, LAND_COVER_NAMES, path, problems, "land_cover_fractions").astype(np.float32)


def read_climate_zone(root: Path, meta: pd.DataFrame, problems: Problems | None = None) -> np.ndarray:
    """Index of the Koeppen-Geiger class in `bands.CLIMATE_ZONES`: (N,) int64.

    The codes are in the column `climatezone` of the meta CSV (subsets) or in `<name>_climatezones.csv` (full set).

    Raises:
        MissingModalityError: neither exists.
        TableError: an unknown code.
    """
    path = find(root / f"{root.name}_meta.csv")
    table = meta
    if "climatezone" not in meta.columns:
        try:
            path = _find(root, "climatezones", "climate_zone")
        except MissingModalityError:
            raise MissingModalityError(
                f"'climate_zone' was requested, but {path.name} in {root} has no column climatezone and there is no "
                f"{root.name}_climatezones.csv. Leave 'climate_zone' out, or add one of them."
            ) from None
        table = read_csv(path, ("climatezone",))
    codes = _rows(table, meta, ("climatezone",), path, problems)[:, 0]
    unknown = sorted(set(codes.tolist()) - set(_ZONE_INDEX))  # including 26.7, which is not 26
    if problems is not None:
        for patch_id in meta.index[np.isin(codes, unknown)]:
            problems[patch_id] = f"{path}: a climate zone code that is not in the legend {sorted(_ZONE_INDEX)}"
    elif unknown:
        shown = ", ".join(f"{code:g}" for code in unknown)
        raise TableError(f"{path}: climate zone codes [{shown}] are not in the legend {sorted(_ZONE_INDEX)}")
    return np.array([_ZONE_INDEX.get(int(code), 0) for code in codes], dtype=np.int64)


def corine_multi_hot(path: Path) -> np.ndarray:
    """The BigEarthNet-19 labels in one `*_labels_metadata.json`: (19,) float32 of 0 and 1, all 0 if none applies.

    Raises:
        MissingModalityError: there is no such file.
        TableError: the file is unreadable, or has a label that is not in CORINE's level 3.
    """
    if not path.is_file():
        raise MissingModalityError(f"'corine' was requested, but there is no {path}. Leave 'corine' out, or add it.")
    try:
        labels = [str(label) for label in json.loads(path.read_text(encoding="utf-8"))["labels"]]
    except (ValueError, KeyError, TypeError) as error:
        raise TableError(f"cannot read the labels in {path}: {error!r}") from error
    unknown = sorted(set(labels) - set(CORINE_43))
    if unknown:
        raise TableError(f"{path}: {unknown} are not CORINE level-3 names as BigEarthNet spells them")
    multi_hot = np.zeros(len(CORINE_19), dtype=np.float32)
    for label in labels:
        if label in _CORINE_INDEX:
            multi_hot[_CORINE_INDEX[label]] = 1.0
    return multi_hot


def read_corine(root: Path, meta: pd.DataFrame, problems: Problems | None = None) -> np.ndarray:
    """BigEarthNet-19 labels of each patch from its Sentinel-2 JSON: (N, 19) float32 multi-hot.

    Raises:
        MissingModalityError: a patch has no such file (if `problems` is given: no patch has one).
        TableError: a file is unreadable, or has a label that is not in CORINE's level 3 (unless `problems` is given).
    """
    labels = np.zeros((len(meta), len(CORINE_19)), dtype=np.float32)
    missing = 0
    for row, patch_id in enumerate(meta.index):
        try:
            labels[row] = corine_multi_hot(root / "sentinel-2" / patch_id / f"{patch_id}_labels_metadata.json")
        except (MissingModalityError, TableError) as error:
            missing += isinstance(error, MissingModalityError)
            if problems is None or missing == len(meta):
                raise
            problems[patch_id] = str(error)
    return labels


def read_table(
    root: Path, meta: pd.DataFrame, key: str, acquisition: str = "s2", problems: Problems | None = None
) -> np.ndarray:
    """The array of one table key for all patches.

    Args:
        root: folder of the dataset.
        meta: its meta table, or some rows of it.
        key: one of `TABLE_KEYS`.
        acquisition: whether season and weather are those of the `"s2"` or of the `"s1"` acquisition.
        problems: if given, a patch without a valid value is not an error: it gets zeros, and the reason is added here.

    Raises:
        MissingModalityError: the dataset lacks it.
        TableError: a file is malformed, or a patch has no valid value in it.
    """
    meta_path = find(root / f"{root.name}_meta.csv")
    if key == "season":
        season = _rows(meta, meta, (f"season_{acquisition}",), meta_path, problems, "season")
        return season[:, 0].astype(np.float32)
    if key == "lonlat":
        return _rows(meta, meta, ("lon", "lat"), meta_path, problems, "lonlat").astype(np.float32)
    if key == "weather":
        return read_weather(root, meta, acquisition, problems)
    if key == "climate_zone":
        return read_climate_zone(root, meta, problems)
    if key == "land_cover_fractions":
        return read_fractions(root, meta, problems=problems)
    if key == "land_cover_top":
        return read_fractions(root, meta, "land_cover_top", problems).argmax(axis=1).astype(np.int64)
    return read_corine(root, meta, problems)

"""The samples of a described dataset, from its table or its files, and the split of each."""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bengelib.arguments import whole_number
from bengelib.bands import IGNORE_INDEX
from bengelib.data.account import tell_once
from bengelib.data.csv_text import read_rows, read_text, what_number
from bengelib.data.description import BLOCK, Description, Source
from bengelib.data.splits import FOLDS, SCHEMES, SPLITS, study_split, unit_hash
from bengelib.errors import DescriptionError, SplitError, TableError

_SIDES = {"validation": "val", "valid": "val", "dev": "val", "training": "train", "testing": "test"}
_NONE = "[]"
"""A list of labels that is there and holds none, where an empty cell is unknown."""
_QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"")


def read_samples(description: Description) -> pd.DataFrame:
    """One row per sample, indexed by its id; every column as text, empty for missing values.

    The ids are in the column named by `dataset.toml`, by default `id`. Without that column, and without files that need
    an id, rows are numbered from 1. Without a table, files of one name in several folders have these before their
    names: `Forest/0001`.

    Raises:
        DescriptionError: the table or a column named by `dataset.toml` is missing, or there are no samples.
        TableError: the table cannot be read, or an id is missing or repeated.
    """
    id_column = description.samples["id"]
    with_files = [source for source in description.modalities.values() if source.files]
    others: list[set[str]] = []
    if "table" in description.samples:
        table = _read_table(description)
        where = str(description.root / description.samples["table"])
        if id_column == "id" and "id" not in table and not any(_fields(source, "id") for source in with_files):
            table.insert(0, "id", [str(number) for number in range(1, len(table) + 1)])
    else:
        source = with_files[0]
        assert source.files is not None
        maps = [each for each in description.targets.values() if each.files]
        others = [set(_fields(each)) for each in (*with_files[1:], *maps)]
        table = pd.DataFrame(source.files.rows(source.bands if source.per_band else ()), dtype=str)
        where = f"{source.files.where} = {source.files.text!r}"
        if not len(table):
            raise DescriptionError(
                f"{where} fits no file in {description.root}; compare the pattern with the names of the files"
            )
    if not len(table):
        raise TableError(f"{where} has no rows")
    _check_columns(description, table, where)
    ids = names = table[id_column]
    if "table" not in description.samples and ids.duplicated().any() and all({*table} <= each for each in others):
        ids = table.agg("/".join, axis=1)  # files that are numbered alike in each folder of a class or side
    if (ids == "").any():
        raise TableError(
            f"{where}: row {int(np.flatnonzero(ids == '')[0]) + 1} has no {id_column}; each sample needs one"
        )
    if ids.duplicated().any():
        twice = ids[ids.duplicated()].iloc[0]
        raise TableError(
            f"{where}: the id {twice!r} stands for {int((ids == twice).sum())} samples; give each one of its own in a "
            f"table, and name its column as [samples] id of {description.path}"
        )
    return table.assign(id=names).set_index(pd.Index(ids, name="sample"))


def _read_table(description: Description) -> pd.DataFrame:
    """The table of samples as text."""
    path = description.root / description.samples["table"]
    if not path.is_file():
        raise DescriptionError(f"{description.path}: [samples] table = {path.name!r}, but there is no {path}")
    targets = description.targets.values()
    return read_text_table(path, {source.columns[0]: source.separator for source in targets if source.kind == "labels"})


def read_text_table(path: Path, separators: Mapping[str, str] | None = None) -> pd.DataFrame:
    """A CSV or Parquet file with every cell as text, empty for missing values.

    Args:
        path: ends in `.csv` or `.parquet`.
        separators: separators of list items by column; by default `;`.

    Raises:
        TableError: the file cannot be read.
    """
    if path.suffix.lower() == ".csv":
        return _read_csv(path)
    try:
        table = pd.read_parquet(path, dtype_backend="numpy_nullable")  # otherwise gaps turn whole numbers into 1.0
    except ImportError as error:
        raise TableError(
            f"{path} is Parquet, which pandas reads with pyarrow: pip install pyarrow, or save the table as CSV"
        ) from error
    except (ValueError, OSError) as error:
        raise TableError(f"{path} cannot be read as Parquet ({error})") from error
    if table.index.name:
        table = table.reset_index()
    text = {str(name): _as_text(table[name], (separators or {}).get(str(name), ";")) for name in table}
    return pd.DataFrame(text, dtype=str)


def _as_text(column: "pd.Series[Any]", separator: str) -> "pd.Series[str]":
    """A column of any type as text: lists are joined, missing values empty."""
    is_list = column.map(lambda value: isinstance(value, (list, np.ndarray)))
    if is_list.any():
        joined = [separator.join(map(str, value)) or _NONE for value in column[is_list]]
        column = column.astype(object)
        column[is_list] = joined
    return column.astype(object).where(column.notna(), "").astype(str).str.strip()


def _read_csv(path: Path) -> pd.DataFrame:
    """A CSV as text, without spaces around values, and without unnamed columns.

    Raises:
        TableError: the file is not CSV, has a repeated column, or a row whose length differs from the header.
    """
    rows = read_rows(read_text(path, TableError), path, TableError)
    _, header = next(rows, (0, []))
    names = [name.strip() for name in header]
    if len(names) == 1 and (other := next((sign for sign in ";\t|" if sign in names[0]), "")):
        raise TableError(f"{path} has its values separated by {other!r}: save it with commas")
    if twice := [name for name in names if name and names.count(name) > 1]:
        raise TableError(f"{path} has the column {twice[0]!r} twice; remove one, or give it another name")
    columns: list[list[str]] = [[] for _ in names]
    for line, row in rows:
        if len(row) < len(names) or any(value.strip() for value in row[len(names) :]):
            raise TableError(
                f"{path}: line {line} has {len(row)} values, the header {len(names)} names; put values with commas "
                "into quotes"
            )
        for column, value in zip(columns, row, strict=False):
            column.append(value.strip())
    return pd.DataFrame({name: column for name, column in zip(names, columns, strict=True) if name}, dtype=str)


def _fields(source: Source, *passed: str) -> list[str]:
    """Columns in the pattern of a source, limited to those that are `passed`, if any."""
    fields = source.files.fields if source.files else []
    return [field for field in fields if field in passed] if passed else fields


def _check_columns(description: Description, table: pd.DataFrame, where: str) -> None:
    """Refuse a description that names missing columns."""
    keys = ("id", "group", "longitude", "latitude", "split")
    wanted = {f"[samples] {key}": description.samples[key] for key in keys if key in description.samples}
    for part, sources in (("modalities", description.modalities), ("targets", description.targets)):
        for key, source in sources.items():
            wanted |= {f"[{part}.{key}] column {name}": name for name in source.columns}
            wanted |= {f"[{part}.{key}] files {name}": name for name in _fields(source) if name not in ("id", "band")}
    for what, column in wanted.items():
        if column not in table:
            raise DescriptionError(
                f"{description.path}: {what} asks for the column {column!r}, but {where} has {list(table.columns)}"
            )


def numbers(table: pd.DataFrame, column: str, where: str) -> np.ndarray:
    """A column as float64, NaN for empty cells.

    Args:
        table: the samples.
        column: its name.
        where: the file of the table, for messages.

    Raises:
        TableError: a value is not a finite number.
    """
    text = table[column]
    empty = text.str.lower().isin(["", "nan", "na", "null", "none"])
    values = pd.to_numeric(text.where(~empty), errors="coerce").to_numpy(np.float64)
    bad = ~np.isfinite(values) & ~empty.to_numpy()
    if bad.any():
        first = text[bad].iloc[0]
        raise TableError(
            f"{where}: column {column} has {first!r} for sample {table.index[bad][0]}, which is not a finite number; "
            f"correct it, or leave it empty where it is unknown.{what_number(first)}"
        )
    return values


def read_column(source: Source, table: pd.DataFrame) -> np.ndarray:
    """The values of a modality or target in the table.

    Returns:
        A vector (N, columns) or scalar (N,) float32 in its unit, classes (N,) int64, labels (N, classes) or numbers
        (N,) float32; missing values are 255 for integers, NaN otherwise.

    Raises:
        TableError: a value is not a number, or not a class of the description.
    """
    if source.kind in ("vector", "scalar", "number"):
        values = np.stack([numbers(table, name, source.table) for name in source.columns], axis=1)  # (N, columns)
        values[np.isin(values, source.no_data)] = np.nan
        if source.scale:
            values = values * source.scale
        if source.offset:
            values = values + source.offset
        return np.asarray(values if source.kind == "vector" else values[:, 0], np.float32)
    (column,) = source.columns
    index_of = {name: place for place, name in enumerate(source.classes)}
    cells = table[column]
    if source.kind == "class":
        known = cells.map(index_of)
        _refuse_unknown(source, cells[known.isna() & (cells != "")])
        return np.array(known.fillna(IGNORE_INDEX), np.int64)  # a copy, since pandas' array may be read-only
    values = np.full((len(table), len(index_of)), np.nan, np.float32)
    for row, cell in enumerate(cells):
        names = _labels(cell, source.separator)
        if unknown := [name for name in names if name not in index_of]:
            _refuse_unknown(source, pd.Series(unknown, [cells.index[row]] * len(unknown), dtype=str))
        if names or cell == _NONE:
            values[row] = 0
            values[row, [index_of[name] for name in names]] = 1
    return values


def _labels(cell: str, separator: str) -> list[str]:
    """The labels in a cell: divided by the separator, or a list as printed by Python or NumPy."""
    if cell.startswith("[") and cell.endswith("]"):
        return [one or other for one, other in _QUOTED.findall(cell)]
    return [name for part in cell.split(separator) if (name := part.strip())]


def _refuse_unknown(source: Source, cells: "pd.Series[str]") -> None:
    if len(cells):
        raise TableError(
            f"{source.table}: column {source.columns[0]} has {cells.iloc[0]!r} for sample {cells.index[0]}, which is "
            f"none of {source.where} classes = {list(source.classes)}; add it there, or leave the cell empty where it "
            "is unknown"
        )


def groups_of(description: Description, table: pd.DataFrame) -> np.ndarray | None:
    """The group of each sample, or its block of degrees, (N,) of str; None if unknown.

    Raises:
        TableError: a coordinate is missing or outside its range.
    """
    samples = description.samples
    if "group" in samples:
        groups = table[samples["group"]]
        if (groups == "").any():
            raise TableError(
                f"{description.path}: [samples] group = {samples['group']!r}, which is empty for sample "
                f"{groups.index[groups == ''][0]}; fill it in, or leave the row out"
            )
        return groups.to_numpy(str)
    if "longitude" not in samples:
        return None
    where = str(description.root / samples.get("table", ""))
    lon, lat = (numbers(table, samples[name], where) for name in ("longitude", "latitude"))
    for name, values, limit in (("longitude", lon, 180), ("latitude", lat, 90)):
        outside = ~(np.abs(values) <= limit)
        if outside.any():
            raise TableError(
                f"{where}: column {samples[name]} has {values[outside][0]:g} for sample {table.index[outside][0]}, "
                f"which is not a {name}; "
                f"expected degrees from -{limit} to {limit}. Are longitude and latitude exchanged, or is it metres?"
            )
    block = samples.get("block", BLOCK)
    corners = np.floor(np.stack([lon, lat], axis=1) / block).astype(int)
    return np.array([f"{x} {y}" for x, y in corners.tolist()])


def sides_of(
    description: Description,
    table: pd.DataFrame,
    scheme: str | None = None,
    fold: int = 0,
    targets: Collection[str] | None = None,
) -> np.ndarray:
    """The split of each sample, (N,) of `"train"`, `"val"`, `"test"` or `""`.

    Args:
        description: of the dataset.
        table: its samples.
        scheme: `"official"` (its column), `"study"` (60/15/25 by hash of the id), `"blocked"` (five folds of whole
            groups or blocks), or None for `description.scheme`.
        fold: the test fold, of five, under `"blocked"`; the next one is for validation.
        targets: those to predict; by default all.

    Raises:
        SplitError: an unknown scheme or fold, no column or groups for it, fewer groups than folds, a class within a
            single group, in any fold, or one without training samples in this fold.

    Warns:
        DataWarning: the dataset's own split has samples of one group in several splits.
    """
    scheme = scheme or description.scheme
    if scheme not in SCHEMES:
        raise SplitError(f"unknown split scheme {scheme!r}; choose one of {SCHEMES}")
    if whole_number("fold", fold, 0) >= FOLDS:
        raise SplitError(f"fold {fold} does not exist; the blocked split has folds 0 to {FOLDS - 1}")
    if scheme == "study":
        return study_split(list(table.index))
    if scheme == "official":
        if "split" not in description.samples:
            raise SplitError(
                f"{description.path} names no column of a split; add `split` to [samples], or give another scheme"
            )
        column = description.samples["split"]
        sides = table[column].str.lower().replace(_SIDES)
        other = sides[~sides.isin([*SPLITS, ""])]
        if len(other):
            raise SplitError(
                f"{description.path}: [samples] split = {column!r}, which has {other.iloc[0]!r} for sample "
                f"{other.index[0]}; expected one of {SPLITS}, or nothing"
            )
        if "group" in description.samples:
            _warn_of_cut_groups(description, table, sides)
        return sides.to_numpy(str)
    groups = groups_of(description, table)
    if groups is None:
        raise SplitError(
            f"{description.path} names neither a group nor longitude and latitude, which a blocked split needs; add "
            'them to [samples], or give scheme="study"'
        )
    folds = _balanced_folds(groups)
    if len(folds) < FOLDS:
        raise SplitError(
            f"the samples of {description.path} lie in {len(folds)} groups, too few for {FOLDS} folds; name a finer "
            'group, make `block` smaller, or give scheme="study", which keeps neighbours together less well'
        )
    of_sample = np.array([folds[group] for group in groups])
    sides = np.where(of_sample == fold, "test", np.where(of_sample == (fold + 1) % FOLDS, "val", "train"))
    wanted = [source for key, source in description.targets.items() if targets is None or key in targets]
    _check_classes([source for source in wanted if source.kind == "class"], table, groups, sides, fold)
    return sides


def _warn_of_cut_groups(description: Description, table: pd.DataFrame, sides: "pd.Series[str]") -> None:
    """Warn about groups whose samples a split of the dataset has on several sides."""
    named = sides != ""
    groups = table[description.samples["group"]][named]
    counts = sides[named].groupby(groups).nunique()
    if cut := sorted(counts.index[counts > 1]):
        tell_once(
            f"{description.path}: the split {description.samples['split']!r} has samples of {len(cut)} groups on "
            f"several sides, the first being {cut[0]!r}, so that test samples have neighbours in the training; leave "
            "`split` out for a blocked split, or `group` if these are no neighbours"
        )


def _balanced_folds(groups: np.ndarray) -> dict[str, int]:
    """The fold of each group: from the largest on, each joins the fold with the fewest samples so far; ties by hash."""
    sizes = Counter(groups.tolist())
    totals = [0] * FOLDS
    folds = {}
    for group in sorted(sizes, key=lambda name: (-sizes[name], unit_hash(name))):
        folds[group] = int(np.argmin(totals))
        totals[folds[group]] += sizes[group]
    return folds


def _check_classes(
    sources: Sequence[Source], table: pd.DataFrame, groups: np.ndarray, sides: np.ndarray, fold: int
) -> None:
    """Refuse a blocked split that cannot train on a class and test it too, or that has no training samples of one."""
    for source in sources:
        labels = read_column(source, table)
        for place, name in enumerate(source.classes):
            mine = labels == place
            if not mine.any():
                continue
            homes, count = sorted(set(groups[mine].tolist())), int(mine.sum())
            if len(homes) == 1:
                raise SplitError(
                    f"{source.where} all {count} samples of class {name!r} lie in one group, {homes[0]!r}, so no "
                    "blocked split trains on some and tests others. Name a finer group, leave their cells in column "
                    f'{source.columns[0]} empty, or give scheme="study", which keeps neighbours together less well'
                )
            if not (mine & (sides == "train")).any():
                raise SplitError(
                    f"{source.where} fold {fold} trains on no sample of class {name!r}: its {count} samples lie in "
                    f"{len(homes)} groups, the first being {homes[0]!r}. Give another fold, name a finer group, or "
                    'give scheme="study", which keeps neighbours together less well'
                )

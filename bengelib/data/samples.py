"""The samples of a described dataset: its table, or what its files make, and which side of a split each is on."""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from bengelib.arguments import whole_number
from bengelib.bands import IGNORE_INDEX
from bengelib.data.description import BLOCK, Description, Source
from bengelib.data.splits import FOLDS, SCHEMES, SPLITS, study_split, unit_hash
from bengelib.errors import DescriptionError, SplitError, TableError

_SIDES = {"validation": "val", "valid": "val", "dev": "val", "training": "train", "testing": "test"}


def read_samples(description: Description) -> pd.DataFrame:
    """One row a sample, indexed by its id; every column as text, empty where a value is missing.

    Raises:
        DescriptionError: the table or a column that `dataset.toml` names is not there, or there are no samples.
        TableError: the table cannot be read, or an id is missing or stands there twice.
    """
    samples = description.samples
    if "table" in samples:
        table = _read_table(description)
        where, id_column = str(description.root / samples["table"]), samples.get("id", "id")
    else:
        source = next(source for source in description.modalities.values() if source.files)
        assert source.files is not None
        rows = source.files.rows(source.bands)
        if not rows:
            raise DescriptionError(
                f"{description.path}: no file in {description.root} fits [modalities.{source.key}] files = "
                f"{source.files.text!r}; compare the pattern with the names of the files"
            )
        table, where, id_column = pd.DataFrame(rows, dtype=str), f"{description.root}, {source.files.text}", "id"
    _check_columns(description, table, where, id_column)
    ids = table[id_column]
    if (ids == "").any():
        raise TableError(
            f"{where}: row {int(np.flatnonzero(ids == '')[0]) + 1} has no {id_column}; each sample needs one"
        )
    if ids.duplicated().any():
        twice = ids[ids.duplicated()].iloc[0]
        raise TableError(
            f"{where}: the id {twice!r} stands for {int((ids == twice).sum())} samples; give each one of its own, or "
            "name another column as [samples] id"
        )
    if not len(table):
        raise DescriptionError(f"{where} has no rows")
    return table.assign(id=ids).set_index(pd.Index(ids, name="sample"))


def _read_table(description: Description) -> pd.DataFrame:
    """The table of samples as text; without a column of ids, their row numbers are the ids."""
    path = description.root / description.samples["table"]
    if not path.is_file():
        raise DescriptionError(f"{description.path}: [samples] table = {path.name!r}, but there is no {path}")
    table = read_text_table(path)
    if "id" not in description.samples and "id" not in table:
        table.insert(0, "id", [str(row) for row in range(len(table))])
    return table


def read_text_table(path: Path) -> pd.DataFrame:
    """A CSV or Parquet file with every cell as text, empty where a value is missing; lists are joined with `;`.

    Raises:
        TableError: it cannot be read.
    """
    try:
        if path.suffix == ".parquet":
            table = pd.read_parquet(path)
            lists = [
                name for name in table if table[name].map(lambda value: isinstance(value, (list, np.ndarray))).any()
            ]
            for name in lists:
                table[name] = table[name].map(";".join, na_action="ignore")
            return table.astype(object).where(table.notna(), "").astype(str)
        return pd.read_csv(path, dtype=str, keep_default_na=False, na_filter=False)
    except ImportError as error:
        raise TableError(f"{path} is Parquet, which pandas reads with pyarrow: pip install pyarrow") from error
    except (ValueError, OSError, UnicodeDecodeError) as error:
        raise TableError(f"{path} cannot be read as a table ({error})") from error


def _check_columns(description: Description, table: pd.DataFrame, where: str, id_column: str) -> None:
    """Refuse a description that names columns which are not there."""
    samples = description.samples
    wanted = {f"[samples] {key}": samples[key] for key in ("group", "longitude", "latitude", "split") if key in samples}
    wanted["[samples] id"] = id_column
    for part, sources in (("modalities", description.modalities), ("targets", description.targets)):
        for key, source in sources.items():
            wanted |= {f"[{part}.{key}] column {name}": name for name in source.columns}
            names = source.files.fields if source.files else []
            wanted |= {f"[{part}.{key}] files {name}": name for name in names if name not in ("id", "band")}
    for what, column in wanted.items():
        if column not in table:
            raise DescriptionError(
                f"{description.path}: {what} asks for the column {column!r}, but {where} has {list(table.columns)}"
            )


def numbers(table: pd.DataFrame, column: str) -> np.ndarray:
    """A column as float64, NaN where it is empty.

    Raises:
        TableError: a value is no number.
    """
    text = table[column].str.strip()
    empty = text.str.lower().isin(["", "nan", "na", "null", "none"])
    values = pd.to_numeric(text.where(~empty), errors="coerce")
    bad = values.isna() & ~empty
    if bad.any():
        raise TableError(f"column {column}: {text[bad].iloc[0]!r} of sample {text.index[bad][0]} is no number")
    return values.to_numpy(np.float64)


def read_column(source: Source, table: pd.DataFrame) -> np.ndarray:
    """The values of a modality or target that stands in the table.

    Returns:
        A vector (N, columns) or scalar (N,) float32 in its unit, classes (N,) int64, labels (N, classes) or numbers
        (N,) float32; what is missing is 255 where the type is an integer, NaN otherwise.

    Raises:
        TableError: a value is no number, or no class that the description names.
    """
    if source.kind in ("vector", "scalar", "number"):
        values = np.stack([numbers(table, column) for column in source.columns], axis=1)  # (N, columns)
        if source.scale:
            values = values * source.scale
        if source.offset:
            values = values + source.offset
        return np.asarray(values if source.kind == "vector" else values[:, 0], np.float32)
    (column,) = source.columns
    places = {name: place for place, name in enumerate(source.classes)}
    cells = table[column].str.strip()
    if source.kind == "class":
        known = cells.map(places)
        _refuse_unknown(source, cells[known.isna() & (cells != "")])
        return np.array(known.fillna(IGNORE_INDEX), np.int64)
    values = np.full((len(table), len(places)), np.nan, np.float32)
    for row, cell in enumerate(cells):
        names = [name for part in cell.split(source.separator) if (name := part.strip())]
        unknown = [name for name in names if name not in places]
        _refuse_unknown(source, pd.Series(unknown, [cells.index[row]] * len(unknown), dtype=str))
        if names:
            values[row] = 0
            values[row, [places[name] for name in names]] = 1
    return values


def _refuse_unknown(source: Source, cells: "pd.Series[str]") -> None:
    if len(cells):
        raise TableError(
            f"column {source.columns[0]}: {cells.iloc[0]!r} of sample {cells.index[0]} is none of the classes of "
            f"[targets.{source.key}], {list(source.classes)}; add it there, or leave the cell empty where it is unknown"
        )


def groups_of(description: Description, table: pd.DataFrame) -> np.ndarray | None:
    """What keeps samples together, (N,) of str: their group, or the block of degrees that they lie in; None if unknown.

    Raises:
        TableError: a coordinate is missing or outside its range.
    """
    samples = description.samples
    if "group" in samples:
        groups = table[samples["group"]]
        if (groups == "").any():
            raise TableError(
                f"sample {groups.index[groups == ''][0]} has no {samples['group']}, the column of the groups"
            )
        return groups.to_numpy(str)
    if "longitude" not in samples:
        return None
    lon, lat = (numbers(table, samples[name]) for name in ("longitude", "latitude"))
    for name, values, limit in (("longitude", lon, 180), ("latitude", lat, 90)):
        outside = ~(np.abs(values) <= limit)
        if outside.any():
            raise TableError(
                f"column {samples[name]}: {values[outside][0]:g} of sample {table.index[outside][0]} is no {name}; "
                f"expected degrees from -{limit} to {limit}. Are longitude and latitude exchanged, or is it metres?"
            )
    block = samples.get("block", BLOCK)
    return np.array([f"{x:.0f} {y:.0f}" for x, y in zip(np.floor(lon / block), np.floor(lat / block), strict=True)])


def sides_of(description: Description, table: pd.DataFrame, scheme: str | None = None, fold: int = 0) -> np.ndarray:
    """The side of each sample, (N,) of `"train"`, `"val"`, `"test"` or `""`.

    Args:
        description: of the dataset.
        table: its samples.
        scheme: `"official"` (its column), `"study"` (60/15/25 by hash of the id), `"blocked"` (whole groups or blocks
            apart, five folds), or None for `description.scheme`.
        fold: which of the five folds is the test side under `"blocked"`; the next one validates.

    Raises:
        SplitError: an unknown scheme or fold, no column or groups for it, fewer groups than folds, or a class that only
            groups of the test or validation side have.
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
        sides = table[column].str.strip().str.lower().replace(_SIDES)
        other = sides[~sides.isin([*SPLITS, ""])]
        if len(other):
            raise SplitError(f"column {column}: {other.iloc[0]!r} of sample {other.index[0]}; expected one of {SPLITS}")
        return sides.to_numpy(str)
    groups = groups_of(description, table)
    if groups is None:
        raise SplitError(
            f"{description.path} names neither a group nor longitude and latitude, which a blocked split needs; add "
            'them to [samples], or give scheme="study"'
        )
    folds = _balanced_folds(groups)
    if len(folds) < FOLDS:
        raise SplitError(f'{len(folds)} groups make no {FOLDS} folds; give scheme="study", or smaller blocks')
    of_sample = np.array([folds[group] for group in groups])
    sides = np.where(of_sample == fold, "test", np.where(of_sample == (fold + 1) % FOLDS, "val", "train"))
    _check_classes(description, table, groups, sides, fold)
    return sides


def _balanced_folds(groups: np.ndarray) -> dict[str, int]:
    """The fold of each group: the largest first, each into the fold that has fewest samples so far; ties by hash."""
    sizes = Counter(groups.tolist())
    totals = [0] * FOLDS
    folds = {}
    for group in sorted(sizes, key=lambda name: (-sizes[name], unit_hash(name))):
        folds[group] = int(np.argmin(totals))
        totals[folds[group]] += sizes[group]
    return folds


def _check_classes(
    description: Description, table: pd.DataFrame, groups: np.ndarray, sides: np.ndarray, fold: int
) -> None:
    """Refuse a split that trains on no sample of a class: one whose samples all lie in one group cannot be tested."""
    for source in description.targets.values():
        if source.kind != "class":
            continue
        labels = read_column(source, table)
        for place, name in enumerate(source.classes):
            mine = labels == place
            if mine.any() and not (mine & (sides == "train")).any():
                homes = sorted(set(groups[mine].tolist()))
                raise SplitError(
                    f"fold {fold} trains on no sample of class {name!r} of {source.key!r}: its {int(mine.sum())} "
                    f"samples lie in {len(homes)} groups, the first being {homes[0]!r}. Give another fold, smaller "
                    'groups, or scheme="study", which keeps neighbours together less well'
                )

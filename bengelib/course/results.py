"""The tidy table that a study leaves behind, and what lets a study resume: a fingerprint of each configuration.

One row is one number. The columns say what it is of, so nobody has to parse a name.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from bengelib.errors import TableError
from bengelib.files import put_in_place
from bengelib.intervals import Interval

COLUMNS = (
    "dataset",
    "experiment",
    "model",
    "target",
    "metric",
    "split",
    "label_fraction",
    "condition",
    "seed",
    "value",
    "config",
)
"""`seed` is a number, or `all` for what is pooled over seeds; `config` is the fingerprint of the configuration."""
POOLED = "all"


def fingerprint(configuration: Any) -> str:
    """Twelve hexadecimal digits that change when any field of a frozen dataclass (or a mapping) does."""
    fields = dict(configuration) if isinstance(configuration, Mapping) else asdict(configuration)
    text = json.dumps(fields, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def read_results(path: Path | str) -> pd.DataFrame:
    """The table at `path`, a file (empty if there is none yet) or the address of one on the web.

    Raises:
        TableError: no table, or one with other columns.
    """
    if isinstance(path, Path) and not path.is_file():
        return pd.DataFrame(columns=list(COLUMNS))
    try:  # an empty cell is an empty text, but in `value` it is NaN: a score that there is none of
        table = pd.read_csv(
            path,
            dtype={"seed": str, "config": str, "condition": str},
            keep_default_na=False,
            na_values={"value": [""]},
        )
    except ValueError as error:  # pandas' parser errors are ValueErrors
        raise TableError(f"cannot read {path} ({error}). Run the study again.") from error
    if tuple(table.columns) != COLUMNS:
        raise TableError(f"{path} has the columns {list(table.columns)}, not {list(COLUMNS)}. Run the study again.")
    return table


def write_results(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows (each a value for every one of `COLUMNS`), sorted, in one step, so that no half table is left.

    Args:
        path: the file, in a folder that exists.
        rows: `value` is a number, NaN where there is none.
    """
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table["seed"] = table["seed"].astype(str)
    table["value"] = table["value"].astype(float).round(5)
    table = table.sort_values(list(COLUMNS[:-2]), kind="stable")
    partial = path.with_name(path.name + ".part")
    table.to_csv(partial, index=False, lineterminator="\n")
    put_in_place(partial, path)


def interval_rows(row: Mapping[str, Any], interval: Interval) -> list[dict[str, Any]]:
    """Three rows of an interval pooled over seeds: the value, and the metric's name with `_low` and `_high`."""
    parts = {"": interval.value, "_low": interval.low, "_high": interval.high}
    return [{**row, "metric": f"{row['metric']}{end}", "seed": POOLED, "value": value} for end, value in parts.items()]


def read_intervals(results: pd.DataFrame, by: str, *, metric: str, **where: Any) -> dict[str, Interval]:
    """Pooled intervals of the rows that match, keyed by the column `by`.

    Args:
        results: what `read_results` gave.
        by: a column, such as `"model"` or `"condition"`.
        metric: its name, without `_low` and `_high`.
        **where: values of other columns, such as `target="corine"`.

    Raises:
        TableError: there is no such column, no row matches, or several rows have the same key.
    """
    if unknown := [column for column in (by, *where) if column not in results.columns]:
        raise TableError(f"no columns {unknown}; the table has {list(results.columns)}")
    chosen = results[results["seed"] == POOLED]
    for column, value in where.items():
        chosen = chosen[chosen[column] == value]
    tables = {end: chosen[chosen["metric"] == f"{metric}{end}"] for end in ("", "_low", "_high")}
    if tables[""].empty:
        raise TableError(f"no pooled {metric!r} with {where}; the study has {sorted(set(results['experiment']))}")
    if tables[""][by].duplicated().any():
        raise TableError(f"several rows of {metric!r} with {where} share a {by}; give more columns")
    ends = {end: dict(zip(table[by].astype(str), table["value"], strict=True)) for end, table in tables.items()}
    return {key: Interval(value, ends["_low"][key], ends["_high"][key]) for key, value in ends[""].items()}

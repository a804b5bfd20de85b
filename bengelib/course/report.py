"""Reading of a study: scores, paired differences with verdicts, and curves, from its table of results.

A study without a table, or with one that cannot be reached, has no scores, comparisons or curves, so labs need no
special case for it. A query with a misspelled name is an error.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

import bengelib
from bengelib.course.results import COLUMNS, read_results
from bengelib.course.targets import MAIN_SCORES
from bengelib.course.verdicts import Comparison, Comparisons, as_gain, lacking
from bengelib.data.loading import is_simulated
from bengelib.errors import TableError
from bengelib.intervals import POOLED, Interval

_KEY = ["experiment", "model", "target", "split", "label_fraction", "condition", "config"]
_NOTHING = "clear"
"""The condition in which a quantity such as clouds is zero."""
Answer = TypeVar("Answer")


@dataclass(frozen=True, eq=False)
class Study:
    """The table of a study, and queries on it.

    Queries select rows by columns of the table (see `results.COLUMNS`): a value, or a tuple of accepted values. `by` is
    the column, or the columns, that results are named after; `only` keeps the given names, in its order.

    Attributes:
        frame: the table, empty if there is none.
        folder: of the lab of the study.
        failure: why there is no table, if it was requested from the web.
        count_runs: whether verdicts depend on the number of training runs.
        results: name of the file that holds the table; the script that makes it ends in `study.py` instead.
    """

    frame: pd.DataFrame
    folder: str
    failure: str = ""
    count_runs: bool = True
    results: str = "results.csv"

    def __bool__(self) -> bool:
        return len(self.frame) > 0

    def __str__(self) -> str:
        if not self:
            return (
                f"{self.failure}There is no {self.results} yet, so the cells that read the study show nothing.\n"
                f"In a clone of the course, `python {self.folder}/{_script(self.results)}` makes it."
            )
        return f"{self.frame['config'].nunique()} configurations, {len(self.frame)} numbers"

    @property
    def note(self) -> str:
        """Name of the data of the study, for the corner of a figure."""
        dataset = str(self.frame["dataset"].iloc[0]) if self else ""
        return f"{dataset}: simulated data, not measurements" if self and is_simulated(dataset) else dataset

    def values(self, column: str, **where: Any) -> list[str]:
        """Distinct values of a column, in the order of the table."""
        return [str(value) for value in self.rows(**where)[column].unique()]

    def rows(self, **where: Any) -> pd.DataFrame:
        """The rows of the table that match.

        Raises:
            TableError: an unknown column, or a value that does not occur in its column.
        """
        chosen = self.frame
        for column, value in where.items():
            if column not in COLUMNS:
                raise TableError(f"no column {column!r}; the table has {list(COLUMNS)}")
            wanted = list(value) if isinstance(value, tuple | list) else [value]
            self._check(column, wanted)
            chosen = chosen[chosen[column].isin(wanted)]
        return chosen

    def scores(
        self,
        by: str | Sequence[str] = "model",
        *,
        metric: str = "",
        only: Collection[str] = (),
        **where: Any,
    ) -> dict[str, Interval]:
        """Scores pooled over runs, with their intervals.

        Args:
            by: column(s) that the results are named after.
            metric: its name in the table; by default the main one of the target, see `targets.MAIN_SCORES`.
            only: names to keep, in this order.
            **where: values of columns, such as `target="corine"`.

        Raises:
            TableError: see `rows`; also if several rows have the same name, so that more columns are needed.
        """
        found = self._intervals(metric or _main_metric(where), by, only, where)
        return {name: interval for name, (_, interval) in found.items()}

    def compare(
        self,
        against: str,
        by: str | Sequence[str] = "model",
        *,
        targets: Sequence[str] = (),
        metric: str = "",
        only: Collection[str] = (),
        **where: Any,
    ) -> Comparisons:
        """Paired differences to a reference, on the same test patches, as gains: above zero is better.

        Args:
            against: the name of the reference in the table, such as `"s2"` of `accuracy_minus_s2`.
            by: column(s) that the comparisons are named after.
            targets: by default all of the study.
            metric: of both; by default the main one of each target.
            only: names to keep, in this order.
            **where: values of columns.

        Raises:
            TableError: see `scores`; also if there is no such reference.
        """
        targets = targets or [target for target in MAIN_SCORES if (self.frame["target"] == target).any()]
        names = {target: f"{metric or MAIN_SCORES[target].metric}_minus_{against}" for target in targets}
        there = {name for name in self.frame["metric"] if "_minus_" in name and not name.endswith(("_low", "_high"))}
        if self and there.isdisjoint(names.values()):
            raise TableError(f"nothing was compared with {against!r}; the differences are {sorted(there)}")
        found = []
        for target, name in names.items():
            asked = self._intervals(name, by, only, {**where, "target": target}) if name in there else {}
            for label, (key, difference) in asked.items():
                runs = self._runs(str(key["config"])) if self.count_runs else None
                gain = as_gain(name.partition("_minus_")[0], difference)
                found.append(Comparison(label, target, gain, runs, lacking(runs)))
        return Comparisons(found)

    def curves(
        self,
        along: str,
        by: str | Sequence[str] = "model",
        *,
        metric: str = "",
        only: Collection[str] = (),
        **where: Any,
    ) -> dict[str, dict[float, Interval]]:
        """Scores along a quantity, by name; a curve has two points or more.

        Args:
            along: `"label_fraction"`, or a word in conditions: for `"clouds"`, `clear` is 0 and `clouds 0.25` is 0.25.
            by: column(s) that the curves are named after.
            metric: as for `scores`.
            only: names to keep, in this order.
            **where: values of columns.

        Raises:
            TableError: see `scores`.
        """
        columns = _columns(by)
        quantity = "label_fraction" if along == "label_fraction" else "condition"
        metric = metric or _main_metric(where)
        found: dict[str, dict[float, Interval]] = {}
        for key, interval in self._pooled(metric, where):
            curve, position = found.setdefault(_name(columns, key), {}), _position(along, key[quantity])
            if position in curve:
                raise _ambiguous(metric, _name(columns, key), where)
            if position is not None:
                curve[position] = interval
        curves = {name: dict(sorted(curve.items())) for name, curve in found.items() if len(curve) > 1}
        return self._chosen(curves, columns, only)

    def numbers(
        self,
        by: str | Sequence[str] = "model",
        *,
        metric: str,
        only: Collection[str] = (),
        **where: Any,
    ) -> dict[str, float]:
        """Numbers without an interval, such as `parameters`.

        Raises:
            TableError: see `rows`; also if several different numbers have the same name.
        """
        columns = _columns(by)
        found: dict[str, float] = {}
        for key in self.rows(metric=metric, **where).to_dict("records"):
            name = _name(columns, key)
            if found.setdefault(name, key["value"]) != key["value"]:
                raise _ambiguous(metric, name, where)
        return self._chosen(found, columns, only)

    def traces(
        self,
        along: str,
        by: str | Sequence[str] = "model",
        *,
        metric: str,
        only: Collection[str] = (),
        **where: Any,
    ) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Values recorded during training, by name: positions (T,), and a row for each run, (S, T).

        Args:
            along: a word in conditions, `"epoch"` or `"step"`.
            by: column(s) that the traces are named after.
            metric: such as `"train_loss"`.
            only: names to keep, in this order.
            **where: values of columns.

        Raises:
            TableError: see `rows`.
        """
        columns = _columns(by)
        found: dict[str, dict[str, dict[float, float]]] = {}
        for key in self.rows(metric=metric, **where).to_dict("records"):
            position = _position(along, key["condition"])
            if position is not None:
                found.setdefault(_name(columns, key), {}).setdefault(str(key["seed"]), {})[position] = key["value"]
        traces = {}
        for name, runs in found.items():
            steps = sorted(next(iter(runs.values())))
            values = [[runs[seed][step] for step in steps] for seed in sorted(runs)]
            traces[name] = (np.array(steps), np.array(values))
        return self._chosen(traces, columns, only)

    def folds(self, model: str, **where: Any) -> dict[str, float]:
        """The number of each fold of a model, by `"fold 0"` and so on.

        Args:
            model: its name, without the fold added in the table.
            **where: values of columns, at least `metric`.

        Raises:
            TableError: see `numbers`.
        """
        prefix = f"{model}, fold "
        names = [name for name in self.values("model", **where) if name.startswith(prefix)]
        return {f"fold {name.removeprefix(prefix)}": self.numbers(only=(name,), **where)[name] for name in names}

    def fold_table(self, asked: Sequence[tuple[str, str]], **where: Any) -> pd.DataFrame | None:
        """Numbers of each fold of several models and the interval of all folds, as text; None without any.

        Args:
            asked: model and condition of each row.
            **where: values of columns, at least `metric`.

        Raises:
            TableError: see `numbers`.
        """
        rows = {}
        for model, condition in asked:
            name = _name(("model", "condition"), {"model": model, "condition": condition})
            for interval in self.scores(only=(model,), condition=condition, **where).values():
                folds = self.folds(model, condition=condition, **where).items()
                shown = {fold: f"{value:.3f}" for fold, value in folds}
                rows[name] = {**shown, "all, 95 % interval": str(interval)}
        return pd.DataFrame(rows).T if rows else None

    def ends(self, metrics: Sequence[str], **where: Any) -> pd.DataFrame | None:
        """Numbers of the first and the last epoch, one row per model, to two decimals; None without a table.

        Args:
            metrics: such as `("spread", "rank")`.
            **where: values of columns, such as `seed="0"`.

        Raises:
            TableError: see `rows`.
        """
        columns = {}
        for metric in metrics:
            traces = self.traces("epoch", metric=metric, **where)
            for place, when in ((0, "first"), (-1, "last")):
                found = {model: round(float(values[0, place]), 2) for model, (_, values) in traces.items()}
                columns[f"{metric}, {when} epoch"] = found
        return pd.DataFrame(columns) if self else None

    def test_set(self, **where: Any) -> str:
        """Size of the test set, in words; empty if unknown."""
        rows = self.rows(**where)
        sizes = {name: rows.loc[rows["metric"] == name, "value"] for name in ("test_patches", "test_tiles")}
        if not len(sizes["test_patches"]):
            return ""
        tiles = f" in {sizes['test_tiles'].iloc[0]:.0f} tiles" if len(sizes["test_tiles"]) else ""
        return f"{sizes['test_patches'].iloc[0]:.0f} test patches{tiles}"

    def _intervals(
        self, metric: str, by: str | Sequence[str], only: Collection[str], where: Mapping[str, Any]
    ) -> dict[str, tuple[dict[str, Any], Interval]]:
        """Row and interval of each name."""
        columns = _columns(by)
        found: dict[str, tuple[dict[str, Any], Interval]] = {}
        for key, interval in self._pooled(metric, where):
            name = _name(columns, key)
            if name in found and (not only or name in only):
                raise _ambiguous(metric, name, where)
            found[name] = key, interval
        return self._chosen(found, columns, only)

    def _pooled(self, metric: str, where: Mapping[str, Any]) -> list[tuple[dict[str, Any], Interval]]:
        """Columns and interval of each row pooled over runs, in the order of the table."""
        if not self:
            return []
        chosen = self.rows(**where)
        self._check("metric", [metric])
        chosen = chosen[chosen["seed"] == POOLED]
        ends: list[dict[Any, float]] = [
            chosen[chosen["metric"] == f"{metric}{end}"].set_index(_KEY)["value"].to_dict()
            for end in ("", "_low", "_high")
        ]
        return [
            (dict(zip(_KEY, key, strict=True)), Interval(*(end[key] for end in ends)))
            for key in ends[0]
            if key in ends[1]  # otherwise a number without an interval, such as that of one fold
        ]

    def _runs(self, config: str) -> int | None:
        """Number of training runs of a configuration, None if not distinguished (as the folds of a split)."""
        seeds = set(self.frame.loc[self.frame["config"] == config, "seed"])
        return sum(seed.isdigit() for seed in seeds) or None

    def _check(self, column: str, wanted: Sequence[Any]) -> None:
        """Refuse values that do not occur in a column.

        Raises:
            TableError: naming the values that occur.
        """
        missing = [value for value in wanted if not (self.frame[column] == value).any()]
        if self and missing:
            there = sorted(
                str(each) for each in self.frame[column].unique() if not str(each).endswith(("_low", "_high"))
            )
            raise TableError(f"no {column} {missing} in the table; it has {', '.join(there)}")

    def _chosen(self, found: dict[str, Answer], columns: Sequence[str], only: Collection[str]) -> dict[str, Answer]:
        """The results whose names are in `only`, in its order; all, if it is empty."""
        if list(columns) == ["model"]:
            self._check("model", list(only))
        return {name: found[name] for name in only if name in found} if only else found


def open_study(folder: str, address: str, *, count_runs: bool = True, results: str = "results.csv") -> Study:
    """Open a study of a lab: its table in the clone, in the current folder or the one above, else on the web.

    Args:
        folder: of the lab, such as `"02-mtl"`.
        address: of the course on the web, the part before the name of the folder.
        count_runs: see `Study`.
        results: name of the table.

    Raises:
        TableError: the table cannot be read.
    """
    clone = Path(bengelib.__file__).parents[1] / folder
    near = next((place for place in (clone, Path("."), Path("..")) if (place / _script(results)).is_file()), None)
    try:
        table = read_results(near / results if near else f"{address}/{folder}/{results}")
    except OSError as error:
        table = pd.DataFrame(columns=list(COLUMNS))
        failure = f"{results} could not be fetched: {type(error).__name__}\n"
        return Study(table, folder, failure, count_runs, results)
    return Study(table, folder, count_runs=count_runs, results=results)


def score_table(columns: Mapping[str, Mapping[str, Interval | str]]) -> pd.DataFrame | None:
    """Scores as text: a column for each key with scores, a row for each name; None without scores."""
    cells = {title: {name: str(score) for name, score in found.items()} for title, found in columns.items() if found}
    return pd.DataFrame(cells).fillna("not asked") if cells else None


def labels_saved(curve: Mapping[float, Interval], reference: Mapping[float, Interval], share: float) -> float | None:
    """Additional fraction of labels that a reference needs to reach the score of a curve at `share`.

    Curves are interpolated along the logarithm of the fraction.

    Args:
        curve: score by fraction of labels, in (0, 1].
        reference: score by fraction of labels of the reference.
        share: one of the fractions of the curve.

    Returns:
        The fraction saved; 0 or below if none is; None if the reference never reaches that score.
    """
    wanted = curve[share].value
    shares = sorted(reference)
    if reference[shares[0]].value >= wanted:
        return shares[0] - share
    for lower, upper in pairwise(shares):
        start, end = reference[lower].value, reference[upper].value
        if start < wanted <= end:
            way = (wanted - start) / (end - start)
            return float(np.exp((1 - way) * np.log(lower) + way * np.log(upper))) - share
    return None


def _script(results: str) -> str:
    """Name of the script that makes a table."""
    return results.replace("results.csv", "study.py")


def _columns(by: str | Sequence[str]) -> list[str]:
    return [by] if isinstance(by, str) else list(by)


def _main_metric(where: Mapping[str, Any]) -> str:
    """The main metric of the requested target."""
    if where.get("target") not in MAIN_SCORES:
        raise TableError(f"give `metric`, or as `target` one of {sorted(MAIN_SCORES)}; {dict(where)} names neither")
    return MAIN_SCORES[where["target"]].metric


def _ambiguous(metric: object, name: str, where: Mapping[str, Any]) -> TableError:
    return TableError(f"several rows of {metric!r} share the name {name!r}; give more columns than {dict(where)}")


def _name(columns: Sequence[str], key: Mapping[Any, Any]) -> str:
    """The columns of a row in words; a fraction of labels is in per cent, and the condition `finetune` fine-tuned."""
    words = []
    for name in columns:
        if name == "condition" and key[name] == "finetune":
            words.append("fine-tuned")
            continue
        if name == "label_fraction" and len(columns) > 1:
            words.append(f"{key[name]:.0%} of the labels")
        else:
            words.append(str(key[name]) if name == "metric" else str(key[name]).replace("_", " "))
    return ", ".join(words)


def _position(along: str, value: Any) -> float | None:
    """Position of a row on a curve along a quantity; None if it is not on it."""
    if along == "label_fraction":
        return float(value)
    if value == _NOTHING:
        return 0.0
    found = re.fullmatch(rf"{re.escape(along)} ([0-9.]+)", str(value))
    return float(found[1]) if found else None

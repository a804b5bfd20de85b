"""Verdicts on paired differences between two models, in the same words in every lab.

A difference is decided if its interval excludes zero, and undecided otherwise. With fewer than three training runs or
five tiles an interval says too little about runs or locations, so there is no verdict.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pandas as pd

from bengelib.course.targets import MAIN_SCORES
from bengelib.intervals import Interval, bootstrap, pool
from bengelib.metrics import lower_is_better

LEAST_RUNS = 3
LEAST_TILES = 5


@dataclass(frozen=True)
class Comparison:
    """A paired difference between a model, or a condition, and a reference.

    Attributes:
        name: of the model or condition.
        target: the predicted target, one of `MAIN_SCORES`.
        gain: the difference in the unit of the score; above zero is better for every score.
        runs: number of training runs resampled by the interval; None if there are none.
        unit: unit of `runs`, if not training runs, such as `"draws"` of labels.
        lacks: a number too small for a verdict, such as `"2 runs"`; empty if sufficient.
    """

    name: str
    target: str
    gain: Interval
    runs: int | None = None
    lacks: str = ""
    unit: str = "runs"

    @property
    def points(self) -> Interval:
        """The gain in points, hundredths of the unit of the score."""
        return Interval(*(100 * value for value in self.gain))

    @property
    def title(self) -> str:
        """Target and score in words."""
        return MAIN_SCORES[self.target].title

    @property
    def decided(self) -> bool:
        """True if the interval excludes zero and the data suffice for a verdict."""
        return not self.lacks and self.gain.excludes_zero

    @property
    def direction(self) -> int:
        """1 if decided to be better, -1 if worse, 0 if not decided."""
        return 0 if not self.decided else 1 if self.gain.value > 0 else -1

    @property
    def could_hide(self) -> float:
        """The largest difference within the interval, in points: the farther bound of an undecided one."""
        return max(-self.points.low, self.points.high)

    @property
    def verdict(self) -> str:
        """The verdict in words."""
        if self.lacks:
            return f"{self.lacks}, no verdict"
        if self.decided:
            return f"decided: {'better' if self.direction > 0 else 'worse'}"
        return f"undecided, could hide up to {self.could_hide:.1f} points"

    def __str__(self) -> str:
        points = f"{self.points.value:+.1f} points [{self.points.low:+.1f}, {self.points.high:+.1f}]"
        counted = f" ({_counted(self.runs, self.unit)})" if self.runs and not self.lacks else ""
        return f"{points}, {self.verdict}{counted}"


def compare_runs(
    name: str,
    target: str,
    predicted: Sequence[np.ndarray] | np.ndarray,
    baseline: Sequence[np.ndarray] | np.ndarray,
    truth: np.ndarray,
    *,
    groups: Sequence[str] | None = None,
    draws: int = 1000,
    unit: str = "runs",
) -> Comparison:
    """Compare the training runs of two models on the same test patches.

    Args:
        name: of the model.
        target: one of `MAIN_SCORES`, which determines the score.
        predicted: predictions of each of S runs in the form that the score needs, (S, N, ...).
        baseline: predictions of the other model, (T, N, ...).
        truth: (N, ...).
        groups: a name for each patch, such as its tile; resampled as a whole.
        draws: of the bootstrap.
        unit: of the S runs, such as `"draws"` of labels.

    Raises:
        ValueError: shapes do not match.
    """
    predicted, baseline = np.stack(list(predicted)), np.stack(list(baseline))
    score = MAIN_SCORES[target].score
    difference = bootstrap(predicted, truth, score, baseline, groups=groups, draws=draws)
    runs, tiles = len(predicted), None if groups is None else len(set(groups))
    gain = as_gain(MAIN_SCORES[target].metric, difference)
    return Comparison(name, target, gain, runs, lacking(runs, tiles, unit), unit)


def as_gain(metric: str, difference: Interval) -> Interval:
    """A difference of a metric, with its sign changed if necessary, so that above zero is better."""
    if not lower_is_better(metric):
        return difference
    return Interval(-difference.value, -difference.high, -difference.low)


def lacking(runs: int | None = None, tiles: int | None = None, unit: str = "runs") -> str:
    """The number of runs or tiles that is too small for a verdict, in words; empty if sufficient or unknown."""
    if runs is not None and runs < LEAST_RUNS:
        return _counted(runs, unit)
    if tiles is not None and tiles < LEAST_TILES:
        return _counted(tiles, "tiles")
    return ""


def _counted(number: int, unit: str) -> str:
    return f"one {unit.removesuffix('s')}" if number == 1 else f"{number} {unit}"


@lru_cache
def false_decisions(runs: int, seeds_to_patches: float, trials: int = 1000) -> float:
    """Share of true zeros that are decided by chance, by simulation: two models that differ in nothing but luck.

    An interval at 95 % misses the truth in 5 % of the cases if it knows how much its ingredients vary. Of the patches
    it knows that well; of a few training runs it does not, and so it is somewhat too narrow.

    Args:
        runs: training runs of either model.
        seeds_to_patches: how much a run varies by its seed, in standard deviations of the difference over patches.
        trials: simulated comparisons; 1000 give the share to about 0.01.
    """
    random = np.random.default_rng(runs)
    decided = 0
    for _ in range(trials):
        patches = random.normal(size=1001)  # first the luck of the test patches, then that of each drawing
        patches[1:] += patches[0]
        first, second = seeds_to_patches * random.normal(size=(2, runs, 1))
        decided += pool(first + patches, second + np.zeros_like(patches)).excludes_zero
    return decided / trials


class Comparisons(tuple[Comparison, ...]):
    """Several comparisons, in order; a notebook shows them as a table."""

    def __add__(self, other: Iterable[Comparison]) -> "Comparisons":  # type: ignore[override]
        return Comparisons((*self, *other))

    def counted(self, runs: int, unit: str) -> "Comparisons":
        """The same, with a count that the study does not know, such as that of pretraining runs."""
        return Comparisons(replace(each, runs=runs, unit=unit) for each in self)

    def renamed(self, words: Mapping[str, str]) -> "Comparisons":
        """The same comparisons, those with a name in `words` under its word."""
        return Comparisons(replace(each, name=words.get(each.name, each.name)) for each in self)

    def gains(self) -> dict[str, Interval]:
        """Gain by name, in points."""
        return {each.name: each.points for each in self}

    def points(self) -> dict[str, dict[str, Interval]]:
        """Gain in points by target, in words, and by name, for figures with a panel or colour per target."""
        found: dict[str, dict[str, Interval]] = {}
        for each in self:
            found.setdefault(each.title, {})[each.name] = each.points
        return found

    def table(self) -> pd.DataFrame:
        """One row per comparison: score, name, gain and interval in points, half-width, verdict, and known runs."""
        rows = [
            (
                each.title,
                each.name,
                f"{each.points.value:+.1f}",
                f"{each.points.low:+.1f} to {each.points.high:+.1f}",
                f"{each.points.half_width:.1f}",
                each.verdict,
                each.runs,
            )
            for each in self
        ]
        unit = self[0].unit if self else "runs"
        columns = ["score", "compared", "gain, points", "95 % interval", "half-width", "verdict", unit]
        table = pd.DataFrame(rows, columns=columns)
        return table if any(each.runs is not None for each in self) else table.drop(columns=unit)

    def beside(self, other: "Comparisons", names: tuple[str, str]) -> pd.DataFrame | None:
        """Gains and verdicts of common comparisons, side by side under `names`; None if there are none."""
        keys = ["score", "compared"]
        first, second = (each.table()[[*keys, "gain, points", "95 % interval", "verdict"]] for each in (self, other))
        table = first.merge(second, on=keys, suffixes=[f", {name}" for name in names])
        return table if len(table) else None

    def tally(self) -> str:
        """Number of decided comparisons, and the number expected by chance if all true differences were zero."""
        decided = sum(each.decided for each in self)
        low, high = (f"{number:.1f}" for number in self.by_chance())
        number = low if low == high else f"{low} to {high}"
        return f"{decided} of {len(self)} decided; chance alone would decide {number} if no difference were real"

    def by_chance(self) -> tuple[float, float]:
        """Number that would be decided by chance if every true difference were zero; see `false_decisions`.

        The first number is for seeds that hardly matter, the second for seeds that matter four times as much as
        patches. Where the runs are not counted, both are 5 %.
        """
        able = [each.runs for each in self if not each.lacks]
        few, many = (sum(false_decisions(runs, ratio) if runs else 0.05 for runs in able) for ratio in (0.0, 4.0))
        return few, many

    def __repr__(self) -> str:
        return f"{self.table().to_string()}\n{self._below()}".rstrip() if self else ""

    def _repr_html_(self) -> str:
        with pd.option_context("display.max_colwidth", None):
            return f"{self.table().to_html(notebook=True)}\n<p>{self._below()}</p>" if self else ""

    def _below(self) -> str:
        """Line below the table: the tally, unless there is a single row."""
        return self.tally() if len(self) > 1 else ""


def tally(families: Mapping[str, Comparisons], aims: Mapping[str, float] | float | None = None) -> str:
    """Summary of comparisons: the decided ones, and those whose interval is wider than intended.

    Args:
        families: the comparisons of each question.
        aims: intended half-width in points, for all targets or by target.

    Returns:
        Lines of text; empty without comparisons.
    """
    every = Comparisons(each for members in families.values() for each in members)
    if not every:
        return ""
    several = len({each.title for each in every}) > 1
    lines = [f"all comparisons: {every.tally()}"]
    if aims is not None:
        aim = {target: aims.get(target, np.inf) if isinstance(aims, Mapping) else aims for target in MAIN_SCORES}
        wide = [
            f"  {family}, {each.title}, {each.name}: {each.points.half_width:.1f} (aim {aim[each.target]:.0f})"
            for family, members in families.items()
            for each in members
            if each.points.half_width > aim[each.target]
        ]
        lines += [f"half-width aimed at missed by {len(wide)}:" + ("" if wide else " none"), *wide]
    for family, members in families.items():
        lines.append(f"{family}: {sum(each.decided for each in members)} of {len(members)} decided")
        lines += [f"  {f'{each.title}, ' * several}{each.name}: {each}" for each in members if each.decided]
    return "\n".join(lines)

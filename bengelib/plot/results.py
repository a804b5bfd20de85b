"""Figures of results: each takes scores, curves or histories and returns a `matplotlib.figure.Figure`.

`note` is printed small in the lower corner; the labs state the source of the data there, so that a figure of simulated
data says so wherever it is copied. Each figure carries an alternative text with its main numbers. Figures of studies
(`plot_intervals`, `plot_curves`, `plot_curve_panels`, `plot_bars`, `plot_cosines`) are None without results, so that a
study without a table shows nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from bengelib.engine import History
from bengelib.intervals import Interval
from bengelib.plot.style import MARKERS, OKABE_ITO, count_of, in_words, listed, noted, plain, ranked, subplots

OTHERS = "others"
"""Name of the grey lines in a legend."""


def plot_history(histories: Mapping[str, History], metric: str, label: str, note: str = "") -> Figure:
    """Training (dashed) and validation loss, and a validation metric, over the epochs, one colour per model.

    Args:
        histories: results of `fit` by name of the model.
        metric: a column of the history such as `"val/climate_zone/accuracy"`, in [0, 1].
        label: its name for the axis.
        note: printed in the lower corner.

    Raises:
        ValueError: a history has no such column, for example without validation samples.
    """
    tables = _tables(histories, [metric])
    figure, (left, right) = subplots(1, 2, figsize=(9, 3.3))
    for place, (name, table) in enumerate(tables.items()):
        style = _style(place)
        left.plot(table.index, table["train/loss"], "--", color=style["color"], label=f"{name}, training")
        left.plot(table.index, table["val/loss"], **style, ms=4, label=f"{name}, validation")
        right.plot(table.index, table[metric], **style, ms=4, label=name)
        right.axvline(histories[name].best_epoch, color=style["color"], lw=1, ls=":")
    left.set(xlabel="epoch", ylabel="loss (cross-entropy, nats)")
    right.set(xlabel="epoch (dotted: weights kept)", ylabel=label, ylim=(0, 1))
    right.yaxis.set_major_formatter(PercentFormatter(1.0))
    for axis in (left, right):
        _whole_epochs(axis)
    left.legend(fontsize=8)
    if len(histories) > 1:
        right.legend(fontsize=8)
    best = {name: float(table[metric][histories[name].best_epoch]) for name, table in tables.items()}
    return noted(figure, note, f"Two panels over the epochs: loss and {label}. At the weights kept: {ranked(best)}.")


def plot_confusion(truth: np.ndarray, predicted: np.ndarray, classes: Sequence[str], note: str = "") -> Figure:
    """Confusion matrix of two (N,) index arrays: rows are the truth, coloured by fraction, with counts written in.

    Classes that neither occur nor are predicted are left out. Of a name such as `"Csa: dry and hot summer"`, the rows
    have all, the columns the part before the colon.
    """
    present = np.unique(np.concatenate([truth, predicted]))
    counts = np.array([[int(((truth == row) & (predicted == column)).sum()) for column in present] for row in present])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [in_words(classes[index]) for index in present]
    short = [name.partition(":")[0] for name in names]
    size = 1.6 + 0.5 * len(present)
    figure, axis = subplots(figsize=(size + 1.0 + 0.085 * max(map(len, names)), size))
    drawn = axis.imshow(shares, cmap="cividis", vmin=0, vmax=1)
    for row in range(len(present)):
        for column in range(len(present)):
            if counts[row, column]:
                colour = "black" if shares[row, column] > 0.5 else "white"
                axis.text(column, row, counts[row, column], ha="center", va="center", color=colour, fontsize=10)
    axis.set_xticks(range(len(names)), short, rotation=45, ha="right")
    axis.set_yticks(range(len(names)), names)
    axis.set(xlabel="predicted", ylabel="truth")
    figure.colorbar(drawn, ax=axis, label="share of the true class", fraction=0.046)
    mixed = counts - np.diag(np.diag(counts))
    true, said = divmod(int(mixed.argmax()), len(present))
    right = f"{np.trace(counts)} of {counts.sum()} on the diagonal"
    alt = f"Confusion matrix of {count_of(names, 'class')}: {right}"
    if mixed.any():
        worst = f"{short[true]} taken for {short[said]}, {mixed.max()} of {counts[true].sum()} times"
        alt += f"; the most frequent confusion is {worst}"
    return noted(figure, note, f"{alt}.")


def plot_intervals(
    results: Mapping[str, Interval],
    label: str,
    reference: tuple[str, float] | None = None,
    note: str = "",
    digits: int = 3,
) -> Figure | None:
    """Values with 95 % intervals, one row each, and a dashed line at a named reference, such as a baseline.

    Args:
        results: intervals by name.
        label: of the axis, with the unit.
        reference: name and value of the dashed line.
        note: printed in the lower corner.
        digits: decimals of the values; 1 for points.
    """
    if not results:
        return None
    figure, axis = subplots(figsize=(7.5, 1.1 + 0.45 * len(results)))
    beside: dict[str, Any] = {
        "xycoords": ("axes fraction", "data"),
        "textcoords": "offset points",
        "ha": "right",
        "va": "center",
    }
    for place, (name, result) in enumerate(results.items()):
        axis.plot([result.low, result.high], [place, place], color=OKABE_ITO[0], lw=2)
        axis.plot(result.value, place, "o", color=OKABE_ITO[0])
        axis.annotate(
            f"{result.value:.{digits}f}", (result.value, place), (0, 5), textcoords="offset points", ha="center",
            fontsize=9, bbox={"boxstyle": "square,pad=0.1", "fc": "white", "lw": 0, "alpha": 0.8},
        )  # fmt: skip
        axis.annotate(name, (0, place), (-6, 0), **beside)
    axis.set_yticks([])
    axis.set_ylim(len(results) - 0.4, -0.7)
    if reference:
        axis.axvline(reference[1], color=OKABE_ITO[5], ls="--", label=reference[0])
        axis.legend(fontsize=8, loc="best")
    axis.set_xlabel(label)
    axis.grid(axis="x", alpha=0.3)
    values = listed(
        (
            f"{name} {each.value:.{digits}f} [{each.low:.{digits}f}, {each.high:.{digits}f}]"
            for name, each in results.items()
        ),
        20,
    )
    dashed = f" A dashed line marks {reference[0]}, {reference[1]:.3g}." if reference else ""
    return noted(figure, note, f"Dots with 95 % intervals, a row each; {label}: {values}.{dashed}")


def plot_curves(
    curves: Mapping[str, Mapping[float, Interval]],
    xlabel: str,
    ylabel: str,
    reference: tuple[str, float] | None = None,
    note: str = "",
    log: bool = False,
    marks: Mapping[str, tuple[str, float, Interval]] | None = None,
) -> Figure | None:
    """A value against a condition with its 95 % band, `curves[model][x]`: up to three models together.

    From four models on, or with `marks`, each has a panel, as in `plot_curve_panels`: so many bands would hide one
    another. With `log`, the condition is a share above 0, such as that of labels, on a logarithmic axis in percent.
    `marks` has, by name of a curve, one more result for a star in its panel: name, x and interval.

    Raises:
        ValueError: a mark of a curve that is not there.
    """
    if not any(curves.values()):
        return None
    if marks and not set(marks) <= set(curves):
        raise ValueError(f"marks of {list(marks)}, and the curves are {list(curves)}; mark one of these")
    if len(curves) > 3 or marks:
        return _panels(curves, xlabel, ylabel, {}, reference, note, log, marks)
    figure, axis = subplots(figsize=(7.5, 4))
    for place, (name, curve) in enumerate(curves.items()):
        _curve(axis, curve, 0.15, **_style(place), ms=5, label=name)
    if reference:
        axis.axhline(reference[1], color="black", ls="--", lw=1, label=reference[0])
    axis.set(xlabel=xlabel, ylabel=ylabel)
    if log:
        _share_axis(axis, curves.values(), " %")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=9)
    return noted(figure, note, _curves_in_words(curves, xlabel, ylabel, reference))


def plot_curve_panels(
    curves: Mapping[str, Mapping[float, Interval]],
    xlabel: str,
    ylabel: str,
    against: Mapping[str, Mapping[float, Interval]],
    note: str = "",
) -> Figure | None:
    """Curves of many models over a fraction, one panel each, so that no 95 % band hides another.

    Args:
        curves: `curves[model][fraction]`; each has a panel, in which all others are grey.
        xlabel: label of the fraction, below the panels; the axis is logarithmic, in per cent.
        ylabel: label of the values, on the same scale in all panels.
        against: up to four curves to repeat in every panel, in black, such as training from scratch; the band of the
            first is hatched.
        note: printed in the lower corner.

    Raises:
        ValueError: more than four curves to compare with.
    """
    if len(against) > 4:
        raise ValueError(f"{len(curves)} curves against {len(against)}; give four at the most to compare with")
    if not any(curves.values()):
        return None
    return _panels(curves, xlabel, ylabel, against, None, note, log=True)


def _panels(
    curves: Mapping[str, Mapping[float, Interval]],
    xlabel: str,
    ylabel: str,
    against: Mapping[str, Mapping[float, Interval]],
    reference: tuple[str, float] | None,
    note: str,
    log: bool,
    marks: Mapping[str, tuple[str, float, Interval]] | None = None,
) -> Figure:
    """A panel a curve: it with its band in colour, all others in grey, those to compare with in black."""
    columns = 2 if len(curves) in (2, 4) else min(3, len(curves))
    rows = -(-len(curves) // columns)
    wide = 8.4 / columns if columns < 3 else 3.4
    figure, axes = subplots(
        rows, columns, figsize=(wide * columns, 2.5 * rows + 0.6), sharex=True, sharey=True, squeeze=False
    )
    for place, (axis, (name, curve)) in enumerate(zip(axes.flat, curves.items(), strict=False)):
        for other in curves.values():
            _curve(axis, other, color="0.5", lw=1.2, zorder=2.5, label="_" if other is curve else OTHERS)
        for style, (title, base) in zip(("--", ":", "-.", "-"), against.items(), strict=False):
            _curve(axis, base, color="black", ls=style, marker="*" if len(base) < 3 else "", label=title)
        if first := next(iter(against.values()), None):
            low, high = ([getattr(first[at], end) for at in sorted(first)] for end in ("low", "high"))
            axis.fill_between(sorted(first), low, high, fc="none", ec="0.45", hatch="///", lw=0.6, alpha=0.5)
        if reference:
            axis.axhline(reference[1], color="black", ls="--", lw=1, label=reference[0])
        colour = OKABE_ITO[place % 6]
        _curve(axis, curve, 0.2, color=colour, marker=MARKERS[place % 8], ms=5, zorder=3)
        if marks and name in marks:
            label, x, found = marks[name]
            axis.errorbar(
                x, found.value, [[found.value - found.low], [found.high - found.value]],
                color="black", fmt="*", ms=12, capsize=3, label=label,
            )  # fmt: skip
        axis.set_title(name, fontsize=11, fontweight="bold")
        if log:
            _share_axis(axis, (*curves.values(), *against.values()))
        axis.grid(alpha=0.3)
    for axis in axes.flat[len(curves) :]:
        axis.set_visible(False)
    entries = (axis.get_legend_handles_labels() for axis in axes.flat)
    named = {label: handle for handles, labels in entries for handle, label in zip(handles, labels, strict=True)}
    if named:
        named |= {OTHERS: named.pop(OTHERS)} if OTHERS in named else {}  # last
        figure.legend(named.values(), named, loc="outside upper center", ncols=4, fontsize=9)
    for column, axis in enumerate(axes[-1]):  # the last panel of a column may stand higher
        lowest = axis if axis.get_visible() else axes[-2][column]
        lowest.set_xlabel(f"{xlabel}, %" if log else xlabel, fontsize=9)
        lowest.tick_params(labelbottom=True)
    for axis in axes[:, 0]:
        axis.set_ylabel(ylabel, fontsize=9)
    words = _curves_in_words(curves, xlabel, ylabel, reference)
    bases = f" Each panel also shows {listed(against)} in black, the first with a hatched band." if against else ""
    bases += "".join(f" A star marks {label}, {found.value:.3f}." for label, _, found in (marks or {}).values())
    return noted(figure, note, f"{count_of(curves, 'panel')}, one a model. {words}{bases}")


def _curves_in_words(
    curves: Mapping[str, Mapping[float, Interval]], xlabel: str, ylabel: str, reference: tuple[str, float] | None
) -> str:
    """First and last point of each curve in words, for those who do not see it."""
    ends = {name: (curve[min(curve)].value, curve[max(curve)].value) for name, curve in curves.items() if curve}
    runs = listed((f"{name} from {first:.3f} to {last:.3f}" for name, (first, last) in ends.items()), 12)
    level = f" A dashed line marks {reference[0]}, {reference[1]:.3g}." if reference else ""
    low, high = ({f(curve) for curve in curves.values() if curve} for f in (min, max))
    return f"{ylabel}, against the {xlabel} from {min(low):g} to {max(high):g}: {runs}.{level}"


def _whole_epochs(axis: Axes) -> None:
    """Ticks at whole numbers of epochs."""
    cast(MaxNLocator, axis.xaxis.get_major_locator()).set_params(integer=True)


def _curve(axis: Axes, curve: Mapping[float, Interval], band: float = 0, **style: Any) -> None:
    """Values over their conditions as a line, and their 95 % band with an opacity, if not 0."""
    x = sorted(curve)
    if band:
        low, high = ([getattr(curve[at], end) for at in x] for end in ("low", "high"))
        axis.fill_between(x, low, high, color=style["color"], alpha=band, lw=0)
    axis.plot(x, [curve[at].value for at in x], **style)


def _share_axis(axis: Axes, curves: Iterable[Mapping[float, Interval]], unit: str = "") -> None:
    """A logarithmic axis with a tick in per cent at each fraction of the curves."""
    shares = sorted({share for curve in curves for share in curve})
    axis.set_xscale("log")
    axis.set_xticks(shares, [f"{100 * share:g}{unit}" for share in shares])
    axis.set_xticks([], minor=True)


def plot_bars(bars: Mapping[str, Mapping[str, Interval]], label: str, note: str = "") -> Figure | None:
    """Horizontal bars with intervals: `bars[group][name]`, one row per name, one colour and hatch per group."""
    if not any(bars.values()):
        return None
    groups = list(bars)
    names = list(dict.fromkeys(name for group in bars.values() for name in group))
    figure, axis = subplots(figsize=(8.5, 0.9 + len(names) * (0.16 + 0.16 * len(groups))))
    height = 0.8 / len(groups)
    for place, group in enumerate(groups):
        shown = [(row, bars[group][name]) for row, name in enumerate(names) if name in bars[group]]
        at = [row + (place - (len(groups) - 1) / 2) * height for row, _ in shown]
        below = [max(0.0, interval.value - interval.low) for _, interval in shown]
        above = [max(0.0, interval.high - interval.value) for _, interval in shown]
        axis.barh(
            at,
            [interval.value for _, interval in shown],
            height,
            xerr=[below, above],
            label=group,
            facecolor=OKABE_ITO[place % 8],
            hatch=("", "//", "..", "xx")[place % 4],
            edgecolor="white",
            error_kw={"lw": 1},
        )
    axis.axvline(0, color="black", lw=0.8)
    short = [f"{name[:44]}{'…' if len(name) > 44 else ''}" for name in map(in_words, names)]
    axis.set_yticks(range(len(names)), short, fontsize=9)
    axis.invert_yaxis()
    axis.set_xlabel(label)
    axis.legend(fontsize=9, loc="lower right", bbox_to_anchor=(1, 1), ncols=len(groups))
    values = "; ".join(f"{group}: {ranked({n: i.value for n, i in bars[group].items()})}" for group in groups)
    return noted(figure, note, f"Bars with 95 % intervals; {label}. {values}.")


def plot_losses(losses: Mapping[str, Mapping[str, np.ndarray]], note: str = "") -> Figure:
    """Training loss over the epochs, one panel per task, one line per model: the mean and the range over seeds.

    Args:
        losses: `losses[task][model]`, (S, epochs).
        note: printed in the lower corner.
    """
    figure, axes = subplots(1, len(losses), figsize=(3.2 * len(losses), 3.0), squeeze=False)
    for axis, (task, models) in zip(axes.flat, losses.items(), strict=True):
        for place, (name, values) in enumerate(models.items()):
            _run_band(axis, np.arange(1, np.shape(values)[1] + 1), values, name, place)
        axis.set_title(task, fontsize=10)
        axis.set(xlabel="epoch", ylim=(0, None))
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("training loss,\nband: range over seeds")
    axes[0, 0].legend(fontsize=8)
    ends = "; ".join(
        f"{task}: {ranked({name: float(np.mean(np.asarray(values)[:, -1])) for name, values in models.items()})}"
        for task, models in losses.items()
    )
    return noted(figure, note, f"Training loss over the epochs, a panel a task. In the last epoch {ends}.")


def plot_cosines(cosines: Mapping[str, tuple[np.ndarray, np.ndarray]], note: str = "") -> Figure | None:
    """Cosine between the gradients of pairs of tasks over the steps, one panel per pair: mean and range over seeds.

    Args:
        cosines: pair to steps (T,) and cosines (S, T) in [-1, 1].
        note: printed in the lower corner.
    """
    if not cosines:
        return None
    figure, axes = subplots(1, len(cosines), figsize=(3.2 * len(cosines), 3.0), sharey=True, squeeze=False)
    for place, (axis, (pair, (steps, values))) in enumerate(zip(axes.flat, cosines.items(), strict=True)):
        _run_band(axis, np.asarray(steps), values, "mean over seeds", place)
        axis.axhline(0, color="black", ls="--", lw=1)
        axis.set_title(pair, fontsize=10)
        axis.set(xlabel="step", ylim=(-1, 1))
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("cosine of the gradients,\nband: range over seeds")
    means = {pair: float(np.mean(values)) for pair, (_, values) in cosines.items()}
    return noted(
        figure, note, f"Cosine between the gradients of two tasks over the steps. Means: {ranked(means, '+.2f')}."
    )


def _run_band(axis: Axes, x: np.ndarray, values: np.ndarray, name: str, place: int) -> None:
    """The mean (T,) of runs (S, T) as a line, and their range as a band."""
    runs, style = np.asarray(values, dtype=float), _style(place)
    axis.plot(x, runs.mean(axis=0), **style, ms=4, label=name)
    axis.fill_between(x, runs.min(axis=0), runs.max(axis=0), color=style["color"], alpha=0.2, lw=0)


def plot_monitor(histories: Mapping[str, History], columns: Mapping[str, str], note: str = "") -> Figure:
    """Measurements of training over the epochs, one panel per column of the history, one line per model.

    Args:
        histories: results of `fit` by name of the model.
        columns: a column such as `"train/contrast/spread"` to its name for the axis.
        note: printed in the lower corner.

    Raises:
        ValueError: a history has no such column.
    """
    tables = _tables(histories, list(columns))
    figure, axes = subplots(1, len(columns), figsize=(3.6 * len(columns), 3), squeeze=False)
    for place, (name, table) in enumerate(tables.items()):
        for axis, column in zip(axes.flat, columns, strict=True):
            axis.plot(table.index, table[column], **_style(place), ms=4, label=name)
    for axis, label in zip(axes.flat, columns.values(), strict=True):
        axis.set(xlabel="epoch", ylabel=label)
        axis.set_ylim(0, 1.06 * axis.get_ylim()[1])  # room for the markers
        _whole_epochs(axis)
        axis.grid(alpha=0.3)
    axes.flat[0].legend(fontsize=8)
    ends = "; ".join(
        f"{label}: {ranked({name: float(table[column].iloc[-1]) for name, table in tables.items()}, '.3g')}"
        for column, label in columns.items()
    )
    return noted(figure, note, f"{count_of(columns, 'panel')} over the epochs. In the last epoch {ends}.")


def plot_embedding(points: np.ndarray, colourings: Mapping[str, Sequence[str] | np.ndarray], note: str = "") -> Figure:
    """Points in a plane without units, one panel per colouring.

    Args:
        points: (N, 2).
        colourings: title to (N,) names, of which the seven most frequent have colours and the others are grey, or (N,)
            numbers.
        note: printed in the lower corner.
    """
    columns = len(colourings)
    figure, axes = subplots(1, columns, figsize=(3.9 * columns, 4.3), squeeze=False)
    for axis, (title, colouring) in zip(axes.flat, colourings.items(), strict=True):
        values = np.asarray(colouring)
        if np.issubdtype(values.dtype, np.number):
            drawn = axis.scatter(points[:, 0], points[:, 1], c=values, s=20, cmap="viridis", lw=0)
            figure.colorbar(drawn, ax=axis, location="bottom", fraction=0.05, pad=0.03)
        else:
            names, counts = np.unique(values, return_counts=True)
            frequent = names[np.argsort(-counts, kind="stable")][:7]
            others = ~np.isin(values, frequent)
            axis.scatter(points[others, 0], points[others, 1], s=14, c="#BBBBBB", lw=0)
            for place, name in enumerate(frequent):
                chosen = points[values == name]
                axis.scatter(
                    chosen[:, 0], chosen[:, 1], s=26, c=OKABE_ITO[place], marker=MARKERS[place], lw=0,
                    label=in_words(str(name)),
                )  # fmt: skip
            axis.legend(
                fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=2, frameon=False, columnspacing=0.8,
                handletextpad=0.2,
            )  # fmt: skip
        axis.set_title(title, fontsize=11)
        plain(axis)
    alt = f"{len(points)} embeddings in a plane without units, coloured by {listed(colourings)}."
    return noted(figure, note, alt)


def _style(place: int) -> dict[str, Any]:
    """Colour and marker of the line of a model, by its index."""
    return {"color": OKABE_ITO[place % 8], "marker": MARKERS[place % 8]}


def _tables(histories: Mapping[str, History], columns: Sequence[str]) -> dict[str, pd.DataFrame]:
    """The histories as tables.

    Raises:
        ValueError: a history lacks a column.
    """
    tables = {name: history.frame() for name, history in histories.items()}
    for name, table in tables.items():
        if missing := [column for column in columns if column not in table]:
            raise ValueError(f"the history of {name!r} has no columns {missing}; it has {list(table.columns)}")
    return tables

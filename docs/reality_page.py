"""The tables of `docs/reality.md`, written into it from `docs/reality.csv` and from the results of the labs.

python docs/reality_page.py           # write the tables between the marks of the page
python docs/reality_page.py --check   # only say whether they are those of the tables
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bengelib.course.results import POOLED, read_results  # noqa: E402
from bengelib.course.verdicts import as_gain  # noqa: E402
from bengelib.intervals import Interval  # noqa: E402
from bengelib.metrics import LOWER_IS_BETTER  # noqa: E402

PAGE = Path(__file__).with_name("reality.md")
RESULTS = Path(__file__).with_name("reality.csv")
LABS = {1: "01-data_fusion", 2: "02-mtl", 3: "03-ssl"}
NOT_HAD = "not run: the data could not be had here"
NOT_RUN = "not run"
Key = dict[str, object]


def difference(experiment: str, model: str, metric: str, condition: str, share: float = 1.0, target: str = "") -> Key:
    """The columns of one comparison in a table."""
    found: Key = {"experiment": experiment, "model": model, "metric": metric, "condition": condition}
    return found | {"label_fraction": share, "target": target}


@dataclass(frozen=True)
class Conclusion:
    """A main conclusion of a lab, and the comparison on real images that is nearest to it.

    Attributes:
        lab: 1 to 3.
        text: the comparison in words, the better-named side first.
        simulated: where it stands in the results of the lab.
        real: where its counterpart stands in `reality.csv`; None if there is none.
        why: what the counterpart is, or why there is none.
    """

    lab: int
    text: str
    simulated: Key
    real: Key | None
    why: str


def _lab1(text: str, experiment: str, model: str, against: str, real: tuple[str, str, str] | None, why: str,
          condition: str = "clear", share: float = 1.0) -> Conclusion:  # fmt: skip
    """A conclusion of Lab 1 about the 19 labels, the target that is nearer to a map of floods than the climate zone."""
    of = difference(experiment, model, f"map_minus_{against}", condition, share, "corine")
    asked = None if real is None else difference("ombria", real[0], f"iou_minus_{real[1]}", real[2], target="flood")
    return Conclusion(1, text, of, asked, why)


def _lab2(text: str, experiment: str, model: str, target: str, metric: str, against: str,
          real: tuple[str, str, str, str]) -> Conclusion:  # fmt: skip
    """A conclusion of Lab 2; the real target is one of the same kind."""
    model_there, target_there, metric_there, against_there = real
    of = difference(experiment, model, f"{metric}_minus_{against}", "clear", target=target)
    asked = difference("chips", model_there, f"{metric_there}_minus_{against_there}", "", target=target_there)
    return Conclusion(2, text, of, asked, f"{target_there.replace('_', ' ')} of the chips")


FLOOD = "flooded pixels of OMBRIA"
S1_S2 = "S2 + S1, "
CONCLUSIONS = (
    *(
        _lab1(f"{how} fusion against S2 alone", "strategies", S1_S2 + name, "s2", (S1_S2 + there, "S2", "clear"), FLOOD)
        for how, name, there in (
            ("early", "early", "early"),
            ("feature", "feature (gate)", "feature"),
            ("late", "late", "late"),
            ("decision", "decision", "decision"),
        )
    ),
    _lab1("late against early fusion, as many weights", "capacity", "S2 + S1, late, width-matched", "early",
          ("S2 + S1, late", "S2 + S1, early", "clear"), f"{FLOOD}; there late fusion has more weights"),
    _lab1("late fusion against S2 alone, a tenth of the labels", "labels", "S2 + S1, late", "s2", None,
          "160 chips are too few to take a tenth of", share=0.1),
    *(
        _lab1(f"{how} fusion with modality dropout against without, {key.upper()} missing", "modality dropout",
              f"{S1_S2}{how}, dropout", "no_dropout",
              (f"{S1_S2}{how}, dropout", f"{S1_S2}{how}", f"{key} missing"), FLOOD, f"{key} missing")
        for how in ("early", "late") for key in ("s2", "s1")
    ),
    _lab1("early fusion with modality dropout against without, clouds over half", "modality dropout",
          "S2 + S1, early, dropout", "no_dropout", None, "where the clouds are is not stated", "clouds 0.50"),
    _lab2("all targets together against one alone: a map", "weighting", "equal", "land_cover", "mean_iou", "single",
          ("equal", "land_cover", "mean_iou", "land cover")),
    _lab2("all targets together against one alone: a number", "weighting", "equal", "season", "mae", "single",
          ("equal", "elevation", "mae", "elevation")),
    _lab2("PCGrad against equal weights: a map", "weighting", "pcgrad", "land_cover", "mean_iou", "equal",
          ("pcgrad", "land_cover", "mean_iou", "equal")),
    _lab2("PCGrad against equal weights: a number", "weighting", "pcgrad", "season", "mae", "equal",
          ("pcgrad", "elevation", "mae", "equal")),
    Conclusion(2, "few labels of a map: with the other targets against alone",
               difference("few labels", "with the other targets", "mean_iou_minus_alone", "clear", 0.1, "land_cover"),
               None, "a tenth of 165 chips of 33 sites leaves no sites to learn from"),
    *(
        Conclusion(3, f"contrast of S1 and S2 against from scratch, few labels, {words}",
                   difference("folds", "cross-modal", "accuracy_minus_scratch", condition, 0.05, "land_cover_top"),
                   difference("eurosat", "SimCLR", "accuracy_minus_from scratch", condition, 0.03, "label"),
                   "EuroSAT has no S1: SimCLR of its tiles, 3 % of the labels")
        for words, condition in (("frozen", "frozen"), ("fine-tuned", "finetune"))
    ),
    Conclusion(3, "contrast of S1 and S2 against from scratch, all labels, frozen",
               difference("methods", "cross-modal", "accuracy_minus_scratch", "frozen", 1.0, "land_cover_top"),
               difference("eurosat", "SimCLR", "accuracy_minus_from scratch", "frozen", 1.0, "label"),
               "SimCLR of EuroSAT, all labels"),
    Conclusion(3, "SimCLR against random weights, few labels, frozen",
               difference("methods", "SimCLR", "accuracy_minus_random", "frozen", 0.05, "land_cover_top"),
               difference("eurosat", "SimCLR", "accuracy_minus_random weights", "frozen", 0.03, "label"),
               "EuroSAT, 3 % of the labels"),
    Conclusion(3, "SimCLR against the geolocation pretext, few labels, frozen",
               difference("methods", "SimCLR", "accuracy_minus_geolocation", "frozen", 0.05, "land_cover_top"),
               None, "the places of EuroSAT's tiles are not in the files"),
)  # fmt: skip
"""The main comparisons that the labs' studies named before any run, and what is nearest to each."""


def lookup(table: pd.DataFrame, key: Key) -> Interval | None:
    """The interval of a comparison, above zero if better, or None where it was not run."""
    metric = str(key["metric"])
    rows = table[table["seed"] == POOLED]
    for column, value in key.items():
        if column != "metric":
            rows = rows[rows[column] == value]
    ends = [rows.loc[rows["metric"] == metric + end, "value"] for end in ("", "_low", "_high")]
    if any(len(end) != 1 for end in ends):
        return None
    return as_gain(metric.partition("_minus_")[0], Interval(*(float(end.iloc[0]) for end in ends)))


def shown(gain: Interval, metric: str) -> str:
    """A gain in points, or in the unit of an error that has one."""
    factor, digits = (1, 2) if metric.partition("_minus_")[0] in LOWER_IS_BETTER else (100, 1)
    value, low, high = (f"{factor * part:+.{digits}f}" for part in gain)
    return f"{value} [{low}, {high}]"


def verdict(simulated: Interval, real: Interval) -> str:
    """`same` or `opposite` where both are decided, `undecided` otherwise."""
    if not (simulated.excludes_zero and real.excludes_zero):
        return "undecided"
    return "same" if (simulated.value > 0) == (real.value > 0) else "opposite"


def conclusions(real: pd.DataFrame, dataset: str = "ben-ge-800") -> str:
    """The table of conclusions as Markdown."""
    lines = [f"| lab | conclusion | simulator | real images | verdict | measured on | {dataset} |", "|---" * 7 + "|"]
    labs = {lab: read_results(ROOT / folder / "results.csv") for lab, folder in LABS.items()}
    own = {lab: read_results(ROOT / folder / f"results-{dataset}.csv") for lab, folder in LABS.items()}
    for each in CONCLUSIONS:
        metric = str(each.simulated["metric"])
        of = lookup(labs[each.lab], each.simulated)
        if of is None:
            raise ValueError(f"the results of lab {each.lab} have no {each.simulated}; run its study again")
        there = None if each.real is None else lookup(real, each.real)
        course = lookup(own[each.lab], each.simulated)
        found = "-" if each.real is None else NOT_RUN if there is None else shown(there, str(each.real["metric"]))
        said = "not testable here" if each.real is None else NOT_RUN if there is None else verdict(of, there)
        cells = (each.lab, each.text, shown(of, metric), found, said, each.why)
        lines.append("| " + " | ".join(map(str, (*cells, NOT_HAD if course is None else shown(course, metric)))) + " |")
    return "\n".join(lines)


def study(real: pd.DataFrame, name: str) -> str:
    """Scores and named comparisons of one study as Markdown: those that were run, and how many were not."""
    rows = real[(real["experiment"] == name) & (real["metric"] != "cosine")]
    lines = ["| model | condition or target | labels | score | value [95 % interval] |", "|---" * 5 + "|"]
    keys = ["model", "condition", "target", "label_fraction", "metric"]
    plain, count = rows[~rows["metric"].str.endswith(("_low", "_high"))], 0
    for key, _ in plain.groupby(keys, sort=False):
        model, condition, target, share, metric = key
        of = difference(name, model, metric, condition, share, target)
        found = lookup(real, of)
        score, _, against = metric.partition("_minus_")
        if found is None:
            continue
        if against:
            value = shown(found, metric)
        else:
            low, high = sorted((abs(found.low), abs(found.high)))
            value = f"{abs(found.value):.3f} [{low:.3f}, {high:.3f}]"
        words = score.replace("_", " ") + (f", gain over {against}" if against else "")
        count += 1
        lines.append(f"| {model} | {condition or target.replace('_', ' ')} | {share:.0%} | {words} | {value} |")
    tally = (
        f"{count} of the {len(plain)} figures of this study have been run; the others stand in the table as not run."
    )
    return "\n".join([*(lines if count else ()), *([""] if count else ()), tally])


def written(page: str, tables: dict[str, str]) -> str:
    """The page with each table between `<!-- begin NAME -->` and `<!-- end NAME -->`.

    Raises:
        ValueError: the page lacks a mark.
    """
    for name, table in tables.items():
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        if page.count(begin) != 1 or page.count(end) != 1:
            raise ValueError(f"the page has no {begin} and {end}, each once; put them where the table shall stand")
        before, _, rest = page.partition(begin)
        page = f"{before}{begin}\n{table}\n{end}{rest.partition(end)[2]}"
    return page


def tables() -> dict[str, str]:
    """All tables of the page."""
    real = read_results(RESULTS)
    return {"conclusions": conclusions(real), **{name: study(real, name) for name in ("eurosat", "ombria", "chips")}}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit status 1 if the page is not current")
    given = parser.parse_args(arguments)
    page = PAGE.read_text(encoding="utf-8")
    new = written(page, tables())
    if given.check:
        raise SystemExit(page != new)
    PAGE.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()

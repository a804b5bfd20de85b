"""The tables of `docs/reality.md` and the boxes of the labs, written from `docs/reality.csv` and the labs' results.

python docs/reality_page.py           # write the tables between the marks of the page and of the labs' sources
python docs/reality_page.py --check   # only say whether they are those of the tables

After a change of a box, `python -m tools.build_labs` brings it into the notebooks.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bengelib.course.results import read_results  # noqa: E402
from bengelib.course.verdicts import as_gain  # noqa: E402
from bengelib.intervals import POOLED, Interval  # noqa: E402
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


@dataclass(frozen=True, eq=False)
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
    _lab1("late against early fusion (as many weights in the simulator only)", "capacity",
          "S2 + S1, late, width-matched", "early",
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
        Conclusion(3, f"contrast of S1 and S2 against from scratch, {labels}, {words}",
                   difference(experiment, "cross-modal", "accuracy_minus_scratch", condition, share, "land_cover_top"),
                   None, "EuroSAT has no S1")
        for labels, words, experiment, condition, share in (
            ("few labels", "frozen", "folds", "frozen", 0.05),
            ("few labels", "fine-tuned", "folds", "finetune", 0.05),
            ("all labels", "frozen", "methods", "frozen", 1.0),
        )
    ),
    *(
        Conclusion(3, f"SimCLR against from scratch, {labels}, frozen",
                   difference("methods", "SimCLR", "accuracy_minus_scratch", "frozen", share, "land_cover_top"),
                   difference("eurosat", "SimCLR", "accuracy_minus_from scratch", "frozen", there, "label"), why)
        for labels, share, there, why in (
            ("few labels", 0.05, 0.03, "EuroSAT, 3 % of the labels"), ("all labels", 1.0, 1.0, "EuroSAT, all labels")
        )
    ),
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


def answers(real: pd.DataFrame) -> dict[Conclusion, tuple[str, str, str]]:
    """What the simulator says of each conclusion, what real images say, and the verdict, in words.

    Raises:
        ValueError: the results of a lab lack a comparison.
    """
    labs = {lab: read_results(ROOT / folder / "results.csv") for lab, folder in LABS.items()}
    found = {}
    for each in CONCLUSIONS:
        metric = str(each.simulated["metric"])
        of = lookup(labs[each.lab], each.simulated)
        if of is None:
            raise ValueError(f"the results of lab {each.lab} have no {each.simulated}; run its study again")
        there = None if each.real is None else lookup(real, each.real)
        if each.real is None:
            found[each] = shown(of, metric), "-", "not testable here"
        elif there is None:
            found[each] = shown(of, metric), NOT_RUN, NOT_RUN
        else:
            found[each] = shown(of, metric), shown(there, str(each.real["metric"])), verdict(of, there)
    return found


def conclusions(real: pd.DataFrame, dataset: str = "ben-ge-800") -> str:
    """The table of conclusions as Markdown."""
    lines = [f"| lab | conclusion | simulator | real images | verdict | measured on | {dataset} |", "|---" * 7 + "|"]
    own = {lab: read_results(ROOT / folder / f"results-{dataset}.csv") for lab, folder in LABS.items()}
    for each, words in answers(real).items():
        course = lookup(own[each.lab], each.simulated)
        last = NOT_HAD if course is None else shown(course, str(each.simulated["metric"]))
        lines.append("| " + " | ".join((str(each.lab), each.text, *words, each.why, last)) + " |")
    return "\n".join([*lines, "", census([words[-1] for words in answers(real).values()])])


def census(verdicts: Sequence[str]) -> str:
    """How many conclusions have which verdict, in a sentence."""
    tried = [verdict for verdict in verdicts if verdict in ("same", "opposite", "undecided")]
    counts = ", ".join(f"{tried.count(word)} {word}" for word in ("same", "undecided", "opposite"))
    return f"Conclusions tried on real images: {len(tried)} of {len(verdicts)}; verdicts: {counts}."


def box(real: pd.DataFrame, lab: int) -> str:
    """The conclusions of one lab that were tried on real images, as a short table for its notebook.

    Below it stands how many of those named were run, and how they came out; without a row there is that alone.
    """
    named = {each: words for each, words in answers(real).items() if each.lab == lab and each.real is not None}
    rows = ["| " + " | ".join((each.text, *words)) + " |" for each, words in named.items() if NOT_RUN not in words]
    head = [
        "| conclusion, gain in points or in the unit of an error | simulator | real images | verdict |",
        "|---" * 4 + "|",
    ]
    if not rows:
        return f"None of the {len(named)} comparisons named for this lab has been run on real images yet."
    below = [census([words[-1] for words in named.values()])] + [_random_weights(real)] * (lab == 3)
    return "\n".join([*head, *rows, "", " ".join(below)])


def _random_weights(real: pd.DataFrame) -> str:
    """The sentence on random weights that a gain of pretraining asks for: their score, or that it is not known."""
    scores = {
        model: lookup(real, difference("eurosat", model, "accuracy", "frozen", 0.03, "label"))
        for model in ("random weights", "SimCLR")
    }
    blind, trained = scores.values()
    if blind is None or trained is None:
        return "Random weights were not run there, so how much of the gain was learned in pretraining is not known."
    return f"With the same few labels, frozen, random weights score {blind} there, and SimCLR {trained}."


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
        f"All {count} figures of this study have been run."
        if count == len(plain)
        else f"{count} of the {len(plain)} figures of this study have been run; reality.csv marks the others."
    )
    return "\n".join([*(lines if count else ()), *([""] if count else ()), tally])


def cosines(real: pd.DataFrame) -> str:
    """Cosines between the gradients of two targets on the encoder as Markdown: mean and range of the trainings."""
    rows = real[real["metric"] == "cosine"]
    lines = ["| network of | gradients of | cosine, mean of the steps [range of the trainings] |", "|---" * 3 + "|"]
    for (model, pair), values in rows.groupby(["model", "condition"], sort=False)["value"]:
        name = "all four targets" if model == "equal" else model
        words = pair.replace("~", "and").replace("_", " ").replace("occurrence", "water occurrence")
        lines.append(f"| {name} | {words} | {values.mean():+.3f} [{values.min():+.3f}, {values.max():+.3f}] |")
    return "\n".join(lines) if len(rows) else ""


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
    studies = {name: study(real, name) for name in ("eurosat", "ombria", "chips")}
    studies["chips"] += f"\n\n{cosines(real)}"
    return {"conclusions": conclusions(real), **studies}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit status 1 if a page is not current")
    given = parser.parse_args(arguments)
    real = read_results(RESULTS)
    pages = {PAGE: tables()}
    for lab, folder in LABS.items():
        (source,) = (ROOT / folder).glob("lab_*.src.md")
        pages[source] = {"reality": box(real, lab)}
    stale = []
    for path, inside in pages.items():
        page = path.read_text(encoding="utf-8")
        new = written(page, inside)
        if page != new:
            stale.append(path)
            if not given.check:
                path.write_text(new, encoding="utf-8", newline="\n")
    if stale and given.check:
        names = ", ".join(path.relative_to(ROOT).as_posix() for path in stale)
        raise SystemExit(f"not what the tables say: {names}; run docs/reality_page.py, then tools.build_labs")


if __name__ == "__main__":
    main()

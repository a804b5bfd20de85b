"""What the slides say of the studies: each function reads one answer from a lab's results.csv.

`FACTS[folder][name]` is what stands for `{{name}}` in the deck of that folder. It reads the table through
`course.report`, so a result comes with its interval, and with the note that says whether the data are simulated.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from bengelib.course.report import Study
from bengelib.course.verdicts import Comparison, Comparisons, false_decisions
from tools.links import ROOT

NO_BREAK = "\u00a0"
"""A blank at which no line ends."""
Fact = Callable[[Study], str]
NO_STUDY = "*This study has not been carried out yet: there is no results.csv, so there is no number here.*"
FUSED = ("S2 + S1, early", "S2 + S1, feature (gate)", "S2 + S1, late")
COVERS = (0.25, 0.5, 0.75, 1.0)
JOINT = "with the other targets"
BALANCED = f"{JOINT}, maps in half of each batch"
MAIN = "cross-modal"  # the method that the main comparisons of Lab 3 are about
SHORT = {FUSED[1]: "S2 + S1, gated", BALANCED: "with the others, maps in half of each batch"}


def sections(folder: str) -> str:
    """Table of the sections of a lab and the minutes of a student, as its source has them; computing is left out.

    Raises:
        ValueError: the source has no such table.
    """
    (source,) = (ROOT / folder).glob("lab_*.src.md")
    found = re.search(r"^\| section \|.*\n(?:\|.*\n)+", source.read_text(encoding="utf-8"), re.MULTILINE)
    if not found:
        raise ValueError(f"{source.name} has no table that begins with `| section |`")
    return re.sub(r"^((?:\|[^|]*){3})\|[^|]*\|$", r"\1|", found.group().rstrip(), flags=re.MULTILINE)


def verdict(each: Comparison) -> str:
    """A verdict that fits into a cell."""
    if each.lacks:
        return f"{each.lacks}: no verdict"
    if each.decided:
        return "better" if each.direction > 0 else "worse"
    return f"undecided, up to {each.could_hide:.1f}"


def table(found: Comparisons, study: Study, names: Sequence[str] = (), *, by_target: bool = True) -> str:
    """Comparisons as rows, and below them what they were measured on.

    Args:
        found: the comparisons.
        study: that they are from.
        names: of the rows, in place of those in the table of results.
        by_target: whether the first column is the score.
    """
    head = ["score"] * by_target + ["compared", "points", "95 % interval", "verdict"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for place, each in enumerate(found):
        name = names[place] if names else SHORT.get(each.name, each.name)
        points = each.points
        numbers = [f"{points.value:+.1f}", f"{points.low:+.1f} to {points.high:+.1f}", verdict(each)]
        cells = [*[each.title] * by_target, name, *(cell.replace(" ", NO_BREAK) for cell in numbers)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + f"\n\n{data(study, found)}"


def data(study: Study, found: Sequence[Comparison] = ()) -> str:
    """What a number was measured on, in a line."""
    runs = {each.runs for each in found if each.runs}
    counted = f"; {'at most ' * (len(runs) > 1)}{max(runs)} {found[0].unit}" if runs else ""
    return f"*{study.note}{counted}*"


def sentence(each: Comparison) -> str:
    """A comparison in a sentence, with its interval."""
    points = each.points
    said = f"{points.value:+.1f} points [{points.low:+.1f}, {points.high:+.1f}]"
    return f"{said}, {verdict(each)}"


def answer(each: Comparison, model: str, other: str) -> str:
    """A main comparison as the answer to the question of a lab."""
    return f"{model} against {other}, {each.title}: **{sentence(each)}**"


def chance(found: Comparisons) -> str:
    """How many were decided, beside how many would be by chance."""
    return f"{found.tally()}."


# Lab 1


def _strategies(study: Study) -> Comparisons:
    return study.compare("s2", only=FUSED, experiment="strategies")


def _capacity(study: Study) -> Comparisons:
    return study.compare("early", experiment="capacity")


def _few_labels(study: Study) -> Comparisons:
    return study.compare("s2", only=FUSED[::2], experiment="labels")


def _clouds(study: Study) -> Comparisons:
    covers = [f"clouds {cover:.2f}" for cover in COVERS]
    return study.compare("no_dropout", "condition", model="S2 + S1, early, dropout", condition=covers)


def _main_fusion(study: Study) -> Comparisons:
    return _strategies(study) + _capacity(study) + _few_labels(study) + _clouds(study)


def _noise_floor(study: Study) -> str:
    every = study.compare("s2", experiment="noise floor")
    return "; ".join(f"{each.title} {sentence(each)}" for each in every)


def _weights(study: Study) -> str:
    sizes = study.numbers(metric="parameters", only=("S2 + S1, early", "S2 + S1, late", "S2 + S1, late, width-matched"))
    return "; ".join(f"{name.removeprefix('S2 + S1, ')} {size / 1e6:.1f} million" for name, size in sizes.items())


def _baseline(study: Study) -> str:
    score = study.scores(experiment="strategies", target="climate_zone", only=("majority class",), condition="clear")
    return f"{score['majority class'].value:.2f}"


def _by_chance(study: Study) -> str:
    few, many = (false_decisions(3, ratio) for ratio in (0.0, 4.0))
    return f"{few:.0%} where seeds hardly matter, {many:.0%} where they matter much"


def _six_runs(study: Study) -> str:
    def each_run(*models: str) -> list[float]:
        asked: dict[str, Any] = dict(metric="map", target="corine", condition="clear")
        rows = study.rows(model=models, seed=tuple("012345"), experiment=("strategies", "noise floor"), **asked)
        return list(rows["value"])

    six = each_run("S2", "S2 again")
    said = [f"S2 alone, six runs: {min(six):.3f} to {max(six):.3f}"]
    for name in ("S2 + S1, early", "S2 + S1, late"):
        above = [value > max(six) for value in each_run(name)]
        said.append(f"{name.removeprefix('S2 + S1, ')}: {sum(above)} of {len(above)} runs above the best of them")
    return "; ".join(said)


def _remedy(study: Study) -> str:
    asked: dict[str, Any] = dict(target="corine", experiment=("strategies", "modality dropout"))
    names = ("S2 + S1, early, dropout", "S2 + S1, late, dropout")
    shown, missing = (study.scores(only=names, condition=told, **asked) for told in ("clouds 1.00", "s2 missing"))
    alone = study.scores(only=("S1",), condition="clear", **asked)["S1"].value
    lines = ["| trained with modality dropout | cover shown | declared missing |", "|---|---|---|"]
    lines += [f"| {name.removesuffix(', dropout')} | {shown[name].value:.2f} | {missing[name].value:.2f} |"
              for name in names]  # fmt: skip
    lines.append(f"| *S1 alone, for comparison* | {alone:.2f} | {alone:.2f} |")
    return "\n".join(lines) + f"\n\n{data(study)}"


def _clouded(study: Study) -> str:
    asked: dict[str, Any] = dict(target="corine", experiment="strategies")
    curves = study.curves("clouds", only=("S2", "S2 + S1, early"), **asked)
    alone = study.scores(only=("S1",), condition="clear", **asked)["S1"].value
    said = [f"{name}: {curve[0.0].value:.2f} in clear sky, {curve[1.0].value:.2f} fully clouded"
            for name, curve in curves.items()]  # fmt: skip
    return f"mAP of the 19 labels. {'; '.join(said)}; S1 alone {alone:.2f}."


def _changed(study: Study) -> str:
    models = ("S1", *FUSED[::2], "S2 + season plane", "S2 + weather, MLP")
    pair = (study.compare("s2", only=models, experiment=name) for name in ("strategies", "blocked"))
    sides = [(before, after) for before, after in zip(*pair, strict=True)]
    changed = [before for before, after in sides if before.direction != after.direction]
    return f"{len(changed)} of {len(sides)} verdicts against S2 change when tiles are held out"


def _late_gain(study: Study) -> str:
    (late,) = (each for each in _strategies(study) if (each.name, each.target) == (FUSED[2], "corine"))
    return answer(late, "Joining late", "Sentinel-2 alone")


FUSION: dict[str, Fact] = {
    "strategies": lambda study: table(_strategies(study), study),
    "strategies_tally": lambda study: chance(_strategies(study)),
    "noise_floor": _noise_floor,
    "weights": _weights,
    "capacity": lambda study: table(_capacity(study), study, ("narrow late",) * 2),
    "few_labels": lambda study: "; ".join(
        f"{each.title}, {each.name}: {sentence(each)}" for each in _few_labels(study)
    ),
    "clouds": lambda study: f"Modality dropout, clouds: {chance(_clouds(study))}",
    "clouded": _clouded,
    "remedy": _remedy,
    "by_chance": _by_chance,
    "six_runs": _six_runs,
    "answer": _late_gain,
    "main": lambda study: chance(_main_fusion(study)),
    "baseline": _baseline,
    "changed": _changed,
    "test": lambda study: study.test_set(split="random"),
    "blocked_test": lambda study: study.test_set(split="blocked"),
    "data": data,
}


# Lab 2


def _sharing(study: Study) -> Comparisons:
    return study.compare("single", only=("equal",), experiment="weighting")


def _surgery(study: Study) -> Comparisons:
    return study.compare("equal", only=("pcgrad",), experiment="weighting")


def _few_maps(study: Study) -> Comparisons:
    return study.compare("alone", only=(JOINT,))


def _cost(study: Study) -> str:
    ratios = []
    for metric in ("parameters", "seconds_per_epoch"):
        cost = study.numbers(("experiment", "model"), metric=metric)
        three = sum(cost[f"single, {title}"] for title in ("land cover", "climate zone", "season"))
        ratios.append(f"{three / cost['weighting, equal']:.1f} times")
    return f"have {ratios[0]} the weights of one network for all three, and take {ratios[1]} as long per epoch"


def _pixels(study: Study) -> str:
    rows = {"single, land cover": "the network of its own", "weighting, equal": "the shared network",
            "longer, land cover, longer": "the network of its own, trained longer"}  # fmt: skip
    found = study.compare("pixels", ("experiment", "model"), only=tuple(rows))
    return table(found, study, tuple(rows.values()), by_target=False)


def _decided_weightings(study: Study) -> str:
    others = study.compare("equal", experiment="weighting")
    decided = [f"{each.name}, {each.title}: {sentence(each)}" for each in others if each.decided]
    return f"{chance(others)} " + "; ".join(decided or ["None is decided"]) + "."


def _pair_cosines(study: Study) -> str:
    pairs = study.compare("single", experiment="pairs")
    cosine = study.scores(metric="mean_cosine", only={each.name for each in pairs})
    gains: dict[str, list[str]] = {}
    for each in pairs:
        gains.setdefault(each.name, []).append(f"{each.points.value:+.1f} ({verdict(each).split(',')[0]})")
    lines = ["| pair in one network | mean cosine, range over seeds | gain of the first; of the second, points |",
             "|---|---|---|"]  # fmt: skip
    lines += [f"| {name} | {cosine[name]} | {'; '.join(said)} |" for name, said in gains.items()]
    return "\n".join(lines) + f"\n\n{data(study)}"


def _pair_sentence(study: Study) -> str:
    pairs = study.compare("single", experiment="pairs")
    return f"Gains of the pairs: {chance(pairs)}"


MULTITASK: dict[str, Fact] = {
    "sharing": lambda study: table(_sharing(study), study, ("shared",) * 3),
    "surgery": lambda study: table(_surgery(study), study, ("PCGrad",) * 3),
    "few_maps": lambda study: table(
        _few_maps(study) + study.compare("alone", only=(BALANCED,)), study,
        ("together", "together, maps in half of each batch"), by_target=False,
    ),
    "cost": _cost,
    "pixels": _pixels,
    "weightings": _decided_weightings,
    "pairs": _pair_cosines,
    "pair_gains": _pair_sentence,
    "answer": lambda study: "One network for all against one each, gain in points: "
    + "; ".join(
        f"{each.title.split(',')[0]} **{each.points.value:+.1f}, {verdict(each).split(',')[0]}**"
        for each in _sharing(study)
    ),
    "main": lambda study: chance(_sharing(study) + _surgery(study) + _few_maps(study)),
    "test": lambda study: study.test_set(),
    "data": data,
}  # fmt: skip


# Lab 3


def _asked() -> dict[str, Any]:
    return {"by": ("model", "condition", "label_fraction"), "targets": ("land_cover_top",)}


def _all_folds(study: Study) -> Comparisons:
    found = study.compare("scratch", model=MAIN, condition=("frozen", "finetune"), experiment="folds", **_asked())
    return found.counted(5, "pretraining runs")


def _all_labels(study: Study) -> Comparisons:
    ways = ("frozen", "finetune")
    found = study.compare("scratch", model=MAIN, condition=ways, experiment="methods", label_fraction=1.0, **_asked())
    return found.counted(1, "runs")


def _over_random(study: Study) -> str:
    asked = {"condition": "frozen", "label_fraction": 0.05, **_asked()}
    found = study.compare("random", model=MAIN, experiment="folds", **asked)
    return "; ".join(sentence(each) for each in found.counted(5, "pretraining runs"))


def _simclr(study: Study) -> Comparisons:
    asked = {"model": "SimCLR", "condition": "frozen", "experiment": "methods", "label_fraction": 0.05, **_asked()}
    return study.compare("geolocation", **asked).counted(2, "runs")


def _ways(found: Comparisons) -> tuple[str, ...]:
    return tuple("fine-tuned" if "fine-tuned" in each.name else "frozen" for each in found)


def _saved(study: Study) -> str:
    found = _all_folds(study)
    return table(found, study, [f"{MAIN}, {way}" for way in _ways(found)], by_target=False)


def _with_all(study: Study) -> str:
    found = _all_labels(study)
    lines = [f"{way}: {sentence(each)}" for way, each in zip(_ways(found), found, strict=True)]
    return "; ".join(lines)


def _views(study: Study) -> str:
    asked: dict[str, Any] = dict(by=("model", "label_fraction"), targets=("land_cover_top",), condition="frozen")
    return chance(study.compare("all_changes", experiment="ablation", **asked))


def _collapse(study: Study) -> str:
    lines = ["| method | spread, first to last epoch | rank, first to last |", "|---|---|---|"]
    watched = {
        metric: study.traces("epoch", metric=metric, experiment=("methods", "collapse"), seed="0")
        for metric in ("spread", "rank")
    }
    for name in ("agreement", "SimCLR", "VICReg", "Barlow Twins"):
        cells = []
        for metric, digits in (("spread", 2), ("rank", 0)):
            values = watched[metric][name][1][0]
            cells.append(f"{values[0]:.{digits}f} to {values[-1]:.{digits}f}")
        lines.append(f"| {name}{' only' if name == 'agreement' else ''} | {' | '.join(cells)} |")
    return "\n".join(lines) + f"\n\n{data(study)}"


def _retrieval(study: Study) -> str:
    patches = study.numbers("metric", metric="test_patches", experiment="test")["test_patches"]
    share = study.numbers(metric="retrieval_top_1", experiment="methods", only=(MAIN,))[MAIN]
    return (
        f"{share:.1%} of {patches:.0f} radar images are matched with their optical image; chance is {1 / patches:.1%}"
    )


def _both_sensors(study: Study) -> str:
    asked: dict[str, Any] = dict(experiment="earthpulse", model="S1 + S2", condition=("scratch", "frozen", "finetune"))
    found = study.compare("s2", ("condition", "label_fraction"), targets=("land_cover_top",), **asked)
    return f"S1 + S2 against S2 alone: {chance(found)}"


def _frozen_gain(study: Study) -> str:
    (frozen,) = (each for each in _all_folds(study) if "frozen" in each.name)
    return answer(frozen, "Contrast of both sensors, frozen, 5 % of the labels", "training from scratch")


SELF_SUPERVISED: dict[str, Fact] = {
    "saved": _saved,
    "with_all": _with_all,
    "over_random": _over_random,
    "simclr": lambda study: "; ".join(map(sentence, _simclr(study))),
    "views": _views,
    "collapse": _collapse,
    "retrieval": _retrieval,
    "both_sensors": _both_sensors,
    "answer": _frozen_gain,
    "main": lambda study: chance(_all_folds(study) + _all_labels(study) + _simclr(study)),
    "test": lambda study: study.test_set(experiment="test"),
    "folds": lambda study: study.test_set(experiment="folds"),
    "data": data,
}

FACTS: dict[str, dict[str, Fact]] = {
    "00-intro": {},
    "01-data_fusion": FUSION,
    "02-mtl": MULTITASK,
    "03-ssl": SELF_SUPERVISED,
}

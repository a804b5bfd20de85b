import numpy as np
import pytest

from bengelib.course.targets import MAIN_SCORES
from bengelib.course.verdicts import Comparison, Comparisons, as_gain, compare_runs, false_decisions, lacking, tally
from bengelib.intervals import Interval
from bengelib.metrics import lower_is_better

BETTER = Comparison("a", "corine", Interval(0.03, 0.01, 0.05), 3)
WORSE = Comparison("b", "corine", Interval(-0.03, -0.05, -0.01))
OPEN = Comparison("c", "season", Interval(0.01, -0.02, 0.041), 3)
FEW = Comparison("d", "season", Interval(0.5, 0.4, 0.6), 1, lacking(1))


@pytest.mark.parametrize(
    ("comparison", "verdict"),
    [
        (BETTER, "decided: better"),
        (WORSE, "decided: worse"),
        (OPEN, "undecided, could hide up to 4.1 points"),
        (Comparison("", "season", Interval(0.0, -0.07, 0.04)), "undecided, could hide up to 7.0 points"),
        (FEW, "one run, no verdict"),
        (Comparison("", "season", Interval(0.5, 0.4, 0.6), 2, lacking(2)), "2 runs, no verdict"),
        (Comparison("", "season", Interval(0.5, 0.4, 0.6), 3, lacking(3, 4)), "4 tiles, no verdict"),
    ],
)
def test_a_verdict_in_words(comparison, verdict):
    assert comparison.verdict == verdict and comparison.decided is verdict.startswith("decided")
    assert comparison.direction == {"better": 1, "worse": -1}.get(verdict.removeprefix("decided: "), 0)


def test_in_a_sentence_a_comparison_says_how_many_runs_are_behind_it():
    assert str(BETTER) == "+3.0 points [+1.0, +5.0], decided: better (3 runs)"
    assert str(WORSE) == "-3.0 points [-5.0, -1.0], decided: worse"
    assert str(FEW) == "+50.0 points [+40.0, +60.0], one run, no verdict"


def test_above_zero_is_better_whatever_the_score():
    difference = Interval(-0.2, -0.3, -0.05)
    assert as_gain("mae", difference) == (0.2, 0.05, 0.3) and as_gain("map", difference) == difference
    assert [target for target in MAIN_SCORES if lower_is_better(MAIN_SCORES[target].metric)] == ["season"]


def test_runs_are_compared_on_the_same_patches():
    truth = np.arange(40) % 2
    right, wrong = np.stack([truth] * 3), np.stack([np.where(np.arange(40) < 10, 1 - truth, truth)] * 4)
    better = compare_runs("m", "climate_zone", right, wrong, truth, draws=200)
    assert better.gain.value == 0.25 and better.decided and better.runs == 3
    assert not compare_runs("m", "climate_zone", right[:2], wrong, truth, draws=200).decided
    tiles = [str(index % 4) for index in range(40)]
    assert compare_runs("m", "climate_zone", list(right), wrong, truth, groups=tiles, draws=9).lacks == "4 tiles"
    season = compare_runs("m", "season", truth[None] + 0.1, truth[None] + 0.3, truth.astype(float), draws=9)
    assert season.points.value == pytest.approx(20) and season.lacks == "one run"
    drawn = compare_runs("m", "climate_zone", right[:1], wrong, truth, draws=9, unit="draws")
    assert drawn.verdict == "one draw, no verdict"


def test_comparisons_are_shown_as_a_table_and_an_empty_one_as_nothing():
    several = Comparisons([BETTER]) + Comparisons([OPEN])
    assert isinstance(several, Comparisons) and list(several) == [BETTER, OPEN]
    table = several.table()
    assert table["verdict"].tolist() == [BETTER.verdict, OPEN.verdict]
    assert table.iloc[0].tolist() == ["19 labels, mAP", "a", "+3.0", "+1.0 to +5.0", "2.0", "decided: better", 3]
    for text in (repr(several), several._repr_html_()):
        assert OPEN.verdict in text and several.tally() in text
    assert "by chance" not in repr(Comparisons([OPEN]))
    assert "runs" not in Comparisons([WORSE]).table()
    counted = Comparisons([WORSE]).counted(5, "pretraining runs")
    assert counted.table()["pretraining runs"].tolist() == [5] and str(counted[0]).endswith(
        "worse (5 pretraining runs)"
    )
    assert repr(Comparisons()) == Comparisons()._repr_html_() == "" and Comparisons().table().empty


def test_comparisons_give_figures_what_they_draw():
    several = Comparisons([BETTER, WORSE, OPEN])
    assert several.gains() == {"a": BETTER.points, "b": WORSE.points, "c": OPEN.points}
    assert several.points() == {
        "19 labels, mAP": {"a": BETTER.points, "b": WORSE.points}, "season, MAE": {"c": OPEN.points}
    }  # fmt: skip


def test_comparisons_can_be_renamed():
    assert [each.name for each in Comparisons([BETTER, WORSE]).renamed({"a": "A"})] == ["A", "b"]


def test_the_same_comparisons_under_two_conditions_stand_side_by_side():
    first, second = Comparisons([BETTER, OPEN]), Comparisons([Comparison("a", "corine", Interval(0.01, -0.01, 0.02))])
    table = first.beside(second, ("random", "blocked"))
    assert table[["gain, points, random", "gain, points, blocked"]].values.tolist() == [["+3.0", "+1.0"]]
    assert Comparisons().beside(second, ("random", "blocked")) is None
    assert table["verdict, blocked"].tolist() == ["undecided, could hide up to 2.0 points"]


def test_a_tally_says_what_is_decided_and_what_came_out_less_sharp_than_aimed_at():
    families = {"first": Comparisons([BETTER, OPEN]), "second": Comparisons([FEW, WORSE])}
    assert tally(families, {"corine": 4, "season": 3.0}).splitlines() == [
        "all comparisons: 2 of 4 decided; chance alone would decide 0.2 to 0.3 if no difference were real",
        "half-width aimed at missed by 2:",
        "  first, season, MAE, c: 3.1 (aim 3)",
        "  second, season, MAE, d: 10.0 (aim 3)",
        "first: 1 of 2 decided",
        "  19 labels, mAP, a: +3.0 points [+1.0, +5.0], decided: better (3 runs)",
        "second: 1 of 2 decided",
        "  19 labels, mAP, b: -3.0 points [-5.0, -1.0], decided: worse",
    ]
    assert "missed by 0: none" in tally(families, 20) and tally({"first": Comparisons()}, 4) == ""
    assert tally({"first": Comparisons([BETTER])}).splitlines()[1:] == ["first: 1 of 1 decided", f"  a: {BETTER}"]


def test_few_runs_decide_true_zeros_more_often_than_one_in_twenty():
    shares = {ratio: false_decisions(3, ratio, 400) for ratio in (0.0, 4.0)}
    assert 0.02 < shares[0.0] < 0.08 and shares[0.0] + 0.02 < shares[4.0] < 0.2
    assert false_decisions(20, 4.0, 400) < shares[4.0]


def test_what_has_no_verdict_is_never_decided_by_chance():
    assert Comparisons([FEW]).by_chance() == (0, 0) and Comparisons([WORSE]).by_chance() == (0.05, 0.05)
    low, high = Comparisons([BETTER, OPEN]).by_chance()
    assert 0 < low < high

import pytest

from bengelib.course.findings import census, finding, saving, say
from bengelib.course.verdicts import Comparison, lacking
from bengelib.intervals import Interval


@pytest.mark.parametrize(
    ("gain", "runs", "words"),
    [
        (
            (0.03, 0.01, 0.05),
            3,
            "Late fusion does better than radar: +3.0 points [+1.0, +5.0] in climate zone, accuracy.",
        ),
        ((-0.03, -0.05, -0.01), 3, "Late fusion does worse than radar: -3.0 points [-5.0, -1.0] in climate zone"),
        ((0.01, -0.02, 0.041), 3, "Late fusion and radar cannot be told apart: +1.0 points [-2.0, +4.1]"),
        ((0.01, -0.02, 0.041), 3, "up to 4.1 points could hide."),
        ((0.115, 0.1, 0.126), 1, "+11.5 points [+10.0, +12.6] in climate zone, accuracy, with one run, so no verdict."),
    ],
)
def test_a_difference_as_a_sentence(gain, runs, words):
    comparison = Comparison("late", "climate_zone", Interval(*gain), runs, lacking(runs))
    assert words in finding(comparison, "Late fusion", "radar")


def test_a_census_names_every_comparison():
    def one(name, *gain, runs=3, target="climate_zone"):
        return Comparison(name, target, Interval(*gain), runs, lacking(runs))

    family = [
        one("pairs, frozen", 0.03, 0.01, 0.05),
        one("alone, frozen", -0.03, -0.05, -0.01),
        one("pairs, tuned", 0.04, 0.02, 0.06),
        one("alone, tuned", 0.01, -0.02, 0.04),
    ]
    assert census(family, "scratch") == [
        "2 of 4 do better than scratch in climate zone, accuracy, all pairs. In points: pairs, frozen +3.0 [+1.0, "
        "+5.0]; pairs, tuned +4.0 [+2.0, +6.0].",
        "1 of 4 does worse than scratch in climate zone, accuracy. In points: alone, frozen -3.0 [-5.0, -1.0].",
        "1 of 4 cannot be told apart from scratch in climate zone, accuracy. In points: alone, tuned +1.0 [-2.0, "
        "+4.0]; up to 4.0 could hide.",
    ]
    (short,) = census([one("a", 0.1, 0.05, 0.2, runs=1)], "b")
    assert (
        short == "1 of 1 has no verdict against b in climate zone, accuracy. In points: a +10.0 [+5.0, +20.0], one run."
    )
    mixed = census([family[0], one("maps", 0.1, 0.05, 0.2, target="land_cover")], "b")
    assert "maps (land cover, mean IoU) +10.0" in mixed[0]
    assert census([], "b") == census([], "b", chance=True) == []
    assert census(family, "scratch", chance=True)[-1].startswith("3 of 4 decided; chance alone would decide 0.")


def curve(*values):
    return {share: Interval(value, 0, 1) for share, value in zip((0.1, 0.5, 1.0), values, strict=True)}


def test_labels_saved_as_a_sentence():
    better, scratch = curve(0.6, 0.7, 0.8), curve(0.4, 0.6, 0.7)
    assert saving(better, scratch, 0.1, 1000) == (
        "With 10% of the labels (100), the pretrained network scores 0.60, as much as from scratch with about "
        "500 labels: it saves about 400 here."
    )
    assert "more than from scratch with any share up to 100% (1000 labels)" in saving(better, scratch, 1.0, 1000)
    assert "saves none here" in saving(scratch, better, 0.1, 1000)
    words = saving(better, scratch, 0.5, 200, subject="SimCLR", against="supervised training")
    assert words.startswith("With 50% of the labels (100), SimCLR scores 0.70, as much as supervised training with")


def test_sentences_are_printed_in_lines(capsys):
    say("word " * 40, "another")
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 104 and lines[0].startswith("* word") and lines[-1] == "* another"
    assert lines[1].startswith("  word")

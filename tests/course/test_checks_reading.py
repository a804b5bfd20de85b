import pytest

from bengelib.course.checks_reading import (
    check_epochs_needed,
    check_equal_epochs,
    check_falls_below,
    check_hardly_found,
    check_patches_needed,
    check_share_needed,
    written,
)
from bengelib.intervals import Interval

CURVES = {
    "low": {0.0: Interval(0.3, 0.2, 0.4), 0.5: Interval(0.2, 0.1, 0.3), 1.0: Interval(0.1, 0.0, 0.2)},
    "falls": {0.0: Interval(0.6, 0.5, 0.7), 0.5: Interval(0.5, 0.4, 0.6), 1.0: Interval(0.2, 0.1, 0.3)},
    "stays": {0.0: Interval(0.6, 0.5, 0.7), 0.5: Interval(0.5, 0.4, 0.6), 1.0: Interval(0.45, 0.4, 0.5)},
}
RIGHT = {"low": 0.0, "falls": 1.0, "stays": None}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (RIGHT, "[ok] Exercise 1.3"),
        ({"low": ..., "falls": ..., "stays": ...}, "[todo]"),
        ({**RIGHT, "falls": ...}, "falls has no answer yet"),
        ({**RIGHT, "falls": 0.5}, "at 0.5 it is still above the line"),
        ({**RIGHT, "falls": 0.75}, "nothing was measured at 0.75; take the next marker"),
        ({**RIGHT, "falls": 75}, "75 is no share"),
        ({**RIGHT, "falls": None}, "falls does fall below the line"),
        ({**RIGHT, "falls": "half"}, "expected are numbers"),
        ({**RIGHT, "stays": 1.0}, "stays never falls below"),
        ({**RIGHT, "low": 0.5}, "below, but so it is at a smaller cover"),
        ({**RIGHT, "falls": 0.0}, "its score is 0.60, and the line is at 0.40: above"),
    ],
)
def test_covers_read_from_a_figure(answer, words, capsys):
    check_falls_below(answer, CURVES, 0.4)
    assert words in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(("cover", "words"), [(0.5, "[ok]"), (1.0, "[ok]"), (0.0, "above"), (None, "does fall below")])
def test_a_marker_on_the_line_is_read_either_way(cover, words, capsys):
    check_falls_below({"falls": cover}, CURVES, 0.495)
    assert words in " ".join(capsys.readouterr().out.split())


def test_an_answer_that_is_no_function_is_not_called_one(capsys):
    check_falls_below(dict.fromkeys(RIGHT, ...), CURVES, 0.4)
    check_falls_below({**RIGHT, "falls": "half"}, CURVES, 0.4)
    said = " ".join(capsys.readouterr().out.split())
    assert "[todo] Exercise 1.3: no answer yet. Replace `...` by yours." in said and "function" not in said


def test_without_a_study_there_is_nothing_to_read(capsys):
    check_falls_below(dict.fromkeys(RIGHT, ...), {}, None)
    assert "no results.csv" in capsys.readouterr().out


def right(half_width, patches, difference):
    return -(-patches * half_width**2 // difference**2)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (right, "[ok] Exercise 1.4"),
        (lambda half_width, patches, difference: None, "[todo]"),
        (lambda half_width, patches, difference: patches * half_width / difference, "grows with the square"),
        (lambda half_width, patches, difference: patches * (difference / half_width) ** 2, "upside down"),
        (
            lambda half_width, patches, difference: patches * difference / half_width,
            "upside down, and is to be squared",
        ),
        (lambda half_width, patches, difference: patches * (half_width / difference) ** 0.5, "root of the ratio"),
        (lambda half_width, patches, difference: patches * (2 * half_width / difference) ** 2, "twice its half-width"),
        (lambda half_width, patches, difference: (half_width / difference) ** 2, "number of patches that you have"),
        (lambda half_width, patches, difference: patches * (half_width / difference) ** 2, "round up to whole patches"),
        (
            lambda half_width, patches, difference: int(patches * half_width**2 / difference**2),
            "705 patches are not quite enough: round up to 706",
        ),
        (lambda half_width, patches, difference: patches + 7, "are needed"),
    ],
)
def test_the_size_of_a_test(function, words, capsys):
    check_patches_needed(function)
    assert words in " ".join(capsys.readouterr().out.split())


def test_the_library_steps_in_aloud_where_nothing_is_written(capsys):
    assert written(lambda x: None, 3, instead=lambda x: x + 1, what="next_number") == 4
    assert "next_number is not written yet" in capsys.readouterr().out
    assert written(lambda x: x + 2, 3, instead=lambda x: x + 1, what="next_number") == 5
    assert "with your next_number" in capsys.readouterr().out


BARS = {
    "one": {"wood": Interval(0.1, 0, 1), "roof": Interval(0.1, 0, 1), "crop": Interval(0.5, 0, 1)},
    "other": {"wood": Interval(0.15, 0, 1), "roof": Interval(0.3, 0, 1), "crop": Interval(0.6, 0, 1)},
}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"wood"}, "[ok] Exercise 2.4"),
        ({...}, "[todo]"),
        ({"wood", "roof"}, "roof has a bar that ends at 0.30"),
        (set(), "1 more of these names"),
        ({"forest"}, "'forest' is no name in the figure; they are crop, roof, wood"),
        ("wood", "give a set of names"),
    ],
)
def test_names_read_from_a_figure(answer, words, capsys):
    check_hardly_found(answer, BARS, 0.2)
    assert words in " ".join(capsys.readouterr().out.split())


def test_without_a_study_there_are_no_bars(capsys):
    check_hardly_found({...}, {"one": {}, "other": {}}, 0.2)
    assert "no results.csv" in capsys.readouterr().out


def steps(patches, batch_size):
    return -(-patches // batch_size)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda p, e, f, b: max(1, round(e * steps(p, b) / steps(f, b))), "[ok] Exercise 2.5"),
        (lambda p, e, f, b: round(e * p / f), "are not equal steps"),
        (lambda p, e, f, b: e * steps(p, b), "this is a number of steps"),
        (lambda p, e, f, b: max(1, round(steps(f, b) / (e * steps(p, b)))), "upside down"),
        (lambda p, e, f, b: e, "the same epochs are fewer steps"),
        (lambda p, e, f, b: max(1, round(e * (p // b) / (f // b))), "round the steps of an epoch up"),
        (lambda p, e, f, b: e * steps(p, b) / steps(f, b), "round to a whole number"),
        (lambda p, e, f, b: 99, "3 epochs of 640 patches in batches of 16 are 120 steps"),
    ],
)
def test_epochs_of_equal_steps(function, words, capsys):
    check_epochs_needed(lambda patches, epochs, few, batch_size: function(patches, epochs, few, batch_size))
    assert words in " ".join(capsys.readouterr().out.split())


def test_a_stub_is_still_to_be_written(capsys):
    def epochs_needed(patches, epochs, few, batch_size):
        """As learners find it."""
        # your code here
        ...

    check_epochs_needed(epochs_needed)
    assert "[todo] Exercise 2.5" in capsys.readouterr().out


BETTER = {0.1: Interval(0.6, 0, 1), 1.0: Interval(0.8, 0, 1)}
SCRATCH = {0.1: Interval(0.5, 0, 1), 1.0: Interval(0.7, 0, 1)}  # 0.6 half-way: at 0.316


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (0.32, "[ok] Exercise 3.3"),
        (0.25, "[ok]"),
        (..., "[todo]"),
        (None, "does get so high"),
        (0.55, "better than that already"),
        (0.12, "not yet as good"),
        (0.05, "lies left of 0.1"),
        (32, "32 is no share"),
    ],
)
def test_a_share_read_horizontally(answer, words, capsys):
    check_share_needed(answer, BETTER, SCRATCH, 0.1)
    assert words in " ".join(capsys.readouterr().out.split())


def test_a_line_that_never_gets_so_high(capsys):
    low = {share: Interval(0.2, 0, 1) for share in BETTER}
    check_share_needed(None, BETTER, low, 0.1)
    check_share_needed(0.5, BETTER, low, 0.1)
    shown = " ".join(capsys.readouterr().out.split())
    assert "[ok] Exercise 3.3" in shown and "the answer is None" in shown


def test_lines_that_nearly_meet_at_the_right_edge(capsys):
    near = {0.1: Interval(0.2, 0, 1), 1.0: Interval(BETTER[0.1].value - 0.005, 0, 1)}
    for answer in (None, 1.0, 0.3):
        check_share_needed(answer, BETTER, near, 0.1)
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.count("both fair readings") == 2 and "[not yet]" in shown


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda p, v, e, q, w: max(1, round(p * v * e / (q * w))), "[ok] Exercise 3.5"),
        (lambda p, v, e, q, w: e, "the same epochs are not the same images"),
        (lambda p, v, e, q, w: max(1, round(p * w * e / (q * v))), "upside down"),
        (lambda p, v, e, q, w: max(1, round(v * e / w)), "the patches differ too"),
        (lambda p, v, e, q, w: max(1, round(p * e / q)), "the views differ too"),
        (lambda p, v, e, q, w: p * v * e, "this is a number of images"),
        (lambda p, v, e, q, w: round(p * v * e / (q * w)), "at least one"),
        (lambda p, v, e, q, w: max(1.0, p * v * e / (q * w)), "round to a whole number"),
        (lambda p, v, e, q, w: 77, "would be closest"),
    ],
)
def test_epochs_of_equal_images(function, words, capsys):
    check_equal_epochs(
        lambda patches, views, epochs, other_patches, other_views: function(
            patches, views, epochs, other_patches, other_views
        )
    )
    assert words in " ".join(capsys.readouterr().out.split())

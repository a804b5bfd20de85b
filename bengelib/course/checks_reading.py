"""The checks of exercises that ask to read a figure or to plan a comparison (see `checks`)."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from bengelib.course.checks import NotYet, Submission, Untouched, expect, numbers, report
from bengelib.intervals import Interval

Answer = TypeVar("Answer")


def written(function: Callable[..., Answer], *arguments: Any, instead: Callable[..., Answer], what: str) -> Answer:
    """What a reader's function answers, or what the library's answers where nothing is written yet, which is said.

    Args:
        function: the reader's; it answers None as long as its body is a stub.
        *arguments: of both.
        instead: the library's.
        what: the name of the function, for the line that says which of the two was used.
    """
    answer = function(*arguments)
    if answer is None:
        print(f"({what} is not written yet, so the library's version steps in.)")
        return instead(*arguments)
    print(f"(computed with your {what})")
    return answer


def check_falls_below(
    answer: Mapping[str, Any], curves: Mapping[str, Mapping[float, Interval]], line: float | None
) -> None:
    """Exercise 1.3: the smallest measured cover at which each curve is below a line.

    Args:
        answer: what the reader has read, by name of a curve: a cover, or None for never.
        curves: score by cover; empty where there is no study.
        line: the score of the line; None where there is no study.
    """
    if not curves or line is None:
        print("There is no results.csv, so there is no figure to read in Exercise 1.3.")
        return

    def examine() -> str:
        if all(value is ... for value in answer.values()):
            raise Untouched
        for name, value in answer.items():
            expect(value is not ..., f"{name} has no answer yet.")
            below = [cover for cover, score in curves[name].items() if score.value < line]
            _examine_cover(name, value, min(below, default=None), curves[name], line)
        return "where a line lies below radar alone, the second sensor has been no insurance."

    report("1.3", examine)


def _examine_cover(name: str, value: Any, right: float | None, curve: Mapping[float, Interval], line: float) -> None:
    """Compare one cover with what is right, and with what usual mistakes give."""
    if value is None or right is None:
        expect(value is right, f"{name} " + ("never falls below." if right is None else "does fall below the line."))
        return
    cover = float(numbers(value, (), "one number"))
    expect(0 <= cover <= 1, f"{name}: {cover:g} is no share; read the horizontal axis, from 0 to 1.")
    if cover == right:
        return
    above = [each for each, score in curve.items() if score.value >= line]
    if above and cover == max(above):
        raise NotYet(f"{name}: at {cover:g} it is still above the line; the next marker is the first below it.")
    if cover not in curve:
        raise NotYet(f"{name}: nothing was measured at {cover:g}; take the next marker, one of {sorted(curve)}.")
    where = "above" if curve[cover].value >= line else "below, but so it is at a smaller cover"
    raise NotYet(f"{name}: at {cover:g} its score is {curve[cover].value:.2f}, and the line is at {line:.2f}: {where}.")


def check_patches_needed(function: Callable[..., Any]) -> None:
    """Exercise 1.4: `patches_needed(half_width, patches, difference)`, the size of a test that decides a difference.

    Args:
        function: takes the half-width of an interval in points, the number of test patches behind it, and a difference
            in points; returns the whole number of patches at which the half-width equals the difference.
    """

    def examine() -> str:
        submission = Submission(function)
        for half_width, patches, difference in ((6.0, 250, 2.0), (4.0, 100, 4.0), (5.0, 254, 3.0), (2.0, 900, 3.0)):
            asked = dict(half_width=half_width, patches=patches, difference=difference)
            needed = float(numbers(submission(**asked), (), "one number"))
            ratio = half_width / difference
            right = int(np.ceil(patches * ratio**2))
            called = f"for a half-width of {half_width:g} on {patches} patches and a difference of {difference:g}"
            mistakes = {
                "half-widths shrink with the square root: the number of patches grows with the square of the ratio.": (
                    patches * ratio
                ),
                "the ratio is upside down: a narrower interval needs more patches.": patches / ratio**2,
                "the ratio is upside down, and is to be squared: a narrower interval needs more.": patches / ratio,
                "you take the square root of the ratio, where its square is asked for.": patches * ratio**0.5,
                "the interval is twice its half-width; compare the half-width with the difference.": (
                    patches * (2 * ratio) ** 2
                ),
                "multiply by the number of patches that you have.": ratio**2,
            }
            if needed == right:
                continue
            for hint, value in mistakes.items():
                if ratio != 1 and abs(needed - value) <= 1:
                    raise NotYet(hint)
            expect(needed % 1 == 0, f"{called}, you give {needed:.2f}: round up to whole patches.")
            raise NotYet(f"{called}, you give {needed:g}, and {right} are needed.")
        return "four times the patches for half the width; what seeds add does not shrink with them."

    report("1.4", examine)

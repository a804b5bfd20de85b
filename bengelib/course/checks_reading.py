"""Checks of exercises about reading a figure or planning a comparison (see `checks`)."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from bengelib.course.checks import NotYet, Submission, Untouched, expect, numbers, report
from bengelib.course.report import labels_saved
from bengelib.intervals import Interval

Answer = TypeVar("Answer")
ON_THE_LINE = 0.01
"""Distance of a marker from a line, in the unit of a score, at which a reader of the figure cannot see its side."""


def written(function: Callable[..., Answer], *arguments: Any, instead: Callable[..., Answer], what: str) -> Answer:
    """The result of a reader's function, or that of the library's if it is not implemented yet; prints which one.

    Args:
        function: the reader's function; returns None as long as its body is a stub.
        *arguments: of both functions.
        instead: the library's function.
        what: the name of the function, for the printed line.
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
        answer: the reader's answers by name of a curve: a cover, or None for never.
        curves: score by cover; empty without a study.
        line: the score of the line; None without a study.
    """
    if not curves or line is None:
        print("There is no results.csv, so there is no figure to read in Exercise 1.3.")
        return

    def examine() -> str:
        if all(value is ... for value in answer.values()):
            raise Untouched
        for name, value in answer.items():
            expect(value is not ..., f"{name} has no answer yet.")
            _examine_cover(name, value, curves[name], line)
        return "where a line lies below radar alone, the second sensor has been no insurance."

    report("1.3", examine, function=False)


def _examine_cover(name: str, value: Any, curve: Mapping[float, Interval], line: float) -> None:
    """Compare one cover with the correct ones, and with those of common mistakes.

    A marker on the line, to within `ON_THE_LINE`, may be read as above or below it.
    """
    right = {
        min((cover for cover, score in curve.items() if score.value < line + shift), default=None)
        for shift in (-ON_THE_LINE, 0.0, ON_THE_LINE)
    }
    if value is None or right == {None}:
        expect(value in right, f"{name} " + ("never falls below." if right == {None} else "does fall below the line."))
        return
    cover = float(numbers(value, (), "one number", f"{name} has"))
    expect(0 <= cover <= 1, f"{name}: {cover:g} is no share; read the horizontal axis, from 0 to 1.")
    if cover in right:
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
            expect(needed != right - 1, f"{called}, {needed:g} patches are not quite enough: round up to {right}.")
            for hint, value in mistakes.items():
                if ratio != 1 and abs(needed - value) <= 1:
                    raise NotYet(hint)
            expect(needed % 1 == 0, f"{called}, you give {needed:.2f}: round up to whole patches.")
            raise NotYet(f"{called}, you give {needed:g}, and {right} are needed.")
        return "four times the patches for half the width; what seeds add does not shrink with them."

    report("1.4", examine)


def check_hardly_found(answer: Any, bars: Mapping[str, Mapping[str, Interval]], limit: float) -> None:
    """Exercise 2.4: the names whose bars all end below a limit.

    Args:
        answer: the set of names that the reader has read.
        bars: score by name, for each group of bars; empty where there is no study.
        limit: score that all bars of a name have to stay below.
    """
    groups = list(bars.values())
    if not groups or not groups[0]:
        print("There is no results.csv, so there is no figure to read in Exercise 2.4.")
        return

    def examine() -> str:
        expect(isinstance(answer, set | frozenset | list | tuple), "give a set of names, such as {'first', 'second'}.")
        if ... in answer:
            raise Untouched
        known = set(groups[0])
        if unknown := [name for name in answer if name not in known]:
            raise NotYet(f"{unknown[0]!r} is no name in the figure; they are {', '.join(sorted(known))}.")
        right = {name for name in known if all(group[name].value < limit for group in groups if name in group)}
        for name in answer:
            best = max(group[name].value for group in groups if name in group)
            expect(name in right, f"{name} has a bar that ends at {best:.2f}, which is not below {limit:g}.")
        missing = right - set(answer)
        expect(not missing, f"{len(missing)} more of these names have no bar that reaches {limit:g}.")
        return "a mean over classes hides them: each counts as much as a class that is found."

    report("2.4", examine, function=False)


def check_epochs_needed(function: Callable[..., Any]) -> None:
    """Exercise 2.5: `epochs_needed(patches, epochs, few, batch_size)`, epochs that make as many steps on few patches.

    Args:
        function: takes the patches and epochs of a training, the smaller number of patches of another, and the batch
            size of both; returns the whole number of epochs, 1 or more, at which the steps are closest.
    """

    def examine() -> str:
        submission = Submission(function)
        for patches, epochs, few, batch_size in (
            (640, 3, 60, 16),
            (1000, 4, 150, 32),
            (90, 1, 80, 16),
            (64, 1, 64, 64),
        ):
            asked = dict(patches=patches, epochs=epochs, few=few, batch_size=batch_size)
            needed = float(numbers(submission(**asked), (), "one number"))
            steps, each = epochs * -(-patches // batch_size), -(-few // batch_size)
            right = max(1, round(steps / each))
            if needed == right:
                continue
            mistakes: dict[str, float] = {
                "equal numbers of patches seen are not equal steps: count steps, of which the last is smaller.": round(
                    epochs * patches / few
                ),
                "this is a number of steps: divide it by the steps of one epoch on few patches.": steps,
                "the ratio is upside down: fewer patches need more epochs.": max(1, round(each / steps)),
                "the same epochs are fewer steps on fewer patches.": epochs,
                "the last batch counts too: round the steps of an epoch up.": max(
                    1, round(epochs * (patches // batch_size) / max(1, few // batch_size))
                ),
            }
            for hint, value in mistakes.items():
                if needed == value:
                    raise NotYet(hint)
            expect(needed % 1 == 0, f"{needed:.2f} epochs cannot be trained: round to a whole number.")
            raise NotYet(
                f"{epochs} epochs of {patches} patches in batches of {batch_size} are {steps} steps; {needed:g} epochs "
                f"of {few} are {needed * each:g}, and {right} epochs {right * each}."
            )
        return "equal steps, not equal epochs and not equal looks at each patch: say which one you compare."

    report("2.5", examine)


def check_share_needed(
    answer: Any, curve: Mapping[float, Interval], reference: Mapping[float, Interval], share: float
) -> None:
    """Exercise 3.3: the share of labels at which a reference is as good as a curve is at a share.

    Args:
        answer: what the reader has read: a share, right to within a factor of 1.5, or None for never; either, where
            the highest of the reference lies within `ON_THE_LINE` of the curve.
        curve: score by share of labels.
        reference: likewise.
        share: where the curve is read.
    """

    def examine() -> str:
        if answer is ...:
            raise Untouched
        saved = labels_saved(curve, reference, share)
        edge = (1 if saved is None else share + saved) > 1 / 1.5
        near = abs(reference[max(reference)].value - curve[share].value) < ON_THE_LINE
        if edge and near and (answer is None or (isinstance(answer, int | float) and 1 / 1.5 <= answer <= 1)):
            return "the lines come so close at the right edge that 1 and None are both fair readings."
        if answer is None or saved is None:
            never = "training from scratch never gets so high within the figure: the answer is None."
            expect(answer is saved, never if saved is None else "the line of training from scratch does get so high.")
            return "the lines do not meet in this figure; single bands decide no saving, a paired comparison may."
        right, given = share + saved, float(numbers(answer, (), "one number", "your answer is"))
        expect(0 < given <= 1, f"{given:g} is no share; read the horizontal axis, from 0 to 1.")
        expect(given >= share / 1.5, f"{given:g} lies left of {share:g}, where SimCLR was read; go to the right.")
        expect(given <= right * 1.5, f"at {given:g} training from scratch is better than that already; go to the left.")
        expect(given >= right / 1.5, f"at {given:g} training from scratch is not yet as good; go further to the right.")
        return f"from scratch needs about {right:.0%} of the labels, SimCLR {share:.0%}."

    report("3.3", examine, function=False)


def check_equal_epochs(function: Callable[..., Any]) -> None:
    """Exercise 3.5: `equal_epochs(patches, views, epochs, other_patches, other_views)`, equal numbers of images.

    Args:
        function: takes patches, images of each patch in an epoch and epochs of one method, and patches and images of
            each of another; returns the whole number of epochs, 1 or more, with about as many images.
    """

    def examine() -> str:
        submission = Submission(function)
        for patches, views, epochs, other_patches, other_views in (
            (600, 2, 20, 500, 1), (600, 2, 12, 600, 1), (400, 1, 9, 800, 2), (100, 1, 1, 900, 2)
        ):  # fmt: skip
            asked = dict(
                patches=patches, views=views, epochs=epochs, other_patches=other_patches, other_views=other_views
            )
            needed = float(numbers(submission(**asked), (), "one number"))
            images = patches * views * epochs
            right = max(1, round(images / (other_patches * other_views)))
            if needed == right:
                continue
            mistakes = {
                "the same epochs are not the same images: count patches and views.": epochs,
                "the views are upside down: fewer views need more epochs.": max(
                    1, round(patches * other_views * epochs / (other_patches * views))
                ),
                "the patches differ too: multiply by those of the first, divide by those of the second.": max(
                    1, round(views * epochs / other_views)
                ),
                "the views differ too: multiply by those of the first, divide by those of the second.": max(
                    1, round(patches * epochs / other_patches)
                ),
                "this is a number of images: divide it by the images of one epoch of the second method.": images,
            }
            for hint, value in mistakes.items():
                if needed == value:
                    raise NotYet(hint)
            expect(needed >= 1, "nothing is trained in 0 epochs: at least one.")
            expect(needed % 1 == 0, f"{needed:.2f} epochs cannot be trained: round to a whole number.")
            raise NotYet(f"the first method shows {images} images; {needed:g} epochs of the second are "
                         f"{needed * other_patches * other_views:g}, and {right} epochs would be closest.")  # fmt: skip
        return "equal epochs, equal steps, equal images and equal time are four budgets: say which one you compare at."

    report("3.5", examine)

"""Findings: sentences computed from the numbers of a result, including undecided ones."""

import textwrap
from collections.abc import Collection, Mapping

from bengelib.course.report import labels_saved
from bengelib.course.verdicts import Comparison, Comparisons
from bengelib.intervals import Interval


def finding(comparison: Comparison, subject: str, reference: str) -> str:
    """A paired difference as a sentence.

    Args:
        comparison: of the subject with the reference.
        subject: the compared model, as the beginning of a sentence: `"Early fusion"`.
        reference: the reference: `"Sentinel-2 alone"`.
    """
    gain = comparison.points
    points = f"{gain.value:+.1f} points [{gain.low:+.1f}, {gain.high:+.1f}] in {comparison.title}"
    if comparison.lacks:
        return f"{subject} against {reference}: {points}, with {comparison.lacks}, so no verdict."
    if comparison.direction > 0:
        return f"{subject} does better than {reference}: {points}."
    if comparison.direction < 0:
        return f"{subject} does worse than {reference}: {points}."
    return (
        f"{subject} and {reference} cannot be told apart: {points}; "
        f"up to {comparison.could_hide:.1f} points could hide."
    )


def census(comparisons: Collection[Comparison], reference: str, *, chance: bool = False) -> list[str]:
    """Every comparison of a family in up to four sentences: better, worse, undecided, and without a verdict.

    Args:
        comparisons: with one reference.
        reference: its name, within a sentence: `"training from scratch"`.
        chance: whether a last sentence says how many chance alone would decide.
    """
    titles = {each.title for each in comparisons}
    where = f" in {next(iter(titles))}" if len(titles) == 1 else ""
    sorts: dict[tuple[str, str], list[Comparison]] = {
        ("does better than", "do better than"): [each for each in comparisons if each.direction > 0],
        ("does worse than", "do worse than"): [each for each in comparisons if each.direction < 0],
        ("cannot be told apart from",) * 2: [each for each in comparisons if not (each.decided or each.lacks)],
        ("has no verdict against", "have no verdict against"): [each for each in comparisons if each.lacks],
    }
    sentences = []
    for (one, many), found in sorts.items():
        if found:
            parts = [
                f"{each.name}{'' if where else f' ({each.title})'} {each.points.value:+.1f} "
                f"[{each.points.low:+.1f}, {each.points.high:+.1f}]{f', {each.lacks}' * bool(each.lacks)}"
                for each in found
            ]
            hidden = "" if found[0].decided or found[0].lacks else f"; up to {_most_hidden(found):.1f} could hide"
            models = {each.name.split(",")[0] for each in found}
            of_all = f", all {next(iter(models))}" if len(models) == 1 and len(found) > 1 else ""
            verb = one if len(found) == 1 else many
            count = f"{len(found)} of {len(comparisons)}"
            sentences.append(f"{count} {verb} {reference}{where}{of_all}. In points: {'; '.join(parts)}{hidden}.")
    return [*sentences, f"{Comparisons(comparisons).tally()}."] if chance and comparisons else sentences


def _most_hidden(comparisons: Collection[Comparison]) -> float:
    return max(each.could_hide for each in comparisons)


def saving(
    curve: Mapping[float, Interval],
    reference: Mapping[float, Interval],
    share: float,
    labels: int,
    *,
    subject: str = "the pretrained network",
    against: str = "from scratch",
) -> str:
    """Number of labels that a method saves, as a sentence; see `labels_saved`.

    Args:
        curve: score by share of labels, in (0, 1].
        reference: likewise, of what needs more labels.
        share: one of the shares of the curve.
        labels: number of labels that all of them are.
        subject: the method of the curve, within a sentence.
        against: the reference, as in "as much as from scratch with 80 labels".
    """
    start = f"With {share:.0%} of the labels ({share * labels:.0f}), {subject} scores {curve[share].value:.2f}"
    saved = labels_saved(curve, reference, share)
    if saved is None:
        most = max(reference)
        return f"{start}, more than {against} with any share up to {most:.0%} ({most * labels:.0f} labels)."
    if saved <= 0:
        return f"{start}, no more than {against} with as many: it saves none here."
    return (
        f"{start}, as much as {against} with about {(share + saved) * labels:.0f} labels: "
        f"it saves about {round((share + saved) * labels) - round(share * labels)} here."
    )


def say(*sentences: str) -> None:
    """Print findings, one below the other, wrapped to the width of a page."""
    for sentence in sentences:
        print(textwrap.fill(sentence, 104, initial_indent="* ", subsequent_indent="  "))

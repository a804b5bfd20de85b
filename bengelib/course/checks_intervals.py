"""Checks of bootstrap intervals, shared by several exercises: the width that each common mistake gives."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bengelib.course.checks import NotYet, expect, numbers

DRAWS = 3000
"""Number of resamples at which the bounds of an interval scatter by a twentieth of a standard error."""

FEW = 25
"""Number of resamples so small that two seeds hardly ever give the same bounds."""


def examine_interval(
    ask: Callable[[int, int], Sequence[Any]],
    value: float,
    error: float,
    patches: int,
    unpaired: float | None = None,
) -> None:
    """Look for the common mistakes of a 95 % percentile interval.

    Args:
        ask: returns (low, high) for a seed and a number of draws.
        value: the score of the original data.
        error: its standard error.
        patches: number of patches.
        unpaired: the standard error of a difference if the patches of both models are resampled separately.

    Raises:
        NotYet: a mistake was found; the hint names it.
    """

    def ends(seed: int, draws: int = DRAWS) -> np.ndarray:
        return numbers(ask(seed, draws), (2,), "(low, high)")

    low, high = ends(0)
    _examine_ends(low, high, value, error)
    _examine_drawn(ends, (low, high), value, error, patches)
    width = (high - low) / 2 / error  # in standard errors: 1.96 is right
    if unpaired is not None:
        expect(
            abs(width * error / unpaired - 1.96) > 0.25,
            "the interval is as wide as if each model had met patches of its own. Draw the indices once in each draw "
            "and use the same ones for both models and for `truth`.",
        )
    expect(
        abs(width - 1.96 * np.sqrt(patches / DRAWS)) > 0.07,
        "the interval is that of samples as large as the number of draws. Each draw takes N patches, and there are "
        "`draws` of them: look at the shape that you draw and the axis of the mean.",
    )
    expect(
        abs(width - 1) > 0.15,
        "the interval is one standard error to either side, which holds only the middle 68 %. Take the 2.5th and the "
        "97.5th percentile of the draws.",
    )
    expect(
        not 1.5 < width <= 1.8,
        "this is the middle 90 %, from the 5th to the 95th percentile. For 95 % cut off 2.5 % at each end.",
    )
    expect(
        1.8 < width < 2.15,
        f"the interval is too {'wide' if width > 2 else 'narrow'}: half of it is {width:.2f} standard errors, where "
        f"1.96 is right.",
    )
    expect(abs((low + high) / 2 - value) < error / 2, "the interval does not lie around the score itself.")
    # Few draws: the ends of many fall on the same few multiples of 1 / N by chance, whatever the seed.
    expect(
        len({tuple(ends(7, FEW)) for _ in range(5)}) == 1,
        "the same seed gives another interval. Draw with `np.random.default_rng(seed)`, so that a result repeats.",
    )
    expect(
        len({tuple(ends(seed, FEW)) for seed in range(5)}) > 1,
        "five seeds give one and the same interval: give `seed` to `np.random.default_rng`.",
    )
    alone = ends(0, 1)
    same = np.isclose(alone[0], alone[1], rtol=0, atol=1e-9)  # one's own interpolation may round
    expect(same, "one draw should give no width: draw as often as `draws` says.")


def _examine_drawn(
    ends: Callable[..., np.ndarray], first: tuple[float, float], value: float, error: float, patches: int
) -> None:
    """Mistakes of an interval without resampling, which depends neither on the seed nor on the number of draws."""
    others = [ends(seed, FEW) for seed in range(1, 5)]
    if not all(np.allclose(each, first, rtol=0, atol=1e-9) for each in others):
        return
    counted = np.allclose(np.array(first) * patches, np.round(np.array(first) * patches), rtol=0, atol=1e-6)
    half = (first[1] - first[0]) / 2 / error
    expect(
        counted or not 0.9 < half < 3,
        f"nothing is drawn: the interval is the score plus and minus {half:.2f} standard errors, the normal formula. "
        "It holds for means of many patches only. Draw the patches again with replacement, `draws` times, and take "
        "percentiles of the scores.",
    )
    raise NotYet(
        "neither another seed nor another number of draws changes the interval: draw with "
        "`np.random.default_rng(seed)`, as often as `draws` says."
    )


def _examine_ends(low: float, high: float, value: float, error: float) -> None:
    """Mistakes that are visible in the bounds, before any width is measured."""
    expect(np.isfinite([low, high]).all(), "the ends of the interval are not finite numbers.")
    expect(low <= high, "the ends are reversed: the lower one comes first.")
    expect(
        not (low == high and np.isclose(low, value)),
        "the interval has no width: every draw holds each patch exactly once, so all draws score the same. Draw the N "
        "patches *with* replacement.",
    )
    expect(low != high, "every draw is the same: make the generator once, before the loop over the draws.")
    expect(
        not (low == 0 and high == 1),
        "these are percentiles of single patches, which are 0 or 1. Take them of the means of the draws.",
    )
    expect(high <= 1 + 1e-9, "the interval is in percent: give shares between 0 and 1.")
    expect(
        high > value - error,
        "both ends lie below the score itself. `np.percentile` takes percent, 2.5 and 97.5; `np.quantile` takes "
        "shares, 0.025 and 0.975.",
    )

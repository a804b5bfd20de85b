"""The checks of Lab 1, data fusion: one function per exercise, called with the reader's function (see `checks`)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bengelib.bands import S2_BANDS
from bengelib.course.checks import NotYet, Submission, expect, numbers, pick, report, things
from bengelib.course.checks_intervals import DRAWS, examine_interval


def check_ndvi(function: Callable[..., Any]) -> None:
    """Exercise 1.1: `ndvi(s2, bands)`, the vegetation index of a patch, its bands taken by name.

    Args:
        function: takes `s2` (k, H, W) float32 reflectance and `bands`, the k names in their order; returns (H, W), the
            normalised difference of B08 and B04, and 0 where both are 0.
    """

    def explain(said: str) -> str:
        if "tuple indices must be integers" in said or "invalid index" in said or "too many indices" in said:
            return (
                '`s2` is indexed by position. `bands.index("B08")` is the position of a band, `s2[position]` its plane.'
            )
        return ""

    def examine() -> str:
        submission = Submission(function, explain)
        s2 = torch.rand(len(S2_BANDS), 4, 6, generator=torch.Generator().manual_seed(0)) + 0.1
        s2[:, 1, 2] = 0.0
        for bands in (S2_BANDS, S2_BANDS[::-1], ("B03", "B08", "B04")):
            chosen = s2[[S2_BANDS.index(band) for band in bands]]
            _examine_ndvi(submission(s2=chosen, bands=bands), chosen, bands)
        return "bands by name, whatever their order, and 0 where there is no signal."

    report("1.1", examine)


@np.errstate(divide="ignore", invalid="ignore")
def _examine_ndvi(result: Any, s2: Tensor, bands: Sequence[str]) -> None:
    """Compare with the correct result, and with that of each common mistake."""
    values = dict(zip(bands, s2.numpy().astype(np.float64), strict=True))
    near, red = values["B08"], values["B04"]
    given = numbers(result, near.shape, "(H, W)")
    difference, total = near - red, near + red
    right, lit = difference / total, total > 0
    brackets = "brackets are missing: put them around the difference and around the sum, (B08 - B04) / (B08 + B04)."
    mistakes = {
        "the result is 0 wherever there is signal: the condition is reversed. `torch.where(condition, a, b)` takes "
        "a where the condition holds; 0 belongs where B08 + B04 is 0.": np.zeros_like(right),
        "B04 and B08 are swapped: NDVI is (B08 - B04) / (B08 + B04), positive over plants.": -right,
        f"B08 - B04 / B08 + B04 divides only B04; {brackets}": near - red / near + red,
        f"(B08 - B04) / B08 + B04 divides by B08 and then adds B04; {brackets}": difference / near + red,
        f"B08 - B04 / (B08 + B04) divides only B04; {brackets}": near - red / total,
        "this is B08 - B04. Divide by B08 + B04, so that half the light gives the same index.": difference,
        "you divide by B08 alone: divide by B08 + B04.": difference / near,
        "you divide by B04 alone: divide by B08 + B04.": difference / red,
        "this is the ratio B08 / B04: take (B08 - B04) / (B08 + B04).": near / red,
        "you divide by no less than 1, which changes every sum below 1: guard only against a sum of 0, as with "
        "`torch.where`.": difference / np.maximum(total, 1),
        "you divide by a sum over all pixels: add the two bands pixel by pixel, B08 + B04.": difference / total.sum(),
        "the fraction is upside down: the difference belongs above the sum.": total / difference,
    }
    for first in bands:
        for second in bands:
            if first != second and {first, second} != {"B08", "B04"}:
                hint = (
                    f"you took {first} and {second} for B08 and B04. The bands can come in any order (here {bands[0]} "
                    f'is first): find them with `bands.index("B08")`, not by a fixed position.'
                )
                mistakes[hint] = (values[first] - values[second]) / (values[first] + values[second])
    if not np.allclose(given[lit], right[lit], atol=1e-4):
        added = (difference / given - total)[lit]  # what the sum would have to be greater by
        if np.ptp(added) < 1e-3 < np.mean(added):
            raise NotYet(
                f"you add {np.mean(added):.3g} to the sum: so large a number changes every value. Add at most 1e-6, "
                "or ask for a sum of 0 with `torch.where`."
            )
        raise NotYet(pick(mistakes, given) or "the values are not (B08 - B04) / (B08 + B04).")
    expect(
        np.isfinite(given[~lit]).all(),
        "where both bands are 0 (no data) you divide 0 by 0, which is not a number, and one such pixel spoils the mean "
        "of a patch. Return 0 there, for example with `torch.where`.",
    )
    expect(np.allclose(given[~lit], 0, atol=1e-4), f"where both bands are 0, 0 is asked for, not {given[~lit][0]:.3g}.")


def check_bootstrap_interval(function: Callable[..., Any]) -> None:
    """Exercise 1.5: `bootstrap_interval(correct, draws, seed)`, the 95 % percentile interval of an accuracy.

    Args:
        function: takes `correct` (N,) int64 of 0 and 1, the number of draws, and a seed; returns (low, high).
    """

    def explain(message: str) -> str:
        shares = "Quantiles must be" in message
        return "`np.quantile` takes shares, 0.025 and 0.975; `np.percentile` takes percent." if shares else ""

    def examine() -> str:
        submission = Submission(function, explain)
        correct = np.random.default_rng(1).permutation(np.repeat([1, 0], [180, 120]))

        def ask(seed: int, draws: int) -> Sequence[Any]:
            return things(submission(correct=correct, draws=draws, seed=seed), 2, "(low, high)")

        examine_interval(ask, value=0.6, error=np.sqrt(0.6 * 0.4 / 300), patches=300)
        skewed = np.repeat([1, 0], [19, 1])
        low, high = numbers(submission(correct=skewed, draws=DRAWS, seed=0), (2,), "(low, high)")
        expect(
            high <= 1 + 1e-9,
            f"19 right of 20 patches give an upper end of {high:.3f}, and no accuracy is above 1. The mean plus and "
            f"minus two standard errors takes the draws for symmetric: take percentiles of them.",
        )
        expect(abs(low - 0.85) < 0.04, f"19 right of 20 patches should give a lower end of 0.85, not {low:.3f}.")
        return "patches drawn with replacement, the middle 95 % of the draws, repeatable."

    report("1.5", examine)


def check_stack(function: Callable[..., Any]) -> None:
    """Exercise 1.6: `stack(s2, s1, season)`, the input of early fusion with the season as a plane.

    Args:
        function: takes `s2` (B, 12, H, W), `s1` (B, 2, H, W) and `season` (B,); returns (B, 15, H, W).
    """

    def explain(message: str) -> str:
        if "except in dimension 1" in message:
            return "Take height and width from `s2.shape`: numbers written into the code fit one size of image only."
        if "except in dimension" in message:
            return "You join along the wrong dimension. Channels are dimension 1, after the batch: `dim=1`."
        if any(part in message for part in ("number of dimensions", "existing size", "expanded", "expand(")):
            return "`season` is (B,): make it (B, 1, 1, 1) first with `season[:, None, None, None]`, then expand it."
        return ""

    def examine() -> str:
        submission = Submission(function, explain)
        # First as many rows and columns as samples: wrong broadcasting then raises nothing and shows in the values.
        for batch, height, width in ((4, 4, 4), (2, 3, 5)):
            random = torch.Generator().manual_seed(batch)
            s2 = torch.randn(batch, 12, height, width, generator=random)
            s1 = torch.randn(batch, 2, height, width, generator=random)
            season = torch.linspace(0.2, 0.8, batch)
            _examine_stack(submission(s2=s2, s1=s1, season=season), s2.numpy(), s1.numpy(), season.numpy())
        return "S2, S1, and for each sample a plane of its own season, at any height and width."

    report("1.6", examine)


def _examine_stack(result: Any, s2: np.ndarray, s1: np.ndarray, season: np.ndarray) -> None:
    """Compare the shape, the order of the channels, and the planes."""
    batch, _, height, width = s2.shape
    if isinstance(result, Tensor) and result.ndim == 4:
        expect(result.shape[1] != 14, "there are 14 channels: the season plane is missing.")
        expect(
            tuple(result.shape[2:]) == (height, width),
            f"images of ({height}, {width}) come out as {tuple(result.shape[2:])}: take height and width from "
            f"`s2.shape`.",
        )
    given = numbers(result, (batch, 15, height, width), "(B, 15, H, W)")
    planes = np.broadcast_to(season[:, None, None, None], (batch, 1, height, width))
    parts = {"S2": s2, "S1": s1, "season": planes}
    orders = (("S1", "S2", "season"), ("season", "S2", "S1"), ("season", "S1", "S2"), ("S2", "season", "S1"))
    found = pick({", ".join(order): np.concatenate([parts[part] for part in order], 1) for order in orders}, given)
    expect(found is None, f"the order of the channels is {found}; asked for is S2, S1, season.")
    expect(
        np.allclose(given[:, :14], np.concatenate([s2, s1], axis=1), atol=1e-5),
        "channels 0 to 13 are not those of S2 and then S1 as they were given: neither reorder nor rescale them.",
    )
    plane = given[:, 14]
    expect(
        np.ptp(plane, axis=(1, 2)).max() < 1e-5,
        "the season varies within a patch: its samples were laid along rows or columns. Make it (B, 1, 1, 1) first "
        "with `season[:, None, None, None]`, then expand it.",
    )
    expect(
        not np.allclose(plane, plane[0]),
        "every sample has the same season plane: the plane of sample b holds `season[b]`, its own.",
    )
    expect(np.allclose(plane[:, 0, 0], season, atol=1e-5), "the planes do not hold the values of `season`.")


def check_hide_modalities(function: Callable[..., Any]) -> None:
    """Exercise 1.7: `hide_modalities(values, probability, generator)`, modality dropout.

    Args:
        function: takes `values`, a dict of M normalised tensors (B, k, H, W), the probability, and a `torch.Generator`;
            returns a new dict, with zeros where a modality is hidden, and `available` (B, M) bool.
    """

    def examine() -> str:
        submission = Submission(function)
        random = torch.Generator().manual_seed(0)
        values = {key: torch.rand(600, k, 2, 3, generator=random) + 1 for key, k in (("s2", 3), ("s1", 2), ("dem", 1))}

        def ask(probability: float, generator: torch.Generator) -> tuple[dict[str, np.ndarray], np.ndarray]:
            result = submission(values=values, probability=probability, generator=generator)
            return _read_hidden(result, values)

        hidden, available = ask(0.5, torch.Generator().manual_seed(1))
        _examine_hidden({key: value.numpy() for key, value in values.items()}, hidden, available)
        seldom = ask(0.1, torch.Generator().manual_seed(2))[1]
        lost = np.bincount((~seldom).sum(axis=1), minlength=3)
        expect(
            lost[2] <= lost[1],
            f"with probability 0.1, {lost[1]} samples lose one modality and {lost[2]} lose two: the comparison is "
            "reversed. `probability` is that of hiding, so keep where `drawn >= probability`.",
        )
        _examine_shares({key: column for key, column in zip(values, ~available.T, strict=True)})
        going_on = torch.Generator().manual_seed(1)
        expect(
            np.array_equal(available, ask(0.5, going_on)[1]),
            "a generator in the same state hides something else: draw with `generator=generator`, so that a run "
            "repeats.",
        )
        expect(
            not np.array_equal(available, ask(0.5, going_on)[1]),
            "a second call hides the same again: do not seed inside, draw on from the generator as it comes.",
        )
        share = 1 - seldom.mean()
        expect(0.06 < share < 0.14, f"with probability 0.1 a share of {share:.2f} is hidden: use `probability`.")
        nothing = ask(0.0, torch.Generator().manual_seed(3))[1]
        expect(nothing.all(), "with probability 0 something is hidden.")
        return "each sample loses modalities of its own and keeps one at least; kept values are as they were."

    report("1.7", examine)


def _read_hidden(result: Any, values: dict[str, Tensor]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The two returned values as arrays, if they have the required types and shapes."""
    hidden, available = things(result, 2, "(values, available)")
    expect(
        isinstance(hidden, dict) and list(hidden) == list(values),
        "the first thing returned must be a dict with the keys of `values` in their order. A hidden modality stays, "
        "as zeros, so that the network always gets the same inputs.",
    )
    expect(
        isinstance(available, Tensor) and available.dtype == torch.bool,
        "`available` must be a bool tensor (B, M): True where that modality of that sample was kept.",
    )
    samples = len(next(iter(values.values())))
    mask = numbers(available, (samples, len(values)), "(B, M)") > 0
    return {key: numbers(hidden[key], tuple(values[key].shape), "(B, k, H, W)") for key in values}, mask


def _examine_hidden(values: dict[str, np.ndarray], hidden: dict[str, np.ndarray], available: np.ndarray) -> None:
    """Compare zeros with `available`, other values with `values`, and frequencies with the probability."""
    expect(all(np.isfinite(value).all() for value in hidden.values()), "hidden values must be 0, the mean, not NaN.")
    zero = np.stack([(value == 0).all(axis=(1, 2, 3)) for value in hidden.values()], axis=1)  # (B, M)
    some = np.stack([(value == 0).any(axis=(1, 2, 3)) for value in hidden.values()], axis=1)  # (B, M)
    expect(
        not (some & ~zero).any(),
        "single values or channels are 0 in a modality that is otherwise there: draw one number for each sample and "
        "modality, (B, M), and hide the modality as a whole.",
    )
    expect(zero.any(), "with probability 0.5, no modality of 600 samples is hidden: hidden values are 0, the mean.")
    expect(
        len(np.unique(zero, axis=0)) > 1,
        "the whole batch loses the same modalities at once: draw for every sample, `torch.rand(B, M, ...)`.",
    )
    empty = int(zero.all(axis=1).sum())
    expect(
        empty == 0,
        f"{empty} of 600 samples lost every modality, and zeros teach nothing: let such a sample keep one.",
    )
    expect(not np.array_equal(available, zero), "`available` is reversed: True where kept, False where hidden.")
    expect(
        np.array_equal(available, ~zero),
        "`available` does not say what is hidden: column m is the m-th key of `values`, True where it was kept.",
    )
    for column, (key, original) in enumerate(values.items()):
        kept = available[:, column]
        expect(
            not np.allclose(hidden[key][kept], original[kept] * 2, rtol=1e-4),
            "kept modalities are divided by 1 - probability. Dropout does so with single features; a whole sensor "
            "twice as bright is nothing that a test will show. Leave kept values as they are.",
        )
        expect(np.allclose(hidden[key][kept], original[kept]), f"kept values of {key!r} are changed: leave them.")
    expect(
        not (zero.sum(axis=1) == 1).all(),
        "every sample loses exactly one modality: draw for each modality on its own, so that none or two can be lost.",
    )


def _examine_shares(hidden: Mapping[str, np.ndarray]) -> None:
    """Check that all modalities, given as masks of hidden samples (B,), are hidden equally often."""
    shares = {key: float(column.mean()) for key, column in hidden.items()}
    expect(
        all(0.25 < share < 0.6 for share in shares.values()),
        "with probability 0.5 the shares hidden are "
        + ", ".join(f"{key} {share:.2f}" for key, share in shares.items())
        + ": draw every modality with the same probability.",
    )


def check_paired_difference(function: Callable[..., Any]) -> None:
    """Exercise 1.2: `paired_difference(first, second, truth, draws, seed)`, two models on the same patches.

    Args:
        function: takes predicted classes `first` and `second` and the `truth`, each (N,) int64, the number of draws and
            a seed; returns (difference, low, high) of the accuracy of first minus that of second.
    """

    def examine() -> str:
        submission = Submission(function)
        truth = np.random.default_rng(2).integers(0, 5, 400)
        # 220 patches that both models get right, 30 only the second, 10 only the first, 140 both wrong in one way.
        case = np.random.default_rng(3).permutation(np.repeat([0, 1, 2, 3], [220, 30, 10, 140]))
        first = np.where((case == 0) | (case == 2), truth, (truth + 1) % 5)
        second = np.where((case == 0) | (case == 1), truth, (truth + 1) % 5)

        def ask(seed: int, draws: int, one: np.ndarray = first, other: np.ndarray = second) -> Sequence[Any]:
            result = submission(first=one, second=other, truth=truth, draws=draws, seed=seed)
            return things(result, 3, "(difference, low, high)")

        difference = numbers(ask(0, DRAWS)[0], (), "one number for the difference")
        candidates: dict[str, np.ndarray | float] = {
            "the sign is reversed: take the accuracy of `first` minus that of `second`.": 0.05,
            "this is how often the models agree with each other: compare each with `truth`, then subtract.": 0.9,
            "this is how often the models disagree: compare each with `truth`, then subtract.": 0.1,
            "this is the accuracy of `first` alone: subtract that of `second`.": 0.575,
            "this is a number of patches: divide it by their number, N.": -20.0,
            "the difference is in percent: give a share.": -5.0,
        }
        if not abs(difference + 0.05) < 0.004:
            raise NotYet(
                pick(candidates, difference, 0.002)
                or f"the difference is {difference:.3f}; with accuracies of 0.575 and 0.625 it is -0.050."
            )
        opposite = numbers(ask(0, DRAWS, second, first)[0], (), "one number for the difference")
        expect(opposite > 0, "the difference is negative whichever model comes first: its sign must follow the order.")
        examine_interval(
            lambda seed, draws: ask(seed, draws)[1:],
            value=-0.05,
            error=np.sqrt((0.1 - 0.05**2) / 400),
            patches=400,
            unpaired=np.sqrt((0.575 * 0.425 + 0.625 * 0.375) / 400),
        )
        return "both models meet the same patches in every draw, so what is hard for both cancels."

    report("1.2", examine)

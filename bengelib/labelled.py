"""Which samples are labelled: nested, stratified fractions of a training set, drawn without replacement."""

import warnings
from collections.abc import Sequence

import numpy as np

from bengelib.errors import SplitError

FRACTIONS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


def label_subsets(
    labels: np.ndarray, fractions: Sequence[float] = FRACTIONS, seed: int = 0, *, strict: bool = False
) -> dict[float, np.ndarray]:
    """Indices of the labelled samples for each fraction, from the first at which every class has a label.

    A smaller fraction is part of every larger one, each class keeps its share to within one sample, and no sample is
    drawn twice. With several labels a sample counts to the rarest of its classes. Another seed is another draw.

    Args:
        labels: (N,) class indices, or (N, K) of 0 and 1.
        fractions: of the N samples, each in (0, 1].
        seed: of the draw.
        strict: whether a fraction at which a class has no label is an error; otherwise it is left out with a warning.

    Returns:
        Fraction to indices, ascending in both.

    Raises:
        SplitError: a fraction leaves a class without a label, with `strict` or at every fraction asked for.
        ValueError: a fraction outside (0, 1], or none, or no labels.
    """
    labels = np.asarray(labels)
    if not len(labels) or not len(fractions):
        raise ValueError(f"{len(labels)} labels and {len(fractions)} fractions; expected one or more of each")
    if wrong := [fraction for fraction in fractions if not 0 < fraction <= 1]:
        raise ValueError(f"fractions {wrong} are not above 0 and at most 1; 0.01 is one label in a hundred")
    order = _stratified_order(labels, seed)
    subsets: dict[float, np.ndarray] = {}
    too_small: dict[float, list[int]] = {}
    for fraction in sorted(set(fractions)):
        chosen = np.sort(order[: max(1, round(fraction * len(labels)))])
        if absent := _absent(labels, chosen):
            too_small[fraction] = absent
        else:
            subsets[fraction] = chosen
    if too_small:
        fraction, absent = next(iter(too_small.items()))
        what = (
            f"at a fraction of {fraction:g} ({max(1, round(fraction * len(labels)))} of {len(labels)} samples) "
            f"{len(absent)} classes have no label, the first being class {absent[0]}"
        )
        if strict or not subsets:
            raise SplitError(f"{what}; ask for a larger fraction, or add samples of the rare classes")
        warnings.warn(f"{what}; the curve begins at {next(iter(subsets)):g}", stacklevel=2)
    return subsets


def _stratified_order(labels: np.ndarray, seed: int) -> np.ndarray:
    """All samples in an order, (N,), of which every beginning has each class in its share, to within one sample."""
    random = np.random.default_rng(seed)
    stratum = labels if labels.ndim == 1 else _rarest(labels)
    rank = np.empty(len(labels))
    for value in np.unique(stratum):
        members = random.permutation(np.flatnonzero(stratum == value))
        rank[members] = (np.arange(len(members)) + 0.5) / len(members)
    jitter = random.permutation(len(labels))  # samples of equal rank, as of two classes of one size, in random order
    return np.lexsort((jitter, rank))


def _rarest(labels: np.ndarray) -> np.ndarray:
    """The rarest class of each sample, (N,), of several labels (N, K); -1 for a sample without a label."""
    counts = labels.sum(axis=0)
    rarity = np.where(labels > 0, counts, np.inf)
    return np.where(labels.any(axis=1), rarity.argmin(axis=1), -1)


def _absent(labels: np.ndarray, chosen: np.ndarray) -> list[int]:
    """Classes that occur among the labels, but not among the chosen ones."""
    if labels.ndim == 1:
        return sorted(int(label) for label in set(labels.tolist()) - set(labels[chosen].tolist()))
    return np.flatnonzero(labels.any(axis=0) & ~labels[chosen].any(axis=0)).tolist()

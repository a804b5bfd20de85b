"""Labelled subsets: nested, stratified fractions of a training set, drawn without replacement."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from bengelib.arguments import check_share, whole_number
from bengelib.errors import ArgumentError, SplitError

FRACTIONS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


def label_subsets(
    labels: np.ndarray,
    fractions: Sequence[float] = FRACTIONS,
    seed: int = 0,
    *,
    strict: bool = False,
    contents: np.ndarray | None = None,
) -> dict[float, np.ndarray]:
    """Indices of the labelled samples for each fraction, from the first at which every class has a label.

    A smaller fraction is part of every larger one, each class keeps its proportion to within one sample, and no sample
    is drawn twice. A sample with several labels counts for the rarest of its classes. Seeds give independent draws.

    Args:
        labels: (N,) class indices, or (N, K) of 0 and 1.
        fractions: of the N samples, each in (0, 1].
        seed: of the draw.
        contents: (N,) equal for copies, as `ImageFolder.contents`: copies are labelled together or not at all.
        strict: whether a fraction without a label of some class is an error; otherwise it is left out with a warning.

    Returns:
        Indices by fraction, both ascending.

    Raises:
        SplitError: a fraction leaves a class without a label, with `strict` or for all fractions.
        ArgumentError: a value that is not a fraction, such as per cent.
        ValueError: no fraction, or no labels.
    """
    labels = np.asarray(labels)
    if np.ndim(fractions) == 0:
        raise ArgumentError(f"fractions={fractions!r}; expected several, such as [{fractions!r}]")
    if not len(labels) or not len(fractions):
        raise ValueError(f"{len(labels)} labels and {len(fractions)} fractions; expected one or more of each")
    for fraction in fractions:
        check_share("fractions", fraction)
    seed = whole_number("seed", seed, 0)
    order, ends = _stratified_order(labels, seed), np.arange(1, len(labels) + 1)
    if contents is not None:
        order, ends = _copies_together(order, np.asarray(contents))
    subsets: dict[float, np.ndarray] = {}
    too_small: dict[float, list[int]] = {}
    for fraction in sorted(set(fractions)):
        count = max(1, round(fraction * len(labels)))
        whole = ends[max(0, int(np.searchsorted(ends, count, side="right")) - 1)]  # complete groups of copies only
        chosen = np.sort(order[:whole])
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
    """All samples in an order, (N,), whose every prefix is stratified to within one sample per class."""
    random = np.random.default_rng(seed)
    stratum = labels if labels.ndim == 1 else _rarest(labels)
    rank = np.empty(len(labels))
    for value in np.unique(stratum):
        members = random.permutation(np.flatnonzero(stratum == value))
        rank[members] = (np.arange(len(members)) + 0.5) / len(members)
    jitter = random.permutation(len(labels))  # breaks ties, as between two classes of equal size
    return np.lexsort((jitter, rank))


def _copies_together(order: np.ndarray, contents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The order with all copies of a sample next to the first of them, and the indices at which groups end."""
    first: dict[Any, int] = {}
    ranks = np.array([first.setdefault(content, rank) for rank, content in enumerate(contents[order].tolist())])
    together = np.argsort(ranks, kind="stable")
    return order[together], np.flatnonzero(np.diff(ranks[together], append=-1)) + 1


def _rarest(labels: np.ndarray) -> np.ndarray:
    """The rarest class of each sample, (N,), from several labels (N, K); -1 for a sample without labels."""
    counts = labels.sum(axis=0)
    rarity = np.where(labels > 0, counts, np.inf)
    return np.where(labels.any(axis=1), rarity.argmin(axis=1), -1)


def _absent(labels: np.ndarray, chosen: np.ndarray) -> list[int]:
    """Classes among the labels that no chosen sample has."""
    if labels.ndim == 1:
        return sorted(int(label) for label in set(labels.tolist()) - set(labels[chosen].tolist()))
    return np.flatnonzero(labels.any(axis=0) & ~labels[chosen].any(axis=0)).tolist()

"""Arguments that can be taken for something else: masks for indices, floats for whole numbers, per cent for shares."""

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from bengelib.errors import ArgumentError


def as_indices(indices: Any, size: int) -> np.ndarray:
    """Places in a dataset of `size` samples, (B,) int64.

    Raises:
        ArgumentError: a boolean mask, numbers that are not whole, more than one dimension, or negative numbers, which
            would count from the end.
        IndexError: a place beyond the end.
    """
    places = np.asarray(indices)
    if places.dtype == bool or (isinstance(indices, (list, tuple)) and any(isinstance(i, bool) for i in indices)):
        raise ArgumentError(f"a mask of {places.size} booleans where indices are expected; give np.flatnonzero(mask)")
    if places.ndim != 1:
        raise ArgumentError(f"indices of shape {places.shape}; expected a list or an array of one dimension")
    if not places.size:
        return np.empty(0, dtype=np.int64)
    if places.dtype.kind not in "iu":
        raise ArgumentError(f"indices of type {places.dtype}, the first being {indices[0]!r}; expected whole numbers")
    places = places.astype(np.int64, copy=False)
    if (low := int(places.min())) < 0:
        raise ArgumentError(f"index {low} is negative; expected places from 0 to {size - 1}")
    if (high := int(places.max())) >= size:
        raise IndexError(f"index {high} of {size} samples; expected places from 0 to {size - 1}")
    return places


def as_index(index: Any, size: int) -> int:
    """The place of one of `size` samples; a negative index counts from the end, as in a list.

    Raises:
        ArgumentError: a boolean, a mask, a slice, or a number that is not whole.
        IndexError: there is no such sample.
    """
    place = _whole(index)
    if place is None:
        raise ArgumentError(f"index {index!r} of type {type(index).__name__}; expected one whole number")
    if not -size <= place < size:
        raise IndexError(f"sample {place} of {size}")
    return place % size


def whole_number(name: str, value: Any, least: int = 1) -> int:
    """A whole number of at least `least`.

    Raises:
        ArgumentError: naming the argument, its value and what was expected.
    """
    number = _whole(value)
    if number is None or number < least:
        raise ArgumentError(f"{name}={value!r}; expected a whole number, {least} or more")
    return number


def check_share(name: str, value: Any, *, zero: bool = False) -> None:
    """Refuse what is no share of a whole, such as per cent.

    Raises:
        ArgumentError: `value` is not a number in (0, 1], or [0, 1] with `zero`.
    """
    is_number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if not is_number or not (0 <= value <= 1 if zero else 0 < value <= 1):
        percent = f"; write {value / 100:g} for {value:g} per cent" if is_number and 1 < value <= 100 else ""
        raise ArgumentError(f"{name}={value!r}; expected a share, from {'0' if zero else 'above 0'} to 1{percent}")


def as_names(what: str, given: Sequence[str]) -> tuple[str, ...]:
    """Names as a tuple.

    Raises:
        ArgumentError: a bare string, whose letters would be taken for names.
    """
    if isinstance(given, str):
        raise ArgumentError(f"{what} are a sequence of names; write ({given!r},) instead of {given!r}")
    return tuple(given)


def _whole(value: Any) -> int | None:
    """The value if it is a whole number by its type, which a boolean is not; None otherwise."""
    if isinstance(value, bool) or str(getattr(value, "dtype", "")) in ("bool", "torch.bool"):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None

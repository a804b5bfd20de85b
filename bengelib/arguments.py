"""Checks of arguments that are easily confused: masks and indices, floats and whole numbers, per cent and fractions."""

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from bengelib.errors import ArgumentError, BandError


def as_indices(indices: Any, size: int) -> np.ndarray:
    """Indices into a dataset of `size` samples, (B,) int64.

    Raises:
        ArgumentError: a mask of booleans or of 0 and 1, numbers that are not whole, more than one dimension, or
            negative numbers, which would count from the end.
        IndexError: an index beyond the end.
    """
    array = np.asarray(indices)
    if array.dtype == bool or (isinstance(indices, (list, tuple)) and any(isinstance(i, bool) for i in indices)):
        raise ArgumentError(f"a mask of {array.size} booleans where indices are expected; give np.flatnonzero(mask)")
    if array.ndim != 1:
        raise ArgumentError(f"indices of shape {array.shape}; expected a list or an array of one dimension")
    if not array.size:
        return np.empty(0, dtype=np.int64)
    if array.dtype.kind not in "iu":
        raise ArgumentError(f"indices of type {array.dtype}, the first being {indices[0]!r}; expected whole numbers")
    array = array.astype(np.int64, copy=False)
    if (low := int(array.min())) < 0:
        raise ArgumentError(f"index {low} is negative; expected indices from 0 to {size - 1}")
    if (high := int(array.max())) >= size:
        raise IndexError(f"index {high} of {size} samples; expected indices from 0 to {size - 1}")
    if len(array) == size > 2 and high <= 1:
        raise ArgumentError(
            f"{size} numbers, one for each sample, and all of them 0 or 1: a mask? Give np.flatnonzero(mask) for the "
            "samples that it marks; if samples 0 and 1 are meant repeatedly, give the indices in two parts"
        )
    return array


def as_index(index: Any, size: int) -> int:
    """The index of one of `size` samples; a negative index counts from the end, as in a list.

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


def whole_number(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """A whole number from `least` to `most`, both included.

    Raises:
        ArgumentError: naming the argument, its value and what was expected.
    """
    number = _whole(value)
    if number is None or number < least or (most is not None and number > most):
        limits = f"{least} or more" if most is None else f"from {least} to {most}"
        raise ArgumentError(f"{name}={value!r}; expected a whole number, {limits}")
    return number


def real_number(
    name: str,
    value: Any,
    *,
    least: float = -math.inf,
    above: float = -math.inf,
    most: float = math.inf,
    below: float = math.inf,
) -> float:
    """A finite number within limits: `least` and `most` are inclusive, `above` and `below` exclusive.

    Raises:
        ArgumentError: naming the argument, its value and what was expected; also for booleans, text, NaN and infinity.
    """
    number = _real(value)
    if number is None or not (least <= number <= most and above < number < below and abs(number) < math.inf):
        limits = {"of at least": least, "above": above, "of at most": most, "below": below}
        words = " and ".join(f"{word} {limit:g}" for word, limit in limits.items() if abs(limit) < math.inf)
        raise ArgumentError(f"{name}={value!r}; expected a {'' if words else 'finite '}number{words and ' '}{words}")
    return number


def check_share(name: str, value: Any, *, zero: bool = False, one: bool = True) -> None:
    """Refuse values that are not fractions of 1, such as per cent.

    Raises:
        ArgumentError: `value` is not a number in (0, 1]; `zero` admits 0, and `one=False` excludes 1.
    """
    number = _real(value)
    if number is None or not (0 <= number <= 1) or (number == 0 and not zero) or (number == 1 and not one):
        is_percent = number is not None and (1 < number <= 100 if one else 1 <= number < 100)
        percent = f"; write {number / 100:g} for {number:g} per cent" if number is not None and is_percent else ""
        limits = f"from {'0' if zero else 'above 0'} to {'1' if one else 'below 1'}"
        raise ArgumentError(f"{name}={value!r}; expected a share, {limits}{percent}")


def as_names(what: str, given: Sequence[str]) -> tuple[str, ...]:
    """Names as a tuple.

    Raises:
        ArgumentError: a single string, whose letters would be taken for names.
    """
    if isinstance(given, str):
        raise ArgumentError(f"{what} are a sequence of names; write ({given!r},) instead of {given!r}")
    return tuple(given)


def check_names(given: Sequence[str], known: Sequence[str], what: str, *, empty: bool = True) -> tuple[str, ...]:
    """`given` as a tuple, if every name is in `known` and given once; `empty` allows no name at all.

    Raises:
        BandError: a name that is unknown or repeated, a single string, or no name where one is required.
    """
    if isinstance(given, str):
        raise BandError(f"{what} must be a sequence of names; write ({given!r},) instead of {given!r}")
    if not empty and len(given) == 0:
        raise BandError(f"{what} is empty; name some of {list(known)}")
    unknown = [name for name in given if name not in known]
    if unknown:
        raise BandError(f"unknown {what} {unknown}; choose from {list(known)}")
    if len(set(given)) != len(given):
        raise BandError(f"{what} names something twice: {list(given)}")
    return tuple(given)


def _whole(value: Any) -> int | None:
    """The value if its type is that of a whole number (not of a boolean); None otherwise."""
    if _is_boolean(value):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def _real(value: Any) -> float | None:
    """The value if its type is that of a single number (not of booleans or text); None otherwise."""
    if _is_boolean(value) or isinstance(value, (str, bytes, complex)) or np.ndim(value):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _is_boolean(value: Any) -> bool:
    return isinstance(value, bool) or str(getattr(value, "dtype", "")) in ("bool", "torch.bool")

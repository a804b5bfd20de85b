"""Checks of the exercises in the labs: every check prints one line of text, never a traceback.

There are three kinds of lines::

    [ok] Exercise 1.1: ...       correct for all inputs tried
    [todo] Exercise 1.1: ...     not implemented yet
    [not yet] Exercise 1.1: ...  a hint that names the mistake

A lab has a module of checks (`checks_fusion` for Lab 1), each a function that takes the reader's function, calls it
through a `Submission` on inputs that reveal common mistakes, and passes its findings to `report`. A check restores the
random states of the notebook. If the environment variable BENGELIB_STRICT is 1, everything but `[ok]` raises
`ExerciseError`, which is used to test the solutions.
"""

import copy
import dis
import inspect
import linecache
import os
import random
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bengelib.errors import ExerciseError

STRICT = "BENGELIB_STRICT"
"""Name of the environment variable that makes checks raise."""

_LINE = 110  # characters; hosted notebooks do not wrap printed text
_LONGEST_MESSAGE = 240


_DOES_NOTHING = {"RESUME", "NOP", "NOT_TAKEN", "COPY_FREE_VARS", "LOAD_CONST", "LOAD_SMALL_INT", "POP_TOP",
                 "RETURN_VALUE", "RETURN_CONST"}  # fmt: skip
"""Instructions of a body that is only a docstring, `...`, `pass` or `return None`."""

_COMMON_MISTAKES = {
    "Can't call numpy() on Tensor that requires grad": (
        "NumPy knows no gradients: use the function of torch, such as `torch.exp` in place of `np.exp`, on the tensor "
        "as it is. Detached, as the message advises, it would no longer be learned."
    ),
    "Boolean value of Tensor with more than one value": (
        "`if` asks about one value, and here are many: choose for each of them with `torch.where`."
    ),
    "The truth value of an array with more than one element": (
        "`if` asks about one value, and here are many: choose for each of them with `np.where`."
    ),
}
"""Parts of error messages common to all exercises, and the hint for each."""


class Untouched(Exception):
    """The exercise has not been begun: the submitted function returned nothing, or an answer is still `...`."""


class NotYet(Exception):
    """A mistake; the message is the hint that the reader sees."""


class Submission:
    """A reader's function, called so that every outcome becomes `Untouched`, `NotYet` or a result."""

    def __init__(self, function: Any, explain: Callable[[str], str] | None = None) -> None:
        """Store the function.

        Args:
            function: the argument of the check.
            explain: returns a hint for the message of an exception of the function; empty if it has none.

        Raises:
            NotYet: it is not a function.
        """
        if function is None or function is Ellipsis or not callable(function):
            raise NotYet(
                f"the check was given {_describe(function)}, not a function. Give it the function itself, without "
                f"calling it: its name and no brackets after it."
            )
        self.function = function
        self.explain = explain

    def __call__(self, **arguments: Any) -> Any:
        """Call the function by position, in the order of `arguments`, which it must not change.

        It gets copies, except for tensors computed from others, since a copy would not be part of the graph.

        Raises:
            Untouched: the function does nothing.
            NotYet: it does something but returns nothing, raised an exception, or changed an argument in place.
        """
        data = {name: value for name, value in arguments.items() if _can_copy(value)}
        given = arguments | copy.deepcopy(data)
        try:
            result = self.function(*given.values())
        except KeyboardInterrupt:
            raise
        except NotImplementedError as error:
            raise Untouched from error
        except BaseException as error:  # also SystemExit: the notebook must go on
            raise NotYet(self._failure(error, arguments)) from error
        if result is None or result is Ellipsis:
            if self._does_nothing():
                raise Untouched
            raise NotYet(
                f"your function has a body, but returns {'`None`' if result is None else '`...`'}: end it with "
                "`return` and the result that is asked for. `print` shows a value and does not return it."
            )
        for name, value in data.items():
            expect(
                _same(value, given[name]),
                f"your function changes its argument `{name}` in place, so the caller's data are changed too. "
                f"Compute new values instead of assigning into `{name}`.",
            )
        return result

    def _failure(self, error: BaseException, arguments: Mapping[str, Any]) -> str:
        """Message about an exception: type, message, line, arguments, and a hint."""
        text = f"your function raised {type(error).__name__}: {_message(error)}"
        if line := self._line(error):
            text += f", in `{line}`"
        text += "."
        hint = self.explain(_message(error)) if self.explain else ""
        hint = hint or next((hint for part, hint in _COMMON_MISTAKES.items() if part in _message(error)), "")
        if not hint:
            called = ", ".join(f"{name}: {_describe(value)}" for name, value in arguments.items())
            hint = f"Call it yourself on such inputs, a line at a time, to see where ({called})."
        return f"{text} {hint}"

    def _does_nothing(self) -> bool:
        """True if the body is still that of the stub."""
        code = getattr(self.function, "__code__", None)
        return code is not None and {each.opname for each in dis.get_instructions(code)} <= _DOES_NOTHING

    def _line(self, error: BaseException) -> str:
        """The line of the reader's function that raised the error, or an empty string."""
        code = getattr(self.function, "__code__", None)
        found, trace = "", error.__traceback__
        while code is not None and trace is not None:
            if trace.tb_frame.f_code is code:
                found = linecache.getline(code.co_filename, trace.tb_lineno).strip()
            trace = trace.tb_next
        return found


def report(exercise: str, examine: Callable[[], str], *, function: bool = True) -> None:
    """Run the check of one exercise and print its result.

    Args:
        exercise: its number, such as "1.1".
        examine: returns a summary of what is correct; raises `NotYet` with a hint, or `Untouched`.
        function: whether the reader writes a function; otherwise it is a value, such as one read from a figure.

    Raises:
        ExerciseError: the result is not [ok], and BENGELIB_STRICT is 1.
    """
    cause: Exception | None = None
    try:
        with _random_numbers_kept():
            mark, text = "ok", examine()
    except Untouched as error:
        text = "the function returns nothing yet. Write its body, and end it with `return`."
        mark, text, cause = "todo", text if function else "no answer yet. Replace `...` by yours.", error
    except NotYet as error:
        mark, text, cause = "not yet", str(error), error
    except Exception as error:  # a result so odd that the check cannot read it
        what = "what your function returned" if function else "your answer"
        text = f"the check cannot read {what} ({type(error).__name__}: {_message(error)}). "
        mark, text, cause = "not yet", text + "Compare its type and shape with the outputs that are asked for.", error
    line = f"[{mark}] Exercise {exercise}: {text}"
    if cause is not None and os.environ.get(STRICT) == "1":
        raise ExerciseError(f"{line} (It raises because {STRICT} is 1.)") from cause
    print(textwrap.fill(line, _LINE, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False))


def expect(condition: Any, hint: str) -> None:
    """Continue if `condition` is true.

    Raises:
        NotYet: it is false; the message is `hint`.
    """
    if not bool(condition):
        raise NotYet(hint)


def numbers(result: Any, shape: tuple[int, ...], meaning: str, what: str = "your function returns") -> np.ndarray:
    """The result of the function, as an array of `shape` in float64.

    Args:
        result: a tensor, an array, or nested lists of numbers.
        shape: the required shape.
        meaning: of the shape, for the hint, such as "(H, W)".
        what: beginning of the hint.

    Raises:
        NotYet: the result does not hold numbers, or has another shape.
    """
    try:
        array = result.detach().cpu().numpy() if isinstance(result, Tensor) else np.asarray(result)
        array = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise NotYet(f"{what} {_describe(result)}; expected are numbers of shape {meaning}.") from error
    expect(
        array.shape == shape,
        f"{what} shape {array.shape}, where {meaning} = {shape} is asked for.",
    )
    return array


def things(result: Any, count: int, meaning: str) -> Sequence[Any]:
    """The result of the function, as a sequence of `count` values.

    Raises:
        NotYet: it is a single value, or another number of them.
    """
    several = isinstance(result, tuple | list) or (isinstance(result, Tensor | np.ndarray) and result.ndim > 0)
    found = list(result) if several else []
    returned = f"{len(found)}" if isinstance(result, tuple | list) else _describe(result)
    expect(len(found) == count, f"your function must return {count} things, {meaning}; it returned {returned}.")
    return found


def pick(candidates: Mapping[str, np.ndarray | float], result: np.ndarray, tolerance: float = 1e-4) -> str | None:
    """The name of the first candidate (a mistake and its result) that equals `result` where both are finite."""
    for name, candidate in candidates.items():
        values = np.broadcast_to(candidate, result.shape)
        both = np.isfinite(values) & np.isfinite(result)
        if both.any() and np.allclose(values[both], result[both], rtol=tolerance, atol=tolerance):
            return name
    return None


@contextmanager
def _random_numbers_kept() -> Iterator[None]:
    """Restore the global random states of Python, NumPy and torch."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def _can_copy(value: Any) -> bool:
    """True if an argument is data without tensors that are part of a graph."""
    if isinstance(value, Mapping):
        return not any(isinstance(entry, Tensor) and entry.grad_fn is not None for entry in value.values())
    return isinstance(value, np.ndarray) or (isinstance(value, Tensor) and value.grad_fn is None)


def _same(before: Any, after: Any) -> bool:
    """True if two arguments hold the same values."""
    if isinstance(before, Mapping):
        return list(before) == list(after) and all(_same(before[key], after[key]) for key in before)
    if isinstance(before, Tensor):
        return before.shape == after.shape and torch.equal(before, after)
    return np.array_equal(before, after)


def _describe(value: Any) -> str:
    """A short description of a value: the shape of a tensor, else its type or itself."""
    if isinstance(value, Tensor | np.ndarray):
        return f"{'tensor' if isinstance(value, Tensor) else 'array'} of shape {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {_describe(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, int | float | str | None) or value is Ellipsis:
        return repr(value)
    if isinstance(value, tuple | list) and len(value) <= 4 and all(isinstance(entry, str) for entry in value):
        return repr(value)
    return f"a {type(value).__name__}" if not inspect.isclass(value) else f"the class {value.__name__}"


def _message(error: BaseException) -> str:
    """The message of an exception in one line of bounded length."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # a reader's own exception class may fail here too
        return "(no message)"
    return text if len(text) <= _LONGEST_MESSAGE else text[: _LONGEST_MESSAGE - 3] + "..."

"""What the tests of all checks of exercises share: awkward answers, and what a check has to say to each kind."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from bengelib.course import checks
from bengelib.errors import ExerciseError

Check = Callable[[Any], None]


class Cruel:
    """A result, and an error, that fail whenever they are looked at."""

    def __getattr__(self, name):
        raise RuntimeError("no")

    def __iter__(self):
        raise RuntimeError("no")

    def __array__(self, *_, **__):
        raise RuntimeError("no")

    def __eq__(self, other):
        raise RuntimeError("no")


class CruelError(Exception):
    def __str__(self):
        raise RuntimeError("no")


def raises(error):
    """A function that raises `error`, whatever it is given."""

    def function(*_):
        raise error

    return function


STUBS = (lambda *_: ..., lambda *_: None, raises(NotImplementedError()))
ODD = (Cruel(), [], {}, "text", ["a", "b"], torch.empty(0), torch.ones(2), np.array([object(), None]), lambda: None)
ERRORS = (KeyError("B8"), SystemExit(1), RecursionError(), CruelError(), MemoryError("full"))


def works_and_forgets(*_):
    """A body that computes something and does not return it."""
    result = np.zeros(3) + 1
    result.sum()


def said(capsys) -> str:
    """What was printed, on one line."""
    return " ".join(capsys.readouterr().out.split())


def accepted(check: Check, function: Any, capsys, monkeypatch) -> str:
    """What a check says to a right answer, strictly too."""
    monkeypatch.setenv(checks.STRICT, "1")
    assert check(function) is None
    answer = said(capsys)
    assert answer.startswith("[ok] Exercise ")
    return answer


def named(check: Check, function: Any, hint: str, capsys, monkeypatch) -> str:
    """What a check says to a mistake: its hint, and strictly an error."""
    check(function)
    answer = said(capsys)
    assert answer.startswith("[not yet] Exercise ")
    assert hint in answer
    monkeypatch.setenv(checks.STRICT, "1")
    with pytest.raises(ExerciseError, match="not yet"):
        check(function)
    return answer


def todo(check: Check, stub: Any, capsys, monkeypatch) -> str:
    """What a check says to a stub that nobody has touched, which strictly is an error."""
    check(stub)
    answer = said(capsys)
    assert answer.startswith("[todo] Exercise ")
    monkeypatch.setenv(checks.STRICT, "1")
    with pytest.raises(ExerciseError, match=r"\[todo\]"):
        check(stub)
    return answer


def hinted(check: Check, error: BaseException, capsys) -> str:
    """What a check says to a function that raises: its type, and the line."""
    check(raises(error))
    answer = said(capsys)
    assert answer.startswith("[not yet]")
    assert f"your function raised {type(error).__name__}: " in answer
    assert "in `raise error`" in answer
    return answer

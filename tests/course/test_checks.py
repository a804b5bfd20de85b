"""What holds of the check of every exercise: right answers, the stub, usual mistakes, and whatever else one may write.

The answers stand beside it: `test_checks_fusion` for Lab 1, `test_checks_mtl` and `test_checks_ssl`.
"""

import inspect
import random
import re
import sys

import numpy as np
import pytest
import torch

from bengelib.course import checks
from tests import exercise_checks
from tests.course import test_checks_fusion, test_checks_mtl, test_checks_ssl
from tests.exercise_checks import ERRORS, STUBS, accepted, hinted, named, raises, said, todo, works_and_forgets

LABS = (test_checks_fusion, test_checks_mtl, test_checks_ssl)
CHECKS = [check for lab in LABS for check in lab.CHECKS]
WRONG = {name: case for lab in LABS for name, case in lab.WRONG.items()}
ODD = [(check, result) for lab in LABS for check in lab.CHECKS for result in (*exercise_checks.ODD, *lab.ODD)]
each_check = pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)


@pytest.fixture(autouse=True)
def _readers(monkeypatch):
    """Checks answer as they do in a notebook; the strict mode is for solutions."""
    monkeypatch.delenv(checks.STRICT, raising=False)


def number(check):
    """The exercise that a check is of, as its docstring says."""
    return re.match(r"Exercise [1-3]\.[1-8]", check.__doc__)[0]


def in_short(value):
    """A check by its name, a result by its type."""
    return value.__name__ if inspect.isfunction(value) else type(value).__name__


def test_five_or_six_exercises_a_lab():
    """Written as functions, that is; the others are read from a figure or decided (`test_checks_reading`)."""
    numbers = list(map(number, CHECKS))
    assert len(set(numbers)) == 16
    assert [sum(each.startswith(f"Exercise {lab}.") for each in numbers) for lab in (1, 2, 3)] == [5, 6, 5]
    assert len(WRONG) == sum(len(lab.WRONG) for lab in LABS)


RIGHT = [pair for lab in LABS for pair in lab.RIGHT]


@pytest.mark.parametrize(("check", "function"), RIGHT, ids=lambda value: value.__name__)
def test_right_answers_are_ok_also_strictly(check, function, capsys, monkeypatch):
    assert number(check) in accepted(check, function, capsys, monkeypatch)


@pytest.mark.parametrize(("name", "case"), WRONG.items(), ids=WRONG)
def test_each_mistake_is_named(name, case, capsys, monkeypatch):
    check, function, hint = case
    answer = named(check, function, hint, capsys, monkeypatch)
    assert number(check) in answer and number(check).endswith(name.split()[0])


@each_check
@pytest.mark.parametrize("stub", STUBS)
def test_untouched_stubs_are_todo(check, stub, capsys, monkeypatch):
    assert number(check) in todo(check, stub, capsys, monkeypatch)


@each_check
def test_a_body_without_return_is_not_taken_for_an_untouched_stub(check, capsys, monkeypatch):
    named(check, works_and_forgets, "has a body, but returns `None`: end it with `return`", capsys, monkeypatch)


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy()"), "`torch.exp`"),
        (RuntimeError("Boolean value of Tensor with more than one value is ambiguous"), "`torch.where`"),
        (ValueError("The truth value of an array with more than one element is ambiguous."), "`np.where`"),
    ],
)
@each_check
def test_messages_that_mislead_get_a_hint_in_every_exercise(check, error, hint, capsys):
    assert hint in hinted(check, error, capsys)


@each_check
@pytest.mark.parametrize("error", ERRORS)
def test_exceptions_become_hints_with_type_and_message(check, error, capsys):
    assert "Call it yourself on such inputs" in hinted(check, error, capsys)


@pytest.mark.parametrize(("check", "result"), ODD, ids=in_short)
@pytest.mark.filterwarnings("ignore:Casting complex values")
def test_odd_results_become_hints(check, result, capsys):
    check(lambda *_: result)
    assert said(capsys).startswith("[not yet]")


@each_check
@pytest.mark.parametrize("given", [None, ..., 3, torch.ones(2), "ndvi"])
def test_what_is_no_function_becomes_a_hint(check, given, capsys):
    check(given)
    assert "Give it the function itself" in said(capsys)


@each_check
def test_a_function_of_other_arguments_becomes_a_hint(check, capsys):
    check(lambda: 1)
    answer = said(capsys)
    assert answer.startswith("[not yet]") and "TypeError" in answer and "takes 0 positional arguments" in answer


@each_check
def test_random_numbers_of_the_notebook_stay_as_they_were(check, capsys):
    def seeds_everything(*_):
        random.seed(1), np.random.seed(1), torch.manual_seed(1), torch.rand(3)

    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    check(seeds_everything)
    assert states == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())


def test_lines_fit_a_notebook_that_does_not_wrap(capsys):
    for check, function, _ in WRONG.values():
        check(function)
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines) <= 110
    assert "\x1b" not in "".join(lines) and sys.executable not in "".join(lines)


def test_a_reader_can_still_interrupt():
    with pytest.raises(KeyboardInterrupt):
        CHECKS[0](raises(KeyboardInterrupt()))


def test_other_values_of_the_switch_do_not_raise(monkeypatch, capsys):
    monkeypatch.setenv(checks.STRICT, "0")
    CHECKS[0](lambda *_: None)
    assert said(capsys).startswith("[todo]")


def test_pick_prefers_the_first_and_skips_what_is_not_finite():
    result = np.array([1.0, np.nan, 2.0])
    assert checks.pick({"b": np.array([1.0, 5.0, np.inf]), "a": np.array([1.0, 2.0, 2.0])}, result) == "b"
    assert checks.pick({"none": np.array([1.0, 2.0, 3.0]), "nan": np.full(3, np.nan)}, result) is None

"""What the numbers of a run depend on, and rounding told from other differences."""

import sys
from importlib.metadata import version

import pytest

from bengelib.cores import device_name
from tools import arithmetic
from tools.arithmetic import arithmetic_of_kernels, changed, difference, processor


@pytest.mark.parametrize(
    ("old", "new", "how"),
    [
        ("a 1,234 b", "a 1,234 b", ""),
        ("loss 1.6045", "loss 1.6015", "rounding"),
        ("loss 16.045", "loss 16.6", "rounding"),
        ("+0.01 to -0.02", "-0.03 to +0.02", "rounding"),  # small numbers may change sides
        ("1.2e-05", "1.3e-05", "rounding"),
        ("64 %", "63.5 %", "rounding"),  # `{:g}` of a decimal
        ("a  0.5\nb 0.25", "a 0.5\nb  0.26", "rounding"),
        ("a\n---\n0.5", "a\n-----\n0.51", "rounding"),
        ("0.52", "0.61", "numbers"),
        ("p 0.01", "p 0.1", "numbers"),
        ("gain +0.05", "gain -0.04", "numbers"),
        ("1000", "1090", "numbers"),
        ("1,234 patches of 2019-06-13", "1,235 patches of 2019-06-13", "numbers"),
        ("13 of 20", "14 of 20", "numbers"),
        ("B10", "B11", "words"),
        ("s2 0.5", "s1 0.5", "words"),
        ("B10.5 é1", "B10.6 é2", "words"),
        ("gain -0.01", "gain - 0.01", "words"),
        ("decided", "undecided", "words"),
        ("0.5", "nan", "words"),
        ("[0.1, 0.2]", "[0.1]", "words"),
    ],
)
def test_rounding_is_told_from_other_differences(old, new, how):
    assert difference(old, new) == how
    assert difference(new, old) == how


def test_what_changed_between_two_arithmetics():
    known = {"processor": "A", "threads": 1, "torch": "2.11.0"}
    assert changed({}, {}) == changed(known, dict(known)) == ""
    assert changed(known, {**known, "threads": 2, "torch": "2.14.1"}) == "threads 1 -> 2, torch 2.11.0 -> 2.14.1"


def test_what_one_of_two_arithmetics_does_not_say_is_not_known_to_be_the_same():
    assert changed({"threads": 1}, {"threads": 1, "processor": "A"}) == "processor unknown -> A"
    assert changed({"threads": 1, "processor": "A"}, {"threads": 1}) == "processor A -> unknown"


def test_the_arithmetic_of_kernels_can_be_asked_for_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    found = arithmetic_of_kernels()
    assert found["processor"] == processor() != ""
    assert found["device"] == device_name()
    assert {name: found[name] for name in ("scipy", "pandas")} == {name: version(name) for name in ("scipy", "pandas")}
    assert list(found)[:4] == ["device", "processor", "instructions", "threads"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux says of its processors")
@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("processor\t: 0\nmodel name\t: AMD EPYC 7763\nmodel name\t: another\n", "AMD EPYC 7763"),
        ("processor\t: 0\nCPU part\t: 0xd0c\n", "aarch64"),
    ],
)
def test_the_name_of_the_processor(text, name, monkeypatch):
    monkeypatch.setattr(arithmetic.Path, "read_text", lambda *_, **__: text)
    monkeypatch.setattr(arithmetic.platform, "machine", lambda: "aarch64")
    assert processor() == name

"""The environments that make sets up: what it would run, without running it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = ("Makefile", "requirements.txt", "pyproject.toml", "tools/lowest.py", "tools/do.py")
INDEX = "https://download.pytorch.org/whl/cpu"

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")


@pytest.fixture
def clone(tmp_path):
    """A project without environments."""
    (tmp_path / "tools").mkdir()
    for name in FILES:
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def make(folder, *arguments, status=0, **environment):
    names = ("MAKE", "MFLAGS", "PYTHON", "VENV", "TORCH", "LOWEST_PYTHON")
    plain = {name: value for name, value in os.environ.items() if not name.startswith(names)}
    done = subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=folder, env={**plain, **environment}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def place(lines, *words):
    """The number of the one line that has all these words."""
    (found,) = [number for number, line in enumerate(lines) if all(word in line for word in words)]
    return found


@pytest.mark.parametrize("given", ["argument", "environment"])
def test_the_newest_versions_have_an_environment_for_each_python(clone, given):
    python = {"PYTHON": "/opt/python3.13"}
    words = [f"{name}={value}" for name, value in python.items()] if given == "argument" else []
    lines = make(clone, "-n", "test-newest", *words, **({} if words else python)).splitlines()
    folder = ".venv-newest-python3.13"
    made = place(lines, f"/opt/python3.13 -m venv {folder}")
    installed = place(lines, f"{folder}/bin/python -m pip", "install -r requirements.txt")
    upgraded = place(lines, f"{folder}/bin/python -m pip", "--upgrade-strategy eager")
    assert made < installed < upgraded < place(lines, f"{folder}/bin/python -m pytest")
    assert "-m venv .venv-newest-python3\n" in make(clone, "-n", "test-newest")


@pytest.mark.parametrize(
    ("target", "folder", "installs"),
    [
        ("venv", ".venv", 1),
        ("test", ".venv", 1),
        ("test-lowest", ".venv-lowest", 1),
        ("test-newest", ".venv-newest-python3", 2),  # made, then brought up to date
    ],
)
def test_a_small_pytorch_is_installed_first_wherever_it_is_asked_for(clone, target, folder, installs):
    lines = [line for line in make(clone, "-n", target, "TORCH=cpu").splitlines() if " -m pip " in line]
    assert len(lines) == 2 * installs
    for small, others in zip(lines[::2], lines[1::2], strict=True):
        assert f"{folder}/bin/python -m pip" in small and f"{folder}/bin/python -m pip" in others
        assert INDEX in small and "torch" in small and "torchvision" in small and "--no-deps" in small
        assert INDEX not in others
        assert ("constraints.txt" in small) == ("constraints.txt" in others) == (target == "test-lowest")
        assert ("--upgrade" in small) == ("--upgrade" in others)
    assert INDEX not in make(clone, "-n", target)


@pytest.mark.parametrize(("target", "variable"), [("venv", "PYTHON"), ("test-lowest", "LOWEST_PYTHON")])
def test_a_python_without_its_venv_module_leaves_no_half_environment(clone, target, variable):
    python = clone / "python3.11"
    python.write_text('#!/bin/sh\ncase "$2" in *ensurepip*) exit 1;; esac\n')
    python.chmod(0o755)
    shown = make(clone, target, f"{variable}={python}", status=2)
    assert f"{python} comes without the venv module" in shown and "apt install python3.11-venv" in shown
    assert not list(clone.glob(".venv*"))


def test_every_environment_is_ignored_by_git_and_kept_by_clean(clone):
    (clone / "bengelib").mkdir()
    (clone / "tests").mkdir()
    for name in (".venv", ".venv-lowest", ".venv-newest-python3.13"):
        (clone / name / "__pycache__").mkdir(parents=True)
    make(clone, "clean")
    assert len(list(clone.glob(".venv*/__pycache__"))) == 3
    assert "/.venv*/" in (ROOT / ".gitignore").read_text().splitlines()
    shown = make(clone, "help", "PYTHON=python3.13")
    assert "but not data/, .venv* and" in shown and ".venv-lowest and .venv-newest-python3.13" in shown

"""The commands of the project without make: the same as with it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools import do

ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project without environments, in a folder with a blank and letters that are not English."""
    root = tmp_path / "a course, äé"
    (root / "tools").mkdir(parents=True)
    for name in ("Makefile", "requirements.txt", "pyproject.toml", "tools/do.py", "tools/lowest.py"):
        shutil.copy(ROOT / name, root / name)
    monkeypatch.setattr(do, "ROOT", root)
    monkeypatch.chdir(tmp_path)
    for name in (*do.VARIABLES, "CALLED_FROM", "CALLED_FROM_ELSE", "MAKELEVEL"):
        monkeypatch.delenv(name, raising=False)
    return root


def test_make_knows_the_same_commands_and_variables():
    (phony,) = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    (exported,) = re.findall(r"^export (LAB .*)$", MAKEFILE, re.MULTILINE)
    assert phony.split() == re.findall(r"^(help .*):$", MAKEFILE, re.MULTILINE)[0].split()
    assert sorted(phony.split()) == sorted(do.COMMANDS)
    assert exported.split() == list(do.VARIABLES)
    assert "-m pip" not in MAKEFILE and "pytest" not in MAKEFILE


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
@pytest.mark.parametrize("command", [name for name in do.COMMANDS if name != "help"])
def test_both_run_the_same(project, command, capsys):
    given = ["LAB=01", "FULL=1", 'DATASET=it\'s "odd" $x', "TORCH=cpu", "REPO=a/b", "PYTHON=python3.13"]
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    made = subprocess.run(
        ["make", "--no-print-directory", "-n", command, *given], cwd=project, env={**plain, "PWD": str(project)},
        capture_output=True, encoding="utf-8", check=True,
    )  # fmt: skip
    os.chdir(project)
    assert do.main(["-n", command, *given]) == 0
    shown = capsys.readouterr().out.splitlines()
    of_make = [line for line in made.stdout.splitlines() if "tools/do.py" not in line]
    if command == "labs":  # make hands on two folders that a path can start from, which are one here
        of_make[-1] = of_make[-1].replace(f" '{project}' '{project}'", f" '{project}'")
    assert of_make == shown and (shown or command == "clean")


def test_a_dataset_is_taken_from_where_the_command_is_called(project, tmp_path, capsys):
    assert do.main(["-n", "labs", "LAB=02", "DATASET=my sets/x", "FULL=0"]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.endswith(f"-m tools.run_labs --lab 02 --dataset 'my sets/x' --called-from {tmp_path}")
    assert Path.cwd() == project


def test_the_site_and_the_doors_have_an_environment_of_their_own(project, capsys):
    assert do.main(["-n", "doors", "LAB=02", "DOOR=colab", "FULL=1", "TORCH=cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].endswith("-m tools.doors --lab 02 --door colab --quick") and ".venv-tools" in lines[-1]
    installed = [line for line in lines if " -m pip " in line]
    words = ("torchvision", "-r requirements.txt", "-r tools/requirements.txt")
    assert all(word in line for word, line in zip(words, installed, strict=True))
    assert do.main(["-n", "site"]) == 0
    *_, built, looked = capsys.readouterr().out.splitlines()
    assert " -W " in built and looked.endswith("-m tools.check_site")


def test_on_windows_the_environment_lies_elsewhere(monkeypatch):
    monkeypatch.setattr(do, "WINDOWS", True)
    assert Path(do._python_of(".venv")).parts[1:] == ("Scripts", "python.exe")
    assert do._name(os.path.join("Scripts", "python.exe")) == "python"


def test_what_is_no_command_or_variable_is_refused(project, capsys):
    for words, said in ((["tests"], "there is no tests; there are help, labs"), (["labs", "LABS=01"], "no LABS;")):
        with pytest.raises(SystemExit) as ended:
            do.main(words)
        assert ended.value.code == 2 and said in capsys.readouterr().err


def test_a_python_that_is_too_old_or_missing_makes_no_environment(project, capsys):
    assert do.main(["venv", "PYTHON=no-such-python"]) == 1
    assert "no-such-python is not that (or is missing). Say where one is: PYTHON=" in capsys.readouterr().err
    assert not list(project.glob(".venv*"))


def test_the_exit_status_is_that_of_the_command(project):
    (project / "tools" / "links.py").write_text("import sys; sys.exit(7)", encoding="utf-8")
    assert do.main(["links", "REPO=a/b", f"PYTHON={sys.executable}"]) == 7
    assert do.main(["links"]) == 2


def test_clean_removes_what_the_commands_wrote_and_keeps_environments(project, capsys):
    for name in (".venv/__pycache__", "tools/__pycache__", "build/labs", "build/studies", ".mypy_cache", "data/x"):
        (project / name).mkdir(parents=True)
    assert do.main(["clean"]) == 0
    left = {path.relative_to(project).as_posix() for path in project.rglob("*") if path.is_dir()}
    assert left == {"tools", ".venv", ".venv/__pycache__", "build", "build/studies", "data", "data/x"}

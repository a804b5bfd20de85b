"""The labs themselves: their setup cell, and the whole notebook on knobs so small that only its mechanics show."""

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

import nbformat
import pytest
import torch

from bengelib.cores import usable_cores
from tests.arithmetics import AVX2, cases
from tools import clean_outputs, links, run_labs
from tools.doors import REDUCED

ROOT = Path(__file__).parents[1]
# A laptop's: no AVX-512 and no AMX, on one core. The kernel reads these variables when it starts. Where several
# processes run the tests, each kernel gets its share of the cores: threads that wait for each other make all of them
# several times slower.
SHARE = max(1, usable_cores() // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1)))
DEFAULT = {} if usable_cores() == SHARE else {"OMP_NUM_THREADS": str(SHARE)}
ARITHMETICS: dict[str, dict[str, str]] = {"AVX2 on one thread": {**AVX2, "OMP_NUM_THREADS": "1"}}
if SHARE > 1 or torch.backends.cpu.get_cpu_capability() != "AVX2":  # otherwise that is how this computer runs them
    ARITHMETICS = {"default": DEFAULT, **ARITHMETICS}
LABS = sorted(ROOT.glob(run_labs.LAB_PATTERN)) + sorted(ROOT.glob(run_labs.STUDY_PATTERN))
SOLUTIONS = [path.parent / "solutions" / path.name for path in LABS]
CHECK = re.compile(r"\b(exercises|reading)\.check_")
each_solution = pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.relative_to(ROOT).as_posix())

# A Colab without the package, and a pip that only says what it was asked for.
COLAB = """
import importlib.util, subprocess, sys, types
from pathlib import Path

sys.modules["google.colab"] = types.ModuleType("google.colab")
find_spec, installed = importlib.util.find_spec, []

def run(command, **options):
    installed.append(command)
    constraints = Path(command[command.index("--constraint") + 1])
    print("ASKED", " ".join(command[1:]), "|", *constraints.read_text().split())

subprocess.run = run
importlib.util.find_spec = lambda name: None if name == "bengelib" and not installed else find_spec(name)
"""


def setup_cell(path: Path) -> str:
    cells = json.loads(path.read_text())["cells"]
    (source,) = ["".join(cell["source"]) for cell in cells if "setup" in cell["metadata"].get("tags", [])]
    return source


def unlike(*others) -> pytest.MarkDecorator:
    """The notebooks whose setup cells differ, or what the functions `others` say of their paths: one of each kind."""
    kinds = {(setup_cell(path), *(other(path) for other in others)): path for path in reversed(LABS + SOLUTIONS)}
    return pytest.mark.parametrize("path", kinds.values(), ids=lambda path: path.relative_to(ROOT).as_posix())


def run(path: Path, output: Path, strict: bool) -> nbformat.NotebookNode:
    """Runs a notebook on reduced knobs, and looks at what every run must have."""
    name = path.relative_to(ROOT).as_posix()
    result, notebook = run_labs.run_lab(path, output / "labs", REDUCED[name.split("/")[0]], name, strict)
    assert result.error is None
    assert not [problem for problem in clean_outputs.clean(notebook) if "stderr" in problem.text]  # nothing warns
    assert result.headline or path.name == "study.ipynb"
    assert result.page.is_file()
    return notebook


def code_cells(path: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def answers(notebook: nbformat.NotebookNode) -> list[str]:
    """The mark that each check of an exercise printed."""
    checks = [cell for cell in notebook.cells if cell.cell_type == "code" and CHECK.search(cell.source)]
    return ["".join(output.get("text", "") for output in cell.outputs).split("]")[0] + "]" for cell in checks]


@pytest.fixture(scope="module")
def reduced_data(tmp_path_factory):
    """Where the runs below keep their simulated patches: the first one makes them."""
    return tmp_path_factory.mktemp("reduced") / "data"


def needed(cells: list[nbformat.NotebookNode], first: int, exercises: list[int]) -> list[int]:
    """Places of the cells that exercises need: setup and imports, and those that make the names that they read."""

    def body(place: int) -> list[ast.stmt]:
        """Statements of a cell but for functions, whose names are mostly their own."""
        return [part for part in ast.parse(cells[place].source).body if not isinstance(part, ast.FunctionDef)]

    def named(nodes: Iterable[ast.AST], context: type[ast.expr_context]) -> set[str]:
        found = [node for each in nodes for node in ast.walk(each)]
        return {node.id for node in found if isinstance(node, ast.Name) and isinstance(node.ctx, context)}

    def made(place: int) -> set[str]:
        """Names that a cell assigns, not those of its comprehensions and loops."""
        targets = [target for part in body(place) if isinstance(part, ast.Assign) for target in part.targets]
        return named(targets, ast.Store)

    chosen, ready = set(range(first)), list(exercises)
    while ready:
        place = ready.pop()
        chosen.add(place)
        for name in named(body(place), ast.Load) - named(body(place), ast.Store):
            makers = [other for other in range(first, place) if name in made(other)]
            if makers and not chosen.intersection(makers):
                ready.append(makers[-1])
    return sorted(chosen)


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=[pytest.mark.slow] if path.name == "study.ipynb" else []) for path in LABS],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
@pytest.mark.parametrize("arithmetic", cases(ARITHMETICS))
def test_lab_runs_on_reduced_knobs_with_every_exercise_untouched(path, arithmetic, reduced_data, tmp_path, monkeypatch):
    for name, value in arithmetic.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("BENGE_DATA", str(reduced_data))
    monkeypatch.setenv(run_labs.STRICT, "1")  # is for solutions only
    assert set(answers(run(path, tmp_path, strict=False))) <= {"[todo]"}


@each_solution
def test_solutions_pass_strictly(path):
    """The exercises alone, after setup, imports and what they read: all other cells are those of the lab, run above."""
    student, solved = code_cells(path.parents[1] / path.name), code_cells(path)
    knobs = next(place for place, cell in enumerate(student) if "parameters" in cell.metadata.get("tags", []))
    exercises = [
        place for place, cell in enumerate(student) if "# your code here" in cell.source or CHECK.search(cell.source)
    ]
    live = [place for place in exercises if "share_needed" in student[place].source]  # reads what the lab has trained
    exercises = [place for place in exercises if place not in live]
    other = [place for place, cell in enumerate(student) if cell.source != solved[place].source]
    assert set(other) <= {*exercises, *live}
    shown = subprocess.run(
        [sys.executable, "-c", "\n".join(solved[place].source for place in needed(solved, knobs, exercises))],
        cwd=path.parent,
        env={**os.environ, run_labs.STRICT: "1"},
        capture_output=True,
        text=True,
    )
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.count("[ok] Exercise ") == len(exercises) / 2 >= 2


@pytest.mark.slow
@each_solution
def test_solutions_run_strictly_on_reduced_knobs(path, tmp_path, monkeypatch):
    monkeypatch.setenv("BENGE_DATA", str(tmp_path / "data"))
    assert set(answers(run(path, tmp_path, strict=True))) == {"[ok]"}


@unlike()
def test_setup_cell_installs_on_colab_and_holds_torch(path, tmp_path):
    shown = subprocess.run(
        [sys.executable, "-c", COLAB + setup_cell(path)], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    asked = [line for line in shown.splitlines() if line.startswith("ASKED")]
    assert len(asked) == 1
    assert f"bengelib @ git+https://github.com/{links.declared_repository()} " in asked[0]
    assert f"torch=={version('torch')}" in asked[0]


@unlike(lambda path: len(path.relative_to(ROOT).parts))
def test_setup_cell_finds_the_clone_without_installing(path):
    forgotten = f"""
import subprocess, sys
sys.meta_path = [finder for finder in sys.meta_path if "__editable__" not in str(getattr(finder, "__module__", ""))]
sys.path = [folder for folder in sys.path if folder not in ("", {str(ROOT)!r})]
subprocess.run = None
"""
    shown = subprocess.run(
        [sys.executable, "-c", f"{forgotten}{setup_cell(path)}\nprint(bengelib.__file__)"],
        cwd=path.parent,
        capture_output=True,
        text=True,
    )
    assert shown.returncode == 0, shown.stderr
    assert Path(shown.stdout.splitlines()[-1]).is_relative_to(ROOT)
    alone = subprocess.run([sys.executable, "-c", f"{forgotten}import bengelib"], cwd=path.parent, capture_output=True)
    assert alone.returncode != 0

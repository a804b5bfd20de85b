"""Cells of the labs that need no training: those that read the study, with a table and without; and how many lines."""

import ast
import builtins
import io
import json
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bengelib.course.report import Study
from bengelib.course.results import COLUMNS, read_results
from tools import run_labs

ROOT = Path(__file__).parents[1]
MOST_LINES = 450
"""Of code in a lab, without empty ones and comments."""
LABS = sorted(ROOT.glob(run_labs.LAB_PATTERN))
STUDIES = sorted(ROOT.glob(run_labs.STUDY_PATTERN))
LEAST_CELLS, LEAST_FIGURES = 5, 1
each_lab = pytest.mark.parametrize("path", LABS, ids=lambda path: path.name)
each_reader = pytest.mark.parametrize("path", LABS + STUDIES, ids=lambda path: path.relative_to(ROOT).as_posix())


def folder_of(path: Path) -> Path:
    """The folder of the lab that a notebook belongs to."""
    return ROOT / path.relative_to(ROOT).parts[0]


def code_cells(path: Path) -> list[str]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def unknown(tree: ast.Module, names: dict[str, Any]) -> set[str]:
    """Names that a cell uses and that nothing has defined."""
    nodes = list(ast.walk(tree))
    read = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    made = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    made |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    made |= {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    return read - made - set(names) - set(dir(builtins))


def run(tree: ast.Module, names: dict[str, Any]) -> str:
    """What a cell prints, and the value of its last expression."""
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    with redirect_stdout(io.StringIO()) as printed:
        exec(compile(tree, "<cell>", "exec"), names)
        value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), names) if last else None
    return printed.getvalue() + ("" if value is None else str(value))


def read_study(path: Path, table: pd.DataFrame) -> dict[str, str]:
    """What the cells show that need nothing but imports, constants and the study, with `table` as its results."""
    names: dict[str, Any] = {}
    shown, opened = {}, []

    def open_study(folder: str, address: str, *, results: str = "results.csv", **options: Any) -> Study:
        opened.append(folder)
        other = read_results(path.with_name(results)) if len(table) and results != "results.csv" else table
        return Study(other, folder, results=results, **options)

    for source in code_cells(path)[1:]:  # but for the setup cell
        tree = ast.parse(source)
        imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        if imports:
            exec(compile(ast.Module(imports, []), "<cell>", "exec"), names)
            names["open_study"] = open_study
        elif opened and "bengelib.load" in source:
            break  # from here on networks are trained
        elif not opened and "open_study(" not in source:  # numbers and names that are set before
            for node in tree.body:
                if isinstance(node, ast.Assign) and not unknown(ast.Module([node], []), {}):
                    exec(compile(ast.Module([node], []), "<cell>", "exec"), names)
        elif not unknown(tree, names):
            with suppress(NameError):  # the name of an argument that also stands outside its function
                shown[source.partition("\n")[0]] = run(tree, names)
    assert set(opened) == {folder_of(path).name}
    return shown


@each_reader
def test_cells_that_read_the_study_show_what_it_found(path):
    shown = read_study(path, read_results(folder_of(path) / "results.csv"))
    assert len(shown) >= LEAST_CELLS and not [first for first, text in shown.items() if "nan" in text.split()]
    assert sum(text.startswith("Figure") for text in shown.values()) >= LEAST_FIGURES


@each_reader
def test_a_study_that_is_missing_shows_nothing_and_fails_nowhere(path):
    shown = read_study(path, pd.DataFrame(columns=list(COLUMNS)))
    words = "".join(shown.values()).split()
    assert "There is no results.csv yet" in " ".join(words)
    drawn = [first for first, text in shown.items() if text.startswith("Figure") and not first.startswith("draw_")]
    assert "nan" not in words and not drawn


@each_lab
def test_a_lab_has_no_more_code_than_can_be_read_in_a_class(path):
    lines = "\n".join(code_cells(path)).splitlines()
    assert sum(bool(line.strip()) and not line.strip().startswith("#") for line in lines) <= MOST_LINES

"""Cells of the labs that depend on where the kernel started and on what the data are; whole labs: test_notebooks."""

import json
import re
import urllib.request
from pathlib import Path

import pandas as pd
import pytest

import bengelib
from bengelib.course.results import COLUMNS, read_intervals, read_results
from bengelib.data.loading import is_simulated
from bengelib.errors import TableError
from tests import fake_tree as fake
from tools import run_labs

ROOT = Path(__file__).parents[1]
each_notebook = pytest.mark.parametrize(
    "path",
    [path for pattern in (run_labs.LAB_PATTERN, run_labs.SOLUTIONS_PATTERN) for path in sorted(ROOT.glob(pattern))],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)


def cell(path: Path, beginning: str) -> str:
    """The source of the one code cell that holds a line which begins so."""
    cells = ["".join(cell["source"]) for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    (source,) = [source for source in cells if re.search(f"^{re.escape(beginning)}", source, re.MULTILINE)]
    return source


@each_notebook
@pytest.mark.parametrize("start", ["root", "lab", "another lab", "outside"])
def test_the_study_is_found_wherever_the_kernel_started(path, start, monkeypatch, tmp_path):
    lab = ROOT / path.relative_to(ROOT).parts[0]
    other = next(folder for folder in sorted(ROOT.glob("0[1-3]-*")) if folder != lab)
    monkeypatch.chdir({"root": ROOT, "lab": path.parent, "another lab": other, "outside": tmp_path}[start])
    monkeypatch.setattr(urllib.request, "urlopen", None)  # no network
    names = {"Path": Path, "bengelib": bengelib, "pd": pd, "read_results": read_results, "TableError": TableError,
             "read_intervals": read_intervals, "RESULT_COLUMNS": COLUMNS, "is_simulated": is_simulated}  # fmt: skip
    exec(cell(path, "STUDIED ="), names)
    assert names["folders"][0] == lab
    pd.testing.assert_frame_equal(names["study"], read_results(lab / "results.csv"))
    assert names["STUDY_NOTE"] == "ben-ge-sim: simulated data, not measurements"


@each_notebook
def test_a_lab_that_was_copied_alone_finds_its_study(path, monkeypatch, tmp_path):
    for name in ("study.py", "results.csv"):
        (tmp_path / name).write_bytes((ROOT / path.relative_to(ROOT).parts[0] / name).read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bengelib, "__file__", str(tmp_path / "site-packages" / "bengelib" / "__init__.py"))
    names = {"Path": Path, "bengelib": bengelib, "pd": pd, "read_results": read_results, "TableError": TableError,
             "read_intervals": read_intervals, "RESULT_COLUMNS": COLUMNS, "is_simulated": is_simulated}  # fmt: skip
    exec(cell(path, "STUDIED ="), names)
    assert names["folders"] == [Path(".")] and len(names["study"]) > 0


@each_notebook
@pytest.mark.parametrize(("name", "simulated"), [("mydata", True), ("ben-ge-simple", False)])
def test_every_note_goes_by_the_marker_of_the_data(path, name, simulated, tmp_path):
    root = fake.write_fake_tree(tmp_path / name)
    if simulated:
        (root / "simulation.json").write_text('{"simulated": true}')
    lines = [line for line in cell(path, "SIMULATED =").splitlines() if re.match("(?:NAME|SIMULATED|NOTE) = ", line)]
    for dataset, said in ((root, simulated), ("ben-ge-sim", True), ("ben-ge-800", False)):
        names = {"Path": Path, "bengelib": bengelib, "is_simulated": is_simulated, "DATASET": str(dataset)}
        exec("\n".join(lines), names)
        assert names["SIMULATED"] is said
        assert names["NOTE"].startswith("simulated data") is said

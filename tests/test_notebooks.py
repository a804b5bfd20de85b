"""The labs themselves: their setup cell, and the whole notebook on knobs so small that only its mechanics show."""

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from tools import links, run_labs

ROOT = Path(__file__).parents[1]
# Knobs of the quick run, by notebook; each notebook has its own.
REDUCED: dict[str, dict[str, object]] = {
    "01-data_fusion/lab_df.ipynb": {"PATCHES": 120, "EPOCHS": 1, "SEEDS": (0, 1)},
}
NOTEBOOKS = sorted(path for path in ROOT.glob(run_labs.LAB_PATTERN))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)

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


@each_notebook
def test_notebook_runs_on_reduced_knobs(path, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("BENGE_DATA", str(tmp_path / "data"))
    name = path.relative_to(ROOT).as_posix()
    result, _ = run_labs.run_lab(path, tmp_path / "labs", REDUCED[name], name)
    assert result.error is None
    assert result.headline
    assert result.page.is_file()


@each_notebook
def test_setup_cell_installs_on_colab_and_holds_torch(path, tmp_path):
    shown = subprocess.run(
        [sys.executable, "-c", COLAB + setup_cell(path)], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    asked = [line for line in shown.splitlines() if line.startswith("ASKED")]
    assert len(asked) == 1
    assert f"bengelib @ git+https://github.com/{links.declared_repository()} " in asked[0]
    assert f"torch=={version('torch')}" in asked[0]
    assert f"torchvision=={version('torchvision')}" in asked[0]


@each_notebook
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

"""What must hold of the repository as a whole: one version, one set of dependencies, clean notebooks."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
import yaml

import bengelib
from tests.fake_tree import write_fake_tree
from tools import clean_outputs

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text())
NOTEBOOKS = sorted(ROOT.glob("[0-9][0-9]-*/lab_*.ipynb")) + sorted(ROOT.glob("[0-9][0-9]-*/study/study.ipynb"))
TEXT_SUFFIXES = {".py", ".md", ".ipynb", ".toml", ".yml", ".cff", ".txt", ".csv"}
CONDA_NAMES = {"torch": "pytorch-cpu", "matplotlib": "matplotlib-base"}
MAXIMAL_BYTES = 1_500_000
MAXIMAL_CELL_LINES = 40
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.relative_to(ROOT).as_posix())


def project_files() -> list[Path]:
    """Every file that is or could be committed."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [path for name in names if (path := ROOT / name).is_file()]


def by_name(requirements: list[str]) -> dict[str, str]:
    """Requirements as name to range."""
    pairs = (re.fullmatch(r"([A-Za-z0-9_-]+)(.*)", text.strip()) for text in requirements)
    return {pair.group(1).lower(): pair.group(2) for pair in pairs if pair}


def code_cells(path: Path) -> list[dict]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


def tagged(path: Path, tag: str) -> list[dict]:
    return [cell for cell in code_cells(path) if tag in cell["metadata"].get("tags", [])]


def test_version_stands_in_one_place():
    assert PROJECT["dynamic"] == ["version"]
    assert PYPROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "bengelib.__version__"}
    assert re.fullmatch(r"\d+\.\d+\.\d+", bengelib.__version__)
    assert bengelib.__version__ in (ROOT / "CHANGELOG.md").read_text()
    assert "version" not in yaml.safe_load((ROOT / "CITATION.cff").read_text())


def test_binder_reads_the_environment_in_the_root():
    assert not (ROOT / "binder").exists() and not (ROOT / ".binder").exists()
    assert ENVIRONMENT["channels"] == ["conda-forge"]
    assert [line for line in ENVIRONMENT["dependencies"] if str(line).startswith("python")] == ["python=3.12"]


def test_environment_has_the_ranges_of_pyproject():
    declared = by_name(PROJECT["dependencies"] + PROJECT["optional-dependencies"]["labs"])
    expected = {CONDA_NAMES.get(name, name): versions for name, versions in declared.items()}
    conda = by_name([line for line in ENVIRONMENT["dependencies"] if isinstance(line, str)])
    assert {name: conda.get(name) for name in expected} == expected
    assert set(conda) - set(expected) == {"python", "pip", "setuptools"}
    assert [line["pip"] for line in ENVIRONMENT["dependencies"] if isinstance(line, dict)] == [["-e ."]]


def test_requirements_install_the_package_with_labs_and_development_tools():
    lines = [line.split("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
    assert [line for line in lines if line] == ["torch>=2.14", "-e .[labs,dev]"]
    assert set(PROJECT["optional-dependencies"]) == {"labs", "dev", "parquet"}


def test_package_imports_only_what_it_declares():
    distributions = {"sklearn": "scikit-learn", "PIL": "pillow"}
    imported = set()
    for path in (ROOT / "bengelib").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                imported.add(node.module.split(".")[0])
    needed = {distributions.get(name, name) for name in imported - set(sys.stdlib_module_names) - {"bengelib"}}
    assert needed <= set(by_name(PROJECT["dependencies"]))


def test_no_path_of_a_machine_is_written_down():
    machine = re.compile(r"(?<![\w.])/(?:home|root|Users|work|farm)/\w|\b[A-Z]:\\\\\w")
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in project_files()
        if path.suffix in TEXT_SUFFIXES or path.name == "Makefile"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if machine.search(line)
    ]
    assert not found


def test_data_are_not_committed():
    assert [path.name for path in project_files() if path.is_relative_to(ROOT / "data")] == ["README.md"]


def test_citation_has_what_the_format_requires():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["license"] == PROJECT["license"] == "BSD-3-Clause"
    assert citation["repository-code"] == PROJECT["urls"]["Repository"]
    for reference in citation["references"]:
        assert {"type", "title", "authors"} <= set(reference)


def test_continuous_integration_runs_the_test_command_of_the_readme():
    script = (ROOT / ".ci" / "run").read_text()
    assert script.rstrip().endswith("\nmake test")
    assert "make test" in (ROOT / "README.md").read_text()


@each_notebook
def test_notebook_has_one_cell_for_each_role(path):
    headlines = int(path.name != "study.ipynb")
    assert [len(tagged(path, tag)) for tag in ("setup", "parameters", "headline")] == [1, 1, headlines]
    knobs = {
        target.id
        for statement in ast.parse("".join(tagged(path, "parameters")[0]["source"])).body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
        if isinstance(target, ast.Name)
    }
    assert {"DATASET", "FULL"} <= knobs


@each_notebook
def test_notebook_is_committed_clean_and_run_in_order(path, tmp_path):
    notebook = clean_outputs.nbformat.read(path, as_version=4)
    run = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    assert [cell.execution_count for cell in run] == list(range(1, len(run) + 1))
    assert any(cell.outputs for cell in run)
    assert clean_outputs.clean(notebook) == []
    again = tmp_path / "again.ipynb"
    clean_outputs.write(notebook, again)
    assert again.read_bytes() == path.read_bytes(), f"run: python -m tools.clean_outputs {path.relative_to(ROOT)}"


@each_notebook
def test_notebook_is_small(path):
    assert path.stat().st_size < MAXIMAL_BYTES
    lengths = {
        number: len("".join(cell["source"]).splitlines()) for number, cell in enumerate(code_cells(path), start=1)
    }
    assert not {number: length for number, length in lengths.items() if length > MAXIMAL_CELL_LINES}


def test_ten_lines_of_the_readme_run(tmp_path, capsys):
    (lines,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    root = write_fake_tree(tmp_path / "ben-ge-8k", 12)
    assert '"data/ben-ge-8k"' in lines and "epochs=10" in lines
    torch.manual_seed(0)
    exec(lines.replace('"data/ben-ge-8k"', repr(str(root))).replace("epochs=10", "epochs=1"), {})
    assert "climate_zone/accuracy" in capsys.readouterr().out
    assert len([line for line in lines.splitlines() if line and "import" not in line]) <= 10

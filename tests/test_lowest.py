"""The lowest versions that pyproject.toml admits, as constraints for pip."""

import re
import subprocess
import sys
from pathlib import Path

from tools.lowest import declared, lowest

ROOT = Path(__file__).parents[1]


def test_the_lower_end_of_each_range_becomes_a_pin():
    assert lowest(["torch>=2.11", "scikit-learn >= 1.5", "nbconvert>=7.16.5,<8"]) == [
        "torch==2.11",
        "scikit-learn==1.5",
        "nbconvert==7.16.5",
    ]


def test_what_has_no_lower_end_is_left_to_pip():
    assert lowest(["pandas-stubs", "numpy<3", "torch==2.11", ""]) == []


def test_the_requirements_are_those_of_the_package_and_all_its_extras(tmp_path):
    (tmp_path / "pyproject.toml").write_text(
        '[project]\ndependencies = ["a>=1"]\n[project.optional-dependencies]\nx = ["b>=2"]\ny = ["c"]\n'
    )
    assert declared(tmp_path) == ["a>=1", "b>=2", "c"]
    (tmp_path / "pyproject.toml").write_text('[project]\ndependencies = ["a>=1"]\n')
    assert declared(tmp_path) == ["a>=1"]


def test_it_prints_constraints_for_every_range_of_the_project():
    command = [sys.executable, "-S", "tools/lowest.py"]  # without installed packages
    lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert all(re.fullmatch(r"[A-Za-z0-9-]+==[0-9.]+", line) for line in lines)
    assert len(lines) == sum(">=" in requirement for requirement in declared()) > 20
    assert "torch==2.11" in lines

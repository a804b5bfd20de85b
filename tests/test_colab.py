"""Colab: the versions preinstalled there lie within the ranges, so that the setup cell moves none of them."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
FACTS = ROOT / "tests" / "colab-versions.txt"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REQUIREMENTS = {(found := Requirement(text)).name: found for text in PROJECT["dependencies"]}
SMALL = {"pillow", "joblib", "threadpoolctl"}
"""Requirements whose versions on Colab the list does not tell; they come with Matplotlib and scikit-learn."""


def preinstalled() -> dict[str, str]:
    lines = [line for line in FACTS.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return dict(line.split("==") for line in lines)


def moved(requirements: dict[str, Requirement], versions: dict[str, str]) -> list[str]:
    """Preinstalled packages that pip would replace."""
    return [
        f"{name} {versions[name]} is not {found.specifier}"
        for name, found in requirements.items()
        if name in versions and not found.specifier.contains(versions[name], prereleases=True)
    ]


def test_nothing_preinstalled_moves():
    assert not moved(REQUIREMENTS, preinstalled())
    assert moved({"numpy": Requirement("numpy>=2.2,<3")}, preinstalled()) == ["numpy 2.1.3 is not <3,>=2.2"]


def test_nothing_has_to_be_downloaded_but_the_package():
    assert set(REQUIREMENTS) - set(preinstalled()) == SMALL


def test_the_python_of_colab_is_one_of_those_admitted():
    header = FACTS.read_text(encoding="utf-8")
    pythons = re.findall(r"Python (\d+\.\d+\.\d+)", header)
    assert len(pythons) == 3
    for version in pythons:
        assert SpecifierSet(PROJECT["requires-python"]).contains(version)
        assert f"Programming Language :: Python :: {version.rpartition('.')[0]}" in PROJECT["classifiers"]


def test_a_pinned_older_runtime_works_as_well_or_is_known_not_to():
    header = FACTS.read_text(encoding="utf-8")
    runtimes = re.findall(r"(\d{4}\.\d\d) \(Python [\d.]+, torch ([\d.]+), numpy ([\d.]+)\)", header)
    fit = {name: not moved(REQUIREMENTS, {"torch": torch, "numpy": numpy}) for name, torch, numpy in runtimes}
    assert fit == {"2026.07": True, "2026.01": False}  # torch 2.9 is below the range


def test_the_facts_say_when_and_where_they_were_found():
    first = FACTS.read_text(encoding="utf-8").splitlines()[0]
    assert re.search(r"as of \d{4}-\d\d-\d\d \(github googlecolab/backend-info\)", first)


@pytest.mark.parametrize("held", ["torch", "numpy"])
def test_what_the_setup_cell_holds_is_preinstalled(held):
    cell = (ROOT / "tools" / "setup_cell.py").read_text(encoding="utf-8")
    assert f'"{held}"' in cell and held in preinstalled()

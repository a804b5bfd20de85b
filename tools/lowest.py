"""Prints the lowest version of each package that pyproject.toml admits, as constraints for pip.

    python tools/lowest.py > constraints.txt

Needs no packages but the standard library of Python 3.11. What no range names, such as the dependencies of the
dependencies, is left to pip.
"""

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)\s*>=\s*([0-9.]+)")


def lowest(requirements: Iterable[str]) -> list[str]:
    """`name==version` for each requirement with a lower end, such as `torch>=2.11`; the others are left out."""
    found = (REQUIREMENT.match(requirement) for requirement in requirements)
    return [f"{match[1]}=={match[2]}" for match in found if match]


def declared(root: Path = ROOT) -> list[str]:
    """The requirements of the package and of all its extras, from `root`/pyproject.toml."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project.get("optional-dependencies", {}).values()
    return [*project["dependencies"], *(requirement for extra in extras for requirement in extra)]


if __name__ == "__main__":
    print("\n".join(lowest(declared())))

"""Prints what CHANGELOG.md says of a version, for its release.

    python -m tools.release_notes 0.2.0

A version that is still headed `Unreleased` has no notes, so that nothing is released by its working title.
"""

import argparse
import re
import sys
from collections.abc import Sequence

from tools.links import ROOT

SECTION = re.compile(r"^## \[?(?P<title>[^\n\]]+)\]?[^\n]*\n(?P<text>.*?)(?=^## |\Z)", re.DOTALL | re.MULTILINE)


def notes(changelog: str, version: str) -> str:
    """The section of a version, without its heading.

    Args:
        changelog: the text of the file.
        version: as "0.2.0".

    Raises:
        ValueError: there is none, or it says nothing.
    """
    sections = {found["title"].split(" ")[0]: found["text"].strip() for found in SECTION.finditer(changelog)}
    if not sections.get(version):
        there = ", ".join(sections) or "no section"
        raise ValueError(f"CHANGELOG.md has {there}, but nothing under '## {version}': give its section that heading")
    return sections[version]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the notes; returns 1 if there are none."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version", help="as 0.2.0, or the tag v0.2.0")
    version = parser.parse_args(arguments).version.removeprefix("v")
    try:
        print(notes((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), version))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

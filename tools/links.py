"""Writes the project's public address into badges, setup cells, documents and the citation.

    python tools/links.py owner/name

The address stands in pyproject.toml; everything else follows it. Only the address changes, so a notebook keeps every
other byte, and a second run changes nothing.
"""

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+")
DECLARED = re.compile(r'^Repository = "https://github\.com/([^/"]+/[^/"]+)"$', re.MULTILINE)
# Wherever these stand, the address after them is the project's own, whatever it is at the moment.
OWN_ADDRESS = re.compile(
    r"((?:colab\.research\.google\.com/github|mybinder\.org/v2/gh|bengelib @ git\+https://github\.com"
    r"|raw\.githubusercontent\.com)/)"
    r"([A-Za-z0-9-]+/[A-Za-z0-9._-]+?)(?=\.git\b|[^A-Za-z0-9._-]|$)"
)
# A picture of the project, as a notebook shows it on Colab, where no other file is at hand; the group is its path.
OWN_PICTURE = re.compile(r"https://raw\.githubusercontent\.com/[^/\s\"]+/[^/\s\"]+/main/([^\s\"()]+\.png)")
PATTERNS = (
    "*.md",
    "*.cff",
    "pyproject.toml",
    "bengelib/**/*.py",
    "docs/**/*.md",
    "docs/**/*.py",
    "data/README.md",
    "[0-9][0-9]-*/**/*.ipynb",
    "[0-9][0-9]-*/**/*.md",
    "[0-9][0-9]-*/**/*.py",
)


def declared_repository(root: Path = ROOT) -> str:
    """The `owner/name` that pyproject.toml declares.

    Raises:
        ValueError: It declares none.
    """
    found = DECLARED.search((root / "pyproject.toml").read_text(encoding="utf-8"))
    if not found:
        raise ValueError('pyproject.toml has no line `Repository = "https://github.com/owner/name"`')
    return found.group(1)


def badges(path: str, repository: str) -> str:
    """Markdown of the two badges that open the notebook `path` (relative to the root) on Colab and on Binder."""
    return (
        f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
        f"(https://colab.research.google.com/github/{repository}/blob/main/{path}) "
        f"[![Open in Binder](https://mybinder.org/badge_logo.svg)]"
        f"(https://mybinder.org/v2/gh/{repository}/main?urlpath=lab/tree/{path})"
    )


def rewrite(text: str, old: str, new: str) -> str:
    """`text` with the project's address `old` replaced by `new`, and badges and installation lines made to agree."""
    text = OWN_ADDRESS.sub(lambda match: match.group(1) + new, text)
    return re.sub(rf"(github\.com/){re.escape(old)}(?=\.git\b|[^\w.-]|\.(?!\w)|$)", rf"\g<1>{new}", text)


def linked_files(root: Path = ROOT) -> list[Path]:
    """The files that may hold the address."""
    found = {path for pattern in PATTERNS for path in root.glob(pattern)}
    return sorted(path for path in found if ".ipynb_checkpoints" not in path.parts)


def rewrite_all(repository: str, root: Path = ROOT) -> list[Path]:
    """Writes `repository` into every file under `root` that holds the address.

    Returns:
        The files that changed.

    Raises:
        ValueError: `repository` is not of the form owner/name.
    """
    if not REPOSITORY.fullmatch(repository):
        raise ValueError(f"'{repository}' is not of the form owner/name, as in REPO=octocat/hello-world")
    old = declared_repository(root)
    changed = []
    for path in linked_files(root):
        before = path.read_bytes()
        after = rewrite(before.decode("utf-8"), old, repository).encode("utf-8")
        if after != before:
            path.write_bytes(after)
            changed.append(path)
    return changed


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Rewrites the links to the repository named on the command line; returns 0, or 2 if the name is none."""
    parser = argparse.ArgumentParser(description="Write the public address of the project into all links.")
    parser.add_argument("repository", metavar="owner/name")
    try:
        changed = rewrite_all(parser.parse_args(arguments).repository, root)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    for path in changed:
        print(f"rewrote {path.relative_to(root)}")
    if not changed:
        print("every link already says so")
    return 0


if __name__ == "__main__":
    sys.exit(main())

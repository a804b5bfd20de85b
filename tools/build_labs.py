"""Builds the notebooks of the labs from their text sources: the lab for learners, and its solutions.

    python -m tools.build_labs           # write every lab whose source changed
    python -m tools.build_labs --check   # change nothing, fail if a notebook is not what its source says

A source is a notebook as MyST Markdown, such as `01-data_fusion/lab_df.src.md`: a block that opens with ```{code-cell}
is a code cell (`:tags: [a, b]` on its first lines; `hide-input` folds its code), a line `+++` parts two text cells,
everything else is text.
`{{badges}}` and `{{setup}}` stand for what every lab opens with. Between `### BEGIN SOLUTION` and `### END SOLUTION`
stands what the solutions keep and learners write themselves. Outputs of cells that did not change are kept.
"""

import argparse
import hashlib
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import jupytext
import nbformat

from tools.clean_outputs import KEPT_METADATA, NOTEBOOK_METADATA
from tools.links import ROOT, badges, declared_repository

SOURCE_SUFFIX = ".src.md"
SOLUTION = re.compile(
    r"^(?P<indent>[ ]*)### BEGIN SOLUTION\n.*?^[ ]*### END SOLUTION[^\n]*\n?", re.DOTALL | re.MULTILINE
)
MARKS = re.compile(r"^[ ]*### (BEGIN|END) SOLUTION[^\n]*\n?", re.MULTILINE)


def sources(root: Path = ROOT) -> list[Path]:
    """Every source of the project, in the order of the labs, the lab before its study."""
    return [path for lab in sorted(root.glob("[0-9][0-9]-*/")) for path in _sources_of(lab)]


def _sources_of(lab: Path) -> list[Path]:
    return sorted(lab.glob(f"*{SOURCE_SUFFIX}")) + sorted(lab.glob(f"study/*{SOURCE_SUFFIX}"))


def targets(source: Path) -> dict[Path, bool]:
    """The notebooks that a source makes, and whether each shows the solutions."""
    name = source.name.removesuffix(SOURCE_SUFFIX) + ".ipynb"
    made = {source.with_name(name): False}
    if "### BEGIN SOLUTION" in source.read_text(encoding="utf-8"):
        made[source.parent / "solutions" / name] = True
    return made


def build(source: Path, target: Path, solutions: bool, root: Path = ROOT) -> nbformat.NotebookNode:
    """The notebook of `source`, with the outputs that `target` already has for the same cells.

    Args:
        source: The text that it is made from.
        target: Where it will stand; its outputs are kept where the cell is the same.
        solutions: Whether it shows the solutions or leaves them to be written.
        root: The folder of the project, to which the badges are relative.

    Raises:
        ValueError: A code cell is not closed, or a mark of a solution has no partner.
    """
    repository = declared_repository()
    setup = (ROOT / "tools" / "setup_cell.py").read_text(encoding="utf-8").strip()
    cells, seen = [], Counter[str]()
    for kind, body, tags in parse(source.read_text(encoding="utf-8")):
        if kind == "code":
            stub = SOLUTION.sub(_stub, body)
            if unpaired := MARKS.search(stub):  # else what stands after it would be shown to learners
                raise ValueError(f"{source.name}: '{unpaired.group().strip()}' has no partner in its cell")
            body = MARKS.sub("", body) if solutions else stub
        body = body.strip("\n")
        identity = hashlib.blake2b(f"{kind}\n{body}".encode(), digest_size=6).hexdigest()
        seen[identity] += 1
        # After the identity is taken, so that another public address changes no cell's id.
        body = body.replace("{{setup}}", setup).replace("{{repository}}", repository)
        body = body.replace("{{badges}}", badges(target.relative_to(root).as_posix(), repository))
        make = nbformat.v4.new_code_cell if kind == "code" else nbformat.v4.new_markdown_cell
        cell = make(body, id=identity if seen[identity] == 1 else f"{identity}-{seen[identity]}")
        if tags:
            cell.metadata["tags"] = tags
        if "hide-input" in tags:  # for the site; folded in JupyterLab and Colab too, so that a picture comes first
            cell.metadata |= {"jupyter": {"source_hidden": True}, "cellView": "form"}
        cells.append(cell)
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=NOTEBOOK_METADATA)
    notebook.nbformat_minor = 5
    return _with_outputs(notebook, target)


def _stub(solution: re.Match[str]) -> str:
    """What learners get in place of a solution; outside a function `...` would be shown as the value of the cell."""
    indent = solution["indent"]
    return f"{indent}# your code here\n" + (f"{indent}...\n" if indent else "")


def parse(text: str) -> list[tuple[str, str, list[str]]]:
    """Cells of a source: ("code" or "markdown", body, tags).

    Raises:
        ValueError: a code cell is not closed.
    """
    notebook = jupytext.reads(text, fmt="md:myst")
    if any(re.search(r"^```", cell.source, re.MULTILINE) for cell in notebook.cells if cell.cell_type == "code"):
        raise ValueError("a code cell is not closed by ```")
    return [(cell.cell_type, cell.source, cell.metadata.get("tags", [])) for cell in notebook.cells]


def _with_outputs(notebook: nbformat.NotebookNode, target: Path) -> nbformat.NotebookNode:
    """Carry over outputs of unchanged cells, and what they were computed with."""
    if target.is_file():
        committed = nbformat.read(target, as_version=4)
        notebook.metadata |= {name: value for name, value in committed.metadata.items() if name in KEPT_METADATA}
        old = {cell["id"]: cell for cell in committed.cells if cell.cell_type == "code"}
        for cell in notebook.cells:
            if cell.cell_type == "code" and cell["id"] in old:
                cell["outputs"] = old[cell["id"]]["outputs"]
                cell["execution_count"] = old[cell["id"]]["execution_count"]
    return notebook


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Build or check every lab; the exit status is 1 if a check found a stale notebook."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing, report what is not current")
    check = parser.parse_args(arguments).check
    stale = 0
    for source in sources(root):
        for target, solutions in targets(source).items():
            text = nbformat.writes(build(source, target, solutions, root)) + "\n"
            if target.is_file() and target.read_text(encoding="utf-8") == text:
                continue
            stale += 1
            print(f"{'stale' if check else 'wrote'}: {target.relative_to(root)}")
            if not check:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text, encoding="utf-8", newline="\n")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())

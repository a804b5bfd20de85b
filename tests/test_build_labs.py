"""The builder of the notebooks: from a text source to the lab and its solutions, and that both are current."""

import ast
import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_output

from tools import build_labs
from tools.links import declared_repository

ROOT = Path(__file__).parents[1]
SOURCES = build_labs.sources()
BUILT = [(source, *pair) for source in SOURCES for pair in build_labs.targets(source).items()]
LABS = [source for source in SOURCES if len(build_labs.targets(source)) == 2]
SOURCE = '''# A lab

{{badges}}

```{code-cell}
:tags: [setup, first]
{{setup}}
```

First text.
+++
Second text, with code that is no cell:

```python
x = 1
```

```{code-cell}
def double(x):
    """Twice x."""
    if x:
        ### BEGIN SOLUTION
        y = 2 * x
        return y
        ### END SOLUTION
    return 0
```

```{code-cell}
print(double(1))
```

```{code-cell}
print(double(1))
```

```{code-cell}
### BEGIN SOLUTION
a = 1
### END SOLUTION (the first)
b = 2
### BEGIN SOLUTION
c = 3
### END SOLUTION
```
'''


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of one lab, not yet built."""
    (tmp_path / "01-topic").mkdir()
    (tmp_path / "01-topic" / "lab_t.src.md").write_text(SOURCE)
    return tmp_path


def source_of(project: Path) -> Path:
    return project / "01-topic" / "lab_t.src.md"


def change(project: Path, old: str, new: str) -> None:
    text = source_of(project).read_text()
    assert old in text
    source_of(project).write_text(text.replace(old, new))


def cells(path: Path) -> list[nbformat.NotebookNode]:
    return nbformat.read(path, as_version=4).cells


def built(project: Path, *arguments: str) -> tuple[Path, Path]:
    """Builds, and gives the lab and its solutions."""
    assert build_labs.main(arguments, project) == 0
    return project / "01-topic" / "lab_t.ipynb", project / "01-topic" / "solutions" / "lab_t.ipynb"


def fill(path: Path) -> None:
    """Gives every code cell an output that names its place."""
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for number, cell in enumerate(code, start=1):
        cell.outputs, cell.execution_count = [new_output("stream", text=f"output {number}")], number
    path.write_text(nbformat.writes(notebook) + "\n")


def outputs(path: Path) -> list[str | None]:
    return [cell.outputs[0].text if cell.outputs else None for cell in cells(path) if cell.cell_type == "code"]


def test_a_source_is_parted_into_cells():
    parsed = build_labs.parse(SOURCE)
    assert [kind for kind, _, _ in parsed] == ["markdown", "code", "markdown", "markdown", *["code"] * 4]
    assert parsed[1] == ("code", "{{setup}}", ["setup", "first"])
    assert parsed[2][1] == "First text."
    assert parsed[3][1].endswith("```python\nx = 1\n```")
    assert not any(tags for kind, _, tags in parsed if kind == "markdown")


@pytest.mark.parametrize("text", ["", "\n\n", "+++\n\n+++\n"])
def test_empty_text_makes_no_cell(text):
    assert build_labs.parse(text) == []


def test_tags_stand_on_the_first_lines_only():
    assert build_labs.parse("```{code-cell}\nx = 1\n:tags: a\n```") == [("code", "x = 1\n:tags: a", [])]


@pytest.mark.parametrize("after", ["```{code-cell}\ny = 2\n```", "text\n\n```python\ny = 2\n```\n\nmore"])
def test_a_code_cell_must_be_closed(after):
    with pytest.raises(ValueError, match="not closed"):
        build_labs.parse(f"text\n```{{code-cell}}\nx = 1\n\n{after}\n")


def test_learners_get_a_stub_at_the_depth_of_the_solution(project):
    lab, _ = built(project)
    sources = [cell.source for cell in cells(lab)]
    stub = 'def double(x):\n    """Twice x."""\n    if x:\n        # your code here\n        ...\n    return 0'
    assert stub in sources
    assert sources[-1] == "# your code here\nb = 2\n# your code here"  # outside a function `...` would be shown
    assert not any("SOLUTION" in text or "2 * x" in text or "a = 1" in text for text in sources)


def test_solutions_keep_the_code_without_its_marks(project):
    _, solutions = built(project)
    sources = [cell.source for cell in cells(solutions)]
    assert "        y = 2 * x\n        return y\n    return 0" in "\n".join(sources)
    assert sources[-1] == "a = 1\nb = 2\nc = 3"
    assert not any("SOLUTION" in text or "your code" in text for text in sources)


def test_each_notebook_has_badges_of_its_own_and_the_setup_cell(project):
    for path in built(project):
        title, setup = cells(path)[:2]
        assert f"main/{path.relative_to(project).as_posix()})" in title.source
        assert setup.metadata.tags == ["setup", "first"]
        assert f"git+https://github.com/{declared_repository()}" in setup.source
        assert "{{" not in "".join(cell.source for cell in cells(path)).replace("{{}}", "")


@pytest.mark.parametrize("mark", ["### BEGIN SOLUTION", "### END SOLUTION"])
def test_a_mark_without_partner_is_an_error(project, mark):
    change(project, "print(double(1))", mark)
    with pytest.raises(ValueError, match=rf"lab_t\.src\.md: '{mark}' has no partner"):
        build_labs.main([], project)


def test_a_source_without_solutions_makes_one_notebook(project):
    source_of(project).write_text("# A lab\n\n```{code-cell}\nx = 1\n```\n")
    lab, solutions = built(project)
    assert lab.is_file() and not solutions.parent.exists()


def test_building_again_changes_no_byte(project, capsys):
    paths = built(project)
    assert capsys.readouterr().out.count("wrote: 01-topic/") == 2
    for path in paths:
        fill(path)
    before = [path.read_bytes() for path in paths]
    built(project)
    assert [path.read_bytes() for path in paths] == before
    assert capsys.readouterr().out == ""
    assert build_labs.main(["--check"], project) == 0


def test_outputs_of_unchanged_cells_are_kept_and_others_dropped(project):
    lab, solutions = built(project)
    fill(lab)
    fill(solutions)
    change(project, "y = 2 * x", "y = x + x")
    change(project, "First text.", "Other text.\n\n```{code-cell}\nnew = 1\n```\n")
    built(project)
    assert outputs(lab) == ["output 1", None, "output 2", "output 3", "output 4", "output 5"]
    assert outputs(solutions) == ["output 1", None, None, "output 3", "output 4", "output 5"]
    assert [cell.execution_count for cell in cells(lab) if cell.cell_type == "code"] == [1, None, 2, 3, 4, 5]


def test_ids_are_stable_unique_and_do_not_depend_on_the_address(project, monkeypatch):
    lab, _ = built(project)
    before = {cell.id: cell.source for cell in cells(lab)}
    assert len(before) == len(cells(lab))
    change(project, "# A lab", "# A lab\n+++\nMore text.")
    change(project, "print(double(1))", "print(double(1))  # changed")
    monkeypatch.setattr(build_labs, "declared_repository", lambda: "someone/else")
    built(project)
    after = {cell.id: cell.source for cell in cells(lab)}
    same = {key for key in before if after.get(key) == before[key]}
    assert len(same) == len(before) - 4  # all but title, setup, and the two cells changed
    (setup,) = [cell for cell in cells(lab) if "setup" in cell.metadata.get("tags", [])]
    assert setup.id in before and "someone/else" in setup.source


@pytest.mark.parametrize(
    ("old", "new", "stale"),
    [
        ("First text.", "Other text.", {"lab_t.ipynb", "solutions/lab_t.ipynb"}),
        ("y = 2 * x", "y = x + x", {"solutions/lab_t.ipynb"}),  # what learners see stays
    ],
)
def test_check_finds_what_is_stale_and_changes_nothing(project, old, new, stale, capsys):
    paths = built(project)
    before = [path.read_bytes() for path in paths]
    change(project, old, new)
    capsys.readouterr()
    assert build_labs.main(["--check"], project) == 1
    assert set(capsys.readouterr().out.split("\n")) == {*(f"stale: 01-topic/{name}" for name in stale), ""}
    assert [path.read_bytes() for path in paths] == before


def test_check_finds_a_notebook_edited_by_hand_or_missing(project):
    lab, solutions = built(project)
    lab.write_text(lab.read_text().replace("Second text", "Edited text"))
    assert build_labs.main(["--check"], project) == 1
    built(project)
    solutions.unlink()
    assert build_labs.main(["--check"], project) == 1


# ------------------------------------------------------------------------------------------- the labs of this project
@pytest.mark.parametrize(("source", "target", "solutions"), BUILT, ids=lambda value: getattr(value, "name", None))
def test_committed_notebook_is_what_its_source_says(source, target, solutions):
    assert target.is_file(), "run: python -m tools.build_labs"
    text = nbformat.writes(build_labs.build(source, target, solutions)) + "\n"
    assert text == target.read_text(), "run: python -m tools.build_labs"


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_every_notebook_has_a_source(source):
    notebooks = {*source.parent.glob("*.ipynb"), *source.parent.glob("solutions/*.ipynb")}
    assert notebooks == set(build_labs.targets(source))


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_a_fold_that_opens_as_html_holds_no_markdown(source):
    """Up to the first empty line, which notebooks show as it stands; what is code may hold any sign."""
    for fold in re.findall(r"<details>.*?(?:</details>|\n\s*\n)", source.read_text(), flags=re.DOTALL):
        words = re.sub(r"<code>.*?</code>", "", fold, flags=re.DOTALL)
        assert not re.search(r"(?<![\w*])\*[^\s*][^*\n]*\*|`|\]\(", words), fold


def test_there_are_no_other_notebooks():
    found = {path for path in ROOT.glob("[0-9][0-9]-*/**/*.ipynb") if ".ipynb_checkpoints" not in path.parts}
    assert found == {target for _, target, _ in BUILT}


@pytest.mark.parametrize("source", LABS, ids=lambda path: path.name)
def test_each_exercise_is_complete(source):
    """Goal, inputs and outputs, minutes, a stub, its check, two folded hints, and where the solution is."""
    parts = re.split(r"^#### Exercise ", source.read_text(), flags=re.MULTILINE)[1:]
    assert len(parts) >= 2
    numbers = [part.split(":")[0] for part in parts]
    assert numbers == sorted(numbers), "exercises stand in the order of their numbers"
    for number, part in zip(numbers, parts, strict=True):
        needed = ("minutes", "**Goal.**", "* **In:**", "* **Out:**", "### BEGIN SOLUTION", ".check_")
        hints = ("<summary>Hint 1</summary>", "<summary>Hint 2</summary>", "<summary>Solution</summary>")
        assert not [text for text in (*needed, *hints) if text not in part], f"Exercise {number}"


@pytest.mark.parametrize("source", LABS, ids=lambda path: path.name)
def test_no_other_cell_needs_what_learners_write(source):
    """But through `written`, which has the library's version step in."""
    bodies = [body for kind, body, _ in build_labs.parse(source.read_text()) if kind == "code"]
    stubs = [body for body in bodies if "### BEGIN SOLUTION" in body]
    first = [ast.parse(body).body[0] for body in stubs]
    own = {node.name if isinstance(node, ast.FunctionDef) else ast.unparse(node.targets[0]) for node in first}
    assert len(own) == len(stubs)
    for body in bodies:
        if body not in stubs and ".check_" not in body and "reading.written(" not in body and "{{" not in body:
            names = {node.id for node in ast.walk(ast.parse(body)) if isinstance(node, ast.Name)}
            assert not names & own

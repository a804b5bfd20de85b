"""The mini-projects of Lab 3: each says all that it has to, and begins with something that runs."""

import re
import shlex
from pathlib import Path

import pytest

import bengelib
from bengelib.__main__ import main
from bengelib.data.packed import PackedBENGE
from bengelib.engine import Trainer
from tests import fake_tree as fake
from tests.image_folders import write_images

PAGE = Path(__file__).parents[1] / "03-ssl" / "projects.md"
TEXT = PAGE.read_text(encoding="utf-8")
START, *PROJECTS = re.split(r"^### ", TEXT, flags=re.MULTILINE)
CELL = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
COMMANDS = re.compile(r"^```bash\n(.*?)^```", re.DOTALL | re.MULTILINE)
CELLS = {project.partition("\n")[0]: CELL.findall(project) for project in PROJECTS}
RUN = [command for project in PROJECTS for block in COMMANDS.findall(project) for command in block.splitlines()]
SMALL = {"--epochs": "1", "--batch-size": "8", "--size": "32", "--width": "8", "--view": "16"}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Twenty patches on five tiles, packed."""
    root = fake.write_fake_tree(tmp_path_factory.mktemp("projects") / "ben-ge-sim", 20)
    bengelib.pack(root, progress=False)
    return root


def test_there_are_twelve_in_six_themes():
    assert [int(project.split(" ")[0]) for project in PROJECTS] == list(range(1, 13))
    themes = re.findall(r"^## (.*)$", TEXT, re.MULTILINE)
    assert themes == ["Augmentations", "Objectives", "Architecture", "Sampling", "Location", "Scale"]


@pytest.mark.parametrize("project", PROJECTS, ids=[project.partition("\n")[0] for project in PROJECTS])
def test_each_says_what_to_do(project):
    parts = [project.index(f"**{part}**") for part in ("Question.", "Measure.", "A surprise.", "Hours.")]
    assert parts == sorted(parts)
    assert len(CELL.findall(project)) + len(COMMANDS.findall(project)) == 1
    assert re.search(r"\*\*Hours\.\*\* [1-4]\.\n", project)


@pytest.mark.parametrize("name", [name for name, cells in CELLS.items() if cells])
def test_each_cell_runs(name, tree, monkeypatch, capsys):
    """On twenty patches, one epoch, in the namespace that the first cell leaves."""
    monkeypatch.setattr(bengelib, "load", lambda _, *given, **options: PackedBENGE(tree, *given, **options))
    monkeypatch.setattr("bengelib.engine.fit", Trainer(precision="no", progress=False).fit)
    (first,), (cell,) = CELL.findall(START), CELLS[name]
    namespace = {}
    for lines in (first, "epochs, batch_size, size = 1, 6, 24\nencoder = EarlyFusion(s2, width=0.125)", cell):
        exec(lines, namespace)


@pytest.mark.parametrize("command", RUN)
def test_each_command_runs(command, tree, tmp_path, monkeypatch, capsys):
    """With few and small images; `bench`, which only measures, is parsed with the other commands of pages."""
    program, *words = shlex.split(command)
    assert [program, *words[:2]] == ["python", "-m", "bengelib"]
    if words[2] == "bench":
        return
    if words[2] == "simulate":
        words[words.index("--patches") + 1] = "2"
    monkeypatch.chdir(tmp_path)
    images = write_images(tmp_path / "images") if "--images" in words else None
    root = str(images or (tmp_path / "new" if words[2] == "simulate" else tree))
    words = [root if word in ("DIR", "ben-ge-sim") else word for word in words[2:]]
    if words[0] == "pretrain":
        small = {**SMALL, **({"--size": "40"} if "multi-pretext" in words else {})}
        for option, value in small.items():
            if option in words:
                words[words.index(option) + 1] = value
            elif option != "--view":
                words += [option, value]
        words += ["--precision", "no"]
        if "--micro-batch" in words:
            words[words.index("--micro-batch") + 1] = "4"
    assert main(words) == 0, capsys.readouterr().err

"""The house stands as `docs/architecture.md` says: who imports whom, what has a test of its name, and the drawing."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools import house

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "bengelib"
MODULES = sorted(
    path.relative_to(PACKAGE).with_suffix("").as_posix()
    for path in PACKAGE.rglob("*.py")
    if path.name not in ("__init__.py", "__main__.py")
)
WINGS = sorted(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file())
TESTED_ELSEWHERE = {
    "cli/bench_pretrain": "cli/test_bench.py",
    "cli/bench_views": "cli/test_bench.py",
    "course/checks_intervals": "course/test_checks.py",
    "data/batches": "test_engine.py",
    "data/csv_text": "data/test_tables.py",
    "data/decode": "test_transforms.py",
    "data/guess": "data/test_describe.py",
    "data/guess_layout": "data/test_describe.py",
    "data/labelled": "test_probe.py",
    "data/patches": "data/test_dataset.py",
    "data/transfer": "data/test_download.py",
    "devices": "test_engine.py",
    "errors": "test_main.py",
    "inputs": "test_fusion.py",
    "methods/geolocation": "test_ssl.py",
    "plot/results": "plot/test_samples.py",
    "plot/style": "plot/test_samples.py",
    "recipes/finetuning": "test_probe.py",
    "recipes/label_efficiency": "test_probe.py",
    "recipes/published": "recipes/test_pretrained.py",
    "sim/geotiff": "sim/test_simulate.py",
    "sim/labels": "sim/test_simulate.py",
    "sim/optical": "sim/test_simulate.py",
    "sim/patch": "sim/test_simulate.py",
    "sim/places": "sim/test_simulate.py",
    "sim/procedural": "sim/test_simulate.py",
    "sim/radar": "sim/test_simulate.py",
    "sim/scene": "sim/test_simulate.py",
    "sim/tiles": "sim/test_simulate.py",
    "sim/weather": "sim/test_simulate.py",
}
"""Modules without a test file of their name, and where their tests stand."""


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """What `lint-imports` says of the package in `folder`."""
    code = "from importlinter.cli import lint_imports_command as lint; lint(['--no-cache'])"
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=300)


def test_every_module_imports_only_what_stands_below_it():
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "added",
    [
        {
            ("tasks", "from bengelib.recipes import finetuning"): "bengelib.tasks -> bengelib.recipes.finetuning",
            ("data/tables", "def late():\n    from bengelib.engine import fit\n    return fit"): (
                "bengelib.data.tables -> bengelib.engine"
            ),
            ("sim/patch", "import bengelib.data.tables"): "bengelib.sim.patch -> bengelib.data.tables",
        },
        {("newcomer", "x = 1"): "newcomer"},  # nobody said where it belongs
    ],
    ids=["imports", "newcomer"],
)
def test_an_import_of_something_above_is_found(added, tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "bengelib", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for module, statement in added:
        with (tmp_path / "bengelib" / f"{module}.py").open("a") as file:
            file.write(f"\n{statement}\n")
    done = lint(tmp_path)
    assert done.returncode == 1
    for said in added.values():
        assert said in done.stdout


def test_no_two_modules_import_each_other():
    """Each module can be read, and copied, after those that it imports."""
    after: dict[str, set[str]] = {}
    for one, other in house.imports(PACKAGE):
        after.setdefault(one, set()).add(other)
    while ready := {module for modules in after.values() for module in modules} - set(after):
        after = {module: modules - ready for module, modules in after.items()}
        after = {module: modules for module, modules in after.items() if modules}
    assert not after


@pytest.mark.parametrize("wing", WINGS)
def test_a_wing_says_what_it_is_and_holds_nothing_itself(wing):
    text = (PACKAGE / wing / "__init__.py").read_text()
    assert text.startswith('"""') and (wing == "plot" or "import " not in text.rpartition('"""')[2])


def test_each_module_has_a_test_file_of_its_name_or_stands_in_the_list():
    def file_of(module: str) -> str:
        folder, _, name = module.rpartition("/")
        return f"{folder}/test_{name}.py".lstrip("/")

    without = {module for module in MODULES if not (ROOT / "tests" / file_of(module)).is_file()}
    assert without == set(TESTED_ELSEWHERE)
    assert all((ROOT / "tests" / tests).is_file() for tests in TESTED_ELSEWHERE.values())


def test_the_page_shows_the_house_as_it_is():
    page = (ROOT / "docs" / "architecture.md").read_text()
    drawing = house.draw(PACKAGE, ROOT / "pyproject.toml")
    assert house.PLACE.search(page)[0] == f"<!-- house -->\n```mermaid\n{drawing}```\n<!-- end of house -->", (
        "run: python -m tools.house --write docs/architecture.md"
    )
    shown = house.rooms(PACKAGE, ROOT / "pyproject.toml").values()
    assert {name.replace(".", "/") for members in shown for name in members} == set(MODULES)


def test_a_flat_package_is_one_room(tmp_path, capsys):
    package = tmp_path / "flat"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "above.py").write_text("from flat import below\nfrom flat.below import x\n")
    (package / "below.py").write_text("x = 1\n")
    assert house.main([str(package)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "%% 2 modules, 1 room, 1 import",
        "flowchart TD",
        '    flat["<b>flat</b><br/>2 modules, 1 import<br/>above below"]',
    ]

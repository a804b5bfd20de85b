"""What `pip install` brings: a wheel built from the tree, without network, has every module and works by itself."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "bengelib").rglob("*.py"))


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The folder that the wheel unpacks into. It is built from a copy, since building leaves files behind."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("bengelib", "tests", "tools"):  # the last two are not for the wheel
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    code = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", code, str(target)], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = target.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    wheel.unlink()
    return target


def test_the_wheel_has_every_module_and_nothing_else(installed):
    assert sorted(path.relative_to(installed).as_posix() for path in installed.rglob("*.py")) == MODULES
    assert {path.name.partition("-")[0] for path in installed.iterdir()} == {"bengelib"}


def test_every_module_of_the_wheel_can_be_imported(installed):
    names = [name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in MODULES]
    code = f"""
import sys
sys.path.insert(0, {str(installed)!r})
from importlib import import_module
for name in {[name for name in names if not name.endswith("__main__")]!r}:
    assert import_module(name).__file__.startswith({str(installed)!r}), name
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=installed, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr


def test_the_simulator_finds_its_workers_in_it(installed, tmp_path):
    for folder in ("sentinel-1", "sentinel-2", "dem", "esaworldcover"):
        (tmp_path / folder).mkdir()
    code = f"""
import sys
sys.path.insert(0, {str(installed)!r})
from bengelib.sim.patch import Job
from bengelib.sim.places import Place, window_pixels
from bengelib.sim.simulate import Path, _draw
job = Job(0, Place(0, 0, 60, 40), window_pixels(0), -8.2, 38.4)
print(len([*_draw(Path({str(tmp_path)!r}), 0, [job], 2)]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert (done.stdout, done.stderr) == ("1\n", "")

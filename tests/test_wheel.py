"""What `pip install` brings: a wheel and a source distribution, built without network, work by themselves."""

import email
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.fake_tree import write_fake_tree

ROOT = Path(__file__).parents[1]
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "bengelib").rglob("*.py"))


def pip_install(built: Path, pattern: str, target: Path) -> Path:
    """Install the one file of that pattern alone into a folder, without network, from an empty folder."""
    (file,) = built.glob(pattern)
    target.mkdir(parents=True)
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(file)]
    done = subprocess.run(command, cwd=target, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory) -> Path:
    """The folder that the wheel was installed into; it has a blank and letters that are not English in its name."""
    return pip_install(built, "*.whl", tmp_path_factory.mktemp("installed") / "with blank, äé")


def run(installed: Path, code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run code with the installed package, and with nothing of this repository, which may be on the path of a test."""
    start = f"import sys; sys.path.insert(0, {str(installed)!r})\n"
    return subprocess.run(
        [sys.executable, "-X", "utf8", "-I", "-c", start + code],
        cwd=cwd,
        capture_output=True,
        encoding="utf-8",
        timeout=600,
    )


def test_the_wheel_has_every_module_and_nothing_else(installed):
    assert sorted(path.relative_to(installed).as_posix() for path in installed.rglob("*.py")) == MODULES
    assert {path.name.partition("-")[0] for path in installed.iterdir()} == {"bengelib"}


def test_the_source_distribution_installs_as_the_same_package(built, installed, tmp_path):
    other = pip_install(built, "*.tar.gz", tmp_path / "source")

    def content(folder: Path) -> dict[str, bytes]:
        files = (path for path in (folder / "bengelib").rglob("*") if path.is_file() and path.suffix != ".pyc")
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}

    assert content(other) == content(installed)
    with tarfile.open(*built.glob("*.tar.gz")) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "pyproject.toml"} <= names


def test_the_package_is_typed_for_those_who_import_it(installed):
    assert (installed / "bengelib" / "py.typed").is_file()
    assert (installed / "bengelib" / "plot" / "coastline.txt").is_file()


def test_the_metadata_tell_a_stranger_what_it_is(built):
    with zipfile.ZipFile(*built.glob("*.whl")) as wheel:
        (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = email.message_from_bytes(wheel.read(name))
    assert {"Summary", "License-Expression", "License-File", "Requires-Python", "Keywords"} <= set(metadata)
    assert "Typing :: Typed" in metadata.get_all("Classifier", [])
    urls = dict(line.split(", ", 1) for line in metadata.get_all("Project-URL", []))
    assert {"Repository", "Changelog", "Issues"} == set(urls)
    assert all(url.startswith(urls["Repository"]) for url in urls.values())


def test_twine_has_nothing_to_say(built):
    pytest.importorskip("twine")
    command = [sys.executable, "-m", "twine", "check", "--strict", *map(str, built.iterdir())]
    done = subprocess.run(command, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_ten_lines_of_the_readme_run_and_every_module_is_imported_without_the_repository(installed, tmp_path):
    (lines,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    write_fake_tree(tmp_path / "data" / "ben-ge-8k", 12)
    lines = lines.replace("epochs=10", "epochs=1")
    names = [name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in MODULES]
    code = f"""
from importlib import import_module
for name in {[name for name in names if not name.endswith("__main__")]!r}:
    assert import_module(name).__file__.startswith({str(installed)!r}), name
"""
    done = run(installed, lines + code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "climate_zone/accuracy" in done.stdout


def test_the_simulator_finds_its_workers_in_it(installed, tmp_path):
    for folder in ("sentinel-1", "sentinel-2", "dem", "esaworldcover"):
        (tmp_path / folder).mkdir()
    code = f"""
from bengelib.sim.patch import Job
from bengelib.sim.places import Place, window_pixels
from bengelib.sim.simulate import Path, _draw
job = Job(0, Place(0, 0, 60, 40), window_pixels(0), -8.2, 38.4)
print(len([*_draw(Path({str(tmp_path)!r}), 0, [job], 2)]))
"""
    done = run(installed, code, tmp_path)
    assert (done.stdout, done.stderr) == ("1\n", "")

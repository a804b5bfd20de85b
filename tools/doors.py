"""Opens every lab through every door, as far as that goes without a network, and prints a table.

    python -m tools.doors                       # small knobs, which show the mechanics and no result
    python -m tools.doors --quick               # the knobs that the labs come with
    python -m tools.doors --door colab --lab 01

The doors: Colab (a fresh environment that says it is Colab; the setup cell installs a wheel of this checkout), Binder
(one core, 2 GB), JupyterLab and Notebook 7 (a browser runs all cells), VS Code (a kernel that starts in the folder
above), and pip (the wheel and the source distribution in a fresh environment, then the lines of the README). All of
them work on copies. Pictures, notebooks and the table go to build/doors/. A door that cannot be tried here says why.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import nbformat

from tools import browser, clean_outputs, fresh, run_labs
from tools.links import ROOT, declared_repository

REDUCED: dict[str, dict[str, object]] = {
    "01-data_fusion": {"PATCHES": 120, "EPOCHS": 1, "SEEDS": (0, 1)},
    "02-mtl": {"PATCHES": 120, "EPOCHS": 1, "SEEDS": (0, 1)},
    "03-ssl": {"PATCHES": 120, "EPOCHS": 1, "STEPS": 2, "SEEDS": (0, 1)},
}
"""Knobs on which only the mechanics of a lab show, by its folder."""
BINDER = {"CPU_LIMIT": "1.0", "MEM_LIMIT": "2147483648"}
"""What JupyterHub tells a user's server on MyBinder."""
LONGEST = 3600.0  # seconds for one lab in a browser
README = re.compile(r"```python\n(.*?)```", re.DOTALL)


class Row(NamedTuple):
    """One lab through one door: seconds and peak memory in bytes (None if not known), and what was found."""

    door: str
    lab: str
    seconds: float
    memory: int | None
    shown: str
    fault: str | None


class Skipped(Exception):
    """A door that cannot be tried here; the message says why."""


class Opened(NamedTuple):
    """What the doors share: a clone, a folder for scratch and one for results, the labs, and whether knobs stay."""

    clone: Path
    scratch: Path
    output: Path
    labs: list[str]
    quick: bool

    def knobs(self, lab: str) -> Mapping[str, Any]:
        """The knobs to set in a lab, given as its path in the clone."""
        return {} if self.quick else REDUCED[lab.partition("/")[0]]


def colab(opened: Opened) -> Iterator[Row]:
    """Each lab alone in an empty folder, on a fresh environment that it installs the package into."""
    if sys.platform == "win32":
        raise Skipped("a fresh environment is made of symbolic links")
    wheel, _ = _built(opened)
    for lab in opened.labs:
        stem = Path(lab).stem
        content = opened.scratch / f"content-{stem}"
        python = fresh.fresh_environment(opened.scratch / f"colab-{stem}", colab=True)
        content.mkdir()
        notebook = from_wheel(nbformat.read(opened.clone / lab, as_version=4), wheel)
        if notebook.metadata.get("accelerator") != "GPU":
            yield Row("colab", lab, 0.0, None, "", "the metadata preselect no GPU")
        nbformat.write(notebook, content / Path(lab).name)
        kernel = kernel_of(python, opened.scratch / f"kernel-{stem}")
        with environment({"PIP_NO_INDEX": "1", "BENGE_DATA": None, **kernel}):
            row = _run("colab", opened, content / Path(lab).name, lab)
        sets = sorted(path.name for path in content.glob("data/*"))
        yield row._replace(
            shown=f"{row.shown}, data in ./data: {', '.join(sets)}",
            fault=row.fault or (None if sets else "the data are not on the local disk"),
        )


def binder(opened: Opened) -> Iterator[Row]:
    """Each lab in the clone on one core, ended when it holds more than 2 GB."""
    if find_spec("repo2docker"):
        picked = detected(opened.clone)
        found = None if picked.startswith("Building conda environment") else f"repo2docker: {picked}"
        yield Row("binder", "repo2docker --no-build", 0.0, None, picked, found)
    with environment(BINDER), _one_core():
        for lab in opened.labs:
            yield _run("binder", opened, opened.clone / lab, lab, memory_limit=int(BINDER["MEM_LIMIT"]))


def vscode(opened: Opened) -> Iterator[Row]:
    """Each lab on a kernel that starts in the folder of the clone, not in that of the notebook."""
    for lab in opened.labs:
        yield _run("vscode", opened, opened.clone / lab, lab, folder=opened.clone)


def jupyterlab(opened: Opened) -> Iterator[Row]:
    """Each lab in JupyterLab."""
    yield from _in_browser("jupyterlab", opened)


def notebook(opened: Opened) -> Iterator[Row]:
    """Each lab in Jupyter Notebook 7."""
    if not find_spec("notebook"):
        raise Skipped("notebook is not installed")
    yield from _in_browser("notebook", opened)


def pip(opened: Opened) -> Iterator[Row]:
    """The wheel and the source distribution, each in a fresh environment, with the lines of the README."""
    if sys.platform == "win32":
        raise Skipped("a fresh environment is made of symbolic links")
    (lines,) = README.findall((opened.clone / "README.md").read_text(encoding="utf-8"))
    lines = lines.replace("ben-ge-8k", "ben-ge-sim")  # which is simulated instead of downloaded
    code = lines if opened.quick else lines.replace("epochs=10", "epochs=1")
    patches = ["--patches", "1000" if opened.quick else "40"]
    for package in _built(opened):
        started = time.monotonic()
        folder = opened.scratch / f"pip-{package.suffix[1:]}"
        python = fresh.fresh_environment(folder)
        try:
            moved = fresh.install(python, package)
            work = folder / "work"
            work.mkdir()
            _called([python, "-m", "bengelib", "simulate", "--root", "data/ben-ge-sim", *patches], work)
            shown = _called([python, "-I", "-c", f"{code}\nimport bengelib\nprint(bengelib.__file__)"], work)
            fault = f"{moved} moved" if moved else None
            if not Path(shown[-1]).is_relative_to(folder) or "climate_zone/accuracy" not in "".join(shown):
                fault = f"the lines of the README print {shown[-2:]}"
            said = "installs; the lines of the README run"
        except subprocess.CalledProcessError as error:
            said, fault = "", (error.stdout or "").strip()[-300:]
        yield Row("pip", package.name, time.monotonic() - started, None, said, fault)
    if find_spec("twine"):
        built = [str(path) for path in _built(opened)]
        done = subprocess.run(
            [sys.executable, "-m", "twine", "check", "--strict", *built], capture_output=True, encoding="utf-8"
        )
        yield Row("pip", "twine check --strict", 0.0, None, f"{done.stdout.count('PASSED')} passed",
                  done.stdout if done.returncode else None)  # fmt: skip


DOORS: dict[str, Callable[[Opened], Iterator[Row]]] = {
    "pip": pip,
    "colab": colab,
    "binder": binder,
    "vscode": vscode,
    "jupyterlab": jupyterlab,
    "notebook": notebook,
}


def from_wheel(lab: nbformat.NotebookNode, wheel: Path) -> nbformat.NotebookNode:
    """A lab whose setup cell installs `wheel` where it names the public repository; the rest of the cell stays.

    Raises:
        ValueError: the setup cell does not name it exactly once.
    """
    (setup,) = [cell for cell in lab.cells if "setup" in cell.metadata.get("tags", [])]
    public = f"git+https://github.com/{declared_repository()}"
    if setup.source.count(public) != 1:
        raise ValueError(f"the setup cell names {public} {setup.source.count(public)} times instead of once")
    setup.source = setup.source.replace(public, wheel.as_uri())
    return lab


def kernel_of(python: Path, folder: Path) -> dict[str, str]:
    """Variables with which the kernel `python3` runs on another interpreter; `folder` takes its description."""
    arguments = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    place = folder / "kernels" / "python3"
    place.mkdir(parents=True)
    description = {"argv": arguments, "display_name": "Python 3", "language": "python"}
    (place / "kernel.json").write_text(json.dumps(description), encoding="utf-8")
    return {"JUPYTER_PATH": str(folder)}


def detected(folder: Path) -> str:
    """The line in which repo2docker says what it would build of `folder`."""
    command = [sys.executable, "-m", "repo2docker", "--no-build", "--debug", str(folder)]
    done = subprocess.run(command, cwd=folder.parent, capture_output=True, encoding="utf-8")
    lines = [line for line in (done.stdout + done.stderr).splitlines() if re.match(r"Building |Using .*builder", line)]
    return lines[0].strip() if lines else (done.stdout + done.stderr)[-200:]


@contextmanager
def environment(values: Mapping[str, str | None]) -> Iterator[None]:
    """Set variables for a while, or take them away where the value is None."""
    before = {name: os.environ.get(name) for name in values}
    _set(values)
    try:
        yield
    finally:
        _set(before)


def _set(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@contextmanager
def _one_core() -> Iterator[None]:
    """Keep this process and those that it starts to one core, where the system can."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _built(opened: Opened) -> tuple[Path, Path]:
    """The wheel and the source distribution, built once."""
    target = opened.scratch / "dist"
    if not target.exists():
        if not find_spec("build"):
            raise Skipped("build is not installed")
        try:
            fresh.build(fresh.copy_clone(opened.scratch / "source"), target)
        except subprocess.CalledProcessError as error:
            raise Skipped(f"nothing can be built: {error.stdout[-300:]}") from error
    (wheel,), (archive,) = target.glob("*.whl"), target.glob("*.tar.gz")
    return wheel, archive


def _run(
    door: str, opened: Opened, path: Path, lab: str, folder: Path | None = None, memory_limit: int | None = None
) -> Row:
    """Run a lab on a kernel and look at what every run must have."""
    result, done = run_labs.run_lab(
        path, opened.output / door, opened.knobs(lab), f"{door} {lab}", folder=folder, memory_limit=memory_limit
    )
    return Row(door, lab, result.seconds, result.memory, _cells(done), result.error or _fault(done))


def _in_browser(frontend: str, opened: Opened) -> Iterator[Row]:
    """Run each lab in a front end, on a copy of the clone of its own."""
    if why := browser.playwright_chromium():
        raise Skipped(why)
    scratch = opened.scratch / frontend
    clone = fresh.copy_clone(scratch / "clone")
    variables = {**fresh.outside(), "BENGE_DATA": os.environ["BENGE_DATA"]}
    with browser.server(frontend, clone, scratch, variables) as address, browser.browser() as chromium:
        for lab in opened.labs:
            started = time.monotonic()
            opening = nbformat.read(clone / lab, as_version=4)
            run_labs.set_knobs(opening, opened.knobs(lab))
            for cell in opening.cells:
                if cell.cell_type == "code":
                    cell.outputs, cell.execution_count = [], None
            nbformat.write(opening, clone / lab)
            page = chromium.new_page(viewport={"width": browser.WIDTH, "height": browser.HEIGHT})
            try:
                seen = browser.run_all(page, frontend, address, lab, opened.output / frontend, LONGEST)
            except Exception as error:  # of Playwright: whatever it is, the other labs are still to be opened
                page.screenshot(path=_folder(opened.output / frontend) / f"{Path(lab).stem}-failed.png")
                yield Row(frontend, lab, time.monotonic() - started, None, "", str(error).strip()[:300])
                continue
            finally:
                page.close()
            done = nbformat.read(clone / lab, as_version=4)
            shutil.copy(clone / lab, opened.output / frontend)
            fault = next(iter(seen.faults), None) or _fault(done)
            for what, count in (("formulas", seen.formulas), ("images", seen.images), ("answers", seen.details)):
                fault = fault or (None if count else f"no {what} show")
            shown = f"{_cells(done)}, {seen.images} images, {seen.formulas} formulas, {seen.details} answers open"
            yield Row(frontend, lab, time.monotonic() - started, None, shown, fault)


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def _code(lab: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in lab.cells if cell.cell_type == "code" and cell.source.strip()]


def _cells(lab: nbformat.NotebookNode) -> str:
    """How many of the cells ran, in words."""
    code = _code(lab)
    return f"{sum(cell.execution_count is not None for cell in code)} of {len(code)} cells"


def _fault(lab: nbformat.NotebookNode) -> str | None:
    """What is wrong with a lab after its run, None if nothing is."""
    for cell in _code(lab):
        for output in cell.outputs:
            if output.output_type == "error":
                return f"{output.ename}: {output.evalue}"[:300]
        if cell.execution_count is None:
            return f"a cell did not run: {cell.source.splitlines()[0]}"
    if not run_labs.headline(lab):
        return "no result at the end"
    warned = [str(problem) for problem in clean_outputs.clean(lab) if "stderr" in problem.text]
    return warned[0][:300] if warned else None


def _called(command: Sequence[str | Path], folder: Path) -> list[str]:
    """The lines that a command prints, as a user without a checkout calls it."""
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env=fresh.outside(), check=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8",
    )  # fmt: skip
    return done.stdout.splitlines()


def table(rows: Sequence[Row]) -> str:
    """The rows as an aligned text table."""
    texts = [("door", "what", "minutes", "peak memory", "result", "shown")]
    for row in rows:
        memory = "" if row.memory is None else f"{row.memory / 1e6:.0f} MB"
        minutes = f"{row.seconds / 60:.1f}" if row.seconds else ""
        result = "ok" if row.fault is None else row.fault if row.fault.startswith("skipped") else "FAILED"
        texts.append((row.door, row.lab, minutes, memory, result, row.shown))
    widths = [max(len(text[column]) for text in texts) for column in range(len(texts[0]))]
    lines = ["  ".join(word.ljust(width) for word, width in zip(text, widths, strict=True)).rstrip() for text in texts]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def main(arguments: Sequence[str] | None = None) -> int:
    """Open the doors named on the command line; returns 1 if one fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--door", choices=DOORS, nargs="+", default=list(DOORS), help="only these (default: all)")
    parser.add_argument("--lab", help="the number of one lab, as 01 (default: all)")
    parser.add_argument("--quick", action="store_true", help="the knobs that the labs come with, not smaller ones")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "doors", help="where pictures and the table go")
    options = parser.parse_args(arguments)
    try:
        labs = [path.relative_to(ROOT).as_posix() for path in run_labs.find_labs(ROOT, options.lab)]
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 2
    rows: list[Row] = []
    output = _folder(options.output.resolve())
    os.environ.pop("PYTHONPATH", None)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # servers and copies are cleared away
    with tempfile.TemporaryDirectory(prefix="doors-") as folder, environment({"BENGE_DATA": f"{folder}/data"}):
        scratch = Path(folder)
        opened = Opened(fresh.copy_clone(scratch / "clone"), scratch, output, labs, options.quick)
        for door in options.door:
            try:
                for row in DOORS[door](opened):
                    print(f"{door} {row.lab}: {row.fault or 'ok'}", flush=True)
                    rows.append(row)
            except Skipped as reason:
                rows.append(Row(door, "", 0.0, None, "", f"skipped: {reason}"))
    text = table(rows)
    (output / "table.txt").write_text(f"{text}\n", encoding="utf-8")
    print(f"\n{text}")
    failed = [row for row in rows if row.fault and not row.fault.startswith("skipped")]
    for row in failed:
        print(f"FAILED {row.door} {row.lab}: {row.fault}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

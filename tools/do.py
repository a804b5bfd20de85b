"""The commands of the project, with make or without it.

    python -m tools.do labs LAB=01

does what `make labs LAB=01` does: the Makefile only hands its target and its variables to this file. It needs nothing
but the standard library, since it makes the environment that everything else runs in.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WINDOWS = sys.platform == "win32"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
# As many cores as there are, up to four: each process takes 1.5 GB, or 2.5 while it runs a lab.
IN_PARALLEL = ("-n", "logical", "--maxprocesses", "4", "--dist", "worksteal")
VARIABLES = ("LAB", "DATASET", "FULL", "TORCH", "PYTHON", "VENV", "LOWEST_PYTHON", "REPO", "DOOR")
"""What a command heeds, from the environment or as NAME=VALUE; one without a value counts as not given."""
HELP = """\
{do} labs      run every lab in a fresh kernel; notebooks and pages go to build/labs/
               LAB=01 only that one; FULL=1 the full knobs; DATASET=ben-ge-800 real data,
               or DATASET="path of a folder", from where the command is called
{do} test      run the quick test suite
{do} test-lowest, {do} test-newest   the same with the oldest and the newest versions admitted,
               in {lowest} and {newest}
{do} jupyter   open JupyterLab on the same environment
{do} lint      check style, types and layers
{do} venv      only create {venv} and install into it; the other commands do so where needed
{do} slides    build the slides of the course: PDF beside their sources, HTML in build/slides/
{do} handouts  make notebooks without outputs, prints on A4 and the answer key in build/handouts/;
               LAB=01 only that one (slides and handouts need Node.js and Chromium)
{do} site      build the site into build/site/ and look at it in a browser
{do} doors     open every lab on Colab, Binder, JupyterLab, Notebook, VS Code and by pip, as far as
               that goes here, on small knobs; FULL=1 the labs' own; LAB=01 or DOOR=colab only that
{do} links REPO=owner/name   write another public address into badges, setup cells and citation
{do} clean     remove what the commands wrote, but not data/, {venv}* and the runs of studies
TORCH=cpu      with any of them, before its environment exists: the small processor-only PyTorch
PYTHON=...     with any of them, before its environment exists: another interpreter than {python}
               (test-newest has an environment for each, test-lowest LOWEST_PYTHON=...)"""


class Stop(Exception):
    """The end of a command that cannot go on: what to say, and the exit status."""

    def __init__(self, status: int, message: str = "") -> None:
        super().__init__(message)
        self.status = status


class Project:
    """The commands, each a method named in `COMMANDS`, in the folder that this file belongs to.

    Args:
        values: of `VARIABLES`.
        called_from: folders that a relative path of DATASET can start from.
        dry: print what would run instead of running it.
    """

    def __init__(self, values: dict[str, str], called_from: Sequence[str], dry: bool) -> None:
        self.values, self.called_from, self.dry = values, called_from, dry
        self.python = values.get("PYTHON") or sys.executable
        self.venv = values.get("VENV") or ".venv"
        self.lowest_python = values.get("LOWEST_PYTHON") or "python3.11"
        self.lowest = f"{self.venv}-lowest"
        self.tools = f"{self.venv}-tools"
        self.newest = f"{self.venv}-newest-{_name(self.python)}"

    def help(self) -> None:
        """Print what the commands do."""
        do = "make" if "MAKELEVEL" in os.environ else "python -m tools.do"
        print(HELP.format(do=do, venv=self.venv, lowest=self.lowest, newest=self.newest, python=self.python))

    def labs(self) -> None:
        """Run the labs, with LAB, DATASET and FULL."""
        self._prepare()
        options = self._lab("--lab")
        if self.values.get("DATASET"):
            options += ["--dataset", self.values["DATASET"], "--called-from", *self.called_from]
        self._run([_python_of(self.venv), "-m", "tools.run_labs", *options, *self._full("--full")])

    def _full(self, option: str) -> list[str]:
        return [] if self.values.get("FULL", "") in ("", "0", "no", "false") else [option]

    def test(self) -> None:
        """Run the quick suite."""
        self._prepare()
        self._run([_python_of(self.venv), "-m", "pytest", *IN_PARALLEL])

    def test_lowest(self) -> None:
        """Run the suite with the oldest versions; the oldest NumPy has no wheels for Python 3.12 and later."""
        ready, constraints = ROOT / self.lowest / ".ready", f"{self.lowest}/constraints.txt"
        if not _is_newer(ready, "pyproject.toml", "tools/lowest.py"):
            need = "Python 3.11 is needed for the lowest versions"
            self._check(self.lowest_python, "!= (3, 11)", "LOWEST_PYTHON", need)
            self._say(f"Installing the lowest versions into {self.lowest}: {self._size()}")
            self._run([self.lowest_python, "-m", "venv", self.lowest])
            pins = self._run([self.lowest_python, "tools/lowest.py"], keep=True)
            if not self.dry:
                (ROOT / constraints).write_text(pins, encoding="utf-8")
            pinned = ["-c", constraints]
            self._install(self.lowest, [*pinned, "torch", "torchvision"], [*pinned, "-e", ".[labs,dev]"])
            self._touch(ready)
        self._run([_python_of(self.lowest), "-m", "pytest", *IN_PARALLEL])

    def test_newest(self) -> None:
        """Run the suite with the newest versions."""
        self._prepare(self.newest)
        newest = ["--quiet", "--upgrade", "--upgrade-strategy", "eager", "-r", "requirements.txt"]
        self._install(self.newest, ["--upgrade", "torch", "torchvision"], newest)
        self._run([_python_of(self.newest), "-m", "pytest", *IN_PARALLEL])

    def jupyter(self) -> None:
        """Open JupyterLab."""
        self._prepare()
        self._run([_python_of(self.venv), "-m", "jupyter", "lab"])

    def lint(self) -> None:
        """Check style, types and layers."""
        self._prepare()
        python = _python_of(self.venv)
        self._run([python, "-m", "ruff", "check", "."])
        self._run([python, "-m", "mypy"])
        self._run([str(Path(python).with_name("lint-imports")), "--no-cache"])

    def venv_only(self) -> None:
        """Make the environment."""
        self._prepare()

    def slides(self) -> None:
        """Build the slides, with LAB."""
        self._prepare()
        self._run([_python_of(self.venv), "-m", "tools.build_slides", *self._lab("--deck")])

    def handouts(self) -> None:
        """Make what is handed out, with LAB."""
        self._prepare()
        self._run([_python_of(self.venv), "-m", "tools.build_handouts", *self._lab("--lab")])

    def site(self) -> None:
        """Build the site, in which nothing may be doubtful, and look at it."""
        self._prepare_tools()
        python = _python_of(self.tools)
        whole = ["-E", "-W", "--keep-going", "-q"]  # built anew, so that a doubt is not left out with a page
        self._run([python, "-m", "sphinx", *whole, "-b", "html", "-c", "docs", ".", "build/site"])
        self._run([python, "-m", "tools.check_site"])

    def doors(self) -> None:
        """Open the labs through every door, with LAB, DOOR and FULL."""
        self._prepare_tools()
        options = [
            word
            for name in ("LAB", "DOOR")
            if (value := self.values.get(name))
            for word in (f"--{name.lower()}", value)
        ]
        self._run([_python_of(self.tools), "-m", "tools.doors", *options, *self._full("--quick")])

    def links(self) -> None:
        """Write the address REPO into every link; this needs no packages, so no environment either."""
        if not self.values.get("REPO"):
            raise Stop(2, "Say which: links REPO=owner/name")
        self._run([self.python, "tools/links.py", self.values["REPO"]])

    def clean(self) -> None:
        """Remove what the commands wrote, but neither data nor environments nor the runs of studies."""
        names = ("labs", "slides", "handouts", "site", "site-pictures", "doors", "lib")
        folders = [f"build/{name}" for name in names] + [f".{name}_cache" for name in ("pytest", "ruff", "mypy")]
        found = [ROOT / folder for folder in folders] + [*ROOT.glob("build/bdist.*"), *ROOT.glob("*.egg-info")]
        for folder in ("bengelib", "tests", "tools"):
            found += (ROOT / folder).rglob("__pycache__")
        for path in found:
            if path.exists():
                self._say(f"removing {path.relative_to(ROOT)}")
                if not self.dry:
                    shutil.rmtree(path)

    def _prepare(self, folder: str | None = None) -> None:
        """Make the environment in `folder`, the usual one if None, unless it is complete."""
        folder = folder or self.venv
        ready = ROOT / folder / ".ready"
        if _is_newer(ready, "requirements.txt", "pyproject.toml"):
            return
        if not os.path.exists(_python_of(folder)):
            self._check(self.python, "< (3, 11)", "PYTHON", "Python 3.11 or newer is needed")
            self._say(f"Creating {folder}")
            self._run([self.python, "-m", "venv", folder])
        self._say(f"Installing into {folder}: {self._size()}")
        self._install(folder, ["torch>=2.14", "torchvision"], ["-r", "requirements.txt"])
        self._touch(ready)  # last, so that an interrupted installation is taken up again

    def _prepare_tools(self) -> None:
        """Make the environment of the site and the doors, which has more than a user needs."""
        self._prepare(self.tools)
        ready = ROOT / self.tools / ".ready-tools"
        if not _is_newer(ready, "requirements.txt", "pyproject.toml", "tools/requirements.txt"):
            self._install(self.tools, [], ["-r", "tools/requirements.txt"])
            self._touch(ready)

    def _install(self, folder: str, torch: list[str], requirements: list[str]) -> None:
        """Install with pip; with TORCH=cpu PyTorch first, from its own index, and what it needs later, from PyPI."""
        pip = [_python_of(folder), "-m", "pip", "--disable-pip-version-check", "install"]
        if torch and self.values.get("TORCH") == "cpu":
            self._run([*pip, "--no-deps", *torch, "--index-url", CPU_INDEX])
        self._run([*pip, *requirements])

    def _check(self, python: str, unfit: str, variable: str, need: str) -> None:
        """Stop where an interpreter is not fit, before half an environment is left."""
        if self.dry:
            return
        if not _works(python, f"import sys; sys.exit(sys.version_info[:2] {unfit})"):
            raise Stop(1, f"{need}, and {python} is not that (or is missing). Say where one is: {variable}=...")
        if not _works(python, "import ensurepip, venv"):
            hint = f"On Debian or Ubuntu: sudo apt install {_name(python)}-venv"
            raise Stop(1, f"{python} comes without the venv module. {hint}")

    def _lab(self, option: str) -> list[str]:
        """LAB as an option, if it is given."""
        return [option, self.values["LAB"]] if self.values.get("LAB") else []

    def _size(self) -> str:
        return "some minutes" if self.values.get("TORCH") == "cpu" else "some minutes and, unless TORCH=cpu, about 6 GB"

    def _run(self, command: list[str], keep: bool = False) -> str:
        """Run a command in the root; return what it prints if `keep`.

        Raises:
            Stop: it fails.
        """
        if self.dry:
            print(" ".join(shlex.quote(word) for word in command))
            return ""
        sys.stdout.flush()
        try:
            done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE if keep else None, encoding="utf-8")
        except KeyboardInterrupt:
            raise Stop(130) from None
        except OSError as error:
            raise Stop(1, f"cannot run {command[0]}: {error.strerror}") from error
        if done.returncode:
            raise Stop(done.returncode if done.returncode > 0 else 128 - done.returncode)
        return done.stdout or ""

    def _say(self, text: str) -> None:
        print(text, flush=True)

    def _touch(self, path: Path) -> None:
        if not self.dry:
            path.touch()


COMMANDS: dict[str, Callable[[Project], None]] = {
    "help": Project.help,
    "labs": Project.labs,
    "test": Project.test,
    "test-lowest": Project.test_lowest,
    "test-newest": Project.test_newest,
    "venv": Project.venv_only,
    "jupyter": Project.jupyter,
    "lint": Project.lint,
    "slides": Project.slides,
    "handouts": Project.handouts,
    "site": Project.site,
    "doors": Project.doors,
    "links": Project.links,
    "clean": Project.clean,
}


def _python_of(folder: str) -> str:
    """The interpreter of an environment."""
    return os.path.join(folder, "Scripts", "python.exe") if WINDOWS else os.path.join(folder, "bin", "python")


def _name(python: str) -> str:
    name = os.path.basename(python)
    return name[: -len(".exe")] if name.endswith(".exe") else name


def _works(python: str, code: str) -> bool:
    try:
        return subprocess.run([python, "-c", code], stderr=subprocess.DEVNULL).returncode == 0
    except OSError:
        return False


def _is_newer(ready: Path, *sources: str) -> bool:
    """Whether an installation was completed after its sources, files of the root, were last changed."""
    return ready.exists() and all(ready.stat().st_mtime >= (ROOT / source).stat().st_mtime for source in sources)


def _word(text: str) -> str:
    """A command or NAME=VALUE as it is."""
    name, equals, _ = text.partition("=")
    known = VARIABLES if equals else tuple(COMMANDS)
    if name not in known:
        raise argparse.ArgumentTypeError(f"there is no {name}; there are {', '.join(known)}")
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out the commands named on the command line; returns the exit status of the first that fails, else 0."""
    parser = argparse.ArgumentParser(prog="python -m tools.do", description="Run the commands of the project.")
    parser.add_argument("-n", "--dry-run", action="store_true", help="print what would run instead of running it")
    words = f"{', '.join(COMMANDS)}, and variables as NAME=VALUE (default: help, which explains them)"
    parser.add_argument("words", nargs="*", type=_word, metavar="COMMAND", help=words)
    options = parser.parse_args(arguments)
    values = {name: os.environ.get(name, "") for name in VARIABLES}
    for word in options.words:
        name, equals, value = word.partition("=")
        values.update({name: value} if equals else {})
    commands = [word for word in options.words if "=" not in word] or ["help"]
    called_from = [os.environ[name] for name in ("CALLED_FROM", "CALLED_FROM_ELSE") if os.environ.get(name)]
    project = Project(values, called_from or [os.getcwd()], options.dry_run)
    os.chdir(ROOT)
    if WINDOWS:  # else files and pipes have the encoding of the country
        os.environ.setdefault("PYTHONUTF8", "1")
    try:
        for command in commands:
            COMMANDS[command](project)
    except Stop as stop:
        if str(stop):
            print(stop, file=sys.stderr)
        return stop.status
    return 0


if __name__ == "__main__":
    sys.exit(main())

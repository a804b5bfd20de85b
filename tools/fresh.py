"""Environments as a user has them: every package but this one, so that an installation shows what it brings.

The packages are linked from the environment that runs this, which takes neither the network nor gigabytes.
"""

import os
import site
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from tools.links import ROOT

PACKAGE = "bengelib"
FAKE_COLAB = (
    "import sys, importlib.util as u, importlib.machinery as m; "
    "sys.modules['google.colab'] = u.module_from_spec(m.ModuleSpec('google.colab', None))\n"
)
"""A line that Python runs when it starts; libraries ask for the module's specification."""


def fresh_environment(folder: Path, colab: bool = False) -> Path:
    """Make an environment in `folder` that has what this one has, without `bengelib`; needs symbolic links.

    Args:
        folder: where; it must not exist.
        colab: whether its interpreter says that it runs on Colab: it has a module `google.colab` from the start.

    Returns:
        Its interpreter.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    variables = {"base": str(folder), "platbase": str(folder)}
    target = Path(sysconfig.get_path("purelib", scheme="venv", vars=variables))
    target.mkdir(parents=True, exist_ok=True)
    for source in _package_folders():
        for entry in source.iterdir():
            if not (entry.suffix == ".pth" or PACKAGE in entry.name.lower() or (target / entry.name).is_symlink()):
                (target / entry.name).symlink_to(entry.resolve())
    if colab:
        (target / "google-colab.pth").write_text(FAKE_COLAB, encoding="utf-8")
    scripts = Path(sysconfig.get_path("scripts", scheme="venv", vars=variables))
    return scripts / ("python.exe" if sys.platform == "win32" else "python")


def _package_folders() -> list[Path]:
    """The folders of installed packages of this interpreter, in the order in which they are searched."""
    found = [Path(entry) for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")]
    return [folder for folder in dict.fromkeys([*found, *map(Path, site.getsitepackages())]) if folder.is_dir()]


def outside() -> dict[str, str]:
    """The environment variables of a user who has not set any for this project."""
    ours = ("PYTHONPATH", "BENGE_DATA", "BENGELIB_STRICT", "CPU_LIMIT", "MEM_LIMIT")
    return {name: value for name, value in os.environ.items() if name not in ours}


def copy_clone(folder: Path) -> Path:
    """A clone in `folder`: the files that are or could be committed, as they are now, and nothing else.

    Raises:
        CalledProcessError: this is no git checkout.
    """
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    return folder


def build(source: Path, target: Path) -> tuple[Path, Path]:
    """Build the wheel and the source distribution of the clone `source`, without network, into `target`.

    Raises:
        CalledProcessError: it cannot be built; its `stdout` says why.
    """
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(target), str(source)]
    subprocess.run(command, cwd=source, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8")
    (wheel,), (archive,) = target.glob("*.whl"), target.glob("*.tar.gz")
    return wheel, archive


def install(python: Path, package: Path) -> str:
    """Install a wheel or a source distribution into the environment of `python`, without network.

    Returns:
        Packages that were installed besides it: none, unless something lacks or has the wrong version.

    Raises:
        CalledProcessError: pip refuses; its `stdout` says why.
    """
    options = ["--no-index", "--no-build-isolation", "--disable-pip-version-check"]
    done = subprocess.run(
        [str(python), "-m", "pip", "install", *options, str(package)],
        cwd=python.parent, env=outside(), check=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8",
    )  # fmt: skip
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("Successfully installed")]
    return " ".join(word for word in line.split()[2:] if not word.startswith(PACKAGE))

"""Windows and macOS, imitated: what they lack is taken away, and what they refuse is refused."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bengelib import PackedBENGE, files, pack
from bengelib.__main__ import main
from bengelib.cores import usable_cores
from bengelib.files import disk_error
from tests import posix_only
from tests.described_folders import write_crops
from tests.fake_tree import write_fake_tree

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for folder in ("bengelib", "tools", "docs") for path in (ROOT / folder).rglob("*.py"))
POSIX_MODULES = {"fcntl", "grp", "pty", "pwd", "resource", "termios", "tty"}
POSIX_NAMES = {
    "fchmod", "fork", "forkpty", "getegid", "geteuid", "getgid", "getloadavg", "getuid", "killpg", "lchmod", "lchown",
    "mkfifo", "nice", "pthread_sigmask", "sched_getaffinity", "sched_setaffinity", "setsid", "sigwait", "statvfs",
    "uname", "SIGALRM", "SIGHUP", "SIGKILL", "SIGUSR1", "SIGUSR2", "preexec_fn", "start_new_session",
}  # fmt: skip
GUARD = re.compile(r"sys\.platform|os\.name|hasattr\(")
RESERVED = re.compile(r"^(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|$)|[<>:\"|?*\\]|[. ]$", re.IGNORECASE)
needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="this system does not tell what is open")


# -------------------------------------------------------------------------------------------------------------- sources


def posix_uses(text):
    """Lines that use what only POSIX has, outside a top-level statement that asks for the system first."""
    found = []
    lines = text.splitlines()
    for statement in ast.parse(text).body:
        if GUARD.search("\n".join(lines[statement.lineno - 1 : statement.end_lineno])):
            continue
        for node in ast.walk(statement):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names if alias.name in POSIX_MODULES]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module] if node.module in POSIX_MODULES else []
            elif isinstance(node, ast.Attribute) and node.attr in POSIX_NAMES:
                names = [node.attr]
            elif isinstance(node, ast.keyword) and node.arg in POSIX_NAMES:
                names = [node.arg]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                names = [node.value] if node.value == "fork" or node.value.startswith("/tmp") else []
            found += [f"{getattr(node, 'lineno', '?')}: {name}" for name in names]
    return found


def without_encoding(text):
    """Lines that read or write text in whatever encoding the country has."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            given = {keyword.arg for keyword in node.keywords}
            modes = [word.value for word in node.args[-1:] if isinstance(word, ast.Constant)] or ["r"]
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            is_method = isinstance(node.func, ast.Attribute)
            is_text = is_method and name in ("read_text", "write_text")
            is_text |= bool(given & {"text", "universal_newlines"})
            is_text |= name == "open" and not is_method and "b" not in str(modes[0])
            if is_text and "encoding" not in given and "os.devnull" not in ast.unparse(node):
                found.append(f"{node.lineno}: {ast.unparse(node)[:80]}")
    return found


@pytest.mark.parametrize("find", [posix_uses, without_encoding])
def test_the_sources_are_for_every_system(find):
    wrong = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in SOURCES
        if path.name != "setup_cell.py"  # whose one file is written on Colab, in ASCII
        for line in find(path.read_text(encoding="utf-8"))
    ]
    assert not wrong


def test_what_only_some_systems_take_is_seen():
    for line in ("import fcntl", "os.killpg(1, 2)", "get_context('fork')", "Path('/tmp/x')", "run(x, preexec_fn=f)"):
        assert posix_uses(line) and not posix_uses(f"if sys.platform != 'win32':\n    {line}")
    for line in ("p.read_text()", "p.write_text(x)", "run(x, text=True)", "open('x')", "open('x', 'w')"):
        assert without_encoding(line)
    assert not without_encoding("open('x', 'rb'); open('x', encoding='utf-8'); p.open('rb')")


def test_every_name_in_the_repository_is_one_on_every_system():
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, encoding="utf-8")
    names = done.stdout.splitlines()
    if done.returncode or not names:
        pytest.skip("not a git checkout")
    assert not [name for name in names if any(RESERVED.search(part) for part in name.split("/"))]
    assert len({files.folded(name) for name in names}) == len(names)
    assert max(map(len, names)) < 120  # Windows takes 259 characters, with the folder of the clone


def test_tests_that_windows_cannot_run_are_named_by_what_they_use():
    assert posix_only.reason_of("os.mkfifo(x)", "linux", True) is None
    assert "files of this kind" in posix_only.reason_of("os.mkfifo(x)", "win32", True)
    assert posix_only.reason_of("a.symlink_to(b)", "win32", True) is None
    assert "links" in posix_only.reason_of("a.symlink_to(b)", "win32", False)
    assert posix_only.reason_of("assert 1 == 1", "win32", False) is None


# ------------------------------------------------------------------------------------------------------ what is lacking


def test_cores_are_counted_where_there_is_no_affinity(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.delenv("CPU_LIMIT", raising=False)
    assert usable_cores() >= 1


def test_files_are_locked_without_fcntl(tmp_path):
    code = f"""
import sys, types
from pathlib import Path
import bengelib.files
held = set()
def locking(handle, mode, length):
    import os
    key = os.fstat(handle).st_ino
    if key in held:
        raise PermissionError(13, "Permission denied")
    held.add(key)
sys.modules["msvcrt"] = types.SimpleNamespace(LK_NBLCK=2, locking=locking)
sys.modules["fcntl"] = None
sys.platform = "win32"
import importlib
files = importlib.reload(bengelib.files)
folder = Path({str(tmp_path)!r})
with files.locked(folder / ".lock", None) as alone:
    print(alone, files._try_lock(files._open(folder / ".lock")))
with files.work_folder(folder / "target") as work:
    print(work.is_dir())
print(sorted(path.name for path in folder.iterdir()))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, encoding="utf-8")
    assert (done.stdout.splitlines(), done.stderr) == (["True False", "True", "[]"], "")


# ------------------------------------------------------------------------------------------------------ what is refused


def open_files():
    """Files that this process has open or mapped, without locks and devices."""
    links = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
    found = {os.path.realpath(link) for link in links if os.path.isfile(link)}
    for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
        found.update([line.split(maxsplit=5)[5]] if line.count("/") and len(line.split(maxsplit=5)) == 6 else [])
    return {path for path in found if not path.endswith("lock")}


@pytest.fixture
def like_windows(monkeypatch):
    """Nothing that is open or mapped can be moved, replaced or removed, nor can a folder that it lies in be moved."""
    refused = []

    def strict(call):
        def moved(*paths, **options):
            names = [os.path.realpath(path) for path in paths if isinstance(path, (str, os.PathLike))]
            for busy in open_files() if not options.get("dir_fd") else ():
                if any(busy == name or busy.startswith(name + os.sep) for name in names):
                    refused.append(busy)
                    raise PermissionError(13, "The process cannot access the file because it is in use", busy)
            return call(*paths, **options)

        return moved

    for name in ("rename", "replace", "unlink", "remove"):
        monkeypatch.setattr(os, name, strict(getattr(os, name)))
    yield refused
    assert not refused  # also not where the package would have put up with it


@needs_proc
def test_the_imitation_refuses(tmp_path, like_windows):
    (tmp_path / "folder").mkdir()
    with (tmp_path / "folder" / "file").open("wb"), pytest.raises(PermissionError):
        (tmp_path / "folder").rename(tmp_path / "other")
    like_windows.clear()
    (tmp_path / "folder").rename(tmp_path / "other")


@needs_proc
def test_a_pack_is_made_and_made_anew_with_nothing_open(tmp_path, like_windows):
    root = write_fake_tree(tmp_path / "with blank, äé" / "ben-ge-fake", 6)
    folder = pack(root, processes=1, progress=False)
    os.utime(next((root / "dem").iterdir()), (1, 1))
    (root / f"{root.name}_era-5.csv").unlink()
    assert pack(root, processes=1, progress=False) == folder
    assert len(PackedBENGE(root)) == 6
    for path in (root / "dem").iterdir():  # other times, the same pixels: the pack notes them
        os.utime(path, (2, 2))
    manifest = (folder / "manifest.json").stat().st_mtime_ns
    assert pack(root, processes=1, progress=False) == folder
    assert (folder / "manifest.json").stat().st_mtime_ns > manifest
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


@needs_proc
def test_a_described_dataset_is_packed_with_nothing_open(tmp_path, like_windows):
    root = write_crops(tmp_path / "Äcker und Wälder", 6)
    folder = pack(root, progress=False)
    assert (folder / "manifest.json").is_file()


@needs_proc
def test_simulated_patches_are_put_in_place_with_nothing_open(tmp_path, like_windows, capsys):
    root = tmp_path / "mit Leerzeichen, ñ" / "ben-ge-sim"
    root.parent.mkdir()
    assert main(["simulate", "--root", str(root), "--patches", "1", "--sampling", "natural"]) == 0, capsys.readouterr()
    assert main(["pack", "--root", str(root)]) == 0, capsys.readouterr()
    assert json.loads((root / "packed" / "manifest.json").read_text(encoding="utf-8"))["patches"] == 1


@pytest.mark.parametrize(
    ("number", "file", "advice"),
    [
        (5, "x/packed", "close that"),
        (32, "x/packed", "close that"),
        (1224, "x/packed", "close that"),
        (206, "x" * 300, "300 characters"),
        (112, "x/packed", "can be read and written"),
        (None, "x" * 300, "can be read and written"),  # another system, where that is no reason
    ],
)
def test_what_windows_refuses_is_explained(number, file, advice):
    error = OSError(13, "refused", file)
    if number is not None:
        error.winerror = number
    assert advice in str(disk_error(error, "x"))

"""Disks that are not like the one of the developer: without locks, without rights, with links, with leftovers."""

import errno
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
import unicodedata
from pathlib import Path

import pytest

from bengelib import files
from bengelib.errors import DataWarning, DiskError, DiskSpaceError
from bengelib.files import absolute, find, locked, put_in_place, sweep, tree_folder, work_folder, writing

needs_flock = pytest.mark.skipif(sys.platform == "win32", reason="other locks there")


def refuse(code):
    """A call that always fails with this errno."""

    def call(*_, **__):
        raise OSError(code, os.strerror(code))

    return call


# ---------------------------------------------------------------------------------------------------------------- locks


def test_a_lock_keeps_others_out_and_leaves_no_file(tmp_path):
    path, order = tmp_path / ".lock", []
    inside, go = threading.Event(), threading.Event()

    def first():
        with locked(path, None):
            inside.set()
            go.wait(10)
            order.append("first")

    def second():
        with locked(path, None) as alone:
            assert alone
            order.append("second")

    threads = [threading.Thread(target=first)]
    threads[0].start()
    assert inside.wait(10)
    threads += [threading.Thread(target=second) for _ in range(3)]
    for thread in threads[1:]:
        thread.start()
    go.set()
    for thread in threads:
        thread.join(20)
    assert order == ["first", *["second"] * 3]
    assert list(tmp_path.iterdir()) == []


def _count(path: Path, counter: Path) -> None:
    for _ in range(20):
        with locked(path, None):
            counter.write_text(str(int(counter.read_text()) + 1))


def test_a_lock_that_is_removed_at_the_end_lets_no_two_processes_in(tmp_path):
    counter = tmp_path / "counter"
    counter.write_text("0")
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    processes = [context.Process(target=_count, args=(tmp_path / ".lock", counter)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert counter.read_text() == "60"
    assert [path.name for path in tmp_path.iterdir()] == ["counter"]


def test_a_lock_file_that_a_killed_process_left_locks_nothing(tmp_path):
    (tmp_path / ".lock").write_text("12345")
    with locked(tmp_path / ".lock", None) as alone:
        assert alone
    assert not (tmp_path / ".lock").exists()


@needs_flock
@pytest.mark.parametrize(
    "code", ["ENOLCK", "EOPNOTSUPP", "ENOSYS", "EINVAL", "EBADF", "EIO", "EPERM", "EACCES", "EAGAIN"]
)
@pytest.mark.parametrize("left", [False, True])
def test_a_disk_without_locks_is_written_without_one_and_with_a_warning(tmp_path, monkeypatch, code, left):
    if left:  # of an earlier call, on whatever disk
        (tmp_path / ".lock").touch()
    monkeypatch.setattr(files.fcntl, "flock", refuse(getattr(errno, code)))
    with pytest.warns(DataWarning, match="does not lock files"), locked(tmp_path / ".lock", None) as alone:
        assert not alone
    assert list(tmp_path.iterdir()) == []


@needs_flock
def test_a_disk_whose_files_change_their_numbers_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_is_file_of", lambda handle, path: False)
    with pytest.warns(DataWarning, match="do not stay the same"), locked(tmp_path / ".lock", None):
        pass
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_can_be_written_the_error_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "open", refuse(errno.EROFS))
    monkeypatch.setattr(os, "mkdir", refuse(errno.EROFS))
    with pytest.raises(DiskError, match=r"refuses .*Read-only file system"), locked(tmp_path / ".lock", None):
        pass


# -------------------------------------------------------------------------------------------- what killed calls leave


def left_by(process, target, name="half.tif"):
    """A work folder as a process that was killed leaves it."""
    path = target.with_name(f".{target.name}.partial-{files._machine()}-{process}-0123abcd")
    (path / "sentinel-2").mkdir(parents=True)
    (path / name).touch()
    return path


@pytest.fixture
def gone():
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.parametrize("locks", [True, False])
def test_what_a_killed_process_left_is_swept_by_the_next_call(tmp_path, monkeypatch, gone, locks):
    if not locks:
        monkeypatch.setattr(files.fcntl, "flock", refuse(errno.ENOLCK))
    left = left_by(gone, tmp_path / "y")
    with work_folder(tmp_path / "y") as work:
        assert work.is_dir()
        assert not left.exists()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("locks", [True, False])
def test_what_a_live_process_writes_is_left_alone(tmp_path, monkeypatch, locks):
    if not locks:
        monkeypatch.setattr(files.fcntl, "flock", refuse(errno.ENOLCK))
    with work_folder(tmp_path / "y") as one, work_folder(tmp_path / "y") as other:
        (one / "file").touch()
        sweep(tmp_path / "y")
        assert one != other and (one / "file").exists()
    assert list(tmp_path.iterdir()) == []


@needs_flock
def test_without_locks_the_folder_of_another_machine_is_left_alone(tmp_path, monkeypatch, gone):
    left = left_by(gone, tmp_path / "y")
    monkeypatch.setattr(files.fcntl, "flock", refuse(errno.ENOLCK))
    monkeypatch.setattr(files.socket, "gethostname", lambda: "elsewhere")
    sweep(tmp_path / "y")
    assert left.exists()


def test_only_what_the_package_wrote_is_swept(tmp_path):
    ours, foreign = tmp_path / ".y.partial-abcd1234", tmp_path / ".y.partial-my_notes"
    (ours / "sentinel-2").mkdir(parents=True)  # of an earlier version
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("precious")
    (tmp_path / ".y.partial-file").write_text("precious")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".y.partial-link").symlink_to(tmp_path / "elsewhere")
    sweep(tmp_path / "y", ("sentinel-2",).__contains__)
    assert {path.name for path in tmp_path.iterdir()} == {
        ".y.partial-my_notes", ".y.partial-file", ".y.partial-link", "elsewhere"
    }  # fmt: skip


def test_a_work_folder_may_become_what_it_is_for(tmp_path):
    with work_folder(tmp_path / "y") as work:
        (work / "file").touch()
        work.rename(tmp_path / "y")
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["y", "y/file"]


# ------------------------------------------------------------------------------------------------- moving and flushing


@pytest.mark.parametrize("code", ["EPERM", "EXDEV", "EBUSY", "ENOSYS", "EOPNOTSUPP"])
def test_a_disk_that_cannot_move_files_gets_them_copied(tmp_path, monkeypatch, code):
    (tmp_path / "new").write_text("new")
    (tmp_path / "target").write_text("old")
    monkeypatch.setattr(os, "replace", refuse(getattr(errno, code)))
    put_in_place(tmp_path / "new", tmp_path / "target")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"target": "new"}


def test_a_flush_may_fail_unless_the_disk_could_not_keep_the_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.touch()
    for code in (errno.EINVAL, errno.ENOTSUP, errno.EPERM):
        monkeypatch.setattr(os, "fsync", refuse(code))
        files.flush(path)
    monkeypatch.setattr(os, "fsync", refuse(errno.EIO))
    with pytest.raises(OSError, match="error"):
        files.flush(path)


@pytest.mark.parametrize(("total", "free"), [(0, 0), (None, None)])
def test_a_disk_that_does_not_know_its_size_is_not_full(tmp_path, monkeypatch, total, free):
    usage = refuse(errno.ENOSYS) if total is None else lambda _: shutil._ntuple_diskusage(total, 0, free)
    monkeypatch.setattr(shutil, "disk_usage", usage)
    assert files.free_bytes(tmp_path) == float("inf")


@pytest.mark.parametrize(
    ("code", "expected"),
    [("ENOSPC", DiskSpaceError), ("EDQUOT", DiskSpaceError), ("EROFS", DiskError), ("EIO", DiskError)],
)
def test_what_a_disk_refuses_is_an_error_that_names_the_file(code, expected):
    number = getattr(errno, code)
    with pytest.raises(expected, match="somewhere"), writing(Path("somewhere"), "go on"):
        raise OSError(number, os.strerror(number), "somewhere/file")


def test_errors_that_are_typed_already_stay_as_they_are():
    with pytest.raises(DiskSpaceError, match="mine"), writing(Path("x"), "go on"):
        raise DiskSpaceError("mine")


# ---------------------------------------------------------------------------------------------------------------- names


def test_a_path_keeps_its_links_and_loses_its_tilde(tmp_path, monkeypatch):
    (tmp_path / "real" / "below").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real" / "below")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert absolute("~/link") == absolute("link") == absolute("./link/") == tmp_path / "link"
    assert absolute("link/../x") == tmp_path / "real" / "x"  # as the disk has it
    assert absolute("~nobody-of-that-name/x") == tmp_path / "~nobody-of-that-name" / "x"


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_accents_and_case_are_found_as_the_disk_has_them(tmp_path, form):
    there = unicodedata.normalize(form, "Forêt")
    (tmp_path / there).mkdir()
    for other in ("NFC", "NFD"):
        assert find(tmp_path / unicodedata.normalize(other, "Forêt")).name == there
        assert find(tmp_path / unicodedata.normalize(other, "forÊT") / "x") == tmp_path / there / "x"
    assert find(tmp_path / "Foret") == tmp_path / "Foret"


def test_the_very_name_comes_first_and_two_that_are_alike_are_no_answer(tmp_path):
    for name in ("a", "A"):
        (tmp_path / name).mkdir(exist_ok=True)
    assert find(tmp_path / "A").name == "A"
    (tmp_path / "ss").mkdir()
    (tmp_path / "SS").mkdir(exist_ok=True)
    assert find(tmp_path / "ß").name == ("ß" if len(list(tmp_path.iterdir())) == 4 else "ss")


def test_a_dataset_has_the_name_of_its_tables_before_or_behind_a_link(tmp_path, monkeypatch):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "own_meta.csv").touch()
    (tmp_path / "second").symlink_to(tmp_path / "own")
    (tmp_path / "first").symlink_to("second")
    assert tree_folder(tmp_path / "first") == tree_folder(tmp_path / "second") == tmp_path / "own"
    (tmp_path / "own" / "second_meta.csv").touch()
    assert tree_folder(tmp_path / "first") == tmp_path / "second"
    assert tree_folder(tmp_path / "own") == tmp_path / "own"
    (tmp_path / "own" / "own_meta.csv").unlink()
    monkeypatch.chdir(tmp_path / "own")
    monkeypatch.setenv("PWD", str(tmp_path / "second"))  # as a shell has it after `cd second`
    assert tree_folder(".") == tmp_path / "second"
    (tmp_path / "loop").symlink_to("loop")
    assert tree_folder(tmp_path / "loop") == tmp_path / "loop"

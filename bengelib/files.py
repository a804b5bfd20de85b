"""Files and folders on imperfect disks: without locks or permissions, with links, full or read-only.

Everything here that only protects (a lock, a flush, an atomic move, a clean-up) may fail without stopping the work.
"""

import errno
import json
import math
import os
import secrets
import shutil
import socket
import sys
import time
import unicodedata
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tqdm import tqdm

from bengelib.errors import BengeError, DataWarning, DiskError, DiskSpaceError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_CONTENDED = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES)
"""Errors of a lock that another process holds; EACCES on Windows and on its network drives."""
_LONGEST_CHAIN = 40
"""The longest chain of links that is followed, as in Linux."""
_IN_USE = "Another program or notebook may have it open: close that, or give a folder that can be read and written."
_WINDOWS = {5: _IN_USE, 32: _IN_USE, 1224: _IN_USE}
"""Advice by the error numbers of Windows: access denied, a sharing violation, a file that is mapped into memory."""
_LONGEST_WINDOWS_PATH = 259
_MOVED_MEANWHILE = 100
"""Number of times that a lock file may be replaced while it is opened, before the disk is taken for unreliable."""


def absolute(path: str | os.PathLike[str]) -> Path:
    """`path` as an absolute path with `~` expanded and links kept: a folder keeps the name that the user gave."""
    parts = Path(os.path.expanduser(path)).absolute().parts
    up = len(parts) - parts[::-1].index("..") if ".." in parts else 0  # only behind a link, if it is one, is its parent
    return Path(os.path.realpath(Path(*parts[:up])), *parts[up:]) if up else Path(*parts)


def same_name(one: str, other: str) -> bool:
    """True if some file system treats two names as equal: they may differ in case and in the form of accents."""
    return folded(one) == folded(other)


def folded(name: str) -> str:
    """A name in one case and one Unicode form, which some file systems do not distinguish."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def find(path: Path) -> Path:
    """`path` with its last part as spelled on disk, where it may differ in case or in the form of accents."""
    parent = path.parent if path == path.parent or os.path.isdir(path.parent) else find(path.parent)
    alike = names_like(parent / path.name)
    return parent / (alike[0] if len(alike) == 1 else path.name)


def names_like(path: Path) -> list[str]:
    """Names in the folder of `path` that some file system treats as equal to it; none if the folder is unreadable."""
    try:
        return sorted(name for name in os.listdir(path.parent) if same_name(name, path.name))
    except OSError:
        return []


def tree_folder(path: str | os.PathLike[str]) -> Path:
    """The folder of a dataset under the name that its tables use: the given one or, for a link, that of its target."""
    given = find(absolute(path))
    names = [given]
    while os.path.islink(names[-1]) and len(names) < _LONGEST_CHAIN:
        names.append(absolute(names[-1].parent / os.readlink(names[-1])))
    shell = Path(os.environ.get("PWD", "."), path)  # its name of the current folder, which may be a link too
    if os.path.exists(shell) and os.path.exists(given) and os.path.samefile(shell, given):
        names.append(absolute(shell))
    names.append(Path(os.path.realpath(given)))
    return next((folder for folder in names if os.path.isfile(find(folder / f"{folder.name}_meta.csv"))), given)


@contextmanager
def writing(where: Path, then: str) -> Iterator[None]:
    """Turn errors of the disk of `where` into typed ones; `then` says what happens once there is space.

    Raises:
        DiskSpaceError: instead of the `OSError` of a full disk or an exhausted quota.
        DiskError: instead of any other `OSError`.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, BengeError):
            raise
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskSpaceError(f"the disk of {where} is full. Make room and {then}.") from error
        raise disk_error(error, where) from error


def disk_error(error: OSError, where: Path | str) -> DiskError:
    """The typed form of an `OSError` that stopped the work on `where`."""
    file = error.filename if error.filename is not None else where
    file = os.fsdecode(file) if isinstance(file, (str, bytes, os.PathLike)) else where
    reason = error.strerror or str(error) or type(error).__name__
    about = "" if file == str(where) else f", at work on {where}"
    fix = _WINDOWS.get(getattr(error, "winerror", 0) or 0, "Give a folder that can be read and written.")
    if (length := len(str(file))) > _LONGEST_WINDOWS_PATH and hasattr(error, "winerror"):
        fix = f"Its path has {length} characters: give a folder with a shorter one, or allow Windows long paths."
    return DiskError(f"the disk refuses {file} ({reason}){about}. {fix}")


def can_write(folder: Path) -> bool:
    """True if `folder` can be written to, found by trying: permissions do not show a read-only disk."""
    trial = folder / f".{_owner()}"
    try:
        trial.mkdir()
    except OSError:
        return False
    discard(trial)
    return True


@contextmanager
def locked(path: Path, waiting: str | None) -> Iterator[bool]:
    """Keep other processes out of the block; on a disk without locks, warn and continue without one.

    Args:
        path: the lock file, in an existing folder; removed afterwards. One left by a killed process has no effect.
        waiting: message to print while another process holds the lock; None for none.

    Yields:
        Whether the lock is held.

    Raises:
        DiskError: the lock file cannot be written.
    """
    handle = reason = None
    try:
        handle = _acquire(path, waiting)
    except OSError as error:
        if not can_write(path.parent):
            raise disk_error(error, path.parent) from error
        reason = error.strerror or str(error) or type(error).__name__
    if handle is None:
        warnings.warn(
            f"the disk of {path.parent} does not lock files ({reason}). Continuing without a lock: let no other "
            "process write there meanwhile.",
            DataWarning,
            stacklevel=4,
        )
    try:
        yield handle is not None
    finally:
        if handle is not None:
            _release(handle, path)


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """True if no other process holds the lock file `path`, which is then held for the block; without waiting.

    False as well where the disk has no locks or cannot be written to.
    """
    handle, held = None, False
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = _open(path)
        held = _try_lock(handle) and _is_file_of(handle, path)
    try:
        yield held
    finally:
        if held and handle is not None:
            _release(handle, path)
        elif handle is not None:
            os.close(handle)


def sweep_lock(path: Path) -> None:
    """Remove a lock file that a killed process left, if no process holds it."""
    with suppress(OSError):
        handle = os.open(path, os.O_RDWR)
        try:
            if _try_lock(handle) and _is_file_of(handle, path):
                _remove(path)
        finally:
            os.close(handle)


def _acquire(path: Path, waiting: str | None) -> int:
    """Wait for the lock; return an open file, which holds it until it is closed or the process ends.

    Raises:
        OSError: the disk has no locks.
    """
    began, probed = time.monotonic(), False
    for _ in range(_MOVED_MEANWHILE):
        handle = _open(path)
        try:
            while not _try_lock(handle):
                if not probed and not _can_lock(path.parent):
                    raise OSError(errno.ENOLCK, "it refuses the lock of a new file as well")
                probed = True
                if waiting and time.monotonic() - began > 0.2:
                    tqdm.write(waiting)
                    waiting = None
                time.sleep(0.05)
        except OSError:  # no locks here, so the file is useless
            os.close(handle)
            _remove(path)
            raise
        except BaseException:
            os.close(handle)
            raise
        if _is_file_of(handle, path):
            return handle
        os.close(handle)  # its former holder has removed it: the lock is on a deleted file
    _remove(path)
    raise OSError(errno.ENOLCK, "its files do not stay the same")


def _release(handle: int, path: Path) -> None:
    """Remove a lock file that is held, and give up the lock."""
    if sys.platform == "win32":  # an open file cannot be removed there
        os.close(handle)
        _remove(path)
    else:
        if _is_file_of(handle, path):
            _remove(path)
        os.close(handle)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError:
        return os.open(path, os.O_RDONLY)  # the file of another user


def _try_lock(handle: int) -> bool:
    """Lock an open file or folder; False if another process has it.

    Raises:
        OSError: it cannot be locked at all.
    """
    try:
        if sys.platform == "win32":
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _CONTENDED:
            return False
        raise
    return True


def _can_lock(folder: Path) -> bool:
    """True if a new file can be locked: some disks refuse every lock as if another process held it."""
    trial = folder / f".{_owner()}.lock"
    try:
        handle = os.open(trial, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    except OSError:
        return False
    try:
        return _try_lock(handle)
    except OSError:
        return False
    finally:
        os.close(handle)
        _remove(trial)


def _is_file_of(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except OSError:
        return False


@contextmanager
def work_folder(target: Path, ours: Callable[[str], bool] = lambda name: False) -> Iterator[Path]:
    """A new temporary folder beside `target`, removed at the end; those of killed processes are removed first."""
    sweep(target, ours)
    path = target.with_name(f".{target.name}.partial-{_owner()}")
    path.mkdir()
    handle = None
    with suppress(OSError):  # the lock shows that its process is alive
        handle = os.open(path, os.O_RDONLY)
        _try_lock(handle)
    try:
        yield path
    finally:
        if handle is not None:
            os.close(handle)
        discard(path)


def sweep(target: Path, ours: Callable[[str], bool] = lambda name: False) -> None:
    """Remove the folders of `work_folder` for `target` whose process is gone.

    Args:
        target: the folder that they were prepared for.
        ours: whether this package writes an entry of that name into such a folder. A folder that `work_folder` did not
            name is removed only if it holds nothing else.
    """
    prefix = f".{target.name}.partial-"
    try:
        left = [target.with_name(name) for name in os.listdir(target.parent) if name.startswith(prefix)]
    except OSError:
        return
    for path in left:
        tag = path.name.removeprefix(prefix).split("-")
        try:
            known = _is_tag(tag) or all(ours(name) for name in os.listdir(path))
            if known and not path.is_symlink() and _is_abandoned(path, tag):
                discard(path)
        except OSError:
            continue


def _owner() -> str:
    """A unique name for files of this process: machine, process and a random part."""
    return f"{_machine()}-{os.getpid()}-{secrets.token_hex(4)}"


def _machine() -> str:
    return f"{zlib.crc32(socket.gethostname().encode(errors='replace')):08x}"


def _is_tag(tag: list[str]) -> bool:
    return [len(tag[0]), len(tag[-1])] == [8, 8] and len(tag) == 3 and tag[1].isdecimal()


def _is_abandoned(path: Path, tag: list[str]) -> bool:
    """True if the process that wrote a folder has ended: its lock is free or, without locks, it is not running."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        if not _try_lock(handle):
            return False
    except OSError:
        return _is_tag(tag) and tag[0] == _machine() and not _runs(int(tag[1]))
    finally:
        os.close(handle)
    return True


def _runs(process: int) -> bool:
    if sys.platform == "win32":  # where signal 0 is not harmless
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def free_bytes(folder: Path) -> float:
    """Free bytes on the disk of `folder`, infinity if unknown: some network disks report no size."""
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return math.inf
    return usage.free if usage.total else math.inf


def put_in_place(source: Path, target: Path) -> None:
    """Replace `target` by the finished file `source`, atomically or, where the disk cannot, by copying it.

    Raises:
        OSError: neither works.
    """
    try:
        source.replace(target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT) or not os.path.isfile(source) or os.path.isdir(target):
            raise
        shutil.copyfile(source, target)
        discard(source)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Path to write a new version of a file to: it takes the place of `path` if the block ends without an error.

    Raises:
        OSError: the file cannot be put there.
    """
    partial = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        yield partial
        put_in_place(partial, path)
    finally:
        discard(partial)


def read_json(path: Path) -> Any:
    """The content of a JSON file; None if it cannot be read."""
    with suppress(OSError, ValueError):
        return json.loads(path.read_text(encoding="utf-8"))
    return None


def write_json(path: Path, content: Any) -> None:
    """Write or replace a JSON file atomically."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(content, indent=1), encoding="utf-8")


def flush(path: Path) -> None:
    """Flush a file to the disk, where the disk supports it.

    Raises:
        OSError: the disk failed to write it.
    """
    try:
        with path.open("r+b") as file:
            os.fsync(file.fileno())
    except OSError as error:
        if error.errno in (errno.EIO, errno.ENOSPC, errno.EDQUOT):
            raise


def discard(path: Path) -> None:
    """Remove a file, or a folder with its content, that this package wrote; ignore what cannot be removed."""
    if os.path.isdir(path) and not os.path.islink(path):
        for _ in range(3):  # a worker of a killed process may still be writing
            shutil.rmtree(path, ignore_errors=True)
            if not os.path.lexists(path):
                return
            time.sleep(0.05)
    else:
        _remove(path)


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()

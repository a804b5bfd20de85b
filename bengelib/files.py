"""Files and folders on disks as people have them: without locks, without rights, with links, full, read-only.

Everything here that only protects (a lock, a flush, a move in one step, a tidying up) may fail, and the work goes on.
"""

import errno
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

from tqdm import tqdm

from bengelib.errors import BengeError, DataWarning, DiskError, DiskSpaceError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_CONTENDED = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES)
"""What a lock that another process has answers; EACCES on Windows and on its network drives."""
_LONGEST_CHAIN = 40
"""Links that lead to links, as many as Linux follows."""
_IN_USE = "Another program or notebook may have it open: close that, or give a folder that can be read and written."
_WINDOWS = {5: _IN_USE, 32: _IN_USE, 1224: _IN_USE}
"""Advice by the error numbers of Windows: access denied, a sharing violation, a file that is mapped into memory."""
_LONGEST_WINDOWS_PATH = 259
_MOVED_MEANWHILE = 100
"""How often the file of a lock may have been replaced while it was opened before the disk is not believed any more."""


def absolute(path: str | os.PathLike[str]) -> Path:
    """`path` from the root on, `~` expanded, links kept: a folder has the name that it was given by."""
    parts = Path(os.path.expanduser(path)).absolute().parts
    up = len(parts) - parts[::-1].index("..") if ".." in parts else 0  # only behind a link, if it is one, is its parent
    return Path(os.path.realpath(Path(*parts[:up])), *parts[up:]) if up else Path(*parts)


def same_name(one: str, other: str) -> bool:
    """Whether two names are the same to some disk: whatever form their accents and case have."""
    return folded(one) == folded(other)


def folded(name: str) -> str:
    """A name without what some disks do not tell apart: the case of its letters, and the form of its accents."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def find(path: Path) -> Path:
    """`path` with its last part as the disk spells it: one entry may differ in case or in the form of its accents."""
    parent = path.parent if path == path.parent or os.path.isdir(path.parent) else find(path.parent)
    alike = names_like(parent / path.name)
    return parent / (alike[0] if len(alike) == 1 else path.name)


def names_like(path: Path) -> list[str]:
    """Names beside `path`, its own included, that are the same as its own to some disk; none if nobody can tell."""
    try:
        return sorted(name for name in os.listdir(path.parent) if same_name(name, path.name))
    except OSError:
        return []


def tree_folder(path: str | os.PathLike[str]) -> Path:
    """The folder of a dataset by the name that its tables have: the name given or, of a link, the one it leads to."""
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
    """Turn what the disk of `where` refuses into an error that says so; `then` says what goes on once there is room.

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
    """Whether something can be made in `folder`, found out by doing it: rights do not tell on a read-only disk."""
    trial = folder / f".{_owner()}"
    try:
        trial.mkdir()
    except OSError:
        return False
    discard(trial)
    return True


@contextmanager
def locked(path: Path, waiting: str | None) -> Iterator[bool]:
    """Keep other processes out until the block is left; on a disk that does not lock, go on without, and say so.

    Args:
        path: the lock, a file in a folder that exists, gone afterwards. One that a killed process leaves locks nothing.
        waiting: what to print when another process has it, None for nothing.

    Yields:
        Whether others are kept out.

    Raises:
        DiskError: nothing can be written where the lock would be.
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
            f"the disk of {path.parent} does not lock files ({reason}). Going on without a lock: let no other process "
            "write there meanwhile.",
            DataWarning,
            stacklevel=4,
        )
    try:
        yield handle is not None
    finally:
        if handle is not None:
            if sys.platform == "win32":  # an open file cannot be removed there
                os.close(handle)
                _remove(path)
            else:
                if _is_file_of(handle, path):
                    _remove(path)
                os.close(handle)


def sweep_lock(path: Path) -> None:
    """Remove the file of a lock that a killed process left, if nobody has it."""
    with suppress(OSError):
        handle = os.open(path, os.O_RDWR)
        try:
            if _try_lock(handle) and _is_file_of(handle, path):
                _remove(path)
        finally:
            os.close(handle)


def _acquire(path: Path, waiting: str | None) -> int:
    """Wait for the lock; an open file, which holds it until it is closed, also by the end of the process.

    Raises:
        OSError: there are no locks here.
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
        except OSError:  # nothing locks here, so the file says nothing
            os.close(handle)
            _remove(path)
            raise
        except BaseException:
            os.close(handle)
            raise
        if _is_file_of(handle, path):
            return handle
        os.close(handle)  # whoever had it has removed it: what is locked is no file any more
    _remove(path)
    raise OSError(errno.ENOLCK, "its files do not stay the same")


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError:
        return os.open(path, os.O_RDONLY)  # somebody else's file


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
    """Whether a file that nobody else knows can be locked: some disks refuse a lock as if another process had it."""
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
    """A new folder beside `target` to prepare it in, gone at the end; those of killed calls are swept first."""
    sweep(target, ours)
    path = target.with_name(f".{target.name}.partial-{_owner()}")
    path.mkdir()
    handle = None
    with suppress(OSError):  # the lock says that its process lives
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
        target: what they would have become.
        ours: whether a name is one that this package writes at the top of such a folder. One that is not named as
            `work_folder` names it is removed only if it holds nothing else.
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
    """A name for what this process writes: machine, process, and a random part."""
    return f"{_machine()}-{os.getpid()}-{secrets.token_hex(4)}"


def _machine() -> str:
    return f"{zlib.crc32(socket.gethostname().encode(errors='replace')):08x}"


def _is_tag(tag: list[str]) -> bool:
    return [len(tag[0]), len(tag[-1])] == [8, 8] and len(tag) == 3 and tag[1].isdecimal()


def _is_abandoned(path: Path, tag: list[str]) -> bool:
    """Whether the process that wrote a folder is gone: its lock is free or, on a disk without, it is not running."""
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
    """Free bytes of the disk of `folder`, infinity where it does not know: some network disks have no size."""
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return math.inf
    return usage.free if usage.total else math.inf


def put_in_place(source: Path, target: Path) -> None:
    """Put the finished file `source` in the place of `target`: in one step or, on a disk that cannot, by copying it.

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


def flush(path: Path) -> None:
    """See to it that a file is on the disk, not only on its way there, where the disk can be asked to.

    Raises:
        OSError: the disk could not keep it.
    """
    try:
        with path.open("r+b") as file:
            os.fsync(file.fileno())
    except OSError as error:
        if error.errno in (errno.EIO, errno.ENOSPC, errno.EDQUOT):
            raise


def discard(path: Path) -> None:
    """Remove a file, or a folder with all that is in it, that this package wrote; what cannot be removed stays."""
    if os.path.isdir(path) and not os.path.islink(path):
        for _ in range(3):  # a worker of a killed process may be writing its last file
            shutil.rmtree(path, ignore_errors=True)
            if not os.path.lexists(path):
                return
            time.sleep(0.05)
    else:
        _remove(path)


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()

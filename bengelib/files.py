"""What all that write data to a disk need: a lock between processes, and a clear word when the disk is full."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from bengelib.errors import DiskSpaceError


@contextmanager
def locked(path: Path, waiting: str | None) -> Iterator[None]:
    """Keep other processes out until the block is left; the lock is freed even when this process is killed.

    Args:
        path: the lock, a small file that stays.
        waiting: what to print when another process has it, None for nothing.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0.2)
    except Timeout:
        if waiting:
            tqdm.write(waiting)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def disk_space(where: Path, then: str) -> Iterator[None]:
    """Say so when the disk of `where` is full; `then` says what goes on once there is room.

    Raises:
        DiskSpaceError: instead of the `OSError` of a full disk or an exhausted quota.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskSpaceError(f"the disk of {where} is full. Make room and {then}.") from error

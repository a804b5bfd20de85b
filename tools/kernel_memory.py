"""The peak memory of a process and of all that it started, sampled while it runs."""

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import psutil

INTERVAL = 0.2  # seconds; a peak shorter than that can be missed


class MemoryWatch:
    """Samples a process tree in a thread of its own, for as long as a `with` block lasts.

    What counts is memory that the machine cannot take back: anonymous and shared pages, without the pages of mapped
    files (libraries, `.npy` arrays), which the kernel drops when memory is short. Pages that several of the processes
    share are counted once for each, so the figure errs upwards. Where the system does not tell pages apart (no /proc),
    the resident size counts instead. With a `limit`, a tree that holds more of such memory is ended, as a container of
    that size would do: before that, its kernel drops pages of mapped files.

    Attributes:
        current: Bytes at the last sample; None before the first.
        peak: The most bytes seen; None if nothing was.
        peak_resident: The most bytes resident, mapped files included; None if nothing was seen.
    """

    def __init__(self, find_process: Callable[[], int | None], limit: int | None = None) -> None:
        """Watches the process that `find_process` names, None as long as there is none, up to `limit` bytes."""
        self.current: int | None = None
        self.peak: int | None = None
        self.peak_resident: int | None = None
        self._find_process = find_process
        self._limit = limit
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory-watch", daemon=True)

    def __enter__(self) -> "MemoryWatch":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.is_set():
            process = self._find_process()
            if process is not None:
                self._sample(process)
            self._stop.wait(INTERVAL)

    def _sample(self, process: int) -> None:
        try:
            top = psutil.Process(process)
            tree = [top, *top.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        sizes = [size for member in tree if (size := _size(member)) is not None]
        if not sizes:
            return
        self.current = sum(unmapped for unmapped, _ in sizes)
        self.peak = max(self.peak or 0, self.current)
        resident = sum(resident for _, resident in sizes)
        self.peak_resident = max(self.peak_resident or 0, resident)
        if self._limit is not None and self.current > self._limit:
            for member in reversed(tree):
                with suppress(psutil.Error):
                    member.kill()


def _size(process: psutil.Process) -> tuple[int, int] | None:
    """Bytes of `process` without and with mapped files, or None if it has ended."""
    try:
        lines = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        try:
            resident = int(process.memory_info().rss)
        except psutil.Error:
            return None
        return resident, resident
    # A line reads "RssAnon:      1234 kB"; a process that is just ending has none of them.
    pages = {
        name: int(rest.split()[0]) * 1024
        for name, _, rest in (line.partition(":") for line in lines)
        if name in ("VmRSS", "RssAnon", "RssShmem")
    }
    if "VmRSS" not in pages:
        return None
    return pages.get("RssAnon", pages["VmRSS"]) + pages.get("RssShmem", 0), pages["VmRSS"]

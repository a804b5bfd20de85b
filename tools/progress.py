"""What a person sees while a notebook runs: cell by cell, with the section, the time, and what is printed last."""

import re
import shutil
import sys
import threading
import time
from types import TracebackType
from typing import Any, TextIO

from tools.kernel_memory import MemoryWatch

TERMINAL_INTERVAL = 0.5  # seconds between two states of the one line of a terminal
LOG_INTERVAL = 30.0  # seconds between two lines where the output is no terminal


class Progress:
    """Shows one line that changes on a terminal; elsewhere a line for each cell, and a sign of life in long ones.

    Attributes:
        memory: What watches the kernel's memory, once there is something to watch.
        place: The cell that runs or ran last, in words.
    """

    def __init__(self, name: str, notebook: Any, stream: TextIO | None = None) -> None:
        """Shows the run of `notebook` under `name` on `stream` (standard output)."""
        self.memory: MemoryWatch | None = None
        self.place = "before the first cell"
        self._name = name
        self._stream = stream or sys.stdout
        self._sections = _sections(notebook)
        self._total = sum(cell.cell_type == "code" for cell in notebook.cells)
        self._numbers = {
            index: number
            for number, index in enumerate((i for i, c in enumerate(notebook.cells) if c.cell_type == "code"), start=1)
        }
        self._started = self._cell_started = time.monotonic()
        self._last_line = ""
        self._terminal = self._stream.isatty()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._tick, name="progress", daemon=True)

    def __enter__(self) -> "Progress":
        self._started = time.monotonic()
        self._show(f"{self._name}: starting a kernel")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self._terminal:
            self._show("")
        ended = _clock(time.monotonic() - self._started)
        held = ""
        if self.memory and self.memory.peak and self.memory.peak_resident:
            held = f", peak memory {self.memory.peak / 1e6:.0f} MB ({self.memory.peak_resident / 1e6:.0f} MB resident)"
        self._stream.write(f"{self._name}: {'interrupted' if error else 'ended'} after {ended}, {self.place}{held}\n")
        self._stream.flush()

    def cell_started(self, cell: Any, cell_index: int) -> None:
        """Notes that a cell starts; markdown cells, which the client passes too, are left out."""
        if cell.cell_type != "code":
            return
        self.place = f"cell {self._numbers[cell_index]} of {self._total}, {self._sections[cell_index]}"
        self._cell_started = time.monotonic()
        self._last_line = ""

    def cell_finished(self, cell: Any, cell_index: int, execute_reply: Any) -> None:
        """Notes that a cell has ended, whether well or not."""
        if not self._terminal:
            took = _clock(time.monotonic() - self._cell_started)
            self._show(f"{self._state()} | took {took}")

    def printed(self, text: str) -> None:
        """Notes what the running cell prints; the last line of it is shown."""
        lines = [line.strip() for line in re.split(r"[\r\n]+", text) if line.strip()]
        if lines:
            self._last_line = lines[-1]

    def _tick(self) -> None:
        while not self._stop.wait(TERMINAL_INTERVAL if self._terminal else LOG_INTERVAL):
            self._show(f"{self._state()} | {self._last_line}" if self._last_line else self._state())

    def _state(self) -> str:
        held = self.memory.current if self.memory else None
        size = f" | {held / 1e6:.0f} MB" if held is not None else ""
        return f"{self._name} {_clock(time.monotonic() - self._started)}{size} | {self.place}"

    def _show(self, text: str) -> None:
        with self._lock:
            if self._terminal:
                width = shutil.get_terminal_size().columns - 1
                self._stream.write(f"\r\x1b[2K{text[:width]}")
            else:
                self._stream.write(f"{text}\n")
            self._stream.flush()


def _sections(notebook: Any) -> list[str]:
    """For each cell the heading that it stands under."""
    heading, sections = "the start", []
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and (found := re.search(r"^#{1,4} +(.+)$", cell.source, re.MULTILINE)):
            heading = found.group(1).strip()
        sections.append(f"'{heading}'" if heading != "the start" else heading)
    return sections


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"

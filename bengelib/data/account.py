"""`Account`: the items that a reader used and left out, with reasons; kept with the data and reported once."""

import sys
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from tqdm import tqdm

from bengelib.errors import DataWarning

Names = dict[str, str]
"""Names of files or patches, each with a detail, which may be empty."""


class Account:
    """The account of one reader; `print(data.account)` shows it.

    A reason completes the sentence "3 images ...", such as `"are grey"`; its consequence may follow after "; ".

    Attributes:
        what: the items that are counted, such as `"images"`.
        where: the folder.
        used: number of used items.
        left_out: by reason, requested items that are not used.
        set_aside: by reason, the number of items not requested, such as the patches of other splits.
        notes: by reason, used items that are unusual or were changed.
        remarks: whole sentences about everything else.
    """

    def __init__(self, what: str, where: str | Path) -> None:
        """Begin an empty account."""
        self.what, self.where = what, where
        self.used = 0
        self.left_out: dict[str, Names] = {}
        self.set_aside: dict[str, int] = {}
        self.notes: dict[str, Names] = {}
        self.remarks: list[str] = []
        self._harmless: set[str] = set()

    @property
    def met(self) -> int:
        """Number of all items: used, left out and set aside."""
        return self.used + self._count_left_out() + sum(self.set_aside.values())

    def leave_out(self, reason: str, name: str, detail: str = "") -> None:
        """Count an item that is not used."""
        self.left_out.setdefault(reason, {})[name] = detail

    def put_aside(self, reason: str, count: int = 1) -> None:
        """Count items that were not requested."""
        if count:
            self.set_aside[reason] = self.set_aside.get(reason, 0) + count

    def note(self, reason: str, name: str, detail: str = "", *, harmless: bool = False) -> None:
        """Count an unusual item that is used; harmless ones appear in the account, but cause no warning."""
        self.notes.setdefault(reason, {})[name] = detail
        if harmless:
            self._harmless.add(reason)

    def concerns(self) -> list[str]:
        """A sentence for each reason for a warning."""
        loud = {reason: names for reason, names in self.notes.items() if reason not in self._harmless}
        left = {f"{reason}; left out": names for reason, names in self.left_out.items()}
        return [*self._lines(left), *self._lines(loud), *self.remarks]

    def tell(self, *, progress: bool = False, stacklevel: int = 1) -> None:
        """Report the account once: as a `DataWarning` if there is a concern, else on standard error with `progress`.

        Args:
            progress: whether to report it without any concern.
            stacklevel: as for `warnings.warn`; 1 is the caller of this method.
        """
        if self.concerns():
            warnings.warn(str(self), DataWarning, stacklevel=stacklevel + 1)
        elif progress:
            tqdm.write(str(self), file=sys.stderr)

    def __str__(self) -> str:
        quiet = {reason: names for reason, names in self.notes.items() if reason in self._harmless}
        aside = [f"{count} {reason}" for reason, count in self.set_aside.items()]
        lines = [*self.concerns(), *self._lines(quiet), *aside]
        return "\n".join([f"{shown(str(self.where))}: {self.used} of {self.met} {self.what} used", *lines])

    def _lines(self, entries: Mapping[str, Names]) -> list[str]:
        considered = self.used + self._count_left_out()
        lines = []
        for reason, names in entries.items():
            first, detail = next(iter(names.items()))
            reason, semicolon, consequence = reason.partition("; ")
            example = f"{shown(first)} ({shown(detail)})" if detail else shown(first)
            what = f"{len(names)} of {considered} {self.what} {reason}"
            lines.append(f"{what}, the first being {example}{semicolon}{consequence}")
        return lines

    def _count_left_out(self) -> int:
        return sum(len(names) for names in self.left_out.values())


@cache
def tell_once(text: str) -> None:
    """Warn of something that holds for a whole dataset, once in a process: its parts are opened one after the other.

    Warns:
        DataWarning: the text.
    """
    warnings.warn(text, DataWarning, stacklevel=2)


def shown(name: str) -> str:
    r"""A name printable anywhere on one line: letters are kept, bytes that are not UTF-8 become `\udce8`."""
    one_line = name.replace("\n", "\\n").replace("\r", "\\r")
    return one_line.encode(errors="backslashreplace").decode()

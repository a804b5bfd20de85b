"""A guessed `dataset.toml`: its tables as text, the guesses in words, and the decisions left to the user."""

import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

import torch

from bengelib.data.account import shown
from bengelib.data.description import _TAKEN
from bengelib.errors import DescriptionError


class Guess:
    """A guessed `dataset.toml`.

    Attributes:
        text: its content.
        guessed: the guesses, in sentences.
        problems: decisions that the user has to make before the data can be used.
        known: the table `[samples]`.
    """

    def __init__(self, name: str) -> None:
        """Begin with the table of the dataset."""
        self.guessed: list[str] = []
        self.problems: list[str] = []
        self._tables = ["# Guessed by `python -m bengelib describe`: read it, and correct it."]
        self._keys: set[str] = set()
        self.known: dict[str, Any] = {}
        self._head = {"name": name, "licence": "", "citation": ""}

    @property
    def text(self) -> str:
        """The content of the file."""
        head = [_table("dataset", self._head, {}), _table("samples", self.known, {})]
        return "\n".join([self._tables[0], *head, *self._tables[1:]])

    def say(self, sentence: str) -> None:
        """Report a guess, once."""
        if sentence not in self.guessed:
            self.guessed.append(sentence)

    def decide(self, sentence: str) -> None:
        """Report a decision that is left to the user, once."""
        if sentence not in self.problems:
            self.problems.append(sentence)

    def head(self, **values: str) -> None:
        """Set keys of the table `[dataset]`."""
        self._head |= values

    def samples(self, **values: Any) -> None:
        """Set keys of the table `[samples]`."""
        self.known |= values

    def key(self, *names: str) -> str:
        """The first valid and unused name for a modality or target, else the last one with a number."""
        keys = [_plain(name) for name in names]
        numbered = (f"{keys[-1]}_{number}" for number in range(2, len(self._keys) + 3))
        key = next(key for key in (*keys, *numbered) if key and key not in self._keys and not _means_something(key))
        self._keys.add(key)
        return key

    def add(
        self, part: str, key: str, values: Mapping[str, Any], notes: Mapping[str, str] | None = None, off: str = ""
    ) -> None:
        """Add the table of a modality or target.

        Args:
            part: `"modalities"` or `"targets"`.
            key: a name from `key`.
            values: keys of the table; None leaves one out.
            notes: by key, a comment behind its value.
            off: reason why the table is written as a comment; empty for an active table.
        """
        text = _table(f"{part}.{key}", values, notes or {})
        if off:
            text = "\n".join(f"# {line}".rstrip() for line in [f"{off}:", *text.splitlines()]) + "\n"
        self._tables.append(text)


def _means_something(key: str) -> bool:
    """True if batches or networks reserve a name."""
    return key in _TAKEN or key.endswith("_available") or hasattr(torch.nn.ModuleDict(), key)


def _plain(name: str) -> str:
    """A name reduced to the characters of keys; possibly empty."""
    letters = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    key = re.sub(r"\W+", "_", letters).strip("_")
    return f"m_{key}" if key[:1].isdigit() else key


def _table(name: str, values: Mapping[str, Any], notes: Mapping[str, str]) -> str:
    """A TOML table."""
    lines = [f"[{name}]"]
    for key, value in values.items():
        if value is not None:
            note = notes.get(key) or ("" if value else "state it") if isinstance(value, str) else notes.get(key)
            lines.append(f"{key} = {as_toml(value)}" + (f"  # {note}" if note else ""))
    return "\n".join([*lines, ""])


def as_toml(value: Any) -> str:
    """A text, number, list, or table from whole numbers to texts, as one line of TOML.

    Raises:
        DescriptionError: a text that is not Unicode, as file names may be.
    """
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise DescriptionError(
                f"the name '{shown(value)}' is not UTF-8, which a dataset.toml cannot hold; rename it"
            ) from None
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {as_toml(each)}" for key, each in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    return f"{value:g}" if isinstance(value, float) and value == int(value) else repr(value)

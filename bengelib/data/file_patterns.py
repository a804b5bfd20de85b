"""Patterns such as `"images/{class}/{id}_{band}.tif"`: where the files of a sample lie, and which samples there are."""

import os
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath

from bengelib.errors import DescriptionError

_FIELD = re.compile(r"\{([^{}]*)\}")


class FilePattern:
    """A path relative to the folder of a dataset, with the names of columns in braces.

    `{id}` is the id of the sample, `{band}` the name of a band where each has a file of its own. `*` stands for one
    folder of any name, as in `"*/{id}/{id}_{band}.tif"`.
    """

    def __init__(self, root: Path, text: str, where: str) -> None:
        """Take a pattern apart.

        Args:
            root: the folder of the dataset.
            text: the pattern, with `/` between folders.
            where: what to call it in messages.

        Raises:
            DescriptionError: it is absolute, leaves the folder, or has braces that do not fit or `*` beside letters.
        """
        self.root, self.text, self.where = root, text, where
        parts = PurePosixPath(text).parts
        if not text or text.startswith(("/", "~")) or ".." in parts or "\\" in text or re.match(r"[A-Za-z]:", text):
            raise DescriptionError(
                f"{where} = {text!r}; expected a path within {root}, with / between folders and without '..'"
            )
        rest = _FIELD.sub("", text)
        if "{" in rest or "}" in rest or "" in self.fields:
            raise DescriptionError(f"{where} = {text!r}; expected the name of a column in each pair of braces")
        if any("*" in part and part != "*" for part in parts) or parts.count("*") > 1 or parts[-1] == "*":
            raise DescriptionError(
                f"{where} = {text!r}; expected * for one whole folder at most, such as '*/{{id}}.tif'"
            )

    @property
    def fields(self) -> list[str]:
        """Names in braces, each once, in order."""
        return list(dict.fromkeys(_FIELD.findall(self.text)))

    def path(self, row: Mapping[str, str], band: str = "") -> Path:
        """The file of one sample.

        Args:
            row: values of the columns, `id` among them.
            band: name of the band, for a pattern with `{band}`.

        Raises:
            DescriptionError: a value would lead out of the folder.
        """
        values = {**row, "band": band}

        def filled(match: re.Match[str]) -> str:
            value = values[match[1]]
            if "/" in value or "\\" in value or value in ("", ".", ".."):
                raise DescriptionError(
                    f"{self.where} = {self.text!r} takes {match[1]} = {value!r} of sample {row.get('id')!r}, which is "
                    "no name of a file or folder; a path must stay within the folder of the dataset"
                )
            return value

        parts = [_FIELD.sub(filled, part) for part in PurePosixPath(self.text).parts]
        if "*" in parts:
            star = parts.index("*")
            below = "/".join(parts[:star])
            parts[star] = self._folders.get((below, parts[star + 1]), "*")
        return self.root.joinpath(*parts)

    @cached_property
    def _folders(self) -> dict[tuple[str, str], str]:
        """For the folder before `*` and each name in a folder that it stands for, the name of that folder."""
        parts = PurePosixPath(self.text).parts
        star = parts.index("*")
        found: dict[tuple[str, str], str] = {}
        for before in sorted(self._matching(self.root, parts[:star])):
            below = before.relative_to(self.root).as_posix()
            for folder in sorted(entry.name for entry in os.scandir(before) if entry.is_dir()):
                for name in os.listdir(before / folder):
                    found.setdefault(("" if below == "." else below, name), folder)
        return found

    def _matching(self, folder: Path, parts: tuple[str, ...]) -> Iterator[Path]:
        """Folders below `folder` that the parts of a pattern fit."""
        if not parts:
            yield folder
            return
        known = _regex(parts[0])
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir() and known.fullmatch(entry.name))
        for name in names:
            yield from self._matching(folder / name, parts[1:])

    def rows(self, known: tuple[str, ...] = ()) -> list[dict[str, str]]:
        """The samples that the files on disk make, in the order of their paths: the values of the fields of each.

        Files of several bands, `known`, make one sample.
        """
        found: dict[tuple[tuple[str, str], ...], None] = {}
        if self.root.is_dir():
            self._collect(self.root, PurePosixPath(self.text).parts, {}, found)
        rows = [dict(values) for values in found]
        if "band" in self.fields:
            bands = {row.pop("band") for row in rows}
            if known and not set(known) & bands:
                return []
            rows = [dict(values) for values in dict.fromkeys(tuple(row.items()) for row in rows)]
        return rows

    def _collect(
        self,
        folder: Path,
        parts: tuple[str, ...],
        values: dict[str, str],
        found: dict[tuple[tuple[str, str], ...], None],
    ) -> None:
        part, last = _regex(parts[0], values), len(parts) == 1
        with os.scandir(folder) as entries:
            listed = sorted((entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith("."))
        for name, is_folder in listed:
            match = part.fullmatch(name)
            if match is None or is_folder == last:
                continue
            here = {**values, **{_unescaped(key): value for key, value in match.groupdict().items()}}
            if last:
                found[tuple(here.items())] = None
            else:
                self._collect(folder / name, parts[1:], here, found)


def _regex(part: str, values: Mapping[str, str] | None = None) -> re.Pattern[str]:
    """What matches one part of a pattern; fields that have a value already must have the same one."""
    text, end, seen = "", 0, set(values or ())
    for match in _FIELD.finditer(part):
        text += re.escape(part[end : match.start()])
        field = match[1]
        if values and field in values:
            text += re.escape(values[field])
        elif field in seen:
            text += f"(?P={_escaped(field)})"
        else:
            text += f"(?P<{_escaped(field)}>.+)"
        seen.add(field)
        end = match.end()
    text += re.escape(part[end:])
    return re.compile(".*" if part == "*" else text)


def _escaped(field: str) -> str:
    """The name of a column as the name of a group of a regular expression."""
    return "f_" + field.encode().hex()


def _unescaped(group: str) -> str:
    return bytes.fromhex(group[2:]).decode()

"""Patterns such as `"images/{class}/{id}_{band}.tif"`, which locate the files of samples and list the samples."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath

from bengelib.errors import DescriptionError
from bengelib.files import disk_error

PACK = "packed"
"""Folder of the pack, in the folder of the dataset. Patterns ignore it, also while it is being written."""

_FIELD = re.compile(r"\{([^{}]*)\}")
NO_NAME = re.compile(r"[/\\\0]|^\.{0,2}$|^[A-Za-z]:")
"""Characters that names of single files and folders cannot have."""


class FilePattern:
    """A path relative to the folder of a dataset, with the names of columns in braces.

    `{id}` is the id of the sample, `{band}` the name of a band where each has a file of its own. `*` stands for one
    folder of any name, as in `"*/{id}/{id}_{band}.tif"`. The value of a column may be a path itself, as in
    `"{file}"` or `"images/{file}.tif"`.
    """

    def __init__(self, root: Path, text: str, where: str) -> None:
        """Parse a pattern.

        Args:
            root: the folder of the dataset.
            text: the pattern, with `/` between folders.
            where: its name in messages.

        Raises:
            DescriptionError: it is absolute, leaves the folder, or has unmatched braces or `*` beside letters.
        """
        self.root, self.text, self.where = root, text, where
        self.parts = parts = PurePosixPath(text).parts
        leads_out = text.startswith(("/", "~")) or ".." in parts or re.search(r"[\\\0]|^[A-Za-z]:", text)
        if not parts or leads_out:
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
        self._pieces = [_FIELD.split(part) for part in parts]  # text and names of columns in turn

    @cached_property
    def fields(self) -> list[str]:
        """Distinct names in braces, in order."""
        return list(dict.fromkeys(_FIELD.findall(self.text)))

    @property
    def is_named(self) -> bool:
        """True if one column gives the whole name of the file, with its suffix, or its path."""
        return _FIELD.fullmatch(self.parts[-1]) is not None

    def path(self, row: Mapping[str, str], band: str = "") -> Path:
        """The file of one sample.

        Args:
            row: values of the columns, `id` among them.
            band: name of the band, for a pattern with `{band}`.

        Raises:
            DescriptionError: a value leads out of the folder, or two folders that match `*` have the file.
        """
        parts = []
        for pieces in self._pieces:
            part = pieces[0]
            for field, text in zip(pieces[1::2], pieces[2::2], strict=True):
                value = band if field == "band" else row[field]
                if any(NO_NAME.search(name) for name in value.split("/")):
                    raise DescriptionError(
                        f"{self.where} = {self.text!r} takes {field} = {value!r} of sample {row.get('id')!r}, which is "
                        f"no name or path of a file or folder within {self.root}; give it relative to that folder, "
                        "with / between folders and without '..'"
                    )
                part += value + text
            parts.append(part)
        if "*" not in self.parts:
            return self.root.joinpath(*parts)
        star = self.parts.index("*")
        below = parts[star + 1].partition("/")[0]
        folders = self._folders.get(("/".join(parts[:star]), below), ["*"])
        paths = [self.root.joinpath(*parts[:star], folder, *parts[star + 1 :]) for folder in folders]
        if len(paths) > 1:
            paths = [path for path in paths if path.is_file()] or paths[:1]
        if len(paths) > 1:
            raise self._ambiguous(paths[0], paths[1])
        return paths[0]

    @cached_property
    def _folders(self) -> dict[tuple[str, str], list[str]]:
        """Folders that match `*`, by the folder before `*` and a name inside."""
        star = self.parts.index("*")
        found: dict[tuple[str, str], list[str]] = {}
        for before in self._matching("", self.parts[:star]):
            for folder, _ in self._entries(before, folders=True):
                for name, _ in self._entries(f"{before}/{folder}".lstrip("/")):
                    found.setdefault((before, name), []).append(folder)
        return found

    def _matching(self, folder: str, parts: Sequence[str]) -> Iterator[str]:
        """Folders below `folder` that match parts of the pattern."""
        if not parts:
            yield folder
            return
        fits = _regex(parts[0])
        for name, _ in self._entries(folder, folders=True):
            if fits.fullmatch(name):
                yield from self._matching(f"{folder}/{name}".lstrip("/"), parts[1:])

    def _entries(self, folder: str, *, folders: bool = False) -> list[tuple[str, bool]]:
        """Names in a folder, relative to the root, and whether each is a folder; without hidden ones and packs.

        Raises:
            DiskError: the folder cannot be read.
        """
        try:
            with os.scandir(self.root / folder) as entries:
                found = sorted((entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith("."))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise disk_error(error, self.root / folder) from error
        ours = (PACK, f"{PACK}.partial") if not folder else ()
        return [(name, is_folder) for name, is_folder in found if name not in ours and (is_folder or not folders)]

    def files(self, bands: Sequence[str] = ()) -> dict[str, dict[str, str]]:
        """The matching files on disk, in order: the values of the fields by path relative to the root.

        Args:
            bands: values that `{band}` may have; any if empty.
        """
        return dict(self._collect("", self.parts, {}, bands))

    def rows(self, bands: Sequence[str] = ()) -> list[dict[str, str]]:
        """The samples that the files on disk define, in the order of paths: the values of the fields of each.

        Files of several bands form one sample.

        Raises:
            DescriptionError: two files, in two folders that match `*`, belong to the same sample.
        """
        paths: dict[tuple[tuple[str, str], ...], str] = {}
        samples: dict[tuple[tuple[str, str], ...], None] = {}
        for path, values in self.files(bands).items():
            other = paths.setdefault(tuple(values.items()), path)
            if other != path:
                raise self._ambiguous(self.root / other, self.root / path)
            samples[tuple((field, value) for field, value in values.items() if field != "band")] = None
        return [dict(values) for values in samples]

    def _ambiguous(self, one: Path, other: Path) -> DescriptionError:
        return DescriptionError(
            f"{self.where} = {self.text!r} fits {one} and {other}; name the folder by a column in braces in place of *"
        )

    def _collect(
        self, folder: str, parts: Sequence[str], values: Mapping[str, str], bands: Sequence[str]
    ) -> Iterator[tuple[str, dict[str, str]]]:
        fits, last = _regex(parts[0], values, bands), len(parts) == 1
        for name, is_folder in self._entries(folder):
            match = fits.fullmatch(name)
            if match is None or is_folder == last:
                continue
            here = {**values, **{_unescaped(group): value for group, value in match.groupdict().items()}}
            path = f"{folder}/{name}".lstrip("/")
            if last:
                yield path, here
            else:
                yield from self._collect(path, parts[1:], here, bands)


def _regex(part: str, values: Mapping[str, str] | None = None, bands: Sequence[str] = ()) -> re.Pattern[str]:
    """Regular expression of one part of a pattern; fields with known values must match them."""
    values = values or {}
    text, end, seen = "", 0, set()
    for match in _FIELD.finditer(part):
        text += re.escape(part[end : match.start()])
        field = match[1]
        if field in values:
            text += re.escape(values[field])
        elif field in seen:
            text += f"(?P={_escaped(field)})"
        else:
            may_be = "|".join(map(re.escape, bands)) if field == "band" and bands else ".+"
            text += f"(?P<{_escaped(field)}>{may_be})"
        seen.add(field)
        end = match.end()
    text += re.escape(part[end:])
    return re.compile(".*" if part == "*" else text)


def _escaped(field: str) -> str:
    """The name of a column as the name of a group of a regular expression."""
    return "f_" + field.encode().hex()


def _unescaped(group: str) -> str:
    return bytes.fromhex(group[2:]).decode()

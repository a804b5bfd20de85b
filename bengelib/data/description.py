"""`dataset.toml`: what a dataset of any sensor consists of, in one file beside the data. Needs no torch.

```toml
[dataset]
name = "my-dataset"
licence = "CC-BY-4.0"                  # optional, as is `citation`

[samples]
table = "samples.csv"                  # or .parquet; without it the files of the first modality make the samples
id = "id"                              # column of the ids; without one, the row numbers
group = "site"                         # optional: samples of a group stay on one side of a blocked split
longitude = "lon"                      # optional, with `latitude`: degrees; blocks of `block` degrees where no group is
latitude = "lat"
split = "split"                        # optional: column with train, val or test

[modalities.s2]
kind = "image"                         # or "map", "vector", "scalar"
files = "images/{id}.tif"              # columns of the table in braces; {band} where each band has a file
bands = ["B02", "B03", "B04", "B08"]
unit = "reflectance"                   # of all bands, or a list
scale = 0.0001                         # value = stored * scale + offset; one number, or one a band
offset = 0.0
no_data = 0                            # stored numbers that are no measurement

[targets.crop]
kind = "class"                         # or "labels", "map", "number"
column = "crop"
classes = ["maize", "wheat"]
```
"""

import difflib
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bengelib.bands import IGNORE_INDEX
from bengelib.data.file_patterns import FilePattern
from bengelib.errors import BandError, DatasetNotFoundError, DescriptionError
from bengelib.files import tree_folder
from bengelib.modalities import Target

FILE_NAME = "dataset.toml"
BLOCK = 0.25
"""Degrees along a side of the blocks of a split where no group is named: 28 km from north to south."""

_TABLES = {
    "dataset": ("name", "licence", "citation"),
    "samples": ("table", "id", "group", "longitude", "latitude", "block", "split"),
    "modalities": (),
    "targets": (),
}
_IMAGE = ("kind", "files", "bands", "layers", "unit", "scale", "offset", "no_data", "size", "wavelengths")
_MAP = ("kind", "files", "layers", "classes", "no_data", "size", "colours")
_COLUMNS = ("kind", "columns", "column", "bands", "unit", "scale", "offset")
_MODALITY_KEYS = {"image": _IMAGE, "map": _MAP, "vector": _COLUMNS, "scalar": _COLUMNS}
_TARGET_KEYS = {
    "class": ("kind", "column", "classes", "colours"),
    "labels": ("kind", "column", "classes", "separator"),
    "map": _MAP,
    "number": ("kind", "column", "unit"),
}


@dataclass(frozen=True)
class Source:
    """Where the values of one modality or target come from.

    Attributes:
        key: its name.
        kind: `"image"`, `"map"`, `"vector"` or `"scalar"` of a modality; `"class"`, `"labels"`, `"map"` or `"number"`
            of a target.
        files: pattern of the files of an image or map, None otherwise.
        columns: columns of the table.
        bands: names of the bands; of a map that is a modality, its classes.
        layers: which layers of a file, from 1, one a band; empty where the file's own names or its order say so.
        unit: of each band.
        scale: of each band; empty where the files' own tags say so.
        offset: of each band; empty where nothing is said.
        no_data: stored numbers that are no measurement.
        size: pixels along a side that samples shall have; 0 for that of the files.
        wavelengths: of each band, in nanometres; may be empty.
        classes: names of the classes, in order.
        codes: the stored number of each class of a map.
        colours: of each class; may be empty.
        separator: between the labels of a cell.
    """

    key: str
    kind: str
    files: FilePattern | None = None
    columns: tuple[str, ...] = ()
    bands: tuple[str, ...] = ()
    layers: tuple[int, ...] = ()
    unit: tuple[str, ...] = ()
    scale: tuple[float, ...] = ()
    offset: tuple[float, ...] = ()
    no_data: tuple[float, ...] = ()
    size: int = 0
    wavelengths: tuple[float, ...] = ()
    classes: tuple[str, ...] = ()
    codes: tuple[int, ...] = ()
    colours: tuple[str, ...] = ()
    separator: str = ";"

    @property
    def target(self) -> Target:
        """What a model is asked for."""
        return Target(self.key, self.kind, self.classes, "".join(self.unit[:1]), self.colours)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Description:
    """A `dataset.toml` that was read and found consistent in itself.

    Attributes:
        root: the folder.
        name: of the dataset.
        modalities: by key.
        targets: by key.
        samples: the table `[samples]`, with its defaults.
        licence: as it is stated there.
        citation: as it is stated there.
    """

    root: Path
    name: str
    modalities: Mapping[str, Source]
    targets: Mapping[str, Source]
    samples: Mapping[str, Any] = field(default_factory=dict)
    licence: str = ""
    citation: str = ""

    @property
    def path(self) -> Path:
        """The file."""
        return self.root / FILE_NAME

    def source(self, key: str) -> Source:
        """The modality or target under a key.

        Raises:
            BandError: there is none.
        """
        for sources in (self.modalities, self.targets):
            if key in sources:
                return sources[key]
        raise BandError(f"{self.path} has no {key!r}; it has {[*self.modalities, *self.targets]}")

    @property
    def scheme(self) -> str:
        """The split that suits the dataset: its own, else blocked where groups or places are known, else by hash."""
        if "split" in self.samples:
            return "official"
        return "blocked" if {"group", "longitude"} & set(self.samples) else "study"


def is_described(root: str | Path) -> bool:
    """Whether a folder holds a `dataset.toml`."""
    return (tree_folder(root) / FILE_NAME).is_file()


def read_description(root: str | Path) -> Description:
    """Read the `dataset.toml` of a folder.

    Raises:
        DatasetNotFoundError: there is none.
        DescriptionError: it is no TOML, has an unknown key, lacks one, or contradicts itself; with file, key and fix.
    """
    root = tree_folder(root)
    path = root / FILE_NAME
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DatasetNotFoundError(
            f"no {FILE_NAME} in {root}; write a first one with `python -m bengelib describe --root {root}`"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DescriptionError(f"{path} is no TOML: {error}") from error
    _check_keys(path, "", content, tuple(_TABLES))
    tables = {name: _Table(path, name, content.get(name, {})) for name in _TABLES}
    for name in ("dataset", "samples"):
        _check_keys(path, name, tables[name].content, _TABLES[name])
    samples = _read_samples(tables["samples"])
    sources = {
        part: {
            key: _read_source(root, _Table(path, f"{part}.{key}", value), part == "targets", samples)
            for key, value in tables[part].content.items()
        }
        for part in ("modalities", "targets")
    }
    if not sources["modalities"]:
        raise DescriptionError(
            f"{path} describes no modality; add a table [modalities.NAME] with kind and files or columns"
        )
    if both := set(sources["modalities"]) & set(sources["targets"]):
        raise DescriptionError(f"{path} has {sorted(both)} as modality and as target; give each a name of its own")
    if "table" not in samples and not any(source.files for source in sources["modalities"].values()):
        raise DescriptionError(f"{path} names neither files nor a table: add `table` to [samples]")
    dataset = tables["dataset"]
    return Description(
        root,
        dataset.text("name", root.name),
        sources["modalities"],
        sources["targets"],
        samples,
        dataset.text("licence", ""),
        dataset.text("citation", ""),
    )


class _Table:
    """One table of the file, whose values are taken by type."""

    def __init__(self, path: Path, name: str, content: Any) -> None:
        if not isinstance(content, dict):
            raise DescriptionError(f"{path}: {name} is {content!r}; expected a table [{name}]")
        self.path, self.name, self.content = path, name, content

    def fail(self, key: str, expected: str) -> DescriptionError:
        """The error for a key, with what was expected."""
        return DescriptionError(
            f"{self.path}: [{self.name}] {key} = {self.content.get(key, 'nothing')!r}; expected {expected}"
        )

    def text(self, key: str, default: str | None = None) -> str:
        """A text."""
        value = self.content.get(key, default)
        if not isinstance(value, str) or (default is None and not value):
            raise self.fail(key, "a text")
        return value

    def names(self, key: str, default: Sequence[str] | None = None) -> tuple[str, ...]:
        """A list of different texts."""
        value = self.content.get(key, default)
        if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) and item for item in value):
            raise self.fail(key, "a list of names, such as ['B02', 'B03']")
        if len(set(value)) < len(value):
            raise self.fail(key, "names that differ from each other")
        return tuple(value)

    def numbers(self, key: str, count: int) -> tuple[float, ...]:
        """One number for all bands, or one for each; nothing if the key is absent."""
        value = self.content.get(key)
        if value is None:
            return ()
        values = value if isinstance(value, list) else [value] * count
        if len(values) != count or not all(_is_number(item) and math.isfinite(item) for item in values):
            raise self.fail(key, f"a finite number, or a list of {count}, one a band")
        return tuple(float(item) for item in values)

    def whole(self, key: str) -> int:
        """A whole number of pixels; 0 if the key is absent."""
        value = self.content.get(key, 0)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0 or (key in self.content and not value):
            raise self.fail(key, "a whole number of 1 or more")
        return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_keys(path: Path, table: str, content: Mapping[str, Any], known: Sequence[str]) -> None:
    """Refuse keys that mean nothing."""
    for key in content:
        if key not in known:
            alike = difflib.get_close_matches(key, known, 1)
            meant = f"; did you mean {alike[0]!r}?" if alike else f"; it may have {list(known)}"
            where = f"[{table}] has" if table else "has"
            raise DescriptionError(f"{path} {where} an unknown key {key!r}{meant}")


def _read_samples(table: _Table) -> dict[str, Any]:
    """The table `[samples]`, checked."""
    samples: dict[str, Any] = {key: table.text(key) for key in table.content if key != "block"}
    if ("longitude" in samples) != ("latitude" in samples):
        raise table.fail("latitude" if "longitude" in samples else "longitude", "both longitude and latitude, or none")
    if "block" in table.content:
        (samples["block"],) = table.numbers("block", 1)
        if samples["block"] <= 0:
            raise table.fail("block", "degrees, more than 0")
    if "table" in samples:
        FilePattern(table.path.parent, samples["table"], f"{table.path}: [samples] table")  # refuses what leads out
        if Path(samples["table"]).suffix not in (".csv", ".parquet"):
            raise table.fail("table", "a file .csv or .parquet")
    return samples


def _read_source(root: Path, table: _Table, is_target: bool, samples: Mapping[str, Any]) -> Source:
    """One modality or target."""
    kinds = _TARGET_KEYS if is_target else _MODALITY_KEYS
    key = table.name.partition(".")[2]
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", key) or key in ("patch_id", "view_1", "view_2", "features"):
        raise DescriptionError(f"{table.path}: [{table.name}] expected another name, of letters, digits, _ and -")
    kind = table.content.get("kind")
    if kind not in kinds:
        raise table.fail("kind", f"one of {list(kinds)}")
    _check_keys(table.path, table.name, table.content, kinds[kind])
    files = None
    if kind in ("image", "map"):
        files = FilePattern(root, table.text("files"), f"{table.path}: [{table.name}] files")
        if "table" not in samples and "id" not in files.fields:
            raise table.fail("files", "a pattern with {id}, since no table names the samples")
    if kind == "map":
        return _read_map(table, key, is_target, files)
    classes = table.names("classes") if kind in ("class", "labels") else ()
    if kind in ("class", "labels", "number"):
        stated = (table.text("unit", ""),) if kind == "number" else ()
        source = Source(
            key,
            kind,
            columns=(table.text("column"),),
            classes=classes,
            unit=stated,
            colours=table.names("colours", ()) if kind == "class" else (),
            separator=table.text("separator", ";") if kind == "labels" else ";",
        )
        _check_target(table, source)
        return source
    columns: tuple[str, ...] = ()
    if kind == "image":
        bands = table.names("bands")
    else:
        columns = (table.text("column"),) if "column" in table.content else table.names("columns")
        bands = table.names("bands", columns)
        if len(bands) != len(columns) or (kind == "scalar" and len(columns) != 1):
            raise table.fail("bands", f"one name for each of the columns {columns}")
    unit = table.content.get("unit", "")
    units: tuple[str, ...] = (unit,) * len(bands) if isinstance(unit, str) else tuple(unit)
    if len(units) != len(bands) or not all(isinstance(each, str) for each in units):
        raise table.fail("unit", f"a text, or a list of {len(bands)}, one a band")
    if not bands:
        raise table.fail("bands", "one name or more")
    return Source(
        key,
        kind,
        files,
        columns,
        bands,
        _read_layers(table, len(bands)),
        units,
        table.numbers("scale", len(bands)),
        table.numbers("offset", len(bands)),
        _read_no_data(table),
        table.whole("size"),
        table.numbers("wavelengths", len(bands)),
    )


def _read_map(table: _Table, key: str, is_target: bool, files: FilePattern | None) -> Source:
    """A map of classes: of a target, or of a modality, which is read as one band of 0 and 1 a class."""
    given = table.content.get("classes")
    if not isinstance(given, dict) or not given or not all(isinstance(name, str) for name in given.values()):
        raise table.fail("classes", 'a table from stored number to name, such as { 0 = "dry", 1 = "wet" }')
    try:
        codes = {int(code): name for code, name in given.items()}
    except ValueError:
        raise table.fail("classes", "whole numbers as keys") from None
    names = tuple(codes.values())
    source = Source(
        key,
        "map",
        files,
        bands=() if is_target else names,
        layers=_read_layers(table, 1),
        unit=() if is_target else ("1",) * len(names),
        no_data=_read_no_data(table),
        size=table.whole("size"),
        classes=names,
        codes=tuple(codes),
        colours=table.names("colours", ()),
    )
    if is_target:
        _check_target(table, source)
    if len(codes) >= IGNORE_INDEX:
        raise table.fail("classes", f"fewer than {IGNORE_INDEX} classes")
    return source


def _check_target(table: _Table, source: Source) -> None:
    try:
        _ = source.target
    except BandError as error:
        raise DescriptionError(f"{table.path}: [{table.name}] {error}") from error


def _read_layers(table: _Table, count: int) -> tuple[int, ...]:
    layers = table.content.get("layers", [])
    layers = [layers] if isinstance(layers, int) else layers
    if not isinstance(layers, list) or not all(
        isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in layers
    ):
        raise table.fail("layers", "a list of whole numbers from 1")
    if layers and len(layers) != count:
        raise table.fail("layers", f"{count}, one a band")
    return tuple(layers)


def _read_no_data(table: _Table) -> tuple[float, ...]:
    """Stored numbers without a measurement; NaN and infinity never are one."""
    value = table.content.get("no_data", [])
    values = value if isinstance(value, list) else [value]
    if not all(_is_number(item) for item in values):
        raise table.fail("no_data", "a number, or a list of numbers")
    return tuple(float(item) for item in values if math.isfinite(item))

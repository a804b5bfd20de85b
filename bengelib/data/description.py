"""`dataset.toml`: the description of a dataset of any sensors, in one file beside the data. Needs no torch.

```toml
[dataset]
name = "my-dataset"
licence = "CC-BY-4.0"                  # optional, as is `citation`

[samples]
table = "samples.csv"                  # or .parquet; without it, the files of the first modality are the samples
id = "id"                              # column of the ids; without one, the row numbers
group = "site"                         # optional: samples of a group stay on one side of a blocked split
longitude = "lon"                      # optional, with `latitude`: degrees; blocks of `block` degrees where no group is
latitude = "lat"
split = "split"                        # optional: column with train, val or test
unlisted = "ignore"                    # optional: there may be files of no sample, which are an error otherwise

[modalities.s2]
kind = "image"                         # or "map", "vector", "scalar"
files = "images/{id}.tif"              # columns of the table in braces; {band} where each band has a file
bands = ["B02", "B03", "B04", "B08"]
unit = "reflectance"                   # of all bands, or a list
scale = 0.0001                         # value = stored * scale + offset; one number, or one a band
offset = 0.0
no_data = 0                            # stored values that are not measurements

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
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bengelib.bands import IGNORE_INDEX
from bengelib.data.file_patterns import NO_NAME, FilePattern
from bengelib.errors import BandError, DatasetNotFoundError, DescriptionError
from bengelib.files import disk_error, tree_folder
from bengelib.modalities import Target

FILE_NAME = "dataset.toml"
BLOCK = 0.25
"""Side of the blocks of a split in degrees, if no group is named: 28 km from north to south."""

_TABLES = {
    "dataset": ("name", "licence", "citation"),
    "samples": ("table", "id", "group", "longitude", "latitude", "block", "split", "unlisted"),
    "modalities": (),
    "targets": (),
}
_IMAGE = ("kind", "files", "bands", "layers", "unit", "scale", "offset", "no_data", "size", "wavelengths")
_MAP = ("kind", "files", "layers", "classes", "no_data", "size", "colours")
_COLUMNS = ("kind", "columns", "column", "bands", "unit", "scale", "offset", "no_data")
_MODALITY_KEYS = {"image": _IMAGE, "map": _MAP, "vector": _COLUMNS, "scalar": _COLUMNS}
_TARGET_KEYS = {
    "class": ("kind", "column", "classes", "colours"),
    "labels": ("kind", "column", "classes", "separator"),
    "map": _MAP,
    "number": ("kind", "column", "unit", "no_data"),
}
_TAKEN = ("patch_id", "view_1", "view_2", "features")
"""Keys of a batch with another meaning."""
_COLOUR = re.compile(r"#[0-9A-Fa-f]{6}")


@dataclass(frozen=True)
class Source:
    """The source of the values of one modality or target.

    Attributes:
        key: its name.
        kind: `"image"`, `"map"`, `"vector"` or `"scalar"` for a modality; `"class"`, `"labels"`, `"map"` or `"number"`
            for a target.
        files: pattern of the files of an image or map, None otherwise.
        columns: columns of the table.
        bands: names of the bands; for a map as modality, its classes.
        layers: layers of a file, from 1, one per band; empty to use the file's own names or order.
        unit: of each band.
        scale: of each band; empty to use the files' own tags.
        offset: of each band; empty if not stated.
        no_data: stored values that are not measurements.
        size: pixels along a side of a sample; 0 for that of the files.
        wavelengths: of each band, in nanometres; may be empty.
        classes: names of the classes, in order.
        codes: the stored value of each class of a map.
        colours: of each class; may be empty.
        separator: between the labels of a cell.
        where: its name in messages: the file and its table.
        table: the file of the samples' table, for messages about columns.
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
    where: str = ""
    table: str = ""

    @property
    def per_band(self) -> bool:
        """True if each band has a file of its own."""
        return self.files is not None and "band" in self.files.fields

    @property
    def stored(self) -> tuple[Any, ...]:
        """Everything that determines the stored values of an image or map, apart from its files."""
        bands = self.bands if self.kind == "image" else ()
        files = self.files.text if self.files else ""
        return (self.kind, files, bands, self.layers, self.size, self.no_data, self.codes)

    @property
    def target(self) -> Target:
        """The target to predict."""
        return Target(self.key, self.kind, self.classes, "".join(self.unit[:1]), self.colours)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Description:
    """A `dataset.toml` that was read and is consistent.

    Attributes:
        root: the folder.
        name: of the dataset.
        modalities: by key.
        targets: by key.
        samples: the table `[samples]`, with its defaults.
        licence: as stated.
        citation: as stated.
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
            BandError: there is no such key.
        """
        for sources in (self.modalities, self.targets):
            if key in sources:
                return sources[key]
        raise BandError(f"{self.path} has no {key!r}; it has {[*self.modalities, *self.targets]}")

    @property
    def scheme(self) -> str:
        """The default split: the dataset's own, else blocked if groups or locations are known, else by hash."""
        if "split" in self.samples:
            return "official"
        return "blocked" if {"group", "longitude"} & set(self.samples) else "study"


def is_described(root: str | Path) -> bool:
    """True if a folder holds a `dataset.toml`."""
    return (tree_folder(root) / FILE_NAME).is_file()


def read_description(root: str | Path) -> Description:
    """Read the `dataset.toml` of a folder.

    Raises:
        DatasetNotFoundError: there is no `dataset.toml`.
        DescriptionError: it is not TOML, has an unknown key, lacks one, or contradicts itself; with file, key and fix.
        DiskError: it cannot be read.
    """
    root = tree_folder(root)
    path = root / FILE_NAME
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise DatasetNotFoundError(
            f"no {FILE_NAME} in {root}; write a first one with `python -m bengelib describe --root {root}`"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DescriptionError(f"{path} is not TOML in UTF-8: {error}") from error
    except OSError as error:
        raise disk_error(error, path) from error
    _check_keys(path, "", content, tuple(_TABLES))
    tables = {name: _Table(path, name, content.get(name, {})) for name in _TABLES}
    for part in ("dataset", "samples"):
        _check_keys(path, part, tables[part].content, _TABLES[part])
    name = tables["dataset"].text("name", root.name)
    licence, citation = (tables["dataset"].text(key, "") for key in ("licence", "citation"))
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
    return Description(root, name, sources["modalities"], sources["targets"], samples, licence, citation)


class _Table:
    """One table of the file, with values read by type."""

    def __init__(self, path: Path, name: str, content: Any) -> None:
        if not isinstance(content, dict):
            raise DescriptionError(f"{path}: {name} is {content!r}; expected a table [{name}]")
        self.path, self.name, self.content = path, name, content

    def fail(self, key: str, expected: str) -> DescriptionError:
        """The error for a key, with the expected value."""
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
        """A list of distinct texts."""
        value = self.content.get(key, default)
        if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) and item.strip() for item in value):
            raise self.fail(key, "a list of names, such as ['B02', 'B03']")
        if len(set(value)) < len(value):
            raise self.fail(key, "names that differ from each other")
        return tuple(value)

    def colours(self) -> tuple[str, ...]:
        """Colours of classes, possibly none."""
        colours = self.names("colours", ())
        if not all(_COLOUR.fullmatch(colour) for colour in colours):
            raise self.fail("colours", "hexadecimal numbers, such as '#1f77b4'")
        return colours

    def numbers(self, key: str, count: int) -> tuple[float, ...]:
        """One number for all bands, or one for each; empty if the key is absent."""
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
    """Refuse unknown keys."""
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
        if samples["block"] <= 0 or "longitude" not in samples:
            raise table.fail("block", "degrees, more than 0, and longitude and latitude beside it")
    if "table" in samples:
        FilePattern(table.path.parent, samples["table"], f"{table.path}: [samples] table")  # checks the path
        if Path(samples["table"]).suffix.lower() not in (".csv", ".parquet"):
            raise table.fail("table", "a file .csv or .parquet")
    if samples.get("unlisted") not in (None, "ignore"):
        raise table.fail("unlisted", "'ignore', or no such key")
    samples.setdefault("id", "id")
    return samples


def _read_source(root: Path, table: _Table, is_target: bool, samples: Mapping[str, Any]) -> Source:
    """One modality or target."""
    kinds = _TARGET_KEYS if is_target else _MODALITY_KEYS
    key = table.name.partition(".")[2]
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", key) or key in _TAKEN or key.endswith("_available"):
        raise DescriptionError(f"{table.path}: [{table.name}] expected another name, of letters, digits, _ and -")
    kind = table.content.get("kind")
    if not isinstance(kind, str) or kind not in kinds:
        raise table.fail("kind", f"one of {list(kinds)}")
    _check_keys(table.path, table.name, table.content, kinds[kind])
    where = f"{table.path}: [{table.name}]"
    if kind in ("image", "map"):
        source = Source(key, kind, _read_files(root, table, kind, samples), where=where)
        return _read_map(table, source, is_target) if kind == "map" else _read_bands(table, source)
    source = Source(key, kind, no_data=_read_no_data(table), where=where, table=str(root / samples.get("table", "")))
    if not is_target:
        return _read_bands(table, source)
    source = replace(
        source,
        columns=(table.text("column"),),
        classes=table.names("classes") if kind != "number" else (),
        unit=(table.text("unit", ""),) if kind == "number" else (),
        colours=table.colours() if kind == "class" else (),
        separator=table.text("separator", ";") if kind == "labels" else ";",
    )
    if kind == "labels" and not source.separator:
        raise table.fail("separator", "what stands between two labels, such as ';'")
    return _check_target(table, source)


def _read_files(root: Path, table: _Table, kind: str, samples: Mapping[str, Any]) -> FilePattern:
    """The pattern of the files of an image or map."""
    files = FilePattern(root, table.text("files"), f"{table.path}: [{table.name}] files")
    if not set(files.fields) - {"band"}:
        raise table.fail("files", "a pattern with {id} or another column, so that each sample has files of its own")
    if kind == "map" and "band" in files.fields:
        raise table.fail("files", "a pattern without {band}, since a map is one layer")
    if "table" not in samples and samples["id"] not in files.fields:
        raise table.fail("files", f"a pattern with {{{samples['id']}}}, since no table names the samples")
    return files


def _read_bands(table: _Table, source: Source) -> Source:
    """The bands of an image, a vector or a scalar."""
    columns: tuple[str, ...] = ()
    if source.files:
        bands = table.names("bands")
    else:
        if "column" in table.content and "columns" in table.content:
            raise table.fail("columns", "column or columns, not both")
        columns = (table.text("column"),) if "column" in table.content else table.names("columns")
        bands = table.names("bands", columns)
        if len(bands) != len(columns) or (source.kind == "scalar" and len(columns) != 1):
            raise table.fail("bands" if "bands" in table.content else "columns", "one column for each band")
    if not bands:
        raise table.fail("bands" if source.files else "columns", "one name or more")
    if source.per_band and (odd := [band for band in bands if NO_NAME.search(band)]):
        raise table.fail("bands", f"names that files can have in place of {{band}}, which {odd} are not")
    count, unit = len(bands), table.content.get("unit", "")
    units = [unit] * count if isinstance(unit, str) else unit
    if not isinstance(units, list) or len(units) != count or not all(isinstance(each, str) for each in units):
        raise table.fail("unit", f"a text, or a list of {count}, one a band")
    if 0 in (scale := table.numbers("scale", count)):
        raise table.fail("scale", "numbers other than 0")
    return replace(
        source,
        columns=columns,
        bands=bands,
        layers=_read_layers(table, source, count),
        unit=tuple(units),
        scale=scale,
        offset=table.numbers("offset", count),
        no_data=_read_no_data(table),
        size=table.whole("size"),
        wavelengths=table.numbers("wavelengths", count),
    )


def _read_map(table: _Table, source: Source, is_target: bool) -> Source:
    """A class map: a target, or a modality that is read as one-hot bands."""
    given = table.content.get("classes")
    if not isinstance(given, dict) or not given or not all(isinstance(n, str) and n.strip() for n in given.values()):
        raise table.fail("classes", 'a table from stored number to name, such as { 0 = "dry", 1 = "wet" }')
    try:
        codes = {int(code): name for code, name in given.items()}
    except ValueError:
        raise table.fail("classes", "whole numbers as keys") from None
    names, no_data = tuple(codes.values()), _read_no_data(table)
    if len(set(names)) < len(given):
        raise table.fail("classes", "numbers and names that differ from each other")
    if both := [code for code in codes if code in no_data]:
        raise table.fail("no_data", f"numbers that are not classes, which {both} are")
    source = replace(
        source,
        bands=() if is_target else names,
        layers=_read_layers(table, source, 1),
        unit=() if is_target else ("1",) * len(names),
        no_data=no_data,
        size=table.whole("size"),
        classes=names,
        codes=tuple(codes),
        colours=table.colours(),
    )
    return _check_target(table, source)


def _check_target(table: _Table, source: Source) -> Source:
    """Refuse classes that cannot be a target."""
    if source.kind in ("class", "map") and len(source.classes) >= IGNORE_INDEX:
        raise table.fail("classes", f"fewer than {IGNORE_INDEX}, the number of what is unknown")
    if source.kind == "map" and source.bands:
        return source
    try:
        _ = source.target
    except BandError as error:
        raise DescriptionError(f"{source.where} {error}") from error
    return source


def _read_layers(table: _Table, source: Source, count: int) -> tuple[int, ...]:
    """The numbers of the layers of a file, from 1, one per band; empty if not stated."""
    layers = table.content.get("layers", [])
    layers = [layers] if isinstance(layers, int) else layers
    if not isinstance(layers, list) or not all(_is_number(n) and isinstance(n, int) and n > 0 for n in layers):
        raise table.fail("layers", "a list of whole numbers from 1")
    if layers and (len(layers) != count or len(set(layers)) < count or source.per_band):
        raise table.fail("layers", f"{count} different ones, one a band, and no {{band}} in files")
    return tuple(layers)


def _read_no_data(table: _Table) -> tuple[float, ...]:
    """Stored values that are not measurements, besides NaN and infinity."""
    value = table.content.get("no_data", [])
    values = value if isinstance(value, list) else [value]
    if not all(_is_number(item) for item in values):
        raise table.fail("no_data", "a number, or a list of numbers")
    return tuple(float(item) for item in values if math.isfinite(item))

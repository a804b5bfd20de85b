"""`describe`: a first `dataset.toml` from what lies in a folder, with each guess said aloud.

What it can tell are names, counts, types and values; what it cannot are units that values do not show, the order of
bands without names, and licences. Read the file that it writes, and correct it.
"""

import json
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from bengelib.bands import LAND_COVER, S1_BANDS, S2_BANDS
from bengelib.data.described import DescribedDataset
from bengelib.data.description import FILE_NAME
from bengelib.data.samples import read_text_table
from bengelib.errors import BengeError, DatasetNotFoundError, DescriptionError
from bengelib.files import put_in_place, tree_folder

SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".npy")
_LOOK = 12
"""Files of a modality that are opened for a guess."""
_FEW = 40
"""Different values that make a column, or a map, one of classes."""
_S2_L1C = (*S2_BANDS[:10], "B10", *S2_BANDS[10:])
_EUROSAT = (*(f"B{number:02d}" for number in range(1, 13)), "B8A")
_OPTICAL = re.compile(
    r"(?i)^(s2_?)?(b(and)?_?0?\d{1,2}a?|coastal( aerosol)?|blue|green|red|red_?edge_?\d?|nir\d?|swir_?\d?)$"
)
_RADAR = re.compile(r"(?i)^(vv|vh|hh|hv)$")
_HEIGHT = re.compile(r"(?i)(^|_)(dem|elevation|height|altitude|srtm)($|_)|dem$")
_COVER = re.compile(r"(?i)land_?cover|worldcover|lulc")


@dataclass
class Guess:
    """A `dataset.toml` that was guessed.

    Attributes:
        text: its content.
        said: what was guessed, in sentences.
        problems: what has to be decided by hand before the data can be used.
    """

    text: str
    said: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass
class _Files:
    """Files that one pattern finds, and what the first of them hold."""

    name: str
    pattern: str
    paths: list[Path]

    def looked(self) -> Iterator[tuple[np.ndarray, list[str], float | None]]:
        """Pixels (k, h, w), names of the layers and the no-data tag of some files, evenly spread."""
        for path in self.paths[:: max(1, len(self.paths) // _LOOK)][:_LOOK]:
            yield _open(path)


def describe(root: str | Path, *, overwrite: bool = False, progress: bool = True) -> Guess:
    """Write a first `dataset.toml` for a folder, and measure the statistics of its modalities.

    It knows class folders, a folder for each modality, one folder beside a table that names its files, tables alone,
    and the layout of BigEarthNet v2.

    Args:
        root: the folder.
        overwrite: whether to replace a `dataset.toml` that is there.
        progress: whether to show a bar while statistics are measured.

    Raises:
        DatasetNotFoundError: no such folder, or neither images nor tables in it.
        DescriptionError: a `dataset.toml` is there, or a file cannot be read.
    """
    root = tree_folder(root)
    if not root.is_dir():
        raise DatasetNotFoundError(f"there is no folder {root}")
    path = root / FILE_NAME
    if path.exists() and not overwrite:
        raise DescriptionError(f"{path} is there already; edit it, or give --overwrite to have another one written")
    guess = _guess(root)
    partial = path.with_name(f".{FILE_NAME}.part")
    partial.write_text(guess.text, encoding="utf-8")
    put_in_place(partial, path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = DescribedDataset(root, progress=progress)
        guess.said.append(str(data.account).splitlines()[0])
    except BengeError as error:
        guess.problems.append(str(error))
        return guess
    for key, source in data.description.modalities.items():
        try:
            _ = DescribedDataset(root, modalities=(key,), targets=(), progress=progress).inputs
        except BengeError as error:
            guess.problems.append(str(error))
        else:
            found = data.store.statistics(key, progress=progress)
            for band, mean, std in list(zip(source.bands, found.mean, found.std, strict=True))[:16]:
                guess.said.append(f"{key} {band}: mean {mean:.4g}, standard deviation {std:.4g}")
    return guess


def _guess(root: Path) -> Guess:
    """The content for a folder."""
    if (root / "BigEarthNet-S2").is_dir():
        return _bigearthnet(root)
    tables = sorted(path for path in root.iterdir() if path.suffix in (".csv", ".parquet"))
    folders = _folders(root)
    guess = Guess("")
    if not folders and not tables:
        raise DatasetNotFoundError(f"{root} holds neither images {SUFFIXES} nor a table .csv or .parquet")
    table = _read(tables[0]) if tables else None
    parts = [_head(root)]
    if len(tables) > 1:
        guess.said.append(
            f"of the tables {[path.name for path in tables]} the first is taken; change [samples] table if wrong"
        )
    if not folders:
        assert table is not None
        parts += _of_table(tables[0].name, table, None, guess)
    elif _is_classes(folders) and table is None:
        parts += _of_classes(folders, guess)
    else:
        parts += _of_folders(root, folders, tables[0].name if tables else "", table, guess)
    guess.text = "\n".join(parts)
    return guess


def _head(root: Path) -> str:
    return (
        f"# Guessed by `python -m bengelib describe`; read it, and correct it.\n[dataset]\nname = {_text(root.name)}\n"
        'licence = ""  # state it\ncitation = ""  # state it\n'
    )


def _folders(root: Path) -> dict[str, list[Path]]:
    """Image files by the folder that they lie in, relative to the root (`""` for the root itself)."""
    found: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*")):
        inside = path.relative_to(root)
        if any(part.startswith(".") or part in ("packed", "packed.partial") for part in inside.parts):
            continue
        if path.suffix.lower() in SUFFIXES and path.is_file():
            found.setdefault(inside.parent.as_posix() if len(inside.parts) > 1 else "", []).append(path)
    return found


def _is_classes(folders: dict[str, list[Path]]) -> bool:
    """Whether folders are classes: two or more, one level deep, whose files do not share their names."""
    if "" in folders or len(folders) < 2 or any("/" in name for name in folders):
        return False
    stems = [{path.stem for path in paths} for paths in folders.values()]
    shared = sum(count > 1 for count in Counter(stem for each in stems for stem in each).values())
    return shared < 0.1 * sum(map(len, stems))


def _of_classes(folders: dict[str, list[Path]], guess: Guess) -> list[str]:
    """One modality and the class of its folders."""
    classes = list(folders)
    suffix = Counter(path.suffix for paths in folders.values() for path in paths).most_common(1)[0][0]
    every = [path for paths in folders.values() for path in paths if path.suffix == suffix]
    dropped = sum(map(len, folders.values())) - len(every)
    if dropped:
        guess.said.append(f"{dropped} files end otherwise than {suffix} and are of no sample")
    guess.said.append(f"{len(classes)} folders are taken for classes: {classes[:12]}")
    files = _Files("image", f"{{class}}/{{id}}{suffix}", sorted(every))
    target = ["[targets.label]", 'kind = "class"', 'column = "class"  # the folder', f"classes = {_list(classes)}", ""]
    return ["[samples]\n", *_modality(files, guess), "\n".join(target)]


def _of_folders(
    root: Path, folders: dict[str, list[Path]], table_name: str, table: pd.DataFrame | None, guess: Guess
) -> list[str]:
    """A modality or a map for each folder of images."""
    field, parts = "id", []
    if table is not None:
        field, whole_name = _id_column(table, folders, guess)
        parts += _of_table(table_name, table, field, guess)
    else:
        whole_name = False
        parts.append("[samples]\n")
    keys = Counter(re.sub(r"\W+", "_", name.rpartition("/")[2] or root.name).strip("_") for name in folders)
    for name, paths in folders.items():
        key = re.sub(r"\W+", "_", name.rpartition("/")[2] or ("image" if table is not None else root.name)).strip("_")
        key = key if key and keys[key] < 2 else re.sub(r"\W+", "_", name).strip("_")
        key = key if not key[:1].isdigit() else f"m_{key}"
        suffix = Counter(path.suffix for path in paths).most_common(1)[0][0]
        placeholder = f"{{{field}}}" if whole_name else f"{{id}}{suffix}"
        files = _Files(
            key, f"{name}/{placeholder}".lstrip("/"), sorted([path for path in paths if path.suffix == suffix])
        )
        parts += _modality(files, guess)
    return parts


def _id_column(table: pd.DataFrame, folders: dict[str, list[Path]], guess: Guess) -> tuple[str, bool]:
    """The column that names the files, and whether it does so with their suffix."""
    names = {path.name for paths in folders.values() for path in paths}
    stems = {path.stem for paths in folders.values() for path in paths}
    scored = {}
    for column in map(str, table):
        values = set(table[column])
        scored[column, True], scored[column, False] = len(values & names), len(values & stems)
    (column, whole), hits = max(scored.items(), key=lambda item: item[1])
    if not hits:
        raise DescriptionError(
            f"no column of the table, {list(table.columns)}, names the image files, such as {sorted(names)[0]}; add one"
        )
    guess.said.append(f"column {column} names the files")
    return column, whole


def _of_table(name: str, table: pd.DataFrame, id_column: str | None, guess: Guess) -> list[str]:
    """The samples, and what the columns of a table are."""
    columns = [str(column) for column in table]
    lower = {column.lower(): column for column in columns}
    samples = ["[samples]", f"table = {_text(name)}"]
    if id_column is None:
        unique = [column for column in columns if table[column].is_unique and (table[column] != "").all()]
        named = [column for column in unique if re.search(r"(?i)(^|_)(id|name|patch|file|station)s?($|_)", column)]
        if not named:
            guess.said.append(f"no column of {name} names the samples: their row numbers do; keep the order")
        id_column = named[0] if named else ""
    samples += [f"id = {_text(id_column)}"] if id_column else []
    used = {id_column}
    group = next(
        (lower[c] for c in lower if re.fullmatch(r"(.*_)?(group|site|tile|event|scene|region|block)(_.*)?", c)), None
    )
    if group and table[group].nunique() < len(table):
        samples.append(f"group = {_text(group)}")
        guess.said.append(f"column {group} keeps samples together in a blocked split ({table[group].nunique()} groups)")
        used.add(group)
    lon, lat = (
        next((lower[c] for c in names if c in lower), None)
        for names in (("lon", "longitude", "lng"), ("lat", "latitude"))
    )
    if lon and lat:
        samples += [f"longitude = {_text(lon)}", f"latitude = {_text(lat)}"]
        guess.said.append(
            f"columns {lon} and {lat} are taken for degrees; without a group they make the blocks of a split"
        )
        used |= {lon, lat}
    if "split" in lower:
        samples.append(f"split = {_text(lower['split'])}")
        used.add(lower["split"])
    rest = [column for column in columns if column not in used]
    numeric = [column for column in rest if _is_numeric(table[column])]
    classes = [
        column for column in rest if column not in numeric and 2 <= table[column].replace("", np.nan).nunique() <= _FEW
    ]
    whole = [c for c in numeric if re.fullmatch(r"(?i)label|class|target|y", c) and table[c].nunique() <= _FEW]
    classes += whole
    numeric = [column for column in numeric if column not in whole]
    parts = ["\n".join([*samples, ""])]
    is_alone = not any("files" in part for part in parts)
    for column in classes:
        names = sorted(
            set(table[column]) - {""}, key=lambda value: (len(value), value) if value.isdigit() else (0, value)
        )
        parts.append(f'[targets.{_key(column)}]\nkind = "class"\ncolumn = {_text(column)}\nclasses = {_list(names)}\n')
        guess.said.append(f"column {column} is taken for a target of {len(names)} classes")
    if lon and lat:
        parts.append(
            f'[modalities.lonlat]\nkind = "vector"\ncolumns = {_list([lon, lat])}\nbands = ["lon", "lat"]\n'
            'unit = "degree"\n'
        )
    if numeric and classes and is_alone:
        groups: dict[str, list[str]] = {}
        for column in numeric:
            groups.setdefault(re.split(r"[_\-. ]", column)[0], []).append(column)
        if any(len(members) == 1 for members in groups.values()):
            groups = {"values": numeric} if len(groups) == len(numeric) else groups
        for key, members in groups.items():
            parts.append(
                f'[modalities.{_key(key)}]\nkind = "vector"\ncolumns = {_list(members)}\nunit = ""  # state it\n'
            )
            guess.said.append(f"columns {members[:8]} are taken for the vector {_key(key)}")
    else:
        for column in numeric:
            parts.append(
                f'[targets.{_key(column)}]\nkind = "number"\ncolumn = {_text(column)}\nunit = ""  # state it\n'
            )
            guess.said.append(f"column {column} is taken for a number to predict")
    return parts


def _modality(files: _Files, guess: Guess) -> list[str]:
    """The tables of what a set of files holds: a modality, a map, or several of both in the layers of one file."""
    looked = list(files.looked())
    counts = Counter(len(pixels) for pixels, _, _ in looked)
    if len(counts) > 1:
        guess.problems.append(
            f"the files of {files.pattern} have {dict(counts)} layers; put them into folders of their own"
        )
    pixels, names, tag = max(looked, key=lambda each: len(each[0]))
    values = [each[0] for each in looked if len(each[0]) == len(pixels)]
    sizes = {each.shape[1:] for each in values}
    size = f"size = {min(max(shape) for shape in sizes)}  # files have {len(sizes)} sizes\n" if len(sizes) > 1 else ""
    shared = Counter(tuple(other) for _, other, _ in looked).most_common(1)[0]
    named = all(names) and len(set(names)) == len(names) and (shared[1] == len(looked))
    if len(pixels) == 1 and (codes := _codes(values, 0)) is not None:
        return [_map(files.name, files.pattern, (), codes, tag, size, guess)]
    if named and len(pixels) > 1:
        return _layers(files, names, values, tag, size, guess)
    bands = _band_names(files, values, guess)
    return [_image(files.name, files.pattern, bands, (), values, tag, size, guess)]


def _layers(
    files: _Files, names: list[str], values: list[np.ndarray], tag: float | None, size: str, guess: Guess
) -> list[str]:
    """Modalities and maps of a file whose layers have names."""
    groups: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        if _OPTICAL.match(name):
            groups.setdefault("optical", []).append(place)
        elif _RADAR.match(name):
            groups.setdefault("radar", []).append(place)
        else:
            groups[_key(name)] = [place]
    if len(groups) == 1:
        return [_image(files.name, files.pattern, names, (), values, tag, size, guess)]
    guess.said.append(f"the {len(names)} layers of {files.pattern} are taken apart by their names")
    parts = []
    for key, places in groups.items():
        if re.fullmatch(r"(?i)(.*_)?(qa|quality|scl|mask)(_.*)?", key):
            guess.said.append(f"layer {key} looks like flags of quality and is left out")
            continue
        layers = tuple(place + 1 for place in places)
        codes = _codes(values, places[0]) if len(places) == 1 and not _HEIGHT.search(key) else None
        if codes is not None and _COVER.search(key):
            parts.append(_map(key, files.pattern, layers, codes, tag, size, guess))
        else:
            chosen = [each[places] for each in values]
            parts.append(_image(key, files.pattern, [names[p] for p in places], layers, chosen, tag, size, guess))
    return parts


def _image(
    key: str,
    pattern: str,
    bands: Sequence[str],
    layers: tuple[int, ...],
    values: list[np.ndarray],
    tag: float | None,
    size: str,
    guess: Guess,
) -> str:
    """The table of an image, with the unit and scale that its values suggest."""
    low = [min(float(np.nanmin(each[band])) for each in values) for band in range(len(bands))]
    high = [max(float(np.nanmax(each[band])) for each in values) for band in range(len(bands))]
    kind = values[0].dtype
    lines = [f"[modalities.{key}]", 'kind = "image"', f"files = {_text(pattern)}", f"bands = {_list(bands)}"]
    if layers:
        lines.append(f"layers = {list(layers)}")
    is_optical = len(bands) >= 3 and kind.kind in "iu" and kind.itemsize > 1
    if key == "optical" or (is_optical and not _HEIGHT.search(key)):
        lines += ['unit = "reflectance"', "scale = 0.0001"]
        guess.said.append(f"{key} is taken for reflectance x 10000 ({kind}, from {min(low):g} to {max(high):g})")
        dark = [min(float(each[band].min()) for band in range(len(bands))) for each in values]
        bright = sum(value >= 900 for value in dark)
        if bright:
            guess.problems.append(
                f"{bright} of {len(dark)} files of {key} that were looked at have no value below 900, as in Sentinel-2 "
                "of processing baseline 04.00 and later: state offset = -0.1 if all files are such, offset = 0.0 if "
                "none is, and bring them to one form if they are mixed"
            )
            lines.append("# offset = -0.1  # or 0.0: state it")
        else:
            lines.append("offset = 0.0")
    elif kind.name == "uint8":
        lines += ['unit = "1"', f"scale = {1 / 255!r}  # 0 to 255 become 0 to 1"]
    elif key == "radar" or (len(bands) == 2 and kind.kind == "f"):
        unit = "dB" if min(low) < 0 else "linear power"
        lines.append(f"unit = {_text(unit)}")
        guess.said.append(f"{key} is taken for backscatter in {unit} (from {min(low):.3g} to {max(high):.3g})")
    else:
        unit = "m" if _HEIGHT.search(key) else ""
        lines.append(f"unit = {_text(unit)}" + ("" if unit else "  # state it"))
    odd = [value for value in (-9999.0, -32768.0, -32767.0) if min(low) == value]
    if odd:
        lines.append(f"no_data = {odd[0]:g}")
        guess.said.append(f"{odd[0]:g} in {key} is taken for no data")
    elif tag is not None and np.isfinite(tag):
        lines.append(f"no_data = {tag:g}  # the tag of the files")
    return "\n".join([*lines, size])


def _map(
    key: str,
    pattern: str,
    layers: tuple[int, ...],
    codes: list[int],
    tag: float | None,
    size: str,
    guess: Guess,
) -> str:
    """The table of a map of classes."""
    legend = {entry.code: entry.name for entry in LAND_COVER}
    rest = [code for code in codes if code != 0]
    no_data = []
    if rest and set(rest) <= set(legend) and len(rest) > 1:
        classes = legend
        no_data = [0]
        guess.said.append(f"{key} is taken for a map of ESA WorldCover")
    elif codes in ([0, 255], [0, 1]):
        classes = {codes[0]: f"no {key}", codes[1]: key}
        guess.said.append(f"{key} is taken for a map of two classes, {codes}")
    else:
        classes = {code: f"class {code}" for code in codes}
        guess.said.append(
            f"{key} is taken for a map of {len(codes)} classes, {codes}; name them, and add those not met yet"
        )
    if tag is not None and tag in classes and codes not in ([0, 255], [0, 1]):
        del classes[int(tag)]
        no_data = [int(tag)]
    table = ", ".join(f"{code} = {_text(name)}" for code, name in classes.items())
    lines = [f"[targets.{key}]", 'kind = "map"', f"files = {_text(pattern)}", f"classes = {{ {table} }}"]
    lines += [f"layers = {list(layers)}"] if layers else []
    lines += [f"no_data = {no_data}"] if no_data else []
    return "\n".join([*lines, size])


def _codes(values: list[np.ndarray], band: int) -> list[int] | None:
    """The few whole numbers that a layer holds, None if they are many."""
    if values[0].dtype.kind not in "iu":
        return None
    found = sorted({int(code) for each in values for code in np.unique(each[band])})
    return found if 1 < len(found) <= _FEW and found[0] >= 0 else None


def _band_names(files: _Files, values: list[np.ndarray], guess: Guess) -> Sequence[str]:
    """Names for layers without any, by their number and type."""
    count, kind = len(values[0]), values[0].dtype
    if count == 13 and kind.kind == "u":
        means = np.mean([each.mean(axis=(1, 2)) for each in values], axis=0)
        cirrus = int(means.argmin())  # B10 sees the upper atmosphere alone and is almost black
        order = _EUROSAT if cirrus == 9 else _S2_L1C
        guess.said.append(
            f"13 layers are taken for Sentinel-2 Level-1C in the order {', '.join(order)}: the darkest, layer "
            f"{cirrus + 1}, is taken for the cirrus band B10; check it"
        )
        return order
    if count == 12 and kind.kind in "iu":
        guess.said.append(f"12 layers are taken for Sentinel-2 Level-2A in the order {', '.join(S2_BANDS)}; check it")
        return S2_BANDS
    if count == 3 and kind.name == "uint8":
        guess.said.append(f"the three layers of {files.name} are taken for red, green and blue; check it")
        return ("R", "G", "B")
    if count == 2 and kind.kind == "f":
        guess.said.append(f"the two layers of {files.name} are taken for VV and VH; check it")
        return S1_BANDS
    if count > 1:
        guess.said.append(f"the {count} layers of {files.name} have no names; give them some")
    return (files.name,) if count == 1 else tuple(f"band_{number}" for number in range(1, count + 1))


def _bigearthnet(root: Path) -> Guess:
    """The layout of BigEarthNet v2 (reBEN, Clasen et al. 2024, arXiv:2407.03653)."""
    guess = Guess("", ["the folders are those of BigEarthNet v2"])
    table = next(iter(sorted([*root.glob("metadata.parquet"), *root.glob("metadata.csv")])), None)
    parts = [_head(root).replace('licence = ""  # state it', 'licence = "CDLA-Permissive-1.0"')]
    rows = _read(table) if table else None
    if table is None or rows is None:
        parts.append("[samples]\n")
        guess.said.append(
            "there is no metadata.parquet, so that Sentinel-1, maps and labels cannot be joined to the patches"
        )
    else:
        parts.append(f'[samples]\ntable = {_text(table.name)}\nid = "patch_id"\nsplit = "split"\n')
    parts.append(
        '[modalities.s2]\nkind = "image"\nfiles = "BigEarthNet-S2/*/{id}/{id}_{band}.tif"\n'
        f'bands = {_list(S2_BANDS)}\nunit = "reflectance"\nscale = 0.0001\noffset = 0.0\nno_data = []\n'
    )
    if rows is not None and (root / "BigEarthNet-S1").is_dir():
        parts.append(
            '[modalities.s1]\nkind = "image"\nfiles = "BigEarthNet-S1/*/{s1_name}/{s1_name}_{band}.tif"\n'
            f'bands = {_list(S1_BANDS)}\nunit = "dB"\n'
        )
    if rows is not None and (root / "Reference_Maps").is_dir():
        codes: set[int] = set()
        for path in sorted((root / "Reference_Maps").rglob("*.tif"))[:200]:
            codes |= {int(code) for code in np.unique(_open(path)[0])}
        classes = ", ".join(f'{code} = "CORINE {code}"' for code in sorted(codes - {0}))
        parts.append(
            '[targets.reference_map]\nkind = "map"\nfiles = "Reference_Maps/*/{id}/{id}_reference_map.tif"\n'
            f"classes = {{ {classes} }}  # of the files looked at; add the others\nno_data = [0, 999]\n"
        )
    if rows is not None and "labels" in rows:
        names = sorted({name for cell in rows["labels"] for name in cell.split(";")} - {""})
        parts.append(f'[targets.labels]\nkind = "labels"\ncolumn = "labels"\nclasses = {_list(names)}\n')
    guess.text = "\n".join(parts)
    return guess


def _open(path: Path) -> tuple[np.ndarray, list[str], float | None]:
    """Pixels (k, h, w), names of the layers and no-data tag of a file."""
    try:
        if path.suffix == ".npy":
            pixels = np.load(path, allow_pickle=False)
            return pixels[None] if pixels.ndim == 2 else pixels, [""] * (len(pixels) if pixels.ndim == 3 else 1), None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as file:
                return file.read(), [name or "" for name in file.descriptions], file.nodata
    except (RasterioError, OSError, ValueError) as error:
        raise DescriptionError(f"{path} cannot be read ({error}); mend it, or move it elsewhere") from error


def _read(path: Path) -> pd.DataFrame:
    return read_text_table(path)


def _is_numeric(column: "pd.Series[str]") -> bool:
    filled = column[column != ""]
    return bool(len(filled)) and bool(pd.to_numeric(filled, errors="coerce").notna().all())


def _key(name: str) -> str:
    key = re.sub(r"\W+", "_", name).strip("_") or "values"
    return f"m_{key}" if key[0].isdigit() else key


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _list(values: Iterable[str]) -> str:
    return json.dumps(list(values), ensure_ascii=False)

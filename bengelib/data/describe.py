"""`describe`: a first `dataset.toml` from the files in a folder, with every guess reported.

It can detect names, counts, types and values. It cannot know units that values do not reveal, the order of unnamed
bands, the quantity to predict, or licences. Read the file that it writes, and correct it.
"""

import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from bengelib.bands import CORINE_43, S1_BANDS, S2_BANDS
from bengelib.data.described import DescribedDataset
from bengelib.data.description import FILE_NAME
from bengelib.data.guess import Guess
from bengelib.data.guess_columns import guess_columns
from bengelib.data.guess_files import Files, guess_files
from bengelib.data.guess_layout import MOST, SUFFIXES, Found, are_alike, find_images, find_layout
from bengelib.data.manifest import read_manifest
from bengelib.data.samples import read_text_table, sides_of
from bengelib.data.splits import SPLITS
from bengelib.data.statistics import as_modality
from bengelib.errors import BengeError, DatasetNotFoundError, DescriptionError
from bengelib.files import discard, find, replacing, tree_folder, writing

_CORINE_CODES = (111, 112, 121, 122, 123, 124, 131, 132, 133, 141, 142, 211, 212, 213, 221, 222, 223, 231, 241, 242,
                 243, 244, 311, 312, 313, 321, 322, 323, 324, 331, 332, 333, 334, 411, 412, 421, 422, 423, 511, 512,
                 521, 522, 523)  # fmt: skip
"""Level-3 codes of CORINE Land Cover, in the order of `CORINE_43`; code 335 is missing in BigEarthNet v1."""


def describe(root: str | Path, *, overwrite: bool = False, progress: bool = True) -> Guess:
    """Write a first `dataset.toml` for a folder, and measure the statistics of its modalities.

    Known layouts are class folders, a folder for each modality, band or sample, folders `train`, `val` and `test` above
    or below these, tables that name the files, tables alone, and BigEarthNet v2.

    Args:
        root: the folder.
        overwrite: whether to replace an existing `dataset.toml`.
        progress: whether to show a bar while statistics are measured.

    Returns:
        The written content, the guesses, and the decisions left to the user.

    Raises:
        DatasetNotFoundError: there is no such folder, or it has neither images nor tables.
        DescriptionError: a `dataset.toml` exists, no file of some kind can be read, or the layout is unknown, or that
            of ben-ge, which needs no description.
        TableError: a table cannot be read.
        DiskError: the folder cannot be read or written.
    """
    root = tree_folder(root)
    if not root.is_dir():
        raise DatasetNotFoundError(f"there is no folder {root}")
    path = root / FILE_NAME
    if path.exists() and not overwrite:
        raise DescriptionError(f"{path} exists already; edit it, or give --overwrite to replace it")
    if find(root / f"{root.name}_meta.csv").is_file() or read_manifest(root) is not None:
        raise DescriptionError(
            f"{root} has the layout of ben-ge, which is known and read without a {FILE_NAME}: give it to pretrain, "
            "train and the other commands as it is"
        )
    guess = _guess(root)
    with writing(root, "call describe again"), replacing(path) as partial:
        partial.write_text(guess.text, encoding="utf-8")
    try:
        _check(root, guess, progress)
    except KeyboardInterrupt:
        discard(path)
        raise
    return guess


def _check(root: Path, guess: Guess, progress: bool) -> None:
    """Read the dataset by the guessed description, and report its statistics and problems."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # repeated by the account
        try:
            data = DescribedDataset(root, progress=progress)
        except BengeError as error:
            guess.decide(str(error))
            return
    guess.guessed += str(data.account).splitlines()
    try:
        sides = sides_of(data.description, data.meta)
        if absent := [side for side in SPLITS if side not in sides]:
            guess.decide(
                f"no sample is on the side {' or '.join(absent)} of the split; models are trained with all three"
            )
    except BengeError as error:
        guess.decide(str(error))
    for key, source in data.description.modalities.items():
        try:
            found = data.store.statistics(key, progress=progress)
            as_modality(source, found, source.bands)
        except BengeError as error:
            guess.decide(str(error))
            continue
        for band, mean, std in list(zip(source.bands, found.mean, found.std, strict=True))[:16]:
            guess.say(f"{key} {band}: mean {mean:.4g}, standard deviation {std:.4g}")


def _guess(root: Path) -> Guess:
    """Guess the description of a folder."""
    guess = Guess(root.name or "dataset")
    if (root / "BigEarthNet-S2").is_dir():
        _guess_bigearthnet(root, guess)
        return guess
    folders = find_images(root)
    shown = (path for path in root.iterdir() if not path.name.startswith("."))
    paths = sorted(path for path in shown if path.suffix.lower() in (".csv", ".parquet"))
    tables = {path.name: read_text_table(path) for path in paths}
    if not folders and not tables:
        raise DatasetNotFoundError(f"{root} holds neither images ({', '.join(SUFFIXES)}) nor a table .csv or .parquet")
    apart = find_layout(Guess(""), folders, alike=False) if folders else []
    found = []
    columns = {_column_of(table, part)[0] for table in tables.values() for part in apart} - {""}
    if len(columns) > 1 and len(apart) <= MOST:
        found = apart  # a column for each folder: the table joins their files
    elif folders:
        found = find_layout(guess, folders)
    name = max(tables, key=lambda name: sum(_column_of(tables[name], part)[2] for part in found), default="")
    if len(tables) > 1:
        guess.decide(f"of the tables {list(tables)}, {name} is taken; change `table` of [samples] if that is wrong")
    if not found:
        guess_columns(guess, name, tables[name], "", alone=True)
    elif name and any(_column_of(tables[name], part)[2] for part in found):
        _join(guess, name, tables[name], found)
    else:
        if name and not any("class" in part.folders for part in found):
            examples = [part.ids[0] for part in found]
            raise DescriptionError(
                f"no column of {root / name}, which has {list(tables[name])}, names the image files, such as "
                f"{examples[0]}; add one with their names, without folders, or write dataset.toml by hand, where "
                "files = '{column}' takes a column of paths"
            )
        if name:
            guess.decide(f"no column of {name} names the files, and it is not used; add one if they belong together")
        _write(guess, found)
    return guess


def _column_of(table: pd.DataFrame, part: Found) -> tuple[str, bool, int]:
    """The column that names files, whether names have suffixes, and the number of files named."""
    stems, names = set(part.ids), {files[0].name for files in part.files}
    best = ("", False, 0)
    for column in (str(column) for column in table if not {"{", "}"} & set(str(column))):
        values = set(table[column])
        for whole, known in ((False, stems), (True, names)):
            if (hits := len(values & known)) > best[2]:
                best = (column, whole, hits)
    return best


def _join(guess: Guess, name: str, table: pd.DataFrame, found: Sequence[Found]) -> None:
    """Describe files named by a table, and the columns of the table."""
    columns = [_column_of(table, part) for part in found]
    id_column = max(columns, key=lambda each: each[2])[0]
    guess.say(f"column {id_column} of {name} names the files")
    for part, (column, whole, hits) in zip(found, columns, strict=True):
        if not hits:
            guess.say(f"no column of {name} names the files of {part.pattern}, which are left out")
            continue
        if hits < len(part.ids):
            guess.say(f"column {column} names {hits} of the {len(part.ids)} files of {part.pattern}")
        for field, folders in part.folders.items():
            same = next((str(c) for c in table if set(table[c]) == set(folders)), "")
            part.pattern = part.pattern.replace(f"{{{field}}}", f"{{{same}}}" if same else "*")
        suffix = Path(part.pattern).suffix
        part.pattern = part.pattern.replace(f"{{id}}{suffix}", f"{{{column}}}") if whole else part.pattern
        part.pattern = part.pattern.replace("{id}", f"{{{column}}}")
    guess_columns(guess, name, table, id_column, alone=False)
    for part in (part for part, each in zip(found, columns, strict=True) if each[2]):
        guess_files(guess, Files(part.name, part.pattern, part.files, part.bands))


def _write(guess: Guess, found: Sequence[Found]) -> None:
    """Describe files that define the samples."""
    if "split" in found[0].folders:
        guess.samples(split="split")
    for part in found:
        if classes := part.folders.get("class"):
            facts = {"kind": "class", "column": "class", "classes": classes}
            guess.add("targets", guess.key("label"), facts, {"column": "the folder"})
        guess_files(guess, Files(part.name, part.pattern, part.files, part.bands, only_images="class" in part.folders))
    ids = [set(part.ids) for part in found]
    alike = len(found) > 1 and are_alike([part.files[0][0] for part in found])
    if alike or (len(found) > 2 and all(own == ids[0] for own in ids) and all(name.isdecimal() for name in ids[0])):
        what = "files of one kind" if alike else "files of the same numbers"
        guess.decide(
            f"the {len(found)} folders hold {what}, and are taken for modalities of the same samples; if they are "
            f'classes, write one modality with files = "{{class}}/{found[0].pattern.rpartition("/")[2]}" and a target '
            'of kind "class" with column = "class"'
        )
    for part, own in zip(found[1:], ids[1:], strict=True):
        if not own & ids[0]:
            guess.decide(
                f"the files of {part.pattern} have other names than those of {found[0].pattern}, such as "
                f"{part.ids[0]} and {found[0].ids[0]}: name them alike, or write a table with a column for each"
            )


def _guess_bigearthnet(root: Path, guess: Guess) -> None:
    """The layout of BigEarthNet v2 (reBEN, Clasen et al. 2024, arXiv:2407.03653)."""
    guess.say("the folders are those of BigEarthNet v2")
    guess.head(licence="CDLA-Permissive-1.0", citation="Clasen et al. 2024, arXiv:2407.03653")
    path = next((path for path in (root / "metadata.parquet", root / "metadata.csv") if path.is_file()), None)
    rows = None if path is None else read_text_table(path)
    s2 = {"kind": "image", "files": "BigEarthNet-S2/*/{id}/{id}_{band}.tif", "bands": S2_BANDS}
    if path is None or rows is None:
        guess.decide(
            "there is no metadata.parquet, without which Sentinel-1 and labels cannot be joined to the patches"
        )
    else:
        id_column = "patch_id" if "patch_id" in rows else next(iter(map(str, rows)))
        guess.samples(table=path.name, id=id_column, **({"split": "split"} if "split" in rows else {}))
    guess.add("modalities", guess.key("s2"), {**s2, "unit": "reflectance", "scale": 0.0001})
    if rows is not None and "s1_name" in rows and (root / "BigEarthNet-S1").is_dir():
        s1 = {"files": "BigEarthNet-S1/*/{s1_name}/{s1_name}_{band}.tif", "bands": S1_BANDS, "unit": "dB"}
        guess.add("modalities", guess.key("s1"), {"kind": "image", **s1})
    maps = {path.name for path in (root / "Reference_Maps").glob("*/*")}
    patches = {path.name for path in (root / "BigEarthNet-S2").glob("*/*")} if rows is None else {*rows[id_column]}
    if maps & patches:
        codes = {**dict(zip(_CORINE_CODES, CORINE_43, strict=True)), 335: "Glaciers and perpetual snow"}
        files = "Reference_Maps/*/{id}/{id}_reference_map.tif"
        facts = {"kind": "map", "files": files, "classes": dict(sorted(codes.items())), "no_data": [0, 999]}
        guess.add("targets", guess.key("reference_map"), facts)
    if rows is not None and "labels" in rows:
        cells = (re.findall("'([^']*)'", cell) if cell[:1] == "[" else cell.split(";") for cell in rows["labels"])
        names = sorted({name.strip() for cell in cells for name in cell} - {""})
        guess.add("targets", guess.key("labels"), {"kind": "labels", "column": "labels", "classes": names})

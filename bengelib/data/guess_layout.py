"""Guesses how files form samples: class folders, or a folder for each modality, band, sample or part of a split."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bengelib.data.file_patterns import PACK
from bengelib.data.guess import Guess
from bengelib.data.guess_columns import SIDES
from bengelib.data.guess_files import form_of
from bengelib.errors import DescriptionError
from bengelib.files import disk_error

SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".npy")
MOST = 24
"""Maximum number of kinds of files; with more, the layout was not understood."""
_BAND = re.compile(r"(?:(.*)[_.-])?(B(?:0?[1-9]|1[0-2]|8A)|VV|VH|HH|HV)")
"""A name that ends in a band of Sentinel-2 or Sentinel-1, for full matches."""
_COUNTED = re.compile(r"(\D*)\d+")
_IN_PATTERNS = re.compile(r"[{}*\\]|^~|^[A-Za-z]:")

Folder = tuple[str, ...]
"""A folder as the names below the root; `()` is the root itself."""


@dataclass
class Found:
    """Files that match one pattern.

    Attributes:
        name: a name for them.
        pattern: with `{id}`, relative to the root.
        ids: of the samples.
        files: of each sample: one, or one per band.
        bands: names of the bands, if each has a file of its own.
        folders: values of another field of the pattern, `class` or `split`.
    """

    name: str
    pattern: str
    ids: list[str]
    files: list[list[Path]]
    bands: tuple[str, ...] = ()
    folders: dict[str, list[str]] = field(default_factory=dict)


def find_images(root: Path) -> dict[Folder, list[Path]]:
    """The images below a folder, by their folder; without hidden ones and packs.

    Raises:
        DiskError: a folder cannot be read.
    """
    found: dict[Folder, list[Path]] = {}

    def refuse(error: OSError) -> None:
        raise disk_error(error, root) from error

    seen = set()
    for at, folders, names in os.walk(root, onerror=refuse, followlinks=True):
        where = Path(at).relative_to(root).parts
        ours = (PACK, f"{PACK}.partial") if not where else ()
        seen.add(os.path.realpath(at))
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and name not in ours and os.path.realpath(os.path.join(at, name)) not in seen
        )
        images = [name for name in sorted(names) if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES]
        if images:
            found[where] = [Path(at) / name for name in images]
    return found


def find_layout(guess: Guess, folders: Mapping[Folder, list[Path]], *, alike: bool = True) -> list[Found]:
    """The patterns by which the images of a folder form samples.

    Args:
        guess: the description to extend.
        folders: the result of `find_images`.
        alike: whether folders may be bands, samples or classes; otherwise each is a modality.

    Raises:
        DescriptionError: the layout is unknown, or a folder has a name that a pattern cannot express.
    """
    files = {where: list(paths) for where, paths in folders.items()}
    sides: dict[str, list[str]] = {}
    if (at := _side_of_split(list(files))) is not None:
        sides = {"split": sorted({where[at] for where in files})}
        guess.say(f"folders {sides['split']} are taken for the sides of a split")
        together: dict[Folder, list[Path]] = {}
        for where, paths in files.items():
            together.setdefault((*where[:at], "{split}", *where[at + 1 :]), []).extend(paths)
        files = together
    found = _of_alike_folders(guess, files) if alike else []
    found = found or [_of_paths(guess, where, _name(where), paths) for where, paths in files.items()]
    if len(found) > MOST and alike:
        raise DescriptionError(
            f"the images lie in {len(files)} folders, such as {'/'.join(next(iter(files)))}, that are neither classes "
            "(the same names in no two of them) nor samples (the same names in all); bring them into a folder a "
            "class, or a folder a modality, or write dataset.toml by hand"
        )
    for part in found:
        part.folders |= sides
    return found


def _side_of_split(folders: Sequence[Folder]) -> int | None:
    """The level at which folders are the parts of a split."""
    for level in range(min(map(len, folders))):
        names = {where[level].lower() for where in folders}
        if len(names) > 1 and names <= set(SIDES):
            return level
    return None


def _of_alike_folders(guess: Guess, files: Mapping[Folder, list[Path]]) -> list[Found]:
    """Folders that differ at one level, as bands, samples or classes; empty if they are something else."""
    levels = {len(where) for where in files}
    if len(files) < 2 or len(levels) > 1:
        return []
    differing = [level for level in range(levels.pop()) if len({where[level] for where in files}) > 1]
    if len(differing) != 1:
        return []
    (level,) = differing
    by_name = {where[level]: paths for where, paths in files.items()}
    first = next(iter(files))
    before, after = first[:level], first[level + 1 :]
    if all(_BAND.fullmatch(name) for name in by_name):
        return _of_band_folders(guess, before, after, by_name)
    return _of_sample_folders(guess, before, after, by_name) or _of_class_folders(guess, before, after, by_name)


def _of_band_folders(guess: Guess, before: Folder, after: Folder, by_band: Mapping[str, Sequence[Path]]) -> list[Found]:
    bands = tuple(by_band)
    guess.say(f"folders {list(bands)} are taken for bands")
    names = {path.name: path.suffix for paths in by_band.values() for path in paths}
    suffix = Counter(names.values()).most_common(1)[0][0]
    there = {band: {path.name: path for path in paths} for band, paths in by_band.items()}
    whole = [name for name, own in names.items() if own == suffix and all(name in there[band] for band in bands)]
    pattern = _pattern((*before, "{band}", *after, f"{{id}}{suffix}"))
    files = [[there[band][name] for band in bands] for name in whole]
    return [Found(_name(before), pattern, [name.removesuffix(suffix) for name in whole], files, bands)]


def _of_sample_folders(
    guess: Guess, before: Folder, after: Folder, by_sample: Mapping[str, Sequence[Path]]
) -> list[Found]:
    """A folder for each sample, whose files have the same names except for the name of the folder."""
    alike: dict[str, dict[str, Path]] = {}
    for sample, paths in by_sample.items():
        for path in paths:
            alike.setdefault(path.name.replace(sample, "{id}"), {})[sample] = path
    common = {name: paths for name, paths in alike.items() if len(paths) > len(by_sample) / 2}
    count = sum(map(len, by_sample.values()))
    if len(by_sample) <= len(common) or sum(map(len, common.values())) < 0.9 * count:
        return []
    guess.say(f"each of the {len(by_sample)} folders is taken for a sample")
    found: list[Found] = []
    joined: dict[tuple[str, str], dict[str, str]] = {}
    for name in common:
        stem, dot, suffix = name.rpartition(".")
        match = _BAND.fullmatch(stem)
        whole = stem[: match.start(2)] if match else stem
        joined.setdefault((whole if match else f"{whole}\0", f"{dot}{suffix}"), {})[match[2] if match else ""] = name
    for (stem, suffix), names in joined.items():
        bands = tuple(names) if len(names) > 1 else ()
        ids = [sample for sample in by_sample if all(sample in common[name] for name in names.values())]
        file = f"{stem}{{band}}{suffix}" if bands else next(iter(names.values()))
        short = re.sub(r"\{id\}|\0", "", stem).strip("_-. ") or _name(before)
        files = [[common[name][sample] for name in names.values()] for sample in ids]
        found.append(Found(short, _pattern((*before, "{id}", *after, file)), ids, files, bands))
    return [part for part in found if part.ids]


def _of_class_folders(
    guess: Guess, before: Folder, after: Folder, by_class: Mapping[str, Sequence[Path]]
) -> list[Found]:
    """A folder for each class: no name occurs in two, or all number files of one kind alike and differ in size."""
    stems = [{path.stem for path in paths} for paths in by_class.values()]
    shared = sum(count > 1 for count in Counter(stem for each in stems for stem in each).values())
    classes = sorted(by_class)
    if shared > 0.1 * sum(map(len, stems)):
        differ = min(map(len, stems)) < 0.9 * max(map(len, stems))
        if not (differ and is_numbered(set().union(*stems)) and are_alike([each[0] for each in by_class.values()])):
            return []
        guess.decide(
            f"the {len(classes)} folders hold different numbers of files that are numbered alike, and are taken for "
            "classes; if they are modalities, write one for each, with files = "
            f'"{"/".join((*before, classes[0], *after))}/{{id}}{next(iter(by_class.values()))[0].suffix}"'
        )
    guess.say(f"{len(classes)} folders are taken for classes: {', '.join(classes[:12])}{', ...' * (len(classes) > 12)}")
    every = [path for paths in by_class.values() for path in paths]
    found = _of_paths(guess, (*before, "{class}", *after), "image", every)
    found.folders = {"class": classes}
    return [found]


def is_numbered(stems: Iterable[str]) -> bool:
    """True if names are one word, or none, and a number, such as `img_0`: they say nothing of a sample."""
    words = {match[1] if (match := _COUNTED.fullmatch(stem)) else None for stem in stems}
    return len(words) == 1 and None not in words


def are_alike(paths: Sequence[Path]) -> bool:
    """True if files have the same number of layers, of the same type and names."""
    forms = {form_of(path) for path in paths}
    return len(forms) == 1 and None not in forms


def _of_paths(guess: Guess, where: Folder, name: str, paths: Sequence[Path]) -> Found:
    """Files in one folder: one per sample, or one per band if all names end in that of a band."""
    counts = Counter(path.suffix for path in paths)
    suffix = counts.most_common(1)[0][0]
    if len(counts) > 1:
        other = next(path.name for path in paths if path.suffix != suffix)
        guess.decide(
            f"{len(paths) - counts[suffix]} files of {'/'.join(where) or name}, such as {other}, do not end in "
            f"{suffix} and belong to no sample: rename or convert them to include them"
        )
    paths = [path for path in paths if path.suffix == suffix]
    matches = {path: match for path in paths if (match := _BAND.fullmatch(path.stem)) and match[1]}
    bands = tuple(dict.fromkeys(match[2] for match in matches.values()))
    if len(bands) > 1 and len(matches) > 0.9 * len(paths):
        samples: dict[tuple[Path, str, str], dict[str, Path]] = {}
        for path, match in matches.items():
            samples.setdefault((path.parent, match[1], path.stem[match.end(1)]), {})[match[2]] = path
        whole = {key: files for key, files in samples.items() if len(files) == len(bands)}
        if whole:
            sign = next(iter(whole))[2]
            guess.say(f"the names of the files of {name} end in those of {len(bands)} bands")
            files = [[each[band] for band in bands] for each in whole.values()]
            ids = [stem for _, stem, _ in whole]
            return Found(name, _pattern((*where, f"{{id}}{sign}{{band}}{suffix}")), ids, files, bands)
    pattern = _pattern((*where, f"{{id}}{suffix}"))
    return Found(name, pattern, [path.stem for path in paths], [[path] for path in paths])


def _name(where: Folder) -> str:
    """A name for the files of a folder."""
    return next((name for name in reversed(where) if not name.startswith("{")), "image")


def _pattern(parts: Sequence[str]) -> str:
    """Names of folders and of a file as a pattern.

    Raises:
        DescriptionError: a name has characters with a special meaning in patterns.
    """
    for part in parts:
        bare = re.sub(r"\{(id|class|split|band)\}", "", part)
        if _IN_PATTERNS.search(bare):
            raise DescriptionError(
                f"the name {part!r} has a sign that means something in the patterns of a dataset.toml; rename it"
            )
    return "/".join(parts)

"""The images of a folder, its other files, and the images held out for testing.

The layout is that of EuroSAT and many others: `<folder>/<class>/<anything>.jpg` (or `.jpeg`, `.png`), optionally with
subfolders of the classes.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from unicodedata import normalize

from bengelib.arguments import check_share, whole_number
from bengelib.data.account import Account, shown
from bengelib.data.image_files import decode_image, file_hash, read_bytes, same_pictures, whole_images_only
from bengelib.data.splits import unit_hash
from bengelib.errors import ArgumentError, DatasetNotFoundError, RasterError, SplitError

SUFFIXES = (".jpg", ".jpeg", ".png")
_OTHER_IMAGES = {".tif", ".tiff", ".webp", ".bmp", ".gif", ".jp2", ".heic", ".heif", ".avif", ".npy", ".jfif", ".jpe"}
_DOCUMENT = re.compile(
    r".*\.(txt|md|rst|pdf|html?|docx?|csv|tsv|xlsx?|(geo)?jsonl?|xml|ya?ml|toml|ini|cfg|log|bib|cff|py|ipynb|sh|bat|r|mat|"
    r"md5|sha\d+|safetensors|pth?|ckpt|part)|readme|licen[cs]e|copying|makefile|version|changelog|authors|citation",
    re.IGNORECASE,
)
"""Names beside class folders that are not classes."""
_SYSTEM = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "$recycle.bin", "lost+found"}
"""Files and folders of operating systems, in lower case."""
_THUMBNAILS = {"@eadir", "$recycle.bin"}
"""Those of them that hold images."""
_UPWARDS = "are links to a folder above"
_SIDES = {"train", "training", "val", "valid", "validation", "dev", "test", "testing", "eval", "holdout"}
"""Names of folders above the classes, in lower case."""


class ImageList(list[str]):
    """Names of images relative to the folder `root`, with an `account` of its content.

    A list derived from it, such as a sorted one, is a plain list.
    """

    def __init__(self, names: Sequence[str], root: Path, account: Account) -> None:
        """Store names, folder and account."""
        super().__init__(names)
        self.root, self.account = root, account


def list_images(root: str | Path, *, need_classes: bool = True) -> ImageList:
    """Names of all images, relative to `root` with forward slashes, in alphabetical order; none is opened.

    Other content is counted in the attribute `account` of the list, with a warning if it could be an image or a class:
    other suffixes, hidden images and folders, broken links, images and archives beside the class folders.

    Args:
        root: a folder whose folders are the classes. Images in subfolders of a class belong to it.
        need_classes: whether at least two classes are required; otherwise, as for pretraining, images may also be in
            `root` itself or in a single folder. Images in `root` have the class `""`.

    Raises:
        DatasetNotFoundError: no such folder; fewer than two class folders with images; a class folder without any
            readable kind of file; names with backslashes.
    """
    names = find_images(root, need_classes=need_classes)
    names.account.tell(stacklevel=2)
    return names


def find_images(root: str | Path, *, need_classes: bool = True) -> ImageList:
    """The list of `list_images`, without a warning."""
    root = Path(root)
    if not root.is_dir():
        raise DatasetNotFoundError(f"no folder {root}; give the folder that holds one folder a class")
    account = Account("images", root)
    names: list[str] = []
    loose: list[str] = []
    above = os.path.realpath(root)
    read: dict[str, str] = {}
    for entry in _entries(root):
        suffix = Path(entry.name).suffix.lower()
        if _is_hidden(entry.name):
            _pass_over(entry, root, account)
        elif entry.is_dir():
            if Path(above).is_relative_to(os.path.realpath(entry.path)):
                account.leave_out(_UPWARDS, entry.name)
            else:
                first = read.setdefault(os.path.realpath(entry.path), entry.name)
                if first != entry.name:
                    account.remarks.append(
                        f"{shown(first)} and {shown(entry.name)} are one folder (a link): two classes"
                    )
                names += _class_folder(Path(entry.path), root, account)
        elif entry.is_file() and suffix in SUFFIXES:
            loose.append(entry.name)
        elif entry.is_file() and _DOCUMENT.fullmatch(entry.name):
            account.put_aside("are other files beside the class folders")
        else:
            account.leave_out(_reason(entry), entry.name)
    classes = _classes(names, account)
    _check_depth(root, names, classes)
    if len(classes) < 2:
        if need_classes:
            raise DatasetNotFoundError(_too_few(root, classes, loose, account))
        names += loose
        if not names:
            raise DatasetNotFoundError(f"{root} has no images ({', '.join(SUFFIXES)}) in it")
    else:
        for name in loose:
            account.leave_out("lie beside the class folders and have no class", name)
    account.used = len(names)
    return ImageList(sorted(names), root, account)


def class_of(name: str) -> str:
    """The class of a file name of `list_images`: its first folder, `""` without one.

    It is in composed form (NFC), so that a folder from a Mac is the same class as one from elsewhere.
    """
    folder, slash, _ = name.partition("/")
    return normalize("NFC", folder) if slash else ""


def same_names(wanted: Sequence[str], there: Sequence[str]) -> dict[str, str]:
    """For each wanted name in a list, its spelling there, which may be composed (NFC) or decomposed (NFD)."""
    exact = set(there)
    composed = {normalize("NFC", name): name for name in there}
    found = {name: name if name in exact else composed.get(normalize("NFC", name)) for name in wanted}
    return {name: spelling for name, spelling in found.items() if spelling is not None}


def picture_hashes(root: str | Path, names: Sequence[str]) -> dict[str, str]:
    """A hash of each picture, equal for all files with the same pixels, for any compression.

    Files that cannot be decoded are compared by their bytes. The hash is that of one of the files, so it does not
    depend on the decoder. 27,000 small files take about ten seconds.

    Raises:
        RasterError: a file is missing or cannot be opened.
    """
    files, pixels = [], []
    with whole_images_only():
        for name in names:
            path = Path(root) / name
            raw = read_bytes(path)
            files.append(file_hash(raw))
            try:
                pixels.append(decode_image(raw, path)[2])
            except RasterError:
                pixels.append((files[-1],))
    groups = same_pictures(pixels)
    least: dict[int, str] = {}
    for group, file in zip(groups, files, strict=True):
        least[group] = min(file, least.get(group, file))
    return {name: least[group] for name, group in zip(names, groups, strict=True)}


def hold_out(
    names: Sequence[str],
    share: float = 0.2,
    seed: int = 0,
    *,
    root: str | Path | None = None,
    hashes: Mapping[str, str] | None = None,
) -> tuple[list[str], list[str]]:
    """Split files into a training and a test part, with the fraction `share` of every class for testing.

    The choice depends on the pictures and the seed alone, not on names, order or machine. Copies of a picture, also
    with other metadata, compression or format, stay together, and a warning counts them.

    Args:
        names: as from `list_images`.
        share: fraction of each class that is held out, in (0, 1).
        seed: of the choice.
        root: the folder of the files; a list from `list_images` knows it.
        hashes: the `picture_hashes` of the files, if known; otherwise the files are read.

    Returns:
        The training names and the test names, each in the given order.

    Raises:
        SplitError: a class has too few different images for both parts.
        RasterError: a file is missing or cannot be opened.
        ArgumentError: `share` is not between 0 and 1, the seed is invalid, or the folder is unknown.
    """
    check_share("share", share, one=False)
    seed = whole_number("seed", seed, 0)
    root = root if root is not None else getattr(names, "root", None)
    if hashes is None:
        if root is None:
            raise ArgumentError(
                "names alone do not say which files are copies; give the list that list_images made, or the folder as "
                "root="
            )
        hashes = picture_hashes(root, names)
    copies: dict[str, list[str]] = {}
    for name in names:
        copies.setdefault(hashes[name], []).append(name)
    sizes = Counter(class_of(name) for name in names)
    quota = {label: min(max(1, round(share * size)), size - 1) for label, size in sizes.items()}
    held_in: Counter[str] = Counter()
    held: set[str] = set()

    def hold(picture: str, quota: Mapping[str, int]) -> None:
        """Hold out a picture with all its copies, unless this would exceed the quota of a class."""
        classes = Counter(class_of(name) for name in copies[picture])
        if picture not in held and all(held_in[label] + count <= quota[label] for label, count in classes.items()):
            held.add(picture)
            held_in.update(classes)

    order = sorted(copies, key=lambda picture: unit_hash(f"{seed}/{picture}"))
    for picture in order:
        hold(picture, quota)
    most = {label: size - 1 for label, size in sizes.items()}
    for label in sizes:  # a class of many copies of few pictures may miss its quota
        for picture in sorted(order, key=lambda picture: len(copies[picture])):
            if not held_in[label] and any(class_of(name) == label for name in copies[picture]):
                hold(picture, most)
        if not held_in[label]:
            raise SplitError(
                f"class {label!r} has {sizes[label]} images, which cannot be parted into some to learn from and some "
                "to test with (copies of a picture stay together); add images or leave the class out"
            )
    _tell_copies(names, list(copies.values()), root)
    return (
        [name for name in names if hashes[name] not in held],
        [name for name in names if hashes[name] in held],
    )


def _tell_copies(names: Sequence[str], groups: Sequence[Sequence[str]], root: str | Path | None) -> None:
    """Report the number of copies."""
    account = Account("images", root if root is not None else "images")
    account.used = len(names)
    for group in groups:
        for name in group[1:]:
            account.note("are copies of others; they stay on one side", name, f"of {group[0]}")
            if class_of(name) != class_of(group[0]):
                account.note("are copies of images of another class", name, f"of {group[0]}")
    account.tell(stacklevel=3)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """The entries of a folder.

    Raises:
        DatasetNotFoundError: the folder cannot be listed, or a name has backslashes.
    """
    try:
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError as error:
        raise DatasetNotFoundError(f"the folder {folder} cannot be listed ({error.strerror})") from error
    if wrong := [entry.name for entry in entries if "\\" in entry.name]:
        raise DatasetNotFoundError(
            f"{folder} has {len(wrong)} names with backslashes, the first being {shown(wrong[0])}: a zip file of "
            "Windows, unpacked by a program that takes them for letters and not for folders. Unpack it with another "
            "one, such as `unzip` or 7-Zip."
        )
    return entries


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _SYSTEM


def _pass_over(entry: os.DirEntry[str], root: Path, account: Account) -> None:
    """Count a hidden entry: as left out if it is an image, or a folder with images."""
    is_systems = entry.name.lower() in _THUMBNAILS or entry.name.startswith("._")
    if not is_systems and entry.is_dir() and any(_images_within(entry.path)):
        account.leave_out("are hidden folders with images in them", Path(entry.path).relative_to(root).as_posix())
    elif not is_systems and _is_image(entry.name) and entry.is_file():
        account.leave_out("are hidden files", Path(entry.path).relative_to(root).as_posix())
    else:
        account.put_aside("are hidden or of the operating system")


def _images_within(folder: str) -> Iterator[str]:
    """Names with the suffix of an image in a folder and below; links are not followed."""
    for _, _, names in os.walk(folder):
        yield from (name for name in names if _is_image(name) and not name.startswith("._"))


def _is_image(name: str) -> bool:
    return Path(name).suffix.lower() in {*SUFFIXES, *_OTHER_IMAGES}


def _reason(entry: os.DirEntry[str]) -> str:
    """Reason for leaving out an entry that is neither a folder nor an image."""
    if not entry.is_file():
        return "are links that lead nowhere" if entry.is_symlink() else "are no files"
    suffix = Path(entry.name).suffix.lower()
    return f"have a suffix that is not read ({shown(suffix) or 'none'})"


def _class_folder(folder: Path, root: Path, account: Account) -> list[str]:
    """Names of the images in a class folder and below.

    Raises:
        DatasetNotFoundError: there are files, but no images.
    """
    before = {reason: len(names) for reason, names in account.left_out.items()}
    names = list(_below(folder, root, account, (os.path.realpath(root), os.path.realpath(folder))))
    if not names:
        label = shown(folder.name)
        passed_over = {reason: len(found) - before.get(reason, 0) for reason, found in account.left_out.items()}
        reasons = ", ".join(f"{count} {reason}" for reason, count in passed_over.items() if count)
        if reasons:
            raise DatasetNotFoundError(
                f"of the files in the class folder {folder} none is read: {reasons}. Save the images as JPEG or PNG "
                f"({', '.join(SUFFIXES)}), or take the folder {label} out of {root}."
            )
        account.remarks.append(f"the folder {label} is empty and not a class")
    return names


def _below(folder: Path, root: Path, account: Account, above: tuple[str, ...]) -> Iterator[str]:
    """Names of the images in a folder and the folders in it."""
    for entry in _entries(folder):
        path = Path(entry.path)
        name, suffix = path.relative_to(root).as_posix(), path.suffix.lower()
        if _is_hidden(entry.name):
            _pass_over(entry, root, account)
        elif entry.is_dir():
            real = os.path.realpath(path)
            if real in above:
                account.leave_out(_UPWARDS, name)
            else:
                yield from _below(path, root, account, (*above, real))
        elif suffix in SUFFIXES and entry.is_file():
            yield name
        else:
            account.leave_out(_reason(entry), name)


def _classes(names: Sequence[str], account: Account) -> list[str]:
    """The classes, with remarks about several spellings of a class and similar names of two."""
    spellings: dict[str, set[str]] = {}
    for folder in {name.partition("/")[0] for name in names}:
        spellings.setdefault(normalize("NFC", folder), set()).add(folder)
    for label, folders in sorted(spellings.items()):
        if len(folders) > 1:
            account.remarks.append(f"the class {label} has {len(folders)} folders (NFC and NFD spelling): one class")
    alike: dict[str, list[str]] = {}
    for label in sorted(spellings):
        alike.setdefault(normalize("NFKC", label).casefold().strip(), []).append(label)
    for labels in alike.values():
        if len(labels) > 1:
            account.remarks.append(f"{len(labels)} classes have almost the same name: {', '.join(map(repr, labels))}")
    return sorted(spellings)


def _check_depth(root: Path, names: Sequence[str], classes: Sequence[str]) -> None:
    """Refuse a folder whose class folders are one level deeper.

    Raises:
        DatasetNotFoundError: with the folder that is probably meant.
    """
    below: dict[str, set[str]] = {}
    for name in names:
        top, *middle, _ = name.split("/")
        below.setdefault(top, set()).add(middle[0] if middle else "")
    only_sides = {top.lower() for top in below} <= _SIDES
    for top, folders in below.items():
        is_side = top.lower() in _SIDES and ("" not in folders or only_sides)
        if is_side or (len(classes) < 2 and "" not in folders and len(folders) > 1):
            raise DatasetNotFoundError(
                f"{root} has {len(classes)} class folders with images in them, {list(classes)}, which look like "
                f"folders above the classes. Perhaps you mean {root / top}?"
            )


def _too_few(root: Path, classes: Sequence[str], loose: Sequence[str], account: Account) -> str:
    left = "; ".join(
        f"{len(names)} {reason}, such as {shown(min(names))}" for reason, names in account.left_out.items()
    )
    passed_over = f" Left out: {left}." if left else ""
    hint = (
        f" {len(loose)} images lie in {root} itself: pretraining takes them as they are, everything that has to do "
        "with labels needs a folder a class."
        if loose
        else ""
    )
    return (
        f"{root} has {len(classes)} class folders with images ({', '.join(SUFFIXES)}) in them: {list(classes)}; "
        f"expected two or more, as in {root.name}/Forest/Forest_1.jpg.{hint}{passed_over}"
    )

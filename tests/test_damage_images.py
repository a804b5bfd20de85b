"""Random damage to folders of images, and random arguments: the right samples, or an error or warning that names it."""

import math
import os
import tempfile
import warnings
from collections import Counter
from io import BytesIO
from itertools import combinations, pairwise
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bengelib.arguments import as_index, as_indices, check_share, real_number, whole_number
from bengelib.data.images import ImageFolder, hold_out
from bengelib.data.labelled import label_subsets
from bengelib.errors import ArgumentError, BengeError, DataWarning, RasterError, SplitError
from tests.data.test_image_files import write_png
from tests.image_folders import pixels

QUICK = settings(max_examples=40, deadline=None, derandomize=True)
SLOW = settings(max_examples=200, deadline=None, derandomize=True)
SIZE = 16
CLASSES = ("Field", normalize("NFC", "Forêt"), "Water")


def saved(image, form="PNG", **options):
    """The bytes of an image file."""
    file = BytesIO()
    image.save(file, format=form, **options)
    return file.getvalue()


def turned():
    """A picture whose pixels lie on their side, with the EXIF orientation that puts them right."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(PICTURE.transpose(Image.Transpose.ROTATE_90), exif=exif)


def deep():
    with tempfile.TemporaryDirectory() as folder:
        write_png(Path(folder) / "deep.png", np.asarray(PICTURE).astype(np.uint16) * 200)
        return (Path(folder) / "deep.png").read_bytes()


PICTURE = Image.fromarray(pixels("Water", 0, SIZE))
GREY = PICTURE.convert("L")
CLEAR = PICTURE.convert("RGBA")
CLEAR.putalpha(0)
READ = {  # file, its pixels as every viewer shows them, and what must be said
    "plain": (saved(PICTURE), PICTURE, ""),
    "turned": (turned(), PICTURE, ""),
    "grey": (saved(GREY), GREY.convert("RGB"), "are grey"),
    "transparent": (saved(CLEAR), PICTURE, "transparent"),
    "frames": (saved(PICTURE, save_all=True, append_images=[GREY.convert("RGB")]), PICTURE, "several frames"),
    "palette": (saved(PICTURE.quantize(256)), PICTURE.quantize(256).convert("RGB"), ""),
    "bmp": (saved(PICTURE, "BMP"), PICTURE, ""),
    "saved again": (saved(PICTURE, compress_level=0), PICTURE, ""),
}
REFUSED = {
    "empty": b"",
    "text": b"no image",
    "cut": saved(PICTURE)[:200],
    "deep": deep(),
    "tiff": saved(PICTURE, "TIFF"),
    "deep tiff": saved(Image.fromarray(np.zeros((8, 8), np.uint16)), "TIFF"),
    "page": b"<!DOCTYPE html><p>Sign in",
}
NAMES = {  # how a name ends, and whether it is read
    ".png": True,
    ".PNG": True,
    ".tif": False,
    ".webp": False,
    ".npy": False,
    "": False,
}
PLACES = ("", "2019/", "2019/é/")
files = st.lists(
    st.tuples(
        st.sampled_from(CLASSES),
        st.sampled_from(PLACES),
        st.sampled_from(["plain", *READ, *REFUSED]),
        st.sampled_from([".png", ".png", ".png", *NAMES]),
        st.sampled_from(["", "", "", ".", "hidden link"]),
        st.sampled_from(["NFC", "NFD"]),
        st.sampled_from([b"", b"\xe8"]),
    ),
    min_size=1,
    max_size=10,
)


def write(root, entries):
    """Write a folder; by name, the kind of each file that must be read, and the number of all others that lie there."""
    wanted, others = {}, 0
    for number, (label, place, kind, suffix, oddity, form, extra) in enumerate(entries):
        folder = root / normalize(form, f"{label}/{place}")
        folder.mkdir(parents=True, exist_ok=True)
        stem = os.fsdecode((oddity if oddity == "." else "").encode() + f"image{number}".encode() + extra)
        path = folder / f"{stem}{suffix}"
        if oddity == "hidden link":
            path.symlink_to("nowhere.png")
        else:
            path.write_bytes(READ[kind][0] if kind in READ else REFUSED[kind])
        if oddity or not NAMES[suffix]:
            others += 1
        else:
            wanted[path.relative_to(root).as_posix()] = kind
    return wanted, others


def check_folder(entries):
    entries = [*((label, "", "plain", ".png", "", "NFC", b"") for label in CLASSES[:2]), *entries]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        root = Path(folder)
        wanted, others = write(root, entries)
        good = {name for name, kind in wanted.items() if kind in READ}
        classes = {label for label, *_ in entries}
        try:
            data = ImageFolder(root, size=SIZE, on_error="skip", progress=False)
        except BengeError as error:  # a class folder, or the whole folder, of which nothing is read
            read = {normalize("NFC", name.partition("/")[0]) for name in wanted}
            folders = {normalize(form, label) for label, *_, form, _ in entries}
            assert not good or read != classes or len(read) < 2 or len(folders) > len(classes)
            assert str(root) in str(error)
            return
        assert set(data.names) == good and set(data.skipped) == set(wanted) - good
        assert data.account.used == len(good) and data.account.met == len(wanted) + others
        for index, name in enumerate(data.names):
            picture = READ[wanted[name]][1]
            assert np.array_equal(data[index]["image"].permute(1, 2, 0).numpy() * 255, np.asarray(picture))
            assert data.classes[data.labels[index]] == normalize("NFC", name.partition("/")[0])
        pixels_of = {name: READ[wanted[name]][1].tobytes() for name in good}
        copies = dict(zip(data.names, data.contents.tolist(), strict=True))
        for one, other in combinations(good, 2):
            assert (copies[one] == copies[other]) == (pixels_of[one] == pixels_of[other])
        words = [str(warning.message) for warning in said]
        assert all(isinstance(warning.message, DataWarning) for warning in said) and len(said) <= 1
        left = {name for names in data.account.left_out.values() for name in names}
        assert set(data.skipped) <= left
        concerns = left or any(READ[wanted[name]][2] for name in good)
        assert bool(words) >= bool(concerns)
        for name in good:
            assert all(READ[wanted[name]][2] in text for text in words)
        first_refused = next((name for name in sorted(wanted) if name not in good), None)
        if first_refused:
            with pytest.raises(RasterError) as error:
                ImageFolder(root, size=SIZE, progress=False)
            assert first_refused in str(error.value)


def check_copies(groups, share, seed):
    """Each group is one picture, of which there are so many files in so many classes."""
    names, hashes = [], {}
    for picture, places in enumerate(groups):
        for number, label in enumerate(places):
            name = f"{label}/{picture}_{number}.jpg"
            names.append(name)
            hashes[name] = str(picture)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            learn, held = hold_out(names, share, seed, hashes=hashes)
        except SplitError as error:
            small = Counter(label for places in groups for label in set(places))
            mixed = any(len(set(places)) > 1 for places in groups)
            assert min(small.values()) < 2 or mixed, error
            return
    assert sorted(learn + held) == sorted(names)
    assert not {hashes[name] for name in learn} & {hashes[name] for name in held}
    for label in {label for places in groups for label in places}:
        assert all(any(name.startswith(label) for name in side) for side in (learn, held))
    copies = len(names) - len(groups)
    assert len(said) == bool(copies) and all(f"{copies} of {len(names)}" in str(each.message) for each in said)


def check_fractions(pictures, fractions, seed):
    """Copies are labelled together, and a smaller fraction lies in a larger one."""
    labels, contents = np.array(pictures) % 2, np.array(pictures)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            subsets = list(label_subsets(labels, fractions, seed, contents=contents).values())
        except SplitError:
            return
    for chosen in subsets:
        assert not set(contents[chosen]) & set(np.delete(contents, chosen))
    for small, large in pairwise(subsets):
        assert set(small) <= set(large)


def check_indices(values, dtype, size):
    """Exactly the places that were meant, or an error."""
    given_as = {
        "list": lambda: values,
        "array": lambda: np.array(values),
        "tensor": lambda: torch.tensor(values),
        "tuple": lambda: tuple(values),
    }[dtype]()
    is_mask = len(values) == size and set(values) <= {0, 1}
    if all(type(value) is int and 0 <= value < size for value in values) and not is_mask:
        assert as_indices(given_as, size).tolist() == list(values)
    elif dtype in ("list", "tuple") or len({type(value) for value in values}) == 1:  # arrays make one type of several
        with pytest.raises((ArgumentError, IndexError)):
            as_indices(given_as, size)


def check_number(value, size):
    """A number that is not whole is neither an index nor a count; what is above 1 is no share."""
    is_whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    is_real = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    for take, right in (
        (lambda: as_index(value, size), is_whole and -size <= value < size),
        (lambda: whole_number("count", value), is_whole and value >= 1),
        (lambda: real_number("rate", value), is_real and math.isfinite(value)),
        (
            lambda: check_share("share", value),
            isinstance(value, (int, float, np.number)) and value is not True and 0 < value <= 1,
        ),
    ):
        if right:
            take()
        else:
            with pytest.raises((ArgumentError, IndexError)):
                take()


groups = st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=4), min_size=4, max_size=30)
shares = st.sampled_from([0.05, 0.2, 0.5, 0.9])
fractions = st.lists(st.floats(0.01, 1), min_size=1, max_size=4, unique=True)
numbers = st.one_of(
    st.integers(-9, 9),
    st.booleans(),
    st.floats(),
    st.sampled_from(["1", ""]),
    st.none(),
    st.sampled_from([np.True_, np.int8(3)]),
)
kinds = {
    "folder": (check_folder, (files,)),
    "copies": (check_copies, (groups, shares, st.integers(0, 9))),
    "fractions": (
        check_fractions,
        (st.lists(st.integers(0, 9), min_size=2, max_size=60), fractions, st.integers(0, 9)),
    ),
    "indices": (
        check_indices,
        (
            st.one_of(
                st.lists(st.integers(-2, 9), max_size=8),
                st.lists(st.booleans(), min_size=1, max_size=8),
                st.lists(st.floats(-1, 9), min_size=1, max_size=8),
                st.lists(st.integers(0, 1), min_size=6, max_size=9),
                st.lists(st.one_of(st.integers(0, 5), st.booleans()), min_size=1, max_size=8),
            ),
            st.sampled_from(["list", "array", "tensor", "tuple"]),
            st.just(8),
        ),
    ),
    "numbers": (check_number, (numbers, st.just(6))),
}


@pytest.mark.parametrize("kind", kinds)
def test_random_damage(kind):
    check, strategies = kinds[kind]
    QUICK(given(*strategies)(check))()


@pytest.mark.slow
@pytest.mark.parametrize("kind", kinds)
def test_much_random_damage(kind):
    check, strategies = kinds[kind]
    SLOW(given(*strategies)(check))()

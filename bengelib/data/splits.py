"""Splits into train, val and test: the dataset's own files, a hashed study split, or blocks of MGRS tiles.

Membership depends on the patch alone, not on its row or on the number of patches, so a patch keeps its split when a
dataset grows. Neighbouring patches look alike: with a random split, a model can answer test patches from memory of
their neighbours. The blocked split holds out whole tiles (100 km squares) and shows how much remains.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bengelib.arguments import whole_number
from bengelib.data.csv_text import read_rows, read_text
from bengelib.errors import SplitError
from bengelib.files import names_like

SPLITS = ("train", "val", "test")
SCHEMES = ("official", "study", "blocked")
FOLDS = 5

STUDY_SHARES = {"train": 0.60, "val": 0.15, "test": 0.25}
"""Fractions of the study split: a quarter for testing, since a hundred test patches have +-10 points of uncertainty."""

_HEADERS = ("patch_id", "patch_ids", "patchid", "patch", "patches", "id", "ids", "name", "names", "index", "0", "s2_id")
"""Headers of a column of patch ids."""

# Tiles of BigEarthNet by fold: a greedy assignment that gives each fold about a fifth of the patches and spreads the
# tiles of every country (and so every climate zone) over as many folds as possible. Other tiles are assigned by hash.
_FOLD_TILES = (
    "29UPU 33TWM 33UXQ 34TCR 34WFS 34WFT 34WFV 35ULA 35WPP",
    "29UPV 31UGR 31UGS 33UWQ 33UXP 34TEP 34UEG 34WFU 35VLJ 35VNJ 35VPJ",
    "29SNB 29UPB 31UER 33UWP 34TEQ 34VDN 35UMB 35VLG 35VNL 35WPN",
    "29SNC 29UPA 33TWN 34TCS 34TEN 34UDG 34VDM 34VDR 35ULB 35VPK 36VVQ",
    "29SND 29UNB 32TMT 33TXN 33UUP 34TFN 34VER 35UMA 35VLC 35VNH 35VNK 35WPR 36VVR",
)
FOLD_OF_TILE: dict[str, int] = {tile: fold for fold, tiles in enumerate(_FOLD_TILES) for tile in tiles.split()}


def unit_hash(text: str) -> float:
    """A number in [0, 1) that depends on `text` alone (BLAKE2b), the same on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") / 2**64


def mgrs_tile(patch_id_s1: str) -> str:
    """The MGRS tile, such as `"35VPK"`, in a Sentinel-1 patch id (Sentinel-2 ids have none).

    Raises:
        SplitError: the id has another form.
    """
    parts = patch_id_s1.split("_")
    if len(parts) != 8 or len(parts[5]) != 5:
        raise SplitError(
            f"no MGRS tile in patch_id_s1 {patch_id_s1!r}; expected the form "
            "S1A_IW_GRDH_1SDV_<date>T<time>_<tile>_<column>_<row>. Check the column patch_id_s1 of the meta CSV."
        )
    return parts[5]


def tile_fold(tile: str) -> int:
    """The fold, 0 to 4, of an MGRS tile; by hash for tiles that are not in BigEarthNet."""
    return FOLD_OF_TILE.get(tile, int(unit_hash(tile) * FOLDS))


def check_split(split: str | None, scheme: str, fold: int) -> None:
    """Refuse an unknown split, scheme or fold.

    Raises:
        SplitError: naming the value and the choices.
        ArgumentError: the fold is not a whole number.
    """
    if split is not None and split not in SPLITS:
        raise SplitError(f"unknown split {split!r}; choose one of {SPLITS}, or None for all patches")
    if scheme not in SCHEMES:
        raise SplitError(f"unknown split scheme {scheme!r}; choose one of {SCHEMES}")
    if whole_number("fold", fold, least=0) >= FOLDS:
        raise SplitError(f"fold {fold!r} does not exist; the blocked split has folds 0 to {FOLDS - 1}")


def study_split(patch_ids: Sequence[str]) -> np.ndarray:
    """Study split of each patch, (N,) of str (60 % train, 15 % val, 25 % test, by hash of the id)."""
    hashes = np.array([unit_hash(patch_id) for patch_id in patch_ids], dtype=np.float64)
    test_below = STUDY_SHARES["test"]
    val_below = test_below + STUDY_SHARES["val"]
    return np.where(hashes < test_below, "test", np.where(hashes < val_below, "val", "train"))


def sides_of_folds(folds: np.ndarray, fold: int) -> np.ndarray:
    """Blocked split of each patch, (N,) of str, by the folds of their tiles, (N,).

    Fold `fold` is for testing, the next one for validation, the other three for training. Each tile is a test tile in
    exactly one of the five folds.
    """
    return np.where(folds == fold, "test", np.where(folds == (fold + 1) % FOLDS, "val", "train"))


def read_splits(root: Path, name: str) -> dict[str, tuple[Path, list[str]]]:
    """The dataset's own split files, possibly none: by split, the file and its patch ids in order.

    Reads `splits/<name>_<split>.csv`: no header, one Sentinel-2 patch id per line. For `val`, both `_validation` (as in
    the archives) and `_val` (as in the repository) are accepted.

    Raises:
        SplitError: a file is not such a list, repeats a patch, shares one with another split, or two files of one
            split differ.
    """
    found: dict[str, tuple[Path, list[str]]] = {}
    side: dict[str, Path] = {}
    for split in SPLITS:
        for path in _split_paths(root, name, split):
            ids = _read_split(path)
            first, first_ids = found.setdefault(split, (path, ids))
            if sorted(first_ids) != sorted(ids):  # if only the order differs, that of the first file is used
                raise SplitError(f"{first} and {path} name different patches. Remove the one that is wrong.")
        if split not in found:
            continue
        path, ids = found[split]
        if len(set(ids)) != len(ids):
            repeated = Counter(ids).most_common(1)[0][0]
            raise SplitError(f"{path} names {repeated} more than once. Each patch may stand on one line only.")
        if shared := [patch_id for patch_id in ids if patch_id in side]:
            raise SplitError(
                f"{side[shared[0]]} and {path} share {len(shared)} patches, the first being {shared[0]}. A patch "
                "that is trained on cannot test: leave each in one file only."
            )
        side |= dict.fromkeys(ids, path)
    return found


def _split_paths(root: Path, name: str, split: str) -> list[Path]:
    """Existing files of a split, in any spelling of case and accents; exact names come first."""
    exact = [root / "splits" / name for name in _split_names(name, split)]
    found = [path.with_name(other) for path in exact for other in names_like(path)]
    return sorted((path for path in found if path.is_file()), key=lambda path: path not in exact)


def _split_names(name: str, split: str) -> list[str]:
    return [f"{name}_{suffix}.csv" for suffix in (("validation", "val") if split == "val" else (split,))]


def _read_split(path: Path) -> list[str]:
    """The patch ids of a split file; blank lines, quotes, and a comma at the end of a line do not matter.

    Raises:
        SplitError: the file has a header, several values on a line, or is not text.
    """
    ids = []
    for line, row in read_rows(read_text(path, SplitError), path, SplitError, strict=False):
        values = [part for value in row for part in value.replace(";", " ").replace('"', " ").split()]
        if len(values) > 1:
            raise SplitError(
                f"{path}: line {line} has {len(values)} values ({' '.join(values)[:120]!r}) where one Sentinel-2 patch "
                "id is expected. Write one id a line, without header, row numbers or further columns."
            )
        ids += values
    if ids and ids[0].lower() in _HEADERS:
        raise SplitError(f"{path}: line 1 is a header ({ids[0]!r}): remove it. Split files hold patch ids alone.")
    return ids


def official_split(
    root: Path,
    name: str,
    split: str,
    known_ids: Sequence[str],
    found: Mapping[str, tuple[Path, list[str]]] | None = None,
) -> list[str]:
    """Patch ids of one of the dataset's own split files, in the file's order; `found` is the result of `read_splits`.

    Raises:
        SplitError: the file is missing, holds unknown ids, or `read_splits` refuses a file.
    """
    found = read_splits(root, name) if found is None else found
    if split not in found:
        wanted, folder = _split_names(name, split), root / "splits"
        there = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        raise SplitError(
            f"no split file {' or '.join(str(folder / path) for path in wanted)}"
            f"{f'; there are {there[:9]}' if there else ''}. "
            'Use scheme="study" or scheme="blocked", which need no file, or split=None for all patches.'
        )
    path, ids = found[split]
    known = set(known_ids)
    unknown = [patch_id for patch_id in ids if patch_id not in known]
    if not unknown:
        return ids
    if unknown == ids[:1] and len(ids) > 1:
        raise SplitError(
            f"{path}: line 1, {unknown[0]!r}, is the only one that is not a patch of the meta CSV. A header? Remove it."
        )
    hint = "The split file belongs to another dataset or the meta CSV is incomplete."
    if unknown[0].startswith("S1"):
        hint = "They are Sentinel-1 ids: write the Sentinel-2 ids, those of the column patch_id."
    elif any(unknown[0].startswith(f"{patch_id}{end}") for patch_id in known for end in "._/"):
        hint = "They look like names of files: write the patch ids alone."
    raise SplitError(
        f"{path} names {len(unknown)} patches that the meta CSV does not have, the first being {unknown[0]}. {hint}"
    )

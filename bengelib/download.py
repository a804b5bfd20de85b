"""`fetch`: downloads ben-ge-800, ben-ge-8k or the full ben-ge, checks them, and unpacks them safely.

Data: Mommert et al. 2023 (arXiv:2307.01741), on Zenodo; the Sentinel images of the full set are those of BigEarthNet v1
(Sumbul et al. 2019 and 2021).
"""

import errno
import os
import re
import shutil
import tarfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import pooch
from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from bengelib.errors import BandError, ChecksumError, DiskSpaceError, DownloadError
from bengelib.tables import META_COLUMNS, read_csv
from bengelib.transfer import Transfer

ZENODO = "https://zenodo.org"
GITHUB = "https://github.com"


@dataclass(frozen=True)
class Source:
    """One archive of a Zenodo record.

    Attributes:
        record: number of the record.
        file: name of the archive, None for the first of the record that ends in `.tar.gz`.
        checksum: `md5:...`, None to take the one that the record states when it is fetched.
        part: what of the full set is in it, a modality; None for a dataset of its own.
        growth: bytes unpacked per byte of the archive, for the check of free disk space.
    """

    record: str
    file: str | None = None
    checksum: str | None = None
    part: str | None = None
    growth: float = 2.5


SOURCES: dict[str, tuple[Source, ...]] = {
    "ben-ge-800": (Source("12941231", "ben-ge-800.tar.gz"),),
    "ben-ge-8k": (Source("8121208", "ben-ge-8k.tar.gz"),),
    "ben-ge": (
        Source("12687186", "BigEarthNet-S2-v1.0.tar.gz", "md5:5a64e9ce38deb036a435a7b59494924c", "s2"),
        Source("12687186", "BigEarthNet-S1-v1.0.tar.gz", "md5:94ced73440dea8c7b9645ee738c5a172", "s1"),
        Source("8129350", part="dem", growth=10.0),
        Source("8129666", part="land_cover", growth=20.0),
        Source("8129412", part="weather", growth=5.0),
    ),
}
NAMES = tuple(SOURCES)
FULL_META = "HSG-AIML/ben-ge/raw/main/data/ben-ge_meta.csv"
"""The meta table of the full set, on GitHub; it has no published hash, so its columns are checked instead."""

# Where a file of the full set belongs, by its name: archives differ in the folders that they put around it.
_PLACES = (
    (re.compile(r"(S2[AB]_MSIL2A_\d{8}T\d{5,6}_\d+_\d+)_(?:B\d[\dA]|labels_metadata)\.(?:tif|json)"), "sentinel-2/{}"),
    (re.compile(r"(S1[AB]_\w+?_\d+_\d+)_(?:VV|VH|labels_metadata)\.(?:tif|json)"), "sentinel-1/{}"),
    (re.compile(r"(S2[AB]_\w+)_dem\.tif"), "dem"),
    (re.compile(r"(S2[AB]_\w+)_esaworldcover\.tif"), "esaworldcover"),
    (re.compile(r"(ben-ge)_(?:meta|era-5|esaworldcover|climatezones)\.csv"), ""),
)


def fetch(
    name: str,
    root: str | Path = "data",
    *,
    parts: Sequence[str] | None = None,
    mirror: str | None = None,
    transfer: Transfer | None = None,
    progress: bool = True,
) -> Path:
    """Download a dataset into `root/name`, unless it is there.

    Size and hash come from the publisher's record and are checked. A call that was interrupted, even killed, is taken
    up by the next one; the folder appears under its name only when complete; a second process that fetches the same
    dataset waits for the first. An archive that was downloaded by hand into `root/downloads/` is used.

    Args:
        name: `"ben-ge-800"` (183 MB), `"ben-ge-8k"` (1.8 GB, 4.2 GB unpacked) or `"ben-ge"` (191 GB unpacked).
        root: folder of all datasets.
        parts: of the full set only: which of `"s2"`, `"s1"`, `"dem"`, `"land_cover"` and `"weather"`; all by default.
            Parts can be added by later calls.
        mirror: address of another server with the same paths as zenodo.org.
        transfer: patience with the server, see `Transfer`.
        progress: whether to show progress bars.

    Returns:
        The folder of the dataset.

    Raises:
        DownloadError: the server fails or refuses, or the archive is not safe to unpack or does not hold the dataset;
            with the address and folder for a download by hand.
        ChecksumError: what came is not what was published.
        DiskSpaceError: too little room, asked before the first byte.
        BandError: an unknown name or part.
    """
    if name not in SOURCES:
        raise BandError(f"unknown dataset {name!r}; choose one of {NAMES}")
    known = tuple(source.part for source in SOURCES[name] if source.part)
    if unknown := [part for part in parts or () if part not in known]:
        raise BandError(f"{name} has no parts {unknown}; it has {known or 'none: it comes as a whole'}")
    root = Path(root).expanduser().resolve()
    folder = root / name
    downloads = root / "downloads"
    transfer = transfer or Transfer(progress=progress)
    wanted = [source for source in SOURCES[name] if source.part is None or parts is None or source.part in parts]
    if _complete(folder, wanted):
        return folder
    downloads.mkdir(parents=True, exist_ok=True)
    with _Lock(root / f".{name}.lock", f"Waiting for another process that fetches {name} ...", progress):
        for source in wanted:
            if not _complete(folder, [source]):
                _fetch_source(name, source, folder, downloads, mirror, transfer)
        if known and not (folder / f"{name}_meta.csv").is_file():
            _fetch_meta(folder, downloads, f"{mirror or GITHUB}/{FULL_META}", transfer)
    return folder

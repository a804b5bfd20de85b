"""`fetch`: download, check and safely unpack ben-ge-800, ben-ge-8k or the full ben-ge.

Data: Mommert et al. 2023 (arXiv:2307.01741), on Zenodo; the Sentinel images of the full set are those of BigEarthNet v1
(Sumbul et al. 2019 and 2021).
"""

import gzip
import hashlib
import os
import re
import shutil
import tarfile
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm import tqdm

from bengelib.arguments import as_names
from bengelib.data.tables import META_COLUMNS, read_csv
from bengelib.data.transfer import Transfer
from bengelib.errors import (
    ArgumentError,
    ChecksumError,
    DatasetNotFoundError,
    DiskSpaceError,
    DownloadError,
    TableError,
)
from bengelib.files import absolute, discard, free_bytes, locked, put_in_place, sweep_lock, work_folder, writing

ZENODO = "https://zenodo.org"
GITHUB = "https://github.com"


@dataclass(frozen=True)
class Source:
    """One archive of a Zenodo record.

    Attributes:
        record: number of the record.
        file: name of the archive, None for the first of the record that ends in `.tar.gz`.
        checksum: `md5:...`, None to use the one in the record at the time of the download.
        part: the modality of the full set that it holds; None for a complete dataset.
        growth: unpacked bytes per byte of the archive, to check free disk space.
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

# Folder of each file of the full set, by its name: archives differ in the folders around it.
_PLACES = (
    (re.compile(r"(S2[AB]_MSIL2A_\d{8}T\d{5,6}_\d+_\d+)_(?:B\d[\dA]|labels_metadata)\.(?:tif|json)"), "sentinel-2/{}"),
    (re.compile(r"(S1[AB]_\w+?_\d+_\d+)_(?:VV|VH|labels_metadata)\.(?:tif|json)"), "sentinel-1/{}"),
    (re.compile(r"(S2[AB]_\w+)_dem\.tif"), "dem"),
    (re.compile(r"(S2[AB]_\w+)_esaworldcover\.tif"), "esaworldcover"),
    (re.compile(r"(ben-ge)_(?:meta|era-5|esaworldcover|climatezones)\.csv"), ""),
)


def fetch(
    name: str,
    into: str | Path = "data",
    *,
    parts: Sequence[str] | None = None,
    mirror: str | None = None,
    transfer: Transfer | None = None,
    progress: bool = True,
) -> Path:
    """Download a dataset to `into/name`, unless it exists.

    Size and hash are checked against the publisher's record. The next call continues one that was interrupted or
    killed; the folder gets its name only when complete; a second process that fetches the same dataset waits for the
    first. An archive downloaded by hand to `into/downloads/` is used.

    Args:
        name: `"ben-ge-800"` (183 MB), `"ben-ge-8k"` (1.8 GB, 4.2 GB unpacked) or `"ben-ge"` (191 GB unpacked).
        into: folder of all datasets.
        parts: for the full set only: some of `"s2"`, `"s1"`, `"dem"`, `"land_cover"` and `"weather"`; by default all.
            Later calls can add parts.
        mirror: address of another server with the same paths as zenodo.org.
        transfer: timeouts and retries, see `Transfer`.
        progress: whether to show progress bars.

    Returns:
        The folder of the dataset.

    Raises:
        DownloadError: the server fails or refuses, the archive is not safe to unpack or does not hold the dataset, or
            `into/name` holds something else; with the address and folder for a manual download.
        ChecksumError: the hash of the downloaded file is wrong.
        DiskSpaceError: there is too little space, checked before the download.
        DiskError: `into` cannot be written to.
        DatasetNotFoundError: an unknown name.
        ArgumentError: an unknown part.
    """
    name = str(name).rstrip("/")
    if name not in SOURCES:
        hint = ". Simulated data are made by bengelib.simulate" if name.startswith("ben-ge-sim") else ""
        raise DatasetNotFoundError(f"no dataset {name!r} can be fetched; choose one of {', '.join(NAMES)}{hint}")
    known = tuple(source.part for source in SOURCES[name] if source.part)
    parts = None if parts is None else as_names("parts", parts)
    if unknown := [part for part in parts or () if part not in known]:
        raise ArgumentError(f"{name} has no parts {unknown}; it has {known or 'none: it comes as a whole'}")
    into = absolute(into)
    folder = into / name
    downloads = into / "downloads"
    transfer = transfer or Transfer(progress=progress)
    wanted = [source for source in SOURCES[name] if source.part is None or parts is None or source.part in parts]
    meta = folder / f"{name}_meta.csv"
    if meta.is_file() and all(_has(folder, source) for source in wanted):
        sweep_lock(into / ".fetch.lock")
        return folder
    if not known and folder.is_dir() and any(folder.iterdir()):
        raise DownloadError(
            f"{folder} exists and has no {meta.name}, so it is not {name} and left alone. Move it elsewhere, or fetch "
            "into another folder."
        )
    waiting = f"Waiting for another process that fetches data into {into} ..." if progress else None
    with writing(into, "call fetch again: what is downloaded is kept"):
        downloads.mkdir(parents=True, exist_ok=True)
        with locked(into / ".fetch.lock", waiting):
            for source in wanted:
                if not _has(folder, source):
                    _fetch_source(source, folder, downloads, mirror, transfer)
            if known and not meta.is_file():
                _fetch_meta(folder, downloads, f"{mirror or GITHUB}/{FULL_META}", transfer)
    return folder


def _has(folder: Path, source: Source) -> bool:
    """True if the content of this source is in `folder`."""
    return (folder / (f".fetched-{source.part}" if source.part else f"{folder.name}_meta.csv")).is_file()


def _fetch_source(source: Source, folder: Path, downloads: Path, mirror: str | None, transfer: Transfer) -> None:
    """Download one archive and move its content to its destination."""
    page = f"{mirror or ZENODO}/records/{source.record}"
    try:
        file, url, size, checksum = _resolve(source, downloads, mirror or ZENODO, transfer)
        page = url
        archive = _download(url, downloads, file, size, checksum, transfer, source.growth)
        place = Path(os.path.realpath(folder))  # `folder` may be a link to another disk
        place.parent.mkdir(parents=True, exist_ok=True)
        with work_folder(place) as work:
            unpack(archive, work / "unpacked", by_name=source.part is not None, progress=transfer.progress)
            _settle(work / "unpacked", folder, source, archive)
        discard(archive)
    except DownloadError as error:
        raise DownloadError(
            f"{error}. To do it by hand, download {page} into {downloads} and call fetch again."
        ) from error


def _resolve(
    source: Source, downloads: Path, server: str, transfer: Transfer
) -> tuple[str, str, int | None, str | None]:
    """Name, address, size and hash of an archive, from its record.

    Raises:
        DownloadError: the record is unavailable (and the archive was not downloaded by hand), or lacks the archive.
    """
    try:
        record = transfer.json(f"{server}/api/records/{source.record}")
    except DownloadError:
        if source.file is None or not (downloads / source.file).is_file():
            raise
        if source.checksum is None:
            warnings.warn(f"{source.file} cannot be checked: its record cannot be reached", stacklevel=2)
        url = f"{server}/records/{source.record}/files/{source.file}?download=1"
        return source.file, url, None, source.checksum
    try:
        files: list[dict[str, Any]] = record["files"]
        entry = next(
            (f for f in files if (f["key"] == source.file if source.file else f["key"].endswith(".tar.gz"))), None
        )
        if entry is None:
            raise DownloadError(
                f"record {source.record} of {server} has no {source.file or 'file that ends in .tar.gz'}; it has "
                f"{[f['key'] for f in files]}"
            )
        checksum = source.checksum or entry["checksum"]
        hashlib.new(checksum.partition(":")[0])  # to notice an unknown kind of hash before the download
        return PurePosixPath(entry["key"]).name, entry["links"]["self"], int(entry["size"]), checksum
    except (KeyError, TypeError, ValueError) as error:
        raise DownloadError(f"record {source.record} of {server} is not as expected ({error!r})") from error


def _download(
    url: str, downloads: Path, file: str, size: int | None, checksum: str | None, transfer: Transfer, growth: float
) -> Path:
    """The archive in `downloads`, with the correct hash.

    Raises:
        ChecksumError: the hash is wrong even after a complete new download.
    """
    archive, part = downloads / file, downloads / f"{file}.part"
    have = max((path.stat().st_size for path in (part, archive) if path.is_file()), default=0)
    if size is not None:
        needed = max(0, size - have) + int(growth * size)
        free = free_bytes(downloads)
        if needed > free:
            raise DiskSpaceError(
                f"{file} needs {needed / 1e9:.2f} GB more, to download and unpack, and the disk of {downloads} has "
                f"{free / 1e9:.2f} GB free. Make room, or give another folder."
            )
    if archive.is_file() and _has_hash(archive, checksum):
        return archive
    resumed = part.is_file()
    transfer.file(url, part, size)
    if _has_hash(part, checksum):
        put_in_place(part, archive)
        return archive
    discard(part)
    if resumed:  # the first part may have been of another version: download everything again
        return _download(url, downloads, file, size, checksum, transfer, growth)
    raise ChecksumError(
        f"{url} is not what was published: its hash is not {checksum}. Try again later; or download it by hand into "
        f"{downloads}, which is checked in the same way, and call fetch again."
    )


def _has_hash(path: Path, checksum: str | None) -> bool:
    """True if a file has this hash, such as `md5:...`; True if none is known."""
    if checksum is None:
        return True
    algorithm, _, expected = checksum.partition(":")
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest() == expected.lower()


def unpack(archive: Path, target: Path, *, by_name: bool = False, progress: bool = True) -> None:
    """Unpack a tar archive to the new folder `target`; plain files only, and none outside of it.

    Args:
        archive: a `.tar` or `.tar.gz`.
        target: the folder to write.
        by_name: choose the folder of each file by its name, as in ben-ge, regardless of the folders in the archive, and
            leave other files out.
        progress: whether to show a progress bar.

    Raises:
        DownloadError: a member is a link, a device, or leads out of `target`; the archive is damaged; or Python is too
            old to check that.
        DiskSpaceError: a member needs more space than is free.
    """
    if not hasattr(tarfile, "data_filter"):
        raise DownloadError("this Python cannot unpack archives safely; update it to 3.11.4 or later")
    target.mkdir(parents=True)
    size = archive.stat().st_size

    def wanted(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo | None:
        bar.update(min(file.tell(), size) - bar.n)
        safe = tarfile.data_filter(member, folder)  # with a safe owner, mode and path, or not at all
        if safe.issym() or safe.islnk():
            raise tarfile.SpecialFileError(safe)
        name = _place(safe.name) if by_name else safe.name
        if not safe.isreg() or name is None:
            return None
        if safe.size > free_bytes(target):
            raise DiskSpaceError(
                f"{safe.name} of {archive} needs {safe.size / 1e9:.2f} GB, more than there is free. Make room and call "
                "fetch again: what is downloaded is kept."
            )
        return safe.replace(name=name, deep=False)

    try:
        with (
            archive.open("rb") as file,
            tarfile.open(fileobj=file, mode="r:*") as tar,
            tqdm(total=size, unit="B", unit_scale=True, desc=f"unpacking {archive.name}", disable=not progress) as bar,
        ):
            tar.extractall(target, filter=wanted)
    except tarfile.FilterError as error:
        raise DownloadError(f"{archive} is not safe to unpack: its member {error}") from error
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DownloadError(f"{archive} is not a readable tar archive ({error})") from error


def _place(path: str) -> str | None:
    """Destination of a file of the full set, None for other files."""
    name = PurePosixPath(path).name
    for pattern, folder in _PLACES:
        if match := pattern.fullmatch(name):
            return str(PurePosixPath(folder.format(match[1])) / name)
    return None


def _settle(work: Path, folder: Path, source: Source, archive: Path) -> None:
    """Move unpacked files to their destination.

    Raises:
        DownloadError: they are not the expected ones.
    """
    place = Path(os.path.realpath(folder))
    if source.part is None:
        name = folder.name
        found = [path.parent for depth in ("", "*/", "*/*/") for path in work.glob(f"{depth}{name}_meta.csv")]
        if not found:
            raise DownloadError(f"{archive} holds no {name}_meta.csv but {_sample(work)}")
        read_csv(found[0] / f"{name}_meta.csv", META_COLUMNS)
        if place.is_dir() and not any(place.iterdir()):
            place.rmdir()
        found[0].rename(place)
        return
    what = {"s2": "sentinel-2", "s1": "sentinel-1", "dem": "dem", "land_cover": "esaworldcover"}
    expected = what.get(source.part, f"{folder.name}_era-5.csv")
    if not (work / expected).exists():
        raise DownloadError(f"{archive} holds nothing that belongs into {expected} but {_sample(work)}")
    place.mkdir(exist_ok=True)
    for entry in work.iterdir():
        if entry.is_dir() and (folder / entry.name).is_dir():
            for child in entry.iterdir():
                if (folder / entry.name / child.name).is_dir():  # of an earlier call that was killed here
                    shutil.rmtree(folder / entry.name / child.name)
                child.replace(folder / entry.name / child.name)
        else:
            entry.replace(folder / entry.name)
    (folder / f".fetched-{source.part}").touch()


def _sample(folder: Path) -> str:
    """Examples of names in a folder, for a message."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.glob("*"))
    return f"{names[:5]}{' ...' if len(names) > 5 else ''}" if names else "nothing of use"


def _fetch_meta(folder: Path, downloads: Path, url: str, transfer: Transfer) -> None:
    """Fetch the meta table of the full set; last, because it makes a folder a dataset."""
    part = downloads / f"{folder.name}_meta.csv.part"
    try:
        transfer.file(url, part)
    except DownloadError as error:
        raise DownloadError(f"{error}. To do it by hand, download {url} into {folder}.") from error
    try:
        read_csv(part, META_COLUMNS)
    except TableError as error:
        discard(part)
        raise DownloadError(f"{url} is not the meta table ({error})") from error
    Path(os.path.realpath(folder)).mkdir(parents=True, exist_ok=True)
    put_in_place(part, folder / f"{folder.name}_meta.csv")

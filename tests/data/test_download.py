import errno
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from contextlib import suppress

import pytest

from bengelib import files
from bengelib.data import download
from bengelib.data.dataset import BENGE
from bengelib.data.download import SOURCES, fetch, unpack
from bengelib.data.transfer import Transfer
from bengelib.errors import (
    ArgumentError,
    ChecksumError,
    DatasetNotFoundError,
    DataWarning,
    DiskError,
    DiskSpaceError,
    DownloadError,
)
from tests import fake_tree as fake
from tests import file_server as faults
from tests.file_server import FileServer
from tests.forked import finish, start

NAME = "ben-ge-800"
ARCHIVE = f"{NAME}.tar.gz"
QUICK = Transfer(attempts=3, wait=0.01, timeout=0.5, progress=False)


def pack_up(root, arcname=None):
    """A tree as a .tar.gz."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(root, arcname=arcname or root.name)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return fake.write_fake_tree(tmp_path_factory.mktemp("published") / NAME)


@pytest.fixture(scope="module")
def archive(tree):
    return pack_up(tree)


@pytest.fixture
def server(archive):
    with FileServer() as server:
        server.publish(SOURCES[NAME][0].record, ARCHIVE, archive)
        yield server


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def get(server, root, name=NAME, **options):
    return fetch(name, root, mirror=server.url, transfer=QUICK, progress=False, **options)


def leftovers(root):
    """What lies in the folder of the datasets besides locks and empty folders."""
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file() and p.suffix != ".lock")


# ------------------------------------------------------------------------------------------------------------- it works


def test_what_was_published_is_what_arrives(server, tree, tmp_path):
    folder = get(server, tmp_path)
    assert folder == tmp_path / NAME
    assert contents(folder) == contents(tree)
    assert len(BENGE(folder)) == 6
    assert not any(name.startswith("downloads") for name in leftovers(tmp_path))


def test_what_is_there_is_not_fetched_again(server, tmp_path):
    get(server, tmp_path)
    count = len(server.requests)
    get(server, tmp_path)
    assert len(server.requests) == count


def test_the_ben_ge_8k_archive_may_have_a_folder_more(tmp_path, tmp_path_factory):
    tree = fake.write_fake_tree(tmp_path_factory.mktemp("published") / "ben-ge-8k")
    with FileServer() as server:
        server.publish("8121208", "ben-ge-8k.tar.gz", pack_up(tree, "ben-ge-8k/ben-ge-8k"))
        assert contents(get(server, tmp_path, "ben-ge-8k")) == contents(tree)


def test_names_and_parts_that_do_not_exist(tmp_path):
    with pytest.raises(DatasetNotFoundError, match=r"no dataset 'ben-ge-9000' .* choose one of ben-ge-800"):
        fetch("ben-ge-9000", tmp_path)
    with pytest.raises(DatasetNotFoundError, match=r"bengelib\.simulate"):
        fetch("ben-ge-sim/", tmp_path)
    with pytest.raises(ArgumentError, match="parts"):
        fetch("ben-ge", tmp_path, parts="dem")
    with pytest.raises(ArgumentError, match="as a whole"):
        fetch(NAME, tmp_path, parts=("dem",))
    with pytest.raises(ArgumentError, match="clouds"):
        fetch("ben-ge", tmp_path, parts=("clouds",))


def test_an_archive_downloaded_by_hand_is_used_and_checked(server, tree, archive, tmp_path):
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / ARCHIVE).write_bytes(archive)
    assert contents(get(server, tmp_path)) == contents(tree)
    assert server.ranges(ARCHIVE) == []


def test_an_archive_downloaded_by_hand_is_enough_without_a_network(tree, archive, tmp_path):
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / ARCHIVE).write_bytes(archive)
    with FileServer() as server:
        gone = server.url
    with pytest.warns(UserWarning, match="cannot be checked"):
        folder = fetch(NAME, tmp_path, mirror=gone, transfer=QUICK, progress=False)
    assert contents(folder) == contents(tree)


def test_another_folder_of_that_name_is_left_alone(server, tmp_path):
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "notes.txt").write_text("mine")
    with pytest.raises(DownloadError, match="left alone"):
        get(server, tmp_path)
    assert server.requests == []
    assert (tmp_path / NAME / "notes.txt").read_text() == "mine"


# ----------------------------------------------------------------------------------- the server misbehaves, for a while


@pytest.mark.parametrize(
    ("plan", "requests"),
    [
        ([faults.cut(30_000)], 2),
        ([faults.cut(10_000), faults.cut(40_000), faults.cut(40_001), faults.cut(50_000)], 5),
        ([faults.cut(0)], 2),
        ([faults.stall(20_000)], 2),
        ([faults.status(503), faults.status(429)], 3),
        ([faults.status(500), faults.cut(30_000), faults.status(502)], 4),
        ([faults.cut(30_000), faults.ignore_range], 2),
        ([faults.cut(30_000), faults.wrong_range], 3),
        ([faults.shorter], 2),
        ([faults.longer], 1),
    ],
    ids=["cut", "cut often", "cut at once", "stall", "busy", "ill", "no Range", "wrong Range", "shorter", "longer"],
)
def test_a_server_that_recovers_costs_only_time(server, tree, tmp_path, plan, requests):
    server.faults = plan
    assert contents(get(server, tmp_path)) == contents(tree)
    assert len(server.ranges(ARCHIVE)) == requests


def test_a_download_goes_on_where_it_was_cut(server, archive, tmp_path):
    server.faults = [faults.cut(30_000), faults.stall(50_000)]
    get(server, tmp_path)
    assert server.ranges(ARCHIVE) == [None, "bytes=30000-", "bytes=50000-"]


def test_retry_after_is_respected(server, tmp_path):
    server.faults = [faults.status(429, Retry_After="1")]
    start = time.perf_counter()
    get(server, tmp_path)
    assert time.perf_counter() - start >= 1


def test_the_record_is_asked_for_again_as_well(server, tree, tmp_path):
    server.record_faults = [faults.status(503), faults.status(500)]
    assert contents(get(server, tmp_path)) == contents(tree)


# -------------------------------------------------------------------------------------- the server misbehaves, for good


@pytest.mark.parametrize(
    ("plan", "match"),
    [
        ([faults.status(503)] * 3, "503.*gave up after 3"),
        ([faults.cut(0)] * 3, "ended after 0 of .*gave up"),
        ([faults.stall(0)] * 3, "no byte came|no answer"),
        ([faults.status(404)], "404"),
        ([faults.status(403)], "403"),
        ([faults.page], "web page"),
        ([faults.disguised_page], "web page"),
    ],
    ids=["busy", "cut", "stall", "missing", "forbidden", "web page", "disguised web page"],
)
def test_a_server_that_does_not_recover_is_an_error_with_the_address_and_the_folder(server, tmp_path, plan, match):
    server.faults = plan
    with pytest.raises(DownloadError, match=match) as caught:
        get(server, tmp_path)
    assert f"{server.url}/files/{ARCHIVE}" in str(caught.value)
    assert str(tmp_path / "downloads") in str(caught.value)
    assert not (tmp_path / NAME).exists()


def test_after_a_failure_the_next_call_goes_on(server, archive, tree, tmp_path):
    server.faults = [faults.cut(30_000), *[faults.status(503)] * 3]
    with pytest.raises(DownloadError):
        get(server, tmp_path)
    assert (tmp_path / "downloads" / f"{ARCHIVE}.part").read_bytes() == archive[:30_000]
    assert contents(get(server, tmp_path)) == contents(tree)
    assert server.ranges(ARCHIVE)[-1] == "bytes=30000-"


def test_no_server_at_all(tmp_path):
    with FileServer() as server:
        gone = server.url
    with pytest.raises(DownloadError, match=r"no answer.*gave up.*by hand.*/records/12941231"):
        fetch(NAME, tmp_path, mirror=gone, transfer=QUICK, progress=False)


@pytest.mark.parametrize(
    ("record", "match"),
    [
        (b"<html>", "not JSON"),
        (b"{}", "not as expected"),
        (b'{"files": []}', "has no ben-ge-800.tar.gz"),
        (
            b'{"files": [{"key": "ben-ge-800.tar.gz", "size": 1, "checksum": "abc:0", "links": {"self": "http://x"}}]}',
            "not as expected.*abc",
        ),
    ],
)
def test_a_record_that_makes_no_sense(server, tmp_path, record, match):
    server.record_faults = [lambda handler, data: faults.reply(handler, 200, record)]
    with pytest.raises(DownloadError, match=match):
        get(server, tmp_path)


# ------------------------------------------------------------------------------------------------------- wrong contents


def test_wrong_hash(server, tmp_path):
    server.checksums[ARCHIVE] = "md5:" + "0" * 32
    with pytest.raises(ChecksumError, match=r"by hand") as caught:
        get(server, tmp_path)
    assert server.url in str(caught.value)
    assert leftovers(tmp_path) == []


def test_a_part_of_another_version_is_fetched_afresh(server, tree, tmp_path):
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / f"{ARCHIVE}.part").write_bytes(b"from another version" * 100)
    assert contents(get(server, tmp_path)) == contents(tree)
    assert server.ranges(ARCHIVE) == ["bytes=2000-", None]


def test_a_part_that_is_longer_than_the_whole_is_fetched_afresh(server, archive, tree, tmp_path):
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / f"{ARCHIVE}.part").write_bytes(archive + b"more")
    assert contents(get(server, tmp_path)) == contents(tree)


def test_an_archive_of_something_else(tmp_path, tree):
    with FileServer() as server:
        server.publish(SOURCES[NAME][0].record, ARCHIVE, pack_up(tree / "splits", "splits"))
        with pytest.raises(DownloadError, match=r"holds no ben-ge-800_meta.csv but \['splits'\]"):
            get(server, tmp_path)
    assert not (tmp_path / NAME).exists()


@pytest.mark.parametrize("data", [b"not an archive" * 100, b""], ids=["text", "empty"])
def test_no_archive_at_all(tmp_path, data):
    with FileServer() as server:
        server.publish(SOURCES[NAME][0].record, ARCHIVE, data)
        with pytest.raises(DownloadError, match="not a readable tar archive"):
            get(server, tmp_path)


def test_a_truncated_archive(tmp_path, archive):
    with FileServer() as server:
        server.publish(SOURCES[NAME][0].record, ARCHIVE, archive[:-5000])
        with pytest.raises(DownloadError, match="not a readable tar archive"):
            get(server, tmp_path)
    assert not (tmp_path / NAME).exists()


# ----------------------------------------------------------------------------------------------------- hostile archives


def member(name, kind=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    info.size = 4 if kind == tarfile.REGTYPE else 0
    return info


HOSTILE = {
    "parent folder": [member("ben-ge-800/../../evil")],
    "parent folder after an absolute path": [member("/etc/../../evil")],
    "symbolic link outside": [member("ben-ge-800/link", tarfile.SYMTYPE, "/etc/passwd")],
    "symbolic link inside": [member("ben-ge-800/link", tarfile.SYMTYPE, "other")],
    "file through a link": [member("ben-ge-800/d", tarfile.SYMTYPE, ".."), member("ben-ge-800/d/evil")],
    "hard link": [member("ben-ge-800/link", tarfile.LNKTYPE, "/etc/passwd")],
    "device": [member("ben-ge-800/null", tarfile.CHRTYPE)],
    "block device": [member("ben-ge-800/disk", tarfile.BLKTYPE)],
    "pipe": [member("ben-ge-800/pipe", tarfile.FIFOTYPE)],
}


def write_archive(path, members):
    with tarfile.open(path, "w:gz") as tar:
        for info in [member("ben-ge-800/harmless"), *members]:
            tar.addfile(info, io.BytesIO(b"evil"[: info.size]))
    return path


@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_members_are_refused(tmp_path, name, by_name):
    archive = write_archive(tmp_path / "evil.tar.gz", HOSTILE[name])
    before = set(tmp_path.rglob("*"))
    with pytest.raises(DownloadError, match="not safe to unpack"):
        unpack(archive, tmp_path / "inside" / "deep", by_name=by_name, progress=False)
    new = {path.relative_to(tmp_path).as_posix() for path in set(tmp_path.rglob("*")) - before}
    assert all(path.startswith("inside") for path in new)
    assert not any("evil" in path for path in new)


@pytest.mark.parametrize("name", ["/etc/evil", "ben-ge-800/..", "..\\..\\evil", "C:/evil"])
def test_odd_names_lead_to_files_inside(tmp_path, name):
    archive = write_archive(tmp_path / "odd.tar.gz", [member(name)])
    with suppress(DownloadError, OSError):  # refused or unpacked, as this system reads the name
        unpack(archive, tmp_path / "inside" / "deep", progress=False)
    new = {path.relative_to(tmp_path).parts[:2] for path in tmp_path.rglob("*") if path.is_file()}
    assert new <= {("odd.tar.gz",), ("inside", "deep")}


def test_a_file_is_written_with_safe_rights_whatever_the_archive_says(tmp_path):
    info = member("ben-ge-800/program")
    info.mode, info.uid = 0o6777, 0
    unpack(write_archive(tmp_path / "rights.tar.gz", [info]), tmp_path / "inside", progress=False)
    assert (tmp_path / "inside" / "ben-ge-800" / "program").stat().st_mode & 0o7022 == 0


def test_a_python_that_cannot_tell_unpacks_nothing(tmp_path, monkeypatch):
    monkeypatch.delattr(tarfile, "data_filter")
    with pytest.raises(DownloadError, match=r"update it to 3\.11\.4"):
        unpack(write_archive(tmp_path / "x.tar.gz", []), tmp_path / "inside", progress=False)


def test_nothing_of_a_hostile_archive_stays(tmp_path):
    data = write_archive(tmp_path / "evil.tar.gz", HOSTILE["file through a link"]).read_bytes()
    (tmp_path / "evil.tar.gz").unlink()
    with FileServer() as server:
        server.publish(SOURCES[NAME][0].record, ARCHIVE, data)
        with pytest.raises(DownloadError, match="not safe"):
            get(server, tmp_path)
    assert leftovers(tmp_path) == [f"downloads/{ARCHIVE}"]


def test_an_archive_that_is_larger_inside_than_the_disk(tmp_path, monkeypatch):
    archive = write_archive(tmp_path / "bomb.tar.gz", [])
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(DiskSpaceError, match="harmless"):
        unpack(archive, tmp_path / "inside", progress=False)


# ------------------------------------------------------------------------------------------------------------ full disk


def test_a_disk_that_is_too_small_is_noticed_before_the_first_byte(server, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6, 10_000))
    with pytest.raises(DiskSpaceError, match=r"needs .* free"):
        get(server, tmp_path)
    assert server.ranges(ARCHIVE) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_disk_that_fills_up_while_downloading(server, tmp_path):
    (tmp_path / "x.part").symlink_to("/dev/full")
    with pytest.raises(DiskSpaceError, match="Make room"):
        QUICK.file(f"{server.url}/files/{ARCHIVE}", tmp_path / "x.part", 10**5)


def test_a_disk_that_fills_up_while_unpacking_keeps_the_download(server, tree, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(tarfile, "copyfileobj", full)
        with pytest.raises(DiskSpaceError, match="Make room"):
            get(server, tmp_path)
    assert leftovers(tmp_path) == [f"downloads/{ARCHIVE}"]
    count = len(server.ranges(ARCHIVE))
    assert contents(get(server, tmp_path)) == contents(tree)
    assert len(server.ranges(ARCHIVE)) == count


# ------------------------------------------------------------------------------------------ killed, and several at once


def fetch_from(root, address):
    quick = Transfer(attempts=3, wait=0.01, timeout=30, progress=False)
    fetch("ben-ge-800", root, mirror=address, transfer=quick, progress=False)


def wait_for(condition, seconds=30):
    end = time.perf_counter() + seconds
    while not condition():
        assert time.perf_counter() < end, "waited in vain"
        time.sleep(0.02)


def test_a_killed_download_goes_on_and_has_the_same_bytes(server, tree, archive, tmp_path):
    server.faults = [faults.stall(40_000)]
    (process,) = start(fetch_from, tmp_path, server.url)
    part = tmp_path / "downloads" / f"{ARCHIVE}.part"
    wait_for(lambda: part.exists() and part.stat().st_size == 40_000)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not (tmp_path / NAME).exists()
    assert contents(get(server, tmp_path)) == contents(tree)
    assert server.ranges(ARCHIVE) == [None, "bytes=40000-"]
    assert list((tmp_path / "downloads").iterdir()) == []


def test_what_a_call_that_was_killed_while_unpacking_left_is_no_harm(server, tree, archive, tmp_path):
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / ARCHIVE).write_bytes(archive)
    (tmp_path / f".{NAME}.unpacking" / NAME).mkdir(parents=True)
    (tmp_path / f".{NAME}.unpacking" / NAME / "half.tif").write_bytes(b"half")
    assert contents(get(server, tmp_path)) == contents(tree)


def test_two_processes_that_fetch_the_same_do_it_once(server, tree, tmp_path):
    finish([*start(fetch_from, tmp_path, server.url), *start(fetch_from, tmp_path, server.url)])
    assert contents(tmp_path / NAME) == contents(tree)
    assert server.ranges(ARCHIVE) == [None]


# --------------------------------------------------------------------------------------------------------- the full set


@pytest.fixture
def full(tmp_path_factory):
    """The parts of the full set as archives, in folders with names that nobody promised, and its meta table."""
    published = tmp_path_factory.mktemp("published")
    tree = fake.write_fake_tree(published / "ben-ge", dem_folder="dem")
    with FileServer() as server:
        server.publish("12687186", "BigEarthNet-S2-v1.0.tar.gz", pack_up(tree / "sentinel-2", "BigEarthNet-v1.0"))
        server.publish("12687186", "BigEarthNet-S1-v1.0.tar.gz", pack_up(tree / "sentinel-1", "BigEarthNet-S1-v1.0"))
        server.publish("8129350", "README.md", b"read me")
        server.publish("8129350", "ben-ge-dem-v1.tar.gz", pack_up(tree / "dem", "glo-30_dem"))
        shutil.copy(tree / "ben-ge_esaworldcover.csv", tree / "esaworldcover")
        server.publish("8129666", "lulc.tar.gz", pack_up(tree / "esaworldcover", "some/where"))
        (published / "era-5").mkdir()
        shutil.copy(tree / "ben-ge_era-5.csv", published / "era-5")
        server.publish("8129412", "weather.tar.gz", pack_up(published / "era-5"))
        server.files["ben-ge_meta.csv"] = (tree / "ben-ge_meta.csv").read_bytes()
        known = [
            download.Source(s.record, s.file, None if s.file is None else md5(server.files[s.file]), s.part, s.growth)
            for s in SOURCES["ben-ge"]
        ]
        yield server, tree, known


def md5(data):
    return f"md5:{hashlib.md5(data).hexdigest()}"


def test_the_full_set_comes_in_parts(full, tmp_path, monkeypatch):
    server, tree, known = full
    monkeypatch.setitem(download.SOURCES, "ben-ge", tuple(known))
    folder = get(server, tmp_path, "ben-ge", parts=("dem", "weather"))
    options = dict(modalities=("dem", "weather"), targets=("climate_zone",))
    assert len(BENGE(folder, **options)) == 6
    assert not (folder / "sentinel-2").exists()
    before = len(server.requests)
    get(server, tmp_path, "ben-ge", parts=("dem",))
    assert len(server.requests) == before

    folder = get(server, tmp_path, "ben-ge")
    options = dict(modalities=("s2", "s1", "dem"), targets=("land_cover", "land_cover_top", "corine"))
    fetched, published = BENGE(folder, **options), BENGE(tree, **options)
    assert fetched.patch_ids == published.patch_ids
    for key, value in published[5].items():
        assert key == "patch_id" or (fetched[5][key] == value).all()


def test_known_hashes_of_the_full_set_are_insisted_on(full, tmp_path):
    server, *_ = full
    with pytest.raises(ChecksumError, match="BigEarthNet-S1"):
        get(server, tmp_path, "ben-ge", parts=("s1",))


def test_a_part_that_is_something_else(full, tmp_path):
    server, tree, _ = full
    server.files["ben-ge-dem-v1.tar.gz"] = pack_up(tree / "splits")
    with pytest.raises(DownloadError, match="holds nothing that belongs into dem"):
        get(server, tmp_path, "ben-ge", parts=("dem",))
    assert not (tmp_path / "ben-ge" / "ben-ge_meta.csv").exists()


def test_a_web_page_in_place_of_the_meta_table(full, tmp_path):
    server, *_ = full
    server.files["ben-ge_meta.csv"] = b"Not Found\n"
    with pytest.raises(DownloadError, match="is not the meta table"):
        get(server, tmp_path, "ben-ge", parts=("weather",))
    assert not (tmp_path / "ben-ge" / "ben-ge_meta.csv").exists()


def test_the_registry_names_what_the_publishers_state():
    text = json.dumps({name: [source.record for source in sources] for name, sources in SOURCES.items()})
    for record in ("12941231", "8121208", "8129350", "8129666", "8129412", "12687186"):
        assert record in text


# -------------------------------------------------------------------------------------------------- disks and leftovers


def test_what_others_put_beside_the_downloads_stays(server, tree, tmp_path):
    downloads = tmp_path / "downloads"
    (downloads / "tmp_mine").mkdir(parents=True)
    (downloads / "notes.txt").write_text("mine")
    get(server, tmp_path)
    assert sorted(path.name for path in downloads.iterdir()) == ["notes.txt", "tmp_mine"]
    assert not (tmp_path / ".fetch.lock").exists()


def test_an_archive_of_another_version_downloaded_by_hand_is_fetched_afresh(server, tree, tmp_path):
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / ARCHIVE).write_bytes(b"from another version")
    assert contents(get(server, tmp_path)) == contents(tree)
    assert server.ranges(ARCHIVE) == [None]


def test_what_a_killed_unpacking_left_is_removed(server, tree, tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = tmp_path / f".{NAME}.partial-{files._machine()}-{ended.pid}-0123abcd" / "unpacked"
    left.mkdir(parents=True)
    assert contents(get(server, tmp_path)) == contents(tree)
    assert not left.parent.exists()


def test_a_disk_without_locks_is_fetched_to(server, tree, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(files.fcntl, "flock", refuse)
    with pytest.warns(DataWarning, match="does not lock files"):
        assert contents(get(server, tmp_path)) == contents(tree)


def test_a_link_to_another_disk_is_filled(server, tree, tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / NAME).symlink_to(tmp_path / "big" / "disk")
    assert get(server, tmp_path / "root") == tmp_path / "root" / NAME
    assert contents(tmp_path / "big" / "disk") == contents(tree)


def test_a_folder_that_cannot_be_made_is_a_typed_error(server, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DiskError, match="file"):
        get(server, tmp_path / "file")

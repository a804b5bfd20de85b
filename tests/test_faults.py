"""Every fault of a tree on disk, and what comes of it: refused by name, skipped on request, or read all the same.

The table in `docs/data.md` names these tests. Faults of downloads stand in `test_download`, of packs in `test_packed`.
"""

import json
import re
import shutil
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from rasterio.errors import NotGeoreferencedWarning

from bengelib.bands import IGNORE_INDEX
from bengelib.data.dataset import BENGE
from bengelib.data.packed import PackedBENGE
from bengelib.data.packing import pack
from bengelib.data.patches import KEYS
from bengelib.errors import BengeError, RasterError, SplitError
from tests import fake_tree as fake

BAD = 2
"""Number of the patch that is damaged."""
ALL = dict(modalities=("s2", "s1", "dem", "weather", "season", "lonlat"), targets=KEYS[2:])


@pytest.fixture
def tree(tmp_path, fake_tree):
    return shutil.copytree(fake_tree, tmp_path / fake_tree.name)


def raster(root, key, patch=BAD):
    """Path of a raster of patch number `patch`."""
    s2, s1 = fake.patch_ids(patch)
    return {
        "s2": root / "sentinel-2" / s2 / f"{s2}_B05.tif",
        "s1": root / "sentinel-1" / s1 / f"{s1}_VH.tif",
        "dem": root / "dem" / f"{s2}_dem.tif",
        "land_cover": root / "esaworldcover" / f"{s2}_esaworldcover.tif",
    }[key]


def labels(root):
    s2 = fake.patch_ids(BAD)[0]
    return root / "sentinel-2" / s2 / f"{s2}_labels_metadata.json"


def write(key, pixels, **options):
    """Put other pixels into a raster."""
    return lambda root: fake.write_raster(raster(root, key), pixels, **options)


def keep(key, share):
    """Leave only a share of the bytes of a raster."""

    def damage(root):
        data = raster(root, key).read_bytes()
        raster(root, key).write_bytes(data[: int(share * len(data))])

    return damage


def with_value(pixels, value):
    pixels = pixels.copy()
    pixels[7, 11] = value
    return pixels


def remove_folder(sensor, of):
    return lambda root: shutil.rmtree(root / sensor / fake.patch_ids(BAD)[of])


def edit_row(table, change):
    """Change the row of the damaged patch in a table; None removes it."""

    def damage(root):
        path = root / f"{root.name}_{table}.csv"
        lines = path.read_text().splitlines()
        place = next(i for i, line in enumerate(lines) if line.startswith(fake.patch_ids(BAD)[0]))
        lines[place : place + 1] = [] if change is None else [change(lines[place])]
        path.write_text("\n".join(lines) + "\n")

    return damage


def two_bands(root):
    path = raster(root, "s1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver="GTiff", width=120, height=120, count=2, dtype="float32") as file:
            file.write(np.full((2, 120, 120), -12, dtype=np.float32))


S2, S1, DEM, COVER = fake.s2_pixels("B05", BAD), fake.s1_pixels("VH", BAD), fake.dem_pixels(BAD), "land_cover"

DAMAGES = {
    "truncated S2": ("s2", keep("s2", 0.6)),
    "truncated S1": ("s1", keep("s1", 0.99)),
    "truncated within the header": ("dem", keep("dem", 0.003)),
    "cut to eight bytes": ("land_cover", keep("land_cover", 8 / 15000)),
    "zero bytes S2": ("s2", keep("s2", 0)),
    "zero bytes DEM": ("dem", keep("dem", 0)),
    "text in place of a raster": ("s2", lambda root: raster(root, "s2").write_text("<html>Not found</html>")),
    "a folder in place of a raster": (
        "land_cover",
        lambda root: (raster(root, "land_cover").unlink(), raster(root, "land_cover").mkdir()),
    ),
    "wrong shape S2": ("s2", write("s2", fake.s2_pixels("B02", BAD))),
    "wrong shape land cover": ("land_cover", write("land_cover", fake.land_cover_pixels(BAD)[:60])),
    "wrong type S2": ("s2", write("s2", S2.astype(np.float32))),
    "wrong type S1": ("s1", write("s1", S1.astype(np.int16))),
    "wrong type land cover": ("land_cover", write("land_cover", fake.land_cover_pixels(BAD).astype(np.int16))),
    "two bands in a file": ("s1", two_bands),
    "all no data S2": ("s2", write("s2", np.zeros_like(S2))),
    "all no data S1": ("s1", write("s1", np.zeros_like(S1))),
    "all no data DEM": ("dem", write("dem", np.full_like(DEM, -32768))),
    "NaN S1": ("s1", write("s1", with_value(S1, np.nan))),
    "all NaN S1": ("s1", write("s1", np.full_like(S1, np.nan))),
    "infinite S1": ("s1", write("s1", with_value(S1, -np.inf))),
    "fill value S1": ("s1", write("s1", with_value(S1, -9999))),
    "NaN DEM": ("dem", write("dem", with_value(DEM.astype(np.float32), np.nan))),
    "fill value DEM": ("dem", write("dem", with_value(DEM, -9999))),
    "code outside the legend": ("land_cover", write("land_cover", with_value(fake.land_cover_pixels(BAD), 25))),
    "missing band": ("s2", lambda root: raster(root, "s2").unlink()),
    "missing S2 folder": ("s2", remove_folder("sentinel-2", 0)),
    "missing polarisation": ("s1", lambda root: raster(root, "s1").unlink()),
    "missing S1 pair": ("s1", remove_folder("sentinel-1", 1)),
    "missing DEM": ("dem", lambda root: raster(root, "dem").unlink()),
    "missing mask": ("land_cover", lambda root: raster(root, "land_cover").unlink()),
    "missing labels": ("corine", lambda root: labels(root).unlink()),
    "damaged labels": ("corine", lambda root: labels(root).write_text('{"labels": ["Past')),
    "labels that are no list": ("corine", lambda root: labels(root).write_text('{"labels": null}')),
    "unknown label": ("corine", lambda root: labels(root).write_text(json.dumps({"labels": ["Meadow"]}))),
    "no row of weather": ("weather", edit_row("era-5", None)),
    "weather that is no number": ("weather", edit_row("era-5", lambda line: line.replace("285.0", "warm"))),
    "empty weather": ("weather", edit_row("era-5", lambda line: line.replace("285.0", ""))),
    "no row of fractions": ("land_cover_fractions", edit_row("esaworldcover", None)),
    "unknown climate zone": ("climate_zone", edit_row("meta", lambda line: line.rpartition(",")[0] + ",30")),
    "empty position": ("lonlat", edit_row("meta", lambda line: line.replace(f",{fake.lonlat(BAD)[1]},", ",,"))),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_patch_is_refused_by_name(tree, name):
    key, damage = DAMAGES[name]
    damage(tree)
    ids = fake.patch_ids(BAD)
    options = dict(modalities=(key,), targets=())
    with pytest.raises(BengeError) as caught:
        list(BENGE(tree, **options))
    assert any(patch_id in str(caught.value) for patch_id in ids) or key == "climate_zone"  # there the code is named
    with pytest.raises(BengeError):
        pack(tree, progress=False)
    assert not (tree / "packed").exists()


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_patch_is_skipped_on_request_and_listed(tree, name):
    key, damage = DAMAGES[name]
    damage(tree)
    bad = fake.patch_ids(BAD)[0]
    others = [patch for patch in range(6) if patch != BAD]
    options = dict(modalities=(key,), targets=())
    with pytest.warns(UserWarning, match=f"1 of 6 patches.*{bad}"):
        of_tree = BENGE(tree, on_error="skip", **options)
    pack(tree, on_error="skip", progress=False)
    with pytest.raises(RasterError, match=f"1 of 6 patches.*{bad}"):
        PackedBENGE(tree, **options)
    with pytest.warns(UserWarning, match=f"1 of 6 patches.*{bad}"):
        packed = PackedBENGE(tree, on_error="skip", **options)
    for data in (of_tree, packed):
        assert data.patch_ids == [fake.patch_ids(patch)[0] for patch in others]
        assert list(data.skipped) == [bad]
        assert data.skipped[bad].startswith(f"{key}: ")
    for index in range(5):
        torch.testing.assert_close(packed[index][key], of_tree[index][key], rtol=0, atol=0.008)
    other_keys = dict(modalities=("season",) if key in ("s2", "s1") else ("s1",), targets=())
    assert (
        len(PackedBENGE(tree, **other_keys)) == len(BENGE(tree, **other_keys)) == 6
    )  # nothing else is the worse for it


@pytest.mark.parametrize("scheme", ["official", "study"])
def test_skipping_never_moves_a_patch_to_another_side(tree, scheme):
    before = {split: BENGE(tree, split, scheme=scheme).patch_ids for split in ("train", "val", "test")}
    bad = fake.patch_ids(1)[0]  # one of the test patches
    raster(tree, "s1", 1).unlink()
    pack(tree, on_error="skip", progress=False)
    for kind in (BENGE, PackedBENGE):
        for split in ("train", "val"):
            data = kind(tree, split, scheme=scheme, on_error="skip")
            assert (data.patch_ids, data.skipped) == (before[split], {})
        with pytest.warns(UserWarning, match="1 of 2 patches"):
            data = kind(tree, "test", scheme=scheme, on_error="skip")
        assert data.patch_ids == [patch_id for patch_id in before["test"] if patch_id != bad]
        assert list(data.skipped) == [bad]


def test_a_split_of_which_nothing_is_left_is_refused(tree):
    shutil.rmtree(tree / "sentinel-1" / fake.patch_ids(BAD)[1])  # the only validation patch
    with pytest.raises(SplitError, match="None is left"):
        BENGE(tree, "val", on_error="skip")


def test_a_pack_with_holes_is_filled_once_the_files_are_there(tree):
    path = raster(tree, "dem")
    moved = shutil.move(path, tree.parent / "dem.tif")
    pack(tree, on_error="skip", progress=False)
    shutil.move(moved, path)
    pack(tree, progress=False)
    data = PackedBENGE(tree, modalities=("dem",))
    assert data.skipped == {}
    np.testing.assert_array_equal(data[BAD]["dem"][0], DEM)


def test_an_unknown_way_to_treat_errors_is_refused(tree):
    with pytest.raises(BengeError, match="on_error"):
        BENGE(tree, on_error="ignore")


# ---------------------------------------------------------------------------------------------------- tables and splits


def header(root, old, new, table="meta"):
    path = root / f"{root.name}_{table}.csv"
    path.write_text(path.read_text().replace(old, new, 1))


def repeat_line(root, path):
    text = (root / path.format(root.name)).read_text()
    (root / path.format(root.name)).write_text(text + text.splitlines()[-1] + "\n")


REFUSED = {
    "repeated patch in the meta table": (lambda r: repeat_line(r, "{}_meta.csv"), "repeated patch ids"),
    "repeated patch in another table": (lambda r: repeat_line(r, "{}_era-5.csv"), "repeated patch ids"),
    "repeated patch in a split": (lambda r: repeat_line(r, "splits/{}_train.csv"), "more than once"),
    "unknown patch in a split": (
        lambda r: (r / "splits" / f"{r.name}_train.csv").write_text("S2A_MSIL2A_20170613T101031_0_0\n"),
        "meta CSV does not have",
    ),
    "missing column in the meta table": (lambda r: header(r, "season_s2", "season"), "lacks the columns"),
    "missing column of the weather": (lambda r: header(r, "wind-u_s2", "wind", "era-5"), "lacks the columns"),
    "two split files that differ": (
        lambda r: (r / "splits" / f"{r.name}_val.csv").write_text(f"{fake.patch_ids(0)[0]}\n"),
        "name different patches",
    ),
    "no split files": (lambda r: shutil.rmtree(r / "splits"), "no split file"),
    "a table that is no text": (lambda r: (r / f"{r.name}_era-5.csv").write_bytes(b"\xff\xfe\x00"), "cannot read"),
    "an empty meta table": (lambda r: (r / f"{r.name}_meta.csv").write_text(""), "cannot read"),
    "another name": (lambda r: (r / f"{r.name}_meta.csv").rename(r / "ben-ge-x_meta.csv"), "rename the folder"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_tree_whose_tables_contradict_it_is_refused(tree, name):
    damage, words = REFUSED[name]
    damage(tree)
    options = dict(modalities=("weather",))

    def through_a_pack(split):
        pack(tree, progress=False)
        return PackedBENGE(tree, split, **options)

    for way in (lambda split: BENGE(tree, split, **options), through_a_pack):
        with pytest.raises(BengeError, match=words):
            for split in ("train", "val", "test"):
                way(split)


# ------------------------------------------------------------------------------ what looks odd and is read all the same


def rewrite(root, name, change):
    path = root / f"{root.name}_{name}.csv"
    path.write_bytes(change(path.read_bytes()))


def reverse_columns(data):
    lines = data.decode().splitlines()
    return "\n".join(",".join(reversed(line.split(","))) for line in lines).encode() + b"\n"


def for_all_tables(change):
    return lambda root: [rewrite(root, name, change) for name in ("meta", "era-5", "esaworldcover")]


def foreign_rows(root):
    path = root / f"{root.name}_era-5.csv"
    text = path.read_text()
    path.write_text(text + text.splitlines()[-1].replace("S2A_", "S2B_") + "\n")


def other_order(root):
    path = root / f"{root.name}_esaworldcover.csv"
    first, *lines = path.read_text().splitlines()
    path.write_text("\n".join([first, *reversed(lines)]) + "\n")


def big_endian(root):
    path = raster(root, "s2")
    strip = 40 * 60 * 2  # two strips, in the byte order of a big machine
    entries = [
        (256, 3, 60),
        (257, 3, 60),
        (258, 3, 16),
        (259, 3, 1),
        (262, 3, 1),
        (277, 3, 1),
        (278, 3, 40),
        (339, 3, 1),
    ]
    pixels = S2.astype(">u2").tobytes()
    directory = b"".join(struct.pack(">HHIHH", tag, kind, 1, value, 0) for tag, kind, value in entries)
    start = 8 + 2 + 12 * (len(entries) + 2) + 4
    offsets = struct.pack(">II", start + 16, start + 16 + strip)
    counts = struct.pack(">II", strip, len(pixels) - strip)
    more = struct.pack(">HHII", 273, 4, 2, start) + struct.pack(">HHII", 279, 4, 2, start + 8)
    number = struct.pack(">H", len(entries) + 2)
    # tags must rise: 273 stands before 277, 279 before 339
    directory = directory[:60] + more[:12] + directory[60:84] + more[12:] + directory[84:]
    path.write_bytes(b"MM\0*" + struct.pack(">I", 8) + number + directory + bytes(4) + offsets + counts + pixels)


ACCEPTED = {
    "columns in another order": for_all_tables(reverse_columns),
    "byte-order mark": for_all_tables(lambda data: b"\xef\xbb\xbf" + data),
    "CRLF": for_all_tables(lambda data: data.replace(b"\n", b"\r\n")),
    "further columns": for_all_tables(lambda data: data.replace(b"\n", b",x\n")),
    "rows in another order": other_order,
    "rows of patches that the meta table does not have": foreign_rows,
    "split files under both names": lambda r: shutil.copy(
        r / "splits" / f"{r.name}_validation.csv", r / "splits" / f"{r.name}_val.csv"
    ),
    "split file under the other name": lambda r: (r / "splits" / f"{r.name}_validation.csv").rename(
        r / "splits" / f"{r.name}_val.csv"
    ),
    "split file with CRLF": lambda r: [
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n")) for path in (r / "splits").iterdir()
    ],
    "glo-30_dem": lambda r: (r / "dem").rename(r / "glo-30_dem"),
    "compressed": write("s2", S2, compress="deflate", predictor=2),
    "tiled": write("dem", DEM, tiled=True, blockxsize=64, blockysize=64),
    "BigTIFF": write("land_cover", fake.land_cover_pixels(BAD), BIGTIFF="YES"),
    "big-endian": big_endian,
    "DEM of 32 bits": write("dem", DEM.astype(np.int32)),
    "DEM in float": write("dem", DEM.astype(np.float32)),
    "further files and folders": lambda r: ((r / "README").touch(), (r / "sentinel-2" / ".DS_Store").touch()),
}


@pytest.fixture(scope="module")
def expected_of(fake_tree):
    """What is in each split of the tree as it was."""
    return {split: BENGE(fake_tree, split, **ALL) for split in (None, "train", "val")}


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_tree_that_only_looks_different_is_read_all_the_same(tree, expected_of, name):
    ACCEPTED[name](tree)
    pack(tree, progress=False)
    for split in (None, "train", "val") if "split" in name else (None, "train"):
        expected = expected_of[split]
        for data in (BENGE(tree, split, **ALL), PackedBENGE(tree, split, **ALL)):
            assert data.patch_ids == expected.patch_ids
            for index in (0, -1) if split else (0, BAD):
                for key, value in expected[index].items():
                    if key != "patch_id":
                        torch.testing.assert_close(data[index][key], value, rtol=0, atol=0.008)


def test_ids_with_five_digit_times_are_among_the_fake_ones():
    times = {fake.patch_ids(patch)[0].split("_")[2].partition("T")[2] for patch in range(6)}
    assert {len(time) for time in times} == {5, 6}


def test_land_cover_without_any_label_is_all_ignored(tree):
    write("land_cover", np.zeros((120, 120), dtype=np.uint8))(tree)
    pack(tree, progress=False)
    for kind in (BENGE, PackedBENGE):
        assert (kind(tree, targets=("land_cover",))[BAD]["land_cover"] == IGNORE_INDEX).all()


def test_the_table_of_faults_names_tests_and_cases_that_exist():
    here = Path(__file__).parent
    pages = {name: (here.parent / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in FAULTS}
    tests = "\n".join(path.read_text(encoding="utf-8") for path in here.rglob("test_*.py"))
    for name, text in pages.items():
        named = set(re.findall(r"`(test_\w+)`", text))
        assert len(named) > 15
        assert [test for test in sorted(named) if f"def {test}(" not in tests] == []
        if heading := FAULTS[name]:
            table = text[text.index(heading) :].partition("|---|---|---|\n")[2].partition("\n\n")[0].splitlines()
            assert len(table) > 10 and [row for row in table if "`test_" not in row] == []
    patch_table = pages["data"].partition("### A patch")[2].partition("###")[0]
    assert [name for name in DAMAGES if name not in patch_table] == []


FAULTS = {"data": "", "own-data": "### With a dataset.toml", "maps": "## What is refused"}
"""Pages with tables of faults, and the heading of that of which each row names its tests."""

"""What belongs together is compared: ids, pairs, positions, dates, seasons, label files, split files."""

import json
import shutil
import warnings
from datetime import date

import numpy as np
import pandas as pd
import pytest

from bengelib.data.consistency import check_labels, check_meta, check_tree
from bengelib.data.dataset import BENGE
from bengelib.data.packed import PackedBENGE
from bengelib.data.packing import pack
from bengelib.data.tables import read_meta
from bengelib.errors import DataWarning, SplitError, TableError
from bengelib.identity import season
from tests import fake_tree as fake
from tests.fake_tree import write_fake_tree


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Thirty patches, six in each of five tiles. To be read only."""
    return write_fake_tree(tmp_path_factory.mktemp("data") / "tree", 30)


@pytest.fixture
def meta(whole):
    return read_meta(whole)


@pytest.fixture
def tree(tmp_path, fake_tree):
    return shutil.copytree(fake_tree, tmp_path / fake_tree.name)


def edit(root, change):
    """Change the meta table on disk, given as a data frame."""
    path = root / f"{root.name}_meta.csv"
    table = pd.read_csv(path)
    change(table)
    table.to_csv(path, index=False)


def check(meta):
    """Compare, and take any warning for an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_meta(meta, "tree_meta.csv")


def test_a_good_tree_passes_without_a_word(whole, meta):
    check(meta)
    check(meta.iloc[::-1])
    check(meta.iloc[:1])
    check(meta.iloc[:0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_tree(whole, meta, thoroughly=True)


def test_the_real_patches_pass_without_a_word(real_tree):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_tree(real_tree, read_meta(real_tree), thoroughly=True)


def test_ids_of_another_form_say_nothing(meta):
    meta["patch_id"] = [f"field {row}" for row in range(len(meta))]
    meta["patch_id_s1"] = [f"radar {row}" for row in range(len(meta))]
    meta["lon"], meta["season_s2"], meta["timestamp_s2"] = 0.0, 0.1, "yesterday"
    check(meta)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda ids: np.roll(ids, 1), "30 of 30 patches with a radar patch of another place"),
        (lambda ids: sorted(ids), "of another place"),
        (lambda ids: [*ids[:7], ids[8], ids[7], *ids[9:]], "2 of 30"),
        (lambda ids: [ids[0]] * len(ids), "29 patches a Sentinel-1 id that another patch has already"),
        (lambda ids: [*ids[:-1], ids[0]], "1 patches a Sentinel-1 id .*filled down"),
    ],
)
def test_radar_ids_that_were_shifted_sorted_or_filled_are_refused(meta, change, words):
    meta["patch_id_s1"] = change(list(meta["patch_id_s1"]))
    with pytest.raises(TableError, match=words) as error:
        check_meta(meta, "tree_meta.csv")
    assert "tree_meta.csv" in str(error.value) and any(name in str(error.value) for name in meta["patch_id"])


def test_ids_of_the_satellites_in_each_others_column_are_refused(meta):
    swapped = meta.rename(columns={"patch_id": "patch_id_s1", "patch_id_s1": "patch_id"})
    with pytest.raises(TableError, match=r"30 rows .* Are the two columns swapped\?"):
        check_meta(swapped, "tree_meta.csv")


def test_a_tile_in_both_ids_must_agree(meta):
    meta["patch_id"] = [
        name.replace("T101031", "T101031_N9999_R022_T31UGS").replace("T94132", "T94132_N9999_R022_T31UGS")
        for name in meta["patch_id"]
    ]
    with pytest.raises(TableError, match="30 of 30"):
        check_meta(meta, "tree_meta.csv")


def swap(table, one, other):
    table[one], table[other] = table[other].copy(), table[one].copy()


def test_longitude_and_latitude_swapped_are_refused(meta):
    swap(meta, "lon", "lat")
    with pytest.raises(TableError, match=r"30 of 30 patches off the tile .*Longitude and latitude are swapped"):
        check_meta(meta, "tree_meta.csv")


@pytest.mark.parametrize("columns", [["lat"], ["lon"], ["lon", "lat"]])
def test_positions_that_were_shifted_by_a_row_are_refused(meta, columns):
    meta[columns] = np.roll(meta[columns].to_numpy(), 1, axis=0)
    with pytest.raises(TableError, match=r"off the tile that their ids name.* sorted or shifted"):
        check_meta(meta, "tree_meta.csv")


def test_positions_of_other_patches_of_the_tile_are_told(meta):
    """Rows of one tile alone, which no coarse check finds."""
    one = meta[meta["patch_id_s1"].str.contains("34TCR")].copy()
    one[["lon", "lat"]] = np.roll(one[["lon", "lat"]].to_numpy(), 1, axis=0)
    with pytest.warns(DataWarning, match=r"6 of 6 patches elsewhere in their tile .* km away"):
        check_meta(one, "tree_meta.csv")


def test_impossible_or_missing_positions_are_left_to_those_who_ask_for_them(meta):
    meta["lon"] = [2566137.0, np.nan, *meta["lon"][2:]]
    check(meta)
    meta["lat"] = "x"
    check(meta)


@pytest.mark.parametrize(
    ("column", "change", "words"),
    [
        ("timestamp_s1", lambda t: np.roll(t["timestamp_s1"], 1), "timestamp_s1 of 30 patches"),
        ("timestamp_s2", lambda t: t["timestamp_s1"], "timestamp_s2 of 30 patches"),
        (
            "timestamp_s2",
            lambda t: [f"{d[8:10]}.{d[5:7]}.{d[:4]}" for d in t["timestamp_s2"]],
            r"'13\.08\.2017' .*spreadsheet",
        ),
        ("season_s2", lambda t: t["season_s1"], "season_s2 of 30 patches"),
        ("season_s1", lambda t: np.roll(t["season_s1"], 5), "season_s1 of .* patches"),
        ("season_s2", lambda t: 0.5, r"season_s2 of 30 patches .* 0\.5"),
    ],
)
def test_times_and_seasons_of_other_dates_are_told(meta, column, change, words):
    meta[column] = change(meta)
    with pytest.warns(DataWarning, match=words) as caught:
        check_meta(meta, "tree_meta.csv")
    assert len(caught) == 1 and str(caught[0].message).startswith("tree_meta.csv")


def test_images_that_lie_months_apart_are_told(meta):
    meta["patch_id_s1"] = [name.replace("201708", "201801") for name in meta["patch_id_s1"]]
    meta["timestamp_s1"] = [text.replace("2017-08", "2018-01") for text in meta["timestamp_s1"]]
    meta["season_s1"] = [season(date.fromisoformat(text[:10])) for text in meta["timestamp_s1"]]
    with pytest.warns(DataWarning, match="more than a month apart"):
        check_meta(meta, "tree_meta.csv")


# -------------------------------------------------------------------------------------- label files and whole trees


def label_file(root, sensor, patch):
    name = fake.patch_ids(patch)[sensor == "sentinel-1"]
    return root / sensor / name / f"{name}_labels_metadata.json"


def relabel(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def both_ways(root):
    yield lambda: BENGE(root)
    yield lambda: pack(root, progress=False)


def test_a_radar_patch_whose_label_file_names_another_partner_is_refused(tree):
    """Two dates of one place: tile, column and row are the same."""
    relabel(label_file(tree, "sentinel-1", 3), corresponding_s2_patch="S2B_MSIL2A_20180204T94160_59_17")
    for way in both_ways(tree):
        with pytest.raises(TableError, match=r"labels_metadata\.json says .* S2B_MSIL2A_20180204T94160_59_17") as error:
            way()
        assert fake.patch_ids(3)[0] in str(error.value)
    assert not (tree / "packed").exists()


def test_a_label_file_in_the_folder_of_another_patch_is_refused(tree):
    shutil.copy(label_file(tree, "sentinel-2", 2), label_file(tree, "sentinel-2", 4))
    for way in both_ways(tree):
        with pytest.raises(TableError, match="in the folder of another patch") as error:
            way()
        assert fake.patch_ids(4)[0] in str(error.value)


@pytest.mark.parametrize("without_radar", [True, False])
def test_a_label_file_of_another_patch_is_refused_by_the_place_that_the_id_names(tree, without_radar):
    """Without a label file of the radar patch, or with one of the same wrong place."""
    place = json.loads(label_file(tree, "sentinel-2", 2).read_text())["coordinates"]
    for sensor in ("sentinel-1", "sentinel-2"):
        relabel(label_file(tree, sensor, 4), coordinates=place)
    if without_radar:
        label_file(tree, "sentinel-1", 4).unlink()
    for way in both_ways(tree):
        with pytest.raises(TableError, match=r"its id names the place .* in the folder of another patch") as error:
            way()
        assert fake.patch_ids(4)[not without_radar] in str(error.value)


def test_label_files_of_patches_that_are_not_of_bigearthnet_may_lie_anywhere(tree):
    """The table of a tree of one's own: nothing in its ids tells a place, so only the pairs can be compared."""
    meta = read_meta(tree).iloc[[4]].copy()
    for sensor, name in (("sentinel-2", "field"), ("sentinel-1", "radar")):
        path = tree / sensor / name / f"{name}_labels_metadata.json"
        path.parent.mkdir()
        path.write_text('{"coordinates": {"ulx": 1, "uly": 2}}')
    meta["patch_id"], meta["patch_id_s1"] = "field", "radar"
    check_labels(tree, meta, None)
    relabel(path, coordinates={"ulx": 1, "uly": 1202})
    with pytest.raises(TableError, match="that of its radar patch"):
        check_labels(tree, meta, None)


def test_label_files_that_are_missing_damaged_or_say_less_are_no_contradiction(tree):
    label_file(tree, "sentinel-1", 0).unlink()
    label_file(tree, "sentinel-1", 1).write_text("{")
    label_file(tree, "sentinel-1", 2).write_text("[]")
    label_file(tree, "sentinel-1", 3).write_text('{"coordinates": null}')
    label_file(tree, "sentinel-1", 4).write_text('{"coordinates": {"ulx": "?", "uly": 0}}')
    label_file(tree, "sentinel-2", 4).write_text('{"labels": []}')
    check_labels(tree, read_meta(tree), None)


def test_all_label_files_are_compared_when_packing_and_some_when_reading(whole, meta, monkeypatch):
    seen = []
    monkeypatch.setattr("bengelib.data.consistency._read_labels", lambda path: seen.append(path.parent.name) or {})
    big = pd.concat([meta] * 10, ignore_index=True)
    check_labels(whole, big, 32)
    assert 2 * 32 <= len(seen) <= 2 * 64
    seen.clear()
    check_labels(whole, big, None)
    assert len(seen) == 2 * 300


def test_contradictions_are_refused_wherever_the_tree_is_read(tree):
    edit(tree, lambda table: swap(table, "lon", "lat"))
    for way in both_ways(tree):
        with pytest.raises(TableError, match="swapped"):
            way()
    edit(tree, lambda table: swap(table, "lon", "lat"))
    edit(tree, lambda table: table.update(pd.DataFrame({"patch_id_s1": np.roll(table["patch_id_s1"], 1)})))
    for way in both_ways(tree):
        with pytest.raises(TableError, match="of another place"):
            way()


def test_split_files_that_share_patches_are_refused_wherever_they_are_read(tree, fake_tree):
    pack(tree, progress=False)
    train, test = (f"splits/{tree.name}_{split}.csv" for split in ("train", "test"))
    for root in (tree, tree / "packed"):
        (root / train).write_text((root / train).read_text() + (root / test).read_text())
    words = f"{tree.name}_train.csv and .*{tree.name}_test.csv share 2 patches"
    for kind in (BENGE, lambda root, split: PackedBENGE(root / "packed", split)):
        for split in ("train", "test", "val"):
            with pytest.raises(SplitError, match=words):
                kind(tree, split)
    with pytest.raises(SplitError, match=words):
        pack(tree, progress=False)
    assert len(BENGE(tree)) == len(BENGE(tree, "train", scheme="study")) + 3  # these need no files

import numpy as np
import pytest

from bengelib.data.splits import (
    FOLD_OF_TILE,
    FOLDS,
    check_split,
    mgrs_tile,
    official_split,
    sides_of_folds,
    study_split,
    tile_fold,
    unit_hash,
)
from bengelib.errors import ArgumentError, SplitError

# The tiles of BigEarthNet v1 whose patches reBEN's metadata name (54 of them).
SOME_TILES = ("29SNB", "29UPU", "31UER", "32TMT", "33UUP", "34TCR", "34WFV", "35VNJ", "35WPR", "36VVR")


def ids(count, start=0):
    return [f"S2A_MSIL2A_20170613T101031_{number // 91}_{number % 91}" for number in range(start, start + count)]


def s1_id(tile, number=0):
    return f"S1A_IW_GRDH_1SDV_20170613T165043_{tile}_{number // 91}_{number % 91}"


def blocked(names, fold):
    return sides_of_folds(np.array([tile_fold(mgrs_tile(name)) for name in names]), fold)


def test_hash_is_the_same_on_every_machine():
    assert unit_hash("S2A_MSIL2A_20170613T101031_87_48") == 0xBC23E9F49BE2EACC / 2**64  # b2sum -l 64
    assert 0 <= min(unit_hash(name) for name in ids(500)) < max(unit_hash(name) for name in ids(500)) < 1


def test_study_split_has_its_shares():
    sides = study_split(ids(8000))
    shares = {side: float(np.mean(sides == side)) for side in ("train", "val", "test")}
    assert shares == pytest.approx({"train": 0.60, "val": 0.15, "test": 0.25}, abs=0.02)


def test_study_side_of_a_patch_does_not_depend_on_the_others():
    names = ids(400)
    whole = dict(zip(names, study_split(names), strict=True))
    some = names[300:100:-3]
    assert dict(zip(some, study_split(some), strict=True)) == {name: whole[name] for name in some}


def test_blocked_split_keeps_tiles_whole():
    tiles = [tile for tile in SOME_TILES for _ in range(3)]
    for fold in range(FOLDS):
        sides = blocked([s1_id(tile, number) for number, tile in enumerate(tiles)], fold)
        assert all(len({side for side, of in zip(sides, tiles, strict=True) if of == tile}) == 1 for tile in SOME_TILES)


def test_every_tile_is_tested_once_and_validated_once():
    names = [s1_id(tile) for tile in FOLD_OF_TILE]
    sides = np.stack([blocked(names, fold) for fold in range(FOLDS)])  # (folds, tiles)
    assert ((sides == "test").sum(axis=0) == 1).all()
    assert ((sides == "val").sum(axis=0) == 1).all()
    assert ((sides == "train").sum(axis=0) == FOLDS - 2).all()


def test_every_fold_has_its_share_of_tiles_and_of_latitudes():
    assert len(FOLD_OF_TILE) == 54
    for fold in range(FOLDS):
        tiles = [tile for tile, of in FOLD_OF_TILE.items() if of == fold]
        assert 8 <= len(tiles) <= 14
        assert {tile[2] for tile in tiles} & set("ST") and {tile[2] for tile in tiles} & set("VW")  # south, north


def test_unknown_tiles_get_a_fold_by_hash():
    folds = [tile_fold(f"{zone}{letter}AB") for zone in range(10, 60) for letter in "NPQR"]
    assert set(folds) == set(range(FOLDS))
    assert tile_fold("10NAB") == tile_fold("10NAB")


def test_tile_stands_in_the_sentinel_1_id():
    assert mgrs_tile("S1B_IW_GRDH_1SDV_20171101T153951_35VNJ_78_77") == "35VNJ"


@pytest.mark.parametrize("name", ["S2A_MSIL2A_20171002T094031_64_46", "", "S1A_IW_GRDH_1SDV_20170613T165043_TILE_1_2"])
def test_id_without_a_tile_is_refused(name):
    with pytest.raises(SplitError, match="no MGRS tile") as error:
        mgrs_tile(name)
    assert repr(name) in str(error.value) and "patch_id_s1" in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("training", "study", 0), ["'training'", "train"]),
        (("validation", "study", 0), ["'validation'", "val"]),
        (("train", "random", 0), ["'random'", "blocked"]),
        (("train", "blocked", 5), ["5", "0 to 4"]),
        (("train", "blocked", -1), ["-1"]),
        (("train", "blocked", True), ["fold=True"]),
        (("train", "blocked", "1"), ["fold='1'"]),
    ],
)
def test_unknown_choices_are_named_with_the_known_ones(arguments, words):
    with pytest.raises((SplitError, ArgumentError)) as error:
        check_split(*arguments)
    assert all(word in str(error.value) for word in words)


class TestOfficialSplit:
    @pytest.fixture
    def root(self, tmp_path):
        (tmp_path / "splits").mkdir()
        return tmp_path

    def write(self, root, suffix, lines, end="\n"):
        (root / "splits" / f"name_{suffix}.csv").write_bytes("".join(line + end for line in lines).encode())

    @pytest.mark.parametrize("suffix", ["val", "validation"])
    def test_validation_under_both_names(self, root, suffix):
        self.write(root, suffix, ["b", "a"])
        assert official_split(root, "name", "val", ["a", "b", "c"]) == ["b", "a"]

    def test_both_names_that_agree(self, root):
        self.write(root, "val", ["a", "b"])
        self.write(root, "validation", ["b", "a"])
        assert sorted(official_split(root, "name", "val", ["a", "b"])) == ["a", "b"]

    def test_both_names_that_differ(self, root):
        self.write(root, "val", ["a"])
        self.write(root, "validation", ["b"])
        with pytest.raises(SplitError, match="different patches") as error:
            official_split(root, "name", "val", ["a", "b"])
        assert "name_val.csv" in str(error.value) and "name_validation.csv" in str(error.value)

    def test_names_that_differ_in_capitals_and_files_that_do_so_too(self, root):
        self.write(root, "train", ["a", "b"])
        self.write(root, "Train", ["b", "a"])
        if len(list((root / "splits").iterdir())) < 2:
            pytest.skip("a disk that does not tell capitals from small letters")
        assert official_split(root, "name", "train", ["a", "b"]) == ["a", "b"]
        self.write(root, "Train", ["a"])
        with pytest.raises(SplitError, match=r"name_train\.csv and .*name_Train\.csv name different patches"):
            official_split(root, "name", "train", ["a", "b"])
        (root / "splits" / "name_train.csv").unlink()
        assert official_split(root, "name", "train", ["a", "b"]) == ["a"]
        self.write(root, "VAL", ["b"])
        assert official_split(root, "name", "val", ["a", "b"]) == ["b"]

    def test_windows_line_ends_and_a_byte_order_mark(self, root):
        self.write(root, "train", ["\ufeffa", "b"], end="\r\n")
        assert official_split(root, "name", "train", ["a", "b"]) == ["a", "b"]

    def test_missing_file_is_named_with_a_way_out(self, root):
        with pytest.raises(SplitError, match=r"name_test\.csv") as error:
            official_split(root, "name", "test", ["a"])
        assert 'scheme="study"' in str(error.value)
        (root / "splits" / "test.csv").write_text("a\n")
        with pytest.raises(SplitError, match=r"name_test\.csv; there are \['test\.csv'\]\."):
            official_split(root, "name", "test", ["a"])

    def test_foreign_patch(self, root):
        self.write(root, "train", ["a", "elsewhere"])
        with pytest.raises(SplitError, match="elsewhere"):
            official_split(root, "name", "train", ["a"])

    def test_repeated_patch(self, root):
        self.write(root, "train", ["a", "b", "b"])
        with pytest.raises(SplitError, match="names b more than once"):
            official_split(root, "name", "train", ["a", "b"])

    def test_a_patch_on_two_sides(self, root):
        self.write(root, "train", ["a", "b", "c"])
        self.write(root, "test", ["d", "c", "b"])
        for split in ("train", "test"):
            with pytest.raises(
                SplitError, match=r"name_train\.csv and .*name_test\.csv share 2 patches.* c\."
            ) as error:
                official_split(root, "name", split, ["a", "b", "c", "d"])
            assert "Fetch" not in str(error.value)

    def test_a_patch_on_two_sides_of_which_none_is_asked_for(self, root):
        self.write(root, "train", ["a"])
        self.write(root, "validation", ["b"])
        self.write(root, "test", ["b"])
        with pytest.raises(SplitError, match=r"name_validation\.csv and .*name_test\.csv share 1"):
            official_split(root, "name", "train", ["a", "b"])

    def test_an_empty_split(self, root):
        self.write(root, "train", ["a"])
        self.write(root, "test", [])
        assert official_split(root, "name", "train", ["a"]) == ["a"]
        assert official_split(root, "name", "test", ["a"]) == []

    @pytest.mark.parametrize(
        "text",
        [
            "a\nb",
            "a\n\n  \nb\n\n",
            '"a"\n"b"\n',
            "a,\nb,\n",
            " a\nb \n",
            "a\rb\r",
            "a;\nb;\n",
            "\ufeffa\nb\n",
            "a\t\nb\n",
        ],
    )
    def test_what_looks_odd_and_is_read_all_the_same(self, root, text):
        (root / "splits" / "name_train.csv").write_bytes(text.encode())
        assert official_split(root, "name", "train", ["a", "b", "c"]) == ["a", "b"]

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            (b"patch_id\na\nb\n", r"line 1 is a header \('patch_id'\): remove it"),
            (b'"patch_id"\n"a"\n"b"\n', "line 1 is a header"),
            (b"0\na\nb\n", "line 1 is a header"),  # pandas, of a table without names
            (b"# of 2020\na\nb\n", "line 1 begins with '# of 2020'.*Comments are not read"),
            (b"#patch_id\na\nb\n", "if it is the header, the sign before it"),
            (b"training patches\na\nb\n", "line 1 has 2 values"),
            (b"training\na\nb\n", "line 1, 'training', is the only one"),
            (b",patch_id\n0,a\n1,b\n", r"line 2 has 2 values \('0 a'\)"),
            (b"0,a\n1,b\n", "line 1 has 2 values"),
            (b"a\tforest\nb\tlake\n", "line 1 has 2 values"),
            (b"a;forest\nb;lake\n", "line 1 has 2 values"),
            (b"a,b\n", "line 1 has 2 values"),
            (b"a b\n", "line 1 has 2 values"),
            ("a\nb\n".encode("utf-16"), "UTF-16.*save it as CSV UTF-8"),
            ("a\nb\n".encode("utf-16-le"), "UTF-16"),
            (b"PK\x03\x04" + bytes(30), "Excel workbook"),
            (b"<!DOCTYPE html><html>", "web page"),
            (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
            (b"a\n\xfc\n", "line 2 has the byte 0xfc"),
            (b'a\n"b\nc\n', "line 3 has 2 values"),
            (b'"a";"forest"\n"b";"lake"\n', "line 1 has 2 values"),
            (b"a.tif\nb.tif\n", "names of files"),
            (b"S1A_IW_GRDH\na\nS1B\n", "Sentinel-1 ids"),
        ],
    )
    def test_lists_as_people_save_them_are_refused_with_a_word_on_what_is_the_matter(self, root, data, words):
        (root / "splits" / "name_train.csv").write_bytes(data)
        with pytest.raises(SplitError, match=words) as error:
            official_split(root, "name", "train", ["a", "b", "c"])
        assert "name_train.csv" in str(error.value) and "etch" not in str(error.value)

from pathlib import Path

import pytest

from bengelib.data.file_patterns import FilePattern
from bengelib.errors import DescriptionError, DiskError


def pattern(root: Path, text: str) -> FilePattern:
    return FilePattern(root, text, "dataset.toml: [modalities.s2] files")


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "/data/{id}.tif",
        "~/{id}.tif",
        "../{id}.tif",
        "a/../../{id}.tif",
        "a\\{id}.tif",
        "C:/{id}.tif",
        "{id}\0",
    ],
)
def test_a_pattern_that_leaves_the_folder_is_refused(tmp_path, text):
    with pytest.raises(DescriptionError, match=r"files = .*expected a path within"):
        pattern(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{id.tif", "each pair of braces"),
        ("{}.tif", "each pair of braces"),
        ("a}/{id}.tif", "each pair of braces"),
        ("x*/{id}.tif", "one whole folder"),
        ("*/*/{id}.tif", "one whole folder"),
        ("{id}/*", "one whole folder"),
    ],
)
def test_braces_and_stars_that_mean_nothing_are_refused(tmp_path, text, words):
    with pytest.raises(DescriptionError, match=words):
        pattern(tmp_path, text)


def test_columns_and_bands_take_the_place_of_the_braces(tmp_path):
    made = pattern(tmp_path, "images/{class}/{id}_{band}.tif")
    assert made.fields == ["class", "id", "band"]
    assert made.path({"class": "wheat field", "id": "é1"}, "B02") == tmp_path / "images/wheat field/é1_B02.tif"


@pytest.mark.parametrize(
    "value",
    ["../../etc/passwd", "/etc/passwd", "..", ".", "", "a/../b", "a/./b", "a//b", "a/", "a\\b", "C:x", "a/C:x", "a\0b"],
)
@pytest.mark.parametrize("text", ["images/{id}.tif", "{id}"])
def test_a_value_that_would_lead_out_of_the_folder_is_refused(tmp_path, text, value):
    with pytest.raises(DescriptionError, match=r"takes id = .* within .*without '\.\.'"):
        pattern(tmp_path, text).path({"id": value})


def test_a_column_may_give_the_path_of_a_file(tmp_path):
    row = {"file": "deep/a/1.tif", "stem": "a/1"}
    assert pattern(tmp_path, "{file}").path(row) == tmp_path / "deep/a/1.tif"
    assert pattern(tmp_path, "deep/{stem}_x.tif").path(row) == tmp_path / "deep/a/1_x.tif"
    touch(tmp_path, "deep/a/1.tif")
    assert pattern(tmp_path, "*/{stem}.tif").path(row) == tmp_path / "deep/a/1.tif"
    named = [pattern(tmp_path, text).is_named for text in ("{file}", "images/{file}", "{file}.tif", "{a}{b}")]
    assert named == [True, True, False, False]


def test_files_make_samples_in_the_order_of_their_paths(tmp_path):
    touch(tmp_path, "b/2.tif", "b/10.tif", "a/1.tif", "a/1.txt", "a/.1.tif", "deep/a/1.tif", ".hidden/1.tif")
    made = pattern(tmp_path, "{class}/{id}.tif")
    assert made.rows() == [{"class": "a", "id": "1"}, {"class": "b", "id": "10"}, {"class": "b", "id": "2"}]
    assert [made.path(row) for row in made.rows()] == [tmp_path / name for name in ("a/1.tif", "b/10.tif", "b/2.tif")]
    assert pattern(tmp_path, "nothing/{id}.tif").rows() == []


def test_a_field_that_stands_twice_has_one_value(tmp_path):
    touch(tmp_path, "p1/p1_B02.tif", "p1/p2_B02.tif")
    assert pattern(tmp_path, "{id}/{id}_{band}.tif").rows() == [{"id": "p1"}]
    touch(tmp_path, "flat/x-x.tif", "flat/x-y.tif")
    assert pattern(tmp_path, "flat/{id}-{id}.tif").rows() == [{"id": "x"}]


def test_known_bands_take_the_name_apart(tmp_path):
    """Without them `{id}_{band}` cannot know where a band whose name has an underscore begins."""
    touch(tmp_path, "p_1_band_a.tif", "p_1_band_b.tif", "p_2_band_a.tif", "p_2_mask.tif")
    assert pattern(tmp_path, "{id}_{band}.tif").rows(("band_a", "band_b")) == [{"id": "p_1"}, {"id": "p_2"}]


def test_a_star_stands_for_the_folder_that_has_the_file(tmp_path):
    touch(tmp_path, "x/t1/a/a_B2.tif", "x/t2/b/b_B2.tif", "x/t1/.b/b_B2.tif")
    made = pattern(tmp_path, "x/*/{id}/{id}_{band}.tif")
    assert made.rows() == [{"id": "a"}, {"id": "b"}]
    assert made.path({"id": "b"}, "B2") == tmp_path / "x/t2/b/b_B2.tif"
    assert not made.path({"id": "c"}, "B2").exists()


def test_a_star_looks_as_deep_as_the_names_differ(tmp_path):
    touch(tmp_path, "t1/images/a.tif", "t2/images/b.tif")
    made = pattern(tmp_path, "*/images/{id}.tif")
    assert [made.path({"id": name}) for name in "ab"] == [tmp_path / "t1/images/a.tif", tmp_path / "t2/images/b.tif"]


def test_two_files_of_one_sample_are_refused(tmp_path):
    touch(tmp_path, "t1/a.tif", "t2/a.tif")
    made = pattern(tmp_path, "*/{id}.tif")
    for ask in (made.rows, lambda: made.path({"id": "a"})):
        with pytest.raises(DescriptionError, match=r"fits .*t1/a.tif and .*t2/a.tif; name the folder by a column"):
            ask()


def test_the_pack_is_no_folder_of_samples(tmp_path):
    touch(tmp_path, "a/1.npy", "packed/s2.npy", "packed.partial/s2.npy")
    assert pattern(tmp_path, "{class}/{id}.npy").rows() == [{"class": "a", "id": "1"}]
    assert not pattern(tmp_path, "*/{id}.npy").path({"id": "s2"}).exists()


def test_a_folder_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(DiskError, match=r"images"):
        touch(tmp_path, "images")
        pattern(tmp_path, "images/{id}.tif")._entries("images")

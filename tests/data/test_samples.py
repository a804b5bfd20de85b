import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from bengelib.data.description import Description, read_description
from bengelib.data.samples import groups_of, numbers, read_column, read_samples, sides_of
from bengelib.data.splits import study_split
from bengelib.data.stores import paths_of, records_of
from bengelib.errors import ArgumentError, DataWarning, DescriptionError, SplitError, TableError
from tests.described_folders import CROPS, rewrite, write_crops, write_toml

POINTS = """
[samples]
table = "points.csv"
{samples}

[modalities.weather]
kind = "vector"
columns = ["heat", "rain"]
no_data = -999
scale = [1.0, 0.1]
offset = [273.15, 0.0]

[modalities.height]
kind = "scalar"
column = "height"

[targets.cover]
kind = "class"
column = "cover"
classes = ["crop", "wood"]

[targets.kinds]
kind = "labels"
column = "kinds"
classes = ["a, b", "c's", "d"]

[targets.depth]
kind = "number"
column = "depth"
no_data = [-9999]
"""


def points(root: Path, table: str, samples: str = "") -> Description:
    write_toml(root, POINTS.replace("{samples}", samples))
    (root / "points.csv").write_text(table, encoding="utf-8")
    return read_description(root)


TABLE = """id,heat,rain,height,cover,kinds,depth,lon,lat,side
p1,10,20,300,crop,a\\, b,1.5,8.1,47.1,train
p2, 20 ,30,400, wood ,"c's;d",,8.2,47.2,Validation
p3,-999,40,,,,-9999,-0.1,0.1,TEST
""".replace("a\\, b", '"a, b"')


def test_a_table_is_text_by_name(tmp_path):
    table = read_samples(points(tmp_path, TABLE))
    assert list(table.index) == ["p1", "p2", "p3"] and table.loc["p2", "cover"] == "wood"
    assert table.loc["p3", "height"] == "" and table.loc["p1", "kinds"] == "a, b"


def test_columns_become_numbers_classes_and_labels(tmp_path):
    description = points(tmp_path, TABLE)
    table = read_samples(description)
    got = {key: read_column(description.source(key), table) for key in ("weather", "height", "cover", "kinds", "depth")}
    np.testing.assert_allclose(got["weather"], [[283.15, 2], [293.15, 3], [np.nan, 4]], rtol=1e-6)
    np.testing.assert_array_equal(got["height"], [300, 400, np.nan])
    np.testing.assert_array_equal(got["cover"], [0, 1, 255])
    np.testing.assert_array_equal(got["kinds"], [[1, 0, 0], [0, 1, 1], [np.nan] * 3])
    np.testing.assert_array_equal(got["depth"], [1.5, np.nan, np.nan])
    assert {values.dtype.name for values in got.values()} == {"float32", "int64"}


@pytest.mark.parametrize("cell", ["""['a, b' "c's"]""", """['a, b', "c's"]""", '["a, b", "c\'s"]', "a, b ; c's;"])
def test_labels_may_be_a_list_as_python_prints_it(tmp_path, cell):
    quoted = cell.replace('"', '""')
    description = points(tmp_path, TABLE.replace('"a, b"', f'"{quoted}"'))
    np.testing.assert_array_equal(read_column(description.source("kinds"), read_samples(description))[0], [1, 1, 0])


def test_a_list_without_labels_is_none_of_them_and_an_empty_cell_is_unknown(tmp_path):
    description = points(tmp_path, TABLE.replace('"a, b"', "[]"))
    np.testing.assert_array_equal(read_column(description.source("kinds"), read_samples(description))[0], [0, 0, 0])


def test_a_table_may_end_in_capitals(tmp_path):
    points(tmp_path, TABLE)
    (tmp_path / "points.csv").rename(tmp_path / "POINTS.CSV")
    rewrite(tmp_path, "points.csv", "POINTS.CSV")
    assert list(read_samples(read_description(tmp_path)).index) == ["p1", "p2", "p3"]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("p2,", "p1,", "the id 'p1' stands for 2 samples"),
        ("p2,", ",", "row 2 has no id"),
        ("wood", "forest", r"points.csv: column cover has 'forest' for sample p2, .*dataset.toml: \[targets.cover\]"),
        ("c's;d", "c's;e", r"column kinds has 'e' for sample p2.*add it there"),
        ("1.5", "1;5", r"points.csv: column depth has '1;5' for sample p1, which is not a finite number"),
        ("1.5", "inf", r"'inf' for sample p1, which is not a finite number"),
        (",300,", ',"3,5",', r"'3,5' for sample p1.*decimal comma"),
        ("id,heat", "id,id", "the column 'id' twice"),
        ("p3,", "p3,7,", "line 4 has 11 values, the header 10 names"),
        ("\np3,-999,40,,,,-9999,-0.1,0.1,TEST", "\np3,1", "line 4 has 2 values"),
        ("id,heat", "# id,heat", "Comments are not read"),
        (TABLE.partition("\n")[2], "", "points.csv has no rows"),
    ],
)
def test_a_table_that_cannot_be_is_refused_with_what_to_do(tmp_path, old, new, words):
    assert old in TABLE
    with pytest.raises(TableError, match=words):
        description = points(tmp_path, TABLE.replace(old, new, 1))
        table = read_samples(description)
        for source in (*description.modalities.values(), *description.targets.values()):
            read_column(source, table)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (TABLE.replace(",", ";"), "separated by ';': save it with commas"),
        ("PK\x03\x04", "Excel workbook"),
        ("<html>", "web page"),
        ("", "has no rows"),
    ],
)
def test_something_else_in_place_of_a_table(tmp_path, text, words):
    with pytest.raises(TableError, match=words):
        read_samples(points(tmp_path, text))


def test_a_table_or_a_column_that_is_not_there(tmp_path):
    description = points(tmp_path, TABLE.replace("height", "altitude"))
    with pytest.raises(DescriptionError, match=r"\[modalities.height\] column height asks for .*'altitude'"):
        read_samples(description)
    (tmp_path / "points.csv").unlink()
    with pytest.raises(DescriptionError, match=r"\[samples\] table = 'points.csv', but there is no"):
        read_samples(description)
    for key in ("group", "split", "id"):
        with pytest.raises(DescriptionError, match=rf"\[samples\] {key} asks for the column 'nowhere'"):
            read_samples(points(tmp_path, TABLE, f"{key} = 'nowhere'"))


def test_a_table_with_an_index_and_trailing_commas(tmp_path):
    """As pandas and spreadsheets write it."""
    lines = [f"{row},{line},," for row, line in enumerate(TABLE.replace("id,", "name,").splitlines())]
    description = points(tmp_path, "\ufeff" + "\r\n".join(["," + lines[0][2:], *lines[1:], ""]), 'id = "name"')
    assert list(read_samples(description).index) == ["p1", "p2", "p3"]


def test_rows_are_numbered_where_nothing_asks_for_an_id(tmp_path):
    table = read_samples(points(tmp_path, TABLE.replace("id,", "name,")))
    assert list(table.index) == ["1", "2", "3"] and list(table["id"]) == ["1", "2", "3"]
    write_crops(tmp_path / "crops", 2)
    rewrite(tmp_path / "crops", "id,", "name,", "samples.csv")
    with pytest.raises(DescriptionError, match=r"\[samples\] id asks for the column 'id'"):
        read_samples(read_description(tmp_path / "crops"))


def test_files_make_the_samples_where_there_is_no_table(tmp_path):
    text = '[modalities.s2]\nkind="image"\nfiles="{class}/{id}_{band}.tif"\nbands=["B1","B2"]\n'
    target = '[targets.class]\nkind="class"\ncolumn="class"\nclasses=["a","b"]\n'
    write_toml(tmp_path, text + target)
    with pytest.raises(DescriptionError, match=r"\[modalities.s2\] files = .* fits no file in"):
        read_samples(read_description(tmp_path))
    for name in ("b/x_1_B1", "b/x_1_B2", "a/y_1_B2", "a/z_1_C"):
        (tmp_path / f"{name}.tif").parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.tif").touch()
    table = read_samples(read_description(tmp_path))
    assert table["class"].to_dict() == {"y_1": "a", "x_1": "b"}
    (tmp_path / "a/x_1_B1.tif").touch()
    description = read_description(tmp_path)
    table = read_samples(description)
    assert table["class"].to_dict() == {"a/x_1": "a", "a/y_1": "a", "b/x_1": "b"}
    source = description.modalities["s2"]
    assert paths_of(source, records_of(table)[0])[0].as_posix().endswith("/a/x_1_B1.tif")
    other = '[modalities.s1]\nkind="image"\nfiles="s1/{id}.tif"\nbands=["VV"]\n'
    write_toml(tmp_path, text + other + target)
    with pytest.raises(TableError, match=r"the id 'x_1' stands for 2 samples; give each one of its own in a table"):
        read_samples(read_description(tmp_path))


def test_parquet(tmp_path):
    pytest.importorskip("pyarrow")
    import pandas as pd

    text = POINTS.replace("points.csv", "points.parquet").replace("{samples}", "")
    write_toml(tmp_path, text.replace('["crop", "wood"]', '["1", "2"]').replace("a, b", "1"))
    pd.DataFrame(
        {
            "heat": [1.5, None, 3],
            "rain": [1, 2, 3],
            "height": [1, None, 3],
            "cover": pd.array([1, None, 2], dtype="Int64"),
            "kinds": [["d", "c's"], [], ["1"]],
            "depth": [1.0, 2.0, None],
        },
        index=pd.Index(["p1", "p2", "p3"], name="id"),
    ).to_parquet(tmp_path / "points.parquet")
    description = read_description(tmp_path)
    table = read_samples(description)
    assert list(table.index) == ["p1", "p2", "p3"]
    np.testing.assert_array_equal(read_column(description.source("cover"), table), [0, 255, 1])
    np.testing.assert_array_equal(read_column(description.source("kinds"), table)[0], [0, 1, 1])
    np.testing.assert_array_equal(read_column(description.source("kinds"), table)[1:], [[0, 0, 0], [1, 0, 0]])
    np.testing.assert_array_equal(read_column(description.source("height"), table), [1, np.nan, 3])
    (tmp_path / "points.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(TableError, match=r"points.parquet cannot be read as Parquet"):
        read_samples(description)


def test_parquet_without_its_library(tmp_path, monkeypatch):
    import pandas as pd

    def read_parquet(*arguments: object, **options: object) -> None:
        raise ImportError("no pyarrow")

    monkeypatch.setattr(pd, "read_parquet", read_parquet)
    write_toml(tmp_path, POINTS.replace("points.csv", "points.parquet").replace("{samples}", ""))
    (tmp_path / "points.parquet").touch()
    with pytest.raises(TableError, match=r"pip install pyarrow"):
        read_samples(read_description(tmp_path))


def test_groups_are_a_column_or_blocks_of_degrees(tmp_path):
    assert groups_of(points(tmp_path, TABLE), read_samples(points(tmp_path, TABLE))) is None
    blocks = points(tmp_path, TABLE, 'longitude = "lon"\nlatitude = "lat"')
    assert groups_of(blocks, read_samples(blocks)).tolist() == ["32 188", "32 188", "-1 0"]
    large = points(tmp_path, TABLE, 'longitude = "lon"\nlatitude = "lat"\nblock = 90')
    assert groups_of(large, read_samples(large)).tolist() == ["0 0", "0 0", "-1 0"]
    grouped = points(tmp_path, TABLE, 'group = "cover"\nlongitude = "lon"\nlatitude = "lat"')
    with pytest.raises(TableError, match=r"\[samples\] group = 'cover', which is empty for sample p3; fill it in"):
        groups_of(grouped, read_samples(grouped))


@pytest.mark.parametrize(("old", "new"), [("47.1", "471000"), ("8.1,", ",")])
def test_places_that_are_none_are_refused(tmp_path, old, new):
    description = points(tmp_path, TABLE.replace(old, new), 'longitude = "lon"\nlatitude = "lat"')
    with pytest.raises(TableError, match=r"points.csv: column (lat|lon) has .* for sample p1, .* is it metres"):
        groups_of(description, read_samples(description))


def test_the_split_of_the_dataset_in_many_words(tmp_path):
    description = points(tmp_path, TABLE, 'split = "side"')
    assert description.scheme == "official"
    assert sides_of(description, read_samples(description)).tolist() == ["train", "val", "test"]
    description = points(tmp_path, TABLE.replace("TEST", "holdout"), 'split = "side"')
    with pytest.raises(SplitError, match=r"split = 'side', which has 'holdout' for sample p3; expected one of"):
        sides_of(description, read_samples(description))


def crops(root: Path, count: int = 40) -> Description:
    """A table without its files."""
    write_toml(root, CROPS)
    rows = [f"p{n},site{n // 4},{('maize', 'wheat')[n % 2]},1,2,3" for n in range(count)]
    (root / "samples.csv").write_text("\n".join(["id,site,crop,harvest,rain,heat", *rows]))
    return read_description(root)


def test_whole_groups_are_apart_and_folds_are_of_one_size(tmp_path):
    description = crops(tmp_path)
    table = read_samples(description)
    sides = [sides_of(description, table, fold=fold) for fold in range(5)]
    for fold, side in enumerate(sides):
        assert Counter(side.tolist()) == {"train": 24, "val": 8, "test": 8}
        assert all(len(set(side[start : start + 4])) == 1 for start in range(0, 40, 4))
        assert ((side == "val") == (sides[(fold + 1) % 5] == "test")).all()
    assert (sides_of(description, table, "study") == study_split(list(table.index))).all()


def test_a_split_that_cuts_groups_is_told(tmp_path):
    description = crops(tmp_path)
    rewrite(tmp_path, 'group = "site"', 'group = "site"\nsplit = "side"')
    description = read_description(tmp_path)
    table = read_samples(crops(tmp_path / "same"))
    table["side"] = ["train" if int(site[4:]) < 8 else "test" for site in table["site"]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sides_of(description, table)
        table.iloc[0, table.columns.get_loc("side")] = ""
        sides_of(description, table)
        table.iloc[1, table.columns.get_loc("side")] = "test"
        with pytest.raises(DataWarning, match=r"split 'side' has samples of 1 groups on several .* 'site0'"):
            sides_of(description, table)


def test_splits_that_cannot_be_are_refused(tmp_path):
    description = crops(tmp_path)
    table = read_samples(description)
    for ask, words in (
        ({"scheme": "random"}, "unknown split scheme 'random'"),
        ({"fold": 5}, "fold 5 does not exist"),
        ({"scheme": "official"}, "names no column of a split; add `split` to"),
    ):
        with pytest.raises(SplitError, match=words):
            sides_of(description, table, **ask)
    with pytest.raises(ArgumentError, match=r"fold"):
        sides_of(description, table, fold=0.5)
    with pytest.raises(SplitError, match=r"dataset.toml lie in 4 groups, too few for 5 folds"):
        sides_of(description, table.iloc[:16])
    plain = points(tmp_path / "points", TABLE)
    with pytest.raises(SplitError, match=r"names neither a group nor longitude and latitude"):
        sides_of(plain, read_samples(plain), "blocked")


@pytest.mark.parametrize("fold", range(5))
def test_a_class_within_one_group_is_refused_in_every_fold(tmp_path, fold):
    description = crops(tmp_path)
    table = read_samples(description)
    table["crop"] = "maize"
    table.loc[table["site"] == "site3", "crop"] = "wheat"
    words = (
        r"dataset.toml: \[targets.crop\] all 4 samples of class 'wheat' lie in one group, 'site3'.* column crop empty"
    )
    with pytest.raises(SplitError, match=words):
        sides_of(description, table, fold=fold)
    sides_of(description, table, fold=fold, targets=("harvest",))  # it is not asked for
    sides_of(description, table, "study")
    table.loc[table["crop"] == "wheat", "crop"] = ""
    sides_of(description, table, fold=fold)


def test_a_class_of_two_groups_is_refused_where_neither_is_in_the_training(tmp_path):
    description = crops(tmp_path)
    table = read_samples(description)
    sides = sides_of(description, table)
    one, other = (table["site"][sides == side].iloc[0] for side in ("val", "test"))
    table["crop"] = np.where(table["site"].isin([one, other]), "wheat", "maize")
    with pytest.raises(SplitError, match=r"fold 0 trains on no sample of class 'wheat': its 8 samples lie in 2 groups"):
        sides_of(description, table)
    sides_of(description, table, fold=2)


def test_numbers(tmp_path):
    table = read_samples(points(tmp_path, TABLE))
    table["x"] = ["1e3", "NaN", "-0"]
    np.testing.assert_array_equal(numbers(table, "x", "points.csv"), [1000, np.nan, 0])

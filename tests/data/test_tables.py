import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from bengelib.bands import CLIMATE_ZONES, CORINE_19, LAND_COVER_NAMES
from bengelib.data.tables import META_COLUMNS, corine_multi_hot, read_csv, read_meta, read_table
from bengelib.errors import DatasetNotFoundError, DataWarning, MissingModalityError, TableError
from tests.fake_tree import write_csv

META = [
    ["a", "a1", "2017-06-13 10:10:31", "2017-06-13 16:50:43", 0.9, 0.8, 10.5, 50.25, 26],
    ["b", "b1", "2017-12-13 10:10:31", "2017-12-14 16:50:43", 0.1, 0.2, -8.5, 40.75, 8],
    ["c", "c1", "2018-02-04 10:10:31", "2018-02-04 16:50:43", 0.3, 0.4, 25.0, 65.5, 0],
]
WEATHER = {
    "wind-v_s1": 1.5, "relhumidity_s2": 60, "temperature_s2": 280, "wind-u_s2": 2, "wind-v_s2": 3,
    "temperature_s1": 281, "atmpressure_level": 950, "relhumidity_s1": 70, "wind-u_s1": -4,
}  # fmt: skip
WEATHER_COLUMNS = list(WEATHER)


def weather(patch):
    """A row of weather; each patch and each column has its own numbers."""
    return [value + patch for value in WEATHER.values()]


@pytest.fixture
def root(tmp_path):
    """A tree of tables alone; the rows and columns of the other tables stand in another order than those of meta."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    write_csv(folder / "tiny_meta.csv", [*META_COLUMNS, "climatezone"], META)
    rows = [["c", "c1", *weather(2)], ["a", "a1", *weather(0)], ["b", "b1", *weather(1)]]
    write_csv(folder / "tiny_era-5.csv", ["patch_id", "patch_id_s1", *WEATHER_COLUMNS], rows)
    names = list(reversed(LAND_COVER_NAMES))
    cover = [["b_cover.tif", "b", *[0.0] * 10, 1.0], ["c_cover.tif", "c", 0.25, 0.75, *[0.0] * 9]]
    cover.append(["a_cover.tif", "a", 0.4, *[0.0] * 9, 0.6])
    write_csv(folder / "tiny_esaworldcover.csv", ["filename", "patch_id", *names], cover)
    return folder


def read(root, key, acquisition="s2"):
    return read_table(root, read_meta(root), key, acquisition)


def test_season_is_that_of_the_acquisition(root):
    np.testing.assert_allclose(read(root, "season"), [0.9, 0.1, 0.3], rtol=1e-6)
    np.testing.assert_allclose(read(root, "season", "s1"), [0.8, 0.2, 0.4], rtol=1e-6)


def test_longitude_comes_before_latitude(root):
    np.testing.assert_array_equal(read(root, "lonlat"), [[10.5, 50.25], [-8.5, 40.75], [25.0, 65.5]])


@pytest.mark.parametrize("acquisition", ["s2", "s1"])
def test_weather_is_read_by_name_and_joined_by_patch(root, acquisition):
    """Temperature, wind u, wind v, relative humidity, pressure level, whatever the order in the file."""
    columns = [f"{name}_{acquisition}" for name in ("temperature", "wind-u", "wind-v", "relhumidity")]
    first = np.array([WEATHER[name] for name in [*columns, "atmpressure_level"]])
    np.testing.assert_array_equal(read(root, "weather", acquisition), [first, first + 1, first + 2])


def test_land_cover_fractions_are_in_the_order_of_the_legend(root):
    fractions = read(root, "land_cover_fractions")
    assert fractions.dtype == np.float32
    np.testing.assert_allclose(fractions[0], [0.6, *[0] * 9, 0.4], rtol=1e-6)
    np.testing.assert_array_equal(fractions[1], [1, *[0] * 10])
    np.testing.assert_array_equal(fractions[2], [*[0] * 9, 0.75, 0.25])
    np.testing.assert_array_equal(read(root, "land_cover_top"), [0, 0, 9])


def test_climate_zone_is_the_index_of_the_code(root):
    zones = read(root, "climate_zone")
    assert zones.dtype == np.int64
    assert [CLIMATE_ZONES[index].code for index in zones] == [26, 8, 0]


@pytest.mark.parametrize("folder", ["", "climatezones"])
def test_climate_zone_from_its_own_file(root, folder):
    write_csv(root / "tiny_meta.csv", list(META_COLUMNS), [line[:-1] for line in META])
    (root / folder).mkdir(exist_ok=True)
    rows = [["c", 29], ["b", 7], ["a", 14]]
    write_csv(root / folder / "tiny_climatezones.csv", ["patch_id", "climatezone"], rows)
    assert [CLIMATE_ZONES[index].symbol for index in read(root, "climate_zone")] == ["Cfa", "BSk", "ET"]


def test_era_5_in_its_own_folder_as_in_the_full_set(root):
    (root / "era-5").mkdir()
    (root / "tiny_era-5.csv").rename(root / "era-5" / "tiny_era-5.csv")
    assert read(root, "weather").shape == (3, 5)


def test_byte_order_mark_and_windows_line_ends(root):
    path = root / "tiny_meta.csv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    meta = read_meta(root)
    assert list(meta.index) == ["a", "b", "c"]
    assert meta.columns[0] == "patch_id"


def labels_file(path, labels):
    path.write_text(json.dumps({"labels": labels, "projection": "EPSG:32634"}))
    return path


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["Continuous urban fabric", "Discontinuous urban fabric"], ["Urban fabric"]),
        (["Transitional woodland/shrub", "Peatbogs"], ["Transitional woodland, shrub", "Inland wetlands"]),
        (["Water bodies", "Sea and ocean"], ["Inland waters", "Marine waters"]),
        (["Airports", "Intertidal flats"], []),
        ([], []),
    ],
)
def test_corine_labels(tmp_path, labels, expected):
    hot = corine_multi_hot(labels_file(tmp_path / "labels.json", labels))
    assert hot.shape == (19,) and hot.dtype == np.float32
    assert [CORINE_19[index] for index in np.flatnonzero(hot)] == sorted(expected, key=CORINE_19.index)


def test_unknown_corine_label_is_named(tmp_path):
    path = labels_file(tmp_path / "labels.json", ["Pastures", "Transitional woodland, shrub"])  # a name of the 19
    with pytest.raises(TableError, match=r"Transitional woodland, shrub") as error:
        corine_multi_hot(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("text", ['{"labels": ["Pastu', "[]", '{"coordinates": {}}', ""])
def test_damaged_labels_file_is_named(tmp_path, text):
    path = tmp_path / "labels.json"
    path.write_text(text)
    with pytest.raises(TableError, match=r"labels\.json"):
        corine_multi_hot(path)


def test_no_folder(tmp_path):
    with pytest.raises(DatasetNotFoundError, match="no folder") as error:
        read_meta(tmp_path / "ben-ge-900")
    assert "ben-ge-900_meta.csv" in str(error.value) and "simulate" in str(error.value)


def test_folder_without_a_meta_csv(tmp_path):
    with pytest.raises(DatasetNotFoundError, match=f"no {tmp_path.name}_meta.csv"):
        read_meta(tmp_path)


def test_renamed_folder_is_explained(root):
    renamed = root.rename(root.with_name("mine"))
    with pytest.raises(DatasetNotFoundError, match="rename the folder") as error:
        read_meta(renamed)
    assert "tiny_meta.csv" in str(error.value)


def test_dataset_not_found_is_also_a_file_not_found_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_meta(tmp_path)


def test_empty_meta_csv(root):
    write_csv(root / "tiny_meta.csv", list(META_COLUMNS), [])
    with pytest.raises(TableError, match="no patches"):
        read_meta(root)


def test_missing_column_is_named_with_those_that_are_there(root):
    write_csv(root / "tiny_meta.csv", ["patch_id", "patch_id_s1", "lon"], [["a", "a1", 1.0]])
    with pytest.raises(TableError, match="timestamp_s2") as error:
        read_meta(root)
    assert "'lat'" in str(error.value) and "'lon'" in str(error.value)


def test_repeated_patch_is_named(root):
    write_csv(root / "tiny_meta.csv", [*META_COLUMNS, "climatezone"], [META[0], META[1], META[1]])
    with pytest.raises(TableError, match="the first being b"):
        read_meta(root)


def test_patch_without_a_row_is_named(root):
    write_csv(root / "tiny_era-5.csv", ["patch_id", *WEATHER_COLUMNS], [["a", *weather(0)], ["c", *weather(2)]])
    with pytest.raises(TableError, match=r"1 patches .* first being b"):
        read(root, "weather")


@pytest.mark.parametrize("value", ["", "inf", "warm"])
def test_value_that_is_no_number_is_refused_not_replaced(root, value):
    rows = [["a", *weather(0)], ["b", *weather(1)], ["c", *weather(2)]]
    rows[1][3] = value  # temperature_s2
    write_csv(root / "tiny_era-5.csv", ["patch_id", *WEATHER_COLUMNS], rows)
    with pytest.raises(TableError, match=r"tiny_era-5\.csv") as error:
        read(root, "weather")
    assert "temperature_s2" in str(error.value)


def test_unknown_climate_code_is_named(root):
    write_csv(root / "tiny_meta.csv", [*META_COLUMNS, "climatezone"], [[*META[0][:-1], 30], *META[1:]])
    with pytest.raises(TableError, match=r"\[30\]"):
        read(root, "climate_zone")


@pytest.mark.parametrize(
    ("key", "file"),
    [
        ("weather", "tiny_era-5.csv"),
        ("land_cover_fractions", "tiny_esaworldcover.csv"),
        ("land_cover_top", "tiny_esaworldcover.csv"),
    ],
)
def test_missing_table_is_named_with_the_key(root, key, file):
    (root / file).unlink()
    with pytest.raises(MissingModalityError, match=file) as error:
        read(root, key)
    assert repr(key) in str(error.value)


def test_missing_climate_zone_names_the_column_and_the_file(root):
    write_csv(root / "tiny_meta.csv", list(META_COLUMNS), [line[:-1] for line in META])
    with pytest.raises(MissingModalityError, match="no column climatezone") as error:
        read(root, "climate_zone")
    assert "tiny_climatezones.csv" in str(error.value) and "tiny_meta.csv" in str(error.value)


@pytest.mark.parametrize("content", [b"", b'patch_id\n"a\n', b"\xff\xfe\x00"])
def test_unreadable_csv(tmp_path, content):
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    with pytest.raises(TableError, match=r"cannot read .*x\.csv"):
        read_csv(path, ())


def saved(root, change, table="meta"):
    """Save a table of the tree anew, its text changed."""
    path = root / f"tiny_{table}.csv"
    text = path.read_text()
    data = change(text)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())


def lines(change):
    """A change of each line."""
    return lambda text: "".join(f"{change(line)}\n" for line in text.splitlines())


def rows_only(change):
    """A change of each line but the header."""

    def changed(text):
        header, *rows = text.splitlines()
        return "".join(f"{line}\n" for line in [header, *map(change, rows)])

    return changed


READ = {
    "rows that end in a comma": rows_only(lambda row: row + ","),
    "rows that end in several commas and blanks": rows_only(lambda row: row + ", ,,"),
    "every line ends in a comma": lines(lambda line: line + ","),
    "only the header ends in a comma": lambda text: text.replace("climatezone", "climatezone,"),
    "some rows end in a comma": lambda text: text.rstrip() + ",\n",
    "blank lines": lambda text: "\n\n" + text.replace("\n", "\n  \n") + "\n\n",
    "no line end at the end": lambda text: text.rstrip("\n"),
    "line ends of an old Mac": lambda text: text.replace("\n", "\r"),
    "everything in quotes": lines(lambda line: ",".join(f'"{part}"' for part in line.split(","))),
    "blanks after commas": lambda text: text.replace(",", ", "),
    "blanks after ids": lambda text: text.replace("a1", "a1 ").replace("\nb,", "\nb  ,"),
    "row numbers": lambda text: "".join(f"{n or ''},{line}\n" for n, line in enumerate(text.splitlines())),
    "a further column twice": lambda text: text.replace("climatezone\n", "climatezone,,\n").replace("6\n", "6,x,y\n")
    .replace(",8\n", ",8,x,y\n").replace(",0\n", ",0,x,y\n"),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_tables_that_look_odd_are_read_all_the_same(root, name):
    expected = read_meta(root)
    saved(root, READ[name])
    meta = read_meta(root)
    assert list(meta.index) == list(expected.index) == list(meta["patch_id"])
    for column in META_COLUMNS:
        assert meta[column].tolist() == expected[column].tolist()
    for key in ("lonlat", "season", "climate_zone"):
        np.testing.assert_array_equal(read_table(root, meta, key), read_table(root, expected, key))


REFUSED = {
    "semicolons": (lambda text: text.replace(",", ";"), "separated by semicolons: save it with commas"),
    "semicolons and decimal commas": (lambda text: text.replace(",", ";").replace(".", ","), "semicolons"),
    "semicolons in quotes": (lambda text: text.replace(",", '";"').replace("patch_id", '"patch_id', 1), "semicolons"),
    "tabs": (lambda text: text.replace(",", "\t"), "separated by tabs"),
    "bars": (lambda text: text.replace(",", "|"), "vertical bars"),
    "sep=, first": (lambda text: "sep=,\n" + text, "'sep=,', a note for spreadsheets"),
    "sep=; first": (lambda text: "sep=;\n" + text.replace(",", ";"), "'sep=;'"),
    "UTF-16": (lambda text: text.encode("utf-16"), "UTF-16 text.*save it as CSV UTF-8"),
    "UTF-16 without a mark": (lambda text: text.encode("utf-16-be"), "UTF-16"),
    "a workbook": (lambda text: b"PK\x03\x04" + text.encode(), "Excel workbook"),
    "an old workbook": (lambda text: b"\xd0\xcf\x11\xe0" + text.encode(), "Excel workbook"),
    "compressed": (lambda text: b"\x1f\x8b" + text.encode(), "compressed"),
    "a web page": (lambda text: "\n<html>" + text, "web page"),
    "a pointer": (lambda text: "version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
    "zeros after a crash": (lambda text: text.encode() + bytes(20), "damaged"),
    "Latin-1": (lambda text: text.encode() + b"\xe9,x,y\n", "line 5 has the byte 0xe9"),
    "whole lines in quotes": (lines(lambda line: f'"{line}"'), "in quotes as a whole"),
    "no header": (
        lambda text: text.partition("\n")[2].replace("a,a1", "S2A_MSIL2A_20170613T101031_1_2,x"),
        "no header",
    ),
    "capitals": (lambda text: text.replace("lon,lat", "Lon,LAT"), "'Lon' must read 'lon', 'LAT' must read 'lat'"),
    "a column twice": (lambda text: text.replace("climatezone", "lat"), "'lat' more than once"),
    "a header in the middle": (lambda text: text + text, "line 5 is a header again"),
    "a line cut off": (lambda text: text.rstrip("\n")[:-12], "line 4 has 6 values .*cut off"),
    "decimal commas": (lambda text: text.replace("50.25", "50,25"), "line 2 has 10 values .*decimal comma"),
    "a value too many": (lambda text: text.replace("50.25", "50.25,7"), "line 2 has 10 values"),
    "quotes that do not match": (lambda text: text.replace("50.25", '"50.25'), "quotes that do not match"),
    "a row of commas": (lambda text: text + "," * 8 + "\n", "nothing in one of"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_tables_as_people_save_them_are_refused_with_a_word_on_what_is_the_matter(root, name):
    change, words = REFUSED[name]
    saved(root, change)
    with pytest.raises(TableError, match=words) as error:
        read_meta(root)
    assert "tiny_meta.csv" in str(error.value) and "etch" not in str(error.value)


def test_decimal_commas_in_quotes_are_refused(root):
    saved(root, lambda text: text.replace("50.25", '"50,25"'))
    with pytest.raises(TableError, match=r"for a\. '50,25' looks like a decimal comma: write a point"):
        read(root, "lonlat")


OUT_OF_RANGE = {
    "a longitude without its point": ("lonlat", "meta", ("10.5", "2566137"), "column lon, .*2566137.*decimal point"),
    "latitude and longitude swapped": ("lonlat", "meta", ("10.5,50.25", "50.25,110.5"), "column lat, .*swapped"),
    "season in per cent": ("season", "meta", (",0.9,", ",90.0,"), "column season_s2, .*0 to 1.*per cent"),
    "temperature in Celsius": ("weather", "era-5", (",280,", ",6.85,"), "column temperature_s2, .*K.*Celsius"),
    "pressure in pascals": ("weather", "era-5", (",951,", ",95100,"), "column atmpressure_level, .*pascals"),
    "shares in per cent": ("land_cover_fractions", "esaworldcover", (",0.25,0.75", ",25,75"), "per cent"),
    "shares of pixels": ("land_cover_top", "esaworldcover", (",0.25,0.75", ",3600,10800"), "numbers of pixels"),
    "no share at all": ("land_cover_top", "esaworldcover", (",0.25,0.75", ",0.0,0.0"), "add up to next to nothing"),
}


@pytest.mark.parametrize("name", OUT_OF_RANGE)
def test_values_that_cannot_be_are_refused_with_column_value_and_range(root, name):
    key, table, change, words = OUT_OF_RANGE[name]
    saved(root, lambda text: text.replace(*change, 1), table)
    with pytest.raises(TableError, match=words) as error:
        read(root, key)
    assert f"tiny_{table}.csv" in str(error.value)
    problems = {}
    values = read_table(root, read_meta(root), key, problems=problems)
    assert len(problems) == 1 and f"tiny_{table}.csv" in next(iter(problems.values()))
    assert not values[read_meta(root).index.get_loc(next(iter(problems)))].any()


def test_shares_that_do_not_add_up_are_used_with_a_warning(root):
    saved(root, lambda text: text.replace(",0.25,0.75", ",0.25,0.65"), "esaworldcover")
    with pytest.warns(DataWarning, match=r"tiny_esaworldcover\.csv has 1 rows .* 0\.9"):
        read(root, "land_cover_fractions")


def test_humidity_as_a_share_is_used_with_a_warning(root):
    row = (WEATHER | {"relhumidity_s2": 0.5}).values()
    rows = [[patch, *row] for patch in "abc"]
    write_csv(root / "tiny_era-5.csv", ["patch_id", *WEATHER_COLUMNS], rows)
    with pytest.warns(DataWarning, match=r"tiny_era-5\.csv, relative_humidity, .*multiply by 100"):
        read(root, "weather")


def test_coordinates_that_are_swapped_are_told_even_where_no_id_has_a_tile(root):
    write_csv(root / "tiny_meta.csv", list(META_COLUMNS), [[*row[:6], row[7], row[6]] for row in META])
    with pytest.warns(DataWarning, match=r"tiny_meta\.csv .* swapped"):
        read(root, "lonlat")


@pytest.mark.parametrize(
    ("key", "table", "change"),
    [
        ("weather", "era-5", ("c,c1", "c,a1")),  # the ids of one satellite were sorted by themselves
        ("land_cover_top", "esaworldcover", ("b_esaworldcover.tif", "c_esaworldcover.tif")),
        ("land_cover_top", "esaworldcover", ("b_esa", "S2A_MSIL2A_20170613T101031_1_2_esa")),
    ],
)
def test_rows_that_belong_to_another_patch_are_refused(root, key, table, change):
    saved(root, lambda text: text.replace("_cover.tif", "_esaworldcover.tif"), "esaworldcover")
    read(root, key)
    saved(root, lambda text: text.replace(*change), table)
    with pytest.raises(TableError, match=f"tiny_{table}.csv: .* of 1 patches is that of another patch"):
        read(root, key)


def test_files_of_other_names_say_nothing_of_the_patch(root):
    saved(root, lambda text: text.replace("b_cover.tif", "maps/tile 7.tif"), "esaworldcover")
    assert read(root, "land_cover_top").tolist() == [0, 0, 9]


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("1,234", "a decimal comma .write 1.234., or a thousands separator .write 1234."),
        ("1,234,567", "thousands separators: write 1234.5"),
        ("1,234.5", "thousands separators: write 1234.5"),
        ("1 234,5", "thousands separator"),
        ("1\u202f234", "thousands separator"),
        ("1'234.5", "thousands separator"),
        ("1.234,5", "points as thousands separators, and a decimal comma"),
        ("45,5", "a decimal comma: write a point"),
        ("\u22123.5", "a dash in place of the minus sign"),
        ("0.5 %", "a unit or another sign behind the number"),
        ("12.5°", "a unit"),
        ("#REF!", "an error of a spreadsheet"),
        ("True", "a truth value"),
    ],
)
def test_what_is_written_instead_of_a_number_is_named(root, written, words):
    write_csv(
        root / "tiny_meta.csv", [*META_COLUMNS], [[*META[0][:4], written, *META[0][5:8]], META[1][:8], META[2][:8]]
    )
    with pytest.raises(TableError, match=rf"tiny_meta\.csv .*looks like {words}"):
        read(root, "season")


def test_truth_values_are_no_numbers(root):
    write_csv(root / "tiny_meta.csv", [*META_COLUMNS], [[*row[:4], True, *row[5:8]] for row in META])
    with pytest.raises(TableError, match=r"\[True\].*truth value"):
        read(root, "season")


@pytest.mark.parametrize("comment", ["# made on Monday\n", "#\n", '"# of ""us"", and them"\n', "// patches\n", "#"])
def test_comments_are_refused_by_name(root, comment):
    path = root / f"{root.name}_meta.csv"
    path.write_text(comment + path.read_text())
    with pytest.raises(TableError, match=r"_meta\.csv: line 1 begins with '(#|//).*Comments are not read"):
        read_meta(root)


def test_a_table_of_the_same_name_but_for_capitals_is_named(root):
    path = root / f"{root.name}_meta.csv"
    if (root / path.name.upper()).exists():
        pytest.skip("a disk that does not tell capitals from small letters")
    (root / f"{root.name}_META.csv").write_text("patch_id\n")
    with pytest.warns(DataWarning, match=rf"{path.name} is read, and \['{root.name}_META\.csv'\]"):
        read_meta(root)


def test_two_tables_of_one_kind_that_differ_are_named(root):
    (root / "era-5").mkdir()
    second = Path(shutil.copy(root / "tiny_era-5.csv", root / "era-5"))
    assert len(read(root, "weather")) == 3
    second.write_text(second.read_text().replace("280", "281"))
    with pytest.raises(TableError, match=r"tiny_era-5\.csv and .*era-5.tiny_era-5\.csv differ, and 'weather'"):
        read(root, "weather")


def test_values_separated_by_blanks_are_named(root):
    saved(root, lambda text: text.replace(" ", "T").replace(",", " "))
    with pytest.raises(TableError, match="separated by blanks"):
        read_meta(root)

import json

import numpy as np
import pytest

from bengelib.bands import CLIMATE_ZONES, CORINE_19, LAND_COVER_NAMES
from bengelib.errors import DatasetNotFoundError, MissingModalityError, TableError
from bengelib.tables import META_COLUMNS, corine_multi_hot, read_csv, read_meta, read_table
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

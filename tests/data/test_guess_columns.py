"""Columns of a table, by their names and values: ids, groups, places, sides, classes, labels, and vectors."""

import tomllib

import numpy as np
import pandas as pd
import pytest

from bengelib.data.describe import describe
from bengelib.data.described import DescribedDataset
from bengelib.data.description import read_description
from bengelib.data.guess import Guess
from bengelib.data.guess_columns import guess_columns

COUNT = 60


def table(**columns) -> pd.DataFrame:
    """Columns of 60 rows as text; a value that is no list is called with the number of the row."""
    return pd.DataFrame({name: [str(value(row)) for row in range(COUNT)] for name, value in columns.items()}, dtype=str)


def guessed(frame: pd.DataFrame, id_column: str = "", alone: bool = True) -> tuple[Guess, dict]:
    guess = Guess("x")
    guess_columns(guess, "x.csv", frame, id_column, alone=alone)
    return guess, tomllib.loads(guess.text)


def noise(low: float = 0, high: float = 1, seed: int = 0):
    values = np.random.default_rng(seed).uniform(low, high, COUNT)
    return lambda row: f"{values[row]:.4f}"


LABEL = {"label": lambda row: "abcdef"[row % 6]}


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (("S1_VV", "S1_VH", "S2_B02", "S2_B8A", "climate_t", "climate_p", "elevation"),
         {"s1": 2, "s2": 2, "climate": 2, "elevation": 1}),
        (("VV", "VH", "B2", "B3", "B8A", "B11", "bio1", "bio12", "elev"),
         {"radar": 2, "optical": 4, "bio": 2, "elevation": 1}),
        (("vv", "temperature", "rain"), {"radar": 1, "others": 2}),
        (("nir", "red", "dem_mean"), {"optical": 2, "elevation": 1}),
        (("values", "keys"), {"others": 2}),
    ],
)  # fmt: skip
def test_columns_are_vectors_by_sensor(names, groups):
    frame = table(**{name: noise(seed=place) for place, name in enumerate(names)}, **LABEL)
    _, toml = guessed(frame)
    assert {key: len(each["columns"]) for key, each in toml["modalities"].items()} == groups
    assert [column for each in toml["modalities"].values() for column in each["columns"]].sort() == [*names].sort()
    assert toml["targets"] == {"label": {"kind": "class", "column": "label", "classes": [*"abcdef"]}}


def test_units_are_those_that_values_show():
    frame = table(VV=noise(-30, -5), VH=noise(-40, -9, 1), B02=noise(100, 4000, 2), B03=noise(90, 5000, 3),
                  dem=noise(0, 900, 4), **LABEL)  # fmt: skip
    _, toml = guessed(frame)
    assert {key: (each["unit"], each.get("scale")) for key, each in toml["modalities"].items()} == {
        "radar": ("dB", None), "optical": ("reflectance", 0.0001), "elevation": ("m", None)}  # fmt: skip
    frame = table(VV=noise(0, 0.3), VH=noise(0, 0.1, 1), B02=noise(0, 0.4, 2), **LABEL)
    _, toml = guessed(frame)
    assert [each["unit"] for each in toml["modalities"].values()] == ["linear power", "reflectance"]


def test_ids_groups_places_and_sides():
    frame = table(
        station_id=lambda row: f"st{row}", Site=lambda row: row // 6, Longitude=noise(5, 15), Latitude=noise(45, 55, 1),
        part=lambda row: ("train", "Test", "validation")[row % 3], x1=noise(), x2=noise(seed=2), **LABEL,
    )  # fmt: skip
    _, toml = guessed(frame)
    assert toml["samples"] == {"table": "x.csv", "id": "station_id", "split": "part", "group": "Site",
                               "longitude": "Longitude", "latitude": "Latitude"}  # fmt: skip
    assert toml["modalities"]["lonlat"]["columns"] == ["Longitude", "Latitude"]
    assert list(toml["modalities"]) == ["lonlat", "x"]


def test_places_in_metres_are_none_and_blocks_grow_with_the_distance():
    guess, toml = guessed(table(lon=noise(3e5, 4e5), lat=noise(5e6, 6e6), **LABEL))
    assert "longitude" not in toml["samples"] and any("not degrees" in each for each in guess.guessed)
    assert set(toml["modalities"]["others"]["columns"]) == {"lon", "lat"}
    _, toml = guessed(table(lon=noise(-180, 180), lat=noise(-60, 60, 1), x=noise(), **LABEL))
    assert "block" not in toml["samples"]  # 60 samples over the world have no neighbours
    _, toml = guessed(table(lon=noise(0, 20), lat=noise(40, 60, 1), x=noise(), **LABEL))
    assert toml["samples"]["block"] == 10.0


def test_what_tells_the_class_is_no_input():
    frame = table(
        class_id=lambda row: row % 6, number=lambda row: 10 * (row % 6), row=lambda row: row + 1, even=lambda row: 3,
        B02=noise(), note=lambda row: f"note {row}", **LABEL,
    )  # fmt: skip
    guess, toml = guessed(frame)
    assert [each["columns"] for each in toml["modalities"].values()] == [["B02"]]
    assert list(toml["targets"]) == ["class_id", "label"]
    assert toml["targets"]["class_id"]["classes"] == [*"012345"]
    text = "\n".join(guess.guessed)
    for words in ("['number'] are the numbers of classes", "['row'] count the rows", "['even'] have one value",
                  "['note'] are neither"):  # fmt: skip
        assert words in text


def test_several_labels_in_a_cell():
    frame = table(tags=lambda row: ("wood;water", "wood", "", "field; wood")[row % 4], B02=noise())
    _, toml = guessed(frame)
    assert toml["targets"]["tags"] == {
        "kind": "labels", "column": "tags", "classes": ["field", "water", "wood"], "separator": ";"}  # fmt: skip


def test_gaps_that_look_like_classes_are_asked_for():
    guess, toml = guessed(table(crop=lambda row: ("maize", "NA")[row % 2], B02=noise()))
    assert toml["targets"]["crop"]["classes"] == ["NA", "maize"] and "'NA'" in guess.problems[0]


def test_numbers_beside_bands_places_or_nothing_are_predicted():
    _, toml = guessed(table(B02=noise(), VV=noise(-9, -1), biomass=noise(0, 300)))
    assert list(toml["targets"]) == ["biomass"] and set(toml["modalities"]) == {"optical", "radar"}
    _, toml = guessed(table(lon=noise(0, 20), lat=noise(0, 20, 1), heat=noise(0, 300)))
    assert list(toml["targets"]) == ["heat"] and set(toml["modalities"]) == {"lonlat"}
    guess, toml = guessed(table(a=noise(), b=noise(seed=1), c=noise(seed=2)))
    assert list(toml["targets"]) == ["c"] and "c, the last one" in guess.problems[0]


def test_beside_files_numbers_are_predicted():
    _, toml = guessed(table(name=lambda row: f"f{row}", B02=noise(), label=lambda row: "ab"[row % 2]), "name", False)
    assert "modalities" not in toml and list(toml["targets"]) == ["label", "B02"]


def test_a_file_of_several_samples_is_no_id():
    _, toml = guessed(table(file=lambda row: f"f{row // 2}", date_key=lambda row: f"d{row}", y=noise()), "file", False)
    assert toml["samples"]["id"] == "date_key"


def test_a_group_has_to_make_folds():
    _, toml = guessed(table(site=lambda row: row % 4, B02=noise(), **LABEL))
    assert "group" not in toml["samples"]
    _, toml = guessed(table(site_height=noise(), group=lambda row: f"g{row % 12}", B02=noise(), **LABEL))
    assert toml["samples"]["group"] == "group"


def test_odd_columns_can_be_read_back(tmp_path):
    frame = table(**{"VV (dB)": noise(-9, -1), "hauteur é": noise(), "海": noise(seed=3), "1st": noise(seed=4),
                     "type": lambda row: "ab"[row % 2], "a'\"b": lambda row: "xy"[row // 30]})  # fmt: skip
    frame.to_csv(tmp_path / "points é.csv", index=False)
    guess = describe(tmp_path, progress=False)
    description = read_description(tmp_path)
    assert len(description.targets) == 2 and not guess.problems, guess.problems
    data = DescribedDataset(tmp_path, progress=False)
    assert sum(len(each.bands) for each in data.inputs.values()) == 4

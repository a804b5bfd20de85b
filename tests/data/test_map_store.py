"""Rasters that are written strip by strip; how maps use them stands in `tests/recipes/test_mapping.py`."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS
from rasterio.transform import from_origin

from bengelib.data.map_store import NO_DATA, Grid, Layer, MapStore

GRID = Grid((30, 40), CRS.from_epsg(32633), from_origin(500_000, 5_000_000, 10, 10))
VALUES = np.random.default_rng(0).integers(0, 3, (2, 30, 40)).astype(np.uint8)


def layers(folder: Path) -> list[Layer]:
    classes = Layer(folder / "a.tif", ("cover",), categories=("a & b", "c", "d"), colours=((1, 2, 3),) * 3)
    return [classes, Layer(folder / "b.tif", ("x", "y"), scale=0.5, tags={"note": "hello"})]


def write(store: MapStore, strips: range) -> None:
    for number in strips:
        rows = slice(10 * number, 10 * number + 10)
        with store.strip() as strip:
            strip.write(0, VALUES[:1, rows], 10 * number, 0)
            for column in (0, 25):
                part = VALUES[:, rows, column : column + 25]
                strip.write(1, part, 10 * number, column)
        store.finish(np.full(3, number, dtype=np.float32))


def check(folder: Path) -> None:
    with rasterio.open(folder / "a.tif") as first, rasterio.open(folder / "b.tif") as second:
        np.testing.assert_array_equal(first.read(), VALUES[:1])
        np.testing.assert_array_equal(second.read(), VALUES)
        assert second.scales == (0.5, 0.5) and second.descriptions == ("x", "y") and second.tags()["note"] == "hello"
        assert first.nodata == second.nodata == NO_DATA and first.tags(1)["CLASS_0"] == "a & b"
        assert first.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == second.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    assert "<Category>a &amp; b</Category>" in (folder / "a.tif.aux.xml").read_text()
    assert {path.name for path in folder.iterdir()} == {"a.tif", "a.tif.aux.xml", "b.tif"}


def test_strips_end_as_finished_rasters(tmp_path):
    store = MapStore(tmp_path / "work", GRID, layers(tmp_path), "one")
    write(store, range(3))
    store.publish()
    check(tmp_path)


def test_what_is_finished_is_taken_up_with_its_state(tmp_path):
    write(MapStore(tmp_path / "work", GRID, layers(tmp_path), "one"), range(2))
    store = MapStore(tmp_path / "work", GRID, layers(tmp_path), "one")
    assert store.done == 2 and store.state().tolist() == [1, 1, 1]
    write(store, range(2, 3))
    store.publish()
    check(tmp_path)


def test_a_strip_that_was_not_finished_is_written_again(tmp_path):
    store = MapStore(tmp_path / "work", GRID, layers(tmp_path), "one")
    write(store, range(1))
    with pytest.raises(KeyboardInterrupt), store.strip() as strip:
        strip.write(0, np.full((1, 5, 40), 9, np.uint8), 10, 0)
        raise KeyboardInterrupt
    store = MapStore(tmp_path / "work", GRID, layers(tmp_path), "one")
    assert store.done == 1
    write(store, range(1, 3))
    store.publish()
    check(tmp_path)


@pytest.mark.parametrize("left", ["other", "damaged", "list", "nothing"])
def test_what_is_not_of_this_map_is_removed(tmp_path, left):
    work = tmp_path / "work"
    write(MapStore(work, GRID, layers(tmp_path), "one"), range(2))
    if left == "damaged":
        (work / "progress.json").write_text("{")
    elif left == "list":
        (work / "progress.json").write_text("[1]")
    elif left == "nothing":
        (work / "progress.json").unlink()
    store = MapStore(work, GRID, layers(tmp_path), "two" if left == "other" else "one")
    assert store.done == 0 and store.state().size == 0
    assert json.loads((work / "progress.json").read_text())["done"] == 0


def test_names_of_an_earlier_map_do_not_stay(tmp_path):
    store = MapStore(tmp_path / "work", GRID, layers(tmp_path), "one")
    write(store, range(3))
    store.publish()
    plain = [Layer(tmp_path / "a.tif", ("x", "y"))]
    store = MapStore(tmp_path / "work", GRID, plain, "two")
    for number in range(3):
        with store.strip() as strip:
            strip.write(0, VALUES[:, 10 * number : 10 * number + 10], 10 * number, 0)
        store.finish(np.empty(0, np.float32))
    store.publish()
    assert not (tmp_path / "a.tif.aux.xml").exists()

import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from bengelib.errors import ArgumentError
from bengelib.methods.location import LocationEncoder
from bengelib.methods.places import explained, place_folds, probe_held_out, train_held_out

STATIONS = Path(__file__).parents[3] / "shared" / "real-eo" / "locations" / "stations.csv"


def anywhere(count=300, seed=0):
    random = np.random.default_rng(seed)
    lat = np.rad2deg(np.arcsin(random.uniform(-1, 1, count)))
    return np.stack([random.uniform(-180, 180, count), lat], axis=1)


def codes(lonlat, degrees, falloff=2.0):
    return LocationEncoder(degrees, falloff=falloff).codes(torch.from_numpy(lonlat)).numpy()


def test_blocks_are_held_out_whole():
    lonlat = anywhere()
    folds = place_folds(lonlat, size=30, folds=4)
    assert sorted(set(folds.tolist())) == [0, 1, 2, 3]
    blocks = np.floor(lonlat / 30).astype(int)
    for block in np.unique(blocks, axis=0):
        assert len(set(folds[(blocks == block).all(axis=1)].tolist())) == 1
    assert np.bincount(folds).min() > 30
    assert np.array_equal(folds, place_folds(lonlat, size=30, folds=4))
    assert not np.array_equal(folds, place_folds(lonlat, size=30, folds=4, seed=1))
    line = place_folds(np.array([[180.0, 5.0], [-180.0, 5.0], [-175.0, 5.0], [90.0, 5.0]]), size=10, folds=2)
    assert len(set(line[:3].tolist())) == 1  # one block, named in two ways


def test_the_probe_chooses_its_regularisation_on_other_blocks():
    """What it predicts of a fold depends on no value of that fold, and a smooth map is learned in spite of noise."""
    random, lonlat = np.random.default_rng(0), anywhere()
    truth = codes(lonlat, 4, falloff=0) @ random.normal(size=16)
    values, folds = truth + random.normal(size=300), place_folds(lonlat, size=20)
    features = codes(lonlat, 8)
    predictions = probe_held_out(features, values, folds)
    assert explained(predictions, truth) > 0.7
    values[folds == 0] = 1e3
    assert np.array_equal(probe_held_out(features, values, folds)[folds == 0], predictions[folds == 0])


def test_networks_learn_places_through_fit():
    lonlat = anywhere(120)
    values, folds = 20 + 5 * np.sin(np.deg2rad(lonlat[:, 1])), place_folds(lonlat, size=30, folds=2)
    options = {"epochs": 20, "batch_size": 30, "lr": 3e-3}
    predictions = train_held_out(lambda: LocationEncoder(3, hidden=16, feature_dim=8), lonlat, values, folds, **options)
    assert explained(predictions, values) > 0.8
    again = train_held_out(lambda: LocationEncoder(3, hidden=16, feature_dim=8), lonlat, values, folds, **options)
    assert np.array_equal(predictions, again)


def test_explained():
    values = np.array([1.0, 2.0, 3.0])
    assert explained(values, values) == 1 and explained(np.full(3, 2.0), values) == 0
    assert explained(values[::-1], values) == -3


def test_what_does_not_fit_is_refused():
    lonlat, folds = anywhere(20), np.arange(20) % 3
    with pytest.raises(ArgumentError, match="make the blocks smaller"):
        place_folds(lonlat[:4], size=90, folds=5)
    with pytest.raises(ArgumentError, match="Longitude comes first"):
        place_folds(np.array([[48.0, 151.0]]))
    with pytest.raises(ArgumentError, match="size"):
        place_folds(lonlat, size=0)
    with pytest.raises(ArgumentError, match="do not fit"):
        probe_held_out(lonlat, np.zeros(19), folds)
    with pytest.raises(ArgumentError, match="2 folds; expected 3"):
        probe_held_out(lonlat, np.zeros(20), folds % 2)
    with pytest.raises(ArgumentError, match="1 folds; expected 2"):
        train_held_out(LocationEncoder, lonlat, np.zeros(20), np.zeros(20, dtype=int))


@pytest.mark.skipif(not STATIONS.is_file(), reason="the weather stations are not beside this checkout")
@pytest.mark.parametrize("column", ["meanT", pytest.param("meanP", marks=pytest.mark.slow)])
def test_weather_stations_of_blocks_that_were_held_out(column):
    """Harmonics against longitude and latitude as plain numbers, both linear; and the flattery of a random split."""
    table = pd.read_csv(STATIONS)
    lonlat, values = table[["Lon", "Lat"]].to_numpy(), table[column].to_numpy()
    blocked, shuffled = place_folds(lonlat), np.random.default_rng(0).permutation(len(lonlat)) % 5
    waves, plain = codes(lonlat, 12), codes(lonlat, 0)
    harmonics = explained(probe_held_out(waves, values, blocked), values)
    assert harmonics > explained(probe_held_out(plain, values, blocked), values) + 0.4
    assert explained(probe_held_out(waves, values, shuffled), values) > harmonics


def test_the_table_of_the_page_has_a_row_for_each_code(monkeypatch):
    """As docs/places_table.py writes it; here, predictors know only the mean."""
    table = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "places_table.py"))
    for name, place in (("probe_held_out", 1), ("train_held_out", 2)):
        monkeypatch.setitem(table["rows"].__globals__, name, lambda *given, _=place, **options: 0 * given[_] + 1)
    stations = pd.DataFrame(anywhere(60), columns=["Lon", "Lat"])
    stations = stations.assign(meanT=np.arange(60.0), meanP=np.arange(60.0) ** 2)
    rows = table["rows"](stations, size=30)
    assert len(rows) == len(table["CODES"]) + len(table["NETWORKS"]) and {len(row) for row in rows} == {5}
    page = Path(__file__).parents[2] / "docs" / "methods.md"
    found = page.read_text(encoding="utf-8").partition(table["MARKS"][0])[2].partition(table["MARKS"][1])[0]
    assert [line.split("|")[1].strip() for line in found.strip().splitlines()[2:]] == [row[0] for row in rows]

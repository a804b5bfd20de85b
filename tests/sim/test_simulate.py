"""The simulator writes exactly a ben-ge tree, on one machine the same bytes, and touches nothing that is there."""

import csv
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio

from bengelib.bands import CLIMATE_ZONES, CORINE_43, LAND_COVER, LAND_COVER_NAMES, S1_BANDS, S2
from bengelib.errors import ArgumentError, DiskError, SettingsError
from bengelib.identity import season, tile_origin
from bengelib.sim.geotiff import geotiff, projection
from bengelib.sim.optical import green_tables, sun_position
from bengelib.sim.patch import Job, write_patch
from bengelib.sim.places import (
    Place,
    plan,
    sentinel2_acquisitions,
    snow_share,
    split_of,
    window_pixels,
)
from bengelib.sim.procedural import fractal, key_of, smooth, smooth_at
from bengelib.sim.radar import LOOKS, speckle
from bengelib.sim.scene import CODE_OF_KIND, Kind, scene
from bengelib.sim.simulate import HEADERS, MARKER, simulate
from bengelib.sim.tiles import LANDSCAPES, TILES
from bengelib.sim.weather import pressure_level, weather

simulate_module = sys.modules["bengelib.sim.simulate"]  # the name of the module is that of its function
REAL = Path(__file__).resolve().parents[3] / "shared" / "real" / "ben-ge-real"
PATCHES = 20
S2_ID = re.compile(r"^(S2[AB])_MSIL2A_(\d{8})T(\d{5,6})_(\d+)_(\d+)$")
S1_ID = re.compile(r"^(S1[AB])_IW_GRDH_1SDV_(\d{8})T(\d{6})_(\d{2}[A-Z]{3})_(\d+)_(\d+)$")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty patches, drawn in this process."""
    return simulate(tmp_path_factory.mktemp("sim") / "tiny", PATCHES, 3, "natural", processes=1, progress=False)


def rows(tree: Path, table: str) -> list[dict[str, str]]:
    with (tree / f"{tree.name}_{table}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


# Facts


@pytest.mark.parametrize(
    ("date", "expected"),
    [("2017-12-21", 0.00699), ("2018-02-28", 0.55805), ("2017-06-13", 0.99749), ("2017-10-02", 0.63734)],
)
def test_season_has_the_published_values(date: str, expected: float) -> None:
    assert season(datetime.fromisoformat(date)) == expected


@pytest.mark.parametrize(
    ("tile", "column", "row", "left", "top"), [("33UUP", 87, 48, 404400, 5342400), ("29SND", 56, 35, 567180, 4358040),
                                               ("29UPU", 4, 55, 604800, 5834040), ("35VPK", 69, 24, 682800, 6971220)]
)  # fmt: skip
def test_grid_begins_where_real_patches_say(tile: str, column: int, row: int, left: int, top: int) -> None:
    epsg, x, y = tile_origin(tile)
    assert epsg == 32600 + int(tile[:2])
    assert (x + 1200 * column, y - 1200 * row) == (left, top)


def test_every_tile_has_a_landscape_and_legal_zones() -> None:
    codes = {zone.code for zone in CLIMATE_ZONES}
    assert {tile.name for tile in TILES} == set(LANDSCAPES)
    for landscape in LANDSCAPES.values():
        assert sum(share for _, share in landscape.zones) == pytest.approx(1)
        assert {code for code, _ in landscape.zones} <= codes


def test_every_acquisition_has_its_own_prefix_and_some_irregular_times() -> None:
    prefixes = [each.prefix for each in sentinel2_acquisitions().values()]
    assert len(prefixes) == len(set(prefixes)) == sum(len(tile.dates) for tile in TILES)
    assert any(len(prefix.split("T")[-1]) == 5 for prefix in prefixes)
    assert any(int(prefix[-2:]) >= 60 for prefix in prefixes)


def test_snow_lies_in_winter_and_keeps_the_share_of_the_tile() -> None:
    for number, tile in enumerate(TILES):
        shares = [snow_share(number, date) for date in range(len(tile.dates))]
        assert sum(shares) == pytest.approx(tile.snow * len(tile.dates), abs=0.12)
        assert all(
            share == 0 for share, date in zip(shares, tile.dates, strict=True) if date[5:7] in ("06", "07", "08")
        )


# Noise and scene


def test_smooth_noise_is_standard_and_does_not_depend_on_the_window() -> None:
    x = np.arange(3000.0)
    field = smooth(7, x, x, 5.0)
    assert abs(field.mean()) < 0.01
    assert field.std() == pytest.approx(1, abs=0.02)
    np.testing.assert_allclose(field[100:140, 900:950], smooth(7, x[900:950], x[100:140], 5.0), rtol=0, atol=1e-5)
    grid_x, grid_y = np.meshgrid(x[:40] / 5, x[:30] / 5)
    np.testing.assert_allclose(smooth_at(7, grid_x, grid_y), field[:30, :40], atol=2e-4)
    assert abs(np.corrcoef(field[:300, :300].ravel(), smooth(8, x[:300], x[:300], 5.0).ravel())[0, 1]) < 0.1
    assert fractal(7, x, x[:500], (40.0, 9.0)).std() == pytest.approx(1, abs=0.1)


def test_keys_depend_on_every_part() -> None:
    assert len({key_of(a, b) for a in range(30) for b in range(30)}) == 900
    assert key_of(2**40 + 1) != key_of(1)


def test_scene_is_continuous_across_patches_and_the_same_on_a_coarse_grid() -> None:
    number = next(i for i, tile in enumerate(TILES) if tile.name == "29UPU")
    arguments = (5, number, LANDSCAPES["29UPU"], window_pixels(number))
    x, y = np.arange(2000.0, 2240.0), np.arange(5000.0, 5120.0)
    whole = scene(*arguments, x, y)
    right = scene(*arguments, x[120:], y)
    coarse = scene(*arguments, x[::24], y[::24])
    for name in ("kind", "label", "unit"):
        found = getattr(whole, name)  # a pixel on a threshold may fall on the other side
        assert (found[:, 120:] != getattr(right, name)).mean() < 1e-3
        assert (found[::24, ::24] != getattr(coarse, name)).sum() <= 1
    np.testing.assert_allclose(whole.height[:, 120:], right.height, atol=1e-3)
    other = scene(6, *arguments[1:], x, y)
    assert (other.kind != whole.kind).mean() > 0.1


def test_every_kind_of_cover_has_a_code_of_the_legend() -> None:
    assert len(CODE_OF_KIND) == len(Kind)
    assert set(CODE_OF_KIND) <= {cover.code for cover in LAND_COVER}


# Date and weather


def test_mediterranean_grass_is_green_in_spring_and_dry_in_summer_and_crops_are_the_reverse() -> None:
    dry, wet = green_tables(8, 38.5), green_tables(26, 48.0)
    assert dry[Kind.DRY_GRASS, 90] > 0.5 > 0.15 > dry[Kind.DRY_GRASS, 220]
    assert wet[Kind.MEADOW, 170] > 2 * wet[Kind.MEADOW, 20]
    assert wet[Kind.SUMMER_CROP, 210] > 0.7 > 0.1 > wet[Kind.SUMMER_CROP, 100]
    north = green_tables(27, 65.0)
    assert north[Kind.BROADLEAF, 130] < wet[Kind.BROADLEAF, 130]


def test_sun_stands_in_the_south_at_noon_and_low_in_winter() -> None:
    zenith, azimuth = sun_position(datetime(2017, 6, 21, 11, 0), 15.0, 48.0)
    assert np.degrees(zenith) == pytest.approx(48 - 23.44, abs=1)
    assert np.degrees(azimuth) == pytest.approx(180, abs=3)
    assert np.degrees(sun_position(datetime(2017, 12, 21, 11, 0), 15.0, 48.0)[0]) == pytest.approx(71.4, abs=1)
    assert 100 < np.degrees(sun_position(datetime(2017, 6, 21, 8, 0), 15.0, 48.0)[1]) < 160


def test_weather_follows_season_height_and_the_grid_of_era5() -> None:
    summer = [weather(s, datetime(2017, 7, 20, 11), 21, 44, 26, 200)["temperature"] for s in range(30)]
    winter = [weather(s, datetime(2018, 1, 20, 11), 21, 44, 26, 200)["temperature"] for s in range(30)]
    assert np.mean(summer) - np.mean(winter) > 12
    assert weather(0, datetime(2018, 1, 20, 11), 21.01, 44.02, 26, 200) == weather(
        0, datetime(2018, 1, 20, 11), 20.99, 43.98, 26, 200
    )
    assert [pressure_level(h) for h in (0, 110, 1500)] == [1000, 1000, 850]


def test_speckle_has_unit_mean_intensity_and_the_stated_looks() -> None:
    x = np.arange(700.0)
    power = 10 ** (speckle(3, x, x).astype(float) / 10)
    assert power.mean() == pytest.approx(1, abs=0.02)
    assert power.mean() ** 2 / power.var() == pytest.approx(LOOKS, rel=0.06)


# Plan


@pytest.mark.parametrize("sampling", ["natural", "balanced"])
def test_the_first_patches_do_not_depend_on_how_many_are_asked_for(sampling: str) -> None:
    few = plan(30, 0, sampling)
    assert plan(80, 0, sampling)[:30] == few
    assert len(set(few)) == 30


def test_another_seed_chooses_other_places() -> None:
    assert not set(plan(30, 0, "natural")) & set(plan(30, 1, "natural"))


def test_patches_cluster_and_some_places_are_seen_twice() -> None:
    places = plan(3000, 0, "natural")
    train = {place for i, place in enumerate(places) if split_of(0, i) == "train"}
    test = [place for i, place in enumerate(places) if split_of(0, i) == "test"]
    touching = np.mean(
        [
            any(
                place._replace(column=place.column + dx, row=place.row + dy) in train
                for dx in (-1, 0, 1) for dy in (-1, 0, 1) if (dx, dy) != (0, 0)
            )
            for place in test
        ]
    )  # fmt: skip
    assert len(test) == 300
    assert 0.12 < touching < 0.22
    spots = {(place.tile, place.column, place.row) for place in places}
    assert 50 < len(places) - len(spots) < 250


def test_balanced_sampling_finds_the_rare_classes() -> None:
    places = plan(160, 0, "balanced")
    built = [place for i, place in enumerate(places) if i % 8 == 4]
    shares = []
    for place in built:
        tile = TILES[place.tile]
        x, y = place.column * 120 + np.arange(0.0, 120, 8), place.row * 120 + np.arange(0.0, 120, 8)
        shares.append((scene(0, place.tile, LANDSCAPES[tile.name], window_pixels(place.tile), x, y).label == 50).mean())
    assert np.mean(shares) > 0.08  # four times the mean of natural sampling


# Files


def test_geotiff_reads_like_any_other(tmp_path: Path) -> None:
    for dtype in ("uint8", "int16", "uint16", "float32"):
        array = (np.arange(20 * 30).reshape(20, 30) % 251).astype(dtype)
        path = tmp_path / f"{dtype}.tif"
        path.write_bytes(geotiff(array, 32633, 404400, 5342400, 60))
        with rasterio.open(path) as dataset:
            np.testing.assert_array_equal(dataset.read(1), array)
            assert dataset.dtypes == (dtype,)
            assert dataset.crs.to_epsg() == 32633
            assert dataset.transform == rasterio.Affine(60, 0, 404400, 0, -60, 5342400)
            assert dataset.nodata is None


@pytest.mark.skipif(not REAL.is_dir(), reason="the real patches are not beside this checkout")
def test_files_have_the_profile_and_the_json_keys_of_real_ones(tree: Path) -> None:
    for folder, suffix in (("sentinel-2", "_B11.tif"), ("sentinel-2", "_B01.tif"), ("sentinel-1", "_VH.tif")):
        profiles = []
        for root in (REAL, tree):
            with rasterio.open(next((root / folder).rglob(f"*{suffix}"))) as dataset:
                profiles.append({k: dataset.profile[k] for k in ("dtype", "nodata", "width", "height", "count")})
                assert dataset.tags() == {"AREA_OR_POINT": "Area"}
        assert profiles[0] == profiles[1]
    for folder in ("sentinel-1", "sentinel-2"):
        real, simulated = (json.loads(next((r / folder).rglob("*.json")).read_text()) for r in (REAL, tree))
        assert list(real) == list(simulated)
        assert list(real["coordinates"]) == list(simulated["coordinates"])
    label = json.loads(next((REAL / "sentinel-2").rglob("*_87_48_labels_metadata.json")).read_text())
    assert projection(32633) == label["projection"]


def test_tables_have_the_columns_and_values_of_ben_ge(tree: Path) -> None:
    for table, header in HEADERS.items():
        assert (tree / f"tiny_{table}.csv").read_text().splitlines()[0] == ",".join(header)
        assert len(rows(tree, table)) == PATCHES
    assert HEADERS["meta"][-3:] == ("lon", "lat", "climatezone")
    zones = {zone.code for zone in CLIMATE_ZONES}
    for row in rows(tree, "meta"):
        assert S2_ID.match(row["patch_id"])
        match = S1_ID.match(row["patch_id_s1"])
        assert match
        assert row["patch_id"].rsplit("_", 2)[1:] == [match[5], match[6]]
        assert int(row["climatezone"]) in zones
        gap = datetime.fromisoformat(row["timestamp_s1"]).date() - datetime.fromisoformat(row["timestamp_s2"]).date()
        assert abs(gap.days) <= 6
        assert row["patch_id"][11:19] == row["timestamp_s2"][:10].replace("-", "")
    for row in rows(tree, "era-5"):
        assert 250 < float(row["temperature_s2"]) < 310
        assert 0 <= float(row["relhumidity_s1"]) <= 100


def test_rasters_labels_and_fractions_agree(tree: Path) -> None:
    shares = {row["patch_id"]: row for row in rows(tree, "esaworldcover")}
    for row in rows(tree, "meta"):
        patch, patch_s1 = row["patch_id"], row["patch_id_s1"]
        for name, band in S2.items():
            with rasterio.open(tree / "sentinel-2" / patch / f"{patch}_{name}.tif") as dataset:
                assert dataset.shape == (1200 // band.resolution,) * 2
                assert dataset.dtypes == ("uint16",)
        for name in S1_BANDS:
            with rasterio.open(tree / "sentinel-1" / patch_s1 / f"{patch_s1}_{name}.tif") as dataset:
                decibels = dataset.read(1)
                assert decibels.dtype == np.float32
                assert np.isfinite(decibels).all()
        with rasterio.open(tree / "dem" / f"{patch}_dem.tif") as dataset:
            assert dataset.dtypes == ("int16",)
            assert -10 < dataset.read(1).mean() < 4000
        with rasterio.open(tree / "esaworldcover" / shares[patch]["filename"]) as dataset:
            codes = dataset.read(1)
        counted = [float((codes == cover.code).mean()) for cover in LAND_COVER]
        np.testing.assert_allclose([float(shares[patch][n]) for n in LAND_COVER_NAMES], counted, atol=1e-6)
        assert sum(counted) == pytest.approx(1)
        assert (int(row["climatezone"]) == 0) == bool((codes == 80).all())
        s2 = json.loads((tree / "sentinel-2" / patch / f"{patch}_labels_metadata.json").read_text())
        s1 = json.loads((tree / "sentinel-1" / patch_s1 / f"{patch_s1}_labels_metadata.json").read_text())
        assert s1["labels"] == s2["labels"]
        assert set(s2["labels"]) <= set(CORINE_43)
        assert s1["coordinates"]["lly"] == s2["coordinates"]["lry"] == s2["coordinates"]["uly"] - 1200


def test_coarse_bands_show_the_same_scene_as_the_fine_ones(tree: Path) -> None:
    correlations = []
    for row in rows(tree, "meta"):
        folder = tree / "sentinel-2" / row["patch_id"]
        with rasterio.open(folder / f"{row['patch_id']}_B08.tif") as dataset:
            fine = dataset.read(1).astype(float)
        for name, factor in (("B8A", 2), ("B09", 6)):
            with rasterio.open(folder / f"{row['patch_id']}_{name}.tif") as dataset:
                coarse = dataset.read(1).astype(float)
            blocks = fine.reshape(120 // factor, factor, 120 // factor, factor).mean((1, 3))
            if fine.std() > 300:
                correlations.append(np.corrcoef(blocks.ravel(), coarse.ravel())[0, 1])
    assert len(correlations) > 10
    assert min(correlations) > 0.9


def test_splits_cover_the_tree_once_with_eight_one_one(tree: Path) -> None:
    members = [
        (tree / "splits" / f"tiny_{name}.csv").read_text().splitlines() for name in ("train", "validation", "test")
    ]
    assert [len(ids) for ids in members] == [16, 2, 2]
    assert sorted(patch for ids in members for patch in ids) == sorted(row["patch_id"] for row in rows(tree, "meta"))


def test_it_says_that_it_is_simulated(tree: Path) -> None:
    assert "SIMULATED" in (tree / "README").read_text().splitlines()[0]
    marker = json.loads((tree / MARKER).read_text())
    assert marker["simulated"] is True
    assert (marker["patches"], marker["seed"], marker["sampling"]) == (PATCHES, 3, "natural")


def test_another_date_shows_the_same_ground(tmp_path: Path) -> None:
    for folder in ("sentinel-1", "sentinel-2", "dem", "esaworldcover"):
        (tmp_path / folder).mkdir()
    number = next(i for i, tile in enumerate(TILES) if tile.name == "29SNC")
    ids = []
    for date in (0, 3):
        job = Job(0, Place(number, date, 60, 40), window_pixels(number), -8.2, 38.4)
        ids.append(write_patch(tmp_path, 0, job)["meta"][0])
    pixels = {}
    for name in ("dem", "esaworldcover"):
        first, second = (rasterio.open(tmp_path / name / f"{i}_{name}.tif").read(1) for i in ids)
        np.testing.assert_array_equal(first, second)
    for i in ids:
        pixels[i] = rasterio.open(tmp_path / "sentinel-2" / i / f"{i}_B08.tif").read(1).astype(float)
    assert abs(pixels[ids[0]].mean() - pixels[ids[1]].mean()) > 100


# Safety


def test_same_bytes_from_several_processes_and_for_fewer_patches(tree: Path, tmp_path: Path) -> None:
    again = contents(simulate(tmp_path / "tiny", PATCHES, 3, "natural", processes=2, progress=False))
    assert again == contents(tree)
    fewer = contents(simulate(tmp_path / "few" / "tiny", 5, 3, "natural", processes=1, progress=False))
    assert {k: v for k, v in fewer.items() if k.endswith((".tif", ".json")) and k != MARKER} == {
        k: again[k] for k in fewer if k.endswith((".tif", ".json")) and k != MARKER
    }
    for table in HEADERS:
        assert again[f"tiny_{table}.csv"].startswith(fewer[f"tiny_{table}.csv"])


@pytest.mark.parametrize("fate", ["cannot start", "is killed"])
def test_a_worker_that_is_lost_leaves_its_work_to_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fate: str
) -> None:
    here, whole = os.getpid(), write_patch

    def killed(*arguments: object) -> dict[str, object]:
        if os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(*arguments)  # type: ignore[arg-type]

    if fate == "cannot start":
        monkeypatch.setattr(sys, "executable", str(tmp_path / "no-such-python"))
    else:
        monkeypatch.setattr(simulate_module, "write_patch", killed)
    root = simulate(tmp_path / "tree", 9, 0, "natural", processes=2, progress=False)
    assert len(rows(root, "meta")) == 9


def test_a_complete_tree_is_reused(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulate_module, "plan", None)
    assert simulate(tree, PATCHES, 3, "natural") == tree


@pytest.mark.parametrize("change", [{"patches": 21}, {"seed": 4}, {"sampling": "balanced"}])
def test_a_tree_with_other_settings_is_refused(tree: Path, change: dict[str, object]) -> None:
    before = contents(tree)
    settings: dict[str, object] = {"patches": PATCHES, "seed": 3, "sampling": "natural", **change}
    ((name, value),) = change.items()
    with pytest.raises(SettingsError, match=f"{name}=.* instead of {value!r}"):
        simulate(tree, **settings)  # type: ignore[arg-type]
    assert contents(tree) == before


def test_a_foreign_folder_or_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "results.txt").write_text("precious")
    with pytest.raises(SettingsError, match="not a simulated tree"):
        simulate(tmp_path / "thesis", 8)
    with pytest.raises(SettingsError, match="is a file"):
        simulate(tmp_path / "thesis" / "results.txt", 8)
    assert (tmp_path / "thesis" / "results.txt").read_text() == "precious"


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"patches": 0}, "patches=0"), ({"seed": -1}, "seed=-1"), ({"sampling": "even"}, "'natural', 'balanced'"),
     ({"processes": 0}, "processes=0"), ({"patches": "8"}, "patches='8'"), ({"patches": True}, "patches=True")],
)  # fmt: skip
def test_impossible_settings_are_named(tmp_path: Path, settings: dict[str, object], message: str) -> None:
    with pytest.raises((ArgumentError, SettingsError), match=re.escape(message)):
        simulate(tmp_path / "tree", **settings)  # type: ignore[arg-type]
    assert not (tmp_path / "tree").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interrupted_run_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    drawn = []

    def stop(*arguments: object) -> dict[str, object]:
        if len(drawn) == 2:
            raise error
        drawn.append(1)
        return write_patch(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(simulate_module, "write_patch", stop)
    with pytest.raises(error):
        simulate(tmp_path / "tree", 4, 0, "natural", processes=1, progress=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["ben-ge", "ben-ge-800", "ben-ge-8k"])
def test_a_name_of_real_data_is_refused(tmp_path, name):
    with pytest.raises(SettingsError, match="name of a real dataset"):
        simulate(tmp_path / name, patches=1)
    assert not list(tmp_path.iterdir())


# Disks


def test_a_mount_that_refuses_chmod_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    for name in ("chmod", "fchmod", "lchmod", "utime"):
        monkeypatch.setattr(os, name, refuse, raising=False)
    assert simulate(tmp_path / "tree", 1, 0, "natural", processes=1, progress=False) == tmp_path / "tree"


def test_what_a_killed_run_left_is_removed_by_the_next(tree: Path, tmp_path: Path) -> None:
    code = f"""
import os
from importlib import import_module
module = import_module("bengelib.sim.simulate")
module._draw = lambda *_: os.kill(os.getpid(), 9)
module.simulate({str(tmp_path / "y")!r}, 4, 0, "natural", processes=1, progress=False)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    (left,) = tmp_path.glob(".y.partial-*")
    assert any(left.iterdir())
    (tmp_path / ".y.partial-notes").mkdir()
    (tmp_path / ".y.partial-notes" / "thesis.txt").write_text("precious")
    old = tmp_path / ".y.partial-a1b2c3d4"  # as an earlier version named it
    shutil.copytree(tree / "splits", old / "splits")
    simulate(tmp_path / "y", 1, 0, "natural", processes=1, progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".y.partial-notes", "y"]
    assert (tmp_path / ".y.partial-notes" / "thesis.txt").read_text() == "precious"


def test_it_is_swept_even_where_the_tree_is_complete(tree: Path) -> None:
    (tree.with_name(f".{tree.name}.partial-a1b2c3d4") / "dem").mkdir(parents=True)
    simulate(tree, PATCHES, 3, "natural")
    assert [path.name for path in tree.parent.iterdir()] == [tree.name]


def test_a_second_run_waits_for_the_first_and_uses_its_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began, go, wrote = threading.Event(), threading.Event(), []

    def write(work: Path, name: str, settings: dict[str, object], *_: object) -> None:
        wrote.append(name)
        began.set()
        assert go.wait(20)
        (work / MARKER).write_text(json.dumps({"simulated": True, **settings, "complete": True}))

    monkeypatch.setattr(simulate_module, "_write", write)
    threads = [threading.Thread(target=simulate, args=(tmp_path / "y", 4), kwargs={"progress": False}) for _ in "ab"]
    threads[0].start()
    assert began.wait(20)
    threads[1].start()
    go.set()
    for thread in threads:
        thread.join(20)
    assert wrote == ["y"]
    assert [path.name for path in tmp_path.iterdir()] == ["y"]


def test_a_link_to_another_disk_is_written_through(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(work: Path, name: str, settings: dict[str, object], *_: object) -> None:
        (work / f"{name}_meta.csv").touch()
        (work / MARKER).write_text(json.dumps({"simulated": True, **settings, "complete": True}))

    monkeypatch.setattr(simulate_module, "_write", write)
    (tmp_path / "big" / "empty").mkdir(parents=True)
    for name, target in (("there", "empty"), ("to-come", "new")):
        (tmp_path / name).symlink_to(tmp_path / "big" / target)
        assert simulate(tmp_path / name, 4, progress=False) == tmp_path / name
        assert (tmp_path / "big" / target / f"{name}_meta.csv").is_file()
        assert (tmp_path / name).is_symlink()


@pytest.mark.parametrize("name", ["Ben-GE-8k", "BEN-GE"])
def test_a_name_of_real_data_is_refused_in_any_case_and_behind_a_link(tmp_path: Path, name: str) -> None:
    (tmp_path / "mine").symlink_to(tmp_path / name)
    for root in (tmp_path / name, tmp_path / "mine"):
        with pytest.raises(SettingsError, match="name of a real dataset"):
            simulate(root, patches=1)


@pytest.mark.parametrize("text", ["[]", "{", '{"engine": "traffic"}', "\0\udce9"])
def test_a_marker_of_another_tool_makes_a_folder_no_simulated_tree(tmp_path: Path, text: str) -> None:
    (tmp_path / MARKER).write_text(text, errors="surrogateescape")
    with pytest.raises(SettingsError, match="is not a simulated tree") as error:
        simulate(tmp_path, 1)
    assert "delete" not in str(error.value).lower() and "remove" not in str(error.value).lower()


def test_a_disk_that_refuses_is_a_typed_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", path)

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(DiskError, match="Read-only file system"):
        simulate(tmp_path / "new" / "tree", 1, progress=False)

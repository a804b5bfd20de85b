"""Whole scenes to maps: what comes out, that it is what the network says of each tile, and that nothing goes wrong."""

import json
import signal
import statistics
import subprocess
import sys
import time

import numpy as np
import pytest
import rasterio
import torch
from rasterio.transform import from_origin

from bengelib.bands import LAND_COVER, LAND_COVER_NAMES, S2_BANDS
from bengelib.data.scene import Scene
from bengelib.errors import ArgumentError, BandError, DataWarning, DiskSpaceError, RasterError
from bengelib.fusion import EarlyFusion, LateFusion
from bengelib.heads import ClassificationHead, Network, RegressionHead, SegmentationHead
from bengelib.modalities import Target
from bengelib.recipes import mapping
from bengelib.recipes.mapping import PROBABILITY_STEPS, Tiling, class_colours, predict_map
from bengelib.recipes.tiling import overlapping
from tests.scenes import CLASSES, LEFT, S2, TOP, Pixels, read, reflectances, write_scene

QUIET = dict(progress=False, precision="no")
SMALL = Tiling(tile=40, overlap=8, batch_size=3)


@pytest.fixture
def pixels():
    return reflectances(90, 130)


@pytest.fixture
def scene(tmp_path, pixels):
    return write_scene(tmp_path / "scene.tif", pixels)


def answers(model, pixels, target="cover"):
    """Probabilities of the whole scene at once, (K, H, W) or (K,)."""
    with torch.inference_mode():
        logits = model.eval()({"s2": torch.from_numpy(pixels[None] / np.float32(10_000))})[target][0]
    return logits.softmax(dim=0).numpy()


# --------------------------------------------------------------------------------------------------- networks of pixels


def test_three_lines_make_a_map(scene, pixels, tmp_path):
    model = Pixels()
    assert predict_map(model, scene, tmp_path / "map.tif", **QUIET) == tmp_path / "map.tif"
    np.testing.assert_array_equal(read(tmp_path / "map.tif")[0], answers(model, pixels).argmax(axis=0))


def test_a_map_is_a_cloud_optimised_geotiff_with_classes_and_colours(scene, tmp_path):
    predict_map(Pixels(), str(scene), tmp_path / "map.tif", tiling=SMALL, **QUIET)
    with rasterio.open(scene) as source, rasterio.open(tmp_path / "map.tif") as raster:
        assert raster.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert (raster.crs, raster.transform, raster.shape) == (source.crs, source.transform, source.shape)
        assert raster.dtypes == ("uint8",) and raster.nodata == 255 and raster.descriptions == ("cover",)
        assert [raster.tags(1)[f"CLASS_{value}"] for value in range(4)] == list(CLASSES)
        colours = [raster.colormap(1)[value] for value in range(4)]
        assert len(set(colours)) == 4 and all(colour[3] == 255 for colour in colours)
        assert raster.colormap(1)[255][3] == 0
        assert raster.tags()["target"] == "cover" and raster.tags()["scene"] == "scene.tif"
    rasterio.shutil.copy(tmp_path / "map.tif", tmp_path / "map.vrt", driver="VRT")
    text = (tmp_path / "map.vrt").read_text()
    assert all(f"<Category>{name}</Category>" in text for name in CLASSES)  # GDAL has found the names beside the map
    assert not list(tmp_path.glob("*.partial")) and not list(tmp_path.glob(".*"))


def test_large_maps_have_overviews_of_the_most_frequent_class(tmp_path):
    scene = write_scene(tmp_path / "scene.tif", reflectances(600, 1100))
    predict_map(Pixels(), scene, tmp_path / "map.tif", **QUIET)
    with rasterio.open(tmp_path / "map.tif") as raster:
        assert raster.overviews(1) == [2, 4] and raster.block_shapes == [(512, 512)]


@pytest.mark.parametrize("size", [3, 7])
def test_away_from_the_borders_of_tiles_a_map_is_what_the_network_says_of_each_tile(scene, pixels, tmp_path, size):
    model = Pixels(size)
    predict_map(model, scene, tmp_path / "map.tif", probabilities=tmp_path / "p.tif", tiling=SMALL, **QUIET)
    found, probable = read(tmp_path / "map.tif")[0], read(tmp_path / "p.tif")
    rows, columns = overlapping(90, 40, 8), overlapping(130, 40, 8)
    checked = np.zeros((90, 130), bool)
    for r, top in enumerate(rows.starts):
        for c, left in enumerate(columns.starts):
            tile = answers(model, pixels[:, top : top + rows.size, left : left + columns.size])
            inner = (
                slice(rows.overlap(r), rows.size - rows.overlap(r + 1)),
                slice(columns.overlap(c), columns.size - columns.overlap(c + 1)),
            )
            place = (
                slice(top + inner[0].start, top + inner[0].stop),
                slice(left + inner[1].start, left + inner[1].stop),
            )
            np.testing.assert_array_equal(found[place], tile[:, *inner].argmax(axis=0))
            expected = np.rint(tile[:, *inner] * PROBABILITY_STEPS)
            assert np.abs(probable[:, *place] - expected).max() <= 1  # rounding of a half
            checked[place] = True
    assert checked.mean() > 0.5


def test_there_are_no_seams(scene, pixels, tmp_path):
    """A network that sees 7 pixels knows nothing of borders 8 pixels away: joined tiles are the whole."""
    model = Pixels(7)
    tiling = Tiling(tile=60, overlap=15)
    predict_map(model, scene, tmp_path / "map.tif", probabilities=tmp_path / "p.tif", tiling=tiling, **QUIET)
    whole = answers(model, pixels)
    wrong = np.abs(read(tmp_path / "p.tif") / PROBABILITY_STEPS - whole).max(axis=0)
    assert np.median(wrong) < 0.003
    rows, columns = overlapping(90, 60, 15), overlapping(130, 60, 15)
    middle = np.ones((90, 130), bool)  # 3 pixels from where a tile ends
    for axis, tiles in enumerate((rows, columns)):
        for number, start in enumerate(tiles.starts):
            for end in (start, start + tiles.size) if number > 0 or number < len(tiles.starts) - 1 else ():
                if 0 < end < tiles.length:
                    band = slice(end - 3, end + 3)
                    middle[(band, slice(None)) if axis == 0 else (slice(None), band)] = False
    assert wrong[middle].max() < 0.003
    assert wrong.max() < 0.25  # and there the weight of the tile that ends is small


def test_labels_are_the_same_with_and_without_probabilities(scene, tmp_path):
    for out, more in (("one.tif", {}), ("other.tif", {"probabilities": tmp_path / "p.tif"})):
        predict_map(Pixels(5), scene, tmp_path / out, tiling=SMALL, **more, **QUIET)
    np.testing.assert_array_equal(read(tmp_path / "one.tif"), read(tmp_path / "other.tif"))


def test_probabilities_are_bands_with_a_scale_and_add_up_to_one(scene, tmp_path):
    predict_map(
        Pixels(3), scene, tmp_path / "map.tif", probabilities=tmp_path / "new" / "p.tif", tiling=Tiling(20), **QUIET
    )
    with rasterio.open(tmp_path / "new" / "p.tif") as raster:
        assert raster.descriptions == CLASSES and raster.scales == (1 / PROBABILITY_STEPS,) * 4
        assert raster.nodata == 255 and raster.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        total = (raster.read() * raster.scales[0]).sum(axis=0)
    assert np.abs(total - 1).max() <= 2.1 / PROBABILITY_STEPS


@pytest.mark.parametrize("marked", ["value", "zeros", "nan", "mask"])
def test_where_the_scene_has_no_data_the_map_has_none(tmp_path, pixels, marked):
    hole = np.zeros((90, 130), bool)
    hole[:50, 60:] = True
    hole[80, 3] = True
    options = {}
    values = pixels.copy()
    if marked == "value":
        values[1, hole] = 7777
        options["nodata"] = 7777
    elif marked == "zeros":
        values[:, hole] = 0
    elif marked == "nan":
        values = values.astype(np.float32) / 10_000
        values[2, hole] = np.nan
    path = write_scene(tmp_path / "scene.tif", values, **options)
    if marked == "mask":
        with rasterio.open(path, "r+") as raster:
            raster.write_mask(~hole)
    model = Pixels(3)
    predict_map(model, path, tmp_path / "map.tif", probabilities=tmp_path / "p.tif", tiling=SMALL, **QUIET)
    for name in ("map.tif", "p.tif"):
        np.testing.assert_array_equal((read(tmp_path / name) == 255).all(axis=0), hole)
        np.testing.assert_array_equal((read(tmp_path / name) == 255).any(axis=0), hole)
    tiles = len(overlapping(90, 40, 8).starts) * len(overlapping(130, 40, 8).starts)
    assert model.seen < tiles + 1  # empty tiles are not answered


def test_a_network_of_the_package_and_colours_of_its_legend(tmp_path):
    torch.manual_seed(0)
    encoder = EarlyFusion({"s2": S2_BANDS}, width=0.0625)
    model = Network(encoder, {"land_cover": SegmentationHead(encoder.channels, LAND_COVER_NAMES, width=4)})
    scene = write_scene(tmp_path / "scene.tif", reflectances(70, 60, 12), S2_BANDS)
    predict_map(model, scene, tmp_path / "map.tif", **QUIET)
    expected = answers(model, reflectances(70, 60, 12), "land_cover").argmax(axis=0)
    assert (read(tmp_path / "map.tif")[0] == expected).mean() > 0.999
    with rasterio.open(tmp_path / "map.tif") as raster:
        assert "#{:02X}{:02X}{:02X}".format(*raster.colormap(1)[0][:3]) == LAND_COVER[0].colour


def test_colours_of_unknown_classes_are_apart():
    for count in (2, 19, 43):
        classes = tuple(f"class {number}" for number in range(count))
        colours = np.array(class_colours(Target("cover", "class", classes)), float)
        distances = np.abs(colours[:, None] - colours[None]).sum(axis=2) + 999 * np.eye(count)
        assert distances.min() > 12


def test_colours_of_a_target_are_taken(scene, tmp_path):
    colours = ("#0000ff", "#ffff00", "#00ff00", "#FF0000")
    target = Target("cover", "map", CLASSES, colours=colours)
    predict_map(Pixels(), scene, tmp_path / "map.tif", target=target, **QUIET)
    with rasterio.open(tmp_path / "map.tif") as raster:
        assert ["#{:02x}{:02x}{:02x}".format(*raster.colormap(1)[value][:3]) for value in range(4)] == [
            colour.lower() for colour in colours
        ]
    with pytest.raises(BandError, match=r"the classes of 'cover' are .* not \('a', 'b'\)"):
        predict_map(Pixels(), scene, tmp_path / "map.tif", target=Target("cover", "map", ("a", "b")), **QUIET)


# --------------------------------------------------------------------------------------------------- networks of images


def test_a_network_of_images_gives_a_cell_for_each_tile(tmp_path, pixels):
    scene, model = write_scene(tmp_path / "scene.tif", pixels), Pixels(3, dense=False)
    predict_map(model, scene, tmp_path / "map.tif", probabilities=tmp_path / "p.tif", tiling=Tiling(20), **QUIET)
    found, probable = read(tmp_path / "map.tif")[0], read(tmp_path / "p.tif")
    assert found.shape == (5, 7)
    for row in range(4):
        for column in range(6):
            patch = pixels[:, 20 * row : 20 * row + 20, 20 * column : 20 * column + 20]
            expected = answers(model, patch)
            assert found[row, column] == expected.argmax()
            np.testing.assert_allclose(probable[:, row, column] / PROBABILITY_STEPS, expected, atol=0.0021)
    assert found[4, 6] == answers(model, pixels[:, 70:, 110:]).argmax()  # the last cells are moved into the scene
    with rasterio.open(tmp_path / "map.tif") as raster:
        assert raster.transform == from_origin(LEFT, TOP, 200, 200)


def test_cells_may_be_smaller_than_tiles(tmp_path, pixels):
    scene, model = write_scene(tmp_path / "scene.tif", pixels), Pixels(3, dense=False)
    predict_map(model, scene, tmp_path / "map.tif", tiling=Tiling(20, stride=10), **QUIET)
    found = read(tmp_path / "map.tif")[0]
    assert found.shape == (9, 13)
    assert found[4, 6] == answers(model, pixels[:, 35:55, 55:75]).argmax()
    with rasterio.open(tmp_path / "map.tif") as raster:
        assert raster.transform == from_origin(LEFT, TOP, 100, 100)


def test_a_cell_needs_data_in_half_of_its_pixels(tmp_path, pixels):
    pixels[:, :20, :20] = 0
    pixels[:, :11, 20:40] = 0
    pixels[:, :9, 40:60] = 0
    scene = write_scene(tmp_path / "scene.tif", pixels)
    predict_map(Pixels(dense=False), scene, tmp_path / "map.tif", tiling=Tiling(20), **QUIET)
    assert [value == 255 for value in read(tmp_path / "map.tif")[0, 0, :4]] == [True, True, False, False]


def test_a_scene_smaller_than_a_tile_is_mapped_with_a_warning(tmp_path):
    scene = write_scene(tmp_path / "scene.tif", reflectances(30, 50))
    with pytest.warns(DataWarning, match="30 x 50 pixels, fewer than a tile of 120"):
        predict_map(Pixels(dense=False), scene, tmp_path / "map.tif", **QUIET)
    assert read(tmp_path / "map.tif").shape == (1, 1, 2)


def test_the_size_of_a_tile_is_that_of_the_training_images(tmp_path, pixels):
    from dataclasses import replace

    scene = write_scene(tmp_path / "scene.tif", pixels)
    model = Pixels(dense=False, inputs={"s2": replace(S2, size=30)})
    predict_map(model, scene, tmp_path / "map.tif", **QUIET)
    assert read(tmp_path / "map.tif").shape == (1, 3, 5)


# ------------------------------------------------------------------------------------------- further inputs and outputs


def test_vectors_are_given_and_the_place_is_known(tmp_path, pixels):
    torch.manual_seed(0)
    encoder = LateFusion({"s2": S2, "season": (), "lonlat": ()}, width=0.0625)
    model = Network(encoder, {"cover": ClassificationHead(encoder.feature_dim, CLASSES)}).eval()
    seen = []
    encoder.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    scene = write_scene(tmp_path / "scene.tif", pixels)
    predict_map(model, [scene, "season=0.25"], tmp_path / "map.tif", tiling=Tiling(45), **QUIET)
    last = seen[-1]
    assert last["season"].tolist() == [0.25] * len(last["s2"]) and last["lonlat"].shape == (len(last["s2"]), 2)
    assert last["lonlat"][0].tolist() == pytest.approx([15.0, 45.15], abs=0.02)  # the middle of zone 33
    with pytest.raises(LookupError, match=r"reads \['season'\].*season=0\.5"):
        predict_map(model, scene, tmp_path / "map.tif", **QUIET)


def test_of_several_targets_one_is_named(tmp_path, scene):
    model = Pixels()
    model.outputs = {"cover": CLASSES, "season": (), "zone": ("a", "b")}
    with pytest.raises(BandError, match=r"must be named.*\['cover', 'zone'\]"):
        predict_map(model, scene, tmp_path / "map.tif", **QUIET)
    with pytest.raises(BandError, match="'season' cannot be mapped"):
        predict_map(model, scene, tmp_path / "map.tif", target="season", **QUIET)
    predict_map(model, scene, tmp_path / "map.tif", target="cover", **QUIET)


def test_a_quantity_is_no_class(tmp_path, scene):
    encoder = EarlyFusion({"s2": S2}, width=0.0625)
    model = Network(encoder, {"season": RegressionHead(encoder.feature_dim, 0.5, 0.3)})
    with pytest.raises(BandError, match="target to map must be named"):
        predict_map(model, scene, tmp_path / "map.tif", **QUIET)


def test_an_answer_of_another_shape_is_refused(tmp_path, scene):
    model = Pixels()
    model.outputs = {"cover": CLASSES[:3]}
    with pytest.raises(BandError, match=r"\(1, 4, 64, 64\) numbers.*its 3 classes"):
        predict_map(model, scene, tmp_path / "map.tif", **QUIET)


def test_a_network_that_answers_nonsense_is_refused(tmp_path, scene):
    model = Pixels()
    with torch.no_grad():
        model.layer.bias[1] = torch.nan
    with pytest.raises(ArgumentError, match="'cover' with NaN"):
        predict_map(model, scene, tmp_path / "map.tif", **QUIET)


def test_a_network_can_be_trained_on_afterwards(tmp_path, scene):
    model = Pixels()
    predict_map(model, scene, tmp_path / "map.tif", **QUIET)
    model({"s2": torch.rand(1, 3, 8, 8)})["cover"].sum().backward()
    assert model.layer.weight.grad is not None


def test_several_classes_at_once_have_a_band_each(tmp_path, scene, pixels):
    model = Pixels()
    predict_map(model, scene, tmp_path / "map.tif", target=Target("cover", "labels", CLASSES), tiling=SMALL, **QUIET)
    with torch.inference_mode():
        logits = model({"s2": torch.from_numpy(pixels[None] / np.float32(10_000))})["cover"][0].numpy()
    clear = np.abs(logits) > 1e-3
    np.testing.assert_array_equal(read(tmp_path / "map.tif")[clear], logits[clear] >= 0)
    with rasterio.open(tmp_path / "map.tif") as raster:
        assert raster.descriptions == CLASSES


# -------------------------------------------------------------------------------------------- interrupted and taken up


def test_an_interrupted_map_goes_on_and_has_the_same_bytes(tmp_path, scene):
    outs = dict(out=tmp_path / "map.tif", probabilities=tmp_path / "p.tif", tiling=SMALL, **QUIET)
    model = Pixels(5)
    predict_map(model, scene, **outs)
    whole = [path.read_bytes() for path in (tmp_path / "map.tif", tmp_path / "p.tif")]
    everything = model.seen
    (tmp_path / "map.tif").unlink()
    model.seen, model.fail_after = 0, 1 + everything // 2
    with pytest.raises(KeyboardInterrupt):
        predict_map(model, scene, **outs)
    assert not (tmp_path / "map.tif").exists() and (tmp_path / "map.tif.partial" / "progress.json").is_file()
    model.seen, model.fail_after = 0, None
    predict_map(model, scene, **outs)
    assert model.seen < everything
    assert [path.read_bytes() for path in (tmp_path / "map.tif", tmp_path / "p.tif")] == whole


@pytest.mark.parametrize("change", ["weights", "scene", "tiling"])
def test_what_another_map_left_is_not_gone_on_with(tmp_path, scene, pixels, change):
    model = Pixels(5)
    model.fail_after = 8
    with pytest.raises(KeyboardInterrupt):
        predict_map(model, scene, tmp_path / "map.tif", tiling=SMALL, **QUIET)
    assert json.loads((tmp_path / "map.tif.partial" / "progress.json").read_text())["done"] > 0
    tiling = SMALL
    if change == "weights":
        model = Pixels(5, seed=1)
    elif change == "scene":
        write_scene(scene, pixels[:, ::-1])
    else:
        tiling = Tiling(tile=41, overlap=8, batch_size=3)
    model.seen, model.fail_after = 0, None
    predict_map(model, scene, tmp_path / "map.tif", tiling=tiling, **QUIET)
    fresh = Pixels(5, seed=1 if change == "weights" else 0)
    predict_map(fresh, scene, tmp_path / "fresh.tif", tiling=tiling, **QUIET)
    assert fresh.seen == model.seen
    np.testing.assert_array_equal(read(tmp_path / "map.tif"), read(tmp_path / "fresh.tif"))


KILLED = """
import sys, time
import torch
from tests.scenes import Pixels
from bengelib.recipes.mapping import Tiling, predict_map
torch.set_num_threads(1)
model = Pixels(5)
forward, slow = Pixels.forward, len(sys.argv) > 3
if slow:
    Pixels.forward = lambda self, batch: (time.sleep(0.05), forward(self, batch))[1]
predict_map(model, sys.argv[1], sys.argv[2], tiling=Tiling(24, 6, batch_size=1), progress=False, precision="no")
"""


def test_a_killed_map_goes_on_and_has_the_same_bytes(tmp_path, scene):
    out = tmp_path / "map.tif"
    worker = subprocess.Popen([sys.executable, "-c", KILLED, str(scene), str(out), "slow"])
    progress = tmp_path / "map.tif.partial" / "progress.json"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if json.loads(progress.read_text())["done"] >= 2:
                break
        except (OSError, ValueError):
            pass
        time.sleep(0.01)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    assert json.loads(progress.read_text())["done"] >= 2 and not out.exists()
    model, tiling = Pixels(5), Tiling(24, 6, batch_size=1)
    predict_map(model, scene, out, tiling=tiling, **QUIET)
    fresh = Pixels(5)
    predict_map(fresh, scene, tmp_path / "fresh.tif", tiling=tiling, **QUIET)
    assert model.seen < fresh.seen
    assert out.read_bytes() == (tmp_path / "fresh.tif").read_bytes()
    assert not list(tmp_path.glob("*.partial"))


# ------------------------------------------------------------------------------------------------------ what is refused


def test_a_map_does_not_replace_its_scene(tmp_path, scene):
    before = scene.read_bytes()
    (tmp_path / "link.tif").symlink_to(scene)
    for out in (scene, tmp_path / "link.tif"):
        with pytest.raises(ArgumentError, match="is a file of the scene"):
            predict_map(Pixels(), scene, out, **QUIET)
    with pytest.raises(ArgumentError, match="for both map and probabilities"):
        predict_map(Pixels(), scene, tmp_path / "a.tif", probabilities=tmp_path / "a.tif", **QUIET)
    with pytest.raises(ArgumentError, match="is a folder"):
        predict_map(Pixels(), scene, tmp_path, **QUIET)
    assert scene.read_bytes() == before


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Tiling(tile=0), "tile=0"),
        (lambda: Tiling(overlap=-1), "overlap=-1"),
        (lambda: Tiling(batch_size=0.5), "batch_size=0.5"),
    ],
)
def test_impossible_tilings_are_refused(make, words):
    with pytest.raises(ArgumentError, match=words):
        make()


def test_a_disk_that_is_too_small_is_noticed_before_the_first_byte(tmp_path, scene, monkeypatch):
    monkeypatch.setattr("bengelib.data.map_store.free_bytes", lambda folder: 1000.0)
    with pytest.raises(DiskSpaceError, match=r"map\.tif needs"):
        predict_map(Pixels(), scene, tmp_path / "map.tif", **QUIET)
    assert not list(tmp_path.glob("map*"))


def test_a_file_that_ends_in_the_middle_is_named_and_what_is_done_is_kept(tmp_path, monkeypatch):
    scene = tmp_path / "scene.tif"  # with its directory at the beginning, so that it can be opened
    rasterio.shutil.copy(
        write_scene(tmp_path / "plain.tif", reflectances(700, 200)),
        scene,
        driver="COG",
        BLOCKSIZE=128,
        OVERVIEWS="NONE",
    )
    whole = scene.read_bytes()
    scene.write_bytes(whole[: int(0.55 * len(whole))])
    with pytest.raises(RasterError, match=r"scene\.tif cannot be read"):  # found before anything is predicted
        predict_map(Pixels(), scene, tmp_path / "new.tif", tiling=SMALL, **QUIET)
    assert not list(tmp_path.glob("new*"))
    monkeypatch.setattr(Scene, "_check_values", lambda self: None)
    with pytest.raises(RasterError, match=r"scene\.tif cannot be read at Window"):
        predict_map(Pixels(), scene, tmp_path / "new.tif", tiling=SMALL, **QUIET)
    assert json.loads((tmp_path / "new.tif.partial" / "progress.json").read_text())["done"] > 5


# ------------------------------------------------------------------------------------------------ memory and throughput

LARGE = """
import re, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from bengelib.bands import LAND_COVER_NAMES, S2_BANDS
from bengelib.fusion import EarlyFusion
from bengelib.heads import Network, SegmentationHead
from bengelib.recipes.mapping import predict_map
torch.manual_seed(0)
encoder = EarlyFusion({"s2": S2_BANDS}, width=0.5)
model = Network(encoder, {"land_cover": SegmentationHead(encoder.channels, LAND_COVER_NAMES)})
predict_map(model, sys.argv[1], sys.argv[2], progress=False, precision="no")
print(1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]))
"""
"""Its own peak: that of `getrusage` would count what the test held when it started this process."""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read from /proc")
def test_a_map_of_2000_pixels_takes_less_than_a_gigabyte_and_no_more_than_one_of_1000(tmp_path):
    peaks = {}
    for side in (1000, 2000):
        scene = write_scene(tmp_path / f"{side}.tif", reflectances(side, side, 12), S2_BANDS, tiled=True)
        command = [sys.executable, "-c", LARGE, str(scene), str(tmp_path / "map.tif")]
        peaks[side] = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert peaks[2000] <= 1e9 and peaks[2000] - peaks[1000] < 1e8, peaks


@pytest.mark.slow
def test_mapping_takes_little_longer_than_the_network_on_tensors(tmp_path):
    encoder = EarlyFusion({"s2": S2_BANDS}, width=0.5)
    model = Network(encoder, {"land_cover": SegmentationHead(encoder.channels, LAND_COVER_NAMES)}).eval()
    scene = write_scene(tmp_path / "scene.tif", reflectances(2000, 2000, 12), S2_BANDS, tiled=True)
    tiles = overlapping(2000, 384, 32)
    tensors = {"s2": torch.rand(1, 12, tiles.size, tiles.size)}
    ratios = []
    for _ in range(5):  # of processor time, since another process on the core would count otherwise
        start = time.process_time()
        with torch.inference_mode():
            for _ in range(len(tiles.starts) ** 2):
                model(tensors)
        middle = time.process_time()
        predict_map(model, scene, tmp_path / "map.tif", **QUIET)
        ratios.append((middle - start) / (time.process_time() - middle))
    assert statistics.median(ratios) >= 0.9, ratios


def test_reading_goes_one_batch_ahead():
    order = []

    def read_item(item):
        order.append(item)
        return item

    for item in mapping._read_ahead(read_item, range(5)):
        time.sleep(0.005)
        assert order[-1] <= item + 1
    assert order == list(range(5))

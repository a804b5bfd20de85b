"""`predict` as it is typed."""

import numpy as np
import pytest
import rasterio
import torch

from bengelib.__main__ import FAILED, main
from bengelib.modalities import Target
from bengelib.recipes.mapping import predict_map
from bengelib.recipes.supervised import Training, build_network, save_model
from tests.described_folders import CROPS, write_crops
from tests.scenes import BANDS, CLASSES, S2, read, reflectances, write_scene

QUIET = dict(progress=False, precision="no")
COLOURS = ("#112233", "#445566", "#778899", "#aabbcc")


def model(path, kind="map", stored=None):
    """A checkpoint as `train` writes it, of a network with random weights."""
    target = Target("cover", kind, CLASSES, colours=COLOURS if kind == "map" else ())
    settings = Training(width=0.0625)
    torch.manual_seed(0)
    network = build_network({"s2": S2}, {"cover": target}, settings, {})
    save_model(path, network, settings, {"cover": target}, {"stored": stored or {}})
    return path


@pytest.fixture
def scene(tmp_path):
    return write_scene(tmp_path / "scene.tif", reflectances(90, 130))


def test_a_checkpoint_and_a_scene_make_a_map_and_its_picture(tmp_path, scene, capsys):
    checkpoint = model(tmp_path / "model.safetensors")
    command = ["predict", "--checkpoint", str(checkpoint), "--scene", str(scene), "--out", str(tmp_path / "map.tif")]
    assert main([*command, "--precision", "no"]) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / "map.tif"), str(tmp_path / "map.png")]
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    with rasterio.open(tmp_path / "map.tif") as raster:
        assert "#{:02x}{:02x}{:02x}".format(*raster.colormap(1)[3][:3]) == COLOURS[3]
    predict_map(checkpoint, scene, tmp_path / "same.tif", **QUIET)
    np.testing.assert_array_equal(read(tmp_path / "map.tif"), read(tmp_path / "same.tif"))


def test_every_option_is_understood(tmp_path, capsys):
    checkpoint = model(tmp_path / "model.safetensors", "class")
    scene = write_scene(tmp_path / "scene.tif", reflectances(90, 130) + 1000, None)
    options = (
        f"--target cover --probabilities {tmp_path}/p.tif --picture {tmp_path}/picture.png --bands {' '.join(BANDS)} "
        "--scale s2=0.0001 --offset s2=-0.1 --tile 30 --stride 15 --overlap 4 --precision no"
    )
    command = ["predict", "--checkpoint", str(checkpoint), "--scene", f"s2={scene}", "--out", str(tmp_path / "map.tif")]
    assert main([*command, *options.split()]) == 0, capsys.readouterr().err
    assert read(tmp_path / "map.tif").shape == (1, 6, 9) and read(tmp_path / "p.tif").shape == (4, 6, 9)
    assert (tmp_path / "picture.png").is_file()


def test_several_classes_at_once_are_known_from_the_checkpoint_and_have_no_picture(tmp_path, scene, capsys):
    checkpoint = model(tmp_path / "model.safetensors", "labels")
    command = ["predict", "--checkpoint", str(checkpoint), "--scene", str(scene), "--out", str(tmp_path / "map.tif")]
    assert main([*command, "--tile", "30"]) == 0
    assert set(np.unique(read(tmp_path / "map.tif"))) <= {0, 1, 255} and read(tmp_path / "map.tif").shape[0] == 4
    assert not (tmp_path / "map.png").exists()
    assert main([*command, "--tile", "30", "--picture", str(tmp_path / "p.png")]) == FAILED
    assert "is not a class map" in capsys.readouterr().err


def test_what_the_files_of_the_training_held_is_known_from_the_checkpoint(tmp_path):
    scene = write_scene(tmp_path / "scene.tif", reflectances(64, 64))
    facts = {"s2": {"scale": [2e-4] * 3, "offset": [-0.01] * 3, "no_data": []}}
    predict_map(model(tmp_path / "a.safetensors", stored=facts), scene, tmp_path / "a.tif", **QUIET)
    stated = dict(scale={"s2": 2e-4}, offset={"s2": -0.01})
    predict_map(model(tmp_path / "b.safetensors"), scene, tmp_path / "b.tif", **stated, **QUIET)
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), read(tmp_path / "b.tif"))


def test_a_model_that_reads_a_map_of_classes(tmp_path, capsys):
    """From a dataset with a map among its modalities, by train, to the map of a scene."""
    toml = CROPS.replace("scale = 0.0001", "scale = 0.00002\noffset = 0.0")
    toml = toml.replace("[targets.cover]", "[modalities.cover]").partition("[targets.harvest]")[0]
    root = write_crops(tmp_path / "crops", 20, toml)
    command = ["train", "--root", root, "--target", "crop", "--modalities", "s2", "cover", "--out", tmp_path / "model"]
    assert main([*map(str, command), "--width", "8", "--epochs", "1", "--precision", "no"]) == 0
    image = write_scene(tmp_path / "scene.tif", 5 * reflectances(48, 64, 4), ("B02", "B03", "B04", "B08"))
    codes = np.full((1, 48, 64), 30, np.uint8)
    codes[:, :, :40], codes[:, :20, :20] = 10, 0
    cover = write_scene(tmp_path / "cover.tif", codes, None)
    command = ["predict", "--checkpoint", tmp_path / "model", "--out", tmp_path / "map.tif", "--scene", image]
    assert main([*map(str, command), f"cover={cover}", "--stride", "4", "--precision", "no"]) == 0
    found = read(tmp_path / "map.tif")[0]
    assert (found[:5, :5] == 255).all() and (found[5:] < 2).all() and (found[:, 5:] < 2).all()
    capsys.readouterr()
    assert main([*map(str, command)]) == FAILED
    assert "the model reads band 'cover' of 'cover', and no file has it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--scale", "s2"], "--scale s2; expected a modality and a number"),
        (["--offset", "s2=high"], "--offset s2=high; expected"),
        (["--target", "zone"], "target 'zone' cannot be mapped"),
        (["--bands", "B02"], "1 names of bands"),
        (["--tile", "40", "--overlap", "20"], "overlap=20; expected a whole number, from 0 to 10"),
        (["--checkpoint", "none.safetensors"], "no checkpoint none.safetensors"),
        (["--scene", "none.tif"], "none.tif does not exist"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, scene, capsys, change, words):
    checkpoint = model(tmp_path / "model.safetensors")
    command = ["predict", "--checkpoint", str(checkpoint), "--scene", str(scene), "--out", str(tmp_path / "map.tif")]
    assert main([*command, *change]) == FAILED
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert not (tmp_path / "map.tif").exists()

import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from bengelib.bands import S2_BANDS
from bengelib.checkpoint import FORMAT, load_checkpoint, read_checkpoint, save_checkpoint, saved_inputs
from bengelib.errors import BengeError, CheckpointError
from bengelib.fusion import EarlyFusion, LateFusion
from bengelib.heads import ClassificationHead, Network
from bengelib.modalities import MODALITIES, as_modalities

CLASSES = ("a", "b", "c")
INPUTS = {"s2": ("B04", "B03", "B02"), "s1": ("VV", "VH"), "weather": ("temperature",), "season": ()}


def make_model(seed=0, inputs=INPUTS, classes=CLASSES, width=0.0625, depth=18, fusion=EarlyFusion, target="zone"):
    torch.manual_seed(seed)
    encoder = fusion(inputs, depth, width)
    model = Network(encoder, {target: ClassificationHead(encoder.feature_dim, classes)})
    for name, buffer in model.named_buffers():  # as after training
        if name.endswith("running_mean"):
            buffer.normal_()
    return model


def states(*models):
    return [{name: value.clone() for name, value in model.state_dict().items()} for model in models]


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first.keys() | second.keys())


@pytest.fixture
def path(tmp_path):
    """A checkpoint of `make_model()`."""
    path = tmp_path / "folder" / "model.safetensors"
    save_checkpoint(path, make_model(), {"seed": 3, "dataset": "ben-ge-sim", "accuracy": 0.5})
    return path


def test_round_trip(path):
    model = make_model(seed=1)
    assert not same(*states(model, make_model()))
    assert load_checkpoint(path, model) == {"seed": 3, "dataset": "ben-ge-sim", "accuracy": 0.5}
    assert same(*states(model, make_model()))


def test_half_the_precision_is_half_the_file(path, tmp_path):
    save_checkpoint(tmp_path / "half.safetensors", make_model(), half=True)
    assert (tmp_path / "half.safetensors").stat().st_size < 0.6 * path.stat().st_size
    weights = read_checkpoint(tmp_path / "half.safetensors")[1]
    assert {value.dtype for value in weights.values() if value.ndim > 1} == {torch.float16}
    assert {value.dtype for value in weights.values() if value.ndim == 1} == {torch.float32}  # also of BatchNorm
    model = make_model(seed=1)
    load_checkpoint(tmp_path / "half.safetensors", model)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, make_model().state_dict()[name], rtol=1e-3, atol=1e-4)


def test_loading_repeats_the_outputs(path):
    torch.manual_seed(2)
    batch = {"s2": torch.rand(2, 3, 32, 32), "s1": torch.randn(2, 2, 32, 32), "weather": torch.rand(2, 5)}
    batch["season"] = torch.rand(2)
    model = make_model(seed=1)
    load_checkpoint(path, model)
    with torch.no_grad():
        loaded, saved = (each.eval()(batch)["zone"] for each in (model, make_model()))
    torch.testing.assert_close(loaded, saved, rtol=1e-4, atol=1e-5)


def test_header_says_what_the_weights_are_for(path):
    header, weights = read_checkpoint(path)
    assert saved_inputs(header) == as_modalities(INPUTS)
    assert header["outputs"] == {"zone": list(CLASSES)}
    units = {entry["name"]: set(entry["unit"]) for entry in header["inputs"]}
    assert units == {"s2": {"reflectance"}, "s1": {"dB"}, "weather": {"K"}, "season": {"1"}}
    assert header["inputs"][1]["mean"] == [-12.61999374, -19.29044598]
    assert header["config"]["seed"] == 3
    assert weights.keys() == make_model().state_dict().keys()


def test_folder_is_made_and_nothing_else_is_left(path):
    assert [entry.name for entry in path.parent.iterdir()] == ["model.safetensors"]


def save_often(folder):
    for number in range(4):
        save_checkpoint(f"{folder}/{os.getpid()}-{number}", make_model(), {"seed": 3, "dataset": "ben-ge-sim"})


def test_equal_models_are_equal_files_in_every_process(tmp_path):
    save_often(tmp_path)
    code = f"from tests.test_checkpoint import save_often\nsave_often({str(tmp_path)!r})"
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, check=True)
    files = [path.read_bytes() for path in tmp_path.iterdir()]
    assert len(files) == 8 and len(set(files)) == 1


def test_a_failing_save_does_not_destroy_the_old_file(path):
    before = path.read_bytes()
    with pytest.raises(TypeError):
        save_checkpoint(path, make_model(seed=1), {"model": object()})
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"inputs": INPUTS | {"s2": ("B02", "B03", "B04")}}, "inputs"),
        ({"inputs": INPUTS | {"s1": ("VH", "VV")}}, "inputs"),
        ({"inputs": {"s1": INPUTS["s1"], **INPUTS}}, "inputs"),  # the same modalities stacked in another order
        ({"inputs": INPUTS | {"weather": ("wind_u",)}}, "inputs"),
        ({"inputs": INPUTS | {"dem": ()}}, "inputs"),
        ({"inputs": {"s2": S2_BANDS}}, "inputs"),
        ({"classes": ("c", "b", "a")}, "outputs"),
        ({"classes": ("a", "b", "c", "d")}, "outputs"),
        ({"target": "place"}, "outputs"),
        ({"width": 0.125}, "weights"),
        ({"depth": 34}, "weights"),
        ({"fusion": LateFusion}, "weights"),
    ],
    ids=str,
)
def test_another_model_is_refused_and_left_alone(path, change, part):
    model = make_model(seed=1, **change)
    (before,) = states(model)
    with pytest.raises(CheckpointError, match=part) as error:
        load_checkpoint(path, model)
    assert str(path) in str(error.value) and isinstance(error.value, BengeError)
    assert same(before, *states(model))


def test_wrong_band_order_names_both_orders(path):
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(path, make_model(inputs=INPUTS | {"s2": ("B02", "B03", "B04")}))
    assert "['B04', 'B03', 'B02']" in str(error.value) and "['B02', 'B03', 'B04']" in str(error.value)


def test_other_statistics_are_refused(path):
    brighter = replace(MODALITIES["s1"], mean=(-11.0, -18.0))
    model = make_model(inputs=INPUTS | {"s1": brighter})
    with pytest.raises(CheckpointError, match="statistics"):
        load_checkpoint(path, model)


def test_other_units_are_refused(path):
    header, weights = read_checkpoint(path)
    header["inputs"][0]["unit"] = ["digital numbers"] * 3
    save_file(weights, path, metadata={FORMAT: json.dumps(header)})
    with pytest.raises(CheckpointError, match="digital numbers"):
        load_checkpoint(path, make_model())


def test_the_encoder_alone_for_another_task(path):
    model = make_model(seed=1, classes=("x", "y"), target="land_cover_top")
    before = {name: value.clone() for name, value in model.heads.state_dict().items()}
    assert load_checkpoint(path, model, heads=False)["seed"] == 3
    assert same(model.encoder.state_dict(), make_model().encoder.state_dict())
    assert same(before, model.heads.state_dict())


def test_the_encoder_alone_must_fit_as_well(path):
    with pytest.raises(CheckpointError, match="inputs"):
        load_checkpoint(path, make_model(inputs=INPUTS | {"s2": ("B02", "B03", "B04")}), heads=False)
    with pytest.raises(CheckpointError, match="weights"):
        load_checkpoint(path, make_model(width=0.125), heads=False)


def test_missing_weight_is_named(path):
    header, weights = read_checkpoint(path)
    del weights["encoder.resnet.bn1.weight"]
    save_file(weights, path, metadata={FORMAT: json.dumps(header)})
    with pytest.raises(CheckpointError, match=r"encoder\.resnet\.bn1\.weight"):
        load_checkpoint(path, make_model())


@pytest.mark.parametrize("size", [0, 4, 100, -1000, -1])
def test_truncated_file_is_refused(path, size):
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(CheckpointError, match=r"model\.safetensors.*truncated"):
        load_checkpoint(path, make_model())


def test_no_such_file(tmp_path):
    with pytest.raises(CheckpointError, match="save_checkpoint"):
        load_checkpoint(tmp_path / "none.safetensors", make_model())


def test_pickled_files_are_refused_without_being_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    for path, write in (
        (tmp_path / "torch.pt", lambda path: torch.save(make_model().state_dict(), path)),
        (tmp_path / "trap.pt", lambda path: path.write_bytes(pickle.dumps(Trap()))),
    ):
        write(path)
        with pytest.raises(CheckpointError, match="not a readable safetensors file"):
            load_checkpoint(path, make_model())
    assert not (tmp_path / "sprung").exists()


def test_safetensors_of_others_are_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match=FORMAT):
        load_checkpoint(path, make_model())


def test_weights_in_another_memory_layout_are_saved(tmp_path):
    model = make_model().to(memory_format=torch.channels_last)
    save_checkpoint(tmp_path / "x.safetensors", model)
    loaded = make_model(seed=1)
    assert load_checkpoint(tmp_path / "x.safetensors", loaded) == {}
    assert same(*states(loaded, make_model()))


def test_single_precision_statistics_survive_the_text(tmp_path):
    """Names and numbers go through JSON; no rounding may make a model refuse its own checkpoint."""
    model = make_model(inputs={"s2": S2_BANDS, "dem": (), "lonlat": ()})
    save_checkpoint(tmp_path / "x.safetensors", model, {"scores": [float(np.float64(0.1)), None]})
    assert load_checkpoint(tmp_path / "x.safetensors", model)["scores"] == [0.1, None]

import numpy as np
import pandas as pd
import pytest
import rasterio
import torch

from bengelib.__main__ import FAILED, main
from bengelib.data.described import DescribedDataset
from bengelib.engine import predict
from bengelib.errors import BandError, CheckpointError
from bengelib.recipes.supervised import Training, load_model, scores, train

QUICK = {"width": 0.125, "epochs": 1, "batch_size": 8, "precision": "no"}
DESCRIPTION = """
[samples]
table = "samples.csv"
group = "site"
[modalities.optical]
kind = "image"
files = "optical/{id}.tif"
bands = ["red", "nir"]
unit = "1"
[modalities.radar]
kind = "image"
files = "radar/{id}.tif"
bands = ["VV"]
unit = "dB"
[modalities.climate]
kind = "vector"
columns = ["t", "p"]
[targets.crop]
kind = "class"
column = "crop"
classes = ["maize", "wheat"]
[targets.tags]
kind = "labels"
column = "tags"
classes = ["wet", "steep"]
[targets.cover]
kind = "map"
files = "cover/{id}.tif"
classes = { 1 = "low", 2 = "high" }
[targets.height]
kind = "number"
column = "height"
unit = "m"
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Forty samples in ten sites whose class, map and number follow from the images; some labels are missing."""
    root, random = tmp_path_factory.mktemp("supervised") / "fields", np.random.default_rng(0)
    rows = []
    for number in range(40):
        wheat = number % 2
        optical = random.normal(wheat, 0.3, (2, 32, 32)).astype(np.float32)
        radar = random.normal(-15 + 4 * wheat, 1, (1, 32, 32)).astype(np.float32)
        for key, pixels in (("optical", optical), ("radar", radar), ("cover", (optical[:1] > 0.5) + np.uint8(1))):
            (root / key).mkdir(parents=True, exist_ok=True)
            with rasterio.open(
                root / key / f"s{number}.tif",
                "w",
                driver="GTiff",
                count=len(pixels),
                height=32,
                width=32,
                dtype=pixels.dtype,
            ) as file:
                file.write(pixels)
        rows.append(
            {
                "id": f"s{number}",
                "site": f"site {number // 4}",
                "crop": "" if number == 3 else ("maize", "wheat")[wheat],
                "tags": ("wet", "steep", "wet;steep", "")[number % 4],
                "height": "" if number == 5 else 10 * wheat + random.normal(),
                "t": wheat + random.normal(0, 0.3),
                "p": random.normal(),
            }
        )
    pd.DataFrame(rows).to_csv(root / "samples.csv", index=False)
    (root / "dataset.toml").write_text(DESCRIPTION)
    return root


def sides(root, **options):
    return [DescribedDataset(root, side, progress=False, **options) for side in ("train", "val", "test")]


@pytest.mark.parametrize("fusion", ["early", "late"])
def test_all_kinds_of_targets_are_learnt_together_and_read_back(root, tmp_path, fusion):
    out = tmp_path / "model.safetensors"
    command = ["train", "--root", str(root), "--target", "crop", "tags", "cover", "height", "--out", str(out)]
    command += ["--fusion", fusion, "--width", "0.125", "--epochs", "1", "--batch", "8", "--precision", "no"]
    assert main(command) == 0
    network, config = load_model(out)
    assert list(network.outputs) == ["crop", "tags", "cover", "height"] and config["dataset"] == "fields"


@pytest.mark.parametrize("fusion", ["feature", "film", "decision"])
def test_the_other_ways_of_joining(root, fusion):
    data, val, test = sides(root, targets=("crop",))
    network, _ = train(data, val, Training(fusion=fusion, **QUICK), progress=False)
    found = scores(network, test, precision="no")
    assert set(found["crop"]) == {"accuracy", "macro_f1"} and 0 <= found["crop"]["accuracy"].value <= 1


def test_vectors_alone_are_learnt_by_late_fusion(root):
    data, val, test = sides(root, modalities=("climate",), targets=("crop",))
    settings = Training(fusion="late", **{**QUICK, "epochs": 40, "lr": 1e-2})
    network, _ = train(data, val, settings, progress=False)
    assert scores(network, test, precision="no")["crop"]["accuracy"].value > 0.7


def test_scores_are_those_of_numpy(root):
    data, val, test = sides(root, modalities=("optical",), targets=("crop", "height", "cover"))
    network, _ = train(data, val, Training(**QUICK), progress=False)
    found, predicted = scores(network, test, precision="no"), predict(network, test, precision="no")
    truth = predicted.labels["crop"]
    right = predicted.outputs["crop"].argmax(axis=1) == truth
    assert found["crop"]["accuracy"].value == pytest.approx(right[truth != 255].mean())
    errors = np.abs(predicted.outputs["height"] - predicted.labels["height"])
    assert found["height"]["mae"].value == pytest.approx(np.nanmean(errors), rel=1e-5)
    pixels = predicted.outputs["cover"].argmax(axis=1) == predicted.labels["cover"]
    assert found["cover"]["accuracy"].value == pytest.approx(pixels.mean())


def test_evaluate_repeats_what_train_printed(root, tmp_path, capsys):
    out = str(tmp_path / "model.safetensors")
    options = ["--width", "0.125", "--epochs", "1", "--batch", "8", "--precision", "no", "--modalities", "optical"]
    assert main(["train", "--root", str(root), "--target", "crop", "--out", out, *options]) == 0
    trained = capsys.readouterr().out.splitlines()
    assert main(["evaluate", "--root", str(root), "--checkpoint", out, "--batch", "8", "--precision", "no"]) == 0
    assert capsys.readouterr().out.splitlines() == trained[:-1] and trained[-1] == out


def test_an_encoder_of_pretrain_is_a_start(root, tmp_path, capsys):
    encoder, out = str(tmp_path / "encoder.safetensors"), str(tmp_path / "model.safetensors")
    command = ["pretrain", "--root", str(root), "--out", encoder, "--width", "8", "--epochs", "1", "--batch", "8"]
    assert main([*command, "--modalities", "optical", "--precision", "no"]) == 0
    command = ["train", "--root", str(root), "--target", "crop", "--out", out, "--modalities", "optical"]
    command += ["--checkpoint", encoder, "--epochs", "1", "--batch", "8", "--precision", "no"]
    assert main([*command, "--width", "0.125"]) == 0
    capsys.readouterr()
    assert main([*command, "--width", "0.25"]) == FAILED
    assert capsys.readouterr().err.startswith("CheckpointError")


def test_a_model_refuses_other_bands_and_units(root):
    data, val, _ = sides(root, modalities=("optical",), targets=("crop",))
    network, _ = train(data, val, Training(**QUICK), progress=False)
    other = DescribedDataset(root, "test", ("optical",), ("crop",), {"optical": ("nir", "red")}, progress=False)
    with pytest.raises(BandError, match="same order"):
        scores(network, other, precision="no")


def test_what_cannot_be_trained_is_refused(root, tmp_path, capsys):
    out = ["--out", str(tmp_path / "m.safetensors"), "--epochs", "1", "--precision", "no"]
    assert main(["train", "--root", str(root), "--target", "colour", *out]) == FAILED
    assert "unknown targets ['colour']" in capsys.readouterr().err
    assert main(["train", "--root", str(root), "--target", "cover", "--fusion", "feature", *out]) == FAILED
    assert "cover is a map" in capsys.readouterr().err
    assert main(["train", "--root", str(root), "--target", "crop", "--modalities", "climate", *out]) == FAILED
    assert "no image among the inputs" in capsys.readouterr().err
    with pytest.raises(BandError, match="unknown fusion"):
        Training(fusion="middle")
    torch.save({}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError):
        load_model(tmp_path / "other.safetensors")

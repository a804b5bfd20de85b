"""From a `dataset.toml` to a trained network: every encoder, head and view on described data."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bengelib.checkpoint import load_checkpoint, read_checkpoint, save_checkpoint, saved_inputs
from bengelib.data.described import DescribedDataset
from bengelib.engine import Trainer, evaluate, predict, seed_everything
from bengelib.errors import BandError, CheckpointError
from bengelib.fusion import DecisionFusion, EarlyFusion, FeatureFusion, FiLMFusion, LateFusion
from bengelib.heads import ClassificationHead, Network, RegressionHead, SegmentationHead
from bengelib.mae import MaskedAutoencoder, Reconstruction, ViTEncoder
from bengelib.tasks import Classification, Regression, Segmentation
from bengelib.views import Views
from tests.described_folders import CROPS, rewrite, write_crops, write_toml

SMALL = {"width": 0.125}
fit = Trainer(progress=False).fit


@pytest.fixture(scope="module")
def crops(tmp_path_factory) -> Path:
    """Twenty samples with images, weather and labels of three kinds; to be read only."""
    return write_crops(tmp_path_factory.mktemp("data") / "crops")


@pytest.fixture(scope="module")
def train(crops) -> DescribedDataset:
    return DescribedDataset(crops, "train", progress=False)


def heads(encoder: nn.Module, data: DescribedDataset, *names: str) -> dict[str, nn.Module]:
    """A head for each target that is named, by its kind."""
    made: dict[str, nn.Module] = {}
    for name in names:
        target = data.outputs[name]
        if target.kind == "class":
            made[name] = ClassificationHead(encoder.feature_dim, target.classes)
        elif target.kind == "number":
            made[name] = RegressionHead(encoder.feature_dim, 5.0, 3.0)
        else:
            made[name] = SegmentationHead(encoder.channels, target.classes)
    return made


def tasks(data: DescribedDataset, *names: str) -> list:
    kinds = {"class": Classification, "map": Segmentation}
    targets = [data.outputs[name] for name in names]
    return [
        Regression(target.name, 3.0) if target.kind == "number" else kinds[target.kind](target.name, target.classes)
        for target in targets
    ]


def build(data: DescribedDataset, name: str) -> tuple[nn.Module, tuple[str, ...]]:
    """A small network of a kind, and the targets that it answers."""
    images = {key: modality for key, modality in data.inputs.items() if modality.kind == "image"}
    if name == "decision":
        alone = {key: LateFusion({key: modality}, **SMALL) for key, modality in data.inputs.items()}
        networks = {key: Network(encoder, heads(encoder, data, "crop")) for key, encoder in alone.items()}
        return DecisionFusion(networks), ("crop",)
    encoder: nn.Module = {
        "early": lambda: EarlyFusion(data.inputs, **SMALL),
        "image": lambda: EarlyFusion(images, **SMALL),
        "feature": lambda: FeatureFusion(data.inputs, **SMALL),
        "late": lambda: LateFusion(data.inputs, **SMALL),
        "dropout": lambda: LateFusion(data.inputs, modality_dropout=0.3, **SMALL),
        "film": lambda: FiLMFusion(data.inputs, **SMALL),
        "vit": lambda: ViTEncoder(images, patch=4, dim=32, depth=1),
    }[name]()
    targets = ("crop", "harvest", "cover") if hasattr(encoder, "pyramid") else ("crop", "harvest")
    return Network(encoder, heads(encoder, data, *targets)), targets


@pytest.mark.parametrize("name", ["early", "image", "feature", "late", "dropout", "film", "vit", "decision"])
def test_every_encoder_trains_on_described_data(crops, train, name):
    seed_everything(0)
    model, targets = build(train, name)
    before = [value.clone() for value in model.parameters()]
    views = Views(16, scale=(0.5, 1.0))
    history = fit(model, tasks(train, *targets), train, epochs=1, batch_size=6, augment=views)
    assert all(np.isfinite(value) for value in history.rows[-1].values() if isinstance(value, float))
    assert any(not torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True))
    test = DescribedDataset(crops, "test", progress=False)
    figures = evaluate(model, tasks(train, *targets), test)
    assert {name.partition("/")[0] for name in figures} >= set(targets)
    said = predict(model, test).outputs
    shapes = {"crop": (4, 2), "harvest": (4,), "cover": (4, 3, 16, 16)}
    assert {key: value.shape for key, value in said.items()} == {key: shapes[key] for key in targets}


def test_a_masked_autoencoder_reads_described_images(train):
    seed_everything(0)
    data = DescribedDataset(train.root, "train", ("s2",), (), progress=False)
    model = MaskedAutoencoder(ViTEncoder(data.inputs, patch=4, dim=32, depth=1))
    history = fit(model, [Reconstruction()], data, epochs=1, batch_size=8)
    assert np.isfinite(list(history.rows[-1].values())[-1])


POINTS = """
[samples]
table = "points.csv"
group = "block"

[modalities.s1]
kind = "vector"
columns = ["VV", "VH"]
unit = "dB"

[modalities.s2]
kind = "vector"
columns = ["B02", "B03", "B04", "B08"]
unit = "reflectance"
scale = 0.0001

[modalities.climate]
kind = "vector"
columns = ["temperature", "rain"]
unit = ["C", "mm"]

[modalities.elevation]
kind = "scalar"
column = "elevation"
unit = "m"

[targets.cover]
kind = "class"
column = "cover"
classes = ["c0", "c1", "c2", "c3", "c4", "c5"]
"""


def write_points(root: Path, count: int = 900) -> Path:
    """Points in 30 groups, of six classes that no single source tells apart."""
    write_toml(root, POINTS)
    rng = np.random.default_rng(7)
    rows = ["id,block,VV,VH,B02,B03,B04,B08,temperature,rain,elevation,cover"]
    for n in range(count):
        label = int(rng.integers(6))
        radar = rng.normal(-12 + 4 * (label % 2), 1, 2)
        optical = rng.normal(1500 + 900 * (label // 2), 200, 4)
        other = [rng.normal(12, 5), rng.gamma(2, 400), rng.normal(400, 200)]
        values = [f"{value:.3f}" for value in (*radar, *optical, *other)]
        rows.append(",".join([f"q{n}", f"b{n % 30}", *values, f"c{label}" if n % 50 else ""]))
    (root / "points.csv").write_text("\n".join(rows))
    return root


def test_vectors_alone_learn_what_no_one_of_them_tells(tmp_path):
    root = write_points(tmp_path)
    data, test = (DescribedDataset(root, side, progress=False) for side in ("train", "test"))
    scores = {}
    for keys in (("s1",), tuple(data.inputs)):
        seed_everything(0)
        encoder = LateFusion({key: data.inputs[key] for key in keys})
        model = Network(encoder, heads(encoder, data, "cover"))
        fit(model, tasks(data, "cover"), data, epochs=12, batch_size=64, lr=1e-2)
        scores[keys] = evaluate(model, tasks(data, "cover"), test)["cover/accuracy"]
    assert scores["s1",] < 0.5 and scores["s1", "s2", "climate", "elevation"] > 0.85


def test_a_checkpoint_says_what_the_model_reads(tmp_path, crops, train):
    seed_everything(0)
    model, targets = build(train, "late")
    fit(model, tasks(train, *targets), train, epochs=1, batch_size=6)
    save_checkpoint(tmp_path / "m.safetensors", model, {"epochs": 1})
    header, _ = read_checkpoint(tmp_path / "m.safetensors")
    inputs = saved_inputs(header)
    assert inputs == train.inputs and inputs["s2"].mean == train.inputs["s2"].mean
    encoder = LateFusion(inputs, **SMALL)
    again = Network(encoder, heads(encoder, train, *targets))
    assert load_checkpoint(tmp_path / "m.safetensors", again) == {"epochs": 1}
    test = DescribedDataset(crops, "test", progress=False)
    one, other = (predict(network, test).outputs for network in (model, again))
    for key, values in one.items():
        np.testing.assert_allclose(values, other[key], rtol=1e-4, atol=1e-5)
    shifted = replace(inputs["s2"], mean=tuple(value + 0.1 for value in inputs["s2"].mean))
    encoder = LateFusion({**inputs, "s2": shifted}, **SMALL)
    with pytest.raises(CheckpointError, match=r"its statistics are"):
        load_checkpoint(tmp_path / "m.safetensors", Network(encoder, heads(encoder, train, *targets)))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"B02", "B03"', '"B03", "B02"', r"reads s2 as image of \('B02', 'B03', .* gives image of \('B03', 'B02'"),
        (', "B08"]\nunit', "]\nlayers = [1, 2, 3]\nunit", r"gives image of \('B02', 'B03', 'B04'\)"),
        ('unit = "reflectance"', 'unit = "radiance"', r"band B02 of s2 in 'reflectance', .* gives it in 'radiance'"),
        ('"mm", "K"', '"mm", "C"', r"band heat of weather in 'K', .* gives it in 'C'"),
        ('"rain", "heat"', '"heat", "rain"', r"reads weather as vector of \('rain', 'heat'\)"),
    ],
)
def test_a_model_refuses_data_of_other_bands_order_or_units(tmp_path, train, old, new, words):
    root = write_crops(tmp_path, toml=CROPS)
    rewrite(root, old, new)
    other = DescribedDataset(root, "train", progress=False)
    model, targets = build(train, "late")
    for use in (
        lambda: fit(model, tasks(train, *targets), other, epochs=1),
        lambda: evaluate(model, tasks(train, *targets), other),
        lambda: predict(model, other),
    ):
        with pytest.raises(BandError, match=words):
            use()


def test_images_of_different_sizes_are_joined_late_or_given_one_size(tmp_path):
    root = write_crops(tmp_path, 6)
    second = '[modalities.radar]\nkind = "image"\nfiles = "images/{id}.tif"\nbands = ["B02"]\nsize = 8\n'
    rewrite(root, "[modalities.weather]", second + "[modalities.weather]")
    data = DescribedDataset(root, progress=False)
    for encoder in (EarlyFusion, FeatureFusion, FiLMFusion):
        with pytest.raises(BandError, match=r"different sizes .*\{'s2': 16, 'radar': 8\}; state size = 16 of each"):
            encoder(data.inputs)
    late = LateFusion(data.inputs, **SMALL)
    assert late(data.decode(data.read_batch([0, 1]))).shape == (2, late.feature_dim)
    with pytest.raises(BandError, match="different sizes"):
        late.pyramid(data.decode(data.read_batch([0, 1])))
    rewrite(root, "size = 8", "size = 16")
    data = DescribedDataset(root, progress=False)
    early = EarlyFusion(data.inputs, **SMALL)
    assert early(data.decode(data.read_batch([0, 1]))).shape == (2, early.feature_dim)

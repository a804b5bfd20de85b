"""Networks for any targets of described data: every fusion, scores against other code, and what is refused."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics
import torch
from rasterio.transform import from_origin

from bengelib.checkpoint import save_checkpoint
from bengelib.data.described import DescribedDataset
from bengelib.data.loading import load
from bengelib.engine import predict
from bengelib.errors import ArgumentError, BandError, CheckpointError, DataWarning, DescriptionError, SplitError
from bengelib.fusion import EarlyFusion
from bengelib.heads import Network
from bengelib.recipes.supervised import (
    Training,
    build_network,
    check_data,
    check_labels,
    check_sizes,
    load_model,
    save_model,
    saved_targets,
    scores,
    train,
    warn_of_classes,
)
from tests.described_folders import CROPS, rewrite, write_crops, write_picture, write_tif

QUICK = Training(width=0.125, epochs=1, batch_size=16, precision="no")
TAGS = """
[targets.tags]
kind = "labels"
column = "tags"
classes = ["dry", "late", "steep"]
"""
COUNT = 60


def write_fields(root: Path, count: int = COUNT) -> Path:
    """The crops of `tests.described_folders` with several labels a sample beside; some labels are missing."""
    write_crops(root, count, CROPS.replace("scale = 0.0001", "scale = 0.00002\noffset = 0.0") + TAGS)
    lines = (root / "samples.csv").read_text().splitlines()
    for sample in range(count):
        tags = ";".join(name for place, name in enumerate(("dry", "late", "steep")) if sample >> place & 1)
        cells = lines[sample + 1].split(",")
        if sample % 9 == 4:
            cells[2] = ""
            tags = ""
        lines[sample + 1] = ",".join([*cells, tags])
    (root / "samples.csv").write_text("\n".join([lines[0] + ",tags", *lines[1:]]))
    (root / "cover" / "p5.png").unlink()
    return root


@pytest.fixture(scope="module")
def fields(tmp_path_factory):
    return write_fields(tmp_path_factory.mktemp("supervised") / "fields")


def sides(root, targets, modalities=None, **options):
    return [
        DescribedDataset(root, side, modalities, targets, progress=False, **options)
        for side in ("train", "val", "test")
    ]


SCORES = {"crop": {"accuracy", "macro_f1"}, "tags": {"map"}, "cover": {"mean_iou", "accuracy"}, "harvest": {"mae"}}
CASES = [
    *((fusion, (target,)) for fusion in ("early", "late") for target in SCORES),
    *((fusion, ("crop", "tags", "cover", "harvest")) for fusion in ("early", "feature", "late")),
    ("film", ("crop", "tags", "harvest")),
    ("decision", ("crop", "tags")),
]


@pytest.mark.parametrize(("fusion", "targets"), CASES)
def test_every_fusion_learns_every_kind_of_target(fields, tmp_path, fusion, targets):
    data, val, test = sides(fields, targets)
    settings = replace(QUICK, fusion=fusion, crop=12 if targets == ("crop",) else None)
    network, history = train(data, val, settings, progress=False)
    assert all(f"val/{name}/{score}" in history.rows[-1] for name in targets for score in SCORES[name])
    found = scores(network, test, precision="no")
    assert list(found) == list(targets) and all(set(found[name]) == SCORES[name] for name in targets)
    for each in found.values():
        assert all(value.low <= value.value <= value.high for value in each.values())
    save_model(tmp_path / "model", network, settings, data.outputs)
    again, config = load_model(tmp_path / "model")
    check_data(again, config, test)
    assert list(saved_targets(config)) == list(targets)
    for name, each in scores(again, test, precision="no").items():
        for score, value in each.items():
            assert tuple(value) == pytest.approx(tuple(found[name][score]), rel=1e-4)


def test_vectors_alone_by_late_fusion_and_what_they_cannot(fields):
    data, val, test = sides(fields, ("crop",), ("weather",))
    network, _ = train(data, val, replace(QUICK, fusion="late"), progress=False)
    assert set(scores(network, test)) == {"crop"}
    for fusion in ("early", "feature", "film"):
        with pytest.raises(BandError, match=f"{fusion} fusion needs an image.*choose late"):
            train(data, val, replace(QUICK, fusion=fusion), progress=False)
    maps = sides(fields, ("cover",), ("weather",))
    with pytest.raises(BandError, match="cover is a map"):
        train(*maps[:2], replace(QUICK, fusion="late"), progress=False)


def test_what_a_fusion_cannot_give_is_refused(fields):
    data, val, _ = sides(fields, ("crop", "cover", "harvest"))
    for fusion, words in (
        ("film", "cover is a map"),
        ("decision", "'cover', 'harvest'"),
    ):
        with pytest.raises(BandError, match=words):
            train(data, val, replace(QUICK, fusion=fusion), progress=False)
    with pytest.raises(BandError, match="no target"):
        build_network(data.inputs, {}, QUICK, {})


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"fusion": "middle"}, "unknown fusion 'middle'"), ({"epochs": 0}, "epochs=0"), ({"batch_size": 2.5}, "2.5"),
        ({"lr": 0}, "lr=0"), ({"crop": 0}, "crop=0"), ({"seed": -1}, "seed=-1"), ({"modality_dropout": 1}, "share"),
        ({"fusion": "decision", "modality_dropout": 0.5}, "decision fusion"),
    ],
)  # fmt: skip
def test_settings_are_checked_at_once(wrong, words):
    with pytest.raises(ArgumentError, match=words):
        replace(QUICK, **wrong)


def test_the_same_seed_gives_the_same_network(fields):
    data, val, _ = sides(fields, ("crop",))
    one, two, other = (train(data, val, replace(QUICK, seed=seed), progress=False)[0] for seed in (0, 0, 1))
    states = [network.state_dict() for network in (one, two, other)]
    assert all(torch.equal(states[0][name], value) for name, value in states[1].items())
    assert not all(torch.equal(states[0][name], value) for name, value in states[2].items())


# --------------------------------------------------------------------------------------------------------------- scores


def test_scores_are_those_of_scikit_learn(fields):
    data, _, test = sides(fields, tuple(SCORES), scheme="study")
    network, _ = train(data, None, QUICK, progress=False)
    found = scores(network, test, precision="no")
    said = predict(network, test, precision="no")
    labels, outputs = said.labels, said.outputs

    known = labels["crop"] != 255
    assert 0 < known.sum() < len(known)
    truth, answer = labels["crop"][known], outputs["crop"][known].argmax(axis=1)
    assert found["crop"]["accuracy"].value == pytest.approx(sklearn.metrics.accuracy_score(truth, answer))
    counted = [place for place in range(2) if (truth == place).sum() >= 5]
    f1 = sklearn.metrics.f1_score(truth, answer, labels=counted, average="macro", zero_division=0)
    assert found["crop"].get("macro_f1", (f1,))[0] == pytest.approx(f1)

    known = np.isfinite(labels["harvest"])
    error = np.abs(labels["harvest"] - outputs["harvest"])[known].mean()
    assert found["harvest"]["mae"].value == pytest.approx(error, rel=1e-5)

    known = np.isfinite(labels["tags"]).all(axis=1)
    truth, answer = labels["tags"][known], outputs["tags"][known]
    columns = [place for place in range(3) if truth[:, place].sum() >= 5]
    precision = sklearn.metrics.average_precision_score(truth[:, columns], answer[:, columns], average="macro")
    assert found["tags"].get("map", (precision,))[0] == pytest.approx(precision)

    known = labels["cover"] != 255
    truth, answer = labels["cover"][known], outputs["cover"].argmax(axis=1)[known]
    assert found["cover"]["accuracy"].value == pytest.approx((truth == answer).mean())
    iou = sklearn.metrics.jaccard_score(truth, answer, labels=np.unique(truth), average="macro", zero_division=0)
    assert found["cover"]["mean_iou"].value == pytest.approx(iou)


def test_intervals_are_over_groups(fields, monkeypatch):
    data, _, test = sides(fields, ("crop",))
    network, _ = train(data, None, QUICK, progress=False)
    seen = []
    module = __import__("bengelib.recipes.supervised", fromlist=["bootstrap"])
    monkeypatch.setattr(module, "bootstrap", lambda *_, groups, **__: seen.append(groups))
    scores(network, test)
    assert len(seen[0]) == (test.table("crop") != 255).sum() and set(seen[0]) <= set(test.groups)


def test_a_class_that_the_test_side_does_not_have(fields, tmp_path):
    root = write_fields(tmp_path / "fields")
    rewrite(root, 'classes = ["maize", "wheat"]', 'classes = ["maize", "wheat", "rye"]')
    data, val, test = sides(root, ("crop",))
    network, _ = train(data, val, QUICK, progress=False)
    assert 0 <= scores(network, test)["crop"]["accuracy"].value <= 1


def test_means_over_classes_need_five_samples(tmp_path):
    root = write_fields(tmp_path / "fields", 10)
    data, _, test = sides(root, ("crop", "tags"), scheme="study")
    network, _ = train(data, None, QUICK, progress=False)
    found = scores(network, test)
    assert set(found["crop"]) == {"accuracy"} and found["tags"] == {}


# ------------------------------------------------------------------------------------------------------------- refusals


def test_sides_without_labels(tmp_path):
    root = write_fields(tmp_path / "fields")
    lines = (root / "samples.csv").read_text().splitlines()
    test = set(DescribedDataset(root, "test", progress=False).patch_ids)
    rows = [line.split(",") for line in lines]
    for row in rows[1:]:
        if row[0] in test:
            row[2] = row[3] = row[6] = ""
    (root / "samples.csv").write_text("\n".join(map(",".join, rows)))
    for target in ("crop", "harvest", "tags"):
        with pytest.raises(
            SplitError, match=f"fields: none of the 12 samples of the test side has a label of {target}"
        ):
            check_labels(DescribedDataset(root, "test", targets=(target,), progress=False), "test")
    for row in rows[1:]:
        row[2], row[3], row[6] = "maize", "1.5", "dry"
    (root / "samples.csv").write_text("\n".join(map(",".join, rows)))
    for target in ("crop", "harvest", "tags"):
        data, val, _ = sides(root, (target,))
        with pytest.raises(SplitError, match=f"fields: the training labels of {target} are all the same"):
            train(data, val, QUICK, progress=False)


def test_maps_without_a_label_or_with_one_class_alone(tmp_path):
    root = write_fields(tmp_path / "fields")
    for code, words in ((0, "none of the 12 samples of the test side has a label of cover"), (10, "")):
        for sample in DescribedDataset(root, "test", progress=False).patch_ids:
            write_picture(root / "cover" / f"{sample}.png", np.full((16, 16), code, np.uint8))
        test = DescribedDataset(root, "test", targets=("cover",), progress=False)
        if words:
            with pytest.raises(SplitError, match=words):
                check_labels(test, "test")
        else:
            check_labels(test, "test")
            assert test.classes_seen("cover") == {0}
    for sample in range(COUNT):
        write_picture(root / "cover" / f"p{sample}.png", np.full((16, 16), 20, np.uint8))
    with pytest.raises(SplitError, match="training labels of the pixels of cover are all the same"):
        train(*sides(root, ("cover",))[:2], QUICK, progress=False)


def test_a_class_that_no_training_sample_has_is_told(fields):
    data, _, test = sides(fields, ("crop",))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_classes(data, test)
        data._tables["crop"] = torch.ones_like(data._tables["crop"])
        with pytest.raises(DataWarning, match="no training sample has the crop maize, and test samples have"):
            warn_of_classes(data, test)


def test_images_of_other_sizes(tmp_path):
    root = write_fields(tmp_path / "fields")
    half = {"transform": from_origin(400_000, 5_000_000, 20, 20)}  # the resolution, on the same ground
    for sample in range(COUNT):
        write_tif(root / "dem" / f"p{sample}.tif", np.arange(64, dtype=np.int16).reshape(8, 8) + sample, **half)
    dem = '\n[modalities.dem]\nkind = "image"\nfiles = "dem/{id}.tif"\nbands = ["dem"]\nunit = "m"\n'
    (root / "dataset.toml").write_text((root / "dataset.toml").read_text() + dem)
    data = DescribedDataset(root, "train", progress=False, targets=("crop",))
    for fusion in ("early", "feature", "film"):
        with pytest.raises(DescriptionError, match=r"dem has 8 x 8 .* size = 16 in \[modalities.dem\].*choose late"):
            train(data, None, replace(QUICK, fusion=fusion), progress=False)
    train(data, None, replace(QUICK, fusion="late"), progress=False)
    for options in ({"targets": ("cover",)}, {"targets": ("crop",), "modalities": ("s2", "dem")}):
        data = DescribedDataset(root, "train", progress=False, **options)
        with pytest.raises(DescriptionError, match="dem has 8 x 8"):
            check_sizes(data, "late", crop=8)
    rewrite(root, 'unit = "m"', 'unit = "m"\nsize = 16')
    train(DescribedDataset(root, "train", progress=False, targets=("cover",)), None, QUICK, progress=False)
    for sample in range(COUNT):
        write_picture(root / "cover" / f"p{sample}.png", np.full((8, 8), 10 + 10 * (sample % 3), np.uint8))
    with pytest.raises(DescriptionError, match=r"size = 16 in \[targets.cover\]"):
        check_sizes(DescribedDataset(root, "train", progress=False), "late")


def test_images_that_are_no_squares_are_not_turned(tmp_path):
    root = write_fields(tmp_path / "fields")
    for sample in range(COUNT):
        write_tif(
            root / "images" / f"p{sample}.tif", np.arange(4 * 12 * 20, dtype=np.uint16).reshape(4, 12, 20) + sample
        )
    data, val, test = sides(root, ("crop",))
    network, _ = train(data, val, QUICK, progress=False)
    assert scores(network, test)["crop"]


def test_an_encoder_to_start_from(fields, tmp_path):
    data, val, _ = sides(fields, ("crop",))
    encoder = EarlyFusion(data.inputs, width=0.125)
    save_checkpoint(tmp_path / "encoder", Network(encoder, {}))
    started = build_network(data.inputs, data.outputs, QUICK, {})
    seen = []
    module = __import__("bengelib.recipes.supervised", fromlist=["Trainer"])

    class Spy(module.Trainer):
        def fit(self, network, *args, **options):
            seen.append({name: value.clone() for name, value in network.encoder.state_dict().items()})
            return super().fit(network, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "Trainer", Spy)
        train(data, val, QUICK, start=tmp_path / "encoder", progress=False)
    assert all(torch.equal(seen[0][name], value) for name, value in encoder.state_dict().items())
    assert not torch.equal(started.encoder.resnet.conv1.weight, encoder.resnet.conv1.weight)
    with pytest.raises(CheckpointError, match="same encoder, depth and width"):
        train(data, val, replace(QUICK, width=0.25), start=tmp_path / "encoder", progress=False)
    with pytest.raises(CheckpointError, match="does not fit"):
        train(*sides(fields, ("crop",), ("s2",))[:2], QUICK, start=tmp_path / "encoder", progress=False)
    with pytest.raises(CheckpointError, match="no single encoder"):
        train(data, val, replace(QUICK, fusion="decision"), start=tmp_path / "encoder", progress=False)
    with pytest.raises(CheckpointError, match="did not write it"):
        load_model(tmp_path / "encoder")


def test_an_encoder_of_another_folder_keeps_its_statistics(fields, tmp_path):
    data, val, test = sides(fields, ("crop",), ("s2",))
    s2 = data.inputs["s2"]
    other = replace(s2, mean=tuple(2 * mean for mean in s2.mean), std=tuple(1.5 * std for std in s2.std), size=99)
    save_checkpoint(tmp_path / "encoder", Network(EarlyFusion({"s2": other}, width=0.125), {}))
    network, _ = train(data, val, QUICK, start=tmp_path / "encoder", progress=False)
    assert network.inputs["s2"] == other and network.inputs["s2"].size == s2.size
    assert scores(network, test, precision="no")["crop"]
    for wrong, error in (
        (replace(s2, mean=tuple(1e4 * mean for mean in s2.mean), std=tuple(1e4 * std for std in s2.std)), "the scale"),
        (replace(s2, unit=("dB",) * 4), "'dB'"),
        (replace(s2, bands=s2.bands[::-1]), "B08"),
    ):
        save_checkpoint(tmp_path / "encoder", Network(EarlyFusion({"s2": wrong}, width=0.125), {}))
        with pytest.raises(BandError, match=error):
            train(data, val, QUICK, start=tmp_path / "encoder", progress=False)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('bands = ["B02", "B03", "B04", "B08"]', 'bands = ["B03", "B02", "B04", "B08"]', "B03"),
        ('bands = ["B02", "B03", "B04", "B08"]', 'bands = ["B02", "B03", "B04"]\nlayers = [1, 2, 3]', "B04"),
        ('unit = "reflectance"', 'unit = "per cent"', "'per cent'"),
        ("scale = 0.00002", "scale = 0.02", "state the scale"),
        ("offset = 0.0", "offset = 5000.0", "state the scale"),
        ('unit = ["mm", "K"]', 'unit = ["mm", "C"]', "'C'"),
        ('columns = ["rain", "heat"]', 'columns = ["heat", "rain"]', "'heat', 'rain'"),
        ('classes = ["maize", "wheat"]', 'classes = ["wheat", "maize"]', "'wheat', 'maize'"),
        ('unit = "t/ha"', 'unit = "kg/ha"', "'kg/ha'"),
        ('20 = "wood"', '20 = "forest"', "'forest'"),
    ],
)
def test_a_model_refuses_other_data(fields, tmp_path, old, new, words):
    data = DescribedDataset(fields, "train", progress=False)
    network = build_network(data.inputs, data.outputs, QUICK, {"harvest": (1.0, 1.0)})
    config = {"outputs": [vars(target) for target in data.outputs.values()]}
    root = write_fields(tmp_path / "fields", 20)
    check_data(network, config, DescribedDataset(root, progress=False))
    if "scale" in new or "offset" in new:
        rewrite(root, 'unit = "reflectance"', 'unit = ""')
        network.inputs["s2"] = replace(network.inputs["s2"], unit=("",) * 4)
    if new.startswith('bands = ["B03"'):
        for path in (root / "images").glob("*.tif"):
            write_tif(path, np.arange(4 * 256, dtype=np.uint16).reshape(4, 16, 16) + 300)
    rewrite(root, old, new)
    with pytest.raises(BandError) as error:
        check_data(network, config, DescribedDataset(root, progress=False))
    assert words in str(error.value)


def test_pixels_of_different_size_on_the_ground_are_not_joined_one_by_one(tmp_path):
    """As many pixels of 10 m and of 30 m in one sample, read from files and from their pack."""
    s1 = '[modalities.s1]\nkind = "image"\nfiles = "s1/{id}.tif"\nbands = ["slope"]\n\n'
    root = write_crops(tmp_path / "crops", 10, CROPS.replace("[targets.crop]", f"{s1}[targets.crop]"))
    for sample in range(10):
        pixels = np.full((1, 16, 16), sample, np.uint8)
        write_tif(root / "s1" / f"p{sample}.tif", pixels, transform=from_origin(399_900, 5_000_100, 30, 30))
    for pack in (False, True):
        if pack:
            load(root, progress=False)
        data = DescribedDataset(root, None, ("s2", "s1"), ("crop",), progress=False)
        with pytest.raises(
            DescriptionError,
            match=r"crops: a sample of s2 shows 160 x 160 m .* one of s1 480 x 480 m.*choose late fusion",
        ):
            check_sizes(data, "early")
        check_sizes(data, "late")
        pictures = DescribedDataset(root, None, ("s2",), ("cover",), progress=False)  # PNG does not say
        check_sizes(pictures, "early")

"""`describe`, `train` and `evaluate` as they are typed, alone and together with `pretrain` and `probe`."""

import json
import re
from importlib import import_module

import numpy as np
import pytest

from bengelib.__main__ import FUSIONS, main
from bengelib.checkpoint import read_checkpoint
from bengelib.cli.supervised import inputs_of, print_scores
from bengelib.data.dataset import BENGE
from bengelib.errors import DataWarning
from bengelib.intervals import Interval
from bengelib.modalities import Target
from bengelib.recipes import supervised
from bengelib.sim.simulate import simulate
from tests import fake_tree as fake
from tests.cli.test_commands import refused
from tests.described_folders import CROPS, rewrite, write_crops, write_tif
from tests.points import write_points
from tests.recipes.test_supervised import write_fields

SMALL = ["--width", "8", "--epochs", "1", "--precision", "no"]


def run(capsys, *arguments):
    """Standard output of a command that has to succeed."""
    status = main([str(argument) for argument in arguments])
    shown = capsys.readouterr()
    assert status == 0, shown.err
    return shown.out


def fails(capsys, *arguments, words=()):
    """A command that has to fail with one line that has the words."""
    assert main([str(argument) for argument in arguments]) == 2
    fine, error = refused(capsys, *words)
    assert fine and "(unexpected;" not in error, error


@pytest.fixture(scope="module")
def fields(tmp_path_factory):
    """Forty samples with images, a vector, and a target of each kind. To be read only."""
    return write_fields(tmp_path_factory.mktemp("cli") / "fields")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Twenty fake patches of ben-ge, in every fold. To be read only."""
    return fake.write_fake_tree(tmp_path_factory.mktemp("trees") / "ben-ge-fake", 20)


# ------------------------------------------------------------------------------------------------------ three commands


def write_thirteen_bands(root, patches: int = 8, side: int = 24, classes: int = 3):
    """Chips of simulated patches as GeoTIFFs of 13 bands in the order of EuroSAT, in folders of their land cover."""
    data = BENGE(
        simulate(root.parent / "sim", patches, sampling="natural", progress=False), None, ("s2",), ("land_cover",)
    )
    chips: dict[int, list[np.ndarray]] = {}
    for sample in data:
        numbers = (sample["s2"].numpy() * 10_000).clip(0).round().astype(np.uint16)
        cover = sample["land_cover"].numpy()
        for row in range(0, 120, side):
            for column in range(0, 120, side):
                window = np.s_[row : row + side, column : column + side]
                label = int(np.bincount(cover[window].ravel(), minlength=256)[:255].argmax())
                image = numbers[:, *window]
                b8a, cirrus = image[8:9], image[9:10] // 100 + 5
                chips.setdefault(label, []).append(np.concatenate([image[:8], image[9:10], cirrus, image[10:], b8a]))
    often = sorted(chips, key=lambda label: -len(chips[label]))[:classes]
    for label in often:
        for number, image in enumerate(chips[label][:40]):
            name = f"class{label}"
            write_tif(root / name / f"{name}_{number}.tif", image)
    return root


def test_three_commands_from_a_folder_to_a_figure(tmp_path, capsys):
    root = write_thirteen_bands(tmp_path / "chips of 13 bands")
    encoder, rows, figure = tmp_path / "encoder.safetensors", tmp_path / "rows.json", tmp_path / "curve.png"
    shown = run(capsys, "describe", "--root", root)
    assert "taken for the cirrus band B10" in shown and "TO DECIDE" not in shown
    run(capsys, "pretrain", "--root", root, "--out", encoder, "--width", 8, "--epochs", 1, "--batch-size", 32,
        "--precision", "no")  # fmt: skip
    shown = run(capsys, "probe", "--root", root, "--checkpoint", encoder, "--fractions", 0.2, 1, "--out", rows,
                "--figure", figure, "--steps", 3, "--tta", 1, "--precision", "no")  # fmt: skip
    assert shown.split("\n")[:2] == [str(rows), str(figure)]
    found = json.loads(rows.read_text())
    assert [(row["mode"], row["fraction"]) for row in found] == [
        (mode, fraction) for fraction in (0.2, 1) for mode in ("frozen", "finetune", "scratch")
    ]
    assert found[3]["accuracy"] > 0.5  # land cover shows in the bands
    assert figure.read_bytes().startswith(b"\x89PNG") and not list(tmp_path.glob(".*"))
    model = tmp_path / "model.safetensors"
    shown = run(capsys, "train", "--root", root, "--target", "label", "--checkpoint", encoder, "--out", model, *SMALL)
    assert re.match(r"label accuracy 0\.\d{3} \[", shown)
    assert shown == run(capsys, "evaluate", "--root", root, "--checkpoint", model, "--precision", "no") + f"{model}\n"


# -------------------------------------------------------------------------------------------------------- points alone


def test_a_table_of_points_by_late_fusion(tmp_path, capsys):
    write_points(tmp_path / "points" / "points.csv", 3000, 60)
    shown = run(capsys, "describe", "--root", tmp_path / "points")
    assert "TO DECIDE" not in shown and "60 groups" in shown
    for key in ("s1", "s2", "climate", "elevation"):
        assert f"taken for the vector {key}\n" in shown
    assert inputs_of(tmp_path / "points") == ("s2", "s1", "climate", "elevation")
    model = tmp_path / "model.safetensors"
    out = run(capsys, "train", "--root", tmp_path / "points", "--target", "label", "--fusion", "late", "--out", model,
              "--epochs", 8, "--precision", "no")  # fmt: skip
    score, low, high = map(float, re.match(r"label accuracy ([\d.]+) \[([\d.]+), ([\d.]+)\]", out).groups())
    assert score > 0.65 and low > 0.5 and high < 1  # chance is 1 in 6
    assert run(capsys, "evaluate", "--root", tmp_path / "points", "--checkpoint", model, "--precision", "no") in out
    fails(capsys, "train", "--root", tmp_path / "points", "--target", "label", "--out", model,
          words=("early fusion needs an image", "choose late"))  # fmt: skip


# ---------------------------------------------------------------------------------------------------- train, evaluate


def test_several_targets_of_every_kind(fields, tmp_path, capsys):
    model = tmp_path / "new" / "model.safetensors"
    command = ["train", "--root", fields, "--target", "crop", "tags", "cover", "harvest", "--out", model, *SMALL]
    out = run(capsys, *command)
    lines = out.splitlines()
    assert lines[-1] == str(model)
    names = [line.split(" [")[0].rpartition(" ")[0] for line in lines[:-1]]
    assert names[:1] + names[-3:] == ["crop accuracy", "cover mean_iou", "cover accuracy", "harvest mae"]
    assert lines[-2].endswith("] t/ha")
    again = run(capsys, "evaluate", "--root", fields, "--checkpoint", model, "--precision", "no")
    assert again.splitlines() == lines[:-1]
    config = read_checkpoint(model)[0]["config"]
    assert config["modalities"] == ["s2", "weather"] and config["settings"]["fusion"] == "early"
    assert config["scores"]["harvest"]["mae"][0] > 0


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_fusion_on_ben_ge(tree, tmp_path, capsys, fusion):
    model = tmp_path / "model.safetensors"
    command = ["train", "--root", tree, "--target", "climate_zone", "--fusion", fusion, "--out", model, *SMALL]
    keys = ["s2", "season"] if fusion == "film" else ["s2", "s1"]
    out = run(capsys, *command, "--crop", 32, "--modalities", *keys)
    assert out.startswith("climate_zone accuracy")
    assert run(capsys, "evaluate", "--root", tree, "--checkpoint", model, "--precision", "no") in out
    assert read_checkpoint(model)[0]["config"]["modalities"] == keys


def test_maps_labels_and_numbers_of_ben_ge_on_a_blocked_split(tree, tmp_path, capsys):
    model = tmp_path / "model.safetensors"
    given = ["--target", "land_cover", "corine", "season", "--scheme", "blocked", "--fold", 3, "--crop", 32]
    out = run(capsys, "train", "--root", tree, *given, "--out", model, *SMALL)
    assert "land_cover mean_iou" in out and "season mae" in out
    config = read_checkpoint(model)[0]["config"]
    assert (config["modalities"], config["scheme"], config["fold"]) == (["s2", "s1"], "blocked", 3)
    assert run(capsys, "evaluate", "--root", tree, "--checkpoint", model, "--precision", "no") in out


@pytest.mark.parametrize(("method", "fusion"), [("simclr", "early"), ("cross-modal", "late")])
def test_from_a_pretrained_encoder(tree, tmp_path, capsys, method, fusion):
    encoder = tmp_path / "encoder.safetensors"
    run(capsys, "pretrain", "--root", tree, "--method", method, "--out", encoder, "--width", 8, "--epochs", 1,
        "--size", 32, "--batch-size", 8, "--precision", "no")  # fmt: skip
    command = ["train", "--root", tree, "--target", "climate_zone", "--fusion", fusion, "--checkpoint", encoder]
    command += ["--scheme", "blocked", "--crop", 32, "--out", tmp_path / "model"]
    run(capsys, *command, *SMALL[2:])  # as deep and wide as the encoder
    fails(capsys, *command, "--width", 16, "--epochs", 1, words=("CheckpointError", "same encoder, depth and width"))
    fails(capsys, *command, *SMALL, "--modalities", "s2", words=("CheckpointError", "s1"))


def test_an_encoder_of_images_in_another_folder_that_has_vectors_too(fields, tmp_path, capsys):
    """The encoder says what is read, and its statistics travel; data of another scale are refused, by the probe too."""
    unlabelled = write_fields(tmp_path / "more", 44)
    encoder = tmp_path / "encoder.safetensors"
    run(capsys, "pretrain", "--root", unlabelled, "--out", encoder, "--width", 8, "--epochs", 1, "--batch", 8,
        "--precision", "no")  # fmt: skip
    model = tmp_path / "model"
    command = ["train", "--root", fields, "--target", "crop", "--checkpoint", encoder, "--out", model, *SMALL]
    run(capsys, *command)
    header = read_checkpoint(model)[0]
    assert header["config"]["modalities"] == ["s2"]
    assert header["inputs"] == read_checkpoint(encoder)[0]["inputs"]
    run(capsys, *command[:5], "--checkpoint", model, "--out", tmp_path / "again", *SMALL[2:])  # a model is a start too
    assert read_checkpoint(tmp_path / "again")[0]["config"]["settings"]["width"] == 0.125
    fails(capsys, *command, "--modalities", "weather", words=("CheckpointError", "--modalities s2"))
    rewrite(unlabelled, "scale = 0.00002", "scale = 0.00000002")
    probe = ["probe", "--root", unlabelled, "--checkpoint", encoder, "--target", "crop", "--out", tmp_path / "rows"]
    fails(capsys, *probe, words=("BandError", "state the scale"))


def test_a_split_without_a_validation_side(tmp_path, capsys):
    root = write_fields(tmp_path / "crops", 20)
    rewrite(root, 'group = "site"', 'split = "side"')
    lines = (root / "samples.csv").read_text().splitlines()
    sides = ["side", *("test" if number % 4 == 0 else "train" for number in range(20))]
    (root / "samples.csv").write_text("\n".join(f"{line},{side}" for line, side in zip(lines, sides, strict=True)))
    with pytest.warns(UserWarning, match="The weights of the last epoch are kept"):
        run(capsys, "train", "--root", root, "--target", "crop", "--out", tmp_path / "model", *SMALL)


def test_places_are_read_only_where_they_are_named_or_alone(tmp_path):
    toml = CROPS.replace('columns = ["rain", "heat"]', 'columns = ["rain", "heat"]\nbands = ["longitude", "latitude"]')
    root = write_crops(tmp_path / "crops", 4, toml)
    assert inputs_of(root) == ("s2",)  # whatever its name
    (root / "dataset.toml").write_text(toml.partition("[modalities.s2]")[0] + toml[toml.index("[modalities.w") :])
    assert inputs_of(root) == ("weather",)
    assert inputs_of(tmp_path) == ("s2", "s1")  # of ben-ge


def test_scores_are_printed_with_their_unit(capsys):
    found = {"depth": {"mae": Interval(0.0001234, 0.0001, 123456.0)}, "kind": {"accuracy": Interval(0.5, 0.25, 0.75)}}
    print_scores(found, {"depth": Target("depth", "number", unit="m"), "kind": Target("kind", "class", ("a", "b"))})
    assert capsys.readouterr().out.splitlines() == [
        "depth mae 0.0001234 [0.0001, 1.235e+05] m", "kind accuracy 0.500 [0.250, 0.750]"]  # fmt: skip


def test_the_command_line_knows_the_fusions():
    assert (*supervised.FUSIONS, "decision") == FUSIONS


# --------------------------------------------------------------------------------------------------------------- faults


def test_what_cannot_be_trained_is_one_line(fields, tmp_path, capsys):
    out = ["--out", tmp_path / "model", *SMALL]
    fails(capsys, "train", "--root", fields, "--target", "rain", *out, words=("BandError", "'rain'", "'crop'"))
    fails(capsys, "train", "--root", fields, "--target", "crop", "--modalities", "s3", *out, words=("'s3'", "'s2'"))
    fails(capsys, "train", "--root", fields, "--target", "cover", "--fusion", "film", *out, words=("feature or late",))
    fails(capsys, "train", "--root", fields, "--target", "crop", "--scheme", "official", *out, words=("SplitError",))
    fails(capsys, "train", "--root", fields, "--target", "crop", "--fold", 5, *out, words=("fold 5",))
    few = write_fields(tmp_path / "few", 8)
    fails(capsys, "train", "--root", few, "--target", "crop", *out, words=("4 groups", "--scheme study"))
    fails(capsys, "train", "--root", fields, "--target", "crop", "--crop", 17, *out, words=("17", "16"))
    fails(capsys, "train", "--root", fields, "--target", "crop", "--lr", 0, *out, words=("lr=0",))
    fails(capsys, "train", "--root", tmp_path / "none", "--target", "crop", *out, words=("none",))
    fails(capsys, "train", "--root", fields, "--target", "crop", "--out", tmp_path, *SMALL, words=("is a folder",))
    (tmp_path / "bare").mkdir()
    fails(capsys, "train", "--root", tmp_path / "bare", "--target", "crop", *out, words=("describe --root",))
    fails(capsys, "describe", "--root", tmp_path / "bare", words=("neither images", ".csv"))
    fails(capsys, "describe", "--root", fields, words=("exists already", "--overwrite"))
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[samples]", "[sample]", ("'sample'", "'samples'")),
        ("scale = 0.00002", "scales = 0.00002", ("[modalities.s2]", "'scales'", "'scale'")),
        ('"images/{id}.tif"', '"../images/{id}.tif"', ("[modalities.s2] files", "within")),
        ('"images/{id}.tif"', '"pictures/{id}.tif"', ("pictures", "s2")),
        ('"B04", "B08"]', '"B04", "B08", "B11"]', ("4 layers", "B11")),
        ('classes = ["maize", "wheat"]', 'classes = ["maize", "rye"]', ("'wheat'", "crop", "p1")),
        ('column = "harvest"', 'column = "yield"', ("'yield'", "harvest")),
        ("30 = ", "40 = ", ("30", "cover", "not a class")),
    ],
)
def test_a_wrong_description_is_found_before_the_training(tmp_path, capsys, old, new, words):
    root = write_fields(tmp_path / "crops", 10)
    rewrite(root, old, new)
    fails(capsys, "train", "--root", root, "--target", "crop", "cover", "harvest", "--out", tmp_path / "m", *SMALL,
          words=words)  # fmt: skip


def test_a_dataset_for_testing_is_scored_whole(fields, tmp_path, capsys):
    """All samples of another folder, although it has too few groups for a split; each side of the same one."""
    model = tmp_path / "model"
    run(capsys, "train", "--root", fields, "--target", "harvest", "--out", model, *SMALL)
    other = write_fields(tmp_path / "other", 8)
    command = ["evaluate", "--checkpoint", model, "--precision", "no"]
    whole = run(capsys, *command, "--root", other, "--split", "all")
    assert whole.startswith("harvest mae")
    fails(capsys, *command, "--root", other, words=("SplitError", "4 groups", "--split all"))
    sides = {}
    for split in ("train", "val", "all"):
        with pytest.warns(DataWarning, match=rf"--split {split} include samples that training"):
            sides[split] = run(capsys, *command, "--root", fields, "--split", split)
    sides["test"] = run(capsys, *command, "--root", fields, "--split", "test")
    assert sides["test"] == run(capsys, *command, "--root", fields) and len(set(sides.values())) == 4


def test_a_damaged_sample_is_left_out_on_request(tmp_path, capsys):
    root = write_fields(tmp_path / "crops", 20)
    (root / "images" / "p7.tif").write_bytes(b"damaged")
    command = ["train", "--root", root, "--target", "crop", "--out", tmp_path / "model", *SMALL]
    fails(capsys, *command, words=("p7", "cannot be read", "--skip"))
    with pytest.warns(UserWarning, match="p7"):
        run(capsys, *command, "--skip")


def test_a_model_is_not_tested_with_other_data(fields, tmp_path, capsys):
    model = tmp_path / "model"
    run(capsys, "train", "--root", fields, "--target", "crop", "--out", model, *SMALL)
    root = write_fields(tmp_path / "fields")
    for old, new, words in (
        ('classes = ["maize", "wheat"]', 'classes = ["wheat", "maize"]', ("BandError", "'maize', 'wheat'")),
        ('unit = "reflectance"', 'unit = "per cent"', ("BandError", "'per cent'", "'reflectance'")),
        ('"weather"', '"weather"', ()),
    ):
        if words:
            rewrite(root, old, new)
            fails(capsys, "evaluate", "--root", root, "--checkpoint", model, words=(*words, str(root)))
            rewrite(root, new, old)
    rewrite(root, "modalities.weather", "modalities.climate")
    words = ("BandError", f"{root / 'dataset.toml'}: unknown modalities ['weather']")
    fails(capsys, "evaluate", "--root", root, "--checkpoint", model, words=words)
    fails(capsys, "evaluate", "--root", fields, "--checkpoint", fields / "samples.csv", words=("CheckpointError",))
    fails(capsys, "evaluate", "--root", fields, "--checkpoint", tmp_path / "none", words=("no checkpoint",))


def test_an_interrupted_training_leaves_nothing(fields, tmp_path, monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(import_module("bengelib.engine").Trainer, "fit", interrupt)
    command = ["train", "--root", fields, "--target", "crop", "--out", tmp_path / "model", *SMALL]
    assert main([str(word) for word in command]) == 130
    assert "starts again" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_a_model_is_kept_although_it_cannot_be_scored(fields, tmp_path, monkeypatch, capsys):
    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr(import_module("bengelib.cli.supervised"), "scores", fail)
    command = ["train", "--root", fields, "--target", "crop", "--out", tmp_path / "model", *SMALL]
    assert main([str(word) for word in command]) == 2
    monkeypatch.undo()
    capsys.readouterr()
    run(capsys, "evaluate", "--root", fields, "--checkpoint", tmp_path / "model")

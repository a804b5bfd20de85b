import argparse
import json
import os
import re
import shutil
import signal
import warnings
from importlib import import_module
from pathlib import Path
from unicodedata import normalize

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

from bengelib.__main__ import _seconds, main
from bengelib.checkpoint import read_checkpoint, save_checkpoint, saved_inputs
from bengelib.cli.commands import (
    Pretraining,
    check_target,
    images_of,
    load_encoder,
    pretrain_dataset,
    pretrain_images,
    probe_images,
    probe_options,
)
from bengelib.data.described import DescribedDataset
from bengelib.data.description import read_description
from bengelib.data.image_files import read_image
from bengelib.data.images import class_of, image_modality, list_images
from bengelib.engine import seed_everything
from bengelib.errors import BandError, DataWarning, DescriptionError
from bengelib.fusion import EarlyFusion, LateFusion
from bengelib.heads import Network
from bengelib.methods import TABLE
from bengelib.methods.multi_pretext import PRETEXTS
from bengelib.recipes.pretraining import pretext_targets, strong_views
from bengelib.views import TwoViews
from tests import fake_tree as fake
from tests.described_folders import CROPS, rewrite, write_crops, write_tif
from tests.forked import finish, run_command, start
from tests.image_folders import COLOURS, write_images
from tests.recipes.test_supervised import write_fields

PAGE = Path(__file__).parents[2] / "docs" / "own-data.md"
SMALL = ["--width", "8", "--epochs", "1", "--size", "32", "--batch-size", "8", "--precision", "no"]
QUICK = ["--steps", "2", "--tta", "1", "--precision", "no"]


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A folder of ten images a class, and the checkpoint of an encoder pretrained on it. To be read only."""
    root = tmp_path_factory.mktemp("commands")
    images = write_images(root / "images")
    checkpoint = root / "out" / "encoder.safetensors"
    assert main(["pretrain", "--images", str(images), "--out", str(checkpoint), *SMALL]) == 0
    return images, checkpoint


@pytest.fixture
def copied(pretrained, tmp_path):
    """The same, to be damaged."""
    images, checkpoint = pretrained
    return Path(shutil.copytree(images, tmp_path / "images")), checkpoint


def probe(images, checkpoint, out, *options):
    return main(
        ["probe", "--checkpoint", str(checkpoint), "--images", str(images), "--out", str(out), *QUICK, *options]
    )


def refused(capsys, *words):
    """Whether the command before ended with one line on standard error that has all these words."""
    error = capsys.readouterr().err.replace("\r", "\n").strip().splitlines()[-1]
    return "Traceback" not in error and all(word in error for word in words), error


def test_the_two_commands(pretrained, tmp_path, capsys):
    images, checkpoint = pretrained
    out = tmp_path / "new" / "rows.json"
    status = probe(images, checkpoint, out, "--modes", "frozen", "finetune", "scratch", "--fractions", "0.25", "1")
    assert status == 0
    rows = json.loads(out.read_text())
    assert [(row["mode"], row["fraction"], row["n_labels"]) for row in rows] == [
        (mode, fraction, labels)
        for fraction, labels in ((0.25, 6), (1, 24))
        for mode in ("frozen", "finetune", "scratch")
    ]
    for row in rows:
        assert set(row) == {"mode", "fraction", "n_labels", "seed", "accuracy", "ci95"}
        low, high = row["ci95"]
        assert 0 <= low <= row["accuracy"] <= high <= 1 and row["seed"] == 0
    assert rows[0]["accuracy"] > 0.6  # four of six images or more: colours tell the three classes apart
    shown = capsys.readouterr()
    assert shown.out.strip() == str(out)
    assert "frozen" in shown.err and "24 labels" in shown.err  # progress


def test_the_checkpoint_names_what_was_held_out(pretrained):
    images, checkpoint = pretrained
    header, _ = read_checkpoint(checkpoint)
    config = header["config"]
    assert [sum(class_of(name) == label for name in config["holdout"]) for label in COLOURS] == [2, 2, 2]
    assert set(config["holdout"]) < set(list_images(images))
    assert config["settings"]["method"] == "simclr" and config["settings"]["width"] == 8
    assert saved_inputs(header)["image"].bands == ("R", "G", "B")


def test_pretraining_never_sees_the_pixels_of_what_it_holds_out(pretrained, tmp_path, monkeypatch):
    images, checkpoint = pretrained
    held = read_checkpoint(checkpoint)[0]["config"]["holdout"]
    seen = []
    monkeypatch.setattr("bengelib.data.images.read_image", lambda path: seen.append(path) or read_image(path))
    settings = Pretraining(width=8, epochs=1, size=32, batch_size=8, precision="no")
    pretrain_images(images, tmp_path / "again.safetensors", settings, progress=False)
    first, again = (read_checkpoint(path) for path in (checkpoint, tmp_path / "again.safetensors"))
    assert again[0]["config"]["holdout"] == held
    assert len(seen) == 24 and not {images / name for name in held} & set(seen)
    assert all(torch.equal(first[1][name], weights) for name, weights in again[1].items())


def test_another_seed_is_another_encoder_and_another_hold_out(pretrained, tmp_path):
    images, checkpoint = pretrained
    settings = Pretraining(width=8, epochs=1, size=32, batch_size=8, precision="no", seed=1)
    pretrain_images(images, tmp_path / "other.safetensors", settings, progress=False)
    (header, weights), (others, other) = (read_checkpoint(at) for at in (checkpoint, tmp_path / "other.safetensors"))
    assert not torch.equal(weights["encoder.resnet.conv1.weight"], other["encoder.resnet.conv1.weight"])
    assert header["config"]["holdout"] != others["config"]["holdout"]


def test_probe_tests_on_exactly_the_files_held_out_and_learns_from_the_others(pretrained, monkeypatch):
    images, checkpoint = pretrained
    seen = {}
    module = __import__("bengelib.cli.commands", fromlist=["label_efficiency"])

    def spy(encoder, build, train, train_labels, test, test_labels, classes, **options):
        seen.update(train=train, test=test, classes=classes, options=options, encoder=encoder, other=build())
        return []

    monkeypatch.setattr(module, "label_efficiency", spy)
    assert probe_images(checkpoint, images, progress=False, **probe_options(seeds=(3, 4))) == []
    held = read_checkpoint(checkpoint)[0]["config"]["holdout"]
    assert seen["test"].names == held
    assert sorted(seen["train"].names + held) == list_images(images)
    assert seen["classes"] == tuple(COLOURS) and seen["options"]["seeds"] == (3, 4)
    weights = read_checkpoint(checkpoint)[1]
    assert torch.equal(seen["encoder"].resnet.conv1.weight, weights["encoder.resnet.conv1.weight"])
    assert not torch.equal(seen["other"].resnet.conv1.weight, seen["encoder"].resnet.conv1.weight)
    assert seen["other"].inputs == seen["encoder"].inputs


def test_several_seeds_add_what_is_pooled(pretrained, tmp_path):
    images, checkpoint = pretrained
    options = ("--modes", "frozen", "--fractions", "0.5", "--seeds", "0", "1")
    assert probe(images, checkpoint, tmp_path / "rows.json", *options) == 0
    assert [row["seed"] for row in json.loads((tmp_path / "rows.json").read_text())] == [0, 1, "all"]


@pytest.mark.parametrize("method", [name for name, facts in TABLE.items() if not facts.needs and name != "simclr"])
def test_every_method_pretrains_and_can_be_probed(pretrained, tmp_path, method):
    images, _ = pretrained
    checkpoint = tmp_path / "encoder.safetensors"
    assert main(["pretrain", "--images", str(images), "--out", str(checkpoint), *SMALL, "--method", method]) == 0
    modes = ["frozen", "finetune"] if method == "mae" else ["frozen"]  # the others have the ResNet of `pretrained`
    assert probe(images, checkpoint, tmp_path / "rows.json", "--modes", *modes, "--fractions", "1") == 0
    assert len(json.loads((tmp_path / "rows.json").read_text())) == len(modes)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Twenty fake patches, in every fold."""
    return fake.write_fake_tree(tmp_path_factory.mktemp("trees") / "ben-ge-fake", 20)


def test_the_same_commands_on_a_ben_ge_tree(tree, tmp_path, capsys):
    checkpoint, out = tmp_path / "encoder.safetensors", tmp_path / "rows.json"
    given = ["--root", str(tree), "--modalities", "s2", "s1", "--target", "climate_zone"]
    assert main(["pretrain", *given, "--out", str(checkpoint), *SMALL]) == 0
    config = read_checkpoint(checkpoint)[0]["config"]
    assert config["fold"] == 0 and len(config["holdout"]) == 4
    tested = ["probe", *given, "--checkpoint", str(checkpoint), "--out", str(out), *QUICK, "--fractions", "1"]
    assert main(tested) == 0, capsys.readouterr().err
    assert [row["mode"] for row in json.loads(out.read_text())] == ["frozen", "finetune", "scratch"]

    several = ["--root", str(tree), "--target", "corine", "--checkpoint", str(checkpoint), "--out", str(out), *QUICK]
    assert main(["probe", *several, "--fractions", "1", "--modes", "frozen"]) == 0, capsys.readouterr().err
    (row,) = json.loads(out.read_text())
    assert set(row) == {"mode", "fraction", "n_labels", "seed", "map", "ci95"}

    assert main([*tested[:-2], "--modalities", "s2"]) == 2
    assert refused(capsys, "CheckpointError", "('s2', 's1')")[0]
    assert probe(tree, checkpoint, out) == 2
    assert refused(capsys, "CheckpointError", "--root instead of --images")[0]


def test_several_trees_are_one(tree, tmp_path, capsys):
    other = fake.write_fake_tree(tmp_path / "ben-ge-other", 10, first=20)
    checkpoint, out = tmp_path / "encoder.safetensors", tmp_path / "rows.json"
    given = ["--root", str(tree), str(other), "--target", "climate_zone"]
    assert main(["pretrain", *given, "--out", str(checkpoint), *SMALL]) == 0, capsys.readouterr().err
    config = read_checkpoint(checkpoint)[0]["config"]
    assert len(config["holdout"]) == 4 + 2 and config["folder"] == "ben-ge-fake, ben-ge-other"
    tested = ["--checkpoint", str(checkpoint), "--out", str(out), *QUICK, "--fractions", "1", "--modes", "frozen"]
    assert main(["probe", *given, *tested]) == 0, capsys.readouterr().err
    assert json.loads(out.read_text())[0]["n_labels"] == 18
    assert main(["probe", "--root", str(tree), "--target", "climate_zone", *tested]) == 2
    assert refused(capsys, "CheckpointError", "2 of the 6 test samples", "ben-ge-fake, ben-ge-other")[0]
    assert main(["pretrain", "--root", str(tree), str(tree), "--out", str(checkpoint), *SMALL]) == 2
    assert refused(capsys, "SplitError", "both have a sample")[0]


@pytest.mark.parametrize("method", ["gassl", "cross-modal"])
def test_methods_that_need_more_read_several_trees(tree, tmp_path, capsys, method):
    other = fake.write_fake_tree(tmp_path / "ben-ge-other", 10, first=20)
    command = ["pretrain", "--root", str(tree), str(other), "--out", str(tmp_path / "x"), *SMALL, "--method", method]
    assert main(command) == 0, capsys.readouterr().err


@pytest.mark.parametrize("method", ["cross-modal", "decur"])
def test_two_sensors_of_a_tree_are_contrasted(tree, tmp_path, capsys, method):
    checkpoint, out = tmp_path / "encoder.safetensors", tmp_path / "rows.json"
    command = ["pretrain", "--root", str(tree), "--out", str(checkpoint), *SMALL, "--method", method]
    assert main(command) == 0, capsys.readouterr().err
    encoder, build, _ = load_encoder(checkpoint)
    assert isinstance(encoder, LateFusion) and list(encoder.inputs) == ["s2", "s1"]
    seed_everything(0)
    for key, before in build().encoders.items():  # both sensors were trained
        assert not torch.equal(before.conv1.weight, encoder.encoders[key].conv1.weight)
    tested = ["probe", "--root", str(tree), "--target", "climate_zone", "--checkpoint", str(checkpoint)]
    assert main([*tested, "--out", str(out), *QUICK, "--fractions", "1", "--modes", "frozen", "finetune"]) == 0
    assert len(json.loads(out.read_text())) == 2

    assert main([*command, "--modalities", "s2"]) == 2
    assert refused(capsys, "BandError", "two modalities")[0]


@pytest.fixture(scope="module")
def fields(tmp_path_factory):
    """Sixty described samples in groups: images, a vector, and a target of each kind. To be read only."""
    return write_fields(tmp_path_factory.mktemp("described") / "fields")


def test_the_same_commands_on_a_described_dataset(fields, tmp_path, capsys):
    checkpoint, out = tmp_path / "encoder.safetensors", tmp_path / "rows.json"
    assert main(["pretrain", "--root", str(fields), "--out", str(checkpoint), *SMALL]) == 0, capsys.readouterr().err
    config = read_checkpoint(checkpoint)[0]["config"]
    test = DescribedDataset(fields, "test", progress=False)
    assert config["holdout"] == test.patch_ids and len(set(test.groups)) == 6
    assert list(load_encoder(checkpoint)[0].inputs) == ["s2"]
    given = ["probe", "--root", str(fields), "--checkpoint", str(checkpoint), "--out", str(out), *QUICK]
    command = [*given, "--target", "crop", "--fractions", "1", "--figure", str(tmp_path / "curve.png")]
    assert main(command) == 0, capsys.readouterr().err
    rows = json.loads(out.read_text())
    known = DescribedDataset(fields, "train", progress=False).table("crop") != 255
    assert {row["n_labels"] for row in rows} == {known.sum()} and (tmp_path / "curve.png").is_file()

    assert main([*given, "--target", "tags", "--fractions", "1", "--modes", "frozen"]) == 0, capsys.readouterr().err
    assert set(json.loads(out.read_text())[0]) == {"mode", "fraction", "n_labels", "seed", "map", "ci95"}
    for wrong, words in (
        (["--target", "harvest"], ("BandError", "'harvest'", "'crop', 'tags'")),
        ([], ("BandError", "None", "'crop', 'tags'")),
        (["--target", "crop", "--modalities", "weather"], ("CheckpointError", "('s2',)", "('weather',)")),
        (["--target", "crop", "--figure", "curve.xlsx"], ("ArgumentError", "curve.xlsx")),
    ):
        assert main([*given, *wrong]) == 2
        assert refused(capsys, *words)[0]


def test_samples_that_were_held_out_and_are_gone(tmp_path, capsys):
    root, checkpoint = write_fields(tmp_path / "fields", 20), tmp_path / "encoder.safetensors"
    assert main(["pretrain", "--root", str(root), "--out", str(checkpoint), *SMALL]) == 0
    held = read_checkpoint(checkpoint)[0]["config"]["holdout"]
    lines = (root / "samples.csv").read_text().splitlines()
    (root / "samples.csv").write_text("\n".join(line for line in lines if not line.startswith(f"{held[0]},")))
    shutil.rmtree(root / "packed")
    rewrite(root, "[samples]", '[samples]\nunlisted = "ignore"')
    command = ["probe", "--root", str(root), "--checkpoint", str(checkpoint), "--target", "crop", *QUICK]
    assert main([*command, "--out", str(tmp_path / "rows.json")]) == 2
    assert refused(capsys, "CheckpointError", held[0], "fields")[0]


def test_what_a_described_dataset_is_asked_for(fields, tree, tmp_path):
    assert images_of(fields) == ("s2",) and images_of(tree) == ("s2", "s1")
    assert check_target(fields, "tags").kind == "labels" and check_target(tree, "corine").kind == "labels"
    with pytest.raises(BandError, match=r"None.*'crop', 'tags'"):
        check_target(fields, None)
    root = write_crops(tmp_path / "crops", 2)
    assert check_target(root, None).name == "crop"
    text = (root / "dataset.toml").read_text()
    image = text[text.index("[modalities.s2]") : text.index("[modalities.weather]")]
    (root / "dataset.toml").write_text(text.replace(image, ""))
    with pytest.raises(BandError, match="describes no image"):
        images_of(root)


def test_images_of_other_sizes_are_not_stacked(tmp_path):
    root = write_fields(tmp_path / "fields", 20)
    for sample in range(20):
        write_tif(root / "dem" / f"p{sample}.tif", np.arange(64, dtype=np.int16).reshape(8, 8) + sample)
    dem = '\n[modalities.dem]\nkind = "image"\nfiles = "dem/{id}.tif"\nbands = ["dem"]\nunit = "m"\n'
    (root / "dataset.toml").write_text((root / "dataset.toml").read_text() + dem)
    with pytest.raises(DescriptionError, match=r"size = 16 in \[modalities.dem\]"):
        pretrain_dataset(root, tmp_path / "x", Pretraining(width=8, epochs=1), progress=False)


def test_places_of_a_tree_are_learned(tree, tmp_path, capsys):
    checkpoint = tmp_path / "encoder.safetensors"
    command = ["pretrain", "--root", str(tree), "--out", str(checkpoint), *SMALL, "--method"]
    assert main([*command, "gassl", "--regions", "2"]) == 0, capsys.readouterr().err
    assert read_checkpoint(checkpoint)[0]["config"]["settings"]["regions"] == 2
    assert main([*command, "seco"]) == 2  # each place is seen once
    assert refused(capsys, "MissingModalityError", "seen on two dates", "moco-v2")[0]
    assert main([*command, "place-image", "--temperature", "0.1"]) == 0, capsys.readouterr().err
    assert list(load_encoder(checkpoint)[0].inputs) == ["s2", "s1"]


@pytest.mark.parametrize("method", ["place-image", "gassl"])
def test_places_of_a_described_dataset_are_learned_whatever_their_name(tmp_path, capsys, method):
    place = '[modalities.where]\nkind = "vector"\ncolumns = ["rain", "heat"]\nbands = ["longitude", "latitude"]\n\n'
    toml = CROPS[: CROPS.index("[modalities.weather]")] + place + CROPS[CROPS.index("[targets.crop]") :]
    root = write_crops(tmp_path / "crops", 20, toml)
    rows = (root / "samples.csv").read_text().splitlines()
    cells = [rows[0], *(f"{row.rsplit(',', 2)[0]},{n},{50 - n}" for n, row in enumerate(rows[1:]))]
    (root / "samples.csv").write_text("\n".join(cells))
    command = ["pretrain", "--root", str(root), "--out", str(tmp_path / "encoder"), *SMALL, "--method", method]
    assert main(command) == 0, capsys.readouterr().err
    assert list(load_encoder(tmp_path / "encoder")[0].inputs) == ["s2"]
    rewrite(root, 'bands = ["longitude", "latitude"]', 'bands = ["rain", "heat"]')
    assert main(command) == 2
    assert refused(capsys, "BandError", f"{method} learns from where images lie", "dataset.toml", "[modalities.place]")[
        0
    ]


def test_all_that_is_known_of_a_tree_is_learned_and_the_encoder_probed(tree, tmp_path, capsys, monkeypatch):
    checkpoint, out = tmp_path / "encoder.safetensors", tmp_path / "rows.json"
    seen = {}
    module = __import__("bengelib.cli.commands", fromlist=["pretrain_encoder"])
    real = module.pretrain_encoder

    def spy(encoder, data, views, settings, **options):
        seen.update(asked=pretext_targets(encoder, data), size=views.size)
        return real(encoder, data, views, settings, **options)

    monkeypatch.setattr(module, "pretrain_encoder", spy)
    command = ["pretrain", "--root", str(tree), "--out", str(checkpoint), *SMALL, "--method", "multi-pretext"]
    assert main([*command, "--modalities", "s2", "--size", "40"]) == 0, capsys.readouterr().err
    assert set(seen["asked"]) == set(PRETEXTS) and seen["size"] == 48  # two squares of 24
    encoder, _, _ = load_encoder(checkpoint)
    assert list(encoder.inputs) == ["s2"] and encoder.stride == 24
    tested = ["probe", "--root", str(tree), "--target", "climate_zone", "--checkpoint", str(checkpoint)]
    assert main([*tested, "--out", str(out), *QUICK, "--fractions", "1", "--modes", "frozen"]) == 0
    assert len(json.loads(out.read_text())) == 1


def test_a_described_dataset_gives_all_its_modalities_to_learn_from(fields, tmp_path, capsys):
    checkpoint = tmp_path / "encoder.safetensors"
    command = ["pretrain", "--root", str(fields), "--out", str(checkpoint), *SMALL, "--method", "multi-pretext"]
    assert main([*command, "--modalities", "s2"]) == 0, capsys.readouterr().err
    assert list(load_encoder(checkpoint)[0].inputs) == ["s2"]


@pytest.mark.parametrize("method", [name for name, facts in TABLE.items() if facts.needs])
def test_what_pictures_do_not_have_is_refused(pretrained, tmp_path, capsys, method):
    images, _ = pretrained
    out = str(tmp_path / "encoder.safetensors")
    assert main(["pretrain", "--images", str(images), "--out", out, *SMALL, "--method", method]) == 2
    assert refused(capsys, "ValueError", method, *TABLE[method].needs, "--method simclr")[0]


def test_settings_of_other_methods_are_refused(pretrained, tmp_path, capsys):
    images, _ = pretrained
    command = ["pretrain", "--images", str(images), "--out", str(tmp_path / "x"), *SMALL]
    for wrong, words in (
        (["--momentum", "0.9"], ("simclr has no momentum", "byol")),
        (["--method", "byol", "--momentum", "99"], ("momentum=99.0", "at most 1")),
        (["--method", "moco-v2", "--queue", "100"], ("queue=100", "no multiple of the 8 images", "96")),
    ):
        assert main([*command, *wrong]) == 2
        assert refused(capsys, "ArgumentError", *words)[0]


def test_the_example_of_the_page_runs(tmp_path, monkeypatch):
    _, lines = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len([line for line in lines.splitlines() if line.strip()]) <= 34
    write_images(tmp_path / "images", count=10)
    monkeypatch.chdir(tmp_path)
    for said, instead in (
        ('"images", 20, (0.01, 0.1, 1.0)', '"images", 1, (0.2, 1.0)'),
        ("size=64", "size=32"),
        ("Views(32", "Views(16"),
        ("Views(48", "Views(24"),
        ("width=0.5", "width=0.125"),
        ("seeds=(0, 1, 2)", "seeds=(0, 1), tta=1, finetune_settings=quick, scratch_settings=quick"),
    ):
        assert said in lines
        lines = lines.replace(said, instead)
    from bengelib.recipes.finetuning import FineTuning

    names = {"quick": FineTuning(steps=2, epochs=0, batch_size=8)}
    exec(lines, names)
    plt.close("all")
    assert (tmp_path / "label_efficiency.png").stat().st_size > 1000
    assert {row["mode"] for row in names["rows"]} == {"frozen", "finetune", "scratch"}


def test_the_lines_of_the_page_for_described_data_run(tmp_path, monkeypatch):
    lines, _ = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    write_images(tmp_path / "chips", count=10)
    monkeypatch.chdir(tmp_path)
    assert main(["describe", "--root", "chips"]) == 0
    for said, instead in (("width=0.5", "width=0.125"), ("epochs=10", "epochs=1")):
        assert said in lines
        lines = lines.replace(said, instead)
    names = {}
    exec(lines, names)
    assert names["classes"] == tuple(COLOURS)


def test_the_commands_of_the_page_are_understood():
    module = __import__("bengelib.__main__", fromlist=["_parser"])
    text = PAGE.read_text().replace("\\\n", " ")
    commands = [command.split() for command in re.findall(r"^    python -m bengelib (.*)$", text, re.MULTILINE)]
    names = ["describe", "pretrain", "probe", "train", "evaluate"]
    assert list(dict.fromkeys(command[0] for command in commands)) == names
    for command in commands:
        options = module._parser().parse_args(command)
        assert command[0] in ("describe", "evaluate") or options.out


def test_the_dataset_of_the_page_is_understood(tmp_path):
    toml, guessed = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "dataset.toml").write_text(guessed)
    assert len(read_description(tmp_path).modalities["image"].bands) == 13
    (tmp_path / "dataset.toml").write_text(toml)
    description = read_description(tmp_path)
    assert list(description.modalities) == ["s2", "weather"] and list(description.targets) == ["crop", "cover"]


def test_the_page_names_every_key_of_a_description():
    text = PAGE.read_text()
    module = import_module("bengelib.data.description")
    keys = {*module._TABLES["dataset"], *module._TABLES["samples"]}
    for kinds in (module._MODALITY_KEYS, module._TARGET_KEYS):
        keys |= {*kinds, *(key for names in kinds.values() for key in names)}
    table = text[text.index("| table | key |") : text.index("In a pattern,")]
    assert not [key for key in keys if f"`{key}`" not in table]


# --------------------------------------------------------------------------------------------------------------- faults


def test_a_missing_folder(pretrained, tmp_path, capsys):
    assert main(["pretrain", "--images", str(tmp_path / "none"), "--out", str(tmp_path / "x")]) == 2
    assert refused(capsys, "DatasetNotFoundError", "none")[0]
    assert probe(tmp_path / "none", pretrained[1], tmp_path / "rows.json") == 2
    assert refused(capsys, "DatasetNotFoundError", "none")[0]


def test_a_class_with_one_image(tmp_path, capsys):
    images = write_images(tmp_path / "images", count=2)
    (images / "Water" / "Water_0.jpg").unlink()
    assert main(["pretrain", "--images", str(images), "--out", str(tmp_path / "x")]) == 2
    assert refused(capsys, "SplitError", "'Water' has 1 images")[0]


def test_a_broken_image_stops_the_pretraining_unless_it_is_to_be_skipped(copied, tmp_path, capsys):
    images, checkpoint = copied
    held = read_checkpoint(checkpoint)[0]["config"]["holdout"]
    name = next(name for name in list_images(images) if name not in held)
    (images / name).write_bytes(b"broken")
    command = ["pretrain", "--images", str(images), "--out", str(tmp_path / "x.safetensors"), *SMALL]
    assert main(command) == 2
    assert refused(capsys, "RasterError", name)[0]
    with pytest.warns(UserWarning, match="1 of 24 images"):
        assert main([*command, "--skip"]) == 0
    assert list(read_checkpoint(tmp_path / "x.safetensors")[0]["config"]["skipped"]) == [name]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # the probe leaves the same file out, which it has been told of
        options = ("--modes", "frozen", "--fractions", "1")
        assert probe(images, tmp_path / "x.safetensors", tmp_path / "rows.json", *options) == 0
    assert json.loads((tmp_path / "rows.json").read_text())[0]["n_labels"] == 23


def test_files_held_out_that_are_gone(copied, tmp_path, capsys):
    images, checkpoint = copied
    name = read_checkpoint(checkpoint)[0]["config"]["holdout"][0]
    (images / name).unlink()
    assert probe(images, checkpoint, tmp_path / "rows.json") == 2
    assert refused(capsys, "CheckpointError", "1 of the 6 files", name, "bring them back")[0]


@pytest.mark.parametrize("again", ["again.jpg", "again.png"])
def test_copies_of_files_held_out_are_not_learned_from(copied, tmp_path, monkeypatch, again):
    images, checkpoint = copied
    held = read_checkpoint(checkpoint)[0]["config"]["holdout"][0]
    if again.endswith("jpg"):
        shutil.copy(images / held, images / class_of(held) / again)
    else:
        Image.open(images / held).save(images / class_of(held) / again)
    module, seen = import_module("bengelib.cli.commands"), []
    monkeypatch.setattr(module, "label_efficiency", lambda encoder, build, train, *_, **__: seen.extend(train.names))
    with pytest.warns(DataWarning, match=r"1 files .* are copies of files held out .*again\."):
        probe_images(checkpoint, images, progress=False)
    assert len(seen) == 24 and f"{class_of(held)}/{again}" not in seen


def test_a_folder_in_another_spelling_is_the_same_folder(tmp_path, capsys):
    images = write_images(tmp_path / "images", count=5)
    decomposed, composed = (images / normalize(form, "Forêt") for form in ("NFD", "NFC"))
    (images / "Forest").rename(decomposed)
    for path in list(decomposed.iterdir()):
        path.rename(decomposed / normalize("NFD", f"é{path.name}"))
    checkpoint = tmp_path / "encoder.safetensors"
    assert main(["pretrain", "--images", str(images), "--out", str(checkpoint), *SMALL]) == 0
    decomposed.rename(composed)
    for path in list(composed.iterdir()):
        path.rename(composed / normalize("NFC", path.name))
    status = probe(images, checkpoint, tmp_path / "rows.json", "--modes", "frozen", "--fractions", "1")
    assert status == 0, capsys.readouterr().err


def test_names_that_are_no_utf_8(tmp_path, capsys):
    images = write_images(tmp_path / "images", count=5)
    for path in list((images / "Water").iterdir()):
        os.rename(path, os.fsencode(images / "Water") + b"/Rivi\xe8re" + os.fsencode(path.name))
    os.rename(images / "Water", os.fsencode(images) + b"/Rivi\xe8re")
    checkpoint = tmp_path / "encoder.safetensors"
    assert main(["pretrain", "--images", str(images), "--out", str(checkpoint), *SMALL]) == 0
    status = probe(images, checkpoint, tmp_path / "rows.json", "--modes", "frozen", "finetune", "--fractions", "1")
    assert status == 0, capsys.readouterr().err


def test_pretraining_takes_a_folder_without_classes_and_the_probe_says_what_it_needs(tmp_path, capsys):
    images = write_images(tmp_path / "images", count=12)
    for flat in (images / "Water", tmp_path / "one"):
        if flat.name == "one":
            flat.mkdir()
            shutil.move(images / "Field", flat / "all")
        checkpoint = tmp_path / "encoder.safetensors"
        command = ["pretrain", "--images", str(flat), "--out", str(checkpoint), *SMALL]
        assert main(command) == 0, capsys.readouterr().err
        assert len(read_checkpoint(checkpoint)[0]["config"]["holdout"]) == 2
        assert probe(flat, checkpoint, tmp_path / "rows.json") == 2
        assert refused(capsys, "CheckpointError", "without classes", "a folder a class")[0]


def test_a_precision_that_is_not_done_here(pretrained, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    command = ["pretrain", "--images", str(pretrained[0]), "--out", str(tmp_path / "x"), *SMALL[:-1], "fp16"]
    assert main(command) == 2
    assert refused(capsys, "'fp16' needs a GPU")[0]


def test_a_checkpoint_of_another_folder(pretrained, copied, tmp_path, capsys):
    images, checkpoint = copied
    for path in [images / name for name in list_images(images)]:
        path.rename(path.with_name(f"other_{path.name}"))
    assert probe(images, checkpoint, tmp_path / "rows.json") == 2
    assert refused(capsys, "CheckpointError", "6 of the 6 files", "another folder")[0]


def test_other_images_of_the_same_names(copied, tmp_path, capsys):
    images, checkpoint = copied
    shutil.rmtree(images)
    write_images(images, size=40)
    assert probe(images, checkpoint, tmp_path / "rows.json") == 2
    assert refused(capsys, "CheckpointError", "others of the same name")[0]


def test_a_class_that_is_new(copied, tmp_path, capsys):
    images, checkpoint = copied
    shutil.copytree(images / "Water", images / "River")
    assert probe(images, checkpoint, tmp_path / "rows.json") == 2
    assert refused(capsys, "CheckpointError", "['River']")[0]


def test_a_checkpoint_that_is_none(pretrained, tmp_path, capsys):
    images, _ = pretrained
    (tmp_path / "text").write_text("hello")
    assert probe(images, tmp_path / "text", tmp_path / "rows.json") == 2
    assert refused(capsys, "CheckpointError", "not a readable safetensors file")[0]
    assert probe(images, tmp_path / "absent", tmp_path / "rows.json") == 2
    assert refused(capsys, "CheckpointError", "no checkpoint")[0]
    save_checkpoint(tmp_path / "other", Network(EarlyFusion({"image": image_modality()}, width=0.125), {}))
    assert probe(images, tmp_path / "other", tmp_path / "rows.json") == 2
    assert refused(capsys, "CheckpointError", "did not write it")[0]


def test_what_is_only_for_ben_ge_is_refused_with_images(pretrained, tmp_path, capsys):
    images, _ = pretrained
    assert main(["pretrain", "--images", str(images), "--target", "corine", "--out", str(tmp_path / "x")]) == 2
    assert refused(capsys, "--target is for --root")[0]


def test_a_target_that_is_no_class(tree, tmp_path, capsys):
    assert main(["pretrain", "--root", str(tree), "--target", "season", "--out", str(tmp_path / "x")]) == 2
    assert refused(capsys, "BandError", "'season'", "climate_zone")[0]
    assert main(["pretrain", "--root", str(tree), "--modalities", "weather", "--out", str(tmp_path / "x")]) == 2
    assert refused(capsys, "BandError", "weather")[0]


def test_fractions_without_a_label_for_every_class(pretrained, tmp_path, capsys):
    images, checkpoint = pretrained
    assert probe(images, checkpoint, tmp_path / "rows.json", "--fractions", "0.01") == 2
    assert refused(capsys, "SplitError", "no label")[0]
    assert probe(images, checkpoint, tmp_path / "rows.json", "--fractions", "2") == 2
    assert refused(capsys, "ArgumentError", "fractions=2.0", "share")[0]


def test_views_are_smaller_than_the_images_of_a_folder(pretrained, monkeypatch, tmp_path, capsys):
    assert [Pretraining(size=size).view_size for size in (64, 33, 1)] == [32, 16, 1]
    assert Pretraining(method="mae").view_size == 64 and Pretraining(view=40).view_size == 40
    images, _ = pretrained
    made = []
    monkeypatch.setattr("bengelib.cli.commands.strong_views", lambda size, _: made.append(size) or strong_views(size))
    command = ["pretrain", "--images", str(images), "--out", str(tmp_path / "encoder.safetensors"), *SMALL]
    assert main(command) == 0 and main([*command, "--view", "24"]) == 0
    assert made == [16, 24]
    assert main(["pretrain", "--root", "x", "--out", str(tmp_path / "x"), "--view", "16"]) == 2
    assert refused(capsys, "--view is for --images")[0]


@pytest.mark.parametrize(
    "wrong", [{"method": "dino"}, {"width": 0}, {"epochs": 0}, {"temperature": 0}, {"depth": 19}, {"batch_size": 1}]
)
def test_settings_that_train_nothing_are_refused(wrong):
    with pytest.raises(ValueError, match=str(next(iter(wrong.values())))[:3] if "batch_size" not in wrong else "batch"):
        Pretraining(**wrong)


def test_steps_hold_for_both_ways_of_training():
    options = probe_options(steps=7)
    assert options["finetune_settings"].steps_for(10_000) == options["scratch_settings"].steps_for(10_000) == 7
    assert not {"finetune_settings", "scratch_settings"} & set(probe_options())  # those of `label_efficiency` hold


def test_load_encoder_gives_what_was_trained(pretrained):
    encoder, build, config = load_encoder(pretrained[1])
    weights = read_checkpoint(pretrained[1])[1]
    state = encoder.state_dict()
    assert all(np.array_equal(state[name.removeprefix("encoder.")], value) for name, value in weights.items())
    assert build().feature_dim == encoder.feature_dim and config["folder"] == "images"


# ------------------------------------------------------------------------------------------ long runs, more processes


def interrupt_at(monkeypatch, step):
    """Have the stop button pressed in a step."""
    calls, real = [], TwoViews.__call__

    def call(self, batch, generator):
        calls.append(1)
        if len(calls) == step:
            signal.raise_signal(signal.SIGINT)
        return real(self, batch, generator)

    monkeypatch.setattr(TwoViews, "__call__", call)


def test_a_pretraining_that_is_cut_off_goes_on(pretrained, tmp_path, monkeypatch, capsys):
    images, whole = pretrained
    out = tmp_path / "encoder.safetensors"
    command = ["pretrain", "--images", str(images), "--out", str(out), *SMALL]
    interrupt_at(monkeypatch, 2)
    assert main(command) == 130
    assert "pretrain with --resume" in capsys.readouterr().err
    folder = tmp_path / "encoder.safetensors.checkpoints"
    assert [path.name for path in folder.iterdir()] == ["step-000000002.pt"] and not out.exists()
    assert main(command) == 2
    assert "interrupted training; give --resume to continue, or delete it" in capsys.readouterr().err
    assert main([*command, "--resume", "--lr", "0.5"]) == 2
    assert "lr is 0.5, there it was 0.002" in capsys.readouterr().err
    assert main([*command, "--resume", "--method", "barlow"]) == 2
    assert refused(capsys, "CheckpointError", "is of another training", "model.")[0]
    assert main([*command, "--resume"]) == 0
    (header, weights), (header_whole, weights_whole) = read_checkpoint(out), read_checkpoint(whole)
    assert header == header_whole and all(torch.equal(weights[name], weights_whole[name]) for name in weights_whole)
    assert not folder.exists()
    with pytest.warns(DataWarning, match="there is no checkpoint in"):
        assert main([*command, "--resume"]) == 0  # nothing to go on from: said, and begun anew


def test_large_batches_in_parts_and_a_log(pretrained, tmp_path):
    images, _ = pretrained
    out, log = tmp_path / "encoder.safetensors", tmp_path / "log"
    command = ["pretrain", "--images", str(images), "--out", str(out), "--log-folder", str(log), *SMALL]
    assert main([*command, "--micro-batch", "4", "--checkpoint-every", "0"]) == 0
    assert read_checkpoint(out)[0]["config"]["settings"]["micro_batch"] == 4
    lines = [json.loads(line) for line in (log / "log.jsonl").read_text().splitlines()]
    assert {"lr", "loss", "contrast/spread", "contrast/rank", "samples_per_second"} < set(lines[0])


@pytest.mark.parametrize(
    ("text", "seconds"), [("10m", 600), ("1.5h", 5400), ("90s", 90), ("90", 90), ("0", 0), ("", None), ("-1m", None),
                          ("10 m", None), ("10mh", None), ("nan", None), ("m", None)],
)  # fmt: skip
def test_times_are_read(text, seconds):
    if seconds is None:
        with pytest.raises(argparse.ArgumentTypeError, match="is not a duration; give one such as 10m"):
            _seconds(text)
    else:
        assert _seconds(text) == seconds


def test_two_processes_pretrain_together_and_write_one_checkpoint(pretrained, tmp_path):
    images, whole = pretrained
    out = tmp_path / "encoder.safetensors"
    options = [*SMALL[:-3], "4", *SMALL[-2:], "--sync-batchnorm"]  # batches of 4 in each process
    finish(start(run_command, ["pretrain", "--images", str(images), "--out", str(out), *options], processes=2))
    assert [path.name for path in tmp_path.iterdir()] == ["encoder.safetensors"]
    (header, _), (expected, _) = read_checkpoint(out), read_checkpoint(whole)
    assert header["config"]["holdout"] == expected["config"]["holdout"]

"""The networks that come with the labs: tracked, small, described, and those that their script makes."""

import re
import subprocess
from pathlib import Path

import pytest

from bengelib.checkpoint import load_checkpoint, read_checkpoint
from tools.train_encoders import TRAININGS, card

ROOT = Path(__file__).parents[1]
LARGEST = 6_000_000
FILES = sorted(ROOT.glob("[0-9][0-9]-*/encoders/*.safetensors"))
each_training = pytest.mark.parametrize("name", TRAININGS)


def networks(name):
    training = TRAININGS[name]
    folder = ROOT / training.lab / "encoders"
    return {
        folder / f"{file}.safetensors": each for file, each in training.files(training.make(training.width)).items()
    }


def test_every_file_is_made_by_the_script():
    made = {path for name in TRAININGS for path in networks(name)}
    assert set(FILES) <= made


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_files_are_tracked_and_small(path):
    assert path.stat().st_size < LARGEST
    names = [path.relative_to(ROOT).as_posix(), path.with_suffix(".md").relative_to(ROOT).as_posix()]
    try:
        command = ["git", "ls-files", *names]
        tracked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    assert sorted(tracked) == sorted(names)


@each_training
def test_a_file_fits_its_network_and_its_card_says_how_it_was_made(name):
    for path, network in networks(name).items():
        if path.is_file():
            facts = load_checkpoint(path, network)
            training = TRAININGS[name]
            assert (facts["epochs"], facts["width"]) == (training.epochs, training.width)
            assert path.with_suffix(".md").read_text(encoding="utf-8") == card(name, path, network, facts)
            sizes = {value.dtype.itemsize for value in read_checkpoint(path)[1].values() if value.ndim > 1}
            assert sizes == {2}


@each_training
def test_a_card_names_the_command_and_the_patches(name):
    facts = {"samples": 600, "scheme": "study", "patches": "0123456789ab", "epochs": 1, "batch_size": 2, "lr": 0.1,
             "seed": 0, "loss": 1.0}  # fmt: skip
    for path, network in networks(name).items():
        text = card(name, path, network, facts)
        assert re.search(rf"python -m tools.train_encoders {name} --again", text)
        assert "0123456789ab" in text and "600 training patches" in text

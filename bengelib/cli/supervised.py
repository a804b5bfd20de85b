"""The commands `describe`, `train` and `evaluate`: from a folder of data to a scored model."""

import argparse
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bengelib.checkpoint import read_checkpoint, saved_inputs
from bengelib.cli.outputs import check_writable
from bengelib.data.contents import read_contents
from bengelib.data.describe import describe
from bengelib.data.description import FILE_NAME
from bengelib.data.loading import load, prepare
from bengelib.errors import BandError, DataWarning, SplitError
from bengelib.intervals import Interval
from bengelib.modalities import Target
from bengelib.recipes.pretraining import FULL_WIDTH
from bengelib.recipes.supervised import (
    Training,
    check_data,
    check_labels,
    load_model,
    save_model,
    scores,
    train,
    warn_of_classes,
)


def run_describe(options: argparse.Namespace) -> None:
    """Write a first `dataset.toml` and print the guesses."""
    guess = describe(options.root, overwrite=options.overwrite)
    print(Path(options.root) / FILE_NAME)
    for sentence in guess.guessed:
        print(f"  {sentence}")
    for problem in guess.problems:
        print(f"TO DECIDE: {problem}")


def run_train(options: argparse.Namespace) -> None:
    """Train a network, write it, and print its scores on the test split."""
    names = ("fusion", "epochs", "lr", "crop", "modality_dropout", "seed", "precision")
    start = read_checkpoint(options.checkpoint)[0]["config"] if options.checkpoint else {}
    known = start.get("settings", {})
    channels = FULL_WIDTH if start.get("made_by") == "train" else 1  # of `train`, whose width is a share
    width = options.width or known.get("width", FULL_WIDTH // 2 / channels) * channels
    settings = Training(
        depth=options.depth or known.get("depth", 18),
        width=width / FULL_WIDTH,
        batch_size=options.batch_size,
        **{name: getattr(options, name) for name in names},
    )
    found, targets = train_on(
        options.root,
        options.target,
        options.out,
        settings,
        modalities=options.modalities,
        start=options.checkpoint,
        scheme=options.scheme,
        fold=options.fold,
        on_error="skip" if options.skip else "raise",
    )
    print_scores(found, targets)
    print(options.out)


def run_evaluate(options: argparse.Namespace) -> None:
    """Print the scores of a trained model on the test split, another one, or a whole dataset."""
    network, config = load_model(options.checkpoint)
    split = None if options.split == "all" else options.split
    try:
        test = _open(options.root, split, config, "skip" if options.skip else "raise")
    except SplitError as error:
        raise SplitError(f"{error}. Give --split all to score every sample of a dataset for testing alone") from error
    check_data(network, config, test)
    if split != "test" and test.root.name == config.get("dataset"):
        warnings.warn(
            f"{options.checkpoint} was trained on {test.root.name} too: scores of --split {options.split} include "
            "samples that training or the choice of the epoch has seen, and are no test",
            DataWarning,
            stacklevel=2,
        )
    found = scores(network, test, precision=options.precision, batch_size=options.batch_size)
    print_scores(found, test.outputs)


def train_on(
    root: str | Path,
    targets: Sequence[str],
    out: str | Path,
    settings: Training,
    *,
    modalities: Sequence[str] | None = None,
    start: str | Path | None = None,
    scheme: str | None = None,
    fold: int = 0,
    on_error: str = "raise",
    progress: bool = True,
) -> tuple[dict[str, dict[str, Interval]], dict[str, Target]]:
    """Train on the training split of a dataset, choose the epoch on the validation split, and score on the test split.

    Args:
        root: a path or name for `load`.
        targets: keys to predict.
        out: the checkpoint to write.
        settings: see `Training`.
        modalities: keys of the inputs; by default those of `inputs_of`.
        start: a checkpoint of an encoder with initial weights.
        scheme: of the split: `"official"`, `"study"` or `"blocked"`; by default the one that suits the dataset.
        fold: the test fold under `"blocked"`.
        on_error: `"raise"` or `"skip"`.
        progress: show bars.

    Returns:
        Scores by target, see `scores`, and the targets.

    Raises:
        BandError: a target that the dataset lacks, or that no model can predict.
        BengeError: any fault that `load`, `train` and `scores` find.
    """
    check_writable(out)
    config: dict[str, Any] = {
        "modalities": modalities or inputs_of(prepare(root, progress=progress), start),
        "targets": list(targets),
        "scheme": scheme,
        "fold": fold,
    }
    data = _open(root, "train", config, on_error, progress)
    if other := [name for name in targets if name not in data.outputs]:
        raise BandError(f"no model can predict {other} of {root}; choose from the targets {list(data.outputs)}")
    test = _open(root, "test", config, on_error, progress)
    check_labels(test, "test")
    warn_of_classes(data, test)
    try:
        val = _open(root, "val", config, on_error, progress)
    except SplitError as error:
        warnings.warn(f"{error}. The weights of the last epoch are kept.", DataWarning, stacklevel=2)
        val = None
    network, _ = train(data, val, settings, start=start, progress=progress)
    config |= {"modalities": list(data.inputs), "dataset": data.root.name}
    config["stored"] = getattr(data, "stored", {})  # for scenes with files like those of the dataset
    save_model(out, network, settings, data.outputs, config)  # before the scores, which may fail
    network, _ = load_model(out)  # exactly what `evaluate` reads
    found = scores(network, test, precision=settings.precision)
    config["scores"] = {name: {score: list(value) for score, value in each.items()} for name, each in found.items()}
    save_model(out, network, settings, data.outputs, config)
    return found, data.outputs


def inputs_of(root: Path, start: str | Path | None = None) -> tuple[str, ...]:
    """Default inputs of a network for a dataset: those of the encoder that it starts from, else see `Contents`."""
    return read_contents(root).inputs if start is None else tuple(saved_inputs(read_checkpoint(start)[0]))


def _open(root: str | Path, split: str | None, config: dict[str, Any], on_error: str, progress: bool = True) -> Any:
    """One part of the split of a model; None for all samples."""
    given = {name: config[name] for name in ("scheme", "fold") if config[name] is not None}
    keys = config["modalities"], config["targets"]
    return load(root, split, *keys, on_error=on_error, progress=progress, **given)


def print_scores(found: Mapping[str, Mapping[str, Interval]], targets: Mapping[str, Target]) -> None:
    """Print one line per score: the target, the score, its value and 95 % interval, and its unit."""
    for target, each in found.items():
        for name, value in each.items():
            shown = "{:.4g} [{:.4g}, {:.4g}]".format(*value) if name == "mae" else str(value)
            print(f"{target} {name} {shown} {targets[target].unit if name == 'mae' else ''}".rstrip())

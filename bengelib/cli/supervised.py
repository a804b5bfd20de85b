"""The commands `describe`, `train` and `evaluate`: from a folder to a model with scores."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from bengelib.cli.commands import check_writable
from bengelib.data.describe import describe
from bengelib.data.loading import load
from bengelib.errors import BandError
from bengelib.intervals import Interval
from bengelib.recipes.supervised import Training, load_model, save_model, saved_targets, scores, train


def run_describe(options: argparse.Namespace) -> None:
    """Write a first `dataset.toml` and print what was guessed."""
    guess = describe(options.root, overwrite=options.overwrite)
    print(Path(options.root) / "dataset.toml")
    for sentence in guess.said:
        print(f"  {sentence}")
    for problem in guess.problems:
        print(f"TO DECIDE: {problem}")


def run_train(options: argparse.Namespace) -> None:
    """Train a network, write it, and print its scores on the test side."""
    names = ("fusion", "depth", "width", "epochs", "lr", "crop", "modality_dropout", "seed", "precision")
    settings = Training(batch_size=options.batch, **{name: getattr(options, name) for name in names})
    check_writable(options.out)
    found = train_on(
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
    print_scores(found)
    print(options.out)


def run_evaluate(options: argparse.Namespace) -> None:
    """Print the scores of a model of `train` on the test side of its split."""
    network, config = load_model(options.checkpoint)
    config["targets"] = list(saved_targets(config))
    test = _open(options.root, "test", config, "skip" if options.skip else "raise")
    print_scores(scores(network, test, precision=options.precision, batch_size=options.batch))


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
) -> dict[str, dict[str, Interval]]:
    """Train on the training side of a dataset, choose the epoch by its validation side, and score on its test side.

    Args:
        root: a path or name that `load` takes.
        targets: keys to predict.
        out: the checkpoint to write.
        settings: see `Training`.
        modalities: keys to use as inputs; those that `load` gives unless named.
        start: a checkpoint of an encoder to start from.
        scheme: of the split: `"official"`, `"study"` or `"blocked"`; what suits the dataset unless given.
        fold: which fold is the test side under `"blocked"`.
        on_error: `"raise"` or `"skip"`.
        progress: show bars.

    Raises:
        BandError: a target that the dataset does not have, or that no model can be asked for.
        BengeError: whatever `load`, `train` and `scores` find wrong.
    """
    config: dict[str, Any] = {"modalities": modalities, "targets": list(targets), "scheme": scheme, "fold": fold}
    data = _open(root, "train", config, on_error, progress)
    if other := [name for name in targets if name not in data.outputs]:
        raise BandError(f"no model can be asked for {other}; choose from the targets {list(data.outputs)}")
    network, _ = train(data, _open(root, "val", config, on_error, progress), settings, start=start, progress=progress)
    test = _open(root, "test", config, on_error, progress)
    found = scores(network, test, precision=settings.precision)
    facts = [asdict(target) for target in data.outputs.values()]  # a list, for the order
    config |= {"modalities": list(data.inputs), "targets": facts, "dataset": data.root.name}
    config["stored"] = getattr(data, "stored", {})  # for scenes whose files are like those of the dataset
    config["scores"] = {name: {score: list(value) for score, value in each.items()} for name, each in found.items()}
    save_model(out, network, replace(settings), config)
    return found


def _open(root: str | Path, split: str, config: dict[str, Any], on_error: str, progress: bool = True) -> Any:
    """One side of the split of a model."""
    given = {name: config[name] for name in ("scheme", "fold") if config[name] is not None}
    keys = config["modalities"], list(config["targets"])
    return load(root, split, *keys, on_error=on_error, progress=progress, **given)


def print_scores(found: dict[str, dict[str, Interval]]) -> None:
    """One line a score."""
    for target, each in found.items():
        for name, value in each.items():
            print(f"{target} {name} {value}")

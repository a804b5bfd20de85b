"""Judging encoders: the same question at several label fractions, to frozen, fine-tuned and untrained weights.

The parts stand in `probe` (frozen features and probes on them), `data.labelled` (which samples have labels) and
`finetuning`.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import nn
from torch.utils.data import Dataset, Subset
from tqdm import tqdm

from bengelib.arguments import whole_number
from bengelib.data.batches import contents_of
from bengelib.data.labelled import label_subsets
from bengelib.engine import Augmentation, seed_everything
from bengelib.errors import BandError
from bengelib.intervals import POOLED, Interval, draw_patches, pool, score_runs
from bengelib.metrics import accuracy, mean_average_precision
from bengelib.probe import extract_features, fit_logistic
from bengelib.recipes.finetuning import (
    FINE_TUNING,
    FROM_SCRATCH,
    FineTuning,
    finetune,
    for_enlarged,
    for_scratch,
    logits_of,
    with_chosen_lr,
)
from bengelib.tasks import Classification

MODES = ("frozen", "finetune", "scratch")
STAGES = (0, 1, 2, 3)
"""Stages of a ResNet that probes and heads read besides the last, with means and deviations over the image.

On validation tiles of EuroSAT (216 labels, three draws), all stages this way in place of the means of 2 and 3 raised
accuracy from .52 to .57 with random weights, and from .54 to .57 after a pretraining of two minutes."""

ENLARGED = 128
"""Pixels along a side up to which small images are enlarged, at most twice.

On training tiles of EuroSAT that had no labels (64 pixels, 216 labels, one draw) this raised the accuracy of a probe
from .775 to .795, and that of training from random weights from .685 (800 steps) to .694 (250 steps, which take as
long). Fine-tuning lost to the probe without it (.759), and gained on it with it (.805)."""


def enlargement(size: int) -> int:
    """The factor by which ResNets are given images of so many pixels along a side enlarged, 1 or 2."""
    return 2 if 2 * whole_number("size", size) <= ENLARGED else 1


def label_efficiency(
    encoder: nn.Module,
    build: Callable[[], nn.Module],
    train: Dataset[Any],
    train_labels: np.ndarray,
    test: Dataset[Any],
    test_labels: np.ndarray,
    classes: Sequence[str],
    *,
    target: str = "label",
    modes: Sequence[str] = MODES,
    fractions: Sequence[float] = (0.01, 0.1, 1.0),
    seeds: Sequence[int] = (0,),
    augment: Augmentation | None = None,
    stages: Sequence[int] = STAGES,
    texture: bool = True,
    enlarge: int = 1,
    tta: int = 8,
    finetune_settings: FineTuning | None = None,
    scratch_settings: FineTuning | None = None,
    groups: Sequence[str] | None = None,
    precision: str = "auto",
    progress: bool = True,
    after_each: Callable[[Sequence[dict[str, Any]]], object] = len,
) -> list[dict[str, Any]]:
    """Score of each mode on the same test samples, by the fraction of labelled training samples.

    * `frozen`: a logistic probe on the features of a frozen encoder.
    * `finetune`: the whole network trained further, from the weights of the encoder and of such a probe.
    * `scratch`: the same network from random weights, with the same steps and views and its own learning rate.

    Every mode of a seed has the same labelled samples, and all predict the test samples with the same `tta`.
    The learning rate of a mode, where there is a choice, is chosen at the first seed of each fraction, on a part of the
    labelled samples. The test samples decide nothing.

    Args:
        encoder: pretrained; it stays untouched.
        build: makes an encoder of the same kind with random weights.
        train: samples that are dicts, with `target`.
        train_labels: (N,) class indices, or (N, K) of 0 and 1 for several labels.
        test: other samples of the same kind.
        test_labels: likewise.
        classes: names of the classes.
        target: key of the labels.
        modes: some of `MODES`.
        fractions: of the training samples that are labelled, see `label_subsets`.
        seeds: draws of the labelled samples and runs of training.
        augment: views of a training batch in `finetune` and `scratch`.
        stages: stages whose features probes and heads read beside the last, in all modes, see `extract_features`.
        texture: likewise, whether they read standard deviations over the image as well.
        enlarge: factor by which images are enlarged first, in all modes; see `enlargement`.
        tta: see `extract_features`.
        finetune_settings: see `FineTuning`; `stages`, `texture` and `enlarge` above hold. By default `FINE_TUNING`,
            with fewer steps where images are enlarged, see `for_enlarged`.
        scratch_settings: likewise, changed by `for_scratch`; by default `FROM_SCRATCH`.
        groups: of the test samples, such as tiles, drawn as wholes for the intervals.
        precision: see `bengelib.devices.choose_precision`.
        progress: show bars, and each result when it is there.
        after_each: called with all rows so far whenever there is a new one, to keep them: a crash or an interruption
            then loses one training and not all.

    Returns:
        Rows of `mode`, `fraction`, `n_labels`, `seed`, `accuracy` (with several labels `map`) and `ci95`, the ends of
        its 95 % interval over test samples; with several seeds also rows of seed `"all"`: the mean over the seeds, with
        an interval over test samples and seeds together.

    Raises:
        BandError: an unknown mode.
        SplitError: some class has no label at any of the fractions.
        ValueError: no modes or seeds, or labels that do not fit the samples.
    """
    if not modes or not seeds or not set(modes) <= set(MODES):
        raise BandError(f"modes {list(modes)} with seeds {list(seeds)}; choose modes from {MODES} and one seed or more")
    train_labels, test_labels = np.asarray(train_labels), np.asarray(test_labels)
    for part, labels in ((train, train_labels), (test, test_labels)):
        if len(part) != len(labels):  # type: ignore[arg-type]
            raise ValueError(f"{len(labels)} labels for {len(part)} samples")  # type: ignore[arg-type]
    multi_label = train_labels.ndim == 2
    metric, score = ("map", mean_average_precision) if multi_label else ("accuracy", accuracy)
    counts = draw_patches(len(test_labels), groups)
    if not multi_label:
        Classification(target, classes)  # refuses too many classes now, and not after the first mode
    contents = contents_of(train)
    subsets = {seed: label_subsets(train_labels, fractions, seed, contents=contents) for seed in seeds}
    reads = {"stages": tuple(stages), "texture": texture, "enlarge": enlarge, "tta": tta}
    trained = {
        "finetune": finetune_settings or for_enlarged(FINE_TUNING, enlarge),
        "scratch": for_scratch(scratch_settings or for_enlarged(FROM_SCRATCH, enlarge)),
    }
    features = _Frozen(encoder, train, test, subsets, reads, precision) if "frozen" in modes else None
    rows: list[dict[str, Any]] = []
    for fraction in sorted(set.intersection(*(set(by_fraction) for by_fraction in subsets.values()))):
        for mode in modes:
            settings = replace(trained.get(mode, FINE_TUNING), stages=tuple(stages), texture=texture, enlarge=enlarge)
            runs = []
            for seed in seeds:
                chosen = subsets[seed][fraction]
                if features is not None and mode == "frozen":
                    predicted = features.predict(chosen, train_labels, len(classes), seed)
                else:
                    seed_everything(seed)
                    start = encoder if mode == "finetune" else build()
                    arguments = (start, train, target, classes, train_labels)
                    common: dict[str, Any] = {
                        "chosen": chosen,
                        "augment": augment,
                        "precision": precision,
                        "progress": progress,
                    }
                    settings = with_chosen_lr(*arguments, settings=settings, seed=seed, **common)
                    network = finetune(*arguments, settings=settings, seed=seed, **common)
                    logits = logits_of(network, test, target, tta=tta, precision=precision)
                    predicted = logits if multi_label else logits.argmax(axis=1)
                runs.append(score_runs(predicted[None], test_labels, score, counts))
                rows.append(_row(mode, fraction, len(chosen), seed, metric, pool(runs[-1]), progress))
                after_each(rows)
            if len(seeds) > 1:
                rows.append(_row(mode, fraction, len(chosen), POOLED, metric, pool(np.concatenate(runs)), progress))
                after_each(rows)
    return rows


def curves(rows: Sequence[dict[str, Any]]) -> dict[str, dict[float, Interval]]:
    """Rows of `label_efficiency` as `plot.plot_curves` draws them: mode, fraction, and value with its interval.

    With several seeds these are the rows of seed `"all"`.
    """
    pooled = [row for row in rows if row["seed"] == POOLED] or list(rows)
    drawn: dict[str, dict[float, Interval]] = {}
    for row in pooled:
        value = row["accuracy"] if "accuracy" in row else row["map"]
        drawn.setdefault(row["mode"], {})[row["fraction"]] = Interval(value, *row["ci95"])
    return drawn


class _Frozen:
    """Features of the test samples and of all training samples that are labelled in some draw, computed once."""

    def __init__(
        self,
        encoder: nn.Module,
        train: Dataset[Any],
        test: Dataset[Any],
        subsets: dict[int, dict[float, np.ndarray]],
        reads: dict[str, Any],
        precision: str,
    ) -> None:
        self._needed = np.unique(np.concatenate([part for draw in subsets.values() for part in draw.values()]))
        some = Subset(train, self._needed.tolist())
        self._train = extract_features(encoder, some, **reads, precision=precision)
        self._test = extract_features(encoder, test, **reads, precision=precision)

    def predict(self, chosen: np.ndarray, labels: np.ndarray, classes: int, seed: int) -> np.ndarray:
        """Predictions of a logistic probe on the chosen training samples for the test samples."""
        places = np.searchsorted(self._needed, chosen)
        return fit_logistic(self._train[places], labels[chosen], classes, seed=seed).predict(self._test)


def _row(
    mode: str, fraction: float, labels: int, seed: int | str, metric: str, interval: Interval, announce: bool
) -> dict[str, Any]:
    """One result, shown on standard error where wanted."""
    if announce:
        draw = f"seed {seed}" if seed != POOLED else "all seeds"
        tqdm.write(f"{mode:>8} {fraction:>6.1%} ({labels} labels, {draw}): {metric} {interval}", file=sys.stderr)
    value = {metric: round(interval.value, 6), "ci95": [round(interval.low, 6), round(interval.high, 6)]}
    return {"mode": mode, "fraction": fraction, "n_labels": labels, "seed": seed, **value}

"""The study behind Lab 1: which way of joining sensors is better, for whom, and when a sensor fails.

    python 01-data_fusion/study.py            # train what is missing, then write results.csv
    python 01-data_fusion/study.py --list     # the configurations, with what is done
    python 01-data_fusion/study.py --table    # only write results.csv from the runs that are there

Every configuration differs from the base, Sentinel-2 alone, in the factor that its experiment is about. A run trains one
network with two heads, climate zone and the 19 BigEarthNet labels, on the sum of their losses: one run answers for
both targets, which halves the time (Lab 2 asks what sharing does). There is no choice among epochs or settings: the
weights after the last step of a cosine schedule are tested, once. Runs are kept in build/studies/ and never repeated.

Main comparisons, named before any run: on the random split with all labels, S2 against S2 + S1 early, feature (gate) and
late, on both targets; early against late at equal numbers of weights; the same at a tenth of the labels; with S2 under
clouds, early against early with modality dropout. Everything else is exploration and called so.
"""

import argparse
import os
import sys
import time
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Subset

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bengelib.bands import CLIMATE_ZONE_SYMBOLS, CORINE_19, S1_BANDS, S2_BANDS, WEATHER  # noqa: E402
from bengelib.clouds import paint_clouds  # noqa: E402
from bengelib.engine import fit, predict, seed_everything  # noqa: E402
from bengelib.fusion import EarlyFusion, FeatureFusion, FiLMFusion, LateFusion  # noqa: E402
from bengelib.heads import ClassificationHead, Network, count_parameters  # noqa: E402
from bengelib.intervals import (  # noqa: E402
    MIN_POSITIVES,
    Interval,
    accuracy,
    bootstrap,
    macro_f1,
    mean_average_precision,
)
from bengelib.loading import load  # noqa: E402
from bengelib.packed import PackedBENGE  # noqa: E402
from bengelib.results import fingerprint, interval_rows, write_results  # noqa: E402
from bengelib.splits import mgrs_tile, unit_hash  # noqa: E402
from bengelib.tasks import Classification, MultiLabel  # noqa: E402
from bengelib.transforms import Augment, Batch  # noqa: E402

RESULTS = Path(__file__).with_name("results.csv")
RUNS = ROOT / "build" / "studies" / "data_fusion"
BANDS: dict[str, tuple[str, ...]] = {"s2": S2_BANDS, "s1": S1_BANDS, "weather": tuple(WEATHER)}
ENCODERS = {"early": EarlyFusion, "feature": FeatureFusion, "late": LateFusion, "film": FiLMFusion}
TARGETS = {"climate_zone": CLIMATE_ZONE_SYMBOLS, "corine": CORINE_19}
SCORES = {
    "climate_zone": {"accuracy": accuracy, "macro_f1": macro_f1},
    "corine": {"map": mean_average_precision},
}
COVERS = (0.1, 0.25, 0.5, 0.75, 1.0)
CLEAR = "clear"


@dataclass(frozen=True)
class Run:
    """One training run: everything that decides its outcome."""

    experiment: str
    model: str
    inputs: tuple[str, ...] = ("s2",)
    encoder: str = "early"
    join: str = ""
    width: float = 0.5
    modality_dropout: float = 0.0
    label_fraction: float = 1.0
    scheme: str = "study"
    fold: int = 0
    seed: int = 0
    dataset: str = "ben-ge-sim"
    patches: int = 4000
    epochs: int = 3
    batch_size: int = 32
    lr: float = 2e-3
    crop: int = 64

    @property
    def split(self) -> str:
        """How the patches were parted, as results.csv names it."""
        return "random" if self.scheme == "study" else "blocked"


SENSORS = ("s2", "s1")
MAIN = (
    Run("strategies", "S1", inputs=("s1",)),
    Run("strategies", "S2"),
    Run("strategies", "S2 + S1, early", inputs=SENSORS),
    Run("strategies", "S2 + S1, late", inputs=SENSORS, encoder="late"),
)
"""The four strategies that are followed through every question."""
OTHERS = (
    Run("strategies", "S2 + S1, feature (concat)", inputs=SENSORS, encoder="feature", join="concat"),
    Run("strategies", "S2 + S1, feature (sum)", inputs=SENSORS, encoder="feature", join="sum"),
    Run("strategies", "S2 + S1, feature (gate)", inputs=SENSORS, encoder="feature", join="gate"),
    Run("strategies", "S2 + elevation, early", inputs=("s2", "dem")),
    Run("strategies", "S2 + season plane", inputs=("s2", "season")),
    Run("strategies", "S2 + weather, MLP", inputs=("s2", "weather"), encoder="late"),
    Run("strategies", "S2 + weather, FiLM", inputs=("s2", "weather"), encoder="film"),
    Run("strategies", "S2 + location, MLP", inputs=("s2", "lonlat"), encoder="late"),
)
SHORTCUTS = ("S2 + season plane", "S2 + weather, MLP")
DECISION = "S2 + S1, decision"
"""Decision fusion trains nothing: it averages the probabilities of the S1 and the S2 run of the same seed."""


def configurations() -> list[Run]:
    """Every run of the study."""
    seeds = range(3)
    runs = [replace(run, seed=seed) for run in (*MAIN, *OTHERS) for seed in seeds]
    runs += [replace(MAIN[1], experiment="noise floor", model="S2 again", seed=seed) for seed in range(3, 6)]
    narrow = replace(MAIN[3], experiment="capacity", model="S2 + S1, late, width-matched", width=0.352)
    runs += [replace(narrow, seed=seed) for seed in seeds]
    few = [replace(run, experiment="labels", label_fraction=0.1, epochs=15) for run in MAIN]
    runs += [replace(run, seed=seed) for run in few for seed in seeds]
    for run in MAIN[2:]:
        dropped = replace(run, experiment="modality dropout", model=f"{run.model}, dropout", modality_dropout=0.3)
        runs += [replace(dropped, seed=seed) for seed in seeds]
    for run in (*MAIN, *(run for run in OTHERS if run.model in SHORTCUTS)):
        blocked = replace(run, experiment="blocked", scheme="blocked")
        runs += [replace(blocked, fold=fold, seed=fold) for fold in range(5)]
    return runs


def conditions(run: Run) -> dict[str, Any]:
    """What is done to the test patches of a run, by name: nothing, clouds, a sensor missing, a modality permuted."""
    changes: dict[str, Any] = {CLEAR: None}
    if run.scheme != "study" or run.label_fraction < 1 or run.experiment not in ("strategies", "modality dropout"):
        return changes
    if run.model.split(", dropout")[0] in [main.model for main in MAIN] and "s2" in run.inputs:
        for cover in COVERS:
            changes[f"clouds {cover:.2f}"] = partial(cloudy, cover)
    if set(run.inputs) == set(SENSORS) and (run.encoder != "feature"):
        changes |= {f"{key} missing": partial(without, key) for key in SENSORS}
    if len(run.inputs) > 1 and not run.modality_dropout:
        changes |= {f"{key} permuted": partial(permuted, key) for key in run.inputs if key != "s2"}
    return changes


def cloudy(cover: float, batch: Batch) -> Batch:
    """Clouds over the batch; the first patch id seeds them, so every model meets the same clouds."""
    return paint_clouds(batch, cover, torch.Generator().manual_seed(int(unit_hash(batch["patch_id"][0]) * 2**31)))


def without(key: str, batch: Batch) -> Batch:
    """The batch without a sensor."""
    return {name: value for name, value in batch.items() if name != key}


def permuted(key: str, batch: Batch) -> Batch:
    """The batch with one modality handed to other patches: what the model loses is what it took from it."""
    generator = torch.Generator().manual_seed(len(batch["patch_id"]))
    order = torch.randperm(len(batch["patch_id"]), generator=generator)
    return {**batch, key: batch[key][order.to(batch[key].device)]}


def open_data(run: Run, split: str) -> PackedBENGE:
    """One side of the data of a run."""
    return load(
        run.dataset,
        split,
        modalities=run.inputs,
        targets=tuple(TARGETS),
        patches=run.patches if run.dataset == "ben-ge-sim" else None,
        scheme=run.scheme,
        fold=run.fold,
    )


def build(run: Run) -> Network:
    """The untrained network of a run."""
    options: dict[str, Any] = {"how": run.join} if run.join else {}
    inputs = {key: BANDS.get(key, ()) for key in run.inputs}
    encoder: nn.Module = ENCODERS[run.encoder](
        inputs, width=run.width, modality_dropout=run.modality_dropout, missing="mean", **options
    )
    size: int = encoder.feature_dim  # type: ignore[assignment]
    return Network(encoder, {target: ClassificationHead(size, classes) for target, classes in TARGETS.items()})


def carry_out(run: Run, path: Path) -> None:
    """Train and test one run; write logits of every test patch under every condition to `path`."""
    seed_everything(run.seed)
    model = build(run)
    train = open_data(run, "train")
    data: Any = train
    if run.label_fraction < 1:  # nested: a smaller share lies within a larger one
        ranked = sorted(range(len(train)), key=lambda index: unit_hash(f"labels {train.patch_ids[index]}"))
        data = Subset(train, ranked[: max(1, round(run.label_fraction * len(train)))])
    tasks = [Classification("climate_zone", CLIMATE_ZONE_SYMBOLS), MultiLabel("corine", CORINE_19)]
    fit(
        model,
        tasks,
        data,
        epochs=run.epochs,
        batch_size=run.batch_size,
        lr=run.lr,
        augment=Augment(run.crop),
        precision="no",
        seed=run.seed,
        progress=False,
    )
    test = open_data(run, "test")
    arrays: dict[str, np.ndarray] = {"parameters": np.array(count_parameters(model))}
    for name, change in conditions(run).items():
        predictions = predict(model, test, change=change, precision="no", batch_size=100)
        arrays |= {f"{name}|{target}": values.astype(np.float32) for target, values in predictions.outputs.items()}
    arrays["patch_ids"] = np.array(test.patch_ids)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial_path = path.with_suffix(".part.npz")
    np.savez(partial_path, **arrays)  # type: ignore[arg-type]
    partial_path.replace(path)


def run_path(run: Run) -> Path:
    """Where the predictions of a run are kept."""
    return RUNS / f"{fingerprint(run)}.npz"


class Table:
    """Collects the rows of results.csv from the predictions of the runs."""

    def __init__(self, runs: list[Run]) -> None:
        """Open the predictions of `runs` and the labels of all patches."""
        self.runs = runs
        everything = open_data(replace(runs[0], inputs=("lonlat",)), split=None)  # type: ignore[arg-type]
        self.place = {patch: index for index, patch in enumerate(everything.patch_ids)}
        self.labels = {target: everything.table(target) for target in TARGETS}
        self.tiles = np.array([mgrs_tile(patch) for patch in everything.meta["patch_id_s1"]])
        self.stored = {run: np.load(run_path(run)) for run in runs}
        self.rows: list[dict[str, Any]] = []

    def of(self, experiment: str, model: str) -> list[Run]:
        """The runs of one model in one experiment, by seed."""
        return [run for run in self.runs if run.experiment == experiment and run.model == model]

    def predicted(self, runs: list[Run], target: str, condition: str = CLEAR) -> np.ndarray:
        """What is scored, (S, N) classes or (S, N, 19) logits; the folds of a blocked run follow each other."""
        logits = [self.stored[run][f"{condition}|{target}"] for run in runs]
        made = [values.argmax(axis=1) if target == "climate_zone" else values for values in logits]
        return np.concatenate(made)[None] if runs[0].scheme == "blocked" else np.stack(made)

    def patches(self, runs: list[Run]) -> np.ndarray:
        """Index of each tested patch among all, in the order of `predicted`."""
        of = runs if runs[0].scheme == "blocked" else runs[:1]
        return np.array([self.place[str(patch)] for run in of for patch in self.stored[run]["patch_ids"]])

    def add(
        self,
        runs: list[Run],
        condition: str = CLEAR,
        reference: list[Run] | None = None,
        reference_condition: str = CLEAR,
        predictions: dict[str, np.ndarray] | None = None,
        model: str = "",
        metric_end: str = "",
    ) -> None:
        """Rows of each seed and pooled intervals of one model, or of its paired difference to `reference`."""
        run, where = runs[0], self.patches(runs)
        groups = self.tiles[where] if run.scheme == "blocked" else None
        for target, scores in SCORES.items():
            if target == "climate_zone" and "lonlat" in run.inputs:
                continue  # the place is a look-up table for the climate zone, so that number would teach nothing
            truth = self.labels[target][where]
            predicted = predictions[target] if predictions else self.predicted(runs, target, condition)
            baseline = None if reference is None else self.predicted(reference, target, reference_condition)
            for metric, score in scores.items():
                row = {
                    "dataset": run.dataset,
                    "experiment": run.experiment,
                    "model": model or run.model,
                    "target": target,
                    "metric": metric + metric_end,
                    "split": run.split,
                    "label_fraction": run.label_fraction,
                    "condition": condition,
                    "config": fingerprint(replace(run, seed=0, fold=0)),
                }
                interval = bootstrap(predicted, truth, score, baseline, groups)
                self.rows += interval_rows(row, interval)
                if reference is None:
                    self._seeds(row, runs, predicted, truth, score)

    def _seeds(
        self, row: dict[str, Any], runs: list[Run], predicted: np.ndarray, truth: np.ndarray, score: Any
    ) -> None:
        """A row for each seed; the five folds of a blocked run are one."""
        once = np.ones((1, len(truth)), dtype=np.int64)
        seeds = ["folds"] if runs[0].scheme == "blocked" else [run.seed for run in runs]
        self.rows += [
            {**row, "seed": seed, "value": score(values, truth, once)[0]}
            for seed, values in zip(seeds, predicted, strict=True)
        ]

    def decision(self) -> dict[str, np.ndarray]:
        """Decision fusion of the S1 and S2 runs: predictions by target."""
        pairs = [self.of("strategies", "S1"), self.of("strategies", "S2")]
        votes = [[self.stored[run] for run in runs] for runs in pairs]
        zones = [[_softmax(one[f"{CLEAR}|climate_zone"]) for one in side] for side in votes]
        labels = [[1 / (1 + np.exp(-one[f"{CLEAR}|corine"])) for one in side] for side in votes]
        return {"climate_zone": np.mean(zones, axis=0).argmax(axis=2), "corine": np.mean(labels, axis=0)}

    def by_class(self, runs: list[Run], reference: list[Run]) -> None:
        """Difference in average precision for each of the 19 labels that has enough positives."""
        where = self.patches(runs)
        truth = self.labels["corine"][where]
        first, second = (self.predicted(of, "corine") for of in (runs, reference))
        for place, name in enumerate(CORINE_19):
            if truth[:, place].sum() < MIN_POSITIVES:
                continue
            column = slice(place, place + 1)
            interval = bootstrap(
                first[:, :, column], truth[:, column], mean_average_precision, second[:, :, column]
            )
            row = {
                "dataset": runs[0].dataset,
                "experiment": "by class",
                "model": runs[0].model,
                "target": "corine",
                "metric": "average_precision_minus_s2",
                "split": runs[0].split,
                "label_fraction": 1.0,
                "condition": name,
                "config": fingerprint(replace(runs[0], seed=0, fold=0)),
            }
            self.rows += interval_rows(row, interval)

    def majority(self) -> None:
        """The most frequent class of the training side, and a constant score for every label, on the random split."""
        run = MAIN[1]
        where = self.patches(self.of("strategies", "S2"))
        rest = np.setdiff1d(np.arange(len(self.place)), where)
        zone = np.bincount(self.labels["climate_zone"][rest]).argmax()
        constant = {
            "climate_zone": np.full((1, len(where)), zone),
            "corine": np.zeros((1, len(where), len(CORINE_19))),
        }
        self.add([run], predictions=constant, model="majority class")

    def parameters(self) -> None:
        """Number of weights of each model of the random split."""
        for run in {(run.experiment, run.model): run for run in self.runs if run.scheme == "study"}.values():
            self.rows.append(
                {
                    "dataset": run.dataset,
                    "experiment": run.experiment,
                    "model": run.model,
                    "target": "",
                    "metric": "parameters",
                    "split": run.split,
                    "label_fraction": run.label_fraction,
                    "condition": CLEAR,
                    "seed": "all",
                    "value": float(self.stored[run]["parameters"]),
                    "config": fingerprint(replace(run, seed=0, fold=0)),
                }
            )


def tabulate(runs: list[Run]) -> list[dict[str, Any]]:
    """Every row of results.csv."""
    table = Table(runs)
    s2 = table.of("strategies", "S2")
    for experiment, model in dict.fromkeys((run.experiment, run.model) for run in runs):
        group = table.of(experiment, model)
        for condition in conditions(group[0]):
            table.add(group, condition)
            if condition != CLEAR:  # what the condition costs, the same patches and seeds
                table.add(group, condition, reference=group, metric_end="_minus_clear")
        if experiment in ("strategies", "noise floor", "capacity") and model != "S2":
            table.add(group, reference=s2, metric_end="_minus_s2")
        if experiment in ("labels", "blocked") and model != "S2":
            table.add(group, reference=table.of(experiment, "S2"), metric_end="_minus_s2")
        if experiment == "modality dropout":
            plain = table.of("strategies", model.removesuffix(", dropout"))
            for condition in conditions(group[0]):
                table.add(group, condition, plain, condition, metric_end="_minus_no_dropout")
    joined = table.decision()
    table.add(s2, predictions=joined, model=DECISION)
    table.add(s2, predictions=joined, model=DECISION, reference=s2, metric_end="_minus_s2")
    matched = table.of("capacity", "S2 + S1, late, width-matched")
    table.add(matched, reference=table.of("strategies", "S2 + S1, early"), metric_end="_minus_early")
    table.add(
        table.of("strategies", "S2 + S1, late"),
        reference=table.of("strategies", "S2 + S1, early"),
        metric_end="_minus_early",
    )
    for model in ("S1", "S2 + S1, early", "S2 + elevation, early", "S2 + weather, MLP"):
        table.by_class(table.of("strategies", model), s2)
    table.majority()
    table.parameters()
    return table.rows


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
    return shares


def summary(interval: Interval) -> str:
    """One line about a difference."""
    return f"{interval} {'decided' if interval.excludes_zero else 'undecided'}"


def main() -> None:
    """Carry out what is missing, then tabulate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="print the configurations and what is done")
    parser.add_argument("--table", action="store_true", help="only write results.csv")
    parser.add_argument("--only", default="", help="only this experiment")
    arguments = parser.parse_args()
    runs = configurations()
    if arguments.list:
        for run in runs:
            print("done" if run_path(run).is_file() else "    ", fingerprint(run), asdict(run))
        return
    started = time.monotonic()
    wanted = [run for run in runs if not arguments.only or run.experiment == arguments.only]
    missing = [] if arguments.table else [run for run in wanted if not run_path(run).is_file()]
    for number, run in enumerate(missing, start=1):
        begun = time.monotonic()
        carry_out(run, run_path(run))
        now = time.monotonic()
        left = (now - started) / number * (len(missing) - number)
        print(
            f"{number}/{len(missing)} {run.experiment}: {run.model}, seed {run.seed}, {now - begun:.0f} s; "
            f"{(now - started) / 60:.1f} min, about {left / 60:.0f} to go",
            flush=True,
        )
    if arguments.only:
        return
    write_results(RESULTS, tabulate(runs))
    print(f"wrote {os.path.relpath(RESULTS)} after {(time.monotonic() - started) / 60:.1f} min")


if __name__ == "__main__":
    main()

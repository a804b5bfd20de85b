"""The study behind Lab 1: which way of joining sensors is better, for whom, and when a sensor fails.

    python 01-data_fusion/study.py            # train what is missing, then write results.csv
    python 01-data_fusion/study.py --list     # the configurations, with what is done
    python 01-data_fusion/study.py --table    # only write results.csv from the runs that are there

Every configuration differs from the base, Sentinel-2 alone, in the factor that its experiment is about. A run trains
one network with two heads, climate zone and the 19 BigEarthNet labels, on the sum of their losses: one run answers for
both targets, which halves the time (Lab 2 asks what sharing does). There is no choice among epochs or settings: the
weights after the last step of a cosine schedule are tested, once. Runs are kept in build/studies/, never repeated.

Main comparisons, named before any run: on the random split with all labels, S2 against S2 + S1 early, feature (gate)
and late, on both targets; early against late at equal numbers of weights; the same at a tenth of the labels; with S2
under clouds, early against early with modality dropout. Everything else is exploration and called so.
"""

import sys
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn
from torch.utils.data import Subset

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bengelib.bands import CLIMATE_ZONE_SYMBOLS, CORINE_19, S1_BANDS, S2_BANDS, WEATHER  # noqa: E402
from bengelib.clouds import paint_clouds  # noqa: E402
from bengelib.course.results import Run as BaseRun  # noqa: E402
from bengelib.course.results import Table as BaseTable  # noqa: E402
from bengelib.course.studies import command_line  # noqa: E402
from bengelib.data.packed import PackedBENGE  # noqa: E402
from bengelib.data.splits import mgrs_tile, unit_hash  # noqa: E402
from bengelib.engine import Trainer, predict, seed_everything  # noqa: E402
from bengelib.fusion import EarlyFusion, FeatureFusion, FiLMFusion, LateFusion  # noqa: E402
from bengelib.heads import ClassificationHead, Network, count_parameters  # noqa: E402
from bengelib.intervals import draw_patches, score_runs  # noqa: E402
from bengelib.metrics import MIN_POSITIVES, accuracy, average_precision, macro_f1  # noqa: E402
from bengelib.tasks import Classification, MultiLabel  # noqa: E402
from bengelib.transforms import Augment, Batch  # noqa: E402

RESULTS = Path(__file__).with_name("results.csv")
RUNS = ROOT / "build" / "studies" / "data_fusion"
BANDS: dict[str, tuple[str, ...]] = {"s2": S2_BANDS, "s1": S1_BANDS, "weather": tuple(WEATHER)}
ENCODERS = {"early": EarlyFusion, "feature": FeatureFusion, "late": LateFusion, "film": FiLMFusion}
TARGETS = {"climate_zone": CLIMATE_ZONE_SYMBOLS, "corine": CORINE_19}
METRICS = {"climate_zone": ("accuracy", "macro_f1"), "corine": ("map",)}
DRAWS = 500
COVERS = (0.25, 0.5, 0.75, 1.0)
CLEAR = "clear"


@dataclass(frozen=True, kw_only=True)
class Run(BaseRun):
    """One training run: everything that decides its outcome."""

    encoder: str = "early"
    join: str = ""
    modality_dropout: float = 0.0
    scheme: str = "study"
    fold: int = 0
    crop: int = 64

    REPEATS: ClassVar[tuple[str, ...]] = ("seed", "fold")

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
MAJORITY = "majority class"


def configurations() -> list[Run]:
    """Every run of the study."""
    seeds = range(3)
    runs = [replace(run, seed=seed) for run in (*MAIN, *OTHERS) for seed in seeds]
    runs += [replace(MAIN[1], experiment="noise floor", model="S2 again", seed=seed) for seed in range(3, 6)]
    narrow = replace(MAIN[3], experiment="capacity", model="S2 + S1, late, width-matched", width=0.352)
    runs += [replace(narrow, seed=seed) for seed in seeds]
    few = [replace(run, experiment="labels", label_fraction=0.1, epochs=28) for run in MAIN]  # as many steps
    runs += [replace(run, seed=seed) for run in few for seed in seeds]
    runs += [replace(run, experiment="longer", model=f"{run.model}, longer", epochs=9) for run in (MAIN[1], MAIN[3])]
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


def open_data(run: Run, split: str | None) -> PackedBENGE:
    """One side of the data of a run."""
    return run.load(split, run.inputs, tuple(TARGETS), scheme=run.scheme, fold=run.fold)


def build(run: Run) -> Network:
    """The untrained network of a run."""
    options: dict[str, Any] = {"how": run.join} if run.join else {}
    inputs = {key: BANDS.get(key, ()) for key in run.inputs}
    encoder: nn.Module = ENCODERS[run.encoder](
        inputs, width=run.width, modality_dropout=run.modality_dropout, missing="mean", **options
    )
    size: int = encoder.feature_dim  # type: ignore[assignment]
    return Network(encoder, {target: ClassificationHead(size, classes) for target, classes in TARGETS.items()})


def carry_out(run: Run) -> dict[str, np.ndarray]:
    """Train and test one run: the logits of every test patch under every condition."""
    seed_everything(run.seed)
    model = build(run)
    train = open_data(run, "train")
    data: Any = train
    if run.label_fraction < 1:  # nested: a smaller share lies within a larger one
        ranked = sorted(range(len(train)), key=lambda index: unit_hash(f"labels {train.patch_ids[index]}"))
        data = Subset(train, ranked[: max(1, round(run.label_fraction * len(train)))])
    tasks = [Classification("climate_zone", CLIMATE_ZONE_SYMBOLS), MultiLabel("corine", CORINE_19)]
    Trainer(precision="no", progress=False).fit(
        model,
        tasks,
        data,
        epochs=run.epochs,
        batch_size=run.batch_size,
        lr=run.lr,
        augment=Augment(run.crop),
        seed=run.seed,
    )
    test = open_data(run, "test")
    arrays: dict[str, np.ndarray] = {"parameters": np.array(count_parameters(model))}
    for name, change in conditions(run).items():
        predictions = predict(model, test, change=change, precision="no", batch_size=100)
        arrays |= {f"{name}|{target}": values.astype(np.float32) for target, values in predictions.outputs.items()}
    arrays["patch_ids"] = np.array(test.patch_ids)
    return arrays


class Table(BaseTable):
    """Collects the rows of results.csv from the predictions of the runs."""

    def __init__(self, runs: list[Run]) -> None:
        """Open the predictions of `runs` and the labels of all patches."""
        super().__init__(runs, RUNS)
        everything = open_data(replace(runs[0], inputs=("lonlat",)), split=None)
        self.place = {patch: index for index, patch in enumerate(everything.patch_ids)}
        self.labels = {target: everything.table(target) for target in TARGETS}
        self.tiles = np.array([mgrs_tile(patch) for patch in everything.meta["patch_id_s1"]])
        self.scores = cache(self._scores)

    def predicted(self, runs: tuple[Run, ...], target: str, condition: str = CLEAR, model: str = "") -> np.ndarray:
        """What is scored, (S, N) classes or (S, N, 19) logits; the folds of a blocked run follow each other."""
        if model == DECISION:
            return self.decision(target)
        if model == MAJORITY:
            return self.majority(target, runs)
        logits = [self.stored[run][f"{condition}|{target}"] for run in runs]
        made = [values.argmax(axis=1) if target == "climate_zone" else values for values in logits]
        return np.concatenate(made)[None] if runs[0].scheme == "blocked" else np.stack(made)

    def patches(self, runs: tuple[Run, ...]) -> np.ndarray:
        """Index of each tested patch among all, in the order of `predicted`."""
        of = runs if runs[0].scheme == "blocked" else runs[:1]
        return np.array([self.place[str(patch)] for run in of for patch in self.stored[run]["patch_ids"]])

    def _scores(self, runs: tuple[Run, ...], metric: str, condition: str = CLEAR, model: str = "") -> np.ndarray:
        """Score of each run in each drawing of test patches (tiles when blocked), (S, 1 + D).

        `metric` is `accuracy`, `macro_f1`, `map`, or the name of one of the 19 labels for its average precision;
        `model` is given for what is not the runs' own prediction (decision fusion, the majority class).
        """
        where = self.patches(runs)
        if metric == "map":
            return np.nanmean([self.scores(runs, name, condition, model) for name in self.counted(where)], axis=0)
        counts = draw_patches(len(where), self.tiles[where] if runs[0].scheme == "blocked" else None, DRAWS)
        if metric in CORINE_19:
            column = CORINE_19.index(metric)
            predicted = self.predicted(runs, "corine", condition, model)[:, :, column]
            return score_runs(predicted, self.labels["corine"][where, column], average_precision, counts)
        predicted = self.predicted(runs, "climate_zone", condition, model)
        score = accuracy if metric == "accuracy" else macro_f1
        return score_runs(predicted, self.labels["climate_zone"][where], score, counts)

    def counted(self, where: np.ndarray) -> list[str]:
        """The labels with five or more positives among some patches."""
        positives = self.labels["corine"][where].sum(axis=0)
        return [name for name, count in zip(CORINE_19, positives, strict=True) if count >= MIN_POSITIVES]

    def add(self, runs: tuple[Run, ...], condition: str = CLEAR, model: str = "") -> None:
        """Rows of each seed, and the pooled interval, of one model under one condition."""
        seeds = ["folds"] if runs[0].scheme == "blocked" else [run.seed for run in runs]
        for target, metric in self.asked(runs):
            columns = {"target": target, "condition": condition, "model": model or runs[0].model}
            self.write_scores(runs[0], self.scores(runs, metric, condition, model), seeds, metric=metric, **columns)

    def compare(
        self,
        runs: tuple[Run, ...],
        reference: tuple[Run, ...],
        against: str,
        condition: str = CLEAR,
        reference_condition: str = CLEAR,
        model: str = "",
    ) -> None:
        """The pooled interval of the paired difference to `reference`, which `against` is a word for."""
        for target, metric in self.asked(runs):
            self.write_difference(
                runs[0],
                self.scores(runs, metric, condition, model),
                self.scores(reference, metric, reference_condition),
                metric=metric,
                against=against,
                target=target,
                condition=condition,
                model=model or runs[0].model,
            )

    def asked(self, runs: tuple[Run, ...]) -> list[tuple[str, str]]:
        """Targets and metrics of some runs; the place is a look-up table for the zone, so that would teach nothing."""
        targets = [name for name in TARGETS if name != "climate_zone" or "lonlat" not in runs[0].inputs]
        return [(target, metric) for target in targets for metric in METRICS[target]]

    def decision(self, target: str) -> np.ndarray:
        """Decision fusion of the S1 and S2 runs: classes (S, N) or mean probabilities (S, N, 19)."""
        votes = [
            np.stack([self.stored[run][f"{CLEAR}|{target}"] for run in self.of("strategies", model)])
            for model in ("S1", "S2")
        ]
        if target == "climate_zone":
            return np.mean([_softmax(logits) for logits in votes], axis=0).argmax(axis=2)
        return np.mean([1 / (1 + np.exp(-logits)) for logits in votes], axis=0)

    def majority(self, target: str, runs: tuple[Run, ...]) -> np.ndarray:
        """The most frequent class of the patches that a run (or fold) does not test, or one score for all labels."""
        if target == "corine":
            return np.zeros((1, len(self.patches(runs)), len(CORINE_19)))
        said = []
        for run in runs if runs[0].scheme == "blocked" else runs[:1]:
            tested = self.patches((run,))
            rest = np.setdiff1d(np.arange(len(self.place)), tested)
            said.append(np.full(len(tested), np.bincount(self.labels["climate_zone"][rest]).argmax()))
        return np.concatenate(said)[None]

    def by_class(self, runs: tuple[Run, ...], reference: tuple[Run, ...]) -> None:
        """Difference in average precision for each of the 19 labels that has enough positives."""
        for name in self.counted(self.patches(runs)):
            columns = {"experiment": "by class", "target": "corine", "condition": name}
            of, other = self.scores(runs, name), self.scores(reference, name)
            self.write_difference(runs[0], of, other, metric="average_precision", against="s2", **columns)

    def parameters(self) -> None:
        """Number of weights of each model of the random split."""
        for run in {(run.experiment, run.model): run for run in self.runs if run.scheme == "study"}.values():
            self.write(run, self.stored[run]["parameters"], metric="parameters")

    def tested(self, runs: tuple[Run, ...]) -> None:
        """How many patches (and tiles) tested some runs, and how many of them have each of the 19 labels."""
        where = self.patches(runs)
        self.write(runs[0], len(where), metric="test_patches")
        self.write(runs[0], len(np.unique(self.tiles[where])), metric="test_tiles")
        for name, count in zip(CORINE_19, self.labels["corine"][where].sum(axis=0), strict=True):
            self.write(runs[0], count, target="corine", metric="positives", condition=name)


def tabulate(runs: list[Run]) -> list[dict[str, Any]]:
    """Every row of results.csv."""
    table = Table(runs)
    s2 = table.of("strategies", "S2")
    early, late = (table.of("strategies", f"S2 + S1, {name}") for name in ("early", "late"))
    for experiment, model in dict.fromkeys((run.experiment, run.model) for run in runs):
        group = table.of(experiment, model)
        for condition in conditions(group[0]):
            table.add(group, condition)
            if condition != CLEAR:  # what the condition costs, on the same patches and seeds
                table.compare(group, group, "clear", condition)
        if experiment in ("strategies", "noise floor", "capacity") and model != "S2":
            table.compare(group, s2, "s2")
        if experiment in ("labels", "blocked") and model != "S2":
            table.compare(group, table.of(experiment, "S2"), "s2")
        if experiment == "modality dropout":
            plain = table.of("strategies", model.removesuffix(", dropout"))
            for condition in conditions(group[0]):
                table.compare(group, plain, "no_dropout", condition, condition)
    table.add(s2, model=DECISION)
    table.compare(s2, s2, "s2", model=DECISION)
    for group in (late, table.of("capacity", "S2 + S1, late, width-matched")):
        table.compare(group, early, "early")
    for model in ("S1", "S2 + S1, early", "S2 + elevation, early", "S2 + weather, MLP"):
        table.by_class(table.of("strategies", model), s2)
    blocked = table.of("blocked", "S2")
    table.add(s2[:1], model=MAJORITY)
    table.add(blocked, model=MAJORITY)
    table.tested(s2)
    table.tested(blocked)
    table.parameters()
    return table.rows


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: np.ndarray = powers / powers.sum(axis=-1, keepdims=True)
    return shares


if __name__ == "__main__":
    command_line(__doc__, configurations(), carry_out, tabulate, RUNS, RESULTS)

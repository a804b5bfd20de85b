"""The study behind Lab 2: what three tasks do to each other in one network, and what a weighting changes.

    python 02-mtl/study.py            # train what is missing, then write results.csv
    python 02-mtl/study.py --list     # the configurations, with what is done
    python 02-mtl/study.py --table    # only write results.csv from the runs that are there

Three targets: land cover (segmentation), climate zone (classification), season (regression). The base is one network
for one target; every other configuration differs from it in the factor that its experiment is about, and takes the
same number of steps, on windows of 48 pixels in batches of 16: more steps for the same arithmetic than in Lab 1,
because a map takes longer to learn than a label. The weights after the last step of a cosine schedule are tested. Runs
are kept in build/studies/mtl, never repeated.

Main comparisons, named before any run: all three targets in one network with equal weights against a network for each;
PCGrad against equal weights; land cover with a tenth of its labels, alone against with the two other targets, where
maps are met as they come. Everything else is exploration and called so; so is the row where maps are met in half of
each batch, which was added after the first results had raised the question.
"""

import sys
import time
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Subset

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bengelib.bands import CLIMATE_ZONE_SYMBOLS, IGNORE_INDEX, LAND_COVER_NAMES, S1_BANDS, S2_BANDS  # noqa: E402
from bengelib.checkpoint import load_checkpoint, save_checkpoint  # noqa: E402
from bengelib.course.pixels import PixelClassifier  # noqa: E402
from bengelib.course.results import Run as BaseRun  # noqa: E402
from bengelib.course.results import Table as BaseTable  # noqa: E402
from bengelib.course.results import fingerprint  # noqa: E402
from bengelib.course.studies import command_line, keep  # noqa: E402
from bengelib.course.targets import answers  # noqa: E402
from bengelib.data.decode import decode  # noqa: E402
from bengelib.data.hide_labels import HideLabels, labelled_share  # noqa: E402
from bengelib.data.packed import PackedBENGE  # noqa: E402
from bengelib.engine import Trainer, predict, seed_everything  # noqa: E402
from bengelib.fusion import EarlyFusion  # noqa: E402
from bengelib.heads import (  # noqa: E402
    ClassificationHead,
    Network,
    RegressionHead,
    SegmentationHead,
    count_parameters,
    hard_maps,
)
from bengelib.intervals import draw_patches, score_runs  # noqa: E402
from bengelib.metrics import Score, accuracy, confusion_by_patch, drawn_mean_iou, macro_f1, mean_absolute_error  # noqa: E402
from bengelib.tasks import Classification, Regression, Segmentation, Task  # noqa: E402
from bengelib.transforms import Augment  # noqa: E402
from bengelib.weighting import (  # noqa: E402
    DynamicWeightAverage,
    EqualWeights,
    FixedWeights,
    GradNorm,
    PCGrad,
    UncertaintyWeights,
)

RESULTS = Path(__file__).with_name("results.csv")
RUNS = ROOT / "build" / "studies" / "mtl"
CHECKPOINTS = ROOT / "build" / "checkpoints"
BANDS = {"s2": S2_BANDS, "s1": S1_BANDS}
TARGETS = ("land_cover", "climate_zone", "season")
SEASON_MEAN, SEASON_SCALE = 0.709, 0.267
"""Mean and standard deviation of the season over all of ben-ge."""
METRICS: dict[str, dict[str, Score]] = {
    "land_cover": {"mean_iou": drawn_mean_iou},
    "climate_zone": {"accuracy": accuracy, "macro_f1": macro_f1},
    "season": {"mae": mean_absolute_error},
}
DRAWS = 500
GRADIENT_EVERY = 12


@dataclass(frozen=True, kw_only=True)
class Run(BaseRun):
    """One training run: everything that decides its outcome.

    `few` is the target with few labels; with ", half of each batch" after it, patches that have one are drawn oftener.
    """

    targets: tuple[str, ...] = TARGETS
    weighting: str = "equal"
    few: str = ""
    start: str = ""
    gradient_every: int = 0
    batch_size: int = 16
    lr: float = 8e-3
    crop: int = 48


NAMES = {"land_cover": "land cover", "climate_zone": "climate zone", "season": "season"}
EQUAL = Run("weighting", "equal", gradient_every=GRADIENT_EVERY)
"""All three targets, losses added up."""
GENTLE = 2e-3
"""Learning rate of the transfer and of what it is compared with. At that of the others, nine epochs suited the windows
of 48 pixels and did badly on whole test patches; it was lowered after that had been seen, so this is exploration."""
LONGER = Run("longer", "climate zone + season, longer", targets=("climate_zone", "season"), epochs=9, lr=GENTLE)
"""Trained three times as long; its encoder is where the transfer starts."""
LONGER_MAP = Run("longer", "land cover, longer", targets=("land_cover",), epochs=16)
"""How far the same network gets on land cover with more steps, beside the classifier of single pixels."""
FEW = 0.1
FEW_EPOCHS = 28
"""With a tenth of the patches, about as many steps as three epochs of all."""


def configurations() -> list[Run]:
    """Every run of the study."""
    seeds = range(3)
    kinds = [Run("single", NAMES[target], targets=(target,)) for target in TARGETS]
    kinds.append(EQUAL)
    kinds += [Run("weighting", name, weighting=name) for name in ("fixed", "uncertainty", "dwa", "pcgrad", "gradnorm")]
    kinds += [
        Run("pairs", f"{NAMES[a]} + {NAMES[b]}", targets=(a, b), gradient_every=GRADIENT_EVERY)
        for a, b in combinations(TARGETS, 2)
    ]
    kinds.append(Run("fusion", "equal, S2 + S1", inputs=("s2", "s1")))
    few = Run("few labels", "land cover alone", targets=("land_cover",), few="land_cover", label_fraction=FEW)
    kinds.append(replace(few, epochs=FEW_EPOCHS))
    kinds.append(replace(few, model="land cover alone, gentle", epochs=FEW_EPOCHS, lr=GENTLE))
    joint = replace(few, model="with the other targets", targets=TARGETS)
    evened = "with the other targets, maps in half of each batch"
    kinds += [joint, replace(joint, model=evened, few="land_cover, half of each batch")]
    kinds.append(
        replace(few, model="from a longer-trained encoder", epochs=FEW_EPOCHS, start=fingerprint(LONGER), lr=GENTLE)
    )
    runs = [LONGER, LONGER_MAP, *(replace(kind, seed=seed) for kind in kinds for seed in seeds)]
    runs += [replace(EQUAL, experiment="noise floor", model="equal again", gradient_every=0, seed=s) for s in (3, 4, 5)]
    return runs


def make_weighting(run: Run, steps: int) -> EqualWeights:
    """The weighting of a run."""
    if run.weighting == "fixed":
        return FixedWeights({target: 2.0 if target == "land_cover" else 0.5 for target in run.targets})
    if run.weighting == "uncertainty":
        return UncertaintyWeights(run.targets, squared=("season",), rate=10.0)
    if run.weighting == "dwa":
        return DynamicWeightAverage(run.targets, window=max(1, steps // 10))
    kinds = {"equal": EqualWeights, "pcgrad": PCGrad, "gradnorm": GradNorm}
    return kinds[run.weighting](run.targets)


def make_tasks(run: Run) -> list[Task]:
    """The tasks of a run."""
    tasks: dict[str, Task] = {
        "land_cover": Segmentation("land_cover", LAND_COVER_NAMES),
        "climate_zone": Classification("climate_zone", CLIMATE_ZONE_SYMBOLS),
        "season": Regression("season", SEASON_SCALE),
    }
    return [tasks[target] for target in run.targets]


def build(run: Run) -> Network:
    """The untrained network of a run."""
    encoder = EarlyFusion({key: BANDS[key] for key in run.inputs}, width=run.width)
    heads = {
        "land_cover": lambda: SegmentationHead(encoder.channels, LAND_COVER_NAMES),
        "climate_zone": lambda: ClassificationHead(encoder.feature_dim, CLIMATE_ZONE_SYMBOLS),
        "season": lambda: RegressionHead(encoder.feature_dim, SEASON_MEAN, SEASON_SCALE),
    }
    return Network(encoder, {target: heads[target]() for target in run.targets})


def open_data(run: Run, split: str | None) -> PackedBENGE:
    """One side of the data of a run."""
    return run.load(split, run.inputs, TARGETS, scheme="study")


def training_data(run: Run) -> Any:
    """The training side, with the labels that the run has: alone, unlabelled patches are of no use and left out."""
    train = open_data(run, "train")
    if not run.few:
        return train
    target, _, evened = run.few.partition(", ")
    labelled = np.flatnonzero(labelled_share(train.patch_ids, run.label_fraction))
    if run.targets == (target,):
        return Subset(train, labelled.tolist())
    hidden = HideLabels(train, target, run.label_fraction)
    if not evened:
        return hidden
    half, random = len(train) // 2, np.random.default_rng(run.seed)
    without = random.permutation(np.setdiff1d(np.arange(len(train)), labelled))[: len(train) - half]
    return Subset(hidden, [*np.resize(labelled, half).tolist(), *without.tolist()])


def carry_out(run: Run) -> dict[str, np.ndarray]:
    """Train and test one run: what it says about every test patch, and how its gradients got on."""
    seed_everything(run.seed)
    model = build(run)
    if run.start:
        load_checkpoint(CHECKPOINTS / f"mtl-{run.start}.safetensors", model, heads=False)
    data = training_data(run)
    steps = run.epochs * -(-len(data) // run.batch_size)
    trainer = Trainer(gradient_every=run.gradient_every, precision="no", progress=False)
    history = trainer.fit(
        model,
        make_tasks(run),
        data,
        epochs=run.epochs,
        batch_size=run.batch_size,
        lr=run.lr,
        augment=Augment(run.crop),
        weighting=make_weighting(run, steps),
        seed=run.seed,
    )
    if run == LONGER:
        save_checkpoint(CHECKPOINTS / f"mtl-{fingerprint(run)}.safetensors", model, {"study": run.model})
    test = open_data(run, "test")
    found = predict(model, test, reduce=hard_maps, precision="no", batch_size=50)
    arrays = {"parameters": np.array(count_parameters(model))}
    for target, values in found.outputs.items():
        arrays[target] = values
    if "land_cover" in arrays:
        arrays["land_cover"] = confusion_by_patch(
            found.outputs["land_cover"], found.labels["land_cover"], len(LAND_COVER_NAMES)
        ).astype(np.uint16)
    epochs = history.frame()
    for target in run.targets:
        arrays[f"weight|{target}"] = epochs[f"weight/{target}"].to_numpy()
        arrays[f"loss|{target}"] = epochs[f"train/{target}/loss"].to_numpy()
    if history.gradients:
        arrays["step"] = np.array([row["step"] for row in history.gradients])
        for pair in history.gradients[0].keys() - {"step"}:
            arrays[f"cosine|{pair}"] = np.array([row[pair] for row in history.gradients])
    return arrays


def cost_key(run: Run) -> str:
    """What decides how long a step takes."""
    return " ".join((*run.targets, *run.inputs, run.weighting))


def seconds_per_epoch(runs: list[Run], rounds: int = 7, steps: int = 8) -> dict[str, float]:
    """Seconds of an epoch over all training patches on one thread, by `cost_key`: medians of rounds that take turns.

    They are measured once, when the table is first made, on whatever the machine then has left; read their ratios.
    Runs on a share of the patches, and comparing gradients, are left out.
    """
    path = RUNS / "seconds.npz"
    kinds = {cost_key(run): replace(run, gradient_every=0, few="", start="") for run in runs if run.label_fraction == 1}
    if path.is_file():
        with np.load(path) as stored:
            if set(stored.files) == set(kinds):
                return {name: float(stored[name]) for name in stored.files}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    measured: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(rounds):
        for name, run in kinds.items():
            train = open_data(run, "train")
            few = Subset(train, range(min(len(train), steps * run.batch_size)))
            options: dict[str, Any] = {"epochs": 1, "batch_size": run.batch_size, "augment": Augment(run.crop)}
            model, tasks, weighting = build(run), make_tasks(run), make_weighting(run, steps)
            begun = time.monotonic()
            Trainer(precision="no", progress=False).fit(model, tasks, few, weighting=weighting, **options)
            measured[name].append((time.monotonic() - begun) / len(few) * len(train))
    torch.set_num_threads(threads)
    seconds = {name: float(np.median(values)) for name, values in measured.items()}
    keep(path, {name: np.array(value) for name, value in seconds.items()})
    return seconds


class Table(BaseTable):
    """Collects the rows of results.csv from what the runs said."""

    def __init__(self, runs: list[Run]) -> None:
        """Open what the runs said and the labels of the test patches."""
        super().__init__(runs, RUNS)
        self.test = open_data(runs[0], "test")
        maps = self.test.read_batch(range(len(self.test)))
        self.truth = {target: self.test.table(target) for target in ("climate_zone", "season")}
        self.maps = decoded_land_cover(maps)
        known = confusion_by_patch(self.maps, self.maps, len(LAND_COVER_NAMES) + 1, ignore=-1)
        self.truth["land_cover"] = known.sum(axis=2)[:, : len(LAND_COVER_NAMES)]
        self.counts = draw_patches(len(self.test), draws=DRAWS)
        self.seconds = seconds_per_epoch(runs)
        self.scores = cache(self._scores)

    def _scores(self, runs: tuple[Run, ...], target: str, metric: str) -> np.ndarray:
        """Score of each run in each drawing of test patches, (S, 1 + D)."""
        made = [self.stored[run][target] for run in runs]
        made = [values.argmax(axis=1) if target == "climate_zone" else values for values in made]
        return np.stack([METRICS[target][metric](each, self.truth[target], self.counts) for each in made])

    def add(self, runs: tuple[Run, ...]) -> None:
        """Rows of each seed, and the pooled interval, of one model on all its targets."""
        for target in runs[0].targets:
            for metric in METRICS[target]:
                scores, seeds = self.scores(runs, target, metric), [run.seed for run in runs]
                self.write_scores(runs[0], scores, seeds, target=target, metric=metric)

    def compare(self, runs: tuple[Run, ...], reference: tuple[Run, ...], against: str) -> None:
        """The pooled interval of the paired difference to `reference` on the targets that both have."""
        for target in set(runs[0].targets) & set(reference[0].targets):
            for metric in METRICS[target]:
                of, other = (self.scores(group, target, metric) for group in (runs, reference))
                self.write_difference(runs[0], of, other, metric=metric, against=against, target=target)

    def describe(self, runs: tuple[Run, ...]) -> None:
        """Weights, seconds an epoch, loss and loss weight of each epoch, and the cosines of the gradients."""
        first, stored = runs[0], [self.stored[run] for run in runs]
        self.write(first, stored[0]["parameters"], metric="parameters")
        if cost_key(first) in self.seconds:
            self.write(first, self.seconds[cost_key(first)], metric="seconds_per_epoch")
        for kind in ("loss", "weight"):
            for target in first.targets:
                means = np.mean([each[f"{kind}|{target}"] for each in stored], axis=0)
                for epoch, value in enumerate(means, start=1):
                    self.write(first, value, target=target, metric=f"train_{kind}", condition=f"epoch {epoch}")
        if not first.gradient_every:
            return
        for name in [name for name in stored[0].files if name.startswith("cosine|")]:
            columns = {"experiment": "gradients", "target": name.removeprefix("cosine|")}
            for run, each in zip(runs, stored, strict=True):
                for step, value in zip(each["step"], each[name], strict=True):
                    self.write(run, value, metric="cosine", condition=f"step {step}", seed=run.seed, **columns)
            by_seed = np.array([each[name].mean() for each in stored])  # (S,)
            scores = np.repeat(by_seed[:, None], 1 + DRAWS, axis=1)
            self.write_scores(first, scores, metric="mean_cosine", **columns)

    def baselines(self, run: Run) -> None:
        """What needs no network: the most frequent class, the mean, and a logistic regression on single pixels."""
        train = open_data(run, "train")
        zones, seasons = train.table("climate_zone"), train.table("season")
        size = len(self.test)
        guesses = {
            "climate_zone": np.full(size, np.bincount(zones).argmax()),
            "season": np.full(size, np.median(seasons)),
        }
        columns = {"experiment": "baseline", "model": "constant"}
        for target, guess in guesses.items():
            for metric, score in METRICS[target].items():
                scores = score_runs(guess, self.truth[target], score, self.counts)
                self.write_scores(run, scores, target=target, metric=metric, **columns)
        confusions = {"constant": self.constant_map(train), "logistic regression on pixels": self.pixels(run, train)}
        on_maps = {"target": "land_cover", "metric": "mean_iou"}
        for model, confusion in confusions.items():
            scores = drawn_mean_iou(confusion, self.truth["land_cover"], self.counts)[None]
            self.write_scores(run, scores, **columns | on_maps | {"model": model})
        for name, of in (("single", "land cover"), ("weighting", "equal"), ("longer", "land cover, longer")):
            runs = self.of(name, of)
            self.write_difference(
                runs[0], self.scores(runs, "land_cover", "mean_iou"), scores, against="pixels", **on_maps
            )

    def constant_map(self, train: PackedBENGE) -> np.ndarray:
        """Confusion matrices (N, K, K) of the most frequent class everywhere."""
        maps = decoded_land_cover(train.read_batch(range(0, len(train), 4)))
        frequent = np.bincount(maps[maps != IGNORE_INDEX]).argmax()
        return confusion_by_patch(np.full_like(self.maps, frequent), self.maps, len(LAND_COVER_NAMES))

    def pixels(self, run: Run, train: PackedBENGE) -> np.ndarray:
        """Confusion matrices (N, K, K) of a logistic regression on the same bands of single pixels."""
        random = np.random.default_rng(0)
        chosen = np.sort(random.choice(len(train), min(400, len(train)), replace=False))
        batch = decode(train.read_batch(chosen), S2_BANDS)
        model = PixelClassifier().fit(batch, 20_000, random, max_iter=1000)
        return answers(model, self.test, batch_size=50, precision="no")["land_cover"]

    def by_class(self, runs: tuple[Run, ...]) -> None:
        """Intersection over union of each land-cover class that occurs in the test split."""
        by_run = []
        for run in runs:
            confusions = self.stored[run]["land_cover"]
            drawn = self.counts.astype(float) @ confusions.reshape(len(confusions), -1)
            drawn = drawn.reshape(-1, *confusions.shape[1:])  # (1 + D, K, K)
            hits = np.diagonal(drawn, axis1=1, axis2=2)
            either = drawn.sum(axis=1) + drawn.sum(axis=2) - hits
            by_run.append(np.divide(hits, either, out=np.full(hits.shape, np.nan), where=either > 0))
        scores = np.stack(by_run)  # (S, 1 + D, K)
        for place in np.flatnonzero(self.truth["land_cover"].sum(axis=0)):
            condition = LAND_COVER_NAMES[place]
            self.write_scores(runs[0], scores[..., place], target="land_cover", metric="iou", condition=condition)


def decoded_land_cover(batch: dict[str, Any]) -> np.ndarray:
    """Land-cover indices (N, 120, 120) int64 of a stored batch."""
    maps: np.ndarray = decode({"land_cover": batch["land_cover"]}, ())["land_cover"].numpy()
    return maps


def tabulate(runs: list[Run]) -> list[dict[str, Any]]:
    """Every row of results.csv."""
    table = Table(runs)
    equal = table.of("weighting", "equal")
    single = {target: table.of("single", NAMES[target]) for target in TARGETS}
    for experiment, model in dict.fromkeys((run.experiment, run.model) for run in runs):
        group = table.of(experiment, model)
        table.add(group)
        table.describe(group)
        if experiment in ("weighting", "pairs", "fusion", "noise floor"):
            for target in group[0].targets:
                table.compare(group, single[target], "single")
        if (
            experiment in ("weighting", "fusion") and model != "equal"
        ):  # six runs, so that three unlucky ones weigh less
            table.compare(group, equal + table.of("noise floor", "equal again"), "equal")
        if experiment == "noise floor":
            table.compare(group, equal, "equal")
        if experiment == "few labels" and not model.startswith("land cover alone"):
            alone = "land cover alone, gentle" if group[0].start else "land cover alone"
            table.compare(group, table.of("few labels", alone), "alone")
    table.by_class(single["land_cover"])
    table.by_class(equal)
    table.baselines(equal[0])
    table.write(equal[0], len(table.test), metric="test_patches")
    return table.rows


if __name__ == "__main__":
    command_line(__doc__ or "", configurations(), carry_out, tabulate, RUNS, RESULTS)

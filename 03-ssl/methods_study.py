"""The family of methods, at equal numbers of images: which collapse, which save labels, which only learn places.

    python 03-ssl/methods_study.py            # train what is missing, then write methods_results.csv
    python 03-ssl/methods_study.py --list     # the configurations, with what is done
    python 03-ssl/methods_study.py --table    # only write the table, from the runs that are there

All methods of `bengelib.methods.TABLE` on ben-ge-sim, and those that need images alone on EuroSAT RGB (Helber et al.
2019, doi:10.1109/JSTARS.2019.2918242), a folder of class folders that the environment variable `EUROSAT_RGB` names;
without it those runs are left out. Each reads the same images equally often. How much it computes for each of them
differs: see the column `cost` of `python -m bengelib methods`.

Encoders read Sentinel-2 or RGB alone, whatever else a method learns from, and are ResNet-18s of quarter width (a small
transformer for mae, a ConvNeXt V2 atto for multi-pretext). Images have 48 pixels a side: the middle of a patch at 20 m,
or a whole tile of EuroSAT made smaller. Views have 32; methods that hide squares see all 48. Frozen features are judged
by a logistic probe on one class an image (land cover), with few labels and with all, three draws of each, beside the
same ResNet trained from random weights on the few labels, features of random weights, and band statistics.

What this can decide: whether a method collapses, and what keeps it from it (`collapse`: predictor, stop-gradient, slow
target, negatives and variance taken away); whether pretraining beats random weights and training from scratch with few
labels; and whether what is learned from places holds where no place is near (`leakage`: the same methods where
neighbours of the test patches were seen, a random split, and where whole tiles are held out). What it cannot decide is
which method is best. After hundreds of epochs at large batches, these methods often lie close together; here each ran
once, for minutes, at one setting. EuroSAT's tiles come from few scenes and are held out at random, which flatters
everybody there.

Intervals are over draws of labels and test images (of ben-ge-sim: test tiles, drawn as wholes), not over pretraining
runs, of which there is one each. Runs are kept in build/studies/family, never repeated. All 38 took 40 minutes on two
cores, one of them busy otherwise. The runs of `collapse` have 15 epochs, those that they stand beside 20.
"""

import os
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Dataset

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bengelib.bands import LAND_COVER_NAMES, S1_BANDS, S2_BANDS  # noqa: E402
from bengelib.course.results import Run as BaseRun  # noqa: E402
from bengelib.course.results import Table as BaseTable  # noqa: E402
from bengelib.course.results import run_path  # noqa: E402
from bengelib.course.studies import command_line  # noqa: E402
from bengelib.data.decode import decode  # noqa: E402
from bengelib.data.images import ImageFolder, hold_out, list_images  # noqa: E402
from bengelib.data.labelled import label_subsets  # noqa: E402
from bengelib.data.splits import mgrs_tile  # noqa: E402
from bengelib.engine import History, Trainer, seed_everything  # noqa: E402
from bengelib.fusion import EarlyFusion  # noqa: E402
from bengelib.intervals import draw_patches, score_runs  # noqa: E402
from bengelib.mae import ViTEncoder  # noqa: E402
from bengelib.methods import MASKED, TABLE  # noqa: E402
from bengelib.methods.byol import BYOL, byol  # noqa: E402
from bengelib.methods.convnext import ConvNeXtEncoder  # noqa: E402
from bengelib.methods.location import PlaceImage  # noqa: E402
from bengelib.metrics import accuracy  # noqa: E402
from bengelib.modalities import InputSpec  # noqa: E402
from bengelib.probe import extract_features, fit_logistic  # noqa: E402
from bengelib.recipes.finetuning import FROM_SCRATCH, FineTuning, finetune, logits_of, with_chosen_lr  # noqa: E402
from bengelib.recipes.pretraining import (  # noqa: E402
    CONTRAST_DIM,
    DECORRELATED_DIM,
    HIDDEN,
    Pretext,
    Pretraining,
    mild_views,
    pretext,
    strong_views,
    without_gain_offset,
)
from bengelib.ssl import Contrast, SiameseNetwork, effective_rank, spread  # noqa: E402
from bengelib.transforms import Batch  # noqa: E402
from bengelib.views import TwoViews  # noqa: E402

RESULTS = Path(__file__).with_name("methods_results.csv")
RUNS = ROOT / "build" / "studies" / "family"
EUROSAT = "eurosat-rgb"
FOLDER = Path(os.environ.get("EUROSAT_RGB", ROOT.parent / "shared" / "real-eo" / "eurosat_rgb"))
"""EuroSAT RGB, class folders of JPEG files."""
LEARNED_FROM = 2000
"""Tiles of EuroSAT to learn from, of those that are not held out."""
STAGES = (2, 3)
DRAWS = 3
RARE = 12
"""Classes with fewer training images than this are never labelled; in the test they count as wrong for everybody."""
RESAMPLES = 500
TARGET = "land_cover_top"
PLACED = ("gassl", "place-image")
"""Methods that learn from places."""


@dataclass(frozen=True, kw_only=True)
class Run(BaseRun):
    """Everything that decides what one run gives.

    `method` is one of the table, or one of `UNDONE`, or `"none"` (random weights), `"statistics"` (of bands, without a
    network) or `"scratch"` (trained on the labels alone).
    """

    method: str = "simclr"
    scheme: str = "blocked"
    fractions: tuple[float, ...] = (0.1, 1.0)
    width: float = 0.25
    patches: int = 1000
    epochs: int = 20
    batch_size: int = 64
    size: int = 48
    view: int = 32
    steps: int = 150
    tuning_steps: int = 60
    precision: str = "no"

    @property
    def split(self) -> str:
        """Whole tiles are held out, unless the split is random."""
        return "blocked" if self.scheme == "blocked" else "random"


REAL: dict[str, Any] = {
    "dataset": EUROSAT,
    "inputs": ("image",),
    "scheme": "study",
    "epochs": 8,
    "fractions": (0.03, 1.0),
}
UNDONE: dict[str, dict[str, Any]] = {
    "byol": {},
    "byol without predictor": {"predictor": False},
    "byol without stop-gradient": {"stop_gradient": False},
    "byol without slow target": {"momentum": 0.0},
    "byol without predictor and slow target": {"predictor": False, "momentum": 0.0},
    "simclr without negatives": {},
    "vicreg without variance and covariance": {"variance": 0.0, "covariance": 0.0},
}
"""Methods from which what keeps them from collapsing is taken away, and BYOL as it is."""


def configurations() -> list[Run]:
    """Every run of the study, in the order in which they are carried out."""
    cheap = sorted(TABLE, key=lambda method: TABLE[method].cost)
    alone = [method for method in cheap if not TABLE[method].needs]
    bases = ("none", "statistics", "scratch")
    runs = [Run("family", method, method=method) for method in (*bases, *cheap)]
    runs += [Run("collapse", name, method=name, epochs=15) for name in UNDONE]
    runs += [Run("leakage", method, method=method, scheme="study") for method in ("simclr", "scratch", *PLACED)]
    return runs + [Run("family", method, method=method, **REAL) for method in (*bases, *alone)]


def available() -> list[Run]:
    """The runs whose data are there."""
    if not FOLDER.is_dir():
        print(f"no {FOLDER}, so the runs on EuroSAT are left out; name its folder in EUROSAT_RGB")
    return [run for run in configurations() if run.dataset != EUROSAT or FOLDER.is_dir()]


# ---------------------------------------------------------------------------------------------------------------- data


class Scenes(Dataset[Batch]):
    """The middle of all patches of one side in memory: images (C, 48, 48) float32 at 20 m, and all else that is known.

    Attributes:
        labels: classes (N,).
        groups: MGRS tile of each patch.
        meta: the table of the patches.
        lonlat: degrees (N, 2).
    """

    classes = tuple(LAND_COVER_NAMES)

    def __init__(self, run: Run, split: str) -> None:
        """Read and decode them."""
        more = ("land_cover", "climate_zone", "weather", "season", "lonlat", TARGET)
        data = run.load(split, ("s2", "s1", "dem"), more, scheme=run.scheme)
        parts = []
        for start in range(0, len(data), 100):
            batch = decode(data.read_batch(range(start, min(start + 100, len(data)))), data.s2_bands)
            for key in ("s2", "s1", "dem", "land_cover"):
                rest = batch[key].shape[-1] - 2 * run.size
                middle = batch[key][..., rest // 2 : rest // 2 + 2 * run.size, rest // 2 : rest // 2 + 2 * run.size]
                batch[key] = middle[..., ::2, ::2] if key == "land_cover" else F.avg_pool2d(middle.float(), 2)
            parts.append({key: batch[key] for key in ("s2", "s1", "dem", *more)})
        self._values = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
        self.labels, self.meta = self._values[TARGET].numpy(), data.meta
        self.lonlat, self.patch_ids = self._values["lonlat"].numpy(), data.patch_ids
        self.groups = [mgrs_tile(patch) for patch in data.meta["patch_id_s1"]]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Batch:
        return {key: values[0] for key, values in self.read_batch([index]).items()}

    def read_batch(self, indices: Sequence[int]) -> Batch:
        """Several samples, stacked."""
        rows = torch.as_tensor(np.asarray(indices, dtype=np.int64))
        batch: Batch = {key: values[rows] for key, values in self._values.items()}
        return {**batch, "patch_id": [self.patch_ids[row] for row in rows.tolist()]}


class Tiles(ImageFolder):
    """Tiles of EuroSAT whose class has the key that the others' has."""

    def read_batch(self, indices: Sequence[int] | np.ndarray) -> dict[str, Any]:
        """Several samples, stacked."""
        batch = super().read_batch(indices)
        return {**batch, TARGET: batch["label"]}


@lru_cache(maxsize=4)
def open_sides(dataset: str, scheme: str, patches: int, size: int) -> tuple[Any, Any]:
    """Training and test images of a dataset."""
    if dataset != EUROSAT:
        run = Run("", "", dataset=dataset, scheme=scheme, patches=patches, size=size)
        return Scenes(run, "train"), Scenes(run, "test")
    learn, held = hold_out(list_images(FOLDER), 0.2, 0, root=FOLDER)
    some = np.sort(np.random.default_rng(0).permutation(len(learn))[:LEARNED_FROM])
    names = [learn[row] for row in some]
    train = Tiles(FOLDER, names, size=size, progress=False)
    return train, Tiles(FOLDER, held, size=size, classes=train.classes, progress=False)


def subsets(labels: np.ndarray, fractions: Sequence[float], seed: int) -> dict[float, np.ndarray]:
    """`label_subsets` of the classes that are not rare."""
    usual = np.flatnonzero(np.bincount(labels)[labels] >= RARE)
    return {share: usual[chosen] for share, chosen in label_subsets(labels[usual], fractions, seed).items()}


# ---------------------------------------------------------------------------------------------------------- pretraining


def build(run: Run, inputs: InputSpec) -> nn.Module:
    """The encoder of a run, with random weights."""
    if run.method == "mae":
        return ViTEncoder(inputs)
    if run.method == "multi-pretext":
        return ConvNeXtEncoder(inputs, stem=2)
    return EarlyFusion(inputs, width=run.width)


def prepare(run: Run, encoder: nn.Module, train: Any, inputs: InputSpec) -> Pretext:
    """What `fit` is given for the method of a run."""
    settings = Pretraining(
        method=run.method.partition(" ")[0], epochs=run.epochs, batch_size=run.batch_size, seed=run.seed
    )
    views = strong_views(run.size if run.method in MASKED else run.view, inputs)
    if run.method == "cross-modal":
        views = without_gain_offset(views)
    second = EarlyFusion({"s1": S1_BANDS}, width=run.width) if TABLE[settings.method].two_sensors else None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*show a place that no other patch shows")
        made = pretext(encoder, train, views, settings, second)
    options = UNDONE.get(run.method, {})
    if run.method == "simclr without negatives":
        return made._replace(tasks=[Contrast("agreement")], model=SiameseNetwork(encoder, CONTRAST_DIM, HIDDEN))
    if run.method.startswith("vicreg without"):
        return made._replace(
            tasks=[Contrast("vicreg", **options)], model=SiameseNetwork(encoder, DECORRELATED_DIM, HIDDEN)
        )
    if run.method.startswith("byol") and options:
        momentum = options.get("momentum", made.model.target.momentum)  # type: ignore[union-attr]
        lacking = BYOL(encoder, hidden=HIDDEN, **{**options, "momentum": momentum})
        return Pretext(lacking, [Contrast(byol)], train, TwoViews(views))
    return made


def carry_out(run: Run) -> dict[str, np.ndarray]:
    """One run of the study: predictions for the test images, keyed as `key` does, and what was seen in training."""
    train, test = open_sides(run.dataset, run.scheme, run.patches, run.size)
    inputs: InputSpec = {"s2": S2_BANDS} if run.dataset != EUROSAT else train.inputs
    groups = np.array(test.groups) if run.dataset != EUROSAT else np.arange(len(test)).astype(str)
    known = {"truth": test.labels, "groups": groups}
    seed_everything(run.seed)
    if run.method == "scratch":
        return known | train_on_labels(run, train, test, inputs)
    encoder = build(run, inputs)
    if run.method == "statistics":
        return known | probes(run, *(band_statistics(side, list(inputs)) for side in (train, test)), train, "frozen")
    arrays: dict[str, np.ndarray] = {}
    if run.method != "none":
        made = prepare(run, encoder, train, inputs)
        begun = time.monotonic()
        history = Trainer(precision=run.precision, progress=False).fit(
            made.model, made.tasks, made.data, epochs=run.epochs, batch_size=run.batch_size, lr=run.lr, seed=run.seed,
            augment=made.augment, weighting=made.weighting,
        )  # fmt: skip
        arrays = seen(history) | {"seconds": np.array((time.monotonic() - begun) / run.epochs)}
        if isinstance(made.model, PlaceImage):
            codes = (extract_features(made.model.place, side, batch_size=256, precision="no") for side in (train, test))
            arrays |= probes(run, *codes, train, "place alone")
    options: dict[str, Any] = {"stages": STAGES, "batch_size": 100, "precision": run.precision}
    features = [extract_features(encoder, side, **options) for side in (train, test)]
    own = torch.from_numpy(features[1])
    arrays |= {"spread": spread(own - own.mean(dim=0)).numpy(), "rank": effective_rank(own).numpy()}
    return known | arrays | probes(run, *features, train, "frozen")


def seen(history: History) -> dict[str, np.ndarray]:
    """Loss, and spread and rank where the method watches them, of each epoch."""
    names = {str(name): str(name).rpartition("/")[2] for name in history.frame()}
    kept = {name: word for name, word in names.items() if name == "train/loss" or word in ("spread", "rank")}
    return {f"curve|{word}": history.frame()[name].to_numpy(float) for name, word in kept.items()}


def band_statistics(data: Any, keys: Sequence[str]) -> np.ndarray:
    """Mean and standard deviation of each band over the image, (N, 2 C): features that nobody had to learn."""
    batch = data.read_batch(range(len(data)))
    parts = [part for key in keys for part in (batch[key].mean(dim=(2, 3)), batch[key].std(dim=(2, 3)))]
    return torch.cat(parts, dim=1).numpy()


def probes(run: Run, train: np.ndarray, test: np.ndarray, data: Any, condition: str) -> dict[str, np.ndarray]:
    """Predictions of logistic probes on features, at each fraction and draw of the labels."""
    said = {}
    for draw in range(DRAWS):
        for fraction, chosen in subsets(data.labels, run.fractions, draw).items():
            probe = fit_logistic(train[chosen], data.labels[chosen], len(data.classes), Cs=(1e-2,), seed=draw)
            said[key(condition, fraction, draw)] = probe.predict(test).astype(np.uint8)
    return said


def train_on_labels(run: Run, train: Any, test: Any, inputs: InputSpec) -> dict[str, np.ndarray]:
    """Predictions of networks trained from random weights on the few labels; a fifth chooses the learning rate."""
    said = {}
    for fraction in run.fractions[:1]:
        settings = FineTuning(run.steps, epochs=5, batch_size=32, tuning_steps=run.tuning_steps)
        settings = replace(settings, lrs=FROM_SCRATCH.lrs, warm_head=False)
        for draw in range(DRAWS):
            seed_everything(draw)
            chosen = subsets(train.labels, (fraction,), draw)[fraction]
            arguments = (EarlyFusion(inputs, width=run.width), train, TARGET, train.classes, train.labels)
            views = without_gain_offset(mild_views(run.view, inputs))
            common: dict[str, Any] = {"chosen": chosen, "augment": views, "precision": run.precision, "seed": draw}
            settings = with_chosen_lr(*arguments, settings=settings, progress=False, **common)
            network = finetune(*arguments, settings=settings, progress=False, **common)
            logits = logits_of(network, test, TARGET, precision=run.precision)
            said[key("scratch", fraction, draw)] = logits.argmax(axis=1).astype(np.uint8)
    return said


def key(condition: str, fraction: float, draw: int) -> str:
    """The name under which predictions are kept."""
    return f"test|{condition}|{fraction:g}|{draw}"


# --------------------------------------------------------------------------------------------------------------- table


class Table(BaseTable):
    """Collects the rows of the table from what the runs said."""

    def __init__(self, runs: list[Run]) -> None:
        """Open what the runs said."""
        super().__init__(runs, RUNS)
        self.scores = cache(self._scores)

    def row(self, run: Run, **columns: Any) -> dict[str, Any]:
        """The columns that follow from a run, and others."""
        return super().row(run, **{"condition": ""} | columns)

    def said(self, run: Run) -> list[tuple[str, float]]:
        """Condition and fraction of all that a run was asked, each once."""
        parts = [name.split("|") for name in self.stored[run].files if name.startswith("test|")]
        return list(dict.fromkeys((condition, float(fraction)) for _, condition, fraction, _ in parts))

    def _scores(self, run: Run, condition: str, fraction: float) -> np.ndarray:
        """Accuracy of each draw of labels in the drawings of test images, (S, 1 + D)."""
        stored = self.stored[run]
        start = key(condition, fraction, 0).removesuffix("0")
        predicted = np.stack([stored[name] for name in stored.files if name.startswith(start)])
        groups = stored["groups"].tolist()
        return score_runs(predicted, stored["truth"], accuracy, draw_patches(len(groups), groups, RESAMPLES))

    def add(self, run: Run, references: dict[str, Run | None]) -> None:
        """Rows of one run: each draw, the pooled interval, and the differences to `references` at the same fraction."""
        for condition, fraction in self.said(run):
            asked = {"target": TARGET, "label_fraction": fraction, "condition": condition}
            scores = self.scores(run, condition, fraction)
            self.write_scores(run, scores, range(len(scores)), metric="accuracy", **asked)
            for against, reference in references.items():
                if reference is None or reference == run:
                    continue
                other = "scratch" if reference.method == "scratch" else "frozen"
                if (other, fraction) in self.said(reference):
                    baseline = self.scores(reference, other, fraction)
                    self.write_difference(run, scores, baseline, metric="accuracy", against=against, **asked)
        stored = self.stored[run]
        for name, metric in (("seconds", "seconds_per_epoch"), ("spread", "feature_spread"), ("rank", "feature_rank")):
            if name in stored.files:
                self.write(run, stored[name], seed=run.seed, metric=metric)
        for name in stored.files:
            if name.startswith("curve|"):
                metric = name.removeprefix("curve|").replace("loss", "train_loss")
                for epoch, value in enumerate(stored[name], start=1):
                    self.write(run, value, seed=run.seed, metric=metric, condition=f"epoch {epoch}")


def tabulate(runs: list[Run]) -> list[dict[str, Any]]:
    """Every row of the table, of the runs that are there."""
    table = Table([run for run in runs if run_path(RUNS, run).is_file()])
    for run in table.runs:
        base = "leakage" if run.experiment == "leakage" else "family"
        found = {word: table.of(base, word, dataset=run.dataset) for word in ("scratch", "none", "simclr")}
        names = {"scratch": "scratch", "random": "none", "simclr": "simclr"}
        table.add(run, {against: next(iter(found[word]), None) for against, word in names.items()})
    for dataset, scheme in dict.fromkeys((run.dataset, run.scheme) for run in table.runs):
        run = next(run for run in table.runs if (run.dataset, run.scheme) == (dataset, scheme))
        groups = table.stored[run]["groups"]
        counts = {"test_patches": len(groups)}
        counts |= {"test_tiles": len(np.unique(groups))} if dataset != EUROSAT else {}
        for metric, count in counts.items():
            table.write(run, count, experiment="test", model="", metric=metric)
    return table.rows


if __name__ == "__main__":
    command_line(__doc__, available(), carry_out, tabulate, RUNS, RESULTS)

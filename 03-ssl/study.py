"""The study behind Lab 3: how many labels does pretraining without labels save, by which method, on which sensor.

    python 03-ssl/study.py            # train what is missing, then write results.csv
    python 03-ssl/study.py --list     # the configurations, with what is done
    python 03-ssl/study.py --table    # only write results.csv from the runs that are there

Blocked split, fold 0 unless said otherwise: no method, with labels or without, ever reads a patch of a test tile. Every
encoder is a ResNet-18 of half width (the masked autoencoder's a small transformer) pretrained on all training patches
without labels, and then judged on `land_cover_top` and on the BigEarthNet labels that have five or more training
patches: by a logistic probe and 20 nearest neighbours on frozen features, at every fraction of labels at which each
class has one, five draws of each (two for the BigEarthNet labels, three over all folds), nested and stratified; and by
training further at 5 % and at 100 % of the labels, three draws, beside the same network from random weights, with the
same steps and views. Either learning rate is chosen among three on a fifth of the labels.

To fit into about three quarters of an hour on two cores, images are read at 20 m (means of 2 x 2 pixels, 60 a side),
views have 48 pixels, and networks compute in bf16. On a processor that lacks matrix units for that, give the runs
`precision="no"` (another configuration: all rows are new then). On one kind of machine, with the same versions and one
thread, the numbers repeat; elsewhere single scores move by points, about as much as another seed moves them. ImageNet
weights are not among the runs, for they would have to be downloaded.

Settings were chosen on other patches, `python -m bengelib simulate --root DIR --patches 2500 --seed 8`, which this
study does not see: that pairs of both sensors need no gains and offsets beside what nature changes, that training
with labels and Barlow Twins of the radar alone are better off without them too, that heads read stages 2 and 3 beside
the last, learning rates, and the method that the main comparisons are about. An earlier version of this study, with
gains and offsets everywhere, had found no gain from pretraining.

Main comparisons, named before any run of this version: contrast of Sentinel-1 and Sentinel-2 against training from
scratch on Sentinel-2, at 5 % of the labels of land cover, frozen and fine-tuned, over all five folds, so that every
patch is tested once and by an encoder that has not seen its tile; the same at 100 % on fold 0; SimCLR against the
geolocation pretext, frozen, at 5 % on fold 0. Everything else is exploration and called so. Intervals are over draws
and over test tiles, drawn as wholes. Test tiles decide nothing. Runs are kept in build/studies/ssl, never repeated.
"""

import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Dataset

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bengelib.bands import CORINE_19, LAND_COVER_NAMES, S1_BANDS, S2_BANDS  # noqa: E402
from bengelib.checkpoint import load_checkpoint, save_checkpoint  # noqa: E402
from bengelib.course.results import Run as BaseRun  # noqa: E402
from bengelib.course.results import Table as BaseTable  # noqa: E402
from bengelib.course.results import fingerprint, run_path  # noqa: E402
from bengelib.course.studies import command_line, keep  # noqa: E402
from bengelib.data.decode import decode  # noqa: E402
from bengelib.data.labelled import FRACTIONS, label_subsets  # noqa: E402
from bengelib.data.packed import PackedBENGE  # noqa: E402
from bengelib.data.splits import mgrs_tile  # noqa: E402
from bengelib.engine import History, Trainer, predict, seed_everything  # noqa: E402
from bengelib.fusion import EarlyFusion, LateFusion  # noqa: E402
from bengelib.heads import ClassificationHead, Network, count_parameters  # noqa: E402
from bengelib.intervals import draw_patches, score_runs  # noqa: E402
from bengelib.mae import ViTEncoder  # noqa: E402
from bengelib.methods.geolocation import Geolocation, place_clusters  # noqa: E402
from bengelib.metrics import accuracy, mean_average_precision  # noqa: E402
from bengelib.probe import extract_features, fit_logistic, knn_probe  # noqa: E402
from bengelib.recipes.finetuning import FROM_SCRATCH, FineTuning, finetune, logits_of, with_chosen_lr  # noqa: E402
from bengelib.recipes.pretraining import Pretraining, mild_views, pretrain_encoder, strong_views, without_gain_offset  # noqa: E402
from bengelib.ssl import Contrast, SiameseNetwork, retrieval  # noqa: E402
from bengelib.transforms import Batch  # noqa: E402
from bengelib.views import TwoViews, Views, pair_modalities  # noqa: E402

RESULTS = Path(__file__).with_name("results.csv")
RUNS = ROOT / "build" / "studies" / "ssl"
CHECKPOINTS = ROOT / "build" / "checkpoints"
BANDS = {"s2": S2_BANDS, "s1": S1_BANDS}
TARGETS = ("land_cover_top", "corine")
METRICS = {"land_cover_top": "accuracy", "corine": "map"}
SCORES = {"accuracy": accuracy, "map": mean_average_precision}
FEWEST = 5
"""Labels with fewer training patches than this are left out of the 19."""
RARE = 12
"""Classes of land cover with fewer training patches than this are never labelled."""
FEW = 0.05
CLUSTERS = 20
STAGES = (2, 3)
CS = {"land_cover_top": (1e-3, 1e-2, 1e-1), "corine": (1e-2,)}
"""Inverse regularisation strengths that probes choose from by cross-validation; one for many labels, to save time."""
TRAINED_DRAWS = 3
"""Draws of labels for training, and for what is compared with it over all folds."""
FEWER_DRAWS = 2
"""Draws of labels for the 19 labels, each of which takes a regression for every label."""
DRAWS = 500


@dataclass(frozen=True, kw_only=True)
class Run(BaseRun):
    """Everything that decides what one run gives.

    `kind` is `"pretrain"` (then probes), `"join"` (probes on the features of two encoders), or `"train"` (with labels,
    three draws). `start` says from which weights a `"train"` begins: `""` random, `"main"` those of the main
    method, `"other"` of the method that did best of the others on the validation tiles, `"barlow"` of Barlow Twins.
    """

    kind: str = "pretrain"
    method: str = "simclr"
    views: str = "all changes"
    start: str = ""
    target: str = "land_cover_top"
    fractions: tuple[float, ...] = FRACTIONS
    draws: int = 5
    epochs: int = 20
    batch_size: int = 128
    steps: int = 200
    tuning_steps: int = 100
    label_batch: int = 32
    size: int = 48
    precision: str = "bf16"
    fold: int = 0

    @property
    def split(self) -> str:
        """Whole tiles are held out."""
        return "blocked"


METHODS = (
    Run("methods", "SimCLR"),
    Run("methods", "cross-modal", method="cross-modal", views="no gain and offset"),
    Run("methods", "Barlow Twins", method="barlow"),
    Run("methods", "VICReg", method="vicreg"),
    Run("methods", "geolocation", method="geolocation", epochs=40),  # one view a step, so twice the epochs
    Run("methods", "MAE", method="mae"),  # as long as the others by the clock, of half as many images
)
"""Candidates of the choice on the validation tiles: the same number of images each, but for the masked autoencoder."""
MAIN = METHODS[1]
"""The method that the main comparisons are about."""
BASELINES = (
    Run("methods", "random weights", method="none", epochs=0),
    Run("methods", "band statistics", method="statistics", epochs=0),
)
SCRATCH = Run("methods", "from scratch", kind="train")
FOLDS = range(1, 5)
"""Folds beside 0 in which the main method, random weights and training from scratch meet at 5 % of the labels."""
VIEWS = ("all changes", "crop and turns only", "no gain and offset", "no noise", "no crop", "hue-like")
SENSORS = {"S1": ("s1",), "S2": ("s2",), "S1 + S2": ("s2", "s1")}
CONDITIONS = {"": "scratch"}
"""The condition of a `"train"` run by its start; `"finetune"` for every other."""


def configurations() -> list[Run]:
    """Every run of the study, those that others begin from first."""
    ablation = replace(METHODS[0], experiment="ablation", epochs=8, fractions=(FEW, 1.0))
    barlow = replace(METHODS[2], experiment="earthpulse", views="no gain and offset")
    runs = [*METHODS, *(replace(barlow, model=name, inputs=SENSORS[name]) for name in ("S1", "S2"))]
    runs += [*BASELINES, replace(METHODS[0], seed=1)]
    runs += [replace(ablation, model=name, views=name) for name in VIEWS]
    pairs = replace(MAIN, experiment="ablation", epochs=8, fractions=(FEW, 1.0))
    runs += [replace(pairs, model=f"{MAIN.model}, {name}", views=name) for name in (VIEWS[0], VIEWS[2])]
    runs += [run for run in judged_in_folds() if run.fold]
    runs.append(Run("collapse", "agreement", method="agreement", epochs=8, fractions=(FEW, 1.0)))
    runs.append(replace(barlow, model="S1 + S2", kind="join", inputs=SENSORS["S1 + S2"]))
    fractions = (FEW, 1.0)
    for target in TARGETS:
        runs += [replace(SCRATCH, target=target, label_fraction=fraction) for fraction in fractions]
    for name in ("S1", "S1 + S2"):
        scratch = replace(SCRATCH, experiment="earthpulse", model=name, inputs=SENSORS[name])
        runs += [replace(scratch, label_fraction=fraction) for fraction in fractions]
    runs += [run for run in trained_in_folds() if run.fold]
    for start, targets in (("main", TARGETS), ("other", TARGETS[:1])):
        tuned = replace(SCRATCH, model=f"{start}, fine-tuned", start=start)
        runs += [replace(tuned, target=target, label_fraction=fraction) for target in targets for fraction in fractions]
    for name, inputs in SENSORS.items():
        tuned = replace(SCRATCH, experiment="earthpulse", model=name, inputs=inputs, start="barlow", views=barlow.views)
        runs += [replace(tuned, label_fraction=fraction) for fraction in fractions]
    return runs


def judged_in_folds() -> list[Run]:
    """The main method and random weights, frozen, in each fold; those of fold 0 are runs of `"methods"`."""
    runs = [MAIN, BASELINES[0]]
    return runs + [replace(run, experiment="folds", fractions=(FEW,), fold=fold) for fold in FOLDS for run in runs]


def trained_in_folds() -> list[Run]:
    """Training with few labels in each fold, from scratch and from the main method."""
    scratch = replace(SCRATCH, label_fraction=FEW)
    runs = [scratch, replace(scratch, model="main, fine-tuned", start="main")]
    return runs + [replace(run, experiment="folds", fold=fold) for fold in FOLDS for run in runs]


# ---------------------------------------------------------------------------------------------------------------- data


class Halved(Dataset[Batch]):
    """All patches of one side in memory at 20 m: images are means of 2 x 2 pixels, (C, 60, 60) float32.

    Attributes:
        labels: of each target, (N,) class indices or (N, K) of 0 and 1.
        classes: names of the classes of each target.
        tiles: MGRS tile of each patch.
    """

    def __init__(self, data: PackedBENGE, kept: Sequence[int]) -> None:
        """Read `data`; `kept` are the columns of the 19 labels that stay."""
        self.s2_bands, self.s1_bands = data.s2_bands, data.s1_bands
        self.patch_ids, self.lonlat = data.patch_ids, data.table("lonlat")
        self.tiles = [mgrs_tile(patch) for patch in data.meta["patch_id_s1"]]
        self.labels = {"land_cover_top": data.table("land_cover_top"), "corine": data.table("corine")[:, list(kept)]}
        self.classes = {"land_cover_top": tuple(LAND_COVER_NAMES), "corine": tuple(CORINE_19[place] for place in kept)}
        parts: dict[str, list[torch.Tensor]] = {key: [] for key in data.modalities if key in BANDS}
        for start in range(0, len(data) if parts else 0, 100):
            batch = decode(data.read_batch(range(start, min(start + 100, len(data)))), data.s2_bands)
            for key, part in parts.items():
                part.append(F.avg_pool2d(batch[key].float(), 2))
        self.images = {key: torch.cat(part) for key, part in parts.items()}

    def __len__(self) -> int:
        return len(self.patch_ids)

    def __getitem__(self, index: int) -> Batch:
        return {key: values[0] for key, values in self.read_batch([index]).items()}

    def read_batch(self, indices: Sequence[int]) -> Batch:
        """Several samples, stacked."""
        places = torch.as_tensor(np.asarray(indices, dtype=np.int64))
        batch: Batch = {key: values[places] for key, values in self.images.items()}
        batch |= {key: torch.from_numpy(values)[places] for key, values in self.labels.items()}
        batch["lonlat"] = torch.from_numpy(self.lonlat)[places]
        batch["patch_id"] = [self.patch_ids[place] for place in places.tolist()]
        return batch


def open_packed(run: Run, split: str, modalities: Sequence[str]) -> PackedBENGE:
    """One side of the data of a run, as it is stored."""
    return run.load(split, modalities, (*TARGETS, "lonlat"), scheme="blocked", fold=run.fold)


def open_data(run: Run, split: str, modalities: Sequence[str]) -> Halved:
    """One side of the data of a run, in memory; without modalities only the labels."""
    counts = open_packed(run, "train", ("lonlat",)).table("corine").sum(axis=0)
    data = open_packed(run, split, modalities or ("lonlat",))
    return Halved(data, np.flatnonzero(counts >= FEWEST).tolist())


def subsets(labels: np.ndarray, fractions: Sequence[float], seed: int) -> dict[float, np.ndarray]:
    """`label_subsets`, without its warning that the smallest fractions leave a class without a label.

    In some folds a class of land cover has a few training patches only and would have no label even at 5 %. Patches of
    classes with fewer than `RARE` are never labelled; on the test tiles they stay, and everybody gets them wrong.
    """
    counts = np.bincount(labels) if labels.ndim == 1 else np.zeros(0)
    usual = np.flatnonzero(counts[labels] >= RARE) if labels.ndim == 1 else np.arange(len(labels))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="at a fraction of")
        return {share: usual[chosen] for share, chosen in label_subsets(labels[usual], fractions, seed).items()}


# ---------------------------------------------------------------------------------------------------------- pretraining


def make_views(run: Run) -> Views:
    """The views of a run: all changes, or some of them left out or overdone."""
    changes: dict[str, dict[str, Any]] = {
        "all changes": {},
        "crop and turns only": {"gain": 0.0, "offset": 0.0, "blur": 0.0, "noise": 0.0, "speckle": 0.0},
        "no gain and offset": {"gain": 0.0, "offset": 0.0},
        "no noise": {"noise": 0.0, "speckle": 0.0},
        "no crop": {"scale": (1.0, 1.0)},
        "hue-like": {"gain": 0.8, "offset": 1.5},  # bands change so much that their ratios say nothing any more
    }
    return replace(strong_views(run.size), **changes[run.views])


def build(run: Run, inputs: Sequence[str] = ()) -> nn.Module:
    """The encoder of a run with random weights, or that of some of its inputs."""
    bands = {key: BANDS[key] for key in inputs or run.inputs}
    if run.method == "mae":
        return ViTEncoder(bands, patch=6 if run.size % 6 == 0 else 4, dim=128)
    return EarlyFusion(bands, width=run.width) if len(bands) == 1 else LateFusion(bands, width=run.width)


def pretrain(run: Run, encoder: nn.Module, train: Halved) -> tuple[History | None, nn.Module | None]:
    """Pretrain `encoder` in place; the history, and of the cross-modal method the whole network."""
    options: dict[str, Any] = {
        "epochs": run.epochs,
        "batch_size": run.batch_size,
        "lr": run.lr,
        "seed": run.seed,
    }
    trainer = Trainer(precision=run.precision, progress=False)
    views = make_views(run)
    if run.method in ("simclr", "barlow", "vicreg", "mae"):
        settings = Pretraining(method=run.method, size=run.size, precision=run.precision, **options)
        return pretrain_encoder(encoder, train, views, settings, progress=False), None
    if run.method == "geolocation":
        places = min(CLUSTERS, len(np.unique(train.lonlat, axis=0)))
        task = Geolocation(place_clusters(train.lonlat, places, run.seed))
        head = ClassificationHead(int(encoder.feature_dim), task.clusters.names)  # type: ignore[arg-type]
        return trainer.fit(Network(encoder, {"place": head}), [task], train, augment=views, **options), None
    if run.method == "cross-modal":
        model = SiameseNetwork(build(run, ("s1",)), 128, hidden=512, encoder_2=encoder)
        return trainer.fit(model, [Contrast("cross-modal")], train, augment=pair_modalities(views), **options), model
    if run.method == "agreement":
        model = SiameseNetwork(encoder, 128, hidden=512)
        return trainer.fit(model, [Contrast("agreement")], train, augment=TwoViews(views), **options), None
    return None, None


def band_statistics(data: Halved, keys: Sequence[str]) -> np.ndarray:
    """Mean and standard deviation of each band over the patch, (N, 2 C): features that nobody had to learn."""
    parts = [part for key in keys for part in (data.images[key].mean(dim=(2, 3)), data.images[key].std(dim=(2, 3)))]
    return torch.cat(parts, dim=1).numpy()


def carry_out_pretraining(run: Run) -> dict[str, np.ndarray]:
    """Pretrain, keep the encoder, and judge its frozen features."""
    seed_everything(run.seed)
    modalities = ("s2", "s1") if run.method == "cross-modal" else run.inputs
    sides = {side: open_data(run, side, modalities) for side in ("train", "val", "test")}
    encoder = build(run)
    begun = time.monotonic()
    history, siamese = pretrain(run, encoder, sides["train"])
    seconds = (time.monotonic() - begun) / max(1, run.epochs)
    arrays = {"parameters": np.array(count_parameters(encoder)), "seconds": np.array(seconds)}
    if history is not None:
        for name, values in history.frame().items():
            if str(name) == "train/loss" or str(name).endswith(("/spread", "/rank")):
                arrays[f"curve|{str(name).rpartition('/')[2]}"] = values.to_numpy(float)
    if siamese is not None:
        found = predict(siamese, sides["test"], batch_size=100, precision=run.precision).outputs
        s1, s2 = (torch.from_numpy(found[name]) for name in ("view_1", "view_2"))
        arrays |= {f"retrieval|{top}": retrieval(s1, s2, top).numpy() for top in (1, 5)}
    if run.method == "statistics":
        features = {side: band_statistics(data, run.inputs) for side, data in sides.items()}
    else:
        save_checkpoint(checkpoint(run), Network(encoder, {}), {"study": run.model, "seed": run.seed})
        features = {
            side: extract_features(encoder, data, stages=STAGES, batch_size=100, precision=run.precision)
            for side, data in sides.items()
        }
    arrays |= {f"features|{side}": values for side, values in features.items()}
    return arrays | probes(run, features, sides)


def probes(run: Run, features: dict[str, np.ndarray], sides: dict[str, Halved]) -> dict[str, np.ndarray]:
    """Predictions from frozen features for the validation and the test patches, keyed as `key` does."""
    said: dict[str, np.ndarray] = {}
    for target in TARGETS:
        labels = sides["train"].labels[target]
        classes = len(sides["train"].classes[target])
        selected: dict[float, float] = {}  # chosen at the first draw
        for draw in range(run.draws if target == "land_cover_top" else min(run.draws, FEWER_DRAWS)):
            for fraction, chosen in subsets(labels, run.fractions, draw).items():
                if fraction == 1 and draw:
                    continue  # all labels can be drawn in one way only
                known, own = features["train"][chosen], labels[chosen]
                choice = (selected[fraction],) if fraction in selected else CS[target]
                probe = fit_logistic(known, own, classes, Cs=choice, seed=draw)
                selected.setdefault(fraction, probe.C)
                for side in ("val", "test"):
                    said[key(side, "frozen", target, fraction, draw)] = smaller(probe.predict(features[side]))
                near = knn_probe(known, own, features["test"])
                said[key("test", "knn", target, fraction, draw)] = smaller(near)
    return said


def key(side: str, condition: str, target: str, fraction: float, draw: int) -> str:
    """The name under which predictions are kept."""
    return f"{side}|{condition}|{target}|{fraction:g}|{draw}"


def smaller(predicted: np.ndarray) -> np.ndarray:
    """Predictions with fewer bytes: classes (N,) uint8 or scores (N, K) float32."""
    return predicted.astype(np.uint8 if predicted.ndim == 1 else np.float32)


def checkpoint(run: Run) -> Path:
    """The file that keeps the encoder of a run."""
    return CHECKPOINTS / f"ssl-{fingerprint(run)}.safetensors"


# ------------------------------------------------------------------------------------------ runs that begin from others


def ensured(run: Run) -> dict[str, np.ndarray]:
    """The arrays that a run gave; it is carried out first if that has not been done."""
    path = run_path(RUNS, run)
    if not path.is_file() or (run.kind == "pretrain" and run.method != "statistics" and not checkpoint(run).is_file()):
        keep(path, carry_out(run))
    with np.load(path) as stored:
        return {name: stored[name] for name in stored.files if name.startswith(("features|", "val|"))}


def ranking() -> list[Run]:
    """The methods by the accuracy of land cover on the validation tiles with 5 % of the labels, best first."""
    truth = open_data(METHODS[0], "val", ()).labels["land_cover_top"]
    return sorted(METHODS, key=lambda method: -validation(ensured(method), truth))


def validation(stored: Any, truth: np.ndarray) -> float:
    """Mean accuracy over draws of the frozen probe on the validation patches, at the fraction that decides."""
    start = "val|frozen|land_cover_top|"
    names = [name for name in stored if name.startswith(start)]
    fractions = sorted({float(name.split("|")[3]) for name in names})
    few = min((fraction for fraction in fractions if fraction >= FEW), default=fractions[0])
    return float(np.mean([np.mean(stored[name] == truth) for name in names if float(name.split("|")[3]) == few]))


def bases(run: Run) -> list[Run]:
    """The pretraining runs whose weights (or features) a run begins from."""
    if run.start == "main":
        return [next(each for each in judged_in_folds() if each.fold == run.fold and each.method == MAIN.method)]
    if run.start == "other":
        return [other_method()]
    if run.start == "barlow" or run.kind == "join":
        barlow = [each for each in configurations() if each.kind == "pretrain" and each.experiment == "earthpulse"]
        return [next(each for each in barlow if each.inputs == (sensor,)) for sensor in run.inputs]
    return []


def other_method() -> Run:
    """The method that runs with `start="other"` begin from: that of those already kept, else the best beside `MAIN`.

    Methods lie within a point of each other, so on another machine, or after some were carried out again, another may
    be best; the runs of one study must all begin from one method.
    """
    for path in (run_path(RUNS, run) for run in configurations() if run.start == "other"):
        if path.is_file():
            with np.load(path) as stored:
                return next(method for method in METHODS if method.model == str(stored["begun"][0]))
    return next(method for method in ranking() if method != MAIN)


def started(run: Run, begun: Sequence[Run]) -> nn.Module:
    """The encoder of a `"train"` run with the weights that it begins from."""
    if not begun:
        return build(run)
    encoders = []
    for base in begun:
        ensured(base)
        network = Network(build(base), {})
        load_checkpoint(checkpoint(base), network, heads=False)
        encoders.append(network.encoder)
    if len(encoders) == 1:
        return encoders[0]
    joined = build(run)
    for sensor, encoder in zip(run.inputs, encoders, strict=True):
        joined.encoders[sensor].load_state_dict(encoder.resnet.state_dict())  # type: ignore[union-attr, index]
    return joined


def carry_out_join(run: Run) -> dict[str, np.ndarray]:
    """Judge the features of two sensors side by side."""
    stored = [ensured(base) for base in bases(run)]
    sides = {side: open_data(run, side, ()) for side in ("train", "val", "test")}
    features = {side: np.concatenate([each[f"features|{side}"] for each in stored], axis=1) for side in sides}
    return probes(run, features, sides)


def carry_out_training(run: Run) -> dict[str, np.ndarray]:
    """Train with labels, three draws of them: what each says about the test patches."""
    begun = bases(run)
    train, test = (open_data(run, side, run.inputs) for side in ("train", "test"))
    labels, condition = train.labels[run.target], CONDITIONS.get(run.start, "finetune")
    settings = FineTuning(run.steps, epochs=5, batch_size=run.label_batch, tuning_steps=run.tuning_steps)
    if begun:
        settings = replace(settings, lrs=(3e-5, 1e-4, 3e-4))
    else:  # random weights take larger steps
        settings = replace(settings, lrs=FROM_SCRATCH.lrs, warm_head=False)
    arrays: dict[str, np.ndarray] = {}
    for draw in range(TRAINED_DRAWS):
        (chosen,) = subsets(labels, [run.label_fraction], draw).values()
        seed_everything(draw)
        arguments = (started(run, begun), train, run.target, train.classes[run.target], labels)
        common: dict[str, Any] = {
            "chosen": chosen,
            "augment": without_gain_offset(mild_views(run.size)),
            "precision": run.precision,
            "seed": draw,
            "progress": False,
        }
        settings = with_chosen_lr(*arguments, settings=settings, **common)  # there is a choice at the first draw only
        network = finetune(*arguments, settings=settings, **common)
        logits = logits_of(network, test, run.target, precision=run.precision)
        said = logits.argmax(axis=1) if labels.ndim == 1 else logits
        arrays[key("test", condition, run.target, run.label_fraction, draw)] = smaller(said)
        arrays["parameters"] = np.array(count_parameters(network))
    arrays["lr"] = np.array(settings.lrs[0])
    arrays["begun"] = np.array([base.model for base in begun])
    return arrays


def carry_out(run: Run) -> dict[str, np.ndarray]:
    """One run of the study."""
    kinds = {"pretrain": carry_out_pretraining, "join": carry_out_join, "train": carry_out_training}
    return kinds[run.kind](run)


# --------------------------------------------------------------------------------------------------------------- table


class Table(BaseTable):
    """Collects the rows of results.csv from what the runs said."""

    def __init__(self, runs: list[Run]) -> None:
        """Open what the runs said and the labels of the test patches."""
        super().__init__(runs, RUNS)
        self.test = open_data(runs[0], "test", ())
        self.truth = self.test.labels
        self.counts = draw_patches(len(self.test), self.test.tiles, DRAWS)
        self.scores = cache(self._scores)

    def row(self, run: Run, **columns: Any) -> dict[str, Any]:
        """The columns that follow from a run, and others; each fold has a model of its own."""
        model = run.model + (f", fold {run.fold}" if run.fold else "")
        return super().row(run, **{"model": model, "condition": ""} | columns)

    def said(self, runs: tuple[Run, ...]) -> list[tuple[str, str, float]]:
        """Condition, target and fraction of all that runs were asked about the test patches, each once."""
        found: dict[tuple[str, str, float], None] = {}
        for run in runs:
            for name in self.stored[run].files:
                if name.startswith("test|"):
                    _, condition, target, fraction, _ = name.split("|")
                    found[condition, target, float(fraction)] = None
        return list(found)

    def _scores(
        self, runs: tuple[Run, ...], condition: str, target: str, fraction: float
    ) -> tuple[list[int], np.ndarray]:
        """Number of each draw (10 more for the next pretraining), and scores in the drawings of tiles, (S, 1 + D)."""
        numbers, predicted = [], []
        for run in runs:
            start = key("test", condition, target, fraction, 0).removesuffix("0")
            for name in self.stored[run].files:
                if name.startswith(start):
                    numbers.append(10 * run.seed + int(name.removeprefix(start)))
                    predicted.append(self.stored[run][name])
        if not predicted:
            return [], np.zeros((0, 1))
        return numbers, score_runs(np.stack(predicted), self.truth[target], SCORES[METRICS[target]], self.counts)

    def add(self, runs: tuple[Run, ...], **columns: Any) -> None:
        """Rows of each draw, and the pooled interval, of all that some runs were asked."""
        for condition, target, fraction in self.said(runs):
            numbers, scores = self.scores(runs, condition, target, fraction)
            asked = {"target": target, "label_fraction": fraction, "condition": condition, "metric": METRICS[target]}
            self.write_scores(runs[0], scores, numbers, **asked | columns)

    def compare(
        self,
        runs: tuple[Run, ...],
        reference: tuple[Run, ...],
        against: str,
        reference_condition: str = "",
        **columns: Any,
    ) -> None:
        """Pooled intervals of the paired difference to `reference`, wherever it was asked the same.

        `against` is a word for the reference, and `reference_condition` its condition, where not that of the runs.
        """
        for condition, target, fraction in self.said(runs):
            _, of = self.scores(runs, condition, target, fraction)
            _, other = self.scores(reference, reference_condition or condition, target, fraction)
            if len(other):
                asked = {"target": target, "label_fraction": fraction, "condition": condition, **columns}
                self.write_difference(runs[0], of, other, metric=METRICS[target], against=against, **asked)

    def describe(self, run: Run) -> None:
        """Number of weights, seconds an epoch, retrieval, and loss, spread and rank of each epoch of a pretraining."""
        stored = self.stored[run]
        names = {"parameters": "parameters", "seconds": "seconds_per_epoch", "lr": "lr"}
        names |= {f"retrieval|{top}": f"retrieval_top_{top}" for top in (1, 5)}
        condition = CONDITIONS.get(run.start, "finetune")
        columns = {"target": run.target, "condition": condition} if run.kind == "train" else {}
        for name, metric in names.items():
            if name in stored.files:
                self.write(run, stored[name], seed=run.seed, metric=metric, **columns)
        for name in stored.files:
            if name.startswith("curve|"):
                metric = name.removeprefix("curve|").replace("loss", "train_loss")
                for epoch, value in enumerate(stored[name], start=1):
                    self.write(run, value, seed=run.seed, metric=metric, condition=f"epoch {epoch}")


def tabulate(runs: list[Run]) -> list[dict[str, Any]]:
    """Every row of results.csv."""
    table = Table(runs)
    scratch = table.of("methods", "from scratch")
    ranked = ranks(table)
    begun = {str(table.stored[run]["begun"][0]) for run in runs if run.start == "other"}
    if len(begun) != 1:
        raise ValueError(f'runs with start="other" began from {sorted(begun)}; remove them from {RUNS} and repeat them')
    (other,) = begun
    best = next(model for _, model in ranked if model != MAIN.model)
    if other != best:
        print(f'runs with start="other" began from {other}; on the validation tiles {best} is ahead of it now')
    for model in dict.fromkeys(run.model for run in runs if run.experiment == "methods"):
        group = table.of("methods", model)
        start = group[0].start
        name = (MAIN.model if start == "main" else other) if start else model
        # of a "train" run each target and fraction has a configuration of its own
        for part in [group] if group[0].kind == "pretrain" else [(run,) for run in group]:
            table.add(part, model=name)
            if model != "from scratch":
                table.compare(part, scratch, "scratch", "scratch", model=name)
    random, geolocation = (table.of("methods", name) for name in ("random weights", "geolocation"))
    for method in METHODS:
        group = table.of("methods", method.model)
        table.compare(group, random, "random")
        if method.model != "geolocation":
            table.compare(group, geolocation, "geolocation")
    for place, (value, model) in enumerate(ranked, start=1):
        run, asked = (
            table.of("methods", model)[0],
            {"target": "land_cover_top", "label_fraction": FEW, "condition": "frozen"},
        )
        table.write(run, value, metric="validation_accuracy", **asked)
        table.write(run, place, metric="validation_rank", **asked)
    full = table.of("ablation", VIEWS[0])
    paired = table.of("ablation", f"{MAIN.model}, {VIEWS[0]}")
    for run in runs:
        if run.experiment == "ablation":
            table.add((run,))
            reference = paired if run.method == MAIN.method else full
            if (run,) != reference:
                table.compare((run,), reference, "all_changes")
    earthpulse(table, scratch)
    over_folds(table)
    table.add(table.of("collapse", "agreement"))
    table.compare(table.of("collapse", "agreement"), random, "random")
    for run in runs:
        table.describe(run)
    tested(table)
    return table.rows


def ranks(table: Table) -> list[tuple[float, str]]:
    """Accuracy on the validation tiles and name of each method, in the order of `ranking`."""
    truth = open_data(table.runs[0], "val", ()).labels["land_cover_top"]
    values = [(validation(table.stored[method], truth), method.model) for method in METHODS]
    return sorted(values, key=lambda pair: -pair[0])


def earthpulse(table: Table, scratch: tuple[Run, ...]) -> None:
    """Each sensor and both: frozen, fine-tuned and from scratch, all with land cover at the same fractions."""
    s2 = {
        "frozen": table.of("earthpulse", "S2", kind="pretrain"),
        "finetune": table.of("earthpulse", "S2", kind="train"),
        "scratch": scratch,
    }
    for name in SENSORS:
        own = table.of("earthpulse", name)
        trained = [run for run in own if run.kind == "train"]
        without = scratch if name == "S2" else tuple(run for run in trained if not run.start)
        frozen = tuple(run for run in own if run.kind != "train")
        parts = [frozen, *((run,) for run in trained)]
        parts += [(run,) for run in scratch] if name == "S2" else []
        for part in parts:
            columns = {"experiment": "earthpulse", "model": name}
            table.add(part, **columns)
            kind = "frozen" if part[0].kind != "train" else CONDITIONS.get(part[0].start, "finetune")
            if kind != "scratch":
                table.compare(part, without, "scratch", "scratch", **columns)
            if name != "S2":
                table.compare(part, s2[kind], "s2", **columns)


def over_folds(table: Table) -> None:
    """The main comparisons at few labels: each patch is tested once, in the fold that holds out its tile."""
    tests = [open_data(run, "test", ()) for run in judged_in_folds() if run.method == MAIN.method]
    truth = np.concatenate([test.labels["land_cover_top"] for test in tests])
    tiles = [tile for test in tests for tile in test.tiles]
    counts = draw_patches(len(truth), tiles, DRAWS)
    asked = {  # what others are compared with comes first
        (SCRATCH.model, "scratch"): [run for run in trained_in_folds() if not run.start],
        (BASELINES[0].model, "frozen"): [run for run in judged_in_folds() if run.method != MAIN.method],
        (MAIN.model, "frozen"): [run for run in judged_in_folds() if run.method == MAIN.method],
        (MAIN.model, "finetune"): [run for run in trained_in_folds() if run.start],
    }
    scores = {}
    for (model, condition), group in asked.items():
        names = [key("test", condition, "land_cover_top", FEW, draw) for draw in range(TRAINED_DRAWS)]
        said = np.stack([np.concatenate([table.stored[run][name] for run in group]) for name in names])  # (3, N)
        scores[model, condition] = score_runs(said, truth, accuracy, counts)
        columns = {"experiment": "folds", "target": "land_cover_top", "label_fraction": FEW, "condition": condition}
        table.write_scores(group[0], scores[model, condition], metric="accuracy", model=model, **columns)
        for run, test in zip(group, tests, strict=True):
            right = [np.mean(table.stored[run][name] == test.labels["land_cover_top"]) for name in names]
            table.write(run, np.mean(right), metric="accuracy", model=f"{model}, fold {run.fold}", **columns)
        for against, other in (("scratch", (SCRATCH.model, "scratch")), ("random", (BASELINES[0].model, "frozen"))):
            if other in scores and other != (model, condition) and (against == "scratch" or condition == "frozen"):
                of, reference = scores[model, condition], scores[other]
                table.write_difference(
                    group[0], of, reference, metric="accuracy", against=against, model=model, **columns
                )
    for metric, count in (("test_patches", len(truth)), ("test_tiles", len(set(tiles)))):
        table.write(MAIN, count, experiment="folds", model="", metric=metric)


def tested(table: Table) -> None:
    """Write the number of patches and tiles that were tested, and of those that have each label."""
    run, columns = table.runs[0], {"experiment": "test", "model": ""}
    for metric, count in (("test_patches", len(table.test)), ("test_tiles", len(set(table.test.tiles)))):
        table.write(run, count, metric=metric, **columns)
    for target, names in table.test.classes.items():
        labels = table.truth[target]
        counts = labels.sum(axis=0) if labels.ndim == 2 else np.bincount(labels, minlength=len(names))
        for name, count in zip(names, counts, strict=True):
            table.write(run, count, target=target, metric="positives", condition=name, **columns)


if __name__ == "__main__":
    command_line(__doc__, configurations(), carry_out, tabulate, RUNS, RESULTS)

"""Conclusions of the labs, tried on real imagery: three studies, and the tables that `docs/reality.md` quotes.

    python docs/reality.py --data DIR                  # run what is missing, then write docs/reality.csv
    python docs/reality.py --data DIR --only ombria    # one study alone: eurosat, ombria or chips
    python docs/reality.py --data DIR --list           # the runs, with what is done
    python docs/reality.py --data DIR --table          # only write the table, from the runs that are there
    python docs/reality.py --dataset ben-ge-800        # the labs' own studies, on the course's own data

`DIR` holds `eurosat_rgb`, `ombria` and `multitask_chips`; nothing is written into it. Descriptions (`dataset.toml`),
tables of samples and packs lie in the folder of `--work`, beside links to the data. A run that is done is not repeated.
What has not been run stands in the table with the seed "not run" and no value; what an earlier table has stays in it.

EuroSAT: encoders are pretrained without labels on 80 % of the tiles of each class, then judged on the other 20 % at
several shares of labels, three draws of each, which all methods share. The tiles come from few scenes and their places
are not known, so the split is random, and flatters all methods alike. Every method sees the same number of images.

OMBRIA: flooded or not, by pixel, from Sentinel-1 and Sentinel-2 before and after. Neither event nor place is known, so
chips whose pictures are alike are kept together: average linkage of the median colours of Sentinel-2 before the flood,
cut at `ALIKE` grey levels. Five folds; the score is the intersection over union of the flooded pixels of all folds.

Multi-task chips: land cover and water by pixel, mean elevation and mean water occurrence of the chip, from seven
optical bands. Five folds of whole sites, trained three times where targets are compared.

Comparisons named before any run are `COMPARISONS`. Intervals are over test samples (EuroSAT), groups or sites, and over
draws of labels, as in the labs. Settings were not chosen on what is tested here.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from PIL import Image
from sklearn.cluster import AgglomerativeClustering
from torch import nn
from torch.utils.data import Dataset, Subset

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bengelib.checkpoint import load_checkpoint, save_checkpoint  # noqa: E402
from bengelib.course.results import COLUMNS, Arrays, interval_rows, read_results, run_path, write_results  # noqa: E402
from bengelib.course.results import Run as BaseRun  # noqa: E402
from bengelib.course.studies import carry_out_all  # noqa: E402
from bengelib.data.image_listing import hold_out, list_images, picture_hashes  # noqa: E402
from bengelib.data.labelled import label_subsets  # noqa: E402
from bengelib.data.loading import load  # noqa: E402
from bengelib.engine import History, Trainer, predict, seed_everything  # noqa: E402
from bengelib.fusion import EarlyFusion, FeatureFusion, LateFusion  # noqa: E402
from bengelib.heads import Network, RegressionHead, SegmentationHead, hard_maps  # noqa: E402
from bengelib.intervals import POOLED, draw_patches, pool, score_runs  # noqa: E402
from bengelib.methods import MASKED  # noqa: E402
from bengelib.metrics import accuracy, confusion_by_patch, drawn_mean_iou, mean_absolute_error  # noqa: E402
from bengelib.modalities import Modality  # noqa: E402
from bengelib.probe import extract_features, fit_logistic  # noqa: E402
from bengelib.recipes.finetuning import FINE_TUNING, FROM_SCRATCH, finetune, logits_of, with_chosen_lr  # noqa: E402
from bengelib.recipes.label_efficiency import STAGES, enlargement  # noqa: E402
from bengelib.recipes.pretraining import (  # noqa: E402
    Pretraining,
    build_encoder,
    in_shared_light,
    mild_views,
    pretrain_encoder,
    strong_views,
    without_gain_offset,
)
from bengelib.tasks import Regression, Segmentation, Task  # noqa: E402
from bengelib.transforms import Augment, Batch  # noqa: E402
from bengelib.weighting import EqualWeights, GradNorm, PCGrad, UncertaintyWeights  # noqa: E402

RESULTS = Path(__file__).with_name("reality.csv")
DATA, WORK = "REALITY_DATA", "REALITY_WORK"
"""Environment variables with the folders of the data and of what is made from them, for all processes."""
DRAWS = 1000
NOT_RUN = "not run"


# ------------------------------------------------------------------------------------------------------------ the runs


@dataclass(frozen=True, kw_only=True)
class Run(BaseRun):
    """One run: everything that decides its outcome.

    Attributes:
        mode: of EuroSAT: `"pretrain"` (then probes), `"finetune"` or `"scratch"`.
        start: of `"finetune"`: the name of the file of the run whose encoder it begins from.
        method: of pretraining; empty for random weights.
        views: see `make_views`.
        fusion: of OMBRIA: `"early"`, `"feature"` or `"late"`.
        targets: of the chips.
        weighting: of the losses of the chips' targets.
    """

    dataset: str = ""
    mode: str = ""
    start: str = ""
    method: str = ""
    views: str = "shared light"
    fusion: str = "early"
    modality_dropout: float = 0.0
    targets: tuple[str, ...] = ()
    weighting: str = "equal"
    fold: int = 0
    crop: int = 64
    steps: int = 0

    REPEATS: ClassVar[tuple[str, ...]] = ("seed", "fold")

    @property
    def split(self) -> str:
        """The tiles of EuroSAT are split at random; whole groups or sites of the others."""
        return "random" if self.experiment == "eurosat" else "blocked"


SHARES = (0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 1.0)
"""Shares of the training tiles that have labels; 0.03 of them are about 216."""
FEW = 0.03
TRAINED = (FEW, 0.1, 1.0)
"""Shares at which networks are trained, from random weights and from SimCLR's; probes take a moment at any share."""
STEPS = 250
LABEL_DRAWS = 3
METHODS = {"SimCLR": "simclr", "Barlow Twins": "barlow", "VICReg": "vicreg", "BYOL": "byol"}
METHODS |= {"MoCo v2": "moco-v2", "MoCo v3": "moco-v3", "MAE": "mae"}
VIEWS = ("light of each band", "no light", "no crop")
ALIKE = 15.0
"""Grey levels between median colours at which groups of chips are no longer joined."""
FOLDS = range(5)
CHIP_RUNS = 3
"""Trainings of each fold of the chips that are compared: with one, the verdict on land cover hung on chance."""
FLOODS = ("dry", "flooded")
DECISION = "S2 + S1, decision"
"""Decision fusion trains nothing: it averages the probabilities of the networks of one sensor."""
COVER = {10: "trees", 20: "shrubs", 30: "grass", 40: "crops", 50: "built", 60: "bare", 70: "snow", 80: "water"}
COVER |= {90: "wetland", 95: "mangroves", 100: "moss"}
TARGETS = ("land_cover", "water", "elevation", "occurrence")
OPTICAL = ("coastal", "blue", "green", "red", "nir", "swir1", "swir2")


def configurations() -> list[Run]:
    """Every run of the three studies."""
    tile = Run("eurosat", "SimCLR", dataset="eurosat", inputs=("image",), mode="pretrain", method="simclr")
    tile = replace(tile, epochs=120, batch_size=128, lr=2e-3, crop=32)
    short = replace(tile, epochs=10, width=0.25)
    runs = [tile, replace(tile, model="random weights", method="", epochs=0)]
    runs += [replace(short, model=f"{name}, short", method=method) for name, method in METHODS.items()]
    runs += [replace(short, model=f"SimCLR, short, {views}", views=views) for views in VIEWS]
    runs.append(replace(short, model="random weights, short", method="", epochs=0))
    trained = replace(tile, epochs=0, batch_size=64, lr=0.0, steps=STEPS)
    scratch = replace(trained, model="from scratch", mode="scratch", method="")
    tuned = replace(trained, mode="finetune", start=run_path(Path(), runs[0]).stem)
    runs += [replace(run, label_fraction=share) for share in TRAINED for run in (scratch, tuned)]
    both = ("s2", "s1")
    flood = Run(
        "ombria", "S1", dataset="ombria", inputs=("s1",), epochs=10, batch_size=8, crop=128, lr=2e-3, width=0.25
    )
    floods = [flood, replace(flood, model="S2", inputs=("s2",))]
    for fusion in ("early", "feature", "late"):
        joint = replace(flood, model=f"S2 + S1, {fusion}", inputs=both, fusion=fusion)
        floods += [joint, replace(joint, model=f"S2 + S1, {fusion}, dropout", modality_dropout=0.3)]
    chip = Run(
        "chips", "", dataset="chips", inputs=("optical",), epochs=20, batch_size=16, crop=64, lr=2e-3, width=0.25
    )
    chips = [replace(chip, model=NAMES[target], targets=(target,)) for target in TARGETS]
    chips += [
        replace(chip, model=weighting, targets=TARGETS, weighting=weighting)
        for weighting in ("equal", "pcgrad", "uncertainty", "gradnorm")
    ]
    chips += [replace(chip, model=f"{NAMES[a]} + {NAMES[b]}", targets=(a, b)) for a, b in combinations(TARGETS, 2)]
    runs += [replace(run, fold=fold, seed=fold) for run in (*floods, *chips) for fold in FOLDS]
    again = [run for run in chips if run.model in (*NAMES.values(), "equal", "pcgrad")]
    for first in range(len(FOLDS), CHIP_RUNS * len(FOLDS), len(FOLDS)):  # what is compared is trained more than once
        runs += [replace(run, fold=fold, seed=first + fold) for run in again for fold in FOLDS]
    return runs


NAMES = {"land_cover": "land cover", "water": "water", "elevation": "elevation", "occurrence": "water occurrence"}
COMPARISONS = (
    ("eurosat", "SimCLR", "frozen", "from scratch", "scratch", FEW),
    ("eurosat", "SimCLR", "finetune", "from scratch", "scratch", FEW),
    ("eurosat", "SimCLR", "frozen", "from scratch", "scratch", 1.0),
    ("eurosat", "SimCLR", "frozen", "random weights", "frozen", FEW),
    *(("eurosat", "SimCLR, short", "frozen", f"SimCLR, short, {views}", "frozen", FEW) for views in VIEWS),
    *(("ombria", f"S2 + S1, {how}", "clear", "S2", "clear", 1.0) for how in ("early", "feature", "late", "decision")),
    ("ombria", "S2", "clear", "S1", "clear", 1.0),
    ("ombria", "S2 + S1, late", "clear", "S2 + S1, early", "clear", 1.0),
    *(
        ("ombria", f"S2 + S1, {how}, dropout", f"{key} missing", f"S2 + S1, {how}", f"{key} missing", 1.0)
        for how in ("early", "feature", "late")
        for key in ("s2", "s1")
    ),
    *(("chips", "equal", target, NAMES[target], target, 1.0) for target in TARGETS),
    *(("chips", "pcgrad", target, "equal", target, 1.0) for target in TARGETS),
)
"""Named before any run: study, model and condition (of the chips: target), those compared with, share of labels."""
AFTERWARDS = tuple(("ombria", DECISION, f"vote {share:g} of s1", "S2", "clear", 1.0) for share in (0.1, 0.2, 0.3, 0.4))
"""Asked when the equal vote had gained nothing, to find out why. They were tried on what is tested, so they explain and
decide nothing."""


# ------------------------------------------------------------------------------------------------------------ the data


def described(name: str) -> Path:
    """The folder in the work folder with the description of one of the sources, written where it is not yet there."""
    folder = Path(os.environ[WORK]) / name
    if not (folder / "dataset.toml").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        {"eurosat": _describe_eurosat, "ombria": _describe_ombria, "chips": _describe_chips}[name](folder)
    return folder


def _link(folder: Path, name: str) -> Path:
    """A link in `folder` to a folder of the data."""
    link = folder / Path(name).name
    if not link.exists():
        link.symlink_to(Path(os.environ[DATA]).resolve() / name, target_is_directory=True)
    return link


def _write(folder: Path, samples: dict[str, Sequence[Any]], text: str) -> None:
    """The table of the samples, then the description, which stands for both."""
    pd.DataFrame(samples).to_csv(folder / "samples.csv", index=False)
    (folder / "dataset.toml").write_text(text, encoding="utf-8")


def _describe_eurosat(folder: Path) -> None:
    """A fifth of the tiles of each class is for the test; copies of a picture stay together."""
    tiles = _link(folder, "eurosat_rgb")
    names = list_images(tiles)
    learn, _ = hold_out(names, 0.2, 0, root=tiles, hashes=picture_hashes(tiles, names))
    taught, paths = set(learn), [Path(name) for name in names]
    samples = {
        "id": [path.stem for path in paths],
        "class": [path.parts[0] for path in paths],
        "split": ["train" if name in taught else "test" for name in names],
    }
    classes = ", ".join(f'"{name}"' for name in sorted(set(samples["class"])))
    _write(folder, samples, f"""[dataset]
name = "EuroSAT RGB, a third of each class"
licence = "MIT"
citation = "Helber et al. 2019, doi:10.1109/JSTARS.2019.2918242"

[samples]
table = "samples.csv"
split = "split"

[modalities.image]
kind = "image"
files = "eurosat_rgb/{{class}}/{{id}}.jpg"
bands = ["R", "G", "B"]
unit = "1"
scale = {1 / 255}

[targets.label]
kind = "class"
column = "class"
classes = [{classes}]
""")  # fmt: skip


def _describe_ombria(folder: Path) -> None:
    """Chips that look alike before the flood make a group."""
    for name in ("s1_before", "s1_after", "s2_before", "s2_after", "mask"):
        _link(folder, f"ombria/{name}")
    ids = sorted(path.stem for path in (folder / "mask").glob("*.png"))
    groups = alike(np.stack([median_colour(folder / "s2_before" / f"{name}.png") for name in ids]))
    images = "".join(f"""
[modalities.{sensor}_{when}]
kind = "image"
files = "{sensor}_{when}/{{id}}.png"
bands = [{bands}]
unit = "1"
""" for sensor, bands in (("s1", '"VV"'), ("s2", '"R", "G", "B"')) for when in ("before", "after"))  # fmt: skip
    _write(folder, {"id": [f"{name}" for name in ids], "group": [f"g{group}" for group in groups]}, f"""[dataset]
name = "OMBRIA, 160 chips"
citation = "Drakonakis et al. 2022, doi:10.1109/JSTARS.2022.3155559"

[samples]
table = "samples.csv"
group = "group"
{images}
[targets.flood]
kind = "map"
files = "mask/{{id}}.png"
classes = {{ 0 = "dry", 255 = "flooded" }}
""")  # fmt: skip


def median_colour(path: Path) -> np.ndarray:
    """Median of each channel, (3,), of every fourth pixel of a picture in both directions that is not black."""
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"), np.float32)[::4, ::4].reshape(-1, 3)
    lit = pixels[pixels.sum(axis=1) > 15]
    return np.asarray(np.median(lit if len(lit) else pixels, axis=0))


def alike(colours: np.ndarray, most: float = ALIKE) -> np.ndarray:
    """Number of the group of each picture, (N,): those whose colours (N, 3) are alike, by average linkage."""
    groups = AgglomerativeClustering(n_clusters=None, distance_threshold=most, linkage="average").fit_predict(colours)
    return np.asarray(groups)


def _describe_chips(folder: Path) -> None:
    """Elevation and water occurrence are averaged over each chip; they are layers of the same files."""
    _link(folder, "multitask_chips/images")
    _link(folder, "multitask_chips/water")
    chips = pd.read_csv(Path(os.environ[DATA]) / "multitask_chips" / "chips.csv", dtype=str)
    samples: dict[str, Sequence[Any]] = {"id": chips["chip"], "site": "s" + chips["site_group"]}
    layers = folder / "layers"
    layers.mkdir(exist_ok=True)
    if not (layers / "images").exists():
        (layers / "images").symlink_to((folder / "images").resolve(), target_is_directory=True)
    _write(layers, samples, """[samples]
table = "samples.csv"
group = "site"

[modalities.elevation]
kind = "image"
files = "images/{id}.tif"
bands = ["dem"]
unit = "m"
no_data = -9999

[modalities.occurrence]
kind = "image"
files = "images/{id}.tif"
bands = ["water_occurrence"]
unit = "%"
""")  # fmt: skip
    batch = whole(load(layers, None, progress=False))
    for key in ("elevation", "occurrence"):
        samples[key] = batch[key].mean(dim=(1, 2, 3)).numpy().round(3)
    cover = ", ".join(f'{code} = "{name}"' for code, name in COVER.items())
    bands = ", ".join(f'"{name}"' for name in OPTICAL)
    _write(folder, samples, f"""[samples]
table = "samples.csv"
group = "site"

[modalities.optical]
kind = "image"
files = "images/{{id}}.tif"
bands = [{bands}]
unit = "reflectance"
scale = 0.0001

[targets.land_cover]
kind = "map"
files = "images/{{id}}.tif"
layers = [11]
classes = {{ {cover} }}
no_data = 0

[targets.water]
kind = "map"
files = "water/{{id}}.png"
classes = {{ 0 = "land", 1 = "water" }}

[targets.elevation]
kind = "number"
column = "elevation"
unit = "m"

[targets.occurrence]
kind = "number"
column = "occurrence"
unit = "%"
""")  # fmt: skip


def whole(data: Any) -> Batch:
    """All samples of a dataset as one decoded batch."""
    return dict(data.decode(data.read_batch(np.arange(len(data)))))


class InMemory(Dataset[Any]):
    """Samples that are all in memory, as rows of one batch."""

    def __init__(self, batch: Batch) -> None:
        """Keep a batch, every value of which has a row for each sample."""
        self.batch = batch

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.batch["patch_id"])

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One sample."""
        return {key: values[index] for key, values in self.batch.items()}

    def read_batch(self, indices: Sequence[int] | np.ndarray) -> Batch:
        """Several samples, stacked."""
        rows = torch.as_tensor(np.asarray(indices))
        ids = [self.batch["patch_id"][row] for row in rows.tolist()]
        return {key: ids if key == "patch_id" else values[rows] for key, values in self.batch.items()}


@cache
def floods() -> tuple[InMemory, dict[str, Modality], np.ndarray, np.ndarray]:
    """OMBRIA with the pictures before and after of each sensor as the bands of one image, its inputs, groups, folds."""
    data = load(described("ombria"), None, progress=False)
    batch, inputs = whole(data), data.inputs
    joined: dict[str, Modality] = {}
    for sensor in ("s2", "s1"):
        parts = [inputs[f"{sensor}_{when}"] for when in ("before", "after")]
        bands = tuple(
            f"{band} {when}" for when, part in zip(("before", "after"), parts, strict=True) for band in part.bands
        )
        moments = {
            name: tuple(value for part in parts for value in getattr(part, name)) for name in ("mean", "std", "unit")
        }
        joined[sensor] = Modality(sensor, "image", bands, **moments)
        batch[sensor] = torch.cat([batch.pop(f"{sensor}_{when}") for when in ("before", "after")], dim=1)
    return InMemory(batch), joined, np.asarray(data.groups), _folds("ombria", data.patch_ids)


@cache
def chips() -> tuple[InMemory, dict[str, Modality], np.ndarray, np.ndarray]:
    """The chips, their inputs, sites and folds."""
    data = load(described("chips"), None, progress=False)
    return InMemory(whole(data)), dict(data.inputs), np.asarray(data.groups), _folds("chips", data.patch_ids)


def _folds(name: str, ids: Sequence[str]) -> np.ndarray:
    """The fold in which each sample is tested, (N,)."""
    tested = {}
    for fold in FOLDS:
        tested |= dict.fromkeys(load(described(name), "test", fold=fold, progress=False).patch_ids, fold)
    return np.array([tested[name] for name in ids])


# ------------------------------------------------------------------------------------------------------------- EuroSAT


@cache
def tiles(side: str) -> Any:
    """The training or test side of EuroSAT."""
    return load(described("eurosat"), side, progress=False)


def make_views(run: Run) -> Any:
    """The views of a pretraining: those of the command `pretrain`, or with one thing changed."""
    views = strong_views(run.crop, tiles("train").inputs)
    lit = in_shared_light(views)
    changed = {"shared light": lit, "light of each band": views, "no light": without_gain_offset(views)}
    changed["no crop"] = replace(lit, scale=(1.0, 1.0))
    return changed[run.views]


def encoder_of(run: Run) -> nn.Module:
    """The untrained encoder of a run."""
    seed_everything(run.seed)
    return build_encoder(tiles("train").inputs, run.method or "simclr", 18, round(64 * run.width))


def weights(name: str) -> Path:
    """The file of the encoder that the run of this name has pretrained."""
    return Path(os.environ[WORK]) / "encoders" / f"{name}.safetensors"


def drawn(share: float, draw: int) -> np.ndarray:
    """Places of the training tiles that have labels."""
    (chosen,) = label_subsets(tiles("train").table("label"), [share], draw).values()
    return np.asarray(chosen)


def carry_out_pretraining(run: Run) -> dict[str, np.ndarray]:
    """Pretrain without labels, then probe at every share of labels: what is said of the test tiles."""
    train, test, encoder = tiles("train"), tiles("test"), encoder_of(run)
    out = weights(run_path(Path(), run).stem)
    if run.method and out.is_file():
        load_checkpoint(out, Network(encoder, {}), heads=False)
    elif run.method:
        settings = Pretraining(method=run.method, width=round(64 * run.width), epochs=run.epochs, view=run.crop,
                               batch_size=run.batch_size, lr=run.lr, seed=run.seed, precision="no")  # fmt: skip
        kept = out.with_suffix(".checkpoints")
        out.parent.mkdir(parents=True, exist_ok=True)
        views = make_views(run)
        pretrain_encoder(encoder, train, views, settings, progress=False, checkpoint=kept, checkpoint_every=60)
        save_checkpoint(out, Network(encoder, {}))
    labels = train.table("label")
    reads: dict[str, Any] = {"stages": STAGES, "texture": True, "tta": 2, "precision": "no"}
    if run.method not in MASKED:
        reads["enlarge"] = enlargement(64)
    features, asked = extract_features(encoder, train, **reads), extract_features(encoder, test, **reads)
    arrays = {}
    for share in SHARES:
        for draw in range(LABEL_DRAWS if share < 1 else 1):
            chosen = drawn(share, draw)
            probe = fit_logistic(features[chosen], labels[chosen], len(train.outputs["label"].classes), seed=draw)
            arrays[f"frozen|{share:g}|{draw}"] = probe.predict(asked).astype(np.uint8)
    return arrays


def carry_out_labels(run: Run) -> dict[str, np.ndarray]:
    """Train with labels, from random weights or from those of SimCLR, at one share."""
    train, test, encoder = tiles("train"), tiles("test"), encoder_of(run)
    settings = FINE_TUNING if run.mode == "finetune" else FROM_SCRATCH
    if run.mode == "finetune":
        load_checkpoint(weights(run.start), Network(encoder, {}), heads=False)
    settings = replace(settings, steps=run.steps, tuning_steps=run.steps // 2, epochs=3, batch_size=run.batch_size,
                       stages=STAGES, texture=True, enlarge=enlargement(64))  # fmt: skip
    arrays = {}
    for draw in range(LABEL_DRAWS if run.label_fraction < 1 else 1):
        seed_everything(draw)
        arguments = (encoder, train, "label", train.outputs["label"].classes, train.table("label"))
        common: dict[str, Any] = {
            "chosen": drawn(run.label_fraction, draw),
            "augment": without_gain_offset(mild_views(48, train.inputs)),
            "precision": "no",
            "seed": draw,
            "progress": False,
        }
        settings = with_chosen_lr(*arguments, settings=settings, **common)  # there is a choice at the first draw only
        network = finetune(*arguments, settings=settings, **common)
        logits = logits_of(network, test, "label", tta=2, precision="no")
        arrays[f"{run.mode}|{run.label_fraction:g}|{draw}"] = logits.argmax(axis=1).astype(np.uint8)
    return arrays


# ---------------------------------------------------------------------------------------------------- OMBRIA and chips

FUSIONS = {"early": EarlyFusion, "feature": FeatureFusion, "late": LateFusion}


def without(key: str, batch: Batch) -> Batch:
    """The batch without a sensor."""
    return {name: values for name, values in batch.items() if name != key}


def carry_out_flood(run: Run) -> dict[str, np.ndarray]:
    """Train on four folds and test on the fifth: counts of pixels by chip, with both sensors and with one missing."""
    data, inputs, _, folds = floods()
    seed_everything(run.seed)
    dropout = run.modality_dropout
    encoder = FUSIONS[run.fusion]({key: inputs[key] for key in run.inputs}, width=run.width, modality_dropout=dropout,
                                  missing="error" if dropout else "mean")  # fmt: skip
    network = Network(encoder, {"flood": SegmentationHead(encoder.channels, FLOODS)})
    _fit(run, network, [Segmentation("flood", FLOODS)], Subset(data, np.flatnonzero(folds != run.fold).tolist()))
    test = Subset(data, np.flatnonzero(folds == run.fold).tolist())
    truth = test.dataset.batch["flood"][test.indices].numpy()  # type: ignore[attr-defined]
    arrays: dict[str, np.ndarray] = {}
    conditions = {"clear": None, **({f"{key} missing": key for key in run.inputs} if len(run.inputs) > 1 else {})}
    for name, key in conditions.items():
        change = None if key is None else (lambda batch, key=key: without(key, batch))
        logits = predict(network, test, change=change, precision="no", batch_size=8).outputs["flood"]
        arrays[name] = confusion_by_patch(logits.argmax(axis=1), truth, 2)
        if len(run.inputs) == 1:
            arrays["probability"] = np.float16(1 / (1 + np.exp(logits[:, 0] - logits[:, 1])))
    return arrays


def carry_out_chips(run: Run) -> dict[str, np.ndarray]:
    """Train some targets together on four folds of sites and test on the fifth."""
    data, inputs, _, folds = chips()
    learn, asked = np.flatnonzero(folds != run.fold), np.flatnonzero(folds == run.fold)
    seed_everything(run.seed)
    encoder = EarlyFusion(inputs, width=run.width)
    heads: dict[str, nn.Module] = {}
    tasks: list[Task] = []
    for target in run.targets:
        if target in MAPS:
            heads[target] = SegmentationHead(encoder.channels, MAPS[target])
            tasks.append(Segmentation(target, MAPS[target]))
        else:
            labels = data.batch[target][learn]
            heads[target] = RegressionHead(encoder.feature_dim, float(labels.mean()), float(labels.std()))
            tasks.append(Regression(target, float(labels.std())))
    network = Network(encoder, heads)
    kinds = {"equal": EqualWeights, "pcgrad": PCGrad, "gradnorm": GradNorm}
    squared = tuple(target for target in run.targets if target not in MAPS)
    weighting = (
        UncertaintyWeights(run.targets, squared=squared, rate=10.0)
        if run.weighting == "uncertainty"
        else kinds[run.weighting](run.targets)
    )
    every = 12 if len(run.targets) > 1 and run.weighting == "equal" else 0
    history = _fit(run, network, tasks, Subset(data, learn.tolist()), weighting, every)
    found = predict(network, Subset(data, asked.tolist()), reduce=hard_maps, precision="no", batch_size=16)
    arrays: dict[str, np.ndarray] = {}
    for target in run.targets:
        said, truth = found.outputs[target], data.batch[target][asked].numpy()
        arrays[target] = confusion_by_patch(said, truth, len(MAPS[target])) if target in MAPS else said
    for pair in sorted({name for row in history.gradients for name in row if "~" in name}):
        arrays[f"cosine|{pair}"] = np.array([row[pair] for row in history.gradients if pair in row])
    return arrays


MAPS = {"land_cover": tuple(COVER.values()), "water": ("land", "water")}


def _fit(
    run: Run, network: nn.Module, tasks: Sequence[Task], train: Dataset[Any], weighting: Any = None, every: int = 0
) -> History:
    """Train for all epochs; the last weights are tested, so nothing is chosen."""
    trainer = Trainer(precision="no", progress=False, gradient_every=every)
    options: dict[str, Any] = {"epochs": run.epochs, "batch_size": run.batch_size, "lr": run.lr, "seed": run.seed}
    return trainer.fit(network, tasks, train, augment=Augment(run.crop), weighting=weighting, **options)


def carry_out(run: Run) -> dict[str, np.ndarray]:
    """One run of any of the studies."""
    if run.experiment == "eurosat":
        return carry_out_pretraining(run) if run.mode == "pretrain" else carry_out_labels(run)
    return carry_out_flood(run) if run.experiment == "ombria" else carry_out_chips(run)


# ----------------------------------------------------------------------------------------------------------- the table


def flooded_iou(predicted: np.ndarray, truth: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Intersection over union of the flooded pixels in each drawing, (D,), from confusions (N, 2, 2), truth first."""
    sums = counts @ predicted.reshape(len(predicted), 4).astype(np.float64)  # (D, 4): dry as dry, as flooded, ...
    value: np.ndarray = sums[:, 3] / np.maximum(sums[:, 1:].sum(axis=1), 1)
    return value


class Scores:
    """Scores in all drawings, (S, 1 + D), of what was asked: model, condition (of the chips: target) and share."""

    def __init__(self, runs: Sequence[Run]) -> None:
        """Open the runs that are done."""
        folder = Path(os.environ[WORK]) / "runs"
        self.runs = [run for run in runs if run_path(folder, run).is_file()]
        self.stored = {run: Arrays(run_path(folder, run)) for run in self.runs}
        self.of = cache(self._of)

    def _of(self, study: str, model: str, condition: str, share: float) -> np.ndarray | None:
        """See the class; None where a run that is needed is missing."""
        there = {run.model for run in self.runs if run.experiment == study}
        if not there & ({"S1", "S2"} if model == DECISION else {model}):
            return None
        if study == "eurosat":
            return self._tiles(model, condition, share)
        data, _, groups, folds = floods() if study == "ombria" else chips()
        counts = draw_patches(len(data), groups.tolist(), DRAWS)
        if model == DECISION:
            said = self._decided(data, folds, condition)
        else:
            said = self._over_folds(study, model, condition, folds)
        if said is None:
            return None
        if study == "ombria":
            return score_runs(said, said[0].sum(axis=2), flooded_iou, counts)
        if condition in MAPS:
            return score_runs(said, said[0].sum(axis=2), drawn_mean_iou, counts)
        return score_runs(said, data.batch[condition].numpy(), mean_absolute_error, counts)

    def _tiles(self, model: str, condition: str, share: float) -> np.ndarray | None:
        """Of EuroSAT, a score for each draw of the labels."""
        named = [run for run in self.runs if (run.experiment, run.model) == ("eurosat", model)]
        arrays = [self.stored[run][key] for run in named for key in self.stored[run].files
                  if key.startswith(f"{condition}|{share:g}|")]  # fmt: skip
        truth = np.asarray(tiles("test").table("label"))
        counts = draw_patches(len(truth), None, DRAWS)
        return score_runs(np.stack(arrays), truth, accuracy, counts) if arrays else None

    def _over_folds(self, study: str, model: str, key: str, folds: np.ndarray) -> np.ndarray | None:
        """What the runs of all folds say, put together, (S, N, ...): each of S trainings tests each sample once."""
        runs = [run for run in self.runs if (run.experiment, run.model) == (study, model)]
        if any(key not in self.stored[run].files for run in runs):
            return None
        trained = []
        for first in sorted({run.seed - run.fold for run in runs}):
            parts = {run.fold: self.stored[run][key] for run in runs if run.seed - run.fold == first}
            if len(parts) < len(FOLDS):
                continue  # a training counts once all of its folds are done
            said = np.zeros((len(folds), *parts[0].shape[1:]), parts[0].dtype)
            for fold, part in parts.items():
                said[folds == fold] = part
            trained.append(said)
        return np.stack(trained) if trained else None

    def _decided(self, data: InMemory, folds: np.ndarray, condition: str) -> np.ndarray | None:
        """Confusions of the mean of the probabilities of both sensors, or those of the one that is left.

        Both have half of the vote, unless the condition says `vote S of s1`.
        """
        share = float(condition.split()[1]) if condition.startswith("vote ") else 0.5
        shares = {key: part for key, part in (("s1", share), ("s2", 1 - share)) if condition != f"{key} missing"}
        alone = [self._over_folds("ombria", key.upper(), "probability", folds) for key in shares]
        if any(vote is None for vote in alone):
            return None
        votes = np.stack([np.asarray(vote, np.float32)[0] for vote in alone])
        mean = np.average(votes, axis=0, weights=list(shares.values()))
        return confusion_by_patch((mean > 0.5).astype(np.uint8), data.batch["flood"].numpy(), 2)[None]


METRICS = {"eurosat": "accuracy", "ombria": "iou", "land_cover": "mean_iou", "water": "mean_iou"}
METRICS |= {"elevation": "mae", "occurrence": "mae"}


def asked(runs: Sequence[Run]) -> list[tuple[str, str, str, float]]:
    """Study, model, condition (of the chips: target) and share of all scores of the table, those not run among them."""
    found: dict[tuple[str, str, str, float], None] = {}
    for run in runs:
        if run.experiment == "eurosat" and run.mode == "pretrain":
            found |= dict.fromkeys(("eurosat", run.model, "frozen", share) for share in SHARES)
        elif run.experiment == "eurosat":
            found["eurosat", run.model, run.mode, run.label_fraction] = None
        elif run.experiment == "ombria":
            conditions = ("clear", "s2 missing", "s1 missing") if len(run.inputs) > 1 else ("clear",)
            found |= dict.fromkeys(("ombria", run.model, condition, 1.0) for condition in conditions)
        else:
            found |= dict.fromkeys(("chips", run.model, target, 1.0) for target in run.targets)
    return [*found, *(("ombria", DECISION, name, 1.0) for name in ("clear", "s2 missing", "s1 missing"))]


def tabulate(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Every row of reality.csv; a score or comparison whose runs are missing has one row that says so."""
    scores, rows = Scores(runs), []
    for question in asked(runs):
        rows += _rows(question, scores.of(*question), None)
    for study, model, condition, other, other_condition, share in (*COMPARISONS, *AFTERWARDS):
        of, against = scores.of(study, model, condition, share), scores.of(study, other, other_condition, share)
        rows += _rows((study, model, condition, share), of if against is not None else None, against, other)
    for run in scores.runs:
        for key in scores.stored[run].files:
            if key.startswith("cosine|"):
                columns = {"experiment": "chips", "model": run.model, "split": "blocked", "label_fraction": 1.0}
                pair, values = key.removeprefix("cosine|"), scores.stored[run][key]
                rows.append({**dict.fromkeys(COLUMNS, ""), **columns, "dataset": "chips", "metric": "cosine",
                             "condition": pair, "seed": run.fold, "value": float(np.nanmean(values))})  # fmt: skip
    return rows


def _rows(
    question: tuple[str, str, str, float], scores: np.ndarray | None, against: np.ndarray | None, other: str = ""
) -> list[dict[str, Any]]:
    """The interval of a score or of a difference as rows, or the row that says that it was not run."""
    study, model, condition, share = question
    target = {"eurosat": "label", "ombria": "flood"}.get(study, condition)
    metric = METRICS[condition if study == "chips" else study] + (f"_minus_{other}" if other else "")
    row = {"dataset": study, "experiment": study, "model": model, "target": target, "metric": metric,
           "split": "random" if study == "eurosat" else "blocked", "label_fraction": share,
           "condition": "" if study == "chips" else condition, "seed": POOLED, "config": ""}  # fmt: skip
    if scores is None:
        return [{**row, "seed": NOT_RUN, "value": np.nan}]
    return interval_rows(row, pool(scores, against))


def keep_known(rows: Sequence[dict[str, Any]], known: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows, with what an earlier table has in place of "not run": its runs may lie on another machine.

    Args:
        rows: of `tabulate`.
        known: the earlier table; delete its file after a change of settings.
    """
    pooled, kept = known[known["seed"] == POOLED], []
    for row in rows:
        same = pd.Series(row["seed"] == NOT_RUN, index=pooled.index)
        for column in ("experiment", "model", "target", "label_fraction", "condition"):
            same &= pooled[column] == row[column]
        same &= pooled["metric"].isin([row["metric"] + end for end in ("", "_low", "_high")])
        kept += pooled[same].to_dict("records") or [row]
    return kept


# -------------------------------------------------------------------------------------------------------- command line


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get(DATA), help="folder of the real data")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "reality", help="folder of descriptions and runs")
    parser.add_argument("--only", choices=("eurosat", "ombria", "chips"), help="one study alone")
    parser.add_argument("--model", help="only runs of this model, such as SimCLR")
    parser.add_argument("--list", action="store_true", help="print the runs and what is done")
    parser.add_argument("--table", action="store_true", help="only write reality.csv from the runs that are there")
    parser.add_argument("--workers", type=int, help="runs at a time, each on one thread (default: usable cores)")
    parser.add_argument("--dataset", help="run the labs' studies on ben-ge-800 or ben-ge-8k instead")
    given = parser.parse_args(arguments)
    if given.dataset:
        for study in sorted(ROOT.glob("0*/study.py")):
            subprocess.run([sys.executable, str(study), "--dataset", given.dataset], check=True)
        return
    if given.data is None or not Path(given.data).is_dir():
        parser.error(
            f"--data {given.data}: no such folder; give the one that holds eurosat_rgb, ombria, multitask_chips"
        )
    os.environ[DATA], os.environ[WORK] = str(Path(given.data).resolve()), str(given.work.resolve())
    runs, folder = configurations(), given.work.resolve() / "runs"
    wanted = [run for run in runs if given.only in (None, run.experiment) and given.model in (None, run.model)]
    if given.list:
        for run in wanted:
            print("done" if run_path(folder, run).is_file() else "    ", run.experiment, run.model, run.mode, run.fold)
        return
    if not given.table:
        started = time.monotonic()
        for name in dict.fromkeys(run.experiment for run in wanted):
            described(name)
            load(described(name), None, progress=False)  # packs once, not in every process
        begun = [run for run in wanted if run.mode != "finetune"]
        carry_out_all(begun, carry_out, folder, given.workers)
        carry_out_all([run for run in wanted if run.mode == "finetune"], carry_out, folder, given.workers)
        print(f"{len(wanted)} runs after {(time.monotonic() - started) / 60:.1f} min")
    write_results(RESULTS, keep_known(tabulate(runs), read_results(RESULTS)))


if __name__ == "__main__":
    main()

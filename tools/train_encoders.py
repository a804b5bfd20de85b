"""Trains the networks that come with Labs 2 and 3, longer than a class can wait, and writes them with their cards.

    python -m tools.train_encoders                # all that are missing
    python -m tools.train_encoders simclr --again # one of them, from the start

Data, networks, views and tasks are those of the labs at their own knobs, and only the training side is read. There are
more epochs, and fewer channels for the map so that its file stays small. A training that was stopped goes on where it
was. Files and cards are in `02-mtl/encoders/` and `03-ssl/encoders/`.
"""

import argparse
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bengelib.bands import LAND_COVER_NAMES, S1_BANDS, S2_BANDS
from bengelib.checkpoint import read_checkpoint, save_checkpoint
from bengelib.course.shipped import fingerprint_of
from bengelib.data.loading import load
from bengelib.engine import Trainer, seed_everything
from bengelib.fusion import EarlyFusion
from bengelib.heads import Network, SegmentationHead
from bengelib.recipes.pretraining import strong_views, without_gain_offset
from bengelib.ssl import Contrast, SiameseNetwork
from bengelib.tasks import Segmentation
from bengelib.transforms import Augment
from bengelib.views import TwoViews, pair_modalities
from tools.links import ROOT

WORK = ROOT / "build" / "encoders"
VIEWS = strong_views(48)


@dataclass(frozen=True)
class Training:
    """One training: settings of the lab, with other epochs; `files` are the networks that it gives, by name."""

    lab: str
    title: str
    modalities: tuple[str, ...]
    scheme: str
    make: Callable[[float], Any]
    task: Any
    augment: Any
    files: Callable[[Any], Mapping[str, Network]]
    target: str
    epochs: int
    batch_size: int
    lr: float
    width: float = 0.5


def siamese(width: float) -> SiameseNetwork:
    """SimCLR of Lab 3: an encoder of Sentinel-2 with its projector."""
    return SiameseNetwork(EarlyFusion({"s2": S2_BANDS}, width=width))


def two_sensors(width: float) -> SiameseNetwork:
    """Contrast of sensors of Lab 3: an encoder of Sentinel-1 and one of Sentinel-2, each with its projector."""
    optical = EarlyFusion({"s2": S2_BANDS}, width=width)
    return SiameseNetwork(EarlyFusion({"s1": S1_BANDS}, width=width), encoder_2=optical)


def u_net(width: float) -> Network:
    """Land cover of Lab 2: an encoder and the way up of a U-Net."""
    encoder = EarlyFusion({"s2": S2_BANDS}, width=width)
    return Network(encoder, {"land_cover": SegmentationHead(encoder.channels, LAND_COVER_NAMES)})


TRAININGS = {
    "land_cover": Training(
        "02-mtl", "a U-Net for land cover", ("s2",), "study", u_net, Segmentation("land_cover", LAND_COVER_NAMES),
        Augment(56), lambda model: {"land_cover": model}, "land_cover",
        epochs=40, batch_size=16, lr=6e-3, width=0.375,
    ),
    "cross-modal": Training(
        "03-ssl", "contrast of Sentinel-1 and Sentinel-2", ("s1", "s2"), "blocked", two_sensors,
        Contrast("cross-modal"), pair_modalities(without_gain_offset(VIEWS)),
        lambda model: {
            "cross_modal_s1": Network(model.encoder, {"view_1": model.projector}),
            "cross_modal_s2": Network(model.encoder_2, {"view_2": model.projector_2}),
        },
        "land_cover_top", epochs=60, batch_size=64, lr=2e-3,
    ),
    "simclr": Training(
        "03-ssl", "SimCLR on Sentinel-2", ("s2",), "blocked", siamese, Contrast("simclr"), TwoViews(VIEWS),
        lambda model: {"simclr": Network(model.encoder, {})},
        "land_cover_top", epochs=60, batch_size=64, lr=2e-3,
    ),
}  # fmt: skip


def train(name: str, again: bool) -> None:
    """Carry out one training and write its files, unless they are there."""
    training = TRAININGS[name]
    folder = ROOT / training.lab / "encoders"
    seed_everything(0)
    model = training.make(training.width)
    files = {folder / f"{file}.safetensors": network for file, network in training.files(model).items()}
    if again:
        shutil.rmtree(WORK / name, ignore_errors=True)
    elif all(path.is_file() for path in files):
        print(f"{name}: there already")
        for path, network in files.items():
            write_card(name, path, network, read_checkpoint(path)[0]["config"])
        return
    data: Any = load("ben-ge-sim", "train", training.modalities, (training.target,), patches=1000,
                     scheme=training.scheme, progress=False)  # fmt: skip
    settings: Any = {"epochs": training.epochs, "batch_size": training.batch_size, "lr": training.lr, "seed": 0}
    history = Trainer(precision="no").fit(model, [training.task], data, augment=training.augment,
                                          checkpoint=WORK / name, checkpoint_every=60, **settings)  # fmt: skip
    loss = history.rows[-1]["train/loss"]
    facts = settings | {"dataset": "ben-ge-sim", "scheme": training.scheme, "samples": len(data),
                        "patches": fingerprint_of(data), "width": training.width, "loss": round(loss, 4)}  # fmt: skip
    for path, network in files.items():
        save_checkpoint(path, network, facts, half=True)
        write_card(name, path, network, facts)
        print(f"wrote {path.relative_to(ROOT)}, {path.stat().st_size / 1e6:.2f} MB")


def write_card(name: str, path: Path, network: Network, facts: Mapping[str, Any]) -> None:
    """Write the card of a file beside it."""
    path.with_suffix(".md").write_text(card(name, path, network, facts), encoding="utf-8", newline="\n")


def card(name: str, path: Path, network: Network, facts: Mapping[str, Any]) -> str:
    """What a file holds, where it comes from and how it is made again, as Markdown."""
    training = TRAININGS[name]
    weights = sum(value.numel() for value in network.state_dict().values())
    passes = f"{facts['epochs']} epochs, batches of {facts['batch_size']}, learning rate {facts['lr']:g}"
    return f"""# {path.name}

From {training.title}, trained for longer than Lab {training.lab[1]} does. The lab loads it where it fits the data.

| | |
|---|---|
| network | ResNet-18 of width {training.width}, {weights:,} numbers, float16 |
| inputs | {", ".join(network.inputs)} |
| outputs | {", ".join(network.outputs) or "features"} |
| data | `ben-ge-sim`, 1000 simulated patches, seed 0; nothing is measured |
| side | {facts["samples"]} training patches of `scheme="{facts["scheme"]}"`, and no others |
| fingerprint of their ids | `{facts["patches"]}` |
| settings | {passes}, seed {facts["seed"]}, float32 |
| loss at the end | {facts["loss"]} |
| licence | that of the course |

Made by

    python -m tools.train_encoders {name} --again

It is for the lab: a network trained on simulated images knows nothing about the Earth.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(TRAININGS)}; all if left out")
    parser.add_argument("--again", action="store_true", help="from the start, also where files are there")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(TRAININGS):
        parser.error(f"unknown names {sorted(unknown)}; choose from {list(TRAININGS)}")
    for name in options.names or TRAININGS:
        train(name, options.again)


if __name__ == "__main__":
    main()

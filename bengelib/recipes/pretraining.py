"""Pretraining: the settings, the views, the encoders and the call of `fit`, as in the command `pretrain`."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import nn
from torch.utils.data import Dataset

from bengelib.arguments import real_number, whole_number
from bengelib.data.batches import source_dataset, steps_per_epoch
from bengelib.engine import Augmentation, History, Trainer
from bengelib.errors import ArgumentError, BandError, DataWarning, MissingModalityError
from bengelib.fusion import EarlyFusion, LateFusion
from bengelib.mae import MaskedAutoencoder, Reconstruction, ViTEncoder
from bengelib.methods import MASKED, METHODS, TABLE
from bengelib.methods.byol import BYOL, byol
from bengelib.methods.convnext import SIZES, ConvNeXtEncoder
from bengelib.methods.decur import DeCUR, decur
from bengelib.methods.gassl import GASSL
from bengelib.methods.geolocation import Geolocation, lonlat_of, place_clusters, place_of
from bengelib.methods.location import LocationEncoder, PlaceImage, place_image
from bengelib.methods.moco import MoCo, moco
from bengelib.methods.moco_v3 import MoCoV3, moco_v3
from bengelib.methods.multi_pretext import PRETEXTS, MultiPretext
from bengelib.methods.pairs import Pairs, neighbours
from bengelib.methods.seco import SeCo, SeCoViews, crop_only, seco
from bengelib.modalities import MODALITIES, InputSpec, Modality, as_modalities
from bengelib.processes import count_processes
from bengelib.ssl import Contrast, SiameseNetwork
from bengelib.tasks import Task
from bengelib.views import TwoViews, Views, pair_modalities
from bengelib.weighting import EqualWeights, UncertaintyWeights

FULL_WIDTH = 64
"""Channels of the first layer of a ResNet of width 1."""
HIDDEN = 512
"""Width of projectors and predictors; papers take 2,048 to 8,192 where features are 2,048 long."""
CONTRAST_DIM = 128
"""Length of the embeddings of SimCLR and of the contrast of two sensors."""
DECORRELATED_DIM = 512
"""The same for Barlow Twins, VICReg and DeCUR: methods that decorrelate dimensions need many of them."""
REGIONS = 20
SAME_PLACE = 600.0
"""Metres between the centres of two patches of one place: half a patch of ben-ge."""
FEWEST_SQUARES = 4
"""Minimum number of squares along a side of an image that a ConvNeXt is built for; some of them are hidden."""


@dataclass(frozen=True)
class Pretraining:
    """Settings of pretraining. The defaults are for images of 64 pixels on two processor cores.

    Attributes:
        method: one of `bengelib.methods.TABLE`; `"mae"` trains a small vision transformer, `"multi-pretext"` a ConvNeXt
            V2, `"cross-modal"` and `"decur"` a ResNet for each of two modalities.
        width: channels of the first layer; 64 is the usual ResNet, 32 has a quarter of its weights and arithmetic. The
            tokens of the transformer are four times as long, and the ConvNeXt is the smallest with so many channels.
        epochs: passes over the images. Contrast gains from many more than training with labels does (Chen et al. 2020,
            arXiv:2002.05709, figure 9): on training tiles of EuroSAT kept aside, 120 in place of 40 raised a probe at
            216 labels from .773 to .806, and fine-tuning from .767 to .803 (means of three draws). 120 of 7,000 images
            at `width` 32 take a quarter of an hour on one core with AVX-512, and several times as long without.
        depth: layers of the ResNet, 18, 34 or 50; the transformer has four blocks, the ConvNeXt those of its size.
        size: pixels along a side: of the images of a folder as they are read, or of the views of ben-ge patches.
        view: pixels along a side of the views of a folder's images; None takes half of `size` (all of it for `"mae"`
            and `"multi-pretext"`, which need whole squares), and an epoch a quarter of the time. Probes then enlarge
            small images, see `bengelib.recipes.label_efficiency.enlargement`.
        batch_size: images per step and process; contrast is against all others of a step.
        micro_batch: images that go through the network at a time, for batches larger than the memory; see `Trainer`.
        sync_batchnorm: in several processes, whether BatchNorm sees the batches of all of them.
        lr: highest learning rate, after a warm-up, before a cosine decay.
        temperature: of losses that have one; None takes that of the loss.
        momentum: of the target network of BYOL and MoCo; None takes 0.99 or, in runs of fewer than a thousand steps, so
            much less that the target looks back over a tenth of them.
        queue: keys in the queue of MoCo v2, GASSL and SeCo, a multiple of `batch_size`; None takes the largest up to
            4,096 and to a quarter of the images.
        regions: of GASSL; None takes 20, or as many as there are places.
        seed: of the weights, the views and the hold-out.
        fold: which fifth of the tiles of a ben-ge tree is held out.
        precision: see `bengelib.devices.choose_precision`.
    """

    method: str = "simclr"
    width: int = 32
    epochs: int = 120
    depth: int = 18
    size: int = 64
    view: int | None = None
    batch_size: int = 256
    micro_batch: int | None = None
    sync_batchnorm: bool = False
    lr: float = 2e-3
    temperature: float | None = None
    momentum: float | None = None
    queue: int | None = None
    regions: int | None = None
    seed: int = 0
    fold: int = 0
    precision: str = "auto"

    def __post_init__(self) -> None:
        """Refuse settings before anything is read.

        Raises:
            ValueError: naming the setting, its value and what was expected.
        """
        if self.method not in METHODS:
            raise ValueError(f"unknown method {self.method!r}; choose one of {METHODS}")
        if self.depth not in (18, 34, 50):
            raise ValueError(f"there is no ResNet of {self.depth} layers; choose 18, 34 or 50")
        for name in ("width", "epochs", "size", "view", "batch_size", "micro_batch", "queue", "regions"):
            if name in ("width", "epochs", "size", "batch_size") or getattr(self, name) is not None:
                whole_number(name, getattr(self, name))
        for name in ("seed", "fold"):
            whole_number(name, getattr(self, name), 0)
        if self.batch_size == 1:
            raise ValueError("a batch of one image has nothing to be compared with; give 2 or more, better 256")
        real_number("lr", self.lr, above=0)
        if self.temperature is not None:
            real_number("temperature", self.temperature, above=0)
        if self.momentum is not None:
            real_number("momentum", self.momentum, least=0, most=1)
        if self.queue is not None and self.queue % self.batch_size:
            near = max(1, round(self.queue / self.batch_size)) * self.batch_size
            raise ArgumentError(
                f"queue={self.queue} is no multiple of the {self.batch_size} images of a step; give one, such as {near}"
            )
        for name in ("temperature", "momentum", "queue", "regions"):
            if getattr(self, name) is not None and name not in TABLE[self.method].settings:
                having = [method for method, facts in TABLE.items() if name in facts.settings]
                raise ArgumentError(f"{self.method} has no {name}; leave it out, or choose one of {having}")

    @property
    def view_size(self) -> int:
        """Pixels along a side of the views of a folder's images."""
        return self.view or (self.size if self.method in MASKED else max(1, self.size // 2))


def strong_views(size: int, inputs: InputSpec | None = None) -> Views:
    """Views for contrast: crops down to a fifth of the area, turns, each band's light and haze, blur and noise.

    Args:
        size: pixels along a side.
        inputs: modalities whose statistics give the strengths, such as `dataset.inputs`; those of ben-ge unless given.
    """
    return Views(size=size, scale=(0.2, 1.0), gain=0.3, offset=0.3, blur=1.0, noise=0.1, **_facts(inputs))


def mild_views(size: int, inputs: InputSpec | None = None) -> Views:
    """Views for training with labels, which a crop of a fifth may no longer fit; arguments as of `strong_views`."""
    return Views(size=size, scale=(0.4, 1.0), gain=0.2, offset=0.2, blur=0.5, noise=0.05, **_facts(inputs))


def _facts(inputs: InputSpec | None) -> dict[str, Any]:
    """Arguments of `Views` for the images among some modalities: their statistics, and which are radar."""
    found = MODALITIES if inputs is None else as_modalities(inputs)
    images = {key: modality for key, modality in found.items() if modality.kind == "image"}
    return {
        "moments": {key: (modality.mean, modality.std) for key, modality in images.items()},
        "decibels": tuple(key for key, modality in images.items() if set(modality.unit) == {"dB"}),
    }


def without_gain_offset(views: Views) -> Views:
    """The same views without light, gains and offsets.

    For calibrated images, in which how bright a band is tells one land cover from another: in training with labels, and
    in the contrast of two sensors, which share neither light nor haze anyway.
    """
    return replace(views, light=0.0, gain=0.0, offset=0.0)


LIGHT = 0.3
"""Strength of the changes of light that all bands share, in `in_shared_light`."""


def in_shared_light(views: Views) -> Views:
    """The same views with gains and offsets that all bands share, and hardly any of single bands.

    For contrast on images whose colours tell the classes apart: changing each band alone makes the encoder blind to
    them, and no change at all lets it tell images by their colours alone. Compared on EuroSAT in `docs/reality.md`.
    """
    return replace(views, light=LIGHT, gain=0.05, offset=0.05)


class Pretext(NamedTuple):
    """The arguments of `fit` to pretrain an encoder.

    Attributes:
        model: the network around the encoder; it is discarded afterwards.
        tasks: its tasks.
        data: its data.
        augment: makes the views of a batch.
        weighting: of the losses of several tasks; None adds them up.
    """

    model: nn.Module
    tasks: list[Task]
    data: Dataset[Any]
    augment: Augmentation
    weighting: EqualWeights | None = None


def pretext(
    encoder: nn.Module,
    data: Dataset[Any],
    views: Augmentation,
    settings: Pretraining,
    encoder_2: nn.Module | None = None,
) -> Pretext:
    """The network, tasks and views of a method; for arguments and errors see `pretrain_encoder`."""
    method, facts = settings.method, TABLE[settings.method]
    if (encoder_2 is not None) != facts.two_sensors:
        needs = "two encoders, one for each sensor; give encoder_2 as well" if encoder_2 is None else "one encoder"
        raise BandError(f"{method} trains {needs}")
    options: dict[str, Any] = {} if settings.temperature is None else {"temperature": settings.temperature}
    size, processes = len(data), count_processes()  # type: ignore[arg-type]
    steps = settings.epochs * steps_per_epoch(size, settings.batch_size, processes)
    slow: dict[str, Any] = {"hidden": HIDDEN, "momentum": settings.momentum}
    if settings.momentum is None:
        slow["momentum"] = min(0.99, max(0.0, 1 - 10 / steps))
    if "queue" in facts.settings:
        slow["queue"] = settings.queue or queue_for(size, settings.batch_size * processes)
    model: nn.Module
    match method:
        case "mae":
            if not isinstance(encoder, ViTEncoder):
                raise BandError(f"mae trains a ViTEncoder, not a {type(encoder).__name__}; see bengelib.mae")
            return Pretext(MaskedAutoencoder(encoder), [Reconstruction()], data, views)
        case "multi-pretext":
            if not isinstance(encoder, ConvNeXtEncoder):
                raise BandError(f"multi-pretext trains a ConvNeXtEncoder, not a {type(encoder).__name__}")
            hiding = MultiPretext(encoder, pretext_targets(encoder, data), per_square=encoder.read.images)
            weighting = UncertaintyWeights(hiding.targets, squared=hiding.targets)
            if isinstance(views, Views):  # noise and haze would have to be guessed
                views = replace(crop_only(views), turn=views.turn)
            return Pretext(hiding, hiding.tasks(), data, views, weighting)
        case "place-image":
            lonlat_of(data)  # says so if there are none
            place = PlaceImage(encoder, LocationEncoder(place=place_of(data)), settings.temperature or 0.07)
            return Pretext(place, [Contrast(place_image)], data, views)
        case "byol":
            model, task = BYOL(encoder, **slow), Contrast(byol)
        case "moco-v2":
            model, task = MoCo(encoder, **slow), Contrast(moco, **options)
        case "moco-v3":
            model, task = MoCoV3(encoder, **slow), Contrast(moco_v3, **options)
        case "gassl":
            lonlat = lonlat_of(data)
            places = len(np.unique(lonlat, axis=0))
            clusters = place_clusters(lonlat, settings.regions or min(REGIONS, places), settings.seed)
            model, regions = (
                GASSL(encoder, len(clusters.centres), **slow),
                Geolocation(clusters, key=place_of(data).name),
            )
            return Pretext(model, [Contrast(moco, **options), regions], data, TwoViews(views))
        case "seco":
            if not isinstance(views, Views):
                raise ArgumentError(f"seco makes views with fewer changes of a Views(...), not of {views!r}")
            augment = SeCoViews(crop_only(views), views)
            return Pretext(SeCo(encoder, **slow), [Contrast(seco, **options)], on_two_dates(data), augment)
        case "decur":
            model, task = DeCUR(encoder, DECORRELATED_DIM, HIDDEN, encoder_2), Contrast(decur)
        case "cross-modal":
            model, task = SiameseNetwork(encoder, CONTRAST_DIM, HIDDEN, encoder_2), Contrast(method, **options)
            first, second = (tuple(each.inputs) for each in (encoder, encoder_2))  # type: ignore[union-attr, arg-type]
            return Pretext(model, [task], data, pair_modalities(views, first, second))
        case "simclr":
            model, task = SiameseNetwork(encoder, CONTRAST_DIM, HIDDEN), Contrast(method, **options)
        case "barlow" | "vicreg":
            model, task = SiameseNetwork(encoder, DECORRELATED_DIM, HIDDEN), Contrast(method)
        case _:
            raise ValueError(f"the table of methods has {method!r}, but nothing here makes its network")
    return Pretext(model, [task], data, TwoViews(views))


def pretrain_encoder(
    encoder: nn.Module,
    data: Dataset[Any],
    views: Augmentation,
    settings: Pretraining,
    *,
    encoder_2: nn.Module | None = None,
    progress: bool = True,
    checkpoint: str | Path | None = None,
    checkpoint_every: float = 600.0,
    log: str | Path | None = None,
) -> History:
    """Pretrain one encoder, or two of different sensors, in place on any dataset of dicts, with `fit`.

    The network built around them is discarded; to keep it, call `pretext` and `fit`.

    Args:
        encoder: takes a dict batch, returns (B, feature_dim); a `ViTEncoder` for `"mae"`, a `ConvNeXtEncoder` for
            `"multi-pretext"`.
        data: samples that are dicts. For `"gassl"` and `"place-image"` they have longitude and latitude, see
            `place_of`, and the dataset says where they lie, see `lonlat_of`; for `"multi-pretext"`, see
            `pretext_targets`; for `"seco"` it is one of `Pairs`, or has a table `meta` by which `on_two_dates` makes
            one.
        views: changes of each view, for example `strong_views(64)`; a `Views` for `"seco"`.
        settings: see `Pretraining`.
        encoder_2: of the second sensor, for `"cross-modal"` and `"decur"`.
        progress: show bars.
        checkpoint: folder for checkpoints, from which the training goes on, see `fit`.
        checkpoint_every: seconds between two of them.
        log: folder for numbers by step, see `Trainer`.

    Returns:
        What `fit` measured, epoch by epoch.

    Raises:
        BandError: the encoder is not of the kind that the method trains, or there are more or fewer than it trains.
        MissingModalityError: the data lack what the method needs, or no place is seen on two dates.
        NonFiniteLossError: the loss became NaN or infinite.
    """
    made = pretext(encoder, data, views, settings, encoder_2)
    trainer = Trainer(
        precision=settings.precision,
        sync_batchnorm=settings.sync_batchnorm,
        micro_batch=settings.micro_batch,
        progress=progress,
        log=log,
    )
    return trainer.fit(
        made.model,
        made.tasks,
        made.data,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        lr=settings.lr,
        augment=made.augment,
        weighting=made.weighting,
        seed=settings.seed,
        checkpoint=checkpoint,
        checkpoint_every=checkpoint_every,
    )


def queue_for(size: int, batch_size: int) -> int:
    """Keys in a queue for `size` images: up to 4,096 and a quarter of the images, in whole batches, at least one."""
    return max(1, min(4096, size // 4) // batch_size) * batch_size


def pretext_targets(encoder: ConvNeXtEncoder, data: Dataset[Any]) -> dict[str, Modality | Sequence[str]]:
    """All targets of multi-pretext in a dataset, for `MultiPretext`.

    That is what its first sample has of what the encoder reads, of the other modalities of the dataset, and of what
    ben-ge knows of a patch.
    """
    known = {**getattr(source_dataset(data), "inputs", {}), **encoder.inputs}
    sample = data[0]
    order = dict.fromkeys((*(key for key in known if key in encoder.inputs), *PRETEXTS, *known))
    return {key: known.get(key, PRETEXTS.get(key, ())) for key in order if key in sample}


def on_two_dates(data: Dataset[Any]) -> Pairs:
    """Pair each sample with one of the same place on another date, or with itself where there is none.

    Raises:
        MissingModalityError: the dataset has no table of places and dates, or shows no place on two dates.
    """
    if isinstance(data, Pairs):
        return data
    meta = getattr(data, "meta", None)
    if meta is None or not {"patch_id_s1", "lon", "lat", "timestamp_s2"} <= set(meta):
        raise MissingModalityError(
            f"seco needs to know places and dates, and {type(data).__name__} has no table `meta` of them; pair the "
            "samples yourself with bengelib.methods.pairs.Pairs"
        )
    partners = neighbours(meta, "date", within=SAME_PLACE)
    found = int((partners != np.arange(len(partners))).sum())
    if not found:
        raise MissingModalityError(
            f"seco needs places seen on two dates, and none of these {len(partners)} patches is (ben-ge shows each "
            "place once); choose moco-v2, or pair patches of other dates nearby yourself: "
            'Pairs(train, neighbours(train.meta, "date"))'
        )
    if found < len(partners):
        warnings.warn(
            f"{len(partners) - found} of {len(partners)} patches show a place that no other patch shows on another "
            "date; each is paired with itself and tells nothing about seasons",
            DataWarning,
            stacklevel=4,
        )
    return Pairs(data, partners)


def side_by_side(encoders: Sequence[EarlyFusion]) -> LateFusion:
    """One encoder with copies of the ResNets of several: its features are theirs, end to end."""
    inputs = {key: bands for encoder in encoders for key, bands in encoder.inputs.items()}
    resnet = encoders[0].resnet
    joined = LateFusion(inputs, depth=resnet.depth, width=resnet.width)
    for encoder, target in zip(encoders, joined.encoders.values(), strict=True):
        target.load_state_dict(encoder.resnet.state_dict())
    return joined


def build_encoder(inputs: InputSpec, method: str = "simclr", depth: int = 18, width: int = FULL_WIDTH) -> nn.Module:
    """The encoder that a method pretrains, with random weights.

    Images are stacked as channels of one ResNet; each has one of its own where a method learns from two sensors; they
    are the channels of a vision transformer for `"mae"`, and of a ConvNeXt V2 for `"multi-pretext"`, whose squares are
    the largest of which images of this size have at least `FEWEST_SQUARES` along a side.

    Args:
        inputs: images, see `bengelib.fusion`.
        method: one of `METHODS`.
        depth: layers of the ResNet.
        width: see `Pretraining`.

    Raises:
        BandError: a modality that is not an image, or not two of them for a method of two sensors.
        ArgumentError: images that do not divide into squares, or a ConvNeXt that is wider than there are any.
    """
    modalities = as_modalities(inputs)
    if other := [key for key, modality in modalities.items() if modality.kind != "image"]:
        raise BandError(f"{other} are not images, and views are made of images alone; leave them out")
    if method == "mae":
        return ViTEncoder(modalities, dim=4 * width)
    if method == "multi-pretext":
        return ConvNeXtEncoder(modalities, _convnext_size(width), _stem(modalities))
    if TABLE[method].two_sensors:
        if len(modalities) != 2:
            raise BandError(f"{method} learns from two modalities, such as s2 and s1; got {tuple(modalities)}")
        return LateFusion(modalities, depth=depth, width=width / FULL_WIDTH)
    return EarlyFusion(modalities, depth=depth, width=width / FULL_WIDTH)


def _convnext_size(width: int) -> str:
    """The smallest ConvNeXt with at least a number of channels in its first stage."""
    if width > max(size.dim for size in SIZES.values()):
        known = {name: size.dim for name, size in SIZES.items()}
        raise ArgumentError(f"no ConvNeXt V2 begins with {width} channels; there are {known}: choose a smaller width")
    return next(name for name, size in SIZES.items() if size.dim >= width)


def _stem(modalities: Mapping[str, Modality]) -> int:
    """Pixels of a ConvNeXt's stem that suit images of some modalities; their squares have 8 times as many."""
    sizes = {modality.size for modality in modalities.values() if modality.size}
    if any(size % 8 for size in sizes):
        raise ArgumentError(
            f"images of {sorted(sizes)} pixels along a side do not divide into squares of 8, which multi-pretext "
            "needs; bring them to a multiple of 8, or choose another method"
        )
    fit = [stem for stem in (3, 2) if all(size % (8 * stem) == 0 for size in sizes)]
    return next((stem for stem in fit if sizes and min(sizes) >= FEWEST_SQUARES * 8 * stem), 1)

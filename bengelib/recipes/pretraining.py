"""How to pretrain: the settings, the views, the encoders and the call of `fit` that the command `pretrain` makes."""

from dataclasses import dataclass, replace
from typing import Any

from torch import nn
from torch.utils.data import Dataset

from bengelib.arguments import real_number, whole_number
from bengelib.engine import Augmentation, History, Trainer
from bengelib.errors import BandError
from bengelib.fusion import EarlyFusion, LateFusion
from bengelib.mae import MaskedAutoencoder, Reconstruction, ViTEncoder
from bengelib.methods import METHODS
from bengelib.modalities import MODALITIES, InputSpec, as_modalities
from bengelib.resnet import ResNetEncoder
from bengelib.ssl import Contrast, SiameseNetwork
from bengelib.tasks import Task
from bengelib.views import TwoViews, Views, pair_modalities

FULL_WIDTH = 64
"""Channels of the first layer of a ResNet of width 1."""


@dataclass(frozen=True)
class Pretraining:
    """How to pretrain. The defaults are for images of 64 pixels on two processor cores.

    Attributes:
        method: `"simclr"`, `"barlow"`, `"vicreg"`, `"mae"`, which trains a small vision transformer, or
            `"cross-modal"`, which contrasts two modalities of ben-ge and trains a ResNet for each.
        width: channels of the first layer; 64 is the usual ResNet, 32 has a quarter of its weights and arithmetic. The
            tokens of the transformer are four times as long.
        epochs: passes over the images.
        depth: layers of the ResNet, 18, 34 or 50; the transformer has four blocks.
        size: pixels along a side: of the images of a folder as they are read, or of the views of ben-ge patches.
        view: pixels along a side of the views of a folder's images; None takes three quarters of `size` (for `"mae"`,
            whose squares have 8 pixels, all of it). A crop shows things larger than the whole image does, from which
            features are taken later, and fewer pixels undo that (Touvron et al. 2019, arXiv:1906.06423); an epoch
            takes little more than half the time.
        batch_size: images a step; contrast is against all others of a batch.
        lr: highest learning rate, after a warm-up, before a cosine decay.
        temperature: of SimCLR and of the contrast of two modalities.
        seed: of the weights, the views and the hold-out.
        fold: which fifth of the tiles of a ben-ge tree is held out.
        precision: see `bengelib.devices.choose_precision`.
    """

    method: str = "simclr"
    width: int = 32
    epochs: int = 15
    depth: int = 18
    size: int = 64
    view: int | None = None
    batch_size: int = 256
    lr: float = 2e-3
    temperature: float = 0.2
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
        for name in ("width", "epochs", "size", "view", "batch_size"):
            if name != "view" or self.view is not None:
                whole_number(name, getattr(self, name))
        for name in ("seed", "fold"):
            whole_number(name, getattr(self, name), 0)
        if self.batch_size == 1:
            raise ValueError("a batch of one image has nothing to be compared with; give 2 or more, better 256")
        for name in ("lr", "temperature"):
            real_number(name, getattr(self, name), above=0)

    @property
    def view_size(self) -> int:
        """Pixels along a side of the views of a folder's images."""
        return self.view or (self.size if self.method == "mae" else max(1, round(0.75 * self.size)))


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
    """What `Views` must know of the images among some modalities: their statistics, and which are radar."""
    found = MODALITIES if inputs is None else as_modalities(inputs)
    images = {key: modality for key, modality in found.items() if modality.kind == "image"}
    return {
        "moments": {key: (modality.mean, modality.std) for key, modality in images.items()},
        "decibels": tuple(key for key, modality in images.items() if set(modality.unit) == {"dB"}),
    }


def as_measured(views: Views) -> Views:
    """The same views without gains and offsets.

    For calibrated images, in which how bright a band is tells one land cover from another: in training with labels, and
    in the contrast of two sensors, which share neither light nor haze anyway.
    """
    return replace(views, gain=0.0, offset=0.0)


def pretrain_encoder(
    encoder: nn.Module, data: Dataset[Any], views: Augmentation, settings: Pretraining, *, progress: bool = True
) -> History:
    """Pretrain an encoder in place on any dataset of dicts, with `fit`; the projector is thrown away.

    Args:
        encoder: takes a dict batch, returns (B, feature_dim); a `ViTEncoder` for `"mae"`, a `LateFusion` of two images
            for `"cross-modal"`.
        data: samples that are dicts.
        views: changes of each view, for example `strong_views(64)`.
        settings: see `Pretraining`.
        progress: show bars.

    Returns:
        What `fit` measured, epoch by epoch.

    Raises:
        BandError: the encoder is not of the kind that the method trains.
        NonFiniteLossError: the loss became NaN or infinite.
    """
    model: nn.Module
    task: Task
    augment: Augmentation
    options: dict[str, Any] = {"temperature": settings.temperature}
    if settings.method == "mae":
        if not isinstance(encoder, ViTEncoder):
            raise BandError(f"mae trains a ViTEncoder, not a {type(encoder).__name__}; see bengelib.mae")
        model, task, augment = MaskedAutoencoder(encoder), Reconstruction(), views
    elif settings.method == "cross-modal":
        if not isinstance(encoder, LateFusion) or len(encoder.images) != 2 or len(encoder.inputs) != 2:
            raise BandError(
                f"cross-modal trains a LateFusion of two images, such as s2 and s1; this is a {type(encoder).__name__} "
                f"of {list(getattr(encoder, 'inputs', {}))}"
            )
        first, second = encoder.images
        parts = [_alone(encoder, key) for key in (first, second)]
        model, task = SiameseNetwork(parts[0], 128, hidden=512, encoder_2=parts[1]), Contrast("cross-modal", **options)
        augment = pair_modalities(views, (first,), (second,))
    else:
        options = options if settings.method == "simclr" else {}
        task = Contrast(settings.method, **options)
        length = 128 if settings.method == "simclr" else 512  # methods that decorrelate dimensions need many of them
        model, augment = SiameseNetwork(encoder, length, hidden=512), TwoViews(views)
    return Trainer(precision=settings.precision, progress=progress).fit(
        model,
        [task],
        data,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        lr=settings.lr,
        augment=augment,
        seed=settings.seed,
    )


def _alone(joined: LateFusion, key: str) -> EarlyFusion:
    """The part of `joined` that reads one image, with the same weights: training it trains `joined`."""
    resnet: ResNetEncoder = joined.encoders[key]  # type: ignore[assignment]
    part = EarlyFusion({key: joined.inputs[key]}, depth=resnet.depth, width=resnet.width)
    part.resnet = resnet
    return part


def build_encoder(inputs: InputSpec, method: str = "simclr", depth: int = 18, width: int = FULL_WIDTH) -> nn.Module:
    """The encoder that a method pretrains, with random weights.

    Images are stacked as channels of one ResNet; each has one of its own for `"cross-modal"`; they are the channels of
    a vision transformer for `"mae"`.

    Args:
        inputs: images, see `bengelib.fusion`.
        method: one of `METHODS`.
        depth: layers of the ResNet.
        width: see `Pretraining`.

    Raises:
        BandError: a modality that is no image, or not two of them for `"cross-modal"`.
    """
    modalities = as_modalities(inputs)
    if other := [key for key, modality in modalities.items() if modality.kind != "image"]:
        raise BandError(f"{other} are no images, and views are made of images alone; leave them out")
    if method == "mae":
        return ViTEncoder(modalities, dim=4 * width)
    if method == "cross-modal":
        if len(modalities) != 2:
            raise BandError(f"cross-modal contrasts two modalities, such as s2 and s1; got {tuple(modalities)}")
        return LateFusion(modalities, depth=depth, width=width / FULL_WIDTH)
    return EarlyFusion(modalities, depth=depth, width=width / FULL_WIDTH)

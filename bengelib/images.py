"""Your own images: a folder of class folders as a dataset of dicts, a hold-out by file, and an encoder for them.

The layout is the one that EuroSAT and many others ship in: `<folder>/<class>/<anything>.jpg` (or `.jpeg`, `.png`).
"""

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor, nn
from torch.utils.data import Dataset
from tqdm import tqdm

from bengelib.errors import BandError, DatasetNotFoundError, MissingModalityError, RasterError, SplitError
from bengelib.resnet import ResNetEncoder
from bengelib.splits import unit_hash
from bengelib.transforms import Batch

SUFFIXES = (".jpg", ".jpeg", ".png")
CHANNELS = ("R", "G", "B")
_SIXTEEN_BITS_AND_MORE = ("I", "F")
"""First letters of Pillow's modes whose numbers would have to be cut down to eight bits."""


def list_images(root: str | Path) -> list[str]:
    """Names of all images, relative to `root` with forward slashes, in alphabetical order; none is opened.

    Args:
        root: a folder whose folders are the classes; hidden files and files of other kinds are passed over.

    Raises:
        DatasetNotFoundError: no such folder, or fewer than two class folders with images in it.
    """
    root = Path(root)
    if not root.is_dir():
        raise DatasetNotFoundError(f"no folder {root}; give the folder that holds one folder a class")
    names = sorted(
        path.relative_to(root).as_posix()
        for folder in root.iterdir()
        if folder.is_dir() and not folder.name.startswith(".")
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    )
    classes = sorted({class_of(name) for name in names})
    if len(classes) < 2:
        deeper = [path.parent.parent for suffix in SUFFIXES for path in root.glob(f"*/*/*{suffix}")]
        hint = f" Perhaps you mean {deeper[0]}?" if deeper else ""
        raise DatasetNotFoundError(
            f"{root} has {len(classes)} class folders with images ({', '.join(SUFFIXES)}) in them: {classes}; expected "
            f"two or more, as in {root.name}/Forest/Forest_1.jpg.{hint}"
        )
    return names


def class_of(name: str) -> str:
    """The class of a file name that `list_images` gave: its folder."""
    return name.partition("/")[0]


def hold_out(names: Sequence[str], share: float = 0.2, seed: int = 0) -> tuple[list[str], list[str]]:
    """Part files into those to learn from and those to test with: `share` of every class is for the test.

    Which ones depends on the names and the seed alone, not on their order or on the machine.

    Returns:
        The names to learn from and the names held out, each in the given order.

    Raises:
        SplitError: a class has too few files to give one to either side.
        ValueError: `share` is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise ValueError(f"the share to hold out is between 0 and 1, not {share}")
    by_class: dict[str, list[str]] = {}
    for name in names:
        by_class.setdefault(class_of(name), []).append(name)
    held: set[str] = set()
    for label, files in by_class.items():
        count = max(1, round(share * len(files)))
        if count >= len(files):
            raise SplitError(
                f"class {label!r} has {len(files)} images, of which {count} would be held out for the test and none "
                "would be left; add images or leave the class out"
            )
        held |= set(sorted(files, key=lambda name: unit_hash(f"{seed}/{name}"))[:count])
    return [name for name in names if name not in held], [name for name in names if name in held]


class ImageFolder(Dataset[dict[str, Any]]):
    """Images in class folders, read once and kept in memory as bytes: `image` (3, H, W) float32 in [0, 1], `label`.

    27,000 images of 64 x 64 pixels take 330 MB and some seconds to read.

    * Another size than `size` x `size` pixels is resized bilinearly (its sides are not kept in proportion), with a
      warning that counts them.
    * Grey images get three equal channels, with a warning that counts them; palettes and CMYK become RGB; transparency
      is dropped. More than eight bits a channel is an error, since cutting them down needs a decision of yours.
    * A file that cannot be read is an error that names it; with `on_error="skip"` it is left out, with a warning, and
      stands in `skipped` with the reason.

    Attributes:
        classes: names of the classes, in the order of their labels.
        names: file names relative to `root`; in a sample they are `patch_id`.
        labels: (N,) int64.
        skipped: files that were left out, with the reason.
    """

    def __init__(
        self,
        root: str | Path,
        names: Sequence[str] | None = None,
        *,
        size: int = 64,
        classes: Sequence[str] | None = None,
        on_error: str = "raise",
        progress: bool = True,
    ) -> None:
        """Read the images.

        Args:
            root: the folder of class folders.
            names: which files, as `list_images` names them; all of them if None. Only these are opened.
            size: height and width of every image, in pixels.
            classes: class names in the order of their labels; the folders in alphabetical order if None.
            on_error: `"raise"` or `"skip"`.
            progress: show a bar.

        Raises:
            DatasetNotFoundError: no such folder, or no classes in it.
            RasterError: an image is missing, broken or of more than eight bits (with `on_error="raise"`), or none is
                left.
            BandError: a file of a class that `classes` does not name.
            ValueError: an unknown `on_error`, or a size below 1.
        """
        if on_error not in ("raise", "skip"):
            raise ValueError(f"unknown on_error={on_error!r}; choose 'raise' or 'skip'")
        if size < 1:
            raise ValueError(f"size is a number of pixels, not {size}")
        self.root = Path(root)
        names = list_images(root) if names is None else list(names)
        self.classes = tuple(classes) if classes is not None else tuple(sorted({class_of(name) for name in names}))
        if unknown := sorted({class_of(name) for name in names} - set(self.classes)):
            raise BandError(f"{root} has the classes {unknown}, but only {self.classes} are known")
        self.skipped: dict[str, str] = {}
        pixels = np.empty((len(names), 3, size, size), np.uint8)
        self.names: list[str] = []
        grey: list[str] = []
        resized: list[str] = []
        for name in tqdm(names, desc="reading images", disable=not progress, leave=False):
            try:
                image, was_grey = _read(self.root / name)
            except RasterError as error:
                if on_error == "raise":
                    raise
                self.skipped[name] = str(error)
                continue
            if was_grey:
                grey.append(name)
            if image.size != (size, size):
                resized.append(name)
                image = image.resize((size, size), Image.Resampling.BILINEAR)
            pixels[len(self.names)] = np.asarray(image).transpose(2, 0, 1)
            self.names.append(name)
        self._pixels = torch.from_numpy(pixels[: len(self.names)])
        places = {label: place for place, label in enumerate(self.classes)}
        self.labels = np.array([places[class_of(name)] for name in self.names], dtype=np.int64)
        self._notify(len(names), grey, resized, size)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.names)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One sample: `image` (3, H, W) float32 in [0, 1], `label` () int64, `patch_id` its file name."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        return {key: value[0] for key, value in self.read_batch([index]).items()}

    def read_batch(self, indices: Sequence[int] | np.ndarray) -> dict[str, Any]:
        """Several samples, stacked; `fit` reads whole batches this way."""
        places = torch.as_tensor(np.asarray(indices, dtype=np.int64))
        return {
            "image": self._pixels[places].to(torch.float32).div_(255),  # (B, 3, H, W)
            "label": torch.from_numpy(self.labels)[places],  # (B,)
            "patch_id": [self.names[place] for place in places.tolist()],
        }

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each channel over all pixels of all images, each (3,) float32."""
        counts = torch.stack(
            [torch.bincount(self._pixels[:, channel].flatten(), minlength=256) for channel in range(3)]
        ).double()  # (3, 256): how often each value occurs, which makes the sums exact
        values = torch.arange(256, dtype=torch.float64) / 255
        shares = counts / counts.sum(dim=1, keepdim=True)
        mean = shares @ values
        variance = (shares * (values[None, :] - mean[:, None]) ** 2).sum(dim=1)
        return mean.float(), variance.sqrt().float()

    def _notify(self, count: int, grey: Sequence[str], resized: Sequence[str], size: int) -> None:
        """Say what was changed or left out; nothing is dropped in silence."""
        if self.skipped:
            first, reason = next(iter(self.skipped.items()))
            what = f"{len(self.skipped)} of {count} images cannot be used, the first being {first} ({reason})"
            if not self.names:
                raise RasterError(f"{what}. None is left.")
            warnings.warn(f"{what}. They are left out; see the attribute `skipped`.", stacklevel=3)
        if grey:
            what = f"{len(grey)} of {count} images are grey, the first being {grey[0]}; their three channels are equal"
            warnings.warn(what, stacklevel=3)
        if resized:
            what = f"{len(resized)} of {count} images are not {size} x {size} pixels, the first being {resized[0]}"
            warnings.warn(f"{what}; they are resized", stacklevel=3)


def _read(path: Path) -> tuple[Image.Image, bool]:
    """An image in RGB with eight bits a channel, and whether it was grey.

    Raises:
        RasterError: it is missing, broken, or has more than eight bits a channel.
    """
    advice = 'Repair or remove it, or give on_error="skip" to go on without it.'
    try:
        with Image.open(path) as image:
            image.load()
            mode = image.mode
            converted = image.convert("RGB") if mode != "RGB" else image.copy()
    except FileNotFoundError as error:
        raise RasterError(f"there is no image {path}") from error
    except UnidentifiedImageError as error:
        raise RasterError(f"{path} is no image that can be read. {advice}") from error
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise RasterError(f"{path} is broken ({error}). {advice}") from error
    if mode[0] in _SIXTEEN_BITS_AND_MORE:
        raise RasterError(
            f"{path} has more than eight bits a channel (Pillow's mode {mode}), and images are read with eight. Save "
            "it as an RGB image whose contrast you have chosen."
        )
    return converted, mode in ("L", "LA", "1")


class ChannelNormalize(nn.Module):
    """Subtracts a mean and divides by a standard deviation, channel by channel; both travel with the weights."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Iterable[float], std: Iterable[float]) -> None:
        """Keep the statistics, each (C,); a channel that never varies is divided by 1.

        Raises:
            BandError: not as many means as deviations.
        """
        super().__init__()
        self.register_buffer("mean", torch.tensor([float(value) for value in mean], dtype=torch.float32))
        self.register_buffer("std", torch.tensor([float(value) for value in std], dtype=torch.float32))
        if len(self.mean) != len(self.std):
            raise BandError(f"{len(self.mean)} means for {len(self.std)} standard deviations")

    def forward(self, image: Tensor) -> Tensor:
        """Normalise (B, C, H, W).

        Raises:
            BandError: another number of channels.
        """
        if image.shape[1] != len(self.mean):
            raise BandError(f"the images have {image.shape[1]} channels, the encoder reads {len(self.mean)}")
        spread = torch.where(self.std > 0, self.std, torch.ones_like(self.std))
        normalized: Tensor = (image - self.mean.view(-1, 1, 1)) / spread.view(-1, 1, 1)
        return normalized


class ImageEncoder(nn.Module):
    """A ResNet that reads `image` (B, 3, H, W) in [0, 1] from a batch.

    Attributes:
        inputs: `{"image": channels}`.
        feature_dim: length of the features.
    """

    def __init__(
        self,
        mean: Iterable[float] = (0.5, 0.5, 0.5),
        std: Iterable[float] = (0.25, 0.25, 0.25),
        depth: int = 18,
        width: float = 1.0,
        channels: Sequence[str] = CHANNELS,
    ) -> None:
        """Build it with random weights; `mean` and `std` are of the training images, see `ImageFolder.statistics`.

        Raises:
            BandError: not one mean and one deviation a channel.
        """
        super().__init__()
        self.inputs = {"image": tuple(channels)}
        self.normalize = ChannelNormalize(mean, std)
        if len(self.normalize.mean) != len(channels):
            raise BandError(f"{len(self.normalize.mean)} means for the channels {tuple(channels)}")
        self.resnet = ResNetEncoder(len(channels), depth, width)
        self.feature_dim = self.resnet.feature_dim

    def forward(self, batch: Batch) -> Tensor:
        """Features (B, feature_dim).

        Raises:
            MissingModalityError: the batch has no `image`.
            BandError: its images have another number of channels.
        """
        if "image" not in batch:
            raise MissingModalityError(f"the encoder reads 'image', but the batch has only {sorted(batch)}")
        features: Tensor = self.resnet(self.normalize(batch["image"]))
        return features

"""Your own images: a folder of class folders as a dataset of dicts.

`image_listing` lists and splits files, `image_files` reads one; everything needed can be imported from here.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from bengelib.arguments import as_index, as_indices, as_names, whole_number
from bengelib.data.account import Account
from bengelib.data.image_files import HARMLESS, read_image, same_pictures, whole_images_only
from bengelib.data.image_listing import SUFFIXES as SUFFIXES
from bengelib.data.image_listing import class_of as class_of
from bengelib.data.image_listing import find_images
from bengelib.data.image_listing import hold_out as hold_out
from bengelib.data.image_listing import list_images as list_images
from bengelib.errors import BandError, RasterError
from bengelib.modalities import Modality

CHANNELS = ("R", "G", "B")


def image_modality(
    mean: Sequence[float] = (0.5, 0.5, 0.5),
    std: Sequence[float] = (0.25, 0.25, 0.25),
    channels: Sequence[str] = CHANNELS,
) -> Modality:
    """`image` (B, channels, H, W) in [0, 1]; see `ImageFolder.inputs` for one with the statistics of its images.

    Raises:
        BandError: not one finite mean and one positive deviation per channel.
    """
    return Modality("image", "image", tuple(channels), tuple(mean), tuple(std), ("1",) * len(channels))


class ImageFolder(Dataset[dict[str, Any]]):
    """Images in class folders, read once and kept in memory as bytes: `image` (3, H, W) float32 in [0, 1], `label`.

    27,000 images of 64 x 64 pixels take 330 MB and some seconds to read.

    * Images of other sizes are resized bilinearly to `size` x `size` pixels (without keeping their proportions).
    * Images are rotated by their EXIF orientation, as in viewers. Grey ones get three equal channels; palettes and
      CMYK become RGB; transparency is dropped; of several frames the first is read. More than eight bits per channel
      are an error, since reducing them requires a decision of yours.
    * A file that cannot be read is an error that names it; with `on_error="skip"` it is left out and listed in
      `skipped` with the reason.
    * `account` counts all of this, and a warning shows it if an image was left out or lost information.

    Attributes:
        classes: names of the classes, in the order of their labels.
        names: file names relative to `root`; in a sample they are `patch_id`.
        labels: (N,) int64.
        contents: (N,) int64, equal for copies: files with the same pixels.
        skipped: files that were left out, with the reason.
        account: numbers of used and left-out files, and their peculiarities.
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
            names: files to read, as in `list_images`; all of them if None.
            size: height and width of every image, in pixels.
            classes: class names in the order of their labels; the folders in alphabetical order if None.
            on_error: `"raise"` or `"skip"`.
            progress: show a bar.

        Raises:
            DatasetNotFoundError: no such folder, no classes in it, or a class folder without any readable kind of file.
            RasterError: an image is missing, damaged, too large or of more than eight bits (with `on_error="raise"`),
                or none is left.
            BandError: a file of a class that `classes` does not name.
            ValueError: an unknown `on_error`, a size that is not a whole number of pixels, or a single name.
        """
        if on_error not in ("raise", "skip"):
            raise ValueError(f"unknown on_error={on_error!r}; choose 'raise' or 'skip'")
        size = whole_number("size", size)
        self.root = Path(root)
        if names is None:
            names = found = find_images(root)
            self.account = found.account
        else:
            self.account = Account("images", root)
            names = list(as_names("names", names))
        there = sorted({class_of(name) for name in names})
        given = there if classes is None else as_names("classes", classes)
        self.classes = tuple(normalize("NFC", label) for label in given)
        if unknown := sorted(set(there) - set(self.classes)):
            raise BandError(f"{root} has the classes {unknown}, but only {self.classes} are known")
        self.skipped: dict[str, str] = {}
        pixels = np.empty((len(names), 3, size, size), np.uint8)
        self.names: list[str] = []
        contents: list[tuple[str, ...]] = []
        with whole_images_only():
            for name in tqdm(names, desc="reading images", disable=not progress, leave=False):
                try:
                    image, odd, content = read_image(self.root / name)
                except RasterError as error:
                    if on_error == "raise":
                        raise
                    self.skipped[name] = str(error)
                    self.account.leave_out("cannot be used", name, str(error))
                    continue
                for reason in odd:
                    self.account.note(reason, name, harmless=reason in HARMLESS)
                if image.size != (size, size):
                    self.account.note(f"are not {size} x {size} pixels; resized", name)
                    image = image.resize((size, size), Image.Resampling.BILINEAR)
                pixels[len(self.names)] = np.asarray(image).transpose(2, 0, 1)
                self.names.append(name)
                contents.append(content)
        self.contents = np.array(same_pictures(contents))
        self._pixels = torch.from_numpy(pixels[: len(self.names)])
        index_of = {label: place for place, label in enumerate(self.classes)}
        self.labels = np.array([index_of[class_of(name)] for name in self.names], dtype=np.int64)
        self.account.used = len(self.names)
        if self.skipped and not self.names:
            first, reason = next(iter(self.skipped.items()))
            raise RasterError(f"no image of {root} can be used, the first being {first} ({reason}). None is left.")
        self.account.tell(progress=progress, stacklevel=2)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.names)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One sample: `image` (3, H, W) float32 in [0, 1], `label` () int64, `patch_id` its file name."""
        return {key: value[0] for key, value in self.read_batch([as_index(index, len(self))]).items()}

    def read_batch(self, indices: Sequence[int] | np.ndarray) -> dict[str, Any]:
        """Several samples, stacked; `fit` reads whole batches this way."""
        places = torch.from_numpy(as_indices(indices, len(self)))
        return {
            "image": self._pixels[places].to(torch.float32).div_(255),  # (B, 3, H, W)
            "label": torch.from_numpy(self.labels)[places],  # (B,)
            "patch_id": [self.names[place] for place in places.tolist()],
        }

    @property
    def inputs(self) -> dict[str, Modality]:
        """The modality `image` with its statistics over these images, for encoders: `EarlyFusion(dataset.inputs)`.

        A constant channel has a standard deviation of 1.
        """
        mean, std = (moment.tolist() for moment in self.statistics())
        known = image_modality(mean, [deviation or 1.0 for deviation in std])
        return {"image": replace(known, size=self._pixels.shape[-1])}

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each channel over all pixels of all images, each (3,) float32."""
        counts = torch.stack(
            [torch.bincount(self._pixels[:, channel].flatten(), minlength=256) for channel in range(3)]
        ).double()  # (3, 256): counts of each value, which make the sums exact
        values = torch.arange(256, dtype=torch.float64) / 255
        shares = counts / counts.sum(dim=1, keepdim=True)
        mean = shares @ values
        variance = (shares * (values[None, :] - mean[:, None]) ** 2).sum(dim=1)
        return mean.float(), variance.sqrt().float()

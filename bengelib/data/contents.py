"""Contents of a dataset, of ben-ge or with a `dataset.toml`, that are known before it is opened. Needs no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bengelib.data.description import is_described, read_description
from bengelib.data.rasters import RASTER_KEYS, tree_folders
from bengelib.modalities import TARGETS, Target, is_place


@dataclass(frozen=True)
class Contents:
    """The parts of a dataset by their use.

    Attributes:
        inputs: default inputs of a network: all but longitude and latitude, from which a network memorises the map of
            the training data, unless there is nothing else; of ben-ge `s2` and `s1`.
        images: those of them of which views are made.
        others: further keys that a method may learn from, places among them.
        places: keys of longitude and latitude.
        targets: the targets by key.
        scheme: the split under which test samples have no neighbours in the training, as far as these are known.
    """

    inputs: tuple[str, ...]
    images: tuple[str, ...]
    others: tuple[str, ...]
    places: tuple[str, ...]
    targets: Mapping[str, Target]
    scheme: str


def read_contents(root: Path) -> Contents:
    """The contents of a dataset.

    Args:
        root: a folder of ben-ge or its pack, or one with a `dataset.toml`.

    Raises:
        DescriptionError: the `dataset.toml` is malformed.
    """
    if not is_described(root):
        images, rasters = ("s2", "s1"), tree_folders(root) or RASTER_KEYS
        others = (*(key for key in RASTER_KEYS if key in rasters), "climate_zone", "weather", "season", "lonlat")
        return Contents(images, images, others, ("lonlat",), TARGETS, "blocked")
    known = read_description(root)
    places = tuple(key for key, source in known.modalities.items() if is_place(source.bands))
    return Contents(
        tuple(key for key in known.modalities if key not in places) or tuple(known.modalities),
        tuple(key for key, source in known.modalities.items() if source.kind in ("image", "map")),
        tuple(known.modalities),
        places,
        {key: source.target for key, source in known.targets.items()},
        known.scheme,
    )

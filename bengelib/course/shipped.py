"""Networks that come with a lab, because their training takes longer than a class has."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import bengelib
from bengelib.checkpoint import load_checkpoint, read_checkpoint
from bengelib.heads import Network


class Identified(Protocol):
    """A dataset whose samples have ids."""

    @property
    def patch_ids(self) -> Sequence[str]:
        """The id of each sample."""


def fingerprint_of(train: Identified) -> str:
    """Twelve hexadecimal digits that change when any patch of a training side does, or their order."""
    return hashlib.blake2b("\n".join(train.patch_ids).encode(), digest_size=6).hexdigest()


def load_shipped(lab: str, train: Identified, **networks: Network) -> dict[str, Any] | None:
    """Load networks that were trained for longer, in place, if they come with the lab and fit its data.

    They fit if they were trained on exactly the patches of `train`. With other data they are left as they are, for they
    may have been trained on patches that are test patches now.

    Args:
        lab: its folder, such as `"03-ssl"`.
        train: the training side.
        **networks: networks to load, by the names of their files without the suffix.

    Returns:
        The settings of their training, None if a file is missing or was trained on other patches.

    Raises:
        CheckpointError: a file is damaged, or holds another network.
    """
    clone = Path(bengelib.__file__).parents[1] / lab
    folder = next((place for place in (clone, Path()) if (place / "encoders").is_dir()), clone) / "encoders"
    files = {folder / f"{name}.safetensors": network for name, network in networks.items()}
    if not all(path.is_file() for path in files):
        return None
    if any(read_checkpoint(path)[0]["config"].get("patches") != fingerprint_of(train) for path in files):
        return None
    return [load_checkpoint(path, network) for path, network in files.items()][-1]

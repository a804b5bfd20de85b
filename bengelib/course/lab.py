"""Settings of every lab: the amount of data, the number of runs, the note of its figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from bengelib.data.loading import SIMULATED, is_simulated


class LabSettings(NamedTuple):
    """Settings that follow from the knobs of all labs.

    `patches` is the number of patches to simulate, None for real data; `seeds` has one number per training run; `note`
    states the source of the data in figures, and `simulated` whether they are simulated.
    """

    patches: int | None
    seeds: tuple[int, ...]
    note: str
    simulated: bool


def lab_settings(
    dataset: str, full: bool, patches: int | None = None, seeds: Sequence[int] | None = None
) -> LabSettings:
    """The settings for the knobs `DATASET`, `FULL`, `PATCHES` and `SEEDS`; tables are shown with their cells whole.

    Args:
        dataset: a name or a path, as for `load`.
        full: whether to use more patches and runs by default.
        patches: number to simulate; by default 1000, with `full` 4000.
        seeds: by default three, with `full` five.
    """
    pd.set_option("display.max_colwidth", None)
    name, simulated = Path(dataset).name, is_simulated(dataset)  # by the data, not their name
    patches = (patches or (4000 if full else 1000)) if dataset == SIMULATED else None
    note = f"simulated data ({name}), not measurements" if simulated else name
    return LabSettings(patches, tuple(seeds or range(5 if full else 3)), note, simulated)


def describe_sample(sample: Mapping[str, Any], keys: Sequence[str]) -> pd.DataFrame:
    """Shape and type of some named tensors of a sample."""
    rows = [(key, tuple(sample[key].shape), str(sample[key].dtype)) for key in keys]
    return pd.DataFrame(rows, columns=["key", "shape", "type"])

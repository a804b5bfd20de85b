"""`load`: a dataset by name, made ready if it is not (simulated or fetched, checked, packed), in one call."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bengelib.errors import DatasetNotFoundError
from bengelib.packed import PackedBENGE
from bengelib.packing import pack
from bengelib.tables import read_meta

SIMULATED = "ben-ge-sim"
"""Simulated data: `ben-ge-sim`, or `ben-ge-sim-4000` for another number of patches than the default."""

DEFAULT_PATCHES = 1000


def load(
    name: str | Path,
    split: str | None = None,
    modalities: Sequence[str] = ("s2", "s1"),
    targets: Sequence[str] = ("climate_zone",),
    *,
    patches: int | None = None,
    progress: bool = True,
    **options: Any,
) -> PackedBENGE:
    """Make a dataset ready and open it: `load("ben-ge-sim", "train")` is all that a lab needs.

    Simulated data are written, real ones downloaded and checked, and either packed, each only where that is not done
    yet and each with a progress bar.

    Args:
        name: `"ben-ge-sim"` (simulated, no download), `"ben-ge-800"`, `"ben-ge-8k"`, the name of another dataset that
            lies in one of the folders of `data_folders`, or the path of a ben-ge tree.
        split: `"train"`, `"val"`, `"test"`, or None for all patches.
        modalities: keys to use as inputs, see `BENGE`.
        targets: keys to predict, see `BENGE`.
        patches: how many patches to simulate, 1000 unless said otherwise; only for simulated data.
        progress: whether to show progress bars.
        **options: the other arguments of `PackedBENGE`, such as `s2_bands`, `scheme` and `fold`.

    Raises:
        DatasetNotFoundError: the name is unknown and no folder of that name is found.
        ValueError: `patches` with data that are not simulated.
        DownloadError: the data could not be fetched; the message says how to do it by hand.
        BengeError: whatever `pack` and `PackedBENGE` find wrong.
    """
    root = prepare(name, patches=patches, progress=progress)
    if (root / "manifest.json").is_file():  # a pack that was copied without its tree
        return PackedBENGE(root, split, modalities, targets, **options)
    folder = pack(
        root, _pack_folder(root), progress=progress, on_error=options.get("on_error", "raise"), thorough=False
    )
    return PackedBENGE(root if folder.parent == root else folder, split, modalities, targets, **options)


def prepare(name: str | Path, *, patches: int | None = None, progress: bool = True) -> Path:
    """The folder of a dataset, simulated or fetched first if it is not there; arguments and errors as for `load`."""
    from bengelib.download import NAMES, fetch  # these two are costly to import, and seldom needed

    simulated = re.fullmatch(rf"{SIMULATED}(?:-(\d+))?", str(name))
    if simulated:
        count = int(simulated[1] or patches or DEFAULT_PATCHES)
        if patches not in (None, count):
            raise ValueError(f"{name} has {count} patches; leave patches={patches} out, or ask for {SIMULATED}")
        name = SIMULATED if count == DEFAULT_PATCHES else f"{SIMULATED}-{count}"
    elif patches is not None:
        raise ValueError(f"patches={patches} is for simulated data only; {name} has the patches that it has")
    found = find_dataset(name)
    if simulated and (found is None or (found / "simulation.json").is_file()):
        from bengelib.simulate import simulate

        root = found or data_folders()[-1] / str(name)
        return Path(simulate(root, patches=count, progress=progress))  # refuses a tree of other settings
    if found is not None:
        return found
    if str(name) in NAMES:
        return fetch(str(name), data_folders()[-1], progress=progress)
    if Path(name).is_dir():
        read_meta(Path(name).resolve())  # says what is wrong with it
    looked = ", ".join(str(folder / name) for folder in data_folders())
    raise DatasetNotFoundError(
        f"no dataset {str(name)!r}: looked for {looked}. Give {SIMULATED!r}, one of {sorted(NAMES)}, or the path of a "
        f"folder that holds <its name>_meta.csv; or name the folder that holds your datasets in BENGE_DATA."
    )


def find_dataset(name: str | Path) -> Path | None:
    """The folder of a dataset given by path or by name, None if there is none.

    A folder counts if it holds `<its name>_meta.csv`, or the manifest of a pack.
    """
    candidates = [Path(name), *(folder / name for folder in data_folders())]
    for path in candidates:
        path = path.resolve()
        if (path / f"{path.name}_meta.csv").is_file() or (path / "manifest.json").is_file():
            return path
    return None


def data_folders() -> list[Path]:
    """Where datasets are looked for, in this order; new ones are put into the last.

    `data/` in the current folder or, where there is none, in the checkout that this package is part of; then the
    folder that the environment variable `BENGE_DATA` names, if it is set.
    """
    checkout = Path(__file__).resolve().parents[1]
    is_checkout = (checkout / "pyproject.toml").is_file() and not Path("data").is_dir()
    folders = [(checkout if is_checkout else Path.cwd()) / "data"]
    if chosen := os.environ.get("BENGE_DATA"):
        folders.append(Path(chosen).expanduser())
    return folders


def _pack_folder(root: Path) -> Path | None:
    """Where to pack, None for the usual place; elsewhere if the dataset lies where one cannot write."""
    if os.access(root, os.W_OK) or (root / "packed").is_dir():
        return None
    return data_folders()[-1] / f"{root.name}-packed"

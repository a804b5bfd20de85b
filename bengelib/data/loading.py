"""`load`: a dataset by name, made ready if it is not (simulated or fetched, checked, packed), in one call."""

import os
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from bengelib.arguments import whole_number
from bengelib.data.described import DescribedDataset
from bengelib.data.description import is_described
from bengelib.data.manifest import read_manifest
from bengelib.data.packed import PackedBENGE
from bengelib.data.packing import pack
from bengelib.data.tables import read_meta
from bengelib.errors import ChecksumError, DatasetNotFoundError, DataWarning, DiskError, DiskSpaceError
from bengelib.files import can_write, find, tree_folder, writing
from bengelib.sim.simulate import read_marker

_Result = TypeVar("_Result")

SIMULATED = "ben-ge-sim"
"""Simulated data: `ben-ge-sim`, or `ben-ge-sim-4000` for another number of patches than the default."""

DEFAULT_PATCHES = 1000


def load(
    name: str | Path,
    split: str | None = None,
    modalities: Sequence[str] | None = None,
    targets: Sequence[str] | None = None,
    *,
    patches: int | None = None,
    progress: bool = True,
    **options: Any,
) -> PackedBENGE | DescribedDataset:
    """Make a dataset ready and open it: `load("ben-ge-sim", "train")` is all that a lab needs.

    Simulated data are written, real ones downloaded and checked, and either packed, each only where that is not done
    yet and each with a progress bar.

    Args:
        name: `"ben-ge-sim"` (simulated, no download), `"ben-ge-800"`, `"ben-ge-8k"`, the name of another dataset that
            lies in one of the folders of `data_folders`, or the path of a ben-ge tree or of a folder with a
            `dataset.toml`.
        split: `"train"`, `"val"`, `"test"`, or None for all patches.
        modalities: keys to use as inputs, see `BENGE`: `s2` and `s1` of ben-ge unless given, all of another dataset.
        targets: keys to predict: `climate_zone` of ben-ge unless given, all of another dataset.
        patches: how many patches to simulate, 1000 unless said otherwise; only for simulated data.
        progress: whether to show progress bars.
        **options: the other arguments of `PackedBENGE`, such as `s2_bands`, `scheme` and `fold`, or of
            `DescribedDataset`, such as `bands`.

    Raises:
        DatasetNotFoundError: the name is unknown and no folder of that name is found.
        ValueError: `patches` with data that are not simulated.
        DownloadError: the data could not be fetched; the message says how to do it by hand.
        DiskError: nothing can be read, or written to any of the folders.
        BengeError: whatever `pack` and `PackedBENGE` find wrong.
    """
    with writing(Path(name), "call load again"):
        root = prepare(name, patches=patches, progress=progress)
        if is_described(root):
            try:
                pack(root, on_error=options.get("on_error", "raise"), progress=progress)
            except (DiskError, DiskSpaceError) as error:
                warnings.warn(f"{error} The files are read instead, which is slower.", DataWarning, stacklevel=2)
            return DescribedDataset(root, split, modalities, targets, progress=progress, **options)
        folder = root  # a pack that was copied without its tree
        if read_manifest(root) is None:
            folder = _pack(root, progress=progress, on_error=options.get("on_error", "raise"), thorough=False)
        given = {"modalities": modalities, "targets": targets}
        options |= {key: value for key, value in given.items() if value is not None}
        return PackedBENGE(root if folder.parent == root else folder, split, **options)


def is_simulated(name: str | Path) -> bool:
    """Whether a dataset is simulated, as the marker in its folder says, whatever the folder is called.

    Args:
        name: as for `load`. What is not there yet is simulated if `load` would simulate it.
    """
    found = find_dataset(name)
    if found is None:
        return _simulated(name) is not None
    return read_marker(found) is not None


def prepare(name: str | Path, *, patches: int | None = None, progress: bool = True) -> Path:
    """The folder of a dataset, simulated or fetched first if it is not there; arguments and errors as for `load`."""
    from bengelib.data.download import NAMES, fetch  # costly to import, and seldom needed
    from bengelib.sim.simulate import simulate

    patches = None if patches is None else whole_number("patches", patches)
    simulated = _simulated(name)
    if simulated:
        count = int(simulated[1] or patches or DEFAULT_PATCHES)
        if patches not in (None, count):
            raise ValueError(f"{name} has {count} patches; leave patches={patches} out, or ask for {SIMULATED}")
        name = SIMULATED if count == DEFAULT_PATCHES else f"{SIMULATED}-{count}"
    elif patches is not None:
        raise ValueError(f"patches={patches} is for simulated data only; {name} has the patches that it has")
    found = find_dataset(name)
    if simulated and found is not None and read_marker(found) is not None:
        return simulate(found, patches=count, progress=progress)  # refuses a tree of other settings
    if found is not None:
        return found
    if simulated:
        return _where_possible(lambda folder: simulate(folder / str(name), patches=count, progress=progress))
    if str(name).rstrip("/") in NAMES:
        return _where_possible(lambda folder: fetch(str(name), folder, progress=progress))
    given = tree_folder(name)
    if given.is_dir():
        read_meta(given)  # says what is wrong with it
    looked = ", ".join(map(_described, _candidates(name)[1:]))
    raise DatasetNotFoundError(
        f"no dataset {str(name)!r}: looked for {looked}. Give {SIMULATED!r}, one of {sorted(NAMES)}, or the path of a "
        f"folder that holds <its name>_meta.csv; or name the folder that holds your datasets in BENGE_DATA."
    )


def find_dataset(name: str | Path) -> Path | None:
    """The folder of a dataset given by path or by name, None if there is none.

    A folder counts if it holds `<its name>_meta.csv`, a `dataset.toml`, or the manifest of a pack. It may be a link,
    and its name may be spelled with accents of the other form.
    """
    for path in map(tree_folder, _candidates(name)):
        if find(path / f"{path.name}_meta.csv").is_file() or is_described(path) or read_manifest(path) is not None:
            return path
    return None


def _candidates(name: str | Path) -> list[Path]:
    """Where a dataset can be: what the name says as a path, here or beside `data/`, and in the folders of datasets."""
    given, folders = Path(os.path.expanduser(name)), data_folders()
    return [given, *(folder / given for folder in folders), folders[0].parent / given]


def _described(path: Path) -> str:
    """A path for a message, with what it links to if that is not there."""
    gone = path.is_symlink() and not os.path.exists(path)
    return f"{path} (a link to {os.readlink(path)}, which is not there)" if gone else str(path)


def _simulated(name: str | Path) -> re.Match[str] | None:
    """The parts of a name that stands for data that `load` simulates."""
    return re.fullmatch(rf"{SIMULATED}(?:-(\d+))?/*", str(name))


def data_folders() -> list[Path]:
    """Where datasets are looked for, in this order; new ones are put into the last.

    `data/` in the current folder or, where there is none, in the checkout that this package is part of; then the
    folder that the environment variable `BENGE_DATA` names, if it is set.
    """
    checkout = Path(__file__).resolve().parents[2]
    is_checkout = (checkout / "pyproject.toml").is_file() and not Path("data").is_dir()
    folders = [(checkout if is_checkout else Path.cwd()) / "data"]
    if chosen := os.environ.get("BENGE_DATA"):
        folders.append(Path(chosen).expanduser())
    return folders


def _where_possible(make: Callable[[Path], _Result]) -> _Result:
    """Make something in the last of the folders of datasets that can be written.

    Raises:
        DiskError: none can.
    """
    refused = []
    for folder in reversed(data_folders()):
        try:
            return make(folder)
        except DiskError as error:
            refused.append(str(error))
    raise DiskError(f"{' '.join(refused)} The environment variable BENGE_DATA names one for all datasets.")


def _pack(root: Path, **options: Any) -> Path:
    """Pack a dataset in its own folder or, where one cannot write, in a folder of datasets.

    Raises:
        DiskError: nowhere can be written.
        BengeError: whatever `pack` finds wrong.
    """
    if os.access(root, os.W_OK) or (root / "packed").is_dir():
        try:
            return pack(root, **options)
        except DiskError:
            pass
        except ChecksumError:  # something else, or a damaged pack, is in the way
            if can_write(root):
                raise
    return _where_possible(lambda folder: pack(root, folder / f"{root.name}-packed", **options))

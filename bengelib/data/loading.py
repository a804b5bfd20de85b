"""`load`: a dataset by name, first simulated or fetched, checked and packed if necessary."""

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
"""Simulated data: `ben-ge-sim`, or `ben-ge-sim-4000` for 4000 patches instead of the default."""

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
    """Prepare and open a dataset: `load("ben-ge-sim", "train")` is all that a lab needs.

    Simulated data are written, real data downloaded and checked, and both packed, unless that is done already, each
    with a progress bar.

    Args:
        name: `"ben-ge-sim"` (simulated, no download), `"ben-ge-800"`, `"ben-ge-8k"`, the name of another dataset in one
            of the folders of `data_folders`, or the path of a ben-ge dataset or of a folder with a `dataset.toml`.
        split: `"train"`, `"val"`, `"test"`, or None for all patches.
        modalities: keys of the inputs, see `BENGE`; by default `s2` and `s1` of ben-ge, all of another dataset.
        targets: keys to predict; by default `climate_zone` of ben-ge, all of another dataset.
        patches: number of patches to simulate, by default 1000; only for simulated data.
        progress: whether to show progress bars.
        **options: the other arguments of `PackedBENGE`, such as `s2_bands`, `scheme` and `fold`, or of
            `DescribedDataset`, such as `bands`.

    Raises:
        DatasetNotFoundError: the name is unknown and there is no folder of that name.
        ValueError: `patches` was given for data that are not simulated.
        DownloadError: the data could not be fetched; the message explains a manual download.
        DiskError: the data cannot be read, or none of the folders can be written to.
        BengeError: any fault that `pack` and `PackedBENGE` find.
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
    """True if a dataset is simulated, according to the marker in its folder, not its name.

    Args:
        name: as for `load`. A dataset that does not exist yet is simulated if `load` would simulate it.
    """
    found = find_dataset(name)
    if found is None:
        return _simulated(name) is not None
    return read_marker(found) is not None


def prepare(name: str | Path, *, patches: int | None = None, progress: bool = True) -> Path:
    """The folder of a dataset, simulated or fetched first if necessary; arguments and errors as for `load`."""
    from bengelib.data.download import NAMES, fetch  # slow to import, and rarely needed
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
        return simulate(found, patches=count, progress=progress)  # refuses a dataset of other settings
    if found is not None:
        return found
    if simulated:
        return _where_possible(lambda folder: simulate(folder / str(name), patches=count, progress=progress))
    if str(name).rstrip("/") in NAMES:
        return _where_possible(lambda folder: fetch(str(name), folder, progress=progress))
    given = tree_folder(name)
    if given.is_dir():
        read_meta(given)  # raises an error that explains the fault
    looked = ", ".join(map(_described, _candidates(name)[1:]))
    raise DatasetNotFoundError(
        f"no dataset {str(name)!r}: looked for {looked}. Give {SIMULATED!r}, one of {sorted(NAMES)}, or the path of a "
        f"folder that holds <its name>_meta.csv; or name the folder that holds your datasets in BENGE_DATA."
    )


def find_dataset(name: str | Path) -> Path | None:
    """The folder of a dataset given by path or by name, None if there is none.

    A folder counts if it holds `<its name>_meta.csv`, a `dataset.toml`, or the manifest of a pack. It may be a link,
    and accents in its name may have either Unicode form.
    """
    for path in map(tree_folder, _candidates(name)):
        if find(path / f"{path.name}_meta.csv").is_file() or is_described(path) or read_manifest(path) is not None:
            return path
    return None


def _candidates(name: str | Path) -> list[Path]:
    """Possible folders of a dataset: the name as a path, here or beside `data/`, and in the folders of datasets."""
    given, folders = Path(os.path.expanduser(name)), data_folders()
    return [given, *(folder / given for folder in folders), folders[0].parent / given]


def _described(path: Path) -> str:
    """A path for a message, with the target of a broken link."""
    gone = path.is_symlink() and not os.path.exists(path)
    return f"{path} (a link to {os.readlink(path)}, which is not there)" if gone else str(path)


def _simulated(name: str | Path) -> re.Match[str] | None:
    """The match of a name of simulated data, None for other names."""
    return re.fullmatch(rf"{SIMULATED}(?:-(\d+))?/*", str(name))


def data_folders() -> list[Path]:
    """Folders that are searched for datasets, in this order; new ones are written to the last.

    `data/` in the current folder or, if there is none, in the checkout of this package; then the folder in the
    environment variable `BENGE_DATA`, if set.
    """
    checkout = Path(__file__).resolve().parents[2]
    is_checkout = (checkout / "pyproject.toml").is_file() and not Path("data").is_dir()
    folders = [(checkout if is_checkout else Path.cwd()) / "data"]
    if chosen := os.environ.get("BENGE_DATA"):
        folders.append(Path(chosen).expanduser())
    return folders


def _where_possible(make: Callable[[Path], _Result]) -> _Result:
    """Create something in the last writable folder of datasets.

    Raises:
        DiskError: no folder can be written to.
    """
    refused = []
    for folder in reversed(data_folders()):
        try:
            return make(folder)
        except DiskError as error:
            refused.append(str(error))
    raise DiskError(f"{' '.join(refused)} The environment variable BENGE_DATA names one for all datasets.")


def _pack(root: Path, **options: Any) -> Path:
    """Pack a dataset in its own folder or, if that is read-only, in a folder of datasets.

    Raises:
        DiskError: no folder can be written to.
        BengeError: any fault that `pack` finds.
    """
    if os.access(root, os.W_OK) or (root / "packed").is_dir():
        try:
            return pack(root, **options)
        except DiskError:
            pass
        except ChecksumError:  # the folder holds something else, or a damaged pack
            if can_write(root):
                raise
    return _where_possible(lambda folder: pack(root, folder / f"{root.name}-packed", **options))

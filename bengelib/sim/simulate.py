"""`simulate`: write ben-ge-sim, a simulated dataset in exactly the layout of ben-ge-8k.

The pixels are synthetic; tiles, dates, ids, tables and file formats follow the real dataset. docs/simulator.md
describes the simulation and its agreement with the real data.
"""

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path
from typing import Any

from tqdm import tqdm

from bengelib.arguments import whole_number
from bengelib.bands import LAND_COVER_NAMES
from bengelib.cores import in_processes, usable_cores
from bengelib.errors import SettingsError
from bengelib.files import absolute, locked, same_name, sweep, sweep_lock, work_folder, writing
from bengelib.sim.patch import Job, write_patch
from bengelib.sim.places import SPLIT_NAMES, Place, corner, plan, split_of, window_pixels

VERSION = 1
"""Version of the simulation, increased whenever the same settings give other bytes."""
MARKER = "simulation.json"
"""Marker file, written last; its presence shows that the dataset is complete, its content the settings."""
SAMPLINGS = ("natural", "balanced")
_FOLDERS = ("sentinel-1", "sentinel-2", "dem", "esaworldcover", "splits")
REAL_NAMES = ("ben-ge", "ben-ge-800", "ben-ge-8k")

HEADERS: dict[str, tuple[str, ...]] = {
    "meta": (
        "patch_id", "patch_id_s1", "timestamp_s2", "timestamp_s1", "season_s2", "season_s1", "lon", "lat", "climatezone"
    ),
    "era-5": (
        "patch_id", "patch_id_s1", "atmpressure_level", "temperature_s1", "temperature_s2", "wind-u_s2", "wind-u_s1",
        "wind-v_s2", "wind-v_s1", "relhumidity_s2", "relhumidity_s1",
    ),
    "esaworldcover": ("patch_id", "filename", *LAND_COVER_NAMES),
}  # fmt: skip
"""Columns of the three tables, named `<root name>_<table>.csv`."""

_README = """{name}: SIMULATED DATA, NOT SATELLITE DATA

Every pixel, label and weather value in this folder was invented by a program (bengelib.simulate, version {version}).
The layout, the tiles, the dates and the file formats are those of the ben-ge data set (Mommert et al. 2023,
arXiv:2307.01741), so that programs for ben-ge run on it unchanged; statistics and difficulty imitate it.
Nothing here may be reported as a result on real Earth observation data.

Settings: patches={patches} seed={seed} sampling={sampling}

  {name}_meta.csv            ids, timestamps (UTC), season, longitude and latitude, climate zone (0 = all water)
  {name}_era-5.csv           weather: hPa, K, m/s, %
  {name}_esaworldcover.csv   land-cover fractions
  sentinel-2/<patch>/        12 bands, uint16, reflectance * 10000
  sentinel-1/<patch>/        VV and VH, float32, dB
  dem/                       int16, metres
  esaworldcover/             uint8, WorldCover codes
  splits/                    80 % train, 10 % validation, 10 % test

Unlike in ben-ge-8k the rows are not sorted by sampling class: under balanced sampling the eight classes take turns.
"""


def simulate(
    root: str | os.PathLike[str],
    patches: int = 1000,
    seed: int = 0,
    sampling: str = "balanced",
    processes: int | None = None,
    progress: bool = True,
) -> Path:
    """Write a simulated ben-ge dataset, or reuse an existing one.

    On one machine the same seed gives the same bytes for any number of processes; another processor or version of NumPy
    may round the last digit differently. Patch i of 100 equals patch i of 1000. The dataset is written beside `root`
    and moved there when complete, so an interrupted run leaves no dataset that seems complete; the next run removes the
    remains of a killed one. A second process that writes the same dataset waits for the first.

    Args:
        root: folder of the dataset; its last part is the name of the dataset and the prefix of its tables.
        patches: number of patches, 1 or more; about 0.35 MB each.
        seed: any whole number from 0 to 2**62.
        sampling: `balanced` (each of the eight common land-cover classes in turn, drawn with its fraction as weight,
            like ben-ge-8k) or `natural` (every patch of ben-ge equally likely).
        processes: number of workers; None takes all usable cores, at most eight.
        progress: whether to show a progress bar on standard error.

    Returns:
        Path of the dataset.

    Raises:
        ArgumentError: a number is invalid or out of range.
        SettingsError: an unknown `sampling`; `root` has the name of a real dataset, or holds something else: a dataset
            of other settings, an incomplete one, or other files. Nothing is ever overwritten.
        DiskSpaceError: the disk is full.
        DiskError: the folder cannot be written to.
    """
    root = absolute(root)
    place = Path(os.path.realpath(root))  # `root` may be a link to a folder on another disk
    patches, seed = whole_number("patches", patches), whole_number("seed", seed, 0, 2**62)
    if sampling not in SAMPLINGS:
        raise SettingsError(f"sampling={sampling!r}: expected one of {', '.join(map(repr, SAMPLINGS))}.")
    if processes is not None:
        processes = whole_number("processes", processes)
    settings = {"version": VERSION, "patches": patches, "seed": seed, "sampling": sampling}
    if any(same_name(name, real) for name in (root.name, place.name) for real in REAL_NAMES):
        raise SettingsError(
            f"{root} has the name of a real dataset, so simulated data in it could be taken for real. Choose another "
            "name, for example ben-ge-sim."
        )
    if processes is None:
        processes = min(usable_cores(), 8)
    waiting = f"Waiting for another process that simulates {root.name} ..." if progress else None
    with writing(root, "call simulate again"):
        sweep(place, _is_ours(root.name))
        lock = place.with_name(f".{place.name}.lock")
        if _reusable(root, settings):
            sweep_lock(lock)
            return root
        place.parent.mkdir(parents=True, exist_ok=True)
        with locked(lock, waiting), work_folder(place, _is_ours(root.name)) as work:
            if _reusable(root, settings):  # made while this process waited
                return root
            _write(work, root.name, settings, processes, progress)
            if not _reusable(root, settings):
                if place.is_dir():
                    place.rmdir()
                work.rename(place)
    return root


def read_marker(root: Path) -> dict[str, Any] | None:
    """The settings in the marker of a simulated dataset or pack in `root`; None without a marker."""
    try:
        marker = json.loads((root / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return marker if isinstance(marker, dict) and marker.get("simulated") is True else None


def _write(work: Path, name: str, settings: dict[str, Any], processes: int, progress: bool) -> None:
    """Write the whole dataset `name` to the empty folder `work`, its marker last."""
    patches, seed = settings["patches"], settings["seed"]
    for folder in _FOLDERS:
        (work / folder).mkdir()
    jobs = _jobs(plan(patches, seed, settings["sampling"]))
    rows: dict[int, dict[str, Any]] = {}
    with tqdm(total=patches, desc=f"simulating {name}", unit="patch", disable=not progress) as bar:
        for row in _draw(work, seed, jobs, min(processes, -(-patches // 8))):
            rows[row["number"]] = row
            bar.update()
    _write_tables(work, name, [rows[i] for i in range(patches)], seed)
    text = _README.format(name=name, **settings).encode(errors="backslashreplace")  # a name may not be valid text
    (work / "README").write_bytes(text)
    marker = {"simulated": True, **settings, "complete": True}
    (work / MARKER).write_text(json.dumps(marker, indent=2) + "\n", encoding="utf-8", newline="\n")


def _is_ours(name: str) -> Callable[[str], bool]:
    """True if an entry of the folder of an incomplete dataset `name` was written by `_write`."""
    known = (*_FOLDERS, "README", MARKER, *(f"{name}_{table}.csv" for table in HEADERS))
    return known.__contains__


def _reusable(root: Path, settings: dict[str, Any]) -> bool:
    """True if `root` is a complete dataset of these settings; False if it does not exist.

    Raises:
        SettingsError: the folder holds something else.
    """
    if not os.path.exists(root):
        return False
    if not root.is_dir():
        raise SettingsError(f"{root} is a file, not a folder. Choose another root.")
    if not any(root.iterdir()):
        return False
    found = read_marker(root)
    if found is None:
        raise SettingsError(
            f"{root} exists and is not a simulated tree (it has no {MARKER} that says so). Choose another root; "
            "nothing was changed."
        )
    differing = [
        f"{name}={found.get(name)!r} instead of {value!r}"
        for name, value in settings.items()
        if found.get(name) != value
    ]
    if differing or not found.get("complete"):
        raise SettingsError(
            f"{root} holds a simulated tree with other settings: {', '.join(differing) or 'incomplete'}. "
            "Choose another root, or delete that folder first; nothing was changed."
        )
    return True


def _jobs(places: list[Place]) -> list[Job]:
    """Places with their centres in degrees (five decimals, as in ben-ge) and the covered windows of their tiles."""
    from rasterio.warp import transform

    windows = {tile: window_pixels(tile) for tile in {place.tile for place in places}}
    corners = [corner(place) for place in places]
    degrees: dict[int, tuple[float, float]] = {}
    for epsg in sorted({c[0] for c in corners}):
        members = [i for i, c in enumerate(corners) if c[0] == epsg]
        lon, lat = transform(
            f"EPSG:{epsg}", "EPSG:4326", [corners[i][1] + 600 for i in members], [corners[i][2] - 600 for i in members]
        )
        degrees.update({i: (round(a, 5), round(b, 5)) for i, a, b in zip(members, lon, lat, strict=True)})
    return [Job(i, place, windows[place.tile], *degrees[i]) for i, place in enumerate(places)]


def _draw(work: Path, seed: int, jobs: list[Job], processes: int) -> Iterator[dict[str, Any]]:
    """Write the patches and yield their table rows; replace workers that died or could not start by this process."""
    left = {job.number: job for job in jobs}
    with suppress(BrokenProcessPool):
        for row in in_processes(write_patch, ((work, seed, job) for job in jobs), processes):
            del left[row["number"]]
            yield row
    for job in left.values():
        yield write_patch(work, seed, job)


def _write_tables(work: Path, name: str, rows: list[dict[str, Any]], seed: int) -> None:
    for table, header in HEADERS.items():
        lines = [",".join(header), *(",".join(str(value) for value in row[table]) for row in rows)]
        (work / f"{name}_{table}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    members: dict[str, list[str]] = {split: [] for split in SPLIT_NAMES}
    for row in rows:
        members[split_of(seed, row["number"])].append(row["meta"][0])
    for split, ids in members.items():
        text = "".join(f"{patch_id}\n" for patch_id in ids)
        (work / "splits" / f"{name}_{split}.csv").write_text(text, encoding="utf-8", newline="\n")

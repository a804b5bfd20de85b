"""Consistency checks: the columns of a meta table, and the label files of the two satellites.

A column that was sorted alone, filled down or pasted a row too low leaves every file readable but pairs the wrong
things. The ids of BigEarthNet and its label files reveal that; see `bengelib.identity`.
"""

import json
import warnings
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bengelib.data.splits import read_splits
from bengelib.errors import DataWarning, TableError
from bengelib.files import find
from bengelib.identity import PATCH_METRES, Identity, patch_corner, read_id, season, tile_origin, utm

_FAR_FROM_TILE, _FAR_FROM_PATCH = 30_000, 700
"""Metres: tiles overlap by 10 km, and patches are 1200 m wide."""


def check_tree(root: Path, meta: pd.DataFrame, *, thoroughly: bool = False) -> None:
    """Check that the meta table and the label files of a dataset do not contradict each other.

    Args:
        root: folder of the dataset.
        meta: its meta table.
        thoroughly: whether to compare the label files of all patches (0.1 ms each) instead of 32, evenly spread, and
            the split files as well.

    Raises:
        TableError: see `check_meta` and `check_labels`.
        SplitError: a split file is malformed, or two share patches.
    """
    check_meta(meta, find(root / f"{root.name}_meta.csv"))
    check_labels(root, meta, None if thoroughly else 32)
    if thoroughly:
        read_splits(root, root.name)


def check_meta(meta: pd.DataFrame, path: Path) -> None:
    """Check that the columns of a meta table belong together: pairs of ids, positions, dates and seasons.

    Args:
        meta: the table.
        path: its file, for messages.

    Raises:
        TableError: a Sentinel-1 id is in several rows or in the wrong column; a pair of ids names two locations; or a
            position is outside the tile of its ids.

    Warns:
        DataWarning: a position in the tile differs from that of the ids; timestamps or seasons differ from the ids'
            dates; or the two acquisitions are more than a month apart.
    """
    ids, ids_s1 = meta["patch_id"].tolist(), meta["patch_id_s1"].tolist()
    swapped = [(a, b) for a, b in zip(ids, ids_s1, strict=True) if a.startswith("S1") or b.startswith("S2")]
    if swapped:
        raise TableError(
            f"{path}: {len(swapped)} rows have a Sentinel-1 id as patch_id or a Sentinel-2 id as patch_id_s1, the "
            f"first being {swapped[0][0]}. Are the two columns swapped?"
        )
    repeated = meta["patch_id_s1"].duplicated()
    if repeated.any():
        first = ids_s1[int(repeated.argmax())]
        raise TableError(
            f"{path} gives {int(repeated.sum())} patches a Sentinel-1 id that another patch has already, the first "
            f"being {first} (of {', '.join(meta['patch_id'][meta['patch_id_s1'] == first].head(3))}). Each patch has a "
            "radar patch of its own: was the column patch_id_s1 filled down?"
        )
    of_s2 = [(row, found) for row, found in enumerate(map(read_id, ids)) if found]
    of_s1 = [(row, found) for row, found in enumerate(map(read_id, ids_s1)) if found]
    partner = dict(of_s1)
    pairs = [(row, s2, partner[row]) for row, s2 in of_s2 if row in partner]
    apart = [row for row, s2, s1 in pairs if s2[2:] != s1[2:] or (s2.tile or s1.tile) != s1.tile]
    if apart:
        raise TableError(
            f"{path} pairs {len(apart)} of {len(ids)} patches with a radar patch of another place, the first being "
            f"{ids[apart[0]]} with {ids_s1[apart[0]]}: tile, column and row, at the end of both ids, must agree. Was "
            "one column sorted, shifted or filled alone?"
        )
    _check_places(meta, path, of_s1)
    _check_dates(meta, path, "s2", of_s2)
    _check_dates(meta, path, "s1", of_s1)
    far = [row for row, s2, s1 in pairs if abs(_day(s2.date) - _day(s1.date)) > 31]
    if far:
        first = f"{ids[far[0]]} and {ids_s1[far[0]]}"
        _warn(f"{path}: the two images of {len(far)} pairs are more than a month apart, the first being {first}")


def _day(text: str) -> int:
    """Approximate number of a day from YYYYMMDD: every month counts 31 days."""
    return 372 * int(text[:4]) + 31 * int(text[4:6]) + int(text[6:])


def _check_places(meta: pd.DataFrame, path: Path, found: list[tuple[int, Identity]]) -> None:
    """Compare lon and lat with the tile, column and row of the ids."""
    if not found:
        return
    rows = np.array([row for row, _ in found])
    lon, lat = (_numbers(meta, name)[rows] for name in ("lon", "lat"))
    there = (np.abs(lon) <= 180) & (np.abs(lat) <= 90)  # others are refused or skipped when they are read
    origins = {tile: tile_origin(tile) for tile in {identity.tile for _, identity in found}}
    epsg, left, top = np.array([origins[identity.tile] for _, identity in found]).T  # (N,) each
    column, row = np.array([identity[2:] for _, identity in found]).T
    size = PATCH_METRES
    middle = np.stack([left + size * (column + 0.5), top - size * (row + 0.5)], axis=1)  # (N, 2)
    square = np.stack([left + 55_000, top - 55_000], axis=1)
    with np.errstate(all="ignore"):  # degrees of other places may overflow
        position = utm(lon, lat, epsg)
        off_tile = there & ~(np.abs(position - square).max(axis=1) < 55_000 + _FAR_FROM_TILE)
        off_patch = there & ~(np.abs(position - middle).max(axis=1) < _FAR_FROM_PATCH)
        turned = np.abs(utm(lat, lon, epsg) - square).max(axis=1) if off_tile.any() else np.empty(0)
    if off_tile.any():
        first = int(off_tile.argmax())
        swapped = (turned[off_tile] < 55_000 + _FAR_FROM_TILE).all()
        cause = "Longitude and latitude are swapped." if swapped else "Was a column sorted or shifted alone?"
        raise TableError(
            f"{path} puts {int(off_tile.sum())} of {len(meta)} patches off the tile that their ids name, the first "
            f"being {meta['patch_id'].iloc[found[first][0]]}: lon {lon[first]:g}, lat {lat[first]:g} is not in "
            f"{found[first][1].tile}. {cause}"
        )
    if off_patch.any():
        first = int(off_patch.argmax())
        away = np.hypot(*(position - middle)[first]) / 1000
        _warn(
            f"{path} puts {int(off_patch.sum())} of {len(meta)} patches elsewhere in their tile than their ids say, "
            f"the first being {meta['patch_id'].iloc[found[first][0]]}, {away:.1f} km away. Were lon and lat sorted or "
            "shifted by themselves?"
        )


def _check_dates(meta: pd.DataFrame, path: Path, acquisition: str, found: list[tuple[int, Identity]]) -> None:
    """Compare timestamps and seasons with the dates in the ids of one of the two acquisitions."""
    stamps = meta[f"timestamp_{acquisition}"].tolist()
    other = [row for row, identity in found if str(stamps[row])[:10].replace("-", "") != identity.date]
    if other:
        _warn(
            f"{path}: timestamp_{acquisition} of {len(other)} patches is not of the date in their id, the first being "
            f"{stamps[other[0]]!r} of {meta['patch_id'].iloc[other[0]]}. The form is 2017-06-13 10:10:31. Was the "
            "column sorted, shifted or rewritten by a spreadsheet?"
        )
    expected = {text: _season_of(text) for text in {identity.date for _, identity in found}}
    given = _numbers(meta, f"season_{acquisition}").tolist()
    # A season computed from the day of the year differs by up to 0.0094.
    odd = [row for row, identity in found if 0.011 < abs(given[row] - expected[identity.date]) < 1]
    if odd:  # values outside [0, 1] are refused or skipped when they are read
        _warn(
            f"{path}: season_{acquisition} of {len(odd)} patches is not that of the date in their id, the first being "
            f"{given[odd[0]]:g} of {meta['patch_id'].iloc[odd[0]]}. Was the column sorted, shifted or swapped?"
        )


def _season_of(text: str) -> float:
    """The season of YYYYMMDD, NaN if there is no such day."""
    try:
        return season(date.fromisoformat(text))
    except ValueError:
        return np.nan


def _numbers(meta: pd.DataFrame, name: str) -> NDArray[np.float64]:
    """A column as numbers, NaN for anything else."""
    values: NDArray[np.float64] = pd.to_numeric(meta[name], errors="coerce").to_numpy(np.float64)
    return values


def check_labels(root: Path, meta: pd.DataFrame, sample: int | None) -> None:
    """Check that existing label files confirm the ids: `corresponding_s2_patch` and the corners.

    Args:
        root: folder of the dataset.
        meta: its meta table.
        sample: number of patches to check, evenly spread; None for all.

    Raises:
        TableError: the label file of a radar patch names another Sentinel-2 patch, or the location of a label file
            differs from the ids or from the other label file of the pair.
    """
    step = 1 if sample is None else max(1, len(meta) // sample)
    for patch_id, patch_id_s1 in zip(meta["patch_id"].iloc[::step], meta["patch_id_s1"].iloc[::step], strict=True):
        path = root / "sentinel-1" / patch_id_s1 / f"{patch_id_s1}_labels_metadata.json"
        radar = _read_labels(path)
        named = radar.get("corresponding_s2_patch", patch_id)
        if named != patch_id:
            raise TableError(
                f"{path} says that {patch_id_s1} belongs to {named}, but {root.name}_meta.csv pairs it with "
                f"{patch_id}. One of the two is wrong: was a column of the table sorted or shifted alone?"
            )
        optical_path = root / "sentinel-2" / patch_id / f"{patch_id}_labels_metadata.json"
        place = patch_corner(patch_id, patch_id_s1)
        both = ((path, radar), (optical_path, _read_labels(optical_path)))
        corners = [(file, corner) for file, labels in both if (corner := _corner(labels))]
        for file, corner in corners:
            if place and max(abs(corner[0] - place[1]), abs(corner[1] - place[2])) >= PATCH_METRES / 2:
                raise TableError(
                    f"{file} is of the place {corner}, but its id names the place {place[1:]} (upper left corner, "
                    "metres). It is in the folder of another patch: put the right one there."
                )
        if len({corner for _, corner in corners}) > 1:
            raise TableError(
                f"{optical_path} is of the place {corners[1][1]}, but that of its radar patch, {path}, of "
                f"{corners[0][1]} (upper left corner, metres). One of them is in the folder of another patch."
            )


def _read_labels(path: Path) -> dict[str, Any]:
    """A label file, empty if missing or unreadable, which is an error only where labels are requested."""
    try:
        labels = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return labels if isinstance(labels, dict) else {}


def _corner(labels: dict[str, Any]) -> tuple[float, float] | None:
    """The upper left corner in a label file, None if it has none."""
    try:
        return float(labels["coordinates"]["ulx"]), float(labels["coordinates"]["uly"])
    except (TypeError, KeyError, ValueError):
        return None


def _warn(words: str) -> None:
    warnings.warn(words, DataWarning, stacklevel=6)

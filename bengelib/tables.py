"""The CSV and JSON tables of a ben-ge tree, read by column name into one array per modality or target.

Every function takes the meta table (one row a patch, indexed by `patch_id`) and answers in its order.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from bengelib.bands import CLIMATE_ZONES, CORINE_19, CORINE_19_FROM_43, CORINE_43, LAND_COVER_NAMES, WEATHER
from bengelib.errors import DatasetNotFoundError, MissingModalityError, TableError
from bengelib.files import find

META_COLUMNS = ("patch_id", "patch_id_s1", "timestamp_s2", "timestamp_s1", "season_s2", "season_s1", "lon", "lat")
TABLE_KEYS = ("season", "lonlat", "weather", "climate_zone", "land_cover_fractions", "land_cover_top", "corine")
"""Keys of a sample that come from tables rather than rasters."""

_ZONE_INDEX = {zone.code: index for index, zone in enumerate(CLIMATE_ZONES)}
_CORINE_INDEX = {level3: CORINE_19.index(name) for name, parts in CORINE_19_FROM_43.items() for level3 in parts}


def read_csv(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """A CSV indexed by `patch_id`; column order, a byte-order mark and CRLF line ends do not matter.

    Raises:
        TableError: it cannot be parsed, lacks one of `columns`, has a row without an id, or names a patch twice.
    """
    try:
        table = pd.read_csv(path, encoding="utf-8-sig", dtype={"patch_id": str, "patch_id_s1": str})
    except (ValueError, OSError) as error:  # pandas' parser errors are ValueErrors
        raise TableError(f"cannot read {path}: {error}") from error
    missing = [column for column in ("patch_id", *columns) if column not in table.columns]
    if missing:
        raise TableError(f"{path} lacks the columns {missing}; it has {list(table.columns)}. Fetch the file again.")
    ids = [column for column in ("patch_id", "patch_id_s1") if column in ("patch_id", *columns)]
    nameless = table[ids].isna().any(axis=1).to_numpy()
    if nameless.any():
        raise TableError(
            f"{path} has {int(nameless.sum())} rows with nothing in one of {ids}, the first being row "
            f"{int(nameless.argmax()) + 1} below the header. Fetch the file again."
        )
    repeated = table["patch_id"][table["patch_id"].duplicated()]
    if len(repeated):
        raise TableError(f"{path} has {len(repeated)} repeated patch ids, the first being {repeated.iloc[0]}")
    return table.set_index("patch_id", drop=False)


def read_meta(root: Path) -> pd.DataFrame:
    """The meta table of the tree at `root`, one row a patch, in the file's order.

    Raises:
        DatasetNotFoundError: no folder, or no `<name>_meta.csv` in it.
        TableError: the CSV is malformed or empty.
    """
    if not root.is_dir():
        raise DatasetNotFoundError(
            f"no folder {root}. Give the folder that holds {root.name}_meta.csv; or let bengelib.load get one by name, "
            '"ben-ge-800" for real ones (bengelib.fetch), "ben-ge-sim" for simulated ones (bengelib.simulate).'
        )
    path = find(root / f"{root.name}_meta.csv")
    if not path.is_file():
        others = sorted(other.name for other in root.glob("*_meta.csv"))
        hint = f"; it has {others}: rename the folder to match" if others else ""
        raise DatasetNotFoundError(
            f"no {path.name} in {root}{hint}. The file carries the folder's name; a wrongly unpacked archive has it "
            "one folder deeper."
        )
    meta = read_csv(path, META_COLUMNS)
    if meta.empty:
        raise TableError(f"{path} has a header but no patches")
    return meta


def _find(root: Path, stem: str, what: str) -> Path:
    """`<name>_<stem>.csv` at the root or in a folder of the same stem (the full set keeps it there)."""
    candidates = [find(root / f"{root.name}_{stem}.csv"), find(root / stem / f"{root.name}_{stem}.csv")]
    for path in candidates:
        if path.is_file():
            return path
    raise MissingModalityError(
        f"{what!r} was asked for, but there is no {candidates[0].name} in {root} (nor in its folder {stem}/). "
        f"Leave {what!r} out, or add the file."
    )


Problems = dict[str, str]
"""What is wrong with a patch, by patch id."""


def _rows(
    table: pd.DataFrame, meta: pd.DataFrame, columns: Sequence[str], path: Path, problems: Problems | None = None
) -> np.ndarray:
    """Values of `columns`, (N, k) float64, for the patches of `meta`.

    A patch without a row, or with a value that is no number, is an error; or, where `problems` is given, noted there
    and has the value 0.
    """
    numbers = table[list(columns)].apply(pd.to_numeric, errors="coerce").reindex(meta.index)
    values = numbers.to_numpy(dtype=np.float64)
    bad = ~np.isfinite(values).all(axis=1)
    if problems is not None:
        for patch_id in meta.index[bad]:
            problems[patch_id] = f"{path} has no row with numbers in {list(columns)}"
        return np.where(bad[:, None], 0.0, values)
    absent = meta.index.difference(table.index)
    if len(absent):
        raise TableError(f"{path} has no row for {len(absent)} patches of the meta CSV, the first being {absent[0]}")
    if bad.any():
        patch_id = meta.index[bad][0]
        given = table.loc[patch_id, list(columns)].tolist()
        raise TableError(
            f"{path} has a value in {list(columns)} that is empty, not a number or not finite: {given} for {patch_id}"
        )
    return values


def read_weather(root: Path, meta: pd.DataFrame, acquisition: str, problems: Problems | None = None) -> np.ndarray:
    """ERA-5 at the time of the `s2` or `s1` acquisition: (N, 5) float32 in the order of `bands.WEATHER`, its units.

    Raises:
        MissingModalityError: the tree has no such table.
        TableError: it is malformed, or a patch has no numbers in it (where `problems` is not given).
    """
    path = _find(root, "era-5", "weather")
    columns = [variable.column.format(time=acquisition) for variable in WEATHER.values()]
    return _rows(read_csv(path, columns), meta, columns, path, problems).astype(np.float32)


def read_fractions(
    root: Path, meta: pd.DataFrame, what: str = "land_cover_fractions", problems: Problems | None = None
) -> np.ndarray:
    """Share of each WorldCover class in each patch: (N, 11) float32 in the order of `bands.LAND_COVER`, in [0, 1].

    Raises:
        MissingModalityError: the tree has no such table.
        TableError: it is malformed, or a patch has no numbers in it (where `problems` is not given).
    """
    path = _find(root, "esaworldcover", what)
    return _rows(read_csv(path, LAND_COVER_NAMES), meta, LAND_COVER_NAMES, path, problems).astype(np.float32)


def read_climate_zone(root: Path, meta: pd.DataFrame, problems: Problems | None = None) -> np.ndarray:
    """Index of the Koeppen-Geiger class in `bands.CLIMATE_ZONES`: (N,) int64.

    The codes stand in the column `climatezone` of the meta CSV (subsets) or in `<name>_climatezones.csv` (full set).

    Raises:
        MissingModalityError: neither is there.
        TableError: a code that ben-ge does not have.
    """
    path = root / f"{root.name}_meta.csv"
    table = meta
    if "climatezone" not in meta.columns:
        try:
            path = _find(root, "climatezones", "climate_zone")
        except MissingModalityError:
            raise MissingModalityError(
                f"'climate_zone' was asked for, but {path.name} in {root} has no column climatezone and there is no "
                f"{root.name}_climatezones.csv. Leave 'climate_zone' out, or add one of them."
            ) from None
        table = read_csv(path, ("climatezone",))
    codes = _rows(table, meta, ("climatezone",), path, problems)[:, 0]
    unknown = sorted(set(codes.tolist()) - set(_ZONE_INDEX))  # 26.7 too, which is not 26
    if problems is not None:
        for patch_id in meta.index[np.isin(codes, unknown)]:
            problems[patch_id] = f"{path}: a climate zone code that is not in the legend {sorted(_ZONE_INDEX)}"
    elif unknown:
        shown = ", ".join(f"{code:g}" for code in unknown)
        raise TableError(f"{path}: climate zone codes [{shown}] are not in the legend {sorted(_ZONE_INDEX)}")
    return np.array([_ZONE_INDEX.get(int(code), 0) for code in codes], dtype=np.int64)


def corine_multi_hot(path: Path) -> np.ndarray:
    """The BigEarthNet-19 labels in one `*_labels_metadata.json`: (19,) float32 of 0 and 1, all 0 where none applies.

    Raises:
        MissingModalityError: no such file.
        TableError: unreadable, or a label that CORINE's level 3 does not have.
    """
    if not path.is_file():
        raise MissingModalityError(f"'corine' was asked for, but there is no {path}. Leave 'corine' out, or add it.")
    try:
        labels = [str(label) for label in json.loads(path.read_text(encoding="utf-8"))["labels"]]
    except (ValueError, KeyError, TypeError) as error:
        raise TableError(f"cannot read the labels in {path}: {error!r}") from error
    unknown = sorted(set(labels) - set(CORINE_43))
    if unknown:
        raise TableError(f"{path}: {unknown} are not CORINE level-3 names as BigEarthNet spells them")
    multi_hot = np.zeros(len(CORINE_19), dtype=np.float32)
    for label in labels:
        if label in _CORINE_INDEX:
            multi_hot[_CORINE_INDEX[label]] = 1.0
    return multi_hot


def read_corine(root: Path, meta: pd.DataFrame, problems: Problems | None = None) -> np.ndarray:
    """BigEarthNet-19 labels of each patch from its Sentinel-2 JSON: (N, 19) float32 multi-hot.

    Raises:
        MissingModalityError: a patch has no such file (where `problems` is given: no patch has one).
        TableError: unreadable, or a label that CORINE's level 3 does not have (where `problems` is not given).
    """
    labels = np.zeros((len(meta), len(CORINE_19)), dtype=np.float32)
    missing = 0
    for row, patch_id in enumerate(meta.index):
        try:
            labels[row] = corine_multi_hot(root / "sentinel-2" / patch_id / f"{patch_id}_labels_metadata.json")
        except (MissingModalityError, TableError) as error:
            missing += isinstance(error, MissingModalityError)
            if problems is None or missing == len(meta):
                raise
            problems[patch_id] = str(error)
    return labels


def read_table(
    root: Path, meta: pd.DataFrame, key: str, acquisition: str = "s2", problems: Problems | None = None
) -> np.ndarray:
    """The array of one table key for all patches.

    Args:
        root: the tree.
        meta: its meta table, or some rows of it.
        key: one of `TABLE_KEYS`.
        acquisition: whether season and weather are those of the `"s2"` or of the `"s1"` acquisition.
        problems: where given, a patch without a good value does not raise: it has zeros, and the reason stands here.

    Raises:
        MissingModalityError: the tree does not hold it.
        TableError: a file is malformed, or a patch has no good value in it.
    """
    meta_path = root / f"{root.name}_meta.csv"
    if key == "season":
        return _rows(meta, meta, (f"season_{acquisition}",), meta_path, problems)[:, 0].astype(np.float32)
    if key == "lonlat":
        return _rows(meta, meta, ("lon", "lat"), meta_path, problems).astype(np.float32)
    if key == "weather":
        return read_weather(root, meta, acquisition, problems)
    if key == "climate_zone":
        return read_climate_zone(root, meta, problems)
    if key == "land_cover_fractions":
        return read_fractions(root, meta, problems=problems)
    if key == "land_cover_top":
        return read_fractions(root, meta, "land_cover_top", problems).argmax(axis=1).astype(np.int64)
    return read_corine(root, meta, problems)

"""Measure a ben-ge tree against published statistics of BigEarthNet and ben-ge.

`python -m tests.calibration --root DIR` prints a table of quantity, measured value and target. The targets come from
the data-set statistics in `bengelib.bands` and from real patches; they are not fitted to the simulator.
"""

import argparse
import csv
import json
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import rasterio
from rasterio.warp import transform

from bengelib.bands import CORINE_19_FROM_43, LAND_COVER_NAMES, S1, S2
from bengelib.sim.simulate import HEADERS


class Row(NamedTuple):
    """One line of the calibration table; `low` and `high` bound what is accepted."""

    name: str
    value: float
    low: float
    high: float

    @property
    def passed(self) -> bool:
        return bool(self.low <= self.value <= self.high)


# Mean fractions of 168 real ben-ge patches.
FRACTIONS = {
    "tree_cover": 0.362, "shrubland": 0.033, "grassland": 0.229, "cropland": 0.148, "built-up": 0.030,
    "bare/sparse_vegetation": 0.004, "permanent_water_bodies": 0.180, "herbaceous_wetland": 0.014,
}  # fmt: skip


class Tree:
    """The tables of a tree, and its rasters by patch."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.meta = self.table("meta")
        fractions = {row["patch_id"]: row for row in self.table("esaworldcover")}
        self.fractions = np.array(
            [[float(fractions[row["patch_id"]][name]) for name in LAND_COVER_NAMES] for row in self.meta]
        )
        self.land = self.fractions[:, LAND_COVER_NAMES.index("permanent_water_bodies")] < 0.5

    def table(self, name: str) -> list[dict[str, str]]:
        with (self.root / f"{self.root.name}_{name}.csv").open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def band(self, row: dict[str, str], name: str) -> np.ndarray:
        if name in S1:
            path = self.root / "sentinel-1" / row["patch_id_s1"] / f"{row['patch_id_s1']}_{name}.tif"
        else:
            path = self.root / "sentinel-2" / row["patch_id"] / f"{row['patch_id']}_{name}.tif"
        return read(path)

    def land_cover(self, row: dict[str, str]) -> np.ndarray:
        return read(self.root / "esaworldcover" / f"{row['patch_id']}_esaworldcover.tif")

    def labels(self, row: dict[str, str]) -> list[str]:
        path = self.root / "sentinel-2" / row["patch_id"] / f"{row['patch_id']}_labels_metadata.json"
        return list(json.loads(path.read_text(encoding="utf-8"))["labels"])


def read(path: Path) -> np.ndarray:
    """One band of a GeoTIFF."""
    with rasterio.open(path) as dataset:
        return np.asarray(dataset.read(1))


def autocorrelation(image: np.ndarray, lag: int) -> float:
    """Correlation of an image with itself moved by `lag` pixels, mean of both directions."""
    pairs = ((image[:, lag:], image[:, :-lag]), (image[lag:], image[:-lag]))
    return float(np.mean([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairs]))


def number_of_looks(decibels: np.ndarray, size: int = 7) -> float:
    """Median of squared mean over variance of intensity, over windows of `size` pixels."""
    windows = np.lib.stride_tricks.sliding_window_view(10 ** (decibels.astype(float) / 10), (size, size))[::3, ::3]
    return float(np.median(windows.mean((2, 3)) ** 2 / windows.var((2, 3), ddof=1)))


def season(date: datetime) -> float:
    """The ben-ge season, written a second time from its definition."""
    days = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][date.month - 1]
    return abs(np.sin(np.pi * ((date.month - 1 + date.day / days) / 12 + 9 / 365)))


def measure_pixels(tree: Tree) -> list[Row]:
    """Means and standard deviations of every band over all pixels."""
    rows = []
    for name in (*S2, *S1):
        values = np.concatenate([tree.band(row, name).ravel() for row in tree.meta]).astype(np.float64)
        if name in S1:
            mean, std = S1[name]
            rows.append(Row(f"{name} mean [dB]", values.mean(), mean - 1, mean + 1))
            rows.append(Row(f"{name} std [dB]", values.std(), std - 1, std + 1))
        else:
            mean, std = S2[name].mean * 1e4, S2[name].std * 1e4
            rows.append(Row(f"{name} mean [DN]", values.mean(), 0.9 * mean, 1.1 * mean))
            rows.append(Row(f"{name} std [DN]", values.std(), 0.75 * std, 1.25 * std))
    return rows


def measure_land_cover(tree: Tree) -> list[Row]:
    """Composition of the patches."""
    means = tree.fractions.mean(0)
    rows = [
        Row(f"fraction of {name}", means[i], FRACTIONS.get(name, 0.0) - 0.05, FRACTIONS.get(name, 0.0) + 0.05)
        for i, name in enumerate(LAND_COVER_NAMES)
    ]
    rows.append(Row("patches with one class >= 95 %", float((tree.fractions.max(1) >= 0.95).mean()), 0.14, 0.30))
    rows.append(Row("classes over 5 % in a patch", float((tree.fractions > 0.05).sum(1).mean()), 1.93, 2.73))
    return rows


def measure_texture(tree: Tree) -> list[Row]:
    """Spatial statistics, medians over land patches."""
    values: dict[str, list[float]] = {}
    for row, land in zip(tree.meta, tree.land, strict=True):
        if not land:
            continue
        b08 = tree.band(row, "B08").astype(float)
        vv, vh = tree.band(row, "VV").astype(float), tree.band(row, "VH").astype(float)
        for lag in (1, 5, 20):
            values.setdefault(f"B08 autocorrelation, lag {lag}", []).append(autocorrelation(b08, lag))
        values.setdefault("VV-VH correlation", []).append(float(np.corrcoef(vv.ravel(), vh.ravel())[0, 1]))
        for name, image in (("VV", vv), ("VH", vh)):
            values.setdefault(f"{name} autocorrelation, lag 1", []).append(autocorrelation(image, 1))
            values.setdefault(f"{name} number of looks", []).append(number_of_looks(image))
    bounds = {"B08 autocorrelation, lag 1": (0.80, 0.96), "B08 autocorrelation, lag 5": (0.30, 0.66),
              "B08 autocorrelation, lag 20": (0.0, 0.31), "VV-VH correlation": (0.30, 0.75)}  # fmt: skip
    return [
        Row(name, float(np.median(v)), *bounds.get(name, (0.78, 0.95) if "lag 1" in name else (3.0, 6.0)))
        for name, v in values.items()
    ]


def measure_tables(tree: Tree) -> list[Row]:
    """Season, coordinates and leakage."""
    worst_season = worst_degrees = 0.0
    for row in tree.meta:
        for sensor in ("s1", "s2"):
            date = datetime.fromisoformat(row[f"timestamp_{sensor}"])
            worst_season = max(worst_season, abs(season(date) - float(row[f"season_{sensor}"])))
        path = tree.root / "sentinel-2" / row["patch_id"] / f"{row['patch_id']}_B01.tif"
        with rasterio.open(path) as dataset:
            left, top, crs = dataset.transform.c, dataset.transform.f, dataset.crs
        lon, lat = transform(crs, "EPSG:4326", [left + 600], [top - 600])
        worst_degrees = max(worst_degrees, abs(lon[0] - float(row["lon"])), abs(lat[0] - float(row["lat"])))
    members = {}
    for name in ("train", "validation", "test"):
        text = (tree.root / "splits" / f"{tree.root.name}_{name}.csv").read_text(encoding="utf-8")
        members[name] = set(text.split())
    tiles = {row["patch_id"]: row["patch_id_s1"].split("_")[5] for row in tree.meta}

    def spot(patch_id: str) -> tuple[str, str, int, int]:
        prefix, column, row = patch_id.rsplit("_", 2)
        return prefix, tiles[patch_id], int(column), int(row)

    train = {spot(p) for p in members["train"]}
    touching = 0
    for patch_id in members["test"]:
        prefix, tile, column, row_number = spot(patch_id)
        touching += any(
            (prefix, tile, column + dx, row_number + dy) in train
            for dx in (-1, 0, 1) for dy in (-1, 0, 1) if (dx, dy) != (0, 0)
        )  # fmt: skip
    return [
        Row("season against the formula", worst_season, 0, 1e-5),
        Row("lon/lat against the grid rule [degrees]", worst_degrees, 0, 1e-5),
        Row("test patches that touch a training patch", touching / max(1, len(members["test"])), 0.12, 0.22),
    ]


def describe(tree: Tree) -> None:
    """Print what has no target: climate zones, months, labels, weather."""
    n = len(tree.meta)
    print("climate zones", dict(sorted(Counter(int(r["climatezone"]) for r in tree.meta).items())))
    print("months", dict(sorted(Counter(r["timestamp_s2"][5:7] for r in tree.meta).items())))
    labels = Counter()
    count = 0
    for row in tree.meta:
        present = tree.labels(row)
        count += len({new for new, old in CORINE_19_FROM_43.items() if set(old) & set(present)})
        labels.update(new for new, old in CORINE_19_FROM_43.items() if set(old) & set(present))
    print("labels per patch", round(count / n, 2))
    print({name: round(k / n, 3) for name, k in labels.most_common()})
    weather = tree.table("era-5")
    for column in HEADERS["era-5"][2:]:
        values = np.array([float(r[column]) for r in weather])
        print(column, *np.round([values.min(), values.mean(), values.std(), values.max()], 1))


def report(rows: list[Row], markdown: bool = False) -> None:
    """Print rows; a mark shows what misses its target."""
    if markdown:
        print("| quantity | measured | accepted |\n|---|---|---|")
    for row in rows:
        if markdown:
            low = 0.0 if -1 < row.low < 0 else row.low
            missed = "" if row.passed else " **missed**"
            print(f"| {row.name} | {row.value:.4g}{missed} | {low:.4g} to {row.high:.4g} |")
            continue
        mark = "" if row.passed else "  <-- MISSED"
        print(f"{row.name:45s} {row.value:11.4f}   [{row.low:.3f}, {row.high:.3f}]{mark}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="a tree of 1000 patches of natural sampling")
    parser.add_argument("--balanced", type=Path, help="one of balanced sampling, for the pixel classifier")
    parser.add_argument("--real", type=Path, help="the tree of real patches, for the simulated-to-real test")
    parser.add_argument("--models", action="store_true", help="train the classifiers too (some ten minutes)")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    arguments = parser.parse_args()
    tree = Tree(arguments.root.resolve())
    rows = [*measure_tables(tree), *measure_land_cover(tree), *measure_pixels(tree), *measure_texture(tree)]
    if arguments.models or arguments.balanced or arguments.real:
        from tests import calibration_models as models

        if arguments.balanced:
            rows += models.measure_logistic_regression(Tree(arguments.balanced.resolve()))
        if arguments.models:
            rows += models.measure_climate_zone(tree)
        if arguments.real:
            rows += models.measure_sim_to_real(tree, arguments.real)
    report(rows, arguments.markdown)
    describe(tree)


if __name__ == "__main__":
    main()

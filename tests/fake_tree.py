"""Writes a tiny tree in the complete ben-ge layout in which every band holds its own numbers.

The pixel at (x, y) metres from the upper left corner of band k of patch i is known (see `s2_pixels` and the others),
so a swapped band, a swapped patch, a transposed or a mirrored image fails a test.
"""

import csv
import json
import warnings
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import from_origin
from rasterio.warp import transform

from bengelib.bands import CLIMATE_ZONES, CORINE_43, LAND_COVER, LAND_COVER_NAMES, S1_BANDS, S2, S2_BANDS
from bengelib.data.splits import study_split
from bengelib.identity import season

# One tile of each of the five folds (and its UTM origin), so that every split of every scheme has patches.
_TILES = (("34TCR", 300_000, 5_100_000), ("35VNJ", 499_980, 6_900_000), ("29SNB", 499_980, 4_200_000),
          ("33TWN", 499_980, 5_300_040), ("32TMT", 399_960, 5_300_040))  # fmt: skip
_SIDES = ("train", "test", "val", "train", "test", "train")  # of patch i % 6, under both the official and study scheme


def _ramp(size: int) -> np.ndarray:
    """Steps 0 to 300 that grow twice as fast along columns as along rows, (size, size) float64."""
    centres = (np.arange(size) + 0.5) / size
    return 200 * centres[None, :] + 100 * centres[:, None]


def s2_pixels(band: str, patch: int) -> np.ndarray:
    """Digital numbers of a band of patch number `patch`, (n, n) uint16."""
    base = 300 + 700 * S2_BANDS.index(band) + 10 * (patch % 20)
    return np.rint(base + _ramp(1200 // S2[band].resolution)).astype(np.uint16)


def s1_pixels(band: str, patch: int) -> np.ndarray:
    """Decibels of a polarisation, (120, 120) float32."""
    return (-10.0 - 8.0 * S1_BANDS.index(band) - 0.1 * (patch % 20) + _ramp(120) / 100).astype(np.float32)


def dem_pixels(patch: int) -> np.ndarray:
    """Metres, (120, 120) int16; some below sea level."""
    return np.rint(-100 + 50 * (patch % 20) + _ramp(120)).astype(np.int16)


def land_cover_pixels(patch: int) -> np.ndarray:
    """WorldCover codes, (120, 120) uint8: four classes in unequal quarters; patch 0 has ten pixels without data."""
    codes = [LAND_COVER[(patch + step) % len(LAND_COVER)].code for step in range(4)]
    pixels = np.full((120, 120), codes[0], dtype=np.uint8)
    pixels[:30, 60:], pixels[30:, 60:], pixels[80:, :60] = codes[1], codes[2], codes[3]
    if patch % 20 == 0:
        pixels[0, :10] = 0
    return pixels


def patch_ids(patch: int) -> tuple[str, str]:
    """Sentinel-2 and Sentinel-1 id of patch number `patch`; the study split puts it on side `patch % 6` of a list."""
    tile = _TILES[patch % len(_TILES)][0]
    date, time = (
        f"{_days(patch)[0]:%Y%m%d}",
        "94132" if patch % 3 == 0 else "101031",
    )  # real ids have five-digit times too
    for trial in range(91 * 91):
        column, row = divmod((patch * 37 + trial) % (91 * 91), 91)
        s2 = f"S2A_MSIL2A_{date}T{time}_{column}_{row}"
        if study_split([s2])[0] == _SIDES[patch % len(_SIDES)]:
            return s2, f"S1A_IW_GRDH_1SDV_{_days(patch)[1]:%Y%m%d}T165043_{tile}_{column}_{row}"
    raise AssertionError("no id found")


def _days(patch: int) -> tuple[date, date]:
    """Day of the Sentinel-2 and of the Sentinel-1 acquisition of patch number `patch`."""
    day = date(2017, 8, 13) + timedelta(days=patch % 15)
    return day, day + timedelta(days=3)


def seasons(patch: int) -> tuple[float, float]:
    """The season of the two acquisitions, which differ by more than 0.011."""
    first, second = _days(patch)
    return season(first), season(second)


def lonlat(patch: int) -> tuple[float, float]:
    """Longitude and latitude of the middle, five decimals."""
    tile, east, north = _TILES[patch % len(_TILES)]
    column, row = (int(part) for part in patch_ids(patch)[0].split("_")[-2:])
    middle = [east + 1200 * column + 600], [north - 1200 * row - 600]
    lon, lat = transform(f"EPSG:326{tile[:2]}", "EPSG:4326", *middle)
    return round(lon[0], 5), round(lat[0], 5)


def side(patch: int) -> str:
    """The side of patch number `patch` under the official and the study scheme."""
    return _SIDES[patch % len(_SIDES)]


def write_raster(
    path: Path, pixels: np.ndarray, origin: tuple[int, int] | None = None, zone: int = 34, **options: object
) -> None:
    """Write a single-band GeoTIFF that covers 1200 m from `origin` in UTM zone `zone` north.

    Without an origin it lies where the file lay that it replaces.
    """
    resolution = 1200 / pixels.shape[-1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        if origin is None:
            with rasterio.open(path) as old:
                origin, zone = (old.transform.c, old.transform.f), old.crs.to_epsg() % 100
        with rasterio.open(
            path, "w", driver="GTiff", height=pixels.shape[-2], width=pixels.shape[-1], count=1, dtype=pixels.dtype,
            crs=f"EPSG:326{zone}", transform=from_origin(*origin, resolution, resolution), **options,
        ) as raster:  # fmt: skip
            raster.write(pixels, 1)


def rewrite_raster(
    path: Path,
    change: Callable[[np.ndarray], np.ndarray] = lambda pixels: pixels,
    to: Path | None = None,
    **profile: object,
) -> None:
    """Write a raster anew with other pixels or another profile (`nodata`, `transform`, `crs`, `compress` ...)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as raster:
            pixels, old = change(raster.read(1)), raster.profile
        path.unlink()
        shape = {"height": pixels.shape[0], "width": pixels.shape[1], "dtype": pixels.dtype}
        with rasterio.open(to or path, "w", **{**old, **shape, **profile}) as raster:
            raster.write(pixels, 1)


def write_fake_tree(
    root: Path, patches: int = 6, *, first: int = 0, dem_folder: str = "dem", climate_in_meta: bool = True
) -> Path:
    """Write `patches` patches to the new folder `root`, whose name becomes the prefix of the CSVs.

    Args:
        root: the folder to write; created.
        patches: how many; six or more put patches into every split of every scheme.
        first: number of the first one.
        dem_folder: `"dem"` as in the subsets, or `"glo-30_dem"` as in the full set.
        climate_in_meta: whether the climate zone is a column of the meta CSV (subsets) or its own CSV (full set).
    """
    root = Path(root)
    name = root.name
    for folder in ("sentinel-1", "sentinel-2", dem_folder, "esaworldcover", "splits"):
        (root / folder).mkdir(parents=True)
    meta, weather, cover, zones = [], [], [], []
    split_files: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for patch in range(first, first + patches):
        s2_id, s1_id = patch_ids(patch)
        tile, east, north = _TILES[patch % len(_TILES)]
        column, row = (int(part) for part in s2_id.split("_")[-2:])
        origin, zone = (east + 1200 * column, north - 1200 * row), int(tile[:2])
        labels = [CORINE_43[patch % 43], CORINE_43[(patch + 11) % 43]]
        for sensor, patch_id in (("sentinel-2", s2_id), ("sentinel-1", s1_id)):
            folder = root / sensor / patch_id
            folder.mkdir()
            document = {"labels": labels, "projection": f"EPSG:326{zone}"}
            document["coordinates"] = {"ulx": origin[0], "uly": origin[1]}
            if sensor == "sentinel-1":
                document["corresponding_s2_patch"] = s2_id
            (folder / f"{patch_id}_labels_metadata.json").write_text(json.dumps(document), encoding="utf-8")
        for band in S2_BANDS:
            path = root / "sentinel-2" / s2_id / f"{s2_id}_{band}.tif"
            write_raster(path, s2_pixels(band, patch), origin, zone, nodata=0)
        for band in S1_BANDS:
            write_raster(root / "sentinel-1" / s1_id / f"{s1_id}_{band}.tif", s1_pixels(band, patch), origin, zone)
        write_raster(root / dem_folder / f"{s2_id}_dem.tif", dem_pixels(patch), origin, zone)
        codes = land_cover_pixels(patch)
        write_raster(root / "esaworldcover" / f"{s2_id}_esaworldcover.tif", codes, origin, zone)

        climate = CLIMATE_ZONES[patch % len(CLIMATE_ZONES)].code
        times = [f"{_days(patch)[0]} 10:10:31", f"{_days(patch)[1]} 16:50:43"]
        meta.append([s2_id, s1_id, *times, *seasons(patch), *lonlat(patch), climate])
        weather.append([s2_id, s1_id, 990.0 + patch % 20, 285.0, 286.5, 1.0, 1.5, -2.0, -2.5, 70.0, 65.0 + patch % 20])
        valid = codes[codes > 0]
        fractions = [float(np.mean(valid == entry.code)) for entry in LAND_COVER]
        cover.append([s2_id, f"{s2_id}_esaworldcover.tif", *fractions])
        zones.append([s2_id, climate])
        split_files["validation" if side(patch) == "val" else side(patch)].append(s2_id)

    header = ["patch_id", "patch_id_s1", "timestamp_s2", "timestamp_s1", "season_s2", "season_s1", "lon", "lat"]
    if climate_in_meta:
        write_csv(root / f"{name}_meta.csv", [*header, "climatezone"], meta)
    else:
        write_csv(root / f"{name}_meta.csv", header, [line[:-1] for line in meta])
        (root / "climatezones").mkdir()
        write_csv(root / "climatezones" / f"{name}_climatezones.csv", ["patch_id", "climatezone"], zones)
    columns = ["atmpressure_level", "temperature_s2", "temperature_s1", "wind-u_s2", "wind-u_s1"]
    columns += ["wind-v_s2", "wind-v_s1", "relhumidity_s2", "relhumidity_s1"]
    write_csv(root / f"{name}_era-5.csv", ["patch_id", "patch_id_s1", *columns], weather)
    write_csv(root / f"{name}_esaworldcover.csv", ["patch_id", "filename", *LAND_COVER_NAMES], cover)
    for part, ids in split_files.items():
        (root / "splits" / f"{name}_{part}.csv").write_text("".join(f"{patch_id}\n" for patch_id in ids))
    return root


def write_csv(path: Path, header: list[str], lines: list[list]) -> None:
    """Write a CSV with LF line ends."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(lines)

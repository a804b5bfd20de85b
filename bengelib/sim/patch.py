"""One patch of a simulated ben-ge: scene, sensors and weather combined, and the files written."""

from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter

from bengelib.bands import PATCH_SIZE, S2
from bengelib.identity import season
from bengelib.sim.geotiff import geotiff, projection, write_json
from bengelib.sim.labels import corine_labels, fractions
from bengelib.sim.optical import MARGIN, Conditions, green_cover, sentinel2
from bengelib.sim.places import (
    Place,
    acquisition_noise,
    climate_zone,
    corner,
    sentinel1_acquisition,
    sentinel2_acquisitions,
    snow_share,
    tile_pixels,
)
from bengelib.sim.procedural import key_of, uniform
from bengelib.sim.radar import RadarConditions, sentinel1
from bengelib.sim.scene import Kind, scene
from bengelib.sim.tiles import LANDSCAPES, TILES
from bengelib.sim.weather import pressure_level, weather


class Job(NamedTuple):
    """Parameters of one patch: its place, the covered window of its tile in pixels, its centre in degrees."""

    number: int
    place: Place
    window: tuple[float, float, float]
    lon: float
    lat: float


def _text(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S}"


def write_patch(root: Path, seed: int, job: Job) -> dict[str, Any]:
    """Simulate one patch and write its rasters and label files under `root`.

    Args:
        root: existing dataset folder with its modality folders.
        seed: of the simulation.
        job: the patch.

    Returns:
        `number` and the patch's rows of the three tables, as lists of values.
    """
    place = job.place
    tile = TILES[place.tile]
    optical_pass = sentinel2_acquisitions()[place.tile, place.date]
    radar_pass = sentinel1_acquisition(seed, place)
    patch_id = f"{optical_pass.prefix}_{place.column}_{place.row}"
    patch_id_s1 = f"{radar_pass.prefix}_{tile.name}_{place.column}_{place.row}"
    epsg, left, top = corner(place)

    x, y = tile_pixels(place, MARGIN)
    ground = scene(seed, place.tile, LANDSCAPES[tile.name], job.window, x, y)
    inner = slice(MARGIN, MARGIN + PATCH_SIZE)
    kind, label = ground.kind[inner, inner], ground.label[inner, inner]
    relief = float(ground.relief[inner, inner].mean())
    land_zone = climate_zone(seed, place, relief)
    zone = 0 if (label == 80).all() else land_zone

    # A surface model includes part of the height of trees and roofs.
    cover = np.where((kind >= Kind.CONIFER) & (kind <= Kind.EVERGREEN), 7.0, 0) + np.where(
        (kind >= Kind.CITY) & (kind <= Kind.INDUSTRY), 3.0, 0
    )  # fmt: skip
    surface = ground.height[inner, inner] + gaussian_filter(cover.astype(np.float32), 1.6)
    dem = np.rint(surface).astype(np.int16)
    mean_height = float(dem.mean())
    air_s2 = weather(seed, optical_pass.time, job.lon, job.lat, zone, mean_height)
    air_s1 = weather(seed, radar_pass.time, job.lon, job.lat, zone, mean_height)

    wetness = acquisition_noise(seed, place, 1)
    optical = Conditions(
        time=optical_pass.time, lon=job.lon, lat=job.lat, zone=land_zone,
        earliness=acquisition_noise(seed, place._replace(date=0), 6), vigour=acquisition_noise(seed, place, 2),
        moisture=wetness, haze=acquisition_noise(seed, place, 3),
        cloudy=max(0.0, 0.008 * (acquisition_noise(seed, place, 4) - 0.2)), snow=snow_share(place.tile, place.date),
    )  # fmt: skip
    radar = RadarConditions(
        ascending=radar_pass.ascending, moisture=0.7 * wetness + 0.5 * acquisition_noise(seed, place, 5),
        wind=float(np.hypot(air_s1["wind-u"], air_s1["wind-v"])), temperature=air_s1["temperature"],
    )  # fmt: skip
    green = green_cover(ground, optical)
    key, date_key = key_of(seed, place.tile, 90), key_of(seed, place.tile, 91, place.date)
    bands = sentinel2(ground, green, optical, key, date_key, x, y)
    backscatter = sentinel1(ground, green, radar, key, date_key, x, y)

    def save(path: Path, array: np.ndarray, resolution: int = 10) -> None:
        path.write_bytes(geotiff(array, epsg, left, top, resolution))

    folder = root / "sentinel-2" / patch_id
    folder_s1 = root / "sentinel-1" / patch_id_s1
    folder.mkdir(exist_ok=True)
    folder_s1.mkdir(exist_ok=True)
    for name, values in bands.items():
        save(folder / f"{patch_id}_{name}.tif", values, S2[name].resolution)
    for name, decibels in backscatter.items():
        save(folder_s1 / f"{patch_id_s1}_{name}.tif", decibels)
    save(root / "dem" / f"{patch_id}_dem.tif", dem)
    save(root / "esaworldcover" / f"{patch_id}_esaworldcover.tif", label)

    draw = float(uniform(np.array([key_of(seed, 60, place.tile, place.column, place.row)], np.uint32))[0])
    labels = corine_labels(kind, mean_height, land_zone, draw)
    right, bottom = left + PATCH_SIZE * 10, top - PATCH_SIZE * 10
    source = (
        f"{optical_pass.platform}_MSIL1C_{optical_pass.time:%Y%m%dT%H%M%S}_N0205_R{optical_pass.orbit:03d}"
        f"_T{tile.name}_{optical_pass.time:%Y%m%dT%H%M%S}.SAFE"
    )
    write_json(folder / f"{patch_id}_labels_metadata.json", {
        "labels": labels, "coordinates": {"ulx": left, "uly": top, "lrx": right, "lry": bottom},
        "projection": projection(epsg), "tile_source": source, "acquisition_date": _text(optical_pass.time),
    })  # fmt: skip
    end = radar_pass.time.replace(second=(radar_pass.time.second + 25) % 60)
    # BigEarthNet's own Sentinel-1 files spell the lower edge "lly".
    write_json(folder_s1 / f"{patch_id_s1}_labels_metadata.json", {
        "labels": labels, "coordinates": {"ulx": left, "uly": top, "lrx": right, "lly": bottom},
        "projection": projection(epsg), "corresponding_s2_patch": patch_id,
        "scene_source": f"{radar_pass.prefix}_{end:%Y%m%dT%H%M%S}_{radar_pass.orbit:06d}_SIMULA_TED0",
        "acquisition_time": f"{radar_pass.time:%Y-%m-%dT%H:%M:%S}",
    })  # fmt: skip

    shares = fractions(label)
    return {
        "number": job.number,
        "meta": [
            patch_id, patch_id_s1, _text(optical_pass.time), _text(radar_pass.time), season(optical_pass.time),
            season(radar_pass.time), job.lon, job.lat, zone,
        ],
        "esaworldcover": [patch_id, f"{patch_id}_esaworldcover.tif", *(round(v, 10) for v in shares.values())],
        "era-5": [
            patch_id, patch_id_s1, pressure_level(mean_height), air_s1["temperature"], air_s2["temperature"],
            air_s2["wind-u"], air_s1["wind-u"], air_s2["wind-v"], air_s1["wind-v"], air_s2["relhumidity"],
            air_s1["relhumidity"],
        ],
    }  # fmt: skip

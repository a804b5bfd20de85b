"""Writes packs of hundreds of thousands of patches in seconds: real tables, and rasters that are holes of a file."""

import json
import os
from pathlib import Path

import numpy as np
import torch

from bengelib.bands import CLIMATE_ZONES
from bengelib.data.batches import batches
from bengelib.data.index import PatchIndex
from bengelib.data.manifest import ARRAYS, CHUNK, DONE, SCHEMA, digest
from bengelib.data.packed import PackedBENGE
from bengelib.data.rasters import RASTER_KEYS
from bengelib.data.splits import FOLD_OF_TILE
from bengelib.devices import make_accelerator

PATCHES = 590_326
"""Those of BigEarthNet and of the full ben-ge."""
NAME = "ben-ge"
SPLITS = ("train", "train", "val", "test")
EVERY = 4096
"""Patches of which one has pixels."""
_HEADER = "patch_id,patch_id_s1,timestamp_s2,timestamp_s1,season_s2,season_s1,lon,lat,climatezone"


def write_sparse_pack(folder: Path, patches: int = PATCHES) -> Path:
    """Write a pack without its tree; all pixels of patch `n * EVERY` are `n + 1`, and those of the others are 0."""
    (folder / "splits").mkdir(parents=True)
    tiles = sorted(FOLD_OF_TILE)
    meta: list[str] = [_HEADER]
    splits: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    pairs = []
    for patch in range(patches):
        place, square = divmod(patch, 8100)
        day, tile = f"2017{place // 28 + 1:02}{place % 28 + 1:02}", tiles[place % len(tiles)]
        end = f"{square // 90}_{square % 90}"
        s2, s1 = f"S2A_MSIL2A_{day}T101031_{end}", f"S1A_IW_GRDH_1SDV_{day}T165043_{tile}_{end}"
        meta.append(f"{s2},{s1},2017-06-13 10:10:31,2017-06-14 16:50:43,0.5,0.5,{place % 30}.5,50.{square},26")
        splits[SPLITS[patch % 4]].append(s2)
        pairs.append((s2, s1))
    (folder / "meta.csv").write_text("\n".join(meta) + "\n")
    for split, names in splits.items():
        (folder / "splits" / f"{NAME}_{split}.csv").write_text("\n".join(names) + "\n")
    arrays = {}
    for name, (_, shape, dtype) in ARRAYS.items():
        array = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", dtype, (patches, *shape))  # a sparse file
        for number, row in enumerate(range(0, patches, EVERY)):
            array[row] = number + 1
        arrays[name] = {"shape": [patches, *shape], "dtype": dtype, "blake2b": ""}
    zones = np.full(patches, [each.code for each in CLIMATE_ZONES].index(26))
    np.save(folder / "climate_zone.npy", zones)
    arrays["climate_zone"] = {"shape": [patches], "dtype": zones.dtype.str, "blake2b": ""}
    np.save(folder / "sources.npy", np.full((patches, len(RASTER_KEYS), 2), -1))
    (folder / DONE).touch()
    ids = "\n".join([pair[place] for place in (0, 1) for pair in pairs])
    manifest = {"schema": SCHEMA, "name": NAME, "ids": digest(ids.encode()), "patches": patches, "folders": "",
                "modalities": [*RASTER_KEYS], "table_sources": {}, "arrays": arrays, "chunk": CHUNK,
                "skipped": {}}  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))
    PatchIndex(folder, NAME).write()
    return folder


def read_shares(folder: Path) -> None:
    """What each of two processes reads of the beginning of an epoch, and by how much its memory grows meanwhile."""
    accelerator = make_accelerator("no")
    before = resident()
    data = PackedBENGE(folder, "train")
    ids: list[str] = []
    for batch in batches(data, 16, accelerator, 0, torch.Generator().manual_seed(0)):
        ids += batch["patch_id"]
        if len(ids) == 64:
            break
    torch.save({"ids": ids, "grown": resident() - before}, folder / f"{os.environ['RANK']}.pt")


def resident() -> int:
    """Bytes of memory of this process, mapped pages among them (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

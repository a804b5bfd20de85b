"""Measures how fast data are read, method beside method in one run: `python -m bengelib bench loader --root DIR`.

Methods are timed in turn, round after round, so that whatever else the machine does falls on all of them; the table
gives the median and the range over the rounds. Torch runs on one thread, because several wait for each other as soon as
anything else runs, and no worker processes are used.
"""

import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from copy import copy
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rasterio
import torch
from safetensors.torch import load, save
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import default_collate
from tqdm import tqdm

from bengelib.arguments import whole_number
from bengelib.bands import S1_BANDS, S2, S2_BANDS
from bengelib.data.dataset import BENGE
from bengelib.data.decode import decode, one_thread
from bengelib.data.described import DescribedDataset
from bengelib.data.description import is_described
from bengelib.data.packed import PackedBENGE
from bengelib.data.packing import pack
from bengelib.data.samples import read_samples
from bengelib.data.stores import FileStore
from bengelib.errors import ArgumentError, DescriptionError
from bengelib.files import tree_folder, work_folder
from bengelib.transforms import Batch
from bengelib.transforms import statistics as statistics_of

Reader = Callable[[Sequence[int]], Any]
"""Reads the patches with these numbers and gives them as one batch."""


@dataclass
class Method:
    """A way of reading, and what was measured of it: seconds on the clock and of the CPU per sample, by round."""

    name: str
    read: Reader
    bytes_per_sample: int
    samples: int
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Median samples per second."""
        return 1 / statistics.median(self.wall)


def read_band_by_band(root: Path, meta: pd.DataFrame, patch_id: str) -> dict[str, Any]:
    """One sample as tutorials on these data read it: a GeoTIFF after the other, each opened, read and upsampled.

    The baseline of the benchmark; nothing else uses it.
    """
    row = meta[meta["patch_id"] == patch_id].iloc[0]
    bands = []
    for band in S2_BANDS:
        with rasterio.open(root / "sentinel-2" / patch_id / f"{patch_id}_{band}.tif") as raster:
            pixels = raster.read(1).astype(np.float32)
        image = torch.from_numpy(pixels)[None, None]
        if S2[band].resolution != 10:
            image = F.interpolate(image, scale_factor=S2[band].resolution // 10, mode="bilinear", align_corners=False)
        bands.append(image[0, 0] / 10_000)
    s1_id = row["patch_id_s1"]
    polarisations = []
    for band in S1_BANDS:
        with rasterio.open(root / "sentinel-1" / s1_id / f"{s1_id}_{band}.tif") as raster:
            polarisations.append(torch.from_numpy(raster.read(1)))
    return {"s2": torch.stack(bands), "s1": torch.stack(polarisations), "climate_zone": int(row["climatezone"])}


def bench_loader(root: str | Path, *, batch_size: int = 32, rounds: int = 7, progress: bool = True) -> pd.DataFrame:
    """Time every way of reading Sentinel-2, Sentinel-1 and the climate zone of the patches of a tree.

    Each method reads the same random order of patches in batches: all of them once a round, or the first 64 of them
    where it takes milliseconds per sample. The peers litdata and LMDB with safetensors are measured where they are
    installed; they get the same stored integers as the pack. Of a dataset with a `dataset.toml`, all modalities and
    targets are read, from the files and from the pack.

    Args:
        root: a ben-ge tree or a folder with a `dataset.toml`; packed first if it is not.
        batch_size: samples per batch.
        rounds: how often each method is timed.
        progress: whether to show progress bars.

    Returns:
        One row per method: `samples/s` (median), `lowest` and `highest` of the rounds, `CPU ms/sample` (median),
        `bytes/sample` of what is handed over, `x band by band` (of a described dataset `x files`), and `of memory copy`
        (rate over the rate at which memory copies as many bytes).

    Raises:
        DescriptionError: a described dataset has all its values in the table, so that there is nothing to read.
    """
    rounds, batch_size, root = whole_number("rounds", rounds), whole_number("batch_size", batch_size), tree_folder(root)
    described = is_described(root)
    with one_thread(), ExitStack() as stack:
        pack(root, progress=progress)
        methods = _described(root, batch_size) if described else _methods(root, batch_size, stack)
        _measure(methods, batch_size, rounds, progress)
    base = methods[0].rate
    copies = next(method for method in methods if method.name == COPY)
    copied_bytes_per_second = copies.rate * copies.bytes_per_sample
    return pd.DataFrame(
        {
            "method": [m.name for m in methods],
            "samples/s": [m.rate for m in methods],
            "lowest": [1 / max(m.wall) for m in methods],
            "highest": [1 / min(m.wall) for m in methods],
            "CPU ms/sample": [1000 * statistics.median(m.cpu) for m in methods],
            "bytes/sample": [m.bytes_per_sample for m in methods],
            "x files" if described else "x band by band": [m.rate / base for m in methods],
            "of memory copy": [m.rate * m.bytes_per_sample / copied_bytes_per_second for m in methods],
        }
    ).set_index("method")


COPY = "memory copy of the same bytes"


def refuse_described(root: str | Path) -> None:
    """Refuse a dataset with a `dataset.toml` where Sentinel-2 of ben-ge is timed.

    Raises:
        ArgumentError: naming it, and the benchmark that takes it.
    """
    if is_described(root):
        raise ArgumentError(
            f"{root} has a dataset.toml, and this benchmark reads Sentinel-2 in the layout of ben-ge alone; `bench "
            "loader` measures how fast described data are read, or leave --root out"
        )


def _described(root: Path, batch_size: int) -> list[Method]:
    """Methods measured on a described dataset, the files first."""
    packed = DescribedDataset(root, progress=False)
    if not packed.store.layouts:
        raise DescriptionError(
            f"{packed.description.path} has all values in its table, which is read once, when opened"
        )
    files = copy(packed)
    files.store = FileStore(packed.description, read_samples(packed.description))
    stored = {key: value for key, value in packed.read_batch(range(len(packed))).items() if isinstance(value, Tensor)}
    small, large, count = _size(packed.read_batch([0])), _size(packed.decode(packed.read_batch([0]))), len(packed)
    return [
        Method("files, as stored", files.read_batch, small, min(256, count)),
        Method("pack, as stored", packed.read_batch, small, count),
        Method(COPY, _copying(stored, batch_size), small, count),
        Method("pack, decoded on the CPU", lambda i: packed.decode(packed.read_batch(i)), large, count),
    ]


def _copying(stored: Mapping[str, Tensor], batch_size: int) -> Reader:
    """A copy of as many samples as are asked for, of those that lie in memory, one batch after the other."""
    count = len(next(iter(stored.values())))
    buffers = {key: torch.empty_like(value[:batch_size]) for key, value in stored.items()}
    place = 0

    def read(indices: Sequence[int]) -> None:
        nonlocal place
        place = place if place + len(indices) <= count else 0
        for key, values in stored.items():
            buffers[key][: len(indices)].copy_(values[place : place + len(indices)])
        place += len(indices)

    return read


def _methods(root: Path, batch_size: int, stack: ExitStack) -> list[Method]:
    """Methods measured on a ben-ge tree, the baseline first."""
    tree, packed = BENGE(root), PackedBENGE(root)
    ids = tree.patch_ids
    everything = packed.read_batch(range(len(packed)))
    stored = {key: value for key, value in everything.items() if isinstance(value, torch.Tensor)}
    small = _size(packed.read_batch([0]))
    large = _size(decode(packed.read_batch([0]), S2_BANDS))

    def band_by_band(indices: Sequence[int]) -> Any:
        return default_collate([read_band_by_band(root, tree.meta, ids[index]) for index in indices])

    def from_tree(indices: Sequence[int]) -> Any:
        return default_collate(list(tree.__getitems__(indices)))

    def to_floats(indices: Sequence[int]) -> Batch:
        return decode(packed.read_batch(indices), packed.s2_bands, packed.s1_bands, normalized=True)

    slow, count = min(64, len(ids)), len(ids)
    methods = [
        Method("GeoTIFF, band by band (tutorials)", band_by_band, large, slow),
        Method("BENGE (GeoTIFF)", from_tree, large, min(256, count)),
        Method("PackedBENGE, integers", packed.read_batch, small, count),
        Method(COPY, _copying(stored, batch_size), small, count),
        Method("PackedBENGE, decoded and normalised on the CPU", to_floats, large, count),
    ]
    folder = stack.enter_context(work_folder(Path(tempfile.gettempdir(), "bengelib-bench")))
    methods.append(Method("(idea) 10 m uint16, normalised on the CPU", _full_resolution(packed, folder), large, count))
    if _installed("lmdb"):
        by_band, grouped = (_lmdb(packed, folder / f"lmdb-{g}", stack, grouped=g) for g in (False, True))
        methods += [
            Method("LMDB + safetensors, a tensor a band, upsampled", lambda i: _upsampled(by_band(i)), large, count),
            Method("LMDB + safetensors, a tensor a band", lambda i: default_collate(by_band(i)), small, count),
            Method("LMDB + safetensors, a tensor a resolution", lambda i: default_collate(grouped(i)), small, count),
        ]
    if _installed("litdata"):
        for name, shuffle in (("shuffled", True), ("in the order of the disk", False)):
            reader = _litdata(packed, folder / name.replace(" ", "-"), batch_size, shuffle)
            methods.append(Method(f"litdata, {name}", reader, small, count))
    return methods


def _measure(methods: Sequence[Method], batch_size: int, rounds: int, progress: bool) -> None:
    """Time each method once a round, after a round that does not count and warms caches."""
    generator = np.random.default_rng(0)
    gc.collect()
    gc.freeze()  # what is there already need not be looked through again before each method
    try:
        with tqdm(total=(rounds + 1) * len(methods), desc="measuring", unit="run", disable=not progress) as bar:
            for number in range(rounds + 1):
                for method in methods:
                    order = generator.permutation(max(m.samples for m in methods))[: method.samples].tolist()
                    gc.collect()
                    gc.disable()
                    wall, cpu = time.perf_counter(), time.process_time()
                    for start in range(0, len(order), batch_size):
                        method.read(order[start : start + batch_size])
                    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
                    gc.enable()
                    if number > 0:
                        method.wall.append(wall / len(order))
                        method.cpu.append(cpu / len(order))
                    bar.update()
    finally:
        gc.enable()
        gc.unfreeze()


def _full_resolution(packed: PackedBENGE, folder: Path) -> Reader:
    """A layout that the package does not have: all bands upsampled beforehand and rounded to integers at 10 m."""
    path = folder / "s2.npy"
    folder.mkdir(exist_ok=True)
    array = np.lib.format.open_memmap(path, "w+", dtype="<u2", shape=(len(packed), len(S2_BANDS), 120, 120))
    for start in range(0, len(packed), 64):
        batch = packed.read_batch(range(start, min(start + 64, len(packed))))
        array[start : start + 64] = (decode(batch, S2_BANDS)["s2"] * 10_000).round().numpy()
    array.flush()
    images = np.load(path, mmap_mode="r").view(np.ndarray)
    rest = PackedBENGE(packed.root, modalities=("s1",))
    scale = torch.tensor([[[[10_000 * S2[band].std]] for band in S2_BANDS]])[0]  # (12, 1, 1)
    shift = torch.tensor([[[[10_000 * S2[band].mean]] for band in S2_BANDS]])[0]

    def read(indices: Sequence[int]) -> Batch:
        batch = decode(rest.read_batch(indices), normalized=True)
        batch["s2"] = torch.from_numpy(images[np.asarray(indices)].astype(np.float32)).sub_(shift).div_(scale)
        return batch

    return read


def _lmdb(
    packed: PackedBENGE, folder: Path, stack: ExitStack, grouped: bool
) -> Callable[[Sequence[int]], list[dict[str, torch.Tensor]]]:
    """The stored integers of a patch as one safetensors record in an LMDB; what is returned reads some of them.

    With a tensor a band, as the BigEarthNet tool rico-hdl writes it, or, `grouped`, with those of a resolution in one.
    """
    lmdb = import_module("lmdb")
    size = 3 * len(packed) * _size(packed.read_batch([0])) + 2**24
    environment = stack.enter_context(lmdb.open(str(folder), map_size=size, readahead=False))
    with environment.begin(write=True) as transaction:
        for index in range(len(packed)):
            record: dict[str, torch.Tensor] = {}
            for key, values in packed.read_batch([index]).items():
                if isinstance(values, torch.Tensor):
                    parts = {key: values[0]} if grouped or values.ndim < 4 else dict(_named(key, values[0]))
                    record |= {name: part.contiguous() for name, part in parts.items()}
            transaction.put(str(index).encode(), save(record))

    def read(indices: Sequence[int]) -> list[dict[str, torch.Tensor]]:
        with environment.begin() as transaction:
            return [load(transaction.get(str(index).encode())) for index in indices]

    return read


def _upsampled(records: list[dict[str, torch.Tensor]]) -> Any:
    """A batch of reflectances at 10 m, as training code makes it of such records, a sample and a band at a time."""
    samples = []
    for record in records:
        bands = []
        for band in S2_BANDS:
            same = [name for name in S2_BANDS if S2[name].resolution == S2[band].resolution]
            image = record[f"s2_{S2[band].resolution}m_{same.index(band)}"].to(torch.float32)[None, None]
            if image.shape[-1] != 120:
                image = F.interpolate(image, size=(120, 120), mode="bilinear", align_corners=False)
            bands.append(image[0, 0] / 10_000)
        s1 = torch.stack([record[f"s1_{place}"] for place in range(2)]).to(torch.float32)
        samples.append({"s2": torch.stack(bands), "s1": s1, "climate_zone": record["climate_zone"]})
    return default_collate(samples)


def _named(key: str, bands: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """The bands of one stored array with a name each."""
    return ((f"{key}_{number}", band) for number, band in enumerate(bands))


def _litdata(packed: PackedBENGE, folder: Path, batch_size: int, shuffle: bool) -> Reader:
    """The stored integers of a patch as one sample of a litdata dataset on the local disk, read in its own order."""
    litdata = import_module("litdata")
    cache = import_module("litdata.streaming").Cache(str(folder), chunk_bytes="64MB")
    for index in range(len(packed)):
        batch = packed.read_batch([index])
        cache[index] = {key: value[0].numpy() for key, value in batch.items() if isinstance(value, torch.Tensor)}
    cache.done()
    cache.merge()
    streaming = litdata.StreamingDataset(str(folder), shuffle=shuffle)
    loader = litdata.StreamingDataLoader(streaming, batch_size=batch_size)
    batches = iter(loader)

    def read(indices: Sequence[int]) -> Any:
        nonlocal batches
        try:
            return next(batches)
        except StopIteration:
            batches = iter(loader)
            return next(batches)

    return read


def _installed(module: str) -> bool:
    return find_spec(module) is not None


def _size(batch: Batch) -> int:
    """Bytes of the tensors of a batch."""
    return sum(value.numel() * value.element_size() for value in batch.values() if isinstance(value, torch.Tensor))


def describe(table: pd.DataFrame) -> str:
    """The table as text, after a line on the machine and the versions, followed by the lines in `attrs["notes"]`."""
    from bengelib import __version__

    machine = torch.backends.cpu.get_cpu_capability()
    line = f"bengelib {__version__}, torch {torch.__version__} ({machine}), one thread"
    formats = {
        "samples/s": "{:,.0f}",
        "lowest": "{:,.0f}",
        "highest": "{:,.0f}",
        "CPU ms/sample": "{:.3f}",
        "bytes/sample": "{:,.0f}",
        "x band by band": "{:,.1f}",
        "x files": "{:,.1f}",
        "ms/100 samples": "{:,.0f}",
        "of 10 minutes": "{:.2%}",
        "in memory": "{:,.0f}",
        "from the pack": "{:,.0f}",
        "waits/step": "{:,.1f}",
        "GB": "{:,.1f}",
        "of memory copy": "{:.0%}",
        "ms/step": "{:,.0f}",
        "of the plain loop": "{:.3f}",
        "ms/batch": "{:,.0f}",
        "of the step": "{:.0%}",
    }
    text = table.reset_index()
    for name in text.columns[1:]:
        text[name] = ["-" if value != value else formats.get(name, "{:,.2f}").format(value) for value in text[name]]
    rows = [list(text.columns), *text.to_numpy().tolist()]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| "
        + " | ".join(
            f"{cell:<{w}}" if not i else f"{cell:>{w}}" for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        + " |"
        for row in rows
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([line, "", lines[0], rule, *lines[1:], *table.attrs.get("notes", ())])


def noise_patches(count: int) -> torch.Tensor:
    """Sentinel-2 patches (count, 12, 120, 120) of nothing but noise, with the mean and spread of each band."""
    torch.manual_seed(0)
    mean, std = (moment.view(-1, 1, 1) for moment in statistics_of("s2", S2_BANDS))
    return mean + std * torch.randn(count, len(S2_BANDS), 120, 120)


def time_in_turn(
    jobs: Mapping[str, Callable[[], object]], rounds: int, device: torch.device, progress: bool
) -> dict[str, list[float]]:
    """Seconds that each job takes on `device` in each round, after a round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    with one_thread():
        for turn in tqdm(range(rounds + 1), desc="measuring", unit="round", disable=not progress):
            for name, job in jobs.items():
                start = time.perf_counter()
                job()
                if device.type == "cuda":
                    torch.cuda.synchronize()
                if turn:
                    seconds[name].append(time.perf_counter() - start)
    return seconds


def compare(seconds: Mapping[str, Sequence[float]], base: str) -> dict[str, list[float]]:
    """The time of each job over that of the job `base` in the same round."""
    return {name: [a / b for a, b in zip(each, seconds[base], strict=True)] for name, each in seconds.items()}


def tabulate(
    seconds: Mapping[str, Sequence[float]], unit: str, ratios: Mapping[str, Sequence[float]], ratio: str, title: str
) -> pd.DataFrame:
    """One row per job: its median time, in a column `unit` of milliseconds, the range, and the median of its ratios."""
    return pd.DataFrame(
        {
            unit: {name: 1000 * statistics.median(each) for name, each in seconds.items()},
            "lowest": {name: 1000 * min(each) for name, each in seconds.items()},
            "highest": {name: 1000 * max(each) for name, each in seconds.items()},
            ratio: {name: statistics.median(each) for name, each in ratios.items()},
        }
    ).rename_axis(title)

"""Measures how fast `pack` is for described data, beside ben-ge: `python -m bengelib bench pack`.

Both pack the same simulated files of Sentinel-2 and Sentinel-1: once as a tree of ben-ge, once by a `dataset.toml`.
They take turns, so that whatever else the machine does falls on both.
"""

import shutil
import tempfile
import time
import warnings
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from bengelib.arguments import whole_number
from bengelib.bands import S1_BANDS, S2_BANDS
from bengelib.cli.bench import compare, tabulate
from bengelib.data.decode import one_thread
from bengelib.data.description import FILE_NAME
from bengelib.data.packing import pack
from bengelib.errors import DataWarning
from bengelib.files import discard, work_folder
from bengelib.sim.simulate import simulate

_TREE, _DESCRIBED = "a tree of ben-ge", "the same files, described"

_DESCRIPTION = f"""
[samples]
table = "ben-ge-sim_meta.csv"
id = "patch_id"

[modalities.s2]
kind = "image"
files = "sentinel-2/{{id}}/{{id}}_{{band}}.tif"
bands = {list(S2_BANDS)}
unit = "reflectance"
scale = 0.0001

[modalities.s1]
kind = "image"
files = "sentinel-1/{{patch_id_s1}}/{{patch_id_s1}}_{{band}}.tif"
bands = {list(S1_BANDS)}
unit = "dB"
"""


def bench_pack(*, patches: int = 64, rounds: int = 7, progress: bool = True) -> pd.DataFrame:
    """Time `pack` in one process for files of ben-ge and for the same files with a `dataset.toml`.

    Args:
        patches: simulated patches to pack, 14 files each.
        rounds: how often each is packed; a round more, which does not count, warms caches.
        progress: whether to show progress bars.

    Returns:
        A row each: `ms/100 samples`, the median of the processor time; `lowest`, `highest`, and `of ben-ge`, the median
        over the rounds of the ratio to ben-ge in the same round. The described pack holds Sentinel-1 in the 32 bits of
        the files, that of ben-ge in 16. Statistics, which ben-ge brings along, are measured in the first round alone.
    """
    rounds, patches = whole_number("rounds", rounds), whole_number("patches", patches)
    seconds: dict[str, list[float]] = {_TREE: [], _DESCRIBED: []}
    with one_thread(), warnings.catch_warnings(), work_folder(Path(tempfile.gettempdir(), "bengelib-bench")) as folder:
        warnings.simplefilter("ignore", DataWarning)  # the land cover and elevation that are taken away
        tree = simulate(folder / "tree" / "ben-ge-sim", patches, progress=progress)
        for name in ("dem", "esaworldcover"):
            shutil.rmtree(tree / name)
        described = Path(shutil.copytree(tree, folder / "described"))
        (described / FILE_NAME).write_text(_DESCRIPTION, encoding="utf-8")
        for turn in tqdm(range(rounds + 1), desc="measuring", unit="round", disable=not progress):
            for name, root in ((_TREE, tree), (_DESCRIBED, described)):
                discard(root / "packed")
                start = time.process_time()
                pack(root, processes=1, progress=False)
                if turn:
                    seconds[name].append(100 * (time.process_time() - start) / patches)
    return tabulate(seconds, "ms/100 samples", compare(seconds, _TREE), "of ben-ge", "packed")

"""Studies: many training runs, one per core, each stored in a file and never repeated.

On a machine with several cores it is faster, and less sensitive to other programs, to train one run on each core than
to divide every run among all of them. One thread per run also makes results independent of the number of cores, though
not of their kind.
"""

import argparse
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bengelib.arguments import whole_number
from bengelib.cores import usable_cores
from bengelib.course.results import CHOSEN, Run, fingerprint, run_path, study_dataset, write_results
from bengelib.data.loading import SIMULATED
from bengelib.files import replacing


def keep(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write named arrays to `path` (`.npz`) atomically, so that an interrupted run leaves no partial file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        np.savez(partial, **arrays)  # type: ignore[arg-type]


def carry_out_all(
    runs: Sequence[Run], carry_out: Callable[[Any], dict[str, np.ndarray]], folder: Path, workers: int | None = None
) -> None:
    """Carry out the runs whose file is missing in `folder`, `workers` at a time, each on one thread.

    Args:
        runs: in the order in which they start.
        carry_out: takes a run and returns named arrays; a function of a module, since other processes call it.
        folder: of the files.
        workers: number of processes; None means one per usable core, or a single one if there is a GPU.

    Raises:
        Exception: the error of the first run that fails; earlier runs are kept.
    """
    missing = [run for run in runs if not run_path(folder, run).is_file()]
    if workers is not None:
        whole_number("workers", workers)
    workers = workers or (1 if torch.cuda.is_available() else usable_cores())
    started = time.monotonic()
    context = multiprocessing.get_context("spawn")
    with _one_thread_each(), ProcessPoolExecutor(workers, context, initializer=_one_thread) as pool:
        waiting = {pool.submit(_timed, carry_out, run, run_path(folder, run)): run for run in missing}
        try:
            for number, done in enumerate(as_completed(waiting), start=1):
                run, seconds = waiting[done], done.result()
                spent = time.monotonic() - started
                left = spent / number * (len(missing) - number)
                print(
                    f"{number}/{len(missing)} {run.experiment}: {run.model}, seed {run.seed}, {seconds:.0f} s; "
                    f"{spent / 60:.1f} min, about {left / 60:.0f} to go",
                    flush=True,
                )
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Limit linear algebra of processes that start meanwhile to one thread: several on one core wait for each other."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


def _one_thread() -> None:
    torch.set_num_threads(1)


def _timed(carry_out: Callable[[Any], dict[str, np.ndarray]], run: Run, path: Path) -> float:
    start = time.monotonic()
    keep(path, carry_out(run))
    return time.monotonic() - start


def command_line(
    description: str,
    runs: Sequence[Run],
    carry_out: Callable[[Any], dict[str, np.ndarray]],
    tabulate: Callable[[list[Any]], list[dict[str, Any]]],
    folder: Path,
    results: Path,
) -> None:
    """Run a study from the command line: carry out missing runs, then write the table.

    With `--dataset` the script begins again, for its runs were listed when it was read; their table is written beside
    `results`, with the name of the dataset in its own.

    Args:
        description: shown by `--help`.
        runs: the configurations.
        carry_out: see `carry_out_all`.
        tabulate: makes the rows of the table from the runs.
        folder: folder of the runs.
        results: path of the table.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="print the configurations and their state")
    parser.add_argument("--table", action="store_true", help="only write results.csv from finished runs")
    parser.add_argument("--only", default="", help="only this experiment; no table")
    workers = "runs at a time, each on one thread (default: usable cores)"
    parser.add_argument("--workers", type=int, default=None, help=workers)
    of = "ben-ge-800, ben-ge-8k or another that load takes, with a table of its own (default: %(default)s)"
    parser.add_argument("--dataset", default=study_dataset(), help=of)
    arguments = parser.parse_args()
    if arguments.dataset != study_dataset():
        again = subprocess.run([sys.executable, *sys.argv], env={**os.environ, CHOSEN: arguments.dataset}, check=False)
        raise SystemExit(again.returncode)
    if arguments.dataset != SIMULATED:
        results = results.with_name(f"{results.stem}-{Path(arguments.dataset).name}{results.suffix}")
    if arguments.list:
        for run in runs:
            print("done" if run_path(folder, run).is_file() else "    ", fingerprint(run), asdict(run))
        return
    started = time.monotonic()
    if not arguments.table:
        wanted = [run for run in runs if not arguments.only or run.experiment == arguments.only]
        carry_out_all(wanted, carry_out, folder, arguments.workers)
    if not arguments.only:
        write_results(results, tabulate(list(runs)))
        print(f"wrote {os.path.relpath(results)} after {(time.monotonic() - started) / 60:.1f} min")

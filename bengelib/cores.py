"""Compute resources: processor cores, threads and worker processes, and the name of the device.

A container sees all cores of its host but may use only some of them. Libraries start a thread for each core that they
see, and these threads then wait for each other: a training step takes several times as long.
"""

import math
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any


def usable_cores() -> int:
    """Number of cores that this process may use, at least 1.

    Respects the affinity of the process and the quota of its container (through joblib), and `CPU_LIMIT`, a number of
    cores such as `1.0`, which JupyterHub and therefore MyBinder sets.
    """
    from joblib import cpu_count  # comes with scikit-learn; takes a while to import

    cores = int(cpu_count())
    try:
        limit = float(os.environ.get("CPU_LIMIT", ""))
    except ValueError:  # not set, or not by JupyterHub
        return cores
    return max(1, min(cores, int(limit))) if math.isfinite(limit) and limit > 0 else cores


def limit_threads() -> int:
    """Limit torch, NumPy and scikit-learn to the usable cores, for the rest of this process; return their number.

    A smaller number of threads, set with `OMP_NUM_THREADS` or `torch.set_num_threads`, is left alone.
    """
    import torch
    from threadpoolctl import ThreadpoolController  # comes with scikit-learn as well

    cores = usable_cores()
    if torch.get_num_threads() > cores:
        torch.set_num_threads(cores)
    for pool in ThreadpoolController().lib_controllers:
        if pool.num_threads > cores:
            pool.set_num_threads(cores)
    return min(cores, torch.get_num_threads())


def in_processes(function: Callable[..., Any], jobs: Iterable[tuple[Any, ...]], processes: int) -> Iterator[Any]:
    """Results of `function(*job)` for every job, in order of completion, from joblib's worker processes.

    Unlike `multiprocessing`, joblib needs no `__main__` guard in the caller's script. Each worker has one thread;
    workers take jobs from `jobs` as they become free.

    Args:
        function: defined at the top level of a module, if there are several processes.
        jobs: arguments of the function.
        processes: number of workers; 1 computes in the calling process.

    Raises:
        BrokenProcessPool: a worker could not start, or died.
        Exception: any error of the function.
    """
    from joblib import Parallel, delayed, parallel_config

    with parallel_config("loky", inner_max_num_threads=1), _children_ignore_interruptions():
        results = Parallel(processes, return_as="generator_unordered")(delayed(function)(*job) for job in jobs)
    try:
        for result in results:  # noqa: UP028 (which would close it where the warning below cannot be caught)
            yield result
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about unfinished jobs whose results are no longer wanted
            results.close()
        if processes > 1:  # idle workers would stay for minutes and keep their memory
            from joblib.externals.loky import get_reusable_executor

            get_reusable_executor().shutdown()


@contextmanager
def _children_ignore_interruptions() -> Iterator[None]:
    """Leave Ctrl-C to this process: each worker that starts meanwhile would print a traceback of its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def device_name() -> str:
    """Name of the training device: the GPU's name, its kind where it has none (`MPS`), or `CPU`."""
    import torch

    device = torch.accelerator.current_accelerator(check_available=True)
    if device is None:
        return "CPU"
    name_of = getattr(torch.get_device_module(device), "get_device_name", None)
    return str(name_of()) if name_of else device.type.upper()

"""What there is to compute on: processor cores, threads that do not exceed them, and the name of the device.

A container sees all cores of its host and may use a fraction of them. Libraries start a thread for each core that they
see, and these threads then wait for each other: a step of training takes several times as long.
"""

import math
import os


def usable_cores() -> int:
    """Cores that this process may use, at least 1.

    Heeds the affinity of the process and the quota of its container (through joblib), and `CPU_LIMIT`, a number of
    cores such as `1.0`, which JupyterHub and so MyBinder sets.
    """
    from joblib import cpu_count  # comes with scikit-learn; takes a while to import

    cores = int(cpu_count())
    try:
        limit = float(os.environ.get("CPU_LIMIT", ""))
    except ValueError:  # not set, or not by JupyterHub
        return cores
    return max(1, min(cores, int(limit))) if math.isfinite(limit) and limit > 0 else cores


def limit_threads() -> int:
    """Keep torch, NumPy and scikit-learn to the usable cores, for the rest of this process; returns their number.

    Fewer threads than that, asked for with `OMP_NUM_THREADS` or `torch.set_num_threads`, stay as they are.
    """
    import torch
    from threadpoolctl import ThreadpoolController  # of scikit-learn's installation as well

    cores = usable_cores()
    if torch.get_num_threads() > cores:
        torch.set_num_threads(cores)
    for pool in ThreadpoolController().lib_controllers:
        if pool.num_threads > cores:
            pool.set_num_threads(cores)
    return min(cores, torch.get_num_threads())


def device_name() -> str:
    """What models are trained on: the GPU by its name, or by its kind where it has none (`MPS`), or else `CPU`."""
    import torch

    device = torch.accelerator.current_accelerator(check_available=True)
    if device is None:
        return "CPU"
    name_of = getattr(torch.get_device_module(device), "get_device_name", None)
    return str(name_of()) if name_of else device.type.upper()

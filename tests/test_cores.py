import os
import subprocess
import sys

import joblib
import pytest

from bengelib.cores import usable_cores


@pytest.mark.parametrize(
    ("limit", "seen", "cores"),
    [
        (None, 8, 8),
        ("1.0", 8, 1),
        ("2.5", 8, 2),
        ("0.5", 8, 1),  # a share of one core is still one thread
        ("16", 8, 8),
        ("", 8, 8),
        ("0", 8, 8),
        ("-1", 8, 8),
        ("nan", 8, 8),
        ("inf", 8, 8),
        ("unlimited", 8, 8),
    ],
)
def test_cores_are_those_that_one_may_use(limit, seen, cores, monkeypatch):
    monkeypatch.setattr(joblib, "cpu_count", lambda: seen)
    monkeypatch.delenv("CPU_LIMIT", raising=False)
    if limit is not None:
        monkeypatch.setenv("CPU_LIMIT", limit)
    assert usable_cores() == cores


def threads(**environment):
    """Threads of torch and of NumPy's linear algebra after `limit_threads`, in a fresh process."""
    code = """
import numpy, torch
from threadpoolctl import threadpool_info
from bengelib.cores import limit_threads
limit_threads()
print(torch.get_num_threads(), max(pool["num_threads"] for pool in threadpool_info()))
"""
    inherited = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    shown = subprocess.run(
        [sys.executable, "-c", code], env={**inherited, **environment}, capture_output=True, text=True, check=True
    )
    return [int(number) for number in shown.stdout.split()]


def test_threads_do_not_exceed_the_cores_and_fewer_stay_fewer():
    assert threads(CPU_LIMIT="1.0", OMP_NUM_THREADS="4") == [1, 1]
    assert threads(CPU_LIMIT="4.0", OMP_NUM_THREADS="1")[0] == 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_a_process_held_to_one_core_has_one():
    core = min(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, {{{core}}})"
    code += "; from bengelib.cores import usable_cores; print(usable_cores())"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "1"

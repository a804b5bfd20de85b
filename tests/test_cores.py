import os
import subprocess
import sys
import warnings

import joblib
import pytest
import torch

from bengelib.cores import device_name, in_processes, usable_cores


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


def threads(own=None, cores=None, **environment):
    """Threads of torch and of NumPy's linear algebra after `limit_threads`, in a fresh process.

    Args:
        own: what the process gives torch beforehand.
        cores: what it takes for the cores of the computer; the true ones if None.
        **environment: variables it starts with.
    """
    code = f"""
import joblib, numpy, torch
from threadpoolctl import threadpool_info
from bengelib.cores import limit_threads
if {cores}:
    joblib.cpu_count = lambda: {cores}
if {own}:
    torch.set_num_threads({own})
returned = limit_threads()
pools = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
print(returned, torch.get_num_threads(), *pools)
"""
    inherited = {
        name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS") and name != "CPU_LIMIT"
    }
    shown = subprocess.run(
        [sys.executable, "-c", code], env={**inherited, **environment}, capture_output=True, text=True, check=True
    )
    returned, of_torch, *of_blas = (int(number) for number in shown.stdout.split())
    assert of_blas, "the linear algebra of NumPy was not seen"
    return returned, of_torch, max(of_blas)


@pytest.mark.parametrize(
    ("process", "found"),
    [
        ({"cores": 4, "CPU_LIMIT": "1.0", "OMP_NUM_THREADS": "4"}, (1, 1, 1)),
        ({"cores": 4, "OMP_NUM_THREADS": "1"}, (1, 1, 1)),
        # Each pool that was given fewer threads keeps them, whatever the others have.
        ({"cores": 2, "own": 1, "OMP_NUM_THREADS": "4"}, (1, 1, 2)),
        ({"cores": 2, "OMP_NUM_THREADS": "4", "OPENBLAS_NUM_THREADS": "1"}, (2, 2, 1)),
    ],
)
@pytest.mark.skipif(sys.platform == "darwin", reason="threadpoolctl does not see Apple's linear algebra")
def test_threads_do_not_exceed_the_cores_and_fewer_stay_fewer(process, found):
    if max(found) > usable_cores():
        pytest.skip("OpenBLAS starts no more threads than there are cores")
    assert threads(**process) == found


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_a_process_held_to_one_core_has_one():
    core = min(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, {{{core}}})"
    code += "; from bengelib.cores import usable_cores; print(usable_cores())"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "1"


@pytest.mark.parametrize(
    ("device", "name"), [(None, "CPU"), (torch.device("mps"), "MPS"), (torch.device("cuda"), "NVIDIA H100")]
)
def test_the_device_by_its_name_or_its_kind(device, name, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: device)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100")
    assert device_name() == name


@pytest.fixture
def where():
    """Says in which process, and with how many threads, a job is done."""
    return lambda number: (number, os.getpid(), os.environ.get("OMP_NUM_THREADS"))  # sent by value: no import of torch


def test_jobs_are_done_in_other_processes_of_one_thread_each(where):
    done = list(in_processes(where, ((number,) for number in range(8)), 2))
    assert sorted(number for number, *_ in done) == list(range(8))
    assert os.getpid() not in {process for _, process, _ in done}
    assert {threads for *_, threads in done} == {"1"}


def test_one_process_is_this_one_and_takes_a_job_at_a_time(where):
    taken = []
    jobs = ((taken.append(number) or number,) for number in range(8))
    done = in_processes(where, jobs, 1)
    assert next(done)[:2] == (0, os.getpid())
    assert len(taken) <= 2


def test_whoever_stops_listening_hears_no_warning(where):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number, _, _ in in_processes(where, ((number,) for number in range(500)), 2):
            if number == 3:
                break


def test_what_a_job_raises_is_raised_here():
    with pytest.raises(ZeroDivisionError):
        list(in_processes(divmod, [(1, 1), (1, 0)], 2))

"""Processes for tests, started at once: forked from a server that has imported all they need and computed nothing.

Where the system cannot fork, they are new ones, which takes longer.
"""

import multiprocessing
import os
import socket
from collections.abc import Callable
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any

PRELOADED = ["tests.joined_steps", "tests.resumed_runs", "accelerate", "torch._dynamo", "pytest"]


def fresh() -> BaseContext:
    """How processes start that inherit nothing but what they are sent."""
    can_fork = "forkserver" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if can_fork else "spawn")
    context.set_forkserver_preload(PRELOADED)
    return context


def start(target: Callable[..., Any], *args: Any, processes: int = 1) -> list[BaseProcess]:
    """Start `target(*args)`, a function of a module, in processes that compute on one thread of the CPU each.

    Several of them find each other as after `torchrun`, which would also end all when one has died.
    """
    context = fresh()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    world = {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes), "OMP_NUM_THREADS": "1"}
    started = []
    for rank in range(processes):
        place = {**address, **world, "RANK": str(rank), "LOCAL_RANK": str(rank)} if processes > 1 else {}
        started.append(context.Process(target=_child, args=(place, target, args)))
        started[-1].start()
    return started


def _child(place: dict[str, str], target: Callable[..., Any], args: Any) -> None:
    import torch

    os.environ.update(CUDA_VISIBLE_DEVICES="", **place)
    torch.set_num_threads(1)
    target(*args)


def run_command(arguments: list[str]) -> None:
    """The command line, as the target of a process."""
    from bengelib.__main__ import main

    raise SystemExit(main(arguments))


def finish(started: list[BaseProcess], seconds: float = 300) -> None:
    """Wait for processes that must not fail."""
    for process in started:
        process.join(seconds)
    codes = [process.exitcode for process in started]
    for process in started:
        process.kill()
    assert codes == [0] * len(started), codes

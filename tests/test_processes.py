import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.joined_steps import CASES, run

ROOT = Path(__file__).parents[1]


def start(*command, processes=2, **options):
    """Run a program in several processes on the CPU, as `torchrun` does."""
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    options = {"capture_output": True, "text": True, "timeout": 300, **options}
    return subprocess.run([*launcher, *map(str, command)], env=environment, cwd=ROOT, **options)


@pytest.fixture(scope="module")
def shared_out(tmp_path_factory):
    """All cases in two processes: they take long to start, so they are started once."""
    folder = tmp_path_factory.mktemp("two")
    done = start("-m", "tests.joined_steps", folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("case", CASES)
def test_two_processes_make_the_step_of_one_on_the_joined_batch(case, shared_out):
    alone = run(case, 1)
    for each in (each[case] for each in shared_out):
        assert each["row"] == pytest.approx(alone["row"], rel=1e-5)
        for one, two in zip(alone["gradients"], each["gradients"], strict=True):
            largest = max(float(gradient.abs().max()) for gradient in one if gradient is not None)
            assert largest > 0
            torch.testing.assert_close(two, one, rtol=1e-5, atol=1e-7 * largest)
        torch.testing.assert_close(each["weights"], alone["weights"], rtol=1e-4, atol=1e-6)
        for one, two in zip(alone["cosines"], each["cosines"], strict=True):
            assert two == pytest.approx(one, rel=1e-4, abs=1e-6)
    first, second = (each[case]["weights"] for each in shared_out)
    assert all(torch.equal(first[name], second[name]) for name in first)

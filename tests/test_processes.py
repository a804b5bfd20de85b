import pytest
import torch

from tests.forked import finish, start
from tests.joined_steps import CASES, run, run_all


@pytest.fixture(scope="module")
def shared_out(tmp_path_factory):
    """All cases in two processes."""
    folder = tmp_path_factory.mktemp("two")
    finish(start(run_all, folder, 2, processes=2))
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

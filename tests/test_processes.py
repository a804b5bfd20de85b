from functools import partial

import pytest
import torch
from torch import nn

from bengelib import processes
from bengelib.processes import gather_with_gradient, join_losses
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


def test_a_process_has_the_running_statistics_of_all_samples(shared_out):
    """Those of BatchNorm are over all processes, unbiased, as of one process with all samples."""
    alone = run("equal", 1)["weights"]
    for each in shared_out:
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            name = f"encoder.layers.1.{name}"
            torch.testing.assert_close(each["equal"]["weights"][name], alone[name])


def test_what_is_wrong_in_one_process_is_named_in_all(shared_out):
    """A NaN in the images, a label outside its classes, an infinite embedding: with the patch, and nobody hangs."""
    for each in shared_out:
        nan, label, embedding = each["errors"]
        assert nan.startswith("NonFiniteLossError") and "the batch itself has non-finite ['s1']" in nan
        assert nan == shared_out[0]["errors"][0] and "scene" in nan
        assert label.startswith("BandError") and "label 7 of 'kind'" in label
        assert embedding.startswith("NonFiniteLossError") and "embeddings of 1 of 8" in embedding


def test_fewer_samples_than_processes_are_refused(shared_out):
    for each in shared_out:
        assert each["few"] == "ArgumentError: 2 processes cannot share 1 samples; start 1 or fewer"


def test_gradients_are_gathered_only_where_there_are_any():
    values = torch.ones(3, 2)
    assert gather_with_gradient(values) is values
    losses = {"a": torch.tensor(2.0)}
    assert join_losses(losses, {"a": 3}) == losses


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("norm", [nn.BatchNorm1d, nn.BatchNorm2d])
def test_normalising_jointly_is_batch_norm_in_a_single_process(norm, momentum):
    shape = (5, 3, 4, 4) if norm is nn.BatchNorm2d else (5, 3)
    values = 3 + torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    layers = [norm(3, momentum=momentum).double() for _ in range(2)]
    results = []
    for call, layer in zip((layers[0], partial(processes._normalise_jointly, layers[1])), layers, strict=True):
        own = values.clone().requires_grad_()
        for scale in (1, 2):
            output = call(own * scale)
        (output**3).sum().backward()
        results.append([output, own.grad, layer.weight.grad, *layer.state_dict().values()])
    torch.testing.assert_close(results[1], results[0])
    layers[1].eval()
    torch.testing.assert_close(processes._normalise_jointly(layers[1], values), layers[0].eval()(values))

import math

import pytest
import torch
from torch import nn

from bengelib.engine import evaluate
from bengelib.errors import ArgumentError
from bengelib.methods.byol import BYOL, byol
from bengelib.methods.moco import MoCo, moco
from bengelib.methods.momentum import Target, cosine_momentum, follow
from bengelib.ssl import Contrast
from bengelib.views import TwoViews
from tests.methods.points import Points, encoder, noisy, train


def test_the_schedule_rises_along_a_cosine():
    """tau_k = 1 - (1 - tau_0) (cos(pi k / K) + 1) / 2, Grill et al. 2020, section 3.2."""
    values = [cosine_momentum(step, 400, 0.996) for step in (0, 100, 200, 300, 400)]
    assert values == pytest.approx([0.996, 0.9965858, 0.998, 0.9994142, 1.0], abs=1e-7)
    for step in range(51):
        naive = 1 - (1 - 0.9) * (math.cos(math.pi * step / 50) + 1) / 2
        assert cosine_momentum(step, 50, 0.9) == pytest.approx(naive, abs=1e-12)
    assert {cosine_momentum(step, 7, 0.99, 0.99) for step in range(8)} == {0.99}


def test_the_schedule_is_that_of_lightly():
    cosine_schedule = pytest.importorskip("lightly.utils.scheduler").cosine_schedule
    for step in range(31):  # its last step is max_steps - 1
        assert cosine_momentum(step, 30, 0.996) == pytest.approx(cosine_schedule(step, 31, 0.996, 1.0), abs=1e-12)


def test_a_schedule_has_steps():
    with pytest.raises(ArgumentError, match=r"steps=0.* 1 or more"):
        cosine_momentum(0, 0, 0.99)
    for step in (-1, 11, 0.5):
        with pytest.raises(ArgumentError, match="from 0 to 10"):
            cosine_momentum(step, 10, 0.99)


@pytest.mark.parametrize("momentum", [-0.1, 1.01, math.nan, "0.9", True, None])
@pytest.mark.parametrize("network", [Target, BYOL, MoCo])
def test_a_momentum_outside_its_range_is_refused(momentum, network):
    with pytest.raises(ArgumentError, match=r"momentum=.* at least 0 and of at most 1"):
        network(encoder(), momentum=momentum)


def moved(momentum: float) -> tuple[nn.Module, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """A copy after one move, what it was before, and the network that it follows."""
    online = encoder()
    copy = Target(online, momentum, momentum)
    online.train()(Points()[:32])  # changes the running statistics
    with torch.no_grad():
        for parameter in online.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    before = {name: value.clone() for name, value in copy.network.state_dict().items()}
    copy.after_step(online, 0, 10)
    return copy.network, before, online.state_dict()


@pytest.mark.parametrize("momentum", [0, 0.3, 0.996, 1])
def test_a_copy_moves_by_its_momentum_weights_and_buffers_alike(momentum):
    copy, before, online = moved(momentum)
    for name, value in copy.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, momentum * before[name] + (1 - momentum) * online[name])
            assert not torch.equal(before[name], online[name])
        else:
            assert torch.equal(value, online[name])
    assert {name.rpartition(".")[2] for name in before} >= {"weight", "running_mean", "running_var"}


def test_parameters_move_as_in_lightly_and_buffers_besides():
    update = pytest.importorskip("lightly.models.utils").update_momentum
    ours, online = encoder(), encoder()
    theirs = encoder()
    with torch.no_grad():
        for parameter in online.parameters():
            parameter.add_(1)
        online.layers[1].running_mean.add_(1)
    follow(ours, online, 0.9)
    update(online, theirs, 0.9)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    assert ours.layers[1].running_mean[0] == pytest.approx(0.1) and theirs.layers[1].running_mean[0] == 0


def test_no_gradient_reaches_a_copy():
    copy = Target(encoder())
    batch = Points()[:8]
    assert not copy(batch).requires_grad
    assert not any(parameter.requires_grad for parameter in copy.parameters())


@pytest.mark.parametrize(("network", "loss"), [(BYOL, byol), (MoCo, moco)])
def test_fit_counts_the_steps_of_the_optimiser(network, loss, monkeypatch):
    """70 samples in batches of 32 are three steps an epoch; the passes of the validation are none."""
    told = []
    plain = network.after_step
    monkeypatch.setattr(
        network,
        "after_step",
        lambda self, outputs, *steps: (told.append((len(outputs["view_1"]), *steps)), plain(self, outputs, *steps)),
    )
    options = {"queue": 64} if network is MoCo else {}
    model = network(encoder(), 8, momentum=0.9, views=TwoViews(noisy), **options)
    train(model, [Contrast(loss)], Points(70), epochs=2, val=Points(40, seed=1))
    assert told == [(count, step, 6) for step, count in enumerate((32, 32, 6) * 2)]


@pytest.mark.parametrize("network", [BYOL, MoCo])
def test_a_training_set_of_one_is_refused(network):
    with pytest.raises(ArgumentError, match="batch of one"):
        train(network(encoder(), 8), [Contrast(byol)], Points(1))


@pytest.mark.parametrize(("network", "loss"), [(BYOL, byol), (MoCo, moco)])
def test_an_evaluation_moves_nothing(network, loss):
    options = {"queue": 64} if network is MoCo else {}
    model = network(encoder(), 8, views=TwoViews(noisy), **options)
    train(model, [Contrast(loss)], epochs=1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    evaluate(model, [Contrast(loss)], Points(40, seed=1), precision="no")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(("network", "loss"), [(BYOL, byol), (MoCo, moco)])
def test_a_state_carries_all_that_a_training_goes_on_with(network, loss):
    """The same steps after the weights were put into a new network, queue and target with them."""
    options = {"queue": 64} if network is MoCo else {}
    model = network(encoder(), 8, **options)
    train(model, [Contrast(loss)], epochs=2)
    again = network(encoder(), 8, **options)
    again.load_state_dict(model.state_dict())
    rows = [train(each, [Contrast(loss)], epochs=2, seed=1).rows for each in (model, again)]
    assert rows[0] == rows[1]

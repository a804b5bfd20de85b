import math
from itertools import product

import pytest
import torch

from bengelib.errors import MissingModalityError, NonFiniteLossError
from bengelib.methods.byol import BYOL, byol
from bengelib.ssl import Contrast
from bengelib.views import TwoViews
from tests.methods.points import Points, encoder, noisy, train

SIZES = list(product((2, 5, 16), (1, 3, 32)))
NAMES = ("prediction_1", "prediction_2", "target_1", "target_2")


def outputs_of(count, length, dtype=torch.float64, seed=0):
    """Predictions that ask for a gradient, and targets."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(4, count, length, generator=generator, dtype=torch.float64).to(dtype)
    return {name: each.clone().requires_grad_(name.startswith("p")) for name, each in zip(NAMES, values, strict=True)}


def cosine(a, b):
    return (a * b).sum() / (a.square().sum().sqrt() * b.square().sum().sqrt())


def naive(outputs):
    """Equation 2 one sample at a time, both ways round: the squared distance of vectors of length 1."""
    total = 0.0
    for prediction, target in (("prediction_1", "target_2"), ("prediction_2", "target_1")):
        for q, z in zip(outputs[prediction], outputs[target], strict=True):
            total = total + (q / q.square().sum().sqrt() - z / z.square().sum().sqrt()).square().sum()
    return total / len(outputs["target_1"])


def loss_and_gradients(loss, outputs):
    value = loss(outputs)
    return value.detach(), *torch.autograd.grad(value, [each for each in outputs.values() if each.requires_grad])


@pytest.mark.parametrize(("count", "length"), SIZES)
def test_the_loss_and_its_gradient_are_those_of_a_naive_loop(count, length):
    found, expected = (loss_and_gradients(loss, outputs_of(count, length)) for loss in (byol, naive))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("count", "length"), SIZES)
def test_the_loss_and_its_gradient_are_those_of_lightly(count, length):
    """Its loss of one pair is the negative cosine, and a term here is 2 + 2 times that."""
    term = pytest.importorskip("lightly.loss").NegativeCosineSimilarity()

    def theirs(outputs):
        pairs = (("prediction_1", "target_2"), ("prediction_2", "target_1"))
        return sum(2 + 2 * term(outputs[prediction], outputs[target]) for prediction, target in pairs)

    found, expected = (loss_and_gradients(loss, outputs_of(count, length, torch.float32)) for loss in (byol, theirs))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("target", "value"), [([1.0, 0.0], 0), ([0.0, 3.0], 4), ([-2.0, 0.0], 8)])
def test_sanity_values(target, value):
    predictions, targets = torch.tensor([[1.0, 0.0]] * 4), torch.tensor([target] * 4)
    outputs = dict(zip(NAMES, (predictions, predictions, targets, targets), strict=True))
    assert float(byol(outputs)) == pytest.approx(value, abs=1e-6)


def test_a_target_says_what_the_network_was_and_has_no_gradient():
    model = BYOL(encoder(), 8, momentum=0.7)
    outputs = model(TwoViews(noisy)(Points()[:16], torch.Generator().manual_seed(0)))
    assert {name: tuple(value.shape) for name, value in outputs.items()} == {
        **{name: (16, 8) for name in (*NAMES, "view_1", "view_2")}, "features": (16, 32),
    }  # fmt: skip
    torch.testing.assert_close(outputs["target_1"], outputs["view_1"])  # at first both are the same
    Contrast(byol).loss(outputs, {}).backward()
    assert all(parameter.grad is None for parameter in model.target.parameters())
    assert all(parameter.grad is not None for parameter in model.encoder.parameters())
    assert all(parameter.grad is not None for parameter in model.predictor.parameters())


def test_after_a_step_the_target_is_a_little_nearer():
    model = BYOL(encoder(), 8, momentum=0.7)
    before = {name: value.clone() for name, value in model.target.network.state_dict().items()}
    train(model, [Contrast(byol)], Points(32), epochs=1)  # one step
    online = {**{f"0.{name}": value for name, value in model.encoder.state_dict().items()},
              **{f"1.{name}": value for name, value in model.projector.state_dict().items()}}  # fmt: skip
    for name in (name for name, value in before.items() if value.is_floating_point() and "running" not in name):
        expected = 0.7 * before[name] + 0.3 * online[name]
        torch.testing.assert_close(model.target.network.state_dict()[name], expected)


def last_spread(**options):
    """`spread` of the embeddings at the end of a training, and the loss."""
    row = train(BYOL(encoder(), 16, 32, **options), [Contrast(byol)], epochs=20, lr=3e-2).rows[-1]
    return row["train/contrast/spread"], row["train/loss"]


def test_the_monitor_shows_who_keeps_it_from_collapse():
    """Where the predictor or the stop-gradient is taken away, the loss looks like success, and the spread does not."""
    healthy, loss = last_spread(momentum=0.9)
    assert healthy > 0.7
    for options in ({"predictor": False, "momentum": 0.0}, {"stop_gradient": False}):
        spread, lower = last_spread(**options)
        assert spread < 0.4 and lower < 0.3 * loss, options


def test_the_slowness_of_the_target_alone_is_not_what_does_it():
    """As in SimSiam (Chen and He 2021, arXiv:2011.10566), a predictor and a stop-gradient are enough here."""
    assert last_spread(momentum=0.0)[0] > 0.7


def test_a_slow_target_delays_the_collapse_that_a_missing_predictor_brings():
    fast, slow = (last_spread(predictor=False, momentum=momentum)[0] for momentum in (0.0, 0.9))
    assert fast < slow - 0.1


def test_bad_outputs_are_refused():
    outputs = {name: value.detach() for name, value in outputs_of(4, 3).items()}
    with pytest.raises(MissingModalityError, match=r"'byol' reads 'prediction_1'.*the network of the method"):
        Contrast(byol).loss({"view_1": torch.ones(4, 3), "view_2": torch.ones(4, 3)}, {})
    with pytest.raises(ValueError, match="batch of one"):
        byol({name: value[:1] for name, value in outputs.items()})
    with pytest.raises(NonFiniteLossError, match="row 2"):
        byol({**outputs, "target_2": outputs["target_2"].index_fill(0, torch.tensor([2]), math.nan)})
    with pytest.raises(ValueError, match=r"no options \['temperature'\]"):
        Contrast(byol, temperature=0.1)

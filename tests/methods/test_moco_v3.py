import pytest
import torch
from torch import nn

from bengelib.errors import ArgumentError
from bengelib.methods.moco_v3 import MoCoV3, moco_v3
from bengelib.ssl import Contrast
from bengelib.views import TwoViews
from tests.methods.points import Points, encoder, noisy, train
from tests.methods.test_byol import NAMES, SIZES, cosine, loss_and_gradients, outputs_of


def naive(outputs, temperature):
    """Algorithm 1 one query at a time."""
    total = 0.0
    for queries, keys in (("prediction_1", "target_2"), ("prediction_2", "target_1")):
        for i, query in enumerate(outputs[queries]):
            scores = [torch.exp(cosine(query, key) / temperature) for key in outputs[keys]]
            total = total - 2 * temperature * torch.log(scores[i] / sum(scores)) / len(scores)
    return total


@pytest.mark.parametrize("temperature", [0.07, 0.2, 1.0])
@pytest.mark.parametrize(("count", "length"), SIZES)
def test_the_loss_and_its_gradient_are_those_of_a_naive_loop(count, length, temperature):
    found, expected = (
        loss_and_gradients(lambda outputs, loss=loss: loss(outputs, temperature), outputs_of(count, length))
        for loss in (moco_v3, naive)
    )
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("temperature", "count", "value"), [(1.0, 4096, 33.27), (0.2, 256, 4.436)])
def test_the_loss_of_a_collapse(temperature, count, value):
    """4 t log(B)."""
    outputs = dict.fromkeys(NAMES, torch.ones(count, 2))
    assert float(moco_v3(outputs, temperature)) == pytest.approx(value, abs=0.005)


def test_both_heads_end_in_a_normalisation_without_weights():
    model = MoCoV3(encoder(), 8)
    for head in (model.projector, model.predictor):
        assert isinstance(head[-1], nn.BatchNorm1d) and not list(head[-1].parameters()) and head[-2].bias is None


def test_it_learns_to_find_the_other_view():
    model = MoCoV3(encoder(), 16, 32, momentum=0.9, views=TwoViews(noisy))
    history = train(model, [Contrast(moco_v3)], epochs=15, val=Points(40, seed=1)).frame()
    assert history["val/contrast/retrieval"].iloc[-1] > 0.5  # chance: 1 in 40
    assert history["train/contrast/spread"].min() > 0.6


def test_bad_arguments_are_refused():
    outputs = {name: value.detach() for name, value in outputs_of(4, 3).items()}
    with pytest.raises(ArgumentError, match=r"temperature=-1.* above 0"):
        moco_v3(outputs, -1)
    with pytest.raises(ValueError, match="batch of one"):
        moco_v3({name: value[:1] for name, value in outputs.items()})

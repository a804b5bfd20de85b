from itertools import product

import pytest
import torch

from bengelib.errors import ArgumentError, BandError
from bengelib.losses import barlow_twins
from bengelib.methods.decur import DeCUR, decoupled, decur
from bengelib.ssl import Contrast, SiameseNetwork
from bengelib.views import TwoViews
from tests.methods.points import Points, encoder, noisy, train

NAMES = ("view_1", "again_1", "view_2", "again_2")


def embeddings(count, length):
    generator = torch.Generator().manual_seed(0)
    same = torch.randn(count, length, generator=generator, dtype=torch.float64)
    noise = torch.randn(4, count, length, generator=generator, dtype=torch.float64)
    return {name: (same + each).requires_grad_() for name, each in zip(NAMES, noise, strict=True)}


def correlation(a, b):
    """Of two columns."""
    a, b = a - a.mean(), b - b.mean()
    return (a * b).mean() / (a.square().mean().sqrt() * b.square().mean().sqrt())


def naive_term(z1, z2, common, weight):
    """One pair of dimensions at a time; `common` is how many of them are."""
    total = 0.0
    for i, j in product(range(z1.shape[1]), repeat=2):
        c = correlation(z1[:, i], z2[:, j])
        if i == j:
            total = total + ((1 - c) ** 2 if i < common else c**2)
        elif (i < common) == (j < common):
            total = total + weight * c**2
    return total


def naive(outputs, common, weight):
    length = outputs["view_1"].shape[1]
    return (
        naive_term(outputs["view_1"], outputs["again_1"], length, weight)
        + naive_term(outputs["view_2"], outputs["again_2"], length, weight)
        + naive_term(outputs["view_1"], outputs["view_2"], common, weight)
    )


@pytest.mark.parametrize("weight", [0, 5e-3, 1])
@pytest.mark.parametrize(("count", "length", "share", "common"), [(4, 4, 0.75, 3), (7, 5, 0.4, 2), (16, 8, 0.875, 7)])
def test_the_loss_and_its_gradient_are_those_of_a_naive_loop(count, length, share, common, weight):
    given = embeddings(count, length)
    found, expected = decur(given, share, weight), naive(given, common, weight)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    gradients = [torch.autograd.grad(value, list(given.values())) for value in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-5)


def test_where_all_dimensions_are_common_it_is_barlow_twins():
    z1, z2 = list(embeddings(9, 6).values())[:2]
    torch.testing.assert_close(decoupled(z1, z2, 1, 0.1), barlow_twins(z1, z2, 0.1))


def test_sanity_values():
    same = torch.ones(9, 8)
    assert float(decur(dict.fromkeys(NAMES, same))) == pytest.approx(2 * 8 + 7)  # a collapse
    assert float(decoupled(same, same)) == pytest.approx(7)
    signs = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])  # uncorrelated, spread 1
    assert float(decoupled(signs, signs, 0.5)) == pytest.approx(1, abs=1e-5)  # what is unique is not
    assert float(decoupled(signs, signs * torch.tensor([1.0, 0.0]), 0.5)) == pytest.approx(0, abs=1e-5)


def test_each_sensor_sees_both_views():
    model = DeCUR(encoder("x"), 8, 16, encoder("y"))
    batch = TwoViews(noisy)(Points()[:16], torch.Generator().manual_seed(0))
    outputs = model.eval()(batch)
    for name, sensor, view in (("again_1", "", "view_2"), ("view_2", "_2", "view_1"), ("again_2", "_2", "view_2")):
        encode, project = getattr(model, f"encoder{sensor}"), getattr(model, f"projector{sensor}")
        torch.testing.assert_close(outputs[name], project(encode(batch[view])))
    assert set(outputs) == {*NAMES, "features"} and model.inputs == {"x": (), "y": ()}


def test_it_learns_what_both_sensors_see():
    model = DeCUR(encoder("x"), 16, 32, encoder("y"), views=TwoViews(noisy))
    history = train(model, [Contrast(decur)], epochs=15, val=Points(40, seed=1)).frame()
    assert history["val/contrast/retrieval"].iloc[-1] > 0.2  # of the other sensor; chance: 1 in 40
    assert history["train/loss"].iloc[-1] < 0.8 * history["train/loss"].iloc[0]
    assert history["train/contrast/spread"].min() > 0.6


def test_bad_arguments_are_refused():
    batch = TwoViews(noisy)(Points()[:4], torch.Generator().manual_seed(0))
    with pytest.raises(ArgumentError, match="give encoder_2"):
        DeCUR(encoder(), 8)(batch)
    z1, z2 = list(embeddings(4, 3).values())[:2]
    for share in (-0.1, 1.1, 87.5):
        with pytest.raises(ArgumentError, match=f"common={share}"):
            decoupled(z1, z2, share)
    with pytest.raises(ArgumentError, match="lambda_param=-1"):
        Contrast(decur, lambda_param=-1)
    with pytest.raises(ValueError, match="batch of one"):
        decoupled(z1[:1], z2[:1])
    other = encoder()
    other.inputs = {"x": ("B02",)}
    with pytest.raises(BandError, match="different bands of x"):
        SiameseNetwork(encoder(), 8, encoder_2=other)

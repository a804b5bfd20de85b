import itertools
import math
from functools import partial

import pytest
import torch

from bengelib.errors import NonFiniteLossError
from bengelib.losses import (
    agreement,
    barlow_twins,
    cross_modal,
    masked_binary_cross_entropy,
    masked_cross_entropy,
    masked_squared_error,
    nt_xent,
    vicreg,
)
from bengelib.ssl import Contrast

SIZES = list(itertools.product((2, 3, 8, 13), (1, 2, 7, 16)))
TEMPERATURES = (0.05, 0.2, 0.5, 1.0)
LOSSES = (nt_xent, cross_modal, barlow_twins, vicreg, agreement)


def embeddings(count, length, seed=0):
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(count, length, generator=generator)
    return first, first + 0.5 * torch.randn(count, length, generator=generator)


# --------------------------------------------------------------------------------- the losses again, one pair at a time


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def naive_nt_xent(z1, z2, temperature):
    views = z1.tolist() + z2.tolist()
    count, total = len(z1), 0.0
    for i in range(2 * count):
        partner = (i + count) % (2 * count)
        others = sum(math.exp(cosine(views[i], views[k]) / temperature) for k in range(2 * count) if k != i)
        total -= math.log(math.exp(cosine(views[i], views[partner]) / temperature) / others)
    return total / (2 * count)


def naive_cross_modal(z1, z2, temperature):
    first, second = z1.tolist(), z2.tolist()
    count, total = len(first), 0.0
    for i in range(count):
        own = math.exp(cosine(first[i], second[i]) / temperature)
        total -= math.log(own / sum(math.exp(cosine(first[i], second[k]) / temperature) for k in range(count))) / 2
        total -= math.log(own / sum(math.exp(cosine(first[k], second[i]) / temperature) for k in range(count))) / 2
    return total / count


def naive_barlow_twins(z1, z2, lambda_param):
    count, length = z1.shape
    columns = [z.double().numpy() for z in (z1, z2)]
    total = 0.0
    for i in range(length):
        for j in range(length):
            a, b = columns[0][:, i], columns[1][:, j]
            correlation = sum((a[n] - a.mean()) * (b[n] - b.mean()) for n in range(count)) / count / a.std() / b.std()
            total += (1 - correlation) ** 2 if i == j else lambda_param * correlation**2
    return total


def naive_vicreg(z1, z2, similarity, variance, covariance):
    first, second = (z.double().numpy() for z in (z1, z2))
    count, length = first.shape
    total = similarity * sum((first[n, i] - second[n, i]) ** 2 for n in range(count) for i in range(length))
    total /= count * length
    for z in (first, second):
        for i in range(length):
            spread_i = math.sqrt(sum((z[n, i] - z[:, i].mean()) ** 2 for n in range(count)) / (count - 1) + 1e-4)
            total += variance * max(0, 1 - spread_i) / length / 2
            for j in range(length):
                if i != j:
                    products = ((z[n, i] - z[:, i].mean()) * (z[n, j] - z[:, j].mean()) for n in range(count))
                    total += covariance * (sum(products) / (count - 1)) ** 2 / length
    return total


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize(("count", "length"), SIZES)
def test_contrastive_losses_are_those_of_a_naive_loop(count, length, temperature):
    z1, z2 = embeddings(count, length)
    assert float(nt_xent(z1, z2, temperature)) == pytest.approx(naive_nt_xent(z1, z2, temperature), rel=1e-4, abs=1e-5)
    expected = naive_cross_modal(z1, z2, temperature)
    assert float(cross_modal(z1, z2, temperature)) == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("lambda_param", [0, 5e-3, 1])
@pytest.mark.parametrize(("count", "length"), SIZES)
def test_barlow_twins_is_that_of_a_naive_loop(count, length, lambda_param):
    z1, z2 = embeddings(count, length)
    expected = naive_barlow_twins(z1, z2, lambda_param)
    assert float(barlow_twins(z1, z2, lambda_param)) == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("weights", [(25, 25, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1)], ids=str)
@pytest.mark.parametrize(("count", "length"), SIZES)
def test_vicreg_is_that_of_a_naive_loop(count, length, weights):
    z1, z2 = (0.8 * z for z in embeddings(count, length))
    assert float(vicreg(z1, z2, *weights)) == pytest.approx(naive_vicreg(z1, z2, *weights), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(("count", "length"), SIZES)
def test_losses_are_those_of_lightly(count, length):
    """With their gradients, in 64 bits. Lightly's Barlow Twins adds 1e-5 to each variance, so it is near alone."""
    loss = pytest.importorskip("lightly.loss")
    pairs = [(partial(nt_xent, temperature=t), loss.NTXentLoss(t)) for t in TEMPERATURES]
    for ours, theirs in (*pairs, (vicreg, loss.VICRegLoss())):
        assert_same(ours, theirs, count, length)
    z1, z2 = embeddings(count, length)
    torch.testing.assert_close(barlow_twins(z1, z2), loss.BarlowTwinsLoss()(z1, z2), rtol=1e-2, atol=1e-3)


def assert_same(ours, theirs, count, length):
    """The values and the gradients of two losses agree to 1e-5 of them, in 64 bits."""
    z = [each.double().requires_grad_() for each in embeddings(count, length)]
    values = [loss(*z) for loss in (ours, theirs)]
    gradients = [torch.autograd.grad(value, z, allow_unused=True) for value in values]
    torch.testing.assert_close(*values, rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-9)


def barlow_twins_as_written(z1, z2):
    """Equations 1 and 2 of Zbontar et al. 2021 in tensors: correlations, then both sums."""
    first, second = ((z - z.mean(dim=0)) / z.std(dim=0, unbiased=False) for z in (z1, z2))
    difference = first.T @ second / len(z1) - torch.eye(z1.shape[1], dtype=z1.dtype)
    weight = torch.full_like(difference, 5e-3).fill_diagonal_(1)
    return (weight * difference.square()).sum()


def cross_modal_as_written(z1, z2):
    """CLIP's: two cross-entropies of the cosines over the temperature."""
    first, second = (z / z.norm(dim=1, keepdim=True) for z in (z1, z2))
    logits, right = first @ second.T / 0.2, torch.arange(len(z1))
    cross_entropy = torch.nn.functional.cross_entropy
    return (cross_entropy(logits, right) + cross_entropy(logits.T, right)) / 2


@pytest.mark.parametrize(("count", "length"), [size for size in SIZES if size[0] > 2])
def test_losses_and_gradients_are_those_of_the_equations(count, length):
    assert_same(partial(barlow_twins, lambda_param=5e-3), barlow_twins_as_written, count, length)
    assert_same(partial(cross_modal, temperature=0.2), cross_modal_as_written, count, length)


def test_sanity_values():
    same = torch.ones(9, 5)
    assert float(nt_xent(same, same, 0.1)) == pytest.approx(math.log(17))
    assert float(cross_modal(same, same, 0.1)) == pytest.approx(math.log(9))
    assert float(barlow_twins(same, same)) == pytest.approx(5)
    assert float(vicreg(same, same)) == pytest.approx(25 * 0.99)
    assert float(agreement(same, same)) == pytest.approx(0, abs=1e-5)
    assert float(agreement(same, -same)) == pytest.approx(4)


def test_identical_views_of_different_samples_are_nearly_the_best():
    """Not 0: the other samples still count; with B orthogonal embeddings it is log(1 + (2B - 2) exp(-1 / t))."""
    z = torch.eye(6)
    assert float(nt_xent(z, z, 0.2)) == pytest.approx(math.log(1 + 10 * math.exp(-5)), rel=1e-4)
    assert float(cross_modal(z, z, 0.2)) == pytest.approx(math.log(1 + 5 * math.exp(-5)), rel=1e-4)
    signs = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])  # uncorrelated, spread 1
    assert float(barlow_twins(signs, signs)) == pytest.approx(0, abs=1e-5)
    assert float(vicreg(signs, signs)) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_pairing_matters_and_sides_do_not(loss):
    z1, z2 = embeddings(16, 8)
    assert loss(z1, z2) < loss(z1, z2.roll(1, dims=0))
    torch.testing.assert_close(loss(z1, z2), loss(z2, z1), rtol=1e-4, atol=1e-5)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(loss(z1[order], z2[order]), loss(z1, z2), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_are_finite_even_where_everything_is_equal(loss):
    for value in (0.0, 1.0):
        z1, z2 = (torch.full((4, 3), value, requires_grad=True) for _ in range(2))
        loss(z1, z2).backward()
        assert torch.isfinite(z1.grad).all() and torch.isfinite(z2.grad).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_half_precision_is_computed_in_full(loss):
    z1, z2 = (z.bfloat16() for z in embeddings(8, 8))
    assert loss(z1, z2).dtype == torch.float32
    torch.testing.assert_close(loss(z1, z2), loss(z1.float(), z2.float()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_bad_embeddings_are_refused(loss):
    z = torch.randn(4, 3)
    with pytest.raises(ValueError, match="batch of one"):
        loss(z[:1], z[:1])
    for other in (z[:3], z[:, :2], z[0]):
        with pytest.raises(ValueError, match=r"\(B, D\)"):
            loss(z, other)
    for bad in (math.nan, math.inf):
        broken = z.clone()
        broken[2, 1] = bad
        with pytest.raises(NonFiniteLossError, match=r"1 of 4 samples.* row 2"):
            loss(z, broken)


@pytest.mark.parametrize("temperature", [0, -0.1, math.nan, math.inf])
def test_bad_temperatures_are_refused(temperature):
    z = torch.randn(4, 3)
    for attempt in (lambda: nt_xent(z, z, temperature), lambda: cross_modal(z, z, temperature),
                    lambda: Contrast("simclr", temperature=temperature)):  # fmt: skip
        with pytest.raises(ValueError, match=r"temperature=.* above 0"):
            attempt()


def test_negative_weights_are_refused():
    z = torch.randn(4, 3)
    with pytest.raises(ValueError, match="lambda_param"):
        barlow_twins(z, z, -1)
    with pytest.raises(ValueError, match="covariance"):
        vicreg(z, z, covariance=-1)


# --------------------------------------------------------------------------------------------------- labels that lack


def test_what_has_no_label_changes_neither_loss_nor_gradient():
    logits, labels = torch.randn(5, 3, requires_grad=True), torch.tensor([0, 255, 2, 255, 1])
    tags = torch.tensor([[0.0, 1.0, math.nan]] * 5)
    values, truth = torch.randn(4, requires_grad=True), torch.tensor([1.0, math.nan, 3.0, math.nan])
    known = labels != 255
    torch.testing.assert_close(
        masked_cross_entropy(logits, labels), torch.nn.functional.cross_entropy(logits[known], labels[known])
    )
    torch.testing.assert_close(
        masked_binary_cross_entropy(logits, tags),
        torch.nn.functional.binary_cross_entropy_with_logits(logits[:, :2], tags[:, :2]),
    )
    expected = ((values - truth)[[0, 2]] / 2.0).square().mean()
    torch.testing.assert_close(masked_squared_error(values, truth, 2.0), expected)
    (gradient,) = torch.autograd.grad(masked_cross_entropy(logits, labels), logits)
    assert not gradient[~known].any() and gradient[known].any()


def test_without_any_label_the_masked_losses_are_zero():
    logits = torch.randn(3, 2)
    assert masked_cross_entropy(logits, torch.full((3,), 255)) == 0
    assert masked_binary_cross_entropy(logits, torch.full((3, 2), math.nan)) == 0
    assert masked_squared_error(logits[:, 0], torch.full((3,), math.nan)) == 0


def test_another_number_may_stand_for_a_missing_label():
    logits, labels = torch.randn(3, 2), torch.tensor([0, -1, 1])
    expected = torch.nn.functional.cross_entropy(logits, labels, ignore_index=-1)
    torch.testing.assert_close(masked_cross_entropy(logits, labels, unknown=-1), expected)

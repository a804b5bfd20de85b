"""Losses of two views of each sample, for self-supervised learning, and losses with missing labels.

Needs torch and `bengelib.errors` only. Embeddings are (B, D); row i of both views belongs to the same sample.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from bengelib.errors import ArgumentError, NonFiniteLossError

UNKNOWN = 255
"""The label of an unlabelled sample or pixel."""


def nt_xent(z1: Tensor, z2: Tensor, temperature: float = 0.2) -> Tensor:
    """Normalised temperature-scaled cross-entropy of SimCLR (Chen et al. 2020, arXiv:2002.05709, equation 1).

    For each of the 2B views i, with j the other view of the same sample and s the cosine similarity:
    loss_i = -log( exp(s_ij / t) / sum over k != i of exp(s_ik / t) ); the mean over i is returned. The negatives are
    the other samples of the batch (of the batch of this process, if there are several).

    Sanity value: `log(2B - 1)` when all embeddings are equal, as in a collapsed network, and nearly so at the start of
    training.

    Args:
        z1: embeddings of the first views, (B, D) with B >= 2, of any length.
        z2: embeddings of the second views, (B, D), of the same samples in the same order.
        temperature: t > 0; smaller values give more weight to the hardest negatives.

    Returns:
        (), 0 or more.

    Raises:
        ValueError: wrong shapes, a batch of one, or (`ArgumentError`) a temperature that is not above 0.
        NonFiniteLossError: an embedding on the CPU is NaN or infinite; on another device the loss is NaN.
    """
    check_pair(z1, z2)
    _check_temperature(temperature)
    count = len(z1)
    z = F.normalize(wide(torch.cat([z1, z2])), dim=1)  # (2B, D), of length 1
    similarity = z @ z.T / temperature  # (2B, 2B), cosines in +- 1 / t
    similarity = similarity.masked_fill(torch.eye(2 * count, dtype=torch.bool, device=z.device), -math.inf)  # k != i
    partner = torch.arange(2 * count, device=z.device).roll(count)  # (2B,), i's is i + B or i - B
    return F.cross_entropy(similarity, partner)


def cross_modal(z1: Tensor, z2: Tensor, temperature: float = 0.2) -> Tensor:
    """Symmetric contrastive loss of two sensors, like that of CLIP (Radford et al. 2021, arXiv:2103.00020).

    A Sentinel-1 image must identify its Sentinel-2 image among the B of the batch, and vice versa (InfoNCE, van den
    Oord et al. 2018, arXiv:1807.03748): the mean of -log( exp(s_ii / t) / sum over k of exp(s_ik / t) ) over rows
    and columns of the similarities s (B, B). Unlike in `nt_xent`, images of one sensor are never compared.

    Sanity value: `log(B)` when all embeddings are equal. Arguments, result and errors are those of `nt_xent`.
    """
    check_pair(z1, z2)
    _check_temperature(temperature)
    z1, z2 = F.normalize(wide(z1), dim=1), F.normalize(wide(z2), dim=1)  # (B, D) each, of length 1
    similarity = z1 @ z2.T / temperature  # (B, B), row: first sensor, column: second
    own = torch.arange(len(z1), device=z1.device)  # (B,), the positives are on the diagonal
    return (F.cross_entropy(similarity, own) + F.cross_entropy(similarity.T, own)) / 2


def barlow_twins(z1: Tensor, z2: Tensor, lambda_param: float = 5e-3) -> Tensor:
    """Redundancy reduction (Zbontar et al. 2021, arXiv:2103.03230, equation 1).

    With C (D, D) the correlation over the batch of each dimension of z1 with each of z2:
    loss = sum over i of (1 - C_ii)^2 + lambda_param * sum over i != j of C_ij^2. Samples are not compared with each
    other, so small batches suffice.

    Sanity values: 0 for equal views of uncorrelated dimensions; D when all embeddings are equal, because a constant
    dimension has no correlation.

    Args:
        z1: embeddings of the first views, (B, D) with B >= 2.
        z2: embeddings of the second views, (B, D).
        lambda_param: weight of the second sum, 0 or more; with 0, all dimensions may be redundant.

    Returns:
        (), 0 or more.

    Raises:
        ValueError: wrong shapes, a batch of one, or (`ArgumentError`) a negative weight.
        NonFiniteLossError: an embedding on the CPU is NaN or infinite; on another device the loss is NaN.
    """
    check_pair(z1, z2)
    _check_weights(lambda_param=lambda_param)
    correlation = cross_correlation(z1, z2)  # (D, D)
    diagonal = correlation.diagonal()  # (D,)
    on = (1 - diagonal).square().sum()  # ()
    off = correlation.square().sum() - diagonal.square().sum()  # ()
    return on + lambda_param * off


def vicreg(z1: Tensor, z2: Tensor, similarity: float = 25.0, variance: float = 25.0, covariance: float = 1.0) -> Tensor:
    """Variance, invariance and covariance regularisation (Bardes et al. 2022, arXiv:2105.04906, equations 1 to 6).

    loss = similarity * s(z1, z2) + variance * (v(z1) + v(z2)) / 2 + covariance * (c(z1) + c(z2)), where s is the mean
    squared difference, v the mean over dimensions of max(0, 1 - sqrt(Var + 1e-4)), and c the sum of the squared
    covariances of different dimensions, divided by D. Means and halves are those of the authors' code.

    Sanity value: `variance * 0.99` when all embeddings are equal.

    Args:
        z1: embeddings of the first views, (B, D) with B >= 2.
        z2: embeddings of the second views, (B, D).
        similarity: weight of the invariance term; alone it leads to collapse.
        variance: weight of the term that keeps the standard deviation of every dimension above 1.
        covariance: weight of the term that decorrelates the dimensions.

    Returns:
        (), 0 or more.

    Raises:
        ValueError: wrong shapes, a batch of one, or (`ArgumentError`) a negative weight.
        NonFiniteLossError: an embedding on the CPU is NaN or infinite; on another device the loss is NaN.
    """
    check_pair(z1, z2)
    _check_weights(similarity=similarity, variance=variance, covariance=covariance)
    z1, z2 = wide(z1), wide(z2)
    invariance = F.mse_loss(z1, z2)  # ()
    hinge, redundancy = z1.new_zeros(()), z1.new_zeros(())
    for z in (z1, z2):
        hinge = hinge + F.relu(1 - (z.var(dim=0) + 1e-4).sqrt()).mean() / 2  # (), mean over D
        centred = z - z.mean(dim=0)  # (B, D)
        products = centred.T @ centred / (len(z) - 1)  # (D, D), the covariance
        squares = products.square()
        redundancy = redundancy + (squares.sum() - squares.diagonal().sum()) / z.shape[1]  # ()
    return similarity * invariance + variance * hinge + covariance * redundancy


def agreement(z1: Tensor, z2: Tensor) -> Tensor:
    """Agreement alone: the mean of 2 - 2 s_ii, s the cosine similarity. It is here to demonstrate collapse.

    This is the loss of BYOL (Grill et al. 2020, arXiv:2006.07733, equation 2) without the parts that prevent collapse.
    Sanity value: 0 when all embeddings are equal, which is its minimum. Arguments and errors are those of `nt_xent`.
    """
    check_pair(z1, z2)
    return (2 - 2 * paired_cosines(z1, z2)).mean()


def paired_cosines(a: Tensor, b: Tensor) -> Tensor:
    """Cosine similarity of corresponding rows of two (B, D), (B,), in 32 bits or more."""
    return F.cosine_similarity(wide(a), wide(b), dim=1)


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """Cosine similarity of each row of (A, D) and each row of (B, D), (A, B), in 32 bits or more."""
    with torch.autocast(a.device.type, enabled=False):
        return F.normalize(wide(a), dim=1) @ F.normalize(wide(b), dim=1).T


def cross_correlation(z1: Tensor, z2: Tensor) -> Tensor:
    """Correlation over the batch of each dimension of z1 with each of z2, both (B, D): (D, D), rows for z1."""
    a, b = _standardized(wide(z1)), _standardized(wide(z2))  # (B, D) each, mean 0 and spread 1
    return a.T @ b / len(a)


def wide(values: Tensor) -> Tensor:
    """The same values in at least 32 bits."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _standardized(z: Tensor) -> Tensor:
    """Columns scaled to mean 0 and standard deviation 1; a constant column becomes 0."""
    return (z - z.mean(dim=0)) / (z.var(dim=0, correction=0) + 1e-10).sqrt()


def check_pair(z1: Tensor, z2: Tensor) -> None:
    """Refuse embeddings of two views that do not match; see `nt_xent` for the errors."""
    if z1.ndim != 2 or z1.shape != z2.shape:
        raise ValueError(
            f"embeddings of two views must both be (B, D), row by row of the same samples; got {tuple(z1.shape)} and "
            f"{tuple(z2.shape)}"
        )
    if len(z1) < 2:
        raise ValueError(
            "a batch of one has nothing to be compared with; use batches of two samples or more, better 64"
        )
    if z1.device.type != "cpu":  # a check would wait for the device; the loss becomes NaN instead
        return
    finite = torch.isfinite(z1).all(dim=1) & torch.isfinite(z2).all(dim=1)  # (B,)
    if not finite.all():
        rows = (~finite).nonzero().flatten().tolist()
        raise NonFiniteLossError(
            f"the embeddings of {len(rows)} of {len(z1)} samples are NaN or infinite, the first in row {rows[0]} of "
            "the batch; look for non-finite values in the images, or lower lr"
        )


def _check_temperature(temperature: float) -> None:
    if not 0 < temperature < math.inf:
        raise ArgumentError(f"temperature={temperature!r}; expected a number above 0, customarily 0.1 to 0.5")


def _check_weights(**weights: float) -> None:
    for name, weight in weights.items():
        if not 0 <= weight < math.inf:
            raise ArgumentError(f"{name}={weight!r}; expected a weight of 0 or more")


def masked_cross_entropy(logits: Tensor, labels: Tensor, unknown: int = UNKNOWN) -> Tensor:
    """Cross-entropy averaged over the known labels, (); 0 without any.

    Args:
        logits: (B, K, ...).
        labels: (B, ...) int64, class indices, and `unknown` where there is no label.
        unknown: the value of a missing label.
    """
    known = (labels != unknown).sum().clamp(min=1)
    return F.cross_entropy(wide(logits), labels, ignore_index=unknown, reduction="sum") / known


def masked_binary_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy averaged over the known labels, (); 0 without any.

    Args:
        logits: (B, K).
        labels: (B, K) of 0 and 1, NaN where there is no label.
    """
    known = ~labels.isnan()
    losses = F.binary_cross_entropy_with_logits(wide(logits), labels.nan_to_num(), reduction="none")
    return torch.where(known, losses, 0.0).sum() / known.sum().clamp(min=1)


def masked_squared_error(values: Tensor, labels: Tensor, scale: float = 1.0) -> Tensor:
    """Squared error averaged over the known labels, (); 0 without any.

    Args:
        values: (B,).
        labels: (B,), NaN where there is no label.
        scale: the unit of the error, in the unit of the labels.
    """
    known = ~labels.isnan()
    errors = torch.where(known, (values - labels.nan_to_num()) / scale, 0.0)
    return errors.square().sum() / known.sum().clamp(min=1)

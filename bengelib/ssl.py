"""Self-supervised learning from pairs of views: losses, the network, the task, and a monitor of collapse.

A network makes an embedding of each view, and the loss asks that the two views of a sample agree while samples differ.
Only the second half keeps the network from answering the same for everything, which would agree perfectly: that is
called collapse, and every method here is another way around it.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bengelib.arguments import real_number
from bengelib.errors import BandError, MissingModalityError, NonFiniteLossError
from bengelib.metrics import Samples
from bengelib.transforms import Batch

# --------------------------------------------------------------------------------------------------------------- losses


def nt_xent(z1: Tensor, z2: Tensor, temperature: float = 0.2) -> Tensor:
    """Normalised temperature-scaled cross-entropy of SimCLR (Chen et al. 2020, arXiv:2002.05709, equation 1).

    For each of the 2B views i, with j the other view of the same sample and s the cosine similarity:
    loss_i = -log( exp(s_ij / t) / sum over k != i of exp(s_ik / t) ); the mean over i is returned. The negatives are
    the other samples of the batch (of this process, where there are several).

    Sanity value: `log(2B - 1)` when all embeddings are equal, which is what a collapsed network gets; near that at the
    start of training too.

    Args:
        z1: embeddings of the first views, (B, D), B of 2 or more; their length does not matter.
        z2: embeddings of the second views, (B, D), row by row of the same samples.
        temperature: t, above 0; the smaller, the more the hardest negatives count.

    Returns:
        (), 0 or more.

    Raises:
        ValueError: other shapes, a batch of one, or a temperature that is not above 0.
        NonFiniteLossError: an embedding on the CPU is NaN or infinite; on another device the loss is NaN.
    """
    _check_pair(z1, z2)
    _check_temperature(temperature)
    count = len(z1)
    z = F.normalize(torch.cat([z1, z2]).float(), dim=1)  # (2B, D), of length 1
    similarity = z @ z.T / temperature  # (2B, 2B), cosines in +- 1 / t
    similarity = similarity.masked_fill(torch.eye(2 * count, dtype=torch.bool, device=z.device), -math.inf)  # k != i
    partner = torch.arange(2 * count, device=z.device).roll(count)  # (2B,), i's is i + B or i - B
    return F.cross_entropy(similarity, partner)


def cross_modal(z1: Tensor, z2: Tensor, temperature: float = 0.2) -> Tensor:
    """Symmetric contrast of two sensors, as between images and texts in CLIP (Radford et al. 2021, arXiv:2103.00020).

    A Sentinel-1 image must find its Sentinel-2 image among the B of the batch, and the other way round (InfoNCE, van
    den Oord et al. 2018, arXiv:1807.03748): the mean of -log( exp(s_ii / t) / sum over k of exp(s_ik / t) ) along rows
    and along columns of the similarities s (B, B). Unlike in `nt_xent`, images of one sensor are never compared.

    Sanity value: `log(B)` when all embeddings are equal. Arguments, result and errors are those of `nt_xent`.
    """
    _check_pair(z1, z2)
    _check_temperature(temperature)
    z1, z2 = F.normalize(z1.float(), dim=1), F.normalize(z2.float(), dim=1)  # (B, D) each, of length 1
    similarity = z1 @ z2.T / temperature  # (B, B), row: first sensor, column: second
    own = torch.arange(len(z1), device=z1.device)  # (B,), the diagonal is right
    return (F.cross_entropy(similarity, own) + F.cross_entropy(similarity.T, own)) / 2


def barlow_twins(z1: Tensor, z2: Tensor, off_diagonal: float = 5e-3) -> Tensor:
    """Redundancy reduction (Zbontar et al. 2021, arXiv:2103.03230, equation 1).

    With C (D, D) the correlation over the batch of each dimension of z1 with each of z2:
    loss = sum over i of (1 - C_ii)^2 + off_diagonal * sum over i != j of C_ij^2. No sample is compared with another, so
    small batches do.

    Sanity values: 0 for equal views of uncorrelated dimensions; D when all embeddings are equal, because a dimension
    without spread correlates with nothing.

    Args:
        z1: embeddings of the first views, (B, D), B of 2 or more.
        z2: embeddings of the second views, (B, D).
        off_diagonal: weight of the second sum, 0 or more; without it all dimensions may say the same.

    Returns:
        (), 0 or more.

    Raises:
        ValueError: other shapes, a batch of one, or a negative weight.
        NonFiniteLossError: an embedding on the CPU is NaN or infinite; on another device the loss is NaN.
    """
    _check_pair(z1, z2)
    _check_weights(off_diagonal=off_diagonal)
    a, b = _standardized(z1.float()), _standardized(z2.float())  # (B, D) each, mean 0 and spread 1
    correlation = a.T @ b / len(a)  # (D, D)
    diagonal = correlation.diagonal()  # (D,)
    on = (1 - diagonal).square().sum()  # ()
    off = correlation.square().sum() - diagonal.square().sum()  # ()
    return on + off_diagonal * off


def vicreg(z1: Tensor, z2: Tensor, similarity: float = 25.0, variance: float = 25.0, covariance: float = 1.0) -> Tensor:
    """Variance, invariance and covariance regularisation (Bardes et al. 2022, arXiv:2105.04906, equations 1 to 6).

    loss = similarity * s(z1, z2) + variance * (v(z1) + v(z2)) / 2 + covariance * (c(z1) + c(z2)), where s is the mean
    squared difference, v the mean over dimensions of max(0, 1 - sqrt(Var + 1e-4)), and c the sum of the squared
    covariances of different dimensions, divided by D. Means and halves are those of the authors' code.

    Sanity value: `variance * 0.99` when all embeddings are equal.

    Args:
        z1: embeddings of the first views, (B, D), B of 2 or more.
        z2: embeddings of the second views, (B, D).
        similarity: weight of the invariance; alone it lets everything collapse.
        variance: weight of the term that keeps every dimension's spread at 1.
        covariance: weight of the term that keeps dimensions from saying the same.

    Returns:
        (), 0 or more.

    Raises:
        ValueError: other shapes, a batch of one, or a negative weight.
        NonFiniteLossError: an embedding on the CPU is NaN or infinite; on another device the loss is NaN.
    """
    _check_pair(z1, z2)
    _check_weights(similarity=similarity, variance=variance, covariance=covariance)
    z1, z2 = z1.float(), z2.float()
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
    """Agreement and nothing else: the mean of 2 - 2 s_ii, s the cosine similarity. It collapses, which it is here for.

    This is the loss of BYOL (Grill et al. 2020, arXiv:2006.07733, equation 2) without what keeps BYOL from collapse.
    Sanity value: 0 when all embeddings are equal, which is its minimum. Arguments and errors are those of `nt_xent`.
    """
    _check_pair(z1, z2)
    return (2 - 2 * F.cosine_similarity(z1.float(), z2.float(), dim=1)).mean()


def _standardized(z: Tensor) -> Tensor:
    """Mean 0 and standard deviation 1 of each column; a column without spread is 0."""
    return (z - z.mean(dim=0)) / (z.var(dim=0, correction=0) + 1e-10).sqrt()


def _check_pair(z1: Tensor, z2: Tensor) -> None:
    if z1.ndim != 2 or z1.shape != z2.shape:
        raise ValueError(
            f"embeddings of two views must both be (B, D), row by row of the same samples; got {tuple(z1.shape)} and "
            f"{tuple(z2.shape)}"
        )
    if len(z1) < 2:
        raise ValueError("a batch of one has nothing to differ from; use batches of two samples or more, better 64")
    if z1.device.type != "cpu":  # to look would wait for the device; the loss is NaN then
        return
    finite = torch.isfinite(z1).all(dim=1) & torch.isfinite(z2).all(dim=1)  # (B,)
    if not finite.all():
        rows = (~finite).nonzero().flatten().tolist()
        raise NonFiniteLossError(
            f"the embeddings of {len(rows)} of {len(z1)} samples are NaN or infinite, the first in row {rows[0]} of "
            "the batch; look for non-finite values in the images, or lower lr"
        )


def _check_temperature(temperature: float) -> None:
    real_number("temperature", temperature, above=0)


def _check_weights(**weights: float) -> None:
    for name, weight in weights.items():
        real_number(name, weight, least=0)


# -------------------------------------------------------------------------------------------------------------- network


class SiameseNetwork(nn.Module):
    """An encoder and a projector that make an embedding of each of two views.

    The loss is computed on embeddings, and the features of the encoder are what one keeps: the projector may forget
    what the views differ in, such as brightness, so that the features need not (Chen et al. 2020, section 4.2).

    Attributes:
        inputs: what the encoders read, modality to band names.
        encoder: of the first view, and of the second too unless there is `encoder_2`.
    """

    def __init__(
        self,
        encoder: nn.Module,
        projector_dim: int = 128,
        hidden: int | None = None,
        encoder_2: nn.Module | None = None,
        views: Callable[[Batch, torch.Generator], Batch] | None = None,
    ) -> None:
        """Build the projectors, one for each encoder.

        Args:
            encoder: takes a dict batch, returns features (B, feature_dim); see `bengelib.fusion`.
            projector_dim: length of the embeddings.
            hidden: width of the projector between; that of the features unless given.
            encoder_2: of the second view, for views of two sensors.
            views: makes the views of batches that come without any, as validation batches do, always with the same
                seed; for example the `TwoViews` that `fit` is given. Two encoders do without: each reads what it knows.

        Raises:
            BandError: two encoders read other bands of the same modality.
        """
        super().__init__()
        self.encoder = encoder
        self.projector = _projector(encoder, projector_dim, hidden)
        self.encoder_2 = encoder_2
        self.projector_2 = None if encoder_2 is None else _projector(encoder_2, projector_dim, hidden)
        self.views = views
        self.inputs: dict[str, tuple[str, ...]] = dict(getattr(encoder, "inputs", {}))
        for key, bands in getattr(encoder_2, "inputs", {}).items():
            if self.inputs.setdefault(key, bands) != bands:
                raise BandError(f"the encoders read different bands of {key}: {self.inputs[key]} and {bands}")

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Embeddings `view_1` and `view_2`, (B, projector_dim) each, and `features` (B, F) of the first view.

        Raises:
            MissingModalityError: the batch has no views and nothing says how to make them.
        """
        if "view_1" not in batch or "view_2" not in batch:
            if self.views is not None:
                batch = self.views(batch, torch.Generator().manual_seed(0))
            elif self.encoder_2 is not None:
                batch = {"view_1": batch, "view_2": batch}
            else:
                raise MissingModalityError(
                    f"no view_1 and view_2 in a batch of {sorted(batch)}; train with "
                    "fit(..., augment=TwoViews(Views(...))), and to validate as well give the network "
                    "views=TwoViews(Views(...))"
                )
        features = self.encoder(batch["view_1"])  # (B, F)
        second = (self.encoder_2 or self.encoder)(batch["view_2"])  # (B, F) or, of another encoder, (B, F2)
        return {
            "view_1": self.projector(features),
            "view_2": (self.projector_2 or self.projector)(second),
            "features": features,
        }


def _projector(encoder: nn.Module, outputs: int, hidden: int | None) -> nn.Sequential:
    """Two layers; the bias of the first would be taken away by the normalisation over the batch."""
    length = int(encoder.feature_dim)  # type: ignore[arg-type]
    hidden = hidden or length
    return nn.Sequential(
        nn.Linear(length, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True), nn.Linear(hidden, outputs)
    )


# -------------------------------------------------------------------------------------------------------------- monitor


def spread(embeddings: Tensor) -> Tensor:
    """How far embeddings (B, D) point in different directions, (): about 1 healthy, 0 collapsed to one point.

    The mean over dimensions of the standard deviation of the embeddings scaled to length 1, times sqrt(D); directions
    drawn evenly have 1 (Chen and He 2021, arXiv:2011.10566, section 4.1).
    """
    z = F.normalize(embeddings.detach().float(), dim=1)  # (B, D)
    return z.std(dim=0, correction=0).mean() * math.sqrt(z.shape[1])


def effective_rank(features: Tensor) -> Tensor:
    """In how many directions features (B, F) vary, (): from 1 to min(B - 1, F).

    exp of the entropy of the singular values of the centred features, scaled to sum 1 (Roy and Vetterli 2007; used to
    judge features without labels by Garrido et al. 2023, arXiv:2210.02885). A few directions where there could be many
    are a collapse that `spread` does not show. Features that are all equal have 1.
    """
    features = features.detach().float()
    values = torch.linalg.svdvals(features - features.mean(dim=0))  # (min(B, F),)
    total = values.sum()
    if total <= 1e-5 * torch.linalg.vector_norm(features):  # rounding, not variation
        return torch.ones_like(total)
    shares = values / total
    return torch.exp(torch.special.entr(shares).sum())


def retrieval(z1: Tensor, z2: Tensor, top: int = 1) -> Tensor:
    """Share of samples whose second view (B, D) is among the `top` nearest to their first view, (), by cosine.

    Chance is top / B, so figures compare only for the same B.
    """
    _check_pair(z1, z2)
    similarity = F.normalize(z1.float(), dim=1) @ F.normalize(z2.float(), dim=1).T  # (B, B)
    closer = (similarity >= similarity.diagonal()[:, None]).sum(
        dim=1
    )  # (B,), the own one among them; ties count against
    return (closer <= top).float().mean()


# ---------------------------------------------------------------------------------------------------------------- tasks

Method = Literal["simclr", "cross-modal", "barlow", "vicreg", "agreement"]
_LOSSES: dict[str, tuple[Callable[..., Tensor], tuple[str, ...]]] = {
    "simclr": (nt_xent, ("temperature",)),
    "cross-modal": (cross_modal, ("temperature",)),
    "barlow": (barlow_twins, ("off_diagonal",)),
    "vicreg": (vicreg, ("similarity", "variance", "covariance")),
    "agreement": (agreement, ()),
}


class Contrast:
    """Agreement of two views: what `fit(SiameseNetwork(...), [Contrast("simclr")], augment=TwoViews(...))` learns.

    The learning of a pretext task says little about how good the features are; what does is a probe on labels. But
    `watch` shows at once whether it collapses: `spread` near 0, or `rank` far below what it was at the start.
    """

    def __init__(self, method: Method = "simclr", *, target: str = "contrast", **options: float) -> None:
        """Choose the loss: `nt_xent`, `cross_modal`, `barlow_twins`, `vicreg` or `agreement`; options by name.

        Raises:
            ValueError: an unknown method or option, or a value that the loss refuses.
        """
        if method not in _LOSSES:
            raise ValueError(f"unknown method {method!r}; choose one of {list(_LOSSES)}")
        self._loss, known = _LOSSES[method]
        if unknown := [name for name in options if name not in known]:
            raise ValueError(f"method {method!r} has no options {unknown}; it has {list(known)}")
        for name, value in options.items():
            if name == "temperature":
                _check_temperature(value)
            else:
                _check_weights(**{name: value})
        self.method, self.target, self.options = method, target, options

    def loss(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Any]) -> Tensor:
        """The loss of embeddings `view_1` and `view_2`, (B, D) each; see the function for its errors.

        Raises:
            MissingModalityError: the outputs lack the embeddings.
        """
        if "view_1" not in outputs or "view_2" not in outputs:
            raise MissingModalityError(
                f"the model's outputs lack view_1 and view_2; they have {sorted(outputs)}. Train a SiameseNetwork."
            )
        return self._loss(outputs["view_1"], outputs["view_2"], **self.options)

    def watch(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The collapse monitor of one batch: `spread` of the embeddings and `rank` of the features, () each."""
        return {"spread": spread(outputs["view_1"]), "rank": effective_rank(outputs["features"])}

    def metric(self) -> Samples:
        """Keeps all embeddings and features, so that figures are of all samples whatever the batches were."""
        return Samples(("view_1", "view_2", "features"))

    def update(self, metric: Samples, outputs: Mapping[str, Tensor], batch: Mapping[str, Any]) -> None:
        """Add the embeddings of one batch."""
        metric.update(outputs)

    def summary(self, metric: Samples) -> dict[str, float]:
        """`spread`, `rank` and `retrieval` over all samples; retrieval finds second views by first ones among them."""
        kept = metric.compute()
        return {
            "spread": float(spread(kept["view_1"])),
            "rank": float(effective_rank(kept["features"])),
            "retrieval": float(retrieval(kept["view_1"], kept["view_2"])),
        }

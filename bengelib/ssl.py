"""Self-supervised learning from pairs of views: the network, the task, and metrics that show a collapse.

A network embeds each view, and the loss demands that the two views of a sample agree while samples differ. Only the
second demand prevents the network from giving every sample the same embedding, which would agree perfectly. That is
called collapse, and each method here prevents it in its own way.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from inspect import Parameter, signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bengelib.arguments import real_number
from bengelib.errors import ArgumentError, BandError, MissingModalityError
from bengelib.losses import agreement, barlow_twins, check_pair, cosines, cross_modal, nt_xent, vicreg
from bengelib.processes import JoinedOutputs
from bengelib.running import Samples
from bengelib.transforms import Batch

ViewMaker = Callable[[Batch, torch.Generator], Batch]

# -------------------------------------------------------------------------------------------------------------- network


class SiameseNetwork(nn.Module):
    """An encoder and a projector that embed each of two views.

    The loss is computed on the embeddings, but the features of the encoder are kept: the projector may discard the
    differences of the views, such as brightness, so that the features need not (Chen et al. 2020, section 4.2).

    Attributes:
        inputs: inputs of the encoders, modality to band names.
        encoder: of the first view, and of the second unless there is `encoder_2`.
    """

    def __init__(
        self,
        encoder: nn.Module,
        projector_dim: int = 128,
        hidden: int | None = None,
        encoder_2: nn.Module | None = None,
        views: ViewMaker | None = None,
    ) -> None:
        """Build one projector per encoder.

        Args:
            encoder: takes a dict batch, returns features (B, feature_dim); see `bengelib.fusion`.
            projector_dim: length of the embeddings.
            hidden: width of the hidden layer of the projector; that of the features unless given.
            encoder_2: encoder of the second view, for views of two sensors.
            views: makes the views of batches that have none, such as validation batches, always with the same seed; for
                example the `TwoViews` of the training. Two encoders need none: each reads its own modalities.

        Raises:
            BandError: the two encoders read different bands of the same modality.
        """
        super().__init__()
        self.encoder = encoder
        self.projector = perceptron(feature_dim(encoder), projector_dim, hidden)
        self.encoder_2 = encoder_2
        self.projector_2 = None if encoder_2 is None else perceptron(feature_dim(encoder_2), projector_dim, hidden)
        self.views = views
        self.inputs: dict[str, Any] = dict(getattr(encoder, "inputs", {}))
        for key, bands in getattr(encoder_2, "inputs", {}).items():
            if self.inputs.setdefault(key, bands) != bands:
                raise BandError(f"the encoders read different bands of {key}: {self.inputs[key]} and {bands}")

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Embeddings `view_1` and `view_2`, (B, projector_dim) each, and `features` (B, F) of the first view.

        Raises:
            MissingModalityError: the batch has no views, and the network has no `views` to make them.
        """
        if self.encoder_2 is not None and self.views is None and "view_1" not in batch:
            batch = {"view_1": batch, "view_2": batch}
        first, second = two_views(batch, self.views, self.training)
        features = self.encoder(first)  # (B, F)
        others = (self.encoder_2 or self.encoder)(second)  # (B, F) or, of another encoder, (B, F2)
        return {
            "view_1": self.projector(features),
            "view_2": (self.projector_2 or self.projector)(others),
            "features": features,
        }


def two_views(batch: Batch, views: ViewMaker | None = None, training: bool = False) -> tuple[Batch, Batch]:
    """Both views of a batch; if it has none, as in validation, `views` makes them, always with the same seed.

    Raises:
        MissingModalityError: the batch has no views, and `views` is None.
        ArgumentError: a batch of one in training, which cannot be normalised.
    """
    if "view_1" not in batch or "view_2" not in batch:
        if views is None:
            raise MissingModalityError(
                f"no view_1 and view_2 in a batch of {sorted(batch)}; train with "
                "fit(..., augment=TwoViews(Views(...))), and to validate as well give the network "
                "views=TwoViews(Views(...))"
            )
        batch = views(batch, torch.Generator().manual_seed(0))
    first: Batch = batch["view_1"]
    if training and any(isinstance(value, Tensor) and len(value) == 1 for value in first.values()):
        raise ArgumentError("a batch of one has nothing to be compared with; train on batches of two samples or more")
    return first, batch["view_2"]


def perceptron(inputs: int, outputs: int, hidden: int | None = None, last_norm: bool = False) -> nn.Sequential:
    """Two linear layers with batch normalisation between: the projectors and predictors of self-supervised learning.

    The first layer has no bias, which batch normalisation would remove.

    Args:
        inputs: length of the inputs.
        outputs: length of the outputs.
        hidden: width of the hidden layer; that of the inputs unless given.
        last_norm: end with a batch normalisation without weights; the last layer then has no bias either.
    """
    hidden = hidden or inputs
    layers = [nn.Linear(inputs, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True)]
    layers.append(nn.Linear(hidden, outputs, bias=not last_norm))
    return nn.Sequential(*layers, *([nn.BatchNorm1d(outputs, affine=False)] if last_norm else []))


def feature_dim(encoder: nn.Module) -> int:
    """Length of the features of an encoder."""
    return int(encoder.feature_dim)  # type: ignore[arg-type]


# -------------------------------------------------------------------------------------------------------------- monitor


def spread(embeddings: Tensor) -> Tensor:
    """Spread of the directions of embeddings (B, D), (): about 1 if healthy, 0 if collapsed to one point.

    The mean over dimensions of the standard deviation of the embeddings scaled to length 1, times sqrt(D); uniformly
    distributed directions have 1 (Chen and He 2021, arXiv:2011.10566, section 4.1).
    """
    z = F.normalize(embeddings.detach().float(), dim=1)  # (B, D)
    return z.std(dim=0, correction=0).mean() * math.sqrt(z.shape[1])


def effective_rank(features: Tensor) -> Tensor:
    """Effective rank of features (B, F), the number of directions in which they vary, (): from 1 to min(B - 1, F).

    exp of the entropy of the singular values of the centred features, scaled to sum 1 (Roy and Vetterli 2007; used to
    evaluate features without labels by Garrido et al. 2023, arXiv:2210.02885). A low rank is a dimensional collapse,
    which `spread` does not show. Equal features have rank 1.
    """
    features = features.detach().float()
    values = torch.linalg.svdvals(features - features.mean(dim=0))  # (min(B, F),)
    total = values.sum()
    if total <= 1e-5 * torch.linalg.vector_norm(features):  # rounding, not variation
        return torch.ones_like(total)
    shares = values / total
    return torch.exp(torch.special.entr(shares).sum())


def retrieval(z1: Tensor, z2: Tensor, top: int = 1) -> Tensor:
    """Fraction of samples whose second view (B, D) is among the `top` nearest to their first view, (), by cosine.

    Chance level is top / B, so values are comparable for equal B only.
    """
    check_pair(z1, z2)
    similarity = cosines(z1, z2)  # (B, B)
    closer = (similarity >= similarity.diagonal()[:, None]).sum(
        dim=1
    )  # (B,), including its own second view; ties count against it
    return (closer <= top).float().mean()


# ---------------------------------------------------------------------------------------------------------------- tasks

_LOSSES: dict[str, Callable[..., Tensor]] = {
    "simclr": nt_xent,
    "cross-modal": cross_modal,
    "barlow": barlow_twins,
    "vicreg": vicreg,
    "agreement": agreement,
}


class Contrast:
    """Agreement of two views, for `fit(SiameseNetwork(...), [Contrast("simclr")], augment=TwoViews(...))`.

    The loss of a pretext task says little about the quality of the features, which a probe on labels measures. But
    `watch` shows a collapse at once: `spread` near 0, or `rank` far below its initial value.
    """

    def __init__(
        self, method: str | Callable[..., Tensor] = "simclr", *, target: str = "contrast", **options: float
    ) -> None:
        """Choose the loss.

        Args:
            method: `"simclr"`, `"cross-modal"`, `"barlow"`, `"vicreg"` or `"agreement"`, with a loss of
                `bengelib.losses`; or a function of all outputs of a network, such as `bengelib.methods.byol.byol`.
            target: name of the task.
            **options: of the loss, such as `temperature`.

        Raises:
            ValueError: an unknown method or option, or an invalid value.
        """
        if isinstance(method, str):
            if method not in _LOSSES:
                raise ValueError(f"unknown method {method!r}; choose one of {list(_LOSSES)}")
            name, loss = method, _LOSSES[method]
            self._loss: Callable[..., Tensor] = partial(_of_two_views, loss)
        else:
            name, loss = method.__name__, method
            self._loss = loss
        known = [option for option, each in signature(loss).parameters.items() if each.default is not Parameter.empty]
        if unknown := [option for option in options if option not in known]:
            raise ValueError(f"method {name!r} has no options {unknown}; it has {known}")
        for option, value in options.items():
            if option == "temperature":
                real_number(option, value, above=0)
            else:
                real_number(option, value, least=0)
        self.method, self.target, self.options = name, target, options

    def loss(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Any]) -> Tensor:
        """The loss, (); see the loss function for its errors.

        In training it is the loss of the joined batch of all processes, which must have equally many samples.

        Raises:
            MissingModalityError: the outputs lack an input of the loss, such as the embeddings `view_1` and `view_2`.
        """
        try:
            return self._loss(JoinedOutputs(outputs), **self.options)
        except KeyError as error:
            raise MissingModalityError(
                f"the loss {self.method!r} reads {error} of the model's outputs, which are {sorted(outputs)}. Train "
                f"{'a SiameseNetwork' if self.method in _LOSSES else 'the network of the method'}."
            ) from error

    def watch(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The collapse monitor of one batch: `spread` of the embeddings and `rank` of the features, () each."""
        return {"spread": spread(outputs["view_1"]), "rank": effective_rank(outputs["features"])}

    def metric(self) -> Samples:
        """All embeddings and features, so that metrics do not depend on the batches."""
        return Samples(("view_1", "view_2", "features"))

    def update(self, metric: Samples, outputs: Mapping[str, Tensor], batch: Mapping[str, Any]) -> None:
        """Add the embeddings of one batch."""
        metric.update(outputs)

    def summary(self, metric: Samples) -> dict[str, float]:
        """`spread`, `rank` and `retrieval` over all samples; retrieval searches the second view of each first view."""
        kept = metric.compute()
        return {
            "spread": float(spread(kept["view_1"])),
            "rank": float(effective_rank(kept["features"])),
            "retrieval": float(retrieval(kept["view_1"], kept["view_2"])),
        }


def _of_two_views(loss: Callable[..., Tensor], outputs: Mapping[str, Tensor], **options: float) -> Tensor:
    return loss(outputs["view_1"], outputs["view_2"], **options)

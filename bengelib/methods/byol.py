"""BYOL: predict what a slow copy of the network says of the other view, without any negatives.

Grill et al. 2020, "Bootstrap Your Own Latent", arXiv:2006.07733. Nothing in the loss forbids the same answer for all
images; what keeps the network from it is that only one side is trained. Take away the predictor, the stop-gradient or
the slowness of the copy, and see with `Contrast.watch`.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from bengelib.losses import agreement
from bengelib.methods.momentum import Target
from bengelib.ssl import ViewMaker, feature_dim, perceptron, two_views
from bengelib.transforms import Batch


class BYOL(nn.Module):
    """An encoder, a projector and a predictor that are trained, and a target of encoder and projector that follows.

    Train it with `fit(BYOL(encoder), [Contrast(byol)], ..., augment=TwoViews(views))`; what one keeps is `encoder`.

    The paper: projector and predictor 4096 wide, embeddings of 256, momentum 0.996 to 1 over 1,000 epochs of ImageNet
    (0.99 over 300), LARS at batches of 4,096. The learning rates of LARS are not those of AdamW, at which they collapse
    the network; take about 1e-3.

    Attributes:
        inputs: what the encoder reads, modality to band names.
    """

    def __init__(
        self,
        encoder: nn.Module,
        projector_dim: int = 256,
        hidden: int | None = None,
        *,
        momentum: float = 0.99,
        predictor: bool = True,
        stop_gradient: bool = True,
        last_norm: bool = False,
        views: ViewMaker | None = None,
    ) -> None:
        """Build projector, predictor and target.

        Args:
            encoder: takes a dict batch, returns features (B, feature_dim); see `bengelib.fusion`.
            projector_dim: length of the embeddings.
            hidden: width of projector and predictor between; that of what they take unless given.
            momentum: of the target, from here to 1 along a cosine; 0 makes it the network of the step before.
            predictor: False takes the predictor away.
            stop_gradient: False makes the network its own target, through which the gradient goes.
            last_norm: end projector and predictor in a batch normalisation, see `perceptron`.
            views: makes the views of batches that come without any, see `SiameseNetwork`.

        Raises:
            ArgumentError: a momentum outside [0, 1].
        """
        super().__init__()
        self.encoder = encoder
        self.projector = perceptron(feature_dim(encoder), projector_dim, hidden, last_norm)
        self.predictor = perceptron(projector_dim, projector_dim, hidden, last_norm) if predictor else nn.Identity()
        self.target = Target(self._online(), momentum) if stop_gradient else None
        self.views = views
        self.inputs: dict[str, Any] = dict(getattr(encoder, "inputs", {}))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Embeddings of both views, (B, projector_dim) each, and `features` (B, F) of the first.

        `view_1` and `view_2` are those of the projector, `prediction_1` and `prediction_2` what the predictor makes of
        them, `target_1` and `target_2` those of the target.
        """
        first, second = two_views(batch, self.views, self.training)
        features = self.encoder(first)  # (B, F)
        view_1, view_2 = self.projector(features), self.projector(self.encoder(second))
        return {
            "view_1": view_1,
            "view_2": view_2,
            "prediction_1": self.predictor(view_1),
            "prediction_2": self.predictor(view_2),
            "target_1": view_1 if self.target is None else self.target(first),
            "target_2": view_2 if self.target is None else self.target(second),
            "features": features,
        }

    def after_step(self, outputs: Mapping[str, Tensor], step: int, steps: int) -> None:
        """Let the target follow, after optimiser step `step` of `steps`, the first of which is 0; `fit` calls it."""
        if self.target is not None:
            self.target.after_step(self._online(), step, steps)

    def _online(self) -> nn.Sequential:
        return nn.Sequential(self.encoder, self.projector)


def byol(outputs: Mapping[str, Tensor]) -> Tensor:
    """Loss of BYOL (equation 2, both ways round), from 0 to 8: for `Contrast(byol)`.

    With q the predictions, z' the targets and s the cosine similarity, the mean over the batch of
    (2 - 2 s(q_1, z'_2)) + (2 - 2 s(q_2, z'_1)).

    Sanity values: 0 where predictions are their targets (and where all embeddings are equal, the collapse), 4 where
    they are at right angles, 8 where they are opposite.

    Args:
        outputs: `prediction_1`, `prediction_2`, `target_1` and `target_2`, (B, D) each, B of 2 or more.

    Raises:
        ValueError: other shapes, or a batch of one.
        NonFiniteLossError: an embedding on the CPU is NaN or infinite.
    """
    return agreement(outputs["prediction_1"], outputs["target_2"]) + agreement(
        outputs["prediction_2"], outputs["target_1"]
    )

"""BYOL: predict the embedding of the other view by a momentum copy of the network, without negatives.

Grill et al. 2020, "Bootstrap Your Own Latent", arXiv:2006.07733. The loss does not exclude equal embeddings of all
images; collapse is prevented because only one side is trained. Remove the predictor, the stop-gradient or the momentum,
and watch the effect with `Contrast.watch`.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from bengelib.losses import agreement
from bengelib.methods.momentum import Target
from bengelib.ssl import ViewMaker, feature_dim, perceptron, two_views
from bengelib.transforms import Batch


class BYOL(nn.Module):
    """A trained encoder, projector and predictor, and a target network of encoder and projector that follows them.

    Train it with `fit(BYOL(encoder), [Contrast(byol)], ..., augment=TwoViews(views))` and keep `encoder`.

    The paper: projector and predictor 4096 wide, embeddings of 256, momentum 0.996 to 1 over 1,000 epochs of ImageNet
    (0.99 over 300), LARS at batches of 4,096. The learning rates of LARS make the network collapse with AdamW; use
    about 1e-3.

    Attributes:
        inputs: inputs of the encoder, modality to band names.
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
            hidden: width of the hidden layers of projector and predictor; by default that of their inputs.
            momentum: initial momentum of the target, which increases to 1 along a cosine; 0 copies the network.
            predictor: False removes the predictor.
            stop_gradient: False makes the network its own target, with gradients.
            last_norm: end projector and predictor with a batch normalisation, see `perceptron`.
            views: makes the views of batches that have none, see `SiameseNetwork`.

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

        `view_1` and `view_2` are outputs of the projector, `prediction_1` and `prediction_2` those of the predictor,
        `target_1` and `target_2` those of the target.
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
        """Update the target after optimiser step `step` of `steps`, the first of which is 0; called by `fit`."""
        if self.target is not None:
            self.target.after_step(self._online(), step, steps)

    def _online(self) -> nn.Sequential:
        return nn.Sequential(self.encoder, self.projector)


def byol(outputs: Mapping[str, Tensor]) -> Tensor:
    """Loss of BYOL (equation 2, symmetrised), from 0 to 8, for `Contrast(byol)`.

    With q the predictions, z' the targets and s the cosine similarity, the mean over the batch of
    (2 - 2 s(q_1, z'_2)) + (2 - 2 s(q_2, z'_1)).

    Sanity values: 0 if predictions equal their targets (and if all embeddings are equal, that is collapsed), 4 if they
    are orthogonal, 8 if they are opposite.

    Args:
        outputs: `prediction_1`, `prediction_2`, `target_1` and `target_2`, (B, D) each with B >= 2.

    Raises:
        ValueError: wrong shapes, or a batch of one.
        NonFiniteLossError: an embedding on the CPU is NaN or infinite.
    """
    return agreement(outputs["prediction_1"], outputs["target_2"]) + agreement(
        outputs["prediction_2"], outputs["target_1"]
    )

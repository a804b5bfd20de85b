"""DeCUR: embeddings of two sensors with common and unique dimensions.

Wang et al. 2024, "Decoupling Common and Unique Representations for Multimodal Self-supervised Learning",
arXiv:2309.05300. A contrastive loss of two sensors keeps only information of both; here each sensor also learns, from
two views of its own, information that the other lacks. All terms are those of Barlow Twins, without negatives.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from bengelib.arguments import check_share, real_number
from bengelib.errors import ArgumentError
from bengelib.losses import barlow_twins, check_pair, cross_correlation
from bengelib.ssl import SiameseNetwork, two_views
from bengelib.transforms import Batch


class DeCUR(SiameseNetwork):
    """Two encoders with a projector each, which embed each of two views: four embeddings per sample.

    Train it with `fit(DeCUR(encoder, encoder_2=other), [Contrast(decur)], ..., augment=TwoViews(views))` on batches of
    both sensors, with the same crop of both in each view.

    The paper: three layers of 8192 in the projectors, the first 7,168 dimensions common, 100 epochs.
    """

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Embeddings by both sensors: `view_1` and `view_2` of the first view, `again_1` and `again_2` of the second.

        All are (B, projector_dim); `features` (B, F) are those of the first view by the first sensor.

        Raises:
            MissingModalityError: the batch has no views, and the network has no `views` to make them.
            ArgumentError: there is only one encoder.
        """
        if self.encoder_2 is None or self.projector_2 is None:
            raise ArgumentError("DeCUR has two encoders, one for each sensor; give encoder_2 as well")
        first, second = two_views(batch, self.views, self.training)
        features = self.encoder(first)  # (B, F)
        return {
            "view_1": self.projector(features),
            "again_1": self.projector(self.encoder(second)),
            "view_2": self.projector_2(self.encoder_2(first)),
            "again_2": self.projector_2(self.encoder_2(second)),
            "features": features,
        }


def decoupled(z1: Tensor, z2: Tensor, common: float = 0.875, lambda_param: float = 5e-3) -> Tensor:
    """The term of DeCUR between two sensors, 0 or more.

    With C the correlation over the batch of each dimension of z1 with each of z2, of which only the blocks of the
    common dimensions c and of the unique dimensions u count:
    sum over c of (1 - C_ii)^2 + sum over u of C_ii^2 + lambda_param * sum over i != j within a block of C_ij^2.

    Sanity values: the number of common dimensions when all embeddings are equal; that of the unique ones for equal
    embeddings of uncorrelated dimensions.

    Args:
        z1: embeddings of the first sensor, (B, D) with B >= 2; its first dimensions are the common ones.
        z2: embeddings of the second sensor, (B, D).
        common: fraction of common dimensions, from 0 to 1.
        lambda_param: weight of the last sum, 0 or more.

    Raises:
        ValueError: wrong shapes, a batch of one, or (`ArgumentError`) a fraction or weight outside its range.
        NonFiniteLossError: an embedding on the CPU is NaN or infinite; on another device the loss is NaN.
    """
    check_pair(z1, z2)
    check_share("common", common, zero=True)
    real_number("lambda_param", lambda_param, least=0)
    correlation = cross_correlation(z1, z2)  # (D, D)
    shared = round(common * len(correlation))
    wanted = torch.zeros(len(correlation), device=z1.device)  # (D,), of the diagonal
    wanted[:shared] = 1
    diagonal = correlation.diagonal()  # (D,)
    blocks = correlation[:shared, :shared].square().sum() + correlation[shared:, shared:].square().sum()  # ()
    return (wanted - diagonal).square().sum() + lambda_param * (blocks - diagonal.square().sum())


def decur(outputs: Mapping[str, Tensor], common: float = 0.875, lambda_param: float = 5e-3) -> Tensor:
    """Loss of DeCUR, 0 or more, for `Contrast(decur)`.

    The sum of Barlow Twins between the two views of the first sensor, the same of the second, and `decoupled` between
    the first views of both. (The authors' code halves the last term.)

    Sanity value: `2 D + common D` when all embeddings are equal.

    Args:
        outputs: `view_1`, `again_1`, `view_2` and `again_2`, (B, D) each with B >= 2.
        common: fraction of common dimensions; 0.875 in the paper.
        lambda_param: weight of correlations of different dimensions; 0.0051 in the paper.

    Raises:
        ValueError: see `decoupled`.
        NonFiniteLossError: see `decoupled`.
    """
    within = barlow_twins(outputs["view_1"], outputs["again_1"], lambda_param)
    within_2 = barlow_twins(outputs["view_2"], outputs["again_2"], lambda_param)
    return within + within_2 + decoupled(outputs["view_1"], outputs["view_2"], common, lambda_param)

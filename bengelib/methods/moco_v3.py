"""MoCo v3: a contrastive loss between predictions of a network and embeddings of its momentum copy, within a batch.

Chen, Xie and He 2021, "An Empirical Study of Training Self-Supervised Vision Transformers", arXiv:2104.02057. The
network is that of BYOL; the loss has the other samples of the batch as negatives, and there is no queue.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bengelib.arguments import real_number
from bengelib.losses import check_pair, cosines
from bengelib.methods.byol import BYOL
from bengelib.ssl import ViewMaker


class MoCoV3(BYOL):
    """The network of BYOL, with projector and predictor that end with a batch normalisation without weights.

    Train it with `fit(MoCoV3(encoder), [Contrast(moco_v3)], ..., augment=TwoViews(views))`.

    The paper: both 4096 wide, embeddings of 256, momentum 0.99 to 1 (0.996 for 1,000 epochs), batches of 4,096.
    """

    def __init__(
        self,
        encoder: nn.Module,
        projector_dim: int = 256,
        hidden: int | None = None,
        *,
        momentum: float = 0.99,
        views: ViewMaker | None = None,
    ) -> None:
        """Build projector, predictor and target; see `BYOL` for arguments and errors."""
        super().__init__(encoder, projector_dim, hidden, momentum=momentum, last_norm=True, views=views)


def moco_v3(outputs: Mapping[str, Tensor], temperature: float = 0.2) -> Tensor:
    """Loss of MoCo v3 (algorithm 1), 0 or more, for `Contrast(moco_v3)`.

    With q the predictions of one view, k the targets of the other, s the cosine similarity and t the temperature, the
    mean over i of -log( exp(s(q_i, k_i) / t) / sum over j of exp(s(q_i, k_j) / t) ), times 2 t, summed over both
    assignments of the views. The factor makes the size of the gradient independent of the temperature.

    Sanity value: `4 t log(B)` when all embeddings are equal.

    Args:
        outputs: `prediction_1`, `prediction_2`, `target_1` and `target_2`, (B, D) each with B >= 2.
        temperature: t > 0; in the paper 1 for a ResNet-50 and 0.2 for vision transformers.

    Raises:
        ValueError: wrong shapes, a batch of one, or (`ArgumentError`) a temperature that is not above 0.
        NonFiniteLossError: an embedding on the CPU is NaN or infinite.
    """
    real_number("temperature", temperature, above=0)
    total = torch.zeros((), device=outputs["prediction_1"].device)
    for queries, keys in (("prediction_1", "target_2"), ("prediction_2", "target_1")):
        check_pair(outputs[queries], outputs[keys])
        similarity = cosines(outputs[queries], outputs[keys]) / temperature  # (B, B)
        own = torch.arange(len(similarity), device=similarity.device)  # (B,), the positives are on the diagonal
        total = total + F.cross_entropy(similarity, own)
    return 2 * temperature * total

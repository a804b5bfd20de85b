"""GASSL: MoCo together with geolocation, the classification of the region in which an image was taken.

Ayush et al. 2021, "Geography-Aware Self-Supervised Learning", arXiv:2011.09980. The location is a label that every
georeferenced image has. The other part of the paper, views of one location on two dates, is in `seco` and `pairs`; on
its data (fMoW) that part helps more than this one, and both together less than two dates alone (table 1).
"""

from torch import Tensor, nn

from bengelib.arguments import whole_number
from bengelib.methods.moco import MoCo
from bengelib.ssl import ViewMaker
from bengelib.transforms import Batch


class GASSL(MoCo):
    """MoCo with a head that classifies the region of an image from its query: ReLU, then one linear layer.

    Train it with `fit(GASSL(encoder, regions), [Contrast(moco), Geolocation(clusters)], ..., augment=TwoViews(views))`:
    the sum of both losses, alpha = beta = 1 in the paper (other weights by `FixedWeights`). The clusters are
    `place_clusters(lonlat, regions)` of training images only.

    Sanity value: the loss of an uninformed head is `log(regions)`, 4.605 for the 100 regions of the paper, which uses
    65,536 keys, a temperature of 0.02 and 200 epochs.
    """

    def __init__(
        self,
        encoder: nn.Module,
        regions: int = 20,
        projector_dim: int = 128,
        hidden: int | None = None,
        *,
        momentum: float = 0.99,
        queue: int = 4096,
        views: ViewMaker | None = None,
    ) -> None:
        """Add a head for `regions` regions; see `MoCo` for the other arguments and the errors."""
        super().__init__(encoder, projector_dim, hidden, momentum=momentum, queue=queue, views=views)
        self.place = nn.Sequential(nn.ReLU(), nn.Linear(projector_dim, whole_number("regions", regions)))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Outputs of `MoCo`, and the logits `place` (B, regions)."""
        outputs = super().forward(batch)
        return {**outputs, "place": self.place(outputs["view_1"])}

"""GASSL: contrast with a queue, and beside it the question where on earth an image was taken.

Ayush et al. 2021, "Geography-Aware Self-Supervised Learning", arXiv:2011.09980. Where an image was taken is a label
that every georeferenced image has. Their other half, views of one place on two dates, is in `seco` and `pairs`; on
their data (fMoW) it helps more than this one, and both together less than views of two dates alone (their table 1).
"""

from torch import Tensor, nn

from bengelib.arguments import whole_number
from bengelib.methods.moco import MoCo
from bengelib.ssl import ViewMaker
from bengelib.transforms import Batch


class GASSL(MoCo):
    """MoCo with a head that names the region of an image from its query: rectifier, then one linear layer.

    Train it with `fit(GASSL(encoder, regions), [Contrast(moco), Geolocation(clusters)], ..., augment=TwoViews(views))`:
    the sum of both losses, alpha = beta = 1 in the paper (other weights by `FixedWeights`). The clusters are
    `place_clusters(lonlat, regions)` of training images only.

    Sanity value: the loss of the head is `log(regions)` where it cannot tell, 4.605 for the 100 regions of the paper,
    which takes 65,536 keys, a temperature of 0.02 and 200 epochs.
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
        """Add the head; `regions` is the number of regions, for the other arguments and the errors see `MoCo`."""
        super().__init__(encoder, projector_dim, hidden, momentum=momentum, queue=queue, views=views)
        self.place = nn.Sequential(nn.ReLU(), nn.Linear(projector_dim, whole_number("regions", regions)))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """What `MoCo` gives, and the logits `place` (B, regions)."""
        outputs = super().forward(batch)
        return {**outputs, "place": self.place(outputs["view_1"])}

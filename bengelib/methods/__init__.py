"""Methods of self-supervised learning, each in a module that holds what it adds to the frame in `ssl`.

The table of them stands here, without torch, so that `--help` and `python -m bengelib methods` are quick.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """Facts about a method.

    Attributes:
        learns: what a network has to do.
        source: paper, with its number on arXiv.
        cost: see `COST`.
        needs: what the data must have beside images: `"two sensors"`, `"two dates"`, or a key of a batch, `"lonlat"`.
        settings: fields of `recipes.pretraining.Pretraining` that this method has and others lack.
    """

    learns: str
    source: str
    cost: float
    needs: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()

    @property
    def two_sensors(self) -> bool:
        """True if it trains two encoders, one for each sensor."""
        return "two sensors" in self.needs


TABLE = {
    "simclr": Method(
        "find the other view of an image among all views of the batch",
        "Chen et al. 2020, arXiv:2002.05709",
        1.0,
        settings=("temperature",),
    ),
    "barlow": Method(
        "each dimension agrees between the views and with no other dimension",
        "Zbontar et al. 2021, arXiv:2103.03230",
        1.0,
    ),
    "vicreg": Method(
        "views agree, each dimension varies, and no two dimensions vary together",
        "Bardes et al. 2022, arXiv:2105.04906",
        1.0,
    ),
    "byol": Method(
        "predict what a slow copy of the network says of the other view",
        "Grill et al. 2020, arXiv:2006.07733",
        1.4,
        settings=("momentum",),
    ),
    "moco-v2": Method(
        "find what a slow copy says of the other view among a queue of earlier images",
        "He et al. 2020, arXiv:1911.05722; Chen et al. 2020, arXiv:2003.04297",
        0.7,
        settings=("temperature", "momentum", "queue"),
    ),
    "moco-v3": Method(
        "predict what a slow copy says of the other view, and tell it from the rest of the batch",
        "Chen et al. 2021, arXiv:2104.02057",
        1.4,
        settings=("temperature", "momentum"),
    ),
    "mae": Method(
        "reconstruct hidden patches of an image from the visible ones",
        "He et al. 2022, arXiv:2111.06377",
        0.2,
    ),
    "cross-modal": Method(
        "find the image of the other sensor among the batch",
        "Radford et al. 2021, arXiv:2103.00020",
        0.8,
        needs=("two sensors",),
        settings=("temperature",),
    ),
    "decur": Method(
        "Barlow Twins within each sensor, and between both for the dimensions that they share",
        "Wang et al. 2024, arXiv:2309.05300",
        1.7,
        needs=("two sensors",),
    ),
    "gassl": Method(
        "MoCo v2, and the region of the earth that an image lies in",
        "Ayush et al. 2021, arXiv:2011.09980",
        0.7,
        needs=("lonlat",),
        settings=("temperature", "momentum", "queue", "regions"),
    ),
    "seco": Method(
        "MoCo v2 in three spaces: invariant to season and changes, to season, to changes",
        "Mañas et al. 2021, arXiv:2103.16607",
        1.1,
        needs=("two dates",),
        settings=("temperature", "momentum", "queue"),
    ),
    "multi-pretext": Method(
        "reconstruct hidden squares of an image and, from the visible ones, all else that is known of the place",
        "Nedungadi et al. 2024, arXiv:2405.02771; Woo et al. 2023, arXiv:2301.00808",
        3.0,
    ),
    "place-image": Method(
        "find the place of an image, as a location encoder codes it, among those of the batch",
        "Klemmer et al. 2025, arXiv:2311.17179",
        0.5,
        needs=("lonlat",),
        settings=("temperature",),
    ),
}
"""Every method that `recipes.pretraining` and the command `pretrain` know, by name. A new one is added here and in
`recipes.pretraining.pretext`."""

COST = (
    "cost: multiply-adds of a training step, forward and backward, relative to SimCLR's with the same images; counted "
    "by torch's FlopCounterMode for the defaults of pretrain (ResNet-18 of half width, a small transformer for mae, a "
    "ConvNeXt V2 for multi-pretext) on 14 bands of 64 x 64 pixels (multi-pretext 72 x 72). Making views is not in it."
)
"""A line that explains the column `cost`."""

METHODS = tuple(TABLE)
"""Names of the methods."""

MASKED = ("mae", "multi-pretext")
"""Methods that hide squares of an image: their networks read whole squares, and views are not smaller than images."""

"""SeCo: three embedding spaces with different invariances: to season and augmentation, or to one of them.

Mañas et al. 2021, "Seasonal Contrast", arXiv:2103.16607. It needs images of one location on two dates. The simulated
data show some locations twice; ben-ge shows each location once, so it holds no information about seasons.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from bengelib.arguments import real_number
from bengelib.errors import MissingModalityError
from bengelib.losses import check_pair, cosines, paired_cosines
from bengelib.methods.moco import Queue, info_nce, plain_perceptron
from bengelib.methods.momentum import Target
from bengelib.methods.pairs import halves
from bengelib.ssl import feature_dim
from bengelib.transforms import Batch
from bengelib.views import Augmentation, Views

KEYS = ("view_2", "other_date", "changed")
"""The views of the keys, in the order of the spaces whose positives they are."""


class SeCoViews:
    """Four views of a batch of `Pairs`, whose partners are images of the same locations on another date.

    | | date | changes |
    |---|---|---|
    | `view_1`, the query | first | crop |
    | `view_2` | other | all |
    | `other_date` | other | crop |
    | `changed` | first | all |

    The paper draws three of five dates for each location, so its `view_2` and `other_date` are of two dates.
    """

    def __init__(self, crop: Augmentation, changes: Augmentation) -> None:
        """Make the views with `crop`, for example `crop_only(Views(64))`, and `changes`, for example `Views(64)`."""
        self.crop, self.changes = crop, changes

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """The first half of the batch, with all four views."""
        first, other = halves(batch)
        views = {
            "view_1": self.crop(first, generator),
            "view_2": self.changes(other, generator),
            "other_date": self.crop(other, generator),
            "changed": self.changes(first, generator),
        }
        return {**first, **views}


def crop_only(views: Views) -> Views:
    """The same views with a random crop as the only augmentation."""
    return replace(views, turn=False, gain=0.0, offset=0.0, band_dropout=0.0, blur=0.0, noise=0.0, speckle=0.0)


class SeCo(nn.Module):
    """A trained encoder with three projectors, a target network of all four, and a queue of keys for each space.

    Train it with `fit(SeCo(encoder), [Contrast(seco)], Pairs(train, partners), ..., augment=SeCoViews(...))` and keep
    `encoder`.

    The paper: embeddings of 128, 16,384 keys per space, momentum 0.999, SGD at batches of 256 for 200 epochs.

    Attributes:
        inputs: inputs of the encoder, modality to band names.
    """

    def __init__(
        self,
        encoder: nn.Module,
        projector_dim: int = 128,
        hidden: int | None = None,
        *,
        momentum: float = 0.99,
        queue: int = 4096,
    ) -> None:
        """Build projectors, target and queues; see `MoCo` for arguments and errors."""
        super().__init__()
        self.encoder = encoder
        self.projector = _Spaces(feature_dim(encoder), projector_dim, hidden)
        self.target = Target(self._online(), momentum, final=momentum)
        self.queues = nn.ModuleList(Queue(queue, projector_dim) for _ in KEYS)
        self.inputs: dict[str, Any] = dict(getattr(encoder, "inputs", {}))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Queries and keys in each space, and embeddings for the monitor.

        `queries` (B, 3, D) are by space, `keys` (B, 3, 3, D) by kind (see `KEYS`) and space, `to_queue` (B, 3, K) is
        the cosine similarity of each query to each key of its queue. `view_1` and `view_2` (B, D) are query and key of
        the first space, `features` (B, F) those of the query.

        Raises:
            MissingModalityError: the batch lacks one of the four views.
        """
        if missing := [key for key in ("view_1", *KEYS) if key not in batch]:
            raise MissingModalityError(
                f"no {missing} in a batch of {sorted(batch)}; train with fit(..., Pairs(train, partners), "
                "augment=SeCoViews(...))"
            )
        features = self.encoder(batch["view_1"])  # (B, F)
        queries = self.projector(features)  # (B, 3, D)
        keys = torch.stack([self.target(batch[key]) for key in KEYS], dim=1)  # (B, 3, 3, D)
        to_queue = [cosines(queries[:, space], self._queue(space).keys) for space in range(len(KEYS))]
        return {
            "view_1": queries[:, 0],
            "view_2": keys[:, 0, 0],
            "queries": queries,
            "keys": keys,
            "to_queue": torch.stack(to_queue, dim=1),
            "features": features,
        }

    def after_step(self, outputs: Mapping[str, Tensor], step: int, steps: int) -> None:
        """Add the keys of a step to the queues and update the target; see `Target.after_step`. Called by `fit`."""
        for space in range(len(KEYS)):
            self._queue(space).push(outputs["keys"][:, space, space])
        self.target.after_step(self._online(), step, steps)

    def _queue(self, space: int) -> Queue:
        queue: Queue = self.queues[space]  # type: ignore[assignment]
        return queue

    def _online(self) -> nn.Sequential:
        return nn.Sequential(self.encoder, self.projector)


class _Spaces(nn.ModuleList):
    """A projector for each space: features (B, F) to embeddings (B, 3, D)."""

    def __init__(self, inputs: int, outputs: int, hidden: int | None) -> None:
        super().__init__(plain_perceptron(inputs, outputs, hidden) for _ in KEYS)

    def forward(self, features: Tensor) -> Tensor:
        return torch.stack([projector(features) for projector in self], dim=1)


def seco(outputs: Mapping[str, Tensor], temperature: float = 0.2) -> Tensor:
    """Loss of SeCo (section 3.2), 0 or more, for `Contrast(seco)`: the sum over the spaces of the loss of `moco`.

    In the second and third space the negatives also include the 2 B keys of the batch of the other two kinds, which
    differ from the query in a property that this space has to retain.

    Sanity value: `log(1 + K) + 2 log(1 + K + 2 B)` if all embeddings are equal.

    Args:
        outputs: `queries`, `keys` and `to_queue` of `SeCo`, with B >= 2.
        temperature: above 0; 0.07 in the paper.

    Raises:
        ValueError: a batch of one, or (`ArgumentError`) a temperature that is not above 0.
        NonFiniteLossError: an embedding on the CPU is NaN or infinite.
    """
    real_number("temperature", temperature, above=0)
    queries, keys, to_queue = outputs["queries"], outputs["keys"], outputs["to_queue"]
    losses = []
    for space in range(len(KEYS)):
        query, own = queries[:, space], keys[:, space, space]  # (B, D) each
        check_pair(query, own)
        others = [to_queue[:, space]]
        if space > 0:
            others += [cosines(query, keys[:, kind, space]) for kind in range(len(KEYS)) if kind != space]
        losses.append(info_nce(paired_cosines(query, own), torch.cat(others, dim=1), temperature))
    return torch.stack(losses).sum()

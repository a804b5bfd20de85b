"""SeCo: three spaces of embeddings, which differ in what they have to forget: season and changes, or one of them.

Mañas et al. 2021, "Seasonal Contrast", arXiv:2103.16607. It needs images of one place on two dates. The simulated data
show some places twice; ben-ge shows each place once, so there is nothing to learn about seasons from it.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from bengelib.arguments import real_number
from bengelib.errors import MissingModalityError
from bengelib.losses import check_pair
from bengelib.methods.moco import Queue, first_of, plain_perceptron, to_keys
from bengelib.methods.momentum import Target
from bengelib.methods.pairs import halves
from bengelib.ssl import feature_dim
from bengelib.transforms import Batch
from bengelib.views import Augmentation, Views

KEYS = ("view_2", "other_date", "changed")
"""The views that keys are made of, in the order of the spaces of which they are the positives."""


class SeCoViews:
    """Four views of a batch of `Pairs`, whose partners are images of the same places on another date.

    | | date | changes |
    |---|---|---|
    | `view_1`, the query | first | crop |
    | `view_2` | other | all |
    | `other_date` | other | crop |
    | `changed` | first | all |

    The paper draws three dates out of five for each place, so its `view_2` and `other_date` are of two dates.
    """

    def __init__(self, crop: Augmentation, changes: Augmentation) -> None:
        """Make the views with `crop`, for example `crop_only(Views(64))`, and with `changes`, `Views(64)`."""
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
    """The same views with a random crop as their only change."""
    return replace(views, turn=False, gain=0.0, offset=0.0, band_dropout=0.0, blur=0.0, noise=0.0, speckle=0.0)


class SeCo(nn.Module):
    """An encoder with three projectors that are trained, a target of all four, and a queue of keys for each space.

    Train it with `fit(SeCo(encoder), [Contrast(seco)], Pairs(train, partners), ..., augment=SeCoViews(...))`; what one
    keeps is `encoder`.

    The paper: embeddings of 128, 16,384 keys a space, momentum 0.999, SGD at batches of 256 for 200 epochs.

    Attributes:
        inputs: what the encoder reads, modality to band names.
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
        """Similarities of the query in each space, and embeddings and features for the monitor.

        `similarity_0` (B, 1 + K) is that to its key `view_2` and the queue. `similarity_1` and `similarity_2`
        (B, 1 + K + 2 B) are those to `other_date` and `changed`, to the queue, and to the batch's keys of the other two
        kinds: what differs from the query in what this space has to remember is not the same. `view_1` and `view_2`
        (B, projector_dim) are query and key of the first space, `features` (B, F) those of the query.

        Raises:
            MissingModalityError: the batch lacks one of the four views.
        """
        if missing := [key for key in ("view_1", *KEYS) if key not in batch]:
            raise MissingModalityError(
                f"no {missing} in a batch of {sorted(batch)}; train with fit(..., Pairs(train, partners), "
                "augment=SeCoViews(...))"
            )
        features = self.encoder(batch["view_1"])  # (B, F)
        queries = self.projector(features)  # (3, B, D): space, sample
        keys = torch.stack([self.target(batch[key]) for key in KEYS])  # (3, 3, B, D): kind, space, sample
        outputs = {"view_1": queries[0], "view_2": keys[0, 0], "features": features}
        for space, queue in enumerate(self.queues):
            negatives = [queue.keys.clone()]  # type: ignore[operator]
            if space:
                negatives += [keys[kind, space] for kind in range(len(KEYS)) if kind != space]
            outputs[f"similarity_{space}"] = to_keys(queries[space], keys[space, space], torch.cat(negatives))
            if self.training and torch.is_grad_enabled():
                queue.push(keys[space, space])  # type: ignore[operator]
        return outputs

    def after_step(self, step: int, steps: int) -> None:
        """Let the target follow, after optimiser step `step` of `steps`, the first of which is 0; `fit` calls it."""
        self.target.after_step(self._online(), step, steps)

    def _online(self) -> nn.Sequential:
        return nn.Sequential(self.encoder, self.projector)


class _Spaces(nn.ModuleList):
    """A projector for each space: features (B, F) to embeddings (3, B, D)."""

    def __init__(self, inputs: int, outputs: int, hidden: int | None) -> None:
        super().__init__(plain_perceptron(inputs, outputs, hidden) for _ in KEYS)

    def forward(self, features: Tensor) -> Tensor:
        return torch.stack([projector(features) for projector in self])


def seco(outputs: Mapping[str, Tensor], temperature: float = 0.2) -> Tensor:
    """Loss of SeCo (section 3.2), 0 or more: for `Contrast(seco)`. The sum over the three spaces of the loss of `moco`.

    Sanity value: `log(1 + K) + 2 log(1 + K + 2 B)` when all embeddings are equal.

    Args:
        outputs: those of `SeCo`, B of 2 or more.
        temperature: above 0; the paper takes 0.07.

    Raises:
        ValueError: a batch of one, or (`ArgumentError`) a temperature that is not above 0.
        NonFiniteLossError: an embedding of the first space on the CPU is NaN or infinite.
    """
    real_number("temperature", temperature, above=0)
    check_pair(outputs["view_1"], outputs["view_2"])
    losses = [first_of(outputs[f"similarity_{space}"], temperature) for space in range(len(KEYS))]
    return torch.stack(losses).sum()

"""MoCo v2: a contrastive loss with a queue of keys, the embeddings of earlier images by a momentum encoder.

He et al. 2020, "Momentum Contrast", arXiv:1911.05722, with the projector of Chen et al. 2020, arXiv:2003.04297. The
number of negatives does not depend on the batch size, which may be small.

Batch normalisation leaks information here: a query and its own key come from batches of nearly the same statistics, but
the keys of the queue do not, so the network can distinguish them by that. The paper shuffles keys over several GPUs,
which has no effect on a single one; `moco_v3` has no queue and no such leak.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bengelib.arguments import real_number, whole_number
from bengelib.errors import ArgumentError
from bengelib.losses import check_pair, cosines, paired_cosines
from bengelib.methods.momentum import Target
from bengelib.ssl import ViewMaker, feature_dim, two_views
from bengelib.transforms import Batch


class Queue(nn.Module):
    """The last K keys, of length 1, initially random directions; new keys overwrite the oldest.

    Keys and pointer are buffers, so they are part of checkpoints.

    Attributes:
        keys: (K, D).
        pointer: () int64, the position of the next key.
    """

    keys: Tensor
    pointer: Tensor

    def __init__(self, length: int, dim: int) -> None:
        """Fill the queue with `length` random unit vectors of `dim` dimensions."""
        super().__init__()
        keys = torch.randn(whole_number("queue", length), whole_number("dim", dim))
        self.register_buffer("keys", F.normalize(keys, dim=1))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def push(self, keys: Tensor) -> None:
        """Overwrite the oldest keys by `keys` (B, D), scaled to length 1, in a ring buffer.

        If B divides K, as required by `Pretraining`, all keys of a batch leave the queue together; the last batch of an
        epoch may be shorter.

        Raises:
            ArgumentError: more keys than the queue holds.
        """
        length, count = len(self.keys), len(keys)
        if count > length:
            raise ArgumentError(
                f"a queue of {length} keys cannot take a batch of {count}; give queue={count} or a multiple of it"
            )
        places = (self.pointer + torch.arange(count, device=keys.device)) % length  # (B,)
        self.keys[places] = F.normalize(keys.to(self.keys), dim=1)
        self.pointer.copy_((self.pointer + count) % length)


class MoCo(nn.Module):
    """A trained encoder and projector for queries, a target network for keys, and the queue of keys.

    Train it with `fit(MoCo(encoder), [Contrast(moco)], ..., augment=TwoViews(views))` and keep `encoder`.

    The paper: embeddings of 128, 65,536 keys, momentum 0.999 at all steps, SGD at batches of 256 for 200 or 800 epochs
    of ImageNet. A momentum of 0.999 averages over a thousand steps, so shorter runs need a smaller one; and keys of the
    same image are not negatives, so the queue should hold no more than a quarter of the images.

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
        views: ViewMaker | None = None,
    ) -> None:
        """Build projector, target and queue.

        Args:
            encoder: takes a dict batch, returns features (B, feature_dim); see `bengelib.fusion`.
            projector_dim: length of the embeddings.
            hidden: width of the hidden layer of the projector; by default that of the features.
            momentum: of the target.
            queue: number of keys; a multiple of the batch size.
            views: makes the views of batches that have none, see `SiameseNetwork`.

        Raises:
            ArgumentError: a momentum outside [0, 1], or an empty queue.
        """
        super().__init__()
        self.encoder = encoder
        self.projector = plain_perceptron(feature_dim(encoder), projector_dim, hidden)
        self.target = Target(self._online(), momentum, final=momentum)
        self.queue = Queue(queue, projector_dim)
        self.views = views
        self.inputs: dict[str, Any] = dict(getattr(encoder, "inputs", {}))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Queries and keys, `view_1` and `view_2` (B, projector_dim), and `features` (B, F) of the first view.

        `to_queue` (B, K) is the cosine similarity of each query to each key of the queue.
        """
        first, second = two_views(batch, self.views, self.training)
        features = self.encoder(first)  # (B, F)
        queries = self.projector(features)  # (B, D)
        return {
            "view_1": queries,
            "view_2": self.target(second),
            "to_queue": cosines(queries, self.queue.keys),
            "features": features,
        }

    def after_step(self, outputs: Mapping[str, Tensor], step: int, steps: int) -> None:
        """Add the keys of a step to the queue and update the target; see `Target.after_step`. Called by `fit`."""
        self.queue.push(outputs["view_2"])
        self.target.after_step(self._online(), step, steps)

    def _online(self) -> nn.Sequential:
        return nn.Sequential(self.encoder, self.projector)


def plain_perceptron(inputs: int, outputs: int, hidden: int | None = None) -> nn.Sequential:
    """Two layers without batch normalisation, which would leak; `hidden` is by default the width of the input."""
    hidden = hidden or inputs
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, outputs))


def info_nce(own: Tensor, others: Tensor, temperature: float) -> Tensor:
    """The mean over the batch of -log( exp(s / t) / (exp(s / t) + sum over k of exp(s_k / t)) ), ().

    Args:
        own: s, similarity of each query to its own key, (B,).
        others: s_k, similarity to K other keys, (B, K).
        temperature: t.
    """
    similarity = torch.cat([own[:, None], others], dim=1) / temperature  # (B, 1 + K)
    return F.cross_entropy(similarity, torch.zeros(len(own), dtype=torch.int64, device=own.device))


def moco(outputs: Mapping[str, Tensor], temperature: float = 0.2) -> Tensor:
    """Loss of MoCo (InfoNCE; He et al. 2020, equation 1), 0 or more, for `Contrast(moco)`.

    With q a query, k its key, n the K keys of the queue, s the cosine similarity and t the temperature, the mean over
    the batch of -log( exp(s(q, k) / t) / (exp(s(q, k) / t) + sum over n of exp(s(q, n) / t)) ).

    Sanity values: `log(1 + K)` if all embeddings are equal; `log(1 + K exp(-1 / t))` if queries equal their keys and
    are orthogonal to the queue.

    Args:
        outputs: `view_1` and `view_2` (B, D) with B >= 2, and `to_queue` (B, K), see `MoCo.forward`.
        temperature: t > 0; 0.07 in version 1 of the paper, 0.2 in version 2.

    Raises:
        ValueError: wrong shapes, a batch of one, or (`ArgumentError`) a temperature that is not above 0.
        NonFiniteLossError: an embedding on the CPU is NaN or infinite.
    """
    real_number("temperature", temperature, above=0)
    queries, keys = outputs["view_1"], outputs["view_2"]
    check_pair(queries, keys)
    return info_nce(paired_cosines(queries, keys), outputs["to_queue"], temperature)

"""Encoders of any kind side by side: late fusion of what is not all ResNets."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from bengelib.arguments import check_share
from bengelib.errors import ArgumentError, BandError, MissingModalityError
from bengelib.inputs import only_where
from bengelib.modalities import Modality
from bengelib.ssl import feature_dim
from bengelib.transforms import Batch


class JoinedEncoders(nn.Module):
    """Encoders that each read their modalities of one batch; their features are joined end to end.

    `JoinedEncoders({"image": ConvNeXtEncoder({"s2": S2_BANDS}), "place": LocationEncoder()})` knows where an image was
    taken. Where one of an encoder's modalities is missing, for the whole batch if it lacks the key and for samples in
    which `<key>_available` (B,) is False, the features of that encoder are 0.

    * Without dropout, a missing modality is an error.
    * With `dropout=p`, in training each encoder is left out of each sample with probability p, but never all of them,
      and a mask (B, encoders) at the end of the features says which were there, in training and in use.
    * A sample that no encoder can read is an error.

    Attributes:
        inputs: what all of them read, a `Modality` by key.
        feature_dim: length of the features.
    """

    def __init__(self, encoders: Mapping[str, nn.Module], dropout: float = 0.0) -> None:
        """Join `encoders`, each under a name.

        Raises:
            BandError: no encoder, or two that read other bands of the same modality; one batch cannot serve both.
            ArgumentError: `dropout` is not from 0 to below 1, or there is only one encoder to leave out.
        """
        super().__init__()
        if not encoders:
            raise BandError('no encoder to join; give for example {"image": EarlyFusion(...), "place": ...}')
        check_share("dropout", dropout, zero=True, one=False)
        if dropout and len(encoders) < 2:
            raise ArgumentError(f"dropout={dropout} needs two encoders or more; there is only {list(encoders)}")
        self.encoders, self.dropout = nn.ModuleDict(encoders), dropout
        self.inputs: dict[str, Modality] = {}
        self.feature_dim = len(encoders) if dropout else 0
        for encoder in encoders.values():
            self.feature_dim += feature_dim(encoder)
            for key, modality in encoder.inputs.items():  # type: ignore[union-attr, operator]
                if (other := self.inputs.setdefault(key, modality)) != modality:
                    raise BandError(f"the encoders read different bands or units of {key}: {other} and {modality}")

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the maps of `pyramid`.

        Raises:
            BandError: no encoder has maps.
        """
        channels: tuple[int, ...] = self._dense.channels  # type: ignore[assignment]
        return channels

    def forward(self, batch: Batch) -> Tensor:
        """Features (B, feature_dim), those of each encoder in their order, then the mask if any.

        Raises:
            MissingModalityError: a modality is missing and there is no dropout, or some sample has none at all.
        """
        available = self._available(batch)
        parts = [self._features(name, batch, available) for name in self.encoders]
        return torch.cat([*parts, available.float()] if self.dropout else parts, dim=1)

    def pyramid(self, batch: Batch) -> tuple[list[Tensor], Tensor]:
        """The maps of the first encoder that has some, and the features from the same pass.

        Raises:
            BandError: no encoder has maps.
            MissingModalityError: see `forward`; or the modalities of the encoder with maps are missing altogether.
        """
        dense = self._dense
        available = self._available(batch)
        parts, maps = [], []
        for column, (name, encoder) in enumerate(self.encoders.items()):
            if encoder is not dense:
                parts.append(self._features(name, batch, available))
                continue
            if not all(key in batch for key in encoder.inputs):  # type: ignore[union-attr]
                raise MissingModalityError(f"{name!r} gives the maps and reads {list(encoder.inputs)}")  # type: ignore[arg-type]
            there = available[:, column]
            maps, features = encoder.pyramid(_filled(encoder, batch, there))  # type: ignore[operator]
            maps = [only_where(each, there) for each in maps]
            parts.append(only_where(features, there))
        return maps, torch.cat([*parts, available.float()] if self.dropout else parts, dim=1)

    @property
    def _dense(self) -> nn.Module:
        for encoder in self.encoders.values():
            if hasattr(encoder, "pyramid"):
                return encoder
        raise BandError(f"none of the encoders {list(self.encoders)} gives maps; join one that has a pyramid")

    def _available(self, batch: Batch) -> Tensor:
        """Which encoder reads which sample, (B, encoders) bool."""
        present = [key for key in self.inputs if key in batch]
        if not present:
            raise MissingModalityError(f"the encoders read {list(self.inputs)}, but the batch has only {sorted(batch)}")
        some = batch[present[0]]
        available = torch.ones(len(some), len(self.encoders), dtype=torch.bool, device=some.device)
        for column, encoder in enumerate(self.encoders.values()):
            for key in encoder.inputs:  # type: ignore[union-attr]
                available[:, column] &= batch.get(f"{key}_available", True) if key in batch else False
        flagged = len(present) < len(self.inputs) or any(f"{key}_available" in batch for key in self.inputs)
        if flagged and not self.dropout and not bool(available.all()):
            absent = [name for name, there in zip(self.encoders, available.T, strict=True) if not bool(there.all())]
            raise MissingModalityError(
                f"modalities of {absent} are missing from the batch, which has {sorted(batch)}. Add them to the "
                "dataset's modalities or join the encoders with dropout."
            )
        if flagged and not bool((there := available.any(dim=1)).all()):
            raise MissingModalityError(f"sample {int((~there).nonzero()[0])} of the batch has none of its modalities")
        if self.training and self.dropout:
            left = available & (torch.rand(available.shape, device=available.device) >= self.dropout)
            available = torch.where(left.any(dim=1, keepdim=True), left, available)
        return available

    def _features(self, name: str, batch: Batch, available: Tensor) -> Tensor:
        """Features (B, F) of one encoder, 0 where it does not read."""
        encoder, there = self.encoders[name], available[:, list(self.encoders).index(name)]
        if not all(key in batch for key in encoder.inputs):  # type: ignore[union-attr]
            return torch.zeros(len(there), feature_dim(encoder), device=there.device)
        return only_where(encoder(_filled(encoder, batch, there)), there)


def _filled(encoder: nn.Module, batch: Batch, there: Tensor) -> Batch:
    """A batch in which everything an encoder reads is complete: 0 in the samples that it is to go without."""
    own = {key: only_where(batch[key], there) for key in encoder.inputs}  # type: ignore[union-attr]
    others = {key: value for key, value in batch.items() if key not in own and not key.endswith("_available")}
    return {**others, **own}

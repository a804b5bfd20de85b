"""Compatibility of a trained encoder with data, by bands, order, units and scale, and with further training."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bengelib.checkpoint import read_checkpoint, saved_inputs
from bengelib.data.ground import same_extent, shown_metres
from bengelib.errors import BandError, CheckpointError, DataWarning
from bengelib.methods import MASKED, TABLE
from bengelib.modalities import InputSpec, Modality, as_modalities, require_same

_FAR, _WIDER = 50, 8
"""Distance in standard deviations, and factor between these, from which values have another scale."""
_ALIKE = 1.25
"""Factor within which means and standard deviations of two datasets agree so well that they are the same numbers."""

Stored = Mapping[str, Mapping[str, Sequence[float]]]
"""By modality, facts about the files, such as `scale` and `offset` of each band; see `DescribedDataset.stored`."""


def check_inputs(
    trained: InputSpec,
    given: Mapping[str, Modality],
    stored: Stored | None = None,
    given_stored: Stored | None = None,
    name: str = "the dataset",
) -> None:
    """Refuse data whose bands, order, units or scale are not those that an encoder was trained with.

    Another stated scale is an error if the numbers in the files are alike, in means and deviations over all bands: then
    one of the two statements is wrong.

    Args:
        trained: inputs of the encoder.
        given: those of the data.
        stored: conversion of the training files.
        given_stored: conversion of the files of the data.
        name: of the data in messages, such as their folder.

    Raises:
        BandError: naming both.

    Warns:
        DataWarning: pixels are of another size on the ground, naming both.
    """
    require_same(trained, given, name)
    for key, known in as_modalities(trained).items():
        pixel, other_pixel = ((each or {}).get(key, {}).get("pixel", ()) for each in (stored, given_stored))
        if not same_extent(pixel, other_pixel):
            warnings.warn(
                f"the model was trained with {key} of pixels of {shown_metres(pixel)}, and {name} has "
                f"{shown_metres(other_pixel)}: what it knows has another size there. Resample the files if that is not "
                "meant",
                DataWarning,
                stacklevel=2,
            )
        data = given[key].take(known.bands)
        for band, mean, std, other_mean, other_std in zip(
            known.bands, known.mean, known.std, data.mean, data.std, strict=True
        ):
            if not 1 / _WIDER < other_std / std < _WIDER or abs(other_mean - mean) > _FAR * std:
                raise BandError(
                    f"the model was trained with {key} {band} of {mean:.3g} +- {std:.3g}, and {name} has "
                    f"{other_mean:.3g} +- {other_std:.3g}; state the scale and the offset as they were in the training"
                )
        scales = [(each or {}).get(key, {}).get("scale", ()) for each in (stored, given_stored)]
        if all(len(scale) == len(known.bands) for scale in scales):
            _check_scale(name, known, data, *scales, *(each[key]["offset"] for each in (stored, given_stored)))  # type: ignore[index]


def _check_scale(
    name: str,
    trained: Modality,
    given: Modality,
    scale: Sequence[float],
    given_scale: Sequence[float],
    offset: Sequence[float],
    given_offset: Sequence[float],
) -> None:
    """Refuse another scale for what are the same numbers in the files.

    Raises:
        BandError: naming both scales.
    """
    factor = float(np.median(np.divide(given_scale, scale)))
    stds = np.divide(given.std, trained.std)  # (bands,)
    means = np.divide(np.subtract(given.mean, given_offset), np.subtract(trained.mean, offset))
    same = all(_alike(float(np.median(ratio)) / factor) for ratio in (stds, means))
    if not _alike(factor) and same and not _alike(float(np.median(stds))):
        raise BandError(
            f"the model was trained with {trained.name} of scale {scale[0]:g}, and {name} states "
            f"{given_scale[0]:g} for numbers in its files that are like those of the training: values would be "
            f"{factor:.3g} times as large. State the scale of the training if it is that of these files; if both are "
            "right, store the files with the scale of the training"
        )


def name_of(data: Any) -> str:
    """The folder of a dataset, for messages."""
    return str(getattr(data, "root", "the dataset"))


def _alike(ratio: float) -> bool:
    return 1 / _ALIKE < ratio < _ALIKE


def inputs_of_encoder(start: str | Path, data: Any) -> dict[str, Modality]:
    """Inputs of the encoder of a checkpoint, with its own statistics, for data of the same bands, units and scale.

    Raises:
        CheckpointError: no checkpoint, or an encoder of other modalities.
        BandError: other bands, another order, unit or scale.
    """
    header, given = read_checkpoint(start)[0], data.inputs
    saved = saved_inputs(header)
    if list(saved) != list(given):
        raise CheckpointError(
            f"{start} does not fit {name_of(data)}: its encoder reads {list(saved)}, and the inputs are {list(given)}; "
            f"name those of the encoder (--modalities {' '.join(saved)})"
        )
    check_inputs(saved, given, header["config"].get("stored"), getattr(data, "stored", None), name_of(data))
    return {key: replace(each, size=given[key].size) for key, each in saved.items()}


def check_start(start: str | Path, fusion: str) -> None:
    """Refuse a checkpoint whose encoder is not the one that a fusion trains.

    Raises:
        CheckpointError: naming the encoder, and what to give instead.
    """
    settings = read_checkpoint(start)[0]["config"].get("settings", {})
    method = settings.get("method")
    if method in MASKED:
        resnets = [name for name in TABLE if name not in MASKED]
        raise CheckpointError(
            f"{start} holds the encoder of {method}, which is no ResNet, and train builds ResNets: give a model of "
            f"train, or an encoder pretrained by one of {resnets}. The command probe with --modes finetune trains this "
            "one with labels"
        )
    made = ("late" if TABLE[method].two_sensors else "early") if method in TABLE else settings.get("fusion", fusion)
    if made == "decision":
        raise CheckpointError(
            f"{start} holds a network for each modality, of decision fusion, and training starts from one encoder; "
            "give a model of another fusion, or an encoder of pretrain"
        )
    if made != fusion:
        raise CheckpointError(
            f"{start} holds an encoder of {made} fusion, and the network is to be one of {fusion} fusion; give "
            f"--fusion {made}, or another checkpoint"
        )

"""Figures of samples of any dataset: what is drawn follows from the modalities and targets that the dataset states."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from bengelib.bands import IGNORE_INDEX
from bengelib.errors import BandError
from bengelib.modalities import Modality, Target
from bengelib.plot.style import OKABE_ITO, listed, noted, plain, subplots

_COLOURS = (("B04", "B03", "B02"), ("red", "green", "blue"), ("r", "g", "b"))
"""Names of bands that are red, green and blue, in this order."""


def plot_described(
    sample: Mapping[str, Any],
    inputs: Mapping[str, Modality],
    outputs: Mapping[str, Target] | None = None,
    prediction: Mapping[str, Any] | None = None,
    note: str = "",
) -> Figure:
    """All that a sample of a described dataset holds: a panel for each image and map, the rest in words.

    Args:
        sample: as `DescribedDataset` gives it; only the keys that it has are shown.
        inputs: such as `dataset.inputs`. An image with red, green and blue bands is shown in colour, otherwise its
            first band in grey.
        outputs: such as `dataset.outputs`.
        prediction: by target, a class index, a map (H, W) of them, 0 or 1 for each label, or a number.
        note: printed in the lower corner.

    Raises:
        BandError: an image with another number of bands than `inputs` names.
    """
    prediction, outputs = prediction or {}, outputs or {}
    images = {key: each for key, each in inputs.items() if each.kind == "image" and key in sample}
    for key, modality in images.items():
        if len(sample[key]) != len(modality.bands):
            raise BandError(
                f"{key} of the sample has {len(sample[key])} bands, and the inputs name {modality.bands}; give the "
                "inputs of the dataset that the sample is of"
            )
    maps = [
        (f"{title}{key}", target, np.asarray(values[key]))
        for key, target in outputs.items()
        if target.kind == "map"
        for title, values in (("", sample), ("predicted ", prediction))
        if key in values
    ]
    columns = min(4, len(images) + len(maps) + 1)
    rows = -(-(len(images) + len(maps) + 1) // columns)
    figure, axes = subplots(rows, columns, figsize=(2.3 * columns, 2.5 * rows), squeeze=False)
    panels = iter(axes.flat)
    for (key, modality), axis in zip(images.items(), panels, strict=False):
        pixels = np.asarray(sample[key])  # (k, H, W)
        chosen = _colours(modality.bands)
        low, high = np.nanquantile(pixels[chosen], (0.01, 0.99))
        picture = np.clip((pixels[chosen] - low) / max(high - low, 1e-12), 0, 1)
        axis.imshow(np.moveaxis(picture, 0, -1) if len(chosen) == 3 else picture[0], cmap="gray", vmin=0, vmax=1)
        names = ", ".join(modality.bands[place] for place in chosen)
        axis.set_title(key if names == key else f"{key}: {names}", fontsize=8.5)
        unit = modality.unit[chosen[0]] if modality.unit else ""
        axis.set_xlabel(f"black {low:.3g}, white {high:.3g} {unit}".rstrip(), fontsize=7)
        plain(axis)
    for (title, target, classes), axis in zip(maps, panels, strict=False):
        colours = target.colours or [OKABE_ITO[place % 8] for place in range(len(target.classes))]
        there = np.unique(classes[classes != IGNORE_INDEX]).tolist()
        shown = np.where(classes == IGNORE_INDEX, len(colours), classes)
        palette = ListedColormap([*colours, "white"])
        axis.imshow(shown, cmap=palette, vmin=0, vmax=len(colours), interpolation="nearest")
        handles = [Patch(facecolor=colours[place], label=target.classes[place]) for place in there]
        if handles:
            axis.legend(handles=handles, fontsize=6, loc="lower left", framealpha=0.85)
        axis.set_title(title, fontsize=8.5)
        plain(axis)
    axis = next(panels)
    axis.set_title(str(sample.get("patch_id", "")), fontsize=7)
    lines = [line for key, each in inputs.items() if key in sample for line in _values(each, sample[key])]
    for key, target in outputs.items():
        for title, values in (("", sample), ("predicted ", prediction)):
            if key in values and target.kind != "map":
                lines.append(f"{title}{key}: {_answer(target, np.asarray(values[key]))}")
    words = axis.text(0, 0.98, "\n".join(lines), va="top", fontsize=7.5, transform=axis.transAxes)
    words.set_in_layout(False)  # or its width would push the pictures apart
    for rest in (axis, *panels):
        rest.axis("off")
    parts = [
        *(f"{key} as an image" for key in images),
        *(f"{title}{target.name} as a map" for title, target, _ in maps),
    ]
    return noted(figure, note, f"One sample: {listed(parts, most=8)}. {'; '.join(lines)}.")


def _colours(bands: tuple[str, ...]) -> list[int]:
    """Places of the red, the green and the blue band, or of the first one alone."""
    lower = [band.casefold() for band in bands]
    for names in _COLOURS:
        if all(name.casefold() in lower for name in names):
            return [lower.index(name.casefold()) for name in names]
    return [0]


def _values(modality: Modality, values: Any) -> list[str]:
    """The values of a vector or scalar, a line each."""
    if modality.kind == "image":
        return []
    numbers = np.asarray(values).reshape(-1)
    return [
        f"{band} {number:.4g} {unit}".rstrip()
        for band, number, unit in zip(modality.bands, numbers, modality.unit, strict=False)
    ]


def _answer(target: Target, value: np.ndarray) -> str:
    """A class, labels or a number in words."""
    if target.kind == "class":
        return "unknown" if int(value) == IGNORE_INDEX else target.classes[int(value)]
    if not np.isfinite(value).all():
        return "unknown"
    if target.kind == "number":
        return f"{float(value):.4g} {target.unit}".rstrip()
    return ", ".join(name for name, is_there in zip(target.classes, value, strict=True) if is_there) or "none"

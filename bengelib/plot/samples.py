"""Figures of data: each takes samples, maps or counts and returns a `matplotlib.figure.Figure`.

`note` is printed small in the lower corner; the labs state the source of the data there, so that a figure of simulated
data says so wherever it is copied. Each figure carries an alternative text.
"""

from collections.abc import Iterable, Mapping, Sequence
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from sklearn.neighbors import radius_neighbors_graph

from bengelib.bands import (
    CLIMATE_ZONES,
    CORINE_19,
    IGNORE_INDEX,
    LAND_COVER,
    RGB_BANDS,
    S1_BANDS,
    S2_BANDS,
    WEATHER,
)
from bengelib.errors import BandError
from bengelib.plot.coast import draw_land
from bengelib.plot.style import MARKERS, OKABE_ITO, count_of, in_words, listed, noted, plain, subplots

FALSE_COLOUR_BANDS = ("B08", "B04", "B03")
_SENSORS = {"s2": "Sentinel-2", "s1": "Sentinel-1", "dem": "elevation"}
COVER_COLOURS = {entry.name: "#000000" if entry.name == "built-up" else entry.colour for entry in LAND_COVER}
"""Colours of WorldCover's legend, but built-up black: to readers who see no red, its red is the green of trees."""
_LAND_COVER = (*((entry.label, COVER_COLOURS[entry.name]) for entry in LAND_COVER), ("no data", "white"))
_LAND_COVER_COLOURS = ListedColormap([colour for _, colour in _LAND_COVER])


def composite(
    s2: np.ndarray, s2_bands: Sequence[str], bands: Sequence[str] = RGB_BANDS, brightest: float | None = None
) -> np.ndarray:
    """Three bands of a Sentinel-2 patch as a picture (H, W, 3) in [0, 1].

    Args:
        s2: (k, H, W) reflectance.
        s2_bands: the name of each of the k bands.
        bands: bands shown as red, green and blue; if one is missing, the first band is shown in grey.
        brightest: the reflectance shown as white; by default the 99th percentile, but at least 0.12, so that a dark
            forest is not stretched to look like a desert.

    Raises:
        BandError: the number of names is not that of the bands.
    """
    names = list(s2_bands)
    _check_names("s2", s2, names)
    chosen = [names.index(band) for band in bands] if set(bands) <= set(names) else [0, 0, 0]
    picture = np.moveaxis(np.asarray(s2)[chosen], 0, -1)
    return np.clip(picture / (brightest or _white(picture)), 0, 1) ** 0.8


def _white(picture: np.ndarray) -> float:
    """The reflectance to show as white: that of bright pixels, but not of a dark forest."""
    return max(0.12, float(np.quantile(picture, 0.99)))


def plot_sample(
    sample: Mapping[str, Any],
    prediction: Mapping[str, Any] | None = None,
    s2_bands: Sequence[str] = S2_BANDS,
    s1_bands: Sequence[str] = S1_BANDS,
    note: str = "",
) -> Figure:
    """All content of a sample: a panel for each raster, and scalars and labels as text.

    Args:
        sample: a sample of `BENGE`; only existing keys are shown.
        prediction: class index (or map) by target, shown beside the truth.
        s2_bands: names of the bands in `sample["s2"]`.
        s1_bands: names of the bands in `sample["s1"]`.
        note: printed in the lower corner.

    Raises:
        BandError: the number of names is not that of the bands of the sample.
    """
    prediction = prediction or {}
    arrays = {key: np.asarray(value) for key, value in sample.items() if key != "patch_id"}
    panels: list[tuple[str, Any]] = []
    if "s2" in arrays:
        _check_names("s2", arrays["s2"], s2_bands)
        named = {"Sentinel-2, true colour": RGB_BANDS, "Sentinel-2, infrared as red": FALSE_COLOUR_BANDS}
        shown = {title: bands for title, bands in named.items() if set(bands) <= set(s2_bands)}
        panels += list((shown or {f"Sentinel-2 {s2_bands[0]}": (s2_bands[0],) * 3}).items())
    if "s1" in arrays:
        _check_names("s1", arrays["s1"], s1_bands)
        panels += [(f"Sentinel-1 {name} (dB)", f"s1:{place}") for place, name in enumerate(s1_bands)]
    panels += [("Elevation (m)", "dem")] if "dem" in arrays else []
    panels += [("WorldCover", "land_cover")] if "land_cover" in arrays else []
    panels += [("predicted land cover", "predicted")] if "land_cover" in prediction else []
    panels.append(("", "words"))
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = subplots(rows, columns, figsize=(2.45 * columns, 2.6 * rows), squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.axis("off")
    for axis, (title, kind) in zip(axes.flat, panels, strict=False):
        axis.set_title(title, fontsize=10)
        if kind == "words":
            _words(axis, arrays, prediction, str(sample.get("patch_id", "")))
            continue
        if isinstance(kind, tuple):
            axis.imshow(composite(arrays["s2"], s2_bands, kind))
        elif kind in ("land_cover", "predicted"):
            entries = _land_cover(axis, (arrays if kind == "land_cover" else prediction)["land_cover"])
            below: dict[str, Any] = {
                "loc": "upper center",
                "bbox_to_anchor": (0.5, -0.1),
                "ncols": 2,
                "columnspacing": 0.8,
            }
            axis.legend(handles=_legend(entries), fontsize=8, frameon=False, handlelength=1.2, **below)
        else:
            image = arrays["dem"][0] if kind == "dem" else arrays["s1"][int(kind.split(":")[1])]
            drawn = _grey(axis, image, "cividis" if kind == "dem" else "gray")
            figure.colorbar(drawn, ax=axis, fraction=0.046, pad=0.02).ax.tick_params(labelsize=7)
        plain(axis)
        columns_shown = axis.get_images()[0].get_array().shape[1]
        axis.set_xlabel(f"{columns_shown / 100:g} km", fontsize=9)  # 10 m a pixel
    images = listed((title for title, kind in panels if kind != "words"), 10)
    alt = f"One patch: {images}" if images else "One patch, in words"
    return noted(figure, note, f"{alt}. {'; '.join(map(str.strip, _lines(arrays, prediction))).replace(':; ', ': ')}.")


def plot_patches(
    samples: Sequence[Mapping[str, Any]],
    titles: Sequence[str] = (),
    bands: Sequence[str] = RGB_BANDS,
    s2_bands: Sequence[str] = S2_BANDS,
    note: str = "",
    columns: int = 3,
) -> Figure:
    """A sheet of patches, each under its title: Sentinel-2, or Sentinel-1 in grey where a sample has no Sentinel-2.

    Args:
        samples: with `s2` (k, H, W), or with `s1`, of which the first band is shown.
        titles: one per sample.
        bands: of Sentinel-2, shown as red, green and blue.
        s2_bands: names of the k bands.
        note: printed in the lower corner.
        columns: patches in a row.

    Raises:
        BandError: the number of `s2_bands` is not that of the bands of a sample.
    """
    pictures = [
        composite(np.asarray(s["s2"]), s2_bands, bands) if "s2" in s else np.asarray(s["s1"])[0] for s in samples
    ]
    columns = min(columns, len(samples))
    rows = -(-len(samples) // columns)
    side = min(2.2, 8.4 / columns)
    figure, axes = subplots(rows, columns, figsize=(side * columns, (side + 0.3) * rows), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for place, (axis, picture) in enumerate(zip(axes.flat, pictures, strict=False)):
        if picture.ndim == 3:
            axis.imshow(picture)
        else:
            _grey(axis, picture)
        if place < len(titles):
            axis.set_title(fill(in_words(titles[place]), 30), fontsize=10)
    named = f", titled {listed(titles, 12)}" if titles else ""
    return noted(figure, note, f"{count_of(samples, 'satellite image')} of patches{named}.")


def _grey(axis: Axes, image: np.ndarray, cmap: str = "gray") -> Any:
    """An image (H, W) between its 0.5 and 99.5 % quantiles, so that a few bright scatterers do not darken the rest."""
    low, high = np.quantile(image, (0.005, 0.995))
    return axis.imshow(image, cmap=cmap, vmin=low, vmax=high)


def plot_counts(labels: Mapping[str, np.ndarray], classes: Sequence[str], title: str, note: str = "") -> Figure:
    """Number of patches of each class in each part of a split.

    Args:
        labels: class indices (N,) by part.
        classes: their names; classes that never occur are left out.
        title: label of the classes, above the bars.
        note: printed in the lower corner.
    """
    splits = list(labels)
    every = {split: (labels[split][:, None] == np.arange(len(classes))).sum(axis=0) for split in splits}  # (K,) each
    present = np.flatnonzero(sum(every.values())).tolist()
    counts = {split: numbers[present] for split, numbers in every.items()}
    classes = [classes[index] for index in present]
    names = [in_words(name) for name in classes]
    figure, axis = subplots(figsize=(8.0, 1.0 + (0.1 + 0.11 * len(splits)) * max(2, len(names))))
    height = 0.8 / len(splits)
    for place, split in enumerate(splits):
        positions = np.arange(len(names)) + (place - (len(splits) - 1) / 2) * height
        bars = axis.barh(positions, counts[split], height, label=split)
        for bar in bars:
            bar.set(facecolor=OKABE_ITO[place], hatch=("", "//", "..")[place % 3], edgecolor="white")
    axis.set_yticks(np.arange(len(names)), names)
    axis.invert_yaxis()
    axis.set_xlabel("patches")
    axis.set_title(title, fontsize=11, loc="left")
    figure.legend(loc="outside right upper", title="split", frameon=False)
    total = sum(counts.values())
    most = [f"{names[index]} {total[index]}" for index in np.argsort(-total, kind="stable")]
    sides = listed(f"{split} {sum(numbers)}" for split, numbers in counts.items())
    return noted(figure, note, f"Bars: patches by {title} and split, {sides}. In all: {listed(most, 12)}.")


def plot_map(lonlat: np.ndarray, groups: Sequence[str], title: str = "", note: str = "") -> Figure:
    """Locations of the patches: all of them, and a fifth of a degree enlarged, which a box on the left marks.

    Enlarged is the place where most groups meet, and of several the one with most patches.

    Args:
        lonlat: (N, 2) degrees.
        groups: (N,) names, at most eight distinct ones, each with a colour and a marker.
        title: above the left map.
        note: printed in the lower corner.
    """
    names = np.asarray(groups)
    near = radius_neighbors_graph(lonlat, 0.1, metric="chebyshev", include_self=True).tocsc()  # (N, N), sparse
    around = np.stack([near[:, names == name].sum(axis=1).A1 for name in sorted(set(groups))])  # (groups, N)
    centre = lonlat[np.lexsort((around.sum(axis=0), (around > 0).sum(axis=0)))[-1]]
    figure, axes = subplots(1, 2, figsize=(10, 4.8))
    for axis, size in zip(axes, (12, 90), strict=True):
        for place, name in enumerate(sorted(set(groups))):
            chosen = lonlat[names == name]
            _scatter(axis, chosen, OKABE_ITO[place % 8], place, s=size, alpha=0.75, label=f"{name} ({len(chosen)})")
        _degrees(axis, centre[1])
    coast = draw_land(axes[0])
    axes[0].add_patch(Rectangle(centre - 0.1, 0.2, 0.2, fill=False, ec="black", lw=1.2, zorder=5))
    axes[0].annotate(
        "enlarged", centre, (14, 14), textcoords="offset points", fontsize=9, arrowprops={"arrowstyle": "-", "lw": 0.8}
    )
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=8, fontsize=10, frameon=False)
    axes[0].set_title(title, fontsize=10)
    axes[1].set(xlim=(centre[0] - 0.1, centre[0] + 0.1), ylim=(centre[1] - 0.1, centre[1] + 0.1))
    axes[1].set_title("enlarged: a patch is about one marker wide", fontsize=10)
    on = " on a map with coastlines" if coast else ""
    alt = f"{len(lonlat)} patches{on}, {_extent(lonlat)}, coloured by group: {listed(sorted(set(groups)), 8)}."
    return noted(figure, note, f"{alt} Beside it, a place where groups meet enlarged.")


def _extent(lonlat: np.ndarray) -> str:
    """The degrees that points (N, 2) span, in words."""
    (west, south), (east, north) = lonlat.min(axis=0), lonlat.max(axis=0)
    return f"longitude {west:.0f} to {east:.0f} and latitude {south:.0f} to {north:.0f} degrees"


def _check_names(key: str, values: np.ndarray, names: Sequence[str]) -> None:
    """Refuse a number of names that is not that of the bands: a title would name the wrong band.

    Raises:
        BandError: naming both.
    """
    if len(names) != len(values):
        raise BandError(
            f"{key} has {len(values)} bands, but {len(names)} names {tuple(names)} were given for them; "
            f"give {key}_bands as the dataset has them"
        )


def plot_gates(
    sample: Mapping[str, Any],
    gates: Mapping[str, np.ndarray],
    s2_bands: Sequence[str] = S2_BANDS,
    s1_bands: Sequence[str] = S1_BANDS,
    note: str = "",
) -> Figure:
    """A patch in both sensors, and the gate weight (h, w) in [0, 1] of each modality at each pixel."""
    figure, axes = subplots(1, 2 + len(gates), figsize=(2.4 * (2 + len(gates)), 2.7))
    axes[0].imshow(composite(np.asarray(sample["s2"]), s2_bands))
    axes[0].set_title("Sentinel-2", fontsize=10)
    _grey(axes[1], np.asarray(sample["s1"])[0])
    axes[1].set_title(f"Sentinel-1 {s1_bands[0]} (dB)", fontsize=10)
    for axis, (key, weights) in zip(axes[2:], gates.items(), strict=True):
        drawn = axis.imshow(np.asarray(weights), cmap="viridis", vmin=0, vmax=1, extent=(0, 120, 120, 0))
        axis.set_title(f"weight of {_SENSORS.get(key, key)}", fontsize=10)
    figure.colorbar(drawn, ax=axes[-1], fraction=0.046)
    for axis in axes:
        plain(axis)
    means = listed(f"{_SENSORS.get(key, key)} {np.mean(weights):.2f}" for key, weights in gates.items())
    return noted(figure, note, f"A patch in Sentinel-2 and Sentinel-1, and maps of the weight of each; means: {means}.")


def plot_maps(
    samples: Sequence[Mapping[str, Any]],
    predictions: Mapping[str, Sequence[np.ndarray]] | None = None,
    titles: Sequence[str] = (),
    s2_bands: Sequence[str] = S2_BANDS,
    note: str = "",
) -> Figure:
    """Patches in columns: the image, its land cover, and the land cover predicted by each model, with one legend.

    Args:
        samples: with `s2` and `land_cover` (H, W).
        predictions: name of the model to one map (H, W) of class indices per sample; the accuracy over labelled pixels
            is written below.
        titles: above each column.
        s2_bands: names of the bands in `sample["s2"]`.
        note: printed in the lower corner.

    Raises:
        BandError: the number of names is not that of the bands of a sample.
    """
    pictures = [composite(np.asarray(sample["s2"]), s2_bands) for sample in samples]
    truth = [np.asarray(sample["land_cover"]) for sample in samples]
    rows = {"WorldCover": truth, **(predictions or {})}
    side = 2.3 if len(samples) < 5 else 1.75
    size = (side * len(samples) + 0.4, (side + 0.15) * (1 + len(rows)) + 0.6)
    figure, axes = subplots(1 + len(rows), len(samples), figsize=size, squeeze=False)
    for axis in axes.flat:
        plain(axis)
    axes[0, 0].set_ylabel("Sentinel-2", fontsize=10)
    for place, (axis, picture) in enumerate(zip(axes[0], pictures, strict=True)):
        axis.imshow(picture)
        axis.set_title(titles[place] if place < len(titles) else "", fontsize=9)
    shown: set[int] = set()
    agreed: dict[str, list[str]] = {}
    for line, (name, maps) in zip(axes[1:], rows.items(), strict=True):
        line[0].set_ylabel(name, fontsize=10)
        for axis, classes, real in zip(line, maps, truth, strict=True):
            shown |= _land_cover(axis, classes)
            known = real != IGNORE_INDEX
            if maps is not truth and known.any():
                axis.set_xlabel(f"{(np.asarray(classes) == real)[known].mean():.0%} agree", fontsize=9)
                agreed.setdefault(name, []).append(axis.get_xlabel().removesuffix(" agree"))
    figure.legend(handles=_legend(shown), fontsize=9, loc="outside upper center", ncols=min(4, len(samples)))
    alt = f"{count_of(samples, 'patch')} in columns: Sentinel-2 above {listed(rows)}, each a map of land cover."
    share = "; ".join(f"{name} {listed(shares)}" for name, shares in agreed.items())
    return noted(figure, note, f"{alt} {f'Pixels that agree with WorldCover: {share}.' if share else ''}")


def plot_regions(lonlat: np.ndarray, regions: np.ndarray, centres: np.ndarray, note: str = "") -> Figure:
    """A map of patches by region: the number of each region at its centre, neighbours in different colours and markers.

    Args:
        lonlat: (N, 2) degrees.
        regions: (N,) index of the region of each patch.
        centres: (K, 2) degrees.
        note: printed in the lower corner.
    """
    figure, axis = subplots(figsize=(7, 5.4))
    for region in np.unique(regions):
        _scatter(axis, lonlat[regions == region], OKABE_ITO[region % 7], region, s=14, alpha=0.8)
    _degrees(axis, lonlat[:, 1].mean())
    coast = " on a map with coastlines" if draw_land(axis) else ""
    figure.draw_without_rendering()  # so that places on the page are known
    _number(axis, centres)
    return noted(
        figure, note, f"{len(lonlat)} patches in {count_of(centres, 'numbered region')}{coast}, {_extent(lonlat)}."
    )


def _number(axis: Axes, centres: np.ndarray) -> None:
    """The index of each point (K, 2) at it, or beside it with a leader line where it would cover another one."""
    box = {"boxstyle": "round,pad=0.15", "fc": "white", "ec": "black", "lw": 0.5, "alpha": 0.85}
    taken = np.full((0, 2), np.inf)  # places of the numbers that stand already, in pixels
    ways = ((1, 0), (-1, 0), (1, -1), (1, 1), (0, -1))
    sides = [(0, 0), *((x * step, y * step) for step in (22, 40) for x, y in ways)]
    for index in np.argsort(-centres[:, 1], kind="stable"):
        place = axis.transData.transform(centres[index])
        free = [side for side in sides if (np.abs(taken - place - side) > (20, 16)).any(axis=1).all()]
        side = free[0] if free else sides[-1]
        taken = np.vstack([taken, place + side])
        points = side[0] * 72 / axis.figure.dpi, side[1] * 72 / axis.figure.dpi
        line = {"arrowstyle": "-", "lw": 0.8} if any(side) else None
        axis.annotate(
            str(index), centres[index], points, textcoords="offset points", fontsize=8, ha="center", va="center",
            bbox=box, arrowprops=line,
        )  # fmt: skip


def _scatter(axis: Axes, lonlat: np.ndarray, colour: str, place: int, **options: Any) -> None:
    """Points (N, 2) of one group, with the marker of its index."""
    axis.scatter(lonlat[:, 0], lonlat[:, 1], c=colour, marker=MARKERS[place % 8], lw=0, **options)


def _degrees(axis: Axes, lat: float) -> None:
    """Label an axis in degrees, and scale it as a map at a latitude."""
    axis.set(xlabel="longitude (degrees east)", ylabel="latitude (degrees north)")
    axis.set_aspect(1 / np.cos(np.deg2rad(lat)))
    axis.grid(alpha=0.3)


def plot_reconstructions(
    images: Mapping[str, np.ndarray],
    s2_bands: Sequence[str] = S2_BANDS,
    bands: Sequence[str] = RGB_BANDS,
    note: str = "",
) -> Figure:
    """Versions of Sentinel-2 patches, one row per version and one column per patch; NaN is grey.

    Args:
        images: name of the row to (B, k, H, W) reflectance; the first row determines the brightness.
        s2_bands: names of the k bands.
        bands: bands shown as red, green and blue.
        note: printed in the lower corner.

    Raises:
        BandError: the names are not as many as the bands.
    """
    first = np.asarray(next(iter(images.values())))
    shown = [list(s2_bands).index(band) if band in s2_bands else 0 for band in bands]
    size = (1.8 * len(first) + 0.3, 1.85 * len(images))
    figure, axes = subplots(len(images), len(first), figsize=size, squeeze=False)
    for row, (name, patches) in zip(axes, images.items(), strict=True):
        for column, (axis, patch) in enumerate(zip(row, np.asarray(patches), strict=True)):
            hidden = np.isnan(patch).any(axis=0)  # (H, W)
            picture = composite(np.nan_to_num(patch), s2_bands, bands, _white(first[column][shown]))
            picture[hidden] = 0.5
            axis.imshow(picture)
            plain(axis)
        row[0].set_ylabel(name, fontsize=11)
    return noted(figure, note, f"{count_of(first, 'Sentinel-2 patch')} in columns, in rows: {listed(images)}.")


def _land_cover(axis: Axes, classes: Any) -> set[int]:
    """Show a WorldCover map (H, W) of class indices; return its entries of `_LAND_COVER`."""
    shown = np.where(np.asarray(classes) == IGNORE_INDEX, len(LAND_COVER), classes)
    axis.imshow(shown, cmap=_LAND_COVER_COLOURS, vmin=0, vmax=len(LAND_COVER), interpolation="nearest")
    return set(np.unique(shown).tolist())


def _legend(shown: Iterable[int]) -> list[Patch]:
    """The colours of these entries of `_LAND_COVER`, with their names."""
    entries = [_LAND_COVER[index] for index in sorted(shown)]
    return [Patch(facecolor=colour, edgecolor="black", linewidth=0.5, label=label) for label, colour in entries]


def _lines(arrays: Mapping[str, np.ndarray], prediction: Mapping[str, Any]) -> list[str]:
    """Scalars and labels of a sample in words, a line each."""
    lines = []
    if "lonlat" in arrays:
        lines.append(f"longitude {arrays['lonlat'][0]:.3f}°, latitude {arrays['lonlat'][1]:.3f}°")
    if "season" in arrays:
        lines.append(f"season {float(arrays['season']):.2f} (0 December, 1 June)")
    if "weather" in arrays:
        lines += [
            f"{name.replace('_', ' ')} {value:.1f} {variable.unit}"
            for (name, variable), value in zip(WEATHER.items(), arrays["weather"], strict=True)
        ]
    if "climate_zone" in arrays:
        zone = CLIMATE_ZONES[int(arrays["climate_zone"])]
        lines.append(f"climate {zone.symbol}: {zone.label}")
    if "climate_zone" in prediction:
        lines.append(f"predicted: {CLIMATE_ZONES[int(prediction['climate_zone'])].symbol}")
    if "land_cover_top" in arrays:
        lines.append(f"mostly {LAND_COVER[int(arrays['land_cover_top'])].label.lower()}")
    if "corine" in arrays:
        labels = [name for name, value in zip(CORINE_19, arrays["corine"], strict=True) if value]
        lines += ["labels:", *(f"  {name[:34]}{'…' if len(name) > 34 else ''}" for name in labels)]
    return lines


def _words(axis: Axes, arrays: Mapping[str, np.ndarray], prediction: Mapping[str, Any], patch_id: str) -> None:
    """Scalars and labels of a sample, written where a picture could be."""
    axis.axis("off")
    axis.set_title(patch_id.replace("_MSIL2A", ""), fontsize=8)
    lines = "\n".join(_lines(arrays, prediction))
    words = axis.text(0, 0.98, lines, va="top", fontsize=9, transform=axis.transAxes)
    words.set_in_layout(False)  # its width would otherwise push the images apart

"""The figures of the slides, drawn by `bengelib.plot` and set for a slide: no letter is below 24 points.

`make(folder, name, study)` draws the figure that a deck calls `figure:name`; one that shows results is None if the
study has none. Samples come from ben-ge-sim, which is simulated on first use, and every figure of data says so.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any, cast

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.legend import Legend
from matplotlib.patches import FancyBboxPatch
from matplotlib.text import Text

from bengelib import load, plot
from bengelib.bands import CLIMATE_ZONE_SYMBOLS, LAND_COVER_NAMES, S2_BANDS
from bengelib.clouds import paint_clouds
from bengelib.course.pixels import PixelClassifier
from bengelib.course.report import Study
from bengelib.course.shipped import load_shipped
from bengelib.course.targets import WEIGHTINGS
from bengelib.data.packed import PackedBENGE
from bengelib.fusion import EarlyFusion
from bengelib.heads import Network, SegmentationHead
from bengelib.methods.geolocation import place_clusters
from bengelib.plot.diagrams import COLUMN, FIRST, draw_fusion
from bengelib.recipes.pretraining import strong_views
from tools.slide_facts import FUSED, SHORT

POINTS = 24.0
WIDTH, HEIGHT = 12.0, 5.2
"""Inches that a slide leaves below its title."""
NOTE = "ben-ge-sim: simulated data, not measurements"
IN_BOXES = {  # words of `draw_fusion` that are too long for their boxes in 24 points
    "join end to end": "join",
    "stack channels": "stack",
    "$\\gamma, \\beta$": "",
}
Draw = Callable[[Study], Figure | None]


def make(folder: str, name: str, study: Study) -> Figure | None:
    """Draw a figure of a deck, set for its slide.

    Args:
        folder: of the deck.
        name: of the figure.
        study: that the deck is about; may be without results.

    Raises:
        ValueError: there is no such figure.
    """
    if name not in FIGURES.get(folder, {}):
        raise ValueError(f"no figure {name!r} of {folder}; there are {sorted(FIGURES.get(folder, {}))}")
    return FIGURES[folder][name](study)


def enlarge(figure: Figure | None, width: float = WIDTH, height: float = HEIGHT) -> Figure | None:
    """Give a figure the size of its place on a slide, and every letter in it 24 points.

    Args:
        figure: from `bengelib.plot`; None stays None.
        width: inches.
        height: inches.
    """
    if figure is None:
        return None
    figure.set_size_inches(width, height)
    if isinstance(engine := figure.get_layout_engine(), ConstrainedLayoutEngine):
        engine.set(w_pad=0.15, h_pad=0.08)
    for axis in figure.findobj(Axes):
        axis.tick_params(labelsize=POINTS, width=1.5, length=6)
        axis.xaxis.get_offset_text().set_fontsize(POINTS)
        for line in axis.lines:
            line.set_linewidth(max(2.5, line.get_linewidth()))
            line.set_markersize(max(9.0, line.get_markersize()))
    for text in figure.findobj(Text):
        text.set_fontsize(POINTS)
    for legend in figure.findobj(Legend):
        legend.get_title().set_fontsize(POINTS)
    return figure


def part_of_fusion(columns: slice, lower: bool = False) -> Figure:
    """Two or three of the drawings of `draw_fusion`, as wide as a slide.

    Args:
        columns: of the row of drawings.
        lower: whether of the lower row, which brings in a vector.
    """
    figure = draw_fusion()
    axis = figure.axes[0]
    bottom = 0.42 if lower else 5.32
    top = bottom + 4.2
    left, right = FIRST + COLUMN * (columns.start - 0.5), FIRST + COLUMN * (columns.stop - 0.5)
    axis.set(xlim=(left, right), ylim=(bottom, top))
    for box in axis.findobj(FancyBboxPatch):
        box.set_bounds(box.get_x(), box.get_y() - 0.2 * box.get_height(), box.get_width(), 1.4 * box.get_height())
    for text in axis.texts:
        x, y = text.get_position()
        text.set_text(IN_BOXES.get(text.get_text(), text.get_text()))
        text.set_visible(left <= x <= right and bottom <= y <= top)
    return cast(Figure, enlarge(figure, WIDTH, 5.5))


@cache
def patches(split: str | None, modalities: tuple[str, ...], targets: tuple[str, ...]) -> PackedBENGE:
    """Patches of ben-ge-sim as Lab 1 splits them."""
    return cast(PackedBENGE, load("ben-ge-sim", split, modalities, targets, scheme="study", progress=False))


def _cover(name: str) -> str:
    """A land-cover class in a word."""
    words = name.lower().replace("_", " ").replace("permanent ", "").replace("herbaceous ", "")
    return words.split("/")[0].split()[0]


def _without_legend(axis: Axes) -> None:
    """Take off a legend that letters of 24 points would make too large."""
    if legend := axis.get_legend():
        legend.remove()


def _sample(study: Study) -> Figure | None:
    """One patch in all its images, in a row."""
    data = patches("train", ("s2", "s1", "dem"), ("land_cover",))
    figure = plot.plot_sample(data[4], note=NOTE)
    names = ("true\ncolour", "infrared\nas red", "radar\nVV", "radar\nVH", "elevation\n", "land\ncover")
    *drawn, words = [axis for axis in figure.axes if axis.get_title()]
    grid = figure.add_gridspec(1, len(names))
    for place, (axis, name) in enumerate(zip(drawn, names, strict=True)):
        axis.set_subplotspec(grid[place])
        axis.set_title(name)
        axis.set_xlabel("")
        _without_legend(axis)
    for axis in [words, *(axis for axis in figure.axes if axis not in [*drawn, words])]:
        axis.remove()  # a slide has words of its own, and no room for scales
    return enlarge(figure, WIDTH, 3.4)


def _zones(study: Study) -> Figure | None:
    data = patches("train", ("s2",), ("climate_zone", "land_cover_top"))
    shown = [data[index] for index in range(6)]
    titles = [
        f"{CLIMATE_ZONE_SYMBOLS[int(patch['climate_zone'])]}\n{_cover(LAND_COVER_NAMES[int(patch['land_cover_top'])])}"
        for patch in shown
    ]
    return _in_a_row(shown, titles, 3.3)


def _sides(study: Study) -> Figure | None:
    sides = {split: patches(split, ("lonlat",), ("climate_zone",)) for split in ("train", "val", "test")}
    places = {split: side.table("lonlat") for split, side in sides.items()}
    names = [split for split, rows in places.items() for _ in rows]
    figure = plot.plot_map(np.concatenate(list(places.values())), names, "all patches", note=NOTE)
    figure.axes[1].set_title("enlarged")
    figure.axes[1].set_ylabel("")
    for axis in figure.axes:
        axis.set_xlabel("longitude, degrees")
        axis.locator_params(nbins=4)
    figure.axes[0].set_ylabel("latitude, degrees")
    figure.legends.clear()
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, [label.split()[0] for label in labels], loc="outside right upper", markerscale=3)
    return enlarge(figure)


def _counts(study: Study) -> Figure | None:
    zones = {split: patches(split, ("lonlat",), ("climate_zone",)).table("climate_zone") for split in ("train", "test")}
    return enlarge(plot.plot_counts(zones, CLIMATE_ZONE_SYMBOLS, "", note=NOTE), WIDTH, 4.6)


def _maps(study: Study) -> Figure | None:
    data = patches("train", ("s2",), ("land_cover", "climate_zone", "season"))
    shown = [data[index] for index in range(5)]
    labels = [f"{CLIMATE_ZONE_SYMBOLS[int(patch['climate_zone'])]}, {float(patch['season']):.2f}" for patch in shown]
    return _with_short_names(plot.plot_maps(shown, titles=labels, note=NOTE), ("image", "map"))


def _predictions(study: Study) -> Figure | None:
    """Maps of single pixels and, where it fits the data, of the U-Net that comes with Lab 2."""
    train, test = (patches(side, ("s2",), ("land_cover", "climate_zone", "season")) for side in ("train", "test"))
    random = np.random.default_rng(0)
    some = [train[int(index)] for index in random.permutation(len(train))[:100]]
    batch = {key: torch.stack([patch[key] for patch in some]) for key in ("s2", "land_cover")}
    models: dict[str, torch.nn.Module] = {"pixels": PixelClassifier().fit(batch, 8000, random, max_iter=2000, tol=1e-3)}
    encoder = EarlyFusion({"s2": S2_BANDS}, width=0.375)
    longer = Network(encoder, {"land_cover": SegmentationHead(encoder.channels, LAND_COVER_NAMES)})
    if load_shipped("02-mtl", train, land_cover=longer):
        models["U-Net"] = longer
    shown = [test[index] for index in range(5)]
    with torch.no_grad():
        images = {"s2": torch.stack([patch["s2"] for patch in shown])}
        maps = {name: list(model.eval()(images)["land_cover"].argmax(dim=1).numpy()) for name, model in models.items()}
    figure = plot.plot_maps(shown, maps, note=NOTE)
    for axis in figure.axes:
        axis.set_xlabel("")
    return _with_short_names(figure, ("image", "truth", *maps))


def _with_short_names(figure: Figure, rows: Sequence[str]) -> Figure | None:
    """Maps of five patches with short names of rows, and of land covers in a legend beside them."""
    handles = [handle for handle in figure.legends.pop().legend_handles if handle is not None]
    names = [_cover(str(handle.get_label())) for handle in handles]
    figure.legend(handles, names, loc="outside right upper", fontsize=POINTS, handlelength=0.8)
    for axis, name in zip(figure.axes[::5], rows, strict=True):
        axis.set_ylabel(name)
    return enlarge(figure)


def _clouds_painted(study: Study) -> Figure | None:
    patch = patches("train", ("s2",), ("climate_zone",))[4]
    batch = {"s2": patch["s2"][None]}
    covers = (0.0, 0.25, 0.5, 0.75)
    shown = [{"s2": paint_clouds(batch, cover, torch.Generator().manual_seed(1))["s2"][0].numpy()} for cover in covers]
    return _in_a_row(shown, [f"{cover:.0%}" for cover in covers], 3.6)


def _in_a_row(shown: Sequence[dict[str, Any]], titles: Sequence[str], height: float) -> Figure | None:
    """Patches in a row, as wide as a slide and `height` inches high."""
    figure = plot.plot_patches(shown, titles, note=NOTE, columns=len(shown))
    for axis, title in zip(figure.axes, titles, strict=True):
        axis.set_title(title)  # with its own line breaks
    return enlarge(figure, WIDTH, height)


def _views(study: Study) -> Figure | None:
    data = patches("train", ("s2",), ("land_cover_top",))
    batch = torch.utils.data.default_collate([{"s2": data[index]["s2"]} for index in (0, 3)])
    random, made = torch.Generator().manual_seed(3), [batch]
    made += [strong_views(48)(batch, random) for _ in range(2)]
    pictures = [{"s2": images["s2"][place].numpy()} for place in range(2) for images in made]
    return _in_a_row(pictures, ["patch", "view 1", "view 2"] * 2, 2.9)


def _light(study: Study) -> Figure | None:
    data = patches("train", ("s2",), ("land_cover_top",))
    batch = torch.utils.data.default_collate([{"s2": data[index]["s2"]} for index in (0, 3, 5)])
    light = replace(strong_views(48), size=None, scale=(1.0, 1.0), turn=False, blur=0.0, noise=0.0)
    changed = light(batch, torch.Generator().manual_seed(5))
    pictures = [{"s2": images["s2"][place].numpy()} for place in range(3) for images in (batch, changed)]
    return _in_a_row(pictures, ["patch", "light, haze"] * 3, 2.9)


def _masked(study: Study) -> Figure | None:
    data = patches("train", ("s2",), ("land_cover_top",))
    images = np.stack([data[index]["s2"].numpy()[:, :48, :48] for index in range(1, 7)])
    hidden = np.random.default_rng(0).permuted(np.tile(np.arange(36) < 27, (6, 1)), axis=1).reshape(6, 1, 6, 6)
    seen = np.where(hidden.repeat(8, axis=2).repeat(8, axis=3), np.nan, images)
    return enlarge(plot.plot_reconstructions({"given": images, "seen": seen}, note=NOTE), WIDTH, 4.5)


def _regions(study: Study) -> Figure | None:
    lonlat = patches("train", ("lonlat",), ("land_cover_top",)).table("lonlat")
    regions = place_clusters(lonlat, clusters=20, seed=0)
    figure = plot.plot_regions(lonlat, regions.predict(lonlat), regions.centres, note="simulated data")
    for axis in figure.axes:
        for text in axis.texts:  # twenty numbers of 24 points would hide the map
            text.set_visible(False)
        axis.set(xlabel="longitude, degrees", ylabel="latitude, degrees")
    return enlarge(figure, 6.8, 5.4)


def _strategies(study: Study) -> Figure | None:
    tried = study.compare("s2", only=("S2 again",), targets=("corine",), experiment="noise floor")
    tried += study.compare("s2", only=FUSED, targets=("corine",), experiment="strategies")
    tried = tried.renamed(SHORT)
    label = "mAP of 19 labels minus that of S2, points, 95 % interval"
    return enlarge(plot.plot_intervals(tried.gains(), label, ("no difference", 0), note=study.note, digits=1))


def _cloud_curves(study: Study) -> Figure | None:
    asked: dict[str, Any] = dict(target="corine", experiment=("strategies", "modality dropout"))
    curves = study.curves("clouds", only=("S2", *FUSED[::2]), **asked)
    alone = study.scores(only=("S1",), condition="clear", **asked)
    reference = ("S1 alone", alone["S1"].value) if alone else None
    figure = plot.plot_curves(curves, "share under cloud", "mAP, band: 95 %", reference, note=study.note)
    return _legend_right(figure)


def _legend_right(figure: Figure | None) -> Figure | None:
    """The legend beside the curves, which letters of 24 points would hide."""
    if figure is None:
        return None
    axis = figure.axes[0]
    _without_legend(axis)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside right upper", fontsize=POINTS, handlelength=1.2)
    return enlarge(figure)


def _by_split(study: Study, target: str, label: str) -> Figure | None:
    asked: dict[str, Any] = dict(
        target=target, condition="clear", only=("S2", *FUSED[::2], "S2 + season plane", "majority class")
    )
    found = {
        "random": study.scores(experiment="strategies", **asked),
        "blocked": study.scores(experiment="blocked", **asked),
    }
    return enlarge(plot.plot_bars(found, label, note=study.note))


def _labels(study: Study) -> Figure | None:
    asked: dict[str, Any] = dict(
        target="corine", only=("S1", "S2", "S2 + S1, early", "S2 + S1, late", "majority class")
    )
    full = study.scores(experiment="strategies", condition="clear", **asked)
    tenth = study.scores(experiment="labels", **asked)
    return enlarge(plot.plot_bars({"all labels": full, "a tenth": tenth}, "mAP, 95 % interval", note=study.note))


def _weightings(study: Study) -> Figure | None:
    found = study.compare("equal", targets=("land_cover",), experiment=("noise floor", "weighting"))
    gains = {each.name: each.points for each in found.renamed(WEIGHTINGS)}
    label = "land cover: gain over equal weights, points, 95 %"
    return enlarge(plot.plot_bars({"mean IoU": gains} if gains else {}, label, note=study.note))


def _classes(study: Study) -> Figure | None:
    found = {
        "one network each": study.scores("condition", metric="iou", experiment="single"),
        "all in one": study.scores("condition", metric="iou", experiment="weighting"),
    }
    short = {group: {_cover(name): score for name, score in scores.items()} for group, scores in found.items()}
    return enlarge(plot.plot_bars(short, "IoU, 95 % interval", note=study.note), WIDTH, 5.5)


def _cosines(study: Study) -> Figure | None:
    pairs = ("land cover ~ climate zone", "climate zone ~ season")
    traces = study.traces("step", "target", metric="cosine", model="equal", only=pairs)
    figure = plot.plot_cosines(traces, note=study.note)
    if figure is not None:
        figure.axes[0].set_ylabel("cosine, band: seeds")
        for axis in figure.axes:
            axis.locator_params(nbins=4)
    return enlarge(figure)


def _efficiency(study: Study) -> Figure | None:
    asked: dict[str, Any] = dict(along="label_fraction", experiment="methods", target="land_cover_top")
    found = study.curves(only=("cross-modal", "SimCLR"), condition="frozen", **asked)
    bases = study.curves(only=("from scratch",), condition="scratch", **asked)
    bases |= study.curves(only=("random weights", "band statistics"), condition="frozen", **asked)
    figure = plot.plot_curve_panels(found, "share of the labels", "accuracy, band: 95 %", bases, note=study.note)
    return enlarge(figure)


def _ablation(study: Study) -> Figure | None:
    names = [name for name in study.values("model", experiment="ablation") if not name.startswith("cross-modal")]
    asked: dict[str, Any] = dict(targets=("land_cover_top",), condition="frozen", experiment="ablation", model=names)
    found = {f"{share:.0%} of labels": study.compare("all_changes", label_fraction=share, **asked).gains()
             for share in (0.05, 1.0)} if study else {}  # fmt: skip
    return enlarge(plot.plot_bars(found, "accuracy minus that with all changes, points", note=study.note))


def _trained(study: Study) -> Figure | None:
    names = ("from scratch, scratch", "cross-modal, frozen", "cross-modal, fine-tuned")
    asked: dict[str, Any] = dict(by=("model", "condition"), only=names, experiment="methods", target="land_cover_top")
    found = {}
    for share in (0.05, 1.0) if study else ():
        scores = study.scores(label_fraction=share, **asked)
        found[f"{share:.0%} of labels"] = {name.removesuffix(", scratch"): score for name, score in scores.items()}
    return enlarge(plot.plot_bars(found, "land cover: accuracy, 95 % interval", note=study.note), WIDTH, 4.8)


def _monitor(study: Study, metric: str) -> Figure | None:
    found = study.traces("epoch", metric=metric, experiment=("methods", "collapse"), seed="0")
    named: dict[str, Any] = {name: found[name] for name in ("SimCLR", "VICReg", "agreement") if name in found}
    if not named:
        return None
    figure = plot.plot_losses({metric: {name: values[1] for name, values in named.items()}}, note=study.note)
    figure.axes[0].set_ylabel(metric)
    figure.axes[0].set_title("")
    return _legend_right(figure)


FIGURES: dict[str, dict[str, Draw]] = {
    "00-intro": {"sample": _sample, "zones": _zones, "sides": _sides, "views": _views, "maps": _maps},
    "01-data_fusion": {
        "sample": _sample,
        "sides": _sides,
        "counts": _counts,
        "early": lambda study: part_of_fusion(slice(0, 2)),
        "late": lambda study: part_of_fusion(slice(2, 4)),
        "vectors": lambda study: part_of_fusion(slice(0, 3), lower=True),
        "clouds_painted": _clouds_painted,
        "strategies": _strategies,
        "labels": _labels,
        "cloud_curves": _cloud_curves,
        "zone_by_split": partial(_by_split, target="climate_zone", label="climate zone: accuracy, 95 % interval"),
    },
    "02-mtl": {
        "maps": _maps,
        "predictions": _predictions,
        "weightings": _weightings,
        "classes": _classes,
        "cosines": _cosines,
    },
    "03-ssl": {
        "regions": _regions,
        "views": _views,
        "light": _light,
        "masked": _masked,
        "ablation": _ablation,
        "spread": partial(_monitor, metric="spread"),
        "efficiency": _efficiency,
        "trained": _trained,
    },
}

"""One drawing for the idea of each lab, and one for the whole course; all patches in them are made up."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, Rectangle

from bengelib.plot import drawing
from bengelib.plot.drawing import BOTH_COLOUR, GREY, LINE_COLOUR, MEET_COLOUR, S1_COLOUR, S2_COLOUR, VECTOR_COLOUR
from bengelib.plot.style import OKABE_ITO, noted

CLOUDY = 0.5
"""Share of the drawn optical patch under cloud."""


def draw_fusion_idea() -> Figure:
    """The idea of data fusion: two satellites see one ground, and somewhere on the way to one answer they meet.

    Returns:
        A figure of 7 by 4.1 inches, meant for 100 dpi.
    """
    figure, axis = drawing.canvas(4.1)
    ground = drawing.ground(4)
    drawing.heading(axis, 3.5, 3.92, "Two satellites, one answer: where do they meet?")
    above, below = 2.72, 0.9
    middle = (above + below) / 2
    for y, colour, words, words_y, picture in (
        (above, S2_COLOUR, "light: rich in colours,\nbut stopped by clouds", 3.4, drawing.as_light(ground, CLOUDY)),
        (below, S1_COLOUR, "radar: poorer, but it\nsees through clouds", 0.24, drawing.as_radar(ground)),
    ):
        drawing.satellite(axis, 0.55, y + 0.7, colour, beam=0.62, wide=0.36)
        drawing.patch(axis, 0.55, y, 0.86, picture, colour)
        drawing.text(axis, 1.12, words_y, words, ha="left")
        drawing.arrow(axis, (1.04, y), (1.98, y))
        drawing.funnel(axis, 2.55, y, colour, "encoder", 1.14)
        drawing.arrow(axis, (3.12, y), (3.62, y))
        drawing.cells(axis, 3.72, y, [colour] * 5, upright=True)
        drawing.arrow(axis, (3.84, y), (4.6, y))
        drawing.box(axis, 4.92, y, "vote", "white", 0.6)
    for x, name in ((1.5, "early"), (2.55, "feature"), (3.72, "late"), (4.92, "decision")):
        axis.plot([x, x], [below, above], color=MEET_COLOUR, linewidth=1.8, linestyle=":", zorder=1)
        axis.add_patch(Circle((x, middle), 0.35, facecolor=MEET_COLOUR, edgecolor="white", linewidth=1.5, zorder=4))
        drawing.text(axis, x, middle - 0.01, name, color="white")
    drawing.arrow(axis, (5.32, middle), (5.72, middle), linewidth=2.2)
    _classes(axis, 6.3, middle)
    drawing.text(axis, 6.3, middle + 0.68, "one answer", fontweight="bold")
    drawing.text(axis, 6.3, middle - 0.52, "a class")
    alt = (
        "Drawing: an optical satellite, its patch half hidden by clouds, and a radar satellite see the same ground. "
        "Each patch goes through an encoder to a vector and a vote. Dark dots between the lanes show where they can "
        "meet: early, feature, late or decision fusion. One answer, a class, comes out."
    )
    return noted(figure, "", alt)


def draw_multitask_idea() -> Figure:
    """The idea of multi-task learning: one encoder reads a patch once, and three heads make three products of it.

    Returns:
        A figure of 7 by 3.3 inches, meant for 100 dpi.
    """
    figure, axis = drawing.canvas(3.3)
    ground = drawing.ground(4)
    drawing.heading(axis, 3.5, 3.12, "One encoder, three products")
    drawing.patch(axis, 0.72, 1.45, 1.15, drawing.as_light(ground), LINE_COLOUR)
    drawing.text(axis, 0.72, 0.68, "one patch")
    drawing.arrow(axis, (1.36, 1.45), (1.66, 1.45), linewidth=2.2)
    drawing.funnel(axis, 2.5, 1.45, BOTH_COLOUR, "shared\nencoder", 1.6, 1.7)
    drawing.cells(axis, 3.5, 1.45, [BOTH_COLOUR] * 6, upright=True)
    for y, name in ((2.5, "head"), (1.45, "head"), (0.4, "head")):
        drawing.arrow(axis, (3.6, 1.45 + (y - 1.45) * 0.25), (4.0, y), linewidth=1.6)
        drawing.box(axis, 4.4, y, name, "white", 0.76)
        drawing.arrow(axis, (4.8, y), (5.06, y), linewidth=1.6)
    drawing.patch(axis, 5.5, 2.5, 0.8, drawing.as_map(ground), LINE_COLOUR)
    drawing.text(axis, 6.0, 2.5, "land cover:\na class for\neach pixel", ha="left")
    _classes(axis, 5.5, 1.45)
    drawing.text(axis, 6.0, 1.45, "climate zone:\none class", ha="left")
    _dial(axis, 5.5, 0.4)
    drawing.text(axis, 6.0, 0.4, "season:\na number", ha="left")
    alt = (
        "Drawing: one satellite patch goes through one shared encoder. From its features one head draws a map of land "
        "cover, another picks a climate zone, and a third gives the season as a number."
    )
    return noted(figure, "", alt)


def draw_self_supervision_idea() -> Figure:
    """The idea of self-supervision: learn to see from many images without labels, then use the few that have one.

    Returns:
        A figure of 7 by 3.7 inches, meant for 100 dpi.
    """
    figure, axis = drawing.canvas(3.7)
    drawing.panel(axis, 0.05, 1.72, 6.9, 1.93)
    drawing.heading(axis, 0.2, 3.47, "First: many images, no labels", ha="left")
    _sheet(axis, 1.75, 2.56, columns=8, rows=4, side=0.34)
    drawing.arrow(axis, (3.2, 2.56), (3.6, 2.56), linewidth=2.2)
    drawing.funnel(axis, 4.2, 2.56, BOTH_COLOUR, "encoder", 1.14, 1.0)
    drawing.arrow(axis, (4.82, 2.56), (5.18, 2.56), linewidth=2.2)
    drawing.text(axis, 6.05, 2.56, "a task that the\nimages set\nthemselves")
    drawing.heading(axis, 0.2, 1.48, "Then: few labels", ha="left")
    for place, (seed, name, colour) in enumerate(
        ((2, "forest", OKABE_ITO[2]), (4, "fields", OKABE_ITO[1]), (7, "town", OKABE_ITO[5]))
    ):
        x = 0.62 + 0.92 * place
        drawing.patch(axis, x, 0.82, 0.66, drawing.as_light(drawing.ground(seed)), colour)
        drawing.box(axis, x, 0.26, name, colour, 0.74)
    drawing.arrow(axis, (3.2, 0.7), (3.6, 0.7), linewidth=2.2)
    drawing.funnel(axis, 4.2, 0.7, BOTH_COLOUR, "the same\nencoder", 1.14, 1.0)
    drawing.arrow(axis, (4.2, 2.0), (4.2, 1.24), BOTH_COLOUR, linewidth=3.0, arrowstyle="-|>,head_width=0.4")
    drawing.text(axis, 4.34, 1.48, "keep what it has learned", ha="left")
    drawing.arrow(axis, (4.82, 0.7), (5.18, 0.7), linewidth=2.2)
    drawing.box(axis, 5.52, 0.7, "head", "white", 0.6)
    drawing.arrow(axis, (5.84, 0.7), (6.12, 0.7), linewidth=2.2)
    drawing.text(axis, 6.5, 0.7, "answer", fontweight="bold")
    alt = (
        "Drawing in two rows. Above: many patches without labels train an encoder on a task that the images set "
        "themselves. Below: three labelled patches, forest, fields and town, go through the same encoder, which keeps "
        "what it has learned, and a small head gives the answer."
    )
    return noted(figure, "", alt)


def draw_course() -> Figure:
    """The course in one wide picture: sensors fused, an encoder shared, and one trained before there are labels.

    Returns:
        A figure of 10 by 3.5 inches, meant for 100 dpi.
    """
    figure, axis = drawing.canvas(3.5, 10.0)
    ground = drawing.ground(4)
    titles = ("Fuse two sensors", "Share one encoder", "Learn before labels")
    for place, title in enumerate(titles):
        left = 0.08 + 3.31 * place
        drawing.panel(axis, left, 0.08, 3.22, 3.34)
        axis.add_patch(Circle((left + 0.27, 3.12), 0.17, facecolor=MEET_COLOUR, edgecolor="white", zorder=3))
        drawing.text(axis, left + 0.27, 3.11, str(place + 1), 12, color="white", fontweight="bold")
        drawing.text(axis, left + 0.54, 3.11, title, 13.5, fontweight="bold", ha="left")
    for y, colour, picture in ((2.05, S2_COLOUR, drawing.as_light(ground, CLOUDY)), (0.68, S1_COLOUR, None)):
        drawing.satellite(axis, 0.68, y + 0.62, colour, beam=0.72, wide=0.4)
        drawing.patch(axis, 0.68, y - 0.14, 0.84, drawing.as_radar(ground) if picture is None else picture, colour)
        drawing.arrow(axis, (1.14, y - 0.14), (1.62, 1.32 + (y - 1.3) * 0.3), linewidth=1.8)
    axis.add_patch(Circle((1.8, 1.3), 0.24, facecolor=MEET_COLOUR, edgecolor="white", linewidth=1.5, zorder=4))
    drawing.text(axis, 1.8, 1.29, "+", 18, color="white", fontweight="bold")
    drawing.arrow(axis, (2.05, 1.3), (2.32, 1.3), linewidth=1.8)
    drawing.patch(axis, 2.75, 1.3, 0.84, drawing.as_map(ground), LINE_COLOUR)

    drawing.patch(axis, 3.87, 1.5, 0.76, drawing.as_light(ground), LINE_COLOUR)
    drawing.arrow(axis, (4.27, 1.5), (4.43, 1.5), linewidth=1.8)
    drawing.funnel(axis, 4.93, 1.5, BOTH_COLOUR, "encoder", 0.96, 1.5)
    for y in (2.38, 1.5, 0.62):
        drawing.arrow(axis, (5.45, 1.5 + (y - 1.5) * 0.25), (5.7, 1.5 + (y - 1.5) * 0.95), linewidth=1.8)
    drawing.patch(axis, 6.12, 2.38, 0.7, drawing.as_map(ground), LINE_COLOUR)
    _classes(axis, 6.12, 1.5)
    _dial(axis, 6.12, 0.62)

    _sheet(axis, 7.55, 2.2, columns=4, rows=4, side=0.34)
    drawing.text(axis, 7.55, 1.39, "no labels", 11.5)
    drawing.arrow(axis, (8.28, 2.2), (8.5, 2.2), linewidth=1.8)
    drawing.funnel(axis, 9.1, 2.2, BOTH_COLOUR, "encoder", 1.1, 1.2)
    drawing.arrow(axis, (9.1, 1.68), (9.1, 1.1), BOTH_COLOUR, linewidth=3.0)
    for place, (seed, colour) in enumerate(((2, OKABE_ITO[2]), (4, OKABE_ITO[1]))):
        drawing.patch(axis, 7.24 + 0.64 * place, 0.88, 0.52, drawing.as_light(drawing.ground(seed)), colour)
        _tag(axis, 7.24 + 0.64 * place, 0.52, colour)
    drawing.text(axis, 7.55, 0.27, "few labels", 11.5)
    drawing.arrow(axis, (8.28, 0.72), (8.5, 0.72), linewidth=1.8)
    drawing.funnel(axis, 9.1, 0.72, BOTH_COLOUR, "encoder", 1.1, 0.7)
    return noted(figure, "", COURSE)


COURSE = (
    "The course in three drawings. One: an optical patch under clouds and a radar patch of the same ground are joined "
    "into one map. Two: one encoder reads a patch and gives three products, a map of land cover, a climate zone and a "
    "season. Three: many patches without labels train an encoder, which then needs few labels."
)
"""The alternative text of `draw_course`."""


def _sheet(axis: Axes, x: float, y: float, columns: int, rows: int, side: float) -> None:
    """Many small patches, no two alike."""
    for place in range(columns * rows):
        at = x + side * (place % columns - (columns - 1) / 2), y + side * (place // columns - (rows - 1) / 2)
        tint = 1 + 0.18 * np.sin(place * np.array([1.7, 2.9, 4.1]))
        drawing.patch(axis, *at, side * 0.94, drawing.as_light(drawing.ground(10 + place, 16), tint=tuple(tint)))


def _classes(axis: Axes, x: float, y: float) -> None:
    """Bars of the probabilities of six classes, of which one stands out."""
    for place, tall in enumerate((0.1, 0.16, 0.62, 0.22, 0.08, 0.12)):
        colour = VECTOR_COLOUR if tall > 0.5 else GREY
        left = x - 0.36 + 0.12 * place
        axis.add_patch(Rectangle((left, y - 0.32), 0.1, tall, facecolor=colour, linewidth=0, zorder=3))
    axis.plot([x - 0.4, x + 0.4], [y - 0.32, y - 0.32], color=LINE_COLOUR, linewidth=1.2, zorder=3)


def _dial(axis: Axes, x: float, y: float) -> None:
    """A year as a circle, winter below and summer above, with a hand."""
    axis.add_patch(Circle((x, y), 0.36, facecolor="white", edgecolor=LINE_COLOUR, linewidth=1.2, zorder=3))
    axis.add_patch(Circle((x, y + 0.22), 0.07, facecolor=S1_COLOUR, linewidth=0, zorder=4))
    for angle in (0, 60, 120):
        across, up = 0.07 * np.cos(np.deg2rad(angle)), 0.07 * np.sin(np.deg2rad(angle))
        axis.plot([x - across, x + across], [y - 0.24 - up, y - 0.24 + up], color=S2_COLOUR, linewidth=1.4, zorder=4)
    drawing.arrow(axis, (x, y), (x + 0.25, y + 0.12), linewidth=2.0)
    axis.texts[-1].set_zorder(5)


def _tag(axis: Axes, x: float, y: float, colour: str) -> None:
    """A label without a word."""
    style: dict[str, Any] = {"boxstyle": "round,pad=0,rounding_size=0.05", "facecolor": colour}
    shape = FancyBboxPatch((x - 0.24, y - 0.07), 0.48, 0.14, linewidth=0.8, edgecolor=LINE_COLOUR, zorder=3, **style)
    axis.add_patch(shape)

"""Drawings that explain: where modalities meet in each fusion strategy, and what keeps pretraining from a collapse.

Every panel of `draw_fusion` has the same rows (input, stages of the encoder, features, head, answer), so that what
differs between two panels is where the dark box stands. Every panel of `draw_collapse` begins with the same two views.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, Polygon, Rectangle

from bengelib.plot.style import OKABE_ITO

S2_COLOUR, S1_COLOUR, BOTH_COLOUR, VECTOR_COLOUR = OKABE_ITO[4], OKABE_ITO[1], OKABE_ITO[2], OKABE_ITO[3]
MEET_COLOUR, LINE_COLOUR, BAND_COLOUR = "#333333", "#444444", "#f1f1f1"
TEXT, SMALL = 9.0, 8.0  # points


class _Rows(NamedTuple):
    """Heights of the middles of the rows, and of the gaps where sensors can meet, in inches above a panel's bottom."""

    images: float = 3.50
    pixels: float = 3.02
    early: float = 2.62
    maps: float = 2.22
    late: float = 1.82
    features: float = 1.44
    joined: float = 1.12
    head: float = 0.78
    answers: float = 0.44
    answer: float = 0.12


ROWS = _Rows()


def draw_fusion() -> Figure:
    """Four places where two sensors can meet, and three ways in for a vector such as season, weather or location.

    Returns:
        A figure of 10 by 9.4 inches, meant for 100 dpi.
    """
    figure = plt.figure(figsize=(10.0, 9.4), dpi=100)
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(0, 10.0), ylim=(0, 9.4))
    axis.axis("off")
    for top, heading in ((9.22, "Two sensors: where do they meet?"), (4.57, "A vector beside an image")):
        _text(axis, 0.12, top, heading, 11, fontweight="bold", ha="left")
    for bottom, right in ((5.02, 9.9), (0.37, 7.62)):
        _row_names(axis, bottom, right)
    for draw, column in ((_early, 0), (_feature, 1), (_late, 2), (_decision, 3)):
        draw(axis, 2.05 + 2.25 * column, 5.02)
    for draw, column in ((_planes, 0), (_perceptron, 1), (_modulated, 2)):
        draw(axis, 2.05 + 2.25 * column, 0.37)
    _key(axis, 7.84, 4.0)
    plt.close(figure)
    return figure


def _row_names(axis: Axes, bottom: float, right: float) -> None:
    """Grey bands that run through all panels, named at the left."""
    names = {"input": ROWS.images, "stages 1-2": ROWS.early, "stages 3-4": ROWS.late}
    names |= {"features": ROWS.features, "head": ROWS.head, "answer": ROWS.answer}
    for name, height in names.items():
        tall = {"input": 0.62, "features": 0.22, "answer": 0.26}.get(name, 0.46 if name != "head" else 0.32)
        axis.add_patch(Rectangle((0.1, bottom + height - tall / 2), right - 0.1, tall, color=BAND_COLOUR, zorder=0))
        _text(axis, 0.16, bottom + height, name, color=LINE_COLOUR, ha="left")


def _text(axis: Axes, x: float, y: float, text: str, size: float = SMALL, **style: Any) -> None:
    """A text around the point (x, y), before whatever else is there."""
    axis.text(x, y, text, **{"fontsize": size, "ha": "center", "va": "center", "zorder": 4, **style})


def _title(axis: Axes, x: float, bottom: float, title: str, remark: str) -> None:
    _text(axis, x, bottom + 3.99, title, TEXT + 1, fontweight="bold")
    _text(axis, x, bottom - 0.16, remark, color=LINE_COLOUR, style="italic")


def _image(axis: Axes, x: float, y: float, colour: str, name: str, layers: int = 3) -> None:
    """A patch as a few sheets, one behind the other."""
    for layer in reversed(range(layers)):
        place = (x - 0.2 + 0.05 * layer, y - 0.2 + 0.05 * layer)
        axis.add_patch(Rectangle(place, 0.38, 0.38, facecolor=colour, edgecolor="white", linewidth=0.8, zorder=3))
    _text(axis, x - 0.01, y - 0.01, name, TEXT)


def _stages(axis: Axes, x: float, y: float, colour: str, widths: tuple[float, float]) -> None:
    """Two stages of an encoder: the maps get smaller downwards."""
    for height, width in zip((y + 0.11, y - 0.11), widths, strict=True):
        wide, narrow = width / 2, width / 2 - 0.05
        corners = [(x - wide, height + 0.09), (x + wide, height + 0.09), (x + narrow, height - 0.09)]
        corners.append((x - narrow, height - 0.09))
        axis.add_patch(Polygon(corners, facecolor=colour, edgecolor="white", linewidth=0.8, zorder=3))


def _cells(axis: Axes, x: float, y: float, colours: Sequence[str]) -> None:
    """A vector as a row of cells."""
    left = x - 0.07 * len(colours)
    for index, colour in enumerate(colours):
        place = (left + 0.14 * index, y - 0.06)
        axis.add_patch(Rectangle(place, 0.14, 0.12, facecolor=colour, edgecolor="white", linewidth=0.8, zorder=3))


def _box(axis: Axes, x: float, y: float, text: str, colour: str, width: float, dark: bool = False) -> None:
    """A rounded box with a text; dark ones are where modalities meet."""
    shape = FancyBboxPatch(
        (x - width / 2, y - 0.115), width, 0.23, boxstyle="round,pad=0,rounding_size=0.06", facecolor=colour, zorder=3
    )
    shape.set_edgecolor("white" if dark else LINE_COLOUR)
    shape.set_linewidth(0.8)
    axis.add_patch(shape)
    _text(axis, x, y, text, color="white" if dark else "black")


def _meet(axis: Axes, x: float, y: float, text: str, width: float = 1.25) -> None:
    _box(axis, x, y, text, MEET_COLOUR, width, dark=True)


def _arrow(axis: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    style = {"arrowstyle": "-|>", "color": LINE_COLOUR, "linewidth": 1.1, "shrinkA": 0, "shrinkB": 0}
    axis.annotate("", end, start, arrowprops=style, zorder=2)


def _down(axis: Axes, x: float, bottom: float, start: float, end: float, to: float | None = None) -> None:
    """An arrow from height `start` to `end` of a panel, straight down or over to `to`."""
    _arrow(axis, (x, bottom + start), (x if to is None else to, bottom + end))


def _ending(axis: Axes, x: float, bottom: float, start: float) -> None:
    """From the height `start` on: one head, one answer."""
    _down(axis, x, bottom, start, ROWS.head + 0.115)
    _box(axis, x, bottom + ROWS.head, "head", "white", 0.6)
    _down(axis, x, bottom, ROWS.head - 0.115, ROWS.answer + 0.11)
    _text(axis, x, bottom + ROWS.answer, "answer", TEXT)


def _seen_together(axis: Axes, x: float, bottom: float) -> None:
    """From features that saw both modalities to the answer."""
    _cells(axis, x, bottom + ROWS.features, [BOTH_COLOUR] * 4)
    _ending(axis, x, bottom, ROWS.features - 0.06)


def _joined(axis: Axes, x: float, bottom: float) -> None:
    """From the features of two branches, joined end to end, to the answer."""
    for side in (-0.52, 0.52):
        _down(axis, x + side, bottom, ROWS.features - 0.06, ROWS.joined + 0.11, x + side * 0.7)
    _meet(axis, x, bottom + ROWS.joined, "join end to end")
    _ending(axis, x, bottom, ROWS.joined - 0.11)


def _trunk(axis: Axes, x: float, bottom: float, colour: str, first: float = ROWS.pixels) -> None:
    """One encoder and its features, from the height `first` on."""
    widths = ((1.0, 0.86), (0.72, 0.58))
    _down(axis, x, bottom, first, ROWS.early + 0.2)
    _stages(axis, x, bottom + ROWS.early, colour, widths[0])
    _down(axis, x, bottom, ROWS.early - 0.2, ROWS.late + 0.2)
    _stages(axis, x, bottom + ROWS.late, colour, widths[1])
    _down(axis, x, bottom, ROWS.late - 0.2, ROWS.features + 0.06)


def _branches(axis: Axes, x: float, bottom: float, until: float) -> None:
    """Sentinel-2 at the left and Sentinel-1 at the right, each with an encoder of its own down to height `until`."""
    for place, colour, name, bands in ((x - 0.52, S2_COLOUR, "S2", 3), (x + 0.52, S1_COLOUR, "S1", 2)):
        _image(axis, place, bottom + ROWS.images, colour, name, bands)
        if until < ROWS.early:
            _down(axis, place, bottom, ROWS.images - 0.2, ROWS.early + 0.2)
            _stages(axis, place, bottom + ROWS.early, colour, (0.8, 0.68))
        if until < ROWS.late:
            _down(axis, place, bottom, ROWS.early - 0.2, ROWS.late + 0.2)
            _stages(axis, place, bottom + ROWS.late, colour, (0.56, 0.44))
            _down(axis, place, bottom, ROWS.late - 0.2, ROWS.features + 0.06)
            _cells(axis, place, bottom + ROWS.features, [colour] * 4)


def _early(axis: Axes, x: float, bottom: float) -> None:
    _title(axis, x, bottom, "Early fusion", "compares pixel with pixel")
    _branches(axis, x, bottom, ROWS.images)
    for side in (-0.52, 0.52):
        _down(axis, x + side, bottom, ROWS.images - 0.2, ROWS.pixels + 0.11, x + side / 2)
    _meet(axis, x, bottom + ROWS.pixels, "stack channels")
    _trunk(axis, x, bottom, BOTH_COLOUR, ROWS.pixels - 0.11)
    _seen_together(axis, x, bottom)


def _feature(axis: Axes, x: float, bottom: float) -> None:
    _title(axis, x, bottom, "Feature (mid) fusion", "compares place with place")
    _branches(axis, x, bottom, ROWS.maps)
    for side in (-0.52, 0.52):
        _down(axis, x + side, bottom, ROWS.early - 0.2, ROWS.maps + 0.11, x + side * 0.8)
    _meet(axis, x, bottom + ROWS.maps, "concatenate, add or gate", 1.62)
    _down(axis, x, bottom, ROWS.maps - 0.11, ROWS.late + 0.2)
    _stages(axis, x, bottom + ROWS.late, BOTH_COLOUR, (0.72, 0.58))
    _down(axis, x, bottom, ROWS.late - 0.2, ROWS.features + 0.06)
    _seen_together(axis, x, bottom)


def _late(axis: Axes, x: float, bottom: float) -> None:
    _title(axis, x, bottom, "Late fusion", "needs no common grid")
    _branches(axis, x, bottom, ROWS.features)
    _joined(axis, x, bottom)


def _decision(axis: Axes, x: float, bottom: float) -> None:
    _title(axis, x, bottom, "Decision fusion", "two networks, one vote each")
    _branches(axis, x, bottom, ROWS.features)
    for side in (-0.52, 0.52):
        _down(axis, x + side, bottom, ROWS.features - 0.06, ROWS.head + 0.115)
        _box(axis, x + side, bottom + ROWS.head, "head", "white", 0.6)
        _down(axis, x + side, bottom, ROWS.head - 0.115, ROWS.answers + 0.11, x + side * 0.8)
    _meet(axis, x, bottom + ROWS.answers, "average probabilities", 1.45)
    _down(axis, x, bottom, ROWS.answers - 0.11, ROWS.answer + 0.11)
    _text(axis, x, bottom + ROWS.answer, "answer", TEXT)


def _vector(axis: Axes, x: float, y: float) -> None:
    """The vector that goes in, with its name."""
    _cells(axis, x, y, [VECTOR_COLOUR] * 3)
    _text(axis, x, y + 0.14, "vector")


def _planes(axis: Axes, x: float, bottom: float) -> None:
    _title(axis, x, bottom, "Planes", "early fusion of a vector")
    _image(axis, x - 0.62, bottom + ROWS.images, S2_COLOUR, "S2")
    _vector(axis, x + 0.05, bottom + ROWS.images - 0.05)
    _arrow(axis, (x + 0.27, bottom + ROWS.images - 0.05), (x + 0.53, bottom + ROWS.images - 0.05))
    _image(axis, x + 0.75, bottom + ROWS.images, VECTOR_COLOUR, "", 3)
    _text(axis, x + 0.7, bottom + ROWS.pixels, "each value\nat all pixels", ha="left")
    for side, to in ((-0.62, -0.3), (0.65, 0.3)):
        _down(axis, x + side, bottom, ROWS.images - 0.2, ROWS.pixels + 0.11, x + to)
    _meet(axis, x, bottom + ROWS.pixels, "stack channels")
    _trunk(axis, x, bottom, BOTH_COLOUR, ROWS.pixels - 0.11)
    _seen_together(axis, x, bottom)


def _perceptron(axis: Axes, x: float, bottom: float) -> None:
    _title(axis, x, bottom, "Perceptron (MLP)", "late fusion of a vector")
    _image(axis, x - 0.52, bottom + ROWS.images, S2_COLOUR, "S2")
    _trunk(axis, x - 0.52, bottom, S2_COLOUR, ROWS.images - 0.2)
    _cells(axis, x - 0.52, bottom + ROWS.features, [S2_COLOUR] * 4)
    _vector(axis, x + 0.52, bottom + ROWS.images - 0.05)
    _down(axis, x + 0.52, bottom, ROWS.images - 0.11, ROWS.maps + 0.115)
    _box(axis, x + 0.52, bottom + ROWS.maps, "small MLP", VECTOR_COLOUR, 0.76)
    _down(axis, x + 0.52, bottom, ROWS.maps - 0.115, ROWS.features + 0.06)
    _cells(axis, x + 0.52, bottom + ROWS.features, [VECTOR_COLOUR] * 2)
    _joined(axis, x, bottom)


def _modulated(axis: Axes, x: float, bottom: float) -> None:
    _title(axis, x, bottom, "FiLM", "tunes how the image is read")
    left, right = x - 0.45, x + 0.62
    _image(axis, left, bottom + ROWS.images, S2_COLOUR, "S2")
    _down(axis, left, bottom, ROWS.images - 0.2, ROWS.early + 0.2)
    _stages(axis, left, bottom + ROWS.early, S2_COLOUR, (0.9, 0.76))
    _down(axis, left, bottom, ROWS.early - 0.2, ROWS.maps + 0.115)
    _down(axis, left, bottom, ROWS.maps - 0.115, ROWS.late + 0.2)
    _stages(axis, left, bottom + ROWS.late, BOTH_COLOUR, (0.64, 0.5))
    _down(axis, left, bottom, ROWS.late - 0.2, ROWS.features + 0.06)
    _seen_together(axis, left, bottom)
    _vector(axis, right, bottom + ROWS.images - 0.05)
    _down(axis, right, bottom, ROWS.images - 0.11, ROWS.early + 0.115)
    _box(axis, right, bottom + ROWS.early, "small MLP", VECTOR_COLOUR, 0.76)
    _text(axis, right - 0.02, bottom + ROWS.maps, "scale $\\gamma$\nshift $\\beta$")
    _down(axis, right, bottom, ROWS.early - 0.115, ROWS.maps + 0.17)
    _meet(axis, left, bottom + ROWS.maps, "$(1 + \\gamma) \\cdot \\mathrm{map} + \\beta$", 1.2)
    _arrow(axis, (right - 0.25, bottom + ROWS.maps), (left + 0.6, bottom + ROWS.maps))


def _key(axis: Axes, x: float, top: float) -> None:
    """What the shapes and colours mean."""
    write = partial(_text, axis, ha="left")
    write(x, top + 0.02, "How to read it", TEXT + 1, fontweight="bold")
    lines = (
        ("Sentinel-2: optical, 12 bands", S2_COLOUR),
        ("Sentinel-1: radar, VV and VH", S1_COLOUR),
        ("sees both", BOTH_COLOUR),
        ("vector: season, weather,\nlocation", VECTOR_COLOUR),
        ("where they meet", MEET_COLOUR),
    )
    for place, (text, colour) in enumerate(lines):
        y = top - 0.34 - 0.36 * place
        axis.add_patch(Rectangle((x, y - 0.08), 0.22, 0.16, color=colour))
        write(x + 0.32, y, text)
    _stages(axis, x + 0.22, top - 2.3, "#bbbbbb", (0.44, 0.34))
    write(x + 0.55, top - 2.3, "two of the four stages of\nan encoder; maps shrink\nfrom stage to stage")
    _cells(axis, x + 0.22, top - 2.8, ["#bbbbbb"] * 3)
    write(x + 0.55, top - 2.8, "a vector: one number a cell")
    _box(axis, x + 0.22, top - 3.15, "head", "white", 0.44)
    write(x + 0.55, top - 3.15, "turns features into an\nanswer")
    write(x, top - 3.62, "$\\gamma$ and $\\beta$: one number for each\nchannel, after every stage")


# ------------------------------------------------------------------------------------------ what prevents a collapse

SAFEGUARDS: dict[str, tuple[str, ...]] = {
    "nothing": (),
    "other images": ("simclr", "moco-v2", "moco-v3", "cross-modal", "gassl", "seco", "place-image"),
    "other dimensions": ("barlow", "vicreg", "decur"),
    "one side only learns": ("byol", "moco-v3"),
    "the pixels": ("mae", "multi-pretext"),
}
"""Who keeps a network from giving all images one answer, and the methods that rely on it."""
_MIDDLE = 1.55
"""Height of the middle of the picture in each panel of `draw_collapse`, in inches."""


def draw_collapse() -> Figure:
    """Who keeps whom from collapsing: agreement alone, and four ways of asking for more than agreement.

    Returns:
        A figure of 10 by 4 inches, meant for 100 dpi.
    """
    figure = plt.figure(figsize=(10.0, 4.0), dpi=100)
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(0, 10.0), ylim=(0, 4.0))
    axis.axis("off")
    remarks = (
        "views agree, and so do\nall images: a collapse",
        "an image must not look\nlike another one",
        "each must vary,\nand no two together",
        "a predictor, and a slow\ntarget without gradient",
        "the answer is in the\nimage: no one for all",
    )
    draws = (_all_alike, _apart, _uncorrelated, _one_sided, _painted)
    for column, (name, remark, draw) in enumerate(zip(SAFEGUARDS, remarks, draws, strict=True)):
        x = 1.0 + 2.0 * column
        axis.add_patch(Rectangle((x - 0.94, 0.06), 1.88, 3.88, color=BAND_COLOUR, zorder=0))
        _text(axis, x, 3.74, name, TEXT + 1, fontweight="bold")
        draw(axis, x)
        _text(axis, x, 0.76, remark, style="italic", color=LINE_COLOUR)
        methods = SAFEGUARDS[name] or ("agreement alone",)
        lines = [", ".join(methods[start : start + 3]) for start in range(0, len(methods), 3)]
        _text(axis, x, 0.3, "\n".join(lines), 8)
    plt.close(figure)
    return figure


def _two_views(axis: Axes, x: float, colours: tuple[str, str] = (S2_COLOUR, S2_COLOUR)) -> None:
    """Two views of an image, each through an encoder, down to the height at which panels differ."""
    for side, colour, name in ((-0.42, colours[0], "view\n1"), (0.42, colours[1], "view\n2")):
        _image(axis, x + side, 3.34, S2_COLOUR, name, 1)
        _down(axis, x + side, 0, 3.14, 2.92)
        _stages(axis, x + side, 2.72, colour, (0.56, 0.44))
        _down(axis, x + side, 0, 2.52, 2.3)


def _sphere(axis: Axes, x: float, degrees: Sequence[Sequence[float]]) -> None:
    """Embeddings on a circle: those of one image, given by their angles, have one colour."""
    axis.add_patch(Circle((x, _MIDDLE), 0.55, facecolor="white", edgecolor=LINE_COLOUR, linewidth=0.8, zorder=2))
    for colour, angles in zip(OKABE_ITO, degrees, strict=False):
        for angle in map(math.radians, angles):
            place = (x + 0.55 * math.cos(angle), _MIDDLE + 0.55 * math.sin(angle))
            axis.add_patch(Circle(place, 0.07, facecolor=colour, edgecolor="white", linewidth=0.8, zorder=4))


def _all_alike(axis: Axes, x: float) -> None:
    _two_views(axis, x)
    _sphere(axis, x, [(48 + 4 * image, 52 + 4 * image) for image in range(5)])


def _apart(axis: Axes, x: float) -> None:
    _two_views(axis, x)
    _sphere(axis, x, [(72 * image + 8, 72 * image + 30) for image in range(5)])
    for image in range(5):
        angle = math.radians(72 * image + 19)
        inner, outer = ((x + r * math.cos(angle), _MIDDLE + r * math.sin(angle)) for r in (0.12, 0.4))
        _arrow(axis, inner, outer)


def _uncorrelated(axis: Axes, x: float) -> None:
    _two_views(axis, x)
    side = 0.22
    for row in range(5):
        for column in range(5):
            place = (x + side * (column - 2.5), _MIDDLE - side * (row - 1.5))
            colour = MEET_COLOUR if row == column else "white"
            axis.add_patch(Rectangle(place, side, side, facecolor=colour, edgecolor="#bbbbbb", linewidth=0.8, zorder=3))


def _one_sided(axis: Axes, x: float) -> None:
    _two_views(axis, x, (S2_COLOUR, "#bbbbbb"))
    style = {"arrowstyle": "-|>", "color": LINE_COLOUR, "linewidth": 1.1, "linestyle": ":"}
    axis.annotate("", (x + 0.16, 2.72), (x - 0.14, 2.72), arrowprops=style, zorder=2)
    _meet(axis, x - 0.42, 2.18, "predictor", 0.76)
    _down(axis, x - 0.42, 0, 2.06, 1.62)
    _down(axis, x + 0.42, 0, 2.3, 1.62)
    _text(axis, x + 0.42, 1.94, "stop", SMALL, color="white", fontweight="bold",
          bbox={"boxstyle": "round,pad=0.2", "facecolor": OKABE_ITO[5], "edgecolor": "white"})  # fmt: skip
    for side in (-0.42, 0.42):
        _cells(axis, x + side, 1.54, [S2_COLOUR if side < 0 else "#bbbbbb"] * 4)
    _text(axis, x, 1.28, "must agree")


def _painted(axis: Axes, x: float) -> None:
    """A half hidden image, encoder, decoder and painted squares, from top to bottom."""
    hidden = {(0, 1), (1, 0), (1, 2), (2, 1), (2, 2)}
    for top, filled in ((3.54, False), (1.72, True)):
        for row in range(3):
            for column in range(3):
                covered = (row, column) in hidden
                colour = ("#bbbbbb" if not filled else OKABE_ITO[1]) if covered else S2_COLOUR
                place = (x + 0.19 * (column - 1.5), top - 0.19 * (row + 1))
                axis.add_patch(Rectangle(place, 0.19, 0.19, facecolor=colour, edgecolor="white", zorder=3))
    _down(axis, x, 0, 2.95, 2.78)
    _stages(axis, x, 2.58, S2_COLOUR, (0.56, 0.44))
    _down(axis, x, 0, 2.38, 2.16)
    _box(axis, x, 2.04, "decoder", "white", 0.7)
    _down(axis, x, 0, 1.92, 1.74)

"""A drawing that explains where modalities meet in each fusion strategy.

Every panel of `draw_fusion` has the same rows (input, stages of the encoder, features, head, answer), so that what
differs between two panels is where the dark box stands.
"""

from functools import partial
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from bengelib.plot.drawing import (
    BAND_COLOUR,
    BOTH_COLOUR,
    LINE_COLOUR,
    MEET_COLOUR,
    S1_COLOUR,
    S2_COLOUR,
    TEXT,
    VECTOR_COLOUR,
    canvas,
)
from bengelib.plot.drawing import arrow as _arrow
from bengelib.plot.drawing import box as _box
from bengelib.plot.drawing import cells as _cells
from bengelib.plot.drawing import heading as _heading
from bengelib.plot.drawing import meet as _meet
from bengelib.plot.drawing import sheets as _image
from bengelib.plot.drawing import stages as _stages
from bengelib.plot.drawing import text as _text
from bengelib.plot.style import noted

SIDE, COLUMN, FIRST = 0.38, 1.5, 1.72
"""Inches: a sensor beside the middle of its panel, the width of a panel, and the middle of the first."""


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
        A figure of 7 by 9.8 inches, meant for 100 dpi.
    """
    figure, axis = canvas(9.8)
    for top, words in ((9.62, "Fusion of two sensors: where do they meet?"), (4.72, "A vector beside an image")):
        _heading(axis, 0.12, top, words, ha="left")
    for bottom, right in ((5.32, 6.95), (0.42, 5.4)):
        _row_names(axis, bottom, right)
    for draw, column in ((_early, 0), (_feature, 1), (_late, 2), (_decision, 3)):
        draw(axis, FIRST + COLUMN * column, 5.32)
    for draw, column in ((_planes, 0), (_perceptron, 1), (_modulated, 2)):
        draw(axis, FIRST + COLUMN * column, 0.42)
    _key(axis, 5.52, 4.05)
    alt = (
        "Seven small networks, from an input above to an answer below. With two sensors: early fusion stacks their "
        "channels before the encoder; feature fusion joins their maps halfway; late fusion joins their features; "
        "decision fusion averages the probabilities of two networks. With a vector beside an image: as planes stacked "
        "with the image, through a small perceptron joined with its features, or as FiLM, which scales and shifts maps."
    )
    return noted(figure, "", alt)


def _row_names(axis: Axes, bottom: float, right: float) -> None:
    """Grey bands that run through all panels, named at the left."""
    names = {"input": ROWS.images, "stages 1-2": ROWS.early, "stages 3-4": ROWS.late}
    names |= {"features": ROWS.features, "head": ROWS.head, "answer": ROWS.answer}
    for name, height in names.items():
        tall = {"input": 0.62, "features": 0.22, "answer": 0.26}.get(name, 0.46 if name != "head" else 0.32)
        axis.add_patch(Rectangle((0.1, bottom + height - tall / 2), right - 0.1, tall, color=BAND_COLOUR, zorder=0))
        _text(axis, 0.16, bottom + height, name, color=LINE_COLOUR, ha="left")


def _title(axis: Axes, x: float, bottom: float, title: str, remark: str) -> None:
    _text(axis, x, bottom + 3.99, title, TEXT + 1, fontweight="bold")
    _text(axis, x, bottom - 0.2, remark, color=LINE_COLOUR, style="italic")


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
    for side in (-SIDE, SIDE):
        _down(axis, x + side, bottom, ROWS.features - 0.06, ROWS.joined + 0.11, x + side * 0.7)
    _meet(axis, x, bottom + ROWS.joined, "join end to end", 1.3)
    _ending(axis, x, bottom, ROWS.joined - 0.11)


def _trunk(axis: Axes, x: float, bottom: float, colour: str, first: float = ROWS.pixels) -> None:
    """One encoder and its features, from the height `first` on."""
    widths = ((0.9, 0.76), (0.64, 0.5))
    _down(axis, x, bottom, first, ROWS.early + 0.2)
    _stages(axis, x, bottom + ROWS.early, colour, widths[0])
    _down(axis, x, bottom, ROWS.early - 0.2, ROWS.late + 0.2)
    _stages(axis, x, bottom + ROWS.late, colour, widths[1])
    _down(axis, x, bottom, ROWS.late - 0.2, ROWS.features + 0.06)


def _branches(axis: Axes, x: float, bottom: float, until: float) -> None:
    """Sentinel-2 at the left and Sentinel-1 at the right, each with an encoder of its own down to height `until`."""
    for place, colour, name, bands in ((x - SIDE, S2_COLOUR, "S2", 3), (x + SIDE, S1_COLOUR, "S1", 2)):
        _image(axis, place, bottom + ROWS.images, colour, name, bands)
        if until < ROWS.early:
            _down(axis, place, bottom, ROWS.images - 0.2, ROWS.early + 0.2)
            _stages(axis, place, bottom + ROWS.early, colour, (0.62, 0.52))
        if until < ROWS.late:
            _down(axis, place, bottom, ROWS.early - 0.2, ROWS.late + 0.2)
            _stages(axis, place, bottom + ROWS.late, colour, (0.44, 0.34))
            _down(axis, place, bottom, ROWS.late - 0.2, ROWS.features + 0.06)
            _cells(axis, place, bottom + ROWS.features, [colour] * 4)


def _early(axis: Axes, x: float, bottom: float) -> None:
    _title(axis, x, bottom, "Early", "compares pixel\nwith pixel")
    _branches(axis, x, bottom, ROWS.images)
    for side in (-SIDE, SIDE):
        _down(axis, x + side, bottom, ROWS.images - 0.2, ROWS.pixels + 0.11, x + side / 2)
    _meet(axis, x, bottom + ROWS.pixels, "stack channels", 1.3)
    _trunk(axis, x, bottom, BOTH_COLOUR, ROWS.pixels - 0.11)
    _seen_together(axis, x, bottom)


def _feature(axis: Axes, x: float, bottom: float) -> None:
    _title(axis, x, bottom, "Feature", "compares place\nwith place")
    _branches(axis, x, bottom, ROWS.maps)
    for side in (-SIDE, SIDE):
        _down(axis, x + side, bottom, ROWS.early - 0.2, ROWS.maps + 0.11, x + side * 0.8)
    _meet(axis, x, bottom + ROWS.maps, "concat, add, gate", 1.42)
    _down(axis, x, bottom, ROWS.maps - 0.11, ROWS.late + 0.2)
    _stages(axis, x, bottom + ROWS.late, BOTH_COLOUR, (0.64, 0.5))
    _down(axis, x, bottom, ROWS.late - 0.2, ROWS.features + 0.06)
    _seen_together(axis, x, bottom)


def _late(axis: Axes, x: float, bottom: float) -> None:
    _title(axis, x, bottom, "Late", "needs no\ncommon grid")
    _branches(axis, x, bottom, ROWS.features)
    _joined(axis, x, bottom)


def _decision(axis: Axes, x: float, bottom: float) -> None:
    _title(axis, x, bottom, "Decision", "two networks,\none vote each")
    _branches(axis, x, bottom, ROWS.features)
    for side in (-SIDE, SIDE):
        _down(axis, x + side, bottom, ROWS.features - 0.06, ROWS.head + 0.115)
        _box(axis, x + side, bottom + ROWS.head, "head", "white", 0.56)
        _down(axis, x + side, bottom, ROWS.head - 0.115, ROWS.answers + 0.11, x + side * 0.8)
    _meet(axis, x, bottom + ROWS.answers, "average votes", 1.2)
    _down(axis, x, bottom, ROWS.answers - 0.11, ROWS.answer + 0.11)
    _text(axis, x, bottom + ROWS.answer, "answer", TEXT)


def _vector(axis: Axes, x: float, y: float, cells: int = 3) -> None:
    """The vector that goes in, with its name."""
    _cells(axis, x, y, [VECTOR_COLOUR] * cells)
    _text(axis, x, y + 0.18, "vector")


def _planes(axis: Axes, x: float, bottom: float) -> None:
    _title(axis, x, bottom, "Planes", "early fusion:\nvalues at all pixels")
    _image(axis, x - 0.54, bottom + ROWS.images, S2_COLOUR, "S2")
    _vector(axis, x + 0.02, bottom + ROWS.images - 0.08, 2)
    _arrow(axis, (x + 0.15, bottom + ROWS.images - 0.08), (x + 0.28, bottom + ROWS.images - 0.08))
    _image(axis, x + 0.47, bottom + ROWS.images, VECTOR_COLOUR, "", 3)
    for side, to in ((-0.5, -0.25), (0.46, 0.25)):
        _down(axis, x + side, bottom, ROWS.images - 0.2, ROWS.pixels + 0.12, x + to)
    _meet(axis, x, bottom + ROWS.pixels, "stack channels", 1.3)
    _trunk(axis, x, bottom, BOTH_COLOUR, ROWS.pixels - 0.12)
    _seen_together(axis, x, bottom)


def _perceptron(axis: Axes, x: float, bottom: float) -> None:
    _title(axis, x, bottom, "Perceptron", "late fusion\nof a vector")
    _image(axis, x - SIDE, bottom + ROWS.images, S2_COLOUR, "S2")
    _trunk(axis, x - SIDE, bottom, S2_COLOUR, ROWS.images - 0.2)
    _cells(axis, x - SIDE, bottom + ROWS.features, [S2_COLOUR] * 4)
    _vector(axis, x + SIDE, bottom + ROWS.images - 0.05)
    _down(axis, x + SIDE, bottom, ROWS.images - 0.11, ROWS.maps + 0.115)
    _box(axis, x + SIDE, bottom + ROWS.maps, "MLP", VECTOR_COLOUR, 0.5)
    _down(axis, x + SIDE, bottom, ROWS.maps - 0.115, ROWS.features + 0.06)
    _cells(axis, x + SIDE, bottom + ROWS.features, [VECTOR_COLOUR] * 2)
    _joined(axis, x, bottom)


def _modulated(axis: Axes, x: float, bottom: float) -> None:
    _title(axis, x, bottom, "FiLM", "tunes how the\nimage is read")
    left, right = x - 0.3, x + 0.4
    _image(axis, left, bottom + ROWS.images, S2_COLOUR, "S2")
    _down(axis, left, bottom, ROWS.images - 0.2, ROWS.early + 0.2)
    _stages(axis, left, bottom + ROWS.early, S2_COLOUR, (0.66, 0.54))
    _down(axis, left, bottom, ROWS.early - 0.2, ROWS.maps + 0.12)
    _down(axis, left, bottom, ROWS.maps - 0.12, ROWS.late + 0.2)
    _stages(axis, left, bottom + ROWS.late, BOTH_COLOUR, (0.5, 0.4))
    _down(axis, left, bottom, ROWS.late - 0.2, ROWS.features + 0.06)
    _seen_together(axis, left, bottom)
    _vector(axis, right, bottom + ROWS.images - 0.08)
    _down(axis, right, bottom, ROWS.images - 0.16, ROWS.early + 0.125)
    _box(axis, right, bottom + ROWS.early, "MLP", VECTOR_COLOUR, 0.5)
    _down(axis, right, bottom, ROWS.early - 0.125, ROWS.maps + 0.1)
    _text(axis, right + 0.06, bottom + ROWS.maps, "$\\gamma, \\beta$", TEXT + 1)
    _meet(axis, left - 0.02, bottom + ROWS.maps, "scale, shift", 1.02)
    _arrow(axis, (right - 0.08, bottom + ROWS.maps), (left + 0.48, bottom + ROWS.maps))


def _key(axis: Axes, x: float, top: float) -> None:
    """The meaning of shapes and colours."""
    write = partial(_text, axis, ha="left")
    write(x, top + 0.36, "How to read it", TEXT + 1, fontweight="bold")
    lines = (
        ("Sentinel-2,\noptical", S2_COLOUR),
        ("Sentinel-1,\nradar", S1_COLOUR),
        ("sees both", BOTH_COLOUR),
        ("vector: season,\nweather, place", VECTOR_COLOUR),
        ("here they meet", MEET_COLOUR),
    )
    for place, (text, colour) in enumerate(lines):
        y = top - 0.05 - 0.43 * place
        axis.add_patch(Rectangle((x, y - 0.09), 0.24, 0.18, color=colour))
        write(x + 0.34, y, text)
    _stages(axis, x + 0.15, top - 2.25, "#bbbbbb", (0.3, 0.22))
    write(x + 0.4, top - 2.25, "two stages of\nan encoder")
    _cells(axis, x + 0.14, top - 2.72, ["#bbbbbb"] * 2)
    write(x + 0.4, top - 2.72, "one number\na cell")
    write(x, top - 3.3, "scale $\\gamma$, shift $\\beta$: one\nof each a channel,\nafter every stage")

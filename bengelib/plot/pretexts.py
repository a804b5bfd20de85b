"""Drawings of self-supervised learning: two views, the matrix of NT-Xent, and two sensors."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from bengelib.plot import drawing
from bengelib.plot.drawing import BOTH_COLOUR, GREY, LINE_COLOUR, S1_COLOUR, S2_COLOUR
from bengelib.plot.style import OKABE_ITO, noted

POSITIVE, NEGATIVE = OKABE_ITO[2], "#e3e8ee"
SEEDS = (4, 8, 5, 7)


def _view(seed: int, which: int) -> np.ndarray:
    """One of two views of an invented ground: its own crop, turn and light."""
    ground = drawing.ground(seed)
    if which:
        return drawing.as_light(np.rot90(ground[12:, 10:38]), tint=(1.3, 1.0, 0.72))
    return drawing.as_light(ground[:30, :30], tint=(0.86, 1.02, 1.16))


def draw_two_views() -> Figure:
    """Two views of one image, one encoder and projector for both, and embeddings that should agree.

    Returns:
        A figure of 7 by 3 inches, meant for 100 dpi.
    """
    figure, axis = drawing.canvas(3.0)
    drawing.patch(axis, 0.6, 1.55, 1.0, drawing.as_light(drawing.ground(4)), LINE_COLOUR)
    drawing.text(axis, 0.6, 0.9, "one image")
    for which, y in ((0, 2.3), (1, 0.8)):
        drawing.arrow(axis, (1.14, 1.55 + (y - 1.55) * 0.3), (1.62, y), linewidth=1.8)
        drawing.patch(axis, 2.0, y, 0.72, _view(4, which), S2_COLOUR)
        drawing.arrow(axis, (2.4, y), (2.62, y), linewidth=1.8)
        drawing.funnel(axis, 3.2, y, BOTH_COLOUR, "encoder", 1.12, 0.9)
        drawing.cells(axis, 3.98, y, [BOTH_COLOUR] * 5, upright=True)
        drawing.arrow(axis, (4.1, y), (4.34, y), linewidth=1.8)
        drawing.funnel(axis, 4.86, y, GREY, "projector", 1.02, 0.8)
        drawing.cells(axis, 5.6, y, [GREY] * 3, upright=True)
    drawing.text(axis, 2.0, 2.83, "view 1")
    drawing.text(axis, 2.0, 0.27, "view 2")
    for x in (3.2, 4.86):
        drawing.arrow(axis, (x, 1.2), (x, 1.9), linestyle=":", arrowstyle="<|-|>")
        drawing.text(axis, x, 1.55, "same weights", bbox={"facecolor": "white", "linewidth": 0, "pad": 1.5})
    drawing.arrow(axis, (5.6, 1.08), (5.6, 2.02), POSITIVE, arrowstyle="<|-|>", linewidth=2.2)
    drawing.text(axis, 5.74, 1.55, "should agree", ha="left", fontweight="bold", color="#00694c")
    drawing.text(axis, 3.6, 2.86, "kept afterwards", style="italic")
    drawing.text(axis, 5.2, 2.86, "thrown away", style="italic")
    alt = (
        "Drawing: two views of one image, with other crop, turn and light, go through an encoder and a projector that "
        "have the same weights for both. The two embeddings should agree. The encoder is kept, the projector is not."
    )
    return noted(figure, "", alt)


def draw_nt_xent() -> Figure:
    """The matrix of NT-Xent for four images: which of the other seven views is the partner?

    Returns:
        A figure of 7 by 4.7 inches, meant for 100 dpi.
    """
    figure, axis = drawing.canvas(4.7)
    side, left, top, count = 0.42, 1.0, 3.72, len(SEEDS)
    for place in range(2 * count):
        colour = OKABE_ITO[(0, 1, 3, 5)[place % count]]
        picture = _view(SEEDS[place % count], place // count)
        middle = side * (place + 0.5)
        drawing.patch(axis, left + middle, top + 0.26, 0.36, picture, colour)
        drawing.patch(axis, left - 0.26, top - middle, 0.36, picture, colour)
    for half, name in ((0, "view 1"), (1, "view 2")):
        at = side * count * (half + 0.5)
        drawing.text(axis, left + at, top + 0.62, f"{name} of each image")
        drawing.text(axis, left - 0.62, top - at, f"{name} of each image", rotation=90)
    for row in range(2 * count):
        for column in range(2 * count):
            itself, partner = row == column, abs(row - column) == count
            colour = "white" if itself else POSITIVE if partner else NEGATIVE
            corner = (left + side * column, top - side * (row + 1))
            hatch = "////" if itself else ""
            shape = Rectangle(corner, side, side, facecolor=colour, edgecolor="#9a9a9a", hatch=hatch, linewidth=0.8)
            axis.add_patch(shape)
            if partner:
                x, y = corner[0] + side / 2, corner[1] + side / 2
                drawing.text(axis, x, y, "+", 15, color="white", fontweight="bold")
    row = 1
    axis.add_patch(
        Rectangle((left, top - side * (row + 1)), 2 * count * side, side, fill=False, edgecolor="black", linewidth=2.5)
    )
    drawing.arrow(
        axis,
        (left + 2 * count * side + 0.42, top - side * 1.5),
        (left + 2 * count * side + 0.04, top - side * 1.5),
        linewidth=1.8,
    )
    right = left + 2 * count * side + 0.5
    drawing.text(
        axis, right, top - side * 1.5, "a row is a question:\nwhich of the others is\nthe same image?", ha="left"
    )
    for place, (colour, hatch, words) in enumerate(
        ((POSITIVE, "", "the partner:\npulled together"), (NEGATIVE, "", "another image:\npushed apart"),
         ("white", "////", "the view itself:\nleft out"))
    ):  # fmt: skip
        y = 2.05 - 0.62 * place
        axis.add_patch(Rectangle((right, y - 0.15), 0.3, 0.3, facecolor=colour, edgecolor="#9a9a9a", hatch=hatch))
        drawing.text(axis, right + 0.42, y, words, ha="left")
    drawing.text(axis, right + 0.15, 2.04, "+", 13, color="white", fontweight="bold")
    alt = (
        "Drawing: a matrix of eight views by eight views, two of each of four images. In each row one cell is marked, "
        "the partner, which is the other view of the same image and is pulled together. The diagonal, a view with "
        "itself, is hatched and left out. All other cells are other images and are pushed apart."
    )
    return noted(figure, "", alt)


def draw_sensor_contrast() -> Figure:
    """Contrast between sensors: each radar image looks for the optical image of the same ground, and the other way.

    Returns:
        A figure of 7 by 3.4 inches, meant for 100 dpi.
    """
    figure, axis = drawing.canvas(3.4)
    side, left, top = 0.56, 2.95, 2.4
    for place, seed in enumerate(SEEDS):
        ground = drawing.ground(seed)
        drawing.patch(axis, left + side * (place + 0.5), 3.06, 0.5, drawing.as_light(ground), S2_COLOUR)
        drawing.patch(axis, 0.42, top - side * (place + 0.5), 0.5, drawing.as_radar(ground), S1_COLOUR)
        drawing.arrow(axis, (0.7, top - side * (place + 0.5)), (0.98, top - side * (place + 0.5)))
        for column in range(len(SEEDS)):
            colour = POSITIVE if place == column else NEGATIVE
            at = (left + side * column, top - side * (place + 1))
            axis.add_patch(Rectangle(at, side, side, facecolor=colour, edgecolor="#9a9a9a", linewidth=0.8))
            if place == column:
                drawing.text(axis, at[0] + side / 2, at[1] + side / 2, "+", 16, color="white", fontweight="bold")
    drawing.funnel(axis, 1.62, top - 2 * side, S1_COLOUR, "radar\nencoder", 1.2, 2.2)
    drawing.arrow(axis, (2.26, top - 2 * side), (2.86, top - 2 * side), linewidth=1.8)
    drawing.box(axis, left + 2 * side, 2.61, "optical encoder", S2_COLOUR, 2.2)
    right = left + 4 * side + 0.16
    for y, colour, words in (
        (top - 1.0 * side, POSITIVE, "same ground,\ndays apart\nat most:\npulled together"),
        (top - 3.0 * side, NEGATIVE, "another ground:\npushed apart"),
    ):
        axis.add_patch(Rectangle((right, y - 0.15), 0.3, 0.3, facecolor=colour, edgecolor="#9a9a9a"))
        drawing.text(axis, right + 0.38, y, words, ha="left")
    drawing.text(axis, right + 0.15, top - side - 0.01, "+", 13, color="white", fontweight="bold")
    alt = (
        "Drawing: four radar patches go through one encoder, four optical patches of the same grounds through another. "
        "In the matrix of their similarities the diagonal, a radar and an optical patch of the same ground, is marked "
        "and pulled together; all other pairs are pushed apart."
    )
    return noted(figure, "", alt)

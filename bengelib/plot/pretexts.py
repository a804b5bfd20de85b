"""Drawings of self-supervised learning: two views, the matrix of NT-Xent, two sensors, masking, and slow targets."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from bengelib.plot import drawing
from bengelib.plot.drawing import BOTH_COLOUR, GREY, LINE_COLOUR, MEET_COLOUR, S1_COLOUR, S2_COLOUR
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
        (top - 1.0 * side, POSITIVE, "one ground,\none day:\npulled together"),
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


def draw_masked_autoencoder() -> Figure:
    """Masked autoencoding: the encoder sees a quarter of the squares, and the decoder reconstructs the others.

    Returns:
        A figure of 7 by 2.5 inches, meant for 100 dpi.
    """
    figure, axis = drawing.canvas(2.5)
    picture = drawing.as_light(drawing.ground(4, 48))
    visible = np.random.default_rng(3).permutation(36).reshape(6, 6) < 9  # nine of 36 squares
    seen = np.kron(visible, np.ones((8, 8), dtype=bool))[..., None]
    coarse = picture.reshape(6, 8, 6, 8, 3).mean(axis=(1, 3))
    smooth = np.kron(coarse, np.ones((8, 8, 1)))
    for x, image, words in (
        (0.68, picture, "image"),
        (2.06, np.where(seen, picture, 0.8), "hide three\nquarters"),
        (6.3, np.where(seen, picture, 0.65 * smooth + 0.35 * picture), "reconstruct"),
    ):
        drawing.patch(axis, x, 1.12, 1.14, image, LINE_COLOUR)
        drawing.text(axis, x, 0.46, words, va="top")
        if words != "hide three\nquarters":
            drawing.arrow(axis, (x, 2.1), (x, 1.74), POSITIVE, linewidth=2.2)
    axis.plot([0.68, 6.3], [2.1, 2.1], color=POSITIVE, linewidth=2.2, solid_capstyle="butt", zorder=2)
    drawing.arrow(axis, (1.28, 1.12), (1.46, 1.12), linewidth=1.8)
    drawing.arrow(axis, (2.66, 1.12), (2.86, 1.12), linewidth=1.8)
    drawing.funnel(axis, 3.42, 1.12, BOTH_COLOUR, "encoder", 1.08, 1.1)
    drawing.cells(axis, 4.1, 1.12, [BOTH_COLOUR] * 5, upright=True)
    drawing.funnel(axis, 4.84, 1.12, GREY, "decoder", 1.08, 1.1, opens=True)
    drawing.arrow(axis, (5.44, 1.12), (5.7, 1.12), linewidth=1.8)
    drawing.text(axis, 3.42, 0.46, "sees only\nthese squares", va="top")
    drawing.text(axis, 4.84, 0.46, "thrown away\nafterwards", va="top")
    drawing.text(axis, 3.5, 2.29, "loss: how far the hidden squares are off", color="#00694c", fontweight="bold")
    alt = (
        "Drawing: of an image three quarters of the squares are hidden. The encoder sees only the others, a decoder "
        "reconstructs the image, and the loss says how far the hidden squares are off. The decoder is thrown away."
    )
    return noted(figure, "", alt)


def draw_momentum() -> Figure:
    """BYOL and MoCo: a second encoder follows the first slowly, and no gradient flows back through it.

    Returns:
        A figure of 7 by 5.6 inches, meant for 100 dpi.
    """
    figure, axis = drawing.canvas(5.6)
    for bottom, title, names in (
        (2.9, "BYOL: predict a slow copy of yourself", ("online", "target")),
        (0.1, "MoCo: find your partner among remembered keys", ("query", "key")),
    ):
        drawing.panel(axis, 0.05, bottom, 6.9, 2.62)
        drawing.heading(axis, 0.2, bottom + 2.42, title, ha="left")
        _slow_pair(axis, bottom, names)
    drawing.arrow(axis, (3.98, 4.65), (4.2, 4.65), linewidth=1.8)
    drawing.funnel(axis, 4.76, 4.65, BOTH_COLOUR, "predictor", 1.06, 0.66)
    drawing.cells(axis, 5.5, 4.65, [BOTH_COLOUR] * 4, upright=True)
    drawing.stop(axis, 4.6, 3.5)
    drawing.arrow(axis, (3.98, 3.5), (5.36, 3.5), linewidth=1.8)
    drawing.cells(axis, 5.5, 3.5, [GREY] * 4, upright=True)
    drawing.arrow(axis, (5.5, 3.86), (5.5, 4.3), POSITIVE, arrowstyle="<|-|>", linewidth=2.2)
    drawing.text(axis, 5.66, 4.08, "should agree", ha="left", color="#00694c", fontweight="bold")

    drawing.stop(axis, 4.36, 0.7)
    drawing.arrow(axis, (3.98, 0.7), (4.74, 0.7), linewidth=1.8)
    drawing.cells(axis, 4.86, 0.7, [POSITIVE] * 4, upright=True)
    for place in range(5):
        drawing.cells(axis, 5.2 + 0.22 * place, 0.7, [GREY] * 4, upright=True)
    drawing.arrow(axis, (6.2, 0.7), (6.52, 0.7), linewidth=1.8)
    drawing.text(axis, 5.62, 0.26, "a queue of older keys")
    drawing.arrow(axis, (3.98, 1.85), (4.84, 1.06), POSITIVE, linewidth=2.2)
    for place in range(5):
        drawing.arrow(axis, (4.02, 1.87), (5.2 + 0.22 * place, 1.04), "#8a8a8a", linewidth=0.9, linestyle="--")
    drawing.text(axis, 4.62, 1.98, "its own key: together;\nall others: apart", ha="left")
    alt = (
        "Two drawings. BYOL: view 1 goes through an online encoder and a predictor, view 2 through a target encoder; "
        "the outputs should agree. MoCo: a query is to find its own key in a queue of older ones. In both, the other "
        "encoder follows the first slowly, as a moving average of its weights, and a stop sign shows that no gradient "
        "flows back through it."
    )
    return noted(figure, "", alt)


def _slow_pair(axis: Axes, bottom: float, names: Sequence[str]) -> None:
    """Two views, an encoder that learns above one that follows it, and their vectors."""
    above, below = bottom + 1.75, bottom + 0.6
    for which, (y, colour) in enumerate(((above, BOTH_COLOUR), (below, GREY))):
        drawing.patch(axis, 0.62, y, 0.8, _view(4, which), LINE_COLOUR)
        drawing.arrow(axis, (1.06, y), (1.32, y), linewidth=1.8)
        drawing.funnel(axis, 2.35, y, colour, f"{names[which]} encoder\nand projector", 2.0, 1.0)
        drawing.arrow(axis, (3.38, y), (3.7, y), linewidth=1.8)
        drawing.cells(axis, 3.86, y, [colour] * 4, upright=True)
    drawing.arrow(axis, (1.75, above - 0.44), (1.75, below + 0.44), MEET_COLOUR, linestyle=":", linewidth=2.0)
    drawing.text(axis, 1.86, (above + below) / 2, "follows slowly", ha="left")

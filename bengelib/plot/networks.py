"""A drawing of one network: a shared encoder whose features serve a decoder, as in a U-Net, and two heads."""

from itertools import pairwise

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from bengelib.plot import drawing
from bengelib.plot.drawing import BOTH_COLOUR, LINE_COLOUR, S2_COLOUR, VECTOR_COLOUR
from bengelib.plot.style import noted


def draw_shared_encoder() -> Figure:
    """A shared encoder, a U-Net's decoder with its skip connections, and two heads on the coarsest features.

    Returns:
        A figure of 7 by 4 inches, meant for 100 dpi.
    """
    figure, axis = drawing.canvas(4.0)
    ground = drawing.ground(4)
    levels = ((3.05, 0.92), (2.35, 0.66), (1.75, 0.46), (1.25, 0.32))  # height and size of the maps of each stage
    drawing.patch(axis, 0.6, 3.05, 0.94, drawing.as_light(ground), LINE_COLOUR)
    drawing.text(axis, 0.6, 3.68, "image")
    drawing.arrow(axis, (1.1, 3.05), (1.66, 3.05), linewidth=1.8)
    places = []
    for depth, (y, size) in enumerate(levels):
        for side, x, colour in ((0, 1.75 + 0.5 * depth, BOTH_COLOUR), (1, 5.1 - 0.5 * depth, S2_COLOUR)):
            if side and depth == len(levels) - 1:
                continue
            wide = 0.13 + 0.07 * depth
            axis.add_patch(
                Rectangle((x - wide / 2, y - size / 2), wide, size, facecolor=colour, edgecolor="white", zorder=3)
            )
            places.append((side, depth, x, y, size, wide))
    found = {(side, depth): rest for side, depth, *rest in places}
    for depth in range(3):
        x, y, size, wide = found[0, depth]
        to_x, to_y, _, to_wide = found[0, depth + 1]
        down = "angle,angleA=-90,angleB=180,rad=0"
        drawing.arrow(axis, (x, y - size / 2), (to_x - to_wide / 2, to_y), linewidth=1.6, connectionstyle=down)
        drawing.arrow(axis, (x + wide / 2, y), (found[1, depth][0] - found[1, depth][3] / 2, y), linestyle="--")
    chain = [found[0, 3], found[1, 2], found[1, 1], found[1, 0]]
    for (x, y, _, wide), (to_x, to_y, to_size, _) in pairwise(chain):
        up = "angle,angleA=0,angleB=90,rad=0"
        drawing.arrow(axis, (x + wide / 2, y), (to_x, to_y - to_size / 2), linewidth=1.6, connectionstyle=up)
    drawing.text(axis, 3.42, 3.2, "skip connections keep the detail")
    drawing.arrow(axis, (5.2, 3.05), (5.86, 3.05), linewidth=1.8)
    drawing.patch(axis, 6.38, 3.05, 0.94, drawing.as_map(ground), LINE_COLOUR)
    drawing.text(axis, 6.38, 3.68, "land cover")
    drawing.text(axis, 1.5, 1.55, "shared\nencoder", fontweight="bold", color="#00694c")
    drawing.text(axis, 5.25, 1.85, "decoder of\nthe U-Net", fontweight="bold", color="#1f6f99")
    x, y, size, _ = found[0, 3]
    drawing.arrow(axis, (x, y - size / 2), (x, 0.78), linewidth=1.8)
    drawing.cells(axis, x, 0.7, [BOTH_COLOUR] * 5)
    drawing.text(axis, x - 0.48, 0.7, "average over space", ha="right")
    for shift, name, answer in ((0.24, "head", "climate zone"), (-0.24, "head", "season")):
        drawing.arrow(axis, (x + 0.4, 0.7 + shift * 0.3), (4.1, 0.6 + shift), linewidth=1.6)
        drawing.box(axis, 4.4, 0.6 + shift, name, VECTOR_COLOUR, 0.6)
        drawing.arrow(axis, (4.72, 0.6 + shift), (5.2, 0.6 + shift), linewidth=1.6)
        drawing.text(axis, 5.3, 0.6 + shift, answer, ha="left")
    alt = (
        "Drawing of one network: a shared encoder makes an image coarser in four stages. A decoder makes its features "
        "finer again, with a skip connection from each of the finer stages, and gives a map of land cover. The mean of "
        "the coarsest features goes to two heads, for climate zone and season."
    )
    return noted(figure, "", alt)

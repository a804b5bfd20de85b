"""A drawing of how methods prevent collapse: agreement alone, and four additional demands.

Every panel but the last begins with the same two views of an image.
"""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.patches import Circle, Rectangle

from bengelib.plot.drawing import (
    BAND_COLOUR,
    LINE_COLOUR,
    MEET_COLOUR,
    S2_COLOUR,
    arrow,
    box,
    canvas,
    cells,
    meet,
    sheets,
    stages,
    text,
)
from bengelib.plot.style import OKABE_ITO, Picture, noted

SMALL, LARGE = 9.0, 11.0  # points

SAFEGUARDS: dict[str, tuple[str, ...]] = {
    "nothing": (),
    "other images": ("simclr", "moco-v2", "moco-v3", "cross-modal", "gassl", "seco", "place-image"),
    "other dimensions": ("barlow", "vicreg", "decur"),
    "one side only learns": ("byol", "moco-v3"),
    "the pixels": ("mae", "multi-pretext"),
}
"""Safeguards against equal embeddings of all images, and the methods that rely on each."""
WRITTEN = {
    "simclr": "SimCLR", "moco-v2": "MoCo v2", "moco-v3": "MoCo v3", "gassl": "GASSL", "seco": "SeCo",
    "barlow": "Barlow Twins", "vicreg": "VICReg", "decur": "DeCUR", "byol": "BYOL", "mae": "MAE",
}  # fmt: skip
"""Methods as their papers write them; the others are words."""
_MIDDLE = 1.55
"""Height of the middle of the picture in each panel of `draw_collapse`, in inches."""


def draw_collapse() -> Picture:
    """Draw how methods prevent collapse: agreement alone, and four demands in addition to agreement.

    Returns:
        A figure of 10 by 4 inches, meant for 100 dpi.
    """
    figure, axis = canvas(4.0, 10.0)
    remarks = (
        "views agree, and so do\nall images: a collapse",
        "an image must not look\nlike another one",
        "each must vary,\nand no two together",
        "a predictor, and a slow\ntarget without gradient",
        "the target differs\nfrom image to image",
    )
    draws = (_all_alike, _apart, _uncorrelated, _one_sided, _painted)
    for column, (name, remark, draw) in enumerate(zip(SAFEGUARDS, remarks, draws, strict=True)):
        x = 1.0 + 2.0 * column
        axis.add_patch(Rectangle((x - 0.94, 0.06), 1.88, 3.88, color=BAND_COLOUR, zorder=0))
        text(axis, x, 3.74, name, LARGE, fontweight="bold")
        draw(axis, x)
        text(axis, x, 0.76, remark, SMALL, style="italic", color=LINE_COLOUR)
        methods = [WRITTEN.get(each, each) for each in SAFEGUARDS[name]] or ["agreement alone"]
        lines = [", ".join(methods[start : start + 3]) for start in range(0, len(methods), 3)]
        text(axis, x, 0.3, "\n".join(lines), 8)
    named = "; ".join(
        f"{name}: {', '.join(WRITTEN.get(each, each) for each in methods) or 'agreement alone'}"
        for name, methods in SAFEGUARDS.items()
    )
    return noted(figure, "", f"Five panels, with two views or a half hidden image. What prevents a collapse, {named}.")


def _two_views(axis: Axes, x: float, colours: tuple[str, str] = (S2_COLOUR, S2_COLOUR)) -> None:
    """Two views of an image, each through an encoder, down to the height at which panels differ."""
    for side, colour, name in ((-0.42, colours[0], "view\n1"), (0.42, colours[1], "view\n2")):
        sheets(axis, x + side, 3.34, S2_COLOUR, name, 1)
        _down(axis, x + side, 3.14, 2.92)
        stages(axis, x + side, 2.72, colour, (0.56, 0.44))
        _down(axis, x + side, 2.52, 2.3)


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
        arrow(axis, inner, outer)


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
    meet(axis, x - 0.42, 2.18, "predictor", 0.76)
    _down(axis, x - 0.42, 2.06, 1.62)
    _down(axis, x + 0.42, 2.3, 1.62)
    text(axis, x + 0.42, 1.94, "stop", SMALL, color="white", fontweight="bold",
          bbox={"boxstyle": "round,pad=0.2", "facecolor": OKABE_ITO[5], "edgecolor": "white"})  # fmt: skip
    for side in (-0.42, 0.42):
        cells(axis, x + side, 1.54, [S2_COLOUR if side < 0 else "#bbbbbb"] * 4)
    text(axis, x, 1.28, "must agree")


def _painted(axis: Axes, x: float) -> None:
    """A half-hidden image, encoder, decoder and reconstructed squares, from top to bottom."""
    hidden = {(0, 1), (1, 0), (1, 2), (2, 1), (2, 2)}
    for top, filled in ((3.54, False), (1.72, True)):
        for row in range(3):
            for column in range(3):
                covered = (row, column) in hidden
                colour = ("#bbbbbb" if not filled else OKABE_ITO[1]) if covered else S2_COLOUR
                place = (x + 0.19 * (column - 1.5), top - 0.19 * (row + 1))
                axis.add_patch(Rectangle(place, 0.19, 0.19, facecolor=colour, edgecolor="white", zorder=3))
    _down(axis, x, 2.95, 2.78)
    stages(axis, x, 2.58, S2_COLOUR, (0.56, 0.44))
    _down(axis, x, 2.38, 2.16)
    box(axis, x, 2.04, "decoder", "white", 0.7)
    _down(axis, x, 1.92, 1.74)


def _down(axis: Axes, x: float, start: float, end: float) -> None:
    """An arrow downwards."""
    arrow(axis, (x, start), (x, end))

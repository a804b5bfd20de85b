"""Elements of explanatory drawings: a canvas in inches, boxes, arrows, networks, satellites and synthetic patches.

A drawing is seven inches wide and meant for 100 dpi, so that its type is as large as the text of a notebook. Its
patches are made up from a seed, so that one ground can be shown as light, as radar and as a map.
"""

from collections.abc import Sequence
from typing import Any, cast

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Circle, FancyBboxPatch, Polygon, Rectangle

from bengelib.plot.style import OKABE_ITO, Picture

S2_COLOUR, S1_COLOUR, BOTH_COLOUR, VECTOR_COLOUR = OKABE_ITO[4], OKABE_ITO[1], OKABE_ITO[2], OKABE_ITO[3]
MEET_COLOUR, LINE_COLOUR, BAND_COLOUR, GREY = "#333333", "#444444", "#f1f1f1", "#c4c4c4"
WIDTH, DPI = 7.0, 100
TEXT, HEADING = 10.2, 12.0  # points; 10.2 at 100 dpi are the 14 pixels of a notebook's text

# Of the ground: water, forest, meadow, field, bare field, town; as light, as radar brightness, as a WorldCover map.
_LIGHT = ("#274b66", "#2f4d2a", "#7f9a4b", "#c9b36a", "#9a7350", "#a9a29c")
_RADAR = (0.08, 0.62, 0.42, 0.36, 0.28, 0.92)
_MAP = ("#0064C8", "#006400", "#FFFF4C", "#F096FF", "#F096FF", "#000000")


def canvas(height: float, width: float = WIDTH) -> tuple[Picture, Axes]:
    """An empty drawing, and its axis, whose units are inches from the lower left corner."""
    figure = cast(Picture, plt.figure(figsize=(width, height), dpi=DPI, FigureClass=Picture))
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(0, width), ylim=(0, height))
    axis.axis("off")
    return figure, axis


def text(axis: Axes, x: float, y: float, words: str, size: float = TEXT, **style: Any) -> None:
    """A text centred at the point (x, y), in the foreground."""
    axis.text(x, y, words, **{"fontsize": size, "ha": "center", "va": "center", "zorder": 6, **style})


def heading(axis: Axes, x: float, y: float, words: str, **style: Any) -> None:
    """A text in bold."""
    text(axis, x, y, words, HEADING, fontweight="bold", **style)


def box(axis: Axes, x: float, y: float, words: str, colour: str, width: float, dark: bool = False) -> None:
    """A rounded box with a text; dark ones are where modalities meet."""
    tall = 0.25 + 0.17 * words.count("\n")
    shape = FancyBboxPatch(
        (x - width / 2, y - tall / 2), width, tall, boxstyle="round,pad=0,rounding_size=0.06", facecolor=colour
    )
    shape.set(edgecolor="white" if dark else LINE_COLOUR, linewidth=0.8, zorder=3)
    axis.add_patch(shape)
    text(axis, x, y - 0.01, words, color="white" if dark else "black")


def meet(axis: Axes, x: float, y: float, words: str, width: float = 1.25) -> None:
    """A dark box: here modalities meet."""
    box(axis, x, y, words, MEET_COLOUR, width, dark=True)


def panel(axis: Axes, left: float, bottom: float, width: float, height: float, colour: str = BAND_COLOUR) -> None:
    """A pale ground below a part of the drawing."""
    axis.add_patch(Rectangle((left, bottom), width, height, color=colour, zorder=0))


def arrow(
    axis: Axes, start: tuple[float, float], end: tuple[float, float], colour: str = LINE_COLOUR, **style: Any
) -> None:
    """An arrow; `style` may hold `linestyle`, `linewidth`, `connectionstyle` or `arrowstyle`."""
    shape = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.3, "shrinkA": 0, "shrinkB": 0, **style}
    axis.annotate("", end, start, arrowprops=shape, zorder=2)


def sheets(axis: Axes, x: float, y: float, colour: str, name: str, layers: int = 3) -> None:
    """An image as a few sheets, one behind the other."""
    for layer in reversed(range(layers)):
        place = (x - 0.2 + 0.05 * layer, y - 0.2 + 0.05 * layer)
        axis.add_patch(Rectangle(place, 0.38, 0.38, facecolor=colour, edgecolor="white", linewidth=0.8, zorder=3))
    text(axis, x - 0.01, y - 0.01, name)


def stages(axis: Axes, x: float, y: float, colour: str, widths: tuple[float, float]) -> None:
    """Two stages of an encoder: the maps get smaller downwards."""
    for height, width in zip((y + 0.11, y - 0.11), widths, strict=True):
        wide, narrow = width / 2, width / 2 - 0.05
        corners = [(x - wide, height + 0.09), (x + wide, height + 0.09), (x + narrow, height - 0.09)]
        corners.append((x - narrow, height - 0.09))
        axis.add_patch(Polygon(corners, facecolor=colour, edgecolor="white", linewidth=0.8, zorder=3))


def funnel(axis: Axes, x: float, y: float, colour: str, words: str, length: float = 1.0, tall: float = 0.8) -> None:
    """A network from left to right, which narrows."""
    left, right = x - length / 2, x + length / 2
    corners = [(left, y - tall / 2), (left, y + tall / 2), (right, y + tall / 4), (right, y - tall / 4)]
    axis.add_patch(Polygon(corners, facecolor=colour, edgecolor="white", linewidth=0.8, zorder=3))
    text(axis, x, y, words)


def cells(axis: Axes, x: float, y: float, colours: Sequence[str], upright: bool = False) -> None:
    """A vector as a row of cells, or as a column."""
    for index, colour in enumerate(colours):
        along = 0.14 * (index - len(colours) / 2)
        place = (x - 0.07, y + along) if upright else (x + along, y - 0.06)
        size = (0.14, 0.14) if upright else (0.14, 0.12)
        axis.add_patch(Rectangle(place, *size, facecolor=colour, edgecolor="white", linewidth=0.8, zorder=3))


def satellite(axis: Axes, x: float, y: float, colour: str, beam: float = 0.0, wide: float = 0.5) -> None:
    """A satellite with two wings, and a beam of this height that ends as wide as the patch below."""
    if beam:
        corners = [(x - 0.05, y - 0.1), (x + 0.05, y - 0.1), (x + wide, y - beam), (x - wide, y - beam)]
        axis.add_patch(Polygon(corners, facecolor=colour, alpha=0.25, linewidth=0, zorder=1))
    axis.plot([x - 0.4, x + 0.4], [y, y], color=LINE_COLOUR, linewidth=1.2, zorder=2)
    for side in (-0.42, 0.16):
        for part in (0, 0.13):
            place = (x + side + part, y - 0.07)
            axis.add_patch(Rectangle(place, 0.13, 0.14, facecolor=colour, edgecolor="white", linewidth=0.8, zorder=3))
    axis.add_patch(Rectangle((x - 0.1, y - 0.12), 0.2, 0.24, facecolor=LINE_COLOUR, edgecolor="white", zorder=3))
    axis.add_patch(Circle((x, y - 0.12), 0.06, facecolor="white", edgecolor=LINE_COLOUR, zorder=3))


def ground(seed: int, size: int = 40) -> np.ndarray:
    """An invented ground (size, size): 0 water, 1 forest, 2 meadow, 3 field, 4 bare field, 5 town."""
    random = np.random.default_rng(seed)
    centres = random.uniform(0, size, (11, 2))
    kinds = random.permutation([1, 1, 2, 2, 3, 3, 3, 4, 4, 5, 2])
    rows, columns = np.mgrid[:size, :size]
    bent = 1.5 * np.sin(rows / 5 + seed) + 1.5 * np.cos(columns / 4)
    far = np.abs(rows[..., None] - centres[:, 0]) + np.abs(columns[..., None] + bent[..., None] - centres[:, 1])
    found = kinds[far.argmin(axis=-1)]
    if seed % 3:  # a river
        middle = size * (0.3 + 0.5 * random.random()) + size / 7 * np.sin(rows / size * 5 + seed)
        found = np.where(np.abs(columns - middle) < size / 18, 0, found)
    return found


def as_light(kinds: np.ndarray, cloud: float = 0.0, tint: tuple[float, float, float] = (1, 1, 1)) -> np.ndarray:
    """The ground (H, W) as an optical image (H, W, 3) in [0, 1], with this share of it under cloud."""
    random = np.random.default_rng(int(kinds.sum()))
    colours = np.array([to_rgb(colour) for colour in _LIGHT])[kinds]
    picture = colours * np.array(tint) * random.normal(1, 0.06, (*kinds.shape, 1))
    if cloud:
        rows, columns = np.mgrid[: kinds.shape[0], : kinds.shape[1]] / len(kinds)
        field = np.zeros(kinds.shape)
        for row, column, size in ((0.25, 0.3, 0.16), (0.35, 0.55, 0.2), (0.6, 0.4, 0.18), (0.7, 0.75, 0.15)):
            field += np.exp(-((rows - row) ** 2 + 0.6 * (columns - column) ** 2) / (2 * size**2 * cloud))
        veil = np.clip(1.6 * field - 0.45, 0, 1)[..., None]
        picture = picture * (1 - veil) + 0.97 * veil
    return np.clip(picture, 0, 1)


def as_radar(kinds: np.ndarray) -> np.ndarray:
    """The ground (H, W) as a radar image (H, W, 3) in [0, 1], with speckle."""
    random = np.random.default_rng(int(kinds.sum()) + 1)
    picture = np.array(_RADAR)[kinds] * random.gamma(5, 0.2, kinds.shape)
    return np.repeat(np.clip(picture, 0, 1)[..., None], 3, axis=-1)


def as_map(kinds: np.ndarray) -> np.ndarray:
    """The ground (H, W) as a map of land cover (H, W, 3), in the colours of WorldCover."""
    return np.array([to_rgb(colour) for colour in _MAP])[kinds]


def patch(axis: Axes, x: float, y: float, side: float, picture: np.ndarray, frame: str = "white") -> None:
    """An image (H, W, 3) around the point (x, y), with a thin frame."""
    extent = (x - side / 2, x + side / 2, y - side / 2, y + side / 2)
    axis.imshow(picture, extent=extent, interpolation="nearest", zorder=3, aspect="auto")
    place = (extent[0], extent[2])
    axis.add_patch(Rectangle(place, side, side, facecolor="none", edgecolor=frame, linewidth=1.5, zorder=4))

"""Shared style of all figures: colours, markers, resolution, alternative text, and a note on the source of the data.

Colours are Okabe-Ito or viridis/cividis, which colour-blind readers can distinguish, or those of a published legend.
"""

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sized
from io import BytesIO
from typing import Any, cast

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
PNG = "image/png"


class Picture(Figure):
    """A figure with an alternative text, which a notebook stores beside the image and a page made from it shows.

    Attributes:
        alt: what the figure shows, in one to three sentences.
    """

    alt: str = ""

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
        """The image for a notebook, and its alternative text as metadata of the image.

        It has a palette of 256 colours: patches are noise to PNG, and would be more than twice as large without.
        """
        whole, small = BytesIO(), BytesIO()
        self.savefig(whole, format="png", bbox_inches="tight")
        with Image.open(whole) as image:
            image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
        return {PNG: b64encode(small.getvalue()).decode("ascii")}, {PNG: {"alt": self.alt}}


def subplots(*shape: int, **options: Any) -> tuple[Picture, Any]:
    """A `Picture` and its axes, as `plt.subplots` makes them."""
    figure, axes = plt.subplots(*shape, dpi=80, layout="constrained", FigureClass=Picture, **options)
    return cast(Picture, figure), axes


def plain(axis: Axes) -> None:
    """Remove the ticks from an axis that shows an image."""
    axis.set_xticks([])
    axis.set_yticks([])


def in_words(name: str) -> str:
    """The name of a class or target as people write it: `tree_cover` is tree cover."""
    return name.replace("_", " ")


def listed(names: Iterable[Any], most: int = 6) -> str:
    """Names in a row of words, shortened after `most` of them: `a, b and c`."""
    shown = [str(name) for name in names]
    if len(shown) > most:
        shown = [*shown[: most - 1], f"{len(shown) - most + 1} more"]
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def ranked(values: Mapping[str, float], form: str = ".3f") -> str:
    """Names with their values, in their order: `S2 0.602, S1 0.501`."""
    return listed((f"{name} {value:{form}}" for name, value in values.items()), most=8)


def count_of(things: Sized, thing: str) -> str:
    """A number with its noun: `1 patch`, `3 panels`."""
    plural = "" if len(things) == 1 else "es" if thing.endswith(("s", "ch")) else "s"
    return f"{len(things)} {thing}{plural}"


def noted(figure: Picture, note: str, alt: str) -> Picture:
    """Finish a figure: write the note, store the alternative text, and take it out of pyplot's hands.

    Args:
        figure: as drawn; a notebook shows it once, as the value of a cell.
        note: small, in the lower corner, such as the source of the data; also the end of the alternative text.
        alt: what the figure shows, with its main numbers, for those who do not see it.
    """
    sentences = [part[0].upper() + part[1:] for part in (alt, f"{note}." if note else "") if part]
    figure.alt = " ".join(" ".join(sentences).split())
    if note:
        figure.supxlabel(note, x=0.995, ha="right", fontsize=8, color="#555555")
    plt.close(figure)
    return figure

"""Shared style of all figures: colours, markers, the resolution, and the note with the source of the data.

Colours are Okabe-Ito or viridis/cividis, which colour-blind readers can distinguish, or those of a published legend.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
subplots: Callable[..., tuple[Figure, Any]] = partial(plt.subplots, dpi=80, layout="constrained")


def plain(axis: Axes) -> None:
    """Remove the ticks from an axis that shows an image."""
    axis.set_xticks([])
    axis.set_yticks([])


def noted(figure: Figure, note: str) -> Figure:
    """Write the note, and close the figure in pyplot so that a notebook shows it once."""
    if note:
        figure.supxlabel(note, x=0.995, ha="right", fontsize=7, color="#555555")
    plt.close(figure)
    return figure

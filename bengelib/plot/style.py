"""What all figures share: colours, markers, the resolution, and the note that says where the data are from.

Colours are Okabe-Ito or viridis/cividis, which stay apart for colour-blind readers, or those of a published legend.
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
    """Take the ticks off an axis that shows a picture."""
    axis.set_xticks([])
    axis.set_yticks([])


def noted(figure: Figure, note: str) -> Figure:
    """Write the note, and take the figure out of pyplot's hands so that a notebook shows it once."""
    if note:
        figure.supxlabel(note, x=0.995, ha="right", fontsize=7, color="#555555")
    plt.close(figure)
    return figure

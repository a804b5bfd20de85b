"""Figures of data (`samples`, `described`), results (`results`) and maps (`maps`), and drawings that explain.

The drawings are of the labs' ideas (`ideas`), of fusion (`diagrams`), of a shared encoder (`networks`) and of
self-supervised learning (`pretexts`). The figures of data and of results can be had from here, as the labs do:
`from bengelib import plot`, then `plot.plot_curves(...)`. Each returns a `matplotlib.figure.Figure` that carries an
alternative text, which a notebook stores beside the image.
"""

from bengelib.plot.described import plot_described as plot_described
from bengelib.plot.maps import plot_scene_map as plot_scene_map
from bengelib.plot.results import plot_bars as plot_bars
from bengelib.plot.results import plot_confusion as plot_confusion
from bengelib.plot.results import plot_cosines as plot_cosines
from bengelib.plot.results import plot_curve_panels as plot_curve_panels
from bengelib.plot.results import plot_curves as plot_curves
from bengelib.plot.results import plot_embedding as plot_embedding
from bengelib.plot.results import plot_history as plot_history
from bengelib.plot.results import plot_intervals as plot_intervals
from bengelib.plot.results import plot_losses as plot_losses
from bengelib.plot.results import plot_monitor as plot_monitor
from bengelib.plot.samples import composite as composite
from bengelib.plot.samples import plot_counts as plot_counts
from bengelib.plot.samples import plot_gates as plot_gates
from bengelib.plot.samples import plot_map as plot_map
from bengelib.plot.samples import plot_maps as plot_maps
from bengelib.plot.samples import plot_patches as plot_patches
from bengelib.plot.samples import plot_reconstructions as plot_reconstructions
from bengelib.plot.samples import plot_regions as plot_regions
from bengelib.plot.samples import plot_sample as plot_sample

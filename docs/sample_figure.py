"""Draw docs/images/sample.png, the figure of the README: one simulated sample in all its modalities.

`python docs/sample_figure.py`
"""

from pathlib import Path

from bengelib import load
from bengelib.plot import plot_sample

data = load(
    "ben-ge-sim",
    "train",
    modalities=("s2", "s1", "dem", "weather", "season", "lonlat"),
    targets=("climate_zone", "land_cover", "land_cover_top", "corine"),
    scheme="study",
)
figure = plot_sample(data[4], note="simulated data (ben-ge-sim), not measurements")
figure.savefig(Path(__file__).parent / "images" / "sample.png")

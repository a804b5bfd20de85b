"""Write the table of docs/methods.md on location encoders: what they predict of weather stations far from all others.

`python docs/places_table.py stations.csv`: mean temperature and precipitation of 1,481 weather stations over the world
(Hooker et al. 2018, doi:10.1038/sdata.2018.246), a table with the columns Lon, Lat, meanT and meanP.
"""

import argparse
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from bengelib.methods.location import LocationEncoder
from bengelib.methods.places import explained, place_folds, probe_held_out, train_held_out

PAGE = Path(__file__).with_name("methods.md")
MARKS = "<!-- places -->", "<!-- end of places -->"
VALUES = {"temperature": "meanT", "precipitation": "meanP"}
CODES = {
    "longitude and latitude": {"degrees": 0},
    "harmonics, 10 degrees": {"degrees": 10},
    "harmonics, 20 degrees": {"degrees": 20},
    "harmonics, 20 degrees, no falloff": {"degrees": 20, "falloff": 0.0},
}
NETWORKS = {"longitude and latitude": {"degrees": 0}}


def rows(stations: pd.DataFrame, size: float = 10.0, epochs: int = 60) -> list[tuple[str, ...]]:
    """A row for each code of places: R2 of each quantity in blocks that were held out, and in a random split.

    Args:
        stations: with the columns of the module.
        size: degrees along a side of a block.
        epochs: of the networks.
    """
    lonlat = stations[["Lon", "Lat"]].to_numpy(float)
    ways = {"blocks": place_folds(lonlat, size), "random": np.random.default_rng(0).permutation(len(lonlat)) % 5}
    predictors: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {}
    for name, options in CODES.items():
        codes = LocationEncoder(**options).codes(torch.from_numpy(lonlat)).numpy()  # type: ignore[arg-type]
        predictors[f"{name}; ridge"] = partial(probe_held_out, codes)
    for name, options in NETWORKS.items():
        build = partial(LocationEncoder, **options)  # type: ignore[arg-type]
        predictors[f"{name}; SIREN"] = partial(train_held_out, build, lonlat, epochs=epochs)
    found = []
    for name, predict in predictors.items():
        scores = [
            explained(predict(values, folds), values)
            for values in (stations[column].to_numpy(float) for column in VALUES.values())
            for folds in ways.values()
        ]
        print(name, *(f"{score:.2f}" for score in scores), flush=True)
        found.append((name, *(f"{score:.2f}" for score in scores)))
    return found


def main() -> None:
    """Compute the table and put it between the marks of the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stations", type=Path, help="the table of the stations")
    stations = pd.read_csv(parser.parse_args().stations)
    head = ("code of a place; model", *(f"{name}, {way}" for name in VALUES for way in ("blocks", "random")))
    lines = [head, ("---",) * len(head), *rows(stations)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    page = PAGE.read_text(encoding="utf-8")
    marked = re.compile(rf"(?<={re.escape(MARKS[0])}\n).*?(?={re.escape(MARKS[1])})", re.DOTALL)
    PAGE.write_text(marked.sub(lambda _: f"{table}\n", page), encoding="utf-8")


if __name__ == "__main__":
    main()

"""The command `predict`: from a checkpoint and a scene to a map and its figure."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from bengelib.cli.options import ARITHMETIC, PRECISIONS
from bengelib.errors import RasterError


def add_predict(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", path: Callable[[str], str]) -> None:
    """Declare the command; `path` is the type of arguments that are paths."""
    command = commands.add_parser("predict", help="map a whole scene with a trained network")
    command.add_argument("--checkpoint", type=path, required=True, help="model written by train")
    command.add_argument(
        "--scene",
        type=path,
        nargs="+",
        required=True,
        metavar="FILE",
        help="GeoTIFFs of one location, or s2=FILE, B02=FILE",
    )
    command.add_argument("--out", type=path, required=True, help="GeoTIFF to write, such as map.tif")
    command.add_argument("--target", help="target to map, if the network has several")
    command.add_argument("--probabilities", type=path, metavar="FILE", help="GeoTIFF with a band for each class")
    command.add_argument("--picture", type=path, metavar="FILE", help="figure to write (default: OUT as .png)")
    command.add_argument("--bands", nargs="+", metavar="NAME", help="names of the bands of all files, in order")
    command.add_argument(
        "--scale", nargs="+", metavar="KEY=FACTOR", help="factor on the values in the files, such as s2=1e-4"
    )
    command.add_argument("--offset", nargs="+", metavar="KEY=TERM", help="added after scaling, such as s2=-0.1")
    command.add_argument("--tile", type=int, help="pixels along a side of a tile (default: 384, for classifiers 120)")
    command.add_argument("--overlap", type=int, help="pixels that tiles share (default: 32)")
    command.add_argument("--stride", type=int, help="for classifiers: pixels along a side of a cell (default: a tile)")
    command.add_argument("--precision", choices=PRECISIONS, default="auto", help=ARITHMETIC)
    command.set_defaults(run=_predict)


def _predict(options: argparse.Namespace) -> None:
    from bengelib.cores import limit_threads
    from bengelib.plot.maps import plot_scene_map
    from bengelib.recipes.mapping import Tiling, predict_map

    limit_threads()
    print(
        predict_map(
            options.checkpoint,
            options.scene,
            options.out,
            target=options.target,
            probabilities=options.probabilities,
            bands=options.bands,
            scale=_numbers("--scale", options.scale or ()),
            offset=_numbers("--offset", options.offset or ()),
            tiling=Tiling(options.tile, options.overlap, options.stride),
            precision=options.precision,
        )
    )
    picture = options.picture or Path(options.out).with_suffix(".png")
    try:
        plot_scene_map(options.out).savefig(picture)
        print(picture)
    except RasterError:  # several classes per pixel, which colours cannot show
        if options.picture:
            raise


def _numbers(option: str, given: Sequence[str]) -> dict[str, float]:
    """`KEY=NUMBER` as numbers by key.

    Raises:
        ValueError: the text has another form.
    """
    found = {}
    for text in given:
        key, _, number = text.partition("=")
        try:
            found[key] = float(number)
        except ValueError:
            raise ValueError(f"{option} {text}; expected a modality and a number, such as s2=0.0001") from None
    return found

"""The command line: `python -m bengelib COMMAND`, each with `--help`."""

import argparse
import inspect
import io
import os
import re
import sys
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any, TypeAlias

from bengelib.cli.maps import add_predict
from bengelib.cli.options import ARITHMETIC, DEPTHS, FUSIONS, PRECISIONS
from bengelib.errors import BengeError
from bengelib.methods import METHODS, TABLE

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
FAILED = 2
"""Exit status after an error."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; errors are printed without a traceback.

    Returns:
        The exit status: 0; `FAILED` after an error, which is printed as one line on standard error; 130 if interrupted.
    """
    options = _parser().parse_args(arguments)
    say = partial(_say, has_scheme=hasattr(options, "scheme"))
    for stream in (sys.stdout, sys.stderr):  # a file name may hold characters that the terminal cannot show
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    plain, warnings.formatwarning = warnings.formatwarning, _one_line
    try:
        options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of the output closed it, as `head` does
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (the interpreter flushes it on exit)
        return 0
    except (BengeError, ValueError, OSError) as error:
        return say(error)
    except Exception as error:
        if sys.flags.dev_mode:
            raise
        return say(error, " (unexpected; `python -X dev -m bengelib ...` shows the traceback)")
    except KeyboardInterrupt:
        print(
            "Interrupted. The same command continues (fetch, pack, predict; pretrain with --resume) or starts again "
            "(the others; probe keeps the rows written so far).",
            file=sys.stderr,
        )
        return 130
    finally:
        warnings.formatwarning = plain
    return 0


def _say(error: Exception, more: str = "", *, has_scheme: bool = False) -> int:
    """Print an error as one line, with options as they are typed here, and return the exit status."""
    text = " ".join(str(error).splitlines()).replace('on_error="skip"', "--skip")
    if has_scheme:
        text = re.sub(r'scheme="(\w+)"', r"--scheme \1", text)
    print(f"{type(error).__name__}: {text}{more}", file=sys.stderr)
    return FAILED


def _one_line(message: Warning | str, category: type[Warning], *_: object, **__: object) -> str:
    """A warning without its line of source code."""
    return f"{category.__name__}: {message}\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bengelib", description="Multi-modal satellite data, and encoders.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_simulate(commands)
    _add_fetch(commands)
    _add_pack(commands)
    _add_methods(commands)
    _add_pretrain(commands)
    _add_probe(commands)
    _add_describe(commands)
    _add_train(commands)
    _add_evaluate(commands)
    add_predict(commands, _path)
    _add_bench(commands)
    return parser


def _add_simulate(commands: Commands) -> None:
    command = commands.add_parser("simulate", help="write simulated data in the layout of ben-ge")
    command.add_argument("--root", type=_path, required=True, help="dataset to write, such as data/ben-ge-sim")
    command.add_argument("--patches", type=int, default=1000, help="number of patches (default: 1000)")
    command.add_argument("--seed", type=int, default=0, help="random seed of the patches (default: 0)")
    command.add_argument(
        "--sampling",
        choices=("balanced", "natural"),
        default="balanced",
        help="kinds of land in equal numbers or as in nature (default: balanced)",
    )
    command.set_defaults(run=_simulate)


def _add_fetch(commands: Commands) -> None:
    command = commands.add_parser("fetch", help="download a dataset, check and unpack it")
    command.add_argument("name", help="ben-ge-800, ben-ge-8k or ben-ge")
    command.add_argument(
        "--into", type=_path, help="folder to put it in (default: data/, or the folder that BENGE_DATA names)"
    )
    command.set_defaults(run=_fetch)


def _add_pack(commands: Commands) -> None:
    command = commands.add_parser("pack", help="convert a dataset to arrays that load hundreds of times faster")
    command.add_argument("--root", type=_path, required=True, help="folder or name of the dataset")
    command.add_argument(
        "--destination", type=_path, help="folder of the pack (default: packed/ in the folder of the dataset)"
    )
    command.add_argument("--processes", type=int, help="number of worker processes (default: as many as are useful)")
    command.add_argument("--skip", action="store_true", help="leave damaged patches out instead of stopping")
    command.add_argument("--verify", action="store_true", help="check the finished pack against its hashes")
    command.set_defaults(run=_pack)


def _add_methods(commands: Commands) -> None:
    command = commands.add_parser("methods", help="list the self-supervised methods of pretrain")
    command.set_defaults(run=_methods)


def _add_pretrain(commands: Commands) -> None:
    command = commands.add_parser("pretrain", help="train an encoder on unlabelled images")
    _add_data(command)
    command.add_argument("--out", type=_path, required=True, help="checkpoint to write, such as encoder.safetensors")
    command.add_argument(
        "--method", choices=METHODS, default="simclr", help="see the command methods (default: simclr)"
    )
    command.add_argument(
        "--width", type=int, default=32, help="channels of the first layer; 64 is the usual ResNet-18 (default: 32)"
    )
    command.add_argument("--epochs", type=int, default=40, help="passes over the images (default: 40)")
    command.add_argument("--depth", type=int, choices=DEPTHS, default=18, help="layers of the ResNet (default: 18)")
    command.add_argument(
        "--size",
        type=int,
        default=64,
        help="pixels along a side: of an image with --images, of a view with --root (default: 64)",
    )
    command.add_argument("--view", type=int, help="with --images: pixels of a view (default: half of --size)")
    command.add_argument("--batch-size", type=int, default=256, help="images per step and process (default: 256)")
    command.add_argument(
        "--micro-batch", type=int, help="images per forward pass, for a --batch-size that exceeds the memory"
    )
    command.add_argument(
        "--sync-batchnorm", action="store_true", help="share BatchNorm statistics between all processes"
    )
    command.add_argument(
        "--checkpoint-every", type=_seconds, default=600.0, help="time between checkpoints, beside --out (default: 10m)"
    )
    command.add_argument("--resume", action="store_true", help="continue from the last checkpoint, if there is one")
    command.add_argument("--log-folder", type=_path, help="folder for figures by step, as log.jsonl and TensorBoard")
    command.add_argument("--lr", type=float, default=2e-3, help="highest learning rate (default: 0.002)")
    for name, kind, text in (
        ("temperature", float, "temperature of the loss (default: 0.2)"),
        ("momentum", float, "momentum of the target network (default: 0.99, less in short runs)"),
        (
            "queue",
            int,
            "keys in the queue, a multiple of --batch-size (default: up to 4096, a quarter of the images)",
        ),
        ("regions", int, "regions of the Earth to tell apart (default: 20)"),
    ):
        having = ", ".join(method for method, facts in TABLE.items() if name in facts.settings)
        command.add_argument(f"--{name}", type=kind, help=f"{text}; for {having}")
    command.add_argument("--seed", type=int, default=0, help="random seed of weights, views and hold-out (default: 0)")
    command.set_defaults(run=_pretrain)


def _add_probe(commands: Commands) -> None:
    command = commands.add_parser("probe", help="evaluate an encoder with few and many labels")
    _add_data(command)
    command.add_argument("--checkpoint", type=_path, required=True, help="checkpoint written by pretrain")
    command.add_argument("--out", type=_path, required=True, help="file to write, such as rows.json")
    command.add_argument(
        "--modes",
        nargs="+",
        choices=("frozen", "finetune", "scratch"),
        help="probe of the frozen encoder, fine-tuning, training from random weights (default: all three)",
    )
    command.add_argument(
        "--fractions",
        nargs="+",
        type=float,
        default=(0.01, 0.1, 1.0),
        help="fractions of the labels (default: 0.01 0.1 1)",
    )
    command.add_argument(
        "--seeds", nargs="+", type=int, default=(0,), help="random seeds of the labelled subsets (default: 0)"
    )
    command.add_argument(
        "--steps", type=int, help="training steps, fine-tuned and from scratch (default: 800, more for many labels)"
    )
    command.add_argument(
        "--tta", type=int, default=8, help="test-time augmentation: flips and rotations of each image (default: 8)"
    )
    command.add_argument("--figure", type=_path, help="figure of the rows to write, such as curve.png")
    command.set_defaults(run=_probe)


def _add_describe(commands: Commands) -> None:
    command = commands.add_parser("describe", help="write a first dataset.toml from the files in a folder")
    command.add_argument("--root", type=_path, required=True, help="folder of the data")
    command.add_argument("--overwrite", action="store_true", help="replace an existing dataset.toml")
    command.set_defaults(run=_describe)


def _add_train(commands: Commands) -> None:
    command = commands.add_parser("train", help="train a network on labels and print its scores with intervals")
    _add_root(command)
    command.add_argument("--target", nargs="+", required=True, help="target to predict; several are learned jointly")
    command.add_argument(
        "--modalities", nargs="+", help="inputs of the network (default: all but the location; for ben-ge: s2 s1)"
    )
    command.add_argument("--out", type=_path, required=True, help="model to write, such as model.safetensors")
    command.add_argument(
        "--fusion", choices=FUSIONS, default="early", help="how modalities are joined (default: early)"
    )
    command.add_argument("--checkpoint", type=_path, help="start from an encoder written by pretrain")
    of_start = "default: as in --checkpoint, without one"
    command.add_argument("--depth", type=int, choices=DEPTHS, help=f"layers of the ResNets ({of_start} 18)")
    command.add_argument(
        "--width", type=int, help=f"channels of the first layer; 64 is the usual ResNet-18 ({of_start} 32)"
    )
    command.add_argument("--epochs", type=int, default=15, help="passes over the samples (default: 15)")
    command.add_argument("--lr", type=float, default=1e-3, help="highest learning rate (default: 0.001)")
    command.add_argument("--crop", type=int, help="pixels of a random crop in training (default: whole images)")
    command.add_argument(
        "--modality-dropout", type=float, default=0.0, help="probability of hiding a modality in training (default: 0)"
    )
    command.add_argument(
        "--scheme", choices=("official", "study", "blocked"), help="split (default: what suits the data)"
    )
    command.add_argument("--fold", type=int, default=0, help="test fold of a blocked split (default: 0)")
    command.add_argument("--seed", type=int, default=0, help="random seed of weights, order and crops (default: 0)")
    command.set_defaults(run=_train)


def _add_evaluate(commands: Commands) -> None:
    command = commands.add_parser("evaluate", help="score a trained model on test samples, with intervals")
    _add_root(command)
    command.add_argument("--checkpoint", type=_path, required=True, help="model written by train")
    command.add_argument(
        "--split",
        choices=("test", "val", "train", "all"),
        default="test",
        help="samples to score; all for a dataset that is there for testing only (default: test, as train does)",
    )
    command.set_defaults(run=_evaluate)


def _add_bench(commands: Commands) -> None:
    command = commands.add_parser(
        "bench", help="measure the speed of loading, packing, training, augmentation and methods"
    )
    command.add_argument(
        "what",
        metavar="BENCHMARK",
        choices=("loader", "pack", "train", "views", "pretrain", "methods", "gpu"),
        help="one of %(choices)s",
    )
    command.add_argument(
        "--peers", action="store_true", help="for pretrain: compare a first epoch with other libraries"
    )
    command.add_argument(
        "--root",
        type=_path,
        help="for loader: a dataset, best of 800 samples or more; optionally for train and gpu, then of ben-ge",
    )
    command.add_argument("--rounds", type=int, help="timings of each method (default: 7; methods 5, gpu 20, --peers 3)")
    command.add_argument(
        "--batch-size",
        type=int,
        help="samples per batch (default: loader and methods 32, train 128, views 256, pretrain 64, --peers 128, "
        "gpu 256, or 4 without one)",
    )
    command.add_argument("--precision", choices=PRECISIONS, help="for views, pretrain and methods (default: auto)")
    command.add_argument("--processes", type=int, help="for pretrain: number to compare with a single one (default: 2)")
    command.set_defaults(run=_bench)


def _path(text: str) -> str:
    """A path with `~` expanded, since shells do not expand it after an equals sign."""
    return os.path.expanduser(text)


def _add_root(command: argparse.ArgumentParser) -> None:
    """The arguments of the commands that learn from labels or test with them."""
    command.add_argument("--root", type=_path, required=True, help="folder or name of the dataset")
    command.add_argument("--batch-size", type=int, default=32, help="samples per step (default: 32)")
    command.add_argument("--precision", choices=PRECISIONS, default="auto", help=ARITHMETIC)
    command.add_argument("--skip", action="store_true", help="leave damaged samples out instead of stopping")


def _seconds(text: str) -> float:
    """Seconds in a duration such as `10m`, `1.5h`, `90s` or `90`.

    Raises:
        ArgumentTypeError: the text is not a duration.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration; give one such as 10m, 1.5h or 90s")
    return float(found[1]) * {"m": 60, "h": 3600}.get(found[2], 1)


def _add_data(command: argparse.ArgumentParser) -> None:
    """The arguments that name the images, the same for both commands that learn from them."""
    source = command.add_mutually_exclusive_group(required=True)
    source.add_argument("--images", type=_path, help="folder of class folders with JPEG or PNG images")
    source.add_argument(
        "--root", type=_path, nargs="+", help="folder or name of a dataset, of ben-ge or with dataset.toml; or several"
    )
    command.add_argument(
        "--modalities", nargs="+", help="with --root: inputs of the encoder (default: all images; for ben-ge: s2 s1)"
    )
    command.add_argument(
        "--target",
        help="with --root: target of the probe; for ben-ge climate_zone, land_cover_top or corine",
    )
    command.add_argument("--precision", choices=PRECISIONS, default="auto", help=ARITHMETIC)
    command.add_argument("--skip", action="store_true", help="leave damaged images out instead of stopping")


# Imports are inside the functions, so that `--help` and the small commands do not wait for torch.


def _simulate(options: argparse.Namespace) -> None:
    from bengelib.sim.simulate import simulate

    print(simulate(options.root, options.patches, options.seed, options.sampling))


def _fetch(options: argparse.Namespace) -> None:
    from bengelib.data.download import fetch
    from bengelib.data.loading import data_folders

    print(fetch(options.name, options.into or data_folders()[-1]))


def _pack(options: argparse.Namespace) -> None:
    from bengelib.data.manifest import verify
    from bengelib.data.packing import pack

    folder = pack(
        options.root,
        options.destination,
        processes=options.processes,
        on_error="skip" if options.skip else "raise",
    )
    if options.verify:
        verify(folder, options.root)
    print(folder)


def _methods(options: argparse.Namespace) -> None:
    from bengelib.methods import COST

    rows = [("method", "cost", "needs beside images", "learns to", "source")]
    rows += [
        (name, f"{each.cost:.1f}", ", ".join(each.needs), each.learns, each.source) for name, each in TABLE.items()
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in (rows[0], tuple("-" * width for width in widths), *rows[1:]):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")
    print(f"\n{COST}")


def _of_benge(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments that apply to ben-ge only; refused together with a folder of images."""
    given = {"modalities": options.modalities, "target": options.target}
    given = {name: value for name, value in given.items() if value is not None}
    if options.images is not None and given:
        raise ValueError(f"--{next(iter(given))} is for --root; the classes of --images are its folders")
    return {**given, "on_error": "skip" if options.skip else "raise"}


def _pretrain(options: argparse.Namespace) -> None:
    from bengelib.cli.commands import Pretraining, pretrain_dataset, pretrain_images
    from bengelib.cli.outputs import checkpoint_folder
    from bengelib.cores import limit_threads
    from bengelib.devices import make_accelerator
    from bengelib.files import discard
    from bengelib.processes import is_first_process

    limit_threads()
    names = ["method", "width", "epochs", "depth", "size", "view", "lr", "seed", "precision"]
    names += ["micro_batch", "sync_batchnorm"]
    names += ["temperature", "momentum", "queue", "regions"]
    settings = Pretraining(batch_size=options.batch_size, **{name: getattr(options, name) for name in names})
    others: dict[str, Any] = _of_benge(options)
    if options.root is not None and options.view is not None:
        raise ValueError("--view is for --images; views of --root have --size pixels, fewer where images are small")
    make_accelerator(options.precision)  # join the other processes, if there are any
    checkpoints = checkpoint_folder(options.out, options.resume)
    others |= {"checkpoint": checkpoints, "checkpoint_every": options.checkpoint_every, "log": options.log_folder}
    if options.images is not None:
        pretrain_images(options.images, options.out, settings, **others)
    else:
        pretrain_dataset(options.root, options.out, settings, **others)
    if is_first_process():
        discard(checkpoints)  # what they were for is written
        print(options.out)


def _probe(options: argparse.Namespace) -> None:
    from bengelib.cli.commands import probe_dataset, probe_images, probe_options
    from bengelib.cli.outputs import check_figure, check_writable, draw_rows, write_rows
    from bengelib.cores import limit_threads

    limit_threads()
    check_writable(options.out)
    others: dict[str, Any] = _of_benge(options)
    others |= probe_options(options.steps, options.seeds, options.tta)
    others |= {"modes": options.modes} if options.modes else {}
    others |= {"fractions": options.fractions, "precision": options.precision}
    others["after_each"] = partial(write_rows, options.out)
    if options.figure is not None:
        check_figure(options.figure)
    if options.images is not None:
        rows = probe_images(options.checkpoint, options.images, **others)
    else:
        rows = probe_dataset(options.checkpoint, options.root, **others)
    print(options.out)
    if options.figure is not None:
        draw_rows(options.figure, rows)
        print(options.figure)


def _describe(options: argparse.Namespace) -> None:
    from bengelib.cli.supervised import run_describe

    run_describe(options)


def _train(options: argparse.Namespace) -> None:
    from bengelib.cli.supervised import run_train
    from bengelib.cores import limit_threads

    limit_threads()
    run_train(options)


def _evaluate(options: argparse.Namespace) -> None:
    from bengelib.cli.supervised import run_evaluate
    from bengelib.cores import limit_threads

    limit_threads()
    run_evaluate(options)


def _bench(options: argparse.Namespace) -> None:
    from bengelib.cli.bench import bench_loader, describe
    from bengelib.cli.bench_gpu import bench_gpu
    from bengelib.cli.bench_methods import bench_methods
    from bengelib.cli.bench_pack import bench_pack
    from bengelib.cli.bench_peers import bench_peers
    from bengelib.cli.bench_pretrain import bench_pretrain
    from bengelib.cli.bench_train import bench_train
    from bengelib.cli.bench_views import bench_views
    from bengelib.cores import limit_threads

    limit_threads()
    measures: dict[str, Any] = {"loader": bench_loader, "pack": bench_pack, "train": bench_train}
    measures |= {"views": bench_views, "pretrain": bench_pretrain, "methods": bench_methods, "gpu": bench_gpu}
    if options.peers:
        measures = {"pretrain": bench_peers}
    if options.what not in measures:
        raise ValueError(f"bench {options.what} has no --peers; leave it out, or choose bench pretrain")
    given = {"batch_size": options.batch_size, "precision": options.precision, "processes": options.processes}
    given |= {"root": options.root, "rounds": options.rounds}
    given = {name: value for name, value in given.items() if value is not None}
    takes = inspect.signature(measures[options.what]).parameters
    if unknown := [name for name in given if name not in takes]:
        raise ValueError(f"bench {options.what} has no --{unknown[0]}; leave it out")
    if options.what == "loader" and options.root is None:
        raise ValueError("bench loader reads a dataset; give --root DIR")
    table = measures[options.what](**given)
    print(describe(table))


if __name__ == "__main__":
    sys.exit(main())

"""The command line: `python -m bengelib simulate|fetch|pack|bench`, each with `--help`."""

import argparse
import sys
from collections.abc import Sequence

from bengelib.errors import BengeError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is 0, or 1 after an error whose message stands on standard error."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (BengeError, ValueError, OSError) as error:  # OSError: a folder that cannot be written, for one
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted. The same command goes on from there (fetch, pack) or begins anew.", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bengelib", description="Data of ben-ge: make, fetch, pack, time.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("simulate", help="write simulated data in the layout of ben-ge")
    command.add_argument("root", help="folder to write, such as data/ben-ge-sim")
    command.add_argument("--patches", type=int, default=1000, help="how many patches (default: 1000)")
    command.add_argument("--seed", type=int, default=0, help="another seed makes other patches (default: 0)")
    command.add_argument("--sampling", choices=("balanced", "natural"), default="balanced")
    command.set_defaults(run=_simulate)

    command = commands.add_parser("fetch", help="download a dataset, check and unpack it")
    command.add_argument("name", help="ben-ge-800, ben-ge-8k or ben-ge")
    command.add_argument("--root", help="folder to put it in (default: data/, or the folder that BENGE_DATA names)")
    command.set_defaults(run=_fetch)

    command = commands.add_parser("pack", help="write a dataset into arrays that are read hundreds of times faster")
    command.add_argument("root", help="folder of the dataset")
    command.add_argument("--destination", help="folder of the pack (default: packed/ in the folder of the dataset)")
    command.add_argument("--processes", type=int, help="how many to use (default: as many as pay)")
    command.add_argument("--skip", action="store_true", help="leave damaged patches out instead of stopping")
    command.add_argument("--verify", action="store_true", help="compare the finished pack with its hashes")
    command.set_defaults(run=_pack)

    command = commands.add_parser("bench", help="measure the speed of reading and of training")
    command.add_argument("what", choices=("loader", "train"))
    command.add_argument("--root", required=True, help="folder of a dataset, of 800 patches or more")
    command.add_argument("--rounds", type=int, default=7, help="how often each method is timed (default: 7)")
    command.add_argument("--batch", type=int, default=32, help="samples a batch (default: 32)")
    command.set_defaults(run=_bench)
    return parser


# The imports stand in the functions so that `--help` and the small commands do not wait for torch.


def _simulate(options: argparse.Namespace) -> None:
    from bengelib.simulate import simulate

    print(simulate(options.root, options.patches, options.seed, options.sampling))


def _fetch(options: argparse.Namespace) -> None:
    from bengelib.download import fetch
    from bengelib.loading import data_folders

    print(fetch(options.name, options.root or data_folders()[-1]))


def _pack(options: argparse.Namespace) -> None:
    from bengelib.manifest import verify
    from bengelib.packing import pack

    folder = pack(
        options.root,
        options.destination,
        processes=options.processes,
        on_error="skip" if options.skip else "raise",
    )
    if options.verify:
        verify(folder)
    print(folder)


def _bench(options: argparse.Namespace) -> None:
    from bengelib.bench import bench_loader, bench_train, describe

    measure = bench_loader if options.what == "loader" else bench_train
    print(describe(measure(options.root, batch_size=options.batch, rounds=options.rounds)))


if __name__ == "__main__":
    sys.exit(main())

"""The files that a command writes: rows of `label_efficiency`, their figure, and the folder of checkpoints.

Outputs are checked before the work begins, and appear whole.
"""

import json
import math
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bengelib.errors import ArgumentError, CheckpointError, DataWarning
from bengelib.files import absolute, replacing
from bengelib.recipes.label_efficiency import curves


def write_rows(path: str | Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows of `label_efficiency` as JSON, a list of objects, one per line; null for missing values."""
    path = Path(path)
    lines = [json.dumps({key: _finite(value) for key, value in row.items()}) for row in rows]
    with replacing(path) as partial:
        partial.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")


def draw_rows(path: str | Path, rows: Sequence[dict[str, Any]]) -> None:
    """Plot rows of `label_efficiency`: the score against the fraction of labelled samples, one line per mode."""
    from bengelib.plot.results import plot_curves

    path, score = Path(path), "accuracy" if "accuracy" in rows[0] else "mean average precision"
    figure = plot_curves(
        curves(rows), "share of the training samples with a label", f"{score} on held-out samples, band: 95 %", log=True
    )
    if figure is None:
        return
    with replacing(path) as partial:
        figure.savefig(partial, format=path.suffix[1:])


def check_figure(path: str | Path) -> None:
    """Check in advance that a figure can be written.

    Raises:
        CheckpointError: see `check_writable`.
        ArgumentError: the suffix is not that of an image format.
    """
    from matplotlib.figure import Figure

    known = Figure().canvas.get_supported_filetypes()
    if Path(path).suffix[1:].lower() not in known:
        raise ArgumentError(f"{path} is not the name of an image file; end it in one of .{', .'.join(known)}")
    check_writable(path)


def _finite(value: Any) -> Any:
    """The value, with None in place of NaN, which JSON lacks."""
    if isinstance(value, list):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def check_writable(path: str | Path) -> None:
    """Create the folder of an output file, and check in advance that it can be written.

    Raises:
        CheckpointError: the path is a folder, or its folder cannot be made or written to.
    """
    path = Path(path)
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; give the name of a file to write, such as {path / 'result'}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"the folder of {path} cannot be made ({error})") from error
    if not os.access(path.parent, os.W_OK):
        raise CheckpointError(f"the folder {path.parent} cannot be written to; give another --out")


def checkpoint_folder(out: str | Path, resume: bool) -> Path:
    """The folder beside `out` for the checkpoints of its training.

    Raises:
        CheckpointError: checkpoints exist, and `resume` is False.
    """
    folder = absolute(out)
    folder = folder.with_name(f"{folder.name}.checkpoints")
    exists = any(folder.glob("step-*.pt"))
    if exists and not resume:
        raise CheckpointError(
            f"{folder} has checkpoints of an interrupted training; give --resume to continue, or delete it"
        )
    if resume and not exists:
        warnings.warn(f"there is no checkpoint in {folder}; the training starts again", DataWarning, stacklevel=2)
    return folder

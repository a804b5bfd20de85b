"""Cleans an executed notebook so that a rerun on one machine gives the same bytes; says what must not be committed.

    python -m tools.clean_outputs 01-data_fusion/lab_df.ipynb

Kept: sources, cell ids, tags, figures, tables and printed text, counts in order. Dropped: progress bars, widgets, times
of execution, versions of Python and of the drawing library. A machine's path, a warning or an error is a `Problem`.
"""

import argparse
import base64
import io
import re
import struct
import sys
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
from PIL import Image

NOTEBOOK_METADATA = {
    "accelerator": "GPU",  # Colab preselects one; elsewhere nothing heeds this
    "colab": {"gpuType": "T4", "provenance": []},
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
KEPT_METADATA = ("arithmetic",)  # what the outputs were computed with, see `tools.arithmetic`
KEPT_CELL_METADATA = ("tags", "jupyter", "cellView")
WIDGET = "application/vnd.jupyter.widget-view+json"
IMAGE = "image/png"
DRAWING_COLOURS = 10_000
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt", b"tIME")  # they hold the version of the drawing library and dates

FIRST_FOLDERS = "home|root|Users|work|tmp|private|var|opt|usr|mnt|media|content|srv|data"
ABSOLUTE_PATH = re.compile(rf"(?<![\w.:/~])/(?:{FIRST_FOLDERS})/[\w.~-]+|\b[A-Za-z]:\\[\w.~-]+")
MEMORY_ADDRESS = re.compile(r"\bat 0x[0-9a-fA-F]{6,}")
PROGRESS_BAR = re.compile(r"\d+%\||\d+it \[\d|\[\d+:\d+<")
ESCAPE_CODE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class Problem(NamedTuple):
    """Something in the outputs that must not be committed: `cell` is its number in brackets."""

    cell: int
    text: str

    def __str__(self) -> str:
        return f"cell [{self.cell}]: {self.text}"


def clean(notebook: nbformat.NotebookNode) -> list[Problem]:
    """Cleans `notebook` in place.

    Args:
        notebook: An executed notebook of format 4.

    Returns:
        What no cleaning can mend: errors, warnings, absolute paths, addresses of objects.
    """
    problems: list[Problem] = []
    kept = {name: value for name, value in notebook.metadata.items() if name in KEPT_METADATA}
    notebook.metadata = nbformat.from_dict({**kept, **NOTEBOOK_METADATA})
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    count = 0
    for index, cell in enumerate(notebook.cells):
        cell.metadata = nbformat.from_dict({k: v for k, v in cell.metadata.items() if k in KEPT_CELL_METADATA})
        cell.setdefault("id", f"cell-{index:03d}")
        if cell.cell_type != "code" or cell.execution_count is None:  # not run, or empty
            continue
        count += 1
        cell.execution_count = count
        cell.outputs = _clean_outputs(cell.outputs, count)
        problems += [Problem(count, text) for output in cell.outputs for text in _problems(output)]
    return problems


def _clean_outputs(outputs: list[Any], count: int) -> list[Any]:
    """Drops noise, merges neighbouring streams, renumbers results."""
    kept: list[Any] = []
    for output in outputs:
        if output.output_type == "stream":
            if kept and kept[-1].output_type == "stream" and kept[-1].name == output.name:
                kept[-1].text += output.text
            else:
                kept.append(output)
            continue
        if output.output_type in ("display_data", "execute_result"):
            output.pop("transient", None)
            if WIDGET in output.data:
                continue
            if IMAGE in output.data:
                output.data[IMAGE] = _without_text_chunks(_made_smaller(output.data[IMAGE]))
            if output.output_type == "execute_result":
                output.execution_count = count
        kept.append(output)
    for output in kept:
        if output.output_type == "stream":
            output.text = _as_seen(output.text)
            if output.name == "stderr":
                output.text = "".join(
                    line for line in output.text.splitlines(keepends=True) if not PROGRESS_BAR.search(line)
                )
    return [output for output in kept if output.output_type != "stream" or output.text.strip()]


def _as_seen(text: str) -> str:
    """What a terminal shows in the end: a carriage return starts the line again, colours are dropped."""
    text = ESCAPE_CODE.sub("", text).replace("\r\n", "\n")
    return "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1] for line in text.split("\n"))


def _made_smaller(encoded: str) -> str:
    """A base64 PNG in fewer bytes: without an alpha channel that is opaque everywhere, and a drawing with a palette.

    A drawing is what has at most `DRAWING_COLOURS`; 256 of them, the palette of a PNG, cannot be told from all by eye.
    """
    data = base64.b64decode(encoded)
    if not data.startswith(PNG_SIGNATURE):
        return encoded
    try:
        with Image.open(io.BytesIO(data)) as image:
            opaque = image.mode == "RGB" or (image.mode == "RGBA" and image.getchannel("A").getextrema() == (255, 255))
            if not opaque:
                return encoded
            plain = image.convert("RGB")
            drawing = plain.getcolors(DRAWING_COLOURS) is not None
            smaller = io.BytesIO()
            (plain.quantize(256, dither=Image.Dither.NONE) if drawing else plain).save(smaller, "PNG", optimize=True)
    except OSError:  # no whole image
        return encoded
    return base64.b64encode(smaller.getvalue()).decode() + "\n"


def _without_text_chunks(encoded: str) -> str:
    """The same base64 PNG without its text and time chunks; anything that is no PNG is left as it is."""
    data = base64.b64decode(encoded)
    if not data.startswith(PNG_SIGNATURE):
        return encoded
    kept, position = [PNG_SIGNATURE], len(PNG_SIGNATURE)
    while position + 12 <= len(data):
        (length,) = struct.unpack(">I", data[position : position + 4])
        chunk = data[position : position + length + 12]  # length, type, content, checksum
        if chunk[4:8] not in PNG_TEXT_CHUNKS:
            kept.append(chunk)
        position += len(chunk)
    return base64.b64encode(b"".join(kept)).decode() + "\n"


def _problems(output: Any) -> list[str]:
    """What in one cleaned output must not be committed."""
    if output.output_type == "error":
        return [f"an error, {output.ename}: {output.evalue}"]
    if output.output_type == "stream":
        texts = [output.text]
        found = [f"printed to stderr: {_shorten(output.text)}"] if output.name == "stderr" else []
    else:
        texts = [text for kind, text in output.data.items() if kind.startswith("text/") and isinstance(text, str)]
        found = []
    for text in texts:
        if path := ABSOLUTE_PATH.search(text):
            found.append(f"a path of this machine, {path.group()}")
        if address := MEMORY_ADDRESS.search(text):
            found.append(f"an object shown by its address, '{_shorten(text)}' ({address.group()})")
    return found


def _shorten(text: str, length: int = 120) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 3] + "..."


def write(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Writes `notebook` to `path` with one layout of the JSON, so that equal notebooks are equal files."""
    path.write_text(nbformat.writes(notebook, version=nbformat.NO_CONVERT) + "\n", encoding="utf-8", newline="\n")


def main(arguments: list[str] | None = None) -> int:
    """Cleans the notebooks named on the command line in place; returns 1 if one of them must not be committed."""
    parser = argparse.ArgumentParser(description="Clean executed notebooks in place, for committing.")
    parser.add_argument("notebooks", nargs="+", type=Path)
    failed = False
    for path in parser.parse_args(arguments).notebooks:
        notebook = nbformat.read(path, as_version=4)
        problems = clean(notebook)
        write(notebook, path)
        for problem in problems:
            failed = True
            print(f"{path}: {problem}", file=sys.stderr)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

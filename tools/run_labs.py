"""Runs the labs, each in a fresh kernel, and writes the executed notebooks and their pages to build/labs/.

    python -m tools.run_labs --lab 01 --dataset ben-ge-sim --set EPOCHS=2

A knob is a name that the cell tagged `parameters` assigns. Its value is replaced in that very cell, so that knobs
computed from it follow; a name that the cell does not assign is an error. The last line that the cell tagged `headline`
shows is the lab's result in the table at the end.

    python -m tools.run_labs --lab 01 --solutions

runs the notebook with the solutions instead, strictly: a check of an exercise that does not answer [ok] ends the run.
With --study it is the study notebook of the lab that runs.
"""

import argparse
import ast
import base64
import copy
import html
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbconvert import HTMLExporter
from traitlets.config import Config

from bengelib.files import absolute, find, work_folder
from tools import clean_outputs
from tools.arithmetic import arithmetic_of_kernels, changed, difference
from tools.kernel_memory import MemoryWatch
from tools.links import OWN_PICTURE, ROOT
from tools.progress import Progress

LAB_PATTERN = "[0-9][0-9]-*/lab_*.ipynb"
SOLUTIONS_PATTERN = "[0-9][0-9]-*/solutions/lab_*.ipynb"
STUDY_PATTERN = "[0-9][0-9]-*/study/study.ipynb"
STUDY_SOLUTIONS_PATTERN = "[0-9][0-9]-*/study/solutions/study.ipynb"
STRICT = "BENGELIB_STRICT"  # as `bengelib.course.checks` has it, which is not imported: it takes torch a while to load


class KnobError(ValueError):
    """A knob that the notebook does not have, or a notebook without a cell for knobs."""


class LabResult(NamedTuple):
    """One lab after its run: `seconds`, peak `memory` in bytes (None if unknown), the page, the error if any."""

    name: str
    seconds: float
    memory: int | None
    headline: str
    page: Path
    error: str | None


def find_labs(root: Path, lab: str | None = None, solutions: bool = False, study: bool = False) -> list[Path]:
    """The notebooks of the labs under `root`, in order, or of the one whose folder starts with `lab`.

    Args:
        root: The folder of the project.
        lab: Its number, as "01"; all labs if None.
        solutions: Whether to take the notebooks with the solutions.
        study: Whether to take the study notebooks of the labs.

    Raises:
        FileNotFoundError: There is no such lab, or it has no solutions.
    """
    patterns = (STUDY_PATTERN, STUDY_SOLUTIONS_PATTERN) if study else (LAB_PATTERN, SOLUTIONS_PATTERN)
    pattern = patterns[solutions]
    folders = {path: path.relative_to(root).parts[0] for path in sorted(root.glob(pattern))}
    chosen = [path for path, folder in folders.items() if lab is None or folder.startswith(f"{lab}-")]
    if not chosen:
        there = ", ".join(folders.values()) or "none"
        having = " with a study notebook" * study + " with solutions" * solutions
        raise FileNotFoundError(f"no lab {lab or pattern}{having}; the labs here: {there}. LAB=01 takes the first.")
    return chosen


def set_knobs(notebook: nbformat.NotebookNode, knobs: Mapping[str, Any]) -> None:
    """Replaces the values of `knobs` in the cell tagged `parameters`, in place.

    Raises:
        KnobError: The notebook has not exactly one such cell, or the cell does not assign one of the names.
    """
    cells = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(cells) != 1:
        raise KnobError(f"{len(cells)} cells tagged `parameters`; give the tag to exactly one")
    places: dict[str, ast.expr] = {}
    for statement in ast.parse(cells[0].source).body:
        if isinstance(statement, ast.Assign):
            places.update({target.id: statement.value for target in statement.targets if isinstance(target, ast.Name)})
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.value:
            places[statement.target.id] = statement.value
    if unknown := [name for name in knobs if name not in places]:
        raise KnobError(f"unknown knob {', '.join(unknown)}; the `parameters` cell has {', '.join(places) or 'none'}")
    lines = [line.encode() for line in cells[0].source.splitlines()]  # ast counts columns in bytes
    # From the end, so that the places not yet replaced stay where they are.
    for name in sorted(knobs, key=lambda name: (places[name].lineno, places[name].col_offset), reverse=True):
        value = places[name]
        first, last = value.lineno - 1, (value.end_lineno or value.lineno) - 1
        before, after = lines[first][: value.col_offset], lines[last][value.end_col_offset :]
        lines[first : last + 1] = [before + repr(knobs[name]).encode() + after]
    cells[0].source = "\n".join(line.decode() for line in lines)


class _WatchedClient(NotebookClient):
    """A client that hands what the running cell prints to the progress display as it comes."""

    progress: Progress

    def process_message(self, msg: dict[str, Any], cell: Any, cell_index: int) -> Any:
        if msg["msg_type"] == "stream":
            self.progress.printed(msg["content"]["text"])
        return super().process_message(msg, cell, cell_index)

    @property
    def interrupted(self) -> bool:
        """Whether a person stopped the run: the client then clears its kernel away before it notices."""
        return getattr(self, "_async_cleanup_kernel_future", None) is not None

    async def _async_cleanup_kernel(self) -> None:
        if self.km is not None:  # else cleared away already, when the run was interrupted
            await super()._async_cleanup_kernel()


def run_lab(
    path: Path,
    output: Path,
    knobs: Mapping[str, Any],
    name: str,
    strict: bool = False,
    folder: Path | None = None,
    memory_limit: int | None = None,
) -> tuple[LabResult, nbformat.NotebookNode]:
    """Runs one notebook in a fresh kernel and writes `output`/*.ipynb and *.html.

    Args:
        path: The notebook.
        output: Folder of what is written.
        knobs: Values for the cell tagged `parameters`.
        name: Shown in the progress and in the table.
        strict: Whether a check of an exercise that does not answer [ok] ends the run.
        folder: The kernel's working folder; the notebook's own if None.
        memory_limit: Resident bytes above which the run is ended.

    Returns:
        The result, and the executed notebook. A cell that fails ends the run and is in the result, not raised.

    Raises:
        KnobError: See `set_knobs`.
    """
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata.pop("arithmetic", None)  # of the committed outputs
    if knobs:
        set_knobs(notebook, knobs)
    for cell in notebook.cells:
        if cell.cell_type == "code":  # else a run that stops early would show committed outputs as its own
            cell.outputs, cell.execution_count = [], None
    progress = Progress(name, notebook)
    client = _WatchedClient(
        notebook,
        timeout=None,
        kernel_name="python3",
        extra_arguments=["--IPKernelApp.log_level=50"],  # else a note on the local connection at every start
        resources={"metadata": {"path": str(folder or path.parent)}},
        on_cell_start=progress.cell_started,
        on_cell_executed=progress.cell_finished,
    )
    client.progress = progress
    error = None
    started = time.monotonic()
    # Neither an IPython profile of the user (startup files, options) nor a switch set outside must change what shows.
    profiles = work_folder(Path(tempfile.gettempdir(), "bengelib-labs"))
    with profiles as profile, MemoryWatch(lambda: _process(client), memory_limit) as memory, progress:
        progress.memory = memory
        try:
            client.execute(env={**os.environ, "IPYTHONDIR": str(profile), STRICT: str(int(strict))})
        except CellExecutionError as failure:
            error = f"{progress.place}: {failure.ename}: {failure.evalue}"
        except DeadKernelError:
            if client.interrupted:
                raise KeyboardInterrupt from None
            error = (
                f"{progress.place}: the kernel died, most likely for want of memory; "
                f"it held {_megabytes(memory.peak)}. Close other programs or lower the knobs."
            )
    seconds = time.monotonic() - started
    clean_outputs.clean(notebook)  # progress bars are for the one who waits, not for the one who reads
    output.mkdir(parents=True, exist_ok=True)
    clean_outputs.write(notebook, output / path.name)
    page = output / path.with_suffix(".html").name
    page.write_text(to_page(notebook, path), encoding="utf-8", newline="\n")
    return LabResult(name, seconds, memory.peak, headline(notebook), page, error), notebook


def _process(client: NotebookClient) -> int | None:
    """The id of the kernel's process, once there is one."""
    return getattr(getattr(client.km, "provisioner", None), "pid", None)


def to_page(notebook: nbformat.NotebookNode, path: Path) -> str:
    """The notebook as one HTML page with every figure inside; only typeset equations need the network (MathJax)."""
    config = Config({"HTMLExporter": {"embed_images": True, "require_js_url": "", "jquery_url": ""}})
    exporter = HTMLExporter(config=config, template_name="lab")
    resources = {"metadata": {"name": path.stem, "path": str(path.parent)}}
    page, _ = exporter.from_notebook_node(_with_alternative_texts(notebook), resources=resources)
    return OWN_PICTURE.sub(_embedded, str(page).replace('<script src=""></script>\n', ""))


def _embedded(match: re.Match[str]) -> str:
    """A picture of the project that a notebook shows from the web, from the file that it is made of."""
    return f"data:image/png;base64,{base64.b64encode((ROOT / match[1]).read_bytes()).decode()}"


def _with_alternative_texts(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A copy whose images are HTML with the alternative text of their metadata, which nbconvert does not write."""
    copied = copy.deepcopy(notebook)
    for output in (output for cell in copied.cells for output in cell.get("outputs", [])):
        alt = output.get("metadata", {}).get("image/png", {}).get("alt")
        if alt and "image/png" in output.data:
            source = "".join(output.data.pop("image/png").split())
            output.data["text/html"] = f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{source}">'
    return copied


def headline(notebook: nbformat.NotebookNode) -> str:
    """The last line that the cell tagged `headline` shows, or an empty string."""
    for cell in notebook.cells:
        if cell.cell_type == "code" and "headline" in cell.metadata.get("tags", []):
            texts = [
                output.text if output.output_type == "stream" else output.data.get("text/plain", "")
                for output in cell.outputs
                if output.output_type in ("stream", "execute_result", "display_data") and output.get("name") != "stderr"
            ]
            lines = [line.strip() for line in "\n".join(texts).splitlines() if line.strip()]
            return lines[-1] if lines else ""
    return ""


def differences(notebook: nbformat.NotebookNode, path: Path) -> list[str]:
    """Code cells of the executed, cleaned `notebook` that show something else than the committed ones at `path`.

    In the arithmetic that the committed ones were run in, every byte counts. In another one a cell is named where its
    words differ, or a number by more than rounding; other differences are only counted, in a line on the screen.
    """
    old = nbformat.read(path, as_version=4)
    there, here = old.metadata.get("arithmetic", {}), arithmetic_of_kernels()
    other = changed(there, here)
    found, rounded = [], 0
    cells = [[cell for cell in each.cells if cell.cell_type == "code"] for each in (notebook, old)]
    for new, committed in zip(*cells, strict=True):
        if (new.outputs, new.execution_count) == (committed.outputs, committed.execution_count):
            continue
        how = difference(_text(committed), _text(new)) if other else "outputs"
        if how in ("", "rounding"):
            rounded += 1
        else:
            found.append(f"other {how} in cell [{new.execution_count}] '{new.source.splitlines()[0]}'")
    if other:
        print(f"{path.name} was committed in another arithmetic ({other}), so bytes may differ: {rounded} cells do by "
              f"rounding or in a picture, {len(found)} by more.")  # fmt: skip
    return found


def _text(cell: nbformat.NotebookNode) -> str:
    """What a cell printed or returned, without pictures and pages."""
    return "\n".join(output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs)


def commit(notebook: nbformat.NotebookNode, path: Path) -> list[clean_outputs.Problem]:
    """Writes the outputs of the executed `notebook` back to `path`, cleaned, with the sources as they stand there.

    Returns:
        What must not be committed; `path` is written only if that is nothing.
    """
    for cell, source in zip(notebook.cells, nbformat.read(path, as_version=4).cells, strict=True):
        cell.source = source.source
    problems = clean_outputs.clean(notebook)
    if not problems:
        notebook.metadata["arithmetic"] = arithmetic_of_kernels()
        clean_outputs.write(notebook, path)
    return problems


def table(results: Sequence[LabResult]) -> str:
    """The results as an aligned text table."""
    rows = [("lab", "minutes", "peak memory", "result", "page")]
    for result in results:
        page = os.path.relpath(result.page)
        shown = "FAILED" if result.error else result.headline or "-"
        rows.append((result.name, f"{result.seconds / 60:.1f}", _megabytes(result.memory), shown, page))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def _megabytes(size: int | None) -> str:
    return "unknown" if size is None else f"{size / 1e6:.0f} MB"


def _knob(text: str) -> tuple[str, Any]:
    """`NAME=VALUE` as a pair; VALUE is a Python literal, or else a string."""
    name, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z_]\w*", name):
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form NAME=VALUE")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def dataset_knob(given: str, called_from: Sequence[Path]) -> str:
    """A dataset for the knob DATASET: a name as it is, a path so that it holds in the folder of the lab too.

    Args:
        given: the name of a dataset, or a path that may begin with `~`.
        called_from: folders that a relative path can start from; the first where it leads somewhere counts.
    """
    path = Path(os.path.expanduser(given))
    for folder in called_from:
        place = find(absolute(folder / path))
        is_tree = os.path.isfile(find(place / f"{place.name}_meta.csv")) or (place / "manifest.json").is_file()
        if is_tree or (os.path.isdir(place) and path.name != given):
            return str(place)
    name = given.rstrip("/")  # as completion leaves it, of a folder elsewhere
    return name if path.name == name else str(absolute(called_from[0] / path))


def main(arguments: Iterable[str] | None = None, root: Path = ROOT) -> int:
    """Runs what the command line asks for; returns 0, 1 if a lab failed, 2 if there is none, 130 if interrupted."""
    parser = argparse.ArgumentParser(prog="python -m tools.run_labs", description="Run the labs in fresh kernels.")
    parser.add_argument("--lab", help="the number of one lab, as 01; all labs if left out")
    parser.add_argument("--dataset", help="name of the dataset, as ben-ge-800, or a path of one (knob DATASET)")
    parser.add_argument(
        "--called-from", type=Path, nargs="+", default=[Path()], metavar="DIR",
        help="folders that a path of --dataset can start from (default: the current one)",
    )  # fmt: skip
    parser.add_argument("--full", action="store_true", help="the full knobs (knob FULL)")
    parser.add_argument("--set", action="append", type=_knob, default=[], metavar="NAME=VALUE", help="any other knob")
    parser.add_argument("--solutions", action="store_true", help="the notebooks with the solutions, strictly")
    parser.add_argument("--study", action="store_true", help="the study notebooks")
    parser.add_argument("--output", type=Path, default=root / "build" / "labs", help="where notebooks and pages go")
    parser.add_argument("--commit", action="store_true", help="write cleaned outputs back into the notebooks")
    parser.add_argument(
        "--compare",
        action="store_true",
        help="fail where outputs differ from the committed ones, in another arithmetic by more than rounding",
    )
    options = parser.parse_args(None if arguments is None else list(arguments))
    knobs = dict(options.set)
    if options.dataset:
        knobs["DATASET"] = dataset_knob(options.dataset, options.called_from)
    if options.full:
        knobs["FULL"] = True
    try:
        labs = find_labs(root, options.lab, options.solutions, options.study)
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 2

    results: list[LabResult] = []
    complaints: list[str] = []
    for path in labs:
        name = path.relative_to(root).as_posix()
        output = options.output / "solutions" if options.solutions else options.output
        output = output / path.relative_to(root).parts[0] if options.study else output  # all have one name
        try:
            result, notebook = run_lab(path, output, knobs, name, strict=options.solutions)
        except KnobError as error:
            complaints.append(f"{name}: {error}")
            continue
        except KeyboardInterrupt:
            print(f"{name}: interrupted", file=sys.stderr)
            return 130
        results.append(result)
        if result.error:
            complaints.append(f"{name}: {result.error}")
        elif options.commit:
            complaints += [f"{name} is left as it was: {problem}" for problem in commit(notebook, path)]
        elif options.compare:
            complaints += [f"{name}: {cell}" for cell in differences(notebook, path)]
    if results:
        print(f"\n{table(results)}")
        print("Peak memory: anonymous and shared pages of the kernel and the processes it started, not mapped files.")
    for complaint in complaints:
        print(f"FAILED {complaint}", file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())

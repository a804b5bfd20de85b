"""The runner of the labs, on notebooks of a few cells."""

import json
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools import clean_outputs, run_labs
from tools.kernel_memory import MemoryWatch

ROOT = Path(__file__).parents[1]
KNOBS = "FULL = False  # é: full knobs\nEPOCHS = 20 if FULL else 4\nDATASET: str = (\n    'ben-ge-sim'\n)"


def write_lab(root: Path, folder: str, *sources: str, headline: str | None = None, knobs: str = KNOBS) -> Path:
    cells = [new_markdown_cell("# A lab"), new_code_cell(knobs, metadata={"tags": ["parameters"]})]
    cells += [new_markdown_cell("## The work"), *(new_code_cell(source) for source in sources)]
    if headline:
        cells.append(new_code_cell(headline, metadata={"tags": ["headline"]}))
    path = root / folder / f"lab_{folder.split('/')[0][3:]}.ipynb"
    path.parent.mkdir(parents=True)
    clean_outputs.write(new_notebook(cells=cells), path)
    return path


def printed(path: Path) -> str:
    cells = nbformat.read(path, as_version=4).cells
    return "".join(output.get("text", "") for cell in cells if cell.cell_type == "code" for output in cell.outputs)


@pytest.fixture(scope="module", autouse=True)
def arithmetic():
    """Asked for once: each time takes a process that imports torch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_labs, "arithmetic_of_kernels", cache(run_labs.arithmetic_of_kernels))
        yield


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A lab that was run with --commit: its root, what the run printed, and the notebook before it."""
    root = tmp_path_factory.mktemp("good")
    path = write_lab(
        root,
        "01-good",
        "import sys\nfrom pathlib import Path\nprint(EPOCHS, DATASET, Path('lab_good.ipynb').exists())",
        "held = bytearray(200_000_000)\nimport time\ntime.sleep(0.6)\nfor step in range(3):\n"
        "    print(f'\\r {step}/3 50%|##', end='', file=sys.stderr)",
        headline="print('noise')\nprint('accuracy 61 % [58, 64]')",
    )
    before = path.read_text()
    with pytest.MonkeyPatch.context() as patch, (root / "log").open("w+") as log:
        patch.setattr("sys.stdout", log)
        assert run_labs.main(["--full", "--set", "DATASET=ben-ge-800", "--commit"], root) == 0
        log.seek(0)
        return root, log.read(), before


def test_knobs_reach_what_is_computed_from_them_and_the_kernel_starts_in_the_folder(good):
    root, _, _ = good
    assert "20 ben-ge-800 True\n" in printed(root / "build" / "labs" / "lab_good.ipynb")


def test_progress_and_table_are_shown(good):
    _, log, _ = good
    assert "cell 2 of 4, 'The work'" in log
    lines = log.splitlines()
    header = next(number for number, line in enumerate(lines) if line.startswith("lab "))
    assert lines[header].split() == ["lab", "minutes", "peak", "memory", "result", "page"]
    assert lines[header + 2].startswith("01-good/lab_good.ipynb  0.")
    assert "  accuracy 61 % [58, 64]  " in lines[header + 2]
    assert lines[header + 2].endswith("lab_good.html")


def test_peak_memory_counts_what_the_kernel_held(good):
    _, log, _ = good
    peak = int(
        next(line for line in log.splitlines() if " MB " in line and "accuracy" in line).split(" MB")[0].split()[-1]
    )
    assert 200 < peak < 500


def test_page_is_written_and_names_no_file_of_this_machine(good):
    root, _, _ = good
    page = (root / "build" / "labs" / "lab_good.html").read_text()
    assert "accuracy 61 % [58, 64]" in page
    assert str(root) not in page
    assert "2/3 50%|" not in page


def test_committed_notebook_keeps_its_sources_and_gains_clean_outputs(good):
    root, _, before = good
    after = json.loads((root / "01-good" / "lab_good.ipynb").read_text())
    old = json.loads(before)
    assert [cell["source"] for cell in after["cells"]] == [cell["source"] for cell in old["cells"]]
    assert [cell["id"] for cell in after["cells"]] == [cell["id"] for cell in old["cells"]]
    assert [cell["execution_count"] for cell in after["cells"] if cell["cell_type"] == "code"] == [1, 2, 3, 4]
    assert [output["name"] for cell in after["cells"] for output in cell.get("outputs", [])] == ["stdout", "stdout"]


def test_rerun_gives_the_same_bytes(good):
    root, _, _ = good
    path = root / "01-good" / "lab_good.ipynb"
    before = path.read_bytes()
    assert run_labs.main(["--full", "--set", "DATASET=ben-ge-800", "--compare"], root) == 0
    assert run_labs.main(["--full", "--set", "DATASET=ben-ge-800", "--commit"], root) == 0
    assert path.read_bytes() == before


@pytest.fixture
def elsewhere(good, tmp_path):
    """The same lab, committed by another processor that printed another text: a function that compares the two."""
    executed = nbformat.read(good[0] / "01-good" / "lab_good.ipynb", as_version=4)
    there = nbformat.read(good[0] / "01-good" / "lab_good.ipynb", as_version=4)
    there.metadata["arithmetic"]["instructions"] = "SSE2"

    def compared(text):
        there.cells[-1].outputs[0].text = text
        clean_outputs.write(there, tmp_path / "lab_good.ipynb")
        return run_labs.differences(executed, tmp_path / "lab_good.ipynb")

    return compared


def test_elsewhere_rounding_passes_and_a_real_difference_does_not(elsewhere, capsys):
    assert elsewhere("noise\naccuracy 61 % [58, 64.04]\n") == []
    said = capsys.readouterr().out
    assert "committed in another arithmetic (instructions SSE2 -> " in said and "1 cells do by rounding" in said
    assert elsewhere("noise\naccuracy 90 % [58, 64]\n") == ["other numbers in cell [4] 'print('noise')'"]
    assert elsewhere("noise\nundecided\n") == ["other words in cell [4] 'print('noise')'"]


def test_a_notebook_that_does_not_say_all_of_its_arithmetic_was_run_in_another_one(good, tmp_path, capsys):
    executed = nbformat.read(good[0] / "01-good" / "lab_good.ipynb", as_version=4)
    there = nbformat.read(good[0] / "01-good" / "lab_good.ipynb", as_version=4)
    del there.metadata["arithmetic"]["processor"]
    clean_outputs.write(there, tmp_path / "lab_good.ipynb")
    assert run_labs.differences(executed, tmp_path / "lab_good.ipynb") == []
    assert "(processor unknown -> " in capsys.readouterr().out


def test_in_the_same_arithmetic_rounding_is_a_difference(good, tmp_path, capsys):
    path = write_lab(tmp_path, "01-good", "pass")
    notebook = nbformat.read(good[0] / "01-good" / "lab_good.ipynb", as_version=4)
    notebook.cells[-1].outputs[0].text = "noise\naccuracy 61 % [58, 64.5]\n"
    clean_outputs.write(notebook, path)
    assert run_labs.main(["--full", "--set", "DATASET=ben-ge-800", "--compare"], tmp_path) == 1
    assert "other outputs in cell [4]" in capsys.readouterr().err


def test_failing_cell_fails_the_run_but_not_the_other_labs(tmp_path, capsys):
    write_lab(tmp_path, "01-bad", "1 / 0", "print('never')")
    write_lab(tmp_path, "02-dead", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    write_lab(tmp_path, "03-fine", "print('reached')")
    assert run_labs.main([], tmp_path) == 1
    shown = capsys.readouterr()
    assert "01-bad/lab_bad.ipynb: cell 2 of 3, 'The work': ZeroDivisionError: division by zero" in shown.err
    assert "02-dead/lab_dead.ipynb: cell 2 of 2, 'The work': the kernel died" in shown.err
    assert shown.err.count("FAILED") == 2
    assert "reached" in printed(tmp_path / "build" / "labs" / "lab_fine.ipynb")
    assert "never" not in printed(tmp_path / "build" / "labs" / "lab_bad.ipynb")


def test_outputs_of_a_failed_run_are_not_committed(tmp_path, capsys):
    path = write_lab(tmp_path, "01-warns", "import warnings\nwarnings.warn('deprecated')")
    before = path.read_bytes()
    assert run_labs.main(["--commit"], tmp_path) == 1
    assert "cell [2]: printed to stderr" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_unknown_knob_and_unknown_lab_are_named(tmp_path, capsys):
    write_lab(tmp_path, "01-good", "pass")
    assert run_labs.main(["--set", "EPOCS=3"], tmp_path) == 1
    assert "unknown knob EPOCS; the `parameters` cell has FULL, EPOCHS, DATASET" in capsys.readouterr().err
    assert run_labs.main(["--lab", "07"], tmp_path) == 2
    assert "no lab 07; the labs here: 01-good" in capsys.readouterr().err


def test_solutions_run_strictly_and_apart_from_the_labs(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(run_labs.STRICT, "1")
    look = "import os\nfrom pathlib import Path\nprint(os.environ['BENGELIB_STRICT'], Path.cwd().name)"
    write_lab(tmp_path, "01-good", look)
    assert run_labs.main(["--solutions", "--lab", "01"], tmp_path) == 2
    assert "no lab 01 with solutions; the labs here: none" in capsys.readouterr().err
    write_lab(tmp_path, "01-good/solutions", look)
    assert run_labs.main(["--lab", "01"], tmp_path) == 0
    assert run_labs.main(["--solutions", "--lab", "01"], tmp_path) == 0
    assert "01-good/solutions/lab_good.ipynb  0." in capsys.readouterr().out
    output = tmp_path / "build" / "labs"
    assert printed(output / "lab_good.ipynb") == "0 01-good\n"
    assert printed(output / "solutions" / "lab_good.ipynb") == "1 solutions\n"


def test_knobs_are_replaced_in_place():
    notebook = new_notebook(cells=[new_code_cell(KNOBS, metadata={"tags": ["parameters"]})])
    run_labs.set_knobs(notebook, {"FULL": True, "DATASET": "ben-ge-8k", "EPOCHS": 2})
    assert notebook.cells[0].source == (
        "FULL = True  # é: full knobs\nEPOCHS = 2\nDATASET: str = (\n    'ben-ge-8k'\n)"
    )


@pytest.mark.parametrize("count", [0, 2])
def test_exactly_one_cell_of_knobs_is_needed(count):
    cells = [new_code_cell(KNOBS, metadata={"tags": ["parameters"]}) for _ in range(count)]
    with pytest.raises(run_labs.KnobError, match=f"{count} cells tagged"):
        run_labs.set_knobs(new_notebook(cells=cells), {"FULL": True})


@pytest.mark.parametrize(
    ("text", "expected"),
    [("A=3", ("A", 3)), ("A=None", ("A", None)), ("A=(1, 2)", ("A", (1, 2))), ("A=ben-ge-800", ("A", "ben-ge-800"))],
)
def test_knobs_of_the_command_line(text, expected):
    assert run_labs._knob(text) == expected


def executed(*outputs: nbformat.NotebookNode) -> nbformat.NotebookNode:
    return new_notebook(cells=[new_code_cell("x", execution_count=7, outputs=list(outputs))])


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (new_output("stream", text="saved to " + "/" + "home/me/model.pt\n"), "a path of this machine"),
        (new_output("stream", text="C:" + "\\Users\\me\n"), "a path of this machine"),
        (new_output("stream", name="stderr", text="UserWarning: old\n"), "printed to stderr: UserWarning: old"),
        (new_output("execute_result", data={"text/plain": "<A at 0x7f00deadbeef>"}), "shown by its address"),
        (new_output("error", ename="ValueError", evalue="bad", traceback=[]), "an error, ValueError: bad"),
    ],
)
def test_what_must_not_be_committed_is_found(output, said):
    (problem,) = clean_outputs.clean(executed(output))
    assert said in str(problem)
    assert str(problem).startswith("cell [1]: ")


@pytest.mark.parametrize(
    "text", ["data/ben-ge-sim", "../data/x", "https://host.org/data/x", "3/4 of /m2", "~/models/x"]
)
def test_what_is_no_path_of_a_machine_passes(text):
    assert clean_outputs.clean(executed(new_output("stream", text=text))) == []


def test_noise_is_dropped_and_streams_are_joined():
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "bar"}
    notebook = executed(
        new_output("stream", text="a\n"),
        new_output("stream", name="stderr", text="\r 10%|#  | 1/9 [00:01<00:09]\r100%|###| 9/9 [00:09<00:00]\n"),
        new_output("stream", text="\x1b[31mb\x1b[0m\n"),
        new_output("display_data", data=widget),
    )
    notebook.metadata.widgets = {"state": 1}
    notebook.cells[0].metadata = {"execution": {"started": "now"}, "tags": ["headline"]}
    assert clean_outputs.clean(notebook) == []
    assert "".join(output.text for output in notebook.cells[0].outputs) == "a\nb\n"
    assert notebook.cells[0].metadata == {"tags": ["headline"]}
    assert set(notebook.metadata) == set(clean_outputs.NOTEBOOK_METADATA)
    assert run_labs.headline(notebook) == "b"


def test_figures_lose_the_version_of_the_drawing_library():
    import base64
    import io

    from matplotlib.figure import Figure

    def drawn(software: str) -> str:
        buffer = io.BytesIO()
        Figure(figsize=(1, 1)).savefig(buffer, metadata={"Software": software})
        return base64.b64encode(buffer.getvalue()).decode()

    notebooks = [executed(new_output("display_data", data={"image/png": drawn(name)})) for name in ("one", "another")]
    images = []
    for notebook in notebooks:
        clean_outputs.clean(notebook)
        images.append(notebook.cells[0].outputs[0].data["image/png"])
    assert drawn("one") != drawn("another")
    assert images[0] == images[1]
    assert base64.b64decode(images[0]).endswith(b"IEND\xaeB`\x82")


def test_memory_of_no_process_is_unknown():
    with MemoryWatch(lambda: None) as watch:
        pass
    assert watch.peak is None


def test_drawings_get_a_palette_and_pictures_keep_their_colours():
    import base64
    import io

    import numpy as np
    from PIL import Image

    def cleaned(pixels: np.ndarray) -> np.ndarray:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        data = {"image/png": base64.b64encode(buffer.getvalue()).decode()}
        notebook = executed(new_output("display_data", data=data))
        clean_outputs.clean(notebook)
        once = notebook.cells[0].outputs[0].data["image/png"]
        clean_outputs.clean(notebook)
        assert notebook.cells[0].outputs[0].data["image/png"] == once
        with Image.open(io.BytesIO(base64.b64decode(once))) as image:
            modes.append(image.mode)
            return np.asarray(image.convert("RGB"))

    modes: list[str] = []
    random = np.random.default_rng(0)
    picture = random.integers(0, 256, (150, 150, 3), dtype=np.uint8)
    steps = np.linspace(0, 255, 1000).astype(np.uint8)
    drawing = np.stack([np.stack([steps, 255 - steps, np.full(1000, 40)], axis=1)] * 20).astype(np.uint8)
    assert np.array_equal(cleaned(picture), picture)
    assert np.abs(cleaned(drawing).astype(int) - drawing).max() <= 8
    assert modes == ["RGB", "P"]


@pytest.fixture
def caller(tmp_path, monkeypatch):
    """A folder from which the labs are started, with trees below it; the current folder is another."""
    for name in ("own", "data/own", "my sets/x"):
        folder = tmp_path / "caller" / name
        folder.mkdir(parents=True)
        (folder / f"{folder.name}_meta.csv").touch()
    (tmp_path / "caller" / "empty").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "caller"))
    return tmp_path / "caller"


@pytest.mark.parametrize(
    ("given", "expected"),
    [("data/own", "data/own"), ("data/own/", "data/own"), ("./own", "own"), ("own", "own"), ("my sets/x", "my sets/x"),
     ("~/my sets/x", "my sets/x"), ("../caller/own", "own"), ("data/none", "data/none"), ("empty/", "empty")],
)  # fmt: skip
def test_a_path_of_a_dataset_holds_for_the_caller(caller, given, expected):
    assert run_labs.dataset_knob(given, [caller]) == str(caller / expected)
    assert run_labs.dataset_knob(str(caller / expected), [Path()]) == str(caller / expected)


@pytest.mark.parametrize("given", ["ben-ge-800", "ben-ge-sim", "empty", "none"])
def test_the_name_of_a_dataset_stays_a_name(caller, given):
    assert run_labs.dataset_knob(given, [caller]) == given


def test_a_name_with_a_slash_is_a_folder_of_the_caller_or_else_a_name(caller):
    assert run_labs.dataset_knob("ben-ge-sim/", [caller]) == "ben-ge-sim"
    assert run_labs.dataset_knob("empty/", [caller]) == str(caller / "empty")
    (caller / "ben-ge-sim").mkdir()
    assert run_labs.dataset_knob("ben-ge-sim/", [caller]) == str(caller / "ben-ge-sim")
    assert run_labs.dataset_knob("./none/", [caller]) == str(caller / "none")


def test_where_a_path_leads_nowhere_the_next_folder_is_tried(caller):
    assert run_labs.dataset_knob("data/own", [Path(), caller]) == str(caller / "data" / "own")


def make(folder, *arguments, **environment):
    """What `make` would run the labs with: the arguments of a runner that only prints them."""
    (folder / "tools").mkdir(exist_ok=True)
    for name in ("Makefile", "requirements.txt", "pyproject.toml", "tools/do.py"):
        shutil.copy(ROOT / name, folder / name)
    (folder / ".venv" / "bin").mkdir(parents=True, exist_ok=True)
    runner = folder / ".venv" / "bin" / "python"
    runner.write_text('#!/bin/sh\nfor argument in "$@"; do printf "%s\\n" "$argument"; done\n')
    runner.chmod(0o755)
    (folder / ".venv" / ".ready").touch()
    command = ["make", "--no-print-directory", *arguments]
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(command, cwd=folder, env={**plain, **environment}, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_make_hands_a_dataset_on_as_it_was_typed(tmp_path):
    for dataset in ("/data/my sets/x", "~/x", 'it\'s "odd" #1; *', "a$b(c)", "ben-ge-800"):
        shown = make(tmp_path, "labs", "LAB=01", f"DATASET={dataset}")
        assert shown[:6] == ["-m", "tools.run_labs", "--lab", "01", "--dataset", dataset]
        assert shown[6:8] == ["--called-from", str(tmp_path)]
    assert make(tmp_path, "labs", "FULL=1") == ["-m", "tools.run_labs", "--full"]
    assert make(tmp_path, "labs", DATASET="in the environment")[3] == "in the environment"


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_make_from_elsewhere_takes_paths_of_the_caller(tmp_path):
    (tmp_path / "course").mkdir()
    make(tmp_path / "course", "labs")
    done = subprocess.run(
        ["make", "-C", "course", "labs", "DATASET=own"], cwd=tmp_path, env={**os.environ, "PWD": str(tmp_path)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    shown = [line for line in done.stdout.splitlines() if not line.startswith("make")]
    assert shown[2:] == ["--dataset", "own", "--called-from", str(tmp_path), str(tmp_path / "course")]
    shown = make(tmp_path / "course", "labs", "DATASET=own", PWD="/a shell that was elsewhere")
    assert shown[5] == str(tmp_path / "course")


def test_a_page_describes_its_figures_and_the_notebook_stays_as_it_is():
    """Whatever nbconvert finds no text for gets the words "No description"."""
    image = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    metadata = {"image/png": {"alt": "Bars: S2 < S1."}}
    output = new_output("execute_result", data={"image/png": image}, metadata=metadata, execution_count=1)
    notebook = new_notebook(cells=[new_code_cell("figure", outputs=[output])])
    page = run_labs.to_page(notebook, Path("lab_test.ipynb"))
    assert "No description" not in page
    assert f'<img alt="Bars: S2 &lt; S1." src="data:image/png;base64,{image}"' in page
    assert notebook.cells[0].outputs[0].data == {"image/png": image}


def test_a_picture_of_the_project_is_within_the_page():
    picture = "https://raw.githubusercontent.com/owner/name/main/docs/images/simulator.png"
    page = run_labs.to_page(new_notebook(cells=[new_markdown_cell(f"![Patches.]({picture})")]), Path("lab_test.ipynb"))
    assert picture not in page and 'src="data:image/png;base64,' in page

"""The doors: a sample of each, which takes seconds. `make doors` opens every lab through all of them."""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import bengelib
from bengelib.cores import usable_cores
from tools import browser, clean_outputs, doors, fresh, run_labs

ROOT = Path(__file__).parents[1]
LABS = sorted(ROOT.glob(run_labs.LAB_PATTERN))
SOLUTIONS = sorted(ROOT.glob(run_labs.SOLUTIONS_PATTERN))
needs_links = pytest.mark.skipif(sys.platform == "win32", reason="a fresh environment is made of symbolic links")
needs_browser = pytest.mark.skipif(
    browser.playwright_chromium() is not None, reason=f"no browser: {browser.playwright_chromium()}"
)


def setup_cell(path):
    (cell,) = [cell for cell in nbformat.read(path, 4).cells if "setup" in cell.metadata.get("tags", [])]
    return cell.source


def opened(tmp_path, **changes):
    """A door on a clone that has one lab of two cells."""
    lab = new_notebook(
        cells=[
            new_code_cell("PATCHES, EPOCHS, SEEDS = 1, 2, 3", metadata={"tags": ["parameters"]}),
            new_code_cell("import os\nprint(os.path.basename(os.getcwd()))", metadata={"tags": ["headline"]}),
        ]
    )
    path = tmp_path / "clone" / "01-data_fusion" / "lab_df.ipynb"
    path.parent.mkdir(parents=True)
    nbformat.write(lab, path)
    values = {"clone": tmp_path / "clone", "scratch": tmp_path, "output": tmp_path / "output",
              "labs": ["01-data_fusion/lab_df.ipynb"], "quick": True}  # fmt: skip
    return doors.Opened(**{**values, **changes})


# ---------------------------------------------------------------------------------------------------------------- Colab


@pytest.mark.parametrize("path", LABS + SOLUTIONS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_colab_is_asked_for_a_gpu(path):
    assert nbformat.read(path, 4).metadata["accelerator"] == "GPU"


@needs_links
def test_on_colab_the_setup_cell_installs_the_package_and_moves_nothing(built, tmp_path):
    (wheel,) = built.glob("*.whl")
    python = fresh.fresh_environment(tmp_path / "colab", colab=True)
    content = tmp_path / "content"
    content.mkdir()
    before = {path.name for path in Path(fresh._package_folders()[0]).iterdir()}
    lab = doors.from_wheel(nbformat.read(LABS[0], 4), wheel)
    (cell,) = [cell for cell in lab.cells if "setup" in cell.metadata.get("tags", [])]
    shown = "from bengelib.data.loading import data_folders\nprint(bengelib.__file__, data_folders(), sep='|')"
    variables = {**fresh.outside(), "PIP_NO_INDEX": "1"}
    done = subprocess.run(
        [python, "-c", f"{cell.source}\n{shown}"], cwd=content, env=variables, capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    place, folders = done.stdout.splitlines()[-1].split("|")
    assert Path(place).is_relative_to(tmp_path / "colab")
    assert folders == f"[{content / 'data'!r}]"
    new = {path.name for path in Path(place).parents[1].iterdir() if not path.is_symlink()} - before
    assert {name.partition("-")[0] for name in new} <= {"bengelib", "google"}


def test_a_setup_cell_that_installs_something_else_is_refused(tmp_path):
    lab = new_notebook(cells=[new_code_cell("import torch", metadata={"tags": ["setup"]})])
    with pytest.raises(ValueError, match="0 times instead of once"):
        doors.from_wheel(lab, tmp_path / "x.whl")


# --------------------------------------------------------------------------------------------------------------- Binder


def test_on_binder_there_is_one_thread_and_the_setup_cell_works_from_the_folder_above():
    code = f"{setup_cell(LABS[0])}\nprint(torch.get_num_threads(), bengelib.__file__)"
    variables = {**fresh.outside(), **doors.BINDER}
    variables.pop("OMP_NUM_THREADS", None)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=variables, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    threads, _, place = done.stdout.splitlines()[-1].partition(" ")
    assert threads == "1", f"of {usable_cores()} cores"
    assert Path(place) == Path(bengelib.__file__)


def test_a_run_that_holds_more_than_binder_gives_is_ended(tmp_path):
    door = opened(tmp_path)
    lab = nbformat.read(door.clone / door.labs[0], 4)
    lab.cells.append(new_code_cell("import time\nhoard = b'x' * 300_000_000\ntime.sleep(60)"))
    nbformat.write(lab, door.clone / door.labs[0])
    row = doors._run("binder", door, door.clone / door.labs[0], door.labs[0], memory_limit=250_000_000)
    assert "the kernel died, most likely for want of memory" in row.fault and row.seconds < 60


@pytest.mark.skipif(not find_spec("repo2docker"), reason="repo2docker is not installed")
def test_repo2docker_finds_the_environment(tmp_path):
    (tmp_path / "clone").mkdir()
    shutil.copy(ROOT / "environment.yml", tmp_path / "clone")
    shutil.copy(ROOT / "requirements.txt", tmp_path / "clone")
    assert doors.detected(tmp_path / "clone") == "Building conda environment for python=3.12"


# ------------------------------------------------------------------------------------------------------ clone, VS Code


def test_a_kernel_can_start_in_the_folder_above(tmp_path):
    (row,) = doors.vscode(opened(tmp_path))
    assert (row.fault, row.shown) == (None, "2 of 2 cells")
    shown = nbformat.read(tmp_path / "output" / "vscode" / "lab_df.ipynb", 4)
    assert run_labs.headline(shown) == "clone"


@needs_browser
@pytest.mark.parametrize("frontend", browser.FRONTENDS)
def test_a_notebook_runs_and_shows_in_a_browser(frontend, tmp_path):
    if not find_spec({"jupyterlab": "jupyterlab", "notebook": "notebook"}[frontend]):
        pytest.skip(f"{frontend} is not installed")
    figure = "from IPython.display import Image, display\nfrom PIL import Image as Picture\n" \
        "Picture.new('RGB', (30, 20)).save('x.png'); display(Image('x.png'))"  # fmt: skip
    answer = "$$a^2$$\n\n<details><summary>Answer</summary>\n\nYes, $b$.\n\n</details>"
    cells = [new_markdown_cell(answer), new_code_cell(figure), new_code_cell("print(1)")]
    root = tmp_path / "root"
    root.mkdir()
    metadata = clean_outputs.NOTEBOOK_METADATA  # without a kernel named, a front end asks for one
    nbformat.write(new_notebook(cells=cells, metadata=metadata), root / "small.ipynb")
    with browser.server(frontend, root, tmp_path, fresh.outside()) as address, browser.browser() as chromium:
        seen = browser.run_all(chromium.new_page(), frontend, address, "small.ipynb", tmp_path / "pictures", 100)
    assert seen == browser.Seen(images=1, formulas=2, details=1, faults=[])
    done = nbformat.read(root / "small.ipynb", 4)
    assert [cell.execution_count for cell in done.cells if cell.cell_type == "code"] == [1, 2]
    assert list((tmp_path / "pictures").glob("*.png"))


# --------------------------------------------------------------------------------------------------------------- all


def test_small_knobs_are_there_for_every_lab():
    assert sorted(doors.REDUCED) == [path.parent.name for path in LABS]
    for path in LABS:
        run_labs.set_knobs(nbformat.read(path, 4), doors.REDUCED[path.parent.name])


def test_a_clone_has_what_is_committed_and_no_data(tmp_path):
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    clone = fresh.copy_clone(tmp_path)
    assert (clone / "bengelib" / "__init__.py").is_file() and (clone / "environment.yml").is_file()
    assert [path.name for path in (clone / "data").iterdir()] == ["README.md"]
    assert not (clone / "build").exists()


@pytest.mark.parametrize(
    ("source", "fault"),
    [("1/0", "ZeroDivisionError: division by zero"), ("print('x')", None), ("x = 1", "no result at the end")],
)
def test_what_a_run_must_have_is_looked_at(source, fault, tmp_path):
    door = opened(tmp_path)
    lab = nbformat.read(door.clone / door.labs[0], 4)
    lab.cells[1].source = source
    nbformat.write(lab, door.clone / door.labs[0])
    row = doors._run("vscode", door, door.clone / door.labs[0], door.labs[0])
    assert (row.fault or "").endswith(fault or "") and (row.fault is None) == (fault is None)


def test_the_table_tells_what_failed_and_what_could_not_be_tried():
    rows = [
        doors.Row("pip", "x.whl", 60.0, None, "installs", None),
        doors.Row("colab", "01", 6.0, 2_000_000, "", "broken"),
        doors.Row("notebook", "", 0.0, None, "", "skipped: notebook is not installed"),
    ]
    lines = doors.table(rows).splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["pip", "colab", "notebook"]
    assert "1.0" in lines[2] and "ok" in lines[2] and "FAILED" in lines[3] and "2 MB" in lines[3]
    assert "skipped: notebook is not installed" in lines[4]


def test_variables_are_put_back(monkeypatch):
    monkeypatch.setenv("BENGE_DATA", "x")
    monkeypatch.delenv("CPU_LIMIT", raising=False)
    with doors.environment({"BENGE_DATA": None, "CPU_LIMIT": "1.0"}):
        assert "BENGE_DATA" not in os.environ and os.environ["CPU_LIMIT"] == "1.0"
    assert os.environ["BENGE_DATA"] == "x" and "CPU_LIMIT" not in os.environ


def test_a_kernel_is_described_where_jupyter_looks(tmp_path):
    variables = doors.kernel_of(Path("/opt/python"), tmp_path)
    description = json.loads(
        (Path(variables["JUPYTER_PATH"]) / "kernels/python3/kernel.json").read_text(encoding="utf-8")
    )
    assert description["argv"][0] == str(Path("/opt/python"))

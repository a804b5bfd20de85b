"""A notebook in JupyterLab or Jupyter Notebook 7, driven by Playwright: run all cells, look, take pictures."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

START = 180.0  # seconds for a server, a page or a kernel to start on a busy machine
WIDTH, HEIGHT = 1400, 900
FRONTENDS = {
    "jupyterlab": ("lab", "LabApp", "lab/tree"),
    "notebook": ("notebook", "JupyterNotebookApp", "notebooks"),
}
"""For each front end the word after `jupyter`, the class of its options, and the path of a notebook in an address."""

SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},  # every cell is on the page
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},  # both ask other servers
}

READY = """() => {
    const kernel = window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel;
    return kernel?.status === 'idle' && document.querySelectorAll('.jp-MarkdownOutput').length > 0;
}"""
RUN_ALL = """() => {
    window.doorDone = null;
    window.jupyterapp.commands.execute('notebook:run-all-cells')
        .then(() => window.jupyterapp.commands.execute('docmanager:save'))
        .then(() => { window.doorDone = 'saved'; }, error => { window.doorDone = String(error); });
}"""
LOOK = """() => {
    const near = each => !each.src.startsWith('http') || each.src.startsWith(location.origin);  // the web is not there
    const images = [...document.querySelectorAll('.jp-Notebook img')].filter(near);
    const folded = [...document.querySelectorAll('.jp-MarkdownOutput details')];
    folded.filter(each => !each.open).forEach(each => each.querySelector('summary').click());
    return {
        images: images.length,
        broken: images.filter(each => !(each.complete && each.naturalWidth)).map(each => each.src.slice(0, 80)),
        formulas: document.querySelectorAll('.jp-Notebook mjx-container').length,
        unfinished: document.querySelectorAll('.jp-Notebook mjx-merror').length,
        details: folded.length,
        closed: folded.filter(each => !each.open).length,
    };
}"""
PICTURED = ".jp-CodeCell img, .jp-MarkdownOutput mjx-container, .jp-MarkdownOutput details"


class Seen(NamedTuple):
    """A notebook after its run: what a page shows, and what does not show as it should."""

    images: int
    formulas: int
    details: int
    faults: list[str]


def playwright_chromium() -> str | None:
    """Why no browser can be driven here, None if one can: Playwright's own Chromium or one that is installed."""
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        return "playwright is not installed"
    if shutil.which("chromium"):
        return None
    try:
        with sync_playwright() as started:
            there = os.path.exists(started.chromium.executable_path)
    except Error as error:
        return str(error).splitlines()[0]
    return None if there else "there is no Chromium: `playwright install chromium`, or the system's own"


@contextmanager
def browser() -> Iterator[Any]:
    """A running Chromium, the system's own if there is one."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        options = ["--disable-dev-shm-usage", "--disable-gpu"]
        options += ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        running = started.chromium.launch(executable_path=shutil.which("chromium"), args=options)
        try:
            yield running
        finally:
            running.close()


@contextmanager
def server(frontend: str, root: Path, scratch: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """A Jupyter server of one's own for the files under `root`; gives its address.

    Args:
        frontend: a key of `FRONTENDS`.
        root: the folder that it shows.
        scratch: an empty folder for its settings and its log.
        environment: variables of the server and its kernels.

    Raises:
        RuntimeError: it does not start; with the end of its log.
    """
    word, options, _ = FRONTENDS[frontend]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name, setting in SETTINGS.items():
        place = scratch / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        place.parent.mkdir(parents=True)
        place.write_text(json.dumps(setting), encoding="utf-8")
    folders = {f"JUPYTER_{name}_DIR": str(scratch / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    folders |= {"JUPYTERLAB_SETTINGS_DIR": str(scratch / "settings"), "IPYTHONDIR": str(scratch / "ipython")}
    folders["JUPYTERLAB_WORKSPACES_DIR"] = str(scratch / "workspaces")
    command = [
        sys.executable, "-m", "jupyter", word, "--no-browser", "--allow-root", f"--ServerApp.port={port}",
        "--ServerApp.ip=127.0.0.1", "--IdentityProvider.token=", f"--ServerApp.root_dir={root}",
        f"--{options}.expose_app_in_browser=True",
    ]  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    with (scratch / "server.log").open("wb") as log:
        running = subprocess.Popen(command, cwd=root, env={**environment, **folders}, stdout=log, stderr=log)
        try:
            ends = time.monotonic() + START
            while not _answers(f"{address}/api"):
                if running.poll() is not None or time.monotonic() > ends:
                    text = (scratch / "server.log").read_text(encoding="utf-8", errors="replace")
                    raise RuntimeError(f"jupyter {word} does not start: {text[-600:]}")
                time.sleep(0.5)
            yield address
        finally:
            running.terminate()
            try:
                running.wait(30)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def run_all(page: Any, frontend: str, address: str, notebook: str, pictures: Path, timeout: float) -> Seen:
    """Open a notebook, run all its cells, save it, and look at what shows.

    Args:
        page: of Playwright.
        frontend: a key of `FRONTENDS`.
        address: of the server.
        notebook: the path of the notebook in the server.
        pictures: a folder for pictures of the page, named after the notebook.
        timeout: seconds that the run may take.

    Raises:
        RuntimeError: the cells cannot be run or the file not be saved. A cell that fails is no error here: it stands
            in the saved file.
    """
    # Without the notebooks of before: JupyterLab would open them again, and might run one of them instead.
    page.goto(f"{address}/{FRONTENDS[frontend][2]}/{notebook}?reset", timeout=START * 1e3)
    page.wait_for_function(READY, timeout=START * 1e3)
    page.evaluate(RUN_ALL)
    page.wait_for_function("() => window.doorDone !== null", timeout=timeout * 1e3, polling=500)
    if (done := page.evaluate("() => window.doorDone")) != "saved":
        raise RuntimeError(f"not saved: {done}")
    page.wait_for_timeout(1000)  # the last formulas
    shown = page.evaluate(LOOK)
    pictures.mkdir(parents=True, exist_ok=True)
    stem = Path(notebook).stem
    places = page.query_selector_all(PICTURED)
    for number, place in enumerate(places[:: max(1, len(places) // 6)][:7]):
        place.scroll_into_view_if_needed()
        page.screenshot(path=pictures / f"{stem}-{number}.png")
    faults = [f"an image that does not show: {image}" for image in shown["broken"]]
    if shown["unfinished"]:
        faults.append(f"{shown['unfinished']} formulas that are wrong")
    if shown["closed"]:
        faults.append(f"{shown['closed']} answers that do not open")
    return Seen(shown["images"], shown["formulas"], shown["details"], faults)

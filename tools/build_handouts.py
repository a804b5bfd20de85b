"""Makes what a teacher hands out, in build/handouts/: works without a network.

    python -m tools.build_handouts             # every lab
    python -m tools.build_handouts --lab 01    # one

* `student/`: the notebooks without outputs, exercises undone, so that nothing is given away before it is run;
* `print/`: the labs as they are committed, with their outputs, as PDF on A4;
* `answers/`: the labs with the solutions and every hint and answer unfolded, as PDF on A4.

Notebooks and pages are nbconvert's. Chromium prints; MathJax comes from npm, in the version below.
"""

import argparse
import copy
import functools
import http.server
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import nbformat
from nbconvert.preprocessors import ClearOutputPreprocessor

from tools.build_slides import browser, check_offline, npm_packages, without_sandbox
from tools.clean_outputs import write
from tools.links import ROOT
from tools.run_labs import find_labs, to_page

PACKAGES = {"mathjax": "2.7.9"}  # the major version that nbconvert's pages are written for
MATHJAX = "mathjax/MathJax.js?config=TeX-AMS_SVG-full"  # as SVG, so that no font is fetched
OUTPUT = ROOT / "build" / "handouts"
SCRIPT = re.compile(r"<script[^>]*\bsrc=\"https?://[^\"]*[Mm]ath[Jj]ax[^\"]*\"[^>]*>\s*</script>")
MERMAID = re.compile(r"<script type=\"module\">.*?mermaid.*?</script>", re.DOTALL)
BADGES = re.compile(r"<p><a[^>]*><img[^>]*badge[^>]*>.*?</p>", re.DOTALL)
PRINT_STYLE = """<style>
@page { size: A4; margin: 15mm 14mm; }
@media print {
  body, .jp-Notebook { font-size: 10.5pt; }
  .jp-Cell { break-inside: auto; }
  h1, h2, h3, h4 { break-after: avoid; }
  img, svg, table, blockquote, .jp-RenderedImage, .jp-RenderedHTMLCommon tr { break-inside: avoid; }
  img { max-width: 100% !important; height: auto !important; }
  .jp-OutputArea-output, .jp-InputArea, .jp-InputArea-editor { overflow: visible !important; }
  .jp-RenderedHTMLCommon table { table-layout: auto; max-width: 100%; font-size: 8.5pt; white-space: normal; }
  .jp-RenderedHTMLCommon td, .jp-RenderedHTMLCommon th { white-space: normal !important; max-width: none !important; }
  pre, code { white-space: pre-wrap !important; overflow-wrap: anywhere; font-size: 8.5pt !important; }
  .jp-InputPrompt, .jp-OutputPrompt { display: none; }
  a { color: inherit; }
}
</style>
"""


def notebooks(lab: str | None, solutions: bool = False) -> list[Path]:
    """Labs and their study notebooks.

    Raises:
        FileNotFoundError: there is no such lab.
    """
    labs = find_labs(ROOT, lab, solutions)
    folders = {path.relative_to(ROOT).parts[0] for path in labs}
    return labs + [
        path for path in find_labs(ROOT, None, solutions, study=True) if path.relative_to(ROOT).parts[0] in folders
    ]


def student(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A copy of a notebook without outputs.

    Args:
        notebook: that of the learners, which has no solutions.
    """
    cleared, _ = ClearOutputPreprocessor().preprocess(copy.deepcopy(notebook), {})
    cleared.metadata.pop("arithmetic", None)  # of the outputs that are gone
    return cleared


def print_page(notebook: nbformat.NotebookNode, path: Path, mathjax: str, unfold: bool) -> str:
    """A notebook as a page for A4 that fetches nothing from afar.

    Args:
        notebook: with its outputs.
        path: of the notebook, for its title.
        mathjax: address of MathJax.
        unfold: whether hints and answers are open.

    Raises:
        ValueError: the page would fetch something.
    """
    page = to_page(notebook, path)
    page = SCRIPT.sub(f'<script src="{mathjax}"></script>', page)
    page = MERMAID.sub("", page)  # no lab draws with it, and it comes from the web
    page = BADGES.sub("", page)  # badges open a browser, which paper cannot
    if unfold:
        page = page.replace("<details>", "<details open>")
    page = page.replace("</head>", f"{PRINT_STYLE}</head>", 1)
    check_offline(page.replace(mathjax, ""))
    return page


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Address at which a folder is served on this machine: browsers keep scripts of files apart."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def to_pdf(page: str, pdf: Path) -> None:
    """Print a page, whose scripts have the time that equations take.

    Args:
        page: address of the page.
        pdf: what to write.

    Raises:
        FileNotFoundError: there is no Chromium.
        CalledProcessError: it failed.
    """
    command = [browser(), "--headless", "--disable-gpu", *without_sandbox(), "--no-pdf-header-footer"]
    command += ["--virtual-time-budget=120000", f"--print-to-pdf={pdf}", page]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def build(lab: str | None = None, output: Path = OUTPUT) -> list[Path]:
    """Write the three editions.

    Args:
        lab: number of one lab, as 01; all if None.
        output: folder.

    Returns:
        The files written.

    Raises:
        FileNotFoundError: there is no such lab, no npm or no Chromium.
        CalledProcessError: npm or Chromium failed.
    """
    written = []
    for path in notebooks(lab):
        target = output / "student" / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        write(student(nbformat.read(path, as_version=4)), target)
        written.append(target)
    pages = output / "pages"
    pages.mkdir(parents=True, exist_ok=True)
    with served(npm_packages(PACKAGES) / "node_modules") as scripts, served(pages) as address:
        for solutions, folder in ((False, "print"), (True, "answers")):
            (output / folder).mkdir(exist_ok=True)
            for path in notebooks(lab, solutions):
                notebook = nbformat.read(path, as_version=4)
                name = f"{path.relative_to(ROOT).parts[0]}-{path.stem}{'-answers' if solutions else ''}"
                page = print_page(notebook, path, f"{scripts}/{MATHJAX}", unfold=solutions)
                (pages / f"{name}.html").write_text(page, encoding="utf-8", newline="\n")
                to_pdf(f"{address}/{name}.html", output / folder / f"{name}.pdf")
                written.append(output / folder / f"{name}.pdf")
    shutil.rmtree(pages)
    return written


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the handouts; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lab", help="only that one, by its number, as 01")
    try:
        written = build(parser.parse_args(arguments).lab)
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return 1
    for path in written:
        print(f"{path.relative_to(ROOT)} ({path.stat().st_size / 1e6:.1f} MB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())

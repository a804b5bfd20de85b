"""Builds the slides: PDF beside each source, HTML in build/slides/; both work without a network.

    python -m tools.build_slides              # every deck
    python -m tools.build_slides --deck 01    # one

A source, such as `01-data_fusion/01_data_fusion.md`, is Marp Markdown. `{{name}}` in it stands for what the function
`name` of `slide_facts` says of the lab's results.csv, `{{sections}}` for the lab's own table of sections, and
`![what one sees](figure:name)` for what the function `name` of `slide_figures` draws. No number of a result stands in a
source, and a study that has no results yet says so.

Marp and the fonts come from npm into a folder outside the repository, and Debian's or any other Chromium prints.
"""

import argparse
import base64
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from bengelib.course.report import Study, open_study
from tools import slide_facts
from tools.links import ROOT, declared_repository

# The one place for versions. Exact ones, since a slide that fits in one release of Marp may overflow in the next.
PACKAGES = {
    "@marp-team/marp-cli": "4.5.1",  # Marp core 4, which draws mathematics as SVG paths, so that no font is fetched
    "@fontsource/source-sans-3": "5.3.1",  # the text; its licence (OFL) admits embedding
    "@fontsource/source-code-pro": "5.3.1",  # code
}
FONTS = {  # file of a package to family, weight and style
    "source-sans-3/files/source-sans-3-latin-400-normal.woff2": ("Source Sans 3", 400, "normal"),
    "source-sans-3/files/source-sans-3-latin-400-italic.woff2": ("Source Sans 3", 400, "italic"),
    "source-sans-3/files/source-sans-3-latin-700-normal.woff2": ("Source Sans 3", 700, "normal"),
    "source-code-pro/files/source-code-pro-latin-400-normal.woff2": ("Source Code Pro", 400, "normal"),
}
THEME = ROOT / "00-intro" / "theme.css"
OUTPUT = ROOT / "build" / "slides"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "msedge")
PLACEHOLDER = re.compile(r"\{\{\s*(\w+)\s*\}\}")
FIGURE = re.compile(r"!\[(?P<alt>[^\]]*)\]\(figure:(?P<name>\w+)\)")
FETCHED = re.compile(
    r"""(?:\b(?:src|srcset|xlink:href)\s*=\s*|<link\b[^>]*\bhref\s*=\s*|\burl\(\s*|@import\s+)["']?(https?:)?//"""
)


class Deck(NamedTuple):
    """A deck: its source, and the folder of the lab whose study it reads (its own, but for the introduction)."""

    source: Path
    folder: str

    @property
    def pdf(self) -> Path:
        """The committed PDF."""
        return self.source.with_suffix(".pdf")

    def study(self) -> Study:
        """The study that its facts are about, without results where there are none."""
        address = f"https://raw.githubusercontent.com/{declared_repository()}/main"
        return open_study(self.folder, address, count_runs=self.folder != "03-ssl")


def decks(root: Path = ROOT) -> list[Deck]:
    """Every deck of the project, in the order of the labs."""
    found = sorted(path for path in root.glob("[0-9][0-9]-*/[0-9][0-9]_*.md"))
    return [Deck(path, path.parent.name) for path in found]


def fill(text: str, folder: str, study: Study) -> str:
    """Put what the study says in the place of each `{{name}}`.

    Args:
        text: the source of a deck.
        folder: its folder, which names the facts.
        study: may be without results.

    Raises:
        ValueError: a placeholder that no function has the name of.
        TableError: a fact that asks for what the table of the study does not have.
    """
    facts = slide_facts.FACTS[folder]

    def answer(match: re.Match[str]) -> str:
        if match[1] == "sections":
            return slide_facts.sections(folder)
        if match[1] not in facts:
            raise ValueError(f"no fact {match[1]!r} of {folder}; there are {sorted(facts)} in tools/slide_facts.py")
        return facts[match[1]](study) if study else slide_facts.NO_STUDY

    return PLACEHOLDER.sub(answer, text)


def draw(text: str, make: Callable[[str], Figure | None]) -> str:
    """Put each figure in its place, as an SVG within the text; a figure of a study without results says so.

    Args:
        text: a deck.
        make: a figure by its name.

    Raises:
        ValueError: a figure without alternative text.
    """

    def image(match: re.Match[str]) -> str:
        if not match["alt"].strip():
            raise ValueError(f"figure:{match['name']} has no alternative text; say between the brackets what one sees")
        figure = make(match["name"])
        if figure is None:
            return slide_facts.NO_STUDY
        data = base64.b64encode(_svg(figure)).decode()
        alt = match["alt"].replace("&", "&amp;").replace('"', "&quot;")
        return f'<img class="figure" alt="{alt}" src="data:image/svg+xml;base64,{data}">'

    return FIGURE.sub(image, text)


def _svg(figure: Figure) -> bytes:
    """A figure as SVG, the same bytes each time, its letters as paths."""
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "slides", "svg.fonttype": "path"}):
        stream = io.BytesIO()
        figure.savefig(stream, format="svg", dpi=100, metadata={"Date": None, "Creator": None})
    return stream.getvalue()


def theme(modules: Path) -> str:
    """The theme with its fonts in it."""
    faces = []
    for name, (family, weight, style) in FONTS.items():
        data = base64.b64encode((modules / "@fontsource" / name).read_bytes()).decode()
        faces.append(
            f"@font-face {{ font-family: '{family}'; font-weight: {weight}; font-style: {style}; "
            f"src: url('data:font/woff2;base64,{data}') format('woff2'); }}"
        )
    return THEME.read_text(encoding="utf-8") + "\n".join(faces) + "\n"


def check_offline(html: str) -> None:
    """Refuse a page that would fetch anything: a link may be followed, but nothing may be loaded.

    Raises:
        ValueError: it would.
    """
    if found := FETCHED.search(html):
        raise ValueError(f"the page would fetch {html[found.start() : found.end() + 80]!r}; it must work offline")


def npm_packages(wanted: dict[str, str]) -> Path:
    """Folder outside the repository with packages of npm in exact versions; installed on first use.

    Args:
        wanted: name to version.

    Raises:
        FileNotFoundError: there is no npm.
        CalledProcessError: npm could not install them.
    """
    named = "-".join(f"{name.rpartition('/')[2]}-{version}" for name, version in sorted(wanted.items()))
    folder = Path(tempfile.gettempdir()) / "bengelib-npm" / named
    ready = folder / ".ready"
    if not ready.exists():
        npm = shutil.which("npm")
        if npm is None:
            raise FileNotFoundError("npm is needed: install Node.js 20 or newer, then run this again")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text(json.dumps({"private": True, "dependencies": wanted}), encoding="utf-8")
        subprocess.run([npm, "install", "--no-audit", "--no-fund", "--silent"], cwd=folder, check=True)
        ready.touch()  # last, so that an interrupted installation is taken up again
    return folder


def browser() -> str:
    """The program of a Chromium; CHROME_PATH names one that stands elsewhere.

    Raises:
        FileNotFoundError: there is none.
    """
    found = os.environ.get("CHROME_PATH") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        raise FileNotFoundError("Chromium or Chrome is needed to print the PDF; CHROME_PATH=... says where it is")
    return found


def without_sandbox() -> list[str]:
    """The option that Chromium needs of root, as in a container."""
    return ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []


def marp(text: str, name: str, formats: Sequence[str] = ("html", "pdf")) -> dict[str, Path]:
    """Have Marp set a filled deck.

    Args:
        text: the deck, figures in it.
        name: of what is written to build/slides/.
        formats: of `"html"` and `"pdf"`.

    Returns:
        The file of each format.

    Raises:
        FileNotFoundError: npm or Chromium is missing.
        CalledProcessError: Marp failed.
        ValueError: the page would not work offline.
    """
    modules = npm_packages(PACKAGES) / "node_modules"
    OUTPUT.mkdir(parents=True, exist_ok=True)
    source, sheet, settings = (OUTPUT / f"{name}{end}" for end in (".md", ".css", ".json"))
    source.write_text(text, encoding="utf-8", newline="\n")
    sheet.write_text(theme(modules), encoding="utf-8", newline="\n")
    # Emoji as the font has them: Marp would fetch pictures of them.
    options = {"emoji": {"unicode": False, "shortcode": False}, "math": "mathjax"}
    chosen = {"html": True, "options": options, "themeSet": [str(sheet)], "pdfOutlines": True, "pdfNotes": True}
    settings.write_text(json.dumps(chosen), encoding="utf-8")
    written = {}
    for kind in formats:
        written[kind] = OUTPUT / f"{name}.{kind}"
        command = ["node", str(modules / "@marp-team/marp-cli/marp-cli.js"), str(source), "--no-stdin"]
        command += ["--config-file", str(settings), f"--{kind}" if kind == "pdf" else "--no-pdf"]
        command += ["--browser-path", browser(), "-o", str(written[kind])]
        root = {"CHROME_NO_SANDBOX": "1"} if without_sandbox() else {}
        subprocess.run(command, check=True, env={**os.environ, **root})
    if "html" in written:
        check_offline(written["html"].read_text(encoding="utf-8"))
    return written


def build(deck: Deck) -> dict[str, Path]:
    """Fill, draw and set one deck, and put its PDF beside the source."""
    from tools import slide_figures  # simulates the data on first use

    study = deck.study()
    text = fill(deck.source.read_text(encoding="utf-8"), deck.folder, study)
    text = draw(text, lambda name: slide_figures.make(deck.folder, name, study))
    written = marp(text, deck.source.stem)
    shutil.copyfile(written["pdf"], deck.pdf)
    return written


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the decks; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deck", help="only that one, by its number, as 01")
    chosen = parser.parse_args(arguments).deck
    every = [deck for deck in decks() if chosen is None or deck.folder.startswith(f"{chosen}-")]
    if not every:
        parser.error(f"no deck {chosen}; there are {', '.join(deck.folder for deck in decks())}")
    for deck in every:
        try:
            written = build(deck)
        except (FileNotFoundError, subprocess.CalledProcessError) as error:
            print(error, file=sys.stderr)
            return 1
        print(f"{deck.pdf.relative_to(ROOT)} ({deck.pdf.stat().st_size / 1e6:.1f} MB), {written['html']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

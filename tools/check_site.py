"""Looks at the site as a visitor does: in a browser, at three widths, light and dark, without the network.

    python -m tools.check_site                    # every page of build/site/
    python -m tools.check_site --page README docs/maps

Reports what is wider than its window, what does not show, what is asked of another server, links that lead nowhere, an
empty search, and what axe-core finds: serious or critical faults, wrong headings, no way for the keyboard. Pictures go
to build/site-pictures/.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

from tools.browser import browser, playwright_chromium
from tools.links import ROOT

WIDTHS = (360, 800, 1400)  # pixels: a phone, a tablet, a desktop
GRAVE = ("serious", "critical")
ASKED = ("heading-order", "page-has-heading-one", "empty-heading", "skip-link")  # by headings, by keyboard
SEARCHED = "fusion"  # a word that the search has to find

WIDE = """() => {
    const width = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth <= width) return null;
    const wide = [...document.querySelectorAll('.bd-article *')].filter(
        each => each.getBoundingClientRect().right > width + 1
            && !each.closest('table, pre, .math, .highlight, .output')
    );
    return `${document.documentElement.scrollWidth} pixels in a window of ${width}: `
        + (wide.length ? wide[0].outerHTML.slice(0, 120) : 'not in the article');
}"""
BROKEN = """() => [...document.images].filter(each => each.loading !== 'lazy' && !(each.complete && each.naturalWidth))
    .map(each => each.getAttribute('src').slice(0, 80))"""
DARK = """() => { document.documentElement.dataset.theme = 'dark'; document.documentElement.dataset.mode = 'dark'; }"""


class _Links(HTMLParser):
    """Anchors of a page, and what it links to."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.targets: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note ids and addresses."""
        given = dict(attrs)
        self.ids |= {value for name in ("id", "name") if (value := given.get(name))}
        self.targets |= {value for name in ("href", "src") if (value := given.get(name))}


def dead_links(site: Path) -> list[str]:
    """Links within the site that lead nowhere, and files that pages load from another server."""
    pages = {path: _parsed(path) for path in _pages(site)}
    faults = []
    for path, page in pages.items():
        name = path.relative_to(site).as_posix()
        for target in sorted(page.targets):
            parts = urlsplit(target)
            if parts.scheme or parts.netloc or not (parts.path or parts.fragment):
                continue
            aim = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            aim = aim / "index.html" if aim.is_dir() else aim
            if not aim.is_file():
                faults.append(f"{name}: there is no {target}")
            elif parts.fragment and aim in pages and unquote(parts.fragment) not in pages[aim].ids:
                faults.append(f"{name}: there is no place {target}")
    return faults


def _pages(site: Path) -> list[Path]:
    """The pages of a site, without the templates among the files of its theme."""
    return [path for path in sorted(site.rglob("*.html")) if "_static" not in path.relative_to(site).parts]


def _parsed(path: Path) -> _Links:
    page = _Links()
    page.feed(path.read_text(encoding="utf-8"))
    return page


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of each request."""


@contextmanager
def served(site: Path) -> Iterator[str]:
    """The address of a server of the site on this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(site)))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def axe_source() -> Path | None:
    """The file of axe-core that comes with axe-playwright-python, None if that is not installed."""
    found = find_spec("axe_playwright_python")
    return Path(str(found.origin)).parent / "axe.min.js" if found else None


def faults_of(page: Any, address: str, name: str, pictures: Path | None, axe: Path | None) -> list[str]:
    """What is wrong with one page.

    Args:
        page: of Playwright.
        address: of the site, with a slash at its end.
        name: of the page, without its suffix.
        pictures: a folder for pictures at each width, and a dark one.
        axe: the file of axe-core; its checks are left out if None.
    """
    faults: list[str] = []

    def note(request: Any) -> None:
        if not request.url.startswith((address, "data:", "blob:")):
            faults.append(f"asks another server: {request.url}")

    page.on("request", note)
    page.on("pageerror", lambda error: faults.append(f"script: {error}"))
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(urljoin(address, f"{name}.html"))
        if wide := page.evaluate(WIDE):
            faults.append(f"at {width}: {wide}")
        _picture(page, pictures, f"{name}-{width}")
    faults += [f"an image that does not show: {image}" for image in page.evaluate(BROKEN)]
    for theme in ("light", "dark"):
        if theme == "dark":
            page.evaluate(DARK)
            page.wait_for_timeout(300)  # colours fade
            _picture(page, pictures, f"{name}-dark")
        if axe is not None:
            page.add_script_tag(path=axe)
            found = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
            faults += [
                f"{theme}: {each['id']} ({each['impact']}, {len(each['nodes'])}): {each['nodes'][0]['html'][:150]}"
                for each in found["violations"]
                if each["impact"] in GRAVE or each["id"] in ASKED
            ]
    return faults


def search_faults(page: Any, address: str) -> list[str]:
    """What is wrong with the search."""
    page.goto(urljoin(address, f"search.html?q={SEARCHED}"))
    try:
        page.wait_for_selector("#search-results li a", timeout=30_000)
    except Exception as error:  # of Playwright
        return [f"the search finds nothing for {SEARCHED}: {str(error).splitlines()[0]}"]
    target = page.get_attribute("#search-results li a", "href")
    answer = page.request.get(urljoin(page.url, target))
    return [] if answer.ok else [f"the search leads to {target}, which is not there"]


def _picture(page: Any, folder: Path | None, name: str) -> None:
    if folder is not None:
        page.screenshot(path=folder / f"{name.replace('/', '_')}.png")


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the site; returns 1 if anything is wrong, 2 if there is none."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--site", type=Path, default=ROOT / "build" / "site", help="the folder of the site")
    parser.add_argument("--page", nargs="+", help="only these pages, without their suffix (default: all)")
    parser.add_argument("--pictures", type=Path, default=ROOT / "build" / "site-pictures", help="where pictures go")
    options = parser.parse_args(arguments)
    site = options.site.resolve()
    if not (site / "index.html").is_file():
        print(f"there is no site in {site}: build it with `python -m tools.do site`", file=sys.stderr)
        return 2
    faults = dead_links(site)
    names = options.page or [path.relative_to(site).with_suffix("").as_posix() for path in _pages(site)]
    if why := playwright_chromium():
        print(f"links only, no pictures and no checks in a browser: {why}")
    else:
        axe = axe_source()
        print("" if axe else "without axe-core: axe-playwright-python is not installed", end="\n" * (axe is None))
        options.pictures.mkdir(parents=True, exist_ok=True)
        with served(site) as address, browser() as chromium:
            for name in names:
                page = chromium.new_page()
                found = faults_of(page, address, name, options.pictures, axe)
                page.close()
                print(f"{name}: {'ok' if not found else ''}", *dict.fromkeys(found), sep="\n    ", flush=True)
                faults += [f"{name}: {fault}" for fault in dict.fromkeys(found)]
            page = chromium.new_page()
            faults += search_faults(page, address)
            page.close()
    for fault in faults:
        print(f"FAULT {fault}", file=sys.stderr)
    print(f"{len(names)} pages, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

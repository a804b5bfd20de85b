"""What Sphinx needs to make the site of the repository as it stands; an extension, see docs/conf.py.

The pages are the files that also stand on GitHub. What they link to besides pages is linked to on GitHub; formulas
become MathML, so that nothing is loaded from elsewhere; and what GitHub draws (Mermaid) or leaves out (modules,
studies) is written as tables.
"""

from __future__ import annotations

import csv
import html
import posixpath
import re
import shutil
from collections.abc import Iterable, Mapping
from fnmatch import fnmatch
from inspect import isfunction
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from tools.house import rooms
from tools.links import OWN_PICTURE, ROOT, declared_repository

if TYPE_CHECKING:
    from sphinx.application import Sphinx

API = "docs/api/"
STUDIES = "docs/studies"
CONTENTS = {
    "Course": ("00-*/*", "[0-9][0-9]-*/lab_*", "[0-9][0-9]-*/*", STUDIES),
    "Your data and maps": ("docs/own-data", "docs/maps", "data/README", "docs/data", "docs/simulator", "docs/real*"),
    "Methods and package": ("docs/methods", "docs/scale*", "docs/architecture", f"{API}index"),
    "Project": ("CHANGELOG", "CONTRIBUTING", "*"),
}
"""The captions of the table of contents, each with patterns of its pages; a page stands where it is named first."""
STUDY = re.compile(r"^<!-- study (\S+) -->$", re.MULTILINE)
ROOM = re.compile(r'^\s+(\w+)\["<b>\w+</b><br/>(.*)"\]$', re.MULTILINE)
ARROW = re.compile(r"^\s+(\w+) -\.?->\|(\d+)\| (\w+)$", re.MULTILINE)
BIG = re.compile(r"\\(big|Big)(?=(\\?[)\]}|])|.)")
ACCENT = re.compile(r"\\(?:tilde|hat|bar|vec)\s*(?:\{[^{}]*\}|\w)(?=\s*[_^])")
CELL = re.compile(r"\|(?=(?:[^`]*`[^`]*`)*[^`]*$)")  # a bar that is not in backticks
FORMULA = re.compile(r"(?<![\\$\w])\$([^$\n]+?)\$(?![\w$])")
PARAMETERS = re.compile(r'<dl>\n((?:<dd><em class="sig-param">.*?</dd>\n)+)</dl>', re.DOTALL)
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*:|#", re.IGNORECASE)


def contents(pages: Iterable[str], start: str) -> str:
    """The table of contents for the page `start`, as Markdown; every other page is in it, but those of a room."""
    left = [page for page in sorted(pages) if page != start and (not page.startswith(API) or page == f"{API}index")]
    blocks = []
    for caption, patterns in CONTENTS.items():
        chosen = list(dict.fromkeys(page for pattern in patterns for page in left if fnmatch(page, pattern)))
        left = [page for page in left if page not in chosen]
        lines = "\n".join(f"/{page}" for page in chosen)
        blocks.append(f"```{{toctree}}\n:hidden:\n:maxdepth: 2\n:caption: {caption}\n\n{lines}\n```\n")
    return "\n".join(blocks)


def mathml(latex: str, block: bool = False) -> str:
    """A formula as MathML, which browsers draw by themselves.

    Raises:
        ValueError: a command is not known.
    """
    from docutils.utils.math import MathError
    from docutils.utils.math.latex2mathml import tex2mathml

    # Sizes of brackets are given as those of an opening or a closing one, which is what the converter knows.
    sized = BIG.sub(lambda found: f"\\{found[1]}{'r' if found[2] else 'l'}", latex.strip())
    sized = ACCENT.sub(r"\g<0>{}", sized)  # else an index stands below the letter and not behind it
    try:
        return str(tex2mathml(sized, as_block=block))
    except MathError as error:
        raise ValueError(f"{latex}: {error}") from error


def with_formulas(raw: str) -> str:
    """Raw HTML, such as an answer that folds out, with its formulas between dollars as MathML."""
    parts = re.split(r"(<code\b.*?</code>|<pre\b.*?</pre>)", raw, flags=re.DOTALL)
    for index in range(0, len(parts), 2):
        parts[index] = FORMULA.sub(lambda found: mathml(html.unescape(found[1])), parts[index])
    return "".join(parts)


def modules_of(room: str) -> list[str]:
    """The full names of the modules of a room of the house, see `tools.house`."""
    names = rooms(ROOT / "bengelib", ROOT / "pyproject.toml")[room]
    return [f"bengelib.{name}" for name in sorted(names)]


def reference(room: str) -> str:
    """The reference of a room, as reStructuredText: each module with all that it defines."""
    sections = (
        f"{name}\n{'-' * len(name)}\n\n.. automodule:: {name}\n   :members:\n   :member-order: bysource\n"
        for name in modules_of(room)
    )
    return "\n".join(sections)


def as_restructured(lines: Iterable[str]) -> list[str]:
    """A docstring with its Markdown tables and fenced code, which are easy to read in a source, as reStructuredText."""
    shown: list[str] = []
    fence, in_table = None, False
    for line in lines:
        text, indent = line.strip(), line[: len(line) - len(line.lstrip())]
        if text.startswith("```"):
            if fence is None:
                fence = indent
                shown += [f"{indent}.. code-block:: {text[3:] or 'text'}", ""]
            else:
                fence = None
                shown.append("")
        elif fence is not None:
            shown.append(f"   {line}" if text else "")
        elif text.startswith("|") and text.endswith("|"):
            if set(text) <= set("|-: "):
                continue
            if not in_table:
                shown += [f"{indent}.. list-table::", f"{indent}   :header-rows: 1", ""]
                in_table = True
            cells = CELL.split(text[1:-1])
            shown += [f"{indent}   {'  -' if number else '* -'} {cell.strip()}" for number, cell in enumerate(cells)]
        else:
            shown += ["", line] if in_table else [line]
            in_table = False
    return shown


def house_table(drawing: str) -> str:
    """A drawing of the house (`tools.house`) as an HTML table: its rooms, their modules, and what they import."""
    arrows: dict[str, list[str]] = {}
    for one, count, other in ARROW.findall(drawing):
        arrows.setdefault(one, []).append(f"{other} ({count})")
    rows = []
    for room, content in ROOM.findall(drawing):
        counts, *names = content.split("<br/>")
        row = (f"<strong>{room}</strong><br>{counts}", html.escape(" ".join(names)), ", ".join(arrows.get(room, [])))
        rows.append("".join(f"<td>{cell}</td>" for cell in row))
    head = "".join(f'<th scope="col">{word}</th>' for word in ("room", "modules", "imports from"))
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    table = f'<table class="table"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    return f'<div class="pst-scrollable-table-container" tabindex="0">{table}</div>'


def study_table(rows: Iterable[Mapping[str, str]]) -> str:
    """Every pooled score of a study that has an interval, as Markdown: a table for each experiment and dataset.

    Args:
        rows: of a table of results.
    """
    keys = ("experiment", "dataset", "model", "target", "split", "label_fraction", "condition")
    scores: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows:
        if row["seed"] == "all":
            scores.setdefault(tuple(row[key] for key in keys), {})[row["metric"]] = row["value"]
    tables: dict[str, list[str]] = {}
    for (experiment, dataset, *what), values in scores.items():
        for metric in values:
            if f"{metric}_low" in values and f"{metric}_high" in values:
                shown = [f"{float(values[name]):.3f}" for name in (metric, f"{metric}_low", f"{metric}_high")]
                cells = [*what, metric, f"{shown[0]} [{shown[1]}, {shown[2]}]"]
                line = f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
                tables.setdefault(f"{experiment}, {dataset}", []).append(line)
    names = ("model", "target", "split", "labels", "condition", "score", "value [95 %]")
    head = f"| {' | '.join(names)} |\n|{'---|' * len(names)}"
    return "\n\n".join("\n".join([f"### {name}\n", head, *lines]) for name, lines in tables.items())


def with_lines(body: str) -> str:
    """A page on which the parameters of a long signature are lines: Sphinx has a list of definitions without terms."""

    def lines(found: re.Match[str]) -> str:
        return f'<div class="sig-lines">\n{found[1].replace("<dd>", "<div>").replace("</dd>", "</div>")}</div>'

    return PARAMETERS.sub(lines, body)


def address(page: str, target: str, folder: bool) -> str:
    """Where a file or folder of the repository, named relative to a page's, stands on GitHub."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(page), target))
    return f"https://github.com/{declared_repository()}/{'tree' if folder else 'blob'}/main/{path}"


def _fill_in(app: Sphinx, page: str, source: list[str]) -> None:
    """Write contents, modules and studies into the pages that are for them; take the project's pictures from here."""
    source[0] = OWN_PICTURE.sub(r"/\1", source[0])
    if page == app.config.root_doc:
        source[0] += f"\n{contents(app.env.found_docs, page)}"
    elif page.startswith(API) and page != f"{API}index":
        source[0] += f"\n{reference(posixpath.basename(page))}"
    elif page == STUDIES:
        source[0] = STUDY.sub(lambda found: _study(found[1]), source[0])


def _study(path: str) -> str:
    with (ROOT / path).open(encoding="utf-8", newline="") as file:
        return study_table(csv.DictReader(file))


def _restructure(app: Sphinx, what: str, name: str, item: Any, options: Any, lines: list[str]) -> None:
    lines[:] = as_restructured(lines)


def _leave_out(app: Sphinx, what: str, name: str, item: Any, skip: bool, options: Any) -> bool | None:
    """Leave out the functions that a class has from elsewhere, such as those that Matplotlib writes into a figure's."""
    return True if isfunction(item) and not str(item.__module__).startswith("bengelib") else None


def _rewrite(app: Sphinx, tree: Any) -> None:
    """Draw what only GitHub draws, typeset formulas in raw HTML, name badges, say where a figure is described."""
    from docutils import nodes

    for badge in list(tree.findall(nodes.image)):  # of another server; its words are enough
        if "://" in badge["uri"]:
            badge.replace_self(nodes.Text(badge.get("alt", "link")))
    for section in tree.findall(nodes.section):
        title = section.next_node(nodes.title)
        for image in section.findall(nodes.image):  # an inner section comes later and is more to the point
            if "alt" not in image or image.get("figure-of-a-cell"):
                image["alt"] = f"Figure of the section “{title.astext()}”, described in the text around it"
                image["figure-of-a-cell"] = True

    for block in list(tree.findall(nodes.literal_block)):
        if block.get("language") == "mermaid":
            block.replace_self(nodes.raw("", house_table(block.astext()), format="html"))
    for raw in list(tree.findall(nodes.raw)):
        if raw.get("format") == "html" and "$" in raw.astext() and "<svg" not in raw.astext():
            raw.replace_self(nodes.raw("", with_formulas(raw.astext()), format="html"))


def _set_lines(app: Sphinx, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    if "body" in context:
        context["body"] = with_lines(context["body"])


def _as_start_page(app: Sphinx, error: Exception | None) -> None:
    """Let the root page be found under the name that servers look for, too."""
    if error is None and app.builder.name == "html":
        shutil.copy(Path(app.outdir) / f"{app.config.root_doc}.html", Path(app.outdir) / "index.html")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register all of this with Sphinx."""
    from docutils import nodes
    from sphinx import addnodes
    from sphinx.transforms import SphinxTransform

    class ToGitHub(SphinxTransform):
        """Links to files and folders that are no pages lead to GitHub; copies of them would grow stale."""

        default_priority = 5

        def apply(self, **kwargs: Any) -> None:
            page = self.env.docname
            for link in list(self.document.findall(addnodes.download_reference)):
                self._lead(link, address(page, link["reftarget"], folder=False))
            for link in list(self.document.findall(addnodes.pending_xref)):
                if link.get("reftype") != "myst":
                    continue
                target = unquote(link.get("reftarget", "")).partition("#")[0]
                if link.get("refdomain") == "doc":  # a page, or a file that could be one: from the root, no suffix
                    if target in self.env.found_docs:
                        continue
                    notebook = (ROOT / f"{target}.ipynb").exists()
                    target = posixpath.relpath(target, posixpath.dirname(page)) + (".ipynb" if notebook else ".md")
                path = ROOT / posixpath.dirname(page) / target
                if target and not ADDRESS.match(target) and path.exists():
                    self._lead(link, address(page, target, folder=path.is_dir()))

        def _lead(self, link: nodes.Element, to: str) -> None:
            link.replace_self(nodes.reference("", "", *link.children, refuri=to))

    def inline(writer: Any, node: nodes.Element) -> None:
        writer.body.append(mathml(node.astext()))
        raise nodes.SkipNode

    def displayed(writer: Any, node: nodes.Element) -> None:
        writer.body.append(f'<div class="math" tabindex="0">{mathml(node.astext(), block=True)}</div>')
        raise nodes.SkipNode

    app.add_html_math_renderer("mathml", (inline, None), (displayed, None))
    app.add_transform(ToGitHub)
    app.connect("source-read", _fill_in)
    app.connect("autodoc-process-docstring", _restructure, priority=400)  # before that of napoleon
    app.connect("autodoc-skip-member", _leave_out)
    app.connect("doctree-read", _rewrite)
    app.connect("html-page-context", _set_lines)
    app.connect("build-finished", _as_start_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

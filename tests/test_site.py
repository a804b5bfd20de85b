"""The site: what is made of pages for it, and what is wrong with one."""

import csv
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from bengelib.plot.style import Picture
from tools import check_site, site
from tools.browser import browser, playwright_chromium
from tools.house import rooms
from tools.links import declared_repository

ROOT = Path(__file__).parents[1]
PAGES = sorted({*ROOT.glob("docs/*.md"), *ROOT.glob("[0-9][0-9]-*/lab_*.src.md")})
needs_docutils = pytest.mark.skipif(not find_spec("docutils"), reason="Sphinx is not installed")
needs_browser = pytest.mark.skipif(playwright_chromium() is not None, reason=f"no browser: {playwright_chromium()}")
HEAD = '<!doctype html><html lang="en"><head><title>x</title></head><body><main class="bd-article"><h1>x</h1>'


def test_every_room_of_the_house_has_a_page_of_reference():
    house = rooms(ROOT / "bengelib", ROOT / "pyproject.toml")
    pages = {path.stem for path in (ROOT / "docs" / "api").glob("*.rst")}
    assert pages == {*house, "index"}
    index = (ROOT / "docs" / "api" / "index.rst").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^   (\w+)$", index, re.MULTILINE)) == sorted(house)
    shown = [name for room in house for name in site.modules_of(room)]
    assert len(shown) == len(set(shown)) and "bengelib.sim.patch" in shown and "bengelib.engine" in shown
    assert ".. automodule:: bengelib.methods.byol\n   :members:" in site.reference("methods")


def test_every_page_stands_in_the_table_of_contents_once():
    pages = [
        "README",
        "CHANGELOG",
        "docs/own-data",
        "docs/new",
        "01-data_fusion/lab_df",
        "docs/api/index",
        "docs/api/sim",
    ]
    lines = [line[1:] for line in site.contents(pages, "README").splitlines() if line.startswith("/")]
    assert sorted(lines) == sorted({*pages} - {"README", "docs/api/sim"})


@needs_docutils
def test_every_formula_becomes_mathml():
    formulas = []
    for path in PAGES:
        text = re.sub(r"^```.*?^```|`[^`\n]*`", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        formulas += re.findall(r"\$\$(.+?)\$\$", text, re.DOTALL) + site.FORMULA.findall(
            re.sub(r"\$\$.+?\$\$", "", text)
        )
    assert len(formulas) > 50
    for formula in formulas:
        assert site.mathml(formula).startswith("<math")
    assert "munder" not in site.mathml(r"\tilde r_i^{\,\alpha} + \hat{p}_i")  # the index stands behind the letter
    with pytest.raises(ValueError, match="nocommand"):
        site.mathml(r"\nocommand")


@needs_docutils
def test_formulas_of_an_answer_are_typeset_and_code_is_left_alone():
    text = site.with_formulas("<details>It is $x &lt; 1$, not <code>$HOME</code> or $5 and <code>$a$</code>.</details>")
    assert text.count("<math") == 1 and "<code>$HOME</code> or $5" in text and "<code>$a$</code>" in text


def test_tables_and_code_of_a_docstring_are_taken_as_they_are_meant():
    lines = ["Views:", "", "    | | a |", "    |---|---|", "    | `x|y` | b |", "", "```toml", "[a]", "```", "End."]
    assert site.as_restructured(lines) == [
        "Views:", "", "    .. list-table::", "       :header-rows: 1", "",
        "       * - ", "         - a", "       * - `x|y`", "         - b", "", "",
        ".. code-block:: toml", "", "   [a]", "", "End.",
    ]  # fmt: skip


def test_functions_that_a_class_has_from_elsewhere_are_left_out_of_the_reference():
    for name, left_out in (("set", True), ("savefig", True), ("_repr_mimebundle_", None)):
        assert site._leave_out(None, "class", name, getattr(Picture, name), False, None) is left_out
    assert site._leave_out(None, "module", "UNITS", ("m",), False, None) is None


def test_parameters_of_a_signature_are_no_list_of_definitions():
    one = '<dd><em class="sig-param"><span>a</span></em>,</dd>\n'
    kept = "<dl>\n<dt>a</dt>\n<dd>b</dd>\n</dl>"
    shown = site.with_lines(f"{kept}f(\n<dl>\n{one}{one}</dl>\n){kept}")
    assert shown.count(kept) == 2 and shown.count("<dl>") == 2
    assert shown.count('<div><em class="sig-param"><span>a</span></em>,</div>') == 2


def test_a_drawing_becomes_a_table():
    rooms_drawn = '    cli["<b>cli</b><br/>2 modules<br/>a b"]\n    core["<b>core</b><br/>1 module<br/>c"]\n'
    drawing = f"flowchart TD\n{rooms_drawn}    cli -->|3| core\n"
    table = site.house_table(drawing)
    assert (
        "<td><strong>cli</strong><br>2 modules</td><td>a b</td><td>core (3)</td>" in table and table.count("<tr>") == 3
    )


@pytest.mark.parametrize("path", sorted(ROOT.glob("[0-9][0-9]-*/*results.csv")), ids=lambda path: path.parent.name)
def test_every_study_is_shown_with_intervals(path):
    page = (ROOT / f"{site.STUDIES}.md").read_text(encoding="utf-8")
    assert path.relative_to(ROOT).as_posix() in site.STUDY.findall(page)
    with path.open(encoding="utf-8", newline="") as file:
        text = site.study_table(csv.DictReader(file))
    values = re.findall(r"\| (-?[\d.]+) \[(-?[\d.]+), (-?[\d.]+)\] \|", text)
    assert len(values) > 50 and all(float(low) <= float(value) <= float(high) for value, low, high in values)


def test_what_is_no_page_is_linked_to_on_github():
    start = f"https://github.com/{declared_repository()}/"
    assert site.address("docs/maps", "../tools/house.py", folder=False) == f"{start}blob/main/tools/house.py"
    assert site.address("README", "data/", folder=True) == f"{start}tree/main/data"


def write(folder, body, name="page.html"):
    (folder / name).write_text(f"{HEAD}{body}</main></body></html>", encoding="utf-8")
    return folder


def test_dead_links_are_found(tmp_path):
    write(
        tmp_path, '<p id="here"><a href="#here">a</a><a href="other.html#there">b</a><a href="https://x.org">c</a></p>'
    )
    assert check_site.dead_links(tmp_path) == ["page.html: there is no other.html#there"]
    write(tmp_path, "<p>x</p>", "other.html")
    assert check_site.dead_links(tmp_path) == ["page.html: there is no place other.html#there"]


@pytest.fixture(scope="module")
def chromium():
    with browser() as running:
        yield running


@needs_browser
@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("<p>A page</p>", None),
        ('<div style="width: 900px">wide</div>', "at 360: "),
        ('<img src="none.png" alt="x">', "an image that does not show: none.png"),
        ('<script src="http://127.0.0.2:9/x.js"></script>', "asks another server: http://127.0.0.2:9/x.js"),
        ('<p style="color: #ccc; background: #fff">pale</p>', "light: color-contrast (serious"),
    ],
)
def test_what_is_wrong_with_a_page_is_seen(body, fault, chromium, tmp_path):
    if fault and "contrast" in fault and check_site.axe_source() is None:
        pytest.skip("axe-core is not there")
    write(tmp_path, body)
    with check_site.served(tmp_path) as address:
        found = check_site.faults_of(chromium.new_page(), address, "page", None, check_site.axe_source())
    assert [each for each in found if fault and fault in each] if fault else not found


def test_without_a_site_there_is_nothing_to_check(tmp_path, capsys):
    assert check_site.main(["--site", str(tmp_path)]) == 2
    assert "build it with" in capsys.readouterr().err

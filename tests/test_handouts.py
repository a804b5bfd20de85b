"""Handouts: nothing given away in the student edition, and pages that print offline on A4."""

import nbformat
import pytest

from tools.build_handouts import print_page, served, student
from tools.links import ROOT
from tools.run_labs import find_labs

MATHJAX = "http://127.0.0.1:1/mathjax/MathJax.js?config=TeX-AMS_SVG-full"


@pytest.mark.parametrize("path", [*find_labs(ROOT), *find_labs(ROOT, study=True)], ids=lambda path: path.parts[-2])
def test_the_student_edition_has_no_outputs_and_no_solutions(path):
    notebook = nbformat.read(path, as_version=4)
    made = student(notebook)
    code = [cell for cell in made.cells if cell.cell_type == "code"]
    assert [cell.source for cell in made.cells] == [cell.source for cell in notebook.cells]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert sum("# your code here" in cell.source for cell in code) >= 2
    assert "arithmetic" not in made.metadata


@pytest.mark.parametrize("unfold", [False, True])
def test_a_page_for_print_fetches_nothing_and_unfolds_answers_where_asked(unfold):
    path = find_labs(ROOT, "01", solutions=unfold)[0]
    page = print_page(nbformat.read(path, as_version=4), path, MATHJAX, unfold)
    assert page.count(MATHJAX) == 1 and "cdnjs" not in page
    assert ("<details open>" in page) == unfold and ("<details>" in page) != unfold
    assert "size: A4" in page and "max-width: 100%" in page and "break-inside: avoid" in page


def test_a_folder_is_served_on_this_machine_only(tmp_path):
    from urllib.request import ProxyHandler, build_opener

    (tmp_path / "page.html").write_text("a page")
    with served(tmp_path) as address:
        assert address.startswith("http://127.0.0.1:")
        with build_opener(ProxyHandler({})).open(f"{address}/page.html") as answer:
            assert answer.read() == b"a page"

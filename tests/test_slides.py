"""The slides: what their sources must have, numbers only from studies, and PDFs that say what the sources say."""

import math
import re
from collections import Counter
from functools import cache
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from matplotlib.text import Text

from bengelib.course.report import Study
from bengelib.course.results import COLUMNS
from tools import build_slides, slide_facts, slide_figures
from tools.build_slides import FIGURE, PLACEHOLDER, Deck, check_offline, decks, draw, fill, theme

DECKS = decks()
POINTS = 24
NOTE = re.compile(r"<!--(?!\s*_).*?-->", re.DOTALL)
NO_DATA = {"early", "late", "vectors"}  # figures of architectures
each_deck = pytest.mark.parametrize("deck", DECKS, ids=lambda deck: deck.folder)


def slides(text: str) -> list[str]:
    """The slides of a deck, without its front matter."""
    _, _, body = text.split("---\n", 2)
    return re.split(r"^---$", body, flags=re.MULTILINE)


def source(deck: Deck) -> str:
    return deck.source.read_text(encoding="utf-8")


def squeezed(text: str) -> str:
    """Letters and digits only."""
    return re.sub(r"[\W_]+", "", text)


def read_words(slide: str) -> list[str]:
    """Words of a filled slide that a reader sees as text: no notes, figures, equations or addresses."""
    slide = FIGURE.sub("", re.sub(r"<!--.*?-->", "", slide, flags=re.DOTALL))
    slide = re.sub(r"\$\$.*?\$\$|\$[^$\n]*\$", " ", slide, flags=re.DOTALL)
    slide = re.sub(r"^```\w*$", "", slide, flags=re.MULTILINE)
    slide = re.sub(r"\]\([^)]*\)|<[^>]*>|^\|[-|]+\|$", " ", slide, flags=re.MULTILINE)
    return re.findall(r"[^\W_]+", slide)


@pytest.fixture(scope="module")
def filled():
    """The slides of each deck with the facts of the committed studies."""
    return {deck.folder: slides(fill(source(deck), deck.folder, deck.study())) for deck in DECKS}


@pytest.fixture
def empty():
    return Study(pd.DataFrame(columns=list(COLUMNS)), "01-data_fusion")


def test_there_is_a_deck_for_the_introduction_and_each_lab():
    assert [deck.source.name for deck in DECKS] == ["00_intro.md", "01_data_fusion.md", "02_mtl.md", "03_ssl.md"]
    assert set(slide_facts.FACTS) == set(slide_figures.FIGURES) == {deck.folder for deck in DECKS}


@each_deck
def test_a_deck_has_15_to_25_slides_each_with_a_title_and_notes(deck):
    pages = slides(source(deck))
    assert 15 <= len(pages) <= 25
    for page in pages:
        assert len(re.findall(r"^# .+$", NOTE.sub("", page), re.MULTILINE)) == 1, page
        assert [note for note in NOTE.findall(page) if len(note) > 40], f"no notes: {page}"


@each_deck
def test_every_figure_says_what_one_sees(deck):
    figures = list(FIGURE.finditer(source(deck)))
    assert len(figures) >= 4 and "<img" not in source(deck)
    assert len(figures) == len(re.findall(r"!\[", source(deck)))
    for figure in figures:
        assert len(figure["alt"]) > 50, figure[0]
        assert figure["name"] in slide_figures.FIGURES[deck.folder]
    assert {figure["name"] for figure in figures} == set(slide_figures.FIGURES[deck.folder])


@each_deck
def test_no_result_stands_in_a_source(deck):
    used = set(PLACEHOLDER.findall(source(deck)))
    assert used - {"sections"} == set(slide_facts.FACTS[deck.folder])
    for page in slides(source(deck)):
        shown = NOTE.sub("", page)
        assert not re.search(r"(?<![\w./])[01]\.\d{2,}|\d points", shown), page


@each_deck
def test_what_was_measured_on_simulated_data_is_called_simulated(deck, filled):
    for before, after in zip(slides(source(deck)), filled[deck.folder], strict=True):
        shown = set(FIGURE.findall(before))
        figures = {name for _, name in shown} - NO_DATA
        if figures or set(PLACEHOLDER.findall(before)) - {"sections"}:
            assert "imulated" in after, before


@each_deck
def test_a_deck_without_results_says_so_and_shows_no_number(deck, empty):
    text = fill(source(deck), deck.folder, empty)
    asked = [name for name in PLACEHOLDER.findall(source(deck)) if name != "sections"]
    assert text.count(slide_facts.NO_STUDY) == len(asked)
    drawn = draw(text, lambda name: None)
    assert "](figure:" not in drawn and slide_facts.NO_STUDY in drawn


@pytest.mark.parametrize("name", ["strategies", "labels", "cloud_curves", "zone_by_split"])
def test_a_figure_of_results_without_results_is_none(name, empty):
    assert slide_figures.make("01-data_fusion", name, empty) is None


def test_a_misspelt_placeholder_or_figure_and_a_figure_without_text_are_refused(empty):
    with pytest.raises(ValueError, match=r"no fact 'strategy'.*'strategies'"):
        fill("{{strategy}}", "01-data_fusion", empty)
    with pytest.raises(ValueError, match="no figure 'strategy'"):
        slide_figures.make("01-data_fusion", "strategy", empty)
    with pytest.raises(ValueError, match="no alternative text"):
        draw("![ ](figure:early)", lambda name: None)


def test_a_lab_gives_its_own_table_of_sections():
    for folder in ("01-data_fusion", "02-mtl", "03-ssl"):
        assert slide_facts.sections(folder).startswith("| section |")
        assert "study" in slide_facts.sections(folder) and "on first use 2" not in slide_facts.sections(folder)


def test_the_theme_has_no_text_below_24_points_and_fetches_nothing():
    text = build_slides.THEME.read_text(encoding="utf-8")
    sizes = [float(size) for size in re.findall(r"font-size: ([\d.]+)px", text)]
    assert len(sizes) > 4 and min(sizes) >= POINTS * 4 / 3
    assert not re.search(r"font-size:(?! [\d.]+px)", text)
    assert "@theme bengelib" in text and "http" not in text


def test_fonts_are_within_the_theme(tmp_path):
    for name in build_slides.FONTS:
        (tmp_path / "@fontsource" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "@fontsource" / name).write_bytes(b"font")
    assert theme(tmp_path).count("url('data:font/woff2;base64,Zm9udA==')") == len(build_slides.FONTS)
    check_offline(f"<style>{theme(tmp_path)}</style>")


@pytest.mark.parametrize("page", [
    '<script src="https://cdn.example/x.js"></script>', "<img src='//cdn.example/x.png'>", "a { src: url(http://x) }",
    '<link rel="stylesheet" href="https://cdn.example/x.css">', '@import "https://fonts.example/css";',
])  # fmt: skip
def test_a_page_that_fetches_is_refused(page):
    with pytest.raises(ValueError, match="must work offline"):
        check_offline(page)


def test_a_page_with_links_and_embedded_pictures_is_fine():
    check_offline(
        '<a href="https://arxiv.org/abs/1">x</a><img src="data:image/svg+xml;base64,AA"><svg xmlns="http://w3/svg">'
    )


def test_letters_of_a_figure_are_24_points_in_the_size_of_the_slide():
    figure, axis = plt.subplots(figsize=(4, 3))
    axis.plot([0, 1], [0, 1], label="a line")
    axis.set(xlabel="x", title="title")
    axis.legend(title="legend", fontsize=6)
    plt.close(figure)
    made = slide_figures.enlarge(figure, 12.0, 5.0)
    made.canvas.draw()
    assert tuple(made.get_size_inches()) == (12.0, 5.0)
    assert {text.get_fontsize() for text in made.findobj(Text) if text.get_text()} == {float(POINTS)}


@pytest.mark.parametrize("name", ["early", "late", "vectors"])
def test_drawings_of_fusion_show_their_part_in_24_points(name):
    figure = slide_figures.make("01-data_fusion", name, None)
    shown = {text.get_text() for text in figure.axes[0].texts if text.get_visible() and text.get_text()}
    expected = {"early": "Early", "late": "Late", "vectors": "FiLM"}
    assert expected[name] in shown and len(shown) < 20
    assert all(text.get_fontsize() >= POINTS for text in figure.axes[0].texts)


@pytest.mark.browser
def test_marp_prints_a_deck_and_writes_a_page_that_works_offline(tmp_path, monkeypatch, empty):
    monkeypatch.setattr(build_slides, "OUTPUT", tmp_path)
    deck = DECKS[1]
    text = draw(fill(source(deck), deck.folder, empty), lambda name: None)
    written = build_slides.marp(text, "deck")  # refuses a page that fetches
    page = written["html"].read_text(encoding="utf-8")
    assert page.count("data-marpit-pagination=") >= 15 and "<mjx-container" in page
    assert len(printed(written["pdf"])) == len(slides(text))


@cache
def printed(pdf: Path) -> list[tuple[str, float, tuple[float, float]]]:
    """Text of each page, the size of its smallest letters in points, and the size of the page."""
    pypdf = pytest.importorskip("pypdf")
    found = []
    for page in pypdf.PdfReader(pdf).pages:
        sizes = [math.inf]

        def look(text, matrix, text_matrix, font, size, sizes=sizes):
            if text.strip():
                sizes.append(size * abs(text_matrix[0] * text_matrix[3] * matrix[0] * matrix[3]) ** 0.5)

        text = page.extract_text(visitor_text=look)
        found.append((text, min(sizes), (float(page.mediabox.width), float(page.mediabox.height))))
    return found


@each_deck
def test_the_pdf_says_what_the_source_says(deck, filled):
    pages = printed(deck.pdf)
    assert len(pages) == len(filled[deck.folder]), "make slides"
    for number, ((text, _, _), slide) in enumerate(zip(pages, filled[deck.folder], strict=True), start=1):
        there, wanted = squeezed(text), read_words(slide)
        missing = [word for word in wanted if word not in there]
        assert not missing, f"{deck.pdf.name}, page {number} lacks {missing} or cuts it off: make slides"
        letters, of_source = Counter(there), Counter("".join(wanted))
        assert of_source <= letters, f"{deck.pdf.name}, page {number} lacks {of_source - letters}: make slides"
        beside = letters - of_source - Counter(str(number))  # the number of the page
        assert not beside, f"{deck.pdf.name}, page {number} says {beside} beside the source: make slides"


@each_deck
def test_the_pdf_has_no_small_letters_and_slides_of_one_size(deck):
    for _, smallest, size in printed(deck.pdf):
        assert smallest > POINTS - 0.1
        assert size == pytest.approx((960, 540), abs=1)


def test_the_pdfs_are_small_enough_to_be_committed():
    assert sum(deck.pdf.stat().st_size for deck in DECKS) < 6e6

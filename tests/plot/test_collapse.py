"""The drawing of what prevents a collapse: legible, nothing cut off, nothing on top of something else."""

import itertools

import matplotlib.pyplot as plt
import pytest

from bengelib.methods import TABLE
from bengelib.plot.collapse import SAFEGUARDS, WRITTEN, draw_collapse


@pytest.fixture(scope="module")
def figure():
    figure = draw_collapse()
    figure.canvas.draw()
    return figure


@pytest.fixture(scope="module")
def texts(figure):
    return [text for text in figure.axes[0].texts if text.get_text()]


def test_no_text_is_small_cut_off_or_on_top_of_another(figure, texts):
    assert min(text.get_fontsize() for text in texts) >= 8
    boxes = {text: text.get_window_extent() for text in texts}
    for text, box in boxes.items():
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1, text.get_text()
    for (first, box), (second, other) in itertools.combinations(boxes.items(), 2):
        assert not box.overlaps(other), (first.get_text(), second.get_text())


def test_each_method_has_something_that_keeps_it_from_collapsing(figure, texts):
    assert {method for methods in SAFEGUARDS.values() for method in methods} == set(TABLE)
    said = " ".join(text.get_text() for text in texts)
    assert set(WRITTEN) <= set(TABLE)
    shown = (*SAFEGUARDS, *(WRITTEN.get(name, name) for name in TABLE))
    assert all(name in " ".join(said.split()) and name in figure.alt for name in shown)


def test_a_notebook_shows_it_once(figure):
    assert not plt.fignum_exists(getattr(figure, "number", -1))

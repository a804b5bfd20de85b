"""The drawings: legible, nothing cut off, nothing on top of something else."""

import itertools

import pytest
from matplotlib.figure import Figure

from bengelib.methods import TABLE
from bengelib.plot.diagrams import SAFEGUARDS, draw_collapse, draw_fusion


@pytest.fixture(scope="module")
def figure() -> Figure:
    figure = draw_fusion()
    figure.canvas.draw()
    return figure


@pytest.fixture(scope="module", params=[draw_fusion, draw_collapse], ids=lambda draw: draw.__name__)
def drawn(request) -> Figure:
    drawn = request.param()
    drawn.canvas.draw()
    return drawn


def texts(figure):
    return [text for text in figure.axes[0].texts if text.get_text()]


def test_every_strategy_and_every_way_in_for_a_vector_is_named(figure):
    said = {text.get_text() for text in texts(figure)}
    assert {"Early fusion", "Feature (mid) fusion", "Late fusion", "Decision fusion"} <= said
    assert {"Planes", "Perceptron (MLP)", "FiLM"} <= said
    dark = ["stack channels", "concatenate, add or gate", "join end to end", "average probabilities"]
    assert set(dark) <= said


def test_no_text_is_smaller_than_eight_points(drawn):
    assert min(text.get_fontsize() for text in texts(drawn)) >= 8


def test_no_text_is_cut_off_or_on_top_of_another(drawn):
    boxes = {text: text.get_window_extent() for text in texts(drawn)}
    for text, box in boxes.items():
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= drawn.bbox.x1 and box.y1 <= drawn.bbox.y1, text.get_text()
    for (first, box), (second, other) in itertools.combinations(boxes.items(), 2):
        assert not box.overlaps(other), (first.get_text(), second.get_text())


def test_the_sensors_meet_lower_from_strategy_to_strategy(figure):
    heights = {text.get_text(): text.get_position()[1] for text in reversed(texts(figure))}
    meet = ["stack channels", "concatenate, add or gate", "join end to end", "average probabilities"]
    assert sorted(meet, key=lambda text: -heights[text]) == meet


def test_a_notebook_shows_it_once(drawn):
    import matplotlib.pyplot as plt

    assert not plt.fignum_exists(getattr(drawn, "number", -1))


def test_each_method_has_something_that_keeps_it_from_collapsing():
    assert {method for methods in SAFEGUARDS.values() for method in methods} == set(TABLE)
    said = " ".join(text.get_text() for text in texts(draw_collapse()))
    assert all(name in said for name in (*SAFEGUARDS, *TABLE))

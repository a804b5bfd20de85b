"""The drawing of fusion strategies."""

import pytest

from bengelib.plot.diagrams import draw_fusion

MEETINGS = ["stack channels", "concat, add, gate", "join end to end", "average votes"]


@pytest.fixture(scope="module")
def texts():
    return [text for text in draw_fusion().axes[0].texts if text.get_text()]


def test_every_strategy_and_every_way_in_for_a_vector_is_named(texts):
    said = {text.get_text() for text in texts}
    assert {"Early", "Feature", "Late", "Decision", "Planes", "Perceptron", "FiLM"} <= said
    assert set(MEETINGS) <= said


def test_the_sensors_meet_lower_from_strategy_to_strategy(texts):
    heights = {text.get_text(): text.get_position()[1] for text in reversed(texts)}
    assert sorted(MEETINGS, key=lambda text: -heights[text]) == MEETINGS

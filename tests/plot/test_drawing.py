"""The drawings: legible, nothing cut off, nothing on top of something else, each with an alternative text."""

import itertools
import struct
from base64 import b64decode

import matplotlib.pyplot as plt
import numpy as np
import pytest

from bengelib.plot import diagrams, drawing, ideas, networks, pretexts

DRAWINGS = {
    name: function
    for module in (diagrams, ideas, networks, pretexts)
    for name, function in vars(module).items()
    if name.startswith("draw_")
}


@pytest.fixture(scope="module", params=DRAWINGS)
def figure(request):
    figure = DRAWINGS[request.param]()
    figure.canvas.draw()
    return figure


def texts(figure):
    return [text for text in figure.axes[0].texts if text.get_text()]


def test_no_text_is_smaller_than_that_of_a_notebook(figure):
    smallest = min(text.get_fontsize() for text in texts(figure))
    assert smallest * figure.dpi / 72 >= 14  # pixels
    assert figure.get_figwidth() * figure.dpi <= (1000 if "course" in figure.alt else 700)


def test_no_text_is_cut_off_or_on_top_of_another(figure):
    boxes = {text: text.get_window_extent() for text in texts(figure)}
    for text, box in boxes.items():
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1, text.get_text()
    for (first, box), (second, other) in itertools.combinations(boxes.items(), 2):
        assert not box.overlaps(other), (first.get_text(), second.get_text())


def test_a_notebook_gets_a_small_image_with_its_alternative_text_and_shows_it_once(figure):
    data, metadata = figure._repr_mimebundle_(include=None, exclude=None)
    image = b64decode(data["image/png"])
    assert image.startswith(b"\x89PNG") and struct.unpack(">I", image[16:20])[0] >= 650
    assert len(image) < 200_000
    alt = metadata["image/png"]["alt"]
    assert alt == figure.alt and 80 < len(alt) < 500 and alt.endswith(".")
    assert not plt.fignum_exists(getattr(figure, "number", -1))


def test_a_drawing_is_the_same_each_time():
    first, second = (ideas.draw_fusion_idea()._repr_mimebundle_()[0] for _ in range(2))
    assert first == second


def test_an_invented_ground_is_one_ground_in_each_look():
    ground = drawing.ground(4)
    assert set(np.unique(ground)) <= set(range(6)) and (ground == 0).any()
    np.testing.assert_array_equal(ground, drawing.ground(4))
    assert (ground != drawing.ground(5)).any()
    water = ground == 0
    light, radar, classes = drawing.as_light(ground), drawing.as_radar(ground), drawing.as_map(ground)
    for picture in (light, radar, classes):
        assert picture.shape == (*ground.shape, 3) and picture.min() >= 0 and picture.max() <= 1
    assert radar[water].mean() < 0.3 * radar[~water].mean()  # calm water is dark to radar
    assert len(np.unique(classes[water], axis=0)) == 1
    assert drawing.as_light(ground, cloud=0.5).mean() > light.mean() + 0.1

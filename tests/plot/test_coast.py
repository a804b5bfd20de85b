"""Land and sea below maps."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from bengelib.plot.coast import NARROWEST, draw_land, land
from bengelib.plot.samples import plot_map

LAND = [(8.0, 50.0), (24.0, 61.9), (-8.0, 39.5), (-100.0, 45.0), (135.0, -25.0)]
SEA = [(-30.0, 45.0), (4.0, 38.5), (0.0, 0.0), (-150.0, 10.0), (0.0, 68.0), (0.0, 71.3)]


def axis(limits):
    figure, axis = plt.subplots()
    axis.set(xlim=limits[:2], ylim=limits[2:])
    plt.close(figure)
    return axis


@pytest.mark.parametrize("place", LAND)
def test_continents_are_land(place):
    assert land().contains_point(place)


@pytest.mark.parametrize("place", SEA)
def test_oceans_are_not_land(place):
    assert not land().contains_point(place)


def test_the_rings_are_closed_and_do_not_jump_across_the_map():
    assert np.abs(land().vertices[:, 1]).max() <= 90
    steps = np.abs(np.diff(land().vertices[:, 0]))[land().codes[1:] == land().LINETO]
    assert np.sort(steps)[-2] < 20  # but for the edge of the map below Antarctica
    starts = np.flatnonzero(land().codes == land().MOVETO)
    ends = np.r_[starts[1:], len(land().codes)] - 1
    np.testing.assert_array_equal(land().vertices[starts], land().vertices[ends])


def test_a_map_keeps_its_limits():
    drawn = axis((-10, 30, 35, 70))
    assert draw_land(drawn)
    assert drawn.get_xlim() == (-10, 30) and drawn.get_ylim() == (35, 70)


def test_no_coast_is_drawn_where_it_would_lie_in_the_wrong_place():
    drawn = axis((10, 10 + NARROWEST / 2, 50, 60))
    assert not draw_land(drawn) and not drawn.patches


def test_a_map_of_patches_has_a_coast_and_its_enlargement_has_none():
    figure = plot_map(np.array([[10.0, 50.0], [22.0, 61.0], [-8.0, 40.0]]), ["train", "train", "test"])
    wide, near = figure.axes
    assert len(wide.patches) == 2 and not near.patches  # the land, and the box of what is enlarged
    assert "coastlines" in figure.alt and "longitude -8 to 22" in figure.alt

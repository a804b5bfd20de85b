"""The drawings of self-supervised learning say the right thing."""

from matplotlib.colors import to_rgba
from matplotlib.patches import Rectangle

from bengelib.plot import pretexts


def marked(figure, colour):
    """Row and column of the cells of this colour, counted in those of all cells of their size."""
    shapes = [each for each in figure.axes[0].patches if isinstance(each, Rectangle) and each.get_linewidth() == 0.8]
    sizes = [round(each.get_width(), 3) for each in shapes if each.get_edgecolor() == to_rgba("#9a9a9a")]
    size = max(set(sizes), key=sizes.count)
    shapes = [each for each in shapes if round(each.get_width(), 3) == size]
    left, top = min(each.get_x() for each in shapes), max(each.get_y() for each in shapes)
    return {
        (round((top - each.get_y()) / size), round((each.get_x() - left) / size))
        for each in shapes
        if each.get_facecolor() == to_rgba(colour)
    }


def test_the_partners_of_nt_xent_stand_half_a_matrix_apart():
    figure = pretexts.draw_nt_xent()
    assert marked(figure, pretexts.POSITIVE) == {(row, (row + 4) % 8) for row in range(8)}
    assert marked(figure, "white") >= {(row, row) for row in range(8)}
    assert len(marked(figure, pretexts.NEGATIVE)) == 8 * 6


def test_the_partner_of_a_radar_patch_stands_on_the_diagonal():
    assert marked(pretexts.draw_sensor_contrast(), pretexts.POSITIVE) == {(row, row) for row in range(4)}

import numpy as np
import pytest
import torch

from bengelib.errors import ArgumentError
from bengelib.recipes.tiling import Blend, centred, overlapping


@pytest.mark.parametrize("length", [1, 7, 40, 41, 63, 100, 257, 1000])
@pytest.mark.parametrize(("tile", "overlap"), [(40, 8), (40, 0), (40, 10), (64, 1)])
def test_tiles_cover_an_axis_with_their_overlap_and_three_share_nothing(length, tile, overlap):
    tiles = overlapping(length, tile, overlap)
    assert tiles.size <= tile and tiles.starts[0] == 0 and tiles.starts[-1] + tiles.size == length
    shared = [tiles.overlap(number) for number in range(len(tiles.starts) + 1)]
    assert shared[0] == shared[-1] == 0 and all(overlap <= each <= overlap + 2 for each in shared[1:-1])
    covered = np.zeros(length, int)
    for start in tiles.starts:
        covered[start : start + tiles.size] += 1
    assert covered.min() == 1 and covered.max() <= 2


@pytest.mark.parametrize(
    ("length", "tile", "stride"), [(100, 20, 20), (90, 20, 20), (50, 20, 7), (13, 20, 5), (64, 9, 2)]
)
def test_each_cell_has_a_tile_around_it(length, tile, stride):
    tiles = centred(length, tile, stride)
    assert len(tiles.starts) == -(-length // stride)
    for cell, start in enumerate(tiles.starts):
        assert start >= 0 and start + tiles.size <= length
        assert start <= cell * stride and min(length, (cell + 1) * stride) <= start + tiles.size
        middle = cell * stride - (tile - stride) // 2
        assert start == middle or start in (0, length - tiles.size)


@pytest.mark.parametrize(
    "call", [lambda: overlapping(100, 40, 11), lambda: centred(100, 20, 21), lambda: overlapping(9, 0, 0)]
)
def test_impossible_tilings_are_refused(call):
    with pytest.raises(ArgumentError):
        call()


@pytest.mark.parametrize("shape", [(70, 90), (30, 100), (100, 30), (20, 20)])
def test_overlapping_answers_of_a_plane_are_the_plane(shape):
    """The weights of each pixel add up to 1, so that equal answers stay what they are."""
    rows, columns = (overlapping(length, 32, 8) for length in shape)
    plane = torch.rand(3, *shape, dtype=torch.float64)
    joined, blend = torch.full_like(plane, torch.nan), Blend(rows, columns, 3)
    for r, top in enumerate(rows.starts):
        for c, left in enumerate(columns.starts):
            tile = plane[:, top : top + rows.size, left : left + columns.size].clone()
            block = blend.join(r, c, tile)
            target = joined[:, top : top + block.shape[1], left : left + block.shape[2]]
            assert target.isnan().all()  # written once
            target.copy_(block)
    torch.testing.assert_close(joined, plane)


def test_weights_fall_towards_the_border_and_away_from_it_an_answer_stays_as_it_is():
    columns, rows = overlapping(56, 32, 8), overlapping(32, 32, 0)
    (_, second), blend = columns.starts, Blend(rows, columns, 1)
    first = blend.join(0, 0, torch.zeros(1, 32, columns.size)).clone()
    rest = blend.join(0, 1, torch.ones(1, 32, columns.size))
    line = torch.cat([first, rest], dim=2)[0, 0]
    assert (line[:second] == 0).all() and (line[columns.size :] == 1).all()
    ramp = line[second : columns.size]
    assert len(ramp) == 8 and (ramp.diff() > 0).all() and float(ramp[0]) == pytest.approx(1 / 16)


def test_margins_alone_are_softened_each_pixel_once():
    rows = columns = overlapping(56, 32, 8)
    calls = torch.zeros(56, 56)

    def soften(values):
        seen.append(values.shape[1] * values.shape[2])
        return values + 100

    for r, top in enumerate(rows.starts):
        for c, left in enumerate(columns.starts):
            seen: list[int] = []
            tile = torch.zeros(1, rows.size, columns.size)
            Blend(rows, columns, 1, soften=soften)._soften_overlaps(
                tile, (rows.overlap(r), rows.overlap(r + 1)), (columns.overlap(c), columns.overlap(c + 1))
            )
            assert set(tile.unique().tolist()) == {0.0, 100.0} and sum(seen) == int((tile == 100).sum())
            calls[top : top + rows.size, left : left + columns.size] += tile[0]
    assert calls[0, 0] == 0 and calls[28, 0] == 200 and calls[28, 28] == 400

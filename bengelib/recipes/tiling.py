"""Tiles that cover a scene, and their answers joined without seams.

Tiles overlap, and where two do, the weight of the one falls in a line to its border while that of the other rises: the
weights of a pixel always add up to 1. Away from overlaps a pixel has the answer of one tile alone, unchanged.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from bengelib.arguments import whole_number


class Tiles(NamedTuple):
    """Tiles of one size along one axis, the first at the beginning and the last at the end of it.

    Attributes:
        length: pixels along the axis.
        size: of a tile.
        starts: first pixel of each tile, rising.
    """

    length: int
    size: int
    starts: tuple[int, ...]

    def overlap(self, number: int) -> int:
        """Pixels that tile `number` has in common with the one before it; 0 at both ends of the axis."""
        if number <= 0 or number >= len(self.starts):
            return 0
        return max(0, self.starts[number - 1] + self.size - self.starts[number])


def overlapping(length: int, tile: int, overlap: int) -> Tiles:
    """As few tiles as cover an axis with at least so much overlap, none larger than `tile`, spread evenly.

    Args:
        length: pixels along the axis.
        tile: largest size of a tile.
        overlap: least number of pixels that neighbours share.

    Raises:
        ArgumentError: the overlap is more than a quarter of a tile, so that three tiles could share a pixel.
    """
    tile = whole_number("tile", tile)
    overlap = whole_number("overlap", overlap, 0, tile // 4)
    if length <= tile:
        return Tiles(length, length, (0,))
    count = math.ceil((length - overlap) / (tile - overlap))
    size = math.ceil((length + (count - 1) * overlap) / count)
    starts = [round(number * (length - size) / (count - 1)) for number in range(count)]
    return Tiles(length, size, tuple(starts))


def centred(length: int, tile: int, stride: int) -> Tiles:
    """One tile for each cell of `stride` pixels, with the cell in its middle, or as near to it as the border admits.

    Raises:
        ArgumentError: a stride of more than a tile, which would leave pixels out.
    """
    tile = min(whole_number("tile", tile), length)
    stride = whole_number("stride", stride, 1, tile)
    cells = range(math.ceil(length / stride))
    starts = [min(max(0, cell * stride - (tile - stride) // 2), length - tile) for cell in cells]
    return Tiles(length, tile, tuple(starts))


class Blend:
    """Joins tiles that come row by row, and in a row from left to right; holds one seam and no more.

    Attributes:
        seam: of the row so far with the next one, (K, overlap, length of a row), weighted.
    """

    def __init__(
        self,
        rows: Tiles,
        columns: Tiles,
        classes: int,
        device: torch.device | None = None,
        soften: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        """For tiles of (classes, rows.size, columns.size).

        Args:
            rows: see `overlapping`.
            columns: likewise.
            classes: K.
            device: of the values.
            soften: called on what lies in an overlap, (K, height, width), before it is averaged: from logits to
                probabilities where nothing but the largest of them is asked for elsewhere.
        """
        self.rows, self.columns, self.soften = rows, columns, soften
        self.seam = torch.zeros(classes, 0, columns.length, device=device)
        self._above = self.seam
        self._left = self.seam
        self._row = -1

    def join(self, row: int, column: int, values: Tensor) -> Tensor:
        """What is final once this tile is there, (K, height, width), from the upper left pixel of the tile on.

        Args:
            row: number of the row of tiles.
            column: number of the tile in it.
            values: (K, rows.size, columns.size); they are changed in place.
        """
        rows, columns = self.rows, self.columns
        above, below = rows.overlap(row), rows.overlap(row + 1)
        left, right = columns.overlap(column), columns.overlap(column + 1)
        if row != self._row:
            self._row, self._above = row, self.seam
            self.seam = values.new_zeros(len(values), below, columns.length)
        if self.soften is not None:
            self._soften_overlaps(values, (above, below), (left, right))
        if left:
            values[:, :, :left] = values[:, :, :left] * _rise(left, values) + self._left
        width = columns.size - right
        if right:
            self._left = values[:, :, width:] * (1 - _rise(right, values))
        values = values[:, :, :width]
        place = slice(columns.starts[column], columns.starts[column] + width)
        if above:
            values[:, :above] = values[:, :above] * _rise(above, values)[:, None] + self._above[:, :, place]
        height = rows.size - below
        if below:
            self.seam[:, :, place] = values[:, height:] * (1 - _rise(below, values))[:, None]
        return values[:, :height]

    def _soften_overlaps(self, values: Tensor, rows: tuple[int, int], columns: tuple[int, int]) -> None:
        """Call `soften` on the four margins of a tile, each pixel once."""
        height, width = values.shape[1:]
        (above, below), (left, right) = rows, columns
        between = slice(above, height - below)
        whole = slice(0, width)
        margins = [(slice(0, above), whole), (slice(height - below, height), whole)]
        margins += [(between, slice(0, left)), (between, slice(width - right, width))]
        for y, x in margins:
            if y.stop > y.start and x.stop > x.start and self.soften is not None:
                values[:, y, x] = self.soften(values[:, y, x])


def _rise(count: int, like: Tensor) -> Tensor:
    """Weights (count,) that rise in a line from nearly 0 to nearly 1."""
    return (torch.arange(count, device=like.device) + 0.5) / count

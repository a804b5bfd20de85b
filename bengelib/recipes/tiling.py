"""Tiles that cover a scene, and seamless blending of their predictions.

Tiles overlap. In an overlap, the weight of one tile falls linearly towards its border while that of the other rises, so
the weights of a pixel always sum to 1. Elsewhere a pixel has the prediction of a single tile, unchanged.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from bengelib.arguments import whole_number


class Tiles(NamedTuple):
    """Tiles of one size along one axis, the first at its beginning and the last at its end.

    Attributes:
        length: pixels along the axis.
        size: of a tile.
        starts: first pixel of each tile, ascending.
    """

    length: int
    size: int
    starts: tuple[int, ...]

    def overlap(self, number: int) -> int:
        """Pixels that tile `number` shares with the previous one; 0 at both ends of the axis."""
        if number <= 0 or number >= len(self.starts):
            return 0
        return max(0, self.starts[number - 1] + self.size - self.starts[number])


def overlapping(length: int, tile: int, overlap: int) -> Tiles:
    """The smallest number of evenly spaced tiles, none larger than `tile`, that cover an axis with an overlap.

    Args:
        length: pixels along the axis.
        tile: maximum size of a tile.
        overlap: minimum number of pixels that neighbours share.

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
    """One tile for each cell of `stride` pixels, with the cell at its centre, or as close to it as the border allows.

    Raises:
        ArgumentError: the stride exceeds a tile, which would leave pixels out.
    """
    tile = min(whole_number("tile", tile), length)
    stride = whole_number("stride", stride, 1, tile)
    cells = range(math.ceil(length / stride))
    starts = [min(max(0, cell * stride - (tile - stride) // 2), length - tile) for cell in cells]
    return Tiles(length, tile, tuple(starts))


class Blend:
    """Blends tiles that arrive row by row, and within a row from left to right; stores a single seam.

    Attributes:
        seam: weighted sum of the row so far in the overlap with the next row, (K, overlap, length of a row).
    """

    def __init__(
        self,
        rows: Tiles,
        columns: Tiles,
        classes: int,
        device: torch.device | None = None,
        soften: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        """Blend tiles of (classes, rows.size, columns.size).

        Args:
            rows: see `overlapping`.
            columns: see `overlapping`.
            classes: K.
            device: of the values.
            soften: applied to values in an overlap, (K, height, width), before they are averaged: from logits to
                probabilities, which are not needed elsewhere to find the most likely class.
        """
        self.rows, self.columns, self.soften = rows, columns, soften
        self.seam = torch.zeros(classes, 0, columns.length, device=device)
        self._above = self.seam
        self._left = self.seam
        self._row = -1

    def join(self, row: int, column: int, values: Tensor) -> Tensor:
        """Add a tile; return the pixels that are final, (K, height, width), from its upper left pixel on.

        Args:
            row: index of the row of tiles.
            column: index of the tile in the row.
            values: (K, rows.size, columns.size), changed in place.
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
        """Apply `soften` to the four margins of a tile, once per pixel."""
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
    """Weights (count,) that rise linearly from nearly 0 to nearly 1."""
    return (torch.arange(count, device=like.device) + 0.5) / count

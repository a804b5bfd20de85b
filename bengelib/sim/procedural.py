"""Procedural noise: a function of location, so the same seed and pixel have the same value in every patch.

The functions have no state. Every value is a hash of integer lattice coordinates, so neighbouring patches agree on
their common border, and a second visit shows the same scene. Coordinates are pixels of a tile (x to the east, y to the
south). All operations are element-wise (no BLAS), so results do not depend on the number of threads.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

Array = NDArray[np.floating[Any]]
Ints = NDArray[np.uint32]

# Standard deviation of a cubic B-spline surface with unit-variance coefficients, mean over the cell.
_SPLINE_STD = 0.4794


def mix(value: Ints) -> Ints:
    """Scramble 32-bit integers (the `lowbias32` permutation of C. Wellons)."""
    value = value ^ (value >> np.uint32(16))
    value = value * np.uint32(0x7FEB352D)
    value = value ^ (value >> np.uint32(15))
    value = value * np.uint32(0x846CA68B)
    return value ^ (value >> np.uint32(16))


def key_of(*parts: int) -> int:
    """Fold integers (seed, tile, purpose, ...) into one 32-bit key."""
    key = 0
    for part in parts:
        key = _mix_one((key * 0x9E3779B1 + part) & 0xFFFFFFFF)
        key = _mix_one((key + (part >> 32)) & 0xFFFFFFFF)
    return key


def _mix_one(value: int) -> int:
    """`mix` of one Python integer."""
    value ^= value >> 16
    value = (value * 0x7FEB352D) & 0xFFFFFFFF
    value ^= value >> 15
    value = (value * 0x846CA68B) & 0xFFFFFFFF
    return value ^ (value >> 16)


def hash_lattice(key: int, x: NDArray[np.int64], y: NDArray[np.int64]) -> Ints:
    """Hash every node of a lattice: `x` (W,) and `y` (H,) whole numbers to (H, W) 32-bit integers."""
    columns = mix(x.astype(np.uint32) * np.uint32(0x9E3779B1) + np.uint32(key))
    rows = y.astype(np.uint32) * np.uint32(0x85EBCA6B)
    return mix(columns[None, :] + rows[:, None])


def rehash(identity: Ints, salt: int) -> Ints:
    """Derive another independent hash, for example for a second random number of the same parcel."""
    return mix(identity + np.uint32((salt * 0x9E3779B1 + 0x7F4A7C15) & 0xFFFFFFFF))


def uniform(hashed: Ints) -> Array:
    """Hashes to float32 in [0, 1)."""
    return (hashed >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)


def gaussian(hashed: Ints) -> Array:
    """Hashes to nearly normal float32 of mean 0 and variance 1: the sum of the four bytes, bounded by +-3.45."""
    byte = np.uint32(255)
    total = (hashed & byte) + ((hashed >> np.uint32(8)) & byte) + ((hashed >> np.uint32(16)) & byte)
    total = total + (hashed >> np.uint32(24))
    return (total.astype(np.float32) - np.float32(510.0)) * np.float32(1 / 147.8)


def _taps(position: NDArray[np.float64]) -> tuple[NDArray[np.int64], list[NDArray[Any]]]:
    """First of the four B-spline nodes around each position, and their weights."""
    base = np.floor(position)
    f = (position - base).astype(np.float32)
    weights = [
        (1 - f) ** 3 / 6,
        (3 * f**3 - 6 * f**2 + 4) / 6,
        (-3 * f**3 + 3 * f**2 + 3 * f + 1) / 6,
        f**3 / 6,
    ]
    return base.astype(np.int64) - 1, weights


def smooth(key: int, x: NDArray[np.float64], y: NDArray[np.float64], cell: float) -> Array:
    """Smooth noise on an axis-aligned grid: a cubic B-spline through hashed values on a lattice.

    Args:
        key: from `key_of`.
        x: (W,) pixel coordinates of the columns.
        y: (H,) pixel coordinates of the rows.
        cell: lattice spacing in pixels, about the size of the blobs.

    Returns:
        (H, W) float32, mean 0, variance 1, close to normal.
    """
    first_x, weights_x = _taps(x / cell)
    first_y, weights_y = _taps(y / cell)
    x0, y0 = int(first_x.min()), int(first_y.min())
    nodes = gaussian(hash_lattice(key, np.arange(x0, first_x.max() + 4), np.arange(y0, first_y.max() + 4)))
    rows = np.zeros((len(y), nodes.shape[1]), np.float32)
    for k, weight in enumerate(weights_y):
        rows += weight[:, None] * nodes[first_y - y0 + k]
    out = np.zeros((len(y), len(x)), np.float32)
    for k, weight in enumerate(weights_x):
        out += rows[:, first_x - x0 + k] * weight
    return out / np.float32(_SPLINE_STD)


def smooth_at(key: int, x: Array, y: Array) -> Array:
    """The same noise at any points: `x`, `y` (H, W) already divided by the lattice spacing; (H, W) float32."""
    x0, y0 = int(np.floor(x.min())) - 1, int(np.floor(y.min())) - 1
    nodes = gaussian(
        hash_lattice(key, np.arange(x0, int(np.floor(x.max())) + 4), np.arange(y0, int(np.floor(y.max())) + 4))
    )
    out = map_coordinates(nodes, [y - y0, x - x0], order=3, prefilter=False, output=np.float32)
    return np.asarray(out) / np.float32(_SPLINE_STD)


def fractal(
    key: int, x: NDArray[np.float64], y: NDArray[np.float64], cells: Sequence[float], persistence: float = 0.6
) -> Array:
    """Sum of `smooth` noises of decreasing spacing `cells`, each `persistence` times the one before; variance 1."""
    weights = [persistence**i for i in range(len(cells))]
    total = np.zeros((len(y), len(x)), np.float32)
    for i, (cell, weight) in enumerate(zip(cells, weights, strict=True)):
        total += np.float32(weight) * smooth(key_of(key, i), x, y, cell)
    return total / np.float32(sum(w * w for w in weights) ** 0.5)


def white(key: int, x: NDArray[np.float64], y: NDArray[np.float64]) -> Array:
    """Independent, nearly normal noise per pixel, (H, W)."""
    return gaussian(hash_lattice(key, x.astype(np.int64), y.astype(np.int64)))


def cells(key: int, x: Array, y: Array, jitter: float = 0.85) -> tuple[Ints, Ints, Array, Array, Array]:
    """Voronoi cells around one jittered point per lattice square, with straight borders.

    Args:
        key: from `key_of`.
        x: (H, W) coordinates divided by the mean cell size.
        y: (H, W) the same.
        jitter: 0 = squares, 1 = fully random.

    Returns:
        identity of the cell (H, W); identity of its border, the same from both sides; distance to that border in cell
        sizes; x and y of the position relative to the cell's point.
    """
    ix, iy = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    x0, y0 = int(ix.min()) - 1, int(iy.min()) - 1
    nodes_x, nodes_y = np.arange(x0, int(ix.max()) + 2), np.arange(y0, int(iy.max()) + 2)
    hashed = hash_lattice(key, nodes_x, nodes_y)
    point_x = (nodes_x[None, :] - x0 + 0.5 + jitter * (uniform(hashed) - 0.5)).astype(np.float32).ravel()
    point_y = (nodes_y[:, None] - y0 + 0.5 + jitter * (uniform(rehash(hashed, 1)) - 0.5)).astype(np.float32).ravel()
    local_x, local_y = (x - x0).astype(np.float32), (y - y0).astype(np.float32)
    base = (iy - y0) * len(nodes_x) + (ix - x0)
    shape = base.shape
    nearest = second = np.zeros(shape, np.int64)
    d1 = d2 = np.full(shape, np.inf, np.float32)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            index = base + (dy * len(nodes_x) + dx)
            distance = (point_x[index] - local_x) ** 2 + (point_y[index] - local_y) ** 2
            closer, runner_up = distance < d1, distance < d2
            second = np.where(closer, nearest, np.where(runner_up, index, second))
            d2 = np.where(closer, d1, np.where(runner_up, distance, d2))
            nearest = np.where(closer, index, nearest)
            d1 = np.where(closer, distance, d1)
    gap = np.hypot(point_x[nearest] - point_x[second], point_y[nearest] - point_y[second])
    border = (d2 - d1) / (2 * np.maximum(gap, 1e-3))
    flat = hashed.ravel()
    identity = flat[nearest]
    return (
        identity,
        mix(identity ^ flat[second]),
        border,
        local_x - point_x[nearest],
        local_y - point_y[nearest],
    )

"""Writes a tiny folder of class folders with JPEGs: three classes that differ in colour, with noise."""

from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"Field": (190, 170, 70), "Forest": (40, 95, 45), "Water": (30, 50, 120)}


def pixels(label: str, place: int, size: int, channels: int = 3) -> np.ndarray:
    """An image, (size, size, channels) uint8."""
    random = np.random.default_rng([place, *label.encode()])
    image = random.normal(np.array(COLOURS[label])[:channels], 20, (size, size, channels))
    return np.clip(image, 0, 255).astype(np.uint8)


def write_images(root: Path, count: int = 10, size: int = 32, suffix: str = ".jpg") -> Path:
    """A folder with `count` images a class."""
    for label in COLOURS:
        (root / label).mkdir(parents=True)
        for place in range(count):
            Image.fromarray(pixels(label, place, size)).save(root / label / f"{label}_{place}{suffix}")
    return root

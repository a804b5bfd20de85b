"""Which values are possible for each key of a sample."""

import numpy as np

from bengelib.errors import RasterError

_POSSIBLE = {"s2": (0, 32_767), "s1": (-100, 60), "dem": (-500, 9000)}


def check_values(key: str, values: np.ndarray, where: str, *, warn: bool = True) -> None:
    """Refuse impossible pixels.

    Args:
        key: `"s2"` (digital numbers), `"s1"` (dB) or `"dem"` (metres).
        values: all pixels of one band, or of several.
        where: the file, to be named.
        warn: whether to warn of implausible values.

    Raises:
        RasterError: naming how many there are, and the range.
    """
    low, high = _POSSIBLE[key]
    if not (values.min() >= low and values.max() <= high):
        bad = int((~((values >= low) & (values <= high))).sum())
        raise RasterError(f"{where} has {bad} of {values.size} values that are NaN or outside {low} to {high}.")
    if key == "s1" and not values.any():
        raise RasterError(f"{where} holds no data (every pixel is 0 dB).")

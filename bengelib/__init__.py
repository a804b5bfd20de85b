"""Data-efficient deep learning for Earth observation on the multi-modal ben-ge dataset.

The names below are those that most users need. They load on first use, so `import bengelib` is quick. Everything else
is imported from its module: the core is in this folder, and the docstring of each subfolder says what it holds.
"""

import warnings
from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.2.0"

# A dependency of accelerate warns about missing notebook widgets, which no progress bar here uses.
warnings.filterwarnings("ignore", message="IProgress not found")

if TYPE_CHECKING:
    from bengelib.data.dataset import BENGE as BENGE
    from bengelib.data.download import fetch as fetch
    from bengelib.data.loading import load as load
    from bengelib.data.packed import PackedBENGE as PackedBENGE
    from bengelib.data.packing import pack as pack
    from bengelib.engine import evaluate as evaluate
    from bengelib.engine import fit as fit
    from bengelib.engine import predict as predict
    from bengelib.sim.simulate import simulate as simulate

_HOMES = {
    "BENGE": "data.dataset",
    "PackedBENGE": "data.packed",
    "evaluate": "engine",
    "fetch": "data.download",
    "fit": "engine",
    "load": "data.loading",
    "pack": "data.packing",
    "predict": "engine",
    "simulate": "sim.simulate",
}
__all__ = [
    "BENGE",
    "PackedBENGE",
    "evaluate",
    "fetch",
    "fit",
    "load",
    "pack",
    "predict",
    "simulate",
]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f"bengelib.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'bengelib' has no attribute {name!r}; it has {__all__}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

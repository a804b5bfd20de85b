"""Data-efficient deep learning for Earth observation on the multi-modal ben-ge dataset.

The names below are the ones that most users need; everything else is imported from its module. Most are loaded
on first use, so `import bengelib` is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING

# At once, and it is light: loaded later, the module would put itself under the name of its function.
from bengelib.simulate import simulate

__version__ = "0.1.0"

if TYPE_CHECKING:
    from bengelib.dataset import BENGE as BENGE
    from bengelib.download import fetch as fetch
    from bengelib.engine import evaluate as evaluate
    from bengelib.engine import fit as fit
    from bengelib.engine import predict as predict
    from bengelib.loading import load as load
    from bengelib.packed import PackedBENGE as PackedBENGE
    from bengelib.packing import pack as pack

_HOMES = {
    "BENGE": "dataset",
    "PackedBENGE": "packed",
    "evaluate": "engine",
    "fetch": "download",
    "fit": "engine",
    "load": "loading",
    "pack": "packing",
    "predict": "engine",
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
    try:
        return import_module(f"bengelib.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"bengelib.{name}":
            raise
    raise AttributeError(f"module 'bengelib' has no attribute {name!r}; it has {__all__}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

"""Where and how precisely a model computes: Hugging Face Accelerate, set up and taken off again."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

with warnings.catch_warnings():  # tqdm's about missing widgets, which these progress bars do without
    warnings.filterwarnings("ignore", message="IProgress not found")
    from accelerate import Accelerator as Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import gather_object as gather_object


def choose_precision(precision: str = "auto") -> str:
    """Resolve `"auto"` to what is fast and safe here; `"no"`, `"bf16"` and `"fp16"` stay.

    A GPU computes in bf16 if it does so natively (Ampere and later), otherwise in fp16 with loss scaling. A CPU
    computes in bf16 only where it has AMX; elsewhere bf16 on a CPU is several times slower than fp32.

    Raises:
        ValueError: another word.
    """
    if precision not in ("auto", "no", "bf16", "fp16"):
        raise ValueError(f"unknown precision {precision!r}; choose 'auto', 'no' (fp32), 'bf16' or 'fp16'")
    if precision != "auto":
        return precision
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.get_device_capability()[0] >= 8 else "fp16"
    return "bf16" if torch.cpu._is_amx_tile_supported() else "no"


def make_accelerator(precision: str) -> Accelerator:
    """An accelerator of the given precision, whatever precision an earlier call asked for.

    Without `cpu`, Accelerate would take several processes on CPUs for strangers that train a model each.
    """
    AcceleratorState._reset_state()
    return Accelerator(mixed_precision=choose_precision(precision), cpu=not torch.accelerator.is_available())


@contextmanager
def handed_back(model: nn.Module) -> Iterator[None]:
    """Take off at the end, also after an error, what Accelerate hangs on a model.

    That is the forward pass of mixed precision, and a mark at which a later call would take the model for ready and
    silently leave it in the precision of the first.
    """
    names = ("forward", "_original_forward", "_is_accelerate_prepared")
    before = {name: model.__dict__[name] for name in names if name in model.__dict__}
    try:
        yield
    finally:
        for name in names:
            model.__dict__.pop(name, None)
        model.__dict__.update(before)


def share_buffers(model: nn.Module, accelerator: Accelerator) -> None:
    """Give all processes the running statistics of the first; each of them has seen only its own batches."""
    if accelerator.num_processes > 1:
        for buffer in model.buffers():
            torch.distributed.broadcast(buffer, 0)

"""Device and numerical precision of a model, through Hugging Face Accelerate."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from bengelib.errors import ArgumentError

if TYPE_CHECKING:
    from accelerate import Accelerator

_NOT_FOLLOWED = {
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "1",
    "ACCELERATE_DYNAMO_BACKEND": "no",
    "ACCELERATE_USE_FSDP": "false",
    "ACCELERATE_USE_DEEPSPEED": "false",
    "ACCELERATE_USE_MEGATRON_LM": "false",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "false",
}
"""Environment variables by which `accelerate launch` would change results, with their neutral values."""
_NO_NEGATIVES = (
    "accumulated gradients give a contrastive loss no more negatives; for a batch that exceeds the memory, use "
    "micro_batch"
)
_OF_LAUNCHERS = ("LOCAL_RANK", "RANK", "WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""Environment variables by which a launcher announces several processes."""


def on_host(values: Tensor) -> bool:
    """True if a tensor can be read without waiting for a device."""
    return values.device.type == "cpu"


def choose_precision(precision: str = "auto") -> str:
    """Resolve `"auto"` to a fast and safe precision for this device; `"no"`, `"bf16"` and `"fp16"` are kept.

    A GPU computes in bf16 if it does so natively (Ampere and later), otherwise in fp16 with loss scaling. A CPU
    computes in bf16 only where it has AMX; elsewhere bf16 on a CPU is several times slower than fp32.

    Raises:
        ArgumentError: an unknown precision, or fp16 on a CPU, which does not support it.
    """
    if precision not in ("auto", "no", "bf16", "fp16"):
        raise ArgumentError(f"unknown precision {precision!r}; choose 'auto', 'no' (fp32), 'bf16' or 'fp16'")
    if precision == "fp16" and not torch.accelerator.is_available():
        raise ArgumentError("precision 'fp16' needs a GPU, and there is none; choose 'auto', 'no' (fp32) or 'bf16'")
    if precision != "auto":
        return precision
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.get_device_capability()[0] >= 8 else "fp16"
    return "bf16" if torch.cpu._is_amx_tile_supported() else "no"


def make_accelerator(precision: str) -> "Accelerator":
    """An accelerator of the given precision, independent of earlier calls.

    Without `cpu`, Accelerate would not join several processes on CPUs. Environment variables that would change results
    are ignored with a warning, because the arguments of `fit` alone determine what is computed.

    Raises:
        ArgumentError: an unknown precision, or a launcher's variables without its processes.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, PartialState

    chosen = choose_precision(precision)
    left = {name: os.environ[name] for name, plain in _NOT_FOLLOWED.items() if os.environ.get(name, plain) != plain}
    if left:
        words = ", ".join(f"{name}={value}" for name, value in left.items())
        reason = f" ({_NO_NEGATIVES})" if "ACCELERATE_GRADIENT_ACCUMULATION_STEPS" in left else ""
        advice = f"which is not followed{reason}; unset {', '.join(left)}"
        warnings.warn(f"the environment has {words}, {advice}", stacklevel=3)
    AcceleratorState._reset_state()
    before = dict(os.environ)
    for name in left:
        del os.environ[name]
    try:
        return Accelerator(mixed_precision=chosen, cpu=not torch.accelerator.is_available())
    except (ValueError, RuntimeError) as error:
        os.environ.clear()  # undo what Accelerate added
        os.environ.update(before)
        found = [name for name in _OF_LAUNCHERS if name in os.environ]
        if not found or torch.distributed.is_initialized():
            raise
        PartialState._reset_state()
        words = ", ".join(f"{name}={os.environ[name]}" for name in found)
        raise ArgumentError(
            f"the environment has {words}, as if a launcher had started several processes, but they cannot be joined "
            f"({str(error).strip().splitlines()[0]}). Unset {', '.join(found)}, or start with torchrun."
        ) from error
    finally:
        os.environ.update(left)


@contextmanager
def restored_forward(model: nn.Module) -> Iterator[None]:
    """Restore a model's own forward pass when the block ends, also after an error.

    Accelerate replaces it by one in mixed precision, and marks the model as prepared; a later call would then silently
    keep the precision of the first.
    """
    names = ("forward", "_original_forward", "_is_accelerate_prepared")
    before = {name: model.__dict__[name] for name in names if name in model.__dict__}
    try:
        yield
    finally:
        for name in names:
            model.__dict__.pop(name, None)
        model.__dict__.update(before)

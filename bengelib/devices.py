"""Where and how precisely a model computes: Hugging Face Accelerate, set up and taken off again."""

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
"""Variables by which `accelerate launch` would change what is computed, with the values that change nothing."""
_NO_NEGATIVES = (
    "gradients that are added up give contrast no more negatives; for a batch larger than the memory, train with "
    "micro_batch"
)
_OF_LAUNCHERS = ("LOCAL_RANK", "RANK", "WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""Variables by which a launcher says that there are several processes."""


def on_host(values: Tensor) -> bool:
    """Whether a tensor can be looked at without waiting for a device."""
    return values.device.type == "cpu"


def choose_precision(precision: str = "auto") -> str:
    """Resolve `"auto"` to what is fast and safe here; `"no"`, `"bf16"` and `"fp16"` stay.

    A GPU computes in bf16 if it does so natively (Ampere and later), otherwise in fp16 with loss scaling. A CPU
    computes in bf16 only where it has AMX; elsewhere bf16 on a CPU is several times slower than fp32.

    Raises:
        ArgumentError: another word, or fp16 on a CPU, which does not compute in it.
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
    """An accelerator of the given precision, whatever precision an earlier call asked for.

    Without `cpu`, Accelerate would take several processes on CPUs for strangers that train a model each. Variables that
    would change what is computed are not followed, with a warning: the arguments of `fit` say what is computed.

    Raises:
        ArgumentError: another precision, or variables of a launcher without the processes that they speak of.
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
        os.environ.clear()  # Accelerate has completed what it found there
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

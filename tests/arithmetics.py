"""Instruction sets that tests hold a process to, as variables that oneDNN and ATen read when it starts."""

import platform
from collections.abc import Collection, Mapping

import pytest
import torch

AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
SSE41 = {"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default"}
X86 = ("x86_64", "amd64", "i386", "i686")


def impossible(environment: Mapping[str, str]) -> str:
    """Why this computer cannot be held to `environment`; empty if it can.

    oneDNN stays within the processor, but ATen obeys, even where the processor has no such instructions.
    """
    if "ONEDNN_MAX_CPU_ISA" in environment and platform.machine().lower() not in X86:
        return f"{platform.machine()} has none of the instruction sets of x86"
    if environment.get("ATEN_CPU_CAPABILITY") == "avx2" and not torch.cpu._is_avx2_supported():
        return "this processor has no AVX2"
    return ""


def cases(arithmetics: Mapping[str, Mapping[str, str]], quick: Collection[str] | None = None) -> list:
    """Parameters of a test: each environment by its name, skipped where impossible, `slow` unless among the `quick`."""
    return [
        pytest.param(
            environment,
            id=name,
            marks=[pytest.mark.skipif(bool(reason := impossible(environment)), reason=reason or "possible")]
            + [pytest.mark.slow] * (quick is not None and name not in quick),
        )
        for name, environment in arithmetics.items()
    ]

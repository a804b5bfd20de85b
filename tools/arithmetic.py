"""What the numbers of a run depend on beside seeds: instruction set, threads and versions; and how two outputs differ.

    python -m tools.arithmetic

prints the former as JSON. The same seed gives the same bytes where all of it is the same. Elsewhere every sum is
rounded in another order, which training amplifies.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

PACKAGES = ("torch", "numpy", "scikit-learn", "matplotlib")
NUMBER = re.compile(r"[-+]?\d[\d,]*\.?\d*(?:[eE][-+]?\d+)?")
NEAR = 0.1
"""How far a number may move, relative to itself or as it stands, and still pass for rounding amplified by training."""


def arithmetic() -> dict[str, Any]:
    """Of this process: `device`, `instructions` such as `AVX2`, `threads`, and versions of what computes or draws."""
    import torch

    instructions = torch.backends.cpu.get_cpu_capability()
    if torch.cpu._is_amx_tile_supported():
        instructions += " AMX"
    if limit := os.environ.get("ONEDNN_MAX_CPU_ISA"):
        instructions += f" (oneDNN held to {limit})"
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    versions = {name: version(name) for name in PACKAGES}
    return {"device": device, "instructions": instructions, "threads": torch.get_num_threads(), **versions}


def arithmetic_of_kernels() -> dict[str, Any]:
    """The same of a fresh process, as kernels are: this one has not imported torch, or may have set its threads."""
    code = "import json; from bengelib.cores import limit_threads; from tools.arithmetic import arithmetic; "
    code += "limit_threads(); print(json.dumps(arithmetic()))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(shown.stdout)
    return found


def changed(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    """What differs between two arithmetics, in words; empty if nothing does."""
    names = [name for name in {**first, **second} if first.get(name) != second.get(name)]
    return ", ".join(f"{name} {first.get(name, 'unknown')} -> {second.get(name, 'unknown')}" for name in names)


def difference(old: str, new: str) -> str:
    """How two printed texts differ: "" if not at all, "rounding", "numbers", or "words".

    Numbers differ by rounding if each is near its counterpart, see `NEAR`. Words are all that is no number; blanks,
    which tables fill up with, do not count.
    """
    if old == new:
        return ""
    words = [re.sub(r"[\s-]+", " ", NUMBER.sub("#", text)) for text in (old, new)]
    if words[0] != words[1]:
        return "words"
    pairs = zip(_numbers(old), _numbers(new), strict=True)
    return "rounding" if all(abs(a - b) <= NEAR * max(1.0, abs(a)) for a, b in pairs) else "numbers"


def _numbers(text: str) -> list[float]:
    return [float(found.replace(",", "").rstrip(".")) for found in NUMBER.findall(text)]


if __name__ == "__main__":
    argparse.ArgumentParser(description="Print what decides how this computer rounds.").parse_args()
    print(json.dumps(arithmetic(), indent=2))

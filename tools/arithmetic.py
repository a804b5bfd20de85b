"""What the numbers of a run depend on besides seeds: processor, threads and versions; and how two outputs differ.

    python -m tools.arithmetic

prints the former as JSON. The same seed gives the same bytes where all of it is the same. Elsewhere every sum is
rounded in another order, which training amplifies.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tools.links import ROOT

PACKAGES = ("torch", "numpy", "scipy", "pandas", "scikit-learn", "matplotlib")
NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?(?:[eE][-+]?\d+)?")
"""A number in a text. Digits after a letter are part of a word: `B10` and `s2` hold none, nor does `v1.2`."""
NEAR = 0.05
"""How far a decimal may move and pass for rounding amplified by training: as it stands up to 1, above that relative."""


def arithmetic() -> dict[str, Any]:
    """What decides the rounding of this process.

    Returns:
        `device`, `processor`, `instructions` such as `AVX2`, `threads`, and versions of what computes or draws.
    """
    import torch

    from bengelib.cores import device_name

    instructions = torch.backends.cpu.get_cpu_capability()
    if torch.cpu._is_amx_tile_supported():
        instructions += " AMX"
    if limit := os.environ.get("ONEDNN_MAX_CPU_ISA"):
        instructions += f" (oneDNN held to {limit})"
    versions = {name: version(name) for name in PACKAGES}
    return {
        "device": device_name(),
        "processor": processor(),
        "instructions": instructions,
        "threads": torch.get_num_threads(),
        **versions,
    }


def processor() -> str:
    """The processor's name as the system has it, or its family (`arm64`) where the system has no name."""
    if sys.platform == "darwin":
        asked = subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, encoding="utf-8")
        name = asked.stdout.strip()
    elif sys.platform == "linux":
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
        name = found[1].strip() if found else ""
    else:
        name = platform.processor()
    return name or platform.machine()


def arithmetic_of_kernels() -> dict[str, Any]:
    """The same of a fresh process, as kernels are: this one has not imported torch, or may have set its threads."""
    code = "import json; from bengelib.cores import limit_threads; from tools.arithmetic import arithmetic; "
    code += "limit_threads(); print(json.dumps(arithmetic()))"
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, encoding="utf-8", check=True)
    found: dict[str, Any] = json.loads(shown.stdout)
    return found


def changed(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    """What differs between two arithmetics, in words; empty if nothing does.

    What only one of them says is not known to be the same, so it differs.
    """
    names = [name for name in {**first, **second} if first.get(name) != second.get(name)]
    return ", ".join(f"{name} {first.get(name, 'unknown')} -> {second.get(name, 'unknown')}" for name in names)


def difference(old: str, new: str) -> str:
    """How two printed texts differ: "" if not at all, "rounding", "numbers", or "words".

    Numbers differ by rounding if decimals are near their counterparts, see `NEAR`, and whole numbers are equal: what is
    counted, such as patches and classes, does not round. Near is absolute up to 1, so a share, a score or a loss may
    move by 0.05 whatever its size; a gain of 0.01 may become one of -0.03. Words are all that is no number; blanks and
    rules, which tables fill up with, do not count.
    """
    if old == new:
        return ""
    words = [re.sub(r"\s+|-{2,}", " ", NUMBER.sub("#", text)) for text in (old, new)]
    if words[0] != words[1]:
        return "words"
    pairs = zip(NUMBER.findall(old), NUMBER.findall(new), strict=True)
    return "rounding" if all(_is_near(*pair) for pair in pairs) else "numbers"


def _is_near(old: str, new: str) -> bool:
    first, second = (float(text.replace(",", "")) for text in (old, new))
    if not {".", "e", "E"} & {*old, *new}:
        return first == second
    return abs(first - second) <= NEAR * max(1.0, abs(first))


if __name__ == "__main__":
    argparse.ArgumentParser(description="Print what decides how this computer rounds.").parse_args()
    print(json.dumps(arithmetic(), indent=2))

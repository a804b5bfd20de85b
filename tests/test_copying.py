"""A module that is worth copying runs in an empty folder, with the companions that stand here and no others."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "bengelib"
USE = {
    "losses": (["errors"], "print(float(nt_xent(torch.ones(4, 3), torch.ones(4, 3))))", "1.9459"),
    "running": ([], "mean = Mean(); mean.update(torch.tensor([1.0, 3.0])); print(mean.compute())", "2.0"),
    "metrics": ([], "print(accuracy(np.ones(4), np.ones(4), np.ones((1, 4))))", "[1.]"),
    "intervals": (
        ["arguments", "errors", "metrics"],
        "print(bootstrap(np.ones(4), np.ones(4)))",
        "1.000 [1.000, 1.000]",
    ),
    "weighting": (
        ["arguments", "errors"],
        "print(float(FixedWeights({'a': 2})({'a': torch.tensor(3.0)})))",
        "6.0",
    ),
    "heads": (
        ["arguments", "errors"],
        "print(tuple(ClassificationHead(4, 'abc')(torch.ones(2, 4)).shape))",
        "(2, 3)",
    ),
    "views": (
        ["arguments", "errors"],
        "print(tuple(Views(16)({'x': torch.rand(2, 5, 32, 32)}, torch.Generator())['x'].shape))",
        "(2, 5, 16, 16)",
    ),
    "resnet": (
        ["arguments", "errors"],
        "print(tuple(ResNetEncoder(12, width=0.25)(torch.ones(2, 12, 64, 64)).shape))",
        "(2, 128)",
    ),
}


CODE = """
import contextlib, io, json, sys, traceback
import numpy as np, torch

sys.meta_path = [finder for finder in sys.meta_path if "__editable__" not in str(finder)]
for folder, module, use in json.loads(sys.argv[1]):
    sys.path.insert(0, folder)
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        try:
            exec(f"from bengelib.{module} import *\\n{use}", {"np": np, "torch": torch})
        except Exception:
            traceback.print_exc(file=shown)
    loaded = sorted(name for name in sys.modules if name.startswith("bengelib."))
    print(json.dumps([shown.getvalue(), loaded]))
    sys.path.remove(folder)
    for name in (*loaded, "bengelib"):
        del sys.modules[name]
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """What each use shows, and the modules of the package that it loads: each from a folder of its own."""
    jobs = []
    for module, (companions, use, _) in USE.items():
        folder = tmp_path_factory.mktemp(module)
        (folder / "bengelib").mkdir()
        for name in (module, *companions):
            shutil.copy(PACKAGE / f"{name}.py", folder / "bengelib")
        jobs.append([str(folder), module, use])
    done = subprocess.run(
        [sys.executable, "-c", CODE, json.dumps(jobs)], cwd=jobs[0][0], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(USE, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("module", USE)
def test_a_module_runs_where_it_is_copied_to(module, ran):
    companions, _, expected = USE[module]
    shown, loaded = ran[module]
    assert shown.startswith(expected), shown
    assert loaded == sorted(f"bengelib.{name}" for name in (module, *companions))

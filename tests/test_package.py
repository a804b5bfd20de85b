import re
import subprocess
import sys
from pathlib import Path

import pytest

import bengelib

ROOT = Path(__file__).parents[1]
NAMES = ("BENGE", "PackedBENGE", "simulate", "fetch", "pack", "fit", "evaluate", "predict")


def python(code):
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def seconds(code):
    """Processor time of the fastest of three runs: a clock on the wall also counts what else the computer does."""
    return min(float(python(f"{code}\nimport time; print(time.process_time())").splitlines()[-1]) for _ in range(3))


@pytest.mark.parametrize("code", ["import bengelib", "HELP"])
def test_start_takes_less_than_a_third_of_a_second(code):
    assert seconds(HELP if code == "HELP" else code) < 0.3


@pytest.mark.slow
def test_fit_loads_little_more_than_torch():
    assert seconds("from bengelib import fit") < 1.5 * seconds("import torch")


HEAVY = {"PIL", "accelerate", "joblib", "matplotlib", "numpy", "pandas", "rasterio", "scipy", "sklearn", "torch"}
HEAVY |= {"torchmetrics", "torchvision"}
HELP = """from contextlib import suppress
from bengelib.__main__ import main
with suppress(SystemExit):
    main(["--help"])"""


@pytest.mark.parametrize(
    ("code", "needed"),
    [
        ("import bengelib", set()),
        (HELP, set()),
        ("from bengelib import fit", {"torch", "numpy", "pandas"}),
        ("import bengelib.sim.simulate", {"numpy", "scipy"}),
    ],
    ids=["package", "help", "fit", "simulate"],
)
def test_nothing_heavy_is_loaded_that_is_not_needed(code, needed):
    loaded = python(f"{code}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})").splitlines()[-1]
    assert HEAVY & set(loaded.split()) <= needed


def test_a_loss_brings_nothing_but_torch():
    code = "import sys, torch\nbefore = set(sys.modules)\nfrom bengelib.losses import nt_xent\n"
    new = python(code + "print(*set(sys.modules) - before)").split()
    assert {name.partition(".")[0] for name in new} == {"bengelib"}


@pytest.mark.parametrize("name", NAMES)
def test_public_names_are_there_and_can_be_called(name):
    assert name in bengelib.__all__ and name in dir(bengelib)
    assert callable(getattr(bengelib, name)) and callable(getattr(bengelib, name))  # the second time too
    assert getattr(bengelib, name).__doc__


def test_a_function_and_a_module_of_one_name_do_not_take_each_others_place():
    code = """
import sys
for first in (
    "import bengelib.sim.simulate",
    "from bengelib.sim.simulate import simulate",
    "import bengelib; bengelib.simulate",
    "import bengelib.data.loading",  # a module that imports it
):
    exec(f"{first}\\nfrom bengelib import simulate", names := {})
    print(callable(names["simulate"]))
    for name in [name for name in sys.modules if name.partition(".")[0] == "bengelib"]:
        del sys.modules[name]  # as if nothing had been imported
"""
    assert python(code).split() == ["True"] * 4


def test_no_public_name_is_that_of_a_module_or_a_wing():
    assert not set(bengelib.__all__) & {path.stem for path in (ROOT / "bengelib").iterdir()}


def test_every_promised_name_exists_and_nothing_else_is_promised():
    assert set(bengelib.__all__) == set(bengelib._HOMES)
    assert set(NAMES) <= set(bengelib.__all__)
    for name in bengelib.__all__:
        assert getattr(bengelib, name) is not None


def test_unknown_name_is_an_attribute_error_that_lists_the_known_ones():
    with pytest.raises(AttributeError, match="BENGE"):
        _ = bengelib.Benge
    assert not hasattr(bengelib, "nothing")


def test_a_module_that_nobody_imported_is_no_attribute():
    assert python("import bengelib; print(hasattr(bengelib, 'bands'), hasattr(bengelib, 'plot'))") == "False False"
    assert python("from bengelib import bands; import bengelib; print(bengelib.bands is bands)") == "True"


def test_docstrings_begin_with_a_verb_or_a_noun():
    """As in CONTRIBUTING.md: "True if ..." and "Reason why ..." rather than a question."""
    asking = re.compile(r'^ *"""(?:What|Which|Where|How|Whether|Why|Who|When) .*', re.MULTILINE)
    modules = sorted((ROOT / "bengelib").rglob("*.py"))
    assert len(modules) > 100
    assert not [f"{path.name}: {line}" for path in modules for line in asking.findall(path.read_text("utf-8"))]


def test_version_is_a_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+", bengelib.__version__)

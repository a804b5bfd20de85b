"""Imports the `study.py` of a lab, whose folder has a name that no import statement can spell."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]


def load_study(folder: str, script: str = "study.py") -> ModuleType:
    """The module `folder/study.py`, such as that of `"03-ssl"`, or another `script` there."""
    name = f"{script.removesuffix('.py')}_{folder.partition('-')[2]}"
    spec = importlib.util.spec_from_file_location(name, ROOT / folder / script)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module

# @title Setup: run me first
# A clone and Binder have everything. On Colab this installs the package and what is missing, and holds torch at
# the installed version: another one would take minutes and might not fit the driver.
import importlib.util
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

clone = next((folder for folder in Path.cwd().parents if (folder / "bengelib").is_dir()), None)
if clone:
    sys.path.insert(0, str(clone))
elif "google.colab" in sys.modules and not importlib.util.find_spec("bengelib"):
    Path("held.txt").write_text("\n".join(f"{name}=={version(name)}" for name in ("torch", "numpy")))
    package = "bengelib @ git+https://github.com/{{repository}}"
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--constraint", "held.txt", package], check=True)
    importlib.invalidate_caches()

import torch

import bengelib
from bengelib.cores import device_name, limit_threads

limit_threads()  # a container may show more cores than it lets one use
print(f"bengelib {bengelib.__version__}, torch {torch.__version__}, {device_name()}")

"""What the tests share: a small fake tree, the real patches where they are at hand, and quiet, repeatable tools."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("MPLBACKEND", "Agg")  # before anything imports pyplot

import pytest
import sklearn.linear_model  # noqa: F401  # loads every library of linear algebra, so that all can be held to one thread
import torch
from threadpoolctl import threadpool_limits

from tests import posix_only
from tests.fake_tree import write_fake_tree

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as shells start what runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parents[1]
REAL_TREE = ROOT.parent / "shared" / "real" / "ben-ge-real"


def pytest_collection_modifyitems(items):
    for item in items:
        if reason := posix_only.reason(item):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Small tensors gain nothing from threads, and sums repeat bit for bit only with a fixed number of them."""
    torch.set_num_threads(1)
    with threadpool_limits(1):  # NumPy's and scikit-learn's; unlike variables, processes of the tests inherit nothing
        yield


@pytest.fixture(scope="session")
def fake_tree(tmp_path_factory) -> Path:
    """Six patches in the complete ben-ge layout (see `tests.fake_tree`). To be read only: all tests share it."""
    return write_fake_tree(tmp_path_factory.mktemp("data") / "ben-ge-fake")


@pytest.fixture(scope="session")
def real_tree() -> Path:
    """Four real patches that stand beside the checkout; tests of them are skipped elsewhere."""
    if not REAL_TREE.is_dir():
        pytest.skip("the real patches are not beside this checkout")
    return REAL_TREE


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Path:
    """The folder of a wheel and a source distribution, of a copy of the tree, since building leaves files behind."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("bengelib", "tests", "tools"):  # the last two are not for the wheel
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    code = "import sys; from setuptools import build_meta as b; to = sys.argv[1]; b.build_wheel(to); b.build_sdist(to)"
    done = subprocess.run([sys.executable, "-c", code, str(target)], cwd=source, capture_output=True, encoding="utf-8")
    assert done.returncode == 0 and len([*target.iterdir()]) == 2, done.stdout + done.stderr
    return target


@pytest.fixture
def offline(monkeypatch, tmp_path) -> None:
    """A network in which no name can be looked up; torch's downloads go to `tmp_path`."""

    def no_such_host(*_, **__):
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for variable in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", no_such_host)

"""Random disks, leftovers, names and manifests: the right samples come, or a typed error; what others wrote is kept."""

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unicodedata
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bengelib import files
from bengelib.data.dataset import BENGE
from bengelib.data.loading import is_simulated, load
from bengelib.errors import BengeError, DataWarning
from bengelib.files import sweep, work_folder
from bengelib.sim.simulate import simulate
from tests import fake_tree as fake
from tools.run_labs import dataset_knob

MANY = 200


def holds(few: int, *examples: dict[str, Any], **strategies: Any) -> Callable[[Callable[..., None]], Any]:
    """Make a test of a property: with few examples, and with many among the slow tests."""

    def decorate(check: Callable[..., None]) -> Any:
        tried: Any = given(**strategies)(check)
        for values in examples:
            tried = example(**values)(tried)
        quiet = {"deadline": None, "derandomize": True, "database": None, "suppress_health_check": list(HealthCheck)}

        @pytest.mark.parametrize("examples", [few, pytest.param(MANY, marks=pytest.mark.slow)])
        def test(examples: int) -> None:
            settings(max_examples=examples, **quiet)(tried)()

        test.__doc__ = check.__doc__
        return test

    return decorate


@pytest.fixture(scope="module", autouse=True)
def work(tmp_path_factory):
    """A folder with one tree, and its pack, that every example copies; the examples work below it."""
    root = tmp_path_factory.mktemp("damage")
    tree = fake.write_fake_tree(root / "tree")
    (root / "data").mkdir()
    with pytest.MonkeyPatch.context() as change:
        change.chdir(root)
        change.delenv("BENGE_DATA", raising=False)
        change.setattr(sys.modules[__name__], "TREE", tree, raising=False)
        yield root


TREE = Path()


class Place:
    """A folder for one example, with a `data` folder, which is the current one meanwhile."""

    def __enter__(self) -> Path:
        self.before, self.folder = Path.cwd(), Path(tempfile.mkdtemp(dir=TREE.parent))
        (self.folder / "data").mkdir()
        os.chdir(self.folder)
        return self.folder

    def __exit__(self, *_: object) -> None:
        os.chdir(self.before)
        shutil.rmtree(self.folder)


def named(folder: Path, name: str) -> Path:
    """A copy of the tree under another name, its tables too."""
    root = folder / name
    root.mkdir(parents=True)
    for path in TREE.iterdir():
        if path.is_dir() and path.name != "splits":
            (root / path.name).symlink_to(path)
    (root / "splits").mkdir()
    for path in TREE.glob("**/*.csv"):
        place = root / path.relative_to(TREE)
        shutil.copyfile(path, place.with_name(path.name.replace("tree", name)))
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.glob("*.csv")}


# ---------------------------------------------------------------------------------------------------------------- disks

PROTECT = {"fcntl.flock", "os.chmod", "os.fsync", "os.utime", "os.replace", "shutil.disk_usage", "os.statvfs"}
"""Calls that only protect: the work goes on without them, whatever they answer."""
WORK = {"os.mkdir", "os.rename", "os.unlink", "os.rmdir", "shutil.copyfile", "numpy.save"}
CODES = ("EPERM", "EACCES", "EROFS", "ENOSYS", "EOPNOTSUPP", "ENOLCK", "EINVAL", "EBUSY", "EXDEV", "EAGAIN", "ESTALE")


def ill(call: str, code: str, after: int) -> Any:
    """The call, which fails for good after having worked so often."""
    module, _, name = call.rpartition(".")
    whole, number = getattr(sys.modules[module], name), getattr(errno, code)
    left = [after]

    def refuse(*arguments: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(number, os.strerror(number), str(arguments[0]))
        return whole(*arguments, **options)

    return patch(call, side_effect=refuse)


@pytest.mark.skipif(sys.platform == "win32", reason="other locks there")
class TestDisks:
    @staticmethod
    def refused(calls: dict[str, tuple[str, int]], make: Callable[[], Any]) -> Any:
        """What `make` gives or raises on a disk that refuses these calls."""
        with ExitStack() as stack, warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)
            for call, (code, after) in calls.items():
                stack.enter_context(ill(call, code, after))
            try:
                return make()
            except BengeError as error:
                return error

    @staticmethod
    @holds(
        12,
        {"protect": {"fcntl.flock": ("ENOSYS", 0), "os.chmod": ("EPERM", 0)}, "work": {}, "lock": True},
        {"protect": {}, "work": {"os.mkdir": ("EROFS", 0)}, "lock": False},
        {"protect": {"fcntl.flock": ("EPERM", 0)}, "work": {"os.mkdir": ("EPERM", 0)}, "lock": False},
        protect=st.dictionaries(st.sampled_from(sorted(PROTECT)), st.tuples(st.sampled_from(CODES), st.integers(0, 2))),
        work=st.dictionaries(
            st.sampled_from(sorted(WORK)), st.tuples(st.sampled_from(CODES), st.integers(0, 12)), max_size=1
        ),
        lock=st.booleans(),
    )
    def test_load(protect, work, lock):
        """A pack is written whatever only protects; what stops the work is a typed error, after which it goes on."""
        with Place() as place:
            root = named(place / "data", "mine")
            before = contents(root)
            if lock:
                (root / ".packed.lock").touch()
            found = TestDisks.refused({**protect, **work}, lambda: load("mine", progress=False))
            if not work:
                assert not isinstance(found, Exception), found
            again = load("mine", progress=False)
            assert again.patch_ids == BENGE(root).patch_ids
            assert contents(root) == before
            if not set(work) & {"os.unlink", "os.rmdir"}:
                assert not [path for path in place.rglob(".*") if path.name.endswith(".lock")]

    @staticmethod
    @holds(
        12,
        protect=st.dictionaries(st.sampled_from(sorted(PROTECT)), st.tuples(st.sampled_from(CODES), st.integers(0, 2))),
        work=st.dictionaries(
            st.sampled_from(["os.mkdir", "os.rename", "os.unlink", "os.rmdir"]),
            st.tuples(st.sampled_from(CODES), st.integers(0, 6)),
            max_size=1,
        ),
    )
    def test_simulate(protect, work):
        """A tree is complete or not there, and a call that may work leaves nothing of one that could not."""

        def write(folder: Path, name: str, settings: dict[str, Any], *_: object) -> None:
            (folder / "dem").mkdir()
            (folder / "simulation.json").write_text(json.dumps({"simulated": True, **settings, "complete": True}))

        with Place() as place, patch.object(sys.modules["bengelib.sim.simulate"], "_write", write):
            made = TestDisks.refused({**protect, **work}, lambda: simulate(place / "new" / "y", 3, progress=False))
            if not work:
                assert not isinstance(made, Exception), made
            assert simulate(place / "new" / "y", 3, progress=False) == place / "new" / "y"
            if not set(work) & {"os.unlink", "os.rmdir"}:  # else what was made to try the disk cannot be removed
                assert [path.name for path in (place / "new").iterdir()] == ["y"]
            assert not list((place / "new").glob(".y.partial-*"))


# ------------------------------------------------------------------------------------------------------------ leftovers


def _ended() -> int:
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    return process.pid


ENDED = _ended()
LETTERS = "abcdefgh0123456789-_. "


@holds(
    40,
    suffixes=st.lists(st.text(LETTERS, max_size=20), max_size=4),
    inside=st.lists(st.sampled_from(["dem", "README", "thesis.txt", "notes"]), max_size=3, unique=True),
    dead=st.integers(0, 3),
    alive=st.integers(0, 2),
    locks=st.booleans(),
)
def test_leftovers(suffixes, inside, dead, alive, locks):
    """What killed calls left is gone after the next, and nothing else is."""
    ours = ("dem", "README").__contains__
    with Place() as place, ExitStack() as stack:
        if not locks:
            stack.enter_context(ill("fcntl.flock", "ENOLCK", 0))
        target = place / "y"
        left = [place / f".y.partial-{files._machine()}-{ENDED}-{number:08x}" for number in range(dead)]
        foreign = [place / f".y.partial-{suffix}" for suffix in {suffix.strip() + "x" for suffix in suffixes}]
        for folder in (*left, *foreign):
            folder.mkdir()
            for name in inside:
                (folder / name).touch()
        at_work = [stack.enter_context(work_folder(target, ours)) for _ in range(alive)]
        sweep(target, ours)
        assert not any(folder.exists() for folder in left)
        assert all(folder.is_dir() for folder in at_work)
        if not all(map(ours, inside)) or not locks:
            assert all({path.name for path in folder.iterdir()} == set(inside) for folder in foreign)


# ----------------------------------------------------------------------------------------------------- names, manifests

NAMES = st.text(
    st.characters(exclude_categories=("Cs", "Cc", "Cn"), exclude_characters="/\0~\u2028\u2029"), min_size=1, max_size=12
).filter(lambda name: set(name) - set(".") and not name.startswith(("ben-ge", "tree")) and name == name.strip())


@holds(15, {"name": "Forêt", "form": "NFD", "link": True}, {"name": "a [x]*#%20;'\"", "form": "NFC", "link": False},
       name=NAMES, form=st.sampled_from(["NFC", "NFD"]), link=st.booleans())  # fmt: skip
def test_names(name, form, link):
    """A dataset is found by its name in every form of its accents, directly and by a link, and is always the same."""
    with Place() as place:
        stored = unicodedata.normalize(form, name)
        root = named(place / "elsewhere" if link else place / "data", stored)
        if link:
            root = root.rename(root.with_name("other"))
            (place / "data" / stored).symlink_to(root)
        for other in ("NFC", "NFD"):
            asked = unicodedata.normalize(other, name)
            data = BENGE(f"data/{asked}", "train", ("season",), ())
            assert data.patch_ids == BENGE(TREE, "train", ("season",), ()).patch_ids
            assert not is_simulated(asked)
            assert os.path.samefile(dataset_knob(f"data/{asked}", [place]), root)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["schema", "name", "files", "simulated", "arrays"]) | st.text(), inner, max_size=4
        )
    ),
    max_leaves=6,
)


@holds(10, {"manifest": {"schema": 1}, "marker": {"simulated": 1}, "cut": 0},
       manifest=JSON, marker=JSON, cut=st.integers(0, 3))  # fmt: skip
def test_manifests_and_markers_of_other_tools(manifest, marker, cut):
    """Whatever other programs wrote under these names, the tree is read as it is, and simulated only if it says so."""
    with Place() as place:
        root = named(place / "data", "mine")
        texts = {"manifest.json": json.dumps(manifest)[cut:], "simulation.json": json.dumps(marker)}
        for name, text in texts.items():
            (root / name).write_text(text)
        data = load("mine", "train", progress=False)
        assert data.folder == root / "packed"
        assert data.patch_ids == BENGE(root, "train").patch_ids
        said = isinstance(marker, dict) and marker.get("simulated") is True
        assert data.simulated == BENGE(root).simulated == is_simulated("mine") == said
        assert {name: (root / name).read_text() for name in texts} == texts

"""Checkpoints of interrupted trainings: the complete state of a training, in files that are never half written.

A checkpoint holds weights, optimiser, schedule, task weights, random states, the position in the epoch, the best epoch
and the history, so a resumed training ends as if it had never stopped, on a CPU bit for bit. (Datasets that
change their samples at random are an exception: use `augment`, whose state is kept.) It is written beside
the older ones and then renamed. It is read as numbers and text only, so reading never runs code. A checksum detects
damage by the disk.
"""

import io
import random
import re
import signal
import threading
import time
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from types import FunctionType, MethodType, ModuleType
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from bengelib.arguments import real_number
from bengelib.data.batches import Batch, read_samples
from bengelib.errors import BengeError, CheckpointError, DataWarning
from bengelib.files import absolute, discard, flush, put_in_place, writing
from bengelib.processes import count_processes, everyone

if TYPE_CHECKING:
    from accelerate import Accelerator

FORMAT = "bengelib-training-1"
KEPT = 2
"""Number of checkpoints kept in a folder: if the last one is damaged, the one before is used."""
_NAME = re.compile(r"step-\d{9}\.pt")
_OWN = ("monitor", "views")
"""Parts that differ between processes."""
_SAMPLES = 8
"""Number of samples by which datasets are compared."""
_DEEPEST = 10
"""Maximum nesting of objects in a description."""


class Checkpoints:
    """The checkpoints of one training; without a folder, nothing is kept and every method returns at once."""

    def __init__(self, folder: str | Path | None, every: float, accelerator: "Accelerator", **settings: Any) -> None:
        """Keep checkpoints in `folder`, one every `every` seconds.

        Args:
            folder: for this training alone; it is created.
            every: seconds between two checkpoints.
            accelerator: of the training.
            **settings: all that the training depends on, such as model, datasets and learning rate; see `describe`.

        Raises:
            ArgumentError: `every` is not a number of seconds.
            DiskError: the folder cannot be written to.
        """
        real_number("checkpoint_every", every, least=0)
        self.folder, self.every, self.accelerator = None if folder is None else absolute(folder), every, accelerator
        self._parts: dict[str, Any] = {}
        self._random: dict[str, Any] | None = None  # to restore when the first batch has been loaded
        self._interrupted = False
        self._settings: dict[str, Any] = {}
        if self.folder is not None:
            with writing(self.folder, "start again"):
                self.folder.mkdir(parents=True, exist_ok=True)
            processes = {"processes": count_processes(), "device": accelerator.device.type}
            self._settings = flatten(describe({**settings, **processes, "precision": accelerator.mixed_precision}))
        self._written = time.monotonic()

    def restore(self, **parts: Any) -> None:
        """Restore the parts of a training from the last checkpoint, if there is one, and include them in later ones.

        Args:
            **parts: objects with `state_dict` and `load_state_dict`, and torch's generators; among them `order`, for
                the samples of an epoch, and `monitor`, which counts the steps.

        Raises:
            CheckpointError: the checkpoint has other settings, data, devices, processes or another format, or none in
                the folder can be read.
        """
        if self.folder is None:
            return
        self._parts, self._order = parts, parts["order"].get_state()
        found = self._newest(self.folder)
        steps = everyone(0 if found is None else found["step"])
        if len(set(steps)) > 1:
            raise CheckpointError(
                f"the processes find checkpoints of different steps, {steps}, in {self.folder}; give a folder on a "
                "disk that all of them share"
            )
        if found is None:
            return
        own = found["processes"][self.accelerator.process_index]
        for name, part in parts.items():
            state = own[name] if name in own else found[name]
            if isinstance(part, torch.Generator):
                part.set_state(state)
            else:
                part.load_state_dict(_to_device(state, self.accelerator.device) if name == "weighting" else state)
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(found["scaler"])
        self._random = own["random"]

    def rest(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches of an epoch, or the remaining ones after a checkpoint; their order is drawn at the beginning."""
        if self._parts:
            self._order = self._parts["order"].get_state()
        for batch in batches:
            self._put_random_states_back()
            yield batch
        self._put_random_states_back()

    def after_step(self) -> None:
        """Write a checkpoint if one is due; several processes agree on that in the steps of the monitor.

        Raises:
            KeyboardInterrupt: the training was interrupted; a checkpoint is written first.
        """
        monitor = self._parts.get("monitor")
        if monitor is None or (count_processes() > 1 and monitor.steps % monitor.every):
            return
        wishes = everyone((time.monotonic() - self._written >= self.every, self._interrupted))
        interrupted = any(wish for _, wish in wishes)
        if interrupted or wishes[0][0]:
            self.write()
        if interrupted:
            raise KeyboardInterrupt(
                f"a checkpoint of step {monitor.steps} is in {self.folder}; start again to continue"
            )

    def write(self) -> None:
        """Write a checkpoint now and remove old ones; if the disk refuses it, warn and continue."""
        if self.folder is None:
            return
        states = {name: _state_of(part) for name, part in self._parts.items()}
        own = {name: states.pop(name) for name in _OWN}
        processes = everyone({**own, "random": _random_states(self.accelerator.device)})
        if self.accelerator.is_main_process:
            step, scaler = self._parts["monitor"].steps, self.accelerator.scaler
            content = {**states, "order": self._order, "scaler": scaler and scaler.state_dict(), "processes": processes}
            self._put(self.folder, step, {**content, "format": FORMAT, "settings": self._settings, "step": step})
        self._written = time.monotonic()

    def _put(self, folder: Path, step: int, content: Mapping[str, Any]) -> None:
        path = folder / f"step-{step:09}.pt"
        part = path.with_name(f"{path.name}.part")
        try:
            with writing(folder, "later ones are written again"):
                write_checked(part, content)
                flush(part)
                put_in_place(part, path)
        except (BengeError, RuntimeError) as error:
            discard(part)
            warnings.warn(f"no checkpoint of step {step}: {error} The training continues.", DataWarning, stacklevel=5)
            return
        for old in [*_checkpoints(folder)[KEPT:], *folder.glob("step-*.pt.part")]:
            discard(old)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Delay an interrupt until the end of the step, when a checkpoint can be written; a second one acts at once.

        Raises:
            KeyboardInterrupt: the interrupt came after the last step.
        """
        before = signal.getsignal(signal.SIGINT)
        if self.folder is None or threading.current_thread() is not threading.main_thread() or not callable(before):
            yield
            return

        def note(number: int, frame: Any) -> None:
            if self._interrupted:
                raise KeyboardInterrupt
            self._interrupted = True

        signal.signal(signal.SIGINT, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
        if self._interrupted:
            raise KeyboardInterrupt(f"the training is complete, its last checkpoint in {self.folder}")

    def _newest(self, folder: Path) -> dict[str, Any] | None:
        """The last readable checkpoint, None if there is none; see `restore` for the errors."""
        files = _checkpoints(folder)
        for path in files:
            try:
                found = read_checked(path)
            except (RuntimeError, OSError, EOFError, ValueError, UnpicklingError) as error:
                cause = str(error).splitlines()[0] if str(error) else type(error).__name__
                warnings.warn(f"{path} cannot be read ({cause}); trying the one before", DataWarning, stacklevel=4)
                continue
            if not isinstance(found, dict) or found.get("format") != FORMAT:
                words = found.get("format") if isinstance(found, dict) else type(found).__name__
                raise CheckpointError(f"{path} is not of the format {FORMAT} but {words!r}; give another folder")
            self._compare(path, found["settings"])
            return found
        if files:
            raise CheckpointError(
                f"none of the {len(files)} checkpoints in {folder} can be read; delete them to start again"
            )
        return None

    def _compare(self, path: Path, there: Mapping[str, Any]) -> None:
        names = sorted(there.keys() | self._settings.keys())
        other = [name for name in names if repr(there.get(name)) != repr(self._settings.get(name))]
        if other:
            words = [f"{name} is {self._settings.get(name)!r}, there it was {there.get(name)!r}" for name in other[:3]]
            more = f" (and {len(other) - 3} more)" if len(other) > 3 else ""
            raise CheckpointError(
                f"{path} is of another training: {'; '.join(words)}{more}. Give the same settings and data to "
                "continue, or another folder to start again."
            )

    def _put_random_states_back(self) -> None:
        if self._random is not None:
            _set_random_states(self._random, self.accelerator.device)
            self._random = None


def _checkpoints(folder: Path) -> list[Path]:
    """Checkpoints in a folder, the newest first."""
    return sorted((path for path in folder.iterdir() if _NAME.fullmatch(path.name)), reverse=True)


class _Summed:
    """A file, and the CRC-32 of everything written to it."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.sum = file, 0

    def write(self, data: bytes) -> int:
        self.sum = zlib.crc32(data, self.sum)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


def write_checked(path: Path, content: Mapping[str, Any]) -> None:
    """Write tensors, numbers and text in dicts and lists, followed by a checksum of eight digits."""
    with path.open("wb") as file:
        summed = _Summed(file)
        torch.save(content, summed)  # type: ignore[arg-type]
        file.write(f"{summed.sum:08x}".encode())


def read_checked(path: Path) -> Any:
    """Read a file of `write_checked`; no code in it is run.

    Raises:
        ValueError: the file is truncated or damaged.
        UnpicklingError: the file holds more than tensors, numbers and text.
    """
    content = path.read_bytes()
    if f"{zlib.crc32(memoryview(content)[:-8]):08x}".encode() != content[-8:]:
        raise ValueError("it is cut or damaged")
    return torch.load(io.BytesIO(memoryview(content)[:-8]), map_location="cpu", weights_only=True)


def _state_of(part: Any) -> Any:
    return part.get_state() if isinstance(part, torch.Generator) else part.state_dict()


def _to_device(state: Any, device: torch.device) -> Any:
    from accelerate.utils import send_to_device

    return send_to_device(state, device)


def _random_states(device: torch.device) -> dict[str, Any]:
    """States of the global random number generators of Python, NumPy and torch."""
    numpy: Any = np.random.get_state(legacy=False)
    numpy["state"]["key"] = torch.from_numpy(numpy["state"]["key"].astype(np.int64))
    states = {"python": random.getstate(), "numpy": numpy, "torch": torch.get_rng_state()}
    if device.type != "cpu":
        states["device"] = torch.get_device_module(device).get_rng_state()
    return states


def _set_random_states(states: Mapping[str, Any], device: torch.device) -> None:
    random.setstate(states["python"])
    inner = states["numpy"]["state"]
    np.random.set_state({**states["numpy"], "state": {**inner, "key": inner["key"].numpy().astype(np.uint32)}})
    torch.set_rng_state(states["torch"])
    if "device" in states:
        torch.get_device_module(device).set_rng_state(states["device"])


# -------------------------------------------------------------------------------------- description of a training


def describe(value: Any, above: tuple[int, ...] = ()) -> Any:
    """Names, numbers and hashes of arrays, in nested dicts, that distinguish a value from one of other settings.

    For a model: its classes, settings, and the shapes of its weights; for a dataset: its length, and a hash of some
    samples. Code is not compared.

    Args:
        value: any object.
        above: identities of the objects that contain it.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if _is_array(value):
        return f"{value.dtype} {tuple(value.shape)} {_hash(value):08x}"
    name = f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__qualname__)}"
    if id(value) in above or len(above) == _DEEPEST or isinstance(value, (type, ModuleType)):
        return name
    deeper = partial(describe, above=(*above, id(value)))
    if isinstance(value, Mapping):
        return {str(key): deeper(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return {str(place): deeper(each) for place, each in enumerate(value)}
    if isinstance(value, Dataset):
        return {"is": name, "samples": len(value), "content": _content(value)}  # type: ignore[arg-type]
    if isinstance(value, nn.Module):
        shapes = {
            key: f"{each.dtype} {tuple(each.shape)}" for key, each in value.state_dict().items() if _is_array(each)
        }
        parts = {key: {"is": type(each).__qualname__, **deeper(_public(each))} for key, each in value.named_modules()}
        return {"weights": shapes, "parts": parts}
    if isinstance(value, partial):
        return {"is": "partial", "of": deeper(value.func), "args": deeper(value.args), **deeper(value.keywords)}
    if isinstance(value, MethodType):
        return {"is": name, "of": deeper(value.__self__)}
    if isinstance(value, FunctionType):  # its closure; lists and dicts may be working memory
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        return {
            "is": name,
            **deeper({str(n): each for n, each in enumerate(cells) if not isinstance(each, (list, dict))}),
        }
    return {"is": name, **deeper(_public(value))}


def flatten(tree: Any, path: str = "") -> dict[str, Any]:
    """The leaves of nested dicts, by names such as `"trainer.lr"`."""
    if not isinstance(tree, Mapping):
        return {path: tree}
    leaves: dict[str, Any] = {}
    for key, each in tree.items():
        leaves |= flatten(each, f"{path}.{key}" if path else key)
    return leaves


def _is_array(value: Any) -> bool:
    return isinstance(value, (Tensor, np.ndarray))


def _public(value: Any) -> dict[str, Any]:
    """The public attributes of an object; for a module, without those that training changes."""
    public = {key: each for key, each in getattr(value, "__dict__", {}).items() if not key.startswith("_")}
    if isinstance(value, nn.Module):
        public = {key: each for key, each in public.items() if key != "training" and not _is_array(each)}
    return public


def _content(data: Dataset[Any]) -> str | None:
    """A hash of some stored samples, None if they differ each time."""
    size = len(data)  # type: ignore[arg-type]
    positions = sorted({round(place) for place in np.linspace(0, size - 1, _SAMPLES).tolist()}) if size else []
    cpu = torch.device("cpu")
    before = _random_states(cpu)
    first, again = ({key: _hash(value) for key, value in read_samples(data, positions).items()} for _ in range(2))
    _set_random_states(before, cpu)
    return f"{_hash(sorted(first.items())):08x}" if first == again else None


def _hash(value: Any) -> int:
    """CRC-32 of the bytes of an array, or of the text of anything else."""
    if isinstance(value, Tensor):
        value = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return zlib.crc32(np.ascontiguousarray(value).data if isinstance(value, np.ndarray) else repr(value).encode())

import json
import os
import pickle
import random
import signal
import threading
import time
import warnings
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, Subset

from bengelib import resume
from bengelib.engine import Trainer
from bengelib.errors import ArgumentError, CheckpointError, DataWarning, DiskError
from bengelib.heads import ClassificationHead, Network, RegressionHead
from bengelib.methods import METHODS
from bengelib.recipes.finetuning import AveragedNetwork
from bengelib.resume import describe, flatten
from bengelib.views import TwoViews, Views, pair_modalities
from tests.forked import finish, start
from tests.resumed_runs import TASKS, WEIGHTINGS, Changes, Encoder, Scenes, child, one_of_two, same, train_tasks

STEPS = 18


class Cut(Exception):
    pass


def cut_at(*steps):
    def happens(step):
        if step in steps:
            raise Cut

    return Changes(happens)


def checkpoints(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def uninterrupted():
    return {name: train_tasks(weighting=name) for name in WEIGHTINGS}


# ------------------------------------------------------------------------------------------------------ cut off, go on


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_a_training_that_is_cut_off_ends_as_if_it_had_not_been(weighting, uninterrupted, tmp_path):
    """In the middle of an epoch, at its end, before the first checkpoint, and in two steps that follow each other."""
    for at in (0, 3, 5, 1, 0, 4):
        with pytest.raises(Cut):
            train_tasks(tmp_path, weighting, cut_at(at))
        random.random(), np.random.rand(), torch.rand(3)  # what happens between must not matter
    assert checkpoints(tmp_path)[-1] == "step-000000013.pt"
    assert same(train_tasks(tmp_path, weighting), uninterrupted[weighting])


def test_the_running_average_of_fine_tuning_goes_on_too(tmp_path):
    def model():
        torch.manual_seed(0)
        heads = {"kind": ClassificationHead(6, "abc"), "size": RegressionHead(6, 0.0, 1.0)}
        return AveragedNetwork(Network(Encoder(), heads), 0.9)

    expected = train_tasks(model=model(), weighting="equal")
    for at in (4, 9):
        with pytest.raises(Cut):
            train_tasks(tmp_path, "equal", cut_at(at), model=model())
    assert same(train_tasks(tmp_path, "equal", model=model()), expected)


def test_checkpoints_change_nothing_and_two_are_kept(uninterrupted, tmp_path):
    (tmp_path / "step-000000007.pt.part").write_bytes(b"of a killed process")
    assert same(train_tasks(tmp_path), uninterrupted["gradnorm"])
    assert checkpoints(tmp_path) == ["step-000000017.pt", "step-000000018.pt"]


def test_a_complete_training_is_not_made_again(uninterrupted, tmp_path):
    train_tasks(tmp_path)
    assert same(train_tasks(tmp_path, augment=cut_at(0)), uninterrupted["gradnorm"])


def test_it_goes_on_in_the_validation(uninterrupted, tmp_path):
    class Fails(Scenes):
        def __getitem__(self, index):
            if failing and index == 5:
                raise Cut
            return super().__getitem__(index)

    failing = []
    options = {"val": Fails(9, seed=1)}
    begun = cut_at(7)
    with pytest.raises(Cut):
        train_tasks(tmp_path, augment=begun, **options)
    with pytest.raises(Cut):
        train_tasks(tmp_path, augment=Changes(lambda step: failing.append(step) if step == 4 else None), **options)
    assert checkpoints(tmp_path)[-1] == "step-000000012.pt"
    failing.clear()
    assert same(train_tasks(tmp_path, **options), uninterrupted["gradnorm"])


def test_a_checkpoint_is_written_every_so_many_seconds(tmp_path, monkeypatch):
    seconds = iter(range(0, 100_000, 100))
    monkeypatch.setattr(resume.time, "monotonic", lambda: next(seconds))
    written = []
    monkeypatch.setattr(resume, "put_in_place", lambda part, path: written.append(int(path.stem[-9:])))
    train_tasks(tmp_path, checkpoint_every=600)
    assert written == [6, 12, 18, 18]  # the clock is looked at each step and after each checkpoint; then the end


def kill_until_done(folder, case, pause):
    """Start a process again and again and kill it each time after `pause()` seconds; how often that was."""
    kills = 0
    while True:
        (process,) = start(child, folder / "checkpoints", case, folder / "result.pt")
        process.join(timeout=pause())
        if process.exitcode is not None:
            assert process.exitcode == 0
            return kills
        process.kill()
        process.join()
        kills += 1


def of_a_child(folder, case):
    folder.mkdir()
    began = time.monotonic()
    kill_until_done(folder, case, lambda: None)
    return torch.load(folder / "result.pt"), time.monotonic() - began


def test_a_training_that_is_killed_twice_ends_with_the_same_bytes(tmp_path):
    expected, _ = of_a_child(tmp_path / "whole", "simclr")  # also waits for the imports of the server of processes
    (tmp_path / "killed").mkdir()
    steps = iter((3, 8))

    def until_next_kill():
        """Wait for a number of checkpoints, then for a moment more: it is killed at work on the next one."""
        wanted, began = next(steps, None), time.monotonic()
        if wanted is None:
            return None
        path = tmp_path / "killed" / "checkpoints" / f"step-{wanted:09}.pt"
        while not path.exists() and time.monotonic() < began + 60:
            time.sleep(0.002)
        return 0.01

    assert kill_until_done(tmp_path / "killed", "simclr", until_next_kill) == 2
    assert same(torch.load(tmp_path / "killed" / "result.pt"), expected)


@pytest.mark.slow
@pytest.mark.parametrize("case", [*METHODS, *WEIGHTINGS])
def test_twenty_random_moments(case, tmp_path):
    """Every moment is as likely, also that of writing, of reading, of the imports and of the validation."""
    expected, seconds = of_a_child(tmp_path / "whole", case)
    expected, seconds = of_a_child(tmp_path / "again", case)
    kills, moments = 0, random.Random(case)
    for trial in range(100):
        folder = tmp_path / f"trial {trial}"
        folder.mkdir()
        kills += kill_until_done(folder, case, lambda: moments.uniform(0, seconds))
        assert same(torch.load(folder / "result.pt"), expected)
        assert not list((folder / "checkpoints").glob("*.part"))
        if kills >= 20:
            return
    raise AssertionError(f"only {kills} kills in 100 trainings")


# ---------------------------------------------------------------------------------------------------------- interrupts


def test_an_interrupt_writes_a_checkpoint_and_the_same_call_goes_on(uninterrupted, tmp_path):
    """As the stop button of a notebook does it; the model is the one that was half trained."""
    seen = []

    def happens(step):
        seen.append(step)
        if step == 7:
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match="a checkpoint of step 8"):
        train_tasks(tmp_path, augment=Changes(happens), checkpoint_every=600)
    assert seen == list(range(8)) and checkpoints(tmp_path) == ["step-000000008.pt"]
    assert signal.getsignal(signal.SIGINT) is before
    assert same(train_tasks(tmp_path, augment=Changes(seen.append), checkpoint_every=600), uninterrupted["gradnorm"])
    assert len(seen) == STEPS


def test_a_second_interrupt_does_not_wait(tmp_path):
    def happens(step):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train_tasks(tmp_path, augment=Changes(happens), checkpoint_every=600)
    assert checkpoints(tmp_path) == []


def test_without_checkpoints_and_in_other_threads_interrupts_are_left_alone(tmp_path):
    handlers = []
    note = Changes(lambda step: handlers.append(signal.getsignal(signal.SIGINT)))
    before = signal.getsignal(signal.SIGINT)
    train_tasks(augment=note, epochs=1)
    thread = threading.Thread(target=partial(train_tasks, tmp_path, augment=note, epochs=1))
    thread.start()
    thread.join()
    assert handlers == 12 * [before] and checkpoints(tmp_path)


# ----------------------------------------------------------------------------------------------------------- bad input


def write_some(folder):
    with pytest.raises(Cut):
        train_tasks(folder, augment=cut_at(4))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lr": 2e-2}, r"lr is 0\.02, there it was 0\.01"),
        ({"epochs": 4}, "epochs is 4, there it was 3"),
        ({"batch_size": 5}, "batch_size is 5"),
        ({"seed": 1}, "seed is 1"),
        ({"warmup": 0.2}, r"trainer\.warmup is 0\.2, there it was 0\.1"),
        ({"weighting": "pcgrad"}, r"weighting\.parts"),
        ({"val": Scenes(10, seed=1)}, r"val\.samples is 10, there it was 9"),
        ({"train": Scenes(22, seed=5)}, r"train\.content"),
        ({"train": Subset(Scenes(), list(range(22))[::-1])}, r"train\.content"),
        ({"augment": Views(24)}, r"augment\."),
        ({"monitor": "kind/accuracy"}, r"trainer\.monitor"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused_naming_the_difference(options, words, tmp_path):
    write_some(tmp_path)
    with pytest.raises(CheckpointError, match=rf"{words}.*another folder") as error:
        train_tasks(tmp_path, **options)
    assert "step-000000004.pt" in str(error.value)


def test_a_checkpoint_of_another_model_or_number_of_processes_is_refused(tmp_path, monkeypatch):
    write_some(tmp_path)
    other = Network(Encoder(), {})
    with pytest.raises(CheckpointError, match=r"model\."):
        train_tasks(tmp_path, model=other)
    monkeypatch.setattr(resume, "count_processes", lambda: 2)
    with pytest.raises(CheckpointError, match="processes is 2, there it was 1"):
        train_tasks(tmp_path)


def test_what_changes_no_number_may_change(uninterrupted, tmp_path):
    write_some(tmp_path)
    assert same(train_tasks(tmp_path, workers=1, checkpoint_every=1000), uninterrupted["gradnorm"])


def test_a_checkpoint_with_one_wrong_byte_is_passed_over(uninterrupted, tmp_path):
    write_some(tmp_path)
    last = tmp_path / "step-000000004.pt"
    content = bytearray(last.read_bytes())
    content[len(content) // 3] ^= 1
    last.write_bytes(content)
    with pytest.warns(DataWarning, match=r"step-000000004.pt cannot be read \(it is cut or damaged\)"):
        assert same(train_tasks(tmp_path), uninterrupted["gradnorm"])


def test_a_checkpoint_that_is_cut_is_passed_over_for_the_one_before(uninterrupted, tmp_path):
    write_some(tmp_path)
    last = tmp_path / "step-000000004.pt"
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.warns(DataWarning, match=r"step-000000004.pt cannot be read.*the one before"):
        assert same(train_tasks(tmp_path), uninterrupted["gradnorm"])


@pytest.mark.parametrize("content", [b"", b"00000000", b"PK\x03\x04", b"nonsense" * 100, "cut"])
def test_where_none_can_be_read_the_folder_is_named(content, tmp_path):
    write_some(tmp_path)
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:-100] if content == "cut" else content)
    with warnings.catch_warnings(), pytest.raises(CheckpointError, match="none of the 2 checkpoints in"):
        warnings.simplefilter("ignore", DataWarning)
        train_tasks(tmp_path)


def test_an_empty_folder_is_begun_in_and_other_files_are_left_alone(uninterrupted, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "step-1.pt").write_text("mine too")
    assert same(train_tasks(tmp_path), uninterrupted["gradnorm"])
    assert {"notes.txt", "step-1.pt"} < set(checkpoints(tmp_path))


def test_another_format_is_refused(tmp_path):
    resume.write_checked(tmp_path / "step-000000004.pt", {"format": "bengelib-training-0"})
    with pytest.raises(CheckpointError, match="not of the format bengelib-training-1 but 'bengelib-training-0'"):
        train_tasks(tmp_path)


def test_reading_a_checkpoint_runs_no_code(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    resume.write_checked(tmp_path / "step-000000004.pt", {"format": resume.FORMAT, "settings": Bomb()})
    bare = pickle.dumps(Bomb())
    (tmp_path / "step-000000003.pt").write_bytes(bare + f"{zlib.crc32(bare):08x}".encode())
    with warnings.catch_warnings(), pytest.raises(CheckpointError, match="none of the 2"):
        warnings.simplefilter("ignore", DataWarning)
        train_tasks(tmp_path)
    assert not (tmp_path / "exploded").exists()


def test_a_full_disk_warns_keeps_the_last_checkpoint_and_the_training_goes_on(uninterrupted, tmp_path, monkeypatch):
    real = resume.write_checked

    def full(path, content):
        if content["step"] > 4:
            path.write_bytes(b"some of it")
            path = Path("/dev/full")
        real(path, content)

    monkeypatch.setattr(resume, "write_checked", full)
    with pytest.warns(DataWarning, match=r"no checkpoint of step 5: the disk of .* is full.*training continues"):
        assert same(train_tasks(tmp_path), uninterrupted["gradnorm"])
    assert checkpoints(tmp_path) == ["step-000000003.pt", "step-000000004.pt"]
    monkeypatch.undo()
    assert same(train_tasks(tmp_path), uninterrupted["gradnorm"])


def test_a_folder_that_cannot_be_made_is_refused_before_training(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DiskError, match="file"):
        train_tasks(tmp_path / "file", augment=cut_at(0))


@pytest.mark.parametrize("every", [-1, "10m", float("nan")])
def test_what_are_no_seconds_is_refused(every, tmp_path):
    with pytest.raises(ArgumentError, match="checkpoint_every"):
        train_tasks(tmp_path, checkpoint_every=every)


# -------------------------------------------------------------------------------------------------- several processes


def test_when_a_process_dies_the_others_end_and_all_go_on_from_the_checkpoint(tmp_path):
    began = time.monotonic()
    first, second = start(one_of_two, tmp_path, 9, processes=2)
    first.join(60)
    second.join(60)
    assert first.exitcode == 1 and second.exitcode == -signal.SIGKILL and time.monotonic() < began + 60
    step = int(checkpoints(tmp_path)[-1][5:14])
    assert 0 < step < STEPS and step % 2 == 0  # they agree on it when the monitor looks, here every second step
    with pytest.raises(CheckpointError, match="processes is 1, there it was 2"):
        train_tasks(tmp_path, batch_size=2)
    finish(start(one_of_two, tmp_path, processes=2))
    for rank in range(2):
        resumed, expected = torch.load(tmp_path / f"{rank}.pt")
        assert same(resumed, expected)


# ---------------------------------------------------------------------------------------------- which training this is


def test_settings_are_described_by_name():
    found = flatten(describe({"augment": TwoViews(Views(24, gain=0.1)), "tasks": TASKS}))
    assert found["augment.views.gain"] == 0.1 and found["augment.second.size"] == 24
    assert found["tasks.0.target"] == "kind" and found["tasks.1.scale"] == 2.0
    assert json.loads(json.dumps(found)) == found


def test_functions_are_told_apart_by_what_they_close_over():
    one, other = (flatten(describe(pair_modalities(Views(24, gain=gain)))) for gain in (0.1, 0.2))
    assert one != other and one.keys() == other.keys()
    notes = []
    before = describe(lambda batch: notes.append(batch))
    notes.append(1)
    assert describe(partial(max, 3)) != describe(partial(max, 4)) and "partial" in str(describe(partial(max)))
    assert before == describe(lambda batch: notes.append(batch)) or before["is"].endswith("<lambda>")


def test_what_contains_itself_is_described():
    class Node:
        def __init__(self):
            self.next, self.array = self, np.zeros(3)

    assert "float64 (3,)" in str(describe(Node()))


def test_a_dataset_that_changes_at_random_is_known_by_its_length_and_draws_nothing():
    class Random(Dataset):
        def __len__(self):
            return 5

        def __getitem__(self, index):
            return {"x": torch.rand(3)}

    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    assert describe(Random())["content"] is None and describe(Random())["samples"] == 5
    assert torch.equal(torch.rand(3), expected)


def test_a_model_is_described_by_shapes_and_settings_not_by_numbers():
    def model(seed, rate):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, 4), nn.Dropout(rate))

    assert describe(model(0, 0.1)) == describe(model(1, 0.1).eval()) != describe(model(0, 0.2))
    assert describe(model(0, 0.1))["weights"]["0.weight"] == "torch.float32 (4, 3)"


def test_the_checkpoint_of_a_trainer_without_a_folder_costs_nothing():
    kept = resume.Checkpoints(None, 600.0, None)
    kept.restore(order=None)
    assert list(kept.rest([1, 2])) == [1, 2]
    kept.after_step(), kept.write()
    assert isinstance(Trainer()._settings, Trainer) and not Path("step-000000000.pt").exists()

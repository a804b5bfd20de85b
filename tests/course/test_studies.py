"""Carrying out a study: runs are kept and never repeated, and a run that fails takes nothing with it."""

import os
import runpy
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from bengelib.course import studies
from bengelib.course.results import CHOSEN, COLUMNS, Run, fingerprint, read_results, run_path
from bengelib.course.studies import carry_out_all, command_line, keep


@dataclass(frozen=True)
class Toy(Run):
    """A run that takes no time; the other processes of a study import it from this module."""

    seed: int = 0
    log: str = ""


RUNS = [Toy("first", "a"), Toy("first", "a", seed=1), Toy("second", "b")]


def carry_out(run: Toy) -> dict[str, np.ndarray]:
    """Notes that it was called, and returns the seed."""
    if run.log:
        with Path(run.log).open("a") as log:
            log.write(f"{run.model}{run.seed}\n")
    if run.model == "broken":
        raise ValueError("this run is broken")
    return {"seed": np.array(run.seed), "threads": np.array(torch.get_num_threads())}


def tabulate(runs: list[Toy]) -> list[dict[str, object]]:
    """One row a run."""
    columns = dict.fromkeys(COLUMNS, "toy")
    return [
        {
            **columns,
            "experiment": run.experiment,
            "model": run.model,
            "label_fraction": 1.0,
            "seed": run.seed,
            "value": 1.0,
            "config": fingerprint(run),
        }
        for run in runs
    ]


def call(monkeypatch, folder, *arguments, runs=RUNS):
    """The command line of a study whose files are in `folder`."""
    monkeypatch.setattr("sys.argv", ["study.py", *arguments])
    command_line("A toy.", runs, carry_out, tabulate, folder / "runs", folder / "results.csv")


def test_a_file_belongs_to_one_configuration(tmp_path):
    paths = {run_path(tmp_path, run) for run in RUNS}
    assert len(paths) == 3
    assert run_path(tmp_path, Toy("first", "a")) in paths and run_path(tmp_path, Toy("first", "a", seed=2)) not in paths


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "new" / "run.npz"
    keep(path, {"value": np.arange(3)})
    assert np.load(path)["value"].tolist() == [0, 1, 2]
    assert os.listdir(path.parent) == ["run.npz"]

    def stopped(file, **arrays):
        Path(file).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", stopped)
    with pytest.raises(KeyboardInterrupt):
        keep(path, {"value": np.zeros(9)})
    with pytest.raises(KeyboardInterrupt):
        keep(path.with_name("other.npz"), {"value": np.zeros(9)})
    assert np.load(path)["value"].tolist() == [0, 1, 2]  # the old file is as it was
    assert not path.with_name("other.npz").exists()


def test_runs_that_are_there_are_not_carried_out_again(tmp_path, capsys):
    log = str(tmp_path / "log")
    runs = [Toy("first", "a", seed, log) for seed in range(3)]
    keep(run_path(tmp_path, runs[1]), {"seed": np.array(99)})
    carry_out_all(runs, carry_out, tmp_path, workers=1)
    assert sorted(Path(log).read_text().split()) == ["a0", "a2"]
    kept = [np.load(run_path(tmp_path, run)) for run in runs]
    assert [int(arrays["seed"]) for arrays in kept] == [0, 99, 2]
    assert kept[0]["threads"] == 1  # one thread a run, however many cores there are
    assert "2/2 first: a, seed 2" in capsys.readouterr().out


@pytest.fixture
def at_home(monkeypatch):
    """Runs are carried out by threads of this process, which start sooner than processes that import torch."""
    monkeypatch.setattr(studies, "ProcessPoolExecutor", lambda workers, *_, **__: ThreadPoolExecutor(workers))


@pytest.mark.usefixtures("at_home")
def test_a_run_that_fails_is_said_and_the_earlier_ones_are_kept(tmp_path):
    log = str(tmp_path / "log")
    good, bad = Toy("first", "a", 0, log), Toy("first", "broken", 0, log)
    with pytest.raises(ValueError, match="this run is broken"):
        carry_out_all([good, bad], carry_out, tmp_path, workers=1)
    assert run_path(tmp_path, good).is_file() and not run_path(tmp_path, bad).is_file()
    repaired = Toy("first", "mended", 0, log)  # and the next call begins where this one stopped
    carry_out_all([good, repaired], carry_out, tmp_path, workers=1)
    assert Path(log).read_text().split() == ["a0", "broken0", "mended0"]


def test_the_list_says_what_is_done_and_does_nothing(tmp_path, monkeypatch, capsys):
    keep(run_path(tmp_path / "runs", RUNS[1]), {"seed": np.array(1)})
    call(monkeypatch, tmp_path, "--list")
    lines = capsys.readouterr().out.splitlines()
    assert [line.startswith("done") for line in lines] == [False, True, False]
    assert all(fingerprint(run) in line and repr(run.model) in line for run, line in zip(RUNS, lines, strict=True))
    assert len(os.listdir(tmp_path / "runs")) == 1 and not (tmp_path / "results.csv").exists()


@pytest.mark.usefixtures("at_home")
def test_only_one_experiment_is_carried_out_and_no_table_written(tmp_path, monkeypatch):
    call(monkeypatch, tmp_path, "--only", "second", "--workers", "1")
    assert [run_path(tmp_path / "runs", run).is_file() for run in RUNS] == [False, False, True]
    assert not (tmp_path / "results.csv").exists()


def test_the_table_alone_trains_nothing(tmp_path, monkeypatch, capsys):
    call(monkeypatch, tmp_path, "--table")
    assert not (tmp_path / "runs").exists()
    assert len(read_results(tmp_path / "results.csv")) == 3
    assert "wrote" in capsys.readouterr().out


def started_here(monkeypatch):
    """A script that is started again in this process, which imports nothing anew."""

    def run(command, env, check):
        with pytest.MonkeyPatch.context() as change:
            change.setattr(sys, "argv", command[1:])
            change.setenv(CHOSEN, env[CHOSEN])
            runpy.run_path(command[1], run_name="__main__")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(studies.subprocess, "run", run)


@pytest.mark.parametrize("here", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_study_of_another_dataset_lists_its_runs_anew_and_has_a_table_of_its_own(tmp_path, monkeypatch, here):
    script = tmp_path / "study.py"
    script.write_text(
        "from pathlib import Path\n"
        "from tests.course.test_studies import Toy, carry_out, tabulate\n"
        "from bengelib.course.studies import command_line\n"
        'if __name__ == "__main__":\n'
        "    here = Path(__file__).parent\n"
        '    command_line("A toy.", [Toy("first", "a")], carry_out, tabulate, here / "runs", here / "results.csv")\n'
    )
    (tmp_path / "runs").mkdir()
    keep(run_path(tmp_path / "runs", Toy("first", "a", dataset="ben-ge-8k")), {"seed": np.array(0)})
    given = [str(script), "--dataset", "ben-ge-8k", "--table"]
    if here:
        started_here(monkeypatch)
        monkeypatch.setattr(sys, "argv", given)
        with pytest.raises(SystemExit, match=r"^0$"):
            runpy.run_path(given[0], run_name="__main__")
    else:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        subprocess.run([sys.executable, *given], check=True, env=environment, cwd=tmp_path)
    (row,) = read_results(tmp_path / "results-ben-ge-8k.csv").to_dict("records")
    assert row["config"] == fingerprint(Toy("first", "a", dataset="ben-ge-8k")) != fingerprint(Toy("first", "a"))
    assert not (tmp_path / "results.csv").exists()

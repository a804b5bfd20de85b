import os
import signal
import subprocess
import sys
import time
import warnings
from importlib import import_module
from pathlib import Path

import pytest

from bengelib.__main__ import FAILED, main
from bengelib.data.packed import PackedBENGE
from bengelib.errors import DataWarning
from bengelib.methods import METHODS, TABLE
from tests import fake_tree as fake


def test_help_is_quick_and_lists_the_commands():
    command = [sys.executable, "-X", "importtime", "-m", "bengelib", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for name in ("simulate", "fetch", "pack", "methods", "bench"):
        assert name in done.stdout
    assert "| torch\n" not in done.stderr  # the list of imports


def test_methods_are_listed_without_torch():
    command = [sys.executable, "-X", "importtime", "-m", "bengelib", "methods"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert [line.split()[1] for line in lines[2:-2]] == list(METHODS)
    for line, facts in zip(lines[2:], TABLE.values(), strict=False):
        assert all(part in line for part in (facts.learns, facts.source, f" {facts.cost} ", ", ".join(facts.needs)))
    assert "relative to SimCLR" in lines[-1] and "| torch\n" not in done.stderr
    assert done.stdout in (Path(__file__).parents[1] / "docs" / "methods.md").read_text()


def test_pack(tmp_path, capsys):
    root = fake.write_fake_tree(tmp_path / "ben-ge-fake")
    assert main(["pack", "--root", str(root), "--verify"]) == 0
    assert capsys.readouterr().out.strip() == str(root / "packed")
    assert len(PackedBENGE(root)) == 6


def test_errors_are_messages_without_a_traceback(tmp_path, capsys):
    assert main(["pack", "--root", str(tmp_path / "nothing")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("DatasetNotFoundError: no folder")
    assert "Traceback" not in error


def test_skip(tmp_path):
    root = fake.write_fake_tree(tmp_path / "ben-ge-fake")
    next((root / "dem").iterdir()).unlink()
    assert main(["pack", "--root", str(root)]) == 2
    assert main(["pack", "--root", str(root), "--skip"]) == 0


def test_fetch_into_the_folder_of_the_datasets(tmp_path, monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(import_module("bengelib.data.download"), "fetch", lambda *args: calls.append(args) or args[1])
    monkeypatch.setenv("BENGE_DATA", str(tmp_path))
    assert main(["fetch", "ben-ge-800"]) == 0
    assert main(["fetch", "ben-ge-8k", "--into", "here"]) == 0
    assert calls == [("ben-ge-800", tmp_path), ("ben-ge-8k", "here")]


def test_simulate(tmp_path, monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(import_module("bengelib.sim.simulate"), "simulate", lambda *args: calls.append(args) or args[0])
    given = ["--root", str(tmp_path / "x"), "--patches", "5", "--seed", "3", "--sampling", "natural"]
    assert main(["simulate", *given]) == 0
    assert calls == [(str(tmp_path / "x"), 5, 3, "natural")]


def test_bench_prints_a_table(tmp_path, capsys):
    root = fake.write_fake_tree(tmp_path / "ben-ge-fake")
    assert main(["bench", "loader", "--root", str(root), "--rounds", "1"]) == 0
    assert "| PackedBENGE, integers" in capsys.readouterr().out


def test_bench_of_views_needs_no_data(capsys):
    assert main(["bench", "views", "--rounds", "1", "--batch-size", "4", "--precision", "no"]) == 0
    out = capsys.readouterr().out
    assert "| two views" in out
    assert "100%" in out  # the step is the measure
    assert main(["bench", "loader"]) == 2
    assert "give --root DIR" in capsys.readouterr().err
    for wrong in (["--root", "x"], ["--rounds", "0"], ["--batch-size", "1"]):
        assert main(["bench", "views", *wrong]) == 2
    assert main(["bench", "train", "--root", "x", "--precision", "no"]) == 2
    assert "bench train has no --precision" in capsys.readouterr().err
    assert main(["bench", "views", "--processes", "2"]) == 2
    assert "bench views has no --processes" in capsys.readouterr().err


def test_an_interruption_says_that_it_can_be_taken_up(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(import_module("bengelib.sim.simulate"), "simulate", interrupted)
    assert main(["simulate", "--root", "x"]) == 130
    assert "same command continues" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["explode"], ["bench", "everything"]])
def test_wrong_commands_are_refused(arguments, capsys):
    with pytest.raises(SystemExit):
        main(arguments)
    assert "usage" in capsys.readouterr().err


def run(*arguments, **options):
    command = [sys.executable, "-m", "bengelib", *arguments]
    return subprocess.run(command, capture_output=True, text=True, **options)


@pytest.mark.parametrize(
    "error",
    [OSError(28, "No space left on device", "a file"), PermissionError("no"), RuntimeError("CUDA out of memory"),
     MemoryError(), KeyError("arrays"), TypeError("a\nb"), ZeroDivisionError(), AttributeError("x"), OverflowError(),
     EOFError(), RecursionError("deep"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no text")],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_whatever_goes_wrong_is_one_line(monkeypatch, capsys, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(import_module("bengelib.sim.simulate"), "simulate", fail)
    assert main(["simulate", "--root", "x"]) == FAILED
    said = capsys.readouterr().err
    assert said.startswith(type(error).__name__) and said.count("\n") == 1


def test_a_fault_of_the_data_is_a_message(tmp_path, capsys):
    root = fake.write_fake_tree(tmp_path / "mine")
    next((root / "dem").iterdir()).write_bytes(b"II*\0" + b"\xff" * 40)
    file = tmp_path / "file"
    file.touch()
    for arguments in (
        ["pack", "--root", root], ["pack", "--root", file], ["pack", "--root", root, "--destination", file],
        ["pack", "--root", root, "--destination", file / "x"], ["simulate", "--root", file],
        ["simulate", "--root", file / "below"],
        ["fetch", "ben-ge-800", "--into", file],
    ):  # fmt: skip
        assert main([str(argument) for argument in arguments]) == FAILED
        said = capsys.readouterr().err.splitlines()[-1]
        assert "Error: " in said and "(unexpected;" not in said and str(tmp_path) in said


def test_an_interrupted_command_shows_no_traceback(tmp_path):
    root = fake.write_fake_tree(tmp_path / "mine", 70)
    command = [sys.executable, "-m", "bengelib", "pack", "--root", str(root), "--processes", "2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not (root / "packed.partial" / "plan.json").is_file() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to all processes of the command
    _, said = process.communicate(timeout=60)
    assert "Traceback" not in said
    if process.returncode != 0:  # it may have been quicker
        assert process.returncode == 130 and "Interrupted" in said


def test_output_that_nobody_reads_is_no_error(tmp_path):
    root = fake.write_fake_tree(tmp_path / "mine")
    script = f'"{sys.executable}" -m bengelib pack --root "{root}" | true'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert "Error" not in done.stderr and "Exception" not in done.stderr


def test_a_name_that_is_no_text_is_printed_all_the_same(tmp_path):
    root = fake.write_fake_tree(tmp_path / "plain").rename(tmp_path / "caf\udce9")
    for path in root.glob("**/plain_*.csv"):
        path.rename(path.with_name(path.name.replace("plain", root.name)))
    done = run("pack", "--root", root)
    assert done.returncode == 0 and "caf\\udce9" in done.stdout


def test_warnings_are_a_line_each(monkeypatch, capsys):
    def warn(root, *_):
        warnings.warn("the disk does not lock files", DataWarning, stacklevel=2)
        return root

    monkeypatch.setattr(import_module("bengelib.sim.simulate"), "simulate", warn)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, category, *_, **__: print(
            warnings.formatwarning(message, category, "", 0), file=sys.stderr, end=""
        )
        assert main(["simulate", "--root", "x"]) == 0
    assert capsys.readouterr().err == "DataWarning: the disk does not lock files\n"


def test_a_tilde_is_expanded_where_the_shell_left_it(tmp_path, monkeypatch, capsys):
    fake.write_fake_tree(tmp_path / "my sets" / "x")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["pack", "--root", "~/my sets/x", "--destination=~/there"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "there")

import subprocess
import sys
from importlib import import_module

import pytest

from bengelib.__main__ import main
from bengelib.packed import PackedBENGE
from tests import fake_tree as fake


def test_help_is_quick_and_lists_the_commands():
    command = [sys.executable, "-X", "importtime", "-m", "bengelib", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for name in ("simulate", "fetch", "pack", "bench"):
        assert name in done.stdout
    assert "| torch\n" not in done.stderr  # the list of imports


def test_pack(tmp_path, capsys):
    root = fake.write_fake_tree(tmp_path / "ben-ge-fake")
    assert main(["pack", str(root), "--verify"]) == 0
    assert capsys.readouterr().out.strip() == str(root / "packed")
    assert len(PackedBENGE(root)) == 6


def test_errors_are_messages_without_a_traceback(tmp_path, capsys):
    assert main(["pack", str(tmp_path / "nothing")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("DatasetNotFoundError: no folder")
    assert "Traceback" not in error


def test_skip(tmp_path):
    root = fake.write_fake_tree(tmp_path / "ben-ge-fake")
    next((root / "dem").iterdir()).unlink()
    assert main(["pack", str(root)]) == 2
    assert main(["pack", str(root), "--skip"]) == 0


def test_fetch_into_the_folder_of_the_datasets(tmp_path, monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(import_module("bengelib.download"), "fetch", lambda *args: calls.append(args) or args[1])
    monkeypatch.setenv("BENGE_DATA", str(tmp_path))
    assert main(["fetch", "ben-ge-800"]) == 0
    assert main(["fetch", "ben-ge-8k", "--root", "here"]) == 0
    assert calls == [("ben-ge-800", tmp_path), ("ben-ge-8k", "here")]


def test_simulate(tmp_path, monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(import_module("bengelib.simulate"), "simulate", lambda *args: calls.append(args) or args[0])
    assert main(["simulate", str(tmp_path / "x"), "--patches", "5", "--seed", "3", "--sampling", "natural"]) == 0
    assert calls == [(str(tmp_path / "x"), 5, 3, "natural")]


def test_bench_prints_a_table(tmp_path, capsys):
    root = fake.write_fake_tree(tmp_path / "ben-ge-fake")
    assert main(["bench", "loader", "--root", str(root), "--rounds", "1"]) == 0
    assert "| PackedBENGE, integers" in capsys.readouterr().out


def test_bench_of_views_needs_no_data(capsys):
    assert main(["bench", "views", "--rounds", "1", "--batch", "4", "--precision", "no"]) == 0
    out = capsys.readouterr().out
    assert "| two views" in out
    assert "100%" in out  # the step is the measure
    assert main(["bench", "loader"]) == 2
    assert "give --root DIR" in capsys.readouterr().err
    for wrong in (["--root", "x"], ["--rounds", "0"], ["--batch", "1"]):
        assert main(["bench", "views", *wrong]) == 2
    assert main(["bench", "train", "--root", "x", "--precision", "no"]) == 2
    assert "--precision is of bench views" in capsys.readouterr().err


def test_an_interruption_says_that_it_can_be_taken_up(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(import_module("bengelib.simulate"), "simulate", interrupted)
    assert main(["simulate", "x"]) == 130
    assert "goes on" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["explode"], ["bench", "everything"]])
def test_wrong_commands_are_refused(arguments, capsys):
    with pytest.raises(SystemExit):
        main(arguments)
    assert "usage" in capsys.readouterr().err

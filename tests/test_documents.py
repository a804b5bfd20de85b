"""Every command that a page shows exists: the program that it is for parses it, and runs it where that is cheap."""

import argparse
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest
from torch.distributed.run import get_args_parser

from bengelib.__main__ import main
from bengelib.cli.bench_pretrain import hours
from bengelib.sim.simulate import read_marker
from tests import fake_tree as fake
from tools import do

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "data/README.md")),
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("[0-9][0-9]-*/*.md")),
    *sorted(ROOT.glob("[0-9][0-9]-*/study/*.src.md")),
]
BLOCK = re.compile(
    r"^```(?:bash|sh|shell)\n(.*?)^```|(?:^    (?:\.venv/bin/)?python -m .*\n(?:^        .*\n)*)",
    re.DOTALL | re.MULTILINE,
)
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`([^`\n]+(?:\n[^`\n]+)?)`")
PROGRAMS = ("python", ".venv/bin/python", "torchrun", "srun", "make", "pytest", "pip", "conda", "git", "sudo")
PLACEHOLDER = re.compile(r"\b(?:ROOT|DIR)\b")


def commands(page: Path) -> list[str]:
    """The commands of a page, each on one line, comments taken off."""
    text = page.read_text(encoding="utf-8")
    blocks = [match.group(1) or match.group(0) for match in BLOCK.finditer(text)]
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += [inline.replace("\n", " ") for inline in INLINE.findall(FENCED.sub("", text))]
    parts = [part.strip() for line in lines for part in re.split(r"&&|\s#\s", line)[: 2 if "&&" in line else 1]]
    return [part for part in dict.fromkeys(parts) if part.split(" ")[0] in PROGRAMS and " " in part]


FIRST_PAGE = {command: page.relative_to(ROOT).as_posix() for page in reversed(PAGES) for command in commands(page)}


class Parsed(Exception):
    """The arguments were understood."""


def parse(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start the Python program of a command, as far as it understands its arguments."""
    whole = argparse.ArgumentParser.parse_args

    def stop(self, args=None, namespace=None):
        whole(self, args, namespace)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    monkeypatch.chdir(ROOT)
    words = shlex.split(PLACEHOLDER.sub("data", command))[1:]
    start, program = (runpy.run_module, words.pop(1)) if words[0] == "-m" else (runpy.run_path, words[0])
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(Parsed):
        start(program, run_name="__main__")


def test_the_pages_show_commands():
    assert len(FIRST_PAGE) > 30
    for expected in ("python -m bengelib simulate --root data/ben-ge-sim", "make labs LAB=01",
                     "make links REPO=owner/name", "python 01-data_fusion/study.py"):  # fmt: skip
        assert expected in FIRST_PAGE
    assert any("--fractions 0.01 0.1 1 --out rows.json" in re.sub(" +", " ", command) for command in FIRST_PAGE)


def test_the_hours_of_the_page_on_scale_are_computed():
    rows = re.findall(
        r"^\|[^|]+\|[^|]+px \| ([\d,]+) \| ([\d,.]+) \|", (ROOT / "docs/scale.md").read_text(), re.MULTILINE
    )
    assert len(rows) == 8
    for rate, shown in rows:
        found = hours(590_326, 1000, 2, float(rate.replace(",", "")))
        assert float(shown.replace(",", "")) == pytest.approx(found, rel=0.02)


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize(("command", "page"), FIRST_PAGE.items())
def test_a_command_of_a_page_is_understood(page, command, monkeypatch):
    words = shlex.split(command)
    if words[0] == "make":  # which hands all its words to this, see `test_do`
        monkeypatch.chdir(ROOT)
        assert do.main(["-n", *words[1:]]) == 0
    elif "pytest" in words[:3]:
        for word in words[words.index("pytest") + 1 :]:
            assert not word.startswith("tests/") or (ROOT / word).exists()
    elif words[0] == "conda":
        assert (ROOT / words[words.index("-f") + 1]).is_file()
    elif words[0].endswith("python") and words[1:3] == ["-m", "bengelib"] and len(words) == 4:
        with pytest.raises(SystemExit) as ended:  # only names the command
            main([*words[3:], "--help"])
        assert ended.value.code == 0
    elif words[0].endswith("python"):
        parse(command, monkeypatch)
    elif "torchrun" in words[:2]:
        launched = re.sub(r"\$\w+", "2", command).partition("torchrun ")[2]
        options = get_args_parser().parse_args(shlex.split(launched))
        assert options.module and options.training_script == "bengelib"
        parse(f"python -m bengelib {shlex.join(options.training_script_args)}", monkeypatch)


def test_the_commands_that_make_data_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    fake.write_fake_tree(tmp_path / "data" / "ben-ge-800", 6)
    ran = [command for command in FIRST_PAGE if re.match(r"python -m bengelib (?:simulate|pack) ", command)]
    for number, command in enumerate(ran):
        words = shlex.split(command.replace("ROOT", "data/ben-ge-800").replace("DIR", f"data/dir{number}"))[3:]
        small = ["--patches", "1", "--sampling", "natural", "--seed", "0"] if words[0] == "simulate" else []
        assert main([*words, *small]) == 0, capsys.readouterr().err
    assert len(ran) >= 4
    assert read_marker(tmp_path / "data" / "ben-ge-sim") is not None
    assert (tmp_path / "data" / "ben-ge-800" / "packed" / "manifest.json").is_file()

"""What a command writes is checked before the work, and whole."""

import json

import matplotlib.pyplot as plt
import pytest

from bengelib.cli.outputs import check_figure, check_writable, draw_rows, write_rows
from bengelib.errors import ArgumentError, CheckpointError


def test_a_figure_is_drawn_of_rows(tmp_path):
    rows = [
        {"mode": mode, "fraction": fraction, "seed": 0, "accuracy": 0.5 + fraction / 3, "ci95": [0.4, 0.9]}
        for mode in ("frozen", "scratch")
        for fraction in (0.1, 1.0)
    ]
    for name in ("curve.png", "curve.SVG"):
        check_figure(tmp_path / "new" / name)
        draw_rows(tmp_path / "new" / name, rows)
    assert (tmp_path / "new" / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["curve.SVG", "curve.png"]
    plt.close("all")
    for wrong in ("curve", "curve.xlsx"):
        with pytest.raises(ArgumentError, match=r"not the name of an image file.*\.png"):
            check_figure(tmp_path / wrong)


def test_rows_without_a_value_are_still_json(tmp_path):
    write_rows(tmp_path / "rows.json", [{"map": float("nan"), "ci95": [0.5, float("nan")]}])
    assert json.loads((tmp_path / "rows.json").read_text(), parse_constant=pytest.fail) == [
        {"map": None, "ci95": [0.5, None]}
    ]


def test_what_cannot_be_written_is_refused_before_the_work(tmp_path):
    with pytest.raises(CheckpointError, match="is a folder"):
        check_writable(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(CheckpointError, match="cannot be made"):
        check_writable(tmp_path / "file" / "below" / "x.json")

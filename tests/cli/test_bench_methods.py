import pytest

from bengelib.cli import bench, bench_methods
from bengelib.methods import TABLE


def test_every_method_is_timed_beside_simclr(monkeypatch):
    """Each round times all of them, so that whatever else the machine does falls on all; only the clock is made up."""
    made, clock = [], iter(range(1000))
    monkeypatch.setattr(bench_methods, "_step", lambda name, *_: lambda: made.append(name))
    monkeypatch.setattr(bench.time, "perf_counter", lambda: float(next(clock)))
    table = bench_methods.bench_methods(rounds=2, batch_size=4, precision="no", progress=False)
    assert made == 3 * list(TABLE) and list(table.index) == list(TABLE)
    assert (table["ms/step"] == 1000).all() and (table["x SimCLR"] == 1).all()
    assert table["multiply-adds"].to_dict() == {name: facts.cost for name, facts in TABLE.items()}
    assert "x SimCLR" in bench.describe(table)


@pytest.mark.slow
def test_each_step_is_one(capsys):
    table = bench_methods.bench_methods(rounds=1, batch_size=2, precision="no", progress=False)
    assert (table["ms/step"] > 0).all() and table.loc["mae", "x SimCLR"] < table.loc["byol", "x SimCLR"]


def test_a_batch_of_one_has_nothing_to_compare():
    with pytest.raises(ValueError, match="batch_size=1"):
        bench_methods.bench_methods(batch_size=1)

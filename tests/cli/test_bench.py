import json
import re
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import torch

from bengelib.cli import bench, bench_gpu, bench_pretrain, bench_train
from bengelib.cli.bench import bench_loader, describe
from bengelib.data.dataset import BENGE
from bengelib.data.tables import read_meta
from bengelib.errors import ArgumentError, BengeError, DescriptionError
from bengelib.recipes.pretraining import build_encoder
from tests import fake_tree as fake
from tests.described_folders import write_crops


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return fake.write_fake_tree(tmp_path_factory.mktemp("bench") / "ben-ge-fake", 8)


def test_the_yardstick_reads_what_benge_reads(tree):
    data, meta = BENGE(tree), read_meta(tree)
    sample = bench.read_band_by_band(tree, meta, data.patch_ids[3])
    torch.testing.assert_close(sample["s2"], data[3]["s2"], rtol=0, atol=1e-6)
    assert torch.equal(sample["s1"], data[3]["s1"])


def test_every_way_of_reading_is_in_the_table(tree):
    threads = torch.get_num_threads()
    table = bench_loader(tree, batch_size=4, rounds=2, progress=False)
    assert torch.get_num_threads() == threads
    assert list(table.index[:2]) == ["GeoTIFF, band by band (tutorials)", "BENGE (GeoTIFF)"]
    assert (table["lowest"] <= table["samples/s"]).all()
    assert (table["samples/s"] <= table["highest"]).all()
    assert table["x band by band"].iloc[0] == 1
    assert table.loc["PackedBENGE, integers", "bytes/sample"] == 217_600 + 8
    assert table.loc[bench.COPY, "of memory copy"] == 1


def test_described_data_are_read_from_files_and_pack(tmp_path):
    crops = write_crops(tmp_path / "crops", 8)
    table = bench_loader(crops, batch_size=4, rounds=1, progress=False)
    assert list(table.index) == ["files, as stored", "pack, as stored", bench.COPY, "pack, decoded on the CPU"]
    assert table["x files"].iloc[0] == 1 and (table["CPU ms/sample"] > 0).all()
    assert table["bytes/sample"].iloc[0] == 4 * 16 * 16 * 2 + 16 * 16 + 2 * 4 + 8 + 4  # images, map, table
    assert "x files" in describe(table)
    (crops / "dataset.toml").write_text(
        '[samples]\ntable = "samples.csv"\n[modalities.weather]\nkind = "vector"\ncolumns = ["rain", "heat"]\n'
    )
    with pytest.raises(DescriptionError, match="all values in its table"):
        bench_loader(crops, progress=False)


@pytest.mark.parametrize("measure", [bench_train.bench_train, bench_gpu.bench_gpu])
def test_benchmarks_of_ben_ge_refuse_described_data(tmp_path, measure):
    with pytest.raises(ArgumentError, match=r"crops has a dataset\.toml.*bench loader"):
        measure(write_crops(tmp_path / "crops", 2), progress=False)


def test_an_idea_of_a_layout_holds_the_same_numbers(tree, tmp_path):
    packed = bench.PackedBENGE(tree)
    read = bench._full_resolution(packed, tmp_path)
    expected = bench.decode(packed.read_batch([5, 1]), normalized=True)
    torch.testing.assert_close(read([5, 1])["s2"], expected["s2"], rtol=0, atol=0.002)  # rounded to whole numbers


def test_the_table_prints_as_markdown():
    table = pd.DataFrame({"method": ["a way", "b"], "samples/s": [12345.6, 7.0], "of memory copy": [0.876, 1.0]})
    lines = describe(table.set_index("method")).splitlines()
    assert lines[0].startswith("bengelib ")
    assert lines[2:] == [
        "| method | samples/s | of memory copy |",
        "|--------|-----------|----------------|",
        "| a way  |    12,346 |            88% |",
        "| b      |         7 |           100% |",
    ]


def test_pretraining_is_timed_in_one_process_and_in_two(monkeypatch):
    """The runs themselves are replaced; that they train is in `test_a_run_of_the_bench_logs_each_step`."""
    started = []

    def run(command, env, **options):
        started.append((command, env["OMP_NUM_THREADS"]))
        processes = 2 if "--nproc-per-node=2" in command else 0.5 if command[-1] == "1" else 1
        folder = Path(command[command.index("bengelib.cli.bench_pretrain") + 1])
        lines = [{"step": step, "samples_per_second": rate * processes} for step, rate in enumerate([1, 1, 9, 10, 11])]
        (folder / "log.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in [*lines, {"step": 5}]))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(bench_pretrain.subprocess, "run", run)
    table = bench_pretrain.bench_pretrain(rounds=3, progress=False)
    assert list(table["samples/s"]) == [10, 20, 5] and list(table["lowest"]) == [9, 18, 4.5]
    assert list(table["x one process"]) == [1, 2, 0.5] and list(table.index)[:2] == ["1 process", "2 processes"]
    assert table["seconds"].iloc[2] == 64 / 5 - 64 / 10 and [threads for _, threads in started] == ["1", "1", "1"]
    lines = [re.sub(" +", " ", line) for line in describe(table).splitlines()[4:]]
    assert lines[1] == "| 2 processes | 20 | 18 | 22 | 2.00 | - | - |"
    assert lines[-1].endswith("take 8,199 hours at the rate of 2 processes.")
    assert lines[2] == "| 1, a checkpoint each step | 5 | 4 | 6 | 0.50 | 6.40 | 1.07% |"

    def fails(command, **options):
        return subprocess.CompletedProcess(command, 1, "", "Traceback\nValueError: too large\nmore")

    monkeypatch.setattr(bench_pretrain.subprocess, "run", fails)
    with pytest.raises(BengeError, match="1 processes failed: ValueError: too large"):
        bench_pretrain.bench_pretrain(rounds=3, progress=False)


def test_a_run_of_the_bench_logs_each_step(tmp_path, monkeypatch):
    monkeypatch.setattr(
        bench_pretrain, "build_encoder", lambda inputs, method, *_: build_encoder(inputs, method, 18, 4)
    )
    bench_pretrain._train(str(tmp_path), 4, "no", 2)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "samples_per_second" in line] == [0, 1, 2, 3]


def test_the_cost_of_a_pretraining():
    assert bench_pretrain.hours(3600, 10, 2, 20) == 1
    with pytest.raises(ArgumentError, match="images_per_second=0"):
        bench_pretrain.hours(1, 1, 1, 0)


def test_checkpoints_are_written_where_they_are_timed(tmp_path, monkeypatch):
    monkeypatch.setattr(
        bench_pretrain, "build_encoder", lambda inputs, method, *_: build_encoder(inputs, method, 18, 4)
    )
    bench_pretrain._train(str(tmp_path), 4, "no", 1, True)
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2

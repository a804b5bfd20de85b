import torch

from bengelib.__main__ import main
from bengelib.cli import bench_gpu
from bengelib.data.packed import PackedBENGE
from bengelib.data.packing import pack
from tests import fake_tree as fake


def test_the_check_of_a_gpu_runs_on_a_cpu_and_says_so(tmp_path, capsys):
    root = fake.write_fake_tree(tmp_path / "ben-ge-fake", 8)
    assert main(["bench", "gpu", "--root", str(root), "--rounds", "1"]) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    if torch.cuda.is_available():
        assert "Device: " in said
        return
    assert "No GPU here: these figures say that the check runs" in said
    assert "cut off after 5 of 8 steps and resumed" in said and said.count("the same.") == 1
    assert "Not run: ResNet-18, fp32, compiled; ResNet-18, bf16, compiled." in said
    rows = [line for line in said.splitlines() if line.startswith("| ResNet-18")]
    assert [row.split("|")[1].strip() for row in rows] == ["ResNet-18, fp32", "ResNet-18, bf16"]


def test_no_row_is_begun_after_the_time_is_up(tmp_path, monkeypatch):
    root = fake.write_fake_tree(tmp_path / "ben-ge-fake", 8)
    monkeypatch.setattr(bench_gpu, "SECONDS", -1.0)
    table = bench_gpu.bench_gpu(root, progress=False)
    assert len(table) == 0 and "Not run: ResNet-18, fp32; " in table.attrs["notes"][-1]


def test_a_few_samples_are_many(tmp_path):
    root = fake.write_fake_tree(tmp_path / "ben-ge-fake", 8)
    pack(root, progress=False)
    data = PackedBENGE(root)
    many, one = bench_gpu.Repeated(data, 20), bench_gpu.Repeated(data, 20, 5)
    assert len(many) == 20 and len(set(many.read_batch(range(8))["patch_id"])) == 8
    first, again = one.read_batch([0, 1, 2]), one.read_batch([7, 8, 9])
    assert first["patch_id"] == again["patch_id"] and torch.equal(first["s1"], again["s1"])
    batch = many.read_batch([0])
    place = data.patch_ids.index(batch["patch_id"][0])
    assert torch.equal(many.decode(batch)["s2"][0], data[place]["s2"])

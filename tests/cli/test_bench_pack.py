import numpy as np

from bengelib.cli import bench_pack
from bengelib.cli.bench import describe
from bengelib.data.described import DescribedDataset
from bengelib.data.packed import PackedBENGE


def test_the_same_files_are_packed_in_two_ways(monkeypatch):
    packed, pack = [], bench_pack.pack

    def note(root, **options):
        pack(root, **options)
        if (root / "dataset.toml").is_file():
            packed.append(DescribedDataset(root).read_batch(range(3)))
        else:
            packed.append(PackedBENGE(root).read_batch(range(3)))

    monkeypatch.setattr(bench_pack, "pack", note)
    table = bench_pack.bench_pack(patches=3, rounds=1, progress=False)
    assert len(packed) == 4 and table["of ben-ge"].iloc[0] == 1 and (table["lowest"] <= table["highest"]).all()
    tree, described = packed[-2:]
    for size, side in ((10, 120), (20, 60), (60, 20)):
        np.testing.assert_array_equal(tree[f"s2_{size}m"], described[f"s2.{side}x{side}"])
    np.testing.assert_allclose(tree["s1"], described["s1.120x120"], atol=0.02)  # 16 bits
    assert "of ben-ge" in describe(table)

from bengelib.data.contents import read_contents
from bengelib.data.packing import pack
from bengelib.methods.multi_pretext import PRETEXTS
from bengelib.modalities import TARGETS
from tests.described_folders import CROPS, rewrite, write_crops
from tests.fake_tree import write_fake_tree


def test_a_tree_of_ben_ge_and_its_pack_offer_the_same(tmp_path):
    tree = write_fake_tree(tmp_path / "ben-ge-fake", 3)
    known = read_contents(tree)
    assert known == read_contents(pack(tree, progress=False))
    assert known.inputs == known.images == ("s2", "s1") and known.places == ("lonlat",)
    assert known.targets is TARGETS and known.scheme == "blocked" and known.others == tuple(PRETEXTS)


def test_a_described_dataset_offers_what_its_file_names(tmp_path):
    toml = CROPS.replace('columns = ["rain", "heat"]', 'columns = ["rain", "heat"]\nbands = ["lon", "lat"]')
    root = write_crops(tmp_path, 2, toml)
    known = read_contents(root)
    assert known.inputs == known.images == ("s2",) and known.places == ("weather",)
    assert known.others == ("s2", "weather") and list(known.targets) == ["crop", "cover", "harvest"]
    assert known.targets["cover"].kind == "map" and known.scheme == "blocked"
    rewrite(root, 'bands = ["lon", "lat"]\n', "")
    known = read_contents(root)
    assert known.inputs == ("s2", "weather") and known.images == ("s2",) and known.places == ()

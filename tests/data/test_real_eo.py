"""Real imagery of several kinds, described by hand; skipped where it does not lie beside the checkout."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from bengelib.data.described import DescribedDataset
from bengelib.data.described_packing import pack_described
from bengelib.data.stores import FileStore, PackStore
from bengelib.errors import DescriptionError, MissingModalityError
from tests.described_folders import rewrite, write_toml

REAL = Path(__file__).parents[3] / "shared" / "real-eo"
pytestmark = [
    pytest.mark.skipif(not REAL.is_dir(), reason="the real imagery is not beside this checkout"),
]


def describe(root: Path, folder: str, toml: str, table: list[dict[str, str]] | None = None) -> Path:
    """A folder with links to the real files, a `dataset.toml`, and a table of some samples."""
    write_toml(root, toml)
    for entry in (REAL / folder).iterdir():
        if table is None or not entry.name.endswith(".csv"):
            (root / entry.name).symlink_to(entry)
    if table is not None:
        with (root / "samples.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(table[0]))
            writer.writeheader()
            writer.writerows(table)
    return root


def same_from_a_pack(root: Path) -> DescribedDataset:
    """The dataset, which reads the same from its files and from a pack."""
    files = DescribedDataset(root, progress=False)
    assert type(files.store) is FileStore
    before = [files[index] for index in range(min(3, len(files)))]
    pack_described(files.description, files.store.samples, progress=False)
    packed = DescribedDataset(root, progress=False)
    assert type(packed.store) is PackStore
    for index, sample in enumerate(before):
        for key, value in packed[index].items():
            assert value == sample[key] if key == "patch_id" else torch.equal(value, sample[key])
    return packed


OMBRIA = """
[samples]
table = "samples.csv"
unlisted = "ignore"

[modalities.s1_before]
kind = "image"
files = "s1_before/{id}.png"
bands = ["VV"]
unit = "stretched"
[modalities.s1_after]
kind = "image"
files = "s1_after/{id}.png"
bands = ["VV"]
unit = "stretched"
[modalities.s2_after]
kind = "image"
files = "s2_after/{id}.png"
bands = ["red", "green", "blue"]
unit = "stretched"

[targets.flood]
kind = "map"
files = "mask/{id}.png"
classes = { 0 = "dry", 255 = "flooded" }
"""


def test_floods_before_and_after(tmp_path):
    names = sorted(os.listdir(REAL / "ombria/mask"))[:12]
    root = describe(tmp_path, "ombria", OMBRIA, [{"id": name[:-4]} for name in names])
    data = same_from_a_pack(root)
    assert data[0]["s2_after"].shape == (3, 256, 256) and data.inputs["s1_after"].size == 256
    share = np.mean([float((data[n]["flood"] == 1).float().mean()) for n in range(12)])
    assert 0 < share < 0.9 and {int(v) for n in range(12) for v in data[n]["flood"].unique()} == {0, 1}


CHIPS = """
[samples]
table = "samples.csv"
unlisted = "ignore"
id = "chip"
group = "site_group"

[modalities.optical]
kind = "image"
files = "images/{id}.tif"
bands = ["nir", "red", "green", "blue", "swir1"]
scale = 0.0001
unit = "reflectance"

[modalities.elevation]
kind = "image"
files = "images/{id}.tif"
bands = ["dem", "merit_dem"]
no_data = -9999
unit = "m"

[targets.water]
kind = "map"
files = "water/{id}.png"
classes = { 0 = "land", 1 = "water" }

[targets.cover]
kind = "map"
files = "images/{id}.tif"
layers = 11
no_data = 0
[targets.cover.classes]
10 = "trees"
20 = "shrubs"
30 = "grass"
40 = "crops"
50 = "built"
60 = "bare"
70 = "snow"
80 = "water"
90 = "wetland"
95 = "mangroves"
100 = "moss"
"""


def test_layers_of_one_file_are_inputs_and_targets(tmp_path):
    import rasterio

    with (REAL / "multitask_chips/chips.csv").open() as file:
        rows = list(csv.DictReader(file))
    root = describe(tmp_path, "multitask_chips", CHIPS, rows[::3])
    data = same_from_a_pack(root)
    assert len(data) == 55 and len(set(data.groups)) > 15
    for index in (0, 20, 40):
        with rasterio.open(root / "images" / f"{data.patch_ids[index]}.tif") as file:
            pixels = dict(zip(file.descriptions, file.read(), strict=True))
        sample = data[index]
        np.testing.assert_allclose(sample["optical"][0], pixels["nir"] * 1e-4, rtol=1e-6)
        known = pixels["dem"] != -9999
        np.testing.assert_array_equal(sample["elevation"][0].numpy()[known], pixels["dem"][known])
        assert np.abs(sample["elevation"].numpy()).max() < 9000
        assert ((sample["cover"] == 255).numpy() == (pixels["land_cover"] == 0)).all()
    assert data.statistics["elevation"].low[0] > -500 and data.inputs["elevation"].std[0] > 10
    for fold in range(5):
        train, test = (
            set(DescribedDataset(root, side, fold=fold, progress=False).groups) for side in ("train", "test")
        )
        assert train and test and not train & test


EUROSAT = """
[modalities.s2]
kind = "image"
files = "{class}/{id}.tif"
bands = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B09", "B10", "B11", "B12", "B8A"]
scale = 0.0001
unit = "reflectance"

[targets.class]
kind = "class"
column = "class"
classes = ["AnnualCrop", "Pasture", "SeaLake"]
"""


def test_eurosat_with_13_bands_in_class_folders(tmp_path):
    root = describe(tmp_path, "eurosat_ms", EUROSAT)
    data = same_from_a_pack(root)
    assert data.patch_ids == ["AnnualCrop_1", "Pasture_300", "SeaLake_3000"]
    assert [int(data[n]["class"]) for n in range(3)] == [0, 1, 2] and data[0]["s2"].shape == (13, 64, 64)
    assert data.inputs["s2"].mean[9] < 0.01 < data.inputs["s2"].mean[0]  # cirrus is dark, coastal aerosol is not


def test_chips_of_which_some_carry_an_offset_are_refused(tmp_path):
    toml = EUROSAT.partition("[targets")[0].replace("{class}/{id}", "{file}").replace(".tif", "").replace(', "B10"', "")
    samples = '[samples]\ntable = "chips.csv"\nid = "file"\nlongitude = "lon"\nlatitude = "lat"\n'
    root = describe(tmp_path, "s2_chips", samples + toml)
    data = DescribedDataset(root, progress=False)
    assert len(data) == 8 and data[0]["s2"].shape == (12, 256, 256)
    with pytest.raises(DescriptionError, match=r"3[78]% of the samples have no pixel below 0.09 .*if only some do"):
        _ = data.inputs
    rewrite(root, "scale = 0.0001", "scale = 0.0001\noffset = 0.0")
    assert len(DescribedDataset(root, progress=False).inputs["s2"].bands) == 12


STATIONS = """
[samples]
table = "stations.csv"
longitude = "Lon"
latitude = "Lat"
block = 10

[modalities.place]
kind = "vector"
columns = ["Lon", "Lat"]
unit = "degree"

[targets.temperature]
kind = "number"
column = "meanT"
unit = "C"
"""


def test_stations_have_no_files_and_no_ids(tmp_path):
    root = describe(tmp_path, "locations", STATIONS)
    data = DescribedDataset(root, "train", progress=False)
    assert 800 < len(data) < 1000 and data[0].keys() == {"place", "temperature", "patch_id"}
    assert -30 < float(data.table("temperature").mean()) < 30 and data.inputs["place"].bands == ("Lon", "Lat")


S2_PATCH = "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_75_43"
MAP_PATCH = "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_26_57"
S1_PATCH = "S1A_IW_GRDH_1SDV_20170613T165043_33UUP_70_48"
BIGEARTHNET = """
[samples]
table = "samples.csv"
unlisted = "ignore"
id = "patch_id"

[modalities.s2]
kind = "image"
files = "BigEarthNet-S2/*/{patch_id}/{patch_id}_{band}.tif"
bands = ["B02", "B03", "B04", "B05", "B8A", "B01"]
scale = 0.0001
unit = "reflectance"

[modalities.s1]
kind = "image"
files = "BigEarthNet-S1/*/{s1_name}/{s1_name}_{band}.tif"
bands = ["VV", "VH"]
unit = "dB"

[targets.corine]
kind = "map"
files = "Reference_Maps/*/{patch_id}/{patch_id}_reference_map.tif"
classes = { 211 = "arable land", 231 = "pastures", 311 = "broad-leaved forest" }
"""


def test_bigearthnet_v2_as_it_is_unpacked(tmp_path):
    table = [{"patch_id": S2_PATCH, "s1_name": S1_PATCH}]
    root = describe(tmp_path / "one", "bigearthnet_v2", BIGEARTHNET, table)
    with pytest.raises(MissingModalityError, match=r"has files of corine: no .*_reference_map.tif"):
        DescribedDataset(root)  # the map is of another place
    radar = DescribedDataset(root, None, ("s1",), (), progress=False)  # alone, since the two need not share ground
    data = DescribedDataset(root, None, ("s2",), (), progress=False)
    assert data[0]["s2"].shape == (6, 120, 120) and 0 < float(data[0]["s2"].mean()) < 0.3
    assert radar[0]["s1"].shape == (2, 120, 120) and radar.inputs["s1"].mean[0] > radar.inputs["s1"].mean[1]
    layout = data.store.layouts["s2"]
    assert {shape for _, shape in layout.arrays.values()} == {(3, 120, 120), (2, 60, 60), (1, 20, 20)}
    assert layout.no_data == (0,)


def test_the_reference_map_of_bigearthnet(tmp_path):
    import rasterio

    (path,) = (REAL / "bigearthnet_v2/Reference_Maps").rglob("*.tif")
    with rasterio.open(path) as file:
        codes = {int(code): f"c{code}" for code in np.unique(file.read(1))}
    named = "".join(f'{code} = "{name}", ' for code, name in codes.items())
    toml = BIGEARTHNET[: BIGEARTHNET.index("[modalities.s2]")] + (
        '[modalities.x]\nkind = "scalar"\ncolumn = "x"\n[targets.corine]\nkind = "map"\n'
        f'files = "Reference_Maps/*/{{id}}/{{id}}_reference_map.tif"\nclasses = {{ {named}}}\n'
    ).replace(", }", " }")
    table = [{"patch_id": name, "x": str(n)} for n, name in enumerate((MAP_PATCH, S2_PATCH))]
    data = same_from_a_pack(describe(tmp_path, "bigearthnet_v2", toml, table))
    assert set(data[0]["corine"].unique().tolist()) == set(range(len(codes))) and (data[1]["corine"] == 255).all()
    assert list(data.account.notes["have no corine (that is allowed)"]) == [S2_PATCH]

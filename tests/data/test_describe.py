import numpy as np
import pandas as pd
import pytest
import rasterio
from PIL import Image

from bengelib.data.describe import describe
from bengelib.data.described import DescribedDataset
from bengelib.data.description import read_description
from bengelib.errors import DatasetNotFoundError, DescriptionError


def write_tiff(path, pixels, names=()):
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = pixels.shape
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=height, width=width, dtype=pixels.dtype, crs="EPSG:32632"
    ) as file:
        file.write(pixels)
        for number, name in enumerate(names, 1):
            file.set_band_description(number, name)


def noise(*shape, low=200, high=4000, seed=0):
    return np.random.default_rng(seed).integers(low, high, shape).astype(np.uint16)


@pytest.mark.parametrize("cirrus", [9, 10])
def test_thirteen_bands_in_class_folders_are_level_1c_in_the_order_that_the_dark_band_shows(tmp_path, cirrus):
    for number in range(6):
        pixels = noise(13, 8, 8, seed=number)
        pixels[cirrus] = noise(8, 8, low=1, high=20, seed=number)
        write_tiff(tmp_path / ("Forest" if number % 2 else "Sea lake") / f"tile {number}.tif", pixels)
    guess = describe(tmp_path, progress=False)
    description = read_description(tmp_path)
    bands = description.modalities["image"].bands
    assert bands[cirrus] == "B10" and set(bands) >= {"B8A", "B12"} and not guess.problems
    assert description.targets["label"].classes == ("Forest", "Sea lake")
    data = DescribedDataset(tmp_path, progress=False)
    assert data[0]["image"].shape == (13, 8, 8) and set(data.table("label")) == {0, 1}
    assert data.inputs["image"].unit == ("reflectance",) * 13


def test_a_folder_for_each_modality_and_a_mask(tmp_path):
    for number in range(4):
        for name, mode in (("s1", "L"), ("s2", "RGB"), ("mask", "L")):
            (tmp_path / name).mkdir(exist_ok=True)
            shape = (8, 8, 3) if mode == "RGB" else (8, 8)
            values = np.random.default_rng(number).integers(0, 255, shape).astype(np.uint8)
            values = np.where(values > 127, 255, 0).astype(np.uint8) if name == "mask" else values
            Image.fromarray(values, mode).save(tmp_path / name / f"{number}.png")
    describe(tmp_path, progress=False)
    data = DescribedDataset(tmp_path, progress=False)
    assert set(data.modalities) == {"s1", "s2"} and data.targets == ("mask",)
    assert data.outputs["mask"].kind == "map" and data.outputs["mask"].classes == ("no mask", "mask")


def test_layers_with_names_are_taken_apart(tmp_path):
    names = ("blue", "green", "red", "nir", "dem", "land_cover")
    for number in range(4):
        pixels = noise(6, 8, 8, seed=number).astype(np.int16)
        pixels[4] -= 100
        pixels[5] = np.random.default_rng(number).choice([0, 10, 40, 80], (8, 8))
        write_tiff(tmp_path / "images" / f"{number}.tif", pixels, names)
    pd.DataFrame({"chip": range(4), "site_group": list("aabb")}).to_csv(tmp_path / "chips.csv", index=False)
    describe(tmp_path, progress=False)
    description = read_description(tmp_path)
    assert description.modalities["optical"].bands == names[:4] and description.modalities["dem"].layers == (5,)
    assert description.targets["land_cover"].classes[0] == "tree_cover"
    assert description.samples["group"] == "site_group" and description.samples["id"] == "chip"


def test_a_table_alone(tmp_path):
    rows = 30
    table = {"id": [f"p{n}" for n in range(rows)], "lon": np.linspace(5, 9, rows), "lat": np.linspace(45, 50, rows)}
    table |= {
        "crop": ["maize", "wheat", ""] * 10,
        "S1_VV": np.linspace(-20, -5, rows),
        "S1_VH": np.linspace(-25, -9, rows),
    }
    pd.DataFrame(table).to_csv(tmp_path / "points.csv", index=False)
    describe(tmp_path, progress=False)
    data = DescribedDataset(tmp_path, progress=False)
    assert set(data.modalities) == {"lonlat", "S1"} and data.outputs["crop"].classes == ("maize", "wheat")
    assert (data.table("crop") == 255).sum() == 10 and data.groups is not None


def test_an_offset_of_newer_baselines_is_left_to_decide(tmp_path):
    for number in range(4):
        write_tiff(tmp_path / "ab"[number % 2] / f"{number}.tif", noise(12, 8, 8, low=1100, seed=number))
    guess = describe(tmp_path, progress=False)
    assert any("04.00" in problem for problem in guess.problems)
    with pytest.raises(DescriptionError, match="offset"):
        _ = DescribedDataset(tmp_path, progress=False).inputs


def test_what_is_there_is_not_overwritten(tmp_path):
    write_tiff(tmp_path / "a" / "0.tif", noise(3, 8, 8))
    (tmp_path / "dataset.toml").write_text("# mine")
    with pytest.raises(DescriptionError, match="--overwrite"):
        describe(tmp_path, progress=False)
    assert (tmp_path / "dataset.toml").read_text() == "# mine"


def test_nothing_to_describe_is_said(tmp_path):
    with pytest.raises(DatasetNotFoundError, match="no folder"):
        describe(tmp_path / "none")
    with pytest.raises(DatasetNotFoundError, match="neither images"):
        describe(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "0.tif").write_bytes(b"no image")
    with pytest.raises(DescriptionError, match=r"0\.tif cannot be read"):
        describe(tmp_path)

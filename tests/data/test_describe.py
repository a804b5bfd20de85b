"""`describe` on folders as people have them: what is guessed can be read back, and what is not known is said."""

import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from bengelib.bands import S2_BANDS
from bengelib.data.describe import describe
from bengelib.data.described import DescribedDataset
from bengelib.data.description import FILE_NAME, read_description
from bengelib.data.packing import pack
from bengelib.errors import DatasetNotFoundError, DescriptionError, DiskError, TableError
from tests.described_folders import write_picture, write_tif
from tests.fake_tree import write_fake_tree

REAL = Path(__file__).parents[3] / "shared" / "real-eo"
SIDE = 8
EUROSAT = (*(f"B{number:02d}" for number in range(1, 13)), "B8A")


def pixels(bands: int, seed: int, high: int = 4000, dtype: type = np.uint16) -> np.ndarray:
    """Noise with a different level in each band."""
    random = np.random.default_rng(seed)
    levels = np.linspace(0.2, 0.8, bands)[:, None, None]
    return (high * levels * random.uniform(0.5, 1, (bands, SIDE, SIDE))).astype(dtype)


def write_classes(root: Path, bands: int, suffix: str = ".tif", count: int = 6, numbered: bool = False) -> Path:
    """Class folders; of 13 bands the tenth is almost black, as that of cirrus is."""
    for place, name in enumerate(("Crop", "Forest", "Sea")):
        for sample in range(count - (numbered and place * 2)):
            image = pixels(bands, 100 * place + sample, 200 if suffix in (".png", ".jpg") else 4000)
            if bands == 13:
                image[9] = image[9] // 100 + 5
            path = root / name / f"{sample if numbered else f'{name}_{sample}'}{suffix}"
            if suffix in (".png", ".jpg"):
                write_picture(path, np.moveaxis(image.astype(np.uint8), 0, -1).squeeze())
            elif suffix == ".npy":
                path.parent.mkdir(parents=True, exist_ok=True)
                np.save(path, image)
            else:
                write_tif(path, image)
    return root


def described(root: Path, **options):
    """The guess for a folder, and what is read back from the file that it wrote."""
    guess = describe(root, progress=False, **options)
    assert (root / FILE_NAME).read_text(encoding="utf-8") == guess.text
    return guess, read_description(root)


def said(guess) -> str:
    return "\n".join([*guess.guessed, *guess.problems])


# -------------------------------------------------------------------------------------------------------- class folders


@pytest.mark.parametrize(
    ("bands", "suffix", "names", "unit"),
    [
        (3, ".jpg", ("R", "G", "B"), "1"),
        (3, ".png", ("R", "G", "B"), "1"),
        (1, ".png", ("image",), "1"),
        (1, ".tif", ("image",), ""),
        (3, ".tif", ("band_1", "band_2", "band_3"), "reflectance"),
        (4, ".tif", ("band_1", "band_2", "band_3", "band_4"), "reflectance"),
        (12, ".tif", S2_BANDS, "reflectance"),
        (13, ".tif", EUROSAT, "reflectance"),
        (4, ".npy", ("band_1", "band_2", "band_3", "band_4"), "reflectance"),
    ],
)
def test_class_folders(tmp_path, bands, suffix, names, unit):
    guess, description = described(write_classes(tmp_path / "my set", bands, suffix))
    assert description.name == "my set" and list(description.modalities) == ["image"]
    source = description.modalities["image"]
    assert source.kind == "image" and source.bands == tuple(names) and set(source.unit) == {unit}
    assert source.files.text == f"{{class}}/{{id}}{suffix}"
    label = description.targets["label"]
    assert label.kind == "class" and label.classes == ("Crop", "Forest", "Sea")
    data = DescribedDataset(tmp_path / "my set", progress=False)
    assert len(data) == 18 and data[0]["image"].shape == (bands, SIDE, SIDE)
    assert [label.classes[data[row]["label"]] for row in (0, 6, 12)] == ["Crop", "Forest", "Sea"]
    if bands > 1 and suffix in (".tif", ".npy"):
        assert float(data[0]["image"].max()) <= 0.4
    needs_names = names[0] == "band_1"
    assert any("give them some in `bands`" in problem for problem in guess.problems) == needs_names
    assert "image" in said(guess) and "standard deviation" in said(guess)


def test_the_order_of_thirteen_bands_is_that_of_the_cirrus_band(tmp_path):
    root = write_classes(tmp_path / "x", 13)
    first = described(root)[1].modalities["image"].bands
    for path in root.glob("*/*.tif"):
        write_tif(path, np.roll(pixels(13, 3), 1, axis=0)[np.argsort([*range(10), 11, 12, 10])])
    for path in root.glob("*/*.tif"):
        image = pixels(13, hash(path.name) % 1000)
        image[10] = image[10] // 100 + 1
        write_tif(path, image)
    second = described(root, overwrite=True)[1].modalities["image"].bands
    assert first[8:] == ("B09", "B10", "B11", "B12", "B8A") and second[8:] == ("B8A", "B09", "B10", "B11", "B12")
    for path in root.glob("*/*.tif"):
        write_tif(path, pixels(13, hash(path.name) % 1000))
    guess, description = described(root, overwrite=True)  # the first is the darkest: no order that is known
    assert description.modalities["image"].bands[0] == "band_1" and guess.problems


def test_classes_below_a_folder_and_sides_of_a_split(tmp_path):
    for side in ("train", "valid", "test"):
        write_classes(tmp_path / "data" / side, 3, ".png", count=2)
        for path in (tmp_path / "data" / side).glob("*/*"):
            path.rename(path.with_name(f"{side}_{path.name}"))
    _, description = described(tmp_path)
    assert description.modalities["image"].files.text == "data/{split}/{class}/{id}.png"
    assert description.scheme == "official"
    sizes = {side: len(DescribedDataset(tmp_path, side, progress=False)) for side in ("train", "val", "test")}
    assert sizes == {"train": 6, "val": 6, "test": 6}


def test_classes_whose_files_are_numbered_alike(tmp_path):
    root = write_classes(tmp_path / "x", 3, ".png", numbered=True)
    guess, description = described(root)
    assert description.modalities["image"].files.text == "{class}/{id}.png"
    assert not any("stands for" in problem for problem in guess.problems)
    data = DescribedDataset(root, progress=False)
    assert len(data) == len(list(root.glob("*/*.png"))) and all("/" in name for name in data.patch_ids)
    assert data[0]["label"] != data[-1]["label"] and (data[0]["image"] != data[-1]["image"]).any()


def test_other_suffixes_hidden_files_and_empty_folders_are_left_out(tmp_path):
    root = write_classes(tmp_path / "x", 3, ".jpg")
    write_picture(root / "Crop" / "one.png", np.zeros((SIDE, SIDE, 3), np.uint8))
    write_picture(root / "Crop" / ".hidden.jpg", np.zeros((SIDE, SIDE, 3), np.uint8))
    write_picture(root / ".hidden" / "a.jpg", np.zeros((SIDE, SIDE, 3), np.uint8))
    write_picture(root / "packed" / "a.jpg", np.zeros((SIDE, SIDE, 3), np.uint8))
    (root / "Empty").mkdir()
    (root / "notes.txt").write_text("notes")
    guess, description = described(root)
    assert description.targets["label"].classes == ("Crop", "Forest", "Sea")
    assert any("1 files of {class}, such as one.png, do not end in .jpg" in problem for problem in guess.problems)
    assert len(DescribedDataset(root, progress=False)) == 18


def test_odd_names(tmp_path):
    names = {"Crop": "1 field", "Forest": "forêt 'mixte'", "Sea": '海 # "deep"'}
    root = write_classes(tmp_path / "données 1", 3, ".png")
    for old, new in names.items():
        (root / old).rename(root / new)
    _, description = described(root)
    assert set(description.targets["label"].classes) == set(names.values())
    assert len(DescribedDataset(root, progress=False)) == 18


@pytest.mark.parametrize("folder", ["1 sentinel", "été", "海", "values", "features", "a-b", "patch_id"])
def test_a_folder_is_a_modality_under_a_name_that_keys_can_have(tmp_path, folder):
    for sample in range(6):
        write_tif(tmp_path / folder / f"{sample}.tif", pixels(4, sample))
        write_tif(tmp_path / "other" / f"{sample}.tif", pixels(2, sample, 1, np.float32))
    _, description = described(tmp_path)
    assert len(description.modalities) == 2
    data = DescribedDataset(tmp_path, progress=False)
    assert len(data) == 6 and len(data.inputs) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="other disks refuse such names")
def test_a_class_whose_name_is_no_utf_8(tmp_path):
    root = write_classes(tmp_path / "x", 3, ".png")
    os.rename(root / "Sea", os.fsencode(root) + b"/Rivi\xe8re")
    with pytest.raises(DescriptionError, match=r"Rivi\\udce8re.*rename it"):
        describe(root, progress=False)
    assert not (root / FILE_NAME).exists()


def test_a_name_with_signs_of_patterns(tmp_path):
    for sample in range(3):
        write_tif(tmp_path / "a{b}" / f"{sample}.tif", pixels(4, sample))
    with pytest.raises(DescriptionError, match="rename it"):
        describe(tmp_path, progress=False)


def test_class_folders_that_are_links(tmp_path):
    write_classes(tmp_path / "disk", 3, ".png")
    (tmp_path / "x").mkdir()
    for name in ("Crop", "Forest"):
        (tmp_path / "x" / name).symlink_to(tmp_path / "disk" / name)
    (tmp_path / "x" / "Crop" / "round").symlink_to(tmp_path / "x")
    _, description = described(tmp_path / "x")
    assert description.targets["label"].classes == ("Crop", "Forest")


# ------------------------------------------------------------------------------------------------- a folder a modality


def test_a_folder_for_each_modality(tmp_path):
    for sample in range(6):
        write_tif(tmp_path / "s2" / f"p{sample}.tif", pixels(3, sample, 200, np.uint8))
        write_tif(tmp_path / "s1" / f"p{sample}.tif", pixels(2, sample, 10, np.float32) - 20)
        write_tif(tmp_path / "dem" / f"p{sample}.tif", np.full((SIDE, SIDE), sample, np.int16))
        codes = np.full((SIDE, SIDE), 255 * (sample % 2), np.uint8)
        write_picture(tmp_path / "mask" / f"p{sample}.png", codes)
    guess, description = described(tmp_path)
    assert {key: source.kind for key, source in description.modalities.items()} == dict.fromkeys(
        ("dem", "s1", "s2"), "image"
    )
    assert description.modalities["s1"].bands == ("VV", "VH") and set(description.modalities["s1"].unit) == {"dB"}
    assert description.modalities["dem"].unit == ("m",)
    mask = description.targets["mask"]
    assert mask.kind == "map" and mask.codes == (0, 255) and mask.classes == ("no mask", "mask")
    sample = DescribedDataset(tmp_path, progress=False)[1]
    assert sample["s1"].shape == (2, SIDE, SIDE) and set(sample["mask"].unique().tolist()) == {1}
    assert "backscatter in dB" in said(guess)


def test_folders_whose_files_have_other_names(tmp_path):
    for sample in range(4):
        write_tif(tmp_path / "s2" / f"S2_{sample}.tif", pixels(4, sample))
    for sample in range(3):
        write_tif(tmp_path / "s1" / "a" / f"S1_{sample}.tif", pixels(2, sample, 1, np.float32))
    guess, _ = described(tmp_path)
    assert any("other names than those of" in problem for problem in guess.problems)


def test_one_folder_alone(tmp_path):
    root = tmp_path / "my chips"
    for sample in range(4):
        write_tif(root / f"{sample}.tif", pixels(4, sample))
    _, description = described(root)
    assert list(description.modalities) == ["image"] and not description.targets
    assert description.modalities["image"].files.text == "{id}.tif"


@pytest.mark.parametrize("layout", ["flat", "folder a band", "folder a sample", "folder a sample, bands alone"])
def test_a_file_a_band(tmp_path, layout):
    bands = ("B02", "B03", "B8A", "VV")
    patterns = {
        "flat": "images/{id}_{band}.tif",
        "folder a band": "images/{band}/{id}.tif",
        "folder a sample": "images/{id}/{id}_{band}.tif",
        "folder a sample, bands alone": "images/{id}/{band}.tif",
    }
    for sample in range(6):
        for place, band in enumerate(bands):
            path = patterns[layout].format(id=f"patch{sample}", band=band)
            write_tif(tmp_path / path, pixels(1, 10 * sample + place, 2000 + 100 * place)[0])
    _, description = described(tmp_path)
    sources = description.modalities.values()
    assert {source.files.text for source in sources} == {patterns[layout]}
    assert {band for source in sources for band in source.bands} == set(bands)
    assert sorted(DescribedDataset(tmp_path, progress=False).patch_ids) == [f"patch{n}" for n in range(6)]


def test_a_folder_a_sample_with_a_file_a_modality(tmp_path):
    for sample in range(6):
        write_tif(tmp_path / f"place {sample}" / "optical.tif", pixels(4, sample))
        write_picture(tmp_path / f"place {sample}" / "flood.png", np.eye(SIDE, dtype=np.uint8))
    _, description = described(tmp_path)
    assert description.modalities["optical"].files.text == "{id}/optical.tif"
    assert description.targets["flood"].files.text == "{id}/flood.png"


def test_folders_that_nobody_understands(tmp_path):
    for folder in range(30):
        for sample in range(folder + 1):
            write_picture(tmp_path / f"{folder}" / ("a" * (folder % 3)) / f"{sample}.png", np.zeros((2, 2), np.uint8))
    with pytest.raises(DescriptionError, match=r"neither classes .* nor samples"):
        describe(tmp_path, progress=False)


# ------------------------------------------------------------------------------------------------------ beside a table


@pytest.mark.parametrize("whole", [False, True])
def test_a_flat_folder_beside_a_table(tmp_path, whole):
    rows = ["name,site,crop,harvest,lon,lat"]
    for sample in range(20):
        write_tif(tmp_path / "images" / f"p {sample}.tif", pixels(4, sample))
        crop = ("maize", "blé")[sample % 2]
        rows.append(
            f"p {sample}{'.tif' if whole else ''},s{sample // 2},{crop},{sample / 4},{sample / 9},{48 + sample / 9}"
        )
    (tmp_path / "table.csv").write_text("\n".join(rows), encoding="utf-8")
    guess, description = described(tmp_path)
    assert description.samples["id"] == "name" and description.samples["group"] == "site"
    assert description.modalities["images"].files.text == ("images/{name}" if whole else "images/{name}.tif")
    assert description.targets["crop"].classes == ("blé", "maize") and description.targets["harvest"].kind == "number"
    assert "lonlat" in description.modalities
    assert len(DescribedDataset(tmp_path, "train", progress=False)) == 12
    assert not [problem for problem in guess.problems if "no names" not in problem]


def test_a_table_joins_files_of_several_names(tmp_path):
    rows = ["patch,radar,label"]
    for sample in range(12):
        write_tif(tmp_path / "s2" / f"S2_{sample}.tif", pixels(4, sample))
        write_tif(tmp_path / "s1" / f"S1_{sample + 1}.tif", pixels(2, sample, 10, np.float32) - 20)
        rows.append(f"S2_{sample},S1_{sample + 1},{'ab'[sample % 2]}")
    (tmp_path / "pairs.csv").write_text("\n".join(rows))
    _, description = described(tmp_path)
    assert description.modalities["s1"].files.text == "s1/{radar}.tif"
    assert len(DescribedDataset(tmp_path, progress=False)) == 12


def test_class_folders_beside_a_table_that_names_their_files(tmp_path):
    root = write_classes(tmp_path / "x", 3, ".png")
    names = sorted(path.name for path in root.glob("*/*"))
    (root / "list.csv").write_text("\n".join(["file,tile", *(f"{name},t{n % 6}" for n, name in enumerate(names))]))
    _, description = described(root)
    assert description.modalities["image"].files.text == "*/{file}" and description.samples["group"] == "tile"
    (root / "list.csv").write_text("\n".join(["file,kind", *(f"{name},{name[:-6]}" for name in names)]))
    _, description = described(root, overwrite=True)
    assert description.modalities["image"].files.text == "{kind}/{file}"
    assert description.targets["kind"].classes == ("Crop", "Forest", "Sea")
    assert len(DescribedDataset(root, progress=False)) == 18


def test_a_table_that_names_no_file(tmp_path):
    root = write_classes(tmp_path / "x", 3, ".png")
    (root / "other.csv").write_text("a,b\n1,2\n")
    guess, description = described(root)
    assert "table" not in description.samples and any("other.csv names the files" in each for each in guess.problems)
    shutil.rmtree(root / "Sea")
    shutil.rmtree(root / "Crop")
    (root / FILE_NAME).unlink()
    with pytest.raises(DescriptionError, match=r"no column of .*other\.csv.*names the image files"):
        describe(root, progress=False)


def test_the_table_that_names_the_files_is_taken(tmp_path):
    for sample in range(6):
        write_tif(tmp_path / "images" / f"p{sample}.tif", pixels(4, sample))
    (tmp_path / "a.csv").write_text("id,x\nq,1\n")
    (tmp_path / "b.csv").write_text("id,x\n" + "".join(f"p{n},{n}\n" for n in range(6)))
    guess, description = described(tmp_path)
    assert description.samples["table"] == "b.csv" and any("of the tables" in problem for problem in guess.problems)


# ------------------------------------------------------------------------------------------------------- BigEarthNet v2


def write_bigearthnet(root: Path, count: int, metadata: bool) -> Path:
    rows = ["patch_id,labels,split,country,s1_name,s2v1_name"]
    for sample in range(count):
        s2, s1 = f"S2A_T1_{sample}_{sample}", f"S1A_T1_{sample}"
        for place, band in enumerate(S2_BANDS):
            write_tif(root / "BigEarthNet-S2" / "S2A_T1" / s2 / f"{s2}_{band}.tif", pixels(1, 99 * sample + place)[0])
        for place, band in enumerate(("VV", "VH")):
            radar = pixels(1, sample + place, 10, np.float32)[0] - 20
            write_tif(root / "BigEarthNet-S1" / "S1A_T1" / s1 / f"{s1}_{band}.tif", radar)
        codes = np.full((SIDE, SIDE), (112, 312)[sample % 2], np.uint16)
        write_tif(root / "Reference_Maps" / "S2A_T1" / s2 / f"{s2}_reference_map.tif", codes)
        labels = ("Pastures", "Arable land;Pastures")[sample % 2]
        rows.append(f"{s2},{labels},{('train', 'validation', 'test')[sample % 3]},Austria,{s1},v1_{sample}")
    if metadata:
        (root / "metadata.csv").write_text("\n".join(rows))
    return root


@pytest.mark.parametrize("metadata", [True, False])
def test_bigearthnet_v2(tmp_path, metadata):
    guess, description = described(write_bigearthnet(tmp_path / "ben", 6, metadata))
    assert list(description.modalities) == (["s2", "s1"] if metadata else ["s2"])
    assert list(description.targets) == (["reference_map", "labels"] if metadata else ["reference_map"])
    assert description.licence == "CDLA-Permissive-1.0"
    reference = description.targets["reference_map"]
    assert len(reference.codes) == 44 and reference.classes[reference.codes.index(312)] == "Coniferous forest"
    sample = DescribedDataset(tmp_path / "ben", "test" if metadata else None, progress=False)[0]
    assert sample["s2"].shape == (12, SIDE, SIDE)
    assert reference.classes[sample["reference_map"][0, 0]] in ("Discontinuous urban fabric", "Coniferous forest")
    assert any("no metadata.parquet" in problem for problem in guess.problems) != metadata


# -------------------------------------------------------------------------------------------------------- real folders


@pytest.fixture
def real(tmp_path):
    """Copies a folder of real imagery that stands beside the checkout; skips where it does not."""

    def copy(name: str) -> Path:
        if not (REAL / name).is_dir():
            pytest.skip("the real imagery is not beside this checkout")
        return Path(shutil.copytree(REAL / name, tmp_path / name))

    return copy


def test_real_eurosat(real):
    guess, description = described(real("eurosat_ms"))
    assert description.modalities["image"].bands == EUROSAT
    assert description.targets["label"].classes == ("AnnualCrop", "Pasture", "SeaLake")
    assert not [problem for problem in guess.problems if "side" not in problem]  # three samples are too few for a split
    page = (Path(__file__).parents[2] / "docs" / "own-data.md").read_text(encoding="utf-8")
    assert f"```toml\n{guess.text.strip()}\n```" in page


def test_real_chips_of_many_layers(real):
    guess, description = described(real("multitask_chips"))
    assert description.samples["group"] == "site_group"
    assert list(description.modalities) == ["optical", "merit_dem", "dem"]
    assert description.modalities["merit_dem"].no_data[-1] == -9999
    assert {key: source.kind for key, source in description.targets.items()} == {"land_cover": "map", "water": "map"}
    assert 0 in description.targets["land_cover"].no_data
    assert "# [modalities.water_occurrence]" in guess.text and "qa" not in guess.text
    assert any("74.tif has no data at any pixel of merit_dem" in problem for problem in guess.problems)


def test_real_floods(real):
    guess, description = described(real("ombria"))
    assert list(description.modalities) == ["s1_after", "s1_before", "s2_after", "s2_before"]
    assert description.targets["mask"].codes == (0, 255)
    assert ["5 folders hold files of the same numbers" in problem for problem in guess.problems] == [True]


def test_real_chips_of_two_baselines(real):
    guess, description = described(real("s2_chips"))
    assert description.modalities["image"].bands == S2_BANDS and "lonlat" in description.modalities
    assert any("offset of 1000" in problem for problem in guess.problems)


def test_real_bigearthnet(real):
    guess, description = described(real("bigearthnet_v2"))
    assert list(description.modalities) == ["s2"]
    assert any("no metadata.parquet" in problem for problem in guess.problems)


def test_real_stations(real):
    guess, description = described(real("locations"))
    assert list(description.modalities) == ["lonlat"]
    assert {"meanT", "meanP"} < set(description.targets)
    assert description.samples["block"] > 0.25  # stations lie further apart than the usual block is wide
    assert not guess.problems


def test_real_pictures_in_class_folders(real, tmp_path):
    if not (REAL / "eurosat_rgb").is_dir():
        pytest.skip("the real imagery is not beside this checkout")
    for folder in sorted((REAL / "eurosat_rgb").iterdir()):
        (tmp_path / "rgb" / folder.name).mkdir(parents=True)
        for path in sorted(folder.iterdir())[:4]:
            shutil.copy(path, tmp_path / "rgb" / folder.name)
    guess, description = described(tmp_path / "rgb")
    assert len(description.targets["label"].classes) == 10 and not guess.problems


# -------------------------------------------------------------------------------------------------------------- faults


def test_what_is_there_is_not_replaced(tmp_path):
    root = write_classes(tmp_path / "x", 3, ".png")
    (root / FILE_NAME).write_text("mine")
    with pytest.raises(DescriptionError, match="exists already"):
        describe(root, progress=False)
    assert (root / FILE_NAME).read_text() == "mine"
    described(root, overwrite=True)


def test_folders_with_nothing_to_describe(tmp_path):
    with pytest.raises(DatasetNotFoundError, match="there is no folder"):
        describe(tmp_path / "none", progress=False)
    (tmp_path / "file").write_text("x")
    with pytest.raises(DatasetNotFoundError, match="there is no folder"):
        describe(tmp_path / "file", progress=False)
    (tmp_path / "empty" / "below").mkdir(parents=True)
    (tmp_path / "empty" / "notes.txt").write_text("x")
    with pytest.raises(DatasetNotFoundError, match="neither images"):
        describe(tmp_path / "empty", progress=False)
    (tmp_path / "empty" / "table.csv").write_bytes(b"PK\x03\x04")
    with pytest.raises(TableError, match="Excel"):
        describe(tmp_path / "empty", progress=False)
    assert not list(tmp_path.rglob("*.toml*"))


def test_files_that_cannot_be_read(tmp_path):
    root = write_classes(tmp_path / "x", 4, ".tif")
    damaged = sorted(root.glob("*/*.tif"))[0]
    damaged.write_bytes(b"damaged")
    guess, description = described(root)
    assert len(description.modalities["image"].bands) == 4
    assert any(f"{damaged} cannot be read" in problem for problem in guess.problems)
    for path in root.glob("*/*.tif"):
        path.write_bytes(b"damaged")
    with pytest.raises(DescriptionError, match=r"cannot be read .*repair it"):
        describe(root, overwrite=True, progress=False)


def test_problems_name_what_has_to_be_decided(tmp_path):
    root = write_classes(tmp_path / "x", 4, ".tif")
    first = sorted(root.glob("*/*.tif"))[0]
    write_tif(first, pixels(5, 1))
    assert "have 4 or 5 layers" in said(described(root)[0])
    write_tif(first, pixels(4, 1).astype(np.float32))
    assert "holds float32, the first sample uint16" in re.sub("uint16, the first sample float32",
        "float32, the first sample uint16", said(described(root, overwrite=True)[0]))  # fmt: skip
    for path in root.glob("*/*.tif"):
        write_tif(path, pixels(4, 1) // 2 + 1500)
    assert "offset of 1000" in said(described(root, overwrite=True)[0])


def test_a_folder_that_cannot_be_written(tmp_path):
    root = write_classes(tmp_path / "x", 3, ".png")
    (root / f".{os.getpid()}-{FILE_NAME}").mkdir()
    with pytest.raises(DiskError, match="refuses"):
        describe(root, progress=False)


def test_an_interruption_leaves_nothing(tmp_path, monkeypatch):
    root = write_classes(tmp_path / "x", 3, ".png")
    before = sorted(root.rglob("*"))

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("bengelib.data.stores.FileStore.statistics", interrupt)
    with pytest.raises(KeyboardInterrupt):
        describe(root, progress=False)
    assert sorted(root.rglob("*")) == before


def test_numbered_folders_that_may_be_classes_are_asked_for(tmp_path):
    for folder in ("dry", "wet", "ice"):
        for number in range(4):
            write_tif(tmp_path / "x" / folder / f"{number:03d}.tif", pixels(4, number))
    guess, _ = described(tmp_path / "x")
    assert any("if they are classes" in problem and '"{class}/{id}.tif"' in problem for problem in guess.problems)


@pytest.mark.parametrize("name", ["img_{}", "{:04d}"])
def test_classes_of_different_sizes_whose_files_are_numbered_alike(tmp_path, name):
    root = tmp_path / "x"
    for folder, count in (("Crop", 12), ("Forest", 18), ("Lake", 24)):
        for number in range(count):
            write_tif(root / folder / f"{name.format(number)}.tif", pixels(4, number))
    guess, description = described(root)
    assert description.targets["label"].classes == ("Crop", "Forest", "Lake")
    assert len(DescribedDataset(root, progress=False)) == 54
    assert any('if they are modalities, write one for each, with files = "Crop/{id}.tif"' in p for p in guess.problems)


@pytest.mark.parametrize("counts", [(6, 6), (6, 12)])
def test_folders_of_one_kind_are_asked_for_and_others_are_modalities(tmp_path, counts):
    for (folder, bands), count in zip((("a", 4), ("b", 4)), counts, strict=True):
        for number in range(count):
            write_tif(tmp_path / "x" / folder / f"site{number}{'x' * (number % 2)}.tif", pixels(bands, number))
            write_tif(tmp_path / "y" / folder / f"{number}.tif", pixels(bands + (folder == "b"), number))
    guess, description = described(tmp_path / "x")
    assert list(description.modalities) == ["a", "b"]
    assert any("the 2 folders hold files of one kind" in problem for problem in guess.problems)
    guess, description = described(tmp_path / "y")
    assert list(description.modalities) == ["a", "b"] and not any("classes" in each for each in guess.problems)


def test_a_tree_of_ben_ge_needs_no_description(tmp_path):
    tree = write_fake_tree(tmp_path / "ben-ge-fake", 3)
    for root in (tree, pack(tree, progress=False)):
        with pytest.raises(DescriptionError, match=r"layout of ben-ge, which is known.*give it to pretrain"):
            describe(root, progress=False)
        assert not (root / FILE_NAME).exists()


def test_arrays_whose_last_axis_may_be_that_of_the_bands(tmp_path):
    for folder in ("a", "b"):
        for number in range(4):
            path = tmp_path / "x" / folder / f"{folder}{number}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, np.arange(24 * 24 * 5, dtype=np.float32).reshape(24, 24, 5) + number)
    guess, _ = described(tmp_path / "x")
    assert any("24 bands of 24 x 5 pixels" in problem for problem in guess.problems)

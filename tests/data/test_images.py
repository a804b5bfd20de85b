import pickle
import re
import shutil
from unicodedata import normalize

import numpy as np
import pytest
import torch
from PIL import Image

from bengelib.data.batches import batches
from bengelib.data.images import ImageFolder, class_of, image_modality, list_images
from bengelib.devices import make_accelerator
from bengelib.errors import ArgumentError, BandError, DataWarning, MissingModalityError, RasterError
from bengelib.fusion import EarlyFusion
from tests.image_folders import COLOURS, pixels, write_images


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Ten images of 16 pixels a class, in PNG, so that the pixels are those written. To be read only."""
    return write_images(tmp_path_factory.mktemp("images") / "tiny", size=16, suffix=".png")


def test_samples_hold_the_pixels_as_they_were_written(folder):
    data = ImageFolder(folder, size=16, progress=False)
    assert data.classes == tuple(COLOURS) and len(data) == 30
    for index in (0, 13, 29):
        sample = data[index]
        label, place = re.fullmatch(r"(\w+)/\w+_(\d+)\.png", sample["patch_id"]).groups()
        assert sample["image"].dtype == torch.float32 and sample["image"].shape == (3, 16, 16)
        expected = pixels(label, int(place), 16).transpose(2, 0, 1) / 255
        assert np.allclose(sample["image"].numpy(), expected, atol=1e-6)
        assert data.classes[int(sample["label"])] == label
    with pytest.raises(IndexError):
        data[30]


def test_fit_reads_whole_batches(folder):
    data = ImageFolder(folder, size=16, progress=False)
    (batch,) = batches(torch.utils.data.Subset(data, [3, 25]), 8, make_accelerator("no"), 0)
    assert torch.equal(batch["image"][1], data[25]["image"])
    assert batch["label"].tolist() == [0, 2] and batch["patch_id"] == [data.names[3], data.names[25]]
    assert len(pickle.loads(pickle.dumps(data))) == 30  # worker processes get a copy


def test_statistics_are_those_of_all_pixels(folder):
    data = ImageFolder(folder, size=16, progress=False)
    mean, std = data.statistics()
    images = torch.stack([data[index]["image"] for index in range(30)]).double()
    assert torch.allclose(mean.double(), images.mean(dim=(0, 2, 3)), atol=1e-6)
    assert torch.allclose(std.double(), images.std(dim=(0, 2, 3), correction=0), atol=1e-6)


def test_only_the_named_files_are_opened(tmp_path):
    root = write_images(tmp_path / "tiny", count=3, size=16)
    names = list_images(root)
    (root / names[0]).write_bytes(b"not an image")
    assert ImageFolder(root, names[1:], size=16, progress=False).names == names[1:]


def broken(path):
    """A JPEG that ends in the middle."""
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


@pytest.mark.parametrize(
    "damage", [broken, lambda path: path.write_bytes(b""), lambda path: path.write_bytes(b"no image")]
)
def test_a_broken_image_is_named_or_left_out_loudly(tmp_path, damage):
    root = write_images(tmp_path / "tiny", count=3)
    damage(root / "Forest" / "Forest_1.jpg")
    with pytest.raises(RasterError, match=r"Forest_1\.jpg.*on_error=\"skip\""):
        ImageFolder(root, size=32, progress=False)
    with pytest.warns(UserWarning, match=r"1 of 9 images cannot be used.*Forest_1"):
        data = ImageFolder(root, size=32, on_error="skip", progress=False)
    assert len(data) == 8 and list(data.skipped) == ["Forest/Forest_1.jpg"]
    assert data.labels.tolist() == [0, 0, 0, 1, 1, 2, 2, 2]
    assert np.bincount([list(data.classes).index(class_of(name)) for name in data.names]).tolist() == [3, 2, 3]


def test_nothing_left_is_an_error(tmp_path):
    root = write_images(tmp_path / "tiny", count=1)
    for name in list_images(root):
        (root / name).write_bytes(b"")
    with pytest.raises(RasterError, match="None is left"):
        ImageFolder(root, on_error="skip", progress=False)


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "RGBA"])
def test_other_kinds_of_pixels_become_rgb(tmp_path, mode, recwarn):
    root = write_images(tmp_path / "tiny", count=1, size=16)
    grey = Image.fromarray(pixels("Water", 0, 16)).convert(mode)
    suffix = ".jpg" if mode == "CMYK" else ".png"
    grey.save(root / "Water" / f"other{suffix}")
    data = ImageFolder(root, size=16, progress=False)
    image = data[data.names.index(f"Water/other{suffix}")]["image"]
    assert image.shape == (3, 16, 16)
    said = [str(warning.message) for warning in recwarn if "are grey" in str(warning.message)]
    if mode in ("L", "1"):
        assert torch.equal(image[0], image[1]) and torch.equal(image[0], image[2])
        assert said and "1 of 4 images are grey, the first being Water/other" in said[0]
    else:
        assert not said
        assert torch.allclose(image.mean(dim=(1, 2)) * 255, torch.tensor(COLOURS["Water"]).float(), atol=15)


def test_other_sizes_are_resized_with_a_notice(tmp_path):
    root = write_images(tmp_path / "tiny", count=2, size=16)
    Image.fromarray(np.full((40, 24, 3), 77, np.uint8)).save(root / "Water" / "large.png")
    with pytest.warns(UserWarning, match=r"1 of 7 images are not 16 x 16 pixels, the first being Water/large"):
        data = ImageFolder(root, size=16, progress=False)
    assert torch.allclose(data[data.names.index("Water/large.png")]["image"], torch.full((3, 16, 16), 77 / 255))


def test_wrong_arguments_are_refused(folder):
    with pytest.raises(ValueError, match="on_error"):
        ImageFolder(folder, on_error="ignore")
    with pytest.raises(ValueError, match="size"):
        ImageFolder(folder, size=0)
    with pytest.raises(BandError, match="Water"):
        ImageFolder(folder, classes=("Field", "Forest"))
    with pytest.raises(RasterError, match="no image"):
        ImageFolder(folder, ["Water/gone.png"], progress=False)
    with pytest.raises(ArgumentError, match=r"size=16\.0"):
        ImageFolder(folder, size=16.0)
    with pytest.raises(ArgumentError, match=r"names.*'Water/Water_0\.png'"):
        ImageFolder(folder, "Water/Water_0.png")


def test_a_mask_is_not_taken_for_indices(folder):
    data = ImageFolder(folder, size=16, progress=False)
    mask = data.labels == 1
    for read in (
        lambda: data.read_batch(mask),
        lambda: data[True],
        lambda: data[mask],
        lambda: list(batches(torch.utils.data.Subset(data, mask), 8, make_accelerator("no"), 0)),
    ):
        with pytest.raises(ArgumentError):
            read()
    assert data.read_batch(np.flatnonzero(mask))["label"].tolist() == [1] * 10
    assert data[-1]["patch_id"] == data.names[29]


def test_the_account_says_what_became_of_every_file(tmp_path, capsys):
    root = write_images(tmp_path / "tiny", count=3)
    broken(root / "Forest" / "Forest_1.jpg")
    (root / "Water" / "Water_0.jpg").rename(root / "Water" / "Water_0.webp")
    (root / "Water" / ".DS_Store").write_bytes(b"x")
    with pytest.warns(DataWarning, match=r"7 of 10 images used") as said:
        data = ImageFolder(root, size=32, on_error="skip", progress=True)
    assert len(said) == 1 and said[0].filename == __file__ and str(said[0].message) == str(data.account)
    assert (data.account.met, data.account.used) == (10, 7)
    left = {reason: list(names) for reason, names in data.account.left_out.items()}
    assert left == {
        "have a suffix that is not read (.webp)": ["Water/Water_0.webp"],
        "cannot be used": ["Forest/Forest_1.jpg"],
    }
    assert "images used" not in capsys.readouterr().err  # it was shown as a warning
    ImageFolder(root, ["Field/Field_0.jpg", "Water/Water_1.jpg"], size=32)
    assert "tiny: 2 of 2 images used" in capsys.readouterr().err


def test_a_class_in_two_spellings_is_one_class(tmp_path):
    root = write_images(tmp_path / "tiny", count=4, size=16)
    composed, decomposed = (root / normalize(form, "Forêt") for form in ("NFC", "NFD"))
    (root / "Forest").rename(composed)
    decomposed.mkdir()
    (composed / "Forest_0.jpg").rename(decomposed / "Forest_0.jpg")
    with pytest.warns(DataWarning, match=r"the class Forêt has 2 folders"):
        data = ImageFolder(root, size=16, progress=False)
    assert data.classes == ("Field", "Forêt", "Water") and data.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    with pytest.warns(DataWarning):
        again = ImageFolder(root, size=16, classes=[normalize("NFD", label) for label in data.classes], progress=False)
    assert again.classes == data.classes


def test_copies_have_equal_contents(tmp_path):
    root = write_images(tmp_path / "tiny", count=2, size=16)
    shutil.copy(root / "Water" / "Water_0.jpg", root / "Water" / "again.jpg")
    data = ImageFolder(root, size=16, progress=False)
    assert len(set(data.contents)) == 6 and len(data.contents) == 7


def test_encoder_normalises_with_its_statistics():
    mean, std = (0.2, 0.4, 0.6), (0.1, 0.2, 0.5)
    encoder = EarlyFusion({"image": image_modality(mean, std)}, width=0.125)
    flat = torch.tensor(mean).view(1, 3, 1, 1).expand(2, 3, 8, 8)
    assert torch.allclose(encoder.read.stack({"image": flat}), torch.zeros(2, 3, 8, 8), atol=1e-6)
    assert encoder.read.stack({"image": flat + 0.1})[0, :, 0, 0].tolist() == pytest.approx([1, 0.5, 0.2], abs=1e-5)
    assert encoder({"image": torch.rand(2, 3, 32, 32)}).shape == (2, encoder.feature_dim)
    assert encoder.inputs["image"].bands == ("R", "G", "B")


def test_a_channel_that_never_varies_is_divided_by_one(tmp_path):
    root = write_images(tmp_path / "even", count=2, size=16)
    for path in root.rglob("*.jpg"):
        Image.new("RGB", (16, 16), (10, 20, 30)).save(path)
    assert ImageFolder(root, size=16, progress=False).inputs["image"].std == (1, 1, 1)


def test_encoder_refuses_other_inputs():
    encoder = EarlyFusion({"image": image_modality()}, width=0.125)
    with pytest.raises(MissingModalityError, match="'image'"):
        encoder({"s2": torch.rand(1, 12, 32, 32)})
    with pytest.raises(BandError, match="4 channels"):
        encoder({"image": torch.rand(1, 4, 32, 32)})
    with pytest.raises(BandError):
        image_modality((0.5,), (0.5,))

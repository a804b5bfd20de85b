import os
import shutil
from collections import Counter
from unicodedata import normalize

import numpy as np
import pytest
from PIL import Image

from bengelib.data.image_files import same_pictures
from bengelib.data.image_listing import class_of, hold_out, list_images, picture_hashes, same_names
from bengelib.errors import ArgumentError, DatasetNotFoundError, DataWarning, SplitError
from tests.image_folders import write_images


@pytest.fixture
def root(tmp_path):
    """Three classes of four images, to be damaged."""
    return write_images(tmp_path / "tiny", count=4, size=16)


# ------------------------------------------------------------------------------------------------------- what is read


def test_a_good_folder_is_listed_without_a_word(root, recwarn):
    names = list_images(root)
    assert names == sorted(names) and len(names) == 12 and names.root == root
    assert str(names.account) == f"{root}: 12 of 12 images used" and not recwarn.list


def test_a_class_that_came_as_tiff_is_an_error(root):
    for path in (root / "Water").iterdir():
        path.rename(path.with_suffix(".tif"))
    with pytest.raises(DatasetNotFoundError, match=r"folder \S+Water none is read: 4 have a suffix .*\(\.tif\)"):
        list_images(root)


def test_what_is_left_out_of_a_class_is_counted_by_reason(root):
    for place in (0, 1):
        (root / "Water" / f"Water_{place}.jpg").rename(root / "Water" / f"Water_{place}.webp")
    (root / "Water" / "notes.csv").write_text("x")
    (root / "Field" / "Field_0.jpg").rename(root / "Field" / ".Field_0.jpg")
    (root / "Field" / "gone.jpg").symlink_to(root / "nowhere.jpg")
    with pytest.warns(DataWarning) as said:
        names = list_images(root)
    assert len(names) == names.account.used == 9 and names.account.met == 14 and len(said) == 1
    assert {reason: len(found) for reason, found in names.account.left_out.items()} == {
        "have a suffix that is not read (.webp)": 2,
        "have a suffix that is not read (.csv)": 1,
        "are hidden files": 1,
        "are links that lead nowhere": 1,
    }
    assert "2 of 14 images have a suffix that is not read (.webp), the first being Water/Water_0.webp; left out" in str(
        said[0].message
    )


def test_images_in_folders_below_a_class_are_read(root):
    (root / "Water" / "2019" / "May").mkdir(parents=True)
    for path in list((root / "Water").glob("*.jpg"))[:2]:
        path.rename(root / "Water" / "2019" / "May" / path.name)
    names = list_images(root)
    assert Counter(class_of(name) for name in names) == {"Field": 4, "Forest": 4, "Water": 4}


def test_a_link_to_a_folder_above_is_not_followed_for_ever(root):
    (root / "Water" / "again").symlink_to(root)
    with pytest.warns(DataWarning, match="links to a folder above"):
        assert len(list_images(root)) == 12


def test_what_operating_systems_leave_is_no_concern(root, recwarn):
    (root / ".git" / "objects").mkdir(parents=True)
    (root / ".git" / "objects" / "ab12").write_bytes(b"x")
    for name in ("labels.csv", "LICENSE", "encoder.safetensors", "rows.json"):
        (root / name).write_text("x")
    for name in ("Thumbs.db", ".DS_Store", "._Water_0.jpg", "desktop.ini"):
        (root / "Water" / name).write_bytes(b"x")
    (root / "@eaDir").mkdir()
    shutil.copy(root / "Water" / "Water_0.jpg", root / "@eaDir" / "SYNOPHOTO_THUMB_M.jpg")
    (root / "__MACOSX" / "Water").mkdir(parents=True)
    (root / "__MACOSX" / "Water" / "._Water_0.jpg").write_bytes(b"x")
    (root / "readme.txt").write_text("x")
    (root / "Water" / "Water_0.jpg").rename(root / "Water" / "Water_0.JPEG")
    names = list_images(root)
    assert len(names) == 12 and not recwarn.list
    assert names.account.set_aside == {
        "are hidden or of the operating system": 7,
        "are other files beside the class folders": 5,
    }


def _dangling(root):
    (root / "Lake").symlink_to(root.parent / "disk that is not there")


def _file_of_git(root):  # what git makes of a link on disks without links
    (root / "Lake").write_text("../elsewhere/Lake")


def _hidden(root):
    shutil.copytree(root / "Water", root / ".Lake" / "2019")


def _hidden_tiffs(root):
    (root / ".Lake").mkdir()
    (root / ".Lake" / "a.TIF").write_bytes(b"II*\0")


def _upwards(root):
    (root / "Lake").symlink_to(root)


def _found_by_a_disk_check(root):
    shutil.copytree(root / "Water", root / "lost+found" / "Lake")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_found_by_a_disk_check, "hidden folders with images in them, the first being lost.found"),
        (_dangling, "links that lead nowhere, the first being Lake"),
        (_file_of_git, r"\(none\), the first being Lake"),
        (lambda root: (root / "Lake.zip").write_bytes(b"PK"), r"\(\.zip\), the first being Lake.zip"),
        (lambda root: (root / "Lake.tar.gz").write_bytes(b""), r"\(\.gz\), the first being Lake.tar.gz"),
        (lambda root: (root / "Lake.tif").write_bytes(b""), r"\(\.tif\), the first being Lake.tif"),
        (lambda root: os.mkfifo(root / "Lake"), "are no files, the first being Lake"),
        (_hidden, "hidden folders with images in them, the first being .Lake"),
        (_hidden_tiffs, "hidden folders with images in them, the first being .Lake"),
        (_upwards, "links to a folder above, the first being Lake"),
    ],
)
def test_a_class_folder_that_is_none_is_counted_as_left_out(root, damage, words):
    damage(root)
    with pytest.warns(DataWarning, match=words) as said:
        names = list_images(root)
    assert len(names) == 12 and names.account.met == 13 and len(said) == 1
    for label in ("Field", "Forest"):
        shutil.rmtree(root / label)
    with pytest.raises(DatasetNotFoundError, match=r"Left out: 1 .*such as (\.?Lake|lost)"):
        list_images(root)


def test_two_names_of_one_folder_are_named(root):
    (root / "Lake").symlink_to(root / "Water")
    with pytest.warns(DataWarning, match="Lake and Water are one folder"):
        assert len(list_images(root)) == 16


def test_what_is_hidden_in_a_class_is_counted_as_left_out(root):
    (root / "Water" / "2019").mkdir()
    (root / "Water" / "Water_0.jpg").rename(root / "Water" / "2019" / "a.jpg")
    (root / "Water" / "2019").rename(root / "Water" / ".2019")
    (root / "Water" / ".b.tif").write_bytes(b"")
    with pytest.warns(DataWarning, match=r"hidden folders .*Water/\.2019(.|\n)*hidden files.*Water/\.b\.tif"):
        assert len(list_images(root)) == 11


def test_images_of_other_kinds_in_a_folder_without_classes_are_counted_as_left_out(root):
    flat = root / "Water"
    (flat / "Water_0.jpg").rename(flat / "Water_0.webp")
    with pytest.warns(DataWarning, match=r"1 of 4 images have a suffix that is not read \(\.webp\)"):
        assert len(list_images(flat, need_classes=False)) == 3


def test_an_empty_folder_and_images_without_a_class_are_named(root):
    (root / "Lake").mkdir()
    shutil.copy(root / "Water" / "Water_0.jpg", root / "loose.jpg")
    with pytest.warns(DataWarning, match=r"lie beside the class folders .*loose\.jpg(.|\n)*Lake is empty"):
        assert len(list_images(root)) == 12


# ------------------------------------------------------------------------------------------- folders without classes


@pytest.mark.parametrize("case", ["absent", "empty", "flat", "one", "sides", "sides without classes"])
def test_a_folder_without_classes_is_refused(tmp_path, case):
    root = tmp_path / "tiny"
    said = "tiny"
    if case != "absent":
        root.mkdir()
    if case == "flat":
        Image.new("RGB", (8, 8)).save(root / "a.jpg")
        said = "1 images lie in .*tiny itself: pretraining takes them"
    if case == "one":
        write_images(root / "2750")
        said = "Perhaps you mean .*2750"
    if case == "sides":
        write_images(root / "train")
        write_images(root / "test")
        said = "Perhaps you mean .*test"
    if case == "sides without classes":
        for side in ("train", "Validation"):
            (root / side).mkdir()
            Image.new("RGB", (8, 8)).save(root / side / "a.jpg")
        said = "folders above the classes"
    with pytest.raises(DatasetNotFoundError, match=said):
        list_images(root)
    if case != "flat":
        with pytest.raises(DatasetNotFoundError, match="tiny"):
            list_images(root, need_classes=False)


def test_pretraining_needs_no_classes(root):
    flat = root / "Water"
    assert list_images(flat, need_classes=False) == [f"Water_{place}.jpg" for place in range(4)]
    assert {class_of(name) for name in list_images(flat, need_classes=False)} == {""}
    shutil.rmtree(root / "Field")
    shutil.rmtree(root / "Forest")
    assert len(list_images(root, need_classes=False)) == 4  # in one folder


# --------------------------------------------------------------------------------------------------------------- names


def test_names_of_a_windows_zip_are_refused_with_a_hint(root):
    for path in list(root.glob("*/*")):
        path.rename(root / f"{path.parent.name}\\{path.name}")
    with pytest.raises(DatasetNotFoundError, match=r"12 names with backslashes.*Field\\Field_0\.jpg.*zip.*unzip"):
        list_images(root)
    shutil.rmtree(root)
    write_images(root, count=2)
    (root / "Water" / "Water_0.jpg").rename(root / "Water" / "2019\\Water_0.jpg")
    with pytest.raises(DatasetNotFoundError, match="1 names with backslashes"):
        list_images(root)


def test_names_that_are_no_utf_8_are_names(root):
    os.rename(root / "Water" / "Water_0.jpg", os.fsencode(root / "Water") + b"/Rivi\xe8re.jpg")
    os.rename(root / "Water", os.fsencode(root) + b"/Rivi\xe8re")
    learn, held = hold_out(list_images(root))
    assert len(learn) == 9 and len(held) == 3


def test_spellings_of_one_name_are_found():
    composed, decomposed = (normalize(form, "Forêt/é.jpg") for form in ("NFC", "NFD"))
    assert same_names([composed, "a", "gone"], [decomposed, "a"]) == {composed: decomposed, "a": "a"}
    assert same_names([composed], [decomposed, composed]) == {composed: composed}
    assert class_of(decomposed) == class_of(composed) == normalize("NFC", "Forêt")


def test_classes_of_almost_the_same_name_are_named(root):
    (root / "Field").rename(root / "water")
    with pytest.warns(DataWarning, match="almost the same name: 'Water', 'water'"):
        list_images(root)


# -------------------------------------------------------------------------------------------------------------- copies


def test_hold_out_is_stratified_and_depends_on_pictures_and_seed_alone():
    names = [f"{label}/{place}.jpg" for label, count in (("a", 50), ("b", 20), ("c", 7)) for place in range(count)]
    hashes = {name: f"picture of {name}" for name in names}
    learn, held = hold_out(names, hashes=hashes)
    assert sorted(learn + held) == sorted(names) and not set(learn) & set(held)
    assert [sum(class_of(name) == label for name in held) for label in "abc"] == [10, 4, 1]
    assert set(hold_out(names[::-1], hashes=hashes)[1]) == set(held)
    assert set(hold_out(names, seed=1, hashes=hashes)[1]) != set(held)
    renamed = {name.replace("/", "/new_"): picture for name, picture in hashes.items()}
    assert hold_out(list(renamed), hashes=renamed)[1] == [name.replace("/", "/new_") for name in held]


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
@pytest.mark.parametrize("times", [2, 3])
def test_copies_lie_on_one_side(tmp_path, share, times):
    root = write_images(tmp_path / "tiny", count=20, size=16)
    for path in list((root / "Water").iterdir()):
        for number in range(1, times):
            shutil.copy(path, path.with_name(f"{path.stem} ({number}).jpg"))
    shutil.copy(root / "Water" / "Water_0.jpg", root / "Field" / "wrong.jpg")
    names = list_images(root)
    with pytest.warns(DataWarning, match=r"copies of others.*\n.*another class") as said:
        learn, held = hold_out(names, share)
    assert f"{20 * (times - 1) + 1} of {41 + 20 * times} images are copies" in str(said[0].message)
    hashes = picture_hashes(root, names)
    assert not {hashes[name] for name in learn} & {hashes[name] for name in held}
    assert sum(class_of(name) == "Water" for name in held) == pytest.approx(share * 20 * times, abs=times)
    assert sorted(learn + held) == names


def test_hold_out_refuses_classes_that_are_too_small(tmp_path):
    names = ["a/1.jpg", "a/2.jpg", "b/1.jpg"]
    with pytest.raises(SplitError, match="'b' has 1 images"):
        hold_out(names, hashes={name: name for name in names})
    with pytest.raises(SplitError, match=r"'a' has 2 images.*copies"):
        hold_out(names[:2], hashes=dict.fromkeys(names, "the same"))
    for share in (1.0, True, "0.2", float("nan")):
        with pytest.raises(ArgumentError, match="share"):
            hold_out(names, share=share)
    with pytest.raises(ValueError, match=r"write 0\.2 for 20 per cent"):
        hold_out(names, share=20)
    with pytest.raises(ValueError, match="root="):
        hold_out(names)


def test_a_copy_whose_metadata_was_removed_is_a_copy(tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8))
    exif = Image.Exif()
    exif[0x010E] = "a description"
    for suffix in ("jpg", "png"):
        image.save(tmp_path / f"with.{suffix}", exif=exif, dpi=(300, 300))
        image.save(tmp_path / f"without.{suffix}")
        assert (tmp_path / f"with.{suffix}").read_bytes() != (tmp_path / f"without.{suffix}").read_bytes()
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png")
    names = ["with.jpg", "without.jpg", "with.png", "without.png", "turned.png"]
    with_jpg, without_jpg, with_png, without_png, turned = picture_hashes(tmp_path, names).values()
    assert with_jpg == without_jpg and with_png == without_png
    assert len({with_jpg, with_png, turned}) == 3


def test_the_same_pixels_are_copies_however_they_were_saved(tmp_path):
    """Other compression, a palette, another format, grey as colours, turned by metadata or in fact."""
    few = Image.fromarray(np.random.default_rng(0).integers(0, 4, (16, 24, 3), np.uint8) * 80)
    grey = Image.fromarray(np.random.default_rng(1).integers(0, 255, (16, 24), np.uint8))
    sideways = Image.Exif()
    sideways[0x0112] = 6
    saved = {
        "few": (few, {}),
        "few, stored": (few, {"compress_level": 0}),
        "few, palette": (few.quantize(256), {}),
        "few, opaque": (few.convert("RGBA"), {}),
        "few, turned by metadata": (few.transpose(Image.Transpose.ROTATE_90), {"exif": sideways}),
        "grey": (grey, {}),
        "grey as colours": (grey.convert("RGB"), {"optimize": True}),
        "grey, sideways": (grey.transpose(Image.Transpose.ROTATE_90), {}),
        "grey, turned by metadata": (grey.transpose(Image.Transpose.ROTATE_90), {"exif": sideways}),
        "other size": (few.resize((24, 24)), {}),
    }
    names = [f"{name}.png" for name in saved]
    for name, (image, options) in zip(names, saved.values(), strict=True):
        image.save(tmp_path / name, **options)
    few.save(tmp_path / "lossy.jpg", quality=80)
    Image.open(tmp_path / "lossy.jpg").save(tmp_path / "from lossy.png")
    Image.open(tmp_path / "lossy.jpg").save(tmp_path / "from lossy.bmp")
    (tmp_path / "from lossy.bmp").rename(tmp_path / "from lossy.jpg")
    (tmp_path / "broken.png").write_bytes(b"x")
    shutil.copy(tmp_path / "broken.png", tmp_path / "broken too.png")
    names += ["lossy.jpg", "from lossy.png", "from lossy.jpg", "broken.png", "broken too.png"]
    hashes = picture_hashes(tmp_path, names)
    groups = {}
    for name in names:
        groups.setdefault(hashes[name], []).append(name.partition(",")[0].partition(".")[0])
    assert sorted(map(set, groups.values()), key=str) == sorted(
        [{"few"}, {"grey", "grey as colours"}, {"other size"}, {"lossy", "from lossy"}, {"broken", "broken too"}],
        key=str,
    )
    assert [len(group) for group in groups.values()] == [5, 4, 1, 3, 2]


def test_copies_of_copies_are_copies():
    assert same_pictures([("a",), ("b",), ("c",), ("b", "c"), ("d",), ("c", "a")]) == [0, 0, 0, 0, 4, 0]
    assert same_pictures([]) == []


def test_pictures_saved_again_lie_on_one_side(tmp_path):
    root = write_images(tmp_path / "tiny", count=8, size=16, suffix=".png")
    for path in list((root / "Water").iterdir()):
        Image.open(path).save(path.with_name(f"{path.stem}_small.png"), optimize=True, compress_level=9)
        Image.open(path).save(path.with_name(f"{path.stem}_plain.png"), compress_level=0)
    names = list_images(root)
    with pytest.warns(DataWarning, match="16 of 40 images are copies"):
        learn, held = hold_out(names, 0.5)
    stems = [{name[:13] for name in side if name.startswith("Water")} for side in (learn, held)]
    assert all(stems) and not stems[0] & stems[1]

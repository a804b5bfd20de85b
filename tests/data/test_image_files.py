import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile, features

from bengelib.data.image_files import SEVERAL_PICTURES, TURNED, read_image, whole_images_only
from bengelib.errors import RasterError
from tests.image_folders import pixels

RGB = Image.fromarray(pixels("Water", 0, 16))


def write_png(path, values, bits=16, colour=2):
    """A PNG of `bits` a channel and one of PNG's colour types, which Pillow does not write."""
    rows = b"".join(b"\0" + row.astype(">u2" if bits == 16 else "u1").tobytes() for row in values)
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, colour, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)], ids=["L", "RGB", "LA", "RGBA"])
def test_sixteen_bits_are_refused_whatever_the_colours_are(tmp_path, colour, channels):
    values = np.random.default_rng(0).integers(300, 3000, (16, 16, channels)).astype(np.uint16)
    write_png(tmp_path / "deep.png", values, 16, colour)
    with pytest.raises(RasterError, match=r"deep\.png has more than eight bits a channel \(16\).*eight bits whose"):
        read_image(tmp_path / "deep.png")
    write_png(tmp_path / "flat.png", values >> 8, 8, colour)
    assert np.asarray(read_image(tmp_path / "flat.png")[0])[..., 0].max() == values[..., 0].max() >> 8


def test_a_jpeg_of_twelve_bits_is_refused(tmp_path):
    RGB.save(tmp_path / "a.jpg")
    raw = bytearray((tmp_path / "a.jpg").read_bytes())
    raw[raw.index(b"\xff\xc0") + 4] = 12
    (tmp_path / "a.jpg").write_bytes(raw)
    with pytest.raises(RasterError, match=r"more than eight bits a channel \(12\)"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_images_are_turned_as_viewers_do(tmp_path, orientation, suffix):
    shown = Image.fromarray(np.random.default_rng(0).integers(0, 255, (3, 4, 3), np.uint8))
    shown = shown.resize((64, 48), Image.Resampling.NEAREST)
    # How the pixels lie in the file: top, then left edge of the picture, as the EXIF standard words it.
    back = [
        None,
        Image.Transpose.FLIP_LEFT_RIGHT,
        Image.Transpose.ROTATE_180,
        Image.Transpose.FLIP_TOP_BOTTOM,
        Image.Transpose.TRANSPOSE,
        Image.Transpose.ROTATE_90,
        Image.Transpose.TRANSVERSE,
        Image.Transpose.ROTATE_270,
    ][orientation - 1]
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = shown if back is None else shown.transpose(back)
    stored.save(tmp_path / f"a.{suffix}", exif=exif, quality=95)
    image, odd, _ = read_image(tmp_path / f"a.{suffix}")
    assert image.size == (64, 48)
    assert np.abs(np.asarray(image, np.int64) - np.asarray(shown, np.int64)).mean() < 8
    assert odd == ([] if orientation == 1 else [TURNED])


def test_exif_that_cannot_be_read_is_said(tmp_path):
    RGB.save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    image, odd, _ = read_image(tmp_path / "a.jpg")
    assert image.size == (16, 16)
    assert len(odd) == 1 and "EXIF" in odd[0]


def half_transparent(mode):
    image = RGB.convert("RGBA")
    image.putalpha(Image.fromarray(np.repeat([[0], [255]], 8, axis=0).astype(np.uint8) * np.ones((1, 16), np.uint8)))
    return image.convert(mode)


@pytest.mark.parametrize(
    ("image", "suffix", "said"),
    [
        (RGB.convert("L"), "png", "are grey"),
        (RGB.convert("1"), "png", "are grey"),
        (RGB.convert("CMYK"), "jpg", "are in CMYK"),
        (half_transparent("RGBA"), "png", "have transparent pixels"),
        (RGB.convert("RGBA"), "png", ""),
        (RGB.convert("P"), "png", ""),
        (RGB, "jpg", ""),
    ],
    ids=["grey", "bilevel", "cmyk", "transparent", "opaque", "palette", "plain"],
)
def test_what_is_lost_is_said(tmp_path, image, suffix, said):
    image.save(tmp_path / f"a.{suffix}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing bare of Pillow
        _, odd, _ = read_image(tmp_path / f"a.{suffix}")
    assert len(odd) == bool(said) and all(said in words for words in odd)


def test_a_palette_with_a_transparent_colour_is_said_without_a_warning_of_pillow(tmp_path):
    RGB.convert("P").save(tmp_path / "a.png", transparency=bytes([0] * 200))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(tmp_path / "a.png")[1] == ["have transparent pixels; their hidden colours are read"]


def test_of_several_frames_the_first_is_read_and_that_is_said(tmp_path):
    other = Image.fromarray(pixels("Field", 0, 16))
    RGB.save(tmp_path / "a.png", save_all=True, append_images=[other])
    image, odd, _ = read_image(tmp_path / "a.png")
    assert odd == ["have several frames; the first is read"] and np.array_equal(np.asarray(image), np.asarray(RGB))
    RGB.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[other])
    assert read_image(tmp_path / "a.jpg")[1] == [SEVERAL_PICTURES]


def test_a_colour_profile_that_is_not_applied_is_said(tmp_path):
    RGB.save(tmp_path / "a.jpg", icc_profile=b"Display P3" * 20)
    assert read_image(tmp_path / "a.jpg")[1] == ["have a colour profile other than sRGB; it is not applied"]
    RGB.save(tmp_path / "a.jpg", icc_profile="sRGB IEC61966".encode("utf-16-be") * 20)
    assert read_image(tmp_path / "a.jpg")[1] == []


@pytest.mark.parametrize("pixels", [13_000 * 14_000, 10_000 * 13_000])
def test_a_large_orthophoto_is_too_large_and_not_broken(tmp_path, pixels):
    Image.new("1", (pixels // 13_000, 13_000)).save(tmp_path / "a.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RasterError, match=rf"a\.png is too large: {pixels} pixels.*cut it into tiles"):
            read_image(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"<!DOCTYPE html><html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "is a pointer of Git LFS"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "is a HEIF or AVIF file"),
        (b"any text", "is no image that can be read"),
    ],
)
def test_what_is_no_image_is_called_what_it_is(tmp_path, content, said):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(RasterError, match=said):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("mode", ["RGB", "I;16", "L"])
def test_a_tiff_under_another_name_is_refused(tmp_path, mode):
    values = (
        np.zeros((8, 8, 3), np.uint8) if mode == "RGB" else np.zeros((8, 8), np.uint16 if mode == "I;16" else np.uint8)
    )
    Image.fromarray(values).save(tmp_path / "a.png", format="TIFF")
    with pytest.raises(RasterError, match="is a TIFF file; images are JPEG or PNG files"):
        read_image(tmp_path / "a.png")


@pytest.mark.skipif(not features.check("webp"), reason="Pillow without WEBP")
def test_formats_of_eight_bits_under_another_name_are_read(tmp_path):
    RGB.save(tmp_path / "a.jpg", format="WEBP", lossless=True)
    image, odd, _ = read_image(tmp_path / "a.jpg")
    assert np.array_equal(np.asarray(image), np.asarray(RGB)) and not odd


def test_truncated_images_are_refused_even_where_other_code_wants_them(tmp_path, monkeypatch):
    RGB.resize((64, 64)).save(tmp_path / "a.jpg", quality=95)
    raw = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(raw[: len(raw) * 2 // 3])
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with whole_images_only(), pytest.raises(RasterError, match=r"a\.jpg is broken.*--skip"):
        read_image(tmp_path / "a.jpg")
    assert ImageFile.LOAD_TRUNCATED_IMAGES


def test_a_file_that_cannot_be_opened_is_not_called_broken(tmp_path):
    (tmp_path / "a.jpg").mkdir()
    with pytest.raises(RasterError, match=r"a\.jpg cannot be opened"):
        read_image(tmp_path / "a.jpg")

"""One image file: its metadata, its pixels in RGB, and hashes that identify copies.

Pillow alone is not enough: it silently reduces sixteen bits per channel to eight, ignores the orientation, and reads
the first of several frames.
"""

import hashlib
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageFile, UnidentifiedImageError

from bengelib.errors import RasterError

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP")
"""Pillow's formats with eight bits per channel, or with the number in the header; others may hide more."""
_OTHERS = {
    "a TIFF file": rb"II\*\0|MM\0\*|II\+\0|MM\0\+",
    "a HEIF or AVIF file": rb".{4}ftyp",
    "a JPEG 2000 file": rb"\0\0\0\x0cjP|\xff\x4f\xff\x51",
    "a pointer of Git LFS (run `git lfs pull`)": rb"version https://git-lfs",
    "a web page": rb"\s*<(?i:!doctype|html|\?xml)",
    "a zip archive": rb"PK\x03\x04",
    "a PDF": rb"%PDF",
}
"""Other content found under the name of an image, by its first bytes."""
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Transforms of the EXIF orientations other than 1, as in all viewers."""
TURNED = "are turned as their EXIF orientation says"
SEVERAL_PICTURES = "hold a second picture (MPO); the first is read, as by viewers"
HARMLESS = (TURNED, SEVERAL_PICTURES)
"""Notes that cause no warning, since viewers do the same."""
_ADVICE = 'Repair it, or leave it out: on_error="skip", on the command line --skip.'


def read_image(path: Path) -> tuple[Image.Image, list[str], tuple[str, ...]]:
    """An image in RGB with eight bits per channel.

    Returns:
        The image; its peculiarities, in words that complete "3 images ..."; and hashes of its pixels as read and, if
        rotated, as stored: files with a common hash are copies, see `same_pictures`.

    Raises:
        RasterError: the file is missing, damaged, too large, or has more than eight bits per channel.
    """
    return decode_image(read_bytes(path), path)


def decode_image(raw: bytes, path: Path) -> tuple[Image.Image, list[str], tuple[str, ...]]:
    """The result of `read_image` for given bytes; `path` is for messages."""
    if not raw:
        raise RasterError(f"{path} is empty (0 bytes). {_ADVICE}")
    if (bits := _bits(raw)) > 8:
        raise RasterError(
            f"{path} has more than eight bits a channel ({bits}), and images are read with eight. Save it as an RGB "
            "image of eight bits whose contrast you have chosen."
        )
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(BytesIO(raw)) as image:
                if image.format not in _FORMATS:
                    raise UnidentifiedImageError(image.format)
                odd = _oddities(image)
                image.load()
                rgb, more = _to_rgb(image)
                shown, turned = _as_shown(rgb, image)
    except UnidentifiedImageError as error:
        kinds = (kind for kind, start in _OTHERS.items() if re.match(start, raw[:64], re.DOTALL))
        kind = next(kinds, f"a file of format {error}" if str(error) in Image.OPEN else "no image that can be read")
        raise RasterError(f"{path} is {kind}; images are JPEG or PNG files. {_ADVICE}") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        pixels = next(iter(re.findall(r"\d+", str(error))), "very many")
        raise RasterError(
            f"{path} is too large: {pixels} pixels, where {Image.MAX_IMAGE_PIXELS} are the most; cut it into tiles"
        ) from error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, OverflowError) as error:
        raise RasterError(f"{path} is broken ({error}). {_ADVICE}") from error
    odd += more + turned
    odd += [f"were read with a warning of Pillow: {str(warning.message).strip()}" for warning in caught]
    return shown, odd, tuple(_pixel_hash(each) for each in ((shown,) if shown is rgb else (shown, rgb)))


def read_bytes(path: Path) -> bytes:
    """The bytes of an image file.

    Raises:
        RasterError: the file is missing or cannot be opened.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise RasterError(f"there is no image {path}") from error
    except OSError as error:
        raise RasterError(f"{path} cannot be opened ({error.strerror}); see to its permissions and its disk") from error


@contextmanager
def whole_images_only() -> Iterator[None]:
    """Make Pillow refuse truncated images, even if other code lets it fill them with grey."""
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


def same_pictures(hashes: Sequence[Sequence[str]]) -> list[int]:
    """For each picture, by its hashes, the index of the first of its copies, possibly its own.

    Pictures with a common hash are copies, and so are two copies of a third.
    """
    first: dict[str, int] = {}
    leads = list(range(len(hashes)))

    def lead(place: int) -> int:
        while leads[place] != place:
            place = leads[place]
        return place

    for place, those in enumerate(hashes):
        for each in those:
            one, other = lead(first.setdefault(each, place)), lead(place)
            leads[max(one, other)] = min(one, other)
    return [lead(place) for place in range(len(hashes))]


def _pixel_hash(image: Image.Image) -> str:
    """A hash of the size and the pixels of an image in RGB."""
    hashed = hashlib.blake2b(b"%d %d " % image.size, digest_size=16)
    hashed.update(image.tobytes())
    return hashed.hexdigest()


def file_hash(raw: bytes) -> str:
    """A hash of an image file without its metadata; independent of decoders, so it is the same everywhere."""
    hashed = hashlib.blake2b(digest_size=16)
    if raw.startswith(_PNG):
        for kind, data in _png_chunks(raw):
            if kind in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"fdAT"):
                hashed.update(data)
    elif raw.startswith(_JPEG):
        end = 2
        for marker, start, end in _jpeg_segments(raw):
            if not (0xE0 <= marker <= 0xEF and marker != 0xEE) and marker != 0xFE:  # 0xEE defines the channels
                hashed.update(raw[start:end])
        hashed.update(raw[end:])
    else:
        hashed.update(raw)
    return hashed.hexdigest()


def _bits(raw: bytes) -> int:
    """Bits per channel in the header of a PNG or JPEG; 8 for others."""
    if raw.startswith(_PNG) and len(raw) > 24:
        return raw[24]
    if raw.startswith(_JPEG):
        for marker, start, _ in _jpeg_segments(raw):
            if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and start + 4 < len(raw):
                return raw[start + 4]
    return 8


def _png_chunks(raw: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Type and data of the chunks."""
    place = len(_PNG)
    while place + 8 <= len(raw):
        length = int.from_bytes(raw[place : place + 4], "big")
        yield raw[place + 4 : place + 8], raw[place + 8 : place + 8 + length]
        place += 12 + length


def _jpeg_segments(raw: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of the segments before the first scan."""
    place = 2
    while place + 4 <= len(raw) and raw[place] == 0xFF and raw[place + 1] != 0xDA:
        if raw[place + 1] == 0xFF:  # padding
            place += 1
            continue
        length = 2 + int.from_bytes(raw[place + 2 : place + 4], "big")
        yield raw[place + 1], place, place + length
        place += length


def _oddities(image: Image.Image) -> list[str]:
    """Peculiarities in the header that the pixels do not show."""
    odd = []
    if image.format == "MPO":
        odd.append(SEVERAL_PICTURES)
    elif getattr(image, "n_frames", 1) > 1:
        odd.append("have several frames; the first is read")
    profile = image.info.get("icc_profile") or b""
    if profile and b"sRGB" not in profile.replace(b"\0", b"") and image.mode in ("RGB", "RGBA", "P"):
        odd.append("have a colour profile other than sRGB; it is not applied")
    return odd


def _to_rgb(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """A loaded image in RGB, and its peculiarities."""
    odd = []
    if image.mode in ("L", "LA", "1"):
        odd.append("are grey; their three channels are equal")
    elif image.mode == "CMYK":
        odd.append("are in CMYK; converted without a colour profile")
    elif image.mode not in ("RGB", "RGBA", "RGBX", "P", "PA", "YCbCr"):
        raise ValueError(f"pixels of Pillow's mode {image.mode}")
    if "A" in image.mode or "transparency" in image.info:
        with_alpha = image.convert("RGBA")
        if with_alpha.getchannel("A").getextrema()[0] != 255:
            odd.append("have transparent pixels; their hidden colours are read")
        return with_alpha.convert("RGB"), odd
    return image.convert("RGB"), odd


def _as_shown(rgb: Image.Image, image: Image.Image) -> tuple[Image.Image, list[str]]:
    """The pixels of an image in its EXIF orientation, the same object if that is normal, and peculiarities."""
    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # any error of Pillow on a damaged block; the pixels are intact, and viewers show them
        return rgb, ["have EXIF data that cannot be read; not turned"]
    return (rgb, []) if turn is None else (rgb.transpose(turn), [TURNED])

"""Random damage to rasters and to the files of a pack: the right samples, or a typed error or warning with the file."""

import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from rasterio.transform import Affine

from bengelib.data import packing
from bengelib.data.dataset import BENGE
from bengelib.data.manifest import verify
from bengelib.data.packed import PackedBENGE
from bengelib.data.packing import pack
from bengelib.data.rasters import patch_files, read_patch, tree_folders
from bengelib.errors import BengeError, DataWarning, RasterError
from tests import fake_tree as fake

IDS = fake.patch_ids(1)
KEYS = ("s2", "s1", "dem", "land_cover")
NAMES = ("B02", "B05", "B09", "VV", "VH", "dem", "esaworldcover")
"""One raster of each size and type."""


@pytest.fixture(scope="module")
def good_tree(tmp_path_factory):
    return fake.write_fake_tree(tmp_path_factory.mktemp("good") / "ben-ge-fake", 2)


def few_or_many(few):
    """A test of a few examples, the same in every run, and a slow one of 200."""
    return pytest.mark.parametrize("examples", [few, pytest.param(200, marks=pytest.mark.slow)])


def try_out(check, examples, tree, where, **strategies):
    """`check(root, ...)` with a copy of `tree` of its own for each example."""

    @settings(max_examples=examples, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.fixed_dictionaries(strategies))
    def one(drawn):
        root = shutil.copytree(tree, where / tree.name)
        try:
            check(root, **drawn)
        finally:
            shutil.rmtree(root)

    one()


def raster(tree, name):
    files = patch_files(tree_folders(tree), *IDS)
    return next(Path(path) for paths in files.values() for path in paths if path.endswith(f"_{name}.tif"))


# --------------------------------------------------------------------------------------- what a file says of its pixels

makes = st.fixed_dictionaries(
    {},
    optional={
        "compress": st.sampled_from(["none", "deflate", "lzw", "packbits", "zstd"]),
        "BIGTIFF": st.sampled_from(["YES", "NO"]),
        "ENDIANNESS": st.sampled_from(["LITTLE", "BIG"]),
        "BLOCKYSIZE": st.sampled_from([1, 7, 16, 500]),
        "nodata": st.sampled_from([255, 253, 0]),
    },
)
"""Ways to write the same pixels; 253 and 255 occur in none of the rasters."""


def edit(change):
    def damage(path, make):
        fake.rewrite_raster(path, **make)
        with warnings.catch_warnings(), rasterio.open(path, "r+") as file:
            change(file)

    return damage


def scaled(scale, offset):
    def change(file):
        file.scales, file.offsets = (scale,), (offset,)

    return edit(change), (scale, offset) != (1, 0)


def tagged(first, last, band, neutral, text):
    """A scale or an offset by the name that some program has for it."""
    name = f"{first}{last}"
    return edit(lambda file: file.update_tags(band, **{name: text})), text != neutral


def hidden(rows, internal):
    def damage(path, make):
        fake.rewrite_raster(path, **make)
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal), rasterio.open(path, "r+") as file:
            mask = np.full(file.shape, 255, np.uint8)
            mask[:rows] = 0
            file.write_mask(mask)

    return damage, rows > 0


def filled(rows, value):
    def change(pixels):
        pixels = pixels.copy()
        pixels[:rows] = value
        return pixels

    return lambda path, make: fake.rewrite_raster(path, change, **{**make, "nodata": value}), True


def shifted(dx, dy):
    def damage(path, make):
        with rasterio.open(path) as file:
            t = file.transform
        fake.rewrite_raster(path, transform=Affine(t.a, 0, t.c + dx, 0, t.e, t.f + dy), **make)

    return damage, max(abs(dx), abs(dy)) >= 9


def turned(angle, flip_x, flip_y):
    def damage(path, make):
        with rasterio.open(path) as file:
            t = file.transform
        turn = Affine.rotation(angle) @ Affine.scale(-1 if flip_x else 1, -1 if flip_y else 1)
        fake.rewrite_raster(path, transform=t @ turn, **make)

    return damage, (angle, flip_x, flip_y) not in ((0, False, False), (180, True, True))  # the last is a full turn


def zone(epsg):
    return lambda path, make: fake.rewrite_raster(path, crs=f"EPSG:{epsg}" if epsg else None, **make), epsg not in (
        0,
        32635,
    )


def converted(dtype):
    def damage(path, make):
        with rasterio.open(path) as file:
            old = file.dtypes[0]
        fake.rewrite_raster(path, lambda pixels: pixels.astype(dtype if dtype != old else "complex64"), **make)

    return damage, None  # elevation may be of several types


def cropped(rows):
    return lambda path, make: fake.rewrite_raster(path, lambda pixels: pixels[:rows], **make), rows < 20


def pages(count):
    def damage(path, make):
        with rasterio.open(path) as file:
            images = [Image.fromarray(file.read(1)) for _ in range(count)]
        images[0].save(path, format="TIFF", save_all=True, append_images=images[1:])

    return damage, count > 1


def cut(share):
    def damage(path, make):
        fake.rewrite_raster(path, **make)
        data = path.read_bytes()
        path.write_bytes(data[: int(share * len(data))])

    return damage, True


damages = st.one_of(
    st.just((lambda path, make: fake.rewrite_raster(path, **make), False)),
    st.builds(scaled, st.sampled_from([1, 0.0001, 2.5]), st.sampled_from([0, -0.1, 1000])),
    *(
        st.builds(
            tagged,
            st.sampled_from(["", "BOA_ADD_", "reflectance_", "raw", "B02#"]),
            st.sampled_from([word, word.upper(), word.capitalize(), f"{word}_B02"]),
            st.integers(0, 1),
            st.just(neutral),
            st.sampled_from(["0", "1", "0.0001", "-1000", "0,0001", "linear"]),
        )
        for word, neutral in (("scale", "1"), ("gain", "1"), ("offset", "0"), ("bias", "0"))
    ),
    st.builds(hidden, st.integers(0, 20), st.booleans()),
    st.builds(filled, st.integers(1, 20), st.sampled_from([17, 250])),
    st.builds(shifted, st.floats(-20, 20), st.sampled_from([0.0, 0.5, -1200.0, 50_000.0])),
    st.builds(turned, st.sampled_from([0, 5, 90, 180]), st.booleans(), st.booleans()),
    st.builds(zone, st.sampled_from([0, 32635, 32634, 32601, 4326, 3857])),
    st.builds(converted, st.sampled_from(["uint8", "int16", "uint32", "float32", "float64"])),
    st.builds(cropped, st.integers(1, 19)),
    st.builds(pages, st.integers(1, 3)),
    st.builds(cut, st.floats(0, 0.99)),
)
"""How to write a raster anew, and whether it must then be refused (None if that depends)."""


def check_damage(tree, name, make, damage):
    change, must_be_refused = damage
    path = raster(tree, name)
    key = {"V": "s1", "B": "s2", "d": "dem", "e": "land_cover"}[name[0]]
    folders = tree_folders(tree)
    expected = read_patch(folders, *IDS, keys=(key,))
    change(path, make)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DataWarning)
        try:
            found = read_patch(folders, *IDS, keys=(key,))
        except RasterError as error:
            assert path.name in str(error)
            assert must_be_refused is not False
            return
    assert must_be_refused is not True
    if not any(path.name in str(warning.message) for warning in caught):
        for array, pixels in zip(found.values(), expected.values(), strict=True):
            np.testing.assert_array_equal(array, pixels)


@few_or_many(60)
def test_a_damaged_raster_is_refused_by_its_name_or_read_right(good_tree, tmp_path, examples):
    names = st.sampled_from(NAMES)
    try_out(check_damage, examples, good_tree, tmp_path, name=names, make=makes, damage=damages)


def check_bytes(tree, name, make, flips):
    """Whatever stands in the file, it is read in the right shape and type, or refused with its name."""
    path = raster(tree, name)
    fake.rewrite_raster(path, **make)
    data = bytearray(path.read_bytes())
    for place, value in flips:
        data[place % len(data)] = value
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = read_patch(tree_folders(tree), *IDS, keys=KEYS)
        except RasterError as error:
            assert path.name in str(error)
            return
    assert {key: array.shape for key, array in found.items()} == {
        "s2_10m": (4, 120, 120), "s2_20m": (6, 60, 60), "s2_60m": (2, 20, 20), "s1": (2, 120, 120),
        "dem": (1, 120, 120), "land_cover": (120, 120),
    }  # fmt: skip


flips = st.lists(st.tuples(st.integers(0, 450), st.integers(0, 255)), min_size=1, max_size=4)


@few_or_many(30)
def test_random_bytes_in_a_header(good_tree, tmp_path, examples):
    names = st.sampled_from(NAMES)
    try_out(check_bytes, examples, good_tree, tmp_path, name=names, make=makes, flips=flips)


# ----------------------------------------------------------------------------------------------------- changes of files


def swap(one, other):
    between = one.with_suffix(".t")
    one.rename(between)
    other.rename(one)
    between.rename(other)


def put_in_place(one, other):
    shutil.copy2(other, one)


def put_aside(one, other):
    one.unlink()


def touch(one, other):
    os.utime(one, ns=(10**9, 10**9))


def copy_back(one, other):
    data = one.read_bytes()
    one.unlink()
    one.write_bytes(data)


def write_over(one, other):
    data = bytearray(one.read_bytes())
    data[-2] ^= 1
    one.write_bytes(data)


def swap_back(one, other):
    swap(one, other)
    swap(one, other)


changes = st.lists(
    st.tuples(
        st.sampled_from([swap, put_in_place, put_aside, touch, copy_back, write_over, swap_back]),
        st.sampled_from([("VV", "VH"), ("B05", "B06"), ("B02", "B08"), ("dem", "esaworldcover"), ("B01", "B09")]),
        st.booleans(),
    ),
    min_size=1,
    max_size=3,
)


def check_changes(tree, steps):
    """The pack is refused or made again where, and only where, it no longer holds what the tree holds."""
    options = dict(modalities=("s2", "s1", "dem"), targets=("land_cover",))
    folder = pack(tree, progress=False)
    before = list(BENGE(tree, **options))
    for path in tree.glob("*/**/*.tif"):
        os.utime(path, ns=(10**9, 10**9))  # all files of one time, as an archive leaves them
    pack(tree, progress=False)
    for change, names, keep_time in steps:
        one, other = (raster(tree, name) for name in names)
        times = one.stat().st_mtime_ns if one.exists() else 0
        if one.exists() and other.exists():
            change(one, other)
        if keep_time and one.exists() and change is not write_over:
            os.utime(one, ns=(times, times))
    try:
        now = list(BENGE(tree, **options))
    except BengeError:
        now = None
    same = now is not None and all((a[key] == b[key]).all() for a, b in zip(before, now, strict=True) for key in KEYS)
    try:
        verify(folder)
        assert same
    except BengeError as error:
        assert not same, error
        assert IDS[0] in str(error)
    if now is None:
        with pytest.raises(BengeError, match=f"{IDS[0]}|{IDS[1]}"):
            pack(tree, progress=False)
        return
    with pytest.MonkeyPatch.context() as patch:
        calls = []
        write = packing._write
        patch.setattr(packing, "_write", lambda *given: calls.append(given) or write(*given))
        pack(tree, progress=False)
    assert bool(calls) is not same
    packed = PackedBENGE(tree, **options)
    for place, sample in enumerate(now):
        for key in KEYS:
            np.testing.assert_allclose(packed[place][key], sample[key], rtol=0, atol=0.016)


@few_or_many(8)
def test_a_pack_follows_every_change_of_its_files(good_tree, tmp_path, examples):
    try_out(check_changes, examples, good_tree, tmp_path, steps=changes)

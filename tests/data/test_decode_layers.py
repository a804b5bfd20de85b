import numpy as np
import pytest
import torch
from torch.nn import functional as F

from bengelib.data.decode_layers import decode_image, decode_map
from bengelib.data.description import Source
from bengelib.data.layers import Layout


def layout(arrays, dtype: str, shape=(4, 4), **facts) -> Layout:
    return Layout(arrays, dtype, **{"scale": (), "offset": (), "no_data": (), **facts}, shape=shape)


ONE = {"x.4x4": ((0, 1, 2), (3, 4, 4))}


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
def test_stored_numbers_become_units_band_by_band(dtype):
    source = Source("x", "image", bands=("a", "b", "c"), scale=(2.0, 0.5, 1.0), offset=(0.0, 1.0, -3.0))
    stored = np.arange(96).reshape(2, 3, 4, 4).astype(dtype)
    parts = {"x.4x4": torch.from_numpy(stored[:, [2, 0]])}
    image = decode_image(source, layout(ONE, dtype), parts, ("c", "a"), None)
    expected = np.stack([stored[:, 2] - 3.0, stored[:, 0] * 2.0], axis=1)
    np.testing.assert_array_equal(image, expected.astype(np.float32))
    assert image.dtype == torch.float32 and (parts["x.4x4"].numpy() == stored[:, [2, 0]]).all()  # left as it was


@pytest.mark.parametrize(
    ("dtype", "nothing"), [("int16", -9999), ("uint16", 0), ("float32", np.nan), ("float64", 1e20)]
)
def test_no_data_becomes_the_mean_of_its_band_or_nan(dtype, nothing):
    source = Source("x", "image", bands=("a", "b"), scale=(10.0, 10.0))
    stored = np.full((1, 2, 4, 4), 5, dtype)
    stored[0, 1, 2, 2] = nothing
    how = layout({"x.4x4": ((0, 1), (2, 4, 4))}, dtype, no_data=(float(nothing),) if nothing == nothing else ())
    parts = {"x.4x4": torch.from_numpy(stored)}
    image = decode_image(source, how, parts, ("a", "b"), (1.0, 2.0))
    assert image[0, 1, 2, 2] == 2 and (image == 50).sum() == 31
    assert decode_image(source, how, parts, ("a", "b"), None)[0, 1].isnan().sum() == 1


def test_coarser_bands_are_enlarged_into_their_places():
    arrays = {"x.2x2": ((0, 3), (2, 2, 2)), "x.4x4": ((1, 2), (2, 4, 4))}
    source = Source("x", "image", bands=("a", "b", "c", "d"), scale=(1.0, 2.0, 3.0, 4.0))
    fine, coarse = torch.rand(2, 2, 4, 4), torch.rand(2, 2, 2, 2)
    parts = {"x.2x2": coarse, "x.4x4": fine}
    image = decode_image(source, layout(arrays, "float32"), parts, source.bands, None)
    wide = F.interpolate(coarse, size=(4, 4), mode="bilinear", align_corners=False)
    torch.testing.assert_close(image, torch.stack([wide[:, 0], 2 * fine[:, 0], 3 * fine[:, 1], 4 * wide[:, 1]], dim=1))
    picked = decode_image(source, layout(arrays, "float32"), {"x.2x2": coarse[:, 1:]}, ("d",), None)
    torch.testing.assert_close(picked, image[:, 3:])


def test_any_shape_and_a_smaller_size():
    source = Source("x", "image", bands=("a",))
    how = layout({"x.6x4": ((0,), (1, 6, 4))}, "uint8", shape=(3, 2))
    image = decode_image(source, how, {"x.6x4": torch.full((2, 1, 6, 4), 7, dtype=torch.uint8)}, ("a",), None)
    assert image.shape == (2, 1, 3, 2) and (image == 7).all()


def test_a_map_as_an_input_has_a_band_for_each_class():
    indices = torch.tensor([[[0, 2], [255, 1]]], dtype=torch.uint8)
    image = decode_map(indices, 3)
    assert image.shape == (1, 3, 2, 2) and image.dtype == torch.float32
    assert image[0, :, 0, 1].tolist() == [0, 0, 1] and image[0, :, 1, 0].tolist() == [0, 0, 0]

import importlib

import numpy as np
import pytest
import torch
from scipy import stats

from bengelib.bands import S2_BANDS
from bengelib.errors import BandError, MissingModalityError
from bengelib.modalities import MODALITIES
from bengelib.transforms import dihedral, statistics
from bengelib.views import (
    TwoViews,
    Views,
    blur,
    pair_modalities,
    random_boxes,
    resample,
    speckle_decibels,
)

OFF = {"gain": 0, "offset": 0, "band_dropout": 0, "blur": 0, "noise": 0, "speckle": 0}
STILL = {"scale": (1.0, 1.0), "ratio": 1.0, "turn": False}
MOMENTS = {key: (MODALITIES[key].mean, MODALITIES[key].std) for key in ("s2", "s1", "dem")}
MIRRORED = 4


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def grid(size):
    """Row and column of every pixel's centre, as shares of the image, (2, size, size)."""
    centres = (torch.arange(size) + 0.5) / size
    return torch.stack(torch.meshgrid(centres, centres, indexing="ij"))


def coordinate_batch(count=16, size=32):
    """All modalities know where their pixels were: the first two channels are the place, or its class says so."""
    place = grid(size)
    return {
        "s2": torch.cat([place, place, place]).expand(count, 6, size, size).clone(),
        "s1": place.expand(count, 2, size, size).clone(),
        "dem": place[:1].expand(count, 1, size, size).clone(),
        "image": torch.cat([place, place[:1]]).expand(count, 3, size, size).clone(),
        "land_cover": torch.arange(size * size).view(size, size).expand(count, size, size).clone(),
        "season": torch.rand(count, generator=seeded()),
        "patch_id": [f"patch {number}" for number in range(count)],
    }


def ben_ge_batch(count=8, size=24, seed=0):
    """Noise with the statistics of the data."""
    batch = {}
    for key, bands in (("s2", S2_BANDS), ("s1", ("VV", "VH")), ("dem", ())):
        mean, std = (moment.view(1, -1, 1, 1) for moment in statistics(key, bands))
        batch[key] = mean + std * torch.randn(count, mean.shape[1], size, size, generator=seeded(seed))
    batch["image"] = torch.rand(count, 3, size, size, generator=seeded(seed + 1))
    return batch


# ------------------------------------------------------------------------------------------------------------- geometry


def test_the_whole_image_at_its_own_size_is_the_image():
    boxes, turns = torch.tensor([[0.0, 0, 1, 1]]).expand(4, 4), torch.zeros(4).long()
    images, classes = torch.rand(4, 5, 17, 17), torch.randint(0, 256, (4, 17, 17))
    torch.testing.assert_close(resample(images, boxes, turns, 17), images, atol=1e-5, rtol=0)
    assert torch.equal(resample(classes, boxes, turns, 17), classes)


@pytest.mark.parametrize("turn", range(8))
def test_turns_are_those_of_the_training_augmentation(turn):
    """Equal to `torch.flip`, then `torch.rot90`."""
    boxes = torch.tensor([[0.0, 0, 1, 1]]).expand(3, 4)
    images, classes = torch.rand(3, 2, 16, 16), torch.randint(0, 11, (3, 16, 16))
    expected = torch.rot90(images.flip(-1) if turn >= MIRRORED else images, turn % 4, dims=(-2, -1))
    turned = resample(images, boxes, torch.full((3,), turn), 16)
    torch.testing.assert_close(turned, expected, atol=1e-5, rtol=0)
    assert torch.equal(resample(classes, boxes, torch.full((3,), turn), 16), dihedral(classes, turn))


@pytest.mark.parametrize("turn", range(8))
def test_a_crop_that_is_turned_is_the_turn_of_the_crop(turn):
    place = grid(60)[None]
    box = torch.tensor([[0.1, 0.3, 0.4, 0.5]])  # not square
    straight = resample(place, box, torch.tensor([0]), 12)[0]
    centres = grid(12)
    torch.testing.assert_close(straight[0], 0.1 + 0.4 * centres[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(straight[1], 0.3 + 0.5 * centres[1], atol=1e-5, rtol=0)
    turned = resample(place, box, torch.tensor([turn]), 12)[0]
    torch.testing.assert_close(turned, dihedral(straight, turn), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("top", "left", "height", "width", "size"),
    [(0, 0, 40, 40, 16), (3, 7, 30, 25, 20), (5, 2, 16, 16, 16), (8, 8, 10, 12, 24)],
)
def test_crops_are_those_of_torchvision(top, left, height, width, size):
    """Inside, that is: where a crop is enlarged, torchvision repeats its edge and we look at what lies beyond it."""
    functional = importlib.import_module("torchvision.transforms.v2.functional")
    images = torch.rand(2, 3, 40, 40, generator=seeded())
    boxes = torch.tensor([[top, left, height, width]]).expand(2, 4) / 40
    expected = functional.resized_crop(images, top, left, height, width, [size, size], antialias=False)
    ours = resample(images, boxes, torch.zeros(2).long(), size)
    edge = size // min(height, width) + 1 if size > min(height, width) else 0
    inside = slice(edge, size - edge)
    torch.testing.assert_close(ours[..., inside, inside], expected[..., inside, inside], atol=1e-5, rtol=0)


def test_crops_are_those_of_kornia():
    kornia = pytest.importorskip("kornia")
    images = torch.rand(2, 3, 40, 40, generator=seeded())
    corners = torch.tensor([[[5.0, 2.0], [34.0, 2.0], [34.0, 31.0], [5.0, 31.0]]]).expand(2, 4, 2)  # x, y of pixels
    expected = kornia.geometry.transform.crop_and_resize(images, corners, (30, 30))
    ours = resample(images, torch.tensor([[2.0, 5, 30, 30]]).expand(2, 4) / 40, torch.zeros(2).long(), 30)
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=0)


def test_all_modalities_and_masks_of_a_sample_have_one_geometry():
    batch = coordinate_batch(64)
    view = Views(32, **OFF)(batch, seeded())
    place = view["image"][:, :2]
    for key in ("s2", "s1"):
        torch.testing.assert_close(view[key][:, :2], place)
    torch.testing.assert_close(view["dem"][:, :1], place[:, :1])
    assert not torch.equal(view["dem"], batch["dem"])
    rows, columns = view["land_cover"] // 32, view["land_cover"] % 32
    classes_at = (torch.stack([rows, columns], dim=1) + 0.5) / 32
    assert (classes_at - place).abs().max() <= 0.5 / 32 + 1e-4  # the nearest pixel
    assert view["land_cover"].dtype == torch.int64
    assert view["season"] is batch["season"] and view["patch_id"] is batch["patch_id"]


def test_modalities_of_other_resolutions_show_the_same_ground():
    batch = {"s2": grid(60)[None].expand(8, 2, 60, 60), "s1": grid(30)[None].expand(8, 2, 30, 30)}
    view = Views(20, **OFF, scale=(0.3, 0.8))(batch, seeded())
    assert view["s2"].shape == view["s1"].shape == (8, 2, 20, 20)
    assert (view["s2"] - view["s1"]).abs().max() <= 0.5 / 30 + 1e-4  # equal but for the edge of the coarser one


def test_boxes_lie_inside_and_cover_the_scale():
    boxes = random_boxes(4000, (0.2, 0.6), 4 / 3, seeded())
    top, left, height, width = boxes.unbind(1)
    assert (top >= 0).all() and (left >= 0).all()
    assert (top + height <= 1 + 1e-6).all() and (left + width <= 1 + 1e-6).all()
    area = height * width
    assert area.min() >= 0.2 - 1e-5 and area.max() <= 0.6 + 1e-5
    assert float(area.mean()) == pytest.approx(0.4, abs=0.01)
    assert ((width / height).log().abs() <= np.log(4 / 3) + 1e-5).all()
    assert float(((left + width / 2) - 0.5).mean()) == pytest.approx(0, abs=0.01)


def test_nothing_to_do_changes_nothing():
    batch = coordinate_batch()
    view = Views(None, **OFF, **STILL)(batch, seeded())
    assert all(view[key] is batch[key] for key in batch)
    assert Views()({"season": torch.zeros(2)}, seeded())["season"].shape == (2,)


# ----------------------------------------------------------------------------------------------------------- radiometry


def test_the_same_seed_gives_the_same_views_and_the_batch_stays_as_it_was():
    batch = ben_ge_batch()
    kept = {key: value.clone() for key, value in batch.items()}
    for settings in ({}, STILL):
        views = Views(None, band_dropout=0.2, **settings)
        first, again, other = (views(batch, seeded(seed)) for seed in (3, 3, 4))
        for key in batch:
            assert torch.equal(first[key], again[key])
            assert not torch.equal(first[key], other[key])
    assert all(torch.equal(batch[key], value) for key, value in kept.items())


@pytest.mark.parametrize(
    ("setting", "keys"),
    [
        ({"gain": 0.3}, {"s2", "s1", "dem", "image"}),
        ({"offset": 0.3}, {"s2", "s1", "dem", "image"}),
        ({"light": 0.3}, {"s2", "s1", "dem", "image"}),
        ({"noise": 0.3}, {"s2", "s1", "dem", "image"}),
        ({"blur": 1.5}, {"s2", "s1", "dem", "image"}),
        ({"band_dropout": 0.5}, {"s2", "s1", "image"}),  # the only band of the elevation stays
        ({"speckle": 0.3}, {"s1"}),
    ],
    ids=lambda value: " ".join(sorted(value)),
)
def test_each_change_can_be_had_alone(setting, keys):
    batch = ben_ge_batch()
    view = Views(None, **STILL, **{**OFF, **setting})(batch, seeded())
    assert {key for key in batch if not torch.equal(view[key], batch[key])} == keys
    assert all(torch.isfinite(view[key]).all() for key in batch)


def test_gain_and_offset_are_those_of_each_band():
    """z -> gain z + offset, where z is the band in standard deviations from its mean."""
    batch = ben_ge_batch(400)
    view = Views(None, **STILL, **{**OFF, "gain": 0.2, "offset": 0.5}, moments=MOMENTS)(batch, seeded())
    mean, std = (moment.view(1, -1, 1, 1) for moment in statistics("s2", S2_BANDS))
    before, after = (((values["s2"] - mean) / std).flatten(2) for values in (batch, view))
    gain = after.std(dim=2) / before.std(dim=2)  # (B, C)
    offset = after.mean(dim=2) - gain * before.mean(dim=2)
    assert gain.min() > 0.799 and gain.max() < 1.201 and float(gain.std()) == pytest.approx(0.4 / 12**0.5, rel=0.05)
    assert (
        offset.min() > -0.501 and offset.max() < 0.501 and float(offset.std()) == pytest.approx(1 / 12**0.5, rel=0.05)
    )
    assert gain.std(dim=0).min() > 0.08 and gain.std(dim=1).min() > 0.03  # another one for each sample and band


def test_light_is_the_same_for_all_bands_of_an_image():
    batch = ben_ge_batch(400)
    view = Views(None, **STILL, **{**OFF, "light": 0.3}, moments=MOMENTS)(batch, seeded())
    mean, std = (moment.view(1, -1, 1, 1) for moment in statistics("s2", S2_BANDS))
    before, after = (((values["s2"] - mean) / std).flatten(2) for values in (batch, view))
    gain = after.std(dim=2) / before.std(dim=2)  # (B, C)
    offset = after.mean(dim=2) - gain * before.mean(dim=2)
    for found, centre in ((gain, 1.0), (offset, 0.0)):
        torch.testing.assert_close(found, found[:, :1].expand_as(found), rtol=1e-3, atol=1e-3)
        assert found.min() > centre - 0.301 and found.max() < centre + 0.301
        assert float(found[:, 0].std()) == pytest.approx(0.6 / 12**0.5, rel=0.1)


def test_noise_is_in_standard_deviations_of_the_band():
    batch = ben_ge_batch(200)
    difference = Views(None, **STILL, **{**OFF, "noise": 0.1}, moments=MOMENTS)(batch, seeded())["s2"] - batch["s2"]
    relative = difference.std(dim=(2, 3)) / statistics("s2", S2_BANDS)[1]
    assert relative.max() < 0.12 and float(relative.mean()) == pytest.approx(0.05, rel=0.15)


def test_dropped_bands_are_even_and_one_always_stays():
    batch = ben_ge_batch(300)
    view = Views(None, **STILL, **{**OFF, "band_dropout": 0.9}, moments=MOMENTS)(batch, seeded())
    for key, bands in (("s2", S2_BANDS), ("s1", ("VV", "VH"))):
        dropped = view[key].std(dim=(2, 3)) < 1e-6  # (B, C)
        mean = statistics(key, bands)[0].expand(300, -1)
        torch.testing.assert_close(view[key].mean(dim=(2, 3))[dropped], mean[dropped])
        assert not dropped.all(dim=1).any()
    assert float((view["s2"].std(dim=(2, 3)) < 1e-6).float().mean()) == pytest.approx(0.9 - 0.9**12 / 12, abs=0.02)


def test_blur_is_gaussian_and_keeps_the_mean_inside():
    impulse = torch.zeros(3, 1, 31, 31)
    impulse[:, :, 15, 15] = 1
    blurred = blur(impulse, torch.tensor([0.0, 1.0, 2.0]))
    assert torch.equal(blurred[0], impulse[0])
    for sample, sigma in ((1, 1.0), (2, 2.0)):
        assert float(blurred[sample].sum()) == pytest.approx(1, abs=1e-4)
        distance = torch.arange(31.0) - 15
        assert float((blurred[sample, 0].sum(0) * distance**2).sum()) == pytest.approx(sigma**2, rel=1e-3)
    even = blur(torch.full((1, 2, 9, 11), 3.0), torch.tensor([2.0]))
    torch.testing.assert_close(even, torch.full((1, 2, 9, 11), 3.0))


def test_blur_is_that_of_torchvision():
    functional = importlib.import_module("torchvision.transforms.v2.functional")
    images = torch.rand(2, 3, 30, 30, generator=seeded())
    expected = functional.gaussian_blur(images, [13, 13], [1.3, 1.3])
    inside = (..., slice(6, -6), slice(6, -6))
    torch.testing.assert_close(blur(images, torch.tensor([1.3, 1.3]))[inside], expected[inside], atol=1e-4, rtol=0)


@pytest.mark.parametrize("looks", [2.1, 4, 16, 100])
def test_speckle_is_gamma_noise_on_the_linear_power(looks):
    decibels = speckle_decibels(torch.tensor([looks**-0.5]), (1, 200, 200), seeded())
    power = (10 ** (decibels / 10)).flatten().double().numpy()
    assert power.mean() == pytest.approx(1, abs=0.02)
    assert power.std() == pytest.approx(looks**-0.5, rel=0.03)
    shares = [0.05, 0.25, 0.5, 0.75, 0.95]
    np.testing.assert_allclose(np.quantile(power, shares), stats.gamma(looks, scale=1 / looks).ppf(shares), rtol=0.08)


def test_no_speckle_is_no_change():
    assert torch.equal(speckle_decibels(torch.zeros(2), (2, 4, 4), seeded()), torch.zeros(2, 2, 4, 4))


def test_constant_bands_stay_finite():
    batch = {
        "s2": torch.zeros(4, 12, 16, 16),
        "s1": torch.full((4, 2, 16, 16), -25.0),
        "image": torch.ones(4, 3, 16, 16),
    }
    view = Views(8, band_dropout=0.3)(batch, seeded())
    assert all(torch.isfinite(view[key]).all() for key in batch)
    torch.testing.assert_close(view["image"], torch.ones(4, 3, 8, 8))  # no spread, so nothing to change it by


def test_other_pictures_take_their_statistics_from_the_batch_or_from_the_caller():
    image = torch.rand(300, 3, 8, 8, generator=seeded()) * torch.tensor([1.0, 10, 100]).view(3, 1, 1)
    settings = {**STILL, **OFF, "offset": 1.0}
    shift = (Views(None, **settings)({"image": image}, seeded())["image"] - image).mean(dim=(2, 3))
    torch.testing.assert_close(shift.std(0) / image.std(dim=(0, 2, 3)), torch.full((3,), 3**-0.5), atol=0.05, rtol=0)
    given = Views(None, **settings, moments={"image": ([0, 0, 0], [2, 2, 2])})
    shift = (given({"image": image}, seeded())["image"] - image).mean(dim=(2, 3))
    torch.testing.assert_close(shift.std(0), torch.full((3,), 2 * 3**-0.5), atol=0.1, rtol=0)


@pytest.mark.parametrize(
    "setting",
    [{"scale": (0, 1)}, {"scale": (0.5, 0.2)}, {"scale": (0.5, 1.2)}, {"size": 0}, {"ratio": 0.5}, {"gain": -0.1},
     {"offset": -1}, {"band_dropout": 1}, {"blur": -1}, {"noise": float("nan")}, {"speckle": 0.9}],
    ids=str,
)  # fmt: skip
def test_settings_that_mean_nothing_are_refused(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        Views(**{"size": 8, **setting})


def test_other_bands_than_named_are_refused():
    with pytest.raises(BandError, match="3 channels, but the views know the moments of 12"):
        Views(8, moments=MOMENTS)({"s2": torch.zeros(2, 3, 8, 8)}, seeded())
    with pytest.raises(BandError, match="image"):
        Views(8, moments={"image": ([0], [1])})({"image": torch.zeros(2, 3, 8, 8)}, seeded())


# ---------------------------------------------------------------------------------------------------------------- pairs


def test_two_views_are_beside_the_batch():
    batch = ben_ge_batch()
    both = TwoViews(Views(8))(batch, seeded())
    assert list(both) == [*batch, "view_1", "view_2"]
    assert next(iter(both.values())) is batch["s2"]
    assert both["view_1"]["s2"].shape == (8, 12, 8, 8)
    assert not torch.equal(both["view_1"]["s2"], both["view_2"]["s2"])
    other = TwoViews(Views(8), Views(6))(batch, seeded())
    assert other["view_2"]["s1"].shape == (8, 2, 6, 6)


def test_modalities_as_views():
    batch = coordinate_batch(8)
    plain = pair_modalities()(batch, seeded())
    assert plain["view_1"]["s1"] is batch["s1"] and plain["view_2"]["s2"] is batch["s2"]
    assert "s2" not in plain["view_1"] and "s1" not in plain["view_2"] and "image" not in plain["view_1"]
    assert "season" in plain["view_1"] and "s2" in plain
    views = Views(16, **OFF)
    alike = pair_modalities(views)(batch, seeded())
    torch.testing.assert_close(alike["view_1"]["s1"], alike["view_2"]["s2"][:, :2])


def test_modalities_as_views_must_be_there_and_differ():
    with pytest.raises(MissingModalityError, match="s1"):
        pair_modalities()({"s2": torch.zeros(2, 12, 4, 4)}, seeded())
    with pytest.raises(BandError, match="s2"):
        pair_modalities(first=("s1", "s2"))

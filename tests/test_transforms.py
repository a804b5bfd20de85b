import pytest
import torch
from torch import nn

from bengelib.bands import DEM_MEAN_STD, IGNORE_INDEX, LAND_COVER, S1, S2, S2_BANDS, WEATHER
from bengelib.data.decode import decode, land_cover_index
from bengelib.errors import BandError
from bengelib.transforms import Augment, Normalize, flip_and_turn, random_crop, spatial_keys, statistics


def coordinate_batch(count=32, size=8):
    """Every pixel of every modality says where it was: 1000 * row + column, in all channels and in the mask."""
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    grid = 1000 * rows + columns
    return {
        "s2": grid.float().expand(count, 3, size, size).clone(),
        "s1": grid.float().expand(count, 2, size, size).clone(),
        "dem": grid.float().expand(count, 1, size, size).clone(),
        "land_cover": grid.expand(count, size, size).clone(),
        "season": torch.rand(count),
        "patch_id": [f"patch {number}" for number in range(count)],
    }


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def symmetries(grid):
    """The eight images of a square, by transposition and reversal of axes."""
    return [
        (grid.T if transpose else grid).flip([axis for axis, flipped in enumerate(flips) if flipped])
        for transpose in (False, True)
        for flips in ((0, 0), (0, 1), (1, 0), (1, 1))
    ]


def assert_modalities_agree(batch):
    for key in ("s2", "s1", "dem"):
        for channel in range(batch[key].shape[1]):
            assert torch.equal(batch[key][:, channel].long(), batch["land_cover"]), key


def test_flips_and_turns_move_all_modalities_and_masks_together():
    before = coordinate_batch()
    after = flip_and_turn(before, seeded())
    assert_modalities_agree(after)
    assert not torch.equal(after["land_cover"], before["land_cover"])


def test_flips_and_turns_are_the_eight_symmetries_of_a_square():
    grid = coordinate_batch(1)["land_cover"][0]
    seen = [0] * 8
    for moved in flip_and_turn(coordinate_batch(800), seeded())["land_cover"]:
        places = [place for place, image in enumerate(symmetries(grid)) if torch.equal(image, moved)]
        assert len(places) == 1
        seen[places[0]] += 1
    assert min(seen) > 60  # 100 each on average, standard deviation 9


def test_crops_cut_the_same_window_out_of_all_modalities():
    after = random_crop(coordinate_batch(200), 5, seeded())
    assert after["s2"].shape == (200, 3, 5, 5) and after["land_cover"].shape == (200, 5, 5)
    assert_modalities_agree(after)
    corners = after["land_cover"][:, 0, 0]
    for window, corner in zip(after["land_cover"], corners, strict=True):
        rows, columns = torch.meshgrid(torch.arange(5), torch.arange(5), indexing="ij")
        assert torch.equal(window, corner + 1000 * rows + columns)
    assert {int(corner) for corner in corners} == {1000 * row + column for row in range(4) for column in range(4)}


@pytest.mark.parametrize("size", [0, -1, 9])
def test_impossible_crop_is_refused(size):
    with pytest.raises(ValueError, match="1 to 8"):
        random_crop(coordinate_batch(), size, seeded())


def test_augmentation_leaves_the_rest_and_the_original_alone():
    batch = coordinate_batch()
    kept = {key: value.clone() for key, value in batch.items() if key != "patch_id"}
    after = Augment(crop=4)(batch, seeded())
    assert after["season"] is batch["season"] and after["patch_id"] is batch["patch_id"]
    assert all(torch.equal(batch[key], value) for key, value in kept.items())
    assert_modalities_agree(after)


def test_augmentation_repeats_with_the_seed():
    first, again, other = (Augment(crop=4)(coordinate_batch(), seeded(seed))["s2"] for seed in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_augmentation_can_be_turned_off():
    batch = coordinate_batch()
    assert Augment(turn=False)(batch, seeded()) == batch
    assert Augment(crop=8)({"season": torch.zeros(3)}, seeded())["season"].shape == (
        3,
    )  # nothing spatial: nothing to do


def test_every_raster_of_the_contract_is_moved():
    assert set(spatial_keys(coordinate_batch())) == {"s2", "s1", "dem", "land_cover"}


# -------------------------------------------------------------------------------------------------------------- decode


def stored(s2_bands=S2_BANDS, count=2):
    """Digital numbers in which band k of sample i is 100 (k + 1) + i everywhere."""
    batch = {}
    for resolution in (10, 20, 60):
        names = [band for band in s2_bands if S2[band].resolution == resolution]
        if names:
            numbers = torch.tensor([[100 * (S2_BANDS.index(name) + 1) + i for name in names] for i in range(count)])
            size = 1200 // resolution
            batch[f"s2_{resolution}m"] = numbers[:, :, None, None].expand(-1, -1, size, size).to(torch.uint16)
    return batch


@pytest.mark.parametrize(
    "s2_bands", [S2_BANDS, ("B12", "B02", "B01", "B08", "B05"), ("B04", "B03", "B02"), ("B09",)], ids=str
)
def test_decode_puts_every_band_in_its_place(s2_bands):
    s2 = decode(stored(s2_bands), s2_bands)["s2"]
    assert s2.shape == (2, len(s2_bands), 120, 120) and s2.dtype == torch.float32
    for place, band in enumerate(s2_bands):
        for number in range(2):
            expected = (100 * (S2_BANDS.index(band) + 1) + number) / 10_000
            torch.testing.assert_close(s2[number, place], torch.full((120, 120), expected))


def test_decode_upsamples_without_a_shift():
    """A ramp along the columns at 20 m must be the same ramp at 10 m, away from the clamped edge."""
    centres = 20 * torch.arange(60) + 10.0  # metres
    batch = {"s2_20m": centres.expand(1, 1, 60, 60).to(torch.uint16)}
    ramp = decode(batch, ("B05",))["s2"][0, 0] * 10_000
    torch.testing.assert_close(ramp[:, 1:-1], (10 * torch.arange(120) + 5.0).expand(120, 120)[:, 1:-1])


def test_decode_keeps_bright_pixels():
    """65535 does not wrap to a negative number, and reflectance above 1 is not clipped."""
    batch = {"s2_10m": torch.full((1, 1, 120, 120), 65535, dtype=torch.uint16)}
    assert decode(batch, ("B02",))["s2"].unique().item() == pytest.approx(6.5535)


def test_decode_land_cover_and_types():
    codes = torch.tensor([[0, 10, 95, 100]], dtype=torch.uint8)[None]
    decoded = decode({"land_cover": codes, "dem": torch.full((1, 1, 2, 2), -5, dtype=torch.int16), "season": 1})
    assert decoded["land_cover"].tolist() == [[[IGNORE_INDEX, 0, 9, 10]]]
    assert decoded["land_cover"].dtype == torch.int64
    assert decoded["dem"].dtype == torch.float32 and decoded["dem"].unique().item() == -5
    assert decoded["season"] == 1 and "s2" not in decoded


def test_decoding_twice_changes_nothing():
    once = decode({**stored(), "land_cover": torch.tensor([[[10, 20], [0, 100]]], dtype=torch.uint8)})
    twice = decode(once)
    assert all(torch.equal(once[key], twice[key]) for key in once)


def test_land_cover_table():
    table = land_cover_index()
    assert table.shape == (256,)
    assert [int(table[entry.code]) for entry in LAND_COVER] == list(range(11))
    assert (table != IGNORE_INDEX).sum() == 11


# ----------------------------------------------------------------------------------------------------------- normalise


def test_statistics_are_found_by_name_in_any_order():
    mean, std = statistics("s2", ("B12", "B01"))
    assert mean.tolist() == pytest.approx([S2["B12"].mean, S2["B01"].mean])
    assert std.tolist() == pytest.approx([S2["B12"].std, S2["B01"].std])
    assert statistics("s1", ("VH", "VV"))[0].tolist() == pytest.approx([S1["VH"][0], S1["VV"][0]])
    assert statistics("weather", ("wind_u",))[0].tolist() == pytest.approx([WEATHER["wind_u"].mean])
    assert [float(value) for value in statistics("dem", ())] == list(DEM_MEAN_STD)


@pytest.mark.parametrize(
    ("modality", "bands", "words"),
    [
        ("s2", ("B04", "B10"), ["B10", "B09"]),
        ("s1", ("VV", "VV"), ["VV", "name of its own"]),
        ("s1", ("HH",), ["HH", "VV"]),
        ("weather", ("rain",), ["rain", "temperature"]),
        ("climate_zone", (), ["climate_zone", "dem"]),
    ],
)
def test_unknown_statistics_are_refused_with_the_choices(modality, bands, words):
    with pytest.raises(BandError) as error:
        statistics(modality, bands)
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize(
    ("modality", "bands", "shape"),
    [
        ("s2", S2_BANDS, (4, 12, 5, 7)),
        ("s1", ("VH", "VV"), (4, 2, 5, 7)),
        ("dem", (), (4, 1, 5, 7)),
        ("weather", tuple(WEATHER), (4, 5)),
        ("lonlat", (), (4, 2)),
        ("season", (), (4, 1)),
        ("season", (), (4,)),
    ],
    ids=str,
)
def test_normalize_brings_data_of_the_statistics_to_zero_and_one(modality, bands, shape):
    mean, std = statistics(modality, bands)
    along = (1, -1, *[1] * (len(shape) - 2)) if len(shape) > 1 else (-1,)
    normalize = Normalize(modality, bands)
    torch.testing.assert_close(normalize(mean.view(along).expand(shape)), torch.zeros(shape), atol=1e-6, rtol=0)
    torch.testing.assert_close(normalize((mean + std).view(along).expand(shape)), torch.ones(shape), atol=1e-5, rtol=0)


def test_normalize_refuses_other_channels():
    with pytest.raises(BandError, match="3 channels for 2 bands"):
        Normalize("s2", ("B04", "B08"))(torch.zeros(1, 3, 4, 4))


def test_statistics_travel_with_the_model_and_are_not_trained():
    model = nn.Sequential(Normalize("s1", ("VV", "VH")))
    assert set(model.state_dict()) == {"0.mean", "0.std"}
    assert not list(model.parameters())
    assert model.double()[0].mean.dtype == torch.float64


def test_decode_refuses_groups_that_do_not_hold_the_bands():
    """A group that is missing, or of another number of bands, must not leave memory as it was."""
    ten_metres = torch.ones(2, 4, 120, 120, dtype=torch.uint16)
    with pytest.raises(BandError):
        decode({"s2_10m": ten_metres})
    with pytest.raises(BandError):
        decode({"s2_10m": ten_metres[:, :1]}, ("B02", "B03", "B04"))
    assert decode({"s2_10m": ten_metres}, ("B02", "B03", "B04", "B08"))["s2"].shape == (2, 4, 120, 120)

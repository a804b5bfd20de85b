import math

import pytest
import torch
from torch.utils.data import Dataset

from bengelib.bands import RGB_BANDS
from bengelib.engine import evaluate, seed_everything
from bengelib.errors import ArgumentError, BandError, MissingModalityError
from bengelib.fusion import EarlyFusion
from bengelib.heads import Network, RegressionHead, count_parameters
from bengelib.methods.harmonics import harmonics
from bengelib.methods.location import LocationEncoder, PlaceImage, place_image, siren
from bengelib.probe import extract_features
from bengelib.ssl import Contrast
from bengelib.tasks import Regression
from tests.training import fit_with

PLACES = torch.tensor([[15.0, 48.0], [-8.0, 40.0], [180.0, -90.0], [-180.0, 0.0]])


@pytest.mark.parametrize(("degrees", "hidden", "count"), [(40, 512, 1_213_696), (10, 512, 445_696), (10, 256, 157_440)])
def test_parameters_are_those_of_satclip(degrees, hidden, count):
    assert count_parameters(LocationEncoder(degrees, hidden, layers=2, feature_dim=256)) == count


def test_a_siren_is_sines_of_sines():
    seed_everything(0)
    net, x = siren(3, 8, 2, 4, frequency=30), torch.randn(5, 3)
    first, second, last = net[0], net[2], net[4]
    expected = last(torch.sin(second(torch.sin(30 * first(x)))))
    torch.testing.assert_close(net(x), expected)
    assert len(siren(3, 8, 2, 4, dropout=0.5)) == 7


def test_sirens_begin_with_the_spread_of_the_paper():
    """Of numbers from -1 to 1 every layer makes sines of arguments whose spread is about 1."""
    seed_everything(0)
    net, x = siren(2, 512, 3, 1), 2 * torch.rand(4000, 2) - 1
    assert 0.49 < net[0].weight.abs().max() <= 0.5
    for layer, part in enumerate(net[:-1]):
        x = part(x).detach()
        if layer in (2, 4):
            assert float(x.std()) == pytest.approx(1, abs=0.1)
        elif layer in (3, 5):
            assert float(x.std()) == pytest.approx(math.sqrt((1 - math.exp(-2)) / 2), abs=0.05)


def test_codes_are_harmonics_that_fall_off():
    even, smooth = (LocationEncoder(6, falloff=power).codes(PLACES) for power in (0, 2))
    torch.testing.assert_close(even, harmonics(PLACES, 6))
    for degree in range(6):
        columns = slice(degree**2, (degree + 1) ** 2)
        torch.testing.assert_close(smooth[:, columns], even[:, columns] / (degree + 1) ** 2)


def test_plain_numbers_for_comparison():
    encoder = LocationEncoder(0)
    expected = torch.tensor([[15 / 180, 48 / 90], [-8 / 180, 40 / 90], [1, -1], [-1, 0]])
    torch.testing.assert_close(encoder.codes(PLACES), expected)
    assert encoder({"lonlat": PLACES}).shape == (4, 128)


def test_features_are_the_same_across_the_date_line_and_at_a_pole():
    seed_everything(0)
    encoder = LocationEncoder(40, falloff=0)
    lonlat = torch.tensor([[180.0, 51.0], [-180.0, 51.0], [0.0, 90.0], [123.0, 90.0]])
    features = encoder({"lonlat": lonlat})
    torch.testing.assert_close(features[0], features[1])
    torch.testing.assert_close(features[2], features[3])
    assert features.dtype == torch.float32 and not torch.allclose(features[0], features[2])


def test_heads_and_probes_read_it():
    """A map of temperatures that falls from the equator is learned through `fit`."""
    seed_everything(0)
    lat = torch.rad2deg(torch.asin(2 * torch.rand(256) - 1))
    lonlat = torch.stack([360 * torch.rand(256) - 180, lat], dim=1)
    samples = [{"lonlat": place, "warmth": 30 * torch.deg2rad(place[1]).cos()} for place in lonlat]
    encoder = LocationEncoder(8, hidden=32, feature_dim=16)
    assert extract_features(encoder, samples).shape == (256, 16)
    model, task = Network(encoder, {"warmth": RegressionHead(16, 20, 8)}), Regression("warmth", 8)
    assert evaluate(model, [task], samples)["warmth/mae"] > 4
    fit_with(model, [task], samples, epochs=16, lr=3e-3, batch_size=32, progress=False)
    assert evaluate(model, [task], samples)["warmth/mae"] < 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"degrees": -1}, "degrees=-1"),
        ({"degrees": 5000}, "from 0 to 1800"),
        ({"hidden": 0}, "hidden"),
        ({"falloff": -1}, "falloff"),
        ({"frequency": 0}, "frequency"),
        ({"dropout": 50}, "0.5 for 50 per cent"),
    ],
)
def test_settings_that_mean_nothing_are_refused(options, said):
    with pytest.raises(ArgumentError, match=said):
        LocationEncoder(**options)


@pytest.mark.parametrize("degrees", [0, 5])
def test_what_is_no_place_is_refused(degrees):
    with pytest.raises(ArgumentError, match=r"latitude 120 .*Longitude comes first"):
        LocationEncoder(degrees)({"lonlat": torch.tensor([[45.0, 120.0]])})
    with pytest.raises(MissingModalityError, match="lonlat"):
        LocationEncoder(degrees)({"s2": torch.zeros(1)})
    with pytest.raises(MissingModalityError, match="some samples"):
        LocationEncoder(degrees)({"lonlat": PLACES, "lonlat_available": torch.tensor([True, True, False, True])})


# -------------------------------------------------------------------------------------------------------- contrast


class Coloured(Dataset):
    """Images whose red is their longitude and whose green is their latitude, with noise."""

    s2_bands = RGB_BANDS

    def __len__(self):
        return 96

    def __getitem__(self, index):
        random = torch.Generator().manual_seed(index)
        lonlat = torch.tensor([360.0, 180.0]) * (torch.rand(2, generator=random) - 0.5)
        level = torch.cat([lonlat / torch.tensor([1800.0, 900.0]), torch.zeros(1)])
        image = 0.1 + level[:, None, None] + 0.01 * torch.randn(3, 8, 8, generator=random)
        return {"s2": image, "lonlat": lonlat, "patch_id": str(index)}


def two_towers():
    seed_everything(0)
    return PlaceImage(EarlyFusion({"s2": RGB_BANDS}, width=0.125), LocationEncoder(4, hidden=32, feature_dim=32))


def test_images_find_their_places():
    model, task, data = two_towers(), Contrast(place_image, target="place"), Coloured()
    before = evaluate(model, [task], data)
    assert before["loss"] > 3 and before["place/retrieval"] < 0.1
    start = model.log_scale.item()
    history = fit_with(model, [task], data, data, epochs=25, lr=1e-2, batch_size=48, progress=False)
    after = evaluate(model, [task], data)
    assert after["loss"] < before["loss"] - 1 and after["place/retrieval"] > 2 / 96
    assert model.log_scale.item() != start
    assert {"val/place/spread", "val/place/rank"} <= set(history.frame())


@pytest.mark.parametrize("count", [2, 16, 512])
def test_a_collapse_has_the_loss_log_b(count):
    """SatCLIP's batches hold 512: 6.238."""
    same = torch.ones(count, 4)
    outputs = {"view_1": same, "view_2": same, "temperature": torch.full((count,), 0.07)}
    assert float(place_image(outputs)) == pytest.approx(math.log(count), rel=1e-6)


def test_the_temperature_is_learned():
    """It begins at 0.07, has a gradient, and goes no lower than 0.01."""
    model = two_towers()
    batch = {key: value for key, value in torch.utils.data.default_collate([Coloured()[i] for i in range(8)]).items()}
    outputs = model(batch)
    assert outputs["temperature"].tolist() == pytest.approx([0.07] * 8)
    assert outputs["view_1"].shape == outputs["view_2"].shape == (8, 32) and outputs["features"].shape == (8, 64)
    place_image(outputs).backward()
    assert model.log_scale.grad.abs() > 0
    model.log_scale.data.fill_(10)
    assert model(batch)["temperature"].tolist() == pytest.approx([0.01] * 8)


def test_towers_that_cannot_be_contrasted_are_refused():
    with pytest.raises(BandError, match="lonlat"):
        PlaceImage(EarlyFusion({"s2": RGB_BANDS, "lonlat": ()}, width=0.125), LocationEncoder())
    with pytest.raises(ArgumentError, match="temperature"):
        PlaceImage(EarlyFusion({"s2": RGB_BANDS}, width=0.125), LocationEncoder(), temperature=0)
    with pytest.raises(MissingModalityError, match="temperature"):
        Contrast(place_image).loss({"view_1": torch.zeros(2, 2), "view_2": torch.zeros(2, 2)}, {})
    with pytest.raises(ValueError, match="batch of one"):
        place_image(two_towers().eval()({"s2": torch.zeros(1, 3, 8, 8), "lonlat": PLACES[:1]}))

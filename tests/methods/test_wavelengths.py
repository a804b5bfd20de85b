from dataclasses import replace

import pytest
import torch

from bengelib.bands import RGB_BANDS, S1_BANDS, S2, S2_BANDS
from bengelib.data.images import image_modality
from bengelib.engine import seed_everything
from bengelib.errors import ArgumentError, BandError
from bengelib.heads import ClassificationHead, Network, SegmentationHead, count_parameters
from bengelib.methods.multi_pretext import MultiPretext
from bengelib.methods.wavelengths import (
    RGB_WAVELENGTHS,
    S1_PLACEHOLDERS,
    FilterGenerator,
    WavelengthEncoder,
    sines_of,
    wavelengths_of,
)
from bengelib.modalities import Modality
from bengelib.probe import extract_features
from bengelib.tasks import Classification
from tests.test_fusion import make_batch
from tests.training import fit_with

_NAMES = (*S2_BANDS[:10], "B10", *S2_BANDS[10:])
THIRTEEN = Modality(
    "image", "image", _NAMES, (0.2,) * 13, (0.1,) * 13, ("reflectance",) * 13,
    wavelengths=[S2[band].wavelength if band in S2 else 1374.0 for band in _NAMES],
)  # fmt: skip


def encoder_of(inputs, **options):
    seed_everything(0)
    return WavelengthEncoder(inputs, stem=1, **options).eval()


def only(bands, dtype=torch.float32):
    return {"s2": make_batch()["s2"][:, [S2_BANDS.index(band) for band in bands]].to(dtype)}


def test_parameters_of_the_paper_and_of_a_laptop():
    assert count_parameters(FilterGenerator(768, 16, length=128, tokens=128, hidden=2048)) == 26_104_064
    assert count_parameters(FilterGenerator(40, 3)) < 80_000


def test_sines_are_those_of_a_transformer():
    codes = sines_of(torch.tensor([0.0, 492.0], dtype=torch.float64), 8)
    assert codes[0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    frequencies = torch.tensor([1, 0.1, 0.01, 0.001], dtype=torch.float64)
    torch.testing.assert_close(codes[1], torch.cat([(492 * frequencies).sin(), (492 * frequencies).cos()]))


def test_wavelengths_are_those_of_the_bands():
    assert wavelengths_of({"s2": ()}).tolist() == [band.wavelength for band in S2.values()]
    assert wavelengths_of({"s2": RGB_BANDS}).tolist() == [665, 560, 492]
    assert wavelengths_of({"image": image_modality()}, RGB_WAVELENGTHS).tolist() == [665, 560, 492]
    assert wavelengths_of({"s2": ("B02",)}, {"B02": 493}).tolist() == [493]
    assert wavelengths_of({"image": THIRTEEN})[10] == 1374


def test_wavelengths_of_another_number_of_bands_are_refused():
    image = replace(image_modality(), wavelengths=(665.0, 560.0))
    with pytest.raises(ArgumentError, match="2 wavelengths for 3 bands"):
        wavelengths_of({"image": image})


def test_bands_have_no_order():
    """In another order, with their wavelengths, they make the same features: to the last digits of 64 bits."""
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1)).tolist()
    bands = tuple(S2_BANDS[place] for place in order)
    encoder = encoder_of({"s2": S2_BANDS}).double()
    other = encoder_of({"s2": bands}, shared=encoder).double()
    assert torch.equal(other.wavelengths, encoder.wavelengths[order])
    weights, bias = encoder.filters()
    permuted, same = other.filters()
    torch.testing.assert_close(permuted, weights[:, order], rtol=0, atol=1e-12)
    torch.testing.assert_close(same, bias, rtol=0, atol=1e-12)
    features, again = encoder(only(S2_BANDS, torch.float64)), other(only(bands, torch.float64))
    torch.testing.assert_close(again, features, rtol=0, atol=1e-8)
    wrong = other(only(S2_BANDS, torch.float64))
    assert (wrong - features).abs().max() > 1e-3


def test_one_encoder_reads_any_number_of_bands():
    encoder = encoder_of({"s2": S2_BANDS})
    colour = WavelengthEncoder({"s2": RGB_BANDS}, shared=encoder)
    assert colour.net is encoder.net and colour.generator is encoder.generator
    assert encoder(only(S2_BANDS)).shape == colour(only(RGB_BANDS)).shape == (2, 320)
    thirteen = WavelengthEncoder({"image": THIRTEEN}, shared=encoder)
    assert thirteen({"image": torch.rand(2, 13, 32, 32)}).shape == (2, 320)
    labels = [{"s2": only(RGB_BANDS)["s2"][place], "label": torch.tensor(place)} for place in (0, 1, 0, 1)]
    before = encoder(only(S2_BANDS)).detach()
    network = Network(colour, {"label": ClassificationHead(320, ["a", "b"])})
    fit_with(network, [Classification("label", ["a", "b"])], labels, epochs=1, progress=False)
    assert not torch.equal(encoder(only(S2_BANDS)).detach(), before)  # what trains the one trains the other


def test_filters_depend_on_the_wavelength_and_start_small():
    seed_everything(0)
    generator = FilterGenerator(40, 3)
    weights, bias = generator(torch.tensor([492.0, 560.0, 2202.0]))
    assert weights.shape == (40, 3, 3, 3) and bias.shape == (40,)
    assert 1e-3 < float(weights.detach().std()) < 2e-2
    assert (weights[:, 0] - weights[:, 2]).abs().max() > 1e-3


def test_every_head_a_probe_and_masks_read_it():
    encoder = encoder_of({"s2": S2_BANDS})
    heads = {
        "climate_zone": ClassificationHead(encoder.feature_dim, ["a", "b"]),
        "land_cover": SegmentationHead(encoder.channels, ["x", "y"]),
    }
    outputs = Network(encoder, heads).eval()(make_batch())
    assert outputs["climate_zone"].shape == (2, 2) and outputs["land_cover"].shape == (2, 2, 32, 32)
    batch = make_batch()
    assert extract_features(encoder, [{"s2": image} for image in batch["s2"]]).shape == (2, 320)
    pretext = MultiPretext(encoder, {"s2": S2_BANDS, "season": ()}, width=8)
    sum(task.loss(pretext(batch), batch) for task in pretext.tasks()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in encoder.generator.parameters())


def test_a_missing_wavelength_is_an_error():
    with pytest.raises(BandError, match=r"no wavelength for band 'VV' of 's1'.*S1_PLACEHOLDERS, which are not physics"):
        WavelengthEncoder({"s2": S2_BANDS, "s1": S1_BANDS})
    with pytest.raises(BandError, match=r"'temperature'.*nanometres"):
        wavelengths_of({"weather": ("temperature",)})
    with pytest.raises(BandError, match="'elevation' of 'dem'"):
        WavelengthEncoder({"s2": S2_BANDS, "dem": ()})
    with pytest.raises(ArgumentError, match=r"wavelength of 'B02'=0.49.*at least 100"):
        wavelengths_of({"s2": ("B02",)}, {"B02": 0.49})
    with pytest.raises(BandError, match="11 channels for 12 bands"):
        encoder_of({"s2": S2_BANDS})(only(S2_BANDS[:11]))


def test_sentinel_1_has_placeholders_that_differ():
    encoder = encoder_of({"s2": S2_BANDS, "s1": S1_BANDS}, wavelengths=S1_PLACEHOLDERS)
    assert encoder.wavelengths[-2:].tolist() == [3500, 4000]
    weights, _ = encoder.filters()
    assert (weights[:, -1] - weights[:, -2]).abs().max() > 1e-4
    assert encoder(make_batch()).shape == (2, 320)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ArgumentError, match="multiple of 2 and of heads=4"):
        FilterGenerator(40, 3, length=30)
    with pytest.raises(ArgumentError, match="tokens"):
        FilterGenerator(40, 3, tokens=0)
    with pytest.raises(ArgumentError, match="40 filters of 3 pixels; the network needs 40 of 1"):
        WavelengthEncoder({"s2": S2_BANDS}, stem=1, generator=FilterGenerator(40, 3))
    assert encoder_of({"s2": S2_BANDS}, generator=FilterGenerator(40, 1, length=8)).generator.length == 8

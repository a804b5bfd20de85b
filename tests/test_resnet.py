import importlib
import urllib.error

import pytest
import torch
from torchvision.models import resnet18, resnet34, resnet50

from bengelib import resnet
from bengelib.errors import DownloadError
from bengelib.heads import count_parameters
from bengelib.resnet import ResNetEncoder, load_imagenet

PEERS = {18: resnet18, 34: resnet34, 50: resnet50}


def without_classifier(state):
    return {name: value for name, value in state.items() if not name.startswith("fc.")}


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("depth", PEERS)
def test_same_numbers_as_torchvision(depth, training):
    torch.manual_seed(0)
    peer = PEERS[depth](weights=None)
    for module in peer.modules():  # statistics that are not all 0 and 1
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    encoder = ResNetEncoder(3, depth)
    encoder.load_state_dict(
        without_classifier(peer.state_dict())
    )  # names and shapes are torchvision's, none is left over
    peer.fc = torch.nn.Identity()
    image = torch.randn(2, 3, 72, 64, dtype=torch.float64)
    with torch.no_grad():
        ours, theirs = (model.double().train(training)(image) for model in (encoder, peer))
    torch.testing.assert_close(ours, theirs)


def test_first_weights_have_the_spread_of_torchvision():
    torch.manual_seed(0)
    ours, theirs = ResNetEncoder(3).state_dict(), resnet18(weights=None).state_dict()
    for name, value in ours.items():
        if value.ndim == 4:
            assert float(value.std()) == pytest.approx(float(theirs[name].std()), rel=0.1), name
        elif value.is_floating_point():
            assert torch.equal(value, theirs[name]), name


@pytest.mark.parametrize(("depth", "width", "channels"), [(18, 1.0, 12), (34, 0.25, 1), (50, 0.5, 14)])
def test_pyramid_shapes(depth, width, channels):
    encoder = ResNetEncoder(channels, depth, width).eval()
    with torch.no_grad():
        maps = encoder.pyramid(torch.randn(1, channels, 64, 96))
        pooled = encoder(torch.randn(1, channels, 64, 96))
    assert tuple(image.shape[1] for image in maps) == encoder.channels
    assert [tuple(image.shape[2:]) for image in maps] == [(32, 48), (16, 24), (8, 12), (4, 6), (2, 3)]
    assert pooled.shape == (1, encoder.feature_dim) and encoder.feature_dim == encoder.channels[-1]


def test_a_patch_of_120_pixels():
    encoder = ResNetEncoder(2, width=0.125).eval()
    with torch.no_grad():
        assert [image.shape[-1] for image in encoder.pyramid(torch.randn(1, 2, 120, 120))] == [60, 30, 15, 8, 4]


def test_pooled_features_are_the_mean_of_the_coarsest_map():
    encoder = ResNetEncoder(2, width=0.125).eval()
    image = torch.randn(2, 2, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(encoder(image), encoder.pyramid(image)[-1].mean(dim=(2, 3)), rtol=1e-4, atol=1e-5)


def test_gradients_reach_every_weight():
    encoder = ResNetEncoder(2, width=0.125)
    encoder(torch.randn(2, 2, 64, 64)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in encoder.parameters())


def test_pyramid_is_not_changed_in_place_by_what_follows():
    """The blocks compute in place; a decoder needs the maps as they were."""
    encoder = ResNetEncoder(1, width=0.125).eval()
    with torch.no_grad():
        image = torch.randn(1, 1, 32, 32)
        stem = encoder.relu(encoder.bn1(encoder.conv1(image)))
        torch.testing.assert_close(encoder.pyramid(image)[0], stem, rtol=1e-4, atol=1e-5)


def test_number_of_parameters():
    assert count_parameters(ResNetEncoder(3, 18)) == 11_689_512 - 513_000  # torchvision's figure less its classifier
    assert count_parameters(ResNetEncoder(3, 50)) == 25_557_032 - 2_049_000
    half, full = (count_parameters(ResNetEncoder(3, 18, width)) for width in (0.5, 1.0))
    assert half == pytest.approx(full / 4, rel=0.02)


@pytest.mark.parametrize(
    ("arguments", "words"), [((3, 19), ["19", "[18, 34, 50]"]), ((3, 18, 0.001), ["0.001"]), ((0,), ["in_channels=0"])]
)
def test_impossible_encoders_are_refused(arguments, words):
    with pytest.raises(ValueError) as error:
        ResNetEncoder(*arguments)
    assert all(word in str(error.value) for word in words)


# ----------------------------------------------------------------------------------------------------- ImageNet weights


@pytest.fixture
def imagenet(monkeypatch):
    """A stand-in for torchvision's weights, and the addresses that were asked for."""
    torch.manual_seed(1)
    state, asked = resnet18(weights=None).state_dict(), []

    def load(url, **_):
        asked.append(url)
        return dict(state)

    monkeypatch.setattr(resnet.torch.hub, "load_state_dict_from_url", load)
    return state, asked


def test_imagenet_weights_are_put_in(imagenet):
    state, asked = imagenet
    encoder = ResNetEncoder(12)
    load_imagenet(encoder, [f"B{number:02d}" for number in range(1, 13)])
    assert asked == ["https://download.pytorch.org/models/resnet18-f37072fd.pth"]
    for name, value in encoder.state_dict().items():
        if name != "conv1.weight":
            assert torch.equal(value, state[name]), name


def test_red_green_and_blue_take_their_own_filters_whatever_their_order(imagenet):
    state, _ = imagenet
    encoder, peer = ResNetEncoder(3).eval(), resnet18(weights=None).eval()
    load_imagenet(encoder, ("B02", "B03", "B04"))
    peer.load_state_dict(state)
    peer.fc = torch.nn.Identity()
    rgb = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(encoder(rgb.flip(1)), peer(rgb), rtol=1e-3, atol=1e-4)


def test_other_channels_take_the_mean_filter_and_the_sum_keeps_its_size(imagenet):
    state, _ = imagenet
    encoder = ResNetEncoder(6)
    load_imagenet(encoder, ("B04", "B08", "B03", "VV", "VH", "B02"))
    filters, rgb = encoder.conv1.weight.detach(), state["conv1.weight"]
    mean = rgb.mean(dim=1)
    for place, expected in enumerate((rgb[:, 0], mean, rgb[:, 1], mean, mean, rgb[:, 2])):
        torch.testing.assert_close(filters[:, place], expected / 2)
    torch.testing.assert_close(filters.sum(dim=1), rgb.sum(dim=1), atol=1e-6, rtol=1e-4)


def test_imagenet_needs_full_width_and_a_name_for_each_channel(imagenet):
    with pytest.raises(ValueError, match=r"width 1, not 0\.5"):
        load_imagenet(ResNetEncoder(3, width=0.5), ("B04", "B03", "B02"))
    with pytest.raises(ValueError, match=r"2 channel names .* 3 channels"):
        load_imagenet(ResNetEncoder(3), ("B04", "B03"))
    assert not imagenet[1]  # refused before anything is downloaded


@pytest.mark.parametrize(
    "error", [urllib.error.URLError("no route"), RuntimeError("invalid hash value"), TimeoutError()]
)
def test_failing_download_is_explained(monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(resnet.torch.hub, "load_state_dict_from_url", fail)
    encoder = ResNetEncoder(3)
    before = encoder.conv1.weight.detach().clone()
    with pytest.raises(DownloadError, match="ImageNet weights") as caught:
        load_imagenet(encoder, ("B04", "B03", "B02"))
    assert "resnet18-f37072fd.pth" in str(caught.value) and "checkpoints" in str(caught.value)
    assert torch.equal(encoder.conv1.weight, before)


def test_without_a_network_the_real_download_says_what_to_do(offline, tmp_path):
    """Torch's own downloader, with a cache that is empty."""
    with pytest.raises(DownloadError, match="name resolution") as caught:
        load_imagenet(ResNetEncoder(3), ("B04", "B03", "B02"))
    assert str(tmp_path) in str(caught.value) and "https://download.pytorch.org" in str(caught.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_damaged_file_in_the_cache_is_explained(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    path = tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    path.parent.mkdir(parents=True)
    for content in (b"", b"<html>please log in</html>", b"PK\x03\x04 and no more"):
        path.write_bytes(content)
        with pytest.raises(DownloadError, match=r"resnet18-f37072fd.* damaged") as caught:
            load_imagenet(ResNetEncoder(3), ("B04", "B03", "B02"))
        assert "weights_only" not in str(caught.value)  # torch's advice to load the file all the same is a bad one


@pytest.mark.parametrize("depth", PEERS)
def test_addresses_of_the_weights_are_those_of_torchvision(depth):
    weights = importlib.import_module("torchvision.models").get_model_weights(f"resnet{depth}")
    assert resnet._DEPTHS[depth].weights in [each.url for each in weights]

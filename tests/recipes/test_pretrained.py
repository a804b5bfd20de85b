"""Published weights in encoders, from files in the layout of the originals; none of the originals is here."""

import argparse
import hashlib
import sys
import types

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import resnet18, resnet50

from bengelib.bands import S1_BANDS, S2_BANDS
from bengelib.errors import ArgumentError, BandError, CheckpointError, ChecksumError, DownloadError
from bengelib.fusion import EarlyFusion, FeatureFusion, FiLMFusion, LateFusion
from bengelib.heads import ClassificationHead, Network
from bengelib.mae import ViTEncoder
from bengelib.modalities import MODALITIES, Modality
from bengelib.recipes.pretrained import adapt_filters, load_pretrained
from bengelib.recipes.published import PUBLISHED, fetch_weights, read_weights
from bengelib.resnet import ResNetEncoder, load_imagenet

L1C = PUBLISHED["ssl4eo-moco"].bands


def peer(channels, make=resnet18, seed=0):
    """torchvision's ResNet for so many channels, without its classifier, with statistics that are not all 0 and 1."""
    torch.manual_seed(seed)
    model = make(weights=None)
    model.conv1 = nn.Conv2d(channels, 64, 7, 2, 3, bias=False)
    model.fc = nn.Identity()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model.eval()


def prefixed(state, prefix):
    return {f"{prefix}{name}": value for name, value in state.items()}


def noise(state):
    return {name: torch.rand(value.shape).to(value.dtype) for name, value in state.items()}


def moco(model, path):
    """SSL4EO-S12's full checkpoint of MoCo v2: query and key encoder with a perceptron, a queue, an optimiser."""
    state = model.state_dict()
    projector = {"fc.0.weight": torch.rand(8, 512), "fc.0.bias": torch.rand(8), "fc.2.weight": torch.rand(4, 8)}
    whole = {
        **prefixed(noise({**state, **projector}), "module.encoder_k."),
        **prefixed({**state, **projector}, "module.encoder_q."),
        "module.queue": torch.rand(4, 16),
        "module.queue_ptr": torch.zeros(1, dtype=torch.long),
    }
    torch.save({"epoch": 100, "arch": "resnet18", "state_dict": whole, "optimizer": {"state": {}, "lr": 0.03}}, path)
    return path


def dino(model, path):
    """DINO's full checkpoint: student and teacher with heads, and the arguments of its command line."""
    state = prefixed(model.state_dict(), "backbone.") | {"head.mlp.0.weight": torch.rand(4, 512)}
    student = prefixed(noise(state), "module.")
    arguments = argparse.Namespace(arch="resnet18", lr=0.1)
    torch.save({"student": student, "teacher": state, "epoch": 100, "args": arguments, "optimizer": {}}, path)
    return path


def seco(model, path):
    """SeCo's checkpoint of Lightning: a sequence of layers, heads, a queue, and objects of other packages."""
    parts = list(model.children())[:-1]
    state = nn.Sequential(*parts, nn.Flatten()).state_dict()
    whole = prefixed(noise(state), "encoder_k.") | prefixed(state, "encoder_q.")
    whole |= {"heads_q.0.0.weight": torch.rand(4, 4), "queue": torch.rand(3, 4, 8)}
    foreign = types.ModuleType("lightning_of_old")

    class AttributeDict(dict):
        def __reduce__(self):
            return AttributeDict, (), {"armed": True}, None, iter(self.items())

        def __setstate__(self, state):
            raise AssertionError("code of the file was run")

    class ModelCheckpoint:
        pass

    for name, each in (("AttributeDict", AttributeDict), ("ModelCheckpoint", ModelCheckpoint)):
        each.__module__, each.__qualname__ = "lightning_of_old", name
        setattr(foreign, name, each)
    sys.modules["lightning_of_old"] = foreign
    try:
        content = {"state_dict": whole, "hyper_parameters": AttributeDict(lr=0.03), "callbacks": {ModelCheckpoint: {}}}
        torch.save(content, path)
    finally:
        del sys.modules["lightning_of_old"]
    return path


def features(encoder, batch):
    with torch.inference_mode():
        return encoder.eval()(batch)


def image(channels, size=64, seed=1):
    torch.manual_seed(seed)
    return 0.3 * torch.rand(2, channels, size, size, dtype=torch.float32)


def with_b10(values, bands=S2_BANDS):
    """Reflectance (B, 12, H, W) with zeros in the place of B10, as SSL4EO-S12's code fills it."""
    given = dict(zip(bands, values.unbind(1), strict=True))
    return torch.stack([given.get(band, torch.zeros_like(values[:, 0])) for band in L1C], dim=1)


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


# ------------------------------------------------------------------------------------------------- layouts of the files


@pytest.mark.parametrize("layout", [moco, dino])
def test_ssl4eo_s12_with_b10_left_out_is_the_original_with_zeros_for_it(tmp_path, layout):
    model, values = peer(13), image(12)
    encoder = EarlyFusion({"s2": S2_BANDS})
    assert load_pretrained(encoder, layout(model, tmp_path / "B13_rn18_0099_ckpt.pth")) == {"s2": S2_BANDS}
    close(features(encoder, {"s2": values}), features(model, with_b10(values)))


def test_bands_in_another_order_and_fewer_of_them(tmp_path):
    model, path = peer(13), tmp_path / "weights.pth"
    torch.save(model.state_dict(), path)  # a backbone alone, as DeCUR and torchgeo publish them
    bands = ("B08", "B02", "B12")
    encoder, values = EarlyFusion({"s2": bands}), image(3)
    assert load_pretrained(encoder, path) == {"s2": bands}
    close(features(encoder, {"s2": values}), features(model, with_b10(values, bands)))


def test_thirteen_bands_of_another_order_take_all_filters(tmp_path):
    """EuroSAT's order has B8A last."""
    model, path = peer(13), tmp_path / "weights.safetensors"
    save_file(model.state_dict(), path)
    bands = (*L1C[:8], *L1C[9:], "B8A")
    modality = Modality("image", "image", bands, (0.1,) * 13, (0.1,) * 13, ("reflectance",) * 13)
    encoder, values = EarlyFusion({"image": modality}), image(13)
    load_pretrained(encoder, path)
    ordered = torch.stack([values[:, bands.index(band)] for band in L1C], dim=1)
    close(features(encoder, {"image": values}), features(model, ordered))


def test_seco_from_lightning_runs_none_of_its_code_and_scales_as_seco_does(tmp_path):
    model, path = peer(3), seco(peer(3), tmp_path / "seco_resnet18_1m.ckpt")
    encoder, values = EarlyFusion({"s2": ("B02", "B03", "B04")}), image(3) * 0.9 + 0.02
    assert load_pretrained(encoder, path) == {"s2": ("B02", "B03", "B04")}
    blue, green, red = (255 * band for band in values.unbind(1))
    shown = torch.stack([(red - 0) / 129, (green - 2) / 101, (blue - 3) / 85], dim=1)  # between SeCo's quantiles
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    close(features(encoder, {"s2": values}), features(model, (shown - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)))
    assert "lightning_of_old" not in sys.modules


def test_decur_has_a_network_for_each_sensor(tmp_path):
    optical, radar = peer(13), peer(2, seed=5)
    path = tmp_path / "checkpoint_0099.pth"
    whole = prefixed(radar.state_dict(), "module.backbone_1.") | prefixed(optical.state_dict(), "module.backbone_2.")
    torch.save(
        {"epoch": 100, "model": {**whole, "module.projector1.0.weight": torch.rand(4, 4)}, "optimizer": {}}, path
    )
    encoder = LateFusion({"s1": S1_BANDS, "s2": S2_BANDS})
    assert load_pretrained(encoder, path) == {"s1": S1_BANDS, "s2": S2_BANDS}
    values = {"s2": image(12), "s1": 5 * torch.randn(2, 2, 64, 64) - 15}
    mean, std = torch.tensor([-12.54847273, -20.19237134]), torch.tensor([5.25697717, 5.91150917])
    scaled = (values["s1"] - (mean - 2 * std).view(-1, 1, 1)) / (4 * std).view(-1, 1, 1)
    expected = torch.cat([features(radar, scaled), features(optical, with_b10(values["s2"]))], dim=1)
    close(features(encoder, values), expected)
    alone = EarlyFusion({"s2": S2_BANDS})
    assert load_pretrained(alone, path, kind="decur-s2") == {"s2": S2_BANDS}
    with pytest.raises(BandError, match="none in common"):
        load_pretrained(EarlyFusion({"s2": S2_BANDS}), path, kind="decur-s1")


def test_imagenet_of_timm_or_torchvision_as_load_imagenet_puts_it_in(tmp_path, monkeypatch):
    torch.manual_seed(0)
    state = resnet18(weights=None).state_dict()
    path = tmp_path / "model.safetensors"
    save_file(state, path)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *_, **__: dict(state))
    inputs = {"s2": ("B08", "B04", "B03", "B02"), "s1": S1_BANDS}
    ours, theirs = EarlyFusion(inputs), EarlyFusion(inputs)
    assert load_pretrained(ours, path) == {"s2": ("B04", "B03", "B02"), "s1": ()}
    load_imagenet(theirs.resnet, ("B08", "B04", "B03", "B02", "VV", "VH"))
    for name, value in theirs.state_dict().items():  # the statistics of the data stay
        assert torch.equal(ours.state_dict()[name], value) or name.endswith("conv1.weight"), name
    torch.testing.assert_close(ours.resnet.conv1.weight, theirs.resnet.conv1.weight)


def test_pictures_take_red_green_and_blue(tmp_path):
    path = tmp_path / "model.pth"
    state = resnet18(weights=None).state_dict()
    torch.save(state, path)
    for channels in (("R", "G", "B"), ("blue", "green", "red")):
        modality = Modality("image", "image", channels, (0.5,) * 3, (0.25,) * 3, ("1",) * 3)
        encoder = EarlyFusion({"image": modality})
        assert load_pretrained(encoder, path) == {"image": channels}
        filters = state["conv1.weight"] if channels[0] == "R" else state["conv1.weight"].flip(1)
        assert torch.equal(encoder.resnet.conv1.weight, filters)


def test_fifty_layers(tmp_path):
    model, path = peer(13, resnet50), tmp_path / "weights.pth"
    torch.save(model.state_dict(), path)
    encoder, values = EarlyFusion({"s2": S2_BANDS}, depth=50), image(12)
    load_pretrained(encoder, path)
    close(features(encoder, {"s2": values}), features(model, with_b10(values)))
    with pytest.raises(CheckpointError, match=r"ResNet of 18 layers.*one of 50 layers: build it with depth=50"):
        load_pretrained(EarlyFusion({"s2": S2_BANDS}), path)


# ------------------------------------------------------------------------------------------------------------- encoders


@pytest.fixture
def weights(tmp_path):
    """A backbone of 13 bands."""
    path = tmp_path / "weights.pth"
    torch.save(peer(13).state_dict(), path)
    return path


def test_other_bands_take_the_mean_filter_and_the_sum_keeps_its_size():
    filters = torch.rand(4, 13, 7, 7)
    adapted = adapt_filters(filters, L1C, ("VV", "B04", "VH"))
    torch.testing.assert_close(adapted[:, 1], filters[:, 3] * 13 / 3)
    torch.testing.assert_close(adapted[:, 0], filters.mean(dim=1) * 13 / 3)
    assert torch.equal(adapted[:, 0], adapted[:, 2])
    known = adapt_filters(filters, L1C, ("b4", "B02"))
    assert torch.equal(known, filters[:, [3, 1]])


def test_of_two_sensors_each_takes_what_fits(weights):
    encoder = LateFusion({"s2": S2_BANDS, "s1": S1_BANDS})
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    assert load_pretrained(encoder, weights) == {"s2": S2_BANDS}
    state = torch.load(weights, weights_only=True)
    for name, value in encoder.state_dict().items():
        if ".s2." not in name:
            assert torch.equal(value, before[name]), name
        elif "encoders" in name and not name.endswith("conv1.weight"):
            assert torch.equal(value, state[name.removeprefix("encoders.s2.")]), name


def test_statistics_are_those_of_the_weights_for_the_bands_that_they_know(weights):
    encoder = EarlyFusion({"s2": ("B04", "B03"), "s1": S1_BANDS, "season": ()})
    assert load_pretrained(encoder, weights) == {"s2": ("B04", "B03"), "s1": (), "season": ()}
    read = encoder.read.normalize
    assert read["s2"].mean.tolist() == [0, 0] and read["s2"].std.tolist() == [1, 1]
    assert read["s1"].mean.tolist() == pytest.approx(MODALITIES["s1"].mean)
    assert encoder.inputs["s2"].mean == MODALITIES["s2"].take(("B04", "B03")).mean  # facts of the data stay


def test_every_encoder_of_resnets_is_served(weights):
    state = torch.load(weights, weights_only=True)
    film = FiLMFusion({"s2": S2_BANDS, "season": ()})
    assert load_pretrained(film, weights) == {"s2": S2_BANDS}
    assert torch.equal(film.resnet.layer4[1].bn2.weight, state["layer4.1.bn2.weight"])
    feature = FeatureFusion({"s2": S2_BANDS, "s1": S1_BANDS}, stage=2)
    assert load_pretrained(feature, weights) == {"s2": S2_BANDS}
    assert torch.equal(feature.encoders["s2"].layer2[0].conv1.weight, state["layer2.0.conv1.weight"])
    assert torch.equal(feature.trunk[1][0].conv1.weight, state["layer4.0.conv1.weight"])
    masked = EarlyFusion({"s2": S2_BANDS, "s1": S1_BANDS}, modality_dropout=0.5)
    assert load_pretrained(masked, weights) == {"s2": S2_BANDS, "s1": (), "": ()}
    network = Network(EarlyFusion({"s2": S2_BANDS}), {"zone": ClassificationHead(512, ("a", "b"))})
    head = network.heads["zone"].weight.clone()
    assert load_pretrained(network, weights) == {"s2": S2_BANDS} and torch.equal(network.heads["zone"].weight, head)
    alone = ResNetEncoder(2)
    assert load_pretrained(alone, weights, channels=("B08", "B04")) == {"": ("B08", "B04")}
    assert torch.equal(alone.conv1.weight, state["conv1.weight"][:, [7, 3]])


def test_gradients_reach_the_weights_that_were_put_in(weights):
    encoder = EarlyFusion({"s2": S2_BANDS})
    load_pretrained(encoder, weights)
    encoder({"s2": image(12)}).square().sum().backward()
    assert float(encoder.resnet.conv1.weight.grad.abs().sum()) > 0


# ------------------------------------------------------------------------------------------------------ what is refused


def test_encoders_that_nobody_has_published_weights_for(weights):
    with pytest.raises(ArgumentError, match=r"width 1, not 0\.5"):
        load_pretrained(EarlyFusion({"s2": S2_BANDS}, width=0.5), weights)
    with pytest.raises(ArgumentError, match="ViTEncoder holds no ResNet"):
        load_pretrained(ViTEncoder({"s2": S2_BANDS}), weights)
    with pytest.raises(ArgumentError, match="one for each of its 2 channels"):
        load_pretrained(ResNetEncoder(2), weights)
    with pytest.raises(BandError, match="none in common"):
        load_pretrained(EarlyFusion({"s1": S1_BANDS}), weights)


def test_bands_in_another_unit(weights):
    digital = Modality("s2", "image", ("B04",), (590.0,), (675.0,), ("DN",))
    with pytest.raises(BandError, match=r"band B04 of s2 in 'DN'.*trained on 'reflectance'"):
        load_pretrained(EarlyFusion({"s2": digital}), weights)


def test_files_that_are_no_weights(tmp_path, weights):
    encoder = EarlyFusion({"s2": S2_BANDS})
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    path = tmp_path / "odd.pth"
    for content in (b"", b"<html>please log in</html>", b"PK\x03\x04 and no more", weights.read_bytes()[:5000]):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"odd\.pth is not a readable file of weights"):
            load_pretrained(encoder, path)
    (tmp_path / "odd.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="is not a readable file of weights"):
        load_pretrained(encoder, tmp_path / "odd.safetensors")
    torch.save([1, 2], path)
    with pytest.raises(CheckpointError, match="holds a list"):
        load_pretrained(encoder, path)
    torch.save({"blocks.0.attn.qkv.weight": torch.rand(4, 4)}, path)
    with pytest.raises(CheckpointError, match=r"holds no ResNet.*blocks\.0\.attn"):
        load_pretrained(encoder, path)
    with pytest.raises(ArgumentError, match=r"no file none\.pth.*'ssl4eo-moco'"):
        load_pretrained(encoder, "none.pth")
    with pytest.raises(ArgumentError, match="unknown kind 'best'"):
        load_pretrained(encoder, weights, kind="best")
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


class Evil:
    def __reduce__(self):
        return exec, ("raise SystemExit('ran')",)


def test_code_in_a_file_is_not_run(tmp_path):
    path = tmp_path / "evil.pth"
    torch.save({"state_dict": peer(13).state_dict(), "callback": Evil()}, path)
    assert read_weights(path)["callback"] == {}
    load_pretrained(EarlyFusion({"s2": S2_BANDS}), path)


def test_of_three_channels_it_must_be_said_what_they_are_where_nothing_shows_it(tmp_path):
    path = tmp_path / "backbone.pth"
    torch.save({name: value for name, value in peer(3).state_dict().items()}, path)
    with pytest.raises(CheckpointError, match=r"of 3 channels.*kind=, one of \['imagenet', 'ssl4eo-moco-rgb'"):
        load_pretrained(EarlyFusion({"s2": S2_BANDS}), path)
    encoder = EarlyFusion({"s2": ("B04", "B03", "B02")})
    load_pretrained(encoder, path, kind="seco")
    assert float(encoder.read.normalize["s2"].std[0]) == pytest.approx(0.229 * 129 / 255)
    path.rename(tmp_path / "resnet18_sentinel2_rgb_seco-cefca942.pth")
    load_pretrained(encoder, tmp_path / "resnet18_sentinel2_rgb_seco-cefca942.pth")
    torch.save(peer(9).state_dict(), path)
    with pytest.raises(CheckpointError, match="of 9 channels"):
        load_pretrained(encoder, path)


def test_a_weight_too_many_is_named(tmp_path):
    path = tmp_path / "odd.pth"
    torch.save({**peer(13).state_dict(), "layer5.0.conv1.weight": torch.rand(1)}, path)
    with pytest.raises(CheckpointError, match=r"1 weights are missing, left over .* layer5\.0\.conv1\.weight"):
        load_pretrained(EarlyFusion({"s2": S2_BANDS}), path)


# -------------------------------------------------------------------------------------------------- names and downloads


def test_every_published_set_is_complete():
    for name, facts in PUBLISHED.items():
        assert facts.urls and set(facts.urls) <= {18, 34, 50}, name
        assert len(facts.mean) == len(facts.std) and len(facts.mean) in (0, len(facts.bands))
        assert bool(facts.unit) == bool(facts.mean)
        for depth, url in facts.urls.items():
            assert url.startswith("https://") and len(url.rpartition("-")[2].removesuffix(".pth")) == 8
            assert f"resnet{depth}" in url or f"rn{depth}" in url


def test_without_a_network_it_is_said_what_to_do(offline, tmp_path):
    with pytest.raises(DownloadError, match=r"cannot download ssl4eo-moco .*name resolution") as caught:
        load_pretrained(EarlyFusion({"s2": S2_BANDS}), "ssl4eo-moco")
    assert str(tmp_path) in str(caught.value) and "resnet18_sentinel2_all_moco-59bfdff9.pth" in str(caught.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_what_is_in_the_cache_is_taken_if_it_is_what_was_published(monkeypatch, tmp_path, weights):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "resnet18_sentinel2_all_moco-59bfdff9.pth").write_bytes(weights.read_bytes())
    with pytest.raises(ChecksumError, match=r"59bfdff9\.\.\..*Remove it"):
        load_pretrained(EarlyFusion({"s2": S2_BANDS}), "ssl4eo-moco")
    digits = hashlib.sha256(weights.read_bytes()).hexdigest()[:8]
    url = f"https://example.org/resnet18-{digits}.pth"
    monkeypatch.setitem(PUBLISHED, "ssl4eo-moco", PUBLISHED["ssl4eo-moco"].__class__(L1C, urls={18: url}))
    (folder / f"resnet18-{digits}.pth").write_bytes(weights.read_bytes())
    assert fetch_weights("ssl4eo-moco", 18) == folder / f"resnet18-{digits}.pth"
    assert load_pretrained(EarlyFusion({"s2": S2_BANDS}), "ssl4eo-moco") == {"s2": S2_BANDS}


def test_a_hash_that_is_given_is_insisted_on(weights):
    whole = hashlib.sha256(weights.read_bytes()).hexdigest()
    load_pretrained(EarlyFusion({"s2": S2_BANDS}), weights, sha256=whole.upper())
    for wrong in ("0" * 64, whole[:7]):
        with pytest.raises(ChecksumError, match="has the SHA-256"):
            load_pretrained(EarlyFusion({"s2": S2_BANDS}), weights, sha256=wrong)


def test_a_depth_that_was_not_published():
    with pytest.raises(ArgumentError, match=r"was published for ResNets of \[50\] layers; the encoder has 18"):
        load_pretrained(EarlyFusion({"s2": S2_BANDS}), "ssl4eo-dino")

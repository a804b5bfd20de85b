import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bengelib.bands import S2_BANDS
from bengelib.engine import seed_everything
from bengelib.errors import ArgumentError, BandError, MissingModalityError
from bengelib.fusion import DecisionFusion, EarlyFusion, FeatureFusion, FiLMFusion
from bengelib.heads import ClassificationHead, Network, SegmentationHead, count_parameters
from bengelib.methods.convnext import SIZES, ConvNeXt, ConvNeXtBlock, ConvNeXtEncoder, GlobalResponseNorm
from bengelib.probe import extract_features
from tests.test_fusion import make_batch

INPUTS = {"s2": S2_BANDS, "s1": ("VV", "VH")}


def stirred(network, std=0.2):
    """The network with weights of which none is 0 or 1, so that nothing is the same with and without a layer."""
    seed_everything(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=std)
    return network


def tiny_net(channels=3, stem=1):
    """A ConvNeXt of four channels a stage and one block each, in 64 bits."""
    SIZES["test"] = type(SIZES["atto"])((1, 1, 1, 1), 4)
    try:
        return stirred(ConvNeXt(channels, "test", stem)).double().eval()
    finally:
        del SIZES["test"]


# --------------------------------------------------------------------------------------------------- whole images


def parameters(size, in_channels=3, stem=4, classes=0):
    network = ConvNeXt(in_channels, size, stem)
    return count_parameters(network) + classes * (network.feature_dim + 1)


def test_parameters_are_those_of_the_paper():
    assert parameters("atto", classes=1000) == 3_708_400
    assert parameters("atto") == 3_387_400
    assert parameters("atto", in_channels=12) == 3_393_160
    assert parameters("tiny", classes=1000) == 28_635_496
    assert count_parameters(ConvNeXtBlock(512)) == 8 * 512**2 + 65 * 512 == 2_130_432
    for size, millions in {"femto": 5.2, "pico": 9.1, "nano": 15.6}.items():
        assert parameters(size, classes=1000) / 1e6 == pytest.approx(millions, abs=0.06), size


@pytest.mark.parametrize("size", ["atto", "tiny"])
def test_same_numbers_as_timm(size):
    timm = pytest.importorskip("timm")
    peer = stirred(timm.create_model(f"convnextv2_{size}", in_chans=12, num_classes=0)).double().eval()
    ours = ConvNeXt(12, size, stem=4).double().eval()
    shapes = {name: value.shape for name, value in ours.state_dict().items()}
    # some of timm's linear layers are convolutions of 1 x 1
    ours.load_state_dict({name: value.reshape(shapes[name]) for name, value in peer.state_dict().items()})
    image = torch.randn(2, 12, 64, 96, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(ours(image), peer(image))
        torch.testing.assert_close(ours.pyramid(image)[2], peer.stages[:3](peer.stem(image)))


def test_global_response_norm_changes_nothing_at_the_start():
    x = torch.randn(2, 3, 4, 8)
    assert torch.equal(GlobalResponseNorm(8)(x), x)


def test_global_response_norm_is_that_of_the_paper():
    layer = stirred(GlobalResponseNorm(8)).double()
    x = torch.randn(2, 3, 4, 8, dtype=torch.float64)
    norm = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True)
    response = norm / (norm.mean(dim=3, keepdim=True) + 1e-6)
    torch.testing.assert_close(response.mean(dim=3), torch.ones(2, 1, 1, dtype=torch.float64), rtol=1e-6, atol=0)
    torch.testing.assert_close(layer(x), layer.weight * x * response + layer.bias + x)


def test_gradients_of_global_response_norm():
    layer = stirred(GlobalResponseNorm(5)).double()
    x = torch.randn(2, 3, 2, 5, dtype=torch.float64)
    x[0, :, :, 1] = 0  # a channel that nothing responds in: the root has no slope there
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(layer(x).square().sum(), x)
    assert gradient.isfinite().all()
    others = x.detach()[:, :, :, [0, 2, 3, 4]].requires_grad_()
    smaller = stirred(GlobalResponseNorm(4)).double()

    def value(x, weight, bias):
        smaller.weight.data, smaller.bias.data = weight.data, bias.data
        return torch.func.functional_call(smaller, {"weight": weight, "bias": bias}, (x,)).sin()

    assert torch.autograd.gradcheck(value, (others, smaller.weight, smaller.bias))


@pytest.mark.parametrize("pixels", [5, 7, 9])
def test_small_maps_are_convolved_as_large_ones(pixels):
    """The border of maps smaller than the kernel is made by hand."""
    block = stirred(ConvNeXtBlock(6)).double()
    x = torch.randn(2, pixels, pixels + 1, 6, dtype=torch.float64)
    seen = []
    block.norm.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    block(x)
    kernel = block.conv_dw
    expected = F.conv2d(x.permute(0, 3, 1, 2), kernel.weight, kernel.bias, padding=3, groups=6).permute(0, 2, 3, 1)
    torch.testing.assert_close(seen[0], expected)


def test_memory_layout_changes_nothing():
    network, image = tiny_net(), torch.randn(2, 3, 24, 16, dtype=torch.float64)
    expected = network(image)
    turned = network.to(memory_format=torch.channels_last)(image.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(turned, expected)


def test_half_precision_trains():
    network, image = ConvNeXt(3, "atto", 1), torch.randn(2, 3, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        loss = network(image, torch.tensor([[[True, False], [False, True]]] * 2)).float().square().mean()
    loss.backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())


# ---------------------------------------------------------------------------------------------------------- masks


def some_mask(count, rows, columns, seed=0):
    mask = torch.rand(count, rows, columns, generator=torch.Generator().manual_seed(seed)) < 0.5
    mask[:, 0, 0], mask[:, -1, 0] = True, False
    return mask


def test_hidden_pixels_change_no_visible_feature():
    network = tiny_net(stem=2)
    visible = some_mask(3, 4, 3)
    pixels = visible.repeat_interleave(16, 1).repeat_interleave(16, 2)[:, None]  # (B, 1, H, W)
    image, other = torch.randn(2, 3, 3, 64, 48, dtype=torch.float64).unbind(0)
    mixed = torch.where(pixels, image, 1e3 * other)
    with torch.no_grad():
        assert torch.equal(network(image, visible), network(mixed, visible))
        for before, after in zip(network.pyramid(image, visible), network.pyramid(mixed, visible), strict=True):
            assert torch.equal(before, after)
            seen = F.interpolate(visible[:, None].double(), size=before.shape[-2:]).bool()
            assert (before == 0).logical_or(seen).all() and (before != 0).any()
        assert not torch.equal(network(image), network(mixed))


def test_visible_places_are_those_of_a_sparse_convolution():
    """Place by place, over the visible neighbours only, as a library of sparse convolutions would do it."""
    block = stirred(ConvNeXtBlock(4)).double()
    visible = some_mask(2, 5, 6)
    x = torch.randn(2, 5, 6, 4, dtype=torch.float64) * visible[..., None]
    x.requires_grad_()
    expected = torch.zeros(2, 5, 6, 4, dtype=torch.float64)
    weight, bias = block.conv_dw.weight[:, 0], block.conv_dw.bias  # (4, 7, 7), (4,)
    for sample in range(2):
        places = visible[sample].nonzero().tolist()
        hidden = []
        for row, column in places:
            total = bias.clone()
            for i, j in places:
                if abs(i - row) <= 3 and abs(j - column) <= 3:
                    total = total + weight[:, i - row + 3, j - column + 3] * x[sample, i, j]
            hidden.append(F.gelu(block.mlp.fc1(block.norm(total))))
        hidden = torch.stack(hidden)  # (places, 16)
        norm = hidden.square().sum(dim=0).sqrt()
        response = norm / (norm.mean() + 1e-6)
        hidden = block.mlp.grn.weight * hidden * response + block.mlp.grn.bias + hidden
        for (row, column), mixed in zip(places, block.mlp.fc2(hidden), strict=True):
            expected[sample, row, column] = x[sample, row, column] + mixed
    given = block(x, visible[..., None])
    torch.testing.assert_close(given, expected)
    ours, theirs = (
        torch.autograd.grad(out.square().sum(), [x, *block.parameters()], retain_graph=True)
        for out in (given, expected)
    )
    for gradient, peer in zip(ours[1:], theirs[1:], strict=True):
        torch.testing.assert_close(gradient, peer)
    torch.testing.assert_close(ours[0][visible], theirs[0][visible])


def test_a_mask_that_hides_nothing_changes_nothing():
    network, image = tiny_net(), torch.randn(2, 3, 24, 16, dtype=torch.float64)
    torch.testing.assert_close(network(image, torch.ones(2, 3, 2, dtype=torch.bool)), network(image))


def test_masks_that_cannot_be_are_refused():
    network, image = tiny_net(), torch.randn(2, 3, 24, 16, dtype=torch.float64)
    nothing = torch.ones(2, 3, 2, dtype=torch.bool)
    nothing[1] = False
    with pytest.raises(ArgumentError, match="hides all of sample 1"):
        network(image, nothing)
    with pytest.raises(ArgumentError, match=r"\(2, 2, 3\).*\(2, 3, 2\)"):
        network(image, nothing.mT)
    with pytest.raises(ArgumentError, match=r"float32.*bool"):
        network(image, torch.ones(2, 3, 2))


def test_images_that_do_not_divide_are_refused():
    with pytest.raises(ArgumentError, match=r"120 x 120.*squares of 32.*stem of 1 or 3 or 5"):
        ConvNeXt(3, "atto", 4)(torch.zeros(1, 3, 120, 120))
    with pytest.raises(ArgumentError, match=r"30 x 31.*multiple$"):
        ConvNeXt(3, "atto", 1)(torch.zeros(1, 3, 30, 31))


def test_settings_that_do_not_exist_are_refused():
    with pytest.raises(ArgumentError, match=r"'huge'.*atto"):
        ConvNeXt(3, "huge")
    with pytest.raises(ArgumentError, match="stem"):
        ConvNeXt(3, "atto", 0)
    with pytest.raises(BandError, match=r"no image among.*season"):
        ConvNeXtEncoder({"season": ()})


# --------------------------------------------------------------------------------------------- in place of a ResNet


def test_every_head_reads_it():
    seed_everything(0)
    encoder = ConvNeXtEncoder({**INPUTS, "season": ()}, stem=1)
    heads = {
        "climate_zone": ClassificationHead(encoder.feature_dim, ["a", "b"]),
        "land_cover": SegmentationHead(encoder.channels, ["x", "y", "z"]),
    }
    outputs = Network(encoder, heads).eval()(make_batch())
    assert outputs["climate_zone"].shape == (2, 2) and outputs["land_cover"].shape == (2, 3, 32, 32)
    assert encoder.channels == (15, 40, 80, 160, 320) and encoder.stride == 8
    maps, features = encoder.pyramid(make_batch())
    assert [tuple(each.shape[1:]) for each in maps[1:]] == [(40, 32, 32), (80, 16, 16), (160, 8, 8), (320, 4, 4)]
    assert torch.equal(features, encoder(make_batch()))


def test_a_probe_and_a_vote_read_it():
    seed_everything(0)
    encoder = ConvNeXtEncoder(INPUTS, stem=1)
    batch = make_batch()
    samples = [{key: value[place] for key, value in batch.items()} for place in range(2)]
    features = extract_features(encoder, samples, tta=2)
    assert features.shape == (2, 320)
    networks = {
        key: Network(ConvNeXtEncoder({key: INPUTS[key]}, stem=1), {"climate_zone": ClassificationHead(320, "ab")})
        for key in INPUTS
    }
    assert DecisionFusion(networks)(batch)["climate_zone"].shape == (2, 2)


def test_missing_modalities_are_as_in_every_fusion():
    """An error, unless the encoder has learned to do without; of a sample that has nothing, the mean is read."""
    batch = make_batch()
    without = {key: value for key, value in batch.items() if key != "s1"}
    with pytest.raises(MissingModalityError, match="s1"):
        ConvNeXtEncoder(INPUTS, stem=1)(without)
    seed_everything(0)
    encoder = ConvNeXtEncoder(INPUTS, stem=1, modality_dropout=0.3).eval()
    assert encoder.channels[0] == 16
    assert encoder(without).isfinite().all()
    nothing = {**batch, "s2_available": torch.tensor([True, False]), "s1_available": torch.tensor([True, False])}
    image = encoder.read.stack(nothing)
    assert (image[1] == 0).all() and (image[0, -2:] == 1).all()
    assert encoder(nothing).isfinite().all()


def batch_of_both(size=48):
    torch.manual_seed(1)
    batch = {"s2": torch.rand(2, 12, size, size), "s1": torch.randn(2, 2, size, size) - 15}
    return {**batch, "season": torch.tensor([0.2, 0.7])}


@pytest.mark.parametrize("stage", [1, 2, 4])
def test_a_trained_network_goes_on_in_feature_fusion(stage):
    """Of one image, nothing is joined and the features are its own; what was given stays whole."""
    torch.manual_seed(0)
    encoder = ConvNeXtEncoder({"s2": ()})
    before = list(encoder.state_dict())
    fused = FeatureFusion({"s2": ()}, stage=stage, how="sum", nets={"s2": encoder.net})
    torch.testing.assert_close(fused(batch_of_both()), encoder(batch_of_both()))
    assert list(encoder.state_dict()) == before
    assert not set(map(id, fused.parameters())) & set(map(id, encoder.parameters()))
    fused(batch_of_both()).sum().backward()
    assert all(each.grad is not None for each in fused.parameters())


@pytest.mark.parametrize("how", ["concat", "sum", "gate"])
def test_two_trained_networks_are_joined(how):
    torch.manual_seed(0)
    nets = {key: ConvNeXtEncoder({key: ()}).net for key in ("s1", "s2")}
    fused = FeatureFusion({"s2": (), "s1": (), "season": ()}, how=how, nets=nets)
    maps, features = fused.pyramid(batch_of_both())
    assert features.shape == (2, fused.feature_dim) == fused(batch_of_both()).shape
    assert tuple(each.shape[1] for each in maps) == fused.channels
    for copy, own in (
        (fused.encoders["s1"].stages[0], nets["s1"].stages[0]),
        (fused.trunk[-1].stage, nets["s2"].stages[3]),
    ):
        assert torch.equal(copy.blocks[0].conv_dw.weight, own.blocks[0].conv_dw.weight)


def test_film_begins_with_a_trained_network_unmodulated():
    torch.manual_seed(0)
    for encoder in (ConvNeXtEncoder({"s2": ()}), EarlyFusion({"s2": ()}, width=0.125).eval()):
        net = encoder.net if isinstance(encoder, ConvNeXtEncoder) else encoder.resnet
        fused = FiLMFusion({"s2": (), "season": ()}, net=net).eval()
        torch.testing.assert_close(fused(batch_of_both()), encoder(batch_of_both()))


def test_networks_that_do_not_fit_a_fusion_are_refused():
    s2, s1 = ConvNeXt(12), ConvNeXt(2)
    for nets, said in (
        ({"s2": s2}, "one for each image"),
        ({"s2": s1, "s1": s2}, "read {'s2': 2, 's1': 12} channels"),
        ({"s2": s2, "s1": ConvNeXt(2, "femto")}, "after stage 2 .*80.*96.* channels"),
    ):
        with pytest.raises(BandError, match=said):
            FeatureFusion({"s2": (), "s1": ()}, nets=nets)
    with pytest.raises(BandError, match=r"2\} channels, and the images have"):
        FiLMFusion({"s2": (), "season": ()}, net=s1)

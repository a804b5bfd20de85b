import pytest
import torch
from torch import nn

from bengelib.fusion import EarlyFusion, LateFusion
from bengelib.heads import (
    ClassificationHead,
    Network,
    RegressionHead,
    SegmentationHead,
    count_multiply_adds,
    count_parameters,
    count_saved_bytes,
    hard_maps,
)
from bengelib.modalities import as_modalities
from bengelib.tasks import Regression


class Mean(nn.Module):
    """An encoder whose features are the means of the channels, so that outputs can be computed by hand."""

    inputs = {"s1": ("VV", "VH")}  # noqa: RUF012
    feature_dim = 2

    def forward(self, batch):
        return batch["s1"].mean(dim=(2, 3))


def test_classification_head_is_one_linear_layer():
    head = ClassificationHead(5, ("a", "b", "c"))
    features = torch.randn(4, 5)
    torch.testing.assert_close(head(features), features @ head.weight.T + head.bias, rtol=1e-4, atol=1e-5)
    assert head(features).shape == (4, 3) and head.classes == ("a", "b", "c")


def test_network_answers_with_a_dict_keyed_by_target():
    heads = {
        "climate_zone": ClassificationHead(2, ("a", "b", "c")),
        "land_cover_top": ClassificationHead(2, ("x", "y")),
    }
    model = Network(Mean(), heads)
    batch = {"s1": torch.randn(3, 2, 4, 4)}
    outputs = model(batch)
    assert {target: output.shape for target, output in outputs.items()} == {
        "climate_zone": (3, 3),
        "land_cover_top": (3, 2),
    }
    expected = heads["land_cover_top"](batch["s1"].mean(dim=(2, 3)))
    torch.testing.assert_close(outputs["land_cover_top"], expected, rtol=1e-4, atol=1e-5)


def test_heads_share_one_pass_of_the_encoder():
    calls = []
    encoder = Mean()
    encoder.register_forward_hook(lambda *_: calls.append(1))
    Network(encoder, {"a": ClassificationHead(2, "xy"), "b": ClassificationHead(2, "xy")})(
        {"s1": torch.zeros(1, 2, 2, 2)}
    )
    assert len(calls) == 1


def test_network_knows_what_it_reads_and_answers():
    model = Network(EarlyFusion({"s1": ("VH",), "dem": ()}, width=0.125), {"t": ClassificationHead(64, ("a", "b"))})
    assert model.inputs == as_modalities({"s1": ("VH",), "dem": ()})
    assert model.outputs == {"t": ("a", "b")}


def test_encoder_and_heads_need_not_be_ours():
    model = Network(nn.Flatten(), {"y": nn.Identity()})
    assert model.inputs == {} and model.outputs == {"y": ()}


def test_gradients_of_all_heads_reach_the_encoder():
    encoder = nn.Linear(2, 2, bias=False)
    model = Network(encoder, {"a": ClassificationHead(2, "xy"), "b": ClassificationHead(2, "xy")})
    values = torch.randn(3, 2)
    gradients = []
    for targets in (["a"], ["b"], ["a", "b"]):
        encoder.zero_grad()
        outputs = model(values)
        sum(outputs[target].square().sum() for target in targets).backward()
        gradients.append(encoder.weight.grad.clone())
    torch.testing.assert_close(gradients[0] + gradients[1], gradients[2], rtol=1e-4, atol=1e-5)


def test_parameters_are_counted_once_and_only_if_trained():
    layer = nn.Linear(4, 3)  # 15
    assert count_parameters(layer) == 15
    layer.bias.requires_grad_(False)
    assert count_parameters(layer) == 12
    assert count_parameters(nn.Sequential(layer, layer)) == 12
    assert count_parameters(nn.BatchNorm1d(7)) == 14  # running statistics are no parameters


# -------------------------------------------------------------------------------------------------- maps and quantities


def make_unet(classes=("a", "b", "c"), encoder=EarlyFusion, inputs=None):
    torch.manual_seed(0)
    encoder = encoder(inputs or {"s1": ("VV", "VH")}, width=0.125)
    heads = {
        "land_cover": SegmentationHead(encoder.channels, classes, width=4),
        "season": RegressionHead(encoder.feature_dim, 0.5, 0.3),
        "kind": ClassificationHead(encoder.feature_dim, ("x", "y")),
    }
    return Network(encoder, heads)


@pytest.mark.parametrize("size", [(32, 32), (33, 33), (50, 50), (64, 96), (120, 120), (17, 40)])
@pytest.mark.parametrize("encoder", [EarlyFusion, LateFusion])
def test_maps_come_out_as_large_as_the_image(size, encoder):
    outputs = make_unet(encoder=encoder).eval()({"s1": torch.randn(2, 2, *size) - 15})
    assert outputs["land_cover"].shape == (2, 3, *size)
    assert outputs["season"].shape == (2,) and outputs["kind"].shape == (2, 2)


def test_gradients_of_maps_reach_the_stem_and_every_layer_of_the_decoder():
    model = make_unet()
    model({"s1": torch.randn(2, 2, 33, 33) - 15})["land_cover"].square().mean().backward()
    assert model.encoder.resnet.conv1.weight.grad.abs().sum() > 0
    for name, parameter in model.heads["land_cover"].named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    assert model.heads["season"].linear.weight.grad is None


def test_every_class_and_pixel_can_be_learnt():
    """Noise with a class a pixel: it can only be told apart at full resolution."""
    model = make_unet(tuple("abcde"))
    random = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 5, (2, 16, 16), generator=random)
    image = torch.stack([labels * 4.0 - 23, labels % 2 * 5.0 - 24], dim=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-2)
    for _ in range(50):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model({"s1": image})["land_cover"], labels).backward()
        optimizer.step()
    found = hard_maps(model({"s1": image}))["land_cover"]
    assert found.unique().tolist() == [0, 1, 2, 3, 4]
    assert (found == labels).float().mean() > 0.9


def test_hard_maps_keep_the_likeliest_class_and_leave_the_rest():
    outputs = {"map": torch.randn(2, 3, 4, 5), "kind": torch.randn(2, 3), "season": torch.randn(2)}
    hard = hard_maps(outputs)
    assert hard["map"].dtype == torch.uint8 and torch.equal(hard["map"].long(), outputs["map"].argmax(dim=1))
    assert hard["kind"] is outputs["kind"] and hard["season"] is outputs["season"]


def test_a_pyramid_is_asked_of_encoders_that_have_one():
    with pytest.raises(ValueError, match=r"the heads of \['map'\] read a pyramid of maps, which Mean does not give"):
        Network(Mean(), {"map": SegmentationHead((2, 4), ("a", "b"))})
    with pytest.raises(ValueError, match="two maps or more"):
        SegmentationHead((2,), ("a", "b"))


def test_regression_head_starts_at_the_mean_and_speaks_the_unit():
    head = RegressionHead(4, 285.0, 10.0)
    features = torch.randn(3, 4)
    wanted = 285 + 10 * (features @ head.linear.weight[0] + head.linear.bias)
    torch.testing.assert_close(head(features), wanted, rtol=1e-4, atol=1e-5)
    assert {"mean", "scale"} <= set(head.state_dict())  # they travel with the weights


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
def test_a_scale_that_is_none_is_refused(scale):
    with pytest.raises(ValueError, match=r"scale=.* above 0"):
        RegressionHead(4, 0.0, scale)


def test_the_unit_changes_neither_loss_nor_gradient():
    features, labels = torch.randn(6, 4), torch.rand(6)
    found = []
    for unit in (1.0, 1000.0):  # as from kilometres to metres
        torch.manual_seed(0)
        head = RegressionHead(4, 0.4 * unit, 0.3 * unit)
        loss = Regression("y", 0.3 * unit).loss({"y": head(features)}, {"y": labels * unit})
        loss.backward()
        found.append((loss.detach(), head.linear.weight.grad))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------------------------------------------- figures


class Small(nn.Module):
    """A convolution and a linear layer, to count by hand."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(2, 5, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(5)
        self.linear = nn.Linear(5, 7)

    def forward(self, batch):
        return {"y": self.linear(self.norm(self.convolution(batch["s1"])).relu().mean(dim=(2, 3)))}


def test_multiply_adds_by_hand():
    model = Small()
    before = model.norm.running_mean.clone()
    # 3 patches x (8 x 10 outputs x 5 channels x 2 x 3 x 3  +  5 x 7)
    assert count_multiply_adds(model, {"s1": torch.randn(3, 2, 16, 20)}) == 3 * (8 * 10 * 5 * 18 + 35)
    assert model.training and torch.equal(model.norm.running_mean, before)  # counting leaves no trace


def test_one_encoder_for_three_heads_costs_less_than_three():
    model = make_unet()
    batch = {"s1": torch.randn(2, 2, 32, 32)}
    alone = [count_multiply_adds(Network(model.encoder, {key: head}), batch) for key, head in model.heads.items()]
    assert max(alone) < count_multiply_adds(model, batch) < sum(alone)


def test_saved_bytes_grow_with_the_batch():
    model = make_unet()
    sizes = [count_saved_bytes(model, {"s1": torch.randn(count, 2, 32, 32)}) for count in (2, 4, 8)]
    assert 0 < sizes[0] < sizes[1] < sizes[2]
    assert sizes[2] - sizes[1] == pytest.approx(2 * (sizes[1] - sizes[0]), rel=0.05)


def test_saved_bytes_by_hand():
    linear = nn.Linear(3, 2)

    class Net(nn.Module):
        def forward(self, batch):
            return {"y": linear(batch["s1"]).tanh()}

    # tanh keeps its result, 4 x 2 float32, and the linear layer its input, 4 x 3
    assert count_saved_bytes(Net(), {"s1": torch.randn(4, 3)}) >= 4 * (4 * 2 + 4 * 3)

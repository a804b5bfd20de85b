import torch
from torch import nn

from bengelib.fusion import EarlyFusion
from bengelib.heads import ClassificationHead, Network, count_parameters


class Mean(nn.Module):
    """An encoder whose features are the means of the channels, so that outputs can be computed by hand."""

    inputs = {"s1": ("VV", "VH")}  # noqa: RUF012
    feature_dim = 2

    def forward(self, batch):
        return batch["s1"].mean(dim=(2, 3))


def test_classification_head_is_one_linear_layer():
    head = ClassificationHead(5, ("a", "b", "c"))
    features = torch.randn(4, 5)
    torch.testing.assert_close(head(features), features @ head.weight.T + head.bias)
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
    torch.testing.assert_close(outputs["land_cover_top"], heads["land_cover_top"](batch["s1"].mean(dim=(2, 3))))


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
    assert model.inputs == {"s1": ("VH",), "dem": ()}
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
    torch.testing.assert_close(gradients[0] + gradients[1], gradients[2])


def test_parameters_are_counted_once_and_only_if_trained():
    layer = nn.Linear(4, 3)  # 15
    assert count_parameters(layer) == 15
    layer.bias.requires_grad_(False)
    assert count_parameters(layer) == 12
    assert count_parameters(nn.Sequential(layer, layer)) == 12
    assert count_parameters(nn.BatchNorm1d(7)) == 14  # running statistics are no parameters

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from bengelib.engine import Trainer
from bengelib.errors import ArgumentError
from bengelib.gradient_cache import in_parts, split
from bengelib.ssl import Contrast
from bengelib.weighting import EqualWeights, PCGrad


class Embedder(nn.Module):
    """Two embeddings of points in 64 bits, with dropout and without BatchNorm; it notes how many it takes at a time."""

    def __init__(self, dropout=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, 8)).double()
        self.heads = nn.ModuleDict({"first": nn.Linear(8, 8).double(), "second": nn.Linear(8, 8).double()})
        self.seen = []

    def forward(self, batch):
        self.seen.append(len(batch["patch_id"]))
        assert len(batch["view_1"]["x"]) == len(batch["patch_id"])
        features = self.encoder(batch["view_1"]["x"])
        outputs = {name: head(features) for name, head in self.heads.items()}
        return {
            "view_1": outputs["first"],
            "view_2": self.encoder(batch["x"].double()),
            "features": features,
            **outputs,
        }


class Points(torch.utils.data.Dataset):
    def __init__(self, count=22):
        self.x = torch.randn(count, 4, generator=torch.Generator().manual_seed(0))

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return {"x": self.x[index], "patch_id": f"point {index}"}


class Against(Contrast):
    """The embedding of one head against the other way round, so that two tasks pull differently."""

    def loss(self, outputs, batch):
        sign = -1 if self.target == "second" else 1
        return super().loss({"view_1": outputs[self.target], "view_2": sign * outputs["view_2"]}, batch)


def add_view(batch, generator):
    noise = torch.randn(batch["x"].shape, generator=generator)
    return {**batch, "view_1": {"x": (batch["x"] + 0.1 * noise).double()}}


def gradients(model, tasks, weighting=None, **settings):
    found = []
    hook = register_optimizer_step_pre_hook(
        lambda optimizer, *_: found.extend(
            each.grad.clone() for each in optimizer.param_groups[0]["params"] if each.grad is not None
        )
    )
    try:
        history = Trainer(precision="no", progress=False, **settings).fit(
            model, tasks, Points(), epochs=2, batch_size=11, augment=add_view, weighting=weighting
        )
    finally:
        hook.remove()
    return found, [row["train/loss"] for row in history.rows]


@pytest.mark.parametrize("method", ["simclr", "cross-modal", "barlow", "vicreg"])
def test_loss_and_gradient_in_parts_are_those_of_one_go(method):
    whole, losses = gradients(Embedder(), [Contrast(method)])
    model = Embedder()
    cut, losses_cut = gradients(model, [Contrast(method)], micro_batch=4)
    assert losses == pytest.approx(losses_cut, rel=1e-12)
    torch.testing.assert_close(cut, whole, rtol=1e-10, atol=1e-12)
    assert model.seen == 4 * [3, 4, 4, 4, 4, 3]  # forward, and again from the last to the first


def test_several_tasks_in_parts_weigh_as_in_one_go():
    tasks = [Against(target=target) for target in ("first", "second")]
    whole, losses = gradients(Embedder(), tasks, PCGrad(["first", "second"]))
    cut, losses_cut = gradients(Embedder(), tasks, PCGrad(["first", "second"]), micro_batch=4)
    assert losses == pytest.approx(losses_cut, rel=1e-12)
    torch.testing.assert_close(cut, whole, rtol=1e-6, atol=1e-8)  # dot products are of 32 bits
    plain, _ = gradients(Embedder(), tasks, EqualWeights(["first", "second"]))
    assert not torch.allclose(plain[0], whole[0], rtol=1e-3)  # there was a conflict


def test_random_numbers_are_the_same_when_a_part_is_repeated():
    """Otherwise the gradient would be of another function than the loss; here it is compared with differences."""
    model, batch = Embedder(dropout=0.5), add_view(Points()[:11], torch.Generator().manual_seed(0))
    batch["patch_id"] = [""] * 11
    weight = model.encoder[3].weight

    def loss():
        torch.manual_seed(3)
        return Contrast().loss(model(batch), batch)

    with in_parts(model, 4):
        loss().backward()
        with torch.no_grad():
            weight[2, 3] += 1e-6
    with torch.enable_grad(), in_parts(model, 4):
        above = float(loss().detach())
        with torch.no_grad():
            weight[2, 3] -= 2e-6
        slope = (above - float(loss().detach())) / 2e-6
    assert float(weight.grad[2, 3]) == pytest.approx(slope, rel=1e-5)


def test_running_statistics_count_each_part_once():
    norm = nn.BatchNorm1d(4)

    class Normed(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = norm

        def forward(self, batch):
            return {"y": self.norm(batch["x"])}

    model, x = Normed(), torch.randn(8, 4)
    with in_parts(model, 4):
        model({"x": x})["y"].square().sum().backward()
    expected = nn.BatchNorm1d(4)
    expected(x[:4]), expected(x[4:])
    torch.testing.assert_close(norm.running_mean, expected.running_mean)
    assert int(norm.num_batches_tracked) == 2


def test_validation_takes_whole_batches():
    model = Embedder().eval()
    with in_parts(model, 4):
        model(add_view({"x": torch.ones(11, 4), "patch_id": [""] * 11}, torch.Generator()))
    assert model.seen == [11] and "forward" not in vars(model)


class Queued(Embedder):
    def __init__(self):
        super().__init__()
        self.register_buffer("keys", torch.zeros(8))

    def forward(self, batch):
        outputs = super().forward(batch)
        self.keys.copy_(outputs["view_1"][0].detach())
        return outputs


class Mean(Embedder):
    def forward(self, batch):
        return {**super().forward(batch), "mean": batch["x"].mean()}


@pytest.mark.parametrize(("model", "words"), [(Queued, "changes 'keys'"), (Mean, "'mean' of shape")])
def test_models_that_are_not_a_sum_of_parts_are_refused(model, words):
    with pytest.raises(ArgumentError, match=words):
        gradients(model(), [Contrast()], micro_batch=4)


@pytest.mark.parametrize("value", [0, 2.5, "4"])
def test_what_is_no_number_of_samples_is_refused(value):
    with pytest.raises(ArgumentError, match="micro_batch"):
        Trainer(micro_batch=value)


def test_parts_are_equal_but_for_one_and_keep_what_is_common():
    batch = {"x": torch.arange(7), "patch_id": list("abcdefg"), "view": {"x": torch.arange(7)}, "name": "common"}
    parts = split(batch, 7, 3)
    assert [len(part["x"]) for part in parts] == [2, 2, 3]
    assert [name for part in parts for name in part["patch_id"]] == list("abcdefg")
    assert all(torch.equal(part["view"]["x"], part["x"]) and part["name"] == "common" for part in parts)

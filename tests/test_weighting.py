"""Each weighting against the equations of its paper, on cases worked by hand, and on the path that `fit` takes."""

import copy
import io
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from bengelib import engine
from bengelib.errors import BandError, MissingModalityError, NonFiniteLossError
from bengelib.heads import ClassificationHead, Network, RegressionHead
from bengelib.tasks import Classification, Regression
from bengelib.weighting import (
    DynamicWeightAverage,
    EqualWeights,
    FixedWeights,
    GradNorm,
    PCGrad,
    UncertaintyWeights,
    cosines,
    gradient_products,
    project_conflicts,
    shared_parameters,
)
from tests.training import fit_with


def losses(**values):
    return {name: torch.tensor(float(value), requires_grad=True) for name, value in values.items()}


def products(*gradients):
    stacked = torch.tensor(gradients)
    return stacked @ stacked.T


class Points(Dataset):
    """Points in the plane with two quantities that pull against each other, and a class; some labels may be hidden."""

    def __init__(self, count=16, hidden=()):
        random = torch.Generator().manual_seed(0)
        self.points = torch.randn(count, 2, generator=random)
        self.labels = {"up": self.points[:, 0] + 0.3 * self.points[:, 1], "down": 0.5 - self.points[:, 0]}
        self.labels["side"] = (self.points[:, 1] > 0).long()
        for target in hidden:
            unknown = 255 if target == "side" else math.nan
            self.labels[target] = torch.full_like(self.labels[target], unknown)

    def __len__(self):
        return len(self.points)

    def __getitem__(self, index):
        return {"point": self.points[index]} | {target: values[index] for target, values in self.labels.items()}


class Encoder(nn.Module):
    """Two linear layers."""

    feature_dim = 3

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(2, 4), nn.Linear(4, 3)

    def forward(self, batch):
        return torch.tanh(self.second(torch.tanh(self.first(batch["point"]))))


TASKS = (Regression("up", 1.0), Regression("down", 2.0))
THREE = (*TASKS, Classification("side", ("left", "right")))


def make_model(seed=0):
    torch.manual_seed(seed)
    heads = {"up": RegressionHead(3, 0.0, 1.0), "down": RegressionHead(3, 0.5, 2.0)}
    heads["side"] = ClassificationHead(3, ("left", "right"))
    with torch.no_grad():
        heads["down"].linear.weight.copy_(heads["up"].linear.weight)  # so that the two tasks conflict
    return Network(Encoder(), heads)


def quick_fit(model, weighting, tasks=TASKS, data=None, **options):
    options = {"epochs": 1, "batch_size": 16, "lr": 1e-3, "precision": "no", "progress": False} | options
    return fit_with(model, tasks, Points() if data is None else data, weighting=weighting, **options)


def weightings(targets, window=2):
    return [
        EqualWeights(targets),
        FixedWeights(dict.fromkeys(targets, 2.0)),
        UncertaintyWeights(targets, rate=10.0),
        DynamicWeightAverage(targets, window=window),
        PCGrad(targets),
        GradNorm(targets),
    ]


# ------------------------------------------------------------------------------------------------- the papers, by hand


def test_equal_and_fixed_weights():
    assert EqualWeights(["a", "b"])(losses(a=2, b=3)).item() == 5
    fixed = FixedWeights({"a": 0.5, "b": 2})
    given = losses(b=3, a=2)  # by name, not by place
    total = fixed(given)
    total.backward()
    assert total.item() == 0.5 * 2 + 2 * 3
    assert (float(given["a"].grad), float(given["b"].grad)) == (0.5, 2)
    assert fixed.weights == {"a": 0.5, "b": 2}


def test_uncertainty_is_equation_7_and_10():
    weighting = UncertaintyWeights(["a", "b"], squared=["b"])
    with torch.no_grad():
        weighting.log_variance.copy_(torch.tensor([0.0, math.log(2)]))
    total = weighting(losses(a=2, b=3))
    # a: 1 exp(0) 2 + 0 / 2 = 2;   b: 1/2 exp(-log 2) 3 + log(2) / 2 = 0.75 + 0.3466
    assert total.item() == pytest.approx(2 + 0.75 + math.log(2) / 2)
    assert weighting.weights == pytest.approx({"a": 1, "b": 0.25})
    total.backward()
    # d/ds = -c exp(-s) L + 1/2: a: -2 + 0.5, b: -0.75 + 0.5
    assert weighting.log_variance.grad.tolist() == pytest.approx([-1.5, -0.25])


def test_uncertainty_is_least_where_the_variance_is_twice_the_weighted_loss():
    weighting = UncertaintyWeights(["a", "b"], squared=["b"])
    with torch.no_grad():
        weighting.log_variance.copy_(torch.tensor([2 * 1.0 * 2, 2 * 0.5 * 3]).log())  # exp(s) = 2 c L
    weighting(losses(a=2, b=3)).backward()
    assert weighting.log_variance.grad.tolist() == pytest.approx([0, 0], abs=1e-6)


class Constant:
    """A task whose loss stays what it is."""

    def __init__(self, target, value):
        self.target, self.value = target, value

    def loss(self, outputs, batch):
        return outputs[self.target].sum() * 0 + self.value


def test_fit_trains_the_noises_to_their_optimum():
    weighting = UncertaintyWeights(["up", "down"], squared=["down"], rate=50.0)
    tasks = [Constant("up", 2.0), Constant("down", 0.2)]
    history = quick_fit(make_model(), weighting, tasks, epochs=200)
    assert weighting.log_variance.exp().tolist() == pytest.approx([4.0, 0.2], rel=0.03)  # 2 c L, with c of 1 and 1/2
    assert history.rows[-1]["weight/up"] == pytest.approx(1 / 4, rel=0.03)
    assert history.rows[-1]["weight/down"] == pytest.approx(0.5 / 0.2, rel=0.03)


def test_dynamic_weight_average_over_two_windows():
    weighting = DynamicWeightAverage(["a", "b"], window=2, temperature=2.0)
    for a in (4, 2, 1, 2):
        weighting(losses(a=a, b=1))
        assert weighting.weights == {"a": 1, "b": 1}
    total = weighting(losses(a=3, b=1))
    # means 3 then 1.5 of a, 1 and 1 of b: r = (0.5, 1); 2 softmax(0.25, 0.5) = 2 / (1 + e^0.25), 2 / (1 + e^-0.25)
    wanted = {"a": 2 / (1 + math.exp(0.25)), "b": 2 / (1 + math.exp(-0.25))}
    assert wanted["a"] == pytest.approx(0.87565, abs=1e-5)
    assert weighting.weights == pytest.approx(wanted)
    assert total.item() == pytest.approx(3 * wanted["a"] + wanted["b"])
    assert sum(weighting.weights.values()) == pytest.approx(2)


def test_dynamic_weight_average_leaves_out_batches_without_labels():
    weighting = DynamicWeightAverage(["a", "b"], window=2)
    for a, b in ((4, 1), (0, 1), (2, 0), (2, 1)):
        weighting(losses(a=a, b=b))
    weighting(losses(a=1, b=1))
    assert weighting.weights["a"] == pytest.approx(2 / (1 + math.exp(0.25)))  # means 4 then 2; 1 and 1


def test_pcgrad_on_two_conflicting_gradients():
    first, second = [1.0, 0.0], [-1.0, 1.0]
    # g1 . g2 = -1.  g1' = g1 + 1/2 g2 = (0.5, 0.5);  g2' = g2 + 1/1 g1 = (0, 1);  sum (0.5, 1.5) = 2 g1 + 1.5 g2
    weights = project_conflicts(products(first, second))
    assert weights.tolist() == [2, 1.5]
    assert (weights @ torch.tensor([first, second])).tolist() == [0.5, 1.5]
    weighting = PCGrad(["a", "b"])
    assert weighting(losses(a=10, b=100), products(first, second)).item() == 2 * 10 + 1.5 * 100


def test_pcgrad_on_three_gradients_in_a_given_order():
    gradients = [[1.0, 0.0], [-1.0, 1.0], [0.0, -1.0]]
    # Task 1 meets 2: (0.5, 0.5), 1 g1 + 0.5 g2; then 3, -0.5 along it: (0.5, 0), 1 g1 + 0.5 g2 + 0.5 g3.
    # Task 2 meets 3: (-1, 0), g2 + g3; then 1: (0, 0), g1 + g2 + g3.
    # Task 3 meets 1, no conflict; then 2: (-0.5, -0.5), 0.5 g2 + g3.
    weights = project_conflicts(products(*gradients), orders=[[1, 2, 0], [2, 0, 1], [0, 1, 2]])
    assert weights.tolist() == [2, 2, 2.5]
    assert (weights @ torch.tensor(gradients)).tolist() == [0, -0.5]
    # Task 1 meets 3 first, with which it does not conflict yet: it keeps 1 g1 + 0.5 g2.
    weights = project_conflicts(products(*gradients), orders=[[2, 1, 0], [2, 0, 1], [0, 1, 2]])
    assert weights.tolist() == [2, 2, 2]


def test_pcgrad_leaves_what_does_not_conflict():
    assert project_conflicts(products([1.0, 0.0], [1.0, 1.0], [0.0, 2.0])).tolist() == [1, 1, 1]


def test_pcgrad_with_a_gradient_of_zero():
    assert project_conflicts(products([1.0, 0.0], [0.0, 0.0], [-1.0, 0.0])).tolist() == [2, 1, 2]


def explicit_projection(vectors):
    """Algorithm 1 on the gradients themselves."""
    total = torch.zeros_like(vectors[0])
    for place, vector in enumerate(vectors):
        projected = vector.clone()
        for other in vectors[:place] + vectors[place + 1 :]:
            if projected @ other < 0:
                projected -= projected @ other / (other @ other) * other
        total += projected
    return total


def test_pcgrad_in_fit_is_projection_of_the_gradients_and_heads_follow_their_own_loss(monkeypatch):
    model = make_model()
    before, found = copy.deepcopy(model), {}
    real = engine._own_gradients

    def spy(model, weighting):
        real(model, weighting)
        found.update({name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None})

    monkeypatch.setattr(engine, "_own_gradients", spy)
    weighting = PCGrad(["up", "down"])
    quick_fit(model, weighting)
    assert min(weighting.weights.values()) > 1.01  # there was a conflict

    data = Points()
    batch = {"point": data.points} | data.labels
    outputs = before(batch)
    plain = [task.loss(outputs, batch) for task in TASKS]
    shared = dict(before.encoder.named_parameters())
    vectors = [
        torch.cat([each.flatten() for each in torch.autograd.grad(loss, list(shared.values()), retain_graph=True)])
        for loss in plain
    ]
    assert vectors[0] @ vectors[1] < 0
    given = torch.cat([found[f"encoder.{name}"].flatten() for name in shared])
    torch.testing.assert_close(given, explicit_projection(vectors), rtol=1e-4, atol=1e-6)
    for task, loss in zip(TASKS, plain, strict=True):
        head = dict(before.heads[task.target].named_parameters())
        own = torch.autograd.grad(loss, list(head.values()), retain_graph=True)
        for name, gradient in zip(head, own, strict=True):
            torch.testing.assert_close(found[f"heads.{task.target}.{name}"], gradient, rtol=1e-4, atol=1e-6)


def test_gradnorm_by_hand():
    weighting = GradNorm(["a", "b"], alpha=1.0, lr=0.1)
    norms = products([3.0, 0.0], [0.0, 1.0])
    assert weighting(losses(a=2, b=1), norms).item() == 3  # weights of 1 first
    # G = (3, 1), mean 2, r = (1, 1): wanted (2, 2), signs (+, -); w = (1 - 0.3, 1 + 0.1) = (0.7, 1.1), sum 1.8
    weighting(losses(a=1, b=1), norms)
    assert weighting.weights == pytest.approx({"a": 7 / 9, "b": 11 / 9})
    # L / L(0) = (0.5, 1), r = (2/3, 4/3); G = (7/3, 11/9), mean 16/9: wanted (32/27, 64/27), signs (+, -);
    # w = (7/9 - 0.3, 11/9 + 0.1), sum 1.8
    weighting(losses(a=1, b=1), norms)
    assert weighting.weights == pytest.approx({"a": (7 / 9 - 0.3) / 0.9, "b": (11 / 9 + 0.1) / 0.9})
    assert sum(weighting.weights.values()) == pytest.approx(2)


def test_gradnorm_gives_more_to_the_task_that_lags():
    weighting = GradNorm(["slow", "fast", "other"])
    for step in range(30):
        weighting(losses(slow=1.0, fast=0.9**step, other=0.95**step), torch.eye(3))
        assert sum(weighting.weights.values()) == pytest.approx(3, rel=1e-5)
    assert weighting.weights["slow"] > 1 > weighting.weights["fast"]


def test_gradnorm_does_not_move_on_a_batch_without_labels():
    weighting = GradNorm(["a", "b"])
    for _ in range(3):
        weighting(losses(a=1, b=0), products([3.0, 0.0], [0.0, 0.0]))
    assert weighting.weights == {"a": 1, "b": 1}


def test_gradnorm_weights_stay_above_zero():
    weighting = GradNorm(["a", "b"], lr=10.0)
    for _ in range(5):
        weighting(losses(a=1, b=1), products([30.0, 0.0], [0.0, 1.0]))
    assert min(weighting.weights.values()) > 0


# ---------------------------------------------------------------------------------------------------------- gradients


def test_products_and_cosines_are_those_of_the_gradients_and_the_graph_stays():
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    used, only_first, unused = (nn.Parameter(torch.ones(shape)) for shape in ((3, 2), (2,), (4,)))
    hidden = torch.tanh(x @ used)
    given = {"a": (hidden + only_first).square().mean(), "b": (hidden - 1).square().sum()}
    parameters = [used, only_first, unused]
    found = gradient_products(given, parameters)
    again = gradient_products(given, parameters)  # the graph is still there
    assert all(each.grad is None for each in parameters)
    a, b = (torch.cat([torch.autograd.grad(each, used, retain_graph=True)[0].flatten()]) for each in given.values())
    (second,) = torch.autograd.grad(given["a"], only_first, retain_graph=True)
    wanted = torch.stack([torch.stack([a @ a + second @ second, a @ b]), torch.stack([a @ b, b @ b])])
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found, again, rtol=1e-4, atol=1e-6)
    cosine = float(a @ b / ((a @ a + second @ second) * (b @ b)).sqrt())
    assert cosines(found, ["a", "b"]) == pytest.approx({"a ~ b": cosine}, rel=1e-4)
    sum(given.values()).backward()


def test_cosines_of_every_pair():
    found = cosines(products([1.0, 0.0], [-2.0, 0.0], [0.0, 3.0]), ["a", "b", "c"])
    assert found == pytest.approx({"a ~ b": -1, "a ~ c": 0, "b ~ c": 0})
    assert math.isnan(cosines(products([1.0, 0.0], [0.0, 0.0]), ["a", "b"])["a ~ b"])


def test_last_shared_layer():
    model = make_model()
    assert [id(each) for each in shared_parameters(model, "last")] == [id(model.encoder.second.weight)]
    model.encoder.second.requires_grad_(False)
    assert len(shared_parameters(model)) == 2
    with pytest.raises(ValueError, match="'encoder' or 'last'"):
        shared_parameters(model, "first")
    with pytest.raises(ValueError, match="Linear has no encoder"):
        shared_parameters(nn.Linear(1, 1))


@pytest.mark.parametrize("progress", [False, True])
def test_fit_records_cosines_weights_and_losses(progress):
    history = quick_fit(make_model(), None, THREE, batch_size=4, epochs=2, gradient_every=3, progress=progress)
    assert [row["step"] for row in history.gradients] == [0, 3, 6]
    for row in history.gradients:
        assert set(row) == {"step", "up ~ down", "up ~ side", "down ~ side"}
        assert all(-1.0001 <= value <= 1.0001 for name, value in row.items() if name != "step")
    assert history.gradients[0]["up ~ down"] < 0
    for row in history.rows:
        assert row["weight/up"] == row["weight/down"] == row["weight/side"] == 1
        parts = [row[f"train/{target}/loss"] for target in ("up", "down", "side")]
        assert row["train/loss"] == pytest.approx(sum(parts), rel=1e-5)


# ---------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("place", range(6))
def test_a_task_without_any_label_is_passed_over(place):
    weighting = weightings(["up", "down", "side"])[place]
    model = make_model()
    head = copy.deepcopy(model.heads["side"])
    history = quick_fit(
        model, weighting, THREE, Points(hidden=["side"]), batch_size=4, epochs=8, weight_decay=0.0, gradient_every=1
    )
    assert all(row["train/side/loss"] == 0 and math.isfinite(row["train/loss"]) for row in history.rows)
    assert all(torch.isfinite(each).all() for each in model.parameters())
    assert torch.equal(model.heads["side"].weight, head.weight)
    assert history.rows[-1]["train/up/loss"] < history.rows[0]["train/up/loss"]  # training goes on
    assert all(math.isnan(row["up ~ side"]) for row in history.gradients)
    if isinstance(weighting, UncertaintyWeights):
        assert weighting.log_variance[2] == 0 and weighting.log_variance[0] != 0
    if isinstance(weighting, PCGrad | GradNorm):
        assert weighting.weights["side"] == 1


@pytest.mark.parametrize("weight", [-1.0, 0.0, math.nan, math.inf])
def test_a_weight_that_is_no_weight_is_named(weight):
    with pytest.raises(ValueError, match=rf"weight of 'b'={weight}; expected a number above 0"):
        FixedWeights({"a": 1.0, "b": weight})
    with pytest.raises(NonFiniteLossError, match=rf"EqualWeights arrived at weights {{'b': {weight}}}"):
        EqualWeights(["a", "b"]).combine(losses(a=1, b=1), [1.0, weight])


def test_a_noise_that_explodes_is_named():
    weighting = UncertaintyWeights(["a", "b"])
    with torch.no_grad():
        weighting.log_variance[1] = -200.0
    with pytest.raises(NonFiniteLossError, match=r"UncertaintyWeights arrived at weights {'b': inf}"):
        weighting(losses(a=1, b=1))


@pytest.mark.parametrize("place", range(6))
def test_losses_of_other_targets_are_refused(place):
    with pytest.raises(ValueError, match=r"the losses are of \['a', 'c'\], the weighting is for \['a', 'b'\]"):
        weightings(["a", "b"])[place](losses(a=1, c=1), torch.eye(2))


def test_fit_refuses_a_weighting_for_other_targets():
    with pytest.raises(ValueError, match=r"the weighting is for \('up', 'left'\), the tasks are \['up', 'down'\]"):
        quick_fit(make_model(), EqualWeights(["up", "left"]))


@pytest.mark.parametrize("options", [{"weighting": PCGrad(["up", "down"])}, {"weighting": None, "gradient_every": 1}])
def test_gradients_need_an_encoder(options):
    class Alone(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(2, 2)

        def forward(self, batch):
            return dict(zip(("up", "down"), self.linear(batch["point"]).T, strict=True))

    with pytest.raises(ValueError, match="Alone has no encoder"):
        quick_fit(Alone(), **options)
    quick_fit(Alone(), None)  # without comparing gradients any model will do


def test_a_target_that_the_batch_lacks_is_named():
    data = Points()
    del data.labels["down"]
    with pytest.raises(MissingModalityError, match="the batch lack 'down'"):
        quick_fit(make_model(), None, data=data)


def test_a_class_outside_the_legend_is_named_in_training():
    data = Points()
    data.labels["side"][3] = 2
    with pytest.raises(BandError, match="label 2 of 'side' is outside its 2 classes"):
        quick_fit(make_model(), None, THREE, data)


@pytest.mark.parametrize("weighting", [PCGrad, GradNorm])
@pytest.mark.parametrize("given", [None, torch.eye(3)])
def test_products_must_be_those_of_the_targets(weighting, given):
    with pytest.raises(ValueError, match=r"needs the dot products of the gradients, \(2, 2\)"):
        weighting(["a", "b"])(losses(a=1, b=1), given)


@pytest.mark.parametrize(
    "build",
    [
        lambda: EqualWeights([]),
        lambda: EqualWeights(["a", "a"]),
        lambda: FixedWeights({}),
        lambda: UncertaintyWeights(["a"], squared=["b"]),
        lambda: UncertaintyWeights(["a"], rate=0),
        lambda: DynamicWeightAverage(["a"], window=0),
        lambda: DynamicWeightAverage(["a"], window=1, temperature=0),
        lambda: GradNorm(["a"], alpha=-1),
        lambda: GradNorm(["a"], lr=0),
        lambda: GradNorm(["a"], floor=0),
    ],
)
def test_arguments_that_cannot_be_are_refused(build):
    with pytest.raises(ValueError):
        build()


def test_every_weighting_trains_three_tasks_and_says_its_weights():
    for weighting in weightings(["up", "down", "side"]):
        history = quick_fit(make_model(), weighting, THREE, batch_size=4, epochs=6, lr=1e-2)
        assert history.rows[-1]["train/up/loss"] < history.rows[0]["train/up/loss"]
        assert all(np.isfinite(history.rows[-1][f"weight/{target}"]) for target in weighting.targets)


@pytest.mark.parametrize(
    "make",
    [
        lambda: EqualWeights("abc"),
        lambda: UncertaintyWeights("abc"),
        lambda: DynamicWeightAverage("abc", window=2),
        lambda: PCGrad("abc"),
        lambda: GradNorm("abc"),
    ],
)
def test_a_weighting_goes_on_from_its_state(make):
    """Also from the middle of a window, from a file, and with the same random orders."""
    conflicts = products([1.0, 0.0], [-1.0, 0.5], [-0.5, -2.0])
    random = torch.Generator().manual_seed(0)
    steps = [{name: torch.rand((), generator=random) for name in "abc"} for _ in range(9)]
    one, other = make(), make()
    for step in steps[:5]:
        one(step, conflicts)
    file = io.BytesIO()
    torch.save(one.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert other.weights == one.weights
    for step in steps[5:]:
        assert one(step, conflicts) == other(step, conflicts)
        assert one.weights == other.weights

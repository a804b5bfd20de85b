import math
from itertools import product

import pytest
import torch
from torch.nn import functional as F

from bengelib.errors import ArgumentError, MissingModalityError
from bengelib.losses import cosines
from bengelib.methods.pairs import Pairs
from bengelib.methods.seco import KEYS, SeCo, SeCoViews, crop_only, seco
from bengelib.ssl import Contrast
from bengelib.views import Views
from tests.methods.points import Points, encoder, noisy, train
from tests.methods.test_byol import cosine

QUEUE = 12


def views_of(count, seed=0):
    """Four views of points."""
    generator = torch.Generator().manual_seed(seed)
    points = Points()[:count]
    return {**points, **{key: noisy(points, generator) for key in ("view_1", *KEYS)}}


def naive(queries, keys, queues, temperature):
    """One space and one query at a time: the key of the space, then the queue and the batch's keys of other kinds.

    `queries` are (sample, space, dimension), `keys` (sample, kind, space, dimension), `queues` (space, key, dimension).
    """
    total = 0.0
    for space in range(3):
        for sample, query in enumerate(queries[:, space]):
            own = torch.exp(cosine(query, keys[sample, space, space]) / temperature)
            others = [*queues[space]]
            if space > 0:
                others += [key for kind in range(3) if kind != space for key in keys[:, kind, space]]
            rest = sum(torch.exp(cosine(query, other) / temperature) for other in others)
            total = total - torch.log(own / (own + rest)) / len(queries)
    return total


@pytest.mark.parametrize(("count", "length", "temperature"), list(product((2, 5, 9), (3, 8), (0.07, 0.2))))
def test_the_loss_and_its_gradient_are_those_of_a_naive_loop(count, length, temperature):
    model = SeCo(encoder(), length, queue=QUEUE).double().train()
    for projector in model.projector:  # no longer what the target has
        torch.nn.init.normal_(projector[2].weight, generator=torch.Generator().manual_seed(2))
    batch = {key: {name: value.double() for name, value in view.items()}
             for key, view in views_of(count).items() if isinstance(view, dict)}  # fmt: skip
    queues = torch.stack([queue.keys.clone() for queue in model.queues])
    weight = model.projector[0][0].weight, model.projector[2][2].weight
    loss = seco(model(batch), temperature)
    gradients = torch.autograd.grad(loss, weight)

    queries = model.projector(model.encoder(batch["view_1"]))
    keys = torch.stack([model.target(batch[key]) for key in KEYS], dim=1)
    expected = naive(queries, keys, queues, temperature)
    torch.testing.assert_close(loss.detach(), expected.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradients, torch.autograd.grad(expected, weight), rtol=1e-5, atol=1e-5)


def test_each_space_has_its_own_queue():
    model = SeCo(encoder(), 8, queue=QUEUE).train()
    first = torch.stack([queue.keys.clone() for queue in model.queues])
    outputs = model(views_of(4))
    assert {name: tuple(value.shape) for name, value in outputs.items()} == {
        "view_1": (4, 8), "view_2": (4, 8), "queries": (4, 3, 8), "keys": (4, 3, 3, 8), "to_queue": (4, 3, QUEUE),
        "features": (4, 32),
    }  # fmt: skip
    model.after_step(outputs, 0, 10)
    for space, queue in enumerate(model.queues):
        torch.testing.assert_close(outputs["to_queue"][:, space], cosines(outputs["queries"][:, space], first[space]))
        torch.testing.assert_close(queue.keys[:4], F.normalize(outputs["keys"][:, space, space], dim=1))
        torch.testing.assert_close(queue.keys[4:], first[space, 4:])


def test_the_loss_of_a_collapse():
    """log(1 + K) + 2 log(1 + K + 2 B)."""
    model = SeCo(encoder(), 8, queue=QUEUE)
    for projector in [*model.projector, *model.target.network[1]]:  # whatever comes in, the same goes out
        torch.nn.init.zeros_(projector[2].weight)
        torch.nn.init.ones_(projector[2].bias)
    for queue in model.queues:
        queue.keys.fill_(8**-0.5)
    expected = math.log(1 + QUEUE) + 2 * math.log(1 + QUEUE + 2 * 5)
    assert float(seco(model(views_of(5))).detach()) == pytest.approx(expected, rel=1e-5)
    paper = {"queries": (256, 3, 2), "keys": (256, 3, 3, 2), "to_queue": (256, 3, 16384)}
    collapsed = {name: torch.ones(shape) for name, shape in paper.items()}
    assert float(seco(collapsed, 0.07)) == pytest.approx(29.17, abs=0.005)


class Dated(Points):
    """Images of 8 x 8 pixels, each filled with its number."""

    def __getitem__(self, index):
        return {"s1": torch.full((2, 8, 8), float(index)), "patch_id": f"patch {index}"}


def test_views_are_of_the_right_date_and_with_the_right_changes():
    pairs = Pairs(Dated(4), [1, 0, 3, 2])
    strong = Views(8, gain=0.0, offset=5.0, noise=0.0, speckle=0.0, blur=0.0)
    batch = SeCoViews(crop_only(strong), strong)(pairs.read_batch([0, 1, 2, 3]), torch.Generator().manual_seed(0))
    values = {key: batch[key]["s1"].mean(dim=(1, 2, 3)) for key in ("view_1", *KEYS)}
    assert values["view_1"].tolist() == pytest.approx([0, 1, 2, 3])
    assert values["other_date"].tolist() == pytest.approx([1, 0, 3, 2])
    assert batch["patch_id"] == ["patch 0", "patch 1", "patch 2", "patch 3"]
    for key, plain in (("changed", "view_1"), ("view_2", "other_date")):
        assert (values[key] - values[plain]).abs().max() > 0.5
    still = crop_only(Views(8, turn=True, blur=1.0, band_dropout=0.1))
    assert still == Views(8, turn=False, gain=0.0, offset=0.0, band_dropout=0.0, blur=0.0, noise=0.0, speckle=0.0)


def test_it_learns_and_fills_its_queues():
    data = Points()
    data.x[1::2, 2:] = data.x[::2, 2:]  # the same place on another date, which the first two numbers tell
    partners = [index ^ 1 for index in range(len(data))]
    model = SeCo(encoder(), 16, momentum=0.9, queue=64)
    views = SeCoViews(lambda batch, generator: noisy(batch, generator, 0.1), noisy)
    history = train(model, [Contrast(seco)], Pairs(data, partners), epochs=20, augment=views).frame()
    assert history["train/loss"].iloc[-1] < 0.9 * history["train/loss"].iloc[0]
    assert history["train/contrast/spread"].iloc[-1] > 0.5
    assert all(queue.pointer == 20 * 128 % 64 for queue in model.queues)
    assert not torch.equal(model.target.network[0].layers[0].weight, encoder().layers[0].weight)


def test_bad_arguments_are_refused():
    model = SeCo(encoder(), 8, queue=QUEUE)
    with pytest.raises(MissingModalityError, match=r"no \['other_date', 'changed'\].*SeCoViews"):
        model({"view_1": Points()[:4], "view_2": Points()[:4]})
    with pytest.raises(ArgumentError, match="a queue of 12 keys cannot take a batch of 16"):
        model.after_step(model(views_of(16)), 0, 10)
    with pytest.raises(ValueError, match="batch of one"):
        seco(model.eval()(views_of(1)))
    with pytest.raises(ArgumentError, match=r"temperature=0.* above 0"):
        Contrast(seco, temperature=0)

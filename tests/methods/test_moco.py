import math
from itertools import product

import pytest
import torch
from torch.nn import functional as F

from bengelib.errors import ArgumentError, NonFiniteLossError
from bengelib.losses import cosines
from bengelib.methods.moco import MoCo, Queue, moco
from bengelib.ssl import Contrast
from bengelib.views import TwoViews
from tests.methods.points import Points, encoder, noisy, train
from tests.methods.test_byol import cosine, loss_and_gradients

SIZES = list(product((2, 5, 16), (2, 8), (1, 7, 32)))


def tensors(count, length, keys, dtype=torch.float64):
    """Queries that ask for a gradient, their keys, and a queue."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"queries": (count, length), "keys": (count, length), "queue": (keys, length)}
    values = {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}
    return {name: value.to(dtype).requires_grad_(name == "queries") for name, value in values.items()}


def ours(given, temperature):
    queries, keys = given["queries"], given["keys"]
    return moco({"view_1": queries, "view_2": keys, "to_queue": cosines(queries, given["queue"])}, temperature)


def naive(given, temperature):
    """Equation 1 one query at a time."""
    total = 0.0
    for query, key in zip(given["queries"], given["keys"], strict=True):
        own = torch.exp(cosine(query, key) / temperature)
        others = sum(torch.exp(cosine(query, other) / temperature) for other in given["queue"])
        total = total - torch.log(own / (own + others))
    return total / len(given["queries"])


@pytest.mark.parametrize("temperature", [0.07, 0.2, 1.0])
@pytest.mark.parametrize(("count", "length", "keys"), SIZES)
def test_the_loss_and_its_gradient_are_those_of_a_naive_loop(count, length, keys, temperature):
    found, expected = (
        loss_and_gradients(lambda given, loss=loss: loss(given, temperature), tensors(count, length, keys))
        for loss in (ours, naive)
    )
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("count", "length", "keys"), SIZES)
def test_the_loss_and_its_gradient_are_those_of_lightly(count, length, keys):
    peer = pytest.importorskip("lightly.loss").NTXentLoss

    def theirs(given):
        loss = peer(0.2, memory_bank_size=(keys, length))
        loss.memory_bank.bank = F.normalize(given["queue"], dim=1)
        return loss(given["queries"], given["keys"])

    found, expected = (
        loss_and_gradients(loss, tensors(count, length, keys, torch.float32))
        for loss in (lambda given: ours(given, 0.2), theirs)
    )
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("keys", "value"), [(65536, 11.0904), (16384, 9.7041), (4096, 8.3180)])
def test_the_loss_of_a_collapse(keys, value):
    same = {"queries": torch.ones(2, 3), "keys": torch.ones(2, 3), "queue": torch.ones(keys, 3)}
    assert float(ours(same, 0.2)) == pytest.approx(value, abs=1e-4)
    assert value == pytest.approx(math.log(1 + keys), abs=1e-4)


def test_the_loss_of_the_best_that_there_is():
    """Queries are their keys, and the queue is at right angles: log(1 + K exp(-1 / t))."""
    east, north = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    best = {"queries": east.expand(2, 2), "keys": east.expand(2, 2), "queue": north.expand(65536, 2)}
    assert float(ours(best, 0.2)) == pytest.approx(6.093, abs=1e-3)


def test_a_queue_begins_with_random_directions_and_goes_round():
    queue = Queue(8, 3)
    torch.testing.assert_close(queue.keys.norm(dim=1), torch.ones(8))
    assert torch.linalg.matrix_rank(queue.keys) == 3 and queue.pointer == 0
    pushed = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    for start in range(0, 12, 4):
        queue.push(pushed[start : start + 4])
    units = F.normalize(pushed, dim=1)
    torch.testing.assert_close(queue.keys, torch.cat([units[8:12], units[4:8]]))
    assert queue.pointer == 4
    queue.push(pushed[12:15])  # the last batch of an epoch is shorter
    queue.push(pushed[15:17])  # across the end
    torch.testing.assert_close(queue.keys[[4, 5, 6, 7, 0]], units[12:17])
    assert queue.pointer == 1 and set(queue.state_dict()) == {"keys", "pointer"}


def test_a_queue_shorter_than_a_batch_is_refused():
    with pytest.raises(ArgumentError, match="a queue of 8 keys cannot take a batch of 9"):
        Queue(8, 3).push(torch.ones(9, 3))
    with pytest.raises(ArgumentError, match="queue=0"):
        MoCo(encoder(), queue=0)


def batch(count=16):
    return TwoViews(noisy)(Points()[:count], torch.Generator().manual_seed(0))


def test_keys_go_into_the_queue_after_the_step_that_they_were_part_of():
    model = MoCo(encoder(), 8, queue=32).train()
    first = model.queue.keys.clone()
    outputs = model(batch())
    assert {name: tuple(value.shape) for name, value in outputs.items()} == {
        "view_1": (16, 8), "view_2": (16, 8), "to_queue": (16, 32), "features": (16, 32),
    }  # fmt: skip
    torch.testing.assert_close(outputs["to_queue"], cosines(outputs["view_1"], first))
    torch.testing.assert_close(model(batch())["to_queue"], outputs["to_queue"])  # another pass changes nothing
    Contrast(moco).loss(outputs, {}).backward()
    assert all(parameter.grad is None for parameter in model.target.parameters())
    assert all(parameter.grad is not None for parameter in model.encoder.parameters())
    model.after_step(outputs, 0, 10)
    torch.testing.assert_close(model.queue.keys[:16], F.normalize(outputs["view_2"], dim=1))
    torch.testing.assert_close(model.queue.keys[16:], first[16:])


def test_it_learns_to_find_the_other_view():
    model = MoCo(encoder(), 16, momentum=0.9, queue=64, views=TwoViews(noisy))
    history = train(model, [Contrast(moco)], epochs=15, val=Points(40, seed=1)).frame()
    assert history["val/contrast/retrieval"].iloc[-1] > 0.5  # chance: 1 in 40
    assert history["train/contrast/spread"].min() > 0.6
    assert model.queue.pointer == 15 * 128 % 64


def test_bad_outputs_are_refused():
    given = {name: value.detach() for name, value in tensors(4, 3, 5).items()}
    with pytest.raises(ValueError, match="batch of one"):
        ours({**given, "queries": given["queries"][:1], "keys": given["keys"][:1]}, 0.2)
    with pytest.raises(NonFiniteLossError, match="1 of 4 samples"):
        ours({**given, "keys": given["keys"].index_fill(0, torch.tensor([2]), math.nan)}, 0.2)
    for attempt in (lambda: ours(given, 0), lambda: Contrast(moco, temperature=0)):
        with pytest.raises(ArgumentError, match=r"temperature=0.* above 0"):
            attempt()

import math

import pytest
import torch
from torch.nn import functional as F

from bengelib.engine import evaluate
from bengelib.errors import ArgumentError, MissingModalityError
from bengelib.methods.gassl import GASSL
from bengelib.methods.geolocation import Geolocation, place_clusters
from bengelib.methods.moco import moco
from bengelib.ssl import Contrast
from bengelib.views import TwoViews
from tests.methods.points import Points, encoder, noisy, train


def clusters_of(data, regions=4):
    return place_clusters(data.lonlat, regions)


def batch(count=16):
    return TwoViews(noisy)(Points()[:count], torch.Generator().manual_seed(0))


def test_the_place_is_named_from_the_query_as_it_is():
    """A rectifier, then one linear layer, of what has not been scaled to length 1."""
    model = GASSL(encoder(), 4, 8, queue=32).eval()
    outputs = model(batch())
    expected = F.relu(outputs["view_1"]) @ model.place[1].weight.T + model.place[1].bias
    torch.testing.assert_close(outputs["place"], expected)
    assert outputs["to_queue"].shape == (16, 32) and outputs["place"].shape == (16, 4)


def test_chance_of_the_hundred_regions_of_the_paper():
    data = Points(400)
    task = Geolocation(clusters_of(data, 100))
    loss = task.loss({"place": torch.zeros(400, 100)}, {"lonlat": data.lonlat})
    assert float(loss) == pytest.approx(math.log(100), abs=1e-4) == pytest.approx(4.605, abs=1e-3)


def test_the_loss_is_the_sum_of_both_and_their_gradient_reaches_the_encoder():
    data = Points()
    model, tasks = GASSL(encoder(), 4, 8, queue=32), [Contrast(moco), Geolocation(clusters_of(data))]
    outputs = model(batch())
    losses = [task.loss(outputs, batch()) for task in tasks]
    labels = torch.from_numpy(tasks[1].clusters.predict(data.lonlat[:16]))
    chosen = outputs["place"].log_softmax(dim=1)[torch.arange(16), labels]
    torch.testing.assert_close(losses[1], -chosen.mean(), rtol=1e-5, atol=1e-5)
    for loss in losses:
        (gradient,) = torch.autograd.grad(loss, model.encoder.layers[0].weight, retain_graph=True)
        assert gradient.abs().sum() > 0


def test_it_learns_both():
    data = Points(seed=3)
    data.x[:, :2] = data.lonlat / 3 - 3.3  # the ground tells where it is
    model, task = GASSL(encoder(), 4, 16, momentum=0.9, queue=64, views=TwoViews(noisy)), Geolocation(clusters_of(data))
    before = evaluate(model, [task], data, precision="no")
    history = train(model, [Contrast(moco), task], data, epochs=25).frame()
    after = evaluate(model, [task], data, precision="no")
    assert before["place/accuracy"] < 0.6 < 0.7 < after["place/accuracy"]
    assert history["train/contrast/loss"].iloc[-1] < history["train/contrast/loss"].iloc[0]


def test_places_that_nobody_knows_and_regions_that_are_none():
    data = Points()
    task = Geolocation(clusters_of(data))
    with pytest.raises(MissingModalityError, match="no 'lonlat' in a batch"):
        task.loss({"place": torch.zeros(2, 4)}, {"x": torch.zeros(2, 16)})
    with pytest.raises(ArgumentError, match="regions=0"):
        GASSL(encoder(), 0)

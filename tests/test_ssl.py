import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from bengelib.engine import evaluate, seed_everything
from bengelib.errors import ArgumentError, BandError, MissingModalityError
from bengelib.fusion import EarlyFusion
from bengelib.heads import ClassificationHead, Network
from bengelib.methods.geolocation import Geolocation, place_clusters
from bengelib.methods.pairs import Pairs, PairViews
from bengelib.modalities import as_modalities
from bengelib.ssl import (
    Contrast,
    SiameseNetwork,
    effective_rank,
    retrieval,
    spread,
)
from bengelib.views import TwoViews, Views, pair_modalities
from tests.training import fit_with

# -------------------------------------------------------------------------------------------------------------- monitor


def test_spread():
    generator = torch.Generator().manual_seed(0)
    assert float(spread(torch.randn(4000, 64, generator=generator))) == pytest.approx(1, abs=0.01)
    assert float(spread(torch.ones(10, 8))) == pytest.approx(0, abs=1e-5)
    assert float(spread(10 + 0.1 * torch.randn(100, 64, generator=generator))) < 0.05
    assert float(spread(1e6 * torch.randn(4000, 64, generator=generator))) == pytest.approx(1, abs=0.01)


def test_effective_rank():
    generator = torch.Generator().manual_seed(0)
    three = torch.linalg.qr(torch.randn(50, 4, generator=generator) - 0.0)[0][:, :3]
    three = three - three.mean(dim=0)
    three = torch.linalg.qr(three)[0]  # orthogonal columns of mean 0: three equal singular values
    features = three @ torch.linalg.qr(torch.randn(20, 3, generator=generator))[0].T + 7
    assert float(effective_rank(features)) == pytest.approx(3, abs=1e-2)
    assert float(effective_rank(torch.full((9, 5), 0.1))) == 1
    assert float(effective_rank(torch.zeros(9, 5))) == 1
    assert 30 < float(effective_rank(torch.randn(500, 40, generator=generator))) <= 40


def test_retrieval():
    z = torch.randn(50, 16)
    assert float(retrieval(z, z)) == 1
    assert float(retrieval(z, z.roll(1, dims=0))) == 0
    same = torch.ones(50, 16)
    assert float(retrieval(same, same)) == 0  # a tie is no find
    assert float(retrieval(same, same, top=50)) == 1
    half = torch.cat([z[:25], z[25:].roll(1, dims=0)])
    assert float(retrieval(z, half)) == 0.5


# -------------------------------------------------------------------------------------------------------- network, task


class Sensors(Dataset):
    """Patches of 16 pixels; each has a colour of its own that both sensors see, and noise."""

    def __init__(self, count=64, seed=0):
        random = np.random.default_rng(seed)
        colour = random.normal(0, 1, (count, 2, 1, 1))
        noise = random.normal(0, 0.3, (2, count, 2, 16, 16))
        self.s1 = torch.from_numpy(-15 + 4 * (colour + noise[0])).float()
        self.s2 = torch.from_numpy(0.2 + 0.05 * (colour + noise[1])).float()
        self.lonlat = torch.from_numpy(random.uniform(0, 20, (count, 2))).float()

    def __len__(self):
        return len(self.s1)

    def __getitem__(self, index):
        return {"s1": self.s1[index], "s2": self.s2[index], "lonlat": self.lonlat[index], "patch_id": f"patch {index}"}


S1_ONLY = {"s1": ("VV", "VH")}
S2_ONLY = {"s2": ("B04", "B08")}
VIEWS = Views(16, scale=(0.5, 1), noise=0.1)


def siamese(inputs=S1_ONLY, inputs_2=None, **options):
    seed_everything(0)
    encoder_2 = None if inputs_2 is None else EarlyFusion(inputs_2, width=0.0625)
    return SiameseNetwork(EarlyFusion(inputs, width=0.0625), 16, encoder_2=encoder_2, **options)


def pretrain(model, task, augment=None, train=None, **options):
    options = {"epochs": 2, "batch_size": 32, "lr": 3e-3, "precision": "no", "progress": False, **options}
    return fit_with(model, [task], train or Sensors(), augment=augment or TwoViews(VIEWS), **options)


def test_network_makes_an_embedding_of_each_view():
    model = siamese({**S1_ONLY, **S2_ONLY}).eval()
    batch = TwoViews(VIEWS)({"s1": Sensors().s1[:6], "s2": Sensors().s2[:6]}, torch.Generator().manual_seed(0))
    outputs = model(batch)
    assert {key: tuple(value.shape) for key, value in outputs.items()} == {
        "view_1": (6, 16), "view_2": (6, 16), "features": (6, model.encoder.feature_dim),
    }  # fmt: skip
    expected = model.projector(model.encoder(batch["view_2"]))
    torch.testing.assert_close(outputs["view_2"], expected, rtol=1e-4, atol=1e-5)
    assert model.inputs == as_modalities({**S1_ONLY, **S2_ONLY})
    assert siamese(hidden=40).projector[0].out_features == 40


def test_two_sensors_have_an_encoder_each():
    model = siamese(S1_ONLY, S2_ONLY).eval()
    batch = {"s1": Sensors().s1[:6], "s2": Sensors().s2[:6]}
    outputs = model(pair_modalities()(batch, torch.Generator()))
    expected = model.projector_2(model.encoder_2({"s2": batch["s2"]}))
    torch.testing.assert_close(outputs["view_2"], expected, rtol=1e-4, atol=1e-5)
    assert model.inputs == as_modalities({**S1_ONLY, **S2_ONLY})
    plain = model(batch)  # no views are needed where each encoder takes what it knows
    torch.testing.assert_close(plain, outputs, rtol=1e-4, atol=1e-5)
    with pytest.raises(BandError, match="different bands of s2"):
        siamese(S2_ONLY, {"s2": ("B02",)})


def test_a_batch_without_views_says_what_to_do():
    with pytest.raises(MissingModalityError, match="augment=TwoViews"):
        siamese()({"s1": torch.zeros(4, 2, 16, 16)})
    with pytest.raises(MissingModalityError, match="SiameseNetwork"):
        Contrast().loss({"kind": torch.zeros(2)}, {})


@pytest.mark.parametrize("method", ["simclr", "cross-modal", "barlow", "vicreg"])
@pytest.mark.parametrize("sensors", ["one", "two"])
def test_every_method_learns_on_one_sensor_and_on_two(method, sensors):
    two = sensors == "two"
    model = siamese(S1_ONLY, S2_ONLY) if two else siamese(views=TwoViews(VIEWS))
    augment = pair_modalities(VIEWS) if two else TwoViews(VIEWS)
    history = pretrain(model, Contrast(method), augment, epochs=8, val=Sensors(24, seed=1)).frame()
    assert history["train/loss"].iloc[-1] < history["train/loss"].iloc[0]
    assert {"val/contrast/spread", "val/contrast/rank", "val/contrast/retrieval"} <= set(history.columns)
    assert 0 < history["val/contrast/spread"].iloc[-1] <= 1.01


def test_pairs_of_other_patches_go_through_the_same_fit():
    train = Sensors(20)
    pairs = Pairs(train, [(index + 1) % 20 for index in range(20)])
    history = pretrain(siamese(), Contrast(), PairViews(VIEWS), pairs, batch_size=8, epochs=1).frame()
    assert np.isfinite(history["train/loss"]).all() and history["train/contrast/rank"].iloc[0] > 1


def test_contrast_finds_the_other_sensor():
    model = siamese(S1_ONLY, S2_ONLY)
    before = evaluate(model, [Contrast("cross-modal")], Sensors(50, seed=1), precision="no")
    pretrain(model, Contrast("cross-modal"), pair_modalities(), Sensors(256), epochs=8, lr=1e-2)
    after = evaluate(model, [Contrast("cross-modal")], Sensors(50, seed=1), precision="no")
    assert before["contrast/retrieval"] < 0.1 < 0.14 < after["contrast/retrieval"]  # chance 0.02


def test_validation_figures_are_those_of_all_samples_and_repeat():
    model, val = siamese(views=TwoViews(VIEWS)), Sensors(20)
    small, again = (evaluate(model, [Contrast()], val, batch_size=8, precision="no") for _ in range(2))
    assert small == again
    model = siamese(S1_ONLY, S2_ONLY)
    small, whole = (evaluate(model, [Contrast()], val, batch_size=size, precision="no") for size in (6, 20))
    for name, room in (("spread", {"rel": 1e-3}), ("rank", {"rel": 1e-3}), ("retrieval", {"abs": 0.06})):
        assert small[f"contrast/{name}"] == pytest.approx(whole[f"contrast/{name}"], **room)  # a near-tie is 1 in 20


def test_monitor_catches_a_collapse_made_on_purpose():
    """Where only agreement is asked for, the same answer for all is perfect, and the loss looks like success."""
    columns = [f"train/{name}" for name in ("loss", "contrast/spread")]
    healthy = pretrain(siamese(S1_ONLY, S2_ONLY), Contrast("vicreg"), pair_modalities(), epochs=15, lr=1e-2).frame()
    collapsed = pretrain(
        siamese(S1_ONLY, S2_ONLY), Contrast("agreement"), pair_modalities(), epochs=15, lr=1e-2
    ).frame()
    loss, spread_first = collapsed[columns].iloc[0]
    loss_last, spread_last = collapsed[columns].iloc[-1]
    assert loss_last < 0.1 * loss
    assert spread_last < 0.25 < 0.6 < spread_first
    assert healthy["train/contrast/spread"].min() > 0.6


def test_vicreg_without_its_other_terms_collapses_too():
    task = Contrast("vicreg", variance=0, covariance=0)
    history = pretrain(siamese(S1_ONLY, S2_ONLY), task, pair_modalities(), epochs=15, lr=3e-2).frame()
    assert history["train/contrast/spread"].iloc[-1] < 0.75 * history["train/contrast/spread"].iloc[0]
    assert history["train/contrast/rank"].iloc[-1] < 0.7 * history["train/contrast/rank"].iloc[0]


@pytest.mark.parametrize(
    ("method", "options", "words"),
    [
        ("moco", {}, "simclr"),
        ("simclr", {"lambda_param": 1}, "temperature"),
        ("barlow", {"lambda_param": -1}, "at least 0"),
        ("vicreg", {"temperature": 1}, "similarity"),
    ],
)
def test_unknown_methods_and_options_are_refused(method, options, words):
    with pytest.raises(ValueError, match=words):
        Contrast(method, **options)


def test_a_training_set_of_one_is_refused():
    model = siamese(S1_ONLY, S2_ONLY).eval()
    outputs = model({"s1": torch.zeros(1, 2, 16, 16), "s2": torch.zeros(1, 2, 16, 16)})
    with pytest.raises(ValueError, match="batch of one"):
        Contrast().loss(outputs, {})


# ---------------------------------------------------------------------------------------------------------------- place


def test_place_clusters_find_places_also_across_the_date_line():
    random = np.random.default_rng(0)
    towns = np.array([[179.9, 0.0], [10.0, 60.0], [10.0, -60.0], [90.0, 89.0]])
    lonlat = np.repeat(towns, 30, axis=0) + random.normal(0, 0.3, (120, 2))
    lonlat[:, 0] = (lonlat[:, 0] + 180) % 360 - 180
    regions = place_clusters(lonlat, 4)
    found = regions.predict(lonlat).reshape(4, 30)
    assert all(len(set(town)) == 1 for town in found.tolist()) and len({town[0] for town in found.tolist()}) == 4
    assert regions.predict(torch.tensor(towns, dtype=torch.float32)).tolist() == found[:, 0].tolist()
    assert regions.centres.shape == (4, 2) and len(regions.names) == 4
    assert regions.names[found[1, 0]].endswith("N") and regions.names[found[2, 0]].endswith("S")
    assert np.array_equal(place_clusters(lonlat, 4).centres, regions.centres)


def test_bad_places_are_refused():
    places = np.random.default_rng(0).uniform(0, 10, (6, 2))
    with pytest.raises(ValueError, match="from 1 to 6"):
        place_clusters(places, 7)
    with pytest.raises(ValueError, match="1 different"):
        place_clusters(np.zeros((6, 2)), 2)
    for bad in (places[:, :1], np.full((6, 2), np.nan), np.tile([10.0, 120.0], (6, 1))):
        with pytest.raises(ArgumentError, match="longitude"):
            place_clusters(bad, 2)


def test_geolocation_is_a_task():
    train = Sensors()
    task = Geolocation(place_clusters(train.lonlat, 5))
    seed_everything(0)
    encoder = EarlyFusion(S1_ONLY, width=0.0625)
    model = Network(encoder, {"place": ClassificationHead(encoder.feature_dim, task.classes)})
    figures = evaluate(model, [task], train, precision="no")
    assert set(figures) == {"loss", "place/accuracy", "place/macro_f1"}
    outputs = {"place": torch.nn.functional.one_hot(torch.from_numpy(task.clusters.predict(train.lonlat)), 5).float()}
    metric = task.metric()
    task.update(metric, outputs, {"lonlat": train.lonlat})
    assert task.summary(metric)["accuracy"] == 1
    with pytest.raises(MissingModalityError, match="lonlat"):
        task.loss(outputs, {})
    assert isinstance(model, nn.Module)

import re
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import Dataset, Subset
from torch.utils.flop_counter import FlopCounterMode

from bengelib.bands import S1_BANDS, S2_BANDS
from bengelib.engine import seed_everything
from bengelib.errors import ArgumentError, BandError, DataWarning, MissingModalityError
from bengelib.fusion import EarlyFusion, LateFusion
from bengelib.methods import METHODS, TABLE
from bengelib.methods.geolocation import lonlat_of
from bengelib.methods.pairs import Pairs
from bengelib.modalities import as_modality
from bengelib.recipes.pretraining import (
    Pretraining,
    build_encoder,
    pretext,
    pretext_targets,
    pretrain_encoder,
    queue_for,
    side_by_side,
    strong_views,
)
from bengelib.weighting import UncertaintyWeights


def meta_of(count, places):
    """A table of patches of one tile, several of which may show the same place, each time on another date."""
    number = np.arange(count)
    return pd.DataFrame(
        {
            "patch_id_s1": [f"S1A_IW_GRDH_1SDV_20170613T165043_33TWN_{n}_0" for n in number],
            "timestamp_s2": [f"2017-0{1 + n // places}-13" for n in number],
            "lon": 15 + 0.02 * (number % places),
            "lat": 48.0,
        }
    )


class Patches(Dataset):
    """Patches of both sensors; the second half are those of the first half on another date."""

    def __init__(self, count=16, size=32):
        generator = torch.Generator().manual_seed(0)
        self.s2 = torch.rand(count, 12, size, size, generator=generator)
        self.s1 = -12 + 3 * torch.randn(count, 2, size, size, generator=generator)
        self.meta = meta_of(count, count // 2)
        self.lonlat = torch.tensor(self.meta[["lon", "lat"]].to_numpy())

    def __len__(self):
        return len(self.s2)

    def __getitem__(self, index):
        return {"s2": self.s2[index], "s1": self.s1[index], "lonlat": self.lonlat[index]}


def encoders_of(method, width=8, size=32):
    """What a method pretrains: one encoder of both sensors, or one of each."""
    seed_everything(0)
    if TABLE[method].two_sensors:
        bands = {"s2": S2_BANDS, "s1": S1_BANDS}
        return [EarlyFusion({key: names}, width=width / 64) for key, names in bands.items()]
    inputs = {key: replace(as_modality(key), size=size) for key in ("s2", "s1")}
    return [build_encoder(inputs, method, 18, width)]


def pretrain(method, data, encoders=None, **options):
    settings = Pretraining(method=method, size=16, width=8, epochs=2, batch_size=8, precision="no", **options)
    first, *second = encoders or encoders_of(method)
    others = {"encoder_2": second[0]} if second else {}
    return pretrain_encoder(first, data, strong_views(16), settings, progress=False, **others)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_of_the_table_trains_all_its_encoders(method):
    encoders = encoders_of(method)
    before = [{name: value.clone() for name, value in encoder.named_parameters()} for encoder in encoders]
    history = pretrain(method, Patches(), encoders).frame()
    assert len(history) == 2 and np.isfinite(history["train/loss"]).all()
    for encoder, weights in zip(encoders, before, strict=True):
        assert all(not torch.equal(value, weights[name]) for name, value in encoder.named_parameters())


def step_cost(method):
    """Multiply-adds of one step with the default settings, forward and backward."""
    count, settings = 4, Pretraining(method=method, batch_size=4)
    first, *second = encoders_of(method, settings.width, 120)
    size = 72 if method == "multi-pretext" else settings.size  # whole squares of 24
    made = pretext(first, Patches(count, size), strong_views(size), settings, *second)
    if isinstance(made.data, Pairs):
        batch = made.data.read_batch(range(count))
    else:
        batch = torch.utils.data.default_collate([made.data[index] for index in range(count)])
    batch = made.augment(batch, torch.Generator().manual_seed(0))
    with FlopCounterMode(display=False) as counter:
        outputs = made.model.train()(batch)
        sum(task.loss(outputs, batch) for task in made.tasks).backward()
    return counter.get_total_flops()


@pytest.fixture(scope="module")
def simclr_cost():
    return step_cost("simclr")


@pytest.mark.parametrize("method", METHODS)
def test_the_costs_of_the_table_are_those_that_are_counted(method, simclr_cost):
    assert round(step_cost(method) / simclr_cost, 1) == TABLE[method].cost


@pytest.mark.parametrize("method", METHODS)
def test_a_method_has_the_settings_of_the_table_and_no_others(method):
    values = {"temperature": 0.5, "momentum": 0.9, "queue": 512, "regions": 4}
    for name, value in values.items():
        if name in TABLE[method].settings:
            assert getattr(Pretraining(method=method, **{name: value}), name) == value
        else:
            with pytest.raises(ArgumentError, match=f"{method} has no {name}; leave it out, or choose one of"):
                Pretraining(method=method, **{name: value})


def test_settings_reach_the_network():
    data, views = Patches(), strong_views(16)
    options = {"size": 16, "width": 8, "batch_size": 8}
    (encoder,) = encoders_of("byol")
    made = pretext(encoder, data, views, Pretraining(method="byol", momentum=0.5, **options))
    assert made.model.target.momentum == 0.5 and made.model.target.final == 1
    made = pretext(encoder, data, views, Pretraining(method="moco-v2", queue=24, temperature=0.07, **options))
    assert len(made.model.queue.keys) == 24 and made.tasks[0].options == {"temperature": 0.07}
    made = pretext(encoder, data, views, Pretraining(method="gassl", regions=3, **options))
    assert made.model.place[1].out_features == len(made.tasks[1].classes) == 3
    made = pretext(encoder, data, views, Pretraining(method="gassl", **options))
    assert len(made.tasks[1].classes) == 8  # no more regions than places
    made = pretext(encoder, data, views, Pretraining(method="place-image", temperature=0.5, **options))
    assert made.model.log_scale.exp().item() == pytest.approx(2)


@pytest.mark.parametrize(("epochs", "momentum"), [(1, 0.0), (10, 0.5), (100, 0.95), (1000, 0.99)])
def test_in_short_runs_the_target_looks_back_over_a_tenth_of_the_steps(epochs, momentum):
    (encoder,) = encoders_of("byol")
    settings = Pretraining(method="byol", epochs=epochs, batch_size=8, size=16)
    made = pretext(encoder, Patches(), strong_views(16), settings)  # two steps an epoch
    assert made.model.target.momentum == pytest.approx(momentum)


@pytest.mark.parametrize(("size", "batch", "keys"), [(100_000, 256, 4096), (2000, 256, 256), (100, 8, 24), (4, 8, 8)])
def test_a_queue_holds_whole_batches_and_no_more_than_a_quarter_of_the_images(size, batch, keys):
    assert queue_for(size, batch) == keys


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"method": "moco-v2", "queue": 1000}, r"queue=1000 is no multiple of the 256 images of a step.* 1024"),
        ({"method": "moco-v2", "queue": 10}, "such as 256"),
        ({"method": "moco-v2", "queue": 0}, "queue=0"),
        ({"method": "byol", "momentum": 1.5}, r"momentum=1\.5.* at least 0 and of at most 1"),
        ({"method": "byol", "momentum": -0.1}, "momentum=-0.1"),
        ({"method": "byol", "batch_size": 1}, "batch of one"),
        ({"method": "moco-v3", "temperature": 0}, "temperature=0"),
        ({"method": "gassl", "regions": 1.5}, "regions=1.5"),
        ({"method": "moco"}, "unknown method 'moco'; choose one of"),
    ],
    ids=str,
)
def test_bad_settings_are_refused(wrong, words):
    with pytest.raises(ValueError, match=words):
        Pretraining(**wrong)


def test_squares_suit_the_size_of_the_images():
    """Those of 120 pixels have five squares of 24 a side, those of 64 four of 16, and those of 48 six of 8."""
    for size, stride in ((120, 24), (96, 24), (64, 16), (48, 8), (24, 8), (0, 8)):
        (encoder,) = encoders_of("multi-pretext", size=size)
        assert encoder.stride == stride
    for width, channels in ((8, 40), (41, 48), (96, 96)):
        assert encoders_of("multi-pretext", width)[0].net.channels[0] == channels
    with pytest.raises(ArgumentError, match=r"no ConvNeXt V2 begins with 97 channels.*'tiny': 96"):
        encoders_of("multi-pretext", 97)
    with pytest.raises(ArgumentError, match=r"images of \[100\] pixels.*squares of 8"):
        encoders_of("multi-pretext", size=100)


def test_all_that_is_known_of_a_place_is_asked_for():
    """By its own statistics where the dataset has some; noise and haze are left out of the views, which turn."""
    (encoder,) = encoders_of("multi-pretext")
    data = Patches()
    data.inputs = {"s1": encoder.inputs["s1"], "dem": replace(as_modality("dem"), mean=(7.0,))}
    made = pretext(encoder, data, strong_views(16), Pretraining(method="multi-pretext"))
    assert made.model.targets == ("s1", "s2", "lonlat") and made.model.per_square == ("s2", "s1")
    assert isinstance(made.weighting, UncertaintyWeights) and list(made.weighting.targets) == list(made.model.targets)
    assert made.augment.turn and made.augment.noise == made.augment.gain == 0 and made.augment.scale == (0.2, 1.0)
    data.dem = torch.zeros(16, 1, 32, 32)
    asked = pretext_targets(encoder, _With(data, "dem"))
    assert asked["dem"].mean == (7.0,) and list(asked) == ["s1", "s2", "dem", "lonlat"]


class _With(Dataset):
    """A dataset whose samples have one thing more."""

    def __init__(self, data, key):
        self.data, self.key, self.inputs = data, key, data.inputs

    def __getitem__(self, index):
        return {**self.data[index], self.key: getattr(self.data, self.key)[index]}


def test_two_encoders_for_two_sensors_and_one_for_one():
    s2, s1 = encoders_of("cross-modal")
    with pytest.raises(BandError, match=r"cross-modal trains two encoders.*give encoder_2"):
        pretrain("cross-modal", Patches(), [s2])
    with pytest.raises(BandError, match="simclr trains one encoder"):
        pretrain("simclr", Patches(), [s2, s1])
    with pytest.raises(BandError, match=r"\['s2'\] would be in both views"):
        pretrain("cross-modal", Patches(), [s2, encoders_of("cross-modal")[0]])
    for method, wanted in (("mae", "ViTEncoder"), ("multi-pretext", "ConvNeXtEncoder")):
        with pytest.raises(BandError, match=f"{method} trains a {wanted}, not a EarlyFusion"):
            pretrain(method, Patches(), [s2])


def test_each_sensor_of_two_may_be_first():
    s2, s1 = encoders_of("cross-modal")
    made = pretext(s1, Patches(), strong_views(16), Pretraining(method="cross-modal"), s2)
    batch = made.augment({"s2": Patches().s2, "s1": Patches().s1}, torch.Generator().manual_seed(0))
    assert "s1" in batch["view_1"] and "s2" not in batch["view_1"] and "s2" in batch["view_2"]


def test_two_encoders_become_one_with_their_features_side_by_side():
    data, encoders = Patches(4), encoders_of("decur")
    joined = side_by_side(encoders).eval()
    batch = {"s2": data.s2, "s1": data.s1}
    assert isinstance(joined, LateFusion) and list(joined.inputs) == ["s2", "s1"]
    expected = torch.cat([encoder.eval()(batch) for encoder in encoders], dim=1)
    torch.testing.assert_close(joined(batch), expected)
    assert joined.encoders["s2"] is not encoders[0].resnet


class Alone(Patches):
    """Patches of which nobody knows place or date."""

    def __init__(self):
        super().__init__()
        del self.meta, self.lonlat

    def __getitem__(self, index):
        return {"s2": self.s2[index], "s1": self.s1[index]}


def test_data_that_lack_what_a_method_needs():
    for method in ("gassl", "place-image"):
        with pytest.raises(MissingModalityError, match="does not say where its samples lie"):
            pretrain(method, Alone())
    with pytest.raises(MissingModalityError, match=r"no table `meta`.*Pairs"):
        pretrain("seco", Alone())
    with pytest.raises(ArgumentError, match="seco makes views with fewer changes of a Views"):
        pretext(encoders_of("seco")[0], Patches(), lambda batch, generator: batch, Pretraining(method="seco"))
    once = Patches()
    once.meta = meta_of(16, 16)
    with pytest.raises(MissingModalityError, match=r"none of these 16 patches is.*ben-ge shows each place once"):
        pretrain("seco", once)


def test_the_share_without_another_date_is_told():
    data = Patches()
    data.meta = meta_of(16, 12)
    with pytest.warns(DataWarning, match="8 of 16 patches show a place that no other patch shows on another date"):
        pretrain("seco", data)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        pretrain("seco", Patches())
        pretrain("seco", Pairs(data, np.arange(16)[::-1].copy()))  # whatever the user pairs


def test_a_dataset_with_tables_is_asked_for_its_places():
    data = Alone()
    data.table = {"lonlat": np.array([[1.0, 2.0]] * 16, np.float32)}.__getitem__
    np.testing.assert_array_equal(lonlat_of(data), [[1, 2]] * 16)
    np.testing.assert_allclose(lonlat_of(Subset(Patches(), [3]))[0], [15.06, 48])


def test_part_of_a_dataset_knows_its_places():
    history = pretrain("gassl", Subset(Patches(), [0, 1, 2, 3, 4, 5, 6, 7]))
    assert "train/place/loss" in history.frame() and "train/contrast/loss" in history.frame()


def test_the_example_of_the_page_runs():
    page = Path(__file__).parents[2] / "docs" / "methods.md"
    (example,) = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    (encoder,) = encoders_of("byol")
    before = encoder.resnet.conv1.weight.clone()
    exec(example, {"encoder": encoder, "train": Patches(), "views": strong_views(16), "epochs": 1, "batch_size": 8})
    assert not torch.equal(encoder.resnet.conv1.weight, before)

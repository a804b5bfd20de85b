import pytest
import torch

from bengelib.bands import S1, S2, S2_BANDS, WEATHER
from bengelib.errors import BandError, MissingModalityError
from bengelib.fusion import (
    VECTOR_FEATURES,
    DecisionFusion,
    EarlyFusion,
    FeatureFusion,
    FiLMFusion,
    LateFusion,
)
from bengelib.heads import ClassificationHead, Network
from bengelib.inputs import InputNorm
from bengelib.modalities import as_modalities
from bengelib.transforms import Normalize

NARROW = 0.125
FUSIONS = (EarlyFusion, FeatureFusion, LateFusion)
EVERYTHING = {
    "s2": S2_BANDS, "s1": ("VV", "VH"), "dem": (), "weather": ("temperature", "wind_u"), "season": (), "lonlat": ()
}  # fmt: skip


def make_batch(count=2, size=32):
    torch.manual_seed(0)
    return {
        "s2": torch.rand(count, 12, size, size),
        "s1": torch.randn(count, 2, size, size) - 15,
        "dem": 100 * torch.rand(count, 1, size, size),
        "weather": torch.tensor([[280.0, 1.0, 2.0, 60.0, 990.0], [290.0, -1.0, -2.0, 90.0, 900.0]])[:count],
        "season": torch.tensor([0.25, 0.75])[:count],
        "lonlat": torch.tensor([[20.0, 45.0], [-8.0, 40.0]])[:count],
        "patch_id": ["a", "b"][:count],
    }


def test_inputs_are_normalised_by_name():
    values, available = InputNorm({"s2": S2_BANDS, "s1": ("VH", "VV"), "season": ()})(make_batch())
    assert available.all() and available.shape == (2, 3)
    torch.testing.assert_close(values["s2"][:, 3], (make_batch()["s2"][:, 3] - S2["B04"].mean) / S2["B04"].std)
    torch.testing.assert_close(values["s1"][:, 0], (make_batch()["s1"][:, 0] - S1["VH"][0]) / S1["VH"][1])
    assert values["season"].shape == (2, 1)


def test_weather_is_picked_by_name():
    """The batch has all five variables; the model may read some of them, in its own order."""
    values = InputNorm({"weather": ("relative_humidity", "temperature")})(make_batch())[0]["weather"]
    humidity, temperature = WEATHER["relative_humidity"], WEATHER["temperature"]
    torch.testing.assert_close(values[:, 0], (torch.tensor([60.0, 90.0]) - humidity.mean) / humidity.std)
    torch.testing.assert_close(values[:, 1], (torch.tensor([280.0, 290.0]) - temperature.mean) / temperature.std)


def test_early_fusion_stacks_in_the_order_of_the_inputs():
    model = EarlyFusion({"s1": ("VV", "VH"), "season": (), "s2": S2_BANDS}, width=NARROW)
    stack = model.read.stack(make_batch())
    assert stack.shape == (2, 15, 32, 32) and model.resnet.in_channels == 15
    torch.testing.assert_close(stack[:, 1], Normalize("s1", ("VV", "VH"))(make_batch()["s1"])[:, 1])
    torch.testing.assert_close(stack[:, 3:], Normalize("s2", S2_BANDS)(make_batch()["s2"]))


def test_early_fusion_blows_scalars_up_to_planes():
    stack = EarlyFusion({"s1": ("VV", "VH"), "season": (), "lonlat": ()}, width=NARROW).read.stack(make_batch())
    planes = stack[:, 2:]
    assert planes.shape == (2, 3, 32, 32)
    assert torch.equal(planes, planes[:, :, :1, :1].expand_as(planes))
    torch.testing.assert_close(planes[:, 0, 0, 0], Normalize("season")(make_batch()["season"]))


def test_late_fusion_keeps_the_modalities_apart():
    """The features of one modality do not change with the values of another."""
    model = LateFusion({"s2": S2_BANDS, "s1": ("VV", "VH"), "season": ()}, width=NARROW).eval()
    with torch.no_grad():
        before = model(make_batch())
        other = make_batch()
        other["s1"] = other["s1"] + 5
        after = model(other)
    size = model.encoders["s2"].feature_dim
    changed = (before != after).any(dim=0)
    assert not changed[:size].any() and not changed[2 * size :].any()
    assert changed[size : 2 * size].any()


def test_early_fusion_mixes_the_modalities():
    model = EarlyFusion({"s2": S2_BANDS, "season": ()}, width=NARROW).eval()
    with torch.no_grad():
        other = {**make_batch(), "season": torch.tensor([0.75, 0.25])}
        assert (model(make_batch()) != model(other)).any()


@pytest.mark.parametrize("fusion", FUSIONS)
def test_all_modalities_at_once(fusion):
    model = fusion(EVERYTHING, width=NARROW).eval()
    with torch.no_grad():
        features = model(make_batch())
    assert features.shape == (2, model.feature_dim) and features.isfinite().all()
    assert model.inputs == as_modalities(EVERYTHING)


def test_late_fusion_has_a_feature_vector_for_each_modality():
    model = LateFusion({"s2": S2_BANDS, "dem": (), "lonlat": ()}, width=NARROW)
    assert model.feature_dim == 64 + 64 + VECTOR_FEATURES
    assert set(model.encoders) == {"s2", "dem", "lonlat"}


@pytest.mark.parametrize("fusion", FUSIONS)
def test_gradients_reach_every_weight(fusion):
    model = fusion({"s2": S2_BANDS, "s1": ("VV", "VH"), "season": ()}, width=NARROW)
    model(make_batch(size=64)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in model.parameters())


@pytest.mark.parametrize("fusion", FUSIONS)
def test_one_sample(fusion):
    model = fusion({"s2": S2_BANDS, "season": (), "weather": ("temperature",)}, width=NARROW).eval()
    with torch.no_grad():
        torch.testing.assert_close(model(make_batch(1)), model(make_batch(2))[:1], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_missing_modality_is_named_with_those_that_are_there(fusion):
    model = fusion({"s2": S2_BANDS, "dem": ()}, width=NARROW)
    batch = make_batch()
    del batch["dem"]
    with pytest.raises(MissingModalityError, match="'dem'") as error:
        model(batch)
    assert "'s1'" in str(error.value) and "dataset" in str(error.value)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_other_number_of_bands_is_refused(fusion):
    model = fusion({"s2": ("B04", "B03", "B02")}, width=NARROW)
    with pytest.raises(BandError, match="12 channels for 3 bands"):
        model(make_batch())


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({}, ["empty"]),
        ({"s2": ("B10",)}, ["B10", "B09"]),
        ({"s2": "B04"}, ["sequence of names", "B04"]),
        ({"s3": ()}, ["s3", "s2"]),
        ({"s2": ("B04", "B04")}, ["s2", "name of its own"]),
        ({"dem": ("height",)}, ["dem", "height"]),
    ],
)
def test_wrong_inputs_are_refused_with_the_choices(fusion, inputs, words):
    with pytest.raises(BandError) as error:
        fusion(inputs, width=NARROW)
    assert all(word in str(error.value) for word in words)


def test_early_fusion_needs_an_image():
    with pytest.raises(BandError, match=r"no image among the inputs .*season"):
        EarlyFusion({"season": ()})
    assert LateFusion({"season": ()}).eval()(make_batch()).shape == (2, 32)


SENSORS = {"s2": S2_BANDS, "s1": ("VV", "VH")}
SENSOR_FUSIONS = {
    "early": EarlyFusion,
    "late": LateFusion,
    **{how: lambda *a, how=how, **k: FeatureFusion(*a, how=how, **k) for how in ("concat", "sum", "gate")},
}
each_fusion = pytest.mark.parametrize("make", SENSOR_FUSIONS.values(), ids=SENSOR_FUSIONS.keys())


def without(batch, key):
    return {name: value for name, value in batch.items() if name != key}


@each_fusion
def test_a_missing_modality_is_an_error_unless_said_otherwise(make):
    model = make(SENSORS, width=NARROW).eval()
    with pytest.raises(MissingModalityError, match=r"'s1'.*missing from the batch.*modality_dropout"):
        model(without(make_batch(), "s1"))
    with pytest.raises(MissingModalityError, match="'s1'"):
        model({**make_batch(), "s1_available": torch.tensor([True, False])})
    with pytest.raises(MissingModalityError, match="reads"):
        model({"season": torch.zeros(2)})


@each_fusion
def test_missing_mean_is_the_modality_at_its_mean(make):
    """Only early fusion shows its encoder the mean; the others leave the missing features out."""
    model = make(SENSORS, width=NARROW, missing="mean").eval()
    got = model(without(make_batch(), "s1"))
    assert torch.isfinite(got).all()
    if make is EarlyFusion:
        mean = torch.tensor([S1["VV"][0], S1["VH"][0]]).view(1, 2, 1, 1).expand(2, 2, 32, 32)
        torch.testing.assert_close(got, model({**make_batch(), "s1": mean}), rtol=1e-3, atol=1e-4)


@each_fusion
def test_what_a_missing_modality_holds_does_not_matter(make):
    model = make(SENSORS, width=NARROW, modality_dropout=0.3).eval()
    flags = {"s1_available": torch.tensor([True, False])}
    other = make_batch()["s1"].clone()
    other[1] = 20.0
    one, two = model({**make_batch(), **flags}), model({**make_batch(), "s1": other, **flags})
    torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(model(make_batch())[1], one[1], rtol=1e-2, atol=1e-3)  # but whether it is there does
    torch.testing.assert_close(model(make_batch())[0], one[0], rtol=1e-3, atol=1e-4)


@each_fusion
def test_a_missing_key_is_a_modality_missing_for_all(make):
    model = make(SENSORS, width=NARROW, modality_dropout=0.3).eval()
    flagged = {**make_batch(), "s1_available": torch.tensor([False, False])}
    torch.testing.assert_close(model(without(make_batch(), "s1")), model(flagged), rtol=1e-3, atol=1e-4)


def test_modality_dropout_hides_samples_and_never_all_of_one():
    inputs = InputNorm(SENSORS, modality_dropout=0.6).train()
    batch = {"s2": torch.ones(4000, 12, 1, 1), "s1": torch.ones(4000, 2, 1, 1)}
    torch.manual_seed(0)
    values, available = inputs(batch)
    assert available.any(dim=1).all()
    # 0.6 hidden, but a sample that would lose both (0.36) keeps both: 0.6 - 0.36 hidden
    assert (~available).float().mean(dim=0).tolist() == pytest.approx([0.24, 0.24], abs=0.03)
    for column, key in enumerate(SENSORS):
        hidden = ~available[:, column]
        assert (values[key][hidden] == 0).all() and (values[key][~hidden] != 0).any()
    inputs.eval()
    assert inputs(batch)[1].all()


def test_modality_dropout_keeps_the_one_sensor_that_is_there():
    inputs = InputNorm(SENSORS, modality_dropout=0.9).train()
    batch = {"s2": torch.ones(500, 12, 1, 1), "s1": torch.ones(500, 2, 1, 1)}
    flags = torch.arange(500) % 2 == 0
    _, available = inputs({**batch, "s1_available": flags})
    assert available.any(dim=1).all() and not available[~flags, 1].any()


@pytest.mark.parametrize(
    "options", [{"modality_dropout": 1.0}, {"modality_dropout": -0.1}, {"missing": "zeros"}], ids=str
)
def test_impossible_options_are_refused(options):
    with pytest.raises(ValueError, match=r"modality_dropout|missing"):
        InputNorm(SENSORS, **options)
    with pytest.raises(ValueError, match="two modalities"):
        InputNorm({"s2": S2_BANDS}, modality_dropout=0.5)


@pytest.mark.parametrize("stage", [1, 2, 3, 4])
def test_feature_fusion_joins_after_the_chosen_stage(stage):
    model = FeatureFusion(SENSORS, width=NARROW, stage=stage)
    maps = model._maps(*model.read(make_batch(size=64)))
    channels, size = 8 * 2 ** (stage - 1), 64 // 2 ** (stage + 1)
    assert [tuple(each.shape[1:]) for each in maps] == [(channels, size, size)] * 2
    assert model(make_batch()).shape == (2, model.feature_dim)


def test_gates_are_weights_that_add_up_to_one_and_leave_a_missing_sensor_out():
    model = FeatureFusion(SENSORS, width=NARROW, how="gate", modality_dropout=0.3).eval()
    gates = model.gates(make_batch(size=64))
    assert set(gates) == {"s2", "s1"} and gates["s2"].shape == (2, 8, 8)
    torch.testing.assert_close(gates["s2"] + gates["s1"], torch.ones(2, 8, 8))
    alone = model.gates(without(make_batch(size=64), "s2"))
    assert (alone["s1"] == 1).all() and (alone["s2"] == 0).all()
    with pytest.raises(ValueError, match="no gates"):
        FeatureFusion(SENSORS, width=NARROW).gates(make_batch())


@pytest.mark.parametrize("options", [{"stage": 0}, {"stage": 5}, {"how": "product"}], ids=str)
def test_feature_fusion_refuses_other_words(options):
    with pytest.raises(ValueError, match=r"stage|how"):
        FeatureFusion(SENSORS, width=NARROW, **options)


def test_film_starts_as_the_plain_resnet_and_can_be_moved_by_the_vectors():
    model = FiLMFusion({"s2": S2_BANDS, "season": ()}, width=NARROW).eval()
    batch = make_batch()
    torch.testing.assert_close(model(batch), model.resnet(Normalize("s2", S2_BANDS)(batch["s2"])), rtol=1e-3, atol=1e-4)
    torch.nn.init.normal_(model.modulators[1][-1].weight)
    flipped = model({**batch, "season": batch["season"].flip(0)})
    assert not torch.allclose(model(batch), flipped, rtol=1e-2, atol=1e-3)
    with pytest.raises(BandError, match="FiLM needs one"):
        FiLMFusion({"s2": S2_BANDS})


def networks(multi=False):
    torch.manual_seed(1)
    made = {}
    for key, bands in SENSORS.items():
        encoder = EarlyFusion({key: bands}, width=NARROW)
        made[key] = Network(encoder, {"y": ClassificationHead(encoder.feature_dim, ("a", "b", "c"))})
    return made


@pytest.mark.parametrize("multi", [False, True])
def test_decision_fusion_averages_probabilities(multi):
    alone = networks()
    joined = DecisionFusion(alone, multi_label=("y",) if multi else ()).eval()
    batch = make_batch()
    activate = torch.sigmoid if multi else lambda logits: logits.softmax(dim=1)
    expected = sum(activate(network(batch)["y"]) for network in alone.values()) / 2
    got = joined(batch)["y"]
    torch.testing.assert_close(torch.sigmoid(got) if multi else got.exp(), expected, rtol=1e-3, atol=1e-4)
    assert joined.inputs == as_modalities({"s2": S2_BANDS, "s1": ("VV", "VH")})
    only = joined(without(batch, "s2"))["y"]  # the network without its sensor has no vote
    torch.testing.assert_close(activate(only), activate(alone["s1"](batch)["y"]), rtol=1e-3, atol=1e-4)
    with pytest.raises(MissingModalityError, match="no network can decide"):
        joined({"season": torch.zeros(2)})


def test_decision_fusion_refuses_networks_that_answer_different_questions():
    made = networks()
    made["s1"] = Network(made["s1"].encoder, {"z": made["s1"].heads["y"]})
    with pytest.raises(ValueError, match="different targets"):
        DecisionFusion(made)
    with pytest.raises(ValueError, match="no network"):
        DecisionFusion({})


def test_decision_fusion_takes_the_votes_of_the_sensors_that_are_there():
    alone = networks()
    joined = DecisionFusion(alone).eval()
    batch = {**make_batch(), "s1_available": torch.tensor([True, False])}
    plain, only_s2 = joined(make_batch())["y"].exp(), alone["s2"](make_batch())["y"].softmax(dim=1)
    got = joined(batch)["y"].exp()
    torch.testing.assert_close(got[0], plain[0], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(got[1], only_s2[1], rtol=1e-3, atol=1e-4)
    with pytest.raises(MissingModalityError, match="some samples"):
        joined({**batch, "s2_available": torch.tensor([True, False])})


@each_fusion
def test_a_missing_modality_may_hold_nan(make):
    model = make(SENSORS, width=NARROW, modality_dropout=0.3).eval()
    batch = {**make_batch(), "s1_available": torch.tensor([True, False])}
    batch["s1"][1] = float("nan")
    assert torch.isfinite(model(batch)).all()


@pytest.mark.parametrize("options", [{"modality_dropout": 0.3}, {"missing": "mean"}], ids=str)
def test_late_fusion_without_any_image(options):
    model = LateFusion({"s2": S2_BANDS, "season": ()}, width=NARROW, **options).eval()
    assert torch.isfinite(model({"season": torch.tensor([0.2, 0.8])})).all()


def test_decision_fusion_takes_names_of_targets_not_letters():
    assert DecisionFusion(networks(), multi_label="y").multi_label == ("y",)


@pytest.mark.parametrize("fusion", [EarlyFusion, FeatureFusion, LateFusion])
@pytest.mark.parametrize("missing", ["error", "mean"])
@pytest.mark.parametrize("size", [32, 33])
def test_a_pyramid_has_the_features_of_forward_and_the_channels_it_says(fusion, missing, size):
    torch.manual_seed(0)
    encoder = fusion({"s2": S2_BANDS, "season": (), "s1": ("VV", "VH")}, width=NARROW, missing=missing).eval()
    batch = make_batch(size=size)
    if missing == "mean":
        batch["s1_available"] = torch.tensor([True, False])
    maps, features = encoder.pyramid(batch)
    torch.testing.assert_close(features, encoder(batch), rtol=1e-3, atol=1e-4)
    assert tuple(each.shape[1] for each in maps) == tuple(encoder.channels)
    sizes = [size, *(-(-size // 2**level) for level in range(1, 6))]
    assert [each.shape[2] for each in maps] == sizes


@pytest.mark.parametrize("stage", [1, 3, 4])
def test_feature_fusion_after_any_stage_has_one_map_of_each_size(stage):
    encoder = FeatureFusion({"s2": S2_BANDS, "s1": ("VV", "VH")}, width=NARROW, stage=stage).eval()
    maps, _ = encoder.pyramid(make_batch(size=32))
    assert [tuple(each.shape[1:3]) for each in maps] == list(zip(encoder.channels, (32, 16, 8, 4, 2, 1), strict=True))


def test_a_pyramid_needs_an_image():
    with pytest.raises(BandError, match="no image among the inputs"):
        LateFusion({"season": ()}).pyramid(make_batch())

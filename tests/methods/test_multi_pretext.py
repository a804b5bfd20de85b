import math

import pytest
import torch
from torch.utils.data import Dataset

from bengelib.bands import CLIMATE_ZONE_SYMBOLS, IGNORE_INDEX, LAND_COVER_NAMES, S1, S1_BANDS, S2_BANDS, WEATHER
from bengelib.data.dataset import BENGE
from bengelib.engine import seed_everything
from bengelib.errors import ArgumentError, BandError, MissingModalityError
from bengelib.heads import ClassificationHead, Network
from bengelib.methods.convnext import ConvNeXtEncoder
from bengelib.methods.multi_pretext import PRETEXTS, MultiPretext, PretextValues, on_circle, pretexts_of
from bengelib.modalities import MODALITIES, Modality, require_same
from bengelib.probe import extract_features
from bengelib.tasks import Classification
from bengelib.views import Views
from bengelib.weighting import UncertaintyWeights
from tests.test_fusion import make_batch
from tests.training import fit_with


def full_batch(count=2, size=32):
    """A batch that has every target; stride 8 cuts its images into 16 squares."""
    batch = make_batch(count, size)
    batch["land_cover"] = torch.randint(0, 11, (count, size, size))
    batch["climate_zone"] = torch.arange(count) % 12
    return batch


def small(targets=None, inputs=None, **options):
    seed_everything(0)
    encoder = ConvNeXtEncoder(inputs or {"s2": S2_BANDS}, stem=1)
    return MultiPretext(encoder, targets, width=8, **options)


def squares(image, square=8):
    """(B, C, H, W) to (B, N, square, square, C), the long way round."""
    rows, columns = image.shape[-2] // square, image.shape[-1] // square
    parts = [
        image[:, :, square * row : square * (row + 1), square * column : square * (column + 1)]
        for row in range(rows)
        for column in range(columns)
    ]
    return torch.stack(parts, dim=1).permute(0, 1, 3, 4, 2)


def test_all_that_is_known_of_a_patch_is_a_target(fake_tree):
    targets = tuple(PRETEXTS)
    sample = BENGE(fake_tree, "train", modalities=("s2",), targets=tuple(key for key in targets if key != "s2"))[0]
    assert pretexts_of(sample) == PRETEXTS
    model = small().eval()
    outputs = model({key: value[None] for key, value in sample.items() if isinstance(value, torch.Tensor)})
    for task in model.tasks():
        assert task.loss(outputs, {}) > 0, task.target
    assert list(pretexts_of({"season": 1, "s1": 2})) == ["s1", "season"]


def test_truth_and_predictions_have_one_shape():
    outputs = small()(full_batch())
    for key in ("s2", "s1", "dem", "weather", "season", "lonlat"):
        assert outputs[key].shape == outputs[f"{key}/truth"].shape, key
    assert outputs["s2"].shape == (2, 16, 64 * 12) and outputs["dem"].shape == (2, 16, 64)
    assert outputs["land_cover"].shape == (2, 11, 16, 64) and outputs["land_cover/truth"].shape == (2, 16, 64)
    assert outputs["climate_zone"].shape == (2, 12) and outputs["climate_zone/truth"].tolist() == [0, 1]
    assert [tuple(outputs[key].shape) for key in ("weather", "season", "lonlat")] == [(2, 5), (2, 2), (2, 4)]
    assert outputs["visible"].shape == (2, 4, 4) and outputs["features"].shape == (2, 320)
    assert (outputs["visible"].sum(dim=(1, 2)) == 6).all()  # 0.6 of 16 are hidden


def test_only_hidden_squares_count():
    batch = full_batch()
    outputs = small()(batch)
    hidden = ~outputs["visible"].flatten(1)
    assert torch.equal(~outputs["s1/truth"].isnan(), hidden[..., None].expand(-1, -1, 128))
    assert torch.equal(outputs["land_cover/truth"] != IGNORE_INDEX, hidden[..., None].expand(-1, -1, 64))
    mean, std = (torch.tensor([S1[band][place] for band in S1_BANDS]) for place in (0, 1))
    expected = squares((batch["s1"] - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)).flatten(2)
    torch.testing.assert_close(outputs["s1/truth"][hidden], expected[hidden])
    labels = squares(batch["land_cover"][:, None]).flatten(2)
    assert torch.equal(outputs["land_cover/truth"][hidden], labels[hidden])
    scaled = outputs["s2/truth"][hidden]
    torch.testing.assert_close(scaled.mean(dim=1), torch.zeros(len(scaled)), atol=1e-5, rtol=0)
    torch.testing.assert_close(scaled.std(dim=1), torch.ones(len(scaled)), atol=1e-4, rtol=0)


def test_logits_of_a_pixel_stand_where_its_label_does():
    """A head that answers each pixel with its number has to meet the labels that say it."""
    model = small({"land_cover": ("a", "b", "c")})
    size = 64
    with torch.no_grad():
        model.last["land_cover"].weight.zero_()
        chosen = torch.arange(size) % 3
        model.last["land_cover"].bias.copy_(10 * torch.nn.functional.one_hot(chosen, 3).flatten())
    batch = full_batch()
    one = chosen.view(8, 8)
    batch["land_cover"] = one.repeat(4, 4).expand(2, -1, -1).clone()
    (task,) = model.tasks()
    outputs = model(batch)
    assert task.loss(outputs, batch) < 1e-3
    batch["land_cover"] = one.T.repeat(4, 4).expand(2, -1, -1).clone()
    assert task.loss(model(batch), batch) > 1


def test_losses_are_means_over_what_is_hidden():
    batch, model = full_batch(), small()
    outputs = model(batch)
    hidden = ~outputs["visible"].flatten(1)
    errors = (outputs["s1"] - outputs["s1/truth"])[hidden]
    losses = {task.target: task.loss(outputs, batch) for task in model.tasks()}
    torch.testing.assert_close(losses["s1"], errors.square().mean())
    logits = outputs["land_cover"].permute(0, 2, 3, 1)[hidden].flatten(0, 1)
    labels = outputs["land_cover/truth"][hidden].flatten()
    torch.testing.assert_close(losses["land_cover"], torch.nn.functional.cross_entropy(logits, labels))


def test_sanity_values():
    """Answers of 0: 1 for squares of Sentinel-2, log K for K classes, and half the squared length for angles."""
    batch, model = full_batch(), small()
    outputs = model(batch)
    zeros = {key: value if "/" in key else torch.zeros_like(value) for key, value in outputs.items()}
    losses = {task.target: float(task.loss(zeros, batch)) for task in model.tasks()}
    assert losses["s2"] == pytest.approx(1, abs=2e-3)  # (n - 1) / n, of n = 768 numbers
    assert losses["land_cover"] == pytest.approx(math.log(11), rel=1e-5)
    assert losses["climate_zone"] == pytest.approx(math.log(12), rel=1e-5)
    assert losses["season"] == losses["lonlat"] == pytest.approx(0.5, rel=1e-5)


def test_places_and_seasons_are_on_a_circle():
    lonlat = torch.tensor([[180.0, 90.0], [-180.0, -90.0], [90.0, 30.0]])
    expected = torch.tensor([[0.0, -1, 1, 0], [0, -1, -1, 0], [1, 0, 0.5, 0.8660254]])
    torch.testing.assert_close(on_circle("lonlat", lonlat), expected, atol=1e-6, rtol=0)
    seasons = torch.tensor([0.0, 0.6, 1.0])
    torch.testing.assert_close(on_circle("season", seasons), torch.tensor([[0, 1], [0.6, 0.8], [1, 0]]))


def test_hidden_squares_are_drawn_anew_in_training_only():
    model, batch = small(), full_batch()
    masks = [model(batch)["visible"] for _ in range(2)]
    assert not torch.equal(*masks)
    masks = [model.eval()(batch)["visible"] for _ in range(2)]
    assert torch.equal(*masks)


def test_what_is_missing_does_not_count():
    whole, model = full_batch(), small().eval()
    batch = {**whole, "s1": whole["s1"].clone(), "weather": whole["weather"].clone()}
    batch["s1"][0] = torch.nan
    batch["weather"][1, 2] = torch.nan
    batch["dem_available"] = torch.tensor([False, True])
    batch["climate_zone"] = torch.tensor([IGNORE_INDEX, 3])
    batch["land_cover_available"] = torch.tensor([True, False])
    del batch["season"]
    outputs, reference = model(batch), model(whole)
    for key in ("s1", "dem"):
        assert outputs[f"{key}/truth"][0].isnan().all()
        assert torch.equal(outputs[f"{key}/truth"][1].isnan(), reference[f"{key}/truth"][1].isnan())
    assert outputs["weather/truth"].isnan().sum() == 1
    assert (outputs["land_cover/truth"][1] == IGNORE_INDEX).all()
    losses = {task.target: task.loss(outputs, batch) for task in model.tasks()}
    assert all(loss.isfinite() for loss in losses.values())
    torch.testing.assert_close(
        losses["climate_zone"], torch.nn.functional.cross_entropy(outputs["climate_zone"][1:], torch.tensor([3]))
    )
    labelled = {task.target: int(task.labelled(batch)) for task in model.tasks()}
    assert labelled["season"] == 0 and labelled["dem"] == 1 and labelled["climate_zone"] == 1
    assert labelled["land_cover"] == 32 * 32
    assert losses["season"] == 0
    sum(losses.values()).backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    assert all(gradient is None or gradient.isfinite().all() for gradient in gradients)


def test_uncertainty_weights_are_those_of_mmearth():
    """exp(-s) L + s for each, up to a half: at the optimum s = log L, the value is 1 + log L."""
    names = ("s2", "climate_zone", "season")
    weighting = UncertaintyWeights(names, squared=names)
    losses = {"s2": torch.tensor(0.7), "climate_zone": torch.tensor(2.0), "season": torch.tensor(0.0)}
    assert weighting(losses).item() == pytest.approx(sum(losses.values()).item() / 2)
    weighting.log_variance.data = torch.tensor([math.log(0.7), math.log(2.0), 0.3])
    total = weighting(losses)
    assert total.item() == pytest.approx((1 + math.log(0.7) + 1 + math.log(2)) / 2)
    total.backward()
    torch.testing.assert_close(weighting.log_variance.grad, torch.zeros(3))
    weighting.log_variance.data.zero_()
    weighting.zero_grad()
    weighting(losses).backward()
    torch.testing.assert_close(weighting.log_variance.grad, torch.tensor([1 - 0.7, 1 - 2.0, 0]) / 2)


class Slopes(Dataset):
    """Images of one slope, whose direction is the season, the climate and the weather."""

    s2_bands = S2_BANDS

    def __init__(self, count=32):
        self.angles = torch.linspace(0, math.pi / 2, count)

    def __len__(self):
        return len(self.angles)

    def __getitem__(self, index):
        angle, place = self.angles[index], torch.linspace(-1, 1, 16)
        slope = angle.cos() * place[:, None] + angle.sin() * place
        zone = int(angle > math.pi / 4)
        return {
            "s2": (0.1 + 0.05 * slope).expand(12, -1, -1),
            "land_cover": (slope > 0).long(),
            "climate_zone": torch.tensor(zone),
            "weather": torch.stack([283 + 9 * angle, *torch.zeros(4)]),
            "season": angle.sin(),
            "patch_id": str(index),
        }


def test_it_trains_through_fit_and_leaves_a_backbone():
    data = Slopes()
    targets = pretexts_of(data[0])
    assert list(targets) == ["s2", "land_cover", "climate_zone", "weather", "season"]
    model = small({**targets, "land_cover": ("low", "high"), "weather": ("temperature",)}, ratio=0.5)
    tasks = model.tasks()
    weighting = UncertaintyWeights(model.targets, squared=model.targets, rate=5)
    augment = Views(16, scale=(1, 1), turn=False, gain=0, offset=0, blur=0, noise=0.05, speckle=0)
    options = {"epochs": 5, "lr": 3e-3, "batch_size": 8, "augment": augment, "weighting": weighting}
    history = fit_with(model, tasks, data, progress=False, **options).frame()
    for target in targets:
        assert history[f"train/{target}/loss"].iloc[-1] < history[f"train/{target}/loss"].iloc[0], target
    assert len({round(weight, 6) for weight in weighting.weights.values()}) == len(targets)  # all moved, all otherwise
    encoder = model.encoder
    assert extract_features(encoder, data).shape == (32, 320)
    network = Network(encoder, {"climate_zone": ClassificationHead(320, ["a", "b"])})
    fit_with(network, [Classification("climate_zone", ["a", "b"])], data, epochs=1, progress=False)


def test_wrong_targets_are_refused():
    with pytest.raises(BandError, match=r"\['labels'\]"):
        small({"labels": ()})
    with pytest.raises(BandError, match="no targets"):
        small({})
    with pytest.raises(BandError, match="the target gives image"):
        small({"s2": ("B02", "B03")})
    with pytest.raises(BandError, match="B99"):
        small({"s2": S2_BANDS, "s1": ("B99",)})
    with pytest.raises(BandError, match=r"reads \['season'\], which nothing hides"):
        small({"s2": S2_BANDS, "season": ()}, inputs={"s2": S2_BANDS, "season": ()})
    with pytest.raises(ArgumentError, match="ratio"):
        small(ratio=60)
    with pytest.raises(ArgumentError, match="width"):
        MultiPretext(ConvNeXtEncoder({"s2": S2_BANDS}), width=0)


def test_a_mask_that_hides_everything_is_refused():
    with pytest.raises(ValueError, match=r"leaves 0 visible; use larger images"):
        small(ratio=0.99)(full_batch())


def test_wrong_batches_are_refused():
    batch = full_batch()
    with pytest.raises(MissingModalityError, match="s2"):
        small()({key: value for key, value in batch.items() if key != "s2"})
    with pytest.raises(BandError, match=r"dem has \(16, 16\) pixels, s2 \(32, 32\)"):
        small()({**batch, "dem": batch["dem"][:, :, ::2, ::2]})
    model = small()
    wrong = {**batch, "climate_zone": torch.tensor([0, len(CLIMATE_ZONE_SYMBOLS)])}
    task = model.tasks()[4]
    with pytest.raises(BandError, match="label 12"):
        task.loss(model(wrong), wrong)
    with pytest.raises(MissingModalityError, match="MultiPretext"):
        PretextValues("s1").loss({"s1": torch.zeros(2)}, batch)


def test_any_described_image_is_a_target():
    camera = Modality("camera", "image", ("red", "green"), (0.5, 0.4), (0.1, 0.2), ("1", "1"))
    model = small({"camera": camera}, inputs={"camera": camera}, per_square=())
    batch = {"camera": torch.rand(2, 2, 32, 32)}
    outputs = model(batch)
    expected = squares(
        (batch["camera"] - torch.tensor([0.5, 0.4])[:, None, None]) / torch.tensor([0.1, 0.2])[:, None, None]
    )
    hidden = ~outputs["visible"].flatten(1)
    torch.testing.assert_close(outputs["camera/truth"][hidden], expected.flatten(2)[hidden])
    model.tasks()[0].loss(outputs, batch).backward()


def test_the_dataset_has_to_have_the_bands_of_the_targets():
    model = small({"s2": S2_BANDS, "s1": ("VH", "VV"), "land_cover": LAND_COVER_NAMES, "weather": tuple(WEATHER)})
    assert {key: modality.bands for key, modality in model.inputs.items()} == {
        "s2": S2_BANDS, "s1": ("VH", "VV"), "weather": tuple(WEATHER)
    }  # fmt: skip
    with pytest.raises(BandError, match=r"s1 as image of \('VH', 'VV'\)"):
        require_same(model.inputs, MODALITIES)

import warnings
from copy import deepcopy
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch import nn
from torch.utils.data import Dataset, Subset

from bengelib.data.images import image_modality
from bengelib.data.labelled import label_subsets
from bengelib.engine import Trainer
from bengelib.errors import BandError, SplitError
from bengelib.fusion import EarlyFusion, FeatureFusion, LateFusion
from bengelib.heads import ClassificationHead, Network
from bengelib.mae import ViTEncoder
from bengelib.probe import MultiStageEncoder, extract_features, fit_logistic, knn_probe
from bengelib.recipes.finetuning import (
    FINE_TUNING,
    FROM_SCRATCH,
    AveragedNetwork,
    FineTuning,
    ScaledHead,
    finetune,
    for_enlarged,
    for_scratch,
    logits_of,
    repeat_to,
    with_chosen_lr,
)
from bengelib.recipes.label_efficiency import STAGES, curves, enlargement, label_efficiency

CLASSES = ("red", "green", "blue")
QUICK = FineTuning(steps=12, epochs=0, batch_size=8, lrs=(3e-3,), average=0.5)


class Colours(Dataset):
    """Noisy images of which one channel is brighter: the class. `tags` (3,) says which channels are bright."""

    def __init__(self, count=30, size=32, seed=0):
        random = np.random.default_rng(seed)
        self.labels = np.arange(count) % 3
        self.tags = np.eye(3, dtype=np.int64)[self.labels]
        self.tags[::4, 0] = 1
        images = random.uniform(0, 0.5, (count, 3, size, size)) + 0.4 * self.tags[:, :, None, None]
        self.images = torch.tensor(images, dtype=torch.float32)
        self.read = set()

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        self.read.add(index)
        label = torch.tensor(self.labels[index])
        return {"image": self.images[index], "label": label, "tags": torch.tensor(self.tags[index]).float()}


@pytest.fixture
def data():
    return Colours()


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return EarlyFusion({"image": image_modality()}, width=0.125)


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(before, model):
    after = model.state_dict()
    return before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


# ------------------------------------------------------------------------------------------------------------- features


def test_extraction_moves_nothing(data, encoder):
    encoder.train()
    before = state(encoder)
    features = extract_features(encoder, data, stages=(2, 3), tta=2, batch_size=7, precision="no")
    assert same(before, encoder) and encoder.training
    assert all(parameter.grad is None and parameter.requires_grad for parameter in encoder.parameters())
    assert not any(module._forward_hooks for module in encoder.modules())
    assert features.shape == (30, 16 + 32 + 64) and features.dtype == np.float32


def test_features_are_those_of_the_encoder_in_evaluation_mode(data, encoder):
    features = extract_features(encoder, data, stages=(3,), batch_size=7, precision="no")
    encoder.eval()
    with torch.no_grad():
        maps = encoder.resnet.pyramid(encoder.read.stack({"image": data.images}))
    assert np.allclose(features[:, :32], maps[3].mean(dim=(2, 3)), atol=1e-4)
    assert np.allclose(features[:, 32:], maps[4].mean(dim=(2, 3)), atol=1e-4)


def test_features_do_not_depend_on_the_batch_size(data, encoder):
    whole, parts = (extract_features(encoder, data, batch_size=size, precision="no") for size in (30, 1))
    assert np.allclose(whole, parts, atol=1e-4)


def test_all_eight_turns_make_features_that_no_turn_changes(data, encoder):
    features = extract_features(encoder, data, tta=8, precision="no")
    data.images = data.images.flip(-1).rot90(1, dims=(-2, -1))
    assert np.allclose(extract_features(encoder, data, tta=8, precision="no"), features, atol=1e-4)
    assert not np.allclose(extract_features(encoder, data, tta=1, precision="no"), features, atol=1e-3)


def test_features_of_several_modalities():
    class Patches(Dataset):
        s2_bands, s1_bands = ("B04", "B03"), ("VV",)

        def __len__(self):
            return 3

        def __getitem__(self, index):
            return {"s2": torch.rand(2, 32, 32), "s1": torch.rand(1, 32, 32), "label": torch.tensor(0)}

    encoder = EarlyFusion({"s2": ("B04", "B03"), "s1": ("VV",)}, width=0.125)
    assert extract_features(encoder, Patches(), stages=(3,), precision="no").shape == (3, 96)


def test_a_staged_encoder_knows_how_long_its_features_are(encoder):
    batch = {"image": torch.rand(2, 3, 32, 32)}
    for stages, length in (((), 64), ((2, 3), 112), ((1, 4), 64 + 8 + 64), ((0, 1), 64 + 8 + 8)):
        for texture in (False, True):
            staged = MultiStageEncoder(encoder, stages, texture).eval()
            length_of_both = 64 + (1 + texture) * (length - 64)
            assert staged(batch).shape == (2, length_of_both) and staged.feature_dim == length_of_both
            assert not any(module._forward_hooks for module in encoder.modules())
    with pytest.raises(ValueError, match="stages=5"):
        MultiStageEncoder(encoder, (0, 5))


def test_enlarged_images_give_the_features_of_larger_images(data, encoder):
    larger = torch.nn.functional.interpolate(data.images[:4].float(), scale_factor=2, mode="bilinear")
    for stages in ((), (0, 2)):
        wanted = MultiStageEncoder(encoder, stages).eval()({"image": larger})
        found = extract_features(encoder, Subset(data, range(4)), stages=stages, enlarge=2, precision="no")
        np.testing.assert_allclose(found, wanted.detach().numpy(), rtol=1e-3, atol=1e-4)
    assert [enlargement(size) for size in (32, 64, 65, 120)] == [2, 2, 1, 1]


def test_texture_is_the_deviation_over_the_image_and_even_maps_can_be_learned_from(data, encoder):
    features = extract_features(encoder, data, stages=(0, 2), texture=True, precision="no")
    with torch.no_grad():
        maps = encoder.eval().resnet.pyramid(encoder.read.stack({"image": data.images}))
    for level, start, channels in ((0, 0, 8), (2, 16, 16)):
        both = features[:, start : start + channels], features[:, start + channels : start + 2 * channels]
        assert np.allclose(both[0], maps[level].mean(dim=(2, 3)), atol=1e-4)
        assert np.allclose(both[1], maps[level].std(dim=(2, 3), correction=0), atol=2e-3)
    even = torch.full((2, 3, 32, 32), 0.5)
    MultiStageEncoder(encoder, (0, 1), texture=True)({"image": even}).sum().backward()
    assert all(torch.isfinite(each.grad).all() for each in encoder.parameters() if each.grad is not None)


@pytest.mark.parametrize("make", [EarlyFusion, FeatureFusion, LateFusion, ViTEncoder])
def test_every_encoder_can_be_staged(make):
    batch = {"s2": torch.rand(2, 2, 32, 32), "s1": torch.rand(2, 1, 32, 32)}
    encoder = make({"s2": ("B04", "B03"), "s1": ("VV",)}, **({} if make is ViTEncoder else {"width": 0.125}))
    staged = MultiStageEncoder(encoder, (1, 2, 3)).eval()
    with torch.no_grad():
        features = staged(batch)
        assert features.shape == (2, staged.feature_dim)
        torch.testing.assert_close(features[:, -encoder.feature_dim :], encoder(batch), rtol=1e-4, atol=1e-5)


def test_features_that_are_not_finite_are_refused(data, encoder):
    data.images[4, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="features of 1 of 30 samples are not finite, the first being sample 4"):
        extract_features(encoder, data, precision="no")


def test_wrong_extractions_are_refused(data, encoder):
    with pytest.raises(ValueError, match="tta=9"):
        extract_features(encoder, data, tta=9)
    with pytest.raises(ValueError, match="stages"):
        extract_features(encoder, data, stages=(5,))


# --------------------------------------------------------------------------------------------------------------- probes


def clouds(classes=3, count=60, distance=3.0, seed=0):
    """Gaussian clouds in eight dimensions of very different scales."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    centres = np.random.default_rng(7).normal(size=(classes, 8)) * distance
    return (centres[labels] + random.normal(size=(count, 8))) * np.logspace(-3, 3, 8) + 5, labels


def test_logistic_probe_is_scikit_learns_on_standardised_features():
    features, labels = clouds(distance=1.0)
    test, _ = clouds(distance=1.0, seed=1)
    probe = fit_logistic(features, labels)
    mean, std = features.mean(axis=0), features.std(axis=0)
    oracle = LogisticRegression(C=probe.C, max_iter=1000, tol=1e-3).fit((features - mean) / std, labels)
    assert np.allclose(probe.scores(test), oracle.decision_function((test - mean) / std), atol=1e-6)
    assert (probe.predict(test) == oracle.predict((test - mean) / std)).mean() > 0.95


@pytest.mark.parametrize("classes", [2, 3])
def test_probes_tell_clouds_apart(classes):
    features, labels = clouds(classes)
    test, truth = clouds(classes, seed=1)
    assert (fit_logistic(features, labels, classes).predict(test) == truth).mean() > 0.95
    standard = (test - features.mean(0)) / features.std(0)
    assert (knn_probe((features - features.mean(0)) / features.std(0), labels, standard, 5) == truth).mean() > 0.9


def test_regularisation_is_chosen_by_cross_validation():
    features, labels = clouds(distance=3.0)
    noise = np.random.default_rng(0).permutation(labels)  # nothing to learn: the strongest regularisation is best
    assert fit_logistic(features, noise).C < fit_logistic(features, labels).C


def test_one_label_a_class_is_enough():
    features, labels = clouds(count=3)
    probe = fit_logistic(features, labels)
    assert probe.C == 1e-2 and (probe.predict(features) == labels).all()


def test_a_class_without_a_label_is_never_predicted():
    features, labels = clouds()
    probe = fit_logistic(features[labels != 1], labels[labels != 1], classes=4)
    assert probe.scores(features).shape == (60, 4)
    assert set(probe.predict(features)) == {0, 2}


def test_several_labels_are_one_regression_a_class():
    features, labels = clouds()
    several = np.stack([labels == 0, labels != 2, np.ones(60), np.zeros(60)], axis=1).astype(int)
    probe = fit_logistic(features, several)
    scores = probe.predict(features)
    assert scores.shape == (60, 4) and probe.multi_label
    assert ((scores > 0) == several).mean() > 0.97
    assert (scores[:, 2] > 20).all() and (scores[:, 3] < -20).all()  # a class that all or none have
    neighbours = knn_probe(features, several, features, 5)
    assert neighbours.shape == (60, 4) and ((neighbours >= 0) & (neighbours <= 1 + 1e-9)).all()


def test_neighbours_are_scikit_learns():
    random = np.random.default_rng(0)
    features, labels, test = random.normal(size=(40, 5)), random.integers(0, 3, 40), random.normal(size=(20, 5))
    oracle = KNeighborsClassifier(7, metric="cosine", weights=lambda distance: np.maximum(1 - distance, 1e-6))
    assert (knn_probe(features, labels, test, 7) == oracle.fit(features, labels).predict(test)).mean() >= 0.95
    assert len(knn_probe(features[:3], labels[:3], test, 20)) == 20


def test_constant_features_do_no_harm():
    features, labels = clouds()
    features[:, 3] = 1e6
    assert np.isfinite(fit_logistic(features, labels).scores(features)).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda features, labels: (np.full_like(features, np.nan), labels), "not finite"),
        (lambda features, labels: (features[1:], labels), "do not fit"),
        (lambda features, labels: (features, labels * 0), "needs two classes"),
        (lambda features, labels: (features, labels - 1), "labels run from -1"),
    ],
)
def test_wrong_features_and_labels_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        fit_logistic(*change(*clouds()))
    with pytest.raises(ValueError, match="neighbours"):
        knn_probe(*clouds(), clouds()[0], neighbours=0)


# -------------------------------------------------------------------------------------------------------------- subsets


def test_subsets_are_nested_stratified_and_without_replacement():
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [700, 200, 100]))
    subsets = label_subsets(labels, (1.0, 0.02, 0.1, 0.5))
    assert list(subsets) == [0.02, 0.1, 0.5, 1.0]
    before: set[int] = set()
    for fraction, chosen in subsets.items():
        assert len(chosen) == len(set(chosen.tolist())) == round(fraction * 1000)
        assert before <= set(chosen.tolist())
        before = set(chosen.tolist())
        assert np.abs(np.bincount(labels[chosen]) - fraction * np.array([700, 200, 100])).max() <= 1
    assert np.array_equal(subsets[1.0], np.arange(1000))


def test_other_seeds_are_other_draws():
    labels = np.arange(200) % 4
    first, again, other = (label_subsets(labels, [0.1], seed)[0.1] for seed in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_the_numbers_of_eurosat():
    labels = np.repeat(np.arange(10), [2400, 2400, 2400, 2000, 2000, 1600, 2000, 2400, 2000, 2400])
    assert len(label_subsets(labels, [0.01])[0.01]) == 216


def test_the_curve_begins_where_every_class_has_a_label():
    labels = np.repeat([0, 1], [95, 5])
    with pytest.warns(UserWarning, match=r"0\.01 \(1 of 100 samples\) 1 classes have no label.*begins at 0\.1"):
        subsets = label_subsets(labels, [0.01, 0.02, 0.1, 1.0])
    assert list(subsets) == [0.1, 1.0]
    with pytest.raises(SplitError, match="no label"):
        label_subsets(labels, [0.01])
    with pytest.raises(SplitError, match="no label"):
        label_subsets(labels, [0.01, 1.0], strict=True)


def test_subsets_of_several_labels():
    random = np.random.default_rng(0)
    labels = (random.random((400, 4)) < [0.5, 0.3, 0.1, 0.03]).astype(int)
    chosen = label_subsets(labels, [0.1, 1.0])[0.1]
    assert len(chosen) == 40 and labels[chosen].any(axis=0).all()
    rare = labels[:, 3].sum() * 0.1
    assert abs(labels[chosen, 3].sum() - rare) <= 1


@pytest.mark.parametrize("fractions", [[0.0], [1.5], [], [-0.1]])
def test_wrong_fractions_are_refused(fractions):
    with pytest.raises(ValueError, match="fractions"):
        label_subsets(np.arange(4) % 2, fractions)


# ---------------------------------------------------------------------------------------------------------- fine-tuning


def test_fine_tuning_leaves_the_encoder_untouched_and_reads_only_the_chosen(data, encoder):
    before = state(encoder)
    chosen = np.array([0, 1, 2, 5, 6, 10])
    network = finetune(
        encoder, data, "label", CLASSES, data.labels, chosen=chosen, settings=QUICK, precision="no", progress=False
    )
    assert same(before, encoder) and encoder.training
    assert data.read == set(chosen.tolist())
    assert not network.training and all(parameter.requires_grad for parameter in network.parameters())
    assert not torch.equal(network.encoder.encoder.resnet.conv1.weight, encoder.resnet.conv1.weight)


def test_a_warm_head_begins_with_what_the_probe_says(data, encoder):
    chosen = np.arange(12)
    settings = FineTuning(steps=1, epochs=0, batch_size=8, lrs=(1e-12,), weight_decay=0, average=0.0)
    options = dict(chosen=chosen, precision="no", progress=False)
    for stages, enlarge in (((), 1), ((2, 3), 1), ((2, 3), 2)):
        settings = replace(settings, stages=stages, enlarge=enlarge)
        network = finetune(encoder, data, "label", CLASSES, data.labels, settings=settings, **options)
        inner = network.encoder.encoder if stages else network.encoder
        inner.load_state_dict(inner.state_dict() | dict(encoder.named_buffers()))  # the step has moved statistics
        features = extract_features(encoder, data, stages=stages, enlarge=enlarge, precision="no")
        known = fit_logistic(features[chosen], data.labels[chosen], 3).scores(features)
        logits = logits_of(network, data, "label", precision="no")
        assert np.allclose(logits, known, atol=0.01 * np.abs(known).max())


def test_larger_images_take_fewer_steps():
    settings = for_enlarged(FineTuning(steps=800, tuning_steps=600), 2)
    assert (settings.enlarge, settings.steps, settings.tuning_steps) == (2, 200, 150)
    assert for_enlarged(FineTuning(steps=3), 2).steps == 1 and for_enlarged(FineTuning(), 1) == FineTuning()


def test_random_weights_begin_with_no_probe(data, encoder, monkeypatch):
    monkeypatch.setattr(
        "bengelib.recipes.finetuning.fit_logistic", lambda *_, **__: pytest.fail("there is nothing to probe")
    )
    settings = for_scratch(QUICK)
    finetune(encoder, data, "label", CLASSES, data.labels, settings=settings, precision="no", progress=False)


def test_fine_tuning_repeats_and_learns(data, encoder):
    arguments = ("label", CLASSES, data.labels)
    options = dict(settings=replace(QUICK, steps=60), precision="no", progress=False)
    first, again = (finetune(encoder, data, *arguments, **options) for _ in range(2))
    assert same(state(first), again)
    logits = logits_of(first, Colours(seed=1), "label", tta=2, precision="no")
    assert (logits.argmax(axis=1) == data.labels).mean() > 0.7


def test_several_labels_are_fine_tuned(data, encoder):
    options = dict(settings=replace(QUICK, steps=60), precision="no", progress=False, seed=1)
    network = finetune(encoder, data, "tags", CLASSES, data.tags, **options)
    assert ((logits_of(network, data, "tags", precision="no") > 0) == data.tags).mean() > 0.8


def test_a_learning_rate_is_chosen_on_labelled_samples_only(data, encoder, monkeypatch):
    rates, train = [], Trainer.fit
    monkeypatch.setattr(Trainer, "fit", lambda *args, lr, **given: rates.append(lr) or train(*args, lr=lr, **given))
    chosen = label_subsets(data.labels, [0.5])[0.5]
    finetune(
        encoder,
        data,
        "label",
        CLASSES,
        data.labels,
        chosen=chosen,
        settings=FineTuning(steps=3, batch_size=8, epochs=0, lrs=(1e-5, 1e-3), warm_head=False),
        precision="no",
        progress=False,
    )
    assert rates[:2] == [1e-5, 1e-3] and rates[2] in rates[:2] and len(rates) == 3
    assert data.read <= set(chosen.tolist())


def test_the_middle_rate_is_taken_where_there_is_nothing_to_choose_on(data, encoder):
    settings = FineTuning(lrs=(1e-5, 1e-4, 1e-3))
    chosen = np.array([0, 1, 2])
    options = dict(chosen=chosen, settings=settings, precision="no", progress=False)
    assert with_chosen_lr(encoder, data, "label", CLASSES, data.labels, **options).lrs == (1e-4,)
    assert not data.read


def test_the_number_of_steps_is_exact():
    assert FineTuning(steps=600, epochs=6, batch_size=64).steps_for(216) == 600
    assert FineTuning(steps=600, epochs=6, batch_size=64).steps_for(21600) == 2025
    repeated = repeat_to(np.array([4, 7, 9]), 8, 0)
    assert len(repeated) == 8 and sorted(np.unique(repeated, return_counts=True)[1].tolist()) == [2, 3, 3]


def test_the_average_is_used_in_evaluation_and_follows_in_training():
    torch.manual_seed(0)
    network = Network(EarlyFusion({"image": image_modality()}, width=0.125), {"label": ClassificationHead(64, CLASSES)})
    model = AveragedNetwork(network, 0.9)
    batch = {"image": torch.rand(4, 3, 32, 32)}
    before = deepcopy(network).eval()(batch)["label"]
    with torch.no_grad():
        network.heads["label"].bias.add_(1)
    assert torch.equal(model.eval()(batch)["label"], before)
    model.train()
    assert torch.equal(model(batch)["label"], network(batch)["label"])
    assert torch.allclose(model.average.heads["label"].bias, network.heads["label"].bias)  # the first step
    assert not any(parameter.requires_grad for parameter in model.average.parameters())


def test_the_factor_of_the_head_multiplies_its_learning_rate():
    def moved(factor):
        torch.manual_seed(0)
        head = ScaledHead(4, CLASSES, factor)
        features = torch.randn(16, 4)
        before = head(features).detach()
        optimizer = torch.optim.AdamW(head.parameters(), lr=1e-4, weight_decay=0)
        nn.functional.cross_entropy(head(features), torch.arange(16) % 3).backward()
        optimizer.step()
        return before, (head(features) - before).detach()

    (start, once), (start_5, five) = moved(1.0), moved(5.0)
    assert torch.allclose(start, start_5, atol=1e-6)
    assert torch.allclose(5 * once, five, rtol=1e-2, atol=1e-5)
    head = ScaledHead(4, CLASSES, 5.0)
    head.set(np.ones((3, 4)), np.zeros(3))
    assert torch.allclose(head(torch.ones(1, 4)), torch.full((1, 3), 4.0))


def test_the_head_keeps_small_differences_of_large_features_under_mixed_precision():
    random = np.random.default_rng(0)
    features = torch.tensor(100 + 0.1 * random.normal(size=(40, 4)), dtype=torch.float32)
    labels = (features[:, 0] > 100).numpy().astype(int)
    probe = fit_logistic(features.numpy(), labels, 2)
    head = ScaledHead(4, ("low", "high"))
    head.set(probe.weight, probe.bias)
    with torch.autocast("cpu", torch.bfloat16):
        logits = head(features)
    assert np.allclose(logits.detach(), probe.scores(features.numpy()), atol=1e-2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"batch_size": 1},
        {"lrs": ()},
        {"lrs": (0.0,)},
        {"average": 1.0},
        {"smoothing": 1.0},
        {"stages": (5,)},
    ],
)
def test_settings_that_train_nothing_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        FineTuning(**wrong)


# --------------------------------------------------------------------------------------------------------------- curves


def efficiency(encoder, data, **options):
    test = Colours(18, seed=1)
    given = dict(fractions=(0.2, 1.0), tta=1, precision="no", progress=False, finetune_settings=QUICK)
    given |= {"scratch_settings": QUICK, **options}
    target = given.get("target", "label")
    labels, truth = (data.labels, test.labels) if target == "label" else (data.tags, test.tags)
    build = partial(EarlyFusion, {"image": image_modality()}, width=0.125)
    return label_efficiency(encoder, build, data, labels, test, truth, CLASSES, **given)


def test_rows_have_every_mode_fraction_and_seed(data, encoder):
    before = state(encoder)
    counts = []
    rows = efficiency(encoder, data, seeds=(0, 1), after_each=lambda so_far: counts.append(len(so_far)))
    assert counts == list(range(1, 19))  # after every row
    assert same(before, encoder)
    assert {(row["mode"], row["fraction"], row["seed"]) for row in rows} == {
        (mode, fraction, seed)
        for mode in ("frozen", "finetune", "scratch")
        for fraction in (0.2, 1.0)
        for seed in (0, 1, "all")
    }
    for row in rows:
        assert set(row) == {"mode", "fraction", "n_labels", "seed", "accuracy", "ci95"}
        assert row["n_labels"] == round(30 * row["fraction"])
        assert 0 <= row["ci95"][0] <= row["accuracy"] <= row["ci95"][1] <= 1
    of = {(row["mode"], row["fraction"], row["seed"]): row["accuracy"] for row in rows}
    assert of["frozen", 0.2, "all"] == pytest.approx((of["frozen", 0.2, 0] + of["frozen", 0.2, 1]) / 2, abs=1e-5)
    assert curves(rows)["scratch"][1.0].value == of["scratch", 1.0, "all"]


def test_all_modes_see_images_as_large(data, encoder, monkeypatch):
    seen, module = [], "bengelib.recipes.label_efficiency"
    monkeypatch.setattr(f"{module}.finetune", lambda *_, settings, **__: seen.append(settings) or encoder)
    monkeypatch.setattr(f"{module}.with_chosen_lr", lambda *_, settings, **__: settings)
    monkeypatch.setattr(f"{module}.logits_of", lambda *_, **__: np.zeros((18, 3)))
    efficiency(encoder, data, fractions=(1.0,), enlarge=2, finetune_settings=None, scratch_settings=None)
    assert seen == [replace(for_enlarged(each, 2), stages=STAGES, texture=True) for each in (FINE_TUNING, FROM_SCRATCH)]


def test_rows_of_several_labels_have_the_mean_average_precision(data, encoder):
    rows = efficiency(encoder, data, target="tags", modes=("frozen", "scratch"), fractions=(1.0,))
    assert [set(row) for row in rows] == [{"mode", "fraction", "n_labels", "seed", "map", "ci95"}] * 2
    assert list(curves(rows)) == ["frozen", "scratch"]


def test_frozen_reads_only_labelled_training_samples(data, encoder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        efficiency(encoder, data, modes=("frozen",), fractions=(0.2,))
    assert data.read == set(label_subsets(data.labels, [0.2])[0.2].tolist())


def test_groups_widen_the_interval(data, encoder):
    options = dict(modes=("frozen",), fractions=(0.2,), seeds=(3,))
    (alone,) = efficiency(encoder, data, **options)
    (grouped,) = efficiency(encoder, data, **options, groups=["a"] * 9 + ["b"] * 9)
    assert grouped["accuracy"] == alone["accuracy"]
    assert len({tuple(row["ci95"]) for row in (alone, grouped)}) == 2 or alone["ci95"][0] == alone["ci95"][1]


def test_wrong_questions_are_refused(data, encoder):
    with pytest.raises(BandError, match="froze"):
        efficiency(encoder, data, modes=("froze",))
    with pytest.raises(BandError, match="one seed"):
        efficiency(encoder, data, seeds=())
    with pytest.raises(ValueError, match="labels for 30 samples"):
        label_efficiency(
            encoder,
            partial(EarlyFusion, {"image": image_modality()}),
            data,
            data.labels[1:],
            data,
            data.labels,
            CLASSES,
        )

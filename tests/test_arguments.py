import numpy as np
import pytest
import torch
from torch.utils.data import Subset, TensorDataset

from bengelib.arguments import as_index, as_indices, check_share, real_number, whole_number
from bengelib.cli.bench_views import bench_views
from bengelib.clouds import paint_clouds
from bengelib.data.batches import batches, contents_of
from bengelib.data.dataset import BENGE
from bengelib.data.hide_labels import labelled_share
from bengelib.data.image_listing import hold_out
from bengelib.data.images import ImageFolder
from bengelib.data.labelled import label_subsets
from bengelib.data.loading import prepare
from bengelib.data.packed import PackedBENGE
from bengelib.data.packing import pack
from bengelib.data.transfer import Transfer
from bengelib.devices import choose_precision, make_accelerator
from bengelib.engine import Trainer, fit, seed_everything
from bengelib.errors import ArgumentError
from bengelib.fusion import EarlyFusion, FeatureFusion
from bengelib.heads import RegressionHead
from bengelib.intervals import bootstrap
from bengelib.mae import MaskedAutoencoder, ViTEncoder
from bengelib.methods.geolocation import place_clusters
from bengelib.methods.pairs import Pairs
from bengelib.probe import DihedralAverage, MultiStageEncoder, fit_logistic, knn_probe
from bengelib.recipes.finetuning import FineTuning
from bengelib.recipes.pretraining import Pretraining
from bengelib.resnet import ResNetEncoder
from bengelib.ssl import Contrast
from bengelib.tasks import Classification, Regression, Segmentation
from bengelib.transforms import Augment, random_crop
from bengelib.views import Views
from bengelib.weighting import DynamicWeightAverage, FixedWeights, GradNorm, UncertaintyWeights
from tests import fake_tree as fake

ZONES = Classification("climate_zone", "ab")
MASK = np.array([True, False, True, False, False, True])
MARKS = {  # masks that are no booleans
    "mask of bytes": MASK.astype(np.uint8),
    "mask as a list": MASK.astype(int).tolist(),
    "mask as a tensor": torch.tensor(MASK).long(),
    "mask of nothing": np.zeros(6, np.int64),
    "mask of all": np.ones(6, np.int8),
}


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """Six fake patches as a tree and as a pack."""
    root = fake.write_fake_tree(tmp_path_factory.mktemp("arguments") / "ben-ge-fake", 6)
    pack(root, progress=False)
    return BENGE(root), PackedBENGE(root)


@pytest.mark.parametrize(
    "indices",
    [MASK, MASK.tolist(), torch.tensor(MASK), [np.True_, np.False_], [0.0, 1.0], np.zeros((2, 2), int), ["0"], [-1], 3,
     *MARKS.values()],
    ids=["mask", "list", "tensor", "booleans", "floats", "two dimensions", "text", "negative", "scalar", *MARKS],
)  # fmt: skip
def test_what_are_no_indices_is_refused(trees, indices):
    with pytest.raises(ArgumentError):
        as_indices(indices, 6)
    for data in trees:
        with pytest.raises(ArgumentError):
            data.read_batch(indices)


@pytest.mark.parametrize("indices", [[0, 5], (0, 5), np.array([0, 5], np.uint8), torch.tensor([0, 5]), range(0, 6, 5)])
def test_what_are_indices_is_taken(trees, indices):
    assert as_indices(indices, 6).tolist() == [0, 5]
    for data in trees:
        assert data.read_batch(indices)["patch_id"] == [data.patch_ids[0], data.patch_ids[5]]
    assert as_indices([], 6).tolist() == []
    assert as_indices([1, 0], 2).tolist() == [1, 0] and as_indices([1, 0, 1, 1, 0], 6).tolist() == [1, 0, 1, 1, 0]
    with pytest.raises(IndexError):
        as_indices([6], 6)


@pytest.mark.parametrize("index", [True, np.True_, torch.tensor(True), 1.0, slice(0, 2), MASK, "1", None])
def test_what_is_no_index_is_refused(trees, index):
    for data in trees:
        with pytest.raises(ArgumentError):
            data[index]


def test_one_index_is_as_of_a_list():
    assert [as_index(index, 6) for index in (0, -1, np.int16(3), torch.tensor(2))] == [0, 5, 3, 2]
    for index in (6, -7):
        with pytest.raises(IndexError):
            as_index(index, 6)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_subset_of_a_mask_is_refused(trees, workers):
    plain = TensorDataset(torch.arange(6))
    for data in (*trees, plain):
        for indices in (MASK, MASK.tolist(), *MARKS.values()):
            for subset in (Subset(data, indices), Subset(Subset(data, range(6)), indices)):
                with pytest.raises(ArgumentError, match=r"mask.* np\.flatnonzero"):
                    next(batches(subset, 2, make_accelerator("no"), workers))
    with pytest.raises(IndexError):
        next(batches(Subset(plain, [7]), 2, make_accelerator("no"), 0))


def test_contents_follow_subsets():
    data = TensorDataset(torch.arange(6))
    assert contents_of(Subset(data, [1])) is None
    data.contents = np.array(list("abcabc"))
    assert contents_of(Subset(Subset(data, [5, 1, 0]), [0, 2])).tolist() == ["c", "a"]


def test_pairs_refuse_a_mask_of_partners(trees):
    with pytest.raises(ArgumentError):
        Pairs(trees[1], MASK)


def test_a_class_may_not_have_the_number_that_marks_the_unknown():
    for task in (Classification, Segmentation):
        with pytest.raises(ArgumentError, match=r"256 classes of 'label'; expected 255 at most"):
            task("label", [f"class {number}" for number in range(256)])
        assert len(task("label", [f"class {number}" for number in range(255)]).classes) == 255


def test_a_precision_that_a_processor_does_not_do_is_refused(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    with pytest.raises(ArgumentError, match=r"'fp16' needs a GPU"):
        choose_precision("fp16")
    assert choose_precision("bf16") == "bf16"


@pytest.mark.parametrize("name", ["LOCAL_RANK", "PMI_SIZE", "WORLD_SIZE"])
def test_variables_that_a_launcher_left_are_named(monkeypatch, name):
    for other in ("LOCAL_RANK", "RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(other, raising=False)
    before = make_accelerator("no").num_processes
    make_accelerator("no").state._reset_state(True)
    monkeypatch.setenv(name, "2" if name.endswith("SIZE") else "0")
    with pytest.raises(ArgumentError, match=rf"{name}=\d.*Unset {name}, or start with torchrun"):
        make_accelerator("no")
    monkeypatch.delenv(name)
    assert make_accelerator("no").num_processes == before == 1


def test_variables_that_change_what_is_computed_are_not_followed(monkeypatch):
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    words = r"ACCELERATE_GRADIENT_ACCUMULATION_STEPS=4, which is not followed \(.*no more negatives.*micro_batch\)"
    with pytest.warns(UserWarning, match=words):
        assert make_accelerator("no").gradient_accumulation_steps == 1
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1")
    assert make_accelerator("no").gradient_accumulation_steps == 1


@pytest.mark.parametrize("value", [20, 1.5, 0, -0.1, float("nan"), True, "0.2", None])
def test_what_is_no_share_is_refused(value):
    with pytest.raises(ArgumentError, match="fraction"):
        check_share("fraction", value)
    with pytest.raises(ArgumentError, match="fractions"):
        label_subsets(np.arange(10) % 2, [value])


def test_per_cent_are_recognised():
    with pytest.raises(ArgumentError, match=r"write 0\.2 for 20 per cent"):
        check_share("fraction", 20)
    with pytest.raises(ArgumentError, match="several"):
        label_subsets(np.arange(10) % 2, 0.2)


@pytest.mark.parametrize("value", [2.0, 2.5, True, "2", None, 0, np.float64(2)])
def test_what_is_no_whole_number_is_refused(trees, value):
    with pytest.raises(ArgumentError, match="size"):
        whole_number("size", value)
    for setting in (Pretraining, lambda batch_size: FineTuning(batch_size=batch_size)):
        with pytest.raises(ValueError, match="batch_size"):
            setting(batch_size=value)
    with pytest.raises(ValueError, match=r"batch_size|nothing to train on"):
        fit(torch.nn.Linear(1, 1), [Classification("climate_zone", "ab")], trees[1], batch_size=value)
    with pytest.raises(ArgumentError, match="crop"):
        Augment(crop=value if value is not None else 0)
    with pytest.raises(ValueError, match="size"):
        Views(size=value if value is not None else 0)


def test_a_warmup_in_per_cent_is_refused(trees):
    with pytest.raises(ArgumentError, match=r"warmup=10; .*write 0\.1 for 10 per cent"):
        Trainer(warmup=10)


def test_copies_are_labelled_together():
    labels = np.repeat([0, 1, 2], 30)
    contents = np.array([f"picture {place // 3}" for place in range(90)])
    subsets = label_subsets(labels, [0.1, 0.2, 0.5, 1.0], contents=contents)
    for fraction, chosen in subsets.items():
        assert all(np.isin(np.flatnonzero(contents == content), chosen).all() for content in set(contents[chosen]))
        assert len(chosen) == 90 * fraction
    assert set(subsets[0.1]) < set(subsets[0.2]) < set(subsets[0.5])
    different = np.arange(90)
    plain = label_subsets(labels, [0.1, 0.5])
    assert all(
        np.array_equal(chosen, label_subsets(labels, [0.1, 0.5], contents=different)[f]) for f, chosen in plain.items()
    )


Z = torch.randn(4, 3)
S2 = {"s2": ("B02",)}
NUMBERS = {  # arguments that are any number
    "lr": lambda value, data: fit(torch.nn.Linear(1, 1), [ZONES], data, lr=value),
    "weight_decay": lambda value, data: Trainer(weight_decay=value),
    "lr of pretraining": lambda value, data: Pretraining(lr=value),
    "temperature of pretraining": lambda value, data: Pretraining(temperature=value),
    "epochs of fine-tuning": lambda value, data: FineTuning(epochs=value),
    "lrs": lambda value, data: FineTuning(lrs=(1e-3, value)),
    "head_factor": lambda value, data: FineTuning(head_factor=value),
    "weight_decay of fine-tuning": lambda value, data: FineTuning(weight_decay=value),
    "ratio of views": lambda value, data: Views(ratio=value),
    "blur": lambda value, data: Views(blur=value),
    "noise": lambda value, data: Views(noise=value),
    "offset": lambda value, data: Views(offset=value),
    "speckle": lambda value, data: Views(speckle=value),
    "width": lambda value, data: ResNetEncoder(3, width=value),
    "mean": lambda value, data: RegressionHead(4, value, 1.0),
    "scale": lambda value, data: RegressionHead(4, 0.0, value),
    "scale of a task": lambda value, data: Regression("y", value),
    "temperature": lambda value, data: Contrast("simclr", temperature=value),
    "covariance": lambda value, data: Contrast("vicreg", covariance=value),
    "weight": lambda value, data: FixedWeights({"a": 1.0, "b": value}),
    "rate": lambda value, data: UncertaintyWeights(["a", "b"], rate=value),
    "alpha": lambda value, data: GradNorm(["a", "b"], alpha=value),
    "Cs": lambda value, data: fit_logistic(np.eye(4), np.arange(4), Cs=[value]),
    "wait": lambda value, data: Transfer(wait=value),
}
SHARES = {
    "share": lambda value, data: hold_out(["a/1", "a/2"], value, hashes={"a/1": "1", "a/2": "2"}),
    "warmup": lambda value, data: Trainer(warmup=value),
    "smoothing": lambda value, data: FineTuning(smoothing=value),
    "average": lambda value, data: FineTuning(average=value),
    "gain": lambda value, data: Views(gain=value),
    "band_dropout": lambda value, data: Views(band_dropout=value),
    "scale of views": lambda value, data: Views(scale=(value, 1.0)),
    "modality_dropout": lambda value, data: EarlyFusion(S2, modality_dropout=value),
    "ratio": lambda value, data: MaskedAutoencoder(ViTEncoder(S2), ratio=value),
    "level": lambda value, data: bootstrap(np.arange(4), np.arange(4), level=value),
    "cover": lambda value, data: paint_clouds({}, value, torch.Generator()),
    "fraction": lambda value, data: labelled_share(["a", "b"], value),
}
COUNTS = {
    "fold": lambda value, data: BENGE(data.root, "train", scheme="blocked", fold=value),
    "fold of pretraining": lambda value, data: Pretraining(fold=value),
    "seed of pretraining": lambda value, data: Pretraining(seed=value),
    "seed": lambda value, data: fit(torch.nn.Linear(1, 1), [ZONES], data, seed=value),
    "seed of everything": lambda value, data: seed_everything(value),
    "seed of a hold-out": lambda value, data: hold_out(["a/1", "a/2"], seed=value, hashes={"a/1": "1", "a/2": "2"}),
    "seed of labels": lambda value, data: label_subsets([0, 1], [1.0], value),
    "seed of an interval": lambda value, data: bootstrap(np.arange(4), np.arange(4), seed=value),
    "draws": lambda value, data: bootstrap(np.arange(4), np.arange(4), draws=value),
    "depth": lambda value, data: ResNetEncoder(3, value),
    "in_channels": lambda value, data: ResNetEncoder(value),
    "patch": lambda value, data: ViTEncoder(S2, patch=value),
    "stage": lambda value, data: FineTuning(stages=(value,)),
    "stages": lambda value, data: MultiStageEncoder(EarlyFusion(S2), [value]),
    "stage of a fusion": lambda value, data: FeatureFusion(S2, stage=value),
    "tta": lambda value, data: DihedralAverage(torch.nn.Identity(), value),
    "neighbours": lambda value, data: knn_probe(np.eye(4), np.arange(4), np.eye(4), value),
    "classes": lambda value, data: fit_logistic(np.eye(4), np.arange(4), value),
    "column": lambda value, data: Regression("y", 1.0, column=value),
    "window": lambda value, data: DynamicWeightAverage(["a", "b"], value),
    "clusters": lambda value, data: place_clusters(np.eye(4, 2), value),
    "size of a crop": lambda value, data: random_crop({"s2": torch.zeros(1, 1, 4, 4)}, value, torch.Generator()),
    "size of an image": lambda value, data: ImageFolder(data.root, size=value),
    "patches": lambda value, data: prepare("ben-ge-sim", patches=value),
    "attempts": lambda value, data: Transfer(attempts=value),
    "rounds": lambda value, data: bench_views(rounds=value),
}


@pytest.mark.parametrize("value", [True, np.True_, float("nan"), float("inf"), "1", [1.0], 1j], ids=str)
@pytest.mark.parametrize("name", [*NUMBERS, *SHARES, *COUNTS])
def test_what_is_no_number_is_refused_everywhere(trees, name, value):
    with pytest.raises(ArgumentError, match=name.split()[0].rstrip("s") if name != "moments" else "mean"):
        (NUMBERS | SHARES | COUNTS)[name](value, trees[1])


@pytest.mark.parametrize("name", COUNTS)
def test_parts_of_a_number_are_refused_where_a_whole_one_is_meant(trees, name):
    with pytest.raises(ArgumentError):
        COUNTS[name](1.5, trees[1])


@pytest.mark.parametrize("name", SHARES)
def test_per_cent_are_refused_where_a_share_is_meant(trees, name):
    with pytest.raises(ArgumentError, match=r"write 0\.2 for 20 per cent"):
        SHARES[name](20, trees[1])


@pytest.mark.parametrize("value", [1, 0.5, np.float32(0.5), np.int8(1), torch.tensor(0.5), np.array(0.5)], ids=repr)
def test_what_is_a_number_is_taken(value):
    assert real_number("width", value, above=0, most=1) == float(value)
    with pytest.raises(ArgumentError, match=r"width=.* expected a number of at least 2 and below 3"):
        real_number("width", value, least=2, below=3)

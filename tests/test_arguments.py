import numpy as np
import pytest
import torch
from torch.utils.data import Subset, TensorDataset

from bengelib.arguments import as_index, as_indices, check_share, whole_number
from bengelib.batches import batches, contents_of
from bengelib.dataset import BENGE
from bengelib.devices import choose_precision, make_accelerator
from bengelib.engine import Trainer, fit
from bengelib.errors import ArgumentError
from bengelib.finetuning import FineTuning
from bengelib.labelled import label_subsets
from bengelib.packed import PackedBENGE
from bengelib.packing import pack
from bengelib.pretraining import Pretraining
from bengelib.tasks import Classification, Segmentation
from bengelib.transforms import Augment
from bengelib.views import Pairs, Views
from tests import fake_tree as fake

MASK = np.array([True, False, True, False, False, True])


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """Six fake patches as a tree and as a pack."""
    root = fake.write_fake_tree(tmp_path_factory.mktemp("arguments") / "ben-ge-fake", 6)
    pack(root, progress=False)
    return BENGE(root), PackedBENGE(root)


@pytest.mark.parametrize(
    "indices",
    [MASK, MASK.tolist(), torch.tensor(MASK), [np.True_, np.False_], [0.0, 1.0], np.zeros((2, 2), int), ["0"], [-1], 3],
    ids=["mask", "list", "tensor", "booleans", "floats", "two dimensions", "text", "negative", "scalar"],
)
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
        for indices in (MASK, MASK.tolist()):
            for subset in (Subset(data, indices), Subset(Subset(data, range(6)), indices)):
                with pytest.raises(ArgumentError, match="mask of 6 booleans"):
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
    with pytest.warns(UserWarning, match="ACCELERATE_GRADIENT_ACCUMULATION_STEPS=4, which is not followed"):
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
        Trainer(warmup=10).fit(torch.nn.Linear(1, 1), [Classification("climate_zone", "ab")], trees[1])


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

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    confusion_matrix,
    f1_score,
    jaccard_score,
    mean_absolute_error,
)

from bengelib.errors import BandError, BengeError, MissingModalityError
from bengelib.metrics import MIN_POSITIVES, f1_by_class
from bengelib.tasks import Classification, MultiLabel, Regression, Segmentation

CLASSES = ("a", "b", "c", "d", "e", "f")


def make_problem(count=101, seed=0):
    """Skewed labels, and logits that are right about half of the time; class e has four samples, class f none."""
    random = np.random.default_rng(seed)
    labels = np.concatenate([random.choice(4, count - 4, p=[0.5, 0.3, 0.1, 0.1]), [4] * 4])
    random.shuffle(labels)
    logits = random.normal(size=(count, len(CLASSES)))
    logits[np.arange(count), labels] += 1.5
    return torch.tensor(logits, dtype=torch.float32), torch.tensor(labels)


def evaluate(task, logits, labels, batch_size):
    metric = task.metric()
    for start in range(0, len(labels), batch_size):
        part = slice(start, start + batch_size)
        task.update(metric, {"y": logits[part]}, {"y": labels[part]})
    return task.summary(metric)


@pytest.mark.parametrize("batch_size", [1, 7, 32, 101])
def test_figures_are_those_of_scikit_learn_whatever_the_batches(batch_size):
    logits, labels = make_problem()
    figures = evaluate(Classification("y", CLASSES), logits, labels, batch_size)
    predicted = logits.argmax(dim=1)
    counted = [index for index in range(len(CLASSES)) if (labels == index).sum() >= MIN_POSITIVES]
    assert counted == [0, 1, 2, 3]
    assert figures == pytest.approx(
        {
            "accuracy": accuracy_score(labels, predicted),
            "macro_f1": f1_score(labels, predicted, labels=counted, average="macro"),
        }
    )
    assert figures["macro_f1"] != pytest.approx(
        f1_score(labels, predicted, average="macro")
    )  # the rare class counts there


def test_errors_into_a_rare_class_still_count():
    """A sample of class a that is called e lowers the recall of a, though e itself is not averaged."""
    task = Classification("y", ("a", "e"))
    labels = torch.tensor([0] * 10)
    logits = torch.eye(2)[torch.tensor([0] * 8 + [1] * 2)]
    assert evaluate(task, logits, labels, 4) == pytest.approx({"accuracy": 0.8, "macro_f1": 2 * 8 / (2 * 8 + 2)})


def test_four_samples_are_too_few_and_five_are_enough():
    task = Classification("y", ("a", "b"))
    for count, expected in ((4, 1.0), (5, 0.5 * (1.0 + 0.0))):
        labels = torch.tensor([0] * 20 + [1] * count)
        perfect_on_a = torch.eye(2)[torch.tensor([0] * 20 + [1] * 0 + [1] * count)]
        perfect_on_a[20:] = torch.tensor([0.0, 0.0])  # a tie goes to class a, so b is never right
        figures = evaluate(task, perfect_on_a, labels, 8)
        f1_of_a = 40 / (40 + count)
        assert figures["macro_f1"] == pytest.approx(f1_of_a * expected)


def test_without_any_class_to_average_the_figure_is_nan_not_zero():
    figures = evaluate(Classification("y", ("a", "b")), torch.eye(2), torch.tensor([0, 1]), 2)
    assert figures["accuracy"] == 1.0 and math.isnan(figures["macro_f1"])


def test_f1_by_class_is_that_of_scikit_learn():
    logits, labels = make_problem(400, seed=1)
    predicted = logits.argmax(dim=1).numpy()
    confusion = np.zeros((6, 6))
    np.add.at(confusion, (labels.numpy(), predicted), 1)
    f1, support = f1_by_class(confusion)
    expected = f1_score(labels, predicted, labels=range(6), average=None, zero_division=0)
    np.testing.assert_allclose(f1, expected)
    np.testing.assert_array_equal(support, np.bincount(labels, minlength=6))


def test_f1_of_a_class_that_never_occurs_is_zero():
    f1, support = f1_by_class(np.array([[3, 0], [0, 0]]))
    assert f1.tolist() == [1.0, 0.0] and support.tolist() == [3, 0]


def test_loss_is_cross_entropy():
    logits, labels = make_problem()
    loss = Classification("y", CLASSES).loss({"y": logits, "other": logits}, {"y": labels, "s2": None})
    shifted = logits.numpy() - logits.numpy().max(axis=1, keepdims=True)
    likelihood = shifted[np.arange(101), labels] - np.log(np.exp(shifted).sum(axis=1))
    assert float(loss) == pytest.approx(-likelihood.mean(), rel=1e-5)
    same = Classification("y", CLASSES).loss({"y": torch.zeros(3, 6)}, {"y": torch.tensor([0, 3, 5])})
    assert float(same) == pytest.approx(math.log(6))


def test_a_task_reads_its_own_key():
    logits, labels = make_problem()
    outputs, batch = {"y": logits, "z": logits.flip(1)}, {"y": labels, "z": 5 - labels}
    losses = [Classification(target, CLASSES).loss(outputs, batch) for target in ("y", "z")]
    torch.testing.assert_close(losses[0], losses[1])


def test_metrics_of_two_tasks_do_not_mix():
    task = Classification("y", ("a", "b"))
    first, second = task.metric(), task.metric()
    task.update(first, {"y": torch.eye(2)}, {"y": torch.tensor([0, 1])})
    task.update(second, {"y": torch.eye(2)}, {"y": torch.tensor([1, 0])})
    assert task.summary(first)["accuracy"] == 1 and task.summary(second)["accuracy"] == 0


@pytest.mark.parametrize(
    ("outputs", "batch", "where"), [({}, {"y": 0, "s2": 0}, "outputs"), ({"y": 0}, {"s2": 0}, "batch")]
)
def test_missing_target_is_named_with_what_is_there(outputs, batch, where):
    with pytest.raises(MissingModalityError, match="'y'") as error:
        Classification("y", CLASSES).loss(outputs, batch)
    assert where in str(error.value) and str(sorted(outputs if where == "outputs" else batch)) in str(error.value)


@pytest.mark.parametrize("label", [-1, 3, 254])
@pytest.mark.parametrize("method", ["loss", "update"])
def test_labels_outside_the_legend_are_named_not_ignored(label, method):
    task = Classification("y", ("a", "b", "c"))
    outputs, batch = {"y": torch.zeros(2, 3)}, {"y": torch.tensor([1, label])}
    with pytest.raises(BandError, match=rf"label {label} of 'y' is outside its 3 classes") as error:
        task.loss(outputs, batch) if method == "loss" else task.update(task.metric(), outputs, batch)
    assert isinstance(error.value, BengeError)


def test_head_of_another_size_is_refused():
    with pytest.raises(BandError, match="4 logits for 3 classes"):
        Classification("y", ("a", "b", "c")).loss({"y": torch.zeros(2, 4)}, {"y": torch.tensor([0, 1])})


@pytest.mark.parametrize("batch_size", [1, 7, 101])
def test_mean_average_precision_is_that_of_scikit_learn_whatever_the_batches(batch_size):
    random = np.random.default_rng(3)
    labels = (random.random((101, 4)) < [0.5, 0.3, 0.1, 0.0]).astype(np.float32)
    labels[:4, 3] = 1  # too few positives to count
    logits = random.normal(size=labels.shape) + 2 * labels
    figures = evaluate(MultiLabel("y", "abcd"), torch.tensor(logits).float(), torch.tensor(labels), batch_size)
    assert figures == pytest.approx({"map": average_precision_score(labels[:, :3], logits[:, :3], average="macro")})


def test_multi_label_loss_and_its_refusals():
    task = MultiLabel("y", ("a", "b"))
    zeros = torch.zeros(3, 2)
    assert task.loss({"y": zeros}, {"y": torch.ones(3, 2)}).item() == pytest.approx(math.log(2))
    with pytest.raises(BandError, match="a 0 or 1 for each class"):
        task.loss({"y": zeros}, {"y": torch.zeros(3)})
    with pytest.raises(BandError, match="3 logits for 2 classes"):
        task.loss({"y": torch.zeros(3, 3)}, {"y": zeros})
    with pytest.raises(MissingModalityError, match="'y'"):
        task.loss({}, {"y": zeros})


# -------------------------------------------------------------------------------------------------- maps and quantities


def make_maps(count=11, seed=0):
    """Maps with an absent class f, pixels without a label, and logits that are right about half of the time."""
    random = np.random.default_rng(seed)
    labels = random.choice(5, (count, 6, 7), p=[0.5, 0.3, 0.1, 0.07, 0.03])
    logits = random.normal(size=(count, len(CLASSES), 6, 7))
    np.put_along_axis(logits, labels[:, None], np.take_along_axis(logits, labels[:, None], 1) + 1.5, axis=1)
    labels[random.random(labels.shape) < 0.2] = 255
    labels[3] = 255
    return torch.tensor(logits, dtype=torch.float32), torch.tensor(labels)


@pytest.mark.parametrize("batch_size", [1, 4, 11])
def test_mean_iou_is_that_of_scikit_learn_over_all_pixels_whatever_the_batches(batch_size):
    logits, labels = make_maps()
    task = Segmentation("y", CLASSES)
    figures = evaluate(task, logits, labels, batch_size)
    known = labels != 255
    truth, predicted = labels[known].numpy(), logits.argmax(dim=1)[known].numpy()
    assert set(truth) == {0, 1, 2, 3, 4} and 5 in predicted  # a class is predicted that never occurs
    wanted = jaccard_score(truth, predicted, labels=sorted(set(truth)), average="macro")
    assert figures == pytest.approx({"mean_iou": wanted, "accuracy": accuracy_score(truth, predicted)})
    metric = task.metric()
    task.update(metric, {"y": logits}, {"y": labels})
    np.testing.assert_array_equal(metric.compute(), confusion_matrix(truth, predicted, labels=range(6)))


def test_mean_iou_is_not_the_mean_over_batches():
    logits, labels = make_maps()
    whole = evaluate(Segmentation("y", CLASSES), logits, labels, 11)["mean_iou"]
    parts = [evaluate(Segmentation("y", CLASSES), logits[[i]], labels[[i]], 1)["mean_iou"] for i in range(11) if i != 3]
    assert abs(np.mean(parts) - whole) > 0.01


def test_loss_of_maps_is_the_mean_over_labelled_pixels():
    logits, labels = make_maps()
    known = labels != 255
    wanted = torch.nn.functional.cross_entropy(logits.permute(0, 2, 3, 1)[known], labels[known])
    torch.testing.assert_close(Segmentation("y", CLASSES).loss({"y": logits}, {"y": labels}), wanted)


def test_maps_of_another_size_or_legend_are_refused():
    logits, labels = make_maps()
    task = Segmentation("y", CLASSES)
    with pytest.raises(BandError, match=r"labels of 'y' are \(6, 6\) pixels, logits \(6, 7\)"):
        task.loss({"y": logits}, {"y": labels[..., :6]})
    labels[0, 0, 0] = 6
    with pytest.raises(BandError, match="label 6 of 'y' is outside its 6 classes"):
        task.loss({"y": logits}, {"y": labels})


@pytest.mark.parametrize(
    ("task", "outputs", "labels"),
    [
        (Segmentation("y", ("a", "b")), torch.randn(3, 2, 4, 4), torch.full((3, 4, 4), 255)),
        (Classification("y", ("a", "b")), torch.randn(3, 2), torch.full((3,), 255)),
        (Regression("y", 2.0), torch.randn(3), torch.full((3,), math.nan)),
        (MultiLabel("y", ("a", "b")), torch.randn(3, 2), torch.full((3, 2), math.nan)),
    ],
)
def test_without_any_label_the_loss_is_zero_and_so_is_its_gradient(task, outputs, labels):
    outputs.requires_grad_()
    loss = task.loss({"y": outputs}, {"y": labels})
    loss.backward()
    assert loss.item() == 0 and (outputs.grad == 0).all()
    metric = task.metric()
    task.update(metric, {"y": outputs.detach()}, {"y": labels})


def test_samples_without_a_label_count_in_neither_loss_nor_metric():
    values, labels = torch.tensor([1.0, 2.0, 4.0, 9.0]), torch.tensor([2.0, math.nan, 1.0, math.nan])
    task = Regression("y", 2.0)
    # errors -1 and 3, in units of 2: (0.25 + 2.25) / 2
    assert task.loss({"y": values}, {"y": labels}).item() == pytest.approx(1.25)
    assert evaluate(task, values, labels, 1) == pytest.approx({"mae": 2.0})
    assert math.isnan(evaluate(task, values[[1]], labels[[1]], 1)["mae"])


@pytest.mark.parametrize("batch_size", [1, 3, 10])
def test_mean_absolute_error_whatever_the_batches(batch_size):
    random = np.random.default_rng(0)
    values, labels = (torch.tensor(random.normal(280, 10, 10), dtype=torch.float32) for _ in range(2))
    labels[4] = math.nan
    known = ~labels.isnan()
    figures = evaluate(Regression("y", 10.0), values, labels, batch_size)
    assert figures["mae"] == pytest.approx(mean_absolute_error(labels[known], values[known]), rel=1e-5)


def test_one_column_of_a_target_can_be_regressed():
    labels = torch.tensor([[280.0, 1.0], [290.0, 2.0]])
    assert evaluate(Regression("y", 1.0, column=0), torch.tensor([281.0, 292.0]), labels, 2) == {"mae": 1.5}
    with pytest.raises(BandError, match="give `column` for one of several"):
        Regression("y", 1.0).loss({"y": torch.ones(2)}, {"y": labels})
    with pytest.raises(ValueError, match="scale=0"):
        Regression("y", 0)

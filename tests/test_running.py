import math

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix

from bengelib.running import ConfusionMatrix, Mean, Samples, sum_over_processes


def test_mean_is_exact_whatever_the_batches():
    values = torch.rand(101, generator=torch.Generator().manual_seed(0))
    whole, parts, one_by_one = Mean(), Mean(), Mean()
    whole.update(values)
    for part in values.split(7):
        parts.update(part.mean(), len(part))
    for value in values:
        one_by_one.update(value)
    for mean in (whole, parts, one_by_one):
        assert mean.compute() == pytest.approx(float(values.double().mean()), rel=1e-6)


def test_mean_of_many_small_numbers_does_not_stall():
    mean = Mean()  # in 32 bits a sum of 2 ** 24 ones grows no further
    mean.update(torch.tensor(1.0), 2.0**24)
    for _ in range(10):
        mean.update(torch.tensor(2.0))
    assert mean.compute() > 1


def test_mean_of_nothing_is_what_the_caller_says_and_nan_stays_nan():
    mean = Mean()
    assert math.isnan(mean.compute()) and mean.compute(empty=0.0) == 0.0
    mean.update(torch.empty(0))
    assert math.isnan(mean.compute())
    mean.update(torch.tensor([1.0, math.nan]))
    assert math.isnan(mean.compute(empty=0.0))


def test_mean_keeps_no_graph():
    value = torch.tensor(2.0, requires_grad=True)
    mean = Mean()
    mean.update(value * 3)
    assert mean.compute() == 6.0 and not mean.sums.requires_grad


def test_confusion_matrix_is_that_of_scikit_learn_without_what_is_ignored():
    random = np.random.default_rng(0)
    truth, predicted = random.integers(0, 5, 300), random.integers(0, 5, 300)
    truth[random.random(300) < 0.2] = 255
    matrix = ConfusionMatrix(5, ignore=255)
    for part in np.array_split(np.arange(300), 7):
        matrix.update(torch.from_numpy(predicted[part]), torch.from_numpy(truth[part]))
    known = truth != 255
    np.testing.assert_array_equal(matrix.compute(), confusion_matrix(truth[known], predicted[known], labels=range(5)))


def test_samples_come_back_in_order_and_empty_where_there_were_none():
    samples = Samples(("a", "b"))
    assert all(len(values) == 0 for values in samples.compute().values())
    batches = torch.arange(10).view(5, 2).split(2)
    for batch in batches:
        samples.update({"a": batch, "b": -batch.half(), "c": torch.zeros(3)})
    found = samples.compute()
    assert set(found) == {"a", "b"} and found["b"].dtype == torch.float32
    assert torch.equal(found["a"], torch.cat(batches).float()) and torch.equal(found["b"], -found["a"])


def test_a_sum_over_one_process_is_a_copy():
    values = torch.ones(3)
    total = sum_over_processes(values)
    total += 1
    assert torch.equal(values, torch.ones(3))

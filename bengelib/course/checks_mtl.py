"""The checks of Lab 2, multi-task learning: one function per exercise, called with the reader's function."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bengelib.bands import IGNORE_INDEX
from bengelib.course.checks import NotYet, Submission, expect, numbers, pick, report


def _tensor(result: Any, meaning: str = "()") -> Tensor:
    """The result of the function, if it is one number with a gradient.

    Raises:
        NotYet: it is not.
    """
    numbers(result, (), meaning)
    expect(
        isinstance(result, Tensor) and result.requires_grad,
        "no gradient flows back from the result: return the tensor as it was computed, without `.item()`, `float()`, "
        "`.detach()` or a new `torch.tensor`, or nothing is learned from it.",
    )
    loss: Tensor = result
    return loss


def check_masked_loss(function: Callable[..., Any]) -> None:
    """Exercise 2.1: `masked_loss(logits, labels)`, the cross-entropy of a batch in which labels are missing.

    Args:
        function: takes `logits` (B, K) and `labels` (B,) int64, 255 where unknown; returns (), the mean over the
            labelled samples, and a 0 with a gradient where there are none.
    """

    def explain(message: str) -> str:
        if "out of bounds" in message:
            return (
                "255 is the index of no class: leave such samples out, or give `nn.functional.cross_entropy` "
                "`ignore_index=255`."
            )
        return ""

    def examine() -> str:
        submission = Submission(function, explain)
        for labels in ((0, 2, 255, 1, 255, 0), (1, 1, 2, 0, 2, 0)):
            _examine_masked_loss(submission, torch.tensor(labels))
        weights = torch.randn(5, 3, generator=torch.Generator().manual_seed(3)).requires_grad_()
        result = submission(logits=weights * 1.0, labels=torch.full((5,), IGNORE_INDEX))
        value = float(numbers(result, (), "()"))
        expect(
            not np.isnan(value),
            "a batch without any label gives NaN, a mean over nothing (0 / 0), and after one such step every weight "
            "is NaN. Divide the sum by the number of labels, but by no less than 1: `.clamp(min=1)`.",
        )
        expect(value == 0, f"a batch without any label gives {value:.3g}: nothing can be wrong there, so return 0.")
        expect(
            isinstance(result, Tensor) and result.requires_grad,
            "the 0 of a batch without any label is a plain number: `backward()` fails on it where this is the only "
            "task. Let it come from the logits, for example as a sum over no samples, `losses[known].sum()`.",
        )
        (gradient,) = torch.autograd.grad(result, weights, allow_unused=True)
        expect(
            gradient is not None and bool((gradient == 0).all()),
            "the 0 of a batch without any label has a gradient that is not 0: it must change no weight.",
        )
        return "the mean over what is labelled, whatever the share, and 0 where nothing is."

    report("2.1", examine)


def _examine_masked_loss(submission: Submission, labels: Tensor) -> None:
    """Compare with the correct result for a batch with labels, and with those of common mistakes."""
    weights = torch.randn(len(labels), 3, generator=torch.Generator().manual_seed(1)).requires_grad_()
    logits = weights.detach()
    result = submission(logits=weights * 1.0, labels=labels)
    known = labels != IGNORE_INDEX
    sums = F.cross_entropy(logits[known], labels[known], reduction="sum")

    def counted(replacement: int) -> float:
        return float(F.cross_entropy(logits, labels.where(known, torch.tensor(replacement))))

    candidates = {
        "the sum is divided by all samples: divide by the number of those that are labelled. Otherwise a task with few "
        "labels counts less, by accident.": float(sums) / len(labels),
        "this is the sum over the labelled samples: divide it by their number.": float(sums),
        "the samples without a label count as class 0: leave them out.": counted(0),
        "the samples without a label count as the last class: leave them out.": counted(2),
        "the softmax is taken twice: `nn.functional.cross_entropy` takes the logits as they are.": float(
            F.cross_entropy(logits.softmax(dim=1)[known], labels[known])
        ),
        "this is `nll_loss` of the logits, which wants log-probabilities: use `nn.functional.cross_entropy`.": float(
            F.nll_loss(logits[known], labels[known])
        ),
        "the sign is reversed: a loss is the negative logarithm.": -float(sums / known.sum()),
    }
    given = numbers(result, (), "()")
    right = float(sums / known.sum())
    if not np.isclose(given, right, atol=1e-4):
        raise NotYet(pick(candidates, given) or f"the loss is {given:.4f}, not {right:.4f}, the mean cross-entropy.")
    _tensor(result)


def check_mean_iou(function: Callable[..., Any]) -> None:
    """Exercise 2.6: `mean_iou(confusion)`, the mean intersection over union of a segmentation.

    Args:
        function: takes a confusion matrix (K, K) int64, rows the truth, columns the prediction; returns (), the mean
            over the classes that occur in the truth.
    """

    def examine() -> str:
        submission = Submission(function)
        # Class 3 is predicted but is nowhere in the truth, class 4 is in neither.
        confusion = np.array(
            [[50, 4, 1, 5, 0], [10, 20, 0, 0, 0], [3, 2, 5, 2, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]], dtype=np.int64
        )
        _examine_mean_iou(submission, confusion)
        _examine_mean_iou(submission, confusion[:3, :3] * 1_000_000)
        return "intersection over union, averaged over the classes of the truth alone."

    report("2.6", examine)


@np.errstate(divide="ignore", invalid="ignore")
def _examine_mean_iou(submission: Submission, confusion: np.ndarray) -> None:
    """Compare with the correct result, and with those of common mistakes."""
    given = numbers(submission(confusion=confusion), (), "one number, the mean over classes")
    hits, truth, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    either = truth + predicted - hits
    there = truth > 0
    score = hits / either
    right = score[there].mean()
    found = (either > 0).sum()
    candidates = {
        "classes that are in the prediction but nowhere in the truth count as 0: leave out every class whose row is "
        "empty.": score[there].sum() / found,
        "classes that do not occur count as 0: average over the classes of the truth.": score[there].sum()
        / len(confusion),
        "classes that do not occur count as 1: average over the classes of the truth.": (
            score[there].sum() + (either == 0).sum()
        )
        / len(confusion),
        "you divide by row sum plus column sum, where the hits count twice: subtract them once.": (
            hits / (truth + predicted)
        )[there].mean(),
        "this is the Dice or F1 score, 2 hits / (row + column): the union is row + column - hits.": (
            2 * hits / (truth + predicted)
        )[there].mean(),
        "you divide by the row sums, which gives the recall: the union also has what was called so wrongly.": (
            hits / truth
        )[there].mean(),
        "you divide by the column sums, which gives the precision: the union also has what was missed.": (
            hits / predicted
        )[there].mean(),
        "this is the share of right pixels: one large class decides it. Take the union of each class.": hits.sum()
        / confusion.sum(),
        "hits and unions are added up before the division: divide for each class, then average.": hits.sum()
        / either.sum(),
        "the classes are weighted by their pixels: in the plain mean every class counts the same.": np.nansum(
            score * truth
        )
        / truth.sum(),
        "this is the sum over classes: divide it by the number of classes of the truth.": score[there].sum(),
        "the mean is in percent: give a share.": 100 * right,
        "this is 1 - the mean: give the overlap, not what is missing from it.": 1 - right,
    }
    expect(
        np.isfinite(given),
        "the mean is not a finite number: a class that does not occur gives 0 / 0. Take the mean over the classes "
        "whose row is not empty.",
    )
    if not np.isclose(given, right, atol=1e-5):
        hint = pick(candidates, given, 1e-5) or f"the mean is {given:.4f}, where {right:.4f} is right"
        raise NotYet(hint if hint.endswith(".") else f"{hint}: divide the diagonal by row + column - diagonal.")


def check_weights_ratio(function: Callable[..., Any]) -> None:
    """Exercise 2.2: `weights_ratio(encoder, heads)`, the weights of separate networks over those of a shared one.

    Args:
        function: takes the number of weights of one encoder, and a dict of those of each head; returns one number.
    """

    def examine() -> str:
        submission = Submission(function)
        for encoder, heads in (
            (2_800_000, {"map": 600_000, "zone": 3_000, "date": 300}),
            (1_000, {"a": 500, "b": 250}),
            (40, {"a": 10, "b": 20, "c": 30, "d": 40}),
        ):
            given = numbers(submission(encoder=encoder, heads=dict(heads)), (), "one number")
            count, own = len(heads), sum(heads.values())
            shared, separate = encoder + own, count * encoder + own
            candidates = {
                "heads are not shared: each separate network has one of them, so count every head once above the line "
                "too.": float(count),
                "the ratio is inverted: separate networks over the shared one.": shared / separate,
                "the shared network has the heads as well: add them below the line.": separate / encoder,
                "the separate networks have the heads as well: add them above the line.": count * encoder / shared,
                "this is a difference: divide the one by the other.": float(separate - shared),
                "this is the number of weights of separate networks: divide it by that of the shared one.": float(
                    separate
                ),
            }
            if not np.isclose(given, separate / shared, rtol=1e-4):
                raise NotYet(
                    pick(candidates, given)
                    or f"for an encoder of {encoder} and heads of {', '.join(map(str, heads.values()))} weights you "
                    f"give {float(given):.4g}; separate networks have {separate}, the shared one {shared}."
                )
        return "the larger the heads, the less is saved by sharing the encoder."

    report("2.2", examine)


def check_uncertainty_loss(function: Callable[..., Any]) -> None:
    """Exercise 2.3: `uncertainty_loss(losses, log_variances, factors)`, losses weighted by noises that are learned.

    Args:
        function: takes three dicts by target: losses (), log-variances s () and factors c; returns (), the sum of
            c exp(-s) L + s / 2 over the targets.
    """

    def examine() -> str:
        submission = Submission(function)
        factors = {"cover": 1.0, "season": 0.5, "climate": 1.0}
        losses = {"cover": 0.7, "season": 1.9, "climate": 1.2}
        noises = {"climate": 0.8, "cover": -0.4, "season": 0.3}  # in another order
        _examine_uncertainty(submission, losses, noises, factors)
        _examine_uncertainty(submission, {"cover": 0.7}, {"cover": -0.4}, {"cover": 1.0})
        return "noisy tasks count less, the price of noise is s / 2, and both losses and noises are learned."

    report("2.3", examine)


def _examine_uncertainty(
    submission: Submission, losses: dict[str, float], noises: dict[str, float], factors: dict[str, float]
) -> None:
    """Compare value and gradients with the correct ones, and the value with those of common mistakes."""
    loss_leaves = {name: torch.tensor(value, requires_grad=True) for name, value in losses.items()}
    noise_leaves = {name: torch.tensor(value, requires_grad=True) for name, value in noises.items()}
    result = submission(
        losses={name: leaf * 1.0 for name, leaf in loss_leaves.items()},
        log_variances={name: leaf * 1.0 for name, leaf in noise_leaves.items()},
        factors=dict(factors),
    )
    value = np.array([losses[name] for name in losses])
    s = np.array([noises[name] for name in losses])
    c = np.array([factors[name] for name in losses])
    right = float((c * np.exp(-s) * value + s / 2).sum())
    shuffled = np.array(list(noises.values()))
    candidates: dict[str, np.ndarray | float] = {
        "losses and log-variances are paired by position, but the dicts have their own orders: take both by the name "
        "of the target.": float((c * np.exp(-shuffled) * value + shuffled / 2).sum()),
        "the term s / 2 is missing: without it every noise grows without end, and nothing is learned.": float(
            (c * np.exp(-s) * value).sum()
        ),
        "you add s, not s / 2: it is the logarithm of sigma, and s is that of sigma squared.": float(
            (c * np.exp(-s) * value + s).sum()
        ),
        "you subtract s / 2: it is the price of a large noise, so add it.": float(
            (c * np.exp(-s) * value - s / 2).sum()
        ),
        "the sign in the exponent is reversed: a noisy task must count less, exp(-s).": float(
            (c * np.exp(s) * value + s / 2).sum()
        ),
        "exp(-2 s) takes s for log sigma: s is log sigma squared, so the weight is exp(-s).": float(
            (c * np.exp(-2 * s) * value + s / 2).sum()
        ),
        "the factors are missing: a squared error counts half, a cross-entropy fully.": float(
            (np.exp(-s) * value + s / 2).sum()
        ),
        "you halve every loss: only that of a squared error counts half. Take the factor of each target, "
        "`factors[name]`.": float((np.exp(-s) * value / 2 + s / 2).sum()),
        "the factor also stands before s / 2: it belongs to the loss alone.": float(
            (c * (np.exp(-s) * value + s / 2)).sum()
        ),
        "the weights are s, not exp(-s).": float((c * s * value + s / 2).sum()),
        "this is the mean over the tasks: add them up.": right / len(losses),
        "the noises are ignored: this is the sum of c L.": float((c * value).sum()),
    }
    given = numbers(result, (), "()")
    if not np.isclose(given, right, atol=1e-4):
        hint = pick(candidates, given)
        raise NotYet(hint or f"the loss is {given:.4f}, where the sum of c exp(-s) L + s / 2 is {right:.4f}.")
    loss = _tensor(result)
    leaves = [*loss_leaves.values(), *(noise_leaves[name] for name in losses)]
    found = [
        None if gradient is None else float(gradient)
        for gradient in torch.autograd.grad(loss, leaves, allow_unused=True)
    ]
    by_loss, by_noise = found[: len(losses)], found[len(losses) :]
    expect(
        all(g is not None and np.isclose(g, each, atol=1e-4) for g, each in zip(by_loss, c * np.exp(-s), strict=True)),
        "the network does not get the gradient c exp(-s) of each loss: do not detach or convert the losses.",
    )
    wanted = 0.5 - c * np.exp(-s) * value
    expect(
        all(g is not None and np.isclose(g, each, atol=1e-4) for g, each in zip(by_noise, wanted, strict=True)),
        "the log-variances do not get their gradient, 1/2 - c exp(-s) L, so the noises are never learned: use "
        "`torch.exp` on the tensors as they are, without `float()`, `.item()` or `.detach()`.",
    )


def check_gradient_cosine(function: Callable[..., Any]) -> None:
    """Exercise 2.7: `gradient_cosine(loss_a, loss_b, parameters)`, whether two tasks pull the same way.

    Args:
        function: takes two losses () with a common graph and a list of shared parameters; returns the cosine of their
            gradients, in [-1, 1]. A parameter that a loss does not use has a gradient of 0.
    """

    def explain(message: str) -> str:
        if "not have been used in the graph" in message:
            return "One loss does not use all parameters: pass `allow_unused=True`, and put 0 where it gives None."
        if "second time" in message or "already been freed" in message:
            return "The graph was thrown away by the first pass backward: pass `retain_graph=True`."
        if "NoneType" in message:
            return "A parameter that a loss does not use has None for its gradient: put zeros in its place."
        return ""

    def examine() -> str:
        submission = Submission(function, explain)
        for sign in (1.0, -1.0):
            _examine_cosine(submission, sign)
        return "all shared parameters as one vector; the graph and `.grad` stay as they were."

    report("2.7", examine)


def _examine_cosine(submission: Submission, sign: float) -> None:
    """Two losses on four parameters, of which two are used by both, one by the first loss only and one by none."""
    random = torch.Generator().manual_seed(4)
    parameters = [torch.nn.Parameter(torch.randn(shape, generator=random)) for shape in ((2, 3), (2,), (2,), (4,))]
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    inputs = torch.randn(5, 3, generator=random)
    hidden = torch.tanh(inputs @ parameters[0].T + parameters[1])  # (5, 2), of which both losses are made
    loss_a = (hidden + parameters[2]).square().mean()
    loss_b = sign * ((hidden - 0.2).square().mean() + hidden.sum() / 20)
    vectors = _vectors((loss_a, loss_b), parameters)
    first, second = (np.concatenate(parts) for parts in vectors)
    right = _cosine(first, second)
    result = submission(loss_a=loss_a, loss_b=loss_b, parameters=parameters)
    expect(
        all(each.grad is not None and bool((each.grad == 1).all()) for each in parameters),
        "the `.grad` of the parameters is changed: a training step that comes later would follow it too. Use "
        "`torch.autograd.grad`, which returns gradients, not `backward`.",
    )
    given = numbers(result, (), "one number")
    expect(
        np.isfinite(given),
        "the cosine is not a number: the gradient of a parameter that a loss does not use is 0, without direction, so "
        "0 / 0. Lay all gradients of a loss end to end, and take one cosine.",
    )
    used = len(vectors[0][0]) + len(vectors[0][1])
    apart = [_cosine(one, other) for one, other in zip(*vectors, strict=True)][:2]  # of the parameters of both losses
    advice = "lay all gradients of a loss end to end and take one cosine, or a bias weighs as much as a matrix."
    candidates: dict[str, np.ndarray | float] = {
        "this is the dot product: divide it by the lengths of both gradients.": float(first @ second),
        "this divides by the squared lengths: divide by the lengths, whose product it is.": float(
            first @ second / (first @ first * (second @ second))
        ),
        "parameters that one loss does not use are left out of both gradients: their None counts as zeros.": _cosine(
            first[:used], second[:used]
        ),
        f"this is a mean of cosines, one a parameter: {advice}": float(np.sum(apart)) / len(parameters),
        f"this is a mean of cosines, one a parameter of either loss: {advice}": float(np.sum(apart)) / 3,
        f"this is a mean of cosines, one a parameter of both losses: {advice}": float(np.mean(apart)),
        f"these are cosines of single parameters, added up: {advice}": float(np.sum(apart)),
        "the sign is lost: below 0 the tasks conflict, and this is what is asked.": abs(right),
        "the sign is reversed: gradients that point the same way have cosine 1.": -right,
        "this is 1 - the cosine, a distance: give the cosine.": 1 - right,
        "this is the angle: give its cosine.": float(np.arccos(right)),
        "this is the cosine of the squares: give that of the gradients.": right**2,
    }
    if not np.isclose(given, right, atol=1e-4):
        raise NotYet(
            pick(candidates, given)
            or f"the cosine is {given:.4f}, where {right:.4f} is right: g_a . g_b / (|g_a| |g_b|), over all parameters."
        )
    try:
        torch.autograd.grad(loss_a + loss_b, parameters, allow_unused=True)
    except RuntimeError as error:
        raise NotYet(
            "the losses cannot be used any more after the call, as training does: the graph is gone. Pass "
            "`retain_graph=True` for both of them."
        ) from error


def _vectors(losses: tuple[Tensor, Tensor], parameters: list[torch.nn.Parameter]) -> list[list[np.ndarray]]:
    """The gradient of each loss on each parameter, flat, 0 where it is not used."""
    found = [torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True) for loss in losses]
    return [
        [
            (torch.zeros_like(parameter) if part is None else part).detach().flatten().double().numpy()
            for part, parameter in zip(parts, parameters, strict=True)
        ]
        for parts in found
    ]


def _cosine(first: np.ndarray, second: np.ndarray) -> float:
    lengths = np.sqrt(first @ first * (second @ second))
    return float(first @ second / lengths) if lengths else 0.0


def check_project(function: Callable[..., Any]) -> None:
    """Exercise 2.8: `project(gradient, other)`, the surgery of PCGrad on one gradient.

    Args:
        function: takes two gradients (P,); returns the first, without its component along the second where the two
            conflict, and unchanged where they do not or the second is 0.
    """

    def examine() -> str:
        submission = Submission(function)
        gradient, other = torch.tensor([1.0, 2.0, -1.0]), torch.tensor([-3.0, 0.5, 1.0])
        _examine_conflict(submission, gradient.numpy(), other.numpy())
        _examine_conflict(submission, gradient.numpy() * 100, other.numpy() / 100)
        together = numbers(submission(gradient=gradient, other=-other), (3,), "(P,)")
        expect(
            np.allclose(together, gradient, atol=1e-5),
            "gradients that do not conflict (dot product above 0) are changed too: project only where it is below 0, "
            "for the tasks help each other otherwise.",
        )
        empty = numbers(submission(gradient=gradient, other=torch.zeros(3)), (3,), "(P,)")
        expect(
            np.isfinite(empty).all(),
            "where the other gradient is 0 you divide 0 by 0: return the gradient unchanged. A batch without labels "
            "gives such a gradient.",
        )
        expect(np.allclose(empty, gradient, atol=1e-5), "where the other gradient is 0, return the first unchanged.")
        return "only the conflicting component is taken away."

    report("2.8", examine)


def _examine_conflict(submission: Submission, gradient: np.ndarray, other: np.ndarray) -> None:
    """Compare with the correct result for two conflicting gradients, and with those of common mistakes."""
    given = numbers(
        submission(gradient=torch.from_numpy(gradient.copy()), other=torch.from_numpy(other.copy())), (3,), "(P,)"
    )
    g, o = gradient.astype(np.float64), other.astype(np.float64)
    dot = g @ o
    right = g - dot / (o @ o) * o
    candidates: dict[str, np.ndarray | float] = {
        "gradients that conflict (dot product below 0) are left as they are: these are the ones to project.": g,
        "you divide by |o|, not by its square: the component along o is (g . o / |o|^2) o.": g
        - dot / np.sqrt(o @ o) * o,
        "you do not divide by |o|^2: the component along o is (g . o / |o|^2) o.": g - dot * o,
        "you divide by |g|^2: the component along o is (g . o / |o|^2) o.": g - dot / (g @ g) * o,
        "you divide by |g| |o|: the component along o is (g . o / |o|^2) o.": g - dot / np.sqrt(g @ g * (o @ o)) * o,
        "you add the component along o: subtract it. It is negative, so subtracting pushes g away from conflict.": g
        + dot / (o @ o) * o,
        "this is the component along o: subtract it from g.": dot / (o @ o) * o,
        "you project the other gradient: return `gradient` without its component along `other`.": o - dot / (g @ g) * g,
        "the gradient is dropped as a whole: only its component along o conflicts.": np.zeros(3),
        "you subtract all of `other`: only the component of g along it is taken away.": g - o,
        "you multiply value by value: the dot product is one number, `gradient @ other`.": g - g * o / (o @ o) * o,
    }
    size = np.abs(right).max()
    if not np.allclose(given / size, right / size, atol=1e-5):
        scaled = {hint: value / size for hint, value in candidates.items()}
        raise NotYet(pick(scaled, given / size) or "the result is not g - (g . o / |o|^2) o.")

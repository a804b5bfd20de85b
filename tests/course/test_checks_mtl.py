"""The checks of Lab 2: right answers, and for each usual mistake the hint that names it (tests in `test_checks`)."""

import numpy as np
import torch
from torch.nn import functional as F

from bengelib.course import checks_mtl as mtl
from bengelib.losses import masked_cross_entropy
from bengelib.metrics import mean_iou as library_mean_iou
from bengelib.weighting import UncertaintyWeights, cosines, gradient_products

MASKED, RATIO, IOU, UNCERTAINTY, COSINE, PROJECT = (
    mtl.check_masked_loss,
    mtl.check_weights_ratio,
    mtl.check_mean_iou,
    mtl.check_uncertainty_loss,
    mtl.check_gradient_cosine,
    mtl.check_project,
)
CHECKS = (MASKED, RATIO, IOU, UNCERTAINTY, COSINE, PROJECT)


# ---------------------------------------------------------------------------------------------------- right answers


def masked(logits, labels):
    known = labels != 255
    return F.cross_entropy(logits[known], labels[known], reduction="sum") / known.sum().clamp(min=1)


def nothing_masked(logits, labels):
    return F.cross_entropy(logits, labels)


def masked_by_index(logits, labels):
    losses = F.cross_entropy(logits, labels, ignore_index=255, reduction="none")
    return losses.sum() / max(1, int((labels != 255).sum()))


def ratio(encoder, heads):
    own = sum(heads.values())
    return (len(heads) * encoder + own) / (encoder + own)


def iou(confusion):
    hits = np.diag(confusion)
    there = confusion.sum(axis=1) > 0
    return (hits[there] / (confusion.sum(axis=0) + confusion.sum(axis=1) - hits)[there]).mean()


def iou_of_library(confusion):
    return torch.tensor(library_mean_iou(confusion[None])[0])


def uncertainty(losses, log_variances, factors):
    total = 0
    for name, loss in losses.items():
        total = total + factors[name] * torch.exp(-log_variances[name]) * loss + log_variances[name] / 2
    return total


def uncertainty_of_library(losses, log_variances, factors):
    weighting = UncertaintyWeights(list(losses), squared=[name for name in losses if factors[name] == 0.5])
    del weighting.log_variance
    weighting.log_variance = torch.stack([log_variances[name] for name in losses])
    return weighting(losses)


def gradients(loss, parameters):
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for g, p in zip(found, parameters, strict=True)]


def flat(loss, parameters):
    return torch.cat([each.flatten() for each in gradients(loss, parameters)])


def cosine(loss_a, loss_b, parameters):
    return F.cosine_similarity(flat(loss_a, parameters), flat(loss_b, parameters), dim=0)


def cosine_of_library(loss_a, loss_b, parameters):
    return cosines(gradient_products({"a": loss_a, "b": loss_b}, parameters), ["a", "b"])["a ~ b"]


def project(gradient, other):
    dot = gradient @ other
    return gradient - dot / (other @ other) * other if dot < 0 else gradient


def project_everywhere(gradient, other):
    return gradient - (gradient @ other).clamp(max=0) / (other @ other).clamp(min=1e-12) * other


RIGHT = [
    (MASKED, masked),
    (MASKED, masked_by_index),
    (MASKED, masked_cross_entropy),
    (RATIO, lambda encoder, heads: ratio(encoder, heads)),
    (RATIO, lambda encoder, heads: torch.tensor(ratio(encoder, heads))),
    (IOU, iou),
    (IOU, iou_of_library),
    (UNCERTAINTY, uncertainty),
    (UNCERTAINTY, uncertainty_of_library),
    (COSINE, cosine),
    (COSINE, cosine_of_library),
    (PROJECT, project),
    (PROJECT, project_everywhere),
]

# ---------------------------------------------------------------------------------------------------- wrong answers


def replaced(value):
    """Samples without a label count as a class."""
    return lambda logits, labels: F.cross_entropy(logits, labels.masked_fill(labels == 255, value))


def from_mean(empty):
    """Right but for batches without labels."""

    def function(logits, labels):
        known = labels != 255
        return F.cross_entropy(logits[known], labels[known]) if known.any() else empty(logits)

    return function


def of_classes(score):
    """A mean over the classes of the truth of something that is computed from hits, rows and columns."""

    def function(confusion):
        hits, rows, columns = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
        there = rows > 0
        return score(hits[there], rows[there], columns[there])

    return function


def filled(value, classes=lambda rows, columns: rows >= 0):
    """A mean also over classes that are not in the truth; those in neither count as `value`."""

    def function(confusion):
        hits, rows, columns = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
        either = rows + columns - hits
        scores = np.where(either > 0, hits / np.maximum(either, 1), value)
        return scores[classes(rows, columns)].mean()

    return function


def noisy(term):
    """A sum over targets of something that is computed from loss, log-variance and factor."""
    return lambda losses, log_variances, factors: sum(
        term(loss, log_variances[name], factors[name]) for name, loss in losses.items()
    )


def by_position(losses, log_variances, factors):
    rows = zip(losses.values(), log_variances.values(), factors.values(), strict=True)
    return sum(c * torch.exp(-s) * loss + s / 2 for loss, s, c in rows)


def of_vectors(function):
    return lambda a, b, parameters: function(flat(a, parameters), flat(b, parameters))


def by_backward(loss_a, loss_b, parameters):
    vectors = []
    for loss in (loss_a, loss_b):
        for parameter in parameters:
            parameter.grad = None
        loss.backward(retain_graph=True)
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        vectors.append(torch.cat([each.flatten() for each in grads]))
    return F.cosine_similarity(*vectors, dim=0)


def graph_lost(loss_a, loss_b, parameters):
    torch.autograd.grad(loss_a, parameters, allow_unused=True)
    return torch.autograd.grad(loss_b, parameters, allow_unused=True)


def graph_lost_at_the_end(loss_a, loss_b, parameters):
    result = cosine(loss_a, loss_b, parameters)
    torch.autograd.grad(loss_b, parameters, allow_unused=True)
    return result


def unused_refused(loss_a, loss_b, parameters):
    return torch.autograd.grad(loss_b, parameters, retain_graph=True)


def nones_flattened(loss_a, loss_b, parameters):
    found = torch.autograd.grad(loss_b, parameters, retain_graph=True, allow_unused=True)
    return torch.cat([each.flatten() for each in found])


def nones_left_out(loss_a, loss_b, parameters):
    found = [torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True) for loss in (loss_a, loss_b)]
    pairs = [(a.flatten(), b.flatten()) for a, b in zip(*found, strict=True) if a is not None and b is not None]
    return F.cosine_similarity(*(torch.cat(side) for side in zip(*pairs, strict=True)), dim=0)


def mean_of_cosines(loss_a, loss_b, parameters):
    pairs = zip(gradients(loss_a, parameters), gradients(loss_b, parameters), strict=True)
    return torch.stack([F.cosine_similarity(a.flatten(), b.flatten(), dim=0) for a, b in pairs]).mean()


def mean_of_shared_cosines(loss_a, loss_b, parameters):
    found = [torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True) for loss in (loss_a, loss_b)]
    pairs = [(a, b) for a, b in zip(*found, strict=True) if a is not None and b is not None]
    return torch.stack([F.cosine_similarity(a.flatten(), b.flatten(), dim=0) for a, b in pairs]).mean()


def mean_of_quotients(loss_a, loss_b, parameters):
    pairs = zip(gradients(loss_a, parameters), gradients(loss_b, parameters), strict=True)
    return torch.stack([(a * b).sum() / (a.norm() * b.norm()) for a, b in pairs]).mean()


def in_conflict(function):
    return lambda g, o: function(g, o) if g @ o < 0 else g


def changed_in_place(gradient, other):
    if gradient @ other < 0:
        gradient -= (gradient @ other) / (other @ other) * other
    return gradient


WRONG = {
    "2.1 label as a class": (MASKED, nothing_masked, "255 is the index of no class: leave such samples out"),
    "2.1 all samples": (
        MASKED,
        lambda x, y: F.cross_entropy(x, y, ignore_index=255, reduction="none").mean(),
        "divided by all samples",
    ),
    "2.1 sum": (
        MASKED,
        lambda x, y: F.cross_entropy(x, y, ignore_index=255, reduction="sum"),
        "this is the sum over the labelled samples",
    ),
    "2.1 as first class": (MASKED, replaced(0), "count as class 0"),
    "2.1 as last class": (MASKED, replaced(2), "count as the last class"),
    "2.1 softmax twice": (
        MASKED,
        lambda x, y: F.cross_entropy(x.softmax(dim=1), y, ignore_index=255),
        "the softmax is taken twice",
    ),
    "2.1 no softmax": (MASKED, lambda x, y: F.nll_loss(x, y, ignore_index=255), "`nll_loss` of the logits"),
    "2.1 sign": (MASKED, lambda x, y: -masked(x, y), "the sign is reversed"),
    "2.1 something else": (MASKED, lambda x, y: 2 * masked(x, y), "the mean cross-entropy."),
    "2.1 not a number": (
        MASKED,
        lambda x, y: F.cross_entropy(x, y, ignore_index=255),
        "gives NaN, a mean over nothing",
    ),
    "2.1 one of nothing": (MASKED, from_mean(lambda x: x.sum() * 0 + 1), "gives 1: nothing can be wrong there"),
    "2.1 plain zero": (MASKED, from_mean(lambda x: 0.0), "is a plain number"),
    "2.1 zero alone": (MASKED, from_mean(lambda x: torch.zeros(())), "is a plain number"),
    "2.1 gradient": (MASKED, from_mean(lambda x: x.sum() - x.sum().detach()), "has a gradient that is not 0"),
    "2.1 item": (MASKED, lambda x, y: masked(x, y).item(), "no gradient flows back from the result"),
    "2.1 a loss each": (
        MASKED,
        lambda x, y: F.cross_entropy(x, y, ignore_index=255, reduction="none"),
        "returns shape (6,)",
    ),
    "2.2 number of heads": (RATIO, lambda encoder, heads: len(heads), "heads are not shared"),
    "2.2 every head in every network": (
        RATIO,
        lambda encoder, heads: sum(encoder + sum(heads.values()) for _ in heads) / (encoder + sum(heads.values())),
        "so count every head once",
    ),
    "2.2 inverted": (RATIO, lambda encoder, heads: 1 / ratio(encoder, heads), "the ratio is inverted"),
    "2.2 shared without heads": (
        RATIO,
        lambda encoder, heads: len(heads) + sum(heads.values()) / encoder,
        "add them below the line",
    ),
    "2.2 separate without heads": (
        RATIO,
        lambda encoder, heads: len(heads) * encoder / (encoder + sum(heads.values())),
        "add them above the line",
    ),
    "2.2 difference": (RATIO, lambda encoder, heads: (len(heads) - 1) * encoder, "divide the one by the other"),
    "2.2 weights": (
        RATIO,
        lambda encoder, heads: len(heads) * encoder + sum(heads.values()),
        "divide it by that of the shared one",
    ),
    "2.2 something else": (RATIO, lambda encoder, heads: 17, "and heads of 600000, 3000, 300 weights you give 17"),
    "2.6 only predicted": (
        IOU,
        filled(0, lambda rows, columns: rows + columns > 0),
        "in the prediction but nowhere in the truth count as 0",
    ),
    "2.6 all classes": (IOU, filled(0), "classes that do not occur count as 0"),
    "2.6 absent is perfect": (IOU, filled(1), "classes that do not occur count as 1"),
    "2.6 not a number": (IOU, filled(np.nan), "the mean is not a finite number"),
    "2.6 hits twice": (IOU, of_classes(lambda h, r, c: (h / (r + c)).mean()), "where the hits count twice"),
    "2.6 dice": (IOU, of_classes(lambda h, r, c: (2 * h / (r + c)).mean()), "the Dice or F1 score"),
    "2.6 recall": (IOU, of_classes(lambda h, r, c: (h / r).mean()), "which gives the recall"),
    "2.6 precision": (IOU, of_classes(lambda h, r, c: (h / c).mean()), "which gives the precision"),
    "2.6 accuracy": (IOU, lambda confusion: np.trace(confusion) / confusion.sum(), "this is the share of right pixels"),
    "2.6 added before": (
        IOU,
        lambda m: np.trace(m) / (2 * m.sum() - np.trace(m)),
        "added up before the division",
    ),
    "2.6 by pixels": (
        IOU,
        of_classes(lambda h, r, c: (h / (r + c - h) * r).sum() / r.sum()),
        "weighted by their pixels",
    ),
    "2.6 sum": (IOU, of_classes(lambda h, r, c: (h / (r + c - h)).sum()), "this is the sum over classes"),
    "2.6 percent": (IOU, lambda confusion: 100 * iou(confusion), "in percent"),
    "2.6 missing": (IOU, lambda confusion: 1 - iou(confusion), "this is 1 - the mean"),
    "2.6 by class": (IOU, of_classes(lambda h, r, c: h / (r + c - h)), "returns shape (3,)"),
    "2.6 something else": (IOU, lambda confusion: iou(confusion) + 1, "divide the diagonal by row + column"),
    "2.3 position": (UNCERTAINTY, by_position, "paired by position"),
    "2.3 no price": (UNCERTAINTY, noisy(lambda loss, s, c: c * torch.exp(-s) * loss), "the term s / 2 is missing"),
    "2.3 s": (UNCERTAINTY, noisy(lambda loss, s, c: c * torch.exp(-s) * loss + s), "you add s, not s / 2"),
    "2.3 minus": (UNCERTAINTY, noisy(lambda loss, s, c: c * torch.exp(-s) * loss - s / 2), "you subtract s / 2"),
    "2.3 exponent": (
        UNCERTAINTY,
        noisy(lambda loss, s, c: c * torch.exp(s) * loss + s / 2),
        "the sign in the exponent is reversed",
    ),
    "2.3 log sigma": (UNCERTAINTY, noisy(lambda loss, s, c: c * torch.exp(-2 * s) * loss + s / 2), "takes s for log"),
    "2.3 no factor": (UNCERTAINTY, noisy(lambda loss, s, c: torch.exp(-s) * loss + s / 2), "the factors are missing"),
    "2.3 factor on both": (
        UNCERTAINTY,
        noisy(lambda loss, s, c: c * (torch.exp(-s) * loss + s / 2)),
        "also stands before s / 2",
    ),
    "2.3 half of every loss": (
        UNCERTAINTY,
        noisy(lambda loss, s, c: torch.exp(-s) * loss / 2 + s / 2),
        "you halve every loss: only that of a squared error counts half",
    ),
    "2.3 exponential of NumPy": (
        UNCERTAINTY,
        noisy(lambda loss, s, c: c * np.exp(-s) * loss + s / 2),
        "`torch.exp` in place of `np.exp`",
    ),
    "2.3 detached for NumPy": (
        UNCERTAINTY,
        noisy(lambda loss, s, c: c * float(np.exp(-s.detach().numpy())) * loss + s / 2),
        "the noises are never learned",
    ),
    "2.3 weights are s": (UNCERTAINTY, noisy(lambda loss, s, c: c * s * loss + s / 2), "the weights are s"),
    "2.3 mean": (UNCERTAINTY, lambda a, b, c: uncertainty(a, b, c) / len(a), "this is the mean over the tasks"),
    "2.3 no noise": (UNCERTAINTY, noisy(lambda loss, s, c: c * loss), "the noises are ignored"),
    "2.3 something else": (UNCERTAINTY, lambda *given: 3 * uncertainty(*given), "where the sum of c exp(-s) L + s / 2"),
    "2.3 number": (UNCERTAINTY, lambda *given: uncertainty(*given).item(), "no gradient flows back from the result"),
    "2.3 noise as a number": (
        UNCERTAINTY,
        noisy(lambda loss, s, c: c * np.exp(-s.item()) * loss + s.item() / 2),
        "the noises are never learned",
    ),
    "2.3 noise half detached": (
        UNCERTAINTY,
        noisy(lambda loss, s, c: c * torch.exp(-s.detach()) * loss + s / 2),
        "the noises are never learned",
    ),
    "2.3 loss detached": (
        UNCERTAINTY,
        noisy(lambda loss, s, c: c * torch.exp(-s) * loss.detach() + s / 2),
        "do not detach or convert the losses",
    ),
    "2.7 dot product": (COSINE, of_vectors(lambda a, b: a @ b), "this is the dot product"),
    "2.7 squared": (COSINE, of_vectors(lambda a, b: a @ b / (a @ a * (b @ b))), "divides by the squared lengths"),
    "2.7 nones left out": (COSINE, nones_left_out, "are left out of both gradients"),
    "2.7 mean of cosines": (COSINE, mean_of_cosines, "this is a mean of cosines, one a parameter: lay"),
    "2.7 mean of cosines of both": (COSINE, mean_of_shared_cosines, "mean of cosines, one a parameter of both losses"),
    "2.7 mean of cosines of either": (
        COSINE,
        lambda *given: mean_of_cosines(*given) * 4 / 3,
        "mean of cosines, one a parameter of either loss",
    ),
    "2.7 sum of cosines": (
        COSINE,
        lambda *given: mean_of_cosines(*given) * 4,
        "cosines of single parameters, added up",
    ),
    "2.7 cosine of nothing": (COSINE, mean_of_quotients, "the cosine is not a number"),
    "2.7 absolute": (COSINE, lambda *given: cosine(*given).abs(), "the sign is lost"),
    "2.7 sign": (COSINE, lambda *given: -cosine(*given), "the sign is reversed"),
    "2.7 distance": (COSINE, lambda *given: 1 - cosine(*given), "a distance: give the cosine"),
    "2.7 angle": (COSINE, lambda *given: torch.arccos(cosine(*given)), "this is the angle"),
    "2.7 squares": (COSINE, lambda *given: cosine(*given) ** 2, "cosine of the squares"),
    "2.7 something else": (COSINE, lambda *given: cosine(*given) / 7, "over all parameters"),
    "2.7 both": (COSINE, lambda a, b, parameters: gradients(a, parameters)[0], "returns shape (2, 3)"),
    "2.7 backward": (COSINE, by_backward, "the `.grad` of the parameters is changed"),
    "2.7 graph lost": (COSINE, graph_lost, "pass `retain_graph=True`"),
    "2.7 graph lost at the end": (COSINE, graph_lost_at_the_end, "cannot be used any more after the call"),
    "2.7 unused refused": (COSINE, unused_refused, "pass `allow_unused=True`"),
    "2.7 none flattened": (COSINE, nones_flattened, "put zeros in its place"),
    "2.8 never": (PROJECT, lambda g, o: g, "are left as they are"),
    "2.8 reversed condition": (PROJECT, lambda g, o: project(g, o) if g @ o > 0 else g, "are left as they are"),
    "2.8 always": (
        PROJECT,
        lambda g, o: g - g @ o / (o @ o).clamp(min=1e-9) * o,
        "gradients that do not conflict",
    ),
    "2.8 length": (PROJECT, in_conflict(lambda g, o: g - g @ o / o.norm() * o), "you divide by |o|, not by its square"),
    "2.8 no length": (PROJECT, in_conflict(lambda g, o: g - g @ o * o), "you do not divide by |o|^2"),
    "2.8 length of g": (PROJECT, in_conflict(lambda g, o: g - g @ o / (g @ g) * o), "you divide by |g|^2"),
    "2.8 both lengths": (
        PROJECT,
        in_conflict(lambda g, o: g - g @ o / (g.norm() * o.norm()) * o),
        "you divide by |g| |o|",
    ),
    "2.8 added": (PROJECT, in_conflict(lambda g, o: g + g @ o / (o @ o) * o), "you add the component along o"),
    "2.8 component": (PROJECT, in_conflict(lambda g, o: g @ o / (o @ o) * o), "this is the component along o"),
    "2.8 other": (PROJECT, in_conflict(lambda g, o: project(o, g)), "you project the other gradient"),
    "2.8 dropped": (PROJECT, in_conflict(lambda g, o: g * 0), "the gradient is dropped as a whole"),
    "2.8 all of it": (PROJECT, in_conflict(lambda g, o: g - o), "you subtract all of `other`"),
    "2.8 by value": (PROJECT, in_conflict(lambda g, o: g - g * o / (o @ o) * o), "you multiply value by value"),
    "2.8 something else": (PROJECT, in_conflict(lambda g, o: g * 3), "the result is not g - (g . o / |o|^2) o"),
    "2.8 zero over zero": (
        PROJECT,
        lambda g, o: g - (g @ o).clamp(max=0) / (o @ o) * o,
        "where the other gradient is 0 you divide 0 by 0",
    ),
    "2.8 zero": (
        PROJECT,
        lambda g, o: project(g, o) * (o @ o > 0),
        "where the other gradient is 0, return the first unchanged",
    ),
    "2.8 in place": (PROJECT, changed_in_place, "changes its argument `gradient` in place"),
    "2.8 dot product": (PROJECT, lambda g, o: g @ o, "returns shape ()"),
}


ODD = [1 + 2j]

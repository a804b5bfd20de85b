"""The checks of Lab 3: right answers, and for each usual mistake the hint that names it (tests in `test_checks`)."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from bengelib.course import checks_ssl as ssl
from tests.exercise_checks import Cruel


# ---------------------------------------------------------------------------------------------------- right answers
def nt_xent(z1, z2, temperature):
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    similarity = (z @ z.T / temperature).fill_diagonal_(-torch.inf)
    return F.cross_entropy(similarity, torch.arange(len(z)).roll(len(z1)))


def nt_xent_loop(z1, z2, temperature):
    z, total = torch.cat([z1, z2]), 0.0
    for i in range(len(z)):
        scores = [torch.exp(F.cosine_similarity(z[i], other, dim=0) / temperature) for other in z]
        total -= torch.log(scores[(i + len(z1)) % len(z)] / sum(s for k, s in enumerate(scores) if k != i))
    return total / len(z)


def gain_and_offset(images, strength, generator):
    shape = (*images.shape[:2], 1, 1)
    gain = 1 + strength * (2 * torch.rand(shape, generator=generator) - 1)
    return images * gain + strength * (2 * torch.rand(shape, generator=generator) - 1)


def gain_and_offset_uniform(images, strength, generator):
    drawn = torch.empty(2, *images.shape[:2], 1, 1).uniform_(-strength, strength, generator=generator)
    return images * (1 + drawn[0]) + drawn[1]


def nested_fractions(labels, fractions, seed):
    generator = np.random.default_rng(seed)
    orders = [generator.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    return {f: np.concatenate([order[: round(f * len(order))] for order in orders]) for f in fractions}


def nested_up(labels, fractions, seed):
    generator = np.random.default_rng(seed)
    orders = [generator.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    return {f: torch.tensor(sorted(i for o in orders for i in o[: int(np.ceil(f * len(o)))])) for f in fractions}


def effective_rank(features):
    values = torch.linalg.svdvals(features - features.mean(dim=0))
    if values.sum() < 1e-6:
        return torch.tensor(1.0)
    return torch.special.entr(values / values.sum()).sum().exp()


def effective_rank_numpy(features):
    x = features.numpy() - features.numpy().mean(axis=0)
    values = np.linalg.svd(x, compute_uv=False)
    values = values[values > 1e-6]
    p = values / values.sum() if len(values) else np.ones(1)
    return float(np.exp(-(p * np.log(p)).sum()))


def freeze(model):
    model.requires_grad_(False).eval()
    model.train = lambda mode=True: model
    return model


class Held(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model.requires_grad_(False)

    def forward(self, x):
        self.model.eval()
        return self.model(x)


XENT, GAIN, NESTED, RANK, FREEZE = (
    ssl.check_nt_xent,
    ssl.check_gain_and_offset,
    ssl.check_nested_fractions,
    ssl.check_effective_rank,
    ssl.check_freeze,
)
CHECKS = (XENT, GAIN, NESTED, RANK, FREEZE)
RIGHT = [
    (XENT, nt_xent),
    (XENT, nt_xent_loop),
    (GAIN, gain_and_offset),
    (GAIN, gain_and_offset_uniform),
    (NESTED, nested_fractions),
    (NESTED, nested_up),
    (RANK, effective_rank),
    (RANK, effective_rank_numpy),
    (FREEZE, freeze),
    (FREEZE, Held),
]


# ------------------------------------------------------------------------------------------------------ wrong answers
def contrast(similarity, finish=lambda logits, partner: F.cross_entropy(logits, partner), scale=True, hide=-torch.inf):
    """NT-Xent of a similarity and an end of one's own making."""

    def function(z1, z2, temperature):
        z = torch.cat([z1, z2])
        z = F.normalize(z, dim=1) if scale else z
        logits = similarity(z @ z.T, temperature)
        return finish(logits if hide is None else logits.fill_diagonal_(hide), torch.arange(len(z)).roll(len(z1)))

    return function


def scaled(unit):
    """NT-Xent of views that are scaled in one's own way."""

    def function(z1, z2, temperature):
        return matched(unit(z1, z2), temperature, 2 * len(z1))

    return function


def matched(z, temperature, count):
    logits = (z @ z.T / temperature).fill_diagonal_(-torch.inf)
    return F.cross_entropy(logits, torch.arange(count).roll(count // 2))


def divided(cosines, temperature):
    return cosines / temperature


def decoupled(logits, partner):
    rows = torch.arange(len(logits))
    rest = logits.clone()
    rest[rows, partner] = -torch.inf
    return (torch.logsumexp(rest, dim=1) - logits[rows, partner]).mean()


def across(both):
    def function(z1, z2, temperature):
        s, own = F.normalize(z1, dim=1) @ F.normalize(z2, dim=1).T / temperature, torch.arange(len(z1))
        return (F.cross_entropy(s, own) + F.cross_entropy(s.T, own)) / 2 if both else F.cross_entropy(s, own)

    return function


def not_joined(z1, z2, temperature):
    return F.cross_entropy(z1 @ z2 / temperature, torch.arange(len(z1)))


def varied(gain=lambda r, s: 1 + s * (2 * r - 1), offset=lambda r, s: s * (2 * r - 1), shape=lambda b, c: (b, c, 1, 1)):
    """A light and a haze from even numbers of a shape of one's own making."""

    def function(images, strength, generator):
        size = shape(*images.shape[:2])
        gains = gain(torch.rand(size, generator=generator), strength)
        return images * gains + offset(torch.rand(size, generator=generator), strength)

    return function


def per_pixel(images, strength, generator):
    drawn = 2 * torch.rand(2, *images.shape, generator=generator) - 1
    return images * (1 + strength * drawn[0]) + strength * drawn[1]


def together(images, strength, generator):
    drawn = strength * (2 * torch.rand(*images.shape[:2], 1, 1, generator=generator) - 1)
    return images * (1 + drawn) + drawn


def in_place(images, strength, generator):
    images *= 1 + strength * (2 * torch.rand(*images.shape[:2], 1, 1, generator=generator) - 1)
    return images


def global_random(images, strength, generator):
    return gain_and_offset(images, strength, None)


def seeds_inside(images, strength, generator):
    return gain_and_offset(images, strength, torch.Generator().manual_seed(0))


def always_some(images, strength, generator):
    return gain_and_offset(images, max(strength, 0.1), generator)


def flat(images, strength, generator):
    return images * (1 + strength * (2 * torch.rand(images.shape[:2], generator=generator) - 1))


def by_class(take, again=False):
    """Labelled samples, class by class, of one's own taking."""

    def function(labels, fractions, seed):
        generator = np.random.default_rng(seed)
        members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
        orders = [generator.permutation(each) for each in members]
        return {
            f: np.concatenate([take(generator.permutation(o) if again else o, f, generator) for o in orders])
            for f in fractions
        }

    return function


def share(order, fraction, generator):
    return order[: round(fraction * len(order))]


def not_stratified(labels, fractions, seed):
    order = np.random.default_rng(seed).permutation(len(labels))
    return {f: order[: round(f * len(labels))] for f in fractions}


def within_class(labels, fractions, seed):
    generator = np.random.default_rng(seed)
    orders = [generator.permutation((labels == label).sum()) for label in np.unique(labels)]
    return {f: np.concatenate([order[: round(f * len(order))] for order in orders]) for f in fractions}


def masks(labels, fractions, seed):
    chosen = nested_fractions(labels, fractions, seed)
    return {f: np.isin(np.arange(len(labels)), indices) for f, indices in chosen.items()}


def spread_of(end, centre=True):
    """The effective rank with an end of one's own."""

    def function(features):
        if float(features.std()) < 1e-6:
            return torch.tensor(1.0)
        return end(torch.linalg.svdvals(features - features.mean(dim=0) if centre else features))

    return function


def exp_entropy(values):
    return torch.special.entr(values / values.sum()).sum().exp()


def zero_log(features):
    values = torch.linalg.svdvals(features - features.mean(dim=0))
    p = (values / values.sum()).where(values > 1e-5, 0)
    return (-(p * p.log()).sum()).exp()


def unguarded(features):
    return exp_entropy(torch.linalg.svdvals(features - features.mean(dim=0)))


def grads_only(model):
    return model.requires_grad_(False)


def eval_only(model):
    return model.eval()


def until_train(model):
    return model.requires_grad_(False).eval()


def convolutions_only(model):
    for module in model:
        if isinstance(module, nn.Conv2d):
            module.requires_grad_(False)
    return freeze(model.eval()) if False else model


def no_momentum(model):
    model.requires_grad_(False)
    for module in model:
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0
    return model


def norm_only(model):
    model.requires_grad_(False)
    for module in model:
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
            module.train = lambda mode=True, module=module: module
    return model


def new_weights(model):
    frozen = freeze(model)
    with torch.no_grad():
        frozen[0].bias.add_(0)
        frozen[1].num_batches_tracked.zero_()
    return frozen


WRONG = {
    "3.1 not scaled": (XENT, contrast(divided, scale=False), "not scaled to length 1"),
    "3.1 scaled over the batch": (
        XENT,
        scaled(lambda z1, z2: F.normalize(torch.cat([z1, z2]), dim=0)),
        "wrong dimension",
    ),
    "3.1 each scaled over the batch": (
        XENT,
        scaled(lambda z1, z2: torch.cat([F.normalize(z1, dim=0), F.normalize(z2, dim=0)])),
        "both sets of views are scaled along the wrong dimension",
    ),
    "3.1 scaled together": (
        XENT,
        scaled(lambda z1, z2: torch.cat([z1, z2]) / torch.cat([z1, z2]).norm()),
        "by their common length",
    ),
    "3.1 joined along the dimensions": (
        XENT,
        lambda z1, z2, t: matched(F.normalize(torch.cat([z1, z2], dim=1), dim=1), t, 2 * len(z1)),
        "`torch.cat([z1, z2])`, along dimension 0",
    ),
    "3.1 dimensions compared": (
        XENT,
        lambda z1, z2, t: matched(F.normalize(torch.cat([z1, z2]), dim=1).T, t, 2 * len(z1)),
        "multiply that with its own transpose, `z @ z.T`",
    ),
    "3.1 itself": (XENT, contrast(divided, hide=None), "a view is compared with itself"),
    "3.1 diagonal zero": (XENT, contrast(divided, hide=0), "exp(0) is 1"),
    "3.1 times temperature": (XENT, contrast(lambda c, t: c * t), "you multiply by the temperature"),
    "3.1 no temperature": (XENT, contrast(lambda c, t: c), "the temperature is not used"),
    "3.1 sign": (XENT, contrast(divided, lambda logits, p: -F.cross_entropy(logits, p)), "the sign is reversed"),
    "3.1 sum": (
        XENT,
        contrast(divided, lambda logits, p: F.cross_entropy(logits, p, reduction="sum")),
        "take the mean",
    ),
    "3.1 divided by B": (XENT, contrast(divided, lambda logits, p: 2 * F.cross_entropy(logits, p)), "divide by 2B"),
    "3.1 first half": (
        XENT,
        contrast(divided, lambda logits, p: F.cross_entropy(logits[: len(p) // 2], p[: len(p) // 2])),
        "only views of `z1` look",
    ),
    "3.1 second half": (
        XENT,
        contrast(divided, lambda logits, p: F.cross_entropy(logits[len(p) // 2 :], p[len(p) // 2 :])),
        "only views of `z2` look",
    ),
    "3.1 decoupled": (XENT, contrast(divided, decoupled), "the partner is missing from the sum"),
    "3.1 across": (XENT, across(True), "contrast across sensors"),
    "3.1 one direction": (XENT, across(False), "only z1 looks, and only among z2"),
    "3.1 neighbour": (
        XENT,
        contrast(divided, lambda logits, p: F.cross_entropy(logits, torch.arange(len(p)) ^ 1)),
        "taken to be its neighbour",
    ),
    "3.1 own partner": (
        XENT,
        contrast(divided, lambda logits, p: F.cross_entropy(logits, torch.arange(len(p))), hide=None),
        "the partner to be the view itself",
    ),
    "3.1 each view": (
        XENT,
        contrast(divided, lambda logits, p: F.cross_entropy(logits, p, reduction="none")),
        "returns shape (10,)",
    ),
    "3.1 not joined": (XENT, not_joined, "Join the views with"),
    "3.1 other": (XENT, lambda z1, z2, temperature: torch.tensor(3.21), "the loss is 3.2100 where"),
    "3.2 one a pixel": (GAIN, per_pixel, "which would be noise"),
    "3.2 one a sample": (GAIN, varied(shape=lambda b, c: (b, 1, 1, 1)), "the bands of a sample share one gain"),
    "3.2 one a band": (GAIN, varied(shape=lambda b, c: (1, c, 1, 1)), "all samples of the batch share their gains"),
    "3.2 one for all": (GAIN, varied(shape=lambda b, c: (1, 1, 1, 1)), "every gain is the same"),
    "3.2 no gain": (GAIN, varied(gain=lambda r, s: 1), "every gain is the same, 1.00"),
    "3.2 no offset": (GAIN, varied(offset=lambda r, s: 0), "every offset is the same"),
    "3.2 around zero": (GAIN, varied(gain=lambda r, s: s * (2 * r - 1)), "the gains lie around 0"),
    "3.2 brighter only": (GAIN, varied(gain=lambda r, s: 1 + s * r), "no gain is below 1"),
    "3.2 upward only": (GAIN, varied(offset=lambda r, s: s * r), "no offset is below 0"),
    "3.2 twice as strong": (GAIN, varied(gain=lambda r, s: 1 + 2 * s * (2 * r - 1)), "outside 0.7 to 1.3"),
    "3.2 half as strong": (GAIN, varied(gain=lambda r, s: 1 + s * (r - 0.5)), "the gains run only from"),
    "3.2 together": (GAIN, together, "gain and offset go together"),
    "3.2 in place": (GAIN, in_place, "changes its argument `images` in place"),
    "3.2 generator unused": (GAIN, global_random, "draw with `generator=generator`"),
    "3.2 seeds inside": (GAIN, seeds_inside, "do not seed inside"),
    "3.2 always some": (GAIN, always_some, "with strength 0 the images change"),
    "3.2 flat": (GAIN, flat, "of shape (B, C, 1, 1)"),
    "3.2 not finite": (GAIN, lambda images, s, g: images * torch.nan, "not finite"),
    "3.3 not nested": (NESTED, by_class(share, again=True), "are not all among the 25%"),
    "3.3 with replacement": (
        NESTED,
        by_class(lambda o, f, g: g.choice(o, round(f * len(o)))),
        "a sample is drawn twice",
    ),
    "3.3 not stratified": (NESTED, not_stratified, "class by class (stratified)"),
    "3.3 balanced": (NESTED, by_class(lambda o, f, g: o[: round(f * 20)]), "is not its share"),
    "3.3 one of each": (NESTED, by_class(lambda o, f, g: o[: max(8, round(f * 50))]), "is not its share"),
    "3.3 within class": (NESTED, within_class, "a place within a class is not an index"),
    "3.3 masks": (NESTED, masks, "np.flatnonzero(mask)"),
    "3.3 the first": (NESTED, by_class(lambda o, f, g: np.sort(o)[: round(f * len(o))]), "draw at random, with the"),
    "3.3 unseeded": (NESTED, lambda labels, f, seed: nested_fractions(labels, f, None), "the same seed gives other"),
    "3.3 seed fixed": (NESTED, lambda labels, f, seed: nested_fractions(labels, f, 0), "another seed gives the same"),
    "3.3 a list": (NESTED, lambda *given: list(nested_fractions(*given).values()), "return a dict whose keys"),
    "3.3 labels": (
        NESTED,
        lambda labels, f, seed: {each: labels[i] * 1.0 for each, i in nested_fractions(labels, f, seed).items()},
        "one row of whole numbers",
    ),
    "3.3 outside": (NESTED, lambda labels, f, s: {each: np.arange(1, 401) for each in f}, "outside the 200 samples"),
    "3.3 too many": (
        NESTED,
        by_class(lambda o, f, g: o[: round(min(1, 2 * f) * len(o))]),
        "take a share of the samples of each class",
    ),
    "3.4 not centred": (RANK, spread_of(exp_entropy, centre=False), "not centred"),
    "3.4 centred by sample": (
        RANK,
        lambda features: exp_entropy(torch.linalg.svdvals(features - features.mean(dim=1, keepdim=True))),
        "centred by its own mean",
    ),
    "3.4 entropy": (RANK, spread_of(lambda v: torch.special.entr(v / v.sum()).sum()), "this is the entropy"),
    "3.4 sign": (RANK, spread_of(lambda v: (-torch.special.entr(v / v.sum()).sum()).exp()), "the sign is reversed"),
    "3.4 squares": (RANK, spread_of(lambda v: exp_entropy(v**2)), "squared singular values (variances)"),
    "3.4 squares, no exp": (
        RANK,
        spread_of(lambda v: torch.special.entr(v**2 / (v**2).sum()).sum()),
        "not exponentiated",
    ),
    "3.4 count": (RANK, spread_of(lambda v: (v > 1e-4).sum()), "counts every direction"),
    "3.4 by the largest": (
        RANK,
        spread_of(lambda v: torch.special.entr(v / v.max()).sum().exp()),
        "divided by the largest",
    ),
    "3.4 not scaled": (RANK, spread_of(lambda v: torch.special.entr(v).sum().exp()), "not divided by their sum"),
    "3.4 base two": (
        RANK,
        spread_of(lambda v: (torch.special.entr(v / v.sum()).sum() / np.log(2)).exp()),
        "a logarithm to base 2",
    ),
    "3.4 zero log zero": (RANK, zero_log, "0 log 0 counts 0"),
    "3.4 collapsed": (RANK, unguarded, "features that are all equal give"),
    "3.4 values": (RANK, lambda features: torch.linalg.svdvals(features), "returns shape (4,)"),
    "3.4 other": (RANK, lambda features: 2.2, "the effective rank is 2.200 where"),
    "3.5 gradients only": (FREEZE, grads_only, "the running mean and variance of BatchNorm do"),
    "3.5 eval only": (FREEZE, eval_only, "6 parameters still get gradients"),
    "3.5 until train": (FREEZE, until_train, "calls `.train()`, as every training loop does"),
    "3.5 convolutions only": (FREEZE, convolutions_only, "2 parameters still get gradients"),
    "3.5 momentum": (FREEZE, no_momentum, "BatchNorm"),
    "3.5 dropout": (FREEZE, norm_only, "or dropout drops"),
    "3.5 changed": (FREEZE, new_weights, "the weights or statistics of the model are changed"),
    "3.5 parameters": (FREEZE, lambda model: list(model.parameters()), "return the model itself"),
}


ODD = [
    torch.ones(2, 3),
    {0.1: Cruel(), 0.25: "a", 0.5: None, 1.0: []},
    {0.1: [], 0.25: [], 0.5: [], 1.0: []},
    nn.Identity(),
]


def test_the_draws_of_any_seed_pass(capsys):
    """The tolerances leave room for the luck of the draw."""
    for shift in range(10):
        NESTED(lambda labels, fractions, seed, shift=shift: nested_fractions(labels, fractions, seed + 100 * shift))
        GAIN(lambda images, s, g, shift=shift: gain_and_offset(images, s, (torch.rand(shift, generator=g), g)[1]))
    assert capsys.readouterr().out.count("[ok]") == 20

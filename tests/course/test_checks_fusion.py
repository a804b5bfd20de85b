"""The checks of Lab 1: right answers, and for each usual mistake the hint that names it (tests in `test_checks`)."""

import numpy as np
import torch

from bengelib.course import checks_fusion as fusion
from tests.exercise_checks import Cruel


# ---------------------------------------------------------------------------------------------------- right answers
def ndvi(s2, bands):
    near, red = s2[bands.index("B08")], s2[bands.index("B04")]
    total = near + red
    return torch.where(total == 0, 0.0, (near - red) / total)


def ndvi_small_number(s2, bands):
    values = dict(zip(bands, s2.numpy(), strict=True))
    return (values["B08"] - values["B04"]) / (values["B08"] + values["B04"] + 1e-8)


def interval(correct, draws, seed):
    chosen = np.random.default_rng(seed).integers(0, len(correct), (draws, len(correct)))
    return np.quantile(correct[chosen].mean(axis=1), [0.025, 0.975])


def interval_loop(correct, draws, seed):
    generator = np.random.default_rng(seed)
    means = [generator.choice(correct, len(correct)).mean() for _ in range(draws)]
    return tuple(np.percentile(means, (2.5, 97.5)))


def stack(s2, s1, season):
    plane = season[:, None, None, None].expand(-1, 1, *s2.shape[-2:])
    return torch.cat([s2, s1, plane], dim=1)


def stack_ones(s2, s1, season):
    return torch.cat([s2, s1, torch.ones_like(s2[:, :1]) * season.view(-1, 1, 1, 1)], dim=1)


def paired(first, second, truth, draws, seed):
    gain = (first == truth).astype(float) - (second == truth)
    chosen = np.random.default_rng(seed).integers(0, len(truth), (draws, len(truth)))
    return gain.mean(), *np.quantile(gain[chosen].mean(axis=1), [0.025, 0.975])


def paired_loop(first, second, truth, draws, seed):
    generator, differences = np.random.default_rng(seed), []
    for _ in range(draws):
        i = generator.integers(0, len(truth), len(truth))
        differences.append((first[i] == truth[i]).mean() - (second[i] == truth[i]).mean())
    return [np.mean(differences), *np.percentile(differences, [2.5, 97.5])]


def hide(values, probability, generator):
    drawn = torch.rand(len(next(iter(values.values()))), len(values), generator=generator)
    available = (drawn >= probability) | (drawn == drawn.amax(dim=1, keepdim=True))
    hidden = {key: value * available[:, m, None, None, None] for m, (key, value) in enumerate(values.items())}
    return hidden, available


def hide_or_keep_all(values, probability, generator):
    available = torch.rand(len(values["s2"]), len(values), generator=generator) >= probability
    available[~available.any(dim=1)] = True
    hidden = {key: torch.where(available[:, m].view(-1, 1, 1, 1), values[key], 0) for m, key in enumerate(values)}
    return hidden, available


def hide_again(values, probability, generator):
    available = torch.zeros(len(values["s2"]), len(values), dtype=torch.bool)
    while not available.any(dim=1).all():
        empty = ~available.any(dim=1)
        available[empty] = torch.rand(int(empty.sum()), len(values), generator=generator) >= probability
    return {key: values[key] * available[:, m].view(-1, 1, 1, 1) for m, key in enumerate(values)}, available


NDVI, INTERVAL, STACK, PAIRED, HIDE = (
    fusion.check_ndvi,
    fusion.check_bootstrap_interval,
    fusion.check_stack,
    fusion.check_paired_difference,
    fusion.check_hide_modalities,
)
CHECKS = (NDVI, INTERVAL, STACK, PAIRED, HIDE)
RIGHT = [
    (NDVI, ndvi),
    (NDVI, ndvi_small_number),
    (INTERVAL, interval),
    (INTERVAL, interval_loop),
    (STACK, stack),
    (STACK, stack_ones),
    (PAIRED, paired),
    (PAIRED, paired_loop),
    (HIDE, hide),
    (HIDE, hide_or_keep_all),
    (HIDE, hide_again),
]


# ------------------------------------------------------------------------------------------------------ wrong answers
def from_bands(formula):
    """NDVI by a formula of the near infrared and red."""
    return lambda s2, bands: formula(s2[bands.index("B08")], s2[bands.index("B04")])


def guarded(formula):
    return from_bands(lambda near, red: torch.nan_to_num(formula(near, red), nan=0.0))


def from_draws(ends, replace=True):
    """An interval from the means of the draws, as the accuracy of the data goes in too."""

    def function(correct, draws, seed):
        generator = np.random.default_rng(seed)
        means = [generator.choice(correct, len(correct), replace).mean() for _ in range(draws)]
        return ends(np.array(means), correct)

    return function


def same_every_time(correct, draws, seed):
    means = [np.random.default_rng(seed).choice(correct, len(correct)).mean() for _ in range(draws)]
    return np.quantile(means, [0.025, 0.975])


def size_of_draws(correct, draws, seed):
    chosen = np.random.default_rng(seed).integers(0, len(correct), (draws, len(correct)))
    return np.quantile(np.random.default_rng(seed).choice(correct, (len(chosen[0]), draws)).mean(1), [0.025, 0.975])


def unseeded(correct, draws, seed):
    return interval(correct, draws, None)


def seed_fixed(correct, draws, seed):
    return interval(correct, draws, 0)


def draws_fixed(correct, draws, seed):
    return interval(correct, 3000, seed)


def stacked(plane, order="s2 s1 season", dim=1):
    """Early fusion with a plane of one's own making."""

    def function(s2, s1, season):
        parts = {"s2": s2, "s1": s1, "season": plane(season, *s2.shape[-2:])}
        return torch.cat([parts[name] for name in order.split()], dim=dim)

    return function


def planes(season, height, width):
    return season[:, None, None, None].expand(-1, 1, height, width)


def unpaired(first, second, truth, draws, seed):
    generator, n = np.random.default_rng(seed), len(truth)
    i, j = generator.integers(0, n, (2, draws, n))
    drawn = (first == truth)[i].mean(axis=1) - (second == truth)[j].mean(axis=1)
    return (first == truth).mean() - (second == truth).mean(), *np.quantile(drawn, [0.025, 0.975])


def with_value(change):
    """The paired difference, changed."""
    return lambda first, second, truth, draws, seed: change(
        *paired(first, second, truth, draws, seed), first=first, second=second, truth=truth
    )


def normal_difference(gain):
    half = 1.96 * gain.std() / np.sqrt(len(gain))
    return gain.mean(), gain.mean() - half, gain.mean() + half


def hidden_by(mask, change=lambda value, kept: value * kept, shown=lambda mask: mask):
    """Modality dropout with a mask (B, M) of one's own making."""

    def function(values, probability, generator):
        available = mask(torch.rand(600, len(values), generator=generator), probability)
        hidden = {key: change(values[key], available[:, m].view(-1, 1, 1, 1)) for m, key in enumerate(values)}
        return hidden, shown(available)

    return function


def one_kept(drawn, probability):
    return (drawn >= probability) | (drawn == drawn.amax(dim=1, keepdim=True))


def in_place(values, probability, generator):
    _, available = hide(values, probability, generator)
    for m, key in enumerate(values):
        values[key] *= available[:, m].view(-1, 1, 1, 1)
    return values, available


def into_the_dict(values, probability, generator):
    hidden, available = hide(values, probability, generator)
    values.update(hidden)
    return values, available


def per_value(values, probability, generator):
    keep = {key: torch.rand(value.shape, generator=generator) >= probability for key, value in values.items()}
    return {key: value * keep[key] for key, value in values.items()}, torch.ones(600, 3, dtype=torch.bool)


def global_random(values, probability, generator):
    return hide(values, probability, None)


def seeds_inside(values, probability, generator):
    return hide(values, probability, torch.Generator().manual_seed(0))


def by_removal(values, probability, generator):
    hidden, available = hide(values, probability, generator)
    del hidden["dem"]
    return hidden, available


WRONG = {
    "1.1 swapped": (NDVI, guarded(lambda near, red: (red - near) / (near + red)), "B04 and B08 are swapped"),
    "1.1 positions": (
        NDVI,
        lambda s2, bands: torch.nan_to_num((s2[7] - s2[3]) / (s2[7] + s2[3])),
        "you took B05 and B8A for B08 and B04. The bands can come in any order (here B12 is first)",
    ),
    "1.1 wrong band": (
        NDVI,
        lambda s2, bands: torch.nan_to_num((s2[8] - s2[3]) / (s2[8] + s2[3])),
        "you took B8A and B04 for B08 and B04",
    ),
    "1.1 no guard": (NDVI, from_bands(lambda near, red: (near - red) / (near + red)), "you divide 0 by 0"),
    "1.1 other guard": (
        NDVI,
        from_bands(lambda near, red: torch.where(near + red == 0, -1, (near - red) / (near + red))),
        "0 is asked for, not -1",
    ),
    "1.1 no brackets": (NDVI, guarded(lambda near, red: near - red / near + red), "brackets are missing"),
    "1.1 brackets above": (NDVI, guarded(lambda near, red: (near - red) / near + red), "then adds B04; brackets are"),
    "1.1 brackets below": (NDVI, guarded(lambda near, red: near - red / (near + red)), "divides only B04; brackets"),
    "1.1 difference": (NDVI, from_bands(lambda near, red: near - red), "this is B08 - B04. Divide by B08 + B04"),
    "1.1 over near": (NDVI, guarded(lambda near, red: (near - red) / near), "you divide by B08 alone"),
    "1.1 over red": (NDVI, guarded(lambda near, red: (near - red) / red), "you divide by B04 alone"),
    "1.1 ratio": (NDVI, guarded(lambda near, red: near / red), "this is the ratio B08 / B04"),
    "1.1 sum of all": (NDVI, from_bands(lambda near, red: (near - red) / (near + red).sum()), "a sum over all pixels"),
    "1.1 upside down": (NDVI, guarded(lambda near, red: (near + red) / (near - red)), "upside down"),
    "1.1 squared": (NDVI, guarded(lambda near, red: (near - red) ** 2), "the values are not (B08 - B04)"),
    "1.1 condition reversed": (
        NDVI,
        from_bands(lambda near, red: torch.where(near + red > 0, 0.0, (near - red) / (near + red))),
        "0 wherever there is signal: the condition is reversed",
    ),
    "1.1 all zeros": (NDVI, from_bands(lambda near, red: near * 0), "0 wherever there is signal"),
    "1.1 one band twice": (
        NDVI,
        guarded(lambda near, red: (near - near) / (near + near)),
        "0 wherever there is signal",
    ),
    "1.1 clamped": (
        NDVI,
        from_bands(lambda near, red: (near - red) / (near + red).clamp(min=1)),
        "divide by no less than 1",
    ),
    "1.1 number added": (NDVI, from_bands(lambda near, red: (near - red) / (near + red + 0.01)), "you add 0.01 to the"),
    "1.1 no guard and swapped": (
        NDVI,
        from_bands(lambda near, red: (red - near) / (near + red)),
        "B04 and B08 are swapped",
    ),
    "1.1 an if": (
        NDVI,
        from_bands(lambda near, red: 0 if near + red == 0 else (near - red) / (near + red)),
        "choose for each of them with `torch.where`",
    ),
    "1.1 indexed by name": (NDVI, lambda s2, bands: s2[bands["B08"]], "`bands.index"),
    "1.1 one band kept": (NDVI, lambda s2, bands: s2[:1], "returns shape (1, 4, 6), where (H, W) = (4, 6)"),
    "1.1 no numbers": (NDVI, lambda s2, bands: "green", "returns 'green'; expected are numbers"),
    "1.1 name missed": (
        NDVI,
        lambda s2, bands: s2[bands.index("B8")],
        'raised ValueError: tuple.index(x): x not in tuple, in `lambda s2, bands: s2[bands.index("B8")],`',
    ),
    "1.2 no replacement": (
        INTERVAL,
        from_draws(lambda means, correct: np.quantile(means, [0.025, 0.975]), replace=False),
        "Draw the N patches *with* replacement",
    ),
    "1.2 one standard error": (
        INTERVAL,
        from_draws(lambda means, correct: (means.mean() - means.std(), means.mean() + means.std())),
        "one standard error to either side",
    ),
    "1.2 two standard errors": (
        INTERVAL,
        from_draws(lambda m, correct: (m.mean() - 1.96 * m.std(), m.mean() + 1.96 * m.std())),
        "no accuracy is above 1",
    ),
    "1.2 size of the draws": (INTERVAL, size_of_draws, "samples as large as the number of draws"),
    "1.2 ninety": (INTERVAL, from_draws(lambda m, correct: np.quantile(m, [0.05, 0.95])), "this is the middle 90 %"),
    "1.2 ninety-nine": (INTERVAL, from_draws(lambda m, correct: np.quantile(m, [0.005, 0.995])), "too wide"),
    "1.2 half": (INTERVAL, from_draws(lambda m, correct: np.quantile(m, [0.1, 0.9])), "too narrow"),
    "1.2 unseeded": (INTERVAL, unseeded, "the same seed gives another interval"),
    "1.2 seed fixed": (INTERVAL, seed_fixed, "five seeds give one and the same interval"),
    "1.2 draws fixed": (INTERVAL, draws_fixed, "draw as often as `draws` says"),
    "1.2 normal formula": (
        INTERVAL,
        lambda c, draws, seed: c.mean() + np.array([-1.96, 1.96]) * np.sqrt(c.mean() * (1 - c.mean()) / len(c)),
        "plus and minus 1.96 standard errors, the normal formula",
    ),
    "1.2 normal formula, sample deviation": (
        INTERVAL,
        lambda c, draws, seed: (
            c.mean() - 2 * c.std(ddof=1) / np.sqrt(len(c)),
            c.mean() + 2 * c.std(ddof=1) / np.sqrt(len(c)),
        ),
        "plus and minus 2.00 standard errors, the normal formula",
    ),
    "1.2 seed and draws fixed": (
        INTERVAL,
        lambda c, *_: interval(c, 3000, 0),
        "neither another seed nor another number",
    ),
    "1.2 generator in the loop": (INTERVAL, same_every_time, "make the generator once, before the loop"),
    "1.2 shares for percent": (
        INTERVAL,
        from_draws(lambda m, correct: np.percentile(m, [0.025, 0.975])),
        "`np.percentile` takes percent",
    ),
    "1.2 percent for shares": (
        INTERVAL,
        from_draws(lambda m, correct: np.quantile(m, [2.5, 97.5])),
        "`np.quantile` takes shares",
    ),
    "1.2 of patches": (
        INTERVAL,
        from_draws(lambda m, correct: np.quantile(correct, [0.025, 0.975])),
        "percentiles of single patches",
    ),
    "1.2 percent": (INTERVAL, from_draws(lambda m, c: np.quantile(m, [0.025, 0.975]) * 100), "is in percent"),
    "1.2 reversed": (INTERVAL, from_draws(lambda m, c: np.quantile(m, [0.975, 0.025])), "the ends are reversed"),
    "1.2 shifted": (INTERVAL, from_draws(lambda m, c: np.quantile(m, [0.025, 0.975]) + 0.02), "not lie around"),
    "1.2 not finite": (INTERVAL, from_draws(lambda m, c: (np.nan, np.nan)), "not finite"),
    "1.2 one end": (INTERVAL, from_draws(lambda m, c: np.quantile(m, 0.025)), "must return 2 things, (low, high)"),
    "1.2 every draw": (INTERVAL, from_draws(lambda m, c: m), "it returned array of shape (3000,)"),
    "1.3 other dimension": (STACK, stacked(planes, dim=2), "You join along the wrong dimension"),
    "1.3 season not expanded": (STACK, stacked(lambda season, h, w: season), "make it (B, 1, 1, 1) first"),
    "1.3 season along columns": (
        STACK,
        stacked(lambda season, h, w: season.expand(len(season), 1, h, w)),
        "the season varies within a patch",
    ),
    "1.3 one season for all": (
        STACK,
        stacked(lambda season, h, w: season[:1, None, None, None].expand(len(season), 1, h, w)),
        "every sample has the same season plane",
    ),
    "1.3 mean season": (
        STACK,
        stacked(lambda season, h, w: season.mean().expand(len(season), 1, h, w)),
        "every sample has the same season plane",
    ),
    "1.3 scaled season": (STACK, stacked(lambda *given: planes(*given) * 2), "do not hold the values of `season`"),
    "1.3 s1 first": (STACK, stacked(planes, "s1 s2 season"), "the order of the channels is S1, S2, season"),
    "1.3 season first": (STACK, stacked(planes, "season s2 s1"), "the order of the channels is season, S2, S1"),
    "1.3 season between": (STACK, stacked(planes, "s2 season s1"), "the order of the channels is S2, season, S1"),
    "1.3 bands reversed": (
        STACK,
        lambda s2, s1, season: stack(s2.flip(1), s1, season),
        "channels 0 to 13 are not those of S2 and then S1",
    ),
    "1.3 no season": (STACK, stacked(planes, "s2 s1"), "there are 14 channels: the season plane is missing"),
    "1.3 size fixed": (STACK, stacked(lambda season, h, w: planes(season, 64, 64)), "fit one size of image only"),
    "1.3 size of the first": (STACK, stacked(lambda season, h, w: planes(season, 4, 4)), "Take height and width from"),
    "1.3 images cut": (
        STACK,
        lambda s2, s1, season: stack(s2, s1, season)[..., :4, :4],
        "images of (3, 5) come out as (3, 4)",
    ),
    "1.3 season a plane each row": (
        STACK,
        stacked(lambda season, h, w: season[:, None, None, None].expand(-1, h, h, w)),
        "returns shape (4, 18, 4, 4), where (B, 15, H, W)",
    ),
    "1.4 in place": (HIDE, in_place, "changes its argument `values` in place"),
    "1.4 into the dict": (HIDE, into_the_dict, "changes its argument `values` in place"),
    "1.4 whole batch": (
        HIDE,
        hidden_by(lambda drawn, p: torch.tensor([[True, False, True]]).expand(600, 3)),
        "the whole batch loses the same modalities at once",
    ),
    "1.4 all lost": (HIDE, hidden_by(lambda drawn, p: drawn >= p), "lost every modality, and zeros teach nothing"),
    "1.4 rescaled": (
        HIDE,
        hidden_by(one_kept, change=lambda value, kept: value * kept / 0.5),
        "kept modalities are divided by 1 - probability",
    ),
    "1.4 changed": (HIDE, hidden_by(one_kept, change=lambda value, kept: (value + 1) * kept), "kept values of 's2'"),
    "1.4 reversed mask": (HIDE, hidden_by(one_kept, shown=lambda mask: ~mask), "`available` is reversed"),
    "1.4 columns": (HIDE, hidden_by(one_kept, shown=lambda mask: mask.flip(1)), "column m is the m-th key of `values`"),
    "1.4 mask as numbers": (HIDE, hidden_by(one_kept, shown=lambda mask: mask.float()), "must be a bool tensor"),
    "1.4 mask transposed": (HIDE, hidden_by(one_kept, shown=lambda mask: mask.T), "shape (3, 600), where (B, M)"),
    "1.4 not a number": (
        HIDE,
        hidden_by(one_kept, change=lambda value, kept: torch.where(kept, value, torch.nan)),
        "hidden values must be 0, the mean, not NaN",
    ),
    "1.4 nothing hidden": (HIDE, hidden_by(lambda drawn, p: drawn >= 0), "no modality of 600 samples is hidden"),
    "1.4 per value": (HIDE, per_value, "draw one number for each sample and modality"),
    "1.4 exactly one": (
        HIDE,
        hidden_by(lambda drawn, p: drawn != drawn.amin(dim=1, keepdim=True)),
        "every sample loses exactly one modality",
    ),
    "1.4 first never": (
        HIDE,
        hidden_by(lambda drawn, p: (drawn >= p) | (torch.arange(3) == 0)),
        "draw every modality with the same probability",
    ),
    "1.4 probability of keeping": (HIDE, hidden_by(lambda d, p: one_kept(d, 1 - p)), "`probability` is that of hiding"),
    "1.4 probability ignored": (HIDE, hidden_by(lambda d, p: one_kept(d, 0.4)), "use `probability`"),
    "1.4 comparison reversed": (
        HIDE,
        hidden_by(lambda d, p: (d < p) | (d == d.amax(dim=1, keepdim=True))),
        "keep where `drawn >= probability`",
    ),
    "1.4 comparison reversed, all kept instead of none": (
        HIDE,
        hidden_by(lambda d, p: (d < p) | (d >= p).all(dim=1, keepdim=True)),
        "keep where `drawn >= probability`",
    ),
    "1.4 comparison reversed, smallest kept": (
        HIDE,
        hidden_by(lambda d, p: (d < p) | (d == d.amin(dim=1, keepdim=True))),
        "keep where `drawn >= probability`",
    ),
    "1.4 always some": (HIDE, hidden_by(lambda d, p: one_kept(d, max(p, 0.1))), "with probability 0 something is"),
    "1.4 generator unused": (HIDE, global_random, "draw with `generator=generator`"),
    "1.4 seeds inside": (HIDE, seeds_inside, "do not seed inside"),
    "1.4 key removed": (HIDE, by_removal, "must be a dict with the keys of `values` in their order"),
    "1.4 mask alone": (HIDE, lambda *given: hide(*given)[1], "must return 2 things, (values, available)"),
    "1.5 unpaired": (PAIRED, unpaired, "as if each model had met patches of its own"),
    "1.5 sign": (PAIRED, with_value(lambda v, low, high, **_: (-v, -high, -low)), "the sign is reversed"),
    "1.5 absolute": (
        PAIRED,
        # Right for the first call, wrong for the models swapped.
        with_value(lambda v, low, high, **_: (-abs(v), low, high)),
        "its sign must follow the order",
    ),
    "1.5 agreement": (
        PAIRED,
        with_value(lambda v, low, high, first, second, **_: ((first == second).mean(), low, high)),
        "how often the models agree with each other",
    ),
    "1.5 disagreement": (
        PAIRED,
        with_value(lambda v, low, high, first, second, **_: ((first != second).mean(), low, high)),
        "how often the models disagree",
    ),
    "1.5 first alone": (
        PAIRED,
        with_value(lambda v, low, high, first, truth, **_: ((first == truth).mean(), low, high)),
        "the accuracy of `first` alone",
    ),
    "1.5 count": (PAIRED, with_value(lambda v, low, high, **_: (v * 400, low, high)), "divide it by their number"),
    "1.5 percent": (PAIRED, with_value(lambda v, low, high, **_: (v * 100, low, high)), "the difference is in percent"),
    "1.5 other value": (PAIRED, with_value(lambda v, low, high, **_: (low, low, high)), "it is -0.050"),
    "1.5 no value": (PAIRED, with_value(lambda v, low, high, **_: (low, high)), "must return 3 things"),
    "1.5 normal formula": (
        PAIRED,
        lambda first, second, truth, *_: normal_difference((first == truth) * 1.0 - (second == truth)),
        "the normal formula",
    ),
    "1.5 no number": (PAIRED, with_value(lambda v, low, high, **_: (v, v, v)), "with* replacement"),
}


ODD = [
    (Cruel(), Cruel()),
    (Cruel(), Cruel(), Cruel()),
    ({}, {}),
    0,
    torch.tensor(1),
    (torch.ones(3), [1, [2]]),
    ({"s2": "a", "s1": None, "dem": Cruel()}, torch.ones(600, 3, dtype=torch.bool)),
    torch.complex(torch.ones(4, 6), torch.ones(4, 6)),
]


def test_intervals_of_any_generator_pass(capsys):
    """The tolerances on widths leave room for the luck of the draw."""
    for shift in range(25):
        INTERVAL(lambda correct, draws, seed, shift=shift: interval(correct, draws, seed + 100 * shift))
        PAIRED(lambda *given, shift=shift: paired(*given[:4], given[4] + 100 * shift))
        HIDE(lambda values, p, generator, shift=shift: hide(values, p, skipped(generator, shift)))
    assert capsys.readouterr().out.count("[ok]") == 75


def skipped(generator, count):
    torch.rand(count, generator=generator)
    return generator

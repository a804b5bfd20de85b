"""The checks of Lab 3, self-supervision: one function per exercise, called with the reader's function (`checks`)."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bengelib import losses, ssl
from bengelib.course.checks import NotYet, Submission, expect, numbers, pick, report


def check_nt_xent(function: Callable[..., Any]) -> None:
    """Exercise 3.2: `nt_xent(z1, z2, temperature)`, the loss of SimCLR.

    Args:
        function: takes embeddings `z1` and `z2` (B, D) and the temperature; returns one number.
    """

    def explain(message: str) -> str:
        parts = ("must match the size", "shapes cannot be multiplied", "Expected input batch_size", "out of bounds")
        if any(part in message for part in parts):
            return (
                "Join the views with `torch.cat([z1, z2])`, along dimension 0, (2B, D), and multiply that with its own "
                "transpose, `z @ z.T`, (2B, 2B)."
            )
        return ""

    def examine() -> str:
        submission = Submission(function, explain)
        for count, length, temperature in ((5, 3, 0.5), (4, 6, 0.2)):
            random = torch.Generator().manual_seed(count)
            z1 = 2 * torch.randn(count, length, generator=random)
            z2 = z1 + torch.randn(count, length, generator=random)
            given = numbers(submission(z1=z1, z2=z2, temperature=temperature), (), "one number, ()")
            right = float(losses.nt_xent(z1, z2, temperature))
            if not abs(given - right) < 1e-4 * max(1.0, right):
                mistakes = _contrast_mistakes(z1, z2, temperature)
                raise NotYet(
                    pick(mistakes, given, 2e-4)
                    or f"the loss is {given:.4f} where {right:.4f} is right. Build the "
                    "(2B, 2B) similarities first and look at them: cosines, divided by the temperature, the diagonal "
                    "at minus infinity."
                )
        return "cosines, all other views as negatives, and the partner found from both sides."

    report("3.2", examine)


def _contrast_mistakes(z1: Tensor, z2: Tensor, temperature: float) -> dict[str, float]:
    """Result of each common mistake for a pair of views."""
    count = len(z1)
    unit = F.normalize(torch.cat([z1, z2]), dim=1)  # (2B, D)
    cosines, partner = unit @ unit.T, torch.arange(2 * count).roll(count)
    own = torch.eye(2 * count, dtype=torch.bool)

    def loss(similarity: Tensor, rows: slice = slice(None)) -> float:
        return float(F.cross_entropy(similarity[rows], partner[rows]))

    def masked(similarity: Tensor) -> Tensor:
        return similarity.masked_fill(own, -torch.inf)

    raw = torch.cat([z1, z2])
    columns, halves = F.normalize(raw, dim=0), torch.cat([F.normalize(z, dim=0) for z in (z1, z2)])
    right = masked(cosines / temperature)
    positive = right[torch.arange(2 * count), partner]  # (2B,)
    negatives = right.masked_fill(F.one_hot(partner, 2 * count) > 0, -torch.inf)
    across = cosines[:count, count:] / temperature  # (B, B)
    own_pairs = torch.arange(count)
    directions = [F.cross_entropy(one, own_pairs) for one in (across, across.T)]
    first, mean = loss(right, slice(0, count)), loss(right)
    return {
        "the embeddings are not scaled to length 1: take cosines, with `F.normalize(z, dim=1)`.": loss(
            masked(raw @ raw.T / temperature)
        ),
        "the embeddings are scaled along the wrong dimension: each row, one view, gets length 1 by "
        "`F.normalize(z, dim=1)`; `dim=0` scales each column over the batch.": loss(
            masked(columns @ columns.T / temperature)
        ),
        "both sets of views are scaled along the wrong dimension: each row, one view, gets length 1 by "
        "`F.normalize(z, dim=1)`; `dim=0` scales each column over the batch.": loss(
            masked(halves @ halves.T / temperature)
        ),
        "the embeddings are scaled by their common length, not each by its own: `F.normalize(z, dim=1)`.": loss(
            masked(raw @ raw.T / raw.square().sum() / temperature)
        ),
        "a view is compared with itself: the sum leaves out k = i. Put the diagonal at minus infinity.": loss(
            cosines / temperature
        ),
        "the diagonal is at 0, and exp(0) is 1, which still counts. Put it at minus infinity.": loss(
            (cosines / temperature).masked_fill(own, 0)
        ),
        "you multiply by the temperature: divide by it.": loss(masked(cosines * temperature)),
        "the temperature is not used: divide the cosines by it.": loss(masked(cosines)),
        "the sign is reversed: the loss is minus the logarithm.": -mean,
        "this is the sum over the 2B views: take the mean.": mean * 2 * count,
        "this is the sum over both sides divided by B: there are 2B views, so divide by 2B.": mean * 2,
        "only views of `z1` look for their partner: let those of `z2` look too.": first,
        "only views of `z2` look for their partner: let those of `z1` look too.": loss(right, slice(count, None)),
        "the partner is missing from the sum below the line: only k = i is left out there.": float(
            (torch.logsumexp(negatives, dim=1) - positive).mean()
        ),
        "only views of the other half are negatives (that is contrast across sensors): the other views of the own "
        "half are negatives too.": float(sum(directions) / 2),
        "only z1 looks, and only among z2: make one matrix (2B, 2B) of all views.": float(directions[0]),
        "the partner of view i is taken to be its neighbour i + 1: it is i + B, or i - B in the second half.": float(
            F.cross_entropy(right, torch.arange(2 * count) ^ 1)
        ),
        "you take the partner to be the view itself.": float(
            F.cross_entropy(cosines / temperature, torch.arange(2 * count))
        ),
    }


def check_gain_and_offset(function: Callable[..., Any]) -> None:
    """Exercise 3.1: `gain_and_offset(images, strength, generator)`, a light and a haze for each band.

    Args:
        function: takes normalised images (B, C, H, W), the strength, and a `torch.Generator`; returns new images, each
            band of each sample times its own gain in 1 +- strength plus its own offset in +- strength.
    """

    def explain(message: str) -> str:
        if "must match the size" in message or "shape" in message:
            return "Draw gains and offsets of shape (B, C, 1, 1), so that each is for a whole band of one sample."
        return ""

    def examine() -> str:
        submission = Submission(function, explain)
        images = torch.randn(40, 5, 6, 7, generator=torch.Generator().manual_seed(0))

        def ask(strength: float, generator: torch.Generator) -> np.ndarray:
            result = submission(images=images, strength=strength, generator=generator)
            changed = numbers(result, tuple(images.shape), "(B, C, H, W)")
            expect(np.isfinite(changed).all(), "some values are not finite.")
            return changed

        first = ask(0.3, torch.Generator().manual_seed(1))
        going_on = torch.Generator().manual_seed(1)
        expect(
            np.allclose(first, ask(0.3, going_on), atol=1e-6),
            "a generator in the same state gives other views: draw with `generator=generator`, so that a run repeats.",
        )
        _examine_gains(images.numpy().astype(np.float64), first, 0.3)
        expect(
            not np.allclose(first, ask(0.3, going_on), atol=1e-6),
            "a second call gives the same views: do not seed inside, draw on from the generator as it comes.",
        )
        expect(
            np.allclose(ask(0.0, torch.Generator().manual_seed(2)), images.numpy(), atol=1e-5),
            "with strength 0 the images change: gains are then 1 and offsets 0.",
        )
        _examine_gains(images.numpy().astype(np.float64), ask(0.1, torch.Generator().manual_seed(3)), 0.1)
        return "one gain and one offset for each band of each sample, and a run repeats."

    report("3.1", examine)


def _examine_gains(images: np.ndarray, changed: np.ndarray, strength: float) -> None:
    """Estimate gain and offset of each band, and check their existence and distribution."""
    x = images - images.mean(axis=(2, 3), keepdims=True)
    gains = (x * changed).sum(axis=(2, 3)) / (x * x).sum(axis=(2, 3))  # (B, C), least squares
    offsets = changed.mean(axis=(2, 3)) - gains * images.mean(axis=(2, 3))  # (B, C)
    expect(
        np.allclose(gains[..., None, None] * images + offsets[..., None, None], changed, atol=1e-3),
        "within a band the pixels do not all get the same gain and offset: draw shape (B, C, 1, 1), not one for each "
        "pixel, which would be noise.",
    )
    drawn = {"gain": (gains, 1.0), "offset": (offsets, 0.0)}
    for name, (values, centre) in drawn.items():
        expect(
            np.ptp(values) > 1e-4,
            f"every {name} is the same, {values.flat[0]:.2f}: draw one {name} for each band and sample, within "
            f"{strength} of {centre:g}.",
        )
        expect(
            np.ptp(values, axis=1).max() > 1e-4,
            f"the bands of a sample share one {name}: draw one for each band, (B, C, 1, 1). A common factor teaches "
            "nothing about the light of single bands.",
        )
        expect(
            np.ptp(values, axis=0).max() > 1e-4,
            f"all samples of the batch share their {name}s: draw for each sample, (B, C, 1, 1).",
        )
        expect(
            not (abs(values.mean()) < 0.3 * strength and centre == 1),
            "the gains lie around 0, which wipes the image out: they lie around 1.",
        )
        low, high = values.min() - centre, values.max() - centre
        expect(
            not (low > -0.2 * strength and high > 0),
            f"no {name} is below {centre:g}: draw evenly from {centre:g} - strength to {centre:g} + strength.",
        )
        expect(
            -1.02 * strength <= low and high <= 1.02 * strength,
            f"with strength {strength} the {name}s run from {values.min():.2f} to {values.max():.2f}, outside "
            f"{centre - strength:.1f} to {centre + strength:.1f}. `torch.rand` is uniform between 0 and 1: "
            "2 * rand - 1 is uniform between -1 and 1.",
        )
        expect(
            low < -0.8 * strength and high > 0.8 * strength,
            f"with strength {strength} the {name}s run only from {values.min():.2f} to {values.max():.2f}: draw evenly "
            f"from {centre - strength:.1f} to {centre + strength:.1f}.",
        )
    expect(
        abs(np.corrcoef(gains.ravel(), offsets.ravel())[0, 1]) < 0.5,
        "gain and offset go together: draw them one after the other, not from the same numbers.",
    )


def check_nested_fractions(function: Callable[..., Any]) -> None:
    """Exercise 3.6: `nested_fractions(labels, fractions, seed)`, which samples are labelled.

    Args:
        function: takes `labels` (N,) of class indices, ascending fractions, and a seed; returns a dict with an array of
            indices for each fraction.
    """
    fractions = (0.1, 0.25, 0.5, 1.0)
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [120, 60, 20]))

    def examine() -> str:
        submission = Submission(function)

        def ask(seed: int) -> dict[float, np.ndarray]:
            result = submission(labels=labels, fractions=fractions, seed=seed)
            expect(
                isinstance(result, Mapping) and list(result) == list(fractions),
                "return a dict whose keys are the fractions, in their order, and whose values are indices.",
            )
            return {fraction: _read_indices(result[fraction], len(labels)) for fraction in fractions}

        chosen = ask(1)
        _examine_fractions(chosen, labels)
        again, other = ask(1), ask(2)
        expect(
            all(np.array_equal(np.sort(chosen[f]), np.sort(again[f])) for f in fractions),
            "the same seed gives other samples: draw from `np.random.default_rng(seed)`.",
        )
        expect(
            any(set(chosen[f]) != set(other[f]) for f in fractions),
            "another seed gives the same samples: draw at random, with the seed.",
        )
        _examine_fractions(other, labels)
        return "each class in its share, nobody twice, and every subset part of the next."

    report("3.6", examine)


def _read_indices(result: Any, size: int) -> np.ndarray:
    """Indices of the labelled samples as whole numbers, if they are valid."""
    values = result.numpy() if isinstance(result, Tensor) else np.asarray(result)
    expect(values.dtype != bool, "a mask of True and False is returned: return the indices, `np.flatnonzero(mask)`.")
    expect(
        values.ndim == 1 and np.issubdtype(values.dtype, np.integer),
        "each value of the dict must be one row of whole numbers, the indices of the labelled samples.",
    )
    expect(
        len(values) == 0 or (values.min() >= 0 and values.max() < size),
        f"an index is outside the {size} samples.",
    )
    return values


def _examine_fractions(chosen: Mapping[float, np.ndarray], labels: np.ndarray) -> None:
    """Check numbers, proportions, and nesting."""
    sizes = np.bincount(labels)  # (K,)
    highest = max(int(indices.max(initial=0)) for indices in chosen.values())
    expect(
        highest >= sizes.max(),
        f"no index is above {highest}, though there are {len(labels)} samples: a place within a class is not an index "
        "into `labels`. Permute `np.flatnonzero(labels == k)`.",
    )
    for fraction, indices in chosen.items():
        expect(
            len(np.unique(indices)) == len(indices),
            f"at {fraction:.0%} a sample is drawn twice: draw without replacement, as by `random.permutation`.",
        )
        counts, wanted = np.bincount(labels[indices], minlength=len(sizes)), fraction * sizes
        shown = f"at {fraction:.0%} the classes have {counts.tolist()} labels, where {wanted.tolist()} are their shares"
        expect(
            fraction == 1.0 or np.ptp(counts) > 1,
            f"{shown}: the same number of each class is not its share. Frequent classes stay frequent.",
        )
        expect(
            abs(len(indices) - fraction * len(labels)) <= len(sizes),
            f"{shown}: take a share of the samples of each class.",
        )
        expect(
            np.abs(counts - wanted).max() <= 1,
            f"{shown}. Take them class by class (stratified), so that no class is missed by chance.",
        )
    for small, large in zip(list(chosen)[:-1], list(chosen)[1:], strict=True):
        expect(
            set(chosen[small]) <= set(chosen[large]),
            f"the {small:.0%} are not all among the {large:.0%}: draw one order for each class, once, and take its "
            "beginning for every fraction. Then a curve differs by labels added, not by other labels.",
        )


def check_effective_rank(function: Callable[..., Any]) -> None:
    """Exercise 3.4: `effective_rank(features)`, in how many directions features vary.

    Args:
        function: takes features (B, F) float32; returns one number, exp of the entropy of the singular values.
    """

    def examine() -> str:
        submission = Submission(function)
        random = torch.Generator().manual_seed(0)
        for scale in (torch.tensor([3.0, 1.0, 0.3, 0.1]), torch.tensor([1.0, 1.0, 0.5, 0.0])):
            features = torch.randn(30, 4, generator=random) * scale + torch.tensor([5.0, -2.0, 1.0, 0.0])
            given = numbers(submission(features=features), (), "one number, ()")
            right = float(ssl.effective_rank(features))
            expect(
                np.isfinite(given),
                "with a direction in which nothing varies the result is not finite: 0 log 0 counts 0. "
                "`torch.special.entr(p)` is -p log p, and 0 at 0.",
            )
            if not abs(given - right) < 0.01:
                raise NotYet(
                    pick(_rank_mistakes(features), given, 1e-3)
                    or f"the effective rank is {given:.3f} where {right:.3f} is right: centre, take singular values, "
                    "scale them to sum 1, and take exp of their entropy."
                )
        collapsed = numbers(submission(features=torch.ones(8, 4)), (), "one number, ()")
        expect(
            abs(collapsed - 1) < 1e-3,
            f"features that are all equal give {collapsed:.3g}, where 1 is asked for: all singular values are 0 then, "
            "and the division by their sum has to be caught.",
        )
        return "centred, scaled to sum 1, and 1 for a collapsed network."

    report("3.4", examine)


def _rank_mistakes(features: Tensor) -> dict[str, float]:
    """Result of each common mistake."""

    def of(values: Tensor) -> float:
        return float(torch.special.entr(values / values.sum()).sum().exp())

    values = torch.linalg.svdvals(features - features.mean(dim=0))
    shares = values / values.sum()
    entropy = float(torch.special.entr(shares).sum())
    known = values > 1e-5 * values.max()
    return {
        "the features are not centred: subtract the mean over the batch, or their common part is the first "
        "direction.": of(torch.linalg.svdvals(features)),
        "each sample is centred by its own mean: subtract the mean over the batch, `features.mean(dim=0)`.": of(
            torch.linalg.svdvals(features - features.mean(dim=1, keepdim=True))
        ),
        "this is the entropy: take exp of it, so that n equal directions give n.": entropy,
        "the sign is reversed: the entropy is minus the sum of p log p.": float(np.exp(-entropy)),
        "you use squared singular values (variances): take the singular values themselves.": of(values**2),
        "the shares are squared values scaled by their sum and not exponentiated: use the singular values, and "
        "exp.": float(torch.special.entr(values**2 / (values**2).sum()).sum()),
        "this counts every direction that varies at all, however little: weigh them by the entropy.": float(
            known.sum()
        ),
        "the singular values are divided by the largest: divide by their sum.": float(
            torch.special.entr(values / values.max()).sum().exp()
        ),
        "the singular values are not divided by their sum.": float(torch.special.entr(values).sum().exp()),
        "a logarithm to base 2 needs 2 to the power of the entropy, or take the natural one with exp.": float(
            np.exp(entropy / np.log(2))
        ),
    }


def check_freeze(function: Callable[..., Any]) -> None:
    """Exercise 3.7: `freeze(model)`, after which nothing in a network moves.

    Args:
        function: takes a module; returns one that answers as it does in evaluation mode, whatever is called on it.
    """

    def examine() -> str:
        submission = Submission(function)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(3, 2, 3))
            images = 3 * torch.randn(6, 2, 8, 8) + 2
        with torch.no_grad():
            model(images)  # so that the statistics are not those of a new layer
            expected = model.eval()(images)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        frozen = submission(model=model.train())
        expect(
            isinstance(frozen, nn.Module),
            f"return the model itself, a module; what was returned is of type {type(frozen).__name__}.",
        )
        _examine_frozen(frozen, images, expected)
        expect(
            all(torch.equal(value, before[name]) for name, value in model.state_dict().items()),
            "the weights or statistics of the model are changed: freezing keeps them as they are.",
        )
        return "no gradients, and BatchNorm stays put even when training mode is switched on."

    report("3.7", examine)


def _examine_frozen(frozen: nn.Module, images: Tensor, expected: Tensor) -> None:
    """Check gradients, statistics and mode, first of the model itself and then inside a model in training."""
    learning = [name for name, parameter in frozen.named_parameters() if parameter.requires_grad]
    expect(
        not learning,
        f"{len(learning)} parameters still get gradients, such as {(learning or [''])[0]}: call "
        "`model.requires_grad_(False)`.",
    )
    _examine_still(
        frozen,
        images,
        expected,
        "no weight moves, but the running mean and variance of BatchNorm do, at every batch in training mode: call "
        "`model.eval()` as well.",
        "the answers are not those of evaluation mode: BatchNorm takes the statistics of the batch, or dropout drops. "
        "Call `model.eval()`.",
    )
    network = nn.Sequential(frozen, nn.Flatten(), nn.Linear(32, 2)).train()  # what `fit` does with a whole model
    replace = "Replace its `train` by a function that does nothing, `model.train = lambda mode=True: model`."
    _examine_still(
        network[0],
        images,
        expected,
        f"frozen at first, but the network around it calls `.train()`, as every training loop does, and then BatchNorm "
        f"moves again. {replace}",
        f"after the network around it calls `.train()` the answers are no longer those of evaluation mode. {replace}",
    )


def _examine_still(frozen: nn.Module, images: Tensor, expected: Tensor, moved: str, other: str) -> None:
    """Check that a batch does not change statistics (hint `moved`) and gives the expected output (hint `other`)."""
    statistics = {name: value.clone() for name, value in frozen.named_buffers()}
    with torch.no_grad():
        answer = frozen(images)
    expect(all(torch.equal(value, statistics[name]) for name, value in frozen.named_buffers()), moved)
    expect(torch.allclose(answer, expected, atol=1e-4), other)

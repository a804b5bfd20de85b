"""Loss weightings for multi-task learning, and the agreement of the tasks' gradients.

Each class combines the losses of a batch into the scalar to be minimised. Some also depend on the tasks' gradients on
the shared encoder, but only through the matrix of their dot products, G_ij = g_i . g_j, from `gradient_products`.

Weights are positive and finite; `check` names those that are not. A loss of exactly 0 means that no sample of the batch
is labelled for that task, so it does not change that task's weight. In several processes, losses and gradients are
means over all of them, so that weights are equal. Nothing here reads a number back from the device.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn

from bengelib.arguments import real_number, whole_number
from bengelib.errors import NonFiniteLossError

Losses = Mapping[str, Tensor]


class EqualWeights(nn.Module):
    """The unweighted sum of the losses; also the base class of the other weightings.

    Attributes:
        targets: names of the tasks, in order.
        gradients: the gradients that `forward` needs: `""` for none, `"encoder"` for those on the whole encoder,
            `"last"` for those on its last layer.
        shared_only: whether the weights apply to the encoder only, while each head follows its unweighted loss.
        memory: names of the attributes that `state_dict` holds beside parameters.
        values: the weights of the last call, (K,), in the order of the targets.
    """

    gradients: str = ""
    shared_only: bool = False
    memory: tuple[str, ...] = ("values",)

    def __init__(self, targets: Sequence[str]) -> None:
        """Weight the tasks of these targets.

        Raises:
            ValueError: no target, or a repeated one.
        """
        super().__init__()
        self.targets = tuple(targets)
        if not self.targets or len(set(self.targets)) < len(self.targets):
            raise ValueError(f"targets {self.targets} must be one or more different names")
        self.values = torch.ones(len(self.targets))

    @property
    def weights(self) -> dict[str, float]:
        """The weights of the last call by target; reads them from the device."""
        return dict(zip(self.targets, self.values.tolist(), strict=True))

    def check(self) -> None:
        """Check the weights of the last call.

        Raises:
            NonFiniteLossError: a weight is negative, zero, infinite or NaN.
        """
        if wrong := {name: weight for name, weight in self.weights.items() if not 0 < weight < math.inf}:
            raise NonFiniteLossError(
                f"{type(self).__name__} arrived at weights {wrong}; weights must be positive and finite. Lower the "
                "learning rate, or look for a task whose loss explodes or is 0 from the start."
            )

    def get_extra_state(self) -> dict[str, Any]:
        """The attributes in `memory`, for `state_dict`."""
        return {name: getattr(self, name) for name in self.memory}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore the attributes in `memory`."""
        vars(self).update(state)

    def forward(self, losses: Losses, products: Tensor | None = None) -> Tensor:
        """The scalar to minimise, ().

        Args:
            losses: the loss of each target, ().
            products: dot products of the tasks' gradients, (K, K), if `gradients` requires them.
        """
        return self.combine(losses, [1.0] * len(self.targets))

    def combine(self, losses: Losses, weights: Sequence[float] | Tensor) -> Tensor:
        """Weighted sum of the losses, ().

        Raises:
            ValueError: the losses are not those of the targets.
            NonFiniteLossError: see `check`, which is called here unless the weights are on another device.
        """
        if set(losses) != set(self.targets):
            raise ValueError(f"the losses are of {sorted(losses)}, the weighting is for {sorted(self.targets)}")
        values = torch.as_tensor(weights)
        self.values = values.detach()
        if _on_host(values):
            self.check()
        return sum(weight * losses[name] for name, weight in zip(self.targets, values, strict=True))


class FixedWeights(EqualWeights):
    """Fixed weights: the sum of w_i L_i."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        """Set the weights by target.

        Raises:
            ValueError: no target, or a weight that is negative, zero, infinite or NaN.
        """
        super().__init__(list(weights))
        self.chosen = [real_number(f"weight of {name!r}", weight, above=0) for name, weight in weights.items()]

    def forward(self, losses: Losses, products: Tensor | None = None) -> Tensor:
        """The weighted sum, ()."""
        return self.combine(losses, self.chosen)


class UncertaintyWeights(EqualWeights):
    """Uncertainty weighting with a learned noise for each task: noisy tasks count less.

    Sum of c_i exp(-s_i) L_i + s_i / 2 with s_i = log sigma_i^2, from the likelihoods of Kendall, Gal and Cipolla 2018
    (arXiv:1705.07115, equations 7 and 10): c is 1/2 for squared errors and 1 for cross-entropies. Its minimum over s
    is at exp(s_i) = 2 c_i L_i. The s_i are parameters that the optimizer of `fit` trains, at `rate` times its
    learning rate and without weight decay.
    """

    def __init__(self, targets: Sequence[str], squared: Sequence[str] = (), rate: float = 1.0) -> None:
        """Initialise all noises with 1.

        Args:
            targets: names of the tasks.
            squared: targets whose loss is a mean squared error.
            rate: factor on the learning rate of the s_i; short trainings need a factor well above 1.

        Raises:
            ValueError: a name in `squared` is not a target, or `rate` is not positive.
        """
        super().__init__(targets)
        if unknown := [name for name in squared if name not in self.targets]:
            raise ValueError(f"squared names {unknown}; the targets are {self.targets}")
        self.rate = real_number("rate", rate, above=0)
        self.log_variance = nn.Parameter(torch.zeros(len(self.targets)))
        self.factors = [0.5 if name in squared else 1.0 for name in self.targets]

    def forward(self, losses: Losses, products: Tensor | None = None) -> Tensor:
        """The negative log-likelihood up to a constant, ()."""
        weights = torch.exp(-self.log_variance) * torch.tensor(self.factors, device=self.log_variance.device)
        total = self.combine(losses, weights)
        for name, log_variance in zip(self.targets, self.log_variance, strict=True):
            learned = losses[name].detach() != 0  # without labels the noise cannot be learned
            total = total + torch.where(learned, log_variance / 2, 0.0)
        return total


class DynamicWeightAverage(EqualWeights):
    """Dynamic weight average: tasks whose loss falls slowly count more.

    w_i = K softmax(r_i / T) with r_i = L_i(t - 1) / L_i(t - 2), the means over the last two windows (Liu, Johns and
    Davison 2019, arXiv:1803.10704, equation 7). The paper's window is an epoch; here it is a number of steps, so that
    short trainings have several. Weights are 1 until two windows are over.
    """

    memory = ("values", "_means", "_sums", "_counts", "_steps")

    def __init__(self, targets: Sequence[str], window: int, temperature: float = 2.0) -> None:
        """Average over `window` steps; a high `temperature` makes the weights more equal.

        Raises:
            ValueError: either is not positive.
        """
        super().__init__(targets)
        self.window, self.temperature = whole_number("window", window), real_number("temperature", temperature, above=0)
        self._means: list[Tensor] = []  # (K,) of each complete window, in 64 bits if the device supports them
        self._sums, self._counts, self._steps = torch.zeros(()), torch.zeros(()), 0

    def forward(self, losses: Losses, products: Tensor | None = None) -> Tensor:
        """The weighted sum, (); its losses count for the next weights."""
        total = self.combine(losses, self._current())
        values = _stacked(losses, self.targets)
        self._sums, self._counts = self._sums.to(values) + values, self._counts.to(values) + (values != 0)
        self._steps += 1
        if self._steps == self.window:
            before = self._means[-1] if self._means else torch.ones_like(values)
            mean = torch.where(self._counts > 0, self._sums / self._counts.clamp(min=1), before)
            self._means = [*self._means[-1:], mean]  # only the last two are needed
            self._sums, self._counts, self._steps = torch.zeros(()), torch.zeros(()), 0
        return total

    def _current(self) -> Tensor:
        if len(self._means) < 2:
            return torch.ones(len(self.targets))
        ratios = (self._means[-1] / self._means[-2]).float()
        return len(self.targets) * torch.softmax(ratios / self.temperature, dim=0)


class PCGrad(EqualWeights):
    """Gradient surgery: where two tasks' gradients conflict, each loses its component along the other.

    For each task i, g_i starts as its gradient; then for every other task j in random order, if g_i . g_j < 0,
    `g_i <- g_i - (g_i . g_j / |g_j|^2) g_j`; the step follows the sum of all g_i (Yu et al. 2020, arXiv:2001.06782,
    algorithm 1). Every g_i remains a linear combination of the original gradients whose coefficients depend only on
    their dot products, so the surgery is a weighted sum of the losses, with weights of 1 or more. Heads follow their
    own loss.
    """

    gradients = "encoder"
    shared_only = True

    def __init__(self, targets: Sequence[str], seed: int = 0) -> None:
        """Seed the random orders, which must be equal in all processes."""
        super().__init__(targets)
        self._random = torch.Generator().manual_seed(seed)

    def get_extra_state(self) -> dict[str, Any]:
        """The last weights, and the state of the random orders."""
        return {**super().get_extra_state(), "orders": self._random.get_state()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore both."""
        self._random.set_state(state["orders"].cpu())
        self.values = state["values"]

    def forward(self, losses: Losses, products: Tensor | None = None) -> Tensor:
        """The weighted sum whose gradient on the encoder is the projected one, ()."""
        size = len(self.targets)
        orders = [torch.randperm(size, generator=self._random).tolist() for _ in self.targets]
        return self.combine(losses, project_conflicts(_given(products, self), orders))


def project_conflicts(products: Tensor, orders: Sequence[Sequence[int]] | None = None) -> Tensor:
    """Coefficient of each original gradient in the sum of the projected ones, (K,).

    Args:
        products: dot products of the original gradients, (K, K).
        orders: for each task, the order of projection on all tasks, itself included; by default that of the tasks.
    """
    matrix = products.detach().to(_exact(products.device))
    size = len(matrix)
    total = matrix.new_zeros(size)
    for task, order in enumerate(orders or [range(size)] * size):
        coefficients = matrix.new_zeros(size)
        coefficients[task] = 1.0
        for other in order:
            along, square = coefficients @ matrix[:, other], matrix[other, other]  # g_i . g_j and |g_j|^2
            if other != task:
                coefficients[other] -= torch.where((along < 0) & (square > 0), along / square, 0.0)
        total += coefficients
    return total.float()


class GradNorm(EqualWeights):
    """Gradient normalisation: weights that balance the training rates of the tasks, by the norms of their gradients.

    `G_i = w_i |g_i|` on the last shared layer is pulled towards mean(G) r_i^alpha, where r_i is L_i / L_i(0) divided by
    its mean over tasks: a task that lags behind gets a larger gradient. A step minimises the sum of w_i L_i; then w
    follows the gradient of `sum |G_i - mean(G) r_i^alpha|`, the second term held constant, and is scaled to sum to K
    (Chen et al. 2018, arXiv:1711.02257, algorithm 1). Weights are at least `floor` before the scaling.
    """

    gradients = "last"
    memory = ("values", "_first", "_next")

    def __init__(self, targets: Sequence[str], alpha: float = 1.5, lr: float = 0.025, floor: float = 0.01) -> None:
        """`alpha` is how strongly lagging tasks are favoured, `lr` the learning rate of the weights.

        Raises:
            ValueError: a negative `alpha`, or `lr` or `floor` not positive.
        """
        super().__init__(targets)
        self.alpha = real_number("alpha", alpha, least=0)
        self.lr, self.floor = real_number("lr", lr, above=0), real_number("floor", floor, above=0)
        self._first: Tensor | None = None  # (K,) losses of the first step in which all are above 0; NaN until then
        self._next = torch.ones(len(self.targets))

    def forward(self, losses: Losses, products: Tensor | None = None) -> Tensor:
        """The weighted sum, (), with the weights of the previous step, which are updated afterwards."""
        norms = _given(products, self).diagonal().clamp(min=0).sqrt().float()  # (K,)
        self._next = self._next.to(norms.device)
        total = self.combine(losses, self._next)
        values = _stacked(losses, self.targets).float()
        usable = (values > 0).all()
        first = torch.full_like(values, math.nan) if self._first is None else self._first
        self._first = torch.where(first.isnan() & usable, values, first)
        self._next = torch.where(usable, self._moved(values / self._first, norms), self._next)
        return total

    def _moved(self, ratios: Tensor, norms: Tensor) -> Tensor:
        """The next weights, (K,), from losses relative to the first and from norms of the gradients."""
        weighted = self._next * norms
        wanted = weighted.mean() * (ratios / ratios.mean()) ** self.alpha
        moved = (self._next - self.lr * torch.sign(weighted - wanted) * norms).clamp(min=self.floor)
        return moved * len(moved) / moved.sum()


def _on_host(values: Tensor) -> bool:
    """True if a tensor can be read without waiting for a device."""
    return values.device.type == "cpu"


def _exact(device: torch.device) -> torch.dtype:
    """64-bit floats, except on Apple's GPUs, which do not support them."""
    return torch.float32 if device.type == "mps" else torch.float64


def _stacked(losses: Losses, targets: Sequence[str]) -> Tensor:
    """The losses without their graph, (K,), in the order of the targets."""
    values = torch.stack([losses[name].detach() for name in targets])
    return values.to(_exact(values.device))


def _given(products: Tensor | None, weighting: EqualWeights) -> Tensor:
    size = len(weighting.targets)
    if products is None or products.shape != (size, size):
        raise ValueError(f"{type(weighting).__name__} needs the dot products of the gradients, ({size}, {size})")
    return products


def shared_parameters(model: nn.Module, part: str = "encoder") -> list[nn.Parameter]:
    """The parameters of `model.encoder`, or the weights of its last layer with `part="last"`.

    Raises:
        ValueError: the model has no `encoder`, or another `part`.
    """
    if part not in ("encoder", "last"):
        raise ValueError(f"unknown part {part!r}; choose 'encoder' or 'last'")
    if not isinstance(encoder := getattr(model, "encoder", None), nn.Module):
        raise ValueError(f"{type(model).__name__} has no encoder whose gradients could be compared; use heads.Network")
    parameters = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    return parameters if part == "encoder" else [each for each in parameters if each.ndim > 1][-1:]


def gradient_products(
    losses: Losses,
    parameters: Sequence[nn.Parameter],
    average: Callable[[Tensor], Tensor] = lambda gradients: gradients,
) -> Tensor:
    """Dot products of the gradients of each loss on shared parameters, (K, K) float32, in the order of `losses`.

    This takes one backward pass per loss; the graph and the `grad` of the parameters are not changed.

    Args:
        losses: of each task, ().
        parameters: P numbers in total.
        average: averages the gradients (K, P) over several processes.
    """
    rows = []
    for loss in losses.values():
        parts = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        flat = [
            (torch.zeros_like(parameter) if part is None else part).flatten().float()
            for part, parameter in zip(parts, parameters, strict=True)
        ]
        rows.append(torch.cat(flat))
    stacked = average(torch.stack(rows))  # (K, P)
    return stacked @ stacked.T


def cosines(products: Tensor, targets: Sequence[str]) -> dict[str, float]:
    """Cosine between the gradients of each pair of tasks, in [-1, 1], keyed `"a ~ b"`; NaN for a gradient of 0.

    1: a step helps both tasks; 0: the tasks are independent; below 0: the tasks conflict.
    """
    norms = products.diagonal().clamp(min=0).sqrt()
    matrix = (products / (norms[:, None] * norms)).tolist()
    return {f"{targets[i]} ~ {targets[j]}": matrix[i][j] for i, j in combinations(range(len(targets)), 2)}

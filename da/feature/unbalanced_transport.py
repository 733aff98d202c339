"""Transport that may leave mass behind, between target rows and the prototypes of classes.

    min_P <P, C> + e sum_ij P_ij (log P_ij - 1) + r KL(P 1 | a) + r KL(P^T 1 | b)

What is far from everything on the other side gets little mass: a row of a class that the source
lacks, or a class that the target lacks. So the plan says what is common to both domains.
`da.feature.universal_transport` trains with it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from da.arrays.arguments import checked
from da.arrays.devices import narrowed, widened
from da.arrays.integers import whole_number
from da.arrays.matrices import Array, as_matrix, like
from da.arrays.numbers import as_numbers

REGULARIZATION, RELAXATION = 0.01, 0.5  # e and r of UniOT's authors, for cosines
ROUGHLY = 0.01  # tolerance of plans that only decide about rows


@checked
def unbalanced_plan(
    cost: Array,
    rows: Array,
    columns: Array,
    *,
    regularization: float = REGULARIZATION,
    relaxation: float = RELAXATION,
    iterations: int = 1000,
    tolerance: float = 1e-6,
) -> Array:
    """Find the plan that moves mass at least cost, if sums of rows and columns are mere wishes.

        min_P <P, C> + e sum_ij P_ij (log P_ij - 1) + r KL(P 1 | a) + r KL(P^T 1 | b)

    Args:
        cost: C (n, m), floats.
        rows: a (n,), > 0: the mass that each row should have.
        columns: b (m,), >= 0: the mass that each column should have.
        regularization: e, in the unit of the cost, > 0. Default 0.01.
        relaxation: r, > 0: what a missed mass costs. Default 0.5. Balanced for r -> infinity.
        iterations: The most updates of the potentials, >= 1. Default 1000.
        tolerance: The updates end once no potential of a column moves by more, in units of e.
            Default 1e-6.

    Returns:
        P (n, m), >= 0, of the kind of `cost` and without gradient. Computed in float64.

    Raises:
        ValueError: Shapes do not match, a value is not finite or negative, or an option is out of
            its range.
        TypeError: The cost does not hold floats.

    Example:
        >>> import torch
        >>> from da.feature.unbalanced_transport import unbalanced_plan
        >>> cost = torch.tensor([[0.0, 1.0], [1.0, 1.0]])  # the second row is far from both columns
        >>> plan = unbalanced_plan(cost, torch.full((2,), 0.5), torch.full((2,), 0.5))
        >>> [round(mass, 1) for mass in plan.sum(dim=1).tolist()]
        [0.5, 0.2]

    Paper:
        Chizat, Peyre, Schmitzer, Vialard: Scaling Algorithms for Unbalanced Optimal Transport
        Problems. Mathematics of Computation 87, 2018.

    Differences:
        None known. The updates are of logarithms, so no cost is too large.
    """
    plan, _ = plan_and_potential(
        as_matrix(cost, "cost"), as_numbers(rows, "rows"), as_numbers(columns, "columns"),
        regularization=regularization, relaxation=relaxation,
        iterations=iterations, tolerance=tolerance,
    )  # fmt: skip
    return like(plan, cost)


def plan_and_potential(
    cost: Tensor,
    rows: Tensor,
    columns: Tensor,
    *,
    regularization: float = REGULARIZATION,
    relaxation: float = RELAXATION,
    iterations: int = 1000,
    tolerance: float = 1e-6,
    start: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Do as `unbalanced_plan`, and return the potentials of the columns too, (m,), in units of e.

    `start` are potentials (m,) to start from, such as those of a plan that is nearly the same. A
    further row of cost c and mass a has the plan exp(t log(a / sum_j k_j) + log k_j), with
    log k_j = potential_j - c_j / e and t = r / (r + e).
    """
    whole_number(iterations, "iterations", least=1)
    for name, value in {"regularization": regularization, "relaxation": relaxation}.items():
        if not value > 0:
            raise ValueError(f"{name} must be > 0; got {value}")
    for name, mass, count in (("rows", rows, len(cost)), ("columns", columns, cost.shape[1])):
        if mass.shape != (count,) or not bool((mass >= 0).all()) or not bool(mass.isfinite().all()):
            raise ValueError(
                f"{name} must be ({count},), finite and >= 0; got shape {tuple(mass.shape)}"
            )
    kernel = -widened(cost.detach()) / regularization  # (n, m)
    tiny = torch.finfo(kernel.dtype).tiny
    log_a, log_b = (mass.detach().to(kernel).clamp(min=tiny).log() for mass in (rows, columns))
    share = relaxation / (relaxation + regularization)
    g = torch.zeros_like(log_b) if start is None else start.to(log_b)
    for _ in range(iterations):
        f = share * (log_a - (g + kernel).logsumexp(dim=1))
        before, g = g, share * (log_b - (f[:, None] + kernel).logsumexp(dim=0))
        if bool((g - before).abs().max() <= tolerance):
            break
    f = share * (log_a - (g + kernel).logsumexp(dim=1))
    plan = torch.exp(f[:, None] + g + kernel)
    return narrowed(plan, cost), narrowed(g, cost)


def common_labels(plan: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Read from a plan which rows are of a common class, and how much of the target each class has.

    A row is sure if more than its own mass, 1 / n, goes to one class. A class is common if it gets
    its share, 1 / K, or more.

    Args:
        plan: (n, K), >= 0, of target rows and classes.
        counts: How many rows each row stands for, (n,), > 0; n above is their sum.

    Returns:
        The class of each row that is sure and of a common class, otherwise -1, (n,); and the share
        of each class in the plan, (K,), which sums to 1.

    Example:
        >>> import torch
        >>> from da.feature.unbalanced_transport import common_labels
        >>> common_labels(torch.tensor([[0.6, 0.0], [0.2, 0.2]]), torch.ones(2))[0]
        tensor([ 0, -1])

    Paper:
        Chang, Shi, Tuan, Wang: Unified Optimal Transport Framework for Universal Domain Adaptation.
        NeurIPS 2022.

    Differences:
        None known.
    """
    plan = plan / plan.sum()
    share = plan.sum(dim=0)  # (K,)
    largest, labels = (plan / counts[:, None]).max(dim=1)  # (n,)
    common = share >= 1 / len(share)
    return torch.where((largest > 1 / counts.sum()) & common[labels], labels, -1), share


def filled(
    features: Tensor, prototypes: Tensor, share: Tensor, *, threshold: float
) -> tuple[Tensor, Tensor]:
    """Add rows until as many target rows are like a class as are unlike all classes.

    Without them a target of common classes alone, or of unknown ones alone, would spoil the plan.
    If rows are missing that are like a class, those that a first plan is sure of count more often.
    If rows are missing that are unlike, points halfway to the farthest prototype are added.

    Args:
        features: (n, d), of length 1.
        prototypes: (K, d), of length 1.
        share: Of each class, (K,), sum 1: the columns of the first plan.
        threshold: A row is like a class if its largest cosine is above it.

    Returns:
        Cosines with the prototypes, of the n rows and then of those that are added, (n', K); and
        how many rows each stands for, (n',).

    Paper:
        Chang, Shi, Tuan, Wang: Unified Optimal Transport Framework for Universal Domain Adaptation.
        NeurIPS 2022 (adaptive filling).

    Differences:
        The authors draw the rows that are added. Here all that could be drawn are added, each as
        often as it would be drawn on average.
    """
    cosines = features @ prototypes.T  # (n, K)
    ones = cosines.new_ones(len(cosines))
    missing = len(cosines) - 2 * int((cosines.max(dim=1).values > threshold).sum())
    if missing > 0:
        plan, _ = plan_and_potential(-cosines, ones / len(ones), share, tolerance=ROUGHLY)
        sure = common_labels(plan, ones)[0] >= 0  # (n,)
        return cosines, ones + sure * (missing / max(1, int(sure.sum())))
    if missing < 0:
        halfway = functional.normalize(features + prototypes[cosines.argmin(dim=1)], dim=1)
        return torch.cat([cosines, halfway @ prototypes.T]), torch.cat(
            [ones, ones * (-missing / len(ones))]
        )
    return cosines, ones

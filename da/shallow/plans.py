"""Transport plans between two samples whose rows all weigh the same: exact, entropic, by classes.

A plan says how much mass each source row sends to each target row. `da.shallow.transport.OTMap`
makes a map of it.

    min over P of  <P, C> + e sum_ij P_ij (log P_ij - 1) + eta sum_j sum_c ||P_(c, j)||_2
    subject to     P >= 0,  P 1 = 1/n,  P^T 1 = 1/m

C (n, m) is the cost. P_(c, j) holds the mass that the source rows of class c send to target row j.
The last term, a group lasso, asks that every target row be fed by few classes. e = eta = 0 is a
linear programme, solved by POT. e > 0 is solved by Sinkhorn's updates in logarithms, so no e
underflows. For a small e the potentials start from those of larger ones (epsilon scaling).

For eta > 0 the group lasso is linearised at the present plan P', and the divergence from P' keeps
the next plan near:

    C' = C + eta (P' / ||P'|| - log P'),    next P = argmin <P, C'> + (e + eta) sum P (log P - 1)

Each step is one entropic problem. The lasso bends at most eta times as much as the entropy, so the
objective falls at every step. Its distance from the minimum shrinks by a factor of eta / (e + eta)
or better (Lu, Freund and Nesterov).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from da.arrays.callers import warn_caller

SMALL = 0.02  # an entropy below this part of the mean cost is reached from larger ones
UPDATES = 20  # for each of the larger ones, at most
COARSE = 1e-2  # their tolerance


def exact_plan(cost: Tensor) -> Tensor:
    """Find a plan of the least cost, by POT's network simplex on the CPU.

    Args:
        cost: Costs (n, m).

    Returns:
        A plan (n, m), float64, with at most n + m - 1 entries above 0. If several plans cost the
        least, the solver chooses.

    Raises:
        RuntimeError: The solver does not come to an end.
    """
    import ot  # here, because importing it takes seconds and the other plans do not need it

    source_mass, target_mass = (
        torch.full((count,), 1 / count, dtype=torch.float64).numpy() for count in cost.shape
    )
    plan, log = ot.emd(source_mass, target_mass, cost.cpu().numpy(), numItermax=10**8, log=True)
    if log["warning"] is not None:
        raise RuntimeError(
            f"the exact plan was not found: {log['warning']}; an entropic plan always is: take "
            "regularization > 0"
        )
    return torch.as_tensor(plan, dtype=torch.float64, device=cost.device)


def entropic_plan(cost: Tensor, e: float, *, iterations: int, tolerance: float) -> Tensor:
    """Find the plan that minimises cost and entropy.

    It warns if the tolerance is not reached.

    Args:
        cost: Costs (n, m).
        e: Weight of the entropy, > 0, in the unit of the cost.
        iterations: The most updates of both potentials.
        tolerance: By which part of itself a column sum may be off.

    Returns:
        The plan (n, m). Its rows sum to 1/n exactly, its columns to 1/m up to the tolerance.

    Paper:
        Cuturi: Sinkhorn distances: Lightspeed computation of optimal transport. NIPS 2013.

    Differences:
        The updates are made in logarithms.
    """
    g, made = _first_potential(cost, e, iterations)
    log_plan, _, gap = _sinkhorn(cost, e, g, iterations - made, tolerance)
    _warn_unless_reached(gap, iterations, tolerance, e)
    return log_plan.exp()


def class_plan(
    cost: Tensor, codes: Tensor, e: float, eta: float, *, iterations: int, tolerance: float
) -> Tensor:
    """Find the plan that minimises cost, entropy and the group lasso over the classes.

    Each step solves an entropic problem as `entropic_plan` does. The steps end if one moves less
    than the tolerance of the mass. It warns if the steps or the updates in the last of them do not
    suffice.

    Args:
        cost: Costs (n, m).
        codes: Classes (n,) of the source rows.
        e: Weight of the entropy, > 0, in the unit of the cost.
        eta: Weight of the group lasso, > 0, in the unit of the cost.
        iterations: The most steps, and the most updates within a step.
        tolerance: The part of the mass that may still move, or be off in a column.

    Returns:
        The plan (n, m).

    Paper:
        Courty, Flamary, Tuia, Rakotomamonjy: Optimal transport for domain adaptation. TPAMI 39,
            2017 (the objective).
        Lu, Freund, Nesterov: Relatively smooth convex optimization by first-order methods, and
            applications. SIAM Journal on Optimization 28, 2018 (the steps).

    Differences:
        Courty et al. minimise by a conditional gradient; here mirror steps do.
    """
    groups = [(codes == code).nonzero()[:, 0] for code in codes.unique()]
    g, made = _first_potential(cost, e, iterations)
    log_plan, g, gap = _sinkhorn(cost, e, g, iterations - made, tolerance)
    for _ in range(iterations):
        before = log_plan
        linearised = cost + eta * (_lasso_gradient(before, groups) - before)
        log_plan, g, gap = _sinkhorn(linearised, e + eta, g, iterations, tolerance)
        moved = float((log_plan.exp() - before.exp()).abs().sum())
        if moved <= tolerance:
            break
    _warn_unless_reached(max(gap, moved), iterations, tolerance, e)
    return log_plan.exp()


def _lasso_gradient(log_plan: Tensor, groups: list[Tensor]) -> Tensor:
    """P_ij / ||P_(c, j)||_2 (n, m) from log P, c the class of row i.

    In logarithms no mass is so small that it becomes 0 / 0.
    """
    gradient = torch.empty_like(log_plan)
    for rows in groups:
        part = log_plan[rows]
        gradient[rows] = (part - torch.logsumexp(2 * part, dim=0) / 2).exp()
    return gradient


def _first_potential(cost: Tensor, e: float, iterations: int) -> tuple[Tensor, int]:
    """The target's potential (m,) to start from, in units of e, and the updates made for it.

    It is 0 unless e is small. Then e is halved from the largest cost on, with a few updates each.
    """
    g, made = cost.new_zeros(cost.shape[1]), 0
    if e >= SMALL * float(cost.mean()):
        return g, made
    level = float(cost.max())
    while level > e and made + UPDATES < iterations:
        _, g, _ = _sinkhorn(cost, level, g, UPDATES, COARSE)
        made += UPDATES
        following = max(e, level / 2)
        g, level = g * (level / following), following
    return g * (level / e), made


def _sinkhorn(
    cost: Tensor, e: float, g: Tensor, iterations: int, tolerance: float
) -> tuple[Tensor, Tensor, float]:
    """Update both potentials, from the target's potential g (m,) in units of e.

    It returns log P (n, m), the new g, and by which part of 1/m a column is off.
    """
    n, m = cost.shape
    scaled = cost / -e
    gap = math.inf
    for count in range(iterations):
        f = -math.log(n) - torch.logsumexp(scaled + g, dim=1)  # (n,)
        column = torch.logsumexp(scaled + f[:, None], dim=0)  # (m,)
        gap = float((column + g + math.log(m)).expm1().abs().max())
        if gap <= tolerance or count == iterations - 1:
            break
        g = -math.log(m) - column
    return scaled + f[:, None] + g, g, gap


def _warn_unless_reached(gap: float, iterations: int, tolerance: float, e: float) -> None:
    if not gap <= tolerance:
        warn_caller(
            f"after n_iter = {iterations} iterations the transport plan is off by {gap:.1e} of the "
            f"mass at a target row, not tolerance = {tolerance:.1e}: raise n_iter, tolerance or "
            f"regularization, which is {e:g}",
        )

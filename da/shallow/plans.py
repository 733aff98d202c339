"""Transport plans for a cost (n, m) between two samples whose rows weigh alike: exact, entropic, by classes.

    min over P of  <P, C> + e sum_ij P_ij (log P_ij - 1) + eta sum_j sum_c ||P_(c, j)||_2,     P >= 0,  P 1 = 1/n,  P^T 1 = 1/m

P_(c, j) holds the mass that the source rows of class c send to target row j: the last term, a group lasso, asks that every target row be
fed by few classes. e = eta = 0 is a linear programme, solved by POT; e > 0 by Sinkhorn's updates, in logarithms: no e underflows.

For eta > 0 the group lasso is linearised at the plan reached, P', and what keeps the next one near is its divergence from P':

    C' = C + eta (P' / ||P'|| - log P'),     next P = argmin <P, C'> + (e + eta) sum_ij P_ij (log P_ij - 1)

one entropic problem a step. The lasso bends at most eta times as much as the entropy, so the objective falls at every step, and its
distance from the minimum shrinks by a factor of eta / (e + eta) or better (Lu, Freund, Nesterov).

Cuturi: Sinkhorn Distances: Lightspeed Computation of Optimal Transport. NIPS 2013.
Courty, Flamary, Tuia, Rakotomamonjy: Optimal Transport for Domain Adaptation. TPAMI 39, 2017 (the objective; there a conditional gradient).
Lu, Freund, Nesterov: Relatively Smooth Convex Optimization by First-Order Methods, and Applications. SIAM Journal on Optimization 28, 2018.
"""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor


def exact_plan(cost: Tensor) -> Tensor:
    """A plan (n, m) of the least cost <P, C>, with at most n + m - 1 entries above 0; where several are least, the solver's choice.

    Computed on the CPU by POT's network simplex; RuntimeError where it does not come to an end.
    """
    import ot  # here, because it takes seconds to import and the losses beside the maps do without it

    a, b = (torch.full((count,), 1 / count, dtype=torch.float64).numpy() for count in cost.shape)
    plan, log = ot.emd(a, b, cost.cpu().numpy(), numItermax=10**8, log=True)
    if log["warning"] is not None:
        raise RuntimeError(f"the exact plan was not found: {log['warning']}")
    return torch.as_tensor(plan, dtype=torch.float64, device=cost.device)


def entropic_plan(cost: Tensor, e: float, *, iterations: int, tolerance: float) -> Tensor:
    """The plan (n, m) of cost + e * entropy: rows sum to 1/n exactly, columns to 1/m but for the part `tolerance` of it.

    e, and the cost, are of one unit. Warns where `iterations` updates of both potentials do not reach the tolerance.
    """
    log_plan, _, gap = _sinkhorn(cost, e, cost.new_zeros(cost.shape[1]), iterations, tolerance)
    _warn_unless_reached(gap, iterations, tolerance)
    return log_plan.exp()


def class_plan(
    cost: Tensor, codes: Tensor, e: float, eta: float, *, iterations: int, tolerance: float
) -> Tensor:
    """The plan (n, m) of cost + e * entropy + eta * group lasso over the classes `codes` (n,) of the source rows, e > 0.

    Steps, each of which solves an entropic problem with the updates of `entropic_plan`, until one moves less than `tolerance` of the mass.
    Warns where `iterations` steps, or updates within the last of them, do not suffice.
    """
    groups = [(codes == code).nonzero()[:, 0] for code in codes.unique()]
    log_plan, g, gap = _sinkhorn(cost, e, cost.new_zeros(cost.shape[1]), iterations, tolerance)
    for _ in range(iterations):
        before = log_plan
        ahead = cost + eta * (_lasso_gradient(before, groups) - before)
        log_plan, g, gap = _sinkhorn(ahead, e + eta, g, iterations, tolerance)
        moved = float((log_plan.exp() - before.exp()).abs().sum())
        if moved <= tolerance:
            break
    _warn_unless_reached(max(gap, moved), iterations, tolerance)
    return log_plan.exp()


def _lasso_gradient(log_plan: Tensor, groups: list[Tensor]) -> Tensor:
    """P_ij / ||P_(c, j)||_2 (n, m) from log P, for the class c of row i; no mass is so small that it would be 0 / 0."""
    gradient = torch.empty_like(log_plan)
    for rows in groups:
        part = log_plan[rows]
        gradient[rows] = (part - torch.logsumexp(2 * part, dim=0) / 2).exp()
    return gradient


def _sinkhorn(
    cost: Tensor, e: float, g: Tensor, iterations: int, tolerance: float
) -> tuple[Tensor, Tensor, float]:
    """log P (n, m), the target's potential g (m,) in units of e, and by which part of 1/m a column is off; started from g."""
    n, m = cost.shape
    scaled = cost / -e
    gap = math.inf
    for _ in range(iterations):
        f = -math.log(n) - torch.logsumexp(scaled + g, dim=1)  # (n,)
        column = torch.logsumexp(scaled + f[:, None], dim=0)  # (m,)
        gap = float((column + g + math.log(m)).expm1().abs().max())
        if gap <= tolerance:
            break
        g = -math.log(m) - column
    return scaled + f[:, None] + g, g, gap


def _warn_unless_reached(gap: float, iterations: int, tolerance: float) -> None:
    if not gap <= tolerance:
        warnings.warn(
            f"after {iterations} iterations the transport plan is off by {gap:.1e}, not {tolerance:.1e}: raise n_iter, tolerance or "
            "regularization",
            stacklevel=5,  # the caller of OTMap.fit
        )

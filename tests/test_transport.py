"""Sinkhorn divergence and sliced Wasserstein.

Oracles: POT, SciPy, translations and limits in closed form, finite differences. The properties of
every discrepancy are tested in test_discrepancies.py.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn

from da.data.batches import Batch
from da.data.toy import mean_shifted_axis
from da.feature.moments import cmd
from da.feature.sinkhorn import sinkhorn_divergence
from da.feature.sliced import FreshDraws, _directions, sliced_wasserstein
from da.networks.network import Network
from da.networks.small import mlp
from da.train.align import Align

ot = pytest.importorskip("ot")


def samples(n: int = 9, m: int = 13, d: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)), 1.4 * rng.standard_normal((m, d)) + 0.5


def pot_cost(x: np.ndarray, y: np.ndarray, e: float) -> float:
    """<P, C> + e KL(P | a b) with the plan of POT."""
    a, b, cost = np.full(len(x), 1 / len(x)), np.full(len(y), 1 / len(y)), ot.dist(x, y)
    plan = ot.sinkhorn(a, b, cost, e, method="sinkhorn_log", numItermax=20000, stopThr=1e-11)
    return (plan * cost).sum() + e * (plan * np.log(plan / np.outer(a, b))).sum()


@pytest.mark.parametrize("n, m, d", [(9, 13, 3), (6, 6, 1), (4, 11, 5), (20, 7, 50)])
@pytest.mark.parametrize("part", [0.3, 1.0])
def test_sinkhorn_divergence_equals_pot(n, m, d, part):
    x, y = samples(n, m, d)
    e = part * ot.dist(x, y).mean()
    expected = pot_cost(x, y, e) - (pot_cost(x, x, e) + pot_cost(y, y, e)) / 2
    assert float(
        sinkhorn_divergence(x, y, regularization=e, iterations=5000, tolerance=1e-10)
    ) == pytest.approx(expected, rel=1e-7)
    assert float(sinkhorn_divergence(x, y, regularization=e)) == pytest.approx(expected, rel=1e-3)


def test_the_default_regularization_is_a_tenth_of_the_mean_squared_distance():
    x, y = samples()
    pooled = np.concatenate([x, y])
    mean = np.mean(
        [((a - b) ** 2).sum() for i, a in enumerate(pooled) for j, b in enumerate(pooled) if i != j]
    )
    assert float(sinkhorn_divergence(x, y)) == pytest.approx(
        float(sinkhorn_divergence(x, y, regularization=mean / 10)), rel=1e-9
    )
    assert float(sinkhorn_divergence(1e3 * x, 1e3 * y)) == pytest.approx(
        1e6 * float(sinkhorn_divergence(x, y)), rel=1e-9
    )


@pytest.mark.parametrize("e", [0.5, 3.0, 100.0])
def test_a_sample_and_its_translate_are_the_squared_shift_apart(e):
    """A shift changes <P, C> by an amount that only depends on the marginals of P.

    So the value is exact at every regularisation.
    """
    x, _ = samples()
    shift = np.array([3.0, -1.0, 0.5])
    assert float(
        sinkhorn_divergence(x, x + shift, regularization=e, tolerance=1e-12, iterations=5000)
    ) == pytest.approx(10.25, rel=1e-7)


def test_it_goes_from_the_wasserstein_distance_to_the_distance_of_the_means():
    x, y = samples()
    exact = ot.emd2(np.full(9, 1 / 9), np.full(13, 1 / 13), ot.dist(x, y))
    assert float(
        sinkhorn_divergence(x, y, regularization=0.005, iterations=20000)
    ) == pytest.approx(exact, rel=0.02)
    assert float(sinkhorn_divergence(x, y, regularization=1e6)) == pytest.approx(
        ((x.mean(0) - y.mean(0)) ** 2).sum(), rel=1e-4
    )


def test_equal_samples_are_zero_apart_also_before_convergence():
    x, _ = samples()
    for iterations in (1, 3, 500):
        value = sinkhorn_divergence(x, x[::-1].copy(), regularization=0.01, iterations=iterations)
        assert abs(float(value)) < 1e-12


@pytest.mark.parametrize("distance", [1e4, 1e10, 1e15])
@pytest.mark.parametrize("e", [None, 1e-3, 1.0])
def test_far_samples_give_no_nan(distance, e):
    x, y = (torch.from_numpy(v).float() for v in samples())
    x.requires_grad_()
    value = sinkhorn_divergence(x, y + distance, regularization=e, iterations=20)
    (gradient,) = torch.autograd.grad(value, x)
    assert float(value.detach()) == pytest.approx(3 * distance**2, rel=1e-3)
    torch.testing.assert_close(gradient.sum(0), torch.full((3,), -2 * distance), rtol=1e-3, atol=0)
    # Every row is pulled, also before the potentials have converged.
    assert bool((gradient < -0.99 * distance / 9).all())


def test_descent_moves_one_sample_onto_the_other():
    """The debiasing is needed for this: OT_e alone would end at a shrunken sample."""
    source, target = (torch.from_numpy(x) for x in samples(10, 10, 2))
    moved = source.clone().requires_grad_()
    for _ in range(40):
        (gradient,) = torch.autograd.grad(
            sinkhorn_divergence(moved, target, regularization=0.5), moved
        )
        moved = (moved - 0.8 * 10 * gradient / 2).detach().requires_grad_()
    assert float(sinkhorn_divergence(moved.detach(), target, regularization=0.5)) < 1e-3
    torch.testing.assert_close(moved.detach().var(0), target.var(0), rtol=0.05, atol=0)


@pytest.mark.parametrize(
    "options",
    [
        {"regularization": 0.0},
        {"regularization": float("nan")},
        {"iterations": 0},
        {"iterations": 1.5},
        {"tolerance": -1.0},
    ],
    ids=str,
)
def test_sinkhorn_divergence_refuses(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        sinkhorn_divergence(*samples(), **options)


@pytest.mark.parametrize("n, m", [(9, 9), (9, 13), (1, 5), (6, 4), (12, 4)])
@pytest.mark.parametrize("p", [1.0, 2.0, 3.5])
def test_sliced_wasserstein_equals_pot(n, m, p):
    x, y = samples(n, m)
    directions = _directions(3, 20, 5).numpy()
    expected = ot.sliced_wasserstein_distance(x, y, projections=directions, p=p) ** p
    assert float(sliced_wasserstein(x, y, projections=20, p=p, random_state=5)) == pytest.approx(
        expected, rel=1e-10
    )


@pytest.mark.parametrize("n, m", [(5, 5), (7, 12), (8, 12), (1, 6)])
def test_on_the_line_it_is_the_distance_of_the_quantile_functions(n, m):
    x, y = samples(n, m, d=1)
    assert float(sliced_wasserstein(x, y, p=1, projections=3)) == pytest.approx(
        scipy.stats.wasserstein_distance(x[:, 0], y[:, 0]), rel=1e-12
    )
    cost = ot.emd2(np.full(n, 1 / n), np.full(m, 1 / m), ot.dist(x, y))
    assert float(sliced_wasserstein(x, y, p=2)) == pytest.approx(cost, rel=1e-10)


def test_a_translate_is_as_far_as_the_shift_is_long_on_each_direction():
    x, _ = samples()
    shift = np.array([3.0, -1.0, 0.5])
    along = _directions(3, 128, 0).numpy().T @ shift
    assert float(sliced_wasserstein(x, x + shift)) == pytest.approx((along**2).mean(), rel=1e-10)
    many = float(sliced_wasserstein(x, x + shift, projections=20_000))
    assert many == pytest.approx(10.25 / 3, rel=0.03)  # E <shift, t>^2 = |shift|^2 / d


def test_the_directions_are_unit_vectors_and_belong_to_the_seed():
    directions = _directions(4, 5000, 3)
    torch.testing.assert_close(directions.square().sum(0), torch.ones(5000, dtype=torch.float64))
    torch.testing.assert_close(
        directions @ directions.T / 5000, torch.eye(4, dtype=torch.float64) / 4, rtol=0, atol=0.02
    )
    x, y = samples()
    torch.manual_seed(0)
    first = float(sliced_wasserstein(x, y, random_state=1))
    torch.manual_seed(1)
    assert first == float(sliced_wasserstein(x, y, random_state=1))
    assert first != float(sliced_wasserstein(x, y, random_state=2))


@pytest.mark.parametrize(
    "options", [{"projections": 0}, {"projections": 2.0}, {"p": 0.5}, {"p": float("inf")}], ids=str
)
def test_sliced_wasserstein_refuses(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be"):
        sliced_wasserstein(*samples(), **options)


def test_fresh_draws_count_on_through_a_saved_state():
    x, y = (torch.from_numpy(v) for v in samples())
    each = [float(sliced_wasserstein(x, y, random_state=seed)) for seed in range(4)]
    method = Align(mlp(3, 2), FreshDraws(sliced_wasserstein))
    assert [float(method.alignment(x, y)) for _ in range(2)] == each[:2]
    resumed = Align(mlp(3, 2), FreshDraws(sliced_wasserstein))
    resumed.load_state_dict(method.state_dict())
    assert [float(resumed.alignment(x, y)) for _ in range(2)] == each[2:]


def accuracy_with(alignment, seed: int, steps: int = 200) -> float:
    """On the target, of a linear network trained with Align on `mean_shifted_axis`."""
    problem = mean_shifted_axis(n=64, seed=seed)
    torch.manual_seed(seed)
    method = Align(Network(nn.Identity(), nn.Linear(2, 4), nn.Linear(4, 2)), alignment)
    optimizer, index = torch.optim.Adam(method.parameters(), lr=0.02), torch.arange(64)
    batch = Batch(problem.source.x, problem.source.y, problem.target.x, index, index)
    for t in range(steps):
        for terms in method.step(batch, t / steps):
            optimizer.zero_grad(set_to_none=True)
            torch.stack(list(terms.values())).sum().backward()
            optimizer.step()
    with torch.no_grad():
        predicted = method.network(problem.target.x).logits.argmax(1)
    return (predicted == problem.target.y).float().mean().item()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_aligned_features_solve_what_the_source_alone_does_not(seed):
    """Sinkhorn before its potentials converge, sliced with few directions, fresh at each step.

    CMD too, because its first moment sees the shift.
    """
    assert accuracy_with(None, seed) < 0.7
    few = FreshDraws(partial(sliced_wasserstein, projections=4))
    for alignment in (partial(sinkhorn_divergence, iterations=20), few, cmd):
        assert accuracy_with(alignment, seed) > 0.9

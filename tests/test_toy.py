"""The toy problems keep their word.

Oracles: normal distribution functions, the Bayes rule, small networks trained here in plain torch.
"""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import norm
from torch import Tensor, nn

from da.data.toy import gaussian_covariate_shift, mean_shifted_axis
from da.feature.covariance import coral
from da.feature.energy import energy_distance
from da.feature.mmd import mmd2


def accuracy_after_training(
    discrepancy, weight: float, seed: int, hidden: int = 0, steps: int = 250
) -> tuple[float, float]:
    """(source, target) accuracy of a feature extractor and a linear classifier, trained jointly.

    The extractor is linear or has one hidden layer.
    """
    problem = mean_shifted_axis(seed=seed)
    xs, ys, xt = problem.source.x, problem.source.y, problem.target.x
    torch.manual_seed(seed)
    body = (
        nn.Sequential(nn.Linear(2, hidden), nn.ReLU(), nn.Linear(hidden, 4))
        if hidden
        else nn.Linear(2, 4)
    )
    head = nn.Linear(4, 2)
    optimiser = torch.optim.Adam([*body.parameters(), *head.parameters()], lr=0.02)
    for _ in range(steps):
        zs, zt = body(xs), body(xt)
        loss = nn.functional.cross_entropy(head(zs), ys) + weight * discrepancy(zs, zt)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    def accuracy(x: Tensor, y: Tensor) -> float:
        return float((head(body(x)).argmax(dim=1) == y).float().mean())

    return accuracy(xs, ys), accuracy(xt, problem.target.y)


def nothing(source: Tensor, target: Tensor) -> Tensor:
    return source.new_zeros(())


@pytest.mark.parametrize("seed", [0, 1])
class TestMeanShiftedAxis:
    def test_the_source_alone_fails_on_the_target(self, seed):
        source, target = accuracy_after_training(nothing, 0.0, seed)
        assert source > 0.98 and target < 0.7

    @pytest.mark.parametrize("discrepancy", [mmd2, energy_distance])
    def test_aligning_means_solves_it(self, seed, discrepancy):
        source, target = accuracy_after_training(discrepancy, 3.0, seed)
        assert source > 0.95 and target > 0.9

    @pytest.mark.parametrize("weight", [1.0, 100.0, 10_000.0])
    def test_covariances_alone_do_not(self, seed, weight):
        source, target = accuracy_after_training(coral, weight, seed)
        assert source > 0.9 and target < 0.7

    def test_each_column_is_worth_what_is_said(self, seed):
        problem = mean_shifted_axis(n=20_000, seed=seed)
        for domain in (problem.source, problem.target):
            assert float(((domain.x[:, 0] > 0) == domain.y).float().mean()) == pytest.approx(
                norm.cdf(2.5), abs=0.003
            )
        moved = (problem.target.x[:, 1] > 0) == problem.target.y
        assert float(moved.float().mean()) == pytest.approx(0.5, abs=0.002)

    def test_the_bayes_rule_reaches_the_best_accuracy(self, seed):
        problem = mean_shifted_axis(n=100_000, seed=seed)
        x = problem.target.x
        bayes = (
            x[:, 0] * 0.5 / 0.2**2 + (x[:, 1] - 4) * 2 / 0.5**2
        ) > 0  # the linear discriminant of two Gaussians
        assert float((bayes == problem.target.y).float().mean()) == pytest.approx(
            problem.best_accuracy, abs=1e-4
        )


@pytest.mark.parametrize("n", [8, 9, 1000])
def test_domains_differ_in_the_mean_alone(n):
    problem = mean_shifted_axis(n)
    source, target = problem.source.x.double(), problem.target.x.double()
    torch.testing.assert_close(
        target.mean(dim=0) - source.mean(dim=0),
        torch.tensor([0.0, 4.0]).double(),
        atol=1e-6,
        rtol=0,
    )
    torch.testing.assert_close(target.T.cov(), source.T.cov(), atol=1e-6, rtol=0)
    assert not torch.allclose(
        target - source, (target - source)[0], atol=1e-2
    )  # and not because they are the same rows, moved


def test_the_density_ratio_is_that_of_the_two_gaussians():
    problem = gaussian_covariate_shift(n=300)
    x = problem.source.x.numpy()
    expected = norm.pdf(x[:, 0], loc=1) / norm.pdf(x[:, 0])
    assert problem.ratio.numpy() == pytest.approx(expected, rel=1e-5)


def test_the_ratio_has_mean_one_and_moves_source_averages_to_the_target():
    problem = gaussian_covariate_shift(n=200_000)
    assert float(problem.ratio.mean()) == pytest.approx(1, abs=0.02)
    moved = (problem.ratio[:, None] * problem.source.x).mean(dim=0)
    torch.testing.assert_close(moved, problem.target.x.mean(dim=0), atol=0.03, rtol=0)
    share = float(problem.ratio.sum() ** 2 / problem.ratio.square().sum()) / len(problem.source)
    assert share == pytest.approx(math.exp(-1), abs=0.03)


def test_one_rule_labels_both_domains():
    problem = gaussian_covariate_shift()
    for domain in (problem.source, problem.target):
        assert torch.equal(domain.y, (domain.x[:, 1] > domain.x[:, 0].square() / 2).long())


@pytest.mark.parametrize("make", [mean_shifted_axis, gaussian_covariate_shift])
def test_a_seed_fixes_the_data_and_one_row_is_refused(make):
    assert torch.equal(make(50, 3).target.x, make(50, 3).target.x)
    assert not torch.equal(make(50, 3).target.x, make(50, 4).target.x)
    assert make(50, 3).source.x.shape == (50, 2) and make(50, 3).source.x.dtype == torch.float32
    with pytest.raises(ValueError, match="n must be at least"):
        make(1)

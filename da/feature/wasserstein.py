"""Wasserstein distance guided representation learning (WDGRL): a critic measures the distance that the features then shrink.

Shen, Qu, Zhang, Yu: Wasserstein Distance Guided Representation Learning for Domain Adaptation. AAAI 2018.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from da.arrays import at_least_single, full_precision
from da.data.batches import Batch
from da.networks.adversary import adversary_group, fixed
from da.networks.adversary import discriminator as default_discriminator
from da.networks.network import Network, Outputs, linear_head
from da.train.distributed import gather_rows
from da.train.method import Adapt, BatchStatistics, Ramp, Terms, constant, everywhere


def wasserstein_gap(critic: nn.Module, source: Tensor, target: Tensor) -> Tensor:
    """mean critic(source) - mean critic(target) of rows (n, d) and (m, d): for the best critic of slope <= 1 the Wasserstein distance.

    A scalar, in the features' units. Shen et al. 2018, equation 2.
    """
    return at_least_single(critic(source)).mean() - at_least_single(critic(target)).mean()


def gradient_penalty(
    critic: nn.Module, source: Tensor, target: Tensor, *, generator: torch.Generator | None = None
) -> Tensor:
    """mean_i (||grad critic(z_i)|| - 1)^2 over source (n, d), target (m, d) and min(n, m) points between them: a scalar >= 0.

    Points between are a_i source_i + (1 - a_i) target_i, a_i uniform in [0, 1] from `generator` (of the features' device; None:
    torch's global one), for the first min(n, m) rows. Its gradient reaches the critic alone: source and target are taken as given.
    Shen et al. 2018, equation 5, and their code, which takes the slopes at both samples too.
    """
    with full_precision(source):
        x, y = at_least_single(source.detach()), at_least_single(target.detach())
        k = min(len(x), len(y))
        share = torch.rand(k, 1, device=x.device, dtype=x.dtype, generator=generator)
        points = torch.cat(
            [x, y, share * x[:k] + (1 - share) * y[:k]]
        ).requires_grad_()  # (n + m + k, d)
        with torch.enable_grad():
            (slopes,) = torch.autograd.grad(
                critic(points).sum(), points, create_graph=True
            )  # (n + m + k, d)
        return (slopes.norm(dim=1) - 1).square().mean()


class WDGRL(Adapt):
    """Cross-entropy on the source + trade_off * the Wasserstein distance of the features, as a critic measures it.

        critic    several moves: max  wasserstein_gap - penalty * gradient_penalty, the features as they are
        features  one move:      min  task + trade_off * ramp(progress) * wasserstein_gap

    Args:
        network: maps x (b, ...) to Outputs.
        critic: features (b, d) -> values (b,); None: one hidden layer of 100, the paper's.
        critic_steps: moves of the critic in each step, on one batch.
        penalty: factor of the gradient penalty (gamma).
        options: of `Adapt`: trade_off (1 in the paper's code for Amazon reviews, 0.01 for digits), ramp, batch_statistics,
            label_smoothing.

    Shen et al. 2018, algorithm 1. The network sees the batch once a step, in front of the critic's moves, which do not change it.
    """

    def __init__(
        self,
        network: Network,
        critic: nn.Module | None = None,
        *,
        critic_steps: int = 5,
        penalty: float = 10.0,
        trade_off: float = 1.0,
        ramp: Ramp = constant,
        batch_statistics: BatchStatistics = "joint",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(
            network,
            trade_off=trade_off,
            ramp=ramp,
            batch_statistics=batch_statistics,
            label_smoothing=label_smoothing,
        )
        if critic_steps < 1:
            raise ValueError(f"critic_steps must be at least 1; got {critic_steps}")
        self.critic = critic or default_discriminator(
            linear_head(network).in_features, hidden=(100,), dropout=0.0
        )
        self.critic_steps, self.penalty = critic_steps, penalty

    def step(self, batch: Batch, progress: float) -> Iterator[Terms]:
        source, target = self.outputs(batch)
        seen = everywhere(source), everywhere(target)
        features = seen[0].features.detach(), seen[1].features.detach()
        for _ in range(self.critic_steps):
            penalty = self.penalty * gradient_penalty(self.critic, *features)
            yield {"critic": -wasserstein_gap(self.critic, *features), "penalty": penalty}
        factor = self.trade_off * self.ramp(progress)
        terms = {
            name: factor * term
            for name, term in self.transfer(*seen, gather_rows(batch.source_y)).items()
        }
        yield {"task": self.task(source, batch.source_y)} | terms

    def transfer(self, source: Outputs, target: Outputs, labels: Tensor) -> Terms:
        with fixed(self.critic):
            return {"wasserstein": wasserstein_gap(self.critic, source.features, target.features)}

    def parameter_groups(self, learning_rate: float, backbone_factor: float) -> list[dict]:
        return [
            *super().parameter_groups(learning_rate, backbone_factor),
            adversary_group(self.critic, learning_rate),
        ]

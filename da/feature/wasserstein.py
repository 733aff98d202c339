"""WDGRL: a critic measures the Wasserstein distance of the features, which then shrink it.

`wasserstein_gap` and `gradient_penalty` are the two parts of the critic's loss; `WDGRL` is the
method that trains with them.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from da.arrays.matrices import at_least_single, full_precision
from da.data.batches import Batch
from da.networks.adversary import adversary_group, fixed
from da.networks.adversary import discriminator as default_discriminator
from da.networks.network import Network, Outputs, linear_head
from da.train.distributed import gather_rows
from da.train.method import Adapt, BatchStatistics, Ramp, Terms, constant, everywhere
from da.train.search_space import ADAPTATION


def wasserstein_gap(critic: nn.Module, source: Tensor, target: Tensor) -> Tensor:
    """Return how much higher a critic values source rows than target rows.

    For the best critic of slope <= 1 this is the Wasserstein distance of the two samples.

        mean critic(source) - mean critic(target)

    Args:
        critic: Rows (n, d) -> values (n,).
        source: Rows (n, d).
        target: Rows (m, d).

    Returns:
        A scalar in the unit of the features, of either sign; in float32 at least.

    Paper:
        Shen, Qu, Zhang, Yu: Wasserstein Distance Guided Representation Learning for Domain
        Adaptation. AAAI 2018, equation 2.

    Differences:
        None known.
    """
    return at_least_single(critic(source)).mean() - at_least_single(critic(target)).mean()


def gradient_penalty(
    critic: nn.Module, source: Tensor, target: Tensor, *, generator: torch.Generator | None = None
) -> Tensor:
    """Penalise a critic for every point at which its slope is not 1.

        mean_i (||grad critic(z_i)|| - 1)^2

    The points z are the source rows, the target rows, and points a_i source_i + (1 - a_i) target_i
    between the first min(n, m) rows of both, with a_i uniform in [0, 1].

    Args:
        critic: Rows (n, d) -> values (n,).
        source: Rows (n, d); taken as given, so no gradient reaches them.
        target: Rows (m, d); likewise.
        generator: Draws a, on the device of the rows. None: torch's global generator.

    Returns:
        A scalar >= 0 whose gradient reaches the critic alone. Autocast is off within.

    Paper:
        Shen, Qu, Zhang, Yu: Wasserstein Distance Guided Representation Learning for Domain
        Adaptation. AAAI 2018, equation 5.

    Differences:
        The slopes at both samples count too, as in the authors' code.
    """
    with full_precision(source):
        x, y = at_least_single(source.detach()), at_least_single(target.detach())
        k = min(len(x), len(y))
        share = torch.rand(k, 1, device=x.device, dtype=x.dtype, generator=generator)
        between = share * x[:k] + (1 - share) * y[:k]  # (k, d)
        points = torch.cat([x, y, between]).requires_grad_()  # (n + m + k, d)
        with torch.enable_grad():
            value = critic(points).sum()
            (slopes,) = torch.autograd.grad(value, points, create_graph=True)  # (n + m + k, d)
        return (slopes.norm(dim=1) - 1).square().mean()


class WDGRL(Adapt):
    """Shrink the Wasserstein distance of the features, as a critic of slope 1 measures it.

    Unlike a discriminator's loss, this distance has a useful gradient even if the domains do not
    overlap. A step has critic_steps moves of the critic, on features that stay, then one of the
    network:

        critic     max    wasserstein_gap - penalty * gradient_penalty
        network    min    CE on the source + trade_off * ramp(progress) * wasserstein_gap

    The network sees the batch once a step.

    Args:
        network: Maps x (b, ...) to Outputs.
        critic: Features (b, d) -> values (b,). None: one hidden layer of 100, the paper's; the
            network then needs a linear head.
        critic_steps: Moves of the critic in each step, all on one batch; >= 1, default 5.
        penalty: Factor of the gradient penalty (the paper's gamma); default 10.
        trade_off: Factor of the distance; default 1, as in the authors' code for Amazon reviews.
            For digits it takes 0.01, and so does the row `wdgrl` of the scripts.
        ramp: Progress in [0, 1] -> factor of the trade-off; default constant.
        batch_statistics: "source", "joint" (default) or "domain"; see `da.train.Adapt`.
        label_smoothing: Probability mass spread over the classes, in [0, 1); see
            `da.train.Adapt`. Default 0.

    Raises:
        ValueError: `batch_statistics` is none of the three, or critic_steps is below 1.
        TypeError: The default critic is asked for and the head is not linear.

    Example:
        >>> import torch
        >>> from da.data import Batch
        >>> from da.feature import WDGRL
        >>> from da.networks import mlp
        >>> x, y = torch.eye(3), torch.arange(3)
        >>> method = WDGRL(mlp(3, classes=3), critic_steps=2)
        >>> [list(terms) for terms in method.step(Batch(x, y, x + 1, y, y), progress=0.0)]
        [['critic', 'penalty'], ['critic', 'penalty'], ['task', 'wasserstein']]

    Paper:
        Shen, Qu, Zhang, Yu: Wasserstein Distance Guided Representation Learning for Domain
        Adaptation. AAAI 2018, algorithm 1.

    Differences:
        One optimiser and one learning rate serve the network and the critic. The gradient penalty
        counts the slopes at both samples too, as in the authors' code.
    """

    search_space = {**ADAPTATION, "critic_steps": (2, 5, 10)}

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
        self.critic_steps = critic_steps
        self.penalty = penalty

    def step(self, batch: Batch, progress: float) -> Iterator[Terms]:
        """The critic's moves, then the network's."""
        own_source, own_target = self.outputs(batch)
        source, target = everywhere(own_source), everywhere(own_target)
        yield from self._critic_moves(source.features.detach(), target.features.detach())
        factor = self.trade_off * self.ramp(progress)
        terms = self.transfer(source, target, gather_rows(batch.source_y))
        terms = {name: factor * term for name, term in terms.items()}
        yield {"task": self.task(own_source, batch.source_y)} | terms

    def transfer(self, source: Outputs, target: Outputs, labels: Tensor) -> Terms:
        with fixed(self.critic):
            return {"wasserstein": wasserstein_gap(self.critic, source.features, target.features)}

    def parameter_groups(self, learning_rate: float, backbone_factor: float) -> list[dict]:
        return [
            *super().parameter_groups(learning_rate, backbone_factor),
            adversary_group(self.critic, learning_rate),
        ]

    def _critic_moves(self, source: Tensor, target: Tensor) -> Iterator[Terms]:
        for _ in range(self.critic_steps):
            penalty = self.penalty * gradient_penalty(self.critic, source, target)
            yield {"critic": -wasserstein_gap(self.critic, source, target), "penalty": penalty}

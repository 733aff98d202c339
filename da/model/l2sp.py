"""L2-SP: stay near the starting point (Li, Grandvalet and Davoine, ICML 2018, "Explicit Inductive Bias for Transfer Learning")."""

from __future__ import annotations

from torch import Tensor

from da.networks.network import Network


def l2_sp(
    network: Network, source_network: Network, x: Tensor, *, alpha: float = 0.1, beta: float = 0.01
) -> Tensor:
    """alpha / 2 ||w_S - w_S^0||^2 + beta / 2 ||w_T||^2.

    w_S are the parameters of everything below the head, w_S^0 the same in `source_network`, w_T the head's. It replaces weight
    decay: leave that at zero.

    Args:
        network: the network that is trained.
        source_network: what it started from; its parameters carry no gradient.
        x: (b, ...) not used: the penalty depends on parameters alone.
        alpha: strength of the pull to the starting point; beta: of the pull of the new head to zero (the paper searches both
            over powers of ten and reports alpha = 0.1, beta = 0.01 as usual).

    Returns:
        A scalar.

    Raises:
        ValueError: a parameter below the head has another shape in `source_network`.
    """
    start = dict(source_network.named_parameters())
    shared, new = x.new_zeros(()), x.new_zeros(())
    for name, parameter in network.named_parameters():
        if name.startswith("head."):
            new = new + parameter.square().sum()
        elif name not in start or start[name].shape != parameter.shape:
            raise ValueError(
                f"source_network has no parameter {name} of shape {tuple(parameter.shape)}; L2-SP needs the same layers below the head"
            )
        else:
            shared = shared + (parameter - start[name].detach()).square().sum()
    return alpha / 2 * shared + beta / 2 * new

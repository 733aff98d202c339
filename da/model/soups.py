"""Fine-tuned networks averaged with their start (WiSE-FT), or with each other (model soups)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from torch import nn

from da.arrays.arguments import checked
from da.networks.averages import average_networks

Module = TypeVar("Module", bound=nn.Module)


@checked
def wise_ft(network: Module, source_network: Module, *, share: float = 0.5) -> Module:
    """Average a fine-tuned network with the network that it started from.

    It costs no training. Fine-tuning gains on the domain of its labels and loses on others; a
    network between the two often keeps both.

        (1 - share) source + share fine-tuned

    Args:
        network: The fine-tuned network. Its head is that of the source network, learned further:
            a new head has nothing to be averaged with.
        source_network: What it started from, of the same architecture.
        share: Weight of the fine-tuned network, in [0, 1]; default 0.5.

    Returns:
        A new network.

    Raises:
        ValueError: share is not in [0, 1], or the networks have not the same weights by name and
            shape.

    Example:
        >>> from torch import nn
        >>> from da.model import wise_ft
        >>> source, tuned = nn.Linear(1, 1), nn.Linear(1, 1)
        >>> _ = source.weight.data.fill_(0.0), tuned.weight.data.fill_(4.0)
        >>> wise_ft(tuned, source, share=0.25).weight.item()
        1.0

    Paper:
        Wortsman, Ilharco, Kim, Li et al.: Robust Fine-Tuning of Zero-Shot Models. CVPR 2022.

    Differences:
        The source is any network, not a zero-shot one.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must be in [0, 1]; got {share}")
    return average_networks([network, source_network], weights=[share, 1 - share])


@checked
def greedy_soup(networks: Sequence[Module], score: Callable[[Module], float]) -> Module:
    """Average those of several fine-tuned networks that make the average better.

    Use it on the trials of one recipe from one start. The networks join from the best to the worst;
    one that lowers the score of the average is left out. So the soup is at least as good as the
    best network, by this score.

    Args:
        networks: One or more of the same architecture, fine-tuned from the same start.
        score: Network -> number, higher is better, such as the accuracy on validation samples, or
            a label-free score of the target. It is asked up to 2 n - 1 times.

    Returns:
        The average of the networks that were taken.

    Raises:
        ValueError: There is no network, or the networks have not the same weights by name and
            shape.

    Example:
        >>> from torch import nn
        >>> from da.model import greedy_soup
        >>> candidates = [nn.Linear(1, 1) for _ in range(3)]
        >>> for candidate, weight in zip(candidates, (1.0, 4.0, 9.0)):
        ...     _ = candidate.weight.data.fill_(weight)
        >>> greedy_soup(candidates, lambda network: -abs(network.weight.item() - 3)).weight.item()
        2.5

    Paper:
        Wortsman, Ilharco, Gadre, Roelofs et al.: Model Soups: Averaging Weights of Multiple
        Fine-Tuned Models Improves Accuracy without Increasing Inference Time. ICML 2022 (recipe 1).

    Differences:
        None known.
    """
    if not networks:
        raise ValueError("networks must be one or more; got none")
    scored = sorted(((score(each), place) for place, each in enumerate(networks)), reverse=True)
    best, first = scored[0]
    taken, soup = [networks[first]], networks[first]
    for _, place in scored[1:]:
        candidate = average_networks([*taken, networks[place]])
        found = score(candidate)
        if found >= best:
            best, soup, taken = found, candidate, [*taken, networks[place]]
    return average_networks([soup])

"""MEMO: for each test sample the network first makes its answers to many views of it agree.

    H(mean over views v of p_v)

The sample is answered by the network that has learned from it, and then the network is as before.
So nothing is kept from sample to sample, and the order of a stream has no effect.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from da.arrays.arguments import checked
from da.arrays.integers import whole_number
from da.arrays.matrices import at_least_single
from da.model.windows import checked as checked_batches
from da.networks.network import Network
from da.networks.samples import taken_by_network
from da.networks.statistics import evaluating, use_statistics

View = Callable[[Tensor], Tensor]


@checked
def marginal_entropy(logits: Tensor) -> Tensor:
    """The entropy of the mean prediction over views of one sample.

        -sum_k m_k log m_k,    m = mean_v softmax(logits_v)

    It is small if the views agree and are sure.

    Args:
        logits: (views, K), floats.

    Returns:
        A scalar in nats, from 0 to log K.

    Example:
        >>> import torch
        >>> from da.model import marginal_entropy
        >>> round(marginal_entropy(torch.tensor([[9.0, -9.0], [-9.0, 9.0]])).item(), 3)  # log 2
        0.693

    Paper:
        Zhang, Levine, Finn: MEMO: Test Time Robustness via Adaptation and Augmentation. NeurIPS
        2022.

    Differences:
        None known.
    """
    logs = at_least_single(logits).log_softmax(dim=1)  # (views, K)
    mean = logs.logsumexp(dim=0) - math.log(len(logs))  # (K,)
    mean = mean.clamp(min=torch.finfo(mean.dtype).min)  # log 0 times 0 is 0
    return -(mean.exp() * mean).sum()


@checked
def memo(
    network: Network,
    batches: Iterable[Tensor],
    *,
    view: View,
    views: int = 32,
    steps: int = 1,
    learning_rate: float = 0.005,
) -> Iterator[Tensor]:
    """Predict a stream, each sample by a network that has learned from views of it alone (MEMO).

    Use it if samples come alone or their order is treacherous. Each costs `views` + 1 passes. All
    parameters learn that are not frozen, by plain gradient descent. Dropout is off, and running
    statistics normalise. A network with batch normalisation should be `mix_statistics(network,
    source_share=16 / 17)`, as in the paper.

    Args:
        network: A trained network. It learns in place, and is as before after each sample.
        batches: Test samples (b, ...), b >= 1, on the network's device.
        view: x (b, ...) -> (b, ...), random in each row, such as
            `da.feature.views.random_translation` for images.
        views: Views of each sample, >= 1. Default 32, as in the paper.
        steps: Steps for each sample, >= 1. Default 1, as in the paper.
        learning_rate: Default 0.005, as in the paper for small images.

    Yields:
        The logits (b, K) of each batch.

    Raises:
        ValueError: An option is out of range, or a batch is empty.
        TypeError: A batch is not a tensor.

    Example:
        >>> import torch
        >>> from da.feature.views import random_translation
        >>> from da.model import memo
        >>> from da.networks import lenet
        >>> network, x = lenet(classes=10), torch.rand(3, 1, 16, 16)
        >>> [len(z) for z in memo(network, x.split(2), view=random_translation, views=4)]
        [2, 1]

    Paper:
        Zhang, Levine, Finn: MEMO: Test Time Robustness via Adaptation and Augmentation. NeurIPS
        2022.

    Differences:
        The views are the caller's; the paper's are those of AugMix.
    """
    views = whole_number(views, "views", least=1)
    steps = whole_number(steps, "steps", least=1)
    if not 0 < learning_rate < math.inf:
        raise ValueError(f"learning_rate must be > 0; got {learning_rate}")
    use_statistics(network, "target")
    own = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for x in checked_batches(batches):
        answers = []
        for row in x.split(1):
            first = [parameter.detach().clone() for parameter in own]
            with evaluating(network), taken_by_network("batches"):
                for _ in range(steps):
                    _descend(network, own, view(row.repeat_interleave(views, 0)), learning_rate)
                with torch.no_grad():
                    answers.append(network(row).logits)
                    for parameter, value in zip(own, first, strict=True):
                        parameter.copy_(value)
        yield torch.cat(answers)


@torch.enable_grad()
def _descend(network: Network, own: list[torch.nn.Parameter], x: Tensor, rate: float) -> None:
    """One step of gradient descent on the marginal entropy of views x (views, ...)."""
    gradients = torch.autograd.grad(marginal_entropy(network(x).logits), own, allow_unused=True)
    with torch.no_grad():
        for parameter, gradient in zip(own, gradients, strict=True):
            if gradient is not None:
                parameter.sub_(rate * gradient)

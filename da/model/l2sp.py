"""L2-SP: while a network is fine-tuned, pull its parameters to where they started."""

from __future__ import annotations

from torch import Tensor

from da.arrays.arguments import checked
from da.networks.network import Network
from da.networks.tensor_names import plain_name


@checked
def l2_sp(
    network: Network, source_network: Network, x: Tensor, *, alpha: float = 0.1, beta: float = 0.01
) -> Tensor:
    """Pull a network to its starting point while it is fine-tuned, a penalty for `Regularize`.

    Use it instead of weight decay if the pretrained weights are worth keeping: leave the weight
    decay at zero (`Regularize(..., decay=False)`).

        alpha / 2 ||w_S - w_S^0||^2 + beta / 2 ||w_T||^2

    w_S are the parameters below the head, w_S^0 the same parameters in `source_network`, and w_T
    the parameters of the head.

    Args:
        network: The network that is trained.
        source_network: What training started from. Its parameters get no gradient.
        x: The batch (b, ...). Not used, because the penalty depends on parameters alone.
        alpha: Strength of the pull to the starting point. Default 0.1.
        beta: Strength of the pull of the head to zero. Default 0.01. The paper searches both over
            powers of ten and reports these values as usual.

    Returns:
        A scalar >= 0.

    Raises:
        ValueError: `source_network` lacks a parameter below the head, or has it in another shape.

    Example:
        >>> import copy
        >>> import torch
        >>> from torch import nn
        >>> from da.model import l2_sp
        >>> from da.networks import Network
        >>> backbone, head = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
        >>> network = Network(backbone, nn.Identity(), head)
        >>> start = copy.deepcopy(network)
        >>> with torch.no_grad():
        ...     network.backbone.weight += 2  # as if training had moved it
        ...     _ = network.head.weight.fill_(3)
        >>> round(l2_sp(network, start, torch.zeros(1, 1)).item(), 3)  # 0.05 * 4 + 0.005 * 9
        0.245

    Paper:
        Li, Grandvalet, Davoine: Explicit Inductive Bias for Transfer Learning with Convolutional
        Networks. ICML 2018.

    Differences:
        The script digits_finetune.py keeps the source's head, because the classes are the same.
        The penalty then pulls this head to zero too.
    """
    start = {plain_name(name): z for name, z in source_network.named_parameters()}
    shared, new = x.new_zeros(()), x.new_zeros(())
    for full_name, parameter in network.named_parameters():
        name = plain_name(full_name)
        if name.startswith("head."):
            new = new + parameter.square().sum()
        elif name not in start or start[name].shape != parameter.shape:
            raise ValueError(
                f"source_network has no parameter {name} of shape {tuple(parameter.shape)}; L2-SP "
                "needs the same layers below the head"
            )
        else:
            shared = shared + (parameter - start[name].detach()).square().sum()
    return alpha / 2 * shared + beta / 2 * new

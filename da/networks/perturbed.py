"""A pass of a network with other weights than its own, whose gradient reaches its own weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def perturbed(module: nn.Module, moves: dict[str, Tensor]) -> Iterator[None]:
    """Inside the context, parameters have moved: a pass sees w + move.

    The gradient by w is then that at w + move. The parameters themselves do not change, so an
    optimiser steps from w. Only the forward pass has to happen inside.

    Args:
        module: Any module.
        moves: Name of a parameter -> a tensor of its shape; parameters without a name here stay.

    Example:
        >>> import torch
        >>> from da.networks.perturbed import perturbed
        >>> layer = torch.nn.Linear(1, 1, bias=False)
        >>> with perturbed(layer, {"weight": 3 - layer.weight.detach()}):
        ...     loss = layer(torch.ones(1, 1)).square().sum()  # at weight 3
        >>> loss.backward()
        >>> loss.item(), layer.weight.grad.item()  # 3 squared, and 2 times 3
        (9.0, 6.0)
    """
    owners: list[tuple[dict, str, nn.Parameter]] = []
    moved = {id(p): p + moves[name] for name, p in module.named_parameters() if name in moves}
    for part in module.modules():
        for name, parameter in part._parameters.items():  # a shared one in each of its places
            if id(parameter) in moved and parameter is not None:
                owners.append((part._parameters, name, parameter))
    try:
        for own, name, parameter in owners:
            own[name] = moved[id(parameter)]
        yield
    finally:
        for own, name, parameter in owners:
            own[name] = parameter


def ascent(gradients: Sequence[Tensor], *, radius: float) -> list[Tensor]:
    """Find the step of length `radius` along which a loss rises most steeply.

        e = radius g / ||g||,    the norm taken over all tensors together

    It is the first of the two steps of sharpness-aware minimisation (SAM).

    Args:
        gradients: The gradient g, a tensor for each parameter.
        radius: Length of the step (the paper's rho), >= 0, in units of the weights.

    Returns:
        The step, a tensor for each gradient; zeros if the gradient is 0.

    Example:
        >>> import torch
        >>> from da.networks.perturbed import ascent
        >>> ascent([torch.tensor([3.0]), torch.tensor([4.0])], radius=1.0)
        [tensor([0.6000]), tensor([0.8000])]

    Paper:
        Foret, Kleiner, Mobahi, Neyshabur: Sharpness-Aware Minimization for Efficiently Improving
        Generalization. ICLR 2021, equation 2 with p = 2.

    Differences:
        None known.
    """
    largest = torch.stack([g.abs().amax() for g in gradients]).amax()
    scale = largest.clamp(min=torch.finfo(largest.dtype).tiny)  # so that no square underflows
    norm = torch.stack([(g / scale).square().sum() for g in gradients]).sum().sqrt()
    factor = radius / norm.clamp(min=torch.finfo(norm.dtype).tiny)
    return [factor * (g / scale) for g in gradients]

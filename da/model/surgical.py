"""Surgical fine-tuning: learn one block of a network and keep the others."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from da.arrays.arguments import checked
from da.arrays.class_labels import class_indices
from da.networks.layers import block_names, submodule
from da.networks.network import Network
from da.networks.samples import check_samples, taken_by_network
from da.networks.statistics import evaluating


@checked
def tune_only(network: Network, layers: Sequence[str]) -> Network:
    """Copy a network so that some of its layers learn and all others stay.

    Which block should learn depends on the shift: the first ones for noise and blur, the last ones
    for other classes. `relative_gradients` says which it may be.

    Args:
        network: The source network. It is not changed.
        layers: Names of modules, such as "backbone.0" or "head"; everything below them learns.

    Returns:
        The copy. Batch statistics of layers that stay still follow the batches in training.

    Raises:
        ValueError: There is no such module, or none of them has parameters.

    Example:
        >>> from da.model import tune_only
        >>> from da.networks import lenet
        >>> network = tune_only(lenet(classes=10), ["backbone.0", "backbone.1"])
        >>> [name for name, value in network.named_parameters() if value.requires_grad]
        ['backbone.0.weight', 'backbone.1.weight', 'backbone.1.bias']

    Paper:
        Lee, Chen, Tajwar, Kumar et al.: Surgical Fine-Tuning Improves Adaptation to Distribution
        Shifts. ICLR 2023.

    Differences:
        None known.
    """
    own = copy.deepcopy(network).requires_grad_(False)
    chosen = [p for name in layers for p in submodule(own, name).parameters()]
    if not chosen:
        raise ValueError(f"layers must name modules with parameters; got {list(layers)}")
    for parameter in chosen:
        parameter.requires_grad_(True)
    return own


@checked
def relative_gradients(network: Network, x: Tensor, labels: Tensor) -> dict[str, float]:
    """Compute how much each block of a network wants to change, beside its size.

    A block whose weights have a large gradient for their size is far from what the target asks, so
    it is the one to learn.

        ||gradient of the cross-entropy|| / ||weights||, norms over all weights of a block

    Args:
        network: The source network; it is looked at in evaluation mode and not changed.
        x: Target samples (n, ...).
        labels: Their classes (n,).

    Returns:
        Name of the block -> ratio, in the order of the network, for blocks with weights other than
        0. The largest is the block to learn.

    Example:
        >>> import torch
        >>> from da.model import relative_gradients
        >>> from da.networks import lenet
        >>> ratios = relative_gradients(lenet(10), torch.rand(4, 1, 16, 16), torch.arange(4))
        >>> list(ratios)[0], list(ratios)[-1]
        ('backbone.0', 'head')

    Paper:
        Lee, Chen, Tajwar, Kumar et al.: Surgical Fine-Tuning Improves Adaptation to Distribution
        Shifts. ICLR 2023, section 5 (Auto-RGN).

    Differences:
        The ratio is that of the samples that are given. Auto-RGN scales the rate of each layer by
        it, once an epoch.
    """
    check_samples(x, "x")
    with evaluating(network), torch.enable_grad():
        named = {name: p.detach().requires_grad_() for name, p in network.named_parameters()}
        with taken_by_network("x"):
            outputs = torch.func.functional_call(network, named, (x,))
        classes = class_indices(labels, len(x), outputs.logits.shape[1])
        loss = functional.cross_entropy(outputs.logits, classes)
    gradients = dict(
        zip(
            named,
            torch.autograd.grad(loss, list(named.values()), materialize_grads=True),
            strict=True,
        )
    )
    found = {}
    for block in block_names(network):
        own = [name for name in named if name.startswith(f"{block}.")]
        size = sum(float(named[name].detach().square().sum()) for name in own) ** 0.5
        if size > 0:
            found[block] = sum(float(gradients[name].square().sum()) for name in own) ** 0.5 / size
    return found

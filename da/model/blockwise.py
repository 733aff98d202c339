"""Fine-tuning block by block: lower blocks learn more slowly, or begin later.

The lowest layers of a pretrained network are the most general. Both methods protect them:
layer-wise decay by small rates, gradual unfreezing by waiting.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from da.data.batches import LabelledBatch
from da.networks.network import Network
from da.networks.statistics import BatchNorm
from da.train.method import Terms
from da.train.regularize import BatchNormTreatment, Regularize

Penalty = Callable[[Network, Network, Tensor], Tensor]


class LayerwiseDecay(Regularize):
    """Fine-tune with learning rates that fall from block to block, from the head down.

    Use it on deep pretrained networks, transformers above all, if full fine-tuning is unstable.

        rate of block i of n = learning_rate * decay_per_block^(n - i),    i = 0, ..., n - 1

    Bottleneck and head learn at the full rate. The common factor of the backbone
    (`backbone_factor`) is not used. For the blocks see `da.model.blockwise.blocks`.

    Args:
        network: The network that is trained; maps x (b, ...) to `Outputs`.
        penalty: (network, source_network, x) -> scalar; see `da.train.Regularize`. Default None.
        decay_per_block: Factor from one block to the next lower one, in (0, 1]. Default 0.8.
        source_network: What training started from; see `da.train.Regularize`. Default None.
        strength: Factor of the penalty; see `da.train.Regularize`. Default 1.
        decay: Whether the optimiser's weight decay applies. Default True.
        batch_norm: "train" (default) or "keep"; see `da.train.Regularize`.

    Raises:
        ValueError: `decay_per_block` is not in (0, 1].

    Example:
        >>> from torch import nn
        >>> from da.model import LayerwiseDecay
        >>> from da.networks import Network
        >>> backbone = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU())
        >>> network = Network(backbone, nn.Identity(), nn.Linear(4, 3), pretrained=True)
        >>> method = LayerwiseDecay(network, decay_per_block=0.5)
        >>> groups = method.parameter_groups(learning_rate=1.0, backbone_factor=0.1)
        >>> [group["lr"] for group in groups]  # two blocks, then the head
        [0.25, 0.5, 1.0]

    Paper:
        Howard, Ruder: Universal Language Model Fine-tuning for Text Classification. ACL 2018
        (ULMFiT, discriminative rates). Clark, Luong, Le, Manning: ELECTRA: Pre-training Text
        Encoders as Discriminators Rather Than Generators. ICLR 2020.

    Differences:
        ULMFiT divides the rate by 2.6 for each of three layers. ELECTRA multiplies it by 0.8 for
        each of twelve layers; its 0.8 is the default here, for each block.
    """

    def __init__(
        self,
        network: Network,
        penalty: Penalty | None = None,
        *,
        decay_per_block: float = 0.8,
        source_network: Network | None = None,
        strength: float = 1.0,
        decay: bool = True,
        batch_norm: BatchNormTreatment = "train",
    ) -> None:
        super().__init__(
            network,
            penalty,
            source_network=source_network,
            strength=strength,
            decay=decay,
            batch_norm=batch_norm,
        )
        if not 0 < decay_per_block <= 1:
            raise ValueError(f"decay_per_block must be in (0, 1]; got {decay_per_block}")
        self.decay_per_block = decay_per_block

    def parameter_groups(self, learning_rate: float, backbone_factor: float) -> list[dict]:
        """One group for each block from the input up, then one for bottleneck and head."""
        groups = []
        parts = blocks(self.network.backbone)
        for i, part in enumerate(parts):
            rate = learning_rate * self.decay_per_block ** (len(parts) - i)
            groups.append({"params": _learning(part), "lr": rate})
        new = [*self.network.bottleneck.parameters(), *self.network.head.parameters()]
        groups.append({"params": _learning(new), "lr": learning_rate})
        groups = [group for group in groups if group["params"]]
        return groups if self.decay else [group | {"weight_decay": 0.0} for group in groups]


class GradualUnfreezing(Regularize):
    """Fine-tune the head first and let the blocks join one by one, from the head down.

    Use it on few labels, so that the gradients of a random head do not disturb the lower blocks.

        block i of n joins at progress until * (n - i) / n,    i = 0, ..., n - 1

    So the lowest block joins when `until` of the training is over. A block that waits keeps its
    weights and its batch statistics. For the blocks see `da.model.blockwise.blocks`.

    Args:
        network: The network that is trained; maps x (b, ...) to `Outputs`.
        penalty: (network, source_network, x) -> scalar; see `da.train.Regularize`. Default None.
        until: Fraction of the training after which everything learns, in [0, 1]. Default 0.5.
        source_network: What training started from; see `da.train.Regularize`. Default None.
        strength: Factor of the penalty; see `da.train.Regularize`. Default 1.
        decay: Whether the optimiser's weight decay applies. Default True.
        batch_norm: "train" (default) or "keep"; see `da.train.Regularize`.

    Raises:
        ValueError: `until` is not in [0, 1].

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from da.data import LabelledBatch
        >>> from da.model import GradualUnfreezing
        >>> from da.networks import Network
        >>> backbone = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU())
        >>> network = Network(backbone, nn.Identity(), nn.Linear(4, 2), pretrained=True)
        >>> method = GradualUnfreezing(network, until=0.5)
        >>> batch = LabelledBatch(torch.rand(2, 4), torch.arange(2), torch.arange(2))
        >>> for progress in (0.0, 0.25, 0.5):
        ...     _ = method.loss(batch, progress)
        ...     print(progress, [backbone[i].weight.requires_grad for i in (0, 2)])
        0.0 [False, False]
        0.25 [False, True]
        0.5 [True, True]

    Paper:
        Howard, Ruder: Universal Language Model Fine-tuning for Text Classification. ACL 2018
        (ULMFiT).

    Differences:
        The paper unfreezes one layer each epoch. Here blocks join by the progress of the training.
    """

    def __init__(
        self,
        network: Network,
        penalty: Penalty | None = None,
        *,
        until: float = 0.5,
        source_network: Network | None = None,
        strength: float = 1.0,
        decay: bool = True,
        batch_norm: BatchNormTreatment = "train",
    ) -> None:
        super().__init__(
            network,
            penalty,
            source_network=source_network,
            strength=strength,
            decay=decay,
            batch_norm=batch_norm,
        )
        if not 0 <= until <= 1:
            raise ValueError(f"until must be in [0, 1]; got {until}")
        self.until = until
        self._blocks = [_learning(part) for part in blocks(network.backbone)]

    def loss(self, batch: LabelledBatch, progress: float) -> Terms:
        """The terms of `Regularize`, after the blocks that are due have joined."""
        self._unfreeze(progress)
        return super().loss(batch, progress)

    def _unfreeze(self, progress: float) -> None:
        """Let the blocks that are due learn, and freeze the statistics of all others."""
        n = len(self._blocks)
        for i, part in enumerate(self._blocks):
            for parameter in part:
                parameter.requires_grad_(progress >= self.until * (n - i) / n)
        for module in self.network.backbone.modules():
            if isinstance(module, BatchNorm) and module.affine and self.training:
                module.train(module.weight.requires_grad)


def blocks(backbone: nn.Module) -> list[list[nn.Parameter]]:
    """Split a backbone's parameters into blocks, in order from the input up.

    The blocks are the children of the backbone itself if four or more of them have parameters (a
    ResNet). Otherwise they are the children of the first sequence in the backbone with two or more
    such children (the features of a SqueezeNet or MobileNetV2, the layers of a transformer). A
    normalisation belongs to the block below it. Parameters before the sequence, such as
    embeddings, belong to the first block, and parameters after it to the last. A backbone without
    such a sequence is one block.

    Args:
        backbone: Any module.

    Returns:
        For each block its parameters. Every parameter is in exactly one block.
    """
    everything = list(backbone.parameters())
    parts: list[list[nn.Parameter]] = []
    for child in _trunk(backbone):
        if isinstance(child, (BatchNorm, nn.LayerNorm)) and parts:
            parts[-1].extend(child.parameters())
        else:
            parts.append(list(child.parameters()))
    if len(parts) < 2:
        return [everything]
    listed = {id(p) for part in parts for p in part}
    start = next(i for i, p in enumerate(everything) if id(p) in listed)
    before = [p for p in everything[:start] if id(p) not in listed]
    after = [p for p in everything[start:] if id(p) not in listed]
    parts[0] = before + parts[0]
    parts[-1] = parts[-1] + after
    return parts


def _trunk(backbone: nn.Module) -> list[nn.Module]:
    """The children that `blocks` takes; empty if there is no such sequence."""
    for module in backbone.modules():
        children = [child for child in module.children() if list(child.parameters())]
        if isinstance(module, (nn.Sequential, nn.ModuleList)) and len(children) >= 2:
            return children
        if module is backbone and len(children) >= 4:
            return children
    return []


def _learning(parameters: list[nn.Parameter]) -> list[nn.Parameter]:
    """The parameters that get a gradient."""
    return [p for p in parameters if p.requires_grad]

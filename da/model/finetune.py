"""Fine-tuning baselines: which part of a source network learns on the target, how fast, and which part stays.

from scratch           a new network, nothing kept
feature extraction     backbone and bottleneck kept as they are, a new head (`frozen`)
full fine-tuning       everything starts from the source network and learns, with a new head (`with_new_head`)
linear probe, then     the head of the logistic regression on the kept features first (`fit_head`), then everything learns
  fine-tuning            (Kumar et al., ICLR 2022, LP-FT)
layer-wise decay       the further a block lies below the head, the more slowly it learns (`LayerwiseDecay`)
gradual unfreezing     block after block begins to learn, from the head down (`GradualUnfreezing`)

The objective of all is that of `da.train.method.Regularize`: mean cross-entropy + lambda / 2 ||w||^2, lambda the optimiser's weight decay.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from da.data.batches import Batch, LabelledBatch
from da.networks.network import Frozen, Network, linear_head
from da.networks.statistics import BatchNorm
from da.train.method import BatchNormTreatment, Method, Regularize, Terms


def with_new_head(network: Network) -> Network:
    """A copy of `network` with a freshly drawn head of the same size; its backbone counts as pretrained."""
    own = copy.deepcopy(network)
    linear_head(own).reset_parameters()
    own.pretrained = True
    return own


def frozen(network: Network) -> Network:
    """Feature extraction: a copy of `network` whose backbone and bottleneck are frozen and whose head is drawn anew and learns."""
    own = with_new_head(network)
    return Network(Frozen(own.backbone), Frozen(own.bottleneck), own.head, pretrained=True)


def fit_head(network: Network, features: Tensor, labels: Tensor, *, strength: float = 10.0) -> None:
    """Sets the head of `network`, in place, to the multinomial logistic regression of labels (n,) on features (n, d).

    strength: C, the inverse of the L2 penalty, for features of mean squared norm 1: other features z are treated as z / r with
        r^2 = mean ||z||^2, and the weights are divided by r, so that C means the same whatever the scale.

    Raises ValueError where a class of the head has no sample, for its weights would be arbitrary, and for features that are all zero.
    """
    head = linear_head(network)
    classes = head.out_features
    if not torch.equal(labels.unique().cpu(), torch.arange(classes)) or classes < 2:
        raise ValueError(
            f"labels must hold each of the head's {classes} classes (2 or more); got {labels.unique().tolist()}"
        )
    radius = features.double().square().sum(1).mean().sqrt()
    if not radius > 0:
        raise ValueError(
            "features must not all be zero (or NaN): there is nothing to tell the classes by"
        )
    probe = LogisticRegression(C=strength, max_iter=5000).fit(
        (features.double() / radius).cpu().numpy(), labels.cpu().numpy()
    )
    weight, bias = torch.from_numpy(probe.coef_) / radius.cpu(), torch.from_numpy(probe.intercept_)
    if classes == 2:  # one logit, of the second class against the first
        weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
    with torch.no_grad():
        head.weight.copy_(weight)
        head.bias.copy_(bias)


class Probe(Method[Batch]):
    """A network that was fitted already (`fit_head`) as a row of a table: the loop runs, and nothing moves."""

    def loss(self, batch: Batch, progress: float) -> Terms:
        """Zero, whatever the batch."""
        return {"task": 0.0 * linear_head(self.network).bias.sum()}

    def parameter_groups(self, learning_rate: float, backbone_factor: float) -> list[dict]:
        """The head at rate 0, without weight decay."""
        return [{"params": [linear_head(self.network).bias], "lr": 0.0, "weight_decay": 0.0}]


class LayerwiseDecay(Regularize):
    """Fine-tuning with rates that fall from block to block: block i of n (`blocks`) learns at learning_rate * decay_per_block^(n - i).

    Bottleneck and head learn at the full rate; the backbone's common factor is not used. Howard and Ruder (ACL 2018, ULMFiT) divide
    by 2.6 a layer of three; Clark et al. (ICLR 2020, ELECTRA) multiply by 0.8 a layer of twelve, the default.

    Args:
        decay_per_block: in (0, 1].
        options: of `Regularize`.
    """

    def __init__(
        self,
        network: Network,
        penalty: Any = None,
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
        parts = blocks(self.network.backbone)
        rates = [
            learning_rate * self.decay_per_block ** (len(parts) - i) for i in range(len(parts))
        ]
        parts, rates = (
            [*parts, [*self.network.bottleneck.parameters(), *self.network.head.parameters()]],
            [*rates, learning_rate],
        )
        groups = [
            {"params": [p for p in part if p.requires_grad], "lr": rate}
            for part, rate in zip(parts, rates, strict=True)
        ]
        return [
            group | ({} if self.decay else {"weight_decay": 0.0})
            for group in groups
            if group["params"]
        ]


class GradualUnfreezing(Regularize):
    """Fine-tuning in which the head learns from the start and the blocks join one by one, the uppermost first (Howard and Ruder, ACL 2018).

    Of n blocks (`blocks`), block i joins at progress `until` * (n - i) / n: the lowest when `until` of the training is over. A block that
    waits keeps its weights and its batch statistics.

    Args:
        until: fraction of the training after which everything learns, in [0, 1].
        options: of `Regularize`.
    """

    def __init__(
        self,
        network: Network,
        penalty: Any = None,
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
        self._blocks = [[p for p in part if p.requires_grad] for part in blocks(network.backbone)]

    def loss(self, batch: LabelledBatch, progress: float) -> Terms:
        self._unfreeze(progress)
        return super().loss(batch, progress)

    def _unfreeze(self, progress: float) -> None:
        n = len(self._blocks)
        for i, part in enumerate(self._blocks):
            for parameter in part:
                parameter.requires_grad_(progress >= self.until * (n - i) / n)
        for module in self.network.backbone.modules():
            if isinstance(module, BatchNorm) and module.affine and self.training:
                module.train(module.weight.requires_grad)


def blocks(backbone: nn.Module) -> list[list[nn.Parameter]]:
    """The backbone's parameters in the order of its blocks, from the input up.

    The blocks are the children of the backbone itself where it has four or more with parameters (a ResNet), else of the first sequence
    within it of two or more (the features of a SqueezeNet or MobileNetV2, the layers of a transformer). A normalisation belongs to the
    block below it, what stands before the sequence (embeddings) to the first and what stands after it to the last. A backbone without
    such a sequence is one block.
    """
    parts: list[list[nn.Parameter]] = []
    for child in _trunk(backbone):
        if isinstance(child, (BatchNorm, nn.LayerNorm)) and parts:
            parts[-1].extend(child.parameters())
        else:
            parts.append(list(child.parameters()))
    if not parts:
        return [list(backbone.parameters())]
    listed = {id(p) for part in parts for p in part}
    everything = list(backbone.parameters())
    start = next(i for i, p in enumerate(everything) if id(p) in listed)
    before = [p for p in everything[:start] if id(p) not in listed]
    after = [p for p in everything[start:] if id(p) not in listed]
    return (
        [[*before, *parts[0]], *parts[1:-1], [*parts[-1], *after]]
        if len(parts) > 1
        else [everything]
    )


def _trunk(backbone: nn.Module) -> list[nn.Module]:
    """The children that `blocks` speaks of; none where there is no such sequence."""
    for module in backbone.modules():
        children = [child for child in module.children() if any(True for _ in child.parameters())]
        sequence = isinstance(module, (nn.Sequential, nn.ModuleList))
        if len(children) >= (2 if sequence else 4) and (sequence or module is backbone):
            return children
    return []

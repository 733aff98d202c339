"""Fine-tuning baselines: which part of a source network learns on the target, and which part stays.

from scratch          a new network, nothing kept
feature extraction    backbone and bottleneck kept as they are, a new head (`frozen`)
full fine-tuning      everything starts from the source network and learns, with a new head (`with_new_head`)
"""

from __future__ import annotations

import copy

import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from da.data.batches import Batch
from da.method import Method, Terms
from da.networks import Frozen, Network


def with_new_head(network: Network) -> Network:
    """A copy of `network` with a freshly drawn head of the same size; its backbone counts as pretrained."""
    own = copy.deepcopy(network)
    _linear_head(own).reset_parameters()
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

    Raises ValueError where a class of the head has no sample: its weights would be arbitrary.
    """
    head = _linear_head(network)
    classes = head.out_features
    if not torch.equal(labels.unique().cpu(), torch.arange(classes)) or classes < 3:
        raise ValueError(f"labels must hold each of the head's {classes} classes (3 or more); got {labels.unique().tolist()}")
    radius = features.double().square().sum(1).mean().sqrt()
    probe = LogisticRegression(C=strength, max_iter=5000).fit((features.double() / radius).cpu().numpy(), labels.cpu().numpy())
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(probe.coef_) / radius.cpu())
        head.bias.copy_(torch.from_numpy(probe.intercept_))


class Probe(Method[Batch]):
    """A network that was fitted already (`fit_head`) as a row of a table: the loop runs, and nothing moves."""

    def loss(self, batch: Batch, progress: float) -> Terms:
        """Zero, whatever the batch."""
        return {"task": 0.0 * _linear_head(self.network).bias.sum()}

    def parameter_groups(self, learning_rate: float, backbone_factor: float) -> list[dict]:
        """The head at rate 0, without weight decay."""
        return [{"params": [_linear_head(self.network).bias], "lr": 0.0, "weight_decay": 0.0}]


def _linear_head(network: Network) -> nn.Linear:
    if not isinstance(network.head, nn.Linear):
        raise TypeError(f"network must end in a linear head; got {type(network.head).__name__}")
    return network.head

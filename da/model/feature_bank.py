"""A memory of all target rows, and which of them are neighbours: the base of four methods.

Without source data nothing says which class a target row is of, but rows that are near each other
in the features are mostly of one class. The bank holds the features and predictions of every target
row as they were when the row was last in a batch. Methods that ask neighbours to agree differ in
one function (logits, bank, index) -> scalar:

| method | file | what neighbours do |
|---|---|---|
| `NeighbourhoodClustering` | local_structure.py | their log-agreement is maximised (G-SFDA) |
| `NRC` | reciprocity.py | reciprocal ones count ten times as much as others |
| `AaD` | attraction.py | they attract, and the other rows of the batch repel |

In `AdaContrast` (adacontrast.py) an average of the network writes the bank, and neighbours vote on
pseudo-labels.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Generic, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from da.arrays.integers import whole_number
from da.arrays.matrices import Array, as_matrix, at_least_single, full_precision
from da.data.batches import TargetBatch
from da.data.domain import Unlabelled, as_unlabelled
from da.data.one_by_one import AnyTransform, as_transform
from da.model.target_pass import target_outputs
from da.networks.network import Network, Outputs, linear_head
from da.train.distributed import gather_rows
from da.train.method import Method, Terms, everywhere


class FeatureBank(NamedTuple, Generic[Array]):
    """What is remembered of each of m target rows.

    Attributes:
        features: (m, d), of any lengths; neighbours are by the angle.
        probabilities: (m, K), the predictions.
    """

    features: Array
    probabilities: Array


class Remembered(NamedTuple):
    """A batch and the bank as tensors, checked.

    Attributes:
        logits: (n, K).
        features: (m, d), of length 1.
        probabilities: (m, K).
        rows: (n,), where in the bank the rows of the batch are.
    """

    logits: Tensor
    features: Tensor
    probabilities: Tensor
    rows: Tensor


def remembered(logits: Array, bank: FeatureBank[Array], index: Array) -> Remembered:
    """Check a batch against the bank, and turn both into tensors of one precision.

    Args:
        logits: (n, K), floats.
        bank: Features (m, d) and probabilities (m, K), without gradient.
        index: Row of each sample in the bank, whole numbers (n,).

    Returns:
        The four tensors.

    Raises:
        ValueError: Shapes do not match, a value is not finite, or `index` names a row that the bank
            does not have.
        TypeError: Logits or bank are not floats.
    """
    z = as_matrix(logits, "logits")
    p = as_matrix(bank.probabilities, "bank.probabilities").detach().to(z.dtype)
    features = as_matrix(bank.features, "bank.features").detach().to(z.dtype)
    rows = torch.as_tensor(index, device=z.device)
    fits = len(p) == len(features) and p.shape[1] == z.shape[1] and rows.shape == (len(z),)
    if not fits or rows.is_floating_point():
        raise ValueError(
            "bank must hold features (m, d) and probabilities (m, K) for logits (n, K), and index "
            f"(n,) whole numbers; got {tuple(features.shape)}, {tuple(p.shape)}, {tuple(z.shape)} "
            f"and {tuple(rows.shape)} {rows.dtype}"
        )
    if int(rows.min()) < 0 or int(rows.max()) >= len(p):
        raise ValueError(
            f"index must name rows of the bank, 0 to {len(p) - 1}; got {int(rows.min())} to "
            f"{int(rows.max())}"
        )
    return Remembered(z, functional.normalize(features, dim=1), p, rows)


def nearest_rows(features: Tensor, rows: Tensor, count: int, *, name: str = "neighbours") -> Tensor:
    """Find the nearest other rows of some rows of the bank, by the angle of their features.

    Args:
        features: (m, d), of length 1.
        rows: Whose neighbours, (n,).
        count: How many, from 1 to m - 1.
        name: What an error calls `count`.

    Returns:
        Rows of the bank (n, count), the nearest first. A row is not its own neighbour.

    Raises:
        ValueError: The bank has too few rows.
    """
    count = whole_number(count, name, least=1)
    if count >= len(features):
        raise ValueError(
            f"{name} must be less than the {len(features)} rows of the bank; got {count}"
        )
    cosine = features[rows] @ features.T  # (n, m)
    cosine.scatter_(1, rows[:, None], -torch.inf)
    return cosine.topk(count, dim=1).indices


class Remembering(Method[TargetBatch]):
    """The base of methods that keep a bank of all target rows.

    `fill` fills it by the network in evaluation mode, once. `write` writes some rows anew.
    Backbone, bottleneck and head learn.

    Args:
        network: A network trained on the source, with a linear head; it is changed in place.
        target: The unlabelled rows that the batches are taken from, in the same order.
        transform: Raw rows -> network input, without augmentation, for filling the bank.
    """

    features: Tensor  # (m, d), of length 1
    probabilities: Tensor  # (m, K)
    filled: Tensor  # () whether the bank has been filled

    label_kind = "unread"

    def __init__(self, network: Network, target: Unlabelled, transform: AnyTransform) -> None:
        head = linear_head(network)
        super().__init__(network)
        self.target = as_unlabelled(target, "target")
        self.transform = as_transform(transform)
        m, device = len(self.target), head.weight.device
        self.register_buffer("features", torch.zeros(m, head.in_features, device=device))
        self.register_buffer("probabilities", torch.zeros(m, head.out_features, device=device))
        self.register_buffer("filled", torch.zeros((), dtype=torch.bool, device=device))

    @property
    def bank(self) -> FeatureBank[Tensor]:
        """What is remembered now."""
        return FeatureBank(self.features, self.probabilities)

    def fill(self) -> None:
        """Fill the bank, unless that was done."""
        if self.filled:
            return
        every = torch.arange(len(self.target), device=self.features.device)
        self.write(target_outputs(self.network, self.target, self.transform, every.device), every)
        self.filled.fill_(True)

    @torch.no_grad()
    def write(self, outputs: Outputs, rows: Tensor) -> None:
        """Write features (n, d) and logits (n, K) of the target rows `rows` (n,) into the bank."""
        features, logits = map(at_least_single, outputs)
        with full_precision(features):
            self.features[rows] = functional.normalize(features, dim=1).to(self.features.dtype)
            self.probabilities[rows] = logits.softmax(dim=1).to(self.probabilities.dtype)


class BankMethod(Remembering):
    """The base of methods that ask neighbouring target rows to agree.

    In each step the rows of the batch are written anew before neighbours are looked for.
    """

    @abstractmethod
    def terms(
        self, logits: Tensor, bank: FeatureBank[Tensor], index: Tensor, progress: float
    ) -> Terms:
        """The terms of logits (n, K), whose rows in the bank are `index` (n,)."""

    def loss(self, batch: TargetBatch, progress: float) -> Terms:
        """The terms, after the rows of the batch were written into the bank."""
        self.fill()
        outputs = everywhere(self.network(batch.target_x))
        index = gather_rows(batch.target_index)  # rows of all processes
        self.write(outputs, index)
        return self.terms(outputs.logits, self.bank, index, progress)

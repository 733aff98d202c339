"""EATA: learn at test time from sure rows that are not like the earlier ones, near the start.

    L = mean_i w_i H(p_i) + weight sum_j F_j (theta_j - theta_j^0)^2,    w_i = exp(E_0 - H(p_i))

The mean is over the rows that count. A row counts if its entropy is below E_0 = margin log K, and
its prediction is not like the running mean m of those that counted: |cos(p_i, m)| < similarity.
F_j is the diagonal Fisher information on rows like those of the source: parameters that matter
there stay near their first values.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from da.arrays.arguments import checked
from da.arrays.matrices import as_matrix, at_least_single, full_precision
from da.data.batches import TargetBatch
from da.model.adapting_online import OnlineMethod, scales_and_shifts
from da.model.testtime import KEPT, check_guards
from da.model.windows import checked as checked_batches
from da.networks.network import Network, entropies
from da.networks.samples import taken_by_network
from da.networks.statistics import evaluating
from da.train.distributed import gather_rows
from da.train.loss_weights import check_factor
from da.train.method import Terms


def new_rows(probabilities: Tensor, average: Tensor, *, similarity: float) -> Tensor:
    """Which predictions are not like the average of the earlier ones.

    Args:
        probabilities: p (n, K).
        average: m (K,); zeros: there is none yet, and all rows are new.
        similarity: A row is new if |cos(p_i, m)| is below it.

    Returns:
        (n,) bool.
    """
    cosine = functional.cosine_similarity(average[None], probabilities, dim=1)  # (n,); 0 for zeros
    return (cosine.abs() < similarity) | ~average.any()


def weighted_entropy(logits: Tensor, counted: Tensor, *, margin: float) -> Tensor:
    """The mean over counted rows of exp(margin log K - H(p_i)) H(p_i).

    The weights carry no gradient. Surer rows have larger ones.

    Args:
        logits: (n, K).
        counted: (n,) bool.
        margin: E_0 as a fraction of log K.

    Returns:
        A scalar; 0 if no row counts.
    """
    found = entropies(logits[counted])  # (k,)
    weights = (margin * math.log(logits.shape[1]) - found.detach()).exp()
    return (weights * found).sum() / max(len(found), 1)


def fisher_penalty(
    parameters: Iterable[Tensor], first: Iterable[Tensor], fisher: Iterable[Tensor]
) -> Tensor:
    """sum_j F_j (theta_j - theta_j^0)^2 over three lists of tensors of the same shapes."""
    each = zip(parameters, first, fisher, strict=True)
    return torch.stack([(f * (now - then).square()).sum() for now, then, f in each]).sum()


@checked
def diagonal_fisher(network: Network, batches: Iterable[Tensor]) -> list[Tensor]:
    """Measure how much each scale and shift matters to a network's predictions.

    It is what `EATA` needs to keep what the source network knows. The labels are the network's own
    predictions.

        F_j = mean over rows of (d CE(f(x), argmax f(x)) / d theta_j)^2

    Args:
        network: The source network. It is not changed, and evaluated with running statistics.
        batches: Samples (b, ...) like those of the source, without labels. Some hundreds do.

    Returns:
        A tensor for each scale and shift of the normalisation layers, in order.

    Raises:
        ValueError: There is no row, or no layer with scale and shift.
        TypeError: A batch is not a tensor.

    Example:
        >>> import torch
        >>> from da.model import EATA, diagonal_fisher
        >>> from da.networks import lenet
        >>> network = lenet(classes=10)
        >>> fisher = diagonal_fisher(network, [torch.rand(8, 1, 16, 16)])
        >>> [tuple(values.shape) for values in fisher][:2]
        [(16,), (16,)]
        >>> method = EATA(network, fisher=fisher)

    Paper:
        Niu, Wu, Zhang, Chen et al.: Efficient Test-Time Model Adaptation without Forgetting. ICML
        2022 (equation 9).

    Differences:
        Gradients are squared row by row, as in the paper; the authors' code squares those of
        batches of 64. Running statistics normalise.
    """
    own = scales_and_shifts(network)
    if not own:
        raise ValueError("network must have normalisation with scale and shift; it has none")
    learned = [parameter.requires_grad for parameter in own]
    total, count = [torch.zeros_like(parameter) for parameter in own], 0
    with evaluating(network), torch.enable_grad():
        for parameter in own:
            parameter.requires_grad_(True)
        for row in (row for x in checked_batches(batches) for row in x.split(1)):
            with taken_by_network("batches"):
                logits = network(row).logits
            loss = functional.cross_entropy(logits, logits.argmax(dim=1))
            for sums, gradient in zip(total, torch.autograd.grad(loss, own), strict=True):
                sums += gradient.square()
            count += 1
        for parameter, learns in zip(own, learned, strict=True):
            parameter.requires_grad_(learns)
    if count == 0:
        raise ValueError("batches must hold one row or more; got none")
    return [sums / count for sums in total]


@final
class EATA(OnlineMethod):
    """Adapt at test time by sure and new rows alone, and stay near the source network.

    Use it in place of `Tent` on long streams, where TENT forgets the source or collapses.

        mean_i exp(E_0 - H(p_i)) H(p_i) + weight sum_j F_j (theta_j - theta_j^0)^2

    Scales and shifts learn; see `da.model.OnlineMethod`. If no row of a batch counts, nothing
    moves.

    Args:
        network: A network trained on the source; it is changed in place.
        margin: A row counts if its entropy is below this fraction of log K, > 0. Default 0.4, as
            in the paper. None: all rows count, with the weight exp(0.4 log K - H).
        similarity: A row counts if |cos| of its prediction and the running mean is below it, > 0.
            Default 0.05, as in the paper for 1,000 classes; for 10 classes it takes 0.4. None: all
            rows count.
        fisher: F of `diagonal_fisher`. Default None: no second term.
        weight: Weight of the second term, >= 0. Default 2000, as in the paper for 1,000 classes;
            for 10 classes it takes 1.

    Raises:
        ValueError: Nothing would learn, an option is out of range, or `fisher` is not a tensor for
            each scale and shift.

    Example:
        >>> import torch
        >>> from da.model import EATA, online
        >>> from da.networks import lenet
        >>> method = EATA(lenet(classes=10), margin=None)
        >>> optimizer = torch.optim.SGD(method.parameter_groups(0.005, 1.0), momentum=0.9)
        >>> [len(z) for z in online(method, torch.rand(8, 1, 16, 16).split(4), optimizer)]
        [4, 4]

    Paper:
        Niu, Wu, Zhang, Chen et al.: Efficient Test-Time Model Adaptation without Forgetting. ICML
        2022.

    Differences:
        Running statistics follow the target, as in `Tent`; the authors' code has none. Layer and
        group normalisation learn too.
    """

    average: Tensor  # (K,) running mean of the counted predictions; zeros before the first

    def __init__(
        self,
        network: Network,
        *,
        margin: float | None = 0.4,
        similarity: float | None = 0.05,
        fisher: list[Tensor] | None = None,
        weight: float = 2000.0,
    ) -> None:
        check_guards(margin, None)
        check_factor("weight", weight)
        if similarity is not None and not similarity > 0:
            raise ValueError(f"similarity must be > 0, or None for all rows; got {similarity}")
        super().__init__(network)
        own = scales_and_shifts(network)
        if fisher is not None and [f.shape for f in fisher] != [p.shape for p in own]:
            raise ValueError(
                f"fisher must be {len(own)} tensors, one for each scale and shift, from "
                f"diagonal_fisher; got {len(fisher)}"
            )
        self.margin, self.similarity, self.weight = margin, similarity, weight
        device = next(network.parameters()).device
        self.fisher = nn.ParameterList(
            nn.Parameter(values.detach().clone().to(device), requires_grad=False)
            for values in fisher or ()
        )
        self.register_buffer("average", torch.zeros(0, device=device))

    def step(self, batch: TargetBatch, progress: float) -> Iterator[Terms]:
        """One move, if a row counts."""
        own = self.logits(batch.target_x)
        self.predicted, logits = own.detach(), gather_rows(own)
        counted = self.counted(logits)
        self._follow(logits, counted)
        if counted.any():
            yield self.terms(logits, counted)

    def loss(self, batch: TargetBatch, progress: float) -> Terms:
        """The terms "entropy" and, with Fisher information, "fisher"."""
        logits = gather_rows(self.logits(batch.target_x))
        return self.terms(logits, self.counted(logits))

    def terms(self, logits: Tensor, counted: Tensor) -> Terms:
        """The terms of logits (n, K), of which the rows `counted` (n,) count."""
        z = as_matrix(logits, "logits")
        with full_precision(z):
            margin = 0.4 if self.margin is None else self.margin
            terms = {"entropy": weighted_entropy(z, counted, margin=margin)}
            if len(self.fisher):
                own, start = scales_and_shifts(self.network), scales_and_shifts(self.start)
                terms["fisher"] = self.weight * fisher_penalty(own, start, self.fisher)
        return terms

    @torch.no_grad()
    def counted(self, logits: Tensor) -> Tensor:
        """Which rows of logits (n, K) count, (n,) bool."""
        p, classes = at_least_single(logits).softmax(dim=1), logits.shape[1]
        counted = torch.ones(len(p), dtype=torch.bool, device=p.device)
        if self.margin is not None:
            counted &= entropies(at_least_single(logits)) < self.margin * math.log(classes)
        if self.similarity is not None and len(self.average):
            counted &= new_rows(p, self.average.to(p), similarity=self.similarity)
        return counted

    @torch.no_grad()
    def _follow(self, logits: Tensor, counted: Tensor) -> None:
        """Move the running mean by the predictions that count; the first ones are its start."""
        if not counted.any():
            return
        mean = at_least_single(logits[counted]).softmax(dim=1).mean(dim=0)  # (K,)
        self.average = KEPT * self.average + (1 - KEPT) * mean if len(self.average) else mean

    def reset(self) -> None:
        """Restore the network as it was given, and forget the predictions, for the next domain."""
        super().reset()
        self.average = self.average.new_zeros(0)

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Tensor], prefix: str, *others: object
    ) -> None:
        # The running mean has no length before the first row counts.
        if (saved := state_dict.get(f"{prefix}average")) is not None:
            self.average = torch.empty_like(saved, device=self.average.device)
        super()._load_from_state_dict(state_dict, prefix, *others)  # type: ignore[arg-type]

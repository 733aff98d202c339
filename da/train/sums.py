"""Several methods at once: the terms of each beside one task loss, from one pass of the network."""

from __future__ import annotations

from collections import Counter
from typing import final

from torch import Tensor, nn

from da.data.batches import Batch
from da.networks.network import Outputs
from da.train.align import Align
from da.train.aligned_layers import FEATURES
from da.train.method import Adapt, Method, Terms


@final
class Sum(Adapt):
    """Train with the terms of several methods at once.

    Use it to combine methods that look at different things, such as an adversary of features and a
    loss of predictions. The network runs once on both domains, whatever the number of methods.

        task of the first method + the other terms of every method

    Each method keeps its own trade-off and ramp, its discriminator and its memory.

    Args:
        first: A method on the network that is trained. Its task loss counts.
        others: Further methods on the same network, with the same `batch_statistics`.

    Raises:
        TypeError: A method needs more than one pass and one move (`ADDA`, `MCD`, `FixMatch` and
            others), does not learn classes, or has no term beside the task.
        ValueError: The methods have not the same network, or not the same `batch_statistics`.

    Example:
        >>> import torch
        >>> from da.data import Batch
        >>> from da.feature import DANN, MCC
        >>> from da.networks import mlp
        >>> from da.train import Sum
        >>> network = mlp(3, classes=3)
        >>> method = Sum(DANN(network), MCC(network, trade_off=0.5))
        >>> x, y = torch.eye(3), torch.arange(3)
        >>> list(method.loss(Batch(x, y, x, y, y), progress=0.5))
        ['task', 'domain', 'mcc']
    """

    label_kind = "classes"

    def __init__(self, first: Adapt, *others: Adapt) -> None:
        methods = (first, *others)
        for method in methods:
            _check_one_pass(method)
        if any(method.network is not first.network for method in others):
            raise ValueError("others must be methods on the network of the first; got another")
        modes = [method.batch_statistics for method in methods]
        if len(set(modes)) > 1:
            raise ValueError(f"batch_statistics must be the same in all methods; got {modes}")
        super().__init__(first.network, batch_statistics=first.batch_statistics)
        self.methods = nn.ModuleList(methods)

    @property
    def members(self) -> list[Adapt]:
        """The methods, the first one first."""
        return list(self.methods)  # type: ignore[arg-type]

    def adaptation(self, source: Outputs, target: Outputs, batch: Batch, progress: float) -> Terms:
        return _merged([each.adaptation(source, target, batch, progress) for each in self.members])

    def transfer(self, source: Outputs, target: Outputs, labels: Tensor) -> Terms:
        return _merged([each.transfer(source, target, labels) for each in self.members])

    def task(self, outputs: Outputs, labels: Tensor) -> Tensor:
        return self.members[0].task(outputs, labels)

    def parameter_groups(self, learning_rate: float, backbone_factor: float) -> list[dict]:
        groups, known = [], set()
        for method in self.members:
            for group in method.parameter_groups(learning_rate, backbone_factor):
                new = [p for p in group["params"] if id(p) not in known]
                known |= {id(p) for p in new}
                groups += [group | {"params": new}] if new else []
        return groups


def _check_one_pass(method: Method) -> None:
    """Raise a TypeError unless one pass of both domains and one move are all that it needs."""
    aligns = isinstance(method, Align) and _is_plain(method)
    one_pass = aligns or type(method).loss is Adapt.loss
    if one_pass and type(method).step is Method.step and method.label_kind == "classes":
        return
    raise TypeError(
        "a sum takes methods that learn classes, with one pass of both domains and one move a "
        f"step, such as DANN, CDAN, MCC or Align with an alignment; got {type(method).__name__}"
    )


def _is_plain(method: Align) -> bool:
    """Whether it aligns features alone, without weights of rows."""
    plain = method.layers == FEATURES and method.source_weights is None
    return method.alignment is not None and plain


def _merged(parts: list[Terms]) -> Terms:
    """All terms; where methods share a name, those of the second are called "<name>_2"."""
    found: Terms = {}
    counts: Counter[str] = Counter()
    for part in parts:
        counts.update(part.keys())
        found |= {
            name if counts[name] == 1 else f"{name}_{counts[name]}": part[name] for name in part
        }
    return found

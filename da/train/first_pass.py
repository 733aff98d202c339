"""A pass of two rows of each domain before training: can the network take them, and what comes out?

The network is in evaluation mode and without gradients, so nothing changes. Batches of one row are
tried on a copy, because many losses and layers need several.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from da.arrays.matrices import NonFiniteError
from da.data.domain import Unlabelled
from da.networks.network import Outputs
from da.networks.statistics import evaluating
from da.train.evaluation import Evaluation
from da.train.method import Method

ROWS = 2
# Fields of batches that hold network input -> whose it is.
INPUTS = {"source_x": "source", "target_x": "target", "x": "the stream's domain"}


def training_inputs(method: Method, batch: Any) -> dict[str, Tensor]:
    """Some rows of each domain of the batch, by name.

    A method that says nothing of its labels may feed its network what it likes, so none of those.
    """
    if method.label_kind is None:
        return {}
    return {
        name: getattr(batch, field)[:ROWS]
        for field, name in INPUTS.items()
        if hasattr(batch, field)
    }


def evaluation_inputs(evaluation: Evaluation | None) -> dict[str, Tensor]:
    """Some rows of each domain of the evaluation, by name, as network input."""
    if evaluation is None:
        return {}
    domains = {"target": evaluation.target, "source": evaluation.source}
    domains["validation samples"] = evaluation.validation
    return {
        f"evaluation's {name}": evaluation.inputs(domain, torch.arange(min(ROWS, len(domain))))
        for name, domain in domains.items()
        if domain is not None
    }


def count_outputs(
    method: Method,
    inputs: Mapping[str, Tensor],
    device: torch.device | str,
    autocast: Callable[[], AbstractContextManager],
) -> int | None:
    """How many outputs the head has; None without inputs."""
    found = None
    with torch.no_grad(), evaluating(method.network), _eagerly(method.network):
        for name, x in inputs.items():
            try:
                with autocast():
                    outputs = method.network(x.to(device))
            except Exception as error:  # whatever a user's network raises
                raise ValueError(
                    f"network cannot take the samples of {name}, (b, "
                    f"{', '.join(map(str, x.shape[1:]))}) {x.dtype} after the transform: "
                    f"{type(error).__name__}: {error}{_dtype_hint(x)}"
                ) from error
            _check_outputs(outputs, name)
            found = outputs.logits.shape[1]
    return found


def try_one_row(
    method: Method,
    batch: Any,
    device: torch.device | str,
    autocast: Callable[[], AbstractContextManager],
) -> None:
    """Raise a ValueError if batches have one row and the method or its network needs several.

    Of a batch of several labelled domains, the rows of one domain count.

    The first move is tried on a copy. Larger batches are not tried.

    Args:
        method: What will be trained, in training mode.
        batch: Its first batch.
        device: The device of the method.
        autocast: Makes the context of the engine's precision.
    """
    rows = [len(getattr(batch, name)) for name in INPUTS if hasattr(batch, name)]
    if isinstance(domain := getattr(batch, "domain", None), Tensor):
        rows.append(int(domain.unique(return_counts=True)[1].min()))
    if min(rows, default=ROWS) > 1:
        return
    shared = {id(each): each for each in vars(method).values() if isinstance(each, Unlabelled)}
    copied = copy.deepcopy(method, shared)
    try:
        with torch.random.fork_rng(devices=[]), _eagerly(copied.network), autocast():
            next(copied.step(batch.to(device), 0.0), None)  # it may have no move
    except NonFiniteError:  # the loop says where it comes from
        return
    except ValueError as error:
        raise ValueError(
            f"batch_size must be 2 or more for {type(method).__name__} on this network; got 1: "
            f"{error}"
        ) from error


def _check_outputs(outputs: Any, name: str) -> None:
    """Raise a ValueError unless a network returned `Outputs` with logits (b, classes)."""
    is_pair = isinstance(outputs, Outputs)
    if is_pair and outputs.logits.ndim == 2:
        return
    got = f"logits {tuple(outputs.logits.shape)}" if is_pair else type(outputs).__name__
    raise ValueError(
        f"network must return Outputs(features (b, d), logits (b, classes)); got {got} for the "
        f"samples of {name}: build it as a da.networks.Network, or pass Network.wrap(module)"
    )


def _dtype_hint(x: Tensor) -> str:
    if x.dtype == torch.float32:
        return ""
    return ": networks take float32; end the transform with a conversion, or use da.data.identity"


@contextmanager
def _eagerly(network: torch.nn.Module) -> Iterator[None]:
    """Inside the context, a compiled network runs uncompiled: it is not compiled for two rows."""
    compiled = any(
        hasattr(module, "_orig_mod") or module._compiled_call_impl is not None
        for module in network.modules()
    )
    with torch.compiler.set_stance("force_eager") if compiled else nullcontext():
        yield

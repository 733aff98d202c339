"""Which layers of a network are aligned, and their rows in a pass of both domains."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from da.networks.layers import submodule, watched
from da.networks.network import Network, Outputs, unwrapped

FEATURES = ("features",)
Pairs = list[tuple[Tensor, Tensor]]


def checked_layers(
    network: Network, layers: Sequence[str], alignment: Callable[..., Tensor] | None
) -> tuple[str, ...]:
    """The layers as a tuple.

    Raises:
        ValueError: There is none, one comes twice, the network has no module of a name, or there
            is nothing to align them by.
    """
    if isinstance(layers, str) or len(layers) == 0 or len(set(layers)) < len(layers):
        raise ValueError(
            f'layers must be one or more different names, such as ("features",); got {layers!r}'
        )
    if alignment is None and tuple(layers) != FEATURES:
        raise ValueError(f"layers are aligned by an alignment; got layers={layers!r} without one")
    for name in _modules(layers):
        try:
            submodule(unwrapped(network), name)
        except ValueError as error:
            raise ValueError(f'{error}, which is not "features" or "logits" either') from None
    return tuple(layers)


@contextmanager
def layer_rows(
    network: Network, layers: Sequence[str]
) -> Iterator[Callable[[Outputs, Outputs], Pairs]]:
    """Inside the context, watch the passes of source and target, together or one after the other.

    Args:
        network: Maps x to `Outputs`.
        layers: "features", "logits" and names of modules.

    Yields:
        A function of the outputs of source (n rows) and target (m rows), to call afterwards. It
        gives the rows (n, width) and (m, width) of each layer. What is no row is made one: maps
        (n, c, h, w) become (n, c h w).

    Raises:
        ValueError: From that function: a module gave no tensor, or more than one a pass.
    """
    with watched(unwrapped(network), _modules(layers)) as runs:

        def rows_of(source: Outputs, target: Outputs) -> Pairs:
            found = []
            for name in layers:
                if name in Outputs._fields:
                    found.append((getattr(source, name), getattr(target, name)))
                    continue
                n, m = len(source.logits), len(target.logits)
                rows = torch.cat(runs[name]).flatten(1) if name in runs else source.logits[:0]
                if len(rows) != n + m:
                    raise ValueError(
                        "layers must give one tensor a pass with a row for each sample; "
                        f"{name!r} gave {len(rows)} rows for {n} + {m} samples"
                    )
                found.append((rows[:n], rows[n:]))
            return found

        yield rows_of


def _modules(layers: Sequence[str]) -> list[str]:
    return [name for name in layers if name not in Outputs._fields]

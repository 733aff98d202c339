"""A trained network's features and logits of a whole domain, batch by batch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch.utils.data import Dataset

from da.arrays.arguments import checked
from da.arrays.choices import check_choice
from da.data.batches import network_input
from da.data.domain import Unlabelled, as_unlabelled
from da.data.one_by_one import AnyTransform, as_transform
from da.data.progress import Progress
from da.networks.network import Network, Outputs
from da.networks.statistics import DomainName, evaluating, use_statistics


@torch.no_grad()
@checked
def predict(
    network: Network,
    x: Unlabelled | Dataset,
    transform: AnyTransform,
    *,
    statistics: DomainName = "target",
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    autocast: Callable[[], AbstractContextManager] = nullcontext,
    title: str | None = None,
) -> Outputs:
    """Run a trained network over a whole domain, batch by batch.

    Use it to get features for a picture or logits for a metric. The network is in evaluation mode
    meanwhile, and every module returns to its own mode afterwards.

    Args:
        network: Maps transformed rows to `Outputs`; it must be on `device`.
        x: The samples, `Unlabelled`, `Labelled` or a map-style dataset; labels are not read.
        transform: Raw rows -> network input, without augmentation; see `Evaluation`.
        statistics: Whose batch statistics to use, "source" or "target" (default), if the network
            keeps them for each domain; no effect otherwise.
        batch_size: Samples a forward pass. Default 256.
        device: Where the network is. Default "cpu".
        autocast: Makes the context of the precision to compute in. Default: none.
        title: What a progress bar is called. None (default) shows no bar.

    Returns:
        Features (n, d) and logits (n, classes) of all samples in order, float32 on the CPU, without
        gradients.

    Raises:
        ValueError: `statistics` is neither "source" nor "target".

    Example:
        >>> import torch
        >>> from da.data import Labelled, identity
        >>> from da.networks import mlp
        >>> from da.train import predict
        >>> domain = Labelled(torch.zeros(5, 3), torch.zeros(5, dtype=torch.long))
        >>> outputs = predict(mlp(3, 2, features=4), domain, identity)
        >>> outputs.features.shape, outputs.logits.shape
        (torch.Size([5, 4]), torch.Size([5, 2]))
    """
    check_choice("statistics", statistics, DomainName)
    domain = x if isinstance(x, Unlabelled) else as_unlabelled(x, "x")
    prepare = as_transform(transform)
    use_statistics(network, statistics)
    generator = torch.Generator()  # transforms of evaluation draw nothing from it
    features, logits = [], []
    with (
        evaluating(network),
        Progress(title or "", len(domain), unit="row", leave=False, hidden=title is None) as done,
    ):
        for rows in torch.arange(len(domain)).split(batch_size):
            with autocast():
                outputs = network(network_input(domain, rows, prepare, generator).to(device))
            done.advance(len(rows))
            features.append(outputs.features.float().cpu())
            logits.append(outputs.logits.float().cpu())
    return Outputs(torch.cat(features), torch.cat(logits))

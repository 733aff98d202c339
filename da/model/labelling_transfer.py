"""The second stage of SHOT++: what a network is sure of teaches it the rest of the target.

After any adaptation without source data some predictions are surer than others. The surest of each
class are taken as labels, and semi-supervised training goes on with the other rows:

    outputs = ...  # of the adapted network on all target rows
    sure = surest_rows(outputs.logits)
    labelled = Labelled(target.x[sure], outputs.logits.argmax(dim=1)[sure])
    stream = PairedBatches(labelled, Unlabelled(target.x[~sure]), ...)
    fit(FixMatch(network), stream, ...)
"""

from __future__ import annotations

import torch

from da.arrays.arguments import checked
from da.arrays.matrices import Array, as_matrix, full_precision, like
from da.networks.network import entropies


@torch.no_grad()
@checked
def surest_rows(logits: Array, *, share: float | None = None) -> Array:
    """Say which predictions of each class are the surest, to be taken as labels.

    Of the rows predicted to be of a class, the same share is taken from every class, those of the
    least entropy. So a class on which the network is unsure is labelled too.

    Args:
        logits: (n, K), floats: the predictions on all target rows.
        share: How much of each class is taken, in (0, 1). Default None: the share of all rows
            whose entropy is below the mean, as in the authors' code.

    Returns:
        Truth values (n,), of the kind of `logits`. At least one row of each predicted class is
        taken.

    Raises:
        ValueError: `share` is out of its range, the logits are not a matrix, or a value is not
            finite.
        TypeError: The logits are not floats.

    Example:
        >>> import torch
        >>> from da.model import surest_rows
        >>> logits = torch.tensor([[9.0, 0.0], [8.0, 0.0], [0.1, 0.0], [0.0, 0.3], [0.0, 0.2]])
        >>> surest_rows(logits, share=0.5).tolist()
        [True, False, False, True, False]

    Paper:
        Liang, Hu, Wang, He, Feng: Source Data-absent Unsupervised Domain Adaptation through
        Hypothesis Transfer and Labeling Transfer. TPAMI 2021 (SHOT++).

    Differences:
        The authors train on with MixMatch; here any semi-supervised method can follow. Their code
        may take no row of a rare class. Their first stage, `da.model.SHOT`, has a rotation task
        beside it, which is left out.
    """
    if share is not None and not 0 < share < 1:
        raise ValueError(f"share must be in (0, 1), or None; got {share}")
    z = as_matrix(logits, "logits")
    with full_precision(z):
        unsure = entropies(z)  # (n,)
    if share is None:
        share = (unsure < unsure.mean()).double().mean().item()
    predicted = z.argmax(dim=1)  # (n,)
    taken = torch.zeros_like(predicted, dtype=torch.bool)
    for k in predicted.unique():
        rows = (predicted == k).nonzero()[:, 0]
        count = max(1, int(share * len(rows)))
        taken[rows[unsure[rows].argsort(stable=True)[:count]]] = True
    return like(taken, logits)

"""A domain cut into two parts, class by class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from da.data.domain import Labelled


def cut(domain: Labelled, share: float, *, seed: int) -> tuple[Labelled, Labelled]:
    """The rest, and `share` of the samples, cut class by class.

    Raises:
        ValueError: A class is too small to be cut; the message is scikit-learn's.
    """
    from sklearn.model_selection import train_test_split  # here: it takes a second to import

    rest, part = train_test_split(
        np.arange(len(domain)), test_size=share, stratify=domain.y, random_state=seed
    )
    first, second = (domain.subset(torch.from_numpy(np.sort(rows))) for rows in (rest, part))
    return first, second


def hold_out(source: Labelled, share: float) -> tuple[Labelled, Labelled | None]:
    """The source for training and, if the share is not 0, a part of it that is kept out."""
    return cut(source, share, seed=0) if share else (source, None)


def hold_out_of_each(
    sources: Sequence[Labelled], share: float
) -> tuple[list[Labelled], Labelled | None]:
    """The same of several sources; what is kept out of them is one domain."""
    parts = [hold_out(source, share) for source in sources]
    kept_out = [part for _, part in parts if part is not None]
    return [rest for rest, _ in parts], joined(kept_out) if kept_out else None


def joined(domains: Sequence[Labelled]) -> Labelled:
    """The samples of several domains as one."""
    return Labelled(
        torch.cat([each.rows(torch.arange(len(each))) for each in domains]),
        torch.cat([each.y for each in domains]),
    )

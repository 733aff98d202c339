"""A contrastive loss with several positives for each anchor, which Bi-Tuning uses twice."""

from __future__ import annotations

import torch
from torch import Tensor


def contrast(
    anchors: Tensor,
    own: Tensor,
    labels: Tensor,
    keys: Tensor,
    key_labels: Tensor,
    *,
    temperature: float = 0.07,
) -> Tensor:
    """Pull each anchor to the keys of its own class, and away from the keys of other classes.

        mean_i -1 / |P_i| sum_{p in P_i} log( exp(<a_i, p> / t) / sum_{k in K_i} exp(<a_i, k> / t) )

    K_i is o_i and all keys. P_i is o_i and the keys with the label of anchor i.

    Args:
        anchors: a (b, d), rows of norm 1.
        own: o (b, d), rows of norm 1; each row is a positive of its own anchor alone.
        labels: Classes (b,) of the anchors.
        keys: (m, d), rows of norm 1; m may be 0.
        key_labels: Classes (m,) of the keys.
        temperature: t > 0, in units of the cosine. Default 0.07.

    Returns:
        A scalar >= 0, in nats; it is 0 without keys.

    Raises:
        ValueError: The shapes are not these, or `temperature` is not positive.
    """
    b, d = anchors.shape
    if own.shape != (b, d) or labels.shape != (b,) or keys.shape != (len(key_labels), d):
        given = (anchors, own, labels, keys, key_labels)
        shapes = ", ".join(str(tuple(value.shape)) for value in given)
        raise ValueError(
            "anchors, own, labels, keys, key_labels must be (b, d), (b, d), (b,), (m, d), (m,); "
            f"got {shapes}"
        )
    check_positive("temperature", temperature)
    with_own = (anchors * own).sum(1, keepdim=True)  # (b, 1)
    cosines = torch.cat([with_own, anchors @ keys.T], dim=1)  # (b, 1 + m)
    is_own = labels.new_ones(b, 1, dtype=torch.bool)
    positive = torch.cat([is_own, labels[:, None] == key_labels], dim=1)  # (b, 1 + m)
    log_share = (cosines / temperature).log_softmax(1)
    return -((log_share * positive).sum(1) / positive.sum(1)).mean()


def check_positive(name: str, value: float) -> None:
    """Raise ValueError unless the argument `name` is > 0."""
    if not value > 0:
        raise ValueError(f"{name} must be positive; got {value}")

"""Masked language modelling: an encoder learns from unlabelled texts to fill in their gaps.

Devlin, Chang, Lee, Toutanova: BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding. NAACL 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from da.data.batches import LabelledBatch
from da.data.domain import Labelled
from da.networks.network import Network
from da.networks.new_encoder import SPECIAL
from da.networks.text_encoders import Encoder
from da.train.evaluation import Evaluation
from da.train.metrics import accuracy
from da.train.method import Method, Terms

_MASK = SPECIAL.index("[MASK]")


class Gaps(nn.Module):
    """Tokens x (b, 2, length) -> states (k, width) of the k tokens that are [MASK], text by text."""

    def __init__(self, model: nn.Module, mask: int) -> None:
        super().__init__()
        self.encoder, self.mask = Encoder(model), mask

    def forward(self, x: Tensor) -> Tensor:
        hidden, ids, _ = self.encoder.states(x)  # (b, l, width), (b, l)
        return hidden[ids == self.mask]


class MaskedLanguage(Method[LabelledBatch]):
    """Cross-entropy, in nats a gap, of what stood in the gaps of a text (Devlin et al., NAACL 2019, BERT), labels unread.

    Every token that is not special becomes a gap with probability `gaps`. Deviations: each is shown as [MASK], where the paper shows one
    in ten as itself and one in ten as another token; no prediction of the next sentence. The words' embeddings are the weights
    of the output layer, as there.

    Args:
        model: a BERT of transformers; it is trained in place.
        gaps: in (0, 1).
        special: ids of the tokens that are never masked.
        mask: id of [MASK].
    """

    special: Tensor

    def __init__(
        self,
        model: Any,
        *,
        gaps: float = 0.15,
        special: Sequence[int] = range(len(SPECIAL)),
        mask: int = _MASK,
    ) -> None:
        if not 0 < gaps < 1:
            raise ValueError(
                f"gaps must be in (0, 1), the fraction of tokens that are masked; got {gaps}"
            )
        embeddings = model.get_input_embeddings().weight  # (vocabulary, width)
        width = embeddings.shape[1]
        head = nn.Linear(width, len(embeddings))
        nn.init.zeros_(head.bias)
        head.weight = embeddings
        super().__init__(
            Network(
                Gaps(model, mask),
                nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width)),
                head,
            )
        )
        self.gaps, self.mask = gaps, mask
        self.register_buffer("special", torch.tensor(list(special)))

    def parameter_groups(self, learning_rate: float, backbone_factor: float) -> list[dict]:
        """Everything at one rate; the shared weights once."""
        return [{"params": list(self.network.parameters()), "lr": learning_rate}]

    def loss(self, batch: LabelledBatch, progress: float) -> Terms:
        ids, mask = batch.x.unbind(1)  # (b, length)
        open_to_gaps = mask.bool() & ~torch.isin(ids, self.special)
        chosen = open_to_gaps & (torch.rand(ids.shape, device=ids.device) < self.gaps)
        logits = self.network(
            torch.stack([ids.masked_fill(chosen, self.mask), mask], dim=1)
        ).logits  # (k, vocabulary)
        return {
            "gaps": functional.cross_entropy(logits, ids[chosen], reduction="sum")
            / chosen.sum().clamp(min=1)
        }


class FilledGaps(Evaluation):
    """Judges a `MaskedLanguage` network by texts with one gap each, whose labels are the tokens that stood there."""

    def metrics(self, logits: Tensor) -> dict[str, float]:
        """target_accuracy: fraction of gaps that are filled rightly; target_cross_entropy in nats."""
        return {
            "target_accuracy": accuracy(logits, self.target.y),
            "target_cross_entropy": functional.cross_entropy(logits, self.target.y).item(),
        }

    def confusion(self, logits: Tensor) -> list[str]:
        """None: there are as many classes as tokens."""
        return []


def one_gap_each(
    x: Tensor, *, seed: int, special: Sequence[int] = range(len(SPECIAL)), mask: int = _MASK
) -> Labelled:
    """Tokens x (n, 2, length) with one token of each text masked, drawn by `seed`, and as labels (n,) what it was."""
    candidates = x[:, 1].bool() & ~torch.isin(x[:, 0], torch.tensor(list(special)))  # (n, length)
    places = torch.multinomial(
        candidates.double(), 1, generator=torch.Generator().manual_seed(seed)
    ).squeeze(1)  # (n,)
    rows = torch.arange(len(x))
    masked = x.clone()
    masked[rows, 0, places] = mask
    return Labelled(masked, x[rows, 0, places])

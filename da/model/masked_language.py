"""Masked language modelling: an encoder learns from unlabelled texts to fill in their gaps.

Use it to pretrain a `new_encoder`, or to adapt an encoder to the texts of a domain.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from da.data.batches import LabelledBatch
from da.data.domain import Labelled
from da.networks.encoder_from_texts import SPECIAL
from da.networks.network import Network
from da.networks.text_encoders import Encoder
from da.train.evaluation import Evaluation
from da.train.method import Method, Terms
from da.train.metrics import accuracy

_MASK = SPECIAL.index("[MASK]")


class Gaps(nn.Module):
    """A backbone that gives the states of the gaps alone.

    Tokens x (b, 2, length) -> states (k, width) of the k tokens that are [MASK], text by text.

    Args:
        model: A BERT of transformers.
        mask: Id of [MASK].
    """

    def __init__(self, model: nn.Module, mask: int) -> None:
        super().__init__()
        self.encoder, self.mask = Encoder(model), mask

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (b, 2, length) -> states (k, width)."""
        hidden, ids, _ = self.encoder.states(x)  # (b, l, width), (b, l)
        return hidden[ids == self.mask]


class MaskedLanguage(Method[LabelledBatch]):
    """Train a text encoder on unlabelled texts, by hiding tokens and asking for them.

    The labels of the batches are not read. Every token that is not special becomes a gap with
    probability `gaps` and is shown as [MASK]. The output layer shares its weights with the word
    embeddings.

        sum over the gaps of cross_entropy(logits, hidden token) / number of gaps, in nats

    Args:
        model: A BERT of transformers; it is trained in place.
        gaps: Probability that a token becomes a gap, in (0, 1). Default 0.15.
        special: Ids of the tokens that are never masked. Default: those of `new_encoder`, 0 to 4.
        mask: Id of [MASK]. Default: that of `new_encoder`.

    Raises:
        ValueError: `gaps` is not in (0, 1).

    Example:
        >>> import torch
        >>> from da.data import LabelledBatch
        >>> from da.model import MaskedLanguage
        >>> from da.networks import new_encoder
        >>> tokenizer, model = new_encoder(["a good book"], layers=1, width=16)
        >>> method = MaskedLanguage(model, gaps=0.5)
        >>> made = tokenizer(["a good book", "good good book"], return_tensors="pt")
        >>> x = torch.stack([made["input_ids"], made["attention_mask"]], dim=1)  # (2, 2, length)
        >>> list(method.loss(LabelledBatch(x, torch.zeros(2), torch.arange(2)), progress=0.0))
        ['gaps']

    Paper:
        Devlin, Chang, Lee, Toutanova: BERT: Pre-training of Deep Bidirectional Transformers for
        Language Understanding. NAACL 2019.

    Differences:
        Every gap is shown as [MASK]. The paper shows one in ten as itself and one in ten as
        another token. The next sentence is not predicted.
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
        transform = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))
        super().__init__(Network(Gaps(model, mask), transform, head))
        self.gaps, self.mask = gaps, mask
        self.register_buffer("special", torch.tensor(list(special)))

    def parameter_groups(self, learning_rate: float, backbone_factor: float) -> list[dict]:
        """One group at the full rate; the shared weights are in it once."""
        return [{"params": list(self.network.parameters()), "lr": learning_rate}]

    def loss(self, batch: LabelledBatch, progress: float) -> Terms:
        """The term "gaps", the mean cross-entropy of the gaps; 0 without gaps."""
        ids, mask = batch.x.unbind(1)  # (b, length)
        open_to_gaps = mask.bool() & ~torch.isin(ids, self.special)
        chosen = open_to_gaps & (torch.rand(ids.shape, device=ids.device) < self.gaps)
        shown = torch.stack([ids.masked_fill(chosen, self.mask), mask], dim=1)  # (b, 2, length)
        logits = self.network(shown).logits  # (k, vocabulary)
        total = functional.cross_entropy(logits, ids[chosen], reduction="sum")
        return {"gaps": total / chosen.sum().clamp(min=1)}


class FilledGaps(Evaluation):
    """Judge a `MaskedLanguage` network by texts with one gap each.

    The labels are the tokens that the gaps hide; `one_gap_each` makes such samples.
    """

    def metrics(self, logits: Tensor, features: Tensor | None = None) -> dict[str, float]:
        """The fraction of gaps filled correctly, and the mean cross-entropy in nats."""
        labels = self.labels
        assert labels is not None
        return {
            "target_accuracy": accuracy(logits, labels),
            "target_cross_entropy": functional.cross_entropy(logits, labels).item(),
        }

    def confusion(self, logits: Tensor) -> list[str]:
        """No confusions are listed, because there are as many classes as tokens."""
        return []


def one_gap_each(
    x: Tensor, *, seed: int, special: Sequence[int] = range(len(SPECIAL)), mask: int = _MASK
) -> Labelled:
    """Mask one token of each text, and make it the text's label.

    Args:
        x: Tokens (n, 2, length).
        seed: Seed of the choice of tokens.
        special: Ids of the tokens that are never masked. Default: those of `new_encoder`.
        mask: Id of [MASK]. Default: that of `new_encoder`.

    Returns:
        The masked tokens, with the hidden tokens (n,) as labels.
    """
    candidates = x[:, 1].bool() & ~torch.isin(x[:, 0], torch.tensor(list(special)))  # (n, length)
    generator = torch.Generator().manual_seed(seed)
    places = torch.multinomial(candidates.double(), 1, generator=generator).squeeze(1)  # (n,)
    rows = torch.arange(len(x))
    masked = x.clone()
    masked[rows, 0, places] = mask
    return Labelled(masked, x[rows, 0, places])

"""Hugging Face encoders as networks: texts -> tokens -> Outputs(features, logits).

    x = tokenise(texts, encoder)                  tokens (n, 2, length): ids x[:, 0], mask x[:, 1]
    network = text_network(encoder, classes=2)    the encoder, and a linear head on its mean state

To fine-tune everything, take the network as it is. `da.model.frozen` trains the head alone, and
`lora` trains small adapters. An encoder is a folder or a name on the Hugging Face Hub; see
`da.networks.encoder_files`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from da.arrays.arguments import checked
from da.networks.encoder_files import (
    find_encoder,
    load_config,
    load_model,
    load_tokenizer,
    random_model,
)
from da.networks.network import Network


class Encoder(nn.Module):
    """A transformers model as a backbone: the mean of its last states over a text's own tokens.

    Columns that are padding in every text of the batch are cut before the model sees them.

    Args:
        model: A model of transformers, whose output has `last_hidden_state`.

    Raises:
        TypeError: At a call, if the tokens are not int64.
        ValueError: At a call, if the tokens are not (b, 2, length).
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def states(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Run the model on tokens, without the columns that are padding in every text.

        Args:
            x: Tokens (b, 2, length), int64: ids and mask.

        Returns:
            The last layer's states (b, l, width), the ids (b, l) and the mask (b, l), with l the
            number of tokens of the longest text.
        """
        if x.dtype != torch.int64:
            raise TypeError(
                "x must hold token ids and mask in int64, as `tokenise` makes them; "
                f"got {x.dtype}: pass the transform `da.networks.text_encoders.tokens`"
            )
        if x.ndim != 3 or x.shape[1] != 2:
            raise ValueError(
                "x must be tokens (b, 2, length), as `tokenise` makes them; "
                f"got shape {tuple(x.shape)}"
            )
        longest = int(x[:, 1].sum(1).max())  # a text's tokens come before its padding
        ids, mask = x[:, :, :longest].unbind(1)  # (b, l) each
        return self.model(input_ids=ids, attention_mask=mask).last_hidden_state, ids, mask

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (b, 2, length) -> mean states (b, width)."""
        hidden, _, mask = self.states(x)  # (b, l, width)
        own = mask.unsqueeze(2).to(hidden.dtype)  # (b, l, 1)
        return (hidden * own).sum(1) / own.sum(1)


def tokens(x: Tensor, generator: torch.Generator) -> Tensor:
    """The transform for tokens, which leaves x as it is, in int64.

    The usual transform `da.data.transforms.identity` would make floats of the ids.
    """
    return x


@checked
def tokenise(
    texts: Sequence[str], encoder: str | Path, *, max_length: int = 256, download: bool = False
) -> Tensor:
    """Turn texts into the token ids that a `text_network` reads.

    Use the encoder's own tokenizer by naming the same encoder here and in `text_network`. Texts
    that are too long lose their end; shorter ones are padded on the right.

    Args:
        texts: The texts, at least one.
        encoder: A folder, or a name on the Hugging Face Hub.
        max_length: Most tokens of a text, special ones included. Default 256.
        download: Whether files that the Hub's cache lacks are fetched. Default False.

    Returns:
        x (n, 2, length), int64: token ids x[:, 0], and x[:, 1] with 1 at tokens and 0 at padding.
        The length is that of the longest text, at most `max_length`.

    Raises:
        TypeError: `texts` is not a sequence of strings.
        ValueError: There are no texts, a text has no token, or `max_length` is more than the
            encoder's positions; also as for `text_network`.
        FileNotFoundError: As for `text_network`, or no tokenizer in the folder.
        ImportError: transformers is not installed.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from da.networks import new_encoder, save_encoder, tokenise
        >>> texts = ["a good book", "good"]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_encoder(Path(folder), *new_encoder(texts, layers=1, width=16))
        ...     x = tokenise(texts, folder, max_length=64)
        >>> x.shape, x[:, 1].tolist()  # [CLS] and [SEP] are tokens too
        (torch.Size([2, 2, 5]), [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    """
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        kinds = sorted({type(text).__name__ for text in texts})
        raise TypeError(
            f"texts must be a sequence of strings; got {type(texts).__name__} with {kinds}"
        )
    if len(texts) == 0:
        raise ValueError("texts must hold at least one text; got none")
    folder = find_encoder(encoder, download=download)
    tokenizer = load_tokenizer(folder)
    positions = getattr(load_config(folder), "max_position_embeddings", None)
    most = min(tokenizer.model_max_length, positions or tokenizer.model_max_length)
    if max_length > most:
        raise ValueError(
            f"max_length must be at most {most}, the positions of {encoder}; got {max_length}"
        )
    return apply_tokenizer(tokenizer, texts, max_length=max_length)


def apply_tokenizer(tokenizer: Any, texts: Sequence[str], *, max_length: int) -> Tensor:
    """Tokenise with a tokenizer object of transformers; otherwise the same as `tokenise`.

    Args:
        tokenizer: A tokenizer of transformers.
        texts: The texts.
        max_length: Most tokens of a text, special ones included.

    Returns:
        x (n, 2, length), int64.

    Raises:
        ValueError: A text has no token, or `max_length` leaves no room for one.
    """
    special = tokenizer.num_special_tokens_to_add()
    if max_length <= special:
        raise ValueError(
            f"max_length must leave room for a token beside {special} special ones; "
            f"got {max_length}"
        )
    made = tokenizer(
        list(texts),
        truncation=True,
        max_length=max_length,
        padding=True,
        padding_side="right",
        return_tensors="pt",
    )
    empty = (made["attention_mask"].sum(1) == 0).nonzero().flatten().tolist()
    if empty:
        first = empty[0]
        raise ValueError(
            f"texts must have at least one token each; text {first} has none: {texts[first][:50]!r}"
        )
    return torch.stack([made["input_ids"], made["attention_mask"]], dim=1)  # (n, 2, length)


@checked
def text_network(
    encoder: str | Path, classes: int, *, pretrained: bool = True, download: bool = False
) -> Network:
    """Make a network for texts from a Hugging Face encoder and a new linear head.

    The features are the mean of the encoder's last states over a text's own tokens. There is no
    pooler and no bottleneck. Feed it with `tokenise`.

    Args:
        encoder: A folder, or a name on the Hugging Face Hub that is in the local cache.
        classes: Number of classes.
        pretrained: False gives the same architecture with random weights, which learn as fast as
            the head. Default True.
        download: Whether files that the cache lacks are fetched from the Hub. Default False.

    Returns:
        A network x (b, 2, length) -> Outputs(features (b, width), logits (b, classes)).

    Raises:
        ImportError: transformers is not installed.
        FileNotFoundError: There is no such folder, the name is not in the cache or cannot be
            fetched, or config.json or the weights are missing.
        ValueError: The files cannot be read, lack weights of the architecture, or are not those of
            a text encoder.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from da.networks import new_encoder, save_encoder, text_network, tokenise
        >>> texts = ["a good book", "a dull book"]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_encoder(Path(folder), *new_encoder(texts, layers=1, width=16))
        ...     network = text_network(folder, classes=2)
        ...     features, logits = network(tokenise(texts, folder, max_length=64))
        >>> features.shape, logits.shape
        (torch.Size([2, 16]), torch.Size([2, 2]))

    Paper:
        Devlin, Chang, Lee, Toutanova: BERT: Pre-training of Deep Bidirectional Transformers for
        Language Understanding. NAACL 2019.

    Differences:
        The features are the mean of the states. The paper takes the state of the first token.
    """
    folder = find_encoder(encoder, download=download)
    model = load_model(folder) if pretrained else random_model(folder)
    if hasattr(model, "pooler"):
        model.pooler = None  # its output is not used, and many files lack its weights
    return Network(
        Encoder(model.float()),
        nn.Identity(),
        nn.Linear(model.config.hidden_size, classes),
        pretrained=pretrained,
    )

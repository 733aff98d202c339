"""A text encoder of one's own, without a download: a tokenizer learned from texts, and a small BERT whose words start from counts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional

from da.networks.text_encoders import apply_tokenizer, extra, quiet

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # tokens 0 to 4


def new_encoder(
    texts: Sequence[str],
    *,
    vocabulary: int = 4000,
    layers: int = 2,
    width: int = 128,
    max_length: int = 64,
    seed: int = 0,
) -> tuple[Any, nn.Module]:
    """A WordPiece tokenizer learned from `texts`, lower case, of at most `vocabulary` tokens, and an untrained BERT for it.

    Word embeddings are U sqrt(S) of `ppmi`'s first singular vectors, rows scaled to entries of mean square 0.05^2; all else is random.
    Heads of attention: one for every 64 dimensions of `width`, two at least. `save_encoder` makes a folder of the two.
    """
    transformers = extra("transformers")
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=_word_pieces(texts, vocabulary), model_max_length=max_length, pad_token="[PAD]", unk_token="[UNK]",
        cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]",
    )  # fmt: skip
    config = transformers.BertConfig(
        vocab_size=len(tokenizer), hidden_size=width, num_hidden_layers=layers, num_attention_heads=max(2, width // 64),
        intermediate_size=4 * width, max_position_embeddings=max_length,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = transformers.BertModel(config, add_pooling_layer=False)
    vectors = _word_vectors(
        ppmi(apply_tokenizer(tokenizer, texts, max_length=max_length), len(tokenizer)), width, seed
    )
    with torch.no_grad():
        model.get_input_embeddings().weight[len(SPECIAL) :] = vectors[len(SPECIAL) :]
    return tokenizer, model


def ppmi(x: Tensor, vocabulary: int, *, window: int = 4) -> sparse.csr_matrix:
    """Positive pointwise mutual information of tokens (vocabulary, vocabulary), from tokens x (n, 2, length).

    max(0, log(p(v, w) / (p(v) q(w)))): p(v, w) the share of v, w among pairs at most `window` places apart, both ways, p(v) its marginal,
    and q(w) proportional to p(w)^0.75 (Levy, Goldberg and Dagan, TACL 2015). Special tokens have no pairs.
    """
    words, pairs = x[:, 0].numpy() * (x[:, 1].numpy() > 0), []
    words[words < len(SPECIAL)] = 0
    for distance in range(1, window + 1):
        first, second = words[:, :-distance], words[:, distance:]
        both = (first > 0) & (second > 0)
        pairs += [(first[both], second[both]), (second[both], first[both])]
    rows, columns = (np.concatenate(side) for side in zip(*pairs, strict=True))
    counts = sparse.csr_matrix(
        (np.ones(len(rows)), (rows, columns)), shape=(vocabulary, vocabulary)
    ).tocoo()  # adds up equal pairs
    marginal = np.bincount(rows, minlength=vocabulary)
    smoothed = marginal**0.75 / (marginal**0.75).sum()
    information = np.log(counts.data / (marginal[counts.row] * smoothed[counts.col]))
    return sparse.csr_matrix(
        (np.maximum(information, 0), (counts.row, counts.col)), shape=(vocabulary, vocabulary)
    )


def _word_vectors(information: sparse.csr_matrix, width: int, seed: int) -> Tensor:
    """(vocabulary, width), zero beyond the rank that the vocabulary allows."""
    from sklearn.utils.extmath import (
        randomized_svd,
    )  # slow to import: only new encoders should pay for it

    left, values, _ = randomized_svd(
        information, min(width, information.shape[0]), random_state=seed
    )
    vectors = torch.zeros(information.shape[0], width)
    vectors[:, : len(values)] = torch.from_numpy(left * np.sqrt(values))
    return 0.05 * width**0.5 * functional.normalize(vectors, dim=1)


def _word_pieces(texts: Sequence[str], vocabulary: int) -> Any:
    """A tokenizer of the tokenizers library: words and pieces of words, lower case, [CLS] before a text and [SEP] after it."""
    library = extra("tokenizers")
    tokenizer = library.Tokenizer(library.models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = library.normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = library.decoders.WordPiece()
    trainer = library.trainers.WordPieceTrainer(
        vocab_size=vocabulary, special_tokens=list(SPECIAL), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    ends = [(name, SPECIAL.index(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = library.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=ends
    )
    return tokenizer


def save_encoder(folder: Path, tokenizer: Any, model: Any) -> None:
    """Writes both where `da.networks.text_encoders.text_network` and `tokenise` find them."""
    with quiet():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

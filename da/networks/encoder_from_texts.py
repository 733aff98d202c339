"""A small text encoder of your own, without a download.

The tokenizer is learned from your texts. The encoder is a small BERT whose word embeddings start
from how often words occur together. `da.model.MaskedLanguage` trains it further.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional

from da.arrays.arguments import checked
from da.networks.encoder_files import quiet
from da.networks.extras import extra
from da.networks.text_encoders import apply_tokenizer

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # tokens 0 to 4


@checked
def new_encoder(
    texts: Sequence[str],
    *,
    vocabulary: int = 4000,
    layers: int = 2,
    width: int = 128,
    max_length: int = 64,
    seed: int = 0,
) -> tuple[Any, nn.Module]:
    """Make a tokenizer and a small, untrained BERT from nothing but texts.

    Use it if no pretrained encoder can be downloaded, or if the texts are unlike those of the
    published ones. The tokenizer is a lower-case WordPiece. The word embeddings start from
    U sqrt(S) of the first singular vectors of `ppmi`, rows scaled to entries of mean square 0.05^2.
    All other weights are random. `save_encoder` writes both to a folder.

    Args:
        texts: The texts to learn from.
        vocabulary: Most tokens. Default 4000.
        layers: Layers of the encoder. Default 2.
        width: Width of its states. There is one attention head for every 64 of it, and there are
            at least two. Default 128.
        max_length: Most tokens of a text, special ones included. Default 64.
        seed: Seed of the random weights. Default 0.

    Returns:
        The tokenizer and the model, as objects of transformers.

    Raises:
        ImportError: transformers or tokenizers is not installed.

    Example:
        >>> from da.networks import new_encoder
        >>> tokenizer, model = new_encoder(["a good book", "a dull book"], layers=1, width=16)
        >>> tokenizer.tokenize("A good, dull book")
        ['a', 'good', '[UNK]', 'dull', 'book']
        >>> model.get_input_embeddings().weight.shape[1]
        16

    Paper:
        Devlin, Chang, Lee, Toutanova: BERT: Pre-training of Deep Bidirectional Transformers for
        Language Understanding. NAACL 2019. Levy, Goldberg, Dagan: Improving Distributional
        Similarity with Lessons Learned from Word Embeddings. TACL 2015 (the word vectors).

    Differences:
        BERT starts from random word embeddings. Here they start from word vectors of counts.
    """
    transformers = extra("transformers")
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=_word_pieces(texts, vocabulary),
        model_max_length=max_length,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )
    config = transformers.BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=max(2, width // 64),
        intermediate_size=4 * width,
        max_position_embeddings=max_length,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = transformers.BertModel(config, add_pooling_layer=False)
    x = apply_tokenizer(tokenizer, texts, max_length=max_length)
    vectors = _word_vectors(ppmi(x, len(tokenizer)), width, seed)
    with torch.no_grad():
        model.get_input_embeddings().weight[len(SPECIAL) :] = vectors[len(SPECIAL) :]
    return tokenizer, model


def ppmi(x: Tensor, vocabulary: int, *, window: int = 4) -> sparse.csr_matrix:
    """Measure how much more often two words stand near each other than by chance.

    The rows are word vectors: words in similar company have similar rows.

        max(0, log(p(v, w) / (p(v) q(w)))),    q(w) proportional to p(w)^0.75

    p(v, w) is the share of v, w among the pairs of words at most `window` places apart, counted in
    both directions; p(v) is its marginal. Special tokens form no pairs.

    Args:
        x: Tokens (n, 2, length).
        vocabulary: Number of tokens.
        window: Largest distance between the words of a pair, in places. Default 4.

    Returns:
        A sparse matrix (vocabulary, vocabulary).

    Example:
        >>> import torch
        >>> from da.networks.encoder_from_texts import ppmi
        >>> ids = torch.tensor([[5, 6, 0], [7, 8, 0]])  # 5 is beside 6 alone, 7 beside 8 alone
        >>> x = torch.stack([ids, (ids > 0).long()], dim=1)
        >>> ppmi(x, 9).toarray()[5:, 5:].round(2).tolist()  # log 4
        [[0.0, 1.39, 0.0, 0.0], [1.39, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.39], [0.0, 0.0, 1.39, 0.0]]

    Paper:
        Levy, Goldberg, Dagan: Improving Distributional Similarity with Lessons Learned from Word
        Embeddings. TACL 2015.

    Differences:
        None known. The vectors are the start of the small encoder.
    """
    words = x[:, 0].numpy() * (x[:, 1].numpy() > 0)  # (n, length), 0 at padding
    words[words < len(SPECIAL)] = 0
    pairs = []
    for distance in range(1, window + 1):
        first, second = words[:, :-distance], words[:, distance:]
        both = (first > 0) & (second > 0)
        pairs += [(first[both], second[both]), (second[both], first[both])]
    rows, columns = (np.concatenate(side) for side in zip(*pairs, strict=True))
    shape = (vocabulary, vocabulary)
    ones = np.ones(len(rows))
    counts = sparse.csr_matrix((ones, (rows, columns)), shape=shape).tocoo()  # adds up equal pairs
    marginal = np.bincount(rows, minlength=vocabulary)
    smoothed = marginal**0.75 / (marginal**0.75).sum()
    information = np.log(counts.data / (marginal[counts.row] * smoothed[counts.col]))
    return sparse.csr_matrix((np.maximum(information, 0), (counts.row, counts.col)), shape=shape)


def _word_vectors(information: sparse.csr_matrix, width: int, seed: int) -> Tensor:
    """Word vectors (vocabulary, width); columns beyond the number of tokens are zero."""
    # This import is slow. Only new encoders should pay for it.
    from sklearn.utils.extmath import randomized_svd

    components = min(width, information.shape[0])
    left, values, _ = randomized_svd(information, components, random_state=seed)
    vectors = torch.zeros(information.shape[0], width)
    vectors[:, : len(values)] = torch.from_numpy(left * np.sqrt(values))
    return 0.05 * width**0.5 * functional.normalize(vectors, dim=1)


def _word_pieces(texts: Sequence[str], vocabulary: int) -> Any:
    """A lower-case WordPiece tokenizer; it puts [CLS] before a text and [SEP] after it.

    Among equally frequent pairs the trainer takes the lowest numbers, and it numbers the letters
    within words in the order of a hash table, which differs from process to process. So they are
    numbered here, and the same texts always give the same tokenizer.
    """
    library = extra("tokenizers")
    trained = _without_pieces(library.models.WordPiece(unk_token="[UNK]"))
    letters = set().union(*(trained.normalizer.normalize_str(text) for text in texts))
    within = [f"##{letter}" for letter in sorted(letters) if not letter.isspace()]
    trainer = library.trainers.WordPieceTrainer(
        vocab_size=vocabulary,
        special_tokens=[*SPECIAL, *within[: max(vocabulary - len(SPECIAL), 0)]],
        show_progress=False,
    )
    trained.train_from_iterator(texts, trainer)
    # The trainer takes what it is given for special. In a new tokenizer they are pieces of words.
    pieces = library.models.WordPiece(trained.get_vocab(), unk_token="[UNK]")
    tokenizer = _without_pieces(pieces)
    tokenizer.add_special_tokens(list(SPECIAL))
    ends = [(name, SPECIAL.index(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = library.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=ends
    )
    return tokenizer


def _without_pieces(model: Any) -> Any:
    """A tokenizer that splits lower-case texts into words, and words by a model."""
    library = extra("tokenizers")
    tokenizer = library.Tokenizer(model)
    tokenizer.normalizer = library.normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = library.decoders.WordPiece()
    return tokenizer


@checked
def save_encoder(folder: Path, tokenizer: Any, model: Any) -> None:
    """Write an encoder to a folder, whole or not at all: `text_network` and `tokenise` find it.

    Args:
        folder: Folder to write; it is made if it does not exist.
        tokenizer: A tokenizer of transformers.
        model: A model of transformers.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from da.networks import new_encoder, save_encoder
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_encoder(Path(folder), *new_encoder(["a good book"], layers=1, width=16))
        ...     sorted(path.name for path in Path(folder).glob("*"))
        ['config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json']
    """
    folder.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder, prefix=".new-"))
    try:
        with quiet():
            model.save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
        for path in sorted(temporary.iterdir(), key=lambda path: path.name == "config.json"):
            os.replace(path, folder / path.name)  # without config.json it is no encoder yet
    finally:
        shutil.rmtree(temporary, ignore_errors=True)

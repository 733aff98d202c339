"""An encoder of one's own, without a download: a tokenizer learned from the texts, and a small BERT that learns to fill in their gaps.

    python -m da.text --folder encoder --data-root DATA

reads the reviews of all domains without their labels, writes an encoder of two layers into the folder, and prints how many of the gaps in
reviews that were held out it fills with the right token. A minute on one idle CPU core. It is no replacement for an encoder that has read
a library: its word embeddings start from counts of what stands beside what (`ppmi`) in 8,000 reviews, and in the few steps of the default
the gaps teach the layers above them little that the counts did not say; --steps 5000 gives them time. Tests take `new_encoder` alone.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from scipy import sparse
from sklearn.utils.extmath import randomized_svd
from torch import Tensor, nn
from torch.nn import functional

from da.arrays import NonFiniteError
from da.data.batches import LabelledBatch, LabelledBatches
from da.data.benchmarks import AMAZON_REVIEW_TEXTS
from da.data.domain import Labelled
from da.data.readers import data_root
from da.data.reviews import read_reviews
from da.encoders import Encoder, apply_tokenizer, extra, quiet, tokens
from da.evaluate import Evaluation, accuracy
from da.experiment import NOT_CONFIGURATION
from da.method import Method, Terms
from da.networks import Network
from da.records import Run
from da.train import TrainConfig, fit

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # tokens 0 to 4
_MASK = SPECIAL.index("[MASK]")
_HELD_OUT = 400  # texts


@dataclass(frozen=True)
class EncoderFlags(TrainConfig):
    """Make a small encoder from the Amazon reviews."""

    folder: Path = Path("encoder")
    """Where it is written, with the record of the training and the checkpoint from which an interrupted one goes on."""
    vocabulary: int = 4000
    """Tokens, at most."""
    layers: int = 2
    """Of the transformer."""
    width: int = 128
    """Of a token's state; four times that inside a layer, and a head of attention for every 64."""
    max_length: int = 64
    """Tokens of a review; what is longer is cut."""
    gaps: float = 0.15
    """Fraction of the tokens that are masked."""
    seed: int = 0
    """Of the first weights, the order of the reviews and the gaps."""
    data_root: Path | None = None
    """Folder of the data sets; none: $DA_DATA, else data/."""
    steps: int = 200
    """Optimiser steps."""
    batch_size: int = 32
    """Reviews a step."""
    learning_rate: float = 0.001
    """At the start."""
    optimizer: Literal["sgd", "adamw"] = "adamw"
    """As in torch.optim."""
    weight_decay: float = 0.01
    """As the optimiser defines it."""
    clip: float | None = 1.0
    """Largest 2-norm of the gradient."""
    evaluate_every: int = 100
    """Steps between two counts of gaps filled rightly, each followed by a checkpoint."""
    threads: int | None = 1
    """CPU threads."""


def new_encoder(
    texts: Sequence[str], *, vocabulary: int = 4000, layers: int = 2, width: int = 128, max_length: int = 64, seed: int = 0
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
    vectors = _word_vectors(ppmi(apply_tokenizer(tokenizer, texts, max_length=max_length), len(tokenizer)), width, seed)
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
    counts = sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(vocabulary, vocabulary)).tocoo()  # adds up equal pairs
    marginal = np.bincount(rows, minlength=vocabulary)
    smoothed = marginal**0.75 / (marginal**0.75).sum()
    information = np.log(counts.data / (marginal[counts.row] * smoothed[counts.col]))
    return sparse.csr_matrix((np.maximum(information, 0), (counts.row, counts.col)), shape=(vocabulary, vocabulary))


def _word_vectors(information: sparse.csr_matrix, width: int, seed: int) -> Tensor:
    """(vocabulary, width), zero beyond the rank that the vocabulary allows."""
    left, values, _ = randomized_svd(information, min(width, information.shape[0]), random_state=seed)
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
    trainer = library.trainers.WordPieceTrainer(vocab_size=vocabulary, special_tokens=list(SPECIAL), show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    ends = [(name, SPECIAL.index(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = library.processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return tokenizer


def save_encoder(folder: Path, tokenizer: Any, model: Any) -> None:
    """Writes both where `da.encoders.text_network` and `tokenise` find them."""
    with quiet():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


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

    def __init__(self, model: Any, *, gaps: float = 0.15, special: Sequence[int] = range(len(SPECIAL)), mask: int = _MASK) -> None:
        if not 0 < gaps < 1:
            raise ValueError(f"gaps must be in (0, 1), the fraction of tokens that are masked; got {gaps}")
        embeddings = model.get_input_embeddings().weight  # (vocabulary, width)
        width = embeddings.shape[1]
        head = nn.Linear(width, len(embeddings))
        nn.init.zeros_(head.bias)
        head.weight = embeddings
        super().__init__(Network(Gaps(model, mask), nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width)), head))
        self.gaps, self.mask = gaps, mask
        self.register_buffer("special", torch.tensor(list(special)))

    def parameter_groups(self, learning_rate: float, backbone_factor: float) -> list[dict]:
        """Everything at one rate; the shared weights once."""
        return [{"params": list(self.network.parameters()), "lr": learning_rate}]

    def loss(self, batch: LabelledBatch, progress: float) -> Terms:
        ids, mask = batch.x.unbind(1)  # (b, length)
        open_to_gaps = mask.bool() & ~torch.isin(ids, self.special)
        chosen = open_to_gaps & (torch.rand(ids.shape, device=ids.device) < self.gaps)
        logits = self.network(torch.stack([ids.masked_fill(chosen, self.mask), mask], dim=1)).logits  # (k, vocabulary)
        return {"gaps": functional.cross_entropy(logits, ids[chosen], reduction="sum") / chosen.sum().clamp(min=1)}


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


def one_gap_each(x: Tensor, *, seed: int, special: Sequence[int] = range(len(SPECIAL)), mask: int = _MASK) -> Labelled:
    """Tokens x (n, 2, length) with one token of each text masked, drawn by `seed`, and as labels (n,) what it was."""
    candidates = x[:, 1].bool() & ~torch.isin(x[:, 0], torch.tensor(list(special)))  # (n, length)
    places = torch.multinomial(candidates.double(), 1, generator=torch.Generator().manual_seed(seed)).squeeze(1)  # (n,)
    rows = torch.arange(len(x))
    masked = x.clone()
    masked[rows, 0, places] = mask
    return Labelled(masked, x[rows, 0, places])


def build_encoder(texts: Sequence[str], flags: EncoderFlags) -> dict[str, Any]:
    """Trains an encoder on `texts` as the flags say, writes it into `flags.folder` and returns the result of its run.

    Raises FileExistsError where an encoder stands in the folder that this very training has not put there.
    """
    run = Run.start(
        flags.folder / "training", _configuration(flags) | {"texts": len(texts)}, experiment="text_encoder", method="masked_language",
        source="reviews", target="held_out", seed=flags.seed, wandb="disabled",
    )  # fmt: skip
    there = (flags.folder / "config.json").is_file()
    if there and run.finished:
        return run.result()
    if there or run.finished:
        raise FileExistsError(f"folder: {flags.folder} holds another encoder, or what is left of one; give an empty folder with --folder")
    tokenizer, model = new_encoder(
        texts, vocabulary=flags.vocabulary, layers=flags.layers, width=flags.width, max_length=flags.max_length, seed=flags.seed
    )
    x = apply_tokenizer(tokenizer, texts, max_length=flags.max_length)  # (n, 2, length)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(flags.seed))
    held_out, train = x[order[:_HELD_OUT]], x[order[_HELD_OUT:]]
    unread = Labelled(train, torch.zeros(len(train), dtype=torch.int64))
    torch.manual_seed(flags.seed)
    method = MaskedLanguage(model, gaps=flags.gaps)
    stream = LabelledBatches(unread, batch_size=flags.batch_size, seed=flags.seed, transform=tokens)
    result = fit(method, stream, flags, run, FilledGaps(one_gap_each(held_out, seed=flags.seed), tokens))
    save_encoder(flags.folder, tokenizer, model)
    return result


def _configuration(flags: EncoderFlags) -> dict[str, Any]:
    """What the encoder depends on."""
    values = {field.name: getattr(flags, field.name) for field in dataclasses.fields(flags) if field.name not in NOT_CONFIGURATION}
    return values | {"folder": flags.folder.name}


def main() -> None:
    """The command line: `python -m da.text --folder FOLDER --data-root DIR`."""
    try:
        flags = tyro.cli(EncoderFlags, description=__doc__)
        root = data_root(flags.data_root)
        texts = [text for domain in AMAZON_REVIEW_TEXTS.domains for text in read_reviews(domain, root).texts]
        result = build_encoder(texts, flags)
    except (ValueError, OSError, ImportError, NonFiniteError) as error:
        sys.exit(f"error: {error}")
    share = result["selected"]["last"]["target_accuracy"]
    print(f"{flags.folder}: an encoder of {flags.layers} layers; {100 * share:.1f} % of the held-out gaps filled rightly")


if __name__ == "__main__":
    main()

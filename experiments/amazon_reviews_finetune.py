"""Sentiment of Amazon reviews across products, from the texts themselves: what does an encoder's pretraining bring, and how is it kept?

    python experiments/text_encoder.py --folder encoder --data-root DATA
    python experiments/amazon_reviews_finetune.py --encoder encoder --data-root DATA --source books --target kitchen --seeds 0 1 2

The first command makes a small encoder: BERT's architecture with two layers, masked language modelling on the reviews of all four domains
without their labels, so that it has seen the target's texts; nothing is downloaded. Any other encoder of Hugging Face goes in its place: a
folder, or a name, with --download where the cache lacks it.

2,000 labelled reviews of the source train, the target's 2,000 test; the last step counts, no label of the target is used, and 12 tasks wait
where no domain is named. Rows: scratch (the same architecture with random weights: what is below it is negative transfer), frozen (a
logistic regression on the encoder's features, which are computed once), lora (rank 8 on queries and values), full (everything learns), and
bag_of_words (a logistic regression on the 5,000 most frequent words and pairs of words: no encoder at all). frozen and bag_of_words
are the same for every seed. With the small encoder a cell that trains takes about twenty seconds of one CPU core; its recipe was set
beforehand, and a larger encoder wants a lower rate and more tokens (--learning-rate 2e-4 --max-length 256).
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import torch
import tyro
from sklearn.feature_extraction.text import CountVectorizer
from torch import Tensor, nn

from da.data import AMAZON_REVIEW_TEXTS, Labelled, LabelledBatches, data_root, identity, log_counts
from da.data.batches import Transform
from da.data.files import Reviews, read_reviews
from da.data.files.reviews import toy_reviews
from da.model import fit_head
from da.model.finetune import Probe
from da.networks import Network, lora, new_encoder, save_encoder, text_network, tokenise
from da.networks.backbones import fingerprint
from da.networks.encoder_files import extra, find_encoder
from da.networks.text_encoders import tokens
from da.recipes import Cell, Flags, Job, main
from da.train import Evaluation, Method, Regularize, predict

WORDS = 5000
Row = Literal["bag_of_words", "scratch", "frozen", "lora", "full"]


@dataclass(frozen=True)
class Config(Flags):
    """Classify reviews of one kind of product after training on another's."""

    loss: tuple[Row, ...] = ("bag_of_words", "scratch", "frozen", "lora", "full")
    """What is compared."""
    encoder: Path | None = None
    """A folder with config.json, model.safetensors and tokenizer, or a name on the Hugging Face Hub; bag_of_words alone needs none."""
    weights: tyro.conf.Suppress[str] = ""
    """What the record says of the encoder's weights; filled in."""
    max_length: int = 64
    """Tokens of a review; what is longer is cut."""
    steps: int = 250
    """Optimiser steps."""
    batch_size: int = 16
    """Reviews a step."""
    learning_rate: float = 0.001
    """At the start, of heads, adapters, and of everything in scratch."""
    backbone_factor: float = 0.3
    """The encoder learns at this multiple of the rate in full: 3e-4, the highest of the rates that BERT's authors advise for small ones."""
    optimizer: Literal["sgd", "adamw"] = "adamw"
    """As in torch.optim."""
    weight_decay: float = 0.01
    """As the optimiser defines it."""
    clip: float | None = 1.0
    """Largest 2-norm of the gradient."""
    evaluate_every: int = 1000
    """Steps between two evaluations of the target, each followed by a checkpoint; there is one at the end."""
    threads: int | None = 1
    """CPU threads. More are faster on an idle machine, and many times slower where another program wants a core."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.smoke_test or set(self.loss) <= {"bag_of_words"}:
            return
        if self.encoder is None:
            raise ValueError(
                "encoder: none given; pass --encoder FOLDER_OR_NAME, or make a folder: `python experiments/text_encoder.py --folder encoder`"
            )
        try:
            for package in ("transformers", *(["peft"] if "lora" in self.loss else [])):
                extra(package)
        except ImportError as error:
            raise ValueError(str(error)) from error
        files = sorted(
            find_encoder(str(self.encoder), download=self.download).glob("*.safetensors")
        )
        object.__setattr__(
            self, "weights", " ".join(f"sha256:{fingerprint(file)}" for file in files)
        )


@cache
def smoke_folder() -> TemporaryDirectory:
    """A folder with a tiny encoder of random weights for made-up reviews; it goes with the process."""
    folder = TemporaryDirectory()
    texts = [
        text
        for domain in AMAZON_REVIEW_TEXTS.domains
        for text in toy_reviews(domain, 50, seed=0).texts
    ]
    save_encoder(Path(folder.name), *new_encoder(texts, vocabulary=150, width=32))
    return folder


def encoder(config: Config) -> str:
    """The folder or name."""
    return smoke_folder().name if config.smoke_test else str(config.encoder)


@cache  # a file is read once, not once a run
def read(config: Config, domain: str) -> Reviews:
    """Texts and labels of one domain."""
    return (
        toy_reviews(domain, 60, seed=0)
        if config.smoke_test
        else read_reviews(domain, data_root(config.data_root))
    )


@cache
def tokenised(config: Config, domain: str) -> Labelled:
    """One domain as tokens (n, 2, length)."""
    reviews = read(config, domain)
    return Labelled(
        tokenise(reviews.texts, encoder(config), max_length=config.max_length), reviews.y
    )


@cache
def features(config: Config, domain: str) -> Labelled:
    """One domain as features (n, width) of the encoder as it came."""
    network = text_network(encoder(config), 2)
    return Labelled(
        predict(network, tokenised(config, domain), tokens, batch_size=64).features,
        read(config, domain).y,
    )


@cache
def counts(config: Config, source: str, target: str) -> tuple[Labelled, Labelled]:
    """Both domains as counts (n, WORDS) of the words and pairs of words that are most frequent in them together, labels unseen."""
    pair = read(config, source), read(config, target)
    words = CountVectorizer(ngram_range=(1, 2), max_features=WORDS, dtype=np.float32).fit(
        [*pair[0].texts, *pair[1].texts]
    )
    first, second = (Labelled(words.transform(reviews.texts), reviews.y) for reviews in pair)
    return first, second


@cache
def regression(config: Config, source: str, target: str, row: str) -> tuple[Tensor, Tensor]:
    """Weights (2, d) and bias (2,) of the logistic regression on the source's features or counts."""
    train, transform = linear_input(config, row, source, target)[0::2]
    rows = transform(train.rows(torch.arange(len(train))), torch.Generator())
    network = Network(nn.Identity(), nn.Identity(), nn.Linear(rows.shape[1], 2))
    fit_head(network, rows, train.y)
    return network.head.weight.detach(), network.head.bias.detach()


def linear_input(
    config: Config, row: str, source: str, target: str
) -> tuple[Labelled, Labelled, Transform]:
    """Source, target and transform of the rows that are a logistic regression."""
    if row == "bag_of_words":
        return *counts(config, source, target), log_counts
    return features(config, source), features(config, target), identity


def build(config: Config, cell: Cell) -> Job:
    """One cell: what learns, on the source's reviews, judged on the target's."""
    if cell.method in ("bag_of_words", "frozen"):
        train, test, transform = linear_input(config, cell.method, cell.source, cell.target)
        weight, bias = regression(config, cell.source, cell.target, cell.method)
        network = Network(nn.Identity(), nn.Identity(), nn.Linear(weight.shape[1], 2))
        network.head.load_state_dict({"weight": weight, "bias": bias})
        method: Method = Probe(network)
    else:
        train, test, transform = (
            tokenised(config, cell.source),
            tokenised(config, cell.target),
            tokens,
        )
        network = text_network(encoder(config), 2, pretrained=cell.method != "scratch")
        method = Regularize(lora(network) if cell.method == "lora" else network, None)
    stream = LabelledBatches(
        train, batch_size=config.batch_size, seed=cell.seed, transform=transform
    )
    learned = sum(p.numel() for p in method.network.parameters() if p.requires_grad)
    return Job(method, stream, Evaluation(test, transform), {"learned parameters": learned})


if __name__ == "__main__":
    main(
        Config,
        experiment="amazon_reviews_finetune",
        benchmark=AMAZON_REVIEW_TEXTS,
        build=build,
        baseline="scratch",
    )

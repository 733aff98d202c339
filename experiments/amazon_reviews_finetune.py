"""Sentiment of Amazon reviews across products, from texts: what does a pretrained encoder bring?

    python experiments/text_encoder.py --folder encoder --data-root DATA
    python experiments/amazon_reviews_finetune.py --encoder encoder --data-root DATA \\
        --source books --target kitchen --seeds 0 1 2

The first command makes a small encoder without a download. It has read the reviews of all four
domains without their labels, so it has seen the texts of the target. Any encoder of Hugging Face
can take its place: a folder, or a name, with --download if the cache lacks it.

Training sees 2,000 labelled reviews of the source and no label of the target. The 2,000 reviews of
the target are the test, and the last step counts. There are 12 tasks if no domain is named. The
rows are

    scratch        the same architecture with random weights; a row below it is negative transfer
    frozen         logistic regression on the features of the encoder
    lora           LoRA of rank 8 on queries and values
    full           every weight learns
    bag_of_words   no encoder: logistic regression on the 5,000 most frequent words and pairs

frozen and bag_of_words are the same for every seed. The recipe was fixed beforehand, for the small
encoder. A larger one needs a lower rate and more tokens (--learning-rate 2e-4 --max-length 256).

Time: with the small encoder about 20 seconds a run on one CPU core. The table is in
docs/results/amazon_reviews_finetune.md.
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

from da.data import AMAZON_REVIEW_TEXTS, Labelled, LabelledBatches, identity, log_counts
from da.data.batches import Transform
from da.data.files import Reviews
from da.data.files.reviews import toy_reviews
from da.model import fit_head
from da.model.finetune import Probe
from da.networks import Network, lora, new_encoder, save_encoder, text_network, tokenise
from da.networks.backbones import fingerprint
from da.networks.encoder_files import find_encoder
from da.networks.text_encoders import tokens
from da.recipes import Cell, Flags, Job, main
from da.recipes.texts import require, reviews_of
from da.train import Evaluation, Method, Regularize, predict

WORDS = 5000
Row = Literal["bag_of_words", "scratch", "frozen", "lora", "full"]


@dataclass(frozen=True)
class Config(Flags):
    """Classify reviews of one kind of product after training on another kind."""

    loss: tuple[Row, ...] = ("bag_of_words", "scratch", "frozen", "lora", "full")
    """What is compared. scratch: random weights. full: every weight of the encoder learns."""
    encoder: Path | None = None
    """A folder with weights and tokenizer, or a name on the Hugging Face Hub."""
    weights: tyro.conf.Suppress[str] = ""
    """The digests of the encoder's weights, for the record. They are filled in."""
    max_length: int = 64
    """Tokens of a review. The end of a longer one is cut."""
    steps: int = 250
    """Optimiser steps."""
    batch_size: int = 16
    """Reviews a step."""
    learning_rate: float = 0.001
    """Of heads, adapters and the row scratch, at the start."""
    backbone_factor: float = 0.3
    """In full the encoder learns at this multiple of the rate: 3e-4, as advised for small BERTs."""
    optimizer: Literal["sgd", "adamw"] = "adamw"
    """sgd: Nesterov momentum 0.9. adamw: betas 0.9, 0.999."""
    weight_decay: float = 0.01
    """As the optimiser defines it."""
    clip: float | None = 1.0
    """Largest 2-norm of the gradient."""
    evaluate_every: int = 1000
    """Steps between two evaluations, each followed by a checkpoint. The last step has one, too."""
    threads: int | None = 1
    """CPU threads. More help on an idle machine and can be many times slower on a shared one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.smoke_test or set(self.loss) <= {"bag_of_words"}:
            return
        if self.encoder is None:
            raise ValueError(
                "encoder: none given; pass --encoder FOLDER_OR_NAME, or make a folder: "
                "`python experiments/text_encoder.py --folder encoder`"
            )
        require("transformers", *(["peft"] if "lora" in self.loss else []))
        folder = find_encoder(str(self.encoder), download=self.download)
        digests = [f"sha256:{fingerprint(file)}" for file in sorted(folder.glob("*.safetensors"))]
        object.__setattr__(self, "weights", " ".join(digests))


@cache
def smoke_folder() -> TemporaryDirectory:
    """A folder with a tiny encoder of random weights. It is removed at the end of the process."""
    folder = TemporaryDirectory()
    domains = AMAZON_REVIEW_TEXTS.domains
    texts = [text for domain in domains for text in toy_reviews(domain, 50, seed=0).texts]
    save_encoder(Path(folder.name), *new_encoder(texts, vocabulary=150, width=32))
    return folder


def encoder(config: Config) -> str:
    """The folder or the name of the encoder."""
    return smoke_folder().name if config.smoke_test else str(config.encoder)


@cache  # a file is read once, not once a run
def read(config: Config, domain: str) -> Reviews:
    """Texts and labels of one domain."""
    return reviews_of(config, domain)


@cache
def tokenised(config: Config, domain: str) -> Labelled:
    """One domain as tokens (n, 2, length)."""
    reviews = read(config, domain)
    x = tokenise(reviews.texts, encoder(config), max_length=config.max_length)
    return Labelled(x, reviews.y)


@cache
def features(config: Config, domain: str) -> Labelled:
    """One domain as features (n, width) of the pretrained encoder."""
    network = text_network(encoder(config), 2)
    found = predict(network, tokenised(config, domain), tokens, batch_size=64)
    return Labelled(found.features, read(config, domain).y)


@cache
def counts(config: Config, source: str, target: str) -> tuple[Labelled, Labelled]:
    """Both domains as counts (n, WORDS) of the most frequent words and pairs in both together."""
    pair = read(config, source), read(config, target)
    words = CountVectorizer(ngram_range=(1, 2), max_features=WORDS, dtype=np.float32)
    words.fit([*pair[0].texts, *pair[1].texts])
    first, second = (Labelled(words.transform(reviews.texts), reviews.y) for reviews in pair)
    return first, second


@cache
def regression(config: Config, source: str, target: str, row: str) -> tuple[Tensor, Tensor]:
    """Weights (2, d) and bias (2,) of the logistic regression of a row, fitted to the source."""
    train, transform = linear_input(config, row, source, target)[0::2]
    rows = transform(train.rows(torch.arange(len(train))), torch.Generator())
    network = Network(nn.Identity(), nn.Identity(), nn.Linear(rows.shape[1], 2))
    fit_head(network, rows, train.y)
    return network.head.weight.detach(), network.head.bias.detach()


def linear_input(
    config: Config, row: str, source: str, target: str
) -> tuple[Labelled, Labelled, Transform]:
    """Source, target and transform of a row that is a logistic regression."""
    if row == "bag_of_words":
        return *counts(config, source, target), log_counts
    return features(config, source), features(config, target), identity


def build(config: Config, cell: Cell) -> Job:
    """One cell: a row learns from the source's reviews and is judged on the target's."""
    if cell.method in ("bag_of_words", "frozen"):
        train, test, transform = linear_input(config, cell.method, cell.source, cell.target)
        weight, bias = regression(config, cell.source, cell.target, cell.method)
        network = Network(nn.Identity(), nn.Identity(), nn.Linear(weight.shape[1], 2))
        network.head.load_state_dict({"weight": weight, "bias": bias})
        method: Method = Probe(network)
    else:
        train, test = tokenised(config, cell.source), tokenised(config, cell.target)
        transform = tokens
        network = text_network(encoder(config), 2, pretrained=cell.method != "scratch")
        method = Regularize(lora(network) if cell.method == "lora" else network, None)
    stream = LabelledBatches(
        train, batch_size=config.batch_size, seed=cell.seed, transform=transform, repeat=True
    )
    learned = sum(p.numel() for p in method.network.parameters() if p.requires_grad)
    evaluation = Evaluation(test, transform, classes=AMAZON_REVIEW_TEXTS.classes)
    return Job(method, stream, evaluation, {"learned parameters": learned})


if __name__ == "__main__":
    main(
        Config,
        experiment="amazon_reviews_finetune",
        benchmark=AMAZON_REVIEW_TEXTS,
        build=build,
        baseline="scratch",
    )

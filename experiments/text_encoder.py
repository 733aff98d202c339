"""A small text encoder of one's own, without a download.

    python experiments/text_encoder.py --folder encoder --data-root DATA

The tokenizer is learned from the reviews of all domains, without their labels. The encoder is a
BERT of two layers that learns to fill in their gaps. Both are written into the folder. The table
shows how many of the gaps in reviews that were held out the encoder fills with the right token.

It does not replace an encoder that has read a library. Its word embeddings start from counts of
neighbouring words (`ppmi`) in 8,000 reviews. In the few steps of the default the gaps teach the
layers above them little that the counts did not say; --steps 5000 gives them time. Tests take
`new_encoder` alone.

Time: a minute on one idle CPU core. The table is in docs/results/text_encoder.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from da.data import AMAZON_REVIEW_TEXTS, Labelled, LabelledBatches
from da.model import MaskedLanguage
from da.model.masked_language import FilledGaps, one_gap_each
from da.networks import new_encoder, save_encoder
from da.networks.text_encoders import apply_tokenizer, tokens
from da.recipes import Cell, Flags, main
from da.recipes.tasks import choose_tasks
from da.recipes.texts import require, reviews_of
from da.records import Record, Run
from da.train import fit

EXPERIMENT = "text_encoder"
TASKS = (("reviews", "held_out"),)
HELD_OUT = 400  # texts, but never more than half


@dataclass(frozen=True)
class Config(Flags):
    """Make a small encoder from the Amazon reviews."""

    loss: tuple[Literal["masked_language"], ...] = ("masked_language",)
    """What the encoder learns by."""
    folder: Path = Path("encoder")
    """Where the encoder is written. --force replaces an encoder that is there."""
    vocabulary: int = 4000
    """Tokens, at most."""
    layers: int = 2
    """Of the transformer."""
    width: int = 128
    """Of a token's state. A layer has four times that inside, and an attention head for each 64."""
    max_length: int = 64
    """Tokens of a review. The end of a longer one is cut."""
    gaps: float = 0.15
    """Fraction of the tokens that are masked."""
    steps: int = 200
    """Optimiser steps."""
    batch_size: int = 32
    """Reviews a step."""
    learning_rate: float = 0.001
    """At the start."""
    optimizer: Literal["sgd", "adamw"] = "adamw"
    """sgd: Nesterov momentum 0.9. adamw: betas 0.9, 0.999."""
    weight_decay: float = 0.01
    """As the optimiser defines it."""
    clip: float | None = 1.0
    """Largest 2-norm of the gradient."""
    evaluate_every: int = 100
    """Steps between two counts of gaps filled correctly, each followed by a checkpoint."""
    threads: int | None = 1
    """CPU threads."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.seeds) != 1:
            raise ValueError(
                f"seed must be one number, because a folder holds one encoder; got {self.seeds}"
            )

    def shortened(self) -> Config:
        """A tiny encoder, in a folder beside the record."""
        short = super().shortened()
        return replace(short, folder=short.runs_dir / self.folder.name, vocabulary=150, width=32)


class Encoder(NamedTuple):
    """Make an encoder from texts, train it, and write it into the folder of the flags."""

    texts: Sequence[str]
    seed: int

    def carry_out(self, run: Run, flags: Config, fabric: Any) -> None:
        """Fill the run. Raises FileExistsError if the folder holds another encoder."""
        if (flags.folder / "config.json").is_file() and not flags.force:
            raise FileExistsError(
                f"folder: {flags.folder} holds another encoder; give an empty folder with "
                "--folder, or replace the encoder with --force"
            )
        tokenizer, model = new_encoder(
            self.texts,
            vocabulary=flags.vocabulary,
            layers=flags.layers,
            width=flags.width,
            max_length=flags.max_length,
            seed=self.seed,
        )
        x = apply_tokenizer(tokenizer, self.texts, max_length=flags.max_length)  # (n, 2, length)
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(self.seed))
        count = min(HELD_OUT, len(x) // 2)
        held_out, train = x[order[:count]], x[order[count:]]
        unread = Labelled(train, torch.zeros(len(train), dtype=torch.int64))
        stream = LabelledBatches(
            unread, batch_size=flags.batch_size, seed=self.seed, transform=tokens
        )
        evaluation = FilledGaps(one_gap_each(held_out, seed=self.seed), tokens)
        torch.manual_seed(self.seed)
        method = MaskedLanguage(model, gaps=flags.gaps)
        fit(method, stream, flags, run, evaluation, fabric=fabric)
        save_encoder(flags.folder, tokenizer, model)


@cache  # the files are read once, to describe the run and to train on
def read(config: Config) -> tuple[str, ...]:
    """The reviews of all domains."""
    domains = AMAZON_REVIEW_TEXTS.domains
    return tuple(text for domain in domains for text in reviews_of(config, domain).texts)


def build(config: Config, cell: Cell) -> Encoder:
    """The one cell."""
    require("transformers", "tokenizers")
    return Encoder(read(config), cell.seed)


def describe(config: Config, cell: Cell) -> dict[str, int]:
    """What the encoder depends on beside the flags. Stored records have the seed here, too."""
    return {"texts": len(read(config)), "seed": cell.seed}


def tasks(config: Config) -> tuple[tuple[str, str], ...]:
    """The one column."""
    return choose_tasks(TASKS, config.source, config.target)


def report(records: list[Record]) -> str:
    """Where the encoder is, and how good."""
    (record,) = records
    share = record.result["selected"]["last"]["target_accuracy"]
    layers, folder = record.config["layers"], record.config["folder"]
    return (
        f"\n\nfolder {folder}: an encoder of {layers} layers; {100 * share:.1f} % of the held-out "
        "gaps filled correctly\nIf the folder is gone, --force makes the encoder again."
    )


if __name__ == "__main__":
    main(
        Config,
        experiment=EXPERIMENT,
        benchmark=AMAZON_REVIEW_TEXTS,
        build=build,
        describe=describe,
        tasks=tasks,
        baseline="masked_language",
        report=report,
    )

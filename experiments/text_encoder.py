"""An encoder of one's own, without a download: a tokenizer learned from the texts, and a small BERT that learns to fill in their gaps.

    python experiments/text_encoder.py --folder encoder --data-root DATA

reads the reviews of all domains without their labels, writes an encoder of two layers into the folder, and prints how many of the gaps in
reviews that were held out it fills with the right token. A minute on one idle CPU core. It is no replacement for an encoder that has read
a library: its word embeddings start from counts of what stands beside what (`ppmi`) in 8,000 reviews, and in the few steps of the default
the gaps teach the layers above them little that the counts did not say; --steps 5000 gives them time. Tests take `new_encoder` alone.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import tyro

from da.arrays import NonFiniteError
from da.data import AMAZON_REVIEW_TEXTS, Labelled, LabelledBatches, data_root
from da.data.files import read_reviews
from da.model import MaskedLanguage
from da.model.masked_language import FilledGaps, one_gap_each
from da.networks import new_encoder, save_encoder
from da.networks.text_encoders import apply_tokenizer, tokens
from da.recipes import configuration
from da.records import Run
from da.train import TrainConfig, fit
from da.train.config import NO_RESULT

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
    data_root: Path | None = field(default=None, metadata=NO_RESULT)
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
        raise FileExistsError(
            f"folder: {flags.folder} holds another encoder, or what is left of one; give an empty folder with --folder"
        )
    tokenizer, model = new_encoder(
        texts,
        vocabulary=flags.vocabulary,
        layers=flags.layers,
        width=flags.width,
        max_length=flags.max_length,
        seed=flags.seed,
    )
    x = apply_tokenizer(tokenizer, texts, max_length=flags.max_length)  # (n, 2, length)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(flags.seed))
    held_out, train = x[order[:_HELD_OUT]], x[order[_HELD_OUT:]]
    unread = Labelled(train, torch.zeros(len(train), dtype=torch.int64))
    torch.manual_seed(flags.seed)
    method = MaskedLanguage(model, gaps=flags.gaps)
    stream = LabelledBatches(unread, batch_size=flags.batch_size, seed=flags.seed, transform=tokens)
    result = fit(
        method, stream, flags, run, FilledGaps(one_gap_each(held_out, seed=flags.seed), tokens)
    )
    save_encoder(flags.folder, tokenizer, model)
    return result


def _configuration(flags: EncoderFlags) -> dict[str, Any]:
    """What the encoder depends on."""
    return configuration(flags) | {"folder": flags.folder.name}


def main() -> None:
    """The command line: `python experiments/text_encoder.py --folder FOLDER --data-root DIR`."""
    try:
        flags = tyro.cli(EncoderFlags, description=__doc__)
        root = data_root(flags.data_root)
        texts = [
            text
            for domain in AMAZON_REVIEW_TEXTS.domains
            for text in read_reviews(domain, root).texts
        ]
        result = build_encoder(texts, flags)
    except (ValueError, OSError, ImportError, NonFiniteError) as error:
        sys.exit(f"error: {error}")
    share = result["selected"]["last"]["target_accuracy"]
    print(
        f"{flags.folder}: an encoder of {flags.layers} layers; {100 * share:.1f} % of the held-out gaps filled rightly"
    )


if __name__ == "__main__":
    main()

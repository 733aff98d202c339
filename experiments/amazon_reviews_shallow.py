"""Sentiment of Amazon reviews across products, 12 tasks, by methods without a network: linear classifiers, plain and on adapted rows.

    python experiments/amazon_reviews_shallow.py --data-root DATA

The protocol of amazon_reviews_mmd.py: 2,000 labelled reviews of the source and 2,000 unlabelled ones of the target, accuracy on the
target's test file; counts become log(1 + count) in rows of 2-norm 1. logistic and svm learn from all 5,000 columns. The methods
that need dense rows see the 400 leading singular directions of both domains' 4,000 training reviews, and svd is what a logistic regression
makes of those unadapted: the row to compare them with. meda's first labels are that regression's, jda's pseudo-labels a regression's too.
C was chosen by cross-validation on source reviews, once for all tasks; every other setting is fixed beforehand.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from typing import Literal

import numpy as np
import torch
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize
from sklearn.svm import LinearSVC

from da.data import AMAZON_REVIEWS, Labelled, data_root
from da.data.files import read_word_counts
from da.recipes import Cell, Samples, ShallowFlags, ShallowJob, main
from da.recipes.shallow import recipe
from da.shallow import CORAL, JDA, MEDA, TCA, EasyTL, LinearMongeMap, OTMap, SubspaceAlignment
from da.shallow import DomainAdaptationClassifier as Adapted

COMPONENTS = 400  # singular directions
LOGISTIC, SVM = LogisticRegression(C=10.0, max_iter=1000), LinearSVC(C=1.0, max_iter=10_000)
SCALED = LogisticRegression(
    C=10.0 / COMPONENTS, max_iter=1000
)  # LOGISTIC on rows that are sqrt(COMPONENTS) times as long
MODELS = {
    "logistic": Adapted(estimator=LOGISTIC),
    "svm": Adapted(estimator=SVM),
    "svd": Adapted(estimator=SCALED),
    "coral": Adapted(CORAL(), estimator=SCALED),
    "linear_monge": Adapted(LinearMongeMap(), estimator=SCALED),
    "ot": Adapted(OTMap(), estimator=SCALED),
    "sa": Adapted(SubspaceAlignment(), estimator=SCALED),
    "tca": Adapted(TCA(n_components=100, kernel="primal"), estimator=SCALED),
    "jda": Adapted(
        JDA(n_components=100, kernel="primal", classifier=LOGISTIC), estimator=LOGISTIC
    ),  # it makes rows of norm 1
    "easytl": EasyTL(),
    "meda": MEDA(classifier=SCALED),
}
ALL_WORDS = {"logistic", "svm"}
Row = Literal[*MODELS]


@dataclass(frozen=True)
class Config(ShallowFlags):
    """Adapt a classifier of reviews from one kind of product to another without training a network."""

    loss: tuple[Row, ...] = tuple(MODELS)
    """What is compared; logistic, svm and svd: source only."""


@cache  # a file is read once, not once a cell
def read(config: Config, domain: str, split: Literal["train", "test"]) -> Labelled:
    """One part of one domain: log(1 + count), rows of norm 1, sparse."""
    reviews = read_word_counts(AMAZON_REVIEWS, domain, data_root(config.data_root), split=split)
    return Labelled(normalize(reviews.x.astype(np.float64).log1p()), reviews.y)


@cache
def directions(config: Config, domains: frozenset[str]) -> TruncatedSVD:
    """Of the training reviews of two domains, without labels; the same for both ways between them."""
    reviews = sparse.vstack([read(config, domain, "train").x for domain in sorted(domains)])
    return TruncatedSVD(COMPONENTS, algorithm="arpack", random_state=0).fit(reviews)


def samples(config: Config, cell: Cell) -> Samples:
    """Training reviews of both domains, and the target's test reviews."""
    parts = (cell.source, "train"), (cell.target, "train"), (cell.target, "test")
    source, target, test = (read(config, domain, split) for domain, split in parts)
    if (
        cell.method not in ALL_WORDS
    ):  # scaled so that an entry's mean square is about 1, which CORAL's regularization goes by
        svd = directions(config, frozenset(cell[1:3]))
        rows = (
            COMPONENTS**0.5 * torch.from_numpy(svd.transform(part.x))
            for part in (source, target, test)
        )
        source, target, test = (
            Labelled(x, part.y) for x, part in zip(rows, (source, target, test), strict=True)
        )
    return Samples(source, target.unlabelled(), test)


def build(config: Config, cell: Cell) -> ShallowJob:
    """One cell."""
    return ShallowJob(MODELS[cell.method], partial(samples, config, cell))


def describe(config: Config, cell: Cell) -> dict[str, str]:
    """What the row stands for, with its settings."""
    return {"model": recipe(MODELS[cell.method])}


if __name__ == "__main__":
    main(
        Config,
        experiment="amazon_reviews_shallow",
        benchmark=AMAZON_REVIEWS,
        baseline="svd",
        build=build,
        describe=describe,
    )

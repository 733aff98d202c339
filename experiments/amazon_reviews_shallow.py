"""Sentiment of Amazon reviews across products, by linear classifiers on plain and adapted rows.

    python experiments/amazon_reviews_shallow.py --data-root DATA

There are 12 tasks, and no method has a network. The protocol is that of amazon_reviews_mmd.py:
2,000 labelled reviews of the source and 2,000 unlabelled ones of the target, accuracy on the
target's test file. Counts become log(1 + count) in rows of 2-norm 1.

logistic and svm learn from all 5,000 columns. The methods that need dense rows see the 400 leading
singular directions of both domains' 4,000 training reviews. The row svd is a logistic regression on
these directions without adaptation: compare the adapted rows with it. meda's first labels are those
of this regression. jda's pseudo-labels come from a logistic regression too.

C was chosen by cross-validation on source reviews, once for all tasks. Every other setting was
fixed beforehand. The table is in docs/results/amazon_reviews_shallow.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
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
from da.recipes import Cell, Samples, ShallowFlags, shallow_main
from da.shallow import CORAL, JDA, MEDA, TCA, EasyTL, LinearMongeMap, OTMap, SubspaceAlignment
from da.shallow import DomainAdaptationClassifier as Adapted

COMPONENTS = 400  # singular directions
LOGISTIC, SVM = LogisticRegression(C=10.0, max_iter=1000), LinearSVC(C=1.0, max_iter=10_000)
# LOGISTIC for rows that are sqrt(COMPONENTS) times as long.
SCALED = LogisticRegression(C=10.0 / COMPONENTS, max_iter=1000)
# JDA makes rows of norm 1, which LOGISTIC is for.
UNIT_JDA = JDA(n_components=100, kernel="primal", classifier=LOGISTIC)
MODELS = {
    "logistic": Adapted(estimator=LOGISTIC),
    "svm": Adapted(estimator=SVM),
    "svd": Adapted(estimator=SCALED),
    "coral": Adapted(CORAL(), estimator=SCALED),
    "linear_monge": Adapted(LinearMongeMap(), estimator=SCALED),
    "ot": Adapted(OTMap(), estimator=SCALED),
    "sa": Adapted(SubspaceAlignment(), estimator=SCALED),
    "tca": Adapted(TCA(n_components=100, kernel="primal"), estimator=SCALED),
    "jda": Adapted(UNIT_JDA, estimator=LOGISTIC),
    "easytl": EasyTL(),
    "meda": MEDA(classifier=SCALED),
}
ALL_WORDS = {"logistic", "svm"}
Row = Literal[*MODELS]


@dataclass(frozen=True)
class Config(ShallowFlags):
    """Adapt a classifier of reviews from one product to another without training a network."""

    loss: tuple[Row, ...] = tuple(MODELS)
    """What is compared. logistic, svm and svd: source only."""


@cache  # a file is read once, not once a cell
def read(config: Config, domain: str, split: Literal["train", "test"]) -> Labelled:
    """One part of one domain: log(1 + count), rows of norm 1, sparse."""
    reviews = read_word_counts(AMAZON_REVIEWS, domain, data_root(config.data_root), split=split)
    return Labelled(normalize(reviews.x.astype(np.float64).log1p()), reviews.y)


@cache
def directions(config: Config, domains: frozenset[str]) -> TruncatedSVD:
    """The singular directions of two domains' training reviews, without labels.

    They are the same for both ways between the two.
    """
    reviews = sparse.vstack([read(config, domain, "train").x for domain in sorted(domains)])
    return TruncatedSVD(COMPONENTS, algorithm="arpack", random_state=0).fit(reviews)


def dense(svd: TruncatedSVD, reviews: Labelled) -> Labelled:
    """Reviews along the directions, scaled so that the mean square of an entry is about 1.

    CORAL's regularization supposes this scale.
    """
    return Labelled(COMPONENTS**0.5 * torch.from_numpy(svd.transform(reviews.x)), reviews.y)


def samples(config: Config, cell: Cell) -> Samples:
    """Training reviews of both domains, and the target's test reviews."""
    source, target = read(config, cell.source, "train"), read(config, cell.target, "train")
    test = read(config, cell.target, "test")
    if cell.method not in ALL_WORDS:
        svd = directions(config, frozenset((cell.source, cell.target)))
        source, target, test = dense(svd, source), dense(svd, target), dense(svd, test)
    return Samples(source, target.unlabelled(), test)


if __name__ == "__main__":
    shallow_main(
        Config,
        experiment="amazon_reviews_shallow",
        benchmark=AMAZON_REVIEWS,
        baseline="svd",
        model=lambda config, cell: MODELS[cell.method],
        samples=samples,
        rows=MODELS,
    )

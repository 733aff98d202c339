"""The two digit tasks of the JDA paper, by methods without a network.

    python experiments/digits_shallow.py --data-root DATA

The domains are 2,000 MNIST and 1,800 USPS digits of 16 x 16 pixels, in rows of norm 1. A method has
one setting for both tasks. It is that of Long et al. (ICCV 2013) for digits if they have one: 100
components, regularization 0.1, the primal form. The rows nn, pca, tca and jda reproduce the paper's
cells. Rows without a suffix end in 1-NN. Rows that end in _logistic end in a logistic regression
with C = 10.

Time: a few minutes on one CPU core. The table is in docs/results/digits_shallow.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from da.data import JDA_DIGITS, Labelled, data_root
from da.data.files import read_jda_digits
from da.recipes import Cell, Samples, ShallowFlags, shallow_main
from da.shallow import BDA, GFK, JDA, JGSA, MEDA, TCA, TJM, LinearMongeMap, OTMap, SubspaceAlignment
from da.shallow import DomainAdaptationClassifier as Adapted
from da.shallow.subspace import PrincipalComponents

NN = KNeighborsClassifier(1, algorithm="brute")
LOGISTIC = LogisticRegression(C=10.0, max_iter=1000)  # rows of norm 1 need large coefficients
SPECTRAL = {"n_components": 100, "kernel": "primal", "regularization": 0.1}
MODELS = {
    "nn": Adapted(estimator=NN),
    "pca": Adapted(PrincipalComponents(n_components=100), estimator=NN),
    "sa": Adapted(SubspaceAlignment(), estimator=NN),
    "gfk": Adapted(GFK(n_components=20), estimator=NN),
    "tca": Adapted(TCA(**SPECTRAL), estimator=NN),
    "jda": Adapted(JDA(**SPECTRAL), estimator=NN),
    "bda": Adapted(BDA(**SPECTRAL), estimator=NN),
    "tjm": Adapted(TJM(), estimator=NN),
    "jgsa": Adapted(JGSA(), estimator=NN),
    "meda": MEDA(),
    "ot": Adapted(OTMap(), estimator=NN),
    "linear_monge": Adapted(LinearMongeMap(), estimator=NN),
    "logistic": Adapted(estimator=LOGISTIC),
    "jda_logistic": Adapted(JDA(classifier=LOGISTIC, **SPECTRAL), estimator=LOGISTIC),
    "meda_logistic": MEDA(classifier=LOGISTIC),
}
Row = Literal[*MODELS]


@dataclass(frozen=True)
class Config(ShallowFlags):
    """Adapt between handwritten digits of two collections without training a network."""

    loss: tuple[Row, ...] = tuple(MODELS)
    """What is compared. nn and logistic: source only."""


@cache  # a domain is read once, not once a cell
def read(config: Config, domain: str) -> Labelled:
    """All digits of one domain, in rows of norm 1."""
    digits = read_jda_digits(domain, data_root(config.data_root))
    return Labelled(torch.nn.functional.normalize(digits.x, dim=1), digits.y)


def samples(config: Config, cell: Cell) -> Samples:
    """Both domains. The target's rows are those that judge, too."""
    target = read(config, cell.target)
    return Samples(read(config, cell.source), target.unlabelled(), target)


if __name__ == "__main__":
    shallow_main(
        Config,
        experiment="digits_shallow",
        benchmark=JDA_DIGITS,
        baseline="nn",
        model=lambda config, cell: MODELS[cell.method],
        samples=samples,
        rows=MODELS,
    )

"""Office-Caltech10 by methods without a network of their own: 12 tasks.

    python experiments/office_caltech_shallow.py --data-root DATA
    python experiments/office_caltech_shallow.py --data-root DATA --features squeezenet1_1 \\
        --weights squeezenet1_1_imagenet.pt --loss nn logistic coral sa_logistic tca_logistic \\
        jda_logistic meda_logistic ot linear_monge

The first command takes SURF histograms, the second the features of a frozen network.

SURF is used as in the classical tables (Long et al., ICCV 2013). Each histogram is divided by its
sum, and each word is z-scored within its domain. All photographs of both domains are used, without
a split. Deep features are computed once and kept under $DA_CACHE; each row is scaled to one 2-norm.

Every row has one setting for all tasks, that of its paper if there is one:

    nn, pca, tca, jda, tjm, easytl, jgsa   reproduce the published cells
    meda                                   is near them
    gfk                                    has one size; the paper chooses between two
    sa                                     takes its size by `subspace_disagreement`
    bda                                    estimates its balance; the paper takes the best of each
                                           task
    meda_logistic, jda_logistic            are variants of ours: the pseudo-labels are those of the
                                           logistic regression

Rows without a suffix end in 1-NN, as the published ones do. coral, ot, linear_monge and the rows
that end in _logistic end in a logistic regression. By itself it is above most of the others, so do
not compare rows of one kind with rows of the other. The tables are in
docs/results/office_caltech_shallow.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch.nn.functional import normalize

from da.data import OFFICE_CALTECH10, OFFICE_CALTECH_SURF, Labelled, data_root
from da.data.files import read_surf
from da.data.files.mat_files import standardise
from da.recipes import Cell, Samples, ShallowFlags, frozen_features, shallow_main
from da.shallow import (
    BDA,
    CORAL,
    GFK,
    JDA,
    JGSA,
    MEDA,
    TCA,
    TJM,
    EasyTL,
    LinearMongeMap,
    OTMap,
    SubspaceAlignment,
)
from da.shallow import DomainAdaptationClassifier as Adapted
from da.shallow.subspace import PrincipalComponents

NN = KNeighborsClassifier(1, algorithm="brute")
LOGISTIC = LogisticRegression(max_iter=1000)
# JDA makes rows of norm 1. Their small entries need large coefficients.
ON_UNIT_ROWS = LogisticRegression(C=10.0, max_iter=1000)
MODELS = {
    "nn": Adapted(estimator=NN),
    "pca": Adapted(PrincipalComponents(n_components=100), estimator=NN),
    "sa": Adapted(SubspaceAlignment(), estimator=NN),
    "gfk": Adapted(GFK(n_components=20), estimator=NN),
    "tca": Adapted(TCA(n_components=100), estimator=NN),
    "jda": Adapted(JDA(n_components=100), estimator=NN),
    "bda": Adapted(BDA(n_components=100), estimator=NN),
    "tjm": Adapted(TJM(), estimator=NN),
    "jgsa": Adapted(JGSA(), estimator=NN),
    "easytl": EasyTL(),
    "meda": MEDA(),
    "logistic": Adapted(estimator=LOGISTIC),
    "coral": Adapted(CORAL(), estimator=LOGISTIC),
    "ot": Adapted(OTMap(), estimator=LOGISTIC),
    "linear_monge": Adapted(LinearMongeMap(), estimator=LOGISTIC),
    "sa_logistic": Adapted(SubspaceAlignment(), estimator=LOGISTIC),
    "tca_logistic": Adapted(TCA(n_components=100, kernel="primal"), estimator=LOGISTIC),
    "jda_logistic": Adapted(JDA(n_components=100, classifier=ON_UNIT_ROWS), estimator=ON_UNIT_ROWS),
    "meda_logistic": MEDA(classifier=LOGISTIC),
}
# JGSA's published cells are of rows of norm 1. JDA, BDA and TJM scale the rows themselves.
UNIT_ROWS = {"jgsa"}
STORED_SIZE, IMAGE_SIZE = 224, 192  # of photographs, as in office_caltech_mmd.py
Row = Literal[*MODELS]


@dataclass(frozen=True)
class Config(ShallowFlags):
    """Adapt between the domains of Office-Caltech10 without training a network."""

    loss: tuple[Row, ...] = tuple(MODELS)
    """What is compared. nn and logistic: source only."""
    features: str = "surf"
    """surf: histograms. Or torchvision's name of the network whose frozen features are used."""
    weights: Path | None = None
    """State dict for the network; none: torchvision's ImageNet weights, cached or downloaded."""


@cache  # a domain is read once, not once a cell
def read(config: Config, domain: str) -> Labelled:
    """All rows of one domain."""
    root = data_root(config.data_root)
    if config.features == "surf":
        counts = read_surf(domain, root)
        return Labelled(standardise(counts.x), counts.y)
    deep = frozen_features(
        OFFICE_CALTECH10,
        domain,
        root,
        network=config.features,
        weights=config.weights,
        stored_size=STORED_SIZE,
        image_size=IMAGE_SIZE,
    )
    # The mean square of an entry is then 1, as with SURF, so that settings mean the same.
    norm = deep.x.shape[1] ** 0.5
    return Labelled(norm * normalize(deep.x.double(), dim=1), deep.y)


def samples(config: Config, cell: Cell) -> Samples:
    """Both domains. The target's rows are those that judge, too."""
    source, target = read(config, cell.source), read(config, cell.target)
    if cell.method in UNIT_ROWS:
        source, target = (Labelled(normalize(part.x, dim=1), part.y) for part in (source, target))
    return Samples(source, target.unlabelled(), target)


if __name__ == "__main__":
    shallow_main(
        Config,
        experiment="office_caltech_shallow",
        benchmark=OFFICE_CALTECH_SURF,
        baseline="logistic",
        model=lambda config, cell: MODELS[cell.method],
        samples=samples,
        rows=MODELS,
    )

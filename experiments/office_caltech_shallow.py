"""Office-Caltech10 by methods without a network of their own: 12 tasks on SURF histograms, or on the features of a frozen network.

    python experiments/office_caltech_shallow.py --data-root DATA
    python experiments/office_caltech_shallow.py --data-root DATA --features squeezenet1_1 --weights squeezenet1_1_imagenet.pt \\
        --loss nn logistic coral sa_logistic tca_logistic jda_logistic meda_logistic ot linear_monge

SURF as the classical tables have it (Long et al., ICCV 2013): each histogram divided by its sum, each word z-scored within its domain, all
photographs of both domains, no split. Every row has one setting for all tasks, the papers' where there is one. Rows without a suffix
end in 1-NN, as the published ones do; coral, ot and linear_monge and those ending in _logistic in a logistic regression, which by itself
is above most of the others: never read one kind without the other. nn, pca, tca, jda, tjm, easytl and jgsa print the published cells, meda
is near them; gfk has one size where the paper chooses between two, sa takes its size by `subspace_disagreement`, bda estimates its balance
where the paper takes the best for each task. meda_logistic and jda_logistic, whose pseudo-labels are the
logistic regression's, are variants of ours. Deep features are computed once and kept under $DA_CACHE; each row is scaled to one 2-norm.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Literal

import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from da.data import OFFICE_CALTECH10, OFFICE_CALTECH_SURF, Labelled, data_root
from da.data.files import read_surf
from da.data.files.mat_files import standardise
from da.recipes import Cell, Samples, ShallowFlags, ShallowJob, frozen_features, main
from da.recipes.shallow import recipe
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
ON_UNIT_ROWS = LogisticRegression(
    C=10.0, max_iter=1000
)  # which JDA makes: small numbers want large coefficients
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
UNIT_ROWS = {
    "jgsa"
}  # whose published cells stand on rows of norm 1; JDA, BDA and TJM see to it themselves
STORED_SIZE, IMAGE_SIZE = 224, 192  # of photographs, as in office_caltech_mmd.py
Row = Literal[*MODELS]


@dataclass(frozen=True)
class Config(ShallowFlags):
    """Adapt between the domains of Office-Caltech10 without training a network."""

    loss: tuple[Row, ...] = tuple(MODELS)
    """What is compared; nn and logistic: source only."""
    features: str = "surf"
    """surf: histograms of SURF descriptors; or the frozen features of the photographs by a network of torchvision, by its name."""
    weights: Path | None = None
    """State dict for the network; none: torchvision's ImageNet weights, from its cache or the internet."""


@cache  # a domain is read once, not once a cell
def read(config: Config, domain: str) -> Labelled:
    """All rows of one domain."""
    root = data_root(config.data_root)
    if config.features == "surf":
        counts = read_surf(domain, root)
        return Labelled(standardise(counts.x), counts.y)
    sizes = {"stored_size": STORED_SIZE, "image_size": IMAGE_SIZE}
    deep = frozen_features(
        OFFICE_CALTECH10, domain, root, network=config.features, weights=config.weights, **sizes
    )
    scale = (
        deep.x.shape[1] ** 0.5
    )  # so that the mean square of an entry is 1 as that of SURF's is, and every setting means the same
    return Labelled(scale * torch.nn.functional.normalize(deep.x.double(), dim=1), deep.y)


def samples(config: Config, cell: Cell) -> Samples:
    """Both domains; the target's rows are judged too."""
    source, target = read(config, cell.source), read(config, cell.target)
    if cell.method in UNIT_ROWS:
        source, target = (
            Labelled(torch.nn.functional.normalize(part.x, dim=1), part.y)
            for part in (source, target)
        )
    return Samples(source, target.unlabelled(), target)


def build(config: Config, cell: Cell) -> ShallowJob:
    """One cell."""
    return ShallowJob(MODELS[cell.method], partial(samples, config, cell))


def describe(config: Config, cell: Cell) -> dict[str, str]:
    """What the row stands for, with its settings."""
    return {"model": recipe(MODELS[cell.method])}


if __name__ == "__main__":
    main(
        Config,
        experiment="office_caltech_shallow",
        benchmark=OFFICE_CALTECH_SURF,
        baseline="logistic",
        build=build,
        describe=describe,
    )

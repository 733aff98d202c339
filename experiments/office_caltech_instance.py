"""Office-Caltech10 SURF: do weights of the source photographs help a logistic regression?

    python experiments/office_caltech_instance.py --data-root DATA

The histograms are those of office_caltech_shallow.py, reduced to the 20 leading principal
components of both domains (--components), because density ratios in 800 dimensions are hopeless.
Every method weighs the source rows with its default settings and chooses its own bandwidths. A
weighted logistic regression learns from them. The row none weighs all rows equally.

The effective sample size of the weights is printed beside the accuracy: it is what the classifier
rests on. Compare it with the source's photographs: caltech 1,123, amazon 958, webcam 295, dslr 157.
The table is in docs/results/office_caltech_instance.md.
"""

from __future__ import annotations

import inspect
import warnings
from dataclasses import dataclass
from functools import cache, partial
from typing import Literal

import torch
from sklearn.base import ClassifierMixin
from sklearn.decomposition import PCA

from da.data import OFFICE_CALTECH_SURF, Labelled, data_root
from da.data.files import read_surf
from da.data.files.mat_files import standardise
from da.instance import (
    density_weights,
    discriminator_weights,
    kliep,
    kmm,
    neighbour_weights,
    rulsif,
    ulsif,
)
from da.recipes import Cell, Samples, ShallowFlags, shallow_main
from da.recipes.flags import Seeds
from da.shallow import DomainAdaptationClassifier

WEIGHERS = {
    "none": None,
    "kmm": kmm,
    "kliep": kliep,
    "ulsif": ulsif,
    "rulsif": rulsif,
    "discriminator": discriminator_weights,
    "neighbours": neighbour_weights,
    "density": density_weights,
}
Row = Literal[*WEIGHERS]


@dataclass(frozen=True)
class Config(ShallowFlags):
    """Weigh the source's rows by their likeness to the target."""

    loss: tuple[Row, ...] = tuple(WEIGHERS)
    """What is compared. none: all rows weigh the same."""
    components: int = 20
    """Principal components of both domains' rows."""
    seeds: Seeds = (0,)
    """One run for each: of the centres and folds that some methods draw."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.components < 1:
            raise ValueError(f"components must be at least 1; got {self.components}")


def model(config: Config, cell: Cell) -> ClassifierMixin:
    """A logistic regression on weighted rows."""
    weigher = WEIGHERS[cell.method]
    if weigher is not None and "random_state" in inspect.signature(weigher).parameters:
        weigher = partial(weigher, random_state=cell.seed)
    return DomainAdaptationClassifier(weigher=weigher)


@cache  # a domain is read once, not once a cell
def read(config: Config, domain: str) -> Labelled:
    """All rows of one domain, in all columns."""
    counts = read_surf(domain, data_root(config.data_root))
    return Labelled(standardise(counts.x), counts.y)


def samples(config: Config, cell: Cell) -> Samples:
    """Both domains in their common principal components. The target's rows judge, too."""
    source, target = read(config, cell.source), read(config, cell.target)
    pca = PCA(config.components, svd_solver="full").fit(torch.cat([source.x, target.x]).numpy())
    source, target = (
        Labelled(torch.from_numpy(pca.transform(part.x.numpy())), part.y)
        for part in (source, target)
    )
    return Samples(source, target.unlabelled(), target)


if __name__ == "__main__":
    # The table shows the same by an effective sample size of all rows.
    warnings.filterwarnings("ignore", message=".*the weights are uniform")
    shallow_main(
        Config,
        experiment="office_caltech_instance",
        benchmark=OFFICE_CALTECH_SURF,
        model=model,
        samples=samples,
        rows=WEIGHERS | {"none": "Weigh all rows of the source the same."},
    )

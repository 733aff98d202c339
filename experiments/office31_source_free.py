"""A head on frozen features goes to another domain without its source data: Office-31, on a CPU.

    python experiments/office31_source_free.py --data-root DATA --weights lite0.pt
    python experiments/office31_source_free.py --data-root DATA --weights lite0.pt \\
        --loss source shot clustering nrc aad cowa --trials 4

Row source trains DAN's bottleneck and a linear classifier on the source's features, with labels
smoothed as by SHOT's authors. The other rows start from its saved network and see nothing but
target features without labels:

    shot           the bottleneck comes to the frozen classifier
    clustering     neighbours in the features agree, by the logarithm (G-SFDA)
    nrc            the same; neighbours that choose each other count more
    aad            neighbours attract, other rows repel
    cowa           weighted pseudo-labels of a mixture of Gaussians, and mixed rows
    lame, t3a      corrections of the answers of source, without training

All trials of a row start from the usual network of row source. There is no batch normalisation, so
no row adapts statistics. The recipe is that of office31_features.py, all else that of the papers.
Nothing was chosen by target accuracy. The table is in docs/results/office31_source_free.md.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, get_args

from da.data import OFFICE31, PairedBatches, TargetBatches, identity
from da.model import NRC, SHOT, AaD, CoWA, NeighbourhoodClustering
from da.model.finetune import Probe
from da.recipes import Cell, HeadFlags, Job, load_network, main, row_method
from da.recipes.corrected import correction
from da.recipes.cutting import hold_out
from da.recipes.feature_tables import feature_pair
from da.recipes.heads import head_network
from da.recipes.rows import describe_rows
from da.train import Align, Evaluation

EXPERIMENT = "office31_source_free"
ADAPTED = {
    "shot": SHOT,
    "clustering": NeighbourhoodClustering,
    "nrc": NRC,
    "aad": AaD,
    "cowa": CoWA,
}
ROWS = {"source": partial(Align, alignment=None, label_smoothing=0.1), **ADAPTED}
Row = Literal["source", "shot", "clustering", "nrc", "aad", "cowa", "lame", "t3a"]


@dataclass(frozen=True)
class Config(HeadFlags):
    """Adapt a saved head to the target without its source data."""

    loss: tuple[Row, ...] = get_args(Row)
    """What is compared."""
    at_once: int = 1
    """Runs of a group that take their steps together; 1: one run after the other."""


def build(config: Config, cell: Cell) -> Job:
    """One cell. Only row source reads the source's features."""
    source, target = feature_pair(OFFICE31, config, cell)
    network = head_network(config, target.x.shape[1], len(OFFICE31.classes))
    evaluation = Evaluation(target, identity, classes=OFFICE31.classes, batch_size=4096)
    options = {"batch_size": config.batch_size, "seed": cell.seed, "transform": identity}
    if cell.method == "source":
        source, held_out = hold_out(source, config.source_validation)
        stream = PairedBatches(source, target.unlabelled(), **options)
        method = row_method(config, cell, ROWS["source"], network)
        return Job(method, stream, replace(evaluation, source_validation=held_out))
    source_cell = cell.usual._replace(method="source")
    load_network(network, config, EXPERIMENT, source_cell, build, describe_rows(ROWS))
    batches = TargetBatches(target.unlabelled(), **options)
    if cell.method in ADAPTED:
        make = partial(ADAPTED[cell.method], target=batches.target, transform=identity)
        return Job(row_method(config, cell, make, network), batches, evaluation)
    corrected = replace(evaluation, correction=correction(cell.method, network))
    return Job(Probe(network), batches, corrected)


if __name__ == "__main__":
    main(
        Config,
        experiment=EXPERIMENT,
        benchmark=OFFICE31,
        build=build,
        describe=describe_rows(ROWS),
        baseline="source",
        rows=ROWS | {"lame": "Correct source's answers.", "t3a": "Correct source's answers."},
    )

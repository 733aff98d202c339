"""A head on frozen features goes to another domain without its source data: Office-31, on a CPU.

    python experiments/office31_source_free.py --data-root DATA --weights lite0.pt

Row source trains DAN's bottleneck and a linear classifier on the source's features, with labels
smoothed as by SHOT's authors. The other rows start from its saved network and see nothing but
target features without labels:

    shot           the bottleneck comes to the frozen classifier
    clustering     neighbours in the features agree, by the logarithm (G-SFDA)
    nrc            the same; neighbours that choose each other count more
    aad            neighbours attract, other rows repel
    cowa           weighted pseudo-labels of a mixture of Gaussians, and mixed rows
    lame, t3a      corrections of the answers of source, without training

There is no batch normalisation, so no row adapts statistics. The recipe is that of
office31_features.py, all else that of the papers. Nothing was chosen by target accuracy. The table
is in docs/results/office31_source_free.md.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, get_args

from da.data import OFFICE31, PairedBatches, TargetBatches, identity
from da.model import NRC, SHOT, AaD, CoWA, NeighbourhoodClustering, lame, t3a
from da.model.finetune import Probe
from da.networks import Network
from da.recipes import Cell, HeadFlags, Job, load_network, main
from da.recipes.feature_tables import feature_pair
from da.recipes.heads import head_network
from da.train import Align, Correction, Evaluation

EXPERIMENT = "office31_source_free"
ADAPTED = {
    "shot": SHOT,
    "clustering": NeighbourhoodClustering,
    "nrc": NRC,
    "aad": AaD,
    "cowa": CoWA,
}
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
        stream = PairedBatches(source, target.unlabelled(), **options)
        return Job(Align(network, None, label_smoothing=0.1), stream, evaluation)
    load_network(network, config, EXPERIMENT, cell._replace(method="source"), build)
    batches = TargetBatches(target.unlabelled(), **options)
    if cell.method in ADAPTED:
        return Job(ADAPTED[cell.method](network, batches.target, identity), batches, evaluation)
    corrected = replace(evaluation, correction=correction(cell.method, network))
    return Job(Probe(network), batches, corrected)


def correction(name: str, network: Network) -> Correction:
    """What corrects the logits of a row; neither function changes the network."""
    if name == "lame":
        return lame
    return partial(t3a, weight=network.head.weight.detach(), bias=network.head.bias.detach())


if __name__ == "__main__":
    main(Config, experiment=EXPERIMENT, benchmark=OFFICE31, build=build, baseline="source")

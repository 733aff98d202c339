"""A network learns clean digits and meets rotated, noisy, blurred or photographed ones, without their labels.

    python experiments/digits_mmd.py

Trains, on each target and with three seeds, a small convolutional network on the source alone (none), the same with the target's
batch statistics at evaluation (adabn), and aligned with the target by a five-kernel MMD (mmd). Data: scikit-learn's handwritten digits,
embedded. Takes under two minutes on two CPU cores; the README has the table it prints.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch

from da.data.batches import Batch, PairedBatches
from da.data.digits import DIGITS, read_digits
from da.data.transforms import ImageTransform
from da.evaluate import Evaluation
from da.experiment import Cell, DigitFlags, Job, load_network, main
from da.feature.adversarial import ADDA, CDAN, DANN, WDGRL
from da.feature.classifiers import MCD, MDD
from da.feature.conditional import DSAN, JAN, DeepJDOT
from da.feature.coral import coral
from da.feature.energy import energy_distance
from da.feature.frechet import frechet_distance
from da.feature.mmd import mmd2
from da.feature.moments import cmd, homm
from da.feature.selftraining import FixMatch, MeanTeacher, PseudoLabels
from da.feature.target import AFN, BNM, BSP, MCC, EntropyMinimisation
from da.feature.transport import FreshDraws, sinkhorn_divergence, sliced_wasserstein
from da.method import Align, BatchStatistics, Method
from da.networks import lenet

EXPERIMENT = "digits_mmd"
LOSSES = {
    "none": partial(Align, alignment=None), "adabn": partial(Align, alignment=None), "mmd": partial(Align, alignment=mmd2),
    "coral": partial(Align, alignment=coral), "energy": partial(Align, alignment=energy_distance),
    "frechet": partial(Align, alignment=frechet_distance, trade_off=1 / 128),
    "cmd": partial(Align, alignment=partial(cmd, bounds=None)), "homm": partial(Align, alignment=homm),
    "sinkhorn": partial(Align, alignment=sinkhorn_divergence, trade_off=1 / 128),  # per feature, as `sliced` counts
    "sliced": lambda network, **options: Align(network, FreshDraws(sliced_wasserstein), **options),
    "jan": JAN, "dsan": DSAN, "deepjdot": DeepJDOT, "dann": DANN, "cdan": CDAN, "cdan_e": partial(CDAN, entropy_conditioning=True),
    "wdgrl": WDGRL, "bsp": BSP, "mcd": MCD, "mdd": MDD, "entropy": EntropyMinimisation, "mcc": MCC, "bnm": BNM, "afn": AFN,
    "pseudo_labels": PseudoLabels, "fixmatch": FixMatch, "mean_teacher": MeanTeacher,
}  # fmt: skip
Loss = Literal["adda", *LOSSES]


@dataclass(frozen=True)
class Config(DigitFlags):
    """Adapt clean digits to changed ones."""

    loss: tuple[Loss, ...] = ("none", "adabn", "mmd")
    """What is compared; none: source only, adabn: source only with the target's batch statistics."""
    trade_off: float = 1.0
    """Weight of the adaptation beside the cross-entropy, times the method's own."""
    batch_statistics: Literal["source", "joint", "domain"] = "joint"
    """What batch normalisation sees while a method adapts: the source, both domains as one batch, or each its own."""


def prepare(config: Config, cell: Cell) -> Method[Batch]:
    """A network and its loss. ADDA goes on from what row none has learned, for as many steps again."""
    network = lenet(10)
    if cell.method == "adda":
        load_network(network, config, EXPERIMENT, cell._replace(method="none"), build)
        torch.manual_seed(cell.seed)  # the discriminator's draws do not depend on the network's, which was loaded
        return ADDA(network)
    statistics: BatchStatistics = "domain" if cell.method == "adabn" else config.batch_statistics
    method = LOSSES[cell.method](network, batch_statistics=statistics)
    method.trade_off *= config.trade_off
    return method


def build(config: Config, cell: Cell) -> Job:
    """One cell: network, loss and data."""
    source, target = read_digits(cell.source), read_digits(cell.target)
    method = prepare(config, cell)
    transform = ImageTransform(16)
    stream = PairedBatches(source, target.unlabelled(), batch_size=config.batch_size, seed=cell.seed, transform=transform)
    return Job(method, stream, Evaluation(target, transform, source))


if __name__ == "__main__":
    main(Config, experiment=EXPERIMENT, benchmark=DIGITS, build=build)

"""The methods that every image script offers, by the name of their row.

A new loss is one file in da/feature and one line here:

    "mine": partial(Align, alignment=mine),

Scripts offer `Literal[*METHODS]`, the property tests take every row, and the paper index is made
from the docstrings. If a recipe asks for another variant of a row, it replaces the row, as
`DAN_METHODS` does.

Every row has the trade-off of its paper or published code: that of its class, or the one that the
row gives. Rows of the same class on other data (reviews) may have another.

Rows with each domain's own batch statistics have them by a choice without target labels:
information maximisation, on the digits, see docs/results/digits_mmd.md. Rows made of such rows
(`dann_els`, `cdan_mcc`, `cdan_mcc_sdat`) have theirs. Other scripts take them unchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from da.feature.adamatch import AdaMatch
from da.feature.adversarial import CDAN, DANN
from da.feature.bridges import GVB
from da.feature.class_contrast import CAN
from da.feature.classifiers import MCD
from da.feature.conditional import DSAN, JAN
from da.feature.covariance import coral
from da.feature.energy import energy_distance
from da.feature.frechet import frechet_distance
from da.feature.head_critic import DALN
from da.feature.joint_transport import DeepJDOT
from da.feature.margin import MDD
from da.feature.masked import MIC
from da.feature.mmd import mmd2
from da.feature.moments import cmd, homm
from da.feature.norms import AFN, BSP
from da.feature.nuclear_norm import BNM
from da.feature.selftraining import FixMatch, PseudoLabels
from da.feature.sinkhorn import sinkhorn_divergence
from da.feature.sliced import FreshDraws, sliced_wasserstein
from da.feature.smooth import SDAT
from da.feature.target import MCC, EntropyMinimisation
from da.feature.target_neighbours import ATDOC
from da.feature.teacher import MeanTeacher
from da.feature.wasserstein import WDGRL
from da.networks.network import Network
from da.recipes.rows import Make
from da.train.align import Align
from da.train.method import BatchStatistics, Ramp, constant
from da.train.sums import Sum

# `frechet` and `sinkhorn` are squared distances that grow with the width of the features. One
# 128th of them counts, once for each feature of the LeNet, as in `sliced`.
_PER_FEATURE = 1 / 128
# Units of the hidden layer of both heads: MDD's for photographs, and as wide as its features there.
_HIDDEN = (1024,)


def _sliced(
    network: Network,
    *,
    trade_off: float = 1.0,
    ramp: Ramp = constant,
    batch_statistics: BatchStatistics = "joint",
    label_smoothing: float = 0.0,
) -> Align:
    """Align by distances along random directions, drawn anew at every step."""
    alignment = FreshDraws(sliced_wasserstein)
    return Align(
        network,
        alignment,
        trade_off=trade_off,
        ramp=ramp,
        batch_statistics=batch_statistics,
        label_smoothing=label_smoothing,
    )


def cdan_mcc(
    network: Network,
    *,
    cdan: Callable[..., CDAN] | None = None,
    trade_off: float = 1.0,
    batch_statistics: BatchStatistics = "joint",
    label_smoothing: float = 0.0,
) -> Sum:
    """Add CDAN's adversary and MCC's class confusion to the cross-entropy on the source."""
    first = (cdan or CDAN)(
        network,
        trade_off=trade_off,
        batch_statistics=batch_statistics,
        label_smoothing=label_smoothing,
    )
    return Sum(first, MCC(network, trade_off=trade_off, batch_statistics=batch_statistics))


def cdan_mcc_sdat(
    network: Network,
    *,
    cdan: Callable[..., CDAN] | None = None,
    radius: float = 0.02,
    trade_off: float = 1.0,
    batch_statistics: BatchStatistics = "joint",
    label_smoothing: float = 0.0,
) -> SDAT:
    """Do as CDAN with MCC, towards weights around which the task loss is flat."""
    method = cdan_mcc(
        network,
        cdan=cdan,
        trade_off=trade_off,
        batch_statistics=batch_statistics,
        label_smoothing=label_smoothing,
    )
    return SDAT(method, radius=radius)


METHODS: dict[str, Make] = {
    "none": partial(Align, alignment=None),
    "adabn": partial(Align, alignment=None, batch_statistics="domain"),
    "mmd": partial(Align, alignment=mmd2),
    "coral": partial(Align, alignment=coral),
    "energy": partial(Align, alignment=energy_distance),
    "frechet": partial(Align, alignment=frechet_distance, trade_off=_PER_FEATURE),
    "cmd": partial(Align, alignment=partial(cmd, bounds=None)),
    "homm": partial(Align, alignment=partial(homm, tanh=True), trade_off=200.0),  # for photographs
    "sinkhorn": partial(Align, alignment=sinkhorn_divergence, trade_off=_PER_FEATURE),
    "sliced": _sliced,
    "jan": JAN,
    "dsan": DSAN,
    "deepjdot": DeepJDOT,
    "can": CAN,
    "dann": partial(DANN, batch_statistics="domain"),
    "cdan": partial(CDAN, batch_statistics="domain"),
    "cdan_e": partial(CDAN, entropy_conditioning=True, batch_statistics="domain"),
    "dann_els": partial(DANN, domain_smoothing=0.1, batch_statistics="domain"),
    "cdan_mcc": partial(cdan_mcc, batch_statistics="domain"),
    "cdan_mcc_sdat": partial(cdan_mcc_sdat, batch_statistics="domain"),
    "daln": partial(DALN, batch_statistics="domain"),
    "gvb": partial(GVB, batch_statistics="domain"),
    "wdgrl": partial(WDGRL, trade_off=0.01, batch_statistics="domain"),  # the authors' for digits
    "bsp": BSP,
    "mcd": partial(MCD, hidden=_HIDDEN, batch_statistics="domain"),
    "mdd": partial(MDD, hidden=_HIDDEN, batch_statistics="domain"),
    "entropy": partial(EntropyMinimisation, batch_statistics="domain"),
    "mcc": partial(MCC, batch_statistics="domain"),
    "bnm": partial(BNM, batch_statistics="domain"),
    "afn": partial(AFN, batch_statistics="domain"),
    "pseudo_labels": partial(PseudoLabels, batch_statistics="domain"),
    "atdoc": partial(ATDOC, batch_statistics="domain"),
    "fixmatch": FixMatch,
    "adamatch": AdaMatch,
    "mean_teacher": MeanTeacher,
    "mic": MIC,
}
# DAN's published estimator takes time linear in the rows.
DAN_METHODS = METHODS | {"mmd": partial(Align, alignment=partial(mmd2, estimator="linear"))}

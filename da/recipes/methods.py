"""The methods that every image script offers, by the name of their row.

A new loss is one file in da/feature and one line here:

    "mine": partial(Align, alignment=mine),

Scripts offer `Literal[*METHODS]`, the property tests take every row, and the paper index is made
from the docstrings. If a recipe asks for another variant of a row, it replaces the row, as
`DAN_METHODS` does.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial

from da.feature.adversarial import CDAN, DANN
from da.feature.classifiers import MCD
from da.feature.conditional import DSAN, JAN
from da.feature.coral import coral
from da.feature.energy import energy_distance
from da.feature.frechet import frechet_distance
from da.feature.joint_transport import DeepJDOT
from da.feature.margin import MDD
from da.feature.mmd import mmd2
from da.feature.moments import cmd, homm
from da.feature.norms import AFN, BSP
from da.feature.selftraining import FixMatch, PseudoLabels
from da.feature.sinkhorn import sinkhorn_divergence
from da.feature.sliced import FreshDraws, sliced_wasserstein
from da.feature.target import BNM, MCC, EntropyMinimisation
from da.feature.teacher import MeanTeacher
from da.feature.wasserstein import WDGRL
from da.networks.network import Network
from da.train.align import Align
from da.train.method import Adapt, BatchStatistics, Ramp, constant

# (network, *, trade_off, ramp, batch_statistics, label_smoothing) -> method
Make = Callable[..., Adapt]
# `frechet` and `sinkhorn` are squared distances that grow with the width of the features. One
# 128th of them counts, once for each feature of the LeNet, as in `sliced`.
_PER_FEATURE = 1 / 128


def _sliced(
    network: Network,
    *,
    trade_off: float = 1.0,
    ramp: Ramp = constant,
    batch_statistics: BatchStatistics = "joint",
    label_smoothing: float = 0.0,
) -> Align:
    """`Align` with directions drawn anew at every step, counted by each method for itself."""
    alignment = FreshDraws(sliced_wasserstein)
    return Align(
        network,
        alignment,
        trade_off=trade_off,
        ramp=ramp,
        batch_statistics=batch_statistics,
        label_smoothing=label_smoothing,
    )


METHODS: dict[str, Make] = {
    "none": partial(Align, alignment=None),
    "adabn": partial(Align, alignment=None, batch_statistics="domain"),
    "mmd": partial(Align, alignment=mmd2),
    "coral": partial(Align, alignment=coral),
    "energy": partial(Align, alignment=energy_distance),
    "frechet": partial(Align, alignment=frechet_distance, trade_off=_PER_FEATURE),
    "cmd": partial(Align, alignment=partial(cmd, bounds=None)),
    "homm": partial(Align, alignment=homm),
    "sinkhorn": partial(Align, alignment=sinkhorn_divergence, trade_off=_PER_FEATURE),
    "sliced": _sliced,
    "jan": JAN,
    "dsan": DSAN,
    "deepjdot": DeepJDOT,
    "dann": DANN,
    "cdan": CDAN,
    "cdan_e": partial(CDAN, entropy_conditioning=True),
    "wdgrl": WDGRL,
    "bsp": BSP,
    "mcd": MCD,
    "mdd": MDD,
    "entropy": EntropyMinimisation,
    "mcc": MCC,
    "bnm": BNM,
    "afn": AFN,
    "pseudo_labels": PseudoLabels,
    "fixmatch": FixMatch,
    "mean_teacher": MeanTeacher,
}
# DAN's published estimator takes time linear in the rows.
DAN_METHODS = METHODS | {"mmd": partial(Align, alignment=partial(mmd2, estimator="linear"))}


def make_method(
    make: Make,
    network: Network,
    *,
    trade_off: float = 1.0,
    ramp: Ramp | None = None,
    batch_statistics: BatchStatistics = "joint",
    label_smoothing: float = 0.0,
) -> Adapt:
    """Make the method of a row on a network, under the options that a script has for all rows.

    Args:
        make: A value of `METHODS`. What it fixes itself stays: AdaBN its batch statistics.
        network: What is trained.
        trade_off: Multiple of the row's own trade-off. Default 1.
        ramp: Progress in [0, 1] -> factor of the trade-off. Default None: the row's own.
        batch_statistics: What batch normalisation sees; see `da.train.Adapt`. Default "joint".
        label_smoothing: Mass spread evenly over the classes; see `da.train.Adapt`. Default 0.

    Returns:
        The method.

    Example:
        >>> from da.networks import lenet
        >>> from da.recipes.methods import METHODS, make_method
        >>> make_method(METHODS["frechet"], lenet(10), trade_off=2.0).trade_off
        0.015625
    """
    fixed = make.keywords if isinstance(make, partial) else {}
    statistics = fixed.get("batch_statistics", batch_statistics)
    own = inspect.signature(make).parameters["trade_off"].default
    ramps: Mapping[str, Callable[[float], float]] = {} if ramp is None else {"ramp": ramp}
    return make(
        network,
        trade_off=trade_off * own,
        batch_statistics=statistics,
        label_smoothing=label_smoothing,
        **ramps,
    )

"""The methods that train a head on frozen features: those of `METHODS`, with smaller adversaries.

The features are a few hundred numbers, and a run is a few hundred steps. So a discriminator, and a
second classifier, has hidden layers of 256 units here, not of 1,024. CDAN takes its random map, as
its paper does if features times classes are more than 4,096.

A head has no batch normalisation. So rows whose batch statistics were chosen for the digits are as
their classes have them. Nor does anything hold the stepwise norms of AFN: the optimiser is AdamW,
under which they grow without end. So `afn` is the paper's other variant, which asks for one radius,
and the penalty sets in slowly, for the paper's first epochs on the source alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from da.feature.adversarial import CDAN, DANN
from da.feature.bridges import GVB, bridged_discriminator
from da.feature.norms import AFN, BSP, hard_afn
from da.feature.nuclear_norm import BNM
from da.feature.selftraining import PseudoLabels
from da.feature.target import MCC, EntropyMinimisation
from da.feature.wasserstein import WDGRL
from da.networks.adversary import MultilinearMap, discriminator
from da.networks.network import Network, linear_head
from da.recipes.methods import METHODS, cdan_mcc, cdan_mcc_sdat
from da.recipes.rows import Make
from da.train.method import BatchStatistics, Ramp, sigmoid_ramp

_UNITS = (256, 256)


def _dann(
    network: Network,
    *,
    hidden: Sequence[int] = _UNITS,
    trade_off: float = 1.0,
    ramp: Ramp = sigmoid_ramp,
    batch_statistics: BatchStatistics = "domain",
    label_smoothing: float = 0.0,
    domain_smoothing: float | None = None,
) -> DANN:
    """Train features in which a small discriminator cannot tell source from target (DANN)."""
    return DANN(
        network,
        discriminator(linear_head(network).in_features, hidden=hidden),
        trade_off=trade_off,
        ramp=ramp,
        batch_statistics=batch_statistics,
        label_smoothing=label_smoothing,
        domain_smoothing=domain_smoothing,
    )


def _bsp(
    network: Network,
    *,
    hidden: Sequence[int] = _UNITS,
    spectral_weight: float = 1e-4,
    k: int = 1,
    trade_off: float = 1.0,
    ramp: Ramp = sigmoid_ramp,
    batch_statistics: BatchStatistics = "joint",
    label_smoothing: float = 0.0,
) -> BSP:
    """Do as DANN, and keep a few directions from carrying most of the features (BSP)."""
    return BSP(
        network,
        discriminator(linear_head(network).in_features, hidden=hidden),
        spectral_weight=spectral_weight,
        k=k,
        trade_off=trade_off,
        ramp=ramp,
        batch_statistics=batch_statistics,
        label_smoothing=label_smoothing,
    )


def _cdan(
    network: Network,
    *,
    entropy_conditioning: bool = False,
    hidden: Sequence[int] = _UNITS,
    trade_off: float = 1.0,
    ramp: Ramp = sigmoid_ramp,
    batch_statistics: BatchStatistics = "domain",
    label_smoothing: float = 0.0,
) -> CDAN:
    """Do as DANN, with a small discriminator that sees the predicted classes too (CDAN)."""
    head = linear_head(network)
    width = MultilinearMap(head.in_features, head.out_features).width
    return CDAN(
        network,
        discriminator(width, hidden=hidden),
        entropy_conditioning=entropy_conditioning,
        random_map=True,
        trade_off=trade_off,
        ramp=ramp,
        batch_statistics=batch_statistics,
        label_smoothing=label_smoothing,
    )


def _gvb(
    network: Network,
    *,
    hidden: Sequence[int] = _UNITS,
    trade_off: float = 1.0,
    ramp: Ramp = sigmoid_ramp,
    batch_statistics: BatchStatistics = "domain",
    label_smoothing: float = 0.0,
) -> GVB:
    """Do as DANN on predictions, with a small discriminator and bridges that vanish (GVB-GD)."""
    return GVB(
        network,
        bridged_discriminator(linear_head(network).out_features, hidden=hidden),
        trade_off=trade_off,
        ramp=ramp,
        batch_statistics=batch_statistics,
        label_smoothing=label_smoothing,
    )


HEAD_METHODS: dict[str, Make] = METHODS | {
    "dann": _dann,
    "cdan": _cdan,
    "cdan_e": partial(_cdan, entropy_conditioning=True),
    "cdan_mcc": partial(cdan_mcc, cdan=_cdan, batch_statistics="domain"),
    "cdan_mcc_sdat": partial(cdan_mcc_sdat, cdan=_cdan, batch_statistics="domain"),
    "dann_els": partial(_dann, domain_smoothing=0.1),
    "gvb": _gvb,
    "bsp": _bsp,
    "mcd": partial(METHODS["mcd"], hidden=_UNITS[:1]),
    "mdd": partial(METHODS["mdd"], hidden=_UNITS[:1]),
    "wdgrl": partial(WDGRL, trade_off=0.01),
    "entropy": EntropyMinimisation,
    "mcc": MCC,
    "bnm": BNM,
    "afn": partial(AFN, penalty=hard_afn, ramp=sigmoid_ramp),
    "pseudo_labels": PseudoLabels,
}

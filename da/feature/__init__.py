"""Feature-based adaptation: pull the features of two domains together.

A discrepancy is a function (source (n, d), target (m, d)) -> scalar, such as `mmd2`. Train with it
through `da.train.Align`. Methods that need labels, logits or a second network are classes, such as
`DANN`.
"""

from da.feature.across_domains import Risks
from da.feature.adamatch import AdaMatch
from da.feature.adaptive_clustering import CDAC
from da.feature.adda import ADDA
from da.feature.adversarial import CDAN, DANN
from da.feature.balanced import BA3US
from da.feature.bridges import GVB, BridgedHead
from da.feature.class_contrast import CAN, contrastive_discrepancy
from da.feature.classifiers import MCD
from da.feature.conditional import DSAN, JAN
from da.feature.covariance import coral
from da.feature.discriminator_loss import domain_confusion_loss
from da.feature.domain_mixup import DomainMixup
from da.feature.domain_penalties import PairwiseAlign, SpectralDecoupling
from da.feature.domain_risks import GroupDRO, VREx, risk_variance
from da.feature.energy import energy_distance
from da.feature.fishr import Fishr, gradient_variances
from da.feature.frechet import frechet_distance
from da.feature.head_critic import DALN, nuclear_wasserstein
from da.feature.invariant_risk import IRM, irm_penalty
from da.feature.joint_mmd import joint_mmd2
from da.feature.joint_transport import DeepJDOT
from da.feature.local_mmd import local_mmd2
from da.feature.margin import MDD
from da.feature.masked import MIC
from da.feature.mfsan import MFSAN
from da.feature.minimax_entropy import MME
from da.feature.mixstyle import MixStyle, mixed_style
from da.feature.mldg import MLDG
from da.feature.mmd import mmd2
from da.feature.moments import cmd, homm
from da.feature.multisource import M3SDA, moment_distance
from da.feature.neighbourhood_entropy import (
    DANCE,
    PrototypeHead,
)
from da.feature.norms import AFN, BSP, afn, bsp, hard_afn
from da.feature.nuclear_norm import BNM, bnm
from da.feature.one_vs_all import OneVsAll, OVANet
from da.feature.openset import OSBP, RejectUnsure, reject_unsure
from da.feature.partial import IWAN, PADA
from da.feature.regression import AlignRegression, dare_gram, rsd
from da.feature.selftraining import FixMatch, PseudoLabels
from da.feature.sinkhorn import sinkhorn_divergence
from da.feature.sliced import FreshDraws, sliced_wasserstein
from da.feature.smooth import SDAT
from da.feature.target import MCC, EntropyMinimisation, entropy, mcc
from da.feature.target_neighbours import ATDOC, CentroidATDOC
from da.feature.teacher import MeanTeacher
from da.feature.universal_transport import TransportHead, UniOT
from da.feature.wasserstein import WDGRL
from da.feature.weighted_sources import WeightedSources

__all__ = [
    "ADDA",
    "AFN",
    "ATDOC",
    "AdaMatch",
    "AlignRegression",
    "BA3US",
    "BNM",
    "BSP",
    "BridgedHead",
    "CAN",
    "CDAC",
    "CDAN",
    "CentroidATDOC",
    "DALN",
    "DANCE",
    "DANN",
    "DSAN",
    "DeepJDOT",
    "DomainMixup",
    "EntropyMinimisation",
    "Fishr",
    "FixMatch",
    "FreshDraws",
    "GVB",
    "GroupDRO",
    "IRM",
    "IWAN",
    "JAN",
    "M3SDA",
    "MCC",
    "MCD",
    "MDD",
    "MFSAN",
    "MIC",
    "MLDG",
    "MME",
    "MeanTeacher",
    "MixStyle",
    "OSBP",
    "OVANet",
    "OneVsAll",
    "PADA",
    "PairwiseAlign",
    "PrototypeHead",
    "PseudoLabels",
    "RejectUnsure",
    "Risks",
    "SDAT",
    "SpectralDecoupling",
    "TransportHead",
    "UniOT",
    "VREx",
    "WDGRL",
    "WeightedSources",
    "afn",
    "bnm",
    "bsp",
    "cmd",
    "contrastive_discrepancy",
    "coral",
    "dare_gram",
    "domain_confusion_loss",
    "energy_distance",
    "entropy",
    "frechet_distance",
    "gradient_variances",
    "hard_afn",
    "homm",
    "irm_penalty",
    "joint_mmd2",
    "local_mmd2",
    "mcc",
    "mixed_style",
    "mmd2",
    "moment_distance",
    "nuclear_wasserstein",
    "reject_unsure",
    "risk_variance",
    "rsd",
    "sinkhorn_divergence",
    "sliced_wasserstein",
]

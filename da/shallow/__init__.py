"""Methods without a network: adapters, classifiers, and scikit-learn estimators made of them.

An adapter has `fit` and `transform`. A classifier has `fit` and `predict`.
"""

from da.shallow.adapter import Adapter
from da.shallow.combat import ComBat
from da.shallow.coral import CORAL, coral_map
from da.shallow.covariances import RecentreCovariances, mean_covariance, tangent_vectors
from da.shallow.crossvalidation import SourceFolds
from da.shallow.dipls import DIPLS
from da.shallow.domain_map import DomainMap
from da.shallow.easytl import EasyTL
from da.shallow.estimators import DomainAdaptationClassifier, DomainAdaptationRegressor
from da.shallow.instruments import (
    DirectStandardisation,
    PiecewiseDirectStandardisation,
    SpectralSpaceTransformation,
)
from da.shallow.jda import BDA, JDA
from da.shallow.jgsa import JGSA
from da.shallow.meda import MEDA
from da.shallow.orthogonalisation import ExternalParameterOrthogonalisation
from da.shallow.recentre import RecentreDomains
from da.shallow.source_mixture import similarity_weights, validation_weights
from da.shallow.subspace import GFK, SubspaceAlignment
from da.shallow.tca import SSTCA, TCA
from da.shallow.tjm import TJM
from da.shallow.transport import LinearMongeMap, OTMap
from da.shallow.weighted_score import ImportanceWeightedScore, Metric

__all__ = [
    "Adapter",
    "BDA",
    "CORAL",
    "ComBat",
    "DIPLS",
    "DirectStandardisation",
    "DomainAdaptationClassifier",
    "DomainAdaptationRegressor",
    "DomainMap",
    "EasyTL",
    "ExternalParameterOrthogonalisation",
    "GFK",
    "ImportanceWeightedScore",
    "JDA",
    "JGSA",
    "LinearMongeMap",
    "MEDA",
    "Metric",
    "OTMap",
    "PiecewiseDirectStandardisation",
    "RecentreCovariances",
    "RecentreDomains",
    "SSTCA",
    "SourceFolds",
    "SpectralSpaceTransformation",
    "SubspaceAlignment",
    "TCA",
    "TJM",
    "coral_map",
    "mean_covariance",
    "similarity_weights",
    "tangent_vectors",
    "validation_weights",
]

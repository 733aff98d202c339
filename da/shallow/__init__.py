"""Methods without a network: adapters, classifiers, and scikit-learn estimators made of them.

An adapter has `fit` and `transform`. A classifier has `fit` and `predict`.
"""

from da.shallow.adapter import Adapter
from da.shallow.coral import CORAL, coral_map
from da.shallow.crossvalidation import SourceFolds
from da.shallow.easytl import EasyTL
from da.shallow.estimators import DomainAdaptationClassifier, DomainAdaptationRegressor
from da.shallow.jda import BDA, JDA
from da.shallow.jgsa import JGSA
from da.shallow.meda import MEDA
from da.shallow.subspace import GFK, SubspaceAlignment
from da.shallow.tca import SSTCA, TCA
from da.shallow.tjm import TJM
from da.shallow.transport import LinearMongeMap, OTMap
from da.shallow.weighted_score import ImportanceWeightedScore, Metric

__all__ = [
    "Adapter",
    "BDA",
    "CORAL",
    "DomainAdaptationClassifier",
    "DomainAdaptationRegressor",
    "EasyTL",
    "GFK",
    "ImportanceWeightedScore",
    "JDA",
    "JGSA",
    "LinearMongeMap",
    "MEDA",
    "Metric",
    "OTMap",
    "SSTCA",
    "SourceFolds",
    "SubspaceAlignment",
    "TCA",
    "TJM",
    "coral_map",
]

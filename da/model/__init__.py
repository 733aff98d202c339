"""Model-based adaptation: keep or reuse what a source network knows.

Here are penalties (network, source_network, x) -> scalar, ways of fine-tuning, adaptation without
source data or at test time, corrections (features, logits) -> logits without training, several
tasks in one network, and transferability scores.
"""

from da.model.adacontrast import AdaContrast, neighbour_vote
from da.model.adapting_online import OnlineMethod, by_batch, online
from da.model.alarm import ConcentrationAlarm, guarded
from da.model.attention import channel_attention
from da.model.attraction import AaD, batch_agreement, neighbour_agreement
from da.model.batchnorm import adapt_statistics
from da.model.bituning import BiTuning
from da.model.blockwise import GradualUnfreezing, LayerwiseDecay
from da.model.bss_penalty import bss
from da.model.coding_rate import transrate
from da.model.corrections import lame, prior_correction, t3a
from da.model.cotta import CoTTA
from da.model.cotuning import CoTuning
from da.model.cowa import CoWA, weighted_pseudo_labels
from da.model.delta_penalty import Delta, delta
from da.model.deyo import DeYO
from da.model.discriminant_scores import gbc, lda_score, sfda
from da.model.distill import Hint, feature_distillation, knowledge_distillation, lwf
from da.model.eata import EATA, diagonal_fisher
from da.model.energy_scores import energy_score, linear_fit_score
from da.model.evidence import logme
from da.model.feature_bank import FeatureBank
from da.model.finetune import fit_head, frozen, with_new_head
from da.model.gradient_surgery import PCGrad
from da.model.h_scores import h_score, regularized_h_score
from da.model.l2sp import l2_sp
from da.model.labelling_transfer import surest_rows
from da.model.local_structure import NeighbourhoodClustering, neighbour_log_agreement
from da.model.maps import stage_convolutions
from da.model.marginal import marginal_entropy, memo
from da.model.masked_language import MaskedLanguage
from da.model.mixed_statistics import mix_statistics
from da.model.multitask import EqualWeights, MultiTask, UncertaintyWeights
from da.model.neighbour_scores import nleep, parc
from da.model.note import NOTE
from da.model.reciprocity import NRC, reciprocal_agreement
from da.model.relationship import category_relationship
from da.model.rotta import RoTTA
from da.model.sar import SAR
from da.model.shift_of_statistics import statistics_shift
from da.model.soups import greedy_soup, wise_ft
from da.model.source_predictions import leep, nce
from da.model.sourcefree import SHOT
from da.model.stochnorm import stochastic_normalisation
from da.model.surgical import relative_gradients, tune_only
from da.model.target_pass import target_outputs
from da.model.testtime import Tent

__all__ = [
    "AaD",
    "AdaContrast",
    "BiTuning",
    "CoTTA",
    "CoTuning",
    "CoWA",
    "ConcentrationAlarm",
    "DeYO",
    "Delta",
    "EATA",
    "EqualWeights",
    "FeatureBank",
    "GradualUnfreezing",
    "Hint",
    "LayerwiseDecay",
    "MaskedLanguage",
    "MultiTask",
    "NOTE",
    "NRC",
    "NeighbourhoodClustering",
    "OnlineMethod",
    "PCGrad",
    "RoTTA",
    "SAR",
    "SHOT",
    "Tent",
    "UncertaintyWeights",
    "adapt_statistics",
    "batch_agreement",
    "bss",
    "by_batch",
    "category_relationship",
    "channel_attention",
    "delta",
    "diagonal_fisher",
    "energy_score",
    "feature_distillation",
    "fit_head",
    "frozen",
    "gbc",
    "greedy_soup",
    "guarded",
    "h_score",
    "knowledge_distillation",
    "l2_sp",
    "lame",
    "lda_score",
    "leep",
    "linear_fit_score",
    "logme",
    "lwf",
    "marginal_entropy",
    "memo",
    "mix_statistics",
    "nce",
    "neighbour_agreement",
    "neighbour_log_agreement",
    "neighbour_vote",
    "nleep",
    "online",
    "parc",
    "prior_correction",
    "reciprocal_agreement",
    "regularized_h_score",
    "relative_gradients",
    "sfda",
    "stage_convolutions",
    "statistics_shift",
    "stochastic_normalisation",
    "surest_rows",
    "t3a",
    "target_outputs",
    "transrate",
    "tune_only",
    "weighted_pseudo_labels",
    "wise_ft",
    "with_new_head",
]

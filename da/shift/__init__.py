"""Has the data shifted, and how? Two-sample tests and drift reports."""

from da.records.multiple_tests import holm
from da.shift.block_test import block_mmd_test
from da.shift.blocks import BlockSums, block_sums
from da.shift.categories import Categories, moved_categories
from da.shift.class_drift import ClassTest, Proportions, moved_classes, moved_proportions
from da.shift.drift import Columns, moved_columns, witness
from da.shift.fused_test import mmd_fuse
from da.shift.gaps import Gaps, moved_gaps
from da.shift.loss_change import LossChange, Part, explain_loss
from da.shift.mmd import MMDTest, mmd_test
from da.shift.random_features import MeanEmbedding, random_feature_mmd2

__all__ = [
    "BlockSums",
    "Categories",
    "ClassTest",
    "Columns",
    "Gaps",
    "LossChange",
    "MMDTest",
    "MeanEmbedding",
    "Part",
    "Proportions",
    "block_mmd_test",
    "block_sums",
    "explain_loss",
    "holm",
    "mmd_fuse",
    "mmd_test",
    "moved_categories",
    "moved_classes",
    "moved_columns",
    "moved_gaps",
    "moved_proportions",
    "random_feature_mmd2",
    "witness",
]

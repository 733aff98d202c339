"""Readers of the files that benchmarks are published in, and the cache of decoded photographs."""

from da.data.files.cifar import read_cifar10
from da.data.files.features import Features, read_features
from da.data.files.mat_files import read_jda_digits, read_surf
from da.data.files.photographs import read_photographs
from da.data.files.reviews import Reviews, read_reviews
from da.data.files.spectra import Spectra, read_corn
from da.data.files.text_files import read_word_counts
from da.data.files.windows import read_wisdm

__all__ = [
    "Features",
    "Reviews",
    "Spectra",
    "read_cifar10",
    "read_corn",
    "read_features",
    "read_jda_digits",
    "read_photographs",
    "read_reviews",
    "read_surf",
    "read_wisdm",
    "read_word_counts",
]

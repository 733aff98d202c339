"""Data in memory and on disk: domains, batches, transforms, benchmarks, readers and downloads.

Readers of single file formats are in `da.data.files`.
"""

from da.data.batches import (
    Batch,
    LabelledBatch,
    LabelledBatches,
    PairedBatches,
    TargetBatch,
    TargetBatches,
)
from da.data.benchmarks import (
    JDA_DIGITS,
    MNIST_USPS,
    OFFICE31,
    OFFICE_CALTECH10,
    OFFICE_CALTECH_SURF,
    OFFICE_HOME,
    Benchmark,
)
from da.data.checking import check_domain
from da.data.class_folders import ClassFolders, read_class_folders
from da.data.digits import DIGITS, read_digits
from da.data.domain import Labelled, Unlabelled
from da.data.downloading import download
from da.data.few_labels import FewLabelsBatch, FewLabelsBatches
from da.data.labelled_domains import DomainBatch, DomainBatches
from da.data.multisource import MultiSourceBatch, MultiSourceBatches
from da.data.own_folders import folder_benchmark
from da.data.photograph_benchmarks import DOMAINNET, IMAGECLEF_DA, PACS, VISDA2017, VLCS
from da.data.readers import data_root, read_domain
from da.data.streams import STREAMS, NamedStream, StreamBatch
from da.data.text_benchmarks import AMAZON_REVIEW_TEXTS, AMAZON_REVIEWS
from da.data.transforms import ImageTransform, identity, log_counts
from da.data.wisdm import WISDM

__all__ = [
    "AMAZON_REVIEWS",
    "AMAZON_REVIEW_TEXTS",
    "Batch",
    "Benchmark",
    "ClassFolders",
    "DIGITS",
    "DOMAINNET",
    "DomainBatch",
    "DomainBatches",
    "FewLabelsBatch",
    "FewLabelsBatches",
    "IMAGECLEF_DA",
    "ImageTransform",
    "JDA_DIGITS",
    "Labelled",
    "LabelledBatch",
    "LabelledBatches",
    "MNIST_USPS",
    "MultiSourceBatch",
    "MultiSourceBatches",
    "NamedStream",
    "OFFICE31",
    "OFFICE_CALTECH10",
    "OFFICE_CALTECH_SURF",
    "OFFICE_HOME",
    "PACS",
    "PairedBatches",
    "STREAMS",
    "StreamBatch",
    "TargetBatch",
    "TargetBatches",
    "Unlabelled",
    "VISDA2017",
    "VLCS",
    "WISDM",
    "check_domain",
    "data_root",
    "download",
    "folder_benchmark",
    "identity",
    "log_counts",
    "read_class_folders",
    "read_digits",
    "read_domain",
]

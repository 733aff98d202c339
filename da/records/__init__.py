"""A run on disk, and what is made of runs: tables, rankings, packed records.

The folder reads records without PyTorch and imports nothing else of da.
"""

from da.records.cells import Metric
from da.records.difference import Difference, paired_difference
from da.records.display_names import display_name
from da.records.multiple_tests import holm
from da.records.packing import pack, unpack
from da.records.rankings import ranking
from da.records.reading import read_runs
from da.records.record import Record
from da.records.run import Run
from da.records.table import Table

__all__ = [
    "Difference",
    "Metric",
    "Record",
    "Run",
    "Table",
    "display_name",
    "holm",
    "paired_difference",
    "pack",
    "ranking",
    "read_runs",
    "unpack",
]

"""What the scripts in experiments/ share: flags, `main`, and the jobs of all kinds of methods."""

from da.recipes.backbone_features import frozen_features
from da.recipes.cells import load_network
from da.recipes.deep_estimator import DeepAdaptationClassifier, DeepMethod
from da.recipes.finetuning import FinetuneFlags, LabelFlags, labelled_job, photograph_job
from da.recipes.flags import CommonFlags, DigitFlags, Flags, configuration
from da.recipes.heads import HeadFlags, head_job
from da.recipes.job import Cell, Job, paired_job
from da.recipes.own_benchmark import FolderFlags
from da.recipes.parts import Parts, split
from da.recipes.photographs import DANFlags, ImageFlags, PhotographFlags, image_job
from da.recipes.rows import RowFlags, row_method
from da.recipes.script import main
from da.recipes.shallow import Samples, ShallowFlags, ShallowJob, shallow_main
from da.recipes.stream_job import StreamJob

__all__ = [
    "Cell",
    "CommonFlags",
    "DANFlags",
    "DeepAdaptationClassifier",
    "DeepMethod",
    "DigitFlags",
    "FinetuneFlags",
    "Flags",
    "FolderFlags",
    "HeadFlags",
    "ImageFlags",
    "Job",
    "LabelFlags",
    "Parts",
    "PhotographFlags",
    "RowFlags",
    "Samples",
    "ShallowFlags",
    "ShallowJob",
    "StreamJob",
    "configuration",
    "frozen_features",
    "head_job",
    "image_job",
    "labelled_job",
    "load_network",
    "main",
    "paired_job",
    "photograph_job",
    "row_method",
    "shallow_main",
    "split",
]

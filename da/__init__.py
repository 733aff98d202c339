"""Domain adaptation and transfer learning. Each family is one function signature:

    da.feature    (source, target) -> scalar               pull two distributions together
    da.instance   (source, target) -> weights (n,)         say how much each source sample counts
    da.model      (network, source_network, x) -> scalar   keep or reuse what a source model knows

Around them:

    da.kernels    positive-definite kernels and bandwidth rules
    da.data       domains, batches, benchmarks, readers
    da.networks   networks that return features and logits; backbones, encoders
    da.train      the interface of a method, and the one training loop
    da.shallow    methods without a network, and scikit-learn estimators
    da.select     choosing without target labels
    da.shift      has the data shifted, and how?
    da.records    runs on disk, tables
    da.recipes    what the scripts in experiments/ share
    da.adapt      your own data: a report, predictions and a model

Each folder hands on the names that users need: `from da.feature import mmd2, DANN`. A model that
`python -m da adapt` has written is read by `da.load_model(folder)`.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`da.load_model`, which is imported when it is first asked for."""
    if name == "load_model":
        return importlib.import_module("da.adapt").load_model
    raise AttributeError(f"module 'da' has no attribute {name!r}")

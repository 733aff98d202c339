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

Each folder hands on the names that users need: `from da.feature import mmd2, DANN`.
"""

__version__ = "0.1.0"

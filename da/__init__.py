"""Domain adaptation and transfer learning. Each family is one function signature:

    da.feature    (source, target) -> scalar               pull two distributions together
    da.instance   (source, target) -> weights (n,)         say how much each source sample counts
    da.model      (network, source_network, x) -> scalar   keep or reuse what a source model knows

Around them: `da.kernels` (the mathematics), `da.data` (domains, batches, benchmarks), `da.networks`, `da.train` (the interface
of a method and the one loop), `da.shallow` (methods without a network, scikit-learn), `da.select` (choosing without target
labels), `da.shift` (has the data shifted?), `da.records` (runs on disk, tables), `da.recipes` (what the scripts share).
Each folder's face holds the names that users need: `from da.feature import mmd2, DANN`.
"""

__version__ = "0.1.0"

"""Domain adaptation and transfer learning. Each family is one function signature:

    da.feature    (source, target) -> scalar               pull two distributions together
    da.instance   (source, target) -> weights (n,)         say how much each source sample counts
    da.model      (network, source_network, x) -> scalar   keep or reuse what a source model knows

Around them: `da.kernels` (the mathematics), `da.data` (benchmarks, readers, batches), `da.networks` (networks that return
features and logits), `da.backbones` and `da.encoders` (what they are made of: torchvision's networks, Hugging Face encoders),
`da.method` (the signatures made trainable), `da.train` (the one loop), `da.metrics` and `da.evaluate` (figures of merit,
label-free selection), `da.records` (what a run leaves on disk), `da.table` and `da.ranking` (tables from records),
`da.experiment` (the flags that every script shares), `da.finetuning` (those of fine-tuning), `da.estimators` (the shallow
methods in scikit-learn) and `da.crossvalidation` (selection without target labels). Nothing is re-exported here: one name, one
place.
"""

__version__ = "0.1.0"

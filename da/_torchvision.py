"""torchvision, repaired on machines on which its binary part does not load.

A torchvision wheel built for CUDA beside a CPU build of torch fails at import with "operator
torchvision::nms does not exist". The reason: it registers meta kernels for operators that its
binary should have declared, and the binary could not be loaded. Backbones and transforms do not
need these operators. So on exactly this error the schemas of the operators are declared here, and
the import is tried again. A healthy installation is not changed.

Import torchvision as `from da._torchvision import torchvision`.
"""

from __future__ import annotations

import sys

import torch

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_library: torch.library.Library | None = None  # kept alive: the schemas vanish with it

try:
    import torchvision
except RuntimeError as error:
    if "operator torchvision::nms does not exist" not in str(error):
        raise
    for name in [module for module in sys.modules if module.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    _library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        _library.define(operator + _SCHEMA)
    import torchvision

import torchvision.models  # noqa: E402

__all__ = ["torchvision"]

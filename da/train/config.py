"""How a method is trained: the configuration of the loop."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

# Marks a setting that cannot change a result, but for the rounding of other numbers of threads.
NO_RESULT = {"result": False}


@dataclass(frozen=True)
class TrainConfig:
    """How a method is trained."""

    steps: int = 300
    """Optimiser steps."""
    batch_size: int = 64
    """Samples of each domain a step and device."""
    learning_rate: float = 0.01
    """Of new layers at the start."""
    backbone_factor: float = 0.1
    """A pretrained backbone learns at this multiple of the rate."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """sgd: Nesterov momentum 0.9. adamw: betas 0.9, 0.999."""
    weight_decay: float = 5e-4
    """As the optimiser defines it."""
    schedule: Literal["constant", "cosine", "inverse"] = "cosine"
    """Rate by progress p in [0, 1]: 1; (1 + cos(pi p)) / 2; (1 + decay p)^-0.75."""
    decay: float = 10.0
    """Of the inverse schedule: 10 as in DANN; 3 is DAN's 3e-4 a step over 10,000 steps."""
    clip: float | None = None
    """Largest 2-norm of the gradient of all parameters together; none: not clipped."""
    log_every: int = field(default=10, metadata=NO_RESULT)
    """Steps between two lines of training losses."""
    evaluate_every: int = 100
    """Steps between two evaluations of the target, each followed by a checkpoint."""
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    """bf16-mixed runs matrix products and convolutions in bfloat16, on CPU too."""
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """auto takes a GPU where there is one; one that is asked for by name must be there."""
    devices: int = 1
    """Processes, each with a device of its own; gradients are averaged over them."""
    threads: int | None = field(default=None, metadata=NO_RESULT)
    """CPU threads of a process; none: PyTorch's choice. Scripts with small networks take one: more are faster on an idle machine,
    but wait for each other, many times slower, where another program wants a core."""
    workers: int = field(default=0, metadata=NO_RESULT)
    """Background processes that prepare batches; the batches are the same for any number."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "log_every", "evaluate_every", "devices"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")
        for name in ("learning_rate", "backbone_factor", "weight_decay", "decay", "workers"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative; got {getattr(self, name)}")
        if self.threads is not None and self.threads < 1:
            raise ValueError(
                f"threads must be at least 1, or absent for PyTorch's choice; got {self.threads}"
            )
        if self.clip is not None and self.clip <= 0:
            raise ValueError(f"clip must be positive, or absent for no clipping; got {self.clip}")

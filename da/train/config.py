"""The settings of the training loop: how long, how fast, in which precision and on what machine.

Pass a `TrainConfig` to `da.train.fit`. Scripts derive their flags from it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from da.arrays.arguments import check_fields
from da.arrays.integers import whole_number
from da.records.trials import DEFAULT_SCORE

# Marks a setting that cannot change a result, except for rounding with other numbers of threads.
NO_RESULT = {"result": False}
# Marks a setting that can change a result only if several processes train together.
OF_SEVERAL = {"of_several": True}
MOST_THREADS = 1024  # with many more, the libraries under PyTorch crash


@dataclass(frozen=True)
class TrainConfig:
    """The settings of a training run: steps, optimiser, schedule, precision and machine.

    Every setting has a default, so name only what you change. A script that derives its flags from
    this class shows the lines below in `--help`.

    Attributes:
        steps: Optimiser steps.
        batch_size: Samples of each domain a batch and device.
        learning_rate: Rate of new layers at the start.
        backbone_factor: A pretrained backbone learns at this multiple of the rate.
        optimizer: sgd: Nesterov momentum 0.9. adamw: betas 0.9, 0.999.
        weight_decay: As the optimiser defines it.
        schedule: Rate by progress p in [0, 1]: 1; (1 + cos(pi p)) / 2; (1 + decay p)^-0.75.
        decay: Of the inverse schedule. DANN has 10. 3 is DAN's 3e-4 a step over 10,000 steps.
        clip: Largest 2-norm of the gradient of all parameters together; none: not clipped.
        accumulate: Batches a step; their gradients are averaged. A loss between domains and batch
            normalisation see one batch at a time.
        log_every: Steps between two lines of training losses.
        evaluate_every: Steps between two evaluations of the target, each followed by a checkpoint.
        patience: Evaluations in a row without a better score after which training stops; none: it
            goes on to the last step. Rates and ramps follow the steps in all either way.
        stop_by: The score that patience watches: one that reads no target label, or validation.
        start_from: Folder of a finished run, or a network.pt: training begins from its weights,
            with step 0 and a new optimiser; none: from the network as it is made.
        precision: bf16-mixed runs matrix products and convolutions in bfloat16, on CPU too.
            16-mixed runs them in float16 and scales the loss, for GPUs without bfloat16.
        accelerator: auto takes a GPU if there is one; a device asked for by name must exist.
        devices: Processes, each with a device of its own; gradients are averaged over them.
        sync_batch_norm: Whether batch normalisation sees the batches of all processes, as with one.
            Otherwise each normalises by its own shard. No effect with one process.
        threads: CPU threads of a process; none: PyTorch's choice. One is a good choice for small
            networks: more threads help on an idle machine and can be many times slower on a shared
            one.
        workers: Background processes that prepare batches; the batches are the same for any number.

    Raises:
        ValueError: A setting is out of its range, is no whole number, or is none of its words.

    Example:
        >>> from da.train import TrainConfig
        >>> config = TrainConfig(steps=200, optimizer="adamw", learning_rate=0.003)
        >>> config.batch_size, config.schedule
        (64, 'cosine')
    """

    steps: int = 300
    batch_size: int = 64
    learning_rate: float = 0.01
    backbone_factor: float = 0.1
    optimizer: Literal["sgd", "adamw"] = "sgd"
    weight_decay: float = 5e-4
    schedule: Literal["constant", "cosine", "inverse"] = "cosine"
    decay: float = 10.0
    clip: float | None = None
    accumulate: int = 1
    log_every: int = field(default=10, metadata=NO_RESULT)
    evaluate_every: int = 100
    patience: int | None = None
    stop_by: str = DEFAULT_SCORE
    start_from: Path | None = None
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: int = 1
    sync_batch_norm: bool = field(default=False, metadata=OF_SEVERAL)
    threads: int | None = field(default=None, metadata=NO_RESULT)
    workers: int = field(default=0, metadata=NO_RESULT)

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("steps", "batch_size", "accumulate", "log_every", "evaluate_every", "devices"):
            # Python's int in place of NumPy's, because a record is JSON.
            object.__setattr__(self, name, whole_number(getattr(self, name), name, least=1))
        object.__setattr__(self, "workers", whole_number(self.workers, "workers", least=0))
        for name in ("learning_rate", "backbone_factor", "weight_decay", "decay"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be a finite number >= 0; got {value}")
        for name, none in (("threads", "PyTorch's choice"), ("patience", "to the last step")):
            if (value := getattr(self, name)) is not None:
                most = MOST_THREADS if name == "threads" else None
                own = whole_number(value, name, least=1, most=most, note=f"or None: {none}")
                object.__setattr__(self, name, own)
        if self.clip is not None and not 0 < self.clip < math.inf:
            raise ValueError(f"clip must be positive, or None for no clipping; got {self.clip}")
        self._check_stopping()
        if self.start_from is not None:
            # A folder's name would not say in a record which weights they were.
            path = Path(self.start_from)
            object.__setattr__(self, "start_from", path / "network.pt" if path.is_dir() else path)

    def _check_stopping(self) -> None:
        """Raise a ValueError if target labels would decide when training stops."""
        if self.stop_by == "oracle" or self.stop_by.startswith("target_"):
            raise ValueError(
                "stop_by must be a score that reads no target label, such as "
                f"information_maximisation, or validation; got {self.stop_by!r}: target labels are "
                "for judging alone"
            )
        if self.patience is None and self.stop_by != DEFAULT_SCORE:
            raise ValueError(
                f"stop_by has no effect without patience; got stop_by={self.stop_by!r} and "
                "patience=None"
            )

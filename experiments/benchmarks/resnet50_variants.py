"""The variants of `resnet50_step.py`, and the training step that each of them takes."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from da.data import Batch
from da.feature import mmd2
from da.networks import Network, backbone, bottleneck
from da.ops import Backend

# Names of torch.set_float32_matmul_precision.
PRECISIONS = {"float32": "highest", "tf32": "high", "bf16": "high"}
CLASSES = 31


class Shape(NamedTuple):
    """Sizes of network and batch."""

    network: str = "resnet50"
    batch: int = 32  # images of each domain
    stored: int = 256
    side: int = 224

    @staticmethod
    def small() -> Shape:
        """Of a smoke test."""
        return Shape("resnet18", 2, 36, 32)


@dataclass(frozen=True)
class Variant:
    """One way to take the step."""

    name: str
    precision: Literal["float32", "tf32", "bf16"] = "bf16"
    channels_last: bool = True
    mmd: Backend | Literal["none"] = "auto"
    way: Literal["eager", "compiled", "graph"] = "eager"
    loader: Literal["", "CPU", "GPU"] = ""  # where its batches are augmented; "": in memory
    least: float = 15.0  # seconds that must be left

    @property
    def only_cuda(self) -> bool:
        """Whether the variant is for a GPU alone."""
        return self.way != "eager" or self.loader == "GPU"


BEST = "bf16 channels_last"
VARIANTS = (
    Variant(BEST),
    Variant(f"{BEST}, loader, augmented on the GPU", loader="GPU", least=20),
    Variant(f"{BEST}, loader, augmented on the CPU", loader="CPU", least=30),
    Variant("tf32", "tf32", channels_last=False),
    Variant("float32", "float32", channels_last=False),
    Variant(f"{BEST}, CUDA graph", way="graph", least=20),
    Variant("bf16", channels_last=False),
    Variant("tf32 channels_last", "tf32"),
    Variant(f"{BEST}, source only", mmd="none"),
    Variant(f"{BEST}, mmd by stream", mmd="stream"),
    Variant(f"{BEST}, mmd by gram", mmd="gram"),
    # Last, because compiling takes a minute or more.
    Variant(f"{BEST}, compiled", way="compiled", least=120),
)
# Of a smoke test.
FEW = [v for v in VARIANTS if v.name == BEST or v.loader == "CPU" or v.precision == "float32"]


class Pair(nn.Module):
    """A network whose outputs are a plain tuple, as the capture of a graph wants them."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features and logits."""
        outputs = self.network(x)
        return outputs.features, outputs.logits


class Loop:
    """The step of a variant, as one writes it by hand.

    Args:
        variant: How it is taken.
        shape: Sizes.
        batch: A batch on the device; the graph is captured with its images.
        device: Where the network is.
    """

    def __init__(self, variant: Variant, shape: Shape, batch: Batch, device: str) -> None:
        torch.set_float32_matmul_precision(PRECISIONS[variant.precision])
        torch.backends.cudnn.allow_tf32 = variant.precision != "float32"
        self.variant, self.device = variant, device
        body, width = backbone(shape.network, pretrained=False)
        neck, width = bottleneck(width, 256, dropout=0.5)
        network = Network(body, neck, nn.Linear(width, CLASSES), pretrained=True)
        format_ = torch.channels_last if variant.channels_last else torch.contiguous_format
        pair = Pair(network).to(device=device, memory_format=format_).train()
        groups = network.parameter_groups(0.003, backbone_factor=0.1)
        self.optimizer = torch.optim.SGD(groups, momentum=0.9, nesterov=True, weight_decay=5e-4)
        self.memory_format = format_
        self.passes: nn.Module = pair
        if variant.way == "compiled":
            self.passes = torch.compile(pair)
        elif variant.way == "graph":
            x = self.images(batch)
            with self.autocast():
                self.passes = torch.cuda.make_graphed_callables(pair, (x,))
        backend = "auto" if variant.mmd == "none" else variant.mmd
        self.alignment = partial(mmd2, backend=backend)

    def autocast(self) -> torch.autocast | nullcontext:
        """The context of the precision. A graph must not meet weights that were cast before."""
        if self.variant.precision != "bf16":
            return nullcontext()
        cached = self.variant.way != "graph"
        return torch.autocast(self.device, torch.bfloat16, cache_enabled=cached)

    def images(self, batch: Batch) -> Tensor:
        """Both domains as one batch (2b, 3, h, w), in the variant's order in memory."""
        both = torch.cat([batch.source_x, batch.target_x])
        return both.contiguous(memory_format=self.memory_format)

    def step(self, batch: Batch) -> None:
        """Take one step."""
        n, x = len(batch.source_x), self.images(batch)
        self.optimizer.zero_grad(set_to_none=True)
        with self.autocast():
            features, logits = self.passes(x)
            loss = functional.cross_entropy(logits[:n], batch.source_y)
            if self.variant.mmd != "none":
                loss = loss + self.alignment(features[:n].float(), features[n:].float())
        loss.backward()
        self.optimizer.step()

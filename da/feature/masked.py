"""MIC: a network learns to tell the class of a target image of which it sees a part."""

from __future__ import annotations

from typing import final

from torch import Tensor

from da.feature.consistency import weighted_consistency
from da.feature.teacher import Averaged
from da.feature.views import View, random_masking
from da.networks.network import Network
from da.train.method import BatchStatistics, Ramp, constant
from da.train.search_space import ADAPTATION


@final
class MIC(Averaged):
    """Train on the source, and teach masked target images with the labels of whole ones.

    Most of an image is hidden from the student, so it learns to tell the class from the rest. The
    labels come from a moving average of the network, which sees the whole image, and count as much
    as it is sure. trade_off * ramp(progress) * `weighted_consistency` is added to the source's
    cross-entropy. Evaluation uses `method.network`, the student.

    Args:
        network: Maps x (b, ...) to Outputs; the student.
        decay: Share of the teacher that stays in each step, in [0, 1]; default 0.9.
        view: What the student sees, x (b, ...) -> (b, ...), random in each row. Default
            `random_masking`, for images.
        trade_off: Factor of the loss; default 1.
        ramp: Progress in [0, 1] -> factor of the trade-off; default constant.
        batch_statistics: "source", "joint" (default) or "domain"; see `da.train.Adapt`.
        label_smoothing: Probability mass spread over the classes on the source, in [0, 1); see
            `da.train.Adapt`. Default 0.

    Raises:
        ValueError: `batch_statistics` is none of the three, or decay is not in [0, 1]. The default
            view also raises it for inputs that are not images.

    Example:
        Vectors need a view of their own, here one that hides half of the entries.

        >>> import torch
        >>> from da.data import Batch
        >>> from da.feature import MIC
        >>> from da.networks import mlp
        >>> x, y = torch.eye(3), torch.arange(3)
        >>> method = MIC(mlp(3, classes=3), view=lambda x: x * (torch.rand_like(x) > 0.5))
        >>> sorted(method.loss(Batch(x, y, x, y, y), progress=0.5))
        ['consistency', 'task']

    Paper:
        Hoyer, Dai, Wang, Van Gool: MIC: Masked Image Consistency for Context-Enhanced Domain
        Adaptation. CVPR 2023.

    Differences:
        The paper adds the term to SDAT with CDAN and MCC. Here it stands alone. Blocks are a
        quarter of the side; the authors' for classification have 64 of 224 pixels, and images are
        recoloured and blurred too. The teacher drops units as the student does; the authors'
        teacher does not.
    """

    search_space = {**ADAPTATION}

    def __init__(
        self,
        network: Network,
        *,
        decay: float = 0.9,
        view: View = random_masking,
        trade_off: float = 1.0,
        ramp: Ramp = constant,
        batch_statistics: BatchStatistics = "joint",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(
            network,
            weighted_consistency,
            0.0,
            decay,
            trade_off=trade_off,
            ramp=ramp,
            batch_statistics=batch_statistics,
            label_smoothing=label_smoothing,
        )
        self.view = view

    def views(self, target: Tensor) -> tuple[Tensor, Tensor]:
        return self.view(target), target

"""Devices without float64.

Oracle: the same functions on the CPU, in float64 where they want it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any
from unittest import mock

import pytest
import torch
from no_float64 import Apart, Away, NoFloat64, move, moved
from torch import Tensor, nn

import da.feature
import da.model
from da.arrays.devices import capable, narrowed, wide_type, widened
from da.data.batches import Batch, LabelledBatch, TargetBatch
from da.data.domain import Unlabelled
from da.data.multisource import MultiSourceBatch
from da.data.transforms import identity
from da.feature.partial import PADA
from da.kernels.bandwidths import resolve_bandwidth
from da.kernels.functions import gaussian, laplacian
from da.networks.network import Network
from da.networks.small import lenet
from da.recipes.methods import METHODS
from da.select.scores import SCORES, label_free_scores
from da.train.align import Align
from da.train.method import Method
from da.train.metrics import accuracy, confusion_matrix, macro_f1, per_class_recall, r_squared
from da.train.open_set import open_set_metrics
from da.train.regularize import Regularize
from da.train.reweight import Reweight

N, M, CLASSES = 14, 10, 5
GENERATOR = torch.Generator().manual_seed(0)
IMAGES, OTHERS = (torch.rand(n, 1, 16, 16, generator=GENERATOR) for n in (N, M))
LABELS, ROWS, COLUMNS = torch.arange(N) % CLASSES, torch.arange(N), torch.arange(M)
FEATURES, OTHER_FEATURES = (torch.randn(n, 24, generator=GENERATOR) for n in (N, M))
PROBABILITIES = torch.rand(M, CLASSES, generator=GENERATOR).softmax(dim=1)
LOGITS = torch.randn(N, CLASSES, generator=GENERATOR)


def test_the_cpu_widens_in_place_and_comes_back() -> None:
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    wide = widened(x)
    assert wide_type("cpu") == wide.dtype == torch.float64 and capable(x) is x
    value = narrowed(wide.square().sum(), x)
    value.backward()
    assert value.dtype == torch.float32 and x.grad is not None
    assert value.item() == 5 and x.grad.tolist() == [2, 4]


def test_a_device_without_float64_leaves_it_to_the_cpu() -> None:
    with Apart():
        x = moved(torch.tensor([1.0, 2.0], requires_grad=True))
        with pytest.raises(TypeError, match="float64"):
            x.double()
        wide = widened(x)
        assert wide.dtype == torch.float64 and wide.device.type == "cpu"
        value = narrowed(wide.square().sum(), x)
        value.backward()
        assert value.device == x.device != wide.device
        assert x.grad is not None and x.grad.cpu().tolist() == [2, 4]


def test_float64_labels_reach_a_device_without_float64() -> None:
    batch = LabelledBatch(OTHERS, torch.linspace(0, 1, M, dtype=torch.float64), COLUMNS)
    assert batch.to("cpu").y.dtype == torch.float64
    with Apart():
        there = batch.to("meta")
        assert there.y.dtype == torch.float32 and there.index.dtype == torch.int64
        assert there.y.device == there.x.device == torch.device("meta")


def test_nothing_has_float64_and_single_precision_is_left() -> None:
    with NoFloat64():
        assert wide_type("cpu") == torch.float32 and widened(torch.ones(2)).dtype == torch.float32


def losses() -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """Every function of two samples in `da.feature`, with its options that compute otherwise."""
    face = da.feature
    mmds = {
        f"mmd2 {kernel} {backend}": partial(face.mmd2, kernel=kernel, backend=backend)
        for kernel in ("gaussian", "rational_quadratic", "polynomial", "linear")
        for backend in ("gram", "stream")
    }
    names = "afn bnm entropy hard_afn mcc".split()
    of_one = {name: of_first(getattr(face, name)) for name in names}
    pairs = (
        "bsp cmd coral dare_gram energy_distance frechet_distance homm rsd sinkhorn_divergence "
        "moment_distance"
    ).split()
    of_two = {name: getattr(face, name) for name in pairs}
    of_two["moment_distance"] = lambda x, y: face.moment_distance([x[:6], x[6:]], y)
    weights = torch.linspace(0.1, 1, N)
    return (
        mmds
        | of_one
        | of_two
        | {
            "mmd2 linear estimator": lambda x, y: face.mmd2(x[:M], y, estimator="linear"),
            "mmd2 weights": lambda x, y: face.mmd2(x, y, source_weights=like_device(weights, x)),
            "mmd2 laplacian": partial(face.mmd2, kernel="laplacian", bandwidth=10.0),
            "mmd2 median": partial(face.mmd2, bandwidth="median", estimator="biased"),
            "cmd without bounds": partial(face.cmd, bounds=None),
            "joint_mmd2": lambda x, y: face.joint_mmd2([x, x[:, :3]], [y, y[:, :3]]),
            "local_mmd2": lambda x, y: face.local_mmd2(
                x, y, like_device(LABELS, x), like_device(PROBABILITIES, x)
            ),
            "contrastive_discrepancy": lambda x, y: face.contrastive_discrepancy(
                x, y, like_device(LABELS, x), like_device(LABELS[:M], y)
            ),
            "sliced_wasserstein": face.sliced_wasserstein,
            "nuclear_wasserstein": face.nuclear_wasserstein,
            "risk_variance": lambda x, y: face.risk_variance(x[0]),
            "irm_penalty": lambda x, y: face.irm_penalty(x, like_device(LABELS, x)),
            "gradient_variances": lambda x, y: face.gradient_variances(
                x, x, like_device(LABELS, x)
            ).sum(),
            "mixed_style": lambda x, y: (
                face.mixed_style(
                    x, like_device(torch.arange(N).flip(0), x), like_device(weights, x)
                )
                .square()
                .sum()
            ),
        }
    )


def of_first(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x, y: function(x)


def like_device(z: Tensor, x: Tensor) -> Tensor:
    return Away(z) if isinstance(x, Away) else z


LOSSES = losses()
# Rows far apart beside a narrow kernel, which want float64.
COARSE = {
    "far from the others": (partial(da.feature.mmd2, bandwidth=4.0), 100.0, 1.0),
    "far from each other": (partial(da.feature.mmd2, bandwidth=4.0), 0.0, 50.0),
}


def value_and_gradients(loss: Callable, x: Tensor, y: Tensor) -> tuple[Tensor | None, ...]:
    x, y = x.clone().requires_grad_(), y.clone().requires_grad_()
    value = loss(x, y)
    return value.detach(), *torch.autograd.grad(value, [x, y], allow_unused=True)


def on_another_device(loss: Callable, x: Tensor, y: Tensor) -> tuple[Tensor | None, ...]:
    with Apart():
        first, second = moved(x.requires_grad_()), moved(y.requires_grad_())
        value = loss(first, second)
        assert value.device == first.device
        found = torch.autograd.grad(value, [first, second], allow_unused=True)
        return tuple(None if z is None else z.detach().cpu() for z in (value, *found))


def assert_near(
    found: Sequence[Tensor | None], right: Sequence[Tensor | None], tolerance: float
) -> None:
    for a, b in zip(found, right, strict=True):
        assert (a is None) == (b is None)
        if a is not None and b is not None:
            torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance * float(b.abs().max()))


def test_every_loss_of_the_face_is_among_these() -> None:
    named = {name.split()[0] for name in LOSSES} | {"FreshDraws"}
    functions = {name for name in da.feature.__all__ if name[0].islower()}
    functions -= {"reject_unsure", "domain_confusion_loss"}  # of logits, which DANN's test has
    assert functions <= named


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_needs_no_float64(name: str) -> None:
    right = value_and_gradients(LOSSES[name], FEATURES, OTHER_FEATURES)
    with NoFloat64():
        found = value_and_gradients(LOSSES[name], FEATURES, OTHER_FEATURES)
    if name == "sliced_wasserstein":  # directions in float32 are other draws
        assert float(found[0] or 0) == pytest.approx(float(right[0] or 0), rel=0.1)
    else:
        assert_near(found, right, 3e-4)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_on_such_a_device_is_as_accurate_as_on_the_cpu(name: str) -> None:
    right = value_and_gradients(LOSSES[name], FEATURES, OTHER_FEATURES)
    assert_near(on_another_device(LOSSES[name], FEATURES, OTHER_FEATURES), right, 1e-6)


@pytest.mark.parametrize("name", COARSE)
def test_far_rows_keep_their_digits_on_such_a_device(name: str) -> None:
    loss, shift, scale = COARSE[name]
    x, y = FEATURES * scale, OTHER_FEATURES * scale + shift
    x[1], y[1] = x[0] + 0.1, y[0] + 0.2
    right = value_and_gradients(loss, x.double(), y.double())
    found = on_another_device(loss, x, y)
    assert_near(found, [None if z is None else z.float() for z in right], 1e-5)


@pytest.mark.parametrize("kernel", [gaussian, laplacian])
@pytest.mark.parametrize("bandwidth", ["mean", "median"])
def test_kernels_find_their_bandwidth_there(kernel: Callable, bandwidth: str) -> None:
    def mean(x: Tensor, y: Tensor) -> Tensor:
        s = resolve_bandwidth(x.detach(), bandwidth)
        return kernel(x, y, bandwidth=s).mean()

    right = value_and_gradients(mean, FEATURES, OTHER_FEATURES)
    assert_near(on_another_device(mean, FEATURES, OTHER_FEATURES), right, 1e-6)


def penalties() -> dict[str, Any]:
    model = da.model
    return {
        "l2_sp": model.l2_sp,
        "bss": model.bss,
        "lwf": model.lwf,
        "delta": partial(model.delta, layers=("0",)),
    }


def methods() -> dict[str, Callable[[Network], Method]]:
    """Every method: the rows of the image scripts, and the others of the two faces."""
    rows: dict[str, Callable[..., Method]] = dict(METHODS)
    head = {"parts": 2, "others": 3}
    others: dict[str, Callable[[Network], Method]] = {
        "ADDA": da.feature.ADDA,
        "BA3US": da.feature.BA3US,
        "IWAN": da.feature.IWAN,
        "M3SDA": da.feature.M3SDA,
        "OSBP": da.feature.OSBP,
        "PADA": PADA,
        "Reweight": partial(Reweight, weights=torch.linspace(0, 1, N)),
        "weighted Align": partial(
            Align, alignment=da.feature.mmd2, source_weights=torch.linspace(0, 1, N)
        ),
        "BiTuning": partial(da.model.BiTuning, queue_size=4),
        "CoTuning": lambda net: da.model.CoTuning(
            net, lenet(CLASSES, features=8), torch.eye(CLASSES).softmax(1)
        ),
        "EqualWeights": partial(da.model.EqualWeights, tasks=head),
        "UncertaintyWeights": partial(da.model.UncertaintyWeights, tasks=head),
        "PCGrad": partial(da.model.PCGrad, tasks=head),
        "GradualUnfreezing": da.model.GradualUnfreezing,
        "LayerwiseDecay": da.model.LayerwiseDecay,
        "Delta": partial(da.model.Delta, layers=["0"]),
        "Tent": da.model.Tent,
        "EATA": partial(da.model.EATA, margin=None),
        "SAR": partial(da.model.SAR, margin=None),
        "DeYO": partial(da.model.DeYO, filter_margin=None, drop=-2.0),
        "CoTTA": partial(da.model.CoTTA, view=lambda z: z / 2, views=2),
        "RoTTA": partial(da.model.RoTTA, view=lambda z: z / 2, every=4),
        "NOTE": partial(da.model.NOTE, every=4),
        "SHOT": lambda net: da.model.SHOT(net, Unlabelled(OTHERS), identity),
    }
    regularized = {
        name: partial(Regularize, penalty=penalty) for name, penalty in penalties().items()
    }
    return rows | others | regularized


ROWS_AND_OTHERS = methods()


def batch_for(method: Method, put: Callable[[Tensor], Tensor]) -> Any:
    """A batch of the kind that a method takes, each tensor passed through `put`."""
    if isinstance(method, da.model.OnlineMethod | da.model.SHOT):
        return TargetBatch(put(OTHERS), put(COLUMNS))
    if isinstance(method, da.model.MultiTask):
        labels = torch.stack([LABELS % 2, LABELS % 3], dim=1)
        return LabelledBatch(put(IMAGES), put(labels), put(ROWS))
    if isinstance(method, Regularize | da.model.BiTuning | da.model.CoTuning):
        return LabelledBatch(put(IMAGES), put(LABELS), put(ROWS))
    both = put(IMAGES), put(LABELS), put(OTHERS), put(ROWS), put(COLUMNS)
    if isinstance(method, da.feature.M3SDA):
        return MultiSourceBatch(*both, put(ROWS % 2))
    return Batch(*both)


def moves(method: Method, put: Callable[[Tensor], Tensor]) -> Iterator[Tensor]:
    """The sums of the moves of one step, each differentiated; then the gradient of a filter."""
    for terms in method.train().step(batch_for(method, put), 0.5):
        total = sum(terms.values())
        assert isinstance(total, Tensor)
        total.backward()
        yield total.detach().cpu()
    yield from (p.grad.cpu() for p in method.network.parameters() if p.grad is not None)


@pytest.mark.parametrize("emulation", ["no float64 anywhere", "float64 on the CPU"])
@pytest.mark.parametrize("name", ROWS_AND_OTHERS)
def test_every_method_makes_a_step_without_float64(name: str, emulation: str) -> None:
    torch.manual_seed(0)
    known = CLASSES + 1 if name == "OSBP" else CLASSES
    method = ROWS_AND_OTHERS[name](lenet(known, width=4, features=8))
    twin = copy.deepcopy(method)
    torch.manual_seed(1)
    right = list(moves(method, lambda z: z))
    torch.manual_seed(1)
    if emulation == "no float64 anywhere":
        with NoFloat64():
            found = list(moves(twin, lambda z: z))
    else:
        with Apart():
            move(twin)
            found = list(moves(twin, Away))
    assert len(found) == len(right) > 1
    if not (name == "sliced" and emulation == "no float64 anywhere"):
        assert_near(found, right, 1e-3)


def test_metrics_and_scores_take_what_is_on_such_a_device() -> None:
    numbers, labels = LOGITS[:, 0], LOGITS[:, 1]
    figures: dict[str, Callable[[Callable], Any]] = {
        "accuracy": lambda put: accuracy(put(LOGITS), put(LABELS)),
        "macro_f1": lambda put: macro_f1(confusion_matrix(put(LOGITS), put(LABELS))),
        "recall": lambda put: per_class_recall(put(confusion_matrix(LOGITS, LABELS))).tolist(),
        "r_squared": lambda put: r_squared(put(numbers), put(labels)),
        "open": lambda put: open_set_metrics(put(LOGITS), put(LABELS), known=CLASSES - 1),
        "scores": lambda put: label_free_scores(put(LOGITS), put(FEATURES), SCORES),
    }
    for name, figure in figures.items():
        right = figure(lambda z: z)
        with Apart():
            assert figure(Away) == pytest.approx(right, rel=1e-12), name


def test_an_apple_gpu_is_what_auto_takes() -> None:
    from lightning_fabric.accelerators import MPSAccelerator
    from lightning_fabric.connector import _Connector

    with mock.patch.object(MPSAccelerator, "is_available", staticmethod(lambda: True)):
        assert _Connector._choose_auto_accelerator() == "mps"


def test_identity_layers_move_too() -> None:
    network = Network(nn.Flatten(), nn.Identity(), nn.Linear(4, 2))
    with Apart():
        move(network)
        assert network(Away(torch.ones(3, 2, 2))).logits.device.type == "meta"

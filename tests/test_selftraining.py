"""Self-training: the losses, the teacher's average, the views, and the methods made of them.

Oracles: NumPy loops, closed forms, SciPy's resampling, finite differences, a problem of clusters.
"""

from __future__ import annotations

import copy
import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform
from torch import Tensor, nn
from torch.nn import functional

from da.data.batches import Batch
from da.feature.consistency import hard_consistency, pseudo_label_loss, soft_consistency
from da.feature.selftraining import FixMatch, PseudoLabels
from da.feature.teacher import MeanTeacher, update_average
from da.feature.views import affine, random_affine, random_erasing, random_translation, strong_view
from da.networks.network import Network
from da.networks.small import lenet, mlp
from da.networks.statistics import split_statistics
from da.train.align import Align
from da.train.method import BatchStatistics

PAIRED = pytest.mark.parametrize(
    "function", [hard_consistency, soft_consistency], ids=lambda f: f.__name__
)


def logits(seed: int, n: int = 9, k: int = 4) -> np.ndarray:
    return 3 * np.random.default_rng(seed).standard_normal((n, k))


def softmax(row: np.ndarray) -> np.ndarray:
    return np.exp(row) / np.exp(row).sum()


def hard_by_loop(learning: np.ndarray, teaching: np.ndarray, threshold: float) -> float:
    total = 0.0
    for z, w in zip(learning, teaching, strict=True):
        q = softmax(w)
        if max(q) >= threshold:
            total -= math.log(softmax(z)[list(q).index(max(q))])
    return total / len(learning)


def soft_by_loop(learning: np.ndarray, teaching: np.ndarray, threshold: float) -> float:
    total = 0.0
    for z, w in zip(learning, teaching, strict=True):
        p, q = softmax(z), softmax(w)
        if max(q) >= threshold:
            total += sum((a - b) ** 2 for a, b in zip(p, q, strict=True)) / len(p)
    return total / len(learning)


# ---- functions of logits


@pytest.mark.parametrize("threshold", [0.0, 0.7, 0.9, 1.0])
def test_losses_by_loop(threshold):
    z, w = logits(0), logits(1)
    sure = sum(max(softmax(row)) >= threshold for row in w)
    assert sure == 9 if threshold == 0 else 0 < sure < 9 if threshold < 1 else sure == 0
    assert float(hard_consistency(z, w, threshold=threshold)) == pytest.approx(
        hard_by_loop(z, w, threshold), rel=1e-12
    )
    assert float(soft_consistency(z, w, threshold=threshold)) == pytest.approx(
        soft_by_loop(z, w, threshold), rel=1e-12
    )
    assert float(pseudo_label_loss(z, threshold=threshold)) == pytest.approx(
        hard_by_loop(z, z, threshold), rel=1e-12
    )


def test_default_thresholds_are_the_papers():
    """Two classes, confidences around 0.9, 0.95 and 0.968: each default takes the rows above it."""
    confidence = np.array([0.89, 0.91, 0.94, 0.96, 0.97])
    w = np.stack([np.log(confidence / (1 - confidence)), np.zeros(5)], axis=1)
    assert float(pseudo_label_loss(w)) == pytest.approx(
        -np.log(confidence[1:]).sum() / 5, rel=1e-12
    )
    assert float(hard_consistency(np.zeros((5, 2)), w)) == pytest.approx(
        2 / 5 * math.log(2), rel=1e-12
    )
    assert float(soft_consistency(np.zeros((5, 2)), w)) == pytest.approx(0.47**2 / 5, rel=1e-12)


def test_values_at_the_ends():
    sure, unsure = 1e4 * np.eye(3), np.zeros((3, 3))
    assert (
        float(pseudo_label_loss(sure, threshold=1.0)) == 0 and float(pseudo_label_loss(unsure)) == 0
    )
    assert float(pseudo_label_loss(unsure, threshold=0.0)) == pytest.approx(math.log(3), rel=1e-14)
    assert float(hard_consistency(unsure, sure, threshold=1.0)) == pytest.approx(
        math.log(3), rel=1e-14
    )
    assert float(soft_consistency(sure[[1, 2, 0]], sure)) == pytest.approx(2 / 3, rel=1e-14)
    assert float(soft_consistency(sure, sure)) == 0


def test_pseudo_labels_pull_confident_rows_to_their_class_and_leave_the_others():
    """The gradient of a row that counts is (p - onehot) / n; of one that does not, 0."""
    x = torch.from_numpy(logits(2)).requires_grad_()
    (gradient,) = torch.autograd.grad(pseudo_label_loss(x, threshold=0.9), x)
    expected = np.zeros_like(logits(2))
    for i, row in enumerate(logits(2)):
        p = softmax(row)
        if max(p) >= 0.9:
            expected[i] = (p - np.eye(4)[p.argmax()]) / 9
    assert 0 < (expected != 0).any(1).sum() < 9
    np.testing.assert_allclose(gradient.numpy(), expected, rtol=1e-10, atol=1e-15)


@PAIRED
def test_no_gradient_reaches_what_teaches_and_that_of_what_learns_is_right(function):
    learning, teaching = (torch.from_numpy(logits(seed, 5, 3)).requires_grad_() for seed in (0, 1))
    function(learning, teaching, threshold=0.6).backward()
    assert teaching.grad is None and learning.grad.abs().max() > 1e-3
    assert torch.autograd.gradcheck(
        lambda x: function(x, teaching.detach(), threshold=0.6), (learning,)
    )


@PAIRED
def test_a_step_brings_what_learns_nearer_to_what_teaches(function):
    learning, teaching = torch.from_numpy(logits(0)).requires_grad_(), torch.from_numpy(logits(1))
    (gradient,) = torch.autograd.grad(function(learning, teaching, threshold=0.0), learning)
    labels = teaching.argmax(1, keepdim=True)
    before, after = (z.softmax(1).gather(1, labels).mean() for z in (learning, learning - gradient))
    assert after > before


@PAIRED
def test_half_precision_under_autocast_is_computed_in_float32(function):
    x, y = (torch.from_numpy(logits(seed)).bfloat16() for seed in (0, 1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = function(x, y, threshold=0.5)
    assert value.dtype == torch.float32
    torch.testing.assert_close(
        value.double(), function(x.double(), y.double(), threshold=0.5), rtol=1e-5, atol=1e-7
    )


@PAIRED
def test_bad_input_is_one_error_that_names_the_argument(function):
    z = torch.ones(4, 3)
    for threshold in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="threshold must be in"):
            function(z, z, threshold=threshold)
    with pytest.raises(ValueError, match="same rows; got 4 and 3"):
        function(z, z[:3])
    with pytest.raises(ValueError, match="equal widths"):
        function(z, z[:, :2])
    with pytest.raises(ValueError, match="teaching_logits must be finite"):
        function(z, z * math.nan)
    with pytest.raises(TypeError, match="logits must hold floats"):
        function(z.long(), z)


# ---- the teacher's average


def normalised(split: bool = False) -> Network:
    torch.manual_seed(0)
    network = Network(
        nn.Linear(5, 4, bias=False), nn.Sequential(nn.BatchNorm1d(4), nn.Tanh()), nn.Linear(4, 3)
    ).double()
    if split:
        split_statistics(network)
    return network


@pytest.mark.parametrize("split", [False, True])
def test_the_average_of_a_constant_student_in_closed_form(split):
    """After k updates: student + decay^k (start - student).

    This holds for parameters, for running statistics, and for scales that two layers share.
    """
    average, student = normalised(split), normalised(split)
    with torch.no_grad():
        for value in [*student.parameters(), *student.buffers()]:
            value.add_(3)
    start = {name: value.clone() for name, value in average.state_dict().items()}
    for _ in range(7):
        update_average(average, student, 0.8)
    assert any("running_var" in name for name in start)
    for name, value in average.state_dict().items():
        other = student.state_dict()[name]
        expected = other + 0.8**7 * (start[name] - other) if value.is_floating_point() else other
        torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)


def test_the_ends_of_decay_and_modules_that_do_not_fit():
    student = normalised()
    with torch.no_grad():
        student.head.weight.add_(1)
    average = normalised()
    update_average(average, student, 1.0)
    assert torch.equal(average.head.weight, normalised().head.weight)
    update_average(average, student, 0.0)
    assert torch.equal(average.head.weight, student.head.weight)
    with pytest.raises(ValueError, match="decay must be in"):
        update_average(average, student, 1.01)
    with pytest.raises(ValueError, match="same names and shapes"):
        update_average(average, mlp(5, 3), 0.5)


# ---- views


def images(n: int = 40, h: int = 16, w: int = 24) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).standard_normal((n, 2, h, w)))


def test_random_translation_moves_each_image_by_whole_pixels_within_its_limit():
    torch.manual_seed(0)
    x = images()
    y, found = random_translation(x).numpy(), []
    for image, moved in zip(x.numpy(), y, strict=True):
        padded = np.pad(image, [(0, 0), (3, 3), (3, 3)], mode="edge")
        shifts = [
            (a, b)
            for a in range(-3, 4)
            for b in range(-3, 4)
            if np.array_equal(moved, padded[:, 3 - a : 19 - a, 3 - b : 27 - b])
        ]
        assert len(shifts) == 1
        found += shifts
    assert {a for a, _ in found} == {-2, -1, 0, 1, 2} and {b for _, b in found} == {
        -3,
        -2,
        -1,
        0,
        1,
        2,
        3,
    }  # 12.5 % of 16 and 24
    assert torch.equal(random_translation(x, limit=0.0), x)


def test_affine_equals_scipy():
    """SciPy counts (row, column) from the first pixel; here (right, down) from the middle."""
    rng = np.random.default_rng(1)
    x, matrix, shift = (
        images(5),
        np.eye(2) + 0.3 * rng.standard_normal((5, 2, 2)),
        3 * rng.standard_normal((5, 2)),
    )
    found = affine(x, torch.from_numpy(matrix), torch.from_numpy(shift)).numpy()
    middle = np.array([15 / 2, 23 / 2])
    for image, a, b, result in zip(x.numpy(), matrix, shift, found, strict=True):
        flipped = a[::-1, ::-1]
        for channel, expected in zip(image, result, strict=True):
            other = affine_transform(
                channel,
                flipped,
                offset=middle - flipped @ middle + b[::-1],
                order=1,
                mode="nearest",
            )
            np.testing.assert_allclose(expected, other, atol=1e-5)


def test_random_affine_turns_within_its_range_each_image_by_its_own_angle():
    """A plane's slope says where pixels come from: a turned plane has the turned gradient."""
    torch.manual_seed(0)
    right = torch.arange(33.0).repeat(33, 1)
    x = torch.stack([right, right.T])[None].repeat(
        200, 1, 1, 1
    )  # (200, 2, 33, 33): where from, in pixels

    def slopes(y: Tensor) -> np.ndarray:
        middle = y[:, :, 16, 16]
        return torch.stack(
            [y[:, :, 16, 17] - middle, y[:, :, 17, 16] - middle], dim=2
        ).numpy()  # (200, 2, 2)

    turned = slopes(random_affine(x, shear=0.0, limit=0.0))
    angle = np.degrees(np.arctan2(turned[:, 1, 0], turned[:, 0, 0]))
    np.testing.assert_allclose(np.linalg.det(turned), 1, atol=1e-3)
    np.testing.assert_allclose(
        turned @ turned.transpose(0, 2, 1), np.tile(np.eye(2), (200, 1, 1)), atol=1e-3
    )
    assert -30.1 < angle.min() < -25 and 25 < angle.max() < 30.1 and abs(angle.mean()) < 4
    sheared = slopes(random_affine(x, rotation=0.0, limit=0.0))
    np.testing.assert_allclose(sheared[:, :, 0], np.tile([1.0, 0.0], (200, 1)), atol=1e-3)
    assert -0.301 < sheared[:, 0, 1].min() < -0.25 and 0.25 < sheared[:, 0, 1].max() < 0.301
    both = slopes(random_affine(x, limit=0.0))
    np.testing.assert_allclose(np.linalg.det(both), 1, atol=1e-3)  # neither changes areas
    moved = random_affine(x, rotation=0.0, shear=0.0)[:, :, 16, 16].numpy() - 16
    assert np.abs(moved).max() < 33 / 8 + 1e-3 and (np.abs(moved).max(0) > 3.5).all()


def test_random_erasing_erases_a_rectangle_of_at_most_half_the_side():
    torch.manual_seed(0)
    x = images(300).abs() + 1
    y = random_erasing(x)
    gone = (y == 0).numpy()
    assert torch.equal(y[y != 0], x[y != 0]) and np.array_equal(gone[:, 0], gone[:, 1])
    shapes = []
    for mask in gone[:, 0]:
        rows, columns = mask.any(1), mask.any(0)
        assert np.array_equal(mask, rows[:, None] & columns[None])  # a product: a rectangle
        shapes.append((rows.sum(), columns.sum()))
    heights, widths = np.array(shapes).T
    assert heights.max() == 8 and widths.max() == 12 and heights.min() == 0
    assert torch.equal(random_erasing(x, side=0.0), x)


@pytest.mark.parametrize("view", [random_translation, random_affine, random_erasing, strong_view])
def test_views_draw_from_the_global_generator_and_are_alike_under_autocast(view):
    x = images(6).float()
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append(view(x))
    torch.manual_seed(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        drawn.append(view(x))
    assert (
        torch.equal(drawn[0], drawn[1])
        and not torch.equal(drawn[0], drawn[2])
        and torch.equal(drawn[0], drawn[3])
    )
    assert drawn[0].shape == x.shape and drawn[0].dtype == x.dtype
    for wrong in (torch.ones(4, 3), torch.ones(2, 1, 8, 8, dtype=torch.uint8)):
        with pytest.raises(ValueError, match="x must be images, floats"):
            view(wrong)


@pytest.mark.parametrize(
    "call, name",
    [
        (partial(random_translation, limit=1.0), "limit"),
        (partial(random_affine, rotation=-1.0), "rotation"),
        (partial(random_affine, shear=math.inf), "shear"),
        (partial(random_erasing, side=1.5), "side"),
    ],
)
def test_options_of_views_out_of_range(call, name):
    with pytest.raises(ValueError, match=name):
        call(images(1))


# ---- the methods


def noise(scale: float):
    return lambda x: x + scale * torch.randn_like(x)


def still(x: Tensor) -> Tensor:
    return x


def doubled(x: Tensor) -> Tensor:
    return 2 * x


def small() -> Batch:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 8, 5, dtype=torch.float64, generator=generator)
    return Batch(x[0], torch.arange(8) % 3, x[1] + 1, torch.arange(8), torch.arange(8))


def plain() -> Network:
    torch.manual_seed(0)
    return Network(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).double()


def array(x: Tensor) -> np.ndarray:
    return x.detach().numpy()


def test_the_terms_of_pseudo_labels_and_fixmatch_are_the_papers():
    network, data = plain(), small()
    source, target, strong = (
        network(x).logits for x in (data.source_x, data.target_x, 2 * data.target_x)
    )
    threshold = float(
        target.softmax(1).amax(1).median().detach()
    )  # of some rows, whatever the weights are
    terms = PseudoLabels(network, threshold=threshold, trade_off=7.0, ramp=lambda p: p).loss(
        data, 0.5
    )
    assert list(terms) == ["task", "pseudo"]
    torch.testing.assert_close(terms["task"], functional.cross_entropy(source, data.source_y))
    assert (
        terms["pseudo"].item()
        == pytest.approx(3.5 * hard_by_loop(array(target), array(target), threshold), rel=1e-12)
        != 0
    )
    assert (
        PseudoLabels(network, threshold=threshold).loss(data, 0.0)["pseudo"] == 0
    )  # the ramp starts at 0
    terms = FixMatch(
        network, weak=still, strong=doubled, threshold=threshold, trade_off=7.0, ramp=lambda p: p
    ).loss(data, 0.5)
    assert list(terms) == ["task", "consistency"]
    torch.testing.assert_close(terms["task"], functional.cross_entropy(source, data.source_y))
    assert (
        terms["consistency"].item()
        == pytest.approx(3.5 * hard_by_loop(array(strong), array(target), threshold), rel=1e-12)
        != 0
    )


def test_fixmatch_learns_from_the_strong_view_alone():
    """The gradient is that of cross-entropy on the strong view; none goes through the weak view."""
    network, data = plain(), small()
    weak = network(data.target_x).logits.detach()
    by_hand = functional.cross_entropy(network(2 * data.target_x).logits, weak.argmax(1))
    term = FixMatch(network, weak=still, strong=doubled, threshold=0.0).loss(data, 0.0)[
        "consistency"
    ]
    for found, expected in zip(
        *(torch.autograd.grad(v, list(network.parameters())) for v in (term, by_hand)), strict=True
    ):
        torch.testing.assert_close(found, expected)


def differing_teacher(network: Network, **options) -> MeanTeacher:
    method = MeanTeacher(network, threshold=0.0, **options).train()
    with torch.no_grad():
        for parameter in method.teacher.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return method


def test_defaults_of_the_methods_are_the_papers():
    """Thresholds 0.9, 0.95 and 0.968, and a teacher that keeps 0.99 of itself.

    The logits are the rows themselves, and only the source's row 0 is learned from.
    """
    confidence = torch.tensor([0.89, 0.91, 0.94, 0.96, 0.967, 0.969]).double()
    x = torch.stack([(confidence / (1 - confidence)).log(), torch.zeros(6).double()], dim=1)
    head = nn.Linear(2, 2, bias=False).double()
    head.weight.data.copy_(torch.eye(2))
    network = Network(nn.Identity(), nn.Identity(), head)
    batch = Batch(x, torch.zeros(6).long(), x, torch.arange(6), torch.arange(6))

    def term(method, name):
        return method.loss(batch, 1.0)[name].item()

    plain = {"trade_off": 1.0, "ramp": lambda progress: 1.0}
    pseudo = term(PseudoLabels(network, **plain), "pseudo")
    assert pseudo == pytest.approx(-confidence[1:].log().sum().item() / 6, rel=1e-10)
    fixed = term(FixMatch(network, weak=still, strong=still, **plain), "consistency")
    assert fixed == pytest.approx(-confidence[3:].log().sum().item() / 6, rel=1e-10)
    method = MeanTeacher(network, view=still, **plain)
    method.teacher.head.weight.data.neg_()  # says the opposite, as surely
    assert term(method, "consistency") == pytest.approx((2 * 0.969 - 1) ** 2 / 6, rel=1e-5)
    moves = method.step(batch, 0.0)
    next(moves)
    assert next(moves, None) is None
    torch.testing.assert_close(
        method.teacher.head.weight, (0.01 - 0.99) * torch.eye(2).double(), rtol=0, atol=1e-12
    )


def test_the_terms_of_the_mean_teacher_are_the_papers_and_the_teacher_gets_no_gradient():
    network, data = plain(), small()
    method = differing_teacher(network, view=doubled)
    terms = method.loss(data, 0.0)
    student, teacher = (net(2 * data.target_x).logits for net in (network, method.teacher))
    torch.testing.assert_close(
        terms["task"], functional.cross_entropy(network(data.source_x).logits, data.source_y)
    )
    assert (
        terms["consistency"].item()
        == pytest.approx(3 * soft_by_loop(array(student), array(teacher), 0.0), rel=1e-12)
        != 0
    )
    torch.stack(list(terms.values())).sum().backward()
    assert all(p.grad is None and not p.requires_grad for p in method.teacher.parameters())
    assert all(p.grad is not None for p in network.parameters())
    assert {id(p) for g in method.parameter_groups(0.1, 0.1) for p in g["params"]} == {
        id(p) for p in network.parameters()
    }


@pytest.mark.parametrize("mode", ["source", "joint", "domain"])
def test_the_teacher_normalises_as_the_student_and_keeps_its_statistics(mode: BatchStatistics):
    """A copy of the student on the same view says what the student says.

    The student's running statistics move, the teacher's stay.
    """
    data = small()
    method = MeanTeacher(normalised(), view=still, threshold=0.0, batch_statistics=mode).train()
    if (
        mode == "source"
    ):  # the student's target pass sees statistics that its source pass has just moved
        for module in method.network.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.momentum = 0.0
    before = copy.deepcopy(method.teacher.state_dict())
    assert method.loss(data, 0.0)["consistency"].item() == pytest.approx(0, abs=1e-25)
    for name, value in method.teacher.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert any(not torch.equal(b, before[name]) for name, b in method.network.named_buffers())
    changed = (
        method.network.bottleneck[0] if mode != "domain" else method.network.bottleneck[0].target
    )
    assert changed.training and method.teacher.training and changed.track_running_stats


def test_the_teacher_follows_after_the_optimiser_has_stepped_and_survives_a_restart():
    data, method = small(), MeanTeacher(normalised(), view=still, decay=0.9).train()
    start = copy.deepcopy(method.teacher.state_dict())
    moves = method.step(data, 0.0)
    terms = next(moves)
    torch.stack(list(terms.values())).sum().backward()
    torch.optim.SGD(method.parameter_groups(0.5, 1.0), lr=0.5).step()
    assert all(
        torch.equal(value, start[name]) for name, value in method.teacher.state_dict().items()
    )
    assert next(moves, None) is None
    for name, value in method.teacher.state_dict().items():
        student = method.network.state_dict()[name]
        torch.testing.assert_close(
            value, 0.9 * start[name] + 0.1 * student if value.is_floating_point() else student
        )
    assert not torch.equal(method.teacher.head.weight, start["head.weight"])
    other = MeanTeacher(normalised(), view=still)
    other.load_state_dict(method.state_dict())
    assert torch.equal(other.teacher.head.weight, method.teacher.head.weight)


@pytest.mark.parametrize("make", [PseudoLabels, FixMatch, MeanTeacher])
def test_defaults_are_for_images_and_run_with_every_treatment_of_statistics(make):
    torch.manual_seed(0)
    x, y = torch.randn(2, 8, 1, 16, 16), torch.arange(8)
    for mode in ("source", "joint", "domain"):
        method = make(lenet(10), batch_statistics=mode, threshold=0.0).train()
        terms = torch.stack(list(method.loss(Batch(x[0], y, x[1], y, y), 0.5).values()))
        assert terms.isfinite().all() and (terms > 0).all()
    with pytest.raises(ValueError, match="threshold must be in"):
        make(lenet(10), threshold=2.0)
    if make is not PseudoLabels:
        with pytest.raises(ValueError, match="give views of your own"):
            make(plain()).loss(small(), 0.0)


def test_decay_out_of_range():
    with pytest.raises(ValueError, match="decay must be in"):
        MeanTeacher(plain(), decay=-0.1)


def clusters(turn: float, seed: int, n: int = 150) -> tuple[Tensor, Tensor]:
    """Three clusters of spread 0.6 at radius 3, turned by `turn` degrees.

    The gaps between them lie 60 degrees from the middles.
    """
    y = torch.arange(n) % 3
    angle = 2 * math.pi * y / 3 + math.radians(turn)
    draw = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))
    return 3 * torch.stack([angle.cos(), angle.sin()], dim=1) + 0.6 * draw, y


def trained(make, turn: float, seed: int, steps: int = 300) -> float:
    """Accuracy on turned clusters, after training on clusters with labels and on these without."""
    torch.manual_seed(seed)
    method = make(mlp(2, 3, hidden=32, features=16)).train()
    (source_x, source_y), (target_x, target_y) = clusters(0, 2 * seed), clusters(turn, 2 * seed + 1)
    index = torch.arange(len(source_x))
    optimizer = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], lr=0.003)
    for t in range(steps):
        for terms in method.step(Batch(source_x, source_y, target_x, index, index), t / steps):
            optimizer.zero_grad(set_to_none=True)
            torch.stack(list(terms.values())).sum().backward()
            optimizer.step()
    with torch.no_grad():
        return (method.eval().network(target_x).logits.argmax(1) == target_y).float().mean().item()


METHODS = {
    "pseudo labels": PseudoLabels,
    "fixmatch": partial(FixMatch, weak=noise(0.1), strong=noise(0.5)),
    "mean teacher": partial(MeanTeacher, view=noise(0.5)),
}


@pytest.mark.slow
def test_boundaries_move_into_the_gaps_between_the_targets_clusters():
    """Turned by 40 of 60 degrees, most target rows are still nearer to their own class."""
    assert trained(partial(Align, alignment=None), 40, 0) < 0.9
    for name, make in METHODS.items():
        assert trained(make, 40, 0) > 0.985, name


def test_what_is_confidently_wrong_stays_wrong():
    """Turned by 120 degrees, each cluster is where another class was: every label is wrong."""
    for name, make in METHODS.items():
        assert trained(make, 120, 0, steps=150) < 0.05, name

"""Several sources.

Oracles: NumPy loops over rows, closed forms of single points, gradients by hand, one process for
two, a toy with a known answer.
"""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from torch import Tensor, nn

from da.data.batches import Batch
from da.data.domain import Labelled, Unlabelled
from da.data.multisource import MultiSourceBatch, MultiSourceBatches
from da.data.transforms import identity
from da.feature.multisource import M3SDA, moment_distance
from da.networks.network import Network
from da.networks.small import mlp
from da.records.run import Run
from da.train.align import Align
from da.train.config import TrainConfig
from da.train.evaluation import Evaluation
from da.train.loop import fit
from da.train.method import BatchStatistics, Method

D, WIDTH, CLASSES = 3, 4, 3


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def samples(count: int, width: int = D, seed: int = 0) -> tuple[list[Tensor], Tensor]:
    """`count` sources and a target, each of another size, place and spread."""
    sources = [
        (1 + 0.3 * i) * draw(4 + 2 * i, width, seed=seed + i) + 0.4 * i for i in range(count)
    ]
    return sources, draw(5, width, seed=seed + 99) - 0.7


def by_loops(sources: list[np.ndarray], target: np.ndarray, order: int) -> float:
    """The paper's equation, one feature of one row at a time."""

    def moment(x: np.ndarray, k: int) -> list[float]:
        return [sum(float(row[j]) ** k for row in x) / len(x) for j in range(x.shape[1])]

    def distance(x: np.ndarray, y: np.ndarray, k: int) -> float:
        return math.sqrt(sum((a - b) ** 2 for a, b in zip(moment(x, k), moment(y, k), strict=True)))

    total, n = 0.0, len(sources)
    for k in range(1, order + 1):
        total += sum(distance(x, target, k) for x in sources) / n
        for i in range(n):
            for j in range(i + 1, n):
                total += distance(sources[i], sources[j], k) / math.comb(n, 2)
    return total


# ---- the distance


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_it_is_the_equation_by_loops(count: int, order: int) -> None:
    sources, target = samples(count)
    expected = by_loops([x.numpy() for x in sources], target.numpy(), order)
    assert moment_distance(sources, target, order=order).item() == pytest.approx(
        expected, rel=1e-12
    )
    if order == 2:
        assert moment_distance(sources, target).item() == pytest.approx(expected, rel=1e-12)


def test_of_single_points_it_is_counted_by_hand() -> None:
    """Sources at 1, 2 and 4, target at 0.

    k = 1: 7 / 3 and (1 + 2 + 3) / 3. k = 2: 21 / 3 and (3 + 12 + 15) / 3.
    """
    sources, target = [torch.tensor([[x]]) for x in (1.0, 2.0, 4.0)], torch.zeros(1, 1)
    assert moment_distance(sources, target, order=1).item() == pytest.approx(7 / 3 + 2)
    assert moment_distance(sources, target).item() == pytest.approx(7 / 3 + 2 + 7 + 10)


@settings(deadline=None, max_examples=40)
@given(
    count=st.integers(1, 4),
    width=st.integers(1, 5),
    order=st.integers(1, 4),
    scale=st.floats(1e-2, 1e2),
    seed=st.integers(0, 10**6),
)
def test_orders_do_not_matter_and_it_is_never_negative(
    count: int, width: int, order: int, scale: float, seed: int
) -> None:
    sources, target = samples(count, width, seed)
    sources, target = [scale * x for x in sources], scale * target
    value = moment_distance(sources, target, order=order)
    assert value > 0
    for other in itertools.permutations([x.flip(0) for x in sources]):
        torch.testing.assert_close(
            moment_distance(other, target.flip(0), order=order), value, rtol=1e-10, atol=1e-12
        )


def test_each_source_counts_the_same_whatever_its_size() -> None:
    sources, target = samples(3)
    larger = [sources[0].repeat(10, 1), *sources[1:]]
    torch.testing.assert_close(
        moment_distance(larger, target), moment_distance(sources, target), rtol=1e-12, atol=1e-12
    )


def test_identical_samples_are_at_distance_zero_with_gradient_zero() -> None:
    x = draw(6, D).requires_grad_()
    value = moment_distance([x, x.detach().clone(), x.detach().clone()], x.detach().clone())
    (gradient,) = torch.autograd.grad(value, x)
    assert value == 0 and bool((gradient == 0).all())


@pytest.mark.parametrize("sign", [-1, 1])
def test_opposite_moves_of_two_sources_do_not_cancel_as_they_do_for_their_union(sign: int) -> None:
    target = draw(200, 1)
    sources = [target - 1, target + sign]
    assert moment_distance([torch.cat(sources)], target, order=1).item() == pytest.approx(
        0 if sign == 1 else 1, abs=1e-12
    )
    assert moment_distance(sources, target, order=1).item() == pytest.approx(
        3 if sign == 1 else 1, abs=1e-12
    )


@pytest.mark.parametrize("count", [1, 2, 3])
def test_its_gradient_is_that_of_finite_differences(count: int) -> None:
    sources, target = samples(count)
    inputs = [x.requires_grad_() for x in (*sources, target)]
    assert torch.autograd.gradcheck(lambda *xs: moment_distance(xs[:-1], xs[-1], order=3), inputs)


def test_the_gradient_draws_every_domain_to_the_others() -> None:
    """Order 1, one feature, sources at 0 and 1, target at 3.

    By hand, each mean's pull is a sum of signs.
    """
    sources, target = [torch.zeros(2, 1), torch.ones(4, 1)], torch.full((5, 1), 3.0)
    inputs = [x.requires_grad_() for x in (*sources, target)]
    first, second, third = torch.autograd.grad(moment_distance(sources, target, order=1), inputs)
    # Half of the pull to the target, all of the pull to source 2.
    torch.testing.assert_close(first, torch.full((2, 1), (-1 / 2 - 1) / 2))
    torch.testing.assert_close(second, torch.full((4, 1), (-1 / 2 + 1) / 4))
    torch.testing.assert_close(third, torch.full((5, 1), (1 / 2 + 1 / 2) / 5))


def test_kinds_and_precisions() -> None:
    sources, target = samples(3, 16)
    value = moment_distance(sources, target)
    array = moment_distance([x.numpy() for x in sources], target.numpy())
    assert isinstance(array, np.ndarray) and float(array) == pytest.approx(value.item(), rel=1e-14)
    single = moment_distance([x.float() for x in sources], target.float())
    assert single.dtype == torch.float32 and single.item() == pytest.approx(value.item(), rel=1e-6)
    assert (
        moment_distance([sources[0].float(), *sources[1:]], target.float()).dtype == torch.float64
    )
    half = [x.bfloat16() for x in sources], target.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = moment_distance(*half)
    expected = moment_distance([x.double() for x in half[0]], half[1].double())
    assert found.dtype == torch.float32 and found.item() == pytest.approx(expected.item(), rel=1e-6)


def test_far_from_the_origin_no_digits_of_float32_are_lost() -> None:
    """Means of 1e4 that differ by 1e-2, all of it in the inputs' own digits."""
    target = 1e4 + draw(50, D).float()
    sources = [target + torch.tensor([0.0078125, 0.0, 0.0]), target.clone()]  # 2^-7: exact there
    expected = by_loops([x.double().numpy() for x in sources], target.double().numpy(), 1)
    assert moment_distance(sources, target, order=1).item() == pytest.approx(expected, rel=1e-6)


def test_bad_input_is_one_error_that_names_the_argument() -> None:
    sources, target = samples(2)
    with pytest.raises(ValueError, match="sources must hold at least one sample"):
        moment_distance([], target)
    for order in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match=f"order must be a whole number >= 1; got {order}"):
            moment_distance(sources, target, order=order)  # type: ignore[arg-type]
    with pytest.raises(
        ValueError,
        match=r"sources\[1\] and target must have equal widths d; got \(6, 2\) and \(5, 3\)",
    ):
        moment_distance([sources[0], sources[1][:, :2]], target)
    with pytest.raises(ValueError, match=r"sources\[1\] must be finite"):
        moment_distance([sources[0], torch.full_like(sources[1], math.nan)], target)
    with pytest.raises(ValueError, match="target must be finite"):
        moment_distance(sources, torch.full_like(target, math.inf))
    with pytest.raises(
        ValueError, match=r"sources\[0\] must have shape \(n, d\) with at least one row"
    ):
        moment_distance([sources[0][:0], sources[1]], target)
    with pytest.raises(ValueError, match=r"sources\[0\] must have shape"):
        moment_distance(sources[0], target)  # one sample in place of a list of them
    with pytest.raises(TypeError, match=r"sources\[0\] must hold floats"):
        moment_distance([torch.ones(3, D).long()], target)
    with pytest.raises(TypeError, match=r"sources\[1\] and target must be of one kind"):
        moment_distance([sources[0], sources[1].numpy()], target)


# ---- the method


def network(seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return Network(nn.Linear(D, WIDTH), nn.Tanh(), nn.Linear(WIDTH, CLASSES)).double()


def batch() -> MultiSourceBatch:
    """4 rows of source 0, 6 of source 1, 3 of source 2; 5 of the target."""
    domain = torch.tensor([0] * 4 + [1] * 6 + [2] * 3)
    x = draw(13, D) + domain[:, None]
    return MultiSourceBatch(
        x,
        torch.arange(13) % CLASSES,
        draw(5, D, seed=1) - 1,
        torch.arange(13),
        torch.arange(5),
        domain,
    )


def gradients(value: Tensor, module: nn.Module) -> list[Tensor]:
    parameters = list(module.parameters())
    found = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for g, p in zip(found, parameters, strict=True)]


def is_zero(values: list[Tensor]) -> bool:
    return all(bool((v == 0).all()) for v in values)


@pytest.mark.parametrize("order", [1, 2, 4])
def test_the_terms_by_hand(order: int) -> None:
    net, data = network(), batch()
    method = M3SDA(net, order=order, trade_off=0.7, ramp=lambda p: p**2, label_smoothing=0.0)
    terms = method.train().loss(data, 0.5)
    assert list(terms) == ["task", "moments"]
    features = [
        net(data.source_x[rows]).features.detach().numpy()
        for rows in (slice(0, 4), slice(4, 10), slice(10, 13))
    ]
    moments = by_loops(features, net(data.target_x).features.detach().numpy(), order)
    assert terms["moments"].item() == pytest.approx(0.7 * 0.25 * moments, rel=1e-9)
    logits, total = net(data.source_x).logits.detach().numpy(), 0.0
    for row, label in zip(logits, data.source_y, strict=True):
        total -= row[label] - np.log(np.exp(row).sum())
    assert terms["task"].item() == pytest.approx(total / 13, rel=1e-9)


def test_equal_numbers_of_rows_make_the_task_the_mean_over_sources() -> None:
    net, data = network(), batch()
    rows = torch.tensor([0, 1, 2, 4, 5, 6, 10, 11, 12])
    source = (
        data.source_x[rows],
        data.source_y[rows],
        data.target_x,
        data.source_index[rows],
        data.target_index,
    )
    task = M3SDA(net).loss(MultiSourceBatch(*source, data.source_domain[rows]), 1.0)["task"]
    each = [
        nn.functional.cross_entropy(net(x).logits, y)
        for x, y in zip(source[0].split(3), source[1].split(3), strict=True)
    ]
    torch.testing.assert_close(task, torch.stack(each).mean())


@pytest.mark.parametrize("mode", ["source", "joint", "domain"])
def test_rows_are_told_apart_by_their_domain_wherever_they_stand(mode: BatchStatistics) -> None:
    def fresh() -> M3SDA:
        torch.manual_seed(0)
        return M3SDA(
            Network(nn.Linear(D, WIDTH), nn.BatchNorm1d(WIDTH), nn.Linear(WIDTH, CLASSES)).double(),
            batch_statistics=mode,
        ).train()

    data, mixed = batch(), torch.randperm(13, generator=torch.Generator().manual_seed(0))
    source = (
        data.source_x[mixed],
        data.source_y[mixed],
        data.target_x,
        data.source_index[mixed],
        data.target_index,
    )
    expected = fresh().loss(data, 0.5)
    torch.testing.assert_close(
        fresh().loss(MultiSourceBatch(*source, data.source_domain[mixed]), 0.5), expected
    )
    # The number of a source has no meaning.
    renamed = torch.tensor([7, 0, 3])[data.source_domain[mixed]]
    torch.testing.assert_close(fresh().loss(MultiSourceBatch(*source, renamed), 0.5), expected)
    wrong = fresh().loss(MultiSourceBatch(*source, data.source_domain), 0.5)
    assert not torch.isclose(wrong["moments"], expected["moments"], rtol=0.05)


def test_who_learns_what() -> None:
    """Moments move the features, by both domains, and not the head.

    The task does not see the target.
    """
    net, data = network(), batch()
    x, y = data.source_x.clone().requires_grad_(), data.target_x.clone().requires_grad_()
    terms = M3SDA(net).loss(
        MultiSourceBatch(
            x, data.source_y, y, data.source_index, data.target_index, data.source_domain
        ),
        1.0,
    )
    assert is_zero(gradients(terms["moments"], net.head))
    assert not is_zero(gradients(terms["moments"], net.backbone))
    assert not is_zero(gradients(terms["task"], net.head))
    assert not is_zero(gradients(terms["task"], net.backbone))
    by_source, by_target = torch.autograd.grad(terms["moments"], [x, y], retain_graph=True)
    assert bool((by_source.abs().sum(1) > 0).all()) and bool((by_target.abs().sum(1) > 0).all())
    (of_task,) = torch.autograd.grad(terms["task"], y, allow_unused=True, materialize_grads=True)
    assert of_task.abs().max() == 0


def test_descent_on_the_moments_brings_all_domains_together() -> None:
    net, data = network(), batch()
    method = M3SDA(net, trade_off=1.0)

    def gaps() -> list[float]:
        with torch.no_grad():
            groups = [data.source_x[:4], data.source_x[4:10], data.source_x[10:], data.target_x]
            means = [net(x).features.mean(0) for x in groups]
        return [(a - b).norm().item() for a, b in itertools.combinations(means, 2)]

    before = gaps()
    for _ in range(100):
        for parameter, gradient in zip(
            net.parameters(), gradients(method.loss(data, 1.0)["moments"], net), strict=True
        ):
            parameter.data -= 0.02 * gradient
    assert all(after < 0.5 * start for after, start in zip(gaps(), before, strict=True))


def test_what_is_refused() -> None:
    data = batch()
    plain = Batch(data.source_x, data.source_y, data.target_x, data.source_index, data.target_index)
    with pytest.raises(
        TypeError,
        match="batch must say which source each row is of; got Batch: train on MultiSourceBatches",
    ):
        M3SDA(network()).loss(plain, 0.0)
    with pytest.raises(ValueError, match="order must be a whole number >= 1; got 0"):
        M3SDA(network(), order=0)


def test_half_precision_keeps_the_terms_single() -> None:
    data, method = batch(), M3SDA(mlp(D, CLASSES)).train()
    x, y = data.source_x.float(), data.target_x.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = method.loss(
            MultiSourceBatch(
                x, data.source_y, y, data.source_index, data.target_index, data.source_domain
            ),
            0.5,
        )
    assert all(value.dtype == torch.float32 and torch.isfinite(value) for value in terms.values())
    torch.stack(list(terms.values())).sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in method.parameters())


# What each of two processes does: its shard of a batch, the mean of the gradients over both.
WORKER = """
import sys
import torch
from torch import distributed
from da.feature.multisource import M3SDA

rank, folder = int(sys.argv[1]), sys.argv[2]
store = f"file://{folder}/store"
distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
net, shards = torch.load(f"{folder}/data.pt", weights_only=False)
terms = M3SDA(net, trade_off=1.0).loss(shards[rank], 1.0)
sum(terms.values()).backward()
for parameter in net.parameters():
    distributed.all_reduce(parameter.grad)
    parameter.grad /= 2
gradients = [p.grad for p in net.parameters()]
torch.save({"moments": terms["moments"].detach(), "gradients": gradients}, f"{folder}/{rank}.pt")
distributed.destroy_process_group()
"""


def stream(batch_size: int) -> MultiSourceBatches:
    sources = [Labelled(draw(n, D, seed=n) + n / 10, torch.arange(n) % CLASSES) for n in (20, 30)]
    return MultiSourceBatches(
        sources,
        Unlabelled(draw(25, D)),
        batch_size=batch_size,
        seed=0,
        transform=lambda x, generator: x,
    )


@pytest.mark.slow
def test_two_processes_are_one_and_know_whose_rows_are_whose(tmp_path: Path) -> None:
    torch.save((network(), [stream(4).batch(3, rank, 2) for rank in (0, 1)]), tmp_path / "data.pt")
    (tmp_path / "worker.py").write_text(WORKER)
    command = [sys.executable, str(tmp_path / "worker.py")]
    processes = [
        subprocess.Popen(
            [*command, str(rank), str(tmp_path)], env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
        for rank in (0, 1)
    ]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    net = network()
    terms = M3SDA(net, trade_off=1.0).loss(stream(8).batch(3), 1.0)
    expected = gradients(torch.stack(list(terms.values())).sum(), net)
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt")
        torch.testing.assert_close(
            found["moments"], terms["moments"].detach(), rtol=1e-12, atol=1e-12
        )
        for a, b in zip(found["gradients"], expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


# ---- a toy whose answer is known

NOISE = 0.15


def toy(n: int = 200, seed: int = 0) -> tuple[list[Labelled], Labelled]:
    """Two classes, x_0 = +-1 + shift, x_1 = height, all with noise.

    The sources are moved by (0, 0) and (-0.25, 1), the target by (1, 0.5). The sources leave the
    boundary free between -1 and 0.75. A classifier fit to both takes the middle, -0.125. Class 0 of
    the target lies beyond it: accuracy (1 + Phi(-0.125 / 0.15)) / 2 = 0.6. A boundary at 0.375
    would be right for Phi(0.375 / 0.15) = 0.994 of all domains.
    """
    generator, y = torch.Generator().manual_seed(seed), torch.arange(n) % 2

    def at(shift: float, height: float) -> Labelled:
        middle = torch.stack([2.0 * y - 1 + shift, torch.full((n,), height)], dim=1)  # (n, 2)
        return Labelled(middle + NOISE * torch.randn(n, 2, generator=generator), y)

    return [at(0.0, 0.0), at(-0.25, 1.0)], at(1.0, 0.5)


def test_the_toy_is_what_it_says() -> None:
    sources, target = toy(n=40_000)

    def right(domain: Labelled, boundary: float) -> float:
        return ((domain.x[:, 0] > boundary).long() == domain.y).double().mean().item()

    assert all(right(source, -0.125) > 0.9999 for source in sources)
    assert right(target, -0.125) == pytest.approx((1 + norm.cdf(-0.125 / NOISE)) / 2, abs=0.01)
    assert all(
        right(domain, 0.375) > norm.cdf(0.375 / NOISE) - 0.003 for domain in (*sources, target)
    )


def trained(method: Method, seed: int, folder: Path) -> tuple[float, float]:
    """Accuracy on the target and the lower one on the sources, after the loop's own 300 steps."""
    sources, target = toy(seed=seed)
    config = TrainConfig(threads=1, learning_rate=0.03, evaluate_every=300)
    batches = MultiSourceBatches(
        sources, target.unlabelled(), batch_size=config.batch_size, seed=seed, transform=identity
    )
    run = Run.start(
        folder,
        {},
        experiment="toy",
        method="m",
        source="a+b",
        target="c",
        seed=seed,
        wandb="disabled",
    )
    result = fit(method, batches, config, run, Evaluation(target, identity))
    known = [
        (method.network(source.x).logits.argmax(1) == source.y).double().mean().item()
        for source in sources
    ]
    return result["selected"]["last"]["target_accuracy"], min(known)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_matching_each_source_solves_what_their_union_does_not(seed: int, tmp_path: Path) -> None:
    def net() -> Network:
        torch.manual_seed(seed)
        return mlp(2, 2, hidden=32, features=16)

    found, known = trained(Align(net(), None), seed, tmp_path / "union")
    assert found < 0.75 and known > 0.99
    found, known = trained(M3SDA(net()), seed, tmp_path / "m3sda")
    assert found > 0.95 and known > 0.99

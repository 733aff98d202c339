"""Many small networks trained at once.

Oracles: `fit` on each member alone, double sums in float64, and gradients by hand.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from da.arrays import NonFiniteError
from da.arrays.stacking import stacked_members, stacking
from da.data import Labelled, PairedBatches, identity
from da.feature import (
    AFN,
    BNM,
    BSP,
    CDAN,
    DANN,
    DSAN,
    JAN,
    MCC,
    MCD,
    MDD,
    EntropyMinimisation,
    PseudoLabels,
    cmd,
    coral,
    energy_distance,
    frechet_distance,
    hard_afn,
    homm,
    joint_mmd2,
    local_mmd2,
    mmd2,
    sliced_wasserstein,
)
from da.networks import Network, discriminator, reverse_gradient
from da.networks.adversary import fixed
from da.ops import Mixture, kernel_discrepancy
from da.records import Run
from da.train import Align, Evaluation, Member, TrainConfig, constant, fit, fit_stacked
from da.train.members import groups

WIDTH, CLASSES, FEATURES = 12, 3, 8
CONFIG = TrainConfig(
    steps=8, batch_size=10, evaluate_every=4, log_every=2, accelerator="cpu", threads=1
)
SPECS = ((0, 0.01, 1.0), (1, 0.05, 0.5), (2, 0.05, 2.0))  # seed, rate, factor of the trade-off


def small(width=FEATURES):
    return discriminator(width, hidden=(6,), dropout=0.3)


def aligned(alignment, **options):
    return lambda net, **own: Align(net, alignment, **options, **own)


METHODS = {
    "none": aligned(None),
    "adabn": aligned(None, batch_statistics="domain"),
    "mmd": aligned(mmd2),
    "mmd linear": aligned(partial(mmd2, estimator="linear")),
    "mmd biased": aligned(partial(mmd2, estimator="biased", kernel="rational_quadratic")),
    "mmd of a bandwidth": aligned(partial(mmd2, bandwidth=2.0)),
    "mmd of own statistics": aligned(mmd2, batch_statistics="domain"),
    "mmd of source statistics": aligned(mmd2, batch_statistics="source"),
    "coral": aligned(coral),
    "energy": aligned(energy_distance),
    "frechet": aligned(frechet_distance),
    "cmd": aligned(partial(cmd, bounds=None)),
    "homm": aligned(partial(homm, tanh=True)),
    "jan": JAN,
    "dsan": DSAN,
    "dann": lambda net, **own: DANN(net, small(), **own),
    "bsp": lambda net, **own: BSP(net, small(), **own),
    "cdan": lambda net, **own: CDAN(net, small(FEATURES * CLASSES), **own),
    "cdan_e": lambda net, **own: CDAN(
        net, small(FEATURES * CLASSES), entropy_conditioning=True, **own
    ),
    "mcd": lambda net, **own: MCD(net, hidden=(6,), generator_steps=2, **own),
    "mdd": lambda net, **own: MDD(net, hidden=(6,), **own),
    "entropy": EntropyMinimisation,
    "mcc": MCC,
    "bnm": BNM,
    "afn": AFN,
    "hard_afn": lambda net, **own: AFN(net, penalty=hard_afn, **own),
    "pseudo_labels": lambda net, **own: PseudoLabels(net, threshold=0.4, **own),
}


def network(norm=True):
    layers = [nn.BatchNorm1d(FEATURES)] if norm else []
    neck = nn.Sequential(nn.Linear(WIDTH, FEATURES), *layers, nn.ReLU(), nn.Dropout(0.5))
    return Network(nn.Identity(), neck, nn.Linear(FEATURES, CLASSES))


def domains():
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(CLASSES, WIDTH, generator=generator)
    found = []
    for count, shift in ((37, 0.0), (31, 0.7)):
        y = torch.randint(0, CLASSES, (count,), generator=generator)
        noise = torch.randn(count, WIDTH, generator=generator)
        found.append(Labelled(centres[y] + noise + shift, y))
    return found


def member(folder, make, seed, rate, factor, config=CONFIG, **facts):
    torch.manual_seed(seed)
    source, target = domains()
    # Adam makes steps of the rounding noise that is the gradient of a bias before the norm.
    method = make(network(norm=config.optimizer == "sgd"), ramp=constant)
    method.trade_off *= factor
    stream = PairedBatches(
        source, target.unlabelled(), batch_size=config.batch_size, seed=seed, transform=identity
    )
    own = replace(config, learning_rate=rate)
    names = {"method": "m", "source": "a", "target": "b", "seed": seed}
    run = Run.start(folder, {}, experiment="heads", **names, wandb="disabled")
    return Member(method, stream, own, run, Evaluation(target, identity, source), facts)


def together_and_alone(tmp_path, make, config=CONFIG, specs=SPECS):
    """Members after `fit_stacked` with what it returns, and equal ones after `fit`."""
    many = [member(tmp_path / "many", make, *spec, config) for spec in specs]
    single = [member(tmp_path / "single", make, *spec, config) for spec in specs]
    return many, fit_stacked(many), single, [fit(*each[:5]) for each in single]


def assert_equal_runs(one: Member, other: Member) -> None:
    """The same weights and the same numbers in every file of the record."""
    for (name, own), theirs in zip(
        one.method.state_dict().items(), other.method.state_dict().values(), strict=True
    ):
        np.testing.assert_allclose(own, theirs, rtol=1e-5, atol=1e-5, err_msg=name)
    first, second = one.run.directory, other.run.directory
    assert sorted(p.name for p in first.iterdir()) == sorted(p.name for p in second.iterdir())
    for own, theirs in zip(lines(first), lines(second), strict=True):
        assert own == pytest.approx(theirs, rel=1e-4, abs=1e-5)
    for path in first.glob("*.npz"):
        own, theirs = np.load(path), np.load(second / path.name)
        assert sorted(own) == sorted(theirs)
        for name in own:
            np.testing.assert_allclose(own[name], theirs[name], rtol=2e-3, atol=1e-5)


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", METHODS)
def test_the_numbers_are_those_of_separate_runs(name, tmp_path, capsys):
    many, results, single, expected = together_and_alone(tmp_path, METHODS[name])
    assert "one by one" not in capsys.readouterr().err
    for one, other, own, theirs in zip(many, single, results, expected, strict=True):
        assert_equal_runs(one, other)
        assert own["selected"].keys() == theirs["selected"].keys()
        for choice in own["selected"]:
            own_choice, their_choice = own["selected"][choice], theirs["selected"][choice]
            assert own_choice["step"] == their_choice["step"]
            assert own_choice["target_accuracy"] == their_choice["target_accuracy"]


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "adamw", "weight_decay": 0.1},
        {"clip": 0.05},
        {"schedule": "inverse", "weight_decay": 0.1},
    ],
    ids=["adamw", "clipped", "inverse"],
)
def test_every_optimiser_does_as_alone(changes, tmp_path, capsys):
    config = replace(CONFIG, **changes)
    many, _, single, _ = together_and_alone(tmp_path, METHODS["dann"], config)
    assert "one by one" not in capsys.readouterr().err
    for one, other in zip(many, single, strict=True):
        assert_equal_runs(one, other)


def test_members_that_differ_are_trained_in_groups(tmp_path):
    mmd, dann = METHODS["mmd"], METHODS["dann"]
    longer = replace(CONFIG, steps=9)
    places = iter(range(99))
    made = [
        member(tmp_path / str(next(places)), make, seed, rate, 1.0, config)
        for make, seed, rate, config in (
            (mmd, 0, 0.1, CONFIG),
            (dann, 0, 0.1, CONFIG),
            (mmd, 1, 0.2, CONFIG),
            (mmd, 0, 0.1, longer),
            (aligned(partial(mmd2, bandwidth=2.0)), 0, 0.1, CONFIG),
            (aligned(partial(mmd2, bandwidth=2.0)), 1, 0.1, CONFIG),
        )
    ]
    assert list(groups(made, at_once=8)) == [[0, 2], [1], [3], [4, 5]]
    five = [made[0]] * 5
    assert list(groups(five, at_once=2)) == [[0], [1, 2], [3, 4]]


def test_a_member_that_diverges_does_not_spoil_the_others(tmp_path, capsys):
    for name in ("none", "bnm", "mmd", "dsan"):
        specs = ((0, 0.01, 1.0), (1, 1e30, 1.0), (2, 0.05, 1.0))
        many = [member(tmp_path / name / "many", METHODS[name], *spec) for spec in specs]
        results = fit_stacked(many)
        assert isinstance(results[1], NonFiniteError)
        assert "not finite" in str(results[1]) and not many[1].run.finished
        told = capsys.readouterr().err
        assert "m a>b seed 1: the loss is not finite" in told and "seed 0: the loss" not in told
        for i in (0, 2):
            other = member(tmp_path / name / "single", METHODS[name], *specs[i])
            fit(*other[:5])
            assert_equal_runs(many[i], other)


def test_a_loss_that_reads_values_is_trained_one_by_one_and_that_is_told(tmp_path, capsys):
    def reading(x, y):
        return (x.mean(0) - y.mean(0)).square().sum() * float(x.detach().std())

    many, _, single, _ = together_and_alone(tmp_path, aligned(reading))
    assert "m a>b seed 0 and 2 more: trained one by one: its loss cannot be" in (
        capsys.readouterr().err
    )
    for one, other in zip(many, single, strict=True):
        assert_equal_runs(one, other)


def test_a_loss_that_would_silently_be_another_is_found(tmp_path, capsys):
    def only_with_a_gradient(x, y):  # vmap hides whether a gradient is wanted
        distance = (x.mean(0) - y.mean(0)).square().sum()
        return distance if x.requires_grad else 0 * distance

    many, _, single, _ = together_and_alone(tmp_path, aligned(only_with_a_gradient))
    assert "a step of it together with others is not its step alone" in capsys.readouterr().err
    for one, other in zip(many, single, strict=True):
        assert_equal_runs(one, other)


def test_random_directions_are_drawn_one_by_one(tmp_path, capsys):
    together_and_alone(tmp_path, aligned(sliced_wasserstein), specs=SPECS[:2])
    assert "trained one by one" in capsys.readouterr().err


def test_what_is_for_one_run_at_a_time_is_told(tmp_path, capsys):
    config = replace(CONFIG, accumulate=2)
    many, _, single, _ = together_and_alone(tmp_path, METHODS["none"], config, SPECS[:2])
    assert "accumulate, patience and start_from" in capsys.readouterr().err
    assert_equal_runs(many[1], single[1])


def test_facts_are_in_the_result_and_a_lone_member_is_trained(tmp_path):
    pair = [
        member(tmp_path / str(seed), METHODS["mcc"], seed, 0.1, 1.0, rows=float(seed))
        for seed in (0, 1)
    ]
    assert [result["facts"] for result in fit_stacked(pair)] == [{"rows": 0.0}, {"rows": 1.0}]
    alone = member(tmp_path / "alone", METHODS["mcc"], 3, 0.1, 1.0)
    assert fit_stacked([alone])[0]["selected"]["last"]["step"] == CONFIG.steps
    assert alone.run.finished and fit_stacked([]) == []


def test_saved_networks_are_of_one_member_alone(tmp_path):
    many = [member(tmp_path / str(seed), METHODS["none"], seed, 0.1, 1.0) for seed in range(6)]
    fit_stacked(many)
    sizes = {(each.run.directory / "network.pt").stat().st_size for each in many}
    weights = sum(t.numel() * t.element_size() for t in network().state_dict().values())
    assert max(sizes) < weights + 10_000
    pointers = {p.untyped_storage().data_ptr() for each in many for p in each.method.parameters()}
    assert len(pointers) == sum(len(list(each.method.parameters())) for each in many)


def test_streams_that_are_shared_make_one_batch(tmp_path):
    class Counting(PairedBatches):
        made = 0

        def batch(self, step, rank=0, world_size=1):
            type(self).made += 1
            return super().batch(step, rank, world_size)

    source, target = domains()
    stream = Counting(source, target.unlabelled(), batch_size=10, seed=0, transform=identity)
    many = [
        member(tmp_path / str(i), METHODS["none"], 0, rate, 1.0)._replace(stream=stream)
        for i, rate in enumerate((0.1, 0.2, 0.3, 0.4))
    ]
    fit_stacked(many)
    assert Counting.made < 2 * CONFIG.steps + 4 * len(many)


def double_sum(x, y, bandwidth, multipliers, u=None, v=None):
    """a S(x, x) + b S(y, y) - 2 c S(x, y) with a = b = c = 1, in float64."""
    z, n = np.concatenate([x, y]).astype(float), len(x)
    w = np.ones((len(z), 1)) if u is None else np.concatenate([u, v])
    w = w * np.where(np.arange(len(z)) < n, 1, -1)[:, None]
    total = 0.0
    for i in range(len(z)):
        for j in range(len(z)):
            d = ((z[i] - z[j]) ** 2).sum()
            total += w[i] @ w[j] * sum(np.exp(-d / (a * bandwidth)) for a in multipliers)
    return total


@pytest.mark.parametrize("weighted", [False, True])
def test_the_discrepancies_of_many_are_double_sums(weighted):
    torch.manual_seed(0)
    x, y = torch.randn(3, 5, 2, dtype=torch.float64), torch.randn(3, 4, 2, dtype=torch.float64)
    u = torch.rand(3, 5, 2, dtype=torch.float64) if weighted else None
    v = torch.rand(3, 4, 2, dtype=torch.float64) if weighted else None
    scales = torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64)
    x.requires_grad_()

    def of_member(x, y, s, *weights):
        mixture = Mixture("gaussian", (s, 2 * s))
        return kernel_discrepancy([x], [y], [mixture], *(weights or (None, None)))

    given = (x, y, scales, u, v) if weighted else (x, y, scales)
    with stacked_members():
        values = torch.func.vmap(of_member)(*given)
    for i in range(3):
        weights = (u[i].numpy(), v[i].numpy()) if weighted else (None, None)
        own = double_sum(x[i].detach().numpy(), y[i].numpy(), scales[i].item(), (1, 2), *weights)
        assert values[i].item() == pytest.approx(own, rel=1e-9)
    (gradient,) = torch.autograd.grad(values.sum(), x)
    for i in range(3):  # by the code for one sample
        own = x[i].detach().clone().requires_grad_()
        mixture = Mixture("gaussian", (scales[i].item(), 2 * scales[i].item()))
        weights = (u[i], v[i]) if weighted else (None, None)
        kernel_discrepancy([own], [y[i]], [mixture], *weights).backward()
        torch.testing.assert_close(gradient[i], own.grad, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(
    "loss",
    [
        mmd2,
        partial(mmd2, kernel="laplacian"),
        partial(mmd2, kernel="polynomial"),
        partial(mmd2, kernel="linear"),
        lambda x, y: joint_mmd2([x, x.softmax(1)], [y, y.softmax(1)], bandwidth=("mean", 1.69)),
        lambda x, y: local_mmd2(x, y, torch.tensor([0, 1, 1, 2, 0]), y.softmax(1)),
        partial(cmd, bounds=None),
    ],
    ids=["mmd", "laplacian", "polynomial", "linear", "joint", "local", "cmd"],
)
def test_losses_of_many_and_their_gradients_are_those_of_each(loss):
    torch.manual_seed(1)
    x, y = torch.randn(4, 5, 3), torch.randn(4, 6, 3) + 0.5
    many = x.clone().requires_grad_()
    with stacked_members():
        values = torch.func.vmap(loss)(many, y)
    values.sum().backward()
    for i in range(4):
        own = x[i].clone().requires_grad_()
        value = loss(own, y[i])
        value.backward()
        assert values[i].item() == pytest.approx(value.item(), rel=1e-5, abs=1e-6)
        torch.testing.assert_close(many.grad[i], own.grad, rtol=1e-4, atol=1e-6)


def test_each_member_reverses_its_gradient_by_its_own_factor():
    x, factors = torch.ones(3, 2, requires_grad=True), torch.tensor([0.0, 1.0, 2.5])
    torch.func.vmap(lambda x, f: reverse_gradient(x, f).sum())(x, factors).sum().backward()
    assert x.grad.tolist() == [[-0.0] * 2, [-1.0] * 2, [-2.5] * 2]
    x.grad = None
    torch.func.vmap(lambda x: reverse_gradient(x, 0.5).sum())(x).sum().backward()
    assert x.grad.tolist() == [[-0.5] * 2] * 3


def test_fixed_parameters_get_no_gradient_and_come_back():
    layer, frozen = nn.Linear(2, 1), nn.Linear(2, 1).requires_grad_(False)
    own = layer.weight
    x = torch.ones(1, 2, requires_grad=True)
    with fixed(layer, frozen):
        value = layer(x).sum() + frozen(x).sum()
    value.backward()
    assert layer.weight is own and own.grad is None and own.requires_grad
    assert not frozen.weight.requires_grad
    torch.testing.assert_close(x.grad, own.detach() + frozen.weight)


def test_values_are_looked_at_outside_alone():
    bad = torch.tensor([[float("nan")], [1.0]])
    with stacked_members():
        assert stacking()
        torch.func.vmap(mmd2)(bad[None], torch.ones(1, 2, 1))
    with pytest.raises(NonFiniteError):
        mmd2(bad, torch.ones(2, 1))

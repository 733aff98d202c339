"""Functions of the target's predictions and features, and the methods made of them.

Oracles: NumPy loops and SVDs, values that other libraries' code returned on stored arrays, closed
forms, gradcheck, a problem of clusters.
"""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from da.data.batches import Batch
from da.feature.adversarial import DANN
from da.feature.norms import AFN, BSP, afn, bsp, hard_afn
from da.feature.nuclear_norm import BNM, bnm
from da.feature.target import MCC, EntropyMinimisation, entropy, mcc
from da.networks.network import Network
from da.networks.small import mlp
from da.train.align import Align
from da.train.method import Adapt

PEERS = json.loads((Path(__file__).parent / "peer_values.json").read_text())
VALUES, INPUTS = PEERS["values"], {name: np.array(x) for name, x in PEERS["inputs"].items()}
OF_LOGITS = pytest.mark.parametrize("function", [entropy, mcc, bnm], ids=lambda f: f.__name__)
OF_FEATURES = pytest.mark.parametrize("function", [afn, hard_afn], ids=lambda f: f.__name__)


def softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def row_entropy(p: np.ndarray) -> float:
    return -sum(v * math.log(v) for v in p if v > 0)


def logits(n: int = 7, k: int = 4, seed: int = 0) -> np.ndarray:
    return 2 * np.random.default_rng(seed).standard_normal((n, k))


def test_entropy_by_loop_and_at_its_ends():
    z = logits()
    assert float(entropy(z)) == pytest.approx(
        np.mean([row_entropy(p) for p in softmax(z)]), rel=1e-12
    )
    assert float(entropy(np.zeros((3, 5)))) == pytest.approx(math.log(5), rel=1e-14)
    assert float(entropy(1e4 * np.eye(3))) == 0


def confusion_by_loop(z: np.ndarray, temperature: float) -> float:
    p = softmax(z / temperature)
    n, k = p.shape
    weight = [1 + math.exp(-row_entropy(row)) for row in p]
    weight = [n * w / sum(weight) for w in weight]
    confusion = [
        [sum(weight[i] * p[i, a] * p[i, b] for i in range(n)) for b in range(k)] for a in range(k)
    ]
    return (
        sum(confusion[a][b] / sum(confusion[a]) for a in range(k) for b in range(k) if a != b) / k
    )


@pytest.mark.parametrize("temperature", [0.5, 2.5])
def test_mcc_by_loop(temperature):
    z = logits()
    assert float(mcc(z, temperature=temperature)) == pytest.approx(
        confusion_by_loop(z, temperature), rel=1e-12
    )


def test_mcc_equals_the_value_of_tllib():
    """Its entropy has a 1e-5 within the logarithm, hence the tolerance."""
    assert float(mcc(INPUTS["logits_target"], temperature=2)) == pytest.approx(
        VALUES["tllib.mcc(temperature=2)"], rel=1e-6
    )


def test_mcc_at_its_ends():
    assert float(mcc(np.zeros((3, 5)))) == pytest.approx(1 - 1 / 5, rel=1e-14)
    assert float(mcc(1e5 * np.eye(4))) == pytest.approx(0, abs=1e-14)
    one_class = torch.tensor(
        [[500.0, 0.0, -500.0]] * 4, requires_grad=True
    )  # in float32 two classes have no probability
    value = mcc(one_class, temperature=0.1)
    (gradient,) = torch.autograd.grad(value, one_class)
    assert float(value.detach()) == 0 and bool(gradient.isfinite().all())


def test_mcc_does_not_learn_through_its_weights():
    """The gradient is that of finite differences with the weights held constant."""
    z = logits(5, 3)
    p0 = softmax(z / 2.5)
    weight = np.array([1 + math.exp(-row_entropy(row)) for row in p0])

    def held(z: np.ndarray) -> float:
        p = softmax(z / 2.5)
        confusion = (p * weight[:, None]).T @ p
        return 1 - (np.diag(confusion) / confusion.sum(1)).mean()

    x = torch.from_numpy(z).requires_grad_()
    (gradient,) = torch.autograd.grad(mcc(x), x)
    for i, j in np.ndindex(*z.shape):
        step = np.zeros_like(z)
        step[i, j] = 1e-5
        assert gradient[i, j].item() == pytest.approx(
            (held(z + step) - held(z - step)) / 2e-5, rel=1e-5, abs=1e-9
        )


def nuclear_norm(x: np.ndarray) -> float:
    return np.linalg.svd(x, compute_uv=False).sum()


def test_bnm_is_minus_the_nuclear_norm_over_the_batch():
    """The same oracle gives DeepDA's value, which is of the matrix itself, over min(n, K)."""
    raw = INPUTS["logits_target"]
    assert -nuclear_norm(raw) / min(raw.shape) == pytest.approx(VALUES["deepda.bnm"], rel=1e-12)
    for z in (raw, logits(3, 6), logits(1, 2)):
        assert float(bnm(z)) == pytest.approx(-nuclear_norm(softmax(z)) / len(z), rel=1e-12)


def test_bnm_is_least_where_rows_are_sure_and_classes_even():
    """One-hot rows, r of each of K classes: singular values sqrt(r), so -sqrt(K / n)."""
    even, uneven = 1e3 * np.eye(4)[[0, 1, 2, 3] * 3], 1e3 * np.eye(4)[[0] * 9 + [1, 2, 3]]
    assert float(bnm(even)) == pytest.approx(-math.sqrt(4 / 12), rel=1e-12)
    assert (
        float(bnm(even))
        < float(bnm(uneven))
        < float(bnm(1e3 * np.eye(4)[[0] * 12]))
        < float(bnm(np.zeros((12, 4))))
        < 0
    )


@pytest.mark.parametrize("name", ["equal", "zero", "one hot"])
def test_bnm_has_a_finite_gradient_where_singular_values_are_equal_or_zero(name):
    z = {
        "equal": 3 * torch.eye(4),
        "zero": torch.ones(5, 3),
        "one hot": 200 * torch.eye(3).repeat(2, 1),
    }[name].requires_grad_()
    (gradient,) = torch.autograd.grad(bnm(z), z)
    assert bool(gradient.isfinite().all())


def test_afn_has_the_value_of_tllib_and_moves_every_norm_by_its_step():
    assert float(afn(INPUTS["source"])) == pytest.approx(VALUES["tllib.afn(delta=1)"], rel=1e-12)
    x = torch.from_numpy(INPUTS["source"]).requires_grad_()
    (gradient,) = torch.autograd.grad(afn(x, step=0.3), x)
    moved = x.detach() - len(x) / 2 * gradient  # the loss is a mean of squares: one Newton step
    torch.testing.assert_close(moved.norm(dim=1), x.detach().norm(dim=1) + 0.3, rtol=1e-12, atol=0)
    torch.testing.assert_close(
        functional.normalize(moved), functional.normalize(x.detach()), rtol=1e-10, atol=1e-12
    )


def test_hard_afn_asks_for_a_mean_norm_of_25():
    x = np.array([[20.0, 0.0], [0.0, 30.0]])
    assert float(hard_afn(x)) == 0 and float(hard_afn(2 * x)) == pytest.approx(25**2)


def test_hard_afn_by_numpy():
    x = INPUTS["source"]
    for radius in (25.0, 2.0):
        assert float(hard_afn(x, radius=radius)) == pytest.approx(
            (np.linalg.norm(x, axis=1).mean() - radius) ** 2, rel=1e-12
        )


@OF_FEATURES
def test_a_row_of_zeros_has_the_gradient_zero(function):
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(function(x), x)
    assert torch.equal(gradient[0], torch.zeros(2)) and float(gradient[1].norm()) > 0.1


def test_bsp_equals_numpy_and_the_value_of_tllib():
    source, target = INPUTS["source"], INPUTS["target"]
    assert float(bsp(source, target)) == pytest.approx(VALUES["tllib.bsp"], rel=1e-12)
    largest = [np.sort(np.linalg.eigvalsh(x.T @ x))[::-1] for x in (source, target[:5])]
    for k in (1, 3, 5):
        assert float(bsp(source, target[:5], k=k)) == pytest.approx(
            sum(v[:k].sum() for v in largest), rel=1e-10
        )
    x = torch.eye(4, requires_grad=True)
    (gradient,) = torch.autograd.grad(bsp(x, 2 * torch.eye(4), k=2), x)
    assert bool(gradient.isfinite().all())


def test_gradients_are_those_of_finite_differences():
    z = torch.from_numpy(logits(5, 3)).requires_grad_()
    x, y = (torch.from_numpy(INPUTS[name][:4]).requires_grad_() for name in ("source", "target"))
    assert torch.autograd.gradcheck(entropy, (z,)) and torch.autograd.gradcheck(bnm, (z,))
    assert torch.autograd.gradcheck(hard_afn, (x,)) and torch.autograd.gradcheck(
        partial(bsp, k=2), (x, y)
    )


@OF_LOGITS
def test_of_logits_neither_a_shift_nor_the_order_of_rows_matters(function):
    z = logits()
    value = float(function(z))
    assert float(function(z[::-1].copy())) == pytest.approx(value, rel=1e-12)
    assert float(function(z + np.arange(7)[:, None])) == pytest.approx(value, rel=1e-12)
    assert float(function(z[:, ::-1].copy())) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("function", [entropy, mcc, bnm, afn, hard_afn, lambda x: bsp(x, x)])
def test_half_precision_under_autocast_is_computed_in_float32(function):
    x = torch.from_numpy(logits(16, 8)).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = function(x)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), function(x.double()), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "function, name",
    [
        (entropy, "logits"),
        (mcc, "logits"),
        (bnm, "logits"),
        (afn, "features"),
        (hard_afn, "features"),
    ],
)
def test_bad_input_is_one_error_that_names_the_argument(function, name):
    with pytest.raises(ValueError, match=f"{name} must be finite"):
        function(torch.tensor([[1.0, math.nan]]))
    with pytest.raises(ValueError, match=f"{name} must have shape"):
        function(torch.ones(3))
    with pytest.raises(TypeError, match=f"{name} must hold floats"):
        function(torch.ones(3, 2).long())


@pytest.mark.parametrize(
    "call, name",
    [
        (lambda x: mcc(x, temperature=0.0), "temperature"),
        (lambda x: afn(x, step=-1.0), "step"),
        (lambda x: hard_afn(x, radius=math.inf), "radius"),
        (lambda x: bsp(x, x, k=3), "k"),
        (lambda x: bsp(x, x, k=0), "k"),
    ],
)
def test_options_out_of_range(call, name):
    with pytest.raises(ValueError, match=f"{name} must be"):
        call(torch.ones(4, 2))


# ---- the methods


def clusters(turn: float, seed: int, n: int = 150) -> tuple[Tensor, Tensor]:
    """Three clusters of spread 0.6 at radius 3, turned by `turn` degrees.

    The gaps between them lie 60 degrees from the middles.
    """
    y = torch.arange(n) % 3
    angle = 2 * math.pi * y / 3 + math.radians(turn)
    noise = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))
    return 3 * torch.stack([angle.cos(), angle.sin()], dim=1) + 0.6 * noise, y


ADAM, SGD = partial(torch.optim.Adam, lr=0.003), partial(torch.optim.SGD, lr=0.01, momentum=0.9)


def trained(
    make, turn: float, seed: int, optimizer=ADAM, steps: int = 300
) -> tuple[Adapt, Tensor, Tensor]:
    """The method after training on clusters and on the same turned; the target's x and y."""
    torch.manual_seed(seed)
    method = make(mlp(2, 3, hidden=32, features=16)).train()
    (source_x, source_y), (target_x, target_y) = clusters(0, 2 * seed), clusters(turn, 2 * seed + 1)
    index = torch.arange(len(source_x))
    stepper = optimizer(method.parameters())
    for t in range(steps):
        for terms in method.step(Batch(source_x, source_y, target_x, index, index), t / steps):
            stepper.zero_grad(set_to_none=True)
            torch.stack(list(terms.values())).sum().backward()
            stepper.step()
    return method.eval(), target_x, target_y


@torch.no_grad()
def accuracy(method: Adapt, x: Tensor, y: Tensor) -> float:
    return (method.network(x).logits.argmax(1) == y).float().mean().item()


source_only = partial(Align, alignment=None)


@pytest.mark.parametrize("seed", [0, 2])
def test_boundaries_move_into_the_gaps_between_the_targets_clusters(seed):
    """Turned by 40 of 60 degrees, the target's clusters are cut by the source's boundaries."""
    plain, x, y = trained(source_only, 40, seed)
    assert accuracy(plain, x, y) < 0.96
    for make in (EntropyMinimisation, MCC, BNM):
        method, x, y = trained(make, 40, seed)
        assert accuracy(method, x, y) > 0.985, make.__name__
        with torch.no_grad():
            assert entropy(method.network(x).logits) < 0.3 * entropy(plain.network(x).logits), (
                make.__name__
            )


def test_entropy_alone_may_give_a_class_up_where_mcc_and_bnm_keep_it():
    """Cui et al.: sure predictions need not be diverse.

    Turned by 50 of 60 degrees, entropy ends sure of only two of the three classes.
    """
    found = {
        make.__name__: accuracy(*trained(make, 50, 0)) for make in (EntropyMinimisation, MCC, BNM)
    }
    assert found["EntropyMinimisation"] < 0.75 and found["MCC"] > 0.97 and found["BNM"] > 0.97


def norms(method: Adapt, x: Tensor) -> float:
    with torch.no_grad():
        return method.network(x).features.norm(dim=1).mean().item()


def test_afn_makes_norms_grow_and_hard_afn_draws_them_to_its_radius():
    plain, x, _ = trained(source_only, 20, 0, SGD)
    grown, *_ = trained(AFN, 20, 0, SGD)
    longer, *_ = trained(AFN, 20, 0, SGD, steps=600)
    assert norms(longer, x) > 1.3 * norms(grown, x) > 1.69 * norms(plain, x)
    unbounded, *_ = trained(
        AFN, 20, 0, ADAM
    )  # why the paper's SGD: Adam makes little of the gradient's size
    assert norms(unbounded, x) > 20 * norms(trained(source_only, 20, 0, ADAM)[0], x)
    for radius in (25.0, 8.0):
        method, x, y = trained(partial(AFN, penalty=partial(hard_afn, radius=radius)), 20, 0)
        assert norms(method, x) == pytest.approx(radius, rel=0.05) and accuracy(method, x, y) > 0.9


def small() -> tuple[Network, Batch]:
    torch.manual_seed(0)
    network = Network(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    x = torch.randn(2, 8, 5, dtype=torch.float64)
    return network, Batch(x[0], torch.arange(8) % 3, 2 * x[1], torch.arange(8), torch.arange(8))


@pytest.mark.parametrize(
    "make, name, weight, by_hand",
    [
        (EntropyMinimisation, "entropy", 0.1, lambda s, t: entropy(t.logits)),
        (MCC, "mcc", 1.0, lambda s, t: mcc(t.logits, temperature=2.5)),
        (partial(MCC, temperature=1.0), "mcc", 1.0, lambda s, t: mcc(t.logits, temperature=1.0)),
        (BNM, "bnm", 1.0, lambda s, t: bnm(t.logits)),
        (AFN, "norm", 0.05, lambda s, t: afn(s.features) + afn(t.features)),
        (
            partial(AFN, penalty=hard_afn),
            "norm",
            0.05,
            lambda s, t: hard_afn(s.features) + hard_afn(t.features),
        ),
    ],
)
def test_the_terms_are_the_papers(make, name, weight, by_hand):
    network, data = small()
    source, target = network(data.source_x), network(data.target_x)
    terms = make(network, ramp=lambda progress: progress).loss(data, 0.5)
    assert list(terms) == ["task", name]
    torch.testing.assert_close(
        terms["task"], functional.cross_entropy(source.logits, data.source_y)
    )
    torch.testing.assert_close(terms[name], 0.5 * weight * by_hand(source, target))
    assert make(network, trade_off=7.0).trade_off == 7.0


@pytest.mark.parametrize("make", [EntropyMinimisation, MCC, BNM])
def test_a_step_along_the_transfer_term_makes_the_target_surer_and_ignores_the_source(make):
    network, data = small()
    blind = Batch(
        data.source_x * 0 + 1, data.source_y, data.target_x, data.source_index, data.target_index
    )
    method = make(network)
    (one, other) = (list(method.loss(b, 0.0).values())[1] for b in (data, blind))
    torch.testing.assert_close(one, other)
    before = entropy(network(data.target_x).logits).item()
    gradients = torch.autograd.grad(one, list(network.parameters()))
    with torch.no_grad():
        for parameter, gradient in zip(network.parameters(), gradients, strict=True):
            parameter -= 0.05 / method.trade_off * gradient
    assert entropy(network(data.target_x).logits).item() < before
    assert all(g.abs().max() > 0 for g in gradients)


def test_bsp_is_dann_and_a_push_against_the_first_singular_vectors():
    """d s_1^2 / dX = 2 s_1 u_1 v_1^T by NumPy, through a linear bottleneck, at every progress."""
    torch.manual_seed(0)
    net = Network(nn.Identity(), nn.Linear(5, 4, bias=False), nn.Linear(4, 3)).double()
    x = torch.randn(2, 8, 5, dtype=torch.float64)
    data = Batch(x[0], torch.arange(8) % 3, 2 * x[1], torch.arange(8), torch.arange(8))
    method = BSP(net, nn.Linear(4, 1).double(), spectral_weight=0.3).train()
    terms = method.loss(data, 0.0)
    assert list(terms) == ["task", "domain", "spectral"]
    expected = np.zeros((4, 5))
    for rows in (data.source_x, data.target_x):
        u, s, v = np.linalg.svd(net(rows).features.detach().numpy())
        expected += 0.3 * 2 * s[0] * np.outer(u[:, 0], v[0]).T @ rows.numpy()
    (found,) = torch.autograd.grad(terms["spectral"], net.bottleneck.weight, retain_graph=True)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)
    later = method.loss(data, 0.7)
    assert later["spectral"].item() == terms["spectral"].item()
    plain = DANN(net, method.discriminator).train().loss(data, 0.7)
    for name in ("task", "domain"):
        gradients = [
            torch.autograd.grad(t[name], net.bottleneck.weight, retain_graph=True)[0]
            for t in (later, plain)
        ]
        torch.testing.assert_close(gradients[0], gradients[1])

"""The properties of every discrepancy between two samples, tested from one list.

All alignment losses of `da.recipes.methods` are in the list automatically, and so is the example in
README. What holds for such a loss is found by calling it, or read in its docstring (`described`);
docs/add_a_loss.md lists the words.

Oracles: the properties themselves, gradcheck, float64, and SciPy, NumPy and stored values for
CORAL, the energy distance and the Fréchet distance.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from da.arrays import check_two_samples, full_precision, like
from da.feature.covariance import coral
from da.feature.energy import energy_distance
from da.feature.frechet import frechet_distance
from da.feature.mmd import mmd2
from da.feature.moments import cmd, homm
from da.feature.regression import dare_gram
from da.feature.sinkhorn import sinkhorn_divergence
from da.feature.sliced import sliced_wasserstein
from da.recipes.methods import METHODS
from problems import ROOT


@dataclass(frozen=True)
class Discrepancy:
    """A function (source, target) -> scalar and which properties hold for it."""

    name: str
    function: Callable
    rows: int = 1  # the fewest rows it takes; with fewer it must raise
    symmetric: bool = True
    permutable: bool = True  # the order of the rows does not matter
    nonnegative: bool = True  # up to rounding; it is then zero between a sample and itself
    translatable: bool = True  # one shift of both samples changes nothing
    equal_sizes: bool = False  # needs n = m
    held: bool = False  # a part that comes from the data has no derivative
    fixed: Callable | None = None  # the same with a number for that part


DISCREPANCIES = [
    Discrepancy("mmd2", mmd2, rows=2, nonnegative=False),
    Discrepancy("mmd2 biased", partial(mmd2, estimator="biased")),
    Discrepancy(
        "mmd2 median",
        partial(mmd2, estimator="biased", bandwidth="median"),
        fixed=partial(mmd2, estimator="biased", bandwidth=3.0),
    ),
    Discrepancy(
        "mmd2 linear",
        lambda s, t: mmd2(s, t, estimator="linear"),
        rows=2,
        permutable=False,
        nonnegative=False,
        equal_sizes=True,
    ),
    Discrepancy("coral", coral, rows=2),
    Discrepancy("energy_distance", energy_distance),
    Discrepancy("cmd", cmd),
    Discrepancy("homm", homm, rows=2),
    Discrepancy("homm of order 4", lambda s, t: homm(s, t, order=4), rows=2),
    Discrepancy("homm of tanh", partial(homm, tanh=True), rows=2, translatable=False),
    Discrepancy(
        "sinkhorn_divergence",
        sinkhorn_divergence,
        fixed=partial(sinkhorn_divergence, regularization=1.0, iterations=5000, tolerance=1e-9),
    ),
    Discrepancy("sliced_wasserstein", sliced_wasserstein),
    # It sees the mean beside a column of ones.
    Discrepancy("dare_gram", lambda s, t: dare_gram(s, t, threshold=1.0), translatable=False),
]


def described(name: str, function: Callable) -> Discrepancy:
    """A discrepancy of which nothing is known but its docstring and its answers."""
    text = inspect.getdoc(getattr(function, "func", function)) or ""
    words = " ".join(text.split()).lower()
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return Discrepancy(
        name,
        function,
        rows=1 if takes(function, x[:1], x[1:2]) else 2,
        symmetric="not symmetric" not in words,
        permutable="order of the rows matters" not in words,
        nonnegative="scalar >= 0" in words,
        translatable="shift of both samples changes" not in words,
        equal_sizes=not takes(function, x[:2], x[2:]),
        held=re.search("held constant|without gradient", words) is not None,
    )


def takes(function: Callable, source: torch.Tensor, target: torch.Tensor) -> bool:
    """Whether a function takes as many rows of either sample."""
    try:
        function(source, target)
    except ValueError:
        return False
    return True


def means_over_spread(source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Measure how far apart two means are in units of the rows' spread: a scalar >= 0.

    The spread comes from both samples and is held constant.
    """
    x, y = check_two_samples(source, target, least=2)
    with full_precision(x):
        spread = torch.cat([x - x.mean(0), y - y.mean(0)]).detach().square().mean()
        gap = (x.mean(0) - y.mean(0)).square().sum()
        return like(gap / spread.clamp(min=torch.finfo(x.dtype).tiny), source)


def first_rows_beside_the_target(source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Compare sums of a sample that count later rows less; the order of the rows matters.

    It is not symmetric, and a shift of both samples changes it.
    """
    x, y = check_two_samples(source, target)
    if len(x) != len(y):
        raise ValueError(f"source and target need as many rows; got {len(x)} and {len(y)}")
    with full_precision(x):
        share = 1 / torch.arange(1, len(x) + 1, device=x.device, dtype=x.dtype)  # (n,)
        gap = ((share @ (x - y)) / len(x)).square().sum()
        return like(gap * (1 + y.square().mean()), source)


def loss_of_readme() -> Callable:
    """The function that README writes out."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = [b for b in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "def mine(" in b]
    names: dict[str, Callable] = {}
    exec(block, names)
    return names["mine"]


OFFERED = {
    name: loss.keywords["alignment"]
    for name, loss in METHODS.items()
    if getattr(loss, "keywords", {}).get("alignment")
}
LISTED = [known.function for known in DISCREPANCIES]
DISCREPANCIES += [
    described(name, function)
    for name, function in OFFERED.items()
    if getattr(function, "func", function) not in LISTED  # func is that of a partial
]
DISCREPANCIES += [
    described("the loss of README", loss_of_readme()),
    described("a scale from the data", means_over_spread),
    described("an order of the rows", first_rows_beside_the_target),
]
every = pytest.mark.parametrize("discrepancy", DISCREPANCIES, ids=lambda d: d.name)


def having(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "discrepancy", [d for d in DISCREPANCIES if getattr(d, name)], ids=lambda d: d.name
    )


def samples(
    discrepancy: Discrepancy, n: int = 6, m: int = 9, d: int = 3, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    m = n if discrepancy.equal_sizes else m
    draw = (torch.randn(rows, d, generator=generator, dtype=torch.float64) for rows in (n, m))
    source, target = draw
    return source, 1.4 * target + 0.3


@having("symmetric")
def test_it_is_symmetric(discrepancy):
    source, target = samples(discrepancy)
    torch.testing.assert_close(
        discrepancy.function(source, target),
        discrepancy.function(target, source),
        rtol=1e-10,
        atol=1e-12,
    )


@having("permutable")
def test_the_order_of_the_rows_does_not_matter(discrepancy):
    source, target = samples(discrepancy)
    generator = torch.Generator().manual_seed(1)
    permuted = (x[torch.randperm(len(x), generator=generator)] for x in (source, target))
    torch.testing.assert_close(
        discrepancy.function(*permuted),
        discrepancy.function(source, target),
        rtol=1e-10,
        atol=1e-12,
    )


@having("nonnegative")
def test_it_is_zero_between_a_sample_and_itself_in_another_order(discrepancy):
    source, _ = samples(discrepancy)
    assert abs(discrepancy.function(source, source.flip(0))) < 1e-10
    assert abs(discrepancy.function(source, source)) < 1e-10


@having("nonnegative")
@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    n=st.integers(2, 12),
    m=st.integers(2, 12),
    d=st.integers(1, 6),
    scale=st.floats(1e-3, 1e3),
    seed=st.integers(0, 10**6),
)
def test_it_is_nonnegative(discrepancy, n, m, d, scale, seed):
    source, target = samples(discrepancy, n, m, d, seed)
    assert discrepancy.function(scale * source, scale * target) >= -1e-9 * scale


@every
def test_it_is_near_zero_where_the_distributions_agree_and_larger_where_they_do_not(discrepancy):
    generator = torch.Generator().manual_seed(2)
    source, target = (
        torch.randn(800, 3, generator=generator, dtype=torch.float64) for _ in range(2)
    )
    same = abs(float(discrepancy.function(source, target)))
    moved = float(discrepancy.function(source, 2 * target + 1))
    assert same < 0.1 * moved


@having("translatable")
def test_one_shift_of_both_samples_changes_nothing(discrepancy):
    source, target = samples(discrepancy)
    shift = torch.tensor([1e3, -5.0, 0.25], dtype=torch.float64)
    torch.testing.assert_close(
        discrepancy.function(source + shift, target + shift),
        discrepancy.function(source, target),
        rtol=1e-8,
        atol=1e-10,
    )


@every
def test_its_gradient_is_that_of_finite_differences(discrepancy):
    """A scale that is held constant has no derivative, so a small step must lower the value."""
    source, target = (x.requires_grad_() for x in samples(discrepancy, n=4, m=5))
    if not discrepancy.held:
        function = discrepancy.fixed or discrepancy.function
        assert torch.autograd.gradcheck(function, (source, target))
        return
    value = discrepancy.function(source, target)
    (gradient,) = torch.autograd.grad(value, source)
    step = 1e-4 / gradient.norm()
    assert discrepancy.function(source - step * gradient, target) < value


@every
def test_float32_is_close_to_float64(discrepancy):
    source, target = samples(discrepancy, n=32, m=40, d=16)
    exact_source = source.float().double().requires_grad_()
    rough_source = source.float().requires_grad_()
    exact = discrepancy.function(exact_source, target.float().double())
    rough = discrepancy.function(rough_source, target.float())
    assert rough.dtype == torch.float32 and rough.shape == ()
    torch.testing.assert_close(rough.double(), exact, rtol=1e-5, atol=1e-6)
    exact.backward()
    rough.backward()
    torch.testing.assert_close(rough_source.grad.double(), exact_source.grad, rtol=1e-4, atol=1e-6)


@every
def test_arrays_in_give_a_number_out(discrepancy):
    source, target = samples(discrepancy)
    value = discrepancy.function(source.numpy(), target.numpy())
    assert isinstance(value, np.ndarray | np.floating | float)
    assert float(value) == pytest.approx(float(discrepancy.function(source, target)), abs=1e-14)


@every
def test_the_layout_in_memory_does_not_matter(discrepancy):
    source, target = samples(discrepancy)
    expected = discrepancy.function(source, target)
    for layout in (
        lambda x: x.T.contiguous().T,
        lambda x: x.repeat(1, 2)[:, : x.shape[1]],
        lambda x: x.repeat_interleave(2, 0)[::2],
    ):
        torch.testing.assert_close(
            discrepancy.function(layout(source), layout(target)), expected, rtol=1e-12, atol=1e-14
        )
    backward = (np.ascontiguousarray(x.numpy()[::-1])[::-1] for x in (source, target))
    assert float(discrepancy.function(*backward)) == pytest.approx(float(expected), rel=1e-12)


@every
def test_the_fewest_rows_are_enough_and_fewer_are_an_error(discrepancy):
    source, target = samples(discrepancy, n=discrepancy.rows, m=discrepancy.rows)
    source.requires_grad_()
    value = discrepancy.function(source, target)
    (gradient,) = torch.autograd.grad(value, source)
    assert bool(value.isfinite()) and bool(gradient.isfinite().all())
    with pytest.raises(ValueError, match="row"):
        discrepancy.function(source[: discrepancy.rows - 1], target)


@every
def test_coincident_rows_give_no_nan(discrepancy):
    source = torch.ones(4, 3, requires_grad=True)
    value = discrepancy.function(source, torch.ones(4, 3))
    (gradient,) = torch.autograd.grad(value, source)
    assert float(value.detach()) == pytest.approx(0, abs=1e-6) and bool(gradient.isfinite().all())


@every
def test_half_precision_under_autocast_is_computed_in_float32(discrepancy):
    source, target = (x.bfloat16() for x in samples(discrepancy, n=16, m=16))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = discrepancy.function(source, target)
    torch.testing.assert_close(
        value.double(), discrepancy.function(source.double(), target.double()), rtol=1e-4, atol=1e-5
    )


@every
def test_bad_input_is_one_error_that_names_the_argument(discrepancy):
    source, target = samples(discrepancy)
    with pytest.raises(ValueError, match="target must be finite"):
        discrepancy.function(source, torch.full_like(target, float("nan")))
    with pytest.raises(ValueError, match="equal widths"):
        discrepancy.function(source, target[:, :2])
    with pytest.raises(TypeError, match="source must hold floats"):
        discrepancy.function(source.long(), target)
    with pytest.raises(ValueError, match="source must have shape"):
        discrepancy.function(source[0], target)


def test_properties_are_found_by_calls_and_in_the_docstring():
    found = {d.name: d for d in DISCREPANCIES}
    readme, scaled = found["the loss of README"], found["a scale from the data"]
    ordered = found["an order of the rows"]
    assert (readme.rows, readme.nonnegative, readme.held) == (1, True, False)
    assert (scaled.rows, scaled.nonnegative, scaled.held) == (2, True, True)
    assert ordered.equal_sizes and not ordered.nonnegative
    assert not (ordered.symmetric or ordered.permutable or ordered.translatable)
    assert readme.symmetric and readme.permutable and readme.translatable


def test_homm_of_tanh_is_homm_of_the_tanh():
    source, target = (torch.randn(6, 3, dtype=torch.float64) for _ in range(2))
    torch.testing.assert_close(
        homm(source, target, tanh=True), homm(source.tanh(), target.tanh()), rtol=1e-12, atol=0
    )


def test_coral_equals_numpy_and_the_value_of_deepda():
    """DeepDA divides by 4 d^2 too; its own code returned the stored value on these arrays."""
    rng = np.random.default_rng(0)
    source, target = rng.standard_normal((16, 8)), 1.2 * rng.standard_normal((16, 8)) + 0.5
    by_numpy = ((np.cov(source.T) - np.cov(target.T)) ** 2).sum() / (4 * 8**2)
    assert float(coral(source, target)) == pytest.approx(by_numpy, rel=1e-12)
    assert float(coral(source, target)) == pytest.approx(0.055902573970747244, rel=1e-12)


def test_coral_does_not_see_the_mean_and_can_be_differentiated_twice():
    source = torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert coral(source, source + 7) < 1e-20
    x, y = source[:4].clone().requires_grad_(), 2 * source[4:]
    assert torch.autograd.gradgradcheck(lambda x: coral(x, y), (x,))


def test_energy_distance_is_the_square_of_scipys_in_one_dimension():
    rng = np.random.default_rng(0)
    for n, m in [(1, 1), (1, 5), (20, 13)]:
        source, target = rng.normal(size=(n, 1)), rng.normal(size=(m, 1)) * 2 + 1
        assert float(energy_distance(source, target)) == pytest.approx(
            scipy.stats.energy_distance(source[:, 0], target[:, 0]) ** 2
        )


def test_energy_distance_equals_its_definition_in_several_dimensions():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(6, 4)), rng.normal(size=(4, 4)) + 1
    mean = {
        key: np.mean([np.linalg.norm(a - b) for a in u for b in v])
        for key, u, v in (("xy", x, y), ("xx", x, x), ("yy", y, y))
    }
    assert float(energy_distance(x, y)) == pytest.approx(
        2 * mean["xy"] - mean["xx"] - mean["yy"], rel=1e-12
    )


def test_energy_distance_between_gaussians_far_apart_is_almost_twice_the_gap():
    """In one dimension E|x - x'| = 2 / sqrt(pi), and 2 E|x - y| = 2 g for a large gap g."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(2000, 1, generator=generator, dtype=torch.float64) for _ in range(2))
    assert float(energy_distance(x, y + 50)) == pytest.approx(100 - 4 / np.sqrt(np.pi), rel=2e-3)


def test_energy_distance_has_a_finite_gradient_at_coincident_points():
    x = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(energy_distance(x, x.detach().clone()), x)
    assert bool(gradient.isfinite().all())


def test_frechet_distance_is_that_of_normal_distributions_by_scipy():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(30, 4))
    y = generator.normal(size=(50, 4)) @ np.diag([1, 2, 0.5, 3]) + 1
    first, second = np.cov(x.T, ddof=0), np.cov(y.T, ddof=0)
    root = scipy.linalg.sqrtm(first)
    means = ((x.mean(0) - y.mean(0)) ** 2).sum()
    spread = np.trace(first + second - 2 * scipy.linalg.sqrtm(root @ second @ root).real)
    assert float(frechet_distance(x, y)) == pytest.approx(means + spread, rel=1e-10)
    shifted = frechet_distance(x, x + np.array([3.0, 0.0, 4.0, 0.0]))
    assert float(shifted) == pytest.approx(25.0)  # equal covariances leave the means

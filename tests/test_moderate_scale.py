"""Values whose squares overflow or underflow, where a common factor changes nothing.

Oracles: the answer for the same rows at usual size; powers of two, which are exact.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from da.feature import joint_mmd2, mmd2
from da.kernels.moderate_scale import moderate
from da.shallow import JDA, SSTCA, TCA, TJM
from da.shift import block_mmd_test, mmd_fuse, mmd_test, random_feature_mmd2, witness

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(20, 3)), RNG.normal(size=(15, 3)) + 1


@pytest.mark.parametrize("exponent", [-130, -76, -66, 63, 100, 124])
@pytest.mark.parametrize("kernel", ["gaussian", "laplacian", "rational_quadratic", "polynomial"])
def test_the_mmd_in_single_precision_does_not_see_the_scale(kernel: str, exponent: int) -> None:
    x, y = torch.from_numpy(X).float(), torch.from_numpy(Y).float()
    far = [torch.ldexp(z.double(), torch.tensor(exponent)).float() for z in (x, y)]
    options = {"kernel": kernel}
    found, wanted = mmd2(*far, **options), mmd2(x, y, **options)  # type: ignore[arg-type]
    tolerance = 1e-2 if exponent == -130 else 1e-4  # subnormal numbers have few digits
    assert found.item() == pytest.approx(wanted.item(), rel=tolerance)
    assert joint_mmd2([far[0]], [far[1]]).item() == pytest.approx(mmd2(x, y).item(), rel=tolerance)


@pytest.mark.parametrize("exponent", [-1000, -700, 530, 664, 1018])
@pytest.mark.parametrize("test", [mmd_test, mmd_fuse, block_mmd_test])
def test_tests_give_the_p_value_of_the_rows_at_usual_size(test, exponent: int) -> None:
    far = [np.ldexp(z, exponent) for z in (X, Y)]
    found, wanted = test(*far, permutations=50), test(X, Y, permutations=50)
    assert found.p_value == wanted.p_value
    assert found.statistic == pytest.approx(wanted.statistic, rel=1e-5)


@pytest.mark.parametrize("function", [witness, random_feature_mmd2])
def test_other_functions_of_the_bandwidth_alone(function) -> None:
    far = [np.ldexp(z, 664) for z in (X, Y)]
    np.testing.assert_allclose(function(*far), function(X, Y), rtol=1e-6)


def test_usual_samples_are_returned_as_they_are_and_a_factor_is_exact() -> None:
    x, y = torch.randn(3, 2), torch.zeros(3, 2)
    assert all(a is b for a, b in zip(moderate(x, y), (x, y), strict=True))
    assert moderate(y)[0] is y
    far = x.double() * 2.0**900
    assert torch.equal(moderate(far)[0].abs() / x.abs(), (moderate(far)[0] / x).abs())
    assert 0.5 <= float(moderate(far)[0].abs().max()) <= 1
    x = torch.full((2, 1), 2.0**80, requires_grad=True)
    moderate(x)[0].sum().backward()
    assert x.grad is not None and x.grad.tolist() == [[2.0**-81]] * 2


@pytest.mark.parametrize("adapter", [TCA, JDA, TJM, SSTCA])
@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_spectral_adapters_take_rows_that_require_a_gradient(adapter, kernel: str) -> None:
    x, y = torch.from_numpy(X), torch.from_numpy(Y)
    fitted = adapter(kernel=kernel, n_components=2).fit(x, y, torch.arange(20) % 2)
    found = fitted.transform(x.clone().requires_grad_())
    assert torch.equal(found.detach(), fitted.transform(x))

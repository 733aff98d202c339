"""Conversions and checks.

Oracles: the inputs themselves (values, dtypes, memory) and the stated errors.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch

from da.arrays import (
    NonFiniteError,
    as_matrix,
    check_two_samples,
    full_precision,
    like,
    normalised_weights,
)


def test_an_array_goes_in_and_an_array_comes_out():
    x = np.arange(6.0).reshape(3, 2)
    tensor = as_matrix(x, "x")
    assert torch.equal(tensor, torch.arange(6, dtype=torch.float64).reshape(3, 2))
    back = like(tensor, x)
    assert isinstance(back, np.ndarray) and np.array_equal(back, x)
    scalar = like(tensor.sum(), x)
    assert scalar.shape == () and float(scalar) == 15.0


def test_a_tensor_keeps_its_gradient():
    x = torch.ones(3, 2, requires_grad=True)
    value = like(as_matrix(x, "x").sum(), x)
    value.backward()
    assert x.grad is not None and torch.equal(x.grad, torch.ones(3, 2))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_raised_to_float32(dtype):
    # The sum overflows float16, so a check in half precision would refuse it.
    x = torch.full((3, 2), 60000.0, dtype=dtype)
    assert as_matrix(x, "x").dtype == torch.float32


def test_the_wider_precision_wins():
    first, second = check_two_samples(torch.ones(2, 3), torch.ones(4, 3, dtype=torch.float64))
    assert first.dtype == second.dtype == torch.float64


def test_one_object_given_twice_stays_one():
    x = torch.ones(2, 3, dtype=torch.bfloat16)
    first, second = check_two_samples(x, x)
    assert first is second


@pytest.mark.parametrize(
    "x",
    [
        np.arange(12.0).reshape(4, 3)[::-1],
        np.arange(12.0).reshape(3, 4).T,
        np.arange(12.0).reshape(4, 3).astype(">f8"),
        np.asfortranarray(np.arange(12.0).reshape(4, 3)),
    ],
    ids=["reversed", "transposed", "big-endian", "Fortran"],
)
def test_any_layout_of_an_array_is_read(x):
    assert np.array_equal(as_matrix(x, "x").numpy(), x)


def test_a_read_only_array_is_copied_without_a_warning(recwarn):
    x = np.ones((2, 2))
    x.flags.writeable = False
    as_matrix(x, "x")
    assert not recwarn.list


def test_finite_values_whose_sum_overflows_are_accepted():
    x = torch.full((4, 2), 3e38)
    assert torch.equal(as_matrix(x, "x"), x)


@pytest.mark.parametrize(
    ("x", "error", "says"),
    [
        ([[1.0]], TypeError, "source must be a torch tensor, a NumPy array, a .*; got list"),
        (
            torch.ones(2, 3, dtype=torch.int64),
            TypeError,
            "source must hold floats; got torch.int64",
        ),
        (np.array([["a"]]), TypeError, "source must hold floats; got <U1"),
        (torch.ones(3), ValueError, r"source must have shape \(n, d\).*got \(3,\)"),
        (torch.ones(2, 3, 4), ValueError, r"source must have shape \(n, d\).*got \(2, 3, 4\)"),
        (torch.ones(0, 3), ValueError, "at least one row"),
        (torch.ones(3, 0), ValueError, "one column"),
        (
            torch.tensor([[0.0, 1.0], [2.0, float("nan")]]),
            ValueError,
            "source must be finite; row 1",
        ),
        (np.array([[float("inf"), -float("inf")]]), ValueError, "source must be finite; row 0"),
        (torch.ones(2, 4), ValueError, "equal widths"),
        (np.ones((2, 3)), TypeError, "one kind"),
    ],
)
def test_bad_input_is_one_clear_error(x, error, says):
    with pytest.raises(error, match=says):
        check_two_samples(x, torch.ones(5, 3))


def test_the_error_names_target_and_counts_rows():
    with pytest.raises(ValueError, match="target must be finite"):
        check_two_samples(torch.ones(2, 1), torch.tensor([[float("nan")]]))
    with pytest.raises(ValueError, match="target must have at least 2 rows; got 1"):
        check_two_samples(torch.ones(2, 1), torch.ones(1, 1), least=2)


def test_full_precision_switches_autocast_off():
    x = torch.ones(2, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (x @ x).dtype == torch.bfloat16
        with full_precision(x):
            assert (x @ x).dtype == torch.float32


def test_normalised_weights_have_mean_one_and_their_proportions() -> None:
    weights = np.array([0.0, 1.0, 3.0, 4.0])
    found = normalised_weights(weights, 4)
    assert isinstance(found, np.ndarray) and found.tolist() == [0.0, 0.5, 1.5, 2.0]  # by hand
    single = normalised_weights(torch.tensor([2.0, 6.0], requires_grad=True), 2)
    assert single.dtype == torch.float32 and not single.requires_grad
    assert single.tolist() == [0.5, 1.5]
    assert normalised_weights(np.array([1, 3]), 2).dtype == np.float64


@pytest.mark.parametrize(
    "weights",
    [[1.0, 2.0], [[1.0], [2.0], [3.0]], [0, 0, 0], [1, -1, 1], [1, np.nan, 1], [np.inf] * 3],
)
def test_weights_that_cannot_be_are_named(weights: list) -> None:
    with pytest.raises(ValueError, match=r"likeness must be \(3,\), one for each row"):
        normalised_weights(np.array(weights), 3, name="likeness")


@pytest.mark.parametrize("kind", ["csr_matrix", "csr_array", "coo_matrix", "csc_array"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.bool_])
def test_sparse_rows_become_dense_ones(kind: str, dtype: type) -> None:
    rows = as_matrix(getattr(scipy.sparse, kind)(np.eye(3, dtype=dtype)), "source")
    assert rows.tolist() == np.eye(3).tolist()
    assert rows.dtype == (torch.float32 if dtype == np.float32 else torch.float64)


def test_sparse_tensors_become_dense_with_their_gradient() -> None:
    values = torch.tensor([2.0, 3.0], requires_grad=True)
    rows = as_matrix(torch.sparse_coo_tensor([[0, 1], [1, 0]], values, (2, 2)), "source")
    assert rows.tolist() == [[0.0, 2.0], [3.0, 0.0]]
    rows.square().sum().backward()
    assert values.grad.tolist() == [4.0, 6.0]  # d x^2 / dx


def test_tables_of_numbers() -> None:
    table = pd.DataFrame({"dose": [1, 2], "weight": [0.5, 1.5], "smokes": [True, False]}, [7, 3])
    assert as_matrix(table, "source").tolist() == [[1.0, 0.5, 1.0], [2.0, 1.5, 0.0]]
    source, target = check_two_samples(table, table.to_numpy(dtype=float)[:1])
    assert source.shape == (2, 3) and target.shape == (1, 3)
    assert isinstance(like(source, table), np.ndarray)


def test_tables_and_masks_that_hold_no_numbers_are_told() -> None:
    with pytest.raises(TypeError, match="source must hold numbers; column 'city' holds .*encode"):
        as_matrix(pd.DataFrame({"dose": [1.0], "city": ["Ulm"]}), "source")
    for missing in (
        pd.DataFrame({"dose": pd.array([1, 2, None], dtype="Int64")}),
        np.ma.MaskedArray([[1.0], [2.0], [3.0]], mask=[[False], [False], [True]]),
    ):
        with pytest.raises(NonFiniteError, match="source must be finite; row 2 holds NaN"):
            as_matrix(missing, "source")
    for other in ([[1.0]], "rows", None):
        with pytest.raises(TypeError, match="a NumPy array, a table or a sparse matrix; got"):
            as_matrix(other, "source")

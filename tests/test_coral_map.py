"""The CORAL map.

Oracles: SciPy's sqrtm and inv, NumPy's covariances, the published accuracies (DA_DATA).
"""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from sklearn.base import clone
from sklearn.svm import SVC

from da.data.files.mat_files import read_surf, standardise
from da.shallow.coral import CORAL, coral_map
from problems import real_data


def samples(n: int, m: int, d: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    mix = generator.normal(size=(d, d))
    return generator.normal(size=(n, d)) @ mix + 3, generator.normal(size=(m, d)) * np.linspace(
        0.1, 2, d
    ) - 1


@pytest.mark.parametrize("shape", [(40, 30, 6), (5, 4, 9), (2, 2, 1), (60, 3, 7)])
@pytest.mark.parametrize("regularization", [1.0, 0.05])
def test_the_map_is_scipys(shape: tuple[int, int, int], regularization: float) -> None:
    source, target = samples(*shape)
    identity = regularization * np.eye(shape[2])
    whiten = np.linalg.inv(
        scipy.linalg.sqrtm(np.cov(source.T).reshape(identity.shape) + identity).real
    )
    colour = scipy.linalg.sqrtm(np.cov(target.T).reshape(identity.shape) + identity).real
    np.testing.assert_allclose(
        coral_map(source, target, regularization=regularization),
        whiten @ colour,
        rtol=1e-10,
        atol=1e-10,
    )


def test_the_mapped_source_has_the_targets_covariance() -> None:
    source, target = samples(200, 150, 5)
    mapped = CORAL(regularization=1e-9).fit(source, target).transform(source)
    np.testing.assert_allclose(np.cov(mapped.T), np.cov(target.T), rtol=1e-6, atol=1e-7)


def test_target_rows_stay_and_the_result_is_no_view_of_them() -> None:
    source, target = samples(20, 15, 3)
    adapter = CORAL().fit(source, target)
    moved = adapter.transform(target, domain="target")
    np.testing.assert_array_equal(moved, target)
    moved[:] = 0
    assert np.abs(target).max() > 0


def test_kind_precision_and_row_order() -> None:
    source, target = samples(20, 15, 4)
    expected = CORAL().fit(source, target).transform(source)
    shuffled = CORAL().fit(source[::-1], target[::-1]).transform(source)
    np.testing.assert_allclose(shuffled, expected, atol=1e-8)
    tensor = torch.from_numpy(source).float()
    single = CORAL().fit(tensor, torch.from_numpy(target).float()).transform(tensor)
    assert isinstance(single, torch.Tensor) and single.dtype == torch.float32
    np.testing.assert_allclose(single, expected, atol=1e-4)


def test_constant_columns_and_duplicated_rows() -> None:
    source, target = samples(6, 5, 4)
    source[:, 1], target[:, 2], source[3:] = 7.0, 0.0, source[:3]
    adapter = CORAL().fit(source, target)
    mapped, matrix = adapter.transform(source), adapter.map_.numpy()
    np.testing.assert_array_equal(mapped[3:], mapped[:3])
    regularised = (np.cov(rows.T) + np.eye(4) for rows in (source, target))
    np.testing.assert_allclose(matrix.T @ next(regularised) @ matrix, next(regularised), atol=1e-10)


def test_refusals() -> None:
    source, target = samples(6, 5, 4)
    for value in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="regularization"):
            CORAL(regularization=value).fit(source, target)
    with pytest.raises(ValueError, match="at least 2 rows"):
        CORAL().fit(source[:1], target)
    with pytest.raises(ValueError, match="equal widths"):
        CORAL().fit(source[:, :3], target)
    with pytest.raises(ValueError, match="finite"):
        CORAL().fit(np.full_like(source, np.nan), target)
    with pytest.raises(ValueError, match="fitted"):
        CORAL().transform(source)
    assert clone(CORAL(regularization=2.0)).get_params() == {"regularization": 2.0}


@pytest.mark.parametrize(
    ("source", "target", "published"),
    [("webcam", "dslr", 86.6), pytest.param("dslr", "webcam", 84.7, marks=pytest.mark.slow)],
)
def test_published_accuracies(source: str, target: str, published: float) -> None:
    """The classifier is that of the authors' released code.

    An SVM takes X_s A X_s^T as if it were a kernel, and is tested on X_t A^T X_s^T. Their two-fold
    search on the source finds C = 0.01.
    """
    first, second = (read_surf(name, real_data("office_caltech_surf")) for name in (source, target))
    x, y = np.asarray(standardise(first.x)), np.asarray(standardise(second.x))
    mapped = CORAL().fit(x, y).transform(x)
    model = SVC(kernel="precomputed", C=0.01).fit(mapped @ x.T, first.y.numpy())
    accuracy = 100 * (model.predict(y @ mapped.T) == second.y.numpy()).mean()
    assert accuracy == pytest.approx(published, abs=0.06)

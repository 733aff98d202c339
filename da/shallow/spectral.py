"""The generalised eigenproblem of TCA, SSTCA, JDA, BDA and TJM, and the terms that it is made of.

Read it to see how these adapters are solved. R (N, r) are the kernel rows of both samples (see
`da.shallow.kernel_rows`), N = n + m. The directions a are the eigenvectors of

    (R^T M R + regularization I) a = phi R^T H R a,    H = I - 1 1^T / N

with the p smallest phi. Each a is scaled to |a| = 1. That is the convention of general
eigensolvers, and the published accuracies rest on it. Symmetric eigensolvers scale to
a^T R^T H R a = 1, which gives other accuracies.

With S the matrix on the left and R centred, the problem is solved as

    S^(-1/2) R^T R S^(-1/2) u = u / phi,    a = S^(-1/2) u

The largest eigenvalues are wanted. M = E E^T / |E E^T|_F has one column of E (N, q) for each
difference of means that is to become small, so S^(-1/2) costs O(r q).

R^T R = T^T T with T from the QR decomposition of R. S^(-1/2) T^T is made before the square: if the
columns are of very unlike scale, R^T R itself would lose the small ones to rounding.
"""

from __future__ import annotations

import torch
from scipy.linalg import eigh as partial_eigh
from torch import Tensor

from da.shallow.krylov import Root, krylov_eigenvectors

DENSE = 1500  # R^T R is made for rows up to this width; wider rows take products alone
_RANK = 1e-12  # an eigenvalue below this part of the largest counts as 0


def domain_gap(n: int, m: int, like: Tensor) -> Tensor:
    """Make the column of E that measures the difference of the domains' means.

    Args:
        n: Rows of the source.
        m: Rows of the target.
        like: A tensor of the wanted type and device.

    Returns:
        E (n + m, 1); E^T R is the mean of the source rows minus the mean of the target rows.
    """
    return torch.cat([like.new_full((n, 1), 1 / n), like.new_full((m, 1), -1 / m)])


def class_gaps(codes: Tensor, pseudo: Tensor, classes: int) -> Tensor:
    """Make the columns of E that measure the differences of the class means.

    A class that one of the samples does not have gets no column.

    Args:
        codes: Classes (n,) of the source rows, in 0..classes-1.
        pseudo: Classes (m,) given to the target rows.
        classes: How many classes there are.

    Returns:
        E (n + m, c'), one column for each class that both samples have.
    """
    source = torch.nn.functional.one_hot(codes, classes).double()  # (n, classes)
    target = torch.nn.functional.one_hot(pseudo, classes).double()  # (m, classes)
    shared = (source.sum(0) > 0) & (target.sum(0) > 0)
    source, target = source[:, shared], target[:, shared]
    return torch.cat([source / source.sum(0), -target / target.sum(0)])


def scaled(gaps: Tensor) -> Tensor:
    """Scale E (N, q) so that M = E E^T has Frobenius norm 1."""
    return gaps / scale_of(gaps)


def scale_of(gaps: Tensor) -> Tensor:
    """The root of the Frobenius norm of M = E E^T, for E (N, q)."""
    return (gaps.T @ gaps).norm().sqrt()


def low_rank_root(factor: Tensor, regularization: float) -> Root:
    """Return x -> S^(-1/2) x for S = regularization I + F F^T, with the factor F (r, q)."""
    q, s, _ = torch.linalg.svd(factor, full_matrices=False)
    shrink = (1 + s.square() / regularization).rsqrt()[:, None]

    def root(x: Tensor) -> Tensor:
        along = q.T @ x
        rest = x - q @ along
        rest = rest - q @ (q.T @ rest)  # once is not enough if almost all of x lies along q
        return (rest + q @ (shrink * along)) / regularization**0.5

    return root


def factor_of(centred_rows: Tensor) -> Tensor | None:
    """T (k, r) with T^T T = R^T R for rows R (N, r), or None for rows that are too wide for it."""
    if centred_rows.shape[1] > DENSE:
        return None
    tall = len(centred_rows) > centred_rows.shape[1]
    return torch.linalg.qr(centred_rows, mode="r").R if tall else centred_rows


def directions(
    root: Root,
    count: int | None,
    *,
    factor: Tensor | None,
    centred_rows: Tensor | None = None,
    default: int = 100,
) -> Tensor:
    """Solve the eigenproblem of the module.

    Args:
        root: x (r, k) -> S^(-1/2) x.
        count: How many directions p. None: `default`, or as many as have a finite phi if they are
            fewer.
        factor: T (k, r); T^T T is R^T R, or another matrix for the right side of the eigenproblem.
            None: work with products with `centred_rows`.
        centred_rows: R (N, r); needed if `factor` is None.
        default: The most directions if `count` is None.

    Returns:
        A (r, p): eigenvectors with |a| = 1, by rising phi. Their signs are the solver's.

    Raises:
        ValueError: There are fewer than `count` directions, or none at all.
    """
    wanted = default if count is None else count
    if factor is not None:
        whitened = root(factor.T)  # (r, k)
        most = min(wanted, len(whitened))
        values, u = leading_eigenvectors(whitened @ whitened.T, most)
    else:
        assert centred_rows is not None
        values, u = krylov_eigenvectors(centred_rows, root, wanted)
    rank = int((values > _RANK * values[0]).sum()) if float(values[0]) > 0 else 0
    if count is not None and rank < count:
        raise ValueError(
            f"n_components must be at most {rank}, the rank of the centred rows of both samples; "
            f"got {count}"
        )
    if rank == 0:
        raise ValueError(
            "source and target must vary: all rows of both samples are the same, up to rounding"
        )
    a = root(u[:, :rank])
    return a / a.norm(dim=0)


def leading_eigenvectors(matrix: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Find the largest eigenvalues of a symmetric matrix.

    Args:
        matrix: Symmetric (r, r).
        count: How many eigenvalues.

    Returns:
        Eigenvalues (count,), falling, and their eigenvectors (r, count).
    """
    r = len(matrix)
    if matrix.device.type == "cpu":  # LAPACK can skip the other eigenvectors; torch cannot
        found = partial_eigh(matrix.numpy(), subset_by_index=[r - count, r - 1], check_finite=False)
        values, vectors = (torch.from_numpy(part) for part in found)
        if len(values) < count:  # what LAPACK answers if an entry is not finite
            raise torch.linalg.LinAlgError("the matrix has no eigenvalues: it is not finite")
    else:
        values, vectors = (part[..., r - count :] for part in torch.linalg.eigh(matrix))
    return values.flip(0), vectors.flip(1)


def oriented(a: Tensor, centred_rows: Tensor) -> Tensor:
    """Choose the signs of directions so that they do not depend on the solver.

    Args:
        a: Directions (r, p).
        centred_rows: R (N, r).

    Returns:
        The directions (r, p), signed so that the embedded row furthest from 0 is positive.
    """
    return a * signs_of(centred_rows @ a)


def signs_of(z: Tensor) -> Tensor:
    """Signs (p,) with which the entry of each column (N, p) that is furthest from 0 is positive.

    The first one counts if two are as far.
    """
    high, low = z.amax(0), -z.amin(0)
    signs, tied = torch.where(high >= low, 1.0, -1.0).to(z), high == low
    if bool(tied.any()):
        own = z[:, tied]
        signs[tied] = own.gather(0, own.abs().argmax(0, keepdim=True)).sign()[0]
    return signs

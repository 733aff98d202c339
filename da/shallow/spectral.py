"""The generalised eigenproblem of TCA, JDA, BDA, TJM and SSTCA, on rows R (N, r) (see da.shallow.kernel_rows):

    (R^T M R + regularization I) a = phi R^T H R a,    H = I - 1 1^T / N,

the p smallest phi, each a scaled to |a| = 1, the convention of general eigensolvers, on which the published accuracies stand (that of
symmetric ones, a^T R^T H R a = 1, gives others). With S the matrix on the left and R centred, it is solved as
S^(-1/2) R^T R S^(-1/2) u = u / phi, whose largest eigenvalues are wanted, a = S^(-1/2) u.

M = E E^T / |E E^T|_F has as many columns E (N, q) as there are differences of means to be made small, so S^(-1/2) costs O(r q).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from math import inf

import torch
from scipy.linalg import eigh as partial_eigh
from torch import Tensor

Root = Callable[[Tensor], Tensor]  # x (r, k) -> S^(-1/2) x

DENSE = 1500  # the widest rows of which R^T R is made; wider ones (an exact kernel's) are met by products alone
_RANK = 1e-12  # of the largest eigenvalue: an eigenvalue below is taken for 0
_STEPS = 100
_ROUGH = 1e-5  # of the largest eigenvalue: a residual that single precision reaches
_SETTLED = 1e-11  # and one that double precision does
_SMALL = 1e-3  # a share of a unit vector that may have single precision
_EXTRA = 10  # columns of a block beyond the eigenvectors wanted, so that the last of these need not be told from the next alone
_WIDTH = (
    400  # of the basis of a Krylov space, or six times the eigenvectors wanted where that is more
)


def domain_gap(n: int, m: int, like: Tensor) -> Tensor:
    """E (n + m, 1) of the marginal term: E^T R = mean of the source's rows - mean of the target's."""
    return torch.cat([like.new_full((n, 1), 1 / n), like.new_full((m, 1), -1 / m)])


def class_gaps(codes: Tensor, pseudo: Tensor, classes: int) -> Tensor:
    """E (n + m, c') of the conditional terms: the differences of the class means, for the classes that both samples have.

    codes (n,), pseudo (m,): classes in 0..classes-1 of the source's rows, and those taken for the target's.
    """
    source, target = (torch.nn.functional.one_hot(y, classes).double() for y in (codes, pseudo))
    shared = (source.sum(0) > 0) & (target.sum(0) > 0)
    return torch.cat(
        [
            source[:, shared] / source[:, shared].sum(0),
            -target[:, shared] / target[:, shared].sum(0),
        ]
    )


def scaled(gaps: Tensor) -> Tensor:
    """E / |E E^T|_F^(1/2), (N, q): its M has Frobenius norm 1."""
    return gaps / (gaps.T @ gaps).norm().sqrt()


def low_rank_root(factor: Tensor, regularization: float) -> Root:
    """S^(-1/2) for S = regularization I + F F^T, with F (r, q)."""
    q, s, _ = torch.linalg.svd(factor, full_matrices=False)
    shrink = (1 + s.square() / regularization).rsqrt() - 1
    return lambda x: (x + (q * shrink) @ (q.T @ x)) / regularization**0.5


def gram_of(centred_rows: Tensor) -> Tensor | None:
    """R^T R (r, r), or None for rows too wide for it."""
    return centred_rows.T @ centred_rows if centred_rows.shape[1] <= DENSE else None


def directions(
    root: Root, count: int | None, *, gram: Tensor | None, centred_rows: Tensor | None = None
) -> Tensor:
    """A (r, p): the eigenvectors above, |a| = 1, by rising phi, of whatever signs.

    gram (r, r): R^T R, or whatever else stands on the right; None to work with products with `centred_rows` (N, r).
    count: p; None for 100, or as many as phi is finite for. Raises ValueError where there are fewer than `count`.
    """
    if gram is not None:
        whitened = root(root(gram).T)
        values, u = leading_eigenvectors((whitened + whitened.T) / 2, min(count or 100, len(gram)))
    else:
        assert centred_rows is not None
        values, u = _krylov(centred_rows, root, count or 100)
    rank = int((values > _RANK * values[0]).sum()) if float(values[0]) > 0 else 0
    if rank < (count or 1):
        raise ValueError(
            f"n_components must be at most {rank}, the rank of the centred rows of both samples; got {count}"
        )
    a = root(u[:, :rank])
    return a / a.norm(dim=0)


def leading_eigenvectors(matrix: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` largest eigenvalues of a symmetric matrix (r, r), falling, and their eigenvectors (r, count)."""
    r = len(matrix)
    if matrix.device.type == "cpu":  # LAPACK can leave the others alone; torch does not let it
        found = partial_eigh(matrix.numpy(), subset_by_index=[r - count, r - 1], check_finite=False)
        values, vectors = (torch.from_numpy(part) for part in found)
    else:
        values, vectors = (part[..., r - count :] for part in torch.linalg.eigh(matrix))
    return values.flip(0), vectors.flip(1)


def oriented(a: Tensor, centred_rows: Tensor) -> Tensor:
    """The columns of a (r, p), signed so that of the embedded rows the one furthest out is positive, whatever signs the solver gave."""
    embedded = centred_rows @ a  # (N, p)
    return a * embedded.gather(0, embedded.abs().argmax(0, keepdim=True)).sign()


def _krylov(rows: Tensor, root: Root, count: int) -> tuple[Tensor, Tensor]:
    """`leading_eigenvectors` of S^(-1/2) R^T R S^(-1/2), rows R (N, r), by block Krylov steps along the residuals, with restarts.

    Products are in single precision, and their rounding with them; that of what is nearly the result is then made again in double
    precision, and its corrections, of which little is needed, in single again, or in double too where that does not lead on.
    Ends where all `count` residuals are below 1e-11 of the largest eigenvalue; warns where they do not come there.
    """
    used, block, exact, enough, before = (
        rows.float(),
        count + _EXTRA,
        0,
        _ROUGH,
        inf,
    )  # exact: so many images are in double precision
    basis = torch.linalg.qr(_start(used, root, block)).Q
    images = _product(used, root, basis)
    for step in range(_STEPS + 1):
        values, y = (part.flip(-1) for part in torch.linalg.eigh(basis.T @ images))
        top = y[:, :block]
        residuals = images @ top - basis @ (top * values[:block])
        sizes = residuals.norm(dim=0)
        worst, largest = float(sizes[:count].max()), float(values[0])
        sure = used is rows or float(top[exact:, :count].norm(dim=0).max()) <= _SMALL
        if (
            (worst <= _SETTLED * largest and sure) or largest <= 0 or step == _STEPS
        ):  # 0 where all rows are equal
            break
        if used is not rows and (worst <= enough * largest or worst >= before):
            used = rows if exact and worst > enough * largest else used
            basis, exact, enough, before = basis @ top, block, _SETTLED, inf
            images = _product(rows, root, basis)
            continue
        before = worst
        if basis.shape[1] > max(_WIDTH, 6 * count):
            basis, images, exact = basis @ y[:, : 2 * count], images @ y[:, : 2 * count], 0
        large = sizes > enough * largest
        new = residuals[:, large] / sizes[large]
        for _ in range(2):  # once is not enough where the residuals are small
            new = _orthonormal(new - basis @ (basis.T @ new))
        basis, images = (
            torch.cat([basis, new], 1),
            torch.cat([images, _product(used, root, new)], 1),
        )
    if largest > 0 and worst > _SETTLED * largest:
        warnings.warn(
            f"the eigenvectors' residuals are up to {worst / largest:.1e} of the largest eigenvalue, not 1e-11",
            stacklevel=4,
        )
    return values[:count], basis @ top[:, :count]


def _orthonormal(x: Tensor) -> Tensor:
    """A basis (r, j) of the columns of x (r, k), but for what is nearly dependent on the others."""
    values, vectors = torch.linalg.eigh(x.T @ x)
    keep = values > 1e-10 * values[-1:]
    return x @ (vectors[:, keep] / values[keep].sqrt())


def _product(rows: Tensor, root: Root, x: Tensor) -> Tensor:
    """S^(-1/2) R^T R S^(-1/2) x (r, k), with R in its own precision."""
    embedded = rows @ root(x).to(rows.dtype)  # (N, k)
    return root((embedded.T @ rows).T.double())


def _start(rows: Tensor, root: Root, block: int) -> Tensor:
    """The leading directions of some of the rows, and a little of all others so that none is missed: (r, block).

    Where the steps start has no part in where they end.
    """
    some = torch.linspace(0, len(rows) - 1, min(len(rows), 3 * block), device=rows.device).long()
    part = root(rows[some].T.double())  # (r, k)
    _, u = torch.linalg.eigh(part.T @ part)
    start = part @ u[:, -block:]
    noise = torch.randn(
        rows.shape[1], block, generator=torch.Generator().manual_seed(0), dtype=start.dtype
    ).to(start.device)
    found = start / start.norm(dim=0).clamp_min(torch.finfo(start.dtype).tiny)
    noise *= 0.1 / len(noise) ** 0.5
    noise[:, : found.shape[1]] += found
    return noise

"""Leading eigenvectors of wide kernel rows by products alone, without the matrix R^T R.

`da.shallow.spectral` uses it for an exact kernel of many rows. The operator is

    S^(-1/2) R^T R S^(-1/2),    rows R (N, r)

Block Krylov steps go along the residuals of the present eigenvectors, with restarts. The products
are made in single precision first. When the residuals are as small as single precision allows, the
images of the eigenvectors found are made again in double precision. Corrections to them need few
correct digits, so their images are in single precision again, or in double precision if that does
not lead on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from da.arrays.callers import warn_caller

Root = Callable[[Tensor], Tensor]  # x (r, k) -> S^(-1/2) x

_STEPS = 100
_ROUGH = 1e-5  # residuals of this part of the largest eigenvalue are reached in single precision
_SETTLED = 1e-11  # residuals of this part of the largest eigenvalue are reached in double precision
_SMALL = 1e-3  # the part of a unit vector whose image may be in single precision
_EXTRA = 10  # spare columns of a block: the last eigenvectors wanted converge faster with them
_WIDTH = 400  # the widest basis, unless six times the eigenvectors wanted are more


@dataclass
class _Space:
    """A Krylov space: an orthonormal basis and the operator's images of it."""

    rows: Tensor  # R (N, r), in double precision
    used: Tensor  # R in the precision of the products that come next
    root: Root
    basis: Tensor  # (r, b)
    images: Tensor  # (r, b)
    exact: int = 0  # how many of the first images are in double precision

    def eigenpairs(self) -> tuple[Tensor, Tensor]:
        """Eigenvalues (b,), falling, and eigenvectors (b, b) of the operator within the space."""
        values, y = torch.linalg.eigh(self.basis.T @ self.images)
        return values.flip(-1), y.flip(-1)

    def double(self) -> bool:
        """Whether the next products are in double precision."""
        return self.used is self.rows

    def is_exact(self, y: Tensor) -> bool:
        """Whether the vectors basis y, y (b, k), have almost all of their images in double."""
        return self.double() or float(y[self.exact :].norm(dim=0).max()) <= _SMALL

    def restart(self, y: Tensor) -> None:
        """Keep the vectors basis y alone, and make their images in double precision."""
        self.basis = self.basis @ y
        self.images = _product(self.rows, self.root, self.basis)
        self.exact = y.shape[1]

    def restrict(self, y: Tensor) -> None:
        """Keep the vectors basis y alone, with the images that they have."""
        self.basis, self.images, self.exact = self.basis @ y, self.images @ y, 0

    def extend(self, new: Tensor) -> None:
        """Add directions new (r, k) to the basis."""
        for _ in range(2):  # once is not enough if the residuals are small
            new = _orthonormal(new - self.basis @ (self.basis.T @ new))
        self.basis = torch.cat([self.basis, new], 1)
        self.images = torch.cat([self.images, _product(self.used, self.root, new)], 1)


def krylov_eigenvectors(rows: Tensor, root: Root, count: int) -> tuple[Tensor, Tensor]:
    """Find the largest eigenvalues of S^(-1/2) R^T R S^(-1/2) and their eigenvectors.

    It ends if all `count` residuals are below 1e-11 of the largest eigenvalue. It warns if they do
    not get there in 100 steps.

    Args:
        rows: R (N, r), float64, centred.
        root: x (r, k) -> S^(-1/2) x.
        count: How many eigenvectors.

    Returns:
        Eigenvalues (count,), falling, and eigenvectors (r, count).
    """
    block = count + _EXTRA
    space = _first_space(rows, root, block)
    enough, before = _ROUGH, inf
    for step in range(_STEPS + 1):
        values, y = space.eigenpairs()
        top = y[:, :block]
        residuals = space.images @ top - space.basis @ (top * values[:block])
        sizes = residuals.norm(dim=0)
        worst, largest = float(sizes[:count].max()), float(values[0])
        settled = worst <= _SETTLED * largest and space.is_exact(top[:, :count])
        if settled or largest <= 0 or step == _STEPS:  # largest is 0 if all rows are equal
            break
        small_enough = worst <= enough * largest
        if not space.double() and (small_enough or worst >= before):
            if space.exact and not small_enough:
                space.used = rows
            space.restart(top)
            enough, before = _SETTLED, inf
            continue
        before = worst
        if space.basis.shape[1] > max(_WIDTH, 6 * count):
            space.restrict(y[:, : 2 * count])
        large = sizes > enough * largest
        space.extend(residuals[:, large] / sizes[large])
    if largest > 0 and worst > _SETTLED * largest:
        warn_caller(
            f"the eigenvectors' residuals are up to {worst / largest:.1e} of the largest "
            "eigenvalue, not 1e-11, so the embedding is inexact: n_landmarks makes the problem "
            "smaller",
        )
    return values[:count], space.basis @ top[:, :count]


def _first_space(rows: Tensor, root: Root, block: int) -> _Space:
    """The space to start from, in single precision."""
    used = rows.float()
    basis = torch.linalg.qr(_start(used, root, block)).Q
    return _Space(rows, used, root, basis, _product(used, root, basis))


def _start(rows: Tensor, root: Root, block: int) -> Tensor:
    """Vectors (r, block): the leading directions of some rows, plus a little noise.

    The noise reaches every direction, so none is missed. The start does not change the result.
    """
    some = torch.linspace(0, len(rows) - 1, min(len(rows), 3 * block), device=rows.device).long()
    part = root(rows[some].T.double())  # (r, k)
    _, u = torch.linalg.eigh(part.T @ part)
    start = part @ u[:, -block:]
    found = start / start.norm(dim=0).clamp_min(torch.finfo(start.dtype).tiny)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(rows.shape[1], block, generator=generator, dtype=start.dtype)
    noise = noise.to(start.device)
    noise *= 0.1 / len(noise) ** 0.5
    noise[:, : found.shape[1]] += found
    return noise


def _product(rows: Tensor, root: Root, x: Tensor) -> Tensor:
    """S^(-1/2) R^T R S^(-1/2) x for x (r, k), with the products in the precision of R."""
    embedded = rows @ root(x).to(rows.dtype)  # (N, k)
    return root((embedded.T @ rows).T.double())


def _orthonormal(x: Tensor) -> Tensor:
    """A basis (r, j) of the columns of x (r, k); columns that nearly depend on others are lost."""
    values, vectors = torch.linalg.eigh(x.T @ x)
    keep = values > 1e-10 * values[-1:]
    return x @ (vectors[:, keep] / values[keep].sqrt())

"""Linear algebra for several projections: ordered directions, spans, generalised eigenvectors and matrix roots."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from benchmark.method.arrays import Array
from benchmark.method.subspace.basis import Basis, eigenbasis, with_fixed_signs
from benchmark.method.subspace.moments import SourceMoments

# Squared lengths below this share of the mean squared length of embeddings count as zero. The corresponding length,
# 1e-6, is above rounding of float32 embeddings and of sums, and below any variation of data.
NEGLIGIBLE = 1e-12


def ordered_orthonormal(vectors: Array) -> Array:
    """Return an orthonormal basis, shape (D, k), whose first j columns span the first j of `vectors` for every j.

    It is the QR decomposition of `vectors`, shape (D, k), k <= D, linearly independent, with fixed signs.
    """
    return with_fixed_signs(np.linalg.qr(vectors)[0])


def complement(subspace: Array) -> Array:
    """Return an orthonormal basis, shape (D, D - k), of the orthogonal complement of `subspace`, shape (D, k).

    For k = 0 this is the identity matrix.
    """
    dim, k = subspace.shape
    return np.asarray(np.linalg.qr(subspace, mode="complete")[0][:, k:]) if k else np.eye(dim)


def by_energy(subspace: Array, second_moment: Array) -> tuple[Array, Array]:
    """Return the principal directions of a second moment within a subspace, shape (D, k), and their energies, (k,).

    The subspace has orthonormal columns, shape (D, k); k may be 0. Energies are decreasing.
    """
    if not subspace.shape[1]:
        return subspace, np.zeros(0)
    within = eigenbasis(subspace.T @ second_moment @ subspace, largest_first=True)
    assert within.spectrum is not None
    return with_fixed_signs(subspace @ within.vectors), within.spectrum


def span(columns: Array, squared_length: float) -> Array:
    """Return an orthonormal basis, shape (D, r), of the column space of a matrix of shape (D, m).

    The numerical rank r is the number of singular values whose square is not negligible against `squared_length`.
    """
    u, s, _ = np.linalg.svd(columns, full_matrices=False)
    return np.asarray(u[:, s**2 > NEGLIGIBLE * squared_length])


def regularized(matrix: Array, regularization: float) -> Array:
    """Return S + regularization * trace(S) / D * I, with S the matrix, shape (D, D)."""
    dim = len(matrix)
    return np.asarray(matrix + regularization * np.trace(matrix) / dim * np.eye(dim))


def generalized_eigenvectors(a: Array, b: Array) -> tuple[Array, Array]:
    """Return the ratios w of A v = w B v, decreasing, and the vectors v as columns; w = v^T A v / v^T B v.

    A is symmetric and B positive definite, both of shape (D, D). The vectors are orthonormal with respect to B.
    """
    root = np.linalg.cholesky(b)  # B = L L^T, so u = L^T v solves the plain problem L^-1 A L^-T u = w u
    whitened = eigenbasis(np.linalg.solve(root, np.linalg.solve(root, a).T), largest_first=True)
    assert whitened.spectrum is not None
    return whitened.spectrum, np.asarray(np.linalg.solve(root.T, whitened.vectors))


def lost_by_rank(v: Array, t: Array, c: Array) -> Array:
    """Return tr((I - G)^T C (I - G)) for G = V_k T_k^T at every rank k, shape (D,), for any V and T.

    It is tr C - 2 tr(G^T C) + tr(G^T C G). The last term is the sum over the k x k corner of (V^T C V) * (T^T T), so
    one running sum gives all ranks.
    """
    c_v = c @ v
    corners = np.cumsum(np.cumsum((v.T @ c_v) * (t.T @ t), axis=0), axis=1).diagonal()
    return np.asarray(np.trace(c) - 2 * np.cumsum((t * c_v).sum(axis=0)) + corners)


@dataclass(frozen=True)
class Roots:
    """The root of a second moment C of rank r by its eigenvectors: C^(1/2) = used diag(roots) used^T."""

    used: Array  # eigenvectors with nonzero eigenvalue, shape (D, r)
    roots: Array  # square roots of these eigenvalues, shape (r,), ascending
    unused: Array  # a basis of the null space of C, shape (D, D - r)

    @classmethod
    def of(cls, c: Array) -> Self:
        """Return the roots of a symmetric matrix without negative eigenvalues, shape (D, D)."""
        return cls.from_eigenbasis(eigenbasis(c, largest_first=False))

    @classmethod
    def from_eigenbasis(cls, ascending: Basis) -> Self:
        """Return the roots of the matrix with these eigenvectors in ascending order, without copying them."""
        energies, u = ascending.spectrum, ascending.vectors
        assert energies is not None
        first = int((energies <= NEGLIGIBLE * energies.sum()).sum())
        return cls(u[:, first:], np.sqrt(energies[first:]), u[:, :first])


def roots_of(sources: SourceMoments) -> Roots:
    """Return the roots of C_z over all source images; cached, so that all nuisances and placebos share them."""
    return sources.cached_last("roots", None, lambda: Roots.from_eigenbasis(c_z_eigenbasis(sources)))


def c_z_eigenbasis(sources: SourceMoments, centered: bool = False) -> Basis:
    """Return the eigenvectors of C_z by ascending eigenvalue; cached."""
    key = ("eigenbasis", centered), None
    return sources.cached(key, lambda: eigenbasis(sources.c_z(centered), largest_first=False))

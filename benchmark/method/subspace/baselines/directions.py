"""Linear algebra that several projections share: orders of directions, spans, generalised eigenvectors."""

import numpy as np

from benchmark.method.arrays import Array
from benchmark.method.subspace.basis import eigenbasis, with_fixed_signs

# A squared length below this part of the mean squared length of embeddings counts as zero. As a length it is a
# millionth: above the rounding of float32 embeddings and of the sums, below everything that data can show.
NEGLIGIBLE = 1e-12


def ordered_orthonormal(vectors: Array) -> Array:
    """Return an orthonormal basis, shape (D, k), whose first j columns span the first j of `vectors` for every j.

    QR decomposition of `vectors`, shape (D, k), k <= D, linearly independent; signs are fixed.
    """
    return with_fixed_signs(np.linalg.qr(vectors)[0])


def complement(subspace: Array) -> Array:
    """Return an orthonormal basis, shape (D, D - k), of what is orthogonal to `subspace`, shape (D, k).

    The complement of nothing (k = 0) is the identity matrix itself.
    """
    dim, k = subspace.shape
    return np.asarray(np.linalg.qr(subspace, mode="complete")[0][:, k:]) if k else np.eye(dim)


def by_energy(subspace: Array, second_moment: Array) -> tuple[Array, Array]:
    """Return the principal directions of a second moment within a subspace, and their energies.

    Args:
        subspace: orthonormal columns, shape (D, k); k may be 0.
        second_moment: symmetric, shape (D, D).

    Returns:
        An orthonormal basis of the subspace, shape (D, k), by decreasing eigenvalue of the second moment restricted
        to it, and these eigenvalues, shape (k,).
    """
    if not subspace.shape[1]:
        return subspace, np.zeros(0)
    within = eigenbasis(subspace.T @ second_moment @ subspace, largest_first=True)
    assert within.spectrum is not None
    return with_fixed_signs(subspace @ within.vectors), within.spectrum


def span(columns: Array, squared_length: float) -> Array:
    """Return an orthonormal basis, shape (D, r), of the column space of a matrix of shape (D, m).

    The numerical rank r counts the singular values whose square is not negligible beside `squared_length`.
    """
    u, s, _ = np.linalg.svd(columns, full_matrices=False)
    return np.asarray(u[:, s**2 > NEGLIGIBLE * squared_length])


def numerical_rank(second_moment: Array, squared_length: float) -> int:
    """Return how many eigenvalues of a second moment, shape (D, D), are not negligible beside `squared_length`."""
    return int((np.linalg.eigvalsh(second_moment) > NEGLIGIBLE * squared_length).sum())


def regularized(matrix: Array, regularization: float) -> Array:
    """Return S + regularization * trace(S) / D * I for S of shape (D, D): in proportion to S whatever its scale."""
    dim = len(matrix)
    return np.asarray(matrix + regularization * np.trace(matrix) / dim * np.eye(dim))


def generalized_eigenvectors(a: Array, b: Array) -> tuple[Array, Array]:
    """Return the solutions of A v = w B v by decreasing ratio w = v^T A v / v^T B v.

    Args:
        a: symmetric, shape (D, D).
        b: symmetric and positive definite, shape (D, D).

    Returns:
        The ratios w, shape (D,), and the vectors v as columns, shape (D, D), orthonormal with respect to B.
    """
    root = np.linalg.cholesky(b)  # B = L L^T, so u = L^T v solves the plain problem L^-1 A L^-T u = w u
    whitened = eigenbasis(np.linalg.solve(root, np.linalg.solve(root, a).T), largest_first=True)
    assert whitened.spectrum is not None
    return whitened.spectrum, np.asarray(np.linalg.solve(root.T, whitened.vectors))

"""An ordered orthonormal basis: what every projection estimates. Its first k columns are the projection of rank k."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from benchmark.registry import Component
from benchmark.subspace.moments import Array, Moments


@dataclass(frozen=True)
class Basis:
    """An orthonormal basis of the embedding space in the order in which directions are kept.

    Attributes:
        vectors: shape (D, D); column j is the j-th direction. A_inv of rank k is `vectors[:, :k].T`.
        spectrum: shape (D,), the eigenvalue of each direction, or None where there are none.
    """

    vectors: Array
    spectrum: Array | None = None


class Projection(Component):
    """A way to estimate a basis from the moments of the source environments.

    To add one, derive from this class in a file of its own, write `fit`, and give the class a name in
    `PROJECTIONS` (or name it `module:Class` in the recipe).
    """

    uses_interventions: ClassVar[bool] = False
    uses_lambda: ClassVar[bool] = False
    full_rank_only: ClassVar[bool] = False  # only the whole space makes sense: one rank, D

    @property
    def order_name(self) -> str | None:
        """The order of the eigenvectors, where the projection offers a choice."""
        return getattr(self, "order", None)

    @abstractmethod
    def fit(self, moments: Moments, lambda_: float, seed: int) -> Basis:
        """Return the basis.

        Args:
            moments: of the source environments' in-split.
            lambda_: weight of the intervention consistency (ignored unless `uses_lambda`).
            seed: of the trial (ignored by everything that draws nothing).
        """


def eigenbasis(matrix: Array, largest_first: bool) -> Basis:
    """Return the eigenvectors of a symmetric matrix, shape (D, D), in order of their eigenvalues.

    `numpy.linalg.eigh` orders them ascending; `largest_first` turns that round. Signs are fixed (the entry of
    largest magnitude is positive), so that equal input gives equal output.
    """
    eigenvalues, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    if largest_first:
        eigenvalues, vectors = eigenvalues[::-1], vectors[:, ::-1]
    largest_entry = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=0)[None, :], axis=0)
    return Basis(np.ascontiguousarray(vectors * np.sign(largest_entry)), np.ascontiguousarray(eigenvalues))

"""The square root of a second moment and its inverse, where it may be singular."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from benchmark.method.arrays import Array
from benchmark.method.subspace.baselines.directions import NEGLIGIBLE
from benchmark.method.subspace.basis import Basis, eigenbasis
from benchmark.method.subspace.moments import SourceMoments


@dataclass(frozen=True)
class Roots:
    """The eigenvectors of a second moment C of rank r: C^(1/2) = used diag(roots) used^T.

    Attributes:
        used: eigenvectors with energy, shape (D, r).
        roots: square roots of their eigenvalues, shape (r,), ascending.
        unused: a basis of the null space of C, shape (D, D - r).
    """

    used: Array
    roots: Array
    unused: Array

    @classmethod
    def of(cls, c: Array) -> Self:
        """Return the roots of a symmetric matrix without negative eigenvalues, shape (D, D)."""
        return cls.by(eigenbasis(c, largest_first=False))

    @classmethod
    def by(cls, ascending: Basis) -> Self:
        """Return the roots of the matrix with these eigenvectors in ascending order: views of them."""
        energies, u = ascending.spectrum, ascending.vectors
        assert energies is not None
        first = int((energies <= NEGLIGIBLE * energies.sum()).sum())
        return cls(u[:, first:], np.sqrt(energies[first:]), u[:, :first])


def roots_of(sources: SourceMoments) -> Roots:
    """Return the roots of C_z over all source images, made once for all nuisances and placebos."""
    return sources.once("roots", None, lambda: Roots.by(ascending(sources)))


def ascending(sources: SourceMoments, centered: bool = False) -> Basis:
    """Return the eigenvectors of C_z by ascending eigenvalue, made once for all that ask for them."""
    key = ("eigenbasis", centered), None
    return sources.kept(key, lambda: eigenbasis(sources.c_z(centered), largest_first=False))

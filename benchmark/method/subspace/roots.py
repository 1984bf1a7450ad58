"""The square root of a second moment and its inverse, where it may be singular."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from benchmark.method.arrays import Array
from benchmark.method.subspace.baselines.directions import NEGLIGIBLE
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
        energies, u = np.linalg.eigh((c + c.T) / 2)
        there = energies > NEGLIGIBLE * np.trace(c)
        return cls(u[:, there], np.sqrt(energies[there]), u[:, ~there])


def roots_of(sources: SourceMoments) -> Roots:
    """Return the roots of C_z over all source images, made once for all nuisances and placebos."""
    return sources.once("roots", None, lambda: Roots.of(sources.c_z()))

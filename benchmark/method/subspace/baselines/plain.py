"""PCA and random projections. If they do as well as a method, interventions do not explain its gain."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from benchmark.method.subspace.basis import Basis, Projection
from benchmark.method.subspace.invariant import invariant_basis
from benchmark.method.subspace.moments import SourceMoments


class PCA(Projection, label="PCA", role="baseline", place=1):
    """Eigenvectors of C_z by decreasing eigenvalue; by default uncentred, equal to CLIP-ICM with lambda = 0.

    Fields:
        centered: whether C_z is the covariance of z. Default false.
    """

    plain_at_full_rank: ClassVar[bool] = True
    centered: bool = False

    def fit(self, sources: SourceMoments) -> Basis:
        """Return the principal directions of all source images."""
        return invariant_basis(sources, lambda_=0.0, centered=self.centered)


class RandomOrthonormal(Projection, label="Random projection", role="baseline", place=2):
    """A uniformly random orthonormal basis (QR of a Gaussian matrix with the signs of R made positive).

    Fields:
        seed: seed of the matrix; a recipe gives it as `sweep.seeds`.
    """

    plain_at_full_rank: ClassVar[bool] = True
    seed: int = Field(default=0, ge=0)

    def fit(self, sources: SourceMoments) -> Basis:
        """Return a basis that depends only on the seed and on the embedding width."""
        gaussian = np.random.default_rng([self.seed, sources.dim]).standard_normal((sources.dim, sources.dim))
        q, r = np.linalg.qr(gaussian)
        return Basis(q * np.sign(np.diag(r)))

"""Projections that know nothing of interventions: if they do as well, the intervention explains nothing."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from benchmark.method.subspace.basis import Basis, Projection, eigenbasis
from benchmark.method.subspace.moments import SourceMoments


class Identity(Projection, label="Plain", short="the encoder as it is", role="plain", place=0):
    """The whole space, unchanged: the plain zero-shot prediction and the plain probe."""

    registered_name: ClassVar[str] = "identity"
    plain_at_full_rank: ClassVar[bool] = True
    full_rank_only: ClassVar[bool] = True

    def fit(self, sources: SourceMoments) -> Basis:
        """Return the identity matrix; only the width of the embeddings is looked at."""
        return Basis(np.eye(sources.dim))


class PCA(Projection, label="PCA", role="baseline", place=1):
    """Eigenvectors of C_z by decreasing eigenvalue; uncentred by default, as CLIP-ICM with lambda = 0.

    Fields:
        centered: whether C_z is the covariance of z.
    """

    registered_name: ClassVar[str] = "pca"
    plain_at_full_rank: ClassVar[bool] = True
    centered: bool = False

    def fit(self, sources: SourceMoments) -> Basis:
        """Return the principal directions of all source images."""
        return eigenbasis(sources.c_z(self.centered), largest_first=True)


class RandomOrthonormal(Projection, label="Random projection", short="random directions", role="baseline", place=2):
    """A uniformly random orthonormal basis (QR of a Gaussian matrix with the signs of R made positive).

    Fields:
        seed: seed of the matrix; a recipe gives it as `sweep.seeds`.
    """

    registered_name: ClassVar[str] = "random"
    plain_at_full_rank: ClassVar[bool] = True
    seed: int = Field(default=0, ge=0)

    def fit(self, sources: SourceMoments) -> Basis:
        """Return a basis that depends on the seed and on the width of the embeddings alone."""
        gaussian = np.random.default_rng([self.seed, sources.dim]).standard_normal((sources.dim, sources.dim))
        q, r = np.linalg.qr(gaussian)
        return Basis(q * np.sign(np.diag(r)))

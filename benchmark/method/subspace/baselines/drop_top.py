"""PCA without its top directions, which often hold what all images have in common."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from benchmark.method.subspace.basis import Basis, Projection
from benchmark.method.subspace.invariant import invariant_basis
from benchmark.method.subspace.moments import SourceMoments


class DropTop(Projection, label="PCA without top directions", role="rival"):
    """PCA without its first `k` directions. Rank r <= D - k keeps the directions k + 1 to k + r of PCA.

    The dropped directions come last, so rank D is a rotation. `spectrum` has the eigenvalues of C_z in the order of the
    basis. For word embeddings, "all but the top" (Mu, Bhat and Viswanath 2018, arXiv 1702.01417) does this after
    subtracting the mean, as with `centered`. Without `centered`, the first direction is close to the mean embedding, as
    embeddings lie in a cone.

    Fields:
        k: number of directions dropped, below D.
        centered: whether C_z is the covariance of z. Default false.

    Raises:
        ValueError: k is not below D.
    """

    plain_at_full_rank: ClassVar[bool] = True
    k: int = Field(default=1, ge=1)
    centered: bool = False

    def fit(self, sources: SourceMoments) -> Basis:
        """Return the basis of PCA with its first `k` directions moved to the end."""
        if self.k >= sources.dim:
            raise ValueError(f"drop_top cannot drop k={self.k} of D={sources.dim} directions: k must be below D.")
        pca = invariant_basis(sources, lambda_=0.0, centered=self.centered)
        assert pca.spectrum is not None
        return Basis(np.roll(pca.vectors, -self.k, axis=1), np.roll(pca.spectrum, -self.k))
